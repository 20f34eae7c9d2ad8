package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"iter"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/internal/canon"
)

func entry(seq uint64) Entry {
	return Entry{
		Seq: seq, At: 1_800_000_000 + int64(seq), Wallet: Name([32]byte{1}, vigil.WalletID{2}), Method: "Sign",
		Allow: seq%2 == 0, Code: "POLICY_PER_TX", Reason: "too much", Kinds: []string{"ark_tx", "intent"}, Amount: 5000, Epoch: 3,
		Signatures: 2, Signed: Digest([32]byte{1}, [][32]byte{{byte(seq)}, {9}}),
	}
}

// chain makes n rows.
func chain(t testing.TB, n int) (rows [][]byte, head [32]byte) {
	t.Helper()
	for i := range n {
		next, row, err := Append(head, entry(uint64(i)+1))
		if err != nil {
			t.Fatal(err)
		}
		rows, head = append(rows, row), next
	}
	return rows, head
}

func seq(rows [][]byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func TestChain(t *testing.T) {
	rows, head := chain(t, 20)
	got, n, err := Verify([32]byte{}, seq(rows))
	if err != nil || n != 20 || got != head {
		t.Errorf("%x, %d, %v", got, n, err)
	}
	for i, row := range rows {
		if _, e, err := Decode(row); err != nil || !reflect.DeepEqual(e, entry(uint64(i)+1)) {
			t.Errorf("%+v, %v", e, err)
		}
	}
	// What was pruned leaves its head behind.
	if got, n, err := Verify(Head(rows[4]), seq(rows[5:])); err != nil || n != 15 || got != head {
		t.Errorf("from the middle: %d, %v", n, err)
	}
	if got, n, err := Verify(head, seq(nil)); err != nil || n != 0 || got != head {
		t.Errorf("an empty chain: %d, %v", n, err)
	}
}

// TestTampering does everything that can be done to the rows of a store.
func TestTampering(t *testing.T) {
	for name, tamper := range map[string]func(rows [][]byte) [][]byte{
		"left out":   func(r [][]byte) [][]byte { return append(r[:3], r[4:]...) },
		"first gone": func(r [][]byte) [][]byte { return r[1:] },
		"swapped":    func(r [][]byte) [][]byte { r[3], r[4] = r[4], r[3]; return r },
		"twice":      func(r [][]byte) [][]byte { return append(r[:4], r[3:]...) },
		"put between": func(r [][]byte) [][]byte {
			_, row, _ := Append(Head(r[3]), entry(5))
			return append(append(append([][]byte{}, r[:4]...), row), r[4:]...)
		},
		"rewritten": func(r [][]byte) [][]byte {
			e := entry(4)
			e.Allow = !e.Allow
			_, row, _ := Append(Head(r[2]), e)
			r[3] = row
			return r
		},
		"cut":         func(r [][]byte) [][]byte { r[3] = r[3][:len(r[3])-1]; return r },
		"emptied":     func(r [][]byte) [][]byte { r[3] = nil; return r },
		"a number on": func(r [][]byte) [][]byte { _, row, _ := Append(Head(r[9]), entry(12)); return append(r, row) },
		"number zero": func(r [][]byte) [][]byte { _, row, _ := Append(Head(r[9]), entry(0)); return append(r, row) },
	} {
		rows, head := chain(t, 10)
		if got, _, err := Verify([32]byte{}, seq(tamper(rows))); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v, head kept: %v", name, err, got == head)
		}
	}
	// Every byte of a row counts: in it, or for those that follow.
	rows, head := chain(t, 3)
	for i := range rows[1] {
		broken := bytes.Clone(rows[1])
		broken[i] ^= 1
		if got, _, err := Verify([32]byte{}, seq([][]byte{rows[0], broken, rows[2]})); err == nil && got == head {
			t.Errorf("byte %d can change", i)
		}
	}
	// The end cannot be seen from the rows alone: the head that the store keeps tells.
	if got, _, err := Verify([32]byte{}, seq(rows[:2])); err != nil || got == head {
		t.Errorf("a chain cut at its end has the old head: %v", err)
	}
	// A whole chain that begins elsewhere than with entry 1.
	_, row, err := Append([32]byte{}, entry(2))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Verify([32]byte{}, seq([][]byte{row})); !errors.Is(err, ErrBroken) {
		t.Error(err)
	}
}

func TestVerifyHandsOnErrors(t *testing.T) {
	why := errors.New("disk")
	_, n, err := Verify([32]byte{}, func(yield func([]byte, error) bool) { yield(nil, why) })
	if !errors.Is(err, why) || errors.Is(err, ErrBroken) || n != 0 {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	salt, wallet := [32]byte{1}, vigil.WalletID{2}
	mac := hmac.New(sha256.New, salt[:])
	mac.Write(wallet[:])
	if got := Name(salt, wallet); !bytes.Equal(got[:], mac.Sum(nil)) {
		t.Errorf("%x", got)
	}
	if Name(salt, wallet) == Name([32]byte{3}, wallet) {
		t.Error("the salt does not matter")
	}
	seen := map[[32]byte]string{}
	for name, digest := range map[string][32]byte{
		"a name": Name(salt, wallet), "one": Digest(salt, [][32]byte{wallet}), "of another wallet": Digest([32]byte{3}, [][32]byte{wallet}),
		"none": Digest(salt, nil), "two": Digest(salt, [][32]byte{wallet, {4}}), "turned round": Digest(salt, [][32]byte{{4}, wallet}),
	} {
		if same, twice := seen[digest]; twice {
			t.Errorf("%s and %s have the same digest", name, same)
		}
		seen[digest] = name
	}
}

func TestBounds(t *testing.T) {
	for name, spoil := range map[string]func(e *Entry){
		"too many kinds":    func(e *Entry) { e.Kinds = make([]string, maxKinds+1) },
		"a long kind":       func(e *Entry) { e.Kinds[0] = strings.Repeat("x", maxKind+1) },
		"a long method":     func(e *Entry) { e.Method = strings.Repeat("x", maxText+1) },
		"a negative time":   func(e *Entry) { e.At = -1 },
		"a negative amount": func(e *Entry) { e.Amount = -1 },
		"more than all":     func(e *Entry) { e.Amount = math.MaxInt64 },
	} {
		e := entry(1)
		spoil(&e)
		if _, row, err := Append([32]byte{}, e); !errors.Is(err, canon.ErrBounds) || row != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	e := entry(1)
	e.Reason = strings.Repeat("ö", maxText)
	e.Method, e.Code = strings.Repeat("x", maxText), vigil.Code(strings.Repeat("x", maxText))
	e.Kinds = slices.Repeat([]string{strings.Repeat("x", maxKind)}, maxKinds)
	_, row, err := Append([32]byte{}, e)
	if err != nil || len(row) > MaxRow {
		t.Fatalf("%d bytes, %v", len(row), err)
	}
	_, got, err := Decode(row)
	if err != nil || len(got.Reason) > maxText || !utf8.ValidString(got.Reason) || len(got.Reason) < maxText-4 {
		t.Errorf("a reason of %d bytes, %v", len(got.Reason), err)
	}
}

func FuzzDecode(f *testing.F) {
	rows, _ := chain(f, 3)
	for _, r := range rows {
		f.Add(r)
	}
	f.Fuzz(func(t *testing.T, row []byte) {
		prev, e, err := Decode(row)
		if err != nil {
			return
		}
		if _, again, err := Append(prev, e); err != nil || !bytes.Equal(again, row) {
			t.Fatalf("%+v writes %x, %v", e, again, err)
		}
	})
}
