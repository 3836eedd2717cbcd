package kmshmac

// Batches of MACs: many messages in one request, as objects or compact.

import (
	"encoding/base64"
	"errors"
	"math"
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
		return &compact{size: len(value), list: value}, nil
	}
	return nil, kms.Validationf("%s must be a list of strings or one comma-separated string", name)
}

// checkStrings refuses a list that holds anything but strings.
func (c *compact) checkStrings(name string) error {
	if c == nil {
		return nil
	}
	for _, element := range c.list {
		if _, ok := element.(string); !ok {
			return kms.Validationf("%s must hold strings only", name)
		}
	}
	return nil
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

// objectFields are the fields of an object of batch_input, sorted.
func objectFields(operation string) []string {
	if operation == opVerifyMac {
		return []string{"mac", "message", "reference"}
	}
	return []string{"message", "reference"}
}

var errNoObject = kms.Validationf("an item of batch_input must be an object")

// objectItem reads one object of batch_input.
func objectItem(operation string, value any) item {
	object, ok := value.(map[string]any)
	if !ok {
		return item{err: errNoObject}
	}
	var it item
	if it.reference, it.err = referenceOf(object["reference"]); it.err != nil {
		return it
	}
	if it.err = onlyFields(object, objectFields(operation)); it.err != nil {
		return it
	}
	if value := object["message"]; value != nil {
		if it.message, it.err = blobField("message", value); it.err != nil {
			return it
		}
	}
	if value := object["mac"]; value != nil {
		it.mac, it.err = blobField("mac", value)
	}
	return it
}

// exactIntegers is the first integer that a number of JSON, as the plugin
// boundary decodes it, shares with its neighbour.
const exactIntegers = 1 << 53

// referenceOf returns an item's reference, which is answered as it came. It
// refuses what would not be: numbers that lose digits on their way.
func referenceOf(value any) (any, error) {
	switch value := value.(type) {
	case nil, string, bool:
		return value, nil
	case float64:
		if math.Abs(value) < exactIntegers {
			return value, nil
		}
		return nil, kms.Validationf("a reference that is a number must be smaller than 2^53: write it as a string")
	}
	return nil, kms.Validationf("a reference must be a string, a number or a boolean")
}

// answerBatch runs the items through work and answers in the request's shape.
// An item's exception is its own; any other error fails the request.
func (r *macRequest) answerBatch(t macTarget, work func(item) result) (map[string]any, error) {
	data := map[string]any{"key_id": t.ID, "mac_algorithm": *r.algorithm}
	if r.batch != nil {
		results, err := r.objectResults(t, work)
		data["batch_results"] = results
		return data, err
	}
	return data, r.compactResults(t, work, data)
}

// batchResult answers one object of batch_input.
type batchResult struct {
	Mac       string     `json:"mac,omitempty"`
	MacValid  bool       `json:"mac_valid,omitempty"` // true, or there is an error
	KeyID     string     `json:"key_id,omitempty"`
	Error     *itemError `json:"error,omitempty"`
	Reference any        `json:"reference,omitempty"`
}

func (r *macRequest) objectResults(t macTarget, work func(item) result) ([]batchResult, error) {
	results := make([]batchResult, len(r.batch))
	var failures itemErrors
	for i, object := range r.batch {
		it := objectItem(r.operation, object)
		res := runItem(it, work)
		answer := &results[i]
		answer.Reference = it.reference
		ex, err := exceptionOf(res.err)
		switch {
		case err != nil:
			return nil, err
		case ex != nil:
			answer.Error = failures.add(ex)
			continue
		case r.operation == opVerifyMac:
			answer.MacValid = true
		default:
			answer.Mac = string(res.mac)
		}
		if len(t.previous) > 0 {
			answer.KeyID = res.keyID
		}
	}
	return results, nil
}

// maxItemTexts is how many of a batch's errors say what is wrong. The others
// have their type only, so that the answer does not outgrow the request.
const maxItemTexts = 100

// itemError is how a failed item of a batch is answered. Like in every answer,
// text for people is there also where KMS sends none.
type itemError struct {
	Type    string `json:"type"`
	Message string `json:"message,omitempty"`
}

// itemErrors makes the errors of a batch.
type itemErrors struct {
	texts int
	bare  map[string]*itemError // without text, by type
}

func (e *itemErrors) add(ex *kms.Exception) *itemError {
	if e.texts < maxItemTexts {
		e.texts++
		return &itemError{ex.Type, ex.Text()}
	}
	if e.bare == nil {
		e.bare = map[string]*itemError{}
	}
	if e.bare[ex.Type] == nil {
		e.bare[ex.Type] = &itemError{Type: ex.Type}
	}
	return e.bare[ex.Type]
}

func (r *macRequest) compactResults(t macTarget, work func(item) result, data map[string]any) error {
	if r.messages.joined {
		// The audit log has the hash of one string, which does not tell.
		data["batch_size"] = r.messages.size
	}
	values := make(plainText, 0, r.messages.size*(base64.StdEncoding.EncodedLen(t.Spec.Bytes())+1))
	var keyIDs plainText
	errorsByIndex := map[string]*itemError{}
	var failures itemErrors
	for i := range r.messages.size {
		res := runItem(r.nextItem(), work)
		ex, err := exceptionOf(res.err)
		if err != nil {
			return err
		}
		if ex != nil {
			errorsByIndex[strconv.Itoa(i)] = failures.add(ex)
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
	if len(errorsByIndex) > 0 {
		data["errors"] = errorsByIndex
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
