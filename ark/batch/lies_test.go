package batch_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/bip340"
)

// when says by which point a lie must be caught.
type when int

const (
	beforeNonces when = iota
	beforeSigning
	beforeForfeits
	atTheEnd
)

// lie is something that an operator may do instead of the right thing.
type lie struct {
	name  string
	rule  string
	by    when
	build func(op *operator)                                                // before the batch is built
	tasks func(ts []batch.Task)                                             // what we asked for, where it differs from what is built
	edit  func(t *testing.T, op *operator, evs []batch.Event) []batch.Event // of the group in which it is caught
}

// TestLies tells every lie to a batch of ours, two tasks of the service key, one
// with a key of its own and two strangers, and sees it caught by its rule, by
// the point named, with nothing asked for after it. Every rule of the table is
// told at least once.
func TestLies(t *testing.T) {
	told := make(map[string]bool)
	for _, l := range slices.Concat(nodeLies(), treeLies(), leafLies(), nonceLies(), finalLies(), connectorLies()) {
		told[l.rule] = true
		t.Run(l.rule+"/"+l.name, func(t *testing.T) { tell(t, l) })
	}
	for _, r := range batch.Rules() {
		if !told[r.Name] {
			t.Errorf("rule %s (%s) is never broken", r.Name, r.Meaning)
		}
		delete(told, r.Name)
	}
	for name := range told {
		t.Errorf("rule %s is not in the table", name)
	}
}

func tell(t *testing.T, l lie) {
	service, own := keyOf(t, 1), keyOf(t, 2)
	one := ourTask(t, 1, service, p2tr(t, 9000, 1), p2tr(t, 500, 2))
	one.task.Onchain = []*wire.TxOut{p2tr(t, 7000, 8)}
	two := ourTask(t, 2, own, p2tr(t, 8000, 3))
	two.task.Inputs = append(two.task.Inputs, batch.Input{Outpoint: outpoint(60), Amount: 5000, Boarding: true})
	op := newOperator(t,
		one, stranger(t, 3, keyOf(t, 100), p2tr(t, 700, 4)), two,
		ourTask(t, 4, service, p2tr(t, 6000, 5)), stranger(t, 5, keyOf(t, 101), p2tr(t, 800, 6)),
	).knows(keyOf(t, 100), keyOf(t, 101), keyOf(t, 102))
	tasks := op.tasks()
	for i := range tasks { // what is built may differ from what we ask for
		tasks[i].Outputs = slices.Clone(tasks[i].Outputs)
	}
	if l.tasks != nil {
		l.tasks(tasks)
	}
	if l.build != nil {
		l.build(op)
	}
	op.build()
	b, err := batch.New(op.config(), op.started(), tasks)
	if err != nil {
		t.Fatal(err)
	}
	s := newSigner(t, service, own)
	o := run(op, s, b, func(group int, evs []batch.Event) []batch.Event {
		if l.edit != nil && group == int(l.by) {
			return l.edit(t, op, evs)
		}
		return evs
	})
	var v *batch.Violation
	if !errors.As(o.err, &v) || v.Rule != l.rule {
		t.Fatalf("error %v, want rule %s", o.err, l.rule)
	}
	if l.by == beforeNonces && o.nonces != nil {
		t.Error("nonces were asked for")
	}
	if l.by <= beforeSigning && o.sign != nil {
		t.Error("signatures were asked for")
	}
	if l.by <= beforeForfeits && o.forfeits != nil {
		t.Error("forfeits were asked for")
	}
	if o.finalized != nil {
		t.Error("it counts as finalized")
	}
	checkSilent(t, op, b, o)
}

// checkSilent delivers a whole honest batch after a violation: nothing is asked
// for any more, and the end is a failure.
func checkSilent(t *testing.T, op *operator, b *batch.Batch, o outcome) {
	t.Helper()
	for _, ev := range slices.Concat(op.treeGroup(), []batch.Event{batch.Finalization{BatchID: batchID}}) {
		if step, err := b.Handle(ev); err != nil || step != (batch.StepNone{}) {
			t.Fatalf("after the violation: %T, %v", step, err)
		}
	}
	if step, err := b.NoncesMade(nil); err != nil || step != (batch.StepNone{}) {
		t.Errorf("NoncesMade after the violation: %v, %v", step, err)
	}
	if step, err := b.Next(); err != nil || step != (batch.StepNone{}) {
		t.Errorf("Next after the violation: %v, %v", step, err)
	}
	if o.failed != nil {
		return // the run's own Finalized came after it
	}
	step, err := b.Handle(batch.Finalized{BatchID: batchID, Txid: op.txid})
	if _, ok := step.(batch.StepFailed); !ok || err != nil {
		t.Errorf("the end after the violation: %T, %v", step, err)
	}
}

// editNode changes the n-th tree transaction of a group.
func editNode(n int, f func(*psbt.Packet)) func(*testing.T, *operator, []batch.Event) []batch.Event {
	return func(t *testing.T, _ *operator, evs []batch.Event) []batch.Event {
		t.Helper()
		for i, ev := range evs {
			tx, ok := ev.(batch.TreeTx)
			if !ok {
				continue
			}
			if n--; n >= 0 {
				continue
			}
			p, err := script.ParsePSBT(tx.PSBT, script.OperatorLimits())
			if err != nil {
				t.Fatal(err)
			}
			f(p)
			if tx.PSBT, err = p.B64Encode(); err != nil {
				t.Fatal(err)
			}
			evs[i] = tx
			return evs
		}
		t.Fatal("no such node")
		return nil
	}
}

// eachEvent changes every event of one type.
func eachEvent[E batch.Event](f func(op *operator, i int, ev *E) (keep bool)) func(*testing.T, *operator, []batch.Event) []batch.Event {
	return func(t *testing.T, op *operator, evs []batch.Event) []batch.Event {
		t.Helper()
		n := 0
		var out []batch.Event
		for _, ev := range evs {
			if e, ok := ev.(E); ok {
				keep := f(op, n, &e)
				n++
				if !keep {
					continue
				}
				ev = e
			}
			out = append(out, ev)
		}
		if n == 0 {
			t.Fatal("no such event")
		}
		return out
	}
}

// again adds a changed copy of the first event of one type after all others.
func again[E batch.Event](f func(ev *E)) func(*testing.T, *operator, []batch.Event) []batch.Event {
	return func(t *testing.T, _ *operator, evs []batch.Event) []batch.Event {
		t.Helper()
		for i, ev := range evs {
			if e, ok := ev.(E); ok {
				f(&e)
				return slices.Insert(evs, i+1, batch.Event(e))
			}
		}
		t.Fatal("no such event")
		return nil
	}
}

func nodeLies() []lie {
	node := func(name, rule string, f func(*psbt.Packet)) lie {
		return lie{name: name, rule: rule, edit: editNode(1, f)}
	}
	return []lie{
		{name: "no PSBT", rule: tree.RuleEncoding, edit: eachEvent(func(_ *operator, _ int, ev *batch.TreeTx) bool {
			ev.PSBT = "cHNi"
			return true
		})},
		node("version 2", tree.RuleVersion, func(p *psbt.Packet) { p.UnsignedTx.Version = 2 }),
		node("locktime", tree.RuleLocktime, func(p *psbt.Packet) { p.UnsignedTx.LockTime = 100 }),
		node("sequence", tree.RuleSequence, func(p *psbt.Packet) { p.UnsignedTx.TxIn[0].Sequence = 0 }),
		node("an input more", tree.RuleInput, func(p *psbt.Packet) {
			p.UnsignedTx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 7}, nil, nil))
			p.Inputs = append(p.Inputs, psbt.PInput{})
		}),
		node("no anchor", tree.RuleAnchor, func(p *psbt.Packet) {
			last := len(p.Outputs) - 1
			p.UnsignedTx.TxOut[last].PkScript = p.UnsignedTx.TxOut[0].PkScript
		}),
		node("negative output", tree.RuleOutputs, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value = -5 }),
		node("cosigner twice", tree.RuleCosigners, func(p *psbt.Packet) {
			keys, _ := script.Cosigners(&p.Inputs[0])
			script.SetCosigners(&p.Inputs[0], append(keys, keys[0]))
		}),
		node("another expiry in a node", tree.RuleExpiry, func(p *psbt.Packet) { script.SetExpiry(&p.Inputs[0], 512) }),
		{name: "a child too few", rule: tree.RuleChildren, edit: eachEvent(func(_ *operator, i int, ev *batch.TreeTx) bool {
			if i == 0 {
				delete(ev.Children, 0)
			}
			return true
		})},
		{name: "a node in two versions", rule: tree.RuleConflict, edit: again(func(ev *batch.TreeTx) {
			p, _ := script.ParsePSBT(ev.PSBT, script.OperatorLimits())
			script.SetExpiry(&p.Inputs[0], 512)
			ev.PSBT, _ = p.B64Encode()
		})},
		{name: "endless nonces", rule: batch.RuleTooMuch, edit: func(_ *testing.T, _ *operator, evs []batch.Event) []batch.Event {
			for i := range 9000 {
				evs = slices.Insert(evs, 0, batch.Event(batch.TreeNonces{BatchID: batchID, Txid: chainhash.Hash{byte(i), byte(i >> 8), 1}}))
			}
			return evs
		}},
		{name: "endless cosigners", rule: batch.RuleTooMuch, edit: eachEvent(func(_ *operator, _ int, ev *batch.TreeSigningStarted) bool {
			ev.Cosigners = make([]string, 20_000)
			return true
		})},
	}
}

func treeLies() []lie {
	return []lie{
		{name: "signing starts twice", rule: batch.RuleConflict, by: beforeSigning, edit: func(_ *testing.T, _ *operator, evs []batch.Event) []batch.Event {
			return slices.Insert(evs, 0, batch.Event(batch.TreeSigningStarted{BatchID: batchID}))
		}},
		{name: "no commitment transaction", rule: batch.RuleCommitment, edit: eachEvent(func(_ *operator, _ int, ev *batch.TreeSigningStarted) bool {
			ev.Commitment = "cHNidP8="
			return true
		})},
		{name: "a commitment transaction without outputs", rule: batch.RuleCommitment, edit: eachEvent(func(op *operator, _ int, ev *batch.TreeSigningStarted) bool {
			tx := wire.NewMsgTx(2)
			tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 1}, nil, nil))
			ev.Commitment = packet(op.t, tx)
			return true
		})},
		{name: "not paid", rule: batch.RuleOnchain, build: func(op *operator) {
			op.forge = func(tx *wire.MsgTx) { tx.TxOut[2] = wire.NewTxOut(tx.TxOut[2].Value-1, tx.TxOut[2].PkScript) }
		}},
		{name: "paid once for two", rule: batch.RuleOnchain, tasks: func(ts []batch.Task) {
			ts[2].Onchain = ts[0].Onchain
		}},
		{name: "not spent", rule: batch.RuleBoarding, build: func(op *operator) {
			op.forge = func(tx *wire.MsgTx) { tx.TxIn = tx.TxIn[:1] }
		}},
		{name: "our key is not announced", rule: batch.RuleUnlisted, edit: eachEvent(func(op *operator, _ int, ev *batch.TreeSigningStarted) bool {
			own := op.parts[2].task.Cosigner.String()
			ev.Cosigners = slices.DeleteFunc(ev.Cosigners, func(k string) bool { return k == own })
			return true
		})},
		{name: "no tree", rule: batch.RuleNoTree, edit: eachEvent(func(_ *operator, _ int, _ *batch.TreeTx) bool { return false })},
		{name: "finalization without a tree", rule: batch.RuleNoTree, edit: func(_ *testing.T, op *operator, _ []batch.Event) []batch.Event {
			return []batch.Event{batch.Finalization{BatchID: batchID, Commitment: op.commitment}}
		}},
		{name: "under another transaction", rule: tree.RuleRoot, build: func(op *operator) { op.hang = &wire.OutPoint{Hash: chainhash.Hash{1}} }},
		{name: "under another output", rule: tree.RuleRoot, build: func(op *operator) {
			op.forge = func(tx *wire.MsgTx) {
				h := tx.TxHash()
				op.hang = &wire.OutPoint{Hash: h, Index: 1}
			}
		}},
		{name: "children swapped", rule: tree.RuleLink, edit: eachEvent(func(_ *operator, i int, ev *batch.TreeTx) bool {
			if i == 0 {
				ev.Children[0], ev.Children[1] = ev.Children[1], ev.Children[0]
			}
			return true
		})},
		{name: "the batch output is worth less", rule: tree.RuleAmount, build: func(op *operator) {
			op.forge = func(tx *wire.MsgTx) { tx.TxOut[0].Value-- }
		}},
		{name: "the batch output is worth more", rule: tree.RuleAmount, build: func(op *operator) {
			op.forge = func(tx *wire.MsgTx) { tx.TxOut[0].Value++ }
		}},
		{name: "a leaf has a cosigner that its branch lacks", rule: tree.RuleUnion, edit: func(t *testing.T, _ *operator, evs []batch.Event) []batch.Event {
			return editNode(2, func(p *psbt.Packet) {
				keys, _ := script.Cosigners(&p.Inputs[0])
				script.SetCosigners(&p.Inputs[0], append(keys, keyOf(t, 102).PubKey()))
			})(t, nil, evs)
		}},
		{name: "a node is missing", rule: tree.RuleMissing, edit: eachEvent(func(_ *operator, i int, _ *batch.TreeTx) bool { return i != 3 })},
		{name: "another sweep key", rule: tree.RuleScript, build: func(op *operator) {
			op.spec.Sweep = script.SweepLeaf(op.connector, expiry)
		}},
		{name: "a shorter expiry in the sweep leaf", rule: tree.RuleScript, build: func(op *operator) {
			op.spec.Sweep = script.SweepLeaf(op.forfeit, 512)
		}},
		{name: "a shorter expiry altogether", rule: tree.RuleExpiry, build: func(op *operator) {
			op.spec.Sweep, op.spec.Expiry = script.SweepLeaf(op.forfeit, 512), 512
		}},
		{name: "the batch output is locked otherwise", rule: tree.RuleScript, build: func(op *operator) {
			op.forge = func(tx *wire.MsgTx) { tx.TxOut[0].PkScript = ark.PayToTaproot(op.connector) }
		}},
	}
}

func leafLies() []lie {
	alter := func(name string, f func(*batch.Task)) lie {
		return lie{name: name, rule: batch.RuleLeafMismatch, tasks: func(ts []batch.Task) { f(&ts[0]) }}
	}
	return []lie{
		{name: "the key has no leaf", rule: batch.RuleLeafMissing, build: func(op *operator) {
			op.parts[2].task.Outputs = nil
			op.parts[2].listed = op.parts[1].task.Cosigner
		}, edit: eachEvent(func(op *operator, _ int, ev *batch.TreeSigningStarted) bool {
			ev.Cosigners = append(ev.Cosigners, op.parts[2].task.Cosigner.String())
			return true
		})},
		alter("pays less", func(t *batch.Task) { t.Outputs[0] = wire.NewTxOut(t.Outputs[0].Value+1, t.Outputs[0].PkScript) }),
		alter("pays another", func(t *batch.Task) {
			t.Outputs[0] = wire.NewTxOut(t.Outputs[0].Value, ark.PayToTaproot(bip340.XOnly{1}))
		}),
		alter("pays in another order", func(t *batch.Task) { t.Outputs[0], t.Outputs[1] = t.Outputs[1], t.Outputs[0] }),
		alter("pays somebody else too", func(t *batch.Task) { t.Outputs = t.Outputs[:1] }),
		alter("lacks an output", func(t *batch.Task) { t.Outputs = append(t.Outputs, t.Outputs[0]) }),
		alter("lacks the extension", func(t *batch.Task) {
			t.Outputs = append(t.Outputs, wire.NewTxOut(0, []byte("\x6a\x05ARK\x01\x00")))
		}),
		{name: "a third cosigner", rule: batch.RuleLeafMismatch, build: func(op *operator) {
			third := keyOf(op.t, 102).PubKey()
			op.parts[2].more = []bip340.PubKey{third}
		}},
		{name: "one leaf for two", rule: batch.RuleLeafShared, tasks: func(ts []batch.Task) { ts[2].Outputs = ts[0].Outputs }},
		{name: "two operator keys", rule: batch.RuleOperatorKey, build: func(op *operator) {
			op.parts[2].operator = keyOf(op.t, 102).PubKey()
		}},
	}
}

func nonceLies() []lie {
	l := func(name, rule string, f func(op *operator, i int, ev *batch.TreeNonces) bool) lie {
		return lie{name: name, rule: rule, by: beforeSigning, edit: eachEvent(f)}
	}
	ours := func(op *operator) bip340.XOnly { return op.parts[0].task.Cosigner.XOnly() }
	return []lie{
		l("a node without nonces", batch.RuleNoncesMissing, func(_ *operator, i int, _ *batch.TreeNonces) bool { return i != 2 }),
		l("ours replaced", batch.RuleNonceEcho, func(op *operator, i int, ev *batch.TreeNonces) bool {
			if i == 1 {
				ev.Nonces[ours(op)] = ev.Nonces[op.key.XOnly()]
			}
			return true
		}),
		l("ours left out", batch.RuleNonceEcho, func(op *operator, i int, ev *batch.TreeNonces) bool {
			if i == 0 {
				delete(ev.Nonces, ours(op))
			}
			return true
		}),
		l("ours of another node", batch.RuleNonceEcho, func() func(op *operator, i int, ev *batch.TreeNonces) bool {
			var first [66]byte
			return func(op *operator, i int, ev *batch.TreeNonces) bool {
				if i == 0 {
					first = ev.Nonces[ours(op)]
				} else if _, ok := ev.Nonces[ours(op)]; ok {
					ev.Nonces[ours(op)] = first
				}
				return true
			}
		}()),
		l("a cosigner left out", batch.RuleNonceCosigners, func(op *operator, i int, ev *batch.TreeNonces) bool {
			if i == 1 {
				delete(ev.Nonces, op.key.XOnly())
			}
			return true
		}),
		l("a stranger's beside", batch.RuleNonceCosigners, func(op *operator, i int, ev *batch.TreeNonces) bool {
			if i == 1 {
				ev.Nonces[op.connector] = ev.Nonces[op.key.XOnly()]
			}
			return true
		}),
		l("a stranger's instead", batch.RuleNonceCosigners, func(op *operator, i int, ev *batch.TreeNonces) bool {
			if i == 1 {
				ev.Nonces[op.connector] = ev.Nonces[op.key.XOnly()]
				delete(ev.Nonces, op.key.XOnly())
			}
			return true
		}),
		l("no points", batch.RuleNonceInvalid, func(op *operator, i int, ev *batch.TreeNonces) bool {
			if i == 0 {
				ev.Nonces[op.key.XOnly()] = [66]byte{5: 1}
			}
			return true
		}),
		{name: "a stranger lists our key negated", rule: batch.RuleNegated, by: beforeSigning, build: func(op *operator) {
			op.parts[1].listed = negatedKeyOf(op.t, 2).PubKey()
		}},
		{name: "fewer nonces the second time", rule: batch.RuleConflict, by: beforeSigning, edit: again(func(ev *batch.TreeNonces) {
			nonces := make(map[bip340.XOnly][66]byte)
			for k, n := range ev.Nonces {
				if len(nonces)+1 < len(ev.Nonces) {
					nonces[k] = n
				}
			}
			ev.Nonces = nonces
		})},
		{name: "two sets of nonces", rule: batch.RuleConflict, by: beforeSigning, edit: again(func(ev *batch.TreeNonces) {
			nonces := make(map[bip340.XOnly][66]byte)
			for k, n := range ev.Nonces {
				n[0] ^= 1
				nonces[k] = n
			}
			ev.Nonces = nonces
		})},
	}
}

func finalLies() []lie {
	var first [64]byte
	return []lie{
		{name: "two signatures", rule: batch.RuleConflict, by: beforeForfeits, edit: again(func(ev *batch.TreeSignature) { ev.Signature[0] ^= 1 })},
		{name: "finalization twice", rule: batch.RuleConflict, by: atTheEnd, edit: func(_ *testing.T, _ *operator, evs []batch.Event) []batch.Event {
			return slices.Insert(evs, 0, batch.Event(batch.Finalization{BatchID: batchID, Commitment: "another"}))
		}},
		{name: "finalized twice", rule: batch.RuleConflict, by: beforeForfeits, edit: func(_ *testing.T, op *operator, evs []batch.Event) []batch.Event {
			return slices.Insert(evs, 0,
				batch.Event(batch.Finalized{BatchID: batchID, Txid: op.txid}), batch.Event(batch.Finalized{BatchID: batchID}))
		}},
		{name: "another transaction", rule: batch.RuleCommitmentChanged, by: beforeForfeits, edit: eachEvent(func(op *operator, _ int, ev *batch.Finalization) bool {
			p, _ := script.ParsePSBT(ev.Commitment, script.OperatorLimits())
			p.UnsignedTx.TxOut[2].Value--
			ev.Commitment, _ = p.B64Encode()
			return true
		})},
		{name: "no transaction", rule: batch.RuleCommitment, by: beforeForfeits, edit: eachEvent(func(_ *operator, _ int, ev *batch.Finalization) bool {
			ev.Commitment = "AAAA"
			return true
		})},
		{name: "a node without signature", rule: batch.RuleSignatureMissing, by: beforeForfeits, edit: eachEvent(func(_ *operator, i int, _ *batch.TreeSignature) bool {
			return i != 3
		})},
		{name: "a wrong signature", rule: tree.RuleSignature, by: beforeForfeits, edit: eachEvent(func(_ *operator, i int, ev *batch.TreeSignature) bool {
			if i == 2 {
				ev.Signature[63] ^= 1
			}
			return true
		})},
		{name: "another node's signature", rule: tree.RuleSignature, by: beforeForfeits, edit: eachEvent(func(_ *operator, i int, ev *batch.TreeSignature) bool {
			if i == 0 {
				first = ev.Signature
			} else {
				ev.Signature = first
			}
			return true
		})},
		{name: "another transaction is broadcast", rule: batch.RuleFinalizedTxid, by: atTheEnd, edit: eachEvent(func(_ *operator, _ int, ev *batch.Finalized) bool {
			ev.Txid[0] ^= 1
			return true
		})},
	}
}

func connectorLies() []lie {
	l := func(name, rule string, f func(op *operator, i int, ev *batch.TreeTx) bool) lie {
		return lie{name: name, rule: rule, by: beforeForfeits, edit: eachEvent(f)}
	}
	ours := func(i int) string { return outpoint(uint32(i)).String() }
	return []lie{
		l("not delivered", batch.RuleConnectorMissing, func(_ *operator, _ int, ev *batch.TreeTx) bool {
			return !slices.Equal(ev.Topics, []string{ours(2)})
		}),
		l("without its branch", tree.RuleLink, func(op *operator, i int, ev *batch.TreeTx) bool { return i == 0 || len(ev.Children) == 0 }),
		l("for two inputs of ours", batch.RuleConnectorTopic, func(_ *operator, _ int, ev *batch.TreeTx) bool {
			if slices.Equal(ev.Topics, []string{ours(2)}) {
				ev.Topics = append(ev.Topics, ours(4))
			}
			return true
		}),
		l("for a stranger too", batch.RuleConnectorTopic, func(_ *operator, _ int, ev *batch.TreeTx) bool {
			if slices.Equal(ev.Topics, []string{ours(2)}) {
				ev.Topics = append(ev.Topics, ours(3))
			}
			return true
		}),
		l("two for one input", batch.RuleConnectorDuplicate, func(_ *operator, _ int, ev *batch.TreeTx) bool {
			if slices.Equal(ev.Topics, []string{ours(4)}) {
				ev.Topics = []string{ours(2)}
			}
			return true
		}),
		{name: "worth less than the forfeits assume", rule: batch.RuleConnectorValue, by: beforeForfeits, build: func(op *operator) {
			op.connOutputs = []*wire.TxOut{wire.NewTxOut(dust-1, ark.PayToTaproot(op.connector))}
		}},
		{name: "two in one node", rule: tree.RuleConnector, by: beforeForfeits, build: func(op *operator) {
			half := wire.NewTxOut(dust/2, ark.PayToTaproot(op.connector))
			op.connOutputs = []*wire.TxOut{half, half}
		}},
		{name: "paid to somebody", rule: tree.RuleConnectors, by: beforeForfeits, build: func(op *operator) {
			op.connOutputs = []*wire.TxOut{p2tr(op.t, dust, 9)}
		}},
		{name: "of another commitment", rule: tree.RuleRoot, by: beforeForfeits, edit: func(t *testing.T, op *operator, evs []batch.Event) []batch.Event {
			return rehang(t, op, evs, wire.OutPoint{Hash: chainhash.Hash{9}, Index: 1})
		}},
		{name: "under the batch output", rule: tree.RuleRoot, by: beforeForfeits, edit: func(t *testing.T, op *operator, evs []batch.Event) []batch.Event {
			return rehang(t, op, evs, wire.OutPoint{Hash: op.txid})
		}},
		{name: "connectors locked by another key", rule: tree.RuleConnectors, by: beforeForfeits, edit: eachEvent(func(op *operator, _ int, ev *batch.TreeTx) bool {
			p, _ := script.ParsePSBT(ev.PSBT, script.OperatorLimits())
			script.SetCosigners(&p.Inputs[0], []bip340.PubKey{op.key})
			ev.PSBT, _ = p.B64Encode()
			return true
		})},
		{name: "a connector node with an expiry", rule: tree.RuleExpiry, by: beforeForfeits, edit: editNode(0, func(p *psbt.Packet) {
			script.SetExpiry(&p.Inputs[0], 512)
		})},
		{name: "a connector node that is no PSBT", rule: tree.RuleEncoding, by: beforeForfeits, edit: eachEvent(func(_ *operator, _ int, ev *batch.TreeTx) bool {
			ev.PSBT = ""
			return true
		})},
	}
}

// rehang replaces the connector tree by the same one under another outpoint.
func rehang(t *testing.T, op *operator, evs []batch.Event, on wire.OutPoint) []batch.Event {
	t.Helper()
	evs = slices.DeleteFunc(evs, func(ev batch.Event) bool { _, ok := ev.(batch.TreeTx); return ok })
	op.connRoot.Hang(on)
	for _, n := range op.connRoot.Nodes() {
		var topics []string
		for _, l := range n.Leaves() {
			topics = append(topics, op.connTopics[l.Leaf])
		}
		if reaches(op.topics(), topics) {
			evs = slices.Insert(evs, 0, batch.Event(treeTx(t, n, 1, topics)))
		}
	}
	return evs
}
