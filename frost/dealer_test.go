package frost

import (
	"slices"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// dealt is a key split by a dealer, which only tests have.
type dealt struct {
	info    *Info
	scalars []btcec.ModNScalar
	shares  []*Share
}

func scalar(label string, n int) btcec.ModNScalar {
	sum := bip340.TaggedHash("vigil/test "+label, []byte{byte(n >> 8), byte(n)})
	var s btcec.ModNScalar
	s.SetBytes(&sum)
	return s
}

// deal splits the key of a label.
func deal(tb testing.TB, label string, t, n int) *dealt {
	tb.Helper()
	d := &dealt{scalars: make([]btcec.ModNScalar, n)}
	coeffs := make([]btcec.ModNScalar, t)
	for k := range coeffs {
		coeffs[k] = scalar(label, k)
	}
	pubs := make([]bip340.PubKey, n)
	for id := range n {
		var x btcec.ModNScalar
		x.SetInt(uint32(id + 1))
		for k := t - 1; k >= 0; k-- {
			d.scalars[id].Mul(&x).Add(&coeffs[k])
		}
		pubs[id] = bip340.MulBase(&d.scalars[id]).PubKey()
	}
	var err error
	if d.info, err = NewInfo(3, t, bip340.MulBase(&coeffs[0]).PubKey(), pubs); err != nil {
		tb.Fatal(err)
	}
	for id := range n {
		b := d.scalars[id].Bytes()
		s, err := NewShare(d.info, id, secret.New(b[:]))
		if err != nil {
			tb.Fatal(err)
		}
		d.shares = append(d.shares, s)
	}
	return d
}

// context is that of the given signers, for a Taproot output.
func (d *dealt) context(tb testing.TB, ids ...int) *Context {
	tb.Helper()
	s, err := d.info.Signers(ids...)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := s.Untweaked().TapTweak([]byte("root"))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// round1 commits all signers of c but skip.
func (d *dealt) round1(tb testing.TB, c *Context, session SessionID, msg [32]byte, skip int) (pending []*Pending, nonces []PubNonce) {
	tb.Helper()
	for _, id := range c.ids {
		if id == skip {
			pending, nonces = append(pending, nil), append(nonces, PubNonce{})
			continue
		}
		p, err := d.shares[id].Commit(c, session, msg)
		if err != nil {
			tb.Fatal(err)
		}
		pending, nonces = append(pending, p), append(nonces, p.PubNonce())
	}
	return pending, nonces
}

// signWithLast makes a whole signature with the signer at position last
// answering, and returns the parts too.
func (d *dealt) signWithLast(tb testing.TB, c *Context, last int, msg [32]byte) ([64]byte, []PartialSig, []PubNonce, *Session) {
	tb.Helper()
	server := d.shares[c.ids[last]]
	pending, nonces := d.round1(tb, c, SessionID{9}, msg, server.ID())
	a, err := server.Answer(Query{Context: c, Session: SessionID{9}, Msg: msg, Nonces: nonces})
	if err != nil {
		tb.Fatal(err)
	}
	nonces = slices.Clone(nonces)
	nonces[last] = a.Nonce
	sigs := make([]PartialSig, len(pending))
	for i, p := range pending {
		if i == last {
			sigs[i] = a.Sig
			continue
		}
		if sigs[i], _, err = p.Sign(nonces); err != nil {
			tb.Fatal(err)
		}
	}
	sig, err := a.Session.Aggregate(sigs, nonces)
	if err != nil {
		tb.Fatal(err)
	}
	return sig, sigs, nonces, a.Session
}
