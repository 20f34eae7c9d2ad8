package script

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/psbt/v2"
)

// Limits bound a PSBT before it is parsed.
type Limits struct {
	Bytes   int // of the decoded PSBT
	Inputs  int
	Outputs int
	Fields  int // key-value pairs in all its maps
}

// StrangerLimits are for what anybody may send: a proof over 128 VTXOs has 129
// inputs. The number of fields bounds btcd's quadratic search for duplicates.
func StrangerLimits() Limits {
	return Limits{Bytes: 1 << 20, Inputs: 129, Outputs: 256, Fields: 4096}
}

// OperatorLimits are for what the chosen operator sends: commitment
// transactions with many inputs and tree nodes with many cosigners.
func OperatorLimits() Limits {
	return Limits{Bytes: 4 << 20, Inputs: 4096, Outputs: 4096, Fields: 32768}
}

// ErrPSBT is returned for a PSBT that is malformed or exceeds its limits.
var ErrPSBT = errors.New("script: invalid PSBT")

// Key types that ParsePSBT looks at.
const (
	psbtMagic          = "psbt\xff"
	psbtGlobalTx       = 0x00
	psbtInputFullTx    = 0x00
	psbtInputWitnessTx = 0x01
	// psbtLongKeyType is the first byte of a key type of more than one byte.
	// btcd truncates those to a byte and would take them for others.
	psbtLongKeyType = 0xfd
	// unsignedInput is the size of an input without a signature script.
	unsignedInput = 32 + 4 + 1 + 4
	// minOutput is the size of an output with an empty script.
	minOutput = 8 + 1
)

// ParsePSBT decodes a base64 PSBT of version 0. It walks the bytes first, so
// that nothing is allocated for counts that the bytes cannot hold, and refuses
// what btcd overlooks: trailing bytes, wrong lengths inside witness UTXOs, key
// types of several bytes. Non-witness UTXOs are dropped: taproot does not need
// them.
func ParsePSBT(b64 string, lim Limits) (*psbt.Packet, error) { return parsePSBT(b64, lim, points{}) }

// ParsePSBT is ParsePSBT, which does not look at a key again that was on the curve
// before.
func (r *Reader) ParsePSBT(b64 string, lim Limits) (*psbt.Packet, error) {
	return parsePSBT(b64, lim, r.points)
}

func parsePSBT(b64 string, lim Limits, known points) (*psbt.Packet, error) {
	if base64.StdEncoding.DecodedLen(len(b64)) > lim.Bytes+2 {
		return nil, fmt.Errorf("%w: %d characters", ErrPSBT, len(b64))
	}
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPSBT, err)
	}
	return decodePSBT(raw, lim, known)
}

// DecodePSBT is ParsePSBT for the bytes themselves.
func DecodePSBT(raw []byte, lim Limits) (*psbt.Packet, error) {
	if len(raw) > lim.Bytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrPSBT, len(raw))
	}
	return decodePSBT(bytes.Clone(raw), lim, points{})
}

// decodePSBT is DecodePSBT for bytes that the packet may keep.
func decodePSBT(raw []byte, lim Limits, known points) (*psbt.Packet, error) {
	if len(raw) > lim.Bytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrPSBT, len(raw))
	}
	w := walker{rest: raw, fields: lim.Fields, known: known}
	if err := w.packet(lim); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPSBT, err)
	}
	p, err := psbt.NewFromRawBytes(bytes.NewReader(w.kept), false)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPSBT, err)
	}
	for i := range w.inputs {
		w.inputs[i].into(&p.Inputs[i])
	}
	return p, nil
}

// walker walks over a serialized PSBT, reads most of its inputs' fields and copies
// what it leaves to btcd.
type walker struct {
	rest   []byte
	kept   []byte
	fields int // still allowed
	inputs []input
	known  points
}

var (
	errShort  = errors.New("truncated")
	errLimit  = errors.New("over the limit")
	errLayout = errors.New("bad layout")
)

func (w *walker) packet(lim Limits) error {
	rest, ok := bytes.CutPrefix(w.rest, []byte(psbtMagic))
	if !ok {
		return errors.New("no PSBT")
	}
	w.rest = rest
	w.kept = append(make([]byte, 0, 512), psbtMagic...)

	var ins, outs uint64
	first := true
	err := w.section(func(key, value []byte) (keep bool, err error) {
		if first != (key[0] == psbtGlobalTx) || first && len(key) != 1 {
			return false, errLayout
		}
		if first {
			first = false
			ins, outs, err = unsignedCounts(value)
		}
		return true, err
	})
	switch {
	case err != nil:
		return err
	case first:
		return errLayout
	case ins > uint64(lim.Inputs), outs > uint64(lim.Outputs):
		return fmt.Errorf("%w: %d inputs, %d outputs", errLimit, ins, outs)
	}
	w.inputs = make([]input, ins)
	for i := range w.inputs {
		if err := w.section(func(key, value []byte) (bool, error) {
			if len(key) == 1 && key[0] == psbtInputFullTx {
				return false, nil
			}
			taken, err := w.inputs[i].take(key, value, w.known)
			return !taken, err
		}); err != nil {
			return err
		}
	}
	for range outs {
		if err := w.section(func([]byte, []byte) (bool, error) { return true, nil }); err != nil {
			return err
		}
	}
	if len(w.rest) != 0 {
		return fmt.Errorf("%d trailing bytes", len(w.rest))
	}
	return nil
}

// section walks one map and its separator.
func (w *walker) section(field func(key, value []byte) (keep bool, err error)) error {
	for {
		start := w.rest
		key, err := w.bytes()
		if err != nil {
			return err
		}
		if len(key) == 0 {
			w.kept = append(w.kept, 0)
			return nil
		}
		value, err := w.bytes()
		if err != nil {
			return err
		}
		if w.fields--; w.fields < 0 {
			return fmt.Errorf("%w: fields", errLimit)
		}
		if key[0] >= psbtLongKeyType {
			return errLayout
		}
		keep, err := field(key, value)
		if err != nil {
			return err
		}
		if keep {
			w.kept = append(w.kept, start[:len(start)-len(w.rest)]...)
		}
	}
}

// bytes takes a length and as many bytes.
func (w *walker) bytes() ([]byte, error) {
	n, size, ok := compactSize(w.rest)
	if !ok || n > uint64(len(w.rest)-size) {
		return nil, errShort
	}
	b := w.rest[size : size+int(n) : size+int(n)]
	w.rest = w.rest[size+int(n):]
	return b, nil
}

// unsignedCounts walks an unsigned transaction in the old serialization.
func unsignedCounts(tx []byte) (ins, outs uint64, err error) {
	w := walker{rest: tx}
	if err := w.skip(4); err != nil {
		return 0, 0, err
	}
	if ins, err = w.count(unsignedInput); err != nil {
		return 0, 0, err
	}
	for range ins {
		if len(w.rest) < unsignedInput || w.rest[36] != 0 {
			return 0, 0, errLayout // a signature script
		}
		w.rest = w.rest[unsignedInput:]
	}
	if outs, err = w.count(minOutput); err != nil {
		return 0, 0, err
	}
	for range outs {
		if err := w.skip(8); err != nil {
			return 0, 0, err
		}
		if _, err := w.bytes(); err != nil {
			return 0, 0, err
		}
	}
	if len(w.rest) != 4 {
		return 0, 0, errLayout
	}
	return ins, outs, nil
}

// count takes a number of items of at least size bytes each.
func (w *walker) count(size int) (uint64, error) {
	n, took, ok := compactSize(w.rest)
	if !ok || n > uint64(len(w.rest)/size) {
		return 0, errShort
	}
	w.rest = w.rest[took:]
	return n, nil
}

func (w *walker) skip(n int) error {
	if len(w.rest) < n {
		return errShort
	}
	w.rest = w.rest[n:]
	return nil
}
