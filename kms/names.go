package kms

import (
	"regexp"
	"strings"
)

// AliasPrefix begins every alias name, and no key id.
const AliasPrefix = "alias/"

// MaxKeyIDChars bounds a key id. KMS's own ids are shorter; its model allows
// 2,048 characters for an ARN around one.
const MaxKeyIDChars = 256

var kmsKeyIDPattern = regexp.MustCompile(`^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|mrk-[0-9a-fA-F]{32})$`)

// CheckNotAlias refuses an alias where KMS takes key ids only, before anything
// is looked up.
func CheckNotAlias(id string) error {
	if strings.HasPrefix(id, AliasPrefix) {
		return AliasNotSupported()
	}
	return nil
}

// CheckKeyID accepts the ids that a key can have here: segments of
// [A-Za-z0-9_.-] joined by "/", 256 characters at most, the first segment not
// "alias". KMS's own ids, UUIDs and mrk- ids, are among them. Vault takes ".."
// for an attempt to leave the mount, and "." for nothing, so neither may occur.
func CheckKeyID(id string) error {
	ok := len(id) <= MaxKeyIDChars && isSegmented(id, "_.-") &&
		!strings.Contains(id, "..") && !strings.Contains("/"+id+"/", "/./") &&
		!strings.HasPrefix(id+"/", AliasPrefix)
	if !ok {
		return InvalidKeyID(id)
	}
	return nil
}

// CheckNewKeyID accepts the ids that a new key can have: those of CheckKeyID
// without a segment "alias". In a folder, the key payments/alias/a would have
// the name of the alias alias/a.
func CheckNewKeyID(id string) error {
	if err := CheckKeyID(id); err != nil {
		return err
	}
	if hasAliasSegment(id) {
		ex := InvalidKeyID(id)
		ex.Hint = `(no segment may be "alias")`
		return ex
	}
	return nil
}

func hasAliasSegment(name string) bool { return strings.Contains("/"+name+"/", "/"+AliasPrefix) }

// isSegmented reports whether the name is segments joined by "/", none empty, of
// ASCII letters, digits and the other characters. Each call through the endpoint
// asks, so it is no regular expression.
func isSegmented(name, others string) bool {
	foreign := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(others, c)
	}
	for segment := range strings.SplitSeq(name, "/") {
		if segment == "" || strings.ContainsFunc(segment, foreign) {
			return false
		}
	}
	return true
}

// IsKMSKeyID reports whether the id has the shape of KMS's own: a UUID with
// its dashes, or mrk- and 32 hexadecimal digits.
func IsKMSKeyID(id string) bool { return kmsKeyIDPattern.MatchString(id) }

// CheckAliasName accepts the names that an alias can have, alias/ prefix
// included. Unlike KMS's, a name has no empty segments: Vault's paths have
// none.
func CheckAliasName(name string) error {
	switch {
	case !strings.HasPrefix(name, AliasPrefix):
		return Validationf(`Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)
	case !isSegmented(name, "_-"):
		return Validationf("%s contains invalid characters for an alias", Excerpt(name))
	case strings.HasPrefix(name, "alias/aws/"):
		return &Exception{Type: TypeNotAuthorized, Message: "The alias name for a customer managed CMK cannot begin with alias/aws/."}
	}
	return nil
}

// CheckNewAliasName accepts the names that a new alias can have, alias/ prefix
// included: those of CheckAliasName without another segment "alias".
func CheckNewAliasName(name string) error {
	if err := CheckAliasName(name); err != nil {
		return err
	}
	if hasAliasSegment(strings.TrimPrefix(name, AliasPrefix)) {
		return Validationf(`%s: no segment behind the prefix may be "alias"`, Excerpt(name))
	}
	return nil
}

// FieldName returns the native API's name of a member of the KMS API model:
// KeyId is key_id.
func FieldName(member string) string { return separate(member, '_') }

// PathName returns the name of an operation as the AWS CLI and the native API
// spell it: EnableKey is enable-key.
func PathName(operation string) string { return separate(operation, '-') }

// separate puts a separator before each capital but the first, in lower case.
func separate(name string, separator byte) string {
	var out strings.Builder
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			if i > 0 {
				out.WriteByte(separator)
			}
			c += 'a' - 'A'
		}
		out.WriteByte(c)
	}
	return out.String()
}

// Folder returns the first segment of a key id, or of an alias name after its
// prefix, where more follow it; "" for a name that is in no folder.
func Folder(name string) string {
	folder, _, inFolder := strings.Cut(strings.TrimPrefix(name, AliasPrefix), "/")
	if !inFolder {
		return ""
	}
	return folder
}
