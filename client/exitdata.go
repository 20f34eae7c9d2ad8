package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/vigilpb"
)

// ErrExitData is returned for transactions that do not lead from a commitment
// transaction to the coin, or are not wholly signed.
var ErrExitData = errors.New("client: the transactions do not bring the coin on chain")

// ExitData is what brings one coin on chain without anybody's help: the signed
// transactions between commitment transaction and coin. It is public to the
// operator, and a secret to nobody who may know of the coin.
type ExitData struct {
	Outpoint   string `json:"outpoint"`
	Amount     int64  `json:"amount"` // satoshis
	Script     []byte `json:"script"`
	ExpiresAt  int64  `json:"expires_at,omitempty"` // unix seconds, as far as known
	Commitment string `json:"commitment"`           // txid, of one of them
	// Txs are raw transactions, every parent before its children; each pays no fee
	// and has an anchor that anybody may spend.
	Txs [][]byte `json:"txs"`
}

// transactions decodes the transactions.
func (d ExitData) transactions() ([]*wire.MsgTx, error) {
	out := make([]*wire.MsgTx, len(d.Txs))
	for i, raw := range d.Txs {
		tx, r := &wire.MsgTx{}, bytes.NewReader(raw)
		if err := tx.Deserialize(r); err != nil || r.Len() > 0 {
			return nil, fmt.Errorf("%w: transaction %d does not decode", ErrExitData, i)
		}
		out[i] = tx
	}
	return out, nil
}

// verify runs every script: with the outputs of the commitment transactions
// that commitment knows, the coin comes on chain. commitment returns nil for a
// transaction that it does not know.
func (d ExitData) verify(commitment func(chainhash.Hash) (*wire.MsgTx, error)) error {
	txs, err := d.transactions()
	if err != nil {
		return err
	}
	known := map[chainhash.Hash]*wire.MsgTx{}
	for _, tx := range txs {
		outs := txscript.NewMultiPrevOutFetcher(nil)
		for _, in := range tx.TxIn {
			op := in.PreviousOutPoint
			parent := known[op.Hash]
			if parent == nil {
				if parent, err = commitment(op.Hash); err != nil {
					return err
				}
				if parent == nil {
					return fmt.Errorf("%w: %s is unknown", ErrExitData, op.Hash)
				}
				known[op.Hash] = parent
			}
			if int(op.Index) >= len(parent.TxOut) {
				return fmt.Errorf("%w: no output %s", ErrExitData, op)
			}
			outs.AddPrevOut(op, parent.TxOut[op.Index])
		}
		hashes := txscript.NewTxSigHashes(tx, outs)
		for i, in := range tx.TxIn {
			out := outs.FetchPrevOutput(in.PreviousOutPoint)
			vm, err := txscript.NewEngine(out.PkScript, tx, i, txscript.StandardVerifyFlags, nil, hashes, out.Value, outs)
			if err == nil {
				err = vm.Execute()
			}
			if err != nil {
				return fmt.Errorf("%w: %s input %d: %w", ErrExitData, tx.TxHash(), i, err)
			}
		}
		known[tx.TxHash()] = tx
	}
	op, err := ark.ParseOutpoint(d.Outpoint)
	if err != nil {
		return err
	}
	last := known[op.Hash]
	if len(txs) == 0 || last == nil || int(op.Index) >= len(last.TxOut) ||
		last.TxOut[op.Index].Value != d.Amount || !bytes.Equal(last.TxOut[op.Index].PkScript, d.Script) {
		return fmt.Errorf("%w: %s is not among them", ErrExitData, d.Outpoint)
	}
	return nil
}

// Backup is what its owner needs beside the seed to leave without Vigil. It holds
// no secret, but tells all that the wallet has: keep it as a bank statement.
type Backup struct {
	Descriptor string `json:"descriptor"`
	// Older are the descriptors of earlier generations, the oldest first: coins may lie
	// at their scripts.
	Older []string `json:"older,omitempty"`
	// Record is the key's public recovery data: with it and a seed, a share of the
	// key can be made again.
	Record []byte     `json:"record"`
	Coins  []ExitData `json:"coins"`
	// Spent are coins of which the operator says that they are spent, or that their
	// batch failed, until they expire: should that be a lie, Unroll them by name.
	Spent []ExitData `json:"spent,omitempty"`
}

// Export is the wallet's Backup as of now. Fetch what is missing with Keep first.
func (w *Wallet) Export(ctx context.Context) (b Backup, err error) {
	if err := w.confirmed(); err != nil {
		return b, err
	}
	b.Descriptor, b.Older = w.own().gens.Text()
	e, err := w.current().active()
	if err != nil {
		return b, err
	}
	b.Record = e.Record
	have, spent, err := w.store.exits(ctx)
	if err != nil {
		return b, err
	}
	ops := slices.SortedFunc(maps.Keys(have), func(a, b wire.OutPoint) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) })
	for _, op := range ops {
		d, err := w.store.exit(ctx, op)
		if err != nil {
			return b, err
		}
		if spent[op] {
			b.Spent = append(b.Spent, d)
		} else {
			b.Coins = append(b.Coins, d)
		}
	}
	return b, nil
}

// Generations are the wallet's descriptors, the current one last. The error is
// descriptor.ErrDescriptor.
func (b Backup) Generations() (descriptor.Generations, error) {
	return descriptor.ParseGenerations(b.Descriptor, b.Older)
}

// ParseBackup reads what json.Marshal made of a Backup.
func ParseBackup(raw []byte) (b Backup, d descriptor.Descriptor, err error) {
	if err := json.Unmarshal(raw, &b); err != nil {
		return b, d, fmt.Errorf("client: backup: %w", err)
	}
	g, err := b.Generations()
	return b, g.Current(), err
}

// fetchExits gets what brings coins on chain that the device does not have yet:
// from Vigil, which keeps the branches of its renewals, else from the operator.
// Nothing is kept unverified. It also sorts out that of coins which are gone.
func (w *Wallet) fetchExits(ctx context.Context, coins []ark.VTXO) error {
	have, spent, err := w.store.exits(ctx)
	if err != nil {
		return err
	}
	var lacking []ark.VTXO
	for _, c := range coins {
		if !have[c.Outpoint] && !c.Swept {
			lacking = append(lacking, c)
		}
		delete(have, c.Outpoint)
		if spent[c.Outpoint] { // and is not, after all
			if err := w.store.markSpent(ctx, c.Outpoint, false); err != nil {
				return err
			}
		}
	}
	if err := w.forgetExits(ctx, slices.Collect(maps.Keys(have)), spent); err != nil {
		return err
	}
	if len(lacking) == 0 {
		return nil
	}
	branches, err := w.branches(ctx)
	if err != nil {
		w.cfg.Log.Warn("no branches from Vigil", "reason", err)
	}
	var got []string
	for _, c := range lacking {
		d, err := w.fetchExit(ctx, c, branches[c.Outpoint.String()])
		if err != nil {
			w.cfg.Log.Warn("exit data not to be had", "outpoint", c.Outpoint, "reason", err)
			continue
		}
		if err := w.store.putExit(ctx, d); err != nil {
			return err
		}
		got = append(got, d.Outpoint)
	}
	if len(got) == 0 || branches == nil {
		return nil
	}
	return w.ask(ctx, "AcknowledgeBranches", &vigilpb.AcknowledgeBranchesRequest{Outpoints: got}, &vigilpb.AcknowledgeBranchesAnswer{})
}

// fetchExit takes the branch that Vigil gave, if it is one, or the operator's.
func (w *Wallet) fetchExit(ctx context.Context, c ark.VTXO, b *vigilpb.Branch) (ExitData, error) {
	if b != nil {
		d, err := w.exitOf(ctx, c, b)
		if err == nil {
			return d, nil
		}
		w.cfg.Log.Warn("Vigil's branch does not bring the coin on chain", "outpoint", c.Outpoint, "reason", err)
	}
	return w.exitOf(ctx, c, nil)
}

// forgetExits marks the exit data of coins that the operator says are spent, and
// drops them when the coins have expired: until then they are what a coin is had by
// of which that is a lie. A coin that was unrolled has left the list of coins and
// is being brought out.
func (w *Wallet) forgetExits(ctx context.Context, ops []wire.OutPoint, spent map[wire.OutPoint]bool) error {
	if len(ops) == 0 {
		return nil
	}
	known, err := w.op.VTXOs(ctx, ops)
	if err != nil {
		return err
	}
	for _, op := range ops {
		if slices.ContainsFunc(known, func(v ark.VTXO) bool { return v.Outpoint == op }) {
			continue
		}
		if err := w.forgetUnmade(ctx, op, spent[op]); err != nil {
			return err
		}
	}
	now := w.now().Unix()
	for _, v := range known {
		if !v.Spent || !slices.Contains(ops, v.Outpoint) {
			continue
		}
		d, err := w.store.exit(ctx, v.Outpoint)
		if err != nil {
			return err
		}
		switch {
		case now > cmp.Or(d.ExpiresAt, v.ExpiresAt):
			err = w.store.dropExit(ctx, v.Outpoint)
		case !spent[v.Outpoint]:
			err = w.store.markSpent(ctx, v.Outpoint, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forgetUnmade sets apart the exit data of a coin that neither operator nor chain
// knows, of a batch whose end nobody heard, and drops them once it would have
// expired. A batch that is under way may make it yet.
func (w *Wallet) forgetUnmade(ctx context.Context, op wire.OutPoint, apart bool) error {
	if !w.spending.TryLock() {
		return nil
	}
	defer w.spending.Unlock()
	d, err := w.store.exit(ctx, op)
	if err != nil || d.Commitment == "" {
		return err
	}
	if w.chain != nil {
		id, err := chainhash.NewHashFromStr(d.Commitment)
		if err != nil {
			return fmt.Errorf("%w: exit data of %s: %w", ErrState, op, err)
		}
		if n, err := w.chain.Confirmations(ctx, *id); err != nil || n >= 0 {
			return err
		}
	}
	switch {
	case apart && w.now().Unix() > d.ExpiresAt:
		return w.store.dropExit(ctx, op)
	case !apart && w.chain != nil:
		return w.store.markSpent(ctx, op, true)
	}
	return nil
}

// putAway drops the exit data of coins of a batch that failed. What is certain by
// the operator's word alone stays, set apart, until the coins would have expired.
func (w *Wallet) putAway(ctx context.Context, ops []wire.OutPoint, certain bool) error {
	var errs []error
	for _, op := range ops {
		if certain {
			errs = append(errs, w.store.dropExit(ctx, op))
		} else {
			errs = append(errs, w.store.markSpent(ctx, op, true))
		}
	}
	return errors.Join(errs...)
}

func (w *Wallet) branches(ctx context.Context) (map[string]*vigilpb.Branch, error) {
	var a vigilpb.BranchesAnswer
	if err := w.ask(ctx, "Branches", &vigilpb.BranchesRequest{}, &a); err != nil {
		return nil, err
	}
	out := map[string]*vigilpb.Branch{}
	for _, b := range a.Branches {
		out[b.Outpoint] = b
	}
	return out, nil
}

// exitOf makes the exit data of a coin of Vigil's branch, or without one of what
// the operator has, and verifies them.
func (w *Wallet) exitOf(ctx context.Context, c ark.VTXO, b *vigilpb.Branch) (d ExitData, err error) {
	d = ExitData{Outpoint: c.Outpoint.String(), Amount: c.Amount, Script: c.Script, ExpiresAt: c.ExpiresAt}
	if len(c.CommitmentTxs) > 0 {
		d.Commitment = c.CommitmentTxs[0].String()
	}
	var came *wire.MsgTx
	if b == nil {
		if d.Txs, err = virtualTxs(ctx, w.op, c.Outpoint); err != nil {
			return d, err
		}
	} else if d.Txs = b.Txs; b.Commitment != "" {
		p, err := script.ParsePSBT(b.Commitment, script.OperatorLimits())
		if err != nil {
			return d, err
		}
		came = p.UnsignedTx
	}
	return d, d.verify(func(id chainhash.Hash) (*wire.MsgTx, error) { return w.commitment(ctx, id, came) })
}

// commitment finds a commitment transaction: on chain, where it has to be, or as
// it came, whose id then proves it.
func (w *Wallet) commitment(ctx context.Context, id chainhash.Hash, came *wire.MsgTx) (*wire.MsgTx, error) {
	if came != nil && came.TxHash() == id {
		return came, nil
	}
	if w.chain == nil {
		return nil, nil
	}
	return w.chain.Tx(ctx, id)
}

// virtualTxs reads the signed transactions of a coin from the operator, every
// parent before its children.
func virtualTxs(ctx context.Context, op *operator.Client, at wire.OutPoint) ([][]byte, error) {
	steps, err := op.VtxoChain(ctx, at)
	if err != nil {
		return nil, err
	}
	var ids []chainhash.Hash
	for _, s := range slices.Backward(steps) {
		if s.Kind != operator.KindCommitment && !slices.Contains(ids, s.Txid) {
			ids = append(ids, s.Txid)
		}
	}
	packets, err := op.VirtualTxs(ctx, ids)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, id := range ids {
		p, err := script.ParsePSBT(packets[id], script.OperatorLimits())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		tx, err := finalTx(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		out = append(out, rawTx(tx))
	}
	return out, nil
}
