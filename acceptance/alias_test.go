package acceptance

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// TestAliasMovesUnderLoad moves an alias back and forth while clients generate
// and verify through it. None of them fails, and each MAC is of one of the keys.
func TestAliasMovesUnderLoad(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]mountOption{"cached": nil, "force_no_cache": {forceNoCache}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			aliasMovesUnderLoad(t, newMount(t, options...))
		})
	}
}

func aliasMovesUnderLoad(t *testing.T, m mount) {
	const moves = 60
	message := someMessage()
	macs := map[string]string{}
	for _, id := range []string{"f/one", "f/two"} {
		m.newKey(t, id, hmac256)
		macs[id] = m.mac(t, id, hmac256, message)
	}
	m.write(t, "aliases/f/moving", body{"target_key_id": "f/one"})
	m.write(t, "aliases/f/overlapping", body{"target_key_id": "f/one"})
	m.write(t, "aliases/f/overlapping", body{"target_key_id": "f/two", "overlap": "1h"})

	var wrong atomic.Value
	var seen [2]atomic.Int64
	request := func(ctx context.Context, path string, data body) (answer, error) {
		a, err := m.request(ctx, "POST", path, data)
		if err == nil && a.status != 200 {
			err = fmt.Errorf("%s: status %d, %q", path, a.status, a.Errors)
		}
		return a, err
	}
	stop := underLoad(t, 3, func(ctx context.Context) (ok bool, err error) {
		defer func() {
			if err != nil && ctx.Err() == nil {
				wrong.Store(err)
			}
		}()
		data := body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"}
		a, err := request(ctx, "generate-mac/alias/f/moving", data)
		if err != nil {
			return false, err
		}
		id, _ := a.Data["key_id"].(string)
		if macs[id] == "" || a.Data["mac"] != macs[id] {
			return false, fmt.Errorf("generate-mac answered %v", a.Data)
		}
		if id == "f/one" {
			seen[0].Add(1)
		} else {
			seen[1].Add(1)
		}
		// With an overlap, the MACs of both keys verify all the time.
		for id, mac := range macs {
			data["mac"] = mac
			a, err := request(ctx, "verify-mac/alias/f/overlapping", data)
			if err != nil {
				return false, err
			}
			if a.Data["key_id"] != id {
				return false, fmt.Errorf("%s's MAC verified with %v", id, a.Data["key_id"])
			}
		}
		return true, nil
	})
	for i := range moves {
		target := []string{"f/two", "f/one"}[i%2]
		m.write(t, "aliases/f/moving", body{"target_key_id": target})
		m.write(t, "aliases/f/overlapping", body{"target_key_id": target, "overlap": "1h"})
		// Whoever asks after the answer gets the new key.
		if data := m.write(t, "generate-mac/alias/f/moving", body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"}); data["key_id"] != target {
			t.Fatalf("after the move to %s, generate-mac answers %v", target, data)
		}
	}
	good, bad := stop()
	if err, _ := wrong.Load().(error); err != nil || bad > 0 || good == 0 {
		t.Errorf("%d rounds went well, %d did not: %v", good, bad, err)
	}
	if seen[0].Load() == 0 || seen[1].Load() == 0 {
		t.Errorf("the load saw %d and %d MACs of the keys", seen[0].Load(), seen[1].Load())
	}
}

// TestRotation tells the story of a rotation with an overlap of a few seconds,
// enough for what happens within it on a busy machine.
func TestRotation(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	message := []byte("pay 10 EUR")
	alias := "alias/shop/sessions"
	m.newKey(t, "shop/2026", hmac256)
	m.newKey(t, "shop/2027", hmac256)
	m.write(t, "aliases/shop/sessions", body{"target_key_id": "shop/2026"})
	before := m.mac(t, alias, hmac256, message)

	const overlap = 8 * time.Second
	moved := m.write(t, "aliases/shop/sessions", body{"target_key_id": "shop/2027", "overlap": overlap.Seconds()})
	until := time.Now().Add(overlap)
	if previous, _ := moved["previous_keys"].([]any); len(previous) != 1 || previous[0].(body)["key_id"] != "shop/2026" {
		t.Errorf("moving the alias answered %v", moved)
	}
	after := m.mac(t, alias, hmac256, message)
	if id := m.verify(t, alias, hmac256, message, before); id != "shop/2026" {
		t.Errorf("the MAC from before the move verified with %s", id)
	}
	if id := m.verify(t, alias, hmac256, message, after); id != "shop/2027" {
		t.Errorf("the MAC from after the move verified with %s", id)
	}
	m.wrongMac(t, alias, hmac256, message, b64(random(32)))
	// In a batch each item says which key it was.
	batch := m.write(t, "verify-mac/"+alias, body{"mac_algorithm": "HMAC_SHA_256", "batch_input": []body{
		{"message": b64(message), "mac": before}, {"message": b64(message), "mac": after}, {"message": b64(message), "mac": b64(random(32))},
	}})["batch_results"].([]any)
	if batch[0].(body)["key_id"] != "shop/2026" || batch[1].(body)["key_id"] != "shop/2027" || batch[2].(body)["error"] == nil {
		t.Errorf("batch_results %v", batch)
	}

	// A previous key that is disabled does not verify, though it is not yet over.
	m.write(t, "disable-key/shop/2026", nil)
	m.wrongMac(t, alias, hmac256, message, before)
	m.write(t, "enable-key/shop/2026", nil)
	m.verify(t, alias, hmac256, message, before)
	m.write(t, "schedule-key-deletion/shop/2026", nil)
	m.wrongMac(t, alias, hmac256, message, before)
	m.write(t, "cancel-key-deletion/shop/2026", nil)
	m.write(t, "enable-key/shop/2026", nil)

	time.Sleep(time.Until(until))
	m.wrongMac(t, alias, hmac256, message, before)
	m.verify(t, alias, hmac256, message, after)
	m.verify(t, "shop/2026", hmac256, message, before)
	if read := m.read(t, "aliases/shop/sessions"); read["previous_keys"] != nil {
		t.Errorf("after the overlap the alias has %v", read)
	}
}

// TestExpiry lets imported key material expire.
func TestExpiry(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	material, message := random(32), someMessage()
	m.write(t, "keys/k", body{"key_spec": "HMAC_256", "origin": "EXTERNAL"})
	token, wrapped := m.wrap(t, "k", material)
	validTo := time.Now().Add(6 * time.Second).Truncate(time.Second)
	data := body{"import_token": token, "encrypted_key_material": wrapped, "valid_to": validTo.UTC().Format(time.RFC3339)}
	m.write(t, "import-key-material/k", data)
	mac := m.mac(t, "k", hmac256, message)
	holds(t, m.read(t, "keys/k"), body{"expiration_model": "KEY_MATERIAL_EXPIRES", "key_state": "Enabled"})

	time.Sleep(time.Until(validTo))
	m.refused(t, "KMSInvalidStateException", "generate-mac/k", body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"})
	holds(t, m.read(t, "keys/k"), body{"key_state": "PendingImport", "expiration_model": nil})
	data["valid_to"] = time.Now().Add(time.Hour).Unix()
	m.write(t, "import-key-material/k", data)
	m.verify(t, "k", hmac256, message, mac)
}

// TestDeletion schedules and cancels deletions, of a key with aliases, too.
func TestDeletion(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	m.newKey(t, "f/k", hmac256)
	if a := m.do(t, "POST", "schedule-key-deletion/f/k", body{"pending_window_in_days": 7}); len(a.Warnings) != 0 {
		t.Errorf("a key without aliases: warnings %q", a.Warnings)
	}
	m.refused(t, "KMSInvalidStateException", "schedule-key-deletion/f/k", nil)
	m.refused(t, "KMSInvalidStateException", "aliases/f/new", body{"target_key_id": "f/k"})
	m.write(t, "cancel-key-deletion/f/k", nil)
	m.refused(t, "KMSInvalidStateException", "cancel-key-deletion/f/k", nil)
	for _, days := range []any{6, 31, 0, 366, -1, "x"} {
		m.refused(t, "ValidationException", "schedule-key-deletion/f/k", body{"pending_window_in_days": days})
	}

	m.write(t, "aliases/f/a", body{"target_key_id": "f/k"})
	m.write(t, "aliases/f/b", body{"target_key_id": "f/k"})
	a := m.do(t, "POST", "schedule-key-deletion/f/k", nil)
	if len(a.Warnings) != 1 || !lineHas(a.Warnings[0], "alias/f/a", "alias/f/b") {
		t.Errorf("a key with aliases: warnings %q", a.Warnings)
	}
	date, err := time.Parse(time.RFC3339, a.Data["deletion_date"].(string))
	must(t, err)
	if left := time.Until(date); left < 719*time.Hour || left > 720*time.Hour {
		t.Errorf("deletion_date %v", date)
	}
	m.refused(t, "KMSInvalidStateException", "generate-mac/alias/f/a", body{"message": "eA==", "mac_algorithm": "HMAC_SHA_256"})
	m.write(t, "cancel-key-deletion/f/k", nil)
	m.write(t, "enable-key/f/k", nil)
	m.mac(t, "alias/f/a", hmac256, []byte("x"))
}
