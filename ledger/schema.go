package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil/kv"
)

// schemaSize is the length of the schema number, in bytes.
const schemaSize = 4

// storedSchema returns the schema number of a store: at most this version's.
func storedSchema(ctx context.Context, store kv.Store) (uint32, error) {
	var schema uint32
	err := store.View(ctx, func(r kv.Reader) (err error) {
		schema, err = readSchema(r)
		return err
	})
	return schema, err
}

// readSchema reads the number and holds it to its witness, which every schema
// from 2 on has: one bit must not make an older ledger of a newer one, and
// migrate it once more.
func readSchema(r kv.Reader) (uint32, error) {
	b, err := r.Get(treeMeta, []byte(metaSchema))
	if errors.Is(err, kv.ErrNotFound) {
		return 0, ErrNoLedger
	}
	if err != nil {
		return 0, err
	}
	if len(b) != schemaSize {
		return 0, &Damage{Tree: treeMeta, Key: []byte(metaSchema), Cause: errValue}
	}
	schema := binary.BigEndian.Uint32(b)
	witness, err := (&edge{r: r}).Get(treeMeta, []byte(metaLayout))
	switch {
	case errors.Is(err, kv.ErrNotFound) && schema == 1:
		return schema, nil
	case errors.Is(err, kv.ErrNotFound), errors.Is(err, ErrUnreadable):
		if schema > Schema {
			break // a newer version may have no use for it
		}
		return 0, &Damage{Tree: treeMeta, Key: []byte(metaLayout), Cause: fmt.Errorf("schema %d without its witness: %w", schema, err)}
	case err != nil:
		return 0, err
	case string(witness) != string(b):
		return 0, &Damage{Tree: treeMeta, Key: []byte(metaSchema), Cause: fmt.Errorf("it says %d, and its witness %x", schema, witness)}
	}
	if schema > Schema {
		return 0, fmt.Errorf("%w: ledger schema %d, this version knows %d", kv.ErrNewer, schema, Schema)
	}
	return schema, nil
}

func putSchema(w kv.Writer, schema uint32) error {
	b := binary.BigEndian.AppendUint32(nil, schema)
	if err := w.Put(treeMeta, []byte(metaSchema), b); err != nil {
		return err
	}
	return (&edge{r: w, w: w}).Put(treeMeta, []byte(metaLayout), b)
}

// migration brings a ledger from its index in the list to the next schema.
type migration func(kv.Writer) error

// migrations lists them from schema 1 on.
func migrations() []migration { return []migration{toSchema2} }

// toSchema2 gives every row its checksum, and the index of watching delegates its
// rows.
func toSchema2(w kv.Writer) error {
	if err := addSums(w); err != nil {
		return err
	}
	return indexWatching(w)
}

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
		return putSchema(w, to)
	})
}

// addSums puts the checksum behind every row. Schema 1 marked records only, under
// their ids.
func addSums(w kv.Writer) error {
	for _, t := range trees() {
		err := rewrite(w, t.name, func(key, value []byte) error {
			if t.name != treeUnreadable {
				return w.Put(t.name, key, seal(t.name, key, value))
			}
			if len(key) != idSize {
				return nil // put here a moment ago
			}
			mark := markKey(treeSessions, key)
			if err := w.Put(t.name, mark, seal(t.name, mark, value)); err != nil {
				return err
			}
			return w.Delete(t.name, key)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// rewrite calls f for every row of a tree, outside of any scan, so that it may
// write. What f puts under keys yet to come is visited too.
func rewrite(w kv.Writer, name string, f func(key, value []byte) error) error {
	type pair struct{ key, value []byte }
	const page = 256
	for from := []byte(nil); ; {
		rows := make([]pair, 0, page)
		err := w.Scan(name, from, nil, func(key, value []byte) error {
			rows = append(rows, pair{key, value})
			if len(rows) == page {
				return kv.ErrStop
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := f(r.key, r.value); err != nil {
				return err
			}
		}
		if len(rows) < page {
			return nil
		}
		from = append(rows[page-1].key, 0)
	}
}
