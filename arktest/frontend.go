package arktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/vigil-ark/vigil/arktest/esplora"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// maxStreams is how many streams one connection may hold (protocol 1.1).
const maxStreams = 1000

// frontend is the one port with gRPC, REST and SSE.
type frontend struct {
	addr  string
	http  *http.Server
	grpc  *grpc.Server
	inner *grpc.ClientConn // the gateway's way into the gRPC server
	pipe  *bufconn.Listener
	lis   net.Listener
}

// serve opens the port and starts answering for p.
func serve(op *Operator, p *process, addr string) (*frontend, error) {
	lis, err := op.cfg.Listen(addr)
	if err != nil {
		return nil, fmt.Errorf("listening for the operator: %w", err)
	}
	f := &frontend{addr: lis.Addr().String(), pipe: bufconn.Listen(1 << 20), lis: lis}
	f.grpc = grpc.NewServer(
		grpc.UnaryInterceptor(op.unary), grpc.StreamInterceptor(op.stream),
		grpc.MaxConcurrentStreams(maxStreams), grpc.MaxRecvMsgSize(20<<20),
	)
	arkv1.RegisterArkServiceServer(f.grpc, &arkService{op: op, p: p})
	arkv1.RegisterIndexerServiceServer(f.grpc, &indexer{op: op, p: p})
	f.inner, err = grpc.NewClient("passthrough:///operator",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return f.pipe.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		_ = lis.Close()
		return nil, fmt.Errorf("gateway: %w", err)
	}
	rest, err := f.gateway(p.ctx)
	if err != nil {
		_ = lis.Close()
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	f.http = &http.Server{
		Handler: f.route(rest), Protocols: protocols,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
	}
	op.wg.Go(func() { _ = f.grpc.Serve(f.pipe) })
	op.wg.Go(func() { _ = f.http.Serve(lis) })
	return f, nil
}

// close cuts every connection, as the end of a process does.
func (f *frontend) close() {
	_ = f.http.Close()
	_ = f.lis.Close() // Serve may not have begun yet
	_ = f.inner.Close()
	f.grpc.Stop()
}

// route tells REST, gRPC and preflights apart as arkd does.
func (f *frontend) route(rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodOptions:
			allowOrigin(w)
		case r.Method == http.MethodGet || strings.Contains(r.Header.Get("Content-Type"), "application/json"):
			allowOrigin(w)
			rest.ServeHTTP(w, r)
		default:
			f.grpc.ServeHTTP(w, r)
		}
	})
}

func allowOrigin(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Headers", "*")
	h.Set("Access-Control-Allow-Methods", "POST, GET, OPTIONS")
}

// jsonForm is proto3 JSON with every default emitted.
func jsonForm() *runtime.JSONPb {
	return &runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{EmitUnpopulated: true},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
	}
}

func (f *frontend) gateway(ctx context.Context) (http.Handler, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, jsonForm()),
		runtime.WithIncomingHeaderMatcher(func(h string) (string, bool) {
			switch strings.ToLower(h) {
			case "x-macaroon", "x-build-version", "x-sdk-version", "x-digest":
				return strings.ToLower(h), true
			}
			return "", false
		}),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
	)
	if err := errors.Join(
		arkv1.RegisterArkServiceHandlerClient(ctx, mux, arkv1.NewArkServiceClient(f.inner)),
		arkv1.RegisterIndexerServiceHandlerClient(ctx, mux, arkv1.NewIndexerServiceClient(f.inner)),
		f.streams(mux),
	); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return mux, nil
}

func (op *Operator) openEsplora(addr string) error {
	lis, err := op.cfg.Listen(addr)
	if err != nil {
		return fmt.Errorf("listening for esplora: %w", err)
	}
	op.esploraSrv = esplora.New(op.ctx, op.chain, esplora.Config{})
	op.esploraWeb = &http.Server{Handler: op.esploraSrv}
	op.esploraURL = "http://" + lis.Addr().String()
	op.wg.Go(func() { _ = op.esploraWeb.Serve(lis) })
	return nil
}
