package wallet_test

import (
	"testing"

	"github.com/vigil-ark/vigil"
)

func TestAWalletIsMadeAndSigns(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	if _, err := d.sign(both(), d.renewal(d.coin(100_000), d.coin(50_000))); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if _, err := d.sign(both(), d.renewal(d.coin(100_000))); err != nil {
		t.Fatal(err)
	}
	w.fsck()
}

// 2-of-3 among the phone, Vigil and a cold share: any one may be gone. Without
// Vigil the two others need nobody's server.
func TestTwoOfThreeSignWithAnyOneGone(t *testing.T) {
	w := newWorld(t)
	d := made(w, 3, 2)
	v := d.coin(100_000)
	for _, signers := range [][]int{{0, 1}, {1, 2}, {0, 1, 2}} {
		if _, err := d.sign(signers, d.renewal(v)); err != nil {
			t.Fatalf("%v: %v", signers, err)
		}
	}
	_, err := d.askFor([]int{0, 2}, [][32]byte{{1}}, d.renewal(v)).send()
	refusedWith(t, err, vigil.CodeMalformed)
	w.fsck()
}
