package gateway

// GetKeyPolicy, PutKeyPolicy and ListKeyPolicies.

import "vault-plugin-secrets-kms-hmac/kms"

// defaultPolicyName is the name of the only policy a key has.
const defaultPolicyName = "default"

// defaultPolicy returns the policy that KMS gives to keys created without one,
// to the letter. It leaves all decisions to the account's own permissions,
// which here are Vault's policies.
func (a ARNs) defaultPolicy() string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "` + a.root() + `"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
}

func checkPolicyName(in input) error {
	if name := in.text("PolicyName"); name != "" && name != defaultPolicyName {
		return &kms.Exception{Type: kms.TypeNotFound, Message: "No such policy exists"}
	}
	return nil
}

// getKeyPolicy answers the policy that was put, or else KMS's default.
func getKeyPolicy(c *call, in input) (answer, error) {
	var native struct {
		Policy string `json:"policy"`
	}
	if err := c.get("get-key-policy/"+c.key.native, &native); err != nil {
		return nil, c.orNotFound(err)
	}
	if err := checkPolicyName(in); err != nil {
		return nil, err
	}
	if native.Policy == "" {
		native.Policy = c.arns().defaultPolicy()
	}
	return answer{{"Policy", native.Policy}, {"PolicyName", defaultPolicyName}}, nil
}

// putKeyPolicy refuses a policy once it is known that the key is there.
func putKeyPolicy(c *call, in input) (answer, error) {
	err := checkPolicyName(in)
	if err == nil {
		err = kms.CheckKeyPolicy(in.text("Policy"), c.arns().root())
	}
	if err == nil {
		return nil, c.post("put-key-policy/"+c.key.native, c.fields([]string{"Policy"}, in), nil)
	}
	if _, missing := c.read(); missing != nil && !forbidden(missing) {
		return nil, missing
	}
	return nil, err
}

func listKeyPolicies(c *call, in input) (answer, error) {
	if _, err := c.read(); err != nil {
		return nil, err
	}
	if in.text("Marker") != "" { // there is no second page
		return nil, kms.InvalidMarker()
	}
	return answer{{"PolicyNames", []string{defaultPolicyName}}, {"Truncated", false}}, nil
}
