package gateway

// GenerateRandom, which is no operation of a key: Vault itself answers it.

import (
	"net/http"

	"vault-plugin-secrets-kms-hmac/kms"
)

func checkGenerateRandom(_ *call, in input) error {
	if _, ok := in["NumberOfBytes"]; !ok {
		return kms.Validationf("NumberOfBytes is required.")
	}
	if in.text("CustomKeyStoreId") != "" {
		return errNoCustomKeyStores
	}
	if in["Recipient"] != nil {
		return &kms.Exception{Type: kms.TypeUnsupportedOperation, Message: "Recipient is not supported: there are no Nitro enclaves here."}
	}
	return nil
}

// generateRandom asks Vault itself, not the mount, with the caller's token.
func generateRandom(c *call, in input) (answer, error) {
	body := appendObject(nil, object{{"bytes", in.number("NumberOfBytes", 0)}, {"format", "base64"}})
	var native struct {
		RandomBytes string `json:"random_bytes"`
	}
	err := c.send(vaultRequest{
		method: http.MethodPost, path: "sys/tools/random", body: body, token: c.caller.token, from: c.trace.from, correlation: c.trace.id,
	}, &native)
	if err != nil {
		return nil, err
	}
	return answer{{"Plaintext", native.RandomBytes}}, nil
}
