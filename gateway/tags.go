package gateway

// TagResource and ListResourceTags.

import (
	"maps"
	"slices"

	"vault-plugin-secrets-kms-hmac/kms"
)

func checkTags(_ *call, in input) error { return kms.CheckTags(kms.TagsFrom(in["Tags"])) }

// listResourceTags pages through the tags that the description of the key has.
func listResourceTags(c *call, in input) (answer, error) {
	after, err := markerOf(in, markTags)
	if err != nil {
		return nil, err
	}
	m, err := c.read()
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(m.Tags))
	if after != "" {
		names = slices.DeleteFunc(names, func(name string) bool { return name <= after })
	}
	limit := limitOf(in, 50, 50)
	next := ""
	if len(names) > limit {
		names = names[:limit]
		next = names[limit-1]
	}
	tags := make([]object, len(names))
	for i, name := range names {
		tags[i] = object{{"TagKey", name}, {"TagValue", m.Tags[name]}}
	}
	return page("Tags", tags, markTags, next), nil
}
