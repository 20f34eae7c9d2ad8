package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	d := &disk{dirs: []string{dir}, min: 1}
	free, low := d.state()
	if low || free == 0 || d.low() || d.ready(t.Context()) != nil {
		t.Fatalf("%d bytes free, low %t", free, low)
	}
	d.min = free * 2
	if _, low := d.state(); !low || !d.low() || d.ready(t.Context()) == nil {
		t.Fatal("less than the least is not low")
	}
	for least, full := range map[uint64]bool{free / 2 * 3: false, free * 3: true} { // half of it is for renewals
		if d.min = least; d.full() != full || !d.low() {
			t.Errorf("of %d bytes %d are free: full is %t", least, free, d.full())
		}
	}
	d = &disk{dirs: []string{dir, filepath.Join(dir, "gone")}, min: 1}
	if free, low := d.state(); !low || free != 0 || !d.full() {
		t.Fatal("a disk that cannot be asked is not low")
	}
	for size, want := range map[uint64]uint64{0: 0, 100 << 20: 10 << 20, 10 << 30: 1 << 30, 4 << 40: 1 << 30} {
		if got := defaultMin(size); got != want {
			t.Errorf("of %d bytes %d are kept free, want %d", size, got, want)
		}
	}
}

func TestBallast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ballast")
	for range 2 { // one that is there stays
		if err := ballast(path, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	about, err := os.Stat(path)
	if err != nil || about.Size() != 1<<20 || about.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", about, err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := fill(f, 3<<20+5); err != nil {
		t.Fatal(err)
	}
	if about, err = f.Stat(); err != nil || about.Size() != 3<<20+5 {
		t.Fatalf("%v, %v", about, err)
	}
}
