package musig2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	peer "github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// testScalar is a fixed scalar for the i-th test key.
func testScalar(i int) []byte {
	h := bip340.TaggedHash("vigil/test/key", binary.BigEndian.AppendUint32(nil, uint32(i)))
	return h[:]
}

func testKey(t testing.TB, b []byte) *bip340.Key {
	t.Helper()
	k, err := bip340.NewKey(secret.New(bytes.Clone(b)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testKeys(t testing.TB, n int) ([]*bip340.Key, []bip340.PubKey) {
	t.Helper()
	keys, pubs := make([]*bip340.Key, n), make([]bip340.PubKey, n)
	for i := range keys {
		keys[i] = testKey(t, testScalar(i))
		pubs[i] = keys[i].PubKey()
	}
	return keys, pubs
}

// TestWithBtcec signs one tree node together with btcec's MuSig2: both sides
// make nonces and partial signatures, each side aggregates, verifies and
// combines, and the results must be equal. Signer 0 is ours in one direction,
// all the others are in the other one.
func TestWithBtcec(t *testing.T) {
	for _, n := range []int{2, 3, 10, 100} {
		for _, most := range []bool{false, true} {
			t.Run(fmt.Sprintf("n=%d,most ours=%v", n, most), func(t *testing.T) {
				if testing.Short() && n > 10 {
					t.Skip("slow peer")
				}
				signWithBtcec(t, n, func(i int) bool { return (i == 0) != most })
			})
		}
	}
}

func signWithBtcec(t *testing.T, n int, ours func(int) bool) {
	keys, pubs := testKeys(t, n)
	root := bip340.TaggedHash("TapLeaf", []byte("sweep"))
	msg := bip340.TaggedHash("vigil/test/msg", []byte{byte(n)})
	ctx, err := NewTaprootContext(pubs, root[:])
	if err != nil {
		t.Fatal(err)
	}
	peerKeys := make([]*btcec.PublicKey, n)
	for i, p := range pubs {
		if peerKeys[i], err = btcec.ParsePubKey(p[:]); err != nil {
			t.Fatal(err)
		}
	}
	aggKey, _, _, err := peer.AggregateKeys(append([]*btcec.PublicKey(nil), peerKeys...), true, peer.WithTaprootKeyTweak(root[:]))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := ctx.OutputPubKey(), aggKey.FinalKey.SerializeCompressed(); !bytes.Equal(got[:], want) {
		t.Fatalf("output key %x, want %x", got, want)
	}
	if got, want := ctx.InternalKey(), aggKey.PreTweakedKey.SerializeCompressed(); !bytes.Equal(got[:], want) {
		t.Fatalf("internal key %x, want %x", got, want)
	}

	sec, theirs := make([]*SecNonce, n), make([]*peer.Nonces, n)
	nonces, theirNonces := make([]PubNonce, n), make([][66]byte, n)
	for i := range n {
		if ours(i) {
			if sec[i], nonces[i], err = NewNonce(keys[i], ctx, &msg, nil); err != nil {
				t.Fatal(err)
			}
		} else {
			if theirs[i], err = peer.GenNonces(peer.WithPublicKey(peerKeys[i])); err != nil {
				t.Fatal(err)
			}
			nonces[i] = theirs[i].PubNonce
		}
		theirNonces[i] = nonces[i]
	}
	agg, err := AggregateNonces(nonces)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := peer.AggregateNonces(theirNonces); err != nil || agg != want {
		t.Fatalf("aggregate nonce %x, want %x (%v)", agg, want, err)
	}

	parts, theirParts := make([]PartialSig, n), make([]*peer.PartialSignature, n)
	for i := range n {
		if ours(i) {
			if parts[i], err = ctx.Sign(keys[i], sec[i], agg, msg); err != nil {
				t.Fatal(err)
			}
			theirParts[i] = &peer.PartialSignature{}
			if err := theirParts[i].Decode(bytes.NewReader(parts[i][:])); err != nil {
				t.Fatal(err)
			}
		} else {
			priv, _ := btcec.PrivKeyFromBytes(testScalar(i))
			// FastSign: the peer's own check is made below, and only for some.
			theirParts[i], err = peer.Sign(theirs[i].SecNonce, priv, agg, append([]*btcec.PublicKey(nil), peerKeys...), msg,
				peer.WithSortedKeys(), peer.WithTaprootSignTweak(root[:]), peer.WithFastSign())
			if err != nil {
				t.Fatal(err)
			}
			parts[i] = theirParts[i].S.Bytes()
		}
		if err := ctx.VerifyPartial(parts[i], pubs[i], nonces[i], agg, msg); err != nil {
			t.Fatalf("partial signature %d: %v", i, err)
		}
		if i < 3 && !theirParts[i].Verify(nonces[i], agg, append([]*btcec.PublicKey(nil), peerKeys...), peerKeys[i], msg,
			peer.WithSortedKeys(), peer.WithTaprootSignTweak(root[:])) {
			t.Fatalf("btcec refuses partial signature %d", i)
		}
	}
	sig, err := ctx.Combine(agg, msg, parts)
	if err != nil {
		t.Fatal(err)
	}
	if !bip340.Verify(ctx.OutputKey(), msg[:], sig) {
		t.Fatal("the combined signature does not verify")
	}
	parsed, err := schnorr.ParseSignature(sig[:])
	if err != nil || !parsed.Verify(msg[:], aggKey.FinalKey) {
		t.Fatalf("btcec refuses the combined signature (%v)", err)
	}
}
