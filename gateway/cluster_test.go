package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// TestFailover: an endpoint before a standby serves, and while the active node
// is lost its clients see faults that SDKs retry and nothing else, until the
// next one is active.
func TestFailover(t *testing.T) {
	cluster := testvault.RunCluster(t, testvault.Config{Plugins: []testvault.Plugin{testvault.EngineFor(t, "")}})
	active, err := cluster.Active(t.Context())
	require.NoError(t, err)
	require.NoError(t, active.Mount(t.Context(), "kms", api.MountInput{Type: testvault.EngineName}))
	standbys, err := cluster.Standbys(t.Context())
	require.NoError(t, err)
	e := &endpoint{vault: standbys[0], url: serve(t, standbys[0].Address)}
	token := active.RootToken
	id, _ := create(t, e.client("", token))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var good, faults atomic.Int64
	failures := make(chan error, 16)
	for i := range cap(failures) {
		wg.Go(func() {
			client := e.client("", token)
			for round := 0; ctx.Err() == nil; round++ {
				_, err := generate(client, id, []byte(fmt.Sprint(i, round)))
				switch {
				case err == nil:
					good.Add(1)
				case isFault(err):
					faults.Add(1)
					time.Sleep(20 * time.Millisecond)
				default:
					failures <- err
					return
				}
			}
		})
	}
	require.Eventually(t, func() bool { return good.Load() > 100 }, time.Minute, time.Millisecond)
	_, _, err = cluster.KillActive(t.Context())
	require.NoError(t, err)
	before := good.Load()
	require.Eventually(t, func() bool { return good.Load() > before+100 }, time.Minute, time.Millisecond)
	cancel()
	wg.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	t.Logf("%d MACs, %d faults", good.Load(), faults.Load())

	// One node of three has no majority, so there is no active node.
	ready := func() (int, string) {
		response, err := http.Get(e.url + "/readyz")
		require.NoError(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(text)
	}
	require.Eventually(t, func() bool { status, _ := ready(); return status == 200 }, time.Minute, 10*time.Millisecond)
	standbys[1].Kill()
	// For how long the last node does not know yet, and in what words it fails
	// then, is Vault's; 503 it stays.
	require.Eventually(t, func() bool {
		for range 3 {
			if status, _ := ready(); status != 503 {
				return false
			}
			time.Sleep(time.Second) // for so long an answer is good
		}
		return true
	}, time.Minute, 10*time.Millisecond)
}

// isFault reports whether an error is one of KMS's own faults, which SDKs retry.
func isFault(err error) bool {
	var exception smithy.APIError
	if !errors.As(err, &exception) {
		return false
	}
	var status interface{ HTTPStatusCode() int }
	return (isType[types.KMSInternalException](err) || isType[types.DependencyTimeoutException](err)) &&
		errors.As(err, &status) && status.HTTPStatusCode() == 500
}
