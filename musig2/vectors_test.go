package musig2

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// hexed is a byte string in JSON; absent and null are nil.
type hexed []byte

func (h *hexed) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		return err
	}
	raw, err := hex.DecodeString(*s)
	*h = append(hexed{}, raw...)
	return err
}

// vectorError is what a file expects to go wrong.
type vectorError struct {
	Type, Contrib, Message string
	Signer                 *int
}

// vectorFile has the fields of all eight files together.
type vectorFile struct {
	SK                                                   hexed
	Pubkeys, Tweaks, Secnonces, Pnonces, Aggnonces, Msgs []hexed
	Psigs                                                []hexed
	Secnonce, Aggnonce, Msg                              hexed
	SortedPubkeys                                        []hexed      `json:"sorted_pubkeys"`
	Valid                                                []vectorCase `json:"valid_test_cases"`
	Cases                                                []vectorCase `json:"test_cases"`
	Errors                                               []vectorCase `json:"error_test_cases"`
	SignErrors                                           []vectorCase `json:"sign_error_test_cases"`
	VerifyFails                                          []vectorCase `json:"verify_fail_test_cases"`
	VerifyErrors                                         []vectorCase `json:"verify_error_test_cases"`
}

type vectorCase struct {
	Keys                               []int  `json:"key_indices"`
	Nonces                             []int  `json:"nonce_indices"`
	Pnonces                            []int  `json:"pnonce_indices"`
	TweakIdx                           []int  `json:"tweak_indices"`
	Psigs                              []int  `json:"psig_indices"`
	XOnly                              []bool `json:"is_xonly"`
	Agg                                int    `json:"aggnonce_index"`
	Msg                                any
	MsgIdx                             int `json:"msg_index"`
	Signer                             int `json:"signer_index"`
	SecIdx                             int `json:"secnonce_index"`
	Rand, Aggothernonce, Aggnonce, Sig hexed
	Tweaks                             []hexed
	Expected                           json.RawMessage
	RandGen                            hexed `json:"rand_"`
	SK, PK, Aggpk                      hexed
	Extra                              hexed `json:"extra_in"`
	ExpSec                             hexed `json:"expected_secnonce"`
	ExpPub                             hexed `json:"expected_pubnonce"`
	Error                              vectorError
	Comment                            string
}

func (c *vectorCase) want(t testing.TB) (out []hexed) {
	t.Helper()
	if err := json.Unmarshal(c.Expected, &out); err != nil {
		var one hexed
		if err := json.Unmarshal(c.Expected, &one); err != nil {
			t.Fatal(err)
		}
		out = []hexed{one}
	}
	return out
}

func load(t *testing.T, name string) (f vectorFile) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func pick[T ~[66]byte | ~[33]byte | ~[32]byte](t testing.TB, from []hexed, at []int) []T {
	t.Helper()
	out := make([]T, len(at))
	for i, j := range at {
		if len(from[j]) != len(out[i]) {
			t.Fatalf("entry %d has %d bytes", j, len(from[j]))
		}
		for n := range from[j] {
			out[i][n] = from[j][n]
		}
	}
	return out
}

// keyAgg is KeyAgg as published: in the order given, a single key no exception,
// then the tweaks.
func keyAgg(keys []bip340.PubKey, tweaks []hexed, xonly []bool) (*Context, error) {
	set, err := decodeKeys(keys)
	if err != nil {
		return nil, err
	}
	c, err := aggregate(keys, set)
	if err != nil {
		return nil, err
	}
	for i := range tweaks {
		t, err := c.tweak.ApplyTweak([32]byte(tweaks[i]), xonly[i])
		if err != nil {
			return nil, err
		}
		c.setTweak(t)
	}
	return c, nil
}

func chosen(from []hexed, at []int) []hexed {
	out := make([]hexed, len(at))
	for i, j := range at {
		out[i] = from[j]
	}
	return out
}

// checkError holds err against what the file says: the blamed signer and
// contribution, or the sentinel for the sentence.
func checkError(t *testing.T, err error, want vectorError) {
	t.Helper()
	if want.Type == "invalid_contribution" {
		signer := -1
		if want.Signer != nil {
			signer = *want.Signer
		}
		var c *ContributionError
		if !errors.As(err, &c) || c.Signer != signer || c.Contrib != want.Contrib {
			t.Fatalf("error %v, want %s of signer %d blamed", err, want.Contrib, signer)
		}
		return
	}
	for sentence, sentinel := range map[string]error{
		"must be included":   ErrNotCosigner,
		"less than n":        bip340.ErrScalar,
		"cannot be infinity": bip340.ErrInfinity,
		"out of range":       bip340.ErrScalar,
	} {
		if strings.Contains(want.Message, sentence) {
			if !errors.Is(err, sentinel) {
				t.Fatalf("error %v, want %v", err, sentinel)
			}
			return
		}
	}
	t.Fatalf("no sentinel for %q (error %v)", want.Message, err)
}

func importNonce(t testing.TB, sec hexed) (*SecNonce, error) {
	t.Helper()
	return bip340.ImportSecNonce(bip340.PubKey(sec[64:]), secret.New(bytes.Clone(sec[:64])))
}

// signBytes is Sign for a message of any length.
func signBytes(c *Context, key *bip340.Key, n *SecNonce, agg AggNonce, msg []byte) (PartialSig, error) {
	return c.sign(key, n, func() (*Session, error) { return c.session(agg, msg) })
}

func count(t *testing.T, what string, got, want int) {
	t.Helper()
	if got != want {
		t.Errorf("%d %s, want %d: a vector has gone missing", got, what, want)
	}
}

func TestVectorsKeySort(t *testing.T) {
	f := load(t, "key_sort")
	count(t, "keys", len(f.Pubkeys), 6)
	all := []int{0, 1, 2, 3, 4, 5}
	in, want := pick[bip340.PubKey](t, f.Pubkeys, all), pick[bip340.PubKey](t, f.SortedPubkeys, all)
	first := in[0]
	for i, k := range sorted(in) {
		if k != want[i] {
			t.Errorf("key %d: %s, want %s", i, k, want[i])
		}
	}
	if in[0] != first {
		t.Error("the caller's slice was sorted")
	}
}

func TestVectorsKeyAgg(t *testing.T) {
	f := load(t, "key_agg")
	count(t, "valid cases", len(f.Valid), 4)
	count(t, "error cases", len(f.Errors), 5)
	for i, c := range f.Valid {
		ctx, err := keyAgg(pick[bip340.PubKey](t, f.Pubkeys, c.Keys), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := ctx.OutputKey(); !bytes.Equal(got[:], c.want(t)[0]) {
			t.Errorf("case %d: %s", i, got)
		}
	}
	for _, c := range f.Errors {
		_, err := keyAgg(pick[bip340.PubKey](t, f.Pubkeys, c.Keys), chosen(f.Tweaks, c.TweakIdx), c.XOnly)
		checkError(t, err, c.Error)
	}
}

func TestVectorsNonceGen(t *testing.T) {
	f := load(t, "nonce_gen")
	count(t, "cases", len(f.Cases), 4)
	for i, c := range f.Cases {
		var msg hexed
		text, hasMsg := c.Msg.(string)
		if hasMsg {
			msg, _ = hex.DecodeString(text)
		}
		var n *SecNonce
		var pub PubNonce
		var err error
		if c.SK != nil {
			n, pub, err = newNonce(bytes.NewReader(c.RandGen), testKey(t, c.SK), c.Aggpk, msg, hasMsg, c.Extra)
		} else {
			// Without a key the randomness is the seed itself. NewNonce always has a key;
			// the encoding of absent fields is what this case can still tell.
			var k []byte
			fields := nonceFields(c.PK, c.Aggpk, msg, hasMsg, c.Extra)
			for i := range 2 {
				sum := tagNonce.Hash(c.RandGen, fields, []byte{byte(i)})
				k = append(k, sum[:]...)
			}
			if !bytes.Equal(k, c.ExpSec[:64]) {
				t.Errorf("case %d: nonce %x", i, k)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(pub[:], c.ExpPub) {
			t.Errorf("case %d: public nonce %x", i, pub)
		}
		// The secret half cannot be read: it is what the expected one is when both
		// have the same points.
		if want := pubNonceOf(t, c.ExpSec); pub != want {
			t.Errorf("case %d: expected secret nonce has the public nonce %x", i, want)
		}
		if !bytes.Equal(c.PK, c.ExpSec[64:]) || n == nil {
			t.Errorf("case %d: nonce not bound to its key", i)
		}
	}
}

func pubNonceOf(t testing.TB, sec hexed) (pub PubNonce) {
	t.Helper()
	for i := range 2 {
		k := testKey(t, sec[32*i:32*i+32]).PubKey()
		copy(pub[33*i:], k[:])
	}
	return pub
}

func TestVectorsNonceAgg(t *testing.T) {
	f := load(t, "nonce_agg")
	count(t, "valid cases", len(f.Valid), 2)
	count(t, "error cases", len(f.Errors), 3)
	for i, c := range f.Valid {
		got, err := AggregateNonces(pick[PubNonce](t, f.Pnonces, c.Pnonces))
		if err != nil || !bytes.Equal(got[:], c.want(t)[0]) {
			t.Errorf("case %d: %x (%v)", i, got, err)
		}
	}
	for _, c := range f.Errors {
		_, err := AggregateNonces(pick[PubNonce](t, f.Pnonces, c.Pnonces))
		checkError(t, err, c.Error)
	}
}
