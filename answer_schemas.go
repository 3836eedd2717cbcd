package kmshmac

// The schemas of answers, for OpenAPI and for the tests that hold answers
// against them.

import (
	"maps"

	"github.com/hashicorp/vault/sdk/framework"
)

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
