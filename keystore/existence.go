package keystore

// What Vault asks before a write: whether it creates or updates. It asks before
// its policies have decided, so how long the answer takes must not tell a caller
// without permission what there is. Hence each of these reads the same number of
// records, past the cache, whatever it finds.

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

// KeyExists reports whether there is a key with this id.
func (st *Store) KeyExists(ctx context.Context, s logical.Storage, id string, now time.Time) (bool, error) {
	if checkKeyID(id) != nil {
		return false, nil
	}
	return keyExists(ctx, s, id, now)
}

// AliasExists reports whether there is an alias of this name, prefix included.
func (st *Store) AliasExists(ctx context.Context, s logical.Storage, name string, now time.Time) (bool, error) {
	if kms.CheckAliasName(name) != nil {
		return false, nil
	}
	a, err := load[Alias](ctx, s, name)
	if err != nil {
		return false, err
	}
	target := digest(name)
	if a != nil {
		target = a.TargetKeyID
	}
	exists, err := keyExists(ctx, s, target, now)
	return a != nil && exists, err
}

func keyExists(ctx context.Context, s logical.Storage, id string, now time.Time) (bool, error) {
	r, err := peekKey(ctx, s, id)
	if err != nil {
		return false, err
	}
	if r == nil {
		// A record is decoded in either case.
		return false, json.Unmarshal(ordinaryRecord, new(keyRecord))
	}
	return !r.gone(now), nil
}

// ordinaryRecord is how most keys lie in storage.
var ordinaryRecord = []byte(`{"version":1,"id":"payments/tokens-2026","key_spec":"HMAC_256","origin":"AWS_KMS",` +
	`"creation_date":"2026-11-22T10:20:30.456Z","material":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`)
