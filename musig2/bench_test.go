package musig2

import (
	"bytes"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/internal/turns"
	"github.com/vigil-ark/vigil/secret"
)

const pool = 32 // nodes per slice; the cost of a multiplication varies with its scalar

// node is one tree node to sign, and what its floor is measured on.
type node struct {
	sec   hexed
	nonce *SecNonce
	agg   AggNonce
	msg   [32]byte
	b     btcec.ModNScalar
	r2    btcec.JacobianPoint // affine
	raw   btcec.JacobianPoint // b*r2, z != 1
}

func benchNodes(b *testing.B, ctx *Context) []node {
	b.Helper()
	nodes := make([]node, pool)
	for i := range nodes {
		n := &nodes[i]
		for j := range 2 {
			n.sec = append(n.sec, testScalar(1000+2*i+j)...)
		}
		own, other := pubNonceOf(b, n.sec), pubNonceOf(b, append(testScalar(5000+i), testScalar(6000+i)...))
		n.msg = bip340.TaggedHash("vigil/test/msg", []byte{byte(i)})
		var err error
		if n.agg, err = AggregateNonces([]PubNonce{own, other}); err != nil {
			b.Fatal(err)
		}
		h := tagNonceCoef.Hash(n.agg[:], ctx.output[:], n.msg[:])
		n.b.SetBytes(&h)
		pk, err := btcec.ParsePubKey(n.agg[33:])
		if err != nil {
			b.Fatal(err)
		}
		pk.AsJacobian(&n.r2)
		btcec.ScalarMultNonConst(&n.b, &n.r2, &n.raw)
	}
	return nodes
}

// BenchmarkNode processes an aggregate nonce and signs, with cached keys. The
// floor is 1A + 1I + 2D + 2us, on the very scalars and points of the nodes.
func BenchmarkNode(b *testing.B) {
	for _, n := range []int{2, 10, 100, 128} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			keys, pubs := testKeys(b, n)
			ctx, err := NewTaprootContext(pubs, make([]byte, 32))
			if err != nil {
				b.Fatal(err)
			}
			nodes := benchNodes(b, ctx)
			pk := keys[0].PubKey()
			t := turns.Prepared(b, pool, arbitrary(nodes), inversion(nodes), decompression(nodes), turns.Op{
				Prepare: func(i int) {
					nodes[i].nonce, err = bip340.ImportSecNonce(pk, secret.New(bytes.Clone(nodes[i].sec)))
					if err != nil {
						b.Fatal(err)
					}
				},
				Run: func(i int) {
					if _, err := ctx.Sign(keys[0], nodes[i].nonce, nodes[i].agg, nodes[i].msg); err != nil {
						b.Fatal(err)
					}
				},
			})
			b.ReportMetric(t[3], "us/node")
			b.ReportMetric(t[3]/(t[0]+t[1]+2*t[2]+2), "x-floor")
		})
	}
}

func arbitrary(nodes []node) turns.Op {
	return turns.Op{Run: func(i int) {
		var j btcec.JacobianPoint
		btcec.ScalarMultNonConst(&nodes[i].b, &nodes[i].r2, &j)
	}}
}

func inversion(nodes []node) turns.Op {
	return turns.Op{Run: func(i int) {
		j := nodes[i].raw
		j.ToAffine()
	}}
}

func decompression(nodes []node) turns.Op {
	return turns.Op{Run: func(i int) {
		var y btcec.FieldVal
		if !btcec.DecompressY(&nodes[i].r2.X, false, &y) {
			panic("not on the curve")
		}
	}}
}

// BenchmarkNewNonce: the floor is 2B + 1I + 2us with the masked B of the curve
// core, and for comparison with the variable-time one.
func BenchmarkNewNonce(b *testing.B) {
	keys, pubs := testKeys(b, 2)
	ctx, err := NewTaprootContext(pubs, nil)
	if err != nil {
		b.Fatal(err)
	}
	nodes := benchNodes(b, ctx)
	base := turns.Op{Run: func(i int) {
		var j btcec.JacobianPoint
		btcec.ScalarBaseMultNonConst(&nodes[i].b, &j)
	}}
	masked := turns.Op{Run: func(i int) { bip340.MulBase(&nodes[i].b) }} // with its inversion
	t := turns.Prepared(b, pool, base, masked, inversion(nodes), turns.Op{Run: func(i int) {
		n, _, err := NewNonce(keys[0], ctx, &nodes[i].msg, nil)
		if err != nil {
			b.Fatal(err)
		}
		n.Burn()
	}})
	b.ReportMetric(t[3], "us/nonce")
	b.ReportMetric(t[3]/(2*(t[1]-t[2])+t[2]+2), "x-floor")
	b.ReportMetric(t[3]/(2*t[0]+t[2]+2), "x-variable-time-floor")
}

// BenchmarkKeyAgg: the cost that the cached context saves, against n
// multiplications and decompressions.
func BenchmarkKeyAgg(b *testing.B) {
	for _, n := range []int{2, 10, 100} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			_, pubs := testKeys(b, n)
			ctx, err := NewTaprootContext(pubs, nil)
			if err != nil {
				b.Fatal(err)
			}
			nodes := benchNodes(b, ctx)
			best := math.Inf(1)
			t := turns.Prepared(b, pool, arbitrary(nodes), decompression(nodes), turns.Op{Run: func(i int) {
				if i > 0 {
					return // one aggregation per slice is enough
				}
				start := time.Now()
				if _, err := NewTaprootContext(pubs, nil); err != nil {
					b.Fatal(err)
				}
				best = min(best, time.Since(start).Seconds()*1e6)
			}})
			b.ReportMetric(best, "us/aggregation")
			b.ReportMetric(best/(float64(n)*(t[0]+t[1])), "x-n-multiplications")
		})
	}
}
