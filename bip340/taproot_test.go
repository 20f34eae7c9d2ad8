package bip340

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
)

type walletVectors struct {
	ScriptPubKey []struct {
		Given struct {
			InternalPubkey string
			ScriptTree     json.RawMessage
		}
		Intermediary struct{ MerkleRoot, Tweak, TweakedPubkey string }
		Expected     struct {
			ScriptPubKey            string
			ScriptPathControlBlocks []string
		}
	}
	KeyPathSpending []struct {
		Given struct {
			InternalPrivkey, MerkleRoot string
			HashType                    int
		}
		Intermediary struct{ InternalPubkey, Tweak, TweakedPrivkey, SigHash string }
		Expected     struct{ Witness []string }
	}
}

func loadWallet(t *testing.T) (v walletVectors) {
	t.Helper()
	b, err := os.ReadFile("testdata/bip341.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// merkleRoot hashes a script tree of the vectors: null, a leaf, or a pair.
func merkleRoot(t *testing.T, tree json.RawMessage) []byte {
	t.Helper()
	if string(tree) == "null" {
		return nil
	}
	var pair []json.RawMessage
	if json.Unmarshal(tree, &pair) == nil {
		a, b := merkleRoot(t, pair[0]), merkleRoot(t, pair[1])
		if bytes.Compare(a, b) > 0 {
			a, b = b, a
		}
		h := TaggedHash("TapBranch", a, b)
		return h[:]
	}
	var leaf struct {
		Script      string
		LeafVersion byte
	}
	if err := json.Unmarshal(tree, &leaf); err != nil {
		t.Fatal(err)
	}
	script := unhex(t, leaf.Script)
	h := TaggedHash("TapLeaf", []byte{leaf.LeafVersion, byte(len(script))}, script)
	return h[:]
}

func TestTaprootOutputKeys(t *testing.T) {
	cases := loadWallet(t).ScriptPubKey
	if len(cases) != 7 {
		t.Fatalf("%d cases, want 7", len(cases))
	}
	for _, c := range cases {
		internal, err := ParseXOnly(unhex(t, c.Given.InternalPubkey))
		if err != nil {
			t.Fatal(err)
		}
		root := merkleRoot(t, c.Given.ScriptTree)
		if want := unhex(t, c.Intermediary.MerkleRoot); !bytes.Equal(root, want) {
			t.Errorf("root %x, want %x", root, want)
		}
		tweak := TaggedHash("TapTweak", internal[:], root)
		if !bytes.Equal(tweak[:], unhex(t, c.Intermediary.Tweak)) {
			t.Errorf("tweak %x, want %s", tweak, c.Intermediary.Tweak)
		}
		out, parity, err := OutputKey(internal, root)
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != c.Intermediary.TweakedPubkey || "5120"+out.String() != c.Expected.ScriptPubKey {
			t.Errorf("output key %s, want %s", out, c.Intermediary.TweakedPubkey)
		}
		for _, block := range c.Expected.ScriptPathControlBlocks {
			if got := unhex(t, block)[0] & 1; got != parity {
				t.Errorf("parity %d, want %d", parity, got)
			}
		}
	}
}

func TestTaprootKeyPath(t *testing.T) {
	cases := loadWallet(t).KeyPathSpending
	if len(cases) != 7 {
		t.Fatalf("%d cases, want 7", len(cases))
	}
	for _, c := range cases {
		internal := mustKey(t, unhex(t, c.Given.InternalPrivkey))
		if x := internal.PubKey().XOnly(); x.String() != c.Intermediary.InternalPubkey {
			t.Errorf("internal key %s", x)
		}
		// The tweaked secret key, as a wallet computes it.
		var d, tweak btcec.ModNScalar
		d.SetByteSlice(unhex(t, c.Given.InternalPrivkey))
		if internal.PubKey()[0] == 3 {
			d.Negate()
		}
		tweak.SetByteSlice(unhex(t, c.Intermediary.Tweak))
		b := d.Add(&tweak).Bytes()
		if !bytes.Equal(b[:], unhex(t, c.Intermediary.TweakedPrivkey)) {
			t.Errorf("tweaked key %x", b)
		}
		tweaked := mustKey(t, b[:])
		out, _, err := OutputKey(internal.PubKey().XOnly(), unhex(t, c.Given.MerkleRoot))
		if err != nil || out != tweaked.PubKey().XOnly() {
			t.Errorf("output key %s (%v)", out, err)
		}
		hash := unhex(t, c.Intermediary.SigHash)
		sig, err := tweaked.sign(bytes.NewReader(make([]byte, 32)), hash)
		if err != nil {
			t.Fatal(err)
		}
		want := unhex(t, c.Expected.Witness[0])
		if c.Given.HashType != 0 { // SIGHASH_DEFAULT appends nothing
			want = slices.Delete(want, 64, 65)
		}
		if !bytes.Equal(sig[:], want) {
			t.Errorf("signature %x, want %x", sig, want)
		}
		if !Verify(out, hash, sig) {
			t.Error("signature does not verify")
		}
	}
}
