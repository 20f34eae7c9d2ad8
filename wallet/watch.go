package wallet

import (
	"context"
	"errors"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/vigilpb"
)

// Watch streams what happens to the wallet until its caller leaves or the key is
// revoked; the edge bounds its age. What happened while nobody watched is not
// told: the wallet's state is to be read after the opening.
func (s *Service) Watch(ctx context.Context, c auth.Call, _ *vigilpb.WatchRequest, send func(*vigilpb.Event) error) error {
	watch, err := s.hub.Watch(ctx, c.Wallet, c.Key)
	switch {
	case errors.Is(err, notify.ErrTooMany):
		return &vigil.Error{Code: vigil.CodeTooManyWatches, Message: "as many streams are open as may be; close one", Err: err}
	case errors.Is(err, notify.ErrStopped):
		return &vigil.Error{Code: vigil.CodeStopping, Message: "this server is stopping", Err: err}
	case err != nil:
		return err
	}
	defer watch.Close()
	// A revocation between the permit and the line above must not be missed.
	if err := s.do(ctx, c, func(context.Context, *state) error { return nil }); err != nil {
		return err
	}
	for e := range watch.C() {
		if err := send(event(e)); err != nil {
			return err
		}
	}
	return cut(ctx, watch.Err())
}

// cut is how a stream that was cut ends.
func cut(ctx context.Context, why error) error {
	switch {
	case errors.Is(why, notify.ErrRevoked):
		return &vigil.Error{Code: vigil.CodeNotPermitted, Message: "this key may not watch the wallet any more", Err: why}
	case errors.Is(why, notify.ErrStopped):
		return &vigil.Error{Code: vigil.CodeStopping, Message: "this server is stopping", Err: why}
	case errors.Is(why, notify.ErrSlow):
		return &vigil.Error{Code: vigil.CodeWatchExpired, Message: "events came faster than they were read; read the wallet's state and open the stream again", Err: why}
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return why
}

func event(e notify.Event) *vigilpb.Event {
	p := &vigilpb.Event{Kind: string(e.Kind), At: e.At, Outpoints: e.Outpoints, Text: e.Text, TimeLeft: e.TimeLeft, Code: e.Code}
	if e.Delegate != (vigil.DelegateID{}) {
		p.DelegateId = e.Delegate[:]
	}
	return p
}

// SetToken keeps a push token of a device.
func (s *Service) SetToken(ctx context.Context, c auth.Call, r *vigilpb.SetTokenRequest) (a *vigilpb.SetTokenAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		switch {
		case len(r.GetToken()) == 0 || len(r.GetToken()) > maxToken:
			return malformed("token", "%d bytes, 1 to %d are taken", len(r.GetToken()), maxToken)
		case len(r.GetKind()) == 0 || len(r.GetKind()) > maxName:
			return malformed("kind", "%d bytes, 1 to %d are taken", len(r.GetKind()), maxName)
		}
		if err := s.roomy(); err != nil {
			return err
		}
		err := s.ledger.SetToken(ctx, st.row.ID, ledger.Token{Kind: r.GetKind(), Text: r.GetToken()}, s.allowed(st.row, c))
		if errors.Is(err, ledger.ErrTooMany) {
			return &vigil.Error{Code: vigil.CodeTooManyTokens, Message: "the wallet has as many push tokens as are kept; drop one first", Err: err}
		}
		a = &vigilpb.SetTokenAnswer{}
		return stored(err)
	})
	return a, err
}

// maxToken bounds a push token in bytes: the longest of the known services have
// some hundred.
const maxToken = 2 << 10

// DropToken forgets one.
func (s *Service) DropToken(ctx context.Context, c auth.Call, r *vigilpb.DropTokenRequest) (a *vigilpb.DropTokenAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		a = &vigilpb.DropTokenAnswer{}
		return stored(s.ledger.DropToken(ctx, st.row.ID, r.GetToken(), s.allowed(st.row, c)))
	})
	return a, err
}
