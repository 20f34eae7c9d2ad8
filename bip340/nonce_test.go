package bip340

import (
	"bytes"
	"crypto/rand"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/secret"
)

var testDerivation = Derivation{Aux: NewTag("vigil/test/aux"), Nonce: NewTag("vigil/test/nonce"), Fields: []byte("fields")}

// soloSession is a session of the single signer k, whose nonce has the points
// of pub.
func soloSession(t testing.TB, k *Key, pub PubNonce, msg []byte) (*Session, Point, Point) {
	t.Helper()
	q, err := k.PubKey().Point()
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := NewTweakContext(q)
	if err != nil {
		t.Fatal(err)
	}
	r1, err := PubKey(pub[:33]).Point()
	if err != nil {
		t.Fatal(err)
	}
	r2, err := PubKey(pub[33:]).Point()
	if err != nil {
		t.Fatal(err)
	}
	h := TaggedHash("vigil/test/coef", pub[:], msg)
	return NewSession(ctx, scalarOf(h), r1, r2, msg), r1, r2
}

func newTestNonce(t testing.TB, k *Key) (*SecNonce, PubNonce) {
	t.Helper()
	n, pub, err := NewSecNonce(rand.Reader, k, testDerivation)
	if err != nil {
		t.Fatal(err)
	}
	return n, pub
}

var one = new(btcec.ModNScalar).SetInt(1)

func TestPartialSign(t *testing.T) {
	for range 16 { // both parities of key and nonce
		k, _, err := GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		n, pub := newTestNonce(t, k)
		msg := []byte("message")
		s, r1, r2 := soloSession(t, k, pub, msg)
		prepare := func() (*Session, *btcec.ModNScalar, error) { return s, one, nil }
		part, err := PartialSign(k, n, prepare)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := k.PubKey().Point()
		if !s.VerifyPartial(part, p, r1, r2, one) {
			t.Fatal("partial signature does not verify")
		}
		// Comparing x alone would accept these.
		negated := scalarOf(part).Negate().Bytes()
		if s.VerifyPartial(negated, p, r1, r2, one) || s.VerifyPartial(part, p.Negate(), r1, r2, one) || s.VerifyPartial(part, p, r2, r1, one) {
			t.Fatal("a wrong partial signature verifies")
		}
		sig, _, err := s.Finish([][32]byte{part})
		if err != nil || !Verify(k.PubKey().XOnly(), msg, sig) {
			t.Fatalf("signature does not verify (%v)", err)
		}
		if _, err := PartialSign(k, n, prepare); !errors.Is(err, ErrNonceUsed) {
			t.Fatalf("second use: %v", err)
		}
	}
}

// TestNonceErrorsBurn: whatever goes wrong, the nonce is gone.
func TestNonceErrorsBurn(t *testing.T) {
	k, _, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	burned, _, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	fails := func() (*Session, *btcec.ModNScalar, error) { return nil, nil, boom }
	unreached := func() (*Session, *btcec.ModNScalar, error) {
		t.Error("prepare ran")
		return nil, nil, boom
	}
	for _, c := range []struct {
		name    string
		owner   *Key
		signer  *Key
		prepare func() (*Session, *btcec.ModNScalar, error)
		want    error
	}{
		{"prepare fails", k, k, fails, boom},
		{"another key", k, other, unreached, ErrNonceKey},
		{"a burned key", burned, burned, nil, secret.ErrBurned},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, pub := newTestNonce(t, c.owner)
			s, _, _ := soloSession(t, c.owner, pub, nil)
			good := func() (*Session, *btcec.ModNScalar, error) { return s, one, nil }
			if c.prepare == nil {
				c.owner.Burn()
				c.prepare = good
			}
			sig, err := PartialSign(c.signer, n, c.prepare)
			if !errors.Is(err, c.want) || sig != ([32]byte{}) {
				t.Fatalf("%x, %v; want %v", sig, err, c.want)
			}
			if _, err := PartialSign(c.owner, n, good); !errors.Is(err, ErrNonceUsed) {
				t.Fatalf("the nonce survived: %v", err)
			}
		})
	}
	t.Run("a panic", func(t *testing.T) {
		n, pub := newTestNonce(t, k)
		s, _, _ := soloSession(t, k, pub, nil)
		func() {
			defer func() { _ = recover() }()
			_, _ = PartialSign(k, n, func() (*Session, *btcec.ModNScalar, error) { panic("boom") })
		}()
		if _, err := PartialSign(k, n, func() (*Session, *btcec.ModNScalar, error) { return s, one, nil }); !errors.Is(err, ErrNonceUsed) {
			t.Fatalf("the nonce survived: %v", err)
		}
	})
	t.Run("burned, nil and zero", func(t *testing.T) {
		n, _ := newTestNonce(t, k)
		n.Burn()
		n.Burn()
		(*SecNonce)(nil).Burn()
		new(SecNonce).Burn()
		for _, n := range []*SecNonce{n, nil, {}} {
			if _, err := PartialSign(k, n, unreached); !errors.Is(err, ErrNonceUsed) {
				t.Errorf("%v", err)
			}
		}
	})
}

// TestNonceConcurrently: of many signers with one nonce exactly one succeeds.
// It is also the three-messages attack on our own interface: three signatures
// of three messages under one nonce would give the key away.
func TestNonceConcurrently(t *testing.T) {
	k, _, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		n, pub := newTestNonce(t, k)
		const signers = 8
		errs := make([]error, signers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range signers {
			s, _, _ := soloSession(t, k, pub, []byte{byte(i)})
			wg.Go(func() {
				<-start
				_, errs[i] = PartialSign(k, n, func() (*Session, *btcec.ModNScalar, error) { return s, one, nil })
			})
		}
		close(start)
		wg.Wait()
		signed := 0
		for _, err := range errs {
			if err == nil {
				signed++
			} else if !errors.Is(err, ErrNonceUsed) {
				t.Fatal(err)
			}
		}
		if signed != 1 {
			t.Fatalf("%d signatures under one nonce", signed)
		}
	}
}

// TestNonceHedged: the nonce depends on randomness, key and fields, each alone.
func TestNonceHedged(t *testing.T) {
	k, other := mustKey(t, bytes.Repeat([]byte{1}, 32)), mustKey(t, bytes.Repeat([]byte{2}, 32))
	seen := map[PubNonce]string{}
	for _, c := range []struct {
		name   string
		key    *Key
		random byte
		d      Derivation
	}{
		{"first", k, 0, testDerivation},
		{"randomness", k, 1, testDerivation},
		{"key", other, 0, testDerivation},
		{"fields", k, 0, Derivation{testDerivation.Aux, testDerivation.Nonce, []byte("other")}},
		{"tag", k, 0, Derivation{testDerivation.Aux, NewTag("vigil/test/other"), testDerivation.Fields}},
	} {
		_, pub, err := NewSecNonce(bytes.NewReader(bytes.Repeat([]byte{c.random}, 32)), c.key, c.d)
		if err != nil {
			t.Fatal(err)
		}
		if was, ok := seen[pub]; ok {
			t.Errorf("%s gives the nonce of %s", c.name, was)
		}
		seen[pub] = c.name
		if bytes.Equal(pub[:33], pub[33:]) {
			t.Errorf("%s: both halves are equal", c.name)
		}
	}
	if _, _, err := NewSecNonce(iotest.ErrReader(errors.New("dry")), k, testDerivation); !errors.Is(err, ErrRand) {
		t.Errorf("without randomness: %v", err)
	}
	k.Burn()
	if _, _, err := NewSecNonce(rand.Reader, k, testDerivation); !errors.Is(err, secret.ErrBurned) {
		t.Errorf("burned key: %v", err)
	}
}

func TestImportSecNonce(t *testing.T) {
	pub := mustKey(t, bytes.Repeat([]byte{1}, 32)).PubKey()
	good := bytes.Repeat([]byte{3}, 64)
	for _, b := range [][]byte{good[:63], append(bytes.Clone(good), 0), append(make([]byte, 32), good[:32]...),
		append(bytes.Clone(good[:32]), make([]byte, 32)...), bytes.Repeat([]byte{255}, 64)} {
		if _, err := ImportSecNonce(pub, secret.New(bytes.Clone(b))); !errors.Is(err, ErrScalar) {
			t.Errorf("%x: %v", b, err)
		}
	}
	if _, err := ImportSecNonce(pub, secret.New(good)); err != nil {
		t.Error(err)
	}
}

// TestImportIsForTests holds the promise of ImportSecNonce: no file of the
// module but tests calls it, and NewSecNonce is only called by the packages
// that implement a standard.
func TestImportIsForTests(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name != ".." && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil // another package's matter
		}
		files++
		room := filepath.ToSlash(filepath.Dir(path))
		ast.Inspect(file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			switch sel.Sel.Name {
			case "ImportSecNonce":
				t.Errorf("%s imports a nonce", path)
			case "NewSecNonce":
				if room != "../musig2" && room != "../frost" {
					t.Errorf("%s makes a nonce by itself", path)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Fatalf("only %d files seen", files)
	}
}

func TestFinishRange(t *testing.T) {
	k := mustKey(t, bytes.Repeat([]byte{1}, 32))
	_, pub := newTestNonce(t, k)
	s, r1, r2 := soloSession(t, k, pub, nil)
	big := [32]byte(bytes.Repeat([]byte{255}, 32))
	if _, bad, err := s.Finish([][32]byte{{}, big}); !errors.Is(err, ErrScalar) || bad != 1 {
		t.Errorf("index %d, %v", bad, err)
	}
	p, _ := k.PubKey().Point()
	if s.VerifyPartial(big, p, r1, r2, one) {
		t.Error("out of range verifies")
	}
}
