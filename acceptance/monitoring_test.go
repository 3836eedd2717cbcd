package acceptance

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// prometheusTool returns a program of Prometheus, and skips the test where it is
// not installed.
func prometheusTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("examples/monitoring is not tested: there is no %s, which Debian's package prometheus has", name)
	}
	return path
}

// TestAlertRules runs the unit tests of the alert rules.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	sharedServer(t) // skips with -short
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.CommandContext(t.Context(), prometheusTool(t, "promtool"), args...)
		cmd.Dir = "../examples/monitoring"
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, output)
		}
	}
}

// monitored is an endpoint with its metrics, and a Prometheus that scrapes it.
type monitored struct {
	endpoint   *kmsEndpoint
	metrics    string // URL
	prometheus string // URL
}

// newMonitored starts the endpoint's program before a mount.
func newMonitored(t *testing.T, m mount) *monitored {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile := selfSigned(t, dir)
	token, err := m.server.Token(t.Context(), m.path+"-inventory", inventoryPolicy(m, ""))
	must(t, err)
	tokenFile := filepath.Join(dir, "token")
	must(t, os.WriteFile(tokenFile, []byte(token+"\n"), 0o600))
	metrics, err := testvault.FreeAddress()
	must(t, err)
	program, err := testvault.Build(t.Context(), testvault.GatewayPackage)
	must(t, err)
	cmd := exec.Command(program, "-listen", "127.0.0.1:0", "-metrics-listen", metrics, "-vault-addr", m.server.Address, "-mount", m.path,
		"-tls-cert", certFile, "-tls-key", keyFile, "-inventory-token-file", tokenFile, "-inventory-interval", "1s", "-shutdown-delay", "0s")
	cmd.Env = m.server.Env("")
	log, err := cmd.StderrPipe()
	must(t, err)
	startProgram(t, cmd)
	e := &monitored{metrics: "http://" + metrics + "/metrics", endpoint: &kmsEndpoint{}}
	serving := regexp.MustCompile(`"msg":"serving","address":"([^"]+)"`)
	lines := bufio.NewScanner(log)
	for e.endpoint.url == "" && lines.Scan() {
		if match := serving.FindStringSubmatch(lines.Text()); match != nil {
			e.endpoint.url = "https://" + match[1]
		}
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
	if e.endpoint.url == "" {
		t.Fatal("the endpoint does not say where it serves")
	}
	e.prometheus = newPrometheus(t, dir, metrics)
	return e
}

// startProgram starts a program for the time of a test.
func startProgram(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	process, err := testvault.StartProcess(cmd)
	must(t, err)
	t.Cleanup(process.Stop)
}

// newPrometheus starts a Prometheus that scrapes an address every second.
func newPrometheus(t *testing.T, dir, target string) string {
	t.Helper()
	address, err := testvault.FreeAddress()
	must(t, err)
	config := filepath.Join(dir, "prometheus.yml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: kms-gateway
    static_configs: [{targets: [%q]}]
`, target), 0o600))
	cmd := exec.Command(prometheusTool(t, "prometheus"), "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "tsdb"), "--web.listen-address", address, "--log.level", "error")
	startProgram(t, cmd)
	return "http://" + address
}

// selfSigned writes a certificate for loopback and its key.
func selfSigned(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	must(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return certFile, keyFile
}

func get(ctx context.Context, address string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// query returns how many series an expression has at the moment.
func (e *monitored) query(ctx context.Context, expression string) (int, error) {
	text, err := get(ctx, e.prometheus+"/api/v1/query?query="+url.QueryEscape(expression))
	if err != nil {
		return 0, err
	}
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Status != "success" {
		return 0, fmt.Errorf("%s: %s %w", expression, text, err)
	}
	n := 0
	for _, r := range answer.Data.Result {
		if r.Value[1] != "NaN" {
			n++
		}
	}
	return n, nil
}

// dashboardQueries returns the expressions of the dashboard.
func dashboardQueries(t *testing.T) (expressions []string) {
	t.Helper()
	text, err := os.ReadFile("../examples/monitoring/dashboard.json")
	must(t, err)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal(text, &dashboard))
	for _, p := range dashboard.Panels {
		if p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("a panel without a title or a query: %+v", p)
		}
		for _, target := range p.Targets {
			expressions = append(expressions, strings.ReplaceAll(target.Expr, "$__rate_interval", "1m"))
		}
	}
	return expressions
}

// TestMonitoring has a real Prometheus scrape a real endpoint: every query of
// the dashboard finds something, and every metric of the alerts is there.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	e := newMonitored(t, m)
	for _, id := range []string{"used", "unused", "going"} {
		m.newKey(t, id, hmac256)
	}
	m.write(t, "keys/mine", body{"key_spec": "HMAC_256", "origin": "EXTERNAL"})
	token, wrapped := m.wrap(t, "mine", random(32))
	m.write(t, "import-key-material/mine", body{"import_token": token, "encrypted_key_material": wrapped, "valid_to": time.Now().Add(100 * time.Hour).UTC().Format(time.RFC3339)})
	m.write(t, "schedule-key-deletion/going", body{"pending_window_in_days": 7})

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: time.Minute}
	e.endpoint.client = client
	work := func() {
		a, err := e.endpoint.call(t.Context(), m.token, "10.1.2.3", "GenerateMac", macInput("used", "m"))
		must(t, err)
		for _, input := range []body{verifyInput("used", "m", a.Mac), verifyInput("used", "forged", a.Mac)} {
			_, err := e.endpoint.call(t.Context(), m.token, "10.1.2.3", "VerifyMac", input)
			must(t, err)
		}
	}
	expressions := dashboardQueries(t)
	if len(expressions) < 20 {
		t.Fatalf("the dashboard has %d queries", len(expressions))
	}
	for _, expression := range expressions {
		var n int
		var err error
		eventually(t, expression, func() bool {
			work()
			n, err = e.query(t.Context(), expression)
			return err == nil && n > 0
		})
	}
	if *dashboardFile != "" {
		e.load(t, m, dashboardSeconds*time.Second)
		e.drawDashboard(t, *dashboardFile)
	}
	scrape, err := get(t.Context(), e.metrics)
	must(t, err)
	rules, err := os.ReadFile("../examples/monitoring/alerts.yml")
	must(t, err)
	for _, name := range regexp.MustCompile(`kms_gateway_\w+`).FindAllString(string(rules), -1) {
		if !regexp.MustCompile(`(?m)^` + name + `[ {]`).MatchString(scrape) {
			t.Errorf("an alert is about %s, which is no metric", name)
		}
	}
	documented, err := os.ReadFile("../docs/endpoint.md")
	must(t, err)
	for _, match := range regexp.MustCompile(`(?m)^# TYPE (kms_gateway_\w+)`).FindAllStringSubmatch(scrape, -1) {
		if !strings.Contains(string(documented), "`"+match[1]+"`") {
			t.Errorf("docs/endpoint.md does not tell of %s", match[1])
		}
	}
}

// load makes calls for a while: MACs of programs that come and go, and a wrong
// or a denied one now and then.
func (e *monitored) load(t *testing.T, m mount, during time.Duration) {
	t.Helper()
	begin := time.Now()
	work := func(i int) error {
		elapsed := time.Since(begin)
		if elapsed > during || t.Context().Err() != nil {
			return errLoadEnds
		}
		if worker := i % 32; float64(worker) > 16+15*math.Sin(elapsed.Seconds()/6) {
			time.Sleep(50 * time.Millisecond)
			return nil
		}
		operation, input, token := "GenerateMac", macInput("used", "m"), m.token
		switch {
		case i%5 == 0:
			operation, input = "VerifyMac", verifyInput("used", "m", b64(make([]byte, 32)))
		case i%97 == 0:
			token = "hvs.nobody"
		case i%41 == 0:
			operation, input = "DescribeKey", body{"KeyId": "used"}
		}
		_, err := e.endpoint.call(t.Context(), token, "10.1.2.3", operation, input)
		return err
	}
	var group sync.WaitGroup
	for worker := range 32 {
		group.Go(func() {
			for i := worker; ; i += 32 {
				if err := work(i); err != nil {
					if !errors.Is(err, errLoadEnds) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	group.Wait()
}

var errLoadEnds = errors.New("the load has ended")
