package policy

import (
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/spend"
)

// Spent is what was counted, by spend.Spend.Key.
type Spent map[[32]byte]int64

// Count is what a decision adds to the window once its signatures are made.
type Count struct {
	Key    [32]byte
	Amount int64 // satoshis
}

// Decision is the answer to one request: all of it may be signed, or nothing.
type Decision struct {
	Allow  bool
	Code   vigil.Code // of a refusal
	Reason string     // a sentence for people; "" when allowed
	// Counts are what was not counted before; for the store to write beside the
	// audit entry.
	Counts []Count
	// Amount is what leaves the wallet by the request, counted before or not.
	Amount int64
}

// Err is the refusal as an error, nil for an allowance.
func (d Decision) Err() error {
	if d.Allow {
		return nil
	}
	return &vigil.Error{Code: d.Code, Message: d.Reason}
}

// Since is from when on, in unix seconds, spends have to be known to Decide at
// now: the policy's window, and at least a day, in which a retry is recognised.
func (p Policy) Since(now int64) int64 { return now - max(p.WindowSeconds, day) }

// Recent says whether what was counted at a time, in unix seconds, is within the
// window at now: without a window everything is.
func (p Policy) Recent(at, now int64) bool { return p.Window == 0 || at >= now-p.WindowSeconds }

// Decide says whether the documents of one request may be signed (spec section
// 8). They were read by spend.Parse from what is to be signed, so that amounts
// and destinations are the true ones; spent is what was counted within the policy's
// window, older what was counted since Since and before that. A spend whose Key was
// counted before costs nothing again.
func Decide(p Policy, spends []*spend.Spend, spent, older Spent) Decision {
	d := decision{Policy: p, spent: spent, older: older, fresh: Spent{}}
	for _, s := range spends {
		if err := d.judge(s); err != nil {
			return Decision{Code: err.Code, Reason: err.Message, Amount: d.amount}
		}
	}
	return Decision{Allow: true, Counts: d.counts, Amount: d.amount}
}

type decision struct {
	Policy
	spent  Spent
	older  Spent
	fresh  Spent // counted in this request
	counts []Count
	amount int64
}

func (d *decision) judge(s *spend.Spend) *vigil.Error {
	switch s.Kind {
	case spend.Intent, spend.DelegateForfeit:
		return nil // moves nothing, or waits for Vigil's own delegate key
	case spend.Register:
		if most := s.FeeDue + s.FeeDue/4 + d.FeeMargin; s.Fee > most {
			return vigil.Errorf(vigil.CodeFeeTooHigh, "the intent leaves %d for the operator; the policy allows %d", s.Fee, most)
		}
	case spend.BearerForfeit:
		if !d.TwoLeaf {
			return vigil.Errorf(vigil.CodePolicyBearer, "a forfeit on the leaf of group and operator is bound to no batch; the policy does not opt in to that")
		}
		// The opt-in is for coins that have no other leaf for it.
		if slices.ContainsFunc(s.Inputs, func(in spend.Input) bool { return in.Script != spend.TwoLeafScript }) {
			return vigil.Errorf(vigil.CodePolicyBearer, "the coin's script has a delegate leaf, on which a forfeit is bound to a batch; none is signed on another")
		}
		if !s.Assets && !d.Assets {
			return vigil.Errorf(vigil.CodePolicyAssets, "with the coin its holder would have units of assets; the policy does not allow that")
		}
		return d.count(s)
	case spend.Forfeits, spend.Boarding:
		// The fee was judged when the group signed the intent. To stop here because
		// the operator lowered its fees meanwhile would get the wallet banned.
	case spend.Exit:
		// Bounds in satoshis count its fee. An allow-list does not name the miners.
		if len(d.Allow) > 0 && s.Fee > d.FeeMargin {
			return vigil.Errorf(vigil.CodeFeeTooHigh, "the exit leaves %d for the miners; with an allow-list the policy's fee margin, %d, is the most", s.Fee, d.FeeMargin)
		}
	case spend.ArkTx, spend.Checkpoints:
	default:
		return vigil.Errorf(vigil.CodeDocumentInvalid, "no rule for %q", s.Kind)
	}
	if s.Renewal() {
		return nil
	}
	if !s.Assets && !d.Assets {
		return vigil.Errorf(vigil.CodePolicyAssets, "units of assets would leave the wallet or be burned; the policy does not allow that")
	}
	if err := d.destinations(s); err != nil {
		return err
	}
	return d.count(s)
}

// destinations holds every output that is not the wallet's own in Ark against
// the allow-list.
func (d *decision) destinations(s *spend.Spend) *vigil.Error {
	if len(d.Allow) == 0 {
		return nil
	}
	for _, list := range [][]spend.Output{s.Foreign, s.Onchain} {
		for _, out := range list {
			if len(out.Script) == 0 || !contains(d.Allow, out.Script) {
				return vigil.Errorf(vigil.CodePolicyDestination, "%d satoshis would go to %x, which is not on the allow-list", out.Amount, out.Script)
			}
		}
	}
	return nil
}

// count adds what leaves to the window, once for each key.
func (d *decision) count(s *spend.Spend) *vigil.Error {
	amount := s.Leaves()
	if amount > maxSatoshi {
		return vigil.Errorf(vigil.CodeDocumentInvalid, "%d satoshis would leave", amount)
	}
	d.amount = min(d.amount+amount, maxSatoshi)
	if amount == 0 || max(d.spent[s.Key], d.older[s.Key], d.fresh[s.Key]) >= amount {
		return nil
	}
	if d.PerTx > 0 && amount > d.PerTx {
		return vigil.Errorf(vigil.CodePolicyPerTx, "%d satoshis would leave in one transaction; the policy allows %d", amount, d.PerTx)
	}
	if d.Window > 0 {
		if sum := d.sum(s.Key); amount > d.Window-sum {
			return vigil.Errorf(vigil.CodePolicyWindow, "%d satoshis would leave, after %d in the last %d s; the policy allows %d", amount, sum, d.WindowSeconds, d.Window)
		}
	}
	d.fresh[s.Key] = amount
	d.counts = append(d.counts, Count{s.Key, amount})
	return nil
}

// sum is what was counted, here and before, without key; at most all coins.
func (d *decision) sum(key [32]byte) int64 {
	var sum int64
	for _, m := range []Spent{d.spent, d.fresh} {
		for k, v := range m {
			if k != key {
				sum = min(sum+v, maxSatoshi)
			}
		}
	}
	return sum
}
