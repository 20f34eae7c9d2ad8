package frost

import (
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// The three-message attack: partial signatures under one nonce pair are linear
// equations s = ±(k1 + b*k2) + c*d in the nonce and the share, with everything
// else public. Three of them, with different messages, signers or peers' nonces,
// give the share away. These tests try to make this package produce three.

// equation is one partial signature as an attacker sees it: the coefficients of
// k1, k2 and d, and the signature.
type equation struct{ k1, k2, d, s *big.Int }

func toBig(s *btcec.ModNScalar) *big.Int {
	b := s.Bytes()
	return new(big.Int).SetBytes(b[:])
}

// observe computes the equation from public values alone.
func observe(t *testing.T, c *Context, at int, nonces []PubNonce, msg [32]byte, sig PartialSig) equation {
	t.Helper()
	agg, err := AggregateNonces(nonces)
	if err != nil {
		t.Fatal(err)
	}
	r1, r2, err := agg.Points()
	if err != nil {
		t.Fatal(err)
	}
	var b, e, coeff, one btcec.ModNScalar
	h := tagNonceCoef.Hash(c.bound, agg[:], c.output[:], msg[:])
	b.SetBytes(&h)
	var sum bip340.Sum
	sum.AddMul(&b, r2)
	sum.Add(r1)
	r := sum.Point()
	rx := r.XOnly()
	h = bip340.TaggedHash("BIP0340/challenge", rx[:], c.output[:], msg[:])
	e.SetBytes(&h)
	coeff.Mul2(&e, &c.lambdas[at])
	if negativeKey(c) {
		coeff.Negate()
	}
	one.SetInt(1)
	if !r.HasEvenY() {
		one.Negate()
		b.Negate()
	}
	return equation{k1: toBig(&one), k2: toBig(&b), d: toBig(&coeff), s: new(big.Int).SetBytes(sig[:])}
}

// negativeKey says whether g*gacc is -1 after one Taproot tweak of the threshold
// key.
func negativeKey(c *Context) bool {
	first, _ := bip340.NewTweakContext(c.info.point)
	return c.tweak.Q().HasEvenY() != first.Q().HasEvenY()
}

// solve returns the share that three equations agree on, as if their nonce were
// one; nil when they have no single solution.
func solve(eqs [3]equation) *btcec.ModNScalar {
	n := btcec.S256().N
	m := make([][4]*big.Int, 3)
	for i, e := range eqs {
		m[i] = [4]*big.Int{new(big.Int).Set(e.k1), new(big.Int).Set(e.k2), new(big.Int).Set(e.d), new(big.Int).Set(e.s)}
	}
	for col := range 3 {
		pivot := -1
		for row := col; row < 3; row++ {
			if m[row][col].Sign() != 0 {
				pivot = row
			}
		}
		if pivot < 0 {
			return nil
		}
		m[col], m[pivot] = m[pivot], m[col]
		inv := new(big.Int).ModInverse(m[col][col], n)
		for row := range 3 {
			if row == col {
				continue
			}
			f := new(big.Int).Mul(m[row][col], inv)
			for k := range 4 {
				m[row][k] = new(big.Int).Mod(new(big.Int).Sub(m[row][k], new(big.Int).Mul(f, m[col][k])), n)
			}
		}
	}
	d := new(big.Int).Mod(new(big.Int).Mul(m[2][3], new(big.Int).ModInverse(m[2][2], n)), n)
	var s btcec.ModNScalar
	s.SetByteSlice(d.FillBytes(make([]byte, 32)))
	return &s
}

// broken says whether any three of the equations give the share away.
func broken(eqs []equation, want bip340.PubKey) bool {
	for i := range eqs {
		for j := range i {
			for k := range j {
				if d := solve([3]equation{eqs[i], eqs[j], eqs[k]}); d != nil && !d.IsZero() && bip340.MulBase(d).PubKey() == want {
					return true
				}
			}
		}
	}
	return false
}

// TestAttackWorksOnReusedNonces is the control: the solver finds the share when
// one nonce pair did sign three messages.
func TestAttackWorksOnReusedNonces(t *testing.T) {
	t.Parallel()
	d := deal(t, "attack control", 2, 2)
	c := d.context(t, 0, 1)
	k := append(scalarBytes("attack k1", 0), scalarBytes("attack k2", 0)...)
	own := pubOf(k)
	var eqs []equation
	for i := range byte(3) {
		n, err := bip340.ImportSecNonce(d.shares[1].key.PubKey(), secret.New(slices.Clone(k)))
		if err != nil {
			t.Fatal(err)
		}
		nonces := []PubNonce{peerNonce(int(i)), own}
		agg, err := AggregateNonces(nonces)
		if err != nil {
			t.Fatal(err)
		}
		msg := [32]byte{i}
		sig, err := c.sign(d.shares[1].key, 1, n, func() (*Session, error) { return c.Session(agg, msg) })
		if err != nil {
			t.Fatal(err)
		}
		eqs = append(eqs, observe(t, c, 1, nonces, msg, sig))
	}
	pub, _ := d.info.PubShare(1)
	if !broken(eqs, pub) {
		t.Fatal("the solver does not find a share that was given away: the other tests prove nothing")
	}
}

func scalarBytes(label string, n int) []byte {
	s := scalar(label, n)
	b := s.Bytes()
	return b[:]
}

// peerNonce is a nonce of the attacker's.
func peerNonce(i int) PubNonce {
	return pubOf(append(scalarBytes("peer 1", i), scalarBytes("peer 2", i)...))
}

// TestAttackOnBatch asks the last signer for several signatures at once, and
// for the same ones again and again, in every combination that the attack could
// use: three messages, one message under three nonces, the very same query.
func TestAttackOnBatch(t *testing.T) {
	t.Parallel()
	d := deal(t, "attack", 2, 2)
	server := d.shares[1]
	c := d.context(t, 0, 1)
	query := func(msg byte, nonce int) Query {
		return Query{Context: c, Session: SessionID{1}, Msg: [32]byte{msg}, Nonces: []PubNonce{peerNonce(nonce), {}}}
	}
	batches := [][]Query{
		{query(1, 1), query(2, 2), query(3, 3)},     // three messages
		{query(1, 1), query(1, 2), query(1, 3)},     // one message, three nonces
		{query(1, 1)}, {query(2, 1)}, {query(3, 1)}, // one nonce, three calls
		{query(1, 1)}, {query(1, 1)}, {query(1, 1)}, // the very same
	}
	var eqs []equation
	seen := map[[33]byte]bool{}
	for _, qs := range batches {
		answers, err := server.AnswerAll(qs)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range answers {
			nonces := []PubNonce{qs[i].Nonces[0], a.Nonce}
			if err := a.Session.VerifyPartial(a.Sig, 1, a.Nonce); err != nil {
				t.Fatal(err)
			}
			eqs = append(eqs, observe(t, c, 1, nonces, qs[i].Msg, a.Sig))
			for _, half := range [][33]byte{[33]byte(a.Nonce[:33]), [33]byte(a.Nonce[33:])} {
				if seen[half] {
					t.Error("half a nonce came back")
				}
				seen[half] = true
			}
		}
	}
	pub, _ := d.info.PubShare(1)
	if broken(eqs, pub) {
		t.Fatal("three answers give the share away")
	}
	if _, err := server.AnswerAll([]Query{query(1, 1), query(2, 1), query(3, 1)}); !errors.Is(err, ErrNonceRepeated) {
		t.Errorf("one public nonce for three messages: %v", err)
	}
}

// TestAttackOnPending asks a first signer to finish three times, with the
// answers that the attack would need: only the first is signed.
func TestAttackOnPending(t *testing.T) {
	t.Parallel()
	d := deal(t, "attack pending", 2, 2)
	c := d.context(t, 0, 1)
	p, err := d.shares[0].Commit(c, SessionID{1}, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	signed := 0
	for i := range 3 {
		if _, _, err := p.Sign([]PubNonce{p.PubNonce(), peerNonce(i)}); err == nil {
			signed++
		} else if !errors.Is(err, bip340.ErrNonceUsed) {
			t.Errorf("%v", err)
		}
	}
	if signed != 1 {
		t.Errorf("one nonce signed %d times", signed)
	}
}
