package spend_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/spend"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// refused parses a document that must not pass, and holds its code and a word of
// its sentence.
func (w *world) refused(name string, doc *vigilpb.Document, code vigil.Code, word string) {
	w.t.Helper()
	_, err := w.parse(doc)
	if err == nil {
		w.t.Errorf("%s passes", name)
		return
	}
	if vigil.CodeOf(err) != code || !strings.Contains(err.Error(), word) {
		w.t.Errorf("%s: %v, want %s … %q", name, err, code, word)
	}
}

func TestRefusesIntents(t *testing.T) {
	w := newWorld(t)
	a, board := w.coin(10, 10_000), w.boarding(11, 5000)
	message := w.register()
	proof := func(spoil func(p *psbt.Packet)) *vigilpb.Document {
		p := w.proof(message, []coin{a, board}, w.own(14_000))
		spoil(p)
		return w.intent(message, p)
	}
	stranger := w.coinAt(12, 7000, scriptOf(t, script.Multisig{PubKeys: []bip340.XOnly{w.stranger.PubKey().XOnly(), w.signer.PubKey().XOnly()}}))
	exit := w.proof(message, []coin{a}, w.own(9000))
	for i := range exit.Inputs {
		if err := script.SetLeaf(&exit.Inputs[i], a.tree, descriptor.LeafExit); err != nil {
			t.Fatal(err)
		}
	}
	heavy := *w
	heavy.params.MaxTxWeight = 600
	heavy.refused("too heavy", proof(func(*psbt.Packet) {}), vigil.CodeProofTooHeavy, "too heavy")
	w.vtxos[0].Amount++
	w.refused("another amount", proof(func(*psbt.Packet) {}), vigil.CodeInputMismatch, "10001")
	w.vtxos[0].Amount--

	for name, tt := range map[string]struct {
		doc  *vigilpb.Document
		code vigil.Code
		word string
	}{
		"no message":       {intentDoc("", w.b64(exit)), vigil.CodeInvalidMessage, "message"},
		"not canonical":    {intentDoc(" "+message, w.b64(exit)), vigil.CodeInvalidMessage, "canonical"},
		"an estimate":      {intentDoc(strings.Replace(message, "register", "estimate-intent-fee", 1), w.b64(exit)), vigil.CodeInvalidMessage, "estimate"},
		"unknown kind":     {intentDoc(`{"type":"sell","expire_at":0}`, w.b64(exit)), vigil.CodeInvalidMessage, "sell"},
		"no proof":         {intentDoc(message, ""), vigil.CodeInvalidProof, "PSBT"},
		"another message":  {intentDoc(strings.Replace(message, `"valid_at":0`, `"valid_at":1`, 1), w.b64(exit)), vigil.CodeInvalidProof, "another message"},
		"locktime":         {proof(func(p *psbt.Packet) { p.UnsignedTx.LockTime = 1 }), vigil.CodeInvalidProof, "locktime"},
		"version":          {proof(func(p *psbt.Packet) { p.UnsignedTx.Version = 3 }), vigil.CodeInvalidProof, "version"},
		"sequence":         {proof(func(p *psbt.Packet) { p.UnsignedTx.TxIn[1].Sequence = 0 }), vigil.CodeInvalidProof, "sequence"},
		"stranger's coin":  {w.intent(message, w.proof(message, []coin{a, stranger}, w.own(9000))), vigil.CodeInputNotOurs, "none of this wallet's"},
		"exit leaf":        {w.intent(message, exit), vigil.CodeInputNotOurs, "leaf of group and operator"},
		"coin twice":       {w.intent(message, w.proof(message, []coin{a, a}, w.own(9000))), vigil.CodeInvalidProof, "twice"},
		"more out than in": {w.intent(message, w.proof(message, []coin{a}, w.own(10_001))), vigil.CodeInvalidProof, "exceed"},
		"no outputs":       {w.intent(message, w.proof(message, []coin{a})), vigil.CodeInvalidProof, "no output"},
		"not taproot":      {w.intent(message, w.proof(message, []coin{a}, wire.NewTxOut(9000, []byte{0x51}))), vigil.CodeOutputAmount, "Taproot"},
		"on-chain index":   {w.intent(w.register(1), w.proof(w.register(1), []coin{a}, w.own(9000))), vigil.CodeInvalidMessage, "output 1 of 1"},
		"negative index":   {w.intent(w.register(-1), w.proof(w.register(-1), []coin{a}, w.own(9000))), vigil.CodeInvalidMessage, "output -1"},
		"index twice":      {w.intent(w.register(0, 0), w.proof(w.register(0, 0), []coin{a}, w.own(9000))), vigil.CodeInvalidMessage, "twice"},
		"extension on chain": {w.intent(w.register(0), w.proof(w.register(0), []coin{a}, wire.NewTxOut(0, []byte{0x6a, 0x06, 'A', 'R', 'K', 7, 1, 1}))),
			vigil.CodeInvalidMessage, "extension"},
		"extension of value": {w.intent(message, w.proof(message, []coin{a}, w.own(1), wire.NewTxOut(1, []byte{0x6a, 0x06, 'A', 'R', 'K', 7, 1, 1}))),
			vigil.CodeInvalidProof, "value"},
		"broken extension": {w.intent(message, w.proof(message, []coin{a}, w.own(1), wire.NewTxOut(0, []byte{0x6a, 0x03, 'A', 'R', 'K'}))),
			vigil.CodeAssetsNotConserved, "extension"},
	} {
		w.refused(name, tt.doc, tt.code, tt.word)
	}
	for name, m := range map[string]intent.Message{
		"no cosigner":  {Kind: intent.Register, OnchainOutputs: []int{}, Cosigners: []string{}},
		"bad cosigner": {Kind: intent.Register, OnchainOutputs: []int{}, Cosigners: []string{"02"}},
	} {
		text := w.message(m)
		w.refused(name, w.intent(text, w.proof(text, []coin{a}, w.own(9000))), vigil.CodeCosignersMismatch, "cosigner")
	}
	del := w.message(intent.Message{Kind: intent.Delete})
	w.refused("a deletion with outputs", w.intent(del, w.proof(del, []coin{a}, w.own(9000))), vigil.CodeInvalidProof, "has outputs")
	w.refused("a deletion with outputs of nothing", w.intent(del, w.proof(del, []coin{a}, w.own(0), w.own(0))), vigil.CodeInvalidProof, "has outputs")
	w.refused("a deletion that burns", w.intent(del, w.proof(del, []coin{a}, wire.NewTxOut(9000, []byte{txscript.OP_RETURN}))), vigil.CodeInvalidProof, "has outputs")
	moved := w.coin(12, 10_000)
	w.vtxos[len(w.vtxos)-1].Script = w.desc.TwoLeaf().PkScript()
	w.refused("a known coin at another script of ours", w.intent(message, w.proof(message, []coin{moved}, w.own(9000))), vigil.CodeInputMismatch, "another script")
	signed := w.proof(message, []coin{a}, w.own(9000))
	w.sign(w.group, signed, txscript.SigHashAll)
	w.refused("signed with ALL", w.intent(message, signed), vigil.CodeSighashUnsupported, "0x1")
	w.refused("nothing", &vigilpb.Document{}, vigil.CodeDocumentInvalid, "empty")
	w.refused("nil", nil, vigil.CodeDocumentInvalid, "empty")
	w.refused("an empty intent", &vigilpb.Document{Document: &vigilpb.Document_Intent{}}, vigil.CodeInvalidMessage, "message")
	if _, err := w.parse(); vigil.CodeOf(err) != vigil.CodeDocumentInvalid {
		t.Error(err)
	}
	other := *w
	other.params.Network = ark.Signet
	other.refused("another network", proof(func(*psbt.Packet) {}), vigil.CodeInternal, "signet")
}

// TestBounds: one request asks for so many documents and signatures and no more.
func TestBounds(t *testing.T) {
	w := newWorld(t)
	w.params.MaxTxWeight = 100_000
	var coins []coin
	for i := range 128 {
		c := w.coin(10, 1000)
		c.at.Index, w.vtxos[i].Outpoint.Index = uint32(i), uint32(i)
		coins = append(coins, c)
	}
	var docs []*vigilpb.Document
	for i := range 4 { // of 129 signatures each
		del := w.message(intent.Message{Kind: intent.Delete, ExpireAt: int64(i)})
		docs = append(docs, w.intent(del, w.proof(del, coins)))
	}
	if _, err := w.parse(docs[:3]...); err != nil {
		t.Error(err)
	}
	if _, err := w.parse(docs...); vigil.CodeOf(err) != vigil.CodeTooManyInputs {
		t.Errorf("516 signatures: %v", err)
	}
	if _, err := w.parse(make([]*vigilpb.Document, spend.MaxDocuments+1)...); vigil.CodeOf(err) != vigil.CodeDocumentInvalid || !strings.Contains(err.Error(), "161 documents") {
		t.Errorf("161 documents: %v", err)
	}
}

func scriptOf(t testing.TB, c ...script.Closure) script.Tree {
	t.Helper()
	var leaves [][]byte
	for _, c := range c {
		leaves = append(leaves, c.Script())
	}
	tr, err := script.NewTree(leaves)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestRefusesPayments(t *testing.T) {
	w := newWorld(t)
	a, b, board := w.coin(10, 10_000), w.coin(11, 20_000), w.boarding(12, 5000)
	good := func() payment { return w.payment([]coin{a, b}, w.foreign(25_000), w.own(5000)) }
	spoilt := func(spoil func(p *payment)) *vigilpb.Document {
		p := good()
		spoil(&p)
		return w.arkTx(p)
	}
	rehang := func(p *payment, i int) {
		p.tx.UnsignedTx.TxIn[i].PreviousOutPoint.Hash = p.checkpoints[i].UnsignedTx.TxHash()
	}
	for name, tt := range map[string]struct {
		spoil func(p *payment)
		code  vigil.Code
		word  string
	}{
		"a checkpoint too few":  {func(p *payment) { p.checkpoints = p.checkpoints[:1] }, vigil.CodeDocumentInvalid, "1 checkpoints for 2"},
		"checkpoints swapped":   {func(p *payment) { p.checkpoints[0], p.checkpoints[1] = p.checkpoints[1], p.checkpoints[0] }, vigil.CodeDocumentInvalid, "not its checkpoint"},
		"another output of it":  {func(p *payment) { p.tx.UnsignedTx.TxIn[0].PreviousOutPoint.Index = 1 }, vigil.CodeDocumentInvalid, "not its checkpoint"},
		"version":               {func(p *payment) { p.tx.UnsignedTx.Version = 2 }, vigil.CodeDocumentInvalid, "version 2"},
		"locktime":              {func(p *payment) { p.tx.UnsignedTx.LockTime = 9 }, vigil.CodeDocumentInvalid, "locktime 9"},
		"sequence":              {func(p *payment) { p.tx.UnsignedTx.TxIn[1].Sequence = 5 }, vigil.CodeDocumentInvalid, "sequence 0x5"},
		"no anchor":             {func(p *payment) { p.tx.UnsignedTx.TxOut[2].PkScript = []byte{0x6a} }, vigil.CodeDocumentInvalid, "no anchor"},
		"a second anchor":       {func(p *payment) { p.tx.UnsignedTx.TxOut[1] = ark.AnchorOut() }, vigil.CodeDocumentInvalid, "is an anchor"},
		"a fee":                 {func(p *payment) { p.tx.UnsignedTx.TxOut[0].Value-- }, vigil.CodeDocumentInvalid, "no fee"},
		"money from nowhere":    {func(p *payment) { p.tx.UnsignedTx.TxOut[0].Value++ }, vigil.CodeDocumentInvalid, "no fee"},
		"a negative output":     {func(p *payment) { p.tx.UnsignedTx.TxOut[0].Value = -1 }, vigil.CodeDocumentInvalid, "pays -1"},
		"checkpoint's version":  {func(p *payment) { p.checkpoints[0].UnsignedTx.Version = 1; rehang(p, 0) }, vigil.CodeDocumentInvalid, "a checkpoint has version 1"},
		"checkpoint's amount":   {func(p *payment) { p.checkpoints[0].UnsignedTx.TxOut[0].Value--; rehang(p, 0) }, vigil.CodeDocumentInvalid, "whole"},
		"checkpoint's script":   {func(p *payment) { p.checkpoints[0].UnsignedTx.TxOut[0].PkScript = w.own(0).PkScript; rehang(p, 0) }, vigil.CodeDocumentInvalid, "checkpoint script"},
		"checkpoint's sequence": {func(p *payment) { p.checkpoints[0].UnsignedTx.TxIn[0].Sequence = 0; rehang(p, 0) }, vigil.CodeDocumentInvalid, "sequence 0x0"},
		"checkpoint's leaf": {func(p *payment) {
			if err := script.SetLeaf(&p.checkpoints[0].Inputs[0], a.tree, descriptor.LeafExit); err != nil {
				t.Fatal(err)
			}
		}, vigil.CodeInputNotOurs, "leaf of group and operator"},
		"shown output": {func(p *payment) {
			p.tx.Inputs[0].WitnessUtxo = wire.NewTxOut(10_001, p.tx.Inputs[0].WitnessUtxo.PkScript)
		}, vigil.CodeDocumentInvalid, "another output"},
		"the operator's own leaf": {func(p *payment) {
			tr, err := script.NewTree([][]byte{w.params.CheckpointScript, a.tree.Leaves()[0]})
			if err != nil {
				t.Fatal(err)
			}
			if err := script.SetLeaf(&p.tx.Inputs[0], tr, 0); err != nil {
				t.Fatal(err)
			}
		}, vigil.CodeInputNotOurs, "leaf of group and operator"},
		"an extension of value": {func(p *payment) {
			p.tx.UnsignedTx.TxOut[0].PkScript = []byte{0x6a, 0x06, 'A', 'R', 'K', 7, 1, 1}
		}, vigil.CodeDocumentInvalid, "value"},
		"signed with NONE": {func(p *payment) { w.sign(w.group, p.tx, txscript.SigHashNone) }, vigil.CodeSighashUnsupported, "0x2"},
	} {
		w.refused(name, spoilt(tt.spoil), tt.code, tt.word)
	}
	// A checkpoint of two coins, one of them nobody looked at; and one of two outputs.
	both := good()
	both.checkpoints[0].UnsignedTx.AddTxIn(wire.NewTxIn(&b.at, nil, nil))
	both.checkpoints[0].Inputs = append(both.checkpoints[0].Inputs, both.checkpoints[1].Inputs[0])
	rehang(&both, 0)
	w.refused("two inputs of a checkpoint", w.arkTx(both), vigil.CodeDocumentInvalid, "2 inputs")
	both = good()
	both.checkpoints[0] = w.virtual([]coin{a}, descriptor.LeafForfeit, both.checkpoints[0].UnsignedTx.TxOut[0], w.foreign(1))
	rehang(&both, 0)
	w.refused("two payments of a checkpoint", w.arkTx(both), vigil.CodeDocumentInvalid, "3 outputs")
	// Amounts that add up only because they overflow.
	huge := w.coin(20, 1<<62)
	more := w.coin(21, 1<<62)
	w.refused("more than all coins", w.arkTx(w.payment([]coin{huge, more, a, b}, w.foreign(30_000))), vigil.CodeDocumentInvalid, "holds")
	debt := w.coin(22, -5000)
	w.refused("a debt", w.arkTx(w.payment([]coin{a, debt}, w.foreign(5000))), vigil.CodeDocumentInvalid, "")

	wrapped := w.payment([]coin{a, b}, w.foreign(30_000), w.foreign(1<<62), w.foreign(1<<62), w.foreign(1<<62), w.foreign(1<<62))
	w.refused("outputs that add up only because they overflow", w.arkTx(wrapped), vigil.CodeDocumentInvalid, "pays")
	for name, tx := range map[string]*wire.MsgTx{
		"no inputs":   {Version: 3, TxOut: []*wire.TxOut{w.own(1), ark.AnchorOut()}},
		"no outputs":  {Version: 3, TxIn: []*wire.TxIn{wire.NewTxIn(&a.at, nil, nil)}},
		"only anchor": {Version: 3, TxIn: []*wire.TxIn{wire.NewTxIn(&a.at, nil, nil)}, TxOut: []*wire.TxOut{ark.AnchorOut()}},
	} {
		p := good()
		p.tx = &psbt.Packet{UnsignedTx: tx, Inputs: make([]psbt.PInput, len(tx.TxIn)), Outputs: make([]psbt.POutput, len(tx.TxOut))}
		p.checkpoints = p.checkpoints[:len(tx.TxIn)]
		w.refused(name, w.arkTx(p), vigil.CodeDocumentInvalid, "")
		p = good()
		p.checkpoints[0] = &psbt.Packet{UnsignedTx: tx, Inputs: make([]psbt.PInput, len(tx.TxIn)), Outputs: make([]psbt.POutput, len(tx.TxOut))}
		w.refused("a checkpoint of "+name, w.arkTx(p), vigil.CodeDocumentInvalid, "")
	}

	w.refused("an on-chain coin", w.arkTx(w.payment([]coin{board}, w.own(5000))), vigil.CodeInputNotOurs, "on-chain coin")
	w.refused("a coin twice", w.arkTx(w.payment([]coin{a, a}, w.own(20_000))), vigil.CodeDuplicateInput, "twice")
	w.refused("nothing", &vigilpb.Document{Document: &vigilpb.Document_ArkTx{ArkTx: &vigilpb.ArkTxDocument{}}}, vigil.CodeDocumentInvalid, "PSBT")
	odd := newWorld(t)
	odd.params.CheckpointScript = script.CSVMultisig{
		Multisig: script.Multisig{PubKeys: []bip340.XOnly{odd.stranger.PubKey().XOnly()}}, Sequence: 9,
	}.Script()
	odd.refused("the operator's checkpoint script", w.arkTx(good()), vigil.CodeDocumentInvalid, "forfeit key")
	ours := script.Multisig{PubKeys: []bip340.XOnly{odd.forfeit.PubKey().XOnly()}}
	odd.params.CheckpointScript = ours.Script()
	odd.refused("one without a delay", w.arkTx(good()), vigil.CodeDocumentInvalid, "forfeit key")
	ours.PubKeys = append(ours.PubKeys, odd.stranger.PubKey().XOnly())
	odd.params.CheckpointScript = script.CSVMultisig{Multisig: ours, Sequence: 9}.Script()
	odd.refused("one of two keys", w.arkTx(good()), vigil.CodeDocumentInvalid, "forfeit key")
	odd.params.CheckpointScript = []byte{0x51}
	odd.refused("one of no kind", w.arkTx(good()), vigil.CodeDocumentInvalid, "checkpoint script")
}

// TestRefusesCheckpoints: the second half is signed only when the first one was.
func TestRefusesCheckpoints(t *testing.T) {
	w := newWorld(t)
	a := w.coin(10, 10_000)
	for name, tt := range map[string]struct {
		prepare func(p *payment)
		word    string
	}{
		"nobody signed":  {func(*payment) {}, "ark transaction: input 0 lacks"},
		"only the group": {func(p *payment) { w.sign(w.group, p.tx, txscript.SigHashDefault) }, "ark transaction: input 0 lacks the signature of " + w.signer.PubKey().XOnly().String()},
		"only the operator": {func(p *payment) {
			w.sign(w.signer, p.tx, txscript.SigHashDefault)
			w.sign(w.signer, p.checkpoints[0], 0)
		}, "ark transaction: input 0 lacks the signature of " + w.group.PubKey().XOnly().String()},
		"checkpoint not by it": {func(p *payment) { w.sign(w.signer, p.tx, 0); w.sign(w.group, p.tx, 0) }, "checkpoint: input 0 lacks"},
		"a spoilt signature": {func(p *payment) {
			w.sign(w.signer, p.tx, 0)
			w.sign(w.group, p.tx, 0)
			w.sign(w.signer, p.checkpoints[0], 0)
			p.tx.Inputs[0].TaprootScriptSpendSig[1].Signature[5] ^= 1
		}, "invalid signature"},
		"a spoilt one on the way": {func(p *payment) {
			w.sign(w.signer, p.tx, 0)
			w.sign(w.group, p.tx, 0)
			w.sign(w.signer, p.checkpoints[0], 0)
			p.checkpoints[0].Inputs[0].TaprootScriptSpendSig[0].Signature[5] ^= 1
		}, "checkpoint: input 0"},
	} {
		p := w.payment([]coin{a}, w.foreign(10_000))
		tt.prepare(&p)
		w.refused(name, w.checkpoints(p), vigil.CodeSignatureInvalid, tt.word)
	}
	// Signed for another destination.
	p, q := w.payment([]coin{a}, w.foreign(10_000)), w.payment([]coin{a}, w.own(10_000))
	w.sign(w.signer, q.tx, 0)
	w.sign(w.group, q.tx, 0)
	w.sign(w.signer, p.checkpoints[0], 0)
	p.tx.Inputs[0].TaprootScriptSpendSig = q.tx.Inputs[0].TaprootScriptSpendSig
	w.refused("signatures of another payment", w.checkpoints(p), vigil.CodeSignatureInvalid, "invalid signature")
}

func TestRefusesDelegateForfeits(t *testing.T) {
	w := newWorld(t)
	a, board := w.coin(10, 10_000), w.boarding(11, 5000)
	spoilt := func(spoil func(p *psbt.Packet)) *vigilpb.Document {
		p := w.delegateForfeit(a, descriptor.LeafDelegate)
		spoil(p)
		return w.delegated(p)
	}
	for name, tt := range map[string]struct {
		doc  *vigilpb.Document
		code vigil.Code
		word string
	}{
		"a satoshi more":  {spoilt(func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value++ }), vigil.CodeForfeitInvalid, "operator asks for"},
		"another script":  {spoilt(func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].PkScript = w.foreign(0).PkScript }), vigil.CodeForfeitInvalid, "operator asks for"},
		"locktime":        {spoilt(func(p *psbt.Packet) { p.UnsignedTx.LockTime = 1 }), vigil.CodeForfeitInvalid, "operator asks for"},
		"version":         {spoilt(func(p *psbt.Packet) { p.UnsignedTx.Version = 2 }), vigil.CodeForfeitInvalid, "operator asks for"},
		"sequence":        {spoilt(func(p *psbt.Packet) { p.UnsignedTx.TxIn[0].Sequence-- }), vigil.CodeForfeitInvalid, "operator asks for"},
		"a third output":  {spoilt(func(p *psbt.Packet) { p.UnsignedTx.AddTxOut(w.own(0)); p.Outputs = append(p.Outputs, psbt.POutput{}) }), vigil.CodeForfeitInvalid, "operator asks for"},
		"exit leaf":       {w.delegated(w.delegateForfeit(a, descriptor.LeafExit)), vigil.CodeInputNotOurs, "leaf 1"},
		"recovery leaf":   {w.delegated(w.delegateForfeit(a, descriptor.LeafRecovery)), vigil.CodeInputNotOurs, "leaf 3"},
		"an on-chain one": {w.delegated(w.delegateForfeit(board, descriptor.LeafForfeit)), vigil.CodeInputNotDelegable, "on-chain"},
		"nothing":         {&vigilpb.Document{Document: &vigilpb.Document_DelegateForfeit{}}, vigil.CodeForfeitInvalid, "PSBT"},
		"not base64":      {&vigilpb.Document{Document: &vigilpb.Document_DelegateForfeit{DelegateForfeit: &vigilpb.DelegateForfeitDocument{Psbt: "%"}}}, vigil.CodeForfeitInvalid, ""},
		"two inputs": {spoilt(func(p *psbt.Packet) {
			p.UnsignedTx.AddTxIn(wire.NewTxIn(&board.at, nil, nil))
			p.Inputs = append(p.Inputs, psbt.PInput{WitnessUtxo: board.out})
		}), vigil.CodeForfeitInvalid, "2 inputs"},
	} {
		w.refused(name, tt.doc, tt.code, tt.word)
	}
}

func TestRefusesExits(t *testing.T) {
	w := newWorld(t)
	a, board := w.coin(10, 10_000), w.boarding(11, 5000)
	w.refused("more than all coins", w.exited(w.exit([]coin{w.coin(12, 1<<62), w.coin(13, 1<<62), a}, 512, w.foreign(9000))), vigil.CodeDocumentInvalid, "holds")
	w.refused("a debt", w.exited(w.exit([]coin{a, w.coin(14, -1)}, 512, w.foreign(9000))), vigil.CodeDocumentInvalid, "holds")
	bare := w.exit([]coin{a}, 512, w.foreign(9000))
	bare.Inputs[0].WitnessUtxo = nil
	w.refused("no witness UTXO", w.exited(bare), vigil.CodeDocumentInvalid, "no witness UTXO")
	spoilt := func(spoil func(p *psbt.Packet)) *vigilpb.Document {
		p := w.exit([]coin{a}, 512, w.foreign(9000))
		spoil(p)
		return w.exited(p)
	}
	leaf := func(i int) func(p *psbt.Packet) {
		return func(p *psbt.Packet) {
			if err := script.SetLeaf(&p.Inputs[0], a.tree, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tt := range map[string]struct {
		doc  *vigilpb.Document
		code vigil.Code
		word string
	}{
		"signed with NONE":   {spoilt(func(p *psbt.Packet) { w.sign(w.group, p, txscript.SigHashNone) }), vigil.CodeSighashUnsupported, "0x2"},
		"version 1":          {spoilt(func(p *psbt.Packet) { p.UnsignedTx.Version = 1 }), vigil.CodeDocumentInvalid, "version 1"},
		"negative version":   {spoilt(func(p *psbt.Packet) { p.UnsignedTx.Version = -2 }), vigil.CodeDocumentInvalid, "version -2"},
		"locktime":           {spoilt(func(p *psbt.Packet) { p.UnsignedTx.LockTime = 5 }), vigil.CodeDocumentInvalid, "locktime"},
		"leaf 0":             {spoilt(leaf(descriptor.LeafForfeit)), vigil.CodeInputNotOurs, "exit leaf"},
		"leaf 2":             {spoilt(leaf(descriptor.LeafDelegate)), vigil.CodeInputNotOurs, "exit leaf"},
		"leaf 3":             {spoilt(leaf(descriptor.LeafRecovery)), vigil.CodeInputNotOurs, "exit leaf"},
		"too early":          {spoilt(func(p *psbt.Packet) { p.UnsignedTx.TxIn[0].Sequence-- }), vigil.CodeExitLeafSequence, "sequence"},
		"more out than in":   {w.exited(w.exit([]coin{a}, 512, w.foreign(10_001))), vigil.CodeDocumentInvalid, "more than is left"},
		"a negative output":  {w.exited(w.exit([]coin{a}, 512, w.foreign(-1))), vigil.CodeDocumentInvalid, "pays -1"},
		"no output":          {w.exited(w.exit([]coin{a}, 512)), vigil.CodeDocumentInvalid, ""},
		"boarding too early": {w.exited(w.exit([]coin{board}, 512, w.foreign(4000))), vigil.CodeExitLeafSequence, "sequence"},
		"an extension":       {w.exited(w.exit([]coin{a}, 512, wire.NewTxOut(0, []byte{0x6a, 0x06, 'A', 'R', 'K', 7, 1, 1}))), vigil.CodeDocumentInvalid, "extension"},
		"a coin twice":       {w.exited(w.exit([]coin{a, a}, 512, w.foreign(9000))), vigil.CodeDocumentInvalid, ""},
		"nothing":            {&vigilpb.Document{Document: &vigilpb.Document_Exit{}}, vigil.CodeDocumentInvalid, "PSBT"},
		"too long":           {&vigilpb.Document{Document: &vigilpb.Document_Exit{Exit: &vigilpb.ExitDocument{Psbt: base64.StdEncoding.EncodeToString(make([]byte, 2<<20))}}}, vigil.CodeDocumentInvalid, "PSBT"},
	} {
		w.refused(name, tt.doc, tt.code, tt.word)
	}
}
