package kmshmac

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

const (
	aliasRecordVersion = 1

	// maxPreviousKeys bounds the work of one verification.
	maxPreviousKeys = 4
)

// alias is the stored record of an alias. Like key records it is shared by the
// cache and never changed.
type alias struct {
	Version         int           `json:"version"`
	Name            string        `json:"name"` // with its alias/ prefix
	TargetKeyID     string        `json:"target_key_id"`
	Previous        []previousKey `json:"previous,omitempty"`
	CreationDate    time.Time     `json:"creation_date"`
	LastUpdatedDate time.Time     `json:"last_updated_date"`
}

// previousKey is a former target of an alias, whose MACs verify-mac accepts
// through the alias until ValidTo.
type previousKey struct {
	KeyID   string    `json:"key_id"`
	Left    time.Time `json:"left"` // when the alias was moved away from it
	ValidTo time.Time `json:"valid_to"`
}

func (a *alias) shortName() string { return strings.TrimPrefix(a.Name, kms.AliasPrefix) }

// previous returns the former targets that are still accepted.
func (a *alias) previous(now time.Time) []previousKey {
	if len(a.Previous) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(a.Previous), func(p previousKey) bool { return !now.Before(p.ValidTo) })
}

// moved returns the alias pointing at another key. The key it leaves is
// accepted for the overlap; without one, no former key is accepted any more,
// since whoever moves an alias at once, away from a leaked key say, means it.
func (a *alias) moved(target string, overlap time.Duration, now time.Time) (*alias, error) {
	c := *a
	c.TargetKeyID, c.Previous, c.LastUpdatedDate = target, nil, now
	if overlap == 0 {
		return &c, nil
	}
	for _, p := range append(a.previous(now), previousKey{a.TargetKeyID, now, now.Add(overlap)}) {
		if p.KeyID != target {
			c.Previous = append(c.Previous, p)
		}
	}
	if len(c.Previous) > maxPreviousKeys {
		return nil, kms.Validationf("%s would accept %d previous keys, more than %d: move it without overlap, or wait for one to end", a.Name, len(c.Previous), maxPreviousKeys)
	}
	return &c, nil
}

func (a *alias) data(now time.Time) map[string]any {
	data := map[string]any{
		"alias_name":        a.Name,
		"target_key_id":     a.TargetKeyID,
		"creation_date":     formatTime(a.CreationDate),
		"last_updated_date": formatTime(a.LastUpdatedDate),
	}
	if previous := a.previous(now); len(previous) > 0 {
		keys := make([]map[string]any, len(previous))
		for i, p := range previous {
			keys[i] = map[string]any{"key_id": p.KeyID, "valid_to": formatTime(p.ValidTo)}
		}
		data["previous_keys"] = keys
	}
	return data
}

func (b *backend) pathAliases() []*framework.Path {
	schema := map[string]*framework.FieldSchema{
		"alias_name":        field(framework.TypeString, "The alias, with its alias/ prefix."),
		"target_key_id":     field(framework.TypeString, "The key it points at."),
		"creation_date":     field(framework.TypeTime, "When it was created."),
		"last_updated_date": field(framework.TypeTime, "When it was last moved."),
		"previous_keys":     optional(framework.TypeSlice, "Former keys whose MACs are still accepted: key_id, valid_to."),
	}
	return []*framework.Path{
		{
			Pattern: `aliases/(?P<folder>.+/)?$`,
			DisplayAttrs: &framework.DisplayAttributes{
				OperationPrefix: operationPrefix, OperationVerb: "list", OperationSuffix: "aliases|aliases-in-folder",
			},
			Fields: merge(pageFields(), map[string]*framework.FieldSchema{
				"folder": {Type: framework.TypeString, Description: "List this folder instead of the top level."},
				"detailed": {
					Type: framework.TypeBool, Query: true,
					Description: "Also answer key_info of the aliases listed, which reads each of them.",
				},
				"target_key_id": {
					Type: framework.TypeString, Query: true,
					Description: "List only the aliases of this key, at any depth below the folder.",
				},
			}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: &framework.PathOperation{
					Callback:  b.pathAliasesList,
					Summary:   "List the aliases and folders of one folder, or the aliases of a key (ListAliases).",
					Responses: responds(200, "OK", listed("With detailed, by alias: what reading it answers.")),
				},
			},
			HelpSynopsis:    "List aliases, one folder level at a time, or those of a key.",
			HelpDescription: strings.TrimSpace(aliasesListHelp),
		},
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

// liveAlias returns the alias of this name, prefix included, and the key it
// points at; both nil if there is no such alias, or its key is gone and the
// alias with it.
func (b *backend) liveAlias(ctx context.Context, s logical.Storage, name string, now time.Time) (*alias, *liveKey, error) {
	a, err := b.store.alias(ctx, s, name)
	if err != nil || a == nil {
		return nil, nil, err
	}
	k, err := b.store.key(ctx, s, a.TargetKeyID, now)
	if err != nil || k == nil {
		return nil, nil, err
	}
	return a, k, nil
}

func (b *backend) pathAliasesList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	now, folder := b.now(), d.Get("folder").(string)
	names, err := b.aliasNames(ctx, req.Storage, folder, d, now)
	if err != nil {
		return nil, err
	}
	names, next, err := page(d, names)
	if err != nil {
		return nil, err
	}
	var info map[string]any
	if d.Get("detailed").(bool) {
		info = map[string]any{}
		for _, name := range names {
			if strings.HasSuffix(name, "/") {
				continue
			}
			a, _, err := b.liveAlias(ctx, req.Storage, aliasPrefix+folder+name, now)
			if err != nil {
				return nil, err
			}
			if a != nil {
				info[name] = a.data(now)
			}
		}
	}
	return listResponse(names, next, info), nil
}

// aliasNames returns the names to list, relative to the folder, sorted.
func (b *backend) aliasNames(ctx context.Context, s logical.Storage, folder string, d *framework.FieldData, now time.Time) ([]string, error) {
	target, ok := d.GetOk("target_key_id")
	if !ok {
		return b.store.listAliases(ctx, s, folder, now)
	}
	// A key that is not there has no aliases, and neither has one of another
	// folder: the answer must not tell a team which keys other teams have.
	k, err := b.keyByID(ctx, s, target.(string), now)
	if k == nil {
		return nil, unlessKeyNotFound(err)
	}
	aliases, err := b.store.aliasesOf(ctx, s, k.ID)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, a := range aliases {
		if name, ok := strings.CutPrefix(a.shortName(), folder); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// unlessKeyNotFound drops the exception for a key that does not exist.
func unlessKeyNotFound(err error) error {
	var ex *kms.Exception
	if errors.As(err, &ex) && ex.Type == kms.TypeNotFound {
		return nil
	}
	return err
}

func (b *backend) pathAliasesRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	now := b.now()
	a, _, err := b.liveAlias(ctx, req.Storage, aliasPrefix+d.Get("name").(string), now)
	if err != nil || a == nil {
		return nil, err
	}
	return &logical.Response{Data: a.data(now)}, nil
}

// aliasWrite is a request to create or move an alias.
type aliasWrite struct {
	name, target string
	overlap      time.Duration
	hasOverlap   bool
	mustExist    *bool
}

func (b *backend) pathAliasesWrite(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	w, err := newAliasWrite(d)
	if err != nil {
		return nil, err
	}
	if err := b.checkAliasScope(ctx, req.Storage, w.name, w.target); err != nil {
		return nil, err
	}
	a, err := b.writeAlias(ctx, req.Storage, w)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: a.data(b.now())}, nil
}

func newAliasWrite(d *framework.FieldData) (aliasWrite, error) {
	w := aliasWrite{name: aliasPrefix + d.Get("name").(string)}
	in, err := modelInput("CreateAlias", d, map[string]any{"AliasName": w.name})
	if err != nil {
		return w, err
	}
	if err := kms.CheckAliasName(w.name); err != nil {
		return w, err
	}
	w.target = text(in, "TargetKeyId")
	if strings.HasPrefix(w.target, kms.AliasPrefix) {
		return w, kms.AliasTarget()
	}
	if err := kms.CheckKeyID(w.target); err != nil {
		return w, err
	}
	if seconds, ok := d.GetOk("overlap"); ok {
		w.overlap, w.hasOverlap = time.Duration(seconds.(int))*time.Second, true
		if w.overlap < 0 {
			return w, kms.Validationf("overlap must not be negative")
		}
	}
	if mustExist, ok := d.GetOk("must_exist"); ok {
		value := mustExist.(bool)
		w.mustExist = &value
	}
	return w, nil
}

// checkAliasScope keeps an alias to keys of its own folder. KMS asks for
// permission on the alias and on the key; a Vault policy sees the path alone,
// so without this rule who may write an alias could borrow another team's key.
func (b *backend) checkAliasScope(ctx context.Context, s logical.Storage, name, target string) error {
	if kms.Folder(name) == kms.Folder(target) {
		return nil
	}
	config, err := b.config(ctx, s)
	if err != nil || config.AliasScope == scopeAny {
		return err
	}
	return kms.Validationf("%s may point only at keys of its own folder, and %s is not in it. On a mount that one team owns, set alias_scope=any in config.", name, target)
}

// writeAlias creates or moves an alias. Readers see it either where it was or
// where it goes: the record is replaced in one write.
func (b *backend) writeAlias(ctx context.Context, s logical.Storage, w aliasWrite) (*alias, error) {
	defer b.store.lock(w.name, keyPrefix+w.target)()
	now := b.now().UTC().Truncate(time.Millisecond)

	target, err := b.store.loadKey(ctx, s, w.target)
	if err != nil {
		return nil, err
	}
	if target == nil || target.gone(now) {
		return nil, kms.KeyNotFound(w.target)
	}
	if err := kms.Check("CreateAlias", target.facts(now)); err != nil {
		return nil, err
	}
	stored, err := b.store.loadAlias(ctx, s, w.name)
	if err != nil {
		return nil, err
	}
	existing, err := unlessTargetGone(ctx, s, stored, now)
	if err != nil {
		return nil, err
	}
	a, err := w.apply(existing, now)
	if err != nil || a == existing {
		return a, err
	}
	if existing == nil || existing.TargetKeyID != a.TargetKeyID {
		if err := b.checkAliasCount(ctx, s, w.target); err != nil {
			return nil, err
		}
	}
	if err := b.store.saveAlias(ctx, s, a); err != nil {
		return nil, err
	}
	if stored != nil && stored.TargetKeyID != a.TargetKeyID {
		if err := b.store.dropAliasHint(ctx, s, stored.TargetKeyID, a.shortName()); err != nil {
			b.Logger().Warn("an outdated hint remains, which is harmless", "error", err)
		}
	}
	return a, nil
}

// unlessTargetGone returns the alias, nil if its key is gone and only the tidy
// has not come by yet.
func unlessTargetGone(ctx context.Context, s logical.Storage, a *alias, now time.Time) (*alias, error) {
	if a == nil {
		return nil, nil
	}
	k, err := peekKey(ctx, s, a.TargetKeyID)
	if err != nil || k == nil || k.gone(now) {
		return nil, err
	}
	return a, nil
}

// apply returns the alias as the request wants it; existing itself if that
// changes nothing.
func (w aliasWrite) apply(existing *alias, now time.Time) (*alias, error) {
	switch {
	case existing == nil && w.mustExist != nil && *w.mustExist:
		return nil, kms.AliasNotFound(w.name)
	case existing == nil:
		return &alias{
			Version: aliasRecordVersion, Name: w.name, TargetKeyID: w.target,
			CreationDate: now, LastUpdatedDate: now,
		}, nil
	case w.mustExist != nil && !*w.mustExist:
		return nil, kms.AliasExists(w.name)
	case existing.TargetKeyID != w.target:
		return existing.moved(w.target, w.overlap, now)
	case w.hasOverlap && w.overlap == 0 && len(existing.Previous) > 0:
		return existing.moved(w.target, 0, now) // ends the overlap
	}
	return existing, nil
}

func (b *backend) checkAliasCount(ctx context.Context, s logical.Storage, keyID string) error {
	hints, err := b.store.aliasHints(ctx, s, keyID)
	if err != nil || len(hints) < kms.MaxAliasesPerKey {
		return err
	}
	aliases, err := b.store.peekAliases(ctx, s, keyID)
	if err != nil || len(aliases) < kms.MaxAliasesPerKey {
		return err
	}
	return kms.LimitExceeded("Aliases per key quota for this account in this region is %d, current usage is %d.", kms.MaxAliasesPerKey, len(aliases))
}

func (b *backend) pathAliasesDelete(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := aliasPrefix + d.Get("name").(string)
	if kms.CheckAliasName(name) != nil {
		return nil, kms.AliasNotFound(name)
	}
	defer b.store.lock(name)()
	a, err := b.store.loadAlias(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	live, err := unlessTargetGone(ctx, req.Storage, a, b.now())
	if err != nil {
		return nil, err
	}
	if live == nil {
		return nil, kms.AliasNotFound(name)
	}
	return nil, b.store.removeAlias(ctx, req.Storage, a)
}

const aliasesListHelp = `
Lists the aliases of one folder without their alias/ prefix, and its folders
with a trailing slash, sorted.

    $ vault list kms/aliases
    $ vault list kms/aliases/payments
    $ vault read kms/aliases/ list=true detailed=true target_key_id=payments/tokens
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
