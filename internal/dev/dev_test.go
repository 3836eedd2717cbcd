package dev_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/gateway"
	"vault-plugin-secrets-kms-hmac/internal/dev"
)

// server is an endpoint with the engine in memory behind it.
type server struct {
	t   *testing.T
	url string
}

func start(t *testing.T) *server {
	t.Helper()
	engine, err := dev.New(nil)
	require.NoError(t, err)
	g, err := gateway.New(gateway.Config{
		Vault: engine.Vault(), Mount: dev.Mount, MaxBody: 1 << 20, MaxConcurrency: 100,
		ARNs: gateway.ARNs{Partition: "aws", Region: "us-east-1", Account: "000000000000"},
	})
	require.NoError(t, err)
	s := httptest.NewServer(engine.Handler(gateway.Handler(g, nil)))
	t.Cleanup(s.Close)
	return &server{t, s.URL}
}

func (s *server) send(method, path, body string, header http.Header) (int, string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	require.NoError(s.t, err)
	request.Header = header
	response, err := http.DefaultClient.Do(request)
	require.NoError(s.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return response.StatusCode, strings.TrimSpace(string(text))
}

// kms makes a call of KMS.
func (s *server) kms(path, operation, body string) (int, string) {
	s.t.Helper()
	return s.send(http.MethodPost, path, body, http.Header{
		"X-Amz-Target":  {"TrentService." + operation},
		"Authorization": {"AWS4-HMAC-SHA256 Credential=A/20261122/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00"},
	})
}

// control makes a request to the control, which must answer it so.
func (s *server) control(method, path, body string, status int, answer string) {
	s.t.Helper()
	got, text := s.send(method, "/dev/"+path, body, nil)
	require.Equal(s.t, status, got, text)
	require.Contains(s.t, text, answer)
}

func (s *server) mac(id string) (int, string) {
	s.t.Helper()
	status, text := s.kms("", "GenerateMac", `{"KeyId":"`+id+`","Message":"eA==","MacAlgorithm":"HMAC_SHA_256"}`)
	var answer struct{ Mac string }
	require.NoError(s.t, json.Unmarshal([]byte(text), &answer))
	return status, answer.Mac
}

func macOf(material []byte) string {
	h := hmac.New(sha256.New, material)
	h.Write([]byte("x"))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func TestControlledClock(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.control("GET", "clock", "", 200, `"fixed":false`)
	s.control("PUT", "clock", `{"now":"2026-01-02T03:04:05Z"}`, 200, `{"fixed":true,"now":"2026-01-02T03:04:05Z"}`)
	s.control("PUT", "keys", `{"keys":[{"key_id":"k"}]}`, 200, `{"key_ids":["k"]}`)
	status, _ := s.kms("", "ScheduleKeyDeletion", `{"KeyId":"k","PendingWindowInDays":7}`)
	require.Equal(t, 200, status)
	s.control("PUT", "clock", `{"advance":"167h59m59s"}`, 200, `"now":"2026-01-09T03:04:04Z"`)
	_, text := s.kms("", "DescribeKey", `{"KeyId":"k"}`)
	require.Contains(t, text, `"KeyState":"PendingDeletion"`)
	s.control("PUT", "clock", `{"advance":"1s"}`, 200, "")
	_, text = s.kms("", "DescribeKey", `{"KeyId":"k"}`)
	require.Contains(t, text, "NotFoundException")
	_, text = s.kms("", "ListKeys", `{}`)
	require.Equal(t, `{"Keys":[],"Truncated":false}`, text)
	s.control("DELETE", "clock", "", 200, `"fixed":false`)

	for body, refusal := range map[string]string{
		`{}`: "either now or advance", `{"now":"2026-01-02T03:04:05Z","advance":"1s"}`: "either now or advance",
		`{"now":"1969-12-31T23:59:59Z"}`: "years from 1970", `{"advance":"x"}`: "invalid duration", `{"after":"1s"}`: "unknown field",
		`{"advance":"1s"}{}`: "more than one", `{"advance":"-2562047h"}`: "years from 1970", `nonsense`: "invalid character",
	} {
		s.control("PUT", "clock", body, 400, refusal)
	}
}

// TestClockGoesOn: a clock that was moved, but not set, goes on by itself.
func TestClockGoesOn(t *testing.T) {
	t.Parallel()
	var clock dev.Clock
	require.NoError(t, clock.Advance(24*time.Hour))
	require.NoError(t, clock.Advance(24*time.Hour))
	require.False(t, clock.Fixed())
	first := clock.Now()
	require.WithinDuration(t, time.Now().Add(48*time.Hour), first, time.Minute)
	require.Eventually(t, func() bool { return clock.Now().After(first) }, time.Minute, time.Millisecond)
}

func TestSeed(t *testing.T) {
	t.Parallel()
	s := start(t)
	material := bytes.Repeat([]byte{1}, 32)
	key := `{"key_id":"payments/k","key_spec":"HMAC_256","key_material":"` + base64.StdEncoding.EncodeToString(material) + `",
		"description":"d","tags":{"a":"b"},"multi_region":true,"aliases":["alias/payments/now"]}`
	s.control("PUT", "keys", `{"keys":[`+key+`,{"key_spec":"HMAC_384","disabled":true},{"key_id":"e","origin":"EXTERNAL"}]}`, 200, `{"key_ids":["payments/k","`)
	_, mac := s.mac("alias/payments/now")
	require.Equal(t, macOf(material), mac)
	_, text := s.kms("", "DescribeKey", `{"KeyId":"payments/k"}`)
	require.Contains(t, text, `"MultiRegion":true`)
	_, text = s.kms("", "DescribeKey", `{"KeyId":"e"}`)
	require.Contains(t, text, `"KeyState":"PendingImport"`)

	for body, refusal := range map[string]string{
		`{"keys":[` + key + `]}`:                                              "the key exists",
		`{"keys":[{"key_id":"x","key_material":"AAAA"}]}`:                     "material of 32 bytes is needed",
		`{"keys":[{"key_id":"x","key_material":"AAAA","origin":"EXTERNAL"}]}`: "material is not taken",
		`{"keys":[{"key_material":"AAAA"}]}`:                                  "needs an id",
		`{"keys":[{"key_id":"../x"}]}`:                                        "Invalid keyId",
		`{"keys":[{"key_spec":"RSA_2048"}]}`:                                  "must be one of",
		`{"keys":[{"key_id":"payments/y","aliases":["alias/orders/x"]}]}`:     "folder",
		`{"keys":[{"id":"x"}]}`:                                               "unknown field",
		`{"keys":[` + strings.Repeat(`{},`, 1000) + `{}]}`:                    "at most 1000",
		strings.Repeat(" ", 4<<20) + `{}`:                                     "too large",
	} {
		s.control("PUT", "keys", body, 400, refusal)
	}
	s.control("DELETE", "keys", "", 200, "{}")
	_, text = s.kms("", "ListKeys", `{}`)
	require.Equal(t, `{"Keys":[],"Truncated":false}`, text)
}

// TestMaterialIsTheKeys: material that is given goes to its key, whatever else
// is created at the time.
func TestMaterialIsTheKeys(t *testing.T) {
	t.Parallel()
	s := start(t)
	var wg sync.WaitGroup
	for i := range 20 {
		material := bytes.Repeat([]byte{byte(i)}, 32)
		wg.Go(func() {
			status, text := s.send("PUT", "/dev/keys", fmt.Sprintf(`{"keys":[{"key_id":"k%d","key_material":"%s"}]}`, i, base64.StdEncoding.EncodeToString(material)), nil)
			if status != 200 {
				t.Error(text)
			}
		})
		wg.Go(func() {
			if status, text := s.kms("", "CreateKey", `{"KeySpec":"HMAC_256","KeyUsage":"GENERATE_VERIFY_MAC"}`); status != 200 {
				t.Error(text)
			}
		})
	}
	wg.Wait()
	for i := range 20 {
		_, mac := s.mac(fmt.Sprint("k", i))
		require.Equal(t, macOf(bytes.Repeat([]byte{byte(i)}, 32)), mac)
	}
}

func TestControlledFaults(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.control("PUT", "faults", `{"faults":[{"operation":"ListKeys","error":"ThrottlingException","times":2},{"status":503,"latency":"1ms"}]}`, 200, "")
	status, text := s.kms("", "ListKeys", `{}`)
	require.Equal(t, 400, status)
	require.Equal(t, `{"__type":"ThrottlingException","message":"You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."}`, text)
	s.control("GET", "faults", "", 200, `{"faults":[{"operation":"ListKeys","error":"ThrottlingException","times":1},{"status":503,"latency":"1ms"}]}`)
	status, _ = s.kms("", "ListKeys", `{}`)
	require.Equal(t, 400, status)
	status, text = s.kms("", "ListKeys", `{}`)
	require.Equal(t, 503, status)
	require.Empty(t, text)
	s.control("DELETE", "faults", "", 200, `{"faults":[]}`)
	status, _ = s.kms("", "ListKeys", `{}`)
	require.Equal(t, 200, status)
	s.control("PUT", "faults", `{"faults":[{"latency":"1h"}]}`, 400, "fault 1: latency")
}

// TestControlIsNoFolder: a folder may have the name of the control.
func TestControlIsNoFolder(t *testing.T) {
	t.Parallel()
	s := start(t)
	status, text := s.kms("/dev/keys", "CreateKey", `{"KeySpec":"HMAC_256","KeyUsage":"GENERATE_VERIFY_MAC"}`)
	require.Equal(t, 200, status, text)
	status, _ = s.send("GET", "/dev/nonsense", "", nil)
	require.Equal(t, 404, status)
	status, _ = s.send("GET", "/readyz", "", nil)
	require.Equal(t, 200, status)
}
