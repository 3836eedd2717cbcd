package kmshmac

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// tidyKeys removes what has ceased to exist: keys whose deletion date has
// passed, with all that hangs on them, and expired key material. It cleans up
// only: that they are gone was visible from the instant on.
func (b *backend) tidyKeys(ctx context.Context, s logical.Storage, now time.Time) error {
	due, err := b.store.dueKeys(ctx, s, now)
	if err != nil {
		return err
	}
	for hint, id := range due {
		if err := b.purgeIfGone(ctx, s, id); err != nil {
			return err
		}
		if err := b.tidyKey(ctx, s, hint, id, now); err != nil {
			return err
		}
	}
	return nil
}

// tidyKey erases expired material of a key that lives on, and drops the hint
// if it has nothing more to say.
func (b *backend) tidyKey(ctx context.Context, s logical.Storage, hint, id string, now time.Time) error {
	defer b.store.lock(keyPrefix + id)()
	k, err := b.store.loadKey(ctx, s, id)
	if err != nil {
		return err
	}
	if k != nil && len(k.Material) > 0 && !k.hasMaterial(now) {
		changed := k.clone()
		changed.dropMaterial()
		if k, err = b.store.saveKey(ctx, s, changed); err != nil {
			return err
		}
	}
	if k != nil && !k.due().IsZero() && hour(k.due()) <= hour(now) {
		return nil // later in this hour
	}
	return remove(ctx, s, hint)
}

// purgeIfGone removes a key whose deletion date has passed: its aliases and
// grants first, its record last, so that a purge cut short is taken up again.
// It is also called before an id is used anew: nothing of the former key may
// then be left to point at the new one.
func (b *backend) purgeIfGone(ctx context.Context, s logical.Storage, id string) error {
	// Who gives the key another alias meanwhile needs the key's lock, and the
	// aliases' locks must be taken together with it. Hence: look, lock, and
	// look again.
	var locked []string
	for {
		done, aliases, err := b.purgeLocked(ctx, s, id, locked)
		if err != nil || done {
			return err
		}
		locked = aliases
	}
}

// purgeLocked purges the key if no alias points at it but those named, whose
// locks it takes. Otherwise it returns the aliases to name.
func (b *backend) purgeLocked(ctx context.Context, s logical.Storage, id string, named []string) (done bool, aliases []string, err error) {
	storageKeys := []string{keyPrefix + id}
	for _, name := range named {
		storageKeys = append(storageKeys, aliasPrefix+name)
	}
	defer b.store.lock(storageKeys...)()

	k, err := b.store.loadKey(ctx, s, id)
	if err != nil || k == nil || !k.gone(b.now()) {
		return true, nil, err
	}
	names, err := b.store.aliasHints(ctx, s, id)
	if err != nil {
		return true, nil, err
	}
	for _, name := range names {
		if !slices.Contains(named, name) {
			return false, names, nil
		}
	}
	for _, name := range names {
		if err := b.purgeAlias(ctx, s, id, name); err != nil {
			return true, nil, err
		}
	}
	if err := b.purgeGrants(ctx, s, id); err != nil {
		return true, nil, err
	}
	if err := b.store.usages.forget(ctx, s, id); err != nil {
		return true, nil, err
	}
	return true, nil, b.store.removeKey(ctx, s, id)
}

// purgeAlias removes an alias that points at a key, or the hint alone where it
// points elsewhere by now.
func (b *backend) purgeAlias(ctx context.Context, s logical.Storage, keyID, name string) error {
	a, err := b.store.loadAlias(ctx, s, aliasPrefix+name)
	if err != nil {
		return err
	}
	if a != nil && a.TargetKeyID == keyID {
		return b.store.removeAlias(ctx, s, a)
	}
	return b.store.dropAliasHint(ctx, s, keyID, name)
}
