package descriptor

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2/bech32"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

func key(t testing.TB, n byte) bip340.PubKey {
	t.Helper()
	k, err := bip340.NewKey(secret.New(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k.PubKey()
}

func params(t testing.TB) ark.Params {
	return ark.Params{Network: ark.Bitcoin, SignerKey: key(t, 2), ExitDelay: 86_016, BoardingDelay: 7_775_744}
}

func valid(t testing.TB) Descriptor {
	t.Helper()
	d, err := New(params(t), key(t, 1), key(t, 3).XOnly(), key(t, 4).XOnly(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDelays(t *testing.T) {
	d := valid(t)
	// Spec section 4: 90 days up to the next 512 s.
	if d.RecoveryDelay != 7_776_256 || d.BoardingRecoveryDelay != 7_775_744+7_776_256 {
		t.Errorf("recovery after %v, of boarding after %v", d.RecoveryDelay, d.BoardingRecoveryDelay)
	}
	p := params(t)
	p.Network, p.ExitDelay, p.BoardingDelay = ark.Regtest, 20, 30
	d, err := New(p, key(t, 1), key(t, 3).XOnly(), key(t, 4).XOnly(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if d.RecoveryDelay != 7_776_256 || d.BoardingRecoveryDelay != 7_776_768 {
		t.Errorf("on blocks: recovery after %v, of boarding after %v", d.RecoveryDelay, d.BoardingRecoveryDelay)
	}
}

// TestScripts spells the leaves out in bytes, so that no shared builder can be
// wrong on both sides.
func TestScripts(t *testing.T) {
	d := valid(t)
	push := func(k bip340.XOnly) []byte { return append([]byte{0x20}, k[:]...) }
	all := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	group, signer := push(d.Group.XOnly()), push(d.Signer)
	verify, check := []byte{0xad}, []byte{0xac}
	csv := func(n ...byte) []byte { return append(append([]byte{byte(len(n))}, n...), 0xb2, 0x75) }
	want := [][]byte{
		all(group, verify, signer, check),
		all(csv(0xa8, 0x00, 0x40), group, check), // 86,016 s = 168 units
		all(group, verify, push(d.Delegate), verify, signer, check),
		all(csv(0x54, 0x3b, 0x40), push(d.Recovery), check), // 7,776,256 s = 15,188 units
	}
	if got := d.Tree().Leaves(); !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("leaves are\n%x, want\n%x", got, want)
	}
	boarding := [][]byte{
		want[LeafForfeit],
		all(csv(0x53, 0x3b, 0x40), group, check),
		all(csv(0xa7, 0x76, 0x40), push(d.Recovery), check),
	}
	if got := d.Boarding().Leaves(); !slices.EqualFunc(got, boarding, bytes.Equal) {
		t.Errorf("boarding leaves are\n%x, want\n%x", got, boarding)
	}
	if got := d.TwoLeaf().Leaves(); !slices.EqualFunc(got, want[:2], bytes.Equal) {
		t.Errorf("two leaves are\n%x", got)
	}
	if script.NUMS.String() != "50929b74c1a04954b78b4b6035e97a5e078a5a0f28ec96d547bfee9ace803ac0" {
		t.Error("another internal key")
	}
	if !strings.HasPrefix(d.Address().String(), "ark1") || !strings.HasPrefix(d.BoardingAddress(), "bc1p") {
		t.Errorf("addresses %s, %s", d.Address(), d.BoardingAddress())
	}
	if a, err := ark.ParseAddress(d.Address().String()); err != nil || !bytes.Equal(a.PkScript(), d.PkScript()) || a.Signer != d.Signer {
		t.Errorf("address reads as %+v, %v", a, err)
	}
	if !bytes.Equal(d.BoardingPkScript(), d.Boarding().PkScript()) {
		t.Error("boarding script")
	}
}

// TestOperatorRules holds the scripts against the operator's rules as Vigil
// knows them; the operator's own are asked in arktest.
func TestOperatorRules(t *testing.T) {
	d := valid(t)
	rules := script.RulesOf(params(t), 0)
	rules.MinExit = d.ExitDelay
	if err := script.Validate(d.Tree(), rules); err != nil {
		t.Error(err)
	}
	rules.MinExit = d.BoardingDelay
	if err := script.Validate(d.Boarding(), rules); err != nil {
		t.Error(err)
	}
}

func TestRules(t *testing.T) {
	for name, spoil := range map[string]func(*Descriptor){
		"no network":                func(d *Descriptor) { d.Network = "" },
		"group off the curve":       func(d *Descriptor) { d.Group[0] = 5 },
		"zero recovery key":         func(d *Descriptor) { d.Recovery = bip340.XOnly{} },
		"recovery key off curve":    func(d *Descriptor) { d.Recovery = bip340.XOnly(bytes.Repeat([]byte{0xff}, 32)) },
		"recovery is the group":     func(d *Descriptor) { d.Recovery = d.Group.XOnly() },
		"delegate is the operator":  func(d *Descriptor) { d.Delegate = d.Signer },
		"delegate is the group":     func(d *Descriptor) { d.Delegate = d.Group.XOnly() },
		"recovery is the delegate":  func(d *Descriptor) { d.Recovery = d.Delegate },
		"no exit delay":             func(d *Descriptor) { d.ExitDelay = 0 },
		"odd exit delay":            func(d *Descriptor) { d.ExitDelay = 86_400 },
		"blocks on bitcoin":         func(d *Descriptor) { d.ExitDelay = 144 },
		"recovery in blocks":        func(d *Descriptor) { d.Network, d.RecoveryDelay = ark.Regtest, 500 },
		"recovery one unit early":   func(d *Descriptor) { d.RecoveryDelay = (86_016 + MinMargin) / 512 * 512 },
		"boarding recovery early":   func(d *Descriptor) { d.BoardingRecoveryDelay = d.BoardingDelay },
		"recovery above BIP-68":     func(d *Descriptor) { d.RecoveryDelay = ark.MaxDelay + 512 },
		"recovery not in whole 512": func(d *Descriptor) { d.RecoveryDelay++ },
	} {
		d := valid(t)
		spoil(&d)
		if err := d.Check(); !errors.Is(err, ErrDescriptor) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "no network" {
			if d.Encode() != nil || d.String() != "" {
				t.Error("a descriptor without network has an encoding")
			}
			continue
		}
		if _, err := Decode(d.Encode()); !errors.Is(err, ErrDescriptor) {
			t.Errorf("%s: decoded: %v", name, err)
		}
	}
	// The first recovery delay that is late enough.
	d := valid(t)
	d.RecoveryDelay = (86_016 + MinMargin + 511) / 512 * 512
	if err := d.Check(); err != nil {
		t.Error(err)
	}
}

func TestForms(t *testing.T) {
	for _, n := range networks() {
		d := valid(t)
		d.Network = n
		b := d.Encode()
		if len(b) != Size {
			t.Fatalf("%d bytes", len(b))
		}
		if got, err := Decode(b); err != nil || got != d {
			t.Errorf("%s: %+v, %v", n, got, err)
		}
		s := d.String()
		if len(s) > maxText {
			t.Fatalf("%d characters", len(s))
		}
		for _, text := range []string{s, strings.ToUpper(s)} {
			if got, err := Parse(text); err != nil || got != d {
				t.Errorf("%s: %+v, %v", text, got, err)
			}
		}
	}
}

// TestKnownAnswer pins the forms: a backup must be readable by every later version.
func TestKnownAnswer(t *testing.T) {
	const text = "vigil1qyqqxxuyc4t8kynygzv460k442aq2ewhrcvrgczgr8lec9l4a82a6pu0f49ke5fkzqev4x7j46uajq92f4zan6kcpty5yvm5c3g6wf2dqan9x8lxq6qng5payu33xv38epn6eraxeq79xl56gnput0daev07xd6xyau66j4d89g5v9r4rfcsshe0zrsu0fvnunsrpma4hpepee2mpvqqz5qqqpm2vqqqw65qqq8dfcq9zxm2shlnuttg3wcuau"
	d := valid(t)
	if d.String() != text {
		t.Errorf("%s", d)
	}
	if got, err := Parse(text); err != nil || got != d {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestDamage changes every byte of the binary form, and every character of the
// text form.
func TestDamage(t *testing.T) {
	b := valid(t).Encode()
	for i := range b {
		for _, bit := range []byte{1, 0x80} {
			c := bytes.Clone(b)
			c[i] ^= bit
			if _, err := Decode(c); !errors.Is(err, ErrDescriptor) {
				t.Errorf("byte %d: %v", i, err)
			}
		}
	}
	for n := range b {
		if _, err := Decode(b[:n]); !errors.Is(err, ErrDescriptor) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	s := valid(t).String()
	for i := range s {
		c := []byte(s)
		if c[i]++; c[i] == 'b'-1 || c[i] == 'z'+1 {
			c[i] = 'q'
		}
		if _, err := Parse(string(c)); !errors.Is(err, ErrDescriptor) && string(c) != s {
			t.Errorf("character %d: %v", i, err)
		}
	}
}

// TestOtherForms: what a good checksum stands on, and yet is no descriptor.
func TestOtherForms(t *testing.T) {
	d := valid(t)
	for name, change := range map[string]func(b []byte){
		"a later format":     func(b []byte) { b[0] = 2 },
		"an unknown network": func(b []byte) { b[1] = 6 },
	} {
		b := d.Encode()
		change(b)
		copy(b[Size-sumLen:], checksum(b[:Size-sumLen]))
		if _, err := Decode(b); !errors.Is(err, ErrDescriptor) {
			t.Errorf("%s: %v", name, err)
		}
	}
	words, err := bech32.ConvertBits(d.Encode(), 8, 5, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, hrp := range []string{"tvigil", "ark", "vigil2"} {
		text, err := bech32.EncodeM(hrp, words)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(text); !errors.Is(err, ErrDescriptor) || !strings.Contains(err.Error(), "prefix") {
			t.Errorf("%s: %v", hrp, err)
		}
	}
	text, err := bech32.Encode("vigil", words)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(text); !errors.Is(err, ErrDescriptor) || !strings.Contains(err.Error(), "bech32m") {
		t.Errorf("bech32: %v", err)
	}
	if _, err := Parse(strings.Repeat("q", maxText+1)); !errors.Is(err, ErrDescriptor) || !strings.Contains(err.Error(), "301 characters") {
		t.Error(err)
	}
	if got := (Descriptor{}).BoardingAddress(); got != "" {
		t.Errorf("no network has the address %s", got)
	}
}

func FuzzParse(f *testing.F) {
	d := valid(f)
	f.Add(d.String())
	d.Network = ark.Regtest
	f.Add(d.String())
	f.Add("vigil1qqqqqqqq")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrDescriptor) {
				t.Fatal(err)
			}
			return
		}
		if err := d.Check(); err != nil || d.String() != strings.ToLower(s) {
			t.Fatalf("%s reads as %s, %v", s, d, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(valid(f).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum would hide everything behind it from the fuzzer.
		if len(b) == Size {
			copy(b[Size-sumLen:], checksum(b[:Size-sumLen]))
		}
		d, err := Decode(b)
		if err == nil && !bytes.Equal(d.Encode(), b) {
			t.Fatal("another encoding")
		}
	})
}
