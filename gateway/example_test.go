package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"vault-plugin-secrets-kms-hmac/gateway"
	"vault-plugin-secrets-kms-hmac/internal/dev"
)

// A gateway is an http.Handler, for a server or a test of one's own. Handler
// adds /healthz and /readyz.
func Example() {
	server := vaultForExample() // VAULT_ADDR and the mount kms/, say
	defer server.Close()
	vault, err := gateway.NewVault(server.URL, "", 15*time.Second)
	if err != nil {
		panic(err)
	}
	g, err := gateway.New(gateway.Config{
		Vault: vault, Mount: "kms",
		ARNs:         gateway.ARNs{Partition: "aws", Region: "us-east-1", Account: "111122223333"},
		RequireToken: true, MaxBody: 1 << 20, MaxConcurrency: 1024,
		Log: slog.New(gateway.NewLogHandler(os.Stderr, slog.LevelWarn)),
	})
	if err != nil {
		panic(err)
	}
	endpoint := httptest.NewServer(gateway.Handler(g, nil))
	defer endpoint.Close()

	// AWS's own client, whose session token is the caller's Vault token.
	client := kms.New(kms.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(endpoint.URL),
		Credentials: credentials.NewStaticCredentialsProvider("vault", "not-verified", "hvs.token"),
	})
	out, err := client.GenerateMac(context.Background(), &kms.GenerateMacInput{
		KeyId: aws.String("payments/tokens"), Message: []byte("pay 10 EUR"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256,
	})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s %x\n", *out.KeyId, out.Mac[:8])
	// Output: arn:aws:kms:us-east-1:111122223333:key/payments/tokens fc431c9df0460645
}

// vaultForExample is the engine in memory, where Vault would be.
func vaultForExample() *httptest.Server {
	engine, err := dev.New(nil)
	if err != nil {
		panic(err)
	}
	material := bytes.Repeat([]byte{7}, 32)
	if _, err := engine.Seed(context.Background(), dev.Seed{Keys: []dev.Key{{ID: "payments/tokens", Material: material}}}); err != nil {
		panic(err)
	}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := engine.RoundTrip(r)
		if err != nil {
			panic(err)
		}
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
	}))
}
