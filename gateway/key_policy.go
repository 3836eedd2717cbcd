package gateway

// GetKeyPolicy, PutKeyPolicy and ListKeyPolicies.

import (
	"encoding/json"
	"reflect"

	"vault-plugin-secrets-kms-hmac/kms"
)

// defaultPolicyName is the name of the only policy a key has.
const defaultPolicyName = "default"

// maxPolicyBytes is KMS's real limit on a key policy, below its model's
// (https://docs.aws.amazon.com/kms/latest/developerguide/resource-limits.html).
const maxPolicyBytes = 32768

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

// checkPolicy accepts the default policy, however it is laid out, and no other:
// storing a policy that nothing enforces would be a lie.
func (c *call) checkPolicy(policy string) error {
	if len(policy) > maxPolicyBytes {
		return kms.LimitExceeded("The key policy exceeds the quota of %d bytes.", maxPolicyBytes)
	}
	var given, own any
	if json.Unmarshal([]byte(policy), &given) != nil {
		return &kms.Exception{Type: typeMalformedPolicy}
	}
	if err := json.Unmarshal([]byte(c.arns().defaultPolicy()), &own); err != nil {
		return err
	}
	if !reflect.DeepEqual(given, own) {
		return &kms.Exception{
			Type:    kms.TypeUnsupportedOperation,
			Message: "Only the default key policy is supported. Vault policies decide who may use a key.",
		}
	}
	return nil
}

func checkPolicyName(in input) error {
	if name := in.text("PolicyName"); name != "" && name != defaultPolicyName {
		return &kms.Exception{Type: kms.TypeNotFound, Message: "No such policy exists"}
	}
	return nil
}

func getKeyPolicy(c *call, in input) (answer, error) {
	if _, err := c.read(); err != nil {
		return nil, err
	}
	if err := checkPolicyName(in); err != nil {
		return nil, err
	}
	return answer{{"Policy", c.arns().defaultPolicy()}, {"PolicyName", defaultPolicyName}}, nil
}

func putKeyPolicy(c *call, in input) (answer, error) {
	if _, err := c.read(); err != nil {
		return nil, err
	}
	if err := checkPolicyName(in); err != nil {
		return nil, err
	}
	return nil, c.checkPolicy(in.text("Policy"))
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
