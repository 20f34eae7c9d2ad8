package esplora

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/chain"
)

// The shapes of Esplora's answers, fields in its order.

type status struct {
	Confirmed   bool    `json:"confirmed"`
	BlockHeight *int32  `json:"block_height,omitempty"`
	BlockHash   *string `json:"block_hash,omitempty"`
	BlockTime   *int64  `json:"block_time,omitempty"`
}

type output struct {
	Script  string `json:"scriptpubkey"`
	Asm     string `json:"scriptpubkey_asm"`
	Type    string `json:"scriptpubkey_type"`
	Address string `json:"scriptpubkey_address,omitempty"`
	Value   int64  `json:"value"`
}

type input struct {
	Txid       string   `json:"txid"`
	Vout       uint32   `json:"vout"`
	Prevout    *output  `json:"prevout"`
	ScriptSig  string   `json:"scriptsig"`
	Asm        string   `json:"scriptsig_asm"`
	Witness    []string `json:"witness,omitempty"`
	IsCoinbase bool     `json:"is_coinbase"`
	Sequence   uint32   `json:"sequence"`
}

type transaction struct {
	Txid     string   `json:"txid"`
	Version  int32    `json:"version"`
	LockTime uint32   `json:"locktime"`
	In       []input  `json:"vin"`
	Out      []output `json:"vout"`
	Size     int      `json:"size"`
	Weight   int64    `json:"weight"`
	Fee      int64    `json:"fee"`
	Status   status   `json:"status"`
}

type spend struct {
	Spent  bool    `json:"spent"`
	Txid   *string `json:"txid,omitempty"`
	Vin    *int    `json:"vin,omitempty"`
	Status *status `json:"status,omitempty"`
}

type utxo struct {
	Txid   string `json:"txid"`
	Vout   uint32 `json:"vout"`
	Status status `json:"status"`
	Value  int64  `json:"value"`
}

type stats struct {
	FundedCount int   `json:"funded_txo_count"`
	FundedSum   int64 `json:"funded_txo_sum"`
	SpentCount  int   `json:"spent_txo_count"`
	SpentSum    int64 `json:"spent_txo_sum"`
	TxCount     int   `json:"tx_count"`
}

type blockBody struct {
	ID         string  `json:"id"`
	Height     int32   `json:"height"`
	Version    int32   `json:"version"`
	Timestamp  int64   `json:"timestamp"`
	TxCount    int     `json:"tx_count"`
	Size       int     `json:"size"`
	Weight     int64   `json:"weight"`
	MerkleRoot string  `json:"merkle_root"`
	Previous   *string `json:"previousblockhash"`
	MedianTime int64   `json:"mediantime"`
	Nonce      uint32  `json:"nonce"`
	Bits       uint32  `json:"bits"`
	Difficulty float64 `json:"difficulty"`
}

func statusOf(t chain.Tx) status {
	if !t.Confirmed() {
		return status{}
	}
	hash, at := t.BlockHash.String(), t.BlockTime.Unix()
	return status{Confirmed: true, BlockHeight: &t.Height, BlockHash: &hash, BlockTime: &at}
}

func (s *Server) outputOf(o *wire.TxOut) output {
	out := output{
		Script: hex.EncodeToString(o.PkScript), Asm: disassemble(o.PkScript),
		Type: scriptType(o.PkScript), Value: o.Value,
	}
	if _, addrs, _, err := txscript.ExtractPkScriptAddrs(o.PkScript, s.chain.Params()); err == nil && len(addrs) == 1 && out.Type != "p2pk" {
		out.Address = addrs[0].EncodeAddress()
	}
	return out
}

func (s *Server) transactionOf(t chain.Tx) transaction {
	tx := transaction{
		Txid: t.Txid.String(), Version: t.Msg.Version, LockTime: t.Msg.LockTime,
		In: []input{}, Out: []output{}, Size: t.Msg.SerializeSize(), Weight: t.Weight,
		Fee: t.Fee, Status: statusOf(t),
	}
	for _, in := range t.Msg.TxIn {
		j := input{
			Txid: in.PreviousOutPoint.Hash.String(), Vout: in.PreviousOutPoint.Index,
			ScriptSig: hex.EncodeToString(in.SignatureScript), Asm: disassemble(in.SignatureScript),
			IsCoinbase: in.PreviousOutPoint.Hash == chainhash.Hash{}, Sequence: in.Sequence,
		}
		for _, item := range in.Witness {
			j.Witness = append(j.Witness, hex.EncodeToString(item))
		}
		if prev, ok := s.chain.Output(in.PreviousOutPoint); ok {
			o := s.outputOf(&prev)
			j.Prevout = &o
		}
		tx.In = append(tx.In, j)
	}
	for _, o := range t.Msg.TxOut {
		tx.Out = append(tx.Out, s.outputOf(o))
	}
	return tx
}

func scriptType(script []byte) string {
	switch txscript.GetScriptClass(script) {
	case txscript.PubKeyTy:
		return "p2pk"
	case txscript.PubKeyHashTy:
		return "p2pkh"
	case txscript.ScriptHashTy:
		return "p2sh"
	case txscript.WitnessV0PubKeyHashTy:
		return "v0_p2wpkh"
	case txscript.WitnessV0ScriptHashTy:
		return "v0_p2wsh"
	case txscript.WitnessV1TaprootTy:
		return "v1_p2tr"
	case txscript.PayToAnchorTy:
		return "anchor"
	}
	switch {
	case len(script) == 0:
		return "empty"
	case script[0] == txscript.OP_RETURN:
		return "op_return"
	}
	return "unknown"
}

// disassemble writes a script in Esplora's own notation, which names the length
// of every push: OP_PUSHNUM_1 OP_PUSHBYTES_32 ab….
func disassemble(script []byte) string {
	var parts []string
	t := txscript.MakeScriptTokenizer(0, script)
	for t.Next() {
		op, data := t.Opcode(), t.Data()
		switch {
		case op == txscript.OP_0:
			parts = append(parts, "OP_0")
		case op <= txscript.OP_DATA_75:
			parts = append(parts, "OP_PUSHBYTES_"+strconv.Itoa(int(op)), hex.EncodeToString(data))
		case op <= txscript.OP_PUSHDATA4:
			parts = append(parts, "OP_PUSHDATA"+strconv.Itoa(1<<(op-txscript.OP_PUSHDATA1)), hex.EncodeToString(data))
		case op >= txscript.OP_1 && op <= txscript.OP_16:
			parts = append(parts, "OP_PUSHNUM_"+strconv.Itoa(int(op-txscript.OP_1)+1))
		case op == txscript.OP_CHECKSEQUENCEVERIFY:
			parts = append(parts, "OP_CSV")
		case op == txscript.OP_CHECKLOCKTIMEVERIFY:
			parts = append(parts, "OP_CLTV")
		default:
			name, err := txscript.DisasmString([]byte{op})
			if err != nil {
				name = "OP_RETURN_" + strconv.Itoa(int(op))
			}
			parts = append(parts, name)
		}
	}
	if t.Err() != nil {
		parts = append(parts, "<unexpected end>")
	}
	return strings.Join(parts, " ")
}

// regtestDifficulty belongs to regtest's constant target.
const regtestDifficulty = 4.6565423739069247e-10

func blockOf(b chain.Block) blockBody {
	out := blockBody{
		ID: b.Hash.String(), Height: b.Height, Version: b.Header.Version,
		Timestamp: b.Header.Timestamp.Unix(), TxCount: len(b.Txids), Size: b.Size, Weight: b.Weight,
		MerkleRoot: b.Header.MerkleRoot.String(), MedianTime: b.MedianTime.Unix(),
		Nonce: b.Header.Nonce, Bits: b.Header.Bits, Difficulty: regtestDifficulty,
	}
	if b.Height > 0 {
		prev := b.Header.PrevBlock.String()
		out.Previous = &prev
	}
	return out
}
