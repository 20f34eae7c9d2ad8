package ark

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/address/v2/base58"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

const (
	// NotePrefix begins the text of a note.
	NotePrefix = "arknote"
	noteLen    = 32 + 4
	// noteMax bounds the base58 text of a note; 36 bytes make at most 50 digits.
	noteMax = 64
)

// ErrNote is returned for text that is no note.
var ErrNote = errors.New("ark: invalid note")

// Note is a claim on the operator, spent by its preimage alone (protocol section
// 3.7). Its Preimage is as good as the money.
type Note struct {
	Preimage [32]byte
	Value    uint32 // satoshis
}

// ParseNote reads a note with the given prefix, NotePrefix on real networks.
func ParseNote(prefix, s string) (Note, error) {
	digits, ok := strings.CutPrefix(s, prefix)
	if !ok || len(digits) > noteMax {
		return Note{}, ErrNote
	}
	b := base58.Decode(digits)
	if len(b) != noteLen {
		return Note{}, fmt.Errorf("%w: %d bytes", ErrNote, len(b))
	}
	return Note{Preimage: [32]byte(b), Value: binary.BigEndian.Uint32(b[32:])}, nil
}

// Encode writes the note with the given prefix. There is no String method: a
// note must not be printed by accident.
func (n Note) Encode(prefix string) string {
	return prefix + base58.Encode(binary.BigEndian.AppendUint32(n.Preimage[:], n.Value))
}

// Hash is what the note's script asks a preimage of.
func (n Note) Hash() [32]byte { return sha256.Sum256(n.Preimage[:]) }

// Outpoint is the outpoint that a note pretends to be.
func (n Note) Outpoint() wire.OutPoint { return wire.OutPoint{Hash: chainhash.Hash(n.Hash())} }
