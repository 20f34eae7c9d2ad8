package client_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/search"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

const day = 24 * time.Hour

// vigilTrees are the trees that a thief of the KvStore reads.
var vigilTrees = []string{
	"meta", "wallets", "recovery", "wallet_aliases", "wallet_vtxos", "prepared", "lapses", "device_tokens", "policies", "spend_windows",
	"replay", "answers", "replay_times", "audit", "delegate_sessions", "renewal_due", "expiries", "branches", "commitments", "vtxos",
	"scripts", "ark_tx_history", "secret_gc",
}

// TestThiefWithTheRecoveryKey has the words and the backup, and neither the device
// nor Vigil's help: expired coins are his at once, live ones are not, and what he
// brings on chain waits for the recovery delay (spec section 12).
func TestThiefWithTheRecoveryKey(t *testing.T) {
	if testing.Short() {
		t.Skip("more of the same arithmetic")
	}
	t.Parallel()
	clock := &moved{}
	w := newWorld(t, arktest.Config{Clock: clock})
	d, store, seed := w.create(client.CreateOptions{})
	ops := w.minted(d, 40_000, 60_000)
	backup, err := d.Export(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	thief, err := client.NewLeave(client.LeaveConfig{Backup: backup, Esplora: w.esplora, Operator: w.op.URL(), Now: clock.Now}, seed)
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Burn()
	if _, err := thief.Claim(w.ctx, somewhere); !errors.Is(err, client.ErrFunds) {
		t.Fatalf("live coins are claimed: %v", err)
	}
	w.bringOut(thief, ops[0])
	for _, days := range []int{0, 1, 30, 58} {
		clock.Advance(time.Duration(days) * day)
		if err := w.op.Chain().CatchUp(); err != nil {
			t.Fatal(err)
		}
		if _, err := thief.Sweep(w.ctx, somewhere); !errors.Is(err, client.ErrTooEarly) {
			t.Fatalf("after %d days: %v", days, err)
		}
	}
	// The owner, with Vigil, is first: the group's own exit takes a fraction of it,
	// and no operator.
	cfg := w.config(store)
	cfg.Operator = "http://127.0.0.1:1"
	alone, err := client.Open(w.ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	s, err := alone.Sweep(w.ctx, somewhere)
	if err != nil || s.Amount+s.Fee < 40_000 {
		t.Fatalf("the owner's sweep: %+v, %v", s, err)
	}
	if err := w.op.Chain().Mine(1); err != nil {
		t.Fatal(err)
	}
	clock.Advance(90 * day)
	if err := w.op.Chain().CatchUp(); err != nil {
		t.Fatal(err)
	}
	if _, err := thief.Sweep(w.ctx, somewhere); !errors.Is(err, client.ErrTooEarly) {
		t.Fatalf("what the owner took: %v", err)
	}
}

// bringOut pays for and confirms every step of a coin's way out.
func (w *world) bringOut(l *client.Leave, op wire.OutPoint) {
	w.Helper()
	at, err := l.FeeAddress()
	if err != nil {
		w.Fatal(err)
	}
	if _, err := w.op.Faucet(at, 50_000); err != nil {
		w.Fatal(err)
	}
	for range 30 {
		if err := w.op.Chain().Mine(1); err != nil {
			w.Fatal(err)
		}
		list, err := l.Unroll(w.ctx, op)
		if err != nil && !errors.Is(err, client.ErrFeeCoin) {
			w.Fatal(err)
		}
		if len(list) == 1 && list[0].OnChain() {
			return
		}
	}
	w.Fatal("the coin does not come on chain")
}

// TestThiefWithTheDevice has everything that an unlocked device holds. The
// recovery key is not in it, nor is anything from which it follows, so leaf 4 is
// closed to him; and once the owner has recovered, Vigil is, too.
func TestThiefWithTheDevice(t *testing.T) {
	t.Parallel()
	r := newReal(t, arktest.Config{})
	d, store, seed := r.create()
	w := &world{T: t, op: r.op, esplora: r.op.EsploraURL(), ctx: t.Context()}
	w.minted(d, 50_000)
	names, err := store.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var held [][]byte
	for _, n := range names {
		v, err := store.Get(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Use(func(b []byte) error { held = append(held, bytes.Clone(b)); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	var s search.Searcher
	if err := seed.Words(func(b []byte) error { return s.Add("words", secret.New(bytes.Clone(b))) }); err != nil {
		t.Fatal(err)
	}
	for name, key := range client.RecoveryScalars(t, seed) {
		if err := s.Add(name, key); err != nil {
			t.Fatal(err)
		}
	}
	if found := s.Text("the device", bytes.Join(held, []byte("|"))); len(found) > 0 {
		t.Fatalf("on the device: %v", found)
	}
	if !slices.Contains(names, "share.0") || !slices.Contains(names, "host.0") {
		t.Fatalf("not the device's store: %v", names)
	}
	// Of what he holds he can make no seed that opens leaf 4.
	b, err := d.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range held {
		guess, err := client.ParseSeed(secret.New(bytes.Clone(h)))
		if err == nil {
			_, err = client.NewLeave(client.LeaveConfig{Backup: b, Esplora: r.cfg.Esplora}, guess)
		}
		if !errors.Is(err, client.ErrSeed) {
			t.Errorf("%s opens the way out: %v", names[i], err)
		}
	}
	// He has the phone, and the owner the words.
	own, err := client.Recover(t.Context(), r.with(secrettest.NewMemory()), seed, client.RecoverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if _, err := d.Send(t.Context(), d.Descriptor().Address(), 1_000); vigil.CodeOf(err) != vigil.CodeIdentityFrozen {
		t.Fatalf("the stolen device signs on: %v", err)
	}
	// The host key that he has could enrol it again; a healing refresh takes that
	// from him, and his share with it.
	if err := own.Refresh(t.Context(), &seed); err != nil {
		t.Fatal(err)
	}
	thief, err := client.Open(t.Context(), r.with(store))
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	if err := thief.Refresh(t.Context(), nil); vigil.CodeOf(err) != vigil.CodeNotPermitted {
		t.Fatalf("the old host key still weighs: %v", err)
	}
	if _, err := own.Send(t.Context(), own.Descriptor().Address(), 1_000); err != nil {
		t.Fatal(err)
	}
}

// TestThiefWithTheKvStore has all that Vigil keeps beside its secrets, with a
// wallet, a delegate and a recovery in it: it tells him what the wallet has, and
// not one byte of a key.
func TestThiefWithTheKvStore(t *testing.T) {
	t.Parallel()
	r := newReal(t, arktest.Config{})
	d, store, seed := r.create()
	w := &world{T: t, op: r.op, esplora: r.op.EsploraURL(), ctx: t.Context()}
	w.minted(d, 50_000)
	if list, err := d.Delegates(t.Context()); err != nil || len(list) != 1 {
		t.Fatalf("delegates %v, %v", list, err)
	}
	var s search.Searcher
	add := func(from *secrettest.Memory, which func(string) bool) {
		t.Helper()
		names, err := from.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if !which(n) {
				continue
			}
			v, err := from.Get(t.Context(), n)
			if err == nil {
				err = s.Add(n, v)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	add(r.secrets, func(string) bool { return true })
	add(store, func(n string) bool {
		return n == "identity" || strings.HasPrefix(n, "host.") || strings.HasPrefix(n, "share.")
	})
	if err := seed.Words(func(b []byte) error { return s.Add("words", secret.New(bytes.Clone(b))) }); err != nil {
		t.Fatal(err)
	}
	if s.Secrets() < 7 {
		t.Fatalf("only %d secrets are known", s.Secrets())
	}
	id := d.ID()
	wallet, rows := false, 0
	err := r.kv.View(t.Context(), func(rd kv.Reader) error {
		for _, tree := range vigilTrees {
			err := rd.Scan(tree, nil, nil, func(k, v []byte) error {
				rows++
				wallet = wallet || bytes.Contains(k, id[:]) || bytes.Contains(v, id[:])
				for _, f := range s.Text(tree, append(bytes.Clone(k), v...)) {
					t.Errorf("%s", f)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !wallet || rows < 10 {
		t.Fatalf("%d rows, the wallet among them: %t", rows, wallet)
	}
}

// TestDelegateNeedsVigil holds that what a device hands in for a renewal cannot
// spend a coin without Vigil: forfeits stand on the delegate leaf.
func TestDelegateNeedsVigil(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, _, _ := w.create(client.CreateOptions{})
	w.minted(d, 50_000)
	w.vigil.mu.Lock()
	defer w.vigil.mu.Unlock()
	if len(w.vigil.stored) != 1 || len(w.vigil.stored[0].Forfeits) != 1 {
		t.Fatalf("stored %v", w.vigil.stored)
	}
	q := w.vigil.stored[0]
	p, err := script.ParsePSBT(q.Forfeits[0], script.StrangerLimits())
	if err != nil {
		t.Fatal(err)
	}
	sp, err := script.NewReader().Spend(&p.Inputs[0])
	if err != nil {
		t.Fatal(err)
	}
	leaf := w.vigil.desc.Tree().Index(sp.Leaf)
	if leaf != descriptor.LeafDelegate || len(sp.Signatures) != 1 || sp.Signatures[0].Type != 0x81 || !sp.Signed(w.vigil.desc.Group.XOnly()) {
		t.Errorf("a forfeit on leaf %d with %d signatures", leaf, len(sp.Signatures))
	}
}
