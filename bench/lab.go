package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

const (
	emptyName = "empty-plugin"
	// manyName is the engine under another name, which makes Vault run another
	// process for it: the keys of a large mount weigh on the garbage collection
	// of all mounts in its process.
	manyName = "many-keys"
	// keyName is the key of those workloads that need only one.
	keyName = "payments/tokens"
	// mounts are those of the engine, all served by one process.
	mounts = 20
	// fewKeys are as many keys as the workload has that is compared with many.
	fewKeys = 10
)

// policy lets the token of the load do what it needs and no more. It is not the
// root token, which Vault spares much of its work.
const policy = `
path "transit/hmac/*"   { capabilities = ["update"] }
path "empty/*"          { capabilities = ["update", "patch"] }
path "+/generate-mac/*" { capabilities = ["update", "patch"] }
`

// grantPolicy is that of a grantee: no more than that grants decide.
const grantPolicy = `path "kms/granted/*" { capabilities = ["update", "patch"] }`

// callers are as many tokens of one policy as the section has that is about
// callers who have each their own.
const callers = 64

// lab is what is measured: one Vault with its plugins, and the KMS endpoint in
// front of it, on this machine.
type lab struct {
	server    *testvault.Server
	gateway   *testvault.Process
	vaultHost string // host and port of Vault
	kmsHost   string // of the endpoint
	token     string
	granted   string   // a token that a grant lets use the key
	user      string   // a token like it, of a user whom a policy lets use the key
	tokens    []string // of callers, all of the same policy
	log       *os.File // of the endpoint
	processes processes
}

// newLab starts everything. Vault has integrated storage, as in production, and
// no audit device, so that no disk is measured.
func newLab(ctx context.Context, o *options, progress io.Writer) (_ *lab, err error) {
	engine, err := testvault.Engine(ctx, kmshmac.Version, o.buildTags()...)
	if err != nil {
		return nil, err
	}
	empty, err := testvault.Build(ctx, "./bench/emptyplugin")
	if err != nil {
		return nil, err
	}
	many := engine
	many.Name = manyName
	l := &lab{}
	l.server, err = testvault.Start(ctx, testvault.Config{
		Plugins:  []testvault.Plugin{engine, many, {Name: emptyName, Version: "v0.0.0", Path: empty}},
		LogLevel: "warn",
		Progress: progress,
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.stop()
		}
	}()
	u, err := url.Parse(l.server.Address)
	if err != nil {
		return nil, err
	}
	l.vaultHost = u.Host
	if err := l.mount(ctx); err != nil {
		return nil, err
	}
	if l.token, err = l.server.Token(ctx, "bench", policy); err != nil {
		return nil, err
	}
	for range callers {
		token, err := l.server.Token(ctx, "bench", policy)
		if err != nil {
			return nil, err
		}
		l.tokens = append(l.tokens, token)
	}
	if err := l.createKeys(ctx, o.keys, progress); err != nil {
		return nil, err
	}
	if err := l.users(ctx); err != nil {
		return nil, err
	}
	if err := l.startGateway(ctx, o); err != nil {
		return nil, err
	}
	l.processes = processes{
		vault: l.server.Pid(), endpoint: l.gateway.Pid(), plugins: childrenOf(l.server.Pid()),
	}
	return l, nil
}

func (l *lab) stop() {
	if l.gateway != nil {
		l.gateway.Stop()
	}
	l.server.Stop()
	if l.log != nil {
		l.log.Close()
		os.Remove(l.log.Name())
	}
}

// users logs two users in: one whom a grant lets use the key, and one whom a
// policy does. Who has a grant has logged in, and each request of one who has
// logged in costs Vault some work on his entity.
func (l *lab) users(ctx context.Context) (err error) {
	if err := l.server.WritePolicy(ctx, "granted", grantPolicy); err != nil {
		return err
	}
	if err := l.server.Client().Sys().EnableAuthWithOptionsWithContext(ctx, "userpass", &api.EnableAuthOptions{Type: "userpass"}); err != nil {
		return err
	}
	grantee, entity, err := l.logIn(ctx, "grantee", "granted")
	if err != nil {
		return err
	}
	l.granted = grantee
	if l.user, _, err = l.logIn(ctx, "user", "bench"); err != nil {
		return err
	}
	_, err = l.server.Client().Logical().WriteWithContext(ctx, "kms/create-grant/"+keyName, map[string]any{
		"grantee_principal": entity, "operations": "GenerateMac",
	})
	return err
}

// logIn returns the token of a new user with a policy, and the user's entity.
func (l *lab) logIn(ctx context.Context, name, policy string) (token, entity string, err error) {
	// Without Vault's default policy, like the others' tokens: it is a template,
	// which Vault fills in at each request of an entity.
	user := map[string]any{"password": "p", "token_policies": policy, "token_no_default_policy": true}
	if _, err := l.server.Client().Logical().WriteWithContext(ctx, "auth/userpass/users/"+name, user); err != nil {
		return "", "", err
	}
	login, err := l.server.ClientWithToken("").Logical().WriteWithContext(ctx, "auth/userpass/login/"+name, map[string]any{"password": "p"})
	if err != nil {
		return "", "", err
	}
	return login.Auth.ClientToken, login.Auth.EntityID, nil
}

func (l *lab) mount(ctx context.Context) error {
	types := map[string]string{"transit": "transit", "empty": emptyName, "kms": testvault.EngineName, "many": manyName}
	for i := range mounts {
		types[mountName(i)] = testvault.EngineName
	}
	for path, mountType := range types {
		if err := l.server.Mount(ctx, path, api.MountInput{Type: mountType}); err != nil {
			return err
		}
	}
	return nil
}

func mountName(i int) string { return fmt.Sprintf("kms-%02d", i) }

func manyKeyName(i int) string { return fmt.Sprintf("team-%03d/key-%06d", i%100, i) }

// createKeys makes all keys, through Vault like everybody.
func (l *lab) createKeys(ctx context.Context, many int, progress io.Writer) error {
	vault := l.server.Client().Logical()
	hmacKey := map[string]any{"key_spec": "HMAC_256"}
	if _, err := vault.WriteWithContext(ctx, "transit/keys/tokens", map[string]any{"type": "hmac", "key_size": 32}); err != nil {
		return err
	}
	paths := []string{"kms/keys/" + keyName}
	for i := range fewKeys {
		paths = append(paths, "kms/keys/"+manyKeyName(i))
	}
	for i := range mounts {
		paths = append(paths, mountName(i)+"/keys/"+keyName)
	}
	for i := range many {
		paths = append(paths, "many/keys/"+manyKeyName(i))
	}
	start := time.Now()
	err := inParallel(paths, func(path string) error {
		_, err := vault.WriteWithContext(ctx, path, hmacKey)
		return err
	})
	if many > 0 && err == nil {
		fmt.Fprintf(progress, "created %d keys in %.0f s\n", len(paths), time.Since(start).Seconds())
	}
	return err
}

// inParallel does the work for all items with as many requests under way as
// raft likes to write at once.
func inParallel(items []string, work func(string) error) error {
	const workers = 64
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(items) && errs[w] == nil; i = next.Add(1) - 1 {
				errs[w] = work(items[i])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// startGateway starts the KMS endpoint as it is by default, with a line for each
// call in its log, which is a file.
func (l *lab) startGateway(ctx context.Context, o *options) error {
	program, err := testvault.Build(ctx, testvault.GatewayPackage, o.buildTags()...)
	if err != nil {
		return err
	}
	if l.kmsHost, err = testvault.FreeAddress(); err != nil {
		return err
	}
	// All clients are at one address here.
	cmd := exec.Command(program, "-listen", l.kmsHost, "-mount", "kms", "-max-connections-per-address", "0")
	cmd.Env = l.server.Env("")
	if l.log, err = os.CreateTemp("", "kms-gateway-*.log"); err != nil {
		return err
	}
	cmd.Stderr = l.log
	if l.gateway, err = testvault.StartProcess(cmd); err != nil {
		return err
	}
	for range 500 {
		if conn, err := net.Dial("tcp", l.kmsHost); err == nil {
			return conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("the KMS endpoint does not listen")
}

// vaultWorkload returns a workload of requests to Vault.
func (l *lab) vaultWorkload(name string, macs int, requests []vaultRequest) *workload {
	w := &workload{name: name, address: l.vaultHost, macs: macs, answered: macs}
	for _, r := range requests {
		method, contentType := "POST", "application/json"
		switch r.form {
		case form:
			contentType = "application/x-www-form-urlencoded"
		case patch:
			method, contentType = "PATCH", "application/merge-patch+json"
		}
		token := cmp.Or(r.token, l.token)
		w.requests = append(w.requests, httpRequest(method, l.vaultHost, "/v1/"+r.path, r.body,
			"Content-Type: "+contentType, "X-Vault-Request: true", "X-Vault-Token: "+token))
	}
	return w
}

type vaultRequest struct {
	path, body string
	form       requestForm
	token      string // "" is the one of most
}

// requestForm is how a request to Vault is sent: JSON by POST if not otherwise.
type requestForm int

const (
	form  requestForm = iota + 1 // by POST, not JSON
	patch                        // JSON by PATCH
)

// kmsWorkload returns a workload of requests to the endpoint, with the headers
// that an SDK sends. The signature is not verified, so any will do.
// Its tokens take turns.
func (l *lab) kmsWorkload(name string, bodies []string, tokens ...string) *workload {
	w := &workload{name: name, address: l.kmsHost, macs: 1, answered: 1}
	for i, body := range bodies {
		w.requests = append(w.requests, httpRequest("POST", l.kmsHost, "/", body,
			"Content-Type: application/x-amz-json-1.1", "X-Amz-Target: TrentService.GenerateMac",
			"X-Amz-Date: 20260101T000000Z", "X-Amz-Security-Token: "+tokens[i%len(tokens)],
			"Authorization: AWS4-HMAC-SHA256 Credential=bench/20260101/us-east-1/kms/aws4_request, "+
				"SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token;x-amz-target, "+
				"Signature="+strings.Repeat("0", 64)))
	}
	return w
}

// httpRequest returns the bytes of a request.
func httpRequest(method, host, path, body string, headers ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, host)
	for _, header := range headers {
		b.WriteString(header + "\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return b.Bytes()
}
