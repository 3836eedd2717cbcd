package kmshmac

import (
	"errors"
	"strconv"

	"vault-plugin-secrets-kms-hmac/kms"
)

// item is one message of a batch, and for verification its MAC, in base64.
type item struct {
	message, mac *string
	reference    any
	err          error // the item is not even an object, say
}

// result is what became of an item.
type result struct {
	keyID string
	mac   string // of generate-mac
	err   error
}

// compactItem returns the item at an index of the compact form.
func (r *macRequest) compactItem(i int) item {
	it := item{message: &r.messages.values[i]}
	if r.macs != nil {
		it.mac = &r.macs.values[i]
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
			it.message, err = stringField(name, value)
		case name == "mac" && operation == opVerifyMac:
			it.mac, err = stringField(name, value)
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
			answer["mac"] = res.mac
		}
		if ex == nil && len(t.previous) > 0 {
			answer["key_id"] = res.keyID
		}
		results = append(results, answer)
	}
	return results, nil
}

func (r *macRequest) compactResults(t *macTarget, work func(item) result, data map[string]any) error {
	values := make([]string, 0, len(r.messages.values))
	keyIDs := make([]string, 0, len(t.previous))
	failures := map[string]any{}
	for i := range r.messages.values {
		res := runItem(r.compactItem(i), work)
		ex, err := exceptionOf(res.err)
		if err != nil {
			return err
		}
		if ex != nil {
			failures[strconv.Itoa(i)] = itemError(ex)
		}
		values = append(values, r.compactValue(res, ex))
		if len(t.previous) > 0 {
			keyIDs = append(keyIDs, res.keyID)
		}
	}
	name := "macs"
	if r.operation == opVerifyMac {
		name = "macs_valid"
	}
	data[name] = r.messages.answer(values)
	if r.operation == opVerifyMac && !r.messages.joined {
		data[name] = verdicts(values)
	}
	if len(keyIDs) > 0 {
		data["key_ids"] = r.messages.answer(keyIDs)
	}
	if len(failures) > 0 {
		data["errors"] = failures
	}
	return nil
}

func (r *macRequest) compactValue(res result, ex *kms.Exception) string {
	if r.operation == opVerifyMac {
		return strconv.FormatBool(ex == nil)
	}
	return res.mac
}

func verdicts(values []string) []bool {
	out := make([]bool, len(values))
	for i, value := range values {
		out[i] = value == "true"
	}
	return out
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
