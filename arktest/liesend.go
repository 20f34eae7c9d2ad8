package arktest

import (
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/lie"
)

// crash restarts the operator from beside the round, and waits until this
// process is told to end.
func (p *process) crash() {
	op := p.op
	op.wg.Go(func() {
		if err := op.Restart(); err != nil {
			op.log.Debug("restarting after a crash", "err", err)
		}
	})
	<-p.ctx.Done()
}

// refused says whether a confirmation is to be refused.
func (l lieSet) refused(r *round, id string) bool {
	at, ok := l.first(lie.ConfirmRefused, r.selected)
	return ok && r.selected[at].id == id
}

// beforeBroadcast tells the lies between the forfeits and the broadcast; true
// ends the round.
func (l lieSet) beforeBroadcast(p *process, r *round) bool {
	switch {
	case l.has(lie.CrashAfterForfeits):
		p.crash()
		return true
	case l.has(lie.FailedAfterForfeits):
		p.fail(r, internalf("failed to sign commitment tx: something went wrong"))
		return true
	}
	return false
}

// afterBroadcast tells the lies between the broadcast and storing; true ends
// the round.
func (l lieSet) afterBroadcast(p *process, r *round) bool {
	switch {
	case l.has(lie.CrashAfterBroadcast):
		p.crash()
		return true
	case l.has(lie.FailedButBroadcast):
		p.fail(r, internalf("failed to finalize round: something went wrong"))
		return true
	}
	return false
}

// finalizedTxid is the txid that BatchFinalized names.
func (l lieSet) finalizedTxid(r *round) string {
	if l.has(lie.FinalizedTxid) {
		return randomHash().String()
	}
	return r.txid.String()
}

// doubleSpend confirms a transaction that conflicts with the commitment.
func (l lieSet) doubleSpend(p *process, r *round) {
	if !l.has(lie.DoubleSpent) {
		return
	}
	coin := r.coins[0]
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: coin.Outpoint, Sequence: wire.MaxTxInSequenceNum})
	tx.AddTxOut(&wire.TxOut{Value: coin.Out.Value - 1000, PkScript: p.op.wallet.script})
	fetch := txscript.NewCannedPrevOutputFetcher(coin.Out.PkScript, coin.Out.Value)
	h, err := txscript.CalcTaprootSignatureHash(txscript.NewTxSigHashes(tx, fetch), txscript.SigHashDefault, tx, 0, fetch)
	if err != nil {
		return
	}
	sig, err := schnorr.Sign(txscript.TweakTaprootPrivKey(*p.op.wallet.key, nil), h)
	if err != nil {
		return
	}
	tx.TxIn[0].Witness = wire.TxWitness{sig.Serialize()}
	if err := p.op.chain.MineTxs(tx); err != nil {
		p.op.log.Debug("double-spending the commitment", "err", err)
	}
}
