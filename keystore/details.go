package keystore

// What lists tell of the names on them.

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// MaxDetails is of how many names one list tells more than the name.
const MaxDetails = 500

// AliasDetails is what a list tells of an alias.
type AliasDetails struct {
	*Alias
	Accepted []PreviousKey // the former keys that are still accepted
}

// KeyDetails returns the keys of a folder's list by their names on it, without
// those that are no keys by now. Lists that tell details have turns, as
// inventories have.
func (st *Store) KeyDetails(ctx context.Context, s logical.Storage, folder string, names []string, now time.Time) (map[string]*Key, error) {
	return details(ctx, st, s, folder, names, func(ctx context.Context, s logical.Storage, name string) (*Key, error) {
		return st.glance(ctx, s, folder+name, now)
	})
}

// AliasDetails is KeyDetails for a folder of aliases.
func (st *Store) AliasDetails(ctx context.Context, s logical.Storage, folder string, names []string, now time.Time) (map[string]*AliasDetails, error) {
	return details(ctx, st, s, folder, names, func(ctx context.Context, s logical.Storage, name string) (*AliasDetails, error) {
		a, err := st.alias(ctx, s, aliasPrefix+folder+name)
		if err != nil || a == nil {
			return nil, err
		}
		k, err := st.glance(ctx, s, a.TargetKeyID, now)
		if err != nil || k == nil {
			return nil, err
		}
		accepted, err := st.glanceAccepted(ctx, s, a, now)
		return &AliasDetails{a, accepted}, err
	})
}

// details reads something of each name that is no folder, several at a time.
func details[T any](ctx context.Context, st *Store, s logical.Storage, folder string, names []string, read func(ctx context.Context, s logical.Storage, name string) (*T, error)) (map[string]*T, error) {
	e := &effort{Storage: s}
	end, err := st.lists.begin(ctx, folder, e)
	if err != nil {
		return nil, err
	}
	defer end()
	found := make(map[string]*T, len(names))
	for len(names) > 0 && err == nil {
		n := min(aheadNames, len(names))
		results, errs := make([]*T, n), make([]error, n)
		sideBySide(n, func(i int) {
			if !strings.HasSuffix(names[i], "/") {
				results[i], errs[i] = read(ctx, e, names[i])
			}
		})
		for i, result := range results {
			if result != nil {
				found[names[i]] = result
			}
		}
		e.looked += n
		names, err = names[n:], errors.Join(errs...)
	}
	return found, err
}
