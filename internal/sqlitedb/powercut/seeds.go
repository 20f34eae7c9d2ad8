package powercut

import (
	"os"
	"strconv"
	"testing"
)

// slow is by how much fewer seeds run with -short or the race detector, under
// which SQLite is some ten times slower.
const slow = 5

// Seeds returns how many seeds a test runs: n, times the environment variable
// VIGIL_POWERCUT_TIMES, by which nights run more than a change does.
func Seeds(t *testing.T, n int) uint64 {
	t.Helper()
	times := 1
	if s := os.Getenv("VIGIL_POWERCUT_TIMES"); s != "" {
		var err error
		if times, err = strconv.Atoi(s); err != nil || times < 1 {
			t.Fatalf("VIGIL_POWERCUT_TIMES=%q is no positive number", s)
		}
	}
	if testing.Short() || raceDetector {
		n = max(n/slow, 1)
	}
	return uint64(n * times)
}
