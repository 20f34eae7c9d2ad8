package frost

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
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

func (h hexed) secret() secret.Bytes { return secret.New(bytes.Clone(h)) }

// vectorFile has the fields of all files together; a file without groups is one
// group.
type vectorFile struct {
	Groups []group `json:"test_groups"`
	group
}

type group struct {
	TG         string `json:"tg_id"`
	T, N       int
	ThreshPK   hexed `json:"thresh_pk"`
	Pubshares  []hexed
	Pubnonces  []hexed
	Secshares  []hexed
	Secnonces  []hexed
	Tweaks     []hexed
	Valid      []vector `json:"valid_tests"`
	Errors     []vector `json:"error_tests"`
	SignErrors []vector `json:"sign_error_tests"`
	Fails      []vector `json:"verify_fail_tests"`
	VerErrors  []vector `json:"verify_error_tests"`
}

type vector struct {
	ID            int `json:"tc_id"`
	Comment       string
	My            int    `json:"my_id"`
	Signer        *int   `json:"signer_id"`
	IDs           []int  `json:"ids"`
	Shares        []*int `json:"pubshare_indices"`
	Nonces        []int  `json:"pubnonce_indices"`
	Secshare      int    `json:"secshare_index"`
	Secnonce      int    `json:"secnonce_index"`
	SignerAt      int    `json:"signer_index"`
	TweakAt       []int  `json:"tweak_indices"`
	XOnly         []bool `json:"is_xonly"`
	T             int
	ThreshPK      hexed `json:"thresh_pk"`
	RawShare      hexed `json:"secshare"`
	RawNonce      hexed `json:"secnonce"`
	Tweaks, Psigs []hexed
	Aggnonce, Msg hexed
	Psig, Rand    hexed
	RandGen       hexed `json:"rand_"`
	AuxRand       hexed `json:"aux_rand"`
	Aggothernonce hexed
	Extra         hexed `json:"extra_in"`
	Pubshare      hexed
	X             hexed `json:"thresh_pk_xonly"`
	Expected      json.RawMessage
	Error         json.RawMessage
}

func (v *vector) want(t *testing.T) (out []hexed) {
	t.Helper()
	if err := json.Unmarshal(v.Expected, &out); err != nil {
		var one hexed
		if err := json.Unmarshal(v.Expected, &one); err != nil {
			t.Fatal(err)
		}
		out = []hexed{one}
	}
	return out
}

// load reads a file and checks the number of its cases.
func load(t *testing.T, name string, cases int) []group {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var v vectorFile
	if err := json.NewDecoder(z).Decode(&v); err != nil {
		t.Fatal(err)
	}
	if v.Groups == nil {
		v.Groups = []group{v.group}
	}
	n := 0
	for _, g := range v.Groups {
		n += len(g.Valid) + len(g.Errors) + len(g.SignErrors) + len(g.Fails) + len(g.VerErrors)
	}
	if n != cases {
		t.Fatalf("%s has %d cases, want %d", name, n, cases)
	}
	return v.Groups
}

func pubKey(h hexed) (k bip340.PubKey) {
	copy(k[:], h)
	return k
}

func (v *vector) name(g group) string { return fmt.Sprintf("%s/%d %s", g.TG, v.ID, v.Comment) }

// info builds the group's record, with the shares that v names for its ids in
// place of the true ones.
func (g *group) info(v *vector) (*Info, error) {
	n := g.N
	shares := make([]bip340.PubKey, n)
	for i := range shares {
		shares[i] = pubKey(g.Pubshares[i])
	}
	for i, at := range v.Shares {
		if id := v.IDs[i]; id < n {
			shares[id] = pubKey(g.Pubshares[*at])
		}
	}
	return NewInfo(0, g.T, pubKey(g.ThreshPK), shares)
}

// context goes from the record to the tweaked key.
func (g *group) context(v *vector) (*Context, error) {
	info, err := g.info(v)
	if err != nil {
		return nil, err
	}
	signers, err := info.Signers(v.IDs...)
	if err != nil {
		return nil, err
	}
	c := signers.Untweaked()
	tweaks := v.Tweaks
	for _, at := range v.TweakAt {
		tweaks = append(tweaks, g.Tweaks[at])
	}
	if len(tweaks) != len(v.XOnly) {
		return nil, errUntyped
	}
	for i, tw := range tweaks {
		if len(tw) != 32 {
			return nil, errUntyped
		}
		if c, err = c.Tweak([32]byte(tw), v.XOnly[i]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// errUntyped stands for inputs that the types of this package exclude.
var errUntyped = errors.New("cannot be written down")

// sign signs as the vector says, through the same path as Pending and Answer.
func (g *group) sign(v *vector, my int, share, nonce hexed) (PartialSig, error) {
	c, err := g.context(v)
	if err != nil {
		return PartialSig{}, err
	}
	at, err := (&Share{info: c.info, id: my}).member(c)
	if err != nil {
		return PartialSig{}, err
	}
	s, err := NewShare(c.info, my, share.secret())
	if err != nil {
		return PartialSig{}, err
	}
	n, err := bip340.ImportSecNonce(s.key.PubKey(), nonce.secret())
	if err != nil {
		return PartialSig{}, err
	}
	return c.sign(s.key, at, n, func() (*Session, error) { return c.session(AggNonce(v.Aggnonce), v.Msg) })
}

func TestVectorsNonceAgg(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "nonce_agg_v0.6.0", 5) {
		all := func(v vector) (out []PubNonce) {
			for _, i := range v.Nonces {
				out = append(out, PubNonce(g.Pubnonces[i]))
			}
			return out
		}
		for _, v := range g.Valid {
			if agg, err := AggregateNonces(all(v)); err != nil || !bytes.Equal(agg[:], v.want(t)[0]) {
				t.Errorf("%s: %x, %v", v.name(g), agg, err)
			}
		}
		for _, v := range g.Errors {
			_, err := AggregateNonces(all(v))
			checkError(t, v.name(g), err, v.Error)
		}
	}
}

// checkError compares with what the vector says.
func checkError(t *testing.T, name string, err error, raw json.RawMessage) {
	t.Helper()
	var want struct {
		Type, Message, Contrib string
		Signer                 *int `json:"signer_index"`
	}
	if e := json.Unmarshal(raw, &want); e != nil {
		t.Fatal(e)
	}
	if want.Type == "InvalidContributionError" {
		at := -1
		if want.Signer != nil {
			at = *want.Signer
		}
		var c *ContributionError
		if !errors.As(err, &c) || c.Index != at || c.Contrib != want.Contrib {
			t.Errorf("%s: error %v, want %s of %d blamed", name, err, want.Contrib, at)
		}
		return
	}
	sentinel, ok := map[string]error{
		"The signer's id must be present in the participant identifier list.": ErrSigners,
		"The participant identifier list contains duplicate elements.":        ErrSigners,
		"The signer's pubshare must be included in the list of pubshares.":    ErrShare,
		"Invalid pubshare at index 0.":                                        bip340.ErrPoint,
		"Invalid pubshare at index 1.":                                        bip340.ErrPoint,
		"The threshold pubkey must not be the point at infinity.":             ErrInfo,
		"The participant identifier at index 0 is out of range.":              ErrSigners,
		"The provided key material is incorrect.":                             ErrInfo,
		"first secnonce value is out of range.":                               bip340.ErrScalar,
		"second secnonce value is out of range.":                              bip340.ErrScalar,
		"The number of signers must be between t and n.":                      ErrSigners,
		"The signer's secret share value is out of range.":                    bip340.ErrScalar,
		"The psigs and ids arrays must have the same length.":                 ErrSigners,
		"The tweak value is out of range.":                                    bip340.ErrScalar,
		"The result of tweaking cannot be infinity.":                          bip340.ErrInfinity,
		"The tweaks and is_xonly arrays must have the same length.":           errUntyped,
		"The tweak must be a 32-byte array.":                                  errUntyped,
	}[want.Message]
	if !ok || !errors.Is(err, sentinel) {
		t.Errorf("%s: error %v, want one for %q", name, err, want.Message)
	}
}

func TestVectorsSignVerify(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "sign_verify_v0.8.0", 97) {
		for _, v := range g.Valid {
			sig, err := g.sign(&v, v.My, g.Secshares[v.Secshare], g.Secnonces[v.Secnonce])
			if err != nil || !bytes.Equal(sig[:], v.want(t)[0]) {
				t.Errorf("%s: %x, %v", v.name(g), sig, err)
			}
			at := indexOf(v.IDs, v.My)
			if err := g.verify(&v, sig, at); err != nil {
				t.Errorf("%s: own partial signature: %v", v.name(g), err)
			}
		}
		for _, v := range g.SignErrors {
			_, err := g.sign(&v, v.My, g.Secshares[v.Secshare], g.Secnonces[v.Secnonce])
			checkError(t, v.name(g), err, v.Error)
		}
		for _, v := range g.Fails {
			if err := g.verify(&v, PartialSig(v.Psig), v.SignerAt); !errors.Is(err, ErrPartialSig) {
				t.Errorf("%s: %v", v.name(g), err)
			}
		}
		for _, v := range g.VerErrors {
			checkError(t, v.name(g), g.verify(&v, PartialSig(v.Psig), v.SignerAt), v.Error)
		}
	}
}

func indexOf(ids []int, id int) int {
	for i := range ids {
		if ids[i] == id {
			return i
		}
	}
	return -1
}

func (g *group) verify(v *vector, sig PartialSig, at int) error {
	c, err := g.context(v)
	if err != nil {
		return err
	}
	var nonces []PubNonce
	for _, i := range v.Nonces {
		nonces = append(nonces, PubNonce(g.Pubnonces[i]))
	}
	agg, err := AggregateNonces(nonces)
	if err != nil {
		return err
	}
	s, err := c.session(agg, v.Msg)
	if err != nil {
		return err
	}
	return s.VerifyPartial(sig, at, nonces[at])
}

func TestVectorsSigAgg(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "sig_agg_v0.8.0", 22) {
		combine := func(v vector) ([64]byte, *Context, error) {
			c, err := g.context(&v)
			if err != nil {
				t.Fatal(err)
			}
			s, err := c.session(AggNonce(v.Aggnonce), v.Msg)
			if err != nil {
				t.Fatal(err)
			}
			var sigs []PartialSig
			for _, p := range v.Psigs {
				sigs = append(sigs, PartialSig(p))
			}
			sig, err := s.Aggregate(sigs, nil)
			return sig, c, err
		}
		for _, v := range g.Valid {
			sig, c, err := combine(v)
			if err != nil || !bytes.Equal(sig[:], v.want(t)[0]) {
				t.Errorf("%s: %x, %v", v.name(g), sig, err)
			}
			if !bip340.Verify(c.OutputKey(), v.Msg, sig) {
				t.Errorf("%s: does not verify", v.name(g))
			}
		}
		for _, v := range g.Errors {
			_, _, err := combine(v)
			checkError(t, v.name(g), err, v.Error)
		}
	}
}

func TestVectorsTweak(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "tweak_v0.12.1_derived", 28) {
		for _, v := range g.Valid {
			sig, err := g.sign(&v, *v.Signer, v.RawShare, v.RawNonce)
			if err != nil || !bytes.Equal(sig[:], v.want(t)[0]) {
				t.Errorf("%s: %x, %v", v.name(g), sig, err)
			}
		}
	}
	for _, g := range load(t, "tweak_v0.6.0", 44) {
		for _, v := range g.Valid { // replaced by the derived ones: only the contexts hold
			if _, err := g.context(&v); err != nil {
				t.Errorf("%s: %v", v.name(g), err)
			}
		}
		for _, v := range g.Errors {
			_, err := g.sign(&v, v.My, g.Secshares[v.Secshare], g.Secnonces[v.Secnonce])
			checkError(t, v.name(g), err, v.Error)
		}
	}
}

func TestVectorsSignDerived(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "sign_v0.12.1_derived", 25) {
		for _, v := range g.Valid {
			sig, err := g.sign(&v, *v.Signer, v.RawShare, v.RawNonce)
			if err != nil || !bytes.Equal(sig[:], v.want(t)[0]) {
				t.Errorf("%s: %x, %v", v.name(g), sig, err)
			}
		}
	}
}

func TestVectorsThresholdInfo(t *testing.T) {
	t.Parallel()
	for _, g := range load(t, "threshold_info_v0.12.1", 40) {
		info := func(v vector) error {
			shares := make([]bip340.PubKey, len(v.Shares))
			for i, at := range v.Shares {
				if at == nil {
					continue
				}
				if shares[i] = pubKey(g.Pubshares[*at]); shares[i] == (bip340.PubKey{}) {
					return bip340.ErrPoint // all zeros: here, the encoding of absence
				}
			}
			in, err := NewInfo(7, v.T, pubKey(v.ThreshPK), shares)
			if err != nil {
				return err
			}
			again, err := ParseInfo(in.Encode())
			if err == nil && (again.Epoch() != 7 || again.PubKey() != in.PubKey()) {
				t.Errorf("%s: encoding lost something", v.name(g))
			}
			return err
		}
		for _, v := range g.Valid {
			if err := info(v); err != nil {
				t.Errorf("%s: %v", v.name(g), err)
			}
		}
		for _, v := range g.Errors {
			want := ErrInfo
			if string(v.Error) == `"point"` {
				want = bip340.ErrPoint
			}
			if err := info(v); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", v.name(g), err, want)
			}
		}
	}
}
