package gateway

// ARNs, and the key identifiers of KMS, which are ids, names or ARNs.

import (
	"strings"

	"vault-plugin-secrets-kms-hmac/kms"
)

// ARNs makes and reads the ARNs of one account in one Region.
type ARNs struct {
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

func (a ARNs) kms(resource string) string {
	return "arn:" + a.Partition + ":kms:" + a.Region + ":" + a.Account + ":" + resource
}

// key returns the ARN of a key, by its id as the client knows it.
func (a ARNs) key(id string) string { return a.kms("key/" + id) }

// alias returns the ARN of an alias, whose name has its alias/ prefix.
func (a ARNs) alias(name string) string { return a.kms(name) }

// assumedRole returns the ARN of a session: of an entity of Vault that has logged
// in to a role.
func (a ARNs) assumedRole(role, entity string) string {
	if entity == "" {
		entity = noEntity
	}
	return a.sessions() + role + "/" + entity
}

// sessions is what the ARNs of sessions begin with.
func (a ARNs) sessions() string {
	return "arn:" + a.Partition + ":sts::" + a.Account + ":assumed-role/"
}

// user returns the ARN of an IAM user.
func (a ARNs) user(name string) string {
	return "arn:" + a.Partition + ":iam::" + a.Account + ":user/" + name
}

// root returns the ARN of the account.
func (a ARNs) root() string { return "arn:" + a.Partition + ":iam::" + a.Account + ":root" }

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

// parse takes a key id, key ARN, alias name or alias ARN apart.
//
// It fails with NotFoundException: "Invalid arn <region>" for an ARN of
// another Region, as KMS says, and by analogy for another partition or
// service; "Invalid keyId ..." for an ARN of anything else than a key or an
// alias, for which KMS's answer is not on record.
func (a ARNs) parse(text string) (identifier, error) {
	if !strings.HasPrefix(text, arnPrefix) {
		return identifier{name: text, alias: strings.HasPrefix(text, kms.AliasPrefix)}, nil
	}
	named, ok := parseARN(text)
	if !ok {
		return identifier{}, invalidKeyID(text, false)
	}
	for _, part := range [][2]string{{named.service, "kms"}, {named.partition, a.Partition}, {named.region, a.Region}} {
		if part[0] != part[1] {
			return identifier{}, &kms.Exception{Type: kms.TypeNotFound, Message: "Invalid arn " + part[0]}
		}
	}
	id := identifier{fromARN: true}
	if named.account != a.Account {
		id.foreign = text
	}
	if strings.HasPrefix(named.resource, kms.AliasPrefix) {
		id.name, id.alias = named.resource, true
		return id, nil
	}
	if id.name, ok = strings.CutPrefix(named.resource, "key/"); !ok {
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
func (a ARNs) noSuchKey(id string, fromARN bool) error {
	if !kms.IsKMSKeyID(id) {
		return invalidKeyID(id, fromARN)
	}
	return kms.KeyNotFound(a.key(id))
}
