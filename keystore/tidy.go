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
// locks it takes. Otherwise it returns the aliases to name.
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
	names, err := st.aliasHints(ctx, s, id)
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
	if err := w.purgeGrants(id); err != nil {
		return true, nil, err
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
	hours, err := list(ctx, s, duePrefix)
	if err != nil {
		return nil, err
	}
	due := map[string]string{}
	for _, h := range hours {
		if strings.TrimSuffix(h, "/") > hour(now) {
			continue
		}
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

// goneKeys returns the ids of keys whose deletion date has passed and whose
// record is still there. There are hardly ever any: the tidy is never far
// behind.
func (st *Store) goneKeys(ctx context.Context, s logical.Storage, now time.Time) ([]string, error) {
	due, err := st.dueKeys(ctx, s, now)
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, id := range due {
		k, err := peekKey(ctx, s, id)
		if err != nil {
			return nil, err
		}
		if k != nil && k.gone(now) {
			gone = append(gone, id)
		}
	}
	return gone, nil
}
