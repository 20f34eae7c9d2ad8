package powercut

import (
	"bytes"
	"errors"
	"testing"

	sqlite3 "github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

func openFile(t *testing.T, d *Disk, name string) vfs.File {
	t.Helper()
	f, _, err := d.Open(name, vfs.OPEN_READWRITE|vfs.OPEN_CREATE|vfs.OPEN_WAL)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write1(t *testing.T, f vfs.File, off int64, b byte, n int) {
	t.Helper()
	if _, err := f.WriteAt(bytes.Repeat([]byte{b}, n), off); err != nil {
		t.Fatal(err)
	}
}

// TestSyncedSurvives holds the disk's one promise, and sees that everything
// else happens: an unsynced write lost, kept, torn, and kept before an older one.
func TestSyncedSurvives(t *testing.T) {
	lost, kept, torn, reordered := 0, 0, 0, 0
	for seed := range uint64(300) {
		d := New(t.TempDir(), seed)
		f := openFile(t, d, "/f")
		write1(t, f, 0, 'a', 4096)
		if err := f.Sync(vfs.SYNC_FULL); err != nil {
			t.Fatal(err)
		}
		write1(t, f, 1024, 'b', 512)
		write1(t, f, 2048, 'c', 512)
		got := d.Survivor(t.TempDir(), seed).Contents()["/f"]
		if len(got) != 4096 {
			t.Fatalf("seed %d: %d bytes left", seed, len(got))
		}
		for i, b := range got {
			in := i >= 1024 && i < 1536 && b == 'b' || i >= 2048 && i < 2560 && b == 'c'
			if b != 'a' && !in {
				t.Fatalf("seed %d: byte %d is %q", seed, i, b)
			}
		}
		b, c := bytes.Count(got, []byte("b")), bytes.Count(got, []byte("c"))
		switch {
		case b == 0 && c == 0:
			lost++
		case b == 512 && c == 512:
			kept++
		case b == 0 && c == 512:
			reordered++
		default:
			torn++
		}
	}
	if lost == 0 || kept == 0 || torn == 0 || reordered == 0 {
		t.Errorf("lost %d, kept %d, torn %d, reordered %d: all must occur", lost, kept, torn, reordered)
	}
}

// TestFailedSyncForgets: what a failed Sync did not write no later one writes.
func TestFailedSyncForgets(t *testing.T) {
	forgot := 0
	for seed := range uint64(50) {
		d := New(t.TempDir(), seed)
		f := openFile(t, d, "/f")
		write1(t, f, 0, 'a', 512)
		if err := f.Sync(vfs.SYNC_FULL); err != nil {
			t.Fatal(err)
		}
		write1(t, f, 0, 'b', 512)
		d.Inject(Faults{Sync: 1})
		if err := f.Sync(vfs.SYNC_FULL); !errors.Is(err, sqlite3.IOERR_FSYNC) {
			t.Fatalf("Sync: %v", err)
		}
		d.Inject(Faults{})
		if err := f.Sync(vfs.SYNC_FULL); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 1)
		if _, err := f.ReadAt(p, 0); err != nil || p[0] != 'b' {
			t.Errorf("a reader sees %q, %v", p, err)
		}
		if d.Survivor(t.TempDir(), seed).Contents()["/f"][0] == 'a' {
			forgot++
		}
	}
	if forgot == 0 {
		t.Error("a failed Sync never forgot anything")
	}
}

func TestCutAt(t *testing.T) {
	d := New(t.TempDir(), 1)
	f := openFile(t, d, "/f")
	d.CutAt(2)
	write1(t, f, 0, 'a', 10)
	if _, err := f.WriteAt([]byte("b"), 0); !errors.Is(err, sqlite3.IOERR) || !d.Dead() {
		t.Errorf("the second operation: %v, dead %v", err, d.Dead())
	}
	if err := f.Sync(vfs.SYNC_FULL); !errors.Is(err, sqlite3.IOERR) {
		t.Errorf("after the cut: %v", err)
	}
	if _, _, err := d.Open("/g", vfs.OPEN_CREATE); err == nil {
		t.Error("a dead disk opened a file")
	}
}

// TestDirectory: a creation is lost until the file is synced, a deletion
// may come back until the directory is.
func TestDirectory(t *testing.T) {
	created, gone := 0, 0
	for seed := range uint64(50) {
		d := New(t.TempDir(), seed)
		openFile(t, d, "/new")
		old := openFile(t, d, "/old")
		if err := old.Sync(vfs.SYNC_FULL); err != nil {
			t.Fatal(err)
		}
		if err := d.Delete("/old", false); err != nil {
			t.Fatal(err)
		}
		after := d.Survivor(t.TempDir(), seed).Contents()
		if _, ok := after["/new"]; ok {
			created++
		}
		if _, ok := after["/old"]; !ok {
			gone++
		}
	}
	if created == 0 || created == 50 || gone == 0 || gone == 50 {
		t.Errorf("of 50, %d creations and %d deletions survived: neither may be certain", created, gone)
	}
}
