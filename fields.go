package kmshmac

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

// checkFields refuses fields that the path does not know and values that do
// not fit their type, naming the field but never its value. It comes before
// the framework decodes anything, and goes through the fields in the order of
// their names, so that of several faults it is always the same that is named.
func (b *backend) checkFields(req *logical.Request) error {
	if req.Operation == logical.HelpOperation || len(req.Data) == 0 {
		return nil
	}
	path := b.Route(req.Path)
	if path == nil {
		return nil // the framework answers 404
	}
	known := bodyFields(path)
	if err := onlyFields(req.Data, known); err != nil {
		return err
	}
	for _, name := range known {
		value, given := req.Data[name]
		if value == nil {
			delete(req.Data, name) // null and absent are the same, as in KMS
		}
		if !given || value == nil {
			continue
		}
		if seconds, ok := value.(float64); ok && path.Fields[name].Type == framework.TypeTime {
			// The plugin boundary makes every number one that the framework
			// does not take for a time.
			req.Data[name] = int64(seconds)
		}
		if err := checkField(name, path.Fields[name], req.Data); err != nil {
			return err
		}
	}
	return nil
}

// checkField holds one field against its type. Lists are counted before they
// are decoded: the framework would split a megabyte of commas first.
func checkField(name string, schema *framework.FieldSchema, data map[string]any) error {
	if err := checkElements(name, schema.Type, data[name]); err != nil {
		return err
	}
	if !isWhole(schema.Type, data[name]) {
		unit := ""
		if schema.Type == framework.TypeDurationSecond {
			unit = " of seconds"
		}
		return kms.Validationf("%s must be a whole number%s", name, unit)
	}
	d := framework.FieldData{Raw: data, Schema: map[string]*framework.FieldSchema{name: schema}}
	_, _, err := d.GetOkErr(name)
	switch {
	case err == nil:
		return nil
	case schema.Type == framework.TypeKVPairs:
		return kms.Validationf("%[1]s must be a map of strings: on the command line write %[1]s=key=value for each, "+
			"or send the whole request as JSON on standard input, with - as its only argument", name)
	}
	return kms.Validationf("%s must be of type %s", name, schema.Type)
}

// checkElements refuses a list or map with more elements than any good one has.
func checkElements(name string, t framework.FieldType, value any) error {
	most := kms.MaxListElements
	switch {
	case name == "grant_tokens":
		most = kms.MaxGrantTokens
	case t == framework.TypeSlice:
		most = kms.MaxBatchItems
	}
	n := 0
	switch value := value.(type) {
	case []any:
		n = len(value)
	case map[string]any:
		n = len(value)
	case string:
		if t == framework.TypeCommaStringSlice {
			n = strings.Count(value, ",") + 1
		}
	}
	if n > most {
		return kms.ListTooLong(name, most)
	}
	return nil
}

// isWhole reports whether a number, or a duration in seconds, loses nothing by
// becoming an integer, which the framework makes of it without a word. Of what
// is neither it is true.
func isWhole(t framework.FieldType, value any) bool {
	number, isNumber := value.(float64)
	switch {
	case t != framework.TypeInt && t != framework.TypeDurationSecond:
		return true
	case isNumber:
		return number == math.Trunc(number)
	case t == framework.TypeDurationSecond:
		duration, err := parseutil.ParseDurationSecond(value)
		return err != nil || duration%time.Second == 0
	}
	return true
}

// onlyFields refuses the first, in alphabetical order, of the fields that are
// not among the known ones. Nulls count as absent.
func onlyFields(data map[string]any, known []string) error {
	unknown, found := "", false
	for name, value := range data {
		if value != nil && !slices.Contains(known, name) && (!found || name < unknown) {
			unknown, found = name, true
		}
	}
	if found {
		return unknownField(unknown, known)
	}
	return nil
}

func unknownField(name string, known []string) error {
	const shown = 64
	if len(name) > shown {
		name = name[:shown]
	}
	if len(known) == 0 {
		return kms.Validationf("unknown field %q: this path takes no fields", name)
	}
	return kms.Validationf("unknown field %q: this path takes %s", name, strings.Join(known, ", "))
}

// commaList reads a list of strings, or one comma-separated string, of at most
// so many elements.
func commaList(name string, value any) ([]string, error) {
	if err := checkElements(name, framework.TypeCommaStringSlice, value); err != nil {
		return nil, err
	}
	list, err := parseutil.ParseCommaStringSlice(value)
	if err != nil {
		return nil, kms.Validationf("%s must be a list of strings", name)
	}
	return list, nil
}

// isURLField reports whether a field is part of the path's URL, where a value
// in the body would be ignored.
func isURLField(path *framework.Path, name string) bool {
	return strings.Contains(path.Pattern, "(?P<"+name+">")
}

func bodyFields(path *framework.Path) []string {
	var names []string
	for name := range path.Fields {
		if !isURLField(path, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
