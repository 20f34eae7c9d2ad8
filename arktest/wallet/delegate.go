package wallet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/bip340"
)

// Errors of delegating.
var (
	// ErrNotDelegable is returned when no coin's script names the delegate.
	ErrNotDelegable = errors.New("wallet: no coin has a leaf of this delegate")
	// ErrDust is returned when fees leave less than the operator's dust.
	ErrDust = errors.New("wallet: amount is below dust")
)

// DelegateInfo is what a delegate service says of itself.
type DelegateInfo struct {
	Key     bip340.PubKey
	Fee     int64       // satoshis
	Address ark.Address // where the fee goes
}

// DelegateOptions of one delegate; the zero value is what the stock wallet
// does by itself.
type DelegateOptions struct {
	// Destination is who gets the renewed coins; zero is the script of the first
	// coin.
	Destination ark.Address
	// ValidAt is when the delegate may act; zero is when a tenth of the remaining
	// life is left, and a minute from now for coins without one.
	ValidAt time.Time
	// ExpireAt is when the intent ends by itself; zero is never.
	ExpireAt time.Time
	// Fee and FeeScript, when FeeScript is set, replace the service's own.
	Fee       int64
	FeeScript []byte
	// Cosigners replace the service's key as the intent's cosigners: for tests.
	Cosigners []bip340.PubKey
	// RejectReplace asks the service to refuse when an older delegate exists.
	RejectReplace bool
}

// DelegateRequest is the body of POST /v1/delegate.
type DelegateRequest struct {
	Intent        Intent   `json:"intent"`
	ForfeitTxs    []string `json:"forfeit_txs"`
	RejectReplace bool     `json:"reject_replace"`
}

// Delegate signs the renewal of vtxos ahead (protocol section 6.2): one register
// intent that the delegate may use from ValidAt on, and a forfeit for each coin
// that needs one now. Coins without a leaf of the delegate are left out, as the
// stock wallet does; none left is ErrNotDelegable.
func (w *Wallet) Delegate(ctx context.Context, vtxos []ark.VTXO, info DelegateInfo, opt DelegateOptions) (DelegateRequest, error) {
	p, err := w.op.Params(ctx)
	if err != nil {
		return DelegateRequest{}, err
	}
	coins, err := w.coins(vtxos)
	if err != nil {
		return DelegateRequest{}, err
	}
	return delegation{w.owner, p, w.now().Unix()}.sign(coins, info, opt)
}

// delegation signs under given parameters, at a given unix time.
type delegation struct {
	owner  *bip340.Key
	params ark.Params
	now    int64
}

func (d delegation) sign(coins []coin, info DelegateInfo, opt DelegateOptions) (DelegateRequest, error) {
	delegate := info.Key.XOnly()
	coins = slices.DeleteFunc(slices.Clone(coins), func(c coin) bool { return delegateLeaf(c.tree, delegate) < 0 })
	if len(coins) == 0 {
		return DelegateRequest{}, ErrNotDelegable
	}
	at := d.when(coins)
	if !opt.ValidAt.IsZero() {
		at = opt.ValidAt.Unix()
	}
	outs, err := d.outputs(coins, info, opt, at)
	if err != nil {
		return DelegateRequest{}, err
	}
	cosigners := opt.Cosigners
	if cosigners == nil {
		cosigners = []bip340.PubKey{info.Key}
	}
	end := int64(0)
	if !opt.ExpireAt.IsZero() {
		end = opt.ExpireAt.Unix()
	}
	message, err := intent.NewRegister(at, end, cosigners...).Encode()
	if err != nil {
		return DelegateRequest{}, err
	}
	req := DelegateRequest{ForfeitTxs: []string{}, RejectReplace: opt.RejectReplace}
	if req.Intent, err = prove(d.owner, message, proofInputs(coins), outs); err != nil {
		return DelegateRequest{}, err
	}
	for _, c := range coins {
		if c.Recoverable(d.now) {
			continue
		}
		f, err := delegateForfeit(d.owner, c, delegateLeaf(c.tree, delegate), d.params.Dust, d.params.ForfeitScript)
		if err != nil {
			return DelegateRequest{}, fmt.Errorf("%s: %w", c.Outpoint, err)
		}
		req.ForfeitTxs = append(req.ForfeitTxs, f)
	}
	return req, nil
}

// when is the stock wallet's choice of time: a tenth before the earliest expiry.
func (d delegation) when(coins []coin) int64 {
	earliest := int64(0)
	for _, c := range coins {
		if !c.Recoverable(d.now) && (earliest == 0 || c.ExpiresAt < earliest) {
			earliest = c.ExpiresAt
		}
	}
	if earliest <= d.now {
		return d.now + 60
	}
	return earliest - (earliest-d.now)/10
}

// outputs are the fee, when one is asked, and all the rest to the owner.
func (d delegation) outputs(coins []coin, info DelegateInfo, opt DelegateOptions, at int64) ([]*wire.TxOut, error) {
	feeScript, reward := info.Address.PkScript(), info.Fee
	if opt.FeeScript != nil {
		feeScript, reward = opt.FeeScript, opt.Fee
	}
	fees, err := newFees(d.params.Fees, at)
	if err != nil {
		return nil, err
	}
	var amount int64
	for _, c := range coins {
		f, err := fees.input(c.VTXO, fee.VTXO) // whatever it is, as the stock wallet says
		if err != nil {
			return nil, err
		}
		if f < c.Amount { // a coin that costs more than it has is carried along
			amount += c.Amount - f
		}
	}
	var outs []*wire.TxOut
	if reward > 0 {
		out := wire.NewTxOut(reward, feeScript)
		f, err := fees.output(out)
		if err != nil {
			return nil, err
		}
		// The stock wallet pays for this output and forgets that the other one may
		// cost something too.
		amount -= reward + f
		outs = append(outs, out)
	}
	if amount < d.params.Dust {
		return nil, fmt.Errorf("%w: %d", ErrDust, amount)
	}
	destination := coins[0].Script
	if opt.Destination != (ark.Address{}) {
		destination = opt.Destination.PkScript()
	}
	outs = append(outs, wire.NewTxOut(amount, destination))
	return withAssets(coins, outs, destination)
}

// Groups parts coins by the UTC day of their expiry, as the stock wallet does
// before it delegates; coins that are recoverable at now (unix seconds) join the
// earliest group. Each group is one delegate.
func Groups(vtxos []ark.VTXO, now int64) [][]ark.VTXO {
	const day = 24 * 60 * 60
	byDay := map[int64][]ark.VTXO{}
	var days []int64
	var recoverable []ark.VTXO
	for _, v := range vtxos {
		if v.Recoverable(now) {
			recoverable = append(recoverable, v)
			continue
		}
		d := v.ExpiresAt / day
		if byDay[d] == nil {
			days = append(days, d)
		}
		byDay[d] = append(byDay[d], v)
	}
	if len(days) == 0 {
		if len(recoverable) == 0 {
			return nil
		}
		return [][]ark.VTXO{recoverable}
	}
	slices.Sort(days)
	byDay[days[0]] = append(byDay[days[0]], recoverable...)
	groups := make([][]ark.VTXO, len(days))
	for i, d := range days {
		groups[i] = byDay[d]
	}
	return groups
}
