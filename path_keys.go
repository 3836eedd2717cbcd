package kmshmac

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

func (b *backend) pathKeys() []*framework.Path {
	return []*framework.Path{
		{
			Pattern: `keys/(?P<folder>.+/)?$`,
			DisplayAttrs: &framework.DisplayAttributes{
				OperationPrefix: operationPrefix, OperationVerb: "list", OperationSuffix: "keys|keys-in-folder",
			},
			Fields: merge(pageFields(), map[string]*framework.FieldSchema{
				"folder": {Type: framework.TypeString, Description: "List this folder instead of the top level."},
				"detailed": {
					Type: framework.TypeBool, Query: true,
					Description: "Also answer key_info of the keys listed, which reads each of them.",
				},
			}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: &framework.PathOperation{
					Callback:  b.pathKeysList,
					Summary:   "List the keys and folders of one folder.",
					Responses: responds(200, "OK", listed("With detailed, by key: key_spec, key_state, origin, creation_date.")),
				},
			},
			HelpSynopsis:    "List keys, one folder level at a time.",
			HelpDescription: strings.TrimSpace(keysListHelp),
		},
		{
			Pattern: `keys$`,
			DisplayAttrs: &framework.DisplayAttributes{
				OperationPrefix: operationPrefix, OperationVerb: "create", OperationSuffix: "key-with-generated-id",
			},
			Fields: newKeyFields(),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: &framework.PathOperation{
					Callback:  b.pathKeysGenerate,
					Summary:   "Create a key whose id the mount chooses (CreateKey).",
					Responses: responds(200, "OK", metadataSchema()),
				},
			},
			HelpSynopsis:    "Create a key whose id is a UUID.",
			HelpDescription: strings.TrimSpace(keysHelp),
		},
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
		"tags": {
			Type:        framework.TypeKVPairs,
			Description: "Up to 50 tags, as a map or as repeated tags=key=value. On an existing key they replace all others.",
		},
	}
}

func metadataSchema() map[string]*framework.FieldSchema {
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
		"tags":                       field(framework.TypeKVPairs, "The tags."),
		"last_used":                  optional(framework.TypeMap, "The last successful use: operation, timestamp. Null if there was none."),
	}
}

func (b *backend) pathKeysList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	now, folder := b.now(), d.Get("folder").(string)
	names, err := b.store.listKeys(ctx, req.Storage, folder, now)
	if err != nil {
		return nil, err
	}
	names, next, err := page(d, names)
	if err != nil {
		return nil, err
	}
	var info map[string]any
	if d.Get("detailed").(bool) {
		if info, err = b.keyInfo(ctx, req.Storage, folder, names, now); err != nil {
			return nil, err
		}
	}
	return listResponse(names, next, info), nil
}

func (b *backend) keyInfo(ctx context.Context, s logical.Storage, folder string, names []string, now time.Time) (map[string]any, error) {
	info := map[string]any{}
	for _, name := range names {
		if strings.HasSuffix(name, "/") {
			continue
		}
		k, err := b.store.key(ctx, s, folder+name, now)
		if err != nil {
			return nil, err
		}
		if k != nil {
			info[name] = map[string]any{
				"key_spec": k.Spec, "key_state": k.state(now), "origin": k.Origin, "creation_date": formatTime(k.CreationDate),
			}
		}
	}
	return info, nil
}

// pathKeysGenerate is CreateKey as KMS has it: the mount chooses the id.
func (b *backend) pathKeysGenerate(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := newKeyInput(d)
	if err != nil {
		return nil, err
	}
	id, err := uuid.NewRandomFromReader(b.GetRandomReader())
	if err != nil {
		return nil, fmt.Errorf("choosing a key id: %w", err)
	}
	name := id.String()
	if multiRegion, _ := in["MultiRegion"].(bool); multiRegion {
		name = "mrk-" + strings.ReplaceAll(name, "-", "")
	}
	defer b.store.lock(keyPrefix + name)()
	return b.createKey(ctx, req.Storage, name, in)
}

// pathKeysWrite creates a key with a chosen id, or changes the description and
// tags of the one that is there.
func (b *backend) pathKeysWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id := d.Get("key_id").(string)
	if err := checkNotAlias(id); err != nil {
		return nil, err
	}
	in, err := newKeyInput(d)
	if err != nil {
		return nil, err
	}
	if err := kms.CheckKeyID(id); err != nil {
		return nil, err
	}
	if err := b.purgeIfGone(ctx, req.Storage, id); err != nil {
		return nil, err
	}

	defer b.store.lock(keyPrefix + id)()
	existing, err := b.store.loadKey(ctx, req.Storage, id)
	switch {
	case err != nil:
		return nil, err
	case existing != nil:
		return b.rewriteKey(ctx, req.Storage, existing, d, in)
	case isUpdateOnly(d):
		ex := kms.KeyNotFound(id)
		ex.Hint = "(to create it, set key_spec)"
		return nil, ex
	}
	return b.createKey(ctx, req.Storage, id, in)
}

// isUpdateOnly reports whether a write says nothing of what a new key must be.
func isUpdateOnly(d *framework.FieldData) bool {
	for _, name := range []string{"key_spec", "key_usage", "origin", "multi_region"} {
		if _, ok := d.GetOk(name); ok {
			return false
		}
	}
	return true
}

// newKeyInput returns the input of CreateKey as far as it can be validated
// before it is known whether there is a key already.
func newKeyInput(d *framework.FieldData) (map[string]any, error) {
	in, err := modelInput("CreateKey", d, nil)
	if err != nil {
		return nil, err
	}
	return in, kms.CheckTags(kms.TagsFrom(in["Tags"]))
}

// createKey makes a new key out of an input. The caller holds the key's lock
// and knows that there is none. The usage that KMS makes its callers repeat is
// a default here.
func (b *backend) createKey(ctx context.Context, s logical.Storage, id string, in map[string]any) (*logical.Response, error) {
	spec, usage, origin := kms.KeySpec(text(in, "KeySpec")), text(in, "KeyUsage"), text(in, "Origin")
	if usage == "" && spec.IsHMAC() {
		usage = kms.UsageMac
	}
	if origin == "" {
		origin = kms.OriginKMS
	}
	if err := kms.CheckNewKey(spec, usage, origin); err != nil {
		return nil, err
	}
	now := b.now()
	k := &key{
		Version:      keyRecordVersion,
		ID:           id,
		Spec:         spec,
		Origin:       origin,
		Description:  text(in, "Description"),
		Tags:         kms.TagMap(kms.TagsFrom(in["Tags"])),
		CreationDate: now.UTC().Truncate(time.Millisecond),
	}
	k.MultiRegion, _ = in["MultiRegion"].(bool)
	if origin == kms.OriginKMS {
		k.Material = make([]byte, spec.Bytes())
		if _, err := io.ReadFull(b.GetRandomReader(), k.Material); err != nil {
			return nil, fmt.Errorf("generating key material: %w", err)
		}
	}
	live, err := b.store.saveKey(ctx, s, k)
	if err != nil {
		return nil, err
	}
	return b.describe(ctx, s, live, now)
}

// rewriteKey applies a write to a key that exists: the same again is fine,
// description and tags may change, the rest may not. The caller holds the
// key's lock.
func (b *backend) rewriteKey(ctx context.Context, s logical.Storage, existing *liveKey, d *framework.FieldData, in map[string]any) (*logical.Response, error) {
	fixed := []struct {
		field string
		is    any
	}{
		{"key_spec", string(existing.Spec)}, {"key_usage", kms.UsageMac},
		{"origin", existing.Origin}, {"multi_region", existing.MultiRegion},
	}
	for _, f := range fixed {
		if wanted, ok := d.GetOk(f.field); ok && wanted != f.is {
			return nil, alreadyExists(existing.ID, f.field, f.is)
		}
	}
	changed := existing.clone()
	if _, ok := d.GetOk("description"); ok {
		changed.Description = text(in, "Description")
	}
	if _, ok := d.GetOk("tags"); ok {
		changed.Tags = kms.TagMap(kms.TagsFrom(in["Tags"]))
	}
	now := b.now()
	same := changed.Description == existing.Description && maps.Equal(changed.Tags, existing.Tags)
	if !same || isUpdateOnly(d) { // else the same key is asked for again, in whatever state
		if err := kms.Check("UpdateKeyDescription", existing.facts(now)); err != nil {
			return nil, err
		}
	}
	if same {
		return b.describe(ctx, s, existing, now)
	}
	live, err := b.store.saveKey(ctx, s, changed)
	if err != nil {
		return nil, err
	}
	return b.describe(ctx, s, live, now)
}

func alreadyExists(id, field string, is any) error {
	return &kms.Exception{
		Type:    kms.TypeAlreadyExists,
		Message: fmt.Sprintf("Key '%s' already exists with %s %v", id, field, is),
		KeyID:   id,
	}
}

// checkNotAlias refuses an alias where KMS takes key ids only, before anything
// is looked up.
func checkNotAlias(id string) error {
	if strings.HasPrefix(id, kms.AliasPrefix) {
		return kms.AliasNotSupported()
	}
	return nil
}

func (b *backend) pathKeysRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	now := b.now()
	k, err := b.readable(ctx, req.Storage, d.Get("key_id").(string), now)
	if err != nil || k == nil {
		return nil, err
	}
	return b.describe(ctx, req.Storage, k, now)
}

// readable returns the key that a key id or alias names, nil if there is none.
func (b *backend) readable(ctx context.Context, s logical.Storage, name string, now time.Time) (*liveKey, error) {
	if strings.HasPrefix(name, kms.AliasPrefix) {
		_, k, err := b.liveAlias(ctx, s, name, now)
		return k, err
	}
	return b.store.key(ctx, s, name, now)
}

// describe answers a key's metadata.
func (b *backend) describe(ctx context.Context, s logical.Storage, k *liveKey, now time.Time) (*logical.Response, error) {
	data := k.metadata(now)
	use, err := b.store.usages.lastUse(ctx, s, k)
	if err != nil {
		return nil, err
	}
	data["last_used"] = nil
	if !use.never() {
		data["last_used"] = use.response()
	}
	return &logical.Response{Data: data}, nil
}

// keyByID returns a key that a management operation names; an alias, an
// impossible id and a key that is not there are exceptions.
func (b *backend) keyByID(ctx context.Context, s logical.Storage, id string, now time.Time) (*liveKey, error) {
	if err := checkNotAlias(id); err != nil {
		return nil, err
	}
	if err := kms.CheckKeyID(id); err != nil {
		return nil, err
	}
	k, err := b.store.key(ctx, s, id, now)
	if err == nil && k == nil {
		err = kms.KeyNotFound(id)
	}
	return k, err
}

// changeKey is the only way to change a key: it loads the record under its
// lock, checks that the operation is allowed in the key's state, lets change
// alter a copy, and saves it if change says that it did.
func (b *backend) changeKey(ctx context.Context, s logical.Storage, operation, id string, change func(k *key, now time.Time) (changed bool, err error)) (*liveKey, error) {
	if err := checkNotAlias(id); err != nil {
		return nil, err
	}
	if err := kms.CheckKeyID(id); err != nil {
		return nil, err
	}
	defer b.store.lock(keyPrefix + id)()
	now := b.now()
	k, err := b.store.loadKey(ctx, s, id)
	if err != nil {
		return nil, err
	}
	if k == nil || k.gone(now) {
		return nil, kms.KeyNotFound(id)
	}
	if err := kms.Check(operation, k.facts(now)); err != nil {
		return nil, err
	}
	copied := k.clone()
	changed, err := change(copied, now)
	if err != nil || !changed {
		return k, err
	}
	return b.store.saveKey(ctx, s, copied)
}

const keysListHelp = `
Lists the keys of one folder, and its folders with a trailing slash, sorted.
A policy on a folder shows a team its own keys only.

    $ vault list kms/keys
    $ vault list kms/keys/payments
    $ vault read kms/keys/payments/ list=true limit=100 after=tokens-2025
    $ vault read kms/keys/payments/ list=true detailed=true
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
    $ vault delete kms/keys/payments/tokens
`
