package client

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/vigilpb"
)

// Event is something that happened to the wallet, as Vigil saw it: a coin that
// came, a delegate that was carried out or needs its owner, a stranger's intent.
type Event struct {
	Kind      string
	At        int64 // unix seconds
	Outpoints []string
	Delegate  vigil.DelegateID
	Text      string // for people
	Code      string // of a failure
	TimeLeft  int64  // seconds to act in; 0 when there is no hurry
}

// EventOpen is the kind of a stream's first event: whatever happens from here on
// is told.
const EventOpen = "open"

// eventBeat only keeps a stream alive.
const eventBeat = "beat"

// Watch calls f with every event, the first of which is EventOpen, until ctx ends,
// the stream does, or f returns an error, which Watch returns. Each event is signed by Vigil, and numbered: one
// that is missing or repeated ends the stream with ErrVigil. Vigil ends every
// stream after some time; open another then.
func (w *Wallet) Watch(ctx context.Context, f func(Event) error) error {
	err := w.watch(ctx, f)
	if vigil.CodeOf(err) == vigil.CodeClockSkew {
		err = w.watch(ctx, f)
	}
	return err
}

func (w *Wallet) watch(ctx context.Context, f func(Event) error) (err error) {
	const method = "Watch"
	req, err := w.vigil.request(method, w.caller(), &vigilpb.WatchRequest{})
	if err != nil {
		return err
	}
	stream, err := w.vigil.rpc(method).CallServerStream(ctx, connect.NewRequest(req.SignedRequest))
	if err != nil {
		return w.vigil.refusal(method, req.hash, err)
	}
	defer func() { err = errors.Join(err, ignoreCanceled(stream.Close())) }()
	for seq := uint64(1); stream.Receive(); seq++ {
		var e vigilpb.Event
		if err := w.vigil.accept(method, req.hash, seq, stream.Msg(), &e); err != nil {
			return err
		}
		if e.Kind == eventBeat {
			continue
		}
		out := Event{Kind: e.Kind, At: e.At, Outpoints: e.Outpoints, Text: e.Text, Code: e.Code, TimeLeft: e.TimeLeft}
		copy(out.Delegate[:], e.DelegateId)
		if err := f(out); err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return w.vigil.refusal(method, req.hash, err)
	}
	return ctx.Err()
}

// ignoreCanceled drops the error of closing a stream that was broken off on
// purpose.
func ignoreCanceled(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || connect.CodeOf(err) == connect.CodeCanceled {
		return nil
	}
	return err
}
