package gateway

// Inputs of any operation, read from JSON by their members in KMS's model.

import (
	"encoding/base64"
	"math"
	"strconv"
	"time"

	"vault-plugin-secrets-kms-hmac/kms"
)

// decodeInput reads the body of a call by the operation's members in the KMS
// model. The values have the types that kms.Validate expects; null and absent
// are the same, unknown members are ignored, and names are case-sensitive. A
// body of nothing is an empty object, as AWS's services take it.
//
// It fails with SerializationException where the body is not one JSON object,
// a value has another JSON type than the model's, a blob is not base64, or a
// member is given twice: a body of two meanings has none.
//
// What is kept is bounded by a small multiple of the body: of a list, one
// element more than kms.Validate will look at, which then refuses it.
func decodeInput(members []kms.Member, body []byte) (map[string]any, error) {
	s := &scanner{data: body}
	if s.peek() == 0 && s.end() == nil {
		return map[string]any{}, nil
	}
	input, err := s.structure(members, 0)
	if err != nil {
		return nil, err
	}
	return input, s.end()
}

// decodeValue reads a value of a shape; nil stands for null.
func (s *scanner) decodeValue(shape *kms.Shape, depth int) (any, error) {
	if depth > maxDepth {
		return nil, serializationError("The request body is nested too deeply.")
	}
	first := s.peek()
	if first == 'n' {
		return nil, s.literal("null")
	}
	if wrong := wrongType(shape.Type, first); wrong != nil {
		// A document that is no JSON at all is reported as that.
		if err := s.skip(depth); err != nil {
			return nil, err
		}
		return nil, wrong
	}
	switch shape.Type {
	case kms.String:
		text, err := s.str()
		return string(text), err
	case kms.Blob:
		return s.blob()
	case kms.Integer:
		return s.integer()
	case kms.Boolean:
		if first == 't' {
			return true, s.literal("true")
		}
		return false, s.literal("false")
	case kms.Timestamp:
		return s.timestamp()
	case kms.List:
		return s.list(shape, depth)
	case kms.Structure:
		return s.structure(shape.Members, depth)
	default: // kms.Map
		return s.stringMap()
	}
}

// wrongType says whether a value that begins with the byte can be of the type.
func wrongType(t kms.Type, first byte) error {
	var want string
	ok := false
	switch t {
	case kms.String, kms.Blob:
		want, ok = "a string", first == '"'
	case kms.Integer, kms.Timestamp:
		want, ok = "a number", first == '-' || '0' <= first && first <= '9'
	case kms.Boolean:
		want, ok = "a boolean", first == 't' || first == 'f'
	case kms.List:
		want, ok = "a list", first == '['
	case kms.Structure, kms.Map:
		want, ok = "an object", first == '{'
	}
	if ok {
		return nil
	}
	return serializationError("A member of the request has the wrong JSON type: expected " + want + ".")
}

var errGivenTwice = serializationError("A member of the request is given twice.")

func (s *scanner) structure(members []kms.Member, depth int) (map[string]any, error) {
	values := make(map[string]any, min(len(members), smallMap))
	var given uint64 // a bit for each member
	err := s.object(func(name []byte) error {
		i := memberNamed(members, name)
		if i < 0 {
			return s.skip(depth + 1)
		}
		if given&(1<<i) != 0 {
			return errGivenTwice
		}
		given |= 1 << i
		value, err := s.decodeValue(members[i].Shape, depth+1)
		if value != nil {
			values[members[i].Name] = value
		}
		return err
	})
	return values, err
}

// smallMap is for how many members a map is made: inputs rarely have more.
const smallMap = 8

// memberNamed returns the index of a member, -1 if there is none of the name.
// No structure of the model has more than 64.
func memberNamed(members []kms.Member, name []byte) int {
	for i := range members {
		if members[i].Name == string(name) {
			return i
		}
	}
	return -1
}

// list reads a list; nulls in it are dropped, as in all lists of the model.
func (s *scanner) list(shape *kms.Shape, depth int) (any, error) {
	values := []any{}
	err := s.array(func() error {
		if len(values) > shape.MaxElements() {
			return s.skip(depth + 1)
		}
		value, err := s.decodeValue(shape.Element, depth+1)
		if value != nil {
			values = append(values, value)
		}
		return err
	})
	return values, err
}

var shapeString = &kms.Shape{Type: kms.String}

// stringMap reads a map of strings, as encryption contexts are. Nothing that an
// HMAC key can do looks at more than whether they are there.
func (s *scanner) stringMap() (any, error) {
	values := map[string]any{}
	err := s.object(func(name []byte) error {
		if len(values) > kms.MaxListElements {
			return s.skip(1)
		}
		key := string(name)
		value, err := s.decodeValue(shapeString, 1)
		if value != nil {
			values[key] = value
		}
		return err
	})
	return values, err
}

func (s *scanner) blob() (any, error) {
	text, err := s.str()
	if err != nil {
		return nil, err
	}
	data, err := decodeBase64(text)
	if err != nil {
		return nil, err
	}
	return data, nil
}

// decodeBase64 reads standard base64 with its padding.
func decodeBase64(text []byte) ([]byte, error) {
	data := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(data, text)
	if err != nil {
		return nil, serializationError("A member of the request is not valid base64.")
	}
	return data[:n], nil
}

func (s *scanner) integer() (any, error) {
	number, err := s.number()
	if err != nil {
		return nil, err
	}
	n, ok := parseInteger(string(number))
	if !ok {
		return nil, serializationError("A member of the request is not an integer of 32 bits.")
	}
	return n, nil
}

// lastSecond is the end of the year 9999, the last that RFC 3339 can write.
const lastSecond = 253402300799

func (s *scanner) timestamp() (any, error) {
	number, err := s.number()
	if err != nil {
		return nil, err
	}
	at, ok := parseEpoch(string(number))
	if !ok {
		return nil, serializationError("A member of the request is not a time in epoch seconds.")
	}
	return at, nil
}

// parseEpoch turns epoch seconds, of which fractions are allowed, into a time.
func parseEpoch(number string) (time.Time, bool) {
	if whole, err := strconv.ParseInt(number, 10, 64); err == nil {
		return time.Unix(whole, 0).UTC(), 0 <= whole && whole <= lastSecond
	}
	seconds, err := strconv.ParseFloat(number, 64)
	if err != nil || !(0 <= seconds && seconds <= lastSecond) {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(seconds)
	// A float64 of today's epoch seconds is good for microseconds.
	return time.Unix(int64(whole), int64(fraction*1e6)*1e3).UTC(), true
}
