// Package treetest builds whole trees of transactions as an operator does, for
// the tests of those who check them. It must not know of events or I/O, and
// nothing but tests may import it.
package treetest

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
)

// The radixes of the two trees of a batch (protocol section 5.4).
const (
	VTXORadix      = 2
	ConnectorRadix = 4
)

// Leaf is what a leaf of the tree pays, and who signs for it.
type Leaf struct {
	Outputs   []*wire.TxOut
	Cosigners []bip340.PubKey
}

// Spec says how nodes are locked.
type Spec struct {
	Radix int
	// Sweep is the leaf that tweaks every node's key; nil in a connector tree.
	Sweep    []byte
	Expiry   ark.Delay // 0 in a connector tree
	Contexts *musig2.Cache
}

// Node is one transaction of the tree.
type Node struct {
	Tx        *wire.MsgTx
	Cosigners []bip340.PubKey
	Children  []*Node
	Leaf      int // index of the leaf, -1 in a branch

	spec   Spec
	leaf   Leaf
	script []byte
}

// Plan groups the leaves into a tree whose root has no input yet: Out is the
// output that Root has to spend. The last n mod radix nodes of each level rise
// unchanged; with fewer nodes than the radix all become one group.
func Plan(leaves []Leaf, spec Spec) (*Node, error) {
	level := make([]*Node, len(leaves))
	for i, l := range leaves {
		n := &Node{spec: spec, leaf: l, Leaf: i, Cosigners: distinct(l.Cosigners)}
		if err := n.lock(); err != nil {
			return nil, err
		}
		level[i] = n
	}
	for len(level) > 1 {
		radix := min(spec.Radix, len(level))
		whole := len(level) - len(level)%radix
		var next []*Node
		for i := 0; i < whole; i += radix {
			n := &Node{spec: spec, Leaf: -1, Children: level[i : i+radix]}
			for _, c := range n.Children {
				n.Cosigners = append(n.Cosigners, c.Cosigners...)
			}
			n.Cosigners = distinct(n.Cosigners)
			if err := n.lock(); err != nil {
				return nil, err
			}
			next = append(next, n)
		}
		level = append(next, level[whole:]...)
	}
	return level[0], nil
}

// distinct keeps the first of keys with the same x coordinate.
func distinct(keys []bip340.PubKey) (kept []bip340.PubKey) {
	seen := make(map[bip340.XOnly]bool, len(keys))
	for _, k := range keys {
		if !seen[k.XOnly()] {
			seen[k.XOnly()] = true
			kept = append(kept, k)
		}
	}
	return kept
}

// lock makes the script of the output that n spends, and sorts the cosigners as
// the operator's aggregation does in passing.
func (n *Node) lock() error {
	slices.SortFunc(n.Cosigners, func(a, b bip340.PubKey) int { return slices.Compare(a[:], b[:]) })
	if n.spec.Sweep == nil {
		n.script = ark.PayToTaproot(n.Cosigners[0].XOnly())
		return nil
	}
	ctx, err := n.Context()
	if err != nil {
		return fmt.Errorf("plan tree: %w", err)
	}
	n.script = ark.PayToTaproot(ctx.OutputKey())
	return nil
}

// Context is the key context of the node.
func (n *Node) Context() (*musig2.Context, error) {
	root := script.LeafHash(n.spec.Sweep)
	return n.spec.Contexts.Context(n.Cosigners, root[:])
}

// Out is the output that the node spends.
func (n *Node) Out() *wire.TxOut { return wire.NewTxOut(n.total(), n.script) }

func (n *Node) total() (sats int64) {
	for _, c := range n.Children {
		sats += c.total()
	}
	for _, o := range n.leaf.Outputs {
		sats += o.Value
	}
	return sats
}

// Hang makes the transactions of the tree, with the root on the given outpoint.
func (n *Node) Hang(on wire.OutPoint) {
	n.Tx = wire.NewMsgTx(3)
	n.Tx.AddTxIn(wire.NewTxIn(&on, nil, nil))
	for _, o := range n.leaf.Outputs {
		n.Tx.AddTxOut(o)
	}
	for _, c := range n.Children {
		n.Tx.AddTxOut(c.Out())
	}
	n.Tx.AddTxOut(ark.AnchorOut())
	txid := n.Tx.TxHash()
	for i, c := range n.Children {
		c.Hang(wire.OutPoint{Hash: txid, Index: uint32(i)})
	}
}

// Nodes are all nodes under n, n first, every parent before its children.
func (n *Node) Nodes() []*Node {
	nodes := []*Node{n}
	for _, c := range n.Children {
		nodes = append(nodes, c.Nodes()...)
	}
	return nodes
}

// Leaves are the leaves under n, in the order of the tree.
func (n *Node) Leaves() (leaves []*Node) {
	for _, m := range n.Nodes() {
		if m.Leaf >= 0 {
			leaves = append(leaves, m)
		}
	}
	return leaves
}

// Txid is the node's transaction id.
func (n *Node) Txid() chainhash.Hash { return n.Tx.TxHash() }

// ChildIDs are the children as the operator's events name them.
func (n *Node) ChildIDs() map[uint32]string {
	ids := make(map[uint32]string, len(n.Children))
	for i, c := range n.Children {
		ids[uint32(i)] = c.Txid().String()
	}
	return ids
}

// PSBT is the node as the operator's events carry it.
func (n *Node) PSBT() (string, error) {
	p, err := psbt.NewFromUnsignedTx(n.Tx)
	if err != nil {
		return "", fmt.Errorf("encode node: %w", err)
	}
	script.SetCosigners(&p.Inputs[0], n.Cosigners)
	if n.spec.Expiry != 0 {
		script.SetExpiry(&p.Inputs[0], n.spec.Expiry)
	}
	return p.B64Encode()
}
