package gateway_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/gateway"
	"vault-plugin-secrets-kms-hmac/internal/dev"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// These tests drive the endpoint with AWS's own SDK against a real Vault that
// runs the real engine. Those that need nothing of Vault's, like policies, also
// run against the engine in memory: kms-gateway -dev.

const (
	account = "111122223333"
	arnBase = "arn:aws:kms:us-east-1:" + account + ":"
)

// endpoint is an endpoint with what stands behind it.
type endpoint struct {
	vault *testvault.Server // nil if it is the engine in memory
	url   string
	token string // which may do everything
}

// newEndpoint starts a Vault server and an endpoint for the time of a test.
func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	vault := testvault.RunEngine(t, "", "kms")
	return &endpoint{vault, serve(t, vault.Address), vault.RootToken}
}

// newDevEndpoint starts an endpoint with the engine in memory.
func newDevEndpoint(t *testing.T) *endpoint {
	t.Helper()
	engine, err := dev.New(nil)
	require.NoError(t, err)
	server := httptest.NewServer(engine.Handler(handler(t, engine.Vault(), dev.Mount)))
	t.Cleanup(server.Close)
	return &endpoint{nil, server.URL, ""}
}

// serve serves an endpoint before the Vault server at an address, for the time
// of a test, and returns its URL.
func serve(t *testing.T, address string) string { return serveMount(t, address, "kms") }

func serveMount(t *testing.T, address, mount string, change ...func(*gateway.Config)) string {
	t.Helper()
	// A thousand callers at once, with the race detector, on a busy machine take
	// their time.
	vault, err := gateway.NewVault(address, "", time.Minute)
	require.NoError(t, err)
	server := httptest.NewServer(handler(t, vault, mount, change...))
	t.Cleanup(server.Close)
	return server.URL
}

func handler(t *testing.T, vault *gateway.Vault, mount string, change ...func(*gateway.Config)) http.Handler {
	t.Helper()
	config := gateway.Config{
		Vault: vault, Mount: mount, MaxBody: 1 << 20, MaxConcurrency: 4096,
		ARNs: gateway.ARNs{Partition: "aws", Region: "us-east-1", Account: account},
	}
	for _, f := range change {
		f(&config)
	}
	g, err := gateway.New(config)
	require.NoError(t, err)
	return gateway.Handler(g, nil)
}

// client returns an unmodified SDK client whose session token is a Vault token.
func (e *endpoint) client(folder, token string) *kms.Client {
	return kms.New(kms.Options{
		Region:           "us-east-1",
		BaseEndpoint:     aws.String(e.url + folder),
		Credentials:      credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "not-verified", token),
		RetryMaxAttempts: 1,
	})
}

func (e *endpoint) root() *kms.Client { return e.client("", e.token) }

// raw makes a call that no SDK would make.
func (e *endpoint) raw(t *testing.T, operation, body string) (int, string) {
	t.Helper()
	return e.rawIn(t, "", operation, body)
}

// rawIn is raw for the endpoint of a folder.
func (e *endpoint) rawIn(t *testing.T, folder, operation, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url+folder, strings.NewReader(body))
	require.NoError(t, err)
	request.Header = http.Header{
		"X-Amz-Target":         {"TrentService." + operation},
		"X-Amz-Security-Token": {e.token},
		"Authorization":        {"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00"},
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

// create creates a key and returns its id and ARN.
func create(t *testing.T, c *kms.Client, change ...func(*kms.CreateKeyInput)) (id, arn string) {
	t.Helper()
	in := &kms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac}
	for _, f := range change {
		f(in)
	}
	out, err := c.CreateKey(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, arnBase+"key/"+*out.KeyMetadata.KeyId, *out.KeyMetadata.Arn)
	return *out.KeyMetadata.KeyId, *out.KeyMetadata.Arn
}

func generate(c *kms.Client, key string, message []byte) (*kms.GenerateMacOutput, error) {
	return c.GenerateMac(context.Background(), &kms.GenerateMacInput{KeyId: &key, Message: message, MacAlgorithm: types.MacAlgorithmSpecHmacSha256})
}

func verify(c *kms.Client, key string, message, mac []byte) (*kms.VerifyMacOutput, error) {
	return c.VerifyMac(context.Background(), &kms.VerifyMacInput{KeyId: &key, Message: message, Mac: mac, MacAlgorithm: types.MacAlgorithmSpecHmacSha256})
}

// typed is what the SDK makes of a modelled exception: a type of its own.
type typed[T any] interface {
	*T
	smithy.APIError
}

// requireTyped checks that an error is the SDK's own type T, and its message.
func requireTyped[T any, P typed[T]](t *testing.T, err error, message string) {
	t.Helper()
	var exception P
	require.True(t, errors.As(err, &exception), "%T is expected, not %v", exception, err)
	require.Equal(t, message, exception.ErrorMessage())
	requireStatus(t, err, http.StatusBadRequest)
}

// requireCode checks an exception that is in no model.
func requireCode(t *testing.T, err error, code, message string) {
	t.Helper()
	var exception *smithy.GenericAPIError
	require.True(t, errors.As(err, &exception), "%v", err)
	require.Equal(t, code, exception.Code)
	require.Equal(t, message, exception.Message)
	requireStatus(t, err, http.StatusBadRequest)
}

func requireStatus(t *testing.T, err error, status int) {
	t.Helper()
	var response interface{ HTTPStatusCode() int }
	require.True(t, errors.As(err, &response))
	require.Equal(t, status, response.HTTPStatusCode())
}

// conformance is what every KMS of this project does, whatever is behind it.
var conformance = map[string]func(*testing.T, *endpoint){
	"keys":       testKeys,
	"macs":       testMacs,
	"states":     testStates,
	"missing":    testMissing,
	"aliases":    testAliases,
	"tags":       testTags,
	"policies":   testPolicies,
	"import":     testImport,
	"grants":     testGrants,
	"refused":    testRefused,
	"lists":      testLists,
	"folders":    testFolders,
	"raw":        testRaw,
	"last usage": testLastUsage,
	"callers":    testCallers,
	"terraform":  testTerraform,

	"grant pages": testGrantPages,
}

// onVault is what Vault is needed for.
var onVault = map[string]func(*testing.T, *endpoint){
	"granted":        testGranted,
	"folders denied": testFoldersDenied,
	"denied":         testDenied,
	"taciturn":       testTaciturn,
	"who am I":       testWhoAmI,
	"ready":          testReady,
	"no mount":       testNoMount,
	"no token":       testNoToken,
	"verbs":          testVerbs,
	"parameters":     testParameters,
}

func (e *endpoint) run(t *testing.T, tests map[string]func(*testing.T, *endpoint)) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, e) })
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel() // with TestTerraform, which mostly waits
	e := newEndpoint(t)
	e.run(t, conformance)
	e.run(t, onVault)
	testSealed(t, e) // last: it ends the server's service
}

// TestDev is TestEndpoint against kms-gateway -dev.
func TestDev(t *testing.T) { newDevEndpoint(t).run(t, conformance) }

// testReady: a probe, which has no token, learns whether calls will be served.
func testReady(t *testing.T, e *endpoint) {
	for url, want := range map[string]string{
		e.url: "ready\n",
		serveMount(t, e.vault.Address, "elsewhere"): "No HMAC secrets engine answers at elsewhere/: the mount is another, or its engine is older than this endpoint.\n",
	} {
		response, err := http.Get(url + "/readyz")
		require.NoError(t, err)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, want, string(text))
	}
}

// testNoMount: a call on a mount that is not there is not worth a retry.
func testNoMount(t *testing.T, e *endpoint) {
	wrong := &endpoint{url: serveMount(t, e.vault.Address, "elsewhere"), token: e.token}
	_, err := generate(wrong.root(), "k", []byte("m"))
	requireCode(t, err, "UnknownOperationException", "No secrets engine is mounted at elsewhere/.")
}

// testNoToken: Vault 1.21 says no more than "permission denied".
func testNoToken(t *testing.T, e *endpoint) {
	_, err := generate(e.client("", ""), "k", []byte("m"))
	requireCode(t, err, "MissingAuthenticationTokenException", "Missing Authentication Token")
}

func testKeys(t *testing.T, e *endpoint) {
	c, ctx := e.root(), t.Context()
	for spec, algorithm := range map[types.KeySpec]types.MacAlgorithmSpec{
		types.KeySpecHmac224: types.MacAlgorithmSpecHmacSha224, types.KeySpecHmac256: types.MacAlgorithmSpecHmacSha256,
		types.KeySpecHmac384: types.MacAlgorithmSpecHmacSha384, types.KeySpecHmac512: types.MacAlgorithmSpecHmacSha512,
	} {
		before := time.Now().Add(-time.Second)
		id, arn := create(t, c, func(in *kms.CreateKeyInput) { in.KeySpec, in.Description = spec, aws.String("for tests") })
		require.Regexp(t, `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, id)
		for _, name := range []string{id, arn} {
			out, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &name})
			require.NoError(t, err)
			m := out.KeyMetadata
			require.True(t, m.CreationDate.After(before) && m.CreationDate.Before(time.Now().Add(time.Second)), m.CreationDate)
			m.CreationDate = nil
			require.Equal(t, &types.KeyMetadata{
				AWSAccountId: aws.String(account), KeyId: &id, Arn: &arn, Enabled: true, Description: aws.String("for tests"),
				KeyUsage: types.KeyUsageTypeGenerateVerifyMac, KeyState: types.KeyStateEnabled, Origin: types.OriginTypeAwsKms,
				KeyManager: types.KeyManagerTypeCustomer, KeySpec: spec,
				//lint:ignore SA1019 KMS still answers it
				CustomerMasterKeySpec: types.CustomerMasterKeySpec(spec),
				MacAlgorithms:         []types.MacAlgorithmSpec{algorithm}, MultiRegion: aws.Bool(false),
			}, m)
		}
	}
	id, arn := create(t, c, func(in *kms.CreateKeyInput) { in.MultiRegion = aws.Bool(true) })
	require.Regexp(t, `^mrk-[0-9a-f]{32}$`, id)
	out, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &id})
	require.NoError(t, err)
	require.Equal(t, &types.MultiRegionConfiguration{
		MultiRegionKeyType: types.MultiRegionKeyTypePrimary,
		PrimaryKey:         &types.MultiRegionKey{Arn: &arn, Region: aws.String("us-east-1")},
		ReplicaKeys:        []types.MultiRegionKey{},
	}, out.KeyMetadata.MultiRegionConfiguration)

	_, err = c.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: &id, Description: aws.String("new")})
	require.NoError(t, err)
	out, err = c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &arn})
	require.NoError(t, err)
	require.Equal(t, "new", *out.KeyMetadata.Description)

	_, err = c.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeSignVerify})
	requireTyped[types.UnsupportedOperationException](t, err, "KeySpec RSA_2048 is not supported.")
	_, err = c.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeEncryptDecrypt})
	requireCode(t, err, "ValidationException", "KeyUsage ENCRYPT_DECRYPT is not compatible with KeySpec HMAC_256")
	_, err = c.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac, Tags: manyTags(51)})
	requireTyped[types.TagException](t, err, "Too many tags")
}

func manyTags(n int) []types.Tag {
	tags := make([]types.Tag, n)
	for i := range tags {
		tags[i] = types.Tag{TagKey: aws.String(fmt.Sprintf("key%02d", i)), TagValue: aws.String(fmt.Sprint(i))}
	}
	return tags
}

func testMacs(t *testing.T, e *endpoint) {
	c, ctx := e.root(), t.Context()
	id, arn := create(t, c)
	message := []byte("pay 10 EUR")
	mac, err := generate(c, id, message)
	require.NoError(t, err)
	require.Len(t, mac.Mac, 32)
	require.Equal(t, arn, *mac.KeyId)
	require.Equal(t, types.MacAlgorithmSpecHmacSha256, mac.MacAlgorithm)

	good, err := verify(c, arn, message, mac.Mac)
	require.NoError(t, err)
	require.True(t, good.MacValid)
	require.Equal(t, arn, *good.KeyId)

	for _, wrong := range [][]byte{{0}, mac.Mac[:31], append([]byte{mac.Mac[0] ^ 1}, mac.Mac[1:]...), make([]byte, 6144)} {
		_, err = verify(c, id, message, wrong)
		requireTyped[types.KMSInvalidMacException](t, err, "")
	}
	_, err = c.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: &id, Message: message, MacAlgorithm: types.MacAlgorithmSpecHmacSha512})
	requireTyped[types.InvalidKeyUsageException](t, err, "Algorithm HMAC_SHA_512 is incompatible with key spec HMAC_256.")
	const dry = "The request would have succeeded, but the DryRun option is set."
	_, err = c.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: &id, Message: message, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, DryRun: aws.Bool(true)})
	requireTyped[types.DryRunOperationException](t, err, dry)
	_, err = c.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: &id, Message: message, Mac: mac.Mac, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, DryRun: aws.Bool(true)})
	requireTyped[types.DryRunOperationException](t, err, dry)
	_, err = c.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: &id, Message: message, Mac: []byte("no"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256, DryRun: aws.Bool(true)})
	requireTyped[types.KMSInvalidMacException](t, err, "")
	_, err = c.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: &id, Message: message, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, GrantTokens: []string{"nonsense"}})
	requireTyped[types.InvalidGrantTokenException](t, err, "The grant token is not valid.")
	_, err = generate(c, id, make([]byte, 4096))
	require.NoError(t, err)
	_, err = generate(c, id, make([]byte, 4097))
	requireCode(t, err, "ValidationException", "1 validation error detected: Value at 'message' failed to satisfy constraint: Member must have length less than or equal to 4096")
}

func testStates(t *testing.T, e *endpoint) {
	c, ctx := e.root(), t.Context()
	id, arn := create(t, c)
	_, err := c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &id})
	require.NoError(t, err)
	_, err = generate(c, id, []byte("x"))
	requireTyped[types.DisabledException](t, err, arn+" is disabled.")
	_, err = c.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &arn})
	require.NoError(t, err)
	_, err = c.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &id})
	requireTyped[types.KMSInvalidStateException](t, err, arn+" is not pending deletion")

	out, err := c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: aws.Int32(7)})
	require.NoError(t, err)
	require.Equal(t, arn, *out.KeyId)
	require.Equal(t, types.KeyStatePendingDeletion, out.KeyState)
	require.EqualValues(t, 7, *out.PendingWindowInDays)
	require.WithinDuration(t, time.Now().AddDate(0, 0, 7), *out.DeletionDate, time.Minute)
	_, err = generate(c, id, []byte("x"))
	requireTyped[types.KMSInvalidStateException](t, err, arn+" is pending deletion.")
	described, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &id})
	require.NoError(t, err)
	require.NotNil(t, described.KeyMetadata.DeletionDate)
	require.Nil(t, described.KeyMetadata.PendingDeletionWindowInDays)
	require.False(t, described.KeyMetadata.Enabled)

	cancelled, err := c.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &id})
	require.NoError(t, err)
	require.Equal(t, arn, *cancelled.KeyId)
	_, err = generate(c, id, []byte("x"))
	requireTyped[types.DisabledException](t, err, arn+" is disabled.")
	_, err = c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: aws.Int32(31)})
	requireCode(t, err, "ValidationException", "PendingWindowInDays must be between 7 and 30")
}

func testMissing(t *testing.T, e *endpoint) {
	c := e.root()
	const free = "00000000-0000-4000-8000-00000000abcd"
	for id, message := range map[string]string{
		"foo":                                  "Invalid keyId 'foo'",
		arnBase + "key/foo":                    "Invalid keyId foo",
		free:                                   "Key '" + arnBase + "key/" + free + "' does not exist",
		arnBase + "key/" + free:                "Key '" + arnBase + "key/" + free + "' does not exist",
		"mrk-0123456789abcdef0123456789abcdef": "Key '" + arnBase + "key/mrk-0123456789abcdef0123456789abcdef' does not exist",
		"mrk-1234":                             "Invalid keyId 'mrk-1234'",
		"arn:aws:kms:us-west-2:" + account + ":key/" + free: "Invalid arn us-west-2",
		"alias/nope":           "Alias " + arnBase + "alias/nope is not found.",
		arnBase + "alias/nope": "Alias " + arnBase + "alias/nope is not found.",
		"alias/aws/nope":       "Alias " + arnBase + "alias/aws/nope is not found.",
	} {
		_, err := generate(c, id, []byte("x"))
		requireTyped[types.NotFoundException](t, err, message)
		_, err = verify(c, id, []byte("x"), []byte("x"))
		requireTyped[types.NotFoundException](t, err, message)
		_, err = c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		requireTyped[types.NotFoundException](t, err, message)
		_, err = c.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &id})
		requireTyped[types.NotFoundException](t, err, message)
		if !strings.Contains(id, "alias/") {
			_, err = c.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &id})
			requireTyped[types.NotFoundException](t, err, message)
			_, err = c.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: &id})
			requireTyped[types.NotFoundException](t, err, message)
			_, err = c.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &id})
			requireTyped[types.NotFoundException](t, err, message)
			_, err = c.ListAliases(t.Context(), &kms.ListAliasesInput{KeyId: &id})
			requireTyped[types.NotFoundException](t, err, message)
			_, err = c.GetKeyLastUsage(t.Context(), &kms.GetKeyLastUsageInput{KeyId: &id})
			requireTyped[types.NotFoundException](t, err, message)
			_, err = c.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/to-nowhere"), TargetKeyId: &id})
			requireTyped[types.NotFoundException](t, err, message)
		}
	}
}

func testAliases(t *testing.T, e *endpoint) {
	c, ctx := e.root(), t.Context()
	id, arn := create(t, c)
	other, otherARN := create(t, c)
	name := aws.String("alias/current")
	_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: name, TargetKeyId: &arn})
	require.NoError(t, err)
	_, err = c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: name, TargetKeyId: &arn})
	requireTyped[types.AlreadyExistsException](t, err, "An alias with the name "+arnBase+"alias/current already exists")
	for _, key := range []string{"alias/current", arnBase + "alias/current"} {
		out, err := generate(c, key, []byte("x"))
		require.NoError(t, err)
		require.Equal(t, arn, *out.KeyId)
		described, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &key})
		require.NoError(t, err)
		require.Equal(t, id, *described.KeyMetadata.KeyId)
	}
	_, err = c.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: name, TargetKeyId: &other})
	require.NoError(t, err)
	out, err := generate(c, *name, []byte("x"))
	require.NoError(t, err)
	require.Equal(t, otherARN, *out.KeyId)

	list, err := c.ListAliases(ctx, &kms.ListAliasesInput{KeyId: &other})
	require.NoError(t, err)
	require.Len(t, list.Aliases, 1)
	require.Equal(t, "alias/current", *list.Aliases[0].AliasName)
	require.Equal(t, arnBase+"alias/current", *list.Aliases[0].AliasArn)
	require.Equal(t, other, *list.Aliases[0].TargetKeyId)
	require.NotNil(t, list.Aliases[0].CreationDate)
	require.True(t, list.Aliases[0].LastUpdatedDate.After(*list.Aliases[0].CreationDate))
	list, err = c.ListAliases(ctx, &kms.ListAliasesInput{KeyId: &arn})
	require.NoError(t, err)
	require.Empty(t, list.Aliases)

	_, err = c.EnableKey(ctx, &kms.EnableKeyInput{KeyId: name})
	requireTyped[types.InvalidArnException](t, err, "Key Aliases are not supported for this operation.")
	_, err = c.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: name})
	require.NoError(t, err)
	const gone = "Alias " + arnBase + "alias/current is not found."
	_, err = c.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: name})
	requireTyped[types.NotFoundException](t, err, gone)
	_, err = c.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: name, TargetKeyId: &id})
	requireTyped[types.NotFoundException](t, err, gone)
	_, err = c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/aws/x"), TargetKeyId: &id})
	requireCode(t, err, "NotAuthorizedException", "The alias name for a customer managed CMK cannot begin with alias/aws/.")
	for i := range 51 {
		_, err = c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(fmt.Sprint("alias/many", i)), TargetKeyId: &id})
		if i < 50 {
			require.NoError(t, err)
		}
	}
	var limit *types.LimitExceededException
	require.ErrorAs(t, err, &limit)
}

func testTags(t *testing.T, e *endpoint) {
	c, ctx := e.root(), t.Context()
	id, _ := create(t, c, func(in *kms.CreateKeyInput) { in.Tags = manyTags(3) })
	_, err := c.TagResource(ctx, &kms.TagResourceInput{KeyId: &id, Tags: []types.Tag{
		{TagKey: aws.String("key00"), TagValue: aws.String("")}, {TagKey: aws.String("é/:=+"), TagValue: aws.String("ü")},
	}})
	require.NoError(t, err)
	_, err = c.UntagResource(ctx, &kms.UntagResourceInput{KeyId: &id, TagKeys: []string{"key01", "unknown"}})
	require.NoError(t, err)
	var got []string
	for page := kms.NewListResourceTagsPaginator(c, &kms.ListResourceTagsInput{KeyId: &id, Limit: aws.Int32(2)}); page.HasMorePages(); {
		out, err := page.NextPage(ctx)
		require.NoError(t, err)
		for _, tag := range out.Tags {
			got = append(got, *tag.TagKey+"="+*tag.TagValue)
		}
	}
	require.Equal(t, []string{"key00=", "key02=2", "é/:=+=ü"}, got)
	_, err = c.TagResource(ctx, &kms.TagResourceInput{KeyId: &id, Tags: append(manyTags(1), manyTags(1)...)})
	requireTyped[types.TagException](t, err, "Duplicate tag keys")
	_, err = c.TagResource(ctx, &kms.TagResourceInput{KeyId: &id, Tags: []types.Tag{{TagKey: aws.String("AWS:x"), TagValue: aws.String("")}}})
	requireTyped[types.TagException](t, err, "Tags beginning with aws: are reserved")
	_, err = c.TagResource(ctx, &kms.TagResourceInput{KeyId: &id, Tags: manyTags(50)})
	requireTyped[types.TagException](t, err, "Too many tags")
	_, err = c.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: &id, Marker: aws.String("nonsense")})
	requireTyped[types.InvalidMarkerException](t, err, "")
}

const defaultPolicy = `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::111122223333:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`

func testPolicies(t *testing.T, e *endpoint) {
	c, ctx := e.root(), t.Context()
	compact := strings.ReplaceAll(strings.ReplaceAll(defaultPolicy, "\n", ""), "  ", "")
	id, arn := create(t, c)
	requirePolicy := func(id, policy string) {
		t.Helper()
		out, err := c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &id})
		require.NoError(t, err)
		require.Equal(t, policy, *out.Policy)
		require.Equal(t, "default", *out.PolicyName)
	}
	requirePolicy(id, defaultPolicy)
	withPolicy, _ := create(t, c, func(in *kms.CreateKeyInput) { in.Policy = &compact })
	requirePolicy(withPolicy, compact)
	_, err := c.CreateKey(ctx, &kms.CreateKeyInput{
		KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac, Policy: aws.String(strings.ReplaceAll(compact, account, "444455556666")),
	})
	const refused = "Only key policies that mean what the default key policy means are supported. Vault policies decide who may use a key."
	requireTyped[types.UnsupportedOperationException](t, err, refused)
	names, err := c.ListKeyPolicies(ctx, &kms.ListKeyPoliciesInput{KeyId: &id})
	require.NoError(t, err)
	require.Equal(t, []string{"default"}, names.PolicyNames)
	require.False(t, names.Truncated)
	put := func(id, policy string) error {
		_, err := c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &id, Policy: &policy})
		return err
	}
	terraforms := `{"Id":"mine","Statement":[{"Action":"kms:*","Effect":"Allow","Principal":{"AWS":["` + account + `"]},"Resource":"*","Sid":"all"}],"Version":"2012-10-17"}`
	require.NoError(t, put(arn, terraforms))
	requirePolicy(id, terraforms)
	require.NoError(t, put(withPolicy, defaultPolicy))
	requirePolicy(withPolicy, defaultPolicy)
	requireTyped[types.UnsupportedOperationException](t, put(id, `{"Version":"2012-10-17","Statement":[]}`), refused)
	requireTyped[types.UnsupportedOperationException](t, put(id, strings.ReplaceAll(terraforms, account, "444455556666")), refused)
	requireTyped[types.LimitExceededException](t, put(id, terraforms+strings.Repeat(" ", 32768)), "The key policy exceeds the quota of 32768 bytes.")
	missing := "11111111-2222-3333-4444-555555555555"
	for _, policy := range []string{terraforms, "nonsense"} {
		requireTyped[types.NotFoundException](t, put(missing, policy), "Key '"+arnBase+"key/"+missing+"' does not exist")
	}
	_, err = c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &missing})
	requireTyped[types.NotFoundException](t, err, "Key '"+arnBase+"key/"+missing+"' does not exist")
	_, err = c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &id, Policy: &terraforms, PolicyName: aws.String("other")})
	requireTyped[types.NotFoundException](t, err, "No such policy exists")
	requirePolicy(id, terraforms)
	_, err = c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &id, Policy: aws.String("nonsense")})
	requireTyped[types.MalformedPolicyDocumentException](t, err, "")
	_, err = c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &id, PolicyName: aws.String("other")})
	requireTyped[types.NotFoundException](t, err, "No such policy exists")
}

func testImport(t *testing.T, e *endpoint) {
	c, ctx := e.root(), t.Context()
	id, arn := create(t, c, func(in *kms.CreateKeyInput) { in.Origin = types.OriginTypeExternal })
	_, err := generate(c, id, []byte("x"))
	requireTyped[types.KMSInvalidStateException](t, err, arn+" is pending import.")
	parameters, err := c.GetParametersForImport(ctx, &kms.GetParametersForImportInput{
		KeyId: &id, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048,
	})
	require.NoError(t, err)
	require.Equal(t, arn, *parameters.KeyId)
	require.WithinDuration(t, time.Now().Add(24*time.Hour), *parameters.ParametersValidTo, time.Minute)
	wrap := func(material []byte) []byte {
		public, err := x509.ParsePKIXPublicKey(parameters.PublicKey)
		require.NoError(t, err)
		wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
		require.NoError(t, err)
		return wrapped
	}
	material := []byte(strings.Repeat("k", 48))
	input := func() *kms.ImportKeyMaterialInput {
		return &kms.ImportKeyMaterialInput{KeyId: &id, ImportToken: parameters.ImportToken, EncryptedKeyMaterial: wrap(material), ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire}
	}
	out, err := c.ImportKeyMaterial(ctx, input())
	require.NoError(t, err)
	require.Equal(t, arn, *out.KeyId)
	require.Nil(t, out.KeyMaterialId)
	mac, err := generate(c, id, []byte("x"))
	require.NoError(t, err)
	independent := hmac.New(sha256.New, material)
	independent.Write([]byte("x"))
	require.Equal(t, independent.Sum(nil), mac.Mac)

	in := input()
	in.ImportToken = []byte("nonsense")
	_, err = c.ImportKeyMaterial(ctx, in)
	requireTyped[types.InvalidImportTokenException](t, err, "")
	in = input()
	in.EncryptedKeyMaterial = make([]byte, 256)
	_, err = c.ImportKeyMaterial(ctx, in)
	requireTyped[types.InvalidCiphertextException](t, err, "")
	in = input()
	in.EncryptedKeyMaterial = wrap([]byte(strings.Repeat("o", 48)))
	_, err = c.ImportKeyMaterial(ctx, in)
	var incorrect *types.IncorrectKeyMaterialException
	require.ErrorAs(t, err, &incorrect)
	require.Regexp(t, `^Imported key material does not have the expected identifier \([0-9a-f]{64}\)\.$`, incorrect.ErrorMessage())
	in = input()
	in.ImportType = types.ImportTypeNewKeyMaterial
	_, err = c.ImportKeyMaterial(ctx, in)
	requireCode(t, err, "ValidationException", "Input parameter importType cannot be used with HMAC_256 imported keys.")
	in = input()
	in.KeyMaterialDescription = aws.String("d")
	_, err = c.ImportKeyMaterial(ctx, in)
	requireCode(t, err, "ValidationException", "Input parameter keyMaterialDescription cannot be used with HMAC_256 imported keys.")
	_, err = c.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: &id, KeyMaterialId: aws.String(strings.Repeat("0", 64))})
	requireCode(t, err, "ValidationException", "Input parameter keyMaterialId cannot be used with HMAC_256 imported keys.")
	in = input()
	in.ExpirationModel = ""
	_, err = c.ImportKeyMaterial(ctx, in)
	requireCode(t, err, "ValidationException", "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")

	validTo := time.Now().Add(time.Hour)
	in.ValidTo = &validTo
	_, err = c.ImportKeyMaterial(ctx, in)
	require.NoError(t, err)
	described, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &id})
	require.NoError(t, err)
	require.Equal(t, validTo.Unix(), described.KeyMetadata.ValidTo.Unix())
	require.Equal(t, types.ExpirationModelTypeKeyMaterialExpires, described.KeyMetadata.ExpirationModel)
	deleted, err := c.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: &id})
	require.NoError(t, err)
	require.Equal(t, arn, *deleted.KeyId)

	_, err = c.GetParametersForImport(ctx, &kms.GetParametersForImportInput{KeyId: &id, WrappingAlgorithm: types.AlgorithmSpecRsaesPkcs1V15, WrappingKeySpec: types.WrappingKeySpecRsa2048})
	requireCode(t, err, "ValidationException", "Wrapping algorithm RSAES_PKCS1_V1_5 and wrapping key spec RSA_2048 cannot be used to import a HMAC_256 key.")
	native, nativeARN := create(t, c)
	_, err = c.GetParametersForImport(ctx, &kms.GetParametersForImportInput{KeyId: &native, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048})
	requireTyped[types.UnsupportedOperationException](t, err, nativeARN+" origin is AWS_KMS which is not valid for this operation.")
	_, err = c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &id})
	requireTyped[types.UnsupportedOperationException](t, err, arn+" origin is EXTERNAL which is not valid for this operation.")
}

// entityToken makes a Vault entity with a token of its own and no policy but
// the one that opens the granted paths. In memory the token alone says who calls.
func (e *endpoint) entityToken(t *testing.T, name string) (entity, token string) {
	t.Helper()
	if e.vault == nil {
		return name, name
	}
	root := e.vault.Client()
	auths, err := root.Sys().ListAuth()
	require.NoError(t, err)
	if auths["userpass/"] == nil {
		require.NoError(t, root.Sys().EnableAuthWithOptions("userpass", &api.EnableAuthOptions{Type: "userpass"}))
	}
	require.NoError(t, e.vault.WritePolicy(t.Context(), "granted", `path "kms/granted/*" { capabilities = ["update", "patch"] }
path "kms/list-retirable-grants" { capabilities = ["read"] }
path "kms/retire-grant" { capabilities = ["update"] }`))
	_, err = root.Logical().Write("auth/userpass/users/"+name, map[string]any{"password": "p", "token_policies": "granted"})
	require.NoError(t, err)
	login, err := e.vault.ClientWithToken("").Logical().Write("auth/userpass/login/"+name, map[string]any{"password": "p"})
	require.NoError(t, err)
	return login.Auth.EntityID, login.Auth.ClientToken
}

func testGrants(t *testing.T, e *endpoint) {
	c, ctx := e.root(), t.Context()
	id, arn := create(t, c)
	entity, token := e.entityToken(t, "retiree")
	principal := aws.String("arn:aws:iam::" + account + ":user/" + entity)
	retiree := e.client("", token)

	input := &kms.CreateGrantInput{
		KeyId: &id, GranteePrincipal: principal, RetiringPrincipal: principal, Name: aws.String("n"),
		Operations: []types.GrantOperation{types.GrantOperationGenerateMac, types.GrantOperationDescribeKey},
	}
	grant, err := c.CreateGrant(ctx, input)
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-f]{64}$`, *grant.GrantId)
	again, err := c.CreateGrant(ctx, input)
	require.NoError(t, err)
	require.Equal(t, *grant.GrantId, *again.GrantId)

	list, err := c.ListGrants(ctx, &kms.ListGrantsInput{KeyId: &arn, GranteePrincipal: principal})
	require.NoError(t, err)
	require.Len(t, list.Grants, 1)
	entry := list.Grants[0]
	require.WithinDuration(t, time.Now(), *entry.CreationDate, time.Minute)
	require.Zero(t, entry.CreationDate.Nanosecond())
	entry.CreationDate = nil
	require.Equal(t, types.GrantListEntry{
		KeyId: &arn, GrantId: grant.GrantId, Name: aws.String("n"), GranteePrincipal: principal, RetiringPrincipal: principal,
		IssuingAccount: aws.String("arn:aws:iam::" + account + ":root"), Operations: input.Operations,
	}, entry)
	retirable, err := c.ListRetirableGrants(ctx, &kms.ListRetirableGrantsInput{RetiringPrincipal: principal})
	require.NoError(t, err)
	require.Len(t, retirable.Grants, 1)
	retirable, err = retiree.ListRetirableGrants(ctx, &kms.ListRetirableGrantsInput{RetiringPrincipal: principal})
	require.NoError(t, err)
	require.Len(t, retirable.Grants, 1)
	if e.vault != nil { // in memory no policy keeps callers from an owner's paths
		_, token := e.entityToken(t, "other")
		other := e.client("", token)
		denied := func(err error) {
			var exception smithy.APIError
			require.ErrorAs(t, err, &exception)
			require.Equal(t, "AccessDeniedException", exception.ErrorCode())
		}
		_, err = other.ListRetirableGrants(ctx, &kms.ListRetirableGrantsInput{RetiringPrincipal: principal})
		denied(err)
		_, err = other.RetireGrant(ctx, &kms.RetireGrantInput{GrantToken: grant.GrantToken})
		denied(err)
		_, err = other.RetireGrant(ctx, &kms.RetireGrantInput{KeyId: &arn, GrantId: grant.GrantId})
		denied(err)
	}

	// The owner of the key, here the root token, which has no entity.
	for _, byToken := range []bool{true, false} {
		mine, err := c.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: &id, GranteePrincipal: principal, Operations: []types.GrantOperation{types.GrantOperationVerifyMac}})
		require.NoError(t, err)
		in := &kms.RetireGrantInput{KeyId: &arn, GrantId: mine.GrantId}
		if byToken {
			in = &kms.RetireGrantInput{GrantToken: mine.GrantToken}
		}
		_, err = c.RetireGrant(ctx, in)
		require.NoError(t, err)
	}

	_, err = retiree.RetireGrant(ctx, &kms.RetireGrantInput{KeyId: &arn, GrantId: grant.GrantId})
	require.NoError(t, err)
	second, err := c.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: &id, GranteePrincipal: principal, Operations: []types.GrantOperation{types.GrantOperationVerifyMac}})
	require.NoError(t, err)
	_, err = c.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: &id, GrantId: second.GrantId})
	require.NoError(t, err)
	_, err = c.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: &id, GrantId: second.GrantId})
	requireTyped[types.NotFoundException](t, err, "Grant ID "+*second.GrantId+" not found")

	input.Operations = []types.GrantOperation{types.GrantOperationEncrypt}
	_, err = c.CreateGrant(ctx, input)
	requireCode(t, err, "ValidationException", "Operations [Encrypt] are not supported when creating a grant for a symmetric KMS key with key usage GENERATE_VERIFY_MAC. Valid operations are [CreateGrant, RetireGrant, DescribeKey, GenerateMac, VerifyMac]")
	input.Operations = []types.GrantOperation{types.GrantOperationGenerateMac}
	input.Constraints = &types.GrantConstraints{EncryptionContextEquals: map[string]string{"a": "b"}}
	_, err = c.CreateGrant(ctx, input)
	requireCode(t, err, "ValidationException", "EncryptionContext is supported only when creating a grant for a symmetric encryption KMS key.")
	input.Constraints = &types.GrantConstraints{SourceArn: aws.String("arn:aws:rds:us-east-1:" + account + ":db:x")}
	_, err = c.CreateGrant(ctx, input)
	requireTyped[types.UnsupportedOperationException](t, err, "SourceArn is not supported.")
}

// testGranted: a grant to an entity without a policy on the key allows what it
// says, until it is retired.
func testGranted(t *testing.T, e *endpoint) {
	c, ctx := e.root(), t.Context()
	id, arn := create(t, c)
	entity, token := e.entityToken(t, "grantee")
	principal := aws.String("arn:aws:iam::" + account + ":user/" + entity)
	grantee := e.client("", token)

	_, err := generate(grantee, id, []byte("x"))
	requireCode(t, err, "AccessDeniedException", "User: arn:aws:iam::"+account+":user/AKIDEXAMPLE is not authorized to perform: kms:GenerateMac on resource: "+arn+" because no identity-based policy allows the kms:GenerateMac action")

	grant, err := c.CreateGrant(ctx, &kms.CreateGrantInput{
		KeyId: &id, GranteePrincipal: principal, RetiringPrincipal: principal,
		Operations: []types.GrantOperation{types.GrantOperationGenerateMac, types.GrantOperationDescribeKey},
	})
	require.NoError(t, err)
	out, err := generate(grantee, id, []byte("x"))
	require.NoError(t, err)
	own, err := generate(c, id, []byte("x"))
	require.NoError(t, err)
	require.Equal(t, own.Mac, out.Mac)
	_, err = grantee.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: &id, Message: []byte("x"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256, GrantTokens: []string{*grant.GrantToken}})
	require.NoError(t, err)
	_, err = grantee.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &id, GrantTokens: []string{*grant.GrantToken}})
	require.NoError(t, err)
	_, err = grantee.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: &id, Message: []byte("x"), Mac: own.Mac, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, GrantTokens: []string{"nonsense"}})
	require.Error(t, err)
	_, err = verify(grantee, id, []byte("x"), own.Mac)
	requireCode(t, err, "AccessDeniedException", "User: arn:aws:iam::"+account+":user/AKIDEXAMPLE is not authorized to perform: kms:VerifyMac on resource: "+arn+" because no identity-based policy allows the kms:VerifyMac action")

	_, err = grantee.RetireGrant(ctx, &kms.RetireGrantInput{KeyId: &arn, GrantId: grant.GrantId})
	require.NoError(t, err)
	_, err = generate(grantee, id, []byte("x"))
	require.Error(t, err)
	_, err = c.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: &id, GranteePrincipal: principal, Operations: []types.GrantOperation{types.GrantOperationVerifyMac}})
	require.NoError(t, err)
	_, err = verify(grantee, id, []byte("x"), own.Mac)
	require.NoError(t, err)
	_, err = verify(grantee, id, []byte("x"), []byte("wrong"))
	requireTyped[types.KMSInvalidMacException](t, err, "")
}

// testGrantPages: the lists of grants come in pages.
func testGrantPages(t *testing.T, e *endpoint) {
	c, ctx := e.root(), t.Context()
	id, _ := create(t, c)
	retiring := aws.String("arn:aws:iam::" + account + ":user/pages")
	for _, grantee := range []string{"one", "two"} {
		_, err := c.CreateGrant(ctx, &kms.CreateGrantInput{
			KeyId: &id, GranteePrincipal: aws.String("arn:aws:iam::" + account + ":user/" + grantee), RetiringPrincipal: retiring,
			Operations: []types.GrantOperation{types.GrantOperationDescribeKey},
		})
		require.NoError(t, err)
	}
	var ofKey, retirable []string
	for pages := kms.NewListGrantsPaginator(c, &kms.ListGrantsInput{KeyId: &id, Limit: aws.Int32(1)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.Grants), 1)
		for _, grant := range page.Grants {
			ofKey = append(ofKey, *grant.GrantId)
		}
	}
	for pages := kms.NewListRetirableGrantsPaginator(c, &kms.ListRetirableGrantsInput{RetiringPrincipal: retiring, Limit: aws.Int32(1)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.Grants), 1)
		for _, grant := range page.Grants {
			retirable = append(retirable, *grant.GrantId)
		}
	}
	require.Len(t, ofKey, 2)
	require.ElementsMatch(t, ofKey, retirable)
}

// testRefused: what KMS answers for an HMAC key to operations that are not for
// HMAC keys.
func testRefused(t *testing.T, e *endpoint) {
	c, ctx := e.root(), t.Context()
	id, arn := create(t, c)
	one := []byte("x")
	usage := map[string]func() error{
		"Encrypt": func() error { _, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &id, Plaintext: one}); return err },
		"Sign": func() error {
			_, err := c.Sign(ctx, &kms.SignInput{KeyId: &id, Message: one, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
			return err
		},
		"Verify": func() error {
			_, err := c.Verify(ctx, &kms.VerifyInput{KeyId: &id, Message: one, Signature: one, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
			return err
		},
		"Decrypt": func() error {
			_, err := c.Decrypt(ctx, &kms.DecryptInput{KeyId: &id, CiphertextBlob: one, EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha1})
			return err
		},
		"ReEncrypt": func() error {
			_, err := c.ReEncrypt(ctx, &kms.ReEncryptInput{DestinationKeyId: &id, CiphertextBlob: one})
			return err
		},
		"GenerateDataKey": func() error {
			_, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &id, NumberOfBytes: aws.Int32(32)})
			return err
		},
		"GenerateDataKeyWithoutPlaintext": func() error {
			_, err := c.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: types.DataKeySpecAes256})
			return err
		},
		"GenerateDataKeyPair": func() error {
			_, err := c.GenerateDataKeyPair(ctx, &kms.GenerateDataKeyPairInput{KeyId: &id, KeyPairSpec: types.DataKeyPairSpecRsa2048})
			return err
		},
		"GenerateDataKeyPairWithoutPlaintext": func() error {
			_, err := c.GenerateDataKeyPairWithoutPlaintext(ctx, &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: &id, KeyPairSpec: types.DataKeyPairSpecRsa2048})
			return err
		},
		"DeriveSharedSecret": func() error {
			_, err := c.DeriveSharedSecret(ctx, &kms.DeriveSharedSecretInput{KeyId: &id, PublicKey: one, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh})
			return err
		},
		"Encapsulate": func() error {
			_, err := c.Encapsulate(ctx, &kms.EncapsulateInput{KeyId: &id, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem})
			return err
		},
		"Decapsulate": func() error {
			_, err := c.Decapsulate(ctx, &kms.DecapsulateInput{KeyId: &id, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem, SharedSecretCiphertextBlob: one})
			return err
		},
	}
	for name, f := range usage {
		requireTyped[types.InvalidKeyUsageException](t, f(), arn+" key usage is GENERATE_VERIFY_MAC which is not valid for "+name+".")
	}
	unsupported := []func() error{
		func() error { _, err := c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &id}); return err },
		func() error { _, err := c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &id}); return err },
		func() error { _, err := c.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &id}); return err },
		func() error {
			_, err := c.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: &id, ReplicaRegion: aws.String("us-west-2")})
			return err
		},
		func() error {
			_, err := c.UpdatePrimaryRegion(ctx, &kms.UpdatePrimaryRegionInput{KeyId: &id, PrimaryRegion: aws.String("us-west-2")})
			return err
		},
	}
	for _, f := range unsupported {
		requireTyped[types.UnsupportedOperationException](t, f(), "")
	}
	store := aws.String("cks-1234567890abcdef0")
	keyStores := []func() error{
		func() error {
			_, err := c.ConnectCustomKeyStore(ctx, &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: store})
			return err
		},
		func() error {
			_, err := c.CreateCustomKeyStore(ctx, &kms.CreateCustomKeyStoreInput{CustomKeyStoreName: store})
			return err
		},
		func() error {
			_, err := c.DeleteCustomKeyStore(ctx, &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: store})
			return err
		},
		func() error {
			_, err := c.DescribeCustomKeyStores(ctx, &kms.DescribeCustomKeyStoresInput{})
			return err
		},
		func() error {
			_, err := c.DisconnectCustomKeyStore(ctx, &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: store})
			return err
		},
		func() error {
			_, err := c.UpdateCustomKeyStore(ctx, &kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: store})
			return err
		},
	}
	for _, f := range keyStores {
		requireTyped[types.UnsupportedOperationException](t, f(), "Custom key stores are not supported: HMAC keys cannot be in one.")
	}
	_, err := c.DisableKeyRotation(ctx, &kms.DisableKeyRotationInput{KeyId: &id})
	require.NoError(t, err)
	status, err := c.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: &id})
	require.NoError(t, err)
	require.False(t, status.KeyRotationEnabled)
	require.Equal(t, arn, *status.KeyId)
	rotations, err := c.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: &id})
	require.NoError(t, err)
	require.Empty(t, rotations.Rotations)
	_, err = c.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: &id, IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial})
	requireCode(t, err, "ValidationException", "Input parameter includeKeyMaterial can only be used with symmetric keys.")
	_, err = c.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: &id, Marker: aws.String("x")})
	requireTyped[types.InvalidMarkerException](t, err, "")
	_, err = c.Decrypt(ctx, &kms.DecryptInput{KeyId: &id, CiphertextBlob: one})
	requireTyped[types.InvalidCiphertextException](t, err, "")
	_, err = c.Decrypt(ctx, &kms.DecryptInput{KeyId: &id, CiphertextBlob: append([]byte{1, 2, 2, 0}, make([]byte, 150)...)})
	requireTyped[types.IncorrectKeyException](t, err, "The key ID in the request does not identify a CMK that can perform this operation.")
	random, err := c.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1024)})
	require.NoError(t, err)
	require.Len(t, random.Plaintext, 1024)
}

func testLists(t *testing.T, e *endpoint) {
	ctx := t.Context()
	c := e.client("/lists", e.token)
	want := map[string]bool{}
	for i := range 7 {
		id, _ := create(t, c)
		want[id] = true
		_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(fmt.Sprintf("alias/sub/a%d", i)), TargetKeyId: &id})
		require.NoError(t, err)
	}
	got := map[string]bool{}
	for page := kms.NewListKeysPaginator(c, &kms.ListKeysInput{Limit: aws.Int32(3)}); page.HasMorePages(); {
		out, err := page.NextPage(ctx)
		require.NoError(t, err)
		require.LessOrEqual(t, len(out.Keys), 3)
		for _, key := range out.Keys {
			require.Equal(t, arnBase+"key/"+*key.KeyId, *key.KeyArn)
			got[*key.KeyId] = true
		}
	}
	require.Equal(t, want, got)
	n := 0
	for page := kms.NewListAliasesPaginator(c, &kms.ListAliasesInput{Limit: aws.Int32(2)}); page.HasMorePages(); {
		out, err := page.NextPage(ctx)
		require.NoError(t, err)
		for _, alias := range out.Aliases {
			require.Equal(t, fmt.Sprintf("alias/sub/a%d", n), *alias.AliasName)
			require.True(t, want[*alias.TargetKeyId])
			n++
		}
	}
	require.Equal(t, 7, n)
	_, err := c.ListKeys(ctx, &kms.ListKeysInput{Marker: aws.String("nonsense")})
	requireTyped[types.InvalidMarkerException](t, err, "")
}

// team returns a client of a folder whose token may do everything there and
// nothing elsewhere, if there are policies.
func (e *endpoint) team(t *testing.T, folder, name string) *kms.Client {
	t.Helper()
	token := e.token
	if e.vault != nil {
		token = e.vault.TokenFor(t, name, strings.ReplaceAll(`path "kms/+/TEAM/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "kms/+/alias/TEAM/*" { capabilities = ["read", "update"] }`, "TEAM", name))
	}
	return e.client(folder, token)
}

// testFolders: a folder is a client's whole KMS.
func testFolders(t *testing.T, e *endpoint) {
	ctx := t.Context()
	payments, orders := e.team(t, "/payments", "payments"), e.team(t, "/orders/", "orders")
	id, arn := create(t, payments)
	for _, c := range []*kms.Client{payments, orders} {
		key, _ := create(t, c)
		_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/current"), TargetKeyId: &key})
		require.NoError(t, err)
		out, err := generate(c, "alias/current", []byte("x"))
		require.NoError(t, err)
		require.Equal(t, arnBase+"key/"+key, *out.KeyId)
		aliases, err := c.ListAliases(ctx, &kms.ListAliasesInput{})
		require.NoError(t, err)
		require.Len(t, aliases.Aliases, 1)
		described, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/current")})
		require.NoError(t, err)
		require.Equal(t, key, *described.KeyMetadata.KeyId)
	}
	for _, name := range []string{id, arn} {
		_, err := generate(orders, name, []byte("x"))
		requireTyped[types.NotFoundException](t, err, "Key '"+arn+"' does not exist")
	}
	out, err := generate(e.root(), "payments/"+id, []byte("x"))
	require.NoError(t, err)
	require.Equal(t, arnBase+"key/payments/"+id, *out.KeyId)
}

// testFoldersDenied: the folder in the URL opens nothing that the token may not.
func testFoldersDenied(t *testing.T, e *endpoint) {
	id, arn := create(t, e.team(t, "/payments", "payments"))
	intruder := e.team(t, "/payments", "orders")
	for _, name := range []string{id, arn} {
		_, err := generate(intruder, name, []byte("x"))
		require.True(t, isCode(err, "AccessDeniedException"), "%v", err)
	}
}

func testDenied(t *testing.T, e *endpoint) {
	ctx := t.Context()
	id, arn := create(t, e.root())
	nobody := e.client("", e.vault.TokenFor(t, "nobody", `path "kms/none" { capabilities = ["read"] }`))
	user := "User: arn:aws:iam::" + account + ":user/AKIDEXAMPLE is not authorized to perform: kms:"
	_, err := nobody.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &id})
	requireCode(t, err, "AccessDeniedException", user+"DescribeKey on resource: "+arn+" because no identity-based policy allows the kms:DescribeKey action")
	_, err = nobody.ListKeys(ctx, &kms.ListKeysInput{})
	requireCode(t, err, "AccessDeniedException", user+"ListKeys on resource: * because no identity-based policy allows the kms:ListKeys action")
	_, err = nobody.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
	requireCode(t, err, "AccessDeniedException", user+"CreateKey on resource: * because no identity-based policy allows the kms:CreateKey action")
	_, err = nobody.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String("alias/x")})
	requireCode(t, err, "AccessDeniedException", user+"DeleteAlias on resource: "+arnBase+"alias/x because no identity-based policy allows the kms:DeleteAlias action")
	_, err = e.client("", "hvs.unknown").ListKeys(ctx, &kms.ListKeysInput{})
	requireCode(t, err, "UnrecognizedClientException", "The security token included in the request is invalid.")
	_, err = e.client("", "").ListKeys(ctx, &kms.ListKeysInput{})
	requireCode(t, err, "MissingAuthenticationTokenException", "Missing Authentication Token")
}

// testTaciturn is testDenied before a server that says of every refusal no more
// than "permission denied", as OpenBao does of those that are about the token.
func testTaciturn(t *testing.T, e *endpoint) {
	address, err := url.Parse(e.vault.Address)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(address)
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.StatusCode != http.StatusForbidden {
			return nil
		}
		const body = `{"errors":["permission denied"]}`
		r.ContentLength, r.Body = int64(len(body)), io.NopCloser(strings.NewReader(body))
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		return nil
	}
	server := httptest.NewServer(proxy)
	defer server.Close()
	testDenied(t, &endpoint{e.vault, serve(t, server.URL), e.token})
}

// testWhoAmI is what the endpoint relies on to tell unknown tokens from those
// that no policy allows the call, where the server does not say which it is.
func testWhoAmI(t *testing.T, e *endpoint) {
	nobody := e.vault.TokenFor(t, "nobody", `path "kms/none" { capabilities = ["read"] }`)
	for token, status := range map[string]int{"": 200, nobody: 200, "hvs.unknown": 403, "s.unknown": 403} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.vault.Address+"/v1/sys/internal/ui/mounts", nil)
		require.NoError(t, err)
		request.Header.Set("X-Vault-Token", token)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		response.Body.Close()
		require.Equal(t, status, response.StatusCode, token)
	}
}

// testVerbs: update and patch are the same permission of KMS.
func testVerbs(t *testing.T, e *endpoint) {
	id, _ := create(t, e.root())
	for name, capabilities := range map[string]string{"update": `"update"`, "patch": `"patch"`, "both": `"update", "patch"`} {
		policy := fmt.Sprintf(`path "kms/+/%s" { capabilities = [%s] }`, id, capabilities)
		u := user{client: e.client("", e.vault.TokenFor(t, "verb-"+name, policy)), key: id}
		for range 2 {
			_, err := u.use([]byte("message"))
			require.NoError(t, err, name)
		}
	}
}

// testParameters: calls under load are let through by a policy that knows
// single messages only, as they are without load.
func testParameters(t *testing.T, e *endpoint) {
	id, _ := create(t, e.root())
	for name, restriction := range map[string]string{
		"denied":  `denied_parameters = { "messages" = [], "batch_input" = [] }`,
		"allowed": `allowed_parameters = { "mac_algorithm" = [], "message" = [] }`,
	} {
		policy := fmt.Sprintf("path %q {\n  capabilities = [%q]\n  %s\n}", "kms/generate-mac/"+id, "update", restriction)
		c := e.client("", e.vault.TokenFor(t, "parameters-"+name, policy))
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				for range 5 {
					if _, err := generate(c, id, []byte(fmt.Sprint("message ", i))); err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

// testCallers: a thousand concurrent callers with ten tokens, each of which may
// use one key only where there are policies, get their own MACs.
func testCallers(t *testing.T, e *endpoint) {
	const callers, tokens = 1000, 10
	users := make([]user, tokens)
	for i := range users {
		id, _ := create(t, e.root())
		token := fmt.Sprint("caller", i)
		if e.vault != nil {
			token = e.vault.TokenFor(t, token, fmt.Sprintf(`path "kms/generate-mac/%s" { capabilities = ["update"] }
path "kms/verify-mac/%s" { capabilities = ["update"] }`, id, id))
		}
		users[i] = user{client: e.client("", token), key: id}
	}
	var wg sync.WaitGroup
	macs := make([][]byte, callers)
	failures := make(chan error, callers)
	for i := range callers {
		wg.Go(func() {
			u, message := users[i%tokens], []byte(fmt.Sprint("message ", i))
			var err error
			if macs[i], err = u.use(message); err == nil && e.vault != nil && i/tokens%10 == 0 {
				_, denied := generate(u.client, users[(i+1)%tokens].key, message)
				if !isCode(denied, "AccessDeniedException") {
					err = fmt.Errorf("another's key: %w", denied)
				}
			}
			if err != nil {
				failures <- fmt.Errorf("caller %d: %w", i, err)
			}
		})
	}
	wg.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	for i := range callers {
		if i%37 == 0 { // alone, for comparison
			out, err := generate(e.root(), users[i%tokens].key, []byte(fmt.Sprint("message ", i)))
			require.NoError(t, err)
			require.Equal(t, out.Mac, macs[i], "caller %d", i)
		}
	}
}

// user is a caller with a token that may use one key.
type user struct {
	client *kms.Client
	key    string
}

// use makes a MAC and has it and a wrong one verified.
func (u user) use(message []byte) ([]byte, error) {
	out, err := generate(u.client, u.key, message)
	if err != nil {
		return nil, err
	}
	if _, err := verify(u.client, u.key, message, out.Mac); err != nil {
		return nil, err
	}
	if _, err := verify(u.client, u.key, message, []byte("wrong")); !isType[types.KMSInvalidMacException](err) {
		return nil, fmt.Errorf("a wrong MAC among right ones: %w", err)
	}
	return out.Mac, nil
}

func isType[T any, P typed[T]](err error) bool {
	var exception P
	return errors.As(err, &exception)
}

func isCode(err error, code string) bool {
	var exception smithy.APIError
	return errors.As(err, &exception) && exception.ErrorCode() == code
}

// testRaw: answers to the letter, on a real key.
func testRaw(t *testing.T, e *endpoint) {
	id, arn := create(t, e.root())
	for _, test := range []struct{ operation, body, want string }{
		{"EnableKey", `{"KeyId":"` + id + `"}`, ``},
		{"VerifyMac", `{"KeyId":"` + id + `","Message":"aGk=","Mac":"aGk=","MacAlgorithm":"HMAC_SHA_256"}`, `{"__type":"KMSInvalidMacException"}`},
		{"GetPublicKey", `{"KeyId":"` + id + `"}`, `{"__type":"UnsupportedOperationException"}`},
		{"GetKeyRotationStatus", `{"KeyId":"` + id + `"}`, `{"KeyRotationEnabled":false,"KeyId":"` + arn + `"}`},
		{"ListKeyPolicies", `{"KeyId":"` + id + `"}`, `{"PolicyNames":["default"],"Truncated":false}`},
		{"ListResourceTags", `{"KeyId":"` + id + `"}`, `{"Tags":[],"Truncated":false}`},
		{"ListGrants", `{"KeyId":"` + id + `"}`, `{"Grants":[],"Truncated":false}`},
		{"ListAliases", `{"KeyId":"` + id + `"}`, `{"Aliases":[],"Truncated":false}`},
		{"ListKeyRotations", `{"KeyId":"` + id + `"}`, `{"Rotations":[],"Truncated":false}`},
		{"GetKeyRotationStatus", `{"KeyId":"alias/none"}`, `{"__type":"InvalidArnException","message":"Key Aliases are not supported for this operation."}`},
		{"GenerateMac", `[]`, `{"__type":"SerializationException","message":"The request body is not a valid JSON document."}`},
		{"NoSuchOperation", `{}`, `{"__type":"UnknownOperationException"}`},
	} {
		status, body := e.raw(t, test.operation, test.body)
		require.Equal(t, test.want, body, test.operation)
		if strings.HasPrefix(test.want, `{"__type"`) {
			require.Equal(t, 400, status)
		} else {
			require.Equal(t, 200, status)
		}
	}
}

func testLastUsage(t *testing.T, e *endpoint) {
	c, ctx := e.root(), t.Context()
	id, arn := create(t, c)
	out, err := c.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: &id})
	require.NoError(t, err)
	require.Equal(t, arn, *out.KeyId)
	require.Nil(t, out.KeyLastUsage.Timestamp)
	_, err = generate(c, id, []byte("x"))
	require.NoError(t, err)
	out, err = c.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: &id})
	require.NoError(t, err)
	require.Equal(t, types.KeyLastUsageTrackingOperationGenerateMac, out.KeyLastUsage.Operation)
	require.WithinDuration(t, time.Now(), *out.KeyLastUsage.Timestamp, time.Minute)
	require.NotNil(t, out.KeyCreationDate)
	require.NotNil(t, out.TrackingStartDate)
}

// testSealed: what passes is a fault that SDKs retry.
func testSealed(t *testing.T, e *endpoint) {
	id, _ := create(t, e.root())
	require.NoError(t, e.vault.Seal(t.Context()))
	_, err := generate(e.root(), id, []byte("x"))
	var fault *types.KMSInternalException
	require.ErrorAs(t, err, &fault)
	require.Equal(t, "Vault is sealed.", fault.ErrorMessage())
	requireStatus(t, err, http.StatusInternalServerError)

	patient := kms.New(kms.Options{
		Region: "us-east-1", BaseEndpoint: &e.url, RetryMaxAttempts: 10,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "not-verified", e.vault.RootToken),
	})
	unsealed := make(chan error, 1)
	go func() { unsealed <- e.vault.Unseal(context.WithoutCancel(t.Context())) }()
	_, err = generate(patient, id, []byte("x"))
	require.NoError(t, err)
	require.NoError(t, <-unsealed)
}
