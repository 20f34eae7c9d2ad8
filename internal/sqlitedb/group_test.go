package sqlitedb

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// TestFirstOfAGroupFails: it has no savepoint, and what it wrote is undone all the
// same, before those who share its commit write.
func TestFirstOfAGroupFails(t *testing.T) {
	db := create1(t, t.TempDir()+"/db", testOptions())
	refused := errors.New("refused")
	for _, panics := range []bool{false, true} {
		leading := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() {
				if p := recover(); (p != nil) != panics {
					t.Errorf("panicked with %v", p)
				}
			}()
			err := db.Update(t.Context(), func(tx *Tx) error {
				if err := put(tx, "first", "x"); err != nil {
					return err
				}
				close(leading)
				for waits := 0; waits == 0; runtime.Gosched() {
					db.queue.mu.Lock()
					waits = len(db.queue.list)
					db.queue.mu.Unlock()
				}
				if panics {
					panic(refused)
				}
				return refused
			})
			if !errors.Is(err, refused) {
				t.Errorf("the first: %v", err)
			}
		})
		<-leading
		second := fmt.Sprint("second ", panics)
		if err := db.Update(t.Context(), func(tx *Tx) error { return put(tx, second, "y") }); err != nil {
			t.Errorf("the second: %v", err)
		}
		wg.Wait()
		if got := get(t, db, "first"); got != "-" {
			t.Errorf("what failed is there: %q", got)
		}
		if got := get(t, db, second); got != "y" {
			t.Errorf("what succeeded is not: %q", got)
		}
	}
}

// TestUpdateBeyondMemory rewrites in one update more than the memory that SQLite
// may have, as a migration does.
func TestUpdateBeyondMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes half a gigabyte")
	}
	db := create1(t, t.TempDir()+"/db", testOptions())
	value := string(make([]byte, 4<<20))
	const rows = 72
	for i := range rows {
		if err := db.Update(t.Context(), func(tx *Tx) error { return put(tx, fmt.Sprint(i), value) }); err != nil {
			t.Fatal(err)
		}
	}
	err := db.Update(t.Context(), func(tx *Tx) error {
		for i := range rows {
			if err := put(tx, fmt.Sprint(i), value+"."); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, db, "7"); len(got) != len(value)+1 {
		t.Errorf("%d bytes", len(got))
	}
}
