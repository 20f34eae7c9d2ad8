package bip340

import "github.com/btcsuite/btcd/btcec/v2"

// Multiplication of a foreign point by a secret (ECDH with a key that lives
// long, against points that an attacker chooses).
//
// The scalar is read in 64 digits of 4 bits, highest first: four doublings, one
// addition of a table entry, sixty-four times, whatever the digits are. Every
// entry of the table is read and masked. The additions and doublings are the
// complete formulas of Renes, Costello and Batina (eprint 2015/1060, algorithms
// 7 and 9, a = 0), which have no exceptional case on a curve of odd order, so
// there is nothing that a chosen point could trigger: neither the table's entry
// for zero nor an accumulator that meets an entry needs a branch.
const (
	foreignBits = 4 // 5: 12 additions fewer, 16 more for the table
	foreignRow  = 1 << foreignBits
	curveB3     = 21 // 3*b of the curve y^2 = x^3 + 7
)

// projective is a point (X/Z, Y/Z); infinity is (0, 1, 0). Its coordinates are
// normalised.
type projective struct{ x, y, z btcec.FieldVal }

// MulSecret returns k*p for a secret k with 0 < k < n: no branch and no address
// depends on k. A p at infinity yields infinity.
func MulSecret(k *btcec.ModNScalar, p Point) Point {
	if !p.finite {
		return Point{}
	}
	var table [foreignRow]projective
	table[0].y.SetInt(1)
	table[1].x, table[1].y = p.x, p.y
	table[1].z.SetInt(1)
	for i := 2; i < foreignRow; i++ {
		table[i] = table[i-1]
		table[i].add(&table[1])
	}
	var b [32]byte
	k.PutBytes(&b)
	var acc, entry projective
	acc.y.SetInt(1)
	for _, digits := range b {
		for _, digit := range [2]byte{digits >> foreignBits, digits & (foreignRow - 1)} {
			for range foreignBits {
				acc.double()
			}
			choose(&table, digit, &entry)
			acc.add(&entry)
		}
	}
	clear(b[:])
	entry = projective{}
	out := Point{finite: true}
	acc.z.Inverse()
	out.x.Mul2(&acc.x, &acc.z).Normalize()
	out.y.Mul2(&acc.y, &acc.z).Normalize()
	acc = projective{}
	return out
}

// choose reads every entry of the table and keeps the one numbered digit: it
// adds up products with 0 or 1, which the field type offers in constant time.
func choose(table *[foreignRow]projective, digit byte, out *projective) {
	var sum projective
	for i := range table {
		// (diff-1)>>8 has its low bit set only where diff is 0.
		diff := uint32(i) ^ uint32(digit)
		keep := uint8((diff - 1) >> 8 & 1)
		var t btcec.FieldVal
		sum.x.Add(t.Set(&table[i].x).MulInt(keep))
		sum.y.Add(t.Set(&table[i].y).MulInt(keep))
		sum.z.Add(t.Set(&table[i].z).MulInt(keep))
	}
	sum.x.Normalize()
	sum.y.Normalize()
	sum.z.Normalize()
	*out = sum
}

// minus sets f to f - g for g of magnitude at most m.
func minus(f, g *btcec.FieldVal, m uint32) *btcec.FieldVal {
	var neg btcec.FieldVal
	return f.Add(neg.NegateVal(g, m))
}

// add sets p to p + q (algorithm 7). Products have magnitude 1, and no operand
// of a product exceeds 8.
func (p *projective) add(q *projective) {
	var xx, yy, zz, xy, yz, xz, s, t btcec.FieldVal
	xx.Mul2(&p.x, &q.x)
	yy.Mul2(&p.y, &q.y)
	zz.Mul2(&p.z, &q.z)
	xy.Mul2(s.Add2(&p.x, &p.y), t.Add2(&q.x, &q.y))
	minus(minus(&xy, &xx, 1), &yy, 1) // x1*y2 + x2*y1, magnitude 5
	yz.Mul2(s.Add2(&p.y, &p.z), t.Add2(&q.y, &q.z))
	minus(minus(&yz, &yy, 1), &zz, 1)
	xz.Mul2(s.Add2(&p.x, &p.z), t.Add2(&q.x, &q.z))
	minus(minus(&xz, &xx, 1), &zz, 1)
	xx.MulInt(3) // magnitude 3
	zz.MulInt(curveB3).Normalize()
	xz.Normalize().MulInt(curveB3).Normalize()
	var sum, diff btcec.FieldVal
	sum.Add2(&yy, &zz)
	diff.Set(&yy)
	minus(&diff, &zz, 1)
	p.x.Mul2(&xy, &diff)
	p.x.Add(s.Mul2(&yz, &xz).Negate(1)).Normalize()
	p.y.Mul2(&diff, &sum)
	p.y.Add(s.Mul2(&xz, &xx)).Normalize()
	p.z.Mul2(&sum, &yz)
	p.z.Add(s.Mul2(&xx, &xy)).Normalize()
}

// double sets p to 2p (algorithm 9).
func (p *projective) double() {
	var yy, yz, zz, xy, eight, s, d btcec.FieldVal
	yy.SquareVal(&p.y)
	eight.Set(&yy).MulInt(8)
	yz.Mul2(&p.y, &p.z)
	zz.SquareVal(&p.z).MulInt(curveB3).Normalize()
	xy.Mul2(&p.x, &p.y)
	s.Add2(&yy, &zz)      // magnitude 2
	d.Set(&zz).MulInt(3)  // magnitude 3
	d.Negate(3).Add(&yy)  // yy - 3*zz, magnitude 5
	p.x.Mul2(&zz, &eight) // kept for y
	p.y.Mul2(&d, &s).Add(&p.x).Normalize()
	p.z.Mul2(&yz, &eight).Normalize()
	p.x.Mul2(&d, &xy).MulInt(2).Normalize()
}
