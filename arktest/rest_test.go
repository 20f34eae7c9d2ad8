package arktest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/arktest"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// paths are where the calls of a batch live in REST.
func paths() map[string]string {
	return map[string]string{
		arkv1.ArkService_RegisterIntent_FullMethodName:         "/v1/batch/registerIntent",
		arkv1.ArkService_DeleteIntent_FullMethodName:           "/v1/batch/deleteIntent",
		arkv1.ArkService_EstimateIntentFee_FullMethodName:      "/v1/batch/estimateFee",
		arkv1.ArkService_ConfirmRegistration_FullMethodName:    "/v1/batch/ack",
		arkv1.ArkService_SubmitTreeNonces_FullMethodName:       "/v1/batch/tree/submitNonces",
		arkv1.ArkService_SubmitTreeSignatures_FullMethodName:   "/v1/batch/tree/submitSignatures",
		arkv1.ArkService_SubmitSignedForfeitTxs_FullMethodName: "/v1/batch/submitForfeitTxs",
		arkv1.ArkService_UpdateStreamTopics_FullMethodName:     "/v1/batch/updateTopics",
		arkv1.ArkService_SubmitTx_FullMethodName:               "/v1/tx/submit",
		arkv1.ArkService_FinalizeTx_FullMethodName:             "/v1/tx/finalize",
		arkv1.ArkService_GetPendingTx_FullMethodName:           "/v1/tx/pending",
	}
}

// rest is a gRPC connection that speaks REST and SSE instead, and keeps every
// answer as it came.
type rest struct {
	base string

	mu      sync.Mutex
	answers map[string][]byte // last body by path
	frames  [][]byte          // every SSE data frame
}

func (r *rest) keep(path string, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[path] = body
}

// Invoke posts a request, or gets GetInfo.
func (r *rest) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+"/v1/info", nil)
	path := "/v1/info"
	if method != arkv1.ArkService_GetInfo_FullMethodName {
		if path = paths()[method]; path == "" {
			return fmt.Errorf("no REST path for %s", method)
		}
		raw, mErr := protojson.Marshal(args.(proto.Message))
		if mErr != nil {
			return mErr
		}
		req, err = http.NewRequestWithContext(ctx, http.MethodPost, r.base+path, bytes.NewReader(raw))
		req.Header.Set("Content-Type", "application/json")
	}
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	r.keep(path, body)
	if res.StatusCode != http.StatusOK {
		var st status.Status
		if err := protojson.Unmarshal(body, &st); err != nil {
			return fmt.Errorf("error body %s: %w", body, err)
		}
		return grpcstatus.ErrorProto(&st)
	}
	return protojson.Unmarshal(body, reply.(proto.Message))
}

// NewStream opens the batch event stream.
func (r *rest) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return &sseStream{ctx: ctx, r: r}, nil
}

type sseStream struct {
	ctx  context.Context
	r    *rest
	body io.ReadCloser
	scan *bufio.Scanner
}

func (s *sseStream) Header() (metadata.MD, error) { return nil, nil }
func (s *sseStream) Trailer() metadata.MD         { return nil }
func (s *sseStream) CloseSend() error             { return nil }
func (s *sseStream) Context() context.Context     { return s.ctx }

func (s *sseStream) SendMsg(m any) error {
	q := url.Values{"topics": m.(*arkv1.GetEventStreamRequest).Topics}
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.r.base+"/v1/batch/events?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if ct := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || ct != "text/event-stream" {
		return fmt.Errorf("status %d, %s", res.StatusCode, ct)
	}
	context.AfterFunc(s.ctx, func() { _ = res.Body.Close() })
	s.body, s.scan = res.Body, bufio.NewScanner(res.Body)
	s.scan.Buffer(nil, 1<<24)
	return nil
}

func (s *sseStream) RecvMsg(m any) error {
	for s.scan.Scan() {
		data, ok := strings.CutPrefix(s.scan.Text(), "data: ")
		if !ok || data == "" {
			continue
		}
		s.r.mu.Lock()
		s.r.frames = append(s.r.frames, []byte(data))
		s.r.mu.Unlock()
		return protojson.Unmarshal([]byte(data), m.(proto.Message))
	}
	if err := s.scan.Err(); err != nil {
		return err
	}
	return io.EOF
}

// newRestParty is a party that speaks REST.
func newRestParty(t *testing.T, op *arktest.Operator) (*party, *rest) {
	t.Helper()
	r := &rest{base: op.URL(), answers: map[string][]byte{}}
	p := &party{t: t, op: op, ark: arkv1.NewArkServiceClient(r), index: arkv1.NewIndexerServiceClient(r)}
	p.key, p.cosigner = newKey(t), newKey(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return p, r
}

func get(t *testing.T, u string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func squash(s string) string { return strings.ReplaceAll(s, ", ", ",") }

func TestTransport(t *testing.T) {
	op := start(t, arktest.Config{NoEsplora: true})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for _, c := range []struct {
		path   string
		header []string
		status int
		body   string // "" is not looked at
	}{
		{"/v1/info", nil, 200, ""},
		{"/v1/batch/events", nil, 501, `{"code":12,"message":"Streaming Method Not Allowed","details":[]}`},
		{"/v1/txs", []string{"Accept", "application/json"}, 501, `{"code":12,"message":"Streaming Method Not Allowed","details":[]}`},
		{"/v1/nowhere", nil, 404, `{"code":5,"message":"Not Found","details":[]}`},
		{"/v1/intent?txid=00", nil, 404, ""},
		{"/v1/indexer/vtxos", nil, 400, `{"code":3,"message":"missing outpoints or scripts filter","details":[]}`},
		{"/v1/indexer/vtxos?outpoints=" + strings.Repeat("ab", 32) + ":0&page.size=5&page.index=0", nil, 200, `{"vtxos":[],"page":{"current":1,"next":0,"total":0}}`},
		{"/v1/indexer/virtualTx/" + strings.Repeat("ab", 32) + "," + strings.Repeat("cd", 32), nil, 200, `{"txs":[],"page":null,"authToken":""}`},
		{"/v1/intent?txid=00", []string{"X-Digest", "00"}, 400, ""},
		{"/v1/info", []string{"X-Digest", "00"}, 200, ""},
	} {
		res, body := get(t, op.URL()+c.path, c.header...)
		if res.StatusCode != c.status || c.body != "" && squash(body) != c.body {
			t.Errorf("%s %v: %d %s, want %d %s", c.path, c.header, res.StatusCode, body, c.status, c.body)
		}
		if res.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: a browser may not read the answer", c.path)
		}
	}
	_, body := get(t, op.URL()+"/v1/intent?txid=00", "X-Digest", "00")
	for _, part := range []string{
		`"code":9`, `"message":"DIGEST_MISMATCH (49): invalid digest header"`, `"@type":"type.googleapis.com/ark.v1.ErrorDetails"`,
		`"code":49`, `"name":"DIGEST_MISMATCH"`, `"got_digest":"00"`,
	} {
		if !strings.Contains(squash(body), part) {
			t.Errorf("error body %s lacks %s", body, part)
		}
	}
}

func TestPreflight(t *testing.T) {
	op := start(t, arktest.Config{NoEsplora: true})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, op.URL()+"/v1/batch/ack", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	h := res.Header
	if res.StatusCode != 200 || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Headers") != "*" ||
		h.Get("Access-Control-Allow-Methods") != "POST, GET, OPTIONS" {
		t.Errorf("preflight: %d %v", res.StatusCode, h)
	}
}

// TestStreamEnds: an SSE stream that the operator ends says so; one that fails
// says why.
func TestStreamEnds(t *testing.T) {
	op := start(t, arktest.Config{NoEsplora: true})
	_, body := get(t, op.URL()+"/v1/indexer/script/subscription/none", "Accept", "text/event-stream")
	if !strings.HasPrefix(body, "event: failure\ndata: {\"code\":5,") || !strings.Contains(body, "subscription none not found") || !strings.HasSuffix(body, "}\n\n") {
		t.Errorf("a failing stream sends %q", body)
	}
	r := &rest{base: op.URL(), answers: map[string][]byte{}}
	s, err := arkv1.NewArkServiceClient(r).GetEventStream(t.Context(), &arkv1.GetEventStreamRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	op.Down()
	if _, err := s.Recv(); err == nil {
		t.Error("the stream goes on without its operator")
	} else if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Logf("cut with %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
}
