// Package sealed owns the embedded secret.Store: one SQLite file for one
// process in which every value is sealed by itself. It knows nothing of what
// a secret is for.
//
// What protects what: the key-encryption key (from a passphrase, a key file or
// a systemd credential) wraps one random 256-bit store key; every value is
// sealed under a key of its own, derived from the store key and a random salt,
// with its name as associated data (seal.go). Somebody who reads the files
// learns names, lengths and times. Somebody who can write them can remove a
// value or put back an older one under the same name, which no sealing alone
// can show; he cannot make, change, rename or move one unnoticed.
package sealed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vigil-ark/vigil/internal/sqlitedb"
	"github.com/vigil-ark/vigil/secret"
)

// Errors of Create, Open and Rekey, matched with errors.Is, beside
// secret.ErrUnavailable and secret.ErrTampered.
var (
	// ErrWrongKey says that the key-encryption key is not the store's. A damaged
	// key record looks the same: it authenticates under no key.
	ErrWrongKey = errors.New("sealed: wrong key-encryption key")
	// ErrKey says that a key-encryption key could not be read or is unfit.
	ErrKey = errors.New("sealed: key-encryption key unusable")
	// ErrMissing says that there is no store to open; only Create makes one.
	ErrMissing = sqlitedb.ErrMissing
	// ErrExists says that there is a store where Create would make one.
	ErrExists = sqlitedb.ErrExists
	// ErrLocked says that another process has the store open.
	ErrLocked = sqlitedb.ErrLocked
	// ErrForeign says that the file is a database of something else.
	ErrForeign = sqlitedb.ErrForeign
	// ErrNewer says that the store was written by a newer version of Vigil.
	ErrNewer = sqlitedb.ErrNewer
	// ErrMode says that others than the owner may get at the store's files.
	ErrMode = sqlitedb.ErrMode
)

// Options are the caller's choices.
type Options struct {
	// Generation marks the store at creation, so that the caller can refuse to
	// start it beside a kv store of another one; all zero: a random one.
	Generation [16]byte
	// OnCommit, if not nil, is told how long each durable commit took, for a
	// metric. It must be quick.
	OnCommit func(time.Duration)
}

// Store is a secret.Store in a directory of its own, which holds the database
// secrets.db (with its log and log index) and the file lock. The store key
// stays in memory, as a secret.Bytes, until Close.
type Store struct {
	db  *sqlitedb.DB
	key secret.Bytes
}

var _ secret.Store = (*Store)(nil)

// keyRow is the row of the store's own that holds the wrapped store key.
const keyRow = "key"

// schema lists every version of the file, oldest first (slots.go explains the
// tables). "VgSs" marks it.
func schema() sqlitedb.Schema {
	return sqlitedb.Schema{Kind: 0x56675373, Steps: []string{
		`CREATE TABLE slots (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
		 CREATE TABLE free (id INTEGER PRIMARY KEY);
		 CREATE TABLE secrets (name BLOB PRIMARY KEY, place BLOB NOT NULL) WITHOUT ROWID`,
	}}
}

func options(o Options) sqlitedb.Options {
	return sqlitedb.Options{
		Schema:     schema(),
		File:       "secrets.db",
		Secure:     true,
		Generation: o.Generation,
		OnCommit:   o.OnCommit,
	}
}

// Create makes a new store in dir (mode 0700, made if need be), sealed under
// kek, and opens it. Errors: ErrExists, ErrKey, ErrLocked, secret.ErrUnavailable.
func Create(ctx context.Context, dir string, kek Key, o Options) (*Store, error) {
	return create(ctx, dir, kek, options(o))
}

func create(ctx context.Context, dir string, kek Key, o sqlitedb.Options) (*Store, error) {
	key, err := newStoreKey()
	if err != nil {
		return nil, err
	}
	if o.Generation, err = sqlitedb.Generate(o.Generation); err != nil {
		return nil, err
	}
	record, err := wrapKey(kek, key, o.Generation)
	if err != nil {
		return nil, err
	}
	o.Meta = map[string][]byte{keyRow: record}
	db, err := sqlitedb.Create(ctx, dir, o)
	if err != nil {
		key.Burn()
		return nil, translate(err)
	}
	return &Store{db, key}, nil
}

// Open opens the store in dir. It never makes one (ErrMissing), and reads no
// secret. Errors: ErrWrongKey, ErrKey, ErrMissing, ErrLocked, ErrForeign,
// ErrNewer, ErrMode, secret.ErrTampered, secret.ErrUnavailable.
func Open(ctx context.Context, dir string, kek Key, o Options) (*Store, error) {
	return open(ctx, dir, kek, options(o))
}

func open(ctx context.Context, dir string, kek Key, o sqlitedb.Options) (*Store, error) {
	db, err := sqlitedb.Open(ctx, dir, o)
	if err != nil {
		return nil, translate(err)
	}
	var key secret.Bytes
	err = db.View(ctx, func(tx *sqlitedb.Tx) error {
		record, err := tx.Meta(keyRow)
		if errors.Is(err, sqlitedb.ErrNoRow) {
			return fmt.Errorf("%w: the key record is gone", secret.ErrTampered)
		}
		if err == nil {
			key, err = unwrapKey(kek, record, db.Generation())
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(translate(err), db.Close())
	}
	return &Store{db, key}, nil
}

// Generation returns the mark that the store was created with. The wrapped
// store key authenticates it.
func (s *Store) Generation() [16]byte { return s.db.Generation() }

// Get implements secret.Store.
func (s *Store) Get(ctx context.Context, name string) (secret.Bytes, error) {
	if err := secret.CheckName(name); err != nil {
		return secret.Bytes{}, err
	}
	var sealed []byte
	err := s.db.View(ctx, func(tx *sqlitedb.Tx) (err error) {
		sealed, err = load(tx, name)
		return err
	})
	if errors.Is(err, sqlitedb.ErrNoRow) {
		return secret.Bytes{}, secret.ErrNotFound
	}
	if err != nil {
		return secret.Bytes{}, translate(err)
	}
	return s.unseal(name, sealed)
}

// Put implements secret.Store.
func (s *Store) Put(ctx context.Context, name string, value secret.Bytes) error {
	if err := secret.CheckName(name); err != nil {
		return err
	}
	sealed, err := s.seal(name, value)
	if err != nil {
		return err
	}
	return translate(s.db.Update(ctx, func(tx *sqlitedb.Tx) error {
		if err := remove(tx, name); err != nil {
			return err
		}
		return store(tx, name, sealed)
	}))
}

// Delete implements secret.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := secret.CheckName(name); err != nil {
		return err
	}
	return translate(s.db.Update(ctx, func(tx *sqlitedb.Tx) error { return remove(tx, name) }))
}

// List implements secret.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	err := s.db.View(ctx, func(tx *sqlitedb.Tx) error {
		// Every byte of a name is below 0x7f.
		return tx.Scan(func(name, _ []byte) error {
			names = append(names, string(name))
			return nil
		}, "SELECT name FROM secrets WHERE name>=?1 AND name<?2 ORDER BY name",
			[]byte(prefix), []byte(prefix+"\x7f"))
	})
	if err != nil {
		return nil, translate(err)
	}
	return names, nil
}

// Rekey wraps the store key under another key-encryption key and overwrites
// the old wrapping. Values stay as they are, so it takes milliseconds. Copies
// of the files made before still open with the old key.
func (s *Store) Rekey(ctx context.Context, kek Key) error {
	record, err := wrapKey(kek, s.key, s.db.Generation())
	if errors.Is(err, secret.ErrBurned) && !errors.Is(err, ErrKey) {
		return secret.ErrClosed // it is the store key that is burned
	}
	if err != nil {
		return err
	}
	return translate(s.db.Update(ctx, func(tx *sqlitedb.Tx) error {
		tx.Erased()
		return tx.SetMeta(keyRow, record)
	}))
}

// maxNamed bounds how many damaged values Check names.
const maxNamed = 10

// Check reads the whole file and opens every value without handing it out. It
// returns secret.ErrTampered and names the first damaged ones. The log cannot
// be emptied meanwhile, so a Delete at the same time may return
// secret.ErrUnavailable and is to be repeated.
func (s *Store) Check(ctx context.Context) error {
	if err := s.db.Check(ctx); err != nil {
		return translate(err)
	}
	var errs []error
	err := s.db.View(ctx, func(tx *sqlitedb.Tx) error {
		if err := countSlots(tx); err != nil {
			errs = append(errs, err)
		}
		return tx.Scan(func(name, place []byte) error {
			sealed, err := gather(tx, string(name), place)
			if err == nil {
				var value secret.Bytes
				value, err = s.unseal(string(name), sealed)
				value.Burn()
			}
			if !errors.Is(err, secret.ErrTampered) {
				return err
			}
			if len(errs) < maxNamed {
				errs = append(errs, err)
			}
			return nil
		}, "SELECT name, place FROM secrets")
	})
	return errors.Join(append(errs, translate(err))...)
}

// Close implements secret.Store; it wipes the store key.
func (s *Store) Close() error {
	err := s.db.Close()
	s.key.Burn()
	return translate(err)
}

// translate puts the port's errors over those of the mechanics.
func translate(err error) error {
	for _, pair := range []struct{ from, to error }{
		{sqlitedb.ErrUnavailable, secret.ErrUnavailable},
		// A page that contradicts itself holds values that do not authenticate.
		{sqlitedb.ErrCorrupt, secret.ErrTampered},
		{sqlitedb.ErrClosed, secret.ErrClosed},
	} {
		if errors.Is(err, pair.from) && !errors.Is(err, pair.to) {
			return fmt.Errorf("%w: %w", pair.to, err)
		}
	}
	return err
}
