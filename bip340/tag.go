package bip340

import (
	"crypto/sha256"
	"hash"

	"github.com/btcsuite/btcd/btcec/v2"
)

// Tag is a BIP-340 tagged hash, SHA256(SHA256(tag) || SHA256(tag) || x), with
// the state after its 64-byte prefix kept. Make one with NewTag. It is immutable
// and safe for concurrent use.
type Tag struct {
	prefix [sha256.BlockSize]byte
	mid    hash.Cloner // nil where the hash cannot be cloned
}

// NewTag prepares the hash for tag.
func NewTag(tag string) Tag {
	var t Tag
	sum := sha256.Sum256([]byte(tag))
	copy(t.prefix[:], sum[:])
	copy(t.prefix[len(sum):], sum[:])
	if h, ok := sha256.New().(hash.Cloner); ok {
		h.Write(t.prefix[:])
		t.mid = h
	}
	return t
}

// Hash hashes the concatenation of parts, which must be public.
func (t Tag) Hash(parts ...[]byte) (sum [32]byte) {
	h := t.start()
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

func (t Tag) start() hash.Hash {
	if t.mid != nil {
		if h, err := t.mid.Clone(); err == nil {
			return h
		}
	}
	h := sha256.New()
	h.Write(t.prefix[:])
	return h
}

// scalar is Hash reduced modulo the group order.
func (t Tag) scalar(parts ...[]byte) *btcec.ModNScalar {
	sum := t.Hash(parts...)
	var s btcec.ModNScalar
	s.SetBytes(&sum)
	return &s
}

// HashSecret is Hash for parts that hold secrets; it leaves none of their bytes
// behind. The sum is the caller's to wipe.
func (t Tag) HashSecret(parts ...[]byte) [32]byte { return t.hashSecret(parts...) }

// hashSecret is Hash for parts that hold secrets. It trades the kept state for
// a buffer of its own, because a cloned digest would leave the parts' bytes in
// heap memory that nobody can wipe.
func (t Tag) hashSecret(parts ...[]byte) [32]byte {
	var fixed [512]byte
	n := len(t.prefix)
	for _, p := range parts {
		n += len(p)
	}
	buf := fixed[:0]
	if n > len(fixed) {
		buf = make([]byte, 0, n)
	}
	buf = append(buf, t.prefix[:]...)
	for _, p := range parts {
		buf = append(buf, p...)
	}
	sum := sha256.Sum256(buf)
	clear(buf)
	return sum
}

// The tags of BIP-340 and BIP-341 that this and the sister packages use.
var (
	tagAux       = NewTag("BIP0340/aux")
	tagNonce     = NewTag("BIP0340/nonce")
	tagChallenge = NewTag("BIP0340/challenge")
	tagTapTweak  = NewTag("TapTweak")
	tagTapLeaf   = NewTag("TapLeaf")
	tagTapBranch = NewTag("TapBranch")
)

// TaggedHash is the BIP-340 tagged hash of the concatenation of parts. Tags of
// BIP-340 and BIP-341 are kept prepared; for another tag in a hot path make a
// Tag once.
func TaggedHash(tag string, parts ...[]byte) [32]byte {
	switch tag {
	case "TapLeaf":
		return tagTapLeaf.Hash(parts...)
	case "TapBranch":
		return tagTapBranch.Hash(parts...)
	case "TapTweak":
		return tagTapTweak.Hash(parts...)
	case "BIP0340/challenge":
		return tagChallenge.Hash(parts...)
	}
	return NewTag(tag).Hash(parts...)
}
