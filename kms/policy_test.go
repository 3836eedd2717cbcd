package kms

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const testRoot = "arn:aws:iam::111122223333:root"

const rootStatement = `"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"`

func TestCheckKeyPolicyTakes(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]string{
		"KMS's own": `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::111122223333:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`,
		"no names":        `{"Version":"2012-10-17","Statement":[{` + rootStatement + `}]}`,
		"other names":     `{"Id":"x","Statement":[{"Sid":"y",` + rootStatement + `}],"Version":"2012-10-17"}`,
		"no list":         `{"Version":"2012-10-17","Statement":{` + rootStatement + `}}`,
		"no version":      `{"Statement":[{` + rootStatement + `}]}`,
		"older version":   `{"Version":"2008-10-17","Statement":[{` + rootStatement + `}]}`,
		"lists":           `{"Statement":[{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111122223333:root"]},"Action":["kms:*"],"Resource":["*"]}]}`,
		"account":         `{"Statement":[{"Resource":"*","Action":"KMS:*","Principal":{"AWS":"111122223333"},"Effect":"Allow"}]}`,
		"escapes":         `{"Statement":[{"\u0045ffect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:\u002a","Resource":"*"}]}`,
		"all it may have": padded(MaxPolicyBytes),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, CheckKeyPolicy(policy, testRoot))
			require.NoError(t, CheckKeyPolicy(policy, ""))
		})
	}
}

// padded returns a policy of so many bytes.
func padded(n int) string {
	policy := `{"Statement":[{` + rootStatement + `}]}`
	return strings.Repeat(" ", n-len(policy)) + policy
}

func TestCheckKeyPolicyRefuses(t *testing.T) {
	t.Parallel()
	const unsupported = "Only key policies that mean what the default key policy means are supported. Vault policies decide who may use a key."
	statement := func(text string) string { return `{"Version":"2012-10-17","Statement":[` + text + `]}` }
	with := func(from, to string) string {
		return statement(`{` + strings.Replace(rootStatement, from, to, 1) + `}`)
	}
	for name, policy := range map[string]string{
		"another account":    with("111122223333", "444455556666"),
		"another partition":  with("arn:aws:", "arn:aws-cn:"),
		"a role":             with(":root", ":role/x"),
		"everybody":          with(`{"AWS":"arn:aws:iam::111122223333:root"}`, `"*"`),
		"everybody in AWS":   with("arn:aws:iam::111122223333:root", "*"),
		"a service too":      with(`:root"}`, `:root","Service":"rds.amazonaws.com"}`),
		"two principals":     with(`"arn:aws:iam::111122223333:root"`, `["arn:aws:iam::111122223333:root","arn:aws:iam::111122223333:root"]`),
		"a line after":       with(`:root"`, `:root\n"`),
		"deny":               with("Allow", "Deny"),
		"fewer actions":      with("kms:*", "kms:GenerateMac"),
		"other actions":      with("kms:*", "*"),
		"a resource":         with(`"Resource":"*"`, `"Resource":"arn:aws:kms:us-east-1:111122223333:key/x"`),
		"a condition":        with(`"Effect"`, `"Condition":{},"Effect"`),
		"all but the action": with(`"Action"`, `"NotAction"`),
		"no action":          with(`"Action":"kms:*",`, ``),
		"no resource":        with(`,"Resource":"*"`, ``),
		"no principal":       with(`"Principal":{"AWS":"arn:aws:iam::111122223333:root"},`, ``),
		"null":               with(`"kms:*"`, `null`),
		"two statements":     statement(`{` + rootStatement + `},{` + rootStatement + `}`),
		"no statement":       statement(``),
		"list of a list":     statement(`[{` + rootStatement + `}]`),
		"unknown version":    `{"Version":"2020-10-17","Statement":[{` + rootStatement + `}]}`,
		"Id that is no text": `{"Id":1,"Statement":[{` + rootStatement + `}]}`,
		"something else":     `{"statement":[{` + rootStatement + `}]}`,
		"empty":              `{}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireException(t, CheckKeyPolicy(policy, testRoot), TypeUnsupportedOperation, unsupported)
		})
	}
	for name, policy := range map[string]string{
		"no JSON": `x`, "nothing": ` `, "no object": `[{}]`, "text": `"x"`, "not ended": `{"Statement":`, "more after it": `{}{}`, "more": `{} x`,
		"twice":        `{"Statement":[{"Effect":"Deny",` + rootStatement + `}]}`,
		"twice, above": `{"Statement":[],"Statement":[{` + rootStatement + `}]}`,
		"deep":         strings.Repeat(`{"a":`, 9) + `1` + strings.Repeat(`}`, 9),
		"deeper":       strings.Repeat(`[`, MaxPolicyBytes),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireException(t, CheckKeyPolicy(policy, testRoot), TypeMalformedPolicy, "")
		})
	}
	for _, principal := range []string{"", "1234", "arn:aws:iam::111122223333", "111122223333:root", "arn:aws:iam::111122223333:user/x", "*"} {
		policy := statement(`{` + strings.Replace(rootStatement, testRoot, principal, 1) + `}`)
		requireException(t, CheckKeyPolicy(policy, ""), TypeUnsupportedOperation, unsupported)
		requireException(t, CheckKeyPolicy(policy, testRoot), TypeUnsupportedOperation, unsupported)
	}
	requireException(t, CheckKeyPolicy(padded(MaxPolicyBytes+1), ""), TypeLimitExceeded, "The key policy exceeds the quota of 32768 bytes.")
}

// FuzzCheckKeyPolicy: what is taken is JSON, and means the same when it is
// written anew.
func FuzzCheckKeyPolicy(f *testing.F) {
	f.Add(`{"Version":"2012-10-17","Id":"i","Statement":[{"Sid":"s",` + rootStatement + `}]}`)
	f.Add(`{"Statement":{"Principal":{"AWS":["111122223333"]},"Action":["kms:*"],"Resource":["*"],"Effect":"Allow"}}`)
	f.Fuzz(func(t *testing.T, policy string) {
		if CheckKeyPolicy(policy, "") != nil {
			return
		}
		var document map[string]any
		require.NoError(t, json.Unmarshal([]byte(policy), &document))
		again, err := json.Marshal(document)
		require.NoError(t, err)
		require.NoError(t, CheckKeyPolicy(string(again), ""))
	})
}
