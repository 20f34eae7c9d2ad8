package powercut

import (
	"io"
	"maps"
	"slices"

	sqlite3 "github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// handle is one open file.
type handle struct {
	disk *Disk
	file *inode
	name string
	shm  vfs.SharedMemory
	lock vfs.LockLevel
}

var (
	_ vfs.FileSharedMemory = (*handle)(nil)
	_ vfs.FileLockState    = (*handle)(nil)
)

// SharedMemory implements vfs.FileSharedMemory.
func (h *handle) SharedMemory() vfs.SharedMemory { return h.shm }

// Close implements vfs.File.
func (h *handle) Close() error {
	if h.shm != nil {
		_ = h.shm.Close() // shared memory: nothing to lose
	}
	return h.Unlock(vfs.LOCK_NONE)
}

// ReadAt implements vfs.File.
func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if h.disk.dead {
		return 0, sqlite3.IOERR_READ
	}
	if off >= int64(len(h.file.live)) {
		return 0, io.EOF
	}
	n := copy(p, h.file.live[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements vfs.File. What was being written when the power went may
// be on the disk, in part.
func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	d, f := h.disk, h.file
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return 0, sqlite3.IOERR_WRITE
	}
	err := d.step()
	if err == nil && d.chance(d.faults.Full, h.name) {
		d.hits.Full++
		return 0, sqlite3.FULL
	}
	f.pending = append(f.pending, change{off, append([]byte{}, p...)})
	f.live = write(f.live, off, p)
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Truncate implements vfs.File.
func (h *handle) Truncate(size int64) error {
	d, f := h.disk, h.file
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return sqlite3.IOERR_TRUNCATE
	}
	err := d.step()
	f.pending = append(f.pending, change{off: size})
	f.live = resize(f.live, size)
	return err
}

// Sync implements vfs.File. As in the real VFS the first one of a file makes
// its directory entry durable too, and with it older deletions.
func (h *handle) Sync(vfs.SyncFlag) error {
	d, f := h.disk, h.file
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return sqlite3.IOERR_FSYNC
	}
	if err := d.step(); err != nil {
		return err
	}
	if d.chance(d.faults.Sync, h.name) {
		d.hits.Sync++
		for _, c := range f.pending {
			f.durable = c.apply(f.durable, d.rnd, true)
		}
		f.pending = nil
		return sqlite3.IOERR_FSYNC
	}
	for _, c := range f.pending {
		f.durable = c.apply(f.durable, d.rnd, false)
	}
	f.pending = nil
	if !f.exists {
		f.exists = true
		clear(d.deleted)
	}
	return nil
}

// Size implements vfs.File.
func (h *handle) Size() (int64, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	return int64(len(h.file.live)), nil
}

// SectorSize implements vfs.File, as the real VFS answers.
func (h *handle) SectorSize() int { return 4096 }

// DeviceCharacteristics implements vfs.File, as the real VFS answers.
func (h *handle) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return vfs.IOCAP_POWERSAFE_OVERWRITE | vfs.IOCAP_SUBPAGE_READ
}

// locks are SQLite's, between the handles of one file.
type locks struct {
	shared            int
	reserved, pending bool
	exclusive         bool
}

// LockState implements vfs.FileLockState.
func (h *handle) LockState() vfs.LockLevel { return h.lock }

// Lock implements vfs.File.
func (h *handle) Lock(level vfs.LockLevel) error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if h.lock >= level {
		return nil
	}
	l := &h.file.locks
	switch level {
	case vfs.LOCK_SHARED:
		if l.pending || l.exclusive {
			return sqlite3.BUSY
		}
		l.shared++
	case vfs.LOCK_RESERVED:
		if l.reserved {
			return sqlite3.BUSY
		}
		l.reserved = true
	case vfs.LOCK_EXCLUSIVE:
		if h.lock == vfs.LOCK_RESERVED {
			l.pending = true
			h.lock = vfs.LOCK_PENDING
		}
		if l.shared > 1 {
			return sqlite3.BUSY
		}
		l.exclusive = true
	}
	h.lock = level
	return nil
}

// Unlock implements vfs.File.
func (h *handle) Unlock(level vfs.LockLevel) error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	l := &h.file.locks
	if h.lock <= level {
		return nil
	}
	if h.lock >= vfs.LOCK_EXCLUSIVE {
		l.exclusive = false
	}
	if h.lock >= vfs.LOCK_PENDING {
		l.pending = false
	}
	if h.lock >= vfs.LOCK_RESERVED {
		l.reserved = false
	}
	if level < vfs.LOCK_SHARED {
		l.shared--
	}
	h.lock = level
	return nil
}

// CheckReservedLock implements vfs.File.
func (h *handle) CheckReservedLock() (bool, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	return h.file.locks.reserved, nil
}

// sorted makes the draw independent of the map's order.
func sorted(files map[string]*inode) []string { return slices.Sorted(maps.Keys(files)) }
