package ledger

import (
	"cmp"
	"context"
	"errors"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// SecretGarbage returns at most limit names of secrets to be deleted. A row
// stays until SecretDeleted confirms it. One that a wallet or an open delegate
// needs after all is left out: fsck tells of it, and nothing deletes it.
func (l *Ledger) SecretGarbage(ctx context.Context, limit int) ([]Garbage, error) {
	var rows []Garbage
	err := l.view(ctx, func(r reader) error {
		rows = nil
		return r.Scan(treeSecretGC, nil, nil, func(key, value []byte, damage error) error {
			if len(rows) == limit {
				return kv.ErrStop
			}
			g := Garbage{Name: string(key)}
			if damage == nil {
				damage = decodeRow(value, &g)
			}
			if damage != nil {
				_ = r.damaged(treeSecretGC, key, damage)
				return nil // a name that may be another's: nothing is deleted for it
			}
			if needed, err := g.needed(r); err != nil || needed {
				return err
			}
			rows = append(rows, g)
			return nil
		})
	})
	return rows, err
}

// needed says whether something that is stored needs the secret.
func (g *Garbage) needed(r reader) (bool, error) {
	if _, ours, err := aliasOf(r, secretAlias(g.Name)); err != nil || ours {
		return ours, err
	}
	if g.Delegate == (vigil.DelegateID{}) {
		return false, nil
	}
	rec, err := load(r, g.Delegate)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case errors.Is(err, ErrUnreadable):
		return true, nil // somebody may still mend it
	}
	return err == nil && !rec.State.Ended(), err
}

// SecretDeleted removes the row of a secret that the secret store has deleted.
func (l *Ledger) SecretDeleted(ctx context.Context, names ...string) error {
	return l.update(ctx, func(w writer) error {
		for _, name := range names {
			if err := w.Delete(treeSecretGC, []byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Cancel takes a delegate back. In flight it cannot be: then the wish is noted
// and carried out when the attempt has failed, unless deleted says that the
// operator deleted the queued intent, which helps in registering and registered.
// An ended delegate is answered as it is.
func (l *Ledger) Cancel(ctx context.Context, prev *delegate.Record, deleted bool, garbage ...string) (*delegate.Record, error) {
	return l.cancel(ctx, deleted, Change{Prev: prev, Garbage: garbage})
}

// CancelFor is Cancel for the owner of a wallet: the audit's entries are written
// with it, or neither is.
func (l *Ledger) CancelFor(ctx context.Context, prev *delegate.Record, links ...Link) (*delegate.Record, error) {
	if prev.State.Ended() {
		return prev, l.Audit(ctx, links...)
	}
	return l.cancel(ctx, false, Change{Prev: prev, Audit: links})
}

func (l *Ledger) cancel(ctx context.Context, deleted bool, c Change) (*delegate.Record, error) {
	prev := c.Prev
	queued := prev.State == delegate.Registering || prev.State == delegate.Registered
	switch {
	case prev.State.Ended():
		return prev, nil
	case !prev.State.InFlight(), queued && deleted:
		c.Event = delegate.Cancel
		return l.apply(ctx, c)
	}
	c.Event, c.Garbage, c.Mutate = delegate.Note, nil, func(r *delegate.Record) { r.CancelWanted = true }
	return l.apply(ctx, c)
}

// Tombstones returns at most limit outpoints of delegates that were replaced,
// cancelled or expired and whose inputs are not known to be spent, from a
// cursor on: to be asked after now and then, and forgotten by Exhume.
func (l *Ledger) Tombstones(ctx context.Context, limit int, from Cursor) ([]wire.OutPoint, Cursor, error) {
	var outpoints []wire.OutPoint
	var rest Cursor
	err := l.view(ctx, func(r reader) error {
		outpoints, rest = nil, nil
		return r.Scan(treeTombstones, from, nil, func(key, _ []byte, damage error) error {
			op, ok := parseOutpointKey(key[:max(len(key)-idSize, 0)])
			if damage != nil || !ok {
				_ = r.damaged(treeTombstones, key, cmp.Or(damage, errKey))
				return nil
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
	return l.update(ctx, func(w writer) error {
		for _, g := range spent {
			key := outpointKey(g.Outpoint)
			v, err := legibleVTXO(w, key)
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
