package kms

import (
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
)

// MaxPolicyBytes is KMS's real limit on a key policy, below its model's
// (https://docs.aws.amazon.com/kms/latest/developerguide/resource-limits.html).
const MaxPolicyBytes = 32768

// rootPrincipal is an account as a policy names it: by the ARN of its root, or
// by its number.
var rootPrincipal = regexp.MustCompile(`^(arn:[a-z0-9-]+:iam::[0-9]{12}:root|[0-9]{12})$`)

// CheckKeyPolicy accepts a key policy that means what KMS's default policy
// means, one Allow of kms:* on * to the account's root, however it says so. It
// leaves all decisions to the account's own permissions, which here are Vault's
// policies. No other is taken: nothing would enforce it. root is the ARN of the
// account's root; with "" any account will do.
func CheckKeyPolicy(policy, root string) error {
	if len(policy) > MaxPolicyBytes {
		return LimitExceeded("The key policy exceeds the quota of %d bytes.", MaxPolicyBytes)
	}
	document, err := parsePolicy(policy)
	if err != nil {
		return &Exception{Type: TypeMalformedPolicy, Hint: "The policy must be a JSON object in which no name occurs twice."}
	}
	if !isDefaultPolicy(document, root) {
		return &Exception{
			Type:    TypeUnsupportedOperation,
			Message: "Only key policies that mean what the default key policy means are supported. Vault policies decide who may use a key.",
		}
	}
	return nil
}

func isDefaultPolicy(document map[string]any, root string) bool {
	if !hasOnly(document, "Version", "Id", "Statement") || !isTextOrAbsent(document["Id"]) {
		return false
	}
	if version := document["Version"]; version != nil && version != "2012-10-17" && version != "2008-10-17" {
		return false
	}
	statement, _ := single(document["Statement"]).(map[string]any)
	principal, _ := statement["Principal"].(map[string]any)
	action, _ := single(statement["Action"]).(string)
	return hasOnly(statement, "Sid", "Effect", "Principal", "Action", "Resource") && isTextOrAbsent(statement["Sid"]) &&
		statement["Effect"] == "Allow" &&
		hasOnly(principal, "AWS") && isRoot(single(principal["AWS"]), root) &&
		strings.EqualFold(action, "kms:*") && single(statement["Resource"]) == "*"
}

func isRoot(principal any, root string) bool {
	text, _ := principal.(string)
	if root == "" {
		return rootPrincipal.MatchString(text)
	}
	parts := strings.Split(root, ":") // the fifth is the account
	return text == root || len(parts) == 6 && text == parts[4]
}

func isTextOrAbsent(value any) bool {
	_, ok := value.(string)
	return ok || value == nil
}

func hasOnly(object map[string]any, names ...string) bool {
	known := 0
	for _, name := range names {
		if _, ok := object[name]; ok {
			known++
		}
	}
	return known == len(object)
}

// single returns a value, or the one element of a list: policies allow either.
func single(value any) any {
	if list, ok := value.([]any); ok && len(list) == 1 {
		return list[0]
	}
	return value
}

// maxPolicyDepth is more than any policy has that is taken.
const maxPolicyDepth = 8

var errPolicy = errors.New("no policy document")

// parsePolicy reads a JSON object. Names that occur twice are refused: who reads
// the policy must see what was checked.
func parsePolicy(policy string) (map[string]any, error) {
	decoder := json.NewDecoder(strings.NewReader(policy))
	value, err := parseValue(decoder, maxPolicyDepth)
	if err != nil {
		return nil, err
	}
	document, ok := value.(map[string]any)
	if _, err := decoder.Token(); !ok || !errors.Is(err, io.EOF) {
		return nil, errPolicy
	}
	return document, nil
}

func parseValue(decoder *json.Decoder, depth int) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch {
	case token == json.Delim('{') && depth > 0:
		return parseObject(decoder, depth-1)
	case token == json.Delim('[') && depth > 0:
		return parseList(decoder, depth-1)
	}
	if _, deeper := token.(json.Delim); deeper {
		return nil, errPolicy
	}
	return token, nil
}

func parseObject(decoder *json.Decoder, depth int) (map[string]any, error) {
	object := map[string]any{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string)
		if _, twice := object[name]; twice {
			return nil, errPolicy
		}
		if object[name], err = parseValue(decoder, depth); err != nil {
			return nil, err
		}
	}
	_, err := decoder.Token()
	return object, err
}

func parseList(decoder *json.Decoder, depth int) ([]any, error) {
	list := []any{}
	for decoder.More() {
		element, err := parseValue(decoder, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, element)
	}
	_, err := decoder.Token()
	return list, err
}
