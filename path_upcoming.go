package kmshmac

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
)

func (b *backend) pathUpcoming() []*framework.Path {
	query := func(t framework.FieldType, description string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: t, Query: true, Description: description}
	}
	return b.folderPaths("upcoming", folderPath{
		fields: map[string]*framework.FieldSchema{
			"after":  query(framework.TypeString, "Go on after this, which is next_after of the page before."),
			"limit":  query(framework.TypeInt, fmt.Sprintf("About so many events, %d unless set, %d at most. A page may have fewer and not be the last.", defaultInventoryLimit, maxInventoryLimit)),
			"before": query(framework.TypeString, "Only events before this time, or within this duration (30d)."),
			"format": query(framework.TypeString, "table: as text, for people, in the field table."),
		},
		read:    b.pathUpcomingRead,
		summary: "Show what is about to happen to the keys below a folder.",
		schema: map[string]*framework.FieldSchema{
			"events":     optional(framework.TypeSlice, "Soonest first: event, time, key_id, and alias_name of the end of an overlap."),
			"table":      optional(framework.TypeString, "With format=table: the same as text, instead of events."),
			"truncated":  field(framework.TypeBool, "Whether there may be more."),
			"next_after": optional(framework.TypeString, "What to pass as after for the next page."),
		},
		synopsis: "What is about to happen to the keys below a folder, soonest first.",
		help:     upcomingHelp,
	})
}

func (b *backend) pathUpcomingRead(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	now := b.now()
	format, err := oneOf(d, "format", formatJSON, formatTable)
	if err != nil {
		return nil, err
	}
	before, err := timeOrDuration(d, "before", now, 1)
	if err != nil {
		return nil, err
	}
	limit, err := inventoryLimit(d, defaultInventoryLimit)
	if err != nil {
		return nil, err
	}
	events, next, err := b.store.Upcoming(ctx, req.Storage, folderOf(d), d.Get("after").(string), before, limit, now)
	if err != nil {
		return nil, err
	}
	data := map[string]any{}
	if format == formatTable {
		data["table"] = eventTable(events) + moreLine(next)
	} else {
		data["events"] = eventData(events)
	}
	addPaging(data, next)
	return &logical.Response{Data: data}, nil
}

func eventData(events []keystore.Event) []map[string]any {
	data := make([]map[string]any, len(events))
	for i, e := range events {
		data[i] = map[string]any{"event": e.Kind, "time": formatTime(e.Time), "key_id": e.KeyID}
		if e.AliasName != "" {
			data[i]["alias_name"] = e.AliasName
		}
	}
	return data
}

func eventTable(events []keystore.Event) string {
	var text strings.Builder
	out := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "time\tevent\tkey\talias")
	for _, e := range events {
		alias := e.AliasName
		if alias == "" {
			alias = "-"
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", formatTime(e.Time), e.Kind, e.KeyID, alias)
	}
	_ = out.Flush() // to memory
	return strings.TrimSuffix(text.String(), "\n")
}

const upcomingHelp = `
Shows what is about to happen to the keys below a folder, at any depth, soonest
first: key_deletion, material_expiry (of imported key material), overlap_end (an
alias accepts a former key no more) and import_token_expiry. It pages as
inventory does.

    $ vault read -field=table kms/upcoming/payments format=table
    $ vault read -format=json kms/upcoming/payments before=7d
    $ vault read -format=json kms/upcoming

The policy on the path decides which folders a caller sees, as for inventory.
`
