package arktest_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vigil-ark/vigil/arktest"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	clock := arktest.NewManualClock(time.Unix(1_800_000_000, 0))
	op := start(t, arktest.Config{Clock: clock, NoEsplora: true})
	p := newParty(t, op)
	ctx := deadline(t)
	info := func(ctx context.Context) error {
		_, err := p.ark.GetInfo(ctx, &arkv1.GetInfoRequest{})
		return err
	}
	op.Fault(arktest.Fault{Method: "GetInfo", Code: codes.Unavailable, Times: 2})
	for range 2 {
		if err := info(ctx); status.Code(err) != codes.Unavailable {
			t.Errorf("a failing call gives %v", err)
		}
	}
	if err := info(ctx); err != nil {
		t.Errorf("the fault outlives its times: %v", err)
	}

	op.Fault(arktest.Fault{Method: "GetInfo", Hang: true})
	short, cancel := context.WithCancel(ctx)
	hung := make(chan error, 1)
	calls := op.Stats().Calls[arkv1.ArkService_GetInfo_FullMethodName]
	go func() { hung <- info(short) }()
	await(t, ctx, op, "the call", func(s arktest.Stats) bool { return s.Calls[arkv1.ArkService_GetInfo_FullMethodName] > calls })
	cancel()
	if err := <-hung; status.Code(err) != codes.Canceled {
		t.Errorf("a hanging call gives %v", err)
	}
	op.ClearFaults()

	op.Fault(arktest.Fault{Delay: 5 * time.Second, Times: 1})
	slow := make(chan error, 1)
	go func() { slow <- info(ctx) }()
	await(t, ctx, op, "the call", func(s arktest.Stats) bool { return s.Calls[arkv1.ArkService_GetInfo_FullMethodName] > calls+1 })
	select {
	case err := <-slow:
		t.Errorf("a slow call answers at once: %v", err)
	default:
	}
	for done := false; !done; {
		clock.Advance(time.Second)
		select {
		case err := <-slow:
			if err != nil {
				t.Error(err)
			}
			done = true
		default:
		}
	}
	op.ClearFaults()
}

// TestLostAnswer: the work is done, and the caller cannot know: how an intent's
// id is lost.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	op, p, coins := boarded(t, arktest.Settings{}, 50_000)
	in := p.proof(p.message(), coins, p.pay(50_000))
	op.Fault(arktest.Fault{Method: "RegisterIntent", LoseAnswer: true, Times: 1})
	if _, err := p.register(in); status.Code(err) != codes.Unavailable {
		t.Fatalf("the answer came: %v", err)
	}
	if n := len(op.Stats().Queue); n != 1 {
		t.Fatalf("%d intents queued", n)
	}
	if _, err := p.register(in); codeOf(err) != 0 {
		t.Errorf("registered again: %v", err)
	}
}

func TestCutStreams(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{NoEsplora: true})
	p := newParty(t, op)
	s := p.listen(deadline(t), nil, nil)
	op.CutStreams()
	if _, err := s.stream.Recv(); err == nil {
		t.Error("the stream goes on")
	}
	p.listen(deadline(t), nil, nil)
}

// TestDown: a stopped operator refuses, and comes back at the same place.
func TestDown(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{NoEsplora: true})
	p := newParty(t, op)
	p.info()
	op.Down()
	if _, err := p.ark.GetInfo(deadline(t), &arkv1.GetInfoRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a stopped operator answers %v", err)
	}
	if err := op.Up(); err != nil {
		t.Fatal(err)
	}
	reconnect(t, p).info()
}
