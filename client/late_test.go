package client_test

import (
	"testing"
	"time"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

// TestRegisteredUnheard: an intent whose registration was answered to nobody is
// taken back like any other.
func TestRegisteredUnheard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{Settings: arktest.Settings{SessionDuration: time.Second, MinParticipants: 2}})
	d, err := client.Create(w.ctx, w.config(secrettest.NewMemory()), w.seed(), client.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := w.op.Mint(w.output(d, 40_000)); err != nil {
		t.Fatal(err)
	}
	w.op.Fault(arktest.Fault{Method: "RegisterIntent", LoseAnswer: true, Times: 1})
	if _, err := d.Renew(w.ctx); err == nil {
		t.Fatal("renewed without an answer")
	}
	if left := w.op.Stats().Queue; len(left) > 0 {
		t.Errorf("queued for ever: %+v", left)
	}
}
