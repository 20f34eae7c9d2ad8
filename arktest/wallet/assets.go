package wallet

import (
	"bytes"
	"context"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/asset"
)

// withAssets appends the extension output that carries every unit of the coins'
// assets to the first of outs that pays the destination. Groups stand in the
// order in which the coins name their assets, as the stock wallet writes them.
func withAssets(coins []coin, outs []*wire.TxOut, destination []byte) ([]*wire.TxOut, error) {
	to := slices.IndexFunc(outs, func(o *wire.TxOut) bool { return bytes.Equal(o.PkScript, destination) })
	var packet asset.Packet
	for i, c := range coins {
		held, err := asset.HoldingsOf(c.VTXO)
		if err != nil {
			return nil, err
		}
		for _, h := range held {
			at := slices.IndexFunc(packet, func(g asset.Group) bool { return *g.ID == h.ID })
			if at < 0 {
				at = len(packet)
				packet = append(packet, asset.Group{ID: &h.ID, Outputs: []asset.Output{{Vout: uint16(to)}}})
			}
			g := &packet[at]
			// Input 0 of a proof is the message.
			g.Inputs = append(g.Inputs, asset.Input{Vin: uint16(i + 1), Amount: h.Amount})
			g.Outputs[0].Amount += h.Amount
		}
	}
	if len(packet) == 0 {
		return outs, nil
	}
	return appendPacket(outs, packet)
}

// leafOutputs are a proof's outputs as they stand in the batch's leaf, where the
// operator has the assets come from the proof as a whole.
func leafOutputs(outs []*wire.TxOut, proof chainhash.Hash) ([]*wire.TxOut, error) {
	outs = slices.Clone(outs)
	for i, o := range outs {
		if !asset.IsExtension(o.PkScript) {
			continue
		}
		s, err := asset.LeafScript(o.PkScript, proof)
		if err != nil {
			return nil, err
		}
		outs[i] = wire.NewTxOut(o.Value, s)
	}
	return outs, nil
}

func appendPacket(outs []*wire.TxOut, packet asset.Packet) ([]*wire.TxOut, error) {
	if err := packet.Validate(); err != nil {
		return nil, err
	}
	s, err := asset.Extension{{Type: asset.TypeAsset, Data: packet.Encode()}}.Script()
	if err != nil {
		return nil, err
	}
	return append(outs, wire.NewTxOut(0, s)), nil
}

// Issue pays sats to an Ark address and issues units of a new asset on that
// coin. The asset's name is the transaction's, group 0.
func (w *Wallet) Issue(ctx context.Context, to ark.Address, sats int64, units uint64) (wire.OutPoint, asset.ID, error) {
	op, err := w.pay(ctx, to, sats, asset.Packet{{Outputs: []asset.Output{{Vout: 0, Amount: units}}}})
	return op, asset.ID{Txid: op.Hash}, err
}
