package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/vigilpb"
)

const (
	// connectPrefix begins the path of what is served as gRPC, gRPC-Web and
	// Connect alike.
	connectPrefix = "/vigil.v1."
	ownerPrefix   = connectPrefix + "OwnerService/"
)

// plain is what holds for every call of those protocols.
func plain(l Limits) connect.HandlerOption {
	return connect.WithHandlerOptions(
		// What is sent does not compress, and a small body must not become a large one.
		connect.WithCompression("gzip", nil, nil),
		connect.WithReadMaxBytes(int(l.Body)),
	)
}

// owners makes what serves the calls of owners.
func (s *Server) owners(to vigilpb.OwnerServiceServer) http.Handler {
	mux := http.NewServeMux()
	d := directOwner{edge: s.edge, to: to}
	mux.Handle("POST "+vigilpb.OwnerService_ListDelegates_FullMethodName, connect.NewUnaryHandlerSimple(
		vigilpb.OwnerService_ListDelegates_FullMethodName, overConnect(d.ListDelegates), plain(s.cfg.Limits)))
	mux.Handle("POST "+vigilpb.OwnerService_CancelDelegate_FullMethodName, connect.NewUnaryHandlerSimple(
		vigilpb.OwnerService_CancelDelegate_FullMethodName, overConnect(d.CancelDelegate), plain(s.cfg.Limits)))
	mux.HandleFunc("/", s.noMethod)
	return mux
}

// overConnect gives the errors of a call Connect's form.
func overConnect[Q, A any](call func(context.Context, *Q) (*A, error)) func(context.Context, *Q) (*A, error) {
	return func(ctx context.Context, q *Q) (*A, error) {
		a, err := call(ctx, q)
		return a, onConnect(err)
	}
}

// noMethod answers a call of a method that a service does not have.
func (s *Server) noMethod(w http.ResponseWriter, r *http.Request) {
	none := status.New(codes.Unimplemented, "no such method")
	if !s.refuseConnect(w, r, none) {
		writeStatus(w, http.StatusNotFound, none)
	}
}

// refuseConnect answers a call before any decoding, in the caller's own
// protocol; false when it is none of Connect's.
func (s *Server) refuseConnect(w http.ResponseWriter, r *http.Request, st *status.Status) bool {
	if !strings.HasPrefix(r.URL.Path, connectPrefix) || !s.errors.IsSupported(r) {
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(nil))
	return s.errors.Write(w, r, onConnect(st.Err())) == nil
}

// onConnect gives an error of the edge the form of Connect's, which writes it as
// each of its three protocols wants it.
func onConnect(err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	c := connect.NewError(connect.Code(s.Code()), errors.New(s.Message()))
	for _, d := range s.Details() {
		m, ok := d.(proto.Message)
		if !ok {
			continue // a detail that this program does not know, and so did not make
		}
		if detail, err := connect.NewErrorDetail(m); err == nil {
			c.AddDetail(detail)
		}
	}
	if _, wait, ok := read(s); ok && wait > 0 {
		c.Meta().Set("Retry-After", seconds(wait))
	}
	return c
}
