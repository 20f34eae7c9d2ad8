package rpc_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/vigilpb"
)

func nonce() (n [16]byte) {
	_, _ = rand.Read(n[:])
	return n
}

// refusedErr is a refusal as a client of any transport sees it.
type refusedErr struct {
	code  vigil.Code
	text  string
	clock *vigilpb.ServerClock
}

func (e *refusedErr) Error() string { return fmt.Sprintf("%s (%s)", e.code, e.text) }

// codeIn is the code of a refusal, or "" when there was none.
func codeIn(err error) vigil.Code {
	var r *refusedErr
	if errors.As(err, &r) {
		return r.code
	}
	return ""
}

func (e *refusedErr) detail(m any) {
	switch m := m.(type) {
	case *errdetails.ErrorInfo:
		e.code = vigil.Code(m.GetReason())
	case *vigilpb.ServerClock:
		e.clock = m
	}
}

// transport is one way to the service.
type transport struct {
	name string
	json bool
	call func(ctx context.Context, method string, q *vigilpb.SignedRequest) (*vigilpb.SignedAnswer, error)
	// watch opens a stream and returns how to read it, nil, io.EOF at its end.
	watch func(ctx context.Context, q *vigilpb.SignedRequest) (next func() (*vigilpb.SignedAnswer, error), err error)
}

const watchMethod = vigilpb.WalletService_Watch_FullMethodName

// transports are all ways to a server.
func transports(t testing.TB, addr string) []transport {
	t.Helper()
	return over(t, dial(t, addr), &http.Transport{}, "http://"+addr)
}

func over(t testing.TB, conn *grpc.ClientConn, tr *http.Transport, url string) []transport {
	t.Helper()
	t.Cleanup(tr.CloseIdleConnections)
	hc := &http.Client{Transport: tr}
	return []transport{
		overGRPC(conn),
		overConnect("gRPC-Web", hc, url, connect.WithGRPCWeb()),
		overConnect("Connect", hc, url),
		overConnect("Connect with JSON", hc, url, connect.WithProtoJSON()),
		overREST(hc, url),
	}
}

func overGRPC(conn *grpc.ClientConn) transport {
	told := func(err error) error {
		if err == nil || errors.Is(err, io.EOF) {
			return err
		}
		s := status.Convert(err)
		e := &refusedErr{text: s.Message()}
		for _, d := range s.Details() {
			e.detail(d)
		}
		return e
	}
	return transport{
		name: "gRPC",
		call: func(ctx context.Context, method string, q *vigilpb.SignedRequest) (*vigilpb.SignedAnswer, error) {
			a := &vigilpb.SignedAnswer{}
			return a, told(conn.Invoke(ctx, method, q, a))
		},
		watch: func(ctx context.Context, q *vigilpb.SignedRequest) (func() (*vigilpb.SignedAnswer, error), error) {
			s, err := vigilpb.NewWalletServiceClient(conn).Watch(ctx, q)
			if err != nil {
				return nil, told(err)
			}
			return func() (*vigilpb.SignedAnswer, error) {
				a, err := s.Recv()
				return a, told(err)
			}, nil
		},
	}
}

func overConnect(name string, hc *http.Client, url string, o ...connect.ClientOption) transport {
	told := func(err error) error {
		var c *connect.Error
		if !errors.As(err, &c) {
			return err
		}
		e := &refusedErr{text: c.Message()}
		for _, d := range c.Details() {
			if m, err := d.Value(); err == nil {
				e.detail(m)
			}
		}
		return e
	}
	client := func(method string) *connect.Client[vigilpb.SignedRequest, vigilpb.SignedAnswer] {
		return connect.NewClient[vigilpb.SignedRequest, vigilpb.SignedAnswer](hc, url+method, o...)
	}
	return transport{
		name: name, json: name == "Connect with JSON",
		call: func(ctx context.Context, method string, q *vigilpb.SignedRequest) (*vigilpb.SignedAnswer, error) {
			a, err := client(method).CallUnary(ctx, connect.NewRequest(q))
			if err != nil {
				return nil, told(err)
			}
			return a.Msg, nil
		},
		watch: func(ctx context.Context, q *vigilpb.SignedRequest) (func() (*vigilpb.SignedAnswer, error), error) {
			s, err := client(watchMethod).CallServerStream(ctx, connect.NewRequest(q))
			if err != nil {
				return nil, told(err)
			}
			return func() (*vigilpb.SignedAnswer, error) {
				if s.Receive() {
					return s.Msg(), nil
				}
				if s.Err() == nil {
					return nil, io.EOF
				}
				return nil, told(s.Err())
			}, nil
		},
	}
}

// pathOf is a method's path in REST, as its description has it.
func pathOf(method string) string {
	methods := vigilpb.File_vigil_v1_wallet_proto.Services().ByName("WalletService").Methods()
	for i := range methods.Len() {
		if m := methods.Get(i); method == "/vigil.v1.WalletService/"+string(m.Name()) {
			return proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule).GetPost()
		}
	}
	return ""
}

func toldREST(b []byte) error {
	s := &statuspb.Status{}
	if err := protojson.Unmarshal(b, s); err != nil {
		return fmt.Errorf("%q: %w", b, err)
	}
	e := &refusedErr{text: s.GetMessage()}
	for _, d := range s.GetDetails() {
		if m, err := d.UnmarshalNew(); err == nil {
			e.detail(m)
		}
	}
	return e
}

func overREST(hc *http.Client, url string) transport {
	post := func(ctx context.Context, method string, q *vigilpb.SignedRequest) (*http.Response, error) {
		b, err := protojson.Marshal(q)
		if err != nil {
			return nil, err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+pathOf(method), bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		return hc.Do(r)
	}
	return transport{
		name: "REST", json: true,
		call: func(ctx context.Context, method string, q *vigilpb.SignedRequest) (*vigilpb.SignedAnswer, error) {
			resp, err := post(ctx, method, q)
			if err != nil {
				return nil, err
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				return nil, err
			}
			if resp.StatusCode != http.StatusOK {
				return nil, toldREST(b)
			}
			a := &vigilpb.SignedAnswer{}
			return a, protojson.Unmarshal(b, a)
		},
		watch: func(ctx context.Context, q *vigilpb.SignedRequest) (func() (*vigilpb.SignedAnswer, error), error) {
			resp, err := post(ctx, watchMethod, q)
			if err != nil {
				return nil, err
			}
			if resp.StatusCode != http.StatusOK {
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil {
					return nil, err
				}
				return nil, toldREST(b)
			}
			lines := json.NewDecoder(resp.Body)
			return func() (*vigilpb.SignedAnswer, error) {
				var line struct{ Result, Error json.RawMessage }
				if err := lines.Decode(&line); err != nil {
					_ = resp.Body.Close()
					return nil, err
				}
				if line.Error != nil {
					_ = resp.Body.Close()
					return nil, toldREST(line.Error)
				}
				a := &vigilpb.SignedAnswer{}
				return a, protojson.Unmarshal(line.Result, a)
			}, nil
		},
	}
}
