package wallet_test

import (
	"crypto/sha256"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/vigilpb"
	"github.com/vigil-ark/vigil/wallet"
)

// remembered counts the requests that are remembered by the length of their owner:
// 32 of a wallet, 33 of a host key, 34 of a host key that has a wallet.
func (w *world) remembered() map[int]int {
	w.t.Helper()
	n := map[int]int{}
	err := w.mem.View(w.t.Context(), func(r kv.Reader) error {
		clear(n)
		return r.Scan("replay", nil, nil, func(key, _ []byte) error { n[int(key[0])]++; return nil })
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// Whoever may not make a wallet is told so before anything of the request is
// written: host keys cost nothing to make.
func TestNothingIsWrittenForStrangersWithoutAToken(t *testing.T) {
	full := false
	w := newWorld(t, func(c *wallet.Config) {
		sum := sha256.Sum256([]byte("a token of some length"))
		c.Registration = wallet.Registration{Mode: wallet.Token, Tokens: func() [][32]byte { return [][32]byte{sum} }}
		c.DiskLow = func() bool { return full }
	})
	ask := func(payload []byte) error {
		c := w.caller("BeginKeygen", fresh(t).PubKey(), vigil.WalletID{}, 0)
		c.Payload = payload
		err := w.service.Permit(t.Context(), c)
		if err == nil {
			_, err = w.service.Begin(t.Context(), c)
		}
		return err
	}
	token := func(text string) []byte {
		b, err := proto.Marshal(&vigilpb.BeginKeygenRequest{Token: text})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	refusedWith(t, ask(token("another token of it")), vigil.CodeRegistrationToken)
	refusedWith(t, ask(nil), vigil.CodeRegistrationToken)
	refusedWith(t, ask([]byte{0xff}), vigil.CodeMalformed)
	full = true
	refusedWith(t, ask(token("a token of some length")), vigil.CodeDiskLow)
	if n := w.remembered(); len(n) != 0 {
		t.Fatalf("requests by owner: %v", n)
	}
	full = false
	if err := ask(token("a token of some length")); err != nil {
		t.Fatal(err)
	}
	if n := w.remembered(); n[33] != 1 {
		t.Fatalf("requests by owner: %v", n)
	}
}

// A recovery is remembered among those of host keys that have a wallet, which no
// stranger's can fill.
func TestARecoveryIsNotCountedAmongStrangers(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	before := w.remembered()
	if _, err := d.recover(0, nil); err != nil {
		t.Fatal(err)
	}
	after := w.remembered()
	if after[34] != 1 || after[33] != before[33] {
		t.Fatalf("requests by owner: %v, then %v", before, after)
	}
	stranger := w.caller("Recover", fresh(t).PubKey(), vigil.WalletID{}, 0)
	_, err := w.service.Begin(t.Context(), stranger)
	refusedWith(t, err, vigil.CodeNotPermitted)
	w.fsck()
}
