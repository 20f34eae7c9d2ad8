package ledger

import (
	"context"
	"errors"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
)

// Waiting returns the pending delegates that are to take the place of olders, by
// the id of the older. What cannot be read is left out.
func (l *Ledger) Waiting(ctx context.Context, olders ...vigil.DelegateID) (map[vigil.DelegateID]*delegate.Record, error) {
	newer := map[vigil.DelegateID]*delegate.Record{}
	err := l.view(ctx, func(r reader) error {
		clear(newer)
		for _, older := range olders {
			b, err := r.Get(treePending, older[:])
			if errors.Is(err, kv.ErrNotFound) || errors.Is(err, ErrUnreadable) || err == nil && len(b) != idSize {
				continue
			}
			if err != nil {
				return err
			}
			rec, damage, err := recordOrDamage(r, vigil.DelegateID(b))
			if err != nil {
				return err
			}
			if damage == nil && rec.State == delegate.Pending {
				newer[older] = rec
			}
		}
		return nil
	})
	return newer, err
}
