package ark

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark/internal/vector"
)

type encodingCase struct {
	Addr              string
	ExpectedPrefix    string
	ExpectedUserKey   string
	ExpectedServerKey string

	HRP, Str         string
	ExpectedPreimage string
	ExpectedValue    uint32
}

func TestEncodingVectors(t *testing.T) {
	f := vector.Open(t, "encoding.json")
	vector.Count(t, f, map[string]map[string]int{
		"address/valid": {"ts": 1}, "address/invalid": {"ts": 2}, "note/valid": {"ts": 4}, "note/invalid": {"ts": 2},
	})
	vector.Each(t, f, "address/valid", func(c encodingCase) {
		a, err := ParseAddress(c.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if a.HRP != c.ExpectedPrefix || a.Key.String() != c.ExpectedUserKey[2:] || a.Signer.String() != c.ExpectedServerKey[2:] {
			t.Errorf("%s: %+v", c.Addr, a)
		}
		if a.String() != c.Addr {
			t.Errorf("encoded %s", a)
		}
		if up, err := ParseAddress(strings.ToUpper(c.Addr)); err != nil || up != a {
			t.Errorf("upper case: %v, %v", up, err)
		}
	})
	vector.Each(t, f, "address/invalid", func(c encodingCase) {
		if _, err := ParseAddress(c.Addr); !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %v", c.Addr, err)
		}
	})
	vector.Each(t, f, "note/valid", func(c encodingCase) {
		n, err := ParseNote(c.HRP, c.Str)
		if err != nil || hex.EncodeToString(n.Preimage[:]) != c.ExpectedPreimage || n.Value != c.ExpectedValue {
			t.Errorf("%s: %x, %d, %v", c.Str, n.Preimage, n.Value, err)
		}
		if n.Encode(c.HRP) != c.Str {
			t.Errorf("encoded %s", n.Encode(c.HRP))
		}
		if n.Outpoint().Hash != chainhash.Hash(n.Hash()) {
			t.Error("outpoint")
		}
	})
	vector.Each(t, f, "note/invalid", func(c encodingCase) {
		if _, err := ParseNote(NotePrefix, c.Str); !errors.Is(err, ErrNote) {
			t.Errorf("%s: %v", c.Str, err)
		}
	})
}

// The stock SDK's addresses, and the scripts that they stand for.
func TestSDKAddresses(t *testing.T) {
	var v struct {
		XOnly   map[string]string
		Scripts []struct {
			PkScript string
			Tark     string `json:"address_tark"`
			Ark      string `json:"address_ark"`
		}
		DelegateAddress string
	}
	vector.Load(t, "delegate.json", &v)
	for _, s := range v.Scripts {
		for _, text := range []string{s.Tark, s.Ark} {
			a, err := ParseAddress(text)
			if err != nil {
				t.Fatal(err)
			}
			if hex.EncodeToString(a.PkScript()) != s.PkScript || a.Signer.String() != v.XOnly["server"] || a.String() != text {
				t.Errorf("%s: %+v", text, a)
			}
		}
	}
	if _, err := ParseAddress(v.DelegateAddress); err != nil || len(v.Scripts) != 4 {
		t.Errorf("%d scripts, %v", len(v.Scripts), err)
	}
}

func TestAddressRefuses(t *testing.T) {
	const good = "tark1qqellv77udfmr20tun8dvju5vgudpf9vxe8jwhthrkn26fz96pawqfdy8nk05rsmrf8h94j26905e7n6sng8y059z8ykn2j5xcuw4xt846qj6x"
	for name, s := range map[string]string{
		"empty":        "",
		"mixed case":   "T" + good[1:],
		"one changed":  good[:40] + "q" + good[41:],
		"truncated":    good[:len(good)-1],
		"on-chain":     "bcrt1p8he6quupc707es8e8jzd9h2k3swd5gfq870fvzz5prhh6qjugd4sktqd8t",
		"very long":    good + strings.Repeat("q", 1<<20),
		"other prefix": "lark" + good[4:],
	} {
		if _, err := ParseAddress(s); !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := (Address{}).String(); s != "" {
		t.Errorf("the zero address is %q", s)
	}
}

func TestScripts(t *testing.T) {
	a, err := ParseAddress("tark1qqellv77udfmr20tun8dvju5vgudpf9vxe8jwhthrkn26fz96pawqfdy8nk05rsmrf8h94j26905e7n6sng8y059z8ykn2j5xcuw4xt846qj6x")
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := TaprootKey(a.PkScript()); !ok || k != a.Key {
		t.Error("P2TR")
	}
	if k, ok := SubDustKey(SubDust(a.Key)); !ok || k != a.Key {
		t.Error("sub-dust")
	}
	if _, ok := TaprootKey(SubDust(a.Key)); ok {
		t.Error("sub-dust is P2TR")
	}
	if _, ok := TaprootKey(a.PkScript()[:33]); ok {
		t.Error("a short script is P2TR")
	}
	if !IsAnchor(AnchorOut()) || IsAnchor(wire.NewTxOut(1, []byte(Anchor))) || IsAnchor(nil) {
		t.Error("anchor")
	}
}

func TestNetworks(t *testing.T) {
	for name, prefix := range map[string]string{
		"bitcoin": "bc1", "testnet": "tb1", "testnet4": "tb1", "signet": "tb1", "mutinynet": "tb1", "regtest": "bcrt1",
	} {
		n, err := ParseNetwork(name)
		if err != nil {
			t.Fatal(err)
		}
		addr, err := address.NewAddressWitnessPubKeyHash(make([]byte, 20), n.ChainParams())
		if err != nil || !strings.HasPrefix(addr.EncodeAddress(), prefix) {
			t.Errorf("%s: %v, %v", name, addr, err)
		}
		if (n.HRP() == "ark") != (name == "bitcoin") || n.AllowsBlocks() != (name == "regtest") {
			t.Errorf("%s: %s, %v", name, n.HRP(), n.AllowsBlocks())
		}
	}
	for _, name := range []string{"", "Bitcoin", "mainnet", "liquid"} {
		if _, err := ParseNetwork(name); !errors.Is(err, ErrNetwork) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if Network("").ChainParams() != nil {
		t.Error("the zero network has parameters")
	}
}

func TestDelays(t *testing.T) {
	for _, c := range []struct {
		v      int64
		seq    uint32
		blocks bool
	}{
		{1, 1, true}, {20, 20, true}, {511, 511, true},
		{512, 0x400001, false}, {86016, 0x4000a8, false}, {604672, 0x40049d, false}, {int64(MaxDelay), 0x40ffff, false},
	} {
		d, err := ParseDelay(c.v)
		if err != nil || d.Sequence() != c.seq || d.IsBlocks() != c.blocks || d.Seconds() != c.v {
			t.Errorf("%d: %v, sequence %#x, %v", c.v, d, d.Sequence(), err)
		}
		if back, err := DelayFromSequence(c.seq); err != nil || back != d {
			t.Errorf("sequence %#x: %v, %v", c.seq, back, err)
		}
	}
	for _, v := range []int64{0, -1, 513, 86400, int64(MaxDelay) + 512, 1 << 40} {
		if _, err := ParseDelay(v); !errors.Is(err, ErrDelay) {
			t.Errorf("%d: %v", v, err)
		}
	}
	for _, seq := range []uint32{0, 512, 0xffffffff, 0x80000001, 0x400000, 0x800001} {
		if _, err := DelayFromSequence(seq); !errors.Is(err, ErrDelay) {
			t.Errorf("sequence %#x: %v", seq, err)
		}
	}
	if Delay(20).String() != "20 blocks" || Delay(512).String() != "512 s" {
		t.Error("text")
	}
}

func TestOutpoints(t *testing.T) {
	const txid = "f4f459e7c3c2e2524027b54462d30c502d44fa9a21fc6c68fb44cdaaf821dbbc"
	for _, s := range []string{txid + ":0", txid + ":4294967295"} {
		op, err := ParseOutpoint(s)
		if err != nil || op.String() != s {
			t.Errorf("%s: %s, %v", s, op, err)
		}
	}
	for _, s := range []string{"", txid, txid + ":", txid + ":-1", txid + ":+1", txid + ":01", txid + ":4294967296", txid[1:] + ":0", "z" + txid[1:] + ":0", txid + ":0:0"} {
		if _, err := ParseOutpoint(s); !errors.Is(err, ErrOutpoint) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// The table of protocol section 7.4.
func TestVTXOStates(t *testing.T) {
	const now = 1000
	live := VTXO{ExpiresAt: now, CommitmentTxs: make([]chainhash.Hash, 1)}
	for _, c := range []struct {
		name                 string
		change               func(*VTXO)
		recoverable, forfeit bool
	}{
		{"settled", func(*VTXO) {}, false, true},
		{"preconfirmed", func(v *VTXO) { v.Preconfirmed = true }, false, true},
		{"expired", func(v *VTXO) { v.ExpiresAt = now - 1 }, true, false},
		{"swept", func(v *VTXO) { v.Swept = true }, true, false},
		{"spent", func(v *VTXO) { v.Spent, v.Swept = true, true }, false, false},
		{"unrolled", func(v *VTXO) { v.Unrolled, v.ExpiresAt = true, 0 }, false, false},
		{"note", func(v *VTXO) { v.CommitmentTxs = nil }, false, false},
	} {
		v := live
		c.change(&v)
		if v.Recoverable(now) != c.recoverable || v.NeedsForfeit(now) != c.forfeit {
			t.Errorf("%s: recoverable %v, needs forfeit %v", c.name, v.Recoverable(now), v.NeedsForfeit(now))
		}
	}
	if v := (VTXO{Amount: 330}); v.SubDust(330) || !v.SubDust(331) {
		t.Error("sub-dust")
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("tark1qqellv77udfmr20tun8dvju5vgudpf9vxe8jwhthrkn26fz96pawqfdy8nk05rsmrf8h94j26905e7n6sng8y059z8ykn2j5xcuw4xt846qj6x")
	f.Add("ark1qprx6l72u437tjcf5rgcwza4sq6ysprp0pu6zj2feu3zshcm4cljwygkfulujuytlnrj8l4v6fm9n4hp0fwk9sr2r8pxdd3u73m3c8darqz6sr")
	f.Add("bcrt1p8he6quupc707es8e8jzd9h2k3swd5gfq870fvzz5prhh6qjugd4sktqd8t")
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := ParseAddress(s); err == nil && a.String() != strings.ToLower(s) {
			t.Fatalf("%q re-encodes to %q", s, a)
		}
	})
}

func FuzzOutpoint(f *testing.F) {
	f.Add("f4f459e7c3c2e2524027b54462d30c502d44fa9a21fc6c68fb44cdaaf821dbbc:7")
	f.Add(":")
	f.Fuzz(func(t *testing.T, s string) {
		if op, err := ParseOutpoint(s); err == nil && op.String() != strings.ToLower(s) {
			t.Fatalf("%q re-encodes to %q", s, op)
		}
	})
}

func FuzzNote(f *testing.F) {
	f.Add("arknote8rFzGqZsG9RCLripA6ez8d2hQEzFKsqCeiSnXhQj56Ysw7ZQT")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseNote(NotePrefix, s); err == nil && n.Encode(NotePrefix) != s {
			t.Fatalf("%q re-encodes to %q", s, n.Encode(NotePrefix))
		}
	})
}
