package acceptance

import (
	"bytes"
	"crypto/hmac"
	"encoding/hex"
	"fmt"
	"os/exec"
	"testing"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// messagesPerSpec is how many random messages each spec is tried with.
const messagesPerSpec = 1000

// TestAgreement compares MACs made through Vault, with known key material, to
// those of implementations that have nothing to do with the engine.
func TestAgreement(t *testing.T) {
	t.Parallel()
	testvault.NeedCommands(t, "openssl")
	m := newMount(t)
	for _, s := range specs {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			agreement(t, m, s)
		})
	}
}

func agreement(t *testing.T, m mount, s spec) {
	material := random(s.bytes)
	m.importKey(t, "known/"+s.name, s, material)
	inParallel(t, 4, messagesPerSpec, func(i int) error {
		message := someMessage()
		want := s.mac(material, message)
		if i%100 == 0 {
			if got, err := opensslMac(s, material, message); err != nil || !bytes.Equal(got, want) {
				return fmt.Errorf("openssl: %x, %w; crypto/hmac: %x", got, err, want)
			}
		}
		return m.agrees(t, "known/"+s.name, s, message, want)
	})
}

// agrees has the engine make and verify a MAC whose value is known.
func (m mount) agrees(t *testing.T, key string, s spec, message, want []byte) error {
	data := body{"message": b64(message), "mac_algorithm": s.algorithm}
	a, err := m.request(t.Context(), "POST", "generate-mac/"+key, data)
	if err != nil {
		return err
	}
	if a.status != 200 || a.Data["mac"] != b64(want) {
		return fmt.Errorf("generate-mac: status %d, %v, want %s", a.status, a.Data["mac"], b64(want))
	}
	data["mac"] = b64(want)
	if a, err = m.request(t.Context(), "POST", "verify-mac/"+key, data); err != nil {
		return err
	}
	if a.status != 200 || a.Data["mac_valid"] != true {
		return fmt.Errorf("verify-mac: status %d, %q", a.status, a.Errors)
	}
	return nil
}

// opensslMac computes a MAC with the openssl command.
func opensslMac(s spec, key, message []byte) ([]byte, error) {
	cmd := exec.Command("openssl", "dgst", "-"+s.digest, "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(key), "-binary")
	cmd.Stdin = bytes.NewReader(message)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("these tests need the openssl command: %w\n%s", err, stderr.Bytes())
	}
	return out, nil
}

// vector is a test case of RFC 4231.
type vector struct {
	name         string
	key, message []byte
	macs         map[string]string // by key spec, in hexadecimal
	truncated    int               // bytes of the MAC that the RFC prints; 0 for all
}

func repeated(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

// rfc4231 are the seven test cases of RFC 4231, section 4.
var rfc4231 = []vector{
	{name: "1", key: repeated(0x0b, 20), message: []byte("Hi There"), macs: map[string]string{
		"HMAC_224": "896fb1128abbdf196832107cd49df33f47b4b1169912ba4f53684b22",
		"HMAC_256": "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
		"HMAC_384": "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
		"HMAC_512": "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
	}},
	{name: "2", key: []byte("Jefe"), message: []byte("what do ya want for nothing?"), macs: map[string]string{
		"HMAC_224": "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44",
		"HMAC_256": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
		"HMAC_384": "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
		"HMAC_512": "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
	}},
	{name: "3", key: repeated(0xaa, 20), message: repeated(0xdd, 50), macs: map[string]string{
		"HMAC_224": "7fb3cb3588c6c1f6ffa9694d7d6ad2649365b0c1f65d69d1ec8333ea",
		"HMAC_256": "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
		"HMAC_384": "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b2a5ab39dc13814b94e3ab6e101a34f27",
		"HMAC_512": "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb",
	}},
	{name: "4", key: []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19"), message: repeated(0xcd, 50), macs: map[string]string{
		"HMAC_224": "6c11506874013cac6a2abc1bb382627cec6a90d86efc012de7afec5a",
		"HMAC_256": "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
		"HMAC_384": "3e8a69b7783c25851933ab6290af6ca77a9981480850009cc5577c6e1f573b4e6801dd23c4a7d679ccf8a386c674cffb",
		"HMAC_512": "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3dba91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd",
	}},
	{name: "5", key: repeated(0x0c, 20), message: []byte("Test With Truncation"), truncated: 16, macs: map[string]string{
		"HMAC_224": "0e2aea68a90c8d37c988bcdb9fca6fa8",
		"HMAC_256": "a3b6167473100ee06e0c796c2955552b",
		"HMAC_384": "3abf34c3503b2a23a46efc619baef897",
		"HMAC_512": "415fad6271580a531d4179bc891d87a6",
	}},
	{name: "6", key: repeated(0xaa, 131), message: []byte("Test Using Larger Than Block-Size Key - Hash Key First"), macs: map[string]string{
		"HMAC_224": "95e9a0db962095adaebe9b2d6f0dbce2d499f112f2d2b7273fa6870e",
		"HMAC_256": "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
		"HMAC_384": "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952",
		"HMAC_512": "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
	}},
	{name: "7", key: repeated(0xaa, 131), message: []byte("This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm."), macs: map[string]string{
		"HMAC_224": "3a854166ac5d9f023f54d517d0b39dbd946770db9c2b95c9f6f565d1",
		"HMAC_256": "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
		"HMAC_384": "6617178e941f020d351e2f254e8fd32c602420feb0b8fb9adccebb82461e99c5a678cc31e799176d3860e6110c46523e",
		"HMAC_512": "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58",
	}},
}

// TestRFC4231 imports the keys of RFC 4231. None has a length that KMS takes, but
// HMAC knows keys only up to what RFC 2104 makes of them before use: a short one
// equals itself followed by zeros, and one longer than the block equals its hash.
func TestRFC4231(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, v := range rfc4231 {
		t.Run("case "+v.name, func(t *testing.T) {
			t.Parallel()
			for _, s := range specs {
				id := "rfc4231/" + v.name + "/" + s.name
				m.importKey(t, id, s, s.legalEqual(v.key))
				got := hex.EncodeToString(unb64(t, m.mac(t, id, s, v.message)))
				if v.truncated > 0 {
					got = got[:2*v.truncated]
				}
				if got != v.macs[s.name] {
					t.Errorf("%s: got %s, want %s", s.name, got, v.macs[s.name])
				}
			}
		})
	}
}

// legalEqual returns a key of a length that may be imported and that HMAC does
// not tell from the given one.
func (s spec) legalEqual(key []byte) []byte {
	h := s.hash()
	if len(key) > h.BlockSize() {
		h.Write(key)
		return h.Sum(nil)
	}
	return append(key[:len(key):len(key)], make([]byte, s.bytes-len(key))...)
}

// TestImportedLengths imports the shortest and the longest key material of each
// spec. The longest of HMAC_224 and HMAC_256 is longer than the hash's block, so
// that it is hashed first.
func TestImportedLengths(t *testing.T) {
	t.Parallel()
	testvault.NeedCommands(t, "openssl")
	m := newMount(t)
	for _, s := range specs {
		for _, length := range []int{s.bytes, 65, 127, 128} {
			if length < s.bytes {
				continue
			}
			id, material, message := fmt.Sprintf("lengths/%s-%d", s.name, length), random(length), someMessage()
			m.importKey(t, id, s, material)
			want := s.mac(material, message)
			must(t, m.agrees(t, id, s, message, want))
			if other, err := opensslMac(s, material, message); err != nil || !hmac.Equal(other, want) {
				t.Errorf("openssl: %x, %v; crypto/hmac: %x", other, err, want)
			}
		}
		for _, length := range []int{1, s.bytes - 1, 129} {
			id := fmt.Sprintf("lengths/%s-%d", s.name, length)
			m.write(t, "keys/"+id, body{"key_spec": s.name, "origin": "EXTERNAL"})
			token, wrapped := m.wrap(t, id, random(length))
			m.refused(t, "InvalidCiphertextException", "import-key-material/"+id, body{
				"import_token": token, "encrypted_key_material": wrapped, "expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE",
			})
			holds(t, m.read(t, "keys/"+id), body{"key_state": "PendingImport"})
		}
	}
}
