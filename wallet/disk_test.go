package wallet_test

import (
	"testing"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/audit"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/wallet"
)

// rowSize is what one decision may cost on the disk, however much is signed by it:
// rows of the audit are kept by number.
const rowSize = 512

func TestADecisionOverManyCoinsIsAShortRow(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	if _, err := d.sign(both(), d.renewal(d.coins(20)...)); err != nil {
		t.Fatal(err)
	}
	signed := uint32(0)
	err := w.ledger.AuditEntries(t.Context(), 1, 1<<20, func(a ledger.Audited) error {
		_, e, err := audit.Decode(a.Entry)
		if len(a.Entry) > rowSize {
			t.Errorf("%s over %d signatures takes %d bytes", e.Method, e.Signatures, len(a.Entry))
		}
		signed = max(signed, e.Signatures)
		return err
	})
	if err != nil || signed != 21 {
		t.Fatalf("a decision over %d signatures, %v", signed, err)
	}
}

// Under the lower reserve a device is told so before anything of its request is
// written, and what was stored before is carried out: that is what the reserve is
// for.
func TestTheLastOfTheDiskIsForRenewals(t *testing.T) {
	full := false
	w := newWorld(t, func(c *wallet.Config) { c.DiskFull = func() bool { return full } })
	d := made(w, 2, 2)
	v := d.coin(100_000)
	a, err := d.delegate(validAt, v)
	if err != nil {
		t.Fatal(err)
	}
	full = true
	before, decided := w.remembered()[32], len(w.decisions())
	for range 3 {
		_, err = d.sign(both(), d.payment(v, 10_000))
		refusedWith(t, err, vigil.CodeDiskLow)
		_, err = d.prepare(1)
		refusedWith(t, err, vigil.CodeDiskLow)
	}
	if n := w.remembered()[32]; n != before || len(w.decisions()) != decided {
		t.Fatalf("%d requests are remembered, before %d", n, before)
	}
	id, err := vigil.ParseDelegateID(a.GetDelegate().GetId())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := w.ledger.Delegate(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := w.ledger.Apply(t.Context(), ledger.Change{Prev: rec, Event: delegate.Ripe}); err != nil || out[0].Err != nil {
		t.Fatalf("the renewal does not go on: %v, %v", out, err)
	}
	if _, err := d.list(); err != nil {
		t.Fatalf("looking is free: %v", err)
	}
	full = false
	usable(t, d)
}
