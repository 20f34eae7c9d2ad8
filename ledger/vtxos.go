package ledger

import (
	"context"
	"errors"
	"math"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/internal/canon"
	"github.com/vigil-ark/vigil/kv"
)

// Holding is a VTXO of a wallet: what the ledger knows of any VTXO, and what
// concerns its wallet alone.
type Holding struct {
	VTXO
	Preconfirmed bool
	Swept        bool
	SeenAt       int64 // when Vigil met it first
	SignedAt     int64 // when Vigil last signed what may spend it; 0: never
	ExitData     bool  // its device has said that it keeps the branch
	Assets       []ark.AssetAmount
	Batch        chainhash.Hash   // the commitment whose leaf it is; zero for a preconfirmed one
	Renewed      vigil.DelegateID // the delegate whose renewal spent it; zero: none of ours

	// What an intent that Vigil signed last, and that pays on chain, does with the
	// VTXOs that it spends: so many satoshis leave, and so many come back.
	Leaving, Staying int64

	came int64 // the time of the line of history that tells of it; 0: none yet
	went int64 // and of the line that tells where it went
}

// Recoverable says whether only its owner and the operator together can still
// bring it into a batch, without a forfeit.
func (h *Holding) Recoverable(now int64) bool {
	return h.Fate == Unspent && (h.Swept || h.ExpiresAt > 0 && h.ExpiresAt <= now)
}

const maxAssets = 256

func (h *Holding) grew() bool { return h.Leaving != 0 }

// grown are the fields of a row with Leaving and Staying.
func (h *Holding) grown(c *canon.Coder) {
	h.fields(c)
	c.Amount(&h.Leaving, "leaving")
	c.Amount(&h.Staying, "staying")
	if h.Leaving == 0 {
		c.Fail("nothing leaves in a row of a format for what does")
	}
}

// fields are those of the row in the wallet_vtxos tree; the VTXO has its own.
func (h *Holding) fields(c *canon.Coder) {
	c.Bool(&h.Preconfirmed, "preconfirmed")
	c.Bool(&h.Swept, "swept")
	c.Time(&h.SeenAt, "seen at")
	c.Time(&h.SignedAt, "signed at")
	c.Bool(&h.ExitData, "exit data on device")
	canon.List(c, &h.Assets, maxAssets, "assets", func(c *canon.Coder, a *ark.AssetAmount) {
		c.Text(&a.AssetID, maxName, "asset")
		canon.Num(c, &a.Amount, math.MaxUint64, "asset amount")
	})
	c.Fixed(h.Batch[:], "batch")
	c.Fixed(h.Renewed[:], "renewed by")
	c.Time(&h.came, "came")
	c.Time(&h.went, "went")
}

func holdingKey(id vigil.WalletID, op wire.OutPoint) []byte { return under(id, outpointKey(op)) }

// loadHolding reads what concerns the wallet alone; one that is missing, or that
// cannot be read, is nil: it is met again.
func loadHolding(r reader, id vigil.WalletID, op wire.OutPoint) (*Holding, error) {
	key := holdingKey(id, op)
	b, err := r.Get(treeHoldings, key)
	if errors.Is(err, kv.ErrNotFound) || errors.Is(err, ErrUnreadable) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h := new(Holding)
	if err := decodeRow(b, h); err != nil {
		_ = r.damaged(treeHoldings, key, err)
		return nil, nil
	}
	return h, nil
}

// holdings reads every VTXO of a wallet, in the order of their outpoints.
func holdings(r reader, id vigil.WalletID) ([]Holding, error) {
	var all []Holding
	err := r.Scan(treeHoldings, id[:], after(id[:]), func(key, value []byte, damage error) error {
		h := new(Holding)
		if damage == nil && decodeRow(value, h) != nil {
			_ = r.damaged(treeHoldings, key, errValue)
			h = new(Holding)
		}
		v, err := legibleVTXO(r, key[walletSize:])
		if err != nil || v == nil {
			return err
		}
		h.VTXO = *v
		all = append(all, *h)
		return nil
	})
	return all, err
}

// put writes both rows of a holding.
func (h *Holding) put(w writer, id vigil.WalletID) error {
	if err := putRow(w, treeVTXOs, outpointKey(h.Outpoint), &h.VTXO); err != nil {
		return err
	}
	return putRow(w, treeHoldings, holdingKey(id, h.Outpoint), h)
}

// hold makes a VTXO its wallet's, if it is not yet.
func hold(w writer, id vigil.WalletID, v *VTXO, at int64) error {
	h, err := loadHolding(w, id, v.Outpoint)
	if err != nil || h != nil {
		return err
	}
	return putRow(w, treeHoldings, holdingKey(id, v.Outpoint), &Holding{SeenAt: at})
}

// renewed notes that a renewal spent VTXOs of a wallet, and which it made. Its line
// of history tells of both, so that no sync does.
func (t *transition) renewed(rec *delegate.Record, leaves []VTXO) error {
	note := func(op wire.OutPoint, change func(*Holding)) error {
		h, err := loadHolding(t.w, rec.Wallet, op)
		if err != nil {
			return err
		}
		if h == nil {
			h = &Holding{SeenAt: t.at}
		}
		change(h)
		return putRow(t.w, treeHoldings, holdingKey(rec.Wallet, op), h)
	}
	for _, in := range rec.Inputs {
		if err := note(in.Outpoint, func(h *Holding) { h.Renewed, h.went = rec.ID, t.at }); err != nil {
			return err
		}
	}
	for i := range leaves {
		owner, ours, err := aliasOf(t.w, scriptAlias(leaves[i].Script))
		if err != nil {
			return err
		}
		if !ours {
			continue
		}
		if owner != rec.Wallet {
			if err := hold(t.w, owner, &leaves[i], t.at); err != nil {
				return err
			}
			continue
		}
		if err := note(leaves[i].Outpoint, func(h *Holding) { h.Batch, h.came = rec.Commitment, t.at }); err != nil {
			return err
		}
	}
	return nil
}

// VTXOsOf returns the VTXOs of a wallet, the gone ones of the last weeks too.
func (l *Ledger) VTXOsOf(ctx context.Context, id vigil.WalletID) ([]Holding, error) {
	var all []Holding
	err := l.view(ctx, func(r reader) (err error) {
		all, err = holdings(r, id)
		return err
	})
	return all, err
}

// MarkExitData notes that a wallet's device keeps the branches of VTXOs. Those that
// are not the wallet's are left out. The audit's entries are written with it.
func (l *Ledger) MarkExitData(ctx context.Context, id vigil.WalletID, outpoints []wire.OutPoint, links ...Link) error {
	return l.update(ctx, func(w writer) error {
		for _, op := range outpoints {
			h, err := loadHolding(w, id, op)
			if err != nil {
				return err
			}
			if h == nil || h.ExitData {
				continue
			}
			h.ExitData = true
			if err := putRow(w, treeHoldings, holdingKey(id, op), h); err != nil {
				return err
			}
		}
		return appendAudit(w, links...)
	})
}

// Synced says what a sync changed.
type Synced struct {
	Wallet *Wallet            // as it stands now
	New    []Holding          // met for the first time, and not gone
	Gone   []Holding          // spent or unrolled by now
	Swept  []Holding          // recoverable by now
	Ended  []*delegate.Record // whose inputs are gone
	Left   []wire.OutPoint    // gone, and left to the renewal that may have spent them
}

// keepGone is for how long VTXOs that are gone stay, in seconds.
const keepGone = 30 * 24 * 60 * 60

// PutVTXOs stores what the operator's indexer told of a wallet's VTXOs, in one
// write with all that follows: the delegates over those that are gone end, the
// others that these covered are uncovered, and the history says what came and
// went. What a renewal in flight may have spent is left to it. VTXOs of other
// scripts are left out, and one that is not told of stays as it is.
func (l *Ledger) PutVTXOs(ctx context.Context, id vigil.WalletID, seen []ark.VTXO) (*Synced, error) {
	// Nearly always nothing has changed. That is found out on a snapshot, which
	// makes nobody wait, and then only the time is written.
	same := false
	err := l.view(ctx, func(r reader) error {
		d := &dry{reader: r}
		s := &sync{t: l.transition(d), out: new(Synced)}
		err := s.run(id, seen)
		if same = err == nil && !d.changed && len(s.out.Left) == 0; d.changed {
			return nil // what it read after that was not so
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var out *Synced
	err = l.update(ctx, func(w writer) error {
		s := &sync{t: l.transition(w), out: new(Synced)}
		out = s.out
		if same {
			return s.stamp(id)
		}
		return s.run(id, seen)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// dry is a writer that notes only whether anything would be written but when the
// wallet was synced.
type dry struct {
	reader
	changed bool
}

func (d *dry) Put(tree string, _, _ []byte) error {
	d.changed = d.changed || tree != treeWallets && tree != treeSynced
	return nil
}

func (d *dry) Delete(tree string, _ []byte) error {
	d.changed = d.changed || tree != treeSynced
	return nil
}
