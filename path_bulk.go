package kmshmac

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

// maxBulk is how many keys or aliases one request changes.
const maxBulk = 100

// What has become of an item of a bulk request, unless it has an error.
const (
	bulkDone      = "done"
	bulkUnchanged = "unchanged"
	bulkWould     = "would change" // a dry run
)

func (b *backend) pathBulk() []*framework.Path {
	filters := maps.Clone(inventoryFields())
	delete(filters, "format")
	filters["limit"] = &framework.FieldSchema{Type: framework.TypeInt, Description: fmt.Sprintf("At most so many keys, %d unless set and at most. Go on with after.", maxBulk)}
	for name, schema := range filters {
		plain := *schema
		plain.Query = false // these are in the body of a write
		filters[name] = &plain
	}
	dryRun := map[string]*framework.FieldSchema{
		"dry_run": {Type: framework.TypeBool, Description: "Change nothing, and answer what would happen."},
	}
	window := map[string]*framework.FieldSchema{
		"pending_window_in_days": {Type: framework.TypeInt, Description: "The waiting period in days. Defaults to the mount's, see config."},
	}
	return []*framework.Path{
		bulkPath("disable-key", "disable", "keys", merge(filters, dryRun), b.pathBulkDisable, "Disable all keys below a folder that a filter chooses.", bulkDisableHelp),
		bulkPath("schedule-key-deletion", "schedule", "key-deletions", merge(filters, dryRun, window), b.pathBulkSchedule, "Schedule the deletion of all keys below a folder that a filter chooses.", bulkScheduleHelp),
		bulkPath("move-aliases", "move", "aliases", merge(dryRun, map[string]*framework.FieldSchema{
			"targets": {Type: framework.TypeKVPairs, Required: true, Description: fmt.Sprintf("Key ids by aliases, which are below the folder, with or without their alias/ prefix: %d at most.", maxBulk)},
			"overlap": {Type: framework.TypeDurationSecond, Description: "For how long verify-mac through the aliases also accepts MACs of the keys that they leave. Defaults to 0."},
		}), b.pathBulkMove, "Point aliases of a folder at other keys.", bulkMoveHelp),
	}
}

func bulkPath(name, verb, suffix string, fields map[string]*framework.FieldSchema, handler framework.OperationFunc, summary, help string) *framework.Path {
	return &framework.Path{
		Pattern:      "bulk/" + name + `/(?P<folder>.+)`,
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: verb, OperationSuffix: suffix + "-in-bulk"},
		Fields: merge(fields, map[string]*framework.FieldSchema{
			"folder": {Type: framework.TypeString, Description: "The folder, with or without a slash at its end."},
		}),
		Operations: map[logical.Operation]framework.OperationHandler{logical.UpdateOperation: &framework.PathOperation{
			Callback: handler, Summary: summary,
			Responses: responds(200, "OK", map[string]*framework.FieldSchema{
				"results":    field(framework.TypeSlice, "For each: key_id, alias_name of an alias, and result (done, unchanged, would change) or error with type and message."),
				"failed":     field(framework.TypeInt, "How many have an error."),
				"truncated":  optional(framework.TypeBool, "Whether there may be more."),
				"next_after": optional(framework.TypeString, "What to pass as after to go on."),
			}),
		}},
		HelpSynopsis: summary, HelpDescription: strings.TrimSpace(help),
	}
}

// bulkResults collects what has become of each item.
type bulkResults struct {
	list     []map[string]any
	failed   int
	readOnly bool // this node cannot write, and so has done nothing
}

// add adds a result. An error is the item's own, also one that is not the
// caller's: what was done before it must not be hidden.
func (r *bulkResults) add(item map[string]any, result string, err error) {
	if err == nil {
		item["result"] = result
	} else {
		var ex *kms.Exception
		if !errors.As(err, &ex) {
			r.readOnly = r.readOnly || errors.Is(asInternal(err), logical.ErrReadOnly)
			ex = &kms.Exception{Type: kms.TypeInternal, Message: "whether this was done is not known: read it"}
		}
		item["error"] = &itemError{ex.Type, ex.Text()}
		r.failed++
	}
	r.list = append(r.list, item)
}

// response answers the results. Where this node cannot write, it is Vault's to
// pass the whole request to one that can.
func (r *bulkResults) response() (*logical.Response, error) {
	if r.readOnly {
		return nil, logical.ErrReadOnly
	}
	if r.list == nil {
		r.list = []map[string]any{}
	}
	return &logical.Response{Data: map[string]any{"results": r.list, "failed": r.failed}}, nil
}

// bulkKeys applies a change to a page of the keys that a filter chooses. Which
// they are must be said: nobody means all keys by saying nothing.
func (b *backend) bulkKeys(ctx context.Context, req *logical.Request, d *framework.FieldData, operation string, would func(*keystore.InventoryItem) bool, change func(id string) error) (*logical.Response, error) {
	now := b.now()
	filter, err := inventoryFilter(d, now)
	if err != nil {
		return nil, err
	}
	if filter == (keystore.InventoryFilter{}) {
		return nil, kms.Validationf("say which keys: with tag, key_state, alias, unused_since or another filter")
	}
	limit := d.Get("limit").(int)
	if limit == 0 {
		limit = maxBulk
	}
	if limit < 1 || limit > maxBulk {
		return nil, kms.Validationf("limit must be between 1 and %d", maxBulk)
	}
	items, next, err := b.store.Inventory(ctx, req.Storage, folderOf(d), d.Get("after").(string), limit, filter, now)
	if err != nil {
		return nil, err
	}
	var results bulkResults
	for i := range items {
		result, err := bulkChange(&items[i], operation, d.Get("dry_run").(bool), now, would, change)
		results.add(map[string]any{"key_id": items[i].ID}, result, err)
	}
	resp, err := results.response()
	if err == nil {
		addPaging(resp.Data, next)
	}
	return resp, err
}

func bulkChange(item *keystore.InventoryItem, operation string, dryRun bool, now time.Time, would func(*keystore.InventoryItem) bool, change func(id string) error) (string, error) {
	if err := kms.Check(operation, item.Facts(now)); err != nil {
		return "", err
	}
	switch {
	case !would(item):
		return bulkUnchanged, nil
	case dryRun:
		return bulkWould, nil
	}
	return bulkDone, change(item.ID)
}

func (b *backend) pathBulkDisable(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return b.bulkKeys(ctx, req, d, "DisableKey", func(item *keystore.InventoryItem) bool { return !item.Disabled },
		func(id string) error { return b.store.DisableKey(ctx, req.Storage, id) })
}

func (b *backend) pathBulkSchedule(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	days := d.Get("pending_window_in_days").(int)
	if err := b.store.CheckPendingWindow(ctx, req.Storage, days); err != nil {
		return nil, err
	}
	return b.bulkKeys(ctx, req, d, "ScheduleKeyDeletion", func(*keystore.InventoryItem) bool { return true }, func(id string) error {
		_, err := b.store.ScheduleKeyDeletion(ctx, req.Storage, id, days)
		return err
	})
}

func (b *backend) pathBulkMove(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	folder, targets := folderOf(d), d.Get("targets").(map[string]string)
	overlap := time.Duration(d.Get("overlap").(int)) * time.Second
	switch {
	case len(targets) == 0 || len(targets) > maxBulk:
		return nil, kms.Validationf("targets must name 1 to %d aliases", maxBulk)
	case overlap < 0:
		return nil, kms.Validationf("overlap must not be negative")
	}
	must := true
	var results bulkResults
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		in := keystore.AliasInput{
			Name: kms.AliasPrefix + strings.TrimPrefix(name, kms.AliasPrefix), TargetKeyID: targets[name],
			Overlap: &overlap, MustExist: &must, DryRun: d.Get("dry_run").(bool),
		}
		item := map[string]any{"alias_name": in.Name, "key_id": in.TargetKeyID}
		result, err := b.bulkMove(ctx, req.Storage, folder, in)
		results.add(item, result, err)
	}
	return results.response()
}

func (b *backend) bulkMove(ctx context.Context, s logical.Storage, folder string, in keystore.AliasInput) (string, error) {
	if err := kms.CheckAliasName(in.Name); err != nil {
		return "", err
	}
	// The policy on the path is about this folder alone.
	if !strings.HasPrefix(in.Name, kms.AliasPrefix+folder) {
		return "", kms.Validationf("%s is not below %s", in.Name, folder)
	}
	if err := kms.CheckKeyID(in.TargetKeyID); err != nil {
		return "", err
	}
	before, _, err := b.store.Alias(ctx, s, in.Name, b.now())
	if err != nil {
		return "", err
	}
	if before == nil {
		return "", kms.AliasNotFound(in.Name)
	}
	if before.TargetKeyID == in.TargetKeyID {
		return bulkUnchanged, nil
	}
	if _, err := b.store.WriteAlias(ctx, s, in); err != nil {
		return "", err
	}
	if in.DryRun {
		return bulkWould, nil
	}
	return bulkDone, nil
}

const bulkDisableHelp = `
Disables all keys below a folder that a filter of inventory chooses, up to 100 a
request, and says of each what has become of it. At least one filter must be
given.

    $ vault write kms/bulk/disable-key/payments tag=leaked=2026-11 dry_run=true
    $ vault write kms/bulk/disable-key/payments tag=leaked=2026-11
`

const bulkScheduleHelp = `
Schedules the deletion of all keys below a folder that a filter of inventory
chooses, up to 100 a request, and says of each what has become of it. At least
one filter must be given.

    $ vault write kms/bulk/schedule-key-deletion/payments key_state=Disabled unused_since=365d dry_run=true
    $ vault write kms/bulk/schedule-key-deletion/payments tag=retired pending_window_in_days=30
`

const bulkMoveHelp = `
Points aliases of a folder at other keys, up to 100 in one request, each by
itself, and says of each what has become of it.

    $ vault write kms/bulk/move-aliases/payments overlap=720h dry_run=true \
        targets=payments/current=payments/tokens-2027 targets=payments/eu/current=payments/eu-2027
`
