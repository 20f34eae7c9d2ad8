package spend_test

import (
	"slices"
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
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// nodePSBT changes the packet of a node that a document shows.
func (w *world) nodePSBT(n *vigilpb.TreeNode, change func(p *psbt.Packet)) *vigilpb.TreeNode {
	w.t.Helper()
	p, err := script.ParsePSBT(n.Tx, script.OperatorLimits())
	if err != nil {
		w.t.Fatal(err)
	}
	change(p)
	return &vigilpb.TreeNode{Tx: w.b64(p), Children: n.Children}
}

// TestRefusesBatches lies about the batch in every way, to both kinds that
// believe it: nothing is signed unless the commitment gives what was asked for.
func TestRefusesBatches(t *testing.T) {
	w := newWorld(t)
	a, b, board := w.coin(10, 10_000), w.coin(11, 20_000), w.boarding(12, 5000)
	message := w.register()
	leaf := []*wire.TxOut{w.own(34_000)}
	good := w.settle(message, []coin{a, b}, []coin{board}, leaf)
	settle := func() *settlement { return w.again(good) }
	other := w.settle(message, []coin{a, b}, []coin{board}, []*wire.TxOut{w.own(33_000)})
	theirs := w.settle(message, []coin{a, b}, []coin{board}, []*wire.TxOut{w.foreign(34_000)})
	unsigned := w.proof(message, []coin{a, b, board}, leaf...)
	del := w.message(intent.Message{Kind: intent.Delete})
	deletion := w.proof(del, []coin{a, b, board})
	w.fill(w.group, w.one(w.intent(del, deletion)), deletion)
	for name, tt := range map[string]struct {
		spoil func(s *settlement)
		code  vigil.Code
		word  string
	}{
		"the intent is not signed": {func(s *settlement) { s.proof = unsigned }, vigil.CodeSignatureInvalid, "missing signature"},
		"the intent is a deletion": {func(s *settlement) { s.message, s.proof = del, deletion }, vigil.CodeDocumentInvalid, "not one that registers"},
		"the leaf pays less":       {func(s *settlement) { s.proof, s.message = other.proof, other.message }, vigil.CodeDocumentInvalid, "no leaf of the batch"},
		"the leaf pays another":    {func(s *settlement) { s.proof, s.message = theirs.proof, theirs.message }, vigil.CodeDocumentInvalid, "no leaf of the batch"},
		"no nodes":                 {func(s *settlement) { s.nodes = nil }, vigil.CodeDocumentInvalid, "branch"},
		"no root":                  {func(s *settlement) { s.nodes = s.nodes[1:] }, vigil.CodeDocumentInvalid, "branch"},
		"no leaf":                  {func(s *settlement) { s.nodes = s.nodes[:len(s.nodes)-1] }, vigil.CodeDocumentInvalid, "branch"},
		"another batch's branch":   {func(s *settlement) { s.nodes = other.nodes }, vigil.CodeDocumentInvalid, "branch"},
		"another commitment":       {func(s *settlement) { s.commitment = other.commitment }, vigil.CodeDocumentInvalid, "branch"},
		"another expiry":           {func(s *settlement) { s.expiry = 4096 }, vigil.CodeDocumentInvalid, "branch"},
		"an expiry of no kind":     {func(s *settlement) { s.expiry = 4097 }, vigil.CodeDocumentInvalid, "expiry refused"},
		"no expiry":                {func(s *settlement) { s.expiry = 0 }, vigil.CodeDocumentInvalid, "expiry refused"},
		"an unsigned root": {func(s *settlement) {
			s.nodes[0] = w.nodePSBT(s.nodes[0], func(p *psbt.Packet) { p.Inputs[0].TaprootKeySpendSig = nil })
		}, vigil.CodeDocumentInvalid, "is not signed"},
		"a leaf signed wrongly": {func(s *settlement) {
			n := len(s.nodes) - 1
			s.nodes[n] = w.nodePSBT(s.nodes[n], func(p *psbt.Packet) { p.Inputs[0].TaprootKeySpendSig[9] ^= 1 })
		}, vigil.CodeDocumentInvalid, "does not verify"},
		"a node's signature of a leaf": {func(s *settlement) {
			s.nodes[0] = w.nodePSBT(s.nodes[0], func(p *psbt.Packet) { p.Inputs[0].TaprootKeySpendSig = sigOf(w, s.nodes[1]) })
		}, vigil.CodeDocumentInvalid, "does not verify"},
		"a leaf without its anchor": {func(s *settlement) {
			n := len(s.nodes) - 1
			s.nodes[n] = w.nodePSBT(s.nodes[n], func(p *psbt.Packet) { p.UnsignedTx.TxOut[1].Value = 1 })
		}, vigil.CodeDocumentInvalid, "node-anchor"},
		"a child twice":       {func(s *settlement) { s.nodes[0].Children = append(s.nodes[0].Children, s.nodes[0].Children[0]) }, vigil.CodeDocumentInvalid, "two children"},
		"a node that is none": {func(s *settlement) { s.nodes[0] = &vigilpb.TreeNode{Tx: "x"} }, vigil.CodeDocumentInvalid, "node 0"},
		"a nil node":          {func(s *settlement) { s.nodes[0] = nil }, vigil.CodeDocumentInvalid, "node 0"},
		"too many nodes":      {func(s *settlement) { s.nodes = slices.Repeat(s.nodes[:1], 65) }, vigil.CodeDocumentInvalid, "65 nodes"},
	} {
		s := settle()
		tt.spoil(s)
		w.refused("forfeits: "+name, w.forfeits(s), tt.code, tt.word)
		s = settle()
		tt.spoil(s)
		w.refused("boarding: "+name, w.boarded(s), tt.code, tt.word)
	}
	s := settle()
	doc := w.forfeits(s)
	doc.GetForfeit().Batch.Commitment = "cHNidP8="
	w.refused("no commitment", doc, vigil.CodeDocumentInvalid, "commitment transaction")
	doc.GetForfeit().Batch = nil
	w.refused("no batch", doc, vigil.CodeInvalidMessage, "message")

	// Transactions that are none: with no outputs, and with no inputs.
	for _, tx := range []*wire.MsgTx{
		{Version: 2, TxIn: []*wire.TxIn{wire.NewTxIn(&a.at, nil, nil)}},
		{Version: 2, TxOut: []*wire.TxOut{w.own(1)}},
	} {
		s = settle()
		s.commitment = &psbt.Packet{UnsignedTx: tx, Inputs: make([]psbt.PInput, len(tx.TxIn)), Outputs: make([]psbt.POutput, len(tx.TxOut))}
		w.refused("an empty commitment", w.forfeits(s), vigil.CodeDocumentInvalid, "commitment transaction")
	}

	two := intent.NewRegister(0, 0, w.treeKey.PubKey(), w.stranger.PubKey())
	s = w.settle(w.message(two), []coin{a}, nil, []*wire.TxOut{w.own(9000)})
	w.refused("two cosigners", w.forfeits(s), vigil.CodeCosignersMismatch, "exactly one")
}

// TestRefusesLeavesOfOthers: a leaf that pays what was asked for and lacks the
// wallet's own cosigner can be given to somebody else by those who have signed it,
// and one with a third is a stranger's, who may be on his own side.
func TestRefusesLeavesOfOthers(t *testing.T) {
	w := newWorld(t)
	keys := []bip340.PubKey{w.treeKey.PubKey(), w.cosigner.PubKey(), w.stranger.PubKey()}
	for name, under := range map[string][]bip340.PubKey{
		"without the wallet's cosigner": keys[1:],
		"with a third":                  keys,
		"of the wallet's alone":         keys[:1],
	} {
		w.under = under
		s := w.settle(w.register(), []coin{w.coin(10, 10_000)}, []coin{w.boarding(12, 5000)}, []*wire.TxOut{w.own(14_000)})
		w.refused("forfeits: "+name, w.forfeits(s), vigil.CodeDocumentInvalid, "no leaf of the batch")
		w.refused("boarding: "+name, w.boarded(s), vigil.CodeDocumentInvalid, "no leaf of the batch")
	}
}

// TestManyCosigners: a branch whose keys would take seconds is not looked into.
func TestManyCosigners(t *testing.T) {
	if testing.Short() {
		t.Skip("parsing 9,000 keys takes seconds under the race detector")
	}
	w := newWorld(t)
	s := w.settle(w.register(), []coin{w.coin(10, 10_000)}, nil, []*wire.TxOut{w.own(9000)})
	many, root := points(1000), s.nodes[0]
	s.nodes = nil
	for range 9 {
		s.nodes = append(s.nodes, w.nodePSBT(root, func(p *psbt.Packet) { script.SetCosigners(&p.Inputs[0], many) }))
	}
	w.refused("9,000 cosigners", w.forfeits(s), vigil.CodeTooManyInputs, "more than 8192 cosigners")
}

func sigOf(w *world, n *vigilpb.TreeNode) []byte {
	w.t.Helper()
	p, err := script.ParsePSBT(n.Tx, script.OperatorLimits())
	if err != nil {
		w.t.Fatal(err)
	}
	return p.Inputs[0].TaprootKeySpendSig
}

// TestOnlyDayLongBatches: outside regtest a batch lives a day at least.
func TestOnlyDayLongBatches(t *testing.T) {
	w := newWorld(t)
	w.params.Network, w.desc.Network = ark.Signet, ark.Signet
	s := w.settle(w.register(), []coin{w.coin(10, 10_000)}, nil, []*wire.TxOut{w.own(9000)})
	w.refused("2048 s", w.forfeits(s), vigil.CodeDocumentInvalid, "expiry refused")
}

func TestRefusesForfeits(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.coin(10, 10_000), w.coin(11, 20_000), w.coin(13, 7000)
	board := w.boarding(12, 5000)
	message := w.register()
	good := w.settle(message, []coin{a, b}, []coin{board}, []*wire.TxOut{w.own(34_000)})
	settle := func() *settlement { return w.again(good) }
	other := w.settle(message, []coin{a, b}, nil, []*wire.TxOut{w.own(29_000)})
	third := func(s *settlement) coin { // the stranger's connector
		p, err := script.ParsePSBT(s.connectors[3].Tx, script.OperatorLimits())
		if err != nil {
			t.Fatal(err)
		}
		return coin{at: wire.OutPoint{Hash: p.UnsignedTx.TxHash()}, out: p.UnsignedTx.TxOut[0]}
	}
	for name, tt := range map[string]struct {
		spoil func(s *settlement)
		code  vigil.Code
		word  string
	}{
		"none":            {func(s *settlement) { s.forfeits = nil }, vigil.CodeForfeitInvalid, "0 forfeits"},
		"more than coins": {func(s *settlement) { s.forfeits = slices.Repeat(s.forfeits, 2) }, vigil.CodeForfeitInvalid, "4 forfeits"},
		"a coin twice":    {func(s *settlement) { s.forfeits[1] = w.liveForfeit(a, third(s)) }, vigil.CodeForfeitDuplicate, "two forfeits of"},
		"a connector twice": {func(s *settlement) {
			s.forfeits[1].UnsignedTx.TxIn[1].PreviousOutPoint = s.forfeits[0].UnsignedTx.TxIn[1].PreviousOutPoint
		}, vigil.CodeForfeitInvalid, "with the connector"},
		"another batch's connector": {func(s *settlement) { s.forfeits = other.forfeits }, vigil.CodeForfeitInvalid, "is no connector"},
		"another batch's tree":      {func(s *settlement) { s.connectors = other.connectors }, vigil.CodeDocumentInvalid, "connectors"},
		"no connectors":             {func(s *settlement) { s.connectors = nil }, vigil.CodeDocumentInvalid, "connectors"},
		"a coin not of the intent":  {func(s *settlement) { s.forfeits[1] = w.liveForfeit(c, third(s)) }, vigil.CodeForfeitUnexpected, "does not spend"},
		"a boarding coin":           {func(s *settlement) { s.forfeits[1] = w.liveForfeit(board, third(s)) }, vigil.CodeForfeitUnexpected, "commitment transaction itself"},
		"a satoshi less":            {func(s *settlement) { s.forfeits[0].UnsignedTx.TxOut[0].Value-- }, vigil.CodeForfeitInvalid, "forfeit script"},
		"another script":            {func(s *settlement) { s.forfeits[0].UnsignedTx.TxOut[0].PkScript = w.foreign(0).PkScript }, vigil.CodeForfeitInvalid, "forfeit script"},
		"locktime":                  {func(s *settlement) { s.forfeits[0].UnsignedTx.LockTime = 1 }, vigil.CodeForfeitInvalid, "forfeit script"},
		"sequence":                  {func(s *settlement) { s.forfeits[0].UnsignedTx.TxIn[1].Sequence = 1 }, vigil.CodeForfeitInvalid, "forfeit script"},
		"the delegate leaf":         {func(s *settlement) { setLeaf(t, s.forfeits[0], a, descriptor.LeafDelegate) }, vigil.CodeInputNotOurs, "leaf of group and operator"},
		"the exit leaf":             {func(s *settlement) { setLeaf(t, s.forfeits[0], a, descriptor.LeafExit) }, vigil.CodeInputNotOurs, "leaf of group and operator"},
		"another shown connector":   {func(s *settlement) { s.forfeits[0].Inputs[1].WitnessUtxo = wire.NewTxOut(330, w.foreign(0).PkScript) }, vigil.CodeForfeitInvalid, "another connector"},
		"no shown connector":        {func(s *settlement) { s.forfeits[0].Inputs[1].WitnessUtxo = nil }, vigil.CodeForfeitInvalid, "another connector"},
		"one input": {func(s *settlement) {
			p := s.forfeits[0]
			p.UnsignedTx.TxIn, p.Inputs = p.UnsignedTx.TxIn[:1], p.Inputs[:1]
		}, vigil.CodeForfeitInvalid, "1 inputs"},
		"connector first": {func(s *settlement) {
			p := s.forfeits[0]
			slices.Reverse(p.UnsignedTx.TxIn)
			slices.Reverse(p.Inputs)
		}, vigil.CodeForfeitInvalid, "is no connector"},
		"signed with ALL|ANYONECANPAY": {func(s *settlement) {
			w.sign(w.group, s.forfeits[0], txscript.SigHashAll|txscript.SigHashAnyOneCanPay)
		}, vigil.CodeSighashUnsupported, "0x81"},
	} {
		s := settle()
		tt.spoil(s)
		w.refused(name, w.forfeits(s), tt.code, tt.word)
	}
	// An output inside the tree is worth the dust too, but is no connector.
	s := settle()
	root, err := script.ParsePSBT(s.connectors[0].Tx, script.OperatorLimits())
	if err != nil {
		t.Fatal(err)
	}
	s.forfeits = []*psbt.Packet{w.liveForfeit(a, coin{at: wire.OutPoint{Hash: root.UnsignedTx.TxHash()}, out: root.UnsignedTx.TxOut[0]})}
	if s.forfeits[0].Inputs[1].WitnessUtxo.Value != w.params.Dust {
		t.Fatal("the root does not pay the dust")
	}
	w.refused("an output of the root", w.forfeits(s), vigil.CodeForfeitInvalid, "is no connector")
	// A boarding coin of the intent that the commitment does not spend.
	s = w.carry(&settlement{message: message, expiry: 2048, proof: w.proof(message, []coin{a, board}, w.own(14_000))}, []coin{a}, nil, []*wire.TxOut{w.own(14_000)})
	s.forfeits[0] = w.liveForfeit(board, coin{at: s.forfeits[0].UnsignedTx.TxIn[1].PreviousOutPoint, out: s.forfeits[0].Inputs[1].WitnessUtxo})
	w.refused("a forfeit of an on-chain coin", w.forfeits(s), vigil.CodeForfeitUnexpected, "on-chain coin")
	// A commitment without connectors.
	s = w.carry(&settlement{message: message, expiry: 2048, proof: w.proof(message, []coin{a}, w.own(9000))}, nil, nil, []*wire.TxOut{w.own(9000)})
	s.forfeits, s.connectors = good.forfeits[:1], good.connectors
	w.refused("no connector output", w.forfeits(s), vigil.CodeDocumentInvalid, "no connectors")
	// The dust that connectors are worth changed after the batch began.
	s = settle()
	w.params.Dust = 400
	w.refused("another dust", w.forfeits(s), vigil.CodeDocumentInvalid, "not the dust")
}

func setLeaf(t testing.TB, p *psbt.Packet, c coin, leaf int) {
	t.Helper()
	if err := script.SetLeaf(&p.Inputs[0], c.tree, leaf); err != nil {
		t.Fatal(err)
	}
}

func TestRefusesBoarding(t *testing.T) {
	w := newWorld(t)
	board, later := w.boarding(12, 5000), w.boarding(13, 6000)
	message := w.register()
	good := w.settle(message, nil, []coin{board, later}, []*wire.TxOut{w.own(4000)})
	for name, tt := range map[string]struct {
		spoil func(s *settlement)
		code  vigil.Code
		word  string
	}{
		"no input":              {func(s *settlement) { s.boards = nil }, vigil.CodeDocumentInvalid, "no input"},
		"the operator's input":  {func(s *settlement) { s.boards = []uint32{0} }, vigil.CodeInputNotOurs, "none of this wallet's"},
		"an input that is none": {func(s *settlement) { s.boards = []uint32{3} }, vigil.CodeDocumentInvalid, "input 3"},
		"not ascending":         {func(s *settlement) { s.boards = []uint32{2, 1} }, vigil.CodeDocumentInvalid, "after 2"},
		"an input twice":        {func(s *settlement) { s.boards = []uint32{1, 1} }, vigil.CodeDocumentInvalid, "after 1"},
		"far out":               {func(s *settlement) { s.boards = []uint32{1 << 31} }, vigil.CodeDocumentInvalid, "input"},
		"another shown amount":  {func(s *settlement) { s.commitment.Inputs[1].WitnessUtxo = wire.NewTxOut(4999, board.out.PkScript) }, vigil.CodeDocumentInvalid, "does not prove"},
		"a lock on the input":   {func(s *settlement) { *s = *w.relocked(s) }, vigil.CodeDocumentInvalid, "sequence"},
		"no shown output":       {func(s *settlement) { s.commitment.Inputs[0].WitnessUtxo = nil }, vigil.CodeDocumentInvalid, "unknown"},
	} {
		s := w.again(good)
		tt.spoil(s)
		w.refused(name, w.boarded(s), tt.code, tt.word)
	}
	// A coin that the intent does not prove slips into the commitment.
	s := w.again(good)
	s.proof = w.settle(message, nil, []coin{board}, []*wire.TxOut{w.own(4000)}).proof
	w.refused("a coin beside the intent", w.boarded(s), vigil.CodeDocumentInvalid, "does not prove")
}

// relocked is the settlement in a commitment whose inputs have another sequence:
// its tree hangs elsewhere.
func (w *world) relocked(s *settlement) *settlement {
	w.t.Helper()
	w.sequence = 5
	defer func() { w.sequence = 0 }()
	return w.carry(&settlement{message: s.message, expiry: s.expiry, proof: s.proof}, nil, s.spends[1:], []*wire.TxOut{w.own(4000)})
}

// TestOnchainOutputs: each has its own place in the commitment.
func TestOnchainOutputs(t *testing.T) {
	w := newWorld(t)
	a := w.coin(10, 10_000)
	out := wire.NewTxOut(3000, append([]byte{0x00, 0x14}, make([]byte, 20)...))
	message := w.register(1, 2)
	whole := func() *settlement { return w.settle(message, []coin{a}, nil, []*wire.TxOut{w.own(3000)}, out, out) }
	w.one(w.forfeits(whole()))
	// The same intent, in a commitment that pays one of the two.
	s := whole()
	proof := s.proof
	less := w.carry(&settlement{message: message, expiry: 2048, proof: proof}, []coin{a}, nil, []*wire.TxOut{w.own(3000)}, out)
	w.refused("one of two", w.forfeits(less), vigil.CodeDocumentInvalid, "does not pay 3000")
}

// TestOneLeafGivesToOneIntent: of two intents that ask for the same, under the same
// cosigner, each has its own leaf and its own output on chain.
func TestOneLeafGivesToOneIntent(t *testing.T) {
	w := newWorld(t)
	a, b := w.coin(10, 10_000), w.coin(11, 10_000)
	out := wire.NewTxOut(3000, append([]byte{0x00, 0x14}, make([]byte, 20)...))
	message, onchain := w.register(), w.register(0)
	for name, tt := range map[string]struct {
		message string
		leaf    []*wire.TxOut
		outs    []*wire.TxOut
		word    string
	}{
		"a leaf":             {message, []*wire.TxOut{w.own(9000)}, nil, "no leaf of the batch"},
		"an on-chain output": {onchain, nil, []*wire.TxOut{out}, "does not pay 3000"},
	} {
		asked := slices.Concat(tt.leaf, tt.outs)
		proof := w.proof(tt.message, []coin{b}, asked...)
		w.fill(w.group, w.one(w.intent(tt.message, proof)), proof)
		// The batch has connectors for both, and gives what one of them asks for.
		first := w.carry(&settlement{message: tt.message, expiry: 2048, proof: w.proof(tt.message, []coin{a}, asked...)}, []coin{a, b}, nil, tt.leaf, tt.outs...)
		second := w.again(first)
		second.proof, first.forfeits, second.forfeits = proof, first.forfeits[:1], second.forfeits[1:]
		for _, s := range []*settlement{first, second} {
			w.one(w.forfeits(s))
		}
		_, err := w.parse(w.forfeits(first), w.forfeits(second))
		if vigil.CodeOf(err) != vigil.CodeDocumentInvalid || !strings.Contains(err.Error(), tt.word) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What one intent gets is shown again for the other half of what it gives.
	both := w.settle(message, []coin{a}, []coin{w.boarding(12, 5000)}, []*wire.TxOut{w.own(14_000)})
	if _, err := w.parse(w.forfeits(both), w.boarded(both)); err != nil {
		t.Errorf("forfeits and boarding of one intent: %v", err)
	}
}
