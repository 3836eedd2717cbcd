package keystore

// All that there is to know of a folder's keys.

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

// maxInventoryBytes bounds the texts on one page: descriptions and tags of a
// single key can have 30 kB.
const maxInventoryBytes = 512 << 10

// InventoryItem is a key with all that belongs to it.
type InventoryItem struct {
	*Key
	// Aliases are the names, with their prefix, of the aliases that point at the
	// key, and AcceptedBy those that have left it and still accept its MACs.
	Aliases    []string
	AcceptedBy []Acceptance
	LastUse    LastUse
	Grants     int
}

// Acceptance is an alias that accepts the MACs of a key it has left.
type Acceptance struct {
	AliasName string
	ValidTo   time.Time
}

// InventoryFilter says which keys are wanted. The zero value is all; of several
// conditions all must hold.
type InventoryFilter struct {
	State        kms.KeyState
	Spec         kms.KeySpec
	Origin       string
	TagKey       string
	TagValue     *string // of TagKey; nil is any
	Alias        string  // with its prefix: keys that it points at or accepts
	HasAlias     *bool
	UnusedSince  time.Time // not used since, or never
	NeverUsed    bool
	DeletedBy    time.Time // pending deletion, and gone by then
	MaterialEnds time.Time // with key material that has expired by then
}

// key reports whether the key itself is wanted, which takes no storage call.
func (f *InventoryFilter) key(k *Key, now time.Time) bool {
	value, tagged := k.Tags[f.TagKey]
	_, validTo := k.Expiration(now)
	return (f.State == "" || f.State == k.State(now)) &&
		(f.Spec == "" || f.Spec == k.Spec) &&
		(f.Origin == "" || f.Origin == k.Origin) &&
		(f.TagKey == "" || tagged && (f.TagValue == nil || *f.TagValue == value)) &&
		(f.DeletedBy.IsZero() || !k.DeletionDate.IsZero() && !k.DeletionDate.After(f.DeletedBy)) &&
		(f.MaterialEnds.IsZero() || !validTo.IsZero() && !validTo.After(f.MaterialEnds))
}

func (f *InventoryFilter) use(u LastUse) bool {
	return (!f.NeverUsed || u.Never()) && (f.UnusedSince.IsZero() || u.Never() || u.Time().Before(f.UnusedSince))
}

func (f *InventoryFilter) aliases(item *InventoryItem) bool {
	if f.HasAlias != nil && *f.HasAlias != (len(item.Aliases) > 0) {
		return false
	}
	return f.Alias == "" || slices.Contains(item.Aliases, f.Alias) ||
		slices.ContainsFunc(item.AcceptedBy, func(a Acceptance) bool { return a.AliasName == f.Alias })
}

// Inventory returns keys below a folder, which ends in a slash or is "" for the
// whole mount, at any depth, sorted by id: those behind after, at most limit,
// that the filter wants. next is what to pass as after for the next page, "" on
// the last. A page may have fewer than limit, even none, and not be the last:
// one call does a bounded amount of work, whatever there is.
func (st *Store) Inventory(ctx context.Context, s logical.Storage, folder, after string, limit int, f InventoryFilter, now time.Time) (items []InventoryItem, next string, err error) {
	if !isFolder(folder) {
		return nil, "", nil
	}
	e := &effort{Storage: s}
	done, err := st.walks.begin(ctx, folder, e)
	if err != nil {
		return nil, "", err
	}
	defer done()
	size := 0
	w := &walk{effort: e, prefix: keyPrefix, list: st.listNames}
	w.visit = func(ctx context.Context, s logical.Storage, id string) (bool, error) {
		k, err := st.glance(ctx, s, id, now)
		if err != nil || k == nil || !f.key(k, now) {
			return false, err
		}
		if len(items) == limit || size > maxInventoryBytes {
			return true, nil
		}
		item, err := st.inventoryItem(ctx, s, k, &f, now)
		if item != nil {
			items = append(items, *item)
			size += item.size()
		}
		return false, err
	}
	if limit > 1 && !st.cachingDisabled() {
		w.ahead = func(ctx context.Context, s logical.Storage, id string) {
			// An error is met again when it is the key's turn.
			if k, err := st.glance(ctx, s, id, now); err == nil && k != nil && f.key(k, now) {
				_, _ = st.inventoryItem(ctx, s, k, &f, now)
			}
		}
	}
	if ids, ok, err := st.keysOfAlias(ctx, w.effort, folder, after, f.Alias); ok || err != nil {
		for _, id := range ids {
			if err := w.look(ctx, id); err != nil {
				return nil, "", err
			}
		}
		return items, "", err
	}
	next, err = w.run(ctx, folder, after)
	return items, next, err
}

// keysOfAlias returns the few keys that an alias can lead to, so that they need
// not be looked for. ok is false where that would tell a team whether there is
// such an alias in another team's folder.
func (st *Store) keysOfAlias(ctx context.Context, s logical.Storage, folder, after, name string) (ids []string, ok bool, err error) {
	if name == "" || folder != "" && kms.Folder(name) != kms.Folder(folder+"x") {
		return nil, false, nil
	}
	a, err := st.alias(ctx, s, name)
	if err != nil || a == nil {
		return nil, true, err
	}
	for _, id := range a.keys() {
		if strings.HasPrefix(id, folder) && id > after {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), true, nil
}

// glanceAccepted is PreviousKeys for one of many aliases.
func (st *Store) glanceAccepted(ctx context.Context, s logical.Storage, a *Alias, now time.Time) ([]PreviousKey, error) {
	return accepted(ctx, s, a, now, st.Settings, func(id string) (*keyRecord, error) {
		k, err := st.glance(ctx, s, id, now)
		if k == nil {
			return nil, err
		}
		return k.record, err
	})
}

// isFolder reports whether keys can lie in a folder. Vault's storage would not
// like other names.
func isFolder(folder string) bool {
	name, ok := strings.CutSuffix(folder, "/")
	return folder == "" || ok && kms.CheckKeyID(name) == nil
}

// inventoryItem gathers what belongs to a key; nil if the filter does not want
// it.
func (st *Store) inventoryItem(ctx context.Context, s logical.Storage, k *Key, f *InventoryFilter, now time.Time) (*InventoryItem, error) {
	item := &InventoryItem{Key: k}
	var err error
	if item.LastUse, err = st.LastUse(ctx, s, k); err != nil || !f.use(item.LastUse) {
		return nil, err
	}
	if err := st.addAliases(ctx, s, item, now); err != nil || !f.aliases(item) {
		return nil, err
	}
	item.Grants, err = st.countGrants(ctx, s, k.ID)
	return item, err
}

func (st *Store) addAliases(ctx context.Context, s logical.Storage, item *InventoryItem, now time.Time) error {
	names, err := st.knownAliasHints(ctx, s, item.ID)
	if err != nil {
		return err
	}
	for _, name := range names {
		a, err := st.alias(ctx, s, aliasPrefix+name)
		switch {
		case err != nil:
			return err
		case a == nil:
		case a.TargetKeyID == item.ID:
			item.Aliases = append(item.Aliases, a.Name)
		default:
			accepted, err := st.glanceAccepted(ctx, s, a, now)
			if err != nil {
				return err
			}
			for _, p := range accepted {
				if p.KeyID == item.ID {
					item.AcceptedBy = append(item.AcceptedBy, Acceptance{a.Name, p.ValidTo})
				}
			}
		}
	}
	return nil
}

// size is about how many bytes the texts of an item have.
func (i *InventoryItem) size() int {
	n := 512 + len(i.Description)
	for key, value := range i.Tags {
		n += len(key) + len(value) + 8
	}
	for _, alias := range i.Aliases {
		n += len(alias) + 4
	}
	return n + 320*len(i.AcceptedBy)
}

// Details returns what belongs to one key.
func (st *Store) Details(ctx context.Context, s logical.Storage, k *Key, now time.Time) (*InventoryItem, error) {
	return st.inventoryItem(ctx, s, k, &InventoryFilter{}, now)
}
