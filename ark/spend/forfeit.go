package spend

import (
	"bytes"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/vigilpb"
)

// delegateForfeit reads a forfeit signed ahead, with ALL|ANYONECANPAY: on the
// delegate leaf, or, as a bearer instrument, on the leaf of group and operator.
func (p *parser) delegateForfeit(doc *vigilpb.DelegateForfeitDocument) (*Spend, error) {
	packet, err := p.reader.ParsePSBT(doc.GetPsbt(), script.StrangerLimits())
	if err != nil {
		return nil, coded(err, vigil.CodeForfeitInvalid)
	}
	tx := packet.UnsignedTx
	if len(tx.TxIn) != 1 {
		return nil, vigil.Errorf(vigil.CodeForfeitInvalid, "the forfeit has %d inputs", len(tx.TxIn))
	}
	own, in, err := p.coin(tx.TxIn[0].PreviousOutPoint, packet.Inputs[0].WitnessUtxo)
	if err != nil {
		return nil, err
	}
	spent, err := p.reader.Spend(&packet.Inputs[0])
	if err != nil {
		return nil, coded(err, vigil.CodeForfeitInvalid)
	}
	s := &Spend{Kind: DelegateForfeit, Txid: tx.TxHash(), Inputs: []Input{in}, Assets: true}
	leaf := own.tree.Index(spent.Leaf)
	switch {
	case own.kind == BoardingScript:
		return nil, vigil.Errorf(vigil.CodeInputNotDelegable, "%s is an on-chain coin", in.Outpoint)
	case own.kind == VTXOScript && leaf == descriptor.LeafDelegate:
	case leaf == descriptor.LeafForfeit:
		s.Kind = BearerForfeit
		// With the coin go its assets.
		v, known := p.known[in.Outpoint]
		s.Assets = known && len(v.Assets) == 0
	default:
		return nil, vigil.Errorf(vigil.CodeInputNotOurs, "a forfeit of %s on leaf %d", in.Outpoint, leaf)
	}
	want, msg, err := forfeit.Unsigned(forfeit.Terms{
		Outpoint: in.Outpoint, Amount: in.Amount, Tree: own.tree, Dust: p.Params.Dust, Script: p.Params.ForfeitScript,
	}, leaf)
	if err != nil {
		return nil, coded(err, vigil.CodeForfeitInvalid)
	}
	if want.TxHash() != s.Txid {
		return nil, vigil.Errorf(vigil.CodeForfeitInvalid, "it is not the forfeit of %s that the operator asks for: version 3, locktime 0, its %d and the dust of %d to the forfeit script, and the anchor", in.Outpoint, in.Amount, p.Params.Dust)
	}
	s.Sighashes = []Sighash{{Leaf: leaf, LeafHash: script.LeafHash(spent.Leaf), Type: byte(forfeit.OwnerSighash), Message: msg}}
	s.Key = msg
	return s, nil
}

// forfeits reads the forfeits of one batch: what they get is verified before what
// they give is read. The sighashes are in the document's order.
func (p *parser) forfeits(doc *vigilpb.ForfeitDocument) (*Spend, error) {
	b, s, err := p.readBatch(doc.GetBatch())
	if err != nil {
		return nil, err
	}
	if n := len(doc.GetForfeits()); n == 0 || n > len(s.Inputs) {
		return nil, vigil.Errorf(vigil.CodeForfeitInvalid, "%d forfeits for %d coins", n, len(s.Inputs))
	}
	connectors, err := b.connectors(doc.GetBatch().GetConnectors())
	if err != nil {
		return nil, err
	}
	s.Kind = Forfeits
	given, used := map[wire.OutPoint]bool{}, map[wire.OutPoint]bool{}
	for i, b64 := range doc.GetForfeits() {
		packet, err := p.reader.ParsePSBT(b64, script.StrangerLimits())
		if err != nil {
			return nil, vigil.Errorf(vigil.CodeForfeitInvalid, "forfeit %d: %w", i, err)
		}
		if len(packet.UnsignedTx.TxIn) != 2 {
			return nil, vigil.Errorf(vigil.CodeForfeitInvalid, "forfeit %d has %d inputs", i, len(packet.UnsignedTx.TxIn))
		}
		coin, connector := packet.UnsignedTx.TxIn[0].PreviousOutPoint, packet.UnsignedTx.TxIn[1].PreviousOutPoint
		switch {
		case given[coin]:
			return nil, vigil.Errorf(vigil.CodeForfeitDuplicate, "two forfeits of %s", coin)
		case used[connector]:
			return nil, vigil.Errorf(vigil.CodeForfeitInvalid, "two forfeits with the connector %s", connector)
		case connectors[connector] == nil:
			return nil, vigil.Errorf(vigil.CodeForfeitInvalid, "forfeit %d: %s is no connector of %s", i, connector, b.txid)
		case b.spends(coin) >= 0:
			return nil, vigil.Errorf(vigil.CodeForfeitUnexpected, "%s is spent by the commitment transaction itself", coin)
		}
		given[coin], used[connector] = true, true
		if err := p.liveForfeit(s, i, packet, connectors[connector]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// liveForfeit checks one forfeit of a verified batch: the coin of the intent at
// input 0, on the leaf of group and operator, its connector at input 1, and both
// amounts to the operator's forfeit script (protocol section 5.7).
func (p *parser) liveForfeit(s *Spend, n int, packet *psbt.Packet, connector *wire.TxOut) error {
	tx := packet.UnsignedTx
	own, in, err := p.forfeitable(&packet.Inputs[0], tx.TxIn[0].PreviousOutPoint)
	if err != nil {
		return err
	}
	proven := false
	for _, of := range s.Inputs {
		proven = proven || of == in
	}
	if !proven {
		return vigil.Errorf(vigil.CodeForfeitUnexpected, "the intent does not spend %s", in.Outpoint)
	}
	if in.Script == BoardingScript {
		return vigil.Errorf(vigil.CodeForfeitUnexpected, "%s is an on-chain coin", in.Outpoint)
	}
	want := wire.NewMsgTx(virtual)
	for _, i := range tx.TxIn {
		want.AddTxIn(wire.NewTxIn(&i.PreviousOutPoint, nil, nil))
	}
	want.AddTxOut(wire.NewTxOut(in.Amount+connector.Value, p.Params.ForfeitScript))
	want.AddTxOut(ark.AnchorOut())
	if want.TxHash() != tx.TxHash() {
		return vigil.Errorf(vigil.CodeForfeitInvalid, "forfeit %d is not %d and its connector's %d to the operator's forfeit script", n, in.Amount, connector.Value)
	}
	if shown := packet.Inputs[1].WitnessUtxo; shown == nil || shown.Value != connector.Value || !bytes.Equal(shown.PkScript, connector.PkScript) {
		return vigil.Errorf(vigil.CodeForfeitInvalid, "forfeit %d shows another connector than the commitment's", n)
	}
	h, err := script.NewSighasher(want, []*wire.TxOut{packet.Inputs[0].WitnessUtxo, connector})
	if err != nil {
		return coded(err, vigil.CodeForfeitInvalid)
	}
	leaf, _ := own.tree.LeafProof(descriptor.LeafForfeit)
	return s.sign(h, n, 0, descriptor.LeafForfeit, leaf, txscript.SigHashDefault)
}

// boarding reads which inputs of a commitment transaction the group signs, once
// what they get is verified: on-chain coins that the intent proves.
func (p *parser) boarding(doc *vigilpb.BoardingDocument) (*Spend, error) {
	b, s, err := p.readBatch(doc.GetBatch())
	if err != nil {
		return nil, err
	}
	s.Kind = Boarding
	ins := b.commitment.UnsignedTx.TxIn
	outs := make([]*wire.TxOut, len(ins))
	for i := range ins {
		outs[i] = b.commitment.Inputs[i].WitnessUtxo
	}
	h, err := script.NewSighasher(b.commitment.UnsignedTx, outs)
	if err != nil {
		return nil, invalid("the commitment transaction: %w", err)
	}
	last := -1
	for _, n := range doc.GetInputs() {
		i := int(n)
		if i <= last || i >= len(ins) {
			return nil, invalid("input %d of the commitment transaction, after %d of %d", i, last, len(ins))
		}
		last = i
		own, in, err := p.coin(ins[i].PreviousOutPoint, outs[i])
		if err != nil {
			return nil, err
		}
		proven := false
		for _, of := range s.Inputs {
			proven = proven || of == in
		}
		if !proven {
			return nil, invalid("the intent does not prove input %d of the commitment transaction", i)
		}
		if seq := ins[i].Sequence; seq != wire.MaxTxInSequenceNum {
			return nil, invalid("input %d of the commitment transaction has the sequence %#x", i, seq)
		}
		leaf, _ := own.tree.LeafProof(descriptor.LeafForfeit)
		if err := s.sign(h, 0, i, descriptor.LeafForfeit, leaf, txscript.SigHashDefault); err != nil {
			return nil, coded(err, vigil.CodeDocumentInvalid)
		}
	}
	if len(s.Sighashes) == 0 {
		return nil, invalid("no input of the commitment transaction is named")
	}
	return s, nil
}

// connectors reads the connectors that a document shows.
func (b *batchView) connectors(nodes []*vigilpb.TreeNode) (map[wire.OutPoint]*wire.TxOut, error) {
	outs := b.commitment.UnsignedTx.TxOut
	if len(outs) <= tree.ConnectorOutput {
		return nil, invalid("the commitment transaction has no connectors")
	}
	parsed, _, err := parseNodes(nodes, maxConnectors)
	if err != nil {
		return nil, err
	}
	root := wire.OutPoint{Hash: b.txid, Index: tree.ConnectorOutput}
	t, err := tree.AssembleConnectors(parsed, root, outs[tree.ConnectorOutput])
	if err != nil {
		return nil, invalid("connectors: %w", err)
	}
	found := map[wire.OutPoint]*wire.TxOut{}
	for _, n := range t.Nodes() {
		if !n.Leaf() {
			continue
		}
		out := n.Tx.TxOut[0]
		if out.Value != b.dust {
			return nil, invalid("connector %v of %d satoshis, not the dust of %d", n.Txid, out.Value, b.dust)
		}
		found[wire.OutPoint{Hash: n.Txid}] = out
	}
	return found, nil
}
