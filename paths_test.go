package kmshmac

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// routes are the documented URLs and the patterns that must serve them.
var routes = []struct{ url, pattern string }{
	{"generate-mac/a", `generate-mac/(?P<key>.+)`},
	{"generate-mac/alias/p/x", `generate-mac/(?P<key>.+)`},
	{"verify-mac/p/a", `verify-mac/(?P<key>.+)`},
	{"keys", `keys$`},
	{"keys/", `keys/(?P<folder>.+/)?$`},
	{"keys/p/", `keys/(?P<folder>.+/)?$`},
	{"keys/p/q/", `keys/(?P<folder>.+/)?$`},
	{"keys/a", `keys/(?P<key_id>.+)`},
	{"keys/p/a", `keys/(?P<key_id>.+)`},
	{"keys/alias/x", `keys/(?P<key_id>.+)`},
	{"enable-key/p/a", `enable-key/(?P<key_id>.+)`},
	{"disable-key/a", `disable-key/(?P<key_id>.+)`},
	{"schedule-key-deletion/a", `schedule-key-deletion/(?P<key_id>.+)`},
	{"cancel-key-deletion/a", `cancel-key-deletion/(?P<key_id>.+)`},
	{"get-key-policy/a", `get-key-policy/(?P<key_id>.+)`},
	{"put-key-policy/a", `put-key-policy/(?P<key_id>.+)`},
	{"get-key-last-usage/a", `get-key-last-usage/(?P<key_id>.+)`},
	{"aliases", `aliases/?$`},
	{"aliases/", `aliases/?$`},
	{"aliases/p/", `aliases/(?P<folder>.+/)$`},
	{"aliases/x", `aliases/(?P<name>.+)`},
	{"aliases/p/x", `aliases/(?P<name>.+)`},
	{"tag-resource/a", `tag-resource/(?P<key_id>.+)`},
	{"untag-resource/a", `untag-resource/(?P<key_id>.+)`},
	{"get-parameters-for-import/a", `get-parameters-for-import/(?P<key_id>.+)`},
	{"import-key-material/a", `import-key-material/(?P<key_id>.+)`},
	{"delete-imported-key-material/a", `delete-imported-key-material/(?P<key_id>.+)`},
	{"create-grant/a", `create-grant/(?P<key_id>.+)`},
	{"list-grants/a", `list-grants/(?P<key_id>.+)`},
	{"list-retirable-grants", `list-retirable-grants$`},
	{"list-retirable-grants/e", `list-retirable-grants/(?P<retiring_principal>.+)`},
	{"revoke-grant/a", `revoke-grant/(?P<key_id>.+)`},
	{"retire-grant", `retire-grant$`},
	{"retire-grant/p/a", `retire-grant/(?P<key_id>.+)`},
	{"granted/generate-mac/alias/x", `granted/generate-mac/(?P<key>.+)`},
	{"granted/verify-mac/a", `granted/verify-mac/(?P<key>.+)`},
	{"granted/describe-key/a", `granted/describe-key/(?P<key>.+)`},
	{"granted/create-grant/a", `granted/create-grant/(?P<key>.+)`},
	{"encrypt/a", `encrypt/(?P<key>.+)`},
	{"decrypt/a", `decrypt/(?P<key>.+)`},
	{"re-encrypt/a", `re-encrypt/(?P<key>.+)`},
	{"sign/a", `sign/(?P<key>.+)`},
	{"verify/a", `verify/(?P<key>.+)`},
	{"generate-data-key/a", `generate-data-key/(?P<key>.+)`},
	{"generate-data-key-without-plaintext/a", `generate-data-key-without-plaintext/(?P<key>.+)`},
	{"generate-data-key-pair/a", `generate-data-key-pair/(?P<key>.+)`},
	{"generate-data-key-pair-without-plaintext/a", `generate-data-key-pair-without-plaintext/(?P<key>.+)`},
	{"derive-shared-secret/a", `derive-shared-secret/(?P<key>.+)`},
	{"encapsulate/a", `encapsulate/(?P<key>.+)`},
	{"decapsulate/a", `decapsulate/(?P<key>.+)`},
	{"get-public-key/a", `get-public-key/(?P<key>.+)`},
	{"enable-key-rotation/a", `enable-key-rotation/(?P<key>.+)`},
	{"disable-key-rotation/a", `disable-key-rotation/(?P<key>.+)`},
	{"rotate-key-on-demand/a", `rotate-key-on-demand/(?P<key>.+)`},
	{"get-key-rotation-status/a", `get-key-rotation-status/(?P<key>.+)`},
	{"list-key-rotations/a", `list-key-rotations/(?P<key>.+)`},
	{"replicate-key/a", `replicate-key/(?P<key>.+)`},
	{"update-primary-region/a", `update-primary-region/(?P<key>.+)`},
	{"config", `config$`},
	{"ready", `ready$`},
	{"bulk/disable-key/p", `bulk/disable-key/(?P<folder>.+)`},
	{"bulk/schedule-key-deletion/p/q/", `bulk/schedule-key-deletion/(?P<folder>.+)`},
	{"bulk/move-aliases/p", `bulk/move-aliases/(?P<folder>.+)`},
	{"upcoming", `upcoming/?$`},
	{"upcoming/p", `upcoming/(?P<folder>.+)`},
	{"inventory", `inventory/?$`},
	{"inventory/", `inventory/?$`},
	{"inventory/p", `inventory/(?P<folder>.+)`},
	{"inventory/p/q/", `inventory/(?P<folder>.+)`},
}

func barePattern(pattern string) string {
	return strings.TrimSuffix(strings.TrimPrefix(pattern, "^"), "$")
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	served := map[string]bool{}
	for _, route := range routes {
		path := m.b.Route(route.url)
		require.NotNil(t, path, route.url)
		require.Equal(t, barePattern(route.pattern), barePattern(path.Pattern), route.url)
		served[path.Pattern] = true
	}
	for _, path := range m.b.Paths {
		require.True(t, served[path.Pattern], "%s is not in the table", path.Pattern)
	}
	for _, nowhere := range []string{"", "key/a", "generate-mac", "granted/a", "granted/sign/a", "configs", "retire-grants", "xkeys/a"} {
		require.Nil(t, m.b.Route(nowhere), nowhere)
	}
}

// pathOperations calls visit for each operation of each path, by an URL of it.
func pathOperations(t *testing.T, visit func(t *testing.T, m *mount, op logical.Operation, url string, path *framework.Path)) {
	t.Helper()
	m := usedMount(t)
	seen := map[string]bool{}
	for _, route := range routes {
		path := m.b.Route(route.url)
		if seen[path.Pattern] {
			continue
		}
		seen[path.Pattern] = true
		for op := range path.Operations {
			t.Run(fmt.Sprint(op, " ", route.url), func(t *testing.T) {
				t.Parallel()
				visit(t, m, op, route.url, path)
			})
		}
	}
}

func refusalText(t *testing.T, resp *logical.Response, err error) string {
	t.Helper()
	require.NoError(t, err)
	require.NotNil(t, resp)
	require.True(t, resp.IsError(), "accepted: %v", resp.Data)
	require.Equal(t, "ValidationException", resp.Data["data"].(fields)["type"])
	return resp.Data["error"].(string)
}

func TestEveryPathRefusesUnknownFields(t *testing.T) {
	t.Parallel()
	pathOperations(t, func(t *testing.T, m *mount, op logical.Operation, url string, path *framework.Path) {
		for _, name := range append(urlFields(path), "unknown", "Message", "key_ids", strings.Repeat("x", 1000)) {
			resp, err := request(t, m, op, url, fields{name: "marker"})
			text := refusalText(t, resp, err)
			require.Contains(t, text, fmt.Sprintf("unknown field \"%.64s\"", name))
			require.NotContains(t, text, "marker")
			require.Less(t, len(text), 400)
		}
	})
}

func urlFields(path *framework.Path) []string {
	var names []string
	for name := range path.Fields {
		if strings.Contains(path.Pattern, "(?P<"+name+">") {
			names = append(names, name)
		}
	}
	return names
}

// No value is repeated in an error about its type, and no type makes the
// backend fail.
func TestWrongTypesAreRefusedWithoutTheirValues(t *testing.T) {
	t.Parallel()
	pathOperations(t, func(t *testing.T, m *mount, op logical.Operation, url string, path *framework.Path) {
		for name, schema := range path.Fields {
			if slices.Contains(urlFields(path), name) {
				continue
			}
			for _, value := range wrongValues(schema.Type) {
				resp, err := request(t, m.as("marker-entity"), op, url, fields{name: value})
				if err == logical.ErrPermissionDenied { //nolint:errorlint // exactly this one survives the plugin boundary
					continue // granted/, for a type that the path takes
				}
				require.NoError(t, err, "%s: %v", name, value)
				if resp.IsError() {
					require.NotContains(t, resp.Data["error"], "marker", "%s: %v", name, value)
				}
			}
		}
	})
}

func wrongValues(kind framework.FieldType) []any {
	values := []any{
		fields{"x": fields{"marker": "marker"}}, []any{[]any{"marker"}}, []any{fields{"x": "marker"}},
		[]any{fields{"marker": []any{"marker"}}}, fields{"marker": 1}, 1e300, -1.5, true, []any{nil}, fields{},
	}
	if kind != framework.TypeString && kind != framework.TypeCommaStringSlice {
		values = append(values, "marker") // a text that is none of KMS's words may be repeated, as KMS does
	}
	return values
}

// No error repeats a message, a MAC, key material or an import token.
func TestErrorsRepeatNoSecrets(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	external(t, m, "x")
	marker := "c2VjcmV0bWFya2Vy"
	long := strings.Repeat(marker, 1000)
	tests := []struct {
		name, path string
		data       fields
	}{
		{"message", "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_512", "message": marker}},
		{"long message", "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "message": long}},
		{"message not base64", "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "message": marker + "!"}},
		{"MAC", "verify-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "message": marker, "mac": marker}},
		{"long MAC", "verify-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "message": "bQ==", "mac": long}},
		{"messages and macs", "verify-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "messages": marker, "macs": marker + "," + marker}},
		{"mixture", "verify-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "messages": marker, "message": marker}},
		{"grant token", "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "message": "bQ==", "grant_tokens": marker}},
		{"import token", "import-key-material/x", fields{"import_token": marker, "encrypted_key_material": marker, "expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE"}},
		{"import token not base64", "import-key-material/x", fields{"import_token": marker + "!", "encrypted_key_material": marker}},
		{"material not base64", "import-key-material/x", fields{"import_token": marker, "encrypted_key_material": marker + "!"}},
		{"grant token to retire", "retire-grant", fields{"grant_token": marker}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			resp, err := request(t, m, logical.UpdateOperation, test.path, test.data)
			require.NoError(t, err)
			require.True(t, resp.IsError())
			require.NotContains(t, fmt.Sprint(resp.Data), marker)
		})
	}
	batch := write(t, m, "verify-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "messages": marker + "!," + long + "," + marker, "macs": marker + "," + marker + "," + marker})
	require.NotContains(t, fmt.Sprint(batch), marker)
}

// A damaged record is reported without what is in it.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for name, value := range map[string]string{
		keyPrefix + "a": `{"id":"a","material":"marker`, keyPrefix + "b": `{"id":"b","key_spec":"marker"}`,
		keyPrefix + "c": `{"id":"c","key_spec":"HMAC_256","version":99}`, keyPrefix + "d": `{"material":{"marker":1}}`,
	} {
		require.NoError(t, m.storage.Put(t.Context(), &logical.StorageEntry{Key: name, Value: []byte(value)}))
	}
	for _, id := range []string{"a", "b", "c", "d"} {
		for _, path := range []string{"generate-mac/", "disable-key/"} {
			_, err := request(t, m, logical.UpdateOperation, path+id, macFieldsFor(path))
			require.ErrorContains(t, err, "KMSInternalException: ")
			require.NotContains(t, err.Error(), "marker")
		}
	}
}

func macFieldsFor(path string) fields {
	if path == generateMacPath {
		return macFields("m")
	}
	return nil
}

func TestHelpOfEveryPath(t *testing.T) {
	t.Parallel()
	pathOperations(t, func(t *testing.T, m *mount, _ logical.Operation, url string, path *framework.Path) {
		data := do(t, m, logical.HelpOperation, url, nil)
		require.Contains(t, data["help"], path.HelpSynopsis)
		require.Contains(t, data["help"], path.HelpDescription)
		// The vault command drops a slash at the end.
		require.NotEmpty(t, do(t, m, logical.HelpOperation, strings.TrimSuffix(url, "/"), nil)["help"])
		for _, text := range []string{path.HelpSynopsis, path.HelpDescription} {
			require.NotEmpty(t, text)
			require.Equal(t, strings.TrimSpace(text), text)
		}
		for name, field := range path.Fields {
			require.NotEmpty(t, field.Description, name)
		}
	})
}

func TestHelpOfTheMount(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	data := do(t, m, logical.HelpOperation, "", nil)
	for _, path := range m.b.Paths {
		require.Contains(t, data["help"], barePattern(path.Pattern))
	}
}

// Every operation of every path is in the OpenAPI document, under an id of its
// own, with its fields and its answer.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	document := do(t, m, logical.HelpOperation, "", fields{"requestResponsePrefix": "kms"})["openapi"].(fields)
	paths := document["paths"].(fields)
	methods := map[logical.Operation]string{
		logical.ReadOperation: "get", logical.ListOperation: "get", logical.UpdateOperation: "post",
		logical.CreateOperation: "post", logical.DeleteOperation: "delete", logical.PatchOperation: "patch",
	}
	wanted := map[string]bool{}
	for _, path := range m.b.Paths {
		for _, url := range documentedURLs(path.Pattern) {
			for op := range path.Operations {
				if op == logical.ListOperation {
					url = strings.TrimSuffix(url, "/") + "/"
				} else if op == logical.ReadOperation {
					url = strings.TrimSuffix(url, "/")
				}
				wanted[methods[op]+" "+url] = true
			}
		}
	}
	ids := map[string]string{}
	for url, item := range paths {
		for method, operation := range item.(fields) {
			operation, ok := operation.(fields)
			if !ok || operation["operationId"] == nil {
				continue
			}
			name := method + " " + url
			require.True(t, wanted[name], "%s is not a path of ours", name)
			delete(wanted, name)
			id := operation["operationId"].(string)
			require.Empty(t, ids[id], "%s and %s are both %s", name, ids[id], id)
			ids[id] = name
			require.True(t, strings.HasPrefix(id, "kms-hmac-"), id)
			require.NotEmpty(t, operation["summary"], name)
			requireAnswerSchema(t, name, operation)
		}
	}
	require.Empty(t, slices.Collect(maps.Keys(wanted)), "these are not in the document")
}

// A program made from the document can send one message, or a batch.
func TestOpenAPIOfMacs(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	document := do(t, m, logical.HelpOperation, "", fields{"requestResponsePrefix": "kms"})["openapi"].(fields)
	schemas := document["components"].(fields)["schemas"].(fields)
	for _, name := range []string{"KmsHmacGenerateMacRequest", "KmsHmacVerifyMacRequest", "KmsHmacGenerateMacInOneRoundTripRequest", "KmsHmacVerifyMacGrantedRequest"} {
		require.Contains(t, schemas, name)
		schema := schemas[name].(fields)
		require.Equal(t, []any{"mac_algorithm"}, schema["required"], name)
		for _, list := range []string{"messages", "macs"} {
			if field, ok := schema["properties"].(fields)[list].(fields); ok {
				require.Equal(t, "array", field["type"])
				require.Equal(t, fields{"type": "string"}, field["items"], "%s of %s", list, name)
			}
		}
	}
}

func requireAnswerSchema(t *testing.T, name string, operation fields) {
	t.Helper()
	responses := operation["responses"].(fields)
	if responses["204"] != nil {
		return
	}
	require.NotEmpty(t, responses["200"], name)
	require.NotEmpty(t, responses["200"].(fields)["content"], name)
}

// documentedURLs spells a pattern as OpenAPI does; an optional part makes two.
func documentedURLs(pattern string) []string {
	bare := barePattern(pattern)
	if before, after, ok := strings.Cut(bare, "(?P<folder>.+/)?"); ok {
		return []string{"/" + before + after, "/" + before + "{folder}" + after + "/"}
	}
	bare = strings.TrimSuffix(bare, "/?")
	bare = strings.Replace(bare, "(?P<folder>.+/)", "{folder}/", 1)
	for _, name := range []string{"key_id", "key", "name", "retiring_principal", "folder"} {
		bare = strings.Replace(bare, "(?P<"+name+">.+)", "{"+name+"}", 1)
	}
	return []string{"/" + bare}
}
