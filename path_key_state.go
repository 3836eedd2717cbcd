package kmshmac

import (
	"context"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

func (b *backend) pathKeyState() []*framework.Path {
	window := map[string]*framework.FieldSchema{
		"pending_window_in_days": {
			Type:        framework.TypeInt,
			Description: "The waiting period in days, 7 to 30. Defaults to the mount's, see config.",
		},
	}
	return []*framework.Path{
		keyOperation("enable-key", "enable", "key", nil, &framework.PathOperation{
			Callback:  b.pathEnableKey,
			Summary:   "Enable a disabled key (EnableKey).",
			Responses: noContent(),
		}, enableHelp),
		keyOperation("disable-key", "disable", "key", nil, &framework.PathOperation{
			Callback:  b.pathDisableKey,
			Summary:   "Disable a key until it is enabled again (DisableKey).",
			Responses: noContent(),
		}, disableHelp),
		keyOperation("schedule-key-deletion", "schedule", "key-deletion", window, &framework.PathOperation{
			Callback:  b.pathScheduleKeyDeletion,
			Summary:   "Let a key cease to exist after a waiting period (ScheduleKeyDeletion).",
			Responses: responds(200, "OK", scheduledSchema()),
		}, scheduleHelp),
		keyOperation("cancel-key-deletion", "cancel", "key-deletion", nil, &framework.PathOperation{
			Callback:  b.pathCancelKeyDeletion,
			Summary:   "Cancel the deletion of a key (CancelKeyDeletion).",
			Responses: responds(200, "OK", keyStateSchema()),
		}, cancelHelp),
	}
}

func scheduledSchema() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"key_id":                 field(framework.TypeString, "The key's id."),
		"key_state":              field(framework.TypeString, "PendingDeletion."),
		"deletion_date":          field(framework.TypeTime, "When the key ceases to exist."),
		"pending_window_in_days": field(framework.TypeInt, "The waiting period."),
	}
}

func keyStateSchema() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"key_id":    field(framework.TypeString, "The key's id."),
		"key_state": field(framework.TypeString, "The key's state now."),
	}
}

func (b *backend) keyStateResponse(k *keystore.Key) *logical.Response {
	return &logical.Response{Data: map[string]any{"key_id": k.ID, "key_state": k.State(b.now())}}
}

func (b *backend) pathEnableKey(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return nil, b.store.EnableKey(ctx, req.Storage, d.Get("key_id").(string))
}

func (b *backend) pathDisableKey(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return nil, b.store.DisableKey(ctx, req.Storage, d.Get("key_id").(string))
}

func (b *backend) pathScheduleKeyDeletion(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id := d.Get("key_id").(string)
	in, err := modelInput("ScheduleKeyDeletion", d, nil)
	if err != nil {
		return nil, err
	}
	days, ok := in["PendingWindowInDays"].(int64)
	if !ok {
		return b.scheduleDeletion(ctx, req.Storage, id, 0)
	}
	if err := kms.CheckPendingWindow(int(days)); err != nil {
		return nil, err
	}
	return b.scheduleDeletion(ctx, req.Storage, id, int(days))
}

// pathKeysDelete is what `vault delete` means for a key.
func (b *backend) pathKeysDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return b.scheduleDeletion(ctx, req.Storage, d.Get("key_id").(string), 0)
}

// scheduleDeletion schedules the deletion of a key in so many days; 0 stands
// for the mount's default.
func (b *backend) scheduleDeletion(ctx context.Context, s logical.Storage, id string, days int) (*logical.Response, error) {
	k, err := b.store.ScheduleKeyDeletion(ctx, s, id, days)
	if err != nil {
		return nil, err
	}
	resp := &logical.Response{Data: map[string]any{
		"key_id":                 k.ID,
		"key_state":              k.State(b.now()),
		"deletion_date":          formatTime(k.DeletionDate),
		"pending_window_in_days": k.PendingWindowInDays,
	}}
	b.warnOfAliases(ctx, s, k.ID, resp)
	return resp, nil
}

// warnOfAliases names the aliases that a deletion will take along, and those
// that verify MACs with the key although they have left it. The deletion is
// scheduled by now, so it fails no more.
func (b *backend) warnOfAliases(ctx context.Context, s logical.Storage, id string, resp *logical.Response) {
	aliases, err := b.store.AliasesOf(ctx, s, id, "", b.now())
	switch {
	case err != nil:
		resp.AddWarning("the aliases that point at this key could not be listed; they will be deleted with it")
	case len(aliases) > 0:
		resp.AddWarning("aliases point at this key and will be deleted with it: " + aliasNamesOf(aliases))
	}
	accepting, err := b.store.AliasesAccepting(ctx, s, id, "", b.now())
	switch {
	case err != nil:
		resp.AddWarning("the aliases that still accept this key by an overlap could not be listed; its MACs verify through them no more")
	case len(accepting) > 0:
		resp.AddWarning("aliases whose overlap with this key is not over verify its MACs no more: " + aliasNamesOf(accepting))
	}
}

func aliasNamesOf(aliases []*keystore.Alias) string {
	names := make([]string, len(aliases))
	for i, a := range aliases {
		names[i] = a.Name
	}
	return strings.Join(names, ", ")
}

func (b *backend) pathCancelKeyDeletion(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	k, err := b.store.CancelKeyDeletion(ctx, req.Storage, d.Get("key_id").(string))
	if err != nil {
		return nil, err
	}
	return b.keyStateResponse(k), nil
}

const enableHelp = `
Lets a disabled key work again. Enabling an enabled key is no error.

    $ vault write -f kms/enable-key/payments/tokens
`

const disableHelp = `
Stops a key from generating and verifying MACs, on all nodes, until it is
enabled again. Disabling a disabled key is no error.

    $ vault write -f kms/disable-key/payments/tokens
`

const scheduleHelp = `
The key stops working now and ceases to exist, with its aliases and grants, at
the date in the answer, 7 to 30 days from now. Until then nothing is lost:
cancel-key-deletion brings it back, disabled. Look at last_used of the key
before you delete it.

    $ vault write kms/schedule-key-deletion/payments/tokens pending_window_in_days=7
    $ vault delete kms/keys/payments/tokens
`

const cancelHelp = `
Brings back a key that is pending deletion. It is then disabled, or, if it has
no key material, pending import.

    $ vault write -f kms/cancel-key-deletion/payments/tokens
    $ vault write -f kms/enable-key/payments/tokens
`
