package kmstest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"vault-plugin-secrets-kms-hmac/kmstest"
)

// In a test, kmstest.Start(t) is all it takes; an example has no t.
func Example() {
	srv := kmstest.NewServer()
	defer srv.Close()
	srv.CreateKey(kmstest.Key{ID: "tokens", Material: bytes.Repeat([]byte{7}, 32), Aliases: []string{"alias/current"}})

	ctx := context.Background()
	client := kms.NewFromConfig(srv.Config())
	input := &kms.GenerateMacInput{
		KeyId: aws.String("alias/current"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256, Message: []byte("pay 10 EUR"),
	}
	out, err := client.GenerateMac(ctx, input)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%x\n", out.Mac[:8])

	// The SDK tries again when it is throttled.
	srv.SetFaults(kmstest.Fault{Operation: "GenerateMac", Error: "ThrottlingException", Times: 1})
	_, err = client.GenerateMac(ctx, input)
	fmt.Println(err)

	// A key that is to be deleted is gone 30 days later.
	if _, err = client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: aws.String("tokens")}); err != nil {
		panic(err)
	}
	_, err = client.GenerateMac(ctx, input)
	var state *types.KMSInvalidStateException
	fmt.Println(errors.As(err, &state))
	srv.Advance(30 * 24 * time.Hour)
	_, err = client.GenerateMac(ctx, input)
	var missing *types.NotFoundException
	fmt.Println(errors.As(err, &missing))
	// Output:
	// fc431c9df0460645
	// <nil>
	// true
	// true
}
