// Package rpc owns the edge: it turns protobuf and JSON into domain values and
// back, bounds what strangers may send, and makes one documented answer of
// every error. It knows nothing of stores, keys or the operator.
package rpc

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/vigil-ark/vigil"
	fulminev1 "github.com/vigil-ark/vigil/internal/pb/fulmine/v1"
	"github.com/vigil-ark/vigil/vigilpb"
)

// Config of a Server. Its functions must not block.
type Config struct {
	Limits  Limits
	Wallets *WalletService // nil: wallets are not served
	Ready   []Check
	Metrics http.Handler          // served at /metrics; nil for none
	OpenAPI []byte                // served at /openapi.json; nil for none
	Refused func(code vigil.Code) // counts refusals; nil for none
	Log     *slog.Logger          // nil for none
	Now     func() time.Time      // nil: time.Now
}

func (c Config) withDefaults() Config {
	c.Limits = c.Limits.withDefaults()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Refused == nil {
		c.Refused = func(vigil.Code) {}
	}
	return c
}

// Server answers gRPC, gRPC-Web, Connect and REST on one port. It has no goroutine of its own.
type Server struct {
	cfg      Config
	edge     edge
	grpc     *grpc.Server
	health   *health.Server
	handler  http.Handler
	sources  *sources[netip.Addr]
	errors   *connect.ErrorWriter
	stopped  chan struct{} // closed by Stop: watches end
	ready    readiness
	stopping atomic.Bool
}

// New makes a server over what it serves. Close releases it.
func New(cfg Config, delegates vigil.Delegates) (*Server, error) {
	s := &Server{cfg: cfg.withDefaults(), health: health.NewServer(), errors: connect.NewErrorWriter(), stopped: make(chan struct{})}
	s.edge = edge{refused: s.cfg.Refused, log: s.cfg.Log}
	s.sources = newSources[netip.Addr](s.cfg.Limits.ofSource(), s.cfg.Now)
	s.ready = readiness{checks: s.cfg.Ready, log: s.cfg.Log, now: s.cfg.Now}

	stock, owner := &stockService{delegates: delegates}, &ownerService{delegates: delegates}
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(int(s.cfg.Limits.Body)),
		grpc.ChainUnaryInterceptor(s.edge.unary),
		grpc.ChainStreamInterceptor(s.edge.stream),
	)
	fulminev1.RegisterDelegateServiceServer(s.grpc, stock)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	rest, err := gateway(s.edge, stock, owner)
	if err != nil {
		return nil, err
	}
	wallets, err := s.wallets()
	if err != nil {
		return nil, err
	}
	if wallets != nil {
		s.health.SetServingStatus(vigilpb.WalletService_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	}
	s.health.SetServingStatus(vigilpb.OwnerService_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	reflection.Register(described{Server: s.grpc, wallets: wallets != nil})
	s.handler = s.routes(rest, s.owners(owner), wallets)
	return s, nil
}

// routes puts every path behind what bounds it. Liveness and readiness are
// asked by whoever runs the server and cost nothing, so they are not counted.
func (s *Server) routes(rest, owners, wallets http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", s.readyz)
	if s.cfg.OpenAPI != nil {
		mux.Handle("GET /openapi.json", cors(s.bounded(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(s.cfg.OpenAPI)
		}))))
	}
	if s.cfg.Metrics != nil {
		mux.Handle("GET /metrics", s.bounded(s.cfg.Metrics))
	}
	mux.Handle(ownerPrefix, cors(s.bounded(s.whole(owners))))
	if wallets != nil {
		mux.Handle(walletPrefix, cors(s.bounded(s.whole(wallets))))
		mux.Handle(walletREST, cors(s.bounded(s.whole(wallets))))
	}
	mux.Handle("/", cors(s.bounded(s.split(s.whole(rest)))))
	return mux
}

// ServeHTTP serves gRPC and REST. Over cleartext HTTP/2 it needs the server
// that HTTP returns.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// HTTP returns an http.Server for this handler with the protocols that gRPC
// needs and the timeouts that a public port needs: a head, a body or a reader
// that dawdles is cut.
func (s *Server) HTTP() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: s, Protocols: protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: s.cfg.Limits.Streams},
		ReadHeaderTimeout: s.cfg.Limits.Head,
		ReadTimeout:       s.cfg.Limits.Timeout,
		WriteTimeout:      s.cfg.Limits.Head + s.cfg.Limits.Timeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    s.cfg.Limits.Header,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
}

// Stop refuses new requests and says so to whoever watches: the first step of a
// graceful stop. Then shut the http.Server down, then Close.
func (s *Server) Stop() {
	if !s.stopping.Swap(true) {
		close(s.stopped)
	}
	s.health.Shutdown()
}

// Close ends what is still open on the gRPC side.
func (s *Server) Close() {
	s.Stop()
	s.grpc.Stop()
}

// split sends gRPC to the gRPC server and everything else to REST.
func (s *Server) split(rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isGRPC(r) {
			s.grpc.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}

func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// watches says whether r is a load balancer that watches the server's health,
// which stays open by design.
func watches(r *http.Request) bool {
	return isGRPC(r) && r.URL.Path == healthpb.Health_Watch_FullMethodName
}

// cors lets wallets in browsers in: the API has no cookies and no credentials.
func cors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "Retry-After, Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin")
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
			h.Set("Access-Control-Allow-Headers", "*, Content-Type")
			h.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// described is the gRPC server with what is served beside it, for reflection.
type described struct {
	*grpc.Server
	wallets bool
}

// GetServiceInfo lists the services.
func (d described) GetServiceInfo() map[string]grpc.ServiceInfo {
	list := d.Server.GetServiceInfo()
	list[vigilpb.OwnerService_ServiceDesc.ServiceName] = grpc.ServiceInfo{Metadata: vigilpb.OwnerService_ServiceDesc.Metadata}
	if d.wallets {
		list[vigilpb.WalletService_ServiceDesc.ServiceName] = grpc.ServiceInfo{Metadata: vigilpb.WalletService_ServiceDesc.Metadata}
	}
	return list
}

// timed gives a request its time, but for a watch, which ends with its caller.
func (s *Server) timed(w http.ResponseWriter, r *http.Request) (context.Context, context.CancelFunc) {
	if watchesWallet(r) {
		return lasting(w, r)
	}
	if !watches(r) {
		return context.WithTimeout(r.Context(), s.cfg.Limits.Timeout)
	}
	// Not every writer has deadlines; one without has none to lift.
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(time.Time{})
	return context.WithCancel(r.Context())
}
