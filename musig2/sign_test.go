package musig2

import (
	"errors"
	"sync"
	"testing"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// pair is a set of two, ours first, with a nonce of each.
type pair struct {
	ctx    *Context
	keys   []*bip340.Key
	pubs   []bip340.PubKey
	sec    []*SecNonce
	nonces []PubNonce
	agg    AggNonce
	msg    [32]byte
}

func newPair(t *testing.T) pair {
	t.Helper()
	var p pair
	p.keys, p.pubs = testKeys(t, 2)
	p.msg = bip340.TaggedHash("vigil/test/msg")
	var err error
	if p.ctx, err = NewTaprootContext(p.pubs, make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	p.sec, p.nonces = make([]*SecNonce, 2), make([]PubNonce, 2)
	for i := range p.sec {
		if p.sec[i], p.nonces[i], err = NewNonce(p.keys[i], p.ctx, &p.msg, []byte("extra")); err != nil {
			t.Fatal(err)
		}
	}
	if p.agg, err = AggregateNonces(p.nonces); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestSignBurns: a nonce is used up by the first Sign, whatever comes of it.
func TestSignBurns(t *testing.T) {
	garbage := AggNonce{0: 4}
	stranger := testKey(t, testScalar(99))
	_, others := testKeys(t, 4)
	for _, c := range []struct {
		name string
		sign func(p pair) error
		want func(error) bool
	}{
		{"success", func(p pair) error {
			_, err := p.ctx.Sign(p.keys[0], p.sec[0], p.agg, p.msg)
			return err
		}, func(err error) bool { return err == nil }},
		{"bad aggregate nonce", func(p pair) error {
			_, err := p.ctx.Sign(p.keys[0], p.sec[0], garbage, p.msg)
			return err
		}, func(err error) bool {
			var c *ContributionError
			return errors.As(err, &c) && c.Contrib == "aggnonce" && c.Signer == -1
		}},
		{"another key of the set", func(p pair) error {
			_, err := p.ctx.Sign(p.keys[1], p.sec[0], p.agg, p.msg)
			return err
		}, func(err error) bool { return errors.Is(err, bip340.ErrNonceKey) }},
		{"a stranger's key", func(p pair) error {
			_, err := p.ctx.Sign(stranger, p.sec[0], p.agg, p.msg)
			return err
		}, func(err error) bool { return errors.Is(err, bip340.ErrNonceKey) }},
		{"a set without the key", func(p pair) error {
			ctx, err := NewContext(others[2:])
			if err != nil {
				return err
			}
			_, err = ctx.Sign(p.keys[0], p.sec[0], p.agg, p.msg)
			return err
		}, func(err error) bool { return errors.Is(err, ErrNotCosigner) }},
		{"burned", func(p pair) error {
			p.sec[0].Burn()
			_, err := p.ctx.Sign(p.keys[0], p.sec[0], p.agg, p.msg)
			return err
		}, func(err error) bool { return errors.Is(err, bip340.ErrNonceUsed) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t)
			if err := c.sign(p); !c.want(err) {
				t.Fatalf("first: %v", err)
			}
			if sig, err := p.ctx.Sign(p.keys[0], p.sec[0], p.agg, p.msg); !errors.Is(err, bip340.ErrNonceUsed) || sig != (PartialSig{}) {
				t.Fatalf("second: %x, %v", sig, err)
			}
		})
	}
	p := newPair(t)
	p.keys[0].Burn()
	if _, err := p.ctx.Sign(p.keys[0], p.sec[0], p.agg, p.msg); !errors.Is(err, secret.ErrBurned) {
		t.Errorf("burned key: %v", err)
	}
	if _, err := p.ctx.Sign(p.keys[1], nil, p.agg, p.msg); !errors.Is(err, bip340.ErrNonceUsed) {
		t.Errorf("no nonce: %v", err)
	}
}

// TestSignConcurrently: one nonce, many messages at once, one signature.
func TestSignConcurrently(t *testing.T) {
	for range 20 {
		p := newPair(t)
		const signers = 8
		errs := make([]error, signers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range signers {
			msg := [32]byte{byte(i)}
			wg.Go(func() {
				<-start
				_, errs[i] = p.ctx.Sign(p.keys[0], p.sec[0], p.agg, msg)
			})
		}
		close(start)
		wg.Wait()
		signed := 0
		for _, err := range errs {
			if err == nil {
				signed++
			} else if !errors.Is(err, bip340.ErrNonceUsed) {
				t.Fatal(err)
			}
		}
		if signed != 1 {
			t.Fatalf("%d signatures under one nonce", signed)
		}
	}
}

func TestVerifyPartialErrors(t *testing.T) {
	p := newPair(t)
	sig, err := p.ctx.Sign(p.keys[0], p.sec[0], p.agg, p.msg)
	if err != nil {
		t.Fatal(err)
	}
	check := func(sig PartialSig, signer bip340.PubKey, n PubNonce, agg AggNonce, msg [32]byte) error {
		return p.ctx.VerifyPartial(sig, signer, n, agg, msg)
	}
	if err := check(sig, p.pubs[0], p.nonces[0], p.agg, p.msg); err != nil {
		t.Fatal(err)
	}
	wrong := sig
	wrong[31] ^= 1
	for name, err := range map[string]error{
		"changed signature": check(wrong, p.pubs[0], p.nonces[0], p.agg, p.msg),
		"other signer":      check(sig, p.pubs[1], p.nonces[0], p.agg, p.msg),
		"other nonce":       check(sig, p.pubs[0], p.nonces[1], p.agg, p.msg),
		"other message":     check(sig, p.pubs[0], p.nonces[0], p.agg, [32]byte{1}),
		"other aggregate":   check(sig, p.pubs[0], p.nonces[0], AggNonce(p.nonces[1]), p.msg),
		"infinite nonces":   check(sig, p.pubs[0], p.nonces[0], AggNonce{}, p.msg),
	} {
		if !errors.Is(err, ErrPartialSig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := check(sig, testKey(t, testScalar(99)).PubKey(), p.nonces[0], p.agg, p.msg); !errors.Is(err, ErrNotCosigner) {
		t.Errorf("stranger: %v", err)
	}
	var c *ContributionError
	if err := check(sig, p.pubs[0], PubNonce{}, p.agg, p.msg); !errors.As(err, &c) || c.Contrib != "pubnonce" {
		t.Errorf("zero nonce: %v", err)
	}
	if err := check(sig, p.pubs[0], p.nonces[0], AggNonce{0: 5}, p.msg); !errors.As(err, &c) || c.Contrib != "aggnonce" {
		t.Errorf("bad aggregate: %v", err)
	}
	if _, err := p.ctx.Combine(AggNonce{0: 5}, p.msg, nil); !errors.As(err, &c) || c.Contrib != "aggnonce" {
		t.Errorf("combine with a bad aggregate: %v", err)
	}
}

// TestNoncesAreFresh: fresh nonces differ although every other field is the same.
func TestNoncesAreFresh(t *testing.T) {
	keys, pubs := testKeys(t, 2)
	ctx, err := NewContext(pubs)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[PubNonce]bool{}
	for range 20 {
		for _, c := range []*Context{ctx, nil} {
			n, pub, err := NewNonce(keys[0], c, nil, nil)
			if err != nil || n == nil || seen[pub] {
				t.Fatalf("seen before: %v (%v)", seen[pub], err)
			}
			seen[pub] = true
			n.Burn()
		}
	}
	if _, err := AggregateNonces(nil); err != nil {
		t.Errorf("no nonces sum to infinity, %v", err)
	}
}

func FuzzParse(f *testing.F) {
	p := PubNonce{}
	k := testKey(f, testScalar(1)).PubKey()
	copy(p[:33], k[:])
	copy(p[33:], k[:])
	f.Add(p[:])
	f.Add(make([]byte, 66))
	f.Add(make([]byte, 32))
	f.Add(p[:65])
	f.Fuzz(func(t *testing.T, b []byte) {
		pub, err := ParsePubNonce(b)
		if err == nil {
			if string(pub[:]) != string(b) {
				t.Fatal("another public nonce")
			}
			agg, err := AggregateNonces([]PubNonce{pub})
			if err != nil || AggNonce(pub) != agg {
				t.Fatalf("the sum of one is %x (%v)", agg, err)
			}
			if _, err := ParseAggNonce(b); err != nil {
				t.Fatalf("a public nonce is no aggregate nonce: %v", err)
			}
		} else if !errors.Is(err, bip340.ErrPoint) {
			t.Fatal(err)
		}
		if agg, err := ParseAggNonce(b); err == nil {
			r1, r2, err := agg.Points()
			if err != nil || r1.PubKey() != bip340.PubKey(b[:33]) || r2.PubKey() != bip340.PubKey(b[33:]) {
				t.Fatalf("another aggregate nonce (%v)", err)
			}
		}
		if sig, err := ParsePartialSig(b); err == nil && string(sig[:]) != string(b) {
			t.Fatal("another partial signature")
		}
	})
}
