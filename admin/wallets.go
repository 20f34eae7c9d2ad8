package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ledger"
)

// walletStates name the states of wallets.
func walletStates() map[ledger.WalletState]string {
	return map[ledger.WalletState]string{ledger.WalletPending: "pending", ledger.WalletActive: "active", ledger.WalletDeleting: "deleting"}
}

// wallets fills in what a status says of wallets.
func (p *port) wallets(ctx context.Context, s *Status) error {
	counts, err := p.l.Ledger.WalletCounts(ctx)
	if err != nil {
		return err
	}
	s.Wallets = map[string]uint64{}
	for state, name := range walletStates() {
		s.Wallets[name] = counts[state]
	}
	if p.l.Host != nil {
		s.HostKey, err = p.l.Host(ctx)
	}
	return err
}

func (p *port) Wallets(ctx context.Context, after string, limit int) (WalletPage, error) {
	from, err := hex.DecodeString(after)
	if err != nil {
		return WalletPage{}, fmt.Errorf("%w: the cursor is not one of a page before", ErrRefused)
	}
	if limit == 0 {
		limit = DefaultPage
	}
	if limit < 1 || limit > MaxPage {
		return WalletPage{}, fmt.Errorf("%w: a page has 1 to %d wallets", ErrRefused, MaxPage)
	}
	ids, next, err := p.l.Ledger.Wallets(ctx, limit, from)
	if err != nil {
		return WalletPage{}, err
	}
	page := WalletPage{Wallets: []Wallet{}, Next: hex.EncodeToString(next)}
	for _, id := range ids {
		w, err := p.wallet(ctx, id)
		if errors.Is(err, ledger.ErrNotFound) {
			continue
		}
		if err != nil {
			return WalletPage{}, err
		}
		page.Wallets = append(page.Wallets, w)
	}
	return page, nil
}

// wallet is one as it is shown; one that cannot be read is shown too.
func (p *port) wallet(ctx context.Context, id vigil.WalletID) (Wallet, error) {
	row, err := p.l.Ledger.Wallet(ctx, id)
	if errors.Is(err, ledger.ErrUnreadable) {
		return Wallet{ID: id.String(), Unreadable: true}, nil
	}
	if err != nil {
		return Wallet{}, err
	}
	w := Wallet{
		ID: id.String(), State: walletStates()[row.State], CreatedAt: row.CreatedAt, Threshold: int(row.Threshold), Participants: int(row.Participants),
		Epoch: row.Active, Retiring: row.Retiring, Devices: len(row.Identities), SyncedAt: row.SyncedAt, DeleteAfter: row.DeleteAfter,
	}
	for _, d := range row.Identities {
		if d.FrozenAt != 0 {
			w.Frozen++
		}
	}
	return w, nil
}

// maxMarks bounds what a check of a deleted wallet looks for.
const maxMarks = 64

func (p *port) CheckWallet(ctx context.Context, text string, marks []string) (Report, error) {
	var id vigil.WalletID
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return Report{}, fmt.Errorf("%w: a wallet's id has %d hex digits; `vigil wallets` shows them", ErrRefused, hex.EncodedLen(len(id)))
	}
	if len(marks) > maxMarks {
		return Report{}, fmt.Errorf("%w: %d marks, at most %d are looked for", ErrRefused, len(marks), maxMarks)
	}
	var all [][]byte
	for _, m := range marks {
		mark, err := hex.DecodeString(m)
		if err != nil || len(mark) < 16 {
			return Report{}, fmt.Errorf("%w: a mark is at least 16 bytes in hex: a script, a host key, a delegate's id", ErrRefused)
		}
		all = append(all, mark)
	}
	found, err := p.l.CheckWallet(ctx, vigil.WalletID(b), all)
	if err != nil {
		return Report{}, err
	}
	return report(found, 0), nil
}
