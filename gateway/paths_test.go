package gateway

import (
	"net/http"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// No name that a caller sends leads a request out of the path that it is for:
// Vault, and a Vault Proxy before it, would take ".." for the parent.
func TestNoNameLeadsElsewhere(t *testing.T) {
	names := []string{"..", ".", "../x", "x/..", "x/../../../sys/health", "a//b", "./x", "x/.", "//x", "x//", "...", "a..b", "%2e%2e", "x?list=true", "x#y", "x%2f..%2fy"}
	inputs := map[string]string{
		"DescribeKey": `{"KeyId":"$"}`, "GenerateMac": `{"KeyId":"$","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256"}`, "EnableKey": `{"KeyId":"$"}`,
		"ListGrants":          `{"KeyId":"k","GranteePrincipal":"$"}`,
		"ListRetirableGrants": `{"RetiringPrincipal":"$"}`,
		"CreateGrant":         `{"KeyId":"k","GranteePrincipal":"$","RetiringPrincipal":"$","Operations":["GenerateMac"]}`,
		"RetireGrant":         `{"KeyId":"$","GrantId":"0"}`,
		"CreateAlias":         `{"AliasName":"alias/$","TargetKeyId":"$"}`, "DeleteAlias": `{"AliasName":"alias/$"}`, "ListAliases": `{"KeyId":"$"}`,
	}
	prefixes := []string{"", "alias/", "arn:aws:kms:us-east-1:111122223333:key/", "arn:aws:kms:us-east-1:111122223333:alias/",
		"arn:aws:iam::111122223333:user/", "arn:aws:iam::111122223333:role/", "arn:aws:iam::111122223333:role/p/", "arn:aws:iam::999999999999:user/",
		"arn:aws:sts::111122223333:assumed-role/r/", "arn:aws:sts::111122223333:federated-user/"}
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		if strings.HasPrefix(c.path, "identity/") {
			return 200, `{"data":{"id":"x"}}`
		}
		return errorsOnly(403, "1 error occurred:\n\t* permission denied\n\n")
	})
	g := newTestGateway(t, f.URL)
	for operation, input := range inputs {
		for _, prefix := range prefixes {
			for _, name := range names {
				w := post(g, "/", operation, strings.ReplaceAll(input, "$", prefix+name))
				require.Less(t, w.status, 500, "%s %s: %s", operation, prefix+name, w.body)
			}
		}
	}
	for _, c := range f.all() {
		require.Equal(t, path.Clean(c.path), c.path)
		require.NotContains(t, c.path, "?")
		require.NotContains(t, c.path, "%")
		if c.method == http.MethodGet && !strings.HasPrefix(c.path, "identity/group/name/") {
			require.True(t, strings.HasPrefix(c.path, "kms/"), c.path)
		}
	}
	require.NotEmpty(t, f.all())
}
