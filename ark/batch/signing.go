package batch

import (
	"github.com/vigil-ark/vigil/ark/internal/spread"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
)

// afterNonces asks for the signatures once every node of ours has everybody's
// nonces. Ours are compared in all nodes before anything is computed: whoever
// knows our public key can submit nonces in our name, and signing under other
// nonces than ours would make us sign nonsense.
func (b *Batch) afterNonces() (Step, *Violation) {
	for _, n := range b.tree.Nodes() {
		if b.nonces[n.Txid] != nil {
			continue
		}
		if b.aggregated {
			return nil, missing(RuleNoncesMissing, "node %v", n.Txid)
		}
		return nil, nil
	}
	for _, n := range b.toSign {
		if got, ok := b.nonces[n.Txid][n.Cosigner.XOnly()]; !ok || got != b.made[n.Cosigner][n.Txid] {
			return nil, violation(RuleNonceEcho, "node %v, key %v", n.Txid, n.Cosigner)
		}
	}
	if b.negated != nil {
		return nil, violation(RuleNegated, "node %v", b.negated.Txid)
	}
	nodes := b.tree.Nodes()
	aggs := make([]musig2.AggNonce, len(nodes))
	sessions := make([]*musig2.Session, len(nodes))
	err := spread.Over(len(nodes), func(i int) (err error) {
		n := nodes[i]
		if aggs[i], err = aggregate(n, b.nonces[n.Txid]); err != nil {
			return err
		}
		if sessions[i], err = n.Context.Session(aggs[i], n.Sighash); err != nil {
			return violation(RuleNonceInvalid, "node %v: %w", n.Txid, err)
		}
		return nil
	})
	if err != nil {
		return nil, of(err)
	}
	requests := make([]SignRequest, 0, len(b.toSign))
	next := b.toSign
	for i, n := range nodes {
		for len(next) > 0 && next[0].Txid == n.Txid { // toSign is in tree order
			requests = append(requests, SignRequest{next[0], aggs[i], sessions[i]})
			next = next[1:]
		}
	}
	b.nonces, b.made = nil, nil
	b.stage = stageSigned
	return StepSign{requests}, nil
}

// aggregate sums the nonces of one node's cosigners.
func aggregate(n *tree.Placed, nonces map[bip340.XOnly]musig2.PubNonce) (musig2.AggNonce, error) {
	if len(nonces) != len(n.Cosigners) {
		return musig2.AggNonce{}, violation(RuleNonceCosigners,
			"node %v has %d nonces of %d cosigners", n.Txid, len(nonces), len(n.Cosigners))
	}
	set := make([]musig2.PubNonce, len(n.Cosigners))
	for i, k := range n.Cosigners {
		pub, ok := nonces[k.XOnly()]
		if !ok {
			return musig2.AggNonce{}, violation(RuleNonceCosigners, "node %v lacks that of %v", n.Txid, k)
		}
		set[i] = pub
	}
	agg, err := musig2.AggregateNonces(set)
	if err != nil {
		return musig2.AggNonce{}, violation(RuleNonceInvalid, "node %v: %w", n.Txid, err)
	}
	return agg, nil
}

// afterSignatures releases the forfeits once the operator asks for them and
// everything that they pay for is there and verified.
func (b *Batch) afterSignatures() (Step, *Violation) {
	if b.final == nil {
		return nil, nil
	}
	if v := b.checkFinal(); v != nil {
		return nil, v
	}
	signed, v := b.verifySignatures()
	if v != nil {
		return nil, v
	}
	connectors, v := b.assignConnectors()
	if v != nil {
		return nil, v
	}
	b.nodes, b.connectors, b.signatures = nil, nil, nil
	b.stage = stageForfeits
	return b.results(signed, connectors), nil
}

// afterForfeits waits for the end.
func (b *Batch) afterForfeits() (Step, *Violation) {
	if b.finalized == nil {
		return nil, nil
	}
	if b.finalized.Txid != b.txid {
		return nil, violation(RuleFinalizedTxid, "%v, signed for %v", b.finalized.Txid, b.txid)
	}
	b.stage = stageEnded
	return StepFinalized{b.txid}, nil
}
