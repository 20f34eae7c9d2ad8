package main

import (
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func parserOf(t *testing.T) *kong.Kong {
	t.Helper()
	parser, err := newParser(new(commands), io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	return parser
}

// TestEnvironmentNames holds every flag of every command to VIGIL_<FLAG>, and
// flags of one name to one meaning: file and environment do not say which
// command they are for.
func TestEnvironmentNames(t *testing.T) {
	type meaning struct{ kind, fallback, enum string }
	seen, flags := map[string]meaning{}, 0
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		for _, f := range n.Flags {
			if f.Name == "help" || f.Tag.Get("env") == "-" {
				continue
			}
			flags++
			want := "VIGIL_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
			if !reflect.DeepEqual(f.Envs, []string{want}) {
				t.Errorf("%s --%s has the variables %v, not %s", n.Path(), f.Name, f.Envs, want)
			}
			m := meaning{f.Target.Type().String(), f.Default, f.Enum}
			if before, ok := seen[f.Name]; ok && before != m {
				t.Errorf("%s --%s means %v, elsewhere %v", n.Path(), f.Name, m, before)
			}
			seen[f.Name] = m
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(parserOf(t).Model.Node)
	if flags < 50 {
		t.Fatalf("only %d flags were looked at", flags)
	}
}

// TestNoSecretFromFlags holds that nothing which sounds like a secret can be
// given on the command line or in the environment but as the name of a file or
// of a credential.
func TestNoSecretFromFlags(t *testing.T) {
	looked := 0
	for name, f := range flagsOf(parserOf(t).Model) {
		for _, word := range []string{"key", "passphrase", "secret", "identity", "credential", "token"} {
			if !strings.Contains(name, word) {
				continue
			}
			looked++
			path := f.Tag.Get("type") == "path"
			if !path && f.Target.Kind() != reflect.Bool && !strings.HasSuffix(name, "credential") {
				t.Errorf("--%s takes a value", name)
			}
		}
	}
	if looked < 5 {
		t.Fatalf("only %d flags were looked at", looked)
	}
}

// FuzzConfig holds that no file makes the command fall over.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"", "listen = \":1\"", "max-inputs = -1\nlog = 3", "[table]\nx = 1", "trusted-proxies = [\"::/0\", [1]]", "ban-duration = 1979-05-27T07:32:00Z", "listen = [{a = 1}]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parser, err := newParser(new(commands), io.Discard, io.Discard, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		files := loader{app: parser.Model}
		_, _ = files.load(strings.NewReader(text)) // an error is an answer
	})
}
