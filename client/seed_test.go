package client

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cosmos/go-bip39"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// TestPhrases holds the words and the master seed to the test vectors that BIP-39
// names, from trezor/python-mnemonic (MIT).
func TestPhrases(t *testing.T) {
	for _, c := range []struct{ entropy, words string }{
		{"00000000000000000000000000000000", "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"},
		{"7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f", "legal winner thank year wave sausage worth useful legal winner thank yellow"},
		{"80808080808080808080808080808080", "letter advice cage absurd amount doctor acoustic avoid letter advice cage above"},
		{"ffffffffffffffffffffffffffffffff", "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong"},
	} {
		raw, err := hex.DecodeString(c.entropy)
		if err != nil {
			t.Fatal(err)
		}
		words, err := bip39.NewMnemonic(raw)
		if err != nil || words != c.words {
			t.Errorf("%s: %q, %v", c.entropy, words, err)
		}
	}
	// The master seed of the first without a passphrase, as every wallet shows it.
	seed, err := bip39.NewSeedWithErrorChecking(strings.Repeat("abandon ", 11)+"about", "")
	if want := "5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc19a5ac40b389cd370d086206dec8aa6c43daea6690f20ad3d8d48b2d2ce9e38e4"; err != nil || hex.EncodeToString(seed) != want {
		t.Errorf("master seed %x, %v", seed, err)
	}
}

func parse(t *testing.T, words string) Seed {
	t.Helper()
	s, err := ParseSeed(secret.New([]byte(words)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestParseSeed takes phrases as people type them, and no others.
func TestParseSeed(t *testing.T) {
	good := strings.Repeat("abandon ", 11) + "about"
	s := parse(t, "  "+strings.ReplaceAll(good, " ", "\n\t")+"\n")
	if err := s.Words(func(b []byte) error {
		if string(b) != good {
			return fmt.Errorf("%q", b)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "abandon", strings.Repeat("abandon ", 12), good + " about", strings.ToUpper(good), strings.Replace(good, "about", "abot", 1)} {
		if _, err := ParseSeed(secret.New([]byte(bad))); !errors.Is(err, ErrSeed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	s.Burn()
	if _, err := s.host(ark.Regtest, 0); !errors.Is(err, secret.ErrBurned) {
		t.Errorf("after Burn: %v", err)
	}
	a, err := NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	if same(t, a, b) {
		t.Error("two new seeds are one")
	}
}

func same(t *testing.T, a, b Seed) (same bool) {
	t.Helper()
	err := a.Words(func(x []byte) error {
		return b.Words(func(y []byte) error { same = bytes.Equal(x, y); return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return same
}

// TestPaths pins every key that a seed gives: another release must give the same,
// or owners lose what is theirs. The values were computed by another
// implementation of BIP-39 and BIP-32.
func TestPaths(t *testing.T) {
	s := parse(t, strings.Repeat("abandon ", 11)+"about")
	keys := map[string]string{}
	add := func(name string, scalar secret.Bytes, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		k, err := bip340.NewKey(scalar)
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := keys[k.PubKey().String()]; ok {
			t.Errorf("%s and %s are one key", before, name)
		}
		keys[k.PubKey().String()] = name
		if want := pinned[name]; k.PubKey().String() != want {
			t.Errorf("%s is %s, was %s", name, k.PubKey(), want)
		}
	}
	for _, network := range []ark.Network{ark.Bitcoin, ark.Regtest} {
		for _, n := range []uint32{0, 1} {
			scalar, err := s.host(network, n)
			add(fmt.Sprintf("%s host %d", network, n), scalar, err)
			scalar, err = s.identity(network, n)
			add(fmt.Sprintf("%s identity %d", network, n), scalar, err)
		}
		for role, name := range []string{"recovery", "fees"} {
			scalar, err := s.scalar(network, purposeRecovery, uint32(role), 0)
			add(fmt.Sprintf("%s %s", network, name), scalar, err)
		}
	}
	if len(keys) != len(pinned) {
		t.Errorf("%d keys, %d are pinned", len(keys), len(pinned))
	}
	test, err := s.host(ark.Signet, 0)
	if err != nil {
		t.Fatal(err)
	}
	k, err := bip340.NewKey(test)
	if err != nil || k.PubKey().String() != pinned["regtest host 0"] {
		t.Errorf("test networks differ: %v", err)
	}
}

// TestStateVersions refuses what another version wrote, and what is damaged.
func TestStateVersions(t *testing.T) {
	for _, text := range []string{"", "{", `{"version":3}`, `{"version":"1"}`} {
		st := store{one{text}}
		if _, err := st.load(context.Background()); !errors.Is(err, ErrState) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestStateUnderLock reads a wallet's state while it changes; the race detector
// tells whether a read goes beside the lock.
func TestStateUnderLock(t *testing.T) {
	w := &Wallet{cfg: Config{Now: time.Now}, store: store{one{}}, st: &state{ID: deviceID, Wallet: make([]byte, 32), Acknowledged: true}}
	const changes = 200
	start := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		<-start
		for range changes {
			if err := w.update(t.Context(), func(st *state) error { st.IdentityIndex++; return nil }); err != nil {
				t.Error(err)
			}
		}
	})
	for name, read := range map[string]func() error{
		"ID":        func() error { w.ID(); return nil },
		"signers":   func() error { w.signers(); return nil },
		"confirmed": w.confirmed,
		"Export": func() error {
			if _, err := w.Export(t.Context()); !errors.Is(err, ErrState) { // it has no epoch
				return err
			}
			return nil
		},
		"checked": func() error {
			if _, _, err := w.checked(t.Context(), nil); !errors.Is(err, ErrDocument) { // there is none
				return err
			}
			return nil
		},
	} {
		group.Go(func() {
			<-start
			for range changes {
				if err := read(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	close(start)
	group.Wait()
	if n := w.current().IdentityIndex; n != changes {
		t.Errorf("%d changes", n)
	}
}

// one is a store that holds one text under every name.
type one struct{ text string }

func (o one) Get(context.Context, string) (secret.Bytes, error) {
	return secret.New([]byte(o.text)), nil
}
func (o one) Put(context.Context, string, secret.Bytes) error { return nil }
func (o one) Delete(context.Context, string) error            { return nil }
func (o one) List(context.Context, string) ([]string, error)  { return nil, nil }
func (o one) Close() error                                    { return nil }

// pinned are the keys of the phrase of eleven times abandon, and about.
var pinned = map[string]string{
	"bitcoin host 0":     "0393c289d1466934edd3c6f6f72347118888ae35071940b272ed2b3983942a340e",
	"bitcoin identity 0": "02b94ec96590c8abac1d2a98be64b798455d67f86805e639aadde5207b226f5b12",
	"bitcoin host 1":     "021ced801d59e573fa3f2df7e18a2a69c2aa71f3e10aa8b76986423a8fcc01b79b",
	"bitcoin identity 1": "03e90ed90e2cc646dd2075f29e616205cc9dbd930a917dbdd75bc10c30da04d078",
	"bitcoin recovery":   "02dff516db3de7e0e5c728206fa8e635e1cc0733a3253545ba18791b289c5c87e2",
	"bitcoin fees":       "0377415cd5343a6fd522627b89c01dfd89cb3f3a7c4107fa2b4bebdfd062e194c0",
	"regtest host 0":     "031102185427a99801af4c4848985d305845417d162fbd476b2d971e814be65910",
	"regtest identity 0": "03b7cf03d2f8cb87d7e3d64f004a0d553ee751451b7ccf630b2be7610e06f2df11",
	"regtest host 1":     "02ca004893989af3620902ffd6fee0479d355a17aa30b90e329e458608a7019454",
	"regtest identity 1": "027f6549554340358b5d44cc8eabafef2422ad8730cc90631c72461e76bad516b8",
	"regtest recovery":   "022e0fedb11042623c12f05aff8a1a6ee5b5ae210479929a171d8fa00a666d0a9e",
	"regtest fees":       "032a6f1b6c4d4842ee0720796e5e6a5ff424eaf7eabc3208ec2c46257c4a725007",
}
