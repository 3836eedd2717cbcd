package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

const (
	uuidKey = "1234abcd-12ab-34cd-56ef-1234567890ab"
	uuidARN = "arn:aws:kms:us-east-1:111122223333:key/" + uuidKey
)

func never(t *testing.T) func(*vaultCall) (int, string) {
	return func(c *vaultCall) (int, string) {
		t.Errorf("no request was expected: %s %s", c.method, c.path)
		return 500, ""
	}
}

// TestHead: what is wrong with a request before its body is looked at.
func TestHead(t *testing.T) {
	f := newFakeVault(t, never(t))
	g := newTestGateway(t, f.URL)
	tests := map[string]struct {
		path, operation string
		header          []string
		kind, message   string
	}{
		"no target":                 {"/", "x", []string{"X-Amz-Target", ""}, "UnknownOperationException", ""},
		"other service":             {"/", "x", []string{"X-Amz-Target", "DynamoDB_20120810.ListTables"}, "UnknownOperationException", ""},
		"unknown operation":         {"/", "GenerateMAC", nil, "UnknownOperationException", ""},
		"no credentials":            {"/", "ListKeys", []string{"Authorization", ""}, "MissingAuthenticationTokenException", "Missing Authentication Token"},
		"target before credentials": {"/", "x", []string{"Authorization", ""}, "UnknownOperationException", ""},
		"basic auth":                {"/", "ListKeys", []string{"Authorization", "Basic eDp5"}, "IncompleteSignatureException", "Authorization header requires an AWS Signature Version 4 algorithm."},
		"no folder":                 {"/a/%2e%2e/b", "ListKeys", nil, "UnknownOperationException", "The path of the endpoint's URL is not a folder of the mount."},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := post(g, test.path, test.operation, `{`, test.header...)
			w.requireException(t, 400, test.kind, test.message)
		})
	}
	t.Run("GET", func(t *testing.T) {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		require.Equal(t, http.StatusMethodNotAllowed, w.Code)
		require.Equal(t, "POST", w.Header().Get("Allow"))
	})
	t.Run("token required", func(t *testing.T) {
		g := newTestGateway(t, f.URL, func(c *Config) { c.RequireToken = true })
		w := post(g, "/", "ListKeys", `{}`, "X-Amz-Security-Token", "")
		w.requireException(t, 400, "MissingAuthenticationTokenException", "Missing Authentication Token")
	})
}

// TestBody: bodies that no operation gets to see, and KMS's model and rules,
// all without a request to Vault.
func TestBody(t *testing.T) {
	f := newFakeVault(t, never(t))
	g := newTestGateway(t, f.URL, func(c *Config) { c.MaxBody = 100_000 })
	const (
		one      = "1 validation error detected: "
		notFound = "NotFoundException"
		invalid  = "ValidationException"
	)
	tests := map[string]struct{ operation, body, kind, message string }{
		"JSON":                {"GenerateMac", `{`, "SerializationException", "The request body is not a valid JSON document."},
		"type":                {"GenerateMac", `{"KeyId":1}`, "SerializationException", "A member of the request has the wrong JSON type: expected a string."},
		"base64":              {"GenerateMac", `{"Message":"*"}`, "SerializationException", "A member of the request is not valid base64."},
		"no message":          {"GenerateMac", `{"KeyId":"k","MacAlgorithm":"HMAC_SHA_256"}`, invalid, one + "Value at 'message' failed to satisfy constraint: Member must not be null"},
		"empty message":       {"GenerateMac", `{"KeyId":"k","MacAlgorithm":"HMAC_SHA_256","Message":""}`, invalid, one + "Value at 'message' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"long message":        {"GenerateMac", `{"KeyId":"k","MacAlgorithm":"HMAC_SHA_256","Message":"` + repeat("AAAA", 1366) + `"}`, invalid, one + "Value at 'message' failed to satisfy constraint: Member must have length less than or equal to 4096"},
		"no MAC":              {"VerifyMac", `{"KeyId":"k","MacAlgorithm":"HMAC_SHA_256","Message":"aGk="}`, invalid, one + "Value null at 'mac' failed to satisfy constraint: Member must not be null"},
		"long MAC":            {"VerifyMac", `{"KeyId":"k","MacAlgorithm":"HMAC_SHA_256","Message":"aGk=","Mac":"` + repeat("AAAA", 2049) + `"}`, invalid, one + "Value at 'mac' failed to satisfy constraint: Member must have length less than or equal to 6144"},
		"algorithm":           {"GenerateMac", `{"KeyId":"k","MacAlgorithm":"hmac_sha_256","Message":"aGk="}`, invalid, one + "Value 'hmac_sha_256' at 'macAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [HMAC_SHA_384, HMAC_SHA_256, HMAC_SHA_224, HMAC_SHA_512]"},
		"empty key":           {"EnableKey", `{"KeyId":""}`, invalid, `2 validation errors detected: Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1; Value '' at 'keyId' failed to satisfy constraint: Member must satisfy regular expression pattern: ^\p{ASCII}+$`},
		"model before Region": {"GenerateMac", `{"KeyId":"arn:aws:kms:us-west-2:111122223333:key/x","MacAlgorithm":"X","Message":"aGk="}`, invalid, one + "Value 'X' at 'macAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [HMAC_SHA_384, HMAC_SHA_256, HMAC_SHA_224, HMAC_SHA_512]"},

		"Region":           {"DescribeKey", `{"KeyId":"arn:aws:kms:us-west-2:111122223333:key/x"}`, notFound, "Invalid arn us-west-2"},
		"alias refused":    {"EnableKey", `{"KeyId":"alias/x"}`, "InvalidArnException", "Key Aliases are not supported for this operation."},
		"alias ARN":        {"EnableKey", `{"KeyId":"arn:aws:kms:us-east-1:111122223333:alias/x"}`, "InvalidArnException", "Key Aliases are not supported for this operation."},
		"impossible id":    {"DescribeKey", `{"KeyId":"a b"}`, notFound, "Invalid keyId 'a b'"},
		"traversal":        {"DescribeKey", `{"KeyId":"../sys/x"}`, notFound, "Invalid keyId '../sys/x'"},
		"in an ARN":        {"DescribeKey", `{"KeyId":"arn:aws:kms:us-east-1:111122223333:key/a b"}`, notFound, "Invalid keyId a b"},
		"impossible alias": {"DescribeKey", `{"KeyId":"alias/a b"}`, notFound, "Alias arn:aws:kms:us-east-1:111122223333:alias/a b is not found."},
		"foreign key":      {"DescribeKey", `{"KeyId":"arn:aws:kms:us-east-1:999999999999:key/x"}`, notFound, "Key 'arn:aws:kms:us-east-1:999999999999:key/x' does not exist"},

		"usage":             {"CreateKey", `{"KeySpec":"HMAC_256"}`, invalid, "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."},
		"two specs":         {"CreateKey", `{"KeySpec":"HMAC_256","CustomerMasterKeySpec":"HMAC_256","KeyUsage":"GENERATE_VERIFY_MAC"}`, invalid, "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated."},
		"key store":         {"CreateKey", `{"CustomKeyStoreId":"cks-1"}`, "UnsupportedOperationException", "Custom key stores are not supported: HMAC keys cannot be in one."},
		"tags twice":        {"CreateKey", `{"KeySpec":"HMAC_256","KeyUsage":"GENERATE_VERIFY_MAC","Tags":[{"TagKey":"a","TagValue":""},{"TagKey":"a","TagValue":""}]}`, "TagException", "Duplicate tag keys"},
		"long tag":          {"TagResource", `{"KeyId":"k","Tags":[{"TagKey":"` + repeat("a", 129) + `","TagValue":""}]}`, invalid, one + "Value '" + repeat("a", 129) + "' at 'tags.1.member.tagKey' failed to satisfy constraint: Member must have length less than or equal to 128"},
		"bad policy":        {"CreateKey", `{"KeySpec":"HMAC_256","KeyUsage":"GENERATE_VERIFY_MAC","Policy":"x"}`, "MalformedPolicyDocumentException", ""},
		"window":            {"ScheduleKeyDeletion", `{"KeyId":"k","PendingWindowInDays":6}`, invalid, "PendingWindowInDays must be between 7 and 30"},
		"alias prefix":      {"CreateAlias", `{"AliasName":"x","TargetKeyId":"k"}`, invalid, `Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`},
		"alias colon":       {"CreateAlias", `{"AliasName":"alias/Service:Test","TargetKeyId":"k"}`, invalid, "alias/Service:Test contains invalid characters for an alias"},
		"alias reserved":    {"CreateAlias", `{"AliasName":"alias/aws/x","TargetKeyId":"k"}`, "NotAuthorizedException", "The alias name for a customer managed CMK cannot begin with alias/aws/."},
		"alias target":      {"UpdateAlias", `{"AliasName":"alias/x","TargetKeyId":"alias/y"}`, invalid, "Aliases must refer to keys. Not aliases"},
		"cross account":     {"CreateAlias", `{"AliasName":"alias/x","TargetKeyId":"arn:aws:kms:us-east-1:999999999999:key/x"}`, invalid, "This operation cannot be called cross account"},
		"data key":          {"GenerateDataKey", `{"KeyId":"k"}`, invalid, "Please specify either number of bytes or key spec."},
		"rotation period":   {"EnableKeyRotation", `{"KeyId":"k","RotationPeriodInDays":2561}`, invalid, one + "Value '2561' at 'rotationPeriodInDays' failed to satisfy constraint: Member must have value less than or equal to 2560"},
		"ciphertext":        {"Decrypt", `{"CiphertextBlob":"AAAA"}`, "InvalidCiphertextException", ""},
		"key stores":        {"DescribeCustomKeyStores", `{}`, "UnsupportedOperationException", "Custom key stores are not supported: HMAC keys cannot be in one."},
		"bare grantee":      {"CreateGrant", `{"KeyId":"k","GranteePrincipal":"bob","Operations":["GenerateMac"]}`, "InvalidArnException", "GranteePrincipal does not refer to a valid principal."},
		"bad grantee":       {"CreateGrant", `{"KeyId":"k","GranteePrincipal":"arn:aws:sts::111111111111:assumed-role/probe/session/target","Operations":["GenerateMac"]}`, "InvalidArnException", "ARN is not valid: arn:aws:sts::111111111111:assumed-role/probe/session/target"},
		"nothing to retire": {"RetireGrant", `{"KeyId":"k"}`, invalid, "Specify either GrantToken, or KeyId and GrantId."},
		"two to retire":     {"RetireGrant", `{"KeyId":"k","GrantId":"x","GrantToken":"t"}`, invalid, "Specify either GrantToken, or KeyId and GrantId."},
		"bare filter":       {"ListGrants", `{"KeyId":"k","GranteePrincipal":"bob"}`, "InvalidArnException", "Input does not refer to a valid principal"},
		"bare retiring":     {"ListRetirableGrants", `{"RetiringPrincipal":"bob"}`, notFound, "Retiring principal bob could not be found"},
		"marker":            {"ListKeys", `{"Marker":"x"}`, "InvalidMarkerException", ""},
		"limit":             {"ListKeys", `{"Limit":1001}`, invalid, one + "Value '1001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 1000"},
		"random":            {"GenerateRandom", `{"NumberOfBytes":1025}`, invalid, one + "Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			post(g, "/", test.operation, test.body).requireException(t, 400, test.kind, test.message)
		})
	}
	t.Run("too large", func(t *testing.T) {
		w := post(g, "/", "CreateKey", `{"Description":"`+repeat("a", 100_000)+`"}`)
		w.requireException(t, 413, "RequestEntityTooLargeException", "The request body exceeds 100000 bytes.")
	})
}

// TestRefusals: what Vault and the engine say, in KMS's words.
func TestRefusals(t *testing.T) {
	const denied = "User: arn:aws:iam::111122223333:user/AKIDEXAMPLE is not authorized to perform: kms:GenerateMac on resource: " + uuidARN + " because no identity-based policy allows the kms:GenerateMac action"
	answer := func(status int, body string) func(*vaultCall) (int, string) {
		return func(*vaultCall) (int, string) { return status, body }
	}
	of := func(status int, body string) func(*vaultCall) (int, string) { return answer(status, body) }
	tests := map[string]struct {
		vault         func(*vaultCall) (int, string)
		status        int
		kind, message string
	}{
		"disabled":  {of(refuse("DisabledException", uuidKey+" is disabled.", uuidKey)), 400, "DisabledException", uuidARN + " is disabled."},
		"usage":     {of(refuse("InvalidKeyUsageException", "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_224.", "")), 400, "InvalidKeyUsageException", "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_224."},
		"silent":    {of(refuse("KMSInvalidMacException", "", "")), 400, "KMSInvalidMacException", ""},
		"no key":    {of(refuse("NotFoundException", "Key '"+uuidKey+"' does not exist", uuidKey)), 400, "NotFoundException", "Key '" + uuidARN + "' does not exist"},
		"policy":    {of(errorsOnly(403, "1 error occurred:\n\t* permission denied\n\n")), 400, "AccessDeniedException", denied},
		"token":     {of(errorsOnly(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")), 400, "UnrecognizedClientException", "The security token included in the request is invalid."},
		"no token":  {of(errorsOnly(403, "missing client token")), 400, "MissingAuthenticationTokenException", "Missing Authentication Token"},
		"quota":     {of(errorsOnly(429, "request path kms/: rate limit quota exceeded")), 400, "ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."},
		"sealed":    {of(errorsOnly(503, "Vault is sealed")), 500, "KMSInternalException", "Vault is sealed."},
		"standby":   {of(errorsOnly(500, "local node not active but active cluster node not found")), 500, "KMSInternalException", "Vault has no active node at the moment. Try again in a few seconds."},
		"no leader": {of(errorsOnly(503, "no active Vault instance found")), 500, "KMSInternalException", "Vault has no active node at the moment. Try again in a few seconds."},
		"no mount":  {of(errorsOnly(404, `no handler for route "kms/generate-mac/x". route entry not found.`)), 400, "UnknownOperationException", "No secrets engine is mounted at kms/."},
		"fault":     {of(errorsOnly(500, "1 error occurred:\n\t* reading key: secret internals\n\n")), 500, "KMSInternalException", "Vault could not process the request."},
		"fields":    {of(errorsOnly(400, "something without a type")), 500, "KMSInternalException", "Vault could not process the request."},
		"HTML":      {of(502, "<html>"), 500, "KMSInternalException", "Vault cannot be reached."},
		"plugin":    {of(errorsOnly(500, pluginGone)), 500, "KMSInternalException", "The secrets engine's process has ended, and Vault starts another. Try again in a few seconds."},
		"overload":  {of(errorsOnly(503, "Vault server temporarily overloaded")), 400, "ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."},
		"nonsense":  {of(200, "<html>"), 500, "KMSInternalException", "Vault could not process the request."},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFakeVault(t, test.vault)
			w := post(newTestGateway(t, f.URL), "/", "GenerateMac", `{"KeyId":"`+uuidKey+`","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256"}`)
			w.requireException(t, test.status, test.kind, test.message)
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		f := newFakeVault(t, never(t))
		f.Close()
		w := post(newTestGateway(t, f.URL), "/", "EnableKey", `{"KeyId":"k"}`)
		w.requireException(t, 500, "KMSInternalException", "Vault cannot be reached.")
	})
	t.Run("slow", func(t *testing.T) {
		release := make(chan struct{})
		f := newFakeVault(t, func(*vaultCall) (int, string) { <-release; return 204, "" })
		defer close(release)
		vault, err := NewVault(f.URL, "", 20*time.Millisecond)
		require.NoError(t, err)
		g := newTestGateway(t, f.URL, func(c *Config) { c.Vault = vault })
		w := post(g, "/", "EnableKey", `{"KeyId":"k"}`)
		w.requireException(t, 500, "DependencyTimeoutException", "Vault did not answer in time.")
	})
}

// TestMissingKey: KMS tells ids of a wrong shape from ids that are free.
func TestMissingKey(t *testing.T) {
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		id := strings.SplitN(c.path, "/", 3)[2]
		return refuse("NotFoundException", "Key '"+id+"' does not exist", id)
	})
	g := newTestGateway(t, f.URL)
	for id, message := range map[string]string{
		"tokens": "Invalid keyId 'tokens'",
		"arn:aws:kms:us-east-1:111122223333:key/tokens": "Invalid keyId tokens",
		uuidKey:                                "Key '" + uuidARN + "' does not exist",
		uuidARN:                                "Key '" + uuidARN + "' does not exist",
		"mrk-0123456789abcdef0123456789ABCDEF": "Key 'arn:aws:kms:us-east-1:111122223333:key/mrk-0123456789abcdef0123456789ABCDEF' does not exist",
	} {
		post(g, "/", "EnableKey", `{"KeyId":"`+id+`"}`).requireException(t, 400, "NotFoundException", message)
	}
	post(g, "/payments", "EnableKey", `{"KeyId":"`+uuidKey+`"}`).requireException(t, 400, "NotFoundException", "Key '"+uuidARN+"' does not exist")
}

func TestAnswersOnTheWire(t *testing.T) {
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		switch {
		case strings.HasPrefix(c.path, "kms/generate-mac/"):
			return 200, `{"data":{"key_id":"payments/k","mac":"AAEC","mac_algorithm":"HMAC_SHA_256"}}`
		case strings.HasPrefix(c.path, "kms/verify-mac/"):
			return 200, `{"data":{"key_id":"payments/k","mac_valid":true,"mac_algorithm":"HMAC_SHA_256"}}`
		case strings.HasPrefix(c.path, "kms/schedule-key-deletion/"):
			return 200, `{"data":{"key_id":"payments/k","deletion_date":"2026-12-22T10:00:00.5Z","key_state":"PendingDeletion","pending_window_in_days":30},"warnings":["x"]}`
		}
		return 204, ""
	})
	g := newTestGateway(t, f.URL)
	const arn = "arn:aws:kms:us-east-1:111122223333:key/k"

	w := post(g, "/payments", "GenerateMac", `{"KeyId":"alias/a","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256"}`)
	require.Equal(t, `{"Mac":"AAEC","MacAlgorithm":"HMAC_SHA_256","KeyId":"`+arn+`"}`, w.body)
	require.Equal(t, 200, w.status)
	require.Equal(t, []string{"application/x-amz-json-1.1"}, w.header["Content-Type"])
	require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, w.requestID())
	require.Equal(t, fmt.Sprint(len(w.body)), w.header.Get("Content-Length"))
	asked := *f.last(t)
	asked.header = nil // TestCallsAreFoundInVault
	require.Equal(t, vaultCall{
		method: "PATCH", path: "kms/generate-mac/alias/payments/a", token: "t0ken",
		body: map[string]any{"mac_algorithm": "HMAC_SHA_256", "message": "aGk="},
		raw:  []byte(`{"mac_algorithm":"HMAC_SHA_256","message":"aGk="}`),
	}, asked)

	w = post(g, "/payments", "VerifyMac", `{"KeyId":"k","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256","Mac":"AAEC","DryRun":false}`)
	require.Equal(t, `{"MacValid":true,"MacAlgorithm":"HMAC_SHA_256","KeyId":"`+arn+`"}`, w.body)
	require.Equal(t, map[string]any{"mac_algorithm": "HMAC_SHA_256", "message": "aGk=", "mac": "AAEC", "dry_run": false}, f.last(t).body)

	w = post(g, "/payments", "ScheduleKeyDeletion", `{"KeyId":"k"}`)
	require.Equal(t, `{"KeyId":"`+arn+`","DeletionDate":1797933600.500,"KeyState":"PendingDeletion","PendingWindowInDays":30}`, w.body)

	w = post(g, "/payments", "EnableKey", `{"KeyId":"k"}`)
	require.Equal(t, 200, w.status)
	require.Empty(t, w.body)
	require.Equal(t, "0", w.header.Get("Content-Length"))
	require.Equal(t, "kms/enable-key/payments/k", f.last(t).path)

	post(g, "/", "ImportKeyMaterial", `{"KeyId":"k","ImportToken":"AAEC","EncryptedKeyMaterial":"AAEC","ValidTo":1797933600.5,"ExpirationModel":"KEY_MATERIAL_EXPIRES"}`)
	require.Equal(t, map[string]any{
		"import_token": "AAEC", "encrypted_key_material": "AAEC", "valid_to": "2026-12-22T10:00:00.5Z", "expiration_model": "KEY_MATERIAL_EXPIRES",
	}, f.last(t).body)

	post(g, "/", "CreateGrant", `{"KeyId":"k","GranteePrincipal":"arn:aws:iam::111122223333:user/entity","RetiringPrincipal":"arn:aws:iam::999999999999:role/r","Operations":["GenerateMac"],"Name":"n","GrantTokens":["x"]}`)
	require.Equal(t, map[string]any{
		"grantee_principal": "entity", "retiring_principal": "arn:aws:iam::999999999999:role/r", "operations": []any{"GenerateMac"}, "name": "n", "grant_tokens": []any{"x"},
	}, f.last(t).body)
}

// TestGrants: a caller whom no policy allows asks again where grants decide.
func TestGranted(t *testing.T) {
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		switch {
		case strings.HasPrefix(c.path, "kms/granted/") && c.token == "grantee":
			return 200, `{"data":{"key_id":"k","mac":"AAEC","mac_valid":true,"key_spec":"HMAC_256","key_state":"Enabled","mac_algorithms":["HMAC_SHA_256"],"creation_date":"2026-11-22T10:00:00Z","grant_id":"g","grant_token":"t"}}`
		}
		return errorsOnly(403, "1 error occurred:\n\t* permission denied\n\n")
	})
	g := newTestGateway(t, f.URL)
	for operation, body := range map[string]string{
		"GenerateMac": `{"KeyId":"k","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256"}`,
		"VerifyMac":   `{"KeyId":"k","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256","Mac":"AAEC","GrantTokens":["t"]}`,
		"DescribeKey": `{"KeyId":"k"}`,
		"CreateGrant": `{"KeyId":"k","GranteePrincipal":"arn:aws:iam::111122223333:user/e","Operations":["GenerateMac"]}`,
	} {
		w := post(g, "/", operation, body, "X-Amz-Security-Token", "grantee")
		require.Equal(t, 200, w.status, w.body)
		require.Equal(t, "kms/granted/"+kms.PathName(operation)+"/k", f.last(t).path)

		w = post(g, "/", operation, body, "X-Amz-Security-Token", "other")
		require.Contains(t, w.body, `"AccessDeniedException"`)
	}
	before := len(f.all())
	require.Contains(t, post(g, "/", "EnableKey", `{"KeyId":"k"}`, "X-Amz-Security-Token", "grantee").body, "AccessDenied")
	require.Len(t, f.all(), before+1, "no grant allows EnableKey")
}

// tree is a fake mount with names in folders, some of them closed.
func tree(names []string, closed ...string) func(*vaultCall) (int, string) {
	slices.Sort(names)
	return func(c *vaultCall) (int, string) {
		dir, isKeys := strings.CutPrefix(c.path, "kms/keys/")
		if !isKeys {
			dir = strings.TrimPrefix(c.path, "kms/aliases/")
		}
		if slices.Contains(closed, dir) {
			return errorsOnly(403, "permission denied")
		}
		query := parseQuery(c.query)
		var entries []string
		for _, name := range names {
			rest, ok := strings.CutPrefix(name, dir)
			if !ok {
				continue
			}
			if head, _, nested := strings.Cut(rest, "/"); nested {
				rest = head + "/"
			}
			if rest > query["after"] && !slices.Contains(entries, rest) {
				entries = append(entries, rest)
			}
		}
		slices.Sort(entries)
		if len(entries) == 0 {
			return 404, `{"errors":[]}`
		}
		var limit int
		_, _ = fmt.Sscan(query["limit"], &limit)
		data := map[string]any{"keys": entries}
		if limit > 0 && len(entries) > limit {
			data["keys"], data["truncated"], data["next_after"] = entries[:limit], true, entries[limit-1]
		}
		body, _ := json.Marshal(map[string]any{"data": data})
		return 200, string(body)
	}
}

func parseQuery(text string) map[string]string {
	out := map[string]string{}
	for _, pair := range strings.Split(text, "&") {
		name, value, _ := strings.Cut(pair, "=")
		out[name] = strings.ReplaceAll(value, "%2F", "/")
	}
	return out
}

// TestServicePrincipals: the members that KMS has for AWS services are refused
// by name, before anything is asked of Vault.
func TestServicePrincipals(t *testing.T) {
	const service, arn = `"rds.amazonaws.com"`, `"arn:aws:iam::111122223333:user/u"`
	tests := map[string]struct{ operation, body, kind, message string }{
		"grantee":       {"CreateGrant", `{"KeyId":"k","Operations":["GenerateMac"],"GranteeServicePrincipal":` + service + `}`, "UnsupportedOperationException", "GranteeServicePrincipal is not supported."},
		"retiring":      {"CreateGrant", `{"KeyId":"k","Operations":["GenerateMac"],"GranteePrincipal":` + arn + `,"RetiringServicePrincipal":` + service + `}`, "UnsupportedOperationException", "RetiringServicePrincipal is not supported."},
		"both":          {"CreateGrant", `{"KeyId":"k","Operations":["GenerateMac"],"GranteePrincipal":` + arn + `,"GranteeServicePrincipal":` + service + `}`, "ValidationException", "You must specify either GranteePrincipal or GranteeServicePrincipal, but not both."},
		"none":          {"CreateGrant", `{"KeyId":"k","Operations":["GenerateMac"]}`, "ValidationException", "You must specify either GranteePrincipal or GranteeServicePrincipal, but not both."},
		"list":          {"ListGrants", `{"KeyId":"k","GranteeServicePrincipal":` + service + `}`, "UnsupportedOperationException", "GranteeServicePrincipal is not supported."},
		"retirable":     {"ListRetirableGrants", `{"RetiringServicePrincipal":` + service + `}`, "UnsupportedOperationException", "RetiringServicePrincipal is not supported."},
		"none to list":  {"ListRetirableGrants", `{}`, "ValidationException", "You must specify either RetiringPrincipal or RetiringServicePrincipal, but not both."},
		"no service":    {"ListGrants", `{"KeyId":"k","GranteeServicePrincipal":"rds"}`, "ValidationException", `1 validation error detected: Value 'rds' at 'granteeServicePrincipal' failed to satisfy constraint: Member must satisfy regular expression pattern: ^([A-Za-z0-9\-]+)\.([A-Za-z0-9\-]+)(\.[A-Za-z0-9\-]+)+$`},
		"source, short": {"CreateGrant", `{"KeyId":"k","Operations":["GenerateMac"],"GranteePrincipal":` + arn + `,"Constraints":{"SourceArn":"arn:aws:rds::x"}}`, "ValidationException", `2 validation errors detected: Value 'arn:aws:rds::x' at 'constraints.sourceArn' failed to satisfy constraint: Member must have length greater than or equal to 20; Value 'arn:aws:rds::x' at 'constraints.sourceArn' failed to satisfy constraint: Member must satisfy regular expression pattern: ^arn:aws[a-z0-9-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:.+$`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFakeVault(t, never(t))
			post(newTestGateway(t, f.URL), "/", test.operation, test.body).requireException(t, 400, test.kind, test.message)
		})
	}
}

func TestListKeysPages(t *testing.T) {
	// The third and fourth are names from before they were refused.
	names := []string{"a", "a-b", "alias/1", "alias/2", "a/x", "a/y/1", "a/y/2", "a/z", "b", "closed/1", "d/e/f/g", "z"}
	open := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return strings.HasPrefix(name, "closed/") })
	f := newFakeVault(t, tree(names, "closed/"))
	g := newTestGateway(t, f.URL)
	slices.Sort(open)
	for _, limit := range []int{1, 2, 3, 5, 9, 100} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			var got []string
			body := fmt.Sprintf(`{"Limit":%d}`, limit)
			for range 20 {
				var answer struct {
					Keys       []struct{ KeyId, KeyArn string }
					NextMarker *string
					Truncated  *bool
				}
				w := post(g, "/", "ListKeys", body)
				require.NoError(t, json.Unmarshal([]byte(w.body), &answer), w.body)
				require.LessOrEqual(t, len(answer.Keys), limit)
				for _, key := range answer.Keys {
					got = append(got, key.KeyId)
					require.Equal(t, testARNs.key(key.KeyId), key.KeyArn)
				}
				require.NotNil(t, answer.Truncated)
				require.Equal(t, *answer.Truncated, answer.NextMarker != nil)
				if !*answer.Truncated {
					require.Equal(t, open, got)
					return
				}
				body = fmt.Sprintf(`{"Limit":%d,"Marker":%q}`, limit, *answer.NextMarker)
			}
			t.Fatal("the list has no end")
		})
	}
	t.Run("folder", func(t *testing.T) {
		w := post(g, "/a", "ListKeys", `{}`)
		require.Equal(t, `{"Keys":[{"KeyId":"x","KeyArn":"arn:aws:kms:us-east-1:111122223333:key/x"},`+
			`{"KeyId":"y/1","KeyArn":"arn:aws:kms:us-east-1:111122223333:key/y/1"},{"KeyId":"y/2","KeyArn":"arn:aws:kms:us-east-1:111122223333:key/y/2"},`+
			`{"KeyId":"z","KeyArn":"arn:aws:kms:us-east-1:111122223333:key/z"}],"Truncated":false}`, w.body)
	})
	t.Run("empty", func(t *testing.T) {
		require.Equal(t, `{"Keys":[],"Truncated":false}`, post(g, "/nothing", "ListKeys", `{}`).body)
	})
	t.Run("closed", func(t *testing.T) {
		w := post(g, "/closed", "ListKeys", `{}`)
		w.requireException(t, 400, "AccessDeniedException", "User: arn:aws:iam::111122223333:user/AKIDEXAMPLE is not authorized to perform: kms:ListKeys on resource: * because no identity-based policy allows the kms:ListKeys action")
	})
}

// TestListKeysEndsAPageEarly: a tree of closed folders must not keep Vault busy
// without end.
func TestListKeysEndsAPageEarly(t *testing.T) {
	var names, closed []string
	for i := range 3 * maxLists {
		names = append(names, fmt.Sprintf("f%05d/k", i))
		closed = append(closed, fmt.Sprintf("f%05d/", i))
	}
	names = append(names, "z")
	g := newTestGateway(t, newFakeVault(t, tree(names, closed...)).URL)
	body, pages := `{}`, 0
	for ; ; pages++ {
		var answer struct {
			Keys       []struct{ KeyId string }
			NextMarker string
		}
		require.NoError(t, json.Unmarshal([]byte(post(g, "/", "ListKeys", body).body), &answer))
		if answer.NextMarker == "" {
			require.Len(t, answer.Keys, 1)
			break
		}
		require.Less(t, pages, 10)
		body = fmt.Sprintf(`{"Marker":%q}`, answer.NextMarker)
	}
	require.Greater(t, pages, 1)
}

func TestConcurrencyLimit(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	f := newFakeVault(t, func(*vaultCall) (int, string) { entered <- struct{}{}; <-release; return 204, "" })
	g := newTestGateway(t, f.URL, func(c *Config) { c.MaxConcurrency = 1 })
	done := make(chan wire)
	go func() { done <- post(g, "/", "EnableKey", `{"KeyId":"k"}`) }()
	<-entered
	post(g, "/", "EnableKey", `{"KeyId":"k"}`).requireException(t, 400, "ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
	close(release)
	require.Equal(t, 200, (<-done).status)
}

func TestClientGone(t *testing.T) {
	var log bytes.Buffer
	entered, release := make(chan struct{}), make(chan struct{})
	f := newFakeVault(t, func(*vaultCall) (int, string) { close(entered); <-release; return 204, "" })
	defer close(release)
	g := newTestGateway(t, f.URL, func(c *Config) { c.Log = testLog(&log) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(`{"KeyId":"k"}`))
	r.Header = http.Header{"X-Amz-Target": {"TrentService.EnableKey"}, "Authorization": {testAuthorization}}
	g.ServeHTTP(httptest.NewRecorder(), r)
	require.Contains(t, log.String(), `"level":"INFO"`)
	require.Contains(t, log.String(), `"result":"client gone"`)
}

// TestNoSecrets: neither the log nor the metrics nor an exception holds what
// the client sent to be MACed, or its token.
func TestNoSecrets(t *testing.T) {
	var log bytes.Buffer
	f := newFakeVault(t, func(*vaultCall) (int, string) { return errorsOnly(500, "fault") })
	registry := prometheus.NewRegistry()
	g := newTestGateway(t, f.URL, func(c *Config) { c.Log, c.Registerer = testLog(&log), registry })
	w := post(g, "/payments", "VerifyMac", `{"KeyId":"the-key","Message":"c2VjcmV0","MacAlgorithm":"HMAC_SHA_256","Mac":"bWFjbWFj"}`, "X-Amz-Security-Token", "hvs.token")
	require.Equal(t, 500, w.status)
	var line map[string]any
	require.NoError(t, json.Unmarshal(log.Bytes(), &line))
	require.Equal(t, "VerifyMac", line["operation"])
	require.Equal(t, "KMSInternalException", line["result"])
	require.Equal(t, "payments", line["folder"])
	require.Equal(t, w.requestID(), line["request_id"])
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	metricsText := answer.Body.String()
	require.Contains(t, metricsText, `kms_gateway_calls_total{operation="VerifyMac",result="KMSInternalException"} 1`)
	for _, secret := range []string{"c2VjcmV0", "secret", "bWFjbWFj", "hvs.token"} {
		require.NotContains(t, log.String()+w.body+metricsText, secret)
	}
	require.NotContains(t, metricsText, "the-key")
}

func TestDescribeByAliasWithPoliciesOnAliasAndKey(t *testing.T) {
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		switch c.path {
		case "kms/aliases/payments/a":
			return 200, `{"data":{"alias_name":"alias/payments/a","target_key_id":"payments/k"}}`
		case "kms/keys/payments/k":
			return 200, `{"data":{"key_id":"payments/k","key_spec":"HMAC_256","key_state":"Enabled","mac_algorithms":["HMAC_SHA_256"],"creation_date":"2026-11-22T10:00:00.123Z"}}`
		}
		return errorsOnly(403, "permission denied")
	})
	w := post(newTestGateway(t, f.URL), "/payments", "DescribeKey", `{"KeyId":"alias/a"}`)
	require.Equal(t, 200, w.status, w.body)
	require.Contains(t, w.body, `"KeyId":"k"`)
	require.Contains(t, w.body, `"CreationDate":1795341600.123`)
}

func TestConfigRefused(t *testing.T) {
	vault, err := NewVault("http://127.0.0.1:1", "", time.Second)
	require.NoError(t, err)
	good := Config{Vault: vault, Mount: "kms", ARNs: testARNs, MaxBody: 1, MaxConcurrency: 1}
	for name, change := range map[string]func(*Config){
		"vault":       func(c *Config) { c.Vault = nil },
		"mount":       func(c *Config) { c.Mount = "/" },
		"mount up":    func(c *Config) { c.Mount = "kms/../sys" },
		"region":      func(c *Config) { c.ARNs.Region = "here" },
		"account":     func(c *Config) { c.ARNs.Account = "1" },
		"partition":   func(c *Config) { c.ARNs.Partition = "A:" },
		"body":        func(c *Config) { c.MaxBody = 0 },
		"concurrency": func(c *Config) { c.MaxConcurrency = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			change(&c)
			_, err := New(c)
			require.Error(t, err)
		})
	}
	_, err = New(good)
	require.NoError(t, err)
}

// TestUnauthenticated: a call without a token is told so, in the words of
// Vault 1.21 too, unless it went through a Vault Proxy whose token may not.
func TestUnauthenticated(t *testing.T) {
	texts := map[string]string{
		"permission denied":                            "MissingAuthenticationTokenException",
		"missing client token":                         "MissingAuthenticationTokenException",
		"1 error occurred:\n\t* permission denied\n\n": "AccessDeniedException",
	}
	for text, kind := range texts {
		f := newFakeVault(t, func(*vaultCall) (int, string) { return errorsOnly(403, text) })
		g := newTestGateway(t, f.URL)
		for operation, body := range map[string]string{
			"EnableKey": `{"KeyId":"k"}`, "DescribeKey": `{"KeyId":"k"}`, "GenerateMac": `{"KeyId":"k","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256"}`,
		} {
			require.Contains(t, post(g, "/", operation, body, "X-Amz-Security-Token", "").body, kind, "%s: %s", operation, text)
		}
	}
}

const readyAnswer = `{"data":{"secrets_engine":"kms-hmac"}}`

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestHealth(t *testing.T) {
	status, body := 200, readyAnswer
	f := newFakeVault(t, func(*vaultCall) (int, string) { return status, body })
	g := newTestGateway(t, f.URL)
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { plain(w, 200, "metrics") })
	for name, h := range map[string]http.Handler{"kms": Handler(g, metrics), "admin": AdminHandler(g, metrics)} {
		require.Equal(t, "ok\n", get(h, "/healthz").Body.String(), name)
		require.Equal(t, "ready\n", get(h, "/readyz").Body.String(), name)
		require.Equal(t, "metrics", get(h, "/metrics").Body.String(), name)
	}
	require.Equal(t, "kms/ready", f.last(t).path)
	require.Equal(t, http.StatusMethodNotAllowed, get(Handler(g, nil), "/metrics").Code)

	const noEngine = "No HMAC secrets engine answers at kms/: the mount is another, or its engine is older than this endpoint.\n"
	for name, test := range map[string]struct {
		status int
		text   string
		want   string
	}{
		"sealed":          {503, `{"errors":["Vault is sealed"]}`, "Vault is sealed.\n"},
		"no active node":  {500, `{"errors":["local node not active but active cluster node not found"]}`, "Vault has no active node at the moment. Try again in a few seconds.\n"},
		"hung plugin":     {500, `{"errors":["context deadline exceeded"]}`, "Vault did not answer in time.\n"},
		"no such mount":   {403, `{"errors":["permission denied"]}`, noEngine},
		"another engine":  {404, `{"errors":["unsupported path"]}`, noEngine},
		"no Vault at all": {200, `<html>`, noEngine},
	} {
		status, body = test.status, test.text
		w := get(Handler(g, nil), "/readyz")
		require.Equal(t, 503, w.Code, name)
		require.Equal(t, test.want, w.Body.String(), name)
	}
	status, body = 429, `{"errors":["rate limit quota exceeded"]}`
	require.Equal(t, 200, get(Handler(g, nil), "/readyz").Code, "a quota is no reason to be out of service")

	status, body = 204, ""
	w := post(Handler(g, nil), "/healthz", "EnableKey", `{"KeyId":"k"}`)
	require.Equal(t, 200, w.status)
	require.Equal(t, "kms/enable-key/healthz/k", f.last(t).path)
}

// TestReadyzOfAHungVault: the answer comes in bounded time, whatever -timeout is.
func TestReadyzOfAHungVault(t *testing.T) {
	hung := make(chan struct{})
	f := newFakeVault(t, func(*vaultCall) (int, string) { <-hung; return 200, readyAnswer })
	defer close(hung)
	vault, err := NewVault(f.URL, "", time.Hour)
	require.NoError(t, err)
	g := newTestGateway(t, f.URL, func(c *Config) { c.Vault = vault })
	done := make(chan *httptest.ResponseRecorder)
	go func() { done <- get(Handler(g, nil), "/readyz") }()
	select {
	case w := <-done:
		require.Equal(t, 503, w.Code)
		require.Equal(t, "Vault did not answer in time.\n", w.Body.String())
	case <-time.After(time.Minute):
		t.Fatal("no answer")
	}
}

// TestDrain: before it stops, an endpoint says so and goes on serving.
func TestDrain(t *testing.T) {
	f := newFakeVault(t, func(c *vaultCall) (int, string) { return 200, readyAnswer })
	g := newTestGateway(t, f.URL)
	h := Handler(g, nil)
	require.Equal(t, 200, get(h, "/readyz").Code)
	require.Empty(t, post(h, "/", "EnableKey", `{"KeyId":"k"}`).header.Get("Connection"))
	g.Drain()
	w := get(h, "/readyz")
	require.Equal(t, 503, w.Code)
	require.Equal(t, "This endpoint is shutting down.\n", w.Body.String())
	call := post(h, "/", "EnableKey", `{"KeyId":"k"}`)
	require.Equal(t, 200, call.status)
	require.Equal(t, "close", call.header.Get("Connection"))
	require.Equal(t, 200, get(h, "/healthz").Code, "nothing is to restart it")
}

func TestCredentials(t *testing.T) {
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		switch c.token {
		case "root":
			return 200, `{"data":{"entity_id":"","expire_time":null}}`
		case "user":
			return 200, `{"data":{"entity_id":"` + uuidKey + `","expire_time":"2026-12-22T10:00:00.123456789Z"}}`
		}
		return errorsOnly(403, "permission denied")
	})
	vault, err := NewVault(f.URL, "", time.Minute)
	require.NoError(t, err)
	c, err := vault.CredentialsFor(context.Background(), "user")
	require.NoError(t, err)
	require.Equal(t, &Credentials{Version: 1, AccessKeyId: uuidKey, SecretAccessKey: "not-verified", SessionToken: "user", Expiration: "2026-12-22T10:00:00Z"}, c)
	c, err = vault.CredentialsFor(context.Background(), "root")
	require.NoError(t, err)
	require.Empty(t, c.Expiration)
	require.Equal(t, "vault-token", c.AccessKeyId)
	_, err = vault.CredentialsFor(context.Background(), "bad")
	require.ErrorContains(t, err, "looking the token up at "+f.URL+": Vault refused: the token is not valid")
	require.NotContains(t, err.Error(), "bad")
}

// TestWebPagesHaveATokenOfTheirOwn: a page that a browser takes for one of the
// endpoint's, by a name that leads there, has no part in the token that a Vault
// Proxy adds.
func TestWebPagesHaveATokenOfTheirOwn(t *testing.T) {
	f := newFakeVault(t, func(*vaultCall) (int, string) { return 200, macData })
	g := newTestGateway(t, f.URL)
	page := []string{"Origin", "http://evil.example:8203"}
	post(g, "/", "GenerateMac", macBody, append(page, "X-Amz-Security-Token", "")...).
		requireException(t, 400, typeMissingAuthenticationToken, "Calls from web pages must have a session token.")
	require.Empty(t, f.all())
	require.Equal(t, 200, post(g, "/", "GenerateMac", macBody, page...).status)
	require.Equal(t, 200, post(g, "/", "GenerateMac", macBody, "X-Amz-Security-Token", "").status)
}

// TestLongAliases: the mount counts the folder, of which a client is not to hear.
func TestLongAliases(t *testing.T) {
	f := newFakeVault(t, func(*vaultCall) (int, string) { return 200, `{"data":{}}` })
	g := newTestGateway(t, f.URL)
	create := func(characters int) wire {
		return post(g, "/payments", "CreateAlias", `{"TargetKeyId":"k","AliasName":"alias/`+strings.Repeat("a", characters-len("alias/"))+`"}`)
	}
	require.Equal(t, 200, create(247).status)
	require.Len(t, f.all(), 1)
	create(248).requireException(t, 400, "ValidationException",
		"1 validation error detected: Value 'alias/"+strings.Repeat("a", 242)+"' at 'aliasName' failed to satisfy constraint: Member must have length less than or equal to 247")
	require.Len(t, f.all(), 1)
}
