// Command leaks looks for every secret of a stopped Vigil, in every encoding,
// in its key-value store and in the files named, and proves that it can find
// one: `leaks DATA-DIR [FILE…]` prints one JSON object and fails when a secret
// was found or the planted canary was not.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/sealed"
	"github.com/vigil-ark/vigil/secret/search"
)

// report is what is printed.
type report struct {
	Secrets int      `json:"secrets_searched"`
	Bytes   int64    `json:"bytes_searched"`
	Canary  bool     `json:"canary_found"`
	Found   []string `json:"found"`
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: leaks DATA-DIR [FILE...]")
		os.Exit(2)
	}
	r, err := run(context.Background(), os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "leaks:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil || len(r.Found) > 0 || !r.Canary {
		os.Exit(1)
	}
}

func run(ctx context.Context, data string, files []string) (report, error) {
	searcher := new(search.Searcher)
	if err := addSecrets(ctx, searcher, data); err != nil {
		return report{}, err
	}
	kv := filepath.Join(data, "kv")
	found, err := searcher.FS(os.DirFS(kv))
	if err != nil {
		return report{}, err
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return report{}, err
		}
		found = append(found, searcher.Text(name, text)...)
	}
	r := report{Secrets: searcher.Secrets(), Bytes: searcher.Bytes(), Found: []string{}}
	for _, f := range found {
		r.Found = append(r.Found, f.String())
	}
	scratch, err := os.MkdirTemp("", "leaks-")
	if err != nil {
		return report{}, err
	}
	r.Canary, err = search.Prove(kv, filepath.Join(scratch, "canary"))
	return r, errors.Join(err, os.RemoveAll(scratch))
}

// addSecrets teaches the searcher every sealed value and the key-encryption
// key.
func addSecrets(ctx context.Context, searcher *search.Searcher, data string) (err error) {
	keyFile := filepath.Join(data, "kek")
	store, err := sealed.Open(ctx, filepath.Join(data, "secrets"), sealed.KeyFile(keyFile), sealed.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	names, err := store.List(ctx, "")
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errors.New("the secret store is empty: nothing to search for")
	}
	for _, name := range names {
		value, err := store.Get(ctx, name)
		if err != nil {
			return err
		}
		if err := searcher.Add(name, value); err != nil {
			return err
		}
	}
	raw, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	return searcher.Add("key-encryption key", secret.New(raw))
}
