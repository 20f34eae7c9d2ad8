package upkeep

import (
	"context"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ledger"
)

// Graves is the ledger's side of forgetting.
type Graves interface {
	Tombstones(ctx context.Context, limit int, from ledger.Cursor) ([]wire.OutPoint, ledger.Cursor, error)
	Exhume(ctx context.Context, spent ...ledger.Gone) error
}

// Indexer tells what became of coins; *operator.Client implements it.
type Indexer interface {
	VTXOs(ctx context.Context, outpoints []wire.OutPoint) ([]ark.VTXO, error)
}

// breath is the pause between two pages of questions to the operator.
const breath = 2 * time.Second

// Tombstones forgets the delegates that were replaced, cancelled or expired and
// whose inputs are spent: nobody can replay their bodies any more. It asks the
// operator for a page of coins at a time.
func Tombstones(graves Graves, operator Indexer) func(context.Context) error {
	const page = 128
	return func(ctx context.Context) error {
		var from ledger.Cursor
		for {
			outpoints, next, err := graves.Tombstones(ctx, page, from)
			if err != nil || len(outpoints) == 0 {
				return err
			}
			coins, err := operator.VTXOs(ctx, outpoints)
			if err != nil {
				return err
			}
			var gone []ledger.Gone
			for _, c := range coins {
				if c.Spent || c.Unrolled {
					gone = append(gone, ledger.Gone{Outpoint: c.Outpoint, Unrolled: c.Unrolled, By: spender(c)})
				}
			}
			if len(gone) > 0 {
				if err := graves.Exhume(ctx, gone...); err != nil {
					return err
				}
			}
			if next == nil {
				return nil
			}
			if err := rest(ctx, breath); err != nil {
				return err
			}
			from = next
		}
	}
}

// spender is what spent a coin, as far as the operator tells.
func spender(v ark.VTXO) string {
	for _, by := range []string{v.SettledBy, v.ArkTxid, v.SpentBy} {
		if by != "" {
			return by
		}
	}
	return ""
}

// Pruner forgets what ended long ago.
type Pruner interface {
	Prune(ctx context.Context, before time.Time, limit int) (int, error)
}

// Prune forgets delegates that ended keep ago, a page at a time.
func Prune(p Pruner, keep time.Duration, now func() time.Time) func(context.Context) error {
	const page = 128
	return func(ctx context.Context) error {
		for {
			n, err := p.Prune(ctx, now().Add(-keep), page)
			if err != nil || n < page {
				return err
			}
			if err := rest(ctx, breath/10); err != nil {
				return err
			}
		}
	}
}
