package kmshmac

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTags(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "a", fields{"tags": []string{"team=payments", "empty="}})
		require.Nil(t, write(t, m, "tag-resource/a", fields{"tags": fields{"env": "prod", "team": "fraud"}}))
		require.Equal(t, fields{"team": "fraud", "env": "prod", "empty": ""}, read(t, m, "keys/a")["tags"])
		require.Nil(t, write(t, m, "untag-resource/a", fields{"tag_keys": "team,unknown"}))
		require.Nil(t, write(t, m, "untag-resource/a", fields{"tag_keys": []string{"empty"}}))
		require.Equal(t, fields{"env": "prod"}, read(t, m, "keys/a")["tags"])
		require.Equal(t, fields{"env": "prod"}, read(t, m.other(t), "keys/a")["tags"])
	})
}

func TestTagRefusals(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	full := fields{}
	for i := range 50 {
		full[fmt.Sprint("k", i)] = "v"
	}
	createKey(t, m, "full", fields{"tags": full})
	long := strings.Repeat("x", 257)
	tests := []struct {
		name                  string
		tags                  any
		wantType, wantMessage string
	}{
		{"one too many", fields{"one": "more"}, "TagException", "Too many tags"},
		{"reserved", fields{"aws:x": "1"}, "TagException", "Tags beginning with aws: are reserved"},
		{"reserved in capitals", fields{"AwS:x": "1"}, "TagException", "Tags beginning with aws: are reserved"},
		{"long key", fields{long[:129]: "v"}, "ValidationException", "1 validation error detected: Value '" + long[:129] + "' at 'tags.1.member.tag_key' failed to satisfy constraint: Member must have length less than or equal to 128"},
		{"long value", fields{"a": "v", "k": long}, "ValidationException", "1 validation error detected: Value '" + long + "' at 'tags.2.member.tag_value' failed to satisfy constraint: Member must have length less than or equal to 256"},
		{"empty key", fields{"": "v"}, "ValidationException", "1 validation error detected: Value '' at 'tags.1.member.tag_key' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"none given", nil, "ValidationException", "1 validation error detected: Value null at 'tags' failed to satisfy constraint: Member must not be null"},
	}
	before := rawRecord(t, m, keyPrefix+"full")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			writeRefused(t, m, "tag-resource/full", fields{"tags": test.tags}, test.wantType, test.wantMessage)
			require.Equal(t, before, rawRecord(t, m, keyPrefix+"full"))
		})
	}
}

func TestFullKeyTakesNewValues(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	full := fields{}
	for i := range 50 {
		full[fmt.Sprint("k", i)] = "v"
	}
	createKey(t, m, "a", fields{"tags": full})
	write(t, m, "tag-resource/a", fields{"tags": "k0=new"})
	write(t, m, "untag-resource/a", fields{"tag_keys": "k1"})
	write(t, m, "tag-resource/a", fields{"tags": "other=v"})
	require.Len(t, read(t, m, "keys/a")["tags"], 50)
	full["k51"] = "v"
	writeRefused(t, m, "keys/b", fields{"key_spec": "HMAC_256", "tags": full}, "TagException", "Too many tags")
	writeRefused(t, m, "untag-resource/a", nil, "ValidationException", "1 validation error detected: Value null at 'tag_keys' failed to satisfy constraint: Member must not be null")
}
