package client

import (
	"context"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// preparedMargin is how long before its end, in seconds, a prepared id is not
// used any more.
const preparedMargin = 60

// keepPrepared stores ids and tree keys that came with an answer, each of which
// Vigil's host key must have signed for this wallet.
func (w *Wallet) keepPrepared(ctx context.Context, list []*vigilpb.Prepared) error {
	if len(list) == 0 {
		return nil
	}
	for _, p := range list {
		if err := w.checkPrepared(p); err != nil {
			return err
		}
	}
	return w.update(ctx, func(st *state) error {
		st.Prepared = slices.DeleteFunc(st.Prepared, func(p prepared) bool {
			return p.ExpiresAt <= w.now().Unix()+preparedMargin
		})
		for _, p := range list {
			if !slices.ContainsFunc(st.Prepared, func(q prepared) bool { return string(q.ID) == string(p.Id) }) {
				st.Prepared = append(st.Prepared, prepared{ID: p.Id, TreeKey: p.TreeKey, ExpiresAt: p.ExpiresAt})
			}
		}
		return nil
	})
}

func (w *Wallet) checkPrepared(p *vigilpb.Prepared) error {
	var id vigil.DelegateID
	key, err := bip340.ParsePubKey(p.TreeKey)
	if err != nil || len(p.Id) != len(id) || len(p.Signature) != 64 {
		return fmt.Errorf("%w: a prepared delegate is malformed", ErrVigil)
	}
	copy(id[:], p.Id)
	hash := auth.PreparedHash(w.ID(), id, key, p.ExpiresAt)
	if !bip340.Verify(w.cfg.HostKey.XOnly(), hash[:], [64]byte(p.Signature)) {
		return fmt.Errorf("%w: a prepared delegate is not signed", ErrVigil)
	}
	return nil
}

// takePrepared uses an id up, asking for more when none is left.
func (w *Wallet) takePrepared(ctx context.Context, wanted int) (p prepared, err error) {
	for range 2 {
		err = w.update(ctx, func(st *state) error {
			p = prepared{}
			for len(st.Prepared) > 0 && p.ID == nil {
				if next := st.Prepared[0]; next.ExpiresAt > w.now().Unix()+preparedMargin {
					p = next
				}
				st.Prepared = st.Prepared[1:]
			}
			return nil
		})
		if err != nil || p.ID != nil {
			return p, err
		}
		var a vigilpb.PrepareDelegatesAnswer
		if err := w.ask(ctx, "PrepareDelegates", &vigilpb.PrepareDelegatesRequest{Count: uint32(min(wanted, maxPrepared))}, &a); err != nil {
			return p, err
		}
		if err := w.keepPrepared(ctx, a.Prepared); err != nil {
			return p, err
		}
	}
	return p, fmt.Errorf("%w: it prepared no delegate", ErrVigil)
}
