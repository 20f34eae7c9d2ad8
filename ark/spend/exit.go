package spend

import (
	"bytes"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/asset"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/vigilpb"
)

// exit reads an on-chain transaction that spends nothing but coins of the wallet,
// each on the group's own leaf after its delay: unrolled VTXOs and boarding
// outputs. All that it pays counts as leaving, the miners' fee too.
func (p *parser) exit(doc *vigilpb.ExitDocument) (*Spend, error) {
	packet, err := p.reader.ParsePSBT(doc.GetPsbt(), script.StrangerLimits())
	if err != nil {
		return nil, invalid("the transaction: %w", err)
	}
	tx := packet.UnsignedTx
	switch {
	case tx.Version < 2: // earlier ones have no relative locks
		return nil, invalid("an exit of version %d", tx.Version)
	case tx.LockTime != 0:
		return nil, invalid("an exit with locktime %d", tx.LockTime)
	case len(tx.TxIn) == 0, len(tx.TxOut) == 0:
		return nil, invalid("an exit without inputs or outputs")
	}
	s := &Spend{Kind: Exit, Txid: tx.TxHash(), Assets: true}
	for i, txIn := range tx.TxIn {
		own, in, err := p.coin(txIn.PreviousOutPoint, packet.Inputs[i].WitnessUtxo)
		if err != nil {
			return nil, err
		}
		spent, err := p.reader.Spend(&packet.Inputs[i])
		if err != nil {
			return nil, invalid("input %d: %w", i, err)
		}
		if own.tree.Index(spent.Leaf) != descriptor.LeafExit {
			return nil, vigil.Errorf(vigil.CodeInputNotOurs, "input %d is not on the group's exit leaf", i)
		}
		if err := onlyDefault(i, spent.Signatures); err != nil {
			return nil, err
		}
		delay := own.desc.ExitDelay
		if in.Script == BoardingScript {
			delay = own.desc.BoardingDelay
		}
		if txIn.Sequence != delay.Sequence() {
			return nil, vigil.Errorf(vigil.CodeExitLeafSequence, "input %d has the sequence %#x, its leaf wants %#x", i, txIn.Sequence, delay.Sequence())
		}
		if in.Amount < 0 || in.Amount > btcutil.MaxSatoshi-s.Fee {
			return nil, invalid("input %d holds %d", i, in.Amount)
		}
		s.Fee += in.Amount
		s.Inputs = append(s.Inputs, in)
		// What an exit spends is on chain, where assets end.
		if v, known := p.known[in.Outpoint]; in.Script != BoardingScript && (!known || len(v.Assets) > 0) {
			s.Assets = false
		}
	}
	if err := p.exitOutputs(s, tx); err != nil {
		return nil, err
	}
	if err := p.sighashes(s, packet, 0); err != nil {
		return nil, coded(err, vigil.CodeDocumentInvalid)
	}
	s.Key = s.Sighashes[0].Message
	return s, nil
}

func (p *parser) exitOutputs(s *Spend, tx *wire.MsgTx) error {
	for i, out := range tx.TxOut {
		if out.Value < 0 || out.Value > s.Fee {
			return invalid("output %d pays %d, more than is left of the inputs", i, out.Value)
		}
		if asset.IsExtension(out.PkScript) {
			return invalid("output %d is an extension: there are no assets on chain", i)
		}
		s.Fee -= out.Value
		s.Onchain = append(s.Onchain, Output{out.Value, bytes.Clone(out.PkScript)})
	}
	return nil
}
