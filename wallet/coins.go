package wallet

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/vigilpb"
)

// syncEvery is how often, in seconds, a wallet that asks makes Vigil ask the
// operator.
const syncEvery = 2

// synced asks the operator's indexer for a wallet's coins, unless that was done a
// moment ago, stores what it says and tells who watches. It runs before the
// wallet's actor is asked, so that a slow operator holds up no other request of
// the wallet. An operator that does not answer is no refusal: what is known is
// told with its age.
func (s *Service) synced(ctx context.Context, c auth.Call) error {
	row, err := s.ledger.Wallet(ctx, c.Wallet)
	if errors.Is(err, ledger.ErrNotFound) {
		return notPermitted(c)
	}
	if err != nil {
		return stored(err)
	}
	if row.State != ledger.WalletActive {
		return nil
	}
	if age := s.now() - row.SyncedAt; age >= 0 && age < syncEvery {
		moved, err := s.signedSince(ctx, row)
		if err != nil || !moved {
			return err
		}
	}
	_, err = s.sync(ctx, row)
	if vigil.CodeOf(err) == vigil.CodeOperatorDown {
		s.cfg.Log.Info("a wallet's coins could not be asked for", "wallet", row.ID, "err", err)
		return nil
	}
	return err
}

// signedSince says whether something was signed since the operator was asked that
// may have spent a coin by now: a delegate over it ends, and its other coins are
// covered no more, which a device that just paid has to hear at once.
func (s *Service) signedSince(ctx context.Context, row *ledger.Wallet) (bool, error) {
	held, err := s.ledger.VTXOsOf(ctx, row.ID)
	if err != nil {
		return false, stored(err)
	}
	return slices.ContainsFunc(held, func(h ledger.Holding) bool { return h.Fate != ledger.Spent && h.SignedAt >= row.SyncedAt }), nil
}

// sync asks and stores.
func (s *Service) sync(ctx context.Context, row *ledger.Wallet) (*ledger.Wallet, error) {
	gens, err := generations(row)
	if err != nil {
		return nil, err
	}
	seen, err := s.op.VTXOsByScript(ctx, gens.VTXOScripts(), operator.AnyState)
	if err != nil {
		return nil, operator.Down(err)
	}
	out, err := s.ledger.PutVTXOs(ctx, row.ID, seen)
	if err != nil {
		return nil, stored(err)
	}
	s.announce(row.ID, out)
	return out.Wallet, nil
}

// announce tells what a sync found.
func (s *Service) announce(id vigil.WalletID, out *ledger.Synced) {
	now := s.now()
	say := func(kind notify.Kind, h ledger.Holding, text string, left int64) {
		s.hub.Publish(id, notify.Event{Kind: kind, At: now, Outpoints: []string{h.Outpoint.String()}, Text: text, TimeLeft: max(left, 0)})
	}
	for _, h := range out.New {
		say(notify.Received, h, "a coin arrived", 0)
		if h.Cover == (vigil.DelegateID{}) {
			say(notify.Uncovered, h, "nobody renews this coin yet; sign a delegate for it", h.ExpiresAt-now)
		}
	}
	for _, h := range out.Gone {
		switch {
		case h.Fate == ledger.Unrolled:
			say(notify.Unrolled, h, "this coin is on chain, whoever brought it there; it is spent by the exit leaf", 0)
		case h.Renewed != (vigil.DelegateID{}):
		case h.SignedAt == 0:
			say(notify.ForeignIntent, h, "this coin was spent by something that this server had no part in: the recovery key, or an older copy of the wallet", 0)
		default:
			say(notify.Sent, h, "a coin was spent", 0)
		}
	}
	for _, rec := range out.Ended {
		s.hub.Publish(id, notify.Event{Kind: notify.Uncovered, At: now, Delegate: rec.ID, Text: "a delegate ended because an input is gone; its other coins need a new one", TimeLeft: max(rec.Expiry()-now, 0)})
	}
}

// view is the wallet's coins and delegates at one moment.
type view struct {
	*ledger.WalletSnapshot
	now   int64
	own   [][]byte // scripts of the wallet's that have its recovery leaf
	lives map[vigil.DelegateID]*delegate.Record
}

func (s *Service) view(ctx context.Context, st *state) (*view, error) {
	snap, err := s.ledger.WalletSnapshot(ctx, st.row.ID, lines)
	if err != nil {
		return nil, stored(err)
	}
	v := &view{WalletSnapshot: snap, now: s.now(), lives: map[vigil.DelegateID]*delegate.Record{}}
	for _, d := range st.gens {
		v.own = append(v.own, d.PkScript())
	}
	for _, rec := range snap.Delegates {
		v.lives[rec.ID] = rec
	}
	return v, nil
}

// recoverable says whether a coin's script has the recovery leaf.
func (v *view) recoverable(h *ledger.Holding) bool {
	return slices.ContainsFunc(v.own, func(s []byte) bool { return bytes.Equal(s, h.Script) })
}

// cover returns the live delegate over a coin, or why there is none that counts.
func (v *view) cover(h *ledger.Holding) (*delegate.Record, string) {
	rec := v.lives[h.Cover]
	switch {
	case h.Cover == (vigil.DelegateID{}):
		return nil, "NO_DELEGATE"
	case rec == nil || !rec.State.Live():
		return nil, "DELEGATE_ENDED"
	case slices.Contains(delegate.Misfits(), rec.LastError.Code):
		return nil, rec.LastError.Code
	}
	return rec, ""
}

// unspent are the coins that are still the wallet's, those on chain too.
func (v *view) unspent() []*ledger.Holding {
	var list []*ledger.Holding
	for i := range v.VTXOs {
		if v.VTXOs[i].Fate != ledger.Spent {
			list = append(list, &v.VTXOs[i])
		}
	}
	slices.SortStableFunc(list, func(a, b *ledger.Holding) int {
		if a.ExpiresAt != b.ExpiresAt {
			return int(min(max(a.ExpiresAt-b.ExpiresAt, -1), 1))
		}
		return bytes.Compare(a.Outpoint.Hash[:], b.Outpoint.Hash[:])
	})
	return list
}

func coinState(h *ledger.Holding, now int64) string {
	switch {
	case h.Fate == ledger.Spent:
		return "spent"
	case h.Fate == ledger.Unrolled:
		return "unrolled"
	case h.Recoverable(now):
		return "recoverable"
	}
	return "live"
}

// ListVtxos lists the wallet's coins and what covers them.
func (s *Service) ListVtxos(ctx context.Context, c auth.Call, r *vigilpb.ListVtxosRequest) (a *vigilpb.ListVtxosAnswer, err error) {
	if err := s.synced(ctx, c); err != nil {
		return nil, err
	}
	small := s.smallness(ctx)
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		v, err := s.view(ctx, st)
		if err != nil {
			return err
		}
		cov := v.coverage(small)
		a = &vigilpb.ListVtxosAnswer{
			HasActiveDelegate: cov.active, CoveredUntil: cov.until, KnownAt: v.Wallet.SyncedAt, LastSafeExit: cov.lastExit,
			Descriptor_: v.Wallet.Descriptor,
		}
		for _, h := range v.unspent() {
			rec, why := v.cover(h)
			coin := &vigilpb.Vtxo{
				Outpoint: h.Outpoint.String(), Amount: h.Amount, ExpiresAt: h.ExpiresAt, Script: h.Script, State: coinState(h, v.now),
				Covered: rec != nil, UncoveredWhy: why, Preconfirmed: h.Preconfirmed, RecoverableWithoutVigil: v.recoverable(h),
				ExitDataOnDevice: h.ExitData, CreatedAt: h.CreatedAt,
			}
			if h.Cover != (vigil.DelegateID{}) {
				coin.DelegateId = slices.Clone(h.Cover[:])
			}
			if h.Batch != ([32]byte{}) {
				coin.Commitments = []string{h.Batch.String()}
			}
			for _, asset := range h.Assets {
				coin.Assets = append(coin.Assets, &vigilpb.AssetAmount{Id: asset.AssetID, Amount: asset.Amount})
			}
			a.Vtxos = append(a.Vtxos, coin)
		}
		a.Prepared, err = s.prepareToo(ctx, st, c, r.GetPrepare())
		return err
	})
	return a, err
}

// Coverage says until when the wallet is safe with nobody home.
func (s *Service) Coverage(ctx context.Context, c auth.Call, r *vigilpb.CoverageRequest) (a *vigilpb.CoverageAnswer, err error) {
	if err := s.synced(ctx, c); err != nil {
		return nil, err
	}
	small := s.smallness(ctx)
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		v, err := s.view(ctx, st)
		if err != nil {
			return err
		}
		cov := v.coverage(small)
		a = &vigilpb.CoverageAnswer{
			CoveredUntil: cov.until, KnownAt: v.Wallet.SyncedAt, LastSafeExit: cov.lastExit, HasActiveDelegate: cov.active,
		}
		for _, op := range cov.uncovered {
			a.Uncovered = append(a.Uncovered, op.String())
		}
		for _, op := range cov.dust {
			a.Dust = append(a.Dust, op.String())
		}
		a.Prepared, err = s.prepareToo(ctx, st, c, r.GetPrepare())
		return err
	})
	return a, err
}

// outpoints reads a list of them.
func outpoints(list []string, most int) ([]wire.OutPoint, error) {
	if len(list) > most {
		return nil, malformed("outpoints", "%d of them, at most %d are taken", len(list), most)
	}
	ops := make([]wire.OutPoint, len(list))
	for i, text := range list {
		op, err := parseOutpoint(text)
		if err != nil {
			return nil, malformed("outpoints", "%w", err)
		}
		ops[i] = op
	}
	return ops, nil
}
