package kmshmac

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

const (
	// maxQueuedEvents is how many events wait for Vault to take them. Beyond
	// that they are dropped: no request waits for who listens.
	maxQueuedEvents = 1024
	eventTimeout    = 5 * time.Second
)

// eventQueue hands what has happened to Vault's event bus. Where there is none,
// which is so in Vault's Community Edition, events end there.
type eventQueue struct {
	send    func(context.Context, keystore.Notice) error
	warn    func(message string, args ...any)
	notices chan keystore.Notice
	start   sync.Once
	stop    context.CancelFunc
	stopped context.Context
	noBus   atomic.Bool
}

func newEventQueue(send func(context.Context, keystore.Notice) error, warn func(message string, args ...any)) *eventQueue {
	q := &eventQueue{send: send, warn: warn, notices: make(chan keystore.Notice, maxQueuedEvents)}
	q.stopped, q.stop = context.WithCancel(context.Background())
	return q
}

// add takes a notice and never blocks.
func (q *eventQueue) add(n keystore.Notice) {
	if q.noBus.Load() {
		return
	}
	q.start.Do(func() { go q.run() })
	select {
	case q.notices <- n:
	default:
		q.warn("an event was dropped, because Vault takes them too slowly", "event", string(n.Kind))
	}
}

func (q *eventQueue) run() {
	for !q.noBus.Load() {
		select {
		case <-q.stopped.Done():
			return
		case n := <-q.notices:
			q.deliver(n)
		}
	}
}

func (q *eventQueue) deliver(n keystore.Notice) {
	ctx, cancel := context.WithTimeout(q.stopped, eventTimeout)
	defer cancel()
	// An error is for nobody: what the event tells has happened.
	if err := q.send(ctx, n); err != nil && isNoBus(err) {
		q.noBus.Store(true)
	}
}

// isNoBus recognizes that Vault has no event bus. Over the plugin boundary the
// error is text.
func isNoBus(err error) bool {
	return errors.Is(err, framework.ErrNoEvents) || status.Code(err) == codes.Unimplemented || strings.Contains(err.Error(), framework.ErrNoEvents.Error())
}

// sendEvent sends an event of type kms-hmac/<kind>. Its data_path is where the
// key or alias can be read, and who subscribes needs a policy on that.
func (b *backend) sendEvent(ctx context.Context, n keystore.Notice) error {
	path := "keys/" + n.KeyID
	metadata := []string{"key_id", n.KeyID}
	if n.AliasName != "" {
		path = "aliases/" + strings.TrimPrefix(n.AliasName, kms.AliasPrefix)
		metadata = append(metadata, "alias_name", n.AliasName)
	}
	_, operation, _ := strings.Cut(string(n.Kind), "-")
	metadata = append(metadata,
		logical.EventMetadataPath, path, logical.EventMetadataDataPath, path,
		logical.EventMetadataOperation, operation, logical.EventMetadataModified, "true",
	)
	return logical.SendEvent(ctx, b, operationPrefix+"/"+string(n.Kind), metadata...)
}
