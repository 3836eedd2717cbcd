package kmshmac

// verify-mac/:key is VerifyMac. mac.go tells how requests get here.

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

const (
	verifyMacPath = "verify-mac/"

	maxMacBytes = 6144 // what the model allows; a real MAC has at most 64
)

func (b *backend) pathVerify() []*framework.Path {
	return []*framework.Path{{
		Pattern: verifyMacPath + `(?P<key>.+)`,
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationVerb: "verify", OperationSuffix: "mac",
		},
		Fields:          merge(macKeyField(), verifyFields()),
		Operations:      b.macOperations("mac", "Verify the MAC of a message (VerifyMac).", verifySchema()),
		HelpSynopsis:    "Verify the MAC of a message (VerifyMac).",
		HelpDescription: strings.TrimSpace(verifyMacHelp),
	}}
}

func verifySchema() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"key_id":        field(framework.TypeString, "The key whose MAC it is."),
		"mac_algorithm": field(framework.TypeString, "The algorithm."),
		"mac_valid":     optional(framework.TypeBool, "true. A wrong MAC is KMSInvalidMacException."),
		"batch_results": optional(framework.TypeSlice, "For batch_input, in its order: mac_valid, or error with type and message; reference."),
		"macs_valid":    optional(framework.TypeSlice, "For messages and macs, in their shape and order."),
		"batch_size":    optional(framework.TypeInt, "For a comma-separated string: how many messages it held."),
		"key_ids":       optional(framework.TypeCommaStringSlice, "For messages and macs through an alias with an overlap: the keys that matched."),
		"errors":        optional(framework.TypeMap, "For messages and macs: what failed, by index from 0."),
	}
}

// verifyMac serves VerifyMac for a key id or alias, for one MAC or a batch.
// Like generateMac it makes no storage call on a warm cache and never writes.
func (b *backend) verifyMac(ctx context.Context, req *logical.Request, name string, authorize func(*keystore.Key) error) (*logical.Response, error) {
	r, err := parseMacRequest(opVerifyMac, name, requestData(ctx, req))
	if err != nil {
		return nil, err
	}
	var room blobs
	message, err := decodeBlob("message", r.message, &room.message)
	if err != nil {
		return nil, err
	}
	mac, err := decodeBlob("mac", r.mac, &room.mac)
	if err != nil {
		return nil, err
	}
	if err := r.validate(message, mac); err != nil {
		return nil, err
	}
	now := b.now()
	t, err := b.target(ctx, req.Storage, r, now, authorize)
	if err != nil {
		return nil, err
	}
	if _, isBatch := r.batchSize(); isBatch {
		data, err := r.answerBatch(t, func(it item) result { return t.verifyItem(r, it, &room, now) })
		if err != nil {
			return nil, err
		}
		return macResponse(ctx, data), nil
	}
	keyID, err := t.verify(r, message, mac, now)
	if err != nil {
		return nil, err
	}
	return macResponse(ctx, map[string]any{
		"key_id":        keyID,
		"mac_algorithm": *r.algorithm,
		"mac_valid":     true,
	}), nil
}

// verify returns the id of the key whose MAC this is. Every candidate is
// computed, whichever matches, so that timing does not tell them apart.
func (t macTarget) verify(r *macRequest, message, mac []byte, now time.Time) (string, error) {
	var matched *keystore.Key
	if string(t.Spec.MacAlgorithm()) == *r.algorithm && t.VerifyMac(message, mac) {
		matched = t.Key
	}
	for _, k := range t.previous {
		if k.VerifyMac(message, mac) && matched == nil {
			matched = k
		}
	}
	switch {
	case matched == nil:
		return "", kms.InvalidMac()
	case r.dryRun:
		return "", kms.DryRun()
	}
	matched.Used(opVerifyMac, now)
	return matched.ID, nil
}

func (t macTarget) verifyItem(r *macRequest, it item, room *blobs, now time.Time) result {
	message, err := decodeBlob("message", it.message, &room.message)
	if err != nil {
		return result{err: err}
	}
	mac, err := decodeBlob("mac", it.mac, &room.mac)
	if err != nil {
		return result{err: err}
	}
	if !goodLength(message, kms.MaxMessageBytes) || !goodLength(mac, maxMacBytes) {
		return result{err: validateItem(opVerifyMac, message, mac)}
	}
	keyID, err := t.verify(r, message, mac, now)
	return result{keyID: keyID, err: err}
}

const verifyMacHelp = `
Recomputes the MAC of the message and compares. A wrong MAC, of whatever length,
is KMSInvalidMacException, status 400 and exit code 2: mac_valid is never false.
Through an alias that was moved with an overlap, MACs of the key it left verify
too until the overlap ends; key_id says which key it was.

    $ vault write kms/verify-mac/payments/tokens mac_algorithm=HMAC_SHA_256 \
        message=$(printf 'pay 10 EUR' | base64) mac=...

A PATCH is answered in the same way, in less time, to who has the capability
patch on the path: vault patch in place of vault write.

Many at once: batch_input, or messages with macs.

    $ vault write kms/verify-mac/payments/tokens mac_algorithm=HMAC_SHA_256 \
        messages=aGVsbG8=,d29ybGQ= macs=...,...
`
