package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// Why a stream ended, beside an *Error of the operator's.
var (
	// ErrSilent says that nothing came for longer than Timeouts allow, not even a
	// heartbeat: the connection is dead though nobody closed it.
	ErrSilent = errors.New("operator: event stream went silent")
	// ErrStreamEnded says that the operator closed the stream.
	ErrStreamEnded = errors.New("operator: event stream ended")
	// ErrSlowConsumer says that events came faster than they were taken until the
	// queue was full; those that followed are lost.
	ErrSlowConsumer = errors.New("operator: event consumer too slow")
)

// Event is what a Stream delivers: a batch.Event, StreamUp, StreamDown or
// Malformed.
type Event any

// StreamUp says that a stream is open and the operator knows all its topics. No
// event is ever replayed: whatever happened while none was open must be read from
// the indexer now.
type StreamUp struct{}

// StreamDown says that the stream ended after a StreamUp. Events may be lost from
// here to the next StreamUp; it is reopened without being asked.
type StreamDown struct{ Err error }

// Stream is one long-lived event stream that reopens itself. Its methods are safe
// for concurrent use.
type Stream struct {
	c      *Client
	topics *topics
	queue  *queue
	out    chan Event
	cancel context.CancelFunc
	done   chan struct{} // closed when every goroutine has returned
}

// Events opens the event stream and keeps it open until ctx ends or Close. It
// starts without topics: only broadcasts come until Add.
func (c *Client) Events(ctx context.Context) (*Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &Stream{c: c, topics: newTopics(), queue: newQueue(), out: make(chan Event), cancel: cancel, done: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		cancel()
		return nil, ErrClosed
	}
	c.streams[s] = struct{}{}
	go s.live(ctx)
	return s, nil
}

// C delivers events in the order of their arrival, and is closed when the stream
// is over for good. Whoever takes an event must not keep the stream waiting long:
// when the queue behind it is full, the stream is dropped (ErrSlowConsumer) and
// reopened only once everything in the queue was taken.
func (s *Stream) C() <-chan Event { return s.out }

// Close ends the stream and waits for its goroutines.
func (s *Stream) Close() {
	s.cancel()
	<-s.done
}

// Add listens to more topics and returns when the operator has acknowledged them
// on an open stream; after that, no event under them is missed while the stream
// is up. On an error nothing is added. Topics are counted: each Add is undone by
// one Remove.
func (s *Stream) Add(ctx context.Context, list ...string) error {
	list, err := normal(list)
	if err != nil {
		return err
	}
	if err := s.topics.add(list); err != nil {
		return err
	}
	for {
		ok, changed := s.topics.heard(list)
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-s.done:
			return ErrClosed
		case <-ctx.Done():
			s.topics.remove(list)
			return fmt.Errorf("operator: adding topics: %w", context.Cause(ctx))
		}
	}
}

// Remove undoes an Add. It does not wait: events under a removed topic may still
// come for a moment.
func (s *Stream) Remove(list ...string) {
	if list, err := normal(list); err == nil { // what cannot be a topic was never added
		s.topics.remove(list)
	}
}

// live runs until ctx ends and joins everything that it started.
func (s *Stream) live(ctx context.Context) {
	defer close(s.done)
	defer close(s.out)
	defer s.cancel()
	var pump sync.WaitGroup
	pump.Go(func() { s.deliver(ctx) })
	for attempt := 0; ctx.Err() == nil; attempt++ {
		opened := time.Now()
		up, err := s.session(ctx)
		s.topics.down()
		if up {
			s.queue.force(StreamDown{Err: err})
		}
		if ctx.Err() != nil {
			break
		}
		s.c.cfg.Log.LogAttrs(ctx, levelOf(up), "event stream down", errAttr(err), attemptAttr(attempt))
		if errors.Is(err, ErrSlowConsumer) {
			s.drained(ctx)
		}
		// A stream that held longer than the longest wait starts the waits anew; one
		// that the operator cuts at once does not.
		if time.Since(opened) > s.c.cfg.Backoff.Max {
			attempt = 0
		}
		wait(ctx, s.c.cfg.Backoff.delay(attempt, s.c.cfg.Jitter))
	}
	pump.Wait()
	s.c.mu.Lock()
	delete(s.c.streams, s)
	s.c.mu.Unlock()
}

// session opens one stream and reads it to its end. up says whether it got as
// far as StreamUp.
func (s *Stream) session(ctx context.Context) (up bool, err error) {
	// Parameters may have changed while we were cut off, and no event tells.
	p, err := s.c.Info(ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	link := s.c.link.Load()
	watchdog := time.AfterFunc(s.c.cfg.Timeouts.Open, func() { cancel(ErrSilent) })
	defer watchdog.Stop()
	defer func() {
		if errors.Is(err, ErrSilent) {
			s.c.redial(link)
		}
	}()

	opening := s.topics.begin()
	in, err := link.ark.GetEventStream(s.c.headers(ctx, p.Digest), &arkv1.GetEventStreamRequest{Topics: opening})
	if err != nil {
		return false, s.why(ctx, err)
	}
	first, err := in.Recv()
	if err != nil {
		return false, s.why(ctx, err)
	}
	id := first.GetStreamStarted().GetId()
	if !isLabel(id) {
		return false, fmt.Errorf("%w: event stream does not begin with its id", ErrAnswer)
	}
	watchdog.Reset(s.c.cfg.Timeouts.Silence)
	s.topics.told(opening, nil)
	if err := s.tell(ctx, id); err != nil {
		return false, s.why(ctx, err)
	}
	s.queue.force(StreamUp{})

	var teller sync.WaitGroup
	defer teller.Wait()
	defer cancel(nil) // before the Wait above
	teller.Go(func() { s.keepTelling(ctx, id, cancel) })
	for {
		m, err := in.Recv()
		if err != nil {
			return true, s.why(ctx, err)
		}
		watchdog.Reset(s.c.cfg.Timeouts.Silence)
		ev := decodeEvent(m)
		if ev != nil && !s.queue.push(ev, proto.Size(m)) {
			return true, ErrSlowConsumer
		}
	}
}

// why finds the reason behind an error of the stream: ours, when we ended it.
func (s *Stream) why(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case cause != nil && !errors.Is(cause, context.Canceled):
		return cause
	case errors.Is(err, io.EOF):
		return ErrStreamEnded
	}
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	return s.c.failure(ctx, "GetEventStream", err)
}

// tell brings the operator's topics in line with ours.
func (s *Stream) tell(ctx context.Context, id string) error {
	for {
		add, remove := s.topics.diff()
		if len(add)+len(remove) == 0 {
			return nil
		}
		_, err := guarded(ctx, s.c, "UpdateStreamTopics", func(ctx context.Context, a arkv1.ArkServiceClient) (*arkv1.UpdateStreamTopicsResponse, error) {
			return a.UpdateStreamTopics(ctx, &arkv1.UpdateStreamTopicsRequest{
				StreamId:     id,
				TopicsChange: &arkv1.UpdateStreamTopicsRequest_Modify{Modify: &arkv1.ModifyTopics{AddTopics: add, RemoveTopics: remove}},
			})
		})
		if err != nil {
			s.topics.failed(add, remove)
			return err
		}
		s.topics.told(add, remove)
	}
}

// tellAttempts is how often a change of topics is tried before the stream is
// given up for a new one, which begins with the right topics.
const tellAttempts = 4

// keepTelling follows changes of topics until the stream ends.
func (s *Stream) keepTelling(ctx context.Context, id string, cancel context.CancelCauseFunc) {
	failures := 0
	for {
		select {
		case <-s.topics.wake:
		case <-ctx.Done():
			return
		}
		err := s.tell(ctx, id)
		if err == nil {
			failures = 0
			continue
		}
		// The operator does not know the stream any more, though we still read it: it
		// has ended there, which is no word about a transaction, VTXO or intent.
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("%w: %v", ErrStreamEnded, err)
		}
		if failures++; failures == tellAttempts || errors.Is(err, ErrStreamEnded) {
			cancel(err)
			return
		}
		wait(ctx, s.c.cfg.Backoff.Min)
		signal(s.topics.wake)
	}
}

// deliver hands queued events to the consumer.
func (s *Stream) deliver(ctx context.Context) {
	for {
		ev, ok := s.queue.pop()
		if !ok {
			select {
			case <-s.queue.ready:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case s.out <- ev:
		case <-ctx.Done():
			return
		}
	}
}

// drained waits until the consumer has taken everything.
func (s *Stream) drained(ctx context.Context) {
	for !s.queue.isEmpty() {
		select {
		case <-s.queue.empty:
		case <-ctx.Done():
			return
		}
	}
}
