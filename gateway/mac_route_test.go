package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const macBody = `{"KeyId":"k","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256"}`

// requests returns what a fake Vault was asked, as "METHOD path".
func (f *fakeVault) requests() []string {
	var lines []string
	for _, c := range f.all() {
		lines = append(lines, c.method+" "+strings.TrimPrefix(c.path, "kms/"))
	}
	return lines
}

// A caller's policy may know PATCH, POST, the path of grants, or several: the
// first that Vault lets through is asked, and asked first the next time.
func TestMacRoutes(t *testing.T) {
	const patchPlain, postPlain = "PATCH generate-mac/k", "POST generate-mac/k"
	const patchGranted, postGranted = "PATCH granted/generate-mac/k", "POST granted/generate-mac/k"
	for name, test := range map[string]struct {
		allowed      []string
		refusal      int
		first, later []string
	}{
		"all":                {[]string{patchPlain, postPlain, patchGranted, postGranted}, 403, []string{patchPlain}, []string{patchPlain}},
		"update only":        {[]string{postPlain, postGranted}, 403, []string{patchPlain, postPlain}, []string{postPlain}},
		"an older engine":    {[]string{postPlain}, 405, []string{patchPlain, postPlain}, []string{postPlain}},
		"a grant":            {[]string{patchGranted, postGranted}, 403, []string{patchPlain, postPlain, patchGranted}, []string{patchGranted}},
		"a grant, no patch":  {[]string{postGranted}, 403, []string{patchPlain, postPlain, patchGranted, postGranted}, []string{postGranted}},
		"nothing, once more": {nil, 403, []string{patchPlain, postPlain, patchGranted, postGranted}, []string{patchPlain, postPlain, patchGranted, postGranted}},
	} {
		for _, body := range []string{macBody, strings.TrimSuffix(macBody, "}") + `,"GrantTokens":["t"]}`} {
			t.Run(name, func(t *testing.T) {
				f := newFakeVault(t, func(c *vaultCall) (int, string) {
					for _, way := range test.allowed {
						if way == c.method+" "+strings.TrimPrefix(c.path, "kms/") {
							return 200, `{"data":{"mac":"AAEC","key_id":"k"}}`
						}
					}
					return errorsOnly(test.refusal, "1 error occurred:\n\t* permission denied\n\n")
				})
				g := newTestGateway(t, f.URL)
				want := test.first
				for range 2 {
					w := post(g, "/", "GenerateMac", body)
					if test.allowed == nil {
						require.Contains(t, w.body, "AccessDeniedException")
					} else {
						require.Contains(t, w.body, `"Mac":"AAEC"`)
					}
					require.Equal(t, want, f.requests())
					for _, c := range f.all() {
						require.Equal(t, map[string]string{"PATCH": "application/merge-patch+json", "POST": "application/json"}[c.method], c.header.Get("Content-Type"))
					}
					want = append(want, test.later...)
				}
				// Another caller is another matter.
				before := len(f.all())
				post(g, "/", "GenerateMac", body, "X-Amz-Security-Token", "other")
				require.Equal(t, test.first, f.requests()[before:])
			})
		}
	}
}

// What is remembered changes the order of requests only: a policy that changes
// holds at once.
func TestMacRoutesFollowPolicies(t *testing.T) {
	var allowed string
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		if strings.HasPrefix(c.method+" "+c.path, allowed) {
			return 200, `{"data":{"mac":"AAEC","key_id":"k"}}`
		}
		return errorsOnly(403, "1 error occurred:\n\t* permission denied\n\n")
	})
	g := newTestGateway(t, f.URL)
	for _, way := range []string{"POST kms/generate", "PATCH kms/granted", "POST kms/granted", "nothing", "PATCH kms/generate"} {
		allowed = way
		w := post(g, "/", "GenerateMac", macBody)
		if way == "nothing" {
			require.Contains(t, w.body, "AccessDeniedException")
		} else {
			require.Equal(t, 200, w.status, way)
		}
	}
	require.Zero(t, g.routes.known.Len(), "the default is not worth remembering")
}

func TestMacRoutesAreForgotten(t *testing.T) {
	k := newKnownRoutes()
	key := k.keyOf("token", "path")
	require.NotEqual(t, key, k.keyOf("toke", "npath"))
	k.remember(key, knownRoute{route: macRoute{}})
	require.Equal(t, macRoute{}, k.get(key).route)
	known, _ := k.known.Get(key)
	known.until = time.Now().Add(-time.Second)
	k.known.Add(key, known)
	require.Equal(t, macRoutes[0], k.get(key).route, "after a while")
	for i := range 2 * routesKnown {
		k.remember(uint64(i), knownRoute{single: true})
	}
	require.Equal(t, routesKnown, k.known.Len(), "and there are not more than so many")
}

// Where a policy knows single messages only, as one with allowed_parameters,
// calls that were to share a request are made one by one, and those after them
// do not try to share one for a while.
func TestSharedRequestsThatAreRefused(t *testing.T) {
	gate := make(chan struct{})
	var first sync.Once
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		first.Do(func() { <-gate })
		if c.method != "PATCH" || c.body["messages"] != nil {
			return errorsOnly(403, "1 error occurred:\n\t* permission denied\n\n")
		}
		return 200, fmt.Sprintf(`{"data":{"mac":%q,"key_id":"k"}}`, c.body["message"])
	})
	g := newTestGateway(t, f.URL)
	call := func(i int) wire {
		message := fmt.Sprintf("A%03d", i)
		w := post(g, "/", "GenerateMac", strings.Replace(macBody, "aGk=", message, 1))
		if w.status == 200 && !strings.Contains(w.body, `"Mac":"`+message+`"`) {
			t.Errorf("another's MAC: %s", w.body)
		}
		return w
	}
	const callers = 40
	statuses := make(chan int, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() { statuses <- call(i).status })
	}
	require.Eventually(t, func() bool {
		g.macs.mu.Lock()
		defer g.macs.mu.Unlock()
		for _, q := range g.macs.groups {
			return len(q.waiting) == callers-1
		}
		return false
	}, 30*time.Second, time.Millisecond)
	close(gate)
	wg.Wait()
	close(statuses)
	for status := range statuses {
		require.Equal(t, 200, status)
	}

	before := len(f.all())
	for i := range callers {
		wg.Go(func() { require.Equal(t, 200, call(i).status) })
	}
	wg.Wait()
	require.Len(t, f.all(), before+callers, "none was shared")
	for _, c := range f.all()[before:] {
		require.Equal(t, "PATCH", c.method)
		require.Nil(t, c.body["messages"])
	}
}

// Callers whom nothing is allowed, shared or not, are told so, and are not
// remembered as ones who had better not share.
func TestSharedRequestsOfTheDenied(t *testing.T) {
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		return errorsOnly(403, "1 error occurred:\n\t* permission denied\n\n")
	})
	g := newTestGateway(t, f.URL)
	group := macGroup{token: "t", key: "k", algorithm: "HMAC_SHA_256"}
	for _, a := range g.sendMacs(t.Context(), group, make([]macRequest, 5)) {
		require.True(t, forbidden(a.err))
	}
	require.Len(t, f.all(), 4+5*4)
	require.False(t, g.single(&group))
}

// TestLargePosts: a caller whose policy knows no PATCH asks for many MACs by a
// form, which says what the JSON says, and for few by JSON.
func TestLargePosts(t *testing.T) {
	for _, verify := range []bool{false, true} {
		f := newFakeVault(t, func(c *vaultCall) (int, string) {
			if c.method != "POST" {
				return errorsOnly(403, "1 error occurred:\n\t* permission denied\n\n")
			}
			return 200, `{"data":{}}`
		})
		g := newTestGateway(t, f.URL)
		group := macGroup{token: "t", key: "k", algorithm: "HMAC_SHA_256", verify: verify}
		calls := make([]macRequest, formFrom)
		for i := range calls {
			calls[i] = macRequest{message: fmt.Appendf(nil, "%d+/8=", i), mac: fmt.Appendf(nil, "+/%d==", i)}
		}
		g.sendMacs(t.Context(), group, calls)
		c := f.last(t)
		require.Equal(t, "application/x-www-form-urlencoded", c.header.Get("Content-Type"))
		form, err := url.ParseQuery(string(c.raw))
		require.NoError(t, err)
		var asked map[string]string
		require.NoError(t, json.Unmarshal(macRequestBody(group, calls), &asked))
		require.Len(t, form, len(asked))
		for name, value := range asked {
			require.Equal(t, []string{value}, form[name], name)
		}

		g.sendMacs(t.Context(), group, calls[1:])
		c = f.last(t)
		require.Equal(t, "POST application/json", c.method+" "+c.header.Get("Content-Type"))
	}
}

// A standby may answer where the active node is; the request follows, with its
// verb, body and token. The standby is asked once: it may have done the work
// before it lost the active node.
func TestRedirect(t *testing.T) {
	active := newFakeVault(t, func(*vaultCall) (int, string) { return 200, `{"data":{"mac":"AAEC","key_id":"k"}}` })
	var asked atomic.Int64
	standby := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, active.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer standby.Close()
	w := post(newTestGateway(t, standby.URL), "/", "GenerateMac", macBody)
	require.Equal(t, 200, w.status, w.body)
	c := active.last(t)
	require.Equal(t, "PATCH kms/generate-mac/k t0ken", c.method+" "+c.path+" "+c.token)
	require.Equal(t, "application/merge-patch+json", c.header.Get("Content-Type"))
	require.Equal(t, "aGk=", c.body["message"])
	require.EqualValues(t, 1, asked.Load())

	circle := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer circle.Close()
	asked.Store(0)
	post(newTestGateway(t, circle.URL, retrying(time.Minute)), "/", "GenerateMac", macBody).requireException(t, 500, "KMSInternalException", "Vault cannot be reached.")
	require.EqualValues(t, 3, asked.Load())
}
