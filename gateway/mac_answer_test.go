package gateway

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// macAnswers are answers of Vault's, as they are and as they are not.
var macAnswers = []string{
	`{"request_id":"r","lease_id":"","renewable":false,"lease_duration":0,"data":{"key_id":"k","mac":"AAEC","mac_algorithm":"HMAC_SHA_256"},"wrap_info":null,"warnings":null,"auth":null,"mount_type":""}` + "\n",
	`{"request_id":"r","data":{"key_id":"k","macs":"AAEC,AAED","mac_algorithm":"HMAC_SHA_256"},"warnings":["x"]}`,
	`{"request_id":"r","data":{"key_id":"k","macs_valid":"true,false","key_ids":"k,l"}}`,
	`{"request_id":"r","data":{"key_id":"k","macs":"AAEC,","errors":{"1":{"type":"ValidationException","message":"m"}}}}`,
	`{"request_id":"r","data":{"key_id":"a\u002fb\n","mac_valid":true}}`,
	`{"request_id":"r","data":null}`, `{"data":{"mac":7}}`, `{"data":{"mac":null}}`, `{"mac":"AAEC"}`, `{}`, `[]`, `<html>`, `{"data":{"mac":"AAEC"}`, `{"data":{"mac":"AAEC"}}x`, ``,
}

// FuzzMacAnswer: what the short way of reading an answer takes is JSON.
func FuzzMacAnswer(f *testing.F) {
	for _, answer := range macAnswers {
		f.Add(answer)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		if _, ok := new(macFields).scan([]byte(answer)); ok && !json.Valid([]byte(answer)) {
			t.Fatalf("took what is no JSON: %q", answer)
		}
	})
}

func TestMacAnswers(t *testing.T) {
	scanned := 0
	for _, answer := range macAnswers {
		var got, want macFields
		id, err := got.decode([]byte(answer))
		wantID, wantErr := decodeAnswer([]byte(answer), &want)
		require.Equal(t, wantErr, err, answer)
		require.Equal(t, wantID, id, answer)
		require.Equal(t, want, got, answer)
		if _, ok := new(macFields).scan([]byte(answer)); ok {
			scanned++
		}
	}
	require.Equal(t, 6, scanned, "those without errors, in short or in long")
}

func BenchmarkMacAnswer(b *testing.B) {
	answer := []byte(macAnswers[0])
	for name, decode := range map[string]func(*macFields) (string, error){
		"scan":          func(f *macFields) (string, error) { return f.decode(answer) },
		"encoding/json": func(f *macFields) (string, error) { return decodeAnswer(answer, f) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decode(new(macFields)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What answers at the mount may be another engine, or something in between:
// success alone is no MAC and no verdict.
func TestSuccessIsNoVerdict(t *testing.T) {
	bodies := map[string]string{
		"GenerateMac": `{"KeyId":"k","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256"`,
		"VerifyMac":   `{"KeyId":"k","Message":"aGk=","Mac":"AAEC","MacAlgorithm":"HMAC_SHA_256"`,
	}
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"no content, as of kv":   {204, ""},
		"an empty object":        {200, `{}`},
		"no data":                {200, `{"request_id":"r","data":null,"wrap_info":{"token":"t"}}`},
		"a key alone":            {200, `{"data":{"key_id":"k"}}`},
		"no key":                 {200, `{"data":{"mac":"AAEC","mac_valid":true}}`},
		"not valid":              {200, `{"data":{"key_id":"k","mac":"","mac_valid":false}}`},
		"null":                   {200, `{"data":{"key_id":"k","mac":null,"mac_valid":null}}`},
		"of a batch":             {200, `{"data":{"key_id":"k","macs":"AAEC","macs_valid":"true"}}`},
		"of another type":        {200, `{"data":{"key_id":"k","mac":1,"mac_valid":"true"}}`},
		"a page of a web server": {200, `<html></html>`},
	} {
		for operation, body := range bodies {
			for _, more := range []string{"}", `,"GrantTokens":["t"]}`} {
				t.Run(name+" "+operation+more, func(t *testing.T) {
					f := newFakeVault(t, func(*vaultCall) (int, string) { return answer.status, answer.body })
					w := post(newTestGateway(t, f.URL), "/", operation, body+more)
					require.Equal(t, 500, w.status, w.body)
					require.Contains(t, w.body, "KMSInternalException")
				})
			}
		}
	}
}
