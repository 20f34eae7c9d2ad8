package batch_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
)

// checkRenewed holds the result against the tasks: every task has a leaf of its
// own with its outputs, a branch that the script engine lets spend the
// commitment transaction, and a connector for each input that is wanted.
func checkRenewed(t *testing.T, op *operator, o outcome) {
	t.Helper()
	if o.err != nil || o.forfeits == nil || o.finalized == nil {
		t.Fatalf("not renewed: error %v, forfeits %v, finalized %v", o.err, o.forfeits != nil, o.finalized != nil)
	}
	if o.finalized.Txid != op.txid {
		t.Errorf("finalized %v, want %v", o.finalized.Txid, op.txid)
	}
	checkForfeits(t, op, o.forfeits)
	for _, r := range o.forfeits.Tasks {
		i := slices.IndexFunc(op.parts, func(p part) bool { return p.ours && p.task.ID == r.ID })
		if want := op.parts[i].connectors; len(r.Connectors) != len(want) {
			t.Errorf("%s: %d connectors, want %d", r.ID, len(r.Connectors), len(want))
		}
	}
}

// checkForfeits holds what forfeits are to be given for against the tasks.
func checkForfeits(t testing.TB, op *operator, s *batch.StepForfeits) {
	t.Helper()
	if s.Txid != op.txid || s.Commitment.UnsignedTx.TxHash() != op.txid {
		t.Errorf("commitment %v, want %v", s.Txid, op.txid)
	}
	tasks := op.tasks()
	if len(s.Tasks)+len(s.Withheld) != len(tasks) {
		t.Fatalf("%d results and %d withheld of %d tasks", len(s.Tasks), len(s.Withheld), len(tasks))
	}
	taken := make(map[chainhash.Hash]string)
	connectors := make(map[wire.OutPoint]bool)
	for _, r := range s.Tasks {
		i := slices.IndexFunc(op.parts, func(p part) bool { return p.ours && p.task.ID == r.ID })
		p := op.parts[i]
		checkLeaf(t, op, p, r)
		if len(p.task.Outputs) > 0 {
			if taken[r.Leaf] != "" {
				t.Errorf("%s and %s have one leaf", r.ID, taken[r.Leaf])
			}
			taken[r.Leaf] = r.ID
		}
		for in, c := range r.Connectors {
			if !slices.Contains(p.connectors, in) || connectors[c.Outpoint] {
				t.Errorf("%s: connector %v for %v", r.ID, c.Outpoint, in)
			}
			connectors[c.Outpoint] = true
			last := c.Branch[len(c.Branch)-1]
			if c.Out.Value != dust || last.Txid != c.Outpoint.Hash || last.Tx.TxOut[c.Outpoint.Index] != c.Out {
				t.Errorf("%s: connector %v is worth %d", r.ID, c.Outpoint, c.Out.Value)
			}
			if c.Branch[0].Input() != (wire.OutPoint{Hash: op.txid, Index: 1}) {
				t.Errorf("%s: connector %v hangs from %v", r.ID, c.Outpoint, c.Branch[0].Input())
			}
		}
	}
}

func checkLeaf(t testing.TB, op *operator, p part, r batch.TaskResult) {
	t.Helper()
	if len(p.task.Outputs) == 0 {
		if len(r.Branch) != 0 || len(r.Outputs) != 0 {
			t.Errorf("%s: a branch for no off-chain output", r.ID)
		}
		return
	}
	if len(r.Outputs) != len(p.task.Outputs) {
		t.Fatalf("%s: %d outputs, want %d", r.ID, len(r.Outputs), len(p.task.Outputs))
	}
	for j, out := range r.Outputs {
		w := p.task.Outputs[j]
		if out.Outpoint != (wire.OutPoint{Hash: r.Leaf, Index: uint32(j)}) || out.Out.Value != w.Value || string(out.Out.PkScript) != string(w.PkScript) {
			t.Errorf("%s: output %d is %v", r.ID, j, out)
		}
	}
	prevout, want := op.root.Out(), wire.OutPoint{Hash: op.txid}
	for _, n := range r.Branch {
		tx := n.SignedTx()
		if tx == nil || tx.TxIn[0].PreviousOutPoint != want {
			t.Fatalf("%s: branch node %v does not hang together", r.ID, n.Txid)
		}
		fetcher := txscript.NewCannedPrevOutputFetcher(prevout.PkScript, prevout.Value)
		vm, err := txscript.NewEngine(prevout.PkScript, tx, 0, txscript.StandardVerifyFlags, nil,
			txscript.NewTxSigHashes(tx, fetcher), prevout.Value, fetcher)
		if err != nil {
			t.Fatal(err)
		}
		if err := vm.Execute(); err != nil {
			t.Errorf("%s: branch node %v does not spend its parent: %v", r.ID, n.Txid, err)
		}
		for i, id := range n.Children {
			for _, m := range r.Branch {
				if m.Txid == id {
					prevout, want = n.Tx.TxOut[i], wire.OutPoint{Hash: n.Txid, Index: i}
				}
			}
		}
	}
	if r.Branch[len(r.Branch)-1].Txid != r.Leaf {
		t.Errorf("%s: the branch does not end in the leaf", r.ID)
	}
}

// TestRenewed plays whole batches of every kind with an honest operator.
func TestRenewed(t *testing.T) {
	service, other, third := keyOf(t, 1), keyOf(t, 2), keyOf(t, 3)
	foreign, far := keyOf(t, 100), keyOf(t, 101)
	for _, c := range []struct {
		name    string
		parts   func() []part
		foreign int // leaves of strangers that carry our key
		nodes   int // nodes of ours times our keys in them
	}{
		{"alone", func() []part { return []part{ourTask(t, 1, service, p2tr(t, 9000, 1))} }, 0, 1},
		{"several outputs with an extension", func() []part {
			return []part{ourTask(t, 1, service, p2tr(t, 100, 1), p2tr(t, 9000, 2), wire.NewTxOut(0, []byte("\x6a\x05ARK\x01\x00")))}
		}, 0, 1},
		{"among strangers", func() []part {
			return []part{
				stranger(t, 1, foreign, p2tr(t, 500, 1)), ourTask(t, 2, service, p2tr(t, 9000, 2)),
				stranger(t, 3, far, p2tr(t, 700, 3)),
			}
		}, 0, 3},
		{"one service key for five, two of them equal", func() []part {
			return []part{
				ourTask(t, 1, service, p2tr(t, 9000, 1)), ourTask(t, 2, service, p2tr(t, 9000, 1)),
				ourTask(t, 3, service, p2tr(t, 9000, 3)), ourTask(t, 4, service, p2tr(t, 9001, 3)),
				ourTask(t, 5, service, p2tr(t, 9000, 3), p2tr(t, 9001, 3)),
			}
		}, 0, 9},
		{"a key each", func() []part {
			return []part{
				ourTask(t, 1, service, p2tr(t, 9000, 1)), ourTask(t, 2, other, p2tr(t, 9000, 1)),
				ourTask(t, 3, third, p2tr(t, 9000, 1)),
			}
		}, 0, 8},
		{"strangers who name our service key", func() []part {
			return []part{
				stranger(t, 1, service, p2tr(t, 9000, 2)), ourTask(t, 2, service, p2tr(t, 9000, 2)),
				stranger(t, 3, service, p2tr(t, 1, 9)), stranger(t, 4, foreign, p2tr(t, 700, 4)),
			}
		}, 2, 6},
		{"on-chain outputs beside", func() []part {
			p := ourTask(t, 1, service, p2tr(t, 9000, 1))
			p.task.Onchain = []*wire.TxOut{p2tr(t, 4000, 5), p2tr(t, 4000, 5)}
			return []part{p, ourTask(t, 2, service, p2tr(t, 9000, 2))}
		}, 0, 3},
		{"on-chain outputs only, in a batch with a tree", func() []part {
			p := ourTask(t, 1, service)
			p.task.Onchain = []*wire.TxOut{p2tr(t, 4000, 5)}
			return []part{p, stranger(t, 2, foreign, p2tr(t, 9000, 2))}
		}, 1, 2},
		{"on-chain outputs only, no tree at all", func() []part {
			p := ourTask(t, 1, service)
			p.task.Onchain = []*wire.TxOut{p2tr(t, 4000, 5)}
			return []part{p}
		}, 0, 0},
		{"recoverable by now", func() []part {
			p := ourTask(t, 1, service, p2tr(t, 9000, 1))
			p.connectors = nil
			return []part{p, ourTask(t, 2, service, p2tr(t, 9000, 2))}
		}, 0, 3},
		{"a boarding input", func() []part {
			p := ourTask(t, 1, service, p2tr(t, 9000, 1))
			p.connectors = nil
			p.task.Inputs[0].Boarding, p.task.Inputs[0].HasForfeit = true, false
			return []part{p}
		}, 0, 1},
		{"many inputs of one task", func() []part {
			p := ourTask(t, 1, service, p2tr(t, 9000, 1))
			for i := range uint32(5) {
				in := batch.Input{Outpoint: outpoint(50 + i), Amount: 1000, HasForfeit: true}
				p.task.Inputs = append(p.task.Inputs, in)
				p.connectors = append(p.connectors, in.Outpoint)
			}
			return []part{stranger(t, 9, foreign, p2tr(t, 500, 1)), p}
		}, 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			op := newOperator(t, c.parts()...).knows(foreign, far).build()
			s := newSigner(t, service, other, third)
			o := run(op, s, op.open(), nil)
			checkRenewed(t, op, o)
			if o.nonces != nil && o.nonces.Foreign != c.foreign {
				t.Errorf("%d foreign leaves, want %d", o.nonces.Foreign, c.foreign)
			}
			if s.signed != c.nodes {
				t.Errorf("%d signatures, want %d", s.signed, c.nodes)
			}
		})
	}
}

// TestNegatedKey has a stranger list the negation of our key. The operator
// takes two keys with one x coordinate for one, keeps the first, and checks our
// signatures as ours where the node lists the other: such a batch must fail. We
// give our nonces all the same, for those nodes too, so that it fails by the
// stranger's, but no signature under a nonce and coefficient that are not ours.
func TestNegatedKey(t *testing.T) {
	negated, service := negatedKeyOf(t, 1), keyOf(t, 1)
	if negated.PubKey().XOnly() != service.PubKey().XOnly() || negated.PubKey() == service.PubKey() {
		t.Fatal("the test's keys are no negations of each other")
	}
	op := newOperator(t,
		stranger(t, 1, negated, p2tr(t, 400, 9)),
		ourTask(t, 2, service, p2tr(t, 9000, 1)),
		ourTask(t, 3, service, p2tr(t, 9000, 2)),
	).build()
	o := run(op, newSigner(t, service), op.open(), nil)
	var v *batch.Violation
	if !errors.As(o.err, &v) || v.Rule != batch.RuleNegated || o.sign != nil {
		t.Fatalf("error %v, signatures asked for: %v", o.err, o.sign != nil)
	}
	if len(o.nonces.Nodes) != 5 || o.nonces.Foreign != 1 {
		t.Errorf("nonces for %d nodes, %d foreign leaves", len(o.nonces.Nodes), o.nonces.Foreign)
	}
	for _, n := range o.nonces.Nodes {
		if n.Cosigner != service.PubKey() {
			t.Errorf("node %v is to be signed by %v", n.Txid, n.Cosigner)
		}
	}
}

// TestWithheld has the operator want a forfeit that was never signed: that task
// is named and left out, the others go on.
func TestWithheld(t *testing.T) {
	service := keyOf(t, 1)
	bad := ourTask(t, 1, service, p2tr(t, 9000, 1))
	bad.task.Inputs[0].HasForfeit = false
	op := newOperator(t, bad, ourTask(t, 2, service, p2tr(t, 9000, 2))).build()
	o := run(op, newSigner(t, service), op.open(), nil)
	checkRenewed(t, op, o)
	if len(o.forfeits.Tasks) != 1 || o.forfeits.Tasks[0].ID != "task-2" {
		t.Errorf("tasks %v", o.forfeits.Tasks)
	}
	w := o.forfeits.Withheld
	if len(w) != 1 || w[0].ID != "task-1" || !slices.Equal(w[0].Lacking, []wire.OutPoint{outpoint(1)}) || len(w[0].Connectors) != 0 {
		t.Errorf("withheld %+v", w)
	}
	if len(w[0].Branch) == 0 || len(w[0].Outputs) != 1 {
		t.Error("the withheld task's branch is not kept")
	}
}

// TestFailed sees a failure at every point, and that nothing follows it.
func TestFailed(t *testing.T) {
	service := keyOf(t, 1)
	for at := range 4 {
		op := newOperator(t, ourTask(t, 1, service, p2tr(t, 9000, 1))).build()
		b := op.open()
		o := run(op, newSigner(t, service), b, func(group int, evs []batch.Event) []batch.Event {
			if group == at {
				return append([]batch.Event{batch.Failed{BatchID: batchID, Reason: "timed out"}}, evs...)
			}
			return evs
		})
		if o.failed == nil || o.failed.Reason != "timed out" || o.err != nil || o.finalized != nil {
			t.Errorf("failed in group %d: %+v", at, o)
		}
		if step, err := b.Next(); err != nil || step != (batch.StepNone{}) {
			t.Errorf("after the end: %v, %v", step, err)
		}
	}
}

// TestOtherBatches sees that other batches' events leave ours alone.
func TestOtherBatches(t *testing.T) {
	service := keyOf(t, 1)
	op := newOperator(t, ourTask(t, 1, service, p2tr(t, 9000, 1))).build()
	o := run(op, newSigner(t, service), op.open(), func(_ int, evs []batch.Event) []batch.Event {
		return append([]batch.Event{
			batch.Started{BatchID: "other", Expiry: 512},
			batch.TreeTx{BatchID: "other", PSBT: "nonsense"},
			batch.TreeSigningStarted{BatchID: "other"},
			batch.TreeNonces{BatchID: "other"},
			batch.TreeNoncesAggregated{BatchID: "other"},
			batch.TreeSignature{BatchID: "other"},
			batch.Finalization{BatchID: "other"},
			batch.Finalized{BatchID: "other"},
			batch.Failed{BatchID: "other"},
			batch.TreeTx{BatchID: batchID, BatchIndex: 2, PSBT: "a tree of a later protocol"},
			op.started(),
		}, evs...)
	})
	checkRenewed(t, op, o)
}

func TestNew(t *testing.T) {
	service := keyOf(t, 1)
	good := func() []batch.Task {
		return []batch.Task{ourTask(t, 1, service, p2tr(t, 9000, 1)).task, ourTask(t, 2, service, p2tr(t, 9000, 1)).task}
	}
	started := batch.Started{BatchID: batchID, Expiry: expiry, IntentHashes: []string{
		batch.IntentHash("intent-1"), batch.IntentHash("intent-2"),
	}}
	for _, c := range []struct {
		name string
		f    func(*batch.Started, []batch.Task) []batch.Task
		want error
	}{
		{"fine", func(_ *batch.Started, ts []batch.Task) []batch.Task { return ts }, nil},
		{"no tasks", func(*batch.Started, []batch.Task) []batch.Task { return nil }, batch.ErrTask},
		{"not selected", func(s *batch.Started, ts []batch.Task) []batch.Task {
			s.IntentHashes = s.IntentHashes[:1]
			return ts
		}, batch.ErrNotSelected},
		{"expiry 0", func(s *batch.Started, ts []batch.Task) []batch.Task {
			s.Expiry = 0
			return ts
		}, ark.ErrDelay},
		{"expiry between units", func(s *batch.Started, ts []batch.Task) []batch.Task {
			s.Expiry = 513
			return ts
		}, ark.ErrDelay},
		{"id twice", func(_ *batch.Started, ts []batch.Task) []batch.Task {
			ts[1].ID = ts[0].ID
			return ts
		}, batch.ErrTask},
		{"intent twice", func(_ *batch.Started, ts []batch.Task) []batch.Task {
			ts[1].IntentID = ts[0].IntentID
			return ts
		}, batch.ErrTask},
		{"input twice", func(_ *batch.Started, ts []batch.Task) []batch.Task {
			ts[1].Inputs = ts[0].Inputs
			return ts
		}, batch.ErrTask},
		{"no outputs", func(_ *batch.Started, ts []batch.Task) []batch.Task {
			ts[1].Outputs = nil
			return ts
		}, batch.ErrTask},
		{"no cosigner", func(_ *batch.Started, ts []batch.Task) []batch.Task {
			ts[1].Cosigner = bip340.PubKey{}
			return ts
		}, batch.ErrTask},
		{"on-chain outputs without cosigner", func(_ *batch.Started, ts []batch.Task) []batch.Task {
			ts[1].Cosigner, ts[1].Onchain, ts[1].Outputs = bip340.PubKey{}, ts[1].Outputs, nil
			return ts
		}, nil},
		{"negated key", func(_ *batch.Started, ts []batch.Task) []batch.Task {
			ts[1].Cosigner[0] ^= 1
			return ts
		}, batch.ErrTask},
	} {
		s := started
		ts := c.f(&s, good())
		b, err := batch.New(batch.Config{Dust: dust}, s, ts)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
		if err == nil && b.ID() != batchID {
			t.Errorf("%s: id %q", c.name, b.ID())
		}
	}
}

func TestNoncesMade(t *testing.T) {
	service := keyOf(t, 1)
	op := newOperator(t, ourTask(t, 1, service, p2tr(t, 9000, 1)), ourTask(t, 2, service, p2tr(t, 9000, 2))).build()
	b := op.open()
	if _, err := b.NoncesMade(nil); !errors.Is(err, batch.ErrNonces) {
		t.Errorf("before they were asked for: %v", err)
	}
	var nonces batch.StepNonces
	for _, ev := range op.treeGroup() {
		step, err := b.Handle(ev)
		if err != nil {
			t.Fatal(err)
		}
		if st, ok := step.(batch.StepNonces); ok {
			nonces = st
		}
	}
	key := service.PubKey()
	good := newSigner(t, service).makeNonces(nonces)
	copied := func() pubNonces {
		m := make(map[chainhash.Hash]musig2.PubNonce)
		for k, v := range good[key] {
			m[k] = v
		}
		return pubNonces{key: m}
	}
	first, second := nonces.Nodes[0].Txid, nonces.Nodes[1].Txid
	for name, f := range map[string]func(pubNonces) pubNonces{
		"none":        func(pubNonces) pubNonces { return nil },
		"one lacking": func(p pubNonces) pubNonces { delete(p[key], first); return p },
		"one more":    func(p pubNonces) pubNonces { p[key][op.txid] = musig2.PubNonce{2}; return p },
		"one twice":   func(p pubNonces) pubNonces { p[key][first] = p[key][second]; return p },
		"wrong key":   func(p pubNonces) pubNonces { return pubNonces{op.key: p[key]} },
	} {
		if _, err := b.NoncesMade(f(copied())); !errors.Is(err, batch.ErrNonces) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.NoncesMade(good); err != nil {
		t.Fatal(err)
	}
	if _, err := b.NoncesMade(good); !errors.Is(err, batch.ErrNonces) {
		t.Errorf("a second time: %v", err)
	}
}

func TestCheckExpiry(t *testing.T) {
	for _, c := range []struct {
		network ark.Network
		expiry  uint32
		least   int64
		ok      bool
	}{
		{ark.Bitcoin, 604672, 0, true},
		{ark.Bitcoin, 604672, 604672, true},
		{ark.Bitcoin, 604672, 604673, false},
		{ark.Bitcoin, 86528, 0, true},
		{ark.Bitcoin, 86016, 0, false}, // the last one below a day
		{ark.Mutinynet, 512, 0, false},
		{ark.Bitcoin, 511, 0, false},
		{ark.Signet, 144, 0, false},
		{ark.Bitcoin, 604673, 0, false},
		{ark.Bitcoin, 0, 0, false},
		{ark.Regtest, 0, 0, false},
		{ark.Regtest, 512, 0, true},
		{ark.Regtest, 40, 0, true},
		{ark.Regtest, 40, 40, true},
		{ark.Regtest, 40, 41, false},
		{ark.Regtest, 2048, 2049, false},
		{ark.Bitcoin, 1<<32 - 1, 0, false},
	} {
		err := batch.CheckExpiry(c.network, c.expiry, c.least)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, batch.ErrExpiry) {
			t.Errorf("%s, %d, at least %d: %v", c.network, c.expiry, c.least, err)
		}
	}
}

func TestTopics(t *testing.T) {
	service := keyOf(t, 1)
	got := batch.Topics([]batch.Task{ourTask(t, 1, service).task, ourTask(t, 2, service).task})
	x := service.PubKey().XOnly().String()
	want := []string{"02" + x, "03" + x, outpoint(1).String(), outpoint(2).String()}
	if !slices.Equal(got, want) {
		t.Errorf("topics %v, want %v", got, want)
	}
}

// TestWithoutUs has the operator finalize a batch that it never let us sign.
func TestWithoutUs(t *testing.T) {
	service := keyOf(t, 1)
	op := newOperator(t, ourTask(t, 1, service, p2tr(t, 9000, 1))).build()
	b := op.open()
	step, err := b.Handle(op.finalized()[0])
	if _, ok := step.(batch.StepFailed); !ok || err != nil {
		t.Errorf("%T, %v", step, err)
	}
}

// wantViolation checks the rule of an outcome's error.
func wantViolation(t *testing.T, o outcome, rule string) {
	t.Helper()
	var v *batch.Violation
	if !errors.As(o.err, &v) || v.Rule != rule || o.forfeits != nil {
		t.Errorf("error %v, forfeits %v, want rule %s", o.err, o.forfeits != nil, rule)
	}
}

// TestNoConnectorOutput delivers connectors of a commitment transaction that has
// no second output.
func TestNoConnectorOutput(t *testing.T) {
	service := keyOf(t, 1)
	op := newOperator(t, ourTask(t, 1, service, p2tr(t, 9000, 1)))
	op.forge = func(tx *wire.MsgTx) { tx.TxOut = tx.TxOut[:1] }
	op.build()
	wantViolation(t, run(op, newSigner(t, service), op.open(), nil), tree.RuleRoot)
}

// TestWithoutTreeNotPaid sees on-chain outputs checked in a batch without tree.
func TestWithoutTreeNotPaid(t *testing.T) {
	p := ourTask(t, 1, keyOf(t, 1))
	p.task.Onchain = []*wire.TxOut{p2tr(t, 4000, 5)}
	op := newOperator(t, p)
	op.forge = func(tx *wire.MsgTx) { tx.TxOut[0] = p2tr(t, 4000, 6) }
	op.build()
	wantViolation(t, run(op, newSigner(t), op.open(), nil), batch.RuleOnchain)
}

// TestStrangersEvents has everybody's events reach us, and thousands about
// nodes that do not exist once the tree is closed: nothing of it is kept or
// counted.
func TestStrangersEvents(t *testing.T) {
	service := keyOf(t, 1)
	op := newOperator(t,
		stranger(t, 1, keyOf(t, 100), p2tr(t, 500, 1)), ourTask(t, 2, service, p2tr(t, 9000, 2)),
		stranger(t, 3, keyOf(t, 101), p2tr(t, 700, 3)), stranger(t, 4, keyOf(t, 101), p2tr(t, 700, 3)),
	).knows(keyOf(t, 100), keyOf(t, 101)).build()
	o := run(op, newSigner(t, service), op.open(), func(group int, evs []batch.Event) []batch.Event {
		var more []batch.Event
		switch group {
		case 0:
			for _, n := range op.root.Nodes() {
				more = append(more, treeTx(t, n, 0, nil))
			}
		case 1:
			for i := range 9000 {
				id := chainhash.Hash{byte(i), byte(i >> 8), 1}
				more = append(more,
					batch.TreeNonces{BatchID: batchID, Txid: id}, batch.TreeSignature{BatchID: batchID, Txid: id})
			}
		case 2:
			for _, ev := range evs { // signatures of another tree over the same transactions
				if s, ok := ev.(batch.TreeSignature); ok {
					s.BatchIndex, s.Signature = 1, [64]byte{1}
					more = append(more, s)
				}
			}
			for _, n := range op.connRoot.Nodes() {
				var topics []string
				for _, l := range n.Leaves() {
					topics = append(topics, op.connTopics[l.Leaf])
				}
				more = append(more, treeTx(t, n, 1, topics))
			}
		}
		return append(more, evs...)
	})
	checkRenewed(t, op, o)
	if o.nonces.Foreign != 0 || len(o.nonces.Nodes) != 3 {
		t.Errorf("%d foreign leaves, %d nodes", o.nonces.Foreign, len(o.nonces.Nodes))
	}
}

// TestLateEvents repeats everything, changed, after it was used: it is too late
// to matter.
func TestLateEvents(t *testing.T) {
	service := keyOf(t, 1)
	op := newOperator(t, ourTask(t, 1, service, p2tr(t, 9000, 1)), ourTask(t, 2, service, p2tr(t, 9000, 2))).build()
	var late []batch.Event
	o := run(op, newSigner(t, service), op.open(), func(group int, evs []batch.Event) []batch.Event {
		before := slices.Clone(late)
		for _, ev := range evs {
			switch ev := ev.(type) {
			case batch.TreeTx:
				ev.PSBT = "nonsense"
				late = append(late, ev)
			case batch.TreeNonces:
				late = append(late, batch.TreeNonces{BatchID: batchID, Txid: ev.Txid})
			case batch.TreeSignature:
				ev.Signature[3] ^= 1
				late = append(late, ev)
			}
		}
		if group == 2 { // the connectors' nonsense is not late yet
			before = slices.DeleteFunc(before, func(ev batch.Event) bool {
				tx, ok := ev.(batch.TreeTx)
				return ok && tx.BatchIndex == 1
			})
		}
		return append(before, evs...)
	})
	checkRenewed(t, op, o)
}
