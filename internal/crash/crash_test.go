package crash_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vigil-ark/vigil/internal/crash"
)

// TestPoint runs itself as a child that passes three points.
func TestPoint(t *testing.T) {
	if os.Getenv("VIGIL_CRASH_CHILD") != "" {
		for _, p := range []string{"a", "b", "c"} {
			crash.Point(p)
		}
		return
	}
	log := filepath.Join(t.TempDir(), "log")
	for _, c := range []struct{ at, lines string }{
		{"1", "1 a\n"}, {"3", "1 a\n2 b\n3 c\n"}, {"4", "1 a\n2 b\n3 c\n"}, {"", "1 a\n2 b\n3 c\n"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPoint$")
		cmd.Env = append(os.Environ(), "VIGIL_CRASH_CHILD=1", "VIGIL_CRASH_AT="+c.at, "VIGIL_CRASH_LOG="+log)
		err := cmd.Run()
		killed := false
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			status, ok := exit.Sys().(syscall.WaitStatus)
			killed = ok && status.Signal() == syscall.SIGKILL
		}
		wantKill := crash.Enabled && (c.at == "1" || c.at == "3")
		if killed != wantKill || !wantKill && err != nil {
			t.Errorf("VIGIL_CRASH_AT=%s: killed %v, want %v (%v)", c.at, killed, wantKill, err)
		}
		b, err := os.ReadFile(log)
		if crash.Enabled && (err != nil || string(b) != c.lines) {
			t.Errorf("VIGIL_CRASH_AT=%s logged %q, %v; want %q", c.at, b, err, c.lines)
		}
		if !crash.Enabled && strings.TrimSpace(string(b)) != "" {
			t.Errorf("without the build tag %q was logged", b)
		}
		_ = os.Remove(log)
	}
}
