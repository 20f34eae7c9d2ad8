package script

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
)

// The protocol's own PSBT input fields (protocol section 3.6): key type de and
// a name, for cosigners followed by a big-endian index.
const (
	fieldType = 0xde

	fieldTapTree   = "taptree"
	fieldExpiry    = "expiry"
	fieldCosigner  = "cosigner"
	fieldCondition = "condition"

	// maxCosigners bounds the cosigner fields of one node: more than any
	// operator's limit of participants.
	maxCosigners = 1024
	// Bounds of a condition witness: items, and bytes of them all.
	maxWitnessItems = 64
	maxWitnessBytes = 16 << 10
)

var (
	// ErrField is returned for a field of the protocol that does not decode, or
	// that stands twice in an input.
	ErrField = errors.New("script: invalid PSBT field")
	// ErrNoField is returned for a field that the input does not have.
	ErrNoField = errors.New("script: no such PSBT field")
)

// named are the fields whose key contains the name. The operator matches that
// loosely, so we do: what it would take for the field must not escape us.
func named(in *psbt.PInput, name string) []*psbt.Unknown {
	var found []*psbt.Unknown
	for _, u := range in.Unknowns {
		if u != nil && bytes.Contains(u.Key, []byte(name)) {
			found = append(found, u)
		}
	}
	return found
}

// single is the value of the only field of that name.
func single(in *psbt.PInput, name string) ([]byte, error) {
	switch found := named(in, name); len(found) {
	case 0:
		return nil, fmt.Errorf("%w: %s", ErrNoField, name)
	case 1:
		return found[0].Value, nil
	default:
		return nil, fmt.Errorf("%w: %d fields %s", ErrField, len(found), name)
	}
}

// set replaces every field of that name by one.
func set(in *psbt.PInput, name string, value []byte) {
	drop(in, name)
	in.Unknowns = append(in.Unknowns, &psbt.Unknown{
		Key: append([]byte{fieldType}, name...), Value: value,
	})
}

func drop(in *psbt.PInput, name string) {
	in.Unknowns = slices.DeleteFunc(in.Unknowns, func(u *psbt.Unknown) bool {
		return u != nil && bytes.Contains(u.Key, []byte(name))
	})
}

// TapTree is the VTXO script that the input reveals.
func TapTree(in *psbt.PInput) (Tree, error) {
	v, err := single(in, fieldTapTree)
	if err != nil {
		return Tree{}, err
	}
	return ParseTapTree(v)
}

// SetTapTree reveals the VTXO script of the input.
func SetTapTree(in *psbt.PInput, t Tree) { set(in, fieldTapTree, t.TapTreeField()) }

// Expiry is the batch expiry of a tree node.
func Expiry(in *psbt.PInput) (ark.Delay, error) {
	v, err := single(in, fieldExpiry)
	if err != nil {
		return 0, err
	}
	seq, ok := parseNumber(v)
	if !ok {
		return 0, fmt.Errorf("%w: %s %.8x", ErrField, fieldExpiry, v)
	}
	d, err := ark.DelayFromSequence(seq)
	if err != nil {
		return 0, fmt.Errorf("%w: %s: %w", ErrField, fieldExpiry, err)
	}
	return d, nil
}

// SetExpiry writes the batch expiry of a tree node.
func SetExpiry(in *psbt.PInput, d ark.Delay) { set(in, fieldExpiry, numberBytes(d.Sequence())) }

// Cosigners are the cosigner keys of a tree node by ascending index. None is
// no error; an index that stands twice is.
func Cosigners(in *psbt.PInput) ([]bip340.PubKey, error) {
	type indexed struct {
		index uint32
		key   bip340.PubKey
	}
	found := named(in, fieldCosigner)
	if len(found) > maxCosigners {
		return nil, fmt.Errorf("%w: %d cosigners", ErrField, len(found))
	}
	keys := make([]indexed, len(found))
	for i, u := range found {
		at := bytes.Index(u.Key, []byte(fieldCosigner)) + len(fieldCosigner)
		if len(u.Key) != at+4 {
			return nil, fmt.Errorf("%w: %s key of %d bytes", ErrField, fieldCosigner, len(u.Key))
		}
		key, err := bip340.ParsePubKey(u.Value)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrField, fieldCosigner, err)
		}
		keys[i] = indexed{binary.BigEndian.Uint32(u.Key[at:]), key}
	}
	slices.SortStableFunc(keys, func(a, b indexed) int {
		return int(int64(a.index) - int64(b.index))
	})
	out := make([]bip340.PubKey, len(keys))
	for i, k := range keys {
		if i > 0 && keys[i-1].index == k.index {
			return nil, fmt.Errorf("%w: %s %d twice", ErrField, fieldCosigner, k.index)
		}
		out[i] = k.key
	}
	return out, nil
}

// SetCosigners writes the cosigner keys of a tree node in the given order.
func SetCosigners(in *psbt.PInput, keys []bip340.PubKey) {
	drop(in, fieldCosigner)
	for i, key := range keys {
		name := append([]byte{fieldType}, fieldCosigner...)
		in.Unknowns = append(in.Unknowns, &psbt.Unknown{
			Key: binary.BigEndian.AppendUint32(name, uint32(i)), Value: bytes.Clone(key[:]),
		})
	}
}

// Condition is the witness for the condition of the input's leaf, or a note's
// preimage.
func Condition(in *psbt.PInput) (wire.TxWitness, error) {
	v, err := single(in, fieldCondition)
	if err != nil {
		return nil, err
	}
	return parseWitness(v)
}

// SetCondition writes the witness for the condition of the input's leaf.
func SetCondition(in *psbt.PInput, w wire.TxWitness) {
	v := appendCompactSize(nil, uint64(len(w)))
	for _, item := range w {
		v = append(appendCompactSize(v, uint64(len(item))), item...)
	}
	set(in, fieldCondition, v)
}

func parseWitness(b []byte) (wire.TxWitness, error) {
	if len(b) > maxWitnessBytes {
		return nil, fmt.Errorf("%w: %s of %d bytes", ErrField, fieldCondition, len(b))
	}
	n, size, ok := compactSize(b)
	if !ok || n > maxWitnessItems {
		return nil, fmt.Errorf("%w: %s count", ErrField, fieldCondition)
	}
	b = b[size:]
	w := make(wire.TxWitness, 0, n)
	for range n {
		l, size, ok := compactSize(b)
		if !ok || l > uint64(len(b)-size) {
			return nil, fmt.Errorf("%w: %s item", ErrField, fieldCondition)
		}
		b = b[size:]
		w = append(w, bytes.Clone(b[:l]))
		b = b[l:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: %s has %d trailing bytes", ErrField, fieldCondition, len(b))
	}
	return w, nil
}
