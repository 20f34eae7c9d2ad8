package wallet

import (
	"context"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/vigilpb"
)

// generations are a wallet's descriptors.
func generations(row *ledger.Wallet) (descriptor.Generations, error) {
	g, err := descriptor.DecodeGenerations(row.Descriptor, row.Older)
	if err != nil {
		return nil, unreadable("descriptor", err)
	}
	return g, nil
}

// AcceptOperator begins a new generation of the wallet's scripts. Nobody can push
// one: the device names the scripts, of which its owner accepted signer and delays;
// they must be those that follow from what the operator announces now; and its
// signer must be the one that this Vigil's operator accepted. Asked again for what
// is current, it answers.
func (s *Service) AcceptOperator(ctx context.Context, c auth.Call, r *vigilpb.AcceptOperatorRequest) (a *vigilpb.AcceptOperatorAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		if err := st.active(); err != nil {
			return err
		}
		asked, err := descriptor.DecodeGenerations(r.GetDescriptor_(), r.GetOlder())
		if err != nil {
			return malformed("descriptor", "%w", err)
		}
		next, err := merged(st.gens, asked)
		if err != nil {
			return err
		}
		if !slices.Equal(next, st.gens) {
			if err := s.succeed(ctx, st, c, next); err != nil {
				return err
			}
		}
		a = &vigilpb.AcceptOperatorAnswer{Descriptor_: st.row.Descriptor, Older: st.row.Older}
		return nil
	})
	return a, err
}

// merged are the generations of here once the device's current one is: a Vigil that
// was restored from a copy of the past learns those between, too.
func merged(here, asked descriptor.Generations) (descriptor.Generations, error) {
	next := slices.Clone(here)
	for _, d := range asked.Older() {
		if !slices.Contains(next, d) {
			next = append(next, d)
		}
	}
	next, err := next.With(asked.Current())
	if err != nil {
		return nil, &vigil.Error{Code: vigil.CodeGeneration, Message: "these are not scripts that may follow those of this wallet: " + err.Error(), Err: err}
	}
	return next, nil
}

// succeed writes a generation down: from then on coins at its scripts are looked
// for, and nothing but it is paid by renewals.
func (s *Service) succeed(ctx context.Context, st *state, c auth.Call, next descriptor.Generations) error {
	if err := s.roomy(); err != nil {
		return err
	}
	p, err := s.announced.Fresh(ctx)
	if err != nil {
		return err
	}
	to := next.Current()
	// What follows from itself is what the operator announces; the recovery key must
	// never come earlier than it did.
	follows, err := to.Next(p)
	if err != nil || follows != to || to.RecoveryDelay.Seconds() < st.desc.RecoveryDelay.Seconds() {
		return &vigil.Error{Code: vigil.CodeGeneration, Err: err, Message: "the scripts that the device accepted are not those of the operator of now; read its parameters again, and accept those"}
	}
	current, older := next.Encode()
	scripts := next.Scripts()
	err = s.change(ctx, st, c, func(w *ledger.Wallet) { w.Descriptor, w.Older, w.Scripts = current, older, scripts }, ledger.Extras{})
	if err != nil {
		return err
	}
	s.publish(st, notify.Event{Kind: notify.OperatorChanged, Text: "the wallet has new scripts, as the operator changed its key or delays and the wallet's owner accepted that; coins at the earlier ones are moved when the device is online"})
	return nil
}
