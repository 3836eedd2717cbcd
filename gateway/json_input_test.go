package gateway

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

func TestDecodeInput(t *testing.T) {
	tests := map[string]struct {
		operation, body string
		want            map[string]any
	}{
		"nothing":            {"ListKeys", ``, map[string]any{}},
		"white space":        {"ListKeys", " \n", map[string]any{}},
		"empty":              {"ListKeys", `{}`, map[string]any{}},
		"null is absent":     {"ListKeys", `{"Limit": null}`, map[string]any{}},
		"unknown is ignored": {"ListKeys", `{"limit": "x", "X": [{"a": [1, true, null, "s"]}]}`, map[string]any{}},
		"integer":            {"ListKeys", `{"Limit": 7}`, map[string]any{"Limit": int64(7)}},
		"whole float":        {"ListKeys", `{"Limit": 1.0e1}`, map[string]any{"Limit": int64(10)}},
		"names have case":    {"ListKeys", `{"limit": 7, "Limit": 8, "LIMIT": 9}`, map[string]any{"Limit": int64(8)}},
		"escaped name":       {"ListKeys", `{"\u004cimit": 7}`, map[string]any{"Limit": int64(7)}},
		"unknown twice":      {"ListKeys", `{"x": 7, "x": 8}`, map[string]any{}},
		"string":             {"EnableKey", `{"KeyId": "a\u00e9\ud83d\ude00\n\ud800x"}`, map[string]any{"KeyId": "aé😀\n�x"}},
		"blob":               {"GenerateMac", `{"Message": "aGk="}`, map[string]any{"Message": []byte("hi")}},
		"empty blob":         {"GenerateMac", `{"Message": ""}`, map[string]any{"Message": []byte{}}},
		"booleans":           {"CreateKey", `{"MultiRegion": true, "BypassPolicyLockoutSafetyCheck": false}`, map[string]any{"MultiRegion": true, "BypassPolicyLockoutSafetyCheck": false}},
		"list":               {"GenerateMac", `{"GrantTokens": ["a", null, "b"]}`, map[string]any{"GrantTokens": []any{"a", "b"}}},
		"structures": {"TagResource", `{"Tags": [{"TagKey": "k", "TagValue": "v", "x": 1}]}`, map[string]any{
			"Tags": []any{map[string]any{"TagKey": "k", "TagValue": "v"}},
		}},
		"map": {"CreateGrant", `{"Constraints": {"EncryptionContextEquals": {"a": "b"}}}`, map[string]any{
			"Constraints": map[string]any{"EncryptionContextEquals": map[string]any{"a": "b"}},
		}},
		"time":            {"ImportKeyMaterial", `{"ValidTo": 1795348800}`, map[string]any{"ValidTo": time.Unix(1795348800, 0).UTC()}},
		"fractional time": {"ImportKeyMaterial", `{"ValidTo": 1.7953488005E9}`, map[string]any{"ValidTo": time.Unix(1795348800, 500e6).UTC()}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			members, ok := kms.Input(test.operation)
			require.True(t, ok)
			got, err := decodeInput(members, []byte(test.body))
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestDecodeInputRefuses(t *testing.T) {
	tests := map[string]struct{ operation, body string }{
		"no JSON":                {"ListKeys", `nonsense`},
		"unfinished":             {"ListKeys", `{"Limit": 1`},
		"behind the value":       {"ListKeys", `{} {}`},
		"trailing comma":         {"ListKeys", `{"Limit": 1,}`},
		"array":                  {"ListKeys", `[]`},
		"string":                 {"ListKeys", `"x"`},
		"null":                   {"ListKeys", `null`},
		"leading zero":           {"ListKeys", `{"Limit": 01}`},
		"integer as string":      {"ListKeys", `{"Limit": "1"}`},
		"fraction":               {"ListKeys", `{"Limit": 1.5}`},
		"too large":              {"ListKeys", `{"Limit": 3000000000}`},
		"string as number":       {"EnableKey", `{"KeyId": 1}`},
		"string as object":       {"EnableKey", `{"KeyId": {}}`},
		"boolean as string":      {"GenerateMac", `{"DryRun": "true"}`},
		"boolean as number":      {"GenerateMac", `{"DryRun": 1}`},
		"list as string":         {"GenerateMac", `{"GrantTokens": "a"}`},
		"element as number":      {"GenerateMac", `{"GrantTokens": [1]}`},
		"structure as list":      {"TagResource", `{"Tags": [["k", "v"]]}`},
		"time as string":         {"ImportKeyMaterial", `{"ValidTo": "2026-11-22T00:00:00Z"}`},
		"time of no calendar":    {"ImportKeyMaterial", `{"ValidTo": 1e300}`},
		"base64 without padding": {"GenerateMac", `{"Message": "aGk"}`},
		"URL base64":             {"GenerateMac", `{"Message": "_-8="}`},
		"no base64":              {"GenerateMac", `{"Message": "%"}`},
		"invalid UTF-8":          {"EnableKey", "{\"KeyId\": \"\xff\"}"},
		"control character":      {"EnableKey", "{\"KeyId\": \"a\nb\"}"},
		"unknown escape":         {"EnableKey", `{"KeyId": "\x41"}`},
		"half an escape":         {"EnableKey", `{"KeyId": "\u00`},
		"deep":                   {"ListKeys", `{"x": ` + repeat("[", 10000) + repeat("]", 10000) + `}`},
		"malformed unknown":      {"ListKeys", `{"x": tru}`},
		"twice":                  {"ListKeys", `{"Limit": 7, "Limit": 7}`},
		"twice, one escaped":     {"ListKeys", `{"Limit": 7, "\u004cimit": 7}`},
		"twice, one null":        {"ListKeys", `{"Limit": 7, "Limit": null}`},
		"twice, other null":      {"ListKeys", `{"Limit": null, "Limit": 7}`},
		"twice in a structure":   {"TagResource", `{"Tags": [{"TagKey": "k", "TagKey": "k"}]}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			members, _ := kms.Input(test.operation)
			_, err := decodeInput(members, []byte(test.body))
			var exception *kms.Exception
			require.True(t, errors.As(err, &exception), "%v", err)
			require.Equal(t, "SerializationException", exception.Type)
		})
	}
}

func repeat(text string, n int) string {
	out := make([]byte, 0, n*len(text))
	for range n {
		out = append(out, text...)
	}
	return string(out)
}

// FuzzDecodeInput holds the decoder against encoding/json: what the decoder
// takes is JSON, and what is no JSON it does not take.
func FuzzDecodeInput(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"KeyId":"a","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256","DryRun":true,"GrantTokens":["x"]}`,
		`{"Tags":[{"TagKey":"a","TagValue":"b"}],"MultiRegion":null}`, `{"ValidTo":1.5e9,"x":[1,-2.5e-3,{"y":"\ud83d\ude00"}]}`,
		`{"Constraints":{"EncryptionContextSubset":{"a":"b"}}}`, `[`,
		`{"KeyId":"a","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256","Mac":"aGk=","x":1,"x":2}`,
		`{"KeyId":"a","Message":"aGk=","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256","Mac":"aGk="}`,
		`{"KeyId":"","KeyId":"a","Message":"aGk=","MacAlgorithm":"HMAC_SHA_1","MacAlgorithm":"HMAC_SHA_256","Mac":"aGk="}`,
		`{"KeyId":"a","Message":"","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256","Mac":"aGk="}`, "{\"\xff\":1}",
	} {
		f.Add(seed)
	}
	operations := []string{"GenerateMac", "CreateKey", "ImportKeyMaterial", "CreateGrant", "ListKeys"}
	f.Fuzz(func(t *testing.T, body string) {
		for _, operation := range operations {
			members, _ := kms.Input(operation)
			input, err := decodeInput(members, []byte(body))
			if err == nil {
				if len(input) > 0 && !json.Valid([]byte(body)) {
					t.Fatalf("took what is no JSON: %q", body)
				}
				_ = kms.Validate(operation, input) // must not panic
			}
		}
		if m, ok := scanMac([]byte(body), true); ok {
			input, err := decodeInput(operationTable["VerifyMac"].members, []byte(body))
			if err != nil || kms.Validate("VerifyMac", input) != nil {
				t.Fatalf("the short way took what the long way does not: %q", body)
			}
			message, _ := base64.StdEncoding.DecodeString(string(m.message))
			mac, _ := base64.StdEncoding.DecodeString(string(m.mac))
			if input["KeyId"] != m.keyID || input["MacAlgorithm"] != m.algorithm ||
				!reflect.DeepEqual(input["Message"], message) || !reflect.DeepEqual(input["Mac"], mac) {
				t.Fatalf("the two ways read different things: %q", body)
			}
		}
	})
}

func TestScanMacLeavesOptionsToTheLongWay(t *testing.T) {
	plain := `"KeyId":"k","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256"`
	_, ok := scanMac([]byte(`{`+plain+`}`), false)
	require.True(t, ok)
	for _, body := range []string{
		`{` + plain + `,"DryRun":false}`,
		`{` + plain + `,"GrantTokens":[]}`,
		`{` + plain + `}x`,
		`{"KeyId":"","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256"}`,
		`{"KeyId":"k","Message":"","MacAlgorithm":"HMAC_SHA_256"}`,
		`{"KeyId":"k","Message":"aGk","MacAlgorithm":"HMAC_SHA_256"}`,
		`{"KeyId":"k","Message":"aG\nk=","MacAlgorithm":"HMAC_SHA_256"}`,
		`{"KeyId":"é","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256"}`,
		`{"KeyId":"k","Message":"aGk=","MacAlgorithm":"HMAC_SHA_1"}`,
		`{"KeyId":"k","MacAlgorithm":"HMAC_SHA_256"}`,
		`{"KeyId":null,"Message":"aGk=","MacAlgorithm":"HMAC_SHA_256"}`,
	} {
		_, ok := scanMac([]byte(body), false)
		require.False(t, ok, body)
	}
	_, ok = scanMac([]byte(`{`+plain+`}`), true)
	require.False(t, ok, "VerifyMac without a MAC")
}

// BenchmarkMacInput measures what the fast path of inputs is worth.
func BenchmarkMacInput(b *testing.B) {
	body := []byte(`{"KeyId":"1234abcd-12ab-34cd-56ef-1234567890ab","Message":"` +
		base64.StdEncoding.EncodeToString(make([]byte, 64)) + `","MacAlgorithm":"HMAC_SHA_256"}`)
	b.Run("scanMac", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := scanMac(body, false); !ok {
				b.Fatal("refused")
			}
		}
	})
	b.Run("decodeInput", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			input, err := decodeInput(operationTable["GenerateMac"].members, body)
			if err != nil || kms.Validate("GenerateMac", input) != nil {
				b.Fatal("refused")
			}
		}
	})
}

func TestIsBlobIsBase64(t *testing.T) {
	for _, text := range []string{"", "=", "==", "===", "====", "A===", "AA==", "AAA=", "AAAA", "AA=A", "A=AA", "AAAAA", "AAAA====", "AAAAAA==", "AA-=", "AA\n=", "AAA\n", "/+==", "AAAAAAA=", "AAAAAAAA"} {
		blob, err := base64.StdEncoding.DecodeString(text)
		want := err == nil && len(blob) >= 1 && len(blob) <= 5 && len(text) == base64.StdEncoding.EncodedLen(len(blob))
		require.Equal(t, want, isBlob([]byte(text), 5), "%q", text)
	}
}

func TestNames(t *testing.T) {
	require.Equal(t, "pending_window_in_days", kms.FieldName("PendingWindowInDays"))
	require.Equal(t, "generate-data-key-pair-without-plaintext", kms.PathName("GenerateDataKeyPairWithoutPlaintext"))
}

func TestEveryOperationIsInTheTable(t *testing.T) {
	for _, name := range kms.Operations() {
		require.Contains(t, operationTable, name)
	}
	require.Len(t, operationTable, len(kms.Operations()))
}
