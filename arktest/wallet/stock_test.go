package wallet

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// stock is what the stock TypeScript wallet made: testdata/SOURCES.md.
type stock struct {
	Delegations []struct {
		Name        string
		Destination string
		Body        DelegateRequest
	}
	Offchain struct {
		ArkTxid     string
		ArkPsbt     string
		Checkpoints []string
	}
	DeleteIntent        Intent
	DelegateAddress     string
	CheckpointTapscript string
}

func readStock(t *testing.T) stock {
	t.Helper()
	raw, err := os.ReadFile("testdata/stock.json")
	if err != nil {
		t.Fatal(err)
	}
	var s stock
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func testKey(t *testing.T, b byte) *bip340.Key {
	t.Helper()
	k, err := bip340.NewKey(secret.New(bytes.Repeat([]byte{b}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// stockCoin is coin n of the vectors: 10,000 sats each, at txid nn…:n.
func stockCoin(t *testing.T, n byte, vout uint32, tree script.Tree) coin {
	t.Helper()
	return coin{ark.VTXO{
		Outpoint: wire.OutPoint{Hash: chainhash.Hash(bytes.Repeat([]byte{n}, 32)), Index: vout},
		Amount:   10_000 * int64(n), Script: tree.PkScript(), ExpiresAt: 1_950_000_000,
	}, tree}
}

func stockDelegation(t *testing.T) (delegation, script.Tree) {
	t.Helper()
	owner, signer, forfeit := testKey(t, 0x11), testKey(t, 0x22), testKey(t, 0x44)
	tree, err := script.Delegate(owner.PubKey().XOnly(), testKey(t, 0x33).PubKey().XOnly(), signer.PubKey().XOnly(), 20)
	if err != nil {
		t.Fatal(err)
	}
	forfeitScript, err := hex.DecodeString("0014cc1b07838e387deacd0e5232e1e8b49f4c29e484")
	if err != nil {
		t.Fatal(err)
	}
	return delegation{owner: owner, now: 1_800_000_000, params: ark.Params{
		Network: ark.Regtest, Dust: 330, SignerKey: signer.PubKey(), ForfeitKey: forfeit.PubKey(), ForfeitScript: forfeitScript,
	}}, tree
}

func TestStockDelegations(t *testing.T) {
	vectors := readStock(t)
	if len(vectors.Delegations) != 3 {
		t.Fatalf("%d delegations, want 3", len(vectors.Delegations))
	}
	d, tree := stockDelegation(t)
	address, err := ark.ParseAddress(vectors.DelegateAddress)
	if err != nil {
		t.Fatal(err)
	}
	first, second := stockCoin(t, 1, 1, tree), stockCoin(t, 2, 2, tree)
	swept := second
	swept.Swept = true
	tests := []struct {
		coins   []coin
		fee     int64
		program string
	}{
		{coins: []coin{first}},
		{coins: []coin{first, second}, fee: 100},
		{coins: []coin{first, swept}, program: "10.0"},
	}
	for i, v := range vectors.Delegations {
		t.Run(v.Name, func(t *testing.T) {
			d := d
			d.params.Fees.OffchainInput = tests[i].program
			to, err := ark.ParseAddress(v.Destination)
			if err != nil {
				t.Fatal(err)
			}
			info := DelegateInfo{Key: testKey(t, 0x33).PubKey(), Fee: tests[i].fee, Address: address}
			req, err := d.sign(tests[i].coins, info, DelegateOptions{Destination: to, ValidAt: time.Unix(1_900_000_000, 0)})
			if err != nil {
				t.Fatal(err)
			}
			if req.Intent.Message != v.Body.Intent.Message {
				t.Errorf("message %s", req.Intent.Message)
			}
			samePSBT(t, req.Intent.Proof, v.Body.Intent.Proof)
			if len(req.ForfeitTxs) != len(v.Body.ForfeitTxs) {
				t.Fatalf("%d forfeits, want %d", len(req.ForfeitTxs), len(v.Body.ForfeitTxs))
			}
			for j := range req.ForfeitTxs {
				samePSBT(t, req.ForfeitTxs[j], v.Body.ForfeitTxs[j])
			}
		})
	}
}

func TestStockDelete(t *testing.T) {
	d, tree := stockDelegation(t)
	w := New(nil, d.owner, nil)
	del, err := w.deleteProof([]coin{stockCoin(t, 1, 1, tree)}, 1_900_000_120)
	if err != nil {
		t.Fatal(err)
	}
	want := readStock(t).DeleteIntent
	if del.Message != want.Message {
		t.Errorf("message %s", del.Message)
	}
	samePSBT(t, del.Proof, want.Proof)
}

func TestStockOffchain(t *testing.T) {
	vectors := readStock(t)
	d, tree := stockDelegation(t)
	plain, err := script.Default(d.owner.PubKey().XOnly(), d.params.SignerKey.XOnly(), 20)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := hex.DecodeString(vectors.CheckpointTapscript)
	if err != nil {
		t.Fatal(err)
	}
	outs := []*wire.TxOut{payTo(plain.OutputKey(), 4000, 330), payTo(tree.OutputKey(), 6000, 330)}
	tx, err := newOffchain([]coin{stockCoin(t, 1, 1, tree)}, outs, checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	if tx.id.String() != vectors.Offchain.ArkTxid {
		t.Errorf("txid %s", tx.id)
	}
	samePSBT(t, encoded(t, tx.tx), vectors.Offchain.ArkPsbt)
	if len(vectors.Offchain.Checkpoints) != 1 || len(tx.order) != 1 {
		t.Fatalf("%d checkpoints", len(tx.order))
	}
	samePSBT(t, encoded(t, tx.checkpoints[tx.order[0]]), vectors.Offchain.Checkpoints[0])
}

func encoded(t *testing.T, p *psbt.Packet) string {
	t.Helper()
	b64, err := p.B64Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b64
}

// samePSBT holds ours against the stock wallet's: everything but the bytes of
// the signatures, which are random on either side, and ours must verify.
func samePSBT(t *testing.T, ours, theirs string) {
	t.Helper()
	a, errA := script.ParsePSBT(ours, script.StrangerLimits())
	b, errB := script.ParsePSBT(theirs, script.StrangerLimits())
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if a.UnsignedTx.TxHash() != b.UnsignedTx.TxHash() {
		t.Fatalf("transaction %v\nstock %v", a.UnsignedTx, b.UnsignedTx)
	}
	prevs := make([]*wire.TxOut, len(a.Inputs))
	for i := range a.Inputs {
		prevs[i] = a.Inputs[i].WitnessUtxo
	}
	h, err := script.NewSighasher(a.UnsignedTx, prevs)
	if err != nil {
		t.Fatal(err)
	}
	r := script.NewReader()
	for i := range a.Inputs {
		x, y := &a.Inputs[i], &b.Inputs[i]
		if x.SighashType != y.SighashType {
			t.Errorf("input %d: sighash type %d, stock %d", i, x.SighashType, y.SighashType)
		}
		if !slices.EqualFunc(x.Unknowns, y.Unknowns, func(a, b *psbt.Unknown) bool {
			return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
		}) {
			t.Errorf("input %d: fields %v, stock %v", i, x.Unknowns, y.Unknowns)
		}
		sx, err := r.Spend(x)
		if err != nil {
			t.Fatal(err)
		}
		sy, err := r.Spend(y)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(sx.Leaf, sy.Leaf) || !bytes.Equal(sx.ControlBlock, sy.ControlBlock) ||
			sx.Out.Value != sy.Out.Value || !bytes.Equal(sx.Out.PkScript, sy.Out.PkScript) {
			t.Errorf("input %d: another leaf or output", i)
		}
		if !slices.EqualFunc(sx.Signatures, sy.Signatures, func(a, b script.Signature) bool { return a.Key == b.Key && a.Type == b.Type }) {
			t.Errorf("input %d: signatures %v, stock %v", i, sx.Signatures, sy.Signatures)
		}
		if err := r.Verify(h, i, sx); err != nil {
			t.Errorf("input %d: %v", i, err)
		}
	}
}

func TestLiveForfeitIsSignedWithItsConnector(t *testing.T) {
	d, tree := stockDelegation(t)
	c := stockCoin(t, 1, 1, tree)
	conn := connector(t)
	b64, err := liveForfeit(d.owner, c, conn, d.params.ForfeitScript)
	if err != nil {
		t.Fatal(err)
	}
	p, err := script.ParsePSBT(b64, script.StrangerLimits())
	if err != nil {
		t.Fatal(err)
	}
	if tx := p.UnsignedTx; len(tx.TxIn) != 2 || tx.TxIn[1].PreviousOutPoint != conn.Outpoint || tx.TxOut[0].Value != 10_330 || !ark.IsAnchor(tx.TxOut[1]) {
		t.Fatalf("forfeit %v", tx)
	}
	s, err := script.NewReader().Spend(&p.Inputs[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Signatures) != 1 || s.Signatures[0].Type != txscript.SigHashDefault {
		t.Fatalf("signatures %v", s.Signatures)
	}
	h, err := script.NewSighasher(p.UnsignedTx, []*wire.TxOut{p.Inputs[0].WitnessUtxo, p.Inputs[1].WitnessUtxo})
	if err != nil {
		t.Fatal(err)
	}
	if err := script.NewReader().Verify(h, 0, s); err != nil {
		t.Fatal(err)
	}
}
