package arktest

import (
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/arktest/internal/txtree"
	"github.com/vigil-ark/vigil/arktest/lie"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

type streamEvent = arkv1.GetEventStreamResponse

// cuts says whether all streams are cut instead of sending a group.
func (l lieSet) cuts(g group) bool {
	return l.has(lie.StreamCutTree) && g == groupTree || l.has(lie.StreamCutNonces) && g == groupNonces ||
		l.has(lie.StreamCutFinal) && g == groupFinal || l.has(lie.StreamCutEnd) && g == groupEnd
}

// events changes one emission group; more groups may come of it.
func (l lieSet) events(p *process, r *round, g group, in []eventMsg) [][]eventMsg {
	out := make([]eventMsg, len(in))
	for i, m := range in {
		out[i] = eventMsg{topics: m.topics, event: proto.Clone(m.event).(*streamEvent)}
	}
	out = l.content(p, r, g, out)
	return l.order(p, r, g, out)
}

// content changes what events say.
func (l lieSet) content(p *process, r *round, g group, out []eventMsg) []eventMsg {
	switch g {
	case groupTree:
		return l.treeEvents(p, r, out)
	case groupNonces:
		l.nonceEvents(p, r, out)
	case groupFinal:
		return l.finalEvents(p, r, out)
	case groupEnd:
		if l.has(lie.FinalizedSilent) {
			return slices.DeleteFunc(out, func(m eventMsg) bool { return m.event.GetBatchFinalized() != nil })
		}
	}
	return out
}

// key is the cosigner topic of a lie's target.
func (l lieSet) key(name lie.Name, r *round) string {
	at, ok := l.first(name, r.joined)
	if !ok || len(r.joined[at].cosigners) == 0 {
		return ""
	}
	return r.joined[at].cosigners[0]
}

// leafID is the txid of a target's leaf.
func (l lieSet) leafID(name lie.Name, r *round) string {
	at, ok := l.first(name, r.joined)
	if !ok || r.tree == nil {
		return ""
	}
	leaves := r.tree.Leaves()
	if at >= len(leaves) {
		return ""
	}
	return leaves[at].Txid.String()
}

func (l lieSet) treeEvents(p *process, r *round, out []eventMsg) []eventMsg {
	root := out[0].event.GetTreeTx()
	if l.has(lie.NodeChildren) && root != nil {
		for i := range root.Children {
			root.Children[i] = randomHash().String()
		}
	}
	if l.has(lie.NodeMissing) {
		out = out[1:]
	}
	if l.has(lie.NodeGarbage) {
		out[0].event = treeTx(r.id, "AAAA", nil).event
	}
	last := out[len(out)-1]
	started := last.event.GetTreeSigningStarted()
	if l.has(lie.CommitmentJunk) {
		started.UnsignedCommitmentTx = "cHNidP8="
	}
	var more []eventMsg
	if k := l.key(lie.RootTwice, r); k != "" {
		more = append(more, treeTxEvent(r.id, 0, p.evilRoot(r), r.tree.Set.Topics()))
	}
	if k := l.key(lie.NodeFlood, r); k != "" {
		for range 5000 {
			n := p.evilRoot(r)
			more = append(more, treeTxEvent(r.id, 0, n, []string{k}))
		}
	}
	out = slices.Insert(out, len(out)-1, more...)
	if l.has(lie.SigningTwice) {
		again := proto.Clone(last.event).(*streamEvent)
		again.GetTreeSigningStarted().UnsignedCommitmentTx = otherCommitment(r)
		out = append(out, eventMsg{event: again})
	}
	if l.has(lie.FinalizationEarly) {
		for _, m := range p.finalEvents(r) {
			if m.event.GetTreeSignature() == nil {
				out = append(out, m)
			}
		}
	}
	return out
}

func treeTx(batch, tx string, topics []string) eventMsg {
	return eventMsg{topics: topics, event: &streamEvent{Event: &arkv1.GetEventStreamResponse_TreeTx{
		TreeTx: &arkv1.TreeTxEvent{Id: batch, Topic: topics, Tx: tx},
	}}}
}

// evilRoot spends the batch output to the operator, with the root's cosigners.
func (p *process) evilRoot(r *round) *txtree.Node {
	amount := r.commitment.UnsignedTx.TxOut[0].Value - rand.Int64N(500)
	plan := &txtree.Plan{Amount: amount, Set: r.tree.Set, Outputs: []*wire.TxOut{{Value: amount, PkScript: p.op.wallet.script}}}
	n, err := plan.Build(wire.OutPoint{Hash: r.txid}, r.commitment.UnsignedTx.TxOut[0], nil)
	if err != nil { // the plan is ours
		return r.tree
	}
	return n
}

// otherCommitment is the commitment with another txid.
func otherCommitment(r *round) string {
	p, err := psbt.NewFromRawBytes(strings.NewReader(r.encoded), true)
	if err != nil {
		return r.encoded
	}
	p.UnsignedTx.LockTime = 1
	encoded, err := p.B64Encode()
	if err != nil {
		return r.encoded
	}
	return encoded
}

func (l lieSet) nonceEvents(p *process, r *round, out []eventMsg) {
	own := hex.EncodeToString(p.key.x[:])
	stranger := randomKeyX()
	for _, m := range out {
		n := m.event.GetTreeNonces()
		if a := m.event.GetTreeNoncesAggregated(); a != nil && l.has(lie.NonceAggregate) {
			for id := range a.TreeNonces {
				v := randomNonce()
				a.TreeNonces[id] = hex.EncodeToString(v[:])
			}
		}
		if n == nil {
			continue
		}
		if k := l.key(lie.NonceSubstituted, r); k != "" && n.Nonces[k[2:]] != "" {
			v := randomNonce()
			n.Nonces[k[2:]] = hex.EncodeToString(v[:])
		}
		if l.has(lie.NonceMissing) {
			delete(n.Nonces, own)
		}
		if l.has(lie.NonceForeign) {
			n.Nonces[stranger] = n.Nonces[own]
			delete(n.Nonces, own)
		}
		if l.has(lie.NonceBad) {
			n.Nonces[own] = strings.Repeat("05", 66)
		}
	}
}

func randomKeyX() string {
	k, err := newKeyPair(nil)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(k.x[:])
}

// replay sends the nonces again with the operator's exchanged, to be given a
// second signature under the same secret nonce.
func (l lieSet) replay(p *process, r *round, agg txtree.Nonces) {
	if !l.has(lie.NonceReplay) {
		return
	}
	own := hex.EncodeToString(p.key.x[:])
	group := p.nonceEvents(r, agg)
	for _, m := range group {
		if n := m.event.GetTreeNonces(); n != nil {
			v := randomNonce()
			n.Nonces[own] = hex.EncodeToString(v[:])
		}
	}
	p.events.emit(group)
}

func (l lieSet) finalEvents(p *process, r *round, out []eventMsg) []eventMsg {
	sigs := map[string]*arkv1.TreeSignatureEvent{}
	for _, m := range out {
		if s := m.event.GetTreeSignature(); s != nil {
			sigs[s.Txid] = s
		}
	}
	spoil := func(id string) {
		if s := sigs[id]; s != nil {
			raw, _ := hex.DecodeString(s.Signature)
			raw[63] ^= 1
			s.Signature = hex.EncodeToString(raw)
		}
	}
	spoil(l.leafID(lie.SignatureBad, r))
	if l.has(lie.SignatureRootBad) && r.tree != nil {
		spoil(r.tree.Txid.String())
	}
	if id := l.leafID(lie.SignatureSwapped, r); id != "" && sigs[id] != nil {
		root := sigs[r.tree.Txid.String()]
		root.Signature, sigs[id].Signature = sigs[id].Signature, root.Signature
	}
	missing := l.leafID(lie.SignatureMissing, r)
	out = slices.DeleteFunc(out, func(m eventMsg) bool {
		return missing != "" && m.event.GetTreeSignature().GetTxid() == missing ||
			l.has(lie.ConnectorMissing) && m.event.GetTreeTx() != nil
	})
	if l.has(lie.FinalizationTxid) {
		out[len(out)-1].event.GetBatchFinalization().CommitmentTx = otherCommitment(r)
	}
	return l.connectorTopics(p, r, out)
}

// connectorTopics changes whom connectors are given to.
func (l lieSet) connectorTopics(p *process, r *round, out []eventMsg) []eventMsg {
	if r.connectors == nil {
		return out
	}
	leaves := r.connectors.Leaves()
	if l.has(lie.ConnectorShared) && len(leaves) > 1 {
		second := leaves[1].Txid
		out = slices.DeleteFunc(out, func(m eventMsg) bool { return nodeID(m) == second.String() })
		for i := range out {
			if nodeID(out[i]) == leaves[0].Txid.String() {
				l.addTopic(&out[i], r.toForfeit[1].Outpoint)
			}
		}
	}
	for _, t := range l {
		if t.name != lie.ConnectorStranger || len(t.targets) < 2 {
			continue
		}
		for i := range out {
			if nodeID(out[i]) == leaves[0].Txid.String() {
				l.addTopic(&out[i], t.targets[1])
			}
		}
	}
	return out
}

// nodeID is the txid of a connector event's transaction.
func nodeID(m eventMsg) string {
	n := m.event.GetTreeTx()
	if n.GetBatchIndex() != 1 {
		return ""
	}
	p, err := psbt.NewFromRawBytes(strings.NewReader(n.GetTx()), true)
	if err != nil {
		return ""
	}
	return p.UnsignedTx.TxID()
}

func (l lieSet) addTopic(m *eventMsg, op wire.OutPoint) {
	m.topics = append(slices.Clone(m.topics), op.String())
	m.event.GetTreeTx().Topic = m.topics
}

// order changes in what order and how often events come, and adds strange
// ones.
func (l lieSet) order(p *process, r *round, g group, out []eventMsg) [][]eventMsg {
	var groups [][]eventMsg
	if l.has(lie.BatchForeign) && g == groupTree {
		groups = append(groups, foreign(out, uuid.NewString()))
	}
	if l.has(lie.BatchTwice) && g == groupStarted {
		again := proto.Clone(out[0].event).(*streamEvent)
		again.GetBatchStarted().Id = uuid.NewString()
		out = append(out, eventMsg{event: again})
	}
	if l.has(lie.EventsReordered) && len(out) > 2 {
		rand.Shuffle(len(out)-1, func(i, j int) { out[i], out[j] = out[j], out[i] })
	}
	if l.has(lie.EventsDropped) && g != groupStarted && g != groupEnd {
		kept := out[:0]
		for i, m := range out {
			if i%3 != 0 {
				kept = append(kept, m)
			}
		}
		out = kept
	}
	if l.has(lie.EventsDuplicated) {
		var twice []eventMsg
		for _, m := range out {
			twice = append(twice, m, m)
		}
		out = twice
	}
	if l.has(lie.EventsUnknown) {
		out = slices.Insert(out, 0, eventMsg{event: &streamEvent{}})
	}
	if l.has(lie.EventsMalformed) && g == groupNonces {
		out = append(malformed(r), out...)
	}
	return append(groups, out)
}

// foreign is a group as if it belonged to another batch.
func foreign(in []eventMsg, id string) (out []eventMsg) {
	for _, m := range in {
		ev := proto.Clone(m.event).(*streamEvent)
		if t := ev.GetTreeTx(); t != nil {
			t.Id = id
		}
		if s := ev.GetTreeSigningStarted(); s != nil {
			s.Id = id
		}
		out = append(out, eventMsg{topics: m.topics, event: ev})
	}
	return append(out, eventMsg{event: &streamEvent{Event: &arkv1.GetEventStreamResponse_BatchFailed{
		BatchFailed: &arkv1.BatchFailedEvent{Id: id, Reason: "another batch"},
	}}})
}

// malformed lists events that do not decode.
func malformed(r *round) []eventMsg {
	var topics []string
	for k := range r.cosigners {
		topics = append(topics, k)
	}
	events := []*streamEvent{
		{Event: &arkv1.GetEventStreamResponse_TreeNonces{TreeNonces: &arkv1.TreeNoncesEvent{
			Id: r.id, Topic: topics, Txid: "zz", Nonces: map[string]string{"": "", "00": "zz"},
		}}},
		{Event: &arkv1.GetEventStreamResponse_TreeSignature{TreeSignature: &arkv1.TreeSignatureEvent{
			Id: r.id, Topic: topics, Txid: randomHash().String(), Signature: "00",
		}}},
		{Event: &arkv1.GetEventStreamResponse_TreeNoncesAggregated{TreeNoncesAggregated: &arkv1.TreeNoncesAggregatedEvent{
			Id: r.id, TreeNonces: map[string]string{"x": "y"},
		}}},
		{Event: &arkv1.GetEventStreamResponse_BatchStarted{BatchStarted: &arkv1.BatchStartedEvent{
			Id: "", IntentIdHashes: []string{"not a hash"}, BatchExpiry: -1,
		}}},
		{Event: &arkv1.GetEventStreamResponse_BatchFinalized{BatchFinalized: &arkv1.BatchFinalizedEvent{Id: "", CommitmentTxid: "zz"}}},
	}
	out := make([]eventMsg, len(events))
	for i, ev := range events {
		out[i] = eventMsg{event: ev}
	}
	return out
}
