package frost

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"pgregory.net/rapid"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// verifiesInBtcec checks with an implementation that is not ours.
func verifiesInBtcec(t testing.TB, key bip340.XOnly, msg [32]byte, sig [64]byte) {
	t.Helper()
	pk, err := schnorr.ParsePubKey(key[:])
	if err != nil {
		t.Fatal(err)
	}
	s, err := schnorr.ParseSignature(sig[:])
	if err != nil {
		t.Fatal(err)
	}
	if !s.Verify(msg[:], pk) {
		t.Error("btcec does not verify the signature")
	}
}

// subsets calls f with every set of at least t of n participants.
func subsets(t, n int, f func(ids []int)) {
	for mask := range 1 << n {
		var ids []int
		for id := range n {
			if mask>>id&1 == 1 {
				ids = append(ids, id)
			}
		}
		if len(ids) >= t {
			f(ids)
		}
	}
}

// TestEverySetSigns: 2-of-2, 2-of-3 with any one gone, 3-of-5 with any two gone,
// whoever is last.
func TestEverySetSigns(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{1, 1}, {2, 2}, {2, 3}, {3, 5}} {
		d := deal(t, "sets", size[0], size[1])
		subsets(size[0], size[1], func(ids []int) {
			for _, last := range []int{0, len(ids) - 1} {
				c := d.context(t, ids...)
				msg := [32]byte{byte(last), 7}
				sig, sigs, nonces, s := d.signWithLast(t, c, last, msg)
				verifiesInBtcec(t, c.OutputKey(), msg, sig)
				for i := range sigs {
					if err := s.VerifyPartial(sigs[i], i, nonces[i]); err != nil {
						t.Errorf("%v, signer %d: %v", ids, ids[i], err)
					}
				}
			}
		})
	}
}

// TestPathsHaveTheirKeys compares with the keys that the script path and the key
// path name by BIP-341.
func TestPathsHaveTheirKeys(t *testing.T) {
	t.Parallel()
	d := deal(t, "paths", 2, 3)
	s, err := d.info.Signers(2, 0)
	if err != nil {
		t.Fatal(err)
	}
	if s.Untweaked().OutputKey() != d.info.PubKey().XOnly() {
		t.Error("a tapleaf names another key")
	}
	for _, root := range [][]byte{nil, make([]byte, 32)} {
		want, parity, err := bip340.OutputKey(d.info.PubKey().XOnly(), root)
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Untweaked().TapTweak(root)
		if err != nil || c.OutputKey() != want || c.OutputPubKey()[0] != 2+parity {
			t.Errorf("root %x: %s, %v", root, c.OutputKey(), err)
		}
	}
	if !slices.Equal(s.IDs(), []int{2, 0}) {
		t.Errorf("order became %v", s.IDs())
	}
}

func TestPropertySignatures(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(r, "n")
		th := rapid.IntRange(1, n).Draw(r, "t")
		d := deal(t, rapid.StringN(0, 8, -1).Draw(r, "key"), th, n)
		ids := rapid.Permutation(slices.Collect(func(yield func(int) bool) {
			for i := range n {
				if !yield(i) {
					return
				}
			}
		})).Draw(r, "order")[:rapid.IntRange(th, n).Draw(r, "u")]
		signers, err := d.info.Signers(ids...)
		if err != nil {
			r.Fatal(err)
		}
		c := signers.Untweaked()
		for range rapid.IntRange(0, 4).Draw(r, "tweaks") {
			tw := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(r, "tweak"))
			tw[0] &= 0x7f
			if c, err = c.Tweak(tw, rapid.Bool().Draw(r, "xonly")); err != nil {
				r.Fatal(err)
			}
		}
		msg := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(r, "msg"))
		last := rapid.IntRange(0, len(ids)-1).Draw(r, "last")
		sig, sigs, nonces, s := d.signWithLast(t, c, last, msg)
		verifiesInBtcec(t, c.OutputKey(), msg, sig)
		bad := rapid.IntRange(0, len(ids)-1).Draw(r, "bad")
		sigs[bad] = negated(sigs[bad])
		var blame *ContributionError
		if _, err := s.Aggregate(sigs, nonces); !errors.As(err, &blame) || blame.Index != bad || blame.Contrib != "psig" {
			r.Fatalf("a bad part of %d: %v", bad, err)
		}
	})
}

func negated(p PartialSig) PartialSig {
	var s btcec.ModNScalar
	s.SetByteSlice(p[:])
	return PartialSig(s.Negate().Bytes())
}

func TestAggregateBlames(t *testing.T) {
	t.Parallel()
	d := deal(t, "blame", 2, 3)
	c := d.context(t, 2, 0)
	msg := [32]byte{1}
	_, sigs, nonces, s := d.signWithLast(t, c, 1, msg)
	_, other, _, _ := d.signWithLast(t, c, 1, msg) // another session's parts
	order := btcec.S256().N.Bytes()
	for name, try := range map[string]struct {
		sigs   []PartialSig
		nonces []PubNonce
		index  int
		err    error
	}{
		"out of range":          {[]PartialSig{sigs[0], PartialSig(order)}, nonces, 1, bip340.ErrScalar},
		"another session's":     {[]PartialSig{other[0], sigs[1]}, nonces, 0, ErrPartialSig},
		"nonce is no point":     {[]PartialSig{other[0], sigs[1]}, []PubNonce{{}, nonces[1]}, 0, bip340.ErrPoint},
		"swapped":               {[]PartialSig{sigs[1], sigs[0]}, nonces, -2, nil}, // a sum does not tell
		"whole session swapped": {other, nonces, 0, ErrPartialSig},
		"without nonces":        {other, nil, -3, ErrSignature},
		"too few":               {sigs[:1], nonces, -3, ErrSigners},
	} {
		_, err := s.Aggregate(try.sigs, try.nonces)
		var blame *ContributionError
		switch {
		case try.err == nil && err != nil, try.err != nil && !errors.Is(err, try.err):
			t.Errorf("%s: %v", name, err)
		case try.index >= 0 && (!errors.As(err, &blame) || blame.Index != try.index):
			t.Errorf("%s: blames %v", name, err)
		}
	}
	if err := s.VerifyPartial(sigs[0], 2, nonces[0]); !errors.Is(err, ErrSigners) {
		t.Errorf("a position that is not there: %v", err)
	}
}

func TestNonceIsGoneAfterAnyUse(t *testing.T) {
	t.Parallel()
	d := deal(t, "misuse", 2, 2)
	c := d.context(t, 0, 1)
	commit := func() *Pending {
		p, err := d.shares[0].Commit(c, SessionID{}, [32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := peerNonce(1)
	for name, use := range map[string]func(*Pending){
		"signed":                  func(p *Pending) { _, _, _ = p.Sign([]PubNonce{p.PubNonce(), good}) },
		"burned":                  func(p *Pending) { p.Burn() },
		"own nonce elsewhere":     func(p *Pending) { _, _, _ = p.Sign([]PubNonce{good, p.PubNonce()}) },
		"own nonce changed":       func(p *Pending) { _, _, _ = p.Sign([]PubNonce{good, good}) },
		"too few nonces":          func(p *Pending) { _, _, _ = p.Sign([]PubNonce{p.PubNonce()}) },
		"no nonces":               func(p *Pending) { _, _, _ = p.Sign(nil) },
		"another nonce no point":  func(p *Pending) { _, _, _ = p.Sign([]PubNonce{p.PubNonce(), {}}) },
		"another nonce off curve": func(p *Pending) { _, _, _ = p.Sign([]PubNonce{p.PubNonce(), {2, 31: 5}}) },
	} {
		p := commit()
		use(p)
		if _, _, err := p.Sign([]PubNonce{p.PubNonce(), good}); !errors.Is(err, bip340.ErrNonceUsed) {
			t.Errorf("%s: then %v", name, err)
		}
	}
}

// TestOwnNonceMustComeBack: who changes the own public nonce in transit gets
// nothing.
func TestOwnNonceMustComeBack(t *testing.T) {
	t.Parallel()
	d := deal(t, "own nonce", 2, 2)
	c := d.context(t, 0, 1)
	for name, nonces := range map[string]func(own PubNonce) []PubNonce{
		"changed":   func(PubNonce) []PubNonce { return []PubNonce{peerNonce(1), peerNonce(2)} },
		"elsewhere": func(own PubNonce) []PubNonce { return []PubNonce{peerNonce(1), own} },
		"alone":     func(own PubNonce) []PubNonce { return []PubNonce{own} },
	} {
		p, err := d.shares[0].Commit(c, SessionID{}, [32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.Sign(nonces(p.PubNonce())); !errors.Is(err, ErrSigners) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNonceDependsOnEverything: with the same randomness, whatever differs makes
// another nonce.
func TestNonceDependsOnEverything(t *testing.T) {
	t.Parallel()
	d := deal(t, "everything", 2, 3)
	c := d.context(t, 0, 1)
	seen := map[PubNonce]string{}
	for name, in := range map[string]struct {
		share   int
		c       *Context
		msg     byte
		session SessionID
		seen    []PubNonce
	}{
		"plain":         {0, c, 1, SessionID{1}, nil},
		"share":         {1, c, 1, SessionID{1}, nil},
		"key":           {0, c.Signers.Untweaked(), 1, SessionID{1}, nil},
		"message":       {0, c, 2, SessionID{1}, nil},
		"session":       {0, c, 1, SessionID{2}, nil},
		"peer's nonce":  {0, c, 1, SessionID{1}, []PubNonce{peerNonce(1)}},
		"another's":     {0, c, 1, SessionID{1}, []PubNonce{peerNonce(2)}},
		"two and order": {0, c, 1, SessionID{1}, []PubNonce{peerNonce(1), peerNonce(2)}},
	} {
		_, n, err := d.shares[in.share].nonce(bytes.NewReader(make([]byte, 32)), in.c, []byte{in.msg}, in.session, in.seen)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[n]; ok {
			t.Errorf("%s makes the nonce of %s", name, other)
		}
		seen[n] = name
	}
}

func TestOneOfManyConcurrentUsesSigns(t *testing.T) {
	t.Parallel()
	d := deal(t, "race", 2, 2)
	c := d.context(t, 0, 1)
	p, err := d.shares[0].Commit(c, SessionID{}, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	var signed atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, _, err := p.Sign([]PubNonce{p.PubNonce(), peerNonce(i)}); err == nil {
				signed.Add(1)
			}
		})
	}
	wg.Wait()
	if signed.Load() != 1 {
		t.Errorf("%d signatures of one nonce", signed.Load())
	}
}

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	d, other := deal(t, "one", 2, 3), deal(t, "other", 2, 3)
	c := d.context(t, 0, 1)
	nonces := []PubNonce{peerNonce(1), peerNonce(2)}
	for name, try := range map[string]func() error{
		"share of another key": func() error { _, err := other.shares[0].Commit(c, SessionID{}, [32]byte{}); return err },
		"not in the set":       func() error { _, err := d.shares[2].Commit(c, SessionID{}, [32]byte{}); return err },
		"asked, not in the set": func() error {
			_, err := d.shares[2].Answer(Query{Context: c, Nonces: nonces})
			return err
		},
		"too many nonces": func() error {
			_, err := d.shares[1].Answer(Query{Context: c, Nonces: append(nonces, nonces...)})
			return err
		},
		"one signer":     func() error { _, err := d.info.Signers(1); return err },
		"signer twice":   func() error { _, err := d.info.Signers(1, 1); return err },
		"signer unknown": func() error { _, err := d.info.Signers(1, 3); return err },
		"negative":       func() error { _, err := d.info.Signers(1, -1); return err },
	} {
		if err := try(); !errors.Is(err, ErrSigners) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var blame *ContributionError
	if _, err := d.shares[1].Answer(Query{Context: c, Nonces: []PubNonce{{}, {}}}); !errors.As(err, &blame) || blame.Index != 0 {
		t.Errorf("a nonce that is no point: %v", err)
	}
	if _, err := NewShare(d.info, 0, secret.New(scalarBytes("one", 77))); !errors.Is(err, ErrShare) {
		t.Errorf("another share: %v", err)
	}
	d.shares[1].Burn()
	if _, err := d.shares[1].Answer(Query{Context: c, Nonces: []PubNonce{peerNonce(1), {}}}); !errors.Is(err, secret.ErrBurned) {
		t.Errorf("a burned share: %v", err)
	}
}

// TestNothingPrints looks for the share's bytes wherever values can be printed
// or encoded.
func TestNothingPrints(t *testing.T) {
	t.Parallel()
	d := deal(t, "print", 2, 2)
	c := d.context(t, 0, 1)
	p, err := d.shares[0].Commit(c, SessionID{}, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	b := d.scalars[0].Bytes()
	canary := hex.EncodeToString(b[:])
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	for _, v := range []any{d.shares[0], p, struct{ S *Share }{d.shares[0]}, *p} {
		logger.Info("value", "v", v)
		out := fmt.Sprintf("%v %+v %#v %s %x", v, v, v, v, v) + log.String()
		if j, err := json.Marshal(v); err == nil {
			out += string(j)
		}
		if strings.Contains(strings.ToLower(out), canary) || strings.Contains(out, fmt.Sprint(b[:])) {
			t.Errorf("%T shows the share", v)
		}
	}
}

func TestInfoRefusesUnknownVersions(t *testing.T) {
	t.Parallel()
	b := deal(t, "version", 2, 2).info.Encode()
	if len(b) != 40+2*33 {
		t.Errorf("%d bytes", len(b))
	}
	b[0] = 2
	if _, err := ParseInfo(b); !errors.Is(err, ErrVersion) {
		t.Errorf("%v", err)
	}
}
