package rpc_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/internal/memnet"
	"github.com/vigil-ark/vigil/rpc"
	"github.com/vigil-ark/vigil/vigilpb"
)

// reader reads the events of one watch and checks each one's place and
// signature.
type reader struct {
	t    testing.TB
	r    *rig
	hash [32]byte
	next func() (*vigilpb.SignedAnswer, error)
	seq  uint64
}

// open begins a watch; refusals come from it or from the first event.
func (r *rig) open(ctx context.Context, t testing.TB, tr transport, edit ...func(*auth.Request)) (*reader, error) {
	t.Helper()
	q, hash := r.request(t, watchMethod, &vigilpb.WatchRequest{}, edit...)
	return r.openWith(ctx, t, tr, q, hash)
}

func (r *rig) openWith(ctx context.Context, t testing.TB, tr transport, q *vigilpb.SignedRequest, hash [32]byte) (*reader, error) {
	t.Helper()
	next, err := tr.watch(ctx, q)
	if err != nil {
		return nil, err
	}
	w := &reader{t: t, r: r, hash: hash, next: next}
	e, err := w.event()
	if err == nil && e.GetKind() != "open" {
		t.Errorf("%s: the first event is %v", tr.name, e)
	}
	return w, err
}

func (w *reader) event() (*vigilpb.Event, error) {
	w.t.Helper()
	a, err := w.next()
	if err != nil {
		return nil, err
	}
	w.seq++
	if err := auth.VerifyAnswer(w.r.server, w.hash, w.seq, a); err != nil {
		w.t.Errorf("event %d: %v", w.seq, err)
	}
	e := &vigilpb.Event{}
	if err := proto.Unmarshal(a.GetPayload(), e); err != nil || e.GetAt() == 0 {
		w.t.Errorf("event %d: %v, %v", w.seq, e, err)
	}
	return e, nil
}

func TestWatch(t *testing.T) {
	r := newRig(t, &wallets{}, roomy())
	for _, tr := range transports(t, r.addr) {
		q, hash := r.request(t, watchMethod, &vigilpb.WatchRequest{})
		w, err := r.openWith(t.Context(), t, tr, q, hash)
		if err != nil {
			t.Fatalf("%s: %v", tr.name, err)
		}
		if e, err := w.event(); err != nil || e.GetText() != "one" {
			t.Errorf("%s: %v, %v", tr.name, e, err)
		}
		if e, err := w.event(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: at the end: %v, %v", tr.name, e, err)
		}
		// A copy of the request opens nothing.
		if _, err := r.openWith(t.Context(), t, tr, q, hash); codeIn(err) != vigil.CodeRetryNonce {
			t.Errorf("%s: the same again: %v", tr.name, err)
		}
	}
	for _, c := range r.port.all() {
		if c.call.Wallet[0] != 7 || c.call.Key != r.device.PubKey() {
			t.Errorf("a watch of %+v", c.call)
		}
	}
}

// A stream is opened by the same rules as any call.
func TestWrongWatches(t *testing.T) {
	port := &wallets{permit: func(c auth.Call) error {
		if c.Wallet[0] == 9 {
			return vigil.Errorf(vigil.CodeIdentityFrozen, "frozen")
		}
		return nil
	}}
	r := newRig(t, port, roomy())
	for _, tr := range transports(t, r.addr) {
		for code, edit := range map[vigil.Code]func(*auth.Request){
			vigil.CodeClockSkew:      func(q *auth.Request) { q.Timestamp -= 100 },
			vigil.CodeIdentityFrozen: func(q *auth.Request) { q.Wallet[0] = 9 },
			vigil.CodeMalformed:      func(q *auth.Request) { q.Payload = []byte{0x08, 1} },
		} {
			if _, err := r.open(t.Context(), t, tr, edit); codeIn(err) != code {
				t.Errorf("%s: %v, want %s", tr.name, err, code)
			}
		}
		q, hash := r.request(t, watchMethod, &vigilpb.WatchRequest{})
		q.Signature[5]++
		if _, err := r.openWith(t.Context(), t, tr, q, hash); codeIn(err) != vigil.CodeRequestSignature {
			t.Errorf("%s: %v", tr.name, err)
		}
	}
	if len(port.all()) != 0 {
		t.Error("one was opened")
	}
}

// until is a watch that ends with its context.
func until(ctx context.Context, _ func(*vigilpb.Event) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestWatchesOfOneWalletAreBounded(t *testing.T) {
	var open sync.WaitGroup
	port := &wallets{watch: func(ctx context.Context, _ func(*vigilpb.Event) error) error {
		defer open.Done()
		return until(ctx, nil)
	}}
	limits := roomy()
	limits.Watches = 2
	r := newRig(t, port, limits)
	for _, tr := range transports(t, r.addr) {
		ctx, leave := context.WithCancel(t.Context())
		open.Add(2)
		for range 2 {
			if _, err := r.open(ctx, t, tr); err != nil {
				t.Fatalf("%s: %v", tr.name, err)
			}
		}
		if _, err := r.open(ctx, t, tr); codeIn(err) != vigil.CodeTooManyWatches {
			t.Errorf("%s: the third: %v", tr.name, err)
		}
		open.Add(1)
		other, err := r.open(ctx, t, tr, func(q *auth.Request) { q.Wallet[0] = 8 })
		if err != nil {
			t.Errorf("%s: another wallet's: %v", tr.name, err)
		}
		leave()
		for err = nil; err == nil; _, err = other.event() { // until it has left
		}
		open.Wait()
	}
}

// The port cuts a watch whose key may watch no longer.
func TestWatchIsCutOnRevocation(t *testing.T) {
	revoke := make(chan struct{})
	r := newRig(t, &wallets{watch: func(context.Context, func(*vigilpb.Event) error) error {
		<-revoke
		return vigil.Errorf(vigil.CodeIdentityFrozen, "this device was revoked")
	}}, roomy())
	for _, tr := range transports(t, r.addr) {
		w, err := r.open(t.Context(), t, tr)
		if err != nil {
			t.Fatalf("%s: %v", tr.name, err)
		}
		revoke <- struct{}{}
		if _, err := w.event(); codeIn(err) != vigil.CodeIdentityFrozen {
			t.Errorf("%s: %v", tr.name, err)
		}
	}
}

func TestWatchesEnd(t *testing.T) {
	limits := roomy()
	limits.WatchAge = time.Millisecond
	r := newRig(t, &wallets{watch: until}, limits)
	for _, tr := range transports(t, r.addr) {
		w, err := r.open(t.Context(), t, tr)
		if err != nil {
			t.Fatalf("%s: %v", tr.name, err)
		}
		if _, err := w.event(); codeIn(err) != vigil.CodeWatchExpired {
			t.Errorf("%s: %v", tr.name, err)
		}
	}
	for i := range transports(t, r.addr) {
		r := newRig(t, &wallets{watch: until}, roomy())
		tr := transports(t, r.addr)[i]
		w, err := r.open(t.Context(), t, tr)
		if err != nil {
			t.Fatalf("%s: %v", tr.name, err)
		}
		r.rpc.Stop()
		if _, err := w.event(); codeIn(err) != vigil.CodeStopping {
			t.Errorf("%s: %v", tr.name, err)
		}
		if _, err := r.open(t.Context(), t, tr); codeIn(err) != vigil.CodeStopping {
			t.Errorf("%s: opened while stopping: %v", tr.name, err)
		}
	}
}

// A watch has its own time: those of a request and of its connection do not end
// it.
func TestWatchOutlivesARequestsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy()
		limits.Timeout, limits.Head = 50*time.Millisecond, 50*time.Millisecond
		r := unserved(t, &wallets{watch: func(ctx context.Context, send func(*vigilpb.Event) error) error {
			late := time.NewTimer(400 * time.Millisecond) // four times what a request has
			defer late.Stop()
			select {
			case <-late.C:
				return send(&vigilpb.Event{Kind: "test", Text: "late"})
			case <-ctx.Done():
				return ctx.Err()
			}
		}}, limits)
		wire := &memnet.Net{}
		l, err := wire.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := serve(t, r.rpc, l)
		for _, tr := range over(t, dial(t, addr, grpc.WithContextDialer(wire.DialContext)), wire.Transport(), "http://"+addr) {
			w, err := r.open(t.Context(), t, tr)
			if err != nil {
				t.Errorf("%s: %v", tr.name, err)
				continue
			}
			if e, err := w.event(); err != nil || e.GetText() != "late" {
				t.Errorf("%s: %v, %v", tr.name, e, err)
			}
		}
	})
}

var _ rpc.Wallets = (*wallets)(nil)
