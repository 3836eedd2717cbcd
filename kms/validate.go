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
	// Sensitive values are never repeated in an error, and not even called null.
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

// Limits of what one ValidationException says and of what is looked at to say
// it. KMS's own are not known: they are there so that neither grows with the
// request by more than the request itself does.
const (
	// MaxListElements bounds the lists that the model does not bound: four
	// times the longest that any of KMS's rules accepts.
	MaxListElements = 200

	maxViolations     = 20
	maxViolationBytes = 16 << 10
	maxExcerptBytes   = 512
)

// MaxElements returns the most elements of a List that are looked at. A list
// with more is refused by its number of elements alone, so a decoder needs to
// keep no more than one beyond.
func (s *Shape) MaxElements() int {
	if s.Max > 0 {
		return s.Max
	}
	return MaxListElements
}

// ListTooLong is what Validate and ValidateFields say of a list with more
// elements than most, for decoders that count before they decode.
func ListTooLong(at string, most int) *Exception {
	return Validationf("1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", at, most)
}

// Excerpt returns a caller's text as errors repeat it: whole, or, beyond 512
// bytes, its beginning.
func Excerpt(text string) string {
	if len(text) <= maxExcerptBytes {
		return text
	}
	end := maxExcerptBytes
	for end > maxExcerptBytes-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}

// Validate holds an operation's input against the KMS API model, before any
// key is looked up, as KMS does: violations are collected into one
// ValidationException, up to 20 of them. Values have the Go types that Type
// names; an absent member and nil are the same. No value of a Blob or of a
// Sensitive member is repeated in the error, and of others only an Excerpt.
func Validate(operation string, input map[string]any) error {
	return validate(operation, input, &validator{nameOf: lowerFirst})
}

// ValidateFields is Validate for the native API: errors name members as its
// fields are named, and list of the words of an enumeration only those that
// HMAC keys have a use for.
func ValidateFields(operation string, input map[string]any) error {
	return validate(operation, input, &validator{nameOf: FieldName, words: wordsForHMAC})
}

func validate(operation string, input map[string]any, v *validator) error {
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

// MissingMember is the ValidationException for a member, by the name that the
// caller knows it by, that has to be there.
func MissingMember(name string) *Exception {
	return Validationf("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", name)
}

type validator struct {
	nameOf func(member string) string
	// words are the enumerations that are listed otherwise than in the model.
	words      map[*Shape][]string
	violations []string
	bytes      int // of all violations
}

// full reports whether the error has all that fits, so that looking at more
// would be in vain.
func (v *validator) full() bool {
	return len(v.violations) >= maxViolations || v.bytes >= maxViolationBytes
}

func (v *validator) members(path string, members []Member, values map[string]any) {
	for _, m := range members {
		if v.full() {
			return
		}
		at := path + v.nameOf(m.Name)
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
		v.text(at, shape, value)
	case []byte:
		v.length(at, "", shape.Min, shape.Max, len(value))
	case int64:
		v.number(at, shape, value)
	case []any:
		v.list(at, shape, value)
	case map[string]any:
		v.members(at+".", shape.Members, value)
	}
}

func (v *validator) text(at string, shape *Shape, value string) {
	shown := ""
	if !shape.Sensitive {
		shown = " '" + Excerpt(value) + "'"
	}
	v.length(at, shown, shape.Min, shape.Max, utf8.RuneCountInString(value))
	if shape.Pattern != "" && !compiled(shape.Pattern).MatchString(value) {
		v.add("Value%s at '%s' failed to satisfy constraint: Member must satisfy regular expression pattern: %s", shown, at, shape.Pattern)
	}
	if shape.Enum != nil && !slices.Contains(shape.Enum, value) {
		words := shape.Enum
		if fewer, ok := v.words[shape]; ok {
			words = fewer
		}
		v.add("Value%s at '%s' failed to satisfy constraint: Member must satisfy enum value set: [%s]", shown, at, strings.Join(words, ", "))
	}
}

// list refuses a list that is too long without a look at its elements. Their
// values are not repeated: the only lists that the model bounds hold grant
// tokens.
func (v *validator) list(at string, shape *Shape, values []any) {
	most := shape.MaxElements()
	v.length(at, "", shape.Min, most, len(values))
	if len(values) > most {
		return
	}
	for i, element := range values {
		if v.full() {
			return
		}
		v.value(fmt.Sprintf("%s.%d.member", at, i+1), shape.Element, element)
	}
}

func (v *validator) length(at, shown string, least, most, n int) {
	if n < least {
		v.add("Value%s at '%s' failed to satisfy constraint: Member must have length greater than or equal to %d", shown, at, least)
	}
	if most > 0 && n > most {
		v.add("Value%s at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", shown, at, most)
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
	violation := fmt.Sprintf(format, args...)
	v.bytes += len(violation)
	v.violations = append(v.violations, violation)
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
