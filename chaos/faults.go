package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// faultKind is something that goes wrong, and how it is made good.
type faultKind struct {
	name    string
	takes   means
	inflict func(context.Context, *ground, *rand.Rand) error
}

// means is what a fault takes, besides processes. The later include the former.
type means int

const (
	nothingElse means = iota
	links             // hosts with links of their own, to be cut
	lossyLinks        // and to be made lossy
)

// ground is where faults happen.
type ground struct {
	cluster *testvault.Cluster
	network *network // nil without one
	lost    int      // packets, of lossy links
	mood    mood
}

// mood is what a fault makes the clients do, besides what it does to servers.
type mood struct {
	hasty    atomic.Bool // give up every request after a moment
	readOnly atomic.Bool // leave out writes
}

// faultKinds are the faults of a run. Each leaves a cluster that heals by
// itself: its last step takes back what it did.
var faultKinds = []faultKind{
	{name: "kill the active node", inflict: killActive},
	{name: "kill a standby", inflict: killStandby},
	{name: "kill the plugin", inflict: killPlugin},
	{name: "pause the active node", inflict: pauseActive},
	{name: "pause both standbys", inflict: pauseStandbys},
	{name: "give up writes that standbys hold up", inflict: giveUp},
	{name: "pause the plugin", inflict: pausePlugin},
	{name: "seal the active node", inflict: sealActive},
	{name: "step down", inflict: stepDown},
	{name: "reload the plugin", inflict: reload},
	{name: "restart all nodes in turn", inflict: rollingRestart},
	{name: "cut the active node off its peers", takes: links, inflict: cutPeers},
	{name: "cut the active node off everybody", takes: links, inflict: cutOff},
	{name: "lose packets between nodes", takes: lossyLinks, inflict: losePackets},
	{name: "lose packets of nodes and clients", takes: lossyLinks, inflict: losePacketsOfAll},
}

// faultNames returns the names of all faults.
func faultNames() []string {
	names := make([]string, len(faultKinds))
	for i, kind := range faultKinds {
		names[i] = kind.name
	}
	return names
}

// faultPlan is the decisions on faults, which depend on the seed alone: all
// kinds in a random order, then again in another one.
type faultPlan struct {
	rng   *rand.Rand
	kinds []faultKind
	queue []faultKind
}

func newFaultPlan(seed uint64, names []string, there means) *faultPlan {
	p := &faultPlan{rng: rand.New(rand.NewPCG(seed, 1<<32))}
	for _, kind := range faultKinds {
		if kind.takes > there {
			continue
		}
		if len(names) == 0 {
			p.kinds = append(p.kinds, kind)
		}
		for _, name := range names {
			if name == kind.name {
				p.kinds = append(p.kinds, kind)
			}
		}
	}
	return p
}

// next returns the next fault, the pause before it, and what decides its
// details.
func (p *faultPlan) next() (faultKind, time.Duration, *rand.Rand) {
	if len(p.queue) == 0 {
		for _, i := range p.rng.Perm(len(p.kinds)) {
			p.queue = append(p.queue, p.kinds[i])
		}
	}
	kind := p.queue[0]
	p.queue = p.queue[1:]
	calm := between(p.rng, 500*time.Millisecond, 2*time.Second)
	return kind, calm, rand.New(rand.NewPCG(p.rng.Uint64(), 0))
}

func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)))
}

// wait waits, but not longer than ctx.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func killActive(ctx context.Context, g *ground, r *rand.Rand) error {
	active, err := g.cluster.Active(ctx)
	if err != nil {
		return err
	}
	active.Kill()
	wait(ctx, between(r, 0, 4*time.Second))
	return active.Restart(ctx)
}

func killStandby(ctx context.Context, g *ground, r *rand.Rand) error {
	standbys, err := g.cluster.Standbys(ctx)
	if err != nil {
		return err
	}
	node := standbys[r.IntN(len(standbys))]
	node.Kill()
	wait(ctx, between(r, 0, 2*time.Second))
	return node.Restart(ctx)
}

func killPlugin(ctx context.Context, g *ground, _ *rand.Rand) error {
	return signalPlugins(ctx, g, syscall.SIGKILL)
}

// pauseActive stops the active node, plugin and all or without it, for longer
// than it takes the others to elect another one. When it goes on it does not
// know yet.
func pauseActive(ctx context.Context, g *ground, r *rand.Rand) error {
	active, err := g.cluster.Active(ctx)
	if err != nil {
		return err
	}
	pid := active.Pid()
	if r.IntN(2) == 0 {
		pid = -pid // the process group
	}
	return pause(ctx, between(r, 3*time.Second, 6*time.Second), pid)
}

// pauseStandbys leaves the active node without a quorum for a moment, in which
// writes wait, or for longer than the lease of a leader.
func pauseStandbys(ctx context.Context, g *ground, r *rand.Rand) error {
	pids, err := g.standbyPids(ctx)
	if err != nil {
		return err
	}
	if r.IntN(2) == 0 {
		return pause(ctx, between(r, 2*time.Second, 4*time.Second), pids...)
	}
	return pause(ctx, between(r, 200*time.Millisecond, 450*time.Millisecond), pids...)
}

// giveUp has clients give up their writes while these wait to be committed, and
// then only read: nothing but those writes may change what they read. The last
// writes are given up before the standbys go on, or else one that is answered
// would put right what those left behind.
func giveUp(ctx context.Context, g *ground, r *rand.Rand) error {
	pids, err := g.standbyPids(ctx)
	if err != nil {
		return err
	}
	for range 4 {
		g.mood.hasty.Store(true)
		wait(ctx, 2*impatience)
		time.AfterFunc(between(r, 20*time.Millisecond, 100*time.Millisecond), func() { g.mood.readOnly.Store(true) })
		err := pause(ctx, between(r, 250*time.Millisecond, 400*time.Millisecond), pids...)
		g.mood.hasty.Store(false)
		wait(ctx, between(r, 200*time.Millisecond, 400*time.Millisecond))
		g.mood.readOnly.Store(false)
		if err != nil {
			return err
		}
		wait(ctx, between(r, 100*time.Millisecond, 300*time.Millisecond))
	}
	return nil
}

func (g *ground) standbyPids(ctx context.Context) ([]int, error) {
	standbys, err := g.cluster.Standbys(ctx)
	var pids []int
	for _, node := range standbys {
		pids = append(pids, node.Pid())
	}
	return pids, err
}

func pausePlugin(ctx context.Context, g *ground, r *rand.Rand) error {
	if err := signalPlugins(ctx, g, syscall.SIGSTOP); err != nil {
		return err
	}
	wait(ctx, between(r, 500*time.Millisecond, 3*time.Second))
	return signalPlugins(context.WithoutCancel(ctx), g, syscall.SIGCONT)
}

func sealActive(ctx context.Context, g *ground, r *rand.Rand) error {
	active, err := g.cluster.Active(ctx)
	if err != nil {
		return err
	}
	if err := active.Seal(ctx); err != nil {
		return err
	}
	wait(ctx, between(r, 0, 3*time.Second))
	return active.Unseal(ctx)
}

func stepDown(ctx context.Context, g *ground, _ *rand.Rand) error {
	_, err := g.cluster.StepDown(ctx)
	return err
}

func reload(ctx context.Context, g *ground, _ *rand.Rand) error {
	active, err := g.cluster.Active(ctx)
	if err != nil {
		return err
	}
	_, err = active.Client().Logical().WriteWithContext(ctx, "sys/plugins/reload/backend", map[string]any{"plugin": testvault.EngineName})
	return err
}

func rollingRestart(ctx context.Context, g *ground, r *rand.Rand) error {
	for _, i := range r.Perm(len(g.cluster.Nodes)) {
		if err := g.cluster.Nodes[i].Restart(ctx); err != nil {
			return err
		}
		if _, err := g.cluster.Active(ctx); err != nil {
			return err
		}
	}
	return nil
}

func cutPeers(ctx context.Context, g *ground, r *rand.Rand) error {
	return cut(ctx, g, r, peers)
}

func cutOff(ctx context.Context, g *ground, r *rand.Rand) error {
	return cut(ctx, g, r, peers, clients)
}

func cut(ctx context.Context, g *ground, r *rand.Rand, links ...link) error {
	node, err := g.activeIndex(ctx)
	if err != nil {
		return err
	}
	for _, l := range links {
		if err := g.network.set(node, l, false); err != nil {
			return err
		}
	}
	wait(ctx, between(r, 2*time.Second, 6*time.Second))
	for _, l := range links {
		err = errors.Join(err, g.network.set(node, l, true))
	}
	return err
}

func losePackets(ctx context.Context, g *ground, r *rand.Rand) error {
	return g.lose(ctx, r, peers)
}

func losePacketsOfAll(ctx context.Context, g *ground, r *rand.Rand) error {
	return g.lose(ctx, r, peers, clients)
}

// lose makes links of all nodes lose packets for a while: with every tenth,
// connections get slow, and with four of ten they break.
func (g *ground) lose(ctx context.Context, r *rand.Rand, links ...link) error {
	percent := 10 + r.IntN(31)
	var err error
	for node := range g.network.nodes {
		err = errors.Join(err, g.network.lose(node, percent, links...))
	}
	wait(ctx, between(r, 3*time.Second, 8*time.Second))
	sum := 0
	for node := range g.network.nodes {
		lost, gone := g.network.loseNone(node)
		sum, err = sum+lost, errors.Join(err, gone)
	}
	g.lost += sum
	if err == nil && sum == 0 {
		err = errors.New("no packet was lost")
	}
	return err
}

// means returns what there is for faults.
func (g *ground) means() means {
	switch {
	case g.network == nil:
		return nothingElse
	case g.network.noLoss != nil:
		return links
	}
	return lossyLinks
}

func (g *ground) activeIndex(ctx context.Context) (int, error) {
	active, err := g.cluster.Active(ctx)
	if err != nil {
		return 0, err
	}
	for i, node := range g.cluster.Nodes {
		if node == active {
			return i, nil
		}
	}
	return 0, errors.New("the active node is none of the cluster")
}

// pause stops processes, or with a negative id groups, and lets them go on.
func pause(ctx context.Context, d time.Duration, pids ...int) error {
	var err error
	for _, pid := range pids {
		err = errors.Join(err, syscall.Kill(pid, syscall.SIGSTOP))
	}
	wait(ctx, d)
	for _, pid := range pids {
		err = errors.Join(err, syscall.Kill(pid, syscall.SIGCONT))
	}
	return err
}

// signalPlugins sends a signal to the plugins of all nodes.
func signalPlugins(ctx context.Context, g *ground, signal syscall.Signal) error {
	for _, node := range g.cluster.Nodes {
		if !node.Running() {
			continue
		}
		pids, err := children(ctx, node.Pid())
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("sending %s to %d: %w", signal, pid, err)
			}
		}
	}
	return nil
}

// children returns the ids of a process's children.
func children(ctx context.Context, parent int) ([]int, error) {
	out, err := exec.CommandContext(context.WithoutCancel(ctx), "ps", "-A", "-o", "ppid=,pid=").Output()
	if err != nil {
		return nil, err
	}
	var pids []int
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) != 2 || fields[0] != strconv.Itoa(parent) {
			continue
		}
		pid, err := strconv.Atoi(fields[1])
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
