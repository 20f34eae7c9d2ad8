package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/operator"
)

// Board takes the confirmed coins at the boarding address into Ark: they become
// one VTXO. ErrFunds says that there is none.
func (w *Wallet) Board(ctx context.Context) (Settled, error) {
	if w.chain == nil {
		return Settled{}, fmt.Errorf("%w: boarding needs an Esplora", ErrConfig)
	}
	if err := w.confirmed(); err != nil {
		return Settled{}, err
	}
	p, err := w.params(ctx)
	if err != nil {
		return Settled{}, err
	}
	coins, err := w.boarding(ctx)
	if err != nil {
		return Settled{}, err
	}
	return w.settle(ctx, slices.DeleteFunc(coins, func(c coin) bool {
		return !c.confirmed || !honoured(p, c.desc.Signer, w.now().Unix())
	}))
}

// boarding are the coins on chain at the boarding addresses of all generations;
// also those that are not confirmed.
func (w *Wallet) boarding(ctx context.Context) (coins []coin, err error) {
	seen := map[string]bool{}
	for _, d := range slices.Backward(w.own().gens) {
		at := d.BoardingAddress()
		if seen[at] {
			continue
		}
		seen[at] = true
		utxos, err := w.chain.UTXOs(ctx, at)
		if err != nil {
			return coins, err
		}
		tree := d.Boarding()
		for _, u := range utxos {
			c := coin{
				VTXO: ark.VTXO{Outpoint: u.Outpoint, Amount: u.Amount, Script: tree.PkScript()},
				desc: d, tree: tree, leaf: descriptor.LeafForfeit, boarding: true, confirmed: u.Confirmed,
			}
			coins = append(coins, c)
		}
	}
	return coins, nil
}

// Renew swaps coins for one new VTXO, in a batch, now; all of them when none is
// named.
func (w *Wallet) Renew(ctx context.Context, ops ...wire.OutPoint) (Settled, error) {
	coins, err := w.pick(ctx, ops)
	if err != nil {
		return Settled{}, err
	}
	return w.settle(ctx, coins)
}

// settle swaps coins for one VTXO at the wallet's own script.
func (w *Wallet) settle(ctx context.Context, coins []coin) (Settled, error) {
	p, err := w.params(ctx)
	if err != nil {
		return Settled{}, err
	}
	outs, err := single(p, coins, w.own().home(), w.now().Unix(), false)
	if err != nil {
		return Settled{}, err
	}
	return w.carryOut(ctx, p, coins, outs, nil)
}

func (w *Wallet) carryOut(ctx context.Context, p ark.Params, coins []coin, outs, onchain []*wire.TxOut) (settled Settled, err error) {
	w.spending.Lock()
	defer w.spending.Unlock()
	held := func(err error) bool {
		return registered(err) && slices.ContainsFunc(coins, func(c coin) bool { return !c.boarding })
	}
	err = w.freeing(ctx, p, coins, held, func() (err error) {
		s := &settlement{
			op: w.op, params: p, signer: w, coins: coins, outs: outs, onchain: onchain,
			least: leastLife(coins, outs, w.now().Unix()),
		}
		s.keep = func(ctx context.Context, commitment *psbt.Packet, r batch.TaskResult) error {
			return w.keepBranch(ctx, commitment, r, ark.Delay(s.expiry).Seconds())
		}
		s.lost = w.putAway
		settled, err = s.run(ctx)
		return err
	})
	return settled, err
}

// keepBranch makes what a batch gave for so many seconds durable, before anything
// is given for it.
func (w *Wallet) keepBranch(ctx context.Context, commitment *psbt.Packet, r batch.TaskResult, life int64) error {
	var txs [][]byte
	for _, n := range r.Branch {
		tx := n.SignedTx()
		if tx == nil {
			return fmt.Errorf("%w: node %s is not signed", ErrOperator, n.Txid)
		}
		txs = append(txs, rawTx(tx))
	}
	for _, o := range r.Outputs {
		if w.own().find(o.Out.PkScript) == nil {
			continue
		}
		d := ExitData{
			Outpoint: o.Outpoint.String(), Amount: o.Out.Value, Script: o.Out.PkScript,
			Commitment: commitment.UnsignedTx.TxHash().String(), Txs: txs, ExpiresAt: w.now().Unix() + life,
		}
		if err := w.store.putExit(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// Exit leaves Ark with the operator's and Vigil's help: sats, or everything when
// sats is 0, go to an on-chain address in a batch, and what is left stays a VTXO.
func (w *Wallet) Exit(ctx context.Context, to string, sats int64) (Settled, error) {
	p, err := w.params(ctx)
	if err != nil {
		return Settled{}, err
	}
	pkScript, err := onchainScript(to, w.current().Network)
	if err != nil {
		return Settled{}, err
	}
	coins, err := w.pick(ctx, nil)
	if err != nil {
		return Settled{}, err
	}
	if slices.ContainsFunc(coins, func(c coin) bool { return len(c.Assets) > 0 }) {
		coins = slices.DeleteFunc(coins, func(c coin) bool { return len(c.Assets) > 0 }) // assets live in Ark alone
	}
	outs, onchain, coins, err := leaveWith(p, coins, pkScript, w.own().home(), sats, w.now().Unix())
	if err != nil {
		return Settled{}, err
	}
	return w.carryOut(ctx, p, coins, outs, onchain)
}

// Sweep spends coins of the wallet that are on chain, unrolled or left at the
// boarding address, to an on-chain address, once the exit delay has passed. It
// takes Vigil, which signs with the device, and no operator: when both are gone,
// Leave does it after a longer delay. ErrTooEarly says that nothing is ripe.
func (w *Wallet) Sweep(ctx context.Context, to string) (Swept, error) {
	if w.chain == nil {
		return Swept{}, fmt.Errorf("%w: sweeping needs an Esplora", ErrConfig)
	}
	network := w.current().Network
	list, coins, err := maturing(ctx, w.chain, network, exits(w.own().gens, descriptor.LeafExit, descriptor.LeafExit, true)...)
	if err != nil {
		return Swept{}, err
	}
	return sweepRipe(ctx, w.chain, w, network, list, coins, to)
}

// leaveWith shares coins between an on-chain output and the wallet's own script;
// of the coins it takes as few as cover the amount, those that expire first.
func leaveWith(p ark.Params, coins []coin, to, own []byte, sats, now int64) (outs, onchain []*wire.TxOut, used []coin, err error) {
	e, err := fee.Compile(p.Fees)
	if err != nil {
		return nil, nil, nil, err
	}
	out := wire.NewTxOut(sats, to)
	onchain = []*wire.TxOut{out}
	if sats == 0 {
		if err := balance(e, coins, nil, onchain, out, now, false); err != nil {
			return nil, nil, nil, err
		}
		return nil, onchain, coins, within(out.Value, p)
	}
	if err := within(sats, p); err != nil {
		return nil, nil, nil, err
	}
	rest := wire.NewTxOut(0, own)
	for n := range coins {
		outs = []*wire.TxOut{rest}
		if err = balance(e, coins[:n+1], outs, onchain, rest, now, false); err == nil && rest.Value >= p.Dust {
			return outs, onchain, coins[:n+1], nil
		}
	}
	return nil, nil, nil, fmt.Errorf("%w: %d sats and a change of at least %d (leave with everything instead)", ErrFunds, sats, p.Dust)
}

func within(sats int64, p ark.Params) error {
	if sats < p.UtxoMin || p.UtxoMax >= 0 && sats > p.UtxoMax {
		return fmt.Errorf("%w: the operator pays %d to %d sats on chain, not %d", ErrDust, p.UtxoMin, p.UtxoMax, sats)
	}
	return nil
}

func onchainScript(to string, network ark.Network) ([]byte, error) {
	a, err := address.DecodeAddress(to, network.ChainParams())
	if err != nil || !a.IsForNet(network.ChainParams()) {
		return nil, fmt.Errorf("%w: %q on %s", ErrAddress, to, network)
	}
	s, err := txscript.PayToAddrScript(a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	return s, nil
}

// Send pays sats to an Ark address off-chain and returns the payee's coin. Coins
// that expire first are spent first; coins with assets stay. What is left comes
// back to the wallet, preconfirmed and uncovered until it is delegated.
//
// A payment that breaks off once the operator has accepted it is in flight: the
// next Send, or Keep, finishes it first. If that was the same sum to the same
// address, Send was called again for it, and pays no second time.
func (w *Wallet) Send(ctx context.Context, to ark.Address, sats int64) (wire.OutPoint, error) {
	w.spending.Lock()
	defer w.spending.Unlock()
	p, err := w.params(ctx)
	if err != nil {
		return wire.OutPoint{}, err
	}
	if err := payable(to, p); err != nil {
		return wire.OutPoint{}, err
	}
	outs := []*wire.TxOut{payTo(to.Key, sats, p.Dust)}
	finished, err := w.finishPayment(ctx)
	if err != nil {
		return wire.OutPoint{}, err
	}
	for _, tx := range finished {
		if pays(tx, outs[0]) {
			return wire.OutPoint{Hash: tx.TxHash()}, nil
		}
	}
	coins, sum, err := w.choose(ctx, p, sats)
	if err != nil {
		return wire.OutPoint{}, err
	}
	if sum > sats {
		outs = append(outs, payTo(w.own().vtxo[0].tree.OutputKey(), sum-sats, p.Dust))
	}
	pay, err := newPayment(coins, outs, p.CheckpointScript)
	if err != nil {
		return wire.OutPoint{}, err
	}
	// An intent that holds the coins may be a delegate's, which ends when Vigil sees
	// them spent, or an own one that was lost.
	err = w.freeing(ctx, p, coins, registered, func() error { return w.submit(ctx, pay) })
	return wire.OutPoint{Hash: pay.id}, err
}

// freeEvery is the wait between two attempts to take an intent back.
const freeEvery = 500 * time.Millisecond

// freeing does what an intent in the operator's queue may be in the way of, as held
// says of its error: then the intent is taken back, and it is done again. While a
// batch that lists the intent waits for its confirmation, the operator finds it in
// no queue: that passes within a session.
func (w *Wallet) freeing(ctx context.Context, p ark.Params, coins []coin, held func(error) bool, do func() error) error {
	for range max(p.SessionSeconds, 1) * int64(time.Second/freeEvery) {
		err := do()
		if !held(err) {
			return err
		}
		err = withdraw(ctx, w.op, w, coins)
		if err == nil {
			continue
		}
		if !queuedNot(err) {
			return err
		}
		select {
		case <-time.After(freeEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return do()
}

// codeNoIntent is the operator's number for a proof that matches no intent.
const codeNoIntent = 23

func queuedNot(err error) bool {
	var e *operator.Error
	return errors.As(err, &e) && e.Code == codeNoIntent
}

// registered says whether an intent in the queue holds one of the coins.
func registered(err error) bool { return errors.Is(err, operator.ErrDuplicate) }

// payable accepts addresses of this operator's.
func payable(to ark.Address, p ark.Params) error {
	if to.HRP != p.Network.HRP() {
		return fmt.Errorf("%w: of another network", ErrAddress)
	}
	if to.Signer == p.SignerKey.XOnly() {
		return nil
	}
	if slices.ContainsFunc(p.DeprecatedSigners, func(d ark.DeprecatedSigner) bool { return d.Key.XOnly() == to.Signer }) {
		return nil
	}
	return fmt.Errorf("%w: of another operator", ErrAddress)
}

// choose takes spendable coins up to an amount.
func (w *Wallet) choose(ctx context.Context, p ark.Params, sats int64) (chosen []coin, sum int64, err error) {
	list, err := w.coins(ctx)
	if err != nil {
		return nil, 0, err
	}
	now := w.now().Unix()
	for _, v := range list {
		if sum >= sats || v.Recoverable(now) || len(v.Assets) > 0 {
			continue
		}
		c, err := w.owned(v)
		if err != nil {
			return nil, 0, err
		}
		if !honoured(p, c.desc.Signer, now) {
			continue
		}
		chosen, sum = append(chosen, c), sum+v.Amount
	}
	if sum < sats || sats <= 0 {
		return nil, 0, fmt.Errorf("%w: %d of %d", ErrFunds, sum, sats)
	}
	return chosen, sum, nil
}

// pays says whether a payment of this wallet, whose payee comes first, made out.
func pays(tx *wire.MsgTx, out *wire.TxOut) bool {
	return len(tx.TxOut) > 0 && tx.TxOut[0].Value == out.Value && bytes.Equal(tx.TxOut[0].PkScript, out.PkScript)
}

// submit signs a payment, has the operator accept it, and finalizes it.
func (w *Wallet) submit(ctx context.Context, pay payment) error {
	doc, err := paymentDocument(pay)
	if err != nil {
		return err
	}
	if err := w.sign(ctx, doc); err != nil {
		return err
	}
	signed, err := encoded(pay.tx)
	if err != nil {
		return err
	}
	unsigned, err := encodedAll(pay.checkpoints)
	if err != nil {
		return err
	}
	// Should the device stop between here and the last word, the operator shows the
	// coins as pending: finishPayment finds them, on another device too.
	answer, err := w.op.SubmitTx(ctx, signed, unsigned)
	if err != nil {
		return err
	}
	_, err = w.finalize(ctx, answer, pay.id)
	return err
}

// finalize signs the checkpoints that the operator signed, all in one round trip,
// and hands them over. What it is about is the ark transaction that this wallet
// signed before, and the checkpoints that it spends.
func (w *Wallet) finalize(ctx context.Context, answer operator.OffchainTx, id chainhash.Hash) (*wire.MsgTx, error) {
	group := w.own().Group.XOnly()
	operators := w.own().signers()
	tx, err := signedBy(answer.Tx, operators, group)
	if err != nil {
		return nil, fmt.Errorf("%w: ark transaction: %w", ErrOperator, err)
	}
	if answer.Txid != id || tx.UnsignedTx.TxHash() != id {
		return nil, fmt.Errorf("%w: txid %s, not %s", ErrOperator, answer.Txid, id)
	}
	came := map[chainhash.Hash]*psbt.Packet{}
	for _, text := range answer.Checkpoints {
		cp, err := signedBy(text, operators)
		if err != nil {
			return nil, fmt.Errorf("%w: checkpoint: %w", ErrOperator, err)
		}
		came[cp.UnsignedTx.TxHash()] = cp
	}
	var cps []*psbt.Packet
	for _, in := range tx.UnsignedTx.TxIn {
		cp := came[in.PreviousOutPoint.Hash]
		if cp == nil {
			return nil, fmt.Errorf("%w: checkpoint %s is missing", ErrOperator, in.PreviousOutPoint.Hash)
		}
		cps = append(cps, cp)
	}
	if len(came) != len(cps) {
		return nil, fmt.Errorf("%w: %d checkpoints of %d", ErrOperator, len(came), len(cps))
	}
	doc, err := checkpointDocument(cps, answer.Tx)
	if err != nil {
		return nil, err
	}
	if err := w.sign(ctx, doc); err != nil {
		return nil, err
	}
	final, err := encodedAll(cps)
	if err != nil {
		return nil, err
	}
	err = w.op.FinalizeTx(ctx, id, final)
	if err != nil && !finalizedAlready(err) {
		return nil, err
	}
	if !w.landed(ctx, cps) && err != nil {
		return nil, err
	}
	return tx.UnsignedTx, nil
}

// An operator answers the last word of a payment before it shows what was paid:
// until it does, coins are missing from its list, and the payment stands among the
// pending ones although no last word is wanted any more.
const (
	landEvery = 50 * time.Millisecond
	landWait  = 5 * time.Second
)

// landed waits until the operator shows what a payment made, so that whoever asks
// next, to cover the change or to spend it, finds it. The payment stands even if
// that was not seen in time.
func (w *Wallet) landed(ctx context.Context, checkpoints []*psbt.Packet) bool {
	ctx, cancel := context.WithTimeout(ctx, landWait)
	defer cancel()
	for {
		vtxos, err := w.pending(ctx)
		if err == nil && !slices.ContainsFunc(vtxos, func(v ark.VTXO) bool {
			return slices.ContainsFunc(checkpoints, func(c *psbt.Packet) bool { return c.UnsignedTx.TxIn[0].PreviousOutPoint == v.Outpoint })
		}) {
			return true
		}
		select {
		case <-time.After(landEvery):
		case <-ctx.Done():
			return false
		}
	}
}

// finalizedAlready says whether a last word was refused as one too many may be.
func finalizedAlready(err error) bool {
	var e *operator.Error
	return errors.As(err, &e) && e.Code == codeInternal
}

// codeInternal is the operator's number for what it has no number for.
const codeInternal = 0

// pending are the wallet's coins in payments that wait for the last word.
func (w *Wallet) pending(ctx context.Context) ([]ark.VTXO, error) {
	return w.op.VTXOsByScript(ctx, w.own().pkScripts(), operator.OnlyPending)
}

// signedBy parses what one of the operator's keys and all of the others are to have
// signed, and verifies their signatures on every input. A signature is of a key in
// the script alone.
func signedBy(b64 string, operators []bip340.XOnly, keys ...bip340.XOnly) (*psbt.Packet, error) {
	tx, err := script.ParsePSBT(b64, script.OperatorLimits())
	if err != nil {
		return nil, err
	}
	outs := make([]*wire.TxOut, len(tx.Inputs))
	for i := range tx.Inputs {
		outs[i] = tx.Inputs[i].WitnessUtxo
	}
	h, err := script.NewSighasher(tx.UnsignedTx, outs)
	if err != nil {
		return nil, err
	}
	r := script.NewReader()
	for i := range tx.Inputs {
		s, err := r.Spend(&tx.Inputs[i])
		if err == nil {
			err = r.Verify(h, i, s)
		}
		if err == nil && !slices.ContainsFunc(operators, s.Signed) {
			err = errors.New("the operator has not signed")
		}
		for _, key := range keys {
			if err == nil && !s.Signed(key) {
				err = fmt.Errorf("%s has not signed", key)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
	}
	return tx, nil
}

// finishPayment takes up payments that were accepted and never finalized, by
// whichever device: until then nobody has what they moved. It returns them.
func (w *Wallet) finishPayment(ctx context.Context) ([]*wire.MsgTx, error) {
	if err := w.confirmed(); err != nil {
		return nil, err
	}
	vtxos, err := w.pending(ctx)
	if err != nil || len(vtxos) == 0 {
		return nil, err
	}
	if _, err := w.params(ctx); err != nil {
		return nil, err
	}
	var coins []coin
	for _, v := range vtxos {
		c, err := w.owned(v)
		if err != nil {
			return nil, err
		}
		coins = append(coins, c)
	}
	return w.finishOver(ctx, coins)
}

func (w *Wallet) finishOver(ctx context.Context, coins []coin) (finished []*wire.MsgTx, err error) {
	proof, message, err := signedProof(ctx, w, intent.GetPendingTx, coins)
	if err != nil {
		return nil, err
	}
	pending, err := w.op.PendingTx(ctx, proof, message)
	if err != nil {
		return nil, err
	}
	for _, answer := range pending {
		tx, err := w.finalize(ctx, answer, answer.Txid)
		if err != nil {
			return finished, err
		}
		finished = append(finished, tx)
	}
	return finished, nil
}
