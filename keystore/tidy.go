package keystore

// What happens late: the removal of what has ceased to exist.

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// tidyKeys removes what has ceased to exist: keys whose deletion date has
// passed, with all that hangs on them, and expired key material. It cleans up
// only: that they are gone was visible from the instant on.
func (st *Store) tidyKeys(ctx context.Context, s logical.Storage, now time.Time) error {
	due, err := st.dueKeys(ctx, s, now)
	if err != nil {
		return err
	}
	for hint, id := range due {
		if err := st.purgeIfGone(ctx, s, id); err != nil {
			return err
		}
		if err := st.tidyKey(ctx, s, hint, id, now); err != nil {
			return err
		}
	}
	return nil
}

// tidyKey erases expired material of a key that lives on, and drops the hint
// if it has nothing more to say.
func (st *Store) tidyKey(ctx context.Context, s logical.Storage, hint, id string, now time.Time) error {
	ctx, w, err := st.begin(ctx, s, keyPrefix+id)
	if err != nil {
		return err
	}
	defer w.end()
	k, err := st.loadKey(ctx, s, id)
	if err != nil {
		return err
	}
	if k != nil && len(k.record.Material) > 0 && !k.record.hasMaterial(now) {
		changed := k.record.clone()
		changed.dropMaterial()
		if k, err = w.saveKey(changed); err != nil {
			return err
		}
		w.tell(nil, Notice{Kind: MaterialExpired, KeyID: id})
	}
	if k != nil && !k.record.due().IsZero() && hour(k.record.due()) <= hour(now) {
		return nil // later in this hour
	}
	return w.remove(hint)
}

// purgeIfGone removes a key whose deletion date has passed: its aliases and
// grants first, its record last, so that a purge cut short is taken up again.
// It is also called before an id is used anew: nothing of the former key may
// then be left to point at the new one.
func (st *Store) purgeIfGone(ctx context.Context, s logical.Storage, id string) error {
	// Who gives the key another alias meanwhile needs the key's lock, and the
	// aliases' locks must be taken together with it. Hence: look, lock, and
	// look again.
	var locked []string
	for {
		done, aliases, err := st.purgeLocked(ctx, s, id, locked)
		if err != nil || done {
			return err
		}
		locked = aliases
	}
}

// purgeLocked purges the key if no alias points at it but those named, whose
// locks it takes, and if it has not too many grants for one time. Otherwise it
// returns the aliases to name the next time.
func (st *Store) purgeLocked(ctx context.Context, s logical.Storage, id string, named []string) (done bool, aliases []string, err error) {
	storageKeys := []string{keyPrefix + id}
	for _, name := range named {
		storageKeys = append(storageKeys, aliasPrefix+name)
	}
	ctx, w, err := st.begin(ctx, s, storageKeys...)
	if err != nil {
		return true, nil, err
	}
	defer w.end()

	k, err := st.loadKey(ctx, s, id)
	if err != nil || k == nil || !k.record.gone(st.now()) {
		return true, nil, err
	}
	names, err := st.aliasHints(ctx, s, id, "")
	if err != nil {
		return true, nil, err
	}
	for _, name := range names {
		if !slices.Contains(named, name) {
			return false, names, nil
		}
	}
	for _, name := range names {
		if err := w.purgeAlias(id, name); err != nil {
			return true, nil, err
		}
	}
	if done, err := w.purgeGrants(id); err != nil || !done {
		return err != nil, names, err
	}
	if err := w.forgetUsage(id); err != nil {
		return true, nil, err
	}
	err = w.remove(keyPrefix + id)
	w.tell(err, Notice{Kind: KeyDeleted, KeyID: id})
	return true, nil, err
}

// purgeAlias removes an alias that points at a key, or the hint alone where it
// points elsewhere by now.
func (w *write) purgeAlias(keyID, name string) error {
	a, err := w.st.loadAlias(w.ctx, w.s, aliasPrefix+name)
	if err != nil {
		return err
	}
	if a != nil && a.TargetKeyID == keyID {
		return w.removeAlias(a)
	}
	return w.dropAliasHint(keyID, name)
}

// dueKeys returns the hints of keys that may have something to tidy by now:
// key ids by their storage keys.
func (st *Store) dueKeys(ctx context.Context, s logical.Storage, now time.Time) (map[string]string, error) {
	hours, err := dueHours(ctx, s, now)
	if err != nil {
		return nil, err
	}
	due := map[string]string{}
	for _, h := range hours {
		ids, err := collect(ctx, s, duePrefix+h)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			due[duePrefix+h+id] = id
		}
	}
	return due, nil
}

// dueHours returns the hours, each with a slash, in which something is due by
// now.
func dueHours(ctx context.Context, s logical.Storage, now time.Time) ([]string, error) {
	hours, err := list(ctx, s, duePrefix)
	return slices.DeleteFunc(hours, func(h string) bool { return strings.TrimSuffix(h, "/") > hour(now) }), err
}

// goneKeys returns the ids of keys in a folder, "" for all, whose deletion date
// has passed and whose record is still there; deep says whether folders below
// count. There are hardly ever any, since the tidy is never far behind, but many
// may be due later in this hour. What it reads does not depend on other folders.
func (st *Store) goneKeys(ctx context.Context, s logical.Storage, folder string, deep bool, now time.Time) ([]string, error) {
	hours, err := dueHours(ctx, s, now)
	if err != nil {
		return nil, err
	}
	names := list
	if deep {
		names = collect
	}
	var gone []string
	for _, h := range hours {
		due, err := names(ctx, s, duePrefix+h+folder)
		if err != nil {
			return nil, err
		}
		for _, name := range due {
			if strings.HasSuffix(name, "/") {
				continue
			}
			r, err := st.glanceRecord(ctx, s, folder+name)
			if err != nil {
				return nil, err
			}
			if r != nil && r.gone(now) {
				gone = append(gone, r.ID)
			}
		}
	}
	return gone, nil
}
