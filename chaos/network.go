package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"time"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// network is a namespace for each node, with one link for clients and one for
// the other nodes. A bridge joins the links of a sort. It takes root, and ip
// and tc of iproute2.
type network struct {
	prefix string // of all names: interface names have at most 15 characters
	subnet int
	nodes  int
	shaper []string // how tc makes a link lossy
}

// link is one of the two links of a node.
type link string

const (
	clients link = "c"
	peers   link = "p"
)

// newNetwork makes the network. Its error says why there is none.
func newNetwork(nodes int) (*network, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces take root")
	}
	for _, tool := range []string{"ip", "tc"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, err
		}
	}
	n := &network{prefix: fmt.Sprintf("kc%d", os.Getpid()%100000), subnet: os.Getpid() % 200, nodes: nodes}
	if err := n.make(); err != nil {
		n.remove()
		return nil, err
	}
	n.shaper = n.findShaper()
	return n, nil
}

func (n *network) namespace(node int) string       { return fmt.Sprintf("%s-%d", n.prefix, node) }
func (n *network) bridge(l link) string            { return fmt.Sprintf("%sb%s", n.prefix, l) }
func (n *network) outside(node int, l link) string { return fmt.Sprintf("%s%s%d", n.prefix, l, node) }
func (n *network) inside(node int, l link) string  { return fmt.Sprintf("%si%s%d", n.prefix, l, node) }
func (n *network) address(l link, host int) string {
	second := map[link]int{clients: 213, peers: 214}[l]
	return fmt.Sprintf("10.%d.%d.%d", second, n.subnet, host)
}

func (n *network) make() error {
	for _, l := range []link{clients, peers} {
		if err := run(
			"ip link add "+n.bridge(l)+" type bridge",
			"ip link set "+n.bridge(l)+" up",
			fmt.Sprintf("ip addr add %s/24 dev %s", n.address(l, 1), n.bridge(l)),
		); err != nil {
			return err
		}
	}
	for node := range n.nodes {
		ns := n.namespace(node)
		if err := run("ip netns add "+ns, "ip -n "+ns+" link set lo up"); err != nil {
			return err
		}
		for _, l := range []link{clients, peers} {
			in, out := n.inside(node, l), n.outside(node, l)
			if err := run(
				"ip link add "+out+" type veth peer name "+in,
				"ip link set "+in+" netns "+ns,
				"ip link set "+out+" master "+n.bridge(l),
				"ip link set "+out+" up",
				fmt.Sprintf("ip -n %s addr add %s/24 dev %s", ns, n.address(l, 10+node), in),
				"ip -n "+ns+" link set "+in+" up",
			); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove removes what there is of the network.
func (n *network) remove() {
	for node := range n.nodes {
		_ = run("ip netns del " + n.namespace(node)) // and the links in it
		for _, l := range []link{clients, peers} {
			_ = run("ip link del " + n.outside(node, l))
		}
	}
	for _, l := range []link{clients, peers} {
		_ = run("ip link del " + n.bridge(l))
	}
}

// hosts are the places of the nodes.
func (n *network) hosts() []testvault.Host {
	var hosts []testvault.Host
	for node := range n.nodes {
		hosts = append(hosts, testvault.Host{
			Clients: n.address(clients, 10+node), Peers: n.address(peers, 10+node),
			Command: []string{"ip", "netns", "exec", n.namespace(node)},
		})
	}
	return hosts
}

// set connects or cuts a link of a node.
func (n *network) set(node int, l link, up bool) error {
	state := map[bool]string{true: "up", false: "down"}[up]
	return run("ip link set " + n.outside(node, l) + " " + state)
}

// shapers are ways to make a link lossy: the first drops packets at random, and
// not every kernel has it; the second drops what exceeds a rate that a cluster
// under load exceeds all the time.
var shapers = [][]string{
	strings.Fields("netem loss 20% delay 5ms"),
	strings.Fields("tbf rate 400kbit burst 1600 limit 4000"),
}

func (n *network) findShaper() []string {
	for _, shaper := range shapers {
		device := n.outside(0, peers)
		if run("tc qdisc add dev "+device+" root "+strings.Join(shaper, " ")) == nil {
			_ = run("tc qdisc del dev " + device + " root")
			return shaper
		}
	}
	return nil
}

// lossy makes the links between nodes lose packets. Where tc cannot, links fail
// for moments.
func (n *network) lossy(ctx context.Context, r *rand.Rand, d time.Duration) error {
	if n.shaper == nil {
		return n.flap(ctx, r, d)
	}
	var err error
	for node := range n.nodes {
		err = errors.Join(err, run("tc qdisc add dev "+n.outside(node, peers)+" root "+strings.Join(n.shaper, " ")))
	}
	wait(ctx, d)
	for node := range n.nodes {
		err = errors.Join(err, run("tc qdisc del dev "+n.outside(node, peers)+" root"))
	}
	return err
}

func (n *network) flap(ctx context.Context, r *rand.Rand, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		node := r.IntN(n.nodes)
		err := n.set(node, peers, false)
		wait(ctx, between(r, 20*time.Millisecond, 150*time.Millisecond))
		if err = errors.Join(err, n.set(node, peers, true)); err != nil {
			return err
		}
		wait(ctx, between(r, 20*time.Millisecond, 200*time.Millisecond))
	}
	return nil
}

// run runs commands of words without spaces, until one fails.
func run(commands ...string) error {
	for _, command := range commands {
		words := strings.Fields(command)
		var output bytes.Buffer
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Stdout, cmd.Stderr = &output, &output
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(output.String()))
		}
	}
	return nil
}
