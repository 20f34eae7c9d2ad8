package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/alecthomas/kong"
)

// loader reads a configuration file whose keys are the flags' names. Unknown
// keys and unusable values are all told at once.
type loader struct{ app *kong.Application }

func (l *loader) load(r io.Reader) (kong.Resolver, error) {
	var values map[string]any
	if _, err := toml.NewDecoder(r).Decode(&values); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	f := &file{values: values}
	return f, f.check(l.app)
}

// withConfig adds the file that VIGIL_CONFIG names to the command line, unless
// that names one: kong reads the file of a flag only.
func withConfig(args []string) []string {
	path := os.Getenv("VIGIL_CONFIG")
	given := slices.ContainsFunc(args, func(a string) bool { return a == "--config" || strings.HasPrefix(a, "--config=") })
	if path == "" || given {
		return args
	}
	return append([]string{"--config=" + path}, args...)
}

// file resolves flags from the configuration file.
type file struct{ values map[string]any }

// flagsOf returns every flag that can be configured, by name. Flags of one name
// have one meaning, which a test holds; the few that come from the command line
// alone are tagged env:"-".
func flagsOf(app *kong.Application) map[string]*kong.Flag {
	known := map[string]*kong.Flag{}
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		for _, flag := range n.Flags {
			if _, ok := known[flag.Name]; !ok && len(flag.Envs) > 0 {
				known[flag.Name] = flag
			}
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(app.Node)
	return known
}

// Validate implements kong.Resolver. It comes after the values were used, so
// that all is checked before.
func (f *file) Validate(*kong.Application) error { return nil }

// check refuses keys that no flag of any command has, and values that their flag
// cannot take.
func (f *file) check(app *kong.Application) error {
	known := flagsOf(app)
	var wrong []error
	for _, key := range slices.Sorted(maps.Keys(f.values)) {
		flag, ok := known[key]
		if !ok || key == "config" {
			wrong = append(wrong, fmt.Errorf("unknown key %q; keys are the flags' names without dashes in front", key))
			continue
		}
		value, err := plain(f.values[key])
		if err == nil {
			err = try(flag, value)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", key, err))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("configuration:\n  %s", strings.ReplaceAll(errors.Join(wrong...).Error(), "\n", "\n  "))
	}
	return nil
}

// try parses a value for a flag without setting it.
func try(flag *kong.Flag, value string) error {
	if flag.Enum != "" && !flag.EnumMap()[value] {
		return fmt.Errorf("must be one of %s, not %q", flag.Enum, value)
	}
	scratch := reflect.New(flag.Target.Type()).Elem()
	return flag.Parse(kong.Scan().PushTyped(value, kong.FlagValueToken), scratch)
}

// plain is a TOML value as a flag's text.
func plain(v any) (string, error) {
	switch v := v.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, p := range v {
			part, err := plain(p)
			if err != nil {
				return "", err
			}
			parts[i] = part
		}
		return strings.Join(parts, ","), nil
	case map[string]any, []map[string]any:
		return "", errors.New("is a table; it must be a plain value")
	}
	return fmt.Sprint(v), nil
}

// Resolve returns the file's value for a flag. kong sets the environment's value
// before it asks here, so that a flag with one is left as it is.
func (f *file) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	v, ok := f.values[flag.Name]
	if !ok || len(flag.Envs) == 0 || v == "" {
		return nil, nil
	}
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	return plain(v)
}
