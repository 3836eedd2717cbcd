package kmshmac

import (
	"context"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
)

func (b *backend) pathConfig() []*framework.Path {
	schema := map[string]*framework.FieldSchema{
		"pending_window_in_days":     field(framework.TypeInt, "The default waiting period of deletions."),
		"min_pending_window_in_days": field(framework.TypeInt, "The shortest waiting period of deletions."),
		"alias_scope":                field(framework.TypeString, "folder or any."),
	}
	return []*framework.Path{{
		Pattern:      `config$`,
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix},
		Fields: map[string]*framework.FieldSchema{
			"pending_window_in_days": {
				Type:        framework.TypeInt,
				Description: "The default waiting period of deletions in days, 7 to 30. 30 unless set.",
			},
			"min_pending_window_in_days": {
				Type:        framework.TypeInt,
				Description: "The shortest waiting period of deletions in days, 7 to 30: shorter ones are refused. 7 unless set.",
			},
			"alias_scope": {
				Type: framework.TypeString, AllowedValues: []any{keystore.ScopeFolder, keystore.ScopeAny},
				Description: "folder, the default: an alias may point only at keys of its own folder. any: at any key, for a mount that one team owns.",
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback:     b.pathConfigRead,
				Summary:      "Read the mount's settings.",
				DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "read", OperationSuffix: "configuration"},
				Responses:    responds(200, "OK", schema),
			},
			logical.UpdateOperation: &framework.PathOperation{
				Callback:     b.pathConfigWrite,
				Summary:      "Change the mount's settings. What is not named stays as it is.",
				DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "configure", OperationSuffix: "mount"},
				Responses:    responds(200, "OK", schema),
			},
		},
		HelpSynopsis:    "The mount's settings.",
		HelpDescription: strings.TrimSpace(configHelp),
	}}
}

func settingsResponse(settings keystore.Settings) *logical.Response {
	return &logical.Response{Data: map[string]any{
		"pending_window_in_days":     settings.PendingWindowInDays,
		"min_pending_window_in_days": settings.MinPendingWindow(),
		"alias_scope":                settings.AliasScope,
	}}
}

func (b *backend) pathConfigRead(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	settings, err := b.store.Settings(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	return settingsResponse(settings), nil
}

func (b *backend) pathConfigWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	settings, err := b.store.ChangeSettings(ctx, req.Storage, func(settings *keystore.Settings) {
		if days, ok := d.GetOk("pending_window_in_days"); ok {
			settings.PendingWindowInDays = days.(int)
		}
		if days, ok := d.GetOk("min_pending_window_in_days"); ok {
			if settings.MinPendingWindowInDays = days.(int); days.(int) == 0 {
				settings.MinPendingWindowInDays = -1 // no number of days: 0 is for what was never set
			}
		}
		if scope, ok := d.GetOk("alias_scope"); ok {
			settings.AliasScope = scope.(string)
		}
	})
	if err != nil {
		return nil, err
	}
	return settingsResponse(settings), nil
}

const configHelp = `
Settings that hold for all keys and aliases of the mount. What a write does not
name stays as it is.

    $ vault read kms/config
    $ vault write kms/config pending_window_in_days=7
    $ vault write kms/config min_pending_window_in_days=14
    $ vault write kms/config alias_scope=any

Keep alias_scope at folder where several teams share the mount: a policy sees
only the alias's path, so without the rule anyone who may write an alias could
point it at another team's key and use that. It counts when an alias is used:
set back to folder, aliases to keys of other folders stop working.
`
