package kvtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/vigil-ark/vigil/kv"
)

func testRollbackOnError(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	put(t, s, "a", "k", "old")
	put(t, s, "b", "k", "old")
	own := errors.New("own error")
	err := s.Update(t.Context(), func(w kv.Writer) error {
		for _, f := range []func() error{
			func() error { return w.Put("a", []byte("k"), []byte("new")) },
			func() error { return w.Put("new tree", []byte("k"), []byte("new")) },
			func() error { return w.Delete("b", []byte("k")) },
		} {
			if err := f(); err != nil {
				t.Error(err)
			}
		}
		return own
	})
	if err != own {
		t.Errorf("Update returned %v, want the callback's own error", err)
	}
	want(t, s, "a", "k", "old")
	want(t, s, "b", "k", "old")
	want(t, s, "new tree", "k", "-")
	put(t, s, "new tree", "k", "later")
	want(t, s, "new tree", "k", "later")
}

func testRollbackOnPanic(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	func() {
		defer func() {
			if r := recover(); r == nil {
				t.Error("the callback's panic did not reach the caller")
			}
		}()
		_ = s.Update(t.Context(), func(w kv.Writer) error {
			if err := w.Put("t", []byte("k"), []byte("v")); err != nil {
				t.Error(err)
			}
			panic("own panic")
		})
	}()
	func() {
		defer func() { _ = recover() }()
		_ = s.View(t.Context(), func(kv.Reader) error { panic("own panic") })
	}()
	want(t, s, "t", "k", "-")
	put(t, s, "t", "k", "v")
	want(t, s, "t", "k", "v")
}

func testReadYourWrites(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	update(t, s, func(w kv.Writer) error {
		for i := range 50 {
			v := fmt.Sprint(i)
			if err := w.Put("t", []byte("k"), []byte(v)); err != nil {
				return err
			}
			if err := expect(w, "t", "k", v); err != nil {
				return err
			}
		}
		if err := w.Delete("t", []byte("k")); err != nil {
			return err
		}
		return expect(w, "t", "k", "-")
	})
}

// testSnapshot reads, lets an update commit beside it, and reads again.
func testSnapshot(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	put(t, s, "t", "a", "va")
	view(t, s, func(r kv.Reader) error {
		put(t, s, "t", "a", "changed")
		put(t, s, "t", "b", "vb")
		if err := expect(r, "t", "a", "va"); err != nil {
			return err
		}
		got, err := keys(r, "t", nil, nil)
		if !slices.Equal(got, []string{"a"}) {
			t.Errorf("the snapshot shows %q", got)
		}
		// A View that begins now sees what was acknowledged.
		want(t, s, "t", "b", "vb")
		return err
	})
	want(t, s, "t", "a", "changed")
}

// testContextInside ends the context while the callbacks run.
func testContextInside(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Update(ctx, func(w kv.Writer) error {
		if err := w.Put("t", []byte("k"), nil); err != nil {
			return err
		}
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update whose context ended inside: %v", err)
	}
	want(t, s, "t", "k", "-")

	for i := range 10 {
		put(t, s, "t", fmt.Sprint(i), "v")
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	err = s.View(ctx, func(r kv.Reader) error {
		return r.Scan("t", nil, nil, func(_, _ []byte) error {
			seen++
			cancel()
			return nil
		})
	})
	if !errors.Is(err, context.Canceled) || seen != 1 {
		t.Errorf("Scan whose context ended inside: %v after %d entries", err, seen)
	}
	want(t, s, "t", "0", "v")

	// A context that ends while the update waits for its turn.
	running, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- s.Update(t.Context(), func(kv.Writer) error {
			close(running)
			<-release
			return nil
		})
	}()
	<-running
	ctx, cancel = context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() {
		second <- s.Update(ctx, func(w kv.Writer) error { return w.Put("t", []byte("late"), nil) })
	}()
	cancel()
	close(release)
	if err := <-first; err != nil {
		t.Errorf("the running update: %v", err)
	}
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("the waiting update: %v", err)
	}
	want(t, s, "t", "late", "-")
}

// testConcurrentCounters has many writers read, add and write: one lost
// update makes the sum wrong.
func testConcurrentCounters(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	const writers, rounds = 16, 12
	var wg sync.WaitGroup
	for n := range writers {
		wg.Go(func() {
			for range rounds {
				err := s.Update(t.Context(), func(w kv.Writer) error {
					for _, k := range []string{"all", fmt.Sprint("own", n)} {
						if err := add(w, k); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = must(t, open)
	view(t, s, func(r kv.Reader) error {
		for n := range writers {
			if c := count(t, r, fmt.Sprint("own", n)); c != rounds {
				t.Errorf("counter of writer %d: %d, want %d", n, c, rounds)
			}
		}
		if c := count(t, r, "all"); c != writers*rounds {
			t.Errorf("counter of all: %d, want %d", c, writers*rounds)
		}
		return nil
	})
}

// add increments a counter in tree "n".
func add(w kv.Writer, key string) error {
	b, err := w.Get("n", []byte(key))
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	var n uint64
	if err == nil {
		n = binary.BigEndian.Uint64(b)
	}
	return w.Put("n", []byte(key), binary.BigEndian.AppendUint64(nil, n+1))
}

func count(t *testing.T, r kv.Reader, key string) uint64 {
	b, err := r.Get("n", []byte(key))
	if errors.Is(err, kv.ErrNotFound) {
		return 0
	}
	if err != nil {
		t.Errorf("Get(%s): %v", key, err)
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// testConcurrentErrors lets every third of many concurrent updates fail: its
// writes, and only its, are undone, although they may share a commit.
func testConcurrentErrors(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	const writers, rounds = 16, 12
	own := errors.New("own error")
	var wg sync.WaitGroup
	for n := range writers {
		wg.Go(func() {
			for i := range rounds {
				bad := (n+i)%3 == 0
				err := s.Update(t.Context(), func(w kv.Writer) error {
					if err := w.Put("t", fmt.Appendf(nil, "%d/%d", n, i), nil); err != nil {
						return err
					}
					if err := add(w, "all"); err != nil {
						return err
					}
					if bad {
						return own
					}
					return nil
				})
				if bad && err != own || !bad && err != nil {
					t.Errorf("Update (fails: %v): %v", bad, err)
				}
			}
		})
	}
	wg.Wait()
	view(t, s, func(r kv.Reader) error {
		kept := uint64(0)
		for n := range writers {
			for i := range rounds {
				state := "-"
				if (n+i)%3 != 0 {
					state = ""
					kept++
				}
				if err := expect(r, "t", fmt.Sprintf("%d/%d", n, i), state); err != nil {
					t.Error(err)
				}
			}
		}
		if c := count(t, r, "all"); c != kept {
			t.Errorf("counter: %d, want %d", c, kept)
		}
		return nil
	})
}

// testConcurrentReaders moves an amount between two keys while readers check
// that the sum never changes.
func testConcurrentReaders(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	set := func(a, b uint64) func(kv.Writer) error {
		return func(w kv.Writer) error {
			if err := w.Put("n", []byte("a"), binary.BigEndian.AppendUint64(nil, a)); err != nil {
				return err
			}
			return w.Put("n", []byte("b"), binary.BigEndian.AppendUint64(nil, b))
		}
	}
	update(t, s, set(1000, 0))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := s.View(t.Context(), func(r kv.Reader) error {
					if a, b := count(t, r, "a"), count(t, r, "b"); a+b != 1000 {
						t.Errorf("a View saw %d + %d", a, b)
					}
					return nil
				})
				if err != nil {
					t.Errorf("View: %v", err)
					return
				}
			}
		})
	}
	for i := range uint64(100) {
		update(t, s, set(1000-i, i))
	}
	close(stop)
	wg.Wait()
}

// testModel runs random updates against the store and against a map, with
// reopenings, and compares the whole after each.
func testModel(t *testing.T, open func() (kv.Store, error)) {
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		s := must(t, open)
		model := map[string]string{}
		view(t, s, func(r kv.Reader) error {
			return r.Scan("t", nil, nil, func(k, v []byte) error {
				model[string(k)] = string(v)
				return nil
			})
		})
		for range 40 {
			next := map[string]string{}
			for k, v := range model {
				next[k] = v
			}
			fail := rnd.IntN(4) == 0
			own := errors.New("own error")
			err := s.Update(t.Context(), func(w kv.Writer) error {
				for range rnd.IntN(8) {
					k := fmt.Sprint(rnd.IntN(30))
					if rnd.IntN(3) == 0 {
						delete(next, k)
						if err := w.Delete("t", []byte(k)); err != nil {
							return err
						}
						continue
					}
					next[k] = fmt.Sprint(rnd.Uint64())
					if err := w.Put("t", []byte(k), []byte(next[k])); err != nil {
						return err
					}
				}
				if fail {
					return own
				}
				return nil
			})
			if fail && err != own || !fail && err != nil {
				t.Fatalf("Update (fails: %v): %v", fail, err)
			}
			if !fail {
				model = next
			}
			compare(t, s, model)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func compare(t *testing.T, s kv.Store, model map[string]string) {
	t.Helper()
	view(t, s, func(r kv.Reader) error {
		got := map[string]string{}
		err := r.Scan("t", nil, nil, func(k, v []byte) error {
			got[string(k)] = string(v)
			return nil
		})
		if fmt.Sprint(got) != fmt.Sprint(model) {
			t.Fatalf("the store holds %v, want %v", got, model)
		}
		return err
	})
}
