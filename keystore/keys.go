package keystore

// What can be done with keys.

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

// Key returns the key with this id; nil if there is none, or none any more.
func (st *Store) Key(ctx context.Context, s logical.Storage, id string, now time.Time) (*Key, error) {
	k, ok := st.keys.Get(id)
	if !ok {
		if kms.CheckKeyID(id) != nil {
			return nil, nil // and Vault's storage would not like the name
		}
		defer st.readLock(keyPrefix + id)()
		var err error
		if k, err = st.loadKey(ctx, s, id); err != nil {
			return nil, err
		}
	}
	if k == nil || k.record.gone(now) {
		return nil, nil
	}
	return k, nil
}

// KeyByID is Key for operations that take key ids only: an alias, an impossible
// id and a key that is not there are exceptions.
func (st *Store) KeyByID(ctx context.Context, s logical.Storage, id string, now time.Time) (*Key, error) {
	if err := checkKeyID(id); err != nil {
		return nil, err
	}
	k, err := st.Key(ctx, s, id, now)
	if err == nil && k == nil {
		err = kms.KeyNotFound(id)
	}
	return k, err
}

// KeyByName returns the key that a key id or an alias with its alias/ prefix
// names; nil if there is none.
func (st *Store) KeyByName(ctx context.Context, s logical.Storage, name string, now time.Time) (*Key, error) {
	if strings.HasPrefix(name, kms.AliasPrefix) {
		_, k, err := st.aliasInScope(ctx, s, name, now)
		return k, err
	}
	return st.Key(ctx, s, name, now)
}

func checkKeyID(id string) error {
	if err := kms.CheckNotAlias(id); err != nil {
		return err
	}
	return kms.CheckKeyID(id)
}

// loadKey reads a key from storage and publishes it. The caller holds its
// lock. It returns nil if there is no record, but a key whose deletion date
// has passed as it is.
func (st *Store) loadKey(ctx context.Context, s logical.Storage, id string) (*Key, error) {
	r, err := load[keyRecord](ctx, s, keyPrefix+id)
	if err != nil || r == nil {
		return nil, err
	}
	if r.Version > keyRecordVersion {
		return nil, fmt.Errorf("key %q was written by a newer version of this plugin", id)
	}
	if !r.Spec.IsHMAC() {
		return nil, fmt.Errorf("the record of key %q is damaged: unknown key spec", id)
	}
	return st.publishKey(r), nil
}

func (st *Store) publishKey(r *keyRecord) *Key {
	k := &Key{Metadata: &r.Metadata, store: st, record: r, usage: st.usages.of(r.ID, st.now())}
	if len(r.Material) > 0 {
		k.mac = kms.NewMacKey(r.Spec, r.Material)
	}
	if st.mayCache(keyPrefix + r.ID) {
		st.keys.Add(r.ID, k.withoutPolicy())
	}
	return k
}

// withoutPolicy returns the key as the cache holds it.
func (k *Key) withoutPolicy() *Key {
	if k.record.Policy == "" {
		return k
	}
	slim, record := *k, *k.record
	record.Policy = ""
	slim.Metadata, slim.record = &record.Metadata, &record
	return &slim
}

// peekKey reads a key's record past lock and cache, for those who hold other
// locks. What they learn may be outdated at once.
func peekKey(ctx context.Context, s logical.Storage, id string) (*keyRecord, error) {
	return load[keyRecord](ctx, s, keyPrefix+id)
}

// saveKey writes a key and publishes it. The change holds its lock. The hint
// for the tidy comes first: without it a crash would leave a key that nobody
// tidies.
func (w *write) saveKey(r *keyRecord) (*Key, error) {
	if due := r.due(); !due.IsZero() {
		if err := w.put(duePrefix+hour(due)+"/"+r.ID, struct{}{}); err != nil {
			return nil, err
		}
	}
	if err := w.put(keyPrefix+r.ID, r); err != nil {
		return nil, err
	}
	return w.st.publishKey(r), nil
}

// KeyInput is what a request says of a key that it creates or rewrites. What is
// nil was not said.
type KeyInput struct {
	Spec        *kms.KeySpec
	Usage       *string
	Origin      *string
	MultiRegion *bool
	Description *string
	Tags        map[string]string
	Policy      *string
}

// saysWhatItIs reports whether the request says anything of what a new key must
// be, besides description, tags and policy.
func (in KeyInput) saysWhatItIs() bool {
	return in.Spec != nil || in.Usage != nil || in.Origin != nil || in.MultiRegion != nil
}

func valueOf[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// CreateKey makes a key under an id that the store chooses: a UUID, as in KMS.
func (st *Store) CreateKey(ctx context.Context, s logical.Storage, in KeyInput) (*Key, error) {
	random, err := uuid.NewRandomFromReader(st.random())
	if err != nil {
		return nil, fmt.Errorf("choosing a key id: %w", err)
	}
	id := random.String()
	if valueOf(in.MultiRegion) {
		id = "mrk-" + strings.ReplaceAll(id, "-", "")
	}
	_, w, err := st.begin(ctx, s, keyPrefix+id)
	if err != nil {
		return nil, err
	}
	defer w.end()
	return w.createKey(id, in)
}

// WriteKey makes a key under a chosen id, or rewrites the one that is there: the
// same again is fine, description, tags and policy may change, the rest may not.
func (st *Store) WriteKey(ctx context.Context, s logical.Storage, id string, in KeyInput) (*Key, error) {
	if err := kms.CheckKeyID(id); err != nil {
		return nil, err
	}
	if err := st.purgeIfGone(ctx, s, id); err != nil {
		return nil, err
	}
	ctx, w, err := st.begin(ctx, s, keyPrefix+id)
	if err != nil {
		return nil, err
	}
	defer w.end()
	existing, err := st.loadKey(ctx, s, id)
	switch {
	case err != nil:
		return nil, err
	case existing != nil:
		return w.rewriteKey(existing, in)
	case !in.saysWhatItIs():
		ex := kms.KeyNotFound(id)
		ex.Hint = "(to create it, set key_spec)"
		return nil, ex
	}
	if err := kms.CheckNewKeyID(id); err != nil {
		return nil, err
	}
	return w.createKey(id, in)
}

// createKey makes a new key. The caller holds the key's lock and knows that
// there is none. The usage that KMS makes its callers repeat is a default here.
func (w *write) createKey(id string, in KeyInput) (*Key, error) {
	spec, usage, origin := valueOf(in.Spec), valueOf(in.Usage), valueOf(in.Origin)
	if usage == "" && spec.IsHMAC() {
		usage = kms.UsageMac
	}
	if origin == "" {
		origin = kms.OriginKMS
	}
	if err := kms.CheckNewKey(spec, usage, origin); err != nil {
		return nil, err
	}
	r := &keyRecord{Version: keyRecordVersion, Metadata: Metadata{
		ID:           id,
		Spec:         spec,
		Origin:       origin,
		MultiRegion:  valueOf(in.MultiRegion),
		Description:  valueOf(in.Description),
		Tags:         in.Tags,
		CreationDate: w.st.now().UTC().Truncate(time.Millisecond),
	}, Policy: valueOf(in.Policy)}
	if origin == kms.OriginKMS {
		r.Material = make([]byte, spec.Bytes())
		if _, err := io.ReadFull(w.st.random(), r.Material); err != nil {
			return nil, fmt.Errorf("generating key material: %w", err)
		}
	}
	k, err := w.saveKey(r)
	w.tell(err, Notice{Kind: KeyCreated, KeyID: id})
	return k, err
}

// rewriteKey applies a write to a key that exists. One that is pending deletion
// is not there for its writer, who would otherwise go on as if it were. The
// change holds its lock.
func (w *write) rewriteKey(existing *Key, in KeyInput) (*Key, error) {
	if err := checkFixed(existing, in); err != nil {
		return nil, err
	}
	changed := existing.record.clone()
	if in.Description != nil {
		changed.Description = *in.Description
	}
	if in.Tags != nil {
		changed.Tags = in.Tags
	}
	if in.Policy != nil {
		changed.Policy = *in.Policy
	}
	if existing.State(w.st.now()) == kms.PendingDeletion {
		ex := kms.KeyPendingDeletion(existing.ID)
		ex.Hint = "Its deletion can be cancelled with cancel-key-deletion/" + existing.ID + "."
		return nil, ex
	}
	if changed.Description == existing.Description && maps.Equal(changed.Tags, existing.Tags) && changed.Policy == existing.record.Policy {
		return existing, nil
	}
	return w.saveKey(changed)
}

// checkFixed refuses a write that says something else of what a key is and
// stays.
func checkFixed(existing *Key, in KeyInput) error {
	fixed := []struct {
		field    string
		is       any
		conflict bool
	}{
		{"key_spec", string(existing.Spec), in.Spec != nil && *in.Spec != existing.Spec},
		{"key_usage", kms.UsageMac, in.Usage != nil && *in.Usage != kms.UsageMac},
		{"origin", existing.Origin, in.Origin != nil && *in.Origin != existing.Origin},
		{"multi_region", existing.MultiRegion, in.MultiRegion != nil && *in.MultiRegion != existing.MultiRegion},
	}
	for _, f := range fixed {
		if f.conflict {
			return &kms.Exception{
				Type:    kms.TypeAlreadyExists,
				Message: fmt.Sprintf("Key '%s' already exists with %s %v", existing.ID, f.field, f.is),
				KeyID:   existing.ID,
			}
		}
	}
	return nil
}

// changeKey is the only way to change a key: it loads the record under its
// lock, checks that the operation is allowed in the key's state, lets change
// alter a copy, and saves it if change says that it did.
func (st *Store) changeKey(ctx context.Context, s logical.Storage, operation, id string, change func(r *keyRecord, now time.Time) (changed bool, err error)) (*Key, error) {
	if err := checkKeyID(id); err != nil {
		return nil, err
	}
	ctx, w, err := st.begin(ctx, s, keyPrefix+id)
	if err != nil {
		return nil, err
	}
	defer w.end()
	now := st.now()
	k, err := st.loadKey(ctx, s, id)
	if err != nil {
		return nil, err
	}
	if k == nil || k.record.gone(now) {
		return nil, kms.KeyNotFound(id)
	}
	if err := kms.Check(operation, k.Facts(now)); err != nil {
		return nil, err
	}
	copied := k.record.clone()
	changed, err := change(copied, now)
	if err != nil || !changed {
		return k, err
	}
	k, err = w.saveKey(copied)
	w.tell(err, Notice{Kind: keyNotices[operation], KeyID: id})
	return k, err
}

// EnableKey lets a disabled key work again. An enabled one stays as it is.
func (st *Store) EnableKey(ctx context.Context, s logical.Storage, id string) error {
	return st.setDisabled(ctx, s, "EnableKey", id, false)
}

// DisableKey stops a key from working until it is enabled again.
func (st *Store) DisableKey(ctx context.Context, s logical.Storage, id string) error {
	return st.setDisabled(ctx, s, "DisableKey", id, true)
}

func (st *Store) setDisabled(ctx context.Context, s logical.Storage, operation, id string, disabled bool) error {
	_, err := st.changeKey(ctx, s, operation, id, func(r *keyRecord, _ time.Time) (bool, error) {
		changed := r.Disabled != disabled
		r.Disabled = disabled
		return changed, nil
	})
	return err
}

// PutKeyPolicy keeps a key policy with the key, whatever state the key is in.
func (st *Store) PutKeyPolicy(ctx context.Context, s logical.Storage, id, policy string) error {
	_, err := st.changeKey(ctx, s, "PutKeyPolicy", id, func(r *keyRecord, _ time.Time) (bool, error) {
		changed := r.Policy != policy
		r.Policy = policy
		return changed, nil
	})
	return err
}

// KeyPolicy returns the key policy that was put, "" if none was. It reads
// storage: the cache does not hold policies.
func (st *Store) KeyPolicy(ctx context.Context, s logical.Storage, id string, now time.Time) (string, error) {
	if err := checkKeyID(id); err != nil {
		return "", err
	}
	defer st.readLock(keyPrefix + id)()
	k, err := st.loadKey(ctx, s, id)
	switch {
	case err != nil:
		return "", err
	case k == nil || k.record.gone(now):
		return "", kms.KeyNotFound(id)
	}
	return k.record.Policy, nil
}

// CheckPendingWindow refuses a waiting period that is none of KMS's, or shorter
// than the mount's shortest; 0 stands for the mount's default.
func (st *Store) CheckPendingWindow(ctx context.Context, s logical.Storage, days int) error {
	_, err := st.pendingWindow(ctx, s, days)
	return err
}

func (st *Store) pendingWindow(ctx context.Context, s logical.Storage, days int) (int, error) {
	settings, err := st.Settings(ctx, s)
	if err != nil {
		return 0, err
	}
	if days == 0 {
		days = settings.PendingWindowInDays
	}
	if shortest := settings.MinPendingWindow(); days < shortest || days > kms.MaxPendingWindowDays {
		return 0, kms.Validationf("PendingWindowInDays must be between %d and %d", shortest, kms.MaxPendingWindowDays)
	}
	return days, nil
}

// ScheduleKeyDeletion lets a key cease to exist in so many days; 0 stands for
// the mount's default. Fewer than the mount's shortest waiting period are
// refused.
func (st *Store) ScheduleKeyDeletion(ctx context.Context, s logical.Storage, id string, days int) (*Key, error) {
	days, err := st.pendingWindow(ctx, s, days)
	if err != nil {
		return nil, err
	}
	return st.changeKey(ctx, s, "ScheduleKeyDeletion", id, func(r *keyRecord, now time.Time) (bool, error) {
		r.DeletionDate = now.UTC().AddDate(0, 0, days).Truncate(time.Millisecond)
		r.PendingWindowInDays = days
		return true, nil
	})
}

// CancelKeyDeletion brings back a key that is pending deletion, disabled.
func (st *Store) CancelKeyDeletion(ctx context.Context, s logical.Storage, id string) (*Key, error) {
	return st.changeKey(ctx, s, "CancelKeyDeletion", id, func(r *keyRecord, _ time.Time) (bool, error) {
		r.DeletionDate = time.Time{}
		r.PendingWindowInDays = 0
		r.Disabled = true
		return true, nil
	})
}

// TagKey adds tags to a key; those that it has get the new values.
func (st *Store) TagKey(ctx context.Context, s logical.Storage, id string, tags map[string]string) error {
	_, err := st.changeKey(ctx, s, "TagResource", id, func(r *keyRecord, _ time.Time) (bool, error) {
		before := maps.Clone(r.Tags)
		if r.Tags == nil {
			r.Tags = map[string]string{}
		}
		maps.Copy(r.Tags, tags)
		return !maps.Equal(before, r.Tags), kms.CheckTagCount(len(r.Tags))
	})
	return err
}

// UntagKey removes the tags with these keys, where the key has them.
func (st *Store) UntagKey(ctx context.Context, s logical.Storage, id string, tagKeys []string) error {
	_, err := st.changeKey(ctx, s, "UntagResource", id, func(r *keyRecord, _ time.Time) (bool, error) {
		before := len(r.Tags)
		for _, tagKey := range tagKeys {
			delete(r.Tags, tagKey)
		}
		return len(r.Tags) != before, nil
	})
	return err
}

// ListKeys returns the names of one folder, "" for the top level: its keys, and
// its folders with a trailing slash, sorted. The caller must not change them.
// No record is read, but for those of keys that are due for removal.
func (st *Store) ListKeys(ctx context.Context, s logical.Storage, folder string, now time.Time) ([]string, error) {
	if folder != "" && kms.CheckKeyID(strings.TrimSuffix(folder, "/")) != nil {
		return nil, nil // no key can be there, and Vault's storage would not like the name
	}
	names, err := st.listNames(ctx, s, keyPrefix+folder)
	if err != nil {
		return nil, err
	}
	gone, err := st.goneKeys(ctx, s, folder, false, now)
	if err != nil {
		return nil, err
	}
	for _, id := range gone {
		if name, ok := strings.CutPrefix(id, folder); ok {
			names = without(names, name)
		}
	}
	return names, nil
}
