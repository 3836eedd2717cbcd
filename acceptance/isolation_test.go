package acceptance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-kms-hmac/gateway"
	"vault-plugin-secrets-kms-hmac/kms"
)

// isolation is a mount that three teams share, each with a folder of its own,
// and somebody who has nothing but a login. Every name of a resource has the
// same length, so that the size of an answer tells nothing by itself.
type isolation struct {
	m       mount
	gateway string // URL of an endpoint
	callers map[string]string
}

var isolatedTeams = []string{"paymt", "order", "billg"}

const outsider = "outsider"

// Resources of each team's folder.
const (
	hereKey = "here" // both a key and an alias that points at it
	noneKey = "none" // neither
)

func newIsolation(t *testing.T) *isolation {
	t.Helper()
	m := newMount(t)
	vault, err := gateway.NewVault(m.server.Address, "", time.Minute)
	must(t, err)
	g, err := gateway.New(gateway.Config{
		Vault: vault, Mount: m.path, MaxBody: 1 << 20, MaxConcurrency: 64,
		ARNs: gateway.ARNs{Partition: "aws", Region: "us-east-1", Account: "000000000000"},
	})
	must(t, err)
	server := httptest.NewServer(gateway.Handler(g, nil))
	t.Cleanup(server.Close)
	iso := &isolation{m: m, gateway: server.URL, callers: map[string]string{}}

	auth := m.path + "-userpass"
	sys(t, m.server, "POST", "sys/auth/"+auth, body{"type": "userpass"})
	everybody := m.path + "-everybody"
	must(t, m.server.WritePolicy(t.Context(), everybody, fmt.Sprintf("path %q { capabilities = [\"update\"] }", m.path+"/granted/*")))
	login := func(user string, policies ...string) {
		password := body{"password": b64(random(16)), "token_policies": append(policies, everybody)}
		sys(t, m.server, "POST", "auth/"+auth+"/users/"+user, password)
		a, err := call(t.Context(), m.server, "", "POST", "auth/"+auth+"/login/"+user, password)
		must(t, err)
		if authOf(t, a)["entity_id"] == "" {
			t.Fatal("a login without an entity")
		}
		iso.callers[user] = tokenOf(t, a)
	}
	for _, team := range isolatedTeams {
		policy := m.path + "-" + team
		// The policy of a team, as docs/endpoint.md has it.
		must(t, m.server.WritePolicy(t.Context(), policy, fmt.Sprintf(`
path "%[1]s/+/%[2]s/*" {
  capabilities = ["create", "read", "update", "delete", "list", "patch"]
}
path "%[1]s/+/alias/%[2]s/*" {
  capabilities = ["read", "update", "patch"]
}`, m.path, team)))
		login(team, policy)
		m.newKey(t, team+"/"+hereKey, hmac256)
		m.write(t, "aliases/"+team+"/"+hereKey, body{"target_key_id": team + "/" + hereKey})
	}
	login(outsider)
	return iso
}

// attempt is one operation on one resource in one way.
type attempt struct {
	method, path string
	data         any
}

// nativeAttempts are all operations of the API on a key or an alias of this
// name. Some are refused for what they say, which is only told to those who may
// make them.
func nativeAttempts(name string) []attempt {
	mac := body{"message": "aGVsbG8=", "mac_algorithm": "HMAC_SHA_256"}
	verify := body{"message": "aGVsbG8=", "mac_algorithm": "HMAC_SHA_256", "mac": "aGVsbG8="}
	var list []attempt
	for _, key := range []string{name, "alias/" + name} {
		list = append(list,
			attempt{"GET", "keys/" + key, nil}, attempt{"POST", "generate-mac/" + key, mac}, attempt{"PATCH", "generate-mac/" + key, mac},
			attempt{"POST", "verify-mac/" + key, verify}, attempt{"PATCH", "verify-mac/" + key, verify},
			attempt{"POST", "generate-mac/" + key, body{"messages": "aGVsbG8=", "mac_algorithm": "HMAC_SHA_256"}},
			attempt{"POST", "generate-mac/" + key, body{"message": "aGVsbG8=", "mac_algorithm": "HMAC_SHA_256", "dry_run": true}},
		)
		for _, operation := range []string{
			"encrypt", "decrypt", "sign", "verify", "generate-data-key", "get-public-key", "re-encrypt", "derive-shared-secret", "encapsulate", "decapsulate",
			"generate-data-key-pair", "generate-data-key-pair-without-plaintext", "generate-data-key-without-plaintext",
		} {
			list = append(list, attempt{"POST", operation + "/" + key, nil})
		}
	}
	for _, operation := range []string{
		"disable-key", "enable-key", "get-parameters-for-import", "import-key-material", "delete-imported-key-material", "cancel-key-deletion",
		"schedule-key-deletion", "tag-resource", "untag-resource", "create-grant", "revoke-grant", "enable-key-rotation", "disable-key-rotation",
		"rotate-key-on-demand", "get-key-rotation-status", "list-key-rotations", "replicate-key", "update-primary-region", "put-key-policy",
		"retire-grant", "bulk/disable-key", "bulk/schedule-key-deletion", "bulk/move-aliases",
	} {
		list = append(list, attempt{"POST", operation + "/" + name, body{}})
	}
	return append(list,
		attempt{"GET", "get-key-last-usage/" + name, nil}, attempt{"GET", "list-grants/" + name, nil}, attempt{"GET", "get-key-policy/" + name, nil},
		attempt{"GET", "inventory/" + name, nil}, attempt{"LIST", "inventory/" + name + "/", nil}, attempt{"GET", "upcoming/" + name, nil},
		attempt{"POST", "keys/" + name, body{"key_spec": "HMAC_256"}}, attempt{"POST", "keys/" + name, body{"key_spec": "HMAC_512"}},
		attempt{"POST", "keys/" + name, body{"description": "mine"}},
		attempt{"LIST", "keys/" + name + "/", nil}, attempt{"LIST", "aliases/" + name + "/", nil},
		attempt{"GET", "aliases/" + name, nil}, attempt{"POST", "aliases/" + name, body{"target_key_id": name}},
		attempt{"DELETE", "aliases/" + name, nil}, attempt{"DELETE", "keys/" + name, nil},
	)
}

// grantedAttempts are the same by way of a grant that nobody has made.
func grantedAttempts(name string) []attempt {
	mac := body{"message": "aGVsbG8=", "mac_algorithm": "HMAC_SHA_256"}
	var list []attempt
	for _, key := range []string{name, "alias/" + name} {
		list = append(list,
			attempt{"POST", "granted/generate-mac/" + key, mac},
			attempt{"POST", "granted/verify-mac/" + key, body{"message": "aGVsbG8=", "mac_algorithm": "HMAC_SHA_256", "mac": "aGVsbG8="}},
			attempt{"POST", "granted/describe-key/" + key, nil},
			attempt{"POST", "granted/create-grant/" + key, body{"operations": "GenerateMac", "grantee_principal": "somebody"}},
		)
	}
	return list
}

// wholeAccount is a key policy that means what KMS's default one means.
const wholeAccount = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"}]}`

// endpointAttempts are operations of KMS, with the key or alias by each of its
// names.
func endpointAttempts(name string) []attempt {
	const arn = "arn:aws:kms:us-east-1:000000000000:"
	var list []attempt
	add := func(operation string, in body) { list = append(list, attempt{"", operation, in}) }
	for _, key := range []string{name, arn + "key/" + name, "alias/" + name, arn + "alias/" + name} {
		mac := body{"KeyId": key, "Message": "aGVsbG8=", "MacAlgorithm": "HMAC_SHA_256"}
		add("GenerateMac", mac)
		add("VerifyMac", body{"KeyId": key, "Message": "aGVsbG8=", "MacAlgorithm": "HMAC_SHA_256", "Mac": "aGVsbG8="})
		add("DescribeKey", body{"KeyId": key})
		others := map[string]body{
			"Encrypt": {"Plaintext": "aGVsbG8="}, "Decrypt": {"CiphertextBlob": "aGVsbG8="},
			"Sign":            {"Message": "aGVsbG8=", "SigningAlgorithm": "ECDSA_SHA_256"},
			"Verify":          {"Message": "aGVsbG8=", "SigningAlgorithm": "ECDSA_SHA_256", "Signature": "aGVsbG8="},
			"GenerateDataKey": {"KeySpec": "AES_256"}, "GenerateDataKeyWithoutPlaintext": {"KeySpec": "AES_256"},
			"GenerateDataKeyPair": {"KeyPairSpec": "RSA_2048"}, "GenerateDataKeyPairWithoutPlaintext": {"KeyPairSpec": "RSA_2048"},
			"GetPublicKey": {}, "DeriveSharedSecret": {"KeyAgreementAlgorithm": "ECDH", "PublicKey": "aGVsbG8="},
			"Encapsulate": {"EncapsulationAlgorithm": "ML_KEM"}, "Decapsulate": {"EncapsulationAlgorithm": "ML_KEM", "SharedSecretCiphertextBlob": "aGVsbG8="},
		}
		for _, operation := range slices.Sorted(maps.Keys(others)) {
			others[operation]["KeyId"] = key
			add(operation, others[operation])
		}
		add("ReEncrypt", body{"DestinationKeyId": key, "CiphertextBlob": "aGVsbG8="})
	}
	for _, key := range []string{name, arn + "key/" + name} {
		for _, operation := range []string{
			"EnableKey", "DisableKey", "ScheduleKeyDeletion", "CancelKeyDeletion", "ListResourceTags", "ListKeyPolicies", "GetKeyPolicy",
			"GetKeyRotationStatus", "EnableKeyRotation", "DisableKeyRotation", "ListKeyRotations", "RotateKeyOnDemand", "ListGrants",
			"DeleteImportedKeyMaterial", "GetKeyLastUsage",
		} {
			add(operation, body{"KeyId": key})
		}
		add("TagResource", body{"KeyId": key, "Tags": []body{{"TagKey": "a", "TagValue": "b"}}})
		add("UntagResource", body{"KeyId": key, "TagKeys": []string{"a"}})
		add("UpdateKeyDescription", body{"KeyId": key, "Description": "mine"})
		add("CreateGrant", body{"KeyId": key, "GranteePrincipal": "arn:aws:iam::000000000000:role/11111111-2222-3333-4444-555555555555", "Operations": []string{"GenerateMac"}})
		add("PutKeyPolicy", body{"KeyId": key, "Policy": wholeAccount})
		add("ReplicateKey", body{"KeyId": key, "ReplicaRegion": "eu-central-1"})
		add("UpdatePrimaryRegion", body{"KeyId": key, "PrimaryRegion": "eu-central-1"})
		add("RetireGrant", body{"KeyId": key, "GrantId": strings.Repeat("ab", 32)})
		add("RevokeGrant", body{"KeyId": key, "GrantId": strings.Repeat("ab", 32)})
		add("GetParametersForImport", body{"KeyId": key, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"})
		add("ImportKeyMaterial", body{"KeyId": key, "ImportToken": "aGVsbG8=", "EncryptedKeyMaterial": "aGVsbG8=", "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"})
		add("CreateAlias", body{"AliasName": "alias/" + name, "TargetKeyId": key})
		add("UpdateAlias", body{"AliasName": "alias/" + name, "TargetKeyId": key})
		add("ListAliases", body{"KeyId": key})
	}
	add("DeleteAlias", body{"AliasName": "alias/" + name})
	return list
}

// outcome is what a caller is told, without what differs in every answer.
type outcome struct {
	status int
	text   string
	size   int
}

var requestIDs = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// try makes an attempt as a caller. Names that end in none are made to look
// like those that end in here.
func (iso *isolation) try(t *testing.T, caller string, a attempt) outcome {
	t.Helper()
	var status int
	var raw string
	if a.method == "" {
		status, raw = iso.endpoint(t, "", caller, a)
	} else {
		got, err := iso.m.as(iso.callers[caller]).request(t.Context(), a.method, a.path, a.data)
		must(t, err)
		status, raw = got.status, got.raw
	}
	text := requestIDs.ReplaceAllString(raw, "")
	return outcome{status, strings.ReplaceAll(text, "/"+noneKey, "/"+hereKey), len(raw)}
}

func (iso *isolation) endpoint(t *testing.T, folder, caller string, a attempt) (int, string) {
	t.Helper()
	encoded, err := json.Marshal(a.data)
	must(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, iso.gateway+folder, bytes.NewReader(encoded))
	must(t, err)
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "TrentService."+a.path)
	req.Header.Set("X-Amz-Security-Token", iso.callers[caller])
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(raw)
}

// TestIsolation tries every operation on every team's resources in every way.
// Who has no right to a folder is refused, in the same words and at the same
// length whether there is such a key or not; the team itself is not.
func TestIsolation(t *testing.T) {
	t.Parallel()
	iso := newIsolation(t)
	ways := map[string]func(name string) []attempt{"native": nativeAttempts, "granted": grantedAttempts, "endpoint": endpointAttempts}
	iso.complete(t)
	cells := 0
	for way, attempts := range ways {
		for _, owner := range isolatedTeams {
			here, none := attempts(owner+"/"+hereKey), attempts(owner+"/"+noneKey)
			for i := range here {
				for _, caller := range append(slices.Clone(isolatedTeams), outsider) {
					if caller == owner {
						continue // at the end, because it changes something
					}
					cells++
					there, missing := iso.try(t, caller, here[i]), iso.try(t, caller, none[i])
					what := fmt.Sprintf("%s: %s tries %s %s %v", way, caller, here[i].method, here[i].path, here[i].data)
					if !there.refused(way) {
						t.Errorf("%s and gets status %d, %s", what, there.status, there.text)
					}
					if there != missing {
						t.Errorf("%s: the answer tells whether it is there:\n%+v\n%+v", what, there, missing)
					}
				}
			}
		}
	}
	if cells < 500 {
		t.Errorf("only %d cells were tried", cells)
	}
	// What nobody was allowed to do has not been done.
	for _, team := range isolatedTeams {
		key := iso.m.read(t, "keys/"+team+"/"+hereKey)
		if key["key_state"] != "Enabled" || key["description"] != "" || len(key["tags"].(body)) != 0 {
			t.Errorf("somebody changed %v", key)
		}
		if a := iso.m.read(t, "aliases/"+team+"/"+hereKey); a["target_key_id"] != team+"/"+hereKey {
			t.Errorf("somebody moved %v", a)
		}
		if names := iso.m.list(t, "keys/"+team+"/"); !slices.Equal(names, []string{hereKey}) {
			t.Errorf("somebody made %v", names)
		}
		grants := iso.m.read(t, "list-grants/"+team+"/"+hereKey)["grants"].([]any)
		if len(grants) != 0 {
			t.Errorf("somebody granted %v", grants)
		}
	}
	iso.lists(t)
	iso.owners(t, ways)
}

// complete: there is an attempt for every path of the engine and every operation
// of the endpoint that names a key, an alias or a folder.
func (iso *isolation) complete(t *testing.T) {
	t.Helper()
	var document struct{ Paths map[string]any }
	must(t, json.Unmarshal([]byte(sys(t, iso.m.server, "GET", "sys/internal/specs/openapi", nil).raw), &document))
	tried := append(nativeAttempts("team/"+hereKey), grantedAttempts("team/"+hereKey)...)
	paths := 0
	for path := range document.Paths {
		rest, of := strings.CutPrefix(path, "/"+iso.m.path+"/")
		before, _, named := strings.Cut(rest, "{")
		if !of || !named || before == "list-retirable-grants/" { // which names a principal
			continue
		}
		paths++
		if !slices.ContainsFunc(tried, func(a attempt) bool { return strings.HasPrefix(a.path, before) }) {
			t.Errorf("nobody tries %s", path)
		}
	}
	if paths < 50 {
		t.Errorf("only %d paths name a key, an alias or a folder", paths)
	}
	// Of no key, or tried as lists.
	without := []string{"CreateKey", "GenerateRandom", "ListKeys", "ListRetirableGrants"}
	for _, operation := range kms.Operations() {
		if !strings.Contains(operation, "CustomKeyStore") && !slices.Contains(without, operation) &&
			!slices.ContainsFunc(endpointAttempts("team/"+hereKey), func(a attempt) bool { return a.path == operation }) {
			t.Errorf("nobody tries %s", operation)
		}
	}
}

// refused reports whether Vault or the endpoint has refused for want of
// permission. ListAliases of a key that one may not see is an empty list, and no
// key is asked about a ciphertext, since none here makes any.
func (o outcome) refused(way string) bool {
	if way == "endpoint" {
		return o.status == 400 && strings.Contains(o.text, "AccessDeniedException") ||
			o.status == 200 && strings.Contains(o.text, `"Aliases":[]`) ||
			o.status == 400 && o.text == `{"__type":"InvalidCiphertextException"}`
	}
	return o.status == 403
}

// lists: no list, marker or folder of the endpoint's shows another team's names.
func (iso *isolation) lists(t *testing.T) {
	t.Helper()
	for _, caller := range append(slices.Clone(isolatedTeams), outsider) {
		var others []string
		for _, team := range isolatedTeams {
			if team != caller {
				others = append(others, team)
			}
		}
		m := iso.m.as(iso.callers[caller])
		for _, path := range []string{"keys/", "aliases/", "keys", "aliases"} {
			m.denied(t, "LIST", path, nil)
		}
		for _, other := range others {
			for _, folder := range []string{"keys/", "aliases/"} {
				m.denied(t, "LIST", folder+other+"/", nil)
				m.denied(t, "GET", folder+other+"/?list=true&after=a&detailed=true", nil)
			}
			// A marker of one's own folder opens no other, nor does another's.
			if slices.Contains(isolatedTeams, caller) {
				a, err := m.request(t.Context(), "GET", "keys/"+caller+"/?list=true&after="+other+"/", nil)
				must(t, err)
				iso.quiet(t, caller+" lists after "+other, a.raw, others)
			}
		}
		for _, operation := range []string{"ListKeys", "ListAliases"} {
			folders := []string{"", "/" + caller}
			for _, other := range others {
				folders = append(folders, "/"+other)
			}
			for _, folder := range folders {
				for _, in := range []body{{}, {"Limit": 1}, {"Marker": "b3JkZXIvaGVyZQ", "Limit": 1}} {
					_, raw := iso.endpoint(t, folder, caller, attempt{path: operation, data: in})
					iso.quiet(t, fmt.Sprintf("%s: %s at %q with %v", caller, operation, folder, in), raw, others)
				}
			}
		}
	}
	// A marker that the endpoint gave one team is nothing to another one.
	iso.m.newKey(t, "order/more", hmac256)
	_, raw := iso.endpoint(t, "/order", "order", attempt{path: "ListKeys", data: body{"Limit": 1}})
	var first struct{ NextMarker string }
	must(t, json.Unmarshal([]byte(raw), &first))
	if first.NextMarker == "" {
		t.Fatalf("no marker: %s", raw)
	}
	for _, folder := range []string{"", "/paymt", "/order"} {
		_, raw := iso.endpoint(t, folder, "paymt", attempt{path: "ListKeys", data: body{"Marker": first.NextMarker}})
		iso.quiet(t, "another team's marker at "+folder, raw, []string{"order/", "billg", "more"})
	}
}

// quiet expects that an answer names none of the names with what is theirs.
func (iso *isolation) quiet(t *testing.T, what, raw string, names []string) {
	t.Helper()
	if strings.Contains(raw, "AccessDenied") || strings.Contains(raw, "InvalidMarker") {
		return // with the name that the caller itself gave
	}
	for _, name := range names {
		if strings.Contains(raw, name) || strings.Contains(raw, `"`+noneKey) {
			t.Errorf("%s shows %q: %s", what, name, raw)
		}
	}
}

// owners may do everything with their own: nothing is refused for want of
// permission, so the refusals above were about the caller.
func (iso *isolation) owners(t *testing.T, ways map[string]func(string) []attempt) {
	t.Helper()
	for _, team := range isolatedTeams {
		for way, attempts := range ways {
			for _, a := range attempts(team + "/" + hereKey) {
				o := iso.try(t, team, a)
				if a.path == "ListAliases" || a.path == "Decrypt" || way == "granted" || strings.HasPrefix(a.path, "bulk/") {
					continue // which takes a right to list all, a grant, or a policy of its own; Decrypt is for nobody
				}
				if o.refused(way) {
					t.Errorf("%s: the owner %s may not %s %s %v: %s", way, team, a.method, a.path, a.data, o.text)
				}
			}
		}
	}
}
