package gateway_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/gateway/session"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// Terraform's AWS provider runs against the endpoint where it is installed.
// What it sends there is recorded in testdata/terraform and sent again in
// TestEndpoint, wherever it is not.

var recordTerraform = flag.Bool("record-terraform", false, "record what Terraform's AWS provider sends in testdata/terraform")

// terraformResources have a configuration and a recording each.
var terraformResources = []string{"aws_kms_key", "aws_kms_alias", "aws_kms_grant"}

// refusedResources cannot be made here.
var refusedResources = []string{"aws_kms_external_key"}

const terraformDir = "testdata/terraform"

// TestTerraform takes the resources of the AWS provider through their lives:
// applied, planned without a change, changed, imported, destroyed.
func TestTerraform(t *testing.T) {
	t.Parallel()
	tf := findTerraform(t)
	if tf == nil {
		t.Skip("terraform and its AWS provider are not both installed: what they send is replayed by TestEndpoint alone")
	}
	if !*recordTerraform {
		w := newWorld(t)
		require.NoError(t, w.vault.WritePolicy(t.Context(), "payments-admin", adminPolicy(t)))
		w.role(t, "terraform", map[string]any{"token_policies": "payments-admin"})
		i := w.instance(t, byJWT, session.RandomKey())
		e := &endpoint{w.vault, i.url, w.vault.RootToken}
		tf.credentials = webIdentity("terraform", tokenFile(t, w.issuer.token("pipeline", time.Hour)))
		tf.run(t, e, http.HandlerFunc(e.forward), terraformResources...)
		return
	}
	e := newEndpoint(t)
	tf.credentials = map[string]string{
		"AWS_ACCESS_KEY_ID": "vault", "AWS_SECRET_ACCESS_KEY": "vault",
		"AWS_SESSION_TOKEN": e.vault.TokenFor(t, "payments-admin", adminPolicy(t)),
	}
	for _, resource := range terraformResources {
		r := &recording{forward: e.forward}
		tf.run(t, e, r, resource)
		r.save(t, resource)
	}
	for _, resource := range refusedResources {
		r := &recording{forward: e.forward}
		server := httptest.NewServer(r)
		_, err := tf.work(t, server.URL, []string{resource}).try(t, "apply", "-auto-approve")
		require.Error(t, err)
		server.Close()
		r.save(t, resource)
	}
}

// adminPolicy is all that Terraform may do.
func adminPolicy(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../examples/policies/payments-admin.hcl")
	require.NoError(t, err)
	return string(text)
}

// terraform is an installed Terraform with its AWS provider, and the environment
// from which that has its credentials.
type terraform struct {
	command, provider string
	credentials       map[string]string
}

func findTerraform(t *testing.T) *terraform {
	t.Helper()
	command, err := exec.LookPath("terraform")
	if err != nil {
		return nil
	}
	for _, folder := range providerFolders() {
		found, err := filepath.Glob(filepath.Join(folder, "registry.terraform.io/hashicorp/aws/*/*/terraform-provider-aws_v*"))
		require.NoError(t, err)
		if len(found) > 0 {
			return &terraform{command: command, provider: found[len(found)-1]}
		}
	}
	return nil
}

// providerFolders returns where unpacked providers are: the folder that
// TERRAFORM_PLUGIN_DIR names, those that Terraform looks into by itself, and
// any in /opt.
func providerFolders() []string {
	folders := []string{"/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins", "/opt/*"}
	if home, err := os.UserHomeDir(); err == nil {
		folders = append([]string{filepath.Join(home, ".terraform.d/plugins")}, folders...)
	}
	if named := os.Getenv("TERRAFORM_PLUGIN_DIR"); named != "" {
		folders = append([]string{named}, folders...)
	}
	return folders
}

// run takes resources through their lives at an endpoint that calls reach
// through a handler.
func (tf *terraform) run(t *testing.T, e *endpoint, handler http.Handler, resources ...string) {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	w := tf.work(t, server.URL, resources)
	if *recordTerraform { // in an order that can be replayed
		w.env = append(w.env, "TF_CLI_ARGS_apply=-no-color -parallelism=1", "TF_CLI_ARGS_plan=-no-color -parallelism=1", "TF_CLI_ARGS_destroy=-no-color -parallelism=1")
	}

	w.terraform(t, "apply", "-auto-approve")
	w.requireNoChanges(t)
	changed := []string{"-var=changed=true"}
	if *recordTerraform { // the provider takes a minute to believe these
		changed = append(changed, "-var=rewritten=true")
	}
	w.terraform(t, append([]string{"apply", "-auto-approve"}, changed...)...)
	w.reimport(t, changed...)
	w.requireNoChanges(t, changed...)
	if !*recordTerraform {
		w.requireNewKeys(t, e, changed...)
	}
	w.terraform(t, append([]string{"destroy", "-auto-approve", "-refresh=false"}, changed...)...)
}

// terraformWork is a folder in which Terraform works.
type terraformWork struct {
	command, dir string
	env          []string
}

// work makes a folder with the configurations, and starts the provider. One
// process of it serves all runs: it takes seconds to start.
func (tf *terraform) work(t *testing.T, url string, resources []string) *terraformWork {
	t.Helper()
	w := &terraformWork{command: tf.command, dir: t.TempDir()}
	for _, name := range append([]string{"provider"}, resources...) {
		config, err := os.ReadFile(filepath.Join(terraformDir, name+".tf"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(w.dir, name+".tf"), config, 0o600))
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "TMPDIR=" + w.dir, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1",
		"TF_CLI_ARGS_apply=-no-color", "TF_CLI_ARGS_plan=-no-color", "TF_CLI_ARGS_destroy=-no-color",
		"AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ENDPOINT_URL_KMS=" + url + "/payments", "AWS_ENDPOINT_URL_STS=" + url + "/payments",
	}
	for name, value := range tf.credentials {
		env = append(env, name+"="+value)
	}
	provider := exec.Command(tf.provider, "-debug")
	provider.Env, provider.Dir = env, w.dir
	out, err := provider.StdoutPipe()
	require.NoError(t, err)
	process, err := testvault.StartProcess(provider)
	require.NoError(t, err)
	t.Cleanup(process.Stop)
	attach := regexp.MustCompile(`TF_REATTACH_PROVIDERS='(.*)'`)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if match := attach.FindStringSubmatch(lines.Text()); match != nil {
			w.env = append(env, "TF_REATTACH_PROVIDERS="+match[1])
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return w
		}
	}
	require.Fail(t, "the provider did not start")
	return nil
}

func (w *terraformWork) terraform(t *testing.T, args ...string) string {
	t.Helper()
	start := time.Now()
	out, err := w.try(t, args...)
	require.NoError(t, err, "terraform %s\n%s", strings.Join(args, " "), out)
	t.Logf("terraform %s: %s", args[0], time.Since(start).Round(time.Millisecond))
	return out
}

func (w *terraformWork) try(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), w.command, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// requireNoChanges: what is there is what the configuration says.
func (w *terraformWork) requireNoChanges(t *testing.T, args ...string) {
	t.Helper()
	w.terraform(t, append([]string{"plan", "-detailed-exitcode"}, args...)...)
}

// reimport has Terraform forget the resources and import them again.
func (w *terraformWork) reimport(t *testing.T, args ...string) {
	t.Helper()
	ids := w.ids(t)
	names := slices.Sorted(maps.Keys(ids))
	w.terraform(t, append([]string{"state", "rm"}, names...)...)
	var imports bytes.Buffer
	for _, name := range names {
		fmt.Fprintf(&imports, "import {\n  to = %s\n  id = %q\n}\n", name, ids[name])
	}
	require.NoError(t, os.WriteFile(filepath.Join(w.dir, "imports.tf"), imports.Bytes(), 0o600))
	out := w.terraform(t, append([]string{"apply", "-auto-approve"}, args...)...)
	require.Regexp(t, fmt.Sprintf(`%d imported, 0 added, \d changed, 0 destroyed`, len(names)), out)
}

// requireNewKeys: a key that is pending deletion is not taken for one that is
// there, but replaced.
func (w *terraformWork) requireNewKeys(t *testing.T, e *endpoint, args ...string) {
	t.Helper()
	id := w.ids(t)["aws_kms_key.multi_region"]
	_, err := e.client("/payments", e.vault.RootToken).ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id})
	require.NoError(t, err)
	require.Contains(t, w.terraform(t, append([]string{"apply", "-auto-approve"}, args...)...), "1 added, 0 changed, 0 destroyed")
	require.NotEqual(t, id, w.ids(t)["aws_kms_key.multi_region"])
}

// ids returns the ids of the resources that are to be imported.
func (w *terraformWork) ids(t *testing.T) map[string]string {
	t.Helper()
	var outputs map[string]struct{ Value map[string]string }
	require.NoError(t, json.Unmarshal([]byte(w.terraform(t, "output", "-json")), &outputs))
	ids := map[string]string{}
	for _, output := range outputs {
		maps.Copy(ids, output.Value)
	}
	return ids
}

// forward is the endpoint as a handler.
func (e *endpoint) forward(w http.ResponseWriter, r *http.Request) {
	request, err := http.NewRequestWithContext(r.Context(), r.Method, e.url+r.URL.Path, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	request.Header, request.Host, request.ContentLength = r.Header, r.Host, r.ContentLength
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	maps.Copy(w.Header(), response.Header)
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body)
}

// recordedCall is a call and its answer. What differs from one run to the next
// is a placeholder in both: see placeholders.
type recordedCall struct {
	Operation string          `json:"operation"`
	Input     json.RawMessage `json:"input"`
	Status    int             `json:"status"`
	Answer    json.RawMessage `json:"answer,omitempty"`
}

// recording records the calls that it passes on.
type recording struct {
	forward http.HandlerFunc

	mu    sync.Mutex
	calls []recordedCall
	names placeholders
}

func (r *recording) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	input, _ := io.ReadAll(request.Body)
	request.Body = io.NopCloser(bytes.NewReader(input))
	answer := httptest.NewRecorder()
	r.forward(answer, request)
	r.mu.Lock()
	defer r.mu.Unlock()
	operation, ok := strings.CutPrefix(request.Header.Get("X-Amz-Target"), "TrentService.")
	if ok {
		r.add(recordedCall{
			Operation: operation, Input: json.RawMessage(r.names.hide(string(input))),
			Status: answer.Code, Answer: json.RawMessage(r.names.hide(answer.Body.String())),
		})
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

var reads = regexp.MustCompile("^(Describe|Get|List)")

// add adds a call, unless it is a read that gave the same answer already since
// the last write: the provider makes some of them many times.
func (r *recording) add(call recordedCall) {
	if reads.MatchString(call.Operation) {
		for _, earlier := range slices.Backward(r.calls) {
			if !reads.MatchString(earlier.Operation) {
				break
			}
			if reflect.DeepEqual(call, earlier) {
				return
			}
		}
	}
	r.calls = append(r.calls, call)
}

func (r *recording) save(t *testing.T, resource string) {
	t.Helper()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	for _, call := range r.calls {
		require.NoError(t, encoder.Encode(call))
	}
	require.NoError(t, os.WriteFile(filepath.Join(terraformDir, resource+".jsonl"), text.Bytes(), 0o600))
}

// placeholders gives a name to each text that the endpoint makes up: ids of
// keys and of grants, grant tokens, times.
type placeholders struct {
	texts []string // by number
	names map[string]string
}

var madeUp = regexp.MustCompile(`mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{64}\b|"GrantToken":"[^"]+"|"(CreationDate|DeletionDate|LastUpdatedDate)":[0-9.E]+`)

var madeUpName = regexp.MustCompile(`<[0-9]+>`)

func (p *placeholders) hide(text string) string {
	return madeUp.ReplaceAllStringFunc(text, func(found string) string {
		member, value, isMember := strings.Cut(found, ":")
		switch {
		case isMember && strings.HasSuffix(member, `Date"`):
			return member + `:"<time>"`
		case isMember:
			return member + `:"` + p.name(strings.Trim(value, `"`)) + `"`
		}
		return p.name(found)
	})
}

func (p *placeholders) name(text string) string {
	if p.names == nil {
		p.names = map[string]string{}
	}
	if p.names[text] == "" {
		p.names[text] = fmt.Sprintf("<%d>", len(p.texts))
		p.texts = append(p.texts, text)
	}
	return p.names[text]
}

// show is the reverse of hide for what has been hidden before.
func (p *placeholders) show(text string) string {
	return madeUpName.ReplaceAllStringFunc(text, func(name string) string {
		for original, its := range p.names {
			if its == name {
				return original
			}
		}
		return name
	})
}

// testTerraform sends what Terraform's AWS provider has sent, each recording to
// a folder of its own, and checks that the answers are those that it got.
func testTerraform(t *testing.T, e *endpoint) {
	for _, resource := range append(refusedResources, terraformResources...) {
		t.Run(resource, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(terraformDir, resource+".jsonl"))
			require.NoError(t, err)
			var names placeholders
			for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
				var call recordedCall
				require.NoError(t, json.Unmarshal([]byte(line), &call))
				status, answer := e.rawIn(t, "/terraform-"+strings.ReplaceAll(resource, "_", "-"), call.Operation, names.show(string(call.Input)))
				require.Equal(t, call.Status, status, "call %d: %s\n%s", i+1, line, answer)
				answer = names.hide(answer)
				require.Equal(t, string(call.Answer), answer, "call %d: %s", i+1, line)
			}
		})
	}
}
