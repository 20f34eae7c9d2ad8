package txtree

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
)

type vectorNode struct {
	Txid, PSBT string
	Cosigners  []string
	Children   map[string]string
}

type vectorTree struct {
	Root            string
	Amount          int64
	Script          string
	ConnectorScript string
	N               int
	Leaves          []struct {
		Cosigners []string
		Outputs   []struct {
			Amount int64
			Script string
		}
	}
	Nodes []vectorNode
}

type vectors struct {
	ForfeitKey, SweepLeaf, SweepRoot string
	VtxoTrees, ConnectorTrees        []vectorTree
	Session                          struct {
		Amount          int64
		Nodes           []vectorNode
		Sighashes       map[string]string
		AggregateKeys   map[string]json.RawMessage
		Nonces          map[string]string            `json:"aggregatedNonces"`
		FinalSignatures map[string]string            `json:"finalSignatures"`
		Signers         []map[string]json.RawMessage `json:"signers"`
	}
}

// The data are those of ark/tree: vectors may be shared, code may not.
func load(t *testing.T) (v vectors) {
	t.Helper()
	raw, err := os.ReadFile("../../../ark/tree/testdata/trees.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pubkey(t *testing.T, s string) *btcec.PublicKey {
	t.Helper()
	k, err := btcec.ParsePubKey(unhex(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func outpoint(t *testing.T, s string) wire.OutPoint {
	t.Helper()
	op, err := wire.NewOutPointFromString(s)
	if err != nil {
		t.Fatal(err)
	}
	return *op
}

func (v vectorTree) leaves(t *testing.T) (out []Leaf) {
	for _, l := range v.Leaves {
		var leaf Leaf
		for _, c := range l.Cosigners {
			leaf.Cosigners = append(leaf.Cosigners, pubkey(t, c))
		}
		for _, o := range l.Outputs {
			leaf.Outputs = append(leaf.Outputs, &wire.TxOut{Value: o.Amount, PkScript: unhex(t, o.Script)})
		}
		out = append(out, leaf)
	}
	for range v.N {
		script := unhex(t, v.ConnectorScript)
		out = append(out, Leaf{
			Outputs:   []*wire.TxOut{{Value: v.Amount / int64(v.N), PkScript: script}},
			Cosigners: []*btcec.PublicKey{pubkey(t, "02"+v.ConnectorScript[4:])},
		})
	}
	return out
}

func checkTree(t *testing.T, v vectorTree, radix int, root []byte, expiry *tapscript.Delay) *Node {
	t.Helper()
	plan, err := NewPlan(v.leaves(t), radix, root)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Amount != v.Amount || hex.EncodeToString(plan.Set.Script) != v.Script {
		t.Errorf("root output %d %x, want %d %s", plan.Amount, plan.Set.Script, v.Amount, v.Script)
	}
	index := ":0"
	if radix == ConnectorRadix {
		index = ":1"
	}
	tree, err := plan.Build(outpoint(t, v.Root+index), &wire.TxOut{Value: plan.Amount, PkScript: plan.Set.Script}, expiry)
	if err != nil {
		t.Fatal(err)
	}
	nodes := tree.Nodes()
	if len(nodes) != len(v.Nodes) {
		t.Fatalf("%d nodes, want %d", len(nodes), len(v.Nodes))
	}
	for i, n := range nodes {
		want := v.Nodes[i]
		encoded, err := n.Packet.B64Encode()
		if err != nil {
			t.Fatal(err)
		}
		if n.Txid.String() != want.Txid || encoded != want.PSBT || !slices.Equal(n.Set.Topics(), want.Cosigners) {
			t.Errorf("node %d is %s with %v, want %s with %v", i, n.Txid, n.Set.Topics(), want.Txid, want.Cosigners)
		}
	}
	return tree
}

func TestTreesAreThoseOfArkLib(t *testing.T) {
	v := load(t)
	leaf, err := SweepLeaf(pubkey(t, v.ForfeitKey), tapscript.NewDelay(40))
	if err != nil || hex.EncodeToString(leaf) != v.SweepLeaf {
		t.Fatalf("sweep leaf %x (%v), want %s", leaf, err, v.SweepLeaf)
	}
	if got := tapscript.LeafHash(leaf); hex.EncodeToString(got[:]) != v.SweepRoot {
		t.Fatalf("sweep root %x, want %s", got[:], v.SweepRoot)
	}
	if len(v.VtxoTrees) != 9 || len(v.ConnectorTrees) != 9 {
		t.Fatalf("%d and %d trees, want 9 and 9", len(v.VtxoTrees), len(v.ConnectorTrees))
	}
	expiry := tapscript.NewDelay(40)
	for _, tree := range v.VtxoTrees {
		checkTree(t, tree, VTXORadix, unhex(t, v.SweepRoot), &expiry)
	}
	for _, tree := range v.ConnectorTrees {
		checkTree(t, tree, ConnectorRadix, nil, nil)
	}
}

type vectorSigner struct {
	secret   *btcec.PrivateKey
	nonces   Nonces
	secNonce map[string][musig2.SecNonceSize]byte
	sigs     Sigs
}

func (v vectors) signers(t *testing.T) (out []vectorSigner) {
	t.Helper()
	for _, raw := range v.Session.Signers {
		var secret string
		var sec, pub, sig map[string]string
		for name, into := range map[string]any{"secretKey": &secret, "secNonces": &sec, "nonces": &pub, "signatures": &sig} {
			if err := json.Unmarshal(raw[name], into); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		key, _ := btcec.PrivKeyFromBytes(unhex(t, secret))
		s := vectorSigner{secret: key, nonces: Nonces{}, secNonce: map[string][97]byte{}, sigs: Sigs{}}
		for id, n := range pub {
			s.nonces[id] = [66]byte(unhex(t, n))
			s.secNonce[id] = [97]byte(unhex(t, sec[id]))
			var sc btcec.ModNScalar
			sc.SetByteSlice(unhex(t, sig[id]))
			s.sigs[id] = &musig2.PartialSignature{S: &sc}
		}
		out = append(out, s)
	}
	return out
}

// sessionTree rebuilds the session's tree from its leaves.
func (v vectors) sessionTree(t *testing.T, root []byte, expiry *tapscript.Delay) *Node {
	t.Helper()
	var leaves []Leaf
	var top wire.OutPoint
	for i, n := range v.Session.Nodes {
		p, err := psbt.NewFromRawBytes(strings.NewReader(n.PSBT), true)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			top = p.UnsignedTx.TxIn[0].PreviousOutPoint
		}
		if len(n.Children) > 0 {
			continue
		}
		leaf := Leaf{Outputs: p.UnsignedTx.TxOut[:len(p.UnsignedTx.TxOut)-1]}
		for _, c := range n.Cosigners {
			leaf.Cosigners = append(leaf.Cosigners, pubkey(t, c))
		}
		leaves = append(leaves, leaf)
	}
	plan, err := NewPlan(leaves, VTXORadix, root)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := plan.Build(top, &wire.TxOut{Value: v.Session.Amount, PkScript: plan.Set.Script}, expiry)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range tree.Nodes() {
		if n.Txid.String() != v.Session.Nodes[i].Txid {
			t.Fatalf("node %d is %s, want %s", i, n.Txid, v.Session.Nodes[i].Txid)
		}
	}
	return tree
}

// session opens the vectors' session with the operator's own nonces put in.
func session(t *testing.T, v vectors) (*Session, *Node, []vectorSigner) {
	t.Helper()
	root, expiry := unhex(t, v.SweepRoot), tapscript.NewDelay(40)
	tree := v.sessionTree(t, root, &expiry)
	all := v.signers(t)
	operator := all[len(all)-1]
	s, err := NewSession(tree, root, operator.secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range s.items {
		it.nonce = &musig2.Nonces{PubNonce: operator.nonces[it.id], SecNonce: operator.secNonce[it.id]}
	}
	for _, x := range all {
		s.AddNonces(x.secret.PubKey(), x.nonces)
	}
	return s, tree, all[:len(all)-1]
}

func TestSessionIsThatOfArkLib(t *testing.T) {
	v := load(t)
	s, tree, clients := session(t, v)
	agg, err := s.Aggregate()
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range s.items {
		if got, want := hex.EncodeToString(it.msg[:]), v.Session.Sighashes[it.id]; got != want {
			t.Errorf("sighash of %s is %s, want %s", it.id, got, want)
		}
		n := agg[it.id]
		if got, want := hex.EncodeToString(n[:]), v.Session.Nonces[it.id]; got != want {
			t.Errorf("aggregate nonce of %s is %s, want %s", it.id, got, want)
		}
	}
	if err := s.Sign(); err != nil {
		t.Fatal(err)
	}
	sigs := map[[32]byte]Sigs{}
	for _, c := range clients {
		sigs[tapscript.XOnly(c.secret.PubKey())] = c.sigs
	}
	culprits, err := s.Combine(sigs)
	if err != nil || len(culprits) > 0 {
		t.Fatalf("combining: %v, culprits %v", err, culprits)
	}
	for _, n := range tree.Nodes() {
		if got, want := hex.EncodeToString(n.Sig), v.Session.FinalSignatures[n.Txid.String()]; got != want {
			t.Errorf("signature of %s is %s, want %s", n.Txid, got, want)
		}
	}
}

func TestCombineNamesTheCulprits(t *testing.T) {
	v := load(t)
	s, tree, clients := session(t, v)
	if _, err := s.Aggregate(); err != nil {
		t.Fatal(err)
	}
	if err := s.Sign(); err != nil {
		t.Fatal(err)
	}
	sigs := map[[32]byte]Sigs{}
	for _, c := range clients {
		sigs[tapscript.XOnly(c.secret.PubKey())] = c.sigs
	}
	liar, lazy := tapscript.XOnly(clients[0].secret.PubKey()), tapscript.XOnly(clients[1].secret.PubKey())
	root := tree.Txid.String()
	var one btcec.ModNScalar
	one.SetInt(1)
	bad := new(btcec.ModNScalar).Add2(clients[0].sigs[root].S, &one)
	sigs[liar][root] = &musig2.PartialSignature{S: bad}
	for id := range sigs[lazy] {
		if id != root {
			delete(sigs[lazy], id)
			break
		}
	}
	culprits, err := s.Combine(sigs)
	if err != nil {
		t.Fatal(err)
	}
	if len(culprits) != 2 || culprits[liar] == "" || culprits[lazy] == "" {
		t.Errorf("culprits %v, want the liar %x and the lazy %x", culprits, liar, lazy)
	}
}

func TestAggregateWantsEveryNonce(t *testing.T) {
	s, tree, clients := session(t, load(t))
	short := Nonces{}
	s.AddNonces(clients[0].secret.PubKey(), short)
	if _, err := s.Aggregate(); err == nil {
		t.Error("a cosigner without nonces was not missed")
	}
	if tree.Sig != nil {
		t.Error("signed without nonces")
	}
}

// TestOperatorSignsItsOwnLeaf: an on-chain-only intent leaves a leaf that the
// operator alone cosigns.
func TestOperatorSignsItsOwnLeaf(t *testing.T) {
	key, err := btcec.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := btcec.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	root := chainhash.HashB([]byte("root"))
	plan, err := NewPlan([]Leaf{
		{Cosigners: []*btcec.PublicKey{key.PubKey()}},
		{Cosigners: []*btcec.PublicKey{other.PubKey(), key.PubKey()}, Outputs: []*wire.TxOut{{Value: 1000, PkScript: make([]byte, 34)}}},
	}, VTXORadix, root)
	if err != nil {
		t.Fatal(err)
	}
	expiry := tapscript.NewDelay(40)
	tree, err := plan.Build(wire.OutPoint{}, &wire.TxOut{Value: plan.Amount, PkScript: plan.Set.Script}, &expiry)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(tree, root, key)
	if err != nil {
		t.Fatal(err)
	}
	nonces, secret := Nonces{}, map[string]*musig2.Nonces{}
	for _, n := range tree.Nodes() {
		made, err := musig2.GenNonces(musig2.WithPublicKey(other.PubKey()))
		if err != nil {
			t.Fatal(err)
		}
		nonces[n.Txid.String()], secret[n.Txid.String()] = made.PubNonce, made
	}
	s.AddNonces(other.PubKey(), nonces)
	agg, err := s.Aggregate()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sign(); err != nil {
		t.Fatal(err)
	}
	sigs := Sigs{}
	for _, it := range s.items {
		if len(it.node.Set.Keys) == 1 {
			continue
		}
		p, err := musig2.Sign(secret[it.id].SecNonce, other, agg[it.id], slices.Clone(it.node.Set.Keys), it.msg,
			musig2.WithSortedKeys(), musig2.WithTaprootSignTweak(root))
		if err != nil {
			t.Fatal(err)
		}
		sigs[it.id] = p
	}
	culprits, err := s.Combine(map[[32]byte]Sigs{tapscript.XOnly(other.PubKey()): sigs})
	if err != nil || len(culprits) > 0 {
		t.Fatalf("combining: %v, %v", err, culprits)
	}
	for _, n := range tree.Nodes() {
		if len(n.Sig) != 64 {
			t.Errorf("node %s is not signed", n.Txid)
		}
	}
}
