package renewal

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
)

// errPanic says that a worker met what its author did not foresee.
var errPanic = errors.New("renewal: a worker panicked")

// guard runs f, and logs a panic in it and makes an error of it.
func (e *Engine) guard(f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", errPanic, v)
			e.cfg.Log.Error("a worker panicked", "err", err, "stack", trace())
		}
	}()
	f()
	return nil
}

// trace names the functions and lines of the stack and, unlike the runtime's own
// trace, none of their arguments: among those may be words of a secret.
func trace() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	var lines []string
	for {
		f, more := frames.Next()
		lines = append(lines, fmt.Sprintf("%s:%d", f.Function, f.Line))
		if !more {
			return strings.Join(lines, " < ")
		}
	}
}
