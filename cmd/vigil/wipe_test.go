package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/sealed"
)

// wipeable is a Vigil with secrets, whose files have second names outside, by which
// the test sees what became of their contents.
func wipeable(t *testing.T) (p places, kept map[string][]byte) {
	t.Helper()
	root := t.TempDir()
	p = places{DataDir: filepath.Join(root, "d"), SecretDir: filepath.Join(root, "elsewhere")}
	env := testEnvironment(t, t.Context())
	s, err := p.create(env)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.secrets.Put(t.Context(), "delegate-service.1", secret.New(bytes.Repeat([]byte{7}, 32))); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.mark(markBackup, nil); err != nil {
		t.Fatal(err)
	}
	kept = map[string][]byte{}
	for _, dir := range []string{p.DataDir, p.kvDir(), p.secretDir()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			second := filepath.Join(root, filepath.Base(dir)+"-"+e.Name())
			if err := os.Link(filepath.Join(dir, e.Name()), second); err != nil {
				t.Fatal(err)
			}
			if kept[second], err = os.ReadFile(second); err != nil {
				t.Fatal(err)
			}
		}
	}
	return p, kept
}

// TestWipe holds that nothing is left: neither names nor, under a second name that
// the files had, a byte of what they held.
func TestWipe(t *testing.T) {
	p, kept := wipeable(t)
	device := filepath.Join(p.DataDir, "wallet")
	if err := os.Mkdir(device, 0o700); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(p.secretDir(), "fullchain.pem")
	if err := os.WriteFile(other, []byte("another's"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := wipeCmd{places: p, Confirm: "destroy 0 delegates and 0 wallets"}
	var out bytes.Buffer
	env := testEnvironment(t, t.Context())
	env.stdout = &out
	if err := c.Run(env); err != nil {
		t.Fatal(err)
	}
	if len(kept) < 4 {
		t.Fatalf("only %d files were there", len(kept))
	}
	for path := range kept {
		if b, err := os.ReadFile(path); err != nil || len(b) > 0 {
			t.Errorf("%s still has %d bytes, %v", path, len(b), err)
		}
	}
	entries, err := os.ReadDir(p.DataDir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "wallet" {
		t.Errorf("%v, %v: a device's own things are not Vigil's", entries, err)
	}
	if b, err := os.ReadFile(other); err != nil || string(b) != "another's" {
		t.Errorf("what is not Vigil's: %q, %v", b, err)
	}
	if entries, err := os.ReadDir(p.secretDir()); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v: secrets are left", entries, err)
	}
	for _, want := range []string{"none is left", "Not Vigil's, and left: " + device, "Not Vigil's, and left: " + other, "SSD"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q: %s", want, out.String())
		}
	}
	if err := c.Run(env); err == nil {
		t.Error("wiped twice")
	}
}

// TestWipeOverwrites holds that what a file held is overwritten before it is cut: a
// disk does not forget what a file no longer names.
func TestWipeOverwrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	before := bytes.Repeat([]byte("secret"), 1000)
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := overwrite(f, int64(len(before))); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil || len(after) != len(before) || bytes.Contains(after, []byte("secret")) {
		t.Errorf("%d bytes, %v", len(after), err)
	}
}

// TestWipeIsTakenUp cuts a wipe short after every file, and goes on.
func TestWipeIsTakenUp(t *testing.T) {
	for gone := range 4 {
		p, kept := wipeable(t)
		w := wiped{}
		if err := os.WriteFile(filepath.Join(p.DataDir, markWiping), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		victims := []string{p.keyFile(), filepath.Join(p.secretDir(), "secrets.db"), filepath.Join(p.kvDir(), "kv.db")}
		for _, path := range victims[:gone] {
			if err := w.shred(path); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.open(testEnvironment(t, t.Context()), nil); err == nil && gone > 0 {
			t.Error("half of a Vigil opens")
		}
		if err := (&wipeCmd{places: p}).Run(testEnvironment(t, t.Context())); err != nil {
			t.Fatalf("after %d files: %v", gone, err)
		}
		for path := range kept {
			if b, err := os.ReadFile(path); err != nil || len(b) > 0 {
				t.Errorf("after %d files: %s still has %d bytes, %v", gone, path, len(b), err)
			}
		}
		if _, err := os.Stat(p.DataDir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after %d files: %v", gone, err)
		}
	}
}

func TestWipeRefuses(t *testing.T) {
	p, _ := wipeable(t)
	env := testEnvironment(t, t.Context())
	locked, err := p.open(env, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := wipeCmd{places: p, Force: true, Confirm: "destroy 0 delegates and 0 wallets"}
	if err := c.Run(env); err == nil {
		t.Error("wiped under somebody who has the stores open")
	}
	if err := locked.Close(); err != nil {
		t.Fatal(err)
	}
	c.Confirm = "yes"
	if err := c.Run(env); !errors.Is(err, errLives) {
		t.Errorf("another sentence: %v", err)
	}
	// The key is lost, and what depends on the stores cannot be told.
	if err := os.Remove(p.keyFile()); err != nil {
		t.Fatal(err)
	}
	if err := sealed.GenerateKeyFile(p.keyFile()); err != nil {
		t.Fatal(err)
	}
	c = wipeCmd{places: p, Confirm: "destroy what cannot be read"}
	if err := c.Run(env); !errors.Is(err, errLives) {
		t.Errorf("unreadable, without force: %v", err)
	}
	if _, err := os.Stat(filepath.Join(p.secretDir(), "secrets.db")); err != nil {
		t.Fatalf("something was touched: %v", err)
	}
	c.Force = true
	if err := c.Run(env); err != nil {
		t.Error(err)
	}
	if err := (&wipeCmd{places: places{DataDir: t.TempDir()}}).Run(env); err == nil {
		t.Error("wiped nothing")
	}
}
