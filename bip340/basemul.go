package bip340

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/btcsuite/btcd/btcec/v2"
)

// Masked base multiplication (every secret scalar goes through it).
//
// The scalar is cut into 43 digits of 6 bits, k = sum d_i * 64^i, and
//
//	k*G = sum over i of table[i][d_i],  table[i][d] = d * 64^i * G + U_i
//
// where the U_i are multiples of a point whose discrete logarithm nobody knows
// and which cancel over all rows. With them no entry is the point at infinity,
// for d = 0 neither, and no addition ever meets its exceptional cases, but with
// probability about 2^-250. So one straight line of code serves every scalar:
// every entry of a row is read and masked, and the additions are the same
// field operations whatever the digits are.
const (
	digitBits = 6                                 // 5: 52 additions; 7: twice the table; measured slower
	digits    = (256 + digitBits - 1) / digitBits // 43
	rowLen    = 1 << digitBits
)

// entry is an affine point as the eight 64-bit words of x || y, big-endian.
type entry [8]uint64

// baseTable is 43*64 entries of 64 bytes, 176 kB, made at first use (about
// 4 ms) and never changed.
var baseTable = sync.OnceValue(makeBaseTable)

func makeBaseTable() *[digits][rowLen]entry {
	points := make([]btcec.JacobianPoint, digits*rowLen)
	offset, total := offsetPoint(), btcec.JacobianPoint{}
	var step btcec.JacobianPoint // 64^i * G
	btcec.GeneratorJacobian(&step)
	for i := range digits {
		row := points[i*rowLen:][:rowLen]
		row[0] = offset
		if i == digits-1 { // the last row takes all the offsets back
			row[0] = total
			row[0].Y.Negate(1).Normalize()
		}
		for d := 1; d < rowLen; d++ {
			btcec.AddNonConst(&row[d-1], &step, &row[d])
		}
		btcec.AddNonConst(&total, &offset, &total)
		btcec.DoubleNonConst(&offset, &offset)
		for range digitBits {
			btcec.DoubleNonConst(&step, &step)
		}
	}
	all := make([]*btcec.JacobianPoint, len(points))
	for i := range points {
		all[i] = &points[i]
	}
	toAffine(all)
	var table [digits][rowLen]entry
	for i, p := range points {
		e := &table[i/rowLen][i%rowLen]
		x, y := p.X.Bytes(), p.Y.Bytes()
		for w := range 4 {
			e[w] = binary.BigEndian.Uint64(x[8*w:])
			e[4+w] = binary.BigEndian.Uint64(y[8*w:])
		}
	}
	return &table
}

// offsetPoint hashes to the curve by trying counters, so that no one can know
// the point's discrete logarithm.
func offsetPoint() btcec.JacobianPoint {
	for n := byte(0); ; n++ {
		sum := sha256.Sum256(append([]byte("vigil/basemul/offset"), n))
		var j btcec.JacobianPoint
		if j.X.SetBytes(&sum) == 0 && btcec.DecompressY(&j.X, false, &j.Y) {
			j.Y.Normalize()
			j.Z.SetInt(1)
			return j
		}
	}
}

// mulBase sets out to k*G in Jacobian coordinates, 0 < k < n, in time and with
// memory accesses that do not depend on k.
func mulBase(k *btcec.ModNScalar, out *btcec.JacobianPoint) {
	table := baseTable()
	var b [32]byte
	k.PutBytes(&b)
	// Five words, least significant first; the fifth lets the last digit, which
	// begins at bit 252, read over the end.
	var words [5]uint64
	for w := range 4 {
		words[w] = binary.BigEndian.Uint64(b[24-8*w:])
	}
	var e entry
	pick(&table[0], words[0]&(rowLen-1), &e)
	setEntry(&e, &out.X, &out.Y)
	out.Z.SetInt(1)
	var x, y btcec.FieldVal
	for i := 1; i < digits; i++ {
		word, shift := i*digitBits/64, uint(i*digitBits%64)
		// A shift by 64 yields 0 in Go, as is wanted for shift = 0.
		digit := (words[word]>>shift | words[word+1]<<(64-shift)) & (rowLen - 1)
		pick(&table[i], digit, &e)
		setEntry(&e, &x, &y)
		addMixed(out, &x, &y)
	}
	clear(b[:])
	clear(words[:])
	clear(e[:])
	x.Zero()
	y.Zero()
}

// pick reads every entry of row and keeps the one numbered digit.
func pick(row *[rowLen]entry, digit uint64, out *entry) {
	var a entry
	for j := range row {
		// diff is 0 for the wanted entry only, and below 2^63: diff-1 has its top
		// bit set exactly then, and the arithmetic shift spreads it.
		diff := uint64(j) ^ digit
		mask := uint64(int64(diff-1) >> 63)
		r := &row[j]
		a[0] |= r[0] & mask
		a[1] |= r[1] & mask
		a[2] |= r[2] & mask
		a[3] |= r[3] & mask
		a[4] |= r[4] & mask
		a[5] |= r[5] & mask
		a[6] |= r[6] & mask
		a[7] |= r[7] & mask
	}
	*out = a
}

func setEntry(e *entry, x, y *btcec.FieldVal) {
	var b [32]byte
	for w := range 4 {
		binary.BigEndian.PutUint64(b[8*w:], e[w])
	}
	x.SetBytes(&b)
	for w := range 4 {
		binary.BigEndian.PutUint64(b[8*w:], e[4+w])
	}
	y.SetBytes(&b)
	clear(b[:])
}

// addMixed adds the affine point (x2, y2) to p with no branch at all
// (madd: 8M + 3S). It is wrong when the two have the same x or one is infinity,
// which the offsets of the table exclude. p stays normalised in X and of
// magnitude at most 3 in Y.
func addMixed(p *btcec.JacobianPoint, x2, y2 *btcec.FieldVal) {
	var zz, h, hh, hhh, r, v, t btcec.FieldVal
	zz.SquareVal(&p.Z)
	h.NegateVal(&p.X, 1).Add(t.Mul2(x2, &zz))          // H = x2*Z^2 - X, magnitude 3
	r.NegateVal(&p.Y, 3).Add(t.Mul2(y2, zz.Mul(&p.Z))) // r = y2*Z^3 - Y, magnitude 5
	hh.SquareVal(&h)
	hhh.Mul2(&hh, &h)
	v.Mul2(&p.X, &hh)
	p.Z.Mul(&h)
	t.Set(&v).MulInt(2).Add(&hhh).Negate(3)
	p.X.SquareVal(&r).Add(&t).Normalize() // X' = r^2 - H^3 - 2V
	t.Mul2(&p.Y, &hhh).Negate(1)
	v.Add(h.NegateVal(&p.X, 1)).Mul(&r)
	p.Y.Set(&v).Add(&t) // Y' = r*(V - X') - Y*H^3, magnitude 3
}

// MulBase returns k*G for a secret k with 0 < k < n: no branch and no address
// depends on it.
func MulBase(k *btcec.ModNScalar) Point {
	var j btcec.JacobianPoint
	mulBase(k, &j)
	j.ToAffine()
	p := affine(&j)
	return p
}

// MulBases is MulBase for several scalars, none zero, which share one inversion.
func MulBases(ks ...*btcec.ModNScalar) []Point {
	js := make([]btcec.JacobianPoint, len(ks))
	all := make([]*btcec.JacobianPoint, len(ks))
	for i := range ks {
		mulBase(ks[i], &js[i])
		all[i] = &js[i]
	}
	toAffine(all)
	ps := make([]Point, len(ks))
	for i := range js {
		ps[i] = affine(&js[i])
	}
	clear(js)
	return ps
}
