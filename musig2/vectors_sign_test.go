package musig2

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/vigil-ark/vigil/bip340"
)

func TestVectorsSignVerify(t *testing.T) {
	f := load(t, "sign_verify")
	count(t, "valid cases", len(f.Valid), 6)
	count(t, "sign errors", len(f.SignErrors), 6)
	count(t, "verify failures", len(f.VerifyFails), 3)
	count(t, "verify errors", len(f.VerifyErrors), 2)
	key := testKey(t, f.SK)
	for i, c := range f.Valid {
		keys, nonces := pick[bip340.PubKey](t, f.Pubkeys, c.Keys), pick[PubNonce](t, f.Pnonces, c.Nonces)
		agg, err := AggregateNonces(nonces)
		if err != nil || agg != AggNonce(f.Aggnonces[c.Agg]) {
			t.Fatalf("case %d: aggregate nonce %x (%v)", i, agg, err)
		}
		ctx, err := keyAgg(keys, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		n, err := importNonce(t, f.Secnonces[0])
		if err != nil {
			t.Fatal(err)
		}
		msg := f.Msgs[c.MsgIdx]
		sig, err := signBytes(ctx, key, n, agg, msg)
		if err != nil || !bytes.Equal(sig[:], c.want(t)[0]) {
			t.Fatalf("case %d: %x (%v)", i, sig, err)
		}
		if err := verifyPartial(ctx, sig, keys[c.Signer], nonces[c.Signer], agg, msg); err != nil {
			t.Errorf("case %d: %v", i, err)
		}
	}
	for i, c := range f.SignErrors {
		_, err := func() (PartialSig, error) {
			ctx, err := keyAgg(pick[bip340.PubKey](t, f.Pubkeys, c.Keys), nil, nil)
			if err != nil {
				return PartialSig{}, err
			}
			n, err := importNonce(t, f.Secnonces[c.SecIdx])
			if err != nil {
				return PartialSig{}, err
			}
			sig, err := signBytes(ctx, key, n, AggNonce(f.Aggnonces[c.Agg]), f.Msgs[c.MsgIdx])
			if _, again := signBytes(ctx, key, n, AggNonce(f.Aggnonces[0]), f.Msgs[0]); !errors.Is(again, bip340.ErrNonceUsed) {
				t.Errorf("case %d: the nonce survived: %v", i, again)
			}
			return sig, err
		}()
		checkError(t, err, c.Error)
	}
	for i, c := range f.VerifyFails {
		if err := verifyCase(t, f, c); !errors.Is(err, ErrPartialSig) {
			t.Errorf("case %d: %v", i, err)
		}
	}
	for _, c := range f.VerifyErrors {
		checkError(t, verifyCase(t, f, c), c.Error)
	}
}

// verifyCase is PartialSigVerify of BIP-327, which takes all the nonces.
func verifyCase(t *testing.T, f vectorFile, c vectorCase) error {
	t.Helper()
	keys, nonces := pick[bip340.PubKey](t, f.Pubkeys, c.Keys), pick[PubNonce](t, f.Pnonces, c.Nonces)
	agg, err := AggregateNonces(nonces)
	if err != nil {
		return err
	}
	ctx, err := keyAgg(keys, nil, nil)
	if err != nil {
		return err
	}
	return verifyPartial(ctx, PartialSig(c.Sig), keys[c.Signer], nonces[c.Signer], agg, f.Msgs[c.MsgIdx])
}

func verifyPartial(ctx *Context, sig PartialSig, key bip340.PubKey, n PubNonce, agg AggNonce, msg []byte) error {
	s, err := ctx.session(agg, msg)
	if err != nil {
		return err
	}
	return s.VerifyPartial(sig, key, n)
}

func TestVectorsTweak(t *testing.T) {
	f := load(t, "tweak")
	count(t, "valid cases", len(f.Valid), 5)
	count(t, "error cases", len(f.Errors), 1)
	key := testKey(t, f.SK)
	for i, c := range f.Valid {
		keys, nonces := pick[bip340.PubKey](t, f.Pubkeys, c.Keys), pick[PubNonce](t, f.Pnonces, c.Nonces)
		agg, err := AggregateNonces(nonces)
		if err != nil || agg != AggNonce(f.Aggnonce) {
			t.Fatalf("case %d: aggregate nonce %x (%v)", i, agg, err)
		}
		ctx, err := keyAgg(keys, chosen(f.Tweaks, c.TweakIdx), c.XOnly)
		if err != nil {
			t.Fatal(err)
		}
		n, err := importNonce(t, f.Secnonce)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := ctx.Sign(key, n, agg, [32]byte(f.Msg))
		if err != nil || !bytes.Equal(sig[:], c.want(t)[0]) {
			t.Errorf("%s: %x (%v)", c.Comment, sig, err)
		}
		if err := ctx.VerifyPartial(sig, keys[c.Signer], nonces[c.Signer], agg, [32]byte(f.Msg)); err != nil {
			t.Errorf("%s: %v", c.Comment, err)
		}
	}
	for _, c := range f.Errors {
		_, err := keyAgg(pick[bip340.PubKey](t, f.Pubkeys, c.Keys), chosen(f.Tweaks, c.TweakIdx), c.XOnly)
		checkError(t, err, c.Error)
	}
}

func TestVectorsSigAgg(t *testing.T) {
	f := load(t, "sig_agg")
	count(t, "valid cases", len(f.Valid), 4)
	count(t, "error cases", len(f.Errors), 1)
	msg := [32]byte(f.Msg)
	for i, c := range f.Valid {
		keys, nonces := pick[bip340.PubKey](t, f.Pubkeys, c.Keys), pick[PubNonce](t, f.Pnonces, c.Nonces)
		agg, err := AggregateNonces(nonces)
		if err != nil || agg != AggNonce(c.Aggnonce) {
			t.Fatalf("case %d: aggregate nonce %x (%v)", i, agg, err)
		}
		ctx, err := keyAgg(keys, chosen(f.Tweaks, c.TweakIdx), c.XOnly)
		if err != nil {
			t.Fatal(err)
		}
		parts := pick[PartialSig](t, f.Psigs, c.Psigs)
		for n := range parts {
			if err := ctx.VerifyPartial(parts[n], keys[n], nonces[n], agg, msg); err != nil {
				t.Errorf("case %d, signer %d: %v", i, n, err)
			}
		}
		sig, err := ctx.Combine(agg, msg, parts)
		if err != nil || !bytes.Equal(sig[:], c.want(t)[0]) {
			t.Errorf("case %d: %x (%v)", i, sig, err)
		}
		if !bip340.Verify(ctx.OutputKey(), msg[:], sig) {
			t.Errorf("case %d does not verify", i)
		}
	}
	for _, c := range f.Errors {
		ctx, err := keyAgg(pick[bip340.PubKey](t, f.Pubkeys, c.Keys), chosen(f.Tweaks, c.TweakIdx), c.XOnly)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ctx.Combine(AggNonce(c.Aggnonce), msg, pick[PartialSig](t, f.Psigs, c.Psigs))
		checkError(t, err, c.Error)
	}
}

func TestVectorsDeterministicSign(t *testing.T) {
	f := load(t, "det_sign")
	count(t, "valid cases", len(f.Valid), 4)
	count(t, "error cases", len(f.Errors), 5)
	for i, c := range f.Valid {
		want := c.want(t)
		pub, sig, err := deterministicSign(t, f, c)
		if err != nil || !bytes.Equal(pub[:], want[0]) || !bytes.Equal(sig[:], want[1]) {
			t.Errorf("case %d: %x %x (%v)", i, pub, sig, err)
		}
	}
	for _, c := range f.Errors {
		_, _, err := deterministicSign(t, f, c)
		checkError(t, err, c.Error)
	}
}

// deterministicSign is DeterministicSign of BIP-327. Production code has no use
// for it: a fresh hedged nonce is as stateless for the last signer.
func deterministicSign(t *testing.T, f vectorFile, c vectorCase) (pub PubNonce, sig PartialSig, err error) {
	t.Helper()
	ctx, err := keyAgg(pick[bip340.PubKey](t, f.Pubkeys, c.Keys), c.Tweaks, c.XOnly)
	if err != nil {
		return pub, sig, err
	}
	seed := bytes.Clone(f.SK)
	if c.Rand != nil {
		mask := tagAux.Hash(c.Rand)
		subtle.XORBytes(seed, seed, mask[:])
	}
	msg := f.Msgs[c.MsgIdx]
	tag, x := bip340.NewTag("MuSig/deterministic/nonce"), ctx.OutputKey()
	var sec hexed
	for i := range 2 {
		k := tag.Hash(seed, c.Aggothernonce, x[:], binary.BigEndian.AppendUint64(nil, uint64(len(msg))), msg, []byte{byte(i)})
		sec = append(sec, k[:]...)
	}
	key := testKey(t, f.SK)
	pk := key.PubKey()
	sec = append(sec, pk[:]...)
	pub = pubNonceOf(t, sec)
	// Index 0 is the sum of the others, which no one signer answers for.
	agg, err := AggregateNonces([]PubNonce{PubNonce(c.Aggothernonce), pub})
	if err != nil {
		return pub, sig, &ContributionError{Signer: -1, Contrib: "aggothernonce", Err: err}
	}
	n, err := importNonce(t, sec)
	if err != nil {
		return pub, sig, err
	}
	sig, err = signBytes(ctx, key, n, agg, msg)
	return pub, sig, err
}
