package bip340

import (
	"fmt"
	"math/bits"

	"github.com/btcsuite/btcd/btcec/v2"
)

// Point is a decoded affine curve point; the zero Point is the point at
// infinity. Its operations take time that depends on their operands: they are
// for public values. Points are immutable.
type Point struct {
	x, y   btcec.FieldVal // normalised
	finite bool
}

// decodePoint is cpoint of BIP-327: 2 or 3, then x < p with a point on it.
func decodePoint(b *[33]byte) (Point, error) {
	if b[0] != 2 && b[0] != 3 {
		return Point{}, fmt.Errorf("%w: first byte is not 2 or 3", ErrPoint)
	}
	p := Point{finite: true}
	if p.x.SetByteSlice(b[1:]) {
		return Point{}, fmt.Errorf("%w: x exceeds the field", ErrPoint)
	}
	if !btcec.DecompressY(&p.x, b[0] == 3, &p.y) {
		return Point{}, fmt.Errorf("%w: x is not on the curve", ErrPoint)
	}
	p.y.Normalize()
	return p, nil
}

// DecodePointOrInfinity is cpoint_ext of BIP-327: 33 zero bytes are the point
// at infinity, all else is decoded as a public key.
func DecodePointOrInfinity(b [33]byte) (Point, error) {
	if b == ([33]byte{}) {
		return Point{}, nil
	}
	return decodePoint(&b)
}

// affine makes a Point of j, which must have z = 1 and normalised coordinates.
func affine(j *btcec.JacobianPoint) Point {
	if j.X.IsZero() && j.Y.IsZero() {
		return Point{}
	}
	return Point{x: j.X, y: j.Y, finite: true}
}

// jacobian returns p in Jacobian coordinates.
func (p *Point) jacobian() btcec.JacobianPoint {
	var j btcec.JacobianPoint
	if p.finite {
		j.X, j.Y = p.x, p.y
		j.Z.SetInt(1)
	}
	return j
}

// PubKey encodes p; the point at infinity is 33 zero bytes.
func (p Point) PubKey() PubKey {
	var k PubKey
	if !p.finite {
		return k
	}
	k[0] = 2
	if p.y.IsOdd() {
		k[0] = 3
	}
	p.x.PutBytesUnchecked(k[1:])
	return k
}

// XOnly encodes the x coordinate of p.
func (p Point) XOnly() XOnly {
	var k XOnly
	if p.finite {
		p.x.PutBytesUnchecked(k[:])
	}
	return k
}

// IsInfinity reports whether p is the point at infinity.
func (p Point) IsInfinity() bool { return !p.finite }

// HasEvenY reports whether y is even; it is false at infinity.
func (p Point) HasEvenY() bool { return p.finite && !p.y.IsOdd() }

// Equal reports whether p and q are the same point, y included.
func (p Point) Equal(q Point) bool {
	return p.finite == q.finite && p.x.Equals(&q.x) && p.y.Equals(&q.y)
}

// Negate returns -p.
func (p Point) Negate() Point {
	if p.finite {
		p.y.Negate(1).Normalize()
	}
	return p
}

// Sum is a running sum of public points in Jacobian coordinates, so that many
// additions share one inversion. The zero Sum is the point at infinity.
type Sum struct{ j btcec.JacobianPoint }

// Add adds p.
func (s *Sum) Add(p Point) {
	j := p.jacobian()
	btcec.AddNonConst(&s.j, &j, &s.j)
}

// AddMul adds k*p. k must be public.
func (s *Sum) AddMul(k *btcec.ModNScalar, p Point) {
	var j, product btcec.JacobianPoint
	j = p.jacobian()
	btcec.ScalarMultNonConst(k, &j, &product)
	btcec.AddNonConst(&s.j, &product, &s.j)
}

// AddMulBase adds k*G. k must be public: secrets go through MulBase.
func (s *Sum) AddMulBase(k *btcec.ModNScalar) {
	var product btcec.JacobianPoint
	btcec.ScalarBaseMultNonConst(k, &product)
	btcec.AddNonConst(&s.j, &product, &s.j)
}

// MulSmall multiplies the sum by k, in public: for the small numbers at which a
// polynomial is evaluated it costs a few doublings.
func (s *Sum) MulSmall(k uint32) {
	var product btcec.JacobianPoint
	for bit := bits.Len32(k) - 1; bit >= 0; bit-- {
		btcec.DoubleNonConst(&product, &product)
		if k>>bit&1 == 1 {
			btcec.AddNonConst(&product, &s.j, &product)
		}
	}
	s.j = product
}

// Negate negates the sum.
func (s *Sum) Negate() { s.j.Y.Normalize().Negate(1).Normalize() }

// Point returns the sum as an affine point.
func (s *Sum) Point() Point {
	if s.infinite() {
		return Point{}
	}
	j := s.j
	j.ToAffine()
	return affine(&j)
}

func (s *Sum) infinite() bool {
	return (s.j.X.IsZero() && s.j.Y.IsZero()) || s.j.Z.IsZero()
}

// Points returns the sums as affine points with a single field inversion.
func Points(sums ...*Sum) []Point {
	out := make([]Point, len(sums))
	finite := make([]*btcec.JacobianPoint, 0, len(sums))
	at := make([]int, 0, len(sums))
	for i, s := range sums {
		if !s.infinite() {
			j := s.j
			finite, at = append(finite, &j), append(at, i)
		}
	}
	toAffine(finite)
	for n, i := range at {
		out[i] = affine(finite[n])
	}
	return out
}

// toAffine brings finite points to z = 1 with one inversion (Montgomery's
// trick). It branches only on the number of points.
func toAffine(ps []*btcec.JacobianPoint) {
	if len(ps) == 0 {
		return
	}
	// before[i] is the product of the z of all points before i.
	before := make([]btcec.FieldVal, len(ps))
	var acc btcec.FieldVal
	acc.SetInt(1)
	for i, p := range ps {
		before[i] = acc
		acc.Mul(&p.Z)
	}
	acc.Inverse()
	for i := len(ps) - 1; i >= 0; i-- {
		p := ps[i]
		var zInv, zInv2 btcec.FieldVal
		zInv.Mul2(&acc, &before[i])
		acc.Mul(&p.Z)
		zInv2.SquareVal(&zInv)
		p.X.Mul(&zInv2).Normalize()
		p.Y.Mul(zInv2.Mul(&zInv)).Normalize()
		p.Z.SetInt(1)
	}
	clear(before)
}
