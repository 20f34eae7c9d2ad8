// Package txfilter owns the CEL expressions by which a subscription picks
// transactions (protocol section 7.5). It must not know subscriptions.
package txfilter

import (
	"errors"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/asset"
)

// ErrNotBool is returned for an expression of another type.
var ErrNotBool = errors.New("txfilter: expression is not a bool")

// Tx is what an expression sees as tx.
type Tx struct {
	// Extension maps packet types to packet bytes in hex.
	Extension map[int64]string `json:"extension,omitempty"`
}

// Filter is a compiled expression.
type Filter struct{ prog cel.Program }

// Compile compiles an expression over tx.
func Compile(source string) (*Filter, error) {
	env, err := cel.NewEnv(
		ext.NativeTypes(reflect.TypeFor[Tx](), ext.ParseStructTag("json")),
		cel.Variable("tx", cel.ObjectType("txfilter.Tx")),
		cel.Function("hasPacket", cel.Overload("hasPacket_map_int_string_int_bool",
			[]*cel.Type{cel.MapType(cel.IntType, cel.StringType), cel.IntType}, cel.BoolType,
			cel.BinaryBinding(func(m, typ ref.Val) ref.Val { return m.(traits.Mapper).Contains(typ) }))),
	)
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(source)
	if issues != nil && issues.Err() != nil {
		return nil, issues.Err()
	}
	if ast.OutputType() != cel.BoolType {
		return nil, ErrNotBool
	}
	prog, err := env.Program(ast)
	if err != nil {
		return nil, err
	}
	return &Filter{prog}, nil
}

// Eval says whether the expression holds; one that fails to evaluate does not.
func (f *Filter) Eval(tx Tx) bool {
	v, _, err := f.prog.Eval(map[string]any{"tx": tx})
	if err != nil {
		return false
	}
	b, ok := v.Value().(bool)
	return ok && b
}

// Matches evaluates the expression for a transaction.
func (f *Filter) Matches(tx *wire.MsgTx) bool { return f.Eval(Tx{Extension: asset.Packets(tx)}) }
