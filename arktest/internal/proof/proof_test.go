package proof

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/psbt/v2"

	"github.com/vigil-ark/vigil/arktest/internal/vector"
)

func TestMessages(t *testing.T) {
	cases := vector.Cases[struct {
		Name     string
		Message  json.RawMessage
		Expected string
	}](t, "message.json", "cases")
	for _, c := range cases {
		var head struct{ Type string }
		if err := json.Unmarshal(c.Message, &head); err != nil {
			t.Fatal(err)
		}
		m, err := Decode(string(c.Message), head.Type)
		if err != nil || m.Encode() != c.Expected {
			t.Errorf("%s: %s (%v), want %s", c.Name, m.Encode(), err, c.Expected)
		}
		if _, err := Decode(c.Expected, "other"); err == nil {
			t.Errorf("%s: decodes as another type", c.Name)
		}
	}
}

type verifyCase struct {
	Name, Proof, Message string
	Expected             string   `json:"expected_error"`
	Skip                 []string `json:"skip_keys"`
}

func (c verifyCase) run(t *testing.T) error {
	t.Helper()
	p, err := psbt.NewFromRawBytes(strings.NewReader(c.Proof), true)
	if err != nil {
		return err
	}
	var skip [][32]byte
	for _, k := range c.Skip {
		raw, err := hex.DecodeString(k)
		if err != nil {
			t.Fatal(err)
		}
		skip = append(skip, [32]byte(raw[len(raw)-32:]))
	}
	return Verify(p, c.Message, skip)
}

func TestVerify(t *testing.T) {
	valid := vector.Cases[verifyCase](t, "verify.json.gz", "valid")
	bad := vector.Cases[verifyCase](t, "verify.json.gz", "invalid")
	if len(valid) != 5 || len(bad) != 7 {
		t.Fatalf("%d and %d cases, want 5 and 7", len(valid), len(bad))
	}
	for _, c := range valid {
		if err := c.run(t); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	for _, c := range bad {
		err := c.run(t)
		if err == nil {
			t.Errorf("%s: verifies", c.Name)
			continue
		}
		want := strings.TrimPrefix(strings.ReplaceAll(c.Expected, "#", ""), "invalid intent proof: ")
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", c.Name, err, c.Expected)
		}
	}
}

// TestToSpend: the valid proof vectors name the transaction that input 0
// spends.
func TestToSpend(t *testing.T) {
	for _, c := range vector.Cases[struct{ Name, Message, Expected string }](t, "proof.json", "valid") {
		p, err := psbt.NewFromRawBytes(strings.NewReader(c.Expected), true)
		if err != nil {
			t.Fatal(err)
		}
		if got := ToSpend(c.Message, p.Inputs[1].WitnessUtxo.PkScript).TxHash(); got != p.UnsignedTx.TxIn[0].PreviousOutPoint.Hash {
			t.Errorf("%s: spends %s, want %s", c.Name, p.UnsignedTx.TxIn[0].PreviousOutPoint.Hash, got)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(`{"type":"register","onchain_output_indexes":[],"valid_at":0,"expire_at":0,"cosigners_public_keys":["02"]}`, Register)
	f.Add(`{"type":"delete","expire_at":5}`, Delete)
	f.Fuzz(func(t *testing.T, text, kind string) {
		m, err := Decode(text, kind)
		if err != nil {
			return
		}
		again, err := Decode(m.Encode(), kind)
		if err != nil || again.Encode() != m.Encode() {
			t.Errorf("%q is not canonical after one encoding: %q (%v)", text, m.Encode(), err)
		}
	})
}
