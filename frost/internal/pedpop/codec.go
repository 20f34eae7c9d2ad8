package pedpop

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
)

var (
	// ErrLength says that a message has another length than the session gives it,
	// or that there are more or fewer messages than participants.
	ErrLength = errors.New("frost: wrong length")
	// ErrMalformed says that a message of the right length does not decode.
	ErrMalformed = errors.New("frost: malformed message")
)

// Reader takes fixed pieces off a message whose length was checked before.
type Reader struct {
	B   []byte
	Err error
}

func (r *Reader) take(n int) []byte {
	piece := r.B[:n]
	r.B = r.B[n:]
	return piece
}

// Points takes n points, which may be at infinity.
func (r *Reader) Points(n int, what string) []bip340.Point {
	out := make([]bip340.Point, n)
	for i := range out {
		p, err := bip340.DecodePointOrInfinity([33]byte(r.take(33)))
		if err != nil && r.Err == nil {
			r.Err = fmt.Errorf("%w: %s %d: %w", ErrMalformed, what, i, err)
		}
		out[i] = p
	}
	return out
}

// Scalars takes n scalars below the group order.
func (r *Reader) Scalars(n int, what string) []btcec.ModNScalar {
	out := make([]btcec.ModNScalar, n)
	for i := range out {
		if out[i].SetByteSlice(r.take(32)) && r.Err == nil {
			r.Err = fmt.Errorf("%w: %s %d is out of range", ErrMalformed, what, i)
		}
	}
	return out
}

// Keys takes n public keys as they are, to be decoded where they are used.
func (r *Reader) Keys(n int) []bip340.PubKey {
	out := make([]bip340.PubKey, n)
	for i := range out {
		out[i] = bip340.PubKey(r.take(33))
	}
	return out
}

// Sigs takes n signatures as they are.
func (r *Reader) Sigs(n int) [][64]byte {
	out := make([][64]byte, n)
	for i := range out {
		out[i] = [64]byte(r.take(64))
	}
	return out
}

// AppendPoints appends the points' encodings, 33 bytes each.
func AppendPoints(b []byte, ps []bip340.Point) []byte {
	for i := range ps {
		k := ps[i].PubKey()
		b = append(b, k[:]...)
	}
	return b
}

// AppendScalars appends the scalars, 32 bytes each.
func AppendScalars(b []byte, ss []btcec.ModNScalar) []byte {
	for i := range ss {
		k := ss[i].Bytes()
		b = append(b, k[:]...)
		clear(k[:])
	}
	return b
}

// AppendKeys appends the keys as they are.
func AppendKeys(b []byte, ks []bip340.PubKey) []byte {
	for i := range ks {
		b = append(b, ks[i][:]...)
	}
	return b
}

// CheckLen returns ErrLength unless b has the length that the session gives it.
func CheckLen(b []byte, want int, what string) error {
	if len(b) != want {
		return fmt.Errorf("%w: %s of %d bytes, want %d", ErrLength, what, len(b), want)
	}
	return nil
}
