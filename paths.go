package kmshmac

// What the paths of all resources are made of. The schemas of answers are for
// OpenAPI, and for the tests that hold answers against them.

import (
	"maps"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// operationPath is a path that does one thing. Its verb and suffix are the words
// of the operation's id in OpenAPI.
func operationPath(pattern, verb, suffix string, fields map[string]*framework.FieldSchema, method logical.Operation, op *framework.PathOperation, help string) *framework.Path {
	return &framework.Path{
		Pattern: pattern,
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationVerb: verb, OperationSuffix: suffix,
		},
		Fields:          fields,
		Operations:      map[logical.Operation]framework.OperationHandler{method: op},
		HelpSynopsis:    op.Summary,
		HelpDescription: strings.TrimSpace(help),
	}
}

// keyOperation is the path of a KMS operation that changes one key, named like
// the operation in the AWS CLI.
func keyOperation(name, verb, suffix string, fields map[string]*framework.FieldSchema, op *framework.PathOperation, help string) *framework.Path {
	return operationPath(name+`/(?P<key_id>.+)`, verb, suffix, merge(keyIDField(), fields), logical.UpdateOperation, op, help)
}

// keyRead is the path of a KMS operation that tells of one key.
func keyRead(name, verb, suffix string, fields map[string]*framework.FieldSchema, op *framework.PathOperation, help string) *framework.Path {
	return operationPath(name+`/(?P<key_id>.+)`, verb, suffix, merge(keyIDField(), fields), logical.ReadOperation, op, help)
}

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

func dryRunField() *framework.FieldSchema {
	return &framework.FieldSchema{Type: framework.TypeBool, Description: "Check everything, then fail with DryRunOperationException."}
}
