// Package kms is the AWS KMS contract for HMAC keys as code: key specs, MAC
// algorithms, key states, exceptions, limits, the order and the wording of
// KMS's checks, and the HMAC itself. It knows nothing of Vault or of HTTP, so
// that the secrets engine and the KMS endpoint stand on the same facts.
//
// The contract is that of the KMS API reference, version 2014-11-01:
// https://docs.aws.amazon.com/kms/latest/APIReference/Welcome.html
package kms
