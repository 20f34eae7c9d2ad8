// Package powercut owns a disk in memory whose power a test can cut: an SQLite
// VFS that keeps what was synced, and at the cut drops, tears and reorders what
// was not. It knows nothing of databases. Only tests import it.
//
// The model is a strict one: a write becomes durable by a later Sync of the
// same file alone; until then every sector of it reaches the disk or not, or
// up to some byte, by itself and in any order. The one promise beyond fsync is
// that a write changes no byte outside its range. A failed Sync leaves some
// sectors durable and forgets the others: the kernel believes them clean, so
// that reading still shows them and a later Sync does not write them.
package powercut

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"

	sqlite3 "github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// sector is what a disk writes in one piece, in bytes.
const sector = 512

// Disk is the simulated disk. It is safe for concurrent use.
type Disk struct {
	// scratch is a real directory for the log index, which SQLite maps into
	// memory: it is shared memory, not storage, and empty after a cut.
	scratch string

	mu      sync.Mutex
	rnd     *rand.Rand
	files   map[string]*inode
	deleted map[string]*inode // deletions that are not durable yet
	ops     int               // writes, syncs, truncations and deletions so far
	cutAt   int               // the operation at which the power goes; 0: never
	dead    bool
	faults  Faults
	hits    Faults
}

// Faults are probabilities of errors that are not power cuts.
type Faults struct {
	Full float64 // a write finds the disk full
	Sync float64 // a sync fails
	File string  // the only file that is hit; empty: all
}

// inode is one file: what readers see, what a cut leaves for sure, and the
// changes between the two in the order in which they were made.
type inode struct {
	live    []byte
	durable []byte
	exists  bool // the directory entry is durable
	pending []change

	locks locks
}

// change is a write of data at off or, without data, a truncation to off.
type change struct {
	off  int64
	data []byte
}

// New returns an empty disk. Everything random on it follows from seed.
func New(scratch string, seed uint64) *Disk {
	return &Disk{
		scratch: scratch,
		rnd:     rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)),
		files:   map[string]*inode{},
		deleted: map[string]*inode{},
	}
}

// Use registers the disk as an SQLite VFS and returns its name and the
// function that takes it out again.
func (d *Disk) Use() (name string, done func()) {
	name = fmt.Sprintf("powercut-%p", d)
	vfs.Register(name, d)
	return name, func() { vfs.Unregister(name) }
}

// CutAt cuts the power at the n-th operation from now on, counted from 1. That
// operation and all later ones fail.
func (d *Disk) CutAt(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cutAt = d.ops + n
}

// Inject sets the faults from now on; the zero value mends the disk.
func (d *Disk) Inject(f Faults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = f
}

// Ops returns how many operations have been counted.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// Injected returns how many faults of each kind have been injected.
func (d *Disk) Injected() Faults {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hits
}

// Dead says whether the power was cut.
func (d *Disk) Dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// Contents returns a copy of every file as readers see it, by name.
func (d *Disk) Contents() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := map[string][]byte{}
	for name, f := range d.files {
		all[name] = append([]byte{}, f.live...)
	}
	return all
}

// Survivor cuts the power, if it is still on, and returns a disk with what a
// machine finds when it starts again: one of the many outcomes that the model
// allows, drawn from the seed.
func (d *Disk) Survivor(scratch string, seed uint64) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	after := New(scratch, seed)
	mode := after.rnd.IntN(4)
	for _, name := range sorted(d.files) {
		f := d.files[name]
		if !f.exists && after.rnd.IntN(2) == 0 {
			continue // the file's creation was lost
		}
		after.put(name, f.survive(after.rnd, mode))
	}
	for _, name := range sorted(d.deleted) {
		if after.files[name] == nil && after.rnd.IntN(2) == 0 {
			after.put(name, d.deleted[name].survive(after.rnd, mode))
		}
	}
	return after
}

func (d *Disk) put(name string, content []byte) {
	d.files[name] = &inode{live: content, durable: append([]byte{}, content...), exists: true}
}

// survive draws what a cut leaves of a file. Mode 0 loses all that was not
// synced, 1 loses none, 2 keeps a prefix of the changes, the last of them torn,
// and 3 decides for every sector by itself.
func (f *inode) survive(rnd *rand.Rand, mode int) []byte {
	left := append([]byte{}, f.durable...)
	keep := len(f.pending)
	switch mode {
	case 0:
		return left
	case 2:
		keep = rnd.IntN(keep + 1)
	}
	for i, c := range f.pending[:keep] {
		scatter := mode == 3 || mode == 2 && i == keep-1
		left = c.apply(left, rnd, scatter)
	}
	return left
}

// apply makes a change on content; scattered, sector by sector by chance.
func (c change) apply(content []byte, rnd *rand.Rand, scatter bool) []byte {
	if c.data == nil {
		if scatter && rnd.IntN(2) == 0 {
			return content
		}
		return resize(content, c.off)
	}
	for from := int64(0); from < int64(len(c.data)); {
		to := min(int64(len(c.data)), from+sector-(c.off+from)%sector)
		piece := c.data[from:to]
		if scatter {
			switch rnd.IntN(5) {
			case 0, 1:
				piece = nil
			case 2:
				piece = piece[:rnd.IntN(len(piece))]
			}
		}
		if len(piece) > 0 {
			content = write(content, c.off+from, piece)
		}
		from = to
	}
	return content
}

func write(content []byte, off int64, data []byte) []byte {
	if end := off + int64(len(data)); end > int64(len(content)) {
		content = resize(content, end)
	}
	copy(content[off:], data)
	return content
}

// resize cuts content or fills it up with zeros.
func resize(content []byte, size int64) []byte {
	if size <= int64(len(content)) {
		clear(content[size:])
		return content[:size]
	}
	return append(content, make([]byte, size-int64(len(content)))...)
}

// step counts an operation and says whether the power is still on.
func (d *Disk) step() error {
	d.ops++
	if d.cutAt != 0 && d.ops >= d.cutAt {
		d.dead = true
	}
	if d.dead {
		return sqlite3.IOERR
	}
	return nil
}

func (d *Disk) chance(p float64, name string) bool {
	return p > 0 && (d.faults.File == "" || d.faults.File == name) && d.rnd.Float64() < p
}

// Open implements vfs.VFS.
func (d *Disk) Open(name string, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, flags, sqlite3.IOERR
	}
	f := d.files[name]
	if f == nil {
		if flags&vfs.OPEN_CREATE == 0 {
			return nil, flags, sqlite3.CANTOPEN
		}
		f = &inode{}
		d.files[name] = f
	}
	h := &handle{disk: d, file: f, name: name}
	if flags&vfs.OPEN_MAIN_DB != 0 {
		h.shm = vfs.NewSharedMemory(filepath.Join(d.scratch, filepath.Base(name)+"-shm"), flags)
	}
	return h, flags, nil
}

// Delete implements vfs.VFS.
func (d *Disk) Delete(name string, syncDir bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil {
		return sqlite3.IOERR_DELETE_NOENT
	}
	if err := d.step(); err != nil {
		return err
	}
	delete(d.files, name)
	if f.exists {
		d.deleted[name] = f
	}
	if syncDir {
		clear(d.deleted)
	}
	return nil
}

// Access implements vfs.VFS.
func (d *Disk) Access(name string, _ vfs.AccessFlag) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.files[name]
	return ok, nil
}

// FullPathname implements vfs.VFS.
func (d *Disk) FullPathname(name string) (string, error) { return name, nil }
