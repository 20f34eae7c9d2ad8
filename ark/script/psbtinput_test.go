package script

import (
	"bytes"
	"encoding/binary"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
)

// asBTCD holds the reading of a PSBT against btcd's own: what we take btcd takes,
// and finds the same in it, but for what we drop. It says whether both took it.
func asBTCD(t testing.TB, raw []byte) (ours, theirs bool) {
	t.Helper()
	got, err := DecodePSBT(raw, OperatorLimits())
	want, refused := psbt.NewFromRawBytes(bytes.NewReader(raw), false)
	if err != nil {
		return false, refused == nil
	}
	if refused != nil {
		if bytes.Contains(raw, []byte{1, psbtInputFullTx}) {
			return true, false // a non-witness UTXO, which is never looked at
		}
		t.Fatalf("btcd refuses %x: %v", raw, refused)
	}
	for i := range want.Inputs {
		want.Inputs[i].NonWitnessUtxo = nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%x is read as\n%+v, btcd has\n%+v", raw, got.Inputs, want.Inputs)
	}
	return true, true
}

// Whatever byte of a real PSBT is another, it is read as btcd reads it, or refused.
func TestReadsAsBTCD(t *testing.T) {
	whole := proofs(t)[0]
	taken := 0
	for i := range whole {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			b := bytes.Clone(whole)
			b[i] ^= flip
			if ours, _ := asBTCD(t, b); ours {
				taken++
			}
		}
	}
	if taken < len(whole) {
		t.Errorf("only %d of %d were taken", taken, 3*len(whole))
	}
}

// Every field that btcd refuses is refused, and every one that it takes is taken.
func TestInputFields(t *testing.T) {
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{}, nil, nil))
	tx.AddTxOut(wire.NewTxOut(1, nil))
	var buf bytes.Buffer
	if err := tx.SerializeNoWitness(&buf); err != nil {
		t.Fatal(err)
	}
	key, off := NUMS[:], bytes.Repeat([]byte{0xff}, 32)
	sig := slices.Concat(key, bytes.Repeat([]byte{1}, 32))
	hash := bytes.Repeat([]byte{7}, 32)
	block := append([]byte{0xc0}, key...)
	utxo := slices.Concat(make([]byte, 8), []byte{34}, ark.PayToTaproot(NUMS))
	type field = [2][]byte
	under := func(typ byte, rest ...[]byte) []byte { return append([]byte{typ}, slices.Concat(rest...)...) }
	for name, fields := range map[string][]field{
		"nothing":                       {},
		"UTXO":                          {{{1}, utxo}},
		"UTXO twice":                    {{{1}, utxo}, {{1}, utxo}},
		"UTXO with a key":               {{{1, 1}, utxo}},
		"sighash":                       {{{3}, {1, 0, 0, 0}}},
		"sighash twice":                 {{{3}, {1, 0, 0, 0}}, {{3}, {1, 0, 0, 0}}},
		"sighash 0 twice":               {{{3}, {0, 0, 0, 0}}, {{3}, {0, 0, 0, 0}}},
		"sighash of five bytes":         {{{3}, {1, 0, 0, 0, 0}}},
		"sighash with a key":            {{{3, 1}, {1, 0, 0, 0}}},
		"signature":                     {{under(0x14, key, hash), sig}},
		"signature with a type":         {{under(0x14, key, hash), append(bytes.Clone(sig), 0x81)}},
		"signature too long":            {{under(0x14, key, hash), append(bytes.Clone(sig), 1, 1)}},
		"signature too short":           {{under(0x14, key, hash), sig[:63]}},
		"signature of no key":           {{under(0x14, off, hash), sig}},
		"signature over a short hash":   {{under(0x14, key, hash[1:]), sig}},
		"signature with a large R":      {{under(0x14, key, hash), slices.Concat(off, hash)}},
		"signature with a large s":      {{under(0x14, key, hash), slices.Concat(key, off)}},
		"signature twice":               {{under(0x14, key, hash), sig}, {under(0x14, key, hash), append(bytes.Clone(sig), 1)}},
		"two signatures":                {{under(0x14, key, hash), sig}, {under(0x14, key, key), sig}},
		"leaf":                          {{under(0x15, block), {0x51, 0xc0}}},
		"leaf of nothing":               {{under(0x15, block), {0xc0}}},
		"leaf without version":          {{under(0x15, block), {}}},
		"leaf with a proof":             {{under(0x15, block, hash, hash), {0x51, 0xc0}}},
		"leaf with half a proof":        {{under(0x15, block, hash[1:]), {0x51, 0xc0}}},
		"leaf with a proof too long":    {{under(0x15, block, bytes.Repeat(hash, 129)), {0x51, 0xc0}}},
		"leaf with the longest proof":   {{under(0x15, block, bytes.Repeat(hash, 128)), {0x51, 0xc0}}},
		"leaf without control block":    {{{0x15}, {0x51, 0xc0}}},
		"leaf under no key":             {{under(0x15, []byte{0xc0}, off), {0x51, 0xc0}}},
		"leaf twice":                    {{under(0x15, block), {0x51, 0xc0}}, {under(0x15, block), {0x52, 0xc0}}},
		"two leaves":                    {{under(0x15, block), {0x51, 0xc0}}, {under(0x15, block, hash), {0x51, 0xc0}}},
		"unknown":                       {{{0xde, 1}, {2}}, {{0x09}, {}}, {{0x12}, {}}, {{0x19}, {}}, {{0xfc}, {}}},
		"unknown twice":                 {{{0xde, 1}, {2}}, {{0xde, 1}, {2}}},
		"unknown with two values":       {{{0xde, 1}, {2}}, {{0xde, 1}, {3}}},
		"unknown with a long key":       {{bytes.Repeat([]byte{0xde}, psbt.MaxPsbtKeyLength), {1}}},
		"unknown with a longer key":     {{bytes.Repeat([]byte{0xde}, psbt.MaxPsbtKeyLength+1), {1}}},
		"unknown with a longer value":   {{{0xde}, make([]byte, psbt.MaxPsbtValueLength+1)}},
		"those of btcd":                 {{{4}, {1}}, {{5}, {1}}, {{7}, {1}}, {{8}, {1}}, {{0x13}, sig}, {{0x17}, key}, {{0x18}, hash}},
		"a derivation of btcd's":        {{under(0x16, key), {0, 1, 2, 3, 4}}},
		"a wrong one of btcd's":         {{{0x17}, off}},
		"one of btcd's twice":           {{{4}, {1}}, {{4}, {1}}},
		"one of btcd's with a key":      {{{0x18, 1}, hash}},
		"between those that it has not": {{{0xde, 1}, {2}}, {{4}, {1}}, {{0xde, 0}, {2}}},
	} {
		if ours, theirs := asBTCD(t, raw([][2][]byte{{{0}, buf.Bytes()}}, fields)); ours != theirs {
			t.Errorf("%s: taken %v, by btcd %v", name, ours, theirs)
		}
	}
}

func TestCompactSize(t *testing.T) {
	for _, n := range []uint64{0, 1, 0xfc, 0xfd, 0xffff, 1 << 16, math.MaxUint32, 1 << 32, math.MaxUint64} {
		b := appendCompactSize(nil, n)
		if got, size, ok := compactSize(append(b, 9)); !ok || got != n || size != len(b) {
			t.Errorf("%x is %d of %d bytes, %v", b, got, size, ok)
		}
		for cut := range b {
			if _, _, ok := compactSize(b[:cut]); ok {
				t.Errorf("%x is taken", b[:cut])
			}
		}
	}
	for _, b := range [][]byte{
		{0xfd, 0xfc, 0}, binary.LittleEndian.AppendUint32([]byte{0xfe}, 0xffff), binary.LittleEndian.AppendUint64([]byte{0xff}, math.MaxUint32),
	} {
		if _, _, ok := compactSize(b); ok {
			t.Errorf("%x is taken: there is a shorter one", b)
		}
	}
}
