package ledger

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
)

// What a row of each tree must be, whatever the others hold: fsck asks it of every
// row, and a mark goes when its row is so again.

var (
	errKey      = errors.New("its key is malformed")
	errMisplace = errors.New("it lies under another's key")
	errValue    = errors.New("its value is malformed")
)

// wellFormed says why a row means nothing, or nil. Rows of trees that this version
// does not know are none of its business.
func wellFormed(name string, key, value []byte) error {
	for _, t := range trees() {
		if t.name == name {
			return t.read(key, value)
		}
	}
	return nil
}

// bareKey is for rows that are all key, of a known size.
func bareKey(size int) func(key, value []byte) error {
	return func(key, value []byte) error {
		switch {
		case len(key) != size:
			return errKey
		case len(value) != 0:
			return errValue
		}
		return nil
	}
}

// rowsOf is for rows of one type under keys of a known size; 0 is any.
func rowsOf[T any, R interface {
	*T
	row
}](size int) func(key, value []byte) error {
	return func(key, value []byte) error {
		if size != 0 && len(key) != size {
			return errKey
		}
		return decodeRow(value, R(new(T)))
	}
}

func decodeVTXO(key, value []byte) (*VTXO, error) {
	op, ok := parseOutpointKey(key)
	if !ok {
		return nil, errKey
	}
	v := &VTXO{Outpoint: op}
	return v, decodeRow(value, v)
}

func readSession(key, value []byte) error {
	if len(key) != idSize {
		return errKey
	}
	_, err := decodeRecord(vigil.DelegateID(key), value)
	return err
}

func decodeRecord(id vigil.DelegateID, b []byte) (*delegate.Record, error) {
	rec, err := delegate.DecodeRecord(b)
	if err != nil {
		return nil, err
	}
	if rec.ID != id {
		return nil, fmt.Errorf("%w: delegate %s", errMisplace, rec.ID)
	}
	return rec, nil
}

func readBranch(key, value []byte) error {
	_, err := decodeBranch(key, value)
	return err
}

func decodeBranch(key, value []byte) (*delegate.Branch, error) {
	b, err := delegate.DecodeBranch(value)
	if err != nil {
		return nil, err
	}
	if string(key) != string(branchKey(b.Delegate, b.Commitment)) {
		return nil, errMisplace
	}
	return b, nil
}

func readHistory(key, value []byte) error {
	_, err := decodeEntry(key, value)
	return err
}

func decodeEntry(key, value []byte) (*Entry, error) {
	e := new(Entry)
	if err := decodeRow(value, e); err != nil {
		return nil, err
	}
	if _, id, ok := parseTimeKey(key[min(len(key), 32):]); !ok || id != e.Delegate {
		return nil, errMisplace
	}
	return e, nil
}

func readPending(key, value []byte) error {
	if len(key) != idSize || len(value) != idSize {
		return errKey
	}
	return nil
}

func readCountRow(_, value []byte) error {
	_, err := decodeCount(value)
	return err
}

func readMeta(key, value []byte) error {
	switch name := string(key); name {
	case metaSchema, metaLayout:
		if len(value) != schemaSize {
			return errValue
		}
	case metaGeneration:
		if len(value) != len(Generation{}) {
			return errValue
		}
	case metaHold:
	case metaPinned:
		return decodeRow(value, new(Pinned))
	default:
		for _, prefix := range []string{metaRetired, metaService} {
			if text, ok := strings.CutPrefix(name, prefix); ok {
				_, err := bip340.ParsePubKeyHex(text)
				return err
			}
		}
		return errKey
	}
	return nil
}

// vouched says whether an index row whose sum is wrong is where it must be: the
// record that its key names says so. Then only its sum was hit.
func vouched(r reader, name string, key []byte) bool {
	if len(key) < idSize {
		return false
	}
	switch name {
	case treeDue, treeFlight, treeWatching, treeExpiries, treeEnded, treeScripts, treeTombstones:
	default:
		return false
	}
	rec, err := load(r, vigil.DelegateID(key[len(key)-idSize:]))
	if err != nil {
		return false
	}
	if name == treeTombstones {
		op, ok := parseOutpointKey(key[:len(key)-idSize])
		return ok && rec.Spends(op) && buries(rec.State)
	}
	return derived(rec)[treeKey{name, string(key)}]
}
