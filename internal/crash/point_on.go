//go:build crashpoints

package crash

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
)

// Enabled says whether the binary was built with the tag crashpoints.
const Enabled = true

// passed counts the points of this process. It is the one counter that the
// whole process shares by purpose, and exists only under the build tag.
var passed atomic.Int64

// plan reads the environment once, at the first point.
var plan = sync.OnceValue(func() (p struct {
	at  int64
	log *os.File
},
) {
	if s := os.Getenv("VIGIL_CRASH_AT"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 1 {
			fmt.Fprintln(os.Stderr, "crash: VIGIL_CRASH_AT is not a positive number:", s)
			os.Exit(2)
		}
		p.at = n
	}
	if name := os.Getenv("VIGIL_CRASH_LOG"); name != "" {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			fmt.Fprintln(os.Stderr, "crash: VIGIL_CRASH_LOG:", err)
			os.Exit(2)
		}
		p.log = f
	}
	return p
})

// Point kills the process with SIGKILL when it is the one that VIGIL_CRASH_AT
// names, and appends its number and name to VIGIL_CRASH_LOG before.
func Point(name string) {
	p := plan()
	n := passed.Add(1)
	if p.log != nil {
		// One write call a line: O_APPEND keeps lines of several processes whole.
		_, _ = fmt.Fprintf(p.log, "%d %s\n", n, name)
	}
	if p.at == n {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way; nothing may run on
	}
}
