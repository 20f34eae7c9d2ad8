package sqlitedb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// fileLock is the lock that keeps a second process away. SQLite's own locks
// would let two processes take turns, and both would believe themselves alone.
type fileLock struct{ f *os.File }

// prepare makes or checks dir and takes the lock.
func prepare(dir, path string, create bool) (*fileLock, error) {
	if create {
		if err := makeDir(dir); err != nil {
			return nil, err
		}
	} else {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s does not exist", ErrMissing, path)
		} else if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if err := ownerOnly(dir); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(f.Name())
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is held by process %s", ErrLocked, dir, strings.TrimSpace(string(holder)))
		}
		return nil, fmt.Errorf("%w: lock: %w", ErrUnavailable, err)
	}
	lock := &fileLock{f}
	// The number is for people; only the lock counts.
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: lock: %w", ErrUnavailable, err), lock.release())
	}
	return lock, nil
}

func writePID(f *os.File) error {
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// release gives the lock back. The file stays: removing it would let two
// processes lock two different files.
func (l *fileLock) release() error {
	if l == nil {
		return nil
	}
	return l.f.Close()
}

// makeDir makes dir for its owner alone, durably.
func makeDir(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = os.Chmod(dir, 0o700) // it may have been there
	}
	if err == nil {
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// private makes the database and its log's index, as far as they are missing,
// readable by their owner alone: SQLite would leave it to the umask. It
// refuses files that others can read.
func private(path string) error {
	for _, p := range []string{path, path + "-shm"} {
		f, err := os.OpenFile(p, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if err := ownerOnly(p); err != nil {
			return err
		}
	}
	if err := ownerOnly(path + "-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func ownerOnly(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%w: %s has %#o; run chmod go= on it", ErrMode, path, mode)
	}
	return nil
}

// syncDir makes what was created or renamed in dir survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
