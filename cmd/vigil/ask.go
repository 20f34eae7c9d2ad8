package main

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"golang.org/x/term"

	"github.com/vigil-ark/vigil/secret"
)

// errNoTerminal says that there is nobody to ask.
var errNoTerminal = errors.New("there is no terminal to ask for the passphrase on; use --passphrase-file or --credential")

// ask reads a secret from the terminal without showing it.
func (e *environment) ask(prompt string) (secret.Bytes, error) {
	typed, err := e.typed(prompt)
	return secret.New(typed), err
}

// askNew is ask for a secret that is to be remembered: twice, the same.
func (e *environment) askNew(prompt string) (secret.Bytes, error) {
	first, err := e.typed(prompt + ", a new one: ")
	if err != nil {
		return secret.Bytes{}, err
	}
	defer clear(first)
	again, err := e.typed("Again: ")
	if err != nil {
		return secret.Bytes{}, err
	}
	if subtle.ConstantTimeCompare(first, again) != 1 {
		clear(again)
		return secret.Bytes{}, errors.New("the passphrases are not the same; nothing was made")
	}
	return secret.New(again), nil
}

func (e *environment) typed(prompt string) ([]byte, error) {
	fd := int(e.stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, errNoTerminal
	}
	fmt.Fprint(e.stderr, prompt)
	typed, err := term.ReadPassword(fd)
	fmt.Fprintln(e.stderr)
	if err != nil {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	if len(typed) == 0 {
		return nil, errors.New("the passphrase is empty")
	}
	return typed, nil
}
