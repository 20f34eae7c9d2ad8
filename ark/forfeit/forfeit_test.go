package forfeit

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/internal/vector"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

type body struct {
	Intent     struct{ Message, Proof string }
	ForfeitTxs []string `json:"forfeit_txs"`
}

type sdk struct {
	SecretKeys, XOnly map[string]string
	Delegations       []struct {
		Name        string
		RequestBody body
	}
}

type completed struct {
	Cases []struct {
		PSBT      string `json:"completedForfeitPsbt"`
		Index     int    `json:"connectorInputIndex"`
		Outpoint  string `json:"connectorOutpoint"`
		Script    string `json:"connectorScript"`
		Value     int64  `json:"connectorValue"`
		Sighash   string `json:"delegateSighash"`
		Signature string `json:"delegateSignature"`
		Source    string `json:"sourceDelegation"`
		Txid      string
	}
}

func parse(t testing.TB, b64 string) *psbt.Packet {
	t.Helper()
	p, err := script.ParsePSBT(b64, script.StrangerLimits())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func encode(t testing.TB, p *psbt.Packet) string {
	t.Helper()
	s, err := p.B64Encode()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func load(t testing.TB) sdk {
	var v sdk
	vector.Load(t, "delegate.json", &v)
	return v
}

func (v sdk) key(t testing.TB, name string) bip340.XOnly {
	return bip340.XOnly(vector.Hex(t, v.XOnly[name]))
}

// p2wpkh is the forfeit script of delegate.json.
const p2wpkh = "0014cc1b07838e387deacd0e5232e1e8b49f4c29e484"

func (v sdk) terms(t testing.TB, n byte, vout uint32, amount int64) Terms {
	t.Helper()
	tree, err := script.Delegate(v.key(t, "owner"), v.key(t, "delegate"), v.key(t, "server"), 20)
	if err != nil {
		t.Fatal(err)
	}
	var h chainhash.Hash
	for i := range h {
		h[i] = n
	}
	return Terms{
		Outpoint: wire.OutPoint{Hash: h, Index: vout}, Amount: amount, Tree: tree, Dust: 330,
		Script: vector.Hex(t, p2wpkh), Delegate: v.key(t, "delegate"),
		Signers: []bip340.XOnly{v.key(t, "server")},
	}
}

func (v sdk) sign(t testing.TB, name string, h [32]byte) [64]byte {
	t.Helper()
	priv, _ := btcec.PrivKeyFromBytes(vector.Hex(t, v.SecretKeys[name]))
	sig, err := schnorr.Sign(priv, h[:])
	if err != nil {
		t.Fatal(err)
	}
	return [64]byte(sig.Serialize())
}

func TestSDKForfeits(t *testing.T) {
	v := load(t)
	// The coins of the fixture: 01…:1 of 10,000 and 02…:2 of 20,000.
	all := []Terms{v.terms(t, 1, 1, 10000), v.terms(t, 2, 2, 20000)}
	n := 0
	for _, d := range v.Delegations {
		for i, b64 := range d.RequestBody.ForfeitTxs {
			n++
			p := parse(t, b64)
			got, err := Check(p, all[i], nil)
			if err != nil {
				t.Errorf("%s: forfeit %d: %v", d.Name, i, err)
				continue
			}
			if got.Owner != v.key(t, "owner") || all[i].Tree.Index(got.Leaf) != 2 {
				t.Errorf("%s: found %+v", d.Name, got)
			}
			// Rebuilt from its terms with the same signature it is the same.
			again, _, err := Build(all[i], 2)
			if err != nil {
				t.Fatal(err)
			}
			again.Inputs[0].TaprootScriptSpendSig = p.Inputs[0].TaprootScriptSpendSig
			if encode(t, again) != b64 {
				t.Errorf("%s: forfeit %d rebuilt differs", d.Name, i)
			}
		}
	}
	if n != 4 {
		t.Errorf("%d forfeits, want 4", n)
	}
}

func TestCompletedForfeits(t *testing.T) {
	v := load(t)
	var c completed
	vector.Load(t, "completed-forfeits.json", &c)
	if len(c.Cases) != 2 {
		t.Fatalf("%d cases, want 2", len(c.Cases))
	}
	delegate := v.key(t, "delegate")
	for _, x := range c.Cases {
		if x.Index != 1 {
			// The rust SDK's order, which we never write.
			if err := VerifyComplete(parse(t, x.PSBT), delegate, nil); err == nil {
				t.Error("connector at index 0 passes")
			}
			continue
		}
		outpoint, err := ark.ParseOutpoint(x.Outpoint)
		if err != nil {
			t.Fatal(err)
		}
		partial := v.Delegations[0].RequestBody.ForfeitTxs[0]
		p := parse(t, partial)
		full, sighash, err := Complete(p, outpoint, wire.NewTxOut(x.Value, vector.Hex(t, x.Script)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(sighash[:]) != x.Sighash || full.UnsignedTx.TxHash().String() != x.Txid {
			t.Errorf("sighash %x, txid %s", sighash, full.UnsignedTx.TxHash())
		}
		if err := VerifyComplete(full, delegate, nil); !errors.Is(err, ErrSignature) {
			t.Errorf("without the delegate's signature: %v", err)
		}
		if err := Sign(full, delegate, [64]byte(vector.Hex(t, x.Signature)), nil); err != nil {
			t.Fatal(err)
		}
		if got := encode(t, full); got != x.PSBT {
			t.Errorf("completed to %s", got)
		}
		if encode(t, p) != partial {
			t.Error("Complete changed the partial forfeit")
		}
	}
}

// TestFulmineForfeit completes what Fulmine got with the connector that it was
// given, and arrives at the bytes that it sent.
func TestFulmineForfeit(t *testing.T) {
	var v struct {
		Info            struct{ SignerPubkey string }
		Delegate        body
		DelegateInfo    struct{ Pubkey string }
		FulmineForfeits []string
		FulmineRegister struct{ Proof string }
		Forfeits        map[string]struct{ SignedForfeitTxs []string }
	}
	vector.Load(t, "captures.json", &v)
	if len(v.FulmineForfeits) != 1 || len(v.Delegate.ForfeitTxs) != 1 || len(v.Forfeits) != 4 {
		t.Fatal("captured forfeits are missing")
	}
	delegate := bip340.XOnly(vector.Hex(t, v.DelegateInfo.Pubkey)[1:])
	signers := []bip340.XOnly{bip340.XOnly(vector.Hex(t, v.Info.SignerPubkey)[1:])}
	checkDelegated(t, parse(t, v.Delegate.ForfeitTxs[0]), parse(t, v.Delegate.Intent.Proof), delegate, signers)

	// What Fulmine sent, without connector and Fulmine's signature, is what it got.
	sent := parse(t, v.FulmineForfeits[0])
	if err := VerifyComplete(sent, delegate, nil); err != nil {
		t.Errorf("Fulmine's: %v", err)
	}
	partial := parse(t, v.FulmineForfeits[0])
	partial.UnsignedTx.TxIn, partial.Inputs = partial.UnsignedTx.TxIn[:1], partial.Inputs[:1]
	var signature [64]byte
	partial.Inputs[0].TaprootScriptSpendSig = slices.DeleteFunc(partial.Inputs[0].TaprootScriptSpendSig,
		func(s *psbt.TaprootScriptSpendSig) bool {
			ours := bip340.XOnly(s.XOnlyPubKey) == delegate
			if ours {
				signature = [64]byte(s.Signature)
			}
			return ours
		})
	checkDelegated(t, partial, parse(t, v.FulmineRegister.Proof), delegate, signers)
	full, _, err := Complete(partial, sent.UnsignedTx.TxIn[1].PreviousOutPoint, sent.Inputs[1].WitnessUtxo, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := Sign(full, delegate, signature, nil); err != nil {
		t.Error(err)
	}
	if encode(t, full) != v.FulmineForfeits[0] {
		t.Errorf("completed to %s", encode(t, full))
	}
	// The wallets' own forfeits, signed with the connector in place.
	for name, n := range map[string]int{"renew-A": 1, "renew-B": 1, "board": 0, "board-delegate-vtxo": 0} {
		txs := v.Forfeits[name].SignedForfeitTxs
		if len(txs) != n {
			t.Errorf("%s: %d forfeits", name, len(txs))
		}
		for _, b64 := range txs {
			checkOwn(t, name, parse(t, b64))
		}
	}
}

// checkDelegated checks a partial forfeit against the coin of a proof that it
// belongs to.
func checkDelegated(t *testing.T, p, proof *psbt.Packet, delegate bip340.XOnly, signers []bip340.XOnly) {
	t.Helper()
	for i, in := range proof.UnsignedTx.TxIn {
		if in.PreviousOutPoint != p.UnsignedTx.TxIn[0].PreviousOutPoint {
			continue
		}
		tree, err := script.TapTree(&proof.Inputs[i])
		if err != nil {
			t.Fatal(err)
		}
		_, err = Check(p, Terms{
			Outpoint: in.PreviousOutPoint, Amount: proof.Inputs[i].WitnessUtxo.Value, Tree: tree, Dust: 330,
			Script: p.UnsignedTx.TxOut[0].PkScript, Delegate: delegate, Signers: signers,
		}, nil)
		if err != nil {
			t.Error(err)
		}
		return
	}
	t.Error("forfeit of no coin of the proof")
}

func checkOwn(t *testing.T, name string, p *psbt.Packet) {
	t.Helper()
	if err := checkForm(p.UnsignedTx); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	r := script.NewReader()
	spend, err := r.Spend(&p.Inputs[0])
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	h, err := script.NewSighasher(p.UnsignedTx, []*wire.TxOut{spend.Out, p.Inputs[1].WitnessUtxo})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(h, 0, spend); err != nil || len(spend.Signatures) != 1 || spend.Signatures[0].Type != DelegateSighash {
		t.Errorf("%s: %+v, %v", name, spend.Signatures, err)
	}
}

// signed is a partial forfeit signed by the owner on leaf i, with a given type.
func (v sdk) signed(t testing.TB, terms Terms, i int, typ txscript.SigHashType) *psbt.Packet {
	t.Helper()
	p, _, err := Build(terms, i)
	if err != nil {
		t.Fatal(err)
	}
	v.resign(t, p, typ)
	return p
}

func (v sdk) resign(t testing.TB, p *psbt.Packet, typ txscript.SigHashType) {
	t.Helper()
	leaf := p.Inputs[0].TaprootLeafScript[0].Script
	outs := make([]*wire.TxOut, len(p.Inputs))
	for i := range p.Inputs {
		outs[i] = p.Inputs[i].WitnessUtxo
	}
	h, err := script.TapscriptSighash(p.UnsignedTx, outs, 0, leaf, typ)
	if err != nil {
		t.Fatal(err)
	}
	script.AddSignature(&p.Inputs[0], leaf, script.Signature{Key: v.key(t, "owner"), Type: typ, Sig: v.sign(t, "owner", h)})
}

func TestCheckRefuses(t *testing.T) {
	v := load(t)
	terms := v.terms(t, 1, 1, 10000)
	owner, delegate, server := v.key(t, "owner"), v.key(t, "delegate"), v.key(t, "server")
	if _, err := Check(v.signed(t, terms, 2, OwnerSighash), terms, nil); err != nil {
		t.Fatal(err)
	}
	cltv, err := script.NewTree([][]byte{
		script.CLTVMultisig{Multisig: script.Multisig{PubKeys: []bip340.XOnly{owner, delegate, server}}, Locktime: 1}.Script(),
		script.Multisig{PubKeys: []bip340.XOnly{owner, owner, delegate, server}}.Script(),
	})
	if err != nil {
		t.Fatal(err)
	}
	// resigned mutations: the signature is valid, the rest is wrong.
	for name, c := range map[string]struct {
		want  error
		spoil func(p *psbt.Packet)
	}{
		"version 2":       {ErrForm, func(p *psbt.Packet) { p.UnsignedTx.Version = 2 }},
		"locktime":        {ErrForm, func(p *psbt.Packet) { p.UnsignedTx.LockTime = 1 }},
		"sequence":        {ErrForm, func(p *psbt.Packet) { p.UnsignedTx.TxIn[0].Sequence = 0xfffffffe }},
		"third output":    {ErrForm, func(p *psbt.Packet) { p.UnsignedTx.AddTxOut(wire.NewTxOut(0, nil)) }},
		"no anchor":       {ErrForm, func(p *psbt.Packet) { p.UnsignedTx.TxOut[1].PkScript = []byte{0x6a} }},
		"anchor of value": {ErrForm, func(p *psbt.Packet) { p.UnsignedTx.TxOut[1].Value = 1 }},
		"anchor first": {ErrForm, func(p *psbt.Packet) {
			o := p.UnsignedTx.TxOut
			o[0], o[1] = o[1], o[0]
		}},
		"other outpoint": {ErrTerms, func(p *psbt.Packet) { p.UnsignedTx.TxIn[0].PreviousOutPoint.Index++ }},
		"one sat less":   {ErrTerms, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value-- }},
		"one sat more":   {ErrTerms, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value++ }},
		"other script":   {ErrTerms, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].PkScript = ark.PayToTaproot(owner) }},
		"other amount":   {ErrTerms, func(p *psbt.Packet) { p.Inputs[0].WitnessUtxo.Value++ }},
	} {
		p, _, err := Build(terms, 2)
		if err != nil {
			t.Fatal(err)
		}
		c.spoil(p)
		v.resign(t, p, OwnerSighash)
		if _, err := Check(p, terms, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for typ, want := range map[txscript.SigHashType]error{
		txscript.SigHashDefault: ErrSignature, txscript.SigHashAll: ErrSignature,
		txscript.SigHashNone | txscript.SigHashAnyOneCanPay:   ErrSignature,
		txscript.SigHashSingle | txscript.SigHashAnyOneCanPay: ErrSignature,
	} {
		if _, err := Check(v.signed(t, terms, 2, typ), terms, nil); !errors.Is(err, want) {
			t.Errorf("type %#x: %v", typ, err)
		}
	}
	for name, p := range map[string]*psbt.Packet{
		"owner and signer": v.signed(t, terms, 0, OwnerSighash),
		"exit leaf":        v.signed(t, terms, 1, OwnerSighash),
	} {
		if _, err := Check(p, terms, nil); !errors.Is(err, ErrLeaf) {
			t.Errorf("%s: %v", name, err)
		}
	}
	odd := terms
	odd.Tree = cltv
	for i := range 2 {
		if _, err := Check(v.signed(t, odd, i, OwnerSighash), odd, nil); !errors.Is(err, ErrLeaf) {
			t.Errorf("odd leaf %d: %v", i, err)
		}
	}
	p := v.signed(t, terms, 2, OwnerSighash)
	p.Inputs[0].TaprootScriptSpendSig[0].Signature[3] ^= 1
	if _, err := Check(p, terms, nil); !errors.Is(err, ErrSignature) {
		t.Errorf("spoilt signature: %v", err)
	}
	p = v.signed(t, terms, 2, OwnerSighash)
	script.AddSignature(&p.Inputs[0], p.Inputs[0].TaprootLeafScript[0].Script, script.Signature{Key: server})
	if _, err := Check(p, terms, nil); !errors.Is(err, ErrSignature) {
		t.Errorf("second signature: %v", err)
	}
	p, _, _ = Build(terms, 2)
	if _, err := Check(p, terms, nil); !errors.Is(err, ErrSignature) {
		t.Errorf("no signature: %v", err)
	}
}

func TestCompleteRefuses(t *testing.T) {
	v := load(t)
	terms := v.terms(t, 1, 1, 10000)
	connector, out := wire.OutPoint{Hash: chainhash.Hash{9}}, wire.NewTxOut(330, ark.PayToTaproot(v.key(t, "server")))
	partial := v.signed(t, terms, 2, OwnerSighash)
	if _, _, err := Complete(partial, connector, wire.NewTxOut(331, out.PkScript), nil); !errors.Is(err, ErrTerms) {
		t.Errorf("other value: %v", err)
	}
	if _, _, err := Complete(partial, terms.Outpoint, out, nil); !errors.Is(err, ErrTerms) {
		t.Errorf("the VTXO as its own connector: %v", err)
	}
	if _, _, err := Complete(partial, connector, nil, nil); !errors.Is(err, ErrTerms) {
		t.Errorf("no output: %v", err)
	}
	full, sighash, err := Complete(partial, connector, out, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Complete(full, connector, out, nil); !errors.Is(err, ErrForm) {
		t.Errorf("twice: %v", err)
	}
	delegate := v.key(t, "delegate")
	if err := Sign(full, delegate, v.sign(t, "delegate", sighash), nil); err != nil {
		t.Fatal(err)
	}
	// The delegate's signature binds the forfeit to its connector.
	moved := parse(t, encode(t, full))
	moved.UnsignedTx.TxIn[1].PreviousOutPoint.Index++
	if err := VerifyComplete(moved, delegate, nil); !errors.Is(err, ErrSignature) {
		t.Errorf("another connector: %v", err)
	}
	if err := Sign(full, delegate, [64]byte{1}, nil); !errors.Is(err, ErrSignature) {
		t.Errorf("invalid signature: %v", err)
	}
}

func FuzzForfeit(f *testing.F) {
	v := load(f)
	terms := v.terms(f, 1, 1, 10000)
	for _, d := range v.Delegations {
		for _, b64 := range d.RequestBody.ForfeitTxs {
			raw, err := base64.StdEncoding.DecodeString(b64)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw)
		}
	}
	connector, out := wire.OutPoint{Hash: chainhash.Hash{9}}, wire.NewTxOut(330, ark.PayToTaproot(v.key(f, "server")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := script.DecodePSBT(raw, script.StrangerLimits())
		if err != nil {
			return
		}
		_ = VerifyComplete(p, terms.Delegate, nil)
		if _, _, err := Complete(p, connector, out, nil); err != nil {
			return
		}
		if _, err := Check(p, terms, nil); err == nil && p.UnsignedTx.TxOut[0].Value != 10330 {
			t.Fatal("accepted another value")
		}
	})
}

// TestBearer: on a leaf of owner and operator alone a forfeit is taken only where one
// that nothing pins is asked for, and with any connector it is as good.
func TestBearer(t *testing.T) {
	key := func(b byte) *bip340.Key {
		k, err := bip340.NewKey(secret.New(bytes.Repeat([]byte{b}, 32)))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	owner, signer, delegate := key(1), key(2), key(3)
	x := func(k *bip340.Key) bip340.XOnly { return k.PubKey().XOnly() }
	tree, err := script.NewTree([][]byte{
		script.Multisig{PubKeys: []bip340.XOnly{x(owner), x(signer)}}.Script(),
		script.Multisig{PubKeys: []bip340.XOnly{x(owner), x(delegate), x(signer)}}.Script(),
		script.Multisig{PubKeys: []bip340.XOnly{x(owner), x(delegate)}}.Script(),
	})
	if err != nil {
		t.Fatal(err)
	}
	terms := Terms{
		Outpoint: wire.OutPoint{Index: 4}, Amount: 1000, Tree: tree, Dust: 330, Script: ark.PayToTaproot(x(signer)),
		Delegate: x(delegate), Bearer: true, Signers: []bip340.XOnly{x(signer)},
	}
	signed := func(leaf int) *psbt.Packet {
		p, h, err := Build(terms, leaf)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := owner.Sign(h[:])
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := tree.LeafProof(leaf)
		script.AddSignature(&p.Inputs[0], raw, script.Signature{Key: x(owner), Type: OwnerSighash, Sig: sig})
		return p
	}
	pinned := terms
	pinned.Bearer = false
	for name, c := range map[string]struct {
		leaf  int
		terms Terms
		want  error
	}{
		"bearer":                             {0, terms, nil},
		"pinned":                             {1, pinned, nil},
		"a bearer's where it must be pinned": {0, pinned, ErrLeaf},
		"pinned where a bearer's is wanted":  {1, terms, ErrLeaf},
		"without the operator":               {2, terms, ErrLeaf},
	} {
		if got, err := Check(signed(c.leaf), c.terms, nil); !errors.Is(err, c.want) || err == nil && got.Owner != x(owner) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	connector := wire.NewTxOut(330, ark.PayToTaproot(x(signer)))
	for n := range uint32(2) {
		done, _, err := Complete(signed(0), wire.OutPoint{Index: 50 + n}, connector, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := VerifyBearer(done, x(owner), nil); err != nil {
			t.Errorf("with connector %d: %v", n, err)
		}
		if err := VerifyBearer(done, x(delegate), nil); !errors.Is(err, ErrSignature) {
			t.Errorf("as another owner's: %v", err)
		}
		if err := VerifyComplete(done, x(delegate), nil); !errors.Is(err, ErrSignature) {
			t.Errorf("as a pinned one: %v", err)
		}
		done.Inputs[0].TaprootScriptSpendSig[0].Signature[7] ^= 1
		if err := VerifyBearer(done, x(owner), nil); !errors.Is(err, ErrSignature) {
			t.Errorf("with another signature: %v", err)
		}
	}
}
