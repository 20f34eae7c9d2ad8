package spend

import (
	"bytes"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/asset"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// Bounds of the trees in a document. Computing the keys of the VTXO tree's nodes is
// what a batch costs us most, so that its cosigners are bounded too.
const (
	// maxConnectors is the nodes of the branches to 128 connectors in a batch of
	// 1,000.
	maxConnectors = 1024
	// maxBranch is the nodes of one branch: a binary tree of that depth holds
	// everybody.
	maxBranch = 64
	// maxCosigners is over all branches of one request, which takes a third of a
	// second then: in a batch of 1,000 a branch has 2,000.
	maxCosigners = 8192
)

// batchView is a commitment transaction that gives what an intent asked for.
type batchView struct {
	commitment *psbt.Packet
	txid       chainhash.Hash
	dust       int64
}

// readBatch verifies what a batch gives for an intent (spec section 6, "In the
// batch"): the register intent carries the group's own signatures, so it was
// decided on; its leaf hangs, fully signed, from output 0 of this commitment
// transaction; and its on-chain outputs are there.
func (p *parser) readBatch(doc *vigilpb.BatchProof) (*batchView, *Spend, error) {
	packet, s, err := p.readIntent(doc.GetIntent(), p.operators())
	if err != nil {
		return nil, nil, err
	}
	if s.Kind != Register {
		return nil, nil, invalid("the intent is not one that registers")
	}
	if err := p.sighashes(s, packet, 0); err != nil {
		return nil, nil, coded(err, vigil.CodeInvalidProof)
	}
	s.Key, s.Sighashes = s.Sighashes[0].Message, nil
	b := &batchView{dust: p.Params.Dust}
	if b.commitment, err = p.reader.ParsePSBT(doc.GetCommitment(), script.OperatorLimits()); err != nil {
		return nil, nil, invalid("the commitment transaction: %w", err)
	}
	if len(b.commitment.UnsignedTx.TxIn) == 0 || len(b.commitment.UnsignedTx.TxOut) == 0 {
		return nil, nil, invalid("the commitment transaction has no inputs or no outputs")
	}
	b.txid = b.commitment.UnsignedTx.TxHash()
	s.Commitment = b.txid
	leaf, err := leafOutputs(s.Message, packet.UnsignedTx)
	if err != nil {
		return nil, nil, err
	}
	if err := p.onchain(b, s, len(leaf) > 0 || len(doc.GetNodes()) > 0); err != nil {
		return nil, nil, err
	}
	if len(leaf) > 0 {
		if err := p.branch(b, s, doc, leaf); err != nil {
			return nil, nil, err
		}
	}
	return b, s, nil
}

// spends is the index of the input of the commitment transaction that spends a
// coin, or -1.
func (b *batchView) spends(op wire.OutPoint) int {
	return slices.IndexFunc(b.commitment.UnsignedTx.TxIn, func(in *wire.TxIn) bool { return in.PreviousOutPoint == op })
}

// onchain finds every on-chain output of the intent in the commitment
// transaction, each once, apart from the roots of its trees.
func (p *parser) onchain(b *batchView, s *Spend, hasTree bool) error {
	taken := map[int]bool{tree.BatchOutput: hasTree}
	for _, want := range s.Onchain {
		found := false
		for i, out := range b.commitment.UnsignedTx.TxOut {
			at := wire.OutPoint{Hash: b.txid, Index: uint32(i)}
			if taken[i] || p.others(at, s) || !sameOutput(out, wire.NewTxOut(want.Amount, want.Script)) {
				continue
			}
			found, taken[i], p.claimed[at] = true, true, s.Key
			break
		}
		if !found {
			return invalid("the commitment transaction does not pay %d to %x on chain", want.Amount, want.Script)
		}
	}
	return nil
}

// leafOutputs are the outputs that the intent's leaf must have, in order: those
// that stay in Ark, with the extension in the form that the operator gives it,
// last.
func leafOutputs(m *intent.Message, proof *wire.MsgTx) ([]*wire.TxOut, error) {
	var outs []*wire.TxOut
	var extension *wire.TxOut
	for i, out := range proof.TxOut {
		switch {
		case slices.Contains(m.OnchainOutputs, i):
		case asset.IsExtension(out.PkScript):
			leaf, err := asset.LeafScript(out.PkScript, proof.TxHash())
			if err != nil {
				return nil, coded(err, vigil.CodeAssetsNotConserved)
			}
			extension = wire.NewTxOut(0, leaf)
		default:
			outs = append(outs, out)
		}
	}
	if extension != nil && len(outs) > 0 {
		outs = append(outs, extension)
	}
	return outs, nil
}

// branch verifies that the nodes lead from output 0 of the commitment transaction
// to a leaf of the intent's own, that every one of them is signed, and that the
// batch lives long enough.
func (p *parser) branch(b *batchView, s *Spend, doc *vigilpb.BatchProof, leaf []*wire.TxOut) error {
	cosigners, err := s.Message.CosignerKeys()
	if err != nil || len(cosigners) != 1 {
		return vigil.Errorf(vigil.CodeCosignersMismatch, "an intent that the wallet settles itself names exactly one cosigner")
	}
	if err := batch.CheckExpiry(p.Network, doc.GetBatchExpiry(), 1); err != nil {
		return invalid("%w", err)
	}
	nodes, signatures, err := parseNodes(doc.GetNodes(), maxBranch)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if p.cosigners += len(n.Cosigners); p.cosigners > maxCosigners {
			return vigil.Errorf(vigil.CodeTooManyInputs, "the branches have more than %d cosigners", maxCosigners)
		}
	}
	t, err := tree.Assemble(nodes, tree.Params{
		Root: wire.OutPoint{Hash: b.txid, Index: tree.BatchOutput}, RootOut: b.commitment.UnsignedTx.TxOut[tree.BatchOutput],
		ForfeitKey: p.Params.ForfeitKey.XOnly(), Expiry: ark.Delay(doc.GetBatchExpiry()),
		Own:      func(k bip340.XOnly) bool { return k == cosigners[0].XOnly() },
		Contexts: p.Contexts,
	})
	if err != nil {
		return invalid("the branch: %w", err)
	}
	found := p.ownLeaf(t, s, cosigners[0], leaf)
	if found == nil {
		return invalid("no leaf of the batch pays what the intent asked for, under its cosigner and the operator's")
	}
	for _, n := range found.Branch() {
		sig, ok := signatures[n.Txid]
		if !ok {
			return invalid("node %v of the branch is not signed", n.Txid)
		}
		if err := n.Verify(sig); err != nil {
			return invalid("the branch: %w", err)
		}
	}
	return nil
}

// ownLeaf is a leaf under the intent's cosigner and one other key that pays what
// the intent asked for, in order, and no other intent; nil when there is none.
func (p *parser) ownLeaf(t *tree.Tree, s *Spend, cosigner bip340.PubKey, want []*wire.TxOut) *tree.Placed {
	for _, n := range t.Nodes() {
		at := wire.OutPoint{Hash: n.Txid}
		if n.Leaf() && len(n.Cosigners) == 2 && slices.Contains(n.Cosigners, cosigner) && slices.EqualFunc(n.Outputs(), want, sameOutput) && !p.others(at, s) {
			p.claimed[at] = s.Key
			return n
		}
	}
	return nil
}

func sameOutput(a, b *wire.TxOut) bool {
	return a.Value == b.Value && bytes.Equal(a.PkScript, b.PkScript)
}

// parseNodes reads the nodes of a tree, with the key-path signatures that they
// carry.
func parseNodes(docs []*vigilpb.TreeNode, most int) ([]*tree.Node, map[chainhash.Hash][64]byte, error) {
	if len(docs) > most {
		return nil, nil, invalid("%d nodes in one tree, at most %d are taken", len(docs), most)
	}
	nodes := make([]*tree.Node, len(docs))
	signatures := make(map[chainhash.Hash][64]byte, len(docs))
	for i, doc := range docs {
		children := make(map[uint32]string, len(doc.GetChildren()))
		for _, c := range doc.GetChildren() {
			if _, twice := children[c.GetOutput()]; twice {
				return nil, nil, invalid("node %d has two children at output %d", i, c.GetOutput())
			}
			children[c.GetOutput()] = c.GetTxid()
		}
		n, err := tree.ParseNode(doc.GetTx(), children)
		if err != nil {
			return nil, nil, invalid("node %d: %w", i, err)
		}
		nodes[i] = n
		packet, err := script.ParsePSBT(doc.GetTx(), script.OperatorLimits())
		if err != nil {
			return nil, nil, invalid("node %d: %w", i, err)
		}
		if sig := packet.Inputs[0].TaprootKeySpendSig; len(sig) == 64 {
			signatures[n.Txid] = [64]byte(sig)
		}
	}
	return nodes, signatures, nil
}
