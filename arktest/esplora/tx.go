package esplora

import (
	"bytes"
	"encoding/hex"
	"net/http"
	"strconv"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/chain"
)

// withTx looks up the path's transaction; without one it answers.
func (s *Server) withTx(w http.ResponseWriter, r *http.Request, f func(chain.Tx)) {
	id, ok := parseHash(w, r.PathValue("txid"))
	if !ok {
		return
	}
	t, ok := s.chain.Tx(id)
	if !ok {
		http.Error(w, "Transaction not found", http.StatusNotFound)
		return
	}
	f(t)
}

func (s *Server) tx(w http.ResponseWriter, r *http.Request) {
	s.withTx(w, r, func(t chain.Tx) { reply(w, s.transactionOf(t)) })
}

// serialize cannot fail: a bytes.Buffer takes everything.
func serialize(tx *wire.MsgTx) []byte {
	var buf bytes.Buffer
	_ = tx.Serialize(&buf)
	return buf.Bytes()
}

func (s *Server) txHex(w http.ResponseWriter, r *http.Request) {
	s.withTx(w, r, func(t chain.Tx) { text(w, hex.EncodeToString(serialize(t.Msg))) })
}

func (s *Server) txRaw(w http.ResponseWriter, r *http.Request) {
	s.withTx(w, r, func(t chain.Tx) {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(serialize(t.Msg))
	})
}

func (s *Server) txStatus(w http.ResponseWriter, r *http.Request) {
	s.withTx(w, r, func(t chain.Tx) { reply(w, statusOf(t)) })
}

func (s *Server) spendOf(op wire.OutPoint) spend {
	by, spent := s.chain.Spender(op)
	if !spent {
		return spend{}
	}
	id, st, vin := by.Txid.String(), statusOf(by), 0
	for i, in := range by.Msg.TxIn {
		if in.PreviousOutPoint == op {
			vin = i
		}
	}
	return spend{Spent: true, Txid: &id, Vin: &vin, Status: &st}
}

func (s *Server) outspends(w http.ResponseWriter, r *http.Request) {
	s.withTx(w, r, func(t chain.Tx) {
		out := make([]spend, len(t.Msg.TxOut))
		for i := range out {
			out[i] = s.spendOf(wire.OutPoint{Hash: t.Txid, Index: uint32(i)})
		}
		reply(w, out)
	})
}

func (s *Server) outspend(w http.ResponseWriter, r *http.Request) {
	vout, err := strconv.ParseUint(r.PathValue("vout"), 10, 32)
	if err != nil {
		http.Error(w, "Invalid integer", http.StatusBadRequest)
		return
	}
	s.withTx(w, r, func(t chain.Tx) {
		// Esplora does not say whether the output exists either.
		reply(w, s.spendOf(wire.OutPoint{Hash: t.Txid, Index: uint32(vout)}))
	})
}
