package main

import (
	"errors"
	"fmt"

	"golang.org/x/term"

	"github.com/vigil-ark/vigil/secret"
)

// ask reads a secret from the terminal without showing it.
func (e *environment) ask(prompt string) (secret.Bytes, error) {
	fd := int(e.stdin.Fd())
	if !term.IsTerminal(fd) {
		return secret.Bytes{}, errors.New("there is no terminal to ask for the passphrase on; use --passphrase-file or --credential")
	}
	fmt.Fprint(e.stderr, prompt)
	typed, err := term.ReadPassword(fd)
	fmt.Fprintln(e.stderr)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("read the passphrase: %w", err)
	}
	if len(typed) == 0 {
		return secret.Bytes{}, errors.New("the passphrase is empty")
	}
	return secret.New(typed), nil
}
