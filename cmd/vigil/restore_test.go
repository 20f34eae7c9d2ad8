package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/arktest/wallet"
)

// saved is what an operator of a Vigil keeps elsewhere.
type saved struct{ backup, secrets, identity string }

// save takes a backup and an export of the running child to a directory.
func save(t *testing.T, d *demonstration, dir string) saved {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s := saved{filepath.Join(dir, "backup.kv"), filepath.Join(dir, "secrets.age"), filepath.Join(dir, "identity")}
	if err := os.WriteFile(s.identity, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var done admin.Copied
	must(t, func() error { return d.child.ask(d.ctx, &done, "backup", s.backup) },
		func() error {
			return d.child.ask(d.ctx, &done, "secret", "export", "--recipient", id.Recipient().String(), s.secrets)
		})
	if done.Secrets != 2 {
		t.Fatalf("%d secrets were exported", done.Secrets)
	}
	return s
}

// TestRestoreOnAnEmptyMachine loses everything but a backup and an export, sets
// Vigil up from them, sees that it does nothing until that is confirmed, and
// then renews the coin.
func TestRestoreOnAnEmptyMachine(t *testing.T) {
	t.Parallel()
	d := newDemonstration(t, "armed")
	must(t, d.begin, d.board, d.delegate)
	kept := save(t, d, t.TempDir())
	d.child.kill()
	if err := os.RemoveAll(d.child.dir); err != nil {
		t.Fatal(err)
	}

	// Another machine: another directory, nothing in it.
	d.dir = t.TempDir()
	fresh, err := newChild(d.exe, d.dir, d.op.URL(), d.op.EsploraURL())
	if err != nil {
		t.Fatal(err)
	}
	d.child = fresh
	d.service.URL = fresh.url()
	var out restored
	must(t, func() error {
		return fresh.ask(d.ctx, &out, "restore", "--backup", kept.backup, "--secrets", kept.secrets, "--identity", kept.identity)
	})
	if out.Secrets != 2 || !out.Check.Clean || out.Check.Live != 1 || out.Hold == "" {
		t.Fatalf("restored: %+v", out)
	}
	if err := fresh.ask(d.ctx, &out, "restore", "--backup", kept.backup, "--secrets", kept.secrets, "--identity", kept.identity); err == nil || !strings.Contains(err.Error(), "overwrites nothing") {
		t.Fatalf("a second restore over the first: %v", err)
	}
	must(t, func() error { return fresh.start(d.ctx) })

	// On hold: nobody is told anything, nothing is taken, nothing is registered,
	// however long the delegate is due.
	_, err = d.service.Info(d.ctx)
	var refused *wallet.ServiceError
	if !errors.As(err, &refused) || !strings.Contains(refused.Error(), string(vigil.CodeOnHold)) {
		t.Fatalf("on hold: %v", err)
	}
	if body, code := fetch(fresh.url() + "/readyz"); code != 503 || !strings.Contains(body, "confirmed: not ready") {
		t.Fatalf("on hold: %d %s", code, body)
	}
	overdue, cancel := context.WithDeadline(d.ctx, time.Now().Add(9*time.Second))
	defer cancel()
	whole := d.ctx
	d.ctx = overdue
	if err := d.await("due", "registering", "registered", "joining", "submitted", "unconfirmed", "settled"); err == nil {
		t.Fatal("the delegate was carried out although nobody confirmed")
	}
	d.ctx = whole
	if calls := d.op.Stats().Calls; calls["/ark.v1.ArkService/RegisterIntent"] != 1 { // the device's own, boarding
		t.Fatalf("%d intents were registered", calls["/ark.v1.ArkService/RegisterIntent"])
	}

	var status admin.Status
	must(t, func() error { return fresh.ask(d.ctx, &status, "restore", "--confirm") })
	if status.Hold != "" || status.Running == nil || status.Live != 1 {
		t.Fatalf("confirmed: %+v", status)
	}
	if err := fresh.ask(d.ctx, &status, "restore", "--confirm"); err == nil || !strings.Contains(err.Error(), "nothing is held") {
		t.Fatalf("confirmed twice: %v", err)
	}
	must(t, func() error { return d.await("settled") })
	coin, err := d.coin()
	if err != nil || coin.Outpoint == d.before.Outpoint || coin.Amount != d.before.Amount {
		t.Fatalf("%v, %v", coin, err)
	}
	var report admin.Report
	must(t, func() error { return fresh.stop(d.ctx) }, func() error { return fresh.ask(d.ctx, &report, "fsck") })
}

// TestRestoreRefuses holds that nothing is half restored.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	d, other := newDemonstration(t, "armed"), newDemonstration(t, "armed")
	must(t, d.begin, other.begin)
	kept, foreign := save(t, d, t.TempDir()), save(t, other, t.TempDir())
	nothing := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(nothing, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		saved
		want string
	}{
		"another Vigil's secrets": {saved{kept.backup, foreign.secrets, foreign.identity}, "different Vigils"},
		"another identity":        {saved{kept.backup, kept.secrets, foreign.identity}, "none of the identities"},
		"no backup":               {saved{nothing, kept.secrets, kept.identity}, "backup"},
		"no export":               {saved{kept.backup, nothing, kept.identity}, "not an export"},
		"an export for a backup":  {saved{kept.secrets, kept.secrets, kept.identity}, "backup"},
		"no identity":             {saved{kept.backup, kept.secrets, nothing}, "identity"},
		"nothing there":           {saved{nothing + "x", kept.secrets, kept.identity}, "no such file"},
	} {
		child, err := newChild(d.exe, t.TempDir(), d.op.URL(), "")
		if err != nil {
			t.Fatal(err)
		}
		err = child.ask(d.ctx, new(restored), "restore", "--backup", tc.backup, "--secrets", tc.secrets, "--identity", tc.identity)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		for _, left := range []string{"kv", "secrets", "kv.restoring", "secrets.restoring"} {
			if _, err := os.Stat(filepath.Join(child.dir, left)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %s was left behind", name, left)
			}
		}
	}
}
