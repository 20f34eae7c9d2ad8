package script

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"reflect"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark/internal/vector"
	"github.com/vigil-ark/vigil/bip340"
)

// pubKeyOf is the key of the secret that is b repeated 32 times, as the vectors
// name their keys.
func pubKeyOf(t testing.TB, b byte) bip340.XOnly {
	t.Helper()
	_, pub := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{b}, 32))
	return bip340.XOnly(schnorr.SerializePubKey(pub))
}

func closures(t testing.TB) []Closure {
	a, b, c := pubKeyOf(t, 1), pubKeyOf(t, 2), pubKeyOf(t, 3)
	one, three := Multisig{PubKeys: []bip340.XOnly{a}}, Multisig{PubKeys: []bip340.XOnly{a, b, c}}
	add := Multisig{PubKeys: []bip340.XOnly{a, b, c}, Add: true}
	condition := []byte{0xa8, 0x01, 0x07, 0x87} // SHA256 <07> EQUAL
	return []Closure{
		one, three, add, Multisig{PubKeys: []bip340.XOnly{a}, Add: true},
		CSVMultisig{one, 1}, CSVMultisig{one, 16}, CSVMultisig{one, 17}, CSVMultisig{three, 128},
		CSVMultisig{add, 0xffff}, CSVMultisig{one, 0x400000 | 168},
		CLTVMultisig{three, 1}, CLTVMultisig{three, 800_000}, CLTVMultisig{add, 1_750_000_000},
		CLTVMultisig{one, 0xffffffff},
		ConditionMultisig{three, condition}, ConditionMultisig{one, []byte{0x51}},
		ConditionCSVMultisig{CSVMultisig{three, 20}, condition},
		Note{Hash: sha256.Sum256([]byte("x"))},
	}
}

func TestClosuresReencode(t *testing.T) {
	for _, c := range closures(t) {
		got, err := Decode(c.Script())
		if err != nil {
			t.Errorf("%T: %v", c, err)
			continue
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("decoded %#v, want %#v", got, c)
		}
	}
}

func TestClosureKinds(t *testing.T) {
	for _, c := range closures(t) {
		_, csv := c.(CSVMultisig)
		_, ccsv := c.(ConditionCSVMultisig)
		_, note := c.(Note)
		if c.Exit() != (csv || ccsv) || Collaborative(c) != (!csv && !ccsv && !note) {
			t.Errorf("%T: exit %v, collaborative %v", c, c.Exit(), Collaborative(c))
		}
		if HasKey(c, pubKeyOf(t, 1)) == note || HasKey(c, pubKeyOf(t, 9)) {
			t.Errorf("%T: keys %x", c, c.Keys())
		}
	}
	if s := (CSVMultisig{Sequence: 0x400000 | 168}).Seconds(); s != 86016 {
		t.Errorf("168 units are %d s", s)
	}
	if s := (CSVMultisig{Sequence: 20}).Seconds(); s != 20 {
		t.Errorf("20 blocks count as %d s", s)
	}
}

func TestDecodeRefuses(t *testing.T) {
	key := pubKeyOf(t, 1)
	push := append([]byte{0x20}, key[:]...)
	offCurve := append([]byte{0x20}, bytes.Repeat([]byte{0xff}, 32)...)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, s := range map[string][]byte{
		"empty":                    nil,
		"no key":                   {0xac},
		"no keys, add form":        {0x00, 0x9c},
		"off the curve":            join(offCurve, []byte{0xac}),
		"ends in CHECKSIGVERIFY":   join(push, []byte{0xad}),
		"trailing opcode":          join(push, []byte{0xac, 0x51}),
		"wrong threshold":          join(push, []byte{0xac}, push, []byte{0xba, 0x51, 0x9c}),
		"mixed forms":              join(push, []byte{0xad}, push, []byte{0xba, 0x52, 0x9c}),
		"long push":                join([]byte{0x4c, 0x20}, key[:], []byte{0xac}),
		"number not minimal":       join([]byte{0x02, 0x14, 0x00, 0xb2, 0x75}, push, []byte{0xac}),
		"small number pushed":      join([]byte{0x01, 0x05, 0xb2, 0x75}, push, []byte{0xac}),
		"negative lock":            join([]byte{0x4f, 0xb2, 0x75}, push, []byte{0xac}),
		"lock with unknown bits":   join([]byte{0x03, 0x01, 0x00, 0x01, 0xb2, 0x75}, push, []byte{0xac}),
		"disabled lock":            join([]byte{0x05, 0x01, 0x00, 0x00, 0x80, 0x00, 0xb2, 0x75}, push, []byte{0xac}),
		"lock of 2^32":             join([]byte{0x05, 0, 0, 0, 0, 0x01, 0xb1, 0x75}, push, []byte{0xac}),
		"lock without DROP":        join([]byte{0x51, 0xb2, 0x76}, push, []byte{0xac}),
		"OP_SUCCESS":               join([]byte{0x50, 0x69}, push, []byte{0xac}),
		"condition without VERIFY": join([]byte{0x51}, push, []byte{0xac}),
		"note with a tail":         append(Note{}.Script(), 0x51),
		"too long":                 bytes.Repeat([]byte{0x51}, MaxLeafScript+1),
	} {
		if c, err := Decode(s); !errors.Is(err, ErrClosure) {
			t.Errorf("%s: %#v, %v", name, c, err)
		}
	}
}

// Worked leaves of protocol section 3.1.
func TestLockExamples(t *testing.T) {
	for _, c := range []struct {
		script string
		seq    uint32
	}{{"0114", 20}, {"5a", 10}, {"03a80040", 0x400000 | 86016/512}, {"039d0440", 0x400000 | 604672/512}} {
		if got := appendNumber(nil, c.seq); !bytes.Equal(got, vector.Hex(t, c.script)) {
			t.Errorf("%#x is pushed as %x", c.seq, got)
		}
	}
}

func TestEvaluate(t *testing.T) {
	hash := sha256.Sum256([]byte("preimage"))
	hashLock := append(append([]byte{0xa8, 0x20}, hash[:]...), 0x87)
	for _, c := range []struct {
		name      string
		condition []byte
		witness   wire.TxWitness
		ok        bool
	}{
		{"true", []byte{0x51}, nil, true},
		{"false", []byte{0x00}, nil, false},
		{"preimage", hashLock, wire.TxWitness{[]byte("preimage")}, true},
		{"wrong preimage", hashLock, wire.TxWitness{[]byte("other")}, false},
		{"no witness", hashLock, nil, false},
		{"left over", hashLock, wire.TxWitness{{1}, []byte("preimage")}, false},
		{"signature", []byte{0x00, 0x00, 0xac, 0x91}, nil, false},
		{"locktime", []byte{0x51, 0xb1}, nil, false},
		{"sequence", []byte{0x51, 0xb2}, nil, false},
		{"malformed", []byte{0x4c, 0xff}, nil, false},
		{"empty", []byte{}, nil, false},
	} {
		if err := Evaluate(c.condition, c.witness); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrCondition) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
