package rpc

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/vigilpb"
)

const (
	// beat is how often a watch with nothing to say shows that it lives: under
	// the minute after which proxies and phones' networks forget a connection.
	beat = 30 * time.Second
	// sendWithin bounds how long a reader may keep one event waiting.
	sendWithin = 15 * time.Second
)

// The kinds of the events that the edge itself makes.
const (
	eventOpen = "open"
	eventBeat = "beat"
)

var (
	errExpired  = errors.New("rpc: the watch has reached its age")
	errStopping = errors.New("rpc: stopping")
)

// watch carries the one streaming request through: it is judged as any other,
// tied to its wallet, and ends with its caller, at its age, when the server
// stops, or when the port says that its key may watch no longer. It is never
// finished in the replay's memory, so a copy of its request opens nothing.
func (w *walletEdge) watch(ctx context.Context, m *method, r in, send func(*vigilpb.SignedAnswer) error) error {
	c, done, _, err := w.take(ctx, m, r)
	if err != nil {
		return err
	}
	done() // a watch is counted among watches, not among requests
	leave, _, code := w.watches.enter(c.Wallet)
	if code != "" {
		return &vigil.Error{Code: code}
	}
	defer leave()
	q := &vigilpb.WatchRequest{}
	if err := decodeStrict(c.Payload, q); err != nil {
		return err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &stream{edge: w, call: c, ctx: ctx, send: send}
	if err := s.event(&vigilpb.Event{Kind: eventOpen, TimeLeft: int64(w.limits.WatchAge / time.Second)}); err != nil {
		return err
	}
	var beating sync.WaitGroup
	beating.Go(func() { cancel(s.live(ctx)) })
	err = w.Wallets.Watch(ctx, c, q, s.event)
	cancel(nil)
	beating.Wait()
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errExpired):
		return &vigil.Error{Code: vigil.CodeWatchExpired}
	case errors.Is(cause, errStopping):
		return &vigil.Error{Code: vigil.CodeStopping}
	}
	return err
}

// stream numbers and signs the events of one watch, one at a time.
type stream struct {
	edge *walletEdge
	call auth.Call
	ctx  context.Context // of the watch; its events have no other
	mu   sync.Mutex
	seq  uint64
	send func(*vigilpb.SignedAnswer) error
}

func (s *stream) event(e *vigilpb.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.GetAt() == 0 {
		e.At = s.edge.now().Unix()
	}
	answer, err := s.edge.sign(s.ctx, s.call, e, s.seq+1)
	if err != nil {
		return err
	}
	s.seq++
	lift(s.ctx, time.Now().Add(sendWithin))
	err = s.send(answer)
	lift(s.ctx, time.Time{}) // between events nobody waits for the reader
	return err
}

// live beats until the watch has to end, and says why.
func (s *stream) live(ctx context.Context) error {
	beats := time.NewTicker(beat)
	defer beats.Stop()
	age := time.NewTimer(s.edge.limits.WatchAge)
	defer age.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.edge.stopped:
			return errStopping
		case <-age.C:
			return errExpired
		case <-beats.C:
			if err := s.event(&vigilpb.Event{Kind: eventBeat}); err != nil {
				return err
			}
		}
	}
}

// writerKey finds the connection of a request in its context.
type writerKey struct{}

// lift gives what is written next of a stream its own deadline in place of the
// request's; the zero time is none. Not every writer has deadlines; one without
// has none to lift.
func lift(ctx context.Context, until time.Time) {
	if c, ok := ctx.Value(writerKey{}).(*http.ResponseController); ok {
		_ = c.SetReadDeadline(time.Time{})
		_ = c.SetWriteDeadline(until)
	}
}
