package kmshmac

import (
	"context"
	"encoding/base64"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

const (
	generateMacPath = "generate-mac/"
	grantedPath     = "granted/"
)

func (b *backend) pathMac() []*framework.Path {
	return []*framework.Path{{
		Pattern: generateMacPath + `(?P<key>.+)`,
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationVerb: "generate", OperationSuffix: "mac",
		},
		Fields:          merge(macKeyField(), generateFields()),
		Operations:      b.macOperations("mac", "Generate the MAC of a message (GenerateMac).", generateSchema()),
		HelpSynopsis:    "Generate the MAC of a message (GenerateMac).",
		HelpDescription: strings.TrimSpace(generateMacHelp),
	}}
}

// macOperations are the operations of a path for MACs: a PATCH is answered as
// a POST or PUT is. It is here because it is faster: Vault asks a plugin twice
// for the others, and the first time is only about whether they create.
func (b *backend) macOperations(suffix, summary string, schema map[string]*framework.FieldSchema) map[logical.Operation]framework.OperationHandler {
	callback := func(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
		task, ok := macTaskOf(req.Path)
		if !ok {
			return nil, logical.ErrUnsupportedPath
		}
		return b.serveMac(ctx, req, task)
	}
	return map[logical.Operation]framework.OperationHandler{
		logical.UpdateOperation: &framework.PathOperation{
			Callback: callback, Summary: summary, Responses: responds(200, "OK", schema),
		},
		logical.PatchOperation: &framework.PathOperation{
			Callback: callback, Summary: summary + " In one round trip.", Responses: responds(200, "OK", schema),
			DisplayAttrs: &framework.DisplayAttributes{OperationSuffix: suffix + "-in-one-round-trip"},
		},
	}
}

func isMacOperation(op logical.Operation) bool {
	return op == logical.UpdateOperation || op == logical.PatchOperation
}

// macTask is what the path of a request for MACs says.
type macTask struct {
	operation string
	key       string // a key id or alias/<name>
	granted   bool   // by a grant, not by a policy on the key
}

// macTaskOf takes the path of a request for MACs apart; ok is false for any
// other path.
func macTaskOf(path string) (w macTask, ok bool) {
	path, w.granted = strings.CutPrefix(path, grantedPath)
	if w.key, ok = strings.CutPrefix(path, generateMacPath); ok {
		w.operation = opGenerateMac
		return w, true
	}
	w.key, ok = strings.CutPrefix(path, verifyMacPath)
	w.operation = opVerifyMac
	return w, ok
}

// serveMac serves GenerateMac and VerifyMac.
func (b *backend) serveMac(ctx context.Context, req *logical.Request, task macTask) (*logical.Response, error) {
	var authorize func(*liveKey) error
	if task.granted {
		authorize = b.requireGrant(ctx, req, task.operation)
		if err := b.mayTry(ctx, req, task.key, authorize); err != nil {
			return nil, err
		}
	}
	if task.operation == opVerifyMac {
		return b.verifyMac(ctx, req, task.key, authorize)
	}
	return b.generateMac(ctx, req, task.key, authorize)
}

func generateSchema() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"key_id":        field(framework.TypeString, "The key that did the work."),
		"mac_algorithm": field(framework.TypeString, "The algorithm."),
		"mac":           optional(framework.TypeString, "The MAC in base64."),
		"batch_results": optional(framework.TypeSlice, "For batch_input, in its order: mac, or error with type and message; reference."),
		"macs":          optional(framework.TypeCommaStringSlice, "For messages, in their shape and order; empty where one failed."),
		"batch_size":    optional(framework.TypeInt, "For a comma-separated string of messages: how many it held."),
		"errors":        optional(framework.TypeMap, "For messages: what failed, by index from 0."),
	}
}

// generateMac serves GenerateMac for a key id or alias, for one message or a
// batch. On a warm cache it makes no storage call; it never writes.
func (b *backend) generateMac(ctx context.Context, req *logical.Request, name string, authorize func(*liveKey) error) (*logical.Response, error) {
	r, err := parseMacRequest(opGenerateMac, name, req.Data)
	if err != nil {
		return nil, err
	}
	var room blobs
	message, err := decodeBlob("message", r.message, &room.message)
	if err != nil {
		return nil, err
	}
	if err := r.validate(message, nil); err != nil {
		return nil, err
	}
	now := b.now()
	t, err := b.resolve(ctx, req.Storage, r, now, authorize)
	if err != nil {
		return nil, err
	}
	if _, isBatch := r.batchSize(); isBatch {
		data, err := r.answerBatch(t, func(it item) result { return t.generateItem(it, &room, r.dryRun, now) })
		return &logical.Response{Data: data}, err
	}
	if r.dryRun {
		return nil, kms.DryRun()
	}
	return &logical.Response{Data: map[string]any{
		"key_id":        t.ID,
		"mac":           string(t.generate(message, &room, now)),
		"mac_algorithm": *r.algorithm,
	}}, nil
}

// generate returns the MAC of a message in base64, in room.
func (t *macTarget) generate(message []byte, room *blobs, now time.Time) []byte {
	var mac [kms.LongestMac]byte
	t.usage.record(opGenerateMac, now)
	return base64.StdEncoding.AppendEncode(room.encoded[:0], t.mac.Append(mac[:0], message))
}

func (t *macTarget) generateItem(it item, room *blobs, dryRun bool, now time.Time) result {
	message, err := decodeBlob("message", it.message, &room.message)
	if err != nil {
		return result{err: err}
	}
	if !goodLength(message, kms.MaxMessageBytes) {
		return result{err: validateItem(opGenerateMac, message, nil)}
	}
	if dryRun {
		return result{err: kms.DryRun()}
	}
	return result{keyID: t.ID, mac: t.generate(message, room, now)}
}

const generateMacHelp = `
Computes HMAC (RFC 2104) over the message as it is. The algorithm must be the
one of the key's spec. The answer's key_id is the key that did the work, also
through an alias. To authenticate more than 4,096 bytes, hash them first, here
and where you verify.

    $ vault write kms/generate-mac/payments/tokens \
        mac_algorithm=HMAC_SHA_256 message=$(printf 'pay 10 EUR' | base64)
    $ vault write -field=mac kms/generate-mac/alias/payments/current \
        mac_algorithm=HMAC_SHA_256 message=@message.b64

A PATCH is answered in the same way, in less time, to who has the capability
patch on the path:

    $ vault patch kms/generate-mac/payments/tokens \
        mac_algorithm=HMAC_SHA_256 message=$(printf 'pay 10 EUR' | base64)

Many messages at once: batch_input takes a list of objects and answers
batch_results; messages takes a list, or one comma-separated string, which is
the fastest.

    $ vault write kms/generate-mac/payments/tokens \
        mac_algorithm=HMAC_SHA_256 messages=aGVsbG8=,d29ybGQ=
`
