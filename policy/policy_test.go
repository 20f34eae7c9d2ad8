package policy

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/spend"
	"github.com/vigil-ark/vigil/internal/canon"
)

// limited is a policy with every rule set.
func limited() Policy {
	return Policy{
		Version: 3, PerTx: 1000, Window: 2500, WindowSeconds: day, Allow: [][]byte{{1}, {2}}, FeeMargin: 10,
		CoolDown: 3600,
	}
}

func outs(script byte, amounts ...int64) (list []spend.Output) {
	for _, a := range amounts {
		list = append(list, spend.Output{Amount: a, Script: []byte{script}})
	}
	return list
}

func key(n byte) [32]byte { return [32]byte{n} }

func renewal() *spend.Spend {
	return &spend.Spend{Kind: spend.Register, Key: key(1), Own: outs(9, 5000), Fee: 100, FeeDue: 100, Assets: true}
}

// TestRules has every rule of spec section 8 both ways.
func TestRules(t *testing.T) {
	send := func(to byte, amount int64) *spend.Spend {
		return &spend.Spend{Kind: spend.ArkTx, Key: key(2), Foreign: outs(to, amount), Own: outs(9, 10), Assets: true}
	}
	change := func(s *spend.Spend, f func(*spend.Spend)) *spend.Spend {
		f(s)
		return s
	}
	open, anybody := Default(), with(limited(), func(p *Policy) { p.Allow = nil })
	tests := []struct {
		name   string
		policy Policy
		spent  Spent
		spend  *spend.Spend
		code   vigil.Code // "": allowed
		counts int64
	}{
		{"a renewal passes the tightest policy", limited(), Spent{key(7): 2500}, renewal(), "", 0},
		{"a renewal may pay the operator's fee and a quarter and the margin", limited(), nil, change(renewal(), func(s *spend.Spend) { s.Fee = 135 }), "", 0},
		{"and not a satoshi more", limited(), nil, change(renewal(), func(s *spend.Spend) { s.Fee = 136 }), vigil.CodeFeeTooHigh, 0},
		{"whatever the policy", open, nil, change(renewal(), func(s *spend.Spend) { s.Fee = 126 }), vigil.CodeFeeTooHigh, 0},
		{"a fee that is not due", limited(), nil, change(renewal(), func(s *spend.Spend) { s.FeeDue, s.Fee = 0, 11 }), vigil.CodeFeeTooHigh, 0},
		{"the settlement of a renewal passes", limited(), nil, change(renewal(), func(s *spend.Spend) { s.Kind = spend.Forfeits }), "", 0},
		{"also after the operator lowered its fee", limited(), nil, change(renewal(), func(s *spend.Spend) { s.Kind, s.FeeDue = spend.Boarding, 0 }), "", 0},
		{"a renewal that burns assets is none", limited(), nil, change(renewal(), func(s *spend.Spend) { s.Assets = false }), vigil.CodePolicyAssets, 0},
		{"but the policy may allow that", open, nil, change(renewal(), func(s *spend.Spend) { s.Assets = false }), "", 0},
		{"an intent on chain is no renewal", limited(), nil, change(renewal(), func(s *spend.Spend) { s.Onchain = outs(1, 500) }), "", 500},
		{"and has a limit", limited(), nil, change(renewal(), func(s *spend.Spend) { s.Onchain = outs(1, 1001) }), vigil.CodePolicyPerTx, 0},
		{"an intent to another is no renewal", limited(), nil, change(renewal(), func(s *spend.Spend) { s.Foreign = outs(3, 500) }), vigil.CodePolicyDestination, 0},
		{"its settlement neither", limited(), nil, change(renewal(), func(s *spend.Spend) { s.Kind, s.Foreign = spend.Forfeits, outs(1, 1001) }), vigil.CodePolicyPerTx, 0},
		{"its settlement costs nothing twice", limited(), Spent{key(1): 900, key(7): 1600}, change(renewal(), func(s *spend.Spend) { s.Kind, s.Foreign = spend.Forfeits, outs(1, 900) }), "", 0},

		{"deleting and reading pass", limited(), Spent{key(7): 2500}, &spend.Spend{Kind: spend.Intent, Assets: true}, "", 0},
		{"a delegate's forfeit passes", limited(), Spent{key(7): 2500}, &spend.Spend{Kind: spend.DelegateForfeit, Inputs: []spend.Input{{Amount: 9000}}, Assets: true}, "", 0},
		{"a bearer forfeit does not", open, nil, &spend.Spend{Kind: spend.BearerForfeit, Inputs: []spend.Input{{Amount: 900, Script: spend.TwoLeafScript}}, Assets: true}, vigil.CodePolicyBearer, 0},
		{"unless opted in, as a spend of all", with(limited(), func(p *Policy) { p.TwoLeaf = true }), nil, &spend.Spend{Kind: spend.BearerForfeit, Inputs: []spend.Input{{Amount: 900, Script: spend.TwoLeafScript}}, Assets: true}, "", 900},
		{"within limits", with(limited(), func(p *Policy) { p.TwoLeaf = true }), nil, &spend.Spend{Kind: spend.BearerForfeit, Inputs: []spend.Input{{Amount: 1001, Script: spend.TwoLeafScript}}, Assets: true}, vigil.CodePolicyPerTx, 0},

		{"in the window", with(limited(), func(p *Policy) { p.TwoLeaf = true }), Spent{key(7): 1601}, &spend.Spend{Kind: spend.BearerForfeit, Inputs: []spend.Input{{Amount: 900, Script: spend.TwoLeafScript}}, Assets: true}, vigil.CodePolicyWindow, 0},
		{"once for the coin", with(limited(), func(p *Policy) { p.TwoLeaf = true }), Spent{key(7): 1601, key(6): 900}, &spend.Spend{Kind: spend.BearerForfeit, Key: key(6), Inputs: []spend.Input{{Amount: 900, Script: spend.TwoLeafScript}}, Assets: true}, "", 0},
		{"with assets only where those may leave", with(limited(), func(p *Policy) { p.TwoLeaf = true }), nil, &spend.Spend{Kind: spend.BearerForfeit, Inputs: []spend.Input{{Amount: 900, Script: spend.TwoLeafScript}}}, vigil.CodePolicyAssets, 0},
		{"there", with(limited(), func(p *Policy) { p.TwoLeaf, p.Assets = true, true }), nil, &spend.Spend{Kind: spend.BearerForfeit, Inputs: []spend.Input{{Amount: 900, Script: spend.TwoLeafScript}}}, "", 900},
		{"never of a coin that has a delegate leaf", with(open, func(p *Policy) { p.TwoLeaf = true }), nil, &spend.Spend{Kind: spend.BearerForfeit, Inputs: []spend.Input{{Amount: 900}}, Assets: true}, vigil.CodePolicyBearer, 0},

		{"a payment up to the limit", limited(), nil, send(1, 1000), "", 1000},
		{"above it", limited(), nil, send(1, 1001), vigil.CodePolicyPerTx, 0},
		{"several outputs are one payment", limited(), nil, change(send(1, 500), func(s *spend.Spend) { s.Foreign = append(s.Foreign, outs(2, 501)...) }), vigil.CodePolicyPerTx, 0},
		{"change to ourselves is free", limited(), nil, change(send(1, 1), func(s *spend.Spend) { s.Own = outs(9, 1<<40) }), "", 1},
		{"any amount without a limit", open, nil, send(5, 1<<50), "", 1 << 50},
		{"the window up to its limit", limited(), Spent{key(7): 1500}, send(1, 1000), "", 1000},
		{"above it", limited(), Spent{key(7): 1501}, send(1, 1000), vigil.CodePolicyWindow, 0},
		{"many in the window", limited(), Spent{key(7): 800, key(8): 800, key(9): 800}, send(1, 101), vigil.CodePolicyWindow, 0},
		{"a retry costs nothing", limited(), Spent{key(2): 1000, key(7): 1500}, send(1, 1000), "", 0},
		{"the second half neither", limited(), Spent{key(2): 1000, key(7): 1500}, change(send(1, 1000), func(s *spend.Spend) { s.Kind = spend.Checkpoints }), "", 0},
		{"a second half never seen counts", limited(), nil, change(send(1, 1000), func(s *spend.Spend) { s.Kind = spend.Checkpoints }), "", 1000},
		{"nobody off the allow-list", limited(), nil, send(3, 1), vigil.CodePolicyDestination, 0},
		{"not even for nothing", limited(), nil, send(3, 0), vigil.CodePolicyDestination, 0},
		{"nor when counted before", limited(), Spent{key(2): 1000}, send(3, 1000), vigil.CodePolicyDestination, 0},
		{"assets stay", limited(), nil, change(send(1, 1), func(s *spend.Spend) { s.Assets = false }), vigil.CodePolicyAssets, 0},
		{"or may go", open, nil, change(send(1, 1), func(s *spend.Spend) { s.Assets = false }), "", 1},

		{"an exit counts with its fee", anybody, nil, &spend.Spend{Kind: spend.Exit, Key: key(3), Onchain: outs(1, 900), Fee: 100, Assets: true}, "", 1000},
		{"above the limit by its fee", anybody, nil, &spend.Spend{Kind: spend.Exit, Key: key(3), Onchain: outs(1, 900), Fee: 101, Assets: true}, vigil.CodePolicyPerTx, 0},
		{"an exit to whom it may pay, with a fee in the margin", limited(), nil, &spend.Spend{Kind: spend.Exit, Key: key(3), Onchain: outs(1, 900), Fee: 10, Assets: true}, "", 910},
		{"and with more for the miners", limited(), nil, &spend.Spend{Kind: spend.Exit, Key: key(3), Onchain: outs(1, 900), Fee: 11, Assets: true}, vigil.CodeFeeTooHigh, 0},
		{"also where no amount is bounded", with(open, func(p *Policy) { p.Allow = [][]byte{{1}} }), nil, &spend.Spend{Kind: spend.Exit, Key: key(3), Onchain: outs(1, 0), Fee: 900, Assets: true}, vigil.CodeFeeTooHigh, 0},
		{"without bounds the fee is its owner's affair", open, nil, &spend.Spend{Kind: spend.Exit, Key: key(3), Onchain: outs(1, 900), Fee: 900, Assets: true}, "", 1800},
		{"an exit elsewhere", limited(), nil, &spend.Spend{Kind: spend.Exit, Key: key(3), Onchain: outs(3, 9), Assets: true}, vigil.CodePolicyDestination, 0},
		{"an exit to our own script is one too", limited(), nil, &spend.Spend{Kind: spend.Exit, Key: key(3), Onchain: outs(9, 9), Assets: true}, vigil.CodePolicyDestination, 0},
		{"what no rule knows", open, nil, &spend.Spend{Kind: "gift"}, vigil.CodeDocumentInvalid, 0},
		{"an amount that cannot be", open, nil, send(1, -5), vigil.CodeDocumentInvalid, 0},
	}
	for _, tt := range tests {
		d := Decide(tt.policy, []*spend.Spend{tt.spend}, tt.spent, nil)
		var counts int64
		for _, c := range d.Counts {
			counts += c.Amount
		}
		if d.Code != tt.code || d.Allow != (tt.code == "") || counts != tt.counts {
			t.Errorf("%s: %+v, want %q and %d counted", tt.name, d, tt.code, tt.counts)
		}
		if err := d.Err(); (err == nil) != d.Allow || err != nil && (vigil.CodeOf(err) != tt.code || d.Reason == "") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func with(p Policy, f func(*Policy)) Policy {
	f(&p)
	return p
}

// TestEveryKindHasARule: a kind that is added without one is refused, and this
// fails.
func TestEveryKindHasARule(t *testing.T) {
	p := Default()
	p.TwoLeaf = true
	for _, k := range spend.Kinds() {
		if d := Decide(p, []*spend.Spend{{Kind: k, Assets: true}}, nil, nil); !d.Allow {
			t.Errorf("%s: %+v", k, d)
		}
	}
}

// TestOneRequest: the documents of a request count together, and stand or fall
// together.
func TestOneRequest(t *testing.T) {
	pay := func(n byte, amount int64) *spend.Spend {
		return &spend.Spend{Kind: spend.ArkTx, Key: key(n), Foreign: outs(1, amount), Assets: true}
	}
	p := limited()
	if d := Decide(p, []*spend.Spend{pay(1, 1000), pay(2, 1000), pay(3, 500)}, nil, nil); !d.Allow || len(d.Counts) != 3 || d.Amount != 2500 {
		t.Errorf("%+v", d)
	}
	if d := Decide(p, []*spend.Spend{pay(1, 1000), pay(2, 1000), pay(3, 501)}, nil, nil); d.Allow || d.Code != vigil.CodePolicyWindow || d.Counts != nil {
		t.Errorf("%+v", d)
	}
	if d := Decide(p, []*spend.Spend{pay(1, 1000), pay(1, 1000), pay(1, 1000)}, nil, nil); !d.Allow || len(d.Counts) != 1 {
		t.Errorf("one key counts %+v", d)
	}
	if d := Decide(p, nil, nil, nil); !d.Allow || d.Counts != nil {
		t.Errorf("%+v", d)
	}
}

// TestNothingUncounted is a property: over random requests, retries and policies
// no output to others passes without being counted once in the window, and the
// window never holds more than the policy allows.
func TestNothingUncounted(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	kinds := spend.Kinds()
	for range 300 {
		p := Policy{Assets: true, TwoLeaf: rng.IntN(2) == 0, CoolDown: day}
		if rng.IntN(4) > 0 {
			p.Window, p.WindowSeconds = rng.Int64N(5000)+1, day
		}
		if rng.IntN(3) > 0 {
			p.PerTx = rng.Int64N(2000) + 1
		}
		window := Spent{}
		model := map[[32]byte]int64{} // what truly left, by what moves it
		var known []*spend.Spend
		for range 40 {
			var request []*spend.Spend
			for range rng.IntN(3) + 1 {
				s := &spend.Spend{Kind: kinds[rng.IntN(len(kinds))], Key: [32]byte{byte(rng.IntN(256)), byte(rng.IntN(256)), byte(len(known))}, Assets: true, Own: outs(9, 1)}
				switch s.Kind {
				case spend.Intent, spend.DelegateForfeit: // pay nobody: the reader of documents holds that
				case spend.BearerForfeit:
					s.Inputs = []spend.Input{{Amount: rng.Int64N(900), Script: spend.TwoLeafScript}}
				default:
					s.Foreign = outs(byte(rng.IntN(3)), rng.Int64N(900), rng.Int64N(200))
					s.Onchain = outs(byte(rng.IntN(3)), rng.Int64N(100))
				}
				if len(known) > 0 && rng.IntN(3) == 0 {
					s = known[rng.IntN(len(known))]
				}
				known = append(known, s)
				request = append(request, s)
			}
			d := Decide(p, request, window, nil)
			if !d.Allow {
				if d.Counts != nil {
					t.Fatalf("a refusal counts %+v", d)
				}
				continue
			}
			for _, c := range d.Counts {
				if _, twice := window[c.Key]; twice {
					t.Fatal("a retry is counted twice")
				}
				window[c.Key] = c.Amount
			}
			for _, s := range request {
				if out := s.Leaves(); out > 0 {
					model[s.Key] = out
					if p.PerTx > 0 && out > p.PerTx {
						t.Fatalf("%d left at once, of %d", out, p.PerTx)
					}
				}
			}
		}
		var sum int64
		for k, v := range model {
			if sum += v; window[k] != v {
				t.Fatalf("%d left and %d is counted", v, window[k])
			}
		}
		if len(window) != len(model) || p.Window > 0 && sum > p.Window {
			t.Fatalf("%d left in the window of %d", sum, p.Window)
		}
	}
}

// TestMoreThanAllCoins: a sum that no coins can make, or that overflows, is no
// small amount.
func TestMoreThanAllCoins(t *testing.T) {
	for name, foreign := range map[string][]spend.Output{
		"more":      outs(1, maxSatoshi, 1),
		"overflown": outs(1, 1<<62, 1<<62, 1<<62, 1<<62),
		"negative":  outs(1, 1<<62, 1<<62),
	} {
		s := &spend.Spend{Kind: spend.ArkTx, Assets: true, Foreign: foreign}
		d := Decide(Default(), []*spend.Spend{s}, nil, nil)
		if d.Allow || d.Code != vigil.CodeDocumentInvalid {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestLooser(t *testing.T) {
	p := limited()
	for name, tt := range map[string]struct {
		change func(*Policy)
		looser bool
	}{
		"the same":            {func(*Policy) {}, false},
		"version":             {func(p *Policy) { p.Version++ }, false},
		"less at once":        {func(p *Policy) { p.PerTx-- }, false},
		"more at once":        {func(p *Policy) { p.PerTx++ }, true},
		"no bound at once":    {func(p *Policy) { p.PerTx = 0 }, true},
		"less in the window":  {func(p *Policy) { p.Window-- }, false},
		"more in the window":  {func(p *Policy) { p.Window++ }, true},
		"no window":           {func(p *Policy) { p.Window, p.WindowSeconds = 0, 0 }, true},
		"a longer window":     {func(p *Policy) { p.WindowSeconds++ }, false},
		"a shorter window":    {func(p *Policy) { p.WindowSeconds-- }, true},
		"half in half":        {func(p *Policy) { p.Window /= 2; p.WindowSeconds /= 2 }, true},
		"a payee less":        {func(p *Policy) { p.Allow = p.Allow[:1] }, false},
		"payees in order":     {func(p *Policy) { p.Allow = [][]byte{{2}, {1}} }, false},
		"another payee":       {func(p *Policy) { p.Allow = [][]byte{{1}, {3}} }, true},
		"a payee more":        {func(p *Policy) { p.Allow = [][]byte{{1}, {2}, {3}} }, true},
		"anybody":             {func(p *Policy) { p.Allow = nil }, true},
		"less fee":            {func(p *Policy) { p.FeeMargin-- }, false},
		"more fee":            {func(p *Policy) { p.FeeMargin++ }, true},
		"two leaves":          {func(p *Policy) { p.TwoLeaf = true }, true},
		"assets":              {func(p *Policy) { p.Assets = true }, true},
		"a longer cool-down":  {func(p *Policy) { p.CoolDown++ }, false},
		"a shorter cool-down": {func(p *Policy) { p.CoolDown-- }, true},
		"tighter and looser":  {func(p *Policy) { p.PerTx, p.CoolDown = 1, 0 }, true},
	} {
		to := with(p, tt.change)
		if got := Looser(p, to); got != tt.looser {
			t.Errorf("%s: %v", name, got)
		}
	}
	// What both allow is no loosening: else a bound beside it could not be tightened.
	both := with(p, func(p *Policy) { p.TwoLeaf, p.Assets = true, true })
	if Looser(both, with(both, func(p *Policy) { p.PerTx-- })) {
		t.Error("keeping what was opted in loosens it")
	}
	// From no bound at all everything is tighter, but what Default leaves off.
	if Looser(Default(), with(limited(), func(p *Policy) { p.FeeMargin, p.CoolDown = 0, day })) {
		t.Error("bounding a policy loosens it")
	}
}

func TestPropose(t *testing.T) {
	const now = 1_000_000
	start := State{Current: limited()}
	tighter := with(limited(), func(p *Policy) { p.Version, p.PerTx = 0, 10 })
	looser := with(limited(), func(p *Policy) { p.Version, p.PerTx = 0, 0 })

	s, err := start.Propose(tighter, false, now)
	if err != nil || s.Effective(now).PerTx != 10 || s.Pending != nil || s.Current.Version != 4 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := start.Propose(looser, false, now); vigil.CodeOf(err) != vigil.CodeHostKeyNeeded {
		t.Errorf("an identity key loosens: %v", err)
	}
	s, err = start.Propose(looser, true, now)
	if err != nil || s.At != now+3600 || s.Effective(now+3599).PerTx != 1000 || s.Effective(now+3600).PerTx != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	// Any device may take a loosening back while it waits, by asking for what holds.
	back, err := s.Propose(with(limited(), func(p *Policy) { p.Version = 4 }), false, now+3599)
	if err != nil || back.Pending != nil || back.Effective(now+9999).PerTx != 1000 {
		t.Errorf("%+v, %v", back, err)
	}
	// Once it holds, that is a change like any other.
	if after, err := s.Propose(with(looser, func(p *Policy) { p.PerTx = 5 }), false, now+3600); err != nil || after.Current.PerTx != 5 || after.Current.Version != 5 {
		t.Errorf("%+v, %v", after, err)
	}
	if _, err := start.Propose(with(tighter, func(p *Policy) { p.Version = 3 }), true, now); vigil.CodeOf(err) != vigil.CodePolicyInvalid {
		t.Errorf("a change of another version: %v", err)
	}
	// How long a loosening waits is for the host key to lengthen: with the device
	// alone a thief would keep the owner from loosening what he tightened.
	longer := with(tighter, func(p *Policy) { p.CoolDown = MaxCoolDown })
	if got, err := start.Propose(longer, false, now); vigil.CodeOf(err) != vigil.CodeHostKeyNeeded || !reflect.DeepEqual(got, start) {
		t.Errorf("an identity key lengthens the cool-down: %v", err)
	}
	if s, err := start.Propose(longer, true, now); err != nil || s.Pending != nil || s.Current.CoolDown != MaxCoolDown {
		t.Errorf("%+v, %v", s, err)
	}
	for name, bad := range map[string]Policy{
		"a window without time":     with(tighter, func(p *Policy) { p.WindowSeconds = 0 }),
		"a time without window":     with(tighter, func(p *Policy) { p.Window = 0 }),
		"a negative bound":          with(tighter, func(p *Policy) { p.PerTx = -1 }),
		"a script twice":            with(tighter, func(p *Policy) { p.Allow = [][]byte{{1}, {1}} }),
		"an empty script":           with(tighter, func(p *Policy) { p.Allow = [][]byte{{1}, {}} }),
		"a long script":             with(tighter, func(p *Policy) { p.Allow = [][]byte{make([]byte, MaxScript+1)} }),
		"too many scripts":          with(tighter, func(p *Policy) { p.Allow = make([][]byte, MaxAllow+1) }),
		"a cool-down of a lifetime": with(tighter, func(p *Policy) { p.CoolDown = MaxCoolDown + 1 }),
		"a window of a lifetime":    with(tighter, func(p *Policy) { p.WindowSeconds = MaxWindow + 1 }),
	} {
		if got, err := start.Propose(bad, true, now); vigil.CodeOf(err) != vigil.CodePolicyInvalid || !errors.Is(err, ErrPolicy) || !reflect.DeepEqual(got, start) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMixedChange: what a change tightens holds at once, what it loosens after the
// cool-down, and taking the loosening back leaves the tightening.
func TestMixedChange(t *testing.T) {
	const now = 1_000_000
	start := State{Current: limited()}
	mixed := with(limited(), func(p *Policy) { p.Version, p.PerTx, p.Window, p.Allow = 0, 10, 0, [][]byte{{1}, {7}} })
	mixed.WindowSeconds = 0
	if _, err := start.Propose(mixed, false, now); vigil.CodeOf(err) != vigil.CodeHostKeyNeeded {
		t.Fatalf("an identity key: %v", err)
	}
	s, err := start.Propose(mixed, true, now)
	if err != nil || s.Pending == nil {
		t.Fatalf("%+v, %v", s, err)
	}
	held := with(limited(), func(p *Policy) { p.Version, p.PerTx, p.Allow = 4, 10, [][]byte{{1}} })
	if got := s.Effective(now); !reflect.DeepEqual(got, held) {
		t.Errorf("at once %+v, want %+v", got, held)
	}
	if got := s.Effective(s.At); got.PerTx != 10 || got.Window != 0 || len(got.Allow) != 2 || got.Version != 5 {
		t.Errorf("later %+v", got)
	}
	back, err := s.Propose(with(held, func(p *Policy) { p.Version = 0 }), false, now+1)
	if err != nil || back.Pending != nil || back.Effective(now+day).PerTx != 10 {
		t.Errorf("taken back: %+v, %v", back, err)
	}
	// Another payee in the place of all: nobody is paid until it holds.
	other := with(limited(), func(p *Policy) { p.Version, p.Allow = 0, [][]byte{{9}} })
	s, err = start.Propose(other, true, now)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []vigil.Code{vigil.CodePolicyDestination, vigil.CodePolicyDestination, vigil.CodePolicyDestination} {
		to := outs(byte(n), 5)
		if n == 0 {
			to[0].Script = nil
		}
		if d := Decide(s.Effective(now), []*spend.Spend{{Kind: spend.ArkTx, Key: key(1), Foreign: to, Assets: true}}, nil, nil); d.Code != want {
			t.Errorf("to %d: %+v", n, d)
		}
	}
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeState(b); err != nil || len(got.Current.Allow) != 1 || len(got.Current.Allow[0]) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if back, err := s.Propose(with(s.Current, func(p *Policy) { p.Version = 0 }), false, now); err != nil || back.Pending != nil {
		t.Errorf("taken back: %+v, %v", back, err)
	}
}

// TestTightened is a property: what holds at once is looser than neither policy, and
// is the one in force when nothing is tighter.
func TestTightened(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	bound := func() int64 { return rng.Int64N(4) }
	draw := func() Policy {
		p := Policy{PerTx: bound(), Window: bound(), FeeMargin: bound(), CoolDown: bound(), TwoLeaf: rng.IntN(2) == 0, Assets: rng.IntN(2) == 0}
		if p.Window > 0 {
			p.WindowSeconds = 1 + bound()
		}
		for n := range byte(3) {
			if rng.IntN(2) == 0 {
				p.Allow = append(p.Allow, []byte{n})
			}
		}
		if len(p.Allow) == 0 && rng.IntN(3) == 0 {
			p.Allow = nobody()
		}
		return p
	}
	for range 5000 {
		from, to := draw(), draw()
		got := tightened(from, to)
		if err := got.Check(); err != nil || Looser(from, got) || Looser(to, got) {
			t.Fatalf("%+v of %+v and %+v, %v", got, from, to, err)
		}
		if !Looser(to, from) && Looser(got, from) {
			t.Fatalf("%+v is tighter than %+v, and %+v is not", got, from, to)
		}
	}
}

func TestSince(t *testing.T) {
	if got := limited().Since(10 * day); got != 9*day {
		t.Error(got)
	}
	if got := Default().Since(10 * day); got != 9*day {
		t.Error(got)
	}
	if got := with(limited(), func(p *Policy) { p.WindowSeconds = 3 * day }).Since(10 * day); got != 7*day {
		t.Error(got)
	}
}

func TestCodec(t *testing.T) {
	for _, p := range []Policy{{}, Default(), limited()} {
		b, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(b); err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%+v, %v", got, err)
		}
		for _, s := range []State{{Current: p}, {Current: p, Pending: &p, At: 77}} {
			b, err := s.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := DecodeState(b); err != nil || !reflect.DeepEqual(got, s) {
				t.Errorf("%+v, %v", got, err)
			}
			for n := range b {
				if _, err := DecodeState(b[:n]); !errors.Is(err, canon.ErrMalformed) {
					t.Errorf("%d bytes: %v", n, err)
				}
			}
		}
	}
	if _, err := Decode([]byte{99}); !errors.Is(err, canon.ErrNewer) {
		t.Error(err)
	}
}

func FuzzDecodeState(f *testing.F) {
	p := limited()
	for _, s := range []State{{}, {Current: p}, {Current: p, Pending: &p, At: 9}} {
		b, err := s.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeState(b)
		if err != nil {
			return
		}
		again, err := s.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%+v writes %x, %v", s, again, err)
		}
	})
}

// TestAWindowIsNoLongerThanItSays: what was counted before it is known again, and
// takes no room in it.
func TestAWindowIsNoLongerThanItSays(t *testing.T) {
	p := limited()
	p.WindowSeconds = 3600
	pay := func(n byte) []*spend.Spend {
		return []*spend.Spend{{Kind: spend.ArkTx, Key: key(n), Foreign: outs(1, 1000), Assets: true}}
	}
	older := Spent{key(1): 1000, key(2): 1000}
	for name, tt := range map[string]struct {
		n      byte
		counts int
		allow  bool
		spent  Spent
	}{
		"a new one":                  {3, 1, true, Spent{key(4): 1500}},
		"too much within the window": {3, 0, false, Spent{key(4): 1501}},
		"a retry of an older one":    {1, 0, true, Spent{key(4): 2500}},
	} {
		if d := Decide(p, pay(tt.n), tt.spent, older); d.Allow != tt.allow || len(d.Counts) != tt.counts {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if !p.Recent(6400, 10_000) || p.Recent(6399, 10_000) || !Default().Recent(0, 10_000) {
		t.Error("the window's edge")
	}
}
