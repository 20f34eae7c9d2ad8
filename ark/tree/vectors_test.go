package tree_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/ark/tree/treetest"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
)

// The form of testdata/trees.json.
type (
	vectors struct {
		ForfeitKey       string
		OperatorCosigner string
		SweepLeaf        string
		SweepRoot        string
		VTXOTrees        []vtxoTree      `json:"vtxoTrees"`
		ConnectorTrees   []connectorTree `json:"connectorTrees"`
		Session          session
	}
	vtxoTree struct {
		Root   string
		Amount int64
		Script string
		Leaves []leafVector
		Nodes  []nodeVector
	}
	leafVector struct {
		Cosigners []string
		Outputs   []struct {
			Amount int64
			Script string
		}
	}
	connectorTree struct {
		Root            string
		Amount          int64
		Script          string
		ConnectorScript string
		N               int
		Nodes           []nodeVector
	}
	nodeVector struct {
		Txid      string
		PSBT      string
		Children  map[uint32]string
		Cosigners []string
	}
	session struct {
		Amount           int64
		Nodes            []nodeVector
		Sighashes        map[string]string
		InternalKeys     map[string]string
		OutputKeys       map[string]string
		AggregatedNonces map[string]string
		FinalSignatures  map[string]string
		Signers          []struct {
			SecretKey  string
			Pubkey     string
			Nonces     map[string]string
			Signatures map[string]string
		}
	}
)

// expiry is the batch expiry of all vectors.
const expiry ark.Delay = 40

func load(t testing.TB) vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/trees.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pubKey(t testing.TB, s string) bip340.PubKey {
	t.Helper()
	k, err := bip340.ParsePubKeyHex(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func hash(t testing.TB, s string) chainhash.Hash {
	t.Helper()
	h, err := ark.ParseTxid(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func parse(t testing.TB, nodes []nodeVector) []*tree.Node {
	t.Helper()
	parsed := make([]*tree.Node, len(nodes))
	for i, n := range nodes {
		p, err := tree.ParseNode(n.PSBT, n.Children)
		if err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		if p.Txid.String() != n.Txid {
			t.Fatalf("node %d: txid %v, want %s", i, p.Txid, n.Txid)
		}
		parsed[i] = p
	}
	return parsed
}

func (v vectors) spec(t testing.TB) treetest.Spec {
	t.Helper()
	return treetest.Spec{
		Radix:    treetest.VTXORadix,
		Sweep:    script.SweepLeaf(pubKey(t, v.ForfeitKey).XOnly(), expiry),
		Expiry:   expiry,
		Contexts: musig2.NewCache(64),
	}
}

func (v vectors) params(t testing.TB, vt vtxoTree, own ...bip340.XOnly) tree.Params {
	t.Helper()
	return tree.Params{
		Root:       wire.OutPoint{Hash: hash(t, vt.Root), Index: tree.BatchOutput},
		RootOut:    wire.NewTxOut(vt.Amount, unhex(t, vt.Script)),
		ForfeitKey: pubKey(t, v.ForfeitKey).XOnly(),
		Expiry:     expiry,
		Own: func(k bip340.XOnly) bool {
			for _, o := range own {
				if o == k {
					return true
				}
			}
			return false
		},
		Contexts: musig2.NewCache(64),
	}
}

func leavesOf(t testing.TB, vt vtxoTree) []treetest.Leaf {
	t.Helper()
	leaves := make([]treetest.Leaf, len(vt.Leaves))
	for i, l := range vt.Leaves {
		for _, c := range l.Cosigners {
			leaves[i].Cosigners = append(leaves[i].Cosigners, pubKey(t, c))
		}
		for _, o := range l.Outputs {
			leaves[i].Outputs = append(leaves[i].Outputs, wire.NewTxOut(o.Amount, unhex(t, o.Script)))
		}
	}
	return leaves
}

func TestVectorCount(t *testing.T) {
	v := load(t)
	if len(v.VTXOTrees) != 9 || len(v.ConnectorTrees) != 9 {
		t.Errorf("%d VTXO trees and %d connector trees, want 9 and 9", len(v.VTXOTrees), len(v.ConnectorTrees))
	}
	for i := range v.VTXOTrees {
		if n := len(v.VTXOTrees[i].Leaves); n != i+1 {
			t.Errorf("VTXO tree %d has %d leaves", i, n)
		}
		if n := v.ConnectorTrees[i].N; n != i+1 {
			t.Errorf("connector tree %d has %d leaves", i, n)
		}
	}
	s := v.Session
	if len(s.Signers) != 4 || len(s.Nodes) != 5 || len(s.FinalSignatures) != 5 {
		t.Errorf("session of %d signers over %d nodes with %d signatures, want 4, 5, 5",
			len(s.Signers), len(s.Nodes), len(s.FinalSignatures))
	}
}

func TestSweepLeaf(t *testing.T) {
	v := load(t)
	leaf := script.SweepLeaf(pubKey(t, v.ForfeitKey).XOnly(), expiry)
	if got := hex.EncodeToString(leaf); got != v.SweepLeaf {
		t.Errorf("leaf %s, want %s", got, v.SweepLeaf)
	}
	root := script.LeafHash(leaf)
	if got := hex.EncodeToString(root[:]); got != v.SweepRoot {
		t.Errorf("root %s, want %s", got, v.SweepRoot)
	}
}

// TestVTXOTrees holds the operator's own trees against the checks, whole and as
// each participant sees them, and against the trees that treetest builds.
func TestVTXOTrees(t *testing.T) {
	v := load(t)
	for _, vt := range v.VTXOTrees {
		nodes := parse(t, vt.Nodes)
		for i, n := range nodes {
			b64, err := n.Encode()
			if err != nil || b64 != vt.Nodes[i].PSBT {
				t.Errorf("%d leaves: node %d encodes otherwise (%v)", len(vt.Leaves), i, err)
			}
		}
		whole, err := tree.Assemble(nodes, v.params(t, vt))
		if err != nil {
			t.Fatalf("%d leaves: %v", len(vt.Leaves), err)
		}
		for i, n := range whole.Nodes() {
			if n.Txid.String() != vt.Nodes[i].Txid {
				t.Errorf("%d leaves: node %d is %v, want %s: not in pre-order", len(vt.Leaves), i, n.Txid, vt.Nodes[i].Txid)
			}
		}

		built, err := treetest.Plan(leavesOf(t, vt), v.spec(t))
		if err != nil {
			t.Fatal(err)
		}
		if out := built.Out(); out.Value != vt.Amount || hex.EncodeToString(out.PkScript) != vt.Script {
			t.Errorf("%d leaves: built root output %d %x", len(vt.Leaves), out.Value, out.PkScript)
		}
		built.Hang(wire.OutPoint{Hash: hash(t, vt.Root)})
		same(t, built, vt.Nodes)

		for i, l := range vt.Leaves {
			own := pubKey(t, l.Cosigners[0]).XOnly()
			var mine []*tree.Node
			for _, n := range nodes {
				if _, ok := n.Has(own); ok {
					mine = append(mine, n)
				}
			}
			part, err := tree.Assemble(mine, v.params(t, vt, own))
			if err != nil {
				t.Errorf("%d leaves, participant %d: %v", len(vt.Leaves), i, err)
				continue
			}
			last := part.Nodes()[len(part.Nodes())-1]
			branch := last.Branch()
			if len(branch) != len(mine) || !last.Leaf() || branch[0].Input().Hash != hash(t, vt.Root) {
				t.Errorf("%d leaves, participant %d: branch of %d nodes", len(vt.Leaves), i, len(branch))
			}
		}
	}
}

func same(t *testing.T, built *treetest.Node, want []nodeVector) {
	t.Helper()
	nodes := built.Nodes()
	if len(nodes) != len(want) {
		t.Fatalf("built %d nodes, want %d", len(nodes), len(want))
	}
	for i, n := range nodes {
		b64, err := n.PSBT()
		if err != nil || b64 != want[i].PSBT {
			t.Errorf("built node %d of %d differs (%v)", i, len(nodes), err)
		}
		if len(n.ChildIDs()) != len(want[i].Children) {
			t.Errorf("built node %d of %d has %d children", i, len(nodes), len(n.Children))
		}
		for k, id := range n.ChildIDs() {
			if want[i].Children[k] != id {
				t.Errorf("built node %d of %d: child %d differs", i, len(nodes), k)
			}
		}
	}
}

func TestConnectorTrees(t *testing.T) {
	v := load(t)
	for _, ct := range v.ConnectorTrees {
		nodes := parse(t, ct.Nodes)
		root := wire.OutPoint{Hash: hash(t, ct.Root), Index: tree.ConnectorOutput}
		out := wire.NewTxOut(ct.Amount, unhex(t, ct.Script))
		whole, err := tree.AssembleConnectors(nodes, root, out)
		if err != nil {
			t.Fatalf("%d connectors: %v", ct.N, err)
		}
		leaves := 0
		for _, n := range whole.Nodes() {
			if !n.Leaf() {
				continue
			}
			leaves++
			var branch []*tree.Node
			for _, p := range n.Branch() {
				branch = append(branch, p.Node)
			}
			if _, err := tree.AssembleConnectors(branch, root, out); err != nil {
				t.Errorf("%d connectors, branch of %v: %v", ct.N, n.Txid, err)
			}
		}
		if leaves != ct.N {
			t.Errorf("%d connectors, want %d", leaves, ct.N)
		}
		key, _ := ark.TaprootKey(out.PkScript)
		built := make([]treetest.Leaf, ct.N)
		for i := range built {
			built[i] = treetest.Leaf{
				Outputs:   []*wire.TxOut{wire.NewTxOut(330, unhex(t, ct.ConnectorScript))},
				Cosigners: []bip340.PubKey{key.PubKey()},
			}
		}
		n, err := treetest.Plan(built, treetest.Spec{Radix: treetest.ConnectorRadix})
		if err != nil {
			t.Fatal(err)
		}
		n.Hang(root)
		same(t, n, ct.Nodes)
	}
}

// TestSession holds sighashes, keys, nonces and signatures of a whole signing
// session against the operator's.
func TestSession(t *testing.T) {
	v := load(t)
	s := v.Session
	nodes := parse(t, s.Nodes)
	root := nodes[0]
	p := v.params(t, vtxoTree{Root: root.Input().Hash.String(), Amount: s.Amount, Script: "5120" + s.OutputKeys[root.Txid.String()][2:]})
	whole, err := tree.Assemble(nodes, p)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range whole.Nodes() {
		id := n.Txid.String()
		if got := hex.EncodeToString(n.Sighash[:]); got != s.Sighashes[id] {
			t.Errorf("%s: sighash %s, want %s", id, got, s.Sighashes[id])
		}
		if got := n.Context.InternalKey().String(); got != s.InternalKeys[id] {
			t.Errorf("%s: internal key %s, want %s", id, got, s.InternalKeys[id])
		}
		if got := n.Context.OutputPubKey().String(); got != s.OutputKeys[id] {
			t.Errorf("%s: output key %s, want %s", id, got, s.OutputKeys[id])
		}
		agg := checkNonces(t, s, n)
		checkPartials(t, s, n, agg)

		sig := [64]byte(unhex(t, s.FinalSignatures[id]))
		if err := n.Verify(sig); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		sig[40] ^= 1
		wantRule(t, n.Verify(sig), tree.RuleSignature)
	}
}

func checkNonces(t *testing.T, s session, n *tree.Placed) musig2.AggNonce {
	t.Helper()
	id := n.Txid.String()
	var pubs []musig2.PubNonce
	for _, signer := range s.Signers {
		if nonce, ok := signer.Nonces[id]; ok {
			pub, err := musig2.ParsePubNonce(unhex(t, nonce))
			if err != nil {
				t.Fatal(err)
			}
			pubs = append(pubs, pub)
		}
	}
	if len(pubs) != len(n.Cosigners) {
		t.Fatalf("%s: %d nonces of %d cosigners", id, len(pubs), len(n.Cosigners))
	}
	agg, err := musig2.AggregateNonces(pubs)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(agg[:]); got != s.AggregatedNonces[id] {
		t.Errorf("%s: aggregate nonce %s, want %s", id, got, s.AggregatedNonces[id])
	}
	return agg
}

func checkPartials(t *testing.T, s session, n *tree.Placed, agg musig2.AggNonce) {
	t.Helper()
	id := n.Txid.String()
	var sigs []musig2.PartialSig
	for _, signer := range s.Signers {
		b, ok := signer.Signatures[id]
		if !ok {
			continue
		}
		sig, err := musig2.ParsePartialSig(unhex(t, b))
		if err != nil {
			t.Fatal(err)
		}
		pub, err := musig2.ParsePubNonce(unhex(t, signer.Nonces[id]))
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Context.VerifyPartial(sig, pubKey(t, signer.Pubkey), pub, agg, n.Sighash); err != nil {
			t.Errorf("%s: signer %s: %v", id, signer.Pubkey, err)
		}
		sigs = append(sigs, sig)
	}
	final, err := n.Context.Combine(agg, n.Sighash, sigs)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(final[:]); got != s.FinalSignatures[id] {
		t.Errorf("%s: signature %s, want %s", id, got, s.FinalSignatures[id])
	}
}

// TestSignedNode sees that a signature survives encoding and lands in the
// transaction.
func TestSignedNode(t *testing.T) {
	v := load(t)
	n := parse(t, v.Session.Nodes)[0]
	if n.SignedTx() != nil {
		t.Error("an unsigned node gives a signed transaction")
	}
	sig := [64]byte(unhex(t, v.Session.FinalSignatures[n.Txid.String()]))
	signed := n.WithSignature(sig)
	if n.Signature != nil {
		t.Error("WithSignature changed the node")
	}
	b64, err := signed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	p, err := script.ParsePSBT(b64, script.OperatorLimits())
	if err != nil {
		t.Fatal(err)
	}
	if string(p.Inputs[0].TaprootKeySpendSig) != string(sig[:]) {
		t.Errorf("encoded signature %x", p.Inputs[0].TaprootKeySpendSig)
	}
	tx := signed.SignedTx()
	if tx.TxHash() != n.Txid || len(tx.TxIn[0].Witness) != 1 || string(tx.TxIn[0].Witness[0]) != string(sig[:]) {
		t.Errorf("signed transaction %v with witness %x", tx.TxHash(), tx.TxIn[0].Witness)
	}
}
