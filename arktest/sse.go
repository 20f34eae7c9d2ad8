package arktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// errStreaming is the answer to a stream asked for without the SSE header.
var errStreaming = status.Error(codes.Unimplemented, "Streaming Method Not Allowed")

// receive reads one message of an open stream.
type receive func() (proto.Message, error)

// opener opens a stream from a request's query and path.
type opener func(ctx context.Context, r *http.Request, path map[string]string) (receive, error)

// streams registers the server streams, which REST gets as SSE only (protocol
// section 1.1.1).
func (f *frontend) streams(mux *runtime.ServeMux) error {
	ark, index := arkv1.NewArkServiceClient(f.inner), arkv1.NewIndexerServiceClient(f.inner)
	events := func(ctx context.Context, r *http.Request, _ map[string]string) (receive, error) {
		var req arkv1.GetEventStreamRequest
		if err := query(r, &req); err != nil {
			return nil, err
		}
		s, err := ark.GetEventStream(ctx, &req)
		return func() (proto.Message, error) { return s.Recv() }, err
	}
	txs := func(ctx context.Context, _ *http.Request, _ map[string]string) (receive, error) {
		s, err := ark.GetTransactionsStream(ctx, &arkv1.GetTransactionsStreamRequest{})
		return func() (proto.Message, error) { return s.Recv() }, err
	}
	subscription := func(ctx context.Context, r *http.Request, path map[string]string) (receive, error) {
		var req arkv1.GetSubscriptionRequest
		if err := query(r, &req); err != nil {
			return nil, err
		}
		if id := path["subscription_id"]; id != "" {
			req.SubscriptionId = id
		}
		s, err := index.GetSubscription(ctx, &req)
		return func() (proto.Message, error) { return s.Recv() }, err
	}
	return errors.Join(
		mux.HandlePath(http.MethodGet, "/v1/batch/events", sse(mux, events)),
		mux.HandlePath(http.MethodGet, "/v1/txs", sse(mux, txs)),
		mux.HandlePath(http.MethodGet, "/v1/indexer/script/subscription/{subscription_id}", sse(mux, subscription)),
		mux.HandlePath(http.MethodGet, "/v1/indexer/subscription", sse(mux, subscription)),
	)
}

func query(r *http.Request, into proto.Message) error {
	if err := runtime.PopulateQueryParameters(into, r.URL.Query(), utilities.NewDoubleArray(nil)); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}

// sse serves one server stream.
func sse(mux *runtime.ServeMux, open opener) runtime.HandlerFunc {
	form := protojson.MarshalOptions{EmitUnpopulated: true}
	return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
		if !strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
			runtime.HTTPError(r.Context(), mux, jsonForm(), w, r, errStreaming)
			return
		}
		md := metadata.MD{}
		for _, h := range []string{"x-build-version", "x-digest", "x-sdk-version", "x-macaroon"} {
			if v := r.Header.Get(h); v != "" {
				md.Set(h, v)
			}
		}
		ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(r.Context(), md))
		defer cancel()
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-cache")
		flush := http.NewResponseController(w)
		recv, err := open(ctx, r, path)
		if err == nil {
			_ = flush.Flush() // the answer's head leaves before the first event
		}
		for err == nil {
			var msg proto.Message
			if msg, err = recv(); err != nil {
				break
			}
			var raw []byte
			if raw, err = form.Marshal(msg); err == nil {
				_, err = fmt.Fprintf(w, "data: %s\n\n", raw)
			}
			_ = flush.Flush()
		}
		if errors.Is(err, io.EOF) {
			_, _ = io.WriteString(w, "id: EOS\nevent: EOS\ndata: \n\n")
		} else if raw, mErr := form.Marshal(status.Convert(err).Proto()); mErr == nil {
			_, _ = fmt.Fprintf(w, "event: failure\ndata: %s\n\n", raw)
		}
		_ = flush.Flush()
	}
}
