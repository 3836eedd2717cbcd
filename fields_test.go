package kmshmac

import (
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// Of several faults it is always the same that is named.
func TestTheFaultNamedDoesNotDependOnTheOrderOfAMap(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	tests := []struct {
		name, path string
		data       fields
		want       string
	}{
		{"unknown fields", "keys/a", fields{"z": 1, "b": 1, "y": 1, "tags": 1, "q": 1}, `unknown field "b": this path takes description, key_spec, key_usage, multi_region, origin, policy, tags`},
		{"wrong types", "keys/a", fields{"tags": "x", "description": fields{}, "multi_region": "x"}, "description must be of type string"},
		{"unknown fields of a MAC", "generate-mac/a", fields{"z": 1, "mac": "", "y": 1, "message": 1}, `unknown field "mac": this path takes batch_input, dry_run, grant_tokens, mac_algorithm, message, messages`},
		{"wrong types of a MAC", "verify-mac/a", fields{"message": 1, "mac": 1, "dry_run": "x", "mac_algorithm": 1}, "dry_run must be true or false"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for range 20 {
				refused(t, m, logical.UpdateOperation, test.path, test.data, "ValidationException", test.want)
			}
		})
	}
	for range 20 {
		data := write(t, m, "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "batch_input": []any{fields{"z": 1, "b": 1, "y": 1, "message": 1}}})
		require.Equal(t, []any{fields{"error": fields{
			"type": "ValidationException", "message": `unknown field "b": this path takes message, reference`,
		}}}, data["batch_results"])
	}
}

// Numbers that would lose something by becoming integers are refused.
func TestFractionsAreRefused(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "b")
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	for _, overlap := range []any{"500ms", "1ns", "1.5s", 0.5, 1.5} {
		refused(t, m, logical.UpdateOperation, "aliases/x", fields{"target_key_id": "b", "overlap": overlap}, "ValidationException", "overlap must be a whole number of seconds")
	}
	require.Equal(t, "a", read(t, m, "aliases/x")["target_key_id"])
	for _, overlap := range []any{"1000ms", "1s", "1", 1, "24h"} {
		write(t, m, "aliases/x", fields{"target_key_id": "b", "overlap": overlap})
		require.NotEmpty(t, read(t, m, "aliases/x")["previous_keys"])
		write(t, m, "aliases/x", fields{"target_key_id": "a", "overlap": 0})
	}
	refused(t, m, logical.UpdateOperation, "schedule-key-deletion/a", fields{"pending_window_in_days": 7.9}, "ValidationException", "pending_window_in_days must be a whole number")
}

// A reference comes back as it came, or is refused.
func TestReferences(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	item := func(reference any) fields { return fields{"message": b64("m"), "reference": reference} }
	mac := macOf(t, m, "a", "m")
	good := []any{"r", "", "9007199254740993", 0, 1, -1, 9007199254740991, 1.5, true, false}
	var items []any
	for _, reference := range good {
		items = append(items, item(reference))
	}
	data := write(t, m, "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "batch_input": items})
	for i, result := range data["batch_results"].([]any) {
		require.Equal(t, overJSON(t, fields{"mac": mac, "reference": good[i]}), result)
	}

	bad := map[string][]any{
		"a reference that is a number must be smaller than 2^53: write it as a string": {9007199254740992, 9007199254740993, -9007199254740993, 1e300},
		"a reference must be a string, a number or a boolean":                          {fields{}, []any{9007199254740993}},
	}
	for message, references := range bad {
		for _, reference := range references {
			data := write(t, m, "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "batch_input": []any{item(reference)}})
			require.Equal(t, []any{fields{"error": fields{"type": "ValidationException", "message": message}}}, data["batch_results"])
		}
	}
}

// The first hundred errors of a batch say what is wrong, the others what they
// are.
func TestErrorsOfALargeBatch(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	data := write(t, m, "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "messages": strings.Repeat("!,", 150) + b64("m")})
	list := data["errors"].(fields)
	require.Len(t, list, 150)
	require.Equal(t, fields{"type": "ValidationException", "message": "message must be standard base64"}, list["99"])
	require.Equal(t, fields{"type": "ValidationException"}, list["100"])
	require.Equal(t, strings.Repeat(",", 150)+macOf(t, m, "a", "m"), data["macs"])
}

// The command line sends JSON in a field as a text.
func TestTagsAsATextOfJSONHaveARemedy(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	writeRefused(t, m, "keys/a", fields{"key_spec": "HMAC_256", "tags": `{"a":"b"}`}, "ValidationException",
		"tags must be a map of strings: on the command line write tags=key=value for each, or send the whole request as JSON on standard input, with - as its only argument")
}
