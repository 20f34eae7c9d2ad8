package client

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
)

// Kept is what one round of Keep did.
type Kept struct {
	Delegated []Delegated
	Moved     []wire.OutPoint // what came of coins at a script without recovery leaf, or of an earlier generation
	Stuck     []wire.OutPoint // coins under a key that the operator signs for no more: Leave brings them on chain
	// Changed is what the operator announces and the owner has not accepted; nil: nothing.
	Changed   *OperatorChange
	Uncovered int // coins that are still without cover
}

// Keep is what a device does whenever it is online: it finishes a payment or a
// refresh that broke off, fetches the exit data that it lacks, moves coins that
// stand at a script without a recovery leaf or at one of an earlier generation, looks
// whether the operator changed, and covers whatever no delegate covers: the client rule, "no active delegate and coins not empty". What fails of
// it keeps the rest from nothing. Exit data come of the operator, too: they are for
// the day on which Vigil says nothing, or no. A stray coin is moved also where the
// owner opted in to delegates of such: moved, it needs nobody's word. What could not be
// moved has at least those.
func (w *Wallet) Keep(ctx context.Context) (k Kept, err error) {
	err = w.resume(ctx)
	seen, failed := w.coins(ctx)
	if failed != nil {
		return k, errors.Join(err, failed)
	}
	err = errors.Join(err, w.fetchExits(ctx, seen))
	k.Changed, failed = w.OperatorChange(ctx)
	err = errors.Join(err, failed)
	coins, failed := w.VTXOs(ctx)
	if failed != nil {
		return k, errors.Join(err, failed)
	}
	err = errors.Join(err, w.catchUpScripts(ctx))
	stray, stuck := w.strays(coins)
	k.Stuck = stuck
	for _, some := range stray {
		s, failed := w.move(ctx, some)
		if !errors.Is(failed, ErrDust) && !errors.Is(failed, ErrFunds) { // a stranger's dust stays where it is
			err = errors.Join(err, failed)
		}
		k.Moved = append(k.Moved, s.Coins...)
	}
	if len(k.Moved) > 0 {
		if coins, failed = w.VTXOs(ctx); failed != nil {
			return k, errors.Join(err, failed)
		}
	}
	if !slices.ContainsFunc(coins, func(c Coin) bool { return !c.Covered }) {
		return k, err
	}
	k.Delegated, failed = w.Delegate(ctx, DelegateOptions{})
	for _, c := range coins {
		if !c.Covered && !slices.ContainsFunc(k.Delegated, func(d Delegated) bool { return slices.Contains(d.Coins, c.Outpoint) }) {
			k.Uncovered++
		}
	}
	return k, errors.Join(err, failed)
}

// ErrNoBatch is returned when no batch moved coins in the time that Keep waits for
// one. They stay where they are; Keep tries again.
var ErrNoBatch = errors.New("client: no batch has taken the coins up")

// How long Keep waits for a batch: for longer than a ban, and for several sessions
// that fail. Operators lose intents without a word, and coins that no batch takes up
// must not keep others uncovered.
const (
	batchWait     = 5 * time.Minute
	batchSessions = 12
)

// move renews coins that must not stay where they are, in the time that there is.
func (w *Wallet) move(ctx context.Context, ops []wire.OutPoint) (Settled, error) {
	wait := w.cfg.BatchWait
	if wait == 0 {
		p, err := w.params(ctx)
		if err != nil {
			return Settled{}, err
		}
		wait = max(batchWait, batchSessions*time.Duration(p.SessionSeconds)*time.Second)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, ErrNoBatch)
	defer cancel()
	return w.Renew(ctx, ops...)
}

// strays are the coins to be moved, by generation, so that scripts which the operator
// takes no more keep no others where they are; and those that cannot be moved.
func (w *Wallet) strays(coins []Coin) (moves [][]wire.OutPoint, stuck []wire.OutPoint) {
	own := w.own()
	for _, d := range slices.Backward(own.gens) {
		var of []wire.OutPoint
		for _, c := range coins {
			s := own.find(c.Script)
			switch {
			case s == nil || s.desc != d:
			case c.Stuck:
				stuck = append(stuck, c.Outpoint)
			case !c.WithoutVigil || c.Older:
				of = append(of, c.Outpoint)
			}
		}
		moves = slices.AppendSeq(moves, slices.Chunk(of, maxInputs))
	}
	return moves, stuck
}

// resume takes up what broke off, and waits for what is under way in this process.
func (w *Wallet) resume(ctx context.Context) error {
	w.spending.Lock()
	defer w.spending.Unlock()
	err := errors.Join(w.finishRefresh(ctx), w.finishAccept(ctx))
	_, unpaid := w.finishPayment(ctx)
	return errors.Join(err, unpaid)
}

// keepEvery is how often Run looks when nothing is announced.
const keepEvery = time.Minute

// Run keeps the coins covered for as long as the device is online: it calls Keep
// at once, whenever Vigil announces something, and every minute, and report with
// what came of it. It returns with ctx.
func (w *Wallet) Run(ctx context.Context, report func(Kept, error)) error {
	hint := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	defer func() { cancel(); <-ended }()
	go func() {
		defer close(ended)
		w.listen(ctx, hint)
	}()
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		k, err := w.Keep(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		report(k, err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-hint:
		case <-tick.C:
		}
	}
}

// receiveEvery is how often the operator is asked for new coins when nothing
// announces them.
const receiveEvery = 2 * time.Second

// Incoming tells of coins that arrive. It is for one goroutine.
type Incoming struct {
	w     *Wallet
	seen  map[wire.OutPoint]bool
	ready []ark.VTXO
	hint  chan struct{}
	stop  context.CancelFunc
	ended chan struct{}
}

// Incoming begins to listen: coins that are there now are not told, and each that
// comes later is told once. The wallet's own change and renewals are among them.
// It ends with ctx, or by Close.
func (w *Wallet) Incoming(ctx context.Context) (*Incoming, error) {
	known, err := w.coins(ctx)
	if err != nil {
		return nil, err
	}
	i := &Incoming{w: w, seen: map[wire.OutPoint]bool{}, hint: make(chan struct{}, 1), ended: make(chan struct{})}
	for _, v := range known {
		i.seen[v.Outpoint] = true
	}
	ctx, i.stop = context.WithCancel(ctx)
	go func() {
		defer close(i.ended)
		w.listen(ctx, i.hint)
	}()
	return i, nil
}

// Close ends it and waits for its goroutine.
func (i *Incoming) Close() {
	i.stop()
	<-i.ended
}

// Next waits for the next coin. An operator that does not answer is asked again.
func (i *Incoming) Next(ctx context.Context) (ark.VTXO, error) {
	tick := time.NewTicker(receiveEvery)
	defer tick.Stop()
	for {
		if len(i.ready) > 0 {
			v := i.ready[0]
			i.ready = i.ready[1:]
			return v, nil
		}
		list, err := i.w.coins(ctx)
		if ctx.Err() != nil {
			return ark.VTXO{}, context.Cause(ctx)
		}
		if err != nil {
			i.w.cfg.Log.Warn("the operator does not answer", "reason", err)
		}
		for _, v := range list {
			if !i.seen[v.Outpoint] {
				i.seen[v.Outpoint] = true
				i.ready = append(i.ready, v)
			}
		}
		if len(i.ready) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ark.VTXO{}, context.Cause(ctx)
		case <-i.hint:
		case <-tick.C:
		}
	}
}

// Receive calls f with every coin that arrives, until ctx ends or f returns an
// error, which Receive returns.
func (w *Wallet) Receive(ctx context.Context, f func(ark.VTXO) error) error {
	i, err := w.Incoming(ctx)
	if err != nil {
		return err
	}
	defer i.Close()
	for {
		v, err := i.Next(ctx)
		if err != nil {
			return err
		}
		if err := f(v); err != nil {
			return err
		}
	}
}

// listen hints at whatever Vigil announces. It returns only with ctx: a stream
// that ends is opened again, in no hurry, since nothing is lost by it but time.
func (w *Wallet) listen(ctx context.Context, hint chan<- struct{}) {
	for {
		err := w.Watch(ctx, func(Event) error {
			select {
			case hint <- struct{}{}:
			default:
			}
			return nil
		})
		if ctx.Err() != nil {
			return
		}
		w.cfg.Log.Debug("no events from Vigil", "reason", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(receiveEvery):
		}
	}
}
