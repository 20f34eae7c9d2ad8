package esplora

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/chain"
)

// Bounds on what is read.
const (
	// maxTxHex is the hex of the largest transaction that the chain takes.
	maxTxHex = 2 * chain.MaxTxWeight
	// maxBody holds a package of one parent and one child.
	maxBody = 2*maxTxHex + 1024
)

// Codes of Bitcoin Core's RPC that wallets know.
const (
	codeRejected = -26
	codeKnown    = -27
	codeDecode   = -22
	codeMissing  = -25
)

// rpcError is how Esplora passes on what its node answered.
func rpcError(w http.ResponseWriter, method string, code int, message string) {
	b, err := json.Marshal(struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{code, message})
	if err != nil {
		b = []byte(message)
	}
	http.Error(w, fmt.Sprintf("%s RPC error: %s", method, b), http.StatusBadRequest)
}

func codeOf(err error) int {
	switch {
	case errors.Is(err, chain.ErrConfirmed):
		return codeKnown
	case errors.Is(err, chain.ErrMissingOrSpent):
		return codeMissing
	}
	return codeRejected
}

//lint:ignore ST1005 the text of Bitcoin Core, which wallets match
var errDecode = errors.New("TX decode failed. Make sure the tx has at least one input.")

func decodeTx(text string) (*wire.MsgTx, error) {
	raw, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(raw) > chain.MaxTxWeight {
		return nil, errDecode
	}
	var tx wire.MsgTx
	r := bytes.NewReader(raw)
	if err := tx.Deserialize(r); err != nil || r.Len() > 0 {
		return nil, errDecode
	}
	return &tx, nil
}

func (s *Server) broadcast(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "request body too large or cut short", http.StatusBadRequest)
		return
	}
	tx, err := decodeTx(string(body))
	if err != nil {
		rpcError(w, "sendrawtransaction", codeDecode, err.Error())
		return
	}
	if err := s.chain.Broadcast(tx); err != nil {
		rpcError(w, "sendrawtransaction", codeOf(err), err.Error())
		return
	}
	text(w, tx.TxHash())
}

// broadcastPackage answers as Bitcoin Core's submitpackage does.
func (s *Server) broadcastPackage(w http.ResponseWriter, r *http.Request) {
	var list []string
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&list); err != nil {
		http.Error(w, "body is no list of transactions", http.StatusBadRequest)
		return
	}
	txs := make([]*wire.MsgTx, len(list))
	for i, text := range list {
		tx, err := decodeTx(text)
		if err != nil {
			rpcError(w, "submitpackage", codeDecode, fmt.Sprintf("%s: %d", err, i))
			return
		}
		txs[i] = tx
	}
	if err := s.chain.Package(txs...); err != nil {
		rpcError(w, "submitpackage", codeOf(err), err.Error())
		return
	}
	type result struct {
		Txid  string `json:"txid"`
		VSize int64  `json:"vsize"`
	}
	out := struct {
		Message  string            `json:"package_msg"`
		Results  map[string]result `json:"tx-results"`
		Replaced []string          `json:"replaced-transactions"`
	}{Message: "success", Results: map[string]result{}, Replaced: []string{}}
	for _, tx := range txs {
		out.Results[tx.WitnessHash().String()] = result{tx.TxHash().String(), vsize(chain.Weight(tx))}
	}
	reply(w, out)
}

// faucetDefault is paid when the request names no amount: 1 BTC.
const faucetDefault = 100_000_000

// faucet pays {"address", "sats"} (or "amount" in BTC) and mines one block
// unless "noMine" is set.
func (s *Server) faucet(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Address string  `json:"address"`
		Amount  float64 `json:"amount"`
		Sats    int64   `json:"sats"`
		NoMine  bool    `json:"noMine"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&req); err != nil {
		http.Error(w, `body is no {"address", "sats"}`, http.StatusBadRequest)
		return
	}
	script, ok := s.scriptOf(req.Address)
	if !ok {
		http.Error(w, "Invalid Bitcoin address", http.StatusBadRequest)
		return
	}
	if req.Sats == 0 && req.Amount > 0 && req.Amount <= 21e6 {
		req.Sats = int64(math.Round(req.Amount * 1e8))
	}
	if req.Sats == 0 {
		req.Sats = faucetDefault
	}
	op, err := s.chain.Faucet(script, req.Sats)
	if err == nil && !req.NoMine {
		err = s.chain.Mine(1)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	reply(w, struct {
		Txid string `json:"txId"`
		Vout uint32 `json:"vout"`
	}{op.Hash.String(), op.Index})
}

// mineLimit keeps one request short.
const mineLimit = 1000

// mine mines ?n= blocks, by default one.
func (s *Server) mine(w http.ResponseWriter, r *http.Request) {
	n := 1
	if v := r.URL.Query().Get("n"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 1 || n > mineLimit {
			http.Error(w, fmt.Sprintf("n must be 1 to %d", mineLimit), http.StatusBadRequest)
			return
		}
	}
	if err := s.chain.Mine(n); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	tip := s.chain.Tip()
	reply(w, struct {
		Height int32  `json:"height"`
		Hash   string `json:"hash"`
	}{tip.Height, tip.Hash.String()})
}
