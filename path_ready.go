package kmshmac

import (
	"context"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// readyPath needs no token: a load balancer's probe has none. It tells nothing
// of the mount but that this engine serves it, and touches no storage.
const readyPath = "ready"

func (b *backend) pathReady() []*framework.Path {
	return []*framework.Path{{
		Pattern: readyPath + "$",
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationVerb: "check", OperationSuffix: "ready",
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback: func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
					return &logical.Response{Data: map[string]any{"secrets_engine": "kms-hmac"}}, nil
				},
				Summary: "Tell that this engine serves the mount. Needs no token.",
				Responses: responds(200, "OK", map[string]*framework.FieldSchema{
					"secrets_engine": field(framework.TypeString, "kms-hmac."),
				}),
			},
		},
		HelpSynopsis:    "Tell that this engine serves the mount.",
		HelpDescription: strings.TrimSpace(readyHelp),
	}}
}

const readyHelp = `
Answers that the engine is there, without a token, and nothing else. A standby
passes the request on, so the answer is that of the active node:

    $ curl $VAULT_ADDR/v1/kms/ready

The KMS endpoint asks it for its /readyz.
`
