package kmshmac

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

func (b *backend) pathKeyPolicy() []*framework.Path {
	return []*framework.Path{
		keyRead("get-key-policy", "get", "key-policy", nil, &framework.PathOperation{
			Callback: b.pathGetKeyPolicy,
			Summary:  "Read the key policy of a key (GetKeyPolicy).",
			Responses: responds(200, "OK", map[string]*framework.FieldSchema{
				"key_id":      field(framework.TypeString, "The key's id."),
				"policy":      optional(framework.TypeString, "The key policy as it was put. Absent if none was."),
				"policy_name": field(framework.TypeString, "default."),
			}),
		}, keyPolicyHelp),
		keyOperation("put-key-policy", "put", "key-policy", map[string]*framework.FieldSchema{"policy": policyField()}, &framework.PathOperation{
			Callback:  b.pathPutKeyPolicy,
			Summary:   "Keep a key policy with a key (PutKeyPolicy).",
			Responses: noContent(),
		}, keyPolicyHelp),
	}
}

func policyField() *framework.FieldSchema {
	return &framework.FieldSchema{
		Type: framework.TypeString,
		Description: "A KMS key policy, up to 32,768 bytes, that means what KMS's default one means. It is kept as it is, " +
			"and decides nothing: Vault's policies do.",
	}
}

func (b *backend) pathGetKeyPolicy(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id := d.Get("key_id").(string)
	policy, err := b.store.KeyPolicy(ctx, req.Storage, id, b.now())
	if err != nil {
		return nil, err
	}
	data := map[string]any{"key_id": id, "policy_name": "default"}
	if policy != "" {
		data["policy"] = policy
	}
	return &logical.Response{Data: data}, nil
}

func (b *backend) pathPutKeyPolicy(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := modelInput("PutKeyPolicy", d, nil)
	if err != nil {
		return nil, err
	}
	id := d.Get("key_id").(string)
	if _, err := b.store.KeyByID(ctx, req.Storage, id, b.now()); err != nil {
		return nil, err
	}
	policy := text(in, "Policy")
	if err := kms.CheckKeyPolicy(policy, ""); err != nil {
		return nil, err
	}
	return nil, b.store.PutKeyPolicy(ctx, req.Storage, id, policy)
}

const keyPolicyHelp = `
Programs written for KMS put key policies. One that leaves all decisions to the
account, as KMS's default policy does (one Allow of kms:* on * to the account's
root), is kept and given back as it was put. All others are refused: Vault's
policies decide who may use a key.

    $ vault write kms/put-key-policy/payments/tokens policy=@policy.json
    $ vault read kms/get-key-policy/payments/tokens
`
