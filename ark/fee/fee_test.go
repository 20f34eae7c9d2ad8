package fee

import (
	"errors"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/internal/vector"
)

const now = 1_900_000_000

type inputJSON struct {
	Amount              int64
	BirthOffsetSeconds  *int64
	ExpiryOffsetSeconds *int64
	Type                string
	Weight              float64
}

func (j inputJSON) arg(onchain bool) InputArg {
	in := InputArg{Amount: j.Amount, Type: InputType(j.Type), Weight: j.Weight, Onchain: onchain}
	if j.BirthOffsetSeconds != nil {
		in.Birth = now + *j.BirthOffsetSeconds
	}
	if j.ExpiryOffsetSeconds != nil {
		in.Expiry = now + *j.ExpiryOffsetSeconds
	}
	return in
}

type outputJSON struct {
	Amount int64
	Script string
}

func (j outputJSON) arg(t testing.TB, onchain bool) OutputArg {
	return OutputArg{Amount: j.Amount, Script: vector.Hex(t, j.Script), Onchain: onchain}
}

type oneProgram struct {
	Name, Program string
	Cases         []struct {
		Name     string
		Input    inputJSON
		Output   outputJSON
		Expected float64
	}
}

type programs struct {
	OffchainInputProgram, OnchainInputProgram, OffchainOutputProgram, OnchainOutputProgram string
}

func (p programs) fees() ark.FeePrograms {
	return ark.FeePrograms{
		OffchainInput: p.OffchainInputProgram, OnchainInput: p.OnchainInputProgram,
		OffchainOutput: p.OffchainOutputProgram, OnchainOutput: p.OnchainOutputProgram,
	}
}

type allPrograms struct {
	Name string
	programs
	Cases []struct {
		Name                            string
		OffchainInputs, OnchainInputs   []inputJSON
		OffchainOutputs, OnchainOutputs []outputJSON
		Expected                        float64
	}
}

func mustCompile(t testing.TB, p ark.FeePrograms) *Estimator {
	t.Helper()
	e, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestVectors(t *testing.T) {
	f := vector.Open(t, "fee.json")
	counts := map[string]map[string]int{}
	for path, n := range map[string]int{
		"valid/evalOffchainInput": 3, "valid/evalOnchainInput": 2, "valid/evalOffchainOutput": 3,
		"valid/evalOnchainOutput": 3, "valid/eval": 3, "invalid/invalidConfigs": 15,
	} {
		counts[path] = map[string]int{"arkd": n, "rust": n, "ts": n}
	}
	vector.Count(t, f, counts)
	for path, set := range map[string]func(p *ark.FeePrograms) *string{
		"valid/evalOffchainInput":  func(p *ark.FeePrograms) *string { return &p.OffchainInput },
		"valid/evalOnchainInput":   func(p *ark.FeePrograms) *string { return &p.OnchainInput },
		"valid/evalOffchainOutput": func(p *ark.FeePrograms) *string { return &p.OffchainOutput },
		"valid/evalOnchainOutput":  func(p *ark.FeePrograms) *string { return &p.OnchainOutput },
	} {
		vector.Each(t, f, path, func(c oneProgram) {
			var p ark.FeePrograms
			*set(&p) = c.Program
			e, onchain := mustCompile(t, p), strings.Contains(path, "Onchain")
			for _, x := range c.Cases {
				var got float64
				var err error
				if strings.HasSuffix(path, "Input") {
					got, err = e.Sum([]InputArg{x.Input.arg(onchain)}, nil, now)
				} else {
					got, err = e.Sum(nil, []OutputArg{x.Output.arg(t, onchain)}, now)
				}
				if err != nil || got != x.Expected {
					t.Errorf("%s, %s: %g, %v; want %g", c.Name, x.Name, got, err, x.Expected)
				}
			}
		})
	}
	vector.Each(t, f, "valid/eval", func(c allPrograms) {
		e := mustCompile(t, c.fees())
		for _, x := range c.Cases {
			var ins []InputArg
			var outs []OutputArg
			for _, in := range x.OffchainInputs {
				ins = append(ins, in.arg(false))
			}
			for _, in := range x.OnchainInputs {
				ins = append(ins, in.arg(true))
			}
			for _, out := range x.OffchainOutputs {
				outs = append(outs, out.arg(t, false))
			}
			for _, out := range x.OnchainOutputs {
				outs = append(outs, out.arg(t, true))
			}
			if got, err := e.Sum(ins, outs, now); err != nil || got != x.Expected {
				t.Errorf("%s, %s: %g, %v; want %g", c.Name, x.Name, got, err, x.Expected)
			}
		}
	})
	vector.Each(t, f, "invalid/invalidConfigs", func(c struct {
		Name   string
		Config programs
	},
	) {
		if _, err := Compile(c.Config.fees()); !errors.Is(err, ErrProgram) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
}

func TestFee(t *testing.T) {
	e := mustCompile(t, ark.FeePrograms{
		OffchainInput: "amount * 0.001", OffchainOutput: "0.4", OnchainOutput: "10.0",
	})
	ins := []InputArg{{Amount: 100, Type: VTXO}, {Amount: 300, Type: VTXO}}
	for _, c := range []struct {
		outs []OutputArg
		want int64
	}{
		{nil, 1},                           // 0.1 + 0.3, rounded up once
		{[]OutputArg{{}, {}}, 2},           // + 0.8
		{[]OutputArg{{Onchain: true}}, 11}, // + 0.4 as off-chain output + 10
	} {
		if got, err := e.Fee(ins, c.outs, now); err != nil || got != c.want {
			t.Errorf("%d outputs: %d, %v; want %d", len(c.outs), got, err, c.want)
		}
	}
	if got, err := mustCompile(t, ark.FeePrograms{}).Fee(ins, []OutputArg{{}}, now); err != nil || got != 0 {
		t.Errorf("no programs: %d, %v", got, err)
	}
	if got, err := mustCompile(t, ark.FeePrograms{OffchainInput: "-5.0"}).Fee(ins, nil, now); err != nil || got != 0 {
		t.Errorf("negative: %d, %v", got, err)
	}
	if got, err := mustCompile(t, ark.FeePrograms{OffchainInput: "now() - birth"}).Fee(
		[]InputArg{{Birth: now - 7}}, nil, now); err != nil || got != 7 {
		t.Errorf("now: %d, %v", got, err)
	}
}

// An operator's program must neither hang us nor yield nonsense.
func TestHostilePrograms(t *testing.T) {
	list := "[0" + strings.Repeat(",0", 99) + "]"
	for name, text := range map[string]string{
		"too long":        strings.Repeat(" ", maxProgram) + "1.0",
		"too deep":        strings.Repeat("-(", 200) + "1.0" + strings.Repeat(")", 200),
		"division by 0":   "amount / 0.0",
		"not a number":    "0.0 / 0.0",
		"more than all":   "1e300",
		"no expiry":       "expiry * 1.0",
		"nested loops":    list + ".all(a, " + list + ".all(b, " + list + ".all(c, " + list + ".all(d, a + b + c + d == 0)))) ? 1.0 : 2.0",
		"growing strings": list + ".map(a, " + list + ".map(b, script + script + script)).size() > 0 ? 1.0 : 2.0",
		"regex":           "'" + strings.Repeat("a", 3000) + "'.matches('(a*)*(a*)*(a*)*b') ? 1.0 : 2.0",
	} {
		for _, p := range []ark.FeePrograms{{OffchainInput: text}, {OffchainOutput: text}} {
			e, err := Compile(p)
			if err != nil {
				if !errors.Is(err, ErrProgram) {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			_, err = e.Fee([]InputArg{{Amount: 1}}, []OutputArg{{Amount: 1, Script: make([]byte, 34)}}, now)
			if !errors.Is(err, ErrEvaluate) && name != "regex" {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestTypeOf(t *testing.T) {
	v := ark.VTXO{ExpiresAt: now, CommitmentTxs: make([]chainhash.Hash, 1)}
	for at, want := range map[int64]InputType{now: VTXO, now + 1: Recoverable} {
		if got := TypeOf(v, at); got != want {
			t.Errorf("at %d: %s", at, got)
		}
	}
	v.Swept = true
	if got := TypeOf(v, now); got != Recoverable {
		t.Errorf("swept: %s", got)
	}
	v.CommitmentTxs = nil
	if got := TypeOf(v, now); got != Note {
		t.Errorf("note: %s", got)
	}
}

func FuzzProgram(f *testing.F) {
	vector.Each(f, vector.Open(f, "fee.json"), "valid/evalOffchainInput", func(c oneProgram) { f.Add(c.Program) })
	vector.Each(f, vector.Open(f, "fee.json"), "invalid/invalidConfigs", func(c struct{ Config programs }) {
		f.Add(c.Config.OffchainInputProgram)
	})
	f.Add("[1,2].all(x, x > 0) ? now() : {'a': 1.0}['a']")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Compile(ark.FeePrograms{OffchainInput: text})
		if err != nil {
			return
		}
		in := InputArg{Amount: 1000, Expiry: now + 1, Birth: now - 1, Type: VTXO}
		if fee, err := e.Fee([]InputArg{in}, nil, now); err == nil && fee < 0 {
			t.Fatalf("fee %d", fee)
		}
	})
}
