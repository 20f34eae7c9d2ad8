package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/internal/caught"
)

// edge turns what handlers return into what leaves, for unary calls and streams
// alike.
type edge struct {
	refused func(vigil.Code)
	log     *slog.Logger
}

// domain is the namespace of our codes in google.rpc.ErrorInfo.
const domain = "vigil"

const (
	// retryAfter is the wait that an answer suggests when the same request may
	// pass later and nothing better is known.
	retryAfter = 5 * time.Second
	// maxSentence bounds a refusal's text in bytes: it travels in a header.
	maxSentence = 1024
)

func (e edge) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, e.panicked(info.FullMethod, p)
		}
	}()
	if resp, err = next(ctx, req); err != nil {
		return nil, e.status(info.FullMethod, err)
	}
	return resp, nil
}

func (e edge) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = e.panicked(info.FullMethod, p)
		}
	}()
	if err := next(srv, ss); err != nil {
		return e.status(info.FullMethod, err)
	}
	return nil
}

// panicked keeps the house up: one request fails, and the log tells where.
func (e edge) panicked(method string, p any) error {
	e.log.Error("a handler panicked", "method", method, "err", caught.Error(p), "stack", caught.Stack())
	return e.status(method, &vigil.Error{Code: vigil.CodeInternal})
}

// status makes the one documented answer of an error.
func (e edge) status(method string, err error) error {
	var known *vigil.Error
	if !errors.As(err, &known) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return status.FromContextError(err).Err()
		}
		if s, ok := status.FromError(err); ok {
			return s.Err() // gRPC's own: an unknown service, a malformed call
		}
		known = &vigil.Error{Code: vigil.CodeInternal, Err: err}
	}
	e.refused(known.Code)
	entry := vigil.Lookup(known.Code)
	if entry.Kind == vigil.KindInternal || entry.Kind == vigil.KindUnavailable {
		e.log.Warn("a request failed", "method", method, "code", known.Code, "err", err)
	}
	var wait time.Duration
	var knows *waitError
	switch {
	case errors.As(err, &knows):
		wait = knows.wait
	case entry.Retry:
		wait = retryAfter
	}
	var skew *clockError
	if errors.As(err, &skew) {
		return statusOf(known, wait, protoadapt.MessageV1Of(skew.clock)).Err()
	}
	return statusOf(known, wait).Err()
}

// statusOf writes code, sentence and, when the same request may pass later, the
// wait. What went wrong inside is for the log: the caller gets the table's own
// sentence.
func statusOf(err *vigil.Error, wait time.Duration, more ...protoadapt.MessageV1) *status.Status {
	entry := vigil.Lookup(err.Code)
	s := status.New(grpcCode(entry.Kind), string(err.Code)+": "+sentence(err))
	details := append([]protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: string(err.Code), Domain: domain}}, more...)
	if wait > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	}
	with, failed := s.WithDetails(details...)
	if failed != nil {
		return s // without details rather than not at all
	}
	return with
}

// sentence is what a caller may read of an error.
func sentence(err *vigil.Error) string {
	entry := vigil.Lookup(err.Code)
	if entry.Kind == vigil.KindInternal || err.Message == "" {
		return entry.Meaning
	}
	return clip(err.Message)
}

// clip bounds a sentence, which may quote what the caller sent, and keeps it
// valid text.
func clip(s string) string {
	if len(s) > maxSentence {
		s = s[:maxSentence]
	}
	return strings.ToValidUTF8(s, "")
}

func grpcCode(k vigil.Kind) codes.Code {
	switch k {
	case vigil.KindInvalid:
		return codes.InvalidArgument
	case vigil.KindState:
		return codes.FailedPrecondition
	case vigil.KindConflict:
		return codes.AlreadyExists
	case vigil.KindNotFound:
		return codes.NotFound
	case vigil.KindLimit:
		return codes.ResourceExhausted
	case vigil.KindUnavailable:
		return codes.Unavailable
	case vigil.KindUnsigned:
		return codes.Unauthenticated
	case vigil.KindDenied:
		return codes.PermissionDenied
	case vigil.KindAborted:
		return codes.Aborted
	}
	return codes.Internal
}

// httpStatus is the REST status of a code: the gateway's own for its kind, but
// for bodies that are too large, which HTTP has a status of its own for.
func httpStatus(code vigil.Code) int {
	if code == vigil.CodeBodyTooLarge {
		return http.StatusRequestEntityTooLarge
	}
	return runtime.HTTPStatusFromCode(grpcCode(vigil.Lookup(code).Kind))
}

// rest writes the gateway's errors: {"code", "message", "details"}, as stock
// wallets know it, with Retry-After where a retry may pass.
func (e edge) rest(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
	s := status.Convert(err)
	code, wait, ok := read(s)
	switch {
	case ok:
	case s.Code() == codes.InvalidArgument: // the gateway's own: it could not decode the body
		code = vigil.CodeMalformed
		s = statusOf(&vigil.Error{Code: code, Message: "the request is not JSON of the documented form: " + s.Message()}, 0)
		e.refused(code)
	default:
		writeStatus(w, runtime.HTTPStatusFromCode(s.Code()), s)
		return
	}
	if wait > 0 {
		w.Header().Set("Retry-After", seconds(wait))
	}
	writeStatus(w, httpStatus(code), s)
}

// read finds our code and the wait in a status, when it carries them.
func read(s *status.Status) (code vigil.Code, wait time.Duration, ok bool) {
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == domain {
				code, ok = vigil.Code(d.GetReason()), true
			}
		case *errdetails.RetryInfo:
			wait = d.GetRetryDelay().AsDuration()
		}
	}
	return code, wait, ok
}

func writeStatus(w http.ResponseWriter, code int, s *status.Status) {
	body, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(s.Proto())
	if err != nil {
		body = []byte(`{"code":13,"message":"INTERNAL","details":[]}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(body)
}
