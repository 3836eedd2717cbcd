package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"
	"github.com/stretchr/testify/require"
)

// deliberate names the differences between this package's table and KMS's
// model that are meant to be, each with its reason. One that is no longer
// there fails TestModelIsKMS as much as one that is not named.
var deliberate = map[string]string{
	`KeyIdType: pattern "^\\p{ASCII}+$" here, "" in the model`: "KMS prints it; its public model leaves it out",
	"GrantTokenType: sensitive true here, false in the model":  "they let their bearer act",
	"KeySpec: order of values":                                 "KMS prints ECC_NIST_EDWARDS25519 with the other curves",
	"KeyUsageType: order of values":                            "KMS prints ENCRYPT_DECRYPT first",
	"MacAlgorithmSpec: order of values":                        "KMS prints its own order",
}

// TestModelIsKMS holds the table of operations against the model that the AWS
// SDK in go.mod was generated from: operations, members and their order, types,
// what is required, sensitive, and the values of enumerations. The SDK leaves
// out lengths and patterns; testdata/bounds.json has them by the model's shapes.
func TestModelIsKMS(t *testing.T) {
	t.Parallel()
	found := modelDifferences(t)
	for _, difference := range found {
		if deliberate[difference] == "" {
			t.Errorf("not as in KMS: %s", difference)
		}
	}
	for difference := range deliberate {
		if !slices.Contains(found, difference) {
			t.Errorf("no longer a difference: %s", difference)
		}
	}
}

// The comparison finds what it is there to find.
func TestModelDifferencesAreFound(t *testing.T) {
	t.Parallel()
	c := newComparison(t)
	tag := reflect.TypeFor[awskms.TagResourceInput]()
	wrong := []Member{
		{Name: "KeyId", Shape: &Shape{Type: Blob, Min: 1, Max: 2047, Sensitive: true, Enum: []string{"A"}}},
		{Name: "Label", Shape: shapeDescriptionType},
	}
	c.structure("TagResource", tag, schemaOf(t, tag), wrong, []string{"TagResource.KeyId", "TagResource.Tags"})
	require.ElementsMatch(t, []string{
		"TagResource.KeyId: required in the model",
		"TagResource.KeyId: type 1 here, 0 in the model",
		"KeyIdType: sensitive true here, false in the model",
		"KeyIdType: value A is not in the model",
		"KeyIdType: length 1 to 2047 here, 1 to 2048 in the model",
		"TagResource.Tags: not here",
		"TagResource.Label: not in the model",
	}, c.found)
}

// docCounts finds a number of operations in a text.
var docCounts = regexp.MustCompile(`\b([0-9]+) operations\b`)

func TestDocumentCountsOperations(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/endpoint.md")
	require.NoError(t, err)
	counts := docCounts.FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, counts)
	for _, count := range counts {
		require.Equal(t, strconv.Itoa(len(operations)), count[1])
	}
}

// TestExceptionsAreKMS: a type that the model does not have reaches a client as
// a plain error of that code, so each such type has to be one that KMS sends
// beside its model.
func TestExceptionsAreKMS(t *testing.T) {
	t.Parallel()
	beside := []string{TypeAccessDenied, TypeNotAuthorized, TypeThrottling, TypeValidation}
	for _, name := range []string{
		TypeAlreadyExists, TypeAccessDenied, TypeDependencyTimeout, TypeDisabled, TypeDryRunOperation, TypeExpiredImportToken,
		TypeIncorrectKey, TypeIncorrectKeyMaterial, TypeInternal, TypeInvalidArn, TypeInvalidCiphertext, TypeInvalidGrantID,
		TypeInvalidGrantToken, TypeInvalidImportToken, TypeInvalidKeyUsage, TypeInvalidMac, TypeInvalidMarker, TypeInvalidState,
		TypeKeyUnavailable, TypeLimitExceeded, TypeMalformedPolicy, TypeNotAuthorized, TypeNotFound, TypeTag, TypeThrottling, TypeUnsupportedOperation,
		TypeValidation,
	} {
		modelled := awskms.TypeRegistry.Entries["com.amazonaws.kms#"+name] != nil
		require.Equal(t, !slices.Contains(beside, name), modelled, name)
	}
}

func modelDifferences(t *testing.T) []string {
	t.Helper()
	c := newComparison(t)
	client := reflect.TypeFor[*awskms.Client]()
	var theirs []string
	for i := range client.NumMethod() {
		method := client.Method(i)
		if method.Type.NumIn() != 4 { // receiver, context, input, options
			continue
		}
		theirs = append(theirs, method.Name)
		members, ok := operations[method.Name]
		if !ok {
			c.differ("%s: not here", method.Name)
			continue
		}
		input := method.Type.In(2).Elem()
		c.structure(method.Name, input, schemaOf(t, input), members, requiredOf(t, method, input))
	}
	for _, name := range Operations() {
		if !slices.Contains(theirs, name) {
			c.differ("%s: not in the model", name)
		}
	}
	return c.found
}

// comparison collects how the table differs from the SDK's model.
type comparison struct {
	found  []string
	bounds map[string]struct {
		Min, Max int
		Pattern  string
	}
	order map[string][]string // members by structure, in the model's order
}

func newComparison(t *testing.T) *comparison {
	t.Helper()
	c := &comparison{order: memberOrder(t)}
	raw, err := os.ReadFile("testdata/bounds.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &struct{ Shapes any }{&c.bounds}))
	return c
}

func (c *comparison) differ(format string, args ...any) {
	if difference := fmt.Sprintf(format, args...); !slices.Contains(c.found, difference) {
		c.found = append(c.found, difference)
	}
}

// structure compares the members of an input, or of a structure in it, which
// the SDK has as the Go type and the schema.
//
// at is where it is in the operation: the name of the operation, or a path into
// its input. required are such paths.
func (c *comparison) structure(at string, goType reflect.Type, schema *smithy.Schema, members []Member, required []string) {
	var names []string
	for _, member := range members {
		where := at + "." + member.Name
		field, ok := goType.FieldByName(member.Name)
		if !ok || schema.Member(member.Name) == nil {
			c.differ("%s: not in the model", where)
			continue
		}
		names = append(names, member.Name)
		if isRequired := slices.Contains(required, where); isRequired && !member.Required {
			c.differ("%s: required in the model", where)
		} else if member.Required && !isRequired {
			c.differ("%s: not required in the model", where)
		}
		c.shape(where, field.Type, schema.Member(member.Name), member.Shape, required)
	}
	for name := range schema.Members() {
		if !slices.Contains(names, name) {
			c.differ("%s.%s: not here", at, name)
		}
	}
	if order := c.order[nameOf(schema)]; len(names) == len(order) && !slices.Equal(names, order) {
		c.differ("%s: order of members", at)
	}
}

func (c *comparison) shape(at string, goType reflect.Type, schema *smithy.Schema, shape *Shape, required []string) {
	if goType.Kind() == reflect.Pointer {
		goType = goType.Elem()
	}
	name := nameOf(schema)
	if want := typeOf(goType); want != shape.Type {
		c.differ("%s: type %d here, %d in the model", at, shape.Type, want)
	}
	if _, sensitive := smithy.SchemaTrait[*traits.Sensitive](schema); sensitive != shape.Sensitive {
		c.differ("%s: sensitive %t here, %t in the model", name, shape.Sensitive, sensitive)
	}
	c.values(name, goType, shape.Enum)
	if shape.Type != Structure {
		c.length(name, shape)
	}
	switch {
	case shape.Type == Structure:
		c.structure(at, goType, schema, shape.Members, required)
	case shape.Type == List && goType.Kind() == reflect.Slice:
		c.shape(at+"[0]", goType.Elem(), schema.ListMember(), shape.Element, required)
	}
}

// nameOf returns the name of a structure, or of the shape of a member.
func nameOf(schema *smithy.Schema) string {
	if target := schema.TargetID().Name; target != "" {
		return target
	}
	return schema.ID().Name
}

// values compares an enumeration's values; the SDK's type has a method for them.
func (c *comparison) values(name string, goType reflect.Type, here []string) {
	var theirs []string
	if method := reflect.New(goType).Elem().MethodByName("Values"); method.IsValid() {
		values := method.Call(nil)[0]
		for i := range values.Len() {
			theirs = append(theirs, values.Index(i).String())
		}
	}
	for _, value := range theirs {
		if !slices.Contains(here, value) {
			c.differ("%s: value %s is not here", name, value)
		}
	}
	for _, value := range here {
		if !slices.Contains(theirs, value) {
			c.differ("%s: value %s is not in the model", name, value)
		}
	}
	if len(here) == len(theirs) && !slices.Equal(here, theirs) {
		c.differ("%s: order of values", name)
	}
}

func (c *comparison) length(name string, shape *Shape) {
	bounds, ok := c.bounds[name]
	if !ok {
		c.differ("%s: testdata/bounds.json does not have this shape", name)
		return
	}
	if shape.Min != bounds.Min || shape.Max != bounds.Max {
		c.differ("%s: length %d to %d here, %d to %d in the model", name, shape.Min, shape.Max, bounds.Min, bounds.Max)
	}
	if shape.Pattern != bounds.Pattern {
		c.differ("%s: pattern %q here, %q in the model", name, shape.Pattern, bounds.Pattern)
	}
}

func typeOf(t reflect.Type) Type {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return Timestamp
	case t == reflect.TypeFor[[]byte]():
		return Blob
	}
	switch t.Kind() {
	case reflect.String:
		return String
	case reflect.Int32:
		return Integer
	case reflect.Bool:
		return Boolean
	case reflect.Slice:
		return List
	case reflect.Map:
		return Map
	case reflect.Struct:
		return Structure
	}
	panic("a type of member that is new to this test: " + t.String())
}

// requiredOf returns the paths of the members that the SDK asks for before it
// sends an input: once of an empty input, once of one with empty structures.
func requiredOf(t *testing.T, method reflect.Method, input reflect.Type) []string {
	t.Helper()
	client := awskms.New(awskms.Options{Region: "us-east-1", Retryer: aws.NopRetryer{}, HTTPClient: noNetwork{}})
	empty, filled := reflect.New(input), reflect.New(input)
	fillStructures(filled.Elem())
	var paths []string
	for _, value := range []reflect.Value{empty, filled} {
		out := method.Func.Call([]reflect.Value{reflect.ValueOf(client), reflect.ValueOf(t.Context()), value})
		err, _ := out[1].Interface().(error)
		var missing smithy.InvalidParamsError
		if !errors.As(err, &missing) {
			continue
		}
		for _, err := range missing.Errs() {
			path := err.(interface{ Field() string }).Field()
			paths = append(paths, method.Name+strings.TrimPrefix(path, input.Name()))
		}
	}
	return paths
}

// fillStructures puts empty structures wherever an input can have one, so that
// the SDK looks into them.
func fillStructures(input reflect.Value) {
	for i := range input.NumField() {
		field := input.Field(i)
		switch {
		case !field.CanSet():
		case field.Kind() == reflect.Pointer && field.Type().Elem().Kind() == reflect.Struct && field.Type().Elem() != reflect.TypeFor[time.Time]():
			field.Set(reflect.New(field.Type().Elem()))
		case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct:
			field.Set(reflect.MakeSlice(field.Type(), 1, 1))
		}
	}
}

type noNetwork struct{}

func (noNetwork) Do(*http.Request) (*http.Response, error) {
	return nil, errors.New("this test sends nothing")
}

// schemaOf returns the schema that the SDK writes an input by.
func schemaOf(t *testing.T, input reflect.Type) *smithy.Schema {
	t.Helper()
	writer := &schemaWriter{}
	reflect.New(input).Interface().(interface{ Serialize(smithy.ShapeSerializer) }).Serialize(writer)
	require.NotNil(t, writer.schema, input.Name())
	return writer.schema
}

// schemaWriter keeps the first schema that it is to write by.
type schemaWriter struct {
	smithy.ShapeSerializer
	schema *smithy.Schema
}

func (w *schemaWriter) WriteStruct(schema *smithy.Schema) {
	if w.schema == nil {
		w.schema = schema
	}
}

func (w *schemaWriter) CloseStruct() {}

var addMember = regexp.MustCompile(`= (\w+)\.AddMember\("(\w+)"`)

// memberOrder reads the order of members from the SDK's source: at run time a
// schema has them as a map.
func memberOrder(t *testing.T) map[string][]string {
	t.Helper()
	const schemas = "github.com/aws/aws-sdk-go-v2/service/kms/schemas"
	dir, err := exec.CommandContext(context.Background(), "go", "list", "-f", "{{.Dir}}", schemas).Output()
	require.NoError(t, err)
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "schemas.go"))
	require.NoError(t, err)
	order := map[string][]string{}
	for _, match := range addMember.FindAllStringSubmatch(string(source), -1) {
		order[match[1]] = append(order[match[1]], match[2])
	}
	return order
}
