package fees

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/vigil-ark/vigil/arktest/internal/vector"
)

type input struct {
	Amount       int64
	Weight       float64
	Type         string
	Expiry       string
	ExpiryOffset *float64 `json:"expiryOffsetSeconds"`
	Birth        string
	BirthOffset  *float64 `json:"birthOffsetSeconds"`
}

type output struct {
	Amount int64
	Script string
}

type evalCase struct {
	Name, Program                               string
	OffchainInputProgram, OnchainInputProgram   string
	OffchainOutputProgram, OnchainOutputProgram string
	Cases                                       []struct {
		Name                            string
		Input                           *input
		Output                          *output
		OffchainInputs, OnchainInputs   []input
		OffchainOutputs, OnchainOutputs []output
		Expected                        float64
	}
}

var now = time.Unix(1_700_000_000, 0)

func at(offset *float64) int64 {
	if offset == nil {
		return 0
	}
	return now.Unix() + int64(*offset)
}

func (i input) offchain() OffchainInput {
	return OffchainInput{Amount: i.Amount, Type: i.Type, Expiry: at(i.ExpiryOffset), Birth: at(i.BirthOffset)}
}

func (o output) out() Output { return Output(o) }

// TestPrograms runs the published fee programs. The total is rounded up to
// satoshis, so the expected value is too; the weight is always 0 here, as the
// operator passes it, so that the weighted program's cases are left to it.
func TestPrograms(t *testing.T) {
	ran := 0
	for path, programs := range map[string]func(string) Programs{
		"valid/evalOffchainInput":  func(p string) Programs { return Programs{OffchainInput: p} },
		"valid/evalOnchainInput":   func(p string) Programs { return Programs{OnchainInput: p} },
		"valid/evalOffchainOutput": func(p string) Programs { return Programs{OffchainOutput: p} },
		"valid/evalOnchainOutput":  func(p string) Programs { return Programs{OnchainOutput: p} },
		"valid/eval":               nil,
	} {
		for _, c := range vector.Cases[evalCase](t, "fee.json", path) {
			p := Programs{c.OffchainInputProgram, c.OffchainOutputProgram, c.OnchainInputProgram, c.OnchainOutputProgram}
			if programs != nil {
				p = programs(c.Program)
			}
			e, err := Compile(p, func() time.Time { return now })
			if err != nil {
				t.Errorf("%s: %v", c.Name, err)
				continue
			}
			for _, k := range c.Cases {
				if strings.Contains(c.Program, "weight") && k.Input.Weight != 0 {
					continue
				}
				offIn, onIn, offOut, onOut := k.OffchainInputs, k.OnchainInputs, k.OffchainOutputs, k.OnchainOutputs
				switch path {
				case "valid/evalOffchainInput":
					offIn = []input{*k.Input}
				case "valid/evalOnchainInput":
					onIn = []input{*k.Input}
				case "valid/evalOffchainOutput":
					offOut = []output{*k.Output}
				case "valid/evalOnchainOutput":
					onOut = []output{*k.Output}
				}
				got, err := fee(e, offIn, onIn, offOut, onOut)
				if want := int64(math.Ceil(k.Expected)); err != nil || got != want {
					t.Errorf("%s, %s: %d (%v), want %d", c.Name, k.Name, got, err, want)
				}
				ran++
			}
		}
	}
	if ran < 15 {
		t.Errorf("%d cases ran", ran)
	}
}

func fee(e *Estimator, offIn, onIn []input, offOut, onOut []output) (int64, error) {
	var a []OffchainInput
	var b []int64
	var c, d []Output
	for _, i := range offIn {
		a = append(a, i.offchain())
	}
	for _, i := range onIn {
		b = append(b, i.Amount)
	}
	for _, o := range offOut {
		c = append(c, o.out())
	}
	for _, o := range onOut {
		d = append(d, o.out())
	}
	return e.Fee(a, b, c, d)
}

func TestBadPrograms(t *testing.T) {
	cases := vector.Cases[struct {
		Name   string
		Config map[string]string
		Err    string
	}](t, "fee.json", "invalid/invalidConfigs")
	if len(cases) != 15 {
		t.Errorf("%d cases, want 15", len(cases))
	}
	for _, c := range cases {
		_, err := Compile(Programs{
			c.Config["offchainInputProgram"], c.Config["offchainOutputProgram"],
			c.Config["onchainInputProgram"], c.Config["onchainOutputProgram"],
		}, time.Now)
		if err == nil {
			t.Errorf("%s: compiled", c.Name)
		}
	}
}

func TestTotalIsRoundedOnce(t *testing.T) {
	e, err := Compile(Programs{OffchainInput: "0.4", OnchainInput: "0.4"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := e.Fee(make([]OffchainInput, 2), []int64{1}, nil, nil); err != nil || got != 2 {
		t.Errorf("0.4 three times is %d (%v), want 2", got, err)
	}
}
