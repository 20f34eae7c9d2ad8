package wallet_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/vigilpb"
)

// changed lets the operator sign with another key, and honour the old one until
// cutoff (0: without end); with repins, Vigil's operator has accepted it.
func (w *world) changed(cutoff int64, repins bool) {
	old := w.op.params.SignerKey
	next := fresh(w.t).PubKey()
	w.op.set(func(o *fakeOperator) {
		o.params.SignerKey = next
		o.params.DeprecatedSigners = append(slices.Clone(o.params.DeprecatedSigners), ark.DeprecatedSigner{Key: old, Cutoff: cutoff})
		o.params.Digest += "+"
	})
	if repins {
		w.repin()
	}
	w.clock.add(2 * time.Minute)
}

func (w *world) repin() {
	pin := w.cfg.Pinned
	pin.Signer = w.op.params.SignerKey
	w.cfg.Pinned = pin
	w.local().Repin(pin)
}

// following is the generation that follows from what the operator announces.
func (d *device) following() descriptor.Descriptor {
	d.t.Helper()
	next, err := d.desc.Next(d.w.op.params)
	if err != nil {
		d.t.Fatal(err)
	}
	return next
}

// accept asks for a generation, in the name of a host key or the identity (-1).
func (d *device) accept(by int, next descriptor.Descriptor, older ...descriptor.Descriptor) (*vigilpb.AcceptOperatorAnswer, error) {
	r := &vigilpb.AcceptOperatorRequest{Descriptor_: next.Encode()}
	for _, o := range older {
		r.Older = append(r.Older, o.Encode())
	}
	return carry(d.w, d.as(by, "AcceptOperator"), func(ctx context.Context, c auth.Call) (*vigilpb.AcceptOperatorAnswer, error) {
		return d.w.service.AcceptOperator(ctx, c, r)
	})
}

// move accepts what the operator announces, and takes it up.
func (d *device) move() error {
	next, older := d.following(), append(slices.Clone(d.older), d.desc)
	a, err := d.accept(0, next, older...)
	if err != nil {
		return err
	}
	gens, err := descriptor.DecodeGenerations(a.GetDescriptor_(), a.GetOlder())
	if err != nil {
		return err
	}
	if gens.Current() != next || !slices.Equal(gens.Older(), older) {
		d.t.Fatalf("the answer has %d generations", len(gens))
	}
	d.desc, d.older = next, older
	return nil
}

// A generation begins when both have accepted, and what lies at the old scripts
// stays the wallet's: it is listed, renewed and delegated to the new script alone.
func TestANewGeneration(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	first, old := d.desc, d.coin(100_000)
	armed, err := d.delegate(validAt, old)
	if err != nil {
		t.Fatal(err)
	}
	w.changed(0, false)
	_, err = d.accept(0, d.following(), first)
	refusedWith(t, err, vigil.CodeOperatorKey) // Vigil's own people have not
	w.repin()
	watch, err := w.hub.Watch(t.Context(), d.id, d.identity.PubKey())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	if err := d.move(); err != nil {
		t.Fatal(err)
	}
	if e := <-watch.C(); e.Kind != notify.OperatorChanged {
		t.Fatalf("told of %v", e)
	}
	w.fsck()
	w.restart()
	again, err := d.accept(0, d.desc, d.older...)
	if err != nil || !bytes.Equal(again.GetDescriptor_(), d.desc.Encode()) || len(again.GetOlder()) != 1 {
		t.Fatalf("asked again: %v, %v", again, err)
	}
	fresh := d.coin(50_000)
	if bytes.Equal(old.Script, fresh.Script) {
		t.Fatal("one script for both")
	}
	a, err := d.list()
	if err != nil || len(a.GetVtxos()) != 2 || !bytes.Equal(a.GetDescriptor_(), d.desc.Encode()) {
		t.Fatalf("%v, %v", a, err)
	}
	for _, v := range a.GetVtxos() {
		if !v.GetRecoverableWithoutVigil() || v.GetCovered() != (v.GetOutpoint() == old.Outpoint.String()) {
			t.Errorf("listed: %v", v)
		}
	}
	if list := d.delegates(); len(list) != 1 || list[0].GetId() != armed.GetDelegate().GetId() || list[0].GetState() != "armed" {
		t.Fatalf("the delegate of before: %v", list)
	}
	// Policy: the wallet's current script is the only one to which a renewal pays.
	if err := d.tighten(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.sign(both(), d.renewal(old, fresh)); err != nil {
		t.Fatalf("moved: %v", err)
	}
	_, doc := d.register([]*wire.TxOut{wire.NewTxOut(100_000, first.PkScript())}, old)
	_, err = d.sign(both(), doc)
	refusedWith(t, err, vigil.CodePolicyPerTx)
	// And so does a delegate, whose inputs are of one generation.
	if _, err := d.delegate(validAt, old, fresh); vigil.CodeOf(err) != vigil.CodeInputNotDelegable {
		t.Fatalf("a delegate over two generations: %v", err)
	}
	moved, err := d.delegate(validAt, old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.delegate(validAt, fresh); err != nil {
		t.Fatal(err)
	}
	rec, err := w.ledger.Delegate(t.Context(), delegateOf(t, moved))
	if err != nil || !bytes.Equal(rec.Outputs[0].PkScript, d.desc.PkScript()) || rec.SignerKey.XOnly() != first.Signer {
		t.Fatalf("%+v, %v", rec, err)
	}
	r, err := d.recover(0, d.identity)
	if err != nil || len(r.GetOlder()) != 1 || !bytes.Equal(r.GetOlder()[0], first.Encode()) || !bytes.Equal(r.GetDescriptor_(), d.desc.Encode()) {
		t.Fatalf("recovered: %v, %v", r, err)
	}
	w.fsck()
}

func delegateOf(t *testing.T, a *vigilpb.SubmitDelegateAnswer) vigil.DelegateID {
	t.Helper()
	id, err := vigil.ParseDelegateID(a.GetDelegate().GetId())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// tighten lets nothing leave the wallet.
func (d *device) tighten() error {
	p := d.policy().GetPolicy()
	p.PerTx, p.Version = 1, 0
	_, err := d.setPolicy(-1, p)
	return err
}

// Nobody pushes a generation: not an operator alone, not a device that made up the
// scripts, not an everyday key.
func TestNoOtherGeneration(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	other := made(w, 2, 2)
	change := func(f func(*descriptor.Descriptor)) descriptor.Descriptor { n := d.following(); f(&n); return n }
	if _, err := d.accept(0, d.desc); err != nil {
		t.Fatalf("what is current: %v", err)
	}
	_, err := d.accept(0, change(func(n *descriptor.Descriptor) { n.Signer = fresh(t).PubKey().XOnly() }))
	refusedWith(t, err, vigil.CodeGeneration) // nothing changed
	w.changed(0, true)
	for name, c := range map[string]struct {
		by   int
		next descriptor.Descriptor
		want vigil.Code
	}{
		"an identity key":        {-1, d.following(), vigil.CodeHostKeyNeeded},
		"another signer":         {0, change(func(n *descriptor.Descriptor) { n.Signer = fresh(t).PubKey().XOnly() }), vigil.CodeGeneration},
		"another delay":          {0, change(func(n *descriptor.Descriptor) { n.ExitDelay = 1024 }), vigil.CodeGeneration},
		"another delegate key":   {0, change(func(n *descriptor.Descriptor) { n.Delegate = fresh(t).PubKey().XOnly() }), vigil.CodeGeneration},
		"another recovery key":   {0, change(func(n *descriptor.Descriptor) { n.Recovery = fresh(t).PubKey().XOnly() }), vigil.CodeGeneration},
		"another wallet's":       {0, other.following(), vigil.CodeGeneration},
		"an earlier recovery":    {0, change(func(n *descriptor.Descriptor) { n.RecoveryDelay -= 512; n.BoardingRecoveryDelay -= 512 }), vigil.CodeGeneration},
		"a longer boarding exit": {0, change(func(n *descriptor.Descriptor) { n.BoardingRecoveryDelay += 512 }), vigil.CodeGeneration},
		"what is no descriptor":  {0, descriptor.Descriptor{}, vigil.CodeMalformed},
	} {
		_, err := d.accept(c.by, c.next)
		if vigil.CodeOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	row, err := w.ledger.Wallet(t.Context(), d.id)
	if err != nil || len(row.Older) != 0 || !bytes.Equal(row.Descriptor, d.desc.Encode()) {
		t.Fatalf("%+v, %v", row, err)
	}
	_, err = d.accept(0, other.following())
	refusedWith(t, err, vigil.CodeGeneration)
	w.audited("AcceptOperator", vigil.CodeGeneration)
	if err := d.move(); err != nil {
		t.Fatal(err)
	}
	w.audited("AcceptOperator", "")
	// An operator that goes back makes the first one current again.
	first := d.older[0]
	w.op.set(func(o *fakeOperator) {
		o.params.SignerKey = bip340.PubKey(append([]byte{2}, first.Signer[:]...))
		o.params.DeprecatedSigners = nil
	})
	w.repin()
	if a, err := d.accept(0, first, d.desc); err != nil || !bytes.Equal(a.GetDescriptor_(), first.Encode()) || len(a.GetOlder()) != 1 {
		t.Fatalf("%v, %v", a, err)
	}
	w.fsck()
}

// Thirty-two generations are kept, and a Vigil that was restored from a copy of
// before them learns all of the device.
func TestManyGenerations(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	mem, sec := w.mem.Copy(), w.sec.Copy()
	for n := 1; n < descriptor.MaxGenerations; n++ {
		w.op.set(func(o *fakeOperator) { o.params.ExitDelay += 512; o.params.BoardingDelay += 512 })
		if err := d.move(); err != nil {
			t.Fatalf("generation %d: %v", n, err)
		}
	}
	check := func() {
		t.Helper()
		row, err := w.ledger.Wallet(t.Context(), d.id)
		if err != nil || len(row.Older) != descriptor.MaxGenerations-1 || len(row.Scripts) != 3*descriptor.MaxGenerations {
			t.Fatalf("%d older, %d scripts, %v", len(row.Older), len(row.Scripts), err)
		}
		v := d.coin(1000)
		v.Script = d.older[7].PkScript()
		w.op.set(func(o *fakeOperator) { o.coins[v.Outpoint] = v })
		if _, err := d.sign(both(), d.renewal(v)); err != nil {
			t.Fatal(err)
		}
		w.fsck()
	}
	check()
	kept := w.op.params
	w.op.set(func(o *fakeOperator) { o.params.ExitDelay += 512 })
	_, err := d.accept(0, d.following(), d.older[1:]...)
	refusedWith(t, err, vigil.CodeGeneration)
	w.op.set(func(o *fakeOperator) { o.params = kept })
	w.mem, w.sec = mem, sec
	w.restart()
	if _, err := d.accept(0, d.desc, d.older...); err != nil {
		t.Fatal(err)
	}
	check()
	// What it is found by are the scripts of all of them.
	row, err := w.ledger.Wallet(t.Context(), d.id)
	if err == nil {
		_, err = w.ledger.UpdateWallet(t.Context(), row, func(w *ledger.Wallet) { w.Scripts = w.Scripts[:5] }, ledger.Extras{})
	}
	if err != nil {
		t.Fatal(err)
	}
	report, err := fsck.Check(t.Context(), w.mem, nil)
	if err != nil || !slices.ContainsFunc(report.Findings, func(f fsck.Finding) bool { return f.Code == "generation" }) {
		t.Fatalf("fsck: %v, %v", report, err)
	}
}

// A crash at any write of it: there is the old generation or the new one, and the
// device that asks again has the new one.
func TestCrashAtEveryWriteOfAGeneration(t *testing.T) {
	t.Parallel()
	crashes(t, func(w *world) *device {
		d := made(w, 2, 2)
		w.changed(0, true)
		return d
	}, func(d *device) error { return d.move() },
		func(t *testing.T, d *device, err error) {
			if err != nil {
				if err := d.move(); err != nil {
					t.Fatalf("asked again: %v", err)
				}
			}
			usable(t, d)
			v := d.coin(1000)
			v.Script = d.older[0].PkScript()
			d.w.op.set(func(o *fakeOperator) { o.coins[v.Outpoint] = v })
			if _, err := d.sign(both(), d.renewal(v)); err != nil {
				t.Fatal(err)
			}
		})
}
