// Command aws-sdk-go makes a MAC and verifies it, with nothing but AWS's SDK for
// Go. It does not know that its KMS is a Vault: the environment says so.
//
//	export AWS_ENDPOINT_URL_KMS=http://127.0.0.1:8203 AWS_REGION=us-east-1
//	export AWS_ACCESS_KEY_ID=vault AWS_SECRET_ACCESS_KEY=vault AWS_SESSION_TOKEN=$VAULT_TOKEN
//	go run ./examples/aws-sdk-go payments/tokens 'pay 10 EUR'
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: aws-sdk-go <key id, ARN or alias> <message>")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], []byte(os.Args[2])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, key string, message []byte) error {
	settings, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	client := kms.NewFromConfig(settings)
	const algorithm = types.MacAlgorithmSpecHmacSha256

	made, err := client.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: &key, Message: message, MacAlgorithm: algorithm})
	if err != nil {
		return err
	}
	fmt.Println("GenerateMac:", base64.StdEncoding.EncodeToString(made.Mac), "by", *made.KeyId)

	verified, err := client.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: &key, Message: message, Mac: made.Mac, MacAlgorithm: algorithm})
	if err != nil {
		return err
	}
	fmt.Println("VerifyMac:  ", verified.MacValid)

	message = append(message, '!')
	_, err = client.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: &key, Message: message, Mac: made.Mac, MacAlgorithm: algorithm})
	if wrong := (*types.KMSInvalidMacException)(nil); !errors.As(err, &wrong) {
		return fmt.Errorf("a changed message was not refused: %w", err)
	}
	fmt.Println("VerifyMac of a changed message: KMSInvalidMacException")
	return nil
}
