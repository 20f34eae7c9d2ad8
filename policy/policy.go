// Package policy owns the decision whether something may be signed: a wallet's
// policy, how it may change, and what it says to documents that were read. It is
// pure and knows no clock, no storage and no keys.
package policy

import (
	"bytes"
	"errors"
	"slices"

	"github.com/vigil-ark/vigil/internal/canon"
)

const (
	format = 1
	// MaxAllow bounds the allow-list.
	MaxAllow = 256
	// MaxScript bounds an entry of it in bytes: a P2WSH or P2TR script has 34.
	MaxScript = 64
	// maxSize bounds an encoded policy in bytes.
	maxSize = 32 << 10

	day = 86_400

	// DefaultCoolDown is how long a loosening waits: a day, so that its owner hears
	// of it and can take it back.
	DefaultCoolDown = day
	// MaxCoolDown keeps a wallet from locking itself: 90 days, after which the
	// recovery key could spend anyhow.
	MaxCoolDown = 90 * day
	// MaxWindow is the longest rolling window, 31 days: the counted spends of that
	// time are kept.
	MaxWindow = 31 * day

	maxSatoshi = 21_000_000 * 100_000_000
)

// ErrPolicy is returned for a policy that contradicts itself.
var ErrPolicy = errors.New("policy: impossible")

// Policy says what a wallet's device may spend without its host key. Renewals,
// deletions and delegates are not spends and are always allowed. Amounts are
// satoshis, times seconds.
type Policy struct {
	// Version counts changes; the store uses it, decisions do not.
	Version uint32
	// PerTx bounds what leaves the wallet in one transaction, Window what leaves in
	// WindowSeconds together; 0 is no bound.
	PerTx, Window int64
	WindowSeconds int64
	// Allow lists the scripts that may be paid, in Ark and on chain; none is any, and
	// an empty script alone is nobody.
	Allow [][]byte
	// FeeMargin is what an intent may leave to the operator beyond 1.25 times its
	// own fee, and, where there is an allow-list, an exit to the miners: a bound on
	// who is paid bounds also what is burned.
	FeeMargin int64
	// TwoLeaf allows delegates of coins at the two-leaf script, and so forfeits signed
	// ahead that nothing pins to a batch: the operator is trusted to take the coin only
	// for the batch that renews it. They count as spends of the whole coin.
	TwoLeaf bool
	// Assets allows units of assets to leave, which no bound in satoshis measures.
	Assets bool
	// CoolDown is how long a loosening of this policy waits before it holds.
	CoolDown int64
}

// Default is the policy of a new wallet: no bounds, nothing opted in that risks
// coins, and a day's cool-down once there is something to loosen.
func Default() Policy { return Policy{Assets: true, CoolDown: DefaultCoolDown} }

// Check says whether the policy can be kept. The error is ErrPolicy.
func (p Policy) Check() error {
	if _, err := p.Encode(); err != nil {
		return errors.Join(ErrPolicy, err)
	}
	if (p.Window > 0) != (p.WindowSeconds > 0) {
		return errors.Join(ErrPolicy, errors.New("a rolling limit needs an amount and a time"))
	}
	for i, s := range p.Allow {
		if len(s) == 0 && len(p.Allow) > 1 || slices.ContainsFunc(p.Allow[:i], func(o []byte) bool { return bytes.Equal(o, s) }) {
			return errors.Join(ErrPolicy, errors.New("the allow-list names a script twice, or an empty one beside others"))
		}
	}
	return nil
}

func (p *Policy) fields(c *canon.Coder) {
	canon.Num(c, &p.Version, 1<<32-1, "version")
	c.Amount(&p.PerTx, "per transaction")
	c.Amount(&p.Window, "window")
	canon.Num(c, &p.WindowSeconds, MaxWindow, "window seconds")
	canon.List(c, &p.Allow, MaxAllow, "allow", func(c *canon.Coder, s *[]byte) { c.Bytes(s, MaxScript, "script") })
	c.Amount(&p.FeeMargin, "fee margin")
	c.Bool(&p.TwoLeaf, "two-leaf")
	c.Bool(&p.Assets, "assets")
	canon.Num(c, &p.CoolDown, MaxCoolDown, "cool-down")
}

// Encode writes the policy; the error is canon.ErrBounds.
func (p Policy) Encode() ([]byte, error) { return canon.Encode(format, maxSize, p.fields) }

// Decode reads what Encode wrote. Errors are canon.ErrMalformed and
// canon.ErrNewer.
func Decode(b []byte) (Policy, error) {
	var p Policy
	return p, canon.Decode(b, format, maxSize, p.fields)
}
