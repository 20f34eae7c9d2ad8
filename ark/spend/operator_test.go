package spend_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/vigilpb"
)

// live is a world whose operator is a real one: everything that it takes was
// signed over what Parse found in the documents, and over nothing else.
type live struct {
	*world
	op     *arktest.Operator
	client *operator.Client
	ctx    context.Context

	set     *settlement
	task    batch.Task
	batch   *batch.Batch
	nonces  map[chainhash.Hash]*musig2.SecNonce
	outputs []batch.NewVTXO
}

func newLive(t *testing.T) *live {
	t.Helper()
	op, err := arktest.Start(arktest.Config{Settings: arktest.Settings{SessionDuration: 3 * time.Second, Fees: arktest.Fees{OffchainInput: "10.0"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	client, err := operator.Dial(operator.Config{URL: op.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	l := &live{world: newWorld(t), op: op, client: client, ctx: ctx}
	if l.params, err = client.Info(ctx); err != nil {
		t.Fatal(err)
	}
	l.now = op.Now().Unix()
	if l.desc, err = descriptor.New(l.params, l.group.PubKey(), l.delegate.PubKey().XOnly(), l.recovery.PubKey().XOnly(), 0); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *live) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// known reads a coin from the operator's indexer.
func (l *live) known(op wire.OutPoint, tree script.Tree) coin {
	l.t.Helper()
	for {
		list, err := l.client.VTXOs(l.ctx, []wire.OutPoint{op})
		l.must(err)
		if len(list) == 1 {
			l.vtxos = append(l.vtxos, list[0])
			return coin{op, wire.NewTxOut(list[0].Amount, list[0].Script), tree}
		}
		select { // the indexer is a moment behind the batch
		case <-l.ctx.Done():
			l.t.Fatal("the operator does not show ", op)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestOperatorAccepts boards, pays and renews by documents alone, against an
// operator that shares no line of code with what reads them.
func TestOperatorAccepts(t *testing.T) {
	if testing.Short() {
		t.Skip("two batches on real time")
	}
	l := newLive(t)
	at, err := l.op.Faucet(l.desc.BoardingAddress(), 100_000)
	l.must(err)
	l.must(l.op.Mine(1))
	out, ok := l.op.Chain().Output(at)
	if !ok {
		t.Fatal("the faucet's output is not on chain")
	}
	l.settle(nil, []coin{{at, &out, l.desc.Boarding()}}, l.own(100_000))
	a := l.known(l.outputs[0].Outpoint, l.desc.Tree())

	// A payment to ourselves and to a plain wallet of the same group.
	pay := l.payment([]coin{a}, l.own(60_000), wire.NewTxOut(40_000, l.desc.TwoLeaf().PkScript()))
	s := l.one(l.arkTx(pay))
	if sum(s.Foreign) != 40_000 {
		t.Error("the two-leaf script is not one to receive at")
	}
	l.fill(l.group, s, pay.tx)
	answer, err := l.client.SubmitTx(l.ctx, l.b64(pay.tx), l.list(pay.checkpoints))
	l.must(err)
	doc := &vigilpb.CheckpointDocument{ArkTx: answer.Tx, Checkpoints: answer.Checkpoints}
	second := l.one(&vigilpb.Document{Document: &vigilpb.Document_Checkpoint{Checkpoint: doc}})
	var final []*psbt.Packet
	for _, b64 := range answer.Checkpoints {
		p, err := script.ParsePSBT(b64, script.OperatorLimits())
		l.must(err)
		final = append(final, p)
	}
	l.fill(l.group, second, final...)
	l.must(l.client.FinalizeTx(l.ctx, answer.Txid, l.list(final)))
	if second.Key != s.Key || second.Txid != answer.Txid {
		t.Error("the halves are counted apart")
	}

	// Both coins into one again; the two-leaf one is moved so.
	b := l.known(wire.OutPoint{Hash: answer.Txid}, l.desc.Tree())
	c := l.known(wire.OutPoint{Hash: answer.Txid, Index: 1}, l.desc.TwoLeaf())
	l.settle([]coin{b, c}, nil, l.own(99_980))
	d := l.known(l.outputs[0].Outpoint, l.desc.Tree())
	for _, gone := range []coin{b, c} {
		if v, _ := l.op.VTXO(gone.at); !v.Spent || v.SettledBy == "" {
			t.Errorf("%s is not settled", gone.at)
		}
	}

	// What is signed ahead is taken too: a register intent and its deletion.
	message := l.register()
	proof := l.proof(message, []coin{d}, l.own(99_970))
	reg := l.one(l.intent(message, proof))
	if !reg.Renewal() || reg.Fee != 10 || reg.FeeDue != 10 {
		t.Errorf("%+v", reg)
	}
	l.fill(l.group, reg, proof)
	_, err = l.client.RegisterIntent(l.ctx, l.b64(proof), message)
	l.must(err)
	del := l.message(intent.Message{Kind: intent.Delete})
	proof = l.proof(del, []coin{d})
	l.fill(l.group, l.one(l.intent(del, proof)), proof)
	l.must(l.client.DeleteIntent(l.ctx, l.b64(proof), del))
}

// settle takes coins through a batch.
func (l *live) settle(coins, boards []coin, out *wire.TxOut) {
	l.t.Helper()
	l.set = &settlement{message: l.register()}
	l.set.proof = l.proof(l.set.message, slices.Concat(coins, boards), out)
	l.fill(l.group, l.one(l.intent(l.set.message, l.set.proof)), l.set.proof)
	l.task = batch.Task{ID: "own", Cosigner: l.treeKey.PubKey(), Outputs: []*wire.TxOut{out}}
	for _, c := range coins {
		l.task.Inputs = append(l.task.Inputs, batch.Input{Outpoint: c.at, Amount: c.out.Value, HasForfeit: true})
	}
	for _, c := range boards {
		l.task.Inputs = append(l.task.Inputs, batch.Input{Outpoint: c.at, Amount: c.out.Value, Boarding: true})
	}
	stream, err := l.client.Events(l.ctx)
	l.must(err)
	defer stream.Close()
	l.must(stream.Add(l.ctx, batch.Topics([]batch.Task{l.task})...))
	l.task.IntentID, err = l.client.RegisterIntent(l.ctx, l.b64(l.set.proof), l.set.message)
	l.must(err)
	l.batch = nil
	for ev := range stream.C() {
		e, ok := ev.(batch.Event)
		if !ok {
			continue
		}
		done, err := l.handle(e, slices.Concat(coins, boards))
		l.must(err)
		if done {
			return
		}
	}
	l.t.Fatal("the stream ended")
}

func (l *live) handle(ev batch.Event, coins []coin) (done bool, err error) {
	if s, ok := ev.(batch.Started); ok {
		if !slices.Contains(s.IntentHashes, batch.IntentHash(l.task.IntentID)) {
			return false, nil
		}
		l.set.expiry = ark.Delay(s.Expiry)
		if l.batch, err = batch.New(batch.Config{ForfeitKey: l.params.ForfeitKey.XOnly(), Dust: l.params.Dust}, s, []batch.Task{l.task}); err != nil {
			return false, err
		}
		return false, l.client.ConfirmRegistration(l.ctx, l.task.IntentID)
	}
	if l.batch == nil {
		return false, nil
	}
	step, err := l.batch.Handle(ev)
	for err == nil && step != (batch.StepNone{}) {
		switch st := step.(type) {
		case batch.StepNonces:
			step, err = l.makeNonces(st)
			continue
		case batch.StepSign:
			sigs := map[chainhash.Hash]musig2.PartialSig{}
			for _, n := range st.Nodes {
				if sigs[n.Txid], err = n.Session.Sign(l.treeKey, l.nonces[n.Txid]); err != nil {
					return false, err
				}
			}
			err = l.client.SubmitTreeSignatures(l.ctx, l.batch.ID(), l.treeKey.PubKey(), sigs)
		case batch.StepForfeits:
			err = l.give(st, coins)
		case batch.StepFinalized:
			return true, nil
		case batch.StepFailed:
			return false, errors.New(st.Reason)
		}
		if err == nil {
			step, err = l.batch.Next()
		}
	}
	return false, err
}

func (l *live) makeNonces(st batch.StepNonces) (batch.Step, error) {
	l.nonces = map[chainhash.Hash]*musig2.SecNonce{}
	public := map[chainhash.Hash]musig2.PubNonce{}
	for _, n := range st.Nodes {
		sec, pub, err := musig2.NewNonce(l.treeKey, n.Context, &n.Sighash, nil)
		if err != nil {
			return nil, err
		}
		l.nonces[n.Txid], public[n.Txid] = sec, pub
	}
	key := l.treeKey.PubKey()
	if err := l.client.SubmitTreeNonces(l.ctx, l.batch.ID(), key, public); err != nil {
		return nil, err
	}
	return l.batch.NoncesMade(map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce{key: public})
}

// give signs what the batch takes: forfeits, or the boarding inputs.
func (l *live) give(st batch.StepForfeits, coins []coin) (err error) {
	r := st.Tasks[0]
	l.outputs = r.Outputs
	if l.set.commitment, err = script.ParsePSBT(st.CommitmentPSBT, script.OperatorLimits()); err != nil {
		return err
	}
	for _, n := range r.Branch {
		l.set.nodes = append(l.set.nodes, l.treeNode(n))
	}
	seen := map[chainhash.Hash]bool{}
	for _, c := range coins {
		connector, ok := r.Connectors[c.at]
		if !ok {
			at := slices.IndexFunc(l.set.commitment.UnsignedTx.TxIn, func(in *wire.TxIn) bool { return in.PreviousOutPoint == c.at })
			l.set.boards = append(l.set.boards, uint32(at))
			continue
		}
		l.set.forfeits = append(l.set.forfeits, l.liveForfeit(c, coin{at: connector.Outpoint, out: connector.Out}))
		for _, n := range connector.Branch {
			if !seen[n.Txid] {
				seen[n.Txid] = true
				l.set.connectors = append(l.set.connectors, l.treeNode(n))
			}
		}
	}
	var forfeits []string
	if len(l.set.forfeits) > 0 {
		l.fill(l.group, l.one(l.forfeits(l.set)), l.set.forfeits...)
		forfeits = l.list(l.set.forfeits)
	}
	commitment := ""
	if len(l.set.boards) > 0 {
		s := l.one(l.boarded(l.set))
		for i, h := range s.Sighashes {
			if err := script.SetLeaf(&l.set.commitment.Inputs[h.Input], coins[i].tree, h.Leaf); err != nil {
				return err
			}
		}
		l.fill(l.group, s, l.set.commitment)
		commitment = l.b64(l.set.commitment)
	}
	return l.client.SubmitForfeits(l.ctx, forfeits, commitment)
}

func (l *live) treeNode(n tree.Node) *vigilpb.TreeNode {
	l.t.Helper()
	tx, err := n.Encode()
	l.must(err)
	doc := &vigilpb.TreeNode{Tx: tx}
	for i := range len(n.Children) {
		doc.Children = append(doc.Children, &vigilpb.TreeChild{Output: uint32(i), Txid: n.Children[uint32(i)].String()})
	}
	return doc
}
