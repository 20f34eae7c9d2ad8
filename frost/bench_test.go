package frost

import (
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/internal/turns"
)

const pool = 32 // inputs per slice; the cost of a multiplication varies with its scalar

// floor holds the inputs of the primitives.
type floor struct {
	scalars [pool]btcec.ModNScalar
	points  [pool]btcec.JacobianPoint // affine
	raw     [pool]btcec.JacobianPoint // z != 1
}

func newFloor() *floor {
	f := new(floor)
	for i := range pool {
		f.scalars[i] = scalar("floor", i)
		btcec.ScalarBaseMultNonConst(&f.scalars[i], &f.raw[i])
		f.points[i] = f.raw[i]
		f.points[i].ToAffine()
	}
	return f
}

// ops are B variable-time, B masked with its inversion, A, I, D.
func (f *floor) ops() []func(int) {
	return []func(int){
		func(i int) { var j btcec.JacobianPoint; btcec.ScalarBaseMultNonConst(&f.scalars[i], &j) },
		func(i int) { bip340.MulBase(&f.scalars[i]) },
		func(i int) {
			var j btcec.JacobianPoint
			btcec.ScalarMultNonConst(&f.scalars[i], &f.points[(i+1)%pool], &j)
		},
		func(i int) { j := f.raw[i]; j.ToAffine() },
		func(i int) {
			var y btcec.FieldVal
			if !btcec.DecompressY(&f.points[i].X, false, &y) {
				panic("not on the curve")
			}
		},
	}
}

// BenchmarkLastSigner is the server's side of one 2-of-2 signature, with all
// checks and without a disk. Signer only: 2B + 1A + 2I + 2D + 2us, both B on
// secrets. With aggregation and the final check: + 1B + 1A.
func BenchmarkLastSigner(b *testing.B) {
	d := deal(b, "bench", 2, 2)
	c := d.context(b, 0, 1)
	server := d.shares[1]
	var queries [pool]Query
	var pending [pool]*Pending
	var answers [pool]Answer
	var client [pool]PartialSig
	for i := range queries {
		queries[i] = Query{Context: c, Session: SessionID{1}, Msg: [32]byte{byte(i)}}
		var err error
		if pending[i], err = d.shares[0].Commit(c, SessionID{1}, queries[i].Msg); err != nil {
			b.Fatal(err)
		}
		queries[i].Nonces = []PubNonce{pending[i].PubNonce(), {}}
		if answers[i], err = server.Answer(queries[i]); err != nil {
			b.Fatal(err)
		}
		if client[i], _, err = pending[i].Sign([]PubNonce{pending[i].PubNonce(), answers[i].Nonce}); err != nil {
			b.Fatal(err)
		}
	}
	t := turns.Fastest(b, pool, append(newFloor().ops(), func(i int) {
		if _, err := server.Answer(queries[i]); err != nil {
			b.Fatal(err)
		}
	}, func(i int) {
		if _, err := answers[i].Session.Aggregate([]PartialSig{client[i], answers[i].Sig}, nil); err != nil {
			b.Fatal(err)
		}
	})...)
	base, masked, arbitrary, inversion, decompression := t[0], t[1]-t[3], t[2], t[3], t[4]
	signer := 2*masked + arbitrary + 2*inversion + 2*decompression + 2
	plain := 2*base + arbitrary + 2*inversion + 2*decompression + 2
	b.ReportMetric(t[5], "us/signer")
	b.ReportMetric(t[5]/signer, "x-floor-signer")
	b.ReportMetric(t[5]/plain, "x-variable-time-floor-signer")
	b.ReportMetric(t[5]+t[6], "us/with-aggregation")
	b.ReportMetric((t[5]+t[6])/(signer+base+arbitrary), "x-floor-with-aggregation")
}

// BenchmarkBothSides is one whole 2-of-2 signature: device, server and the final
// check, for comparison with other libraries.
func BenchmarkBothSides(b *testing.B) {
	d := deal(b, "bench", 2, 2)
	c := d.context(b, 0, 1)
	t := turns.Fastest(b, pool, func(i int) { d.signWithLast(b, c, 1, [32]byte{byte(i)}) })
	b.ReportMetric(t[0], "us/signature")
}

// BenchmarkInfo is what a load of a 2-of-2 key costs, once: the record's
// validation and the share's check.
func BenchmarkInfo(b *testing.B) {
	raw := deal(b, "bench", 2, 2).info.Encode()
	t := turns.Fastest(b, pool, func(int) {
		if _, err := ParseInfo(raw); err != nil {
			b.Fatal(err)
		}
	})
	b.ReportMetric(t[0], "us/record")
}
