package arktest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/code"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
)

// forfeit is one VTXO's forfeit as it was sent in; its signatures are looked
// at when the batch is finalized.
type forfeit struct {
	encoded   string
	packet    *psbt.Packet
	connector wire.OutPoint
}

// signedInput is a participant's signature on one boarding input.
type signedInput struct {
	leaf *psbt.TaprootTapLeafScript
	sigs []*psbt.TaprootScriptSpendSig
}

// submitForfeits takes forfeits in; one bad one refuses the whole call
// (protocol section 5.7).
func (p *process) submitForfeits(list []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.round
	meta := code.Meta{"forfeit_txs": list}
	if r == nil || r.connectors == nil || len(r.toForfeit) == 0 {
		return code.ForfeitTxs.New(meta, "failed to sign forfeit txs: forfeit txs map not initialized")
	}
	p.op.rec.forfeits(list)
	valid, err := p.checkForfeits(r, list)
	if err != nil {
		return code.ForfeitTxs.New(meta, "failed to sign forfeit txs: %w", err)
	}
	for op, f := range valid {
		r.forfeits[op] = f
		p.op.rec.forfeitAccepted(r, op)
	}
	p.checkComplete(r)
	return nil
}

func (p *process) checkForfeits(r *round, list []string) (map[wire.OutPoint]forfeit, error) {
	leaves := map[chainhash.Hash]*txtree.Node{}
	for _, l := range r.connectors.Leaves() {
		leaves[l.Txid] = l
	}
	needed := map[wire.OutPoint]VTXO{}
	for _, v := range r.toForfeit {
		needed[v.Outpoint] = v
	}
	valid := map[wire.OutPoint]forfeit{}
	for _, encoded := range list {
		tx, err := psbt.NewFromRawBytes(strings.NewReader(encoded), true)
		if err != nil {
			return nil, err
		}
		if len(tx.Inputs) != 2 {
			continue
		}
		if err := p.checkForfeit(r, encoded, tx, leaves, needed, valid); err != nil {
			return nil, err
		}
	}
	return valid, nil
}

// checkForfeit rebuilds one forfeit from its inputs and compares txids.
func (p *process) checkForfeit(r *round, encoded string, tx *psbt.Packet, leaves map[chainhash.Hash]*txtree.Node, needed map[wire.OutPoint]VTXO, valid map[wire.OutPoint]forfeit) error {
	conn := -1
	for i, in := range tx.UnsignedTx.TxIn {
		if leaves[in.PreviousOutPoint.Hash] != nil {
			conn = i
			break
		}
	}
	if conn < 0 {
		return fmt.Errorf("missing connector in forfeit tx %s", encoded)
	}
	connOp := tx.UnsignedTx.TxIn[conn].PreviousOutPoint
	connTx := leaves[connOp.Hash].Tx
	if int(connOp.Index) >= len(connTx.TxOut) {
		return fmt.Errorf("connector vout %d out of range [0, %d]", connOp.Index, len(connTx.TxOut)-1)
	}
	vtxoIn := &tx.Inputs[1-conn]
	if len(vtxoIn.TaprootScriptSpendSig) == 0 {
		return errors.New("missing taproot script spend sig for vtxo input, invalid forfeit tx")
	}
	if len(vtxoIn.TaprootLeafScript) == 0 {
		return errors.New("missing taproot leaf script for vtxo input, invalid forfeit tx")
	}
	op := tx.UnsignedTx.TxIn[1-conn].PreviousOutPoint
	if _, ok := valid[op]; ok {
		return nil
	}
	v, ok := needed[op]
	if !ok {
		return fmt.Errorf("missing vtxo %s", op)
	}
	locktime, err := p.forfeitLocktime(vtxoIn.TaprootLeafScript[0].Script)
	if err != nil {
		return err
	}
	want := wire.NewMsgTx(3)
	want.LockTime = locktime
	for i, in := range tx.UnsignedTx.TxIn {
		seq := wire.MaxTxInSequenceNum
		if i != conn && locktime != 0 {
			seq--
		}
		want.AddTxIn(&wire.TxIn{PreviousOutPoint: in.PreviousOutPoint, Sequence: seq})
	}
	want.AddTxOut(&wire.TxOut{Value: v.Amount + connTx.TxOut[connOp.Index].Value, PkScript: p.op.forfeitScript()})
	want.AddTxOut(txtree.Anchor())
	if got := tx.UnsignedTx.TxHash(); got != want.TxHash() {
		return fmt.Errorf("invalid forfeit tx: expected txid %s, got %s", want.TxHash(), got)
	}
	valid[op] = forfeit{encoded: encoded, packet: tx, connector: connOp}
	return nil
}

// forfeitLocktime is the locktime that the leaf asks for, already reached.
func (p *process) forfeitLocktime(script []byte) (uint32, error) {
	c, err := tapscript.Decode(script)
	if err != nil {
		return 0, err
	}
	if c.Exit() {
		return 0, errors.New("invalid forfeit closure script")
	}
	if c.Kind != tapscript.CLTVMultisig {
		return 0, nil
	}
	if _, now := p.op.lockReached(c.Locktime); now >= 0 {
		return 0, fmt.Errorf("forfeit closure is CLTV locked, %d > %d", c.Locktime, now)
	}
	return c.Locktime, nil
}

// lockReached compares an absolute lock with the chain's tip. current is -1
// once it is reached, else the height or time that is too low.
func (op *Operator) lockReached(lock uint32) (kind string, current int64) {
	tip := op.chain.Tip()
	kind, now := "height", int64(tip.Height)
	if lock >= txscript.LockTimeThreshold {
		kind, now = "time", tip.Header.Timestamp.Unix()
	}
	if int64(lock) > now {
		return kind, now
	}
	return kind, -1
}

// submitCommitment takes boarding signatures from a signed copy of the
// commitment (protocol section 5.8).
func (p *process) submitCommitment(encoded string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.round
	meta := code.Meta{"signed_commitment_tx": encoded}
	if r == nil || r.commitment == nil {
		return code.BoardingSig.New(meta, "failed to verify boarding tapscript sigs: no commitment tx")
	}
	got, err := p.boardingSigs(r, encoded)
	if err != nil {
		return code.BoardingSig.New(meta, "failed to verify boarding tapscript sigs: %w", err)
	}
	if len(got) == 0 {
		return code.BoardingSig.New(meta, "no signed inputs found")
	}
	if r.boarding == nil {
		r.boarding = map[int]signedInput{}
	}
	for i, s := range got {
		if _, ok := r.boarding[i]; !ok {
			r.boarding[i] = s
		}
	}
	p.op.rec.boarding(r, len(r.boarding))
	p.checkComplete(r)
	return nil
}

func (p *process) boardingSigs(r *round, encoded string) (map[int]signedInput, error) {
	tx, err := psbt.NewFromRawBytes(strings.NewReader(encoded), true)
	if err != nil {
		return nil, err
	}
	prevouts, err := tapscript.Prevouts(r.commitment)
	if err != nil {
		return nil, err
	}
	hashes := txscript.NewTxSigHashes(r.commitment.UnsignedTx, prevouts)
	index := map[wire.OutPoint]int{}
	for i, in := range r.commitment.UnsignedTx.TxIn {
		index[in.PreviousOutPoint] = i
	}
	got := map[int]signedInput{}
	for i := range tx.Inputs {
		in := &tx.Inputs[i]
		if len(in.TaprootScriptSpendSig) == 0 || len(in.TaprootLeafScript) == 0 {
			continue
		}
		at, ok := index[tx.UnsignedTx.TxIn[i].PreviousOutPoint]
		if !ok {
			continue
		}
		leaf := in.TaprootLeafScript[0]
		if err := tapscript.CheckControl(leaf, r.commitment.Inputs[at].WitnessUtxo.PkScript); err != nil {
			return nil, err
		}
		for _, s := range in.TaprootScriptSpendSig {
			h, err := txscript.CalcTapscriptSignaturehash(hashes, s.SigHash, r.commitment.UnsignedTx, at, prevouts, txscript.NewBaseTapLeaf(leaf.Script))
			if err != nil {
				return nil, err
			}
			if err := verifySchnorr(s, h); err != nil {
				return nil, fmt.Errorf("input %d: %w", i, err)
			}
		}
		got[at] = signedInput{leaf: leaf, sigs: in.TaprootScriptSpendSig}
	}
	return got, nil
}

func verifySchnorr(s *psbt.TaprootScriptSpendSig, hash []byte) error {
	key, err := schnorr.ParsePubKey(s.XOnlyPubKey)
	if err != nil {
		return err
	}
	sig, err := schnorr.ParseSignature(s.Signature)
	if err != nil {
		return err
	}
	if !sig.Verify(hash, key) {
		return errors.New("invalid signature")
	}
	return nil
}

// checkComplete ends the wait once every forfeit and boarding signature is
// there; the caller holds the mutex.
func (p *process) checkComplete(r *round) {
	for _, f := range r.forfeits {
		if f.encoded == "" {
			return
		}
	}
	if len(r.boarding) == r.numBoard {
		r.allSigned.fire()
	}
}
