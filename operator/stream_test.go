package operator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/bip340"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// streaming runs a test in a bubble with a client's stream that is up.
func streaming(t *testing.T, change func(*Config), test func(t *testing.T, f *fake, c *Client, s *Stream, op *fakeStream)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, change)
		s, err := c.Events(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want[StreamUp](t, s)
		test(t, f, c, s, <-f.opened)
	})
}

func TestStreamDelivers(t *testing.T) {
	streaming(t, nil, func(t *testing.T, f *fake, c *Client, s *Stream, op *fakeStream) {
		if op.md.Get("x-digest")[0] != f.info.GetDigest() || op.md.Get("x-build-version")[0] != "0.9.9" {
			t.Errorf("headers %v", op.md)
		}
		op.send <- heartbeat()
		op.send <- sound()["started"]
		op.send <- sound()["started"] // a duplicate is the consumer's to tolerate
		op.send <- failed("b", "x")
		bad := sound()["finalized"]
		bad.GetBatchFinalized().CommitmentTxid = "zz"
		op.send <- bad
		op.send <- &arkv1.GetEventStreamResponse{} // of a later protocol
		op.send <- sound()["finalized"]
		want[batch.Started](t, s)
		want[batch.Started](t, s)
		want[batch.Failed](t, s)
		if m := want[Malformed](t, s); m.BatchID != "b" || !errors.Is(m.Err, ErrAnswer) {
			t.Errorf("got %+v", m)
		}
		want[batch.Finalized](t, s)
		s.Close()
		if _, ok := <-s.C(); ok {
			t.Error("an event after Close")
		}
		if err := s.Add(t.Context(), "x"); !errors.Is(err, ErrClosed) {
			t.Errorf("Add after Close: %v", err)
		}
		s.Close() // again
	})
}

func TestTopicsWhileItRuns(t *testing.T) {
	streaming(t, nil, func(t *testing.T, f *fake, c *Client, s *Stream, op *fakeStream) {
		key := KeyTopic(bip340.PubKey{2, 0xAB})
		if err := s.Add(t.Context(), " "+strings.ToUpper(key)+" ", OutpointTopic(outpoint(1))); err != nil {
			t.Fatal(err)
		}
		if !op.has(key) || !op.has(outpoint(1).String()) || op.count() != 2 {
			t.Errorf("the operator knows %v", op.topics)
		}
		// The same key for another delegate costs no call and outlives the first.
		if err := s.Add(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if n := f.called("UpdateStreamTopics"); n != 1 {
			t.Errorf("%d calls", n)
		}
		s.Remove(key, outpoint(1).String())
		synctest.Wait()
		if !op.has(key) || op.has(outpoint(1).String()) {
			t.Errorf("the operator knows %v", op.topics)
		}
		s.Remove(key)
		s.Remove(key, "never added", "")
		synctest.Wait()
		if op.count() != 0 {
			t.Errorf("the operator knows %v", op.topics)
		}
		for _, bad := range []string{"", "  ", strings.Repeat("a", maxTopicLen+1)} {
			if err := s.Add(t.Context(), bad); !errors.Is(err, ErrTopics) {
				t.Errorf("%.10q: %v", bad, err)
			}
		}
	})
}

func TestManyAddsFewCalls(t *testing.T) {
	streaming(t, nil, func(t *testing.T, f *fake, c *Client, s *Stream, op *fakeStream) {
		release := make(chan struct{})
		f.on("UpdateStreamTopics", func(ctx context.Context, req any) (any, error) {
			<-release
			return f.UpdateStreamTopics(ctx, req.(*arkv1.UpdateStreamTopicsRequest))
		})
		var adds sync.WaitGroup
		for i := range 3000 {
			adds.Go(func() {
				if err := s.Add(t.Context(), OutpointTopic(outpoint(i)), "shared"); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // one call waits for its answer, everybody else behind it
		close(release)
		adds.Wait()
		if op.count() != 3001 {
			t.Errorf("the operator knows %d topics", op.count())
		}
		if n := f.called("UpdateStreamTopics"); n > 5 {
			t.Errorf("%d calls for 3001 topics of 1024 a call", n)
		}
	})
}

func TestReconnectAddsEverythingAgain(t *testing.T) {
	streaming(t, nil, func(t *testing.T, f *fake, c *Client, s *Stream, op *fakeStream) {
		if err := s.Add(t.Context(), "a", "b", "c"); err != nil {
			t.Fatal(err)
		}
		s.Remove("b")
		f.setInfo(func(m *arkv1.GetInfoResponse) { m.Digest, m.Dust = "after-the-restart", 500 })
		op.end <- status.Error(codes.Unavailable, "restarting")
		if down := want[StreamDown](t, s); ClassOf(down.Err) != Transient {
			t.Errorf("got %v", down.Err)
		}
		// Asked for while nothing is open: waits for the next stream.
		if err := s.Add(t.Context(), "d"); err != nil {
			t.Fatal(err)
		}
		want[StreamUp](t, s)
		again := <-f.opened
		if !again.has("a") || again.has("b") || !again.has("c") || !again.has("d") || again.count() != 3 {
			t.Errorf("the operator knows %v", again.topics)
		}
		if again.md.Get("x-digest")[0] != "after-the-restart" {
			t.Errorf("digest %v", again.md.Get("x-digest"))
		}
		if p, err := c.Params(t.Context()); err != nil || p.Dust != 500 {
			t.Errorf("parameters were not read again: %+v, %v", p, err)
		}
		again.send <- failed("b", "x")
		want[batch.Failed](t, s)

		again.end <- nil // closed in order
		if down := want[StreamDown](t, s); !errors.Is(down.Err, ErrStreamEnded) {
			t.Errorf("got %v", down.Err)
		}
		want[StreamUp](t, s)
	})
}

// TestMoreTopicsThanOneRequest opens a stream with more topics than its first
// request can name: all are told before StreamUp.
func TestMoreTopicsThanOneRequest(t *testing.T) {
	streaming(t, nil, func(t *testing.T, f *fake, c *Client, s *Stream, op *fakeStream) {
		list := make([]string, openTopics+2*modifyTopics)
		for i := range list {
			list[i] = fmt.Sprint("topic-", i)
		}
		if err := s.Add(t.Context(), list...); err != nil {
			t.Fatal(err)
		}
		op.end <- nil
		want[StreamDown](t, s)
		want[StreamUp](t, s)
		if again := <-f.opened; again.count() != len(list) {
			t.Errorf("the operator knows %d of %d topics at StreamUp", again.count(), len(list))
		}
		if err := s.Add(t.Context(), make([]string, maxTopics)...); !errors.Is(err, ErrTopics) {
			t.Errorf("empty ones: %v", err)
		}
		for i := range list {
			list[i] += "-more"
		}
		for range maxTopics/len(list) + 1 {
			if err := s.topics.add(list); err != nil {
				if !errors.Is(err, ErrTopics) {
					t.Error(err)
				}
				break
			}
		}
		if len(s.topics.want) > maxTopics {
			t.Errorf("%d topics", len(s.topics.want))
		}
	})
}

func TestAddGivesUpCleanly(t *testing.T) {
	streaming(t, nil, func(t *testing.T, f *fake, c *Client, s *Stream, op *fakeStream) {
		f.on("UpdateStreamTopics", func(context.Context, any) (any, error) { return nil, status.Error(codes.Unavailable, "x") })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := s.Add(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		f.on("UpdateStreamTopics", nil)
		if err := s.Add(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		if op.has("a") || !op.has("b") {
			t.Errorf("the operator knows %v", op.topics)
		}
	})
}

// TestTopicsRefusedReopens holds that a stream whose topics cannot be changed is
// replaced by one that begins with them.
func TestTopicsRefusedReopens(t *testing.T) {
	for name, refusal := range map[string]error{
		"unknown stream": status.Error(codes.NotFound, "subscription not found"),
		"never works":    status.Error(codes.Internal, "broken"),
	} {
		t.Run(name, func(t *testing.T) {
			streaming(t, nil, func(t *testing.T, f *fake, c *Client, s *Stream, op *fakeStream) {
				f.on("UpdateStreamTopics", func(context.Context, any) (any, error) { return nil, refusal })
				if err := s.Add(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
				if down := want[StreamDown](t, s); ClassOf(down.Err) != Transient {
					t.Errorf("got %v, a %v", down.Err, ClassOf(down.Err))
				}
				want[StreamUp](t, s)
				if again := <-f.opened; !again.has("a") {
					t.Error("the new stream does not begin with the topic")
				}
				<-op.gone
			})
		})
	}
}

// TestBackoff measures the waits between attempts in the bubble's time.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		var at []time.Time
		f.onStream = func(*fakeStream, arkv1.ArkService_GetEventStreamServer) (bool, error) {
			at = append(at, time.Now())
			return true, status.Error(codes.Unavailable, "down")
		}
		c := f.client(t, func(cfg *Config) { cfg.Backoff = Backoff{Min: time.Second, Max: 8 * time.Second} })
		s, err := c.Events(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(30 * time.Second)
		s.Close()
		var gaps []time.Duration
		for i := range len(at) - 1 {
			gaps = append(gaps, at[i+1].Sub(at[i]))
		}
		// Without jitter half of the doubling waits is left.
		wanted := []time.Duration{time.Second / 2, time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second}
		if len(gaps) < len(wanted) || !slices.Equal(gaps[:len(wanted)], wanted) {
			t.Errorf("waited %v", gaps)
		}
	})
	b := Backoff{Min: time.Second, Max: time.Minute}
	for _, j := range []float64{0, 0.5, 0.999} {
		for attempt := range 100 {
			d := b.delay(attempt, func() float64 { return j })
			if d < time.Second/2 || d > time.Minute {
				t.Errorf("attempt %d, jitter %v: %v", attempt, j, d)
			}
		}
	}
}

// TestSilenceIsDeath lets the operator go on holding the stream without a word.
func TestSilenceIsDeath(t *testing.T) {
	streaming(t, func(cfg *Config) { cfg.Timeouts.Silence = 20 * time.Second }, func(t *testing.T, f *fake, c *Client, s *Stream, op *fakeStream) {
		for range 10 { // heartbeats keep it alive
			<-time.After(15 * time.Second)
			op.send <- heartbeat()
		}
		synctest.Wait()
		start := time.Now()
		down := want[StreamDown](t, s)
		if !errors.Is(down.Err, ErrSilent) || time.Since(start) != 20*time.Second {
			t.Errorf("%v after %v", down.Err, time.Since(start))
		}
		want[StreamUp](t, s)
		<-op.gone // the operator is not left with the old one
	})
}

// deaf is a connection whose peer vanished: nothing arrives, and nothing says so.
type deaf struct {
	net.Conn
	cut    <-chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (d *deaf) Read(b []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	buf := make([]byte, len(b))
	got := make(chan result, 1)
	go func() { n, err := d.Conn.Read(buf); got <- result{n, err} }()
	select {
	case <-d.cut:
		<-d.closed
		return 0, net.ErrClosed
	case r := <-got:
		return copy(b, buf[:r.n]), r.err
	}
}

func (d *deaf) Write(b []byte) (int, error) {
	select {
	case <-d.cut:
		return len(b), nil
	default:
		return d.Conn.Write(b)
	}
}

func (d *deaf) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

// TestHalfOpen cuts the connection without a word: the client must find out by
// silence and come back on a new connection, not on the old one.
func TestHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cut := make(chan struct{})
		first := true
		f.wrap = func(conn net.Conn) net.Conn {
			if !first {
				return conn
			}
			first = false
			return &deaf{Conn: conn, cut: cut, closed: make(chan struct{})}
		}
		c := f.client(t, nil)
		s, err := c.Events(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want[StreamUp](t, s)
		close(cut)
		start := time.Now()
		<-time.After(c.cfg.Timeouts.Silence)
		down := want[StreamDown](t, s)
		if !errors.Is(down.Err, ErrSilent) {
			t.Errorf("got %v", down.Err)
		}
		want[StreamUp](t, s)
		if took := time.Since(start); took > c.cfg.Timeouts.Silence+2*c.cfg.Backoff.Max {
			t.Errorf("back after %v", took)
		}
		if f.dials != 2 {
			t.Errorf("%d connections", f.dials)
		}
		if _, err := c.Info(t.Context()); err != nil {
			t.Errorf("a call on the new connection: %v", err)
		}
	})
}

func TestNoStreamStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		n := 0
		f.onStream = func(s *fakeStream, out arkv1.ArkService_GetEventStreamServer) (bool, error) {
			switch n++; n {
			case 1: // opens and says nothing
				<-out.Context().Done()
				return true, nil
			case 2: // begins with another event
				_ = out.Send(heartbeat())
				return true, nil
			case 3: // an id that is none
				_ = out.Send(started("a b"))
				return true, nil
			}
			return false, nil
		}
		s, err := f.client(t, nil).Events(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		want[StreamUp](t, s) // and no StreamDown before it
		if n != 4 || time.Since(start) < 15*time.Second {
			t.Errorf("up at attempt %d after %v", n, time.Since(start))
		}
	})
}

// TestSlowConsumer never takes an event until the queue is full: the stream is
// dropped instead of growing, nothing that was queued is lost, and it comes back
// once the queue was emptied.
func TestSlowConsumer(t *testing.T) {
	streaming(t, nil, func(t *testing.T, f *fake, c *Client, s *Stream, op *fakeStream) {
		sent := 0
	flood:
		for {
			select {
			case op.send <- failed("b", "x"):
				sent++
			case <-op.gone:
				break flood
			}
			if sent == 100*maxQueued { // many times what the transport buffers beside
				t.Fatal("the queue has no bound")
			}
		}
		synctest.Wait()
		if n := len(s.queue.events); n > maxQueued+2 {
			t.Errorf("%d events are queued", n)
		}
		if n := len(f.opened); n != 0 {
			t.Errorf("%d streams were opened while the consumer slept", n)
		}
		<-time.After(time.Hour)
		if n := len(f.opened); n != 0 {
			t.Errorf("%d streams were opened within an hour in which nothing was taken", n)
		}
		got := 0
		for {
			ev := next(t, s)
			if _, ok := ev.(batch.Failed); ok {
				got++
				continue
			}
			if down, ok := ev.(StreamDown); !ok || !errors.Is(down.Err, ErrSlowConsumer) {
				t.Errorf("got %#v", ev)
			}
			break
		}
		if got < maxQueued || got > sent {
			t.Errorf("%d events of %d, want the %d that were queued", got, sent, maxQueued)
		}
		want[StreamUp](t, s)
	})
}

func TestQueueBytes(t *testing.T) {
	q := newQueue()
	if !q.push(1, maxQueuedBytes) || q.push(2, 1) {
		t.Error("bytes are not bounded")
	}
	q.force(3)
	if a, _ := q.pop(); a != 1 || !q.push(4, maxQueuedBytes) {
		t.Error("room is not given back")
	}
	for _, n := range []int{3, 4} {
		if got, ok := q.pop(); !ok || got != n {
			t.Errorf("got %v", got)
		}
	}
	if _, ok := q.pop(); ok || !q.isEmpty() || q.bytes != 0 {
		t.Error("the empty queue is not empty")
	}
}

// TestCloseJoins closes at every stage of a stream's life; the bubble fails when a
// goroutine is left, or one waits forever.
func TestCloseJoins(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, *fake, *Stream){
		"at once":          func(*testing.T, *fake, *Stream) {},
		"while connecting": func(t *testing.T, f *fake, _ *Stream) { synctest.Wait() },
		"with an event that nobody takes": func(t *testing.T, f *fake, s *Stream) {
			want[StreamUp](t, s)
			op := <-f.opened
			op.send <- failed("b", "x")
			synctest.Wait()
		},
		"while a topic waits": func(t *testing.T, f *fake, s *Stream) {
			f.on("UpdateStreamTopics", func(ctx context.Context, _ any) (any, error) { <-ctx.Done(); return nil, ctx.Err() })
			want[StreamUp](t, s)
			go func() {
				if err := s.Add(t.Context(), "a"); !errors.Is(err, ErrClosed) {
					t.Errorf("Add: %v", err)
				}
			}()
			synctest.Wait()
		},
		"between attempts": func(t *testing.T, f *fake, s *Stream) {
			want[StreamUp](t, s)
			f.mu.Lock()
			f.onStream = func(*fakeStream, arkv1.ArkService_GetEventStreamServer) (bool, error) { return true, errors.New("no") }
			f.mu.Unlock()
			(<-f.opened).end <- nil
			want[StreamDown](t, s)
			synctest.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				c := f.client(t, nil)
				s, err := c.Events(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				prepare(t, f, s)
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				for range s.C() { // only that it ends
				}
			})
		})
	}
}

func TestContextEndsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		s, err := c.Events(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want[StreamUp](t, s)
		cancel()
		for range s.C() { // only that it ends
		}
		if len(c.streams) != 0 {
			t.Error("the client still holds it")
		}
	})
}
