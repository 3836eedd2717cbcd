package gateway

// The HTTP servers: KMS, and the paths beside it.

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// ServerConfig is how a gateway is served over HTTP. The zero value of a time
// is no limit.
type ServerConfig struct {
	// ReadTimeout bounds how long a client may take to send a request, and
	// WriteTimeout from then on until it has read the answer.
	ReadTimeout, WriteTimeout time.Duration
	// IdleTimeout bounds how long a connection is kept without a request.
	IdleTimeout time.Duration
	MaxHeader   int // bytes
	// CertFile and KeyFile switch TLS on; ClientCAFile then asks for client
	// certificates of these authorities.
	CertFile, KeyFile, ClientCAFile string
	// AskForCertificate asks for client certificates of any authority, and serves
	// those who have none as well.
	AskForCertificate bool
	Log               *slog.Logger
}

// Server serves a gateway over HTTP or HTTPS.
type Server struct {
	http        *http.Server
	certificate *reloader // nil without TLS
}

// NewServer returns a server of a handler: Handler or AdminHandler.
func NewServer(handler http.Handler, c ServerConfig) (*Server, error) {
	s := &Server{http: &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: c.ReadTimeout,
		ReadTimeout:       c.ReadTimeout,
		WriteTimeout:      c.WriteTimeout,
		IdleTimeout:       c.IdleTimeout,
		MaxHeaderBytes:    c.MaxHeader,
		Protocols:         http1(),
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}}
	if c.CertFile == "" && c.KeyFile == "" && c.ClientCAFile == "" {
		return s, nil
	}
	var err error
	s.certificate, s.http.TLSConfig, err = tlsConfig(c)
	return s, err
}

// http1 is the protocol that KMS's own endpoints speak. With HTTP/2, limits on
// connections would not limit calls.
func http1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// Handler serves KMS: POST requests, on any path. GET requests are for /healthz,
// /readyz and, unless metrics is nil, /metrics, so that a folder may have one of
// these names.
func Handler(g *Gateway, metrics http.Handler) http.Handler {
	admin := adminPaths(g, metrics)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			if handler := admin[r.URL.Path]; handler != nil {
				handler.ServeHTTP(w, r)
				return
			}
		}
		g.ServeHTTP(w, r)
	})
}

// AdminHandler serves the paths of Handler that are not KMS, for an address of
// their own.
func AdminHandler(g *Gateway, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	for path, handler := range adminPaths(g, metrics) {
		mux.Handle("GET "+path, handler)
	}
	return mux
}

func adminPaths(g *Gateway, metrics http.Handler) map[string]http.Handler {
	paths := map[string]http.Handler{
		"/healthz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok\n") }),
		"/readyz":  newReadiness(g),
	}
	if metrics != nil {
		paths["/metrics"] = metrics
	}
	return paths
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

// Serve serves connections until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	var err error
	if s.certificate != nil {
		err = s.http.ServeTLS(l, "", "")
	} else {
		err = s.http.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown takes no more calls, and returns when those under way are answered
// or ctx ends.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// CertificateExpiry returns when the certificate in use expires; the zero time
// without TLS.
func (s *Server) CertificateExpiry() time.Time {
	if s.certificate == nil {
		return time.Time{}
	}
	return s.certificate.current.Load().Leaf.NotAfter
}

// Reload reads the certificate and its key again. The old ones stay in use if
// that fails.
func (s *Server) Reload() error {
	if s.certificate == nil {
		return nil
	}
	return s.certificate.load()
}
