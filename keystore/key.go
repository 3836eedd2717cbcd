package keystore

// A key: what is stored of it, and what that says at an instant.

import (
	"maps"
	"time"

	"vault-plugin-secrets-kms-hmac/kms"
)

// keyRecordVersion is the newest format of key records that this code knows.
const keyRecordVersion = 1

// Metadata is what a key's record says of it in the open.
type Metadata struct {
	ID           string            `json:"id"`
	Spec         kms.KeySpec       `json:"key_spec"`
	Origin       string            `json:"origin"` // kms.OriginKMS or kms.OriginExternal
	MultiRegion  bool              `json:"multi_region,omitempty"`
	Description  string            `json:"description,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
	CreationDate time.Time         `json:"creation_date"`

	// Disabled is what EnableKey and DisableKey set. The key's state depends on
	// more: see Key.State.
	Disabled bool `json:"disabled,omitempty"`

	// DeletionDate is when the key ceases to exist; zero if nobody asked.
	DeletionDate        time.Time `json:"deletion_date,omitzero"`
	PendingWindowInDays int       `json:"pending_window_in_days,omitempty"`
}

// keyRecord is the stored record of a key. A record in the cache is shared
// between requests and never changed: changes are made to a clone.
type keyRecord struct {
	Version int `json:"version"`
	Metadata

	// Policy is the key policy that was put, as it was put: nothing enforces it.
	// Empty if none was. The cache does not hold it, since no MAC needs it and
	// it may be long.
	Policy string `json:"policy,omitempty"`

	// Material is the secret: the HMAC key itself, as it is. Empty where an
	// EXTERNAL key has none.
	Material []byte `json:"material,omitempty"`

	// ExpirationModel and ValidTo belong to imported material.
	ExpirationModel string    `json:"expiration_model,omitempty"`
	ValidTo         time.Time `json:"valid_to,omitzero"`

	// MaterialID identifies the first material imported, the only one the key
	// will ever take, even when the material itself is gone: see materialID.
	MaterialID   string `json:"material_id,omitempty"`
	MaterialSalt []byte `json:"material_salt,omitempty"`
}

func (r *keyRecord) clone() *keyRecord {
	c := *r
	c.Tags = maps.Clone(r.Tags)
	return &c
}

// gone reports whether the key has ceased to exist, whether or not its record
// has been removed yet.
func (r *keyRecord) gone(now time.Time) bool {
	return !r.DeletionDate.IsZero() && !now.Before(r.DeletionDate)
}

// hasMaterial reports whether there is key material that has not expired.
func (r *keyRecord) hasMaterial(now time.Time) bool {
	return len(r.Material) > 0 && (r.ValidTo.IsZero() || now.Before(r.ValidTo))
}

// state computes the key state. It is never stored, so that a date that passes
// takes effect at that instant and on every node. It must not be asked of a
// key that is gone.
func (r *keyRecord) state(now time.Time) kms.KeyState {
	switch {
	case !r.DeletionDate.IsZero():
		return kms.PendingDeletion
	case !r.hasMaterial(now):
		return kms.PendingImport
	case r.Disabled:
		return kms.Disabled
	}
	return kms.Enabled
}

func (r *keyRecord) facts(now time.Time) kms.Facts {
	return kms.Facts{ID: r.ID, Spec: r.Spec, Origin: r.Origin, State: r.state(now)}
}

// dropMaterial forgets the key material, but not which one it was.
func (r *keyRecord) dropMaterial() {
	r.Material = nil
	r.ExpirationModel = ""
	r.ValidTo = time.Time{}
}

// due returns the next instant at which the record must be tidied; zero if
// none is known.
func (r *keyRecord) due() time.Time {
	if r.DeletionDate.IsZero() || !r.ValidTo.IsZero() && r.ValidTo.Before(r.DeletionDate) {
		return r.ValidTo
	}
	return r.DeletionDate
}

// Key is a key as a read or a change has found it, ready for work. It never
// changes, whatever happens to the key afterwards: ask the store again to see
// that.
type Key struct {
	*Metadata
	store  *Store
	record *keyRecord
	mac    *kms.MacKey // nil without key material
	usage  *usage      // the one part that changes; it outlives the snapshot
}

// State returns the key's state: computed, never stored, so that a date that
// passes takes effect at that instant and on every node.
func (k *Key) State(now time.Time) kms.KeyState { return k.record.state(now) }

// Facts returns what the rules of KMS need to know about the key.
func (k *Key) Facts(now time.Time) kms.Facts { return k.record.facts(now) }

// Expiration returns the expiration model of imported key material, and when
// the material expires: zero if never. The model is "" if the key has no
// imported material.
func (k *Key) Expiration(now time.Time) (model string, validTo time.Time) {
	if !k.record.hasMaterial(now) {
		return "", time.Time{}
	}
	return k.record.ExpirationModel, k.record.ValidTo
}

// AppendMac appends the MAC of a message to dst. The key must be enabled.
func (k *Key) AppendMac(dst, message []byte) []byte { return k.mac.Append(dst, message) }

// VerifyMac reports, in constant time, whether mac is the MAC of a message. The
// key must be enabled.
func (k *Key) VerifyMac(message, mac []byte) bool { return k.mac.Verify(message, mac) }

// Used records a successful GenerateMac or VerifyMac, in memory. The first one
// after long disuse is stored at once, beside the requests.
func (k *Key) Used(operation string, now time.Time) {
	if k.usage.record(operation, now) {
		k.store.storeUseAtOnce(k.ID)
	}
}
