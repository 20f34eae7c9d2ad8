package ledger

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// Snapshot reads the rows of a ledger one by one, the malformed ones too. It is
// for fsck: everything else asks the Ledger.
type Snapshot struct{ r kv.Reader }

// Inspect runs f on one consistent state of the store, whether or not it can be
// opened as a ledger.
func Inspect(ctx context.Context, store kv.Store, f func(*Snapshot) error) error {
	return store.View(ctx, func(r kv.Reader) error { return f(&Snapshot{r}) })
}

// Meta returns what is wrong with the schema number and the generation, or nil.
func (s *Snapshot) Meta() error {
	var bad []error
	for name, size := range map[string]int{metaSchema: 4, metaGeneration: len(Generation{})} {
		b, err := s.r.Get(treeMeta, []byte(name))
		if err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", name, err))
		} else if len(b) != size {
			bad = append(bad, fmt.Errorf("%w: %s has %d bytes, want %d", ErrUnreadable, name, len(b), size))
		}
	}
	return errors.Join(bad...)
}

// Records calls f for every record, with the error of one that is unreadable.
func (s *Snapshot) Records(f func(vigil.DelegateID, *delegate.Record, error) error) error {
	return s.r.Scan(treeSessions, nil, nil, func(key, value []byte) error {
		if len(key) != idSize {
			return f(vigil.DelegateID{}, nil, fmt.Errorf("%w: key %x", ErrUnreadable, key))
		}
		id := vigil.DelegateID(key)
		rec, err := decodeRecord(id, value)
		return f(id, rec, err)
	})
}

// Record returns one record, ErrNotFound or ErrUnreadable.
func (s *Snapshot) Record(id vigil.DelegateID) (*delegate.Record, error) { return load(s.r, id) }

// MissingRows describes the rows that r must have in the derived indexes and
// lacks.
func (s *Snapshot) MissingRows(r *delegate.Record) ([]string, error) {
	var missing []string
	for row := range derived(r) {
		_, err := s.r.Get(row.tree, []byte(row.key))
		if errors.Is(err, kv.ErrNotFound) {
			missing = append(missing, row.tree+" "+hex.EncodeToString([]byte(row.key)))
		} else if err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// StrayRows calls f for every row of the derived indexes that no record asks
// for. Rows of unreadable records are left out: they wait for Quarantine.
func (s *Snapshot) StrayRows(f func(row string) error) error {
	for _, tree := range []string{treeDue, treeFlight, treeExpiries, treeEnded, treeScripts} {
		err := s.r.Scan(tree, nil, nil, func(key, _ []byte) error {
			if len(key) >= idSize {
				rec, err := load(s.r, vigil.DelegateID(key[len(key)-idSize:]))
				if errors.Is(err, ErrUnreadable) || err == nil && derived(rec)[treeKey{tree, string(key)}] {
					return nil
				}
				if err != nil && !errors.Is(err, ErrNotFound) {
					return err
				}
			}
			return f(tree + " " + hex.EncodeToString(key))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// VTXOs calls f for every VTXO row.
func (s *Snapshot) VTXOs(f func(*VTXO, error) error) error {
	return s.r.Scan(treeVTXOs, nil, nil, func(key, value []byte) error {
		v := new(VTXO)
		op, ok := parseOutpointKey(key)
		err := decodeRow(value, v)
		if err != nil || !ok {
			return f(nil, fmt.Errorf("%w: row %x: %w", ErrUnreadable, key, err))
		}
		v.Outpoint = op
		return f(v, nil)
	})
}

// VTXO returns one VTXO row; nil when there is none.
func (s *Snapshot) VTXO(op wire.OutPoint) (*VTXO, error) { return loadVTXO(s.r, outpointKey(op)) }

// Pending calls f for every row that lets an older delegate find the newer one
// that waits for it.
func (s *Snapshot) Pending(f func(older, newer vigil.DelegateID, err error) error) error {
	return s.r.Scan(treePending, nil, nil, func(key, value []byte) error {
		if len(key) != idSize || len(value) != idSize {
			return f(vigil.DelegateID{}, vigil.DelegateID{}, fmt.Errorf("%w: row %x", ErrUnreadable, key))
		}
		return f(vigil.DelegateID(key), vigil.DelegateID(value), nil)
	})
}

// PendingFor returns the newer delegate that waits for older, and whether there
// is one.
func (s *Snapshot) PendingFor(older vigil.DelegateID) (vigil.DelegateID, bool, error) {
	b, err := s.r.Get(treePending, older[:])
	if errors.Is(err, kv.ErrNotFound) {
		return vigil.DelegateID{}, false, nil
	}
	if err != nil || len(b) != idSize {
		return vigil.DelegateID{}, false, err
	}
	return vigil.DelegateID(b), true, nil
}

// Tombstones calls f for every tombstone row.
func (s *Snapshot) Tombstones(f func(op wire.OutPoint, id vigil.DelegateID, err error) error) error {
	return s.r.Scan(treeTombstones, nil, nil, func(key, _ []byte) error {
		if cut := len(key) - idSize; cut > 0 {
			if op, ok := parseOutpointKey(key[:cut]); ok {
				return f(op, vigil.DelegateID(key[cut:]), nil)
			}
		}
		return f(wire.OutPoint{}, vigil.DelegateID{}, fmt.Errorf("%w: row %x", ErrUnreadable, key))
	})
}

// Buried says whether the tombstone row of op and id is there.
func (s *Snapshot) Buried(op wire.OutPoint, id vigil.DelegateID) (bool, error) {
	return s.has(treeTombstones, tombstoneKey(op, id))
}

// Branches calls f for every branch.
func (s *Snapshot) Branches(f func(*delegate.Branch, error) error) error {
	return s.r.Scan(treeBranches, nil, nil, func(key, value []byte) error {
		b, err := delegate.DecodeBranch(value)
		if err == nil && string(key) != string(branchKey(b.Delegate, b.Commitment)) {
			err = errors.New("lies under another key")
		}
		if err != nil {
			return f(nil, fmt.Errorf("%w: row %x: %w", ErrUnreadable, key, err))
		}
		return f(b, nil)
	})
}

// HasBranch says whether a branch is stored.
func (s *Snapshot) HasBranch(id vigil.DelegateID, commitment chainhash.Hash) (bool, error) {
	return s.has(treeBranches, branchKey(id, commitment))
}

// History calls f for every line of history of every owner.
func (s *Snapshot) History(f func(*Entry, error) error) error {
	return s.r.Scan(treeHistory, nil, nil, func(key, value []byte) error {
		e := new(Entry)
		err := decodeRow(value, e)
		if _, id, ok := parseTimeKey(key[min(len(key), 32):]); err == nil && (!ok || id != e.Delegate) {
			err = errors.New("lies under another key")
		}
		if err != nil {
			return f(nil, fmt.Errorf("%w: row %x: %w", ErrUnreadable, key, err))
		}
		return f(e, nil)
	})
}

// HasHistory says whether the line that settling r wrote is there.
func (s *Snapshot) HasHistory(r *delegate.Record) (bool, error) {
	return s.has(treeHistory, historyKey(r, r.StateSince))
}

// SecretGarbage calls f for every secret that is to be deleted.
func (s *Snapshot) SecretGarbage(f func(*Garbage, error) error) error {
	return s.r.Scan(treeSecretGC, nil, nil, func(key, value []byte) error {
		g := &Garbage{Name: string(key)}
		if err := decodeRow(value, g); err != nil {
			return f(nil, fmt.Errorf("%w: row %q: %w", ErrUnreadable, key, err))
		}
		return f(g, nil)
	})
}

// Count returns the kept count of a state.
func (s *Snapshot) Count(state delegate.State) (uint64, error) { return readCount(s.r, state) }

// Marked says whether an unreadable record was quarantined.
func (s *Snapshot) Marked(id vigil.DelegateID) (bool, error) { return s.has(treeUnreadable, id[:]) }

func (s *Snapshot) has(tree string, key []byte) (bool, error) {
	_, err := s.r.Get(tree, key)
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
