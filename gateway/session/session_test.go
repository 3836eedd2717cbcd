package session

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"vault-plugin-secrets-kms-hmac/gateway/sigv4"
)

var now = time.Date(2026, 11, 25, 18, 0, 0, 0, time.UTC)

func newSealer(t *testing.T, source Source, audience string) *Sealer {
	t.Helper()
	s, err := NewSealer(t.Context(), source, audience)
	require.NoError(t, err)
	return s
}

func sealOne(t *testing.T, s *Sealer) (string, *Session) {
	t.Helper()
	session := New("hvs.secret", "payments", "entity", false, now.Add(time.Hour))
	token, err := s.Seal(session)
	require.NoError(t, err)
	return token, session
}

func keyFile(t *testing.T, keys ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	writeKeys(t, path, keys...)
	return path
}

func writeKeys(t *testing.T, path string, keys ...string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte("# the first one seals\n\n"+strings.Join(keys, "\n")+"\n"), 0o600))
}

var (
	keyA = strings.Repeat("a1", KeySize)
	keyB = strings.Repeat("b2", KeySize)
)

// unpause lets the source be read again at once.
func (s *Sealer) unpause() {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	s.keys.last = time.Time{}
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	s := newSealer(t, RandomKey(), "place")
	token, session := sealOne(t, s)
	require.True(t, IsSealed(token))
	require.NotContains(t, token, "hvs.secret")
	require.Regexp(t, `^ASIA[A-Z2-7]{16}$`, session.AccessKey)
	require.Len(t, session.Secret, 40)
	for range 2 { // opened, then remembered
		got, err := s.Open(t.Context(), token, now)
		require.NoError(t, err)
		require.Equal(t, session.VaultToken, got.VaultToken)
		require.Equal(t, session.Secret, got.Secret)
		require.Equal(t, session.AccessKey, got.AccessKey)
		require.Equal(t, []string{"payments", "entity"}, []string{got.Role, got.Entity})
	}
	_, err := s.Open(t.Context(), token, now.Add(time.Hour))
	require.ErrorIs(t, err, ErrExpired)
	_, other := sealOne(t, s)
	require.NotEqual(t, session.Secret, other.Secret)
	require.NotEqual(t, session.AccessKey, other.AccessKey)
}

func TestOtherEndpointsOpenNothing(t *testing.T) {
	t.Parallel()
	path := keyFile(t, keyA)
	token, _ := sealOne(t, newSealer(t, KeyFile(path), "place"))
	_, err := newSealer(t, KeyFile(path), "place").Open(t.Context(), token, now)
	require.NoError(t, err, "another instance")
	_, err = newSealer(t, KeyFile(path), "elsewhere").Open(t.Context(), token, now)
	require.ErrorIs(t, err, ErrInvalid)
	_, err = newSealer(t, RandomKey(), "place").Open(t.Context(), token, now)
	require.ErrorIs(t, err, ErrInvalid)
}

// TestAnyChangeIsRefused changes a token in all ways that leave another text.
func TestAnyChangeIsRefused(t *testing.T) {
	t.Parallel()
	s := newSealer(t, RandomKey(), "place")
	token, _ := sealOne(t, s)
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(len(Prefix), len(token)-1).Draw(t, "at")
		changed := rapid.OneOf(
			rapid.Map(rapid.SampledFrom([]string{"A", "z", "_", "=", "\n", "+"}), func(c string) string { return token[:at] + c + token[at+1:] }),
			rapid.Just(token[:at]),
			rapid.Just(token+"A"),
			rapid.Just(token+"="),
			rapid.Just(token[:at]+"A"+token[at:]),
		).Draw(t, "token")
		if changed == token {
			t.Skip()
		}
		_, err := s.Open(context.Background(), changed, now)
		require.ErrorIs(t, err, ErrInvalid)
	})
	for _, text := range []string{"", Prefix, "hvs.secret", Prefix + strings.Repeat("A", maxToken), Prefix + "AAAA", Prefix + strings.Repeat("A", 64)} {
		_, err := s.Open(t.Context(), text, now)
		require.ErrorIs(t, err, ErrInvalid)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	path := keyFile(t, keyA)
	s, other := newSealer(t, KeyFile(path), ""), newSealer(t, KeyFile(path), "")
	old, _ := sealOne(t, s)
	writeKeys(t, path, keyB, keyA)
	require.NoError(t, s.Reload(t.Context()))
	young, _ := sealOne(t, s)
	for _, token := range []string{old, young} {
		_, err := s.Open(t.Context(), token, now)
		require.NoError(t, err)
	}

	_, err := other.Open(t.Context(), young, now)
	require.ErrorIs(t, err, ErrInvalid, "it has just read its keys")
	other.unpause()
	_, err = other.Open(t.Context(), young, now)
	require.NoError(t, err, "a key that is not known is looked for")

	_, err = s.Open(t.Context(), old, now)
	require.NoError(t, err)
	writeKeys(t, path, keyB)
	require.NoError(t, s.Reload(t.Context()))
	_, err = s.Open(t.Context(), old, now)
	require.ErrorIs(t, err, ErrInvalid, "even if it was remembered")
}

// TestWhoGoesAwayEndsNoReading has a caller with a key that nobody knows go away
// while the keys are read, as a hostile one would all the time.
func TestWhoGoesAwayEndsNoReading(t *testing.T) {
	t.Parallel()
	current := keyA
	s := newSealer(t, func(ctx context.Context) ([][]byte, error) {
		key, _ := hex.DecodeString(current)
		return [][]byte{key}, ctx.Err()
	}, "")
	current = keyB
	token, _ := sealOne(t, newSealer(t, KeyFile(keyFile(t, keyB)), ""))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	s.unpause()
	_, err := s.Open(gone, Prefix+strings.Repeat("A", 80), now)
	require.ErrorIs(t, err, ErrInvalid)
	_, err = s.Open(t.Context(), token, now)
	require.NoError(t, err)
}

func TestBadKeysLeaveTheOldOnes(t *testing.T) {
	t.Parallel()
	path := keyFile(t, keyA)
	s := newSealer(t, KeyFile(path), "")
	token, _ := sealOne(t, s)
	for _, bad := range [][]string{{}, {"zz"}, {keyA[:62]}, {keyA, "x"}, make17()} {
		writeKeys(t, path, bad...)
		err := s.Reload(t.Context())
		require.Error(t, err)
		require.NotContains(t, err.Error(), keyA[:10])
		_, err = s.Open(t.Context(), token, now)
		require.NoError(t, err)
	}
	_, err := NewSealer(t.Context(), KeyFile(filepath.Join(t.TempDir(), "none")), "")
	require.ErrorContains(t, err, "reading the sealing keys")
}

func make17() (keys []string) {
	for i := range byte(MaxKeys + 1) {
		keys = append(keys, strings.Repeat(hex.EncodeToString([]byte{i}), KeySize))
	}
	return keys
}

func TestDerivedKeys(t *testing.T) {
	t.Parallel()
	secret := map[string]string{"alias/sealing": "the first key", "alias/before": "the second key"}
	mac := func(_ context.Context, name string, message []byte) ([]byte, error) {
		if secret[name] == "" {
			return nil, errors.New("no such key")
		}
		h := hmac.New(sha256.New, []byte(secret[name]+" of the mount"))
		h.Write(message)
		return h.Sum(nil), nil
	}
	s := newSealer(t, DerivedKeys([]string{"alias/sealing", "alias/before"}, mac), "")
	token, _ := sealOne(t, s)
	secret["alias/before"], secret["alias/sealing"] = secret["alias/sealing"], "the third key"
	require.NoError(t, s.Reload(t.Context()))
	_, err := s.Open(t.Context(), token, now)
	require.NoError(t, err)
	delete(secret, "alias/before")
	require.ErrorContains(t, s.Reload(t.Context()), `"alias/before": no such key`)
	_, err = NewSealer(t.Context(), DerivedKeys([]string{"short"}, func(context.Context, string, []byte) ([]byte, error) {
		return make([]byte, 28), nil
	}), "")
	require.ErrorContains(t, err, "at least 32 bytes")
}

func TestSigningKeyIsOfTheSignature(t *testing.T) {
	t.Parallel()
	session := New("t", "r", "e", true, now)
	for _, date := range []string{"20261125", "20261126", "20261125"} {
		for _, service := range []string{"kms", "sts"} {
			signature := &sigv4.Signature{Date: date, Region: "us-east-1", Service: service}
			require.Equal(t, signature.NewKey(session.Secret), session.Key(signature))
			require.Equal(t, signature.NewKey(session.Secret), session.Key(signature))
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	s, err := NewSealer(b.Context(), RandomKey(), "")
	require.NoError(b, err)
	token, err := s.Seal(New(strings.Repeat("t", 95), "payments", "2a7b5a0e-0b1c-4a43-9d0e-3f1f7f3a1b11", false, now.Add(time.Hour)))
	require.NoError(b, err)
	b.Run("remembered", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Open(b.Context(), token, now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.open(b.Context(), token); err != nil {
				b.Fatal(err)
			}
		}
	})
}
