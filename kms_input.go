package kmshmac

// From the fields of a Vault request to the input of a KMS operation.

import (
	"encoding/base64"
	"maps"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"

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

// fieldOf returns the value of a field, nil if the request does not have it.
func fieldOf[T any](d *framework.FieldData, name string) *T {
	value, ok := d.GetOk(name)
	if !ok {
		return nil
	}
	typed, _ := value.(T)
	return &typed
}
