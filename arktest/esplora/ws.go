package esplora

import (
	"context"
	"encoding/json"
	"net/http"

	"golang.org/x/net/websocket"

	"github.com/vigil-ark/vigil/arktest/chain"
)

// Bounds of one websocket.
const (
	maxMessage = 64 << 10
	maxTracked = 1000
	wsBuffer   = 4096 // events; a client slower than that is cut off and polls
)

// websocket serves the part of mempool.space's protocol by which wallets track
// addresses: {"track-addresses": […]}, answered by
// {"multi-address-transactions": {address: {mempool, confirmed, removed}}}.
func (s *Server) websocket(w http.ResponseWriter, r *http.Request) {
	// A Server, not a Handler: the latter refuses clients without an Origin, and
	// Node's has none.
	websocket.Server{Handler: s.track}.ServeHTTP(w, r)
}

type request struct {
	Action string   `json:"action"`
	One    string   `json:"track-address"`
	Many   []string `json:"track-addresses"`
}

func (s *Server) track(ws *websocket.Conn) {
	ws.MaxPayloadBytes = maxMessage
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	sub := s.chain.Subscribe(wsBuffer)
	defer sub.Close()

	requests := make(chan request)
	reader := make(chan struct{})
	go func() {
		defer close(reader)
		defer cancel()
		for {
			var raw []byte
			if err := websocket.Message.Receive(ws, &raw); err != nil {
				return
			}
			var req request
			if json.Unmarshal(raw, &req) != nil {
				continue // other messages of the protocol are none of ours
			}
			select {
			case requests <- req:
			case <-ctx.Done():
				return
			}
		}
	}()
	s.push(ctx, ws, sub, requests)
	cancel()
	_ = ws.Close() // ends the reader
	<-reader
}

// push answers requests and forwards events until something ends.
func (s *Server) push(ctx context.Context, ws *websocket.Conn, sub *chain.Subscription, requests <-chan request) {
	tracked := map[string]string{} // script to address
	for {
		select {
		case <-ctx.Done():
			return
		case req := <-requests:
			if req.Action == "ping" {
				if websocket.JSON.Send(ws, map[string]bool{"pong": true}) != nil {
					return
				}
			}
			if req.One != "" {
				req.Many = append(req.Many, req.One)
			}
			if req.Many != nil {
				tracked = map[string]string{}
			}
			for _, addr := range first(req.Many, maxTracked) {
				if script, ok := s.scriptOf(addr); ok {
					tracked[string(script)] = addr
				}
			}
		case ev, open := <-sub.C():
			if !open {
				return
			}
			notice := s.notice(ev, tracked)
			if notice != nil && websocket.JSON.Send(ws, notice) != nil {
				return
			}
		}
	}
}

type addressNotice struct {
	Mempool   []transaction `json:"mempool"`
	Confirmed []transaction `json:"confirmed"`
	Removed   []transaction `json:"removed"`
}

// notice says what an event means to the tracked addresses; nil for nothing.
func (s *Server) notice(ev chain.Event, tracked map[string]string) any {
	if ev.Tx.Msg == nil {
		return nil
	}
	touched := map[string]addressNotice{}
	touch := func(script []byte) {
		addr, ok := tracked[string(script)]
		if _, done := touched[addr]; !ok || done {
			return
		}
		n := addressNotice{Mempool: []transaction{}, Confirmed: []transaction{}, Removed: []transaction{}}
		one := []transaction{s.transactionOf(ev.Tx)}
		switch ev.Kind {
		case chain.Seen:
			n.Mempool = one
		case chain.Confirmed:
			n.Confirmed = one
		case chain.Evicted:
			n.Removed = one
		}
		touched[addr] = n
	}
	for _, o := range ev.Tx.Msg.TxOut {
		touch(o.PkScript)
	}
	for _, in := range ev.Tx.Msg.TxIn {
		if prev, ok := s.chain.Output(in.PreviousOutPoint); ok {
			touch(prev.PkScript)
		}
	}
	if len(touched) == 0 {
		return nil
	}
	return map[string]any{"multi-address-transactions": touched}
}
