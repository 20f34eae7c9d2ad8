package ledger

import "context"

// DropStray deletes a row of the due index that its record does not ask for. A row
// that is in step by now stays.
func (l *Ledger) DropStray(ctx context.Context, due Due) error {
	return l.update(ctx, func(w writer) error {
		rec, err := load(w, due.ID)
		if err != nil {
			return err
		}
		if at, waits := rec.DueAt(); waits && at == due.At {
			return nil
		}
		return w.Delete(treeDue, timeKey(due.At, due.ID))
	})
}
