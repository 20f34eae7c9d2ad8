package stock

import (
	"context"
	"errors"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
)

// Submit checks and stores a delegate; when it returns without an error, the
// delegate is durable. A body that was here before is answered with its state
// before anything is asked or computed, whatever became of it: an old body that
// somebody replays changes nothing.
func (s *Service) Submit(ctx context.Context, sub vigil.Submission) (vigil.Summary, error) {
	req, err := delegate.ParseStock(
		delegate.StockBody{Message: sub.Message, Proof: sub.Proof, Forfeits: sub.Forfeits},
		delegate.StockLimits{Inputs: s.cfg.Inputs, Outputs: s.cfg.Outputs})
	if err != nil {
		return vigil.Summary{}, err
	}
	known, err := s.ledger.Delegate(ctx, req.ID())
	if err == nil {
		return summary(known), nil
	}
	if !errors.Is(err, ledger.ErrNotFound) {
		return vigil.Summary{}, stored(err)
	}
	if s.cfg.DiskLow() {
		return vigil.Summary{}, vigil.Errorf(vigil.CodeDiskLow,
			"this server is short of disk and takes nothing new; delegates that it has are kept alive")
	}
	rec, err := s.check(ctx, req)
	if err != nil {
		return vigil.Summary{}, err
	}
	receipt, err := s.ledger.Submit(ctx, ledger.Submission{
		Record: rec, RejectReplace: sub.RejectReplace, PerScript: s.cfg.PerScript,
	})
	if err != nil {
		return vigil.Summary{}, stored(err)
	}
	if !receipt.Known {
		s.cfg.Wake()
	}
	return summary(receipt.Record), nil
}

// check holds the request to the operator's parameters and to what its indexer
// says now.
func (s *Service) check(ctx context.Context, req *delegate.StockRequest) (*delegate.Record, error) {
	p, err := s.announced.Current(ctx)
	if err != nil {
		return nil, err
	}
	vtxos, err := s.op.VTXOs(ctx, req.Outpoints())
	if err != nil {
		return nil, operator.Down(err)
	}
	terms := delegate.StockTerms{
		Keys: s.cfg.Keys, Fee: s.cfg.Fee, FeeSlack: s.cfg.FeeSlack, AnyDestination: s.cfg.AnyDestination,
		VTXOs: vtxos, Now: s.cfg.Now().Unix(),
	}
	if s.address != (ark.Address{}) {
		terms.FeeScript = s.address.PkScript()
	}
	var rec *delegate.Record
	err = s.announced.Hold(ctx, p, func(p ark.Params, fees *fee.Estimator) (err error) {
		terms.Params, terms.Estimator = p, fees
		rec, err = delegate.CheckStock(req, terms)
		return err
	})
	return rec, err
}

// summary is a record as its owner may see it.
func summary(r *delegate.Record) vigil.Summary {
	sum := vigil.Summary{
		ID: r.ID, State: r.State.String(), ValidAt: r.ValidAt, Amount: r.InputAmount(), ExpiresAt: r.Expiry(),
		Attempts: r.Attempts, ErrorCode: r.LastError.Code, ErrorText: r.LastError.Text,
	}
	if r.State.Live() {
		sum.NextAttempt = r.NextAttempt
	}
	for _, op := range r.Outpoints() {
		sum.Inputs = append(sum.Inputs, op.String())
	}
	if r.Commitment != ([32]byte{}) {
		sum.CommitmentTx = r.Commitment.String()
	}
	return sum
}
