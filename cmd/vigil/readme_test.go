package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// snippet is one fenced block of README.md with the mark before it: what the
// block is held to.
type snippet struct{ mark, kind, text string }

var fenced = regexp.MustCompile("(?s)(?:<!-- ([^\n]*) -->\n)?```([a-z]*)\n(.*?)```\n")

// snippets reads them; every one must be marked, and all kinds of marks occur.
func snippets(t *testing.T, mark string) (found []snippet) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fenced.FindAllStringSubmatch(string(page), -1) {
		if m[1] == "" {
			t.Errorf("no test runs this snippet of README.md:\n%s", m[3])
		}
		if strings.HasPrefix(m[1], mark) {
			found = append(found, snippet{m[1], m[2], m[3]})
		}
	}
	if len(found) == 0 {
		t.Fatalf("README.md has no snippet marked %q", mark)
	}
	return found
}

// varying is what differs from one run to the next.
var varying = regexp.MustCompile(`[0-9a-f]{64}|[0-9]+(\.[0-9]+)?`)

// TestReadmeShowsTheDemo holds the output in README.md to the demo's.
func TestReadmeShowsTheDemo(t *testing.T) {
	t.Parallel()
	for _, s := range snippets(t, "output of: ") {
		args := strings.Fields(strings.TrimPrefix(s.mark, "output of: "))
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Env = slices.Concat(os.Environ(), []string{"TMPDIR=" + t.TempDir()})
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if varying.ReplaceAllString(s.text, "N") == varying.ReplaceAllString(string(out), "N") {
			continue
		}
		if !*update {
			t.Errorf("README.md shows\n%s\nand the demo says\n%s\nrun go test ./cmd/vigil -run TestReadme -update", s.text, out)
			continue
		}
		path := filepath.Join(root, "README.md")
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Replace(page, []byte(s.text), out, 1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReadmeCommands runs what README.md tells a newcomer to run, in its order
// and in an empty folder, with `make build` done by TestMain and other ports.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	// The test's own context ends before its cleanup, which stops the servers.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(executable(t), filepath.Join(dir, "bin", "vigil")); err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{}
	var replace []string
	for _, p := range []string{"7070", "3000", "7002"} {
		free, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		ports[p] = free
		replace = append(replace, ":"+p, ":"+free)
	}
	elsewhere := strings.NewReplacer(replace...)
	// What goes on until it is stopped, with the flags for our ports and the port
	// that it opens.
	lasting := map[string][2]string{
		"operator dev": {"--listen 127.0.0.1:" + ports["7070"] + " --esplora 127.0.0.1:" + ports["3000"], ports["7070"]},
		"serve":        {"--listen 127.0.0.1:" + ports["7002"], ports["7002"]},
	}
	command := func(line string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+line)
		cmd.Dir, cmd.WaitDelay = dir, 10*time.Second
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.Env = slices.Concat(os.Environ(), []string{"HOME=" + dir, "XDG_CONFIG_HOME=" + filepath.Join(dir, "config")})
		return cmd
	}
	ran := 0
	for _, s := range snippets(t, "run") {
	lines:
		for line := range strings.Lines(s.text) {
			line = elsewhere.Replace(strings.TrimSpace(line))
			ran++
			if line == "make build" {
				continue
			}
			if url, ok := strings.CutPrefix(line, "curl "); ok {
				if body, code := fetch(url); code != 200 || !strings.Contains(body, `"pubkey"`) {
					t.Fatalf("%s: %d %s", line, code, body)
				}
				continue
			}
			for words, with := range lasting {
				if strings.HasPrefix(line, "bin/vigil "+words) {
					start(t, command(line+" "+with[0]), with[1])
					continue lines
				}
			}
			if out, err := command(line).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", line, err, out)
			}
		}
	}
	if ran < 5 {
		t.Errorf("only %d lines of README.md were run", ran)
	}
}

// start runs cmd until the test ends, and returns when it listens at port.
func start(t *testing.T, cmd *exec.Cmd, port string) {
	t.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		if err := <-ended; err != nil {
			t.Errorf("%s: %v\n%s", cmd, err, &out)
		}
	})
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			_ = c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended", cmd)
		case <-tick.C:
		}
	}
}

// TestReadmeQuotes holds quoted code to the file that it is quoted from, and
// every command of make to the Makefile.
func TestReadmeQuotes(t *testing.T) {
	for _, s := range snippets(t, "from: ") {
		source, err := os.ReadFile(filepath.Join(root, strings.TrimPrefix(s.mark, "from: ")))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(source), s.text) {
			t.Errorf("%s does not have, in one piece,\n%s", s.mark, s.text)
		}
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "CONTRIBUTING.md"} {
		page, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		targets := regexp.MustCompile("(?m)(?:^ *|`)make ([a-z-]+)").FindAllSubmatch(page, -1)
		if len(targets) == 0 {
			t.Errorf("%s names no target of make: the search is broken", name)
		}
		for _, m := range targets {
			if !strings.Contains(string(makefile), fmt.Sprintf("\n%s: ", m[1])) {
				t.Errorf("%s names `make %s`, which there is not", name, m[1])
			}
		}
	}
}
