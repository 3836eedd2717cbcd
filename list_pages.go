package kmshmac

// Lists in pages.

import (
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

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
