package batch_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/tree/treetest"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/secret"
)

const (
	batchID = "9d3e0c5e-0000-4000-8000-000000000001"
	dust    = 330
	expiry  = 604672
)

// keyOf is the n-th key of the tests.
func keyOf(t testing.TB, n uint32) *bip340.Key { return scalarKey(t, n, false) }

// negatedKeyOf is the key whose public key is the n-th one's negation.
func negatedKeyOf(t testing.TB, n uint32) *bip340.Key { return scalarKey(t, n, true) }

func scalarKey(t testing.TB, n uint32, negate bool) *bip340.Key {
	t.Helper()
	var b [32]byte
	b[0] = 0x5a
	binary.BigEndian.PutUint32(b[28:], n)
	if negate {
		var s btcec.ModNScalar
		s.SetBytes(&b)
		b = s.Negate().Bytes()
	}
	k, err := bip340.NewKey(secret.New(b[:]))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// p2tr is an output to the n-th key of the tests' customers.
func p2tr(t testing.TB, sats int64, n uint32) *wire.TxOut {
	t.Helper()
	return wire.NewTxOut(sats, ark.PayToTaproot(keyOf(t, 1_000_000+n).PubKey().XOnly()))
}

func outpoint(n uint32) wire.OutPoint {
	op := wire.OutPoint{Index: n % 3}
	binary.LittleEndian.PutUint32(op.Hash[:], n+1)
	return op
}

// part is one intent in a batch.
type part struct {
	task batch.Task
	ours bool
	// listed overrides the cosigner that the operator lists for it.
	listed bip340.PubKey
	// more are cosigners of its leaf beside, operator one in the operator's place.
	more     []bip340.PubKey
	operator bip340.PubKey
	// connectors are the inputs that the operator wants forfeited.
	connectors []wire.OutPoint
}

// operator is an honest operator, and all participants that are not ours.
type operator struct {
	t         testing.TB
	parts     []part
	contexts  *musig2.Cache
	spec      treetest.Spec
	keys      map[bip340.PubKey]*bip340.Key // of everybody but us
	key       bip340.PubKey
	forfeit   bip340.XOnly
	connector bip340.XOnly

	// Lies that have to be built in.
	connOutputs []*wire.TxOut // instead of one of dust
	forge       func(*wire.MsgTx)
	hang        *wire.OutPoint // where the VTXO tree hangs instead

	commitment string
	txid       chainhash.Hash
	root       *treetest.Node
	connRoot   *treetest.Node
	connTopics []string // by leaf

	nonces map[chainhash.Hash]map[bip340.PubKey]*musig2.SecNonce
	aggs   map[chainhash.Hash]musig2.AggNonce
	hashes map[chainhash.Hash][32]byte
}

func newOperator(t testing.TB, parts ...part) *operator {
	t.Helper()
	op := &operator{
		t: t, parts: parts,
		contexts: musig2.NewCache(4096),
		keys:     make(map[bip340.PubKey]*bip340.Key),
		nonces:   make(map[chainhash.Hash]map[bip340.PubKey]*musig2.SecNonce),
		aggs:     make(map[chainhash.Hash]musig2.AggNonce),
		hashes:   make(map[chainhash.Hash][32]byte),
	}
	own := keyOf(t, 900_001)
	op.key = own.PubKey()
	op.keys[op.key] = own
	op.forfeit = keyOf(t, 900_002).PubKey().XOnly()
	op.connector = keyOf(t, 900_003).PubKey().XOnly()
	op.spec = treetest.Spec{
		Radix: treetest.VTXORadix, Expiry: expiry, Contexts: op.contexts,
		Sweep: script.SweepLeaf(op.forfeit, expiry),
	}
	return op
}

// knows gives the operator the keys of strangers.
func (op *operator) knows(keys ...*bip340.Key) *operator {
	for _, k := range keys {
		op.keys[k.PubKey()] = k
	}
	return op
}

// build makes commitment transaction and trees.
func (op *operator) build() *operator {
	op.t.Helper()
	var leaves, conns []treetest.Leaf
	tx := wire.NewMsgTx(2)
	funding := outpoint(5_000_000)
	tx.AddTxIn(wire.NewTxIn(&funding, nil, nil))
	offchain := false
	for _, p := range op.parts {
		offchain = offchain || len(p.task.Outputs) > 0
		listed := p.listed
		if listed == (bip340.PubKey{}) {
			listed = p.task.Cosigner
		}
		operator := op.key
		if p.operator != (bip340.PubKey{}) {
			operator = p.operator
		}
		leaves = append(leaves, treetest.Leaf{
			Outputs: p.task.Outputs, Cosigners: append([]bip340.PubKey{listed, operator}, p.more...),
		})
		for _, c := range p.connectors {
			outs := op.connOutputs
			if outs == nil {
				outs = []*wire.TxOut{wire.NewTxOut(dust, ark.PayToTaproot(op.connector))}
			}
			conns = append(conns, treetest.Leaf{Outputs: outs, Cosigners: []bip340.PubKey{op.connector.PubKey()}})
			op.connTopics = append(op.connTopics, c.String())
		}
		for _, in := range p.task.Inputs {
			if in.Boarding {
				tx.AddTxIn(wire.NewTxIn(&in.Outpoint, nil, nil))
			}
		}
	}
	if offchain {
		op.root = op.plan(leaves, op.spec)
		tx.AddTxOut(op.root.Out())
	}
	var onchain []*wire.TxOut
	for _, p := range op.parts {
		onchain = append(onchain, p.task.Onchain...)
	}
	if len(conns) > 0 {
		op.connRoot = op.plan(conns, treetest.Spec{Radix: treetest.ConnectorRadix})
		if !offchain {
			tx.AddTxOut(onchain[0])
			onchain = onchain[1:]
		}
		tx.AddTxOut(op.connRoot.Out())
	}
	for _, o := range onchain {
		tx.AddTxOut(o)
	}
	tx.AddTxOut(p2tr(op.t, 50_000, 77))
	if op.forge != nil {
		op.forge(tx)
	}
	op.txid = tx.TxHash()
	op.commitment = packet(op.t, tx)
	if op.root != nil {
		on := wire.OutPoint{Hash: op.txid}
		if op.hang != nil {
			on = *op.hang
		}
		op.root.Hang(on)
	}
	if op.connRoot != nil {
		op.connRoot.Hang(wire.OutPoint{Hash: op.txid, Index: 1})
	}
	return op
}

func (op *operator) plan(leaves []treetest.Leaf, spec treetest.Spec) *treetest.Node {
	op.t.Helper()
	n, err := treetest.Plan(leaves, spec)
	if err != nil {
		op.t.Fatal(err)
	}
	return n
}

func packet(t testing.TB, tx *wire.MsgTx) string {
	t.Helper()
	p, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		t.Fatal(err)
	}
	b64, err := p.B64Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b64
}

func (op *operator) started() batch.Started {
	s := batch.Started{BatchID: batchID, Expiry: expiry}
	for _, p := range op.parts {
		s.IntentHashes = append(s.IntentHashes, batch.IntentHash(p.task.IntentID))
	}
	return s
}

func (op *operator) tasks() (tasks []batch.Task) {
	for _, p := range op.parts {
		if p.ours {
			tasks = append(tasks, p.task)
		}
	}
	return tasks
}

func (op *operator) config() batch.Config {
	return batch.Config{ForfeitKey: op.forfeit, Dust: dust, Cache: musig2.NewCache(4096)}
}

func (op *operator) open() *batch.Batch {
	op.t.Helper()
	b, err := batch.New(op.config(), op.started(), op.tasks())
	if err != nil {
		op.t.Fatal(err)
	}
	return b
}

// topics says whether an event with these topics reaches us.
func (op *operator) topics() map[string]bool {
	m := make(map[string]bool)
	for _, s := range batch.Topics(op.tasks()) {
		m[s] = true
	}
	return m
}

func treeTx(t testing.TB, n *treetest.Node, index int32, topics []string) batch.TreeTx {
	t.Helper()
	b64, err := n.PSBT()
	if err != nil {
		t.Fatal(err)
	}
	return batch.TreeTx{BatchID: batchID, BatchIndex: index, Topics: topics, PSBT: b64, Children: n.ChildIDs()}
}

// treeGroup is what comes after everybody confirmed.
func (op *operator) treeGroup() (group []batch.Event) {
	op.t.Helper()
	if op.root == nil {
		return nil
	}
	mine := op.topics()
	for _, n := range op.root.Nodes() {
		if topics := keysOf(n); reaches(mine, topics) {
			group = append(group, treeTx(op.t, n, 0, topics))
		}
	}
	ev := batch.TreeSigningStarted{BatchID: batchID, Commitment: op.commitment}
	for _, k := range op.root.Cosigners {
		if k != op.key {
			ev.Cosigners = append(ev.Cosigners, k.String())
		}
	}
	return append(group, ev)
}

func keysOf(n *treetest.Node) (topics []string) {
	for _, k := range n.Cosigners {
		topics = append(topics, k.String())
	}
	return topics
}

func reaches(mine map[string]bool, topics []string) bool {
	for _, t := range topics {
		if mine[t] {
			return true
		}
	}
	return false
}

type pubNonces = map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce

// nonceGroup is what comes after everybody, with ours, submitted nonces.
func (op *operator) nonceGroup(ours pubNonces) (group []batch.Event) {
	op.t.Helper()
	if op.root == nil {
		return nil
	}
	mine := op.topics()
	all := batch.TreeNoncesAggregated{BatchID: batchID, Nonces: make(map[chainhash.Hash][66]byte)}
	prevouts := op.prevouts()
	for _, n := range op.root.Nodes() {
		txid := n.Txid()
		ctx, err := n.Context()
		if err != nil {
			op.t.Fatal(err)
		}
		h, err := script.NewSighasher(n.Tx, []*wire.TxOut{prevouts[txid]})
		if err != nil {
			op.t.Fatal(err)
		}
		if op.hashes[txid], err = h.KeyPath(0, 0); err != nil {
			op.t.Fatal(err)
		}
		ev := batch.TreeNonces{BatchID: batchID, Txid: txid, Nonces: make(map[bip340.XOnly][66]byte)}
		op.nonces[txid] = make(map[bip340.PubKey]*musig2.SecNonce)
		var set []musig2.PubNonce
		for _, k := range n.Cosigners {
			pub, ok := byX(ours, k.XOnly())[txid]
			if !ok {
				op.nonces[txid][k], pub, err = musig2.NewNonce(op.keys[k], ctx, nil, nil)
				if err != nil {
					op.t.Fatal(err)
				}
			}
			ev.Nonces[k.XOnly()] = pub
			set = append(set, pub)
		}
		if op.aggs[txid], err = musig2.AggregateNonces(set); err != nil {
			op.t.Fatal(err)
		}
		all.Nonces[txid] = op.aggs[txid]
		if reaches(mine, keysOf(n)) {
			group = append(group, ev)
		}
	}
	return append(group, all)
}

// byX finds nonces by x coordinate, as the operator does.
func byX(ours pubNonces, x bip340.XOnly) map[chainhash.Hash]musig2.PubNonce {
	for k, m := range ours {
		if k.XOnly() == x {
			return m
		}
	}
	return nil
}

func (op *operator) prevouts() map[chainhash.Hash]*wire.TxOut {
	m := map[chainhash.Hash]*wire.TxOut{op.root.Txid(): op.root.Out()}
	for _, n := range op.root.Nodes() {
		for i, c := range n.Children {
			m[c.Txid()] = n.Tx.TxOut[i]
		}
	}
	return m
}

type partials = map[bip340.PubKey]map[chainhash.Hash]musig2.PartialSig

// finalGroup is what comes after everybody, with us, signed.
func (op *operator) finalGroup(ours partials) (group []batch.Event) {
	op.t.Helper()
	mine := op.topics()
	if op.root != nil {
		for _, n := range op.root.Nodes() {
			txid := n.Txid()
			ctx, err := n.Context()
			if err != nil {
				op.t.Fatal(err)
			}
			var sigs []musig2.PartialSig
			for _, k := range n.Cosigners {
				sig, ok := ours[k][txid]
				if !ok {
					if sig, err = ctx.Sign(op.keys[k], op.nonces[txid][k], op.aggs[txid], op.hashes[txid]); err != nil {
						op.t.Fatal(err)
					}
				}
				sigs = append(sigs, sig)
			}
			final, err := ctx.Combine(op.aggs[txid], op.hashes[txid], sigs)
			if err != nil {
				op.t.Fatal(err)
			}
			if reaches(mine, keysOf(n)) {
				group = append(group, batch.TreeSignature{BatchID: batchID, Txid: txid, Signature: final})
			}
		}
	}
	if op.connRoot != nil {
		for _, n := range op.connRoot.Nodes() {
			var topics []string
			for _, l := range n.Leaves() {
				topics = append(topics, op.connTopics[l.Leaf])
			}
			if reaches(mine, topics) {
				group = append(group, treeTx(op.t, n, 1, topics))
			}
		}
	}
	return append(group, batch.Finalization{BatchID: batchID, Commitment: op.commitment})
}

func (op *operator) finalized() []batch.Event {
	return []batch.Event{batch.Finalized{BatchID: batchID, Txid: op.txid}}
}

// signer is our side's keys: it makes nonces and partial signatures as the
// steps ask for them, and fails the test when a nonce is asked for twice.
type signer struct {
	t      testing.TB
	keys   map[bip340.PubKey]*bip340.Key
	nonces map[chainhash.Hash]map[bip340.PubKey]*musig2.SecNonce
	signed int
}

func newSigner(t testing.TB, keys ...*bip340.Key) *signer {
	s := &signer{t: t, keys: make(map[bip340.PubKey]*bip340.Key)}
	for _, k := range keys {
		s.keys[k.PubKey()] = k
	}
	return s
}

func (s *signer) makeNonces(step batch.StepNonces) pubNonces {
	s.t.Helper()
	if s.nonces != nil {
		s.t.Fatal("nonces are asked for twice")
	}
	s.nonces = make(map[chainhash.Hash]map[bip340.PubKey]*musig2.SecNonce)
	pubs := make(pubNonces)
	for _, n := range step.Nodes {
		k, ok := s.keys[n.Cosigner]
		if !ok {
			s.t.Fatalf("node %v wants a signature by %v, not ours", n.Txid, n.Cosigner)
		}
		sec, pub, err := musig2.NewNonce(k, n.Context, &n.Sighash, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		if s.nonces[n.Txid] == nil {
			s.nonces[n.Txid] = make(map[bip340.PubKey]*musig2.SecNonce)
		}
		if pubs[n.Cosigner] == nil {
			pubs[n.Cosigner] = make(map[chainhash.Hash]musig2.PubNonce)
		}
		s.nonces[n.Txid][n.Cosigner], pubs[n.Cosigner][n.Txid] = sec, pub
	}
	return pubs
}

func (s *signer) sign(step batch.StepSign) partials {
	s.t.Helper()
	sigs := make(partials)
	for _, n := range step.Nodes {
		sig, err := n.Session.Sign(s.keys[n.Cosigner], s.nonces[n.Txid][n.Cosigner])
		if err != nil {
			s.t.Fatalf("node %v: %v", n.Txid, err)
		}
		if sigs[n.Cosigner] == nil {
			sigs[n.Cosigner] = make(map[chainhash.Hash]musig2.PartialSig)
		}
		sigs[n.Cosigner][n.Txid] = sig
		s.signed++
	}
	return sigs
}

// outcome is what a run ended in.
type outcome struct {
	nonces    *batch.StepNonces
	sign      *batch.StepSign
	forfeits  *batch.StepForfeits
	finalized *batch.StepFinalized
	failed    *batch.StepFailed
	err       error
}

// run plays a whole batch; edit may change each group of events before it is
// delivered. Groups: 0 tree, 1 nonces, 2 final, 3 finalized.
func run(op *operator, s *signer, b *batch.Batch, edit func(group int, evs []batch.Event) []batch.Event) (o outcome) {
	op.t.Helper()
	var pubs pubNonces
	var sigs partials
	for group := range 4 {
		var evs []batch.Event
		switch group {
		case 0:
			evs = op.treeGroup()
		case 1:
			if o.nonces == nil && op.root != nil && len(op.treeGroup()) > 1 {
				return o
			}
			evs = op.nonceGroup(pubs)
		case 2:
			if o.sign == nil && o.nonces != nil {
				return o
			}
			evs = op.finalGroup(sigs)
		case 3:
			evs = op.finalized()
		}
		if edit != nil {
			evs = edit(group, evs)
		}
		for _, ev := range evs {
			step, err := b.Handle(ev)
			for err == nil && step != (batch.StepNone{}) {
				switch st := step.(type) {
				case batch.StepNonces:
					o.nonces = &st
					pubs = s.makeNonces(st)
					step, err = b.NoncesMade(pubs)
					continue
				case batch.StepSign:
					o.sign = &st
					sigs = s.sign(st)
				case batch.StepForfeits:
					o.forfeits = &st
				case batch.StepFinalized:
					o.finalized = &st
				case batch.StepFailed:
					o.failed = &st
				}
				step, err = b.Next()
			}
			if err != nil {
				if o.err != nil {
					op.t.Fatalf("a second error: %v after %v", err, o.err)
				}
				o.err = err
			}
		}
	}
	return o
}

// ourTask is a part of ours: the n-th task, with one input that has a forfeit
// and is wanted.
func ourTask(t testing.TB, n uint32, key *bip340.Key, outs ...*wire.TxOut) part {
	t.Helper()
	in := outpoint(n)
	return part{
		ours: true, connectors: []wire.OutPoint{in},
		task: batch.Task{
			ID: fmt.Sprintf("task-%d", n), IntentID: fmt.Sprintf("intent-%d", n), Cosigner: key.PubKey(),
			Outputs: outs, Inputs: []batch.Input{{Outpoint: in, Amount: 10_000, HasForfeit: true}},
		},
	}
}

// strangers is somebody else's part.
func stranger(t testing.TB, n uint32, key *bip340.Key, outs ...*wire.TxOut) part {
	t.Helper()
	p := ourTask(t, n, key, outs...)
	p.ours = false
	return p
}
