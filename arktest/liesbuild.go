package arktest

import (
	"bytes"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/google/uuid"

	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
	"github.com/vigil-ark/vigil/arktest/lie"
)

// vanish takes targets out of what was popped, without a word.
func (l lieSet) vanish(kept []*intent) (listed, gone []*intent) {
	at := l.aimed(lie.Unlisted, kept)
	for i, in := range kept {
		if slices.Contains(at, i) {
			gone = append(gone, in)
		} else {
			listed = append(listed, in)
		}
	}
	return listed, gone
}

// announcedExpiry is the batch expiry that BatchStarted tells.
func (r *round) announcedExpiry() int64 {
	switch {
	case r.lies.has(lie.ExpiryShort):
		return 512
	case r.lies.has(lie.ExpiryBlocks):
		return 10
	}
	return int64(r.set.treeExpiry().Value)
}

// sweep returns the key and delay of the tree's sweep leaf.
func (l lieSet) sweep(key *btcec.PublicKey, d tapscript.Delay) (*btcec.PublicKey, tapscript.Delay) {
	if l.has(lie.SweepKey) {
		if k, err := newKeyPair(nil); err == nil {
			key = k.pub
		}
	}
	if l.has(lie.SweepExpiry) {
		d = tapscript.NewDelay(512)
	}
	return key, d
}

// strangers adds intents of the operator's own that list a target's key.
func (l lieSet) strangers(p *process, r *round) error {
	for _, name := range []lie.Name{lie.StrangerCompletes, lie.StrangerStalls, lie.StrangerKeeps} {
		at, ok := l.first(name, r.joined)
		if !ok || len(r.joined[at].cosigners) == 0 {
			continue
		}
		in, err := p.stranger(name, r.joined[at].cosigners[0])
		if err != nil {
			return err
		}
		r.joined = append(r.joined, in)
	}
	return nil
}

func (p *process) stranger(name lie.Name, key string) (*intent, error) {
	own, err := newKeyPair(nil)
	if err != nil {
		return nil, err
	}
	now := p.now()
	v := VTXO{
		Outpoint: wire.OutPoint{Hash: randomHash()}, Amount: 5000, Key: own.x, Commitments: []string{randomHash().String()},
		Root: randomHash().String(), CreatedAt: now.Unix(), ExpiresAt: now.Unix() + 1000, Swept: name != lie.StrangerKeeps,
	}
	p.op.store.addVTXOs(now, v)
	in := &intent{
		id: uuid.NewString(), proofTxid: randomHash().String(), inputs: []VTXO{v}, cosigners: []string{key},
		receivers: []receiver{{amount: v.Amount, pkScript: v.PkScript()}},
	}
	if name == lie.StrangerStalls {
		in.cosigners = append(in.cosigners, own.hex)
	}
	return in, nil
}

// leaves changes the leaves before the tree is planned.
func (l lieSet) leaves(p *process, r *round, leaves *[]txtree.Leaf) error {
	list := *leaves
	own := p.op.wallet.script
	for _, i := range l.aimed(lie.LeafAmount, r.joined) {
		list[i].Outputs[0].Value--
	}
	for _, i := range l.aimed(lie.LeafScript, r.joined) {
		list[i].Outputs[0].PkScript = own
	}
	for _, i := range l.aimed(lie.LeafExtra, r.joined) {
		list[i].Outputs = append(list[i].Outputs, &wire.TxOut{Value: r.set.Dust, PkScript: own})
	}
	for _, i := range l.aimed(lie.LeafOrder, r.joined) {
		slices.Reverse(list[i].Outputs)
	}
	for _, i := range l.aimed(lie.LeafNoOperator, r.joined) {
		list[i].Cosigners = list[i].Cosigners[:len(list[i].Cosigners)-1]
	}
	for _, i := range l.aimed(lie.LeafStranger, r.joined) {
		key, err := newKeyPair(nil)
		if err != nil {
			return err
		}
		r.puppets = append(r.puppets, key)
		list[i].Cosigners = append(list[i].Cosigners, key.pub)
	}
	drop := l.aimed(lie.LeafMissing, r.joined)
	if shared := l.aimed(lie.LeafShared, r.joined); len(shared) > 1 {
		drop = append(drop, shared[1:]...)
	}
	if len(drop) == 0 {
		return nil
	}
	kept := list[:0:0]
	for i, leaf := range list {
		if !slices.Contains(drop, i) {
			kept = append(kept, leaf)
		}
	}
	if len(kept) == 0 { // a tree needs a leaf: the operator's own
		kept = append(kept, txtree.Leaf{Outputs: []*wire.TxOut{{Value: 1000, PkScript: own}}, Cosigners: []*btcec.PublicKey{p.key.pub}})
	}
	*leaves = kept
	return nil
}

// plan changes the shape of the tree before it is built.
func (l lieSet) plan(p *process, r *round, plan *txtree.Plan) {
	leaves := plan.Leaves()
	each := func(name lie.Name, f func(leaf *txtree.Plan)) {
		for _, i := range l.aimed(name, r.joined) {
			if i < len(leaves) {
				f(leaves[i])
			}
		}
	}
	warp := func(name lie.Name, f func(*wire.MsgTx)) {
		each(name, func(leaf *txtree.Plan) { leaf.Warp = f })
	}
	each(lie.NodeAmount, func(leaf *txtree.Plan) { leaf.Amount-- })
	each(lie.NodeScript, func(leaf *txtree.Plan) { leaf.Set = leaf.Set.WithScript(p.op.wallet.script) })
	each(lie.NodeExtra, func(leaf *txtree.Plan) {
		if parent := plan.Parent(leaf); parent != nil {
			parent.Extra = append(parent.Extra, &wire.TxOut{Value: 1000, PkScript: p.op.wallet.script})
		}
	})
	warp(lie.NodeVersion, func(tx *wire.MsgTx) { tx.Version = 2 })
	warp(lie.NodeLocktime, func(tx *wire.MsgTx) { tx.LockTime = 499_999_999 })
	warp(lie.NodeSequence, func(tx *wire.MsgTx) { tx.TxIn[0].Sequence = 144 })
	warp(lie.NodeNoAnchor, func(tx *wire.MsgTx) { tx.TxOut = tx.TxOut[:len(tx.TxOut)-1] })
}

// commitmentOutputs changes the commitment's outputs before it is funded.
func (l lieSet) commitmentOutputs(p *process, r *round, outs []*wire.TxOut) {
	own := p.op.wallet.script
	if l.has(lie.BatchScript) {
		outs[0].PkScript = own
	}
	if l.has(lie.BatchValue) {
		outs[0].Value--
	}
	if l.has(lie.ConnectorOutput) && len(r.toForfeit) > 0 {
		outs[1].PkScript = own
	}
	for _, i := range l.aimed(lie.CommitmentOnward, r.joined) {
		for _, rec := range r.joined[i].receivers {
			for _, o := range outs {
				if rec.onchain && o.Value == rec.amount && bytes.Equal(o.PkScript, rec.pkScript) {
					o.PkScript = own
				}
			}
		}
	}
}

// root is the outpoint that the VTXO tree spends.
func (l lieSet) root(r *round) wire.OutPoint {
	at := wire.OutPoint{Hash: r.txid}
	if l.has(lie.RootForeign) {
		at.Hash = randomHash()
	}
	if l.has(lie.RootIndex) {
		at.Index = 1
	}
	return at
}

// tree changes a built tree's PSBT fields.
func (l lieSet) tree(r *round, tree *txtree.Node, expiry tapscript.Delay) error {
	if l.has(lie.ExpiryField) {
		other := tapscript.NewDelay(uint32(expiry.Value) + 512)
		for _, n := range tree.Nodes() {
			if err := n.Repack(n.Set.Keys, &other); err != nil {
				return err
			}
		}
	}
	leaves := tree.Leaves()
	for _, i := range l.aimed(lie.CosignerField, r.joined) {
		key, err := newKeyPair(nil)
		if err != nil {
			return err
		}
		if i < len(leaves) {
			keys := slices.Clone(leaves[i].Set.Keys)
			keys[len(keys)-1] = key.pub
			if err := leaves[i].Repack(keys, &expiry); err != nil {
				return err
			}
		}
	}
	return nil
}

// connectorValue is what a connector is worth.
func (l lieSet) connectorValue(dust int64) int64 {
	if l.has(lie.ConnectorValue) {
		return dust + 1
	}
	return dust
}

// connectorRoot is the outpoint that the connector tree spends.
func (l lieSet) connectorRoot(r *round) wire.OutPoint {
	at := wire.OutPoint{Hash: r.txid, Index: 1}
	if l.has(lie.ConnectorForeign) {
		at.Hash = randomHash()
	}
	if l.has(lie.ConnectorIndex) {
		at.Index = 0
	}
	return at
}

// overwritten replaces a target's nonces as a stranger can: nobody asks who
// submits them.
func (l lieSet) overwritten(r *round, key string, n txtree.Nonces) txtree.Nonces {
	at, ok := l.first(lie.NonceOverwritten, r.joined)
	if !ok || !slices.Contains(r.joined[at].cosigners, key) {
		return n
	}
	out := txtree.Nonces{}
	for id := range n {
		out[id] = randomNonce()
	}
	return out
}
