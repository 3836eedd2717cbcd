package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"vault-plugin-secrets-kms-hmac/kms"
)

// maxSeeds is the most keys of one [Seed].
const maxSeeds = 1000

// Seed is what an engine shall hold.
type Seed struct {
	Keys []Key `json:"keys"`
}

// Key is a key to be created, with what belongs to it.
type Key struct {
	// ID is the key's id. Where it is empty, the engine chooses a UUID.
	ID string `json:"key_id,omitempty"`
	// Spec is HMAC_224, HMAC_256, HMAC_384 or HMAC_512; HMAC_256 where it is
	// empty.
	Spec string `json:"key_spec,omitempty"`
	// Material is the key material: 28, 32, 48 or 64 bytes, as the spec asks.
	// Where it is empty, the engine makes random one.
	Material []byte `json:"key_material,omitempty"`
	// Origin is AWS_KMS, or EXTERNAL for a key that waits for its material.
	// AWS_KMS where it is empty.
	Origin      string            `json:"origin,omitempty"`
	MultiRegion bool              `json:"multi_region,omitempty"`
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Disabled    bool              `json:"disabled,omitempty"`
	// Aliases are the names of aliases of the key, each with its "alias/".
	Aliases []string `json:"aliases,omitempty"`
}

// String says which key it is, and nothing of its material.
func (k Key) String() string {
	if k.ID == "" {
		return "a key"
	}
	return "key " + k.ID
}

// Seed creates keys, and returns their ids. It stops at the first that it
// cannot create.
func (e *Engine) Seed(ctx context.Context, seed Seed) ([]string, error) {
	if len(seed.Keys) > maxSeeds {
		return nil, fmt.Errorf("at most %d keys at once", maxSeeds)
	}
	ids := make([]string, 0, len(seed.Keys))
	for _, k := range seed.Keys {
		id, err := e.createKey(ctx, k)
		if err != nil {
			return ids, fmt.Errorf("creating %s: %w", k, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// createKey creates a key through the paths of the engine that clients use.
func (e *Engine) createKey(ctx context.Context, k Key) (string, error) {
	id, err := e.createKeyItself(ctx, k)
	if err != nil {
		return "", err
	}
	if k.Disabled {
		if err := e.write(ctx, "disable-key/"+id, nil); err != nil {
			return "", err
		}
	}
	for _, alias := range k.Aliases {
		name, ok := strings.CutPrefix(alias, "alias/")
		if !ok {
			return "", fmt.Errorf("%q does not begin with alias/", alias)
		}
		if err := e.write(ctx, "aliases/"+name, map[string]any{"target_key_id": id}); err != nil {
			return "", err
		}
	}
	return id, nil
}

var errMaterialUnused = errors.New("the material is not taken: the key exists, or its origin is EXTERNAL")

func (e *Engine) createKeyItself(ctx context.Context, k Key) (string, error) {
	spec := kms.KeySpec(k.Spec)
	if spec == "" {
		spec = kms.HMAC256
	}
	if !spec.IsHMAC() {
		return "", fmt.Errorf("the key_spec must be one of %s", kms.HMACSpecs())
	}
	path := "keys"
	if k.ID != "" {
		if err := kms.CheckKeyID(k.ID); err != nil {
			return "", err
		}
		path += "/" + k.ID
	}
	data := map[string]any{"key_spec": string(spec), "description": k.Description, "tags": tagsOf(k.Tags), "multi_region": k.MultiRegion}
	if k.Origin != "" {
		data["origin"] = k.Origin
	}
	if k.Material != nil && k.Origin == kms.OriginExternal {
		return "", errMaterialUnused // before a key without it is there
	}
	// No other request may take the material.
	e.mu.Lock()
	defer e.mu.Unlock()
	if k.Material != nil {
		if k.ID == "" {
			return "", errors.New("a key with given material needs an id")
		}
		e.random.give(k.Material)
		defer e.random.give(nil)
	}
	var created struct {
		KeyID string `json:"key_id"`
	}
	status, answer := e.handleLocked(ctx, http.MethodPost, path, "", data)
	if err := readAnswer(status, answer, &created); err != nil {
		return "", err
	}
	if k.Material != nil && e.random.given() {
		return "", errMaterialUnused
	}
	return created.KeyID, nil
}

// tagsOf has tags look as if they came in JSON.
func tagsOf(tags map[string]string) map[string]any {
	out := make(map[string]any, len(tags))
	for key, value := range tags {
		out[key] = value
	}
	return out
}

func (e *Engine) write(ctx context.Context, path string, data map[string]any) error {
	status, answer := e.handle(ctx, http.MethodPost, path, "", data)
	return readAnswer(status, answer, nil)
}

// readAnswer reads the data of an answer into out, unless that is nil.
func readAnswer(status int, body []byte, out any) error {
	var answer struct {
		Errors []string        `json:"errors"`
		Data   json.RawMessage `json:"data"`
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &answer); err != nil {
			return err
		}
	}
	if status/100 != 2 {
		return errors.New(strings.Join(answer.Errors, "; "))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer.Data, out)
}
