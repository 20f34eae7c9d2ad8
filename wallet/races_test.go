package wallet_test

import (
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
)

// A round that saw a wallet before its refresh leaves the share alone that the
// refresh made meanwhile.
func TestARoundBesideARefreshDestroysNoShare(t *testing.T) {
	var meanwhile func()
	w := newWorld(t)
	clock := w.clock.now
	w.cfg.Now = func() time.Time {
		if f := meanwhile; f != nil {
			meanwhile = nil
			f()
		}
		return clock()
	}
	w.restart()
	d := made(w, 2, 2)
	if err := d.refresh(false); err != nil {
		t.Fatal(err)
	}
	w.clock.add(time.Hour)
	meanwhile = func() { // the round begins
		meanwhile = func() { // it has read the wallet's row
			d.halt = "AcknowledgeRefresh"
			refusedWith(t, d.refresh(false), vigil.CodeStopping)
			d.halt = ""
		}
	}
	if err := w.local().Round(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if d.active != 2 || meanwhile != nil {
		t.Fatalf("epoch %d: the refresh did not come between", d.active)
	}
	if err := d.acknowledgeRefresh(); err != nil {
		t.Fatal(err)
	}
	usable(t, d)
	w.fsck()
}
