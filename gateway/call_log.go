package gateway

// The line that the log has for each call, and its request id.

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/google/uuid"

	"vault-plugin-secrets-kms-hmac/kms"
)

// The results of calls that did not end with an exception, whose type is the
// result otherwise: success, and a client that did not wait for the answer.
const (
	resultOK   = "ok"
	resultGone = "client gone"
)

// newRequestID returns the id that an answer and its line in the log have in
// common: a random UUID, as KMS's. It is no secret, so it need not come from
// the system's entropy, which costs a call of the kernel.
func newRequestID() string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return uuid.UUID(id).String()
}

// record counts and logs a call. The line names who called what and how it
// ended, and holds nothing of the body: no message, MAC, token or key material.
func (g *Gateway) record(r *http.Request, o *outcome, took time.Duration) {
	result := resultOK
	switch {
	case o.gone:
		result = resultGone
	case o.exception != nil:
		result = o.exception.Type
	}
	g.metrics.observe(o.operation, result, took, o.trace.vault)

	level := slog.LevelInfo
	if o.status >= http.StatusInternalServerError && !o.gone {
		level = slog.LevelError
	}
	if !g.log.Enabled(context.Background(), level) {
		return
	}
	attributes := make([]slog.Attr, 0, 16)
	attributes = append(attributes,
		slog.String("operation", o.operation),
		slog.String("result", result),
		slog.Int("status", o.status),
		slog.Float64("ms", float64(took.Microseconds())/1e3),
		slog.String("request_id", o.trace.id),
		slog.String("remote", r.RemoteAddr),
	)
	attributes = o.appendTrace(attributes)
	if o.folder != "" {
		attributes = append(attributes, slog.String("folder", string(o.folder)))
	}
	if o.accessKey != "" {
		attributes = append(attributes, slog.String("access_key", o.accessKey))
	}
	if o.principal != "" {
		attributes = append(attributes, slog.String("principal", o.principal))
	}
	if level == slog.LevelError {
		attributes = append(attributes, slog.String("cause", causeOf(o.cause)))
	}
	g.writeLine(level, attributes)
}

// writeLine writes the line of a call, not by the logger itself, which would look
// up the line of this source. Where the log cannot be written there is nobody
// to tell.
func (g *Gateway) writeLine(level slog.Level, attributes []slog.Attr) {
	handler := g.log.Handler()
	if ours, ok := handler.(*logHandler); ok {
		if known, _ := ours.write(time.Now(), level, "call", attributes); known {
			return
		}
	}
	record := slog.NewRecord(time.Now(), level, "call", 0)
	record.AddAttrs(attributes...)
	_ = handler.Handle(context.Background(), record)
}

// appendTrace adds what leads from the line to Vault's audit log.
func (o *outcome) appendTrace(attributes []slog.Attr) []slog.Attr {
	t := &o.trace
	if t.vault > 0 {
		attributes = append(attributes, slog.Float64("vault_ms", float64(t.vault.Microseconds())/1e3))
	}
	if t.repeated {
		attributes = append(attributes, slog.Int("attempts", 2))
	}
	if t.vaultID != "" {
		attributes = append(attributes, slog.String("vault_request_id", t.vaultID))
	}
	if t.correlation != "" && t.correlation != t.id {
		attributes = append(attributes, slog.String("shared_request_id", t.correlation))
	}
	keyID := t.keyID
	if o.key.alias {
		attributes = append(attributes, slog.String("alias", o.key.native))
	} else if keyID == "" {
		keyID = o.key.native
	}
	if keyID != "" {
		attributes = append(attributes, slog.String("key", keyID))
	}
	return attributes
}

// causeOf describes why Vault could not do something, for the operator.
func causeOf(err error) string {
	var exception *kms.Exception
	var v *vaultError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &exception):
		return exception.Message
	case errors.As(err, &v) && len(v.texts) > 0:
		return v.Error() + ": " + v.texts[0]
	}
	return err.Error()
}
