package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/esplora"
)

// purse is the coins at the fee address, each used once.
type purse struct {
	coins []esplora.UTXO
	sent  map[chainhash.Hash]bool
	due   bool    // a coin, such as the change of a child, comes with a block
	rate  float64 // satoshis per virtual byte
	tip   int64   // height
	tree  script.Tree
	key   *bip340.Key
}

func (l *Leave) purse(ctx context.Context) (*purse, error) {
	at, err := l.FeeAddress()
	if err != nil {
		return nil, err
	}
	utxos, err := l.chain.UTXOs(ctx, at)
	if err != nil {
		return nil, err
	}
	p := &purse{sent: map[chainhash.Hash]bool{}, tree: l.feeTree, key: l.fees}
	for _, u := range utxos {
		if u.Confirmed {
			p.coins = append(p.coins, u)
		}
		p.due = p.due || !u.Confirmed
	}
	// The largest first: one coin pays for a whole exit, its change for the next
	// step.
	slices.SortFunc(p.coins, func(a, b esplora.UTXO) int { return int(b.Amount - a.Amount) })
	if p.tip, err = l.chain.Tip(ctx); err != nil {
		return nil, err
	}
	p.rate, err = l.chain.FeeRate(ctx, feeTarget)
	return p, err
}

// next is the coin that pays for the next step.
func (p *purse) next() (esplora.UTXO, error) {
	switch {
	case len(p.coins) > 0:
		return p.coins[0], nil
	case p.due:
		return esplora.UTXO{}, errFeeDue
	}
	return esplora.UTXO{}, ErrFeeCoin
}

// spent takes a coin out, and expects its change.
func (p *purse) spent(coin esplora.UTXO) {
	p.coins, p.due = slices.DeleteFunc(p.coins, func(u esplora.UTXO) bool { return u.Outpoint == coin.Outpoint }), true
}

// fair is what a parent and its child of so many virtual bytes should pay.
func (p *purse) fair(parent *wire.MsgTx, child int64) int64 {
	return int64(p.rate*float64(vsize(parent)+child)) + 1
}

// child spends the anchor of a transaction that pays no fee, and a fee coin, which
// pays for both what fee says for the child's size (0: errPaid); the change goes back to the fee
// address. Its version makes the two a package that nodes relay together. Its lock
// time is the height at which it was made: that is how a later call, perhaps from
// another machine, knows for how long it has waited.
func (p *purse) child(parent *wire.MsgTx, coin esplora.UTXO, fee func(size int64) int64) (*wire.MsgTx, error) {
	anchor, err := anchorOf(parent)
	if err != nil {
		return nil, err
	}
	tx := wire.NewMsgTx(arkVersion)
	tx.LockTime = uint32(p.tip)
	tx.AddTxIn(wire.NewTxIn(&coin.Outpoint, nil, nil))
	tx.TxIn[0].Sequence = wire.MaxTxInSequenceNum - 2 // may be replaced (BIP-125)
	tx.AddTxIn(wire.NewTxIn(&anchor, nil, nil))
	tx.AddTxOut(wire.NewTxOut(coin.Amount, p.tree.PkScript()))
	packet, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		return nil, fmt.Errorf("client: child: %w", err)
	}
	packet.Inputs[0].WitnessUtxo = wire.NewTxOut(coin.Amount, p.tree.PkScript())
	packet.Inputs[1].WitnessUtxo = ark.AnchorOut()
	if err := script.SetLeaf(&packet.Inputs[0], p.tree, 0); err != nil {
		return nil, err
	}
	signed, err := p.signChild(packet)
	if err != nil {
		return nil, err
	}
	pays := fee(vsize(signed))
	if pays == 0 {
		return nil, errPaid
	}
	if packet.UnsignedTx.TxOut[0].Value = coin.Amount - pays; coin.Amount-pays < minChange {
		return nil, fmt.Errorf("%w: %d sats are needed and %d are there", ErrFeeCoin, pays+minChange, coin.Amount)
	}
	return p.signChild(packet)
}

func anchorOf(tx *wire.MsgTx) (wire.OutPoint, error) {
	at := slices.IndexFunc(tx.TxOut, ark.IsAnchor)
	if at < 0 {
		return wire.OutPoint{}, fmt.Errorf("%w: %s has no anchor", ErrExitData, tx.TxHash())
	}
	return wire.OutPoint{Hash: tx.TxHash(), Index: uint32(at)}, nil
}

func (p *purse) signChild(packet *psbt.Packet) (*wire.MsgTx, error) {
	jobs, err := jobsOf(packet, txscript.SigHashDefault, 0)
	if err != nil {
		return nil, err
	}
	if err := (keySigner{p.key}).sign(context.Background(), &document{jobs: jobs}); err != nil { // nothing is waited for
		return nil, err
	}
	// The anchor takes no witness.
	leaf := &psbt.Packet{UnsignedTx: packet.UnsignedTx.Copy(), Inputs: packet.Inputs[:1]}
	return finalTx(leaf)
}

func vsize(tx *wire.MsgTx) int64 { return (weight(tx) + 3) / 4 }

func weight(tx *wire.MsgTx) int64 {
	return int64(tx.SerializeSizeStripped()*3 + tx.SerializeSize())
}

// How a child that waits is outbid.
const (
	// incrementalRate is what nodes want of a replacement on top of all that it
	// replaces, in satoshis per virtual byte of its own (BIP-125).
	incrementalRate = 1
	// mostOver bounds what a child pays beyond the estimate, however long it waits:
	// a chain's API that holds blocks back may not burn the fee coins.
	mostOver = 4
)

// errPaid says that there is no reason to outbid a child.
var errPaid = errors.New("client: the child that waits pays enough")

// outbid replaces the child over the anchor of a transaction that is in the mempool,
// whosever it is, when fees have risen above what the two pay, or when the child is
// of ours and has waited for as many blocks as it should take. The coin is the one
// that the old child spends, if that is enough. A node that refuses keeps the old
// child.
func (l *Leave) outbid(ctx context.Context, parent *wire.MsgTx, p *purse) error {
	anchor, err := anchorOf(parent)
	if err != nil {
		return err
	}
	old, err := l.chain.Unconfirmed(ctx, anchor)
	if errors.Is(err, esplora.ErrNotFound) { // it is there alone, or was mined just now
		return nil
	}
	if err != nil {
		return err
	}
	paid, own, err := l.paidBy(ctx, old, parent)
	if err != nil {
		return err
	}
	err = ErrFeeCoin
	for _, coin := range append(own, p.coins...) {
		var child *wire.MsgTx
		child, err = p.child(parent, coin, p.bid(parent, old, paid, len(own) > 0))
		if errors.Is(err, ErrFeeCoin) {
			continue
		}
		if err == nil {
			err = l.send(ctx, parent, child, coin, p)
		}
		break
	}
	switch {
	case errors.Is(err, errPaid):
		return nil
	case errors.Is(err, esplora.ErrRefused):
		l.cfg.Log.Warn("no replacement of the child that pays for a step of an exit", "txid", parent.TxHash(), "reason", err)
		return nil
	}
	return err
}

// bid is what a child pays in place of old, which paid so much: by BIP-125's rules a
// higher fee at a higher rate, or 0 when there is no reason to.
func (p *purse) bid(parent, old *wire.MsgTx, paid int64, own bool) func(size int64) int64 {
	return func(size int64) int64 {
		fair := p.fair(parent, size)
		least := max(paid+incrementalRate*size, paid*size/vsize(old)+1)
		if own && p.tip-int64(old.LockTime) >= feeTarget {
			fair = max(fair, min(max(paid+paid/2, least), mostOver*fair))
		}
		if fair < least {
			return 0
		}
		return fair
	}
}

// paidBy is the fee of a child, and the coins of the fee address that it spends, by
// the transactions that made what it spends.
func (l *Leave) paidBy(ctx context.Context, child, parent *wire.MsgTx) (fee int64, own []esplora.UTXO, err error) {
	for _, in := range child.TxIn {
		op, from := in.PreviousOutPoint, parent
		if op.Hash != parent.TxHash() {
			if from, err = l.chain.Tx(ctx, op.Hash); err != nil {
				return 0, nil, err
			}
		}
		if int(op.Index) >= len(from.TxOut) {
			return 0, nil, fmt.Errorf("%w: no output %s", esplora.ErrAnswer, op)
		}
		out := from.TxOut[op.Index]
		fee += out.Value
		if bytes.Equal(out.PkScript, l.feeTree.PkScript()) {
			own = append(own, esplora.UTXO{Outpoint: op, Amount: out.Value, Confirmed: true})
		}
	}
	for _, out := range child.TxOut {
		fee -= out.Value
	}
	return fee, own, nil
}

// send broadcasts a step of an exit with the child that pays for it.
func (l *Leave) send(ctx context.Context, parent, child *wire.MsgTx, coin esplora.UTXO, p *purse) error {
	p.spent(coin)
	if err := l.chain.Broadcast(ctx, parent, child); err != nil {
		return err
	}
	p.sent[parent.TxHash()] = true
	l.cfg.Log.Info("step of an exit broadcast", "txid", parent.TxHash(), "child", child.TxHash())
	return nil
}
