package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// Delegate returns the record of that id, ErrNotFound or ErrUnreadable.
func (l *Ledger) Delegate(ctx context.Context, id vigil.DelegateID) (*delegate.Record, error) {
	var rec *delegate.Record
	err := l.view(ctx, func(r reader) (err error) {
		rec, err = load(r, id)
		return err
	})
	return rec, err
}

// Due is one row of the due index with its record. When that cannot be read, Err
// is ErrUnreadable or ErrNotFound, and Quarantine takes it out of the way; when it
// is the row itself that cannot be believed, ID is zero, and nothing is to be done:
// it is marked, and not told again.
type Due struct {
	ID     vigil.DelegateID
	At     int64
	Record *delegate.Record
	Err    error
}

// Flight is one row of the index of what is in flight with its record, or the
// error that Due has.
type Flight struct {
	ID     vigil.DelegateID
	Record *delegate.Record
	Err    error
}

// Cursor says where a reading stopped; the zero value is the beginning. It is
// opaque.
type Cursor []byte

// InFlight returns every delegate that is between registration and its end:
// what a start takes up. Their number is bounded by what is joined at once, not
// by what is stored.
func (l *Ledger) InFlight(ctx context.Context) ([]Flight, error) {
	var flights []Flight
	err := l.view(ctx, func(r reader) error {
		flights = nil
		return r.Scan(treeFlight, nil, nil, func(key, _ []byte, damage error) error {
			if damage == nil && len(key) != idSize {
				damage = r.damaged(treeFlight, key, errKey)
			}
			if damage != nil {
				flights = append(flights, Flight{Err: damage})
				return nil
			}
			f := Flight{ID: vigil.DelegateID(key)}
			var err error
			f.Record, f.Err, err = recordOrDamage(r, f.ID)
			flights = append(flights, f)
			return err
		})
	})
	return flights, err
}

// recordOrDamage keeps apart what is wrong with one record, and with the store.
func recordOrDamage(r reader, id vigil.DelegateID) (rec *delegate.Record, damage, err error) {
	rec, err = load(r, id)
	if errors.Is(err, ErrUnreadable) || errors.Is(err, ErrNotFound) {
		return nil, err, nil
	}
	return rec, nil, err
}

// Due returns at most limit armed and due delegates whose time is at or before upTo, the
// longest due first, and the cursor to go on with: nil when there are no more.
// It reads no other rows.
func (l *Ledger) Due(ctx context.Context, upTo time.Time, limit int, from Cursor) ([]Due, Cursor, error) {
	var due []Due
	var rest Cursor
	err := l.view(ctx, func(r reader) error {
		due, rest = nil, nil
		end := timeKey(upTo.Unix()+1, vigil.DelegateID{})
		return r.Scan(treeDue, from, end, func(key, _ []byte, damage error) error {
			if len(due) == limit {
				rest = bytes.Clone(key)
				return kv.ErrStop
			}
			at, id, ok := parseTimeKey(key)
			if damage == nil && !ok {
				damage = r.damaged(treeDue, key, errKey)
			}
			if damage != nil {
				// It stays where it is, so that it is told once.
				if _, err := r.Get(treeUnreadable, markKey(treeDue, key)); errors.Is(err, kv.ErrNotFound) {
					due = append(due, Due{Err: damage})
				}
				return nil
			}
			d := Due{ID: id, At: at}
			var err error
			d.Record, d.Err, err = recordOrDamage(r, id)
			due = append(due, d)
			return err
		})
	})
	return due, rest, err
}

// NextDue returns the earliest time in the due index, and whether there is one.
func (l *Ledger) NextDue(ctx context.Context) (time.Time, bool, error) {
	return l.first(ctx, treeDue, nil)
}

// NearestExpiry returns the earliest VTXO expiry at or after from among the
// delegates that have not ended, and whether there is one.
func (l *Ledger) NearestExpiry(ctx context.Context, from time.Time) (time.Time, bool, error) {
	return l.first(ctx, treeExpiries, timeKey(from.Unix(), vigil.DelegateID{}))
}

func (l *Ledger) first(ctx context.Context, tree string, from []byte) (time.Time, bool, error) {
	var at int64
	var found bool
	err := l.view(ctx, func(r reader) error {
		found = false
		return r.Scan(tree, from, nil, func(key, _ []byte, damage error) error {
			if damage == nil {
				at, _, found = parseTimeKey(key)
			}
			if found {
				return kv.ErrStop
			}
			_ = r.damaged(tree, key, cmp.Or(damage, errKey))
			return nil
		})
	})
	return time.Unix(at, 0), found, err
}

// Counts returns how many delegates stand in each state, without those whose row
// cannot be read. It reads one row a state.
func (l *Ledger) Counts(ctx context.Context) (map[delegate.State]uint64, error) {
	counts := make(map[delegate.State]uint64)
	err := l.view(ctx, func(r reader) error {
		for _, s := range delegate.States() {
			n, err := readCount(r, s)
			if errors.Is(err, ErrUnreadable) {
				continue // marked; fsck counts again
			}
			if err != nil {
				return err
			}
			counts[s] = n
		}
		return nil
	})
	return counts, err
}

// Filter chooses delegates for List.
type Filter struct {
	Script []byte         // of one of the inputs; nil: all, in the order of their ids
	State  delegate.State // 0: any
}

// List returns at most limit delegates and the cursor to go on with, nil when
// there are no more. It looks at limit rows, so that with a state in the filter a
// page may hold fewer and still have a successor.
func (l *Ledger) List(ctx context.Context, f Filter, limit int, from Cursor) ([]*delegate.Record, Cursor, error) {
	var records []*delegate.Record
	var rest Cursor
	tree, prefix, end := treeSessions, []byte(nil), []byte(nil)
	if f.Script != nil {
		tree, prefix = treeScripts, scriptPrefix(f.Script, classOpen)
		end = after(scriptPrefix(f.Script, classEnded))
	}
	if len(from) == 0 {
		from = prefix
	} else if bytes.Compare(from, prefix) < 0 || (end != nil && bytes.Compare(from, end) >= 0) {
		return nil, nil, fmt.Errorf("%w: a cursor of another list", ErrNotFound)
	}
	err := l.view(ctx, func(r reader) error {
		records, rest = nil, nil
		var ids []vigil.DelegateID
		looked := 0
		err := r.Scan(tree, from, end, func(key, _ []byte, damage error) error {
			if looked == max(limit, 1) {
				rest = bytes.Clone(key)
				return kv.ErrStop
			}
			if looked++; damage == nil && len(key) >= idSize {
				ids = append(ids, vigil.DelegateID(key[len(key)-idSize:]))
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, id := range ids {
			rec, err := load(r, id)
			if errors.Is(err, ErrUnreadable) || errors.Is(err, ErrNotFound) {
				continue // marked
			}
			if err != nil {
				return err
			}
			if f.State == 0 || rec.State == f.State {
				records = append(records, rec)
			}
		}
		return nil
	})
	return records, rest, err
}

// Each calls f for every readable record, in pages, so that no read transaction
// stays open over f. It is for the rare question that concerns all of them.
func (l *Ledger) Each(ctx context.Context, f func(*delegate.Record) error) error {
	const page = 256
	var from Cursor
	for {
		records, rest, err := l.List(ctx, Filter{}, page, from)
		if err != nil {
			return err
		}
		for _, rec := range records {
			if err := f(rec); err != nil {
				return err
			}
		}
		if rest == nil {
			return nil
		}
		from = rest
	}
}

// VTXO returns what is known of op, or ErrNotFound.
func (l *Ledger) VTXO(ctx context.Context, op wire.OutPoint) (*VTXO, error) {
	var v *VTXO
	err := l.view(ctx, func(r reader) (err error) {
		if v, err = loadVTXO(r, outpointKey(op)); err == nil && v == nil {
			err = fmt.Errorf("%w: no VTXO %s", ErrNotFound, op)
		}
		return err
	})
	return v, err
}

// ByOutpoint returns the delegate that renews op, or ErrNotFound.
func (l *Ledger) ByOutpoint(ctx context.Context, op wire.OutPoint) (*delegate.Record, error) {
	var rec *delegate.Record
	err := l.view(ctx, func(r reader) error {
		v, err := loadVTXO(r, outpointKey(op))
		if err != nil {
			return err
		}
		if v == nil || v.Cover == (vigil.DelegateID{}) {
			return fmt.Errorf("%w over %s", ErrNotFound, op)
		}
		rec, err = load(r, v.Cover)
		return err
	})
	return rec, err
}

// Branch returns the stored branch of a delegate's commitment, or ErrNotFound.
func (l *Ledger) Branch(ctx context.Context, id vigil.DelegateID, commitment chainhash.Hash) (*delegate.Branch, error) {
	var branch *delegate.Branch
	err := l.view(ctx, func(r reader) (err error) {
		branch, err = loadBranch(r, id, commitment)
		return err
	})
	return branch, err
}

func loadBranch(r reader, id vigil.DelegateID, commitment chainhash.Hash) (*delegate.Branch, error) {
	key := branchKey(id, commitment)
	b, err := r.Get(treeBranches, key)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, fmt.Errorf("%w: no branch of %s for %s", ErrNotFound, id, commitment)
	}
	if err != nil {
		return nil, err
	}
	branch, err := decodeBranch(key, b)
	if err != nil {
		return nil, r.damaged(treeBranches, key, err)
	}
	return branch, complete(r, branch)
}

// PutBranch stores a branch by itself, for a commitment whose branch was
// fetched afterwards.
func (l *Ledger) PutBranch(ctx context.Context, b *delegate.Branch) error {
	return l.update(ctx, func(w writer) error {
		return keepBranch(w, b)
	})
}

// History calls f for every line of history of an owner key that can be read,
// oldest first.
func (l *Ledger) History(ctx context.Context, owner [32]byte, f func(Entry) error) error {
	return l.view(ctx, func(r reader) error {
		return r.Scan(treeHistory, owner[:], after(owner[:]), func(key, value []byte, damage error) error {
			if damage != nil {
				return nil // marked
			}
			e, err := decodeEntry(key, value)
			if err != nil {
				_ = r.damaged(treeHistory, key, err)
				return nil
			}
			return f(*e)
		})
	})
}
