package arktest

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/code"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
	"github.com/vigil-ark/vigil/arktest/lie"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// finalizationStage builds the batch and has its tree signed. It returns false
// when the round failed.
func (p *process) finalizationStage(r *round) bool {
	third := p.share(r, 3) // computed once, as in arkd
	if err := p.build(r); err != nil {
		p.fail(r, internalf("failed to create commitment tx: %w", err))
		return false
	}
	p.op.rec.built(r)
	if r.tree != nil && !p.signTree(r, third) {
		return false
	}
	return p.ctx.Err() == nil
}

func (p *process) signTree(r *round, third time.Duration) bool {
	session, err := txtree.NewSession(r.tree, r.sweepRoot, p.key.priv)
	if err != nil {
		p.fail(r, internalf("failed to create signer session: %w", err))
		return false
	}
	p.mu.Lock()
	r.session = session
	list := r.collectCosigners()
	r.nonces, r.sigs = map[string]txtree.Nonces{}, map[string]txtree.Sigs{}
	p.mu.Unlock()
	if !p.wait(third, r.allNonces.c, func() {
		p.op.rec.phase(r, PhaseNonces)
		p.emit(r, groupTree, p.treeEvents(r, list))
	}) {
		p.failTimeout(r, "nonce collection", "nonces", crimeNonces)
		return false
	}
	if r.lies.has(lie.CrashAfterNonces) {
		p.crash()
		return false
	}
	p.mu.Lock()
	for key, n := range r.nonces {
		session.AddNonces(mustKey(key), n)
	}
	p.mu.Unlock()
	puppets, err := playPuppets(r)
	if err != nil {
		p.fail(r, internalf("%w", err))
		return false
	}
	agg, err := session.Aggregate()
	if err != nil {
		p.fail(r, internalf("%w", err))
		return false
	}
	if err := session.Sign(); err != nil {
		p.fail(r, internalf("%w", err))
		return false
	}
	if !p.wait(third, r.allSigs.c, func() {
		p.op.rec.phase(r, PhaseSignatures)
		p.emit(r, groupNonces, p.nonceEvents(r, agg))
	}) {
		p.failTimeout(r, "signatures collection", "signatures", crimeSigs)
		return false
	}
	r.lies.replay(p, r, agg)
	return p.combineTree(r, puppets)
}

// playPuppets adds the nonces of cosigners that a lie put in.
func playPuppets(r *round) (out map[[32]byte]*txtree.Puppet, err error) {
	out = map[[32]byte]*txtree.Puppet{}
	for _, k := range r.puppets {
		if out[k.x], err = r.session.NewPuppet(k.priv); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *process) combineTree(r *round, puppets map[[32]byte]*txtree.Puppet) bool {
	sigs := map[[32]byte]txtree.Sigs{}
	for x, puppet := range puppets {
		made, err := puppet.Sign()
		if err != nil {
			p.fail(r, internalf("%w", err))
			return false
		}
		sigs[x] = made
	}
	p.mu.Lock()
	for key, s := range r.sigs {
		sigs[[32]byte(mustKey(key).SerializeCompressed()[1:])] = s
	}
	p.mu.Unlock()
	culprits, err := r.session.Combine(sigs)
	if err != nil {
		p.fail(r, internalf("failed to aggregate tree signatures: %w", err))
		return false
	}
	if len(culprits) > 0 {
		bad := map[string]string{}
		for key := range r.cosigners {
			if reason, ok := culprits[[32]byte(mustKey(key).SerializeCompressed()[1:])]; ok {
				bad[key] = reason
			}
		}
		p.fail(r, internalf("some musig2 signatures are invalid"))
		p.convictCosigners(r, bad, crimeBadSig)
		return false
	}
	for _, n := range r.tree.Nodes() {
		n.Packet.Inputs[0].TaprootKeySpendSig = n.Sig
	}
	return true
}

// mustKey decodes a key that was checked when it was taken in.
func mustKey(compressed string) *btcec.PublicKey {
	raw, _ := hex.DecodeString(compressed)
	k, _ := btcec.ParsePubKey(raw)
	return k
}

func (p *process) failTimeout(r *round, stage, what string, c crime) {
	if p.ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	missing := map[string]string{}
	got := 0
	for key := range r.cosigners {
		var have bool
		if c == crimeNonces {
			_, have = r.nonces[key]
		} else {
			_, have = r.sigs[key]
		}
		if have {
			got++
		} else {
			missing[key] = fmt.Sprintf("missing musig2 %s for cosigner %s", what, key)
		}
	}
	total := len(r.cosigners)
	p.mu.Unlock()
	p.fail(r, code.SigningTimeout.New(nil, "musig2 signing session timed out (%s), collected %d/%d %s", stage, got, total, what))
	p.convictCosigners(r, missing, c)
}

// addNonces stores one cosigner's nonces. Nobody asks who sends them, and the
// last write wins.
func (p *process) addNonces(batch, key string, n txtree.Nonces) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, err := p.signingRound(batch, key)
	if err != nil {
		return code.Internal.New(code.Meta{"round_id": batch, "pubkey": key}, "failed to add nonces: %w", err)
	}
	p.op.rec.nonces(r, key, n)
	r.nonces[key] = r.lies.overwritten(r, key, n)
	if len(r.nonces) == len(r.cosigners) {
		r.allNonces.fire()
	}
	return nil
}

// addSignatures stores one cosigner's partial signatures.
func (p *process) addSignatures(batch, key string, s txtree.Sigs) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, err := p.signingRound(batch, key)
	if err != nil {
		return code.Internal.New(code.Meta{"round_id": batch, "pubkey": key}, "failed to add signatures: %w", err)
	}
	p.op.rec.signatures(r, key)
	r.sigs[key] = s
	if len(r.sigs) == len(r.cosigners) {
		r.allSigs.fire()
	}
	return nil
}

func (p *process) signingRound(batch, key string) (*round, error) {
	r := p.round
	if r == nil || r.id != batch || r.session == nil {
		return nil, fmt.Errorf("signing session not found for round %q", batch)
	}
	if !r.cosigners[key] {
		return nil, fmt.Errorf("cosigner %s not found for round %q", key, batch)
	}
	return r, nil
}

// treeEvents is emission group 2: the tree root first, then the call for
// nonces.
func (p *process) treeEvents(r *round, cosigners []string) []eventMsg {
	var group []eventMsg
	r.tree.WalkShuffled(func(n *txtree.Node) {
		group = append(group, treeTxEvent(r.id, 0, n, n.Set.Topics()))
	})
	return append(group, eventMsg{event: &arkv1.GetEventStreamResponse{
		Event: &arkv1.GetEventStreamResponse_TreeSigningStarted{TreeSigningStarted: &arkv1.TreeSigningStartedEvent{
			Id: r.id, CosignersPubkeys: cosigners, UnsignedCommitmentTx: r.encoded,
		}},
	}})
}

func treeTxEvent(batch string, index int32, n *txtree.Node, topics []string) eventMsg {
	encoded, _ := n.Packet.B64Encode() // a packet we made ourselves encodes
	return eventMsg{topics: topics, event: &arkv1.GetEventStreamResponse{
		Event: &arkv1.GetEventStreamResponse_TreeTx{TreeTx: &arkv1.TreeTxEvent{
			Id: batch, Topic: topics, BatchIndex: index, Tx: encoded, Children: n.ChildIDs(), // Txid stays empty, as in arkd
		}},
	}}
}

// nonceEvents is emission group 3.
func (p *process) nonceEvents(r *round, agg txtree.Nonces) []eventMsg {
	var group []eventMsg
	r.tree.WalkShuffled(func(n *txtree.Node) {
		all := map[string]string{}
		for x, v := range r.session.NodeNonces(n) {
			all[hex.EncodeToString(x[:])] = hex.EncodeToString(v[:])
		}
		topics := n.Set.Topics()
		group = append(group, eventMsg{topics: topics, event: &arkv1.GetEventStreamResponse{
			Event: &arkv1.GetEventStreamResponse_TreeNonces{TreeNonces: &arkv1.TreeNoncesEvent{
				Id: r.id, Topic: topics, Txid: n.Txid.String(), Nonces: all,
			}},
		}})
	})
	sums := map[string]string{}
	for id, v := range agg {
		sums[id] = hex.EncodeToString(v[:])
	}
	return append(group, eventMsg{event: &arkv1.GetEventStreamResponse{
		Event: &arkv1.GetEventStreamResponse_TreeNoncesAggregated{TreeNoncesAggregated: &arkv1.TreeNoncesAggregatedEvent{
			Id: r.id, TreeNonces: sums,
		}},
	}})
}

// finalEvents is emission group 4: signatures, connectors, the call for
// forfeits.
func (p *process) finalEvents(r *round) []eventMsg {
	var group []eventMsg
	if r.tree != nil {
		r.tree.WalkShuffled(func(n *txtree.Node) {
			topics := n.Set.Topics()
			group = append(group, eventMsg{topics: topics, event: &arkv1.GetEventStreamResponse{
				Event: &arkv1.GetEventStreamResponse_TreeSignature{TreeSignature: &arkv1.TreeSignatureEvent{
					Id: r.id, Topic: topics, BatchIndex: 0, Txid: n.Txid.String(), Signature: hex.EncodeToString(n.Sig),
				}},
			}})
		})
	}
	if r.connectors != nil {
		r.connectors.WalkShuffled(func(n *txtree.Node) {
			var topics []string
			for _, leaf := range n.Leaves() {
				topics = append(topics, r.connFor[wire.OutPoint{Hash: leaf.Txid}].String())
			}
			group = append(group, treeTxEvent(r.id, 1, n, topics))
		})
	}
	return append(group, eventMsg{event: &arkv1.GetEventStreamResponse{
		Event: &arkv1.GetEventStreamResponse_BatchFinalization{BatchFinalization: &arkv1.BatchFinalizationEvent{
			Id: r.id, CommitmentTx: r.encoded,
		}},
	}})
}
