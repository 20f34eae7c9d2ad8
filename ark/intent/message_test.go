package intent

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil/ark/internal/vector"
	"github.com/vigil-ark/vigil/bip340"
)

type messageCase struct {
	Name     string
	Message  json.RawMessage
	Expected string
}

func TestMessageVectors(t *testing.T) {
	f := vector.Open(t, "message.json")
	vector.Count(t, f, map[string]map[string]int{"cases": {"arkd": 6}})
	vector.Each(t, f, "cases", func(c messageCase) {
		kind, err := KindOf(string(c.Message))
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		m, err := Decode(string(c.Message), kind)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if got, err := m.Encode(); err != nil || got != c.Expected {
			t.Errorf("%s: encoded %s, %v", c.Name, got, err)
		}
		if _, err := DecodeCanonical(c.Expected, kind); err != nil {
			t.Errorf("%s: canonical text: %v", c.Name, err)
		}
		if _, err := DecodeCanonical(c.Expected+" ", kind); !errors.Is(err, ErrNotCanonical) {
			t.Errorf("%s: with a space: %v", c.Name, err)
		}
		for _, other := range []Kind{Register, Delete, GetData, "unknown"} {
			if _, err := Decode(c.Expected, other); other != kind && !errors.Is(err, ErrMessage) {
				t.Errorf("%s as %s: %v", c.Name, other, err)
			}
		}
	})
}

func TestRegisterMessage(t *testing.T) {
	key, err := bip340.ParsePubKeyHex("023c72addb4fdf09af94f0c94d7fe92a386a7e70cf8a1d85916386bb2535c7b1b1")
	if err != nil {
		t.Fatal(err)
	}
	text, err := NewRegister(1900000000, 0, key).Encode()
	const want = `{"type":"register","onchain_output_indexes":[],"valid_at":1900000000,"expire_at":0,"cosigners_public_keys":["023c72addb4fdf09af94f0c94d7fe92a386a7e70cf8a1d85916386bb2535c7b1b1"]}`
	if err != nil || text != want {
		t.Errorf("%s, %v", text, err)
	}
	m, err := DecodeCanonical(text, Register)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := m.CosignerKeys(); err != nil || len(keys) != 1 || keys[0] != key {
		t.Errorf("cosigners %v, %v", keys, err)
	}
	if empty, err := NewRegister(0, 0).Encode(); err != nil || !strings.Contains(empty, `"cosigners_public_keys":[]`) {
		t.Errorf("without cosigners: %s, %v", empty, err)
	}
}

func TestMessageRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":       "register",
		"empty":         "",
		"a list":        "[]",
		"negative time": `{"type":"register","valid_at":-1}`,
		"huge":          `{"type":"register","x":"` + strings.Repeat("x", maxMessage) + `"}`,
		"many indexes":  `{"type":"register","onchain_output_indexes":[0` + strings.Repeat(",0", maxIndexes) + `]}`,
		"many keys":     `{"type":"register","cosigners_public_keys":[""` + strings.Repeat(`,""`, maxCosigners) + `]}`,
		"float":         `{"type":"register","valid_at":1.5}`,
	} {
		if _, err := Decode(text, Register); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Message{Kind: Register, Cosigners: []string{"02"}}).CosignerKeys(); !errors.Is(err, ErrMessage) {
		t.Errorf("short key: %v", err)
	}
	if _, err := (Message{Kind: "x"}).Encode(); !errors.Is(err, ErrMessage) {
		t.Errorf("unknown kind: %v", err)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(`{"type":"register","onchain_output_indexes":null,"valid_at":1,"expire_at":2,"cosigners_public_keys":["<&>"]}`)
	f.Add(`{"type":"delete","expire_at":1762862490}`)
	f.Add(`{"TYPE":"get-data","expire_at":9223372036854775807}`)
	f.Fuzz(func(t *testing.T, text string) {
		kind, err := KindOf(text)
		if err != nil {
			return
		}
		m, err := Decode(text, kind)
		if err != nil {
			return
		}
		enc, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodeCanonical(enc, kind); err != nil {
			t.Fatalf("%q re-encodes to %q: %v, %v", text, enc, again, err)
		}
	})
}
