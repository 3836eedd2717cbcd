package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

const mountPath = "kms"

// options say what a run is to be.
type options struct {
	seed       uint64
	length     time.Duration // of the part with faults
	least      int           // acknowledged writes: a busy machine takes longer for them, within limits
	clients    int
	pause      time.Duration // of a client between two operations
	faults     []string      // names; all if empty
	namespaces bool          // run the nodes in network namespaces, if that can be
	plugin     testvault.Plugin
	out        io.Writer // progress
}

// chaos is a run under way.
type chaos struct {
	options
	ground
	h        *history
	q        *requester
	tally    *tally
	tokens   tokens
	shared   *knowledge
	front    []*endpoint
	inflicts []inflicted
	leftOut  string   // faults that cannot be had here, and why
	odd      []string // faults that did not go as planned

	goroutines string // of a soak: file with the number of the plugin's
}

// inflicted is a fault that happened.
type inflicted struct {
	name     string
	from, to int64 // until the cluster served again
}

// execute runs clients and faults, and checks what they saw. An error says
// that the run could not be made; what the run found is in the report.
func execute(ctx context.Context, o options) (*report, error) {
	c := &chaos{options: o, h: newHistory(), tally: newTally(o.clients), shared: newKnowledge()}
	fmt.Fprintf(o.out, "chaos: seed %d, %d clients, %s\n", o.seed, o.clients, o.length)
	cfg := testvault.Config{Plugins: []testvault.Plugin{o.plugin}}
	if o.namespaces {
		network, err := newNetwork(3)
		if err != nil {
			c.leftOut = fmt.Sprintf("No cut or lossy links: %v", err)
		} else {
			defer network.remove()
			c.network, cfg.Hosts = network, network.hosts()
			if network.noLoss != nil {
				c.leftOut = fmt.Sprintf("No lossy links: %v", network.noLoss)
			}
		}
		if c.leftOut != "" {
			fmt.Fprintln(o.out, "chaos:", c.leftOut)
		}
	}
	cluster, err := testvault.StartCluster(ctx, cfg, 3)
	if err != nil {
		return nil, err
	}
	defer cluster.Stop()
	c.cluster = cluster
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	for _, node := range cluster.Nodes {
		e, err := startEndpoint(ctx, node)
		if err != nil {
			return nil, err
		}
		defer e.process.Stop()
		c.front = append(c.front, e)
	}
	if err := c.storm(ctx); err != nil {
		return nil, err
	}
	disagreements, err := c.afterwards(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(o.out, "chaos: checking %d operations on %d things\n", c.tally.begun, len(c.h.operations))
	result := c.h.check(dir)
	result.findings = append(result.findings, disagreements...)
	if len(result.findings) == 0 {
		os.RemoveAll(dir)
	}
	return c.report(result), nil
}

// prepare mounts the engine and makes the entities and the anchors.
func (c *chaos) prepare(ctx context.Context) error {
	var nodes []string
	for _, node := range c.cluster.Nodes {
		nodes = append(nodes, node.Address)
	}
	c.q = newRequester(nodes, mountPath)
	if err := c.patiently(ctx, func(active *testvault.Server) error {
		c.tokens.owner = active.RootToken
		return active.Mount(ctx, mountPath, api.MountInput{Type: testvault.EngineName})
	}); err != nil {
		return err
	}
	if err := c.logIn(ctx); err != nil {
		return err
	}
	for i := range anchors {
		if err := c.patiently(ctx, func(active *testvault.Server) error {
			_, err := active.Client().Logical().WriteWithContext(ctx, mountPath+"/keys/"+anchorName(i), map[string]any{"key_spec": "HMAC_256"})
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// patiently does something that may be done again until it is done: on a busy
// machine, nodes lose their leadership by themselves.
func (c *chaos) patiently(ctx context.Context, do func(active *testvault.Server) error) error {
	for deadline := time.Now().Add(time.Minute); ; wait(ctx, 200*time.Millisecond) {
		active, err := c.cluster.Active(ctx)
		if err == nil {
			err = do(active)
		}
		if err == nil || strings.Contains(err.Error(), "already in use") { // it had been done
			return nil
		}
		if refused := (*api.ResponseError)(nil); time.Now().After(deadline) || ctx.Err() != nil ||
			errors.As(err, &refused) && refused.StatusCode < 500 {
			return err
		}
	}
}

// logIn makes entities that may do what grants allow them, and nothing else.
func (c *chaos) logIn(ctx context.Context) error {
	if err := c.patiently(ctx, func(active *testvault.Server) error {
		return active.Client().Sys().EnableAuthWithOptionsWithContext(ctx, "userpass", &api.EnableAuthOptions{Type: "userpass"})
	}); err != nil {
		return err
	}
	policy := fmt.Sprintf(`path "%s/granted/*" { capabilities = ["update"] }
path "%s/retire-grant" { capabilities = ["update"] }`, mountPath, mountPath)
	for i := range c.tokens.entities {
		user := fmt.Sprintf("grantee-%d", i)
		password := map[string]any{"password": rand32(), "token_policies": "grantee"}
		if err := c.patiently(ctx, func(active *testvault.Server) error {
			v := active.Client()
			if err := v.Sys().PutPolicyWithContext(ctx, "grantee", policy); err != nil {
				return err
			}
			if _, err := v.Logical().WriteWithContext(ctx, "auth/userpass/users/"+user, password); err != nil {
				return err
			}
			login, err := v.Logical().WriteWithContext(ctx, "auth/userpass/login/"+user, password)
			if err != nil {
				return err
			}
			if login == nil || login.Auth == nil || login.Auth.EntityID == "" {
				return errors.New("a login without an entity")
			}
			c.tokens.entities[i].id, c.tokens.entities[i].token = login.Auth.EntityID, login.Auth.ClientToken
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func (c *chaos) client(id int) *client {
	return &client{
		id: id, q: c.q, h: c.h, front: c.front, tokens: c.tokens, shared: c.shared, tally: c.tally, mood: &c.mood,
		imports: map[string]importParameters{}, ensured: map[string]bool{},
	}
}

// storm runs clients and faults side by side.
func (c *chaos) storm(ctx context.Context) error {
	var stopped atomic.Bool
	var wg sync.WaitGroup
	for id := range c.clients {
		wg.Go(func() {
			c.client(id).run(ctx, newPlan(c.seed, id, len(c.cluster.Nodes)), c.pause, &stopped)
		})
	}
	err := c.inflict(ctx)
	stopped.Store(true)
	wg.Wait()
	return err
}

// inflict brings one fault after the other upon the cluster, and waits after
// each until it serves again.
func (c *chaos) inflict(ctx context.Context) error {
	plan := newFaultPlan(c.seed, c.faults, c.means())
	for end := time.Now().Add(c.length); ctx.Err() == nil; {
		if now := time.Now(); now.After(end) && (c.tally.acknowledged() >= c.least || now.After(end.Add(5*time.Minute))) {
			break
		}
		kind, calm, rng := plan.next()
		wait(ctx, calm)
		fault := inflicted{name: kind.name, from: c.h.now()}
		fmt.Fprintf(c.out, "%8s %s\n", time.Duration(fault.from).Round(time.Millisecond), kind.name)
		if err := kind.inflict(ctx, &c.ground, rng); err != nil {
			if err := c.startOver(ctx, kind, err); err != nil {
				return err
			}
		}
		if err := c.heal(ctx); err != nil {
			return fmt.Errorf("after %q the cluster did not serve again: %w", kind.name, err)
		}
		fault.to = c.h.now()
		c.inflicts = append(c.inflicts, fault)
	}
	return ctx.Err()
}

// startOver makes good a fault that Vault did not take as planned (it did not
// seal itself in a minute, say), by killing all nodes. The figures tell.
func (c *chaos) startOver(ctx context.Context, kind faultKind, problem error) error {
	c.odd = append(c.odd, fmt.Sprintf("%s: %v", kind.name, problem))
	fmt.Fprintf(c.out, "chaos: %s: %v\n", kind.name, problem)
	if err := c.keepLogs(ctx); err != nil {
		return err
	}
	for _, node := range c.cluster.Nodes {
		node.Kill()
	}
	for _, node := range c.cluster.Nodes {
		if err := node.Restart(ctx); err != nil {
			return fmt.Errorf("after %q: %w", kind.name, err)
		}
	}
	return ctx.Err()
}

// keepLogs keeps the logs of all nodes, each of which ends with where its
// goroutines are: Vault does that at SIGQUIT, before it ends.
func (c *chaos) keepLogs(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "chaos-odd-")
	if err != nil {
		return err
	}
	for _, node := range c.cluster.Nodes {
		if node.Running() {
			if err := syscall.Kill(node.Pid(), syscall.SIGQUIT); err != nil {
				return err
			}
		}
	}
	wait(ctx, 2*time.Second)
	for i, node := range c.cluster.Nodes {
		log, err := node.Log()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("node-%d.log", i)), []byte(log), 0o600); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.out, "chaos: the logs of the nodes are in %s\n", dir)
	return nil
}

// heal waits until every node serves the mount.
func (c *chaos) heal(ctx context.Context) error {
	if _, err := c.cluster.Active(ctx); err != nil {
		return err
	}
	deadline := time.Now().Add(2 * time.Minute)
	for node := range c.cluster.Nodes {
		for {
			r := c.q.send(ctx, node, c.tokens.owner, "GET", "keys/"+anchorName(0), nil, patience)
			if r.ok() {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("node %d: %s %s", node, r.exception, r.trouble)
			}
			wait(ctx, 50*time.Millisecond)
		}
	}
	return nil
}

// afterwards reads everything three times: what the plugin remembers, what a
// new process finds in storage, and what another node finds there. The three
// must agree, and are part of each thing's history.
func (c *chaos) afterwards(ctx context.Context) ([]finding, error) {
	wait(ctx, 2*time.Second) // writes that their clients gave up may still end
	memory, err := c.readAll(ctx)
	if err != nil {
		return nil, err
	}
	if err := reload(ctx, &c.ground, nil); err != nil {
		return nil, err
	}
	if err := c.heal(ctx); err != nil {
		return nil, err
	}
	storage, err := c.readAll(ctx)
	if err != nil {
		return nil, err
	}
	if err := stepDown(ctx, &c.ground, nil); err != nil {
		return nil, err
	}
	if err := c.heal(ctx); err != nil {
		return nil, err
	}
	other, err := c.readAll(ctx)
	if err != nil {
		return nil, err
	}
	var findings []finding
	for e, first := range memory {
		for what, second := range map[string]string{"storage": storage[e], "another node": other[e]} {
			if first != second {
				findings = append(findings, finding{
					Check: "agreement", What: e.String(),
					Detail: fmt.Sprintf("memory has %s, %s has %s", first, what, second),
				})
			}
		}
	}
	return findings, nil
}

// readAll reads all things, from any node.
func (c *chaos) readAll(ctx context.Context) (map[entity]string, error) {
	reader := c.client(c.clients) // one more client
	seen := map[entity]string{}
	c.h.mu.Lock()
	var all []entity
	for e := range c.h.operations {
		all = append(all, e)
	}
	c.h.mu.Unlock()
	for _, e := range all {
		text, err := reader.final(ctx, e)
		if err != nil {
			return nil, err
		}
		seen[e] = text
	}
	return seen, nil
}

// final reads one thing, for its history and for comparison.
func (c *client) final(ctx context.Context, e entity) (string, error) {
	d := decision{family: e.kind, kind: "final"}
	path := map[string]string{"key": "keys/", "alias": "aliases/"}[e.kind] + e.name
	if e.kind == "grant" {
		var generation, slot int
		if _, err := fmt.Sscanf(e.name, "g/%d:%d", &generation, &slot); err != nil {
			return "", err
		}
		path = fmt.Sprintf("list-grants/g/%d?grantee_principal=%s", generation, c.tokens.entities[slot].id)
	}
	r, call, end := c.ask(ctx, d, c.tokens.owner, "GET", path, nil, false)
	if r.ending != done {
		return "", fmt.Errorf("reading %s: %s", e, r.trouble)
	}
	switch e.kind {
	case "key":
		result := keyResult{exception: r.exception}
		if r.ok() {
			result.state, result.metadata = r.text("key_state"), metadataOf(r.data)
		}
		c.h.add(c.id, e, keyOp{kind: "describe"}, result, call, end)
		return fmt.Sprintf("%s %s %+v", result.exception, result.state, result.metadata), nil
	case "alias":
		result := aliasResult{exception: r.exception}
		if r.ok() {
			result.shown = aliasOf(r.data)
		}
		c.h.add(c.id, e, aliasOp{kind: "read"}, result, call, end)
		return fmt.Sprintf("%s %+v", result.exception, result.shown), nil
	}
	id, _ := grantIn(r.data)
	c.grantListed(e, r, call, end)
	return fmt.Sprintf("%s %s", r.exception, id), nil
}
