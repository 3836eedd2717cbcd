package kmshmac

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

// The sizes of pages of an inventory.
const (
	defaultInventoryLimit = 100
	maxInventoryLimit     = 500
)

// What stands for no name and no time in filters.
const (
	anyAlias  = "any"
	noAlias   = "none"
	neverUsed = "never"
)

// The formats of answers.
const (
	formatJSON  = "json"
	formatTable = "table"
)

func (b *backend) pathInventory() []*framework.Path {
	schema := map[string]*framework.FieldSchema{
		"keys":       optional(framework.TypeStringSlice, "The ids of the keys, sorted."),
		"key_info":   optional(framework.TypeMap, "By key id, all that there is to know."),
		"table":      optional(framework.TypeString, "With format=table: the same as text, instead of key_info."),
		"truncated":  optional(framework.TypeBool, "Whether there may be more."),
		"next_after": optional(framework.TypeString, "What to pass as after for the next page."),
	}
	return b.folderPaths("inventory", folderPath{
		fields:   inventoryFields(),
		read:     b.pathInventoryRead,
		list:     b.pathInventoryList,
		summary:  "Show the keys below a folder, with all that belongs to them.",
		schema:   schema,
		synopsis: "All keys below a folder, at any depth, and all that there is to know of each.",
		help:     inventoryHelp,
	})
}

// folderPath is a path that shows what is below a folder: <name>, <name>/ and
// <name>/<folder>, with or without a slash at its end, which the vault command
// drops when it reads.
type folderPath struct {
	fields         map[string]*framework.FieldSchema
	read, list     framework.OperationFunc // list may be nil
	summary        string
	schema         map[string]*framework.FieldSchema
	synopsis, help string
}

func (b *backend) folderPaths(name string, p folderPath) []*framework.Path {
	operations := func(of string) map[logical.Operation]framework.OperationHandler {
		handlers := map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback: p.read, Summary: p.summary, Responses: responds(200, "OK", p.schema),
				DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "read", OperationSuffix: name + of},
			},
		}
		if p.list != nil {
			handlers[logical.ListOperation] = &framework.PathOperation{
				Callback: p.list, Summary: p.summary, Responses: responds(200, "OK", p.schema),
				DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "list", OperationSuffix: name + of},
			}
		}
		return handlers
	}
	return []*framework.Path{
		{
			Pattern:      name + `/?$`,
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix},
			Fields:       p.fields, Operations: operations(""),
			HelpSynopsis: p.synopsis, HelpDescription: strings.TrimSpace(p.help),
		},
		{
			Pattern:      name + `/(?P<folder>.+)`,
			DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix},
			Fields: merge(p.fields, map[string]*framework.FieldSchema{
				"folder": {Type: framework.TypeString, Description: "The folder, with or without a slash at its end."},
			}),
			Operations: operations("-of-folder"), HelpSynopsis: p.synopsis, HelpDescription: strings.TrimSpace(p.help),
		},
	}
}

// folderOf returns the folder that a request is about, with its slash: a folder
// payments has nothing of payments-x.
func folderOf(d *framework.FieldData) string {
	if _, ok := d.Schema["folder"]; !ok {
		return ""
	}
	folder := strings.TrimSuffix(d.Get("folder").(string), "/")
	if folder == "" {
		return ""
	}
	return folder + "/"
}

func inventoryFields() map[string]*framework.FieldSchema {
	query := func(t framework.FieldType, description string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: t, Query: true, Description: description}
	}
	return map[string]*framework.FieldSchema{
		"after": query(framework.TypeString, "Go on after this key, as next_after of the page before says."),
		"limit": query(framework.TypeInt, fmt.Sprintf("At most so many keys, %d unless set (LIST: %d), %d at most. A page may have fewer and not be the last.",
			defaultInventoryLimit, maxInventoryLimit, maxInventoryLimit)),
		"format":         query(framework.TypeString, "table: as text, for people, in the field table."),
		"key_state":      query(framework.TypeString, "Only keys in this state: Enabled, Disabled, PendingImport or PendingDeletion."),
		"key_spec":       query(framework.TypeString, "Only keys of this spec."),
		"origin":         query(framework.TypeString, "Only keys of this origin: AWS_KMS or EXTERNAL."),
		"tag":            query(framework.TypeString, "Only keys with this tag: key, or key=value."),
		"alias":          query(framework.TypeString, "Only keys that this alias points at, or has left and still accepts; any: with an alias; none: without."),
		"unused_since":   query(framework.TypeString, "Only keys not used since this time, or for this duration (90d), or never; never: not used at all."),
		"deletes_before": query(framework.TypeString, "Only keys that cease to exist by this time, or within this duration."),
		"expires_before": query(framework.TypeString, "Only keys whose key material expires by this time, or within this duration."),
	}
}

// timeOrDuration reads a time, or a duration that is added to now; sign is -1
// for one that is subtracted.
func timeOrDuration(d *framework.FieldData, name string, now time.Time, sign time.Duration) (time.Time, error) {
	text := d.Get(name).(string)
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if duration, err := parseutil.ParseDurationSecond(text); err == nil && duration > 0 {
		return now.Add(sign * duration), nil
	}
	return time.Time{}, kms.Validationf("%s must be a time such as 2027-01-31T00:00:00Z or a duration such as 90d", name)
}

// oneOf reads a field that must have one of some values.
func oneOf[T ~string](d *framework.FieldData, name string, allowed ...T) (T, error) {
	value := T(d.Get(name).(string))
	if value == "" || slices.Contains(allowed, value) {
		return value, nil
	}
	texts := make([]string, len(allowed))
	for i, a := range allowed {
		texts[i] = string(a)
	}
	return "", kms.Validationf("%s must be one of %s", name, strings.Join(texts, ", "))
}

func inventoryFilter(d *framework.FieldData, now time.Time) (f keystore.InventoryFilter, err error) {
	if f.State, err = oneOf(d, "key_state", kms.Enabled, kms.Disabled, kms.PendingImport, kms.PendingDeletion); err != nil {
		return f, err
	}
	if f.Spec, err = oneOf(d, "key_spec", kms.HMACSpecs()...); err != nil {
		return f, err
	}
	if f.Origin, err = oneOf(d, "origin", kms.OriginKMS, kms.OriginExternal); err != nil {
		return f, err
	}
	if tag := d.Get("tag").(string); tag != "" {
		key, value, valued := strings.Cut(tag, "=")
		f.TagKey = key
		if valued {
			f.TagValue = &value
		}
	}
	switch alias := d.Get("alias").(string); alias {
	case "":
	case anyAlias, noAlias:
		has := alias == anyAlias
		f.HasAlias = &has
	default:
		f.Alias = kms.AliasPrefix + strings.TrimPrefix(alias, kms.AliasPrefix)
	}
	if d.Get("unused_since").(string) == neverUsed {
		f.NeverUsed = true
	} else if f.UnusedSince, err = timeOrDuration(d, "unused_since", now, -1); err != nil {
		return f, err
	}
	if f.DeletedBy, err = timeOrDuration(d, "deletes_before", now, 1); err != nil {
		return f, err
	}
	f.MaterialEnds, err = timeOrDuration(d, "expires_before", now, 1)
	return f, err
}

func inventoryLimit(d *framework.FieldData, unset int) (int, error) {
	limit := d.Get("limit").(int)
	switch {
	case limit == 0:
		return unset, nil
	case limit < 0 || limit > maxInventoryLimit:
		return 0, kms.Validationf("limit must be between 1 and %d", maxInventoryLimit)
	}
	return limit, nil
}

// inventory returns a page of keys, of unset unless the request says how many,
// and what to pass as after for the next.
func (b *backend) inventory(ctx context.Context, req *logical.Request, d *framework.FieldData, unset int, now time.Time) ([]keystore.InventoryItem, string, error) {
	filter, err := inventoryFilter(d, now)
	if err != nil {
		return nil, "", err
	}
	limit, err := inventoryLimit(d, unset)
	if err != nil {
		return nil, "", err
	}
	return b.store.Inventory(ctx, req.Storage, folderOf(d), d.Get("after").(string), limit, filter, now)
}

func (b *backend) pathInventoryRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	now := b.now()
	format, err := oneOf(d, "format", formatJSON, formatTable)
	if err != nil {
		return nil, err
	}
	items, next, err := b.inventory(ctx, req, d, defaultInventoryLimit, now)
	if err != nil {
		return nil, err
	}
	ids, info := make([]string, 0, len(items)), make(map[string]any, len(items))
	for i := range items {
		ids = append(ids, items[i].ID)
		info[items[i].ID] = inventoryData(&items[i], now)
	}
	data := map[string]any{"keys": ids, "key_info": info}
	if format == formatTable {
		data = map[string]any{"table": inventoryTable(items, now) + moreLine(next)}
	}
	addPaging(data, next)
	return &logical.Response{Data: data}, nil
}

// moreLine ends a table that may not be all.
func moreLine(next string) string {
	if next == "" {
		return ""
	}
	return "\nThere may be more: after=" + next
}

// pathInventoryList answers the same for "vault list -detailed", which makes a
// table of flat values. That command cannot ask for another page, so a page has
// as many keys as it can, and says if it is not all.
func (b *backend) pathInventoryList(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	now := b.now()
	items, next, err := b.inventory(ctx, req, d, maxInventoryLimit, now)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 && next == "" {
		return logical.ListResponse(nil), nil
	}
	ids, info := make([]string, 0, len(items)), make(map[string]any, len(items))
	for i := range items {
		ids = append(ids, items[i].ID)
		info[items[i].ID] = keyColumns(&items[i], now)
	}
	resp := &logical.Response{Data: map[string]any{"keys": ids, "key_info": info}}
	addPaging(resp.Data, next)
	if next != "" {
		resp.AddWarning("There may be more keys. To go on: vault read -field=table " + req.MountPoint + req.Path + " format=table after=" + next)
	}
	return resp, nil
}

// inventoryData is all that there is to know of a key.
func inventoryData(item *keystore.InventoryItem, now time.Time) map[string]any {
	data := map[string]any{
		"key_spec": item.Spec, "key_state": item.State(now), "origin": item.Origin, "multi_region": item.MultiRegion,
		"creation_date": formatTime(item.CreationDate), "description": item.Description, "tags": item.Tags,
		"aliases": item.Aliases, "grants": item.Grants, "last_used": nil,
	}
	if item.Tags == nil {
		data["tags"] = map[string]string{}
	}
	if item.Aliases == nil {
		data["aliases"] = []string{}
	}
	if !item.LastUse.Never() {
		data["last_used"] = lastUseData(item.LastUse)
	}
	if item.State(now) == kms.PendingDeletion {
		data["deletion_date"] = formatTime(item.DeletionDate)
	}
	if _, validTo := item.Expiration(now); !validTo.IsZero() {
		data["valid_to"] = formatTime(validTo)
	}
	if len(item.AcceptedBy) > 0 {
		accepted := make([]map[string]any, len(item.AcceptedBy))
		for i, a := range item.AcceptedBy {
			accepted[i] = map[string]any{"alias_name": a.AliasName, "valid_to": formatTime(a.ValidTo)}
		}
		data["accepted_by"] = accepted
	}
	return data
}

// columnNames are the columns of tables, in their order.
var columnNames = []string{"key_state", "key_spec", "origin", "creation_date", "last_used", "aliases", "grants", "ends"}

// keyColumns are the columns of a key in tables, which hold flat values only.
func keyColumns(item *keystore.InventoryItem, now time.Time) map[string]any {
	aliases := slices.Clone(item.Aliases)
	for _, a := range item.AcceptedBy {
		aliases = append(aliases, "("+a.AliasName+")")
	}
	columns := recordColumns(item.Key, now)
	columns["last_used"], columns["aliases"], columns["grants"] = neverUsed, strings.Join(aliases, ", "), item.Grants
	if !item.LastUse.Never() {
		columns["last_used"] = formatTime(item.LastUse.Time())
	}
	return columns
}

// recordColumns are those columns that a key's record has. ends is when the key
// or its material ceases to exist. Descriptions and tags are no columns: they
// may hold lines, and what a terminal obeys.
func recordColumns(k *keystore.Key, now time.Time) map[string]any {
	columns := map[string]any{
		"key_state": k.State(now), "key_spec": k.Spec, "origin": k.Origin, "creation_date": formatTime(k.CreationDate), "ends": "",
	}
	if _, validTo := k.Expiration(now); !validTo.IsZero() {
		columns["ends"] = formatTime(validTo)
	}
	if k.State(now) == kms.PendingDeletion {
		columns["ends"] = formatTime(k.DeletionDate)
	}
	return columns
}

// inventoryTable is a page as text. Names and ids have no characters that a
// terminal would obey.
func inventoryTable(items []keystore.InventoryItem, now time.Time) string {
	var text strings.Builder
	out := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "key\t"+strings.Join(columnNames, "\t"))
	for i := range items {
		columns := keyColumns(&items[i], now)
		cells := []string{items[i].ID}
		for _, name := range columnNames {
			cell := fmt.Sprint(columns[name])
			if cell == "" {
				cell = "-"
			}
			cells = append(cells, cell)
		}
		fmt.Fprintln(out, strings.Join(cells, "\t"))
	}
	_ = out.Flush() // to memory
	return strings.TrimSuffix(text.String(), "\n")
}

const inventoryHelp = `
Shows all keys below a folder, at any depth, sorted, with all that belongs to
them: state, last use, aliases, those that accept its MACs after they left it,
grants, dates. Filters can be combined. A request does a bounded amount of work,
so a page may be short: go on with after=<next_after> while truncated is true.

    $ vault list -detailed kms/inventory/payments
    $ vault read -field=table kms/inventory/payments format=table
    $ vault read -format=json kms/inventory/payments key_state=Enabled unused_since=90d
    $ vault read kms/inventory/payments alias=none
    $ vault read kms/inventory deletes_before=7d

The policy on the path decides which folders a caller sees. For payments it is

    path "kms/inventory/payments"   { capabilities = ["read", "list"] }
    path "kms/inventory/payments/*" { capabilities = ["read", "list"] }
`
