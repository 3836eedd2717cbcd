package kmshmac

// Lists in pages.

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

// detailsWithin is how long a list waits to tell details that nobody has asked
// for.
const detailsWithin = time.Second

// pageFields are the fields with which lists are paged.
func pageFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"after": {
			Type:        framework.TypeString,
			Description: "List what comes after this entry, as next_after of the page before says.",
			Query:       true,
		},
		"limit": {
			Type:        framework.TypeInt,
			Description: "List at most so many entries. 0, the default, lists all.",
			Query:       true,
		},
	}
}

// detailedField asks for details.
func detailedField(what string) *framework.FieldSchema {
	return &framework.FieldSchema{
		Type: framework.TypeBool, Query: true,
		Description: fmt.Sprintf("true: answer key_info of all %s of the page, which then has at most %d. false: of none. Unset: of the first %d, which vault list -detailed shows.",
			what, keystore.MaxDetails, keystore.MaxDetails),
	}
}

// withDetails adds what a list tells of names besides them. The vault command
// has no way to ask for it: "vault list -detailed" shows what every list
// answers. So it is there unless somebody says no, but who has not said yes
// neither waits long for it nor fails for it.
func withDetails[T any](ctx context.Context, d *framework.FieldData, names []string, next string, read func(ctx context.Context, names []string) (map[string]T, error)) ([]string, string, map[string]T, error) {
	asked := fieldOf[bool](d, "detailed")
	if asked != nil && !*asked || len(names) == 0 {
		return names, next, nil, nil
	}
	first := names[:min(len(names), keystore.MaxDetails)]
	if asked == nil {
		ctx, cancel := context.WithTimeout(ctx, detailsWithin)
		defer cancel()
		found, err := read(ctx, first)
		if err != nil {
			found = nil
		}
		return names, next, found, nil
	}
	if len(first) < len(names) {
		next = first[len(first)-1]
	}
	found, err := read(ctx, first)
	return first, next, found, err
}

// page cuts the page that a request asks for out of sorted names, of at most so
// many, 0 being all. next is what to pass as after for the page that follows, ""
// on the last.
func page(d *framework.FieldData, names []string, most int) (cut []string, next string, err error) {
	limit := d.Get("limit").(int)
	if limit < 0 {
		return nil, "", kms.Validationf("limit must not be negative")
	}
	if most > 0 && (limit == 0 || limit > most) {
		limit = most
	}
	if after := d.Get("after").(string); after != "" {
		i, found := slices.BinarySearch(names, after)
		if found {
			i++
		}
		names = names[i:]
	}
	if limit > 0 && limit < len(names) {
		names = names[:limit]
		next = names[limit-1]
	}
	return names, next, nil
}

// listResponse answers a page of a list. info, by name, may be nil. An empty
// list has no data at all, which Vault turns into 404, as for all its lists.
func listResponse(names []string, next string, info map[string]any) *logical.Response {
	if len(names) == 0 {
		return logical.ListResponse(nil)
	}
	resp := logical.ListResponseWithInfo(names, info)
	addPaging(resp.Data, next)
	return resp
}

func addPaging(data map[string]any, next string) {
	data["truncated"] = next != ""
	if next != "" {
		data["next_after"] = next
	}
}
