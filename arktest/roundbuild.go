package arktest

import (
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/code"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
)

// keyPair is a private key with its public forms at hand.
type keyPair struct {
	priv *btcec.PrivateKey
	pub  *btcec.PublicKey
	hex  string // compressed
	x    [32]byte
}

func newKeyPair(priv *btcec.PrivateKey) (*keyPair, error) {
	if priv == nil {
		var err error
		if priv, err = btcec.NewPrivateKey(); err != nil {
			return nil, fmt.Errorf("new key: %w", err)
		}
	}
	pub := priv.PubKey()
	return &keyPair{priv, pub, hex.EncodeToString(pub.SerializeCompressed()), tapscript.XOnly(pub)}, nil
}

// leaves makes the VTXO tree's leaves, one per intent in order.
func (p *process) leaves(joined []*intent) ([]txtree.Leaf, error) {
	out := make([]txtree.Leaf, 0, len(joined))
	for _, in := range joined {
		var l txtree.Leaf
		for _, r := range in.receivers {
			if r.onchain {
				continue
			}
			if len(r.pkScript) != 34 { // arkd takes bytes 2 to 34 for the key, whatever stands before
				return nil, fmt.Errorf("failed to parse pubkey of receiver script %x", r.pkScript)
			}
			if _, err := schnorr.ParsePubKey(r.pkScript[2:]); err != nil {
				return nil, fmt.Errorf("failed to parse pubkey: %w", err)
			}
			l.Outputs = append(l.Outputs, &wire.TxOut{Value: r.amount, PkScript: append([]byte{0x51, 0x20}, r.pkScript[2:]...)})
		}
		if in.extension != nil {
			l.Outputs = append(l.Outputs, &wire.TxOut{PkScript: in.extension})
		}
		for _, c := range in.cosigners {
			raw, err := hex.DecodeString(c)
			if err != nil {
				return nil, fmt.Errorf("failed to decode cosigner pubkey: %w", err)
			}
			k, err := btcec.ParsePubKey(raw)
			if err != nil {
				return nil, fmt.Errorf("failed to parse cosigner pubkey: %w", err)
			}
			l.Cosigners = append(l.Cosigners, k)
		}
		l.Cosigners = append(l.Cosigners, p.key.pub)
		out = append(out, l)
	}
	return out, nil
}

// build makes the commitment transaction, the VTXO tree and the connectors.
func (p *process) build(r *round) error {
	leaves, err := p.leaves(r.joined)
	if err != nil {
		return err
	}
	if err := r.lies.leaves(p, r, &leaves); err != nil {
		return err
	}
	if err := p.sweep(r); err != nil {
		return err
	}
	var plan, connPlan *txtree.Plan
	var outs []*wire.TxOut
	if slices.ContainsFunc(r.joined, func(in *intent) bool { return !in.onlyOnchain() }) {
		if plan, err = txtree.NewPlan(leaves, txtree.VTXORadix, r.sweepRoot); err != nil {
			return err
		}
		r.lies.plan(p, r, plan)
		outs = append(outs, &wire.TxOut{Value: plan.Amount, PkScript: plan.Set.Script})
	}
	now := p.op.clock.Now()
	for _, in := range r.joined {
		for _, v := range in.inputs {
			if v.NeedsForfeit(now) {
				r.toForfeit = append(r.toForfeit, v)
			}
		}
		r.numBoard += len(in.boarding)
	}
	onchain := onchainOutputs(r.joined)
	if n := len(r.toForfeit); n > 0 {
		if connPlan, err = p.connectorPlan(r, n); err != nil {
			return err
		}
		if len(outs) == 0 { // connectors are always output 1
			if len(onchain) == 0 {
				return fmt.Errorf("onchain outputs required")
			}
			outs, onchain = append(outs, onchain[0]), onchain[1:]
		}
		outs = append(outs, &wire.TxOut{Value: connPlan.Amount, PkScript: connPlan.Set.Script})
	}
	outs = append(outs, onchain...)
	r.lies.commitmentOutputs(p, r, outs)
	if err := p.fundCommitment(r, outs); err != nil {
		return err
	}
	return p.buildTrees(r, plan, connPlan)
}

// sweep computes the sweep leaf of the round's tree.
func (p *process) sweep(r *round) error {
	key, expiry := r.lies.sweep(p.op.forfeitKey().pub, tapscript.NewDelay(uint32(r.announcedExpiry())))
	r.expiry = expiry
	leaf, err := txtree.SweepLeaf(key, expiry)
	if err != nil {
		return err
	}
	root := tapscript.LeafHash(leaf)
	r.sweepLeaf, r.sweepRoot = leaf, root[:]
	return nil
}

func (p *process) connectorPlan(r *round, n int) (*txtree.Plan, error) {
	key, err := newKeyPair(nil)
	if err != nil {
		return nil, err
	}
	r.connKey = key
	even, err := btcec.ParsePubKey(append([]byte{2}, key.x[:]...)) // the script's key has even y
	if err != nil {
		return nil, fmt.Errorf("connector key: %w", err)
	}
	script := tapscript.P2TR(even)
	leaves := make([]txtree.Leaf, n)
	for i := range leaves {
		leaves[i] = txtree.Leaf{
			Outputs:   []*wire.TxOut{{Value: r.lies.connectorValue(r.set.Dust), PkScript: script}},
			Cosigners: []*btcec.PublicKey{even},
		}
	}
	return txtree.NewPlan(leaves, txtree.ConnectorRadix, nil)
}

func onchainOutputs(joined []*intent) (outs []*wire.TxOut) {
	for _, in := range joined {
		for _, r := range in.receivers {
			if r.onchain {
				outs = append(outs, &wire.TxOut{Value: r.amount, PkScript: r.pkScript})
			}
		}
	}
	return outs
}

// feeOf is what the operator pays for a commitment of this size: 1 sat/vB.
func feeOf(wallets, boarding, outs int) int64 {
	return int64(11 + 58*wallets + 110*boarding + 43*(outs+1))
}

// fundCommitment selects the operator's coins and assembles the unsigned
// commitment: wallet inputs, boarding inputs; outputs, change.
func (p *process) fundCommitment(r *round, outs []*wire.TxOut) error {
	target := feeOf(2, r.numBoard, len(outs))
	for _, o := range outs {
		target += o.Value
	}
	for _, in := range r.joined {
		for _, b := range in.boarding {
			target -= b.amount
		}
	}
	coins, err := p.op.wallet.pick(max(target, 1))
	if err != nil {
		return err
	}
	r.coins = coins
	tx := wire.NewMsgTx(2)
	var prevouts []*wire.TxOut
	change := -target
	for _, c := range coins {
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: c.Outpoint, Sequence: wire.MaxTxInSequenceNum})
		prevouts = append(prevouts, &c.Out)
		change += c.Out.Value
	}
	for _, in := range r.joined {
		for _, b := range in.boarding {
			tx.AddTxIn(&wire.TxIn{PreviousOutPoint: b.outpoint, Sequence: wire.MaxTxInSequenceNum})
			prevouts = append(prevouts, &wire.TxOut{Value: b.amount, PkScript: b.pkScript})
		}
	}
	for _, o := range outs {
		tx.AddTxOut(o)
	}
	if change > r.set.Dust {
		tx.AddTxOut(&wire.TxOut{Value: change, PkScript: p.op.wallet.script})
	}
	packet, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		return fmt.Errorf("commitment: %w", err)
	}
	for i, o := range prevouts {
		packet.Inputs[i].WitnessUtxo = o
	}
	encoded, err := packet.B64Encode()
	if err != nil {
		return fmt.Errorf("commitment: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r.commitment, r.encoded, r.txid = packet, encoded, tx.TxHash()
	return nil
}

// buildTrees hangs both trees under the commitment and maps connectors to the
// VTXOs in intent order.
func (p *process) buildTrees(r *round, plan, connPlan *txtree.Plan) error {
	tx := r.commitment.UnsignedTx
	if plan != nil {
		tree, err := plan.Build(r.lies.root(r), tx.TxOut[0], &r.expiry)
		if err != nil {
			return err
		}
		if err := r.lies.tree(r, tree, r.expiry); err != nil {
			return err
		}
		r.tree = tree
	}
	if connPlan == nil {
		return nil
	}
	conns, err := connPlan.Build(r.lies.connectorRoot(r), tx.TxOut[1], nil)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r.connectors = conns
	r.connFor = map[wire.OutPoint]wire.OutPoint{}
	r.forfeits = map[wire.OutPoint]forfeit{}
	for i, leaf := range conns.Leaves() {
		r.connFor[wire.OutPoint{Hash: leaf.Txid}] = r.toForfeit[i].Outpoint
	}
	for _, v := range r.toForfeit {
		r.forfeits[v.Outpoint] = forfeit{}
	}
	return nil
}

// collectCosigners lists the clients' distinct keys in order of appearance.
func (r *round) collectCosigners() (list []string) {
	r.cosigners = map[string]bool{}
	for _, in := range r.joined {
		for _, c := range in.cosigners {
			if !r.cosigners[c] {
				r.cosigners[c] = true
				list = append(list, c)
			}
		}
	}
	return list
}

// internalf is a round's failure by the operator's own doing.
func internalf(format string, args ...any) error { return code.Internal.New(nil, format, args...) }
