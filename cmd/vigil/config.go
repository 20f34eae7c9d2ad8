package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/alecthomas/kong"
)

// loadTOML reads a configuration file whose keys are the flags' names. Unknown
// keys and wrong types are all told at once.
func loadTOML(r io.Reader) (kong.Resolver, error) {
	var values map[string]any
	if _, err := toml.NewDecoder(r).Decode(&values); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return &file{values: values}, nil
}

// file resolves flags from the configuration file.
type file struct{ values map[string]any }

// Validate refuses keys that no flag of any command has.
func (f *file) Validate(app *kong.Application) error {
	known := map[string]bool{}
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		for _, flag := range n.Flags {
			known[flag.Name] = true
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(app.Node)
	var unknown []string
	for _, key := range slices.Sorted(maps.Keys(f.values)) {
		if !known[key] {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("configuration: unknown keys: %s (names are the flags', without dashes in front)", strings.Join(unknown, ", "))
	}
	return nil
}

// Resolve returns the file's value for a flag.
func (f *file) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	v, ok := f.values[flag.Name]
	if !ok {
		return nil, nil
	}
	switch v := v.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, p := range v {
			parts[i] = fmt.Sprint(p)
		}
		return strings.Join(parts, ","), nil
	case map[string]any:
		return nil, fmt.Errorf("configuration: %s is a table; it must be a plain value", flag.Name)
	}
	return fmt.Sprint(v), nil
}
