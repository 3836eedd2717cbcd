package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// endpoint is a kms-gateway in front of one server.
type endpoint struct {
	process *testvault.Process
	url     string
	metrics string
}

func startEndpoint(ctx context.Context, vault *testvault.Server) (*endpoint, error) {
	program, err := testvault.Build(ctx, testvault.GatewayPackage)
	if err != nil {
		return nil, err
	}
	listen, err := testvault.FreeAddress()
	if err != nil {
		return nil, err
	}
	metrics, err := testvault.FreeAddress()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "-listen", listen, "-metrics-listen", metrics, "-mount", mountPath, "-log-level", "error")
	cmd.Env = vault.Env("")
	process, err := testvault.StartProcess(cmd)
	if err != nil {
		return nil, err
	}
	e := &endpoint{process: process, url: "http://" + listen, metrics: "http://" + metrics + "/metrics"}
	for range 600 {
		if _, err = e.goroutines(ctx); err == nil {
			return e, nil
		}
		wait(ctx, 50*time.Millisecond)
	}
	process.Stop()
	return nil, err
}

// operations are the operations of KMS that clients ask an endpoint for.
var operations = map[string]string{"mac": "GenerateMac", "verify": "VerifyMac", "describe": "DescribeKey"}

// members are what the fields of a request are called in KMS.
var members = map[string]string{"mac_algorithm": "MacAlgorithm", "message": "Message", "mac": "Mac"}

// sendKMS sends what would be a request of Vault's to an endpoint instead, and
// returns its answer as if Vault had given it.
func (q *requester) sendKMS(ctx context.Context, e *endpoint, token, operation, path string, body any, timeout time.Duration) reply {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, id, _ := strings.Cut(path, "/")
	input := map[string]any{"KeyId": id}
	fields, _ := body.(map[string]any)
	for name, value := range fields {
		input[members[name]] = value
	}
	encoded, err := json.Marshal(input)
	if err != nil {
		panic(err) // an input of this package's making
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(encoded))
	if err != nil {
		panic(err) // a URL of this package's making
	}
	req.Header = http.Header{
		"Content-Type":         {"application/x-amz-json-1.1"},
		"X-Amz-Target":         {"TrentService." + operation},
		"X-Amz-Security-Token": {token},
		"Authorization":        {"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00"},
	}
	resp, err := q.http.Do(req)
	if err != nil {
		return failed(err)
	}
	defer resp.Body.Close()
	var answer kmsAnswer
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return failed(err)
	}
	return answer.reply(resp.StatusCode, operation)
}

// kmsAnswer is what an answer of KMS may have.
type kmsAnswer struct {
	Type        string `json:"__type"`
	KeyID       string `json:"KeyId"`
	Mac         string
	KeyMetadata struct{ KeyState string }
}

func (a kmsAnswer) reply(status int, operation string) reply {
	switch {
	case status == http.StatusOK:
		_, id, _ := strings.Cut(a.KeyID, ":key/")
		return reply{status: status, data: map[string]any{"key_id": id, "mac": a.Mac, "key_state": a.KeyMetadata.KeyState}}
	case a.Type == notFound && operation == operations["describe"]:
		return reply{status: status, exception: absent}
	}
	switch a.Type {
	case notFound, isDisabled, invalidState, invalidMac:
		return reply{status: status, exception: a.Type}
	}
	return reply{ending: unknown, status: status, trouble: fmt.Sprintf("endpoint: status %d, %s", status, a.Type)}
}

// goroutines asks the endpoint's metrics.
func (e *endpoint) goroutines(ctx context.Context) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.metrics, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, errors.New("the endpoint does not count its goroutines")
}
