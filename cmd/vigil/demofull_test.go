package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"testing"
)

// TestDemoFull plays a whole life and holds its last word to the story.
func TestDemoFull(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute")
	}
	t.Parallel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), executable(t), "demo", "--full", "--json", "--dir", t.TempDir())
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var got fullOutcome
	decoder := json.NewDecoder(&stdout)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil {
		t.Fatal(err)
	}
	switch {
	case !got.Renewed || !got.Recovered || !got.OldShutOut || got.KilledAtState != "registered" || got.PidBefore == got.PidAfter:
		t.Errorf("not renewed and recovered as it should be: %+v", got)
	case len(got.Delegates) != 2 || len(got.After) != 3 || got.Boarded != 100_000 || got.PaidIn != 20_000 || got.PaidOut != 30_000:
		t.Errorf("other coins: %+v", got)
	case got.Swept < 85_000 || got.ClockMoved < 90*86_400 || got.Unrolled < 2:
		t.Errorf("not left as it should be: %+v", got)
	case !got.Canary || got.Found != 0 || got.Secrets < 15 || got.Bytes < 100_000:
		t.Errorf("not searched as it should be: %+v", got)
	case got.Seconds > 120:
		t.Errorf("%.1f s", got.Seconds)
	}
	t.Logf("%.1f s", got.Seconds)
}
