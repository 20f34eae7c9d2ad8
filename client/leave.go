package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/esplora"
	"github.com/vigil-ark/vigil/operator"
)

var (
	// ErrFeeCoin is returned when no confirmed coin at the fee address can pay for
	// the next step: send one there.
	ErrFeeCoin = errors.New("client: no coin at the fee address pays for this step")
	// errFeeDue says that one comes with the next block.
	errFeeDue = errors.New("client: the coin that pays for this step is not confirmed yet")
	// ErrNoCommitment is Progress.Err of a coin whose commitment transaction the chain
	// does not know: its batch failed, or is not there yet.
	ErrNoCommitment = errors.New("client: the chain does not know the commitment transaction")
	// ErrTooEarly is returned when there is nothing that may be swept yet.
	ErrTooEarly = errors.New("client: nothing may be swept yet")
)

// How on-chain fees are chosen.
const (
	// feeTarget is in how many blocks a step of an exit should confirm: it has to be
	// through before the batch expires, and its steps come one after another.
	feeTarget = 3
	// minChange is what a child leaves at the fee address at least: taproot's dust.
	minChange = 330
)

// LeaveConfig says what the way out stands on: what the owner kept, and a chain.
type LeaveConfig struct {
	// Backup is the wallet's, as Export gave it.
	Backup Backup
	// Esplora is the URL of a chain's API.
	Esplora string
	// Operator is the Ark operator's URL; only Claim needs it.
	Operator string
	// Now is the clock; nil is the wall clock.
	Now func() time.Time
	// Log receives what happens without being asked for; nil discards it.
	Log *slog.Logger
}

// Leave is the way out without Vigil: with the seed, the wallet's descriptor and
// the branches of its coins, and nothing of the device's store.
//
// Unroll brings the coins on chain, one transaction after another, each paid for
// by a child that spends its anchor and a coin of the fee address; Sweep spends
// what is on chain by the recovery key, once its delay has passed. Both do what
// can be done now and tell what they wait for: call them again, from whichever
// machine. A child that waits too long, or that fees have risen above, is replaced. Claim needs the operator but no delay: it takes coins that are expired
// or swept out of Ark.
type Leave struct {
	cfg            LeaveConfig
	gens           descriptor.Generations
	desc           descriptor.Descriptor // the current one
	recovery, fees *bip340.Key
	chain          *esplora.Client
	feeTree        script.Tree
}

// NewLeave derives the keys of the way out. ErrSeed says that the seed is not
// that of the wallet.
func NewLeave(cfg LeaveConfig, seed Seed) (*Leave, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	gens, err := cfg.Backup.Generations()
	if err != nil {
		return nil, err
	}
	d := gens.Current()
	l := &Leave{cfg: cfg, gens: gens, desc: d}
	if l.chain, err = esplora.New(cfg.Esplora, nil); err != nil {
		return nil, err
	}
	if l.recovery, err = seed.recovery(d.Network); err != nil {
		return nil, err
	}
	if l.fees, err = seed.fees(d.Network); err != nil {
		return nil, err
	}
	if l.recovery.PubKey().XOnly() != d.Recovery {
		l.Burn()
		return nil, fmt.Errorf("%w: its recovery key is not the wallet's", ErrSeed)
	}
	l.feeTree, err = script.NewTree([][]byte{script.Multisig{PubKeys: []bip340.XOnly{l.fees.PubKey().XOnly()}}.Script()})
	return l, err
}

// Burn wipes the keys from memory.
func (l *Leave) Burn() {
	l.recovery.Burn()
	l.fees.Burn()
}

// FeeAddress is the on-chain address whose confirmed coins pay for Unroll.
func (l *Leave) FeeAddress() (string, error) { return addressOf(l.feeTree, l.desc.Network) }

func addressOf(t script.Tree, network ark.Network) (string, error) {
	key := t.OutputKey()
	a, err := address.NewAddressTaproot(key[:], network.ChainParams())
	if err != nil {
		return "", fmt.Errorf("client: address: %w", err)
	}
	return a.EncodeAddress(), nil
}

// Progress is how far a coin is on its way out.
type Progress struct {
	Outpoint string
	// Confirmed of Steps transactions are in blocks; the coin is on chain when all
	// are.
	Confirmed, Steps int
	// Waiting says what for: a confirmation, a fee coin, or nothing ("").
	Waiting string
	// Err says why this coin does not come on chain, such as a batch that the
	// operator has swept.
	Err error
}

// OnChain says whether the coin has arrived.
func (p Progress) OnChain() bool { return p.Confirmed == p.Steps }

// Unroll takes every coin of the backup, or those named, one step further on
// chain. A transaction is broadcast only once all before it are confirmed, as a
// package of itself and the child that pays for both. ErrFeeCoin is returned when
// a coin at the fee address is wanted for more. A coin that cannot come on chain
// keeps no other from it.
func (l *Leave) Unroll(ctx context.Context, ops ...wire.OutPoint) ([]Progress, error) {
	purse, err := l.purse(ctx)
	if err != nil {
		return nil, err
	}
	var list []Progress
	short := false
	coins := l.cfg.Backup.Coins
	if len(ops) > 0 {
		coins = slices.Concat(coins, l.cfg.Backup.Spent)
	}
	for _, d := range coins {
		if len(ops) > 0 && !slices.ContainsFunc(ops, func(op wire.OutPoint) bool { return op.String() == d.Outpoint }) {
			continue
		}
		p, err := l.unroll(ctx, d, purse)
		if err != nil && !ofOneCoin(err) {
			return list, err
		}
		switch {
		case errors.Is(err, ErrFeeCoin):
			short, p.Waiting = true, "a coin at the fee address"
		case !errors.Is(err, errFeeDue):
			p.Err = err
		}
		list = append(list, p)
	}
	if short {
		return list, ErrFeeCoin
	}
	return list, nil
}

// ofOneCoin says whether an error keeps nothing but its own coin waiting.
func ofOneCoin(err error) bool {
	return slices.ContainsFunc([]error{ErrExitData, ErrNoCommitment, esplora.ErrRefused, ErrFeeCoin, errFeeDue}, func(one error) bool { return errors.Is(err, one) })
}

func (l *Leave) unroll(ctx context.Context, d ExitData, purse *purse) (Progress, error) {
	p := Progress{Outpoint: d.Outpoint, Steps: len(d.Txs)}
	txs, err := d.transactions()
	if err != nil {
		return p, err
	}
	for _, tx := range txs {
		n, err := l.chain.Confirmations(ctx, tx.TxHash())
		if err != nil {
			return p, err
		}
		if n > 0 {
			p.Confirmed++
			continue
		}
		p.Waiting = "a confirmation"
		if purse.sent[tx.TxHash()] {
			return p, nil
		}
		if n == 0 {
			return p, l.outbid(ctx, tx, purse)
		}
		ready, err := l.parentsConfirmed(ctx, tx, txs)
		if err != nil {
			return p, err
		}
		if !ready {
			continue // of another branch of this coin's history: it waits its turn
		}
		coin, err := purse.next()
		if err != nil {
			return p, err
		}
		child, err := purse.child(tx, coin, func(size int64) int64 { return purse.fair(tx, size) })
		if err != nil {
			return p, err
		}
		if err := l.send(ctx, tx, child, coin, purse); err != nil {
			return p, err
		}
	}
	return p, nil
}

// parentsConfirmed says whether all that a transaction of a branch spends is in
// blocks. What no transaction of the branch makes is a commitment transaction's.
func (l *Leave) parentsConfirmed(ctx context.Context, tx *wire.MsgTx, branch []*wire.MsgTx) (bool, error) {
	ready := true
	for _, in := range tx.TxIn {
		parent := in.PreviousOutPoint.Hash
		n, err := l.chain.Confirmations(ctx, parent)
		if err != nil {
			return false, err
		}
		if n < 0 && !slices.ContainsFunc(branch, func(tx *wire.MsgTx) bool { return tx.TxHash() == parent }) {
			return false, fmt.Errorf("%w: %s", ErrNoCommitment, parent)
		}
		ready = ready && n > 0
	}
	return ready, nil
}

// Swept is what Sweep spent.
type Swept struct {
	Txid   chainhash.Hash
	Amount int64 // satoshis that arrive
	Fee    int64 // satoshis
}

// Matured is a coin on chain that the recovery key may spend from a time on.
type Matured struct {
	Outpoint wire.OutPoint
	Amount   int64
	At       int64 // unix seconds; 0: not confirmed yet
}

// Maturing lists what the recovery key may spend and when: unrolled coins, and
// coins that never left the boarding address. The chain's own clock decides; it
// lags the time by an hour or so.
func (l *Leave) Maturing(ctx context.Context) ([]Matured, error) {
	list, _, err := l.maturing(ctx)
	return list, err
}

func (l *Leave) maturing(ctx context.Context) ([]Matured, []coin, error) {
	return maturing(ctx, l.chain, l.desc.Network, exits(l.gens, descriptor.LeafRecovery, descriptor.LeafBoardingRecovery, false)...)
}

// exitLeaf is a script on chain with the leaf by which it is left.
type exitLeaf struct {
	tree  script.Tree
	leaf  int
	delay ark.Delay
}

// maturing lists the coins at scripts, and when each one's leaf may spend it. For
// a delay in blocks the time is that of its confirmation: the chain says the rest.
func maturing(ctx context.Context, chain *esplora.Client, network ark.Network, leaves ...exitLeaf) (list []Matured, coins []coin, err error) {
	for _, s := range leaves {
		at, err := addressOf(s.tree, network)
		if err != nil {
			return nil, nil, err
		}
		utxos, err := chain.UTXOs(ctx, at)
		if err != nil {
			return nil, nil, err
		}
		for _, u := range utxos {
			m := Matured{Outpoint: u.Outpoint, Amount: u.Amount}
			if u.Confirmed {
				if m.At, err = chain.ConfirmedAt(ctx, u.Outpoint.Hash); err != nil {
					return nil, nil, err
				}
				if !s.delay.IsBlocks() {
					m.At += s.delay.Seconds()
				}
			}
			list = append(list, m)
			coins = append(coins, coin{
				VTXO: ark.VTXO{Outpoint: u.Outpoint, Amount: u.Amount, Script: s.tree.PkScript()},
				tree: s.tree, leaf: s.leaf,
			})
		}
	}
	return list, coins, nil
}

// Sweep spends everything whose delay has passed to an on-chain address, by the
// recovery key alone. ErrTooEarly says that there is nothing yet; Maturing says
// when.
func (l *Leave) Sweep(ctx context.Context, to string) (Swept, error) {
	list, coins, err := l.maturing(ctx)
	if err != nil {
		return Swept{}, err
	}
	return sweepRipe(ctx, l.chain, keySigner{l.recovery}, l.desc.Network, list, coins, to)
}

// sweepRipe spends those of the coins whose time has come.
func sweepRipe(ctx context.Context, chain *esplora.Client, signer cosigner, network ark.Network, list []Matured, coins []coin, to string) (Swept, error) {
	pkScript, err := onchainScript(to, network)
	if err != nil {
		return Swept{}, err
	}
	now, err := chain.MedianTime(ctx)
	if err != nil {
		return Swept{}, err
	}
	var ripe []coin
	for i, m := range list {
		if m.At > 0 && m.At <= now {
			ripe = append(ripe, coins[i])
		}
	}
	if len(ripe) == 0 {
		return Swept{}, ErrTooEarly
	}
	rate, err := chain.FeeRate(ctx, feeTarget)
	if err != nil {
		return Swept{}, err
	}
	// Anybody may pay dust to an address on chain: it does not pay for its own input.
	ripe = slices.DeleteFunc(ripe, func(c coin) bool { return float64(c.Amount) <= rate*sweepInput/4 })
	return sweep(ctx, chain, signer, ripe, pkScript, rate)
}

// sweep spends on-chain coins, each on its exit leaf, to one output.
func sweep(ctx context.Context, chain *esplora.Client, signer cosigner, coins []coin, to []byte, rate float64) (Swept, error) {
	p, err := newSweep(coins, to, rate)
	if err != nil {
		return Swept{}, err
	}
	doc, err := exitDocument(p)
	if err != nil {
		return Swept{}, err
	}
	if err := signer.sign(ctx, doc); err != nil {
		return Swept{}, err
	}
	tx, err := finalTx(p)
	if err != nil {
		return Swept{}, err
	}
	s := Swept{Txid: tx.TxHash(), Amount: tx.TxOut[0].Value}
	for _, c := range coins {
		s.Fee += c.Amount
	}
	s.Fee -= s.Amount
	return s, chain.Broadcast(ctx, tx)
}

// sweepInput is the weight of a tapscript input with one signature, its leaf and
// a control block of two hashes, rounded up.
const sweepInput = 41*4 + 1 + 1 + 65 + 1 + 45 + 1 + 97 + 10

func newSweep(coins []coin, to []byte, rate float64) (*psbt.Packet, error) {
	tx := wire.NewMsgTx(2)
	var sum int64
	r := script.NewReader()
	for _, c := range coins {
		seq, err := c.sequence(r)
		if err != nil {
			return nil, err
		}
		in := wire.NewTxIn(&c.Outpoint, nil, nil)
		in.Sequence = seq
		tx.AddTxIn(in)
		sum += c.Amount
	}
	tx.AddTxOut(wire.NewTxOut(0, to))
	fee := int64(rate*float64(11*4+2+(9+len(to))*4+len(coins)*sweepInput)/4) + 1
	if tx.TxOut[0].Value = sum - fee; sum-fee < minChange {
		return nil, fmt.Errorf("%w: %d sats do not pay %d for the way", ErrFunds, sum, fee)
	}
	p, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		return nil, fmt.Errorf("client: sweep: %w", err)
	}
	for i, c := range coins {
		p.Inputs[i].WitnessUtxo = wire.NewTxOut(c.Amount, c.tree.PkScript())
		if err := script.SetLeaf(&p.Inputs[i], c.tree, c.leaf); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Claim takes coins that are expired or swept out of Ark in a batch, to an on-chain
// address, with a proof by the recovery key: the operator asks no delay of it
// (spec section 4), and no Vigil.
func (l *Leave) Claim(ctx context.Context, to string) (Settled, error) {
	pkScript, err := onchainScript(to, l.desc.Network)
	if err != nil {
		return Settled{}, err
	}
	op, err := operator.Dial(operator.Config{URL: l.cfg.Operator, Log: l.cfg.Log})
	if err != nil {
		return Settled{}, err
	}
	defer func() { _ = op.Close() }()
	p, err := op.Params(ctx)
	if err != nil {
		return Settled{}, err
	}
	coins, err := l.claimable(ctx, op, p)
	if err != nil {
		return Settled{}, err
	}
	if len(coins) == 0 {
		return Settled{}, fmt.Errorf("%w: no coin is recoverable", ErrFunds)
	}
	_, onchain, coins, err := leaveWith(p, coins, pkScript, l.desc.PkScript(), 0, l.cfg.Now().Unix())
	if err != nil {
		return Settled{}, err
	}
	s := &settlement{op: op, params: p, signer: keySigner{l.recovery}, coins: coins, onchain: onchain}
	return s.run(ctx)
}

// claimable are the coins of all generations that are expired or swept. An earlier
// signer will do for as long as the operator honours it: a coin that has expired is
// given up by no forfeit.
func (l *Leave) claimable(ctx context.Context, op *operator.Client, p ark.Params) (coins []coin, err error) {
	now := l.cfg.Now().Unix()
	trees, refused := map[string]script.Tree{}, signsFor(p, l.desc.Signer)
	var scripts [][]byte
	for _, d := range slices.Backward(l.gens) {
		if honoured(p, d.Signer, now) {
			t := d.Tree()
			trees[string(t.PkScript())] = t
			scripts = append(scripts, t.PkScript())
		}
	}
	if len(scripts) == 0 {
		return nil, refused
	}
	vtxos, err := op.VTXOsByScript(ctx, scripts, operator.OnlyRecoverable)
	if err != nil {
		return nil, err
	}
	for _, v := range vtxos {
		if v.Recoverable(now) && len(v.Assets) == 0 {
			coins = append(coins, coin{VTXO: v, tree: trees[string(v.Script)], leaf: descriptor.LeafRecovery})
		}
	}
	return coins, nil
}
