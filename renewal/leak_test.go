package renewal_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain holds that nothing of an engine, its streams and its workers outlives
// the tests.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
