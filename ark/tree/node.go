// Package tree owns the trees of transactions that hang under a commitment
// transaction: it parses their nodes, proves that the nodes which one
// participant receives hold together, and signs nothing. It must not know of
// events, secrets, clocks or I/O.
package tree

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

// Bounds of one node. They are far above what operators build: a root over
// 1,000 participants has about 50 bytes of fields for each. One stranger may list
// thousands of cosigners, and a tree that we cannot read convicts our users.
const (
	maxNodeBytes   = 2 << 20
	maxNodeOutputs = 256
	maxNodeFields  = 32768
)

// version is that of every tree transaction: 3, TRUC, so that the anchor can
// pay the fee.
const version = 3

// Node is one transaction of a tree, as parsed: what can be checked without
// its neighbours holds. It is not changed once made.
type Node struct {
	Txid chainhash.Hash
	// Tx is unsigned.
	Tx *wire.MsgTx
	// Cosigners in the order of compressed bytes, each x coordinate once.
	Cosigners []bip340.PubKey
	// Expiry is the batch expiry of a VTXO tree's node, 0 in a connector tree.
	Expiry ark.Delay
	// Children by the output that they spend; none for a leaf.
	Children map[uint32]chainhash.Hash
	// Signature is the key-path signature of the input, once there is one.
	Signature *[64]byte
}

// ParseNode decodes a node and checks all that it shows by itself (protocol
// section 5.4). children are the output indexes and txids that the operator
// named. The error is an *Error with the broken rule.
func ParseNode(b64 string, children map[uint32]string) (*Node, error) {
	p, err := script.ParsePSBT(b64, script.Limits{
		Bytes: maxNodeBytes, Inputs: maxNodeOutputs, Outputs: maxNodeOutputs, Fields: maxNodeFields,
	})
	if err != nil {
		return nil, broken(RuleEncoding, chainhash.Hash{}, "%w", err)
	}
	n := &Node{Txid: p.UnsignedTx.TxHash(), Tx: p.UnsignedTx}
	if err := n.checkTx(); err != nil {
		return nil, err
	}
	if err := n.parseFields(&p.Inputs[0]); err != nil {
		return nil, err
	}
	if err := n.parseChildren(children); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *Node) checkTx() error {
	tx := n.Tx
	switch {
	case tx.Version != version:
		return broken(RuleVersion, n.Txid, "version %d", tx.Version)
	case tx.LockTime != 0:
		return broken(RuleLocktime, n.Txid, "locktime %d", tx.LockTime)
	case len(tx.TxIn) != 1:
		return broken(RuleInput, n.Txid, "%d inputs", len(tx.TxIn))
	case tx.TxIn[0].Sequence != wire.MaxTxInSequenceNum:
		return broken(RuleSequence, n.Txid, "sequence %#x", tx.TxIn[0].Sequence)
	case len(tx.TxOut) == 0:
		return broken(RuleAnchor, n.Txid, "no outputs")
	}
	last := len(tx.TxOut) - 1
	if !ark.IsAnchor(tx.TxOut[last]) {
		return broken(RuleAnchor, n.Txid, "the last output is no anchor")
	}
	var total int64
	for i, out := range tx.TxOut[:last] {
		if string(out.PkScript) == ark.Anchor {
			return broken(RuleAnchor, n.Txid, "output %d is an anchor", i)
		}
		// Checked one by one, the sum cannot overflow.
		if out.Value < 0 || out.Value > btcutil.MaxSatoshi-total {
			return broken(RuleOutputs, n.Txid, "output %d of %d sats", i, out.Value)
		}
		total += out.Value
	}
	return nil
}

func (n *Node) parseFields(in *psbt.PInput) error {
	keys, err := script.Cosigners(in)
	if err != nil {
		return broken(RuleCosigners, n.Txid, "%w", err)
	}
	if len(keys) == 0 {
		return broken(RuleCosigners, n.Txid, "none")
	}
	seen := make(map[bip340.XOnly]bool, len(keys))
	for _, k := range keys {
		if seen[k.XOnly()] {
			return broken(RuleCosigners, n.Txid, "%v twice", k.XOnly())
		}
		seen[k.XOnly()] = true
	}
	slices.SortFunc(keys, comparePubKeys)
	n.Cosigners = keys

	n.Expiry, err = script.Expiry(in)
	if err != nil && !errors.Is(err, script.ErrNoField) {
		return broken(RuleExpiry, n.Txid, "%w", err)
	}
	return nil
}

func (n *Node) parseChildren(children map[uint32]string) error {
	if len(children) == 0 {
		return nil
	}
	if len(children) != len(n.Tx.TxOut)-1 {
		return broken(RuleChildren, n.Txid, "%d children of %d outputs", len(children), len(n.Tx.TxOut)-1)
	}
	n.Children = make(map[uint32]chainhash.Hash, len(children))
	seen := make(map[chainhash.Hash]bool, len(children))
	for i, s := range children {
		txid, err := ark.ParseTxid(s)
		if err != nil {
			return broken(RuleChildren, n.Txid, "%w", err)
		}
		if int64(i) >= int64(len(n.Tx.TxOut)-1) || seen[txid] {
			return broken(RuleChildren, n.Txid, "child %d", i)
		}
		n.Children[i], seen[txid] = txid, true
	}
	return nil
}

// Leaf says whether the node has no children.
func (n *Node) Leaf() bool { return len(n.Children) == 0 }

// Total is the sum of the node's outputs in satoshis, and so the value of the
// output that it spends: trees pay no fees.
func (n *Node) Total() int64 {
	var total int64
	for _, out := range n.Tx.TxOut {
		total += out.Value
	}
	return total
}

// Outputs are the node's outputs without the anchor.
func (n *Node) Outputs() []*wire.TxOut { return n.Tx.TxOut[:len(n.Tx.TxOut)-1] }

// Input is the outpoint that the node spends.
func (n *Node) Input() wire.OutPoint { return n.Tx.TxIn[0].PreviousOutPoint }

// Has says whether key is among the node's cosigners, and with which parity.
func (n *Node) Has(key bip340.XOnly) (bip340.PubKey, bool) {
	for _, parity := range [2]byte{2, 3} {
		var k bip340.PubKey
		k[0] = parity
		copy(k[1:], key[:])
		if _, ok := slices.BinarySearchFunc(n.Cosigners, k, comparePubKeys); ok {
			return k, true
		}
	}
	return bip340.PubKey{}, false
}

// Same says whether two parsed nodes are the same node: transaction,
// cosigners, expiry and children, whatever their encoding.
func (n *Node) Same(o *Node) bool {
	return n.Txid == o.Txid && n.Expiry == o.Expiry &&
		slices.Equal(n.Cosigners, o.Cosigners) && maps.Equal(n.Children, o.Children)
}

// WithSignature is a copy of the node that carries its final signature. It is
// not verified: Placed.Verify does that.
func (n *Node) WithSignature(sig [64]byte) *Node {
	signed := *n
	signed.Signature = &sig
	return &signed
}

// Encode gives the node as the operator does: a base64 PSBT with cosigners,
// expiry and, when there is one, the signature.
func (n *Node) Encode() (string, error) {
	p, err := psbt.NewFromUnsignedTx(n.Tx)
	if err != nil {
		return "", fmt.Errorf("encode node %v: %w", n.Txid, err)
	}
	in := &p.Inputs[0]
	script.SetCosigners(in, n.Cosigners)
	if n.Expiry != 0 {
		script.SetExpiry(in, n.Expiry)
	}
	if n.Signature != nil {
		in.TaprootKeySpendSig = n.Signature[:]
	}
	b64, err := p.B64Encode()
	if err != nil {
		return "", fmt.Errorf("encode node %v: %w", n.Txid, err)
	}
	return b64, nil
}

// SignedTx is the transaction as it goes on chain, or nil while the node has
// no signature.
func (n *Node) SignedTx() *wire.MsgTx {
	if n.Signature == nil {
		return nil
	}
	tx := n.Tx.Copy()
	tx.TxIn[0].Witness = wire.TxWitness{n.Signature[:]}
	return tx
}

func comparePubKeys(a, b bip340.PubKey) int { return slices.Compare(a[:], b[:]) }
