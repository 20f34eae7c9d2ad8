package wallet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/vigilpb"
)

// PrepareDelegates issues ids and tree keys for delegates to come.
func (s *Service) PrepareDelegates(ctx context.Context, c auth.Call, r *vigilpb.PrepareDelegatesRequest) (a *vigilpb.PrepareDelegatesAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		if r.GetCount() == 0 {
			return malformed("count", "0 delegates, 1 to %d can be prepared", s.cfg.Limits.Prepared)
		}
		prepared, err := s.prepare(ctx, st, c, r.GetCount())
		a = &vigilpb.PrepareDelegatesAnswer{Prepared: prepared}
		return err
	})
	return a, err
}

// prepare plans n delegates, draws their tree keys and has the host key sign what
// was issued. The plan is durable before the first key is, and the keys before
// anything leaves. 0 prepares nothing.
func (s *Service) prepare(ctx context.Context, st *state, c auth.Call, n uint32) ([]*vigilpb.Prepared, error) {
	if n == 0 {
		return nil, nil
	}
	if err := st.active(); err != nil {
		return nil, err
	}
	if err := s.roomy(); err != nil {
		return nil, err
	}
	if int(min(n, 1<<16)) > s.cfg.Limits.Prepared {
		return nil, malformed("count", "%d delegates, at most %d can be prepared", n, s.cfg.Limits.Prepared)
	}
	until := s.cfg.Now().Add(s.cfg.Limits.PreparedFor).Unix()
	ids := make([]vigil.DelegateID, n)
	plans := make([]ledger.Plan, n)
	for i := range ids {
		if _, err := rand.Read(ids[i][:]); err != nil {
			return nil, fmt.Errorf("draw an id: %w", err)
		}
		plans[i] = ledger.Plan{Wallet: st.row.ID, Delegate: ids[i], Secrets: signer.TreeNames(ids[i]), ExpiresAt: until, NotBefore: until + hour}
	}
	switch err := s.ledger.Plan(ctx, plans...); {
	case errors.Is(err, ledger.ErrTooMany):
		return nil, &vigil.Error{Code: vigil.CodeTooManyPrepared, Message: fmt.Sprintf("at most %d delegates may be prepared and not submitted", ledger.MaxPrepared), Err: err}
	case err != nil:
		return nil, stored(err)
	}
	keys := make(map[vigil.DelegateID]bip340.PubKey, n)
	prepared := make([]*vigilpb.Prepared, n)
	for i, id := range ids {
		key, err := s.keys.NewTreeKey(ctx, id)
		if err != nil {
			return nil, signed(err)
		}
		sig, err := s.host.Sign(auth.PreparedHash(st.row.ID, id, key, until))
		if err != nil {
			return nil, fmt.Errorf("sign what is prepared: %w", err)
		}
		keys[id] = key
		prepared[i] = &vigilpb.Prepared{Id: id[:], TreeKey: key[:], ExpiresAt: until, Signature: sig[:]}
	}
	c.Method = vigilpb.WalletService_PrepareDelegates_FullMethodName // also beside another call
	if err := s.ledger.Drawn(ctx, st.row.ID, keys, s.allowed(st.row, c)); err != nil {
		return nil, stored(err)
	}
	return prepared, nil
}

const hour = 3600

// prepareToo adds prepared delegates to an answer about something else. That there
// is no room for them does not spoil the answer: the device sees that there are
// none.
func (s *Service) prepareToo(ctx context.Context, st *state, c auth.Call, n uint32) ([]*vigilpb.Prepared, error) {
	prepared, err := s.prepare(ctx, st, c, n)
	switch vigil.CodeOf(err) {
	case vigil.CodeTooManyPrepared, vigil.CodeWalletPending, vigil.CodeDiskLow, vigil.CodeOnHold:
		return nil, nil
	}
	return prepared, err
}

// SubmitDelegate checks and stores a delegate; when it is answered, the delegate
// is durable. An id that was submitted is answered with its state, whatever became
// of it.
func (s *Service) SubmitDelegate(ctx context.Context, c auth.Call, r *vigilpb.SubmitDelegateRequest) (a *vigilpb.SubmitDelegateAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		if err := st.active(); err != nil {
			return err
		}
		id, err := delegateID(r.GetId())
		if err != nil {
			return err
		}
		rec, err := s.owned(ctx, st, id)
		if err != nil && vigil.CodeOf(err) != vigil.CodeNotFound {
			return err
		}
		if err != nil {
			if rec, err = s.submit(ctx, st, c, id, r); err != nil {
				return err
			}
			s.cfg.Wake()
		}
		prepared, err := s.prepareToo(ctx, st, c, r.GetPrepare())
		a = &vigilpb.SubmitDelegateAnswer{Delegate: told(rec), Stored: true, Prepared: prepared}
		return err
	})
	return a, err
}

func (s *Service) submit(ctx context.Context, st *state, c auth.Call, id vigil.DelegateID, r *vigilpb.SubmitDelegateRequest) (*delegate.Record, error) {
	if err := s.roomy(); err != nil {
		return nil, err
	}
	plan, err := s.ledger.Prepared(ctx, st.row.ID, id)
	if errors.Is(err, ledger.ErrLapsed) || err == nil && plan.TreeKey == (bip340.PubKey{}) {
		return nil, &vigil.Error{Code: vigil.CodeNotFound, Message: "no delegate of this id is prepared here, or it was prepared too long ago; prepare a new one", Err: err}
	}
	if err != nil {
		return nil, stored(err)
	}
	req, err := delegate.ParseWallet(delegate.WalletBody{
		ID: id, Message: r.GetMessage(), Proof: r.GetProof(), Forfeits: r.GetForfeits(),
		DeleteMessage: r.GetDeleteMessage(), DeleteProof: r.GetDeleteProof(),
	}, delegate.StockLimits{Inputs: s.cfg.Limits.Inputs, Outputs: s.cfg.Limits.Outputs})
	if err != nil {
		return nil, err
	}
	rec, err := s.checkDelegate(ctx, st, plan, req)
	if err != nil {
		return nil, err
	}
	if err := s.seal(ctx, rec, r.GetForfeits()); err != nil {
		return nil, err
	}
	receipt, err := s.ledger.Submit(ctx, ledger.Submission{
		Record: rec, RejectReplace: r.GetRejectReplace(), PerScript: s.cfg.Limits.Delegates, Audit: []ledger.Link{s.allowed(st.row, c)},
	})
	if errors.Is(err, ledger.ErrLapsed) {
		return nil, lapsed(err)
	}
	if err != nil {
		return nil, stored(err)
	}
	if rec := receipt.Record; rec.State == delegate.Pending && len(rec.Replaces) > 0 {
		s.cfg.Withdraw(rec.Replaces...)
	}
	return receipt.Record, nil
}

// seal puts forfeits that are bearer instruments into the secret store, before the
// record that needs them: planned first, so that they are garbage if no record comes.
// An id whose record is stored never comes here, and what is put again before that is
// of another attempt that failed.
func (s *Service) seal(ctx context.Context, rec *delegate.Record, forfeits []string) error {
	if !rec.HasSealed() {
		return nil
	}
	err := s.ledger.PlanMore(ctx, rec.Wallet, rec.ID, signer.ForfeitName(rec.ID))
	if errors.Is(err, ledger.ErrLapsed) {
		return lapsed(err)
	}
	if err != nil {
		return stored(err)
	}
	if err := s.keys.SealForfeits(ctx, rec, forfeits); err != nil {
		return signed(err)
	}
	return nil
}

func lapsed(err error) error {
	return &vigil.Error{Code: vigil.CodeNotFound, Message: "the delegate was prepared too long ago; prepare a new one", Err: err}
}

// checkDelegate holds a delegate to the operator's parameters and to what its
// indexer says now.
func (s *Service) checkDelegate(ctx context.Context, st *state, plan *ledger.Plan, req *delegate.WalletRequest) (*delegate.Record, error) {
	p, err := s.announced.Current(ctx)
	if err != nil {
		return nil, err
	}
	vtxos, err := s.op.VTXOs(ctx, req.Outpoints())
	if err != nil {
		return nil, operator.Down(err)
	}
	may := st.policy.Effective(s.now())
	terms := delegate.WalletTerms{
		Descriptor: st.desc, Older: st.gens.Older(), TreeKey: plan.TreeKey, VTXOs: vtxos,
		FeeSlack: may.FeeMargin, TwoLeaf: may.TwoLeaf, Now: s.now(),
	}
	var rec *delegate.Record
	err = s.announced.Hold(ctx, p, func(p ark.Params, fees *fee.Estimator) (err error) {
		terms.Params, terms.Estimator = p, fees
		rec, err = delegate.CheckWallet(req, terms)
		return err
	})
	if err != nil {
		return nil, err
	}
	rec.Wallet = st.row.ID
	return rec, nil
}

// owned returns a delegate of the wallet's, or a refusal that says nothing of
// those of others.
func (s *Service) owned(ctx context.Context, st *state, id vigil.DelegateID) (*delegate.Record, error) {
	rec, err := s.ledger.Delegate(ctx, id)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
	case err != nil:
		return nil, stored(err)
	case rec.Kind == delegate.Wallet && rec.Wallet == st.row.ID:
		return rec, nil
	}
	return nil, vigil.Errorf(vigil.CodeNotFound, "the wallet has no delegate %s", id)
}

// page is how many delegates are read at a time.
const page = 256

// delegates reads all of the wallet's that are remembered. One over coins at both
// scripts is found at each, and told once.
func (s *Service) delegates(ctx context.Context, st *state) ([]*delegate.Record, error) {
	var all []*delegate.Record
	told := map[vigil.DelegateID]bool{}
	for _, script := range st.gens.VTXOScripts() {
		var from ledger.Cursor
		for {
			list, next, err := s.ledger.List(ctx, ledger.Filter{Script: script}, page, from)
			if err != nil {
				return nil, stored(err)
			}
			for _, rec := range list {
				if rec.Kind == delegate.Wallet && rec.Wallet == st.row.ID && !told[rec.ID] {
					told[rec.ID] = true
					all = append(all, rec)
				}
			}
			if from = next; from == nil {
				break
			}
		}
	}
	return all, nil
}

// WalletDelegates lists the wallet's delegates.
func (s *Service) WalletDelegates(ctx context.Context, c auth.Call, _ *vigilpb.WalletDelegatesRequest) (a *vigilpb.WalletDelegatesAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		list, err := s.delegates(ctx, st)
		if err != nil {
			return err
		}
		a = &vigilpb.WalletDelegatesAnswer{}
		for _, rec := range list {
			a.Delegates = append(a.Delegates, told(rec))
		}
		return nil
	})
	return a, err
}

// CancelWalletDelegate takes a delegate back. One that is registered is taken out
// of the operator's queue, with the delete proof that came with it, and then
// cancelled; one in a batch is cancelled when that batch fails.
func (s *Service) CancelWalletDelegate(ctx context.Context, c auth.Call, r *vigilpb.CancelWalletDelegateRequest) (a *vigilpb.CancelWalletDelegateAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		id, err := delegateID(r.GetId())
		if err != nil {
			return err
		}
		for range 3 {
			rec, err := s.owned(ctx, st, id)
			if err != nil {
				return err
			}
			rec, err = s.ledger.CancelFor(ctx, rec, s.allowed(st.row, c))
			if errors.Is(err, ledger.ErrConflict) {
				continue // the engine was at it
			}
			if err != nil {
				return stored(err)
			}
			if rec.State.Live() {
				s.cfg.Withdraw(rec.ID)
			}
			a = &vigilpb.CancelWalletDelegateAnswer{Delegate: told(rec)}
			return nil
		}
		return vigil.Errorf(vigil.CodeWalletBusy, "the delegate is being carried out at this moment; retry")
	})
	return a, err
}

func delegateID(b []byte) (id vigil.DelegateID, err error) {
	if len(b) != len(id) {
		return id, malformed("id", "want %d bytes, got %d", len(id), len(b))
	}
	return vigil.DelegateID(b), nil
}

// told is a delegate as its owner sees it.
func told(r *delegate.Record) *vigilpb.Delegate {
	d := &vigilpb.Delegate{
		Id: r.ID.String(), State: r.State.String(), ValidAt: r.ValidAt, Amount: r.InputAmount(), ExpiresAt: r.Expiry(), Attempts: r.Attempts,
	}
	if r.State.Live() {
		d.NextAttempt = r.NextAttempt
	}
	if r.LastError.Code != "" {
		d.LastError = &vigilpb.DelegateError{Code: r.LastError.Code, Message: r.LastError.Text}
	}
	for _, op := range r.Outpoints() {
		d.Inputs = append(d.Inputs, op.String())
	}
	if r.Commitment != ([32]byte{}) {
		d.CommitmentTxid = r.Commitment.String()
	}
	slices.Sort(d.Inputs)
	return d
}
