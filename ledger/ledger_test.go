package ledger

import (
	"errors"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
)

// start is the time at which every test begins.
const start int64 = 1_900_000_000

// fixture is a ledger over a mem store with a clock that the test moves.
type fixture struct {
	*Ledger
	t     *testing.T
	store *kvtest.Memory
	at    int64
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, store: kvtest.NewMemory(), at: start}
	if err := Create(t.Context(), f.store, Generation{1}); err != nil {
		t.Fatal(err)
	}
	f.open()
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	l, err := Open(f.t.Context(), f.store, Options{Now: func() time.Time { return time.Unix(f.at, 0) }})
	if err != nil {
		f.t.Fatal(err)
	}
	f.Ledger = l
}

// op is a VTXO's outpoint by a number.
func op(n byte) wire.OutPoint { return wire.OutPoint{Hash: chainhash.Hash{n, 0xaa}, Index: uint32(n)} }

// record is a delegate by a number over the VTXOs given.
func record(n byte, vtxos ...byte) *delegate.Record {
	r := &delegate.Record{
		Kind: delegate.Stock, State: delegate.Armed, Network: ark.Regtest, Dust: 330, ProofTxid: chainhash.Hash{n},
		Owners: []bip340.XOnly{{7}}, Message: "message", Proof: []byte("proof"),
		Outputs: []wire.TxOut{{Value: 1000, PkScript: []byte("script")}}, NextAttempt: start + 100, ValidAt: start + 90, CreatedAt: start,
	}
	r.ID = delegate.StockID(r.ProofTxid)
	for _, v := range vtxos {
		r.Inputs = append(r.Inputs, delegate.Input{
			Outpoint: op(v), Amount: 1000, Script: []byte("script"), TapTree: []byte("tree"),
			CreatedAt: start - 1000, ExpiresAt: start + 1000 + int64(v), Forfeit: []byte("forfeit"),
		})
	}
	return r
}

func (f *fixture) submit(r *delegate.Record) *delegate.Record {
	f.t.Helper()
	receipt, err := f.Submit(f.t.Context(), Submission{Record: r})
	if err != nil {
		f.t.Fatal(err)
	}
	return receipt.Record
}

// drive takes a record through events.
func (f *fixture) drive(r *delegate.Record, events ...delegate.Event) *delegate.Record {
	f.t.Helper()
	for _, e := range events {
		c := Change{Prev: r, Event: e}
		if e == delegate.Submit {
			c.Branch = branch(r, 0xc0)
		}
		next, err := f.apply(f.t.Context(), c)
		if err != nil {
			f.t.Fatalf("%s in %s: %v", e, r.State, err)
		}
		r = next
	}
	return r
}

func branch(r *delegate.Record, n byte) *delegate.Branch {
	return &delegate.Branch{
		Delegate: r.ID, Commitment: chainhash.Hash{n}, Tx: []byte("tx"), Nodes: [][]byte{[]byte("node")},
		Leaves: []wire.OutPoint{op(n)}, StoredAt: start,
	}
}

func (f *fixture) reload(r *delegate.Record) *delegate.Record {
	f.t.Helper()
	got, err := f.Delegate(f.t.Context(), r.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	return got
}

func (f *fixture) wantState(r *delegate.Record, want delegate.State) *delegate.Record {
	f.t.Helper()
	got := f.reload(r)
	if got.State != want {
		f.t.Fatalf("delegate is %s, want %s", got.State, want)
	}
	return got
}

// rows counts a tree.
func (f *fixture) rows(tree string) int {
	f.t.Helper()
	n := 0
	err := f.store.View(f.t.Context(), func(r kv.Reader) error {
		return r.Scan(tree, nil, nil, func([]byte, []byte) error { n++; return nil })
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// put overwrites a row behind the ledger's back, as if the ledger had written it.
func (f *fixture) put(tree string, key, value []byte) {
	f.t.Helper()
	if err := f.store.Update(f.t.Context(), func(w kv.Writer) error { return w.Put(tree, key, seal(tree, key, value)) }); err != nil {
		f.t.Fatal(err)
	}
}

func TestSettleIsOneWrite(t *testing.T) {
	f := newFixture(t)
	r := f.submit(record(1, 1, 2))
	r = f.drive(r, delegate.Ripe, delegate.Register, delegate.Accepted, delegate.Join, delegate.Submit, delegate.Finalized)
	if f.rows(treeFlight) != 1 || f.rows(treeBranches) != 1 {
		t.Fatal("in-flight row or branch missing before settling")
	}
	r, err := f.Settle(t.Context(), r, []VTXO{{Outpoint: op(0xc0), Amount: 2000, Script: []byte("script")}}, "tree-secret.x")
	if err != nil {
		t.Fatal(err)
	}
	if r.State != delegate.Settled || len(r.Proof) != 0 || len(r.Inputs[0].Forfeit) != 0 {
		t.Fatalf("settled record: %+v", r)
	}
	if f.rows(treeFlight) != 0 || f.rows(treeDue) != 0 || f.rows(treeExpiries) != 0 || f.rows(treeHistory) != 1 || f.rows(treeSecretGC) != 1 {
		t.Fatal("indexes not in step after settling")
	}
	old, err := f.VTXO(t.Context(), op(1))
	if err != nil || old.Fate != Spent || old.SpentBy != r.Commitment.String() || old.Cover != (vigil.DelegateID{}) {
		t.Fatalf("old VTXO: %+v, %v", old, err)
	}
	leaf, err := f.VTXO(t.Context(), op(0xc0))
	if err != nil || leaf.Origin != r.ID || leaf.Fate != Unspent {
		t.Fatalf("new VTXO: %+v, %v", leaf, err)
	}
	if _, err := f.Branch(t.Context(), r.ID, r.Commitment); err != nil {
		t.Fatalf("the branch is the owner's exit data: %v", err)
	}
}

func TestCompareAndSwap(t *testing.T) {
	f := newFixture(t)
	r := f.submit(record(1, 1))
	f.drive(r, delegate.Ripe)
	if _, err := f.Transition(t.Context(), r, delegate.Ripe, nil); !errors.Is(err, ErrConflict) {
		t.Fatalf("a stale record was written: %v", err)
	}
}

func TestFailedCommitChangesNothing(t *testing.T) {
	f := newFixture(t)
	r := f.submit(record(1, 1))
	f.store.Fail(kv.ErrUnavailable)
	if _, err := f.Transition(t.Context(), r, delegate.Ripe, nil); !errors.Is(err, kv.ErrUnavailable) {
		t.Fatal(err)
	}
	f.store.Fail(nil)
	f.wantState(r, delegate.Armed)
}
