package chilldkg

import (
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
)

// Params are what a session is about: the participants' host public keys, whose
// order numbers them from 0, and how many of them it will take to sign. All
// participants must have the same; comparing Hash over a second channel shows
// it. Params are valid and immutable.
type Params struct {
	t      int
	hosts  []bip340.PubKey
	points []bip340.Point
	joined []byte // the host public keys one after another
	tags   pedpop.Tags
}

// NewParams validates parameters: 1 <= t <= n <= 128, and distinct host public
// keys on the curve. Host keys must be authentic: pinned, or bound to an account.
// Errors are ErrThreshold, *HostPubKeyError and *DuplicateError.
func NewParams(t int, hosts []bip340.PubKey) (*Params, error) {
	n := len(hosts)
	if t < 1 || t > n || n > frost.MaxParticipants {
		return nil, fmt.Errorf("%w: %d of %d", ErrThreshold, t, n)
	}
	p := &Params{t: t, hosts: slices.Clone(hosts), points: make([]bip340.Point, n), joined: make([]byte, 0, 33*n)}
	var err error
	for i, h := range hosts {
		if p.points[i], err = h.Point(); err != nil {
			return nil, &HostPubKeyError{ID: i}
		}
		p.joined = append(p.joined, h[:]...)
	}
	seen := make(map[bip340.PubKey]int, n)
	for i, h := range hosts {
		if first, ok := seen[h]; ok {
			return nil, &DuplicateError{ID1: first, ID2: i}
		}
		seen[h] = i
	}
	p.tags = pedpop.Tags{ECDH: tagECDH, Self: tagSelfPad, Context: append(pedpop.Be4(t), p.joined...)}
	return p, nil
}

// Hash identifies the parameters.
func (p *Params) Hash() [32]byte { return tagParams.Hash(p.tags.Context) }

// Threshold returns how many participants a signature will take.
func (p *Params) Threshold() int { return p.t }

// HostPubKeys returns the participants' keys in a slice of the caller's own.
func (p *Params) HostPubKeys() []bip340.PubKey { return slices.Clone(p.hosts) }

// HostPoints returns the participants' keys decoded, in a slice of the caller's
// own.
func (p *Params) HostPoints() []bip340.Point { return slices.Clone(p.points) }

// ID returns the number of the participant with this host public key, or
// ErrHostKey.
func (p *Params) ID(host bip340.PubKey) (int, error) {
	if id := slices.Index(p.hosts, host); id >= 0 {
		return id, nil
	}
	return 0, fmt.Errorf("%w: not in this session", ErrHostKey)
}

func (p *Params) n() int { return len(p.hosts) }
