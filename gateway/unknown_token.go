package gateway

// Tokens that the server does not know. Vault says so when it refuses one.
// OpenBao does not: to both an unknown token and a missing policy it answers
// "permission denied". KMS has an exception for each.

import (
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

const (
	// whoAmI is refused to unknown tokens only, on Vault and on OpenBao: it is
	// open to those without a token, asks for no policy, and yet looks a token
	// up if there is one. What auth/token/lookup-self and the like ask for, the
	// default policy, tokens can lack.
	whoAmI     = "sys/internal/ui/mounts"
	lookupSelf = "auth/token/lookup-self"
	// tokenKnownFor is how long an answer is good for. A token that is made or
	// revoked meanwhile is refused all the same, by the other of two names.
	tokenKnownFor = 10 * time.Second
	// tokensKnown is how many answers are kept.
	tokensKnown = 1024
	// maxWhoAmI is how many bytes of the answer are read, so that the connection
	// can be used again: nothing in it is of interest.
	maxWhoAmI = 64 << 10
)

// tokenCheck tells whether the server knows the token of a call that it has
// refused. It asks at most once in a while for each token, and never of a
// server that has once said itself that a token is unknown.
type tokenCheck struct {
	vault   *Vault
	says    atomic.Bool // the server says itself that a token is unknown
	answers *lru.Cache[[sha256.Size]byte, tokenAnswer]
	asking  singleflight.Group
}

type tokenAnswer struct {
	unknown bool
	until   time.Time
}

func newTokenCheck(vault *Vault) *tokenCheck {
	answers, _ := lru.New[[sha256.Size]byte, tokenAnswer](tokensKnown) // fails for sizes below one only
	return &tokenCheck{vault: vault, answers: answers}
}

// unknown reports whether the server has refused a token because it does not
// know it. from is as in vaultRequest: a token may be good from some addresses
// only. Where that cannot be found out, it has been because of a policy.
func (t *tokenCheck) unknown(ctx context.Context, token, from string) bool {
	if token == "" || t.says.Load() {
		return false // without a token, it is the proxy's that was refused
	}
	return t.refused(ctx, whoAmI, token, from)
}

// missing reports whether the server has refused a call because it has no
// token, and not because of the policies of the one that a Vault Proxy has
// added: that one may be looked up, by the default policy.
func (t *tokenCheck) missing(ctx context.Context, from string) bool {
	return t.refused(ctx, lookupSelf, "", from)
}

// refused reports whether the server refuses a request that it allows to all
// but those that are looked for.
func (t *tokenCheck) refused(ctx context.Context, path, token, from string) bool {
	sum := sha256.Sum256([]byte(token + "\x00" + from))
	refused, _, _ := t.asking.Do(string(sum[:]), func() (any, error) {
		if a, ok := t.answers.Get(sum); ok && time.Now().Before(a.until) {
			return a.unknown, nil
		}
		// Other calls may wait for this one's answer.
		status, err := t.vault.statusOnly(context.WithoutCancel(ctx), vaultRequest{method: http.MethodGet, path: path, token: token, from: from})
		refused := err == nil && (status == http.StatusForbidden || status == http.StatusBadRequest && token == "")
		if err == nil {
			t.answers.Add(sum, tokenAnswer{refused, time.Now().Add(tokenKnownFor)})
		}
		return refused, nil
	})
	return refused.(bool)
}

// statusOnly makes a request of whose answer the status is all that matters.
func (v *Vault) statusOnly(ctx context.Context, r vaultRequest) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	response, err := v.http.Do(v.request(ctx, r))
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.CopyN(io.Discard, response.Body, maxWhoAmI)
	if err == io.EOF {
		err = nil
	}
	return response.StatusCode, err
}
