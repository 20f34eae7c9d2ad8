package arktest

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/chain"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
)

// errFunds is returned when the operator's wallet cannot pay for a batch.
var errFunds = errors.New("not enough funds")

// wallet is the operator's on-chain wallet: one taproot key-path script.
type wallet struct {
	mu     sync.Mutex
	chain  *chain.Chain
	key    *btcec.PrivateKey
	script []byte
	locked map[wire.OutPoint]bool
}

func newWallet(c *chain.Chain) (*wallet, error) {
	key, err := btcec.NewPrivateKey()
	if err != nil {
		return nil, fmt.Errorf("wallet key: %w", err)
	}
	out := txscript.ComputeTaprootKeyNoScript(key.PubKey())
	return &wallet{chain: c, key: key, script: tapscript.P2TR(out), locked: map[wire.OutPoint]bool{}}, nil
}

// fund lets the faucet pay sats in several outputs.
func (w *wallet) fund(sats int64) error {
	const parts = 8
	outs := make([]*wire.TxOut, parts)
	for i := range outs {
		outs[i] = &wire.TxOut{Value: sats / parts, PkScript: w.script}
	}
	if _, err := w.chain.Pay(outs...); err != nil {
		return fmt.Errorf("funding the operator: %w", err)
	}
	return nil
}

func (w *wallet) balance() (sum int64) {
	for _, u := range w.chain.UTXOs(w.script) {
		sum += u.Out.Value
	}
	return sum
}

// pick selects and locks coins worth at least target.
func (w *wallet) pick(target int64) ([]chain.UTXO, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.chain.UTXOs(w.script)
	slices.SortFunc(all, func(a, b chain.UTXO) int { return int(min(max(b.Out.Value-a.Out.Value, -1), 1)) })
	var got []chain.UTXO
	var sum int64
	for _, u := range all {
		if w.locked[u.Outpoint] {
			continue
		}
		got = append(got, u)
		if sum += u.Out.Value; sum >= target {
			for _, g := range got {
				w.locked[g.Outpoint] = true
			}
			return got, nil
		}
	}
	return nil, fmt.Errorf("%w: %d of %d", errFunds, sum, target)
}

// release unlocks coins that a failed batch did not spend.
func (w *wallet) release(list []chain.UTXO) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, u := range list {
		delete(w.locked, u.Outpoint)
	}
}

// sign puts the key-path witness on every input of p that is the wallet's.
func (w *wallet) sign(p *psbt.Packet, tx *wire.MsgTx) error {
	prevouts, err := tapscript.Prevouts(p)
	if err != nil {
		return err
	}
	hashes := txscript.NewTxSigHashes(p.UnsignedTx, prevouts)
	key := txscript.TweakTaprootPrivKey(*w.key, nil)
	for i := range p.Inputs {
		if string(p.Inputs[i].WitnessUtxo.PkScript) != string(w.script) {
			continue
		}
		h, err := txscript.CalcTaprootSignatureHash(hashes, txscript.SigHashDefault, p.UnsignedTx, i, prevouts)
		if err != nil {
			return fmt.Errorf("sighash of wallet input %d: %w", i, err)
		}
		sig, err := schnorr.Sign(key, h)
		if err != nil {
			return fmt.Errorf("signing wallet input %d: %w", i, err)
		}
		tx.TxIn[i].Witness = wire.TxWitness{sig.Serialize()}
	}
	return nil
}
