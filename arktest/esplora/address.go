package esplora

import (
	"bytes"
	"net/http"
	"slices"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/txscript/v2"

	"github.com/vigil-ark/vigil/arktest/chain"
)

// Page sizes of Esplora.
const (
	chainPage   = 25
	mempoolPage = 50
)

// maxAddress bounds what is decoded: bech32 stops at 90 characters.
const maxAddress = 128

func (s *Server) scriptOf(addr string) ([]byte, bool) {
	if len(addr) > maxAddress {
		return nil, false
	}
	a, err := address.DecodeAddress(addr, s.chain.Params())
	if err != nil || !a.IsForNet(s.chain.Params()) {
		return nil, false
	}
	script, err := txscript.PayToAddrScript(a)
	return script, err == nil
}

// withScript decodes the path's address, or answers 400.
func (s *Server) withScript(w http.ResponseWriter, r *http.Request, f func([]byte)) {
	script, ok := s.scriptOf(r.PathValue("address"))
	if !ok {
		http.Error(w, "Invalid Bitcoin address", http.StatusBadRequest)
		return
	}
	f(script)
}

func (s *Server) address(w http.ResponseWriter, r *http.Request) {
	s.withScript(w, r, func(script []byte) {
		var confirmed, pooled stats
		for _, t := range s.chain.History(script) {
			st := &pooled
			if t.Confirmed() {
				st = &confirmed
			}
			st.TxCount++
			for _, o := range t.Msg.TxOut {
				if bytes.Equal(o.PkScript, script) {
					st.FundedCount++
					st.FundedSum += o.Value
				}
			}
			for _, in := range t.Msg.TxIn {
				if prev, ok := s.chain.Output(in.PreviousOutPoint); ok && bytes.Equal(prev.PkScript, script) {
					st.SpentCount++
					st.SpentSum += prev.Value
				}
			}
		}
		reply(w, struct {
			Address string `json:"address"`
			Chain   stats  `json:"chain_stats"`
			Mempool stats  `json:"mempool_stats"`
		}{r.PathValue("address"), confirmed, pooled})
	})
}

func (s *Server) addressUTXO(w http.ResponseWriter, r *http.Request) {
	s.withScript(w, r, func(script []byte) {
		out := []utxo{}
		for _, u := range s.chain.UTXOs(script) {
			out = append(out, utxo{
				Txid: u.Outpoint.Hash.String(), Vout: u.Outpoint.Index,
				Status: statusOf(u.Tx), Value: u.Out.Value,
			})
		}
		reply(w, out)
	})
}

// history splits a script's transactions, newest first.
func (s *Server) history(script []byte) (pooled, confirmed []chain.Tx) {
	for _, t := range slices.Backward(s.chain.History(script)) {
		if t.Confirmed() {
			confirmed = append(confirmed, t)
		} else {
			pooled = append(pooled, t)
		}
	}
	// The order of acceptance is not that of confirmation.
	slices.SortStableFunc(confirmed, func(a, b chain.Tx) int {
		if a.Height != b.Height {
			return int(b.Height - a.Height)
		}
		return b.Position - a.Position
	})
	return pooled, confirmed
}

func (s *Server) transactions(lists ...[]chain.Tx) []transaction {
	out := []transaction{}
	for _, list := range lists {
		for _, t := range list {
			out = append(out, s.transactionOf(t))
		}
	}
	return out
}

func (s *Server) addressTxs(w http.ResponseWriter, r *http.Request) {
	s.withScript(w, r, func(script []byte) {
		pooled, confirmed := s.history(script)
		reply(w, s.transactions(first(pooled, mempoolPage), first(confirmed, chainPage)))
	})
}

func (s *Server) addressMempool(w http.ResponseWriter, r *http.Request) {
	s.withScript(w, r, func(script []byte) {
		pooled, _ := s.history(script)
		reply(w, s.transactions(first(pooled, mempoolPage)))
	})
}

// addressChain pages by the last txid that the caller has seen.
func (s *Server) addressChain(w http.ResponseWriter, r *http.Request) {
	s.withScript(w, r, func(script []byte) {
		_, confirmed := s.history(script)
		if p := r.PathValue("p"); p != "" {
			last, ok := parseHash(w, p)
			if !ok {
				return
			}
			i := slices.IndexFunc(confirmed, func(t chain.Tx) bool { return t.Txid == last })
			confirmed = confirmed[i+1:]
		}
		reply(w, s.transactions(first(confirmed, chainPage)))
	})
}

func first[T any](list []T, n int) []T { return list[:min(n, len(list))] }
