package gateway

// ListKeys and ListAliases.

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"vault-plugin-secrets-kms-hmac/kms"
)

func listKeys(c *call, in input) (answer, error) {
	w, next, err := c.listFolders(in, "keys", markKeys, namesAlone, limitOf(in, 100, 1000))
	if err != nil {
		return nil, err
	}
	keys := make([]object, len(w.names))
	for i, id := range w.names {
		keys[i] = object{{"KeyId", id}, {"KeyArn", c.arns().key(id)}}
	}
	return page("Keys", keys, markKeys, next), nil
}

// detailed asks for what is to be known of each entry of a list, namesAlone for
// no more than the entries.
var (
	detailed   = url.Values{"detailed": headerTrue}
	namesAlone = url.Values{"detailed": {"false"}}
)

func listAliases(c *call, in input) (answer, error) {
	limit := limitOf(in, 50, 100)
	if in.text("KeyId") != "" {
		return c.listAliasesOfKey(in, limit)
	}
	w, next, err := c.listFolders(in, "aliases", markAliases, detailed, limit)
	if err != nil {
		return nil, err
	}
	aliases := make([]object, len(w.names))
	for i, name := range w.names {
		aliases[i] = c.aliasEntry(name, w.infos[i])
	}
	return page("Aliases", aliases, markAliases, next), nil
}

// aliasEntry returns KMS's entry of an alias, whose name has no prefix here.
func (c *call) aliasEntry(name string, info json.RawMessage) object {
	name = kms.AliasPrefix + name
	var alias aliasRecord
	_ = json.Unmarshal(info, &alias) // an alias that is gone by now has no more than its name
	entry := object{{"AliasName", name}, {"AliasArn", c.arns().alias(name)}}
	if alias.TargetKeyID != "" {
		entry = append(entry, field{"TargetKeyId", c.folder.local(alias.TargetKeyID)})
	}
	return append(entry, field{"CreationDate", milliseconds(alias.CreationDate)}, field{"LastUpdatedDate", milliseconds(alias.LastUpdatedDate)})
}

// listAliasesOfKey lists the aliases of one key: a list of the mount's own,
// through all folders.
func (c *call) listAliasesOfKey(in input, limit int) (answer, error) {
	if err := c.resolve(in.text("KeyId"), false); err != nil {
		return nil, err
	}
	after, err := markerOf(in, markAliasesOfKey)
	if err != nil {
		return nil, err
	}
	if err := checkPosition(after); err != nil {
		return nil, err
	}
	query := url.Values{"list": headerTrue, "detailed": headerTrue, "target_key_id": {c.key.native}, "limit": {strconv.Itoa(limit)}}
	if after != "" {
		query.Set("after", after)
	}
	var l listAnswer
	err = c.request(http.MethodGet, "aliases/"+c.folder.dir(), query, nil, &l)
	if missing(err) {
		err = c.exists()
	}
	if err != nil {
		return nil, err
	}
	aliases := make([]object, len(l.Keys))
	for i, name := range l.Keys {
		aliases[i] = c.aliasEntry(name, l.KeyInfo[name])
	}
	return page("Aliases", aliases, markAliasesOfKey, l.NextAfter), nil
}

// exists tells a key without aliases from one that is not there. A caller who
// may not read the key gets the empty list that is his due.
func (c *call) exists() error {
	if _, err := c.read(); err != nil && !forbidden(err) {
		return err
	}
	return nil
}
