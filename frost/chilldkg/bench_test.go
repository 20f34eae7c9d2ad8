package chilldkg

import (
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/internal/turns"
	"github.com/vigil-ark/vigil/secret"
)

const pool = 16 // sessions per slice

// BenchmarkServer2of2 is the server's side of making a 2-of-2 key, as
// participant and coordinator. The floor is 9B + 4A + 9I + 3D + 10us (step 1:
// 4B + 1A; sum: 1B; step 2: 3B + 2A; certificate: 1B + 1A), of which six B (two
// coefficients, nonce, proof, share check, signature) and two A (ECDH) are on
// secrets and counted as such.
func BenchmarkServer2of2(b *testing.B) {
	hosts := [2]*HostKey{testHost(b, 1), testHost(b, 2)}
	params, err := NewParams(2, []bip340.PubKey{hosts[0].PubKey(), hosts[1].PubKey()})
	if err != nil {
		b.Fatal(err)
	}
	var p1 [pool]*Participant1
	var pmsg1 [pool][][]byte
	var serving [pool]*Serving
	var pmsg2 [pool][][]byte
	for i := range pool {
		p, m, err := Step1(hosts[0], params)
		if err != nil {
			b.Fatal(err)
		}
		p1[i], pmsg1[i] = p, [][]byte{m, nil}
	}
	var scalars [pool]btcec.ModNScalar
	var points [pool]bip340.Point
	var raw, affine [pool]btcec.JacobianPoint
	for i := range pool {
		sum := bip340.TaggedHash("vigil/test floor", []byte{byte(i)})
		scalars[i].SetBytes(&sum)
		points[i] = bip340.MulBase(&scalars[i])
		btcec.ScalarBaseMultNonConst(&scalars[i], &raw[i])
		affine[i] = raw[i]
		affine[i].ToAffine()
	}
	t := turns.Fastest(b, pool,
		func(i int) { var j btcec.JacobianPoint; btcec.ScalarBaseMultNonConst(&scalars[i], &j) },
		func(i int) { bip340.MulBase(&scalars[i]) },
		func(i int) {
			var j btcec.JacobianPoint
			btcec.ScalarMultNonConst(&scalars[i], &affine[(i+1)%pool], &j)
		},
		func(i int) { bip340.MulSecret(&scalars[i], points[(i+1)%pool]) },
		func(i int) { j := raw[i]; j.ToAffine() },
		func(i int) {
			var y btcec.FieldVal
			if !btcec.DecompressY(&affine[i].X, false, &y) {
				panic("not on the curve")
			}
		},
		func(i int) {
			s, cmsg1, err := Serve(hosts[1], params, pmsg1[i])
			if err != nil {
				b.Fatal(err)
			}
			if serving[i] == nil {
				_, m, err := p1[i].Step2(hosts[0], cmsg1)
				if err != nil {
					b.Fatal(err)
				}
				serving[i], pmsg2[i] = s, [][]byte{m, nil}
			}
		},
		func(i int) {
			if _, _, _, err := serving[i].Certify(pmsg2[i]); err != nil {
				b.Fatal(err)
			}
		})
	base, masked, arbitrary, foreign, inversion, decompression := t[0], t[1]-t[4], t[2], t[3]-t[4], t[4], t[5]
	shared := 9*inversion + 3*decompression + 10
	b.ReportMetric(t[6]+t[7], "us/server")
	b.ReportMetric((t[6]+t[7])/(6*masked+3*base+2*foreign+2*arbitrary+shared), "x-floor")
	b.ReportMetric((t[6]+t[7])/(9*base+4*arbitrary+shared), "x-variable-time-floor")
}

func testHost(tb testing.TB, n byte) *HostKey {
	tb.Helper()
	h, err := NewHostKey(secret.New([]byte{31: n}))
	if err != nil {
		tb.Fatal(err)
	}
	return h
}
