package esplora

import (
	"bytes"
	"encoding/hex"
	"net/http"
	"strconv"

	"github.com/vigil-ark/vigil/arktest/chain"
)

func (s *Server) tipHeight(w http.ResponseWriter, _ *http.Request) { text(w, s.chain.Tip().Height) }
func (s *Server) tipHash(w http.ResponseWriter, _ *http.Request)   { text(w, s.chain.Tip().Hash) }

// blocksPage is how many blocks Esplora lists at once.
const blocksPage = 10

// blocks lists blocks downwards from the tip, or from a height. "tip" is taken
// for the tip, as electrs does and older wallets ask.
func (s *Server) blocks(w http.ResponseWriter, r *http.Request) {
	height := s.chain.Tip().Height
	if start := r.PathValue("start"); start != "" && start != "tip" {
		h, err := strconv.ParseInt(start, 10, 32)
		if err != nil || h < 0 {
			http.Error(w, "Invalid height", http.StatusBadRequest)
			return
		}
		height = min(height, int32(h))
	}
	out := []blockBody{}
	for ; height >= 0 && len(out) < blocksPage; height-- {
		if b, ok := s.chain.BlockAt(height); ok {
			out = append(out, blockOf(b))
		}
	}
	reply(w, out)
}

func (s *Server) blockHash(w http.ResponseWriter, r *http.Request) {
	h, err := strconv.ParseInt(r.PathValue("height"), 10, 32)
	if err != nil {
		http.Error(w, "Invalid height", http.StatusBadRequest)
		return
	}
	b, ok := s.chain.BlockAt(int32(h))
	if !ok {
		http.Error(w, "Block not found", http.StatusNotFound)
		return
	}
	text(w, b.Hash)
}

// withBlock looks up the path's block; without one it answers.
func (s *Server) withBlock(w http.ResponseWriter, r *http.Request, f func(chain.Block)) {
	hash, ok := parseHash(w, r.PathValue("hash"))
	if !ok {
		return
	}
	b, ok := s.chain.Block(hash)
	if !ok {
		http.Error(w, "Block not found", http.StatusNotFound)
		return
	}
	f(b)
}

func (s *Server) block(w http.ResponseWriter, r *http.Request) {
	s.withBlock(w, r, func(b chain.Block) { reply(w, blockOf(b)) })
}

func (s *Server) blockHeader(w http.ResponseWriter, r *http.Request) {
	s.withBlock(w, r, func(b chain.Block) {
		var buf bytes.Buffer
		_ = b.Header.Serialize(&buf) // a buffer takes everything
		text(w, hex.EncodeToString(buf.Bytes()))
	})
}

func (s *Server) blockStatus(w http.ResponseWriter, r *http.Request) {
	hash, ok := parseHash(w, r.PathValue("hash"))
	if !ok {
		return
	}
	var out struct {
		InBestChain bool    `json:"in_best_chain"`
		Height      *int32  `json:"height,omitempty"`
		NextBest    *string `json:"next_best,omitempty"`
	}
	if b, ok := s.chain.Block(hash); ok {
		out.InBestChain, out.Height = true, &b.Height
		if next, ok := s.chain.BlockAt(b.Height + 1); ok {
			id := next.Hash.String()
			out.NextBest = &id
		}
	}
	reply(w, out)
}

func (s *Server) blockTxids(w http.ResponseWriter, r *http.Request) {
	s.withBlock(w, r, func(b chain.Block) {
		out := []string{}
		for _, id := range b.Txids {
			out = append(out, id.String())
		}
		reply(w, out)
	})
}

func (s *Server) blockTxs(w http.ResponseWriter, r *http.Request) {
	s.withBlock(w, r, func(b chain.Block) {
		start := 0
		if v := r.PathValue("start"); v != "" {
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 || n%chainPage != 0 || n >= len(b.Txids) {
				http.Error(w, "start index out of range", http.StatusBadRequest)
				return
			}
			start = n
		}
		var list []chain.Tx
		for _, id := range first(b.Txids[start:], chainPage) {
			if t, ok := s.chain.Tx(id); ok {
				list = append(list, t)
			}
		}
		reply(w, s.transactions(list))
	})
}

func (s *Server) mempool(w http.ResponseWriter, _ *http.Request) {
	out := struct {
		Count     int          `json:"count"`
		VSize     int64        `json:"vsize"`
		Fees      int64        `json:"total_fee"`
		Histogram [][2]float64 `json:"fee_histogram"`
	}{Histogram: [][2]float64{}}
	for _, t := range s.chain.Mempool() {
		out.Count++
		out.VSize += vsize(t.Weight)
		out.Fees += t.Fee
	}
	reply(w, out)
}

// vsize is a weight in virtual bytes, rounded up.
func vsize(weight int64) int64 { return (weight + 3) / 4 }

func (s *Server) mempoolTxids(w http.ResponseWriter, _ *http.Request) {
	out := []string{}
	for _, t := range s.chain.Mempool() {
		out = append(out, t.Txid.String())
	}
	reply(w, out)
}
