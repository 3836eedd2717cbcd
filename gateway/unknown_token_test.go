package gateway

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// asked is how often a fake was asked whether it knows a token.
func (f *fakeVault) asked() (n int) {
	for _, c := range f.all() {
		if c.path == whoAmI {
			n++
		}
	}
	return n
}

// denying is a server that refuses everything, as OpenBao does: without a word
// on whether it knows the token.
func denying(t *testing.T, whoAmI int) *fakeVault {
	t.Helper()
	f := newFakeVault(t, func(*vaultCall) (int, string) { return errorsOnly(http.StatusForbidden, "permission denied") })
	f.whoAmI = whoAmI
	return f
}

const (
	invalidToken = "The security token included in the request is invalid."
	notAllowed   = "User: arn:aws:iam::111122223333:user/AKIDEXAMPLE is not authorized to perform: kms:ListKeys on resource: * because no identity-based policy allows the kms:ListKeys action"
)

func TestUnknownToken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		whoAmI        int
		kind, message string
	}{
		{http.StatusForbidden, typeUnrecognizedClient, invalidToken},
		{http.StatusNoContent, "AccessDeniedException", notAllowed},
		{http.StatusNotFound, "AccessDeniedException", notAllowed}, // it cannot be found out
		{http.StatusInternalServerError, "AccessDeniedException", notAllowed},
	} {
		f := denying(t, test.whoAmI)
		g := newTestGateway(t, f.URL)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { post(g, "/", "ListKeys", "{}") })
		}
		wg.Wait()
		post(g, "/", "ListKeys", "{}").requireException(t, 400, test.kind, test.message)
		require.Equal(t, 1, f.asked(), "once in a while for each token")
		require.Equal(t, "t0ken", f.all()[1].token)
		post(g, "/", "ListKeys", "{}", "X-Amz-Security-Token", "other").requireException(t, 400, test.kind, test.message)
		require.Equal(t, 2, f.asked())
	}
}

// TestUnknownTokenIsNotAsked: where there is nothing to find out.
func TestUnknownTokenIsNotAsked(t *testing.T) {
	t.Parallel()
	f := newFakeVault(t, func(*vaultCall) (int, string) {
		return errorsOnly(http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
	})
	f.whoAmI = http.StatusForbidden
	g := newTestGateway(t, f.URL)
	post(g, "/", "ListKeys", "{}", "X-Amz-Security-Token", "").requireException(t, 400, "AccessDeniedException", notAllowed)
	require.Zero(t, f.asked())
	proxy := newFakeVault(t, func(c *vaultCall) (int, string) {
		if c.path == lookupSelf {
			return 200, `{}`
		}
		return errorsOnly(http.StatusForbidden, "permission denied") // as OpenBao says it
	})
	for range 2 {
		post(newTestGateway(t, proxy.URL), "/", "ListKeys", "{}", "X-Amz-Security-Token", "").requireException(t, 400, "AccessDeniedException", notAllowed)
	}
	require.Zero(t, proxy.asked(), "the proxy's token is refused, not the caller's")

	texts := make(chan string, 2)
	vault := newFakeVault(t, func(*vaultCall) (int, string) { return errorsOnly(http.StatusForbidden, <-texts) })
	vault.whoAmI = http.StatusForbidden
	g = newTestGateway(t, vault.URL)
	texts <- "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"
	post(g, "/", "ListKeys", "{}").requireException(t, 400, typeUnrecognizedClient, invalidToken)
	texts <- "permission denied"
	post(g, "/", "ListKeys", "{}").requireException(t, 400, "AccessDeniedException", notAllowed)
	require.Zero(t, vault.asked(), "this server says itself when it does not know a token")
}

// TestUnknownTokensAreBounded: however many tokens a client makes up.
func TestUnknownTokensAreBounded(t *testing.T) {
	t.Parallel()
	f := denying(t, http.StatusForbidden)
	g := newTestGateway(t, f.URL)
	for i := range tokensKnown + 10 {
		post(g, "/", "ListKeys", "{}", "X-Amz-Security-Token", fmt.Sprint(i))
	}
	require.Equal(t, tokensKnown, g.tokens.answers.Len())
}
