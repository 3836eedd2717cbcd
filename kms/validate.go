package kms

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Type is the type of a member of the KMS API model.
type Type int

const (
	String    Type = iota // string
	Blob                  // []byte, base64 on the wire
	Integer               // int64
	Boolean               // bool
	Timestamp             // time.Time, epoch seconds on the wire
	List                  // []any
	Structure             // map[string]any
	Map                   // map[string]any, of free keys
)

// Shape is what the KMS API model says of a member's values.
type Shape struct {
	Type Type
	// Min and Max bound the characters of a String, the bytes of a Blob, the
	// elements of a List and the value of an Integer. Max 0 is no bound.
	Min, Max int
	// Pattern is a regular expression that the whole String must match, in
	// the notation in which KMS prints it.
	Pattern string
	Enum    []string
	// Sensitive values are not even called null in an error.
	Sensitive bool
	Element   *Shape   // of a List
	Members   []Member // of a Structure, in the model's order
}

// Member is a named member of an operation's input or of a structure.
type Member struct {
	Name     string
	Required bool
	Shape    *Shape
}

// Operations returns the names of KMS's operations, sorted.
func Operations() []string {
	names := make([]string, 0, len(operations))
	for name := range operations {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Input returns the members of an operation's input, in the model's order;
// ok is false for a name that is no operation of KMS.
func Input(operation string) (members []Member, ok bool) {
	members, ok = operations[operation]
	return members, ok
}

// Validate holds an operation's input against the KMS API model, before any
// key is looked up, as KMS does: all violations are collected into one
// ValidationException. Values have the Go types that Type names; an absent
// member and nil are the same. No value of a Blob or of a Sensitive member is
// repeated in the error.
func Validate(operation string, input map[string]any) error {
	v := validator{}
	v.members("", operations[operation], input)
	if len(v.violations) == 0 {
		return nil
	}
	noun := "error"
	if len(v.violations) > 1 {
		noun = "errors"
	}
	return Validationf("%d validation %s detected: %s", len(v.violations), noun, strings.Join(v.violations, "; "))
}

type validator struct{ violations []string }

func (v *validator) members(path string, members []Member, values map[string]any) {
	for _, m := range members {
		at := path + lowerFirst(m.Name)
		value := values[m.Name]
		switch {
		case value != nil:
			v.value(at, m.Shape, value)
		case m.Required && m.Shape.Sensitive:
			v.add("Value at '%s' failed to satisfy constraint: Member must not be null", at)
		case m.Required:
			v.add("Value null at '%s' failed to satisfy constraint: Member must not be null", at)
		}
	}
}

func (v *validator) value(at string, shape *Shape, value any) {
	switch value := value.(type) {
	case string:
		shown := " '" + value + "'"
		if shape.Sensitive {
			shown = ""
		}
		v.length(at, shown, shape, utf8.RuneCountInString(value))
		if shape.Pattern != "" && !compiled(shape.Pattern).MatchString(value) {
			v.add("Value%s at '%s' failed to satisfy constraint: Member must satisfy regular expression pattern: %s", shown, at, shape.Pattern)
		}
		if shape.Enum != nil && !slices.Contains(shape.Enum, value) {
			v.add("Value%s at '%s' failed to satisfy constraint: Member must satisfy enum value set: [%s]", shown, at, strings.Join(shape.Enum, ", "))
		}
	case []byte:
		v.length(at, "", shape, len(value))
	case int64:
		v.number(at, shape, value)
	case []any:
		v.length(at, fmt.Sprintf(" '%s'", listText(value)), shape, len(value))
		for i, element := range value {
			v.value(fmt.Sprintf("%s.%d.member", at, i+1), shape.Element, element)
		}
	case map[string]any:
		v.members(at+".", shape.Members, value)
	}
}

func (v *validator) length(at, shown string, shape *Shape, n int) {
	if n < shape.Min {
		v.add("Value%s at '%s' failed to satisfy constraint: Member must have length greater than or equal to %d", shown, at, shape.Min)
	}
	if shape.Max > 0 && n > shape.Max {
		v.add("Value%s at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", shown, at, shape.Max)
	}
}

func (v *validator) number(at string, shape *Shape, n int64) {
	if n < int64(shape.Min) {
		v.add("Value '%d' at '%s' failed to satisfy constraint: Member must have value greater than or equal to %d", n, at, shape.Min)
	}
	if shape.Max > 0 && n > int64(shape.Max) {
		v.add("Value '%d' at '%s' failed to satisfy constraint: Member must have value less than or equal to %d", n, at, shape.Max)
	}
}

func (v *validator) add(format string, args ...any) {
	v.violations = append(v.violations, fmt.Sprintf(format, args...))
}

// listText prints a list of strings the way KMS does: [a, b].
func listText(values []any) string {
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = fmt.Sprint(value)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

var patterns sync.Map // of Pattern to *regexp.Regexp

var unicodeEscape = regexp.MustCompile(`\\u([0-9A-Fa-f]{4})`)

// compiled translates a pattern of the model, which is a Java one, into Go's
// notation and caches it. The patterns come from this package's table alone.
func compiled(pattern string) *regexp.Regexp {
	if re, ok := patterns.Load(pattern); ok {
		return re.(*regexp.Regexp)
	}
	notation := unicodeEscape.ReplaceAllString(pattern, `\x{$1}`)
	notation = strings.ReplaceAll(notation, `\p{ASCII}`, `[\x00-\x7F]`)
	re := regexp.MustCompile(`\A(?:` + notation + `)\z`)
	patterns.Store(pattern, re)
	return re
}
