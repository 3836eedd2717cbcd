package kmshmac

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

func (b *backend) pathTags() []*framework.Path {
	return []*framework.Path{
		keyOperation("tag-resource", "tag", "key", map[string]*framework.FieldSchema{
			"tags": {
				Type: framework.TypeKVPairs, Required: true,
				Description: "The tags to add, as a map or as repeated tags=key=value. Keys have 1 to 128 characters, values up to 256.",
			},
		}, &framework.PathOperation{
			Callback:  b.pathTagResource,
			Summary:   "Add tags to a key, or change their values (TagResource).",
			Responses: noContent(),
		}, tagHelp),
		keyOperation("untag-resource", "untag", "key", map[string]*framework.FieldSchema{
			"tag_keys": {
				Type: framework.TypeCommaStringSlice, Required: true,
				Description: "The keys of the tags to remove.",
			},
		}, &framework.PathOperation{
			Callback:  b.pathUntagResource,
			Summary:   "Remove tags from a key (UntagResource).",
			Responses: noContent(),
		}, untagHelp),
	}
}

func (b *backend) pathTagResource(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := modelInput("TagResource", d, nil)
	if err != nil {
		return nil, err
	}
	tags := kms.TagsFrom(in["Tags"])
	if err := kms.CheckTags(tags); err != nil {
		return nil, err
	}
	return nil, b.store.TagKey(ctx, req.Storage, d.Get("key_id").(string), kms.TagMap(tags))
}

func (b *backend) pathUntagResource(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := modelInput("UntagResource", d, nil)
	if err != nil {
		return nil, err
	}
	list, _ := in["TagKeys"].([]any)
	tagKeys := make([]string, len(list))
	for i, tagKey := range list {
		tagKeys[i], _ = tagKey.(string)
	}
	return nil, b.store.UntagKey(ctx, req.Storage, d.Get("key_id").(string), tagKeys)
}

const tagHelp = `
Adds tags to a key; a tag that is there gets the new value. A key has at most 50.
Reading the key shows them.

    $ vault write kms/tag-resource/payments/tokens tags=team=payments tags=env=prod
`

const untagHelp = `
Removes tags by their keys. Keys that the key does not have are ignored.

    $ vault write kms/untag-resource/payments/tokens tag_keys=env,team
`
