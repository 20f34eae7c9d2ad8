package ledger

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// TestCommitmentIsStoredOnce: the delegates of a batch share its commitment, which
// goes with the last of their branches.
func TestCommitmentIsStoredOnce(t *testing.T) {
	f := newFixture(t)
	tx := bytes.Repeat([]byte{7}, 100_000) // more than a row of another tree may have
	const n = 4
	recs := make([]*delegate.Record, n)
	for i := range byte(n) {
		r := f.drive(f.submit(record(i+1, i+1)), inFlight[delegate.Joining]...)
		b := branch(r, 5)
		b.Tx = tx
		var err error
		if recs[i], err = f.Submitted(t.Context(), r, b, nil); err != nil {
			t.Fatal(err)
		}
	}
	size := func(tree string) (total int) {
		if err := f.store.View(t.Context(), func(r kv.Reader) error {
			return r.Scan(tree, nil, nil, func(_, value []byte) error { total += len(value); return nil })
		}); err != nil {
			t.Fatal(err)
		}
		return total
	}
	if f.rows(treeBranches) != n || f.rows(treeCommitments) != 1 || f.rows(treeCommitmentRefs) != n || size(treeBranches) > len(tx)/10 {
		t.Fatalf("%d branches of %d bytes, %d commitments", f.rows(treeBranches), size(treeBranches), f.rows(treeCommitments))
	}
	for i, r := range recs {
		b, err := f.Branch(t.Context(), r.ID, chainhash.Hash{5})
		if err != nil || !bytes.Equal(b.Tx, tx) || len(b.Nodes) != 1 {
			t.Fatalf("%v, %v", b, err)
		}
		r = f.drive(r, delegate.NotFinalized)
		out, err := f.Apply(t.Context(), Change{Prev: r, Event: delegate.Note, Dead: []chainhash.Hash{{5}}})
		if err != nil || out[0].Err != nil {
			t.Fatal(err, out)
		}
		if left := n - 1 - i; f.rows(treeBranches) != left || f.rows(treeCommitmentRefs) != left || f.rows(treeCommitments) != min(left, 1) {
			t.Fatalf("with %d left: %d branches, %d references, %d commitments", left, f.rows(treeBranches), f.rows(treeCommitmentRefs), f.rows(treeCommitments))
		}
	}
}

// TestBranchOfBefore: rows that hold their commitment themselves are read and
// deleted as they are.
func TestBranchOfBefore(t *testing.T) {
	f := newFixture(t)
	r := f.drive(f.submit(record(1, 1)), inFlight[delegate.Submitted]...)
	old := branch(r, 6)
	old.Tx = []byte("inside")
	raw, err := old.Encode()
	if err != nil {
		t.Fatal(err)
	}
	f.put(treeBranches, branchKey(r.ID, old.Commitment), raw)
	got, err := f.Branch(t.Context(), r.ID, old.Commitment)
	if err != nil || string(got.Tx) != "inside" {
		t.Fatalf("%v, %v", got, err)
	}
	f.drive(r, delegate.Finalized, delegate.Confirmed) // drops those that did not count
	if _, err := f.Branch(t.Context(), r.ID, old.Commitment); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if got, err = f.Branch(t.Context(), r.ID, r.Commitment); err != nil || string(got.Tx) != "tx" {
		t.Fatalf("%v, %v", got, err)
	}
}

// TestDamagedCommitment: the branch is there without it, and the next delegate of
// the batch stores it anew.
func TestDamagedCommitment(t *testing.T) {
	f := newFixture(t)
	r := f.drive(f.submit(record(1, 1)), inFlight[delegate.Joining]...)
	r, err := f.Submitted(t.Context(), r, branch(r, 5), nil)
	if err != nil {
		t.Fatal(err)
	}
	txid := chainhash.Hash{5}
	f.flip(treeCommitments, txid[:], false)
	if b, err := f.Branch(t.Context(), r.ID, txid); err != nil || b.Tx != nil || len(b.Nodes) != 1 {
		t.Fatalf("%v, %v", b, err)
	}
	f.wantMarks(treeCommitments + "/" + string(txid[:]))
	other := f.drive(f.submit(record(2, 2)), inFlight[delegate.Joining]...)
	if _, err := f.Submitted(t.Context(), other, branch(other, 5), nil); err != nil {
		t.Fatal(err)
	}
	if b, err := f.Branch(t.Context(), r.ID, txid); err != nil || string(b.Tx) != "tx" {
		t.Fatalf("%v, %v", b, err)
	}
}

// TestStrayCommitments: fsck is told of what nothing refers to, and of references to
// nothing.
func TestStrayCommitments(t *testing.T) {
	f := newFixture(t)
	r := f.drive(f.submit(record(1, 1)), inFlight[delegate.Submitted]...)
	key := branchKey(r.ID, r.Commitment)
	strays := func() (rows []string) {
		if err := Inspect(t.Context(), f.store, func(s *Snapshot) error {
			return s.StrayRows(func(row string) error { rows = append(rows, row); return nil })
		}); err != nil {
			t.Fatal(err)
		}
		return rows
	}
	if got := strays(); len(got) != 0 {
		t.Fatalf("%v", got)
	}
	tx, err := encodeCommitment([]byte("tx"))
	if err != nil {
		t.Fatal(err)
	}
	stranger := chainhash.Hash{0xee}
	f.put(treeCommitments, stranger[:], tx)
	f.put(treeCommitmentRefs, append(bytes.Clone(r.Commitment[:]), make([]byte, idSize)...), nil)
	if got := strays(); len(got) != 2 || !slices.ContainsFunc(got, func(s string) bool { return s[:len(treeCommitments)+1] == treeCommitments+" " }) {
		t.Fatalf("%v", got)
	}
	if err := f.store.Update(t.Context(), func(w kv.Writer) error { return w.Delete(treeCommitments, key[idSize:]) }); err != nil {
		t.Fatal(err)
	}
	if got := strays(); len(got) != 3 {
		t.Fatalf("%v", got)
	}
}

// TestRepairedReferences: a repair makes the references that branches ask for, and
// deletes those that none does.
func TestRepairedReferences(t *testing.T) {
	f := newFixture(t)
	r := f.drive(f.submit(record(1, 1)), inFlight[delegate.Submitted]...)
	key := refKey(branchKey(r.ID, r.Commitment))
	f.put(treeCommitmentRefs, append(bytes.Clone(r.Commitment[:]), make([]byte, idSize)...), nil)
	if err := f.store.Update(t.Context(), func(w kv.Writer) error { return w.Delete(treeCommitmentRefs, key) }); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.rows(treeCommitmentRefs) != 1 {
		t.Fatalf("%d references", f.rows(treeCommitmentRefs))
	}
	if err := f.store.View(t.Context(), func(r kv.Reader) error {
		_, err := r.Get(treeCommitmentRefs, key)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
