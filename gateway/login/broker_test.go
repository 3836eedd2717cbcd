package login

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeVault answers logins, renewals and revocations, and counts them.
type fakeVault struct {
	mu                         sync.Mutex
	logins, renewals, revoked  int
	entity                     string
	ttl, renewedTTL            int
	renewable                  bool
	status                     int
	text                       string
	metadata                   map[string]string
	entered                    chan struct{}
	hold                       chan struct{} // if not nil, logins wait until it is closed
	lastPath, lastBody, tokens string
	bound, from, certificates  string
}

func (f *fakeVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	hold, entered := f.hold, f.entered
	f.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/login") && hold != nil {
		entered <- struct{}{}
		<-hold
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var body bytes.Buffer
	_, _ = body.ReadFrom(r.Body)
	auth := map[string]any{"renewable": f.renewable, "entity_id": f.entity, "metadata": f.metadata, "token_policies": []string{"default", "p"}}
	switch {
	case strings.HasSuffix(r.URL.Path, "/login"):
		f.logins++
		f.lastPath, f.lastBody, f.from = r.URL.Path, body.String(), r.Header.Get("X-Forwarded-For")
		f.certificates = r.Header.Get(CertificateHeader)
		if f.status != 0 {
			w.WriteHeader(f.status)
			_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{f.text}})
			return
		}
		auth["client_token"], auth["lease_duration"] = fmt.Sprintf("hvs.token-%d", f.logins), f.ttl
	case strings.HasSuffix(r.URL.Path, "/renew-self"):
		f.renewals++
		f.certificates = r.Header.Get(CertificateHeader)
		if f.renewedTTL == 0 {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		auth["client_token"], auth["lease_duration"] = r.Header.Get("X-Vault-Token"), f.renewedTTL
	case strings.HasSuffix(r.URL.Path, "/lookup-self"):
		_, _ = fmt.Fprintf(w, `{"data":{"bound_cidrs":%s}}`, cmp.Or(f.bound, "null"))
		return
	case strings.HasSuffix(r.URL.Path, "/revoke-self"):
		f.revoked++
		f.tokens += r.Header.Get("X-Vault-Token") + " "
		w.WriteHeader(http.StatusNoContent)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"auth": auth})
}

func (f *fakeVault) counts() [3]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return [3]int{f.logins, f.renewals, f.revoked}
}

func (f *fakeVault) set(change func(*fakeVault)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// clock is a clock that tests move.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(c.at.Load(), 0) }

func (c *clock) pass(d time.Duration) { c.at.Add(int64(d.Seconds())) }

func newTestBroker(t *testing.T, f *fakeVault, change func(*BrokerConfig)) (*Broker, *clock) {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	client, err := NewClient(server.URL, "", "", "", time.Minute)
	require.NoError(t, err)
	time0 := &clock{}
	time0.at.Store(1_800_000_000)
	c := BrokerConfig{
		Client: client, Method: Method{JWT, JWT}, MaxLogins: 8, MaxPerAddress: 2, Timeout: time.Minute, Now: time0.now,
	}
	if change != nil {
		change(&c)
	}
	b, err := NewBroker(c)
	require.NoError(t, err)
	return b, time0
}

// jwt returns the token of a subject, as far as anybody but Vault can tell.
func jwt(subject string, expires int64) string {
	part := func(v any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return part(map[string]any{"alg": "EdDSA"}) + "." + part(map[string]any{"sub": subject, "exp": expires}) + ".c2lnbmF0dXJl"
}

const (
	someAddress = "192.0.2.1:1234"
	inADay      = 1_800_000_000 + 86400
)

func requireReason(t *testing.T, err error, reason Reason, words string) {
	t.Helper()
	var e *Error
	require.True(t, errors.As(err, &e), "%v", err)
	require.Equal(t, reason, e.Reason, "%v", err)
	require.Contains(t, e.Message, words)
}

func TestOneLoginForACredentialsLifetime(t *testing.T) {
	t.Parallel()
	f := &fakeVault{entity: "e1", ttl: 3600}
	b, clock := newTestBroker(t, f, nil)
	for range 20 {
		l, err := b.Login(t.Context(), Request{"payments", jwt("a", inADay), someAddress, "", nil})
		require.NoError(t, err)
		require.Equal(t, []string{"hvs.token-1", "payments", "e1"}, []string{l.Token, l.Role, l.Entity})
		require.Equal(t, clock.now().Add(time.Hour), l.Expires)
	}
	require.Equal(t, "/v1/auth/jwt/login", f.lastPath)
	require.Equal(t, [3]int{1, 0, 0}, f.counts())

	clock.pass(39 * time.Minute)
	_, err := b.Login(t.Context(), Request{"payments", jwt("a", inADay), someAddress, "", nil})
	require.NoError(t, err)
	require.Equal(t, [3]int{1, 0, 0}, f.counts(), "21 minutes are enough for any SDK")
	clock.pass(2 * time.Minute)
	l, err := b.Login(t.Context(), Request{"payments", jwt("a", inADay), someAddress, "", nil})
	require.NoError(t, err)
	require.Equal(t, "hvs.token-2", l.Token)
	require.Equal(t, [3]int{2, 0, 0}, f.counts())
}

// TestShortTTLIsNoStorm has botocore's habit: less than 15 minutes from the end
// it asks at every call.
func TestShortTTLIsNoStorm(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := &fakeVault{entity: "e1", ttl: 600}
	b, clock := newTestBroker(t, f, func(c *BrokerConfig) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	for range 20 {
		_, err := b.Login(t.Context(), Request{"short", jwt("a", inADay), someAddress, "", nil})
		require.NoError(t, err)
		clock.pass(10 * time.Second)
	}
	require.Equal(t, [3]int{1, 0, 0}, f.counts())
	require.Contains(t, log.String(), "role=short ttl=10m0s")
	require.Equal(t, 1, strings.Count(log.String(), "\n"))
	require.NotContains(t, log.String(), "hvs.")
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	f := &fakeVault{entity: "e1", ttl: 3600, renewedTTL: 3600, renewable: true}
	b, clock := newTestBroker(t, f, nil)
	ask := func() *Login {
		l, err := b.Login(t.Context(), Request{"r", jwt("a", inADay), someAddress, "", nil})
		require.NoError(t, err)
		return l
	}
	ask()
	clock.pass(45 * time.Minute)
	l := ask()
	require.Equal(t, "hvs.token-1", l.Token)
	require.Equal(t, clock.now().Add(time.Hour), l.Expires)
	require.Equal(t, [3]int{1, 1, 0}, f.counts())
	ask()
	require.Equal(t, [3]int{1, 1, 0}, f.counts())

	clock.pass(45 * time.Minute)
	f.set(func(f *fakeVault) { f.renewedTTL = 60 }) // max TTL is near
	require.Equal(t, "hvs.token-2", ask().Token)
	clock.pass(45 * time.Minute)
	f.set(func(f *fakeVault) { f.renewedTTL = 0 }) // revoked
	require.Equal(t, "hvs.token-3", ask().Token)
}

func TestConcurrentEqualLoginsAreOne(t *testing.T) {
	t.Parallel()
	f := &fakeVault{entity: "e1", ttl: 3600, hold: make(chan struct{}), entered: make(chan struct{}, 100)}
	b, _ := newTestBroker(t, f, nil)
	var group sync.WaitGroup
	tokens := make([]string, 64)
	for i := range tokens {
		group.Go(func() {
			if l, err := b.Login(context.Background(), Request{"r", jwt("a", inADay), someAddress, "", nil}); err == nil {
				tokens[i] = l.Token
			}
		})
	}
	<-f.entered
	// Of those who come while the login is under way, one leaves.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Login(ctx, Request{"r", jwt("a", inADay), someAddress, "", nil})
	require.Error(t, err)
	close(f.hold)
	group.Wait()
	for _, token := range tokens {
		require.Equal(t, "hvs.token-1", token)
	}
	require.Equal(t, 1, f.counts()[0])
}

// TestOneTokenForAnIdentity is about pods of one service account: each has a
// token of its own, and Vault knows them as one.
func TestOneTokenForAnIdentity(t *testing.T) {
	t.Parallel()
	f := &fakeVault{entity: "e1", ttl: 3600}
	b, _ := newTestBroker(t, f, nil)
	login := func(role, pod string) string {
		l, err := b.Login(t.Context(), Request{role, jwt(pod, inADay), someAddress, "", nil})
		require.NoError(t, err)
		return l.Token
	}
	require.Equal(t, "hvs.token-1", login("r", "pod-1"))
	require.Equal(t, "hvs.token-1", login("r", "pod-2"))
	require.Eventually(t, func() bool { return f.counts() == [3]int{2, 0, 1} }, time.Minute, time.Millisecond)
	require.Equal(t, "hvs.token-2 ", f.tokens, "the surplus token is given back")

	require.Equal(t, "hvs.token-3", login("other", "pod-1"), "another role")
	f.set(func(f *fakeVault) { f.metadata = map[string]string{"team": "x"} })
	require.Equal(t, "hvs.token-4", login("r", "pod-3"), "other metadata, which policies can depend on")
	f.set(func(f *fakeVault) { f.metadata, f.entity = nil, "e2" })
	require.Equal(t, "hvs.token-5", login("r", "pod-4"), "another entity")
	f.set(func(f *fakeVault) { f.entity = "" })
	require.Equal(t, "hvs.token-6", login("r", "pod-5"))
	require.Equal(t, "hvs.token-7", login("r", "pod-6"), "no entity is like no other")
}

func TestWhatHasEndedIsNotRemembered(t *testing.T) {
	t.Parallel()
	f := &fakeVault{entity: "e1", ttl: 3600}
	b, clock := newTestBroker(t, f, nil)
	token := jwt("a", clock.now().Add(5*time.Minute).Unix())
	login := func(token string) (*Login, error) {
		return b.Login(t.Context(), Request{"r", token, someAddress, "", nil})
	}
	l, err := login(token)
	require.NoError(t, err)

	// Vault has revoked what the credential gave.
	b.Forget("hvs.another")
	b.Forget(l.Token)
	l, err = login(token)
	require.NoError(t, err)
	require.Equal(t, "hvs.token-2", l.Token)

	// The credential ends before its login does.
	clock.pass(5 * time.Minute)
	f.set(func(f *fakeVault) { f.status, f.text = 400, "error validating token: token is expired" })
	_, err = login(token)
	requireReason(t, err, Expired, "token is expired")
	require.Equal(t, 3, f.counts()[0])

	// A failure is asked about again, and so is a token that says no end.
	f.set(func(f *fakeVault) { f.status, f.text = 400, "no such role" })
	for range 2 {
		_, err = login(jwt("b", inADay))
		requireReason(t, err, Refused, "no such role")
	}
	f.set(func(f *fakeVault) { f.status = 0 })
	for range 2 {
		_, err = login(jwt("endless", 0))
		require.NoError(t, err)
	}
	require.Equal(t, 7, f.counts()[0])
}

func TestShapeIsCheckedBeforeVaultIsAsked(t *testing.T) {
	t.Parallel()
	f := &fakeVault{ttl: 3600}
	b, _ := newTestBroker(t, f, nil)
	good := jwt("a", inADay)
	parts := strings.Split(good, ".")
	for _, bad := range []string{
		"", "a.b.c", "hvs.CAESIJ", parts[0] + "." + parts[1], good + ".x", parts[0] + "." + parts[1] + ".",
		"." + parts[1] + "." + parts[2], "e30." + parts[1] + ".eA", good + "\n", " " + good, strings.Repeat("a", 20001),
		parts[0] + ".bnVsbA==." + parts[2], parts[0] + ".e3g." + parts[2],
	} {
		_, err := b.Login(t.Context(), Request{"r", bad, someAddress, "", nil})
		requireReason(t, err, Malformed, "the token is")
	}
	for _, bad := range []string{"", "a/b", "a b", "ä", strings.Repeat("a", 129), "a\n"} {
		_, err := b.Login(t.Context(), Request{bad, good, someAddress, "", nil})
		requireReason(t, err, Malformed, "role")
	}
	require.Equal(t, 0, f.counts()[0])

	b, _ = newTestBroker(t, f, func(c *BrokerConfig) { c.Method = Method{AppRole, "apps/one"} })
	for _, bad := range []string{"", "a b", strings.Repeat("a", 1001), "a\n"} {
		_, err := b.Login(t.Context(), Request{"r", bad, someAddress, "", nil})
		requireReason(t, err, Malformed, "secret id")
	}
	require.Equal(t, 0, f.counts()[0])
	for range 2 {
		_, err := b.Login(t.Context(), Request{"role-id", "secret-id", someAddress, "", nil})
		require.NoError(t, err)
	}
	require.Equal(t, "/v1/auth/apps/one/login", f.lastPath)
	require.JSONEq(t, `{"role_id":"role-id","secret_id":"secret-id"}`, f.lastBody)
	require.Equal(t, 1, f.counts()[0])
}

func TestErrorsSayWhatVaultSaidWithoutTheToken(t *testing.T) {
	t.Parallel()
	f := &fakeVault{}
	b, _ := newTestBroker(t, f, nil)
	token := jwt("a", inADay)
	for _, row := range []struct {
		status int
		text   string
		reason Reason
		want   string
	}{
		{400, `role "r" could not be found`, Refused, `role "r" could not be found`},
		{400, "bad token " + token + "\n " + strings.Split(token, ".")[1], Refused, "bad token <token> <token>"},
		{400, "", Refused, "Vault refused the login"},
		{400, strings.Repeat("é", 2000) + strings.Repeat("x", 2000), Refused, "xxx..."},
		{403, "permission denied", Denied, "permission denied"},
		{400, "token has expired", Expired, "expired"},
		{429, "slow", Busy, "no more logins"},
		{500, "internal " + token, Unavailable, "could not process"},
		{503, "Vault is sealed", Unavailable, "could not process"},
	} {
		f.set(func(f *fakeVault) { f.status, f.text = row.status, row.text })
		_, err := b.Login(t.Context(), Request{"r", token, someAddress, "", nil})
		requireReason(t, err, row.reason, row.want)
		require.NotContains(t, err.Error(), token[:20])
		require.LessOrEqual(t, len(err.Error()), maxMessage+3)
	}
	b.Client.SetAddress("http://127.0.0.1:1")
	_, err := b.Login(t.Context(), Request{"r", token, someAddress, "", nil})
	requireReason(t, err, Unavailable, "cannot be reached")
	require.NotContains(t, err.Error(), "127.0.0.1")
}

// TestLoginsAreBounded holds logins up and counts how many get to Vault.
func TestLoginsAreBounded(t *testing.T) {
	t.Parallel()
	f := &fakeVault{entity: "e", ttl: 3600, hold: make(chan struct{}), entered: make(chan struct{}, 100)}
	b, _ := newTestBroker(t, f, func(c *BrokerConfig) { c.MaxLogins, c.MaxPerAddress = 3, 2 })
	results := make(chan error, 100)
	start := func(address, subject string) {
		go func() {
			_, err := b.Login(context.Background(), Request{"r", jwt(subject, inADay), address, "", nil})
			results <- err
		}()
	}
	// 2 under way and 16 that wait; two more are refused.
	for i := range 20 {
		start("[2001:db8::"+fmt.Sprint(i+1)+"]:1", fmt.Sprint("six-", i))
	}
	for range 2 {
		requireReason(t, <-results, Busy, "too many logins")
		<-f.entered
	}
	// Another address has a place left, and then waits for those of all.
	start("192.0.2.1:1", "four-1")
	<-f.entered
	start("192.0.2.1:2", "four-2")
	require.Never(t, func() bool { return len(f.entered) > 0 }, 50*time.Millisecond, 10*time.Millisecond)
	close(f.hold)
	for range 20 {
		require.NoError(t, <-results)
	}
	b.limiter.mu.Lock()
	defer b.limiter.mu.Unlock()
	require.Empty(t, b.limiter.addresses)
}

// TestLoginsOfAllAreBounded has as many addresses as there may be logins.
func TestLoginsOfAllAreBounded(t *testing.T) {
	t.Parallel()
	f := &fakeVault{entity: "e", ttl: 3600, hold: make(chan struct{}), entered: make(chan struct{}, 100)}
	b, _ := newTestBroker(t, f, func(c *BrokerConfig) { c.MaxLogins, c.MaxPerAddress = 1, 1 })
	results := make(chan error, presentPerSlot+1)
	for i := range presentPerSlot + 1 {
		go func() {
			r := Request{Role: "r", Credential: jwt(fmt.Sprint(i), inADay), Remote: fmt.Sprintf("192.0.2.%d:1", i)}
			_, err := b.Login(context.Background(), r)
			results <- err
		}()
	}
	requireReason(t, <-results, Busy, "too many logins")
	close(f.hold)
	for range presentPerSlot {
		require.NoError(t, <-results)
	}
	b.limiter.mu.Lock()
	defer b.limiter.mu.Unlock()
	require.Empty(t, b.limiter.addresses)
	require.Zero(t, b.limiter.present)
}

func TestParseMethod(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Method{
		"jwt": {JWT, "jwt"}, "jwt=ci/github": {JWT, "ci/github"}, "kubernetes=auth/k8s/": {Kubernetes, "k8s"},
		"approle": {AppRole, "approle"}, "cert": {Cert, "cert"},
	} {
		m, err := ParseMethod(text)
		require.NoError(t, err)
		require.Equal(t, want, m)
	}
	for _, bad := range []string{"", "ldap", "jwt=", "jwt=../sys", "jwt=a b", "jwt=a//b", "jwt=a?b"} {
		_, err := ParseMethod(bad)
		require.Error(t, err, bad)
	}
	require.Error(t, Method{Token, Token}.ForCallers())
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	f := &fakeVault{entity: "e1", ttl: 3600}
	b, _ := newTestBroker(t, f, nil)
	login := func(from string) *Login {
		l, err := b.Login(t.Context(), Request{"r", jwt("a", inADay), someAddress, from, nil})
		require.NoError(t, err)
		require.Equal(t, from, f.from)
		return l
	}
	require.False(t, login("192.0.2.1").Bound)
	f.set(func(f *fakeVault) { f.bound = `["192.0.2.0/24"]` })
	require.False(t, login("192.0.2.2").Bound, "the token of before")
	require.Equal(t, 2, f.counts()[0], "Vault may bind a login to an address, so it is asked for each")
	b.Forget("hvs.token-1")
	require.True(t, login("192.0.2.3").Bound)
}
