package script

import (
	"bytes"
	"testing"

	"github.com/btcsuite/btcd/psbt/v2"

	"github.com/vigil-ark/vigil/ark/internal/vector"
)

func FuzzClosure(f *testing.F) {
	for _, c := range closures(f) {
		f.Add(c.Script())
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		c, err := Decode(s)
		if err != nil {
			return
		}
		if !bytes.Equal(c.Script(), s) {
			t.Fatalf("%x decodes to %#v", s, c)
		}
		if _, note := c.(Note); !note && len(c.Keys()) == 0 {
			t.Fatalf("%x has no keys", s)
		}
		if condition := ConditionOf(c); condition != nil {
			_ = Evaluate(condition, nil)
		}
	})
}

func FuzzTapTree(f *testing.F) {
	vector.Each(f, vector.Open(f, "vtxoscript.json"), "cases", func(c vtxoCase) {
		tree, err := NewTree(decodeLeaves(f, c.Scripts))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(tree.TapTreeField())
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := ParseTapTree(b)
		if err != nil {
			return
		}
		again, err := ParseTapTree(tree.TapTreeField())
		if err != nil || again.OutputKey() != tree.OutputKey() {
			t.Fatalf("%x: %v", b, err)
		}
		leaf, cb := tree.LeafProof(tree.Len() - 1)
		if err := VerifyLeaf(tree.PkScript(), leaf, cb); err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		if cs, err := tree.Closures(); err == nil {
			_, _ = SmallestExit(cs)
			_ = Validate(tree, Rules{})
		}
	})
}

func FuzzCosigners(f *testing.F) {
	key := pubKeyOf(f, 1).PubKey()
	f.Add([]byte("\xdecosigner\x00\x00\x00\x01"), key[:], []byte("\xdecosigner\x00\x00\x00\x00"), key[:])
	f.Add([]byte("cosigner"), []byte{2}, []byte{}, []byte{})
	f.Add([]byte("\xdeexpiry"), []byte{0x9d, 0x04, 0x40}, []byte("\xdecondition"), []byte{1, 0})
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 []byte) {
		in := &psbt.PInput{Unknowns: []*psbt.Unknown{{Key: k1, Value: v1}, {Key: k2, Value: v2}}}
		keys, err := Cosigners(in)
		if err == nil && len(keys) > 0 {
			SetCosigners(in, keys)
			if again, err := Cosigners(in); err != nil || len(again) != len(keys) {
				t.Fatalf("%v: %v", keys, err)
			}
		}
		if d, err := Expiry(in); err == nil {
			SetExpiry(in, d)
			if again, err := Expiry(in); err != nil || again != d {
				t.Fatalf("%v: %v, %v", d, again, err)
			}
		}
	})
}

func FuzzCondition(f *testing.F) {
	f.Add([]byte{1, 2, 7, 7}, []byte{0xa8, 0x01, 0x07, 0x87})
	f.Add([]byte{0}, []byte{0x51})
	f.Fuzz(func(t *testing.T, field, condition []byte) {
		w, err := parseWitness(field)
		if err != nil {
			return
		}
		in := &psbt.PInput{}
		SetCondition(in, w)
		if again, err := Condition(in); err != nil || len(again) != len(w) {
			t.Fatalf("%x: %v", field, err)
		}
		if len(condition) <= MaxLeafScript {
			_ = Evaluate(condition, w)
		}
	})
}

func FuzzPSBT(f *testing.F) {
	for _, b := range proofs(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePSBT(b, StrangerLimits())
		if err != nil {
			return
		}
		if len(p.Inputs) > StrangerLimits().Inputs || len(p.Inputs) != len(p.UnsignedTx.TxIn) || len(p.Outputs) != len(p.UnsignedTx.TxOut) {
			t.Fatal("counts")
		}
		r := NewReader()
		for i := range p.Inputs {
			_, _ = r.Spend(&p.Inputs[i])
			_, _ = r.TapTree(&p.Inputs[i])
		}
		var buf bytes.Buffer
		if err := p.Serialize(&buf); err != nil {
			t.Fatal(err)
		}
		if _, err := DecodePSBT(buf.Bytes(), StrangerLimits()); err != nil {
			t.Fatalf("re-serialized: %v", err)
		}
		asBTCD(t, b)
	})
}
