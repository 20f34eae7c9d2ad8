package delegate

import (
	"bytes"
	"fmt"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/fee"
)

// Misfit is one way in which a record no longer fits the operator's parameters.
type Misfit struct {
	Code string // stable name
	Text string
}

// The names of misfits.
const (
	MisfitNetwork = "OPERATOR_NETWORK_CHANGED"
	MisfitSigner  = "OPERATOR_KEY_CHANGED"
	MisfitForfeit = "OPERATOR_FORFEIT_CHANGED"
	MisfitDust    = "OPERATOR_DUST_CHANGED"
	MisfitFee     = "OPERATOR_FEE_RAISED"
	MisfitAmount  = "OPERATOR_AMOUNTS_CHANGED"
)

// Misfits lists the codes that ParamsChanged can find.
func Misfits() []string {
	return []string{MisfitNetwork, MisfitSigner, MisfitForfeit, MisfitDust, MisfitFee, MisfitAmount}
}

// ParamsChanged says what of a record the operator's parameters of now no
// longer fit; only its user can mend that, by signing again. The record stays
// armed: parameters may be set back, and an expired coin needs no forfeit. A nil
// estimator leaves the fee out.
func ParamsChanged(r *Record, p ark.Params, e *fee.Estimator, now int64) ([]Misfit, error) {
	var misfits []Misfit
	add := func(code, format string, args ...any) {
		misfits = append(misfits, Misfit{Code: code, Text: fmt.Sprintf(format, args...)})
	}
	if p.Network != r.Network {
		add(MisfitNetwork, "the operator is on %s; this was signed for %s", p.Network, r.Network)
	}
	switch {
	case !SignerAccepted(r, p, now):
		add(MisfitSigner, "the operator no longer signs for %s, which stands in the scripts", r.SignerKey)
	case !SignerAccepted(r, p, max(now, r.ValidAt)):
		add(MisfitSigner, "before this may run the operator will no longer sign for %s, which stands in the scripts", r.SignerKey)
	}
	if r.NeedsForfeits(now) {
		if !bytes.Equal(p.ForfeitScript, r.ForfeitScript) {
			add(MisfitForfeit, "the forfeits pay to another address than the operator's of now")
		}
		if p.Dust != r.Dust {
			add(MisfitDust, "the operator's dust is %d; the forfeits were signed for %d", p.Dust, r.Dust)
		}
	}
	for _, out := range r.Outputs {
		if _, payment := ark.TaprootKey(out.PkScript); payment && (out.Value < p.Dust || p.VtxoMax >= 0 && out.Value > p.VtxoMax) {
			add(MisfitAmount, "an output holds %d; the operator takes %d to %d (-1: no bound)", out.Value, p.Dust, p.VtxoMax)
			break
		}
	}
	if e == nil {
		return misfits, nil
	}
	due, err := e.Fee(r.feeInputs(now), r.feeOutputs(), max(r.ValidAt, now))
	if err != nil {
		return misfits, err
	}
	if r.Fee < due {
		add(MisfitFee, "the operator asks %d; %d were left for it", due, r.Fee)
	}
	return misfits, nil
}

// SignerAccepted says whether the operator still signs for the key in the
// record's scripts at now.
func SignerAccepted(r *Record, p ark.Params, now int64) bool {
	if r.SignerKey.XOnly() == p.SignerKey.XOnly() {
		return true
	}
	for _, d := range p.DeprecatedSigners {
		if d.Key.XOnly() == r.SignerKey.XOnly() {
			return d.Cutoff == 0 || now <= d.Cutoff
		}
	}
	return false
}

// NeedsForfeits says whether an input is still live by what was known of it.
func (r *Record) NeedsForfeits(now int64) bool {
	for _, in := range r.Inputs {
		if !in.Recoverable && now <= in.ExpiresAt {
			return true
		}
	}
	return false
}

func (r *Record) feeInputs(now int64) []fee.InputArg {
	args := make([]fee.InputArg, len(r.Inputs))
	for i, in := range r.Inputs {
		kind := fee.VTXO
		if in.Recoverable || now > in.ExpiresAt {
			kind = fee.Recoverable
		}
		args[i] = fee.InputArg{Amount: in.Amount, Expiry: in.ExpiresAt, Birth: in.CreatedAt, Type: kind}
	}
	return args
}

func (r *Record) feeOutputs() []fee.OutputArg {
	var args []fee.OutputArg
	for _, out := range r.Outputs {
		if _, payment := ark.TaprootKey(out.PkScript); payment {
			args = append(args, fee.OutputArg{Amount: out.Value, Script: out.PkScript})
		}
	}
	return args
}
