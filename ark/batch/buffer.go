package batch

import (
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
)

// Bounds of what one batch may make us hold. A batch of 1,000 participants with
// a key each has about 2,000 nodes and 12,000 cosigner fields: 2 MB as text.
const (
	maxNodes = 8192     // of both trees together, signatures or nonce sets
	maxBytes = 32 << 20 // of event text
	// maxCosigners bounds the keys that TreeSigningStarted may announce. One
	// stranger's intent may list thousands; a batch that we cannot follow convicts
	// our tasks.
	maxCosigners = 16384
	// cacheSize is the number of key contexts that a batch keeps when its caller
	// shares no cache: the nodes of 512 participants with a key each.
	cacheSize = 1024
)

// Sizes of what is kept for one nonce or signature, for the budget.
const (
	nonceBytes     = 32 + 66
	signatureBytes = 32 + 64
)

// budget counts what is held.
type budget struct{ nodes, bytes int }

func (b *budget) take(nodes, bytes int) *Violation {
	b.nodes += nodes
	b.bytes += bytes
	if b.nodes > maxNodes || b.bytes > maxBytes {
		return violation(RuleTooMuch, "%d items, %d bytes", b.nodes, b.bytes)
	}
	return nil
}

// received is a node as it came. The PSBT text tells a duplicate from a
// contradiction before anything is parsed.
type received struct {
	node   *tree.Node
	topics []wire.OutPoint // connectors: of ours, the inputs that it serves
	others int             // connectors: number of other topics
}

// store keeps what an event of this batch says, once. An event that repeats
// another one changes nothing; one that contradicts it is a violation.
func (b *Batch) store(ev Event) *Violation {
	switch ev := ev.(type) {
	case TreeTx:
		return b.storeNode(ev)
	case TreeSigningStarted:
		return b.storeSigning(ev)
	case TreeNonces:
		return b.storeNonces(ev)
	case TreeNoncesAggregated:
		// The operator's own sums are not used: a wrong one would only spoil our
		// signatures. The event tells that all nonces are out.
		b.aggregated = true
	case TreeSignature:
		return b.storeSignature(ev)
	case Finalization:
		if b.final != nil && b.final.Commitment != ev.Commitment {
			return violation(RuleConflict, "a second finalization with another transaction")
		}
		if b.final == nil {
			b.final = &ev
			return b.budget.take(0, len(ev.Commitment))
		}
	case Finalized:
		if b.finalized != nil && b.finalized.Txid != ev.Txid {
			return violation(RuleConflict, "finalized as %v and as %v", b.finalized.Txid, ev.Txid)
		}
		b.finalized = &ev
	}
	return nil
}

func (b *Batch) storeNode(ev TreeTx) *Violation {
	if ev.BatchIndex != tree.BatchOutput && ev.BatchIndex != tree.ConnectorOutput {
		return nil // trees that a later protocol may have
	}
	nodes, late := b.nodes, b.stage != stageTree
	if ev.BatchIndex == tree.ConnectorOutput {
		nodes, late = b.connectors, b.stage >= stageForfeits
	}
	if late {
		return nil // a duplicate, or nothing that we could still use
	}
	r := received{}
	if ev.BatchIndex == tree.ConnectorOutput {
		if r = b.topicsOf(ev.Topics); len(r.topics) == 0 {
			return nil
		}
	}
	n, err := tree.ParseNode(ev.PSBT, ev.Children)
	if err != nil {
		return of(err)
	}
	r.node = n
	if ev.BatchIndex == tree.BatchOutput && !b.ours(n) {
		return nil
	}
	if o, ok := nodes[n.Txid]; ok {
		if !o.node.Same(n) || !slices.Equal(o.topics, r.topics) || o.others != r.others {
			return violation(tree.RuleConflict, "node %v comes in two versions", n.Txid)
		}
		return nil
	}
	nodes[n.Txid] = r
	return b.budget.take(1, len(ev.PSBT))
}

// ours says whether a node carries a key of ours.
func (b *Batch) ours(n *tree.Node) bool {
	return slices.ContainsFunc(n.Cosigners, func(k bip340.PubKey) bool { return b.isOwn(k.XOnly()) })
}

// isOwn says whether a key is ours, whatever its parity.
func (b *Batch) isOwn(k bip340.XOnly) bool {
	_, ok := b.own[k]
	return ok
}

// topicsOf sorts a connector's topics into our inputs and others.
func (b *Batch) topicsOf(topics []string) (r received) {
	for _, t := range topics {
		op, err := ark.ParseOutpoint(t)
		if err == nil && b.inputs[op] {
			r.topics = append(r.topics, op)
		} else {
			r.others++
		}
	}
	return r
}

func (b *Batch) storeSigning(ev TreeSigningStarted) *Violation {
	if b.signing != nil {
		if b.signing.Commitment != ev.Commitment || !slices.Equal(b.signing.Cosigners, ev.Cosigners) {
			return violation(RuleConflict, "a second start of signing with other content")
		}
		return nil
	}
	if len(ev.Cosigners) > maxCosigners {
		return violation(RuleTooMuch, "%d cosigners", len(ev.Cosigners))
	}
	b.signing = &ev
	return b.budget.take(0, len(ev.Commitment))
}

func (b *Batch) storeNonces(ev TreeNonces) *Violation {
	if b.stage >= stageSigned {
		return nil
	}
	if b.stage > stageTree && (b.tree == nil || b.tree.Node(ev.Txid) == nil) {
		return nil // not a node of ours
	}
	if old, ok := b.nonces[ev.Txid]; ok {
		if !sameNonces(old, ev.Nonces) {
			return violation(RuleConflict, "node %v has two sets of nonces", ev.Txid)
		}
		return nil
	}
	set := make(map[bip340.XOnly]musig2.PubNonce, min(len(ev.Nonces), maxCosigners))
	if v := b.budget.take(1, len(ev.Nonces)*nonceBytes); v != nil {
		return v
	}
	for k, n := range ev.Nonces {
		set[k] = n
	}
	b.nonces[ev.Txid] = set
	return nil
}

func sameNonces(a map[bip340.XOnly]musig2.PubNonce, b map[bip340.XOnly][66]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for k, n := range b {
		if o, ok := a[k]; !ok || o != n {
			return false
		}
	}
	return true
}

func (b *Batch) storeSignature(ev TreeSignature) *Violation {
	if ev.BatchIndex != tree.BatchOutput || b.stage >= stageForfeits {
		return nil
	}
	if b.stage > stageTree && (b.tree == nil || b.tree.Node(ev.Txid) == nil) {
		return nil
	}
	if old, ok := b.signatures[ev.Txid]; ok {
		if old != ev.Signature {
			return violation(RuleConflict, "node %v has two signatures", ev.Txid)
		}
		return nil
	}
	b.signatures[ev.Txid] = ev.Signature
	return b.budget.take(1, signatureBytes)
}

// vtxoNodes are the nodes of the VTXO tree in no particular order.
func (b *Batch) vtxoNodes() []*tree.Node { return nodesOf(b.nodes) }

func nodesOf(m map[chainhash.Hash]received) []*tree.Node {
	nodes := make([]*tree.Node, 0, len(m))
	for _, r := range m {
		nodes = append(nodes, r.node)
	}
	return nodes
}
