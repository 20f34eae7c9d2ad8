package asset

import (
	"bytes"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/code"
)

// Source looks up assets issued earlier.
type Source interface {
	// Exists says whether the asset was issued.
	Exists(id string) bool
	// Control returns an asset's control asset, "" when it has none; known is
	// false for an asset that was never issued.
	Control(id string) (control string, known bool)
}

// Validate checks a transaction's groups against the assets that its inputs
// hold, by input index, and returns a coded error (codes 33 to 39 and 47).
func Validate(tx *wire.MsgTx, groups []Group, held map[int][]Amount, src Source, maxAssets int) error {
	if len(groups) == 0 && len(held) > 0 {
		return code.AssetValidation.New(nil, "asset packet not found in tx %s", tx.TxID())
	}
	for i, list := range held {
		for _, a := range list {
			if err := inputCovered(groups, i, a); err != nil {
				return err
			}
		}
	}
	perOutput := map[uint16]int{}
	for i, g := range groups {
		if err := validateIssue(groups, g, src); err != nil {
			return err
		}
		id := g.id(tx.TxHash(), i)
		if err := validateOutputs(tx, g, id); err != nil {
			return err
		}
		if err := validateInputs(tx, g, id, held); err != nil {
			return err
		}
		for _, o := range g.Outputs {
			perOutput[o.Vout]++
		}
	}
	for vout, n := range perOutput {
		if n > maxAssets {
			return code.TooManyAssets.New(code.Meta{"asset_count": n, "max_assets": maxAssets},
				"output %d has %d assets, exceeds max %d", vout, n, maxAssets)
		}
	}
	return nil
}

func find(groups []Group, id string) *Group {
	for i := range groups {
		if groups[i].ID != nil && groups[i].ID.String() == id {
			return &groups[i]
		}
	}
	return nil
}

func inputCovered(groups []Group, index int, a Amount) error {
	meta := code.Meta{"asset_id": a.ID}
	g := find(groups, a.ID)
	if g == nil {
		return code.AssetNotFound.New(meta, "input %d owns asset %s but it's not present in the packet", index, a.ID)
	}
	meta["input_index"] = 0
	for _, in := range g.Inputs {
		if int(in.Vin) != index {
			continue
		}
		if in.Amount != a.Amount {
			return code.AssetInput.New(meta, "input %d owns asset %s but amount mismatch: %d != %d", index, a.ID, in.Amount, a.Amount)
		}
		return nil
	}
	return code.AssetInput.New(meta, "input %d owns asset %s but it's not present in the asset group inputs", index, a.ID)
}

func validateIssue(groups []Group, g Group, src Source) error {
	if g.Issuance() && g.Control != nil {
		if !g.Control.ByGroup {
			if id := g.Control.ID.String(); !src.Exists(id) {
				return code.AssetValidation.New(code.Meta{"asset_id": id}, "control asset %s does not exist", id)
			}
		} else if !groups[g.Control.Group].Issuance() {
			return code.AssetValidation.New(nil, "control asset referenced by group index %d is not an issuance", g.Control.Group)
		}
	}
	if !g.Reissuance() {
		return nil
	}
	id := g.ID.String()
	control, known := src.Control(id)
	if !known {
		return code.AssetValidation.New(code.Meta{"asset_id": id}, "control asset not found for asset %s", id)
	}
	if control == "" {
		return code.ControlInvalid.New(code.Meta{"asset_id": id}, "asset %s does not have a control asset", id)
	}
	if find(groups, control) == nil {
		return code.AssetNotFound.New(code.Meta{"asset_id": control}, "control asset %s not found in the packet", control)
	}
	return nil
}

func validateOutputs(tx *wire.MsgTx, g Group, id string) error {
	for _, o := range g.Outputs {
		meta := code.Meta{"asset_id": id, "output_index": int(o.Vout)}
		if int(o.Vout) >= len(tx.TxOut) {
			return code.AssetOutput.New(meta, "asset output vout %d out of range (%d outputs)", o.Vout, len(tx.TxOut))
		}
		script := tx.TxOut[o.Vout].PkScript
		if bytes.Equal(script, []byte{txscript.OP_1, txscript.OP_DATA_2, 0x4e, 0x73}) {
			return code.AssetOutput.New(meta, "asset output vout %d is an anchor output", o.Vout)
		}
		if len(script) > 0 && script[0] == txscript.OP_RETURN && !SubDust(script) {
			return code.AssetOutput.New(meta, "asset output vout %d is OP_RETURN", o.Vout)
		}
	}
	return nil
}

// SubDust says whether script is the OP_RETURN form of a VTXO below dust.
func SubDust(script []byte) bool {
	return len(script) == 34 && script[0] == txscript.OP_RETURN && script[1] == txscript.OP_DATA_32
}

func validateInputs(tx *wire.MsgTx, g Group, id string, held map[int][]Amount) error {
	for i, in := range g.Inputs {
		meta := code.Meta{"asset_id": id, "input_index": int(in.Vin)}
		if in.Type == inputIntent {
			return code.AssetInput.New(meta, "unexpected asset input type: intent")
		}
		if int(in.Vin) >= len(tx.TxIn) {
			return code.AssetInput.New(meta, "asset input index out of range: %d (%d inputs)", in.Vin, len(tx.TxIn))
		}
		list, ok := held[int(in.Vin)]
		if !ok {
			return code.AssetInput.New(meta, "asset input %d references input %d which does not contain any assets", i, in.Vin)
		}
		found := false
		for _, a := range list {
			if a.ID != id {
				continue
			}
			if a.Amount != in.Amount {
				return code.AssetInput.New(meta, "asset input %d references input with asset %s but amount mismatch: %d != %d", i, id, a.Amount, in.Amount)
			}
			found = true
		}
		if !found {
			return code.AssetInput.New(meta, "asset input %d references input with asset %s but asset not found in tx input %d", i, id, in.Vin)
		}
	}
	return nil
}
