package frost

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
)

// Signers is a set of participants who sign together, with their Lagrange
// values, which are computed once. It is immutable and safe for concurrent use.
type Signers struct {
	info    *Info
	ids     []int // in the caller's order
	lambdas []btcec.ModNScalar
	bound   []byte // u32 count and the ids ascending, as the nonce coefficient binds them
}

// Signers returns the set of the given participants, in that order: partial
// signatures and nonces are given and blamed by position. Its error is
// ErrSigners.
func (in *Info) Signers(ids ...int) (*Signers, error) {
	if len(ids) < in.t || len(ids) > len(in.shares) {
		return nil, fmt.Errorf("%w: %d signers, it takes %d to %d", ErrSigners, len(ids), in.t, len(in.shares))
	}
	sorted := slices.Clone(ids)
	slices.Sort(sorted)
	for i, id := range sorted {
		if _, ok := in.PubShare(id); !ok {
			return nil, fmt.Errorf("%w: no public share of participant %d", ErrSigners, id)
		}
		if i > 0 && sorted[i-1] == id {
			return nil, fmt.Errorf("%w: participant %d twice", ErrSigners, id)
		}
	}
	s := &Signers{info: in, ids: slices.Clone(ids), lambdas: pedpop.Lagrange(ids, 0)}
	s.bound = binary.BigEndian.AppendUint32(make([]byte, 0, 4+4*len(ids)), uint32(len(ids)))
	for _, id := range sorted {
		s.bound = binary.BigEndian.AppendUint32(s.bound, uint32(id))
	}
	return s, nil
}

// IDs returns the participants in the order that they were given in.
func (s *Signers) IDs() []int { return slices.Clone(s.ids) }

func (s *Signers) position(id int) int { return slices.Index(s.ids, id) }

// Context is a set of signers with the key that they sign for: the threshold
// key, or one tweaked from it. It is immutable and safe for concurrent use; keep
// it for all signatures under one key.
type Context struct {
	*Signers
	tweak  bip340.TweakContext
	output bip340.XOnly
}

// Untweaked returns the context that signs under the threshold key itself, as a
// tapleaf of a script path names it.
func (s *Signers) Untweaked() *Context {
	// The only error is a key at infinity, which NewInfo refuses.
	t, _ := bip340.NewTweakContext(s.info.point)
	return &Context{Signers: s, tweak: t, output: t.Q().XOnly()}
}

// Tweak returns the context whose key is tweaked further: by t*G as it is (a
// BIP-32 child), or made even first when xonly is set. Both sides derive t by
// their own rules; it is never a value that the peer sent. Errors are
// bip340.ErrScalar and bip340.ErrInfinity.
func (c *Context) Tweak(t [32]byte, xonly bool) (*Context, error) {
	w, err := c.tweak.ApplyTweak(t, xonly)
	if err != nil {
		return nil, fmt.Errorf("frost: tweak: %w", err)
	}
	return &Context{Signers: c.Signers, tweak: w, output: w.Q().XOnly()}, nil
}

// TapTweak returns the context that signs for the key path of the Taproot output
// with this internal key and the script tree of the given root; an empty root
// commits to no script.
func (c *Context) TapTweak(root []byte) (*Context, error) {
	w, err := c.tweak.ApplyTapTweak(root)
	if err != nil {
		return nil, fmt.Errorf("frost: taproot tweak: %w", err)
	}
	return &Context{Signers: c.Signers, tweak: w, output: w.Q().XOnly()}, nil
}

// OutputKey returns the x-only key after the tweaks: the key that signatures
// verify under.
func (c *Context) OutputKey() bip340.XOnly { return c.output }

// OutputPubKey is OutputKey with its parity, as a control block wants it.
func (c *Context) OutputPubKey() bip340.PubKey { return c.tweak.Q().PubKey() }
