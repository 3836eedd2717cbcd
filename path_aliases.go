package kmshmac

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

func (b *backend) pathAliases() []*framework.Path {
	schema := map[string]*framework.FieldSchema{
		"alias_name":        field(framework.TypeString, "The alias, with its alias/ prefix."),
		"target_key_id":     field(framework.TypeString, "The key it points at."),
		"creation_date":     field(framework.TypeTime, "When it was created."),
		"last_updated_date": field(framework.TypeTime, "When it was last moved."),
		"previous_keys":     optional(framework.TypeSlice, "Former keys whose MACs are still accepted: key_id, valid_to."),
	}
	return []*framework.Path{
		b.aliasesList(`aliases/?$`, "aliases", nil),
		b.aliasesList(`aliases/(?P<folder>.+/)$`, "aliases-in-folder", map[string]*framework.FieldSchema{
			"folder": {Type: framework.TypeString, Description: "List this folder instead of the top level."},
		}),
		{
			Pattern: `aliases/(?P<name>.+)`,
			DisplayAttrs: &framework.DisplayAttributes{
				OperationPrefix: operationPrefix, OperationSuffix: "alias",
			},
			Fields: map[string]*framework.FieldSchema{
				"name": {Type: framework.TypeString, Description: "The alias without its alias/ prefix: segments of [A-Za-z0-9_-] joined by slashes."},
				"target_key_id": {
					Type: framework.TypeString, Required: true,
					Description: "The id of the key to point at.",
				},
				"overlap": {
					Type:        framework.TypeDurationSecond,
					Description: "When this moves the alias: for how long verify-mac through it also accepts MACs of the key it leaves. Defaults to 0: not at all.",
				},
				"must_exist": {
					Type:        framework.TypeBool,
					Description: "true: move an existing alias only (UpdateAlias). false: create a new one only (CreateAlias). Unset: do either.",
				},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.CreateOperation: &framework.PathOperation{
					Callback:     b.pathAliasesWrite,
					Summary:      "Create an alias (CreateAlias).",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "create", OperationSuffix: "alias"},
					Responses:    responds(200, "OK", schema),
				},
				logical.UpdateOperation: &framework.PathOperation{
					Callback:     b.pathAliasesWrite,
					Summary:      "Create an alias, or move it to another key (CreateAlias, UpdateAlias).",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "write", OperationSuffix: "alias"},
					Responses:    responds(200, "OK", schema),
				},
				logical.ReadOperation: &framework.PathOperation{
					Callback:     b.pathAliasesRead,
					Summary:      "Read where an alias points.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "read", OperationSuffix: "alias"},
					Responses:    responds(200, "OK", schema),
				},
				logical.DeleteOperation: &framework.PathOperation{
					Callback:     b.pathAliasesDelete,
					Summary:      "Delete an alias, not its key (DeleteAlias).",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "delete", OperationSuffix: "alias"},
					Responses:    noContent(),
				},
			},
			ExistenceCheck:  alwaysExists,
			HelpSynopsis:    "Create, move, read and delete an alias.",
			HelpDescription: strings.TrimSpace(aliasesHelp),
		},
	}
}

// aliasesList is a path that lists aliases. That of the top level has no slash
// to insist on: the vault command drops it when it asks for help.
func (b *backend) aliasesList(pattern, name string, folder map[string]*framework.FieldSchema) *framework.Path {
	return operationPath(pattern, "list", name, merge(folder, pageFields(), map[string]*framework.FieldSchema{
		"detailed": detailedField("aliases"),
		"target_key_id": {
			Type: framework.TypeString, Query: true,
			Description: "List only the aliases of this key, at any depth below the folder.",
		},
		"previous_key_id": {
			Type: framework.TypeString, Query: true,
			Description: "List only the aliases that have left this key and still accept its MACs, at any depth below the folder.",
		},
	}), logical.ListOperation, &framework.PathOperation{
		Callback:  b.pathAliasesList,
		Summary:   "List aliases, one folder level at a time, or those of a key (ListAliases).",
		Responses: responds(200, "OK", listed("By alias: what reading it answers.")),
	}, aliasesListHelp)
}

func aliasData(a *keystore.Alias, previous []keystore.PreviousKey) map[string]any {
	data := map[string]any{
		"alias_name":        a.Name,
		"target_key_id":     a.TargetKeyID,
		"creation_date":     formatTime(a.CreationDate),
		"last_updated_date": formatTime(a.LastUpdatedDate),
	}
	if len(previous) > 0 {
		keys := make([]map[string]any, len(previous))
		for i, p := range previous {
			keys[i] = map[string]any{"key_id": p.KeyID, "valid_to": formatTime(p.ValidTo)}
		}
		data["previous_keys"] = keys
	}
	return data
}

func (b *backend) pathAliasesList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	now, folder := b.now(), folderOf(d)
	names, err := b.aliasNames(ctx, req.Storage, folder, d, now)
	if err != nil {
		return nil, err
	}
	names, next, err := page(d, names, 0)
	if err != nil {
		return nil, err
	}
	names, next, aliases, err := withDetails(ctx, d, names, next, func(ctx context.Context, names []string) (map[string]*keystore.AliasDetails, error) {
		return b.store.AliasDetails(ctx, req.Storage, folder, names, now)
	})
	if err != nil {
		return nil, err
	}
	info := make(map[string]any, len(aliases))
	for name, a := range aliases {
		info[name] = aliasData(a.Alias, a.Accepted)
	}
	return listResponse(names, next, info), nil
}

// aliasNames returns the names to list, relative to the folder, sorted. The
// aliases of a key are looked for in the folder alone: neither the answer nor the
// time that it takes must tell a team which keys and aliases other teams have.
func (b *backend) aliasNames(ctx context.Context, s logical.Storage, folder string, d *framework.FieldData, now time.Time) ([]string, error) {
	target, byTarget := d.GetOk("target_key_id")
	previous, byPrevious := d.GetOk("previous_key_id")
	var keyID string
	switch {
	case byTarget && byPrevious:
		return nil, kms.Validationf("give one of target_key_id and previous_key_id")
	case byTarget:
		keyID = target.(string)
	case byPrevious:
		keyID = previous.(string)
	default:
		return b.store.ListAliases(ctx, s, folder, now)
	}
	if err := kms.CheckNotAlias(keyID); err != nil {
		return nil, err
	}
	if kms.CheckKeyID(keyID) != nil || folder != "" && kms.CheckAliasName(kms.AliasPrefix+strings.TrimSuffix(folder, "/")) != nil {
		return nil, nil // there is no such key, or no such folder
	}
	list := b.store.AliasesOf
	if byPrevious {
		list = b.store.AliasesAccepting
	}
	aliases, err := list(ctx, s, keyID, folder, now)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(aliases))
	for i, a := range aliases {
		names[i] = strings.TrimPrefix(a.ShortName(), folder)
	}
	return names, nil
}

func (b *backend) pathAliasesRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	now := b.now()
	a, _, err := b.store.Alias(ctx, req.Storage, kms.AliasPrefix+d.Get("name").(string), now)
	if err != nil || a == nil {
		return nil, err
	}
	return b.aliasResponse(ctx, req.Storage, a, now)
}

func (b *backend) aliasResponse(ctx context.Context, s logical.Storage, a *keystore.Alias, now time.Time) (*logical.Response, error) {
	previous, err := b.store.PreviousKeys(ctx, s, a, now)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: aliasData(a, previous)}, nil
}

func (b *backend) pathAliasesWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := aliasInput(d)
	if err != nil {
		return nil, err
	}
	a, err := b.store.WriteAlias(ctx, req.Storage, in)
	if err != nil {
		return nil, err
	}
	return b.aliasResponse(ctx, req.Storage, a, b.now())
}

func aliasInput(d *framework.FieldData) (keystore.AliasInput, error) {
	w := keystore.AliasInput{Name: kms.AliasPrefix + d.Get("name").(string)}
	in, err := modelInput("CreateAlias", d, map[string]any{"AliasName": w.Name})
	if err != nil {
		return w, err
	}
	if err := kms.CheckAliasName(w.Name); err != nil {
		return w, err
	}
	w.TargetKeyID = text(in, "TargetKeyId")
	if strings.HasPrefix(w.TargetKeyID, kms.AliasPrefix) {
		return w, kms.AliasTarget()
	}
	if err := kms.CheckKeyID(w.TargetKeyID); err != nil {
		return w, err
	}
	if seconds, ok := d.GetOk("overlap"); ok {
		overlap := time.Duration(seconds.(int)) * time.Second
		if overlap < 0 {
			return w, kms.Validationf("overlap must not be negative")
		}
		w.Overlap = &overlap
	}
	if mustExist, ok := d.GetOk("must_exist"); ok {
		value := mustExist.(bool)
		w.MustExist = &value
	}
	return w, nil
}

func (b *backend) pathAliasesDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return nil, b.store.DeleteAlias(ctx, req.Storage, kms.AliasPrefix+d.Get("name").(string))
}

const aliasesListHelp = `
Lists the aliases of one folder without their alias/ prefix, and its folders
with a trailing slash, sorted.

    $ vault list kms/aliases
    $ vault list -detailed kms/aliases/payments
    $ vault read kms/aliases/ list=true target_key_id=payments/tokens
    $ vault read kms/aliases/ list=true previous_key_id=payments/tokens-2025
`

const aliasesHelp = `
An alias is a second, movable name of a key: generate-mac and verify-mac take
alias/<name> in place of a key id. HMAC keys do not rotate; to rotate, create a
new key and move the alias, with an overlap for as long as MACs made before the
move must still verify. Writing it again with overlap=0 ends the overlap.

    $ vault write kms/aliases/payments/current target_key_id=payments/tokens-2026
    $ vault write kms/aliases/payments/current target_key_id=payments/tokens-2027 overlap=720h
    $ vault write kms/generate-mac/alias/payments/current mac_algorithm=HMAC_SHA_256 message=...

An alias may point only at keys of its own folder, see config.
`
