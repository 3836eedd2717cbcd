package kmshmac

// A request for MACs: how it is read, and held against the model.

import (
	"encoding/base64"
	"strings"
	"sync"
	"unicode"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"github.com/hashicorp/vault/sdk/framework"

	"vault-plugin-secrets-kms-hmac/kms"
)

const (
	opGenerateMac = "GenerateMac"
	opVerifyMac   = "VerifyMac"

	// maxEncodedBytes bounds base64 before it is decoded: a MAC may have 6,144
	// bytes, and line breaks take some room.
	maxEncodedBytes = 16 << 10
)

// macRequest is a request for MACs, as it arrived: base64 is not decoded yet.
// It has one of three forms: a single message, a list of objects, or the
// compact form, which is a list of strings or one comma-separated string.
type macRequest struct {
	operation   string
	key         string
	algorithm   *string
	dryRun      bool
	grantTokens []string

	message, mac   encoded
	batch          []any // batch_input; nil unless given
	messages, macs *compact
}

// encoded is a blob in base64, as it arrived.
type encoded struct {
	text  string
	given bool
}

// parseMacRequest takes a request apart without building what it does not
// need: this is the hot path. Errors name fields, never their values.
func parseMacRequest(operation, key string, data map[string]any) (*macRequest, error) {
	r := &macRequest{operation: operation, key: key}
	names := macFieldNames(operation)
	if err := onlyFields(data, names); err != nil {
		return nil, err
	}
	for _, name := range names {
		value := data[name]
		if value == nil {
			continue // null and absent are the same, as in KMS
		}
		if err := r.set(name, value); err != nil {
			return nil, err
		}
	}
	return r, r.checkForm()
}

func (r *macRequest) set(name string, value any) (err error) {
	switch name {
	case "message":
		r.message, err = blobField(name, value)
	case "mac":
		r.mac, err = blobField(name, value)
	case "mac_algorithm":
		var algorithm string
		algorithm, err = stringField(name, value)
		r.algorithm = &algorithm
	case "dry_run":
		if r.dryRun, err = parseutil.ParseBool(value); err != nil {
			err = kms.Validationf("dry_run must be true or false")
		}
	case "grant_tokens":
		r.grantTokens, err = commaList(name, value)
	case "batch_input":
		var ok bool
		if r.batch, ok = value.([]any); !ok {
			err = kms.Validationf("batch_input must be a list of objects")
		}
	case "messages":
		r.messages, err = compactField(name, value)
	case "macs":
		r.macs, err = compactField(name, value)
	}
	return err
}

func stringField(name string, value any) (string, error) {
	s, ok := value.(string)
	if !ok {
		return "", kms.Validationf("%s must be of type string", name)
	}
	return s, nil
}

func blobField(name string, value any) (encoded, error) {
	s, err := stringField(name, value)
	return encoded{s, true}, err
}

// checkForm refuses a mixture of the three forms, and batches of a wrong size.
func (r *macRequest) checkForm() error {
	single := r.message.given || r.mac.given
	compact := r.messages != nil || r.macs != nil
	switch {
	case single && (compact || r.batch != nil), compact && r.batch != nil:
		return kms.Validationf("give one of message, batch_input and messages")
	case compact && (r.messages == nil || r.operation == opVerifyMac && r.macs == nil):
		return kms.Validationf("verify-mac takes messages and macs together")
	case compact && r.macs != nil && r.macs.size != r.messages.size:
		return kms.Validationf("there are %d messages and %d macs", r.messages.size, r.macs.size)
	}
	if n, ok := r.batchSize(); ok && (n == 0 || n > kms.MaxBatchItems) {
		return kms.Validationf("a batch has 1 to %d items, this one has %d", kms.MaxBatchItems, n)
	}
	if err := r.messages.checkStrings("messages"); err != nil {
		return err
	}
	return r.macs.checkStrings("macs")
}

func (r *macRequest) batchSize() (n int, isBatch bool) {
	switch {
	case r.batch != nil:
		return len(r.batch), true
	case r.messages != nil:
		return r.messages.size, true
	}
	return 0, false
}

// validate holds the request against the model of the operation. A batch's
// messages and MACs are validated one by one later, so here they count as
// good.
func (r *macRequest) validate(message, mac []byte) error {
	if _, isBatch := r.batchSize(); isBatch {
		message, mac = []byte{0}, []byte{0}
	}
	if r.plainlyValid(message, mac) {
		return nil
	}
	in := map[string]any{"KeyId": r.key}
	if r.algorithm != nil {
		in["MacAlgorithm"] = *r.algorithm
	}
	if r.grantTokens != nil {
		in["GrantTokens"] = anyList(r.grantTokens)
	}
	if message != nil {
		in["Message"] = message
	}
	if mac != nil {
		in["Mac"] = mac
	}
	return kms.ValidateFields(r.operation, in)
}

// plainlyValid recognizes the ordinary request without consulting the model, for
// speed. What it does not recognize may be valid all the same.
func (r *macRequest) plainlyValid(message, mac []byte) bool {
	if r.grantTokens != nil || r.algorithm == nil || !kms.IsMacAlgorithm(*r.algorithm) {
		return false
	}
	for i := range len(r.key) {
		if r.key[i] > unicode.MaxASCII {
			return false
		}
	}
	return len(r.key) > 0 && len(r.key) <= kms.MaxKeyIDChars && goodLength(message, kms.MaxMessageBytes) &&
		(r.operation == opGenerateMac || goodLength(mac, maxMacBytes))
}

func goodLength(blob []byte, most int) bool { return len(blob) > 0 && len(blob) <= most }

// itemShape is all of an item on which its validation depends.
type itemShape struct {
	operation    string
	message, mac blobShape
}

type blobShape struct{ given, empty, tooLong bool }

func shapeOf(blob []byte, most int) blobShape {
	return blobShape{given: blob != nil, empty: len(blob) == 0, tooLong: len(blob) > most}
}

// itemVerdicts keeps what validateItem has said, by itemShape. Thousands of
// items may be wrong in the same way.
var itemVerdicts sync.Map

// validateItem holds one item of a batch against the model.
func validateItem(operation string, message, mac []byte) error {
	shape := itemShape{operation, shapeOf(message, kms.MaxMessageBytes), shapeOf(mac, maxMacBytes)}
	if err, ok := itemVerdicts.Load(shape); ok {
		return err.(error)
	}
	err := validateBlobs(operation, message, mac)
	itemVerdicts.Store(shape, err)
	return err
}

func validateBlobs(operation string, message, mac []byte) error {
	in := map[string]any{"KeyId": "-", "MacAlgorithm": string(kms.HMACSHA256)}
	for name, blob := range map[string][]byte{"Message": message, "Mac": mac} {
		if blob != nil { // a nil slice in an interface would count as empty, not as absent
			in[name] = blob
		}
	}
	return kms.ValidateFields(operation, in)
}

// decodeBlob decodes a member that arrived in base64, into room, which it
// enlarges as needed. A nil result is an absent member, so an empty blob is not
// nil. What is too long to be legal is cut before decoding, to a length that is
// illegal too.
func decodeBlob(name string, e encoded, room *[]byte) ([]byte, error) {
	if !e.given {
		return nil, nil
	}
	if len(e.text) > maxEncodedBytes {
		return make([]byte, maxEncodedBytes/2), nil
	}
	if n := base64.StdEncoding.DecodedLen(len(e.text)); *room == nil || len(*room) < n {
		*room = make([]byte, n)
	}
	n, err := base64.StdEncoding.Decode(*room, []byte(e.text)) // does not copy
	if err != nil {
		return nil, notBase64(name, e.text)
	}
	return (*room)[:n], nil
}

// notBase64 refuses a field. Forms turn a plus sign, if it is written as it is,
// into a space. Thousands of items may be wrong in the same way, so the errors
// are kept: there are two for each field.
func notBase64(name, text string) error {
	fault := base64Fault{name, strings.Contains(text, " ")}
	if err, ok := base64Errors.Load(fault); ok {
		return err.(error)
	}
	err := kms.Validationf("%s must be standard base64", name)
	if fault.spaces {
		err = kms.Validationf("%s must be standard base64, without spaces: in a form, + is written %%2B", name)
	}
	base64Errors.Store(fault, err)
	return err
}

type base64Fault struct {
	name   string
	spaces bool
}

var base64Errors sync.Map // of base64Fault to error

// blobs is room for what is decoded and computed for a request, or for one item
// of a batch after the other.
type blobs struct {
	message, mac []byte
	encoded      [encodedMac]byte
}

// encodedMac is the length in bytes of the longest MAC in base64.
const encodedMac = (kms.LongestMac + 2) / 3 * 4

// macFieldNames returns the fields of a MAC operation, sorted.
func macFieldNames(operation string) []string {
	if operation == opVerifyMac {
		return verifyFieldNames
	}
	return generateFieldNames
}

var (
	generateFieldNames = []string{"batch_input", "dry_run", "grant_tokens", "mac_algorithm", "message", "messages"}
	verifyFieldNames   = []string{"batch_input", "dry_run", "grant_tokens", "mac", "mac_algorithm", "macs", "message", "messages"}
)

// macKeyField is the URL field of the MAC operations.
func macKeyField() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"key": {Type: framework.TypeString, Description: "A key id or alias/<name>."},
	}
}

// generateFields describes the fields for help and OpenAPI. Requests are taken
// apart by parseMacRequest.
func generateFields() map[string]*framework.FieldSchema {
	algorithms := kms.MacAlgorithms()
	allowed := make([]any, len(algorithms))
	for i, algorithm := range algorithms {
		allowed[i] = string(algorithm)
	}
	return map[string]*framework.FieldSchema{
		"message": {
			Type: framework.TypeString, DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
			Description: "The message in base64: 1 to 4,096 bytes once decoded. Required unless there is batch_input or messages.",
		},
		"mac_algorithm": {
			Type: framework.TypeString, Required: true, AllowedValues: allowed,
			Description: "HMAC_SHA_224, HMAC_SHA_256, HMAC_SHA_384 or HMAC_SHA_512: the one of the key's spec.",
		},
		"grant_tokens": {Type: framework.TypeCommaStringSlice, Description: "Up to 10 grant tokens."},
		"dry_run":      dryRunField(),
		"batch_input": {
			Type:        framework.TypeSlice,
			Description: "Instead of message, a list of up to 10,000 objects: message, for verify-mac mac, and an optional reference.",
		},
		"messages": {
			Type:        framework.TypeCommaStringSlice,
			Description: "Instead of message, up to 10,000 messages: a list, or one string separated by commas.",
		},
	}
}

func verifyFields() map[string]*framework.FieldSchema {
	return merge(generateFields(), map[string]*framework.FieldSchema{
		"mac": {
			Type:        framework.TypeString,
			Description: "The MAC in base64: 1 to 6,144 bytes once decoded. Required with message.",
		},
		"macs": {
			Type:        framework.TypeCommaStringSlice,
			Description: "With messages: their MACs, a list, or one string separated by commas.",
		},
	})
}
