package tree

import (
	"bytes"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
)

// Connectors is the part of a connector tree that one participant sees.
// Everything in it has been checked.
type Connectors struct{ tree *Tree }

// AssembleConnectors puts the received nodes of a connector tree together under
// root, an output of the commitment transaction, and checks the whole (protocol
// section 5.6): every child spends its parent's output, which has its value;
// one key, that of root's script, untweaked, locks every output and is the only
// cosigner of every node; leaves are one output and the anchor. The error is an
// *Error.
func AssembleConnectors(nodes []*Node, root wire.OutPoint, out *wire.TxOut) (*Connectors, error) {
	key, ok := ark.TaprootKey(out.PkScript)
	if !ok {
		return nil, broken(RuleConnectors, chainhash.Hash{}, "root script %x is no taproot output", out.PkScript)
	}
	t := &Tree{placed: make(map[chainhash.Hash]*Placed, len(nodes))}
	byID := make(map[chainhash.Hash]*Node, len(nodes))
	for _, n := range nodes {
		if o, ok := byID[n.Txid]; ok && !o.Same(n) {
			return nil, broken(RuleConflict, n.Txid, "two versions")
		}
		byID[n.Txid] = n
	}
	first, err := findRoot(byID, root, out)
	if err != nil {
		return nil, err
	}
	t.root = &Placed{Node: first, Prevout: out}
	if err := t.place(t.root, byID); err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if t.placed[n.Txid] == nil {
			return nil, absent(RuleLink, n.Txid, "its parent %v is not in the tree", n.Input().Hash)
		}
		if n.Expiry != 0 {
			return nil, broken(RuleExpiry, n.Txid, "a connector node with expiry %v", n.Expiry)
		}
		if len(n.Cosigners) != 1 || n.Cosigners[0].XOnly() != key {
			return nil, broken(RuleConnectors, n.Txid, "cosigners %v, not %v", n.Cosigners, key)
		}
		if n.Leaf() && len(n.Outputs()) != 1 {
			return nil, broken(RuleConnector, n.Txid, "%d connectors", len(n.Outputs()))
		}
		for i, o := range n.Outputs() {
			if !bytes.Equal(o.PkScript, out.PkScript) {
				return nil, broken(RuleConnectors, n.Txid, "output %d pays %x", i, o.PkScript)
			}
		}
	}
	return &Connectors{t}, nil
}

// Nodes are all nodes, root first, every parent before its children.
func (c *Connectors) Nodes() []*Placed { return c.tree.order }
