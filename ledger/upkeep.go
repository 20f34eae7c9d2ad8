package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// SecretGarbage returns at most limit names of secrets to be deleted. A row
// stays until SecretDeleted confirms it.
func (l *Ledger) SecretGarbage(ctx context.Context, limit int) ([]Garbage, error) {
	var rows []Garbage
	err := l.store.View(ctx, func(r kv.Reader) error {
		rows = nil
		return r.Scan(treeSecretGC, nil, nil, func(key, value []byte) error {
			if len(rows) == limit {
				return kv.ErrStop
			}
			g := Garbage{Name: string(key)}
			if err := decodeRow(value, &g); err != nil {
				return fmt.Errorf("%w: secret garbage %q: %w", ErrUnreadable, key, err)
			}
			rows = append(rows, g)
			return nil
		})
	})
	return rows, err
}

// SecretDeleted removes the row of a secret that the secret store has deleted.
func (l *Ledger) SecretDeleted(ctx context.Context, names ...string) error {
	return l.store.Update(ctx, func(w kv.Writer) error {
		for _, name := range names {
			if err := w.Delete(treeSecretGC, []byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Quarantine marks a record that cannot be read and takes it out of the due
// index, so that it neither fires nor disappears. A readable record is
// quarantined by Transition.
func (l *Ledger) Quarantine(ctx context.Context, due Due, why string) error {
	return l.store.Update(ctx, func(w kv.Writer) error {
		if _, err := load(w, due.ID); err == nil {
			return fmt.Errorf("%w: delegate %s can be read", ErrConflict, due.ID)
		} else if !errors.Is(err, ErrUnreadable) && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := w.Delete(treeDue, timeKey(due.At, due.ID)); err != nil {
			return err
		}
		why = strings.ToValidUTF8(why[:min(len(why), maxText)], "")
		return putRow(w, treeUnreadable, due.ID[:], &Unreadable{Text: why, At: l.now().Unix()})
	})
}

// Unreadable returns the marks that Quarantine left.
func (l *Ledger) Unreadable(ctx context.Context) ([]Unreadable, error) {
	var rows []Unreadable
	err := l.store.View(ctx, func(r kv.Reader) error {
		rows = nil
		return r.Scan(treeUnreadable, nil, nil, func(key, value []byte) error {
			var u Unreadable
			if err := decodeRow(value, &u); err != nil || len(key) != idSize {
				return fmt.Errorf("%w: quarantine row %x: %w", ErrUnreadable, key, err)
			}
			u.ID = vigil.DelegateID(key)
			rows = append(rows, u)
			return nil
		})
	})
	return rows, err
}

// Cancel takes a delegate back. In flight it cannot be: then the wish is noted
// and carried out when the attempt has failed, unless deleted says that the
// operator deleted the queued intent, which helps in registering and registered.
// An ended delegate is answered as it is.
func (l *Ledger) Cancel(ctx context.Context, prev *delegate.Record, deleted bool, garbage ...string) (*delegate.Record, error) {
	queued := prev.State == delegate.Registering || prev.State == delegate.Registered
	switch {
	case prev.State.Ended():
		return prev, nil
	case !prev.State.InFlight(), queued && deleted:
		return l.apply(ctx, Change{Prev: prev, Event: delegate.Cancel, Garbage: garbage})
	}
	return l.Transition(ctx, prev, delegate.Note, func(r *delegate.Record) { r.CancelWanted = true })
}

// Tombstones returns at most limit outpoints of delegates that were replaced,
// cancelled or expired and whose inputs are not known to be spent, from a
// cursor on: to be asked after now and then, and forgotten by Exhume.
func (l *Ledger) Tombstones(ctx context.Context, limit int, from Cursor) ([]wire.OutPoint, Cursor, error) {
	var outpoints []wire.OutPoint
	var rest Cursor
	err := l.store.View(ctx, func(r kv.Reader) error {
		outpoints, rest = nil, nil
		return r.Scan(treeTombstones, from, nil, func(key, _ []byte) error {
			if len(key) < idSize {
				return fmt.Errorf("%w: tombstone row %x", ErrUnreadable, key)
			}
			op, ok := parseOutpointKey(key[:len(key)-idSize])
			if !ok {
				return fmt.Errorf("%w: tombstone row %x", ErrUnreadable, key)
			}
			if n := len(outpoints); n > 0 && outpoints[n-1] == op {
				return nil
			}
			if len(outpoints) == limit {
				rest = append(Cursor(nil), key...)
				return kv.ErrStop
			}
			outpoints = append(outpoints, op)
			return nil
		})
	})
	return outpoints, rest, err
}

// Exhume forgets the tombstones over outpoints that are spent.
func (l *Ledger) Exhume(ctx context.Context, spent ...Gone) error {
	return l.store.Update(ctx, func(w kv.Writer) error {
		for _, g := range spent {
			key := outpointKey(g.Outpoint)
			v, err := loadVTXO(w, key)
			if err != nil {
				return err
			}
			if v != nil && v.Fate == Unspent && v.Cover == (vigil.DelegateID{}) {
				v.Fate, v.SpentBy, v.FateAt = g.fate(), g.By, l.now().Unix()
				if err := putRow(w, treeVTXOs, key, v); err != nil {
					return err
				}
			}
			if err := exhume(w, g, [32]byte{}, l.now().Unix()); err != nil {
				return err
			}
		}
		return nil
	})
}
