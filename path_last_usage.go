package kmshmac

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
)

func (b *backend) pathLastUsage() []*framework.Path {
	return []*framework.Path{keyRead("get-key-last-usage", "get", "key-last-usage", nil, &framework.PathOperation{
		Callback: b.pathLastUsageRead,
		Summary:  "Tell when a key was last used (GetKeyLastUsage).",
		Responses: responds(200, "OK", map[string]*framework.FieldSchema{
			"key_id":                  field(framework.TypeString, "The key's id."),
			"key_creation_date":       field(framework.TypeTime, "When the key was created."),
			"tracking_start_date":     field(framework.TypeTime, "Since when uses are recorded: the key's creation."),
			"key_last_usage":          optional(framework.TypeMap, "The last successful use: operation, timestamp. Absent if there was none."),
			"later_use_missing_until": optional(framework.TypeTime, "A later use than this one may be missing, if it was before this time and its node crashed then. Absent if none can be missing."),
		}),
	}, lastUsageHelp)}
}

func (b *backend) pathLastUsageRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	k, err := b.store.KeyByID(ctx, req.Storage, d.Get("key_id").(string), b.now())
	if err != nil {
		return nil, err
	}
	use, err := b.store.LastUse(ctx, req.Storage, k)
	if err != nil {
		return nil, err
	}
	created := formatTime(k.CreationDate)
	data := map[string]any{"key_id": k.ID, "key_creation_date": created, "tracking_start_date": created}
	if !use.Never() {
		data["key_last_usage"] = lastUseData(use)
	}
	if !use.MissingUntil.IsZero() {
		data["later_use_missing_until"] = formatTime(use.MissingUntil)
	}
	return &logical.Response{Data: data}, nil
}

// lastUseData returns the use as answers show it.
func lastUseData(use keystore.LastUse) map[string]any {
	return map[string]any{"operation": use.Operation(), "timestamp": formatTime(use.Time())}
}

const lastUsageHelp = `
Answers the last successful GenerateMac or VerifyMac with the key. Uses are kept
in memory, because a MAC never waits for storage. The first use in an hour is
stored at once, others every five minutes, and what is left when the mount is
reloaded or its node steps down. A node that crashes may take a use along; then
later_use_missing_until says before when it must have been. Vault Enterprise's
performance standbys cannot write, so uses on them are known to them only.

    $ vault read kms/get-key-last-usage/payments/tokens
`
