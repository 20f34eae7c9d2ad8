// Package txtree owns the test operator's transaction trees: how leaves become
// a tree of transactions, and how the tree is signed with btcec's MuSig2. It
// must know nothing of Vigil's ark packages.
package txtree

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
)

// Radix of the two trees (protocol section 5.4).
const (
	VTXORadix      = 2
	ConnectorRadix = 4
)

// Errors of tree building.
var (
	ErrNoLeaves    = errors.New("txtree: no leaves")
	ErrNoCosigners = errors.New("txtree: a leaf without cosigners")
)

// AnchorScript is the pay-to-anchor script that ends every transaction.
func AnchorScript() []byte { return []byte{txscript.OP_1, txscript.OP_DATA_2, 0x4e, 0x73} }

// Anchor is the pay-to-anchor output.
func Anchor() *wire.TxOut { return &wire.TxOut{PkScript: AnchorScript()} }

// Leaf is one leaf to build: its outputs without the anchor, and its
// cosigners in the intent's order, the operator's last.
type Leaf struct {
	Outputs   []*wire.TxOut
	Cosigners []*btcec.PublicKey
}

// KeySet is a sorted cosigner set with what MuSig2 derives from it.
type KeySet struct {
	Keys   []*btcec.PublicKey // sorted by compressed bytes
	Final  *btcec.PublicKey   // output key, tweaked when there is a script root
	Script []byte             // P2TR of Final

	tweak    *btcec.ModNScalar
	internal *btcec.PublicKey // before the sweep tweak
}

// Plan is a tree before its root's outpoint is known.
type Plan struct {
	Amount   int64 // satoshis that the node's input carries
	Set      *KeySet
	Outputs  []*wire.TxOut // of a leaf, without the anchor
	Children []*Plan

	// Extra outputs, and a change to the finished transaction, are for lies.
	Extra []*wire.TxOut
	Warp  func(*wire.MsgTx)
}

// Leaves lists the plan's leaves from left to right, the order of the intents.
func (p *Plan) Leaves() (out []*Plan) {
	if len(p.Children) == 0 {
		return []*Plan{p}
	}
	for _, c := range p.Children {
		out = append(out, c.Leaves()...)
	}
	return out
}

// Parent returns the plan that has child, nil for the root.
func (p *Plan) Parent(child *Plan) *Plan {
	for _, c := range p.Children {
		if c == child {
			return p
		}
		if found := c.Parent(child); found != nil {
			return found
		}
	}
	return nil
}

// aggregator caches key sets: the same set stands in many nodes.
type aggregator struct {
	root []byte // sweep tapscript root, nil for connectors
	sets map[string]*KeySet
}

func (a *aggregator) set(keys []*btcec.PublicKey) (*KeySet, error) {
	keys = unique(keys)
	if len(keys) == 0 {
		return nil, ErrNoCosigners
	}
	slices.SortFunc(keys, func(x, y *btcec.PublicKey) int {
		return bytes.Compare(x.SerializeCompressed(), y.SerializeCompressed())
	})
	var id []byte
	for _, k := range keys {
		id = append(id, k.SerializeCompressed()...)
	}
	if s, ok := a.sets[string(id)]; ok {
		return s, nil
	}
	s := &KeySet{Keys: keys, internal: keys[0]}
	switch {
	case len(keys) == 1 && len(a.root) == 0:
		s.Final = keys[0]
	case len(keys) == 1:
		s.Final = txscript.ComputeTaprootOutputKey(keys[0], a.root)
	default:
		var opts []musig2.KeyAggOption
		if len(a.root) > 0 {
			opts = append(opts, musig2.WithTaprootKeyTweak(a.root))
		}
		agg, _, tweak, err := musig2.AggregateKeys(slices.Clone(keys), true, opts...)
		if err != nil {
			return nil, fmt.Errorf("aggregating keys: %w", err)
		}
		s.Final, s.tweak, s.internal = agg.FinalKey, tweak, agg.PreTweakedKey
	}
	s.Script = tapscript.P2TR(s.Final)
	a.sets[string(id)] = s
	return s, nil
}

// unique drops later keys with an x coordinate already seen; it copies.
func unique(keys []*btcec.PublicKey) []*btcec.PublicKey {
	seen := make(map[[32]byte]bool, len(keys))
	out := make([]*btcec.PublicKey, 0, len(keys))
	for _, k := range keys {
		if x := tapscript.XOnly(k); !seen[x] {
			seen[x] = true
			out = append(out, k)
		}
	}
	return out
}

// NewPlan shapes the tree over leaves (protocol section 5.4). root is the
// sweep leaf's hash, nil for a connector tree.
func NewPlan(leaves []Leaf, radix int, root []byte) (*Plan, error) {
	if len(leaves) == 0 {
		return nil, ErrNoLeaves
	}
	agg := &aggregator{root: root, sets: map[string]*KeySet{}}
	nodes := make([]*Plan, len(leaves))
	for i, l := range leaves {
		set, err := agg.set(l.Cosigners)
		if err != nil {
			return nil, err
		}
		p := &Plan{Set: set, Outputs: l.Outputs}
		for _, o := range l.Outputs {
			p.Amount += o.Value
		}
		nodes[i] = p
	}
	for len(nodes) > 1 {
		var err error
		if nodes, err = upper(agg, nodes, radix); err != nil {
			return nil, err
		}
	}
	return nodes[0], nil
}

// upper groups one level: complete groups become branches, the rest moves up
// unchanged.
func upper(agg *aggregator, nodes []*Plan, radix int) ([]*Plan, error) {
	radix = min(radix, len(nodes))
	rest := len(nodes) % radix
	whole := len(nodes) - rest
	var out []*Plan
	for i := 0; i < whole; i += radix {
		group := nodes[i : i+radix]
		b := &Plan{Children: group}
		var keys []*btcec.PublicKey
		for _, c := range group {
			b.Amount += c.Amount
			keys = append(keys, c.Set.Keys...)
		}
		var err error
		if b.Set, err = agg.set(keys); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return append(out, nodes[whole:]...), nil
}

// Node is one transaction of a built tree.
type Node struct {
	Tx       *wire.MsgTx
	Txid     chainhash.Hash
	Set      *KeySet
	Prevout  *wire.TxOut // the output that the node spends
	Children []*Node     // by output index; empty for a leaf
	Packet   *psbt.Packet
	Sig      []byte // final signature, once there
}

// Build makes the tree's transactions. prevout is the output at root; expiry
// is nil for a connector tree.
func (p *Plan) Build(root wire.OutPoint, prevout *wire.TxOut, expiry *tapscript.Delay) (*Node, error) {
	tx := wire.NewMsgTx(3)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: root, Sequence: wire.MaxTxInSequenceNum})
	for _, o := range p.Outputs {
		tx.AddTxOut(o)
	}
	for _, c := range p.Children {
		tx.AddTxOut(&wire.TxOut{Value: c.Amount, PkScript: c.Set.Script})
	}
	for _, o := range p.Extra {
		tx.AddTxOut(o)
	}
	tx.AddTxOut(Anchor())
	if p.Warp != nil {
		p.Warp(tx)
	}
	n := &Node{Tx: tx, Txid: tx.TxHash(), Set: p.Set, Prevout: prevout}
	var err error
	if n.Packet, err = nodePacket(tx, p.Set.Keys, expiry); err != nil {
		return nil, err
	}
	for i, c := range p.Children {
		child, err := c.Build(wire.OutPoint{Hash: n.Txid, Index: uint32(i)}, tx.TxOut[i], expiry)
		if err != nil {
			return nil, err
		}
		n.Children = append(n.Children, child)
	}
	return n, nil
}

func nodePacket(tx *wire.MsgTx, cosigners []*btcec.PublicKey, expiry *tapscript.Delay) (*psbt.Packet, error) {
	p, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		return nil, fmt.Errorf("node transaction: %w", err)
	}
	for i, k := range cosigners {
		tapscript.AddCosigner(&p.Inputs[0], i, k)
	}
	if expiry != nil {
		tapscript.AddExpiry(&p.Inputs[0], *expiry)
	}
	return p, nil
}

// Repack makes the node's PSBT anew with fields that lie.
func (n *Node) Repack(cosigners []*btcec.PublicKey, expiry *tapscript.Delay) error {
	p, err := nodePacket(n.Tx, cosigners, expiry)
	if err != nil {
		return err
	}
	n.Packet = p
	return nil
}

// Walk visits the tree root first.
func (n *Node) Walk(f func(*Node)) {
	f(n)
	for _, c := range n.Children {
		c.Walk(f)
	}
}

// Nodes lists the tree root first.
func (n *Node) Nodes() (out []*Node) {
	n.Walk(func(m *Node) { out = append(out, m) })
	return out
}

// Leaves lists the leaves from left to right.
func (n *Node) Leaves() (out []*Node) {
	n.Walk(func(m *Node) {
		if len(m.Children) == 0 {
			out = append(out, m)
		}
	})
	return out
}

// ChildIDs maps output indexes to child txids.
func (n *Node) ChildIDs() map[uint32]string {
	m := make(map[uint32]string, len(n.Children))
	for i, c := range n.Children {
		m[uint32(i)] = c.Txid.String()
	}
	return m
}

// SweepLeaf is the script by which the operator takes an expired output back.
func SweepLeaf(forfeit *btcec.PublicKey, expiry tapscript.Delay) ([]byte, error) {
	return tapscript.Closure{
		Kind: tapscript.CSVMultisig, Keys: [][32]byte{tapscript.XOnly(forfeit)}, Delay: expiry,
	}.Script()
}

// WithScript is the set with another output script: a lie.
func (s *KeySet) WithScript(script []byte) *KeySet {
	c := *s
	c.Script = script
	return &c
}

// Internal is the aggregate key before the sweep tweak.
func (s *KeySet) Internal() *btcec.PublicKey { return s.internal }

// WalkShuffled visits the tree root first, siblings in random order: arkd
// keeps children in a map, so that no participant may count on an order.
func (n *Node) WalkShuffled(f func(*Node)) {
	f(n)
	for _, i := range rand.Perm(len(n.Children)) {
		n.Children[i].WalkShuffled(f)
	}
}

// Topics are the compressed keys of the set in hex.
func (s *KeySet) Topics() []string {
	out := make([]string, len(s.Keys))
	for i, k := range s.Keys {
		out[i] = hex.EncodeToString(k.SerializeCompressed())
	}
	return out
}
