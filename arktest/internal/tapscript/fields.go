package tapscript

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// fieldType is the key type of Ark's own PSBT input fields (section 3.6).
const fieldType = 0xde

// ErrField is returned for a custom PSBT field that does not decode.
var ErrField = errors.New("tapscript: malformed custom field")

// find returns the values of the input's fields called name. As arkd it looks
// for the name anywhere inside the key.
func find(in *psbt.PInput, name string) (keys, values [][]byte) {
	for _, u := range in.Unknowns {
		if bytes.Contains(u.Key, []byte(name)) {
			keys = append(keys, u.Key)
			values = append(values, u.Value)
		}
	}
	return keys, values
}

func add(in *psbt.PInput, name string, index []byte, value []byte) {
	key := append(append([]byte{fieldType}, name...), index...)
	in.Unknowns = append(in.Unknowns, &psbt.Unknown{Key: key, Value: value})
}

// AddCosigner appends a cosigner field.
func AddCosigner(in *psbt.PInput, index int, key *btcec.PublicKey) {
	add(in, "cosigner", binary.BigEndian.AppendUint32(nil, uint32(index)), key.SerializeCompressed())
}

// AddExpiry appends the batch expiry as a minimal script number.
func AddExpiry(in *psbt.PInput, d Delay) {
	add(in, "expiry", nil, scriptNum(int64(d.MustSequence())))
}

// AddTapTree appends the leaf list. Depths are written as arkd writes them.
func AddTapTree(in *psbt.PInput, leaves [][]byte) {
	add(in, "taptree", nil, EncodeTapTree(leaves))
}

// EncodeTapTree writes a leaf list with the depths that arkd writes.
func EncodeTapTree(leaves [][]byte) []byte {
	var b bytes.Buffer
	for i, l := range leaves {
		b.WriteByte(byte(min(i+1, max(len(leaves)-1, 0))))
		b.WriteByte(byte(txscript.BaseLeafVersion))
		_ = wire.WriteVarInt(&b, 0, uint64(len(l)))
		b.Write(l)
	}
	return b.Bytes()
}

// scriptNum encodes n as a minimal script number, without its push.
func scriptNum(n int64) []byte {
	var out []byte
	for v := n; v > 0; v >>= 8 {
		out = append(out, byte(v))
	}
	if len(out) > 0 && out[len(out)-1]&0x80 != 0 {
		out = append(out, 0)
	}
	return out
}

// TapTreeField returns the input's leaf list, nil when there is none.
func TapTreeField(in *psbt.PInput) ([][]byte, error) {
	_, values := find(in, "taptree")
	if len(values) == 0 {
		return nil, nil
	}
	return decodeTapTree(values[0])
}

func decodeTapTree(b []byte) (leaves [][]byte, err error) {
	r := bytes.NewReader(b)
	for r.Len() > 0 {
		if len(leaves) == maxLeaves {
			return nil, fmt.Errorf("%w: too many leaves", ErrField)
		}
		if _, err := r.ReadByte(); err != nil { // depth, ignored
			return nil, fmt.Errorf("%w: %w", ErrField, err)
		}
		if _, err := r.ReadByte(); err != nil { // leaf version, ignored
			return nil, fmt.Errorf("%w: %w", ErrField, err)
		}
		leaf, err := wire.ReadVarBytes(r, 0, maxScript, "leaf")
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrField, err)
		}
		leaves = append(leaves, leaf)
	}
	return leaves, nil
}

// Condition returns the input's condition witness, nil when there is none.
func Condition(in *psbt.PInput) ([][]byte, error) {
	_, values := find(in, "condition")
	if len(values) == 0 {
		return nil, nil
	}
	r := bytes.NewReader(values[0])
	n, err := wire.ReadVarInt(r, 0)
	if err != nil || n > 500 {
		return nil, fmt.Errorf("%w: condition witness", ErrField)
	}
	var items [][]byte
	for range n {
		item, err := wire.ReadVarBytes(r, 0, maxScript, "item")
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrField, err)
		}
		items = append(items, item)
	}
	return items, nil
}

// Cosigners returns the cosigner fields in index order.
func Cosigners(in *psbt.PInput) ([]*btcec.PublicKey, error) {
	keys, values := find(in, "cosigner")
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return bytes.Compare(keys[order[a]], keys[order[b]]) < 0 })
	out := make([]*btcec.PublicKey, 0, len(keys))
	for _, i := range order {
		k, err := btcec.ParsePubKey(values[i])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrField, err)
		}
		out = append(out, k)
	}
	return out, nil
}
