package ledger

import (
	"context"

	"github.com/vigil-ark/vigil/kv"
)

// Seal and Unseal are the encoding edge, for tests that write or read rows
// behind it.
func Seal(tree string, key, value []byte) []byte { return seal(tree, key, value) }

// Unseal is the inverse of Seal.
func Unseal(tree string, key, stored []byte) ([]byte, error) { return unseal(tree, key, stored) }

// Trees names every tree.
func Trees() []string {
	var names []string
	for _, t := range trees() {
		names = append(names, t.name)
	}
	return names
}

// Crowd has it that as many requests of strangers are remembered as may be.
func (l *Ledger) Crowd(ctx context.Context) error {
	return l.update(ctx, func(w writer) error { return putNumber(w, countStrangers, maxStrangers) })
}

// PutSchema sets the schema number and its witness.
func PutSchema(w kv.Writer, schema uint32) error { return putSchema(w, schema) }
