package wallet_test

import (
	"testing"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/vigilpb"
)

// A policy whose row is gone is damage: to read it as no policy would let a thief
// with the device take everything.
func TestAPolicyThatVanishedAllowsNothing(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	v := d.coin(100_000)
	if _, err := d.setPolicy(-1, &vigilpb.Policy{PerTx: 10_000, Assets: true, CoolDown: day}); err != nil {
		t.Fatal(err)
	}
	err := w.mem.Update(t.Context(), func(w kv.Writer) error { return w.Delete("policies", d.id[:]) })
	if err != nil {
		t.Fatal(err)
	}
	w.restart()
	_, err = d.sign(both(), d.payment(v, 10_001))
	refusedWith(t, err, vigil.CodeInternal)
}
