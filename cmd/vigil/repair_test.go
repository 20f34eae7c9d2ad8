package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/sqlite"
)

// spoil flips a bit in the key of every row of some trees of a stopped Vigil.
func spoil(t *testing.T, d *demonstration, trees ...string) {
	t.Helper()
	store, err := sqlite.Open(d.ctx, d.child.places().kvDir(), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = store.Update(d.ctx, func(w kv.Writer) error {
		for _, tree := range trees {
			var keys, values [][]byte
			if err := w.Scan(tree, nil, nil, func(key, value []byte) error {
				keys, values = append(keys, key), append(values, value)
				return nil
			}); err != nil {
				return err
			}
			for i, key := range keys {
				if err := w.Delete(tree, key); err != nil {
					return err
				}
				key[len(key)-1] ^= 16
				if err := w.Put(tree, key, values[i]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	must(t, func() error { return err }, store.Close)
}

// TestRepair spoils the indexes that a delegate is found by. Vigil tells of it when
// it starts, and carries nothing out; a repair refuses while it runs, mends the
// store when it does not, leaves what is sane alone, and the coin is renewed.
func TestRepair(t *testing.T) {
	t.Parallel()
	d := newDemonstration(t, "armed")
	must(t, d.begin, d.board, d.delegate)
	d.child.kill()
	spoil(t, d, "renewal_due", "scripts")
	must(t, func() error { return d.child.start(d.ctx) })

	var status admin.Status
	must(t, func() error { return d.child.ask(d.ctx, &status, "status") })
	if status.UnreadableIndex != 1 || status.NextDue != 0 { // nobody has looked for the script yet
		t.Errorf("status: %+v", status)
	}
	out, err := d.child.command(d.ctx, "status").Output()
	if err != nil || !strings.Contains(string(out), "vigil fsck --repair") {
		t.Errorf("%s %v", out, err)
	}
	if log, err := os.ReadFile(d.child.logPath); err != nil || !strings.Contains(string(log), "vigil fsck --repair") {
		t.Errorf("%s %v", log, err)
	}
	if err := d.child.ask(d.ctx, new(repaired), "fsck", "--repair"); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("beside a running Vigil: %v", err)
	}
	must(t, func() error { return d.child.stop(d.ctx) })
	if err := d.child.ask(d.ctx, new(admin.Report), "fsck"); err == nil || !strings.Contains(err.Error(), "--repair") {
		t.Errorf("fsck: %v", err)
	}

	var done repaired
	must(t, func() error { return d.child.ask(d.ctx, &done, "fsck", "--repair") })
	if !done.Changed || len(done.Rows) < 4 || !done.Check.Clean || done.Check.Live != 1 {
		t.Errorf("repaired: %+v", done)
	}
	if about, err := os.Stat(done.Copy); err != nil || about.Mode().Perm() != 0o600 || about.Size() == 0 {
		t.Errorf("the copy: %v %v", about, err)
	}
	whole := func() []byte {
		b, err := os.ReadFile(filepath.Join(d.child.places().kvDir(), "kv.db"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	before := whole()
	var again repaired
	must(t, func() error { return d.child.ask(d.ctx, &again, "fsck", "--repair") })
	if again.Changed || again.Copy != "" || !bytes.Equal(before, whole()) {
		t.Errorf("the second time: %+v", again)
	}
	if copies, err := filepath.Glob(filepath.Join(d.child.dir, "kv-before-repair-*")); err != nil || len(copies) != 1 {
		t.Errorf("%q %v", copies, err)
	}

	must(t, func() error { return d.child.start(d.ctx) }, func() error { return d.await("settled") })
	coin, err := d.coin()
	if err != nil || coin.Outpoint == d.before.Outpoint || coin.Amount != d.before.Amount {
		t.Errorf("%v, %v", coin, err)
	}
	var report admin.Report
	must(t, func() error { return d.child.stop(d.ctx) }, func() error { return d.child.ask(d.ctx, &report, "fsck") })
}
