// Package esplora owns the HTTP face of a test chain: the part of the Esplora
// API that wallets use, mempool.space's websocket for address tracking, a
// faucet and a miner. It must not know Ark.
package esplora

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/arktest/chain"
)

// Config of a Server; the zero value works.
type Config struct {
	// FeeRate is every fee estimate, in satoshis per virtual byte; 0 means 1.
	FeeRate float64
}

// Server answers over one chain. Every path is also served below /api.
type Server struct {
	chain *chain.Chain
	rate  float64
	mux   *http.ServeMux
	ctx   context.Context // ends the websockets, which outlive their http.Server
	stop  context.CancelFunc
}

// New returns a Server; Close it, or end ctx, to end its websockets.
func New(ctx context.Context, c *chain.Chain, cfg Config) *Server {
	s := &Server{chain: c, rate: cfg.FeeRate, mux: http.NewServeMux()}
	if s.rate == 0 {
		s.rate = 1
	}
	s.ctx, s.stop = context.WithCancel(ctx)
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /tx/{txid}":                       s.tx,
		"GET /tx/{txid}/hex":                   s.txHex,
		"GET /tx/{txid}/raw":                   s.txRaw,
		"GET /tx/{txid}/status":                s.txStatus,
		"GET /tx/{txid}/outspends":             s.outspends,
		"GET /tx/{txid}/outspend/{vout}":       s.outspend,
		"GET /address/{address}":               s.address,
		"GET /address/{address}/utxo":          s.addressUTXO,
		"GET /address/{address}/txs":           s.addressTxs,
		"GET /address/{address}/txs/chain":     s.addressChain,
		"GET /address/{address}/txs/chain/{p}": s.addressChain,
		"GET /address/{address}/txs/mempool":   s.addressMempool,
		"GET /blocks":                          s.blocks,
		"GET /blocks/{start}":                  s.blocks,
		"GET /blocks/tip/height":               s.tipHeight,
		"GET /blocks/tip/hash":                 s.tipHash,
		"GET /block-height/{height}":           s.blockHash,
		"GET /block/{hash}":                    s.block,
		"GET /block/{hash}/header":             s.blockHeader,
		"GET /block/{hash}/status":             s.blockStatus,
		"GET /block/{hash}/txids":              s.blockTxids,
		"GET /block/{hash}/txs":                s.blockTxs,
		"GET /block/{hash}/txs/{start}":        s.blockTxs,
		"GET /mempool":                         s.mempool,
		"GET /mempool/txids":                   s.mempoolTxids,
		"GET /fee-estimates":                   s.feeEstimates,
		"GET /v1/fees/recommended":             s.feesRecommended,
		"GET /v1/ws":                           s.websocket,
		"POST /tx":                             s.broadcast,
		"POST /txs/package":                    s.broadcastPackage,
		"POST /faucet":                         s.faucet,
		"POST /mine":                           s.mine,
		"/":                                    s.unknown,
	} {
		s.mux.HandleFunc(pattern, h)
	}
	return s
}

// Close ends the open websockets; the Server still answers.
func (s *Server) Close() { s.stop() }

// ServeHTTP answers with the headers that browsers ask for.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Headers", "*")
	h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if path := r.URL.Path; path == "/api" || strings.HasPrefix(path, "/api/") {
		http.StripPrefix("/api", s.mux).ServeHTTP(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	http.Error(w, "endpoint does not exist "+r.URL.Path, http.StatusNotFound)
}

// reply writes JSON. What it is given always encodes, and a client that went
// away cannot be told.
func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func text(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "text/plain")
	fmt.Fprint(w, v)
}

// parseHash reads 64 hex characters, or answers 400.
func parseHash(w http.ResponseWriter, s string) (chainhash.Hash, bool) {
	h, err := chainhash.NewHashFromStr(s)
	if err != nil || len(s) != 2*chainhash.HashSize {
		http.Error(w, "Invalid hex string", http.StatusBadRequest)
		return chainhash.Hash{}, false
	}
	return *h, true
}

func (s *Server) feeEstimates(w http.ResponseWriter, _ *http.Request) {
	out := map[string]float64{}
	for _, target := range []string{"1", "2", "3", "4", "5", "6", "10", "20", "144", "504", "1008"} {
		out[target] = s.rate
	}
	reply(w, out)
}

func (s *Server) feesRecommended(w http.ResponseWriter, _ *http.Request) {
	out := map[string]float64{}
	for _, name := range []string{"fastestFee", "halfHourFee", "hourFee", "economyFee", "minimumFee"} {
		out[name] = s.rate
	}
	reply(w, out)
}
