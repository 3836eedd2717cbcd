package dev

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin/pb"
)

// RoundTrip answers a request of the endpoint's as a Vault does that has the
// engine at Mount, and a root token for every caller.
func (e *Engine) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	status, answer := e.answer(r, body)
	if answer == nil {
		answer = []byte{}
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status),
		Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor,
		Header:        http.Header{"Content-Type": {"application/json"}},
		ContentLength: int64(len(answer)),
		Body:          io.NopCloser(bytes.NewReader(answer)),
		Request:       r,
	}, nil
}

func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	defer r.Body.Close()
	return io.ReadAll(r.Body) // the endpoint limits what it sends
}

func (e *Engine) answer(r *http.Request, body []byte) (int, []byte) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	data, err := dataOf(r, body)
	if err != nil {
		return failed(http.StatusBadRequest, err, nil)
	}
	switch rest, ok := strings.CutPrefix(path, Mount+"/"); {
	case ok:
		return e.handle(r.Context(), r.Method, rest, r.Header.Get("X-Vault-Token"), data)
	case path == "sys/health":
		return http.StatusOK, []byte("{}")
	case path == "sys/tools/random":
		return randomBytes(data)
	}
	return failed(http.StatusNotFound, errors.New("there is no Vault here, only the engine at "+Mount+"/"), nil)
}

// dataOf returns the data of a request: of its body where it has one, else of
// its query.
func dataOf(r *http.Request, body []byte) (map[string]any, error) {
	if len(body) == 0 {
		return dataOfValues(r.URL.Query()), nil
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form, err := url.ParseQuery(string(body))
		return dataOfValues(form), err
	}
	data := map[string]any{}
	return data, json.Unmarshal(body, &data)
}

func dataOfValues(values url.Values) map[string]any {
	data := make(map[string]any, len(values))
	for name, list := range values {
		if len(list) == 1 {
			data[name] = list[0]
		} else {
			data[name] = list
		}
	}
	return data
}

// handle has the engine handle a request.
func (e *Engine) handle(ctx context.Context, method, path, token string, data map[string]any) (int, []byte) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.handleLocked(ctx, method, path, token, data)
}

// handleLocked is handle for those who hold mu, whether for reading or for
// writing.
func (e *Engine) handleLocked(ctx context.Context, method, path, token string, data map[string]any) (int, []byte) {
	req := &logical.Request{
		ID: uuid.NewString(), Path: path, Data: data, Storage: e.storage, MountPoint: Mount + "/",
		// The token names the caller, in grants for example.
		ClientToken: token, EntityID: token, DisplayName: "dev",
	}
	if err := e.operation(ctx, method, req); err != nil {
		return respond(req, nil, err)
	}
	resp, err := e.backend.HandleRequest(ctx, req)
	return respond(req, resp, err)
}

// operation sets the operation of a request, for which Vault asks the engine
// whether a write creates or updates.
func (e *Engine) operation(ctx context.Context, method string, req *logical.Request) error {
	switch method {
	case http.MethodGet:
		req.Operation = logical.ReadOperation
		if list, ok := req.Data["list"]; ok {
			delete(req.Data, "list")
			if list == "true" {
				req.Operation = logical.ListOperation
			}
		}
	case "LIST":
		req.Operation = logical.ListOperation
	case http.MethodDelete:
		req.Operation = logical.DeleteOperation
	case http.MethodPatch:
		req.Operation = logical.PatchOperation
	case http.MethodPost, http.MethodPut:
		req.Operation = logical.UpdateOperation
		found, exists, err := e.backend.HandleExistenceCheck(ctx, req)
		if err == nil && found && !exists {
			req.Operation = logical.CreateOperation
		}
		return err
	default:
		return logical.ErrUnsupportedOperation
	}
	return nil
}

// respond turns what the engine returns into what Vault answers, with the
// sdk's own rules, and errors as they arrive from a plugin.
func respond(req *logical.Request, resp *logical.Response, err error) (int, []byte) {
	err = pb.ProtoErrToErr(pb.ErrToProtoErr(err))
	status, err := logical.RespondErrorCommon(req, resp, err)
	if status != 0 || err != nil {
		var data any
		if resp != nil {
			data = resp.Data["data"]
		}
		return failed(status, err, data)
	}
	if resp == nil {
		return http.StatusNoContent, nil
	}
	answer := map[string]any{"request_id": req.ID, "data": resp.Data}
	if len(resp.Warnings) > 0 {
		answer["warnings"] = resp.Warnings
	}
	return encoded(http.StatusOK, answer)
}

var errPermissionDenied = errors.New("1 error occurred:\n\t* permission denied\n\n")

func failed(status int, err error, data any) (int, []byte) {
	logical.AdjustErrorStatusCode(&status, err)
	if status == http.StatusForbidden {
		// As Vault says it of those who may not, and not of those who have no
		// token: here nobody needs one.
		err = errPermissionDenied
	}
	answer := map[string]any{"errors": []string{}}
	if err != nil {
		answer["errors"] = []string{err.Error()}
	}
	if data != nil {
		answer["data"] = data
	}
	return encoded(status, answer)
}

func encoded(status int, answer any) (int, []byte) {
	text, err := json.Marshal(answer)
	if err != nil {
		return http.StatusInternalServerError, []byte(`{"errors":["the answer cannot be encoded"]}`)
	}
	return status, text
}

// maxRandom is Vault's own limit on random bytes.
const maxRandom = 128 << 10

// randomBytes answers Vault's sys/tools/random.
func randomBytes(data map[string]any) (int, []byte) {
	n, ok := data["bytes"].(float64)
	if !ok || n < 1 || n > maxRandom {
		return failed(http.StatusBadRequest, fmt.Errorf("bytes must be from 1 to %d", maxRandom), nil)
	}
	b := make([]byte, int(n))
	if _, err := rand.Read(b); err != nil {
		return failed(http.StatusInternalServerError, err, nil)
	}
	return encoded(http.StatusOK, map[string]any{"data": map[string]any{"random_bytes": base64.StdEncoding.EncodeToString(b)}})
}
