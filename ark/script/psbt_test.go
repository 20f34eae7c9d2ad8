package script

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/internal/vector"
	"github.com/vigil-ark/vigil/bip340"
)

// proofs are serialized PSBTs of the stock SDK.
func proofs(t testing.TB) [][]byte {
	t.Helper()
	var v struct {
		Delegations []struct {
			RequestBody struct {
				Intent     struct{ Proof string }
				ForfeitTxs []string `json:"forfeit_txs"`
			}
		}
	}
	vector.Load(t, "delegate.json", &v)
	var all [][]byte
	for _, d := range v.Delegations {
		for _, b64 := range append(d.RequestBody.ForfeitTxs, d.RequestBody.Intent.Proof) {
			raw, err := base64.StdEncoding.DecodeString(b64)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, raw)
		}
	}
	return all
}

func TestParsePSBT(t *testing.T) {
	for i, raw := range proofs(t) {
		p, err := DecodePSBT(raw, StrangerLimits())
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		var buf bytes.Buffer
		if err := p.Serialize(&buf); err != nil || !bytes.Equal(buf.Bytes(), raw) {
			t.Errorf("%d re-serialized differs: %v", i, err)
		}
		for n := range raw {
			if _, err := DecodePSBT(raw[:n], StrangerLimits()); !errors.Is(err, ErrPSBT) {
				t.Fatalf("%d truncated to %d: %v", i, n, err)
			}
		}
		if _, err := DecodePSBT(append(bytes.Clone(raw), 0), StrangerLimits()); !errors.Is(err, ErrPSBT) {
			t.Errorf("%d with a trailing byte: %v", i, err)
		}
	}
	for name, s := range map[string]string{"empty": "", "no base64": "%%%", "too long": strings.Repeat("A", 1<<21)} {
		if _, err := ParsePSBT(s, StrangerLimits()); !errors.Is(err, ErrPSBT) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := proofs(t)[1]
	for name, lim := range map[string]Limits{
		"bytes": {10, 99, 99, 99}, "inputs": {1 << 20, 1, 99, 999}, "outputs": {1 << 20, 99, 0, 999}, "fields": {1 << 20, 99, 99, 3},
	} {
		if _, err := DecodePSBT(good, lim); !errors.Is(err, ErrPSBT) {
			t.Errorf("limit of %s: %v", name, err)
		}
	}
}

// raw builds a PSBT of one input and output from its global and input fields.
func raw(global, input [][2][]byte) []byte {
	b := []byte(psbtMagic)
	for _, m := range [][][2][]byte{global, input, nil} {
		for _, kv := range m {
			for _, x := range kv {
				b = append(appendCompactSize(b, uint64(len(x))), x...)
			}
		}
		b = append(b, 0)
	}
	return b
}

// What btcd's parser takes, allocates for or misreads is stopped before it.
func TestSharpEdges(t *testing.T) {
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{}, nil, nil))
	tx.AddTxOut(wire.NewTxOut(1, nil))
	var buf bytes.Buffer
	if err := tx.SerializeNoWitness(&buf); err != nil {
		t.Fatal(err)
	}
	unsigned := buf.Bytes()
	global := [2][]byte{{0}, unsigned}
	script := append([]byte{34}, ark.PayToTaproot(NUMS)...)
	utxo := append(make([]byte, 8), script...)
	if _, err := DecodePSBT(raw([][2][]byte{global}, [][2][]byte{{{1}, utxo}}), StrangerLimits()); err != nil {
		t.Fatal(err)
	}
	millions := slices.Concat([]byte{2, 0, 0, 0, 0xfe}, binary.LittleEndian.AppendUint32(nil, 700_000), make([]byte, 64))
	long := append(make([]byte, 8), 0xfd, 34, 0)
	for name, b := range map[string][]byte{
		"input count without inputs":  raw([][2][]byte{{{0}, millions}}, nil),
		"bytes after the transaction": raw([][2][]byte{{{0}, append(bytes.Clone(unsigned), 0)}}, nil),
		"second transaction":          raw([][2][]byte{global, global}, nil),
		"no transaction":              raw(nil, nil),
		"other field first":           raw([][2][]byte{{{9}, {1}}, global}, nil),
		"short witness UTXO":          raw([][2][]byte{global}, [][2][]byte{{{1}, utxo[:8]}}),
		"wrong script length":         raw([][2][]byte{global}, [][2][]byte{{{1}, utxo[:len(utxo)-1]}}),
		"long script length":          raw([][2][]byte{global}, [][2][]byte{{{1}, append(long, make([]byte, 34)...)}}),
		"key type of two bytes":       raw([][2][]byte{global}, [][2][]byte{{{0xfd, 0x00, 0x01}, {1}}}),
		"too many fields": raw([][2][]byte{global}, slices.Repeat([][2][]byte{
			{{0xfc, 1, 2}, {}},
		}, 5000)),
	} {
		if _, err := DecodePSBT(b, StrangerLimits()); !errors.Is(err, ErrPSBT) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A non-witness UTXO could claim millions of inputs; it is never looked at.
	p, err := DecodePSBT(raw([][2][]byte{global}, [][2][]byte{{{0}, millions}, {{1}, utxo}}), StrangerLimits())
	if err != nil || p.Inputs[0].NonWitnessUtxo != nil || p.Inputs[0].WitnessUtxo == nil {
		t.Errorf("non-witness UTXO: %v", err)
	}
}

func TestFields(t *testing.T) {
	var in psbt.PInput
	for name, err := range map[string]error{
		"taptree": second(TapTree(&in)), "expiry": second(Expiry(&in)), "condition": second(Condition(&in)),
	} {
		if !errors.Is(err, ErrNoField) {
			t.Errorf("no %s: %v", name, err)
		}
	}
	if keys, err := Cosigners(&in); err != nil || len(keys) != 0 {
		t.Errorf("no cosigners: %v, %v", keys, err)
	}
	tree, err := Default(pubKeyOf(t, 1), pubKeyOf(t, 2), 512)
	if err != nil {
		t.Fatal(err)
	}
	var keys []bip340.PubKey
	for b := byte(1); b < 30; b++ {
		keys = append(keys, pubKeyOf(t, b).PubKey())
	}
	witness := wire.TxWitness{{}, bytes.Repeat([]byte{7}, 300)}
	for range 2 { // setting again replaces
		SetTapTree(&in, tree)
		SetExpiry(&in, 604672)
		SetCosigners(&in, keys)
		SetCondition(&in, witness)
	}
	if len(in.Unknowns) != 3+len(keys) {
		t.Errorf("%d fields", len(in.Unknowns))
	}
	if got, err := TapTree(&in); err != nil || got.OutputKey() != tree.OutputKey() {
		t.Errorf("taptree: %v", err)
	}
	if got, err := Expiry(&in); err != nil || got != 604672 {
		t.Errorf("expiry: %v, %v", got, err)
	}
	slices.Reverse(in.Unknowns) // the order of fields does not matter
	if got, err := Cosigners(&in); err != nil || !slices.Equal(got, keys) {
		t.Errorf("cosigners: %v, %v", got, err)
	}
	if got, err := Condition(&in); err != nil || !reflect.DeepEqual(got, witness) {
		t.Errorf("condition: %v, %v", got, err)
	}
	// The values of protocol section 3.6.
	for d, want := range map[ark.Delay]string{40: "28", 604672: "9d0440"} {
		if got := numberBytes(d.Sequence()); !bytes.Equal(got, vector.Hex(t, want)) {
			t.Errorf("expiry of %s is %x", d, got)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestFieldsRefuse(t *testing.T) {
	field := func(key string, value ...byte) *psbt.PInput {
		return &psbt.PInput{Unknowns: []*psbt.Unknown{{Key: []byte(key), Value: value}}}
	}
	key := pubKeyOf(t, 1).PubKey()
	index := string([]byte{0, 0, 0, 1})
	twice := field("\xdecosigner"+index, key[:]...)
	twice.Unknowns = append(twice.Unknowns, &psbt.Unknown{Key: []byte("cosigner" + index), Value: key[:]})
	many := &psbt.PInput{}
	for range maxCosigners + 1 {
		many.Unknowns = append(many.Unknowns, twice.Unknowns[0])
	}
	for name, err := range map[string]error{
		"expiry of nothing":       second(Expiry(field("\xdeexpiry"))),
		"expiry not minimal":      second(Expiry(field("\xdeexpiry", 40, 0))),
		"expiry negative":         second(Expiry(field("\xdeexpiry", 0x81))),
		"expiry of 512 blocks":    second(Expiry(field("\xdeexpiry", 0, 2))),
		"cosigner without index":  second(Cosigners(field("\xdecosigner", key[:]...))),
		"cosigner off the curve":  second(Cosigners(field("\xdecosigner"+index, make([]byte, 33)...))),
		"cosigner x-only":         second(Cosigners(field("\xdecosigner"+index, key[1:]...))),
		"cosigner twice":          second(Cosigners(twice)),
		"too many cosigners":      second(Cosigners(many)),
		"condition truncated":     second(Condition(field("\xdecondition", 1, 5, 1))),
		"condition of millions":   second(Condition(field("\xdecondition", 0xfe, 0, 0, 0xff, 0))),
		"condition with a tail":   second(Condition(field("\xdecondition", 0, 0))),
		"condition without count": second(Condition(field("\xdecondition"))),
		"condition too long":      second(Condition(field("\xdecondition", make([]byte, maxWitnessBytes+1)...))),
	} {
		if !errors.Is(err, ErrField) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Old clients leave the key type out.
	if d, err := Expiry(field("expiry", 40)); err != nil || d != 40 {
		t.Errorf("without key type: %v, %v", d, err)
	}
}

func TestSighasherRefuses(t *testing.T) {
	tx := wire.NewMsgTx(2)
	if _, err := NewSighasher(tx, nil); !errors.Is(err, ErrSighash) {
		t.Errorf("no inputs: %v", err)
	}
	tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 1}, nil, nil))
	tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 2}, nil, nil))
	out := wire.NewTxOut(1, ark.PayToTaproot(NUMS))
	for name, outs := range map[string][]*wire.TxOut{"too few": {out}, "unknown": {out, nil}} {
		if _, err := NewSighasher(tx, outs); !errors.Is(err, ErrSighash) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h, err := NewSighasher(tx, []*wire.TxOut{out, out})
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"index -1": second(h.KeyPath(-1, 0)), "index 2": second(h.Tapscript(2, nil, 0)),
		"unknown type":          second(h.KeyPath(0, 0x55)),
		"SINGLE without output": second(h.KeyPath(1, txscript.SigHashSingle)),
	} {
		if !errors.Is(err, ErrSighash) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, err := h.KeyPath(0, txscript.SigHashDefault)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := h.KeyPath(1, txscript.SigHashDefault); err != nil || a == b {
		t.Errorf("both inputs have one sighash: %v", err)
	}
	tx.TxIn[1].PreviousOutPoint = tx.TxIn[0].PreviousOutPoint
	if _, err := NewSighasher(tx, []*wire.TxOut{out, out}); !errors.Is(err, ErrSighash) {
		t.Errorf("outpoint twice: %v", err)
	}
}
