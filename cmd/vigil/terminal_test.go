package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// TestTerminal holds that what a peer said does nothing to a terminal.
func TestTerminal(t *testing.T) {
	for said, want := range map[string]string{
		"1,000 sats für Zoë\n\tend": "1,000 sats für Zoë\n\tend",
		"\x1b[2J\x1b]0;x\a":         `\u001b[2J\u001b]0;x\u0007`,
		"all\rnothing\x00\x7f":      `all\u000dnothing\u0000\u007f`,
		"\u009b31m":                 `\u009b31m`,
		"\x9b31m\xff":               `\x9b31m\xff`,
		"a\u202eb\u2066c\u2028":     `a\u202eb\u2066c\u2028`,
		"\ufffd":                    "\ufffd",
	} {
		var b bytes.Buffer
		n, err := terminal{&b}.Write([]byte(said))
		if err != nil || n != len(said) || b.String() != want {
			t.Errorf("%q is written as %q (%d, %v), not %q", said, &b, n, err, want)
		}
	}
	if got := cell("spent\nvigil: all is well\t!"); got != `spent\u000avigil: all is well\u0009!` {
		t.Errorf("a cell %q", got)
	}
	if got := reason(errors.New("refused\nvigil: all is well\n")); got != "refused\n  vigil: all is well" {
		t.Errorf("a reason %q", got)
	}
	var b bytes.Buffer
	said := map[string]string{"a": "\x1b[2J\u009b\u202e\n\x7f"}
	e := environment{stdout: terminal{&b}, json: true}
	if err := e.print(said, ""); err != nil {
		t.Fatal(err)
	}
	var read map[string]string
	if err := json.Unmarshal(b.Bytes(), &read); err != nil || read["a"] != said["a"] || strings.ContainsAny(b.String(), "\x1b\u009b\u202e\x7f") {
		t.Errorf("as JSON %q, %v", read, err)
	}
}

// TestTerminalEverywhere has a command fail with a text that is not its own.
func TestTerminalEverywhere(t *testing.T) {
	var out, said bytes.Buffer
	if code := run([]string{"wallet", "address", "--wallet-dir", t.TempDir() + "/\x1b[2J\nvigil: all is well"}, os.Stdin, &out, &said); code != 1 {
		t.Fatalf("code %d: %s", code, &said)
	}
	if text := out.String() + said.String(); strings.Contains(text, "\x1b") || strings.Contains(text, "\nvigil: all is well") || !strings.Contains(text, `\u001b[2J`) {
		t.Errorf("written: %q", text)
	}
}
