package kmstest_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha512"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kmstest"
)

func describe(t *testing.T, srv *kmstest.Server, id string) (*types.KeyMetadata, error) {
	t.Helper()
	out, err := kms.NewFromConfig(srv.Config()).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	if err != nil {
		return nil, err
	}
	return out.KeyMetadata, nil
}

func TestCreateKey(t *testing.T) {
	t.Parallel()
	srv := kmstest.Start(t)
	material := bytes.Repeat([]byte{9}, 64)
	arn := srv.CreateKey(kmstest.Key{
		ID: "team/k", Spec: "HMAC_512", Material: material, Description: "d", Tags: map[string]string{"a": "b"}, Aliases: []string{"alias/team/current"},
	})
	require.Equal(t, "arn:aws:kms:us-east-1:000000000000:key/team/k", arn)
	m, err := describe(t, srv, "alias/team/current")
	require.NoError(t, err)
	require.Equal(t, arn, *m.Arn)
	require.Equal(t, "d", *m.Description)

	client := kms.NewFromConfig(srv.Config())
	out, err := client.GenerateMac(t.Context(), &kms.GenerateMacInput{KeyId: &arn, Message: []byte("x"), MacAlgorithm: types.MacAlgorithmSpecHmacSha512})
	require.NoError(t, err)
	independent := hmac.New(sha512.New, material)
	independent.Write([]byte("x"))
	require.Equal(t, independent.Sum(nil), out.Mac)
	tags, err := client.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: &arn})
	require.NoError(t, err)
	require.Equal(t, []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}}, tags.Tags)

	disabled, err := describe(t, srv, srv.CreateKey(kmstest.Key{Disabled: true}))
	require.NoError(t, err)
	require.Equal(t, types.KeyStateDisabled, disabled.KeyState)
	external, err := describe(t, srv, srv.CreateKey(kmstest.Key{Origin: "EXTERNAL"}))
	require.NoError(t, err)
	require.Equal(t, types.KeyStatePendingImport, external.KeyState)

	srv.Reset()
	_, err = describe(t, srv, arn)
	var missing *types.NotFoundException
	require.ErrorAs(t, err, &missing)
}

// fakeTB is a test that records its failure.
type fakeTB struct {
	testing.TB
	failure string
}

func (f *fakeTB) Helper() {}
func (f *fakeTB) Fatalf(format string, args ...any) {
	f.failure = strings.TrimSpace(strings.ReplaceAll(format, "%v", args[0].(error).Error()))
}

func TestMisuseFailsTheTest(t *testing.T) {
	t.Parallel()
	for want, misuse := range map[string]func(*kmstest.Server){
		"key_spec":    func(s *kmstest.Server) { s.CreateKey(kmstest.Key{Spec: "RSA_2048"}) },
		"32 bytes":    func(s *kmstest.Server) { s.CreateKey(kmstest.Key{ID: "k", Material: []byte("short")}) },
		"needs an id": func(s *kmstest.Server) { s.CreateKey(kmstest.Key{Material: make([]byte, 32)}) },
		"material is not": func(s *kmstest.Server) {
			s.CreateKey(kmstest.Key{ID: "k", Origin: "EXTERNAL", Material: make([]byte, 32)})
		},
		"alias/":          func(s *kmstest.Server) { s.CreateKey(kmstest.Key{Aliases: []string{"current"}}) },
		"no operation":    func(s *kmstest.Server) { s.SetFaults(kmstest.Fault{Operation: "Nonsense", Status: 500}) },
		"error, a status": func(s *kmstest.Server) { s.SetFaults(kmstest.Fault{}) },
		"from 400 to 599": func(s *kmstest.Server) { s.SetFaults(kmstest.Fault{Status: 200}) },
		"latency":         func(s *kmstest.Server) { s.SetFaults(kmstest.Fault{Latency: -1}) },
		"years from 1970": func(s *kmstest.Server) { s.SetTime(time.Time{}) },
		"shows years": func(s *kmstest.Server) {
			s.Advance(1<<63 - 1)
			s.Advance(1<<63 - 1)
			for range 40 {
				s.Advance(1<<63 - 1)
			}
		},
		"at most 100 fault": func(s *kmstest.Server) { s.SetFaults(make([]kmstest.Fault, 101)...) },
	} {
		// A Start whose failures are seen: it goes on where t.Fatal would not.
		fake := &fakeTB{TB: t}
		srv := kmstest.Start(fake)
		misuse(srv)
		require.Contains(t, fake.failure, want)
		require.Contains(t, fake.failure, "kmstest: ")
	}
	srv := kmstest.NewServer()
	defer srv.Close()
	require.Panics(t, func() { srv.SetFaults(kmstest.Fault{}) })
}

func TestFaults(t *testing.T) {
	t.Parallel()
	srv := kmstest.Start(t)
	id := srv.CreateKey(kmstest.Key{})
	config := srv.Config()
	config.RetryMaxAttempts = 1
	client := kms.NewFromConfig(config)
	call := func() error {
		_, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		return err
	}
	srv.SetFaults(
		kmstest.Fault{Operation: "GenerateMac", Error: "KMSInternalException"},
		kmstest.Fault{Operation: "DescribeKey", Error: "AccessDeniedException", Message: "no", Times: 1},
		kmstest.Fault{Error: "KMSInternalException", Times: 2},
	)
	require.ErrorContains(t, call(), "api error AccessDeniedException: no")
	var internal *types.KMSInternalException
	require.ErrorAs(t, call(), &internal)
	var response interface{ HTTPStatusCode() int }
	err := call()
	require.ErrorAs(t, err, &response)
	require.Equal(t, 500, response.HTTPStatusCode())
	require.NoError(t, call())

	srv.SetFaults(kmstest.Fault{Status: 503})
	err = call()
	require.ErrorAs(t, err, &response)
	require.Equal(t, 503, response.HTTPStatusCode())
	srv.SetFaults(kmstest.Fault{Latency: 20 * time.Millisecond})
	start := time.Now()
	require.NoError(t, call())
	require.GreaterOrEqual(t, time.Since(start), 20*time.Millisecond)
	srv.SetFaults()
	require.NoError(t, call())
}

func TestClock(t *testing.T) {
	t.Parallel()
	srv := kmstest.Start(t)
	at := time.Date(2030, 2, 3, 4, 5, 6, 0, time.UTC)
	srv.SetTime(at)
	id := srv.CreateKey(kmstest.Key{})
	m, err := describe(t, srv, id)
	require.NoError(t, err)
	require.True(t, at.Equal(*m.CreationDate))
	srv.Advance(time.Hour)
	require.Equal(t, at.Add(time.Hour), srv.Now())
	m, err = describe(t, srv, srv.CreateKey(kmstest.Key{}))
	require.NoError(t, err)
	require.True(t, at.Add(time.Hour).Equal(*m.CreationDate))
}

// TestDocumented is what docs/testing.md shows.
func TestDocumented(t *testing.T) {
	t.Parallel()
	srv := kmstest.Start(t)
	srv.CreateKey(kmstest.Key{ID: "tokens", Aliases: []string{"alias/current"}})
	client := kms.NewFromConfig(srv.Config())
	out, err := client.GenerateMac(t.Context(), &kms.GenerateMacInput{
		KeyId: aws.String("alias/current"), Message: []byte("x"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256,
	})
	require.NoError(t, err)
	require.Len(t, out.Mac, 32)
}

const userTest = `package user

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"vault-plugin-secrets-kms-hmac/kmstest"
)

func TestKMS(t *testing.T) {
	srv := kmstest.Start(t)
	client := kms.NewFromConfig(srv.Config())
	if _, err := client.ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil {
		t.Fatal(err)
	}
}
`

var requireBlock = regexp.MustCompile("(?ms)^```sh\n(CHECKOUT=[^\n]*)\n(.*?)^```$")

// TestFromAnotherModule follows docs/testing.md in a module of its own, and runs
// a test there.
func TestFromAnotherModule(t *testing.T) {
	if testing.Short() {
		t.Skip("downloads modules; run without -short")
	}
	t.Parallel()
	text, err := os.ReadFile("../docs/testing.md")
	require.NoError(t, err)
	block := requireBlock.FindStringSubmatch(string(text))
	require.NotNil(t, block)
	checkout, err := filepath.Abs("..")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/user\n\ngo 1.26.0\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "user_test.go"), []byte(userTest), 0o600))
	cmd := exec.CommandContext(t.Context(), "bash", "-euc", "CHECKOUT='"+checkout+"'\n"+block[2]+"go test .\n")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		kmstest.NewServer().Close()
	}
}

// TestEnv: another program finds the server by its environment alone.
func TestEnv(t *testing.T) {
	t.Parallel()
	srv := kmstest.Start(t)
	srv.CreateKey(kmstest.Key{ID: "tokens"})
	cmd := exec.CommandContext(t.Context(), "go", "run", "../examples/aws-sdk-go", "tokens", "pay 10 EUR")
	cmd.Env = append(cmd.Environ(), srv.Env()...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
