package client_test

import (
	"testing"
	"time"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
)

// TestPaymentShownLate pays at an operator that answers the last word before it
// shows what was paid, as arkd does: the change is there for the next payment and
// for its cover, and no last word is said twice.
func TestPaymentShownLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{FinalizeLag: 300 * time.Millisecond})
	d, _, _ := w.create(client.CreateOptions{})
	w.minted(d, 50_000)
	to := d.Descriptor().Address()
	for range 2 {
		if _, err := d.Send(w.ctx, to, 1_000); err != nil {
			t.Fatal(err)
		}
		k, err := d.Keep(w.ctx)
		if err != nil || k.Uncovered != 0 || len(k.Delegated) == 0 {
			t.Fatalf("kept %+v, %v", k, err)
		}
		if b, err := d.Balance(w.ctx); err != nil || b.Preconfirmed != 50_000 {
			t.Fatalf("%+v, %v", b, err)
		}
	}
}

// TestPaymentEndsCover spends one of two coins that a delegate covers, right after
// the operator was asked: the other one is covered anew at once, and not said to be
// covered by what has ended.
func TestPaymentEndsCover(t *testing.T) {
	t.Parallel()
	r := newReal(t, arktest.Config{})
	d, _, _ := r.create()
	w := &world{T: t, op: r.op, esplora: r.op.EsploraURL(), ctx: t.Context()}
	w.minted(d, 50_000, 20_000)
	before, err := d.VTXOs(w.ctx)
	if err != nil || len(before) != 2 || before[0].Delegate != before[1].Delegate {
		t.Fatalf("before: %+v, %v", before, err)
	}
	if _, err := d.Send(w.ctx, d.Descriptor().Address(), 20_000); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Keep(w.ctx); err != nil {
		t.Fatal(err)
	}
	after, err := d.VTXOs(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range after {
		if !c.Covered || c.Delegate == before[0].Delegate {
			t.Errorf("%s is covered: %t, by %s; the payment ended %s", c.Outpoint, c.Covered, c.Delegate, before[0].Delegate)
		}
	}
}
