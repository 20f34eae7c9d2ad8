package upkeep

import (
	"context"
	"fmt"

	"github.com/vigil-ark/vigil/ledger"
)

// GarbageRows is the ledger's side of deleting secrets.
type GarbageRows interface {
	SecretGarbage(ctx context.Context, limit int) ([]ledger.Garbage, error)
	SecretDeleted(ctx context.Context, names ...string) error
}

// Deleter is the secret store's side. Deleting what is not there is no error.
type Deleter interface {
	Delete(ctx context.Context, name string) error
}

// Secrets deletes the secrets that no record needs any more. The row that says
// so goes only when the secret is gone, so that a crash between the two repeats
// the deletion.
func Secrets(rows GarbageRows, store Deleter) func(context.Context) error {
	const page = 128
	return func(ctx context.Context) error {
		for {
			garbage, err := rows.SecretGarbage(ctx, page)
			if err != nil || len(garbage) == 0 {
				return err
			}
			names := make([]string, 0, len(garbage))
			for _, g := range garbage {
				if err := store.Delete(ctx, g.Name); err != nil {
					return fmt.Errorf("delete the secret %s: %w", g.Name, err)
				}
				names = append(names, g.Name)
			}
			if err := rows.SecretDeleted(ctx, names...); err != nil {
				return err
			}
		}
	}
}
