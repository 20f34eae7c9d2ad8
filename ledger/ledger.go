package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// Schema is the number of the layout that this version writes.
const Schema uint32 = 1

// Errors of the ledger, matched with errors.Is.
var (
	// ErrNotFound says that there is no such delegate, VTXO, branch or setting.
	ErrNotFound = errors.New("ledger: not found")
	// ErrConflict says that the record changed since it was read. Read again.
	ErrConflict = errors.New("ledger: the record changed meanwhile")
	// ErrNoLedger says that the store was never set up as a ledger; only Create
	// makes one.
	ErrNoLedger = errors.New("ledger: the store holds no ledger")
	// ErrExists is returned by Create for a store that holds anything.
	ErrExists = errors.New("ledger: the store is not empty")
	// ErrNoBranch refuses a Submit without a branch: no forfeit may leave.
	ErrNoBranch = errors.New("ledger: no branch for this commitment")
	// ErrNotWatched refuses a Late for a commitment that nobody waits for.
	ErrNotWatched = errors.New("ledger: the commitment is not on the watch list")
	// ErrUnreadable says that a stored value cannot be decoded.
	ErrUnreadable = errors.New("ledger: unreadable")
)

// Generation ties a key-value store to the secret store that was made with it.
type Generation [16]byte

// Ledger is the durable memory of one Vigil. It keeps nothing in memory but its
// options, so that an idle delegate costs none. It is safe for concurrent use.
type Ledger struct {
	store      kv.Store
	now        func() time.Time
	generation Generation
}

// Options of Open.
type Options struct {
	// Now tells the time; nil is time.Now.
	Now func() time.Time
	// BeforeMigration is called with the old schema number before an older ledger
	// is migrated, to copy the store; its error stops the start. Nil refuses to
	// migrate.
	BeforeMigration func(ctx context.Context, from uint32) error
}

// Create makes the ledger in an empty store.
func Create(ctx context.Context, store kv.Store, generation Generation) error {
	return store.Update(ctx, func(w kv.Writer) error {
		for _, tree := range []string{treeMeta, treeSessions} {
			if err := empty(w, tree); err != nil {
				return err
			}
		}
		if err := w.Put(treeMeta, []byte(metaSchema), binary.BigEndian.AppendUint32(nil, Schema)); err != nil {
			return err
		}
		return w.Put(treeMeta, []byte(metaGeneration), generation[:])
	})
}

func empty(r kv.Reader, tree string) error {
	return r.Scan(tree, nil, nil, func([]byte, []byte) error {
		return fmt.Errorf("%w: there is something in %s", ErrExists, tree)
	})
}

// Open checks the schema and returns the ledger. It reads a handful of rows
// whatever the store holds. A newer schema is kv.ErrNewer, a store without one
// ErrNoLedger: neither is ever mended by itself.
func Open(ctx context.Context, store kv.Store, o Options) (*Ledger, error) {
	l := &Ledger{store: store, now: o.Now}
	if l.now == nil {
		l.now = time.Now
	}
	schema, err := readSchema(ctx, store)
	if err != nil {
		return nil, err
	}
	if schema < Schema {
		if err := migrate(ctx, store, schema, Schema, o.BeforeMigration, migrations()); err != nil {
			return nil, err
		}
	}
	err = store.View(ctx, func(r kv.Reader) error {
		b, err := r.Get(treeMeta, []byte(metaGeneration))
		if err != nil || len(b) != len(l.generation) {
			return fmt.Errorf("%w: its generation is missing or malformed: %w", ErrUnreadable, err)
		}
		l.generation = Generation(b)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Generation returns the mark that the secret store must carry too.
func (l *Ledger) Generation() Generation { return l.generation }

func readSchema(ctx context.Context, store kv.Store) (uint32, error) {
	var schema uint32
	err := store.View(ctx, func(r kv.Reader) error {
		b, err := r.Get(treeMeta, []byte(metaSchema))
		if errors.Is(err, kv.ErrNotFound) {
			return ErrNoLedger
		}
		if err != nil {
			return err
		}
		if len(b) != 4 {
			return fmt.Errorf("%w: schema number of %d bytes", ErrUnreadable, len(b))
		}
		schema = binary.BigEndian.Uint32(b)
		return nil
	})
	if err != nil {
		return 0, err
	}
	if schema > Schema {
		return 0, fmt.Errorf("%w: ledger schema %d, this version knows %d", kv.ErrNewer, schema, Schema)
	}
	return schema, nil
}

// migration brings a ledger from its index in the list to the next schema.
type migration func(kv.Writer) error

// migrations lists them from schema 1 on. There is none yet.
func migrations() []migration { return nil }

// migrate runs every step to the wanted schema in one update, after the copy.
func migrate(ctx context.Context, store kv.Store, from, to uint32, before func(context.Context, uint32) error, steps []migration) error {
	if before == nil {
		return fmt.Errorf("%w: schema %d must be migrated to %d and no copy can be made", ErrUnreadable, from, to)
	}
	if from == 0 || int(to-1) > len(steps) {
		return fmt.Errorf("%w: no way from schema %d to %d", ErrUnreadable, from, to)
	}
	if err := before(ctx, from); err != nil {
		return fmt.Errorf("copy before migration: %w", err)
	}
	return store.Update(ctx, func(w kv.Writer) error {
		for n := from; n < to; n++ {
			if err := steps[n-1](w); err != nil {
				return fmt.Errorf("migrate from schema %d: %w", n, err)
			}
		}
		return w.Put(treeMeta, []byte(metaSchema), binary.BigEndian.AppendUint32(nil, to))
	})
}

// load reads one record.
func load(r kv.Reader, id vigil.DelegateID) (*delegate.Record, error) {
	b, err := r.Get(treeSessions, id[:])
	if errors.Is(err, kv.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err != nil {
		return nil, err
	}
	return decodeRecord(id, b)
}

func decodeRecord(id vigil.DelegateID, b []byte) (*delegate.Record, error) {
	rec, err := delegate.DecodeRecord(b)
	if err != nil {
		return nil, fmt.Errorf("%w: delegate %s: %w", ErrUnreadable, id, err)
	}
	if rec.ID != id {
		return nil, fmt.Errorf("%w: delegate %s lies under the key %s", ErrUnreadable, rec.ID, id)
	}
	return rec, nil
}

// loadVTXO reads one VTXO row; a missing one is nil.
func loadVTXO(r kv.Reader, key []byte) (*VTXO, error) {
	b, err := r.Get(treeVTXOs, key)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v := new(VTXO)
	op, ok := parseOutpointKey(key)
	if err := decodeRow(b, v); err != nil || !ok {
		return nil, fmt.Errorf("%w: VTXO %s: %w", ErrUnreadable, op, err)
	}
	v.Outpoint = op
	return v, nil
}

// legibleVTXO is loadVTXO for writers that replace the row: one that cannot be
// read counts as missing, so that it holds up nobody's renewal.
func legibleVTXO(r kv.Reader, key []byte) (*VTXO, error) {
	v, err := loadVTXO(r, key)
	if errors.Is(err, ErrUnreadable) {
		return nil, nil
	}
	return v, err
}

func putRow(w kv.Writer, tree string, key []byte, r row) error {
	b, err := encodeRow(r)
	if err != nil {
		return err
	}
	return w.Put(tree, key, b)
}
