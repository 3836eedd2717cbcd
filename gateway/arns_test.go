package gateway

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

func TestParseIdentifier(t *testing.T) {
	const arn = "arn:aws:kms:us-east-1:111122223333:"
	tests := map[string]struct {
		text    string
		want    identifier
		message string
	}{
		"id":                {"payments/tokens", identifier{name: "payments/tokens"}, ""},
		"alias":             {"alias/a/b", identifier{name: "alias/a/b", alias: true}, ""},
		"key ARN":           {arn + "key/payments/tokens", identifier{name: "payments/tokens", fromARN: true}, ""},
		"alias ARN":         {arn + "alias/x", identifier{name: "alias/x", alias: true, fromARN: true}, ""},
		"other Region":      {"arn:aws:kms:us-west-2:111122223333:key/x", identifier{}, "Invalid arn us-west-2"},
		"alias, Region":     {"arn:aws:kms:us-west-2:111122223333:alias/x", identifier{}, "Invalid arn us-west-2"},
		"other partition":   {"arn:aws-cn:kms:us-east-1:111122223333:key/x", identifier{}, "Invalid arn aws-cn"},
		"other service":     {"arn:aws:s3:us-east-1:111122223333:key/x", identifier{}, "Invalid arn s3"},
		"other account":     {"arn:aws:kms:us-east-1:999999999999:key/x", identifier{name: "x", fromARN: true, foreign: "arn:aws:kms:us-east-1:999999999999:key/x"}, ""},
		"other resource":    {arn + "grant/x", identifier{}, "Invalid keyId '" + arn + "grant/x'"},
		"too short":         {"arn:aws:kms", identifier{}, "Invalid keyId 'arn:aws:kms'"},
		"key/ without ARN":  {"key/x", identifier{name: "key/x"}, ""},
		"colon in resource": {arn + "key/a:b", identifier{name: "a:b", fromARN: true}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := testARNs.parse(test.text)
			require.Equal(t, test.want, got)
			requireNotFound(t, err, test.message)
		})
	}
}

func requireNotFound(t *testing.T, err error, message string) {
	t.Helper()
	if message == "" {
		require.NoError(t, err)
		return
	}
	var exception *kms.Exception
	require.True(t, errors.As(err, &exception), "%v", err)
	require.Equal(t, kms.TypeNotFound, exception.Type)
	require.Equal(t, message, exception.Message)
}

// FuzzResolve holds what a client may send as a key identifier to the one rule
// that matters: the path that comes of it is in the client's folder.
func FuzzResolve(f *testing.F) {
	for _, seed := range []string{
		"x", "alias/x", "arn:aws:kms:us-east-1:111122223333:key/x", "arn:aws:kms:us-east-1:111122223333:alias/x",
		"../x", "a/../../b", "a%2f..%2fb", "alias/../x", "alias/a/../b", "/x", "x/", "a//b", "a?b", "a#b", ".", "alias/",
		"arn:aws:kms:us-east-1:111122223333:key/../x", "alias/x/./y",
	} {
		f.Add(seed)
	}
	g := &Gateway{arns: testARNs}
	f.Fuzz(func(t *testing.T, text string) {
		for _, folder := range []folder{"", "payments", "a/b"} {
			c := &call{gateway: g, folder: folder}
			if c.resolve(text, true) != nil {
				continue
			}
			native := strings.TrimPrefix(c.key.native, kms.AliasPrefix)
			if !strings.HasPrefix(native, folder.dir()) || native == folder.dir() {
				t.Fatalf("%q leads out of %q: %q", text, folder, c.key.native)
			}
			for _, segment := range strings.Split(native, "/") {
				if segment == "" || segment == "." || strings.Contains(segment, "..") || url.PathEscape(segment) != segment {
					t.Fatalf("%q makes the path %q", text, c.key.native)
				}
			}
			if c.key.alias && folder.localAlias(c.key.native) != c.key.id || !c.key.alias && folder.local(c.key.native) != c.key.id {
				t.Fatalf("%q comes back as another name", text)
			}
		}
	})
}

func TestFolderOf(t *testing.T) {
	tests := map[string]struct {
		path string
		want folder
		ok   bool
	}{
		"root":          {"/", "", true},
		"folder":        {"/payments", "payments", true},
		"slash":         {"/payments/", "payments", true},
		"nested":        {"/payments/eu", "payments/eu", true},
		"healthz":       {"/healthz", "healthz", true},
		"up":            {"/payments/../x", "", false},
		"dots":          {"/..", "", false},
		"escaped slash": {"/a%2Fb", "", false},
		"escaped dots":  {"/%2e%2e/x", "", false},
		"double slash":  {"/a//b", "", false},
		"alias":         {"/alias/x", "", false},
		"space":         {"/a%20b", "", false},
		"only slashes":  {"//", "", false},
		"too long":      {"/" + repeat("a", 300), "", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u, err := url.ParseRequestURI(test.path)
			require.NoError(t, err)
			got, ok := folderOf(u)
			require.Equal(t, test.ok, ok)
			if ok {
				require.Equal(t, test.want, got)
			}
		})
	}
}

func TestFolderNames(t *testing.T) {
	f := folder("payments")
	require.Equal(t, "payments/x", f.native("x"))
	require.Equal(t, "x", f.local("payments/x"))
	require.Equal(t, "/other/x", f.local("other/x"))
	require.Equal(t, "/payments", f.local("payments"))
	require.Equal(t, "alias/payments/x", f.nativeAlias("alias/x"))
	require.Equal(t, "alias/x", f.localAlias("alias/payments/x"))
	require.True(t, f.holds("payments/x"))
	require.False(t, f.holds("payments2/x"))
	require.Equal(t, "other/x", folder("").local("other/x"))
}

func TestAccessKeyOf(t *testing.T) {
	id, err := accessKeyOf(testAuthorization)
	require.NoError(t, err)
	require.Equal(t, "AKIDEXAMPLE", id)
	for _, header := range []string{
		"Basic dXNlcjpwYXNz", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=AKID/x",
		"AWS4-HMAC-SHA256 Credential=AKID, SignedHeaders=host, Signature=00",
		"AWS4-HMAC-SHA256 Credential=/x, SignedHeaders=host, Signature=00",
		"AWS4-HMAC-SHA256 Credential=A\"B/x, SignedHeaders=host, Signature=00",
		"AWS4-HMAC-SHA256 Credential=A/x, SignedHeaders=host",
		"AWS4-HMAC-SHA256 Credential=A/x, Signature=00",
	} {
		_, err := accessKeyOf(header)
		var exception *kms.Exception
		require.True(t, errors.As(err, &exception), header)
		require.Equal(t, "IncompleteSignatureException", exception.Type)
	}
}

func TestMarkers(t *testing.T) {
	position, err := markerOf(input{"Marker": marker(markKeys, "payments/x")}, markKeys)
	require.NoError(t, err)
	require.Equal(t, "payments/x", position)
	for _, text := range []string{"", "x", "?", marker(markAliases, "x"), marker(markKeys, ""), marker(markKeys, repeat("x", 800))} {
		_, err := markerOf(input{"Marker": text}, markKeys)
		var exception *kms.Exception
		require.True(t, errors.As(err, &exception), text)
		require.Equal(t, "InvalidMarkerException", exception.Type)
		require.Empty(t, exception.Message)
	}
	require.Error(t, checkPosition("../x"))
	require.NoError(t, checkPosition("a/b/"))
}
