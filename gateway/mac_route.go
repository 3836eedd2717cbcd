package gateway

// By which of four ways a caller may ask the mount for MACs: Vault's policies
// decide about each, and one that was refused is not tried first again.

import (
	"context"
	"errors"
	"hash/maphash"
	"net/http"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// macRoute is a way to ask. The engine does the same on each: PATCH costs
// Vault one question to the plugin and POST two, and below granted/ it is
// grants and not policies that allow the key.
type macRoute struct{ patch, granted bool }

// macRoutes is the order in which they are tried.
var macRoutes = []macRoute{{patch: true}, {}, {patch: true, granted: true}, {granted: true}}

const (
	// routesKnown is how many callers and keys are remembered, and routeKnownFor
	// for how long. What is remembered changes the order of requests and not what
	// comes of them, so a policy that has changed holds at once.
	routesKnown   = 4096
	routeKnownFor = 10 * time.Minute
)

// knownRoute is what is remembered of a caller and a key.
type knownRoute struct {
	route macRoute
	// single: Vault refuses requests for many messages, and takes them one by
	// one, as by a policy with allowed_parameters.
	single bool
	until  time.Time
}

// knownRoutes remembers them. The hash of the token and the path stands for
// both: tokens are not kept, and two that have the same try other ways first.
type knownRoutes struct {
	seed  maphash.Seed
	known *lru.Cache[uint64, knownRoute]
}

func newKnownRoutes() *knownRoutes {
	known, _ := lru.New[uint64, knownRoute](routesKnown) // fails for sizes below one only
	return &knownRoutes{seed: maphash.MakeSeed(), known: known}
}

func (k *knownRoutes) keyOf(token, path string) uint64 {
	var h maphash.Hash
	h.SetSeed(k.seed)
	_, _ = h.WriteString(token) // never fails
	_ = h.WriteByte(0)
	_, _ = h.WriteString(path)
	return h.Sum64()
}

func (k *knownRoutes) get(key uint64) knownRoute {
	known, ok := k.known.Get(key)
	if !ok || time.Now().After(known.until) {
		return knownRoute{route: macRoutes[0]}
	}
	return known
}

// remember keeps what is not so by default.
func (k *knownRoutes) remember(key uint64, known knownRoute) {
	if known.route == macRoutes[0] && !known.single {
		k.known.Remove(key)
		return
	}
	known.until = time.Now().Add(routeKnownFor)
	k.known.Add(key, known)
}

// path is the group's path behind the mount's.
func (group *macGroup) path() string {
	if group.verify {
		return "verify-mac/" + group.key
	}
	return "generate-mac/" + group.key
}

// single reports whether the group's calls are better made one by one.
func (g *Gateway) single(group *macGroup) bool {
	return g.routes.get(g.routes.keyOf(group.token, group.path())).single
}

// goesSingle remembers that a group's calls are made one by one.
func (g *Gateway) goesSingle(group *macGroup) {
	key := g.routes.keyOf(group.token, group.path())
	known := g.routes.get(key)
	known.single = true
	g.routes.remember(key, known)
}

// macQuestion is a request for one or many MACs, whichever way it goes.
type macQuestion struct {
	path                     string // behind the mount's, and behind granted/
	token, from, correlation string // as in vaultRequest
	json                     []byte
	// form writes the same as a form, for a POST; nil if JSON is as good.
	form func() []byte
}

// askForMacs makes the request by the ways that there are until Vault lets one
// through.
func (g *Gateway) askForMacs(ctx context.Context, q macQuestion) ([]byte, error) {
	key := g.routes.keyOf(q.token, q.path)
	known := g.routes.get(key)
	body, err := g.askBy(ctx, known.route, q)
	if !notThisWay(err) {
		return body, err
	}
	denied := err
	for _, route := range macRoutes {
		if route == known.route {
			continue
		}
		body, err := g.askBy(ctx, route, q)
		if !notThisWay(err) {
			known.route = route
			g.routes.remember(key, known)
			return body, err
		}
		if route == (macRoute{}) {
			denied = err
		}
	}
	return nil, denied
}

func (g *Gateway) askBy(ctx context.Context, route macRoute, q macQuestion) ([]byte, error) {
	r := vaultRequest{
		method: http.MethodPost, path: g.mount + q.path, body: q.json, token: q.token, from: q.from, correlation: q.correlation,
	}
	if route.granted {
		r.path = g.mount + "granted/" + q.path
	}
	switch {
	case route.patch:
		r.method = http.MethodPatch
	case q.form != nil:
		r.body, r.form = q.form(), true
	}
	return g.ask(ctx, r)
}

// notThisWay reports whether Vault may let the same request through in another
// way: a policy or the lack of a grant refused it, or an engine that knows no
// PATCH.
func notThisWay(err error) bool {
	var v *vaultError
	return forbidden(err) || errors.As(err, &v) && v.status == http.StatusMethodNotAllowed
}
