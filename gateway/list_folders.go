package gateway

// Pages of keys and aliases through all folders below the caller's. KMS lists
// an account flat; the mount lists one folder at a time.

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"vault-plugin-secrets-kms-hmac/kms"
)

// maxLists bounds how many folders one page may look into. A tree of folders
// that are empty or closed to the caller would otherwise keep Vault busy for as
// long as it likes; the page then ends early, which KMS's pages may do too.
const maxLists = 500

// listAnswer is what the mount answers to LIST.
type listAnswer struct {
	Keys      []string                   `json:"keys"`
	KeyInfo   map[string]json.RawMessage `json:"key_info"`
	NextAfter string                     `json:"next_after"` // absent on the last page
}

// folderListing collects the names in the call's folder and all folders below it, in
// order. The mount lists one folder level at a time, so that policies can close
// folders.
type folderListing struct {
	call  *call
	kind  string     // keys or aliases
	query url.Values // besides after and limit
	want  int

	names []string // relative to the call's folder
	infos []json.RawMessage
	lists int
	// position is the last name collected, or the last folder done, with its
	// slash.
	position string
	stopped  bool
}

// run collects up to want names that come after a position.
func (w *folderListing) run(after string) error {
	w.position = after
	return w.folder("", after)
}

// full reports whether the walk is over before its end.
func (w *folderListing) full() bool { return len(w.names) >= w.want || w.stopped }

// folder walks a folder, from a position in it on.
func (w *folderListing) folder(dir, after string) error {
	if head, rest, nested := strings.Cut(after, "/"); nested {
		after = head + "/"
		if rest != "" {
			if err := w.subfolder(dir+after, rest); err != nil {
				return err
			}
		}
	}
	for !w.full() {
		l, err := w.list(dir, after)
		if err != nil || w.stopped {
			return err
		}
		for _, name := range l.Keys {
			if err := w.entry(dir, name, l); err != nil || w.full() {
				return err
			}
		}
		if after = l.NextAfter; after == "" {
			return nil
		}
	}
	return nil
}

func (w *folderListing) entry(dir, name string, l *listAnswer) error {
	if strings.HasSuffix(name, "/") {
		return w.subfolder(dir+name, "")
	}
	w.names = append(w.names, dir+name)
	w.infos = append(w.infos, l.KeyInfo[name])
	w.position = dir + name
	return nil
}

// subfolder walks a folder below the first. One that the caller may not list
// is not his, and is passed over.
func (w *folderListing) subfolder(dir, after string) error {
	if w.full() {
		return nil
	}
	if err := w.folder(dir, after); err != nil && !forbidden(err) {
		return err
	}
	if !w.full() {
		w.position = dir
	}
	return nil
}

// list lists a folder. One that is not there is empty.
func (w *folderListing) list(dir, after string) (*listAnswer, error) {
	if w.lists++; w.lists > maxLists {
		w.stopped = true
		return nil, nil
	}
	query := url.Values{"list": headerTrue, "limit": {strconv.Itoa(w.want - len(w.names))}}
	if after != "" {
		query.Set("after", after)
	}
	maps.Copy(query, w.query)
	var l listAnswer
	err := w.call.request(http.MethodGet, w.kind+"/"+w.call.folder.dir()+dir, query, nil, &l)
	if missing(err) {
		return &l, nil
	}
	return &l, err
}

// checkPosition refuses positions of the tree that no walk has given out. Below
// a folder, names of old keys may begin with a segment "alias".
func checkPosition(position string) error {
	name := strings.TrimSuffix(position, "/")
	if position == "" || kms.CheckKeyID(name) == nil || kms.CheckKeyID("-/"+name) == nil {
		return nil
	}
	return kms.InvalidMarker()
}

// listFolders returns a page of entries of all folders below the caller's.
func (c *call) listFolders(in input, kind string, mark byte, query url.Values, limit int) (w *folderListing, next string, err error) {
	c.resource = "*"
	after, err := markerOf(in, mark)
	if err != nil {
		return nil, "", err
	}
	if err := checkPosition(after); err != nil {
		return nil, "", err
	}
	// One more than asked for tells whether there is a next page.
	w = &folderListing{call: c, kind: kind, query: query, want: limit + 1}
	if err := w.run(after); err != nil {
		return nil, "", err
	}
	switch {
	case len(w.names) > limit:
		w.names, w.infos = w.names[:limit], w.infos[:limit]
		next = w.names[limit-1]
	case w.stopped:
		next = w.position
	}
	return w, next, nil
}
