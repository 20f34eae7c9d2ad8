package frost

import (
	"bytes"
	"testing"

	"github.com/vigil-ark/vigil/bip340"
)

func FuzzInfo(f *testing.F) {
	for _, size := range [][2]int{{1, 1}, {2, 2}, {2, 3}, {3, 5}} {
		f.Add(deal(f, "fuzz", size[0], size[1]).info.Encode())
	}
	f.Add([]byte{1, 0, 0, 0, 0, 2, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := ParseInfo(b)
		if err != nil {
			return
		}
		if !bytes.Equal(in.Encode(), b) {
			t.Error("two encodings of one record")
		}
		ids := make([]int, 0, in.Participants())
		for id := range in.Participants() {
			if _, ok := in.PubShare(id); ok {
				ids = append(ids, id)
			}
		}
		s, err := in.Signers(ids...)
		if err != nil {
			t.Fatalf("the shares that are there cannot sign: %v", err)
		}
		if !in.interpolate(ids, 0).Equal(in.point) || len(s.bound) != 4+4*len(ids) {
			t.Error("the record is not consistent")
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	for _, typ := range types() {
		n, err := typ.BodyLen(Shape{T: 2, N: 2, U: 1})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(typ), 2, 2, 1, (&Envelope{Type: typ, Body: make([]byte, n)}).Encode())
	}
	f.Fuzz(func(t *testing.T, typ byte, th, n, u int, b []byte) {
		e, err := ParseEnvelope(b, Type(typ), Shape{T: th, N: n, U: u})
		if err == nil && !bytes.Equal(e.Encode(), b) {
			t.Error("two encodings of one message")
		}
	})
}

// FuzzPeer gives a last signer and a first signer whatever a peer may send.
func FuzzPeer(f *testing.F) {
	d := deal(f, "fuzz peer", 2, 2)
	c := d.context(f, 0, 1)
	good := peerNonce(1)
	f.Add(good[:], make([]byte, 32))
	f.Add(make([]byte, 66), bytes.Repeat([]byte{255}, 32))
	f.Add(good[:65], good[:31])
	f.Fuzz(func(t *testing.T, nonce, psig []byte) {
		n, err := ParsePubNonce(nonce)
		sig, sigErr := ParsePartialSig(psig)
		if err != nil {
			return
		}
		a, err := d.shares[1].Answer(Query{Context: c, Msg: [32]byte{1}, Nonces: []PubNonce{n, {}}})
		if err != nil {
			t.Fatalf("a valid nonce is refused: %v", err)
		}
		if sigErr == nil {
			whole, err := a.Session.Aggregate([]PartialSig{sig, a.Sig}, []PubNonce{n, a.Nonce})
			if err == nil && !bip340.Verify(c.OutputKey(), []byte{0: 1, 31: 0}, whole) {
				t.Error("an invalid signature came out")
			}
		}
	})
}
