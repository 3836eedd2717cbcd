package gateway

// Folders: the part of the mount that a client sees as its whole KMS.

import (
	"net/url"
	"strings"

	"vault-plugin-secrets-kms-hmac/kms"
)

// folder is the folder of the mount that a client sees as its whole KMS: ""
// is the mount itself, else a path without slashes at its ends.
type folder string

// folderOf returns the folder that a URL names; ok is false where it names
// none. A folder is spelled like a key id, so no path can lead out of the
// mount: there are no "..", no empty segments and nothing escaped.
func folderOf(u *url.URL) (f folder, ok bool) {
	path := u.Path
	if path == "/" || path == "" {
		return "", true
	}
	if u.RawPath != "" && u.RawPath != u.Path {
		return "", false
	}
	path = strings.Trim(path, "/")
	return folder(path), kms.CheckKeyID(path) == nil
}

// native returns the native name of a key id of the folder.
func (f folder) native(id string) string { return f.dir() + id }

// local is the reverse of native. A key outside the folder, to which an alias
// may point where the mount's alias_scope is "any", is called by its full
// native id with a slash before it: that is no id of any key in the folder, so
// a client can see which key did the work but not use it.
func (f folder) local(native string) string {
	if id, ok := strings.CutPrefix(native, f.dir()); ok {
		return id
	}
	return "/" + native
}

// holds reports whether the native name is in the folder.
func (f folder) holds(native string) bool { return strings.HasPrefix(native, f.dir()) }

// nativeAlias returns the native name of an alias; both have their prefix.
func (f folder) nativeAlias(name string) string {
	return kms.AliasPrefix + f.native(strings.TrimPrefix(name, kms.AliasPrefix))
}

// localAlias is the reverse of nativeAlias.
func (f folder) localAlias(native string) string {
	return kms.AliasPrefix + f.local(strings.TrimPrefix(native, kms.AliasPrefix))
}

// dir returns the folder as the beginning of a path: "" or "payments/".
func (f folder) dir() string {
	if f == "" {
		return ""
	}
	return string(f) + "/"
}
