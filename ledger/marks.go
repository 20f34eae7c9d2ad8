package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vigil-ark/vigil/kv"
)

// Unreadable marks a row that could not be read. The row stays as it is; the mark
// is what status and metrics show. Once the row is whole again, or rightly gone,
// the mark stays for a day, so that a disk that flips bits is told of even where
// what it spoiled was written anew.
type Unreadable struct {
	Tree string
	Key  []byte
	Text string
	At   int64 // when it was met first
}

// maxMarks bounds the marks: a broken disk must not fill itself with them.
const maxMarks = 1000

// told is for how long the mark of a row that is whole again is kept, in seconds.
const told = 24 * 60 * 60

// markKey is under which a row's mark is kept.
func markKey(tree string, key []byte) []byte { return append(append([]byte(tree), 0), key...) }

func parseMarkKey(key []byte) (tree string, of []byte, ok bool) {
	name, of, ok := bytes.Cut(key, []byte{0})
	return string(name), of, ok
}

// unmarked are those of the damages that have no mark.
func unmarked(e *edge, found []*Damage) []*Damage {
	return slices.DeleteFunc(found, func(d *Damage) bool {
		if d.Tree == treeUnreadable {
			return true // a mark, and listed as it is
		}
		_, err := e.r.Get(treeUnreadable, markKey(d.Tree, d.Key))
		return !errors.Is(err, kv.ErrNotFound)
	})
}

// mark writes marks. Its failure is the store's: whoever meets the damage next
// tries again.
func (l *Ledger) mark(ctx context.Context, found []*Damage) {
	if len(found) == 0 {
		return
	}
	_ = l.store.Update(ctx, func(w kv.Writer) error {
		e := &edge{r: w, w: w}
		for _, d := range found {
			if err := putMark(e, d.Tree, d.Key, d.Cause.Error(), l.now().Unix()); err != nil {
				return err
			}
		}
		return nil
	})
}

// putMark marks a row that has no mark, while there is room.
func putMark(w writer, tree string, key []byte, why string, at int64) error {
	mark := markKey(tree, key)
	if _, err := w.Get(treeUnreadable, mark); !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	n := 0
	err := w.Scan(treeUnreadable, nil, nil, func(_, _ []byte, _ error) error { n++; return nil })
	if err != nil || n >= maxMarks {
		return err
	}
	why = strings.ToValidUTF8(why[:min(len(why), maxText)], "")
	return putRow(w, treeUnreadable, mark, &Unreadable{Text: why, At: at})
}

// Unreadable returns the rows that were met and could not be read, at most a
// thousand. Marks that have nothing to tell any more are taken away.
func (l *Ledger) Unreadable(ctx context.Context) ([]Unreadable, error) {
	var marks []Unreadable
	var healed [][]byte
	err := l.store.View(ctx, func(r kv.Reader) error {
		var err error
		marks, healed, err = readMarks(&edge{r: r}, l.now().Unix())
		return err
	})
	if err != nil || len(healed) == 0 {
		return marks, err
	}
	err = l.store.Update(ctx, func(w kv.Writer) error {
		e := &edge{r: w, w: w}
		if marks, healed, err = readMarks(e, l.now().Unix()); err != nil {
			return err
		}
		for _, key := range healed {
			if err := e.Delete(treeUnreadable, key); err != nil {
				return err
			}
		}
		return nil
	})
	return marks, err
}

// UnreadableRows counts Unreadable, for the metrics.
func (l *Ledger) UnreadableRows(ctx context.Context) (int, error) {
	marks, err := l.Unreadable(ctx)
	return len(marks), err
}

// readMarks reads every mark, and the keys of those that are no longer true.
func readMarks(e *edge, now int64) (marks []Unreadable, healed [][]byte, err error) {
	err = e.Scan(treeUnreadable, nil, nil, func(key, value []byte, damage error) error {
		tree, of, ok := parseMarkKey(key)
		u := Unreadable{Tree: tree, Key: of}
		if damage != nil || !ok || decodeRow(value, &u) != nil {
			marks = append(marks, Unreadable{Tree: treeUnreadable, Key: key, Text: errSum.Error()})
			return nil
		}
		whole, err := e.whole(tree, of)
		if err != nil {
			return err
		}
		if whole && now-u.At > told {
			healed = append(healed, key)
			return nil
		}
		marks = append(marks, u)
		return nil
	})
	return marks, healed, err
}

// whole says whether a row that was marked can be read, or is rightly gone. A
// record that is gone was lost: nothing deletes one that is marked.
func (e *edge) whole(tree string, key []byte) (bool, error) {
	value, err := e.Get(tree, key)
	switch {
	case errors.Is(err, ErrUnreadable):
		return false, nil
	case errors.Is(err, kv.ErrNotFound):
		return tree != treeSessions, nil
	case err != nil:
		return false, err
	}
	return wellFormed(tree, key, value) == nil, nil
}

// Quarantine marks a record that cannot be read and takes it out of the due
// index, so that it neither fires nor disappears; the newer delegate that waits
// for it, if there is one, takes over. A readable record is quarantined by
// Transition.
func (l *Ledger) Quarantine(ctx context.Context, due Due, why string) error {
	return l.update(ctx, func(w writer) error {
		if _, err := load(w, due.ID); err == nil {
			return fmt.Errorf("%w: delegate %s can be read", ErrConflict, due.ID)
		} else if !errors.Is(err, ErrUnreadable) && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := w.Delete(treeDue, timeKey(due.At, due.ID)); err != nil {
			return err
		}
		if err := putMark(w, treeSessions, due.ID[:], why, l.now().Unix()); err != nil {
			return err
		}
		return l.transition(w).orphan(due.ID)
	})
}
