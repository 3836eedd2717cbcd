package main

import (
	"fmt"
	"math/rand/v2"
)

// A client goes on to new keys, aliases and grants every so many operations, so
// that no history gets too long to be checked.
const operationsPerGeneration = 120

// How many things of a kind there are at a time.
const (
	keySlots   = 6 // the last one for imported key material
	aliasSlots = 4
	entities   = 3 // and as many grants
)

// decision is one operation that a client has decided on. It depends on the
// seed, the client and the operation's number alone, never on an answer, so
// that a seed repeats it. What it needs of earlier answers (which grant to
// revoke) is looked up when it is carried out.
type decision struct {
	family, kind string
	generation   int
	name         string // of a new key, which nobody else makes
	slot         int    // which key, alias or entity
	node         int    // that is asked
	short        bool   // the client gives up after a moment
	endpoint     bool   // asked is the endpoint before the node, where it has the operation

	text      string // of a description or tag
	tags      [len(tagNames)]string
	tag       int
	target    int // anchor
	overlap   int
	mustExist string
	message   int
	wrong     bool // MAC to verify
}

// weighted is a kind of operation and how often it comes.
type weighted struct {
	family, kind string
	weight       int
}

var mix = []weighted{
	{"key", "create", 6}, {"key", "describe", 6}, {"key", "enable", 7}, {"key", "disable", 5},
	{"key", "schedule", 3}, {"key", "cancel", 5}, {"key", "tag", 4}, {"key", "untag", 2},
	{"key", "create-new", 3}, {"key", "describe-new", 4}, {"list", "new-keys", 3},
	{"key", "mac", 7}, {"key", "verify", 4}, {"key", "batch", 3},
	{"import", "import", 2}, {"import", "delete-material", 1},
	{"alias", "write", 9}, {"alias", "read", 4}, {"alias", "delete", 2}, {"alias", "mac", 6}, {"alias", "verify", 6},
	{"grant", "create", 4}, {"grant", "revoke", 2}, {"grant", "retire", 1}, {"grant", "use", 6}, {"grant", "token", 1}, {"grant", "list", 2},
	{"list", "keys", 2}, {"list", "key-info", 1}, {"list", "aliases", 2}, {"list", "aliases-of", 2}, {"list", "batch-through-alias", 3},
}

// plan is the decisions of one client.
type plan struct {
	rng    *rand.Rand
	client int
	nodes  int
	count  int
	wrap   int // generations after which names come again, if set
}

func newPlan(seed uint64, client, nodes int) *plan {
	return &plan{rng: rand.New(rand.NewPCG(seed, uint64(client))), client: client, nodes: nodes}
}

// next decides on the next operation. It draws the same numbers whatever the
// kind, which keeps it simple.
func (p *plan) next() decision {
	r := p.rng
	kind := pick(r)
	count := p.count
	if p.wrap > 0 {
		count %= p.wrap * operationsPerGeneration
	}
	d := decision{
		family: kind.family, kind: kind.kind,
		generation: count / operationsPerGeneration,
		name:       fmt.Sprintf("new/%d/%d-%d", count/operationsPerGeneration, p.client, count),
		node:       r.IntN(p.nodes),
		short:      r.IntN(25) == 0,
		endpoint:   r.IntN(3) == 0,
		text:       fmt.Sprint(r.IntN(1000)),
		tag:        r.IntN(len(tagNames)),
		target:     r.IntN(anchors),
		overlap:    r.IntN(3),
		mustExist:  []string{"", "", "true", "false"}[r.IntN(4)],
		message:    r.IntN(8),
		wrong:      r.IntN(4) == 0,
	}
	for i := range d.tags {
		d.tags[i] = []string{"", "x", "y"}[r.IntN(3)]
	}
	slot := r.IntN(1 << 20)
	switch d.family {
	case "key":
		d.slot = slot % keySlots
	case "import":
		d.family, d.slot = "key", keySlots-1
	case "alias", "list":
		d.slot = slot % aliasSlots
	case "grant":
		d.slot = slot % entities
	}
	p.count++
	return d
}

func pick(r *rand.Rand) weighted {
	total := 0
	for _, w := range mix {
		total += w.weight
	}
	n := r.IntN(total)
	for _, w := range mix {
		if n -= w.weight; n < 0 {
			return w
		}
	}
	panic("weights do not add up")
}

// external reports whether the key of a slot is for imported key material.
func external(slot int) bool { return slot == keySlots-1 }

// reads reports whether the operation changes nothing.
func (d decision) reads() bool {
	switch d.kind {
	case "describe", "describe-new", "mac", "verify", "batch", "read", "use", "token":
		return true
	}
	return d.family == "list" || d.family == "grant" && d.kind == "list"
}
