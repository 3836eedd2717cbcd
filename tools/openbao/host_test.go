package openbao

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/openbao/openbao/sdk/v2/helper/consts"
	"github.com/openbao/openbao/sdk/v2/helper/pluginutil"
	"github.com/openbao/openbao/sdk/v2/helper/wrapping"
	"github.com/openbao/openbao/sdk/v2/logical"
	"github.com/openbao/openbao/sdk/v2/plugin"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

const pluginName = "vault-plugin-secrets-kms-hmac"

var program string // the engine, built once

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "openbao-host")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, pluginName)
	build := exec.Command("go", "build", "-o", program, "./cmd/"+pluginName)
	build.Dir, build.Stderr = "../..", os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building the engine:", err)
		return 1
	}
	return m.Run()
}

// host is what OpenBao's server adds to its sdk: a catalog with the engine in
// it, and one process for all mounts.
type host struct {
	client *goplugin.Client
	rpc    goplugin.ClientProtocol
	mounts int
}

// newHost starts the engine as OpenBao's server does: with the sum of the
// program, its environment and mutual TLS.
func newHost(t *testing.T) *host {
	t.Helper()
	content, err := os.ReadFile(program)
	require.NoError(t, err)
	sum := sha256.Sum256(content)
	h := &host{}
	runner := &pluginutil.PluginRunner{Name: pluginName, Command: program, Sha256: sum[:]}
	h.client, err = runner.RunConfig(t.Context(),
		pluginutil.Runner(h),
		pluginutil.PluginSets(plugin.PluginSet),
		pluginutil.HandshakeConfig(plugin.HandshakeConfig),
		pluginutil.Logger(hclog.NewNullLogger()),
		pluginutil.AutoMTLS(true),
	)
	require.NoError(t, err)
	t.Cleanup(h.client.Kill)
	h.rpc, err = h.client.Client()
	require.NoError(t, err)
	return h
}

// mount makes a backend over the storage, with the callers of the view.
func (h *host) mount(t *testing.T, storage logical.Storage, system logical.StaticSystemView) *mount {
	t.Helper()
	backend, err := plugin.NewPluginClientV5(t.Context(), h, pluginutil.PluginClientConfig{
		Name: pluginName, PluginSets: plugin.PluginSet, PluginType: consts.PluginTypeSecrets,
		HandshakeConfig: plugin.HandshakeConfig, Logger: hclog.NewNullLogger(), AutoMTLS: true, Wrapper: h,
	})
	require.NoError(t, err)
	system.PluginEnvironment = &logical.PluginEnvironment{VaultVersion: version}
	require.NoError(t, backend.Setup(t.Context(), &logical.BackendConfig{
		Logger: hclog.NewNullLogger(), System: system, StorageView: storage, BackendUUID: fmt.Sprint("mount-", h.mounts),
	}))
	require.NoError(t, backend.Initialize(t.Context(), &logical.InitializationRequest{Storage: storage}))
	return &mount{backend, storage}
}

// version is the one of the sdk's release.
const version = "2.5.1"

func (h *host) MlockEnabled() bool { return false }

func (h *host) VaultVersion(context.Context) (string, error) { return version, nil }

func (h *host) ResponseWrapData(context.Context, map[string]any, time.Duration, bool) (*wrapping.ResponseWrapInfo, error) {
	return nil, fmt.Errorf("a plugin with mutual TLS of its own needs no wrapped certificate")
}

// NewPluginClient is a connection of one mount to the process that all share.
func (h *host) NewPluginClient(ctx context.Context, config pluginutil.PluginClientConfig) (pluginutil.PluginClient, error) {
	h.mounts++
	conn := h.rpc.(*goplugin.GRPCClient).Conn
	shared, err := pluginutil.MultiplexingSupported(ctx, conn, config.Name)
	if err != nil || !shared {
		return nil, fmt.Errorf("one process for all mounts: %v %w", shared, err)
	}
	return mountClient{h.rpc, mountConn{conn, fmt.Sprint("mount-", h.mounts)}}, nil
}

type mountClient struct {
	goplugin.ClientProtocol
	conn mountConn
}

func (c mountClient) Conn() grpc.ClientConnInterface { return c.conn }

func (c mountClient) Reload() error { return nil }

// Close leaves the process to the other mounts.
func (c mountClient) Close() error { return nil }

// mountConn names the mount in each call.
type mountConn struct {
	*grpc.ClientConn
	id string
}

func (c mountConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	ctx = metadata.AppendToOutgoingContext(ctx, pluginutil.MultiplexingCtxKey, c.id)
	return c.ClientConn.Invoke(ctx, method, args, reply, opts...)
}

// mount is one mount of the engine.
type mount struct {
	backend logical.Backend
	storage logical.Storage
}

// call sends a request as OpenBao's server does, the existence check first, and
// returns the status and the data that its HTTP API would answer.
func (m *mount) call(t *testing.T, op logical.Operation, path, entity string, data map[string]any) (int, map[string]any) {
	t.Helper()
	req := &logical.Request{
		ID: "request", Operation: op, Path: path, Data: data, Storage: m.storage, EntityID: entity, MountPoint: "kms/",
	}
	if op == logical.UpdateOperation {
		found, exists, err := m.backend.HandleExistenceCheck(t.Context(), req)
		require.NoError(t, err)
		if found && !exists {
			req.Operation = logical.CreateOperation
		}
	}
	resp, err := m.backend.HandleRequest(t.Context(), req)
	status, err := logical.RespondErrorCommon(req, resp, err)
	switch {
	case status == 0 && resp == nil:
		return 204, nil
	case status == 0:
		return 200, resp.Data
	case resp == nil:
		return status, map[string]any{"error": fmt.Sprint(err)}
	}
	return status, resp.Data
}

// ok is call for what must succeed.
func (m *mount) ok(t *testing.T, op logical.Operation, path string, data map[string]any) map[string]any {
	t.Helper()
	status, answer := m.call(t, op, path, "", data)
	require.Less(t, status, 300, "%s: %v", path, answer)
	return answer
}
