package wallet

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/vigilpb"
)

// lines is how much history an actor takes up, and what a page has by default.
const (
	lines    = 100
	maxLines = 500
)

func parseOutpoint(text string) (wire.OutPoint, error) { return ark.ParseOutpoint(text) }

// maxBranches bounds the branches of one answer: each is some tens of kilobytes.
const maxBranches = 16

// Branches gives the transactions above coins, as far as Vigil's renewals made
// them: those of coins that the device made or received are known to it, and to
// the operator's indexer.
func (s *Service) Branches(ctx context.Context, c auth.Call, r *vigilpb.BranchesRequest) (a *vigilpb.BranchesAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		wanted, err := outpoints(r.GetOutpoints(), 1024)
		if err != nil {
			return err
		}
		v, err := s.view(ctx, st)
		if err != nil {
			return err
		}
		a = &vigilpb.BranchesAnswer{}
		for _, h := range v.unspent() {
			switch {
			case len(wanted) > 0 && !slices.Contains(wanted, h.Outpoint), len(wanted) == 0 && h.ExitData, h.Origin == (vigil.DelegateID{}):
				continue
			case len(a.Branches) == maxBranches:
				a.More = true
				return nil
			}
			b, err := s.ledger.Branch(ctx, h.Origin, h.Commitment)
			if errors.Is(err, ledger.ErrNotFound) {
				continue
			}
			if err != nil {
				return stored(err)
			}
			a.Branches = append(a.Branches, branch(h, b))
		}
		return nil
	})
	return a, err
}

// branch is a stored branch as it is told.
func branch(h *ledger.Holding, b *delegate.Branch) *vigilpb.Branch {
	return &vigilpb.Branch{
		Outpoint: h.Outpoint.String(), CommitmentTxid: b.Commitment.String(), ExpiresAt: h.ExpiresAt,
		Commitment: base64.StdEncoding.EncodeToString(b.Tx), Txs: b.Nodes,
	}
}

// History lists what happened to the wallet, oldest first.
func (s *Service) History(ctx context.Context, c auth.Call, r *vigilpb.HistoryRequest) (a *vigilpb.HistoryAnswer, err error) {
	if err := s.synced(ctx, c); err != nil {
		return nil, err
	}
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		limit := int(min(r.GetLimit(), maxLines))
		if limit == 0 {
			limit = lines
		}
		if len(r.GetFrom()) > maxCursor {
			return malformed("from", "%d bytes, which is no cursor of an answer", len(r.GetFrom()))
		}
		list, next, err := s.ledger.HistoryOf(ctx, st.row.ID, limit, r.GetFrom())
		if err != nil {
			return stored(err)
		}
		a = &vigilpb.HistoryAnswer{Next: next}
		for _, e := range list {
			a.Entries = append(a.Entries, line(e))
		}
		return nil
	})
	return a, err
}

const maxCursor = 128

func line(e ledger.Entry) *vigilpb.HistoryEntry {
	out := &vigilpb.HistoryEntry{At: e.At, Kind: e.Type, Txid: e.Commitment.String(), Amount: e.Amount, Fee: e.Fee}
	if e.Type == ledger.LineSend || e.Type == ledger.LineExit || e.Type == ledger.LineUnroll {
		out.Amount = -e.Amount
	}
	if e.Delegate != (vigil.DelegateID{}) && e.Type == ledger.LineSettle {
		out.DelegateId = e.Delegate[:]
	}
	for _, op := range slices.Concat(e.Inputs, e.Leaves) {
		out.Outpoints = append(out.Outpoints, op.String())
	}
	return out
}

// AcknowledgeBranches notes which branches the device keeps.
func (s *Service) AcknowledgeBranches(ctx context.Context, c auth.Call, r *vigilpb.AcknowledgeBranchesRequest) (a *vigilpb.AcknowledgeBranchesAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		ops, err := outpoints(r.GetOutpoints(), 1024)
		if err != nil {
			return err
		}
		a = &vigilpb.AcknowledgeBranchesAnswer{}
		return stored(s.ledger.MarkExitData(ctx, st.row.ID, ops, s.allowed(st.row, c)))
	})
	return a, err
}
