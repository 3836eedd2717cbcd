package kmshmac

// The way of a MAC through the engine. Almost all requests are for MACs, so
// their way is cut short where the sdk's costs most; the answers are the same.
//
//  1. mac_short_cut.go. shortCut sees the message of Vault before the sdk does.
//     Data that is a flat JSON object it decodes itself and hands over in the
//     context, past the sdk.
//  2. backend.go. HandleRequest calls serveMac, here, past the framework.
//  3. path_mac.go, path_verify.go. serveMac calls generateMac or verifyMac:
//     requestData takes the data from wherever it is, and then they go on with
//     steps 4 to 7.
//  4. mac_request.go. parseMacRequest reads the fields; validate holds them
//     against KMS's model.
//  5. target, here: from the name to the key, with KMS's checks.
//  6. The MAC itself, by the key; for a batch, mac_batch.go runs through the
//     items.
//  7. macResponse, here: long text in the answer is handed over to shortCut,
//     which puts it into the message that the sdk has encoded.

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

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
	var authorize func(*keystore.Key) error
	if task.granted {
		k, err := b.mayTry(ctx, req, task.operation, task.key)
		if err != nil {
			return nil, err
		}
		authorize = func(other *keystore.Key) error {
			if other.ID == k.ID {
				return nil
			}
			return b.requireGrant(ctx, req, task.operation)(other)
		}
	}
	if task.operation == opVerifyMac {
		return b.verifyMac(ctx, req, task.key, authorize)
	}
	return b.generateMac(ctx, req, task.key, authorize)
}

// macTarget is what a request's key stands for at one instant: the key that
// works, and for verification through an alias the keys that may have.
type macTarget struct {
	*keystore.Key
	previous []*keystore.Key
}

// target finds the key of a MAC operation and applies KMS's checks in KMS's
// order: key, authorization, key state, algorithm. authorize is nil where
// Vault's policies have authorized the caller already.
func (b *backend) target(ctx context.Context, s logical.Storage, r *macRequest, now time.Time, authorize func(*keystore.Key) error) (t macTarget, err error) {
	if r.operation == opVerifyMac {
		t.Key, t.previous, err = b.store.ResolveWithPrevious(ctx, s, r.key, now)
	} else {
		t.Key, err = b.store.Resolve(ctx, s, r.key, now)
	}
	if err != nil {
		return t, err
	}
	if authorize != nil {
		if err := authorize(t.Key); err != nil {
			return t, err
		}
		if t.previous, err = authorized(t.previous, authorize); err != nil {
			return t, err
		}
	}
	if err := b.store.CheckGrantTokens(ctx, s, r.grantTokens); err != nil {
		return t, err
	}
	if err := kms.Check(r.operation, t.Facts(now)); err != nil {
		return t, err
	}
	algorithm := kms.MacAlgorithm(*r.algorithm)
	t.previous = slices.DeleteFunc(t.previous, func(k *keystore.Key) bool { return k.Spec.MacAlgorithm() != algorithm })
	if err := kms.CheckMacAlgorithm(algorithm, t.Spec); err != nil && len(t.previous) == 0 {
		return t, err
	}
	return t, nil
}

// authorized returns those of the keys that the caller may use: a grant, like a
// policy, is about one key, and says nothing of those that an alias has left.
func authorized(keys []*keystore.Key, authorize func(*keystore.Key) error) ([]*keystore.Key, error) {
	var allowed []*keystore.Key
	for _, k := range keys {
		switch err := authorize(k); {
		case err == nil:
			allowed = append(allowed, k)
		case !errors.Is(err, logical.ErrPermissionDenied):
			return nil, err
		}
	}
	return allowed, nil
}

// requestData returns the data of a request for MACs: what shortCut has handed
// over, or else what the sdk has decoded.
func requestData(ctx context.Context, req *logical.Request) map[string]any {
	if x := exchangeOf(ctx); x != nil && x.data != nil {
		return x.data
	}
	return req.Data
}

// macResponse makes the answer of its data. Texts in it go by shortCut, where
// that is in front, and are strings otherwise.
func macResponse(ctx context.Context, data map[string]any) *logical.Response {
	resp := &logical.Response{Data: data}
	exchangeOf(ctx).takeTexts(resp)
	return resp
}
