package wallet

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/script"
)

func connector(t *testing.T) batch.Connector {
	t.Helper()
	return batch.Connector{
		Outpoint: wire.OutPoint{Hash: chainhash.Hash(bytes.Repeat([]byte{9}, 32))},
		Out:      wire.NewTxOut(330, ark.PayToTaproot(testKey(t, 0x55).PubKey().XOnly())),
	}
}

func TestWhen(t *testing.T) {
	d, tree := stockDelegation(t)
	d.now = 1000
	at := func(expiry int64, swept bool) coin {
		c := stockCoin(t, 1, 0, tree)
		c.ExpiresAt, c.Swept = expiry, swept
		return c
	}
	tests := []struct {
		name  string
		coins []coin
		want  int64
	}{
		{"a tenth before expiry", []coin{at(2000, false)}, 1900},
		{"the earliest counts", []coin{at(9000, false), at(2000, false)}, 1900},
		{"recoverable ones do not", []coin{at(1500, true), at(2000, false)}, 1900},
		{"expired ones do not", []coin{at(900, false), at(2000, false)}, 1900},
		{"only recoverable", []coin{at(2000, true)}, 1060},
	}
	for _, tt := range tests {
		if got := d.when(tt.coins); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestGroups(t *testing.T) {
	const day = 86400
	v := func(n uint32, expiry int64, swept bool) ark.VTXO {
		return ark.VTXO{Outpoint: wire.OutPoint{Index: n}, ExpiresAt: expiry, Swept: swept, CommitmentTxs: []chainhash.Hash{{}}}
	}
	groups := Groups([]ark.VTXO{v(1, 9*day+5, false), v(2, 3*day, false), v(3, 4*day, true), v(4, 4*day-1, false), v(5, day, false)}, 2*day)
	var got [][]uint32
	for _, g := range groups {
		var ids []uint32
		for _, v := range g {
			ids = append(ids, v.Outpoint.Index)
		}
		got = append(got, ids)
	}
	if j, _ := json.Marshal(got); string(j) != "[[2,4,3,5],[1]]" {
		t.Errorf("groups %s", j)
	}
	if g := Groups([]ark.VTXO{v(1, day, false)}, 2*day); len(g) != 1 || len(g[0]) != 1 {
		t.Errorf("only recoverable: %v", g)
	}
	if g := Groups(nil, 0); g != nil {
		t.Errorf("none: %v", g)
	}
}

func TestDelegateRefuses(t *testing.T) {
	d, tree := stockDelegation(t)
	info := DelegateInfo{Key: testKey(t, 0x33).PubKey(), Fee: 9_700}
	if _, err := d.sign([]coin{stockCoin(t, 1, 0, tree)}, info, DelegateOptions{}); !errors.Is(err, ErrDust) {
		t.Errorf("fee of nearly all: %v", err)
	}
	stranger := DelegateInfo{Key: testKey(t, 0x66).PubKey()}
	if _, err := d.sign([]coin{stockCoin(t, 1, 0, tree)}, stranger, DelegateOptions{}); !errors.Is(err, ErrNotDelegable) {
		t.Errorf("stranger: %v", err)
	}
	w := New(nil, d.owner, nil)
	if _, err := w.coins([]ark.VTXO{{Script: []byte{1}}}); !errors.Is(err, ErrUnknownScript) {
		t.Errorf("unknown script: %v", err)
	}
}

func TestSubDustForm(t *testing.T) {
	key := testKey(t, 0x11).PubKey().XOnly()
	if _, ok := ark.SubDustKey(payTo(key, 329, 330).PkScript); !ok {
		t.Error("329 sats are not paid in the form below dust")
	}
	if _, ok := ark.TaprootKey(payTo(key, 330, 330).PkScript); !ok {
		t.Error("330 sats are not paid to taproot")
	}
}

func TestDelegateLeafIsTheFirst(t *testing.T) {
	_, tree := stockDelegation(t)
	if i := delegateLeaf(tree, testKey(t, 0x33).PubKey().XOnly()); i != 2 {
		t.Errorf("leaf %d", i)
	}
	plain, err := script.Default(testKey(t, 0x11).PubKey().XOnly(), testKey(t, 0x22).PubKey().XOnly(), 20)
	if err != nil {
		t.Fatal(err)
	}
	if i := delegateLeaf(plain, testKey(t, 0x33).PubKey().XOnly()); i != -1 {
		t.Errorf("leaf %d in a script without it", i)
	}
}

func TestFeesAreThoseOfTheTimeOfDelegation(t *testing.T) {
	d, tree := stockDelegation(t)
	d.params.Fees.OffchainInput = "expiry - now() < 100.0 ? 7.0 : 0.0"
	d.params.Fees.OffchainOutput = "2.5"
	c := stockCoin(t, 1, 1, tree)
	info := DelegateInfo{Key: testKey(t, 0x33).PubKey()}
	for at, want := range map[int64]int64{c.ExpiresAt - 99: 9_993, c.ExpiresAt - 100: 10_000} {
		outs, err := d.outputs([]coin{c}, info, DelegateOptions{}, at)
		if err != nil {
			t.Fatal(err)
		}
		if len(outs) != 1 || outs[0].Value != want {
			t.Errorf("at %d: %d, want %d", at, outs[0].Value, want)
		}
	}
	info.Fee = 400 // its own output costs 2.5, rounded up
	outs, err := d.outputs([]coin{c}, info, DelegateOptions{}, d.now)
	if err != nil {
		t.Fatal(err)
	}
	if len(outs) != 2 || outs[0].Value != 400 || outs[1].Value != 9_597 {
		t.Errorf("outputs %v", outs)
	}
}
