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
	Moved     []wire.OutPoint // coins at a script without recovery leaf, moved
	Uncovered int             // coins that are still without cover
}

// Keep is what a device does whenever it is online: it finishes a payment or a
// refresh that broke off, moves coins that stand at a script without a recovery leaf, fetches
// the exit data that it lacks, and covers whatever no delegate covers: the client
// rule, "no active delegate and coins not empty".
func (w *Wallet) Keep(ctx context.Context) (k Kept, err error) {
	if err := errors.Join(w.finishRefresh(ctx), w.finishPayment(ctx)); err != nil {
		return k, err
	}
	coins, err := w.VTXOs(ctx)
	if err != nil {
		return k, err
	}
	var stray []wire.OutPoint
	for _, c := range coins {
		if !c.WithoutVigil {
			stray = append(stray, c.Outpoint)
		}
	}
	if len(stray) > 0 {
		s, err := w.Renew(ctx, stray...)
		if err != nil {
			return k, err
		}
		k.Moved = s.Coins
		if coins, err = w.VTXOs(ctx); err != nil {
			return k, err
		}
	}
	if err := w.fetchExits(ctx, coins); err != nil {
		return k, err
	}
	if !slices.ContainsFunc(coins, func(c Coin) bool { return !c.Covered }) {
		return k, nil
	}
	k.Delegated, err = w.Delegate(ctx, DelegateOptions{})
	for _, c := range coins {
		if !c.Covered && !slices.ContainsFunc(k.Delegated, func(d Delegated) bool { return slices.Contains(d.Coins, c.Outpoint) }) {
			k.Uncovered++
		}
	}
	if errors.Is(err, ErrDust) || errors.Is(err, ErrFunds) {
		// Coins that are too small to be renewed alone wait for others: no fault.
		err = nil
	}
	return k, err
}

// receiveEvery is how often the operator is asked for new coins when nothing
// announces them.
const receiveEvery = 2 * time.Second

// Receive calls f with every coin that arrives, until ctx ends or f returns an
// error, which Receive returns. Coins that are there when it begins are not told.
// The wallet's own change and renewals are coins that arrive, too.
func (w *Wallet) Receive(ctx context.Context, f func(ark.VTXO) error) error {
	seen := map[wire.OutPoint]bool{}
	known, err := w.coins(ctx)
	if err != nil {
		return err
	}
	for _, v := range known {
		seen[v.Outpoint] = true
	}
	hint := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	defer func() { cancel(); <-ended }()
	go func() {
		defer close(ended)
		w.listen(ctx, hint)
	}()
	tick := time.NewTicker(receiveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-hint:
		case <-tick.C:
		}
		list, err := w.coins(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			w.cfg.Log.Warn("the operator does not answer", "reason", err)
			continue
		}
		for _, v := range list {
			if seen[v.Outpoint] {
				continue
			}
			seen[v.Outpoint] = true
			if err := f(v); err != nil {
				return err
			}
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
