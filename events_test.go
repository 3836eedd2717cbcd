package kmshmac

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/keystore"
)

// TestEvents: each change is told to Vault once, with where to read it, and what
// changes nothing is not.
func TestEvents(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	bus := logical.NewMockEventSender()
	require.NoError(t, m.b.Setup(t.Context(), &logical.BackendConfig{
		Logger: m.b.Logger(), StorageView: m.storage, System: m.b.System(), EventsSender: bus,
	}))
	createKey(t, m, "p/a")
	createKey(t, m, "p/a") // again: nothing happens
	createKey(t, m, "p/b")
	external(t, m, "p/mine")
	p := importParameters(t, m, "p/mine", "RSAES_OAEP_SHA_256", "RSA_2048")
	write(t, m, "import-key-material/p/mine", fields{
		"import_token": p.token, "encrypted_key_material": p.wrap(t, material32), "valid_to": formatTime(m.clock.now().Add(time.Hour)),
	})
	write(t, m, "aliases/p/x", fields{"target_key_id": "p/a"})
	write(t, m, "aliases/p/x", fields{"target_key_id": "p/b"})
	grant := write(t, m, "create-grant/p/a", fields{"grantee_principal": "g", "operations": "GenerateMac"})
	write(t, m, "revoke-grant/p/a", fields{"grant_id": grant["grant_id"]})
	write(t, m, "disable-key/p/a", nil)
	write(t, m, "disable-key/p/a", nil)
	write(t, m, "enable-key/p/a", nil)
	write(t, m, "schedule-key-deletion/p/a", fields{"pending_window_in_days": 7})
	write(t, m, "cancel-key-deletion/p/a", nil)
	do(t, m, logical.DeleteOperation, "aliases/p/x", nil)
	write(t, m, "schedule-key-deletion/p/a", fields{"pending_window_in_days": 7})
	writeRefused(t, m, "disable-key/p/a", nil, "KMSInvalidStateException", "p/a is pending deletion.")
	m.clock.advance(8 * day)
	m.tidy(t)

	want := []string{
		"kms-hmac/key-create keys/p/a create p/a", "kms-hmac/key-create keys/p/b create p/b", "kms-hmac/key-create keys/p/mine create p/mine",
		"kms-hmac/key-material-import keys/p/mine material-import p/mine",
		"kms-hmac/alias-write aliases/p/x write p/a", "kms-hmac/alias-write aliases/p/x write p/b",
		"kms-hmac/grant-create keys/p/a create p/a", "kms-hmac/grant-end keys/p/a end p/a",
		"kms-hmac/key-disable keys/p/a disable p/a", "kms-hmac/key-enable keys/p/a enable p/a",
		"kms-hmac/key-deletion-schedule keys/p/a deletion-schedule p/a", "kms-hmac/key-deletion-cancel keys/p/a deletion-cancel p/a",
		"kms-hmac/alias-delete aliases/p/x delete p/b", "kms-hmac/key-deletion-schedule keys/p/a deletion-schedule p/a",
		"kms-hmac/key-material-expire keys/p/mine material-expire p/mine", "kms-hmac/key-delete keys/p/a delete p/a",
	}
	sent := func() (events []string) {
		bus.Lock()
		defer bus.Unlock()
		for _, e := range bus.Events {
			f := e.Event.Metadata.Fields
			events = append(events, fmt.Sprintf("%s %s %s %s", e.Type, f["data_path"].GetStringValue(), f["operation"].GetStringValue(), f["key_id"].GetStringValue()))
		}
		return events
	}
	require.Eventually(t, func() bool { return len(sent()) >= len(want) }, time.Minute, time.Millisecond)
	require.ElementsMatch(t, want, sent())
}

// TestEventsHoldNobodyUp: a bus that is slow, fails or is not there is nothing
// that a request notices.
func TestEventsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	var warnings atomic.Int64
	slow := newEventQueue(func(context.Context, keystore.Notice) error {
		entered <- struct{}{}
		<-release
		return errors.New("refused")
	}, func(string, ...any) { warnings.Add(1) })
	slow.add(keystore.Notice{Kind: keystore.KeyCreated})
	<-entered
	for range maxQueuedEvents + 5 {
		slow.add(keystore.Notice{Kind: keystore.KeyCreated})
	}
	require.EqualValues(t, 5, warnings.Load())
	slow.stop()
	close(release)

	for name, err := range map[string]error{"here": framework.ErrNoEvents, "over the boundary": errors.New("rpc error: " + framework.ErrNoEvents.Error())} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			none := newEventQueue(func(context.Context, keystore.Notice) error { asked.Add(1); return err }, func(string, ...any) {})
			none.add(keystore.Notice{Kind: keystore.KeyCreated})
			require.Eventually(t, none.noBus.Load, time.Minute, time.Millisecond)
			none.add(keystore.Notice{Kind: keystore.KeyCreated})
			require.EqualValues(t, 1, asked.Load(), "it is not asked again")
		})
	}
}
