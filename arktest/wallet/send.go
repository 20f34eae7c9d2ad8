package wallet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/asset"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/operator"
)

// ErrOperator is returned when the operator's part of an off-chain transaction
// is not what was asked for.
var ErrOperator = errors.New("wallet: the operator changed the transaction")

// VTXOs reads the wallet's coins that are neither spent nor unrolled, at every
// script that Address was called for; expired and swept ones are among them.
func (w *Wallet) VTXOs(ctx context.Context) ([]ark.VTXO, error) {
	w.mu.Lock()
	var list [][]byte
	for s := range w.scripts {
		list = append(list, []byte(s))
	}
	w.mu.Unlock()
	slices.SortFunc(list, slices.Compare)
	vtxos, err := w.op.VTXOsByScript(ctx, list, operator.OnlyRenewable)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(vtxos, func(a, b ark.VTXO) int { return cmp.Compare(a.ExpiresAt, b.ExpiresAt) })
	return vtxos, nil
}

// Send pays sats to an Ark address off-chain (protocol section 7) and returns
// the new coin. The coins that expire first are spent first; change goes back to
// the script of the first of them.
func (w *Wallet) Send(ctx context.Context, to ark.Address, sats int64) (wire.OutPoint, error) {
	return w.pay(ctx, to, sats, nil)
}

func (w *Wallet) pay(ctx context.Context, to ark.Address, sats int64, packet asset.Packet) (wire.OutPoint, error) {
	p, err := w.op.Params(ctx)
	if err != nil {
		return wire.OutPoint{}, err
	}
	vtxos, err := w.VTXOs(ctx)
	if err != nil {
		return wire.OutPoint{}, err
	}
	var chosen []ark.VTXO
	var sum int64
	for _, v := range vtxos {
		// Coins with assets stay: they would be burned without a packet.
		if sum >= sats || v.Recoverable(w.now().Unix()) || len(v.Assets) > 0 {
			continue
		}
		chosen, sum = append(chosen, v), sum+v.Amount
	}
	if sum < sats || sats <= 0 {
		return wire.OutPoint{}, fmt.Errorf("%w: %d of %d", ErrFunds, sum, sats)
	}
	coins, err := w.coins(chosen)
	if err != nil {
		return wire.OutPoint{}, err
	}
	outs := []*wire.TxOut{payTo(to.Key, sats, p.Dust)}
	if sum > sats {
		outs = append(outs, payTo(coins[0].tree.OutputKey(), sum-sats, p.Dust))
	}
	if packet != nil {
		if outs, err = appendPacket(outs, packet); err != nil {
			return wire.OutPoint{}, err
		}
	}
	tx, err := newOffchain(coins, outs, p.CheckpointScript)
	if err != nil {
		return wire.OutPoint{}, err
	}
	return wire.OutPoint{Hash: tx.id}, w.submit(ctx, tx, p)
}

// payTo is an off-chain output; below dust it has the form that cannot be
// unrolled by itself (protocol section 3.5).
func payTo(key bip340.XOnly, sats, dust int64) *wire.TxOut {
	if sats < dust {
		return wire.NewTxOut(sats, ark.SubDust(key))
	}
	return wire.NewTxOut(sats, ark.PayToTaproot(key))
}

// offchain is an ark transaction with the checkpoints that it spends.
type offchain struct {
	id          chainhash.Hash
	tx          *psbt.Packet
	checkpoints map[chainhash.Hash]*psbt.Packet
	order       []chainhash.Hash // of checkpoints, as the inputs
}

// newOffchain builds one checkpoint for every coin and the transaction that
// spends them all (protocol section 7.1).
func newOffchain(coins []coin, outs []*wire.TxOut, checkpointScript []byte) (offchain, error) {
	o := offchain{checkpoints: map[chainhash.Hash]*psbt.Packet{}}
	var between []coin
	for _, c := range coins {
		leaf, _ := c.tree.LeafProof(collaborative)
		tree, err := script.NewTree([][]byte{checkpointScript, leaf})
		if err != nil {
			return offchain{}, fmt.Errorf("wallet: checkpoint: %w", err)
		}
		p, err := virtualTx([]coin{c}, []int{collaborative}, []*wire.TxOut{wire.NewTxOut(c.Amount, tree.PkScript())})
		if err != nil {
			return offchain{}, err
		}
		id := p.UnsignedTx.TxHash()
		o.checkpoints[id] = p
		o.order = append(o.order, id)
		between = append(between, coin{
			VTXO: ark.VTXO{Outpoint: wire.OutPoint{Hash: id}, Amount: c.Amount, Script: tree.PkScript()},
			tree: tree,
		})
	}
	leaves := make([]int, len(between))
	for i := range leaves {
		leaves[i] = 1 // after the operator's checkpoint leaf
	}
	var err error
	if o.tx, err = virtualTx(between, leaves, outs); err != nil {
		return offchain{}, err
	}
	o.id = o.tx.UnsignedTx.TxHash()
	return o, nil
}

func virtualTx(coins []coin, leaves []int, outs []*wire.TxOut) (*psbt.Packet, error) {
	tx := wire.NewMsgTx(forfeitVersion)
	for _, c := range coins {
		tx.AddTxIn(wire.NewTxIn(&c.Outpoint, nil, nil))
	}
	for _, out := range outs {
		tx.AddTxOut(out)
	}
	tx.AddTxOut(ark.AnchorOut())
	p, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	for i, c := range coins {
		in := &p.Inputs[i]
		in.WitnessUtxo = wire.NewTxOut(c.Amount, c.Script)
		if err := script.SetLeaf(in, c.tree, leaves[i]); err != nil {
			return nil, err
		}
		script.SetTapTree(in, c.tree)
	}
	return p, nil
}

// submit has the operator accept the transaction, and finalizes it.
func (w *Wallet) submit(ctx context.Context, tx offchain, p ark.Params) error {
	for i := range tx.tx.Inputs {
		if err := signInput(w.owner, tx.tx, i, txscript.SigHashDefault); err != nil {
			return err
		}
	}
	signed, err := tx.tx.B64Encode()
	if err != nil {
		return fmt.Errorf("wallet: ark transaction: %w", err)
	}
	unsigned := make([]string, len(tx.order))
	for i, id := range tx.order {
		if unsigned[i], err = tx.checkpoints[id].B64Encode(); err != nil {
			return fmt.Errorf("wallet: checkpoint: %w", err)
		}
	}
	answer, err := w.op.SubmitTx(ctx, signed, unsigned)
	if err != nil {
		return err
	}
	if answer.Txid != tx.id {
		return fmt.Errorf("%w: txid %s, not %s", ErrOperator, answer.Txid, tx.id)
	}
	if _, err := cosigned(answer.Tx, p); err != nil {
		return err
	}
	var final []string
	for _, b64 := range answer.Checkpoints {
		cp, err := cosigned(b64, p)
		if err != nil {
			return err
		}
		id := cp.UnsignedTx.TxHash()
		if tx.checkpoints[id] == nil {
			return fmt.Errorf("%w: checkpoint %s", ErrOperator, id)
		}
		delete(tx.checkpoints, id)
		if err := signInput(w.owner, cp, 0, txscript.SigHashDefault); err != nil {
			return err
		}
		if b64, err = cp.B64Encode(); err != nil {
			return fmt.Errorf("wallet: checkpoint: %w", err)
		}
		final = append(final, b64)
	}
	if len(tx.checkpoints) > 0 {
		return fmt.Errorf("%w: %d checkpoints missing", ErrOperator, len(tx.checkpoints))
	}
	return w.op.FinalizeTx(ctx, tx.id, final)
}

// cosigned parses what the operator signed, and verifies its signature on every
// input.
func cosigned(b64 string, p ark.Params) (*psbt.Packet, error) {
	tx, err := script.ParsePSBT(b64, script.OperatorLimits())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOperator, err)
	}
	outs := make([]*wire.TxOut, len(tx.Inputs))
	for i := range tx.Inputs {
		outs[i] = tx.Inputs[i].WitnessUtxo
	}
	h, err := script.NewSighasher(tx.UnsignedTx, outs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOperator, err)
	}
	r := script.NewReader()
	for i := range tx.Inputs {
		s, err := r.Spend(&tx.Inputs[i])
		if err == nil {
			err = r.Verify(h, i, s)
		}
		if err == nil && !s.Signed(p.SignerKey.XOnly()) {
			err = errors.New("the operator did not sign")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: input %d: %w", ErrOperator, i, err)
		}
	}
	return tx, nil
}
