// Package gateway is the KMS endpoint: it speaks the wire protocol of AWS KMS,
// JSON 1.1 with X-Amz-Target headers, and turns each call into one call of the
// secrets engine's own API, made with the caller's Vault token. Vault's
// policies, audit and quotas decide everything; the endpoint keeps no state.
//
// The way of a call: [Gateway.ServeHTTP] reads the headers and the body, the
// operations table says what the operation is natively, kms.Validate holds the
// input against KMS's model, names turn into native ids, and Vault's answer or
// refusal turns into KMS's. GenerateMac and VerifyMac have a way of their own,
// on which concurrent calls share requests; see
// mac_input.go for their input, macCoalescer for who shares, and
// mac_request.go for the request.
//
// Callers have a Vault token, or a session that an endpoint has issued
// (session/) to whom Vault let in (login/); the requests of sessions are signed
// (sigv4/), and authenticate.go puts that together. STS (sts.go) and
// container_credentials.go are the two ways to a session.
package gateway
