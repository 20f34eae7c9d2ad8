package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write docs/configuration.md and the demo's output in README.md anew")

// root is the module's folder.
var root = filepath.Join("..", "..")

// TestConfigurationDoc holds the page of flags to the flags.
func TestConfigurationDoc(t *testing.T) {
	page := filepath.Join(root, "docs", "configuration.md")
	want := configurationPage(parserOf(t).Model)
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Error("docs/configuration.md is not what the flags are: go test ./cmd/vigil -run TestConfigurationDoc -update")
	}
}

const configurationHead = `# Configuration

Generated from the flags by ` + "`go test ./cmd/vigil -run TestConfigurationDoc -update`" + `. Do not edit.

Every flag of ` + "`vigil serve`" + ` can be given in four places, the first that has it wins:

1. on the command line, ` + "`--max-inputs 64`" + `,
2. in the environment, ` + "`VIGIL_MAX_INPUTS=64`" + ` (an empty variable counts as none),
3. in a TOML file that ` + "`--config`" + ` or ` + "`VIGIL_CONFIG`" + ` names, ` + "`max-inputs = 64`" + `,
4. its default.

The other commands read the same file, for the places of the data, and leave the rest. Keys that are no flag's are errors,
and all of them are told at once. ` + "`vigil config check`" + ` tells everything that is wrong, ` + "`vigil config print`" + ` what it comes to.
Secrets are never flags or variables: they come from files, from the terminal or from systemd credentials.
At SIGHUP ` + "`log`" + ` and the certificate are read again; anything else takes a restart.
`

// configurationPage is the page for the command line's model.
func configurationPage(app *kong.Application) []byte {
	var b bytes.Buffer
	places := regexp.MustCompile(`<[a-z-]+>[a-z./]*[a-z]`)
	b.WriteString(configurationHead)
	table := func(title string, flags []*kong.Flag) {
		fmt.Fprintf(&b, "\n## %s\n\n| flag | default | what it is |\n|---|---|---|\n", title)
		for _, f := range flags {
			if f.Name == "help" {
				continue
			}
			value := f.Default
			if value == "" && f.IsBool() {
				value = "false"
			}
			if value != "" {
				value = "`" + value + "`"
			}
			if f.Name == "data-dir" {
				value = "`vigil` in the user's configuration directory, as `~/.config`"
			}
			help := places.ReplaceAllString(strings.ReplaceAll(f.Help, "|", "\\|"), "`$0`")
			fmt.Fprintf(&b, "| `--%s` | %s | %s |\n", f.Name, value, help)
		}
	}
	table("Every command", app.Flags)
	served := map[string]bool{}
	for _, node := range app.Leaves(true) {
		if node.FullPath() == "vigil serve" {
			table("vigil serve", node.Flags)
			for _, f := range node.Flags {
				served[f.Name] = true
			}
		}
	}
	b.WriteString("\n## The other commands\n\nThey take `--config`, `--json`, `--log` and, where they need them, the places above; beside those:\n")
	for _, node := range app.Leaves(true) {
		var own []string
		for _, f := range node.Flags {
			if f.Name != "help" && !served[f.Name] || f.Tag.Get("env") == "-" {
				line := fmt.Sprintf("  - `--%s`: %s", f.Name, f.Help)
				if f.Default != "" {
					line += fmt.Sprintf(" Default `%s`.", f.Default)
				}
				own = append(own, line)
			}
		}
		if node.FullPath() == "vigil serve" {
			continue
		}
		var arguments string
		for _, a := range node.Positional {
			arguments += " " + strings.ToUpper(a.Name)
		}
		fmt.Fprintf(&b, "\n- `%s%s`: %s", node.FullPath(), arguments, node.Help)
		for _, line := range own {
			b.WriteString("\n" + line)
		}
	}
	b.WriteString("\n")
	return b.Bytes()
}

// TestDeployment holds the files of deploy/ to what they configure.
func TestDeployment(t *testing.T) {
	deploy := filepath.Join(root, "deploy")
	t.Run("configuration", func(t *testing.T) {
		out, err := exec.Command(executable(t), "config", "check", "--config", filepath.Join(deploy, "vigil.toml")).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})
	t.Run("unit", func(t *testing.T) {
		tool, err := exec.LookPath("systemd-analyze")
		if err != nil {
			t.Skip("no systemd-analyze here")
		}
		unit, err := os.ReadFile(filepath.Join(deploy, "vigil.service"))
		if err != nil {
			t.Fatal(err)
		}
		const installed = "/usr/local/bin/vigil"
		if !bytes.Contains(unit, []byte("ExecStart="+installed+" serve")) {
			t.Fatal("the unit does not start " + installed)
		}
		path := filepath.Join(t.TempDir(), "vigil.service")
		if err := os.WriteFile(path, bytes.ReplaceAll(unit, []byte(installed), []byte(executable(t))), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(tool, "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("systemd-analyze verify: %v\n%s", err, out)
		}
	})
}
