package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/operator"
)

var (
	// ErrStream is returned when the event stream ends in the middle of a batch.
	ErrStream = operator.ErrStreamLost
	// ErrOperator is returned when the operator's part of a transaction is not what
	// was asked for.
	ErrOperator = errors.New("client: the operator changed the transaction")
)

// BatchError says that a batch failed; trying again may help.
type BatchError = operator.BatchError

// Settled is what a batch gave.
type Settled struct {
	Commitment chainhash.Hash
	Coins      []wire.OutPoint // the new VTXOs, in order
	Amount     int64           // satoshis in them
	Fee        int64           // satoshis
}

// cosigner makes the signatures that documents lack, and puts them in.
type cosigner interface {
	sign(ctx context.Context, docs ...*document) error
}

// settlement is one intent of the device's own and the batch that carries it.
type settlement struct {
	op      *operator.Client
	params  ark.Params
	signer  cosigner
	coins   []coin
	outs    []*wire.TxOut // off-chain, an extension last
	onchain []*wire.TxOut
	// least is how long the batch must live, in seconds; 0: as the network has it.
	least int64
	// keep makes the branch and commitment durable; only then forfeits leave.
	keep func(ctx context.Context, commitment *psbt.Packet, r batch.TaskResult) error
	// lost learns of coins that were kept and will not be: certainly not, or by the
	// word of the operator, who has what it takes to make them all the same.
	lost func(ctx context.Context, coins []wire.OutPoint, certain bool) error

	key    *bip340.Key // of this settlement alone, forgotten afterwards
	task   batch.Task
	intent proof
	signed string // the proof
	expiry uint32
	nonces map[chainhash.Hash]*musig2.SecNonce
	given  bool // nothing more of ours is wanting to the batch
	result Settled
}

// batchTries bounds how many batches an intent is taken to when they fail or go on
// without it. An operator bans scripts whose owner was missing in several: once
// more is safe.
const batchTries = 2

// run registers the intent and follows the batches until one has carried it. One
// intent serves all tries, so that limits count it once; nonces are fresh in each.
func (s *settlement) run(ctx context.Context) (Settled, error) {
	if err := s.prepare(ctx); err != nil {
		return Settled{}, err
	}
	defer s.forget()
	for try := 1; ; try++ {
		err := s.op.Participate(ctx, &s.task, s.signed, s.intent.message, s)
		if err == nil {
			return s.result, s.await(ctx)
		}
		err = errors.Join(err, s.giveUp(ctx, err))
		s.withdraw(ctx, err)
		if try == batchTries || !s.missed(err) {
			return Settled{}, err
		}
		for _, n := range s.nonces {
			n.Burn()
		}
		s.nonces, s.task.IntentID = nil, ""
		select {
		case <-time.After(time.Duration(max(s.params.SessionSeconds, 1)) * time.Second / 4):
		case <-ctx.Done():
			return Settled{}, errors.Join(err, context.Cause(ctx))
		}
	}
}

// giveUp has put away what was kept of a batch that failed.
func (s *settlement) giveUp(ctx context.Context, err error) error {
	coins, given := s.result.Coins, s.given
	s.result.Coins, s.given = nil, false
	var failed *BatchError
	if s.lost == nil || len(coins) == 0 || given && !errors.As(err, &failed) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	return s.lost(ctx, coins, !given)
}

// missed says whether the next batch may do what this one did not: it failed, or
// was too quick for us. An intent over on-chain coins alone cannot be taken back;
// it stands in the queue until a batch has passed it over.
func (s *settlement) missed(err error) bool {
	var failed *BatchError
	onchain := !slices.ContainsFunc(s.coins, func(c coin) bool { return !c.boarding })
	return errors.As(err, &failed) || operator.ClassOf(err) == operator.NextBatch || onchain && errors.Is(err, operator.ErrDuplicate)
}

// prepare signs the intent.
func (s *settlement) prepare(ctx context.Context) error {
	message := intent.NewRegister(0, 0)
	message.Cosigners = []string{}
	s.task = batch.Task{ID: "own", Onchain: s.onchain}
	if len(s.outs) > 0 {
		key, scalar, err := bip340.GenerateKey()
		if err != nil {
			return err
		}
		scalar.Burn()
		s.key, s.task.Cosigner = key, key.PubKey()
		message = intent.NewRegister(0, 0, key.PubKey())
	}
	for i := range s.onchain {
		message.OnchainOutputs = append(message.OnchainOutputs, s.onchainAt()+i)
	}
	for _, c := range s.coins {
		s.task.Inputs = append(s.task.Inputs, batch.Input{Outpoint: c.Outpoint, Amount: c.Amount, Boarding: c.boarding, HasForfeit: !c.boarding})
		s.result.Fee += c.Amount
	}
	for _, o := range slices.Concat(s.outs, s.onchain) {
		s.result.Fee -= o.Value
	}
	var err error
	at := s.onchainAt()
	if s.intent, err = newProof(message, s.coins, slices.Concat(s.outs[:at], s.onchain, s.outs[at:])); err != nil {
		return err
	}
	if s.task.Outputs, err = inLeaf(s.outs, s.intent.txid()); err != nil {
		return err
	}
	if err := s.signer.sign(ctx, intentDocument(s.intent)); err != nil {
		return err
	}
	s.signed, err = encoded(s.intent.packet)
	return err
}

// onchainAt is where on-chain outputs stand in the proof: after the off-chain
// ones that an extension may name, before the extension.
func (s *settlement) onchainAt() int {
	if n := len(s.outs); n > 0 && txscript.IsUnspendable(s.outs[n-1].PkScript) {
		return n - 1
	}
	return len(s.outs)
}

func (s *settlement) forget() {
	for _, n := range s.nonces {
		n.Burn()
	}
	s.nonces = nil
	if s.key != nil {
		s.key.Burn()
	}
}

// Join implements operator.Participant.
func (s *settlement) Join(ctx context.Context, started batch.Started) (*batch.Batch, error) {
	if err := batch.CheckExpiry(s.params.Network, started.Expiry, max(s.least, 1)); err != nil {
		return nil, err
	}
	s.nonces, s.expiry = nil, started.Expiry
	b, err := batch.New(
		batch.Config{ForfeitKey: s.params.ForfeitKey.XOnly(), Dust: s.params.Dust},
		started, []batch.Task{s.task})
	if err != nil {
		return nil, err
	}
	return b, s.unspent(ctx)
}

// leastLife is nine tenths of what the longest-lived of the coins has left, in
// seconds: an operator may not give hours for weeks, and sweep them.
func leastLife(coins []coin, outs []*wire.TxOut, now int64) (least int64) {
	if len(outs) == 0 { // nothing stays in Ark
		return 0
	}
	for _, c := range coins {
		if c.NeedsForfeit(now) && !c.boarding {
			least = max(least, (c.ExpiresAt-now)/10*9)
		}
	}
	return min(least, maxLife)
}

// maxLife bounds that, in seconds: more than any batch lives, whatever an operator
// said of a coin.
const maxLife = 25 * 86_400

// unspent refuses coins that something else has spent since the intent was
// registered, such as a delegate whose batch was on its way: the operator does not
// look again, and would take a forfeit for nothing.
func (s *settlement) unspent(ctx context.Context) error {
	var ops []wire.OutPoint
	for _, c := range s.coins {
		if !c.boarding {
			ops = append(ops, c.Outpoint)
		}
	}
	if len(ops) == 0 {
		return nil
	}
	found, err := s.op.VTXOs(ctx, ops)
	if err != nil {
		return err
	}
	for _, v := range found {
		if v.Spent || v.Unrolled {
			return fmt.Errorf("%w: %s is spent, or on chain", ErrFunds, v.Outpoint)
		}
	}
	return nil
}

// Nonces implements operator.Participant.
func (s *settlement) Nonces(st batch.StepNonces) (map[chainhash.Hash]musig2.PubNonce, error) {
	s.nonces = map[chainhash.Hash]*musig2.SecNonce{}
	public := map[chainhash.Hash]musig2.PubNonce{}
	for _, n := range st.Nodes {
		sec, pub, err := musig2.NewNonce(s.key, n.Context, &n.Sighash, nil)
		if err != nil {
			return nil, err
		}
		s.nonces[n.Txid], public[n.Txid] = sec, pub
	}
	return public, nil
}

// Sign implements operator.Participant.
func (s *settlement) Sign(st batch.StepSign) (map[chainhash.Hash]musig2.PartialSig, error) {
	sigs := map[chainhash.Hash]musig2.PartialSig{}
	for _, n := range st.Nodes {
		sig, err := n.Session.Sign(s.key, s.nonces[n.Txid])
		if err != nil {
			return nil, err
		}
		sigs[n.Txid] = sig
	}
	s.nonces = nil
	return sigs, nil
}

// Forfeit implements operator.Participant: it hands over what the batch costs, once
// all that it gives is kept.
func (s *settlement) Forfeit(ctx context.Context, st batch.StepForfeits) error {
	if len(st.Tasks) != 1 {
		return fmt.Errorf("%w: it wants forfeits that it was not promised: %v", ErrOperator, st.Withheld)
	}
	r := st.Tasks[0]
	s.result.Commitment, s.result.Coins, s.result.Amount = st.Txid, nil, 0
	for _, o := range r.Outputs {
		if !txscript.IsUnspendable(o.Out.PkScript) { // an extension is no coin
			s.result.Coins, s.result.Amount = append(s.result.Coins, o.Outpoint), s.result.Amount+o.Out.Value
		}
	}
	if s.keep != nil {
		if err := s.keep(ctx, st.Commitment, r); err != nil {
			return err
		}
	}
	docs, forfeits, commitment, err := s.give(st, r)
	if err != nil || len(docs) == 0 {
		s.given = err == nil
		return err
	}
	if err := s.signer.sign(ctx, docs...); err != nil {
		return err
	}
	var list []string
	for _, f := range forfeits {
		text, err := encoded(f)
		if err != nil {
			return err
		}
		list = append(list, text)
	}
	var text string
	if commitment != nil {
		if text, err = encoded(commitment); err != nil {
			return err
		}
	}
	s.given = true
	return s.op.SubmitForfeits(ctx, list, text)
}

// give builds what is to be signed last: forfeits of the inputs that received a
// connector, and the boarding inputs of the commitment transaction.
func (s *settlement) give(st batch.StepForfeits, r batch.TaskResult) (docs []*document, forfeits []*psbt.Packet, commitment *psbt.Packet, err error) {
	evidence, err := s.evidence(st.CommitmentPSBT, r)
	if err != nil {
		return nil, nil, nil, err
	}
	var jobs []job
	for _, c := range s.coins {
		connector, ok := r.Connectors[c.Outpoint]
		if !ok {
			continue
		}
		f, err := newForfeit(c, connector, s.params.ForfeitScript)
		if err != nil {
			return nil, nil, nil, err
		}
		own, err := jobsOf(f, txscript.SigHashDefault, 0)
		if err != nil {
			return nil, nil, nil, err
		}
		forfeits, jobs = append(forfeits, f), append(jobs, own...)
	}
	if len(forfeits) > 0 {
		doc, err := forfeitDocument(forfeits, evidence, jobs)
		if err != nil {
			return nil, nil, nil, err
		}
		docs = append(docs, doc)
	}
	commitment, inputs, jobs, err := s.boarding(st.CommitmentPSBT)
	if err == nil && commitment != nil {
		docs = append(docs, boardingDocument(evidence, inputs, jobs))
	}
	return docs, forfeits, commitment, err
}

// boarding prepares the device's on-chain coins in the commitment transaction;
// nil when it has none there.
func (s *settlement) boarding(b64 string) (p *psbt.Packet, inputs []int, jobs []job, err error) {
	if !slices.ContainsFunc(s.coins, func(c coin) bool { return c.boarding }) {
		return nil, nil, nil, nil
	}
	if p, err = script.ParsePSBT(b64, script.OperatorLimits()); err != nil {
		return nil, nil, nil, err
	}
	for i, in := range p.UnsignedTx.TxIn {
		at := slices.IndexFunc(s.coins, func(c coin) bool { return c.boarding && c.Outpoint == in.PreviousOutPoint })
		if at < 0 {
			continue
		}
		if err := script.SetLeaf(&p.Inputs[i], s.coins[at].tree, s.coins[at].leaf); err != nil {
			return nil, nil, nil, err
		}
		inputs = append(inputs, i)
	}
	if len(inputs) > 0 {
		jobs, err = jobsOf(p, txscript.SigHashDefault, inputs...)
	}
	return p, inputs, jobs, err
}

// newForfeit gives c to the operator against the connector (protocol section
// 5.7).
func newForfeit(c coin, connector batch.Connector, forfeitScript []byte) (*psbt.Packet, error) {
	tx := wire.NewMsgTx(arkVersion)
	tx.AddTxIn(wire.NewTxIn(&c.Outpoint, nil, nil))
	tx.AddTxIn(wire.NewTxIn(&connector.Outpoint, nil, nil))
	tx.AddTxOut(wire.NewTxOut(c.Amount+connector.Out.Value, forfeitScript))
	tx.AddTxOut(ark.AnchorOut())
	p, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		return nil, fmt.Errorf("client: forfeit: %w", err)
	}
	p.Inputs[0].WitnessUtxo = wire.NewTxOut(c.Amount, c.tree.PkScript())
	p.Inputs[1].WitnessUtxo = connector.Out
	return p, script.SetLeaf(&p.Inputs[0], c.tree, c.leaf)
}

// withdrawTimeout bounds the clean-up after a settlement that failed.
const withdrawTimeout = 5 * time.Second

// withdraw takes a registered intent back after a failure. Mostly there is none
// any more, so nobody is told of an error.
func (s *settlement) withdraw(ctx context.Context, err error) {
	queued := s.task.IntentID != "" || errors.Is(err, operator.ErrUnheard)
	if !queued || !slices.ContainsFunc(s.coins, func(c coin) bool { return !c.boarding }) {
		return // intents over on-chain coins alone cannot be taken back
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	_ = withdraw(ctx, s.op, s.signer, s.coins)
}

// withdraw deletes at the operator whatever is registered over any of the coins:
// the proof is over all of them, since an intent may hold just one. On-chain coins
// count for nothing there.
func withdraw(ctx context.Context, op *operator.Client, signer cosigner, coins []coin) error {
	coins = slices.DeleteFunc(slices.Clone(coins), func(c coin) bool { return c.boarding })
	proof, message, err := signedProof(ctx, signer, intent.Delete, coins)
	if err != nil {
		return err
	}
	return op.DeleteIntent(ctx, proof, message)
}

// signedProof proves to the operator, over all of the coins, who asks what kind says.
func signedProof(ctx context.Context, signer cosigner, kind intent.Kind, coins []coin) (proof, message string, err error) {
	p, err := newProof(intent.Message{Kind: kind}, coins, nil)
	if err != nil {
		return "", "", err
	}
	if err := signer.sign(ctx, intentDocument(p)); err != nil {
		return "", "", err
	}
	proof, err = encoded(p.packet)
	return proof, p.message, err
}

// awaitEvery is how often the indexer is asked for a new coin.
const awaitEvery = 100 * time.Millisecond

// await returns once the operator's indexer shows the new coins: it stores them
// only after it has said that the batch is final.
func (s *settlement) await(ctx context.Context) error {
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	for len(s.result.Coins) > 0 {
		found, err := s.op.VTXOs(ctx, s.result.Coins)
		if err != nil {
			return err
		}
		if len(found) == len(s.result.Coins) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// single fills the one output that takes everything but the fee, with the coins'
// assets behind it.
func single(p ark.Params, coins []coin, pkScript []byte, now int64, worst bool) ([]*wire.TxOut, error) {
	if len(coins) == 0 {
		return nil, fmt.Errorf("%w: there are none", ErrFunds)
	}
	e, err := fee.Compile(p.Fees)
	if err != nil {
		return nil, err
	}
	out := wire.NewTxOut(0, pkScript)
	outs := []*wire.TxOut{out}
	if err := balance(e, coins, outs, nil, out, now, worst); err != nil {
		return nil, err
	}
	if out.Value < p.Dust {
		return nil, fmt.Errorf("%w: %d", ErrDust, out.Value)
	}
	return carry(coins, outs, 0, 1)
}
