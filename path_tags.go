package kmshmac

import (
	"context"
	"maps"
	"time"

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
	_, err = b.changeKey(ctx, req.Storage, "TagResource", d.Get("key_id").(string), func(k *key, _ time.Time) (bool, error) {
		before := maps.Clone(k.Tags)
		if k.Tags == nil {
			k.Tags = map[string]string{}
		}
		maps.Copy(k.Tags, kms.TagMap(tags))
		return !maps.Equal(before, k.Tags), kms.CheckTagCount(len(k.Tags))
	})
	return nil, err
}

func (b *backend) pathUntagResource(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := modelInput("UntagResource", d, nil)
	if err != nil {
		return nil, err
	}
	keys, _ := in["TagKeys"].([]any)
	_, err = b.changeKey(ctx, req.Storage, "UntagResource", d.Get("key_id").(string), func(k *key, _ time.Time) (bool, error) {
		before := len(k.Tags)
		for _, tagKey := range keys {
			name, _ := tagKey.(string)
			delete(k.Tags, name)
		}
		return len(k.Tags) != before, nil
	})
	return nil, err
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
