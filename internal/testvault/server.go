package testvault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
)

const (
	// startTimeout bounds each wait for a server. On an idle machine a start
	// takes two seconds; race detectors and full test runs stretch that.
	startTimeout = 60 * time.Second
	// pollEvery is the pause between two looks at a server.
	pollEvery = 20 * time.Millisecond
	// portAttempts is how often a server is started on other ports when
	// somebody took the port between the pick and the start.
	portAttempts = 5
)

// errPortTaken reports that another process listens on the server's port.
var errPortTaken = errors.New("port taken")

// Config says how to start a server. Its zero value is a plain server.
type Config struct {
	// Plugins are registered before the server is handed over.
	Plugins []Plugin
	// LogLevel is the level of Vault's log and of its plugins'; "info" if empty.
	LogLevel string
	// Listener is added to the listener's block of Vault's configuration.
	Listener string
	// TLSListener, unless it is empty, is what a second listener has in its block,
	// besides its address and its certificate.
	TLSListener string
	// Extra is added to Vault's configuration.
	Extra string
	// Env is added to the environment of Vault, and so of its plugins. Nothing
	// else of the caller's environment gets there but PATH.
	Env []string
	// Progress is told about a long build of Vault; os.Stderr if nil.
	Progress io.Writer
	// Parent is where each server makes a folder for all that it writes; the
	// system's folder for temporary files if empty.
	Parent string
	// Hosts are where the nodes of a cluster run, one each. Without them, all
	// run on loopback.
	Hosts []Host
}

// Host is a network namespace, or whatever else has addresses of its own.
type Host struct {
	// Clients and Peers are the IP addresses on which a node serves the API,
	// and the other nodes.
	Clients, Peers string
	// Command is put before the command of the server to run it there.
	Command []string
}

// Plugin is a secrets engine or an auth method to register.
type Plugin struct {
	Name    string
	Type    api.PluginType // that of a secrets engine if it is not set
	Version string         // may be empty: Vault then asks the plugin
	Path    string         // of the program
	Env     []string       // added to the environment it inherits from Vault
}

// Server is a Vault server, alone or as a node of a [Cluster].
type Server struct {
	// Address is the URL of the API. It stays the same across restarts.
	Address string
	// RootToken is a token that may do everything.
	RootToken string
	// TLSAddress is the URL of the second listener, and CACert the file of who
	// signed its certificate, if there is one.
	TLSAddress, CACert string

	cfg       Config
	host      Host
	binary    string
	dir       string // everything the server writes; Stop removes it
	pluginDir string // shared by the nodes of a cluster
	unsealKey string
	// tlsListener is the block of the second listener.
	tlsListener string
	member      bool // of a cluster: fit for service as a standby, too
	http        *http.Client

	mu      sync.Mutex
	process *Process
}

// Start starts a server with integrated storage on loopback, initialises and
// unseals it, and waits until it serves.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	return retryPorts(func() (*Server, error) {
		s, err := newServer(ctx, cfg, Host{}, "")
		if err != nil {
			return nil, err
		}
		if err := s.bootstrap(ctx); err != nil {
			s.Stop()
			return nil, err
		}
		return s, nil
	})
}

// retryPorts calls start again, which picks other ports, while it fails because
// a port was taken.
func retryPorts[T any](start func() (T, error)) (result T, err error) {
	for range portAttempts {
		if result, err = start(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	return result, err
}

// newServer prepares the folder and the configuration of a server. pluginDir is
// that of another node of its cluster, which spares copying plugins around, or
// empty for one of its own.
func newServer(ctx context.Context, cfg Config, host Host, pluginDir string) (*Server, error) {
	// Vault's client package reads VAULT_* variables whatever it is told.
	// Nothing here heeds them, but a malformed one would make it fail later.
	if err := api.DefaultConfig().Error; err != nil {
		return nil, err
	}
	if cfg.Progress == nil {
		cfg.Progress = os.Stderr
	}
	if cfg.LogLevel == "" {
		cfg.LogLevel = "info"
	}
	binary, err := Binary(ctx, cfg.Progress)
	if err != nil {
		return nil, err
	}
	// Not tb.TempDir: its name holds the test's, and the plugins' sockets, whose
	// paths may have 104 characters, lie below.
	dir, err := os.MkdirTemp(cfg.Parent, "vault-")
	if err != nil {
		return nil, err
	}
	if pluginDir == "" {
		pluginDir = filepath.Join(dir, "plugins")
	}
	s := &Server{cfg: cfg, host: host, binary: binary, dir: dir, pluginDir: pluginDir, http: newHTTPClient()}
	if err := s.configure(); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// configure picks the ports and writes the configuration file.
func (s *Server) configure() error {
	for _, dir := range []string{s.pluginDir, filepath.Join(s.dir, "raft"), filepath.Join(s.dir, "tmp")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	apiAddress, err := s.freeAddress(s.host.Clients)
	if err != nil {
		return err
	}
	clusterAddress, err := s.freeAddress(s.host.Peers)
	if err != nil {
		return err
	}
	s.Address = "http://" + apiAddress
	if err := s.configureTLS(); err != nil {
		return err
	}
	return s.writeConfig(apiAddress, clusterAddress)
}

// freeAddress returns an address of a host, or else of loopback, that nobody
// listens on. A host of its own has nobody else.
func (s *Server) freeAddress(ip string) (string, error) {
	if ip == "" {
		return FreeAddress()
	}
	return net.JoinHostPort(ip, strconv.Itoa(20000+rand.IntN(12000))), nil
}

// writeConfig writes the configuration file. Storage is raft, as in production,
// with its shortest timeouts: an idle raft server waits for nothing else.
func (s *Server) writeConfig(apiAddress, clusterAddress string) error {
	text := fmt.Sprintf(`
storage "raft" {
  path                         = %q
  node_id                      = %q
  performance_multiplier       = 1
  autopilot_reconcile_interval = "500ms"
  autopilot_update_interval    = "200ms"
}
listener "tcp" {
  address         = %q
  cluster_address = %q
  tls_disable     = true
  %s
}
%s
api_addr         = %q
cluster_addr     = %q
plugin_directory = %q
log_level        = %q
disable_mlock    = true
%s
`, filepath.Join(s.dir, "raft"), apiAddress, apiAddress, clusterAddress, s.cfg.Listener, s.tlsListener,
		s.Address, "https://"+clusterAddress, s.pluginDir, s.cfg.LogLevel, s.cfg.Extra)
	return os.WriteFile(s.configFile(), []byte(text), 0o600)
}

func (s *Server) configFile() string { return filepath.Join(s.dir, "vault.hcl") }

func (s *Server) logFile() string { return filepath.Join(s.dir, "vault.log") }

// bootstrap starts a new server and makes it the only node of its storage.
func (s *Server) bootstrap(ctx context.Context) error {
	if err := s.launch(ctx); err != nil {
		return err
	}
	if err := s.initialise(ctx); err != nil {
		return s.explain(err)
	}
	if err := s.Unseal(ctx); err != nil {
		return err
	}
	for _, plugin := range s.cfg.Plugins {
		if err := s.RegisterPlugin(ctx, plugin); err != nil {
			return err
		}
	}
	return nil
}

// initialise creates the unseal key and the root token.
func (s *Server) initialise(ctx context.Context) error {
	answer, err := s.ClientWithToken("").Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		return err
	}
	s.unsealKey, s.RootToken = answer.KeysB64[0], answer.RootToken
	return nil
}

// launch starts the process and waits until it answers.
func (s *Server) launch(ctx context.Context) error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own handle

	command := append(slices.Clone(s.host.Command), s.binary, "server", "-config", s.configFile())
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = s.dir
	cmd.Env = s.baseEnv()
	cmd.Stdout, cmd.Stderr = log, log
	process, err := StartProcess(cmd)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.process = process
	s.mu.Unlock()

	return s.waitFor(ctx, "to answer", func(*api.HealthResponse) bool { return true })
}

// baseEnv is the whole environment of Vault: no VAULT_* variable, no proxy and
// no home folder of the caller has a say in a test.
func (s *Server) baseEnv() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + s.dir,
		"TMPDIR=" + filepath.Join(s.dir, "tmp"), // the plugins' sockets
	}
	return append(env, s.cfg.Env...)
}

// Env returns an environment for programs that are to talk to this server with
// a token, such as the vault CLI. It holds nothing of the caller's but PATH.
func (s *Server) Env(token string) []string {
	return append(s.baseEnv(), "VAULT_ADDR="+s.Address, "VAULT_TOKEN="+token)
}

// waitFor polls the server's health until it is as wanted. It fails early when
// the process has ended.
func (s *Server) waitFor(ctx context.Context, what string, wanted func(*api.HealthResponse) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := s.ClientWithToken("")
	err := poll(ctx, pollEvery, func() (bool, error) {
		if !s.Running() {
			return false, errors.New("the process has ended")
		}
		health, err := client.Sys().HealthWithContext(ctx)
		return err == nil && wanted(health), nil
	})
	if err != nil {
		return s.explain(fmt.Errorf("waiting for Vault %s: %w", what, err))
	}
	return nil
}

// explain adds the end of the log to an error.
func (s *Server) explain(err error) error {
	log, logErr := s.Log()
	if logErr != nil {
		return errors.Join(err, logErr)
	}
	if strings.Contains(log, "address already in use") {
		err = fmt.Errorf("%w: %w", errPortTaken, err)
	}
	return fmt.Errorf("%w; the end of its log:\n%s", err, lastLines(log, 30))
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Running reports whether the process is there.
func (s *Server) Running() bool {
	process := s.current()
	if process == nil {
		return false
	}
	select {
	case <-process.Done():
		return false
	default:
		return true
	}
}

func (s *Server) current() *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// Pid returns the id of the Vault process, which changes with a restart.
func (s *Server) Pid() int { return s.current().Pid() }

// Stop ends the server and removes all that it wrote. It may be called again.
func (s *Server) Stop() {
	if process := s.current(); process != nil {
		process.Stop()
	}
	s.http.CloseIdleConnections()
	os.RemoveAll(s.dir)
}

// Kill ends the server as a power cut does: at once, plugins and all, with the
// data left on disk. [Server.Restart] brings it back.
func (s *Server) Kill() {
	if process := s.current(); process != nil {
		process.Kill()
	}
}

// KillAlone is Kill but for the plugins, which it leaves to themselves. The
// caller sees to it that they end.
func (s *Server) KillAlone() {
	if process := s.current(); process != nil {
		process.KillAlone()
	}
}

// Restart ends the server if it runs, starts it again on the same data and
// address, and unseals it.
func (s *Server) Restart(ctx context.Context) error {
	s.current().Stop()
	s.http.CloseIdleConnections()
	// A new log, so that neither a search nor a failure finds the old run.
	if err := os.Rename(s.logFile(), s.logFile()+".old"); err != nil {
		return err
	}
	if err := s.launch(ctx); err != nil {
		return err
	}
	return s.Unseal(ctx)
}

// Seal seals the server, which drops all it holds in memory.
func (s *Server) Seal(ctx context.Context) error {
	if err := s.Client().Sys().SealWithContext(ctx); err != nil {
		return err
	}
	return s.waitFor(ctx, "to be sealed", func(h *api.HealthResponse) bool { return h.Sealed })
}

// Unseal unseals the server and waits until it serves.
func (s *Server) Unseal(ctx context.Context) error {
	if _, err := s.ClientWithToken("").Sys().UnsealWithContext(ctx, s.unsealKey); err != nil {
		return s.explain(err)
	}
	return s.waitFor(ctx, "to serve", func(h *api.HealthResponse) bool {
		return h.Initialized && !h.Sealed && (!h.Standby || s.member)
	})
}

// Adopt takes over the unseal key and the root token of the server whose
// snapshot this one is made to restore.
func (s *Server) Adopt(from *Server) { s.unsealKey, s.RootToken = from.unsealKey, from.RootToken }

// Log returns what Vault and its plugins have logged since the last start.
func (s *Server) Log() (string, error) {
	text, err := os.ReadFile(s.logFile())
	return string(text), err
}

// newHTTPClient returns what all clients of a server share. No proxy: the
// server is on loopback. Many idle connections: a benchmark must not measure
// how they are opened.
func newHTTPClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second},
		// Vault's client follows redirects by itself.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Client returns a new client with the root token. It does not repeat a failed
// request: a test wants to see the first answer.
func (s *Server) Client() *api.Client { return s.ClientWithToken(s.RootToken) }

// ClientWithToken returns a new client with a token, or without one if token is
// empty. No VAULT_* variable of the caller has a say in it.
func (s *Server) ClientWithToken(token string) *api.Client {
	client, err := api.NewClient(&api.Config{Address: s.Address, HttpClient: s.http, Timeout: startTimeout})
	if err != nil {
		// newServer has checked what can make this fail: the environment.
		panic(fmt.Sprintf("testvault: making a client: %v", err))
	}
	client.SetToken(token)
	client.ClearNamespace()
	client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	client.SetWrappingLookupFunc(func(string, string) string { return "" })
	return client
}

// RegisterPlugin puts a plugin's program into the plugin folder and registers
// it with its checksum, as operators do. Versions of a plugin do not get into
// each other's way.
func (s *Server) RegisterPlugin(ctx context.Context, plugin Plugin) error {
	program, err := os.ReadFile(plugin.Path)
	if err != nil {
		return err
	}
	// Not over a file that is there: it may run, and Vault checks the sum of
	// each file again when it starts it.
	sum := sha256.Sum256(program)
	command := fmt.Sprintf("%s-%x", plugin.Name, sum[:6])
	if file := filepath.Join(s.pluginDir, command); !isFile(file) {
		if err := os.WriteFile(file, program, 0o755); err != nil {
			return err
		}
	}
	kind := plugin.Type
	if kind == api.PluginTypeUnknown {
		kind = api.PluginTypeSecrets
	}
	err = s.Client().Sys().RegisterPluginWithContext(ctx, &api.RegisterPluginInput{
		Name:    plugin.Name,
		Type:    kind,
		Version: plugin.Version,
		Command: command,
		SHA256:  hex.EncodeToString(sum[:]),
		Env:     plugin.Env,
	})
	if err != nil {
		return s.explain(fmt.Errorf("registering plugin %s: %w", plugin.Name, err))
	}
	return nil
}

// Mount enables a secrets engine at path. mount.Type is the name of a builtin
// engine or of a registered plugin.
func (s *Server) Mount(ctx context.Context, path string, mount api.MountInput) error {
	if err := s.Client().Sys().MountWithContext(ctx, path, &mount); err != nil {
		return s.explain(fmt.Errorf("mounting %s at %s: %w", mount.Type, path, err))
	}
	return nil
}

// EnableAudit has every request and answer written to file, one JSON object a
// line, with strings hashed as in production.
func (s *Server) EnableAudit(ctx context.Context, file string) error {
	return s.Client().Sys().EnableAuditWithOptionsWithContext(ctx, "file", &api.EnableAuditOptions{
		Type:    "file",
		Options: map[string]string{"file_path": file},
	})
}

// WritePolicy creates or replaces a policy.
func (s *Server) WritePolicy(ctx context.Context, name, hcl string) error {
	return s.Client().Sys().PutPolicyWithContext(ctx, name, hcl)
}

// Token writes a policy and returns a new token with it and no other.
func (s *Server) Token(ctx context.Context, policy, hcl string) (string, error) {
	if err := s.WritePolicy(ctx, policy, hcl); err != nil {
		return "", err
	}
	secret, err := s.Client().Auth().Token().CreateWithContext(ctx, &api.TokenCreateRequest{
		Policies:        []string{policy},
		NoDefaultPolicy: true,
	})
	if err != nil {
		return "", err
	}
	return secret.Auth.ClientToken, nil
}

// Result is what a program left behind.
type Result struct {
	Stdout, Stderr string
	ExitCode       int
}

// Vault runs the vault CLI against the server with the root token. An exit code
// is no error.
func (s *Server) Vault(ctx context.Context, args ...string) (Result, error) {
	return s.VaultAs(ctx, s.RootToken, args...)
}

// VaultAs is [Server.Vault] with another token.
func (s *Server) VaultAs(ctx context.Context, token string, args ...string) (Result, error) {
	cmd := exec.Command(s.binary, args...)
	cmd.Dir = s.dir
	cmd.Env = s.Env(token)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := runProcess(ctx, cmd)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		err = nil
	}
	if err != nil {
		return Result{}, fmt.Errorf("vault %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), ExitCode: cmd.ProcessState.ExitCode()}, nil
}

// FreeAddress returns a loopback address ("127.0.0.1:23456") that nobody
// listens on. It is picked below the ports that systems give to outgoing
// connections, so that it stays free while a server restarts; another server
// may still take it, for which callers try again.
func FreeAddress() (string, error) {
	var err error
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		var listener net.Listener
		if listener, err = net.Listen("tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", fmt.Errorf("finding a free port: %w", err)
}
