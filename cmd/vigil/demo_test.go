package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDemo plays the demo with a kill in every live state, two at a time, and
// holds its last word to the contract: every field, the kill in that state,
// another process, another coin, the canary and no secret.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("some minutes")
	}
	for _, state := range demoStates {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			dir := t.TempDir()
			cmd := exec.CommandContext(t.Context(), executable(t), "demo", "--json", "--dir", dir, "--kill-at", state)
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, stderr.String())
			}
			fields := map[string]any{}
			if err := json.Unmarshal(stdout.Bytes(), &fields); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{
				"renewed", "killed_at_state", "pid_before", "pid_after", "vtxo_before", "vtxo_after", "batch", "kv_dir",
				"secrets_searched", "bytes_searched", "canary_found", "secret_bytes_found_in_kv", "seconds",
			} {
				if _, ok := fields[name]; !ok {
					t.Errorf("%s is missing", name)
				}
			}
			var got outcome
			decoder := json.NewDecoder(&stdout)
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(&got); err != nil {
				t.Fatal(err)
			}
			if !got.Renewed || got.KilledAtState != state || got.PidBefore == got.PidAfter || got.VtxoBefore == got.VtxoAfter || len(got.Batch) != 64 {
				t.Errorf("not renewed as it should be: %+v", got)
			}
			if !got.Canary || got.Found != 0 || got.Secrets < 3 || got.Bytes < 10_000 || got.KvDir != filepath.Join(dir, "vigil", "kv") {
				t.Errorf("not searched as it should be: %+v", got)
			}
			t.Logf("%.1f s", got.Seconds)
		})
	}
}
