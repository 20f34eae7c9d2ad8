package ledger_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/kv/sqlite"
	"github.com/vigil-ark/vigil/ledger"
)

type storedRow struct {
	tree       string
	key, value []byte
}

// schema1 are the rows of testdata/schema1.rows.
func schema1(t *testing.T) []storedRow {
	t.Helper()
	file, err := os.ReadFile("testdata/schema1.rows")
	if err != nil {
		t.Fatal(err)
	}
	var rows []storedRow
	for line := range strings.Lines(string(file)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		key, errK := hex.DecodeString(fields[1])
		value, errV := hex.DecodeString(fields[2])
		if err := errors.Join(errK, errV); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, storedRow{fields[0], key, value})
	}
	return rows
}

func putRows(t *testing.T, store kv.Store, rows []storedRow) {
	t.Helper()
	err := store.Update(t.Context(), func(w kv.Writer) error {
		for _, r := range rows {
			if err := w.Put(r.tree, r.key, r.value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// readRows are all rows of a store as they are stored.
func readRows(t testing.TB, store kv.Store) []storedRow {
	t.Helper()
	var rows []storedRow
	err := store.View(t.Context(), func(r kv.Reader) error {
		rows = nil
		for _, tree := range ledger.Trees() {
			if err := r.Scan(tree, nil, nil, func(key, value []byte) error {
				rows = append(rows, storedRow{tree, key, value})
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func nocopy(context.Context, uint32) error { return nil }

// TestMigratesSchema1 brings a ledger on disk, as the version before checksums
// wrote it, to this schema: after a copy, in one write, without a change of what
// any row says.
func TestMigratesSchema1(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	store, err := sqlite.Create(ctx, filepath.Join(dir, "kv"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	old := schema1(t)
	putRows(t, store, old)
	before := readRows(t, store)
	unchanged := func() {
		t.Helper()
		if fmt.Sprint(readRows(t, store)) != fmt.Sprint(before) {
			t.Fatal("something was changed")
		}
	}
	if _, err := ledger.Open(ctx, store, ledger.Options{}); err == nil {
		t.Fatal("migrated without a copy")
	}
	unchanged()
	full := errors.New("disk full")
	if _, err := ledger.Open(ctx, store, ledger.Options{BeforeMigration: func(context.Context, uint32) error { return full }}); !errors.Is(err, full) {
		t.Fatal(err)
	}
	unchanged()
	l, err := ledger.Open(ctx, store, ledger.Options{BeforeMigration: func(ctx context.Context, from uint32) error {
		if from != 1 {
			t.Errorf("from schema %d", from)
		}
		unchanged()
		return store.Backup(ctx, filepath.Join(dir, "copy.db"))
	}})
	if err != nil {
		t.Fatal(err)
	}
	now := map[string][]byte{}
	for _, r := range readRows(t, store) {
		value, err := ledger.Unseal(r.tree, r.key, r.value)
		if err != nil {
			t.Errorf("%s %x: %v", r.tree, r.key, err)
		}
		now[r.tree+"/"+string(r.key)] = value
	}
	if len(now) != len(old)+1 || now["meta/layout"] == nil { // the schema number's witness
		t.Errorf("%d rows became %d", len(old), len(now))
	}
	for _, r := range old {
		switch r.tree + "/" + string(r.key) {
		case "meta/schema":
			continue
		}
		key := r.key
		if r.tree == "quarantine" {
			key = append([]byte("delegate_sessions\x00"), key...)
		}
		if got, ok := now[r.tree+"/"+string(key)]; !ok || !bytes.Equal(got, r.value) {
			t.Errorf("%s %x says %x, said %x", r.tree, r.key, got, r.value)
		}
	}
	marks, err := l.Unreadable(ctx)
	if err != nil || len(marks) != 1 || marks[0].Tree != "delegate_sessions" || len(marks[0].Key) != 16 {
		t.Errorf("%v %v", marks, err)
	}
	// The one record that was spoiled before is found, and nothing else.
	report, err := fsck.Check(ctx, store, nil)
	if err != nil || len(findings(report)) != 1 || report.Findings[0].Code != "unreadable" {
		t.Errorf("%v %v", report, err)
	}
	if why, err := l.Hold(ctx); why != "restored" || err != nil {
		t.Errorf("%q %v", why, err)
	}
	// It opens again without a migration.
	if _, err := ledger.Open(ctx, store, ledger.Options{}); err != nil {
		t.Error(err)
	}
	// The copy is the old ledger still.
	if err := os.MkdirAll(filepath.Join(dir, "old"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "copy.db"), filepath.Join(dir, "old", "kv.db")); err != nil {
		t.Fatal(err)
	}
	again, err := sqlite.Open(ctx, filepath.Join(dir, "old"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if fmt.Sprint(readRows(t, again)) != fmt.Sprint(before) {
		t.Error("the copy is not what was there")
	}
}

// TestInterruptedMigrationIsNone lets the commit of a migration fail: the ledger
// is as old as before, and migrates the next time.
func TestInterruptedMigrationIsNone(t *testing.T) {
	store := kvtest.NewMemory()
	putRows(t, store, schema1(t))
	before := readRows(t, store)
	failed := errors.New("cut short")
	if _, err := ledger.Open(t.Context(), cut{store, failed}, ledger.Options{BeforeMigration: nocopy}); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if fmt.Sprint(readRows(t, store)) != fmt.Sprint(before) {
		t.Fatal("half migrated")
	}
	if _, err := ledger.Open(t.Context(), store, ledger.Options{BeforeMigration: nocopy}); err != nil {
		t.Fatal(err)
	}
}

// cut is a store whose updates fail when they are done.
type cut struct {
	kv.Store
	err error
}

func (c cut) Update(ctx context.Context, f func(kv.Writer) error) error {
	return c.Store.Update(ctx, func(w kv.Writer) error { return errors.Join(f(w), c.err) })
}

// migrated is a ledger of this schema with something in every tree.
func migrated(t *testing.T) *kvtest.Memory {
	t.Helper()
	store := kvtest.NewMemory()
	putRows(t, store, schema1(t))
	if _, err := ledger.Open(t.Context(), store, ledger.Options{BeforeMigration: nocopy}); err != nil {
		t.Fatal(err)
	}
	return store
}

// findings are the faults of a report, each as code and subject.
func findings(r *fsck.Report) []string {
	var list []string
	for _, f := range r.Findings {
		if f.Severity == fsck.Fault {
			list = append(list, f.Code+" "+f.Subject)
		}
	}
	return list
}

// TestEveryBitIsSummed flips every bit of every row's stored value, and of its
// key and tree's name.
func TestEveryBitIsSummed(t *testing.T) {
	bits := 0
	each := func(b []byte, f func()) {
		for i := range len(b) * 8 {
			b[i/8] ^= 1 << (i % 8)
			f()
			b[i/8] ^= 1 << (i % 8)
			bits++
		}
	}
	rows := readRows(t, migrated(t))
	for _, tree := range ledger.Trees() {
		if !slices.ContainsFunc(rows, func(r storedRow) bool { return r.tree == tree }) { // younger than schema 1
			key := []byte("key of " + tree)
			rows = append(rows, storedRow{tree, key, ledger.Seal(tree, key, []byte("value"))})
		}
	}
	for _, r := range rows {
		if r.tree+string(r.key) == "metaschema" {
			continue // see TestOpen: it has a witness
		}
		if _, err := ledger.Unseal(r.tree, r.key, r.value); err != nil {
			t.Fatal(err)
		}
		tree := []byte(r.tree)
		passed := func() {
			if _, err := ledger.Unseal(string(tree), r.key, r.value); !errors.Is(err, ledger.ErrUnreadable) {
				t.Errorf("a bit of %s %x flipped, unnoticed", r.tree, r.key)
			}
		}
		each(r.value, passed)
		each(r.key, passed)
		each(tree, passed)
		for n := range len(r.value) {
			if _, err := ledger.Unseal(r.tree, r.key, r.value[:n]); !errors.Is(err, ledger.ErrUnreadable) {
				t.Errorf("%s %x cut to %d bytes, unnoticed", r.tree, r.key, n)
			}
		}
	}
	t.Log(bits, "bits")
}

// TestFlippedBitIsFound flips one bit of every row in turn, somewhere in its
// stored value and then in its key, and wants fsck to name that row; when it is the
// value, that row alone.
func TestFlippedBitIsFound(t *testing.T) {
	store := migrated(t)
	check := func() []string {
		t.Helper()
		report, err := fsck.Check(t.Context(), store, nil)
		if err != nil {
			t.Fatal(err)
		}
		return findings(report)
	}
	before := check() // the record that was spoiled before
	for n, r := range readRows(t, store) {
		for _, part := range []string{"value", "key"} {
			if r.tree+string(r.key) == "metaschema" {
				continue // see TestOpen: it has a witness
			}
			bad := storedRow{r.tree, bytes.Clone(r.key), bytes.Clone(r.value)}
			of := bad.value
			if part == "key" {
				of = bad.key
			}
			of[n*31%len(of)] ^= 1 << (n % 8)
			swap(t, store, r, bad)
			fresh := slices.DeleteFunc(check(), func(f string) bool { return slices.Contains(before, f) })
			named := slices.Contains(fresh, fmt.Sprintf("unreadable %s/%x", bad.tree, bad.key))
			if r.tree+string(r.key) == "metalayout" {
				named = slices.Contains(fresh, "meta ledger")
			}
			if r.tree == "delegate_sessions" && slices.Contains(before, fmt.Sprintf("unreadable %s/%x", r.tree, r.key)) && part == "value" {
				swap(t, store, bad, r)
				continue // it was unreadable before
			}
			if !named || part == "value" && len(fresh) != 1 {
				t.Errorf("a bit in the %s of %s %x: found %q", part, r.tree, r.key, fresh)
			}
			swap(t, store, bad, r)
		}
	}
}

func swap(t *testing.T, store kv.Store, old, fresh storedRow) {
	t.Helper()
	err := store.Update(t.Context(), func(w kv.Writer) error {
		if err := w.Delete(old.tree, old.key); err != nil {
			return err
		}
		return w.Put(fresh.tree, fresh.key, fresh.value)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestEveryTreeIsListed holds the names of trees to the list by which they are
// checked and migrated.
func TestEveryTreeIsListed(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.CONST || strings.HasSuffix(name, "_test.go") {
				continue
			}
			for _, s := range gen.Specs {
				spec := s.(*ast.ValueSpec)
				if !strings.HasPrefix(spec.Names[0].Name, "tree") {
					continue
				}
				named++
				tree, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil || !slices.Contains(ledger.Trees(), tree) {
					t.Errorf("%s of %s is not in trees()", spec.Names[0].Name, name)
				}
			}
		}
	}
	if named != len(ledger.Trees()) || named == 0 {
		t.Errorf("%d names, %d trees", named, len(ledger.Trees()))
	}
}
