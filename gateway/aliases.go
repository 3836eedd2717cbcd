package gateway

// CreateAlias, UpdateAlias and DeleteAlias.

import (
	"net/http"
	"strings"
	"time"

	"vault-plugin-secrets-kms-hmac/kms"
)

// maxAliasName is the most characters of an alias in KMS's model, its prefix
// among them.
const maxAliasName = 256

// aliasRecord is a native alias.
type aliasRecord struct {
	AliasName       string    `json:"alias_name"`
	TargetKeyID     string    `json:"target_key_id"`
	CreationDate    time.Time `json:"creation_date"`
	LastUpdatedDate time.Time `json:"last_updated_date"`
}

// checkAlias checks the name of an alias, and that what it is to point at is
// no alias and no key of another account.
func checkAlias(c *call, in input) error {
	name := in.text("AliasName")
	if err := kms.CheckAliasName(name); err != nil {
		return err
	}
	// The mount's own limit counts the folder.
	if most := maxAliasName - len(c.folder.dir()); len(name) > most {
		return kms.Validationf("1 validation error detected: Value '%s' at 'aliasName' failed to satisfy constraint: Member must have length less than or equal to %d", name, most)
	}
	target := in.text("TargetKeyId")
	if target == "" {
		return nil // DeleteAlias
	}
	id, err := c.arns().parse(target)
	switch {
	case err != nil:
		return err
	case id.alias:
		return kms.AliasTarget()
	case id.foreign != "":
		return kms.Validationf("This operation cannot be called cross account")
	}
	return nil
}

func createAlias(c *call, in input) (answer, error) { return c.setAlias(in, false) }

func updateAlias(c *call, in input) (answer, error) { return c.setAlias(in, true) }

// setAlias points an alias at a key.
func (c *call) setAlias(in input, mustExist bool) (answer, error) {
	if err := c.resolve(in.text("TargetKeyId"), false); err != nil {
		return nil, err
	}
	return nil, c.post(c.aliasPath(in), map[string]any{"target_key_id": c.key.native, "must_exist": mustExist}, nil)
}

func deleteAlias(c *call, in input) (answer, error) {
	c.resource = c.arns().alias(in.text("AliasName"))
	return nil, c.request(http.MethodDelete, c.aliasPath(in), nil, nil, nil)
}

func (c *call) aliasPath(in input) string {
	return "aliases/" + strings.TrimPrefix(c.folder.nativeAlias(in.text("AliasName")), kms.AliasPrefix)
}
