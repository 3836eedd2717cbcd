package keystore

// Aliases: second, movable names of keys.

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

const (
	aliasRecordVersion = 1

	// maxPreviousKeys bounds the work of one verification.
	maxPreviousKeys = 4

	// maxAliasHints bounds how many aliases are looked at for a key.
	maxAliasHints = 2 * kms.MaxAliasesPerKey
)

// Alias is the stored record of an alias. Like key records it is shared by the
// cache and never changed.
type Alias struct {
	Version         int           `json:"version"`
	Name            string        `json:"name"` // with its alias/ prefix
	TargetKeyID     string        `json:"target_key_id"`
	Previous        []PreviousKey `json:"previous,omitempty"` // also those no longer accepted: see Store.PreviousKeys
	CreationDate    time.Time     `json:"creation_date"`
	LastUpdatedDate time.Time     `json:"last_updated_date"`
}

// PreviousKey is a former target of an alias, whose MACs VerifyMac accepts
// through the alias until ValidTo.
type PreviousKey struct {
	KeyID   string    `json:"key_id"`
	Left    time.Time `json:"left"` // when the alias was moved away from it
	ValidTo time.Time `json:"valid_to"`
}

// ShortName returns the name without its alias/ prefix.
func (a *Alias) ShortName() string { return strings.TrimPrefix(a.Name, kms.AliasPrefix) }

// keys returns the ids of the key that the alias points at, and of those that it
// has left.
func (a *Alias) keys() []string {
	ids := []string{a.TargetKeyID}
	for _, p := range a.Previous {
		ids = append(ids, p.KeyID)
	}
	return ids
}

// moved returns the alias pointing at another key. The key it leaves is
// accepted for the overlap; without one, no former key is accepted any more,
// since whoever moves an alias at once, away from a leaked key say, means it. The
// alias has no previous keys but those still accepted.
func (a *Alias) moved(target string, overlap time.Duration, now time.Time) (*Alias, error) {
	c := *a
	c.TargetKeyID, c.Previous, c.LastUpdatedDate = target, nil, now
	if overlap == 0 {
		return &c, nil
	}
	for _, p := range append(slices.Clone(a.Previous), PreviousKey{a.TargetKeyID, now, now.Add(overlap)}) {
		if p.KeyID != target {
			c.Previous = append(c.Previous, p)
		}
	}
	if len(c.Previous) > maxPreviousKeys {
		return nil, kms.Validationf("%s would accept %d previous keys, more than %d: move it without overlap, or wait for one to end", a.Name, len(c.Previous), maxPreviousKeys)
	}
	return &c, nil
}

// Alias returns the alias of this name, prefix included, and the key it points
// at; both nil if there is no such alias, or its key is gone and the alias with
// it.
func (st *Store) Alias(ctx context.Context, s logical.Storage, name string, now time.Time) (*Alias, *Key, error) {
	a, err := st.alias(ctx, s, name)
	if err != nil || a == nil {
		return nil, nil, err
	}
	k, err := st.Key(ctx, s, a.TargetKeyID, now)
	if err != nil || k == nil {
		return nil, nil, err
	}
	return a, k, nil
}

// alias returns the record of an alias; nil if there is none.
func (st *Store) alias(ctx context.Context, s logical.Storage, name string) (*Alias, error) {
	if a, ok := st.aliases.Get(name); ok {
		return a, nil
	}
	if kms.CheckAliasName(name) != nil {
		return nil, nil
	}
	defer st.readLock(name)()
	return st.loadAlias(ctx, s, name)
}

// Resolve returns the key that a key id or an alias with its alias/ prefix
// names. A name that stands for no key is an exception.
func (st *Store) Resolve(ctx context.Context, s logical.Storage, name string, now time.Time) (*Key, error) {
	k, _, err := st.resolve(ctx, s, name, now)
	return k, err
}

// ResolveWithPrevious is Resolve for verification: previous are, of an alias,
// the former keys that still verify.
func (st *Store) ResolveWithPrevious(ctx context.Context, s logical.Storage, name string, now time.Time) (k *Key, previous []*Key, err error) {
	k, a, err := st.resolve(ctx, s, name, now)
	if err != nil || a == nil {
		return k, nil, err
	}
	previous, err = st.previousKeys(ctx, s, a, now)
	return k, previous, err
}

func (st *Store) resolve(ctx context.Context, s logical.Storage, name string, now time.Time) (*Key, *Alias, error) {
	if strings.HasPrefix(name, kms.AliasPrefix) {
		a, k, err := st.aliasInScope(ctx, s, name, now)
		if err == nil && a == nil {
			err = kms.AliasNotFound(name)
		}
		return k, a, err
	}
	k, err := st.Key(ctx, s, name, now)
	if err == nil && k == nil {
		if err = kms.CheckKeyID(name); err == nil {
			err = kms.KeyNotFound(name)
		}
	}
	return k, nil, err
}

// aliasInScope is Alias for who wants to use its key. An alias to a key of
// another folder, which the mount's settings do not allow any more, is an
// exception: the settings may have changed since it was written.
func (st *Store) aliasInScope(ctx context.Context, s logical.Storage, name string, now time.Time) (*Alias, *Key, error) {
	a, k, err := st.Alias(ctx, s, name, now)
	if err != nil || a == nil {
		return nil, nil, err
	}
	ok, err := inScope(ctx, s, name, k.ID, st.Settings)
	if err == nil && !ok {
		err = kms.Validationf("%s points at a key of another folder, which alias_scope=folder in config does not allow: move it to a key of its own folder", name)
	}
	if err != nil {
		return nil, nil, err
	}
	return a, k, nil
}

// settingsReader is Settings, or peekSettings.
type settingsReader func(ctx context.Context, s logical.Storage) (Settings, error)

// inScope reports whether an alias may stand for a key. KMS asks for permission
// on both; a Vault policy sees the path alone, so without this rule who may
// write an alias could borrow another team's key.
func inScope(ctx context.Context, s logical.Storage, alias, keyID string, read settingsReader) (bool, error) {
	if kms.Folder(alias) == kms.Folder(keyID) {
		return true, nil
	}
	settings, err := read(ctx, s)
	return settings.AliasScope == ScopeAny, err
}

// PreviousKeys returns the former targets of an alias that are still accepted:
// in their overlap, in scope, and the very keys that the alias left, not gone
// and not later ones under the same id.
func (st *Store) PreviousKeys(ctx context.Context, s logical.Storage, a *Alias, now time.Time) ([]PreviousKey, error) {
	return accepted(ctx, s, a, now, st.Settings, func(id string) (*keyRecord, error) {
		k, err := st.Key(ctx, s, id, now)
		if k == nil {
			return nil, err
		}
		return k.record, err
	})
}

func accepted(ctx context.Context, s logical.Storage, a *Alias, now time.Time, settings settingsReader, get func(id string) (*keyRecord, error)) ([]PreviousKey, error) {
	var accepted []PreviousKey
	for _, p := range a.Previous {
		if !now.Before(p.ValidTo) {
			continue
		}
		if ok, err := inScope(ctx, s, a.Name, p.KeyID, settings); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		r, err := get(p.KeyID)
		if err != nil {
			return nil, err
		}
		if r != nil && !r.gone(now) && !r.CreationDate.After(p.Left) {
			accepted = append(accepted, p)
		}
	}
	return accepted, nil
}

// previousKeys returns the former keys of an alias that verify: of those still
// accepted, the enabled ones.
func (st *Store) previousKeys(ctx context.Context, s logical.Storage, a *Alias, now time.Time) ([]*Key, error) {
	if len(a.Previous) == 0 {
		return nil, nil
	}
	accepted, err := st.PreviousKeys(ctx, s, a, now)
	if err != nil {
		return nil, err
	}
	var keys []*Key
	for _, p := range accepted {
		k, err := st.Key(ctx, s, p.KeyID, now)
		if err != nil {
			return nil, err
		}
		if k != nil && k.State(now) == kms.Enabled {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// loadAlias reads an alias from storage and publishes it. The caller holds its
// lock. An alias's name with its prefix is its storage key.
func (st *Store) loadAlias(ctx context.Context, s logical.Storage, name string) (*Alias, error) {
	a, err := load[Alias](ctx, s, name)
	if err != nil || a == nil {
		return nil, err
	}
	if a.Version > aliasRecordVersion {
		return nil, fmt.Errorf("alias %q was written by a newer version of this plugin", name)
	}
	st.publishAlias(a)
	return a, nil
}

func (st *Store) publishAlias(a *Alias) {
	if st.mayCache(a.Name) {
		st.aliases.Add(a.Name, a)
	}
}

// saveAlias writes an alias and publishes it. The change holds the locks of the
// alias and of its target. The hint comes first, so that none is missing.
func (w *write) saveAlias(a *Alias) error {
	if err := w.put(aliasHint(a.TargetKeyID, a.ShortName()), struct{}{}); err != nil {
		return err
	}
	if err := w.put(a.Name, a); err != nil {
		return err
	}
	w.st.publishAlias(a)
	return nil
}

// removeAlias deletes an alias and its hints. The change holds its lock.
func (w *write) removeAlias(a *Alias) error {
	if err := w.remove(a.Name); err != nil {
		return err
	}
	// The alias is gone: a hint that stays behind is harmless.
	for _, id := range a.keys() {
		_ = w.dropAliasHint(id, a.ShortName())
	}
	return nil
}

func (w *write) dropAliasHint(keyID, shortName string) error {
	hint := aliasHint(keyID, shortName)
	if old := aliasHintOf010(keyID, shortName); old != hint {
		if err := w.remove(old); err != nil {
			return err
		}
	}
	return w.remove(hint)
}

// aliasHints returns the names, without prefix, of the aliases in a folder, ""
// for all, that may point at a key or accept it as a previous one, sorted. What
// it reads does not depend on other teams' folders.
func (st *Store) aliasHints(ctx context.Context, s logical.Storage, keyID, folder string) ([]string, error) {
	first, _, nested := strings.Cut(folder, "/")
	tops := []string{first + "/"}
	if !nested {
		var err error
		if tops, err = list(ctx, s, aliasIndex(keyID)); err != nil {
			return nil, err
		}
	}
	var all []string
	for _, top := range tops {
		if !strings.HasSuffix(top, "/") {
			all = append(all, top)
			continue
		}
		below, err := collect(ctx, s, aliasIndex(keyID)+top) // deeper only where version 0.1.0 wrote
		if err != nil {
			return nil, err
		}
		for _, name := range below {
			all = append(all, top+strings.ReplaceAll(name, ".", "/"))
		}
	}
	all = slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(name, folder) })
	slices.Sort(all)
	return slices.Compact(all), nil
}

// AliasesOf returns the aliases in a folder, "" for all, that point at a key,
// sorted by name. What it reads does not depend on other folders.
func (st *Store) AliasesOf(ctx context.Context, s logical.Storage, keyID, folder string, now time.Time) ([]*Alias, error) {
	return st.aliasesBy(ctx, s, keyID, folder, func(name string) (*Alias, error) {
		a, _, err := st.Alias(ctx, s, name, now)
		if a == nil || a.TargetKeyID != keyID {
			return nil, err
		}
		return a, err
	})
}

// AliasesAccepting returns the aliases in a folder, "" for all, that have left a
// key and still accept it as a previous one, sorted by name. Aliases that version 0.1.0 has moved are not
// found.
func (st *Store) AliasesAccepting(ctx context.Context, s logical.Storage, keyID, folder string, now time.Time) ([]*Alias, error) {
	return st.aliasesBy(ctx, s, keyID, folder, func(name string) (*Alias, error) {
		a, _, err := st.Alias(ctx, s, name, now)
		if err != nil || a == nil {
			return nil, err
		}
		previous, err := st.PreviousKeys(ctx, s, a, now)
		if !slices.ContainsFunc(previous, func(p PreviousKey) bool { return p.KeyID == keyID }) {
			return nil, err
		}
		return a, err
	})
}

// peekAliases is AliasesOf without taking locks, and also of keys that are gone.
func (st *Store) peekAliases(ctx context.Context, s logical.Storage, keyID, folder string) ([]*Alias, error) {
	return st.aliasesBy(ctx, s, keyID, folder, func(name string) (*Alias, error) {
		a, err := load[Alias](ctx, s, name)
		if a == nil || a.TargetKeyID != keyID {
			return nil, err
		}
		return a, err
	})
}

func (st *Store) aliasesBy(ctx context.Context, s logical.Storage, keyID, folder string, get func(name string) (*Alias, error)) ([]*Alias, error) {
	names, err := st.aliasHints(ctx, s, keyID, folder)
	if err != nil {
		return nil, err
	}
	var aliases []*Alias
	for _, name := range names {
		a, err := get(aliasPrefix + name)
		if err != nil {
			return nil, err
		}
		if a != nil {
			aliases = append(aliases, a)
		}
	}
	return aliases, nil
}

// ListAliases returns the names of one folder of aliases, without their alias/
// prefix, as ListKeys does for keys.
func (st *Store) ListAliases(ctx context.Context, s logical.Storage, folder string, now time.Time) ([]string, error) {
	if folder != "" && kms.CheckAliasName(kms.AliasPrefix+strings.TrimSuffix(folder, "/")) != nil {
		return nil, nil
	}
	names, err := st.listNames(ctx, s, aliasPrefix+folder)
	if err != nil {
		return nil, err
	}
	gone, err := st.goneTargets(ctx, s, folder, now)
	if err != nil {
		return nil, err
	}
	for _, id := range gone {
		aliases, err := st.peekAliases(ctx, s, id, folder)
		if err != nil {
			return nil, err
		}
		for _, a := range aliases {
			if name, ok := strings.CutPrefix(a.ShortName(), folder); ok {
				names = without(names, name)
			}
		}
	}
	return names, nil
}

// goneTargets returns the ids of keys that are gone and that aliases in a folder
// may have pointed at.
func (st *Store) goneTargets(ctx context.Context, s logical.Storage, folder string, now time.Time) ([]string, error) {
	settings, err := st.Settings(ctx, s)
	if err != nil {
		return nil, err
	}
	top, _, inFolder := strings.Cut(folder, "/")
	switch {
	case settings.AliasScope == ScopeAny:
		return st.goneKeys(ctx, s, "", true, now)
	case inFolder:
		return st.goneKeys(ctx, s, top+"/", true, now)
	}
	return st.goneKeys(ctx, s, "", false, now)
}

// AliasInput is a request to create an alias or to move it.
type AliasInput struct {
	Name        string // with its alias/ prefix
	TargetKeyID string

	// Overlap is for how long the key that the alias leaves is still accepted
	// by VerifyMac. nil on an alias that stays where it is changes nothing, 0
	// ends its overlap.
	Overlap *time.Duration

	// MustExist says, unless nil, whether there must be such an alias: true
	// only moves one, false only creates one.
	MustExist *bool

	// DryRun has nothing written: the answer is what would be.
	DryRun bool
}

// WriteAlias creates or moves an alias. Readers see it either where it was or
// where it goes: the record is replaced in one write.
func (st *Store) WriteAlias(ctx context.Context, s logical.Storage, in AliasInput) (*Alias, error) {
	if err := st.checkAliasScope(ctx, s, in.Name, in.TargetKeyID); err != nil {
		return nil, err
	}
	ctx, w, err := st.begin(ctx, s, in.Name, keyPrefix+in.TargetKeyID)
	if err != nil {
		return nil, err
	}
	defer w.end()
	now := st.now().UTC().Truncate(time.Millisecond)

	target, err := st.loadKey(ctx, s, in.TargetKeyID)
	if err != nil {
		return nil, err
	}
	if target == nil || target.record.gone(now) {
		return nil, kms.KeyNotFound(in.TargetKeyID)
	}
	if err := kms.Check("CreateAlias", target.Facts(now)); err != nil {
		return nil, err
	}
	stored, err := st.loadAlias(ctx, s, in.Name)
	if err != nil {
		return nil, err
	}
	existing, err := st.current(ctx, s, stored, now)
	if err != nil {
		return nil, err
	}
	a, err := in.apply(existing, now)
	if err != nil || a == existing {
		return a, err
	}
	if existing == nil || existing.TargetKeyID != a.TargetKeyID {
		if err := st.checkAliasCount(ctx, s, in.TargetKeyID); err != nil {
			return nil, err
		}
	}
	if existing != nil && existing.TargetKeyID != a.TargetKeyID && len(a.Previous) > 0 {
		if err := st.checkHintCount(ctx, s, existing.TargetKeyID); err != nil {
			return nil, err
		}
	}
	if in.DryRun {
		return a, nil
	}
	if existing != nil && existing.TargetKeyID != a.TargetKeyID && len(a.Previous) > 0 {
		if err := w.put(overlapHint(a, a.Previous[len(a.Previous)-1]), struct{}{}); err != nil {
			return nil, err
		}
	}
	if err := w.saveAlias(a); err != nil {
		return nil, err
	}
	w.tell(nil, Notice{Kind: AliasWritten, KeyID: a.TargetKeyID, AliasName: a.Name})
	if stored != nil {
		w.dropOldHints(stored, a)
	}
	return a, nil
}

// dropOldHints drops the hints of an alias to keys that it knows no more.
func (w *write) dropOldHints(before, after *Alias) {
	for _, id := range before.keys() {
		if slices.Contains(after.keys(), id) {
			continue
		}
		if err := w.dropAliasHint(id, after.ShortName()); err != nil {
			w.st.warn("an outdated hint remains, which is harmless", "error", err)
		}
	}
}

// current returns the alias with those of its previous keys that are still
// accepted; nil if there is none, or its key is gone and only the tidy has not
// come by yet. It takes no locks of keys.
func (st *Store) current(ctx context.Context, s logical.Storage, stored *Alias, now time.Time) (*Alias, error) {
	existing, err := unlessTargetGone(ctx, s, stored, now)
	if err != nil || existing == nil {
		return nil, err
	}
	pruned := *existing
	pruned.Previous, err = accepted(ctx, s, existing, now, st.peekSettings, func(id string) (*keyRecord, error) { return peekKey(ctx, s, id) })
	return &pruned, err
}

// checkAliasScope refuses to point an alias at a key for which it may not stand.
func (st *Store) checkAliasScope(ctx context.Context, s logical.Storage, name, target string) error {
	ok, err := inScope(ctx, s, name, target, st.Settings)
	if err == nil && !ok {
		err = kms.Validationf("%s may point only at keys of its own folder, and %s is not in it. On a mount that one team owns, set alias_scope=any in config.", name, target)
	}
	return err
}

// unlessTargetGone returns the alias, nil if its key is gone and only the tidy
// has not come by yet.
func unlessTargetGone(ctx context.Context, s logical.Storage, a *Alias, now time.Time) (*Alias, error) {
	if a == nil {
		return nil, nil
	}
	k, err := peekKey(ctx, s, a.TargetKeyID)
	if err != nil || k == nil || k.gone(now) {
		return nil, err
	}
	return a, nil
}

// apply returns the alias as the request wants it; existing itself if that
// changes nothing.
func (in AliasInput) apply(existing *Alias, now time.Time) (*Alias, error) {
	overlap := valueOf(in.Overlap)
	switch {
	case existing == nil && in.MustExist != nil && *in.MustExist:
		return nil, kms.AliasNotFound(in.Name)
	case existing == nil:
		if err := kms.CheckNewAliasName(in.Name); err != nil {
			return nil, err
		}
		return &Alias{
			Version: aliasRecordVersion, Name: in.Name, TargetKeyID: in.TargetKeyID,
			CreationDate: now, LastUpdatedDate: now,
		}, nil
	case in.MustExist != nil && !*in.MustExist:
		return nil, kms.AliasExists(in.Name)
	case existing.TargetKeyID != in.TargetKeyID:
		return existing.moved(in.TargetKeyID, overlap, now)
	case in.Overlap != nil && overlap == 0 && len(existing.Previous) > 0:
		return existing.moved(in.TargetKeyID, 0, now) // ends the overlap
	}
	return existing, nil
}

func (st *Store) checkAliasCount(ctx context.Context, s logical.Storage, keyID string) error {
	hints, err := st.aliasHints(ctx, s, keyID, "")
	if err != nil || len(hints) < kms.MaxAliasesPerKey {
		return err
	}
	aliases, err := st.peekAliases(ctx, s, keyID, "")
	if err != nil || len(aliases) < kms.MaxAliasesPerKey {
		return err
	}
	return kms.LimitExceeded("Aliases per key quota for this account in this region is %d, current usage is %d.", kms.MaxAliasesPerKey, len(aliases))
}

// checkHintCount bounds how many aliases can lead to a key and have led to it,
// since who looks at the key looks at all of them. The alias that is about to
// leave it is one of them.
func (st *Store) checkHintCount(ctx context.Context, s logical.Storage, keyID string) error {
	hints, err := st.aliasHints(ctx, s, keyID, "")
	if err != nil || len(hints) <= maxAliasHints {
		return err
	}
	return kms.LimitExceeded("At most %d aliases can point at a key or accept it after they left it: move the alias without overlap, or wait for one to end.", maxAliasHints)
}

// DeleteAlias deletes an alias, not its key.
func (st *Store) DeleteAlias(ctx context.Context, s logical.Storage, name string) error {
	if kms.CheckAliasName(name) != nil {
		return kms.AliasNotFound(name)
	}
	ctx, w, err := st.begin(ctx, s, name)
	if err != nil {
		return err
	}
	defer w.end()
	a, err := st.loadAlias(ctx, s, name)
	if err != nil {
		return err
	}
	live, err := unlessTargetGone(ctx, s, a, st.now())
	if err != nil {
		return err
	}
	if live == nil {
		return kms.AliasNotFound(name)
	}
	err = w.removeAlias(a)
	w.tell(err, Notice{Kind: AliasDeleted, KeyID: a.TargetKeyID, AliasName: a.Name})
	return err
}
