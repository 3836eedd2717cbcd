package kmshmac

import (
	"encoding/base64"
	"maps"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

// modelInput turns a request's fields into the input of a KMS operation and
// holds it against the KMS API model. Fields are the members in snake_case;
// extra gives members whose names or values differ.
func modelInput(operation string, d *framework.FieldData, extra map[string]any) (map[string]any, error) {
	in := map[string]any{}
	members, _ := kms.Input(operation)
	for _, member := range members {
		name := kms.FieldName(member.Name)
		if d.Schema[name] == nil {
			continue
		}
		value, ok := d.GetOk(name)
		if !ok {
			continue
		}
		value, err := modelValue(name, member.Shape, value)
		if err != nil {
			return nil, err
		}
		in[member.Name] = value
	}
	maps.Copy(in, extra)
	return in, kms.ValidateFields(operation, in)
}

// modelValue gives a field's value the type that the model's shape has.
func modelValue(name string, shape *kms.Shape, value any) (any, error) {
	switch value := value.(type) {
	case string:
		if shape.Type == kms.Blob {
			return decodeBase64(name, value)
		}
	case int:
		return int64(value), nil
	case []string:
		return anyList(value), nil
	case map[string]string:
		var tags []any
		for _, key := range slices.Sorted(maps.Keys(value)) {
			tags = append(tags, map[string]any{"TagKey": key, "TagValue": value[key]})
		}
		return tags, nil
	}
	return value, nil
}

func anyList(values []string) []any {
	out := make([]any, len(values))
	for i, value := range values {
		out[i] = value
	}
	return out
}

// decodeBase64 decodes a blob. Line breaks are fine: files have them.
func decodeBase64(name, value string) ([]byte, error) {
	blob, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, notBase64(name, value)
	}
	return blob, nil
}

// text returns a string member of a validated input, "" if it is absent.
func text(in map[string]any, member string) string {
	value, _ := in[member].(string)
	return value
}

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

// page cuts the page that a request asks for out of sorted names. next is what
// to pass as after for the page that follows, "" on the last.
func page(d *framework.FieldData, names []string) (cut []string, next string, err error) {
	limit := d.Get("limit").(int)
	if limit < 0 {
		return nil, "", kms.Validationf("limit must not be negative")
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

// The schemas of answers, for OpenAPI and for the tests that hold answers
// against them.

func field(t framework.FieldType, description string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: t, Description: description, Required: true}
}

func optional(t framework.FieldType, description string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: t, Description: description}
}

func merge(schemas ...map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	out := map[string]*framework.FieldSchema{}
	for _, schema := range schemas {
		maps.Copy(out, schema)
	}
	return out
}

func responds(status int, description string, fields map[string]*framework.FieldSchema) map[int][]framework.Response {
	return map[int][]framework.Response{status: {{Description: description, Fields: fields}}}
}

func noContent() map[int][]framework.Response { return responds(204, "No Content", nil) }

func listed(info string) map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"keys":       optional(framework.TypeStringSlice, "The names, relative to the folder; folders end in a slash."),
		"key_info":   optional(framework.TypeMap, info),
		"truncated":  optional(framework.TypeBool, "Whether there is more."),
		"next_after": optional(framework.TypeString, "What to pass as after for the next page."),
	}
}
