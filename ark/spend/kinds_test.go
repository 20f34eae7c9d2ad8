package spend_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/asset"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/spend"
	"github.com/vigil-ark/vigil/bip340"
)

// execute runs input i of a signed packet in btcd's script engine: whatever Parse
// said was to be signed is then right or the coin does not move.
func execute(t testing.TB, p *psbt.Packet, i int) {
	t.Helper()
	tx := p.UnsignedTx.Copy()
	in := &p.Inputs[i]
	leaf := in.TaprootLeafScript[0]
	c, err := script.Decode(leaf.Script)
	if err != nil {
		t.Fatal(err)
	}
	var witness wire.TxWitness
	for _, key := range slices.Backward(c.Keys()) {
		at := slices.IndexFunc(in.TaprootScriptSpendSig, func(s *psbt.TaprootScriptSpendSig) bool { return bip340.XOnly(s.XOnlyPubKey) == key })
		if at < 0 {
			t.Fatalf("input %d: %s has not signed", i, key)
		}
		sig := slices.Clone(in.TaprootScriptSpendSig[at].Signature)
		if typ := in.TaprootScriptSpendSig[at].SigHash; typ != txscript.SigHashDefault {
			sig = append(sig, byte(typ))
		}
		witness = append(witness, sig)
	}
	tx.TxIn[i].Witness = append(witness, leaf.Script, leaf.ControlBlock)
	prevouts := map[wire.OutPoint]*wire.TxOut{}
	for j, txIn := range tx.TxIn {
		prevouts[txIn.PreviousOutPoint] = p.Inputs[j].WitnessUtxo
	}
	fetcher := txscript.NewMultiPrevOutFetcher(prevouts)
	e, err := txscript.NewEngine(in.WitnessUtxo.PkScript, tx, i, txscript.StandardVerifyFlags, nil,
		txscript.NewTxSigHashes(tx, fetcher), in.WitnessUtxo.Value, fetcher)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Execute(); err != nil {
		t.Errorf("input %d: %v", i, err)
	}
}

func sum(list []spend.Output) (sats int64) {
	for _, o := range list {
		sats += o.Amount
	}
	return sats
}

// expect compares what policy will look at.
type expect struct {
	kind                spend.Kind
	sighashes           int
	own, foreign, chain int64
	fee, leaves         int64
	assets, renewal     bool
	leaf                int
	sighash             byte
}

func (e expect) check(t testing.TB, s *spend.Spend) {
	t.Helper()
	got := expect{
		kind: s.Kind, sighashes: len(s.Sighashes), own: sum(s.Own), foreign: sum(s.Foreign), chain: sum(s.Onchain),
		fee: s.Fee, leaves: s.Leaves(), assets: s.Assets, renewal: s.Renewal(),
	}
	if len(s.Sighashes) > 0 {
		got.leaf, got.sighash = s.Sighashes[0].Leaf, s.Sighashes[0].Type
	}
	if got != e {
		t.Errorf("got  %+v\nwant %+v", got, e)
	}
}

func TestIntents(t *testing.T) {
	w := newWorld(t)
	w.params.Fees.OffchainInput = "100.0"
	a, b, board := w.coin(10, 10_000), w.coin(11, 20_000), w.boarding(12, 5000)

	message := w.register()
	p := w.proof(message, []coin{a, b, board}, w.own(34_000), w.own(800))
	s := w.one(w.intent(message, p))
	// Four signatures: the message's input, and three coins. The fee due counts the
	// boarding coin as on chain, which costs nothing here.
	expect{kind: spend.Register, sighashes: 4, own: 34_800, fee: 200, assets: true, renewal: true}.check(t, s)
	if s.FeeDue != 200 || s.Key != s.Sighashes[0].Message || s.Txid != p.UnsignedTx.TxHash() {
		t.Errorf("fee due %d, key %x", s.FeeDue, s.Key)
	}
	if len(s.Inputs) != 3 || s.Inputs[2] != (spend.Input{Outpoint: board.at, Amount: 5000, Script: spend.BoardingScript}) {
		t.Errorf("inputs %+v", s.Inputs)
	}
	w.fill(w.group, s, p)
	w.sign(w.signer, p, txscript.SigHashDefault)
	for i := range p.Inputs {
		execute(t, p, i)
	}
	if _, err := intent.Verify(p, message, intent.Options{}); err != nil {
		t.Error(err)
	}

	message = w.register(1)
	s = w.one(w.intent(message, w.proof(message, []coin{a}, w.own(1000), wire.NewTxOut(2000, []byte{0x51}), w.foreign(3000))))
	expect{kind: spend.Register, sighashes: 2, own: 1000, foreign: 3000, chain: 2000, fee: 4000, leaves: 5000, assets: true}.check(t, s)
	message = w.register(0)
	s = w.one(w.intent(message, w.proof(message, []coin{a}, wire.NewTxOut(9900, w.desc.PkScript()))))
	expect{kind: spend.Register, sighashes: 2, chain: 9900, fee: 100, leaves: 9900, assets: true}.check(t, s)

	for _, kind := range []intent.Kind{intent.Delete, intent.GetIntent, intent.GetPendingTx, intent.GetData} {
		message := w.message(intent.Message{Kind: kind, ExpireAt: 77})
		s := w.one(w.intent(message, w.proof(message, []coin{a, b})))
		expect{kind: spend.Intent, sighashes: 3, assets: true}.check(t, s)
		if s.Message.Kind != kind || s.Message.ExpireAt != 77 {
			t.Errorf("%+v", s.Message)
		}
	}
}

func TestPayments(t *testing.T) {
	w := newWorld(t)
	a, b := w.coin(10, 10_000), w.coinAt(11, 20_000, w.desc.TwoLeaf())
	small := wire.NewTxOut(100, ark.SubDust(w.desc.Tree().OutputKey()))
	theirs := wire.NewTxOut(200, ark.SubDust(w.stranger.PubKey().XOnly()))
	pay := w.payment([]coin{a, b}, w.foreign(25_000), w.own(4700), small, theirs)
	s := w.one(w.arkTx(pay))
	expect{kind: spend.ArkTx, sighashes: 2, own: 4800, foreign: 25_200, leaves: 25_200, assets: true, leaf: 1}.check(t, s)
	if !bytes.Equal(s.Foreign[1].Script, w.foreign(0).PkScript) {
		t.Errorf("an amount below dust goes to %x", s.Foreign[1].Script)
	}
	if s.Inputs[1].Script != spend.TwoLeafScript || s.Txid != pay.tx.UnsignedTx.TxHash() {
		t.Errorf("%+v", s)
	}
	w.fill(w.group, s, pay.tx)
	w.sign(w.signer, pay.tx, txscript.SigHashDefault)
	for i := range pay.tx.Inputs {
		execute(t, pay.tx, i)
	}

	for _, c := range pay.checkpoints {
		w.sign(w.signer, c, txscript.SigHashDefault)
	}
	second := w.one(w.checkpoints(pay))
	expect{kind: spend.Checkpoints, sighashes: 2, own: 4800, foreign: 25_200, leaves: 25_200, assets: true}.check(t, second)
	if second.Key != s.Key || second.Txid != s.Txid {
		t.Error("the two halves of a payment are not counted as one")
	}
	w.fill(w.group, second, pay.checkpoints...)
	for _, c := range pay.checkpoints {
		execute(t, c, 0)
	}
}

func TestDelegateForfeits(t *testing.T) {
	w := newWorld(t)
	a, two := w.coin(10, 10_000), w.coinAt(11, 20_000, w.desc.TwoLeaf())
	p := w.delegateForfeit(a, descriptor.LeafDelegate)
	s := w.one(w.delegated(p))
	expect{kind: spend.DelegateForfeit, sighashes: 1, assets: true, leaf: descriptor.LeafDelegate, sighash: 0x81}.check(t, s)
	w.fill(w.group, s, p)
	w.sign(w.signer, p, txscript.SigHashDefault)
	w.sign(w.delegate, p, txscript.SigHashDefault)
	execute(t, p, 0)
	// The group's signature holds whatever input is added; the others' do not.
	c := w.coinOf(0xf1, 330)
	p.UnsignedTx.AddTxIn(wire.NewTxIn(&c.at, nil, nil))
	p.Inputs = append(p.Inputs, psbt.PInput{WitnessUtxo: c.out})
	w.sign(w.signer, p, txscript.SigHashDefault)
	w.sign(w.delegate, p, txscript.SigHashDefault)
	execute(t, p, 0)

	for of, c := range map[spend.Script]coin{spend.VTXOScript: a, spend.TwoLeafScript: two} {
		s := w.one(w.delegated(w.delegateForfeit(c, descriptor.LeafForfeit)))
		expect{kind: spend.BearerForfeit, sighashes: 1, leaves: c.out.Value, assets: true, sighash: 0x81}.check(t, s)
		if s.Inputs[0].Script != of {
			t.Errorf("the coin is at script %d, want %d", s.Inputs[0].Script, of)
		}
	}
	// With the coin go its assets: those that it has, and those that nobody knows of.
	held := w.vtxos[len(w.vtxos)-1] // two's
	held.Assets = []ark.AssetAmount{{AssetID: "a", Amount: 1}}
	for _, vtxos := range [][]ark.VTXO{nil, {held}} {
		w.vtxos = vtxos
		if s := w.one(w.delegated(w.delegateForfeit(two, descriptor.LeafForfeit))); s.Assets {
			t.Errorf("with %v known, a bearer forfeit keeps all assets", vtxos)
		}
	}
}

func TestExits(t *testing.T) {
	w := newWorld(t)
	for name, tt := range map[string]struct {
		coins []coin
		delay ark.Delay
	}{
		"VTXOs":    {[]coin{w.coin(10, 10_000), w.coin(11, 20_000)}, 512},
		"two-leaf": {[]coin{w.coinAt(12, 30_000, w.desc.TwoLeaf())}, 512},
		"boarding": {[]coin{w.boarding(13, 30_000)}, 4096},
	} {
		p := w.exit(tt.coins, tt.delay, w.foreign(29_000), w.own(500))
		s := w.one(w.exited(p))
		expect{kind: spend.Exit, sighashes: len(tt.coins), chain: 29_500, fee: 500, leaves: 30_000, assets: true, leaf: descriptor.LeafExit}.check(t, s)
		w.fill(w.group, s, p)
		for i := range p.Inputs {
			execute(t, p, i)
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

func TestSettlements(t *testing.T) {
	w := newWorld(t)
	coins := []coin{w.coin(10, 10_000), w.coin(11, 20_000)}
	boards := []coin{w.boarding(12, 5000), w.boarding(13, 6000)}
	message := w.register()
	set := w.settle(message, coins, boards, []*wire.TxOut{w.own(40_000), w.own(700)})
	approved := w.one(w.intent(message, set.proof))

	s := w.one(w.forfeits(set))
	expect{kind: spend.Forfeits, sighashes: 2, own: 40_700, fee: 300, assets: true, renewal: true}.check(t, s)
	if s.Key != approved.Key || s.Commitment != set.commitment.UnsignedTx.TxHash() {
		t.Error("forfeits are not counted by their intent")
	}
	w.fill(w.group, s, set.forfeits...)
	for _, f := range set.forfeits {
		w.sign(w.signer, f, txscript.SigHashDefault)
		execute(t, f, 0)
	}
	// One of two coins was recoverable and got no connector.
	some := *set
	some.forfeits = set.forfeits[1:]
	expect{kind: spend.Forfeits, sighashes: 1, own: 40_700, fee: 300, assets: true, renewal: true}.check(t, w.one(w.forfeits(&some)))

	s = w.one(w.boarded(set))
	expect{kind: spend.Boarding, sighashes: 2, own: 40_700, fee: 300, assets: true, renewal: true}.check(t, s)
	if s.Key != approved.Key || s.Sighashes[0].Input != 1 || s.Sighashes[1].Input != 2 {
		t.Errorf("%+v", s.Sighashes)
	}
	for i, c := range boards {
		if err := script.SetLeaf(&set.commitment.Inputs[i+1], c.tree, descriptor.LeafForfeit); err != nil {
			t.Fatal(err)
		}
	}
	w.fill(w.group, s, set.commitment)
	w.sign(w.signer, set.commitment, txscript.SigHashDefault)
	execute(t, set.commitment, 1)
	execute(t, set.commitment, 2)
}

// TestLeavingByBatch settles intents that pay others and go on chain.
func TestLeavingByBatch(t *testing.T) {
	w := newWorld(t)
	a := w.coin(10, 10_000)
	out := wire.NewTxOut(3000, []byte{0x00, 0x14, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
	message := w.register(2, 3)
	mixed := w.settle(message, []coin{a}, nil, []*wire.TxOut{w.own(1000), w.foreign(2000)}, out, out)
	expect{kind: spend.Forfeits, sighashes: 1, own: 1000, foreign: 2000, chain: 6000, fee: 1000, leaves: 8000, assets: true}.check(t, w.one(w.forfeits(mixed)))

	message = w.message(intent.Message{Kind: intent.Register, OnchainOutputs: []int{0}, Cosigners: []string{}})
	only := w.settle(message, []coin{a}, nil, nil, out)
	expect{kind: spend.Forfeits, sighashes: 1, chain: 3000, fee: 7000, leaves: 3000, assets: true}.check(t, w.one(w.forfeits(only)))
}

// TestAssets: what a coin holds must go to the wallet whole, or the spend says so.
func TestAssets(t *testing.T) {
	w := newWorld(t)
	a := w.coin(10, 10_000)
	id := asset.ID{Txid: [32]byte{9}, Group: 1}
	w.vtxos[0].Assets = []ark.AssetAmount{{AssetID: id.String(), Amount: 50}}
	pay := func(vin, vout uint16, amount uint64, outs ...*wire.TxOut) []*wire.TxOut {
		packet := asset.Packet{{ID: &id, Inputs: []asset.Input{{Vin: vin, Amount: 50}}, Outputs: []asset.Output{{Vout: vout, Amount: amount}}}}
		s, err := asset.Extension{{Type: asset.TypeAsset, Data: packet.Encode()}}.Script()
		if err != nil {
			t.Fatal(err)
		}
		return append(outs, wire.NewTxOut(0, s))
	}
	for name, tt := range map[string]struct {
		outs []*wire.TxOut
		want bool
	}{
		"all to us":  {pay(0, 0, 50, w.own(6000), w.foreign(4000)), true},
		"to another": {pay(0, 1, 50, w.own(6000), w.foreign(4000)), false},
		"burned":     {[]*wire.TxOut{w.own(10_000)}, false},
		"a part":     {pay(0, 0, 49, w.own(10_000)), false},
		"more":       {pay(0, 0, 51, w.own(10_000)), false},
	} {
		if s := w.one(w.arkTx(w.payment([]coin{a}, tt.outs...))); s.Assets != tt.want {
			t.Errorf("%s: %v", name, s.Assets)
		}
	}
	message := w.register()
	leaf := pay(1, 0, 50, w.own(9000))
	if s := w.one(w.intent(message, w.proof(message, []coin{a}, leaf...))); !s.Renewal() || len(s.Own) != 1 {
		t.Errorf("%+v", s)
	}
	// In the batch the extension has the operator's form.
	set := w.settleAssets(message, a, leaf)
	expect{kind: spend.Forfeits, sighashes: 1, own: 9000, fee: 1000, assets: true, renewal: true}.check(t, w.one(w.forfeits(set)))

	// Nothing is known of the coin: it holds what the packet takes from it, and all
	// of that must come back.
	w.vtxos = nil
	board := w.boarding(12, 5000)
	if s := w.one(w.intent(message, w.proof(message, []coin{a, board}, w.own(9000)))); !s.Renewal() {
		t.Error("without a packet it is no renewal")
	}
	for name, tt := range map[string]struct {
		outs []*wire.TxOut
		want bool
	}{
		"all to us":  {pay(0, 0, 50, w.own(6000), w.foreign(4000)), true},
		"to another": {pay(0, 1, 50, w.own(6000), w.foreign(4000)), false},
		"a part":     {pay(0, 0, 49, w.own(10_000)), false},
		"more":       {pay(0, 0, 51, w.own(10_000)), false},
		"by nobody":  {pay(1, 0, 50, w.own(10_000)), false},
	} {
		if s := w.one(w.arkTx(w.payment([]coin{a}, tt.outs...))); s.Assets != tt.want {
			t.Errorf("unknown, %s: %v", name, s.Assets)
		}
	}
	if s := w.one(w.intent(message, w.proof(message, []coin{board}, pay(1, 0, 50, w.own(4000))...))); s.Assets {
		t.Error("an on-chain coin holds assets")
	}
	if s := w.one(w.exited(w.exit([]coin{a}, 512, w.foreign(9000)))); s.Assets {
		t.Error("an exit of an unknown coin passes for one without assets")
	}
}

// TestFeeDue: the most that may be asked, for coins as they are, all live, or all
// recoverable, at the time from which the intent is valid.
func TestFeeDue(t *testing.T) {
	const live, recoverable = "inputType == 'vtxo' ? 100.0 : 0.0", "inputType == 'recoverable' ? 7.0 : 0.0"
	for name, tt := range map[string]struct {
		program, boarding string
		swept, unrolled   bool
		message           intent.Message
		want              int64
	}{
		"nothing":          {want: 0},
		"live":             {program: live, want: 200},
		"live, swept":      {program: live, swept: true, want: 200},
		"recoverable":      {program: recoverable, want: 14},
		"one of each":      {program: "inputType == 'vtxo' && amount > 10000.0 || inputType == 'recoverable' && amount < 10001.0 ? 50.0 : 0.0", swept: true, want: 100},
		"on chain":         {boarding: "3.0", want: 3},
		"an unrolled coin": {program: live, boarding: "3.0", unrolled: true, want: 106},
		"by time":          {program: "now() > 1900000000.0 ? 9.0 : 1.0", message: intent.Message{ValidAt: 1_900_000_001}, want: 18},
		"by expiry":        {program: "expiry > 1800000000.0 && birth < 1800000000.0 ? 4.0 : 0.0", want: 8},
	} {
		w := newWorld(t)
		w.params.Fees = ark.FeePrograms{OffchainInput: tt.program, OnchainInput: tt.boarding}
		a, b, board := w.coin(10, 10_000), w.coin(11, 20_000), w.boarding(12, 5000)
		w.vtxos[0].Swept, w.vtxos[1].Unrolled = tt.swept, tt.unrolled
		m := intent.NewRegister(tt.message.ValidAt, 0, w.treeKey.PubKey())
		message := w.message(m)
		if s := w.one(w.intent(message, w.proof(message, []coin{a, b, board}, w.own(30_000)))); s.FeeDue != tt.want {
			t.Errorf("%s: %d, want %d", name, s.FeeDue, tt.want)
		}
	}
}

// TestOrder: several documents keep their order, and a signature is asked for once.
func TestOrder(t *testing.T) {
	w := newWorld(t)
	a, b := w.coin(10, 10_000), w.coin(11, 20_000)
	message := w.register()
	register := w.intent(message, w.proof(message, []coin{a, b}, w.own(30_000)))
	del := w.message(intent.Message{Kind: intent.Delete})
	docs := []*struct{ n int }{{3}, {1}, {1}, {2}}
	list, err := w.parse(register, w.delegated(w.delegateForfeit(a, descriptor.LeafDelegate)), w.delegated(w.delegateForfeit(b, descriptor.LeafDelegate)),
		w.intent(del, w.proof(del, []coin{a})))
	if err != nil {
		t.Fatal(err)
	}
	messages := spend.Messages(list)
	at := 0
	for i, s := range list {
		if len(s.Sighashes) != docs[i].n {
			t.Errorf("document %d: %d sighashes", i, len(s.Sighashes))
		}
		for _, h := range s.Sighashes {
			if h.Doc != i || h.Message != messages[at] {
				t.Errorf("sighash %d is of document %d, want %d", at, h.Doc, i)
			}
			at++
		}
	}
	again, err := w.parse(register)
	if err != nil || !slices.Equal(spend.Messages(again), messages[:3]) {
		t.Errorf("another order: %v", err)
	}
	if _, err := w.parse(register, register); err == nil {
		t.Error("the same document twice passes")
	}
}
