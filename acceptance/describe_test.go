package acceptance

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestOpenAPI reads what Vault tells generators of clients about the engine.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	doc := openAPI(t, m)
	seen := map[string]string{}
	for path, p := range doc.Paths {
		for method, o := range map[string]*openAPIOperation{"GET": p.Get, "POST": p.Post, "DELETE": p.Delete} {
			if o == nil {
				continue
			}
			what := method + " " + path
			if other, ok := seen[o.OperationID]; ok {
				t.Errorf("%s and %s are both called %s", what, other, o.OperationID)
			}
			seen[o.OperationID] = what
			if !strings.HasPrefix(o.OperationID, "kms-hmac-") || o.Summary == "" {
				t.Errorf("%s: operation id %q, summary %q", what, o.OperationID, o.Summary)
			}
			checkResponses(t, doc, what, o)
			for _, parameter := range slices.Concat(p.Parameters, o.Parameters) {
				// Vault adds the parameter list itself, and describes it.
				if parameter.Description == "" && parameter.Name != "list" {
					t.Errorf("%s does not describe its parameter %s", what, parameter.Name)
				}
			}
			if o.RequestBody == nil {
				continue
			}
			fields := resolved(doc, o.RequestBody.Content["application/json"].Schema).Properties
			for name, field := range fields {
				if field.Description == "" {
					t.Errorf("%s does not describe its field %s", what, name)
				}
				if strings.Contains(path, "{"+name+"}") {
					t.Errorf("%s has %s in its path and in its body", what, name)
				}
			}
		}
	}

	// Vault's document of all mounts has the operations, too. (It drops the
	// references to the schemas of external plugins, not the schemas.)
	var all openAPIDocument
	must(t, json.Unmarshal([]byte(sys(t, m.server, "GET", "sys/internal/specs/openapi", nil).raw), &all))
	for path, p := range doc.Paths {
		if p.Post != nil && all.Paths["/"+m.path+"/"+path].Post == nil {
			t.Errorf("Vault's OpenAPI document has no operation POST %s", path)
		}
	}
	if len(all.Components.Schemas["KmsHmacGenerateMacRequest"].Properties) == 0 {
		t.Error("Vault's OpenAPI document has no schema of generate-mac")
	}

	// A few things that clients are generated from.
	generate := resolved(doc, doc.Paths["generate-mac/{key}"].Post.RequestBody.Content["application/json"].Schema)
	for _, name := range []string{"message", "mac_algorithm", "grant_tokens", "dry_run", "batch_input", "messages"} {
		if _, ok := generate.Properties[name]; !ok {
			t.Errorf("generate-mac has no field %s", name)
		}
	}
	described := resolved(doc, doc.Paths["keys/{key_id}"].Get.Responses["200"].Content["application/json"].Schema)
	for _, name := range []string{"key_id", "key_spec", "key_state", "creation_date", "deletion_date", "tags", "last_used"} {
		if _, ok := described.Properties[name]; !ok {
			t.Errorf("describing a key answers no %s", name)
		}
	}
}

func checkResponses(t *testing.T, doc openAPIDocument, what string, o *openAPIOperation) {
	t.Helper()
	response, ok := o.Responses["200"]
	if !ok {
		if _, ok := o.Responses["204"]; !ok {
			t.Errorf("%s has no response", what)
		}
		return
	}
	fields := resolved(doc, response.Content["application/json"].Schema).Properties
	if len(fields) == 0 {
		t.Errorf("%s has no schema of its response", what)
	}
	for name, field := range fields {
		// Vault describes the keys of lists itself.
		if field.Description == "" && name != "keys" {
			t.Errorf("%s does not describe %s in its response", what, name)
		}
	}
}

func resolved(doc openAPIDocument, schema openAPISchema) openAPISchema {
	if name, ok := strings.CutPrefix(schema.Ref, "#/components/schemas/"); ok {
		return doc.Components.Schemas[name]
	}
	return schema
}

var urlParameter = regexp.MustCompile(`\{\w+\}`)

// TestPathHelp asks for the help of the mount and of all of its paths.
func TestPathHelp(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	help := func(path string) string {
		t.Helper()
		a := m.do(t, "GET", path+"?help=1", nil)
		return a.raw
	}
	for path := range openAPI(t, m).Paths {
		text := help(urlParameter.ReplaceAllString(path, "x"))
		for _, want := range []string{"## DESCRIPTION", "Request: "} {
			if !strings.Contains(text, want) {
				t.Errorf("the help of %s has no %s", path, want)
			}
		}
		if strings.Contains(text, "<no ") || strings.Contains(text, "No summary") {
			t.Errorf("the help of %s has a gap:\n%s", path, text)
		}
	}

	// With the command, as people do.
	root := cli(t, m.server, 0, "path-help", m.path).Stdout
	for _, want := range []string{"vault write kms/keys/", "generate-mac/", "verify-mac/", "aliases/", "granted/"} {
		if !strings.Contains(root, want) {
			t.Errorf("the mount's help does not mention %s", want)
		}
	}
	mac := cli(t, m.server, 0, "path-help", m.path+"/generate-mac/x").Stdout
	for _, want := range []string{"mac_algorithm", "1 to 4,096 bytes", "vault write kms/generate-mac/", "HMAC_SHA_224"} {
		if !strings.Contains(mac, want) {
			t.Errorf("the help of generate-mac does not mention %q:\n%s", want, mac)
		}
	}
	for i, line := range strings.Split(root+mac, "\n") {
		if len(line) > 200 {
			t.Errorf("line %d of the help is too long to read: %q", i, line)
		}
	}
}

// openAPIDocument is the part of an OpenAPI document that the tests look at. Its
// paths are below the mount.
type openAPIDocument struct {
	Paths      map[string]openAPIPath
	Components struct {
		Schemas map[string]openAPISchema
	}
}

type openAPIPath struct {
	Parameters        []openAPIParameter
	Get, Post, Delete *openAPIOperation
}

type openAPIParameter struct {
	Name, Description string
}

type openAPIOperation struct {
	OperationID string `json:"operationId"`
	Summary     string
	Parameters  []openAPIParameter
	RequestBody *openAPIContent `json:"requestBody"`
	Responses   map[string]openAPIContent
}

type openAPIContent struct {
	Content map[string]struct{ Schema openAPISchema }
}

type openAPISchema struct {
	Ref         string `json:"$ref"`
	Description string
	Properties  map[string]openAPISchema
}

// openAPI returns the mount's description of itself.
func openAPI(t *testing.T, m mount) openAPIDocument {
	t.Helper()
	var help struct{ OpenAPI openAPIDocument }
	must(t, json.Unmarshal([]byte(m.do(t, "GET", "?help=1", nil).raw), &help))
	doc := help.OpenAPI
	paths := map[string]openAPIPath{}
	for path, p := range doc.Paths {
		paths[strings.TrimPrefix(path, "/")] = p
	}
	if len(paths) < 40 {
		t.Fatalf("OpenAPI knows only %d paths of the mount", len(paths))
	}
	doc.Paths = paths
	return doc
}
