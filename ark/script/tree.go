package script

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
)

const (
	// MaxLeaves bounds the leaves of a VTXO script; wallets use two to seven.
	MaxLeaves = 64
	// maxTapTree bounds an encoded leaf list in bytes.
	maxTapTree = 64 << 10
	// tapTreeDepth is written for every leaf, as the ts and rust SDKs do; every
	// reader ignores it.
	tapTreeDepth = 1

	leafVersion = byte(txscript.BaseLeafVersion)
)

// NUMS is the internal key of every VTXO script, with no known discrete
// logarithm (protocol section 3.2).
var NUMS = bip340.XOnly{
	0x50, 0x92, 0x9b, 0x74, 0xc1, 0xa0, 0x49, 0x54, 0xb7, 0x8b, 0x4b, 0x60, 0x35, 0xe9, 0x7a, 0x5e,
	0x07, 0x8a, 0x5a, 0x0f, 0x28, 0xec, 0x96, 0xd5, 0x47, 0xbf, 0xee, 0x9a, 0xce, 0x80, 0x3a, 0xc0,
}

// ErrTapTree is returned for a leaf list that cannot be a VTXO script.
var ErrTapTree = errors.New("script: invalid leaf list")

// Tree is a VTXO script: the list of its leaves, in order, under NUMS. The zero
// value has no leaves. A Tree is immutable.
type Tree struct {
	leaves [][]byte
	paths  [][]byte // inclusion proof of each leaf
	key    bip340.XOnly
	odd    byte
}

// NewTree assembles the leaves, one to MaxLeaves of up to MaxLeafScript bytes.
// The leaves need not be closures.
func NewTree(leaves [][]byte) (Tree, error) {
	if len(leaves) == 0 || len(leaves) > MaxLeaves {
		return Tree{}, fmt.Errorf("%w: %d leaves", ErrTapTree, len(leaves))
	}
	t := Tree{leaves: make([][]byte, len(leaves)), paths: make([][]byte, len(leaves))}
	for i, leaf := range leaves {
		if len(leaf) == 0 || len(leaf) > MaxLeafScript {
			return Tree{}, fmt.Errorf("%w: leaf %d of %d bytes", ErrTapTree, i, len(leaf))
		}
		t.leaves[i] = bytes.Clone(leaf)
	}
	root := t.assemble()
	var err error
	t.key, t.odd, err = bip340.OutputKey(NUMS, root[:])
	if err != nil {
		return Tree{}, fmt.Errorf("%w: %w", ErrTapTree, err)
	}
	return t, nil
}

// branch is a subtree during assembly: its hash and the leaves under it.
type branch struct {
	hash   chainhash.Hash
	leaves []int
}

// assemble pairs the leaves as protocol section 3.2 says, fills in the
// inclusion proofs and returns the root.
func (t Tree) assemble() chainhash.Hash {
	var queue []branch
	for i := 0; i < len(t.leaves); i += 2 {
		leaf := branch{LeafHash(t.leaves[i]), []int{i}}
		switch {
		case i+1 < len(t.leaves):
			queue = append(queue, t.join(leaf, branch{LeafHash(t.leaves[i+1]), []int{i + 1}}))
		case i == 0:
			queue = append(queue, leaf)
		default: // the odd last leaf becomes the sibling of the branch before it
			queue[len(queue)-1] = t.join(queue[len(queue)-1], leaf)
		}
	}
	for len(queue) > 1 {
		queue = append(queue[2:], t.join(queue[0], queue[1]))
	}
	return queue[0].hash
}

// join makes the branch of l and r and extends the proofs of both sides.
func (t Tree) join(l, r branch) branch {
	for _, i := range l.leaves {
		t.paths[i] = append(t.paths[i], r.hash[:]...)
	}
	for _, i := range r.leaves {
		t.paths[i] = append(t.paths[i], l.hash[:]...)
	}
	first, second := l.hash, r.hash
	if bytes.Compare(first[:], second[:]) > 0 {
		first, second = second, first
	}
	return branch{
		hash:   *chainhash.TaggedHash(chainhash.TagTapBranch, first[:], second[:]),
		leaves: append(append([]int(nil), l.leaves...), r.leaves...),
	}
}

// ParseTapTree reads the leaf list of a taptree field. Depths are ignored, as
// every implementation does; another leaf version than c0 is an error, as its
// key would not be the one that the operator computes.
func ParseTapTree(field []byte) (Tree, error) {
	if len(field) > maxTapTree {
		return Tree{}, fmt.Errorf("%w: %d bytes", ErrTapTree, len(field))
	}
	var leaves [][]byte
	for rest := field; len(rest) > 0; {
		if len(rest) < 3 || rest[1] != leafVersion {
			return Tree{}, fmt.Errorf("%w: leaf %d", ErrTapTree, len(leaves))
		}
		n, size, ok := compactSize(rest[2:])
		if !ok || n > uint64(len(rest)-2-size) {
			return Tree{}, fmt.Errorf("%w: length of leaf %d", ErrTapTree, len(leaves))
		}
		rest = rest[2+size:]
		leaves = append(leaves, rest[:n])
		rest = rest[n:]
		if len(leaves) > MaxLeaves {
			return Tree{}, fmt.Errorf("%w: more than %d leaves", ErrTapTree, MaxLeaves)
		}
	}
	return NewTree(leaves)
}

// TapTreeField encodes the leaf list for a taptree field.
func (t Tree) TapTreeField() []byte {
	var b []byte
	for _, leaf := range t.leaves {
		b = append(b, tapTreeDepth, leafVersion)
		b = appendCompactSize(b, uint64(len(leaf)))
		b = append(b, leaf...)
	}
	return b
}

// Leaves are the leaf scripts in order. The caller must not change them.
func (t Tree) Leaves() [][]byte { return t.leaves }

// Len is the number of leaves.
func (t Tree) Len() int { return len(t.leaves) }

// OutputKey is the taproot output key.
func (t Tree) OutputKey() bip340.XOnly { return t.key }

// PkScript is the P2TR script of the VTXO.
func (t Tree) PkScript() []byte { return ark.PayToTaproot(t.key) }

// LeafProof returns leaf i and the control block that proves it; nil for an
// index that the tree does not have.
func (t Tree) LeafProof(i int) (script, controlBlock []byte) {
	if i < 0 || i >= len(t.leaves) {
		return nil, nil
	}
	cb := append([]byte{leafVersion | t.odd}, NUMS[:]...)
	return t.leaves[i], append(cb, t.paths[i]...)
}

// Index is the index of the leaf with that script, or -1.
func (t Tree) Index(leaf []byte) int {
	for i, l := range t.leaves {
		if bytes.Equal(l, leaf) {
			return i
		}
	}
	return -1
}

// Closures decodes every leaf, or says which one is no closure.
func (t Tree) Closures() ([]Closure, error) {
	cs := make([]Closure, len(t.leaves))
	for i, leaf := range t.leaves {
		c, err := Decode(leaf)
		if err != nil {
			return nil, fmt.Errorf("leaf %d: %w", i, err)
		}
		cs[i] = c
	}
	return cs, nil
}

// VerifyLeaf checks that script and controlBlock lead from NUMS to the output
// key of pkScript, parity bit included.
func VerifyLeaf(pkScript, script, controlBlock []byte) error {
	key, ok := ark.TaprootKey(pkScript)
	if !ok {
		return fmt.Errorf("%w: not a taproot output", ErrTapTree)
	}
	cb, err := txscript.ParseControlBlock(controlBlock)
	if err != nil {
		return fmt.Errorf("%w: control block: %w", ErrTapTree, err)
	}
	if controlBlock[0]&^1 != leafVersion || !bytes.Equal(controlBlock[1:33], NUMS[:]) {
		return fmt.Errorf("%w: control block of another internal key or version", ErrTapTree)
	}
	got, odd, err := bip340.OutputKey(NUMS, cb.RootHash(script))
	if err != nil || got != key || odd != controlBlock[0]&1 {
		return fmt.Errorf("%w: control block does not lead to the output key", ErrTapTree)
	}
	return nil
}

// compactSize reads a minimal compact size and its own length.
func compactSize(b []byte) (n uint64, size int, ok bool) {
	if len(b) == 0 {
		return 0, 0, false
	}
	var least uint64
	switch b[0] {
	case 0xfd:
		size, least = 3, 0xfd
	case 0xfe:
		size, least = 5, 1<<16
	case 0xff:
		size, least = 9, 1<<32
	default:
		return uint64(b[0]), 1, true
	}
	if len(b) < size {
		return 0, 0, false
	}
	for i, v := range b[1:size] {
		n |= uint64(v) << (8 * i)
	}
	return n, size, n >= least
}

// appendCompactSize appends n as a compact size.
func appendCompactSize(b []byte, n uint64) []byte {
	var buf bytes.Buffer
	// A bytes.Buffer never fails.
	_ = wire.WriteVarInt(&buf, 0, n)
	return append(b, buf.Bytes()...)
}
