package gateway

import (
	"strings"

	"vault-plugin-secrets-kms-hmac/kms"
)

// Place is where the endpoint says it is: what stands in its ARNs.
type Place struct {
	Partition, Region, Account string
}

// arn is an ARN in its parts.
type arn struct {
	partition, service, region, account, resource string
}

// arnPrefix begins every ARN, and neither a key id nor an alias: both have no
// colon.
const arnPrefix = "arn:"

// parseARN splits an ARN; ok is false where it has not all six parts.
func parseARN(text string) (a arn, ok bool) {
	parts := strings.SplitN(text, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" {
		return arn{}, false
	}
	return arn{parts[1], parts[2], parts[3], parts[4], parts[5]}, true
}

func (p Place) kmsARN(resource string) string {
	return "arn:" + p.Partition + ":kms:" + p.Region + ":" + p.Account + ":" + resource
}

// keyARN returns the ARN of a key, by its id as the client knows it.
func (p Place) keyARN(id string) string { return p.kmsARN("key/" + id) }

// aliasARN returns the ARN of an alias, whose name has its alias/ prefix.
func (p Place) aliasARN(name string) string { return p.kmsARN(name) }

// userARN returns the ARN of an IAM user.
func (p Place) userARN(name string) string {
	return "arn:" + p.Partition + ":iam::" + p.Account + ":user/" + name
}

// rootARN returns the ARN of the account.
func (p Place) rootARN() string { return "arn:" + p.Partition + ":iam::" + p.Account + ":root" }

// identifier is a key identifier as a client sent it, taken apart.
type identifier struct {
	// name is a key id, or an alias with its alias/ prefix, as the client
	// knows it.
	name    string
	alias   bool
	fromARN bool
	// foreign is the ARN itself where it is of another account. No such key
	// or alias exists here.
	foreign string
}

// parseIdentifier takes a key id, key ARN, alias name or alias ARN apart.
//
// It fails with NotFoundException: "Invalid arn <region>" for an ARN of
// another Region, as KMS says, and by analogy for another partition or
// service; "Invalid keyId ..." for an ARN of anything else than a key or an
// alias, for which KMS's answer is not on record.
func (p Place) parseIdentifier(text string) (identifier, error) {
	if !strings.HasPrefix(text, arnPrefix) {
		return identifier{name: text, alias: strings.HasPrefix(text, kms.AliasPrefix)}, nil
	}
	a, ok := parseARN(text)
	if !ok {
		return identifier{}, invalidKeyID(text, false)
	}
	for _, part := range [][2]string{{a.service, "kms"}, {a.partition, p.Partition}, {a.region, p.Region}} {
		if part[0] != part[1] {
			return identifier{}, &kms.Exception{Type: kms.TypeNotFound, Message: "Invalid arn " + part[0]}
		}
	}
	id := identifier{fromARN: true}
	if a.account != p.Account {
		id.foreign = text
	}
	if strings.HasPrefix(a.resource, kms.AliasPrefix) {
		id.name, id.alias = a.resource, true
		return id, nil
	}
	if id.name, ok = strings.CutPrefix(a.resource, "key/"); !ok {
		return identifier{}, invalidKeyID(text, false)
	}
	return id, nil
}

// invalidKeyID is KMS's answer to an id that is none: in quotes where it was
// sent as it is, without where it stood in an ARN.
func invalidKeyID(id string, fromARN bool) error {
	if fromARN {
		return &kms.Exception{Type: kms.TypeNotFound, Message: "Invalid keyId " + id}
	}
	return kms.InvalidKeyID(id)
}

// noSuchKey is the answer where no key has the id. KMS tells ids of a wrong
// shape from ids that are free; keys here may have other ids than KMS's, so the
// shape decides only once the key is known not to be there.
func (p Place) noSuchKey(id string, fromARN bool) error {
	if !kms.IsKMSKeyID(id) {
		return invalidKeyID(id, fromARN)
	}
	return kms.KeyNotFound(p.keyARN(id))
}
