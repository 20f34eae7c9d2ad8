package arktest_test

import (
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
)

// BenchmarkOperatorTree is the operator's whole part of signing a tree of 128
// leaves that one delegate key cosigns, beside the curve work that it cannot do
// without: per node two nonces, a partial signature, and the check of the
// result.
func BenchmarkOperatorTree(b *testing.B) {
	operator, delegate := mustKey(b), mustKey(b)
	root := tapscript.LeafHash([]byte{0x51})
	var leaves []txtree.Leaf
	for range 128 {
		leaves = append(leaves, txtree.Leaf{
			Outputs:   []*wire.TxOut{{Value: 1000, PkScript: append([]byte{0x51, 0x20}, make([]byte, 32)...)}},
			Cosigners: []*btcec.PublicKey{delegate.PubKey(), operator.PubKey()},
		})
	}
	expiry := tapscript.NewDelay(2048)
	var own time.Duration
	for b.Loop() {
		begun := time.Now()
		plan, err := txtree.NewPlan(leaves, txtree.VTXORadix, root[:])
		if err != nil {
			b.Fatal(err)
		}
		tree, err := plan.Build(wire.OutPoint{}, &wire.TxOut{Value: plan.Amount, PkScript: plan.Set.Script}, &expiry)
		if err != nil {
			b.Fatal(err)
		}
		s, err := txtree.NewSession(tree, root[:], operator)
		if err != nil {
			b.Fatal(err)
		}
		own += time.Since(begun)
		puppet, err := s.NewPuppet(delegate)
		if err != nil {
			b.Fatal(err)
		}
		begun = time.Now()
		if _, err := s.Aggregate(); err != nil {
			b.Fatal(err)
		}
		if err := s.Sign(); err != nil {
			b.Fatal(err)
		}
		own += time.Since(begun)
		sigs, err := puppet.Sign()
		if err != nil {
			b.Fatal(err)
		}
		begun = time.Now()
		if bad, err := s.Combine(map[[32]byte]txtree.Sigs{tapscript.XOnly(delegate.PubKey()): sigs}); err != nil || len(bad) > 0 {
			b.Fatal(err, bad)
		}
		own += time.Since(begun)
	}
	perNode := float64(own.Nanoseconds()) / float64(b.N) / 255
	b.ReportMetric(perNode/1e3, "µs/node")
	b.ReportMetric(perNode/floor(b), "×floor")
}

// floor is the curve work per node in nanoseconds: two base multiplications for
// the nonces, two for aggregating points, one verification.
func floor(b *testing.B) float64 {
	b.Helper()
	const n = 200
	key := mustKey(b)
	begun := time.Now()
	for range n {
		if _, err := musig2.GenNonces(musig2.WithPublicKey(key.PubKey())); err != nil {
			b.Fatal(err)
		}
		var p, q btcec.JacobianPoint
		key.PubKey().AsJacobian(&p)
		for range 2 {
			btcec.ScalarMultNonConst(&key.Key, &p, &q)
			btcec.ScalarBaseMultNonConst(&key.Key, &q)
		}
	}
	return float64(time.Since(begun).Nanoseconds()) / n
}

func mustKey(b *testing.B) *btcec.PrivateKey {
	b.Helper()
	k, err := btcec.NewPrivateKey()
	if err != nil {
		b.Fatal(err)
	}
	return k
}
