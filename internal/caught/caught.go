// Package caught owns what may be told of a panic that was recovered: where it
// happened and of what kind it is. It tells nothing of the values that were at
// hand, among which may be words of a secret.
package caught

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
)

// maxFrames bounds how much of the stack is told.
const maxFrames = 32

// Error describes a recovered value by its type alone; a fault that the runtime
// itself found is wrapped and tells of indexes and types at most.
func Error(v any) error {
	var fault runtime.Error
	if err, ok := v.(error); ok && errors.As(err, &fault) {
		return fmt.Errorf("%T: %w", v, fault)
	}
	return fmt.Errorf("panic with a %T", v)
}

// Stack names the functions and lines that lead to its caller and, unlike the
// runtime's own trace, none of their arguments. It is called in the function
// that recovers: the frames of the panic are still there.
func Stack() string {
	var pcs [maxFrames]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	var lines []string
	for {
		f, more := frames.Next()
		lines = append(lines, fmt.Sprintf("%s:%d", f.Function, f.Line))
		if !more {
			return strings.Join(lines, " < ")
		}
	}
}
