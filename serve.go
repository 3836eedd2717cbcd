package kmshmac

import (
	"crypto/tls"
	"math"
	"runtime"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/vault/sdk/helper/pluginutil"
	"github.com/hashicorp/vault/sdk/plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
)

// Serve serves the engine to the Vault that has started this process, until
// Vault ends it. It is the sdk's ServeMultiplex with shortCut in front of the
// sdk's server.
func Serve(tlsProvider func() (*tls.Config, error)) error {
	endWithParent()
	if err := pluginutil.OptionallyEnableMlock(); err != nil {
		return err
	}
	// What requests leave behind is garbage, and what lives is small, so that the
	// garbage collector would run every few megabytes. It runs when the heap has
	// doubled: with this, it never runs below twice 32 MiB. The ballast itself is
	// never touched, so it is address space only, unless memory is locked.
	ballast := make([]byte, 32<<20)
	defer runtime.KeepAlive(ballast)
	// gRPC clears a buffer, all of it, each time it takes one. Of its own sizes
	// the next above 32 KiB is 1 MiB, which is long to clear for a batch.
	experimental.SetDefaultBufferPool(mem.NewTieredBufferPool(bufferSizes...))
	// JSON on stderr is the format whose levels Vault understands.
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, JSONFormat: true})
	versions := map[int]goplugin.PluginSet{}
	for _, version := range []int{3, 4, 5} {
		// Only in version 5 one process serves all mounts.
		versions[version] = goplugin.PluginSet{plugin.BackendPluginName: &plugin.GRPCBackendPlugin{
			Factory: Factory, Logger: logger, MultiplexingSupport: version == 5,
		}}
	}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  plugin.HandshakeConfig,
		VersionedPlugins: versions,
		TLSProvider:      tlsProvider, // unused since version 5
		Logger:           logger,
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return goplugin.DefaultGRPCServer(append(options,
				grpc.MaxRecvMsgSize(math.MaxInt32),
				grpc.MaxSendMsgSize(math.MaxInt32),
				grpc.ChainUnaryInterceptor(shortCut),
				// Room for whole batches. Said once, it also spares the
				// pings by which gRPC would find out itself.
				grpc.InitialWindowSize(window),
				grpc.InitialConnWindowSize(4*window),
				// Goroutines that stay, so that their stacks need not grow
				// anew for every request. When all are busy, gRPC starts one
				// for the request, as it would without.
				grpc.NumStreamWorkers(streamWorkers),
			))
		},
	})
	return nil
}

// bufferSizes are those of gRPC's buffers for messages: its own, with more steps
// between the last two. Longer messages get buffers of their own.
var bufferSizes = []int{256, 4 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20}

// streamWorkers is more than the requests that have a processor at once.
var streamWorkers = uint32(8 * runtime.GOMAXPROCS(0))

// window is how many bytes of a request may be under way at once.
const window = 1 << 20
