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
type Snapshot struct {
	r   reader
	raw kv.Reader
}

// Inspect runs f on one consistent state of the store, whether or not it can be
// opened as a ledger.
func Inspect(ctx context.Context, store kv.Store, f func(*Snapshot) error) error {
	return store.View(ctx, func(r kv.Reader) error { return f(&Snapshot{r: &edge{r: r}, raw: r}) })
}

// Schema returns an error unless the schema is this version's and the generation
// is there: nothing else can then be read.
func (s *Snapshot) Schema() error {
	schema, err := readSchema(s.raw)
	if err == nil && schema != Schema {
		err = fmt.Errorf("%w: schema %d, which the next start migrates", ErrUnreadable, schema)
	}
	return err
}

// Meta returns what is missing of the ledger's own settings, or nil.
func (s *Snapshot) Meta() error {
	if _, err := s.r.Get(treeMeta, []byte(metaGeneration)); errors.Is(err, kv.ErrNotFound) {
		return fmt.Errorf("%s: %w", metaGeneration, err)
	} else if err != nil && !errors.Is(err, ErrUnreadable) {
		return err
	}
	return nil
}

// Rows calls f for every row of every tree that means nothing by itself: whose
// checksum is wrong, that does not decode, that lies under another's key. marked
// says whether status and metrics tell of it.
func (s *Snapshot) Rows(f func(d *Damage, marked bool) error) error {
	for _, t := range trees() {
		err := s.raw.Scan(t.name, nil, nil, func(key, stored []byte) error {
			value, err := unseal(t.name, key, stored)
			if err == nil {
				err = t.read(key, value)
			}
			if err == nil {
				return nil
			}
			d := new(Damage)
			if !errors.As(err, &d) {
				d = &Damage{Tree: t.name, Key: key, Cause: err}
			}
			marked, err := s.has(treeUnreadable, markKey(t.name, key))
			if err != nil {
				return err
			}
			return f(d, marked)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// The walks that follow leave out the rows of which Rows tells.

// Records calls f for every record.
func (s *Snapshot) Records(f func(*delegate.Record) error) error {
	return s.r.Scan(treeSessions, nil, nil, func(key, value []byte, damage error) error {
		if damage != nil || len(key) != idSize {
			return nil
		}
		rec, err := decodeRecord(vigil.DelegateID(key), value)
		if err != nil {
			return nil
		}
		return f(rec)
	})
}

// Record returns one record, ErrNotFound or ErrUnreadable.
func (s *Snapshot) Record(id vigil.DelegateID) (*delegate.Record, error) { return load(s.r, id) }

// MissingRows describes the rows that r must have in the derived indexes and
// lacks.
func (s *Snapshot) MissingRows(r *delegate.Record) ([]string, error) {
	var missing []string
	for row := range derived(r) {
		_, err := s.raw.Get(row.tree, []byte(row.key))
		if errors.Is(err, kv.ErrNotFound) {
			missing = append(missing, row.tree+" "+hex.EncodeToString([]byte(row.key)))
		} else if err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// StrayRows calls f for every row of the derived indexes that no record asks
// for, and for commitments without branches. Rows of unreadable records are left out: they wait for Quarantine.
func (s *Snapshot) StrayRows(f func(row string) error) error {
	for _, tree := range []string{treeDue, treeFlight, treeWatching, treeExpiries, treeEnded, treeScripts} {
		err := s.r.Scan(tree, nil, nil, func(key, _ []byte, damage error) error {
			if damage != nil {
				return nil
			}
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
	return s.strayCommitments(func(tree string, key []byte) error { return f(tree + " " + hex.EncodeToString(key)) })
}

// VTXOs calls f for every VTXO row.
func (s *Snapshot) VTXOs(f func(*VTXO) error) error {
	return s.r.Scan(treeVTXOs, nil, nil, func(key, value []byte, damage error) error {
		v, err := decodeVTXO(key, value)
		if damage != nil || err != nil {
			return nil
		}
		return f(v)
	})
}

// VTXO returns one VTXO row; nil when there is none.
func (s *Snapshot) VTXO(op wire.OutPoint) (*VTXO, error) { return loadVTXO(s.r, outpointKey(op)) }

// Pending calls f for every row that lets an older delegate find the newer one
// that waits for it.
func (s *Snapshot) Pending(f func(older, newer vigil.DelegateID) error) error {
	return s.r.Scan(treePending, nil, nil, func(key, value []byte, damage error) error {
		if damage != nil || readPending(key, value) != nil {
			return nil
		}
		return f(vigil.DelegateID(key), vigil.DelegateID(value))
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
func (s *Snapshot) Tombstones(f func(op wire.OutPoint, id vigil.DelegateID) error) error {
	return s.r.Scan(treeTombstones, nil, nil, func(key, _ []byte, damage error) error {
		cut := max(len(key)-idSize, 0)
		op, ok := parseOutpointKey(key[:cut])
		if damage != nil || !ok {
			return nil
		}
		return f(op, vigil.DelegateID(key[cut:]))
	})
}

// Buried says whether the tombstone row of op and id is there.
func (s *Snapshot) Buried(op wire.OutPoint, id vigil.DelegateID) (bool, error) {
	return s.has(treeTombstones, tombstoneKey(op, id))
}

// Branches calls f for every branch.
func (s *Snapshot) Branches(f func(*delegate.Branch) error) error {
	return s.r.Scan(treeBranches, nil, nil, func(key, value []byte, damage error) error {
		b, err := decodeBranch(key, value)
		if damage != nil || err != nil {
			return nil
		}
		return f(b)
	})
}

// HasBranch says whether a branch is stored.
func (s *Snapshot) HasBranch(id vigil.DelegateID, commitment chainhash.Hash) (bool, error) {
	return s.has(treeBranches, branchKey(id, commitment))
}

// History calls f for every line of history of every owner.
func (s *Snapshot) History(f func(*Entry) error) error {
	return s.r.Scan(treeHistory, nil, nil, func(key, value []byte, damage error) error {
		e, err := decodeEntry(key, value)
		if damage != nil || err != nil {
			return nil
		}
		return f(e)
	})
}

// HasHistory says whether the line that settling r wrote is there.
func (s *Snapshot) HasHistory(r *delegate.Record) (bool, error) {
	return s.has(treeHistory, historyKey(r, r.StateSince))
}

// SecretGarbage calls f for every secret that is to be deleted.
func (s *Snapshot) SecretGarbage(f func(*Garbage) error) error {
	return s.r.Scan(treeSecretGC, nil, nil, func(key, value []byte, damage error) error {
		g := &Garbage{Name: string(key)}
		if damage != nil || decodeRow(value, g) != nil {
			return nil
		}
		return f(g)
	})
}

// Count returns the kept count of a state.
func (s *Snapshot) Count(state delegate.State) (uint64, error) { return readCount(s.r, state) }

func (s *Snapshot) has(tree string, key []byte) (bool, error) {
	_, err := s.raw.Get(tree, key)
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
