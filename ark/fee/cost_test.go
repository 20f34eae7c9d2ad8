package fee

import (
	"errors"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil/ark"
)

// BenchmarkCostLimit runs into the limit: the longest that a program can take.
func BenchmarkCostLimit(b *testing.B) {
	list := "[0" + strings.Repeat(",0", 99) + "]"
	e := mustCompile(b, ark.FeePrograms{
		OffchainInput: list + ".all(a, " + list + ".all(b, " + list + ".all(c, a + b + c == 0))) ? 1.0 : 2.0",
	})
	for b.Loop() {
		if _, err := e.Fee([]InputArg{{Amount: 1}}, nil, now); !errors.Is(err, ErrEvaluate) {
			b.Fatal(err)
		}
	}
}

// BenchmarkFee is an ordinary program for one input.
func BenchmarkFee(b *testing.B) {
	e := mustCompile(b, ark.FeePrograms{OffchainInput: "inputType == 'recoverable' ? 0.0 : amount * 0.001"})
	for b.Loop() {
		if _, err := e.Fee([]InputArg{{Amount: 1, Type: VTXO}}, nil, now); err != nil {
			b.Fatal(err)
		}
	}
}
