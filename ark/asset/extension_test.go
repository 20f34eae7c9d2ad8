package asset

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/internal/vector"
)

type extensionCase struct {
	Name, Hex              string
	ExpectedPacketCount    int
	ExpectedPacketTypes    []byte
	ExpectedError          string
	ExpectedAssetPacketHex string
	ExpectedPacketHex      string
	QueryType              byte
}

func deserialize(t testing.TB, s string) *wire.MsgTx {
	t.Helper()
	tx := wire.NewMsgTx(2)
	if err := tx.DeserializeNoWitness(bytes.NewReader(vector.Hex(t, s))); err != nil {
		t.Fatal(err)
	}
	return tx
}

func TestExtensionVectors(t *testing.T) {
	f := vector.Open(t, "extension.json.gz")
	vector.Count(t, f, map[string]map[string]int{
		"invalid/newExtensionFromBytes": both(7), "invalid/serialize": onlyArkd(1),
		"isExtension/true": both(3), "isExtension/false": both(5),
		"newExtensionFromTx/valid": onlyArkd(3), "newExtensionFromTx/invalid": onlyArkd(3),
		"valid/newExtensionFromBytes": each(3, 7), "valid/roundtrip": each(6, 7),
		"getAssetPacket/found": onlyArkd(2), "getAssetPacket/notFound": onlyArkd(2),
		"getPacketByType/found": onlyArkd(3), "getPacketByType/notFound": onlyArkd(2),
	})
	parse := func(c extensionCase) Extension {
		if c.Hex == "" {
			return nil
		}
		e, err := ParseExtension(vector.Hex(t, c.Hex))
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		return e
	}
	vector.Each(t, f, "valid/newExtensionFromBytes", func(c extensionCase) {
		e := parse(c)
		if len(e) != c.ExpectedPacketCount {
			t.Errorf("%s: %d packets", c.Name, len(e))
		}
		for i, typ := range c.ExpectedPacketTypes {
			if e[i].Type != typ {
				t.Errorf("%s: packet %d of type %d", c.Name, i, e[i].Type)
			}
		}
	})
	vector.Each(t, f, "valid/roundtrip", func(c extensionCase) {
		if s, err := parse(c).Script(); err != nil || hex.EncodeToString(s) != c.Hex {
			t.Errorf("%s: %.80x, %v", c.Name, s, err)
		}
	})
	vector.Each(t, f, "invalid/newExtensionFromBytes", func(c extensionCase) {
		if _, err := ParseExtension(vector.Hex(t, c.Hex)); !errors.Is(err, ErrExtension) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	if _, err := (Extension{}).Script(); !errors.Is(err, ErrExtension) {
		t.Errorf("empty: %v", err)
	}
	for path, want := range map[string]bool{"isExtension/true": true, "isExtension/false": false} {
		vector.Each(t, f, path, func(c extensionCase) {
			if IsExtension(vector.Hex(t, c.Hex)) != want {
				t.Errorf("%s: not %v", c.Name, want)
			}
		})
	}
	vector.Each(t, f, "newExtensionFromTx/valid", func(c extensionCase) {
		if _, e, err := Find(deserialize(t, c.Hex).TxOut); err != nil || len(e) != c.ExpectedPacketCount {
			t.Errorf("%s: %d packets, %v", c.Name, len(e), err)
		}
	})
	vector.Each(t, f, "newExtensionFromTx/invalid", func(c extensionCase) {
		want := ErrExtension
		if c.ExpectedError == "ErrExtensionNotFound" {
			want = ErrNoExtension
		}
		if _, _, err := Find(deserialize(t, c.Hex).TxOut); !errors.Is(err, want) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	vector.Each(t, f, "getAssetPacket/found", func(c extensionCase) {
		if p, err := parse(c).Assets(); err != nil || hex.EncodeToString(p.Encode()) != c.ExpectedAssetPacketHex {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	vector.Each(t, f, "getAssetPacket/notFound", func(c extensionCase) {
		if p, err := parse(c).Assets(); err != nil || p != nil {
			t.Errorf("%s: %v, %v", c.Name, p, err)
		}
	})
	vector.Each(t, f, "getPacketByType/found", func(c extensionCase) {
		if got := parse(c).Part(c.QueryType); hex.EncodeToString(got) != c.ExpectedPacketHex {
			t.Errorf("%s: %x", c.Name, got)
		}
	})
	vector.Each(t, f, "getPacketByType/notFound", func(c extensionCase) {
		if got := parse(c).Part(c.QueryType); got != nil {
			t.Errorf("%s: %x", c.Name, got)
		}
	})
}

type txCase struct {
	Name, Tx, Packet string
	Prevouts         map[int][]struct {
		AssetID string `json:"assetId"`
		Amount  uint64
	}
}

// A delegate passes transfers on and refuses whatever issues or burns, even
// where the operator would take it.
func TestTransactionVectors(t *testing.T) {
	f := open(t)
	check := func(c txCase) error {
		held := map[int][]Holding{}
		for i, list := range c.Prevouts {
			for _, a := range list {
				id, err := ParseID(a.AssetID)
				if err != nil {
					t.Fatal(err)
				}
				held[i] = append(held[i], Holding{id, a.Amount})
			}
		}
		tx := deserialize(t, c.Tx)
		for _, out := range tx.TxOut {
			// The file's transactions have the packet without its length, as it was
			// written before; the packet itself is today's.
			if IsExtension(out.PkScript) && bytes.Contains(out.PkScript, vector.Hex(t, c.Packet)) {
				var err error
				if out.PkScript, err = (Extension{{TypeAsset, vector.Hex(t, c.Packet)}}).Script(); err != nil {
					t.Fatal(err)
				}
			}
		}
		return ConservesAssets(tx, held, func(*wire.TxOut) bool { return true })
	}
	want := map[string]error{
		"issuance without control asset":           ErrIssuance,
		"issuance with control asset ref by group": ErrIssuance,
		"issuance with control asset ref by id":    ErrIssuance,
		"issuance of self-controlled asset":        ErrIssuance,
		"reissuance":                               ErrIssuance,
		"burn":                                     ErrNotConserved,
	}
	vector.Each(t, f, "tx_validation/valid", func(c txCase) {
		if err := check(c); !errors.Is(err, want[c.Name]) {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
	vector.Each(t, f, "tx_validation/invalid", func(c txCase) {
		if err := check(c); err == nil {
			t.Errorf("%s passes", c.Name)
		}
	})
}

func TestConservesAssets(t *testing.T) {
	id, other := ID{chainhash.Hash{1}, 0}, ID{chainhash.Hash{2}, 3}
	wallet, stranger := []byte{0x51, 0x01, 1}, []byte{0x51, 0x01, 2}
	held := map[int][]Holding{1: {{id, 100}}, 2: {{id, 5}, {other, 1<<64 - 1}}}
	group := func(id ID, ins []Input, outs ...Output) Group { return Group{ID: &id, Inputs: ins, Outputs: outs} }
	good := Packet{
		group(id, []Input{{Vin: 1, Amount: 100}, {Vin: 2, Amount: 5}}, Output{0, 100}, Output{2, 5}),
		group(other, []Input{{Vin: 2, Amount: 1<<64 - 1}}, Output{0, 1<<64 - 1}),
	}
	build := func(p Packet) *wire.MsgTx {
		tx := wire.NewMsgTx(2)
		for _, s := range [][]byte{wallet, stranger, wallet} {
			tx.AddTxOut(wire.NewTxOut(1000, s))
		}
		s, err := Extension{{TypeAsset, p.Encode()}, {0x77, []byte("carried")}}.Script()
		if err != nil {
			t.Fatal(err)
		}
		tx.AddTxOut(wire.NewTxOut(0, s))
		tx.AddTxOut(ark.AnchorOut())
		return tx
	}
	keep := func(out *wire.TxOut) bool { return bytes.Equal(out.PkScript, wallet) }
	if err := ConservesAssets(build(good), held, keep); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		want  error
		spoil func(p Packet)
	}{
		"to a stranger":    {ErrNotConserved, func(p Packet) { p[0].Outputs[0].Vout = 1 }},
		"to the extension": {ErrNotConserved, func(p Packet) { p[0].Outputs[0].Vout = 3 }},
		"to the anchor":    {ErrNotConserved, func(p Packet) { p[0].Outputs[0].Vout = 4 }},
		"to nowhere":       {ErrNotConserved, func(p Packet) { p[0].Outputs[0].Vout = 5 }},
		"one burned":       {ErrNotConserved, func(p Packet) { p[0].Outputs[0].Amount-- }},
		"one made":         {ErrIssuance, func(p Packet) { p[0].Outputs[0].Amount++ }},
		"made by overflow": {ErrIssuance, func(p Packet) { p[1].Outputs = append(p[1].Outputs, Output{2, 1}) }},
		"holding left out": {ErrNotConserved, func(p Packet) { p[0].Inputs = p[0].Inputs[:1]; p[0].Outputs = p[0].Outputs[:1] }},
		"wrong amount":     {ErrNotConserved, func(p Packet) { p[0].Inputs[0].Amount++ }},
		"wrong input":      {ErrNotConserved, func(p Packet) { p[0].Inputs[0].Vin = 7 }},
		"intent input":     {ErrNotConserved, func(p Packet) { p[1].Inputs[0] = Input{Intent: true, Txid: chainhash.Hash{9}, Amount: 1<<64 - 1} }},
		"issuance":         {ErrIssuance, func(p Packet) { p[1].ID, p[1].Inputs = nil, nil }},
		"foreign asset":    {ErrNotConserved, func(p Packet) { p[1].ID = &ID{chainhash.Hash{5}, 0} }},
	} {
		p := Packet{}
		for _, g := range good {
			g.Inputs, g.Outputs = append([]Input(nil), g.Inputs...), append([]Output(nil), g.Outputs...)
			p = append(p, g)
		}
		c.spoil(p)
		if err := ConservesAssets(build(p), held, keep); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	bare := wire.NewMsgTx(2)
	bare.AddTxOut(wire.NewTxOut(1, wallet))
	if err := ConservesAssets(bare, held, keep); !errors.Is(err, ErrNotConserved) {
		t.Errorf("no extension: %v", err)
	}
	if err := ConservesAssets(bare, map[int][]Holding{1: nil}, keep); err != nil {
		t.Errorf("no assets: %v", err)
	}
	twice := build(good)
	twice.AddTxOut(twice.TxOut[3])
	if err := ConservesAssets(twice, held, keep); !errors.Is(err, ErrExtension) {
		t.Errorf("two extensions: %v", err)
	}
	paid := build(good)
	paid.TxOut[3].Value = 1
	if err := ConservesAssets(paid, held, keep); !errors.Is(err, ErrExtension) {
		t.Errorf("extension with a value: %v", err)
	}
}

func TestLeafScript(t *testing.T) {
	id, proof := ID{chainhash.Hash{1}, 0}, chainhash.Hash{7}
	p := Packet{{ID: &id, Inputs: []Input{{Vin: 1, Amount: 9}}, Outputs: []Output{{0, 9}}}}
	s, err := Extension{{TypeAsset, p.Encode()}, {0x77, []byte("carried")}}.Script()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := LeafScript(s, proof)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseExtension(leaf)
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.Assets()
	if err != nil || len(got) != 1 || got[0].Inputs[0] != (Input{Intent: true, Txid: proof}) || got[0].Outputs[0] != p[0].Outputs[0] {
		t.Errorf("leaf packet %+v, %v", got, err)
	}
	if string(e.Part(0x77)) != "carried" {
		t.Error("other packets are not carried")
	}
	if hs, err := HoldingsOf(ark.VTXO{Assets: []ark.AssetAmount{{AssetID: id.String(), Amount: 9}}}); err != nil || hs[0] != (Holding{id, 9}) {
		t.Errorf("holdings %v, %v", hs, err)
	}
	if _, err := HoldingsOf(ark.VTXO{Assets: []ark.AssetAmount{{AssetID: "x"}}}); !errors.Is(err, ErrPacket) {
		t.Errorf("bad id: %v", err)
	}
}

func FuzzExtension(f *testing.F) {
	for _, path := range []string{"valid/newExtensionFromBytes", "invalid/newExtensionFromBytes"} {
		vector.Each(f, vector.Open(f, "extension.json.gz"), path, func(c extensionCase) { f.Add(vector.Hex(f, c.Hex)) })
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseExtension(b)
		if err != nil {
			return
		}
		s, err := e.Script()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseExtension(s)
		if err != nil || len(again) != len(e) {
			t.Fatalf("%x re-encodes to %x: %v", b, s, err)
		}
		if _, err := LeafScript(b, chainhash.Hash{1}); err != nil {
			t.Fatal(err)
		}
	})
}
