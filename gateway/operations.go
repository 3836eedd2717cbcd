package gateway

// The table of KMS's operations, and how those are run that are one request.

import (
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"vault-plugin-secrets-kms-hmac/kms"
)

// input is the input of an operation, as decodeInput returns it.
type input map[string]any

// text returns a string member, "" if it is absent.
func (in input) text(name string) string {
	text, _ := in[name].(string)
	return text
}

func (in input) flag(name string) bool {
	flag, _ := in[name].(bool)
	return flag
}

// number returns an integer member, or otherwise if it is absent.
func (in input) number(name string, otherwise int) int {
	if n, ok := in[name].(int64); ok {
		return int(n)
	}
	return otherwise
}

// answer is what an operation answers; nil is no body at all.
type answer = object

// operation says how an operation of KMS is made of requests to the mount.
type operation struct {
	members []kms.Member
	// key is the member that names the key, "" if there is none; aliases says
	// whether it may be an alias.
	key     string
	aliases bool
	// check holds the input against the rules that are in no model.
	check func(c *call, in input) error
	// run does it. Where it is nil, the operation is one request: method (POST
	// if empty) on path, with the key behind it, the members named in sends as
	// fields, and the fields named in answers as the answer's members.
	run     func(c *call, in input) (answer, error)
	method  string
	path    string
	sends   []string
	answers []output
	// safe: it changes nothing, so a request for it may be made twice.
	safe bool
	// grants: a grant can allow the operation instead of a policy.
	grants bool
}

// output is a member of an answer: its name, and how its value comes from the
// native field, whose name is the member's in snake_case.
type output struct {
	name    string
	convert func(c *call, value any) any
}

// The conversions of outputs.
var (
	keyARN    = func(c *call, value any) any { return c.arns().key(c.folder.local(stringOf(value))) }
	asIs      = func(_ *call, value any) any { return value }
	inMillis  = func(_ *call, value any) any { return milliseconds(timeOf(value)) }
	asInteger = func(_ *call, value any) any {
		n, _ := value.(float64)
		return int(n)
	}
)

func stringOf(value any) string {
	text, _ := value.(string)
	return text
}

// timeOf reads a time of the native API; the zero time stands for none.
func timeOf(value any) time.Time {
	t, err := time.Parse(time.RFC3339Nano, stringOf(value))
	if err != nil {
		return time.Time{}
	}
	return t
}

var onlyKeyARN = []output{{"KeyId", keyARN}}

// operationTable says of each of KMS's operations how it is done. GenerateMac
// and VerifyMac are here as they are done alone; see generate_verify_mac.go.
var operationTable = map[string]*operation{
	"CreateKey":            {check: checkCreateKey, run: createKey},
	"DescribeKey":          {safe: true, key: "KeyId", aliases: true, run: describeKey},
	"ListKeys":             {safe: true, run: listKeys},
	"UpdateKeyDescription": {key: "KeyId", path: "keys", sends: []string{"Description"}},
	"EnableKey":            {key: "KeyId"},
	"DisableKey":           {key: "KeyId"},
	"ScheduleKeyDeletion": {key: "KeyId", sends: []string{"PendingWindowInDays"}, check: checkPendingWindow, answers: []output{
		{"KeyId", keyARN}, {"DeletionDate", inMillis}, {"KeyState", asIs}, {"PendingWindowInDays", asInteger},
	}},
	"CancelKeyDeletion": {key: "KeyId", answers: onlyKeyARN},
	"GetKeyLastUsage":   {safe: true, key: "KeyId", run: getKeyLastUsage},

	"CreateAlias": {check: checkAlias, run: createAlias},
	"UpdateAlias": {check: checkAlias, run: updateAlias},
	"DeleteAlias": {check: checkAlias, run: deleteAlias},
	"ListAliases": {safe: true, run: listAliases},

	"TagResource":      {key: "KeyId", check: checkTags, sends: []string{"Tags"}},
	"UntagResource":    {key: "KeyId", sends: []string{"TagKeys"}},
	"ListResourceTags": {safe: true, key: "KeyId", run: listResourceTags},

	"GetKeyPolicy":    {safe: true, key: "KeyId", run: getKeyPolicy},
	"PutKeyPolicy":    {key: "KeyId", run: putKeyPolicy},
	"ListKeyPolicies": {safe: true, key: "KeyId", run: listKeyPolicies},

	"GetParametersForImport": {key: "KeyId", sends: []string{"WrappingAlgorithm", "WrappingKeySpec"}, answers: []output{
		{"KeyId", keyARN}, {"ImportToken", asIs}, {"PublicKey", asIs}, {"ParametersValidTo", inMillis},
	}},
	"ImportKeyMaterial": {key: "KeyId", sends: []string{
		"ImportToken", "EncryptedKeyMaterial", "ValidTo", "ExpirationModel",
		"ImportType", "KeyMaterialId", "KeyMaterialDescription", // which the mount refuses for HMAC keys
	}, answers: onlyKeyARN},
	"DeleteImportedKeyMaterial": {key: "KeyId", sends: []string{"KeyMaterialId"}, answers: onlyKeyARN},

	"CreateGrant": {
		key: "KeyId", grants: true, check: checkCreateGrant, run: createGrant,
		sends:   []string{"GranteePrincipal", "RetiringPrincipal", "Operations", "GrantTokens", "Name", "DryRun"},
		answers: []output{{"GrantToken", asIs}, {"GrantId", asIs}},
	},
	"ListGrants":          {safe: true, key: "KeyId", check: checkListGrants, run: listGrants},
	"ListRetirableGrants": {safe: true, run: listRetirableGrants},
	"RevokeGrant":         {key: "KeyId", sends: []string{"GrantId", "DryRun"}},
	"RetireGrant":         {run: retireGrant},

	"GenerateMac": {safe: true, key: "KeyId", aliases: true, run: generateMac},
	"VerifyMac":   {safe: true, key: "KeyId", aliases: true, run: verifyMac},

	"GenerateRandom": {safe: true, check: checkGenerateRandom, run: generateRandom},

	"GetKeyRotationStatus": {safe: true, key: "KeyId", answers: []output{{"KeyRotationEnabled", asIs}, {"KeyId", keyARN}}},
	"EnableKeyRotation":    {key: "KeyId"},
	"DisableKeyRotation":   {key: "KeyId"},
	"RotateKeyOnDemand":    {key: "KeyId", answers: onlyKeyARN},
	"ListKeyRotations":     {safe: true, key: "KeyId", run: listKeyRotations},
	"ReplicateKey":         {key: "KeyId"},
	"UpdatePrimaryRegion":  {key: "KeyId"},

	// What KMS refuses to do with an HMAC key, the mount refuses.
	"Encrypt":                             {key: "KeyId", aliases: true},
	"Decrypt":                             {run: decrypt},
	"ReEncrypt":                           {key: "DestinationKeyId", aliases: true},
	"Sign":                                {key: "KeyId", aliases: true},
	"Verify":                              {key: "KeyId", aliases: true},
	"GenerateDataKey":                     {key: "KeyId", aliases: true, check: checkDataKeyLength},
	"GenerateDataKeyWithoutPlaintext":     {key: "KeyId", aliases: true, check: checkDataKeyLength},
	"GenerateDataKeyPair":                 {key: "KeyId", aliases: true},
	"GenerateDataKeyPairWithoutPlaintext": {key: "KeyId", aliases: true},
	"DeriveSharedSecret":                  {key: "KeyId", aliases: true},
	"Encapsulate":                         {key: "KeyId", aliases: true},
	"Decapsulate":                         {key: "KeyId", aliases: true},
	"GetPublicKey":                        {safe: true, key: "KeyId", aliases: true},

	// HMAC keys cannot be in a custom key store.
	"ConnectCustomKeyStore":    {run: noCustomKeyStores},
	"CreateCustomKeyStore":     {run: noCustomKeyStores},
	"DeleteCustomKeyStore":     {run: noCustomKeyStores},
	"DescribeCustomKeyStores":  {run: noCustomKeyStores},
	"DisconnectCustomKeyStore": {run: noCustomKeyStores},
	"UpdateCustomKeyStore":     {run: noCustomKeyStores},
}

func init() {
	for name, op := range operationTable {
		op.members, _ = kms.Input(name)
		if op.method == "" {
			op.method = http.MethodPost
		}
		if op.path == "" {
			op.path = kms.PathName(name)
		}
	}
}

// invoke runs an operation: model, rules, key, request.
func (c *call) invoke(op *operation, in input) (answer, error) {
	c.safe = op.safe || in.flag("DryRun")
	if err := kms.Validate(c.operation, in); err != nil {
		return nil, err
	}
	if op.check != nil {
		if err := op.check(c, in); err != nil {
			return nil, err
		}
	}
	if op.key != "" {
		if err := c.resolve(in.text(op.key), op.aliases); err != nil {
			return nil, err
		}
	}
	if op.run != nil {
		return op.run(c, in)
	}
	return c.simple(op, in)
}

// simple is an operation that is one request.
func (c *call) simple(op *operation, in input) (answer, error) {
	post := c.post
	if op.grants {
		post = c.postGranted
	}
	var fields map[string]any
	if err := post(op.path+"/"+c.key.native, c.fields(op.sends, in), &fields); err != nil {
		return nil, err
	}
	return c.answer(op.answers, fields), nil
}

// fields returns the named members as native fields.
func (c *call) fields(members []string, in input) map[string]any {
	fields := make(map[string]any, len(members))
	for _, name := range members {
		if value, ok := in[name]; ok {
			fields[kms.FieldName(name)] = c.nativeValue(name, value)
		}
	}
	return fields
}

// nativeValue turns a member's value into the native field's.
func (c *call) nativeValue(name string, value any) any {
	switch value := value.(type) {
	case []byte:
		return base64.StdEncoding.EncodeToString(value)
	case time.Time:
		return value.Format(time.RFC3339Nano)
	case string:
		if strings.HasSuffix(name, "Principal") {
			return c.arns().nativePrincipal(value)
		}
	case []any:
		if name == "Tags" {
			return kms.TagMap(kms.TagsFrom(value))
		}
	}
	return value
}

// answer builds an answer of native fields; absent ones stay absent.
func (c *call) answer(outputs []output, fields map[string]any) answer {
	if outputs == nil {
		return nil
	}
	out := make(answer, 0, len(outputs))
	for _, o := range outputs {
		if value, ok := fields[kms.FieldName(o.name)]; ok && value != nil {
			out = append(out, field{o.name, o.convert(c, value)})
		}
	}
	return out
}
