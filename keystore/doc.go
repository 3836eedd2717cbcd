// Package keystore is all that a mount keeps: its keys with their states over
// time, aliases, grants, the RSA keys that wrap imported key material, when
// keys were last used, and the mount's settings. It knows what can be done to
// them, in which order things are written so that a crash between two writes
// leaves a valid state, which locks that takes, and what may be cached. It does
// not know requests and responses: that is the root package. It stands on kms/,
// which knows KMS's rules and wording, and on Vault's logical.Storage.
//
// A [Store] belongs to one mount on one node. Every method takes the storage of
// the request that it serves. What a method returns is a snapshot that never
// changes; what a caller did wrong is a *[kms.Exception], and any other error
// is one of storage or of the system. A method that takes now reads as of that
// instant, so that a request that calls several sees one time. Methods that
// change something take their own, under the locks that the change needs.
//
// No caller takes a lock or sees a storage name, but for those that Vault hands
// to [Store.Invalidate] and gets from [SealWrapped].
package keystore
