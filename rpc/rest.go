package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	fulminev1 "github.com/vigil-ark/vigil/internal/pb/fulmine/v1"
	"github.com/vigil-ark/vigil/vigilpb"
)

// gateway serves REST by calling the services themselves, through the same
// interceptor as gRPC: a second trip through gRPC would cost as much as a
// signature check.
func gateway(e edge, stock fulminev1.DelegateServiceServer, owner vigilpb.OwnerServiceServer) (http.Handler, error) {
	rest := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{
			MarshalOptions: protojson.MarshalOptions{EmitUnpopulated: true},
			// Stock wallets may send more than this version knows.
			UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
		}),
		runtime.WithErrorHandler(e.rest),
		runtime.WithRoutingErrorHandler(lost),
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithDisablePathLengthFallback(),
	)
	ctx := context.Background() // a parameter that these registrations do not use
	err := errors.Join(
		fulminev1.RegisterDelegateServiceHandlerServer(ctx, rest, directStock{edge: e, to: stock}),
		vigilpb.RegisterOwnerServiceHandlerServer(ctx, rest, directOwner{edge: e, to: owner}),
	)
	if err != nil {
		return nil, fmt.Errorf("rpc: %w", err)
	}
	return rest, nil
}

// lost answers what no route takes. The gateway would call a wrong method 501.
func lost(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, code int) {
	if code == http.StatusMethodNotAllowed {
		writeStatus(w, code, status.New(codes.Unimplemented, http.StatusText(code)))
		return
	}
	writeStatus(w, code, status.New(codes.NotFound, http.StatusText(code)))
}

// direct calls a method of a service behind the unary interceptor.
func direct[Q, R any](ctx context.Context, e edge, method string, req *Q, call func(context.Context, *Q) (*R, error)) (*R, error) {
	resp, err := e.unary(ctx, req, &grpc.UnaryServerInfo{FullMethod: method}, func(ctx context.Context, _ any) (any, error) {
		return call(ctx, req)
	})
	if err != nil {
		return nil, err
	}
	return resp.(*R), nil // call's own result
}

type directStock struct {
	fulminev1.UnimplementedDelegateServiceServer
	edge edge
	to   fulminev1.DelegateServiceServer
}

func (d directStock) GetDelegateInfo(ctx context.Context, r *fulminev1.GetDelegateInfoRequest) (*fulminev1.GetDelegateInfoResponse, error) {
	return direct(ctx, d.edge, fulminev1.DelegateService_GetDelegateInfo_FullMethodName, r, d.to.GetDelegateInfo)
}

func (d directStock) Delegate(ctx context.Context, r *fulminev1.DelegateRequest) (*fulminev1.DelegateResponse, error) {
	return direct(ctx, d.edge, fulminev1.DelegateService_Delegate_FullMethodName, r, d.to.Delegate)
}

type directOwner struct {
	vigilpb.UnimplementedOwnerServiceServer
	edge edge
	to   vigilpb.OwnerServiceServer
}

func (d directOwner) ListDelegates(ctx context.Context, r *vigilpb.ListDelegatesRequest) (*vigilpb.ListDelegatesResponse, error) {
	return direct(ctx, d.edge, vigilpb.OwnerService_ListDelegates_FullMethodName, r, d.to.ListDelegates)
}

func (d directOwner) CancelDelegate(ctx context.Context, r *vigilpb.CancelDelegateRequest) (*vigilpb.CancelDelegateResponse, error) {
	return direct(ctx, d.edge, vigilpb.OwnerService_CancelDelegate_FullMethodName, r, d.to.CancelDelegate)
}
