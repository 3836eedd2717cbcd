// Command emptyplugin is a secrets engine that does nothing: it answers every
// write with the same small map. What a request to it costs is what Vault and
// the plugin boundary cost, so it is the floor of every external plugin. It does
// without the sdk's framework, whose routing and replication check would count
// as well.
package main

import (
	"context"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"
)

func main() {
	meta := &api.PluginAPIClientMeta{}
	if err := meta.FlagSet().Parse(os.Args[1:]); err != nil {
		os.Exit(2)
	}
	err := plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: factory,
		TLSProviderFunc:    api.VaultPluginTLSProvider(meta.GetTLSConfig()),
	})
	if err != nil {
		hclog.New(&hclog.LoggerOptions{JSONFormat: true}).Error("plugin shutting down", "error", err)
		os.Exit(1)
	}
}

// backend is a logical.Backend with nothing in it.
type backend struct {
	system logical.SystemView
	logger hclog.Logger
}

func factory(ctx context.Context, config *logical.BackendConfig) (logical.Backend, error) {
	b := &backend{}
	return b, b.Setup(ctx, config)
}

func (b *backend) Setup(_ context.Context, config *logical.BackendConfig) error {
	b.system, b.logger = config.System, config.Logger
	return nil
}

// HandleRequest answers with a text of the length of a MAC in base64.
func (b *backend) HandleRequest(_ context.Context, req *logical.Request) (*logical.Response, error) {
	if req.Operation != logical.UpdateOperation && req.Operation != logical.PatchOperation {
		return nil, logical.ErrUnsupportedOperation
	}
	return &logical.Response{Data: map[string]any{"mac": "bm90IGEgbWFjLCBub3QgYSBtYWMsIG5vdCBhIG1hYyE="}}, nil
}

func (b *backend) HandleExistenceCheck(context.Context, *logical.Request) (found, exists bool, err error) {
	return false, false, nil
}

func (b *backend) Initialize(context.Context, *logical.InitializationRequest) error { return nil }
func (b *backend) SpecialPaths() *logical.Paths                                     { return nil }
func (b *backend) System() logical.SystemView                                       { return b.system }
func (b *backend) Logger() hclog.Logger                                             { return b.logger }
func (b *backend) Cleanup(context.Context)                                          {}
func (b *backend) InvalidateKey(context.Context, string)                            {}
func (b *backend) Type() logical.BackendType                                        { return logical.TypeLogical }
