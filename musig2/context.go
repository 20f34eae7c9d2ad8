// Package musig2 owns BIP-327 multi-signatures, with everything that depends
// only on the cosigners computed once and kept. It knows the curve core and the
// secret type, and nothing of Ark, storage or transport.
package musig2

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
)

var (
	tagKeyAggList  = bip340.NewTag("KeyAgg list")
	tagKeyAggCoeff = bip340.NewTag("KeyAgg coefficient")
	tagAux         = bip340.NewTag("MuSig/aux")
	tagNonce       = bip340.NewTag("MuSig/nonce")
	tagNonceCoef   = bip340.NewTag("MuSig/noncecoef")
)

// Errors of this package, matched with errors.Is. A fault that can be laid at a
// signer's door is a *ContributionError instead.
var (
	// ErrNoKeys says that a cosigner set is empty.
	ErrNoKeys = errors.New("musig2: no cosigner keys")
	// ErrNotCosigner says that a key is not among the cosigners.
	ErrNotCosigner = errors.New("musig2: key is not a cosigner")
	// ErrPartialSig says that a partial signature does not verify.
	ErrPartialSig = errors.New("musig2: partial signature does not verify")
)

// ContributionError blames one contribution to a session.
type ContributionError struct {
	Signer  int    // index in the list that was passed in; -1: nobody in particular
	Contrib string // "pubkey", "pubnonce", "aggnonce", "psig", in the words of BIP-327
	Err     error
}

func (e *ContributionError) Error() string {
	if e.Signer < 0 {
		return fmt.Sprintf("musig2: invalid %s: %v", e.Contrib, e.Err)
	}
	return fmt.Sprintf("musig2: invalid %s of signer %d: %v", e.Contrib, e.Signer, e.Err)
}

func (e *ContributionError) Unwrap() error { return e.Err }

// Context is the key aggregation of one cosigner set under its tweak. It holds
// about 200 bytes per cosigner. It is immutable and safe for concurrent use.
type Context struct {
	keys     []bip340.PubKey // sorted, unless a test made it otherwise
	cosigner map[bip340.PubKey]cosigner
	internal bip340.PubKey // before the tweak
	tweak    bip340.TweakContext
	output   bip340.XOnly
}

type cosigner struct {
	point bip340.Point
	coeff btcec.ModNScalar
}

// NewContext aggregates keys, sorted as BIP-327 KeySort does; keys itself is not
// changed. Keys may occur more than once. With one distinct key the aggregate is
// that key, without a coefficient, as Ark has it (protocol section 5.4). Errors
// are ErrNoKeys and *ContributionError.
func NewContext(keys []bip340.PubKey) (*Context, error) {
	points, err := decodeKeys(keys)
	if err != nil {
		return nil, err
	}
	if len(points) == 1 {
		return single(keys[0], points)
	}
	return aggregate(sorted(keys), points)
}

// NewTaprootContext is NewContext with the aggregate key tweaked as the internal
// key of a Taproot output whose script tree has the given root. A nil root is a
// BIP-341 output that commits to no script, which differs from no tweak at all.
func NewTaprootContext(keys []bip340.PubKey, root []byte) (*Context, error) {
	c, err := NewContext(keys)
	if err != nil {
		return nil, err
	}
	t, err := c.tweak.ApplyTapTweak(root)
	if err != nil {
		return nil, fmt.Errorf("musig2: taproot tweak: %w", err)
	}
	c.setTweak(t)
	return c, nil
}

func sorted(keys []bip340.PubKey) []bip340.PubKey {
	s := slices.Clone(keys)
	slices.SortFunc(s, func(a, b bip340.PubKey) int { return bytes.Compare(a[:], b[:]) })
	return s
}

func decodeKeys(keys []bip340.PubKey) (map[bip340.PubKey]cosigner, error) {
	if len(keys) == 0 {
		return nil, ErrNoKeys
	}
	points := make(map[bip340.PubKey]cosigner, len(keys))
	for i, k := range keys {
		if _, ok := points[k]; ok {
			continue
		}
		p, err := k.Point()
		if err != nil {
			return nil, &ContributionError{Signer: i, Contrib: "pubkey", Err: err}
		}
		points[k] = cosigner{point: p}
	}
	return points, nil
}

// single is the context of one distinct key, however often it was named.
func single(key bip340.PubKey, set map[bip340.PubKey]cosigner) (*Context, error) {
	s := set[key]
	s.coeff.SetInt(1)
	set[key] = s
	return newContext([]bip340.PubKey{key}, set, s.point)
}

// aggregate is KeyAgg of BIP-327 over keys in the order given. It keeps keys and
// fills in the coefficients of set.
func aggregate(keys []bip340.PubKey, set map[bip340.PubKey]cosigner) (*Context, error) {
	var one btcec.ModNScalar
	one.SetInt(1)
	parts := make([][]byte, len(keys))
	for i := range keys {
		parts[i] = keys[i][:]
	}
	list := tagKeyAggList.Hash(parts...)
	// GetSecondKey: the first key that differs from the first one, if any.
	var second bip340.PubKey
	if i := slices.IndexFunc(keys, func(k bip340.PubKey) bool { return k != keys[0] }); i >= 0 {
		second = keys[i]
	}
	for k, s := range set {
		if k == second {
			s.coeff = one
		} else {
			h := tagKeyAggCoeff.Hash(list[:], k[:])
			s.coeff.SetBytes(&h)
		}
		set[k] = s
	}
	var sum bip340.Sum
	coeffs, points := make([]btcec.ModNScalar, 0, len(keys)), make([]bip340.Point, 0, len(keys))
	for _, k := range keys {
		s := set[k]
		if k == second {
			sum.Add(s.point)
			continue
		}
		coeffs, points = append(coeffs, s.coeff), append(points, s.point)
	}
	sum.AddMuls(coeffs, points)
	return newContext(keys, set, sum.Point())
}

func newContext(keys []bip340.PubKey, set map[bip340.PubKey]cosigner, q bip340.Point) (*Context, error) {
	t, err := bip340.NewTweakContext(q)
	if err != nil {
		return nil, fmt.Errorf("musig2: aggregate key: %w", err)
	}
	c := &Context{keys: keys, cosigner: set, internal: q.PubKey()}
	c.setTweak(t)
	return c, nil
}

// setTweak is for constructors, before c is shared.
func (c *Context) setTweak(t bip340.TweakContext) {
	c.tweak = t
	c.output = t.Q().XOnly()
}

// OutputKey returns the x-only aggregate key after the tweak: the key that final
// signatures verify under.
func (c *Context) OutputKey() bip340.XOnly { return c.output }

// OutputPubKey is OutputKey with its parity, as a control block wants it.
func (c *Context) OutputPubKey() bip340.PubKey { return c.tweak.Q().PubKey() }

// InternalKey returns the aggregate key before the tweak.
func (c *Context) InternalKey() bip340.PubKey { return c.internal }

// Keys returns the cosigners' keys, sorted, in a slice of the caller's own.
func (c *Context) Keys() []bip340.PubKey { return slices.Clone(c.keys) }
