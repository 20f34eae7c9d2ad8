package intent

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"testing"
	"time"

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
)

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

type outJSON struct {
	Script string
	Amount int64
}

func (o *outJSON) out(t testing.TB) *wire.TxOut {
	if o == nil {
		return nil
	}
	return wire.NewTxOut(o.Amount, vector.Hex(t, o.Script))
}

type proofCase struct {
	Name   string
	Inputs []struct {
		Txid        string
		Vout        uint32
		Sequence    uint32
		WitnessUtxo *outJSON `json:"witness_utxo"`
	}
	Outputs       []outJSON
	Message       string
	Expected      string
	ExpectedError string `json:"expected_error"`
}

func (c proofCase) build(t testing.TB) (*psbt.Packet, error) {
	var ins []Input
	for _, in := range c.Inputs {
		i := Input{Sequence: in.Sequence, Out: in.WitnessUtxo.out(t)}
		if in.Txid != "" {
			// The file has the hash as it is serialized.
			i.Outpoint = wire.OutPoint{Hash: chainhash.Hash(vector.Hex(t, in.Txid)), Index: in.Vout}
		}
		ins = append(ins, i)
	}
	var outs []*wire.TxOut
	for _, o := range c.Outputs {
		outs = append(outs, o.out(t))
	}
	return BuildProof(c.Message, ins, outs)
}

func TestProofVectors(t *testing.T) {
	f := vector.Open(t, "proof.json")
	vector.Count(t, f, map[string]map[string]int{"valid": {"arkd": 5}, "invalid": {"arkd": 3}})
	vector.Each(t, f, "valid", func(c proofCase) {
		p, err := c.build(t)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if got := encode(t, p); got != c.Expected {
			t.Errorf("%s: %s", c.Name, got)
		}
	})
	vector.Each(t, f, "invalid", func(c proofCase) {
		if _, err := c.build(t); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
}

type verifyCase struct {
	Name, Proof, Message string
	SkipKeys             []string `json:"skip_keys"`
	ExpectedError        string   `json:"expected_error"`
}

func (c verifyCase) verify(t testing.TB) (Proof, error) {
	p, err := script.ParsePSBT(c.Proof, script.StrangerLimits())
	if err != nil {
		return Proof{}, err
	}
	var opt Options
	for _, k := range c.SkipKeys {
		opt.Skip = append(opt.Skip, bip340.XOnly(vector.Hex(t, k)))
	}
	return Verify(p, c.Message, opt)
}

func TestVerifyVectors(t *testing.T) {
	f := vector.Open(t, "verify.json.gz")
	vector.Count(t, f, map[string]map[string]int{"valid": {"arkd": 5}, "invalid": {"arkd": 7}})
	vector.Each(t, f, "valid", func(c verifyCase) {
		proof, err := c.verify(t)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			return
		}
		if len(proof.Inputs) == 0 || proof.Weight <= 0 {
			t.Errorf("%s: found %+v", c.Name, proof)
		}
	})
	want := map[string]error{
		"wrong_message": ErrCommitment, "wrong_vout": ErrCommitment, "one_input": ErrProof,
		"zero_inputs": ErrProof, "zero_outputs": ErrProof, "missing_prevout": ErrProof,
		"wrong_signature": ErrSignature,
	}
	vector.Each(t, f, "invalid", func(c verifyCase) {
		if _, err := c.verify(t); want[c.Name] == nil || !errors.Is(err, want[c.Name]) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
}

// sdk is what the stock SDK made of fixed keys.
type sdk struct {
	SecretKeys, XOnly map[string]string
	Delegations       []sdkDelegation
	DeleteIntent      sdkIntent
}

type sdkIntent struct{ Message, Proof string }

type sdkDelegation struct {
	Name, Destination, ProofTxid string
	RequestBody                  struct {
		Intent      sdkIntent
		ForfeitTxs  []string `json:"forfeit_txs"`
		RejectPrior bool     `json:"reject_replace"`
	}
}

func loadSDK(t testing.TB) sdk {
	var v sdk
	vector.Load(t, "delegate.json", &v)
	return v
}

func (v sdk) key(t testing.TB, name string) bip340.XOnly {
	return bip340.XOnly(vector.Hex(t, v.XOnly[name]))
}

// rebuild makes the proof anew from what Verify found, signatures carried over.
func rebuild(t testing.TB, message string, p Proof) *psbt.Packet {
	t.Helper()
	var ins []Input
	for _, in := range p.Inputs {
		ins = append(ins, Input{
			Outpoint: in.Outpoint, Out: in.Out, Sequence: in.Sequence,
			Tree: in.Tree, Leaf: in.Tree.Index(in.Leaf),
		})
	}
	outs := p.Outputs
	if !p.HasOutputs() {
		outs = nil
	}
	again, err := BuildProof(message, ins, outs)
	if err != nil {
		t.Fatal(err)
	}
	for i, in := range append([]ProofInput{p.Message}, p.Inputs...) {
		for _, sig := range in.Signatures {
			script.AddSignature(&again.Inputs[i], in.Leaf, sig)
		}
	}
	return again
}

func TestSDKProofs(t *testing.T) {
	v := loadSDK(t)
	if len(v.Delegations) != 3 {
		t.Fatalf("%d delegations, want 3", len(v.Delegations))
	}
	server, owner := v.key(t, "server"), v.key(t, "owner")
	intents := []sdkIntent{v.DeleteIntent}
	for _, d := range v.Delegations {
		intents = append(intents, d.RequestBody.Intent)
	}
	for i, in := range intents {
		p := parse(t, in.Proof)
		proof, err := Verify(p, in.Message, Options{Skip: []bip340.XOnly{server}})
		if err != nil {
			t.Errorf("intent %d: %v", i, err)
			continue
		}
		if _, err := Verify(p, in.Message, Options{}); !errors.Is(err, ErrUnsigned) {
			t.Errorf("intent %d without skipping the server: %v", i, err)
		}
		for _, pi := range append(proof.Inputs, proof.Message) {
			if !pi.Signed(owner) || pi.Signatures[0].Type != txscript.SigHashAll || pi.Sequence != wire.MaxTxInSequenceNum {
				t.Errorf("intent %d: input %+v", i, pi)
			}
		}
		if got := encode(t, rebuild(t, in.Message, proof)); got != in.Proof {
			t.Errorf("intent %d rebuilt: %s", i, got)
		}
		if i == 0 {
			if _, err := DecodeCanonical(in.Message, Delete); err != nil || proof.HasOutputs() {
				t.Errorf("delete: %v", err)
			}
			continue
		}
		d := v.Delegations[i-1]
		if proof.Txid.String() != d.ProofTxid || Txid(p) != proof.Txid {
			t.Errorf("%s: txid %s", d.Name, proof.Txid)
		}
		if _, err := DecodeCanonical(in.Message, Register); err != nil {
			t.Errorf("%s: %v", d.Name, err)
		}
		for _, pi := range proof.Inputs {
			if pi.Tree.Len() != 3 || !script.HasKey(mustDecode(t, pi.Tree.Leaves()[2]), v.key(t, "delegate")) {
				t.Errorf("%s: tree of %d leaves", d.Name, pi.Tree.Len())
			}
		}
		checkWeight(t, proof, p)
	}
}

func mustDecode(t testing.TB, leaf []byte) script.Closure {
	t.Helper()
	c, err := script.Decode(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// checkWeight compares with the real weight of the finished transaction.
func checkWeight(t *testing.T, proof Proof, p *psbt.Packet) {
	t.Helper()
	tx := p.UnsignedTx.Copy()
	for i, in := range append([]ProofInput{proof.Message}, proof.Inputs...) {
		var w wire.TxWitness
		for _, key := range slices.Backward(in.Closure.Keys()) {
			n := 64
			if in.Signed(key) {
				n = 65 // ALL
			}
			w = append(w, make([]byte, n))
		}
		tx.TxIn[i].Witness = append(w, in.Leaf, in.ControlBlock)
	}
	want := int64(tx.SerializeSizeStripped()*3 + tx.SerializeSize())
	if proof.Weight != want {
		t.Errorf("weight %d, want %d", proof.Weight, want)
	}
}

func TestCapturedProofs(t *testing.T) {
	var v struct {
		Info     struct{ SignerPubkey string }
		Register map[string]sdkIntent
		Delegate struct{ Intent sdkIntent }
	}
	vector.Load(t, "captures.json", &v)
	if len(v.Register) != 4 {
		t.Fatalf("%d captured registrations, want 4", len(v.Register))
	}
	signer := bip340.XOnly(vector.Hex(t, v.Info.SignerPubkey)[1:])
	v.Register["delegate"] = v.Delegate.Intent
	for name, in := range v.Register {
		proof, err := Verify(parse(t, in.Proof), in.Message, Options{Skip: []bip340.XOnly{signer}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m, err := DecodeCanonical(in.Message, Register)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if keys, err := m.CosignerKeys(); err != nil || len(keys) != 1 {
			t.Errorf("%s: cosigners %v, %v", name, keys, err)
		}
		if got := encode(t, rebuild(t, in.Message, proof)); got != in.Proof {
			t.Errorf("%s rebuilt differs", name)
		}
	}
}

// coin is a signable input of the delegate script of keys 11, 33 and 22.
func coin(t testing.TB, v sdk, n byte, leaf int, sequence uint32) Input {
	t.Helper()
	tree, err := script.Delegate(v.key(t, "owner"), v.key(t, "delegate"), v.key(t, "server"), 86016)
	if err != nil {
		t.Fatal(err)
	}
	return Input{
		Outpoint: wire.OutPoint{Hash: chainhash.Hash{n}, Index: uint32(n)},
		Out:      wire.NewTxOut(1000, tree.PkScript()), Sequence: sequence, Tree: tree, Leaf: leaf,
	}
}

// sign signs every input whose leaf has the key of the secret.
func sign(t testing.TB, p *psbt.Packet, secretHex string, typ txscript.SigHashType) {
	t.Helper()
	priv, pub := btcec.PrivKeyFromBytes(vector.Hex(t, secretHex))
	key := bip340.XOnly(schnorr.SerializePubKey(pub))
	list, err := ToSign(p, key, typ)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		sig, err := schnorr.Sign(priv, s.Sighash[:])
		if err != nil {
			t.Fatal(err)
		}
		script.AddSignature(&p.Inputs[s.Index], s.Leaf, script.Signature{
			Key: key, Type: typ, Sig: [64]byte(sig.Serialize()),
		})
	}
}

const text = `{"type":"delete","expire_at":0}`

// The rust SDK's watcher signs on the delegate leaf: our signature is missing,
// and added before the proof is registered.
func TestDelegateLeafProof(t *testing.T) {
	v := loadSDK(t)
	server, delegate := v.key(t, "server"), v.key(t, "delegate")
	p, err := BuildProof(text, []Input{coin(t, v, 1, 2, 0xffffffff), coin(t, v, 2, 0, 0xffffffff)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sign(t, p, v.SecretKeys["owner"], txscript.SigHashDefault)
	p = parse(t, encode(t, p))
	if _, err := Verify(p, text, Options{Skip: []bip340.XOnly{server}}); !errors.Is(err, ErrUnsigned) {
		t.Errorf("without the delegate's signature: %v", err)
	}
	if _, err := Verify(p, text, Options{Skip: []bip340.XOnly{server, delegate}}); err != nil {
		t.Errorf("skipping the delegate: %v", err)
	}
	list, err := ToSign(p, delegate, txscript.SigHashDefault)
	if err != nil || len(list) != 2 || list[0].Index != 0 || list[1].Index != 1 {
		t.Fatalf("to sign: %v, %v", list, err)
	}
	sign(t, p, v.SecretKeys["delegate"], txscript.SigHashDefault)
	proof, err := Verify(parse(t, encode(t, p)), text, Options{Skip: []bip340.XOnly{server}})
	if err != nil {
		t.Fatal(err)
	}
	if !proof.Inputs[0].Signed(delegate) || proof.Inputs[1].Signed(delegate) || proof.HasOutputs() {
		t.Errorf("found %+v", proof)
	}
}

// An exit leaf wants the owner alone; what sequence it has is reported.
func TestExitLeafProof(t *testing.T) {
	v := loadSDK(t)
	seq := ark.Delay(86016).Sequence()
	p, err := BuildProof(text, []Input{coin(t, v, 1, 1, seq)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sign(t, p, v.SecretKeys["owner"], txscript.SigHashAll)
	proof, err := Verify(p, text, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if in := proof.Inputs[0]; !in.Closure.Exit() || in.Sequence != seq {
		t.Errorf("found %+v", in)
	}
}

func TestVerifyRefuses(t *testing.T) {
	v := loadSDK(t)
	opt := Options{Skip: []bip340.XOnly{v.key(t, "server")}}
	fresh := func() *psbt.Packet {
		p, err := BuildProof(text, []Input{coin(t, v, 1, 0, 0xffffffff), coin(t, v, 2, 0, 0xffffffff)},
			[]*wire.TxOut{wire.NewTxOut(1500, ark.PayToTaproot(v.key(t, "owner")))})
		if err != nil {
			t.Fatal(err)
		}
		sign(t, p, v.SecretKeys["owner"], txscript.SigHashDefault)
		return p
	}
	if proof, err := Verify(fresh(), text, opt); err != nil || proof.Fee() != 500 {
		t.Fatalf("fee %d, %v", proof.Fee(), err)
	}
	other := coin(t, v, 9, 0, 0)
	for name, c := range map[string]struct {
		want  error
		spoil func(p *psbt.Packet)
	}{
		"version 3":           {ErrProof, func(p *psbt.Packet) { p.UnsignedTx.Version = 3 }},
		"no leaf on message":  {ErrProof, func(p *psbt.Packet) { p.Inputs[0].TaprootLeafScript = nil }},
		"message unsigned":    {ErrUnsigned, func(p *psbt.Packet) { p.Inputs[0].TaprootScriptSpendSig = nil }},
		"coin unsigned":       {ErrUnsigned, func(p *psbt.Packet) { p.Inputs[2].TaprootScriptSpendSig = nil }},
		"signature spoilt":    {ErrSignature, func(p *psbt.Packet) { p.Inputs[1].TaprootScriptSpendSig[0].Signature[5] ^= 1 }},
		"type changed":        {ErrSignature, func(p *psbt.Packet) { p.Inputs[1].TaprootScriptSpendSig[0].SigHash = 0x81 }},
		"unknown type":        {ErrSignature, func(p *psbt.Packet) { p.Inputs[1].TaprootScriptSpendSig[0].SigHash = 0x44 }},
		"other leaf hash":     {ErrProof, func(p *psbt.Packet) { p.Inputs[1].TaprootScriptSpendSig[0].LeafHash[0] ^= 1 }},
		"foreign key":         {ErrProof, func(p *psbt.Packet) { copy(p.Inputs[1].TaprootScriptSpendSig[0].XOnlyPubKey, make([]byte, 32)) }},
		"output changed":      {ErrSignature, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value-- }},
		"outputs exceed":      {ErrProof, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value = 2001 }},
		"negative output":     {ErrProof, func(p *psbt.Packet) { p.UnsignedTx.TxOut[0].Value = -1 }},
		"amount changed":      {ErrSignature, func(p *psbt.Packet) { p.Inputs[2].WitnessUtxo.Value++ }},
		"amount too large":    {ErrProof, func(p *psbt.Packet) { p.Inputs[2].WitnessUtxo.Value = 1 << 60 }},
		"message has a value": {ErrProof, func(p *psbt.Packet) { p.Inputs[0].WitnessUtxo.Value = 1 }},
		"outpoint twice":      {ErrProof, func(p *psbt.Packet) { p.UnsignedTx.TxIn[2].PreviousOutPoint = p.UnsignedTx.TxIn[1].PreviousOutPoint }},
		"sequence changed":    {ErrSignature, func(p *psbt.Packet) { p.UnsignedTx.TxIn[1].Sequence-- }},
		"not taproot":         {ErrProof, func(p *psbt.Packet) { p.Inputs[2].WitnessUtxo.PkScript = []byte{0x51} }},
		"final witness":       {ErrProof, func(p *psbt.Packet) { p.Inputs[2].FinalScriptWitness = []byte{0} }},
		"tree of another": {ErrProof, func(p *psbt.Packet) {
			tree, _ := script.Default(v.key(t, "owner"), v.key(t, "server"), 512)
			script.SetTapTree(&p.Inputs[2], tree)
		}},
		"two trees": {ErrProof, func(p *psbt.Packet) {
			p.Inputs[2].Unknowns = append(p.Inputs[2].Unknowns, &psbt.Unknown{Key: []byte("xtaptree"), Value: []byte{1}})
		}},
		"leaf of another": {ErrProof, func(p *psbt.Packet) {
			leaf, _ := other.Tree.LeafProof(1)
			p.Inputs[2].TaprootLeafScript[0].Script = leaf
		}},
	} {
		p := fresh()
		c.spoil(p)
		if _, err := Verify(p, text, opt); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	heavy := opt
	heavy.MaxWeight = 100
	if _, err := Verify(fresh(), text, heavy); !errors.Is(err, ErrTooHeavy) {
		t.Errorf("weight: %v", err)
	}
}

func TestNoteProof(t *testing.T) {
	v := loadSDK(t)
	preimage := bytes.Repeat([]byte{7}, 32)
	tree, err := script.NewTree([][]byte{script.Note{Hash: sha256.Sum256(preimage)}.Script()})
	if err != nil {
		t.Fatal(err)
	}
	note := Input{
		Outpoint: wire.OutPoint{Hash: chainhash.Hash{3}}, Out: wire.NewTxOut(500, tree.PkScript()),
		Sequence: 0xffffffff, Tree: tree, Condition: wire.TxWitness{preimage},
	}
	for name, c := range map[string]struct {
		want  error
		spoil func(*Input)
	}{
		"right":       {nil, func(*Input) {}},
		"wrong":       {ErrSignature, func(in *Input) { in.Condition = wire.TxWitness{{1}} }},
		"missing":     {ErrSignature, func(in *Input) { in.Condition = nil }},
		"two entries": {ErrSignature, func(in *Input) { in.Condition = wire.TxWitness{preimage, preimage} }},
	} {
		n := note
		c.spoil(&n)
		for _, ins := range [][]Input{{n}, {coin(t, v, 1, 0, 0xffffffff), n}} {
			p, err := BuildProof(text, ins, nil)
			if err != nil {
				t.Fatal(err)
			}
			sign(t, p, v.SecretKeys["owner"], txscript.SigHashDefault)
			if _, err := Verify(p, text, Options{Skip: []bip340.XOnly{v.key(t, "server")}}); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func FuzzProof(f *testing.F) {
	v := loadSDK(f)
	for _, d := range v.Delegations {
		raw, err := base64.StdEncoding.DecodeString(d.RequestBody.Intent.Proof)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, d.RequestBody.Intent.Message)
	}
	vector.Each(f, vector.Open(f, "verify.json.gz"), "valid", func(c verifyCase) {
		raw, err := base64.StdEncoding.DecodeString(c.Proof)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, c.Message)
	})
	server := v.key(f, "server")
	f.Fuzz(func(t *testing.T, raw []byte, message string) {
		p, err := script.DecodePSBT(raw, script.StrangerLimits())
		if err != nil {
			return
		}
		proof, err := Verify(p, message, Options{Skip: []bip340.XOnly{server}})
		if err != nil {
			return
		}
		if proof.Fee() < 0 || len(proof.Inputs) != len(p.Inputs)-1 {
			t.Fatalf("accepted %+v", proof)
		}
	})
}

// BenchmarkVerify is a proof over 20 coins of one wallet.
func BenchmarkVerify(b *testing.B) {
	v := loadSDK(b)
	var ins []Input
	for i := range 20 {
		ins = append(ins, coin(b, v, byte(i+1), 0, 0xffffffff))
	}
	p, err := BuildProof(text, ins, nil)
	if err != nil {
		b.Fatal(err)
	}
	sign(b, p, v.SecretKeys["owner"], txscript.SigHashAll)
	opt := Options{Skip: []bip340.XOnly{v.key(b, "server")}}
	// The floor is what cannot be saved: one verification a signature, and one
	// output key for the script that all coins share and one for its leaf. It is
	// measured in turns with the proof, on the same machine under the same load.
	key, err := bip340.NewVerifier(v.key(b, "owner"))
	if err != nil {
		b.Fatal(err)
	}
	sig := [64]byte(p.Inputs[0].TaprootScriptSpendSig[0].Signature)
	msg := make([]byte, 32)
	var floor, whole time.Duration
	for b.Loop() {
		start := time.Now()
		for range p.Inputs {
			key.Verify(msg, sig)
		}
		for range 2 {
			if _, _, err := bip340.OutputKey(script.NUMS, msg); err != nil {
				b.Fatal(err)
			}
		}
		middle := time.Now()
		if _, err := Verify(p, text, opt); err != nil {
			b.Fatal(err)
		}
		floor += middle.Sub(start)
		whole += time.Since(middle)
	}
	b.ReportMetric(float64(whole)/float64(floor), "×floor")
	b.ReportMetric(float64(whole.Microseconds())/float64(b.N), "µs/proof")
}
