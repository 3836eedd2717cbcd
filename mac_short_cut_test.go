package kmshmac

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin/pb"
	"github.com/stretchr/testify/require"
)

// TestShortCut shows what the sdk's server gets to see of a request.
func TestShortCut(t *testing.T) {
	t.Parallel()
	const flat = `{"mac_algorithm":"HMAC_SHA_256","message":"aGVsbG8="}`
	const nested = `{"batch_input":[{"message":"aGVsbG8="}],"mac_algorithm":"HMAC_SHA_256"}`
	tests := map[string]struct {
		path, data string
		check      string // what is left of the data for the existence check
		request    string // and for the request
		handed     fields // what HandleRequest finds in the context
	}{
		"generate": {"generate-mac/k", flat, noData, noData, fields{"mac_algorithm": "HMAC_SHA_256", "message": "aGVsbG8="}},
		"verify":   {"verify-mac/k", `{"mac":""}`, noData, noData, fields{"mac": ""}},
		"a batch":  {"generate-mac/k", nested, noData, nested, nil},
		"null":     {"generate-mac/k", "null", noData, "null", nil},
		"a key":    {"keys/k", `{"description":"d"}`, `{"description":"d"}`, `{"description":"d"}`, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var left string
			var handed fields
			handler := func(ctx context.Context, message any) (any, error) {
				left = message.(interface{ GetRequest() *pb.Request }).GetRequest().Data
				if x := exchangeOf(ctx); x != nil {
					handed = x.data
				}
				return nil, nil
			}
			request := func() *pb.Request { return &pb.Request{Operation: "update", Path: test.path, Data: test.data} }

			_, err := shortCut(t.Context(), &pb.HandleExistenceCheckArgs{Request: request()}, nil, handler)
			require.NoError(t, err)
			require.Equal(t, test.check, left)
			require.Nil(t, handed)

			_, err = shortCut(t.Context(), &pb.HandleRequestArgs{Request: request()}, nil, handler)
			require.NoError(t, err)
			require.Equal(t, test.request, left)
			require.Equal(t, test.handed, handed)
		})
	}
}

// TestShortCutAnswers shows what Vault gets of an answer whose texts took the
// short cut.
func TestShortCutAnswers(t *testing.T) {
	t.Parallel()
	args := &pb.HandleRequestArgs{Request: &pb.Request{Operation: "update", Path: "generate-mac/k", Data: noData}}
	tests := map[string]struct {
		handed fields
		sent   string // what the sdk makes of the data that is left
		want   string
	}{
		"one text":  {fields{"key_id": "k", "macs": plainText("AA==,AQ==")}, `{"key_id":"k"}`, `{"macs":"AA==,AQ==","key_id":"k"}`},
		"two texts": {fields{"key_id": "k", "macs_valid": plainText("true"), "key_ids": plainText("k")}, `{"key_id":"k"}`, `{"macs_valid":"true","key_ids":"k","key_id":"k"}`},
		"no text":   {fields{"key_id": "k", "mac": "AA=="}, `{"key_id":"k","mac":"AA=="}`, `{"key_id":"k","mac":"AA=="}`},
		"failed":    {fields{"macs": plainText("AA==")}, "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reply, err := shortCut(t.Context(), args, nil, func(ctx context.Context, _ any) (any, error) {
				exchangeOf(ctx).takeTexts(&logical.Response{Data: test.handed})
				for _, value := range test.handed {
					require.IsType(t, "", value)
				}
				if test.sent == "" {
					return &pb.HandleRequestReply{}, nil
				}
				return &pb.HandleRequestReply{Response: &pb.Response{Data: test.sent}}, nil
			})
			require.NoError(t, err)
			if data := reply.(*pb.HandleRequestReply).GetResponse().GetData(); test.want != "" {
				require.JSONEq(t, test.want, data)
			} else {
				require.Empty(t, data)
			}
		})
	}

	// Where nothing is in front of the sdk's server, texts are strings.
	resp := &logical.Response{Data: fields{"macs": plainText("AA==")}}
	exchangeOf(t.Context()).takeTexts(resp)
	require.Equal(t, fields{"macs": "AA=="}, resp.Data)
}

// FuzzFlatObject holds what flatObject takes against encoding/json, by which
// Vault and the plugin agree on everything else.
func FuzzFlatObject(f *testing.F) {
	for _, seed := range []string{
		`{"mac_algorithm":"HMAC_SHA_256","message":"aGVsbG8="}`, `{"a":"b","a":"c"}`, `{"":""}`, `{}`, `{"a":"\u0062"}`,
		`{"a":"b"} `, `{"a":"b",}`, `{"a" :"b"}`, `{"a":1}`, `{"a":"b"`, `{"a":"é"}`, "{\"a\":\"\t\"}", `{"a":"b"}{`, ``,
		`{"a\":"b"}`, `{"a":"b\"}`, `{"a":{"messages":"b"}}`, `[{"a":"b"}]`, "{\"a\":\"\x7f\"}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		object, ok := flatObject(data)
		if !ok {
			return
		}
		var want map[string]any
		require.NoError(t, json.Unmarshal([]byte(data), &want))
		require.Equal(t, want, object)
	})
}
