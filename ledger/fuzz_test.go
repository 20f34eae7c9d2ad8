package ledger

import (
	"errors"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/internal/canon"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
)

// FuzzRow reads any key and value as a row of any tree: no panic, nothing is made
// that the bytes do not pay for, and a row that means something means it in one way
// only.
func FuzzRow(f *testing.F) {
	list := trees()
	for i := range list {
		f.Add(byte(i), []byte("key"), []byte("value"))
	}
	x := newSeeds(f)
	for i, t := range list {
		_ = x.View(f.Context(), func(r kv.Reader) error {
			return r.Scan(t.name, nil, nil, func(key, stored []byte) error {
				if value, err := unseal(t.name, key, stored); err == nil {
					f.Add(byte(i), key, value)
				}
				return nil
			})
		})
	}
	f.Fuzz(func(t *testing.T, n byte, key, value []byte) {
		tree := list[int(n)%len(list)]
		if tree.read(key, value) != nil {
			return
		}
		var r row
		switch tree.name {
		case treeWallets:
			r = new(Wallet)
		case treeRecovery:
			r = new(Epoch)
		case treeHoldings:
			r = new(Holding)
		case treePrepared:
			r = new(Plan)
		case treeReplay:
			r = new(begun)
		case treePolicies:
			r = new(Policy)
		case treeTokens:
			r = new(Token)
		case treeVTXOs:
			r = new(VTXO)
		case treeHistory:
			r = new(Entry)
		default:
			return
		}
		if err := decodeRow(value, r); err != nil {
			t.Fatal(err)
		}
		again, err := encodeRow(r)
		if err != nil || string(again) != string(value) {
			t.Fatalf("%s: %x reads as %+v and is written as %x, %v", tree.name, value, r, again, err)
		}
		if len(value) > 0 {
			if err := tree.read(key, value[:len(value)-1]); err == nil || errors.Is(err, canon.ErrNewer) {
				t.Fatalf("%s: a shorter value reads as well: %v", tree.name, err)
			}
		}
	})
}

// newSeeds is a store with a wallet in it.
func newSeeds(f *testing.F) kv.Store {
	f.Helper()
	ctx, store := f.Context(), kvtest.NewMemory()
	must := func(err error) {
		f.Helper()
		if err != nil {
			f.Fatal(err)
		}
	}
	must(Create(ctx, store, Generation{1}))
	l, err := Open(ctx, store, Options{Now: func() time.Time { return time.Unix(start, 0) }})
	must(err)
	w := &Wallet{
		ID: vigil.WalletID{7}, State: WalletActive, Threshold: 2, Participants: 2, Descriptor: []byte("d"), Scripts: [][]byte{[]byte("script")},
		Epochs:     []Epoch{{Hosts: []bip340.PubKey{{2}, {3}}, Info: []byte("i"), Record: []byte("r"), Acked: []bool{true, false}}},
		Identities: []Identity{{Name: "phone", FrozenAt: start}},
	}
	_, err = l.CreateWallet(ctx, w, Extras{Policy: &Policy{Current: []byte("p"), NextAt: 1}, Audit: []Link{
		func(uint64, [32]byte) ([32]byte, []byte, error) { return [32]byte{1}, []byte("entry"), nil },
	}})
	must(err)
	second := &Wallet{ID: vigil.WalletID{8}, State: WalletActive, Descriptor: []byte("e"), Older: [][]byte{[]byte("d")}, Scripts: [][]byte{[]byte("other")}}
	_, err = l.CreateWallet(ctx, second, Extras{})
	must(err)
	must(l.Plan(ctx, Plan{Wallet: w.ID, Delegate: vigil.DelegateID{1}, Secrets: []string{"tree-secret"}, ExpiresAt: start + 10}))
	must(l.SetToken(ctx, w.ID, Token{Kind: "k", Text: "t"}))
	v := ark.VTXO{Outpoint: op(1), Amount: 5, Script: []byte("script"), Assets: []ark.AssetAmount{{AssetID: "a", Amount: 1}}, Spent: true, ArkTxid: "t"}
	_, err = l.PutVTXOs(ctx, w.ID, []ark.VTXO{v})
	must(err)
	must(l.Decide(ctx, w.ID, 0, func(Spending) (Verdict, error) { return Verdict{Spends: []Spend{{Amount: 4}}}, nil }))
	q := Request{Owner: w.ID[:], Stamp: start}
	_, err = l.Begin(ctx, q, time.Minute)
	must(err)
	must(l.Finish(ctx, q, []byte("answer")))
	return store
}
