package batch

import (
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark/internal/spread"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/tree"
)

// checkFinal holds the finalization's transaction against the one that the
// tree was signed for.
func (b *Batch) checkFinal() *Violation {
	if b.signing != nil && b.signing.Commitment == b.final.Commitment {
		return nil
	}
	p, err := script.ParsePSBT(b.final.Commitment, script.OperatorLimits())
	if err != nil {
		return violation(RuleCommitment, "%w", err)
	}
	if txid := p.UnsignedTx.TxHash(); txid != b.txid {
		return violation(RuleCommitmentChanged, "%v, signed for %v", txid, b.txid)
	}
	b.commitment = p // it may carry more fields
	return nil
}

// verifySignatures verifies the final signature of every node of ours, and
// returns the signed nodes.
func (b *Batch) verifySignatures() (map[chainhash.Hash]*tree.Node, *Violation) {
	if b.tree == nil {
		return nil, nil
	}
	signed := make(map[chainhash.Hash]*tree.Node, len(b.tree.Nodes()))
	for _, n := range b.tree.Nodes() {
		sig, ok := b.signatures[n.Txid]
		if !ok {
			return nil, missing(RuleSignatureMissing, "node %v", n.Txid)
		}
		signed[n.Txid] = n.WithSignature(sig)
	}
	nodes := b.tree.Nodes()
	if err := spread.Over(len(nodes), func(i int) error {
		return nodes[i].Verify(*signed[nodes[i].Txid].Signature)
	}); err != nil {
		return nil, of(err)
	}
	return signed, nil
}

// assignConnectors finds the connector of each input of ours that has one.
// Which inputs these are is the operator's to say: it re-evaluates what is
// recoverable when it builds the batch (protocol section 5.6).
func (b *Batch) assignConnectors() (map[wire.OutPoint]Connector, *Violation) {
	if len(b.connectors) == 0 {
		return nil, nil
	}
	outs := b.commitment.UnsignedTx.TxOut
	if len(outs) <= tree.ConnectorOutput {
		return nil, violation(tree.RuleRoot, "connectors, but %d outputs in the commitment transaction", len(outs))
	}
	root := wire.OutPoint{Hash: b.txid, Index: tree.ConnectorOutput}
	t, err := tree.AssembleConnectors(nodesOf(b.connectors), root, outs[tree.ConnectorOutput])
	if err != nil {
		return nil, of(err)
	}
	announced := make(map[wire.OutPoint]bool)
	assigned := make(map[wire.OutPoint]Connector)
	for _, n := range t.Nodes() {
		r := b.connectors[n.Txid]
		for _, op := range r.topics {
			announced[op] = true
		}
		if !n.Leaf() {
			continue
		}
		if len(r.topics) != 1 || r.others != 0 {
			return nil, violation(RuleConnectorTopic, "connector %v is for %d inputs", n.Txid, len(r.topics)+r.others)
		}
		op := r.topics[0]
		if _, ok := assigned[op]; ok {
			return nil, violation(RuleConnectorDuplicate, "two connectors for %v", op)
		}
		out := n.Tx.TxOut[0]
		if out.Value != b.cfg.Dust {
			return nil, violation(RuleConnectorValue, "connector %v of %d sats, not %d", n.Txid, out.Value, b.cfg.Dust)
		}
		assigned[op] = Connector{
			Outpoint: wire.OutPoint{Hash: n.Txid},
			Out:      out,
			Branch:   branch(n, nil),
		}
	}
	for op := range announced {
		if _, ok := assigned[op]; !ok {
			return nil, missing(RuleConnectorMissing, "for %v", op)
		}
	}
	return assigned, nil
}

// branch is the way from the root to n, signed where signatures are given.
func branch(n *tree.Placed, signed map[chainhash.Hash]*tree.Node) []tree.Node {
	placed := n.Branch()
	nodes := make([]tree.Node, len(placed))
	for i, p := range placed {
		if s := signed[p.Txid]; s != nil {
			nodes[i] = *s
		} else {
			nodes[i] = *p.Node
		}
	}
	return nodes
}

// results sums up what each task gets and has to give.
func (b *Batch) results(signed map[chainhash.Hash]*tree.Node, connectors map[wire.OutPoint]Connector) StepForfeits {
	step := StepForfeits{Commitment: b.commitment, CommitmentPSBT: b.final.Commitment, Txid: b.txid}
	for i, t := range b.tasks {
		var lacking []wire.OutPoint
		forfeits := make(map[wire.OutPoint]Connector)
		for _, in := range t.Inputs {
			c, ok := connectors[in.Outpoint]
			if !ok {
				continue
			}
			forfeits[in.Outpoint] = c
			if !in.HasForfeit {
				lacking = append(lacking, in.Outpoint)
			}
		}
		r := TaskResult{ID: t.ID, Connectors: forfeits}
		if b.leaves != nil && b.leaves[i] != nil {
			leaf := b.leaves[i]
			r.Leaf, r.Branch = leaf.Txid, branch(leaf, signed)
			for j, out := range leaf.Outputs() {
				r.Outputs = append(r.Outputs, NewVTXO{wire.OutPoint{Hash: leaf.Txid, Index: uint32(j)}, out})
			}
		}
		if len(lacking) > 0 {
			r.Connectors = nil
			step.Withheld = append(step.Withheld, Withheld{r, lacking})
			continue
		}
		step.Tasks = append(step.Tasks, r)
	}
	return step
}
