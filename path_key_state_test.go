package kmshmac

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// Columns of TestOperationsInEveryKeyState: a key in each state, of each
// origin that can be in it.
var keysByState = []struct {
	id      string
	prepare func(t *testing.T, m *mount, id string)
}{
	{"enabled", func(t *testing.T, m *mount, id string) { createKey(t, m, id) }},
	{"disabled", func(t *testing.T, m *mount, id string) {
		createKey(t, m, id)
		write(t, m, "disable-key/"+id, nil)
	}},
	{"deleting", func(t *testing.T, m *mount, id string) {
		createKey(t, m, id)
		write(t, m, "schedule-key-deletion/"+id, nil)
	}},
	{"x-enabled", func(t *testing.T, m *mount, id string) {
		external(t, m, id)
		importMaterial(t, m, id, material32)
	}},
	{"x-disabled", func(t *testing.T, m *mount, id string) {
		external(t, m, id)
		importMaterial(t, m, id, material32)
		write(t, m, "disable-key/"+id, nil)
	}},
	{"x-deleting", func(t *testing.T, m *mount, id string) {
		external(t, m, id)
		importMaterial(t, m, id, material32)
		write(t, m, "schedule-key-deletion/"+id, nil)
	}},
	{"x-empty", func(t *testing.T, m *mount, id string) { external(t, m, id) }},
	{"x-empty-deleting", func(t *testing.T, m *mount, id string) {
		external(t, m, id)
		write(t, m, "schedule-key-deletion/"+id, nil)
	}},
}

// answers are the short words of the table below. %s is the key id; the part
// after "|" is the exception's message.
var answers = map[string]string{
	"ok":  "",
	"D":   "DisabledException|%s is disabled.",
	"PD":  "KMSInvalidStateException|%s is pending deletion.",
	"PI":  "KMSInvalidStateException|%s is pending import.",
	"NPD": "KMSInvalidStateException|%s is not pending deletion",
	"UO":  "UnsupportedOperationException|",
	"UOK": "UnsupportedOperationException|%s origin is AWS_KMS which is not valid for this operation.",
	"UOE": "UnsupportedOperationException|%s origin is EXTERNAL which is not valid for this operation.",
}

// Operation by key state, cell by cell: the table of
// https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html where
// KMS does as its guide says, and what KMS was seen to do where it does not. A
// cell is the answer, and after ">" the state that the key is in then, where it
// is another one.
func TestOperationsInEveryKeyState(t *testing.T) {
	t.Parallel()
	tag, untag := fields{"tags": fields{"k": "v"}}, fields{"tag_keys": "k"}
	grant := fields{"grantee_principal": "somebody", "operations": "GenerateMac"}
	wrapping := fields{"wrapping_algorithm": "RSAES_OAEP_SHA_256", "wrapping_key_spec": "RSA_2048"}
	window := fields{"pending_window_in_days": 7}
	alias := func(mustExist any) fields { return fields{"must_exist": mustExist, "target_key_id": "<id>"} }
	const usage = "InvalidKeyUsageException|%s key usage is GENERATE_VERIFY_MAC which is not valid for "

	tests := []struct {
		operation string
		op        logical.Operation
		path      string
		data      fields
		//       AWS_KMS                     EXTERNAL
		enabled, disabled, deleting, xEnabled, xDisabled, xDeleting, xEmpty, xEmptyDeleting string
	}{
		{"GenerateMac", "update", "generate-mac/<id>", macFields("m"), "ok", "D", "PD", "ok", "D", "PD", "PI", "PD"},
		{"VerifyMac", "update", "verify-mac/<id>", fields{"message": b64("m"), "mac": "<mac>", "mac_algorithm": "HMAC_SHA_256"}, "ok", "D", "PD", "ok", "D", "PD", "PI", "PD"},
		{"GenerateMac by alias", "update", "generate-mac/alias/<id>", macFields("m"), "ok", "D", "PD", "ok", "D", "PD", "PI", "PD"},
		{"DescribeKey", "read", "keys/<id>", nil, "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"},
		{"EnableKey", "update", "enable-key/<id>", nil, "ok", "ok>Enabled", "PD", "ok", "ok>Enabled", "PD", "PI", "PD"},
		{"DisableKey", "update", "disable-key/<id>", nil, "ok>Disabled", "ok", "PD", "ok>Disabled", "ok", "PD", "PI", "PD"},
		{"ScheduleKeyDeletion", "update", "schedule-key-deletion/<id>", window, "ok>PendingDeletion", "ok>PendingDeletion", "PD", "ok>PendingDeletion", "ok>PendingDeletion", "PD", "ok>PendingDeletion", "PD"},
		{"vault delete", "delete", "keys/<id>", nil, "ok>PendingDeletion", "ok>PendingDeletion", "PD", "ok>PendingDeletion", "ok>PendingDeletion", "PD", "ok>PendingDeletion", "PD"},
		{"CancelKeyDeletion", "update", "cancel-key-deletion/<id>", nil, "NPD", "NPD", "ok>Disabled", "NPD", "NPD", "ok>Disabled", "NPD", "ok>PendingImport"},
		{"UpdateKeyDescription", "update", "keys/<id>", fields{"description": "new"}, "ok", "ok", "PD", "ok", "ok", "PD", "ok", "PD"},
		{"TagResource", "update", "tag-resource/<id>", tag, "ok", "ok", "PD", "ok", "ok", "PD", "ok", "PD"},
		{"UntagResource", "update", "untag-resource/<id>", untag, "ok", "ok", "PD", "ok", "ok", "PD", "ok", "PD"},
		{"CreateAlias", "update", "aliases/new-<id>", alias(false), "ok", "ok", "PD", "ok", "ok", "PD", "ok", "PD"},
		{"UpdateAlias", "update", "aliases/moving", alias(true), "ok", "ok", "PD", "ok", "ok", "PD", "ok", "PD"},
		{"ListAliases", "list", "aliases/", fields{"target_key_id": "<id>"}, "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"},
		{"DeleteAlias", "delete", "aliases/<id>", nil, "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"},
		{"CreateGrant", "update", "create-grant/<id>", grant, "ok", "D", "PD", "ok", "D", "PD", "PI", "PD"},
		{"ListGrants", "read", "list-grants/<id>", nil, "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"},
		{"RevokeGrant", "update", "revoke-grant/<id>", fields{"grant_id": "<grant>"}, "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"},
		{"RetireGrant", "update", "retire-grant/<id>", fields{"grant_id": "<grant>"}, "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"},
		{"GetKeyLastUsage", "read", "get-key-last-usage/<id>", nil, "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"},
		{"GetKeyPolicy", "read", "get-key-policy/<id>", nil, "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"},
		{"PutKeyPolicy", "update", "put-key-policy/<id>", fields{"policy": rootPolicy}, "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"},
		{"GetKeyRotationStatus", "update", "get-key-rotation-status/<id>", nil, "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"},
		{"ListKeyRotations", "update", "list-key-rotations/<id>", nil, "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"},
		{"EnableKeyRotation", "update", "enable-key-rotation/<id>", nil, "UO", "D", "PD", "UOE", "UOE", "UOE", "UOE", "UOE"},
		{"DisableKeyRotation", "update", "disable-key-rotation/<id>", nil, "ok", "D", "PD", "UOE", "UOE", "UOE", "UOE", "UOE"},
		{"RotateKeyOnDemand", "update", "rotate-key-on-demand/<id>", nil, "UO", "D", "PD", "UO", "D", "PD", "PI", "PD"},
		{"GetParametersForImport", "update", "get-parameters-for-import/<id>", wrapping, "UOK", "UOK", "UOK", "ok", "ok", "PD", "ok", "PD"},
		{"ImportKeyMaterial", "update", "import-key-material/<id>", fields{"<import>": true}, "UOK", "UOK", "UOK", "ok", "ok>Enabled", "PD", "ok>Enabled", "PD"},
		{"DeleteImportedKeyMaterial", "update", "delete-imported-key-material/<id>", nil, "UOK", "UOK", "UOK", "ok>PendingImport", "ok>PendingImport", "ok", "ok", "ok"},
		{"GetPublicKey", "update", "get-public-key/<id>", nil, "UO", "UO", "PD", "UO", "UO", "PD", "PI", "PD"},
		{"ReplicateKey", "update", "replicate-key/<id>", nil, "UO", "D", "PD", "UO", "D", "PD", "PI", "PD"},
		{"UpdatePrimaryRegion", "update", "update-primary-region/<id>", nil, "UO", "D", "PD", "UO", "D", "PD", "PI", "PD"},
		{"Encrypt", "update", "encrypt/<id>", nil, usage, usage, usage, usage, usage, usage, usage, usage},
		{"Decrypt", "update", "decrypt/<id>", nil, usage, usage, usage, usage, usage, usage, usage, usage},
		{"ReEncrypt", "update", "re-encrypt/<id>", nil, usage, usage, usage, usage, usage, usage, usage, usage},
		{"Sign", "update", "sign/<id>", nil, usage, usage, usage, usage, usage, usage, usage, usage},
		{"Verify", "update", "verify/<id>", nil, usage, usage, usage, usage, usage, usage, usage, usage},
		{"GenerateDataKey", "update", "generate-data-key/<id>", nil, usage, usage, usage, usage, usage, usage, usage, usage},
		{"GenerateDataKeyWithoutPlaintext", "update", "generate-data-key-without-plaintext/<id>", nil, usage, usage, usage, usage, usage, usage, usage, usage},
		{"GenerateDataKeyPair", "update", "generate-data-key-pair/<id>", nil, usage, usage, usage, usage, usage, usage, usage, usage},
		{"GenerateDataKeyPairWithoutPlaintext", "update", "generate-data-key-pair-without-plaintext/<id>", nil, usage, usage, usage, usage, usage, usage, usage, usage},
		{"DeriveSharedSecret", "update", "derive-shared-secret/<id>", nil, usage, usage, usage, usage, usage, usage, usage, usage},
		{"Encapsulate", "update", "encapsulate/<id>", nil, usage, usage, usage, usage, usage, usage, usage, usage},
		{"Decapsulate", "update", "decapsulate/<id>", nil, usage, usage, usage, usage, usage, usage, usage, usage},
	}
	for _, test := range tests {
		cells := []string{test.enabled, test.disabled, test.deleting, test.xEnabled, test.xDisabled, test.xDeleting, test.xEmpty, test.xEmptyDeleting}
		for i, cell := range cells {
			column := keysByState[i]
			t.Run(test.operation+"/"+column.id, func(t *testing.T) {
				t.Parallel()
				m := newMount(t)
				c := prepareCell(t, m, column.id, column.prepare)
				answer, newState, moves := strings.Cut(cell, ">")
				if !moves {
					newState = keyState(t, m, column.id)
				}
				if answer == usage {
					answer += test.operation + "."
				} else {
					answer = answers[answer]
				}
				c.requireAnswer(t, test.op, test.path, test.data, answer)
				require.Equal(t, newState, keyState(t, m, column.id))
			})
		}
	}
}

// cell is one key in one state, with all that an operation may need of it.
type cell struct {
	m              *mount
	id, mac, grant string
	parameters     parameters
}

// prepareCell makes a key with an alias and a grant and brings it into its
// state, and another key with an alias that can be moved.
func prepareCell(t *testing.T, m *mount, id string, prepare func(*testing.T, *mount, string)) *cell {
	t.Helper()
	c := &cell{m: m, id: id, mac: b64("x"), grant: strings.Repeat("ab", 32)}
	createKey(t, m, "another")
	write(t, m, "aliases/moving", fields{"target_key_id": "another"})
	prepare(t, m, id)
	k := readStoredKey(t, m, id)
	if c.id == "enabled" || c.id == "x-enabled" {
		c.mac = macOf(t, m, id, "m")
	}
	putAlias(t, m, id, id, k.CreationDate)
	put(t, m, granteeIndex(id, "somebody")+c.grant, fields{})
	put(t, m, grantsOf(id)+c.grant, fields{
		"id": c.grant, "key_id": id, "grantee_principal": "somebody", "operations": []string{"GenerateMac"},
		"creation_date": time.Time{}, "secret": []byte("s"),
	})
	if strings.HasPrefix(id, "x-") {
		c.parameters = putWrappingKey(t, m, id)
	}
	return c
}

func (c *cell) requireAnswer(t *testing.T, op logical.Operation, path string, data fields, answer string) {
	t.Helper()
	data = c.fill(t, data)
	path = strings.ReplaceAll(path, "<id>", c.id)
	if answer == "" {
		do(t, c.m, op, path, data)
		return
	}
	kind, message, _ := strings.Cut(answer, "|")
	if strings.Contains(message, "%s") {
		message = fmt.Sprintf(message, c.id)
		require.Equal(t, fields{"key_id": c.id}, refused(t, c.m, op, path, data, kind, message))
		return
	}
	refused(t, c.m, op, path, data, kind, message)
}

// fill puts the cell's values in place of the marks.
func (c *cell) fill(t *testing.T, data fields) fields {
	t.Helper()
	if data["<import>"] == true {
		if c.parameters.public == nil {
			return fields{"import_token": b64("t"), "encrypted_key_material": b64("m"), "expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
		}
		return c.parameters.fields(t, material32)
	}
	filled := fields{}
	for name, value := range data {
		if text, ok := value.(string); ok {
			value = strings.NewReplacer("<id>", c.id, "<grant>", c.grant, "<mac>", c.mac).Replace(text)
		}
		filled[name] = value
	}
	return filled
}

func TestPendingWindow(t *testing.T) {
	t.Parallel()
	const range7to30 = "PendingWindowInDays must be between 7 and 30"
	const model = "1 validation error detected: Value '%d' at 'pending_window_in_days' failed to satisfy constraint: Member must have value %s"
	tests := []struct {
		name        string
		days        any
		wantDate    string
		wantMessage string
	}{
		{"7", 7, "2026-11-29T10:20:30.456Z", ""},
		{"30 as the CLI sends it", "30", "2026-12-22T10:20:30.456Z", ""},
		{"default", nil, "2026-12-22T10:20:30.456Z", ""},
		{"6", 6, "", range7to30},
		{"1", 1, "", range7to30},
		{"31", 31, "", range7to30},
		{"365", 365, "", range7to30},
		{"0", 0, "", fmt.Sprintf(model, 0, "greater than or equal to 1")},
		{"-1", -1, "", fmt.Sprintf(model, -1, "greater than or equal to 1")},
		{"366", 366, "", fmt.Sprintf(model, 366, "less than or equal to 365")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMount(t)
			createKey(t, m, "a")
			data := fields{"pending_window_in_days": test.days}
			if test.wantMessage != "" {
				writeRefused(t, m, "schedule-key-deletion/a", data, "ValidationException", test.wantMessage)
				require.Equal(t, "Enabled", keyState(t, m, "a"))
				return
			}
			answer := write(t, m, "schedule-key-deletion/a", data)
			require.Equal(t, "a", answer["key_id"])
			require.Equal(t, "PendingDeletion", answer["key_state"])
			require.Equal(t, test.wantDate, answer["deletion_date"])
			require.Equal(t, test.wantDate, read(t, m, "keys/a")["deletion_date"])
		})
	}
}

func TestManagementOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	paths := map[string]fields{
		"enable-key/": nil, "disable-key/": nil, "schedule-key-deletion/": nil, "cancel-key-deletion/": nil,
		"tag-resource/": {"tags": "k=v"}, "untag-resource/": {"tag_keys": "k"}, "delete-imported-key-material/": nil,
		"create-grant/": {"grantee_principal": "p", "operations": "GenerateMac"}, "revoke-grant/": {"grant_id": "g"},
		"get-key-rotation-status/": nil, "list-key-rotations/": nil, "enable-key-rotation/": nil,
		"disable-key-rotation/": nil, "rotate-key-on-demand/": nil, "replicate-key/": nil, "update-primary-region/": nil,
	}
	tests := []struct {
		name, id, wantType, wantMessage string
		wantData                        fields
	}{
		{"no such key", "b", "NotFoundException", "Key 'b' does not exist", fields{"key_id": "b"}},
		{"impossible id", "a..b", "NotFoundException", "Invalid keyId 'a..b'", fields{}},
		{"alias", "alias/x", "InvalidArnException", "Key Aliases are not supported for this operation.", fields{}},
		{"missing alias", "alias/y", "InvalidArnException", "Key Aliases are not supported for this operation.", fields{}},
	}
	for _, test := range tests {
		for path, data := range paths {
			t.Run(test.name+"/"+path, func(t *testing.T) {
				t.Parallel()
				rest := refused(t, m, logical.UpdateOperation, path+test.id, data, test.wantType, test.wantMessage)
				require.Equal(t, test.wantData, rest)
			})
		}
		for _, path := range []string{"get-key-last-usage/", "list-grants/"} {
			t.Run(test.name+"/"+path, func(t *testing.T) {
				t.Parallel()
				refused(t, m, logical.ReadOperation, path+test.id, nil, test.wantType, test.wantMessage)
			})
		}
		t.Run(test.name+"/vault delete", func(t *testing.T) {
			t.Parallel()
			refused(t, m, logical.DeleteOperation, "keys/"+test.id, nil, test.wantType, test.wantMessage)
		})
	}
}

// At the date a key is gone at once, for every operation and on every node,
// before any tidy.
func TestDeletionTakesEffectAtTheInstant(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "p/a")
		createKey(t, m, "p/b")
		write(t, m, "aliases/p/x", fields{"target_key_id": "p/a"})
		grant := write(t, m, "create-grant/p/a", fields{"grantee_principal": "e", "operations": "GenerateMac,DescribeKey", "retiring_principal": "r"})
		resp, err := request(t, m, logical.UpdateOperation, "schedule-key-deletion/p/a", fields{"pending_window_in_days": 7})
		require.NoError(t, err)
		require.Equal(t, []string{"aliases point at this key and will be deleted with it: alias/p/x"}, resp.Warnings)

		m.clock.advance(7*day - time.Millisecond)
		m.tidy(t)
		require.Equal(t, "PendingDeletion", keyState(t, m, "p/a"))
		require.Equal(t, []string{"a", "b"}, names(t, m, "keys/p/", nil))

		m.clock.advance(time.Millisecond)
		require.NotEmpty(t, storageKeys(t, m, grantPrefix), "no tidy has been there")
		requireGone(t, m, grant)
		requireGone(t, m.other(t), grant)
		m.tidy(t)
		requireGone(t, m, grant)
		require.Equal(t, []string{"key/p/b"}, storageKeys(t, m, ""), "nothing of the key is left")
	})
}

func requireGone(t *testing.T, m *mount, grant fields) {
	t.Helper()
	require.Nil(t, read(t, m, "keys/p/a"))
	require.Nil(t, read(t, m, "keys/alias/p/x"))
	require.Nil(t, read(t, m, "aliases/p/x"))
	require.Equal(t, []string{"b"}, names(t, m, "keys/p/", nil))
	require.Empty(t, names(t, m, "aliases/p/", nil))
	const missing = "Key 'p/a' does not exist"
	writeRefused(t, m, "generate-mac/p/a", macFields("m"), "NotFoundException", missing)
	writeRefused(t, m, "generate-mac/alias/p/x", macFields("m"), "NotFoundException", "Alias alias/p/x is not found.")
	writeRefused(t, m, "cancel-key-deletion/p/a", nil, "NotFoundException", missing)
	writeRefused(t, m, "enable-key/p/a", nil, "NotFoundException", missing)
	writeRefused(t, m, "aliases/p/y", fields{"target_key_id": "p/a"}, "NotFoundException", missing)
	writeRefused(t, m, "aliases/p/x", fields{"target_key_id": "p/b", "must_exist": true}, "NotFoundException", "Alias alias/p/x is not found.")
	writeRefused(t, m, "keys/p/a", fields{"description": "x"}, "NotFoundException", missing)
	refused(t, m, logical.DeleteOperation, "aliases/p/x", nil, "NotFoundException", "Alias alias/p/x is not found.")
	require.Empty(t, names(t, m, "aliases/", fields{"target_key_id": "p/a"}))
	refused(t, m, logical.ReadOperation, "list-grants/p/a", nil, "NotFoundException", missing)
	retirable := do(t, m, logical.ReadOperation, "list-retirable-grants/r", nil)
	require.Empty(t, retirable["grants"])
	_, err := request(t, m.as("e"), logical.UpdateOperation, "granted/generate-mac/p/a", macFields("m"))
	require.Equal(t, logical.ErrPermissionDenied, err)
	data := macFields("m")
	data["grant_tokens"] = []any{grant["grant_token"]}
	writeRefused(t, m, "generate-mac/p/b", data, "InvalidGrantTokenException", "The grant token is not valid.")
}

// An id whose key is gone can be used anew, also before any tidy, and nothing
// of the old key clings to the new one.
func TestIDReuse(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "a", fields{"tags": "k=v"})
		createKey(t, m, "b")
		write(t, m, "aliases/x", fields{"target_key_id": "a"})
		write(t, m, "create-grant/a", fields{"grantee_principal": "e", "operations": "GenerateMac"})
		oldMac := macOf(t, m, "a", "m")
		m.clock.advance(10 * time.Minute)
		m.tidy(t) // stores the last use
		write(t, m, "aliases/y", fields{"target_key_id": "a"})
		write(t, m, "aliases/y", fields{"target_key_id": "b", "overlap": "720h"})
		do(t, m, logical.DeleteOperation, "keys/a", nil)
		m.clock.advance(30 * day)

		data := createKey(t, m, "a", fields{"key_spec": "HMAC_256"})
		require.Equal(t, fields{}, data["tags"])
		require.Nil(t, data["last_used"])
		require.Nil(t, read(t, m, "aliases/x"))
		require.NotEqual(t, oldMac, macOf(t, m, "a", "m"))
		writeRefused(t, m, "verify-mac/a", verifyFieldsOf("m", oldMac), "KMSInvalidMacException", "")
		_, err := request(t, m.as("e"), logical.UpdateOperation, "granted/generate-mac/a", macFields("m"))
		require.Equal(t, logical.ErrPermissionDenied, err)
		m.tidy(t)
		require.Equal(t, "Enabled", keyState(t, m, "a"), "the tidy's hint of the old key does no harm")
		require.Empty(t, storageKeys(t, m, duePrefix))
	})
}

// A key that is created anew never stands in for the one that an alias left,
// however the alias moved since.
func TestNewKeyUnderAPreviousID(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, id := range []string{"a", "b", "c"} {
		createKey(t, m, id)
	}
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	write(t, m, "aliases/x", fields{"target_key_id": "b", "overlap": "2400h"})
	write(t, m, "schedule-key-deletion/a", fields{"pending_window_in_days": 7})
	m.clock.advance(8 * day)
	createKey(t, m, "a")
	mac := macOf(t, m, "a", "m")
	writeRefused(t, m, "verify-mac/alias/x", verifyFieldsOf("m", mac), "KMSInvalidMacException", "")
	m.clock.advance(time.Hour)
	write(t, m, "aliases/x", fields{"target_key_id": "c", "overlap": "2400h"})
	writeRefused(t, m, "verify-mac/alias/x", verifyFieldsOf("m", mac), "KMSInvalidMacException", "")
}

// Cancelling leaves hints for the tidy behind; they must not delete anything.
func TestCancelledDeletionIsNotTidied(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	mac := macOf(t, m, "a", "m")
	write(t, m, "schedule-key-deletion/a", fields{"pending_window_in_days": 7})
	m.clock.advance(day)
	write(t, m, "cancel-key-deletion/a", nil)
	write(t, m, "schedule-key-deletion/a", fields{"pending_window_in_days": 10})
	m.clock.advance(6*day + time.Hour)
	m.tidy(t)
	require.Equal(t, "PendingDeletion", keyState(t, m, "a"))
	write(t, m, "cancel-key-deletion/a", nil)
	m.clock.advance(30 * day)
	m.tidy(t)
	require.Equal(t, "Disabled", keyState(t, m, "a"))
	write(t, m, "enable-key/a", nil)
	require.Equal(t, mac, macOf(t, m, "a", "m"))
	require.Empty(t, storageKeys(t, m, duePrefix))
}

// A purge cut short anywhere is taken up again by the next.
func TestTidyCutShort(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		fail func(m *mount, fail bool)
	}{
		{"get", func(m *mount, fail bool) { m.storage.Underlying().FailGet(fail) }},
		{"put", func(m *mount, fail bool) { m.storage.Underlying().FailPut(fail) }},
		{"delete", func(m *mount, fail bool) { m.storage.Underlying().FailDelete(fail) }},
		{"list", func(m *mount, fail bool) { m.storage.Underlying().FailList(fail) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMount(t)
			createKey(t, m, "a")
			write(t, m, "aliases/x", fields{"target_key_id": "a"})
			write(t, m, "create-grant/a", fields{"grantee_principal": "e", "operations": "GenerateMac"})
			macOf(t, m, "a", "m")
			m.clock.advance(10 * time.Minute)
			m.tidy(t)
			write(t, m, "schedule-key-deletion/a", nil)
			m.clock.advance(30 * day)
			test.fail(m, true)
			require.Error(t, m.b.periodic(t.Context(), &logical.Request{Storage: m.storage}))
			test.fail(m, false)
			require.Empty(t, names(t, m, "keys/", nil))
			m.tidy(t)
			for _, name := range storageKeys(t, m, "") {
				require.True(t, strings.HasPrefix(name, usagePrefix), "%s is left over", name)
				require.NotContains(t, rawRecord(t, m, name), `"a"`)
			}
		})
	}
}
