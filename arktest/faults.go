package arktest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Fault is something that goes wrong with calls of one method, not with the
// batch: slow answers, none at all, errors, answers lost after the work was
// done.
type Fault struct {
	// Method is the RPC's short name, "RegisterIntent"; "" is every method.
	Method string
	// Delay is waited for before the call is looked at.
	Delay time.Duration
	// Hang never answers; the call ends when its caller gives up.
	Hang bool
	// Code, unless OK, is answered instead of doing anything.
	Code codes.Code
	// LoseAnswer does the work and then answers Unavailable, as a connection does
	// that breaks in between.
	LoseAnswer bool
	// Times is how often it happens; 0 means until ClearFaults.
	Times int
}

type faults struct {
	clock Clock
	mu    sync.Mutex
	list  []*Fault
}

func newFaults(clock Clock) *faults { return &faults{clock: clock} }

// Fault arms f. Several may be armed; the first that fits is used.
func (op *Operator) Fault(f Fault) {
	op.faults.mu.Lock()
	defer op.faults.mu.Unlock()
	op.faults.list = append(op.faults.list, &f)
}

// ClearFaults disarms every fault.
func (op *Operator) ClearFaults() {
	op.faults.mu.Lock()
	defer op.faults.mu.Unlock()
	op.faults.list = nil
}

// take returns the fault that hits this call, if any.
func (f *faults) take(fullMethod string) (Fault, bool) {
	name := fullMethod[strings.LastIndexByte(fullMethod, '/')+1:]
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.list, func(x *Fault) bool { return x.Method == "" || x.Method == name })
	if i < 0 {
		return Fault{}, false
	}
	hit := *f.list[i]
	if f.list[i].Times > 0 {
		if f.list[i].Times--; f.list[i].Times == 0 {
			f.list = slices.Delete(f.list, i, i+1)
		}
	}
	return hit, true
}

// before is what happens ahead of the call.
func (f *faults) before(ctx context.Context, hit Fault) error {
	if hit.Delay > 0 {
		done := make(chan struct{})
		stop := f.clock.AfterFunc(hit.Delay, func() { close(done) })
		defer stop()
		select {
		case <-done:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	if hit.Hang {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	if hit.Code != codes.OK {
		return status.Error(hit.Code, "injected fault")
	}
	return nil
}

// CutStreams ends every open stream, as a broken connection does.
func (op *Operator) CutStreams() {
	p, err := op.process()
	if err != nil {
		return
	}
	for _, l := range p.events.listeners() {
		p.events.drop(l.id)
	}
	for _, l := range p.txs.listeners() {
		p.txs.drop(l.id)
	}
	p.subs.closeAll()
}
