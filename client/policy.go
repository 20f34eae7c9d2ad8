package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/vigilpb"
)

// ErrLoosens is returned by SetPolicy for a change that would allow more than the
// policy in force, without its owner's word that he means it.
var ErrLoosens = errors.New("client: the change loosens the policy")

// Policy is what Vigil signs for the wallet beside renewals, which it always does.
// Amounts are satoshis, times seconds.
type Policy struct {
	Version       uint64 // counts changes
	PerTx         int64  // most that one transaction may send; 0: no bound
	Window        int64  // most in any WindowSeconds; 0: no bound
	WindowSeconds uint32
	Allow         [][]byte // scripts that may be paid; none: any; an empty one alone: nobody
	FeeMargin     int64    // what the operator may take beyond 1.25 times its fee
	TwoLeaf       bool     // delegates of coins at the two-leaf script: see TrustTwoLeaf
	Assets        bool     // units of assets may leave
	CoolDown      uint32   // how long a loosening waits
}

// Policies are the policy in force and a loosening that waits.
type Policies struct {
	Policy
	Pending *Policy // nil: none
	At      int64   // unix seconds, when Pending takes hold
}

// Policy asks Vigil for the wallet's policy.
func (w *Wallet) Policy(ctx context.Context) (Policies, error) {
	var a vigilpb.GetPolicyAnswer
	if err := w.ask(ctx, "GetPolicy", &vigilpb.GetPolicyRequest{}, &a); err != nil {
		return Policies{}, err
	}
	return policies(a.Policy, a.Pending, a.EffectiveAt), nil
}

// SetPolicy changes the policy that was read as Version, or whatever it is by now
// when that is 0. Without TwoLeaf the device's own word for that ends. What tightens holds at once. What loosens anything takes the host
// key, which loosen says may be used, and holds after the cool-down that At tells.
// Any change takes the place of a loosening that waits. The error is ErrLoosens when
// the host key would be needed.
func (w *Wallet) SetPolicy(ctx context.Context, p Policy, loosen bool) (Policies, error) {
	if !p.TwoLeaf { // first, whatever becomes of the call
		if err := w.TrustTwoLeaf(ctx, false); err != nil {
			return Policies{}, err
		}
	}
	req := &vigilpb.SetPolicyRequest{Policy: &vigilpb.Policy{
		PerTx: p.PerTx, Window: p.Window, WindowSeconds: p.WindowSeconds, Allow: p.Allow, FeeMargin: p.FeeMargin,
		TwoLeaf: p.TwoLeaf, Assets: p.Assets, CoolDown: p.CoolDown,
	}}
	if p.Version > 0 {
		req.Policy.Version = p.Version + 1
	}
	var a vigilpb.SetPolicyAnswer
	err := w.ask(ctx, "SetPolicy", req, &a)
	if vigil.CodeOf(err) == vigil.CodeHostKeyNeeded {
		if !loosen {
			return Policies{}, fmt.Errorf("%w: %w", ErrLoosens, err)
		}
		err = w.askHost(ctx, "SetPolicy", req, &a)
	}
	if err != nil {
		return Policies{}, err
	}
	return policies(a.Policy, a.Pending, a.EffectiveAt), nil
}

// TrustTwoLeaf keeps on this device the owner's word that coins which came to the
// script of group and operator alone may be delegated; beside it the policy must have
// TwoLeaf. That Vigil says so of the policy is not enough to make a device sign what
// this costs: nothing binds the forfeit of such a coin to the batch that renews it, so
// that from the moment in which the operator sees it, the operator could take the coin
// and renew nothing. The owner trusts it not to. To whoever has the operator's help the
// stored forfeit is as good as the coin; Vigil keeps it sealed, and counts it as a spend
// of the whole coin against PerTx and Window. Without this word such coins are moved to
// the wallet's own script when the device is online, and have no cover until then.
func (w *Wallet) TrustTwoLeaf(ctx context.Context, trust bool) error {
	if w.current().TwoLeaf == trust {
		return nil
	}
	return w.update(ctx, func(st *state) error { st.TwoLeaf = trust; return nil })
}

// optedIn leaves of coins at the two-leaf script those that may be delegated: all, if
// this device's owner said so and the policy does by now, or none.
func (w *Wallet) optedIn(ctx context.Context, coins []coin) ([]coin, error) {
	if len(coins) == 0 || !w.current().TwoLeaf {
		return nil, nil
	}
	p, err := w.Policy(ctx)
	if err != nil || !p.TwoLeaf {
		return nil, err
	}
	return coins, nil
}

// KeepPolicy takes a loosening back that waits, which any device may.
func (w *Wallet) KeepPolicy(ctx context.Context) (Policies, error) {
	now, err := w.Policy(ctx)
	if err != nil || now.Pending == nil {
		return now, err
	}
	return w.SetPolicy(ctx, now.Policy, false)
}

func policies(now, pending *vigilpb.Policy, at int64) Policies {
	out := Policies{Policy: policyOf(now)}
	if pending != nil {
		p := policyOf(pending)
		out.Pending, out.At = &p, at
	}
	return out
}

func policyOf(p *vigilpb.Policy) Policy {
	return Policy{
		Version: p.GetVersion(), PerTx: p.GetPerTx(), Window: p.GetWindow(), WindowSeconds: p.GetWindowSeconds(), Allow: p.GetAllow(),
		FeeMargin: p.GetFeeMargin(), TwoLeaf: p.GetTwoLeaf(), Assets: p.GetAssets(), CoolDown: p.GetCoolDown(),
	}
}

// PayeeScript is the script of an Ark address or an on-chain one, as a policy's
// allow-list names payees.
func (w *Wallet) PayeeScript(to string) ([]byte, error) {
	if a, err := ark.ParseAddress(to); err == nil {
		return a.PkScript(), nil
	}
	return onchainScript(to, w.current().Network)
}
