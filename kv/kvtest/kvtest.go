// Package kvtest owns the conformance suite of kv.Store, which every
// implementation passes, and an implementation in memory for the tests of
// others. It knows nothing of any particular store.
package kvtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vigil-ark/vigil/kv"
)

// Open makes one empty place for data, private to the test, and returns the
// function that opens a store over it. The suite closes a store before it
// opens the place again.
type Open func(t *testing.T) func() (kv.Store, error)

// Run holds an implementation to the port.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		test func(*testing.T, func() (kv.Store, error))
	}{
		{"GetPutDelete", testGetPutDelete},
		{"TreesApart", testTreesApart},
		{"ScanOrder", testScanOrder},
		{"ScanBounds", testScanBounds},
		{"ScanNested", testScanNested},
		{"ScanStopAndError", testScanStopAndError},
		{"ScanSeesOwnWrites", testScanSeesOwnWrites},
		{"ScanForbidsWrites", testScanForbidsWrites},
		{"SlicesBelongToCaller", testSlicesBelongToCaller},
		{"Limits", testLimits},
		{"BigValues", testBigValues},
		{"RollbackOnError", testRollbackOnError},
		{"RollbackOnPanic", testRollbackOnPanic},
		{"ReadYourWrites", testReadYourWrites},
		{"Snapshot", testSnapshot},
		{"Context", testContext},
		{"ContextInside", testContextInside},
		{"AfterTheEnd", testAfterTheEnd},
		{"Close", testClose},
		{"Reopen", testReopen},
		{"ConcurrentCounters", testConcurrentCounters},
		{"ConcurrentErrors", testConcurrentErrors},
		{"ConcurrentReaders", testConcurrentReaders},
		{"Model", testModel},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// must opens a store and closes it at the end of the test.
func must(t *testing.T, open func() (kv.Store, error)) kv.Store {
	t.Helper()
	s, err := open()
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func update(t *testing.T, s kv.Store, f func(kv.Writer) error) {
	t.Helper()
	if err := s.Update(t.Context(), f); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

func view(t *testing.T, s kv.Store, f func(kv.Reader) error) {
	t.Helper()
	if err := s.View(t.Context(), f); err != nil {
		t.Fatalf("View: %v", err)
	}
}

// put stores one pair in an update of its own.
func put(t *testing.T, s kv.Store, tree, key, value string) {
	t.Helper()
	update(t, s, func(w kv.Writer) error { return w.Put(tree, []byte(key), []byte(value)) })
}

// want checks that key holds value; an absent key is asked for with "-".
func want(t *testing.T, s kv.Store, tree, key, value string) {
	t.Helper()
	view(t, s, func(r kv.Reader) error { return expect(r, tree, key, value) })
}

func expect(r kv.Reader, tree, key, value string) error {
	got, err := r.Get(tree, []byte(key))
	if value == "-" {
		if !errors.Is(err, kv.ErrNotFound) {
			return fmt.Errorf("Get(%s, %q) = %q, %v; want ErrNotFound", tree, key, got, err)
		}
		return nil
	}
	if err != nil || string(got) != value {
		return fmt.Errorf("Get(%s, %q) = %q, %v; want %q", tree, key, got, err, value)
	}
	return nil
}

// keys scans [from, to) and returns the keys seen, with their values checked
// to be "v" + key.
func keys(r kv.Reader, tree string, from, to []byte) ([]string, error) {
	var got []string
	err := r.Scan(tree, from, to, func(k, v []byte) error {
		if string(v) != "v"+string(k) {
			return fmt.Errorf("key %q has value %q", k, v)
		}
		got = append(got, string(k))
		return nil
	})
	return got, err
}

func testGetPutDelete(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	want(t, s, "a", "k", "-")
	put(t, s, "a", "k", "1")
	want(t, s, "a", "k", "1")
	put(t, s, "a", "k", "2")
	want(t, s, "a", "k", "2")
	put(t, s, "a", "k", "")
	view(t, s, func(r kv.Reader) error {
		v, err := r.Get("a", []byte("k"))
		if v == nil || len(v) != 0 {
			t.Errorf("empty value came back as %v (nil: %v)", v, v == nil)
		}
		return err
	})
	update(t, s, func(w kv.Writer) error { return w.Put("a", []byte("n"), nil) })
	want(t, s, "a", "n", "")
	put(t, s, "a", "", "empty key")
	want(t, s, "a", "", "empty key")
	for range 2 { // a key that is not there is no error
		update(t, s, func(w kv.Writer) error { return w.Delete("a", []byte("k")) })
		want(t, s, "a", "k", "-")
	}
	update(t, s, func(w kv.Writer) error { return w.Delete("never", []byte("k")) })
	update(t, s, func(kv.Writer) error { return nil })
}

func testTreesApart(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	names := []string{"a", "A", "a ", "ab", "a'b\"", "a\x00b", "delegate_sessions", "ß"}
	for i, n := range names {
		put(t, s, n, "k", fmt.Sprint(i))
	}
	for i, n := range names {
		want(t, s, n, "k", fmt.Sprint(i))
	}
	update(t, s, func(w kv.Writer) error { return w.Delete("a", []byte("k")) })
	want(t, s, "a", "k", "-")
	want(t, s, "A", "k", "1")
	view(t, s, func(r kv.Reader) error {
		return r.Scan("ab", nil, nil, func(k, v []byte) error {
			if string(v) != "3" {
				t.Errorf("scan of tree ab saw %q", v)
			}
			return nil
		})
	})
}

// ordered is a set of keys in bytewise order, with the cases that text
// comparison, signed bytes or C strings get wrong.
func ordered() []string {
	return []string{
		"", "\x00", "\x00\x00", "\x00\x01", "\x01", "A", "B", "a", "a\x00", "a\x00b",
		"aa", "b", "~", "\x7f", "\x80", "\xc3\x9f", "\xff", "\xff\x00", "\xff\xff",
	}
}

func testScanOrder(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	all := ordered()
	update(t, s, func(w kv.Writer) error {
		for i := range all { // not in order
			k := all[(i*7)%len(all)]
			if err := w.Put("t", []byte(k), []byte("v"+k)); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, s, func(r kv.Reader) error {
		got, err := keys(r, "t", nil, nil)
		if !slices.Equal(got, all) {
			t.Errorf("scan saw %q, want %q", got, all)
		}
		return err
	})
}

func testScanBounds(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	all := ordered()
	update(t, s, func(w kv.Writer) error {
		for _, k := range all {
			if err := w.Put("t", []byte(k), []byte("v"+k)); err != nil {
				return err
			}
		}
		return nil
	})
	bounds := append(slices.Clone(all), "\x00\x00\x00", "Aa", "c", "\xff\xff\xff")
	view(t, s, func(r kv.Reader) error {
		for _, from := range bounds {
			for _, to := range bounds {
				var expect []string
				for _, k := range all {
					if k >= from && k < to {
						expect = append(expect, k)
					}
				}
				got, err := keys(r, "t", []byte(from), []byte(to))
				if err != nil {
					return err
				}
				if !slices.Equal(got, expect) {
					t.Errorf("scan [%q, %q) saw %q, want %q", from, to, got, expect)
				}
			}
		}
		got, err := keys(r, "empty tree", nil, nil)
		if len(got) != 0 {
			t.Errorf("scan of an empty tree saw %q", got)
		}
		return err
	})
}

func testScanNested(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	for _, k := range []string{"1", "2", "3"} {
		put(t, s, "t", k, "v"+k)
	}
	nested := func(r kv.Reader) error {
		pairs := 0
		err := r.Scan("t", nil, nil, func(k, _ []byte) error {
			if err := expect(r, "t", "2", "v2"); err != nil {
				return err
			}
			return r.Scan("t", nil, nil, func(_, _ []byte) error {
				pairs++
				return expect(r, "t", string(k), "v"+string(k))
			})
		})
		if pairs != 9 {
			t.Errorf("a scan inside a scan of 3 keys saw %d pairs", pairs)
		}
		return err
	}
	view(t, s, nested)
	update(t, s, func(w kv.Writer) error { return nested(w) })
}

func testScanStopAndError(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	for _, k := range []string{"1", "2", "3"} {
		put(t, s, "t", k, "v"+k)
	}
	view(t, s, func(r kv.Reader) error {
		seen := 0
		err := r.Scan("t", nil, nil, func(_, _ []byte) error { seen++; return kv.ErrStop })
		if err != nil || seen != 1 {
			t.Errorf("ErrStop: %v after %d entries", err, seen)
		}
		own := errors.New("own error")
		if err := r.Scan("t", nil, nil, func(_, _ []byte) error { return own }); err != own {
			t.Errorf("the callback's error came back as %v", err)
		}
		got, err := keys(r, "t", nil, nil)
		if len(got) != 3 {
			t.Errorf("a scan after a stopped one saw %q", got)
		}
		return err
	})
}

func testScanSeesOwnWrites(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	put(t, s, "t", "b", "vb")
	put(t, s, "t", "c", "vc")
	update(t, s, func(w kv.Writer) error {
		if err := w.Put("t", []byte("a"), []byte("va")); err != nil {
			return err
		}
		if err := w.Delete("t", []byte("b")); err != nil {
			return err
		}
		got, err := keys(w, "t", nil, nil)
		if !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("scan inside an update saw %q", got)
		}
		return err
	})
}

func testScanForbidsWrites(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	put(t, s, "t", "a", "va")
	update(t, s, func(w kv.Writer) error {
		return w.Scan("t", nil, nil, func(k, _ []byte) error {
			if err := w.Put("t", k, nil); !errors.Is(err, kv.ErrScanning) {
				t.Errorf("Put inside Scan: %v", err)
			}
			if err := w.Delete("t", k); !errors.Is(err, kv.ErrScanning) {
				t.Errorf("Delete inside Scan: %v", err)
			}
			return nil
		})
	})
	want(t, s, "t", "a", "va")
}

func testSlicesBelongToCaller(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	key, value := []byte("k"), []byte("value")
	update(t, s, func(w kv.Writer) error {
		if err := w.Put("t", key, value); err != nil {
			return err
		}
		clear(key)
		clear(value)
		return expect(w, "t", "k", "value")
	})
	var kept [][]byte
	view(t, s, func(r kv.Reader) error {
		v, err := r.Get("t", []byte("k"))
		kept = append(kept, v)
		if err != nil {
			return err
		}
		return r.Scan("t", nil, nil, func(k, v []byte) error {
			kept = append(kept, k, v)
			return nil
		})
	})
	put(t, s, "t", "k", "other")
	want(t, s, "t", "k", "other")
	for i, w := range []string{"value", "k", "value"} {
		if string(kept[i]) != w {
			t.Errorf("a kept slice changed to %q", kept[i])
		}
		clear(kept[i])
	}
	want(t, s, "t", "k", "other")
}

func testLimits(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	longKey, longTree := make([]byte, kv.MaxKey), string(bytes.Repeat([]byte("t"), kv.MaxTree))
	update(t, s, func(w kv.Writer) error { return w.Put(longTree, longKey, []byte("v")) })
	view(t, s, func(r kv.Reader) error { return expect(r, longTree, string(longKey), "v") })
	big := func(err error, what string) {
		if !errors.Is(err, kv.ErrTooBig) {
			t.Errorf("%s: %v, want ErrTooBig", what, err)
		}
	}
	update(t, s, func(w kv.Writer) error {
		big(w.Put("", []byte("k"), nil), "Put without a tree")
		big(w.Put(longTree+"t", []byte("k"), nil), "Put to a long tree")
		big(w.Put("t", make([]byte, kv.MaxKey+1), nil), "Put of a long key")
		big(w.Put("t", []byte("k"), make([]byte, kv.MaxValue+1)), "Put of a long value")
		big(w.Delete("", []byte("k")), "Delete without a tree")
		_, err := w.Get("", []byte("k"))
		big(err, "Get without a tree")
		big(w.Scan("", nil, nil, func(_, _ []byte) error { return nil }), "Scan without a tree")
		return expect(w, "t", "k", "-")
	})
}

func testBigValues(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	sizes := []int{0, 1, 100, 1000, 4000, 4096, 5000, 64 << 10, 1 << 20}
	value := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i*131 + n + i>>8)
		}
		return b
	}
	for _, n := range sizes {
		update(t, s, func(w kv.Writer) error { return w.Put("t", fmt.Append(nil, n), value(n)) })
	}
	check := func(s kv.Store) {
		view(t, s, func(r kv.Reader) error {
			for _, n := range sizes {
				v, err := r.Get("t", fmt.Append(nil, n))
				if err != nil {
					return err
				}
				if !bytes.Equal(v, value(n)) {
					t.Errorf("a value of %d bytes came back with %d and others", n, len(v))
				}
			}
			return nil
		})
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(must(t, open))
}

func testReopen(t *testing.T, open func() (kv.Store, error)) {
	for i := range 4 {
		s := must(t, open)
		for j := range i {
			want(t, s, "t", fmt.Sprint(j), "x")
		}
		want(t, s, "t", fmt.Sprint(i), "-")
		put(t, s, "t", fmt.Sprint(i), "x")
		put(t, s, "gone", "k", "x")
		update(t, s, func(w kv.Writer) error { return w.Delete("gone", []byte("k")) })
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	want(t, must(t, open), "gone", "k", "-")
}

func testClose(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	put(t, s, "t", "k", "v")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	err := s.View(t.Context(), func(kv.Reader) error { return nil })
	if !errors.Is(err, kv.ErrClosed) {
		t.Errorf("View after Close: %v", err)
	}
	err = s.Update(t.Context(), func(kv.Writer) error { return nil })
	if !errors.Is(err, kv.ErrClosed) {
		t.Errorf("Update after Close: %v", err)
	}
}

func testAfterTheEnd(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	put(t, s, "t", "k", "v")
	var r kv.Reader
	view(t, s, func(kept kv.Reader) error { r = kept; return nil })
	if _, err := r.Get("t", []byte("k")); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("a Reader after its View: %v", err)
	}
	var w kv.Writer
	update(t, s, func(kept kv.Writer) error { w = kept; return nil })
	if err := w.Put("t", []byte("k"), nil); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("a Writer after its Update: %v", err)
	}
	want(t, s, "t", "k", "v")
}

func testContext(t *testing.T, open func() (kv.Store, error)) {
	s := must(t, open)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Update(ctx, func(w kv.Writer) error { return w.Put("t", []byte("k"), nil) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update with an ended context: %v", err)
	}
	err = s.View(ctx, func(kv.Reader) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("View with an ended context: %v", err)
	}
	want(t, s, "t", "k", "-")
}
