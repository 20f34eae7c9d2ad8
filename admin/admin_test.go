package admin_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"go.uber.org/goleak"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/signer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a Vigil's stores and what surrounds them.
type world struct {
	ledger  *ledger.Ledger
	params  ark.Params
	changes int
	local   admin.Local
}

func key(n byte) bip340.PubKey { return bip340.PubKey{0: 2, 32: n} }

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, store := t.Context(), kvtest.NewMemory()
	if err := ledger.Create(ctx, store, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(ctx, store, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{ledger: l, params: ark.Params{Network: ark.Regtest, SignerKey: key(1)}}
	if err := l.SetOperator(ctx, ledger.Pinned{Signer: key(1), Network: ark.Regtest, URL: "http://operator"}); err != nil {
		t.Fatal(err)
	}
	keys := signer.New(secrettest.NewMemory())
	if _, err := keys.AddServiceKey(ctx); err != nil {
		t.Fatal(err)
	}
	w.local = admin.Local{
		Ledger: l, Keys: keys, Version: "1", Settles: "a word",
		Params: func(context.Context) (ark.Params, error) { return w.params, nil },
		Backup: func(_ context.Context, path string) (admin.Copied, error) {
			return admin.Copied{Path: path, Bytes: 5}, nil
		},
		Export: func(_ context.Context, path string, to []string) (admin.Copied, error) {
			return admin.Copied{Path: path, Secrets: len(to)}, nil
		},
		Check: func(ctx context.Context) (*fsck.Report, int, error) {
			r, err := fsck.Check(ctx, store, nil)
			return r, 7, err
		},
		CheckWallet: func(ctx context.Context, id vigil.WalletID, marks [][]byte) (*fsck.Report, error) {
			return fsck.Wallet(ctx, store, nil, id, marks...)
		},
		Host:    func(context.Context) (string, error) { return "02host", nil },
		Disk:    func() (uint64, bool) { return 9, true },
		Running: func(context.Context) admin.Running { return admin.Running{PID: 3, NotReady: []string{"disk"}} },
		Changed: func(context.Context) error { w.changes++; return nil },
	}
	return w
}

func (w *world) submit(t *testing.T, n int) *delegate.Record {
	t.Helper()
	r := &delegate.Record{
		Kind: delegate.Stock, Network: ark.Regtest, ProofTxid: chainhash.Hash{byte(n), 1}, Owners: []bip340.XOnly{{7}}, Message: "m", Proof: []byte("p"),
		NextAttempt: int64(n), CreatedAt: 1, DelegateKey: key(9),
		Inputs: []delegate.Input{{Outpoint: wire.OutPoint{Hash: chainhash.Hash{byte(n), 2}}, Amount: 1000, Script: []byte{byte(n)}, ExpiresAt: 99, Forfeit: []byte("f")}},
	}
	r.ID = delegate.StockID(r.ProofTxid)
	receipt, err := w.ledger.Submit(t.Context(), ledger.Submission{Record: r})
	if err != nil {
		t.Fatal(err)
	}
	return receipt.Record
}

// overSocket serves the world on a socket and returns a client of it.
func overSocket(t *testing.T, w *world) admin.Port {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := admin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	about, err := os.Stat(path)
	if err != nil || about.Mode().Perm() != 0o600 {
		t.Fatalf("the socket's mode is %v, %v", about.Mode(), err)
	}
	server, done := admin.Server(admin.New(w.local)), make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Error("the socket's name stays behind")
		}
	})
	client, err := admin.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// TestPort plays the same questions to the stores and over the socket.
func TestPort(t *testing.T) {
	for name, reach := range map[string]func(*testing.T, *world) admin.Port{
		"stores": func(_ *testing.T, w *world) admin.Port { return admin.New(w.local) },
		"socket": overSocket,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := reach(t, w)
			t.Run("status", func(t *testing.T) { status(t, w, p) })
			t.Run("delegates", func(t *testing.T) { delegates(t, w, p) })
			t.Run("keys", func(t *testing.T) { keys(t, w, p) })
			t.Run("signer", func(t *testing.T) { accept(t, w, p) })
			t.Run("files", func(t *testing.T) { files(t, p) })
		})
	}
}

func status(t *testing.T, w *world, p admin.Port) {
	ctx := t.Context()
	if _, err := p.Release(ctx); !errors.Is(err, admin.ErrRefused) {
		t.Errorf("release without a hold: %v", err)
	}
	if err := w.ledger.SetHold(ctx, "restored"); err != nil {
		t.Fatal(err)
	}
	s, err := p.Status(ctx)
	if err != nil || s.Hold != "restored" || s.Running == nil || s.Running.PID != 3 || !s.DiskLow || s.DiskFree != 9 || s.Keys != 1 || s.Settles != "a word" || s.Operator.Signer != key(1).String() {
		t.Fatalf("%+v, %v", s, err)
	}
	before := w.changes
	if s, err = p.Release(ctx); err != nil || s.Hold != "" || w.changes != before+1 {
		t.Fatalf("%+v, %v", s, err)
	}
}

func delegates(t *testing.T, w *world, p admin.Port) {
	ctx := t.Context()
	recs := map[string]*delegate.Record{}
	for n := range 25 {
		r := w.submit(t, n)
		recs[r.ID.String()] = r
	}
	var seen []admin.Delegate
	q := admin.Query{Limit: 10}
	for {
		page, err := p.Delegates(ctx, q)
		if err != nil || len(page.Delegates) > 10 {
			t.Fatalf("%d, %v", len(page.Delegates), err)
		}
		seen = append(seen, page.Delegates...)
		if page.Next == "" {
			break
		}
		q.After = page.Next
	}
	if len(seen) != len(recs) {
		t.Fatalf("%d of %d listed", len(seen), len(recs))
	}
	first := seen[0]
	if first.Amount != 1000 || len(first.Inputs) != 1 || first.State != "armed" || first.Key != key(9).String() {
		t.Fatalf("%+v", first)
	}
	one, err := p.Delegates(ctx, admin.Query{Script: first.Inputs[0].Script})
	if err != nil || len(one.Delegates) != 1 || one.Delegates[0].ID != first.ID {
		t.Fatalf("by script: %+v, %v", one, err)
	}
	got, err := p.Delegate(ctx, first.ID)
	if err != nil || got.ID != first.ID {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err = p.Cancel(ctx, first.ID); err != nil || got.State != "cancelled" {
		t.Fatalf("cancelled: %+v, %v", got, err)
	}
	if _, err = p.Cancel(ctx, first.ID); !errors.Is(err, admin.ErrRefused) {
		t.Errorf("cancelled twice: %v", err)
	}
	// In flight it is noted.
	flying := recs[seen[1].ID]
	for _, ev := range []delegate.Event{delegate.Ripe, delegate.Register} {
		if flying, err = w.ledger.Transition(ctx, flying, ev, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got, err = p.Cancel(ctx, seen[1].ID); err != nil || got.State != "registering" || !got.Cancelling {
		t.Fatalf("in flight: %+v, %v", got, err)
	}
	some, err := p.Delegates(ctx, admin.Query{State: "cancelled", Limit: 1000})
	if err != nil || len(some.Delegates) != 1 {
		t.Fatalf("by state: %d, %v", len(some.Delegates), err)
	}
	for _, q := range []admin.Query{{State: "lost"}, {Script: "x"}, {After: "x"}, {Limit: -1}, {Limit: admin.MaxPage + 1}} {
		if _, err := p.Delegates(ctx, q); !errors.Is(err, admin.ErrRefused) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	for id, want := range map[string]error{"x": admin.ErrRefused, strings.Repeat("0", 32): admin.ErrNotFound, "../keys": admin.ErrRefused} {
		if _, err := p.Delegate(ctx, id); !errors.Is(err, want) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func keys(t *testing.T, w *world, p admin.Port) {
	ctx := t.Context()
	if _, err := p.RetireKey(ctx, "1"); !errors.Is(err, admin.ErrRefused) {
		t.Errorf("the only key retired: %v", err)
	}
	before := w.changes
	added, err := p.AddKey(ctx)
	if err != nil || added.Number != 2 || !added.Shown {
		t.Fatalf("%+v, %v", added, err)
	}
	noted, err := w.ledger.ServiceKeys(ctx)
	if err != nil || len(noted) != 1 || noted[0].String() != added.Key {
		t.Fatalf("noted %v, %v", noted, err)
	}
	if _, err := p.RetireKey(ctx, "9"); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("an unknown key retired: %v", err)
	}
	if gone, err := p.RetireKey(ctx, added.Key); err != nil || !gone.Retired {
		t.Fatalf("%+v, %v", gone, err)
	}
	list, err := p.Keys(ctx)
	if err != nil || len(list) != 2 || !list[0].Shown || list[1].Shown || !list[1].Retired {
		t.Fatalf("%+v, %v", list, err)
	}
	if w.changes != before+2 {
		t.Errorf("the serving Vigil was told %d times of two changes", w.changes-before)
	}
}

func accept(t *testing.T, w *world, p admin.Port) {
	ctx := t.Context()
	if op, err := p.Accept(ctx, ""); err != nil || op.Changed || op.Announced != key(1).String() {
		t.Fatalf("unchanged: %+v, %v", op, err)
	}
	w.params.SignerKey = key(2)
	if op, err := p.Accept(ctx, ""); err != nil || !op.Changed || op.Announced != key(2).String() {
		t.Fatalf("asked: %+v, %v", op, err)
	}
	if _, err := p.Accept(ctx, key(3).String()); !errors.Is(err, admin.ErrRefused) {
		t.Errorf("another key accepted: %v", err)
	}
	if pinned, err := w.ledger.Operator(ctx); err != nil || pinned.Signer != key(1) {
		t.Fatalf("pinned before it was accepted: %+v, %v", pinned, err)
	}
	if op, err := p.Accept(ctx, key(2).String()); err != nil || op.Changed || op.Signer != key(2).String() {
		t.Fatalf("accepted: %+v, %v", op, err)
	}
	if pinned, err := w.ledger.Operator(ctx); err != nil || pinned.Signer != key(2) || pinned.URL != "http://operator" {
		t.Fatalf("pinned: %+v, %v", pinned, err)
	}
	w.params.Network, w.params.SignerKey = ark.Signet, key(3)
	if _, err := p.Accept(ctx, key(3).String()); !errors.Is(err, admin.ErrRefused) {
		t.Errorf("another network accepted: %v", err)
	}
}

func files(t *testing.T, p admin.Port) {
	ctx := t.Context()
	if got, err := p.Backup(ctx, "/b"); err != nil || got.Path != "/b" || got.Bytes != 5 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := p.Export(ctx, "/e", []string{"a", "b"}); err != nil || got.Path != "/e" || got.Secrets != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := p.Check(ctx); err != nil || got.Secrets != 7 || got.Records != 25 || !got.Clean {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestSocket holds what is special to it: nobody there, one left by a killed
// process, and a path too long for a socket.
func TestSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "admin.sock")
	if _, err := admin.Dial(t.Context(), path); !errors.Is(err, admin.ErrNoServer) {
		t.Errorf("nothing there: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Dial(t.Context(), path); !errors.Is(err, admin.ErrNoServer) {
		t.Errorf("a file: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	if _, err := admin.Dial(t.Context(), path); !errors.Is(err, admin.ErrNoServer) {
		t.Errorf("a socket of the dead: %v", err)
	}
	l, err := admin.Listen(path)
	if err != nil {
		t.Fatalf("over a socket of the dead: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := admin.Listen(filepath.Join(dir, strings.Repeat("x", 100))); err == nil || !strings.Contains(err.Error(), "characters") {
		t.Errorf("a long path: %v", err)
	}
}
