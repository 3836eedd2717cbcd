// Package kmstest is a KMS for the tests of Go programs, in the manner of
// net/http/httptest:
//
//	srv := kmstest.Start(t)
//	client := kms.NewFromConfig(srv.Config())
//
// Each server is a KMS of its own, of HMAC keys only, in memory and served on
// loopback. It answers as the KMS endpoint of vault-plugin-secrets-kms-hmac
// does in front of Vault, because it is made of the same code; only Vault and
// its policies are missing, so every caller may do everything. A server starts
// in about a millisecond.
//
// Tests can move its clock, to see a key deleted or its material expire; put
// keys of known material into it, for MACs that are always the same; and have
// calls fail.
package kmstest

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"vault-plugin-secrets-kms-hmac/gateway"
	"vault-plugin-secrets-kms-hmac/internal/dev"
)

const (
	region    = "us-east-1"
	accountID = "000000000000"
	accessKey = "kmstest"
	secretKey = "not-verified"

	// maxBody and maxConcurrency are what kms-gateway allows by default.
	maxBody        = 1 << 20
	maxConcurrency = 4096
)

// Server is a KMS. It is safe for concurrent use, except that the server of a
// [Start] must be called from the goroutine of its test, as t.Fatal must.
type Server struct {
	// URL is the endpoint, http://127.0.0.1:port.
	URL string
	// Region and AccountID are those in the ARNs of the keys.
	Region, AccountID string
	// AccessKeyID and SecretAccessKey are credentials for clients that insist
	// on some. Any others will do: signatures are not verified.
	AccessKeyID, SecretAccessKey string

	http   *httptest.Server
	engine *dev.Engine
	fail   func(error)
}

// Start starts a server, which ends with the test. What goes wrong with it
// fails the test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := newServer(func(err error) {
		tb.Helper()
		tb.Fatalf("kmstest: %v", err)
	})
	tb.Cleanup(s.Close)
	return s
}

// NewServer starts a server where there is no test: in TestMain or an example.
// The caller must close it. It and the server's methods panic where something
// goes wrong, as those of httptest do.
func NewServer() *Server {
	return newServer(func(err error) { panic("kmstest: " + err.Error()) })
}

func newServer(fail func(error)) *Server {
	s := &Server{Region: region, AccountID: accountID, AccessKeyID: accessKey, SecretAccessKey: secretKey, fail: fail}
	engine, err := dev.New(nil)
	if err != nil {
		fail(err)
	}
	endpoint, err := gateway.New(gateway.Config{
		Vault: engine.Vault(), Mount: dev.Mount, MaxBody: maxBody, MaxConcurrency: maxConcurrency,
		ARNs: gateway.ARNs{Partition: "aws", Region: region, Account: accountID},
	})
	if err != nil {
		fail(err)
	}
	s.engine = engine
	s.http = httptest.NewServer(engine.Handler(gateway.Handler(endpoint, nil)))
	s.URL = s.http.URL
	return s
}

// Close ends the server, once the calls under way are answered.
func (s *Server) Close() { s.http.Close() }

// Config is a configuration of aws-sdk-go-v2 for clients of the server:
//
//	client := kms.NewFromConfig(srv.Config())
func (s *Server) Config() aws.Config {
	return aws.Config{
		Region:       s.Region,
		BaseEndpoint: aws.String(s.URL),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey, Source: "kmstest"}, nil
		}),
	}
}

// Env are the variables by which AWS's CLI and its SDKs, in programs that a
// test starts, find the server, as "name=value".
func (s *Server) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL_KMS=" + s.URL,
		"AWS_REGION=" + s.Region,
		"AWS_DEFAULT_REGION=" + s.Region, // for boto3 and the CLI
		"AWS_ACCESS_KEY_ID=" + s.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + s.SecretAccessKey,
	}
}

// Key is a key that [Server.CreateKey] creates.
type Key struct {
	// ID is the key's id. Where it is empty, the server chooses a UUID.
	ID string
	// Spec is HMAC_224, HMAC_256, HMAC_384 or HMAC_512; HMAC_256 where it is
	// empty.
	Spec string
	// Material is the key material: 28, 32, 48 or 64 bytes, as the spec asks.
	// Where it is nil, the server makes random one. A key with given material
	// needs an ID.
	Material []byte
	// Origin is AWS_KMS, or EXTERNAL for a key that waits for its material.
	// AWS_KMS where it is empty.
	Origin      string
	MultiRegion bool
	Description string
	Tags        map[string]string
	Disabled    bool
	// Aliases are the names of aliases of the key, each with its "alias/".
	Aliases []string
}

// CreateKey creates a key and returns its ARN.
func (s *Server) CreateKey(k Key) (arn string) {
	ids, err := s.engine.Seed(context.Background(), dev.Seed{Keys: []dev.Key{dev.Key(k)}})
	if err != nil {
		s.fail(err)
		return ""
	}
	return "arn:aws:kms:" + s.Region + ":" + s.AccountID + ":key/" + ids[0]
}

// Reset forgets all keys, aliases and grants. Clock and faults stay.
func (s *Server) Reset() { s.check(s.engine.Reset()) }

// Now returns the server's time: the machine's, until it is set or moved.
func (s *Server) Now() time.Time { return s.engine.Clock.Now() }

// SetTime sets the server's clock, which then stands still.
func (s *Server) SetTime(t time.Time) { s.check(s.engine.SetTime(context.Background(), t)) }

// Advance moves the server's clock: by 30 days, for example, to see a deletion
// that was scheduled take effect.
func (s *Server) Advance(d time.Duration) { s.check(s.engine.Advance(context.Background(), d)) }

// Fault is a failure that calls get instead of their answer, or a delay before
// it.
type Fault struct {
	// Operation is the operation that fails, GenerateMac for example; all of
	// them where it is empty.
	Operation string
	// Error is the exception: ThrottlingException, KMSInternalException,
	// AccessDeniedException or any other. Where it and Status are zero, the
	// call is answered as ever, after Latency.
	Error   string
	Message string // of the exception
	// Status is the HTTP status; KMS's own for the exception where it is zero.
	// Without an Error the answer has no body, like that of a load balancer.
	Status int
	// Latency is how long the answer takes longer.
	Latency time.Duration
	// Times is how many calls meet the fault; zero is all of them, until the
	// faults are set anew.
	Times int
}

// SetFaults puts faults in force, in place of those that were; without any,
// calls succeed again. Each call meets the first fault that is about its
// operation. SDKs retry throttling and 5xx by themselves, and each try is a
// call.
func (s *Server) SetFaults(faults ...Fault) {
	list := make([]dev.Fault, len(faults))
	for i, f := range faults {
		list[i] = dev.Fault(f)
	}
	s.check(s.engine.SetFaults(list...))
}

func (s *Server) check(err error) {
	if err != nil {
		s.fail(err)
	}
}
