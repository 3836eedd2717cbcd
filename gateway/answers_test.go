package gateway_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/require"
)

// neverAnswered are the members of KMS's answers that the endpoint never gives,
// with all that is below them, and the reason: by their places, or, where it is
// the same for all operations, without the operation. A newer SDK that knows of
// more makes TestAnswersAreKMS say so.
var neverAnswered = map[string]string{
	"KeyMetadata.CloudHsmClusterId":                    customKeyStores,
	"KeyMetadata.CurrentKeyMaterialId":                 otherKeys,
	"KeyMetadata.CustomKeyStoreId":                     customKeyStores,
	"KeyMetadata.EncapsulationAlgorithms":              otherKeys,
	"KeyMetadata.EncryptionAlgorithms":                 otherKeys,
	"KeyMetadata.KeyAgreementAlgorithms":               otherKeys,
	"KeyMetadata.MultiRegionConfiguration.ReplicaKeys": replicas,
	"KeyMetadata.PendingDeletionWindowInDays":          replicas,
	"KeyMetadata.SigningAlgorithms":                    otherKeys,
	"KeyMetadata.XksKeyConfiguration":                  customKeyStores,
	"CreateKey.KeyMetadata.DeletionDate":               newKey,
	"CreateKey.KeyMetadata.ExpirationModel":            newKey,
	"CreateKey.KeyMetadata.ValidTo":                    newKey,

	"DeleteImportedKeyMaterial.KeyMaterialId": otherKeys,
	"ImportKeyMaterial.KeyMaterialId":         otherKeys,

	"GenerateRandom.CiphertextForRecipient":          "it is for Nitro enclaves",
	"GetKeyLastUsage.KeyLastUsage.CloudTrailEventId": "there is no CloudTrail",
	"GetKeyLastUsage.KeyLastUsage.KmsRequestId":      "it is not kept",

	"GetKeyRotationStatus.NextRotationDate":          rotation,
	"GetKeyRotationStatus.OnDemandRotationStartDate": rotation,
	"GetKeyRotationStatus.RotationPeriodInDays":      rotation,
	"ListKeyRotations.NextMarker":                    rotation,
	"ListKeyRotations.Rotations":                     rotation,

	"ListKeyPolicies.NextMarker": "there is one policy",

	"Grants.Constraints":              "grants for HMAC keys have none",
	"Grants.GranteeServicePrincipal":  services,
	"Grants.RetiringServicePrincipal": services,
}

const (
	customKeyStores = "HMAC keys are in no custom key store"
	otherKeys       = "KMS does not answer it for HMAC keys"
	replicas        = "there are no replicas"
	newKey          = "a new key has none"
	rotation        = "HMAC keys do not rotate"
	services        = "there are no AWS services"
)

// neverSucceed are the operations that KMS refuses for HMAC keys, or that are
// not supported here.
var neverSucceed = []string{
	"ConnectCustomKeyStore", "CreateCustomKeyStore", "Decapsulate", "Decrypt", "DeleteCustomKeyStore", "DeriveSharedSecret",
	"DescribeCustomKeyStores", "DisconnectCustomKeyStore", "EnableKeyRotation", "Encapsulate", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair",
	"GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyWithoutPlaintext", "GetPublicKey", "ReEncrypt", "ReplicateKey", "RotateKeyOnDemand",
	"Sign", "UpdateCustomKeyStore", "UpdatePrimaryRegion", "Verify",
}

// TestAnswersAreKMS holds what the conformance tests are answered against the
// SDK's model: nothing is there that KMS does not answer, what is not there is
// known, and values of enumerations are KMS's.
func TestAnswersAreKMS(t *testing.T) {
	e := newDevEndpoint(t)
	seen := &answersSeen{places: map[string]bool{}, succeeded: map[string]bool{}}
	server := httptest.NewServer(seen.listen(e.forward))
	t.Cleanup(server.Close)
	(&endpoint{nil, server.URL, ""}).run(t, conformance)
	if t.Failed() {
		return
	}
	require.Empty(t, seen.strange)
	used := map[string]bool{}
	for operation, output := range outputsOfKMS() {
		if slices.Contains(neverSucceed, operation) {
			require.False(t, seen.succeeded[operation], "%s succeeded", operation)
			continue
		}
		require.True(t, seen.succeeded[operation], "%s never succeeded", operation)
		for _, place := range placesOf(operation, output) {
			entry := neverEntry(place)
			used[entry] = true
			switch {
			case entry != "" && seen.places[place]:
				t.Errorf("%s is answered, though it is said never to be: %s", place, neverAnswered[entry])
			case entry == "" && !seen.places[place]:
				t.Errorf("%s is never answered, and no reason is given", place)
			}
			delete(seen.places, place)
		}
	}
	for entry := range neverAnswered {
		require.True(t, used[entry], "KMS does not answer %s", entry)
	}
	require.Empty(t, slices.Sorted(maps.Keys(seen.places)), "no members of KMS's answers")
}

// neverEntry returns the key of neverAnswered that a place falls under, or "".
func neverEntry(place string) string {
	_, withoutOperation, _ := strings.Cut(place, ".")
	for _, at := range []string{place, withoutOperation} {
		for at != "" {
			if neverAnswered[at] != "" {
				return at
			}
			at = at[:max(strings.LastIndex(at, "."), 0)]
		}
	}
	return ""
}

// outputsOfKMS returns the SDK's types of the outputs of all operations.
func outputsOfKMS() map[string]reflect.Type {
	client := reflect.TypeFor[*kms.Client]()
	outputs := map[string]reflect.Type{}
	for i := range client.NumMethod() {
		if method := client.Method(i); method.Type.NumIn() == 4 { // receiver, context, input, options
			outputs[method.Name] = method.Type.Out(0).Elem()
		}
	}
	return outputs
}

// placesOf returns the places of all members below a type: "ListKeys.Keys.KeyId".
func placesOf(at string, t reflect.Type) (places []string) {
	t = elementOf(t)
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() {
		return nil
	}
	for i := range t.NumField() {
		field := t.Field(i)
		if !field.IsExported() || field.Name == "ResultMetadata" {
			continue
		}
		place := at + "." + field.Name
		if below := placesOf(place, field.Type); below != nil {
			places = append(places, below...)
		} else {
			places = append(places, place)
		}
	}
	return places
}

// elementOf returns what a pointer points to and a list is of.
func elementOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice && t != reflect.TypeFor[[]byte]() {
		t = t.Elem()
	}
	return t
}

// answersSeen keeps what was in answers.
type answersSeen struct {
	mu        sync.Mutex
	places    map[string]bool
	succeeded map[string]bool
	strange   []string
}

// listen returns a handler that passes calls on and looks at their answers.
func (s *answersSeen) listen(forward http.HandlerFunc) http.HandlerFunc {
	outputs := outputsOfKMS()
	return func(w http.ResponseWriter, r *http.Request) {
		recorder := httptest.NewRecorder()
		forward(recorder, r)
		operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
		if output := outputs[operation]; output != nil && recorder.Code == http.StatusOK {
			s.mu.Lock()
			s.succeeded[operation] = true
			var answer any
			if recorder.Body.Len() > 0 {
				_ = json.Unmarshal(recorder.Body.Bytes(), &answer)
				s.look(operation, output, answer)
			}
			s.mu.Unlock()
		}
		maps.Copy(w.Header(), recorder.Header())
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes())
	}
}

// look keeps the places of the members of a value.
func (s *answersSeen) look(at string, t reflect.Type, value any) {
	t = elementOf(t)
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			field, ok := t.FieldByName(name)
			if !ok {
				s.strange = append(s.strange, at+"."+name+" is no member")
				continue
			}
			s.look(at+"."+name, field.Type, member)
		}
		return
	case []any:
		for _, element := range value {
			s.look(at, t, element)
		}
		if t.Kind() == reflect.Struct { // its places are below
			return
		}
	case string:
		if values := reflect.New(t).Elem().MethodByName("Values"); values.IsValid() {
			known := fmt.Sprint(values.Call(nil)[0].Interface())
			if !slices.Contains(strings.Fields(strings.Trim(known, "[]")), value) {
				s.strange = append(s.strange, at+" is "+value+", which is no value of KMS's")
			}
		}
	}
	s.places[at] = true
}
