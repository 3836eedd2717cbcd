package keystore

// What has happened, for who wants to be told.

// NoticeKind is what has happened.
type NoticeKind string

// The kinds of notices. What has happened is stored by then.
const (
	KeyCreated           NoticeKind = "key-create"
	KeyEnabled           NoticeKind = "key-enable"
	KeyDisabled          NoticeKind = "key-disable"
	KeyDeletionScheduled NoticeKind = "key-deletion-schedule"
	KeyDeletionCancelled NoticeKind = "key-deletion-cancel"
	KeyDeleted           NoticeKind = "key-delete" // told when it is tidied, up to a minute late
	MaterialImported     NoticeKind = "key-material-import"
	MaterialDeleted      NoticeKind = "key-material-delete"
	MaterialExpired      NoticeKind = "key-material-expire" // told when it is tidied, too
	AliasWritten         NoticeKind = "alias-write"         // created or moved
	AliasDeleted         NoticeKind = "alias-delete"
	GrantCreated         NoticeKind = "grant-create"
	GrantEnded           NoticeKind = "grant-end" // revoked or retired
)

// Notice is something that has happened to a key.
type Notice struct {
	Kind      NoticeKind
	KeyID     string
	AliasName string // of aliases
}

// keyNotices are those of the operations that change keys.
var keyNotices = map[string]NoticeKind{
	"EnableKey": KeyEnabled, "DisableKey": KeyDisabled,
	"ScheduleKeyDeletion": KeyDeletionScheduled, "CancelKeyDeletion": KeyDeletionCancelled,
	"ImportKeyMaterial": MaterialImported, "DeleteImportedKeyMaterial": MaterialDeleted,
}

// tell tells of a change, unless it has failed.
func (w *write) tell(err error, n Notice) {
	if err == nil && n.Kind != "" && w.st.notify != nil {
		w.st.notify(n)
	}
}
