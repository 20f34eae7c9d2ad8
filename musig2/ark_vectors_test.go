package musig2

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/vigil-ark/vigil/bip340"
)

// TestVectorsArkLib replays a tree session of arkd's own library node by node:
// keys, aggregate nonces, partial and final signatures are equal.
func TestVectorsArkLib(t *testing.T) {
	var f struct {
		Root       hexed
		SecretKeys map[string]hexed
		Nodes      []struct {
			Txid                                           string
			Cosigners                                      []hexed
			Sighash, Internal, Output, AggNonce, Signature hexed
			Signers                                        []struct {
				Key                         string
				SecNonce, PubNonce, Partial hexed
			}
		}
	}
	decode(t, "ark_lib", &f)
	count(t, "nodes", len(f.Nodes), 5)
	signers := 0
	cache := NewCache(4)
	for _, node := range f.Nodes {
		keys := make([]bip340.PubKey, len(node.Cosigners))
		for i := range keys {
			keys[i] = bip340.PubKey(node.Cosigners[len(keys)-1-i]) // in another order than theirs
		}
		ctx, err := cache.Context(keys, f.Root)
		if err != nil {
			t.Fatal(err)
		}
		if got := ctx.InternalKey(); !bytes.Equal(got[:], node.Internal) {
			t.Errorf("%s: internal key %s", node.Txid, got)
		}
		if got := ctx.OutputPubKey(); !bytes.Equal(got[:], node.Output) {
			t.Errorf("%s: output key %s", node.Txid, got)
		}
		var nonces []PubNonce
		for _, s := range node.Signers {
			nonces = append(nonces, PubNonce(s.PubNonce))
		}
		agg, err := AggregateNonces(nonces)
		if err != nil || agg != AggNonce(node.AggNonce) {
			t.Errorf("%s: aggregate nonce %x (%v)", node.Txid, agg, err)
		}
		session, err := ctx.Session(agg, [32]byte(node.Sighash))
		if err != nil {
			t.Fatal(err)
		}
		var parts []PartialSig
		for i, s := range node.Signers {
			signers++
			key := testKey(t, f.SecretKeys[s.Key])
			n, err := importNonce(t, s.SecNonce)
			if err != nil {
				t.Fatal(err)
			}
			sig, err := session.Sign(key, n)
			if err != nil || !bytes.Equal(sig[:], s.Partial) {
				t.Errorf("%s, signer %s: partial signature %x (%v)", node.Txid, s.Key, sig, err)
			}
			if err := session.VerifyPartial(sig, key.PubKey(), nonces[i]); err != nil {
				t.Errorf("%s, signer %s: %v", node.Txid, s.Key, err)
			}
			parts = append(parts, sig)
		}
		sig, err := session.Combine(parts)
		if err != nil || !bytes.Equal(sig[:], node.Signature) {
			t.Errorf("%s: signature %x (%v)", node.Txid, sig, err)
		}
		if !bip340.Verify(ctx.OutputKey(), node.Sighash, sig) {
			t.Errorf("%s: signature does not verify", node.Txid)
		}
	}
	count(t, "signers", signers, 13)
}

// TestVectorsTsSDK runs the two cases of the npm SDK.
func TestVectorsTsSDK(t *testing.T) {
	var f struct {
		KeyAggregation struct {
			Pubkeys                                        []hexed
			Tweak, ExpectedAggregatedKey, ExpectedFinalKey hexed
		}
		Signing struct {
			Inputs struct {
				SecNonce, PubNonce, SecretKey, AggNonce, Message hexed
				PublicKeys                                       []hexed
				Options                                          struct {
					SortKeys     bool
					TaprootTweak hexed
				}
			}
			Result hexed
		}
	}
	decode(t, "ts_sdk", &f)
	a := f.KeyAggregation
	ctx, err := NewTaprootContext(pick[bip340.PubKey](t, a.Pubkeys, []int{0, 1}), a.Tweak)
	if err != nil {
		t.Fatal(err)
	}
	if got := ctx.InternalKey().XOnly(); !bytes.Equal(got[:], a.ExpectedAggregatedKey) {
		t.Errorf("aggregate key %s", got)
	}
	if got := ctx.OutputKey(); !bytes.Equal(got[:], a.ExpectedFinalKey) {
		t.Errorf("final key %s", got)
	}
	s := f.Signing.Inputs
	if ctx, err = NewTaprootContext(pick[bip340.PubKey](t, s.PublicKeys, []int{0, 1}), s.Options.TaprootTweak); err != nil {
		t.Fatal(err)
	}
	n, err := importNonce(t, s.SecNonce)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := ctx.Sign(testKey(t, s.SecretKey), n, AggNonce(s.AggNonce), [32]byte(s.Message))
	if err != nil || !bytes.Equal(sig[:], f.Signing.Result) {
		t.Errorf("partial signature %x (%v)", sig, err)
	}
	if got := pubNonceOf(t, s.SecNonce); !bytes.Equal(got[:], s.PubNonce) {
		t.Errorf("public nonce %x", got)
	}
}

func decode(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}
