package rpc

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/vigilpb"
)

// walletPrefix begins the path of every gRPC, gRPC-Web and Connect call of a
// wallet, walletREST that of every REST call.
const (
	walletPrefix = connectPrefix + "WalletService/"
	walletREST   = "/v1/wallet/"
)

// wallets makes what serves every call of a wallet, or nil without wallets.
func (s *Server) wallets() (http.Handler, error) {
	if s.cfg.Wallets == nil {
		return nil, nil
	}
	w := &walletEdge{
		WalletService: *s.cfg.Wallets, edge: s.edge, limits: s.cfg.Limits, now: s.cfg.Now, stopped: s.stopped,
		rates:   newSources[vigil.WalletID](s.cfg.Limits.ofWallet(), s.cfg.Now),
		watches: newSources[vigil.WalletID](s.cfg.Limits.ofWatches(), s.cfg.Now),
	}
	if w.Window <= 0 {
		w.Window = time.Minute
	}
	mux := http.NewServeMux()
	if err := w.register(mux); err != nil {
		return nil, err
	}
	mux.HandleFunc("/", s.noMethod)
	return mux, nil
}

// unary carries a request of any transport through, behind the interceptor that
// all calls have.
func (w *walletEdge) unary(ctx context.Context, m *method, r in) (*vigilpb.SignedAnswer, error) {
	a, err := w.edge.unary(ctx, r, &grpc.UnaryServerInfo{FullMethod: m.name}, func(ctx context.Context, _ any) (any, error) {
		return w.answer(ctx, m, r)
	})
	if err != nil {
		return nil, err
	}
	return a.(*vigilpb.SignedAnswer), nil // answer's own result
}

// stream is unary for the one call that streams.
func (w *walletEdge) stream(ctx context.Context, m *method, r in, send func(*vigilpb.SignedAnswer) error) error {
	return w.edge.stream(nil, nil, &grpc.StreamServerInfo{FullMethod: m.name}, func(any, grpc.ServerStream) error {
		return w.watch(ctx, m, r, send)
	})
}

// register puts every method on mux, in all its forms.
func (w *walletEdge) register(mux *http.ServeMux) error {
	list, err := methods(w.Wallets)
	if err != nil {
		return err
	}
	options := connect.WithHandlerOptions(
		plain(w.limits),
		connect.WithCodec(strictProto{}),
		connect.WithCodec(strictJSON{name: "json"}),
		connect.WithCodec(strictJSON{name: "json; charset=utf-8"}),
	)
	for _, m := range list {
		if m.call == nil {
			mux.Handle("POST "+m.name, connect.NewServerStreamHandlerSimple(m.name, func(ctx context.Context, r *in, s *connect.ServerStream[vigilpb.SignedAnswer]) error {
				return onConnect(w.stream(ctx, m, *r, s.Send))
			}, options))
			mux.HandleFunc("POST "+m.path, func(rw http.ResponseWriter, r *http.Request) { w.restStream(rw, r, m) })
			continue
		}
		mux.Handle("POST "+m.name, connect.NewUnaryHandlerSimple(m.name, func(ctx context.Context, r *in) (*vigilpb.SignedAnswer, error) {
			a, err := w.unary(ctx, m, *r)
			return a, onConnect(err)
		}, options))
		mux.HandleFunc("POST "+m.path, func(rw http.ResponseWriter, r *http.Request) { w.rest(rw, r, m) })
	}
	return nil
}

// strictProto and strictJSON decode requests as they are defined, and nothing
// more. What cannot be decoded is no error of theirs: the edge refuses it, with
// its code, as it refuses everything.
type (
	strictProto struct{}
	strictJSON  struct{ name string }
)

// Name is the codec's part of a content type.
func (strictProto) Name() string { return "proto" }

// Marshal encodes an answer.
func (strictProto) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("rpc: %T is no message", v)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// Unmarshal decodes a request into an in.
func (strictProto) Unmarshal(b []byte, v any) error { return into(v, b, decodeStrict) }

// Name is the codec's part of a content type.
func (c strictJSON) Name() string { return c.name }

// Marshal encodes an answer.
func (strictJSON) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("rpc: %T is no message", v)
	}
	return protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
}

// Unmarshal decodes a request into an in.
func (strictJSON) Unmarshal(b []byte, v any) error { return into(v, b, decodeJSON) }

func into(v any, b []byte, decode func([]byte, proto.Message) error) error {
	r, ok := v.(*in)
	if !ok {
		return fmt.Errorf("rpc: %T is no request", v)
	}
	r.request = &vigilpb.SignedRequest{}
	r.err = decode(b, r.request)
	return nil
}

// decodeJSON decodes a request's JSON. Its error is a *vigil.Error with
// CodeMalformed.
func decodeJSON(b []byte, to proto.Message) error {
	if err := (protojson.UnmarshalOptions{RecursionLimit: maxNesting}).Unmarshal(b, to); err != nil {
		// The library's words may quote the request, with unprintable spaces of its own.
		text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
		return vigil.Errorf(vigil.CodeMalformed, "the request is not JSON of the documented form: %s", text)
	}
	return nil
}

// rest answers a request in JSON.
func (w *walletEdge) rest(rw http.ResponseWriter, r *http.Request, m *method) {
	q, err := restIn(r)
	if err != nil {
		w.edge.rest(r.Context(), nil, nil, rw, r, err)
		return
	}
	a, err := w.unary(r.Context(), m, q)
	if err != nil {
		w.edge.rest(r.Context(), nil, nil, rw, r, err)
		return
	}
	b, err := strictJSON{}.Marshal(a)
	if err != nil {
		w.edge.rest(r.Context(), nil, nil, rw, r, w.edge.status(m.name, err))
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	_, _ = rw.Write(b)
}

// restStream answers with one JSON object a line: {"result": an answer}, and,
// when the stream does not end by its caller, {"error": a status} as the last.
func (w *walletEdge) restStream(rw http.ResponseWriter, r *http.Request, m *method) {
	q, err := restIn(r)
	if err != nil {
		w.edge.rest(r.Context(), nil, nil, rw, r, err)
		return
	}
	begun := false
	line := func(name string, v proto.Message) error {
		b, err := strictJSON{}.Marshal(v)
		if err != nil {
			return err
		}
		if !begun {
			rw.Header().Set("Content-Type", "application/x-ndjson")
			begun = true
		}
		if _, err := fmt.Fprintf(rw, "{%q:%s}\n", name, b); err != nil {
			return err
		}
		return http.NewResponseController(rw).Flush()
	}
	err = w.stream(r.Context(), m, q, func(a *vigilpb.SignedAnswer) error { return line("result", a) })
	switch {
	case err == nil:
	case begun:
		lift(r.Context(), time.Now().Add(sendWithin))
		_ = line("error", status.Convert(err).Proto()) // the caller may be gone
	default:
		w.edge.rest(r.Context(), nil, nil, rw, r, err)
	}
}

// restIn reads a request's body, which is whole by now.
func restIn(r *http.Request) (q in, err error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return q, err
	}
	return q, into(&q, b, decodeJSON)
}

// watchesWallet says whether r opens a watch of a wallet, by whatever protocol.
func watchesWallet(r *http.Request) bool {
	return r.URL.Path == vigilpb.WalletService_Watch_FullMethodName || r.URL.Path == walletREST+"watch"
}

// lasting prepares a request that stays open: it has no end of its own, and its
// connection is at hand for the deadlines of its events.
func lasting(w http.ResponseWriter, r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.WithValue(r.Context(), writerKey{}, http.NewResponseController(w)))
}
