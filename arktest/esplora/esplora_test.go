package esplora_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"go.uber.org/goleak"
	"golang.org/x/net/websocket"

	"github.com/vigil-ark/vigil/arktest/chain"
	"github.com/vigil-ark/vigil/arktest/esplora"
)

// anyone is the address of a witness script hash of OP_TRUE: tests spend it
// without a key.
func anyone(t *testing.T) (addr string, script []byte) {
	t.Helper()
	hash := bytesOf(t, "4ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260")
	a, err := address.NewAddressWitnessScriptHash(hash, &chaincfg.RegressionNetParams)
	if err != nil {
		t.Fatal(err)
	}
	script, err = txscript.PayToAddrScript(a)
	if err != nil {
		t.Fatal(err)
	}
	return a.EncodeAddress(), script
}

// plain is an address that only receives.
func plain(t *testing.T) string {
	t.Helper()
	a, err := address.NewAddressTaproot(bytes.Repeat([]byte{2}, 32), &chaincfg.RegressionNetParams)
	if err != nil {
		t.Fatal(err)
	}
	return a.EncodeAddress()
}

func bytesOf(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type bench struct {
	t     *testing.T
	chain *chain.Chain
	h     *esplora.Server
}

func newBench(t *testing.T) *bench {
	t.Helper()
	c, err := chain.New(chain.Config{Clock: chain.NewManualClock(time.Unix(1_800_000_000, 0)), Blocks: 30})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t, c, esplora.New(t.Context(), c, esplora.Config{FeeRate: 2})}
}

func (b *bench) do(method, path, body string) (int, string) {
	b.t.Helper()
	w := httptest.NewRecorder()
	b.h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

// get decodes a JSON answer.
func (b *bench) get(path string, into any) {
	b.t.Helper()
	code, body := b.do(http.MethodGet, path, "")
	if code != http.StatusOK {
		b.t.Fatalf("%s: %d %s", path, code, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		b.t.Fatalf("%s: %s: %v", path, body, err)
	}
}

func TestWalletsDay(t *testing.T) {
	b := newBench(t)
	addr := plain(t)
	code, body := b.do(http.MethodPost, "/api/faucet", fmt.Sprintf(`{"address":%q,"sats":70000}`, addr))
	if code != http.StatusOK {
		t.Fatal(body)
	}
	var paid struct{ TxID string }
	if err := json.Unmarshal([]byte(body), &paid); err != nil {
		t.Fatal(err)
	}
	tip := b.chain.Tip()

	var coins []map[string]any
	b.get("/address/"+addr+"/utxo", &coins)
	want := map[string]any{
		"txid": paid.TxID, "vout": 0.0, "value": 70000.0,
		"status": map[string]any{
			"confirmed": true, "block_height": 31.0, "block_hash": tip.Hash.String(),
			"block_time": float64(tip.Header.Timestamp.Unix()),
		},
	}
	if got := fmt.Sprint(coins); got != fmt.Sprint([]map[string]any{want}) {
		t.Fatalf("utxo: %s", got)
	}

	var tx map[string]any
	b.get("/tx/"+paid.TxID, &tx)
	for _, key := range []string{"txid", "version", "locktime", "vin", "vout", "size", "weight", "fee", "status"} {
		if _, ok := tx[key]; !ok {
			t.Errorf("tx has no %s", key)
		}
	}
	out := tx["vout"].([]any)[0].(map[string]any)
	if out["scriptpubkey_type"] != "v1_p2tr" || out["scriptpubkey_address"] != addr ||
		out["scriptpubkey_asm"] != "OP_PUSHNUM_1 OP_PUSHBYTES_32 "+strings.Repeat("02", 32) {
		t.Errorf("output %v", out)
	}
	if prev := tx["vin"].([]any)[0].(map[string]any)["prevout"]; prev == nil {
		t.Error("input without prevout")
	}

	var list []map[string]any
	b.get("/address/"+addr+"/txs", &list)
	if len(list) != 1 || list[0]["txid"] != paid.TxID {
		t.Fatalf("txs: %v", list)
	}
	b.get("/address/"+addr+"/txs/chain/"+paid.TxID, &list)
	if len(list) != 0 {
		t.Fatalf("after the last: %v", list)
	}
	b.get("/blocks", &list)
	if len(list) != 10 || list[0]["height"] != 31.0 || list[0]["id"] != tip.Hash.String() || list[0]["mediantime"].(float64) <= 0 {
		t.Fatalf("blocks: %v", list[0])
	}
	if _, body := b.do(http.MethodGet, "/blocks/tip/height", ""); body != "31" {
		t.Fatalf("height %q", body)
	}
	var fees map[string]float64
	b.get("/fee-estimates", &fees)
	if fees["1"] != 2 {
		t.Fatalf("fees %v", fees)
	}
}

func TestBroadcastAndOutspends(t *testing.T) {
	b := newBench(t)
	_, script := anyone(t)
	op, err := b.chain.Faucet(script, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	spend := func(sats int64) *wire.MsgTx {
		tx := wire.NewMsgTx(2)
		tx.AddTxIn(wire.NewTxIn(&op, nil, wire.TxWitness{{txscript.OP_TRUE}}))
		tx.AddTxOut(wire.NewTxOut(sats, script))
		return tx
	}
	raw := func(tx *wire.MsgTx) string {
		var buf bytes.Buffer
		if err := tx.Serialize(&buf); err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(buf.Bytes())
	}
	tx := spend(9_000)
	code, body := b.do(http.MethodPost, "/tx", raw(tx)+"\n")
	if code != http.StatusOK || body != tx.TxID() {
		t.Fatalf("%d %s", code, body)
	}
	code, body = b.do(http.MethodPost, "/tx", raw(spend(8_000)))
	if code != http.StatusBadRequest || !strings.HasPrefix(body, `sendrawtransaction RPC error: {"code":-26,"message":"txn-mempool-conflict`) {
		t.Fatalf("double spend: %d %s", code, body)
	}
	code, body = b.do(http.MethodPost, "/tx", raw(spend(10_001)))
	if code != http.StatusBadRequest || !strings.Contains(body, `"code":-26`) {
		t.Fatalf("inflation: %d %s", code, body)
	}
	if _, got := b.do(http.MethodGet, "/tx/"+tx.TxID()+"/hex", ""); got != raw(tx) {
		t.Fatalf("hex %s", got)
	}
	if _, got := b.do(http.MethodGet, "/tx/"+tx.TxID()+"/status", ""); got != "{\"confirmed\":false}\n" {
		t.Fatalf("status %s", got)
	}
	if code, body := b.do(http.MethodPost, "/mine?n=3", ""); code != http.StatusOK {
		t.Fatal(body)
	}
	var spends []struct {
		Spent  bool
		Txid   string
		Vin    *int
		Status struct{ Confirmed bool }
	}
	b.get("/tx/"+op.Hash.String()+"/outspends", &spends)
	if s := spends[0]; !s.Spent || s.Txid != tx.TxID() || s.Vin == nil || !s.Status.Confirmed {
		t.Fatalf("outspends %+v", spends)
	}
	if _, got := b.do(http.MethodGet, "/tx/"+tx.TxID()+"/outspend/0", ""); got != "{\"spent\":false}\n" {
		t.Fatalf("outspend %s", got)
	}
	if code, body := b.do(http.MethodPost, "/tx", raw(tx)); code != 400 || !strings.Contains(body, `"code":-27`) {
		t.Fatalf("confirmed again: %d %s", code, body)
	}

	// One parent, one child.
	parent := wire.NewMsgTx(3)
	parent.AddTxIn(wire.NewTxIn(&wire.OutPoint{Hash: tx.TxHash()}, nil, wire.TxWitness{{txscript.OP_TRUE}}))
	parent.AddTxOut(wire.NewTxOut(9_000, script))
	parent.AddTxOut(wire.NewTxOut(0, txscript.PayToAnchorScript))
	child := wire.NewMsgTx(3)
	child.AddTxIn(wire.NewTxIn(&wire.OutPoint{Hash: parent.TxHash(), Index: 1}, nil, nil))
	child.AddTxOut(wire.NewTxOut(0, []byte{txscript.OP_RETURN}))
	pack, err := json.Marshal([]string{raw(parent), raw(child)})
	if err != nil {
		t.Fatal(err)
	}
	code, body = b.do(http.MethodPost, "/txs/package", string(pack))
	if code != http.StatusOK || !strings.Contains(body, `"package_msg":"success"`) || !strings.Contains(body, child.WitnessHash().String()) {
		t.Fatalf("package: %d %s", code, body)
	}
	var ids []string
	b.get("/mempool/txids", &ids)
	if len(ids) != 2 {
		t.Fatalf("mempool %v", ids)
	}
}

func TestBlockPaths(t *testing.T) {
	b := newBench(t)
	tip := b.chain.Tip()
	_, hash := b.do(http.MethodGet, "/block-height/30", "")
	if hash != tip.Hash.String() {
		t.Fatalf("hash %s", hash)
	}
	var body map[string]any
	b.get("/block/"+hash, &body)
	if body["id"] != hash || body["previousblockhash"] != tip.Header.PrevBlock.String() || body["tx_count"] != 1.0 {
		t.Fatalf("block %v", body)
	}
	_, raw := b.do(http.MethodGet, "/block/"+hash+"/header", "")
	var header wire.BlockHeader
	if err := header.Deserialize(bytes.NewReader(bytesOf(t, raw))); err != nil || header.BlockHash() != tip.Hash {
		t.Fatalf("header %s: %v", raw, err)
	}
	if _, got := b.do(http.MethodGet, "/block/"+hash+"/txids", ""); got != fmt.Sprintf("[%q]\n", tip.Txids[0]) {
		t.Fatalf("txids %s", got)
	}
	var txs []map[string]any
	b.get("/block/"+hash+"/txs", &txs)
	if len(txs) != 1 || txs[0]["fee"] != 0.0 {
		t.Fatalf("txs %v", txs)
	}
	if _, err := b.chain.Invalidate(1); err != nil {
		t.Fatal(err)
	}
	if code, _ := b.do(http.MethodGet, "/block/"+hash, ""); code != http.StatusNotFound {
		t.Fatalf("invalidated block: %d", code)
	}
	b.get("/block/"+hash+"/status", &body)
	if body["in_best_chain"] != false {
		t.Fatalf("status %v", body)
	}
}

func TestBadRequests(t *testing.T) {
	b := newBench(t)
	zeros := strings.Repeat("0", 64)
	tests := []struct {
		method, path, body string
		code               int
	}{
		{"GET", "/tx/zz", "", 400},
		{"GET", "/tx/00", "", 400},
		{"GET", "/tx/" + zeros + "00", "", 400},
		{"GET", "/tx/" + zeros, "", 404},
		{"GET", "/tx/" + zeros + "/hex", "", 404},
		{"GET", "/tx/" + zeros + "/outspend/-1", "", 400},
		{"GET", "/tx/" + zeros + "/outspend/4294967296", "", 400},
		{"GET", "/address/nonsense/utxo", "", 400},
		{"GET", "/address/bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4/txs", "", 400}, // mainnet
		{"GET", "/address/" + strings.Repeat("q", 5000), "", 400},
		{"GET", "/block/" + zeros, "", 404},
		{"GET", "/block-height/-1", "", 404},
		{"GET", "/block-height/99999999999", "", 400},
		{"GET", "/blocks/x", "", 400},
		{"GET", "/nothing", "", 404},
		{"GET", "/api/nothing", "", 404},
		{"POST", "/tx", "", 400},
		{"POST", "/tx", "zz", 400},
		{"POST", "/tx", "02000000000000000000", 400},
		{"POST", "/tx", strings.Repeat("00", 2<<20), 400},
		{"POST", "/txs/package", "{", 400},
		{"POST", "/txs/package", "[]", 400},
		{"POST", "/txs/package", `["00"]`, 400},
		{"POST", "/faucet", "{}", 400},
		{"POST", "/faucet", `{"address":"` + plain(t) + `","sats":-5}`, 400},
		{"POST", "/faucet", `{"address":"` + plain(t) + `","sats":2100000000000001}`, 400},
		{"POST", "/mine?n=0", "", 400},
		{"POST", "/mine?n=1001", "", 400},
	}
	for _, tt := range tests {
		if code, body := b.do(tt.method, tt.path, tt.body); code != tt.code {
			t.Errorf("%s %.80s: %d %.200s, want %d", tt.method, tt.path, code, body, tt.code)
		}
	}
	if len(b.chain.Mempool()) != 0 {
		t.Error("a bad request left a transaction")
	}
}

func TestPreflight(t *testing.T) {
	b := newBench(t)
	w := httptest.NewRecorder()
	b.h.ServeHTTP(w, httptest.NewRequest(http.MethodOptions, "/tx", nil))
	if w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
}

func TestWebsocketTracksAddresses(t *testing.T) {
	defer goleak.VerifyNone(t)
	b := newBench(t)
	srv := httptest.NewServer(b.h)
	defer srv.Close()
	defer b.h.Close()
	ws, err := websocket.Dial("ws"+strings.TrimPrefix(srv.URL, "http")+"/api/v1/ws", "", "http://wallet")
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	addr, script := anyone(t)
	send := func(v any) {
		if err := websocket.JSON.Send(ws, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := websocket.Message.Send(ws, "no json"); err != nil {
		t.Fatal(err)
	}
	send(map[string]any{"track-addresses": []string{plain(t), "nonsense"}})
	send(map[string]any{"action": "ping"}) // its answer says that the list was taken
	var pong map[string]bool
	if err := websocket.JSON.Receive(ws, &pong); err != nil || !pong["pong"] {
		t.Fatalf("%v %v", pong, err)
	}
	if _, err := b.chain.Faucet(script, 1000); err != nil { // not tracked
		t.Fatal(err)
	}
	code, body := b.do(http.MethodPost, "/faucet", fmt.Sprintf(`{"address":%q,"sats":5000}`, plain(t)))
	if code != http.StatusOK {
		t.Fatal(body)
	}
	for _, kind := range []string{"mempool", "confirmed"} {
		var msg struct {
			Multi map[string]map[string][]struct {
				Txid   string
				Status struct{ Confirmed bool }
			} `json:"multi-address-transactions"`
		}
		if err := websocket.JSON.Receive(ws, &msg); err != nil {
			t.Fatal(err)
		}
		got := msg.Multi[plain(t)]
		if len(msg.Multi) != 1 || len(got[kind]) != 1 || len(got["mempool"])+len(got["confirmed"])+len(got["removed"]) != 1 {
			t.Fatalf("%s: %+v", kind, msg)
		}
		if got[kind][0].Status.Confirmed != (kind == "confirmed") || !strings.Contains(body, got[kind][0].Txid) {
			t.Fatalf("%s: %+v of %s, not tracked %s", kind, got, body, addr)
		}
	}
	b.h.Close()
	if err := websocket.JSON.Receive(ws, &pong); err == nil {
		t.Fatal("the socket outlived the server")
	}
}

// FuzzHTTP holds that no path or body makes the server panic or answer with
// a server error.
func FuzzHTTP(f *testing.F) {
	for _, s := range [][2]string{
		{"/tx/" + strings.Repeat("0", 64), ""},
		{"/tx/%zz/hex", "00"},
		{"/address/bcrt1/utxo", ""},
		{"/txs/package", `["00",1]`},
		{"/tx", "020000000001"},
		{"/blocks/9223372036854775807", ""},
		{"/faucet", `{"address":"bcrt1pfeesnyr2tx","sats":9223372036854775807}`},
	} {
		f.Add(s[0], s[1])
	}
	c, err := chain.New(chain.Config{Clock: chain.NewManualClock(time.Unix(1_800_000_000, 0)), Blocks: 3})
	if err != nil {
		f.Fatal(err)
	}
	h := esplora.New(f.Context(), c, esplora.Config{})
	f.Fuzz(func(t *testing.T, path, body string) {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r, err := http.NewRequest(method, "http://x/"+strings.TrimPrefix(path, "/"), io.NopCloser(strings.NewReader(body)))
			if err != nil || strings.HasPrefix(r.URL.Path, "/mine") || strings.HasSuffix(r.URL.Path, "/v1/ws") {
				t.Skip()
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Fatalf("%s %q %q: %d %s", method, path, body, w.Code, w.Body)
			}
		}
	})
}
