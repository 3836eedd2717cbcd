package kmshmac

// generate-mac/:key is GenerateMac. mac.go tells how requests get here.

import (
	"context"
	"encoding/base64"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

const generateMacPath = "generate-mac/"

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
func (b *backend) generateMac(ctx context.Context, req *logical.Request, name string, authorize func(*keystore.Key) error) (*logical.Response, error) {
	r, err := parseMacRequest(opGenerateMac, name, requestData(ctx, req))
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
	t, err := b.target(ctx, req.Storage, r, now, authorize)
	if err != nil {
		return nil, err
	}
	if _, isBatch := r.batchSize(); isBatch {
		data, err := r.answerBatch(t, func(it item) result { return t.generateItem(it, &room, r.dryRun, now) })
		if err != nil {
			return nil, err
		}
		return macResponse(ctx, data), nil
	}
	if r.dryRun {
		return nil, kms.DryRun()
	}
	return macResponse(ctx, map[string]any{
		"key_id":        t.ID,
		"mac":           string(t.generate(message, &room, now)),
		"mac_algorithm": *r.algorithm,
	}), nil
}

// generate returns the MAC of a message in base64, in room.
func (t macTarget) generate(message []byte, room *blobs, now time.Time) []byte {
	var mac [kms.LongestMac]byte
	t.Used(opGenerateMac, now)
	return base64.StdEncoding.AppendEncode(room.encoded[:0], t.AppendMac(mac[:0], message))
}

func (t macTarget) generateItem(it item, room *blobs, dryRun bool, now time.Time) result {
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
