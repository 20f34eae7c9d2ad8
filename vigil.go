// Package vigil owns the words that every other room speaks: identifiers and
// the one table of error codes. It does no I/O and imports no other room.
package vigil

import (
	"encoding/hex"
	"fmt"
)

// WalletID is a wallet's canonical id: the 32-byte x-only public key of its
// FROST group.
type WalletID [32]byte

// String returns the id in lower-case hex.
func (w WalletID) String() string { return hex.EncodeToString(w[:]) }

// DelegateID names a delegate. A stock delegate's id is the first 16 bytes of
// SHA-256 over its proof's txid.
type DelegateID [16]byte

// String returns the id in lower-case hex.
func (d DelegateID) String() string { return hex.EncodeToString(d[:]) }

// ParseDelegateID reads the 32 hex digits that String writes.
func ParseDelegateID(s string) (DelegateID, error) {
	var id DelegateID
	if len(s) != hex.EncodedLen(len(id)) {
		return id, fmt.Errorf("delegate id: want %d hex digits, got %d characters", hex.EncodedLen(len(id)), len(s))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("delegate id: %w", err)
	}
	return id, nil
}
