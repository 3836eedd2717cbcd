package gateway

import (
	"vault-plugin-secrets-kms-hmac/kms"
)

// notForHMAC are the members of the import operations that are for keys with
// several materials.
var notForHMAC = []string{"ImportType", "KeyMaterialDescription", "KeyMaterialId"}

// importKeyMaterial is ImportKeyMaterial and DeleteImportedKeyMaterial.
func importKeyMaterial(c *call, in input) (answer, error) {
	for _, member := range notForHMAC {
		if _, given := in[member]; given {
			return nil, c.refuseImportMember(member)
		}
	}
	return c.simple(c.op, in)
}

// refuseImportMember returns the exception for a member that HMAC keys do not
// have. Its text names the key's spec, and the key's origin and state come
// first.
func (c *call) refuseImportMember(member string) error {
	key, err := c.read()
	if err != nil {
		return err
	}
	facts := key.facts()
	facts.ID = c.key.arn
	if err := kms.Check(c.operation, facts); err != nil {
		return err
	}
	return kms.NotForHMACImport(member, key.KeySpec)
}
