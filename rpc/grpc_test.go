package rpc_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/vigil-ark/vigil"
	fulminev1 "github.com/vigil-ark/vigil/internal/pb/fulmine/v1"
	"github.com/vigil-ark/vigil/rpc"
	"github.com/vigil-ark/vigil/vigilpb"
)

func TestGRPC(t *testing.T) {
	f := &fake{terms: fulmineTerms(t), one: vigil.Summary{ID: vigil.DelegateID{9}, State: "joining"}, list: make([]vigil.Summary, 2)}
	conn := dial(t, listen(t, server(t, rpc.Config{}, f)))
	stock, owner := fulminev1.NewDelegateServiceClient(conn), vigilpb.NewOwnerServiceClient(conn)
	ctx := t.Context()

	info, err := stock.GetDelegateInfo(ctx, &fulminev1.GetDelegateInfoRequest{})
	if err != nil || info.GetPubkey() != f.terms.Key || info.GetFee() != "400" || info.GetDelegateAddress() != f.terms.Address || info.GetDelegatorAddress() != f.terms.Address {
		t.Errorf("info: %v, %v", info, err)
	}
	if _, err := stock.Delegate(ctx, &fulminev1.DelegateRequest{Intent: &fulminev1.Intent{Message: "m", Proof: "p"}, ForfeitTxs: []string{"f"}}); err != nil {
		t.Error(err)
	}
	if s := f.submitted[0]; s.Message != "m" || s.Proof != "p" || !slices.Equal(s.Forfeits, []string{"f"}) || s.RejectReplace {
		t.Errorf("arrived: %+v", s)
	}
	if _, err := stock.Delegate(ctx, &fulminev1.DelegateRequest{}); reason(err) != vigil.CodeMalformed {
		t.Errorf("without an intent: %v", err)
	}
	list, err := owner.ListDelegates(ctx, &vigilpb.ListDelegatesRequest{Message: "m", Proof: "p"})
	if err != nil || len(list.GetDelegates()) != 2 {
		t.Errorf("list: %v, %v", list, err)
	}
	cancelled, err := owner.CancelDelegate(ctx, &vigilpb.CancelDelegateRequest{Message: "m", Proof: "p"})
	if err != nil || cancelled.GetState() != "joining" || cancelled.GetId() != f.one.ID.String() {
		t.Errorf("cancel: %v, %v", cancelled, err)
	}
	if err := conn.Invoke(ctx, "/no.such/Method", &fulminev1.DelegateRequest{}, &fulminev1.DelegateResponse{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("an unknown method: %v", err)
	}
}

// reason is the code that an error of gRPC carries.
func reason(err error) vigil.Code {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return vigil.Code(info.GetReason())
		}
	}
	return ""
}

func TestReflectionAndHealth(t *testing.T) {
	r := newRig(t, &wallets{}, roomy())
	s, conn := r.rpc, dial(t, r.addr)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	refl, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := refl.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	resp, err := refl.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, svc := range resp.GetListServicesResponse().GetService() {
		names = append(names, svc.GetName())
	}
	for _, want := range []string{"fulmine.v1.DelegateService", "vigil.v1.OwnerService", "vigil.v1.WalletService", "grpc.health.v1.Health"} {
		if !slices.Contains(names, want) {
			t.Errorf("reflection lacks %s: %v", want, names)
		}
	}
	// What it lists it can describe: that is what makes grpcurl work.
	if err := refl.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "vigil.v1.WalletService.Sign"}}); err != nil {
		t.Fatal(err)
	}
	if resp, err = refl.Recv(); err != nil || len(resp.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("reflection does not describe wallets: %v, %v", resp, err)
	}
	for _, service := range []string{"vigil.v1.OwnerService", "vigil.v1.WalletService"} {
		h, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		if err != nil || h.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %s: %v, %v", service, h, err)
		}
	}

	watch, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := watch.Recv(); err != nil || first.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", first, err)
	}
	s.Stop()
	if second, err := watch.Recv(); err != nil || second.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health of a stopping server: %v, %v", second, err)
	}
	if _, err := fulminev1.NewDelegateServiceClient(conn).GetDelegateInfo(ctx, &fulminev1.GetDelegateInfoRequest{}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "STOPPING") {
		t.Errorf("a call to a stopping server: %v", err)
	}
	wantCode(t, do(s, "GET", "/v1/delegate/info", ""), http.StatusServiceUnavailable, vigil.CodeStopping)
	if w := do(s, "GET", "/readyz", ""); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "stopping") {
		t.Errorf("readiness of a stopping server: %d %s", w.Code, w.Body)
	}
	if w := do(s, "GET", "/healthz", ""); w.Code != http.StatusOK {
		t.Errorf("it is still alive: %d", w.Code)
	}
}

// Owners' calls, too, are served on every transport.
func TestOwnersOnEveryTransport(t *testing.T) {
	f := &fake{one: vigil.Summary{State: "joining"}, list: make([]vigil.Summary, 2)}
	addr := listen(t, server(t, rpc.Config{Limits: roomy()}, f))
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	hc := &http.Client{Transport: tr}
	for name, o := range map[string]connect.ClientOption{"gRPC-Web": connect.WithGRPCWeb(), "Connect": connect.WithClientOptions(), "JSON": connect.WithProtoJSON()} {
		list := connect.NewClient[vigilpb.ListDelegatesRequest, vigilpb.ListDelegatesResponse](hc, "http://"+addr+vigilpb.OwnerService_ListDelegates_FullMethodName, o)
		a, err := list.CallUnary(t.Context(), connect.NewRequest(&vigilpb.ListDelegatesRequest{Message: "m", Proof: "p"}))
		if err != nil || len(a.Msg.GetDelegates()) != 2 {
			t.Errorf("%s: list: %v, %v", name, a, err)
		}
		cancel := connect.NewClient[vigilpb.CancelDelegateRequest, vigilpb.CancelDelegateResponse](hc, "http://"+addr+vigilpb.OwnerService_CancelDelegate_FullMethodName, o)
		f.err = vigil.Errorf(vigil.CodeNotFound, "none")
		_, err = cancel.CallUnary(t.Context(), connect.NewRequest(&vigilpb.CancelDelegateRequest{}))
		f.err = nil
		var told *connect.Error
		if !errors.As(err, &told) || told.Code() != connect.CodeNotFound || told.Message() != "NOT_FOUND: none" || len(told.Details()) != 1 {
			t.Errorf("%s: cancel: %v", name, err)
		}
		none := connect.NewClient[vigilpb.CancelDelegateRequest, vigilpb.CancelDelegateResponse](hc, "http://"+addr+"/vigil.v1.OwnerService/No", o)
		if _, err := none.CallUnary(t.Context(), connect.NewRequest(&vigilpb.CancelDelegateRequest{})); connect.CodeOf(err) != connect.CodeUnimplemented {
			t.Errorf("%s: no method: %v", name, err)
		}
	}
}

func TestGRPCMessageTooLarge(t *testing.T) {
	f := &fake{}
	conn := dial(t, listen(t, server(t, rpc.Config{Limits: rpc.Limits{Body: 10_000}}, f)))
	stock := fulminev1.NewDelegateServiceClient(conn)
	big := &fulminev1.DelegateRequest{Intent: &fulminev1.Intent{Proof: strings.Repeat("A", 10_001)}}
	if _, err := stock.Delegate(t.Context(), big); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("too large: %v", err)
	}
	small := &fulminev1.DelegateRequest{Intent: &fulminev1.Intent{Proof: strings.Repeat("A", 9_000)}}
	if _, err := stock.Delegate(t.Context(), small); err != nil || len(f.submitted) != 1 {
		t.Errorf("small enough, after it: %v", err)
	}
}

// A handler that panics costs one request, over gRPC and REST alike, and its
// text, which may hold what a request carried, stays out of answer and log.
func TestPanics(t *testing.T) {
	var log recorder
	var count counter
	f := &fake{panic: errors.New("the canary"), terms: fulmineTerms(t)}
	s := server(t, rpc.Config{Log: log.log(), Refused: count.refused}, f)
	conn := dial(t, listen(t, s))
	stock := fulminev1.NewDelegateServiceClient(conn)
	if _, err := stock.GetDelegateInfo(t.Context(), &fulminev1.GetDelegateInfoRequest{}); reason(err) != vigil.CodeInternal {
		t.Errorf("over gRPC: %v", err)
	}
	wantCode(t, do(s, "GET", "/v1/delegate/info", ""), http.StatusInternalServerError, vigil.CodeInternal)
	f.panic = nil
	if _, err := stock.GetDelegateInfo(t.Context(), &fulminev1.GetDelegateInfoRequest{}); err != nil {
		t.Errorf("the next one: %v", err)
	}
	if text := log.String(); strings.Count(text, "a handler panicked") != 2 || strings.Contains(text, "canary") {
		t.Errorf("the log: %s", text)
	}
	if count.of(vigil.CodeInternal) != 2 {
		t.Errorf("counted %d", count.of(vigil.CodeInternal))
	}
}

// What a source may hold open is bounded over gRPC as over REST.
func TestRefusedOverGRPC(t *testing.T) {
	conn := dial(t, listen(t, server(t, rpc.Config{Limits: rpc.Limits{Rate: .001, Burst: 1}}, &fake{})))
	stock := fulminev1.NewDelegateServiceClient(conn)
	if _, err := stock.GetDelegateInfo(t.Context(), &fulminev1.GetDelegateInfoRequest{}); err != nil {
		t.Fatal(err)
	}
	var header grpcHeader
	_, err := stock.GetDelegateInfo(t.Context(), &fulminev1.GetDelegateInfoRequest{}, grpc.Header(&header.md), grpc.Trailer(&header.trailer))
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "RATE_LIMITED: Too many requests") {
		t.Errorf("over the limit: %v", err)
	}
	if wait := append(header.md["retry-after"], header.trailer["retry-after"]...); len(wait) != 1 {
		t.Errorf("how long to wait: %v", wait)
	}
}

// A stream that ends before its time is no error of ours.
func TestReflectionStreamEnds(t *testing.T) {
	conn := dial(t, listen(t, server(t, rpc.Config{}, &fake{})))
	refl, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := refl.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := refl.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}
