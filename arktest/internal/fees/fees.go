// Package fees owns the operator's intent fees: four CEL programs and how they
// add up (protocol section 2.5). It must not know intents.
package fees

import (
	"fmt"
	"math"
	"reflect"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Programs are the four CEL sources; an empty one costs nothing.
type Programs struct {
	OffchainInput, OffchainOutput, OnchainInput, OnchainOutput string
}

// Input types of the offchainInput program.
const (
	TypeVTXO        = "vtxo"
	TypeRecoverable = "recoverable"
	TypeNote        = "note"
)

// OffchainInput is what the offchainInput program sees of one VTXO. Zero times
// are unknown.
type OffchainInput struct {
	Amount        int64
	Expiry, Birth int64 // unix seconds
	Type          string
}

// Output is what the output programs see.
type Output struct {
	Amount int64
	Script string // hex
}

// Estimator holds the compiled programs.
type Estimator struct {
	offIn, offOut, onIn, onOut cel.Program
}

// Compile compiles the programs. now tells them the time.
func Compile(p Programs, now func() time.Time) (*Estimator, error) {
	nowFunc := cel.Function("now", cel.Overload("now_double", []*cel.Type{}, cel.DoubleType,
		cel.FunctionBinding(func(...ref.Val) ref.Val { return types.Double(float64(now().Unix())) })))
	double := func(name string) cel.EnvOption { return cel.Variable(name, cel.DoubleType) }
	str := func(name string) cel.EnvOption { return cel.Variable(name, cel.StringType) }

	e := &Estimator{}
	for _, c := range []struct {
		what, source string
		into         *cel.Program
		vars         []cel.EnvOption
	}{
		{"offchain input", p.OffchainInput, &e.offIn, []cel.EnvOption{double("amount"), double("expiry"), double("birth"), double("weight"), str("inputType")}},
		{"onchain input", p.OnchainInput, &e.onIn, []cel.EnvOption{double("amount")}},
		{"offchain output", p.OffchainOutput, &e.offOut, []cel.EnvOption{double("amount"), str("script")}},
		{"onchain output", p.OnchainOutput, &e.onOut, []cel.EnvOption{double("amount"), str("script")}},
	} {
		if c.source == "" {
			continue
		}
		prog, err := compile(c.source, append(c.vars, nowFunc))
		if err != nil {
			return nil, fmt.Errorf("%s fee program: %w", c.what, err)
		}
		*c.into = prog
	}
	return e, nil
}

func compile(source string, opts []cel.EnvOption) (cel.Program, error) {
	env, err := cel.NewEnv(opts...)
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(source)
	if issues != nil && issues.Err() != nil {
		return nil, issues.Err()
	}
	if ast.OutputType() != cel.DoubleType {
		return nil, fmt.Errorf("returns %s, not double", ast.OutputType())
	}
	return env.Program(ast)
}

// Fee adds all programs' results as floats and rounds up once, to satoshis.
func (e *Estimator) Fee(offIn []OffchainInput, onIn []int64, offOut, onOut []Output) (int64, error) {
	var total float64
	add := func(p cel.Program, args map[string]any) error {
		if p == nil {
			return nil
		}
		v, _, err := p.Eval(args)
		if err != nil {
			return err
		}
		n, err := v.ConvertToNative(reflect.TypeFor[float64]())
		if err != nil {
			return err
		}
		total += n.(float64)
		return nil
	}
	for _, in := range offIn {
		args := map[string]any{"amount": float64(in.Amount), "inputType": in.Type, "weight": 0.0}
		if in.Expiry != 0 {
			args["expiry"] = float64(in.Expiry)
		}
		if in.Birth != 0 {
			args["birth"] = float64(in.Birth)
		}
		if err := add(e.offIn, args); err != nil {
			return 0, err
		}
	}
	for _, amount := range onIn {
		if err := add(e.onIn, map[string]any{"amount": float64(amount)}); err != nil {
			return 0, err
		}
	}
	for _, o := range offOut {
		if err := add(e.offOut, map[string]any{"amount": float64(o.Amount), "script": o.Script}); err != nil {
			return 0, err
		}
	}
	for _, o := range onOut {
		if err := add(e.onOut, map[string]any{"amount": float64(o.Amount), "script": o.Script}); err != nil {
			return 0, err
		}
	}
	return int64(math.Ceil(total)), nil
}
