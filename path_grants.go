package kmshmac

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

// grantedPath is what the paths of operations begin with that a grant allows.
const grantedPath = "granted/"

func (b *backend) pathGrants() []*framework.Path {
	return []*framework.Path{
		keyOperation("create-grant", "create", "grant", createGrantFields(), &framework.PathOperation{
			Callback: func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
				return b.createGrant(ctx, req, d, d.Get("key_id").(string), nil)
			},
			Summary:   "Let a Vault entity use a key (CreateGrant).",
			Responses: responds(200, "OK", createdGrantSchema()),
		}, createGrantHelp),
		keyRead("list-grants", "list", "grants", merge(grantPageFields(), map[string]*framework.FieldSchema{
			"grant_id":          {Type: framework.TypeString, Query: true, Description: "Only this grant."},
			"grantee_principal": {Type: framework.TypeString, Query: true, Description: "Only grants to this entity or group."},
		}), &framework.PathOperation{
			Callback:  b.pathListGrants,
			Summary:   "List the grants of a key (ListGrants).",
			Responses: responds(200, "OK", grantsSchema()),
		}, listGrantsHelp),
		operationPath(`list-retirable-grants$`, "list", "retirable-grants", merge(grantPageFields(), map[string]*framework.FieldSchema{
			"retiring_principal": {Type: framework.TypeString, Query: true, Required: true, Description: "The id of the caller's own Vault entity."},
		}), logical.ReadOperation, &framework.PathOperation{
			Callback:  b.pathListRetirableGrants,
			Summary:   "List the grants that the caller may retire (ListRetirableGrants).",
			Responses: responds(200, "OK", grantsSchema()),
		}, listGrantsHelp),
		operationPath(`list-retirable-grants/(?P<retiring_principal>.+)`, "list", "retirable-grants-of-principal", merge(grantPageFields(), map[string]*framework.FieldSchema{
			"retiring_principal": {Type: framework.TypeString, Description: "The id of any Vault entity."},
		}), logical.ReadOperation, &framework.PathOperation{
			Callback:  b.pathListRetirableGrantsOf,
			Summary:   "List the grants that any entity may retire (ListRetirableGrants).",
			Responses: responds(200, "OK", grantsSchema()),
		}, listGrantsHelp),
		keyOperation("revoke-grant", "revoke", "grant", endGrantFields(), &framework.PathOperation{
			Callback:  b.pathRevokeGrant,
			Summary:   "Revoke a grant of a key (RevokeGrant).",
			Responses: noContent(),
		}, revokeGrantHelp),
		keyOperation("retire-grant", "retire", "grant-of-key", merge(endGrantFields(), map[string]*framework.FieldSchema{
			"grant_token": {Type: framework.TypeString, Description: "A token of the grant, instead of grant_id."},
		}), &framework.PathOperation{
			Callback:  b.pathRetireGrantOfKey,
			Summary:   "Retire any grant of a key, as its owner (RetireGrant).",
			Responses: noContent(),
		}, revokeGrantHelp),
		operationPath(`retire-grant$`, "retire", "grant", merge(endGrantFields(), map[string]*framework.FieldSchema{
			"grant_token": {Type: framework.TypeString, Description: "A token of the grant, or else key_id and grant_id."},
			"key_id":      {Type: framework.TypeString, Description: "The key's id."},
		}), logical.UpdateOperation, &framework.PathOperation{
			Callback:  b.pathRetireGrant,
			Summary:   "Retire a grant, as its retiring principal or grantee (RetireGrant).",
			Responses: noContent(),
		}, revokeGrantHelp),
		grantedOperations("generate-mac", generateFields(), b.macOperations("mac-granted", "Do generate-mac with a key that a grant lets the caller use.", generateSchema())),
		grantedOperations("verify-mac", verifyFields(), b.macOperations("mac-granted", "Do verify-mac with a key that a grant lets the caller use.", verifySchema())),
		b.granted("describe-key", "DescribeKey", nil, keyMetadataSchema(), b.describeGranted),
		b.granted("create-grant", "CreateGrant", createGrantFields(), createdGrantSchema(), func(ctx context.Context, req *logical.Request, d *framework.FieldData, name string) (*logical.Response, error) {
			// As in KMS, a grantee cannot allow others more than it may itself.
			operations, _ := d.Get("operations").([]string)
			return b.createGrant(ctx, req, d, name, b.requireGrant(ctx, req, append(operations, "CreateGrant")...))
		}),
	}
}

func createGrantFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"grantee_principal":  {Type: framework.TypeString, Required: true, Description: "The id of the Vault entity that gets the permission, or group/ and the id of a Vault identity group."},
		"retiring_principal": {Type: framework.TypeString, Description: "The id of the Vault entity that may retire the grant, or group/ and the id of a group."},
		"operations":         {Type: framework.TypeCommaStringSlice, Required: true, Description: "Of CreateGrant, RetireGrant, DescribeKey, GenerateMac and VerifyMac."},
		"name":               {Type: framework.TypeString, Description: "A name. Repeating a request with a name makes no second grant."},
		"constraints":        {Type: framework.TypeMap, Description: "Not for HMAC keys."},
		"grant_tokens":       {Type: framework.TypeCommaStringSlice, Description: "Up to 10 grant tokens."},
		"dry_run":            dryRunField(),
	}
}

func endGrantFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"grant_id": {Type: framework.TypeString, Description: "The grant's id."},
		"dry_run":  dryRunField(),
	}
}

func grantsSchema() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"grants":     field(framework.TypeSlice, "The grants: key_id, grant_id, name, grantee_principal, retiring_principal, operations, creation_date."),
		"truncated":  field(framework.TypeBool, "Whether there is more."),
		"next_after": optional(framework.TypeString, "What to pass as after for the next page."),
	}
}

// granted is the path of an operation for those whom a grant allows it. To
// everybody else it looks the same, whether or not there is such a key.
func (b *backend) granted(name, operation string, fields, schema map[string]*framework.FieldSchema, handler func(context.Context, *logical.Request, *framework.FieldData, string) (*logical.Response, error)) *framework.Path {
	return grantedOperations(name, fields, map[logical.Operation]framework.OperationHandler{
		logical.UpdateOperation: &framework.PathOperation{
			Callback: func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
				key := d.Get("key").(string)
				if _, err := b.mayTry(ctx, req, operation, key); err != nil {
					return nil, err
				}
				return handler(ctx, req, d, key)
			},
			Summary:   "Do " + name + " with a key that a grant lets the caller use.",
			Responses: responds(200, "OK", schema),
		},
	})
}

func grantedOperations(name string, fields map[string]*framework.FieldSchema, operations map[logical.Operation]framework.OperationHandler) *framework.Path {
	verb, suffix, _ := strings.Cut(name, "-")
	return &framework.Path{
		Pattern: grantedPath + name + `/(?P<key>.+)`,
		DisplayAttrs: &framework.DisplayAttributes{
			OperationPrefix: operationPrefix, OperationVerb: verb, OperationSuffix: suffix + "-granted",
		},
		Fields:          merge(macKeyField(), fields),
		Operations:      operations,
		HelpSynopsis:    "Do " + name + " with a key that a grant lets the caller use.",
		HelpDescription: strings.TrimSpace(grantedHelp),
	}
}

// mayTry returns the key that a name stands for, if a grant lets the caller's
// entity do the operation. It hides from those without a grant which keys there
// are, whatever else is wrong with the request.
func (b *backend) mayTry(ctx context.Context, req *logical.Request, operation, name string) (*keystore.Key, error) {
	for principal, err := range b.principals(req) {
		if err != nil {
			return nil, err
		}
		k, err := b.store.GrantedKey(ctx, req.Storage, name, principal, operation, b.now())
		if k != nil || err != nil {
			return k, err
		}
	}
	return nil, logical.ErrPermissionDenied
}

// maxGroups is how many of an entity's groups are looked at: each costs storage
// its reads.
const maxGroups = 64

// principals yields whom a grant may name for the caller to have it: the entity,
// and then its groups of this moment, inherited ones among them. Vault is asked
// for those only where the entity itself has no grant.
func (b *backend) principals(req *logical.Request) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if req.EntityID == "" || !yield(req.EntityID, nil) {
			return
		}
		groups, err := b.System().GroupsForEntity(req.EntityID)
		if err != nil {
			yield("", fmt.Errorf("asking for the groups of the entity: %w", err))
			return
		}
		slices.SortFunc(groups, func(a, b *logical.Group) int { return strings.Compare(a.ID, b.ID) })
		for _, group := range groups[:min(len(groups), maxGroups)] {
			if !yield(keystore.GroupPrincipal+group.ID, nil) {
				return
			}
		}
	}
}

// requireGrant returns a check that the caller has one grant for all
// these operations.
func (b *backend) requireGrant(ctx context.Context, req *logical.Request, operations ...string) func(*keystore.Key) error {
	return func(k *keystore.Key) error {
		for principal, err := range b.principals(req) {
			if err != nil {
				return err
			}
			g, err := b.store.FindGrant(ctx, req.Storage, k.ID, principal, operations...)
			if g != nil || err != nil {
				return err
			}
			if principal != req.EntityID {
				continue
			}
			// Vault need not be asked for groups where no group has such a grant.
			toGroups, err := b.store.FindGrant(ctx, req.Storage, k.ID, keystore.GroupPrincipal, operations...)
			if err != nil {
				return err
			}
			if toGroups == nil {
				break
			}
		}
		return logical.ErrPermissionDenied
	}
}

func (b *backend) describeGranted(ctx context.Context, req *logical.Request, _ *framework.FieldData, name string) (*logical.Response, error) {
	now := b.now()
	k, err := b.store.KeyByName(ctx, req.Storage, name, now)
	if err != nil || k == nil {
		return nil, err
	}
	if err := b.requireGrant(ctx, req, "DescribeKey")(k); err != nil {
		return nil, err
	}
	// Tags and last use take permissions of their own, as in KMS.
	return &logical.Response{Data: metadata(k, now)}, nil
}

func createdGrantSchema() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"grant_id":    field(framework.TypeString, "The grant's id."),
		"grant_token": field(framework.TypeString, "A token of the grant."),
	}
}

// createGrant makes a grant. authorize is nil where Vault's policies have
// authorized the caller already.
func (b *backend) createGrant(ctx context.Context, req *logical.Request, d *framework.FieldData, keyID string, authorize func(*keystore.Key) error) (*logical.Response, error) {
	in, err := grantInput("CreateGrant", "GranteePrincipal", d, map[string]any{"KeyId": keyID})
	if err != nil {
		return nil, err
	}
	k, err := b.store.KeyByID(ctx, req.Storage, keyID, b.now())
	if err != nil {
		return nil, err
	}
	if authorize != nil {
		if err := authorize(k); err != nil {
			return nil, err
		}
	}
	wanted, err := grantFromInput(in, d)
	if err != nil {
		return nil, err
	}
	tokens, _ := d.Get("grant_tokens").([]string)
	if err := b.store.CheckGrantTokens(ctx, req.Storage, tokens); err != nil {
		return nil, err
	}
	g, token, err := b.store.CreateGrant(ctx, req.Storage, wanted, d.Get("dry_run").(bool))
	if err != nil {
		return nil, err
	}
	resp := &logical.Response{Data: map[string]any{"grant_id": g.ID, "grant_token": token}}
	b.warnOfUnknownEntity(g.GranteePrincipal, resp)
	return resp, nil
}

// grantInput is modelInput for an operation that needs the principal: KMS's
// model does not say so, since it has the principals of AWS services beside.
func grantInput(operation, principal string, d *framework.FieldData, extra map[string]any) (map[string]any, error) {
	in, err := modelInput(operation, d, extra)
	if err == nil && in[principal] == nil {
		err = kms.MissingMember(kms.FieldName(principal))
	}
	return in, err
}

func grantFromInput(in map[string]any, d *framework.FieldData) (keystore.Grant, error) {
	operations, _ := d.Get("operations").([]string)
	if err := kms.CheckGrantOperations(operations); err != nil {
		return keystore.Grant{}, err
	}
	if constraints, _ := d.Get("constraints").(map[string]any); len(constraints) > 0 {
		return keystore.Grant{}, kms.GrantConstraintsRefused(constraints)
	}
	return keystore.Grant{
		KeyID: text(in, "KeyId"), Name: text(in, "Name"), Operations: operations,
		GranteePrincipal: text(in, "GranteePrincipal"), RetiringPrincipal: text(in, "RetiringPrincipal"),
	}, nil
}

// warnOfUnknownEntity helps with typing errors: a grant to nobody is no error,
// since an entity may come later, but hardly meant.
func (b *backend) warnOfUnknownEntity(principal string, resp *logical.Response) {
	if strings.HasPrefix(principal, keystore.GroupPrincipal) {
		return // the sdk has no way to ask for a group
	}
	if entity, err := b.System().EntityInfo(principal); err != nil || entity == nil {
		resp.AddWarning("no Vault entity has the id given as grantee_principal, so nobody can use this grant")
	}
}

func (b *backend) pathListGrants(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	k, err := b.store.KeyByID(ctx, req.Storage, d.Get("key_id").(string), b.now())
	if err != nil {
		return nil, err
	}
	id, grantee := d.Get("grant_id").(string), d.Get("grantee_principal").(string)
	grants, err := b.store.ListGrants(ctx, req.Storage, k.ID, grantee)
	if err != nil {
		return nil, err
	}
	if id != "" {
		if !slices.Contains(grants.IDs, id) {
			return nil, kms.InvalidGrantID()
		}
		grants.IDs = []string{id}
	}
	return grantPage(ctx, d, grants)
}

// pathListRetirableGrants is open to everybody, so it shows callers their own
// grants: others' may be on any team's keys.
func (b *backend) pathListRetirableGrants(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	if principal, ok := d.GetOk("retiring_principal"); ok && (req.EntityID == "" || principal != req.EntityID) {
		return nil, logical.ErrPermissionDenied
	}
	return b.pathListRetirableGrantsOf(ctx, req, d)
}

// pathListRetirableGrantsOf has the principal in its path, so that a policy
// says who may see whose.
func (b *backend) pathListRetirableGrantsOf(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := grantInput("ListRetirableGrants", "RetiringPrincipal", d, map[string]any{"Limit": nil})
	if err != nil {
		return nil, err
	}
	grants, err := b.store.ListRetirableGrants(ctx, req.Storage, text(in, "RetiringPrincipal"))
	if err != nil {
		return nil, err
	}
	return grantPage(ctx, d, grants)
}

// maxGrantPage is how many grants one page has at most: each is read, and a key
// can have 50,000.
const maxGrantPage = 1000

// grantPageFields are pageFields for lists of grants.
func grantPageFields() map[string]*framework.FieldSchema {
	return merge(pageFields(), map[string]*framework.FieldSchema{
		"limit": {
			Type: framework.TypeInt, Query: true,
			Description: fmt.Sprintf("List at most so many grants, %d unless set and at most.", maxGrantPage),
		},
	})
}

// grantPage answers one page of grants, reading only those.
func grantPage(ctx context.Context, d *framework.FieldData, list keystore.GrantList) (*logical.Response, error) {
	ids, next, err := page(d, list.IDs, maxGrantPage)
	if err != nil {
		return nil, err
	}
	grants := make([]map[string]any, 0, len(ids))
	for _, id := range ids {
		g, err := list.Load(ctx, id)
		if err != nil {
			return nil, err
		}
		if g != nil {
			grants = append(grants, grantData(g))
		}
	}
	data := map[string]any{"grants": grants}
	addPaging(data, next)
	return &logical.Response{Data: data}, nil
}

func grantData(g *keystore.Grant) map[string]any {
	data := map[string]any{
		"key_id":            g.KeyID,
		"grant_id":          g.ID,
		"grantee_principal": g.GranteePrincipal,
		"operations":        g.Operations,
		"creation_date":     formatTime(g.CreationDate),
	}
	if g.Name != "" {
		data["name"] = g.Name
	}
	if g.RetiringPrincipal != "" {
		data["retiring_principal"] = g.RetiringPrincipal
	}
	return data
}

func (b *backend) pathRevokeGrant(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := modelInput("RevokeGrant", d, nil)
	if err != nil {
		return nil, err
	}
	k, err := b.store.KeyByID(ctx, req.Storage, d.Get("key_id").(string), b.now())
	if err != nil {
		return nil, err
	}
	return nil, b.store.EndGrant(ctx, req.Storage, k.ID, text(in, "GrantId"), d.Get("dry_run").(bool), nil)
}

// pathRetireGrant is open to everybody: the grant says who may retire it. It does
// not tell which keys there are, and neither does the time that it takes: it asks
// for the grant first.
func (b *backend) pathRetireGrant(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := modelInput("RetireGrant", d, nil)
	if err != nil {
		return nil, err
	}
	keyID, grantID, token := text(in, "KeyId"), text(in, "GrantId"), text(in, "GrantToken")
	switch {
	case token != "" && (keyID != "" || grantID != ""), token == "" && (keyID == "" || grantID == ""):
		return nil, kms.Validationf("give either grant_token, or key_id and grant_id")
	case token != "":
		g, err := b.store.OpenGrantToken(ctx, req.Storage, token)
		if err != nil {
			return nil, err
		}
		keyID, grantID = g.KeyID, g.ID
	}
	if err := kms.CheckNotAlias(keyID); err != nil {
		return nil, err
	}
	// Asked for first, so that it tells nothing of the grant.
	var principals []string
	for principal, err := range b.principals(req) {
		if err != nil {
			return nil, err
		}
		principals = append(principals, principal)
	}
	return nil, b.store.EndGrant(ctx, req.Storage, keyID, grantID, d.Get("dry_run").(bool), func(g *keystore.Grant) error {
		return mayRetire(principals, g)
	})
}

// mayRetire allows retirement to the retiring principal, and to the grantee if
// the grant says so. A token without an entity is nobody: it may be any team's.
// The owner of the key, to whom KMS allows it too, has a path with the key in it.
func mayRetire(principals []string, g *keystore.Grant) error {
	isGrantee := slices.Contains(principals, g.GranteePrincipal) && slices.Contains(g.Operations, "RetireGrant")
	if isGrantee || slices.Contains(principals, g.RetiringPrincipal) {
		return nil
	}
	return logical.ErrPermissionDenied
}

// pathRetireGrantOfKey is for the owner of the key, whom a policy on the path
// allows it.
func (b *backend) pathRetireGrantOfKey(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := modelInput("RetireGrant", d, nil)
	if err != nil {
		return nil, err
	}
	k, err := b.store.KeyByID(ctx, req.Storage, d.Get("key_id").(string), b.now())
	if err != nil {
		return nil, err
	}
	grantID, token := text(in, "GrantId"), text(in, "GrantToken")
	switch {
	case (token == "") == (grantID == ""):
		return nil, kms.Validationf("give either grant_token or grant_id")
	case token != "":
		g, err := b.store.OpenGrantToken(ctx, req.Storage, token)
		if err != nil {
			return nil, err
		}
		if g.KeyID != k.ID {
			return nil, kms.InvalidGrantToken() // of another key, of which the path says nothing
		}
		grantID = g.ID
	}
	return nil, b.store.EndGrant(ctx, req.Storage, k.ID, grantID, d.Get("dry_run").(bool), nil)
}

const createGrantHelp = `
A grant lets a Vault entity use one key without a policy that names it: the
entity calls granted/generate-mac/<key> and the like. Who hands out keys at run
time needs no right to write policies.

    $ vault write kms/create-grant/payments/tokens operations=GenerateMac,DescribeKey \
        grantee_principal=$(vault token lookup -field=entity_id)
`

const listGrantsHelp = `
list-grants shows the grants of a key. list-retirable-grants shows an entity the
grants that it may retire itself; those of others take a policy on
list-retirable-grants/<entity id>.

    $ vault read kms/list-grants/payments/tokens
    $ vault read kms/list-retirable-grants \
        retiring_principal=$(vault token lookup -field=entity_id)
    $ vault read kms/list-retirable-grants/27dd17ae-9374-4e43-0d5f-8fe3c1e0f3a4
`

const revokeGrantHelp = `
Revoking is for who manages the key and has a policy on revoke-grant/<key>.
Retiring is for the entity named as retiring_principal, and for the grantee if
the grant's operations have RetireGrant; a token without an entity is neither.
The owner of the key, to whom a policy opens retire-grant/<key>, retires any
grant of it.

    $ vault write kms/revoke-grant/payments/tokens grant_id=...
    $ vault write kms/retire-grant grant_token=...
    $ vault write kms/retire-grant/payments/tokens grant_id=...
`

const grantedHelp = `
Paths below granted/ do what the operation does, for callers whose entity has a
grant for it on that key, and are forbidden for all others. One policy opens
them for everybody:

    path "kms/granted/*" { capabilities = ["update", "patch"] }

    $ vault write kms/granted/generate-mac/payments/tokens \
        mac_algorithm=HMAC_SHA_256 message=$(printf 'pay 10 EUR' | base64)
    $ vault write -f kms/granted/describe-key/payments/tokens
`
