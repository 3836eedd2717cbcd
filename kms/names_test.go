package kms

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckKeyID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		id   string
		ok   bool
	}{
		{"UUID", "0a1b2c3d-0000-4000-8000-0123456789ab", true},
		{"mrk", "mrk-" + strings.Repeat("0", 32), true},
		{"one letter", "a", true},
		{"all characters", "AZaz09_.-", true},
		{"folders", "a/b/c", true},
		{"alias as a later segment", "a/alias", true},
		{"begins like alias", "aliases/x", true},
		{"dot inside a segment", "v1.2", true},
		{"dot ends a segment", "a./b", true},
		{"256 characters", strings.Repeat("a", 256), true},
		{"257 characters", strings.Repeat("a", 257), false},
		{"empty", "", false},
		{"alias", "alias", false},
		{"alias name", "alias/x", false},
		{"leading slash", "/a", false},
		{"trailing slash", "a/", false},
		{"empty segment", "a//b", false},
		{"two dots", "a..b", false},
		{"parent", "../a", false},
		{"dot segment", "a/./b", false},
		{"only a dot", ".", false},
		{"space", "a b", false},
		{"newline at the end", "a\n", false},
		{"colon", "a:b", false},
		{"ARN", someARN, false},
		{"not ASCII", "schlüssel", false},
		{"quote", "a'b", false},
		{"NUL", "a\x00b", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := CheckKeyID(test.id)
			if test.ok {
				require.NoError(t, err)
				return
			}
			requireException(t, err, TypeNotFound, "Invalid keyId '"+test.id+"'")
		})
	}
}

func TestIsKMSKeyID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		id   string
		want bool
	}{
		{"UUID", "0a1b2c3d-0000-4000-8000-0123456789ab", true},
		{"UUID in capitals", "0A1B2C3D-0000-4000-8000-0123456789AB", true},
		{"mrk", "mrk-" + strings.Repeat("0f", 16), true},
		{"undashed UUID", strings.Repeat("0", 32), false},
		{"short mrk", "mrk-1234", false},
		{"chosen", "payments/tokens", false},
		{"UUID in a folder", "x/0a1b2c3d-0000-4000-8000-0123456789ab", false},
		{"newline", "0a1b2c3d-0000-4000-8000-0123456789ab\n", false},
		{"empty", "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, IsKMSKeyID(test.id))
		})
	}
}

func TestCheckAliasName(t *testing.T) {
	t.Parallel()
	const prefix = `Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`
	const reserved = "The alias name for a customer managed CMK cannot begin with alias/aws/."
	tests := []struct {
		name, alias, wantType, wantMessage string
	}{
		{"plain", "alias/x", "", ""},
		{"folders", "alias/a/b/c", "", ""},
		{"all characters", "alias/AZaz09_-", "", ""},
		{"begins like aws", "alias/awsome", "", ""},
		{"aws as a later segment", "alias/a/aws/b", "", ""},
		{"aws alone", "alias/aws", "", ""},
		{"no prefix", "x", TypeValidation, prefix},
		{"prefix in capitals", "Alias/x", TypeValidation, prefix},
		{"empty", "", TypeValidation, prefix},
		{"colon", "alias/Service:Test", TypeValidation, "alias/Service:Test contains invalid characters for an alias"},
		{"dot", "alias/a.b", TypeValidation, "alias/a.b contains invalid characters for an alias"},
		{"nothing behind the prefix", "alias/", TypeValidation, "alias/ contains invalid characters for an alias"},
		{"empty segment", "alias/a//b", TypeValidation, "alias/a//b contains invalid characters for an alias"},
		{"newline at the end", "alias/a\n", TypeValidation, "alias/a\n contains invalid characters for an alias"},
		{"reserved", "alias/aws/x", TypeNotAuthorized, reserved},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := CheckAliasName(test.alias)
			if test.wantType == "" {
				require.NoError(t, err)
				return
			}
			requireException(t, err, test.wantType, test.wantMessage)
		})
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, want string }{
		{"payments/tokens", "payments"},
		{"payments/eu/tokens", "payments"},
		{"tokens", ""},
		{"alias/payments/current", "payments"},
		{"alias/current", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, Folder(test.name))
		})
	}
}

// What is accepted can be part of a storage path and of a URL, and is never
// taken for the other kind of name.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{"a", "a/b", "alias/a", "a/../b", "a\n", "alias", "a.", "/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		isID, isAlias := CheckKeyID(name) == nil, CheckAliasName(name) == nil
		if isID && isAlias {
			t.Errorf("%q is both", name)
		}
		if !isID && !isAlias {
			return
		}
		if name == "" || strings.ContainsAny(name, "\n\x00 :'\"%?#\\") || strings.Contains(name, "//") || strings.Contains(name, "..") {
			t.Errorf("%q is accepted", name)
		}
		if strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") {
			t.Errorf("%q begins or ends with a slash", name)
		}
	})
}

func requireException(t *testing.T, err error, wantType, wantMessage string) {
	t.Helper()
	require.Error(t, err)
	require.IsType(t, &Exception{}, err)
	exception := err.(*Exception)
	require.Equal(t, wantType, exception.Type)
	require.Equal(t, wantMessage, exception.Message)
}
