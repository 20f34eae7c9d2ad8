package operator

import (
	"context"
	"errors"
	"net"
	"os"
	"path"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is an operator that does what a test tells it to.
type fake struct {
	arkv1.UnimplementedArkServiceServer
	arkv1.UnimplementedIndexerServiceServer

	lis    *bufconn.Listener
	server *grpc.Server
	opened chan *fakeStream // one for each GetEventStream

	mu       sync.Mutex
	info     *arkv1.GetInfoResponse
	calls    map[string]int
	seen     map[string]metadata.MD                             // of the last call
	answer   map[string]func(context.Context, any) (any, error) // by method name
	onStream func(*fakeStream, arkv1.ArkService_GetEventStreamServer) (handled bool, err error)
	streams  map[string]*fakeStream
	dials    int
	refuse   bool // connections
	wrap     func(net.Conn) net.Conn
}

// fakeStream is one open event stream as the operator sees it.
type fakeStream struct {
	id   string
	md   metadata.MD
	send chan *arkv1.GetEventStreamResponse
	end  chan error
	gone chan struct{} // closed when the handler has returned

	mu     sync.Mutex
	topics map[string]bool
}

func (s *fakeStream) has(topic string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topics[topic]
}

func (s *fakeStream) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.topics)
}

func newFake(t *testing.T, opts ...grpc.ServerOption) *fake {
	t.Helper()
	f := &fake{
		lis: bufconn.Listen(1 << 20), opened: make(chan *fakeStream, 64), info: capturedInfo(t),
		calls: make(map[string]int), seen: make(map[string]metadata.MD),
		answer: make(map[string]func(context.Context, any) (any, error)), streams: make(map[string]*fakeStream),
	}
	f.server = grpc.NewServer(append(opts, grpc.UnaryInterceptor(f.intercept))...)
	arkv1.RegisterArkServiceServer(f.server, f)
	arkv1.RegisterIndexerServiceServer(f.server, f)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := f.server.Serve(f.lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serving: %v", err)
		}
	})
	t.Cleanup(func() {
		f.server.Stop()
		serving.Wait()
	})
	return f
}

// client dials f. What the test does not set is set so that waits are short
// in the bubble's time and free of chance.
func (f *fake) client(t *testing.T, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{
		URL:    "operator.test:7070",
		Jitter: func() float64 { return 0 },
		DialContext: func(ctx context.Context, _ string) (net.Conn, error) {
			f.mu.Lock()
			f.dials++
			wrap, refuse := f.wrap, f.refuse
			f.mu.Unlock()
			if refuse {
				return nil, errors.New("connection refused")
			}
			conn, err := f.lis.DialContext(ctx)
			if err == nil && wrap != nil {
				conn = wrap(conn)
			}
			return conn, err
		},
	}
	if change != nil {
		change(&cfg)
	}
	c, err := Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return c
}

func (f *fake) on(method string, answer func(context.Context, any) (any, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer[method] = answer
}

func (f *fake) setInfo(change func(*arkv1.GetInfoResponse)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.info = proto.Clone(f.info).(*arkv1.GetInfoResponse)
	change(f.info)
}

func (f *fake) called(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

func (f *fake) header(method, key string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v := f.seen[method].Get(key); len(v) == 1 {
		return v[0]
	}
	return ""
}

// intercept counts, answers, and guards the digest as arkd does.
func (f *fake) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	method := path.Base(info.FullMethod)
	md, _ := metadata.FromIncomingContext(ctx)
	f.mu.Lock()
	f.calls[method]++
	f.seen[method] = md
	answer := f.answer[method]
	digest := f.info.GetDigest()
	f.mu.Unlock()
	_, isArk := info.Server.(arkv1.ArkServiceServer)
	if got := md.Get("x-digest"); isArk && len(got) == 1 && got[0] != digest {
		return nil, coded(codes.FailedPrecondition, 49, "DIGEST_MISMATCH", "DIGEST_MISMATCH (49): digest mismatch", map[string]string{
			"expected_digest": digest, "got_digest": got[0],
		})
	}
	if answer != nil {
		return answer(ctx, req)
	}
	return next(ctx, req)
}

// coded is a status as arkd makes it.
func coded(code codes.Code, n int32, name, text string, metadata map[string]string) error {
	st, err := status.New(code, text).WithDetails(&arkv1.ErrorDetails{Code: n, Name: name, Message: text, Metadata: metadata})
	if err != nil {
		return err
	}
	return st.Err()
}

func (f *fake) GetInfo(context.Context, *arkv1.GetInfoRequest) (*arkv1.GetInfoResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.info, nil
}

func (f *fake) UpdateStreamTopics(_ context.Context, req *arkv1.UpdateStreamTopicsRequest) (*arkv1.UpdateStreamTopicsResponse, error) {
	f.mu.Lock()
	s, ok := f.streams[req.GetStreamId()]
	f.mu.Unlock()
	if !ok {
		return nil, status.Error(codes.NotFound, "subscription not found: "+req.GetStreamId())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, topic := range req.GetModify().GetAddTopics() {
		s.topics[topic] = true
	}
	for _, topic := range req.GetModify().GetRemoveTopics() {
		delete(s.topics, topic)
	}
	return &arkv1.UpdateStreamTopicsResponse{TopicsAdded: req.GetModify().GetAddTopics(), TopicsRemoved: req.GetModify().GetRemoveTopics()}, nil
}

func (f *fake) GetEventStream(req *arkv1.GetEventStreamRequest, out arkv1.ArkService_GetEventStreamServer) error {
	s := &fakeStream{
		send: make(chan *arkv1.GetEventStreamResponse), end: make(chan error), gone: make(chan struct{}),
		topics: make(map[string]bool),
	}
	defer close(s.gone)
	s.md, _ = metadata.FromIncomingContext(out.Context())
	for _, topic := range req.GetTopics() {
		s.topics[topic] = true
	}
	f.mu.Lock()
	f.calls["GetEventStream"]++
	s.id = "stream-" + string(rune('a'+f.calls["GetEventStream"]-1))
	f.streams[s.id] = s
	onStream := f.onStream
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.streams, s.id)
		f.mu.Unlock()
	}()
	if onStream != nil {
		if handled, err := onStream(s, out); handled {
			return err
		}
	}
	if err := out.Send(started(s.id)); err != nil {
		return err
	}
	f.opened <- s
	for {
		select {
		case m := <-s.send:
			if err := out.Send(m); err != nil {
				return err
			}
		case err := <-s.end:
			return err
		case <-out.Context().Done():
			return nil
		}
	}
}

func started(id string) *arkv1.GetEventStreamResponse {
	return &arkv1.GetEventStreamResponse{Event: &arkv1.GetEventStreamResponse_StreamStarted{StreamStarted: &arkv1.StreamStartedEvent{Id: id}}}
}

func heartbeat() *arkv1.GetEventStreamResponse {
	return &arkv1.GetEventStreamResponse{Event: &arkv1.GetEventStreamResponse_Heartbeat{Heartbeat: &arkv1.Heartbeat{}}}
}

func failed(id, reason string) *arkv1.GetEventStreamResponse {
	return &arkv1.GetEventStreamResponse{Event: &arkv1.GetEventStreamResponse_BatchFailed{BatchFailed: &arkv1.BatchFailedEvent{Id: id, Reason: reason}}}
}

func capturedInfo(t testing.TB) *arkv1.GetInfoResponse {
	t.Helper()
	b, err := os.ReadFile("testdata/info.json")
	if err != nil {
		t.Fatal(err)
	}
	m := new(arkv1.GetInfoResponse)
	if err := protojson.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// next takes one event, or fails the test after a minute of the bubble's time.
func next(t *testing.T, s *Stream) Event {
	t.Helper()
	select {
	case ev, ok := <-s.C():
		if !ok {
			t.Fatal("the stream ended")
		}
		return ev
	case <-time.After(time.Minute):
		t.Fatal("no event within a minute")
		return nil
	}
}

// want takes one event and checks its type.
func want[E any](t *testing.T, s *Stream) E {
	t.Helper()
	ev := next(t, s)
	e, ok := ev.(E)
	if !ok {
		t.Fatalf("got %#v, want a %T", ev, *new(E))
	}
	return e
}
