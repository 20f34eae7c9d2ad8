package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// disk watches the free space under the stores: before it ends, Vigil takes
// nothing new, so that what it has can still be carried out.
type disk struct {
	dirs []string
	min  uint64 // bytes; 0: the smaller of a tenth of the disk and 1 GiB
	log  *slog.Logger
	was  atomic.Bool
}

// disk watches the places' disks with the default threshold.
func (p places) disk() *disk { return &disk{dirs: []string{p.DataDir, p.secretDir()}} }

// defaultMin is what is kept free of a disk of that size: a tenth, for small
// disks, and never more than 1 GiB, which is some hundred thousand delegates.
func defaultMin(size uint64) uint64 { return min(size/10, 1<<30) }

// renewalsShare of what is kept free, one part of so many, is for renewals alone.
const renewalsShare = 2

// state returns the least free space of the disks and whether one has too
// little. A disk that cannot be asked counts as full.
func (d *disk) state() (free uint64, low bool) { return d.under(1) }

// full says whether no more is left than renewals are to have.
func (d *disk) full() bool {
	_, full := d.under(renewalsShare)
	return full
}

// under is state for a part of the threshold.
func (d *disk) under(share uint64) (free uint64, low bool) {
	free = ^uint64(0)
	for _, dir := range d.dirs {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			return 0, true
		}
		left := uint64(max(int64(s.Bavail), 0)) * uint64(s.Bsize) // signed on some systems
		least := d.min
		if least == 0 {
			least = defaultMin(s.Blocks * uint64(s.Bsize))
		}
		free, low = min(free, left), low || left < least/share
	}
	return free, low
}

// low says whether nothing new may be taken, and logs when that changes.
func (d *disk) low() bool {
	free, low := d.state()
	if d.was.Swap(low) != low && d.log != nil {
		if low {
			d.log.Error("the disk is nearly full: nothing new is taken, what is stored is carried out", "free_mib", free>>20)
		} else {
			d.log.Info("the disk has room again")
		}
	}
	return low
}

// ready is the readiness check.
func (d *disk) ready(context.Context) error {
	if free, low := d.state(); low {
		return fmt.Errorf("%d MiB are free; make room, or delete the ballast file", free>>20)
	}
	return nil
}

// ballast reserves space in a file whose deletion makes room when the disk is
// full. One that is there is left as it is.
func ballast(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := errors.Join(reserve(f, size), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("ballast of %d bytes: %w", size, err), os.Remove(path))
	}
	return nil
}

// fill writes size bytes that a file system cannot leave out as a hole.
func fill(f *os.File, size int64) error {
	chunk := make([]byte, 1<<20)
	for i := range chunk {
		chunk[i] = 0xa5
	}
	for size > 0 {
		n, err := f.Write(chunk[:min(size, int64(len(chunk)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return f.Sync()
}
