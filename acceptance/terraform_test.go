package acceptance

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// TestTerraformModule does with the module of examples/terraform what
// Terraform's Vault provider does: applies it, finds nothing to change, applies
// it again, uses it and destroys it.
func TestTerraformModule(t *testing.T) {
	t.Parallel()
	server := sharedServer(t)
	m := readModule(t, "../examples/terraform", body{"mount": "terraform", "team": "payments"})
	root := mount{server, "terraform", server.RootToken}

	mountResource := m.only(t, "vault_mount")
	requireEqual(t, testvault.EngineName, mountResource["type"])
	sys(t, server, "POST", "sys/mounts/"+mountResource["path"].(string), body{"type": mountResource["type"], "description": mountResource["description"]})
	for range 2 {
		for _, policy := range m.all(t, "vault_policy") {
			sys(t, server, "POST", "sys/policies/acl/"+policy["name"].(string), body{"policy": policy["policy"]})
		}
		for _, endpoint := range m.all(t, "vault_generic_endpoint") {
			path, ok := strings.CutPrefix(endpoint["path"].(string), "terraform/")
			requireEqual(t, true, ok)
			root.write(t, path, dataOf(t, endpoint))
			requireNoDrift(t, endpoint, root.read(t, path))
		}
	}

	requireEqual(t, true, m.isFine(t, root))
	root.write(t, "disable-key/payments/tokens-2026", nil)
	requireEqual(t, false, m.isFine(t, root))
	root.write(t, "enable-key/payments/tokens-2026", nil)

	producer, verifier := root.as(newToken(t, server, "payments-mac-producer")), root.as(newToken(t, server, "payments-mac-verifier"))
	alias := m.outputs(t)["alias"].(string)
	mac := producer.write(t, "generate-mac/"+alias, body{"message": "aGk=", "mac_algorithm": "HMAC_SHA_256"})
	requireEqual(t, "payments/tokens-2026", mac["key_id"])
	verify := body{"message": "aGk=", "mac_algorithm": "HMAC_SHA_256", "mac": mac["mac"]}
	requireEqual(t, true, verifier.write(t, "verify-mac/"+alias, verify)["mac_valid"])
	for _, refused := range []struct {
		m    mount
		path string
	}{{producer, "verify-mac/" + alias}, {verifier, "generate-mac/" + alias}, {producer, "generate-mac/payments/tokens-2026"}} {
		a, err := refused.m.request(t.Context(), "POST", refused.path, verify)
		must(t, err)
		requireEqual(t, 403, a.status)
	}

	for _, endpoint := range slices.Backward(m.all(t, "vault_generic_endpoint")) {
		if endpoint["disable_delete"] != true {
			root.do(t, "DELETE", strings.TrimPrefix(endpoint["path"].(string), "terraform/"), nil)
		}
	}
	requireEqual(t, "PendingDeletion", root.read(t, "keys/payments/tokens-2026")["key_state"])
	requireEqual(t, false, m.isFine(t, root))
	for _, endpoint := range m.all(t, "vault_generic_endpoint") {
		if path := strings.TrimPrefix(endpoint["path"].(string), "terraform/"); strings.HasPrefix(path, "keys/") {
			a, err := root.request(t.Context(), "POST", path, dataOf(t, endpoint))
			must(t, err)
			requireEqual(t, "KMSInvalidStateException", a.Data["type"])
		}
	}
}

// TestTerraformFormat has Terraform itself, where it is installed, read the
// configurations that are here.
func TestTerraformFormat(t *testing.T) {
	t.Parallel()
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("terraform is not installed")
	}
	for _, dir := range []string{"../examples/terraform", "../gateway/testdata/terraform"} {
		out, err := exec.CommandContext(t.Context(), terraform, "fmt", "-check", "-diff", dir).CombinedOutput()
		if err != nil {
			t.Errorf("terraform fmt %s: %v\n%s", dir, err, out)
		}
	}
}

var fencedHCL = regexp.MustCompile("(?ms)^```hcl\n(.*?)^```$")

// beforeChanges are the configurations of the tests as they are applied at first.
var (
	beforeChanges = regexp.MustCompile(`var\.(?:changed|rewritten) \? [^:\n]+ : ([^\]\n]+)`)
	notRewritten  = regexp.MustCompile(`!var\.rewritten`)
)

// asOneConfiguration turns names of the tests, where each resource has a key of
// its own and the account is not the default, into those of the documentation.
var asOneConfiguration = strings.NewReplacer("aws_kms_key.aliased[0]", "aws_kms_key.key", "aws_kms_key.granted", "aws_kms_key.key",
	"111122223333", "000000000000", `, old = "yes"`, "")

// TestDocumentedTerraform: each resource that docs/terraform.md shows is in a
// configuration that tests apply.
func TestDocumentedTerraform(t *testing.T) {
	t.Parallel()
	var applied string
	for _, pattern := range []string{"../examples/terraform/*.tf", "../gateway/testdata/terraform/*.tf"} {
		files, err := filepath.Glob(pattern)
		must(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			must(t, err)
			first := notRewritten.ReplaceAllString(string(text), "true")
			applied += asOneConfiguration.Replace(beforeChanges.ReplaceAllString(first, "$1"))
		}
	}
	text, err := os.ReadFile("../docs/terraform.md")
	must(t, err)
	blocks := fencedHCL.FindAllStringSubmatch(string(text), -1)
	requireEqual(t, true, len(blocks) > 0)
	for _, block := range blocks {
		for part := range strings.SplitSeq(block[1], "\n\n") {
			if !strings.Contains(applied, strings.TrimSpace(part)) {
				t.Errorf("no test applies\n%s", part)
			}
		}
	}
}

// requireNoDrift compares as the provider does: what is set, with what is read,
// of which more is only ignored where the resource says so.
func requireNoDrift(t *testing.T, endpoint, read body) {
	t.Helper()
	set := dataOf(t, endpoint)
	if endpoint["ignore_absent_fields"] != true {
		requireEqual(t, set, read)
	}
	for name, value := range set {
		if !reflect.DeepEqual(value, read[name]) {
			t.Errorf("%s was set to %v and is read as %v", name, value, read[name])
		}
	}
}

func dataOf(t *testing.T, endpoint body) (data body) {
	t.Helper()
	must(t, json.Unmarshal([]byte(endpoint["data_json"].(string)), &data))
	return data
}

// module is a Terraform module, read as far as the tests need it: its
// resources may use variables, locals and the paths of mounts.
type module struct {
	blocks []*hcl.Block
	values *hcl.EvalContext
}

func readModule(t *testing.T, dir string, variables body) *module {
	t.Helper()
	m := &module{values: &hcl.EvalContext{
		Variables: map[string]cty.Value{},
		Functions: map[string]function.Function{"jsonencode": stdlib.JSONEncodeFunc},
	}}
	parser := hclparse.NewParser()
	for _, name := range []string{"variables.tf", "main.tf", "outputs.tf"} {
		file, problems := parser.ParseHCLFile(dir + "/" + name)
		mustHCL(t, problems)
		for _, block := range file.Body.(*hclsyntax.Body).Blocks {
			m.blocks = append(m.blocks, block.AsHCLBlock())
		}
	}
	vars := map[string]cty.Value{}
	for _, block := range m.blocks {
		if block.Type != "variable" {
			continue
		}
		attributes, _ := block.Body.JustAttributes()
		if given, ok := variables[block.Labels[0]]; ok {
			vars[block.Labels[0]] = cty.StringVal(given.(string))
		} else {
			vars[block.Labels[0]] = m.value(t, attributes["default"].Expr)
		}
	}
	m.values.Variables["var"] = cty.ObjectVal(vars)
	for _, block := range m.blocks {
		if block.Type == "locals" {
			m.values.Variables["local"] = m.object(t, block)
		}
	}
	resources := map[string]map[string]cty.Value{}
	for _, block := range m.blocks {
		if block.Type == "resource" && block.Labels[0] != "vault_generic_endpoint" {
			if resources[block.Labels[0]] == nil {
				resources[block.Labels[0]] = map[string]cty.Value{}
			}
			resources[block.Labels[0]][block.Labels[1]] = m.object(t, block)
			m.values.Variables[block.Labels[0]] = cty.ObjectVal(resources[block.Labels[0]])
		}
	}
	return m
}

// isFine reports whether the postconditions of the data that the module reads
// are met.
func (m *module) isFine(t *testing.T, root mount) bool {
	t.Helper()
	met := 0
	for _, block := range m.blocks {
		if block.Type != "data" {
			continue
		}
		path, err := ctyjson.SimpleJSONValue{Value: m.object(t, block).GetAttr("path")}.MarshalJSON()
		must(t, err)
		read := map[string]cty.Value{}
		for name, value := range root.read(t, strings.TrimPrefix(strings.Trim(string(path), `"`), "terraform/")) {
			if text, ok := value.(string); ok {
				read[name] = cty.StringVal(text)
			}
		}
		m.values.Variables["self"] = cty.ObjectVal(map[string]cty.Value{"data": cty.ObjectVal(read)})
		for _, lifecycle := range block.Body.(*hclsyntax.Body).Blocks {
			for _, condition := range lifecycle.Body.Blocks {
				if m.value(t, condition.Body.Attributes["condition"].Expr).False() {
					return false
				}
				met++
			}
		}
	}
	requireEqual(t, 1, met)
	return true
}

func (m *module) value(t *testing.T, expression hcl.Expression) cty.Value {
	t.Helper()
	value, problems := expression.Value(m.values)
	mustHCL(t, problems)
	return value
}

// object evaluates a block's attributes.
func (m *module) object(t *testing.T, block *hcl.Block) cty.Value {
	t.Helper()
	attributes, _ := block.Body.JustAttributes() // inner blocks are Terraform's business
	values := map[string]cty.Value{}
	for name, attribute := range attributes {
		if name != "depends_on" {
			values[name] = m.value(t, attribute.Expr)
		}
	}
	return cty.ObjectVal(values)
}

// all returns the resources of a type, in the order in which they are written.
func (m *module) all(t *testing.T, kind string) (resources []body) {
	t.Helper()
	for _, block := range m.blocks {
		if block.Type == "resource" && block.Labels[0] == kind {
			resources = append(resources, m.plain(t, block))
		}
	}
	return resources
}

func (m *module) only(t *testing.T, kind string) body {
	t.Helper()
	resources := m.all(t, kind)
	requireEqual(t, 1, len(resources))
	return resources[0]
}

func (m *module) outputs(t *testing.T) body {
	t.Helper()
	outputs := body{}
	for _, block := range m.blocks {
		if block.Type == "output" {
			outputs[block.Labels[0]] = m.plain(t, block)["value"]
		}
	}
	return outputs
}

// plain is object in Go's types.
func (m *module) plain(t *testing.T, block *hcl.Block) (values body) {
	t.Helper()
	object := m.object(t, block)
	text, err := ctyjson.Marshal(object, object.Type())
	must(t, err)
	must(t, json.Unmarshal(text, &values))
	return values
}

func mustHCL(t *testing.T, problems hcl.Diagnostics) {
	t.Helper()
	if problems.HasErrors() {
		t.Fatal(problems)
	}
}

func requireEqual(t *testing.T, want, got any) {
	t.Helper()
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("want %v, got %v", want, got)
	}
}
