package spend_test

import (
	"bytes"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/asset"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/spend"
	"github.com/vigil-ark/vigil/ark/tree/treetest"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/vigilpb"
)

// world is a wallet whose group key is one plain key, and an operator.
type world struct {
	t testing.TB

	group, signer, forfeit, delegate, recovery, stranger, treeKey, cosigner *bip340.Key

	params ark.Params
	desc   descriptor.Descriptor
	vtxos  []ark.VTXO
	now    int64

	contexts *musig2.Cache
	sequence uint32          // of the inputs of commitments, 0 for the usual one
	under    []bip340.PubKey // cosigners of the wallet's leaf, nil for those that it asked for
}

func newKey(t testing.TB, n byte) *bip340.Key {
	t.Helper()
	k, err := bip340.NewKey(secret.New(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// points are n public keys whose secrets nobody knows: making them costs less than
// keys do.
func points(n int) (keys []bip340.PubKey) {
	for i := 0; len(keys) < n; i++ {
		x := bip340.TaggedHash("points", []byte{byte(i), byte(i >> 8)})
		if k, err := bip340.ParsePubKey(append([]byte{2}, x[:]...)); err == nil {
			keys = append(keys, k)
		}
	}
	return keys
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		t: t, group: newKey(t, 1), signer: newKey(t, 2), forfeit: newKey(t, 3), delegate: newKey(t, 4), recovery: newKey(t, 5),
		stranger: newKey(t, 6), treeKey: newKey(t, 7), cosigner: newKey(t, 8), now: 1_800_000_000,
		contexts: musig2.NewCache(64),
	}
	w.params = ark.Params{
		Network: ark.Regtest, SignerKey: w.signer.PubKey(), ForfeitKey: w.forfeit.PubKey(),
		ForfeitScript: append([]byte{0x00, 0x14}, bytes.Repeat([]byte{0xcc}, 20)...),
		CheckpointScript: script.CSVMultisig{
			Multisig: script.Multisig{PubKeys: []bip340.XOnly{w.forfeit.PubKey().XOnly()}}, Sequence: ark.Delay(512).Sequence(),
		}.Script(),
		ExitDelay: 512, BoardingDelay: 4096, UtxoMax: -1, VtxoMax: -1, Dust: 330, MaxTxWeight: 40_000,
	}
	var err error
	if w.desc, err = descriptor.New(w.params, w.group.PubKey(), w.delegate.PubKey().XOnly(), w.recovery.PubKey().XOnly(), 0); err != nil {
		t.Fatal(err)
	}
	return w
}

// coin is a coin of the wallet, known to it.
type coin struct {
	at   wire.OutPoint
	out  *wire.TxOut
	tree script.Tree
}

func (w *world) coinAt(n byte, amount int64, tree script.Tree) coin {
	c := coin{wire.OutPoint{Hash: chainhash.Hash(bytes.Repeat([]byte{n}, 32)), Index: uint32(n)}, wire.NewTxOut(amount, tree.PkScript()), tree}
	if !bytes.Equal(c.out.PkScript, w.desc.BoardingPkScript()) {
		w.vtxos = append(w.vtxos, ark.VTXO{
			Outpoint: c.at, Amount: amount, Script: c.out.PkScript, CreatedAt: w.now - 1000, ExpiresAt: w.now + 100_000,
			CommitmentTxs: []chainhash.Hash{{1}},
		})
	}
	return c
}

func (w *world) coin(n byte, amount int64) coin     { return w.coinAt(n, amount, w.desc.Tree()) }
func (w *world) boarding(n byte, amount int64) coin { return w.coinAt(n, amount, w.desc.Boarding()) }

func (w *world) own(amount int64) *wire.TxOut { return wire.NewTxOut(amount, w.desc.PkScript()) }
func (w *world) foreign(amount int64) *wire.TxOut {
	return wire.NewTxOut(amount, ark.PayToTaproot(w.stranger.PubKey().XOnly()))
}

func (w *world) terms() spend.Terms {
	return spend.Terms{Params: w.params, VTXOs: w.vtxos, Now: w.now, Contexts: w.contexts}
}

func (w *world) parse(docs ...*vigilpb.Document) ([]*spend.Spend, error) {
	return spend.Parse(docs, w.desc, w.terms())
}

// one parses one document that must pass.
func (w *world) one(doc *vigilpb.Document) *spend.Spend {
	w.t.Helper()
	list, err := w.parse(doc)
	if err != nil {
		w.t.Fatal(err)
	}
	return list[0]
}

func (w *world) b64(p *psbt.Packet) string {
	w.t.Helper()
	s, err := p.B64Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// fill puts the signatures of a spend into its packets, made over the messages
// that Parse found and over nothing else.
func (w *world) fill(key *bip340.Key, s *spend.Spend, packets ...*psbt.Packet) {
	w.t.Helper()
	for _, h := range s.Sighashes {
		sig, err := key.Sign(h.Message[:])
		if err != nil {
			w.t.Fatal(err)
		}
		in := &packets[h.Tx].Inputs[h.Input]
		leaf := in.TaprootLeafScript[0].Script
		if script.LeafHash(leaf) != h.LeafHash {
			w.t.Fatalf("the leaf of input %d is not the one of the sighash", h.Input)
		}
		script.AddSignature(in, leaf, script.Signature{Key: key.PubKey().XOnly(), Type: txscript.SigHashType(h.Type), Sig: sig})
	}
}

// sign signs every input of a packet with any key, as the operator does.
func (w *world) sign(key *bip340.Key, p *psbt.Packet, t txscript.SigHashType) {
	w.t.Helper()
	outs := make([]*wire.TxOut, len(p.Inputs))
	for i := range p.Inputs {
		outs[i] = p.Inputs[i].WitnessUtxo
	}
	for i := range p.Inputs {
		if len(p.Inputs[i].TaprootLeafScript) != 1 {
			continue
		}
		leaf := p.Inputs[i].TaprootLeafScript[0].Script
		msg, err := script.TapscriptSighash(p.UnsignedTx, outs, i, leaf, t)
		if err != nil {
			w.t.Fatal(err)
		}
		sig, err := key.Sign(msg[:])
		if err != nil {
			w.t.Fatal(err)
		}
		script.AddSignature(&p.Inputs[i], leaf, script.Signature{Key: key.PubKey().XOnly(), Type: t, Sig: sig})
	}
}

// proof is an unsigned proof over coins.
func (w *world) proof(message string, coins []coin, outs ...*wire.TxOut) *psbt.Packet {
	w.t.Helper()
	var ins []intent.Input
	for _, c := range coins {
		ins = append(ins, intent.Input{Outpoint: c.at, Out: c.out, Sequence: wire.MaxTxInSequenceNum, Tree: c.tree, Leaf: descriptor.LeafForfeit})
	}
	p, err := intent.BuildProof(message, ins, outs)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) message(m intent.Message) string {
	w.t.Helper()
	s, err := m.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// register is the message of an interactive intent of the device's.
func (w *world) register(onchain ...int) string {
	m := intent.NewRegister(0, 0, w.treeKey.PubKey())
	m.OnchainOutputs = append(m.OnchainOutputs, onchain...)
	return w.message(m)
}

func intentDoc(message, proof string) *vigilpb.Document {
	return &vigilpb.Document{Document: &vigilpb.Document_Intent{Intent: &vigilpb.IntentDocument{Message: message, Proof: proof}}}
}

func (w *world) intent(message string, p *psbt.Packet) *vigilpb.Document {
	return intentDoc(message, w.b64(p))
}

// payment is an ark transaction and its checkpoints, unsigned.
type payment struct {
	tx          *psbt.Packet
	checkpoints []*psbt.Packet
}

func (w *world) payment(coins []coin, outs ...*wire.TxOut) payment {
	w.t.Helper()
	var pay payment
	var between []coin
	for _, c := range coins {
		tree, err := spend.CheckpointTree(w.params, c.tree)
		if err != nil {
			w.t.Fatal(err)
		}
		p := w.virtual([]coin{c}, descriptor.LeafForfeit, wire.NewTxOut(c.out.Value, tree.PkScript()))
		pay.checkpoints = append(pay.checkpoints, p)
		between = append(between, coin{wire.OutPoint{Hash: p.UnsignedTx.TxHash()}, p.UnsignedTx.TxOut[0], tree})
	}
	pay.tx = w.virtual(between, 1, outs...)
	return pay
}

func (w *world) virtual(coins []coin, leaf int, outs ...*wire.TxOut) *psbt.Packet {
	w.t.Helper()
	tx := wire.NewMsgTx(3)
	for _, out := range outs {
		tx.AddTxOut(out)
	}
	tx.AddTxOut(ark.AnchorOut())
	return w.packet(tx, coins, leaf, wire.MaxTxInSequenceNum)
}

func (w *world) packet(tx *wire.MsgTx, coins []coin, leaf int, sequence uint32) *psbt.Packet {
	w.t.Helper()
	for _, c := range coins {
		in := wire.NewTxIn(&c.at, nil, nil)
		in.Sequence = sequence
		tx.AddTxIn(in)
	}
	p, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, c := range coins {
		p.Inputs[i].WitnessUtxo = c.out
		if err := script.SetLeaf(&p.Inputs[i], c.tree, leaf); err != nil {
			w.t.Fatal(err)
		}
		script.SetTapTree(&p.Inputs[i], c.tree)
	}
	return p
}

func (w *world) list(packets []*psbt.Packet) []string {
	var list []string
	for _, p := range packets {
		list = append(list, w.b64(p))
	}
	return list
}

func (w *world) arkTx(p payment) *vigilpb.Document {
	return &vigilpb.Document{Document: &vigilpb.Document_ArkTx{ArkTx: &vigilpb.ArkTxDocument{Tx: w.b64(p.tx), Checkpoints: w.list(p.checkpoints)}}}
}

func (w *world) checkpoints(p payment) *vigilpb.Document {
	return &vigilpb.Document{Document: &vigilpb.Document_Checkpoint{Checkpoint: &vigilpb.CheckpointDocument{ArkTx: w.b64(p.tx), Checkpoints: w.list(p.checkpoints)}}}
}

func (w *world) delegateForfeit(c coin, leaf int) *psbt.Packet {
	w.t.Helper()
	p, _, err := forfeit.Build(forfeit.Terms{Outpoint: c.at, Amount: c.out.Value, Tree: c.tree, Dust: w.params.Dust, Script: w.params.ForfeitScript}, leaf)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) delegated(p *psbt.Packet) *vigilpb.Document {
	return &vigilpb.Document{Document: &vigilpb.Document_DelegateForfeit{DelegateForfeit: &vigilpb.DelegateForfeitDocument{Psbt: w.b64(p)}}}
}

// exit spends coins on chain; all of one script.
func (w *world) exit(coins []coin, delay ark.Delay, outs ...*wire.TxOut) *psbt.Packet {
	tx := wire.NewMsgTx(2)
	for _, out := range outs {
		tx.AddTxOut(out)
	}
	return w.packet(tx, coins, descriptor.LeafExit, delay.Sequence())
}

func (w *world) exited(p *psbt.Packet) *vigilpb.Document {
	return &vigilpb.Document{Document: &vigilpb.Document_Exit{Exit: &vigilpb.ExitDocument{Psbt: w.b64(p)}}}
}

// settlement is a batch that carries an intent: everything that a document of
// kind forfeits or boarding shows, and what the device would be asked to sign.
type settlement struct {
	message    string
	proof      *psbt.Packet
	commitment *psbt.Packet
	expiry     ark.Delay
	nodes      []*vigilpb.TreeNode
	connectors []*vigilpb.TreeNode
	forfeits   []*psbt.Packet
	boards     []uint32
	spends     []coin // in the commitment, after the operator's own
}

// settle builds the batch of an intent over VTXOs and boarding coins, beside two
// strangers' leaves; its proof is signed by the group as Parse says.
func (w *world) settle(message string, coins, boards []coin, leaf []*wire.TxOut, onchain ...*wire.TxOut) *settlement {
	w.t.Helper()
	s := &settlement{message: message, expiry: 2048}
	s.proof = w.proof(message, append(append([]coin{}, coins...), boards...), append(append([]*wire.TxOut{}, leaf...), onchain...)...)
	return w.carry(s, coins, boards, leaf, onchain...)
}

// settleAssets is settle for one coin and outputs whose last is an extension.
func (w *world) settleAssets(message string, c coin, outs []*wire.TxOut) *settlement {
	w.t.Helper()
	s := &settlement{message: message, expiry: 2048, proof: w.proof(message, []coin{c}, outs...)}
	last := len(outs) - 1
	leaf, err := asset.LeafScript(outs[last].PkScript, s.proof.UnsignedTx.TxHash())
	if err != nil {
		w.t.Fatal(err)
	}
	return w.carry(s, []coin{c}, nil, append(append([]*wire.TxOut{}, outs[:last]...), wire.NewTxOut(0, leaf)))
}

func (w *world) carry(s *settlement, coins, boards []coin, leaf []*wire.TxOut, onchain ...*wire.TxOut) *settlement {
	w.t.Helper()
	w.fill(w.group, w.one(w.intent(s.message, s.proof)), s.proof)
	sweep := script.SweepLeaf(w.forfeit.PubKey().XOnly(), s.expiry)
	spec := treetest.Spec{Radix: treetest.VTXORadix, Sweep: sweep, Expiry: s.expiry, Contexts: w.contexts}
	var root *treetest.Node
	commitment := wire.NewMsgTx(2)
	if len(leaf) > 0 {
		under := w.under
		if under == nil {
			under = []bip340.PubKey{w.treeKey.PubKey(), w.cosigner.PubKey()}
		}
		leaves := []treetest.Leaf{
			{Outputs: []*wire.TxOut{w.foreign(5000)}, Cosigners: []bip340.PubKey{w.stranger.PubKey(), w.cosigner.PubKey()}},
			{Outputs: leaf, Cosigners: under},
			{Outputs: []*wire.TxOut{w.foreign(6000)}, Cosigners: []bip340.PubKey{w.stranger.PubKey(), w.cosigner.PubKey()}},
		}
		var err error
		if root, err = treetest.Plan(leaves, spec); err != nil {
			w.t.Fatal(err)
		}
		commitment.AddTxOut(root.Out())
	} else {
		commitment.AddTxOut(onchain[0])
		onchain = onchain[1:]
	}
	var conns *treetest.Node
	if len(coins) > 0 {
		conns = w.connectorPlan(len(coins) + 1) // one is a stranger's
		commitment.AddTxOut(conns.Out())
	}
	for _, out := range onchain {
		commitment.AddTxOut(out)
	}
	s.spends = append([]coin{w.coinOf(0xf0, 50_000)}, boards...)
	for i, c := range s.spends {
		commitment.AddTxIn(wire.NewTxIn(&c.at, nil, nil))
		if w.sequence != 0 {
			commitment.TxIn[i].Sequence = w.sequence
		}
		if i > 0 {
			s.boards = append(s.boards, uint32(i))
		}
	}
	var err error
	if s.commitment, err = psbt.NewFromUnsignedTx(commitment); err != nil {
		w.t.Fatal(err)
	}
	for i, c := range s.spends {
		s.commitment.Inputs[i].WitnessUtxo = c.out
	}
	if root != nil {
		root.Hang(wire.OutPoint{Hash: commitment.TxHash(), Index: 0})
		s.nodes = w.branch(root, root.Leaves()[1], root.Out())
	}
	if conns == nil {
		return s
	}
	conns.Hang(wire.OutPoint{Hash: commitment.TxHash(), Index: 1})
	for _, n := range conns.Nodes() {
		s.connectors = append(s.connectors, w.node(n, nil))
	}
	for i, c := range coins {
		at := conns.Leaves()[i]
		s.forfeits = append(s.forfeits, w.liveForfeit(c, coin{at: wire.OutPoint{Hash: at.Txid()}, out: at.Tx.TxOut[0]}))
	}
	return s
}

// again is a settlement of its own with the same content: making one anew costs a
// MuSig2 session for every node.
func (w *world) again(s *settlement) *settlement {
	w.t.Helper()
	packet := func(p *psbt.Packet) *psbt.Packet {
		c, err := script.ParsePSBT(w.b64(p), script.OperatorLimits())
		if err != nil {
			w.t.Fatal(err)
		}
		return c
	}
	c := *s
	c.proof, c.commitment, c.forfeits = packet(s.proof), packet(s.commitment), nil
	for _, f := range s.forfeits {
		c.forfeits = append(c.forfeits, packet(f))
	}
	c.nodes, c.connectors = nil, nil
	for _, n := range s.nodes {
		c.nodes = append(c.nodes, proto.CloneOf(n))
	}
	for _, n := range s.connectors {
		c.connectors = append(c.connectors, proto.CloneOf(n))
	}
	return &c
}

// coinOf is a coin of the operator's own.
func (w *world) coinOf(n byte, amount int64) coin {
	return coin{at: wire.OutPoint{Hash: chainhash.Hash(bytes.Repeat([]byte{n}, 32))}, out: wire.NewTxOut(amount, ark.PayToTaproot(w.cosigner.PubKey().XOnly()))}
}

func (w *world) connectorPlan(n int) *treetest.Node {
	w.t.Helper()
	var leaves []treetest.Leaf
	lock := ark.PayToTaproot(w.cosigner.PubKey().XOnly())
	for range n {
		leaves = append(leaves, treetest.Leaf{Outputs: []*wire.TxOut{wire.NewTxOut(w.params.Dust, lock)}, Cosigners: []bip340.PubKey{w.cosigner.PubKey()}})
	}
	root, err := treetest.Plan(leaves, treetest.Spec{Radix: treetest.ConnectorRadix, Contexts: musig2.NewCache(4)})
	if err != nil {
		w.t.Fatal(err)
	}
	return root
}

// liveForfeit is the forfeit of c with a connector, unsigned.
func (w *world) liveForfeit(c, connector coin) *psbt.Packet {
	w.t.Helper()
	tx := wire.NewMsgTx(3)
	tx.AddTxOut(wire.NewTxOut(c.out.Value+connector.out.Value, w.params.ForfeitScript))
	tx.AddTxOut(ark.AnchorOut())
	p := w.packet(tx, []coin{c}, descriptor.LeafForfeit, wire.MaxTxInSequenceNum)
	p.UnsignedTx.AddTxIn(wire.NewTxIn(&connector.at, nil, nil))
	p.Inputs = append(p.Inputs, psbt.PInput{WitnessUtxo: connector.out})
	return p
}

// branch are the nodes from the root to a leaf, each signed by all its cosigners.
func (w *world) branch(n, leaf *treetest.Node, prevout *wire.TxOut) []*vigilpb.TreeNode {
	w.t.Helper()
	if n == leaf {
		return []*vigilpb.TreeNode{w.node(n, prevout)}
	}
	for i, c := range n.Children {
		if below := w.branch(c, leaf, n.Tx.TxOut[i]); below != nil {
			return append([]*vigilpb.TreeNode{w.node(n, prevout)}, below...)
		}
	}
	return nil
}

// node is a node as a document shows it, signed when it spends prevout.
func (w *world) node(n *treetest.Node, prevout *wire.TxOut) *vigilpb.TreeNode {
	w.t.Helper()
	b64, err := n.PSBT()
	if err != nil {
		w.t.Fatal(err)
	}
	doc := &vigilpb.TreeNode{Tx: b64}
	for i, c := range n.Children {
		doc.Children = append(doc.Children, &vigilpb.TreeChild{Output: uint32(i), Txid: c.Txid().String()})
	}
	if prevout == nil {
		return doc
	}
	p, err := script.ParsePSBT(b64, script.OperatorLimits())
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := script.NewSighasher(n.Tx, []*wire.TxOut{prevout})
	if err != nil {
		w.t.Fatal(err)
	}
	msg, err := h.KeyPath(0, txscript.SigHashDefault)
	if err != nil {
		w.t.Fatal(err)
	}
	sig := w.cosign(n, msg)
	p.Inputs[0].TaprootKeySpendSig = sig[:]
	doc.Tx = w.b64(p)
	return doc
}

// cosign makes the MuSig2 signature of all cosigners of a node.
func (w *world) cosign(n *treetest.Node, msg [32]byte) [64]byte {
	w.t.Helper()
	ctx, err := n.Context()
	if err != nil {
		w.t.Fatal(err)
	}
	var keys []*bip340.Key
	for _, pub := range n.Cosigners {
		for _, k := range []*bip340.Key{w.treeKey, w.cosigner, w.stranger} {
			if k.PubKey() == pub {
				keys = append(keys, k)
			}
		}
	}
	secs, pubs := make([]*musig2.SecNonce, len(keys)), make([]musig2.PubNonce, len(keys))
	for i, k := range keys {
		if secs[i], pubs[i], err = musig2.NewNonce(k, ctx, &msg, nil); err != nil {
			w.t.Fatal(err)
		}
	}
	agg, err := musig2.AggregateNonces(pubs)
	if err != nil {
		w.t.Fatal(err)
	}
	parts := make([]musig2.PartialSig, len(keys))
	for i, k := range keys {
		if parts[i], err = ctx.Sign(k, secs[i], agg, msg); err != nil {
			w.t.Fatal(err)
		}
	}
	sig, err := ctx.Combine(agg, msg, parts)
	if err != nil {
		w.t.Fatal(err)
	}
	return sig
}

func (w *world) batch(s *settlement) *vigilpb.BatchProof {
	return &vigilpb.BatchProof{
		Commitment: w.b64(s.commitment), Nodes: s.nodes, Connectors: s.connectors,
		Intent: &vigilpb.IntentDocument{Message: s.message, Proof: w.b64(s.proof)}, BatchExpiry: uint32(s.expiry),
	}
}

func (w *world) forfeits(s *settlement) *vigilpb.Document {
	return &vigilpb.Document{Document: &vigilpb.Document_Forfeit{Forfeit: &vigilpb.ForfeitDocument{Forfeits: w.list(s.forfeits), Batch: w.batch(s)}}}
}

func (w *world) boarded(s *settlement) *vigilpb.Document {
	return &vigilpb.Document{Document: &vigilpb.Document_Boarding{Boarding: &vigilpb.BoardingDocument{Batch: w.batch(s), Inputs: s.boards}}}
}
