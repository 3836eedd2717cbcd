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

func (b *backend) pathKeys() []*framework.Path {
	return []*framework.Path{
		operationPath(`keys/(?P<folder>.+/)?$`, "list", "keys|keys-in-folder", merge(pageFields(), map[string]*framework.FieldSchema{
			"folder":   {Type: framework.TypeString, Description: "List this folder instead of the top level."},
			"detailed": detailedField("keys"),
		}), logical.ListOperation, &framework.PathOperation{
			Callback:  b.pathKeysList,
			Summary:   "List keys, one folder level at a time (ListKeys).",
			Responses: responds(200, "OK", listed("By key: key_state, key_spec, origin, creation_date, ends.")),
		}, keysListHelp),
		operationPath(`keys$`, "create", "key-with-generated-id", newKeyFields(), logical.UpdateOperation, &framework.PathOperation{
			Callback:  b.pathKeysGenerate,
			Summary:   "Create a key whose id is a UUID that the mount chooses (CreateKey).",
			Responses: responds(200, "OK", metadataSchema()),
		}, keysHelp),
		{
			Pattern: `keys/(?P<key_id>.+)`,
			DisplayAttrs: &framework.DisplayAttributes{
				OperationPrefix: operationPrefix, OperationSuffix: "key",
			},
			Fields: merge(newKeyFields(), keyIDField()),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.CreateOperation: &framework.PathOperation{
					Callback:     b.pathKeysWrite,
					Summary:      "Create a key with a chosen id (CreateKey).",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "create", OperationSuffix: "key"},
					Responses:    responds(200, "OK", metadataSchema()),
				},
				logical.UpdateOperation: &framework.PathOperation{
					Callback:     b.pathKeysWrite,
					Summary:      "Create a key with a chosen id (CreateKey), or change the description and tags of an existing one.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "write", OperationSuffix: "key"},
					Responses:    responds(200, "OK", metadataSchema()),
				},
				logical.ReadOperation: &framework.PathOperation{
					Callback:     b.pathKeysRead,
					Summary:      "Describe a key, also by alias/<name> (DescribeKey).",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "describe", OperationSuffix: "key"},
					Responses:    responds(200, "OK", metadataSchema()),
				},
				logical.DeleteOperation: &framework.PathOperation{
					Callback:     b.pathKeysDelete,
					Summary:      "Schedule the deletion of a key with the mount's default waiting period (ScheduleKeyDeletion).",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "delete", OperationSuffix: "key"},
					Responses:    responds(200, "OK", scheduledSchema()),
				},
			},
			ExistenceCheck:  alwaysExists,
			HelpSynopsis:    "Create, describe, change and delete a key.",
			HelpDescription: strings.TrimSpace(keysHelp),
		},
	}
}

func keyIDField() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"key_id": {Type: framework.TypeString, Description: "The key's id: segments of [A-Za-z0-9_.-] joined by slashes, 256 characters at most."},
	}
}

func newKeyFields() map[string]*framework.FieldSchema {
	specs := kms.HMACSpecs()
	allowed := make([]any, len(specs))
	for i, spec := range specs {
		allowed[i] = string(spec)
	}
	return map[string]*framework.FieldSchema{
		"key_spec": {
			Type: framework.TypeString, AllowedValues: allowed,
			Description: "What kind of key: HMAC_224, HMAC_256, HMAC_384 or HMAC_512. Required to create one.",
		},
		"key_usage": {
			Type: framework.TypeString, AllowedValues: []any{kms.UsageMac},
			Description: "GENERATE_VERIFY_MAC, the default and the only usage of HMAC keys.",
		},
		"origin": {
			Type: framework.TypeString, AllowedValues: []any{kms.OriginKMS, kms.OriginExternal},
			Description: "AWS_KMS (default): key material is generated. EXTERNAL: you import it.",
		},
		"multi_region": {
			Type:        framework.TypeBool,
			Description: "Make the key a multi-Region primary. A generated id then starts with mrk-.",
		},
		"description": {Type: framework.TypeString, Description: "Up to 8,192 characters."},
		"policy":      policyField(),
		"tags": {
			Type:        framework.TypeKVPairs,
			Description: "Up to 50 tags, as a map or as repeated tags=key=value. On an existing key they replace all others.",
		},
	}
}

func metadataSchema() map[string]*framework.FieldSchema {
	return merge(keyMetadataSchema(), map[string]*framework.FieldSchema{
		"tags":      field(framework.TypeKVPairs, "The tags."),
		"last_used": optional(framework.TypeMap, "The last successful use: operation, timestamp. Null if there was none."),
	})
}

// keyMetadataSchema is of KMS's KeyMetadata alone.
func keyMetadataSchema() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"key_id":                     field(framework.TypeString, "The key's id."),
		"key_spec":                   field(framework.TypeString, "The key's spec."),
		"customer_master_key_spec":   field(framework.TypeString, "KMS's former name of key_spec."),
		"key_usage":                  field(framework.TypeString, "GENERATE_VERIFY_MAC."),
		"mac_algorithms":             field(framework.TypeStringSlice, "The one algorithm of the spec."),
		"key_state":                  field(framework.TypeString, "Enabled, Disabled, PendingImport or PendingDeletion."),
		"enabled":                    field(framework.TypeBool, "Whether key_state is Enabled."),
		"origin":                     field(framework.TypeString, "AWS_KMS or EXTERNAL."),
		"key_manager":                field(framework.TypeString, "CUSTOMER."),
		"multi_region":               field(framework.TypeBool, "Whether the key is a multi-Region primary."),
		"multi_region_configuration": optional(framework.TypeMap, "Of a multi-Region key: multi_region_key_type, replica_keys."),
		"description":                field(framework.TypeString, "The description."),
		"creation_date":              field(framework.TypeTime, "When the key was created."),
		"deletion_date":              optional(framework.TypeTime, "In PendingDeletion: when the key ceases to exist."),
		"pending_window_in_days":     optional(framework.TypeInt, "In PendingDeletion: the waiting period."),
		"expiration_model":           optional(framework.TypeString, "Of imported key material."),
		"valid_to":                   optional(framework.TypeTime, "When imported key material expires."),
	}
}

func (b *backend) pathKeysList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	now, folder := b.now(), d.Get("folder").(string)
	names, err := b.store.ListKeys(ctx, req.Storage, folder, now)
	if err != nil {
		return nil, err
	}
	names, next, err := page(d, names, 0)
	if err != nil {
		return nil, err
	}
	names, next, keys, err := withDetails(ctx, d, names, next, func(ctx context.Context, names []string) (map[string]*keystore.Key, error) {
		return b.store.KeyDetails(ctx, req.Storage, folder, names, now)
	})
	if err != nil {
		return nil, err
	}
	info := make(map[string]any, len(keys))
	for name, k := range keys {
		info[name] = recordColumns(k, now)
	}
	return listResponse(names, next, info), nil
}

// pathKeysGenerate is CreateKey as KMS has it: the mount chooses the id.
func (b *backend) pathKeysGenerate(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := keyInput(d)
	if err != nil {
		return nil, err
	}
	k, err := b.store.CreateKey(ctx, req.Storage, in)
	if err != nil {
		return nil, err
	}
	return b.describe(ctx, req.Storage, k, b.now())
}

// pathKeysWrite creates a key with a chosen id, or changes the description and
// tags of the one that is there.
func (b *backend) pathKeysWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id := d.Get("key_id").(string)
	if err := kms.CheckNotAlias(id); err != nil {
		return nil, err
	}
	in, err := keyInput(d)
	if err != nil {
		return nil, err
	}
	k, err := b.store.WriteKey(ctx, req.Storage, id, in)
	if err != nil {
		return nil, err
	}
	return b.describe(ctx, req.Storage, k, b.now())
}

// keyInput returns what a request says of a key, validated as far as it can be
// before it is known whether there is a key already.
func keyInput(d *framework.FieldData) (keystore.KeyInput, error) {
	in, err := modelInput("CreateKey", d, nil)
	if err != nil {
		return keystore.KeyInput{}, err
	}
	tags := kms.TagsFrom(in["Tags"])
	if err := kms.CheckTags(tags); err != nil {
		return keystore.KeyInput{}, err
	}
	out := keystore.KeyInput{
		Spec:        (*kms.KeySpec)(fieldOf[string](d, "key_spec")),
		Usage:       fieldOf[string](d, "key_usage"),
		Origin:      fieldOf[string](d, "origin"),
		MultiRegion: fieldOf[bool](d, "multi_region"),
		Description: fieldOf[string](d, "description"),
		Policy:      fieldOf[string](d, "policy"),
	}
	if out.Policy != nil {
		if err := kms.CheckKeyPolicy(*out.Policy, ""); err != nil {
			return keystore.KeyInput{}, err
		}
	}
	if _, ok := d.GetOk("tags"); ok {
		out.Tags = kms.TagMap(tags)
	}
	return out, nil
}

func (b *backend) pathKeysRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	now := b.now()
	k, err := b.store.KeyByName(ctx, req.Storage, d.Get("key_id").(string), now)
	if err != nil || k == nil {
		return nil, err
	}
	return b.describe(ctx, req.Storage, k, now)
}

// describe answers a key's metadata.
func (b *backend) describe(ctx context.Context, s logical.Storage, k *keystore.Key, now time.Time) (*logical.Response, error) {
	data := metadata(k, now)
	data["tags"] = map[string]string{}
	if k.Tags != nil {
		data["tags"] = k.Tags
	}
	use, err := b.store.LastUse(ctx, s, k)
	if err != nil {
		return nil, err
	}
	data["last_used"] = nil
	if !use.Never() {
		data["last_used"] = lastUseData(use)
	}
	return &logical.Response{Data: data}, nil
}

// metadata returns the members of KMS's KeyMetadata that apply. No secret is
// among them.
func metadata(k *keystore.Key, now time.Time) map[string]any {
	state := k.State(now)
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
	if model, validTo := k.Expiration(now); model != "" {
		data["expiration_model"] = model
		if !validTo.IsZero() {
			data["valid_to"] = formatTime(validTo)
		}
	}
	return data
}

// formatTime prints a time as all answers do: RFC 3339, UTC, milliseconds,
// which is KMS's precision.
func formatTime(t time.Time) string {
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

const keysListHelp = `
Lists the keys of one folder, and its folders with a trailing slash, sorted.
A policy on a folder shows a team its own keys only. Details are of the keys'
records; last use, aliases and grants are on inventory.

    $ vault list kms/keys
    $ vault list -detailed kms/keys/payments
    $ vault read kms/keys/payments/ list=true limit=100 after=tokens-2025
`

const keysHelp = `
Creating a key takes its key_spec; the rest has defaults. Repeating the same
request changes nothing, and on an existing key description and tags may change.
Deleting a key schedules its deletion: until the date in the answer it can be
cancelled with cancel-key-deletion.

    $ vault write kms/keys/payments/tokens key_spec=HMAC_256 tags=team=payments
    $ vault write -f kms/keys key_spec=HMAC_512
    $ vault read kms/keys/payments/tokens
    $ vault read kms/keys/alias/payments/current
    $ vault list -detailed kms/keys/payments
    $ vault delete kms/keys/payments/tokens
`
