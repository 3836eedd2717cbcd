package keystore

// How records lie in storage: their names, which only this file spells, and
// the calls that read and write them.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// Storage names. Each ends in a slash: only so do seal wrap and invalidation
// take it for a prefix.
const (
	keyPrefix   = "key/"   // key/<key id>: keyRecord
	aliasPrefix = "alias/" // alias/<name>: Alias, the only truth about an alias

	// alias-of/<digest of the key id>/<see aliasHint>: which aliases may point at
	// a key, or accept it as a former one. Hints: an entry may be left over, none
	// is ever missing.
	aliasIndexPrefix = "alias-of/"

	// due/<hour>/<key id>: keys that may have something to tidy from that hour
	// on. Hints too.
	duePrefix = "due/"

	// overlap/<hour>/<alias name>: aliases that accept a former key until then.
	// Hints too.
	overlapPrefix = "overlap/"

	// import/<hour>/<key id>: importDue, when no import token of a key is good any
	// more. Hints too, for who looks below a folder.
	importPrefix = "import/"

	// wrapping-key/<hour of expiry>/<uuid>: wrappingKey
	wrappingKeyPrefix = "wrapping-key/"

	grantPrefix        = "grant/"            // grant/<digest of the key id>/<grant id>: grantRecord
	granteeIndexPrefix = "grant-of/"         // grant-of/<digest of the key id>/<digest of the grantee>/<grant id>: hint
	retireeIndexPrefix = "grant-retired-by/" // grant-retired-by/<digest of the principal>/<grant id>: grantRef

	usagePrefix  = "last-used/" // last-used/<shard>: usageShard
	configPrefix = "config/"
	settingsKey  = configPrefix + "mount" // config/mount: Settings
)

// SealWrapped returns the storage prefixes of records that hold secrets, for
// Vault to seal-wrap.
func SealWrapped() []string {
	return []string{keyPrefix, wrappingKeyPrefix, grantPrefix}
}

func aliasIndex(keyID string) string { return aliasIndexPrefix + digest(keyID) + "/" }

// aliasHint is the name of the hint that an alias may lead to a key. Below its
// first segment, the team's folder, it has no folders, or who looks for the
// aliases of a key would have as many to list as somebody likes to make.
func aliasHint(keyID, shortName string) string {
	first, rest, nested := strings.Cut(shortName, "/")
	if nested {
		// No name of an alias has a dot.
		shortName = first + "/" + strings.ReplaceAll(rest, "/", ".")
	}
	return aliasIndex(keyID) + shortName
}

// aliasHintOf010 is aliasHint as version 0.1.0 has it.
func aliasHintOf010(keyID, shortName string) string { return aliasIndex(keyID) + shortName }

func grantsOf(keyID string) string { return grantPrefix + digest(keyID) + "/" }

func granteeIndex(keyID, principal string) string {
	return granteeIndexPrefix + digest(keyID) + "/" + digest(principal) + "/"
}

func retireeIndex(principal string) string { return retireeIndexPrefix + digest(principal) + "/" }

// hour names the hour in which t lies so that names sort like times.
func hour(t time.Time) string { return t.UTC().Format("2006-01-02T15") }

// digest turns a name that may hold slashes into one segment.
func digest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

// load reads a JSON record; nil if there is none.
func load[T any](ctx context.Context, s logical.Storage, storageKey string) (*T, error) {
	entry, err := s.Get(ctx, storageKey)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", storageKey, err)
	}
	if entry == nil {
		return nil, nil
	}
	record := new(T)
	if err := entry.DecodeJSON(record); err != nil {
		// The decoder's error may quote the record, secrets and all.
		return nil, fmt.Errorf("the record %q is damaged", storageKey)
	}
	return record, nil
}

// errNoStorageWrite hides what could not be encoded.
var errNoStorageWrite = errors.New("encoding the record failed")

// list returns one level of names below a prefix, sorted.
func list(ctx context.Context, s logical.Storage, prefix string) ([]string, error) {
	names, err := s.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("listing %q: %w", prefix, err)
	}
	slices.Sort(names)
	return names, nil
}

// collect returns all names below a prefix, at any depth, sorted.
func collect(ctx context.Context, s logical.Storage, prefix string) ([]string, error) {
	names, err := list(ctx, s, prefix)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, name := range names {
		if !strings.HasSuffix(name, "/") {
			all = append(all, name)
			continue
		}
		below, err := collect(ctx, s, prefix+name)
		if err != nil {
			return nil, err
		}
		for _, b := range below {
			all = append(all, name+b)
		}
	}
	return all, nil
}
