package kmshmac

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

func TestGenerateAndVerifyEverySpec(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		for _, spec := range testSpecs {
			id := string(spec.spec)
			createKey(t, m, id, fields{"key_spec": spec.spec})
			k := readStoredKey(t, m, id)
			for _, message := range []string{"m", "hello\nworld\x00", strings.Repeat("x", 4096)} {
				want := base64.StdEncoding.EncodeToString(kms.NewMacKey(spec.spec, k.Material).Append(nil, []byte(message)))
				data := fields{"message": b64(message), "mac_algorithm": spec.algorithm}
				require.Equal(t, fields{"key_id": id, "mac": want, "mac_algorithm": string(spec.algorithm)}, write(t, m, "generate-mac/"+id, data))
				data["mac"] = want
				require.Equal(t, fields{"key_id": id, "mac_valid": true, "mac_algorithm": string(spec.algorithm)}, write(t, m, "verify-mac/"+id, data))
			}
		}
	})
}

// What the CLI sends: everything is text, and files end in a newline.
func TestMacFieldsAsTheCLISendsThem(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	mac := macOf(t, m, "a", "m")
	data := fields{"message": b64("m") + "\n", "mac_algorithm": "HMAC_SHA_256", "dry_run": "false", "grant_tokens": ""}
	require.Equal(t, mac, write(t, m, "generate-mac/a", data)["mac"])
	data["mac"] = mac + "\r\n"
	write(t, m, "verify-mac/a", data)
	data["dry_run"] = "true"
	writeRefused(t, m, "verify-mac/a", data, "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
}

// Two faults at once, or one alone: the first in KMS's order answers. What is
// wrong is in the name; columns hold what differs from a good request.
func TestMacOrderOfChecks(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, id := range []string{"enabled", "disabled", "deleting", "short"} {
		createKey(t, m, id)
	}
	createKey(t, m, "b224", fields{"key_spec": "HMAC_224"})
	external(t, m, "empty")
	write(t, m, "aliases/of-disabled", fields{"target_key_id": "disabled"})
	good := map[string]string{"b224": b64("x")}
	for _, id := range []string{"enabled", "disabled", "deleting"} {
		good[id] = macOf(t, m, id, "m")
	}
	write(t, m, "disable-key/disabled", nil)
	write(t, m, "schedule-key-deletion/deleting", nil)

	const (
		model       = "1 validation error detected: "
		emptyMsg    = "Value at 'message' failed to satisfy constraint: Member must have length greater than or equal to 1"
		longMsg     = "Value at 'message' failed to satisfy constraint: Member must have length less than or equal to 4096"
		noMsg       = "Value at 'message' failed to satisfy constraint: Member must not be null"
		noAlgorithm = "Value null at 'mac_algorithm' failed to satisfy constraint: Member must not be null"
		badWord     = "Value 'hmac_sha_256' at 'mac_algorithm' failed to satisfy constraint: Member must satisfy enum value set: [HMAC_SHA_384, HMAC_SHA_256, HMAC_SHA_224, HMAC_SHA_512]"
		mismatch    = "Algorithm HMAC_SHA_512 is incompatible with key spec HMAC_256."
		badToken    = "The grant token is not valid."
		dryRun      = "The request would have succeeded, but the DryRun option is set."
	)
	tooMany := strings.Split(strings.Repeat("t,", 10)+"t", ",")
	tests := []struct {
		name, key             string
		change                fields
		wantType, wantMessage string
	}{
		{"base64, unknown field's absence", "enabled", fields{"message": "!"}, "ValidationException", "message must be standard base64"},
		{"base64 before model", "enabled", fields{"message": "!", "mac_algorithm": "X"}, "ValidationException", "message must be standard base64"},
		{"base64 without padding", "enabled", fields{"message": "bQ"}, "ValidationException", "message must be standard base64"},
		{"URL base64", "enabled", fields{"message": "_-_-"}, "ValidationException", "message must be standard base64"},
		{"empty message", "enabled", fields{"message": ""}, "ValidationException", model + emptyMsg},
		{"no message", "enabled", fields{"message": nil}, "ValidationException", model + noMsg},
		{"4097 bytes", "enabled", fields{"message": b64(strings.Repeat("x", 4097))}, "ValidationException", model + longMsg},
		{"a megabyte", "enabled", fields{"message": b64(strings.Repeat("x", 1<<20))}, "ValidationException", model + longMsg},
		{"no algorithm", "enabled", fields{"mac_algorithm": nil}, "ValidationException", model + noAlgorithm},
		{"unknown algorithm", "enabled", fields{"mac_algorithm": "hmac_sha_256"}, "ValidationException", model + badWord},
		{"two members wrong", "enabled", fields{"message": "", "mac_algorithm": nil}, "ValidationException", "2 validation errors detected: " + emptyMsg + "; " + noAlgorithm},
		{"11 grant tokens", "enabled", fields{"grant_tokens": tooMany}, "ValidationException", model + "Value at 'grant_tokens' failed to satisfy constraint: Member must have length less than or equal to 10"},
		{"model before lookup", "none", fields{"message": ""}, "ValidationException", model + emptyMsg},
		{"unknown algorithm before lookup", "none", fields{"mac_algorithm": "hmac_sha_256"}, "ValidationException", model + badWord},
		{"key not ASCII", "schlüssel", nil, "ValidationException", model + `Value 'schlüssel' at 'key_id' failed to satisfy constraint: Member must satisfy regular expression pattern: ^\p{ASCII}+$`},
		{"key too long", strings.Repeat("a", 2049), nil, "ValidationException", model + "Value '" + strings.Repeat("a", 512) + "...' at 'key_id' failed to satisfy constraint: Member must have length less than or equal to 2048"},
		{"no key at all", "", nil, "ValidationException", `2 validation errors detected: Value '' at 'key_id' failed to satisfy constraint: Member must have length greater than or equal to 1; Value '' at 'key_id' failed to satisfy constraint: Member must satisfy regular expression pattern: ^\p{ASCII}+$`},
		{"no such key", "none", nil, "NotFoundException", "Key 'none' does not exist"},
		{"impossible key", "a..b", nil, "NotFoundException", "Invalid keyId 'a..b'"},
		{"long key", strings.Repeat("a", 300), nil, "NotFoundException", "Invalid keyId '" + strings.Repeat("a", 300) + "'"},
		{"no such alias", "alias/none", nil, "NotFoundException", "Alias alias/none is not found."},
		{"reserved alias", "alias/aws/none", nil, "NotFoundException", "Alias alias/aws/none is not found."},
		{"impossible alias", "alias/a.b", nil, "NotFoundException", "Alias alias/a.b is not found."},
		{"lookup before grant token", "none", fields{"grant_tokens": "t"}, "NotFoundException", "Key 'none' does not exist"},
		{"grant token", "enabled", fields{"grant_tokens": "t"}, "InvalidGrantTokenException", badToken},
		{"grant token before state", "disabled", fields{"grant_tokens": "t"}, "InvalidGrantTokenException", badToken},
		{"disabled", "disabled", nil, "DisabledException", "disabled is disabled."},
		{"disabled, by alias", "alias/of-disabled", nil, "DisabledException", "disabled is disabled."},
		{"disabled before algorithm", "disabled", fields{"mac_algorithm": "HMAC_SHA_512"}, "DisabledException", "disabled is disabled."},
		{"pending deletion before algorithm", "deleting", fields{"mac_algorithm": "HMAC_SHA_512"}, "KMSInvalidStateException", "deleting is pending deletion."},
		{"pending import before algorithm", "empty", fields{"mac_algorithm": "HMAC_SHA_512"}, "KMSInvalidStateException", "empty is pending import."},
		{"disabled before dry run", "disabled", fields{"dry_run": true}, "DisabledException", "disabled is disabled."},
		{"algorithm", "enabled", fields{"mac_algorithm": "HMAC_SHA_512"}, "InvalidKeyUsageException", mismatch},
		{"algorithm before dry run", "enabled", fields{"mac_algorithm": "HMAC_SHA_512", "dry_run": true}, "InvalidKeyUsageException", mismatch},
		{"algorithm of a shorter key", "b224", nil, "InvalidKeyUsageException", "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_224."},
		{"dry run", "enabled", fields{"dry_run": true}, "DryRunOperationException", dryRun},
	}
	for _, operation := range []string{"generate-mac/", "verify-mac/"} {
		for _, test := range tests {
			t.Run(operation+test.name, func(t *testing.T) {
				t.Parallel()
				data := macFields("m")
				if operation == "verify-mac/" {
					data["mac"] = good["enabled"]
				}
				for name, value := range test.change {
					data[name] = value
				}
				refused(t, m, logical.UpdateOperation, operation+test.key, data, test.wantType, test.wantMessage)
			})
		}
	}
}

func TestVerifyOrderOfChecks(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	mac := macOf(t, m, "a", "m")
	raw, err := base64.StdEncoding.DecodeString(mac)
	require.NoError(t, err)
	encode := base64.StdEncoding.EncodeToString
	const model = "1 validation error detected: "
	tests := []struct {
		name                  string
		change                fields
		wantType, wantMessage string
	}{
		{"no MAC", fields{"mac": nil}, "ValidationException", model + "Value null at 'mac' failed to satisfy constraint: Member must not be null"},
		{"empty MAC", fields{"mac": ""}, "ValidationException", model + "Value at 'mac' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"6145 bytes", fields{"mac": encode(make([]byte, 6145))}, "ValidationException", model + "Value at 'mac' failed to satisfy constraint: Member must have length less than or equal to 6144"},
		{"a megabyte", fields{"mac": encode(make([]byte, 1<<20))}, "ValidationException", model + "Value at 'mac' failed to satisfy constraint: Member must have length less than or equal to 6144"},
		{"not base64", fields{"mac": "!"}, "ValidationException", "mac must be standard base64"},
		{"6144 bytes", fields{"mac": encode(make([]byte, 6144))}, "KMSInvalidMacException", ""},
		{"one byte", fields{"mac": encode(raw[:1])}, "KMSInvalidMacException", ""},
		{"a byte less", fields{"mac": encode(raw[:31])}, "KMSInvalidMacException", ""},
		{"a byte more", fields{"mac": encode(append(bytes.Clone(raw), 0))}, "KMSInvalidMacException", ""},
		{"a bit changed", fields{"mac": tampered(t, mac, 31)}, "KMSInvalidMacException", ""},
		{"another message", fields{"message": b64("n")}, "KMSInvalidMacException", ""},
		{"wrong MAC before dry run", fields{"mac": b64("x"), "dry_run": true}, "KMSInvalidMacException", ""},
		{"algorithm before MAC", fields{"mac": b64("x"), "mac_algorithm": "HMAC_SHA_224"}, "InvalidKeyUsageException", "Algorithm HMAC_SHA_224 is incompatible with key spec HMAC_256."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			data := verifyFieldsOf("m", mac)
			for name, value := range test.change {
				data[name] = value
			}
			rest := writeRefused(t, m, "verify-mac/a", data, test.wantType, test.wantMessage)
			require.Empty(t, rest)
		})
	}
}

// A warm MAC makes no storage call, and none ever writes.
func TestMacsNeedNoStorage(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "b")
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	write(t, m, "aliases/x", fields{"target_key_id": "b", "overlap": "1h"})
	cold := m.other(t)
	m.storage.Underlying().FailPut(true)
	m.storage.Underlying().FailDelete(true)
	for _, key := range []string{"a", "alias/x"} {
		write(t, cold, "verify-mac/"+key, verifyFieldsOf("m", macOf(t, cold, key, "m")))
	}
	m.storage.Underlying().FailGet(true)
	m.storage.Underlying().FailList(true)
	for _, warm := range []*mount{m, cold} {
		for _, key := range []string{"a", "alias/x"} {
			write(t, warm, "verify-mac/"+key, verifyFieldsOf("m", macOf(t, warm, key, "m")))
		}
	}
	_, err := request(t, m.other(t), logical.UpdateOperation, "generate-mac/a", macFields("m"))
	require.ErrorContains(t, err, "KMSInternalException: ")
}

// The three shapes of a batch, with an item of every kind.
func TestGenerateBatches(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	macs := map[string]string{}
	for _, message := range []string{"m", "n"} {
		macs[message] = macOf(t, m, "a", message)
	}
	failure := func(text string) fields { return fields{"type": "ValidationException", "message": text} }
	const model = "1 validation error detected: Value at 'message' failed to satisfy constraint: Member must "
	empty, long, none := failure(model+"have length greater than or equal to 1"), failure(model+"have length less than or equal to 4096"), failure(model+"not be null")
	bad := failure("message must be standard base64")
	tooLong := b64(strings.Repeat("x", 4097))

	t.Run("objects", func(t *testing.T) {
		t.Parallel()
		data := write(t, m, "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "batch_input": []any{
			fields{"message": b64("m"), "reference": "r"},
			fields{"message": ""},
			fields{"reference": 7},
			fields{"message": "!"},
			fields{"message": tooLong},
			fields{"message": b64("n"), "reference": nil},
			"text", nil,
			fields{"message": 1},
			fields{"message": b64("m"), "massage": "x"},
			fields{"message": b64("m"), "mac": "x"},
		}})
		results := data["batch_results"].([]any)
		require.Equal(t, fields{"key_id": "a", "mac_algorithm": "HMAC_SHA_256", "batch_results": results}, data)
		object := failure("an item of batch_input must be an object")
		require.Equal(t, []any{
			fields{"mac": macs["m"], "reference": "r"},
			fields{"error": empty},
			fields{"error": none, "reference": 7.0},
			fields{"error": bad},
			fields{"error": long},
			fields{"mac": macs["n"]},
			fields{"error": object}, fields{"error": object},
			fields{"error": failure("message must be of type string")},
		}, results[:9])
		for _, result := range results[9:] {
			require.Equal(t, "ValidationException", result.(fields)["error"].(fields)["type"])
		}
	})
	t.Run("list", func(t *testing.T) {
		t.Parallel()
		data := write(t, m, "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "messages": []string{b64("m"), "", "!", b64("n"), tooLong}})
		require.Equal(t, fields{
			"key_id": "a", "mac_algorithm": "HMAC_SHA_256", "macs": []any{macs["m"], "", "", macs["n"], ""},
			"errors": fields{"1": empty, "2": bad, "4": long},
		}, data)
	})
	t.Run("text", func(t *testing.T) {
		t.Parallel()
		data := write(t, m, "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "messages": b64("m") + ",," + b64("n")})
		require.Equal(t, fields{
			"key_id": "a", "mac_algorithm": "HMAC_SHA_256", "macs": macs["m"] + ",," + macs["n"], "errors": fields{"1": empty}, "batch_size": 3.0,
		}, data)
	})
	t.Run("text of one", func(t *testing.T) {
		t.Parallel()
		data := write(t, m, "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "messages": b64("m")})
		require.Equal(t, fields{"key_id": "a", "mac_algorithm": "HMAC_SHA_256", "macs": macs["m"], "batch_size": 1.0}, data)
	})
	t.Run("empty text", func(t *testing.T) {
		t.Parallel()
		data := write(t, m, "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "messages": ""})
		require.Equal(t, fields{"key_id": "a", "mac_algorithm": "HMAC_SHA_256", "macs": "", "errors": fields{"0": empty}, "batch_size": 1.0}, data)
	})
	t.Run("dry run", func(t *testing.T) {
		t.Parallel()
		data := write(t, m, "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "messages": []string{b64("m"), ""}, "dry_run": true})
		require.Equal(t, []any{"", ""}, data["macs"])
		require.Equal(t, fields{"type": "DryRunOperationException", "message": "The request would have succeeded, but the DryRun option is set."}, data["errors"].(fields)["0"])
		require.Equal(t, empty, data["errors"].(fields)["1"])
	})
}

func TestVerifyBatches(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	m1, m2 := macOf(t, m, "a", "m"), macOf(t, m, "a", "n")
	wrong := fields{"type": "KMSInvalidMacException", "message": kms.InvalidMac().Text()}
	noMac := fields{"type": "ValidationException", "message": "1 validation error detected: Value null at 'mac' failed to satisfy constraint: Member must not be null"}
	emptyMac := fields{"type": "ValidationException", "message": "1 validation error detected: Value at 'mac' failed to satisfy constraint: Member must have length greater than or equal to 1"}
	common := fields{"key_id": "a", "mac_algorithm": "HMAC_SHA_256"}

	objects := write(t, m, "verify-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "batch_input": []any{
		fields{"message": b64("m"), "mac": m1, "reference": "r"},
		fields{"message": b64("m"), "mac": m2},
		fields{"message": b64("m")},
		fields{"message": b64("n"), "mac": m2},
	}})
	require.Equal(t, []any{
		fields{"mac_valid": true, "reference": "r"}, fields{"error": wrong}, fields{"error": noMac}, fields{"mac_valid": true},
	}, objects["batch_results"])

	list := write(t, m, "verify-mac/a", fields{
		"mac_algorithm": "HMAC_SHA_256", "messages": []string{b64("m"), b64("m"), b64("n")}, "macs": []string{m1, m2, ""},
	})
	require.Equal(t, overJSON(t, fields{"key_id": common["key_id"], "mac_algorithm": common["mac_algorithm"], "macs_valid": []bool{true, false, false}, "errors": fields{"1": wrong, "2": emptyMac}}), list)

	text := write(t, m, "verify-mac/a", fields{
		"mac_algorithm": "HMAC_SHA_256", "messages": b64("m") + "," + b64("n"), "macs": m1 + "," + m1,
	})
	require.Equal(t, fields{"key_id": "a", "mac_algorithm": "HMAC_SHA_256", "macs_valid": "true,false", "errors": fields{"1": wrong}, "batch_size": 2.0}, text)
}

// Through an alias with an overlap every item says which key matched.
func TestVerifyBatchesWithOverlap(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "b")
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	old := macOf(t, m, "alias/x", "m")
	write(t, m, "aliases/x", fields{"target_key_id": "b", "overlap": "1h"})
	now := macOf(t, m, "alias/x", "m")

	message := b64("m")
	text := write(t, m, "verify-mac/alias/x", fields{
		"mac_algorithm": "HMAC_SHA_256", "messages": message + "," + message + "," + message, "macs": old + "," + now + "," + b64("x"),
	})
	require.Equal(t, "true,true,false", text["macs_valid"])
	require.Equal(t, "a,b,", text["key_ids"])
	list := write(t, m, "verify-mac/alias/x", fields{
		"mac_algorithm": "HMAC_SHA_256", "messages": []string{message, message}, "macs": []string{old, now},
	})
	require.Equal(t, []any{"a", "b"}, list["key_ids"])
	objects := write(t, m, "verify-mac/alias/x", fields{"mac_algorithm": "HMAC_SHA_256", "batch_input": []any{
		fields{"message": message, "mac": old}, fields{"message": message, "mac": now},
	}})
	require.Equal(t, []any{fields{"mac_valid": true, "key_id": "a"}, fields{"mac_valid": true, "key_id": "b"}}, objects["batch_results"])
	generated := write(t, m, "generate-mac/alias/x", fields{"mac_algorithm": "HMAC_SHA_256", "messages": message})
	require.Equal(t, fields{"key_id": "b", "mac_algorithm": "HMAC_SHA_256", "macs": now, "batch_size": 1.0}, generated)
}

// What concerns the whole request fails the whole request.
func TestBatchRefusals(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	const oneOf = "give one of message, batch_input and messages"
	many := make([]string, 10001)
	tests := []struct {
		name, operation       string
		data                  fields
		wantType, wantMessage string
	}{
		{"message and batch_input", "generate-mac/a", fields{"message": "bQ==", "batch_input": []any{fields{}}}, "ValidationException", oneOf},
		{"message and messages", "generate-mac/a", fields{"message": "bQ==", "messages": "bQ=="}, "ValidationException", oneOf},
		{"batch_input and messages", "generate-mac/a", fields{"batch_input": []any{fields{}}, "messages": "bQ=="}, "ValidationException", oneOf},
		{"mac and batch_input", "verify-mac/a", fields{"mac": "bQ==", "batch_input": []any{fields{}}}, "ValidationException", oneOf},
		{"mac and messages", "verify-mac/a", fields{"mac": "bQ==", "messages": "bQ==", "macs": "bQ=="}, "ValidationException", oneOf},
		{"messages without macs", "verify-mac/a", fields{"messages": "bQ=="}, "ValidationException", "verify-mac takes messages and macs together"},
		{"macs without messages", "verify-mac/a", fields{"macs": "bQ=="}, "ValidationException", "verify-mac takes messages and macs together"},
		{"message and macs", "verify-mac/a", fields{"message": "bQ==", "macs": "bQ=="}, "ValidationException", oneOf},
		{"other number of macs", "verify-mac/a", fields{"messages": "bQ==,bQ==", "macs": "bQ=="}, "ValidationException", "there are 2 messages and 1 macs"},
		{"no items", "generate-mac/a", fields{"messages": []any{}}, "ValidationException", "a batch has 1 to 10000 items, this one has 0"},
		{"no objects", "generate-mac/a", fields{"batch_input": []any{}}, "ValidationException", "a batch has 1 to 10000 items, this one has 0"},
		{"no items to verify", "verify-mac/a", fields{"messages": []any{}, "macs": []any{}}, "ValidationException", "a batch has 1 to 10000 items, this one has 0"},
		{"too many items", "generate-mac/a", fields{"messages": many}, "ValidationException", "a batch has 1 to 10000 items, this one has 10001"},
		{"too many in a text", "generate-mac/a", fields{"messages": strings.Repeat(",", 10000)}, "ValidationException", "a batch has 1 to 10000 items, this one has 10001"},
		{"no algorithm", "generate-mac/a", fields{"messages": "bQ==", "mac_algorithm": nil}, "ValidationException", "1 validation error detected: Value null at 'mac_algorithm' failed to satisfy constraint: Member must not be null"},
		{"wrong algorithm", "generate-mac/a", fields{"messages": "bQ==", "mac_algorithm": "HMAC_SHA_512"}, "InvalidKeyUsageException", "Algorithm HMAC_SHA_512 is incompatible with key spec HMAC_256."},
		{"no such key", "generate-mac/b", fields{"batch_input": []any{fields{"message": "!"}}}, "NotFoundException", "Key 'b' does not exist"},
		{"not objects", "generate-mac/a", fields{"batch_input": "x"}, "ValidationException", "batch_input must be a list of objects"},
		{"not texts", "generate-mac/a", fields{"messages": []any{1}}, "ValidationException", "messages must hold strings only"},
		{"neither list nor text", "generate-mac/a", fields{"messages": fields{}}, "ValidationException", "messages must be a list of strings or one comma-separated string"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			data := fields{"mac_algorithm": "HMAC_SHA_256"}
			for name, value := range test.data {
				data[name] = value
			}
			refused(t, m, logical.UpdateOperation, test.operation, data, test.wantType, test.wantMessage)
		})
	}
}

func TestLargestBatch(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	mac := macOf(t, m, "a", "m")
	data := write(t, m, "generate-mac/a", fields{"mac_algorithm": "HMAC_SHA_256", "messages": strings.TrimSuffix(strings.Repeat(b64("m")+",", 10000), ",")})
	require.Equal(t, strings.TrimSuffix(strings.Repeat(mac+",", 10000), ","), data["macs"])
}

// Arbitrary JSON to the MAC paths gets an answer or an exception of the few
// that can come from it, and never an internal error.
func FuzzMacRequest(f *testing.F) {
	m := newMount(f)
	createKey(f, m, "a")
	createKey(f, m, "b")
	write(f, m, "aliases/x", fields{"target_key_id": "a"})
	write(f, m, "aliases/x", fields{"target_key_id": "b", "overlap": "1h"})
	for _, seed := range []string{
		`{"message":"bQ==","mac_algorithm":"HMAC_SHA_256"}`,
		`{"messages":"bQ==,","macs":",","mac_algorithm":"HMAC_SHA_256","dry_run":1}`,
		`{"messages":["bQ==",null],"mac_algorithm":"HMAC_SHA_256"}`,
		`{"batch_input":[{"message":"bQ==","mac":"bQ==","reference":[{}]},[],null],"mac_algorithm":"HMAC_SHA_256"}`,
		`{"message":{"a":[1]},"mac":[],"mac_algorithm":3,"grant_tokens":{"a":1}}`,
		`{"grant_tokens":["e30"],"message":"bQ==","mac_algorithm":"HMAC_SHA_256"}`,
		`{"dry_run":{}}`, `{"":""}`, `null`,
	} {
		f.Add("generate-mac/a", seed)
		f.Add("verify-mac/alias/x", seed)
	}
	allowed := []string{
		"", "ValidationException", "NotFoundException", "InvalidGrantTokenException", "InvalidKeyUsageException",
		"KMSInvalidMacException", "DryRunOperationException",
	}
	f.Fuzz(func(t *testing.T, path, raw string) {
		if !strings.HasPrefix(path, generateMacPath) && !strings.HasPrefix(path, verifyMacPath) {
			path = generateMacPath + path
		}
		data, ok := jsonObject(raw)
		if !ok {
			return
		}
		resp, err := request(t, m, logical.UpdateOperation, path, data)
		if errors.Is(err, logical.ErrUnsupportedPath) {
			return
		}
		require.NoError(t, err)
		require.NotNil(t, resp)
		require.Contains(t, allowed, exceptionType(t, resp, err), fmt.Sprint(resp.Data))
	})
}

// A PATCH is a POST that Vault passes on in one round trip.
func TestPatchIsAnsweredAsUpdate(t *testing.T) {
	t.Parallel()
	m := usedMount(t)
	write(t, m, "create-grant/p/a", fields{"grantee_principal": "somebody", "operations": "GenerateMac"})
	mac := macOf(t, m, "a", "m")
	batch := fields{"mac_algorithm": "HMAC_SHA_256", "messages": []any{b64("m"), "!"}}
	tests := []struct {
		path string
		data fields
	}{
		{"generate-mac/a", macFields("m")},
		{"generate-mac/alias/x", macFields("m")},
		{"generate-mac/a", batch},
		{"generate-mac/none", macFields("m")},
		{"generate-mac/a", fields{"unknown": 1}},
		{"verify-mac/a", verifyFieldsOf("m", mac)},
		{"verify-mac/a", verifyFieldsOf("m", b64("wrong"))},
		{"granted/generate-mac/a", macFields("m")},
		{"granted/generate-mac/p/a", batch},
		{"granted/verify-mac/alias/x", verifyFieldsOf("m", mac)},
		{"granted/verify-mac/p/a", verifyFieldsOf("m", mac)}, // not granted
		{"granted/generate-mac/none", macFields("m")},
	}
	for _, test := range tests {
		update, updateErr := request(t, m, logical.UpdateOperation, test.path, test.data)
		patch, patchErr := request(t, m, logical.PatchOperation, test.path, test.data)
		require.Equal(t, update, patch, test.path)
		require.Equal(t, updateErr, patchErr, test.path)
	}
	for _, path := range []string{"keys/a", "aliases/x", "config", "tag-resource/a", "granted/describe-key/a", "granted/create-grant/a", "encrypt/a"} {
		_, err := request(t, m, logical.PatchOperation, path, nil)
		require.ErrorIs(t, err, logical.ErrUnsupportedOperation, path)
	}
}
