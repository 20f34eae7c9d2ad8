package tapscript

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/txscript/v2"

	"github.com/vigil-ark/vigil/arktest/internal/vector"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVtxoScripts(t *testing.T) {
	cases := vector.Cases[struct {
		Name       string
		Scripts    []string
		TaprootKey string
		ServerKey  string
		Smallest   *struct {
			Type  int
			Value uint32
		} `json:"smallestExitDelay"`
	}](t, "vtxoscript.json", "cases")
	if len(cases) != 12 {
		t.Errorf("%d cases, want 12", len(cases))
	}
	for _, c := range cases {
		var leaves [][]byte
		for _, s := range c.Scripts {
			leaves = append(leaves, unhex(t, s))
		}
		key := XOnly(Tree{Leaves: leaves}.OutputKey())
		if c.TaprootKey != "" && hex.EncodeToString(key[:]) != c.TaprootKey {
			t.Errorf("%s: key %x, want %s", c.Name, key, c.TaprootKey)
		}
		if c.Smallest == nil || c.ServerKey == "" {
			continue
		}
		tree, err := NewTree(leaves)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		exit, err := tree.SmallestExit()
		if err != nil || exit.Value != c.Smallest.Value || exit.Seconds != (c.Smallest.Type == 0) {
			t.Errorf("%s: smallest exit %v (%v), want %v", c.Name, exit, err, c.Smallest)
		}
	}
}

func keys(t *testing.T, n int) (out [][32]byte) {
	t.Helper()
	for range n {
		k, err := btcec.NewPrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, XOnly(k.PubKey()))
	}
	return out
}

func TestClosuresRoundTrip(t *testing.T) {
	k := keys(t, 3)
	condition := []byte{txscript.OP_SHA256, txscript.OP_DATA_1, 7, txscript.OP_EQUAL}
	for name, c := range map[string]Closure{
		"multisig":      {Kind: Multisig, Keys: k},
		"one key":       {Kind: Multisig, Keys: k[:1]},
		"add":           {Kind: Multisig, Keys: k, Add: true},
		"csv seconds":   {Kind: CSVMultisig, Keys: k[:1], Delay: NewDelay(86016)},
		"csv blocks":    {Kind: CSVMultisig, Keys: k[:1], Delay: NewDelay(20)},
		"csv few":       {Kind: CSVMultisig, Keys: k[:1], Delay: NewDelay(10)},
		"cltv":          {Kind: CLTVMultisig, Keys: k, Locktime: 1_750_000_000},
		"condition":     {Kind: ConditionMultisig, Keys: k, Condition: condition},
		"condition csv": {Kind: ConditionCSVMultisig, Keys: k, Condition: condition, Delay: NewDelay(512)},
	} {
		script, err := c.Script()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := Decode(script)
		if err != nil || got.Kind != c.Kind || len(got.Keys) != len(c.Keys) || got.Delay != c.Delay || got.Locktime != c.Locktime {
			t.Errorf("%s: decoded as %+v (%v)", name, got, err)
		}
		for i, cut := range [][]byte{script[:len(script)-1], append(script[:len(script):len(script)], 0x51), append([]byte{0x51}, script...)} {
			if _, err := Decode(cut); err == nil && (i < 2 || c.Condition == nil) { // a condition may begin with anything
				t.Errorf("%s: %x decodes", name, cut)
			}
		}
	}
}

// TestSpecExamples: the worked values of protocol section 3.1.
func TestSpecExamples(t *testing.T) {
	for _, c := range []struct {
		setting uint32
		want    string
	}{{20, "14"}, {86016, "a80040"}, {604672, "9d0440"}, {40, "28"}} {
		if got := hex.EncodeToString(scriptNum(int64(NewDelay(c.setting).MustSequence()))); got != c.want {
			t.Errorf("delay %d is %s, want %s", c.setting, got, c.want)
		}
	}
	if got, ok := InputLock(NewDelay(1024).MustSequence()); !ok || got != 1023 {
		t.Errorf("an input lock of 1024 s counts as %d, want 1023", got)
	}
	if _, ok := InputLock(0xffffffff); ok {
		t.Error("the final sequence is a lock")
	}
}

func TestValidateFor(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	priv, err := btcec.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	old, err := btcec.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	owner := keys(t, 1)[0]
	tree := func(signer *btcec.PublicKey, exit uint32) Tree {
		a, _ := Closure{Kind: Multisig, Keys: [][32]byte{owner, XOnly(signer)}}.Script()
		b, _ := Closure{Kind: CSVMultisig, Keys: [][32]byte{owner}, Delay: NewDelay(exit)}.Script()
		out, err := NewTree([][]byte{a, b})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for name, c := range map[string]struct {
		tree Tree
		old  []Deprecated
		want string
	}{
		"current":     {tree(priv.PubKey(), 512), nil, ""},
		"short exit":  {tree(priv.PubKey(), 20), nil, ErrBlockCSV.Error()},
		"stranger":    {tree(old.PubKey(), 512), nil, ErrNoSigner.Error()},
		"deprecated":  {tree(old.PubKey(), 512), []Deprecated{{Key: old.PubKey()}}, ""},
		"before":      {tree(old.PubKey(), 512), []Deprecated{{old.PubKey(), now.Add(time.Second)}}, ""},
		"past cutoff": {tree(old.PubKey(), 512), []Deprecated{{old.PubKey(), now.Add(-time.Second)}}, "is a deprecated key since"},
		"long enough": {tree(priv.PubKey(), 1024), nil, ""},
	} {
		err := c.tree.ValidateFor(priv.PubKey(), c.old, now, NewDelay(512), false)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x51})
	f.Add(NoteScript(make([]byte, 32)))
	k := make([]byte, 32)
	k[31] = 1
	s, _ := Closure{Kind: Multisig, Keys: [][32]byte{[32]byte(k)}}.Script()
	f.Add(s)
	f.Fuzz(func(t *testing.T, script []byte) {
		c, err := Decode(script)
		if err != nil {
			return
		}
		again, err := c.Script()
		if err != nil || string(again) != string(script) {
			t.Errorf("%x decodes but encodes as %x (%v)", script, again, err)
		}
	})
}

func FuzzTapTree(f *testing.F) {
	f.Add(EncodeTapTree([][]byte{{0x51}, {0x52, 0x53}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		leaves, err := decodeTapTree(raw)
		if err != nil {
			return
		}
		again, err := decodeTapTree(EncodeTapTree(leaves))
		if err != nil || len(again) != len(leaves) {
			t.Errorf("%x does not survive a round trip: %v", raw, err)
		}
	})
}
