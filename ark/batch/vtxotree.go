package batch

import (
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/bip340"
)

// afterTree acts once the VTXO tree is closed: by TreeSigningStarted, or, in a
// batch that has no tree because nobody gets an off-chain output, by
// Finalization.
func (b *Batch) afterTree() (Step, *Violation) {
	switch {
	case b.signing != nil:
		return b.closeTree()
	case b.final != nil:
		return b.withoutTree()
	}
	return nil, nil
}

func (b *Batch) closeTree() (Step, *Violation) {
	if v := b.openCommitment(b.signing.Commitment, true); v != nil {
		return nil, v
	}
	if v := b.checkAnnounced(); v != nil {
		return nil, v
	}
	if len(b.nodes) == 0 {
		if b.wantsTree() {
			return nil, missing(RuleNoTree, "%w", errNothing)
		}
		b.stage = stageSigned // nothing of ours to sign
		return b.afterSignatures()
	}
	t, err := tree.Assemble(b.vtxoNodes(), tree.Params{
		Root:       wire.OutPoint{Hash: b.txid, Index: tree.BatchOutput},
		RootOut:    b.commitment.UnsignedTx.TxOut[tree.BatchOutput],
		ForfeitKey: b.cfg.ForfeitKey,
		Expiry:     b.expiry,
		Own:        b.isOwn,
		Contexts:   b.cfg.Cache,
	})
	if err != nil {
		return nil, of(err)
	}
	leaves, foreign, v := b.matchLeaves(t)
	if v != nil {
		return nil, v
	}
	b.tree, b.leaves = t, leaves
	for _, n := range t.Nodes() {
		for _, k := range n.Cosigners {
			own, ok := b.own[k.XOnly()]
			if !ok {
				continue
			}
			if k != own {
				b.negated = n
			}
			b.toSign = append(b.toSign, SigningNode{n.Txid, own, n.Sighash, n.Context})
		}
	}
	b.nodes = nil
	b.dropForeign()
	b.stage = stageMaking
	return StepNonces{Nodes: b.toSign, Foreign: foreign}, nil
}

// dropForeign forgets nonces and signatures that came early and are for nodes
// that are not ours.
func (b *Batch) dropForeign() {
	for txid := range b.nonces {
		if b.tree.Node(txid) == nil {
			delete(b.nonces, txid)
		}
	}
	for txid := range b.signatures {
		if b.tree.Node(txid) == nil {
			delete(b.signatures, txid)
		}
	}
}

// withoutTree is for batches in which nobody gets an off-chain output.
func (b *Batch) withoutTree() (Step, *Violation) {
	if b.wantsTree() {
		return nil, missing(RuleNoTree, "finalization without a tree")
	}
	if v := b.openCommitment(b.final.Commitment, false); v != nil {
		return nil, v
	}
	b.stage = stageSigned
	return b.afterSignatures()
}

// openCommitment parses the commitment transaction and finds in it what is ours
// outside of the trees.
func (b *Batch) openCommitment(b64 string, hasTree bool) *Violation {
	p, err := script.ParsePSBT(b64, script.OperatorLimits())
	if err != nil {
		return violation(RuleCommitment, "%w", err)
	}
	if len(p.UnsignedTx.TxOut) == 0 || len(p.UnsignedTx.TxIn) == 0 {
		return violation(RuleCommitment, "no inputs or no outputs")
	}
	b.commitment, b.txid = p, p.UnsignedTx.TxHash()

	// An output is found by what it pays; equal ones are as good as each other, so
	// counting them is matching them.
	type payment struct {
		script string
		value  int64
	}
	there := make(map[payment]int)
	for i, out := range p.UnsignedTx.TxOut {
		if hasTree && i == tree.BatchOutput {
			continue
		}
		there[payment{string(out.PkScript), out.Value}]++
	}
	spent := make(map[wire.OutPoint]bool, len(p.UnsignedTx.TxIn))
	for _, in := range p.UnsignedTx.TxIn {
		spent[in.PreviousOutPoint] = true
	}
	for _, t := range b.tasks {
		for i, out := range t.Onchain {
			k := payment{string(out.PkScript), out.Value}
			if there[k]--; there[k] < 0 {
				v := violation(RuleOnchain, "on-chain output %d of %d sats is not there", i, out.Value)
				v.Tasks = []string{t.ID}
				return v
			}
		}
		for _, in := range t.Inputs {
			if in.Boarding && !spent[in.Outpoint] {
				v := violation(RuleBoarding, "%v is not spent", in.Outpoint)
				v.Tasks = []string{t.ID}
				return v
			}
		}
	}
	return nil
}

// checkAnnounced holds our keys against the participants' announced ones. What
// strangers listed may be anything, since the operator does not look at it before
// it builds the tree; a text that is no key is none of ours.
func (b *Batch) checkAnnounced() *Violation {
	keys := make(map[bip340.XOnly]bool, len(b.signing.Cosigners))
	for _, s := range b.signing.Cosigners {
		if k, err := bip340.ParsePubKeyHex(s); err == nil {
			keys[k.XOnly()] = true
		}
	}
	var hit []string
	for _, t := range b.tasks {
		if len(t.Outputs) > 0 && !keys[t.Cosigner.XOnly()] {
			hit = append(hit, t.ID)
		}
	}
	if len(hit) == 0 {
		return nil
	}
	v := violation(RuleUnlisted, "%d of our tasks' keys are not announced", len(hit))
	v.Tasks = hit
	return v
}
