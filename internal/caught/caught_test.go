package caught_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil/internal/caught"
)

// recovered runs f and returns what is told of its panic.
func recovered(f func()) (stack string, err error) {
	defer func() { err, stack = caught.Error(recover()), caught.Stack() }()
	f()
	return "", nil
}

// told panics with what must not be told, in its value and in its argument.
//
//go:noinline
func told(canary []byte) { panic(fmt.Errorf("opened %s", canary)) }

func TestTellsWhereAndNotWhat(t *testing.T) {
	canary := []byte("canary")
	stack, err := recovered(func() { told(canary) })
	if text := err.Error() + stack; strings.Contains(text, "canary") || strings.Contains(text, "0x") {
		t.Errorf("told %s, %s", err, stack)
	}
	if !strings.Contains(stack, "caught_test.told:") {
		t.Errorf("the stack does not name what panicked: %s", stack)
	}
}

func TestTellsWhatTheRuntimeFound(t *testing.T) {
	var fault runtime.Error
	_, err := recovered(func() {
		var none []int
		_ = none[len(t.Name())]
	})
	if !errors.As(err, &fault) || !strings.Contains(err.Error(), "index out of range") {
		t.Errorf("told %v", err)
	}
}
