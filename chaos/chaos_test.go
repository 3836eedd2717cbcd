package main

import (
	"math"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// TestShortRound is a run of those faults that take little time. "make chaos"
// is a longer one of all.
func TestShortRound(t *testing.T) {
	o := options{
		seed: uint64(time.Now().UnixNano()), length: 12 * time.Second, least: 200, clients: 8, pause: 2 * time.Millisecond,
		faults: []string{"kill the active node", "kill the plugin", "pause the active node", "give up writes that standbys hold up", "step down"},
		plugin: testvault.EngineFor(t, kmshmac.Version), // skips with -short
		out:    testWriter{t},
	}
	r, err := execute(t.Context(), o)
	if err != nil {
		t.Fatalf("seed %d: %v", o.seed, err)
	}
	var figures strings.Builder
	r.print(&figures)
	r.complain(&figures)
	t.Log("\n" + figures.String())
	if len(r.Findings)+len(r.Undecided) > 0 {
		t.Errorf("seed %d: %d findings, %d histories undecided", o.seed, len(r.Findings), len(r.Undecided))
	}
	// A run in which hardly anything happened has shown nothing.
	if r.Writes < o.least || r.MACs < 2*batchSize || len(r.Faults) == 0 {
		t.Errorf("only %d writes, %d MACs, faults %v", r.Writes, r.MACs, r.Faults)
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(line []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(line), "\n"))
	return len(line), nil
}

// TestSeedRepeats: the same seed gives the same decisions, another one others.
func TestSeedRepeats(t *testing.T) {
	decide := func(seed uint64, client int) []decision {
		p := newPlan(seed, client, 3)
		decisions := make([]decision, 1000)
		for i := range decisions {
			decisions[i] = p.next()
		}
		return decisions
	}
	first := decide(1, 2)
	if !reflect.DeepEqual(first, decide(1, 2)) {
		t.Error("a seed does not repeat a client's decisions")
	}
	if reflect.DeepEqual(first, decide(1, 3)) || reflect.DeepEqual(first, decide(2, 2)) {
		t.Error("two clients, or two seeds, decide the same")
	}
	kinds := map[string]bool{}
	for _, d := range first {
		kinds[d.family+" "+d.kind] = true
	}
	if len(kinds) < len(mix) {
		t.Errorf("only %d kinds of operations of %d", len(kinds), len(mix))
	}

	inflict := func(seed uint64) (names []string, times []time.Duration) {
		p := newFaultPlan(seed, nil, lossyLinks)
		for range 3 * len(faultKinds) {
			kind, calm, rng := p.next()
			names, times = append(names, kind.name), append(times, calm, time.Duration(rng.Int64()))
		}
		return names, times
	}
	names, times := inflict(7)
	if again, at := inflict(7); !reflect.DeepEqual(names, again) || !reflect.DeepEqual(times, at) {
		t.Error("a seed does not repeat the faults")
	}
	if other, _ := inflict(8); reflect.DeepEqual(names, other) {
		t.Error("two seeds give the same faults")
	}
}

// TestModels: what the models take for right, and what not. Operations follow
// each other unless they say otherwise.
func TestModels(t *testing.T) {
	key := keyState{exists: true, material: true}
	created := func(s keyState) [2]any { return [2]any{keyOp{kind: "create", value: s}, keyResult{}} }
	move := func(target, overlap int) [2]any {
		return [2]any{aliasOp{kind: "write", target: target, overlap: overlap}, aliasResult{}}
	}
	lost := [2]any{keyOp{kind: "disable"}, keyResult{unknown: true}}
	mac := [2]any{keyOp{kind: "mac"}, keyResult{}}
	noMac := [2]any{keyOp{kind: "mac"}, keyResult{exception: isDisabled}}
	for name, c := range map[string]struct {
		model   porcupine.Model
		history [][2]any
		right   bool
	}{
		"a key's life":     {keyModel, [][2]any{created(key), mac, {keyOp{kind: "disable"}, keyResult{}}, noMac}, true},
		"a lost create":    {keyModel, [][2]any{created(key), {keyOp{kind: "describe"}, keyResult{exception: absent}}}, false},
		"a lost disable":   {keyModel, [][2]any{created(key), {keyOp{kind: "disable"}, keyResult{}}, mac}, false},
		"an open disable":  {keyModel, [][2]any{created(key), lost, mac, mac, noMac}, true},
		"disable and back": {keyModel, [][2]any{created(key), lost, noMac, mac}, false},
		"a lost tag": {keyModel, [][2]any{created(key), {keyOp{kind: "tag", text: "x"}, keyResult{}},
			{keyOp{kind: "describe"}, keyResult{state: "Enabled", metadata: &keyState{}}}}, false},
		"a lost cancel": {keyModel, [][2]any{created(key), {keyOp{kind: "schedule"}, keyResult{}}, {keyOp{kind: "cancel"}, keyResult{}},
			{keyOp{kind: "describe"}, keyResult{state: "PendingDeletion"}}}, false},
		"an overlap":                 {aliasModel, [][2]any{move(0, 0), move(1, overlapHour), {aliasOp{kind: "verify", target: 0}, aliasResult{}}}, true},
		"a lost overlap":             {aliasModel, [][2]any{move(0, 0), move(1, overlapHour), {aliasOp{kind: "verify", target: 0}, aliasResult{exception: invalidMac}}}, false},
		"no overlap":                 {aliasModel, [][2]any{move(0, 0), move(1, 0), {aliasOp{kind: "verify", target: 0}, aliasResult{}}}, false},
		"an alias gone for a moment": {aliasModel, [][2]any{move(0, 0), {aliasOp{kind: "mac"}, aliasResult{exception: notFound}}}, false},
		"an alias that went back":    {aliasModel, [][2]any{move(0, 0), move(1, 0), {aliasOp{kind: "mac"}, aliasResult{key: 0}}}, false},
		"a grant": {grantModel, [][2]any{{grantOp{kind: "create"}, grantResult{id: "x"}}, {grantOp{kind: "use"}, grantResult{}},
			{grantOp{kind: "revoke", id: "x"}, grantResult{}}, {grantOp{kind: "use"}, grantResult{exception: denied}}}, true},
		"a lost revoke": {grantModel, [][2]any{{grantOp{kind: "create"}, grantResult{id: "x"}}, {grantOp{kind: "revoke", id: "x"}, grantResult{}},
			{grantOp{kind: "use"}, grantResult{}}}, false},
		"a grant nobody was told of": {grantModel, [][2]any{{grantOp{kind: "create"}, grantResult{unknown: true}}, {grantOp{kind: "use"}, grantResult{}},
			{grantOp{kind: "token", id: "y"}, grantResult{}}, {grantOp{kind: "revoke", id: "y"}, grantResult{}}, {grantOp{kind: "use"}, grantResult{exception: denied}}}, true},
		"two grants of one name": {grantModel, [][2]any{{grantOp{kind: "create"}, grantResult{id: "x"}}, {grantOp{kind: "create"}, grantResult{id: "y"}}}, false},
	} {
		var operations []porcupine.Operation
		for i, step := range c.history {
			end := int64(2*i + 1)
			switch result := step[1].(type) {
			case keyResult:
				if result.unknown {
					end = math.MaxInt64
				}
			case grantResult:
				if result.unknown {
					end = math.MaxInt64
				}
			}
			operations = append(operations, porcupine.Operation{Input: step[0], Output: step[1], Call: int64(2 * i), Return: end})
		}
		if got := porcupine.CheckOperations(c.model, operations); got != c.right {
			t.Errorf("%s: linearizable is %v", name, got)
		}
	}
}

// TestLists: what a list may show of an alias, and what not.
func TestLists(t *testing.T) {
	write := func(call, end int64) porcupine.Operation {
		return porcupine.Operation{Input: aliasOp{kind: "write", target: 1}, Output: aliasResult{unknown: end == never}, Call: call, Return: end}
	}
	remove := func(call, end int64) porcupine.Operation {
		return porcupine.Operation{Input: aliasOp{kind: "delete"}, Output: aliasResult{}, Call: call, Return: end}
	}
	read := func(call, end int64, there bool) porcupine.Operation {
		result := aliasResult{exception: absent}
		if there {
			result = aliasResult{shown: &aliasState{exists: true, target: 1}}
		}
		return porcupine.Operation{Input: aliasOp{kind: "read"}, Output: result, Call: call, Return: end}
	}
	refused := porcupine.Operation{Input: aliasOp{kind: "write"}, Output: aliasResult{exception: exists}, Call: 1, Return: 2}
	for name, c := range map[string]struct {
		writes          []porcupine.Operation
		shown, notShown bool // is all right, by a list from 10 to 20
	}{
		"nothing":                        {nil, false, true},
		"refused":                        {[]porcupine.Operation{refused}, false, true},
		"made before":                    {[]porcupine.Operation{write(1, 5)}, true, false},
		"made meanwhile":                 {[]porcupine.Operation{write(12, 15)}, true, true},
		"begun before":                   {[]porcupine.Operation{write(1, 15)}, true, true},
		"made afterwards":                {[]porcupine.Operation{write(21, 25)}, false, true},
		"of unknown end":                 {[]porcupine.Operation{write(1, never)}, true, true},
		"removed before":                 {[]porcupine.Operation{write(1, 2), remove(3, 4)}, false, true},
		"removed meanwhile":              {[]porcupine.Operation{write(1, 2), remove(3, 14)}, true, true},
		"removed and made":               {[]porcupine.Operation{write(1, 2), remove(3, 4), write(5, 6)}, true, false},
		"of unknown end, and read":       {[]porcupine.Operation{write(1, never), read(3, 4, true)}, true, false},
		"of unknown end, and read later": {[]porcupine.Operation{write(1, never), read(3, 11, true)}, true, true},
		"read and removed":               {[]porcupine.Operation{write(1, 2), read(3, 4, true), remove(5, 6), read(7, 8, false)}, false, true},
		"read while removed":             {[]porcupine.Operation{write(1, 2), remove(3, 12), read(4, 5, true)}, true, true},
		"unknown, then removed":          {[]porcupine.Operation{write(1, never), remove(3, 4)}, true, true},
	} {
		h := newHistory()
		e := entity{"alias", "a"}
		h.operations[e] = c.writes
		for _, there := range []bool{true, false} {
			h.listed[e] = nil
			h.observe(e, observation{call: 10, end: 20, fits: func(state any) bool { return state.(aliasState).exists == there }})
			want := c.shown
			if !there {
				want = c.notShown
			}
			if got := len(h.checkLists(e)) == 0; got != want {
				t.Errorf("%s: that a list shows it (%v) is right: %v", name, there, got)
			}
		}
	}
}

// TestNetwork makes the namespaces, loses packets, cuts and mends a link, and removes them.
func TestNetwork(t *testing.T) {
	n, err := newNetwork(3)
	if err != nil {
		if os.Geteuid() == 0 {
			t.Logf("as root: %v", err)
		}
		t.Skipf("no network faults here: %v", err)
	}
	defer n.remove()
	ping := func() error {
		return run("ip netns exec " + n.namespace(0) + " bash -c true") // the namespace is there
	}
	if err := ping(); err != nil {
		t.Fatal(err)
	}
	for _, up := range []bool{false, true} {
		if err := n.set(1, peers, up); err != nil {
			t.Fatal(err)
		}
	}
	if n.noLoss != nil {
		t.Logf("no lossy links here: %v", n.noLoss)
	} else {
		requireLoss(t, n)
	}
	n.remove()
	if ping() == nil {
		t.Error("a namespace is left over")
	}
}

// requireLoss sends datagrams to a node of which it must lose some, and none
// afterwards.
func requireLoss(t *testing.T, n *network) {
	t.Helper()
	const sent = 1000
	send := func() {
		conn, err := net.Dial("udp", n.address(peers, 11)+":9")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range sent {
			_, _ = conn.Write([]byte("x")) // nobody listens, which the next one may be told
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, percent := range []int{30, 0} {
		if err := n.lose(1, percent, peers); err != nil {
			t.Fatal(err)
		}
		send()
		lost, err := n.loseNone(1)
		if err != nil {
			t.Fatal(err)
		}
		if low, high := sent*(percent-percent/3)/100, sent*(percent+percent/3)/100; lost < low || lost > high {
			t.Errorf("of %d packets %d were lost with a loss of %d %%", sent, lost, percent)
		}
		if _, err := n.loseNone(1); err == nil {
			t.Error("the packet filter is left over")
		}
	}
}
