package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/rpc"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/wallet"
)

// real is Vigil's service itself behind its edge, over stores in memory. Between
// it and the device stands line, which may lose what a test wants lost.
type real struct {
	t       *testing.T
	kv      *kvtest.Memory
	secrets *secrettest.Memory
	service *wallet.Service
	serve   func() // starts another Vigil, over what the stores are then
	http    *httptest.Server
	op      *arktest.Operator
	cfg     client.Config
	line    *line
}

// line carries the calls and loses some: before they arrive, or their answers.
type line struct {
	lose func(method string, answer bool) bool
}

// RoundTrip implements http.RoundTripper.
func (w *line) RoundTrip(r *http.Request) (*http.Response, error) {
	method := r.URL.Path[len(service):]
	if w.lose != nil && w.lose(method, false) {
		return nil, errors.New("lost")
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && w.lose != nil && w.lose(method, true) {
		_ = resp.Body.Close()
		return nil, errors.New("lost")
	}
	return resp, err
}

// Do implements connect.HTTPClient.
func (w *line) Do(r *http.Request) (*http.Response, error) { return w.RoundTrip(r) }

func newReal(t *testing.T, op arktest.Config) *real {
	t.Helper()
	op.SessionDuration = 6 * time.Second // its parts end early; a busy machine needs the rest
	r := &real{t: t, kv: kvtest.NewMemory(), secrets: secrettest.NewMemory(), line: &line{}}
	var err error
	if r.op, err = arktest.Start(op); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.op.Close)
	c, err := operator.Dial(operator.Config{URL: r.op.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	p, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now
	if op.Clock != nil {
		now = op.Clock.Now
	}
	if err := ledger.Create(t.Context(), r.kv, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.New(r.secrets).AddHostKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.serve = func() { r.start(c, p, now) }
	r.serve()
	return r
}

// start starts a Vigil over the stores, at an address of its own.
func (r *real) start(c *operator.Client, p ark.Params, now func() time.Time) {
	t := r.t
	t.Helper()
	keys := signer.New(r.secrets)
	host, err := keys.Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	led, err := ledger.Open(t.Context(), r.kv, ledger.Options{Now: now, Garbage: signer.Garbage})
	if err != nil {
		t.Fatal(err)
	}
	hub := notify.NewHub(notify.Limits{}, nil)
	service := wallet.New(wallet.Config{
		Pinned:       ledger.Pinned{Signer: p.SignerKey, Network: p.Network, URL: r.op.URL()},
		Registration: wallet.Registration{Mode: wallet.Open}, Now: now, Wake: func() {},
		Limits: wallet.Limits{PerSource: 1000},
	}, wallet.Ports{
		Ledger: led, Keys: keys, Host: host, Operator: c, Hub: hub,
		Ceremonies: keys.Ceremonies(signer.CeremonyLimits{}, func() int64 { return now().Unix() }),
	})
	r.service = service
	t.Cleanup(func() { hub.Close(); service.Close() })
	edge, err := rpc.New(rpc.Config{
		Now: now, Limits: rpc.Limits{Rate: 1e6, Burst: 1e6, WalletRate: 1e6, WalletBurst: 1e6},
		Wallets: &rpc.WalletService{Wallets: service, Replay: service, Signer: service, Network: string(p.Network)},
	}, noDelegates{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(edge.Close)
	r.http = httptest.NewServer(edge)
	t.Cleanup(r.http.Close)
	t.Cleanup(edge.Stop)
	r.cfg = client.Config{Server: r.http.URL, HostKey: host.PubKey(), Operator: r.op.URL(), Esplora: r.op.EsploraURL(), HTTP: r.line, Now: now, RetryWait: time.Millisecond}
}

// noDelegates serves no stock wallets.
type noDelegates struct{ vigil.Delegates }

// create makes a wallet over a store in memory.
func (r *real) create() (*client.Wallet, *secrettest.Memory, client.Seed) {
	r.t.Helper()
	seed, err := client.NewSeed()
	if err != nil {
		r.t.Fatal(err)
	}
	store := secrettest.NewMemory()
	d, err := client.Create(r.t.Context(), r.with(store), seed, client.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(d.Close)
	return d, store, seed
}

func (r *real) with(store *secrettest.Memory) client.Config {
	cfg := r.cfg
	cfg.Store = store
	return cfg
}

// TestRefreshCutShort loses a call or its answer at every step of a refresh, of
// both kinds: the wallet signs on at once, and the next refresh gets through.
func TestRefreshCutShort(t *testing.T) {
	t.Parallel()
	r := newReal(t, arktest.Config{})
	d, store, seed := r.create()
	w := &world{T: t, op: r.op, esplora: r.op.EsploraURL(), ctx: t.Context()}
	w.minted(d, 90_000)
	pay := func(d *client.Wallet) {
		t.Helper()
		if _, err := d.Send(t.Context(), d.Descriptor().Address(), 1_000); err != nil {
			t.Fatal(err)
		}
	}
	kinds, calls := []*client.Seed{nil, &seed}, []string{"BeginRefresh", "Refresh", "CertifyRefresh", "AcknowledgeRefresh"}
	if testing.Short() {
		kinds, calls = kinds[1:], calls[2:3]
	}
	for _, heal := range kinds {
		for _, at := range calls {
			for _, answer := range []bool{false, true} {
				r.line.lose = func(m string, a bool) bool { return m == at && a == answer }
				if err := d.Refresh(t.Context(), heal); !errors.Is(err, client.ErrUnreachable) {
					t.Fatalf("%s lost (answer: %t): %v", at, answer, err)
				}
				r.line.lose = nil
				pay(d)
				// The same after the device was off.
				d.Close()
				var err error
				if d, err = client.Open(t.Context(), r.with(store)); err != nil {
					t.Fatal(err)
				}
				pay(d)
				if err := d.Refresh(t.Context(), heal); err != nil {
					t.Fatalf("again after %s: %v", at, err)
				}
				pay(d)
			}
		}
	}
	d.Close()
	names, err := store.List(t.Context(), "share.")
	if err != nil || len(names) != 1 {
		t.Fatalf("shares %v, %v", names, err)
	}
	hosts, err := store.List(t.Context(), "host.")
	if err != nil || len(hosts) != 1 {
		t.Fatalf("host keys %v, %v", hosts, err)
	}
	again, err := client.Recover(t.Context(), r.with(secrettest.NewMemory()), seed, client.RecoverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	pay(again)
}

// TestRecoverCutShort makes a new device while a refresh hangs in the middle: the
// seed alone brings the epoch that both sides have.
func TestRecoverCutShort(t *testing.T) {
	if testing.Short() {
		t.Skip("more of the same arithmetic")
	}
	t.Parallel()
	for _, heal := range []bool{false, true} {
		for _, at := range []string{"CertifyRefresh", "AcknowledgeRefresh"} {
			for _, answer := range []bool{false, true} {
				r := newReal(t, arktest.Config{})
				d, _, seed := r.create()
				w := &world{T: t, op: r.op, esplora: r.op.EsploraURL(), ctx: t.Context()}
				w.minted(d, 50_000)
				with := &seed
				if !heal {
					with = nil
				}
				r.line.lose = func(m string, a bool) bool { return m == at && a == answer }
				if err := d.Refresh(t.Context(), with); !errors.Is(err, client.ErrUnreachable) {
					t.Fatal(err)
				}
				r.line.lose = nil
				d.Close()
				again, err := client.Recover(t.Context(), r.with(secrettest.NewMemory()), seed, client.RecoverOptions{})
				if err != nil {
					t.Fatalf("heal %t, %s lost (answer: %t): %v", heal, at, answer, err)
				}
				if _, err := again.Send(t.Context(), again.Descriptor().Address(), 1_000); err != nil {
					t.Fatal(err)
				}
				again.Close()
			}
		}
	}
}

// TestReceive hears of a coin by Vigil's word long before it would ask.
func TestReceive(t *testing.T) {
	t.Parallel()
	r := newReal(t, arktest.Config{})
	d, _, _ := r.create()
	w := &world{T: t, op: r.op, esplora: r.op.EsploraURL(), ctx: t.Context()}
	w.minted(d, 50_000)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	in, err := d.Incoming(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	paid, err := d.Send(ctx, d.Descriptor().Address(), 7_000)
	if err != nil {
		t.Fatal(err)
	}
	v, err := in.Next(ctx)
	if err != nil || v.Outpoint.Hash != paid.Hash {
		t.Fatalf("%v came, %v", v.Outpoint, err)
	}
}

// TestLostReads loses the answers to calls that Vigil does not keep answers of:
// they are made anew.
func TestLostReads(t *testing.T) {
	t.Parallel()
	r := newReal(t, arktest.Config{})
	d, _, _ := r.create()
	w := &world{T: t, op: r.op, esplora: r.op.EsploraURL(), ctx: t.Context()}
	w.minted(d, 50_000)
	for name, call := range map[string]func() error{
		"ListVtxos":       func() error { _, err := d.VTXOs(t.Context()); return err },
		"Coverage":        func() error { _, err := d.Coverage(t.Context()); return err },
		"History":         func() error { _, _, err := d.History(t.Context(), nil, 0); return err },
		"WalletDelegates": func() error { _, err := d.Delegates(t.Context()); return err },
	} {
		lost := 0
		r.line.lose = func(m string, answer bool) bool {
			if m == name && answer && lost == 0 {
				lost++
				return true
			}
			return false
		}
		if err := call(); err != nil || lost != 1 {
			t.Errorf("%s: %v after %d lost", name, err, lost)
		}
	}
}
