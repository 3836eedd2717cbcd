package keystore

// What is about to happen.

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

// EventKind is what happens.
type EventKind string

// The kinds of events.
const (
	KeyDeletion       EventKind = "key_deletion"        // a key ceases to exist
	MaterialExpiry    EventKind = "material_expiry"     // imported key material expires
	OverlapEnd        EventKind = "overlap_end"         // an alias accepts a former key no more
	ImportTokenExpiry EventKind = "import_token_expiry" // no import token of a wrapping key is good any more
)

// Event is something that will happen to a key.
type Event struct {
	Kind      EventKind
	Time      time.Time
	KeyID     string
	AliasName string // of OverlapEnd
}

// eventSource is where events of some kinds are found: hints below an hour.
type eventSource struct {
	name   string // in cursors
	prefix string
	events func(st *Store, ctx context.Context, s logical.Storage, hour, name string, now time.Time) ([]Event, error)
}

// eventSources are in the order in which they are looked at for each hour.
var eventSources = []eventSource{
	{"due", duePrefix, (*Store).dueEvents},
	{"import", importPrefix, (*Store).importEvents},
	{"overlap", overlapPrefix, (*Store).overlapEvents},
}

// Upcoming returns what is about to happen to the keys and aliases below a
// folder, by the hour, soonest first, and before a time unless that is zero. It
// pages as [Store.Inventory] does; after and next are not for people.
func (st *Store) Upcoming(ctx context.Context, s logical.Storage, folder, after string, before time.Time, limit int, now time.Time) (events []Event, next string, err error) {
	if !isFolder(folder) {
		return nil, "", nil
	}
	e := &effort{Storage: s}
	done, err := st.walks.begin(ctx, folder, e)
	if err != nil {
		return nil, "", err
	}
	defer done()
	hours, sources, err := eventHours(ctx, e, now, before)
	if err != nil {
		return nil, "", err
	}
	afterHour, afterSource, afterName := cutCursor(after)
	last := after
	for _, h := range hours {
		for _, source := range sources[h] {
			from := ""
			switch at := h + "/" + source.name; {
			case at < afterHour+"/"+afterSource:
				continue
			case at == afterHour+"/"+afterSource:
				from = afterName
			}
			if e.spent() || len(events) >= limit {
				return sortEvents(events), last, nil
			}
			w := &walk{effort: e, prefix: source.prefix + h + "/", list: list}
			w.visit = func(ctx context.Context, s logical.Storage, name string) (bool, error) {
				if len(events) >= limit {
					return true, nil
				}
				found, err := source.events(st, ctx, s, h, name, now)
				for _, event := range found {
					if strings.HasPrefix(event.KeyID, folder) || event.AliasName != "" && strings.HasPrefix(event.AliasName, kms.AliasPrefix+folder) {
						if event.Time.After(now) && (before.IsZero() || event.Time.Before(before)) {
							events = append(events, event)
						}
					}
				}
				return false, err
			}
			stopped, err := w.run(ctx, folder, from)
			if err != nil {
				return nil, "", err
			}
			if w.stopped {
				return sortEvents(events), h + "/" + source.name + "/" + stopped, nil
			}
			e.looked++                          // an hour without an event is progress, too
			last = h + "/" + source.name + "/~" // behind all names
		}
	}
	return sortEvents(events), "", nil
}

// cutCursor takes apart what Upcoming has put together.
func cutCursor(cursor string) (hour, source, name string) {
	hour, rest, _ := strings.Cut(cursor, "/")
	source, name, _ = strings.Cut(rest, "/")
	return hour, source, name
}

// eventHours returns the hours from now on in which something may happen,
// sorted, and of which sources there is something in each.
func eventHours(ctx context.Context, s logical.Storage, now, before time.Time) ([]string, map[string][]eventSource, error) {
	sources := map[string][]eventSource{}
	for _, source := range eventSources {
		names, err := list(ctx, s, source.prefix)
		if err != nil {
			return nil, nil, err
		}
		for _, name := range names {
			h := strings.TrimSuffix(name, "/")
			if h >= hour(now) && (before.IsZero() || h <= hour(before)) {
				sources[h] = append(sources[h], source)
			}
		}
	}
	return slices.Sorted(maps.Keys(sources)), sources, nil
}

func sortEvents(events []Event) []Event {
	slices.SortStableFunc(events, func(a, b Event) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.Kind, b.Kind))
	})
	return events
}

// dueEvents are those of a key.
func (st *Store) dueEvents(ctx context.Context, s logical.Storage, h, id string, now time.Time) ([]Event, error) {
	k, err := st.glance(ctx, s, id, now)
	if err != nil || k == nil {
		return nil, err
	}
	var events []Event
	if !k.DeletionDate.IsZero() && hour(k.DeletionDate) == h {
		events = append(events, Event{Kind: KeyDeletion, Time: k.DeletionDate, KeyID: id})
	}
	if _, validTo := k.Expiration(now); !validTo.IsZero() && hour(validTo) == h {
		events = append(events, Event{Kind: MaterialExpiry, Time: validTo, KeyID: id})
	}
	return events, nil
}

// overlapEvents are those of an alias.
func (st *Store) overlapEvents(ctx context.Context, s logical.Storage, h, name string, now time.Time) ([]Event, error) {
	a, err := st.alias(ctx, s, aliasPrefix+name)
	if err != nil || a == nil {
		return nil, err
	}
	accepted, err := st.glanceAccepted(ctx, s, a, now)
	if err != nil {
		return nil, err
	}
	var events []Event
	for _, p := range accepted {
		if hour(p.ValidTo) == h {
			events = append(events, Event{Kind: OverlapEnd, Time: p.ValidTo, KeyID: p.KeyID, AliasName: a.Name})
		}
	}
	return events, nil
}

// importEvents are those of the import tokens of a key.
func (st *Store) importEvents(ctx context.Context, s logical.Storage, h, id string, now time.Time) ([]Event, error) {
	due, err := load[importDue](ctx, s, importPrefix+h+"/"+id)
	if err != nil || due == nil {
		return nil, err
	}
	k, err := st.glance(ctx, s, id, now)
	if err != nil || k == nil || k.State(now) == kms.PendingDeletion {
		return nil, err
	}
	return []Event{{Kind: ImportTokenExpiry, Time: due.Expires, KeyID: id}}, nil
}

// tidyOverlaps forgets the former keys that aliases accept no more.
func (st *Store) tidyOverlaps(ctx context.Context, s logical.Storage, now time.Time) error {
	hours, err := list(ctx, s, overlapPrefix)
	if err != nil {
		return err
	}
	for _, h := range hours {
		if strings.TrimSuffix(h, "/") > hour(now) {
			break
		}
		names, err := collect(ctx, s, overlapPrefix+h)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := st.tidyOverlap(ctx, s, overlapPrefix+h+name, aliasPrefix+name); err != nil {
				return fmt.Errorf("ending an overlap: %w", err)
			}
		}
	}
	return nil
}

func (st *Store) tidyOverlap(ctx context.Context, s logical.Storage, hint, aliasName string) error {
	ctx, w, err := st.begin(ctx, s, aliasName)
	if err != nil {
		return err
	}
	defer w.end()
	now := st.now()
	a, err := st.loadAlias(ctx, s, aliasName)
	if err != nil || a == nil {
		if err == nil {
			err = w.remove(hint)
		}
		return err
	}
	left := slices.DeleteFunc(slices.Clone(a.Previous), func(p PreviousKey) bool { return !now.Before(p.ValidTo) })
	if len(left) < len(a.Previous) {
		changed := *a
		changed.Previous = left
		if err := w.put(a.Name, &changed); err != nil {
			return err
		}
		w.dropOldHints(a, &changed)
	}
	if slices.ContainsFunc(left, func(p PreviousKey) bool { return overlapHint(a, p) == hint }) {
		return nil // later in this hour
	}
	return w.remove(hint)
}

// overlapHint is the name of the hint of the end of an overlap.
func overlapHint(a *Alias, p PreviousKey) string {
	return overlapPrefix + hour(p.ValidTo) + "/" + a.ShortName()
}
