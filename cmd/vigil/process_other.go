//go:build !linux

package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// harden keeps the process's memory, in which secrets are, out of core dumps.
func harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	return nil
}

// reserve makes a file take size bytes of the disk.
func reserve(f *os.File, size int64) error { return fill(f, size) }
