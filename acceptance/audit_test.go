package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/gateway"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// kmsEndpoint is an endpoint before a server, in this process.
type kmsEndpoint struct {
	url    string
	client *http.Client // client, if nil
}

func newEndpoint(t *testing.T, server *testvault.Server, logFile string) *kmsEndpoint {
	t.Helper()
	vault, err := gateway.NewVault(server.Address, "", time.Minute)
	must(t, err)
	vault.SetVersion(kmshmac.Version)
	file, err := os.Create(logFile)
	must(t, err)
	t.Cleanup(func() { file.Close() })
	g, err := gateway.New(gateway.Config{
		Vault: vault, Mount: "kms", MaxBody: 1 << 20, MaxConcurrency: 4096, Log: slog.New(slog.NewJSONHandler(file, nil)),
		ARNs: gateway.ARNs{Partition: "aws", Region: "us-east-1", Account: "111122223333"},
	})
	must(t, err)
	listener := httptest.NewServer(gateway.Handler(g, nil))
	t.Cleanup(listener.Close)
	return &kmsEndpoint{url: listener.URL}
}

// kmsAnswer is what the endpoint answers to a call.
type kmsAnswer struct {
	status    int
	requestID string
	Type      string `json:"__type"`
	Mac       string
}

// call makes a call of KMS as the bearer of a token, from an address.
func (e *kmsEndpoint) call(ctx context.Context, token, from, operation string, input body) (a kmsAnswer, err error) {
	text, err := json.Marshal(input)
	if err != nil {
		return a, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(text))
	if err != nil {
		return a, err
	}
	request.Header = http.Header{
		"X-Amz-Target":         {"TrentService." + operation},
		"X-Amz-Security-Token": {token},
		"X-Forwarded-For":      {from},
		"Authorization":        {"AWS4-HMAC-SHA256 Credential=vault/20261122/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00"},
	}
	caller := e.client
	if caller == nil {
		caller = client
	}
	response, err := caller.Do(request)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return a, err
	}
	a.status, a.requestID = response.StatusCode, response.Header.Get("x-amzn-RequestId")
	if len(raw) > 0 {
		err = json.Unmarshal(raw, &a)
	}
	return a, err
}

// auditedVault is a server whose audit file has known content.
type auditedVault struct {
	mount
	t        *testing.T
	dir      string
	endpoint *kmsEndpoint
	tokens   map[string]string
	entities map[string]string
}

// newAuditedVault starts a server that believes what the endpoint, before it a
// load balancer, says of addresses.
func newAuditedVault(t *testing.T) *auditedVault {
	t.Helper()
	server := testvault.Run(t, testvault.Config{
		Plugins:  []testvault.Plugin{testvault.EngineFor(t, kmshmac.Version)},
		Listener: "x_forwarded_for_authorized_addrs = [\"127.0.0.1/32\"]\n  x_forwarded_for_hop_skips = 1\n  x_forwarded_for_reject_not_present = false",
	})
	dir := t.TempDir()
	must(t, server.EnableAudit(t.Context(), filepath.Join(dir, "audit.log")))
	v := &auditedVault{
		mount: mountAt(t, server, "kms"), t: t, dir: dir, endpoint: newEndpoint(t, server, filepath.Join(dir, "gateway.log")),
		tokens: map[string]string{}, entities: map[string]string{},
	}
	sys(t, server, "POST", "sys/auth/userpass", body{"type": "userpass"})
	return v
}

// user makes a user with a policy, and logs in. options are of the login.
func (v *auditedVault) user(name, policy string, options body) {
	must(v.t, v.server.WritePolicy(v.t.Context(), name, policy))
	settings := body{"password": "p", "token_policies": name}
	for key, value := range options {
		settings[key] = value
	}
	sys(v.t, v.server, "POST", "auth/userpass/users/"+name, settings)
	a, err := call(v.t.Context(), v.server, "", "POST", "auth/userpass/login/"+name, body{"password": "p"})
	must(v.t, err)
	auth := authOf(v.t, a)
	v.tokens[name], _ = auth["client_token"].(string)
	v.entities[name], _ = auth["entity_id"].(string)
}

// kms makes a call through the endpoint as a user, which must end as wanted.
func (v *auditedVault) kms(name, wanted, operation string, input body) kmsAnswer {
	v.t.Helper()
	a, err := v.endpoint.call(v.t.Context(), v.tokens[name], "10.1.2.3", operation, input)
	must(v.t, err)
	if a.Type != wanted {
		v.t.Fatalf("%s: want %q, got %d %q", operation, wanted, a.status, a.Type)
	}
	return a
}

func macInput(key, message string) body {
	return body{"KeyId": key, "Message": b64([]byte(message)), "MacAlgorithm": "HMAC_SHA_256"}
}

func verifyInput(key, message, mac string) body {
	input := macInput(key, message)
	input["Mac"] = mac
	return input
}

const forgeries = 800

// fill makes the requests that the documented queries are to find.
func (v *auditedVault) fill() {
	t, ctx := v.t, v.t.Context()
	for _, id := range []string{"payments/tokens", "payments/old", "orders/x"} {
		v.newKey(t, id, hmac256)
	}
	v.write(t, "aliases/payments/current", body{"target_key_id": "payments/tokens"})
	v.user("checkout", `path "kms/generate-mac/*" { capabilities = ["update"] }
path "kms/verify-mac/*" { capabilities = ["update"] }`, nil)
	v.user("forger", `path "kms/verify-mac/*" { capabilities = ["update"] }`, nil)
	v.user("billing", `path "kms/granted/*" { capabilities = ["update"] }`, nil)
	v.user("intruder", `path "kms/granted/*" { capabilities = ["update"] }`, nil)
	v.user("bound", `path "kms/generate-mac/orders/*" { capabilities = ["update"] }`, body{"token_bound_cidrs": "10.1.2.3/32,127.0.0.1/32"})
	v.write(t, "create-grant/payments/tokens", body{"grantee_principal": v.entities["billing"], "operations": []string{"GenerateMac"}})

	checkout := v.as(v.tokens["checkout"])
	for range 3 {
		checkout.mac(t, "payments/tokens", hmac256, []byte("m"))
	}
	checkout.write(t, "generate-mac/payments/tokens", body{"mac_algorithm": "HMAC_SHA_256", "messages": "bQ==,bQ==,bQ==,bQ=="})
	mac := v.kms("checkout", "", "GenerateMac", macInput("alias/payments/current", "m")).Mac
	v.kms("checkout", "", "GenerateMac", macInput("alias/payments/current", "n"))
	v.kms("checkout", "", "VerifyMac", verifyInput("payments/tokens", "m", mac))
	for range 2 {
		v.kms("billing", "", "GenerateMac", macInput("payments/tokens", "m"))
	}
	for range 5 {
		v.kms("intruder", "AccessDeniedException", "GenerateMac", macInput("payments/tokens", "m"))
	}
	inParallel(t, 32, forgeries, func(i int) error {
		a, err := v.endpoint.call(ctx, v.tokens["forger"], "10.1.2.3", "VerifyMac", verifyInput("payments/tokens", fmt.Sprint("forged", i), mac))
		if err == nil && a.Type != "KMSInvalidMacException" {
			err = fmt.Errorf("a forged MAC: %d %s", a.status, a.Type)
		}
		return err
	})
	v.write(t, "config", body{"min_pending_window_in_days": 10})
	v.tokens["root"] = v.server.RootToken
	v.kms("root", "ValidationException", "ScheduleKeyDeletion", body{"KeyId": "payments/old", "PendingWindowInDays": 9})
	v.write(t, "config", body{"min_pending_window_in_days": 7})
	v.do(t, "DELETE", "keys/payments/old", nil)
	v.write(t, "schedule-key-deletion/orders/x", body{"pending_window_in_days": 7})
	for _, id := range []string{"search/a", "search/b"} {
		v.newKey(t, id, hmac256)
	}
	v.write(t, "bulk/schedule-key-deletion/search", body{"key_state": "Enabled", "dry_run": true})
	v.write(t, "bulk/schedule-key-deletion/search", body{"key_state": "Enabled"})
}

var auditSession = regexp.MustCompile("(?s)```shell-session\n(.*?)```")

// auditQueries returns the commands that the documentation has for the audit
// log, in order.
func auditQueries(t *testing.T) (queries []string) {
	t.Helper()
	text, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	_, section, _ := strings.Cut(string(text), "\n## Audit\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, block := range auditSession.FindAllStringSubmatch(section, -1) {
		for line := range strings.Lines(block[1]) {
			query, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ")
			if !ok {
				t.Fatalf("not a command: %q", line)
			}
			queries = append(queries, query)
		}
	}
	return queries
}

// TestAuditDocumentation runs each of the documented queries on a real audit
// file of known content.
func TestAuditDocumentation(t *testing.T) {
	t.Parallel()
	testvault.NeedCommands(t, "jq")
	v := newAuditedVault(t)
	for _, block := range documented(t, "operations.md") {
		if strings.Contains(block, "audit-non-hmac") {
			shell(t, v.server, v.dir, block)
		}
	}
	v.fill()
	program, err := testvault.Build(t.Context(), testvault.GatewayPackage)
	must(t, err)
	bin := t.TempDir()
	must(t, os.Symlink(program, filepath.Join(bin, "kms-gateway")))
	run := func(query string) [][]string {
		output := shell(t, v.server, v.dir, `export PATH="`+bin+`:$PATH"; `+query)
		var rows [][]string
		for line := range strings.Lines(output) {
			rows = append(rows, strings.Fields(line))
		}
		return rows
	}
	day, month := time.Now().UTC().Format(time.DateOnly), time.Now().UTC().Format("2006-01")
	checkout := v.entities["checkout"]
	want := map[string][]string{
		`kms-gateway audit -key payments/tokens audit.log`: {
			day + " payments/tokens " + checkout + " GenerateMac ok 9", day + " payments/tokens " + checkout + " VerifyMac ok 1",
			day + " payments/tokens " + v.entities["billing"] + " GenerateMac ok 2",
			day + " payments/tokens " + v.entities["intruder"] + " GenerateMac denied 5",
			day + " payments/tokens " + v.entities["forger"] + " VerifyMac KMSInvalidMacException 800",
			day + " payments/tokens root CreateGrant ok 1", day + " payments/tokens root CreateKey ok 1",
		},
		`kms-gateway audit -key payments/ -since 2026-01-01 -by month,key,name,operation audit.log`: {
			month + " payments/old root CreateKey 1", month + " payments/old root ScheduleKeyDeletion 2",
			month + " payments/tokens root CreateKey 1", month + " payments/tokens root CreateGrant 1",
			month + " payments/tokens userpass-checkout GenerateMac 9", month + " payments/tokens userpass-checkout VerifyMac 1",
			month + " payments/tokens userpass-billing GenerateMac 2", month + " payments/tokens userpass-intruder GenerateMac 5",
			month + " payments/tokens userpass-forger VerifyMac 800",
		},
		`kms-gateway audit -alias payments/current -by key,alias,name,operation,result audit.log`: {
			"- alias/payments/current root CreateAlias ok 1",
			"payments/tokens alias/payments/current userpass-checkout GenerateMac ok 2",
		},
		`kms-gateway audit -by key,grant,name,operation,result -operation GenerateMac audit.log`: {
			"payments/tokens false userpass-checkout GenerateMac ok 9", "payments/tokens true userpass-billing GenerateMac ok 2",
			"payments/tokens true userpass-intruder GenerateMac denied 5",
		},
		`kms-gateway audit -result KMSInvalidMacException -by day,key,name audit.log`:  {day + " payments/tokens userpass-forger 800"},
		`kms-gateway audit -result denied -since 24h -by key,name,operation audit.log`: {"payments/tokens userpass-intruder GenerateMac 5"},
		`kms-gateway audit -operation ScheduleKeyDeletion -result ok -by day,key,name audit.log`: {
			day + " orders/x root 1", day + " payments/old root 1", day + " search/a root 1", day + " search/b root 1",
		},
	}
	asked := 0
	for _, query := range auditQueries(t) {
		if !strings.HasPrefix(query, "kms-gateway") {
			continue
		}
		asked++
		var got []string
		for _, row := range run(query)[1:] {
			got = append(got, strings.Join(row[:len(row)-1], " ")) // without the time of the last call
		}
		wanted := want[query]
		slices.Sort(wanted)
		slices.Sort(got)
		if !slices.Equal(got, wanted) {
			t.Errorf("%s: got\n%s\nwant\n%s", query, strings.Join(got, "\n"), strings.Join(wanted, "\n"))
		}
	}
	if asked != len(want) {
		t.Errorf("the documentation has %d queries, this test %d", asked, len(want))
	}
	t.Run("join", func(t *testing.T) { v.joins(t, run) })
	t.Run("addresses", func(t *testing.T) { v.addresses(t) })
	t.Run("alerts", func(t *testing.T) { v.alerts(t, bin) })
}

// alerts follows what the documentation says to do when an alert rings: each
// command shows what it is said to, and helps.
func (v *auditedVault) alerts(t *testing.T, bin string) {
	v.kms("checkout", "KMSInvalidStateException", "GenerateMac", macInput("payments/old", "m"))
	v.newKey(t, "payments/unused", hmac256)
	v.newKey(t, "payments/doomed", hmac256)
	v.write(t, "schedule-key-deletion/payments/doomed", body{"pending_window_in_days": 9})
	v.write(t, "keys/payments/imported", body{"key_spec": "HMAC_256", "origin": "EXTERNAL"})
	v.write(t, "keys/payments/empty", body{"key_spec": "HMAC_256", "origin": "EXTERNAL"})
	material := random(32)
	importUntil := func(days int) {
		token, wrapped := v.wrap(t, "payments/imported", material)
		v.write(t, "import-key-material/payments/imported", body{
			"import_token": token, "encrypted_key_material": wrapped, "valid_to": time.Now().AddDate(0, 0, days).UTC().Format(time.RFC3339),
		})
	}
	importUntil(10)
	checkout := v.as(v.tokens["checkout"])

	text, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	_, section, _ := strings.Cut(string(text), "\n## When an alert rings\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var commands []string
	for _, block := range auditSession.FindAllStringSubmatch(section, -1) {
		for _, command := range strings.Split("\n"+strings.TrimSpace(block[1]), "\n$ ")[1:] {
			// The deletion was scheduled for in 30 days.
			commands = append(commands, strings.Replace(command, "before=30d", "before=31d", 1))
		}
	}
	day := time.Now().UTC().Format(time.DateOnly)
	steps := []struct {
		command string   // begins with
		shows   []string // on one line
		after   func()
	}{
		{"vault read -field=table kms/upcoming", []string{"key_deletion", "payments/old"}, nil},
		{"kms-gateway audit -operation ScheduleKeyDeletion", []string{day, "payments/old", "root"}, nil},
		{"kms-gateway audit -result KMSInvalidStateException", []string{"payments/old", "userpass-checkout", "GenerateMac"}, nil},
		{"vault write -f kms/cancel-key-deletion/payments/old", []string{"key_state", "Disabled"}, nil},
		{"vault write -f kms/enable-key/payments/old", nil, func() { checkout.mac(t, "payments/old", hmac256, []byte("m")) }},
		{"vault read -format=json kms/inventory/payments", []string{"key_id", "payments/doomed"}, func() { checkout.mac(t, "payments/doomed", hmac256, []byte("m")) }},
		{"vault read -field=table kms/inventory/payments", []string{"payments/unused", "Enabled", "never"}, nil},
		{"kms-gateway audit -key payments/unused", []string{"payments/unused", "root", "CreateKey", "ok"}, nil},
		{"vault write -f kms/disable-key/payments/unused", nil, func() {
			v.kms("checkout", "DisabledException", "GenerateMac", macInput("payments/unused", "m"))
		}},
		{"kms-gateway audit -result DisabledException", []string{"payments/unused", "userpass-checkout", "GenerateMac"}, nil},
		{"vault write kms/schedule-key-deletion/payments/unused", []string{"deletion_date"}, nil},
		{"vault read -field=table kms/upcoming", []string{"material_expiry", "payments/imported"}, nil},
		{"vault read -field=valid_to", []string{time.Now().AddDate(0, 0, 10).UTC().Format(time.DateOnly)}, func() { importUntil(100) }},
		{"vault read -field=table kms/inventory ", []string{"payments/empty", "PendingImport"}, nil},
	}
	if len(commands) != len(steps) {
		t.Fatalf("the documentation has %d commands, this test %d", len(commands), len(steps))
	}
	for i, step := range steps {
		if !strings.HasPrefix(commands[i], step.command) {
			t.Fatalf("command %d is %q", i, commands[i])
		}
		output := shell(t, v.server, v.dir, `export PATH="`+bin+`:$PATH"; `+commands[i])
		if step.shows != nil && !lineHas(output, step.shows...) {
			t.Errorf("%s: no line has %v:\n%s", commands[i], step.shows, output)
		}
		if step.after != nil {
			step.after()
		}
	}
	events, _ := v.read(t, "upcoming/payments?before=20d")["events"].([]any)
	for _, e := range events {
		if event, _ := e.(body); event["event"] != "import_token_expiry" {
			t.Errorf("at the end there is still %v", event)
		}
	}
}

// joins follows calls that shared a request into the audit log and back.
func (v *auditedVault) joins(t *testing.T, run func(string) [][]string) {
	var mu sync.Mutex
	ids := map[string]bool{}
	inParallel(t, 24, 24, func(int) error {
		a, err := v.endpoint.call(t.Context(), v.tokens["checkout"], "10.1.2.3", "GenerateMac", macInput("payments/tokens", "m"))
		if err == nil && a.status != 200 {
			err = fmt.Errorf("%d %s", a.status, a.Type)
		}
		mu.Lock()
		ids[a.requestID] = true
		mu.Unlock()
		return err
	})
	toRequest, toAudit, toCalls := "", "", ""
	for _, query := range auditQueries(t) {
		switch {
		case strings.Contains(query, "x-amzn-RequestId"):
			toRequest = query
		case strings.Contains(query, "x-correlation-id"):
			toAudit = query
		case strings.HasPrefix(query, "jq"):
			toCalls = query
		}
	}
	// The busiest request: most calls name it as the one they shared.
	requests := map[string]int{}
	for id := range ids {
		rows := run(strings.ReplaceAll(toRequest, "<x-amzn-RequestId>", id))
		if len(rows) != 1 || len(rows[0]) != 1 {
			t.Fatalf("%s: %v", toRequest, rows)
		}
		requests[rows[0][0]]++
	}
	carried := 0
	for request, calls := range requests {
		rows := run(strings.ReplaceAll(toAudit, "<request>", request))
		if len(rows) != 1 {
			t.Fatalf("%d lines of the audit log are request %s", len(rows), request)
		}
		var line struct {
			Request struct {
				Path    string              `json:"path"`
				Headers map[string][]string `json:"headers"`
			} `json:"request"`
			Response struct {
				Data struct {
					BatchSize int `json:"batch_size"`
				} `json:"data"`
			} `json:"response"`
		}
		must(t, json.Unmarshal([]byte(strings.Join(rows[0], " ")), &line))
		agent := line.Request.Headers["user-agent"]
		if line.Request.Path != "kms/generate-mac/payments/tokens" || max(line.Response.Data.BatchSize, 1) != calls ||
			!slices.Equal(agent, []string{"kms-gateway/" + kmshmac.Version}) {
			t.Errorf("request %s of %d calls is %+v", request, calls, line)
		}
		back := run(strings.ReplaceAll(toCalls, "<request>", request))
		for _, row := range back {
			if len(row) != 3 || !ids[row[0]] || row[2] != "vault" {
				t.Errorf("a call of request %s: %v", request, row)
			}
		}
		carried += len(back)
	}
	if len(requests) == len(ids) || carried != len(ids) {
		t.Errorf("%d calls in %d requests, which lead back to %d", len(ids), len(requests), carried)
	}
}

// addresses: Vault knows the client's address, and binds tokens to it.
func (v *auditedVault) addresses(t *testing.T) {
	input := macInput("orders/x", "m")
	_, err := v.endpoint.call(t.Context(), v.server.RootToken, "10.1.2.3", "CancelKeyDeletion", body{"KeyId": "orders/x"})
	must(t, err)
	_, err = v.endpoint.call(t.Context(), v.server.RootToken, "10.1.2.3", "EnableKey", body{"KeyId": "orders/x"})
	must(t, err)
	for from, status := range map[string]int{"10.1.2.3": 200, "10.1.2.4": 400} {
		a, err := v.endpoint.call(t.Context(), v.tokens["bound"], from, "GenerateMac", input)
		must(t, err)
		if a.status != status {
			t.Errorf("a token bound to 10.1.2.3, from %s: status %d %s", from, a.status, a.Type)
		}
	}
	// While the token's own host is served, another's call must not ride along.
	inParallel(t, 16, 64, func(i int) error {
		from, status := "10.1.2.3", 200
		if i%2 == 1 {
			from, status = "10.1.2.4", 400
		}
		a, err := v.endpoint.call(t.Context(), v.tokens["bound"], from, "GenerateMac", input)
		if err == nil && a.status != status {
			err = fmt.Errorf("from %s: status %d %s", from, a.status, a.Type)
		}
		return err
	})
	log, err := os.ReadFile(filepath.Join(v.dir, "audit.log"))
	must(t, err)
	if !bytes.Contains(log, []byte(`"remote_address":"10.1.2.3"`)) {
		t.Error("the audit log does not have the client's address")
	}
}
