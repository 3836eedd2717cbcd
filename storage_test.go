package kmshmac

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

// What lies in storage, as the tests here know it without asking the code: the
// names and records are a format, which later versions must read.
const (
	keyPrefix         = "key/"
	aliasPrefix       = "alias/"
	aliasIndexPrefix  = "alias-of/"
	duePrefix         = "due/"
	wrappingKeyPrefix = "wrapping-key/"
	grantPrefix       = "grant/"
	usagePrefix       = "last-used/"

	usageFlushInterval = 5 * time.Minute
)

func storedDigest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func aliasIndex(keyID string) string { return aliasIndexPrefix + storedDigest(keyID) + "/" }
func grantsOf(keyID string) string   { return grantPrefix + storedDigest(keyID) + "/" }
func granteeIndex(keyID, principal string) string {
	return "grant-of/" + storedDigest(keyID) + "/" + storedDigest(principal) + "/"
}
func retireeIndex(principal string) string {
	return "grant-retired-by/" + storedDigest(principal) + "/"
}

// put stores a record past the backend.
func put(t testing.TB, m *mount, name string, record any) {
	t.Helper()
	entry, err := logical.StorageEntryJSON(name, record)
	require.NoError(t, err)
	require.NoError(t, m.storage.Put(t.Context(), entry))
}

// putKey stores an enabled key of HMAC_256 past the backend.
func putKey(t testing.TB, m *mount, id string) {
	t.Helper()
	put(t, m, keyPrefix+id, fields{
		"version": 1, "id": id, "key_spec": kms.HMAC256, "origin": kms.OriginKMS,
		"creation_date": m.clock.now(), "material": []byte(strings.Repeat("k", 32)),
	})
}

// putAlias stores an alias and its hint past the backend.
func putAlias(t testing.TB, m *mount, shortName, target string, created time.Time) {
	t.Helper()
	put(t, m, aliasIndex(target)+shortName, fields{})
	put(t, m, aliasPrefix+shortName, fields{
		"version": 1, "name": "alias/" + shortName, "target_key_id": target, "creation_date": created, "last_updated_date": created,
	})
}

// storedKey is what the tests look at in a key's record.
type storedKey struct {
	Material     []byte    `json:"material"`
	MaterialID   string    `json:"material_id"`
	CreationDate time.Time `json:"creation_date"`
}

func readStoredKey(t testing.TB, m *mount, id string) (k storedKey) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(rawRecord(t, m, keyPrefix+id)), &k))
	return k
}

// storageKeys returns all names in storage below a prefix, sorted.
func storageKeys(t testing.TB, m *mount, prefix string) []string {
	t.Helper()
	view := logical.NewStorageView(m.storage, prefix)
	names, err := logical.CollectKeys(t.Context(), view)
	require.NoError(t, err)
	slices.Sort(names)
	return names
}

// forgetAll empties the cache as Vault does on a node that others write for.
func forgetAll(t testing.TB, m *mount) {
	t.Helper()
	for _, prefix := range []string{keyPrefix, aliasPrefix} {
		for _, name := range storageKeys(t, m, prefix) {
			m.b.InvalidateKey(t.Context(), prefix+name)
		}
	}
}

// rsaKeys are made once for all tests, since they are slow to make.
var rsaKeys sync.Map // of bits to func() *rsa.PrivateKey

func sharedRSAKey(_ io.Reader, bits int) (*rsa.PrivateKey, error) {
	once, _ := rsaKeys.LoadOrStore(bits, sync.OnceValue(func() *rsa.PrivateKey {
		private, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		return private
	}))
	return once.(func() *rsa.PrivateKey)(), nil
}

// putWrappingKey stores a wrapping key for imports into a key, whatever the
// key's state, and returns the parameters of an import with it.
func putWrappingKey(t testing.TB, m *mount, keyID string) parameters {
	t.Helper()
	private, err := sharedRSAKey(nil, 2048)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	name := m.clock.now().UTC().Add(25*time.Hour).Format("2006-01-02T15") +
		fmt.Sprintf("/%x-%x-%x-%x-%x", secret[:4], secret[4:6], secret[6:8], secret[8:10], secret[10:16])
	put(t, m, wrappingKeyPrefix+name, fields{
		"name": name, "key_id": keyID, "bits": 2048, "pkcs8": pkcs8, "secret": secret, "created": m.clock.now(),
	})
	payload, err := json.Marshal(fields{
		"wrapping_key": name, "key_id": keyID, "algorithm": "RSAES_OAEP_SHA_256", "valid_to": m.clock.now().Add(time.Hour),
	})
	require.NoError(t, err)
	token := append(kms.NewMacKey(kms.HMAC256, secret).Append(nil, payload), payload...)
	return parameters{algorithm: "RSAES_OAEP_SHA_256", token: b64(string(token)), public: &private.PublicKey}
}

// TestStorageOfV010 answers from storage that version 0.1.0 wrote what version
// 0.1.0 answered from it.
func TestStorageOfV010(t *testing.T) {
	t.Parallel()
	var records map[string]string
	readJSON(t, "keystore/testdata/storage-v0.1.0.json", &records)
	var answers map[string]any
	readJSON(t, "testdata/answers-v0.1.0.json", &answers)
	now, err := time.Parse(time.RFC3339Nano, answers["now"].(string))
	require.NoError(t, err)
	delete(answers, "now")

	eachCache(t, func(t *testing.T, m *mount) {
		m.clock.nanoseconds.Store(now.UnixNano())
		for name, value := range records {
			require.NoError(t, m.storage.Put(t.Context(), &logical.StorageEntry{Key: name, Value: []byte(value)}))
		}
		// Reads come before updates, which are uses.
		for _, request := range slices.Sorted(maps.Keys(answers)) {
			require.Equal(t, answers[request], answerAsRecorded(t, m, request), request)
		}
	})
}

// answerAsRecorded makes a recorded request anew: its operation and path, and
// of a list with more than those the key whose aliases to list.
func answerAsRecorded(t *testing.T, m *mount, recorded string) any {
	t.Helper()
	op, path, _ := strings.Cut(recorded, " ")
	path, target, _ := strings.Cut(path, " ")
	var data fields
	switch {
	case strings.HasPrefix(path, "generate-mac/"):
		data = macFields("m")
	case target != "":
		data = fields{"detailed": true, "target_key_id": target}
	case op == "list":
		data = fields{"detailed": true}
	case path == "list-retirable-grants":
		path = "list-retirable-grants/r"
	}
	resp, err := request(t, m, logical.Operation(op), path, data)
	require.NoError(t, err)
	if resp == nil {
		return nil
	}
	for _, added := range []string{"min_pending_window_in_days", "later_use_missing_until"} {
		delete(resp.Data, added) // which 0.1.0 did not answer
	}
	if info, ok := resp.Data["key_info"].(fields); ok {
		for _, columns := range info {
			delete(columns.(fields), "ends")
		}
	}
	return resp.Data
}

func readJSON(t testing.TB, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, into))
}
