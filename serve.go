package kmshmac

import (
	"context"
	"crypto/tls"
	"math"
	"runtime"
	"strings"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/vault/sdk/helper/pluginutil"
	"github.com/hashicorp/vault/sdk/plugin"
	"github.com/hashicorp/vault/sdk/plugin/pb"
	"google.golang.org/grpc"
)

// Serve serves the engine to the Vault that has started this process, until
// Vault ends it. It is the sdk's ServeMultiplex with shortCut in front of the
// sdk's server.
func Serve(tlsProvider func() (*tls.Config, error)) error {
	if err := pluginutil.OptionallyEnableMlock(); err != nil {
		return err
	}
	// What requests leave behind is garbage, and what lives is small, so that the
	// garbage collector would run every few megabytes. It runs when the heap has
	// doubled: with this, it never runs below twice 32 MiB. The ballast itself is
	// never touched, so it is address space only, unless memory is locked.
	ballast := make([]byte, 32<<20)
	defer runtime.KeepAlive(ballast)
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
			))
		},
	})
	return nil
}

// window is how many bytes of a request may be under way at once.
const window = 1 << 20

// noData is a request's data, as JSON, where there is none.
const noData = "{}"

// shortCut spares requests for MACs what costs most on their way through the
// sdk: decoding the request's data, of any size, twice. The existence check,
// which Vault asks for before every write, does not need it for them. For the
// request itself, data that is flat is decoded here, without reflection and
// without a copy, and handed to HandleRequest in the context. Everything else
// passes untouched.
func shortCut(ctx context.Context, message any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	switch args := message.(type) {
	case *pb.HandleExistenceCheckArgs:
		if r := args.GetRequest(); r != nil && isMacPath(r.Path) {
			r.Data = noData
		}
	case *pb.HandleRequestArgs:
		if r := args.GetRequest(); r != nil && isMacPath(r.Path) {
			if data, ok := flatObject(r.Data); ok {
				r.Data = noData
				ctx = context.WithValue(ctx, flatDataKey{}, data)
			}
		}
	}
	return handler(ctx, message)
}

type flatDataKey struct{}

// flatData returns the data that shortCut has decoded, if it has.
func flatData(ctx context.Context) (data map[string]any, ok bool) {
	data, ok = ctx.Value(flatDataKey{}).(map[string]any)
	return data, ok
}

func isMacPath(path string) bool {
	return strings.HasPrefix(path, generateMacPath) || strings.HasPrefix(path, verifyMacPath)
}

// flatObject decodes a JSON object, written without spaces as Vault writes it,
// whose values are all plain strings. ok is false for any other, which
// encoding/json is for.
func flatObject(data string) (object map[string]any, ok bool) {
	object = make(map[string]any, 4)
	data, ok = strings.CutPrefix(data, "{")
	for ok {
		var name, value string
		if name, data, ok = plainString(data, ":"); !ok {
			break
		}
		if value, data, ok = plainString(data, ""); !ok {
			break
		}
		object[name] = value
		if data == "}" {
			return object, true
		}
		data, ok = strings.CutPrefix(data, ",")
	}
	return nil, false
}

// plainString cuts a JSON string and what must follow it off the text. ok is
// false if it is anything but printable ASCII without a backslash, which alone
// means itself.
func plainString(text, follows string) (s, rest string, ok bool) {
	if text, ok = strings.CutPrefix(text, `"`); !ok {
		return "", "", false
	}
	if s, rest, ok = strings.Cut(text, `"`); !ok {
		return "", "", false
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '\\' {
			return "", "", false
		}
	}
	rest, ok = strings.CutPrefix(rest, follows)
	return s, rest, ok
}
