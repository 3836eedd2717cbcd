// Package kmshmac is a Vault secrets engine that is to HMAC what AWS KMS is:
// it keeps HMAC keys in Vault storage and serves GenerateMac and VerifyMac, and
// all that manages their keys, with KMS's inputs, limits and failures.
package kmshmac

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/cryptoutil"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

const operationPrefix = "kms-hmac"

// backend is one mount of the engine.
type backend struct {
	*framework.Backend

	// store is all that the mount keeps.
	store *keystore.Store

	// events are told to Vault.
	events *eventQueue

	// now is the only source of time.
	now func() time.Time

	// storage is the mount's, for what is not part of a request; nil if Vault
	// only asks for the version.
	storage logical.Storage

	// spawn runs work beside the requests.
	spawn func(work func())

	// generateRSAKey makes the keys that wrap imported key material.
	generateRSAKey keystore.GenerateRSAKey
}

// Factory makes a backend for Vault. It touches neither storage nor Vault's
// system view: Vault also calls it to ask for the version, without either.
func Factory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	return FactoryAt(time.Now)(ctx, conf)
}

// FactoryAt returns a Factory of backends for which now is the only source of
// time, for programs in which tests move the clock. now is called by several
// goroutines at once.
func FactoryAt(now func() time.Time) logical.Factory {
	return func(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
		b := newBackend()
		b.now = now
		if err := b.Setup(ctx, conf); err != nil {
			return nil, err
		}
		b.storage = conf.StorageView
		return b, nil
	}
}

func newBackend() *backend {
	b := &backend{now: time.Now, spawn: func(work func()) { go work() }, generateRSAKey: cryptoutil.GenerateRSAKey}
	b.Backend = &framework.Backend{
		Help:           strings.TrimSpace(backendHelp),
		BackendType:    logical.TypeLogical,
		RunningVersion: Version,
		PathsSpecial:   &logical.Paths{SealWrapStorage: keystore.SealWrapped(), Unauthenticated: []string{readyPath}},
		Paths: framework.PathAppend(
			b.pathMac(),
			b.pathVerify(),
			b.pathKeys(),
			b.pathKeyState(),
			b.pathLastUsage(),
			b.pathKeyPolicy(),
			b.pathAliases(),
			b.pathTags(),
			b.pathImport(),
			b.pathGrants(),
			b.pathInventory(),
			b.pathUpcoming(),
			b.pathBulk(),
			b.pathOtherOperations(),
			b.pathConfig(),
			b.pathReady(),
		),
		Invalidate:   func(_ context.Context, storageKey string) { b.store.Invalidate(storageKey) },
		PeriodicFunc: b.periodic,
		Clean:        b.clean,
	}
	b.events = newEventQueue(b.sendEvent, func(message string, args ...any) { b.Logger().Warn(message, args...) })
	b.store = keystore.New(keystore.Options{
		Notify:     b.events.add,
		Now:        func() time.Time { return b.now() },
		System:     b.System,
		Random:     b.GetRandomReader,
		Background: b.background,
		Warn:       func(message string, args ...any) { b.Logger().Warn(message, args...) },
		GenerateRSAKey: func(random io.Reader, bits int) (*rsa.PrivateKey, error) {
			return b.generateRSAKey(random, bits)
		},
	})
	return b
}

// HandleRequest is where every request arrives. MACs take the short way: the
// framework would match their path against every pattern, decode each field by
// reflection and ask Vault for its replication state, which is one more round
// trip. Their paths are known to the framework all the same, for help, OpenAPI
// and path_mac.go's handlers, which end in the same functions. mac.go tells the
// whole way.
func (b *backend) HandleRequest(ctx context.Context, req *logical.Request) (resp *logical.Response, err error) {
	defer b.recoverPanic(&resp, &err)
	if task, ok := macTaskOf(req.Path); ok && isMacOperation(req.Operation) {
		return answer(b.serveMac(ctx, req, task))
	}
	if err := b.checkFields(req); err != nil {
		return answer(nil, err)
	}
	return answer(b.Backend.HandleRequest(ctx, req))
}

// HandleExistenceCheck tells Vault whether a write creates or updates. Only
// keys and aliases are created by writing to their own path. It must not fail
// for what HandleRequest will refuse.
func (b *backend) HandleExistenceCheck(ctx context.Context, req *logical.Request) (found, exists bool, err error) {
	var none *logical.Response
	defer b.recoverPanic(&none, &err)
	if id, ok := strings.CutPrefix(req.Path, "keys/"); ok {
		exists, err := b.store.KeyExists(ctx, req.Storage, id, b.now())
		return true, exists, asInternal(err)
	}
	if name, ok := strings.CutPrefix(req.Path, "aliases/"); ok {
		exists, err := b.store.AliasExists(ctx, req.Storage, kms.AliasPrefix+name, b.now())
		return true, exists, asInternal(err)
	}
	return false, false, nil
}

// alwaysExists satisfies the framework, which wants an ExistenceCheck on paths
// that can create; HandleExistenceCheck above is the one that is asked.
func alwaysExists(context.Context, *logical.Request, *framework.FieldData) (bool, error) {
	return true, nil
}

// answer turns an exception into the response that carries it over the plugin
// boundary; other errors become KMSInternalException, which is a 500.
func answer(resp *logical.Response, err error) (*logical.Response, error) {
	if err == nil {
		return resp, nil
	}
	var ex *kms.Exception
	if !errors.As(err, &ex) {
		return nil, asInternal(err)
	}
	if ex.Status() != 400 {
		return nil, logical.CodedError(ex.Status(), ex.Error())
	}
	data := map[string]any{"type": ex.Type}
	for name, value := range map[string]string{"message": ex.Message, "key_id": ex.KeyID, "alias_name": ex.AliasName} {
		if value != "" {
			data[name] = value
		}
	}
	return logical.ErrorResponseWithData(data, "%s", ex.Error()), nil
}

// asInternal names the KMS exception of an error that is not the caller's.
// Vault's own sentinels pass as they are: what the plugin boundary and Vault
// know is compared, not unwrapped.
func asInternal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, logical.ErrPermissionDenied):
		return logical.ErrPermissionDenied
	case errors.Is(err, logical.ErrUnsupportedPath):
		return logical.ErrUnsupportedPath
	case errors.Is(err, logical.ErrUnsupportedOperation):
		return logical.ErrUnsupportedOperation
	case strings.Contains(err.Error(), logical.ErrReadOnly.Error()):
		// Storage errors reach a plugin as text. Vault forwards the request to
		// a node that can write if it sees exactly this one.
		return logical.ErrReadOnly
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", kms.TypeDependencyTimeout, err)
	}
	return fmt.Errorf("%s: %w", kms.TypeInternal, err)
}

// recoverPanic is the last line of defence: one process serves every mount of
// the plugin, so a panic would take them all down. The panic's value is not
// logged, since it may quote the request.
func (b *backend) recoverPanic(resp **logical.Response, err *error) {
	if r := recover(); r != nil {
		b.Logger().Error("a request panicked, please report this", "stack", string(debug.Stack()))
		*resp, *err = nil, logical.CodedError(500, kms.TypeInternal+": the request failed unexpectedly")
	}
}

// periodic is called by Vault about once a minute, for what may happen late:
// no answer depends on it.
func (b *backend) periodic(ctx context.Context, req *logical.Request) error {
	if !b.WriteSafeReplicationState() {
		return nil
	}
	return b.store.Tidy(ctx, req.Storage)
}

// background runs work that is not part of a request, if this node can write.
func (b *backend) background(work func(ctx context.Context, s logical.Storage)) {
	b.spawn(func() {
		defer func() {
			if r := recover(); r != nil {
				b.Logger().Error("work beside the requests panicked, please report this", "stack", string(debug.Stack()))
			}
		}()
		if b.storage != nil && b.WriteSafeReplicationState() {
			work(context.Background(), b.storage)
		}
	})
}

// clean is called by Vault when the mount ends on this node: when it is reloaded
// or unmounted, when the node steps down or is sealed. The node's storage can
// still be written then.
func (b *backend) clean(ctx context.Context) {
	b.events.stop()
	if b.storage != nil && b.WriteSafeReplicationState() {
		b.store.Close(ctx, b.storage)
	}
}

const backendHelp = `
This secrets engine keeps HMAC keys and computes MACs with them. It is to HMAC
what AWS KMS is: keys have KMS's key specs, states, aliases, tags, imported
material and scheduled deletion, and generate-mac and verify-mac have the
inputs, limits and failures of GenerateMac and VerifyMac.

    $ vault write kms/keys/payments/tokens key_spec=HMAC_256
    $ vault write kms/generate-mac/payments/tokens \
        mac_algorithm=HMAC_SHA_256 message=$(printf hello | base64)
    $ vault write kms/verify-mac/payments/tokens \
        mac_algorithm=HMAC_SHA_256 message=$(printf hello | base64) mac=...

Key material never leaves the engine.
`
