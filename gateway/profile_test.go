package gateway_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/require"
)

var (
	profileBlock = regexp.MustCompile("(?ms)^```ini\n(.*?)^```$")
	profileName  = regexp.MustCompile(`(?m)^\[(?:profile )?(\S+)\]$`)
	processLine  = regexp.MustCompile(`(?m)^credential_process = .*$`)
	addressLine  = regexp.MustCompile(`(?m)^endpoint_url = (.*)$`)
)

// TestProfilesFailClosed: with the profiles of the documentation an SDK calls
// the endpoint, and one that ignores endpoint_url, as old ones do, looks for an
// address that is not there. The Vault token does not go to Amazon.
func TestProfilesFailClosed(t *testing.T) {
	profiles := 0
	for _, file := range []string{"README.md", "docs/endpoint.md", "docs/login.md"} {
		text, err := os.ReadFile(filepath.Join("..", file))
		require.NoError(t, err)
		for _, block := range profileBlock.FindAllStringSubmatch(string(text), -1) {
			profile := block[1]
			if !strings.Contains(profile, "credential_process") {
				continue
			}
			profiles++
			t.Run(file, func(t *testing.T) {
				address := addressLine.FindStringSubmatch(profile)
				require.NotNil(t, address)
				require.Equal(t, address[1]+"/", askedAddress(t, profile))
				t.Setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
				require.Equal(t, "https://kms.vault-local-1.amazonaws.com/", askedAddress(t, profile))
			})
		}
	}
	require.GreaterOrEqual(t, profiles, 4)
}

// askedAddress returns the address that an SDK with a profile calls.
func askedAddress(t *testing.T, profile string) (address string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	profile = processLine.ReplaceAllString(profile,
		`credential_process = echo '{"Version":1,"AccessKeyId":"vault","SecretAccessKey":"not-verified","SessionToken":"hvs.secret"}'`)
	require.NoError(t, os.WriteFile(file, []byte(profile), 0o600))
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_CA_BUNDLE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	loaded, err := config.LoadDefaultConfig(t.Context(),
		config.WithSharedConfigProfile(profileName.FindStringSubmatch(profile)[1]), config.WithRetryMaxAttempts(1))
	require.NoError(t, err)
	client := kms.NewFromConfig(loaded, func(o *kms.Options) {
		o.HTTPClient = roundTripper(func(r *http.Request) (*http.Response, error) {
			require.Equal(t, "hvs.secret", r.Header.Get("X-Amz-Security-Token"))
			address = r.URL.String()
			return nil, errors.New("seen")
		})
	})
	_, err = client.ListKeys(t.Context(), &kms.ListKeysInput{})
	require.Error(t, err)
	return address
}

// roundTripper is an HTTP client of an SDK.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) Do(r *http.Request) (*http.Response, error) { return f(r) }
