package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// network is a namespace for each node, with one link for clients and one for
// the other nodes. A bridge joins the links of a sort. It takes root, ip of
// iproute2, and for lossy links nft of nftables.
type network struct {
	prefix string // of all names: interface names have at most 15 characters
	subnet int
	nodes  int
	noLoss error // why links cannot be made lossy, if they cannot
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
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, err
	}
	n := &network{prefix: fmt.Sprintf("kc%d", os.Getpid()%100000), subnet: os.Getpid() % 200, nodes: nodes}
	if err := n.make(); err != nil {
		n.remove()
		return nil, err
	}
	n.noLoss = n.tryLoss()
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

// ruleset is the nftables table in a node's namespace that drops packets.
const ruleset = "inet chaos"

// nft runs a command of nftables in the namespace of a node.
func (n *network) nft(node int, command string) error {
	return run("ip netns exec " + n.namespace(node) + " nft " + command)
}

// lose has a node drop a share of the packets that come in by some links, in
// percent. It is done by a packet filter, since not every kernel has netem.
func (n *network) lose(node, percent int, links ...link) error {
	err := errors.Join(
		n.nft(node, "add table "+ruleset),
		n.nft(node, "add counter "+ruleset+" lost"),
		n.nft(node, "add chain "+ruleset+" in { type filter hook input priority 0 ; }"),
	)
	for _, l := range links {
		err = errors.Join(err, n.nft(node, fmt.Sprintf("add rule %s in iifname %s numgen random mod 100 < %d counter name lost drop",
			ruleset, n.inside(node, l), percent)))
	}
	return err
}

// loseNone takes back what lose did, and returns how many packets were lost.
func (n *network) loseNone(node int) (lost int, err error) {
	out, err := exec.Command("ip", "netns", "exec", n.namespace(node), "nft", "-j", "list", "counters", "table", "inet", "chaos").Output()
	if err == nil {
		lost, err = packetsOf(out)
	}
	return lost, errors.Join(err, n.nft(node, "delete table "+ruleset))
}

// packetsOf reads the packets of the first counter in a list of nftables.
func packetsOf(list []byte) (int, error) {
	var answer struct {
		Nftables []struct {
			Counter *struct{ Packets int }
		}
	}
	if err := json.Unmarshal(list, &answer); err != nil {
		return 0, err
	}
	for _, item := range answer.Nftables {
		if item.Counter != nil {
			return item.Counter.Packets, nil
		}
	}
	return 0, errors.New("nftables lists no counter")
}

// tryLoss reports why links cannot be made lossy here.
func (n *network) tryLoss() error {
	if _, err := exec.LookPath("nft"); err != nil {
		return err
	}
	err := n.lose(0, 1, peers)
	_, gone := n.loseNone(0)
	return errors.Join(err, gone)
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
