// Package secrettest owns the conformance suite of secret.Store, which every
// implementation passes, and an implementation in memory for the tests of
// others. It knows nothing of any particular store.
package secrettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vigil-ark/vigil/secret"
)

// Open makes one empty place for secrets, private to the test, and returns the
// function that opens a store over it. The suite closes a store before it
// opens the place again.
type Open func(t *testing.T) func() (secret.Store, error)

// Run holds an implementation to the port.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		test func(*testing.T, func() (secret.Store, error))
	}{
		{"PutGetDelete", testPutGetDelete},
		{"Replace", testReplace},
		{"NamesApart", testNamesApart},
		{"List", testList},
		{"Limits", testLimits},
		{"Burned", testBurned},
		{"Context", testContext},
		{"Close", testClose},
		{"Reopen", testReopen},
		{"Concurrent", testConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func must(t *testing.T, open func() (secret.Store, error)) secret.Store {
	t.Helper()
	s, err := open()
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t *testing.T, s secret.Store, name, value string) {
	t.Helper()
	v := secret.New([]byte(value))
	defer v.Burn()
	if err := s.Put(t.Context(), name, v); err != nil {
		t.Fatalf("Put(%s): %v", name, err)
	}
}

// want checks that name holds value; an absent name is asked for with "-".
func want(t *testing.T, s secret.Store, name, value string) {
	t.Helper()
	got, err := s.Get(t.Context(), name)
	if value == "-" {
		if !errors.Is(err, secret.ErrNotFound) {
			t.Errorf("Get(%s): %v, want ErrNotFound", name, err)
		}
		return
	}
	if err != nil {
		t.Errorf("Get(%s): %v", name, err)
		return
	}
	defer got.Burn()
	if !same(got, []byte(value)) {
		t.Errorf("Get(%s) returned another value", name)
	}
}

func same(s secret.Bytes, value []byte) bool {
	equal := false
	err := s.Use(func(b []byte) error {
		equal = bytes.Equal(b, value)
		return nil
	})
	return err == nil && equal
}

func testPutGetDelete(t *testing.T, open func() (secret.Store, error)) {
	s := must(t, open)
	want(t, s, "a", "-")
	put(t, s, "a", "alpha")
	want(t, s, "a", "alpha")
	for range 2 { // a name that is not there is no error
		if err := s.Delete(t.Context(), "a"); err != nil {
			t.Fatalf("Delete: %v", err)
		}
		want(t, s, "a", "-")
	}
	put(t, s, "a", "again")
	want(t, s, "a", "again")
	put(t, s, "empty", "")
	want(t, s, "empty", "")
}

func testReplace(t *testing.T, open func() (secret.Store, error)) {
	s := must(t, open)
	put(t, s, "a", "first")
	held, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"second", "a much longer third value", "4"} {
		put(t, s, "a", v)
		want(t, s, "a", v)
	}
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if !same(held, []byte("first")) {
		t.Error("a secret that was handed out changed with the store")
	}
}

func testNamesApart(t *testing.T, open func() (secret.Store, error)) {
	s := must(t, open)
	names := []string{"a", "A", "a.", "a.b", "aa", "a'b\"%_", "tree-secret.00ff"}
	for _, n := range names {
		put(t, s, n, "value of "+n)
	}
	for _, n := range names {
		want(t, s, n, "value of "+n)
	}
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	want(t, s, "A", "value of A")
	want(t, s, "a.", "value of a.")
}

func testList(t *testing.T, open func() (secret.Store, error)) {
	s := must(t, open)
	list := func(prefix string, expect ...string) {
		t.Helper()
		got, err := s.List(t.Context(), prefix)
		if err != nil || !slices.Equal(got, expect) {
			t.Errorf("List(%q) = %q, %v; want %q", prefix, got, err, expect)
		}
	}
	list("")
	for _, n := range []string{"b.2", "a.1", "b.10", "b", "B.1", "c~", "c~~", "b%", "b_", "b/"} {
		put(t, s, n, "x")
	}
	list("", "B.1", "a.1", "b", "b%", "b.10", "b.2", "b/", "b_", "c~", "c~~")
	list("b.", "b.10", "b.2")
	list("b%", "b%")
	list("b_", "b_")
	list("c~", "c~", "c~~")
	list("c~~", "c~~")
	list("nothing")
	list("no such\xff")
	list("b.10", "b.10")
}

func testLimits(t *testing.T, open func() (secret.Store, error)) {
	s := must(t, open)
	long := strings.Repeat("n", secret.MaxName)
	put(t, s, long, "x")
	want(t, s, long, "x")
	value := secret.New(bytes.Repeat([]byte{7}, secret.MaxValue))
	if err := s.Put(t.Context(), "big", value); err != nil {
		t.Errorf("Put of the biggest value: %v", err)
	}
	got, err := s.Get(t.Context(), "big")
	if err != nil || !same(got, bytes.Repeat([]byte{7}, secret.MaxValue)) {
		t.Errorf("Get of the biggest value: %v", err)
	}
	tooBig := secret.New(make([]byte, secret.MaxValue+1))
	if err := s.Put(t.Context(), "big", tooBig); !errors.Is(err, secret.ErrTooBig) {
		t.Errorf("Put beyond the limit: %v", err)
	}
	for _, n := range []string{"", long + "n", "a b", "a\n", "a\x00", "\x7f", "ß"} {
		if err := s.Put(t.Context(), n, secret.New([]byte("x"))); !errors.Is(err, secret.ErrName) {
			t.Errorf("Put(%q): %v", n, err)
		}
		if _, err := s.Get(t.Context(), n); !errors.Is(err, secret.ErrName) {
			t.Errorf("Get(%q): %v", n, err)
		}
		if err := s.Delete(t.Context(), n); !errors.Is(err, secret.ErrName) {
			t.Errorf("Delete(%q): %v", n, err)
		}
	}
}

func testBurned(t *testing.T, open func() (secret.Store, error)) {
	s := must(t, open)
	put(t, s, "a", "kept")
	v := secret.New([]byte("burned"))
	v.Burn()
	if err := s.Put(t.Context(), "a", v); !errors.Is(err, secret.ErrBurned) {
		t.Errorf("Put of a burned secret: %v", err)
	}
	want(t, s, "a", "kept")
	// What Get returned is the caller's own: burning it leaves the store alone.
	got, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	got.Burn()
	want(t, s, "a", "kept")
}

func testContext(t *testing.T, open func() (secret.Store, error)) {
	s := must(t, open)
	put(t, s, "a", "kept")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check := func(what string, err error) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v", what, err)
		}
	}
	_, err := s.Get(ctx, "a")
	check("Get", err)
	_, err = s.List(ctx, "")
	check("List", err)
	check("Put", s.Put(ctx, "a", secret.New([]byte("x"))))
	check("Delete", s.Delete(ctx, "a"))
	want(t, s, "a", "kept")
}

func testClose(t *testing.T, open func() (secret.Store, error)) {
	s := must(t, open)
	put(t, s, "a", "alpha")
	held, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	check := func(what string, err error) {
		if !errors.Is(err, secret.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	_, err = s.Get(t.Context(), "a")
	check("Get", err)
	_, err = s.List(t.Context(), "")
	check("List", err)
	check("Put", s.Put(t.Context(), "a", secret.New([]byte("x"))))
	check("Delete", s.Delete(t.Context(), "a"))
	if !same(held, []byte("alpha")) {
		t.Error("a secret that was handed out did not survive Close")
	}
}

func testReopen(t *testing.T, open func() (secret.Store, error)) {
	for i := range 4 {
		s := must(t, open)
		for j := range i {
			want(t, s, fmt.Sprint("n", j), fmt.Sprint("value ", j))
		}
		put(t, s, fmt.Sprint("n", i), fmt.Sprint("value ", i))
		put(t, s, "gone", "x")
		if err := s.Delete(t.Context(), "gone"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	want(t, must(t, open), "gone", "-")
}

func testConcurrent(t *testing.T, open func() (secret.Store, error)) {
	s := must(t, open)
	const writers, rounds = 16, 8
	var wg sync.WaitGroup
	for n := range writers {
		wg.Go(func() {
			for i := range rounds {
				name := fmt.Sprintf("w%02d.%d", n, i)
				put(t, s, name, "value of "+name)
				want(t, s, name, "value of "+name)
				if i%2 == 0 {
					if err := s.Delete(t.Context(), name); err != nil {
						t.Errorf("Delete: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = must(t, open)
	names, err := s.List(t.Context(), "w")
	if err != nil || len(names) != writers*rounds/2 || !slices.IsSorted(names) {
		t.Errorf("List: %d names, %v; want %d", len(names), err, writers*rounds/2)
	}
	for _, n := range names {
		want(t, s, n, "value of "+n)
	}
}
