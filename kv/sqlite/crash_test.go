//go:build crashpoints

package sqlite_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/sqlite"
)

// crashUpdates is what the child acknowledges when nobody kills it.
const crashUpdates = 4

// TestCrash counts the crash points of creating a store and a few updates, and
// kills a process at each: what it acknowledged is there, whole.
func TestCrash(t *testing.T) {
	if dir := os.Getenv("VIGIL_CRASH_DIR"); dir != "" {
		crashChild(t, dir)
		return
	}
	points := 0
	for {
		dir := filepath.Join(t.TempDir(), "kv")
		acked, killed := crashRun(t, dir, points+1)
		if !killed {
			break
		}
		points++
		s, err := sqlite.Open(t.Context(), dir, sqlite.Options{})
		if errors.Is(err, sqlite.ErrMissing) && acked < 0 {
			s, err = sqlite.Create(t.Context(), dir, sqlite.Options{})
		}
		if err != nil {
			t.Fatalf("point %d, %d acknowledged: %v", points, acked, err)
		}
		err = s.View(t.Context(), func(r kv.Reader) error {
			a, errA := r.Get("a", []byte("n"))
			b, errB := r.Get("b", []byte("n"))
			if err := errors.Join(errA, errB); err != nil && !errors.Is(err, kv.ErrNotFound) {
				return err
			}
			n, _ := strconv.Atoi(string(a)) // absent is 0
			if !bytes.Equal(a, b) || n < acked || n > max(acked, 0)+1 {
				return fmt.Errorf("%q and %q after %d were acknowledged", a, b, acked)
			}
			return nil
		})
		if err := errors.Join(err, s.Check(t.Context()), s.Close()); err != nil {
			t.Errorf("point %d: %v", points, err)
		}
	}
	t.Logf("killed at each of %d points", points)
	// Two for the creation and two for each update.
	if points != 2+2*crashUpdates {
		t.Errorf("%d crash points, want %d", points, 2+2*crashUpdates)
	}
}

func crashChild(t *testing.T, dir string) {
	s, err := sqlite.Create(t.Context(), dir, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("acked 0")
	for i := range crashUpdates {
		n := []byte(fmt.Sprint(i + 1))
		err := s.Update(t.Context(), func(w kv.Writer) error {
			return errors.Join(w.Put("a", []byte("n"), n), w.Put("b", []byte("n"), n))
		})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("acked %s\n", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// crashRun returns the last update that the child acknowledged, -1 before the
// creation was.
func crashRun(t *testing.T, dir string, at int) (acked int, killed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrash$")
	cmd.Env = append(os.Environ(), "VIGIL_CRASH_DIR="+dir, fmt.Sprint("VIGIL_CRASH_AT=", at))
	out, err := cmd.Output()
	acked = bytes.Count(out, []byte("acked ")) - 1
	if err == nil {
		return acked, false
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGKILL {
			return acked, true
		}
	}
	t.Fatalf("point %d: %v\n%s", at, err, out)
	return 0, false
}
