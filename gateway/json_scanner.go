package gateway

// The JSON tokenizer. Both readers of inputs stand on it: json_input.go, which
// reads any operation's input by its members in KMS's model, and mac_input.go.

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"vault-plugin-secrets-kms-hmac/kms"
)

// maxDepth bounds the nesting of JSON. KMS's own inputs nest four levels.
const maxDepth = 32

// scanner reads JSON from a buffer. It is stricter than encoding/json, as a
// service must be: invalid UTF-8, lone control characters and anything behind
// the value are errors. It exists for speed and because the KMS model, and not
// a Go type, says what each member is.
type scanner struct {
	data []byte
	pos  int
}

// serializationError is what AWS's services answer to a body they cannot read.
// The texts never hold a part of the body: it may be a message to be MACed.
func serializationError(text string) error {
	return &kms.Exception{Type: typeSerialization, Message: text}
}

var errSyntax = serializationError("The request body is not a valid JSON document.")

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek returns the next byte that is not white space, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.pos == len(s.data) {
		return 0
	}
	return s.data[s.pos]
}

// accept consumes the next byte that is not white space if it is c.
func (s *scanner) accept(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

// object reads an object; member is called with each name, and must consume
// the value.
func (s *scanner) object(member func(name []byte) error) error {
	if !s.accept('{') {
		return errSyntax
	}
	if s.accept('}') {
		return nil
	}
	for {
		name, err := s.str()
		if err != nil {
			return err
		}
		if !s.accept(':') {
			return errSyntax
		}
		if err := member(name); err != nil {
			return err
		}
		if s.accept('}') {
			return nil
		}
		if !s.accept(',') {
			return errSyntax
		}
	}
}

// array reads an array; element must consume each value.
func (s *scanner) array(element func() error) error {
	if !s.accept('[') {
		return errSyntax
	}
	if s.accept(']') {
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.accept(']') {
			return nil
		}
		if !s.accept(',') {
			return errSyntax
		}
	}
}

// str reads a string. The result is a part of the buffer where the string has
// no escapes, and must not be changed.
func (s *scanner) str() ([]byte, error) {
	if !s.accept('"') {
		return nil, errSyntax
	}
	start, ascii := s.pos, true
	for ; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; {
		case c == '"':
			text := s.data[start:s.pos]
			s.pos++
			if !ascii && !utf8.Valid(text) {
				return nil, errSyntax
			}
			return text, nil
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			return nil, errSyntax
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, errSyntax
}

// escaped reads on a string that began at start and has its first escape here.
func (s *scanner) escaped(start int) ([]byte, error) {
	text := append([]byte(nil), s.data[start:s.pos]...)
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		s.pos++
		switch {
		case c == '"':
			if !utf8.Valid(text) {
				return nil, errSyntax
			}
			return text, nil
		case c == '\\':
			var ok bool
			if text, ok = s.escape(text); !ok {
				return nil, errSyntax
			}
		case c < ' ':
			return nil, errSyntax
		default:
			text = append(text, c)
		}
	}
	return nil, errSyntax
}

// simpleEscapes maps the letter of an escape to its byte.
var simpleEscapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape appends what the escape after a backslash stands for. A surrogate
// without its other half becomes U+FFFD, as in Java and in encoding/json.
func (s *scanner) escape(text []byte) ([]byte, bool) {
	if s.pos == len(s.data) {
		return nil, false
	}
	letter := s.data[s.pos]
	s.pos++
	if c := simpleEscapes[letter]; c != 0 {
		return append(text, c), true
	}
	if letter != 'u' {
		return nil, false
	}
	r, ok := s.hex4()
	if !ok {
		return nil, false
	}
	if utf16.IsSurrogate(r) {
		r = s.lowSurrogate(r)
	}
	return utf8.AppendRune(text, r), true
}

// lowSurrogate joins a surrogate with the escape that follows, if that is its
// other half.
func (s *scanner) lowSurrogate(high rune) rune {
	back := s.pos
	if s.pos+1 < len(s.data) && s.data[s.pos] == '\\' && s.data[s.pos+1] == 'u' {
		s.pos += 2
		if low, ok := s.hex4(); ok {
			if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
				return r
			}
		}
	}
	s.pos = back
	return utf8.RuneError
}

func (s *scanner) hex4() (rune, bool) {
	if len(s.data)-s.pos < 4 {
		return 0, false
	}
	var r rune
	for _, c := range s.data[s.pos : s.pos+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	s.pos += 4
	return r, true
}

// number reads a number and returns it as it is written: a part of the buffer.
func (s *scanner) number() ([]byte, error) {
	s.space()
	start := s.pos
	s.oneOf("-")
	switch {
	case s.oneOf("0"): // and no digit after it
	case s.digits() == 0:
		return nil, errSyntax
	}
	if s.oneOf(".") && s.digits() == 0 {
		return nil, errSyntax
	}
	if s.oneOf("eE") {
		s.oneOf("+-")
		if s.digits() == 0 {
			return nil, errSyntax
		}
	}
	return s.data[start:s.pos], nil
}

func (s *scanner) oneOf(chars string) bool {
	if s.pos < len(s.data) {
		for i := range len(chars) {
			if s.data[s.pos] == chars[i] {
				s.pos++
				return true
			}
		}
	}
	return false
}

func (s *scanner) digits() (n int) {
	for s.pos < len(s.data) && '0' <= s.data[s.pos] && s.data[s.pos] <= '9' {
		s.pos++
		n++
	}
	return n
}

// literal consumes true, false or null.
func (s *scanner) literal(word string) error {
	s.space()
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return errSyntax
	}
	s.pos += len(word)
	return nil
}

// flag reads a boolean; null leaves it as it is.
func (s *scanner) flag(into *bool) error {
	switch s.peek() {
	case 't':
		*into = true
		return s.literal("true")
	case 'f':
		*into = false
		return s.literal("false")
	}
	return s.literal("null")
}

// skip reads over any value.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return serializationError("The request body is nested too deeply.")
	}
	var err error
	switch s.peek() {
	case '{':
		return s.object(func([]byte) error { return s.skip(depth + 1) })
	case '[':
		return s.array(func() error { return s.skip(depth + 1) })
	case '"':
		_, err = s.str()
	case 't':
		err = s.literal("true")
	case 'f':
		err = s.literal("false")
	case 'n':
		err = s.literal("null")
	default:
		_, err = s.number()
	}
	return err
}

// end checks that nothing but white space is left.
func (s *scanner) end() error {
	if s.space(); s.pos != len(s.data) {
		return errSyntax
	}
	return nil
}

// parseInteger turns a JSON number into an integer of 32 bits, which all of
// KMS's are. 1e2 and 7.0 are integers.
func parseInteger(number string) (int64, bool) {
	if n, err := strconv.ParseInt(number, 10, 32); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(number, 64)
	n := int64(int32(f))
	return n, err == nil && float64(n) == f
}
