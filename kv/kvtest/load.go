package kvtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/vigil-ark/vigil/kv"
)

// Load is a workload of concurrent updates that remembers what was
// acknowledged, for tests that cut the power or let the disk fail. Each writer
// counts up; update n of a writer writes n into two trees, adds a row and
// deletes the row loadRows older, all or nothing.
type Load struct {
	writers []writer
}

// writer is what one writer knows.
type writer struct {
	acked   uint64 // the last update that was acknowledged
	tried   uint64 // the last update that was begun
	counted uint64 // up to where a Tally has counted
}

// loadRows is how many rows of each writer live at once.
const loadRows = 8

// Tally counts what Verify found.
type Tally struct {
	Acked   int // updates acknowledged
	Lost    int // acknowledged updates that are not there
	Corrupt int // writers whose state no prefix of their updates explains
}

// NewLoad returns a workload of n concurrent writers.
func NewLoad(n int) *Load { return &Load{writers: make([]writer, n)} }

// Run makes rounds updates per writer, concurrently. A writer whose update
// fails with kv.ErrUnavailable checks that the failed update is undone and goes
// on with what it finds, until alive says that the store is gone for good. Any
// other error is returned.
func (l *Load) Run(ctx context.Context, s kv.Store, rounds int, alive func() bool) error {
	errs := make([]error, len(l.writers))
	var wg sync.WaitGroup
	for i := range l.writers {
		wg.Go(func() {
			for range rounds {
				if !alive() {
					return
				}
				if errs[i] = l.one(ctx, s, i, alive); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (l *Load) one(ctx context.Context, s kv.Store, i int, alive func() bool) error {
	w := &l.writers[i]
	n := w.acked + 1
	w.tried = max(w.tried, n)
	err := s.Update(ctx, func(tx kv.Writer) error { return writeRound(tx, i, n) })
	if err == nil {
		w.acked = n
		return nil
	}
	if !errors.Is(err, kv.ErrUnavailable) {
		return fmt.Errorf("writer %d, update %d: %w", i, n, err)
	}
	var found uint64
	err = s.View(ctx, func(r kv.Reader) (err error) {
		found, err = readCounter(r, "load/a", i)
		return err
	})
	if err == nil && found != w.acked && alive() {
		return fmt.Errorf("writer %d: update %d failed and readers see %d, not %d", i, n, found, w.acked)
	}
	if err != nil && !errors.Is(err, kv.ErrUnavailable) {
		return fmt.Errorf("writer %d reads after a failed update: %w", i, err)
	}
	return nil
}

func writeRound(tx kv.Writer, i int, n uint64) error {
	last, err := readCounter(tx, "load/a", i)
	if err != nil {
		return err
	}
	if last != n-1 {
		return fmt.Errorf("update %d follows %d", n, last)
	}
	count := binary.BigEndian.AppendUint64(nil, n)
	steps := []func() error{
		func() error { return tx.Put("load/a", loadKey(i), count) },
		func() error { return tx.Put("load/row", rowKey(i, n), rowValue(i, n)) },
		func() error { return tx.Put("load/b", loadKey(i), count) },
	}
	if n > loadRows {
		steps = append(steps, func() error { return tx.Delete("load/row", rowKey(i, n-loadRows)) })
	}
	for _, f := range steps {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// Acked returns how many updates were acknowledged that no Verify has counted.
func (l *Load) Acked() (n int) {
	for _, w := range l.writers {
		n += int(w.acked - w.counted)
	}
	return n
}

// Verify compares a store that was opened after the crash with what the
// writers remember. A further Run goes on from what was found.
func (l *Load) Verify(ctx context.Context, s kv.Store) (Tally, error) {
	var t Tally
	for i := range l.writers {
		w := &l.writers[i]
		t.Acked += int(w.acked - w.counted)
		err := s.View(ctx, func(r kv.Reader) error {
			a, err := readCounter(r, "load/a", i)
			if err != nil {
				return err
			}
			b, err := readCounter(r, "load/b", i)
			if err != nil {
				return err
			}
			if a < w.acked {
				t.Lost += int(w.acked - a)
			}
			rows, err := rowsHold(r, i, a)
			if a != b || a > w.tried || !rows {
				t.Corrupt++
			}
			w.acked, w.counted = a, a
			return err
		})
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

// rowsHold says whether writer i's rows are exactly those after update n.
func rowsHold(r kv.Reader, i int, n uint64) (bool, error) {
	want := uint64(1)
	if n > loadRows {
		want = n - loadRows + 1
	}
	good := true
	err := r.Scan("load/row", rowKey(i, 0), rowKey(i+1, 0), func(k, v []byte) error {
		good = good && bytes.Equal(k, rowKey(i, want)) && bytes.Equal(v, rowValue(i, want))
		want++
		return nil
	})
	return good && want == n+1, err
}

func readCounter(r kv.Reader, tree string, i int) (uint64, error) {
	b, err := r.Get(tree, loadKey(i))
	if errors.Is(err, kv.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("counter of %d bytes", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

func loadKey(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }

func rowKey(i int, n uint64) []byte { return binary.BigEndian.AppendUint64(loadKey(i), n) }

// rowValue is recomputable, and of a length that sometimes needs pages of its
// own.
func rowValue(i int, n uint64) []byte {
	rnd := rand.New(rand.NewPCG(uint64(i), n))
	b := make([]byte, rnd.IntN(3000))
	if rnd.IntN(8) == 0 {
		b = make([]byte, 12000)
	}
	for j := range b {
		b[j] = byte(rnd.Uint32())
	}
	return b
}
