package stock

import (
	"context"
	"errors"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
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
// says now. A refusal under parameters that have changed meanwhile is not the
// caller's fault: they are read again, and it is checked once more.
func (s *Service) check(ctx context.Context, req *delegate.StockRequest) (*delegate.Record, error) {
	p, err := s.params(ctx)
	if err != nil {
		return nil, err
	}
	vtxos, err := s.op.VTXOs(ctx, req.Outpoints())
	if err != nil {
		return nil, operatorDown(err)
	}
	rec, refused := s.checkUnder(p, req, vtxos)
	if refused == nil || !mayBeStale(refused) {
		return rec, refused
	}
	fresh, err := s.refresh(ctx)
	if err != nil {
		return nil, err
	}
	if fresh.Digest == p.Digest {
		return nil, refused
	}
	return s.checkUnder(fresh, req, vtxos)
}

func (s *Service) checkUnder(p ark.Params, req *delegate.StockRequest, vtxos []ark.VTXO) (*delegate.Record, error) {
	fees, err := s.estimator(p.Fees)
	if err != nil {
		return nil, err
	}
	terms := delegate.StockTerms{
		Params: p, Estimator: fees, Keys: s.cfg.Keys, Fee: s.cfg.Fee, FeeSlack: s.cfg.FeeSlack, AnyDestination: s.cfg.AnyDestination,
		VTXOs: vtxos, Now: s.cfg.Now().Unix(),
	}
	if s.address != (ark.Address{}) {
		terms.FeeScript = s.address.PkScript()
	}
	return delegate.CheckStock(req, terms)
}

// mayBeStale says whether a refusal depends on the operator's parameters.
func mayBeStale(err error) bool {
	switch vigil.CodeOf(err) {
	case vigil.CodeForfeitInvalid, vigil.CodeScriptInvalid, vigil.CodeDelegateKeyMissing, vigil.CodeOutputAmount,
		vigil.CodeFeeTooLow, vigil.CodeFeeTooHigh, vigil.CodeProofTooHeavy, vigil.CodeSignatureInvalid:
		return true
	}
	return false
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
