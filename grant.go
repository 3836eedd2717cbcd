package kmshmac

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

// grant is the stored record of a grant: who may do what with a key besides
// those whom Vault's policies allow it.
type grant struct {
	ID                string    `json:"id"` // 64 hexadecimal digits
	KeyID             string    `json:"key_id"`
	Name              string    `json:"name,omitempty"`
	GranteePrincipal  string    `json:"grantee_principal"`
	RetiringPrincipal string    `json:"retiring_principal,omitempty"`
	Operations        []string  `json:"operations"`
	CreationDate      time.Time `json:"creation_date"`
	Secret            []byte    `json:"secret"` // authenticates grant tokens
}

// grantRef finds a grant from another index.
type grantRef struct {
	KeyID string `json:"key_id"`
}

func (g *grant) data() map[string]any {
	data := map[string]any{
		"key_id":            g.KeyID,
		"grant_id":          g.ID,
		"grantee_principal": g.GranteePrincipal,
		"operations":        g.Operations,
		"creation_date":     formatTime(g.CreationDate),
	}
	if g.Name != "" {
		data["name"] = g.Name
	}
	if g.RetiringPrincipal != "" {
		data["retiring_principal"] = g.RetiringPrincipal
	}
	return data
}

// sameAs reports whether two grants with a name are one and the same.
func (g *grant) sameAs(other *grant) bool {
	return g.Name != "" && g.Name == other.Name && g.GranteePrincipal == other.GranteePrincipal &&
		g.RetiringPrincipal == other.RetiringPrincipal && slices.Equal(g.Operations, other.Operations)
}

// allows reports whether all the operations are among the grant's.
func (g *grant) allows(operations []string) bool {
	return !slices.ContainsFunc(operations, func(operation string) bool { return !slices.Contains(g.Operations, operation) })
}

func grantsOf(keyID string) string { return grantPrefix + digest(keyID) + "/" }

func granteeIndex(keyID, principal string) string {
	return granteeIndexPrefix + digest(keyID) + "/" + digest(principal) + "/"
}

func retireeIndex(principal string) string { return retireeIndexPrefix + digest(principal) + "/" }

func loadGrant(ctx context.Context, s logical.Storage, keyID, id string) (*grant, error) {
	if !isGrantID(id) {
		return nil, nil
	}
	return load[grant](ctx, s, grantsOf(keyID)+id)
}

// isGrantID guards storage against names that somebody made up.
func isGrantID(id string) bool {
	raw, err := hex.DecodeString(id)
	return err == nil && len(raw) == sha256.Size && hex.EncodeToString(raw) == id
}

// saveGrant writes a grant, its hints first. The caller holds the key's lock.
func saveGrant(ctx context.Context, s logical.Storage, g *grant) error {
	if err := put(ctx, s, granteeIndex(g.KeyID, g.GranteePrincipal)+g.ID, struct{}{}); err != nil {
		return err
	}
	if g.RetiringPrincipal != "" {
		if err := put(ctx, s, retireeIndex(g.RetiringPrincipal)+g.ID, grantRef{KeyID: g.KeyID}); err != nil {
			return err
		}
	}
	return put(ctx, s, grantsOf(g.KeyID)+g.ID, g)
}

// removeGrant deletes a grant, the record first: from then on it grants
// nothing, whatever hints are left. The caller holds the key's lock.
func removeGrant(ctx context.Context, s logical.Storage, g *grant) error {
	if err := remove(ctx, s, grantsOf(g.KeyID)+g.ID); err != nil {
		return err
	}
	if err := remove(ctx, s, granteeIndex(g.KeyID, g.GranteePrincipal)+g.ID); err != nil {
		return err
	}
	if g.RetiringPrincipal == "" {
		return nil
	}
	return remove(ctx, s, retireeIndex(g.RetiringPrincipal)+g.ID)
}

// purgeGrants deletes all grants of a key that is gone, and any hints.
func (b *backend) purgeGrants(ctx context.Context, s logical.Storage, keyID string) error {
	ids, err := list(ctx, s, grantsOf(keyID))
	if err != nil {
		return err
	}
	for _, id := range ids {
		g, err := loadGrant(ctx, s, keyID, id)
		if err != nil {
			return err
		}
		if g == nil {
			continue
		}
		if err := removeGrant(ctx, s, g); err != nil {
			return err
		}
	}
	return nil
}

// grantFor returns a grant that lets the principal do all the operations with
// the key; nil if there is none.
func grantFor(ctx context.Context, s logical.Storage, keyID, principal string, operations []string) (*grant, error) {
	if principal == "" {
		return nil, nil
	}
	ids, err := list(ctx, s, granteeIndex(keyID, principal))
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		g, err := loadGrant(ctx, s, keyID, id)
		if err != nil {
			return nil, err
		}
		if g != nil && g.GranteePrincipal == principal && g.allows(operations) {
			return g, nil
		}
	}
	return nil, nil
}

// grantToken is what a grant token says; a MAC under the grant's secret
// precedes it. The nonce makes each token different, as in KMS.
type grantToken struct {
	KeyID   string `json:"key_id"`
	GrantID string `json:"grant_id"`
	Nonce   []byte `json:"nonce"`
}

func (b *backend) newGrantToken(g *grant) (string, error) {
	nonce := make([]byte, 16)
	if _, err := io.ReadFull(b.GetRandomReader(), nonce); err != nil {
		return "", fmt.Errorf("choosing a nonce: %w", err)
	}
	payload, err := json.Marshal(grantToken{KeyID: g.KeyID, GrantID: g.ID, Nonce: nonce})
	if err != nil {
		return "", errors.New("encoding a grant token failed")
	}
	token := append(kms.NewMacKey(kms.HMAC256, g.Secret).Append(nil, payload), payload...)
	return base64.RawURLEncoding.EncodeToString(token), nil
}

// openGrantToken returns the grant that a token names. A token that names none
// is InvalidGrantTokenException.
func openGrantToken(ctx context.Context, s logical.Storage, token string) (*grant, error) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < sha256.Size {
		return nil, kms.InvalidGrantToken()
	}
	mac, payload := raw[:sha256.Size], raw[sha256.Size:]
	var t grantToken
	if json.Unmarshal(payload, &t) != nil {
		return nil, kms.InvalidGrantToken()
	}
	g, err := loadGrant(ctx, s, t.KeyID, t.GrantID)
	if err != nil {
		return nil, err
	}
	if g == nil || !kms.NewMacKey(kms.HMAC256, g.Secret).Verify(payload, mac) {
		return nil, kms.InvalidGrantToken()
	}
	return g, nil
}

// checkGrantTokens refuses tokens that name no grant. Grants are in force as
// soon as they are stored, so a token gives its bearer nothing more.
func (b *backend) checkGrantTokens(ctx context.Context, s logical.Storage, tokens []string) error {
	for _, token := range tokens {
		g, err := openGrantToken(ctx, s, token)
		if err != nil {
			return err
		}
		k, err := b.store.key(ctx, s, g.KeyID, b.now())
		if err != nil {
			return err
		}
		if k == nil {
			return kms.InvalidGrantToken() // the grant has gone with its key
		}
	}
	return nil
}
