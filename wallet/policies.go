package wallet

import (
	"context"
	"slices"

	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/policy"
	"github.com/vigil-ark/vigil/vigilpb"
)

// GetPolicy shows what Vigil signs for the wallet.
func (s *Service) GetPolicy(ctx context.Context, c auth.Call, _ *vigilpb.GetPolicyRequest) (a *vigilpb.GetPolicyAnswer, err error) {
	err = s.do(ctx, c, func(_ context.Context, st *state) error {
		p := s.policyAnswer(st)
		a = &vigilpb.GetPolicyAnswer{Policy: p.Policy, Pending: p.Pending, EffectiveAt: p.EffectiveAt}
		return nil
	})
	return a, err
}

// SetPolicy changes it: what tightens holds at once; a change that loosens anything
// needs the host key, and that part of it holds after the cool-down.
func (s *Service) SetPolicy(ctx context.Context, c auth.Call, r *vigilpb.SetPolicyRequest) (a *vigilpb.SetPolicyAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		if r.GetPolicy() == nil {
			return malformed("policy", "it is missing")
		}
		next, err := st.policy.Propose(fromPolicy(r.GetPolicy()), isHost(st.row, c.Key), s.now())
		if err != nil {
			return err
		}
		b, err := next.Encode()
		if err != nil {
			return malformed("policy", "%w", err)
		}
		if err := s.change(ctx, st, c, nil, ledger.Extras{Policy: &ledger.Policy{Current: b}}); err != nil {
			return err
		}
		st.policy = next
		if next.Pending != nil {
			s.publish(st, notify.Event{Kind: notify.Policy, Text: "a looser policy was announced and holds from " + clock(next.At) + " on", TimeLeft: next.At - s.now()})
		} else {
			s.publish(st, notify.Event{Kind: notify.Policy, Text: "the policy was changed"})
		}
		a = s.policyAnswer(st)
		return nil
	})
	return a, err
}

func (s *Service) policyAnswer(st *state) *vigilpb.SetPolicyAnswer {
	now := s.now()
	a := &vigilpb.SetPolicyAnswer{Policy: toPolicy(st.policy.Effective(now))}
	if st.policy.Pending != nil && now < st.policy.At {
		a.Pending, a.EffectiveAt = toPolicy(*st.policy.Pending), st.policy.At
	}
	return a
}

func toPolicy(p policy.Policy) *vigilpb.Policy {
	out := &vigilpb.Policy{
		PerTx: p.PerTx, Window: p.Window, WindowSeconds: uint32(p.WindowSeconds), FeeMargin: p.FeeMargin, TwoLeaf: p.TwoLeaf,
		Assets: p.Assets, CoolDown: uint32(p.CoolDown), Version: uint64(p.Version),
	}
	for _, script := range p.Allow {
		out.Allow = append(out.Allow, slices.Clone(script))
	}
	return out
}

func fromPolicy(p *vigilpb.Policy) policy.Policy {
	return policy.Policy{
		Version: uint32(min(p.GetVersion(), 1<<32-1)), PerTx: p.GetPerTx(), Window: p.GetWindow(), WindowSeconds: int64(p.GetWindowSeconds()),
		Allow: p.GetAllow(), FeeMargin: p.GetFeeMargin(), TwoLeaf: p.GetTwoLeaf(), Assets: p.GetAssets(), CoolDown: int64(p.GetCoolDown()),
	}
}
