package script

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/internal/vector"
	"github.com/vigil-ark/vigil/bip340"
)

type vtxoCase struct {
	Name              string
	Scripts           []string
	TaprootKey        string
	ServerKey         string
	SmallestExitDelay *struct{ Type, Value int64 }
}

func decodeLeaves(t testing.TB, hexes []string) [][]byte {
	t.Helper()
	leaves := make([][]byte, len(hexes))
	for i, s := range hexes {
		leaves[i] = vector.Hex(t, s)
	}
	return leaves
}

func TestVTXOScriptVectors(t *testing.T) {
	f := vector.Open(t, "vtxoscript.json")
	vector.Count(t, f, map[string]map[string]int{"cases": {"arkd": 4, "ts": 10}})
	vector.Each(t, f, "cases", func(c vtxoCase) {
		tree, err := NewTree(decodeLeaves(t, c.Scripts))
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if got := tree.OutputKey().String(); got != c.TaprootKey {
			t.Errorf("%s: output key %s, want %s", c.Name, got, c.TaprootKey)
		}
		checkTree(t, tree)
		if c.ServerKey == "" {
			return
		}
		cs, err := tree.Closures()
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		exit, err := SmallestExit(cs)
		if err != nil || exit != c.SmallestExitDelay.Value {
			t.Errorf("%s: smallest exit %d, %v", c.Name, exit, err)
		}
		rules := Rules{Signer: bip340.XOnly(vector.Hex(t, c.ServerKey)[1:]), Blocks: true, MinExit: ark.Delay(exit)}
		if err := Validate(tree, rules); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		rules.Signer[0] ^= 1
		if err := Validate(tree, rules); !errors.Is(err, ErrVTXOScript) {
			t.Errorf("%s: another signer: %v", c.Name, err)
		}
	})
}

// checkTree proves every leaf and reads the leaf list back.
func checkTree(t *testing.T, tree Tree) {
	t.Helper()
	for i := range tree.Len() {
		leaf, cb := tree.LeafProof(i)
		if err := VerifyLeaf(tree.PkScript(), leaf, cb); err != nil {
			t.Errorf("leaf %d: %v", i, err)
		}
		cb[0] ^= 1
		if VerifyLeaf(tree.PkScript(), leaf, cb) == nil {
			t.Errorf("leaf %d: wrong parity passes", i)
		}
		cb[0] ^= 1
		cb[1] ^= 1
		if VerifyLeaf(tree.PkScript(), leaf, cb) == nil {
			t.Errorf("leaf %d: another internal key passes", i)
		}
	}
	again, err := ParseTapTree(tree.TapTreeField())
	if err != nil || again.OutputKey() != tree.OutputKey() {
		t.Errorf("leaf list: %v", err)
	}
}

type sdkScripts struct {
	XOnly      map[string]string
	Scripts    []sdkScript
	Boarding   struct{ PkScript string }
	Delegate   string `json:"delegateAddress"`
	Checkpoint string `json:"checkpointTapscript"`
}

type sdkScript struct {
	Name, PkScript, TweakedKey, TapTree string
	Leaves                              []string
	Tark                                string `json:"address_tark"`
	Ark                                 string `json:"address_ark"`
	LeavesControl                       []struct{ ControlBlock, Script string }
}

func TestSDKScripts(t *testing.T) {
	var v sdkScripts
	vector.Load(t, "delegate.json", &v)
	if len(v.Scripts) != 4 {
		t.Fatalf("%d scripts, want 4", len(v.Scripts))
	}
	key := func(name string) bip340.XOnly { return bip340.XOnly(vector.Hex(t, v.XOnly[name])) }
	owner, signer, delegate := key("owner"), key("server"), key("delegate")
	build := map[string]func() (Tree, error){
		"default seconds 86016":  func() (Tree, error) { return Default(owner, signer, 86016) },
		"default blocks 20":      func() (Tree, error) { return Default(owner, signer, 20) },
		"delegate seconds 86016": func() (Tree, error) { return Delegate(owner, delegate, signer, 86016) },
		"delegate blocks 20":     func() (Tree, error) { return Delegate(owner, delegate, signer, 20) },
	}
	for _, s := range v.Scripts {
		tree, err := build[s.Name]()
		if err != nil {
			t.Fatal(err)
		}
		for i, leaf := range tree.Leaves() {
			if hex.EncodeToString(leaf) != s.Leaves[i] {
				t.Errorf("%s: leaf %d is %x", s.Name, i, leaf)
			}
			if _, cb := tree.LeafProof(i); hex.EncodeToString(cb) != s.LeavesControl[i].ControlBlock {
				t.Errorf("%s: control block %d is %x", s.Name, i, cb)
			}
		}
		if hex.EncodeToString(tree.PkScript()) != s.PkScript {
			t.Errorf("%s: pkScript %x", s.Name, tree.PkScript())
		}
		if hex.EncodeToString(tree.TapTreeField()) != s.TapTree {
			t.Errorf("%s: taptree %x", s.Name, tree.TapTreeField())
		}
		checkTree(t, tree)
		for hrp, want := range map[string]string{"ark": s.Ark, "tark": s.Tark} {
			a := ark.Address{HRP: hrp, Signer: signer, Key: tree.OutputKey()}
			if a.String() != want {
				t.Errorf("%s: address %s, want %s", s.Name, a, want)
			}
		}
	}
	boarding, err := Boarding(owner, signer, 30)
	if err != nil || hex.EncodeToString(boarding.PkScript()) != v.Boarding.PkScript {
		t.Errorf("boarding: %x, %v", boarding.PkScript(), err)
	}
	if leaf := SweepLeaf(key("forfeit"), 10); hex.EncodeToString(leaf) != v.Checkpoint {
		t.Errorf("checkpoint leaf %x", leaf)
	}
}

// The example of protocol section 5.4.
func TestSweepLeaf(t *testing.T) {
	var v sdkScripts
	vector.Load(t, "delegate.json", &v)
	leaf := SweepLeaf(bip340.XOnly(vector.Hex(t, v.XOnly["forfeit"])), 40)
	hash := LeafHash(leaf)
	if got := hex.EncodeToString(hash[:]); got != "2d4b543c3587f67240e6d940ba904bedce150dcfcfa0bca74120acb47ae62e52" {
		t.Errorf("sweep leaf %x hashes to %s", leaf, got)
	}
}

// The five-leaf escrow whose address the rust SDK's tests know (section 9).
func TestEscrowAddress(t *testing.T) {
	key := func(b byte) bip340.XOnly { return pubKeyOf(t, b) }
	server, arbiter, alice, bob := key(1), key(2), key(3), key(4)
	keys := func(k ...bip340.XOnly) Multisig { return Multisig{PubKeys: k} }
	tree, err := NewTree([][]byte{
		keys(server, arbiter, alice).Script(),
		keys(server, arbiter, bob).Script(),
		CLTVMultisig{keys(server, arbiter), 1750000000}.Script(),
		keys(server, alice, bob).Script(),
		CSVMultisig{keys(alice, bob), ark.Delay(512).Sequence()}.Script(),
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = "ark1qqdcf32k0vfxgsyet5ldt246q4jaw8scx3sysx0lnstlt6w4m5rclv2zhfqtr8zgxsw3erprwh0z7vg6uyg75n229y8kn0d4yjew75z35ddvjs"
	if got := (ark.Address{HRP: "ark", Signer: server, Key: tree.OutputKey()}).String(); got != want {
		t.Errorf("address %s", got)
	}
	checkTree(t, tree)
	if _, err := tree.Closures(); err != nil {
		t.Error(err)
	}
	// A height and a delay in blocks are for regtest only.
	blocks, err := NewTree([][]byte{CLTVMultisig{keys(server), 100}.Script()})
	if err != nil {
		t.Fatal(err)
	}
	if err := Validate(blocks, Rules{Signer: server}); !errors.Is(err, ErrVTXOScript) {
		t.Errorf("height: %v", err)
	}
	if err := Validate(blocks, Rules{Signer: server, Blocks: true}); err != nil {
		t.Errorf("height on regtest: %v", err)
	}
	dep := ark.DeprecatedSigner{Key: arbiter.PubKey(), Cutoff: 50}
	if err := Validate(tree, Rules{Signer: bob, Deprecated: []ark.DeprecatedSigner{dep}, Now: 40}); !errors.Is(err, ErrVTXOScript) {
		t.Errorf("a leaf lacks the deprecated signer: %v", err)
	}
	old, err := Default(alice, arbiter, 512)
	if err != nil {
		t.Fatal(err)
	}
	for now, ok := range map[int64]bool{50: true, 51: false} {
		err := Validate(old, Rules{Signer: bob, Deprecated: []ark.DeprecatedSigner{dep}, Now: now})
		if (err == nil) != ok {
			t.Errorf("deprecated signer at %d: %v", now, err)
		}
	}
	if err := Validate(old, Rules{Signer: arbiter, MinExit: 1024}); !errors.Is(err, ErrVTXOScript) {
		t.Errorf("short exit: %v", err)
	}
}

func TestTapTreeRefuses(t *testing.T) {
	leaf := []byte{1, 2, 3}
	good, err := NewTree([][]byte{leaf})
	if err != nil {
		t.Fatal(err)
	}
	field := good.TapTreeField()
	many := bytes.Repeat(field, MaxLeaves+1)
	for name, b := range map[string][]byte{
		"empty":         nil,
		"other version": {1, 0xc2, 1, 1},
		"truncated":     field[:len(field)-1],
		"short head":    field[:2],
		"empty leaf":    {1, 0xc0, 0},
		"huge length":   {1, 0xc0, 0xff, 255, 255, 255, 255, 255, 255, 255, 255},
		"too many":      many,
	} {
		if _, err := ParseTapTree(b); !errors.Is(err, ErrTapTree) {
			t.Errorf("%s: %v", name, err)
		}
	}
	deep := append([]byte{9}, field[1:]...) // depths are ignored
	if got, err := ParseTapTree(deep); err != nil || got.OutputKey() != good.OutputKey() {
		t.Errorf("other depth: %v", err)
	}
	// Two leaves alike are still two leaves.
	twin, err := NewTree([][]byte{leaf, leaf, {4}})
	if err != nil {
		t.Fatal(err)
	}
	checkTree(t, twin)
	if s, cb := good.LeafProof(1); s != nil || cb != nil {
		t.Error("proof of a leaf that is not there")
	}
}

// A reader that knows a tree finds in its inputs what one finds that does not, and
// takes nothing else for it.
func TestReaderKnows(t *testing.T) {
	tree, err := Default(pubKeyOf(t, 1), pubKeyOf(t, 2), 512)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Default(pubKeyOf(t, 3), pubKeyOf(t, 2), 512)
	if err != nil {
		t.Fatal(err)
	}
	knows := NewReader()
	knows.Know(tree)
	for i := range tree.Len() {
		in := psbt.PInput{WitnessUtxo: wire.NewTxOut(1, tree.PkScript())}
		if err := SetLeaf(&in, tree, i); err != nil {
			t.Fatal(err)
		}
		SetTapTree(&in, tree)
		got, err := knows.Spend(&in)
		want, refused := NewReader().Spend(&in)
		if err != nil || refused != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("leaf %d: %+v and %+v, %v, %v", i, got, want, err, refused)
		}
		read, err := knows.TapTree(&in)
		parsed, refused := NewReader().TapTree(&in)
		if err != nil || refused != nil || !reflect.DeepEqual(read, parsed) {
			t.Errorf("leaf %d: %+v and %+v, %v, %v", i, read, parsed, err, refused)
		}
		in.WitnessUtxo.PkScript = other.PkScript()
		if _, err := knows.Spend(&in); !errors.Is(err, ErrSpend) {
			t.Errorf("leaf %d of another script: %v", i, err)
		}
		in.WitnessUtxo.PkScript = tree.PkScript()
		in.TaprootLeafScript[0].ControlBlock[0] ^= 1
		if _, err := knows.Spend(&in); !errors.Is(err, ErrSpend) {
			t.Errorf("leaf %d under the other parity: %v", i, err)
		}
	}
}
