package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// Schema is the number of the layout that this version writes: 1 was without
// checksums and the watching tree.
const Schema uint32 = 2

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
	// ErrUnreadable says that what is stored cannot be read; of a row, *Damage
	// says which.
	ErrUnreadable = errors.New("ledger: unreadable")
)

// Generation ties a key-value store to the secret store that was made with it.
type Generation [16]byte

// Ledger is the durable memory of one Vigil. It keeps nothing in memory but its
// options, so that an idle delegate costs none. It is safe for concurrent use.
type Ledger struct {
	store      kv.Store
	now        func() time.Time
	garbage    func(*delegate.Record) []string
	generation Generation
}

// Options of Open.
type Options struct {
	// Now tells the time; nil is time.Now.
	Now func() time.Time
	// Garbage names the secrets that a delegate which has ended needs no longer:
	// they are noted in the write that ends it. Nil: none has any.
	Garbage func(*delegate.Record) []string
	// BeforeMigration is called with the old schema number before an older ledger
	// is migrated, to copy the store; its error stops the start. Nil refuses to
	// migrate.
	BeforeMigration func(ctx context.Context, from uint32) error
}

// Create makes the ledger in an empty store.
func Create(ctx context.Context, store kv.Store, generation Generation) error {
	return store.Update(ctx, func(w kv.Writer) error {
		for _, t := range trees() {
			if err := empty(w, t.name); err != nil {
				return err
			}
		}
		if err := putSchema(w, Schema); err != nil {
			return err
		}
		return (&edge{r: w, w: w}).Put(treeMeta, []byte(metaGeneration), generation[:])
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
	l := &Ledger{store: store, now: o.Now, garbage: o.Garbage}
	if l.now == nil {
		l.now = time.Now
	}
	if l.garbage == nil {
		l.garbage = func(*delegate.Record) []string { return nil }
	}
	schema, err := storedSchema(ctx, store)
	if err != nil {
		return nil, err
	}
	if schema < Schema {
		if err := migrate(ctx, store, schema, Schema, o.BeforeMigration, migrations()); err != nil {
			return nil, err
		}
	}
	err = l.view(ctx, func(r reader) error {
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

// load reads one record.
func load(r reader, id vigil.DelegateID) (*delegate.Record, error) {
	b, err := r.Get(treeSessions, id[:])
	if errors.Is(err, kv.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err != nil {
		return nil, err
	}
	rec, err := decodeRecord(id, b)
	if err != nil {
		return nil, r.damaged(treeSessions, id[:], err)
	}
	return rec, nil
}

// loadVTXO reads one VTXO row; a missing one is nil.
func loadVTXO(r reader, key []byte) (*VTXO, error) {
	b, err := r.Get(treeVTXOs, key)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := decodeVTXO(key, b)
	if err != nil {
		return nil, r.damaged(treeVTXOs, key, err)
	}
	return v, nil
}

// legibleVTXO is loadVTXO for those whom one that cannot be read must not hold up:
// it counts as missing.
func legibleVTXO(r reader, key []byte) (*VTXO, error) {
	v, err := loadVTXO(r, key)
	if errors.Is(err, ErrUnreadable) {
		return nil, nil
	}
	return v, err
}

func putRow(w writer, tree string, key []byte, r row) error {
	b, err := encodeRow(r)
	if err != nil {
		return err
	}
	return w.Put(tree, key, b)
}
