package gateway

import (
	"maps"
	"slices"

	"vault-plugin-secrets-kms-hmac/kms"
)

// tagsOf returns the tags of an input, which may hold a key twice.
func tagsOf(list []any) []kms.Tag {
	tags := make([]kms.Tag, 0, len(list))
	for _, element := range list {
		tag, _ := element.(map[string]any)
		tags = append(tags, kms.Tag{Key: stringOf(tag["TagKey"]), Value: stringOf(tag["TagValue"])})
	}
	return tags
}

func tagMap(list []any) map[string]string {
	tags := make(map[string]string, len(list))
	for _, tag := range tagsOf(list) {
		tags[tag.Key] = tag.Value
	}
	return tags
}

func checkTags(_ *call, in input) error { return kms.CheckTags(tagsOf(in.list("Tags"))) }

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
