package gateway

// Answers, written as JSON in KMS's order of members and KMS's form of times.

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// object is a JSON object whose members keep their order. Members whose value
// is nil are left out: KMS never sends null.
type object []field

type field struct {
	name  string
	value any
}

// raw is JSON as it is.
type raw string

// appendJSON appends the JSON of a value of one of the types that answers are
// made of; any other is null.
func appendJSON(dst []byte, value any) []byte {
	switch value := value.(type) {
	case string:
		return appendString(dst, value)
	case bool:
		return strconv.AppendBool(dst, value)
	case int:
		return strconv.AppendInt(dst, int64(value), 10)
	case raw:
		return append(dst, value...)
	case object:
		return appendObject(dst, value)
	case []object:
		return appendList(dst, value)
	case []string:
		return appendList(dst, value)
	}
	return append(dst, "null"...)
}

func appendObject(dst []byte, members object) []byte {
	dst = append(dst, '{')
	separate := false
	for _, m := range members {
		if m.value == nil {
			continue
		}
		if separate {
			dst = append(dst, ',')
		}
		separate = true
		dst = appendString(dst, m.name)
		dst = append(dst, ':')
		dst = appendJSON(dst, m.value)
	}
	return append(dst, '}')
}

func appendList[T any](dst []byte, values []T) []byte {
	dst = append(dst, '[')
	for i, value := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSON(dst, value)
	}
	return append(dst, ']')
}

const hexDigits = "0123456789abcdef"

// appendString appends a string in JSON, with no more escapes than JSON needs:
// clients compare the texts of exceptions, and "<" reads better than \u003c.
func appendString(dst []byte, text string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size, escape := 1, ""
		switch {
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(text[i:])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			escape = `\ufffd`
		case c == '"' || c == '\\':
			escape = `\` + text[i:i+1]
		case c == '\n':
			escape = `\n`
		default:
			escape = `\u00` + string([]byte{hexDigits[c>>4], hexDigits[c&15]})
		}
		dst = append(dst, text[start:i]...)
		dst = append(dst, escape...)
		i += size
		start = i
	}
	dst = append(dst, text[start:]...)
	return append(dst, '"')
}

// milliseconds returns a time as KMS writes most: epoch seconds with three
// decimals. The zero time is absent.
func milliseconds(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return raw(strconv.FormatFloat(float64(t.UnixMilli())/1e3, 'f', 3, 64))
}

// seconds returns a time in whole epoch seconds, as KMS writes the dates that
// it keeps no finer. The zero time is absent.
func seconds(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return raw(strconv.FormatInt(t.Unix(), 10))
}

// optional returns nil for an empty string.
func optional(text string) any {
	if text == "" {
		return nil
	}
	return text
}
