package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/sealed"
	"github.com/vigil-ark/vigil/vigilpb"
)

// minting makes this test binary an operator that makes coins when told to: a
// process of its own, so that its processor time is not taken for Vigil's or the
// devices'.
const minting = "VIGIL_TEST_MINT"

// coins are what the operator is told to make, one JSON object a line.
type coins struct {
	Script []byte `json:"script"`
	Amount int64  `json:"amount"`
	Count  int    `json:"count"`
}

// minted is its answer; the first comes unasked.
type minted struct {
	URL     string `json:"url,omitempty"`
	Esplora string `json:"esplora,omitempty"`
	Error   string `json:"error,omitempty"`
}

// TestMint is no test: it is the operator's process of a benchmark.
func TestMint(t *testing.T) {
	if os.Getenv(minting) == "" {
		t.Skip("runs only as the operator's process of a benchmark")
	}
	op, err := arktest.Start(arktest.Config{Settings: arktest.Settings{TreeExpiry: 512 * 1024}})
	if err != nil {
		t.Fatal(err)
	}
	defer op.Close()
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	answer := minted{URL: op.URL(), Esplora: op.EsploraURL()}
	for out.Encode(answer) == nil {
		var c coins
		if in.Decode(&c) != nil {
			return // the benchmark is over
		}
		outs := make([]*wire.TxOut, c.Count)
		for i := range outs {
			outs[i] = wire.NewTxOut(c.Amount, c.Script)
		}
		answer = minted{}
		if _, err := op.Mint(outs...); err != nil {
			answer.Error = err.Error()
		}
	}
}

// mint is the operator's process as a benchmark sees it.
type mint struct {
	b            *testing.B
	pid          int
	url, esplora string
	send         *json.Encoder
	hear         *json.Decoder
}

func startMint(b *testing.B) *mint {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestMint$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), minting+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			b.Errorf("the operator's process: %v", err)
		}
	})
	m := &mint{b: b, pid: cmd.Process.Pid, send: json.NewEncoder(in), hear: json.NewDecoder(out)}
	hello := m.answer()
	m.url, m.esplora = hello.URL, hello.Esplora
	return m
}

func (m *mint) answer() (a minted) {
	m.b.Helper()
	if err := m.hear.Decode(&a); err != nil {
		m.b.Fatal(err)
	}
	if a.Error != "" {
		m.b.Fatal(a.Error)
	}
	return a
}

func (m *mint) make(c coins) {
	m.b.Helper()
	if err := m.send.Encode(c); err != nil {
		m.b.Fatal(err)
	}
	m.answer()
}

// free are flags of serve that let one source ask as much as it can.
func free() []string {
	const most = "1000000000"
	return []string{
		"--log", "warn", "--registration", "open", "--max-wallets-per-source", "100000", "--rate-per-source", most, "--burst-per-source", most,
		"--max-streams", "100000", "--rate-per-wallet", most, "--burst-per-wallet", most,
	}
}

// benchSite is a Vigil that is set up, with devices.
type benchSite struct {
	*child
	b   *testing.B
	op  *mint
	pin bip340.PubKey
}

func newBenchSite(b *testing.B) *benchSite {
	b.Helper()
	s := &benchSite{b: b, op: startMint(b)}
	var err error
	if s.child, err = newChild(executable(b), b.TempDir(), s.op.url, s.op.esplora); err != nil {
		b.Fatal(err)
	}
	s.flags = free()
	var made initialised
	if err := s.ask(b.Context(), &made, "init", "--operator-url", s.op.url); err != nil {
		b.Fatal(err)
	}
	if s.pin, err = bip340.ParsePubKeyHex(made.HostKey); err != nil {
		b.Fatal(err)
	}
	return s
}

// serveHere runs `vigil serve` in this process, until the benchmark ends.
func (s *benchSite) serveHere() {
	b := s.b
	b.Helper()
	var c commands
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	if err != nil {
		b.Fatal(err)
	}
	args := append([]string{"serve", "--data-dir", s.dir, "--listen", s.listen, "--esplora-url", s.esplora}, s.flags...)
	parsed, err := parser.Parse(args)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	env := testEnvironment(b, ctx)
	env.args, env.parser, env.parsed = args, parser, parsed
	env.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	ended := make(chan error, 1)
	go func() { ended <- parsed.Run(env) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := http.Get(s.url() + "/healthz"); err == nil {
			_ = resp.Body.Close()
			return
		}
		select {
		case <-tick.C:
		case err := <-ended:
			ended <- nil
			b.Fatalf("serve ended at once: %v", err)
		}
	}
}

// sealedStore is a device's store on disk.
func (s *benchSite) sealedStore(number int) secret.Store {
	b := s.b
	b.Helper()
	dir := filepath.Join(filepath.Dir(s.dir), "device", strconv.Itoa(number))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	if err := sealed.GenerateKeyFile(filepath.Join(dir, "kek")); err != nil {
		b.Fatal(err)
	}
	store, err := sealed.Create(b.Context(), filepath.Join(dir, "keys"), sealed.KeyFile(filepath.Join(dir, "kek")), sealed.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	return store
}

// device makes a wallet with coins of 100,000 sats.
func (s *benchSite) device(store secret.Store, count int) (*client.Wallet, *calls) {
	b := s.b
	b.Helper()
	seed, err := client.NewSeed()
	if err != nil {
		b.Fatal(err)
	}
	defer seed.Burn()
	heard := &calls{way: &http.Transport{}}
	w, err := client.Create(b.Context(), client.Config{
		Server: s.url(), HostKey: s.pin, Operator: s.op.url, Esplora: s.op.esplora, Store: store, HTTP: &http.Client{Transport: heard},
	}, seed, client.CreateOptions{Name: "phone"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		w.Close()
		heard.way.CloseIdleConnections()
	})
	to, err := w.Address()
	if err != nil {
		b.Fatal(err)
	}
	s.op.make(coins{Script: to.PkScript(), Amount: 100_000, Count: count})
	return w, heard
}

// calls notes a device's round trips to Vigil: whole requests, from the first
// byte sent to the last one heard.
type calls struct {
	way   *http.Transport
	count bool // the signatures, too

	mu     sync.Mutex
	made   []call
	listed time.Duration // what the process had used when the coins were heard
}

type call struct {
	method     string
	took       time.Duration
	signatures int // that a Sign asks for
}

// RoundTrip implements http.RoundTripper.
func (c *calls) RoundTrip(r *http.Request) (*http.Response, error) {
	made := call{method: r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]}
	if c.count && made.method == "Sign" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var outer vigilpb.SignedRequest
		var inner vigilpb.SignRequest
		if proto.Unmarshal(body, &outer) == nil && proto.Unmarshal(outer.GetPayload(), &inner) == nil {
			made.signatures = len(inner.GetNonces())
		}
	}
	began := time.Now()
	resp, err := c.way.RoundTrip(r)
	if err == nil {
		resp.Body = &heardBody{resp.Body, func() {
			made.took = time.Since(began)
			c.note(made)
		}}
	}
	return resp, err
}

func (c *calls) note(made call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = append(c.made, made)
	if made.method == "ListVtxos" {
		c.listed = processorTime(thisProcess)
	}
}

// heardBody tells when its reader is done with it.
type heardBody struct {
	io.ReadCloser
	done func()
}

// Close implements io.Closer.
func (b *heardBody) Close() error {
	if b.done != nil {
		b.done()
		b.done = nil
	}
	return b.ReadCloser.Close()
}

// forget empties the notes, and returns what was in them.
func (c *calls) forget() []call {
	c.mu.Lock()
	defer c.mu.Unlock()
	made := c.made
	c.made = nil
	return made
}

// thisProcess and thisThread are clocks that go on with what they have used; unlike
// getrusage they do not move by whole ticks.
const thisProcess, thisThread = unix.CLOCK_PROCESS_CPUTIME_ID, unix.CLOCK_THREAD_CPUTIME_ID

// processorTime reads one of them.
func processorTime(clock int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// processorTimeOf is that of another process, in steps of 10 ms.
func processorTimeOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
