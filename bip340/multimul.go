package bip340

import (
	"encoding/binary"

	"github.com/btcsuite/btcd/btcec/v2"
)

const (
	// nafWidth 5 gives odd digits up to 15 in about one of six places: 8 table
	// entries and 43 additions a point. 4 and 6 need more of the two together.
	nafWidth = 5
	nafTable = 1 << (nafWidth - 2)
	// From so many terms on, sharing the 256 doublings (about one multiplication)
	// beats the library's endomorphism, which halves them.
	shareFrom = 3
)

// AddMuls adds the sum of ks[i]*ps[i], in public: the scalars are no secrets.
// The slices have the same length. Many terms cost under half of as many
// AddMuls, because they share their doublings (Straus) and all table entries
// share one inversion.
func (s *Sum) AddMuls(ks []btcec.ModNScalar, ps []Point) {
	if len(ks) < shareFrom {
		for i := range ks {
			s.AddMul(&ks[i], ps[i])
		}
		return
	}
	nafs := make([][257]int8, 0, len(ks))
	tables := make([]btcec.JacobianPoint, 0, nafTable*len(ks))
	for i := range ks {
		if ps[i].finite {
			nafs = append(nafs, naf(&ks[i]))
			tables = appendOddMultiples(tables, ps[i])
		}
	}
	all := make([]*btcec.JacobianPoint, len(tables))
	for i := range tables {
		all[i] = &tables[i]
	}
	toAffine(all)
	var acc btcec.JacobianPoint
	for place := 256; place >= 0; place-- {
		btcec.DoubleNonConst(&acc, &acc)
		for i := range nafs {
			switch d := nafs[i][place]; {
			case d > 0:
				btcec.AddNonConst(&acc, &tables[nafTable*i+int(d)/2], &acc)
			case d < 0:
				t := tables[nafTable*i+int(-d)/2]
				t.Y.Negate(1).Normalize()
				btcec.AddNonConst(&acc, &t, &acc)
			}
		}
	}
	btcec.AddNonConst(&s.j, &acc, &s.j)
}

// appendOddMultiples appends p, 3p, 5p, … 15p. None is infinity: the group's
// order is a prime.
func appendOddMultiples(to []btcec.JacobianPoint, p Point) []btcec.JacobianPoint {
	first := p.jacobian()
	var twice btcec.JacobianPoint
	btcec.DoubleNonConst(&first, &twice)
	to = append(to, first)
	for range nafTable - 1 {
		var next btcec.JacobianPoint
		btcec.AddNonConst(&to[len(to)-1], &twice, &next)
		to = append(to, next)
	}
	return to
}

// naf returns the width-5 non-adjacent form of k, least significant first:
// digits are 0 or odd between -15 and 15.
func naf(k *btcec.ModNScalar) (digits [257]int8) {
	b := k.Bytes()
	var words [6]uint64 // two words of zeros to read over the end
	for w := range 4 {
		words[w] = binary.BigEndian.Uint64(b[24-8*w:])
	}
	carry := uint64(0)
	for place := 0; place < len(digits); {
		at, shift := place/64, uint(place%64)
		window := words[at]>>shift | words[at+1]<<(64-shift)
		if window&1 == carry {
			place++
			continue
		}
		d := window&(1<<nafWidth-1) + carry
		carry = d >> (nafWidth - 1)
		digits[place] = int8(d) - int8(carry<<nafWidth)
		place += nafWidth
	}
	return digits
}
