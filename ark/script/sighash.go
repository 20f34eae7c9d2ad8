package script

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// ErrSighash is returned when there is no sighash to compute: a type that
// taproot does not know, SINGLE without its output, wrong counts.
var ErrSighash = errors.New("script: no such sighash")

// Sighasher computes the BIP-341 sighashes of one transaction. What all of
// them share is computed once. The transaction must not change meanwhile.
type Sighasher struct {
	tx      *wire.MsgTx
	fetcher txscript.PrevOutputFetcher
	shared  *txscript.TxSigHashes
}

// NewSighasher takes a transaction and the outputs that its inputs spend, in
// input order. No outpoint may stand twice.
func NewSighasher(tx *wire.MsgTx, prevouts []*wire.TxOut) (*Sighasher, error) {
	if len(tx.TxIn) == 0 || len(tx.TxIn) != len(prevouts) {
		return nil, fmt.Errorf("%w: %d inputs, %d outputs spent", ErrSighash, len(tx.TxIn), len(prevouts))
	}
	if len(prevouts) == 1 && prevouts[0] != nil {
		fetcher := txscript.NewCannedPrevOutputFetcher(prevouts[0].PkScript, prevouts[0].Value)
		return &Sighasher{tx: tx, fetcher: fetcher, shared: txscript.NewTxSigHashes(tx, fetcher)}, nil
	}
	spent := make(map[wire.OutPoint]*wire.TxOut, len(prevouts))
	for i, in := range tx.TxIn {
		if prevouts[i] == nil {
			return nil, fmt.Errorf("%w: output spent by input %d unknown", ErrSighash, i)
		}
		if _, ok := spent[in.PreviousOutPoint]; ok {
			return nil, fmt.Errorf("%w: outpoint twice", ErrSighash)
		}
		spent[in.PreviousOutPoint] = prevouts[i]
	}
	fetcher := txscript.NewMultiPrevOutFetcher(spent)
	return &Sighasher{tx: tx, fetcher: fetcher, shared: txscript.NewTxSigHashes(tx, fetcher)}, nil
}

// Tapscript is the sighash of input index for a signature in leaf.
func (s *Sighasher) Tapscript(index int, leaf []byte, t txscript.SigHashType) ([32]byte, error) {
	if index < 0 || index >= len(s.tx.TxIn) {
		return [32]byte{}, fmt.Errorf("%w: input %d", ErrSighash, index)
	}
	h, err := txscript.CalcTapscriptSignaturehash(
		s.shared, t, s.tx, index, s.fetcher, txscript.NewBaseTapLeaf(leaf))
	return asSighash(h, err)
}

// KeyPath is the sighash of input index for a key-path signature.
func (s *Sighasher) KeyPath(index int, t txscript.SigHashType) ([32]byte, error) {
	if index < 0 || index >= len(s.tx.TxIn) {
		return [32]byte{}, fmt.Errorf("%w: input %d", ErrSighash, index)
	}
	h, err := txscript.CalcTaprootSignatureHash(s.shared, t, s.tx, index, s.fetcher)
	return asSighash(h, err)
}

func asSighash(h []byte, err error) ([32]byte, error) {
	if err != nil {
		return [32]byte{}, fmt.Errorf("%w: %w", ErrSighash, err)
	}
	if len(h) != 32 {
		return [32]byte{}, ErrSighash
	}
	return [32]byte(h), nil
}

// TapscriptSighash is NewSighasher and Tapscript for one signature.
func TapscriptSighash(tx *wire.MsgTx, prevouts []*wire.TxOut, index int, leaf []byte, t txscript.SigHashType) ([32]byte, error) {
	s, err := NewSighasher(tx, prevouts)
	if err != nil {
		return [32]byte{}, err
	}
	return s.Tapscript(index, leaf, t)
}
