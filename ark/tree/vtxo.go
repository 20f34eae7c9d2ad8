package tree

import (
	"bytes"
	"errors"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/internal/spread"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
)

// BatchOutput and ConnectorOutput are the indexes of the outputs of a
// commitment transaction under which its two trees hang.
const (
	BatchOutput     = 0
	ConnectorOutput = 1
)

// Params are what a VTXO tree is held against.
type Params struct {
	// Root is the outpoint that the tree hangs from, RootOut the output there.
	Root    wire.OutPoint
	RootOut *wire.TxOut
	// ForfeitKey and Expiry make the sweep leaf that tweaks every node's key.
	ForfeitKey bip340.XOnly
	Expiry     ark.Delay
	// Own says whether a cosigner key is one of ours.
	Own func(bip340.XOnly) bool
	// Contexts computes and keeps the nodes' keys.
	Contexts *musig2.Cache
}

// Tree is the part of a VTXO tree that one participant sees: the nodes that
// carry its keys. Everything in it has been checked.
type Tree struct {
	root   *Placed
	placed map[chainhash.Hash]*Placed
	order  []*Placed
}

// Placed is a node in its place.
type Placed struct {
	*Node
	Parent  *Placed     // nil for the root
	Prevout *wire.TxOut // the output that the node spends
	Context *musig2.Context
	Sighash [32]byte // key path, SIGHASH_DEFAULT
}

// Assemble puts nodes together under p.Root and checks the whole (protocol
// section 5.4): one root; every child spends its parent's output, which has its
// value and the key of its cosigners under the sweep leaf; branches have
// exactly their children's cosigners as far as these are known; and along every
// of our keys the nodes go down to a leaf. Nodes that carry no key of ours are
// welcome too. The error is an *Error.
//
// Siblings that were not received stay opaque: no more than their value and
// script in the parent is known of them.
func Assemble(nodes []*Node, p Params) (*Tree, error) {
	t := &Tree{placed: make(map[chainhash.Hash]*Placed, len(nodes))}
	byID := make(map[chainhash.Hash]*Node, len(nodes))
	for _, n := range nodes {
		if o, ok := byID[n.Txid]; ok && !o.Same(n) {
			return nil, broken(RuleConflict, n.Txid, "two versions")
		}
		byID[n.Txid] = n
	}
	root, err := findRoot(byID, p.Root, p.RootOut)
	if err != nil {
		return nil, err
	}
	t.root = &Placed{Node: root, Prevout: p.RootOut}
	if err := t.place(t.root, byID); err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if t.placed[n.Txid] == nil {
			return nil, absent(RuleLink, n.Txid, "its parent %v is not in the tree", n.Input().Hash)
		}
	}
	// Everything cheap first: keys cost 100,000 times as much.
	for _, n := range t.order {
		if err := t.checkCosigners(n, p.Own); err != nil {
			return nil, err
		}
	}
	sweep := script.LeafHash(script.SweepLeaf(p.ForfeitKey, p.Expiry))
	for _, n := range t.order {
		if n.Expiry != p.Expiry {
			return nil, broken(RuleExpiry, n.Txid, "expiry %v, announced %v", n.Expiry, p.Expiry)
		}
	}
	err = spread.Over(len(t.order), func(i int) error { return t.order[i].lock(p.Contexts, sweep[:]) })
	if err != nil {
		return nil, err
	}
	return t, nil
}

// findRoot finds the only node that spends at, and holds its value against out.
func findRoot(nodes map[chainhash.Hash]*Node, at wire.OutPoint, out *wire.TxOut) (*Node, error) {
	var root *Node
	for _, n := range nodes {
		if n.Input() != at {
			continue
		}
		if root != nil {
			return nil, broken(RuleRoot, n.Txid, "a second root beside %v", root.Txid)
		}
		root = n
	}
	if root == nil {
		return nil, absent(RuleRoot, chainhash.Hash{}, "no node of %d spends %v", len(nodes), at)
	}
	if root.Total() != out.Value {
		return nil, broken(RuleAmount, root.Txid, "pays %d of %d sats", root.Total(), out.Value)
	}
	return root, nil
}

// place puts n and everything under it into the tree. A node commits to its
// parent by txid, so there are no cycles, and the depth is bounded by the
// number of nodes.
func (t *Tree) place(n *Placed, nodes map[chainhash.Hash]*Node) error {
	stack := []*Placed{n}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		t.placed[n.Txid] = n
		t.order = append(t.order, n)
		for i := len(n.Children) - 1; i >= 0; i-- { // pre-order: the first child is popped first
			child, ok := nodes[n.Children[uint32(i)]]
			if !ok {
				continue
			}
			if child.Input() != (wire.OutPoint{Hash: n.Txid, Index: uint32(i)}) {
				return broken(RuleLink, child.Txid, "spends %v, not %v:%d", child.Input(), n.Txid, i)
			}
			out := n.Tx.TxOut[i]
			if child.Total() != out.Value {
				return broken(RuleAmount, child.Txid, "pays %d of %d sats", child.Total(), out.Value)
			}
			stack = append(stack, &Placed{Node: child, Parent: n, Prevout: out})
		}
	}
	return nil
}

// checkCosigners holds a branch against the children that are known.
func (t *Tree) checkCosigners(n *Placed, own func(bip340.XOnly) bool) error {
	if n.Leaf() {
		return nil
	}
	below := make(map[bip340.XOnly]bool, len(n.Cosigners))
	known := 0
	for _, txid := range n.Children {
		child := t.placed[txid]
		if child == nil {
			continue
		}
		known++
		for _, k := range child.Cosigners {
			if _, ok := n.Has(k.XOnly()); !ok {
				return broken(RuleUnion, n.Txid, "lacks %v of child %v", k, txid)
			}
			below[k.XOnly()] = true
		}
	}
	for _, k := range n.Cosigners {
		switch x := k.XOnly(); {
		case below[x]:
		case known == len(n.Children):
			return broken(RuleUnion, n.Txid, "%v is in no child", k)
		case own(x):
			return absent(RuleMissing, n.Txid, "no child with %v", k)
		}
	}
	return nil
}

// lock checks that the output which n spends is locked by n's cosigners, and
// computes n's sighash.
func (n *Placed) lock(contexts *musig2.Cache, sweep []byte) error {
	ctx, err := contexts.Context(n.Cosigners, sweep)
	if err != nil {
		return broken(RuleScript, n.Txid, "%w", err)
	}
	if !bytes.Equal(n.Prevout.PkScript, ark.PayToTaproot(ctx.OutputKey())) {
		return broken(RuleScript, n.Txid, "spends %x, cosigners make %v", n.Prevout.PkScript, ctx.OutputKey())
	}
	h, err := script.NewSighasher(n.Tx, []*wire.TxOut{n.Prevout})
	if err != nil {
		return broken(RuleEncoding, n.Txid, "%w", err)
	}
	n.Context = ctx
	n.Sighash, err = h.KeyPath(0, txscript.SigHashDefault)
	if err != nil {
		return broken(RuleEncoding, n.Txid, "%w", err)
	}
	return nil
}

// Verify checks the final signature of the node.
func (n *Placed) Verify(sig [64]byte) error {
	if !bip340.Verify(n.Context.OutputKey(), n.Sighash[:], sig) {
		return &Error{Rule: RuleSignature, Txid: n.Txid, Err: errSignature}
	}
	return nil
}

var errSignature = errors.New("does not verify")

// Nodes are all nodes, root first, every parent before its children, children
// in output order.
func (t *Tree) Nodes() []*Placed { return t.order }

// Node finds a node by its txid; nil when it is not in the tree.
func (t *Tree) Node(txid chainhash.Hash) *Placed { return t.placed[txid] }

// Branch is the way from the root to n, both included.
func (n *Placed) Branch() []*Placed {
	if n.Parent == nil {
		return []*Placed{n}
	}
	return append(n.Parent.Branch(), n)
}
