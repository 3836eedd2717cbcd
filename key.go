package kmshmac

import (
	"maps"
	"time"

	"vault-plugin-secrets-kms-hmac/kms"
)

// keyRecordVersion is the newest format of key records that this code knows.
const keyRecordVersion = 1

// key is the stored record of a key. A record in the cache is shared between
// requests and never changed: changes are made to a clone.
type key struct {
	Version      int               `json:"version"`
	ID           string            `json:"id"`
	Spec         kms.KeySpec       `json:"key_spec"`
	Origin       string            `json:"origin"`
	MultiRegion  bool              `json:"multi_region,omitempty"`
	Description  string            `json:"description,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
	CreationDate time.Time         `json:"creation_date"`

	// Disabled is what enable-key and disable-key set. The key's state depends
	// on more: see state.
	Disabled bool `json:"disabled,omitempty"`

	// DeletionDate is when the key ceases to exist; zero if nobody asked.
	DeletionDate        time.Time `json:"deletion_date,omitzero"`
	PendingWindowInDays int       `json:"pending_window_in_days,omitempty"`

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

func (k *key) clone() *key {
	c := *k
	c.Tags = maps.Clone(k.Tags)
	return &c
}

// gone reports whether the key has ceased to exist, whether or not its record
// has been removed yet.
func (k *key) gone(now time.Time) bool {
	return !k.DeletionDate.IsZero() && !now.Before(k.DeletionDate)
}

// hasMaterial reports whether there is key material that has not expired.
func (k *key) hasMaterial(now time.Time) bool {
	return len(k.Material) > 0 && (k.ValidTo.IsZero() || now.Before(k.ValidTo))
}

// state computes the key state. It is never stored, so that a date that passes
// takes effect at that instant and on every node. It must not be asked of a
// key that is gone.
func (k *key) state(now time.Time) kms.KeyState {
	switch {
	case !k.DeletionDate.IsZero():
		return kms.PendingDeletion
	case !k.hasMaterial(now):
		return kms.PendingImport
	case k.Disabled:
		return kms.Disabled
	}
	return kms.Enabled
}

// facts is what the rules of KMS need to know about the key.
func (k *key) facts(now time.Time) kms.Facts {
	return kms.Facts{ID: k.ID, Spec: k.Spec, Origin: k.Origin, State: k.state(now)}
}

// dropMaterial forgets the key material, but not which one it was.
func (k *key) dropMaterial() {
	k.Material = nil
	k.ExpirationModel = ""
	k.ValidTo = time.Time{}
}

// due returns the next instant at which the record must be tidied; zero if
// none is known.
func (k *key) due() time.Time {
	if k.DeletionDate.IsZero() || !k.ValidTo.IsZero() && k.ValidTo.Before(k.DeletionDate) {
		return k.ValidTo
	}
	return k.DeletionDate
}

// metadata returns the members of KMS's KeyMetadata that apply, and the tags.
// No secret is among them.
func (k *key) metadata(now time.Time) map[string]any {
	state := k.state(now)
	data := map[string]any{
		"key_id":                   k.ID,
		"key_spec":                 k.Spec,
		"customer_master_key_spec": k.Spec,
		"key_usage":                kms.UsageMac,
		"mac_algorithms":           []kms.MacAlgorithm{k.Spec.MacAlgorithm()},
		"key_state":                state,
		"enabled":                  state == kms.Enabled,
		"origin":                   k.Origin,
		"key_manager":              kms.KeyManagerCustomer,
		"multi_region":             k.MultiRegion,
		"description":              k.Description,
		"creation_date":            formatTime(k.CreationDate),
		"tags":                     tagsOf(k),
	}
	if k.MultiRegion {
		data["multi_region_configuration"] = map[string]any{
			"multi_region_key_type": "PRIMARY",
			"replica_keys":          []string{},
		}
	}
	if state == kms.PendingDeletion {
		data["deletion_date"] = formatTime(k.DeletionDate)
		data["pending_window_in_days"] = k.PendingWindowInDays
	}
	if k.hasMaterial(now) && k.ExpirationModel != "" {
		data["expiration_model"] = k.ExpirationModel
		if !k.ValidTo.IsZero() {
			data["valid_to"] = formatTime(k.ValidTo)
		}
	}
	return data
}

func tagsOf(k *key) map[string]string {
	if k.Tags == nil {
		return map[string]string{}
	}
	return k.Tags
}

// formatTime prints a time as all answers do: RFC 3339, UTC, milliseconds,
// which is KMS's precision.
func formatTime(t time.Time) string {
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}
