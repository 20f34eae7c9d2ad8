package frost

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// pubOf returns the public nonce of 64 secret bytes.
func pubOf(k []byte) (out PubNonce) {
	for i := range 2 {
		var s btcec.ModNScalar
		s.SetByteSlice(k[32*i:][:32])
		p := bip340.MulBase(&s).PubKey()
		copy(out[33*i:], p[:])
	}
	return out
}

func TestVectorsNonceGen(t *testing.T) {
	t.Parallel()
	old := load(t, "nonce_gen_v0.6.0", 5)
	if len(old[0].Valid) != 5 { // replaced: the hash has another field now
		t.Error("v0.6.0 has other cases than its five valid ones")
	}
	for i, v := range load(t, "nonce_gen_v0.12.1_derived", 15)[0].Valid {
		want := v.want(t)
		if pub := pubOf(want[0]); !bytes.Equal(pub[:], want[1]) {
			t.Fatalf("case %d contradicts itself", i)
		}
		var id []byte
		if v.Signer != nil {
			id = binary.BigEndian.AppendUint32(nil, uint32(*v.Signer))
		}
		fields := nonceFields(id, v.Pubshare, v.X, v.Msg, v.Msg != nil, v.Extra)
		if v.RawShare == nil { // not in our API: the fields alone are ours
			var k []byte
			for n := range byte(2) {
				sum := tagNonce.Hash(v.Rand, fields, []byte{n})
				k = append(k, sum[:]...)
			}
			if !bytes.Equal(k, want[0]) {
				t.Errorf("case %d: %x, want %x", i, k, want[0])
			}
			continue
		}
		key, err := bip340.NewKey(v.RawShare.secret())
		if err != nil {
			t.Fatal(err)
		}
		_, pub, err := bip340.NewSecNonce(bytes.NewReader(v.Rand), key, bip340.Derivation{Aux: tagAux, Nonce: tagNonce, Fields: fields})
		if err != nil || !bytes.Equal(pub[:], want[1]) {
			t.Errorf("case %d: %x, %v", i, pub, err)
		}
	}
}

// TestNonceHasEveryField takes the vector that our API can express through it.
func TestNonceHasEveryField(t *testing.T) {
	t.Parallel()
	g := load(t, "sign_v0.12.1_derived", 25)[0]
	c, err := g.context(&g.Valid[0])
	if err != nil {
		t.Fatal(err)
	}
	done := 0
	for _, v := range load(t, "nonce_gen_v0.12.1_derived", 15)[0].Valid {
		if v.Signer == nil || *v.Signer != 0 || v.RawShare == nil || v.Msg == nil {
			continue
		}
		s, err := NewShare(c.info, 0, v.RawShare.secret())
		if err != nil {
			t.Fatal(err)
		}
		_, pub, err := s.nonce(bytes.NewReader(v.Rand), c, v.Msg, SessionID(v.Extra), nil)
		if err != nil || !bytes.Equal(pub[:], v.want(t)[1]) {
			t.Errorf("%x, %v", pub, err)
		}
		done++
	}
	if done != 3 {
		t.Errorf("%d vectors, want 3", done)
	}
}

// detSign is DeterministicSign of BIP-445. It is no part of the package: the
// hedged nonce of a last signer is as stateless, and does not depend on its hash
// being over everything.
func detSign(g *group, v *vector, my int, share hexed, aux []byte) (PubNonce, PartialSig, error) {
	c, err := g.context(v)
	if err != nil {
		return PubNonce{}, PartialSig{}, err
	}
	at, err := (&Share{info: c.info, id: my}).member(c)
	if err != nil {
		return PubNonce{}, PartialSig{}, err
	}
	s, err := NewShare(c.info, my, share.secret())
	if err != nil {
		return PubNonce{}, PartialSig{}, err
	}
	var others []PubNonce // none for a signer alone
	if v.Aggothernonce != nil {
		if _, err := ParsePubNonce(v.Aggothernonce); err != nil {
			return PubNonce{}, PartialSig{}, &ContributionError{Index: -1, Contrib: "aggothernonce", Err: err}
		}
		others = append(others, PubNonce(v.Aggothernonce))
	}
	var d btcec.ModNScalar
	d.SetByteSlice(share)
	if flipped(v, c) {
		d.Negate()
	}
	masked := d.Bytes()
	if aux != nil {
		h := tagAux.Hash(aux)
		for i := range masked {
			masked[i] ^= h[i]
		}
	}
	tag := bip340.NewTag("BIP0445/deterministic/nonce")
	head := binary.BigEndian.AppendUint32(masked[:], uint32(my))
	head = append(head, c.bound...)
	head = append(append(head, byte(len(v.Aggothernonce))), v.Aggothernonce...)
	head = append(head, c.output[:]...)
	head = append(binary.BigEndian.AppendUint64(head, uint64(len(v.Msg))), v.Msg...)
	var k []byte
	for i := range byte(2) {
		sum := tag.Hash(head, []byte{i})
		k = append(k, sum[:]...)
	}
	pub := pubOf(k)
	agg, err := AggregateNonces(append(others, pub))
	if err != nil {
		return PubNonce{}, PartialSig{}, err
	}
	n, err := bip340.ImportSecNonce(s.key.PubKey(), secret.New(k))
	if err != nil {
		return PubNonce{}, PartialSig{}, err
	}
	sig, err := c.sign(s.key, at, n, func() (*Session, error) { return c.session(agg, v.Msg) })
	return pub, sig, err
}

// flipped says whether g*gacc is -1, from the tweaks and the parities alone.
func flipped(v *vector, c *Context) bool {
	negative := !c.tweak.Q().HasEvenY()
	at := c.Signers.Untweaked()
	for i, tw := range v.Tweaks {
		if v.XOnly[i] && !at.tweak.Q().HasEvenY() {
			negative = !negative
		}
		at, _ = at.Tweak([32]byte(tw), v.XOnly[i])
	}
	return negative
}

func TestVectorsDetSign(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "det_sign_v0.12.1_derived", 33) {
		for _, v := range g.Valid {
			pub, sig, err := detSign(&g, &v, *v.Signer, v.RawShare, v.AuxRand)
			want := v.want(t)
			if err != nil || !bytes.Equal(pub[:], want[0]) || !bytes.Equal(sig[:], want[1]) {
				t.Errorf("%s: %x %x, %v", v.name(g), pub, sig, err)
			}
		}
	}
	replaced := 0
	for _, g := range load(t, "det_sign_v0.6.0", 81) {
		replaced += len(g.Valid)
		for _, v := range g.Errors {
			_, _, err := detSign(&g, &v, v.My, g.Secshares[v.Secshare], v.Rand)
			checkError(t, v.name(g), err, v.Error)
		}
	}
	if replaced != 33 {
		t.Errorf("%d replaced cases, want 33", replaced)
	}
}
