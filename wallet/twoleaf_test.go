package wallet_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/policy"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/vigilpb"
)

// stray is a coin at the wallet's two-leaf script.
func (d *device) stray(amount int64) ark.VTXO {
	d.t.Helper()
	return d.coinAt(amount, d.desc.TwoLeaf().PkScript())
}

// optIn has the wallet's policy allow delegates of two-leaf coins.
func (d *device) optIn() *device {
	d.t.Helper()
	if _, err := d.setPolicy(0, &vigilpb.Policy{TwoLeaf: true, Assets: true, CoolDown: day}); err != nil {
		d.t.Fatal(err)
	}
	d.w.clock.add(day * time.Second)
	return d
}

// allowTwoLeaf is optIn where the clock is the real one: the policy is written as it
// is after the cool-down.
func (w *world) allowTwoLeaf(id vigil.WalletID) {
	w.t.Helper()
	in := policy.Default()
	in.TwoLeaf = true
	b, err := policy.State{Current: in}.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	row, err := w.ledger.Wallet(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.ledger.UpdateWallet(w.t.Context(), row, func(*ledger.Wallet) {}, ledger.Extras{Policy: &ledger.Policy{Current: b}}); err != nil {
		w.t.Fatal(err)
	}
}

// forfeitSecrets are the names of what is sealed for delegates.
func (w *world) forfeitSecrets() []string {
	w.t.Helper()
	names, err := w.sec.List(w.t.Context(), "forfeit-secret.")
	if err != nil {
		w.t.Fatal(err)
	}
	return names
}

// A device opts in with the host key and after the cool-down; until then, and when
// it is taken back, neither half signs such a forfeit and no delegate is taken.
func TestDelegatesOfTwoLeafCoinsAreOptedIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := made(w, 2, 2)
	v := d.stray(100_000)
	try := func() error {
		_, err := d.delegate(validAt, v)
		return err
	}
	refusedWith(t, try(), vigil.CodePolicyBearer)
	w.audited("Sign", vigil.CodePolicyBearer)
	in := &vigilpb.Policy{TwoLeaf: true, Assets: true, CoolDown: day}
	_, err := d.setPolicy(-1, in)
	refusedWith(t, err, vigil.CodeHostKeyNeeded)
	a, err := d.setPolicy(0, in)
	if err != nil || a.GetPolicy().GetTwoLeaf() || !a.GetPending().GetTwoLeaf() || a.GetEffectiveAt() != w.clock.now().Unix()+day {
		t.Fatalf("%v, %v", a, err)
	}
	w.clock.add((day - 1) * time.Second)
	refusedWith(t, try(), vigil.CodePolicyBearer)
	w.clock.add(time.Second)
	if p := d.policy(); !p.GetPolicy().GetTwoLeaf() || p.GetPending() != nil {
		t.Fatalf("%v", p)
	}
	// What was signed while it held is not taken once it no longer does.
	prepared, err := d.prepare(1)
	if err != nil {
		t.Fatal(err)
	}
	late, err := d.signed(d.drawUp(prepared[0], validAt, 0, v))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.setPolicy(-1, &vigilpb.Policy{Assets: true, CoolDown: day}); err != nil {
		t.Fatalf("taking it back needs no host key: %v", err)
	}
	_, err = d.submit(late)
	refusedWith(t, err, vigil.CodePolicyBearer)
	refusedWith(t, try(), vigil.CodePolicyBearer)
	if names := w.forfeitSecrets(); len(names) > 0 {
		t.Fatalf("sealed though refused: %v", names)
	}
	w.fsck()
}

// A bearer forfeit counts as a spend of the whole coin, once; the other coins of a
// delegate count for nothing.
func TestABearerForfeitCountsAgainstTheLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := made(w, 2, 2).optIn()
	if _, err := d.setPolicy(-1, &vigilpb.Policy{TwoLeaf: true, PerTx: 60_000, Window: 100_000, WindowSeconds: day, Assets: true, CoolDown: day}); err != nil {
		t.Fatal(err)
	}
	_, err := d.delegate(validAt, d.stray(60_001))
	refusedWith(t, err, vigil.CodePolicyPerTx)
	v := d.stray(60_000)
	for range 3 { // replaced by itself, it costs nothing again
		if _, err := d.delegate(validAt, v, d.coin(500_000)); err != nil && vigil.CodeOf(err) != vigil.CodeReplaceIncomplete {
			t.Fatal(err)
		}
	}
	_, err = d.delegate(validAt, d.stray(40_001))
	refusedWith(t, err, vigil.CodePolicyWindow)
	if _, err := d.delegate(validAt, d.stray(40_000)); err != nil {
		t.Fatal(err)
	}
	w.fsck()
}

// A stored one is covered, and it stays said that the coin cannot be had without
// Vigil. Its forfeit is in the secret store under its name and in no row; what ends
// it takes the secret away.
func TestADelegateOfATwoLeafCoin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := made(w, 2, 2).optIn()
	v, own := d.stray(100_000), d.coin(50_000)
	prepared, err := d.prepare(1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.signed(d.drawUp(prepared[0], validAt, 0, v, own))
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.submit(r)
	if err != nil {
		t.Fatal(err)
	}
	id, err := vigil.ParseDelegateID(a.GetDelegate().GetId())
	if err != nil {
		t.Fatal(err)
	}
	list, err := d.list()
	if err != nil || len(list.GetVtxos()) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, got := range list.GetVtxos() {
		if !got.GetCovered() || got.GetRecoverableWithoutVigil() != (got.GetOutpoint() == own.Outpoint.String()) {
			t.Errorf("%v", got)
		}
	}
	if names := w.forfeitSecrets(); !slices.Equal(names, []string{signer.ForfeitName(id)}) {
		t.Fatalf("sealed: %v", names)
	}
	w.searched(t, r.GetForfeits()[0], true)
	w.searched(t, r.GetForfeits()[1], false) // pinned by the delegate key, it is no secret
	w.fsck()
	rec, err := w.ledger.Delegate(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if s, failed := w.signer.Open(t.Context(), []*delegate.Record{rec}); failed[id] != nil {
		t.Errorf("it cannot be opened: %v", failed[id])
	} else {
		s.Close()
	}
	// The same again is answered, and seals nothing anew; another body of the same id
	// neither.
	if _, err := d.submit(r); err != nil {
		t.Fatal(err)
	}
	// A newer one takes its place, and of the older nothing is left.
	if _, err := d.delegate(validAt+1, v, own); err != nil {
		t.Fatal(err)
	}
	w.collect()
	if names := w.forfeitSecrets(); len(names) != 1 || names[0] == signer.ForfeitName(id) {
		t.Fatalf("after a replacement: %v", names)
	}
	newer, err := vigil.ParseDelegateID(d.delegates()[slices.IndexFunc(d.delegates(), func(x *vigilpb.Delegate) bool { return x.GetState() == "armed" })].GetId())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := carry(w, d.as(-1, "CancelWalletDelegate"), func(ctx context.Context, c auth.Call) (*vigilpb.CancelWalletDelegateAnswer, error) {
		return w.service.CancelWalletDelegate(ctx, c, &vigilpb.CancelWalletDelegateRequest{Id: newer[:]})
	}); err != nil {
		t.Fatal(err)
	}
	w.collect()
	if names := w.forfeitSecrets(); len(names) > 0 {
		t.Fatalf("after a cancellation: %v", names)
	}
}

// searched looks for the signature of a forfeit in all rows that the key-value store
// has, in the forms in which a store would hold it.
func (w *world) searched(t *testing.T, b64 string, sealed bool) {
	t.Helper()
	packet, err := script.ParsePSBT(b64, script.StrangerLimits())
	if err != nil {
		t.Fatal(err)
	}
	sig := packet.Inputs[0].TaprootScriptSpendSig[0].Signature
	// Of base64 the first thirty bytes, which end with a whole group, at each alignment.
	marks := [][]byte{sig[32:], []byte(hex.EncodeToString(sig[32:]))}
	for from := range 3 {
		marks = append(marks, []byte(base64.StdEncoding.EncodeToString(sig[32+from:][:27])))
	}
	found, rows := false, 0
	err = ledger.Inspect(t.Context(), w.mem, func(s *ledger.Snapshot) error {
		return s.Mentions(append(marks, []byte("register")), func(row string, mark int) error {
			rows++
			found = found || mark < len(marks)
			return nil
		})
	})
	if err != nil || rows == 0 {
		t.Fatalf("no row is found: %v", err)
	}
	if found == sealed {
		t.Errorf("in the key-value store, of which it is a secret (%v): found %v", sealed, found)
	}
}

// A crash at any write of the intake of such a delegate, its secret among them: it is
// stored whole or not at all, the device begins again, and no secret is left over.
func TestCrashAtEveryWriteOfATwoLeafIntake(t *testing.T) {
	t.Parallel()
	crashes(t, func(w *world) *device { return made(w, 2, 2).optIn() }, func(d *device) error {
		_, err := d.delegate(validAt, d.stray(100_000), d.coin(50_000))
		return err
	}, func(t *testing.T, d *device, err error) {
		if n := len(d.delegates()); err != nil && n == 0 {
			var coins []ark.VTXO
			for _, v := range d.w.op.coins {
				coins = append(coins, v)
			}
			if _, err := d.delegate(validAt, coins...); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(d.delegates()); n != 1 {
			t.Fatalf("%d delegates", n)
		}
		id, err := vigil.ParseDelegateID(d.delegates()[0].GetId())
		if err != nil {
			t.Fatal(err)
		}
		rec, err := d.w.ledger.Delegate(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		s, failed := d.w.signer.Open(t.Context(), []*delegate.Record{rec})
		s.Close()
		if failed[id] != nil {
			t.Fatalf("stored, and it cannot be opened: %v", failed[id])
		}
		d.w.collect()
		if names := d.w.secrets(); len(names) != 5 || len(d.w.forfeitSecrets()) != 1 {
			t.Fatalf("secrets %v", names)
		}
	})
}

// A submission that is refused after its forfeits were sealed leaves them planned: the
// same id takes another body, and what that does not need is garbage with it.
func TestWhatARefusedSubmissionSealedIsNotLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := made(w, 2, 2).optIn()
	v, own := d.stray(100_000), d.coin(50_000)
	if _, err := d.delegate(validAt, v); err != nil {
		t.Fatal(err)
	}
	prepared, err := d.prepare(2)
	if err != nil {
		t.Fatal(err)
	}
	for i, last := range []ark.VTXO{own, v} {
		r, err := d.signed(d.drawUp(prepared[i], validAt+1, 0, v))
		if err != nil {
			t.Fatal(err)
		}
		r.RejectReplace = true
		_, err = d.submit(r)
		refusedWith(t, err, vigil.CodeReplaceRejected)
		if len(w.forfeitSecrets()) != 2 {
			t.Fatalf("sealed: %v", w.forfeitSecrets())
		}
		w.fsck()
		if r, err = d.signed(d.drawUp(prepared[i], validAt+2, 0, last)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.submit(r); err != nil {
			t.Fatal(err)
		}
		w.fsck()
		w.purge()
		if len(w.forfeitSecrets()) != 1 {
			t.Fatalf("%d: sealed: %v", i, w.forfeitSecrets())
		}
		w.fsck()
	}
	// One that never comes is garbage once nobody can submit it any more.
	if prepared, err = d.prepare(1); err != nil {
		t.Fatal(err)
	}
	r, err := d.signed(d.drawUp(prepared[0], validAt+3, 0, v))
	if err != nil {
		t.Fatal(err)
	}
	r.RejectReplace = true
	_, err = d.submit(r)
	refusedWith(t, err, vigil.CodeReplaceRejected)
	w.collect()
	if len(w.forfeitSecrets()) != 1 {
		t.Fatalf("sealed: %v", w.forfeitSecrets())
	}
	_, err = d.submit(r)
	refusedWith(t, err, vigil.CodeNotFound)
	w.fsck()
}

// Whoever deletes the wallet deletes what was sealed for it, also that of a delegate
// that never came.
func TestDeletionTakesSealedForfeits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := made(w, 2, 2).optIn()
	v := d.stray(100_000)
	if _, err := d.delegate(validAt, v); err != nil {
		t.Fatal(err)
	}
	w.op.set(func(o *fakeOperator) { clear(o.coins) })
	if _, err := d.list(); err != nil {
		t.Fatal(err)
	}
	row, err := w.ledger.Wallet(t.Context(), d.id)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.ledger.DeleteWallet(t.Context(), row, ledger.Extras{}); err != nil && !errors.Is(err, ledger.ErrConflict) {
		t.Fatal(err)
	}
	w.collect()
	if names := w.forfeitSecrets(); len(names) > 0 {
		t.Fatalf("left: %v", names)
	}
}

// A coin at the two-leaf script of an earlier generation is delegated to the current
// script, alone or beside one of the same generation.
func TestATwoLeafCoinOfAnEarlierGeneration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := made(w, 2, 2).optIn()
	v, own := d.stray(100_000), d.coin(50_000)
	w.changed(0, false)
	w.repin()
	if err := d.move(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.delegate(validAt, v, d.stray(40_000)); vigil.CodeOf(err) != vigil.CodeInputNotDelegable {
		t.Fatalf("over two generations: %v", err)
	}
	for _, coins := range [][]ark.VTXO{{v}, {own, v}, {v, own}} {
		if _, err := d.delegate(validAt, coins...); err != nil {
			t.Fatal(err)
		}
		w.collect()
		if names := w.forfeitSecrets(); len(names) != 1 {
			t.Fatalf("sealed: %v", names)
		}
	}
}

// A thief with the key-value store, and the operator's key beside it, has all of such a
// forfeit but the signature that makes it one: no 64 bytes of the record are it, and
// what is sealed is, with any connector.
func TestAThiefOfTheKeyValueStoreHasNoForfeit(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of verifications")
	}
	t.Parallel()
	w := newWorld(t)
	d := made(w, 2, 2).optIn()
	a, err := d.delegate(validAt, d.stray(100_000))
	if err != nil {
		t.Fatal(err)
	}
	rec, err := w.ledger.Delegate(t.Context(), delegateOf(t, a))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := script.ParseTapTree(rec.Inputs[0].TapTree)
	if err != nil {
		t.Fatal(err)
	}
	_, sighash, _, err := rec.Unsealed(0, tree)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rec.Encode()
	if err != nil {
		t.Fatal(err)
	}
	works := func(b []byte) bool { return bip340.Verify(bip340.XOnly(d.id), sighash[:], [64]byte(b)) }
	for at := 0; at+64 <= len(raw); at++ {
		if works(raw[at : at+64]) {
			t.Fatalf("the record has it, at byte %d", at)
		}
	}
	value, err := w.sec.Get(t.Context(), signer.ForfeitName(rec.ID))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	err = value.Use(func(b []byte) error {
		for at := 0; at+64 <= len(b); at++ {
			found = found || works(b[at:at+64])
		}
		return nil
	})
	if err != nil || !found {
		t.Errorf("what is sealed is not the forfeit's signature either: %v", err)
	}
}
