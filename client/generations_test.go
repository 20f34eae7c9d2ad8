package client_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/vigilpb"
)

// rotate gives the operator another signer, and the fake Vigil's people's word for
// it, if they have accepted it.
func (w *world) rotate(cutoff time.Time, accepted bool) {
	w.Helper()
	if err := w.op.RotateSigner(cutoff); err != nil {
		w.Fatal(err)
	}
	if accepted {
		w.vigilAccepts()
	}
}

func (w *world) vigilAccepts() {
	w.Helper()
	c, err := operator.Dial(operator.Config{URL: w.op.URL()})
	if err != nil {
		w.Fatal(err)
	}
	defer c.Close()
	p, err := c.Info(w.ctx)
	if err != nil {
		w.Fatal(err)
	}
	w.vigil.set(func() { w.vigil.params = p })
}

// change is what the operator announces, which must be something else than the
// wallet has.
func (w *world) change(d *client.Wallet) client.OperatorChange {
	w.Helper()
	c, err := d.OperatorChange(w.ctx)
	if err != nil || c == nil {
		w.Fatalf("%+v, %v", c, err)
	}
	return *c
}

// TestNoGenerationWithoutTheOwner has Vigil, the operator, and both push scripts that
// the owner did not accept.
func TestNoGenerationWithoutTheOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, store, _ := w.create(client.CreateOptions{})
	w.minted(d, 40_000)
	first := d.Descriptor()
	if c, err := d.OperatorChange(w.ctx); err != nil || c != nil {
		t.Fatalf("nothing changed: %+v, %v", c, err)
	}
	stranger, _ := newKey(t)
	pushed := first
	pushed.Signer = stranger.PubKey().XOnly()
	unmoved := func(what string) {
		t.Helper()
		if at, err := d.Address(); err != nil || at != first.Address() || d.Descriptor() != first || len(d.Generations()) != 1 {
			t.Fatalf("%s: %v, %v", what, at, err)
		}
	}
	// Vigil says that the wallet has other scripts.
	w.vigil.set(func() {
		w.vigil.lie = func(_ string, a proto.Message) {
			if l, ok := a.(*vigilpb.ListVtxosAnswer); ok {
				l.Descriptor_ = pushed.Encode()
			}
		}
	})
	if _, err := d.Keep(w.ctx); err != nil {
		t.Fatal(err)
	}
	unmoved("Vigil's list")
	// The operator has another key, and nobody has accepted it: nothing is signed.
	w.rotate(time.Time{}, true)
	k, err := d.Keep(w.ctx)
	if !errors.Is(err, client.ErrRotated) || k.Changed == nil || k.Changed.Was != first {
		t.Fatalf("%+v, %v", k, err)
	}
	unmoved("the operator's other key")
	// What the owner accepted is what the operator announced then, and nothing else.
	seen := w.change(d)
	if !seen.Honoured || !seen.Vigil || seen.Cutoff != 0 {
		t.Fatalf("%+v", seen)
	}
	w.rotate(time.Time{}, true)
	if err := d.AcceptOperator(w.ctx, seen); !errors.Is(err, client.ErrNotAnnounced) {
		t.Fatalf("another by then: %v", err)
	}
	forged := w.change(d)
	forged.Next.Recovery = stranger.PubKey().XOnly()
	if err := d.AcceptOperator(w.ctx, forged); !errors.Is(err, client.ErrNotAnnounced) {
		t.Fatalf("another recovery key: %v", err)
	}
	unmoved("another key by then")
	// Vigil answers with scripts that are not those that were accepted.
	c := w.change(d)
	for name, lie := range map[string]func(*vigilpb.AcceptOperatorAnswer){
		"another signer": func(a *vigilpb.AcceptOperatorAnswer) { a.Descriptor_ = pushed.Encode() },
		"none older":     func(a *vigilpb.AcceptOperatorAnswer) { a.Older = nil },
		"nothing":        func(a *vigilpb.AcceptOperatorAnswer) { a.Descriptor_, a.Older = nil, nil },
		"the old ones": func(a *vigilpb.AcceptOperatorAnswer) {
			a.Descriptor_, a.Older = first.Encode(), [][]byte{c.Next.Encode()}
		},
	} {
		w.vigil.set(func() {
			w.vigil.lie = func(_ string, a proto.Message) {
				if l, ok := a.(*vigilpb.AcceptOperatorAnswer); ok {
					lie(l)
				}
			}
		})
		if err := d.AcceptOperator(w.ctx, c); !errors.Is(err, client.ErrVigil) {
			t.Errorf("%s: %v", name, err)
		}
		unmoved(name)
	}
	// The owner's word is kept meanwhile: a process that ends does not lose it.
	d.Close()
	w.vigil.set(func() { w.vigil.lie = nil })
	if d, err = client.Open(w.ctx, w.config(store)); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	k, err = d.Keep(w.ctx)
	if err != nil || k.Changed != nil || len(k.Moved) != 1 || len(d.Generations()) != 2 {
		t.Fatalf("%+v, %v", k, err)
	}
	// A generation that Vigil adds behind the device's back is not taken up either.
	second := d.Descriptor()
	w.vigil.set(func() { w.vigil.desc, w.vigil.older = pushed, []descriptor.Descriptor{first, second} })
	if _, err := d.Keep(w.ctx); err != nil {
		t.Fatal(err)
	}
	if d.Descriptor() != second || len(d.Generations()) != 2 {
		t.Fatal("a generation was pushed")
	}
}

// TestVigilAcceptsLater has the owner accept before Vigil's people do: the word is
// kept, and taken up by itself.
func TestVigilAcceptsLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, store, _ := w.create(client.CreateOptions{})
	w.minted(d, 40_000)
	// A state with what an earlier version would lose is one that it does not read.
	version := func(want int) {
		t.Helper()
		raw, err := store.Get(w.ctx, "state")
		if err == nil {
			err = raw.Use(func(b []byte) error {
				if !strings.HasPrefix(string(b), fmt.Sprintf(`{"version":%d,`, want)) {
					t.Errorf("the state is %.20s, want version %d", b, want)
				}
				return nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	version(1)
	w.rotate(time.Time{}, false)
	c := w.change(d)
	if c.Vigil {
		t.Fatal("Vigil's people have not accepted it")
	}
	if err := d.AcceptOperator(w.ctx, c); vigil.CodeOf(err) != vigil.CodeOperatorKey {
		t.Fatal(err)
	}
	if d.Descriptor() != c.Was {
		t.Fatal("taken up by one side")
	}
	version(2)
	w.vigilAccepts()
	k, err := d.Keep(w.ctx)
	if err != nil || len(k.Moved) != 1 || d.Descriptor() != c.Next {
		t.Fatalf("%+v, %v", k, err)
	}
	version(2)
	// What comes on chain to the address of before is taken in, too.
	if _, err := w.op.Faucet(c.Was.BoardingAddress(), 25_000); err != nil {
		t.Fatal(err)
	}
	if err := w.op.Mine(1); err != nil {
		t.Fatal(err)
	}
	if b, err := d.Balance(w.ctx); err != nil || b.Boarding != 25_000 {
		t.Fatalf("%+v, %v", b, err)
	}
	if s, err := d.Board(w.ctx); err != nil || s.Amount != 25_000 {
		t.Fatalf("%+v, %v", s, err)
	}
	// A Vigil that was restored from a copy of before is told.
	w.vigil.set(func() { w.vigil.desc, w.vigil.older = c.Was, nil })
	if _, err := d.Keep(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.vigil.set(func() {
		if w.vigil.desc != c.Next || len(w.vigil.older) != 1 {
			t.Errorf("Vigil has %d generations", 1+len(w.vigil.older))
		}
	})
}

// TestAcceptCutShort ends the device's process at every durable write of a new
// generation, before it and after, and loses every answer: there is the old
// generation or the new one, and asked again the new one.
func TestAcceptCutShort(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 3; n++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, after %v", n, after), func(t *testing.T) {
				w := newWorld(t, arktest.Config{})
				d, store, _ := w.create(client.CreateOptions{})
				w.minted(d, 40_000)
				d.Close()
				w.rotate(time.Time{}, true)
				f := &fuse{}
				cfg := w.config(store)
				cfg.Store = &fusedSecrets{store, f, &known{list: map[string][]secret.Bytes{}}}
				d, err := client.Open(w.ctx, cfg)
				if err != nil {
					t.Fatal(err)
				}
				c := w.change(d)
				if n == 3 { // the answer is lost instead
					w.vigil.set(func() { w.vigil.drop = func(m string) bool { return m == "AcceptOperator" } })
				} else {
					f.arm(n, after)
				}
				if err = d.AcceptOperator(w.ctx, c); err == nil {
					t.Fatal("it was not cut short")
				}
				d.Close()
				w.vigil.set(func() { w.vigil.drop = nil })
				if d, err = client.Open(w.ctx, w.config(store)); err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				if got := d.Descriptor(); got != c.Was && got != c.Next {
					t.Fatalf("%+v", got)
				}
				if n == 1 && !after { // nobody knows of the owner's word
					if err := d.AcceptOperator(w.ctx, c); err != nil {
						t.Fatal(err)
					}
				}
				k, err := d.Keep(w.ctx)
				if err != nil || len(k.Moved) != 1 || d.Descriptor() != c.Next {
					t.Fatalf("%+v, %v", k, err)
				}
				if err := d.AcceptOperator(w.ctx, c); err != nil {
					t.Fatalf("accepted once more: %v", err)
				}
			})
		}
	}
}

// TestLeaveOfTwoGenerations brings a coin of an earlier generation, whose key the
// operator signs for no more, and one of the current on chain with the operator dead,
// and sweeps them: with Vigil by the group's own leaves, after the delay of each one's
// generation, and without it by the recovery key.
func TestLeaveOfTwoGenerations(t *testing.T) {
	t.Parallel()
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprintf("without Vigil %v", alone), func(t *testing.T) {
			t.Parallel()
			leaveOfTwoGenerations(t, alone)
		})
	}
}

func leaveOfTwoGenerations(t *testing.T, alone bool) {
	clock := &moved{}
	w := newWorld(t, arktest.Config{Clock: clock})
	d, _, seed := w.create(client.CreateOptions{})
	w.minted(d, 40_000)
	w.rotate(clock.Now().Add(time.Minute), true)
	clock.Advance(2 * time.Minute)
	c := w.change(d)
	if c.Honoured || c.Cutoff == 0 {
		t.Fatalf("%+v", c)
	}
	if err := d.AcceptOperator(w.ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := w.op.Update(func(s *arktest.Settings) { s.PublicExitDelay = 1024 }); err != nil {
		t.Fatal(err)
	}
	w.vigilAccepts()
	if err := d.AcceptOperator(w.ctx, w.change(d)); err != nil { // other delays, the same key
		t.Fatal(err)
	}
	w.minted(d, 60_000)
	coins, err := d.VTXOs(w.ctx)
	if err != nil || len(coins) != 2 {
		t.Fatalf("%+v, %v", coins, err)
	}
	for _, c := range coins {
		if old := c.Amount == 40_000; c.Stuck != old || c.Older != old || !c.WithoutVigil || !c.ExitData {
			t.Errorf("%+v", c)
		}
	}
	k, err := d.Keep(w.ctx)
	if err != nil || len(k.Stuck) != 1 || len(k.Moved) != 0 {
		t.Fatalf("%+v, %v", k, err)
	}
	if _, err := d.Send(w.ctx, d.Descriptor().Address(), 70_000); !errors.Is(err, client.ErrFunds) {
		t.Fatalf("paid with a coin that nobody signs for: %v", err)
	}
	backup, err := d.Export(w.ctx)
	if err != nil || len(backup.Coins) != 2 || len(backup.Older) != 2 {
		t.Fatalf("%d coins, %d older, %v", len(backup.Coins), len(backup.Older), err)
	}
	w.op.Down()
	l, err := client.NewLeave(client.LeaveConfig{Backup: backup, Esplora: w.op.EsploraURL(), Now: clock.Now}, seed)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Burn()
	w.unrolled(l)
	if m, err := l.Maturing(w.ctx); err != nil || len(m) != 2 {
		t.Fatalf("maturing %+v, %v", m, err)
	}
	later := func(d time.Duration) {
		t.Helper()
		clock.Advance(d)
		if err := w.op.Chain().CatchUp(); err != nil {
			t.Fatal(err)
		}
	}
	if !alone {
		later(1100 * time.Second)
		s, err := d.Sweep(w.ctx, somewhere)
		if err != nil || s.Amount+s.Fee != 100_000 {
			t.Fatalf("swept %+v, %v", s, err)
		}
		return
	}
	w.vigil.http.Close()
	later(91 * 24 * time.Hour)
	s, err := l.Sweep(w.ctx, somewhere)
	if err != nil || s.Amount+s.Fee != 100_000 {
		t.Fatalf("swept %+v, %v", s, err)
	}
}

// unrolled brings every coin of a backup on chain.
func (w *world) unrolled(l *client.Leave) {
	w.Helper()
	mine := func() {
		w.Helper()
		if err := w.op.Chain().Mine(1); err != nil {
			w.Fatal(err)
		}
	}
	at, err := l.FeeAddress()
	if err != nil {
		w.Fatal(err)
	}
	if _, err := w.op.Faucet(at, 50_000); err != nil {
		w.Fatal(err)
	}
	for range 30 {
		mine()
		list, err := l.Unroll(w.ctx)
		if err != nil {
			w.Fatal(err)
		}
		out := true
		for _, p := range list {
			if p.Err != nil {
				w.Fatal(p.Err)
			}
			out = out && p.OnChain()
		}
		if out {
			return
		}
	}
	w.Fatal("the coins do not come on chain")
}

// TestRotation plays an operator's rotation from end to end, beside a Vigil of its own
// rooms: the delegate of before is carried out with nobody home; the device comes
// online, its owner accepts, and the coins are moved; they pay and are paid; a new
// device is made of the seed; and the group sweeps a coin of each generation.
func TestRotation(t *testing.T) {
	if testing.Short() {
		t.Skip("sessions on the wall clock")
	}
	t.Parallel()
	ctx := t.Context()
	h := &history{clock: &hurried{short: map[*time.Timer]func(){}}, done: map[string]int{}, errs: map[string]int{}, settled: map[vigil.DelegateID]bool{}}
	defer h.close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.open(ctx, rand.New(rand.NewPCG(3, 0))))
	alice, bob := h.phone[0], h.phone[1]
	mint := func(d descriptor.Descriptor, sats int64) wire.OutPoint {
		t.Helper()
		ops, err := h.op.Mint(wire.NewTxOut(sats, d.PkScript()))
		must(errors.Join(err, h.op.Mine(1)))
		return ops[0]
	}
	keep := func(p *phone) client.Kept {
		t.Helper()
		k, err := p.w.Keep(ctx)
		must(err)
		return k
	}
	first := alice.w.Descriptor()
	mint(first, 50_000)
	mint(bob.w.Descriptor(), 50_000)
	if k := keep(alice); len(k.Delegated) != 1 {
		t.Fatalf("%+v", k)
	}
	keep(bob)
	alice.w.Close() // off

	// The operator honours its old key for a while: what was signed before goes on.
	must(h.op.RotateSigner(h.clock.Now().Add(20_000 * time.Second)))
	var renewed *delegate.Record
	for renewed == nil {
		must(h.advance(ctx, 100*time.Second))
		must(h.quiet(ctx))
		list, _, err := h.site.run.ledger.List(ctx, ledger.Filter{Script: first.PkScript()}, 10, nil)
		must(err)
		for _, rec := range list {
			if rec.State == delegate.Settled {
				renewed = rec
			}
		}
	}
	// Vigil's people accept the key; the service of before refuses it.
	must(h.reopen(ctx, alice))
	if k, err := alice.w.Keep(ctx); !errors.Is(err, client.ErrRotated) || k.Changed == nil || k.Changed.Vigil || !k.Changed.Honoured {
		t.Fatalf("%+v, %v", k, err)
	}
	change, err := alice.w.OperatorChange(ctx)
	must(err)
	if err := alice.w.AcceptOperator(ctx, *change); vigil.CodeOf(err) != vigil.CodeOperatorKey {
		t.Fatal(err)
	}
	must(h.restart(ctx, true))
	k := keep(alice) // the owner's word was kept
	if len(k.Moved) != 1 || len(k.Delegated) != 1 || alice.w.Descriptor() != change.Next {
		t.Fatalf("%+v", k)
	}
	change, err = bob.w.OperatorChange(ctx)
	must(err)
	must(bob.w.AcceptOperator(ctx, *change))
	to, err := alice.w.Address() // paid off chain with a coin that was not moved yet
	must(err)
	_, err = bob.w.Send(ctx, to, 3_000)
	must(err)
	keep(bob)
	keep(alice)

	// In and out, at the new address and at the old one.
	to, err = bob.w.Address()
	must(err)
	_, err = alice.w.Send(ctx, to, 10_000)
	must(err)
	if to, err = alice.w.Address(); err != nil || to != alice.w.Descriptor().Address() || to == first.Address() {
		t.Fatalf("%v, %v", to, err)
	}
	_, err = bob.w.Send(ctx, to, 5_000)
	must(err)
	_, err = bob.w.Send(ctx, first.Address(), 6_000) // whoever knows the old one
	must(err)
	if k = keep(alice); len(k.Moved) != 1 {
		t.Fatalf("what came to the old address: %+v", k)
	}
	cover, err := alice.w.Coverage(ctx)
	if err != nil || len(cover.Uncovered) != 0 || !cover.Active {
		t.Fatalf("%+v, %v", cover, err)
	}

	// Another device, made of the seed alone.
	before, err := alice.w.Balance(ctx)
	must(err)
	alice.w.Close()
	alice.store, alice.fuse = secrettest.NewMemory(), &fuse{}
	alice.w, err = client.Recover(ctx, h.config(alice), alice.seed, client.RecoverOptions{Name: "another"})
	must(err)
	if g := alice.w.Generations(); len(g) != 2 || g[0] != first || alice.w.Descriptor().Address() != to {
		t.Fatalf("recovered %d generations", len(g))
	}
	old := mint(first, 20_000)
	if after, err := alice.w.Balance(ctx); err != nil || after.Total() != before.Total()+20_000 {
		t.Fatalf("%+v, it was %+v: %v", after, before, err)
	}
	if k = keep(alice); len(k.Moved) != 1 {
		t.Fatalf("%s: %+v", old, k)
	}
}
