package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/vigilpb"
)

// Coin is a VTXO of the wallet.
type Coin struct {
	ark.VTXO
	// Covered says that a delegate renews it with nobody home; Delegate is its id,
	// and Why a code of what is in the way when there is none.
	Covered  bool
	Delegate vigil.DelegateID
	Why      string
	// WithoutVigil says that its script has the recovery leaf, ExitData that what
	// brings it on chain is on this device. Older says that the script is of an earlier
	// generation, and Stuck that the operator does not sign for its key any more: the
	// coin can be brought on chain, and not be moved.
	WithoutVigil bool
	Older, Stuck bool
	ExitData     bool
}

// Balance is what the wallet has, in satoshis.
type Balance struct {
	// Settled coins are in a batch of the wallet's own; Preconfirmed ones can be
	// double-spent by their sender and the operator together until they are.
	Settled, Preconfirmed int64
	// Recoverable coins are expired, swept or below dust: a batch renews them, a
	// payment cannot spend them.
	Recoverable int64
	// Boarding coins are on chain, at the boarding address; Board takes them in.
	Boarding int64
}

// Total is the sum.
func (b Balance) Total() int64 { return b.Settled + b.Preconfirmed + b.Recoverable + b.Boarding }

// Balance reads the wallet's coins and adds them up. Without an Esplora, what
// stands at the boarding address is not counted.
func (w *Wallet) Balance(ctx context.Context) (b Balance, err error) {
	coins, err := w.coins(ctx)
	if err != nil {
		return b, err
	}
	now := w.now().Unix()
	for _, v := range coins {
		switch {
		case v.Recoverable(now):
			b.Recoverable += v.Amount
		case v.Preconfirmed:
			b.Preconfirmed += v.Amount
		default:
			b.Settled += v.Amount
		}
	}
	if w.chain == nil {
		return b, nil
	}
	boarding, err := w.boarding(ctx)
	for _, c := range boarding {
		b.Boarding += c.Amount
	}
	return b, err
}

// VTXOs are the wallet's coins that are neither spent nor unrolled, those that
// expire first coming first, as the operator tells, with what Vigil says of their
// cover. With ErrUnreachable the coins are returned all the same, and nothing is
// known of their cover.
func (w *Wallet) VTXOs(ctx context.Context) ([]Coin, error) {
	return w.list(ctx, 0)
}

// list is VTXOs; count delegates are prepared with Vigil's answer.
func (w *Wallet) list(ctx context.Context, count int) ([]Coin, error) {
	seen, err := w.coins(ctx)
	if err != nil {
		return nil, err
	}
	stored, _, err := w.store.exits(ctx)
	if err != nil {
		return nil, err
	}
	own := w.own()
	p, failed := w.op.Params(ctx)
	coins := make([]Coin, len(seen))
	for i, v := range seen {
		coins[i] = Coin{VTXO: v, ExitData: stored[v.Outpoint]}
		if s := own.find(v.Script); s != nil {
			coins[i].WithoutVigil, coins[i].Older = s.recovery, s.desc != own.Descriptor
			coins[i].Stuck = failed == nil && !honoured(p, s.desc.Signer, w.now().Unix())
		}
	}
	var answer vigilpb.ListVtxosAnswer
	if err := w.ask(ctx, "ListVtxos", &vigilpb.ListVtxosRequest{Prepare: uint32(count)}, &answer); err != nil {
		if errors.Is(err, ErrUnreachable) {
			return coins, err
		}
		return nil, err
	}
	w.heard(answer.GetDescriptor_())
	if err := w.keepPrepared(ctx, answer.Prepared); err != nil {
		return nil, err
	}
	said := map[string]*vigilpb.Vtxo{}
	for _, v := range answer.Vtxos {
		said[v.Outpoint] = v
	}
	for i := range coins {
		c := &coins[i]
		v := said[c.Outpoint.String()]
		c.Covered, c.Why = v.GetCovered(), v.GetUncoveredWhy()
		copy(c.Delegate[:], v.GetDelegateId())
	}
	return coins, nil
}

// coins reads the coins from the operator, at the wallet's own scripts and at the
// two-leaf ones that are never offered but may be paid to. It takes nothing that the
// operator signs: an owner has to see coins, and get what brings them on chain,
// when the operator has another signer by now.
func (w *Wallet) coins(ctx context.Context) ([]ark.VTXO, error) {
	if err := w.confirmed(); err != nil {
		return nil, err
	}
	list, err := w.op.VTXOsByScript(ctx, w.own().pkScripts(), operator.OnlyRenewable)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b ark.VTXO) int {
		return cmp.Or(cmp.Compare(a.ExpiresAt, b.ExpiresAt), cmp.Compare(a.Outpoint.String(), b.Outpoint.String()))
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known = list
	return list, nil
}

// owned gives a VTXO its script, to be spent by group and operator.
func (w *Wallet) owned(v ark.VTXO) (coin, error) {
	if s := w.own().find(v.Script); s != nil {
		return coin{VTXO: v, desc: s.desc, tree: s.tree, leaf: descriptor.LeafForfeit}, nil
	}
	return coin{}, fmt.Errorf("%w: %s", ErrUnknownScript, v.Outpoint)
}

// pick reads the coins and returns those named, or all when none is.
func (w *Wallet) pick(ctx context.Context, ops []wire.OutPoint) ([]coin, error) {
	list, err := w.coins(ctx)
	if err != nil {
		return nil, err
	}
	p, err := w.op.Params(ctx)
	if err != nil {
		return nil, err
	}
	var out []coin
	for _, v := range list {
		if len(ops) > 0 && !slices.Contains(ops, v.Outpoint) {
			continue
		}
		c, err := w.owned(v)
		if err != nil {
			return nil, err
		}
		if len(ops) == 0 && c.desc != w.own().Descriptor && !honoured(p, c.desc.Signer, w.now().Unix()) {
			continue // no batch takes it any more
		}
		out = append(out, c)
	}
	if len(out) == 0 || len(ops) > 0 && len(out) != len(ops) {
		return nil, fmt.Errorf("%w: %d of %d coins found", ErrFunds, len(out), len(ops))
	}
	return out, nil
}

// Entry is a line of the wallet's history.
type Entry struct {
	At        int64  // unix seconds
	Kind      string // receive, send, settle, exit, unroll
	Txid      string
	Amount    int64 // satoshis, negative for what left
	Fee       int64 // satoshis that did not come back
	Outpoints []string
}

// History lists what happened to the wallet, oldest first. from is the next of
// an earlier call, or nil for the first entry; limit 0 is the server's own. An
// empty next says that there are no more now.
func (w *Wallet) History(ctx context.Context, from []byte, limit int) (entries []Entry, next []byte, err error) {
	var answer vigilpb.HistoryAnswer
	if err := w.ask(ctx, "History", &vigilpb.HistoryRequest{From: from, Limit: uint32(limit)}, &answer); err != nil {
		return nil, nil, err
	}
	for _, e := range answer.Entries {
		entries = append(entries, Entry{At: e.At, Kind: e.Kind, Txid: e.Txid, Amount: e.Amount, Fee: e.Fee, Outpoints: e.Outpoints})
	}
	return entries, answer.Next, nil
}

// Cover says until when the wallet is safe with nobody home.
type Cover struct {
	Until        int64    // unix seconds; 0: nothing covers it, or it is empty
	KnownAt      int64    // when Vigil last asked the operator
	LastSafeExit int64    // when to begin to leave without Vigil, at the latest; 0: no coins
	Uncovered    []string // outpoints
	Dust         []string // outpoints of uncovered coins too small to be renewed even together; Until leaves them out
	Active       bool     // whether there is a delegate at all
}

// Coverage asks Vigil.
func (w *Wallet) Coverage(ctx context.Context) (Cover, error) {
	var a vigilpb.CoverageAnswer
	if err := w.ask(ctx, "Coverage", &vigilpb.CoverageRequest{}, &a); err != nil {
		return Cover{}, err
	}
	return Cover{Until: a.CoveredUntil, KnownAt: a.KnownAt, LastSafeExit: a.LastSafeExit, Uncovered: a.Uncovered, Dust: a.Dust, Active: a.HasActiveDelegate}, nil
}

// Deletion is how far the end of the wallet at Vigil is.
type Deletion struct {
	Deleted bool
	After   int64 // unix seconds: announced, call again then
}

// Delete ends the wallet at Vigil: every secret and record of it goes. Vigil
// refuses while coins remain, unless forced, which takes a cool-down that it
// announces; a second call after that deletes. What was paid to the addresses for
// boarding counts too, and not every Vigil can see it: this device asks the chain, if
// it can. The device's own store stays.
func (w *Wallet) Delete(ctx context.Context, force bool) (Deletion, error) {
	if w.chain != nil && !force {
		coins, err := w.boarding(ctx)
		if err != nil {
			return Deletion{}, err
		}
		if len(coins) > 0 {
			return Deletion{}, vigil.Errorf(vigil.CodeCoinsRemain, "%d coins are at the addresses for boarding; board them first, or force the deletion", len(coins))
		}
	}
	var a vigilpb.DeleteWalletAnswer
	if err := w.askHost(ctx, "DeleteWallet", &vigilpb.DeleteWalletRequest{Force: force}, &a); err != nil {
		return Deletion{}, err
	}
	return Deletion{a.Deleted, a.DeleteAfter}, nil
}

// KeepWallet takes an announced deletion back.
func (w *Wallet) KeepWallet(ctx context.Context) error {
	return w.askHost(ctx, "DeleteWallet", &vigilpb.DeleteWalletRequest{Withdraw: true}, &vigilpb.DeleteWalletAnswer{})
}
