//go:build crashpoints

package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/vigil-ark/vigil/secret"
)

// crashStates are the names that the store holds after each acknowledged step
// of the child.
func crashStates() [][]string {
	return [][]string{{}, {"a"}, {"a", "b"}, {"a", "b"}, {"b"}, {"b"}}
}

// TestCrash counts the crash points of creating a store and one step of each
// kind, and kills a process at each.
func TestCrash(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if dir := os.Getenv("VIGIL_CRASH_DIR"); dir != "" {
		crashChild(t, dir)
		return
	}
	if err := GenerateKeyFile(key); err != nil {
		t.Fatal(err)
	}
	if err := GenerateKeyFile(key + "2"); err != nil {
		t.Fatal(err)
	}
	points, states := 0, crashStates()
	for {
		dir := filepath.Join(t.TempDir(), "s")
		acked, killed := crashRun(t, dir, key, points+1)
		if !killed {
			break
		}
		points++
		s, err := Open(t.Context(), dir, KeyFile(key), Options{})
		if errors.Is(err, ErrWrongKey) && acked >= len(states)-2 { // in or after the rekey
			s, err = Open(t.Context(), dir, KeyFile(key+"2"), Options{})
		}
		if errors.Is(err, ErrMissing) && acked < 0 {
			s, err = Create(t.Context(), dir, KeyFile(key), Options{})
		}
		if err != nil {
			t.Fatalf("point %d, %d acknowledged: %v", points, acked, err)
		}
		names, err := s.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		now, next := states[max(acked, 0)], states[min(acked+1, len(states)-1)]
		if !slices.Equal(names, now) && !slices.Equal(names, next) {
			t.Errorf("point %d, %d acknowledged: %v", points, acked, names)
		}
		if err := errors.Join(s.Check(t.Context()), s.Close()); err != nil {
			t.Errorf("point %d: %v", points, err)
		}
	}
	t.Logf("killed at each of %d points", points)
	if points != 2*len(states) {
		t.Errorf("%d crash points, want %d", points, 2*len(states))
	}
}

func crashChild(t *testing.T, dir string) {
	key := os.Getenv("VIGIL_CRASH_KEY")
	s, err := Create(t.Context(), dir, KeyFile(key), Options{})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("acked")
	for _, step := range []func() error{
		func() error { return s.Put(t.Context(), "a", secret.New([]byte("alpha"))) },
		func() error { return s.Put(t.Context(), "b", secret.New([]byte("beta"))) },
		func() error { return s.Put(t.Context(), "b", secret.New(bytes.Repeat([]byte("beta"), 100))) },
		func() error { return s.Delete(t.Context(), "a") },
		func() error { return s.Rekey(t.Context(), KeyFile(key+"2")) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		fmt.Println("acked")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// crashRun returns the last step that the child acknowledged, 0 being the
// creation, -1 before it.
func crashRun(t *testing.T, dir, key string, at int) (acked int, killed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrash$")
	cmd.Env = append(os.Environ(), "VIGIL_CRASH_DIR="+dir, "VIGIL_CRASH_KEY="+key, fmt.Sprint("VIGIL_CRASH_AT=", at))
	out, err := cmd.Output()
	acked = bytes.Count(out, []byte("acked\n")) - 1
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
