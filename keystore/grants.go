package keystore

// Grants: who may do what with a key besides those whom Vault's policies allow
// it.

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

// Grant lets a principal do some operations with a key.
type Grant struct {
	ID                string    `json:"id"` // 64 hexadecimal digits
	KeyID             string    `json:"key_id"`
	Name              string    `json:"name,omitempty"`
	GranteePrincipal  string    `json:"grantee_principal"`
	RetiringPrincipal string    `json:"retiring_principal,omitempty"`
	Operations        []string  `json:"operations"`
	CreationDate      time.Time `json:"creation_date"`
}

const (
	// MaxGrantsPerGrantee is how many grants of a key may name the same grantee,
	// or any groups: who looks for a grant of the grantee reads all of them. KMS
	// has its limit on all grants of a key only.
	MaxGrantsPerGrantee = 1000

	// purgedGrants is how many grants of a key that is gone are deleted before
	// others get a turn with its lock.
	purgedGrants = 100
)

// grantRecord is the stored record of a grant.
type grantRecord struct {
	Grant
	Secret []byte `json:"secret"` // authenticates grant tokens
}

// grantRef finds a grant from another index.
type grantRef struct {
	KeyID string `json:"key_id"`
}

// sameAs reports whether two grants with a name are one and the same.
func (g *Grant) sameAs(other *Grant) bool {
	return g.Name != "" && g.Name == other.Name && g.GranteePrincipal == other.GranteePrincipal &&
		g.RetiringPrincipal == other.RetiringPrincipal && slices.Equal(g.Operations, other.Operations)
}

// allows reports whether all the operations are among the grant's.
func (g *Grant) allows(operations []string) bool {
	return !slices.ContainsFunc(operations, func(operation string) bool { return !slices.Contains(g.Operations, operation) })
}

func loadGrant(ctx context.Context, s logical.Storage, keyID, id string) (*grantRecord, error) {
	if !isGrantID(id) {
		return nil, nil
	}
	return load[grantRecord](ctx, s, grantsOf(keyID)+id)
}

// isGrantID guards storage against names that somebody made up.
func isGrantID(id string) bool {
	raw, err := hex.DecodeString(id)
	return err == nil && len(raw) == sha256.Size && hex.EncodeToString(raw) == id
}

// GroupPrincipal begins the principal of a group of Vault's identities; the
// group's id follows. No entity has such an id. By itself it stands for all
// groups, where grants are looked for.
const GroupPrincipal = "group/"

// grantees returns by whom a grant is looked for: by its grantee, and where that
// is a group by any group.
func (g *Grant) grantees() []string {
	if strings.HasPrefix(g.GranteePrincipal, GroupPrincipal) && g.GranteePrincipal != GroupPrincipal {
		return []string{g.GranteePrincipal, GroupPrincipal}
	}
	return []string{g.GranteePrincipal}
}

// saveGrant writes a grant, its hints first. The change holds the key's lock.
func (w *write) saveGrant(g *grantRecord) error {
	for _, grantee := range g.grantees() {
		if err := w.put(granteeIndex(g.KeyID, grantee)+g.ID, struct{}{}); err != nil {
			return err
		}
	}
	if g.RetiringPrincipal != "" {
		if err := w.put(retireeIndex(g.RetiringPrincipal)+g.ID, grantRef{KeyID: g.KeyID}); err != nil {
			return err
		}
	}
	return w.put(grantsOf(g.KeyID)+g.ID, g)
}

// removeGrant deletes a grant, the record first: from then on it grants
// nothing, whatever hints are left. The change holds the key's lock.
func (w *write) removeGrant(g *grantRecord) error {
	if err := w.remove(grantsOf(g.KeyID) + g.ID); err != nil {
		return err
	}
	for _, grantee := range g.grantees() {
		if err := w.remove(granteeIndex(g.KeyID, grantee) + g.ID); err != nil {
			return err
		}
	}
	if g.RetiringPrincipal == "" {
		return nil
	}
	return w.remove(retireeIndex(g.RetiringPrincipal) + g.ID)
}

// purgeGrants deletes grants of a key that is gone, with their hints: done says
// whether these were all.
func (w *write) purgeGrants(keyID string) (done bool, err error) {
	ids, err := list(w.ctx, w.s, grantsOf(keyID))
	if err != nil {
		return false, err
	}
	removed := 0
	for _, id := range ids {
		g, err := loadGrant(w.ctx, w.s, keyID, id)
		if err != nil {
			return false, err
		}
		if g == nil {
			continue
		}
		if removed++; removed > purgedGrants {
			return false, nil
		}
		if err := w.removeGrant(g); err != nil {
			return false, err
		}
	}
	return true, nil
}

// FindGrant returns a grant that lets the principal do all the operations with
// the key; nil if there is none. It is for principals who may know of the key.
func (st *Store) FindGrant(ctx context.Context, s logical.Storage, keyID, principal string, operations ...string) (*Grant, error) {
	grants, ok := st.grants.get(keyID, principal)
	if !ok {
		var err error
		if grants, err = st.loadGrantsTo(ctx, s, keyID, principal, true); err != nil {
			return nil, err
		}
	}
	return firstThatAllows(grants, operations), nil
}

func firstThatAllows(grants []*Grant, operations []string) *Grant {
	for _, g := range grants {
		if g.allows(operations) {
			return g
		}
	}
	return nil
}

// GrantedKey returns the key that a key id or an alias with its alias/ prefix
// names, if a grant lets the principal do the operation with it; else nil.
//
// How long nil takes depends neither on what there is nor on what is in the
// cache: without a grant it reads the alias, if the name is one, lists the
// grants, and ends there.
func (st *Store) GrantedKey(ctx context.Context, s logical.Storage, name, principal, operation string, now time.Time) (*Key, error) {
	if k, ok := st.warmGrantedKey(name, principal, operation); ok {
		return st.Key(ctx, s, k, now)
	}
	if principal == "" {
		return nil, nil
	}
	keyID := name
	if strings.HasPrefix(name, kms.AliasPrefix) {
		a, err := load[Alias](ctx, s, storableAlias(name))
		if err != nil {
			return nil, err
		}
		if a != nil {
			keyID = a.TargetKeyID
		}
	}
	grants, err := st.loadGrantsTo(ctx, s, keyID, principal, false)
	if err != nil || firstThatAllows(grants, []string{operation}) == nil {
		return nil, err
	}
	return st.KeyByName(ctx, s, name, now)
}

// warmGrantedKey returns the id of the key that a name stands for, if the cache
// knows that, and a grant for the operation.
func (st *Store) warmGrantedKey(name, principal, operation string) (keyID string, ok bool) {
	if strings.HasPrefix(name, kms.AliasPrefix) {
		a, ok := st.aliases.Get(name)
		if !ok {
			return "", false
		}
		name = a.TargetKeyID
	}
	grants, _ := st.grants.get(name, principal)
	for _, g := range grants {
		if slices.Contains(g.Operations, operation) {
			return name, true
		}
	}
	return "", false
}

// storableAlias returns the name of an alias, or, for one that Vault's storage
// would not like, a name that no alias has.
func storableAlias(name string) string {
	if kms.CheckAliasName(name) != nil {
		return aliasPrefix + digest(name)
	}
	return name
}

// loadGrantsTo returns the grants of a key to a principal, of those with the same
// operations one, and puts them into the cache; none only if keepNone says so.
// What a caller without a grant asks for must push nothing out.
func (st *Store) loadGrantsTo(ctx context.Context, s logical.Storage, keyID, principal string, keepNone bool) ([]*Grant, error) {
	if principal == "" {
		return nil, nil
	}
	generation := st.grants.generationOf(keyID)
	ids, err := list(ctx, s, granteeIndex(keyID, principal))
	if err != nil {
		return nil, err
	}
	// A principal may have thousands of grants on a key. There are few different
	// ones among them, since they can differ in five operations.
	var grants []*Grant
	seen := map[string]bool{}
	for _, id := range ids {
		g, err := loadGrant(ctx, s, keyID, id)
		if err != nil {
			return nil, err
		}
		if g == nil || !slices.Contains(g.grantees(), principal) {
			continue
		}
		operations := strings.Join(slices.Compact(slices.Sorted(slices.Values(g.Operations))), ",")
		if !seen[operations] {
			seen[operations] = true
			grants = append(grants, &g.Grant)
		}
	}
	if (keepNone || len(grants) > 0) && st.mayCacheGrants(keyID, principal) {
		st.grants.add(keyID, principal, grants, generation)
	}
	return grants, nil
}

func (st *Store) mayCacheGrants(keyID, principal string) bool {
	now := st.now()
	return !st.cachingDisabled() && !st.doubts.below(grantsOf(keyID), now) && !st.doubts.below(granteeIndex(keyID, principal), now)
}

func (st *Store) newGrantToken(g *grantRecord) (string, error) {
	nonce := make([]byte, 16)
	if _, err := io.ReadFull(st.random(), nonce); err != nil {
		return "", fmt.Errorf("choosing a nonce: %w", err)
	}
	token, err := kms.GrantToken{KeyID: g.KeyID, GrantID: g.ID, Nonce: nonce}.Seal(g.Secret)
	if err != nil {
		return "", errors.New("encoding a grant token failed")
	}
	return token, nil
}

// OpenGrantToken returns the grant that a token names. A token that names none
// is InvalidGrantTokenException.
func (st *Store) OpenGrantToken(ctx context.Context, s logical.Storage, token string) (*Grant, error) {
	t, sealedWith, ok := kms.ReadGrantToken(token)
	if !ok {
		return nil, kms.InvalidGrantToken()
	}
	g, err := loadGrant(ctx, s, t.KeyID, t.GrantID)
	if err != nil {
		return nil, err
	}
	if g == nil || !sealedWith(g.Secret) {
		return nil, kms.InvalidGrantToken()
	}
	return &g.Grant, nil
}

// CheckGrantTokens refuses tokens that name no grant. Grants are in force as
// soon as they are stored, so a token gives its bearer nothing more.
func (st *Store) CheckGrantTokens(ctx context.Context, s logical.Storage, tokens []string) error {
	for _, token := range tokens {
		g, err := st.OpenGrantToken(ctx, s, token)
		if err != nil {
			return err
		}
		k, err := st.Key(ctx, s, g.KeyID, st.now())
		if err != nil {
			return err
		}
		if k == nil {
			return kms.InvalidGrantToken() // the grant has gone with its key
		}
	}
	return nil
}

// CreateGrant stores a grant, whose id and creation date the store chooses, or
// finds the one that the same request with a name made before. token names it;
// each is different.
func (st *Store) CreateGrant(ctx context.Context, s logical.Storage, wanted Grant, dryRun bool) (g *Grant, token string, err error) {
	record, err := st.storeGrant(ctx, s, wanted, dryRun)
	if err != nil {
		return nil, "", err
	}
	token, err = st.newGrantToken(record)
	return &record.Grant, token, err
}

func (st *Store) storeGrant(ctx context.Context, s logical.Storage, wanted Grant, dryRun bool) (*grantRecord, error) {
	ctx, w, err := st.begin(ctx, s, keyPrefix+wanted.KeyID)
	if err != nil {
		return nil, err
	}
	defer w.end()
	now := st.now()
	k, err := st.loadKey(ctx, s, wanted.KeyID)
	if err != nil {
		return nil, err
	}
	if k == nil || k.record.gone(now) {
		return nil, kms.KeyNotFound(wanted.KeyID)
	}
	if err := kms.Check("CreateGrant", k.Facts(now)); err != nil {
		return nil, err
	}
	ids, err := list(ctx, s, grantsOf(k.ID))
	if err != nil {
		return nil, err
	}
	existing, err := grantsToGrantee(ctx, s, &wanted)
	if err != nil || existing != nil && !dryRun {
		return existing, err
	}
	if len(ids) >= kms.MaxGrantsPerKey {
		return nil, kms.LimitExceeded("Grants per key quota for this account in this region is %d, current usage is %d.", kms.MaxGrantsPerKey, len(ids))
	}
	if dryRun {
		return nil, kms.DryRun()
	}
	random := make([]byte, 2*sha256.Size)
	if _, err := io.ReadFull(rand.Reader, random); err != nil {
		return nil, fmt.Errorf("choosing a grant id: %w", err)
	}
	g := &grantRecord{Grant: wanted, Secret: random[sha256.Size:]}
	g.ID = hex.EncodeToString(random[:sha256.Size])
	g.CreationDate = now.UTC().Truncate(time.Second)
	err = w.saveGrant(g)
	w.tell(err, Notice{Kind: GrantCreated, KeyID: g.KeyID})
	return g, err
}

// grantsToGrantee finds the stored grant that equals the wanted one, and refuses
// a further grant where the grantee has too many.
func grantsToGrantee(ctx context.Context, s logical.Storage, wanted *Grant) (*grantRecord, error) {
	for i, grantee := range wanted.grantees() {
		ids, err := list(ctx, s, granteeIndex(wanted.KeyID, grantee))
		if err != nil {
			return nil, err
		}
		if wanted.Name != "" && i == 0 {
			existing, err := sameGrant(ctx, s, wanted, ids)
			if err != nil || existing != nil {
				return existing, err
			}
		}
		if len(ids) >= MaxGrantsPerGrantee {
			return nil, kms.LimitExceeded("At most %d grants of a key can name the same grantee, or groups: current usage is %d.", MaxGrantsPerGrantee, len(ids))
		}
	}
	return nil, nil
}

// sameGrant finds the grant among those of the grantee that equals the wanted
// one.
func sameGrant(ctx context.Context, s logical.Storage, wanted *Grant, ids []string) (*grantRecord, error) {
	for _, id := range ids {
		g, err := loadGrant(ctx, s, wanted.KeyID, id)
		if err != nil {
			return nil, err
		}
		if g != nil && g.sameAs(wanted) {
			return g, nil
		}
	}
	return nil, nil
}

// GrantList are grants by their ids, sorted, to be read one by one.
type GrantList struct {
	IDs  []string
	load func(ctx context.Context, id string) (*Grant, error)
}

// Load returns one of the list's grants; nil if it is there no more.
func (l GrantList) Load(ctx context.Context, id string) (*Grant, error) { return l.load(ctx, id) }

// ListGrants returns the grants of a key, only those to the grantee unless that
// is "".
func (st *Store) ListGrants(ctx context.Context, s logical.Storage, keyID, grantee string) (GrantList, error) {
	prefix := grantsOf(keyID)
	if grantee != "" {
		prefix = granteeIndex(keyID, grantee)
	}
	ids, err := list(ctx, s, prefix)
	return GrantList{IDs: ids, load: func(ctx context.Context, id string) (*Grant, error) {
		return publicGrant(loadGrant(ctx, s, keyID, id))
	}}, err
}

// ListRetirableGrants returns the grants of any key that a principal may retire
// because they name it as the retiring one.
func (st *Store) ListRetirableGrants(ctx context.Context, s logical.Storage, principal string) (GrantList, error) {
	prefix := retireeIndex(principal)
	ids, err := list(ctx, s, prefix)
	return GrantList{IDs: ids, load: func(ctx context.Context, id string) (*Grant, error) {
		ref, err := load[grantRef](ctx, s, prefix+id)
		if err != nil || ref == nil {
			return nil, err
		}
		k, err := st.Key(ctx, s, ref.KeyID, st.now())
		if err != nil || k == nil {
			return nil, err
		}
		return publicGrant(loadGrant(ctx, s, ref.KeyID, id))
	}}, err
}

func publicGrant(g *grantRecord, err error) (*Grant, error) {
	if g == nil {
		return nil, err
	}
	return &g.Grant, err
}

// EndGrant deletes a grant if check, which may be nil, allows it. Whether there
// is such a key is asked last, so that it shows to those only whom check allows
// to end the grant.
func (st *Store) EndGrant(ctx context.Context, s logical.Storage, keyID, grantID string, dryRun bool, check func(*Grant) error) error {
	ctx, w, err := st.begin(ctx, s, keyPrefix+keyID)
	if err != nil {
		return err
	}
	defer w.end()
	g, err := loadGrant(ctx, s, keyID, grantID)
	if err != nil {
		return err
	}
	if g == nil {
		return kms.GrantNotFound(grantID)
	}
	if check != nil {
		if err := check(&g.Grant); err != nil {
			return err
		}
	}
	k, err := st.loadKey(ctx, s, keyID)
	if err != nil {
		return err
	}
	if k == nil || k.record.gone(st.now()) {
		return kms.GrantNotFound(grantID) // it has gone with its key
	}
	if dryRun {
		return kms.DryRun()
	}
	err = w.removeGrant(g)
	w.tell(err, Notice{Kind: GrantEnded, KeyID: keyID})
	return err
}
