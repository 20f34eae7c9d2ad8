package asset

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/internal/vector"
)

// both is a count that arkd's and the ts SDK's files share.
func both(n int) map[string]int     { return map[string]int{"arkd": n, "ts": n} }
func each(a, t int) map[string]int  { return map[string]int{"arkd": a, "ts": t} }
func onlyArkd(n int) map[string]int { return map[string]int{"arkd": n} }
func onlyTS(n int) map[string]int   { return map[string]int{"ts": n} }

func open(t testing.TB) vector.File {
	t.Helper()
	return vector.Open(t, "asset.json.gz")
}

func TestCount(t *testing.T) {
	vector.Count(t, open(t), map[string]map[string]int{
		"metadata/valid/newMetadata": both(6), "metadata/valid/newMetadataList": both(3), "metadata/valid/hash": both(3),
		"metadata/invalid/newMetadata": both(2), "metadata/invalid/newMetadataFromString": both(3),
		"metadata/invalid/newMetadataListFromString": each(4, 3),
		"asset_ref/valid/newAssetRefFromId":          both(1), "asset_ref/valid/newAssetRefFromGroup": both(5),
		"asset_ref/invalid/newAssetRefFromString": both(5),
		"asset_input/valid/newInput":              both(2), "asset_input/valid/newInputs": both(4),
		"asset_input/invalid/newInput": both(4), "asset_input/invalid/newInputFromString": both(5),
		"asset_input/invalid/newInputs": each(3, 2), "asset_input/invalid/newInputsFromString": onlyArkd(8),
		"asset_output/valid/newOutput": both(1), "asset_output/valid/newOutputs": both(2),
		"asset_output/invalid/newOutput": both(1), "asset_output/invalid/newOutputFromString": both(6),
		"asset_output/invalid/newOutputs": each(2, 1), "asset_output/invalid/newOutputsFromString": onlyArkd(8),
		"packet/valid/newPacket": both(2), "packet/valid/newPacketFromString": both(1), "packet/valid/leafTxPacket": both(1),
		"packet/invalid/newPacket": both(3), "packet/invalid/newPacketFromString": each(7, 3),
		"asset_group/valid": both(10), "asset_group/invalid/newAssetGroup": both(3),
		"asset_group/invalid/newAssetGroupFromString": both(4),
		"asset_id/valid": onlyArkd(5), "asset_id/invalid/newAssetId": onlyArkd(5),
		"asset_id/invalid/newAssetIdFromString": onlyArkd(4),
		"tx_validation/valid":                   onlyArkd(10), "tx_validation/invalid": onlyArkd(12),
		"asset_id_vectors/valid": onlyTS(4), "asset_id_vectors/invalid_identity": onlyTS(3),
		"asset_id_vectors/invalid_decode": onlyTS(5), "asset_id_vectors/invalid_construction": onlyTS(7),
	})
}

// The vectors' JSON.
type (
	metadataJSON struct{ Key, Value string }
	inputJSON    struct {
		Type, Txid string
		Vin        int
		Amount     uint64
	}
	outputJSON struct {
		Vout   int
		Amount uint64
	}
	idJSON struct {
		Txid  string
		Index int
	}
	refJSON struct {
		GroupIndex *int
		AssetID    *idJSON `json:"assetId"`
		idJSON
	}
	groupJSON struct {
		AssetID      *idJSON `json:"assetId"`
		ControlAsset *refJSON
		Metadata     []metadataJSON
		Inputs       []inputJSON
		Outputs      []outputJSON
	}
	testCase struct {
		Name string
		groupJSON
		idJSON
		metadataJSON
		Type                 string
		Vin, Vout            int
		Amount               uint64
		Assets               []groupJSON
		SerializedHex        string
		ExpectedHash         string
		Expected             json.RawMessage
		Script               string
		IntentTxid           string
		ExpectedLeafTxPacket string
	}
)

// txid is the hash of a text, or false when it is none.
func txid(s string) (chainhash.Hash, bool) {
	h, err := ark.ParseTxid(s)
	return h, err == nil
}

func (j idJSON) id() (ID, bool) {
	h, ok := txid(j.Txid)
	return ID{h, uint16(j.Index)}, ok && h != chainhash.Hash{}
}

func (j inputJSON) input() (Input, bool) {
	in := Input{Vin: uint16(j.Vin), Amount: j.Amount}
	if j.Type != "intent" {
		return in, true
	}
	h, ok := txid(j.Txid)
	in.Intent, in.Txid = true, h
	return in, ok
}

func (j groupJSON) group(t testing.TB) Group {
	t.Helper()
	var g Group
	if j.AssetID != nil {
		id, _ := j.AssetID.id()
		g.ID = &id
	}
	if c := j.ControlAsset; c != nil {
		g.Control = &Ref{}
		switch {
		case c.GroupIndex != nil:
			*g.Control = Ref{ByGroup: true, Group: uint16(*c.GroupIndex)}
		case c.AssetID != nil:
			g.Control.ID, _ = c.AssetID.id()
		default:
			g.Control.ID, _ = c.id()
		}
	}
	for _, m := range j.Metadata {
		g.Metadata = append(g.Metadata, Metadata{[]byte(m.Key), []byte(m.Value)})
	}
	for _, i := range j.Inputs {
		in, _ := i.input()
		g.Inputs = append(g.Inputs, in)
	}
	for _, o := range j.Outputs {
		g.Outputs = append(g.Outputs, Output{uint16(o.Vout), o.Amount})
	}
	return g
}

// roundtrip compares an encoding and reads it back.
func roundtrip[T any](t *testing.T, c testCase, v T, enc func([]byte, T) []byte, read func(*cursor) (T, error)) {
	t.Helper()
	if got := hex.EncodeToString(enc(nil, v)); got != c.SerializedHex {
		t.Errorf("%s: encoded %s, want %s", c.Name, got, c.SerializedHex)
	}
	cur := cursor{vector.Hex(t, c.SerializedHex)}
	got, err := read(&cur)
	if err != nil || cur.end() != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("%s: decoded %+v, %v; want %+v", c.Name, got, err, v)
	}
}

// refuses checks that hex, where it is hex at all, is refused.
func refuses[T any](t *testing.T, c testCase, text string, read func(*cursor) (T, error), check func(T) error) {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		return // our parsers take bytes, or fail in ParseID
	}
	cur := cursor{b}
	v, err := read(&cur)
	if err == nil {
		err = check(v)
	}
	if !errors.Is(err, ErrPacket) {
		t.Errorf("%s: decoded %+v, %v", c.Name, v, err)
	}
}

func TestMetadataVectors(t *testing.T) {
	f := open(t)
	list := func(c *cursor) ([]Metadata, error) { return readList(c, "metadata", c.metadata) }
	encList := func(b []byte, l []Metadata) []byte { return appendList(b, l, appendMetadata) }
	issue := func(l []Metadata) error { return Group{Metadata: l, Outputs: []Output{{0, 1}}}.Validate() }
	vector.Each(t, f, "metadata/valid/newMetadata", func(c testCase) {
		roundtrip(t, c, Metadata{[]byte(c.Key), []byte(c.Value)}, appendMetadata, (*cursor).metadata)
	})
	vector.Each(t, f, "metadata/valid/newMetadataList", func(c testCase) {
		roundtrip(t, c, c.group(t).Metadata, encList, list)
	})
	vector.Each(t, f, "metadata/valid/hash", func(c testCase) {
		if got := MetadataHash(c.group(t).Metadata); hex.EncodeToString(got[:]) != c.ExpectedHash {
			t.Errorf("%s: hash %x", c.Name, got)
		}
	})
	vector.Each(t, f, "metadata/invalid/newMetadata", func(c testCase) {
		if err := issue([]Metadata{{[]byte(c.Key), []byte(c.Value)}}); !errors.Is(err, ErrPacket) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	vector.Each(t, f, "metadata/invalid/newMetadataFromString", func(c testCase) {
		refuses(t, c, c.SerializedHex, (*cursor).metadata, func(Metadata) error { return nil })
	})
	vector.Each(t, f, "metadata/invalid/newMetadataListFromString", func(c testCase) {
		refuses(t, c, c.SerializedHex, list, issue)
	})
	if MetadataHash(nil) != [32]byte{} {
		t.Error("hash of nothing")
	}
}

func TestIDVectors(t *testing.T) {
	f := open(t)
	vector.Each(t, f, "asset_id/valid", func(c testCase) {
		id, _ := c.id()
		roundtrip(t, c, id, appendID, (*cursor).id)
		if got, err := ParseID(c.SerializedHex); err != nil || got != id || got.String() != c.SerializedHex {
			t.Errorf("%s: %v, %v", c.Name, got, err)
		}
	})
	vector.Each(t, f, "asset_id/invalid/newAssetId", func(c testCase) {
		if _, ok := c.id(); ok {
			t.Errorf("%s passes", c.Name)
		}
	})
	vector.Each(t, f, "asset_id/invalid/newAssetIdFromString", func(c testCase) {
		if _, err := ParseID(c.SerializedHex); !errors.Is(err, ErrPacket) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	type tsRaw struct {
		Label      string
		Value      string
		TxidHex    string `json:"txid_hex"`
		AssetIDHex string `json:"asset_id_hex"`
		GroupIndex int    `json:"group_index"`
		Outside    bool   `json:"outside_uint16"`
	}
	vector.Each(t, f, "asset_id_vectors/valid", func(c tsRaw) {
		id, ok := idJSON{c.TxidHex, c.GroupIndex}.id()
		if got, err := ParseID(c.AssetIDHex); !ok || err != nil || got != id || id.String() != c.AssetIDHex {
			t.Errorf("%s: %v, %v", c.Label, got, err)
		}
	})
	for _, path := range []string{"asset_id_vectors/invalid_identity", "asset_id_vectors/invalid_decode"} {
		vector.Each(t, f, path, func(c tsRaw) {
			if _, err := ParseID(c.Value); !errors.Is(err, ErrPacket) {
				t.Errorf("%s: %v", c.Label, err)
			}
		})
	}
	vector.Each(t, f, "asset_id_vectors/invalid_construction", func(c tsRaw) {
		// An index outside of uint16 cannot even be written.
		if _, ok := (idJSON{c.TxidHex, c.GroupIndex}).id(); ok != c.Outside {
			t.Errorf("%s passes", c.Label)
		}
	})
}

func TestRefVectors(t *testing.T) {
	f := open(t)
	vector.Each(t, f, "asset_ref/valid/newAssetRefFromId", func(c testCase) {
		id, _ := c.id()
		roundtrip(t, c, Ref{ID: id}, appendRef, (*cursor).ref)
	})
	vector.Each(t, f, "asset_ref/valid/newAssetRefFromGroup", func(c testCase) {
		roundtrip(t, c, Ref{ByGroup: true, Group: uint16(c.Index)}, appendRef, (*cursor).ref)
	})
	vector.Each(t, f, "asset_ref/invalid/newAssetRefFromString", func(c testCase) {
		refuses(t, c, c.SerializedHex, (*cursor).ref, func(Ref) error { return nil })
	})
}

func TestInputVectors(t *testing.T) {
	f := open(t)
	list := func(c *cursor) ([]Input, error) { return readList(c, "inputs", c.input) }
	encList := func(b []byte, l []Input) []byte { return appendList(b, l, appendInput) }
	vector.Each(t, f, "asset_input/valid/newInput", func(c testCase) {
		in, _ := inputJSON{c.Type, c.Txid, c.Vin, c.Amount}.input()
		roundtrip(t, c, in, appendInput, (*cursor).input)
	})
	vector.Each(t, f, "asset_input/valid/newInputs", func(c testCase) {
		ins := c.group(t).Inputs
		roundtrip(t, c, ins, encList, list)
		if err := validateInputs(ins); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	vector.Each(t, f, "asset_input/invalid/newInput", func(c testCase) {
		if in, ok := (inputJSON{c.Type, c.Txid, c.Vin, c.Amount}).input(); ok && validateInputs([]Input{in}) == nil {
			t.Errorf("%s passes", c.Name)
		}
	})
	vector.Each(t, f, "asset_input/invalid/newInputFromString", func(c testCase) {
		refuses(t, c, c.SerializedHex, (*cursor).input, func(Input) error { return nil })
	})
	vector.Each(t, f, "asset_input/invalid/newInputs", func(c testCase) {
		// A list may be empty in a group; nothing but an empty group is refused.
		g := Group{Inputs: c.group(t).Inputs}
		if err := g.Validate(); !errors.Is(err, ErrPacket) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	vector.Each(t, f, "asset_input/invalid/newInputsFromString", func(c testCase) {
		refuses(t, c, c.SerializedHex, list, validateInputs)
	})
}

func TestOutputVectors(t *testing.T) {
	f := open(t)
	list := func(c *cursor) ([]Output, error) { return readList(c, "outputs", c.output) }
	encList := func(b []byte, l []Output) []byte { return appendList(b, l, appendOutput) }
	vector.Each(t, f, "asset_output/valid/newOutput", func(c testCase) {
		roundtrip(t, c, Output{uint16(c.Vout), c.Amount}, appendOutput, (*cursor).output)
	})
	vector.Each(t, f, "asset_output/valid/newOutputs", func(c testCase) {
		roundtrip(t, c, c.group(t).Outputs, encList, list)
	})
	vector.Each(t, f, "asset_output/invalid/newOutput", func(c testCase) {
		if err := validateOutputs([]Output{{uint16(c.Vout), c.Amount}}); !errors.Is(err, ErrPacket) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	vector.Each(t, f, "asset_output/invalid/newOutputFromString", func(c testCase) {
		refuses(t, c, c.SerializedHex, (*cursor).output, func(o Output) error { return validateOutputs([]Output{o}) })
	})
	vector.Each(t, f, "asset_output/invalid/newOutputs", func(c testCase) {
		if err := (Group{Outputs: c.group(t).Outputs}).Validate(); !errors.Is(err, ErrPacket) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	vector.Each(t, f, "asset_output/invalid/newOutputsFromString", func(c testCase) {
		refuses(t, c, c.SerializedHex, list, validateOutputs)
	})
}

func TestGroupVectors(t *testing.T) {
	f := open(t)
	vector.Each(t, f, "asset_group/valid", func(c testCase) {
		g := c.group(t)
		if err := g.Validate(); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		roundtrip(t, c, g, appendGroup, (*cursor).group)
	})
	vector.Each(t, f, "asset_group/invalid/newAssetGroup", func(c testCase) {
		if err := c.group(t).Validate(); !errors.Is(err, ErrPacket) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	vector.Each(t, f, "asset_group/invalid/newAssetGroupFromString", func(c testCase) {
		refuses(t, c, c.SerializedHex, (*cursor).group, Group.Validate)
	})
}

func (c testCase) packet(t testing.TB) Packet {
	var p Packet
	for _, g := range c.Assets {
		p = append(p, g.group(t))
	}
	return p
}

func TestPacketVectors(t *testing.T) {
	f := open(t)
	vector.Each(t, f, "packet/valid/newPacket", func(c testCase) {
		var want string
		if err := json.Unmarshal(c.Expected, &want); err != nil {
			t.Fatal(err)
		}
		p := c.packet(t)
		if err := p.Validate(); err != nil || hex.EncodeToString(p.Encode()) != want {
			t.Errorf("%s: %x, %v", c.Name, p.Encode(), err)
		}
		if got, err := ParsePacket(vector.Hex(t, want)); err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%s: parsed %+v, %v", c.Name, got, err)
		}
	})
	vector.Each(t, f, "packet/valid/newPacketFromString", func(c testCase) {
		p, err := ParsePacket(vector.Hex(t, c.Script))
		if err != nil || hex.EncodeToString(p.Encode()) != c.Script {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	vector.Each(t, f, "packet/valid/leafTxPacket", func(c testCase) {
		p, err := ParsePacket(vector.Hex(t, c.Script))
		if err != nil {
			t.Fatal(err)
		}
		// The file's hash is two digits short and is padded.
		h, err := chainhash.NewHashFromStr(c.IntentTxid)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(p.Leaf(*h).Encode()); got != c.ExpectedLeafTxPacket {
			t.Errorf("%s: %s, want %s", c.Name, got, c.ExpectedLeafTxPacket)
		}
	})
	vector.Each(t, f, "packet/invalid/newPacket", func(c testCase) {
		if err := c.packet(t).Validate(); !errors.Is(err, ErrPacket) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	vector.Each(t, f, "packet/invalid/newPacketFromString", func(c testCase) {
		b, err := hex.DecodeString(c.Script)
		if err != nil {
			return
		}
		if _, err := ParsePacket(b); !errors.Is(err, ErrPacket) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
}

func FuzzPacket(f *testing.F) {
	vector.Each(f, open(f), "packet/valid/newPacketFromString", func(c testCase) { f.Add(vector.Hex(f, c.Script)) })
	vector.Each(f, open(f), "asset_group/valid", func(c testCase) { f.Add(vector.Hex(f, "01"+c.SerializedHex)) })
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePacket(b)
		if err != nil {
			return
		}
		again, err := ParsePacket(p.Encode())
		if err != nil || !bytes.Equal(again.Encode(), p.Encode()) {
			t.Fatalf("%x re-encodes to %x: %v", b, p.Encode(), err)
		}
		for _, g := range p {
			if g.ID != nil {
				if id, err := ParseID(g.ID.String()); err != nil || id != *g.ID || strings.ToLower(id.String()) != id.String() {
					t.Fatalf("id %s: %v", g.ID, err)
				}
			}
		}
	})
}
