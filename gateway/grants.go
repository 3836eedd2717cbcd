package gateway

// CreateGrant, ListGrants, ListRetirableGrants and RetireGrant.

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"vault-plugin-secrets-kms-hmac/kms"
)

// iamPrincipal is an ARN that can name a principal: an IAM user or role, with
// its path, or the account; an STS session, which has no path.
var iamPrincipal = regexp.MustCompile(`^arn:[a-z0-9-]+:(iam::[0-9]{12}:(root|(user|role)(/[\w+=,.@-]+)+)|sts::[0-9]{12}:(assumed-role/[\w+=,.@-]+/[\w+=,.@-]+|federated-user/[\w+=,.@-]+))$`)

// checkPrincipal refuses what is no ARN of a principal, in KMS's words. bare is
// the exception for a text that is no ARN at all: it depends on the operation.
func checkPrincipal(text string, bare *kms.Exception) error {
	switch {
	case !strings.HasPrefix(text, arnPrefix):
		return bare
	case !iamPrincipal.MatchString(text) || hasDots(text):
		return &kms.Exception{Type: kms.TypeInvalidArn, Message: "ARN is not valid: " + text}
	}
	return nil
}

// hasDots reports whether a part of a name between slashes is "." or "..". Names
// of principals are parts of paths, where these lead elsewhere.
func hasDots(text string) bool {
	for part := range strings.SplitSeq(text, "/") {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

// nativePrincipal returns the native name of a principal: the id of the Vault
// entity that one of the account's users, or of its sessions, stands for, else
// the ARN. A session's entity is the same in whatever role it has logged in.
func (a ARNs) nativePrincipal(arn string) string {
	if entity, ok := strings.CutPrefix(arn, a.user("")); ok && entity != "" {
		return entity
	}
	if session, ok := strings.CutPrefix(arn, a.sessions()); ok {
		if _, entity, ok := strings.Cut(session, "/"); ok && entity != "" {
			return entity
		}
	}
	return arn
}

// principalARN is the reverse of nativePrincipal, and of groupPrincipal but for
// the group's name.
func (a ARNs) principalARN(native string) any {
	if group, ok := strings.CutPrefix(native, groupPrincipal); ok {
		return a.role(group)
	}
	if native == "" || strings.HasPrefix(native, arnPrefix) {
		return optional(native)
	}
	return a.user(native)
}

// groupPrincipal begins the native name of a group; its id follows.
const groupPrincipal = "group/"

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// resolveGroup replaces the principal of a member by the group of Vault's
// identities that one of the account's roles stands for: by its id, or by its
// name, for which Vault is asked with the caller's token. Other principals stay.
func (c *call) resolveGroup(in input, member string) error {
	arn := in.text(member)
	name, ok := c.arns().roleOf(arn)
	if !ok || name == "" {
		return nil
	}
	if !uuidPattern.MatchString(name) {
		var group struct {
			ID string `json:"id"`
		}
		err := c.send(vaultRequest{
			method: http.MethodGet, path: "identity/group/name/" + name, token: c.caller.token, from: c.trace.from, correlation: c.trace.id,
		}, &group)
		switch {
		case forbidden(err):
			return &kms.Exception{
				Type: kms.TypeAccessDenied,
				Message: "User: " + c.principal() + " is not authorized to perform: iam:GetRole on resource: " + arn +
					" because no identity-based policy allows the iam:GetRole action",
			}
		case missing(err):
			return &kms.Exception{Type: kms.TypeInvalidArn, Message: "ARN does not refer to a valid principal: " + arn}
		case err != nil:
			return err
		}
		name = group.ID
	}
	in[member] = groupPrincipal + name
	return nil
}

// checkCreateGrant checks the principals. The order relative to the key's
// checks is not on record for KMS.
func checkCreateGrant(c *call, in input) error {
	if err := kms.CheckPrincipal(in, "Grantee", true); err != nil {
		return err
	}
	if err := kms.CheckPrincipal(in, "Retiring", false); err != nil {
		return err
	}
	for _, member := range []string{"GranteePrincipal", "RetiringPrincipal"} {
		text := in.text(member)
		if text == "" {
			continue
		}
		bare := &kms.Exception{Type: kms.TypeInvalidArn, Message: member + " does not refer to a valid principal."}
		if err := checkPrincipal(text, bare); err != nil {
			return err
		}
		if err := c.resolveGroup(in, member); err != nil {
			return err
		}
	}
	return nil
}

// createGrant creates a grant. Constraints are refused, once it is known that
// the key is there and in a state in which it takes grants.
func createGrant(c *call, in input) (answer, error) {
	if constraints, _ := in["Constraints"].(map[string]any); len(constraints) > 0 {
		return nil, c.refuseConstraints(constraints)
	}
	return c.simple(c.op, in)
}

func (c *call) refuseConstraints(constraints map[string]any) error {
	key, err := c.read()
	switch {
	case forbidden(err):
		return kms.GrantConstraintsRefused(constraints)
	case err != nil:
		return err
	}
	facts := key.facts()
	facts.ID = c.key.arn
	if err := kms.Check(c.operation, facts); err != nil {
		return err
	}
	return kms.GrantConstraintsRefused(constraints)
}

// grantPage is a page of grants as the mount answers it.
type grantPage struct {
	Grants []struct {
		KeyID             string    `json:"key_id"`
		GrantID           string    `json:"grant_id"`
		Name              string    `json:"name"`
		CreationDate      time.Time `json:"creation_date"`
		GranteePrincipal  string    `json:"grantee_principal"`
		RetiringPrincipal string    `json:"retiring_principal"`
		Operations        []string  `json:"operations"`
	} `json:"grants"`
	NextAfter string `json:"next_after"` // absent on the last page
}

func checkListGrants(_ *call, in input) error { return kms.CheckPrincipal(in, "Grantee", false) }

func listGrants(c *call, in input) (answer, error) {
	query := url.Values{}
	if id := in.text("GrantId"); id != "" {
		query.Set("grant_id", id)
	}
	if grantee := in.text("GranteePrincipal"); grantee != "" {
		bare := &kms.Exception{Type: kms.TypeInvalidArn, Message: "Input does not refer to a valid principal"}
		if err := checkPrincipal(grantee, bare); err != nil {
			return nil, err
		}
		if err := c.resolveGroup(in, "GranteePrincipal"); err != nil {
			return nil, err
		}
		query.Set("grantee_principal", c.arns().nativePrincipal(in.text("GranteePrincipal")))
	}
	return c.grants(in, markGrants, "list-grants/"+c.key.native, query)
}

func listRetirableGrants(c *call, in input) (answer, error) {
	if err := kms.CheckPrincipal(in, "Retiring", true); err != nil {
		return nil, err
	}
	retiring := in.text("RetiringPrincipal")
	bare := &kms.Exception{Type: kms.TypeNotFound, Message: "Retiring principal " + retiring + " could not be found"}
	if err := checkPrincipal(retiring, bare); err != nil {
		return nil, err
	}
	// Everybody may see their own grants; a policy says who may see others'.
	if err := c.resolveGroup(in, "RetiringPrincipal"); err != nil {
		return nil, err
	}
	principal := c.arns().nativePrincipal(in.text("RetiringPrincipal"))
	a, err := c.grants(in, markRetirable, "list-retirable-grants", url.Values{"retiring_principal": {principal}})
	if forbidden(err) {
		if others, err := c.grants(in, markRetirable, "list-retirable-grants/"+principal, url.Values{}); !forbidden(err) {
			return others, err
		}
	}
	return a, err
}

// grants answers one page of grants. Those of keys outside the folder, which
// the second of the two lists can hold, are not the client's to see.
func (c *call) grants(in input, mark byte, path string, query url.Values) (answer, error) {
	after, err := markerOf(in, mark)
	if err != nil {
		return nil, err
	}
	if after != "" {
		query.Set("after", after)
	}
	query.Set("limit", strconv.Itoa(limitOf(in, 50, 100)))
	var native grantPage
	if err := c.request(http.MethodGet, path, query, nil, &native); err != nil {
		return nil, c.orNotFound(err)
	}
	grants := make([]object, 0, len(native.Grants))
	for _, g := range native.Grants {
		if !c.folder.holds(g.KeyID) {
			continue
		}
		grants = append(grants, object{
			{"KeyId", c.arns().key(c.folder.local(g.KeyID))},
			{"GrantId", g.GrantID},
			{"Name", optional(g.Name)},
			{"CreationDate", seconds(g.CreationDate)},
			{"GranteePrincipal", c.arns().principalARN(g.GranteePrincipal)},
			{"RetiringPrincipal", c.arns().principalARN(g.RetiringPrincipal)},
			{"IssuingAccount", c.arns().root()},
			{"Operations", g.Operations},
		})
	}
	return page("Grants", grants, mark, native.NextAfter), nil
}

// retireGrant retires a grant by its token, or by its key and id: for those whom
// the grant allows it, and else for the owner of its key, whom a policy does.
func retireGrant(c *call, in input) (answer, error) {
	fields := c.fields([]string{"GrantToken", "GrantId", "DryRun"}, in)
	token, keyID, grantID := in.text("GrantToken"), in.text("KeyId"), in.text("GrantId")
	// KMS's own text is not on record.
	if (token == "") != (keyID != "" && grantID != "") || token != "" && keyID+grantID != "" {
		return nil, kms.Validationf("Specify either GrantToken, or KeyId and GrantId.")
	}
	asGrantee, owned := maps.Clone(fields), c.keyOfGrantToken(token)
	if keyID != "" {
		if err := c.resolve(keyID, false); err != nil {
			return nil, err
		}
		owned = c.key.native
		asGrantee["key_id"] = owned
	}
	err := c.post("retire-grant", asGrantee, nil)
	if forbidden(err) && owned != "" {
		if asOwner := c.post("retire-grant/"+owned, fields, nil); !forbidden(asOwner) {
			return nil, asOwner
		}
	}
	return nil, err
}

// keyOfGrantToken returns the native id of the key that a grant token says it is
// for, "" if that is none of the folder's.
func (c *call) keyOfGrantToken(token string) string {
	t, _, ok := kms.ReadGrantToken(token)
	if !ok || kms.CheckKeyID(t.KeyID) != nil || !c.folder.holds(t.KeyID) {
		return ""
	}
	return t.KeyID
}
