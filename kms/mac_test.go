package kms

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// rfc4231 are the test cases of https://www.rfc-editor.org/rfc/rfc4231,
// section 4. The MACs of case 5 are truncated there.
var rfc4231 = []struct {
	name    string
	key     []byte
	message []byte
	macs    map[KeySpec]string
}{
	{
		name: "case 1", key: bytes.Repeat([]byte{0x0b}, 20), message: []byte("Hi There"),
		macs: map[KeySpec]string{
			HMAC224: "896fb1128abbdf196832107cd49df33f47b4b1169912ba4f53684b22",
			HMAC256: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
			HMAC384: "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
			HMAC512: "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
		},
	},
	{
		name: "case 2: a key shorter than the MAC", key: []byte("Jefe"), message: []byte("what do ya want for nothing?"),
		macs: map[KeySpec]string{
			HMAC224: "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44",
			HMAC256: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
			HMAC384: "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
			HMAC512: "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
		},
	},
	{
		name: "case 3", key: bytes.Repeat([]byte{0xaa}, 20), message: bytes.Repeat([]byte{0xdd}, 50),
		macs: map[KeySpec]string{
			HMAC224: "7fb3cb3588c6c1f6ffa9694d7d6ad2649365b0c1f65d69d1ec8333ea",
			HMAC256: "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
			HMAC384: "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b2a5ab39dc13814b94e3ab6e101a34f27",
			HMAC512: "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb",
		},
	},
	{
		name: "case 4", key: mustHex("0102030405060708090a0b0c0d0e0f10111213141516171819"), message: bytes.Repeat([]byte{0xcd}, 50),
		macs: map[KeySpec]string{
			HMAC224: "6c11506874013cac6a2abc1bb382627cec6a90d86efc012de7afec5a",
			HMAC256: "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
			HMAC384: "3e8a69b7783c25851933ab6290af6ca77a9981480850009cc5577c6e1f573b4e6801dd23c4a7d679ccf8a386c674cffb",
			HMAC512: "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3dba91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd",
		},
	},
	{
		name: "case 5: truncated", key: bytes.Repeat([]byte{0x0c}, 20), message: []byte("Test With Truncation"),
		macs: map[KeySpec]string{
			HMAC224: "0e2aea68a90c8d37c988bcdb9fca6fa8",
			HMAC256: "a3b6167473100ee06e0c796c2955552b",
			HMAC384: "3abf34c3503b2a23a46efc619baef897",
			HMAC512: "415fad6271580a531d4179bc891d87a6",
		},
	},
	{
		name: "case 6: a key longer than a block", key: bytes.Repeat([]byte{0xaa}, 131),
		message: []byte("Test Using Larger Than Block-Size Key - Hash Key First"),
		macs: map[KeySpec]string{
			HMAC224: "95e9a0db962095adaebe9b2d6f0dbce2d499f112f2d2b7273fa6870e",
			HMAC256: "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
			HMAC384: "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952",
			HMAC512: "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
		},
	},
	{
		name: "case 7: key and data longer than a block", key: bytes.Repeat([]byte{0xaa}, 131),
		message: []byte("This is a test using a larger than block-size key and a larger than block-size data. " +
			"The key needs to be hashed before being used by the HMAC algorithm."),
		macs: map[KeySpec]string{
			HMAC224: "3a854166ac5d9f023f54d517d0b39dbd946770db9c2b95c9f6f565d1",
			HMAC256: "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
			HMAC384: "6617178e941f020d351e2f254e8fd32c602420feb0b8fb9adccebb82461e99c5a678cc31e799176d3860e6110c46523e",
			HMAC512: "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58",
		},
	},
}

func TestMacKeyComputesTheVectorsOfRFC4231(t *testing.T) {
	t.Parallel()
	for _, test := range rfc4231 {
		for spec, want := range test.macs {
			t.Run(test.name+"/"+string(spec), func(t *testing.T) {
				t.Parallel()
				key := NewMacKey(spec, test.key)
				mac := key.Append(nil, test.message)
				require.Len(t, mac, spec.Bytes())
				require.True(t, strings.HasPrefix(hex.EncodeToString(mac), want))
				require.True(t, key.Verify(test.message, mac))
			})
		}
	}
}

func TestMacKeyAgreesWithRFC2104(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		spec := rapid.SampledFrom(HMACSpecs()).Draw(t, "spec")
		material := rapid.SliceOfN(rapid.Byte(), 1, MaxMaterialBytes).Draw(t, "material")
		message := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "message")
		want := rfc2104(spec, material, message)

		key := NewMacKey(spec, bytes.Clone(material))
		require.Equal(t, want, key.Append(nil, message))
		require.Equal(t, append([]byte("before"), want...), key.Append([]byte("before"), message))
		require.True(t, key.Verify(message, want))
	})
}

// rfc2104 is the definition, spelled out.
func rfc2104(spec KeySpec, material, message []byte) []byte {
	hashes := map[KeySpec]func() hash.Hash{
		HMAC224: sha256.New224, HMAC256: sha256.New, HMAC384: sha512.New384, HMAC512: sha512.New,
	}
	sum := func(parts ...[]byte) []byte {
		h := hashes[spec]()
		h.Write(bytes.Join(parts, nil))
		return h.Sum(nil)
	}
	blockSize := hashes[spec]().BlockSize()
	if len(material) > blockSize {
		material = sum(material)
	}
	block := make([]byte, blockSize)
	copy(block, material)
	pad := func(with byte) []byte {
		padded := bytes.Clone(block)
		for i := range padded {
			padded[i] ^= with
		}
		return padded
	}
	return sum(pad(0x5c), sum(pad(0x36), message))
}

func TestVerifyRefusesEveryOtherMac(t *testing.T) {
	t.Parallel()
	for _, spec := range HMACSpecs() {
		t.Run(string(spec), func(t *testing.T) {
			t.Parallel()
			key := NewMacKey(spec, bytes.Repeat([]byte{1}, spec.Bytes()))
			message := []byte("message")
			mac := key.Append(nil, message)
			for i := range len(mac) * 8 {
				wrong := bytes.Clone(mac)
				wrong[i/8] ^= 1 << (i % 8)
				require.False(t, key.Verify(message, wrong), "bit %d", i)
			}
			require.False(t, key.Verify(message, mac[:len(mac)-1]), "too short")
			require.False(t, key.Verify(message, append(bytes.Clone(mac), 0)), "too long")
			require.False(t, key.Verify(message, nil), "nothing")
			require.False(t, key.Verify([]byte("massage"), mac), "another message")
			require.True(t, key.Verify(message, mac), "the right one, after all the wrong ones")
		})
	}
}

// More goroutines than a MacKey keeps states, so that they take, set up and
// release them all the time.
func TestMacKeyIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	material := bytes.Repeat([]byte{7}, 48)
	key := NewMacKey(HMAC384, material)
	var group sync.WaitGroup
	for worker := range 16 {
		group.Go(func() {
			message := []byte{byte(worker)}
			reference := hmac.New(sha512.New384, material)
			reference.Write(message)
			want := reference.Sum(nil)
			for range 200 {
				if got := key.Append(nil, message); !bytes.Equal(got, want) {
					t.Errorf("worker %d: wrong MAC", worker)
				}
				if !key.Verify(message, want) || key.Verify([]byte("another"), want) {
					t.Errorf("worker %d: wrong verdict", worker)
				}
			}
		})
	}
	group.Wait()
}

func TestSpecs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		spec      KeySpec
		isHMAC    bool
		bytes     int
		algorithm MacAlgorithm
	}{
		{"224", "HMAC_224", true, 28, "HMAC_SHA_224"},
		{"256", "HMAC_256", true, 32, "HMAC_SHA_256"},
		{"384", "HMAC_384", true, 48, "HMAC_SHA_384"},
		{"512", "HMAC_512", true, 64, "HMAC_SHA_512"},
		{"symmetric", SymmetricDefault, false, 0, ""},
		{"lower case", "hmac_256", false, 0, ""},
		{"none", "", false, 0, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.isHMAC, test.spec.IsHMAC())
			require.Equal(t, test.bytes, test.spec.Bytes())
			require.Equal(t, test.algorithm, test.spec.MacAlgorithm())
			require.Equal(t, test.isHMAC, IsMacAlgorithm(string(test.spec.MacAlgorithm())))
		})
	}
	require.Equal(t, []KeySpec{HMAC224, HMAC256, HMAC384, HMAC512}, HMACSpecs())
	require.Equal(t, []MacAlgorithm{HMACSHA224, HMACSHA256, HMACSHA384, HMACSHA512}, MacAlgorithms())
}

func mustHex(text string) []byte {
	raw, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return raw
}
