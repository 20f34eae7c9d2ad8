package renewal

import (
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil/internal/caught"
)

// errPanic says that a worker met what its author did not foresee.
var errPanic = errors.New("renewal: a worker panicked")

// guard runs f, and logs a panic in it and makes an error of it.
func (e *Engine) guard(f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %w", errPanic, caught.Error(v))
			e.cfg.Log.Error("a worker panicked", "err", err, "stack", caught.Stack())
		}
	}()
	f()
	return nil
}
