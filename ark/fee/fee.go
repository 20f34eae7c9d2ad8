// Package fee owns the operator's fees for intents: it compiles the operator's
// CEL programs and evaluates them within limits, as an operator's program is
// foreign code. It reads no clock.
package fee

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"github.com/btcsuite/btcd/btcutil/v2"

	"github.com/vigil-ark/vigil/ark"
)

const (
	// maxProgram bounds a program's text in characters; those in use are one line.
	maxProgram = 4096
	// maxNesting bounds the depth of a program's expressions.
	maxNesting = 32
	// maxNodes bounds the size of a compiled program.
	maxNodes = 2048
	// maxCost bounds one evaluation in CEL's units, about one an operation: a
	// hundred times any formula in use, and reached within half a millisecond
	// (BenchmarkCostLimit), as it may be reached for each of 128 inputs.
	maxCost = 2_000
)

// Variables of the programs (protocol section 2.5).
const (
	varAmount = "amount"
	varExpiry = "expiry"
	varBirth  = "birth"
	varWeight = "weight"
	varType   = "inputType"
	varScript = "script"
	// varNow holds what now() expands to.
	varNow = "now_seconds"
)

var (
	// ErrProgram is returned for a program that does not compile to a number.
	ErrProgram = errors.New("fee: invalid program")
	// ErrEvaluate is returned when a program fails, exceeds its cost or yields no
	// amount of satoshis.
	ErrEvaluate = errors.New("fee: program failed")
)

// InputType is how the operator classes an off-chain input.
type InputType string

// The types of off-chain input.
const (
	VTXO        InputType = "vtxo"
	Recoverable InputType = "recoverable"
	Note        InputType = "note"
)

// TypeOf classes a VTXO at now, unix seconds, as the operator does.
func TypeOf(v ark.VTXO, now int64) InputType {
	switch {
	case v.Note():
		return Note
	case v.Recoverable(now):
		return Recoverable
	}
	return VTXO
}

// InputArg is an input to be charged. Amount is in satoshis, Expiry and Birth
// are unix seconds, 0 when not known; the operator passes Weight 0. An on-chain
// input (boarding, unrolled) has only its Amount.
type InputArg struct {
	Amount        int64
	Expiry, Birth int64
	Weight        float64
	Type          InputType
	Onchain       bool
}

// OutputArg is an output to be charged; extension outputs are not.
type OutputArg struct {
	Amount  int64
	Script  []byte
	Onchain bool
}

// Estimator evaluates one operator's programs. It is safe for concurrent use.
type Estimator struct {
	offchainInput, onchainInput, offchainOutput, onchainOutput cel.Program // nil: free
}

// Compile compiles the programs. The error is ErrProgram and names the program.
func Compile(p ark.FeePrograms) (*Estimator, error) {
	amount := cel.Variable(varAmount, cel.DoubleType)
	offchain := []cel.EnvOption{
		amount, cel.Variable(varExpiry, cel.DoubleType), cel.Variable(varBirth, cel.DoubleType),
		cel.Variable(varWeight, cel.DoubleType), cel.Variable(varType, cel.StringType),
	}
	output := []cel.EnvOption{amount, cel.Variable(varScript, cel.StringType)}
	var e Estimator
	for _, x := range []struct {
		name, text string
		vars       []cel.EnvOption
		into       *cel.Program
	}{
		{"offchainInput", p.OffchainInput, offchain, &e.offchainInput},
		{"onchainInput", p.OnchainInput, []cel.EnvOption{amount}, &e.onchainInput},
		{"offchainOutput", p.OffchainOutput, output, &e.offchainOutput},
		{"onchainOutput", p.OnchainOutput, output, &e.onchainOutput},
	} {
		if x.text == "" {
			continue
		}
		prg, err := compile(x.text, x.vars)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrProgram, x.name, err)
		}
		*x.into = prg
	}
	return &e, nil
}

func compile(text string, vars []cel.EnvOption) (cel.Program, error) {
	if len(text) > maxProgram {
		return nil, fmt.Errorf("%d bytes", len(text))
	}
	env, err := cel.NewEnv(append([]cel.EnvOption{
		cel.ParserExpressionSizeLimit(maxProgram),
		cel.ParserRecursionLimit(maxNesting),
		cel.ExpressionNodeLimit(maxNodes),
		cel.Variable(varNow, cel.DoubleType),
		// now() reads a variable, so that the caller says what time it is.
		cel.Macros(append(cel.StandardMacros, cel.GlobalMacro("now", 0, expandNow))...),
	}, vars...)...)
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	if !checked.OutputType().IsExactType(cel.DoubleType) {
		return nil, fmt.Errorf("result is %s, want double", checked.OutputType())
	}
	return env.Program(checked, cel.CostLimit(maxCost))
}

func expandNow(f cel.MacroExprFactory, _ ast.Expr, _ []ast.Expr) (ast.Expr, *cel.Error) {
	return f.NewIdent(varNow), nil
}

// Fee is what the operator demands at registration at now, unix seconds, in
// satoshis: the sum of all charges, rounded up once. At registration the
// operator charges every output as an off-chain one, and on-chain outputs again
// as such; that is copied here. Less than nothing is nothing.
func (e *Estimator) Fee(inputs []InputArg, outputs []OutputArg, now int64) (int64, error) {
	sum, err := e.sum(inputs, outputs, now, true)
	if err != nil {
		return 0, err
	}
	fee := math.Ceil(sum)
	if math.IsNaN(fee) || fee > btcutil.MaxSatoshi {
		return 0, fmt.Errorf("%w: total of %g", ErrEvaluate, sum)
	}
	return int64(max(fee, 0)), nil
}

// Sum is the exact total of all charges with every output charged once, as the
// operator's estimate has it.
func (e *Estimator) Sum(inputs []InputArg, outputs []OutputArg, now int64) (float64, error) {
	return e.sum(inputs, outputs, now, false)
}

func (e *Estimator) sum(inputs []InputArg, outputs []OutputArg, now int64, registration bool) (float64, error) {
	var total float64
	if e.offchainInput == nil && e.onchainInput == nil && e.offchainOutput == nil && e.onchainOutput == nil {
		return 0, nil // as most operators have it
	}
	add := func(p cel.Program, vars map[string]any) error {
		vars[varNow] = float64(now)
		fee, err := evaluate(p, vars)
		total += fee
		return err
	}
	for i, in := range inputs {
		p := e.offchainInput
		vars := map[string]any{varAmount: float64(in.Amount)}
		if in.Onchain {
			p = e.onchainInput
		} else {
			in.offchain(vars)
		}
		if err := add(p, vars); err != nil {
			return 0, fmt.Errorf("input %d: %w", i, err)
		}
	}
	for i, out := range outputs {
		vars := map[string]any{varAmount: float64(out.Amount), varScript: hex.EncodeToString(out.Script)}
		if registration || !out.Onchain {
			if err := add(e.offchainOutput, vars); err != nil {
				return 0, fmt.Errorf("output %d: %w", i, err)
			}
		}
		if out.Onchain {
			if err := add(e.onchainOutput, vars); err != nil {
				return 0, fmt.Errorf("output %d: %w", i, err)
			}
		}
	}
	return total, nil
}

func (in InputArg) offchain(vars map[string]any) {
	vars[varWeight], vars[varType] = in.Weight, string(in.Type)
	if in.Expiry != 0 {
		vars[varExpiry] = float64(in.Expiry)
	}
	if in.Birth != 0 {
		vars[varBirth] = float64(in.Birth)
	}
}

func evaluate(p cel.Program, vars map[string]any) (float64, error) {
	if p == nil {
		return 0, nil
	}
	v, _, err := p.Eval(vars)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrEvaluate, err)
	}
	fee, ok := v.Value().(float64)
	if !ok || math.IsNaN(fee) || math.IsInf(fee, 0) {
		return 0, fmt.Errorf("%w: yields %v", ErrEvaluate, v)
	}
	return fee, nil
}
