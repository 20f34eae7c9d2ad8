package upkeep

import (
	"context"
	"time"
)

// Lapser lets plans lapse; *ledger.Ledger implements it.
type Lapser interface {
	Lapse(ctx context.Context, limit int) (int, error)
}

// Lapse makes garbage of the secrets of what was planned and never made: of
// ceremonies that were abandoned, and of delegates that were prepared and not
// submitted. It goes before Secrets, which deletes them.
func Lapse(l Lapser) func(context.Context) error { return pages(l.Lapse) }

// Requests is the memory of requests; *ledger.Ledger implements it.
type Requests interface {
	PruneReplay(ctx context.Context, limit int) (int, error)
}

// Replay forgets the requests that are not fresh any more.
func Replay(r Requests) func(context.Context) error { return pages(r.PruneReplay) }

// Auditor keeps the audit; *ledger.Ledger implements it.
type Auditor interface {
	PruneAudit(ctx context.Context, keep uint64, limit int) (int, error)
}

// Audit forgets the oldest entries of the audit beyond the newest keep.
func Audit(a Auditor, keep uint64) func(context.Context) error {
	return pages(func(ctx context.Context, limit int) (int, error) { return a.PruneAudit(ctx, keep, limit) })
}

// Wrecker takes wallets apart; *ledger.Ledger implements it.
type Wrecker interface {
	Dismantle(ctx context.Context) (int, error)
}

// Deletions goes on with the deletions of wallets that a crash cut short.
func Deletions(w Wrecker) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := w.Dismantle(ctx)
		return err
	}
}

// pages does some work until a page of it is not full, with a pause between two,
// so that requests are not held up.
func pages(work func(ctx context.Context, limit int) (int, error)) func(context.Context) error {
	const (
		page  = 256
		pause = 20 * time.Millisecond
	)
	return func(ctx context.Context) error {
		for {
			n, err := work(ctx, page)
			if err != nil || n < page {
				return err
			}
			if err := rest(ctx, pause); err != nil {
				return err
			}
		}
	}
}
