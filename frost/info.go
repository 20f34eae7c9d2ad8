package frost

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
)

// Info is the public record of a threshold key in one epoch: its threshold, its
// participants' public shares, and the key itself (ThresholdInfo of BIP-445). It
// is consistent: only NewInfo and ParseInfo make one. It is immutable.
//
// A signer takes it from its own storage, never from a peer.
type Info struct {
	epoch  uint32
	t      int
	key    bip340.PubKey
	point  bip340.Point
	shares []bip340.PubKey // zero: absent
	points []bip340.Point  // infinity: absent
}

// NewInfo validates a record (ValidateThresholdInfo): 1 <= t <= n <= 128, where n
// is the number of shares; a zero share is absent, but at least t are there; all
// of them lie on one polynomial of degree t-1, whose value at 0 is key. Errors
// are ErrInfo and bip340.ErrPoint.
func NewInfo(epoch uint32, t int, key bip340.PubKey, shares []bip340.PubKey) (*Info, error) {
	n := len(shares)
	if t < 1 || t > n || n > MaxParticipants {
		return nil, fmt.Errorf("%w: %d of %d", ErrInfo, t, n)
	}
	in := &Info{epoch: epoch, t: t, key: key, shares: slices.Clone(shares), points: make([]bip340.Point, n)}
	var err error
	if in.point, err = key.Point(); err != nil {
		return nil, fmt.Errorf("frost: threshold key: %w", err)
	}
	var present []int
	for i, s := range shares {
		if s == (bip340.PubKey{}) {
			continue
		}
		if in.points[i], err = s.Point(); err != nil {
			return nil, fmt.Errorf("frost: public share %d: %w", i, err)
		}
		present = append(present, i)
	}
	if len(present) < t {
		return nil, fmt.Errorf("%w: %d public shares, %d are needed", ErrInfo, len(present), t)
	}
	return in, in.consistent(present[:t], present[t:])
}

// consistent interpolates through the shares of first and compares with the
// others and the key.
func (in *Info) consistent(first, others []int) error {
	for _, id := range others {
		if !in.interpolate(first, id+1).Equal(in.points[id]) {
			return fmt.Errorf("%w: public share %d is not on the others' polynomial", ErrInfo, id)
		}
	}
	// The key is no point at infinity, so neither is what equals it.
	if !in.interpolate(first, 0).Equal(in.point) {
		return fmt.Errorf("%w: the shares yield another key", ErrInfo)
	}
	return nil
}

// interpolate returns the value at x of the polynomial through the public
// shares of ids.
func (in *Info) interpolate(ids []int, x int) bip340.Point {
	lambdas := pedpop.Lagrange(ids, x)
	points := make([]bip340.Point, len(ids))
	for i, id := range ids {
		points[i] = in.points[id]
	}
	var sum bip340.Sum
	sum.AddMuls(lambdas, points)
	return sum.Point()
}

// Epoch numbers the sharing: a refresh adds one and leaves the key as it is.
func (in *Info) Epoch() uint32 { return in.epoch }

// Threshold returns how many signers a signature takes.
func (in *Info) Threshold() int { return in.t }

// Participants returns how many shares the key has, absent ones counted.
func (in *Info) Participants() int { return len(in.shares) }

// PubKey returns the threshold key before any tweak, with its parity.
func (in *Info) PubKey() bip340.PubKey { return in.key }

// PubShare returns the public share of participant id, and whether it is known.
func (in *Info) PubShare(id int) (bip340.PubKey, bool) {
	if id < 0 || id >= len(in.shares) || in.points[id].IsInfinity() {
		return bip340.PubKey{}, false
	}
	return in.shares[id], true
}

// PubShares returns all public shares, zero where absent, in a slice of the
// caller's own.
func (in *Info) PubShares() []bip340.PubKey { return slices.Clone(in.shares) }

const infoHead = 1 + 4 + 1 + 1 + 33

// Encode returns version, u32 epoch, u8 t, u8 n, the key and n public shares of
// 33 bytes each, zeros where absent.
func (in *Info) Encode() []byte {
	b := make([]byte, 0, infoHead+33*len(in.shares))
	b = append(b, byte(V1))
	b = binary.BigEndian.AppendUint32(b, in.epoch)
	b = append(b, byte(in.t), byte(len(in.shares)))
	b = append(b, in.key[:]...)
	for i := range in.shares {
		b = append(b, in.shares[i][:]...)
	}
	return b
}

// ParseInfo decodes and validates what Encode wrote. Errors are ErrVersion,
// ErrEncoding and those of NewInfo.
func ParseInfo(b []byte) (*Info, error) {
	if len(b) > 0 && Version(b[0]) != V1 {
		return nil, fmt.Errorf("%w: %d", ErrVersion, b[0])
	}
	if len(b) < infoHead {
		return nil, fmt.Errorf("%w: threshold info of %d bytes", ErrEncoding, len(b))
	}
	n := int(b[6])
	if len(b) != infoHead+33*n {
		return nil, fmt.Errorf("%w: threshold info of %d bytes for %d shares", ErrEncoding, len(b), n)
	}
	shares := make([]bip340.PubKey, n)
	for i := range shares {
		shares[i] = bip340.PubKey(b[infoHead+33*i:][:33])
	}
	return NewInfo(binary.BigEndian.Uint32(b[1:]), int(b[5]), bip340.PubKey(b[7:]), shares)
}
