package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vigil-ark/vigil/client"
)

type walletPolicyCmd struct {
	Show   walletPolicyShowCmd   `cmd:"" default:"withargs" help:"Show the policy, and a loosening that waits."`
	Set    walletPolicySetCmd    `cmd:"" help:"Change parts of the policy. What tightens holds at once; what loosens takes --loosen, and holds after the cool-down."`
	Cancel walletPolicyCancelCmd `cmd:"" help:"Take a loosening back that waits."`
}

// policyOut is one policy. Bounds of 0 are none.
type policyOut struct {
	Version       uint64   `json:"version"`
	PerTx         int64    `json:"per_tx"`
	Window        int64    `json:"window"`
	WindowSeconds uint32   `json:"window_seconds"`
	Allow         []string `json:"allow"` // scripts in hex; an empty one alone is nobody
	FeeMargin     int64    `json:"fee_margin"`
	TwoLeaf       bool     `json:"two_leaf"`
	Assets        bool     `json:"assets"`
	CoolDown      uint32   `json:"cool_down_seconds"`
}

// policiesOut is what every command about policies prints.
type policiesOut struct {
	Policy  policyOut  `json:"policy"`
	Pending *policyOut `json:"pending,omitempty"`
	At      int64      `json:"effective_at,omitempty"`
}

func policyFor(p client.Policy) policyOut {
	out := policyOut{p.Version, p.PerTx, p.Window, p.WindowSeconds, []string{}, p.FeeMargin, p.TwoLeaf, p.Assets, p.CoolDown}
	for _, s := range p.Allow {
		out.Allow = append(out.Allow, hex.EncodeToString(s))
	}
	return out
}

func (p policyOut) String() string {
	bound := func(sats int64) string {
		if sats == 0 {
			return "no bound"
		}
		return fmt.Sprintf("%d sats", sats)
	}
	window := bound(p.Window)
	if p.Window > 0 {
		window += " in " + seconds(p.WindowSeconds).String()
	}
	payees := "anybody"
	switch {
	case len(p.Allow) == 1 && p.Allow[0] == "":
		payees = "nobody"
	case len(p.Allow) > 0:
		payees = strings.Join(p.Allow, "\n                    ")
	}
	return fmt.Sprintf("  One transaction:  %s\n  Rolling window:   %s\n  Payees:           %s\n  Fee margin:       %d sats\n  Two-leaf coins:   %s\n  Assets may leave: %s\n  Cool-down:        %s\n",
		bound(p.PerTx), window, payees, p.FeeMargin, yes(p.TwoLeaf), yes(p.Assets), seconds(p.CoolDown))
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func printPolicies(env *environment, p client.Policies) error {
	out := policiesOut{Policy: policyFor(p.Policy)}
	text := fmt.Sprintf("In force (version %d):\n%s", p.Version, out.Policy)
	if p.Pending != nil {
		pending := policyFor(*p.Pending)
		out.Pending, out.At = &pending, p.At
		text += fmt.Sprintf("From %s on; take it back with `vigil wallet policy cancel`:\n%s", until(p.At, time.Now()), pending)
	}
	return env.print(out, "%s", text)
}

type walletPolicyShowCmd struct{ walletPlace }

// Run shows the policy.
func (c *walletPolicyShowCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		p, err := w.Policy(env.ctx)
		if err != nil {
			return err
		}
		return printPolicies(env, p)
	})
}

type walletPolicySetCmd struct {
	walletPlace
	PerTx       *int64         `help:"Most that one transaction may send, in sats; 0 is no bound." placeholder:"SATS" env:"-"`
	Window      *int64         `help:"Most in any --window-time, in sats; 0 is no bound." placeholder:"SATS" env:"-"`
	WindowTime  *time.Duration `help:"Length of the rolling window, up to 744h; 24h when a window is new." placeholder:"TIME" env:"-"`
	Allow       []string       `help:"Who may be paid: Ark or on-chain addresses, or scripts in hex. The list as a whole." placeholder:"PAYEE" env:"-"`
	AllowAny    bool           `help:"Anybody may be paid." env:"-"`
	AllowNobody bool           `help:"Nobody may be paid; renewals go on." env:"-"`
	FeeMargin   *int64         `help:"What the operator may take beyond 1.25 times its fee, in sats." placeholder:"SATS" env:"-"`
	TwoLeaf     *bool          `help:"Whether coins at the script of group and operator alone may be delegated: their forfeits are bound to no batch, so that the operator is trusted to take such a coin only for the batch that renews it." negatable:"" env:"-"`
	Assets      *bool          `help:"Whether units of assets may leave." negatable:"" env:"-"`
	CoolDown    *time.Duration `help:"How long a loosening waits, up to 2160h. Lengthening it takes --loosen." placeholder:"TIME" env:"-"`
	Loosen      bool           `help:"Sign with the host key, as weighty changes are: what loosens holds after the cool-down." env:"-"`
}

// Run changes what the flags name, and leaves the rest.
func (c *walletPolicySetCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		now, err := w.Policy(env.ctx)
		if err != nil {
			return err
		}
		next, err := c.change(w, now.Policy)
		if err != nil {
			return err
		}
		if now.Pending != nil {
			fmt.Fprintln(env.stderr, "The loosening that waited is taken back by this change.")
		}
		got, err := w.SetPolicy(env.ctx, next, c.Loosen)
		if errors.Is(err, client.ErrLoosens) {
			return fmt.Errorf("that takes the host key: call again with --loosen, and it holds %s from then on (the cool-down), beside what it tightens, which holds at once: %w", seconds(now.CoolDown), err)
		}
		if err == nil && c.TwoLeaf != nil { // Vigil's word for it is not enough for the device
			err = w.TrustTwoLeaf(env.ctx, *c.TwoLeaf)
		}
		if err != nil {
			return err
		}
		return printPolicies(env, got)
	})
}

// change is the policy with what the flags name.
func (c *walletPolicySetCmd) change(w *client.Wallet, p client.Policy) (client.Policy, error) {
	set(&p.PerTx, c.PerTx)
	set(&p.Window, c.Window)
	set(&p.FeeMargin, c.FeeMargin)
	set(&p.TwoLeaf, c.TwoLeaf)
	set(&p.Assets, c.Assets)
	for to, from := range map[*uint32]*time.Duration{&p.WindowSeconds: c.WindowTime, &p.CoolDown: c.CoolDown} {
		if from == nil {
			continue
		}
		if *from < 0 || *from%time.Second != 0 || from.Seconds() > 1<<31 {
			return p, fmt.Errorf("%s is no number of seconds that a policy can have", *from)
		}
		*to = uint32(from.Seconds())
	}
	switch {
	case p.Window == 0:
		p.WindowSeconds = 0
	case p.WindowSeconds == 0:
		p.WindowSeconds = uint32((24 * time.Hour).Seconds())
	}
	ways := 0
	for _, given := range []bool{len(c.Allow) > 0, c.AllowAny, c.AllowNobody} {
		if given {
			ways++
		}
	}
	switch {
	case ways > 1:
		return p, errors.New("give one of --allow, --allow-any and --allow-nobody")
	case c.AllowAny:
		p.Allow = nil
	case c.AllowNobody:
		p.Allow = [][]byte{{}}
	case len(c.Allow) > 0:
		p.Allow = nil
	}
	for _, to := range c.Allow {
		script, err := hex.DecodeString(to)
		if err != nil || len(script) == 0 {
			if script, err = w.PayeeScript(to); err != nil {
				return p, fmt.Errorf("%q is neither an address nor a script in hex: %w", to, err)
			}
		}
		p.Allow = append(p.Allow, script)
	}
	return p, nil
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

type walletPolicyCancelCmd struct{ walletPlace }

// Run takes a loosening back.
func (c *walletPolicyCancelCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		p, err := w.KeepPolicy(env.ctx)
		if err != nil {
			return err
		}
		return printPolicies(env, p)
	})
}
