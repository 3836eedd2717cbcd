package gateway

import (
	"encoding/xml"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/gateway/login"
	"vault-plugin-secrets-kms-hmac/gateway/session"
)

// newLoginGateway is a gateway that logs callers in at a fake Vault, which lets
// everybody in.
func newLoginGateway(t *testing.T, f *fakeVault, change ...func(*Config)) *Gateway {
	t.Helper()
	client, err := login.NewClient(f.URL, "", "", "", time.Minute)
	require.NoError(t, err)
	logins, err := login.NewBroker(login.BrokerConfig{
		Client: client, Method: login.Method{Kind: login.JWT, Path: "jwt"}, MaxLogins: 4, MaxPerAddress: 4, Timeout: time.Minute,
	})
	require.NoError(t, err)
	sealer, err := session.NewSealer(t.Context(), session.RandomKey(), "")
	require.NoError(t, err)
	return newTestGateway(t, f.URL, append([]func(*Config){func(c *Config) { c.Logins, c.Sessions = logins, sealer }}, change...)...)
}

func newOpenVault(t *testing.T) *fakeVault {
	t.Helper()
	return newFakeVault(t, func(c *vaultCall) (int, string) {
		if strings.HasSuffix(c.path, "/login") {
			return 200, `{"auth":{"client_token":"hvs.secret","lease_duration":3600,"entity_id":"e1","token_policies":["default"]}}`
		}
		return 200, `{"data":{"entity_id":"e1"}}`
	})
}

// someJWT is a token for which only the shape matters.
const someJWT = "eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDB9.c2lnbmF0dXJl"

func postForm(g http.Handler, form string) wire {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(form))
	r.Header.Set("Content-Type", formType+"; charset=utf-8")
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return wire{w.Code, w.Header(), w.Body.String()}
}

func assumeForm(change ...string) string {
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleSessionName": {"app"},
		"RoleArn": {testARNs.role("payments")}, "WebIdentityToken": {someJWT},
	}
	for i := 0; i < len(change); i += 2 {
		form.Del(change[i])
		if change[i+1] != "" {
			form.Set(change[i], change[i+1])
		}
	}
	return form.Encode()
}

func TestAssumeRoleWithWebIdentity(t *testing.T) {
	t.Parallel()
	f := newOpenVault(t)
	g := newLoginGateway(t, f)
	w := postForm(g, assumeForm("RoleArn", testARNs.role("teams/payments"), "DurationSeconds", "900"))
	require.Equal(t, 200, w.status, w.body)
	require.Equal(t, "text/xml", w.header.Get("Content-Type"))
	var answer struct {
		XMLName xml.Name
		Result  struct {
			AssumedRoleUser struct{ Arn, AssumedRoleId string } //nolint:revive // AWS's spelling
			Credentials     struct{ AccessKeyId, SecretAccessKey, SessionToken, Expiration string }
			Provider        string
		} `xml:"AssumeRoleWithWebIdentityResult"`
		ResponseMetadata struct{ RequestId string } //nolint:revive // AWS's spelling
	}
	require.NoError(t, xml.Unmarshal([]byte(w.body), &answer))
	require.Equal(t, "https://sts.amazonaws.com/doc/2011-06-15/", answer.XMLName.Space)
	require.Equal(t, w.requestID(), answer.ResponseMetadata.RequestId)
	require.Equal(t, testARNs.assumedRole("payments", "e1"), answer.Result.AssumedRoleUser.Arn)
	require.Equal(t, "e1:app", answer.Result.AssumedRoleUser.AssumedRoleId)
	require.Equal(t, "auth/jwt", answer.Result.Provider)
	require.NotContains(t, w.body, "hvs.")
	expires, err := time.Parse(time.RFC3339, answer.Result.Credentials.Expiration)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(15*time.Minute), expires, time.Minute)
	s, err := g.sessions.Open(t.Context(), answer.Result.Credentials.SessionToken, time.Now())
	require.NoError(t, err)
	require.Equal(t, answer.Result.Credentials.SecretAccessKey, s.Secret)
	require.Equal(t, "hvs.secret", s.VaultToken)
}

func TestSTSRefusals(t *testing.T) {
	t.Parallel()
	f := newOpenVault(t)
	g := newLoginGateway(t, f)
	for name, row := range map[string]struct {
		form, code string
		status     int
		words      string
	}{
		"no action":          {"Version=2011-06-15", "InvalidAction", 400, `Could not find operation "" for version "2011-06-15"`},
		"another version":    {assumeForm("Version", "2012-01-01"), "InvalidAction", 400, ""},
		"another action":     {assumeForm("Action", "GetSessionToken"), "InvalidAction", 400, "AssumeRoleWithWebIdentity and GetCallerIdentity"},
		"markup":             {assumeForm("Action", "<a>&"), "InvalidAction", 400, "&lt;a&gt;&amp;"},
		"no form":            {"%zz", "MalformedInput", 400, ""},
		"twice":              {assumeForm() + "&RoleArn=x", "ValidationError", 400, "must not be repeated"},
		"no token":           {assumeForm("WebIdentityToken", ""), "ValidationError", 400, "WebIdentityToken is required"},
		"bad token":          {assumeForm("WebIdentityToken", "x"), "InvalidIdentityToken", 400, "no JSON Web Token"},
		"long token":         {assumeForm("WebIdentityToken", strings.Repeat("x", 20001)), "InvalidIdentityToken", 400, "longer"},
		"session name":       {assumeForm("RoleSessionName", "a b"), "ValidationError", 400, "RoleSessionName"},
		"another account":    {assumeForm("RoleArn", "arn:aws:iam::999999999999:role/payments"), "AccessDenied", 403, "roles here are"},
		"no ARN":             {assumeForm("RoleArn", "payments"), "AccessDenied", 403, ""},
		"no role":            {assumeForm("RoleArn", testARNs.role("")), "InvalidIdentityToken", 400, "role"},
		"a path":             {assumeForm("RoleArn", testARNs.role("..")), "", 200, ""}, // a name, sent to Vault in JSON
		"session policy":     {assumeForm("Policy", "{}"), "MalformedPolicyDocument", 400, "Session policies"},
		"policies":           {assumeForm("PolicyArns.member.1.arn", "arn:x"), "MalformedPolicyDocument", 400, ""},
		"OAuth":              {assumeForm("ProviderId", "www.amazon.com"), "InvalidIdentityToken", 400, "OAuth"},
		"too short":          {assumeForm("DurationSeconds", "899"), "ValidationError", 400, "between 900 and 43200"},
		"too long":           {assumeForm("DurationSeconds", "43201"), "ValidationError", 400, ""},
		"no number":          {assumeForm("DurationSeconds", "1h"), "ValidationError", 400, ""},
		"unsigned":           {"Action=GetCallerIdentity&Version=2011-06-15", "MissingAuthenticationToken", 403, ""},
		"too large":          {assumeForm("X", strings.Repeat("x", maxSTSBody)), "RequestEntityTooLarge", 413, ""},
		"many of parameters": {strings.Repeat("a=1&", 1000), "ValidationError", 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(f.all())
			w := postForm(g, row.form)
			require.Equal(t, row.status, w.status, w.body)
			if row.code == "" {
				return
			}
			require.Contains(t, w.body, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>`+row.code+`</Code>`)
			require.Contains(t, w.body, "<RequestId>"+w.requestID()+"</RequestId></ErrorResponse>")
			require.Contains(t, w.body, strings.ReplaceAll(row.words, `"`, "&#34;"))
			require.Len(t, f.all(), before, "Vault is not asked")
			require.Less(t, len(w.body), 2000)
		})
	}
}

func TestSTSOfAnEndpointWithoutLogins(t *testing.T) {
	t.Parallel()
	f := newOpenVault(t)
	g := newTestGateway(t, f.URL)
	require.Contains(t, postForm(g, assumeForm()).body, "<Code>AccessDenied</Code><Message>This endpoint logs nobody in")
	r := httptest.NewRequest(http.MethodGet, "/credentials/payments", nil)
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	require.Equal(t, 404, w.Code)
	// A sealed token means nothing to it: it is a Vault token that Vault does not know.
	post(g, "/", "ListKeys", "{}", "X-Amz-Security-Token", "KGS1AAAA")
	require.Equal(t, "KGS1AAAA", f.all()[0].token)
}

func TestContainerCredentials(t *testing.T) {
	t.Parallel()
	f := newOpenVault(t)
	g := newLoginGateway(t, f)
	get := func(target string, authorization ...string) (int, string) {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		r.Header["Authorization"] = authorization
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	status, body := get("/credentials/payments", someJWT)
	require.Equal(t, 200, status)
	require.Regexp(t, `^\{"AccessKeyId":"ASIA[A-Z2-7]{16}","SecretAccessKey":"[^"]{40}","Token":"KGS1[^"]+","Expiration":"[^"]+Z","RoleArn":"`+testARNs.role("payments")+`"\}$`, body)
	before := len(f.all())
	for _, row := range []struct {
		target        string
		authorization []string
		code          string
		status        int
	}{
		{"/credentials/payments", nil, "InvalidRequest", 400},
		{"/credentials/payments", []string{someJWT, someJWT}, "InvalidRequest", 400},
		{"/credentials/payments?x=1", []string{someJWT}, "InvalidRequest", 400},
		{"/credentials/pay%2Fments", []string{someJWT}, "InvalidRequest", 400},
		{"/credentials/payments?", []string{someJWT}, "InvalidRequest", 400},
		{"/credentials/pay%6Dents", []string{someJWT}, "InvalidRequest", 400},
		{"/credentials/%2e%2e/payments", []string{someJWT}, "InvalidRequest", 400},
		{"/credentials/payments%00", []string{someJWT}, "InvalidIdentityToken", 400},
		{"/credentials/payments%20", []string{someJWT}, "InvalidIdentityToken", 400},
		{"/credentials/payments%5Cx", []string{someJWT}, "InvalidIdentityToken", 400},
		{"/credentials/payments/", []string{someJWT}, "InvalidIdentityToken", 400},
		{"/credentials/../payments", []string{someJWT}, "InvalidIdentityToken", 400},
		{"/credentials/", []string{someJWT}, "InvalidIdentityToken", 400},
		{"/credentials/a/b", []string{someJWT}, "InvalidIdentityToken", 400},
		{"/credentials/payments", []string{"Bearer " + someJWT}, "InvalidIdentityToken", 400},
		{"/credentials/payments", []string{"x"}, "InvalidIdentityToken", 400},
	} {
		status, body := get(row.target, row.authorization...)
		require.Equal(t, row.status, status, row.target)
		require.Contains(t, body, `{"code":"`+row.code+`","message":"`)
	}
	require.Len(t, f.all(), before, "Vault is not asked")
}

// TestLoginsKeepNoCallsOut has strangers wait for Vault, more than there may be
// calls at once.
func TestLoginsKeepNoCallsOut(t *testing.T) {
	t.Parallel()
	hold, entered := make(chan struct{}), make(chan struct{}, 10)
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		if strings.HasSuffix(c.path, "/login") {
			entered <- struct{}{}
			<-hold
			return errorsOnly(http.StatusForbidden, "permission denied")
		}
		return 200, `{"data":{"entity_id":"e1"}}`
	})
	g := newLoginGateway(t, f, func(c *Config) { c.MaxConcurrency = 1 })
	var strangers sync.WaitGroup
	for n := range 4 {
		strangers.Go(func() {
			if n%2 == 0 {
				postForm(g, assumeForm("RoleArn", testARNs.role(fmt.Sprint("r", n))))
				return
			}
			r := httptest.NewRequest(http.MethodGet, fmt.Sprint("/credentials/r", n), nil)
			r.Header.Set("Authorization", someJWT)
			g.ServeHTTP(httptest.NewRecorder(), r)
		})
		<-entered
	}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("Action=GetCallerIdentity&Version=2011-06-15"))
	r.Header.Set("Content-Type", formType)
	r.Header.Set("Authorization", testAuthorization)
	r.Header.Set("X-Amz-Security-Token", "t0ken")
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	require.Equal(t, 200, w.Code, w.Body.String())
	close(hold)
	strangers.Wait()
}

// TestSidecarIsForThisMachine: a page in a browser reaches an address of loopback
// by a name that it has made one of it, and cannot choose another Host.
func TestSidecarIsForThisMachine(t *testing.T) {
	t.Parallel()
	f := newOpenVault(t)
	client, err := login.NewClient(f.URL, "", "", "", time.Minute)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("hvs.own"), 0o600))
	own := &login.Own{Method: login.Method{Kind: login.Token, Path: login.Token}, TokenFile: file}
	identity, err := login.NewIdentity(t.Context(), own, client, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	call := func(local bool, host, authorization string) wire {
		g := newTestGateway(t, f.URL, func(c *Config) { c.Identity, c.LocalIdentity = identity, local })
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("Action=GetCallerIdentity&Version=2011-06-15"))
		r.Header.Set("Content-Type", formType)
		r.Header.Set("Authorization", authorization)
		r.Host = host
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		return wire{w.Code, w.Header(), w.Body.String()}
	}
	for _, host := range []string{"127.0.0.1:8204", "127.0.0.1", "127.8.8.8:1", "[::1]:8204", "::1", "localhost", "LOCALHOST:8204"} {
		w := call(true, host, testAuthorization)
		require.Equal(t, 200, w.status, host)
		require.Contains(t, w.body, testARNs.user("e1"))
	}
	require.Equal(t, 200, call(false, "sidecar:8204", testAuthorization).status)
	before := len(f.all())
	for _, host := range []string{"evil.example:8204", "127.0.0.1.evil.example", "localhost.evil.example:8204", "10.0.0.1", "0.0.0.0:8204", "", ":8204", "2130706433"} {
		w := call(true, host, testAuthorization)
		require.Equal(t, 403, w.status, host)
		require.Contains(t, w.body, "must be addressed to loopback")
	}
	// A session's call is not made as somebody else when its token is taken off.
	w := call(true, "127.0.0.1:8204", strings.Replace(testAuthorization, "SignedHeaders=", "SignedHeaders=x-amz-security-token;", 1))
	require.Contains(t, w.body, "<Code>MissingAuthenticationToken</Code>")
	require.Len(t, f.all(), before, "Vault is not asked")
}

func TestConfigurationsOfCallers(t *testing.T) {
	t.Parallel()
	f := newOpenVault(t)
	g := newLoginGateway(t, f)
	vault, err := NewVault(f.URL, "", time.Minute)
	require.NoError(t, err)
	for words, change := range map[string]func(*Config){
		"logins need sealing keys": func(c *Config) { c.Logins = g.logins },
		"signed calls only":        func(c *Config) { c.SignedOnly = true },
		"are not signed":           func(c *Config) { c.SignedOnly, c.Sessions, c.Identity = true, g.sessions, &login.Identity{} },
	} {
		c := Config{Vault: vault, Mount: "kms", ARNs: testARNs, MaxBody: 1, MaxConcurrency: 1}
		change(&c)
		_, err := New(c)
		require.ErrorContains(t, err, words)
	}
}

// FuzzSTS sends forms that no client would: there is always one well-formed
// answer, and no token in it.
func FuzzSTS(f *testing.F) {
	f.Add(assumeForm())
	f.Add("Action=GetCallerIdentity&Version=2011-06-15")
	f.Add("a=%zz;b")
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	f.Cleanup(vault.Close)
	v, _ := NewVault(vault.URL, "", time.Minute)
	g, err := New(Config{Vault: v, Mount: "kms", ARNs: testARNs, MaxBody: 1 << 20, MaxConcurrency: 10})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, form string) {
		w := postForm(g, form)
		if w.status < 400 || w.status == 500 || xml.Unmarshal([]byte(w.body), &stsError{}) != nil {
			t.Fatalf("%d %s", w.status, w.body)
		}
	})
}

// TestCallerIdentityWithoutLookup is about tokens that may not look themselves
// up, and a server without tokens, as that of -dev.
func TestCallerIdentityWithoutLookup(t *testing.T) {
	t.Parallel()
	for status, words := range map[int]string{
		http.StatusForbidden: "permission denied",
		http.StatusNotFound:  "no handler for route",
	} {
		f := newFakeVault(t, func(c *vaultCall) (int, string) {
			if c.path == whoAmI {
				return 200, "{}"
			}
			return errorsOnly(status, words)
		})
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("Action=GetCallerIdentity&Version=2011-06-15"))
		r.Header.Set("Content-Type", formType)
		r.Header.Set("Authorization", testAuthorization)
		r.Header.Set("X-Amz-Security-Token", "t0ken")
		w := httptest.NewRecorder()
		newTestGateway(t, f.URL).ServeHTTP(w, r)
		require.Equal(t, 200, w.Code, w.Body.String())
		require.Contains(t, w.Body.String(), "<Arn>"+testARNs.user("AKIDEXAMPLE")+"</Arn>")
	}
}
