package ledger

import "github.com/vigil-ark/vigil/kv"

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

// PutSchema sets the schema number and its witness.
func PutSchema(w kv.Writer, schema uint32) error { return putSchema(w, schema) }
