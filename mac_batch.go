package kmshmac

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"vault-plugin-secrets-kms-hmac/kms"
)

// item is one message of a batch, and for verification its MAC, in base64.
type item struct {
	message, mac encoded
	reference    any
	err          error // the item is not even an object, say
}

// result is what became of an item. It is good until the next item.
type result struct {
	keyID string
	mac   []byte // of generate-mac, in base64
	err   error
}

// compact is a list of blobs in base64, in the shape in which it came: a list,
// or one comma-separated string, which is neither split nor copied again.
type compact struct {
	size   int
	list   []any // from the next value on
	joined bool
	text   string // the same
}

func compactField(name string, value any) (*compact, error) {
	switch value := value.(type) {
	case string:
		return &compact{size: strings.Count(value, ",") + 1, joined: true, text: value}, nil
	case []any:
		for _, element := range value {
			if _, ok := element.(string); !ok {
				return nil, kms.Validationf("%s must hold strings only", name)
			}
		}
		return &compact{size: len(value), list: value}, nil
	}
	return nil, kms.Validationf("%s must be a list of strings or one comma-separated string", name)
}

// next returns one value after the other, size times.
func (c *compact) next() encoded {
	var value string
	if c.joined {
		value, c.text, _ = strings.Cut(c.text, ",")
	} else {
		value, _ = c.list[0].(string)
		c.list = c.list[1:]
	}
	return encoded{value, true}
}

// nextItem returns one item of the compact form after the other.
func (r *macRequest) nextItem() item {
	it := item{message: r.messages.next()}
	if r.macs != nil {
		it.mac = r.macs.next()
	}
	return it
}

// objectItem reads one object of batch_input.
func objectItem(operation string, value any) item {
	object, ok := value.(map[string]any)
	if !ok {
		return item{err: kms.Validationf("an item of batch_input must be an object")}
	}
	it := item{reference: object["reference"]}
	for name, value := range object {
		if value == nil {
			continue
		}
		var err error
		switch {
		case name == "message":
			it.message, err = blobField(name, value)
		case name == "mac" && operation == opVerifyMac:
			it.mac, err = blobField(name, value)
		case name != "reference":
			err = unknownField(name, []string{"message", "mac", "reference"})
		}
		it.err = errors.Join(it.err, err)
	}
	return it
}

// answerBatch runs the items through work and answers in the request's shape.
// An item's exception is its own; any other error fails the request.
func (r *macRequest) answerBatch(t *macTarget, work func(item) result) (map[string]any, error) {
	data := map[string]any{"key_id": t.ID, "mac_algorithm": *r.algorithm}
	if r.batch != nil {
		results, err := r.objectResults(t, work)
		data["batch_results"] = results
		return data, err
	}
	return data, r.compactResults(t, work, data)
}

func (r *macRequest) objectResults(t *macTarget, work func(item) result) ([]map[string]any, error) {
	results := make([]map[string]any, 0, len(r.batch))
	for _, object := range r.batch {
		it := objectItem(r.operation, object)
		res := runItem(it, work)
		answer := map[string]any{}
		if it.reference != nil {
			answer["reference"] = it.reference
		}
		ex, err := exceptionOf(res.err)
		switch {
		case err != nil:
			return nil, err
		case ex != nil:
			answer["error"] = itemError(ex)
		case r.operation == opVerifyMac:
			answer["mac_valid"] = true
		default:
			answer["mac"] = string(res.mac)
		}
		if ex == nil && len(t.previous) > 0 {
			answer["key_id"] = res.keyID
		}
		results = append(results, answer)
	}
	return results, nil
}

func (r *macRequest) compactResults(t *macTarget, work func(item) result, data map[string]any) error {
	if r.messages.joined {
		// The audit log has the hash of one string, which does not tell.
		data["batch_size"] = r.messages.size
	}
	values := make(plainText, 0, r.messages.size*(base64.StdEncoding.EncodedLen(t.Spec.Bytes())+1))
	var keyIDs plainText
	failures := map[string]any{}
	for i := range r.messages.size {
		res := runItem(r.nextItem(), work)
		ex, err := exceptionOf(res.err)
		if err != nil {
			return err
		}
		if ex != nil {
			failures[strconv.Itoa(i)] = itemError(ex)
		}
		if i > 0 {
			values, keyIDs = append(values, ','), append(keyIDs, ',')
		}
		if r.operation == opVerifyMac {
			values = strconv.AppendBool(values, ex == nil)
		} else {
			values = append(values, res.mac...)
		}
		if len(t.previous) > 0 {
			keyIDs = append(keyIDs, res.keyID...)
		}
	}
	if r.operation == opVerifyMac {
		data["macs_valid"] = r.messages.verdicts(values)
	} else {
		data["macs"] = r.messages.answer(values)
	}
	if len(t.previous) > 0 {
		data["key_ids"] = r.messages.answer(keyIDs)
	}
	if len(failures) > 0 {
		data["errors"] = failures
	}
	return nil
}

// answer returns comma-separated values in the shape of c.
func (c *compact) answer(values plainText) any {
	if c.joined {
		return values
	}
	return strings.Split(string(values), ",")
}

// verdicts is answer for values that are true or false.
func (c *compact) verdicts(values plainText) any {
	if c.joined {
		return values
	}
	verdicts := make([]bool, 0, c.size)
	for value := range strings.SplitSeq(string(values), ",") {
		verdicts = append(verdicts, value == "true")
	}
	return verdicts
}

func runItem(it item, work func(item) result) result {
	if it.err != nil {
		return result{err: it.err}
	}
	return work(it)
}

// exceptionOf tells an exception, which is an item's answer, from an error.
func exceptionOf(err error) (*kms.Exception, error) {
	if err == nil {
		return nil, nil
	}
	var ex *kms.Exception
	if errors.As(err, &ex) {
		return ex, nil
	}
	return nil, err
}
