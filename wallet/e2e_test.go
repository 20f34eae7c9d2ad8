package wallet_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/renewal"
	"github.com/vigil-ark/vigil/rpc"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/vigilpb"
	"github.com/vigil-ark/vigil/wallet"
)

// remote is the port over the wire: what the device asks is signed, sent, and its
// answer held to the host key.
type remote struct {
	port // what is not asked in this test
	t    *testing.T
	url  string
	http *http.Client
	open func() // starts the edge and the wallets' service
	shut func() // ends them
	host bip340.PubKey
	keys map[bip340.PubKey]*bip340.Key
}

func (r *remote) HostKey() bip340.PubKey                           { return r.host }
func (r *remote) Permit(context.Context, auth.Call) error          { return nil }
func (r *remote) Begin(context.Context, auth.Call) ([]byte, error) { return nil, nil }
func (r *remote) Finish(context.Context, auth.Call, []byte) error  { return nil }
func (r *remote) Close()                                           {}
func (r *remote) BeginKeygen(ctx context.Context, c auth.Call, q *vigilpb.BeginKeygenRequest) (*vigilpb.BeginKeygenAnswer, error) {
	return wire1(ctx, r, c, q, &vigilpb.BeginKeygenAnswer{})
}
func (r *remote) Keygen(ctx context.Context, c auth.Call, q *vigilpb.KeygenRequest) (*vigilpb.KeygenAnswer, error) {
	return wire1(ctx, r, c, q, &vigilpb.KeygenAnswer{})
}
func (r *remote) CertifyKeygen(ctx context.Context, c auth.Call, q *vigilpb.CertifyKeygenRequest) (*vigilpb.CertifyKeygenAnswer, error) {
	return wire1(ctx, r, c, q, &vigilpb.CertifyKeygenAnswer{})
}
func (r *remote) AcknowledgeKeygen(ctx context.Context, c auth.Call, q *vigilpb.AcknowledgeKeygenRequest) (*vigilpb.AcknowledgeKeygenAnswer, error) {
	return wire1(ctx, r, c, q, &vigilpb.AcknowledgeKeygenAnswer{})
}
func (r *remote) Sign(ctx context.Context, c auth.Call, q *vigilpb.SignRequest) (*vigilpb.SignAnswer, error) {
	return wire1(ctx, r, c, q, &vigilpb.SignAnswer{})
}
func (r *remote) PrepareDelegates(ctx context.Context, c auth.Call, q *vigilpb.PrepareDelegatesRequest) (*vigilpb.PrepareDelegatesAnswer, error) {
	return wire1(ctx, r, c, q, &vigilpb.PrepareDelegatesAnswer{})
}
func (r *remote) SubmitDelegate(ctx context.Context, c auth.Call, q *vigilpb.SubmitDelegateRequest) (*vigilpb.SubmitDelegateAnswer, error) {
	return wire1(ctx, r, c, q, &vigilpb.SubmitDelegateAnswer{})
}
func (r *remote) ListVtxos(ctx context.Context, c auth.Call, q *vigilpb.ListVtxosRequest) (*vigilpb.ListVtxosAnswer, error) {
	return wire1(ctx, r, c, q, &vigilpb.ListVtxosAnswer{})
}
func (r *remote) WalletDelegates(ctx context.Context, c auth.Call, q *vigilpb.WalletDelegatesRequest) (*vigilpb.WalletDelegatesAnswer, error) {
	return wire1(ctx, r, c, q, &vigilpb.WalletDelegatesAnswer{})
}
func (r *remote) Branches(ctx context.Context, c auth.Call, q *vigilpb.BranchesRequest) (*vigilpb.BranchesAnswer, error) {
	return wire1(ctx, r, c, q, &vigilpb.BranchesAnswer{})
}
func (r *remote) History(ctx context.Context, c auth.Call, q *vigilpb.HistoryRequest) (*vigilpb.HistoryAnswer, error) {
	return wire1(ctx, r, c, q, &vigilpb.HistoryAnswer{})
}

func wire1[A proto.Message](ctx context.Context, r *remote, c auth.Call, q proto.Message, a A) (A, error) {
	payload, err := proto.Marshal(q)
	if err != nil {
		return a, err
	}
	req := auth.Request{Wallet: c.Wallet[:], Epoch: c.Epoch, Timestamp: time.Now().Unix(), Nonce: c.Nonce, Payload: payload}
	if c.Host != (bip340.PubKey{}) {
		req.Wallet = c.Host[:]
	}
	signed, hash, err := auth.Sign(r.keys[c.Key], r.host, string(ark.Regtest), c.Method, req)
	if err != nil {
		return a, err
	}
	client := connect.NewClient[vigilpb.SignedRequest, vigilpb.SignedAnswer](r.http, r.url+c.Method)
	got, err := client.CallUnary(ctx, connect.NewRequest(signed))
	if err != nil {
		return a, err
	}
	if err := auth.VerifyAnswer(r.host, hash, 0, got.Msg); err != nil {
		return a, err
	}
	return a, proto.Unmarshal(got.Msg.GetPayload(), a)
}

// engineSessions adapts the signer's concrete session to the engine's port.
type engineSessions struct{ *signer.Signer }

func (s engineSessions) Open(ctx context.Context, recs []*delegate.Record) (renewal.Session, map[vigil.DelegateID]error) {
	return s.Signer.Open(ctx, recs)
}

// live starts a whole Vigil, edge and engine, against a test operator in real
// time, and returns the world of a device that reaches it over the wire.
func live(t *testing.T, log io.Writer) (*world, *arktest.Operator, *recorded) {
	t.Helper()
	op, err := arktest.Start(arktest.Config{Settings: arktest.Settings{SessionDuration: 3 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	client, err := operator.Dial(operator.Config{URL: op.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	p, err := client.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mem, sec := &recorded{Memory: kvtest.NewMemory()}, secrettest.NewMemory()
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if err := ledger.Create(t.Context(), mem, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	led, err := ledger.Open(t.Context(), mem, ledger.Options{Garbage: signer.Garbage})
	if err != nil {
		t.Fatal(err)
	}
	keys := signer.New(sec)
	if _, err := keys.AddHostKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	host, err := keys.Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hub := notify.NewHub(notify.Limits{}, nil)
	stream, err := client.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pace := renewal.DefaultPace()
	pace.First, pace.Margin, pace.Confirm = 200*time.Millisecond, 200*time.Millisecond, 300*time.Millisecond
	engine := renewal.New(renewal.Config{Pace: pace, Grace: time.Millisecond, Confirmations: 1, Log: logger}, client, stream, led, engineSessions{keys}, nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- engine.Run(ctx) }()
	w := &world{
		t: t, clock: &clock{at: time.Now()}, op: &fakeOperator{params: p, coins: map[wire.OutPoint]ark.VTXO{}}, mem: mem.Memory, sec: sec, ledger: led, signer: keys, hub: hub,
	}
	r := &remote{t: t, host: host.PubKey(), keys: map[bip340.PubKey]*bip340.Key{}}
	r.open = func() {
		service := wallet.New(wallet.Config{
			Pinned: ledger.Pinned{Signer: p.SignerKey, Network: p.Network, URL: op.URL()}, Registration: wallet.Registration{Mode: wallet.Open}, Wake: engine.Wake, Log: logger,
		}, wallet.Ports{
			Ledger: led, Keys: keys, Ceremonies: keys.Ceremonies(signer.CeremonyLimits{}, func() int64 { return time.Now().Unix() }), Host: host, Operator: client, Hub: hub,
		})
		edge, err := rpc.New(rpc.Config{Wallets: &rpc.WalletService{Wallets: service, Replay: service, Signer: service, Network: string(p.Network)}, Log: logger}, nil)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(edge)
		r.url, r.http = server.URL, server.Client()
		r.shut = func() { server.Close(); edge.Close(); service.Close() }
	}
	r.open()
	t.Cleanup(func() {
		r.shut()
		hub.Close()
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	w.service = r
	return w, op, mem
}

// A wallet is made, gets a coin, delegates it and goes away; Vigil renews the coin
// by itself, over the wire and against an operator that plays its part in full.
func TestOverTheWireACoinIsRenewedWithoutItsDevice(t *testing.T) {
	t.Parallel()
	overTheWire(t, false)
}

// The same with a coin at the two-leaf script, whose wallet opted in: nothing that was
// ever written to the key-value store, also what is deleted by now, has its forfeit.
func TestOverTheWireATwoLeafCoinIsRenewedWithoutItsDevice(t *testing.T) {
	t.Parallel()
	overTheWire(t, true)
}

func overTheWire(t *testing.T, twoLeaf bool) {
	var log safeBuffer
	w, op, store := live(t, &log)
	d := newDevice(w, 2, 2)
	r := w.service.(*remote)
	hostSecret := d.hosts[0]
	hostKey, err := bip340.NewKey(secret.New(append([]byte(nil), hostSecret[:]...)))
	if err != nil {
		t.Fatal(err)
	}
	r.keys[hostKey.PubKey()], r.keys[d.identity.PubKey()] = hostKey, d.identity
	if err := d.create(); err != nil {
		t.Fatal(err)
	}
	at := d.desc.PkScript()
	if twoLeaf {
		at = d.desc.TwoLeaf().PkScript()
		r.shut()
		w.allowTwoLeaf(d.id)
		r.open()
	}
	minted, err := op.Mint(wire.NewTxOut(100_000, at))
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.list()
	if err != nil || len(a.GetVtxos()) != 1 || a.GetVtxos()[0].GetOutpoint() != minted[0].String() {
		t.Fatalf("%v, %v", a, err)
	}
	v := a.GetVtxos()[0]
	coin := ark.VTXO{Outpoint: minted[0], Amount: v.GetAmount(), Script: v.GetScript(), CreatedAt: v.GetCreatedAt(), ExpiresAt: v.GetExpiresAt()}
	if _, err := d.delegate(time.Now().Unix(), coin); err != nil {
		t.Fatal(err)
	}
	rec := w.settled()
	if len(rec.Leaves) != 1 {
		t.Fatalf("it made the coins %v", rec.Leaves)
	}
	if a, err = d.list(); err != nil {
		t.Fatal(err)
	}
	var live []*vigilpb.Vtxo
	for _, v := range a.GetVtxos() {
		if v.GetState() == "live" {
			live = append(live, v)
		}
	}
	if len(live) != 1 || live[0].GetOutpoint() != rec.Leaves[0].String() || live[0].GetCovered() || live[0].GetAmount() != 100_000 || !live[0].GetRecoverableWithoutVigil() {
		t.Fatalf("the wallet has %v; renewed to %v", a.GetVtxos(), rec.Leaves)
	}
	b, err := carry(w, d.as(-1, "Branches"), func(ctx context.Context, c auth.Call) (*vigilpb.BranchesAnswer, error) {
		return w.service.Branches(ctx, c, &vigilpb.BranchesRequest{})
	})
	if err != nil || len(b.GetBranches()) != 1 || len(b.GetBranches()[0].GetTxs()) == 0 {
		t.Fatalf("branches %v, %v", b, err)
	}
	h, err := carry(w, d.as(-1, "History"), func(ctx context.Context, c auth.Call) (*vigilpb.HistoryAnswer, error) {
		return w.service.History(ctx, c, &vigilpb.HistoryRequest{})
	})
	if err != nil || len(h.GetEntries()) != 2 || h.GetEntries()[0].GetKind() != "receive" || h.GetEntries()[1].GetKind() != "settle" {
		t.Fatalf("history %v, %v", h, err)
	}
	if n := len(w.forfeitSecrets()); (n == 1) != twoLeaf {
		t.Fatalf("%d delegates have sealed forfeits", n)
	}
	store.leaks(t, w.sec, log.String())
}

// safeBuffer is what many goroutines log to.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// settled waits for the one delegate to settle: the ledger's own commits are what
// it waits for.
func (w *world) settled() *delegate.Record {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 40*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		list, _, err := w.ledger.List(ctx, ledger.Filter{}, 2, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(list) == 1 && list[0].State.Ended() {
			if list[0].State != delegate.Settled {
				w.t.Fatalf("the delegate is %s: %+v", list[0].State, list[0].LastError)
			}
			return list[0]
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("not settled in time: %v", list)
		}
	}
}
