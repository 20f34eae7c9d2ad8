package wallet_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/esplora"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/vigilpb"
)

// setPolicy changes the policy by the identity key (-1) or a host key.
func (d *device) setPolicy(by int, p *vigilpb.Policy) (*vigilpb.SetPolicyAnswer, error) {
	return carry(d.w, d.as(by, "SetPolicy"), func(ctx context.Context, c auth.Call) (*vigilpb.SetPolicyAnswer, error) {
		return d.w.service.SetPolicy(ctx, c, &vigilpb.SetPolicyRequest{Policy: p})
	})
}

func (d *device) policy() *vigilpb.GetPolicyAnswer {
	d.t.Helper()
	a, err := carry(d.w, d.as(-1, "GetPolicy"), func(ctx context.Context, c auth.Call) (*vigilpb.GetPolicyAnswer, error) {
		return d.w.service.GetPolicy(ctx, c, &vigilpb.GetPolicyRequest{})
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return a
}

const day = 86_400

// Whoever has the device may tighten at once; what loosens anything needs the host
// key, is announced, and holds after the cool-down, across a restart.
func TestTighteningByTheDeviceLooseningByTheHostKey(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	v := d.coin(100_000)
	if _, err := d.sign(both(), d.payment(v, 50_000)); err != nil {
		t.Fatal(err)
	}
	tight := &vigilpb.Policy{PerTx: 10_000, Window: 15_000, WindowSeconds: day, Assets: true, CoolDown: day}
	if _, err := d.setPolicy(-1, tight); err != nil {
		t.Fatal(err)
	}
	w.audited("SetPolicy", "")
	_, err := d.sign(both(), d.payment(v, 10_001))
	refusedWith(t, err, vigil.CodePolicyPerTx)
	w.audited("Sign", vigil.CodePolicyPerTx)
	if _, err := d.sign(both(), d.renewal(v)); err != nil {
		t.Fatalf("a renewal is always allowed: %v", err)
	}
	loose := &vigilpb.Policy{PerTx: 60_000, Assets: true, CoolDown: day}
	_, err = d.setPolicy(-1, loose)
	refusedWith(t, err, vigil.CodeHostKeyNeeded)
	a, err := d.setPolicy(0, loose)
	if err != nil || a.GetPending().GetPerTx() != 60_000 || a.GetPolicy().GetPerTx() != 10_000 || a.GetEffectiveAt() != w.clock.now().Unix()+day {
		t.Fatalf("%v, %v", a, err)
	}
	_, err = d.sign(both(), d.payment(v, 50_000))
	refusedWith(t, err, vigil.CodePolicyPerTx)
	w.restart()
	w.clock.add((day - 1) * time.Second)
	_, err = d.sign(both(), d.payment(v, 50_000))
	refusedWith(t, err, vigil.CodePolicyPerTx)
	w.clock.add(time.Second)
	if _, err := d.sign(both(), d.payment(v, 50_000)); err != nil {
		t.Fatal(err)
	}
	if p := d.policy(); p.GetPolicy().GetPerTx() != 60_000 || p.GetPending() != nil {
		t.Fatalf("%v", p)
	}
	w.fsck()
}

// A change that tightens one thing and loosens another tightens at once; taking the
// loosening back, which any device may, leaves that.
func TestAMixedChangeTightensAtOnce(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	v := d.coin(100_000)
	if _, err := d.setPolicy(-1, &vigilpb.Policy{PerTx: 50_000, Assets: true, CoolDown: day}); err != nil {
		t.Fatal(err)
	}
	a, err := d.setPolicy(0, &vigilpb.Policy{PerTx: 60_000, Window: 20_000, WindowSeconds: day, Assets: true, CoolDown: day})
	if err != nil || a.GetPolicy().GetWindow() != 20_000 || a.GetPolicy().GetPerTx() != 50_000 || a.GetPending().GetPerTx() != 60_000 {
		t.Fatalf("%v, %v", a, err)
	}
	_, err = d.sign(both(), d.payment(v, 20_001))
	refusedWith(t, err, vigil.CodePolicyWindow)
	w.restart()
	_, err = d.sign(both(), d.payment(v, 20_001))
	refusedWith(t, err, vigil.CodePolicyWindow)
	now := a.GetPolicy()
	now.Version = 0
	if a, err = d.setPolicy(-1, now); err != nil || a.GetPending() != nil || a.GetPolicy().GetWindow() != 20_000 {
		t.Fatalf("%v, %v", a, err)
	}
}

// The window counts what was signed, each sighash once: a retry costs nothing
// twice, and a restart forgets nothing.
func TestTheWindowCountsBySighashAcrossRestarts(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	if _, err := d.setPolicy(-1, &vigilpb.Policy{Window: 15_000, WindowSeconds: day, Assets: true, CoolDown: day}); err != nil {
		t.Fatal(err)
	}
	v := d.coin(100_000)
	pay := d.payment(v, 10_000)
	for range 3 {
		if _, err := d.sign(both(), pay); err != nil {
			t.Fatal(err)
		}
		w.restart()
	}
	_, err := d.sign(both(), d.payment(v, 5_001))
	refusedWith(t, err, vigil.CodePolicyWindow)
	if _, err := d.sign(both(), d.payment(v, 5_000)); err != nil {
		t.Fatal(err)
	}
	w.clock.add((day + 1) * time.Second)
	if _, err := d.sign(both(), d.payment(v, 15_000)); err != nil {
		t.Fatal(err)
	}
}

// A window of an hour is over after an hour, and what was signed in it is known for
// a day.
func TestAShortWindowIsShort(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	if _, err := d.setPolicy(-1, &vigilpb.Policy{Window: 15_000, WindowSeconds: 3600, Assets: true, CoolDown: day}); err != nil {
		t.Fatal(err)
	}
	v := d.coin(100_000)
	first := d.payment(v, 15_000)
	if _, err := d.sign(both(), first); err != nil {
		t.Fatal(err)
	}
	w.clock.add(3600 * time.Second)
	_, err := d.sign(both(), d.payment(v, 14_000))
	refusedWith(t, err, vigil.CodePolicyWindow)
	w.clock.add(time.Second)
	for _, pay := range []*vigilpb.Document{d.payment(v, 14_000), first} { // the second costs nothing twice
		if _, err := d.sign(both(), pay); err != nil {
			t.Fatal(err)
		}
	}
}

func (d *device) remove(force, withdraw bool) (*vigilpb.DeleteWalletAnswer, error) {
	return carry(d.w, d.as(0, "DeleteWallet"), func(ctx context.Context, c auth.Call) (*vigilpb.DeleteWalletAnswer, error) {
		return d.w.service.DeleteWallet(ctx, c, &vigilpb.DeleteWalletRequest{Force: force, Withdraw: withdraw})
	})
}

// A wallet with coins is deleted only when forced, after an announced cool-down in
// which it can be withdrawn; then every row and every secret is gone, and its audit
// entries name nobody any more.
func TestDeletionIsRefusedAnnouncedWithdrawnAndWhole(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	other := made(w, 2, 2)
	v := d.coin(100_000)
	if _, err := d.delegate(validAt, v); err != nil {
		t.Fatal(err)
	}
	_, err := d.remove(false, false)
	refusedWith(t, err, vigil.CodeCoinsRemain)
	announced := func() {
		t.Helper()
		a, err := d.remove(true, false)
		if err != nil || a.GetDeleted() || a.GetDeleteAfter() != w.clock.now().Unix()+day {
			t.Fatalf("%v, %v", a, err)
		}
	}
	announced()
	_, err = d.remove(true, false)
	refusedWith(t, err, vigil.CodeCoolDown)
	usable(t, d) // the coins can be moved meanwhile
	if a, err := d.remove(false, true); err != nil || a.GetDeleteAfter() != 0 {
		t.Fatalf("%v, %v", a, err)
	}
	w.clock.add((day + 1) * time.Second)
	announced()
	w.restart()
	w.clock.add((day + 1) * time.Second)
	a, err := d.remove(true, false)
	if err != nil || !a.GetDeleted() {
		t.Fatalf("%v, %v", a, err)
	}
	_, err = w.service.GetPolicy(t.Context(), d.as(-1, "GetPolicy"), &vigilpb.GetPolicyRequest{}) // what came too late to be permitted
	refusedWith(t, err, vigil.CodeNotPermitted)
	_, err = d.list()
	refusedWith(t, err, vigil.CodeNotPermitted)
	_, err = d.recover(0, nil)
	refusedWith(t, err, vigil.CodeNotPermitted)
	w.collect()
	if names := w.secrets(); len(names) != 3 {
		t.Fatalf("secrets %v", names)
	}
	host := d.host(0).PubKey()
	names, err := w.sec.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	left, err := fsck.Wallet(t.Context(), w.mem, &fsck.Secrets{Names: names}, d.id, d.desc.PkScript(), d.desc.BoardingPkScript(), host[:], v.Outpoint.Hash[:])
	if err != nil || !left.Clean() || len(left.Findings) != 0 {
		t.Fatalf("%v, %s", err, left)
	}
	usable(t, other)
	w.decisions()
	// Without coins it is gone at once, and the seed may begin anew.
	if a, err := d.remove(false, false); err == nil {
		t.Fatalf("deleted twice: %v", a)
	}
	empty := made(w, 2, 2)
	if a, err := empty.remove(false, false); err != nil || !a.GetDeleted() {
		t.Fatalf("%v, %v", a, err)
	}
	if err := empty.create(); err != nil {
		t.Fatal(err)
	}
	// Nothing is deleted on a guess.
	w.op.set(func(o *fakeOperator) { o.down = context.DeadlineExceeded })
	_, err = empty.remove(false, false)
	refusedWith(t, err, vigil.CodeOperatorDown)
}

// A coin that somebody unrolled is on chain and still the wallet's: its exit needs
// Vigil's share.
func TestAnUnrolledCoinHoldsADeletionUp(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	v := d.coin(100_000)
	w.op.set(func(o *fakeOperator) { v.Unrolled = true; o.coins[v.Outpoint] = v })
	_, err := d.remove(false, false)
	refusedWith(t, err, vigil.CodeCoinsRemain)
	w.clock.add(time.Minute)
	w.op.set(func(o *fakeOperator) { v.Spent, v.SpentBy = true, "01"; o.coins[v.Outpoint] = v })
	if a, err := d.remove(false, false); err != nil || !a.GetDeleted() {
		t.Fatalf("%v, %v", a, err)
	}
}

// fakeChain knows what of unrolled coins is spent, and what is at an address.
type fakeChain struct {
	spent map[wire.OutPoint]bool
	at    map[string][]esplora.UTXO
	down  error
}

func (c *fakeChain) Spender(_ context.Context, op wire.OutPoint) (chainhash.Hash, bool, error) {
	return chainhash.Hash{1}, c.spent[op], c.down
}

func (c *fakeChain) UTXOs(_ context.Context, address string) ([]esplora.UTXO, error) {
	return c.at[address], c.down
}

// Where the chain can be asked, an unrolled coin that was swept holds no deletion up,
// and one that waits to be boarded does.
func TestDeletionAsksTheChain(t *testing.T) {
	w := newWorld(t)
	chain := &fakeChain{spent: map[wire.OutPoint]bool{}, at: map[string][]esplora.UTXO{}}
	w.chain = chain
	w.restart()
	d := made(w, 2, 2)
	v := d.coin(100_000)
	w.op.set(func(o *fakeOperator) { v.Unrolled = true; o.coins[v.Outpoint] = v })
	_, err := d.remove(false, false)
	refusedWith(t, err, vigil.CodeCoinsRemain)
	chain.spent[v.Outpoint] = true
	chain.at[d.desc.BoardingAddress()] = []esplora.UTXO{{Amount: 1000}}
	_, err = d.remove(false, false)
	refusedWith(t, err, vigil.CodeCoinsRemain)
	clear(chain.at)
	chain.down = errors.New("down")
	_, err = d.remove(false, false)
	refusedWith(t, err, vigil.CodeChainDown)
	chain.down = nil
	if a, err := d.remove(false, false); err != nil || !a.GetDeleted() {
		t.Fatalf("%v, %v", a, err)
	}
}

// A wallet that signed as many payments as are counted hears so, and its renewals go
// on.
func TestTooManyPaymentsAreToldAsSuch(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	err := w.ledger.Decide(t.Context(), d.id, 0, func(ledger.Spending) (v ledger.Verdict, _ error) {
		for i := range ledger.MaxSpends {
			v.Spends = append(v.Spends, ledger.Spend{Sighash: [32]byte{byte(i), byte(i >> 8), 1}, Amount: 1})
		}
		return v, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	v := d.coin(100_000)
	_, err = d.sign(both(), d.payment(v, 10_000))
	refusedWith(t, err, vigil.CodePolicyWindow)
	if _, err := d.sign(both(), d.renewal(v)); err != nil {
		t.Fatal(err)
	}
}
