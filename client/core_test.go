package client_test

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/chain"
)

// bitcoind names an executable of Bitcoin Core, 29 or newer. Where it is set, every
// world's Esplora asks it before it takes what a device broadcasts: the test chain
// keeps the rules of consensus, and a real node those of relay too.
const bitcoind = "VIGIL_BITCOIND"

// underCore gives cfg a chain whose blocks Bitcoin Core takes.
func underCore(t *testing.T, cfg arktest.Config) arktest.Config {
	t.Helper()
	if os.Getenv(bitcoind) == "" || cfg.Chain != nil {
		return cfg
	}
	c, err := chain.New(chain.Config{Clock: cfg.Clock, CoinbaseMaturity: 100})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Chain = c
	return cfg
}

// judged is the operator's Esplora, with Bitcoin Core before it where there is one.
func judged(t *testing.T, op *arktest.Operator) string {
	t.Helper()
	exe := os.Getenv(bitcoind)
	if exe == "" {
		return op.EsploraURL()
	}
	at, err := url.Parse(op.EsploraURL())
	if err != nil {
		t.Fatal(err)
	}
	j := &judge{T: t, chain: op.Chain(), core: startCore(t, exe), next: httputil.NewSingleHostReverseProxy(at)}
	s := httptest.NewServer(j)
	t.Cleanup(s.Close)
	return s.URL
}

// judge is an Esplora that lets nothing pass that Bitcoin Core does not relay.
type judge struct {
	*testing.T
	mu     sync.Mutex
	chain  *chain.Chain
	core   *core
	height int32 // of the last block that Core has
	next   http.Handler
}

func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost && (r.URL.Path == "/tx" || r.URL.Path == "/txs/package") {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := j.relays(r.URL.Path, body); err != nil {
			j.Errorf("Bitcoin Core does not relay it: %v", err)
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	j.next.ServeHTTP(w, r)
}

// relays brings Core to the chain's tip and offers it what a device broadcasts.
func (j *judge) relays(path string, body []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.follow(); err != nil {
		return err
	}
	if path == "/tx" {
		var txid string
		return j.core.call(&txid, "sendrawtransaction", strings.TrimSpace(string(body)))
	}
	var list []string
	if err := json.Unmarshal(body, &list); err != nil || len(list) == 0 {
		return fmt.Errorf("no package: %w", cmp.Or(err, errBlock))
	}
	// The control: a parent that pays nothing is not relayed without its child.
	var alone []struct {
		Allowed bool `json:"allowed"`
	}
	if err := j.core.call(&alone, "testmempoolaccept", list[:1]); err != nil || len(alone) != 1 || alone[0].Allowed {
		return fmt.Errorf("a parent alone: %v, %w", alone, cmp.Or(err, errControl))
	}
	var answer struct {
		Message string `json:"package_msg"`
		Results map[string]struct {
			Error string `json:"error"`
		} `json:"tx-results"`
	}
	if err := j.core.call(&answer, "submitpackage", list); err != nil {
		return err
	}
	if answer.Message != "success" {
		return fmt.Errorf("%s: %v", answer.Message, answer.Results)
	}
	j.Logf("Bitcoin Core relays a package of %d", len(list))
	return nil
}

// follow gives Core every block that it has not.
func (j *judge) follow() error {
	tip := j.chain.Tip()
	if err := j.core.call(nil, "setmocktime", max(time.Now().Unix(), tip.Header.Timestamp.Unix())); err != nil {
		return err
	}
	for ; j.height < tip.Height; j.height++ {
		b, _ := j.chain.BlockAt(j.height + 1)
		block := wire.NewMsgBlock(&b.Header)
		for _, id := range b.Txids {
			tx, _ := j.chain.Tx(id)
			if err := block.AddTransaction(tx.Msg); err != nil {
				return err
			}
		}
		var raw bytes.Buffer
		if err := block.Serialize(&raw); err != nil {
			return err
		}
		var refused string
		if err := j.core.call(&refused, "submitblock", hex.EncodeToString(raw.Bytes())); err != nil || refused != "" {
			return fmt.Errorf("block %d: %s, %w", b.Height, refused, cmp.Or(err, errBlock))
		}
	}
	return nil
}

var (
	errBlock   = errors.New("refused")
	errControl = errors.New("is relayed, so that nothing is judged")
)

// core is a running Bitcoin Core.
type core struct {
	t   *testing.T
	url string
}

// startCore runs Bitcoin Core on an empty regtest chain, alone, with the relay
// rules and the least fees of a node on the main chain.
func startCore(t *testing.T, exe string) *core {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	_ = lis.Close()
	_, port, _ := net.SplitHostPort(addr)
	dir := t.TempDir()
	var said bytes.Buffer
	cmd := exec.Command(exe, "-regtest", "-datadir="+dir, "-listen=0", "-dnsseed=0", "-connect=0", "-rpcport="+port, "-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1",
		"-rpcuser=test", "-rpcpassword=test", "-acceptnonstdtxn=0", "-minrelaytxfee=0.00001", "-incrementalrelayfee=0.00001", "-dbcache=8", "-printtoconsole=1")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	c := &core{t, "http://test:test@" + addr}
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("Bitcoin Core ended: %v\n%s", err, said.Bytes())
		case <-t.Context().Done():
			t.Fatal("Bitcoin Core did not start")
		case <-tick.C:
		}
		if err := c.call(nil, "getblockcount"); err == nil {
			tick.Stop()
			return c
		}
	}
}

// call asks Core by JSON-RPC.
func (c *core) call(out any, method string, params ...any) error {
	body, err := json.Marshal(map[string]any{"jsonrpc": "1.0", "id": "1", "method": method, "params": append([]any{}, params...)})
	if err != nil {
		return err
	}
	resp, err := http.Post(c.url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %s: %w", method, resp.Status, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s: %s (%d)", method, answer.Error.Message, answer.Error.Code)
	}
	if out == nil || string(answer.Result) == "null" {
		return nil
	}
	return json.Unmarshal(answer.Result, out)
}
