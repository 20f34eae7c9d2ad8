package ark

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/address/v2/bech32"

	"github.com/vigil-ark/vigil/bip340"
)

const (
	addressVersion = 0
	addressLen     = 1 + 32 + 32
	// addressMax bounds what is decoded: the longer prefix, the separator, 104
	// data characters and the checksum make 115.
	addressMax = 128

	opReturn = 0x6a
	op1      = 0x51
	push32   = 0x20
)

// ErrAddress is returned for text that is no Ark address.
var ErrAddress = errors.New("ark: invalid address")

// Address is an Ark address (protocol section 3.5): to whom a VTXO is paid,
// and under which operator.
type Address struct {
	HRP    string       // "ark" or "tark"
	Signer bip340.XOnly // the operator's signer key
	Key    bip340.XOnly // the VTXO script's output key
}

// ParseAddress reads a bech32m Ark address of version 0. Both keys are checked
// to be on the curve.
func ParseAddress(s string) (Address, error) {
	if len(s) > addressMax {
		return Address{}, fmt.Errorf("%w: %d characters", ErrAddress, len(s))
	}
	hrp, words, version, err := bech32.DecodeNoLimitWithVersion(s)
	if err != nil {
		return Address{}, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	if version != bech32.VersionM {
		return Address{}, fmt.Errorf("%w: not bech32m", ErrAddress)
	}
	if hrp != hrpBitcoin && hrp != hrpTest {
		return Address{}, fmt.Errorf("%w: prefix %.16q", ErrAddress, hrp)
	}
	raw, err := bech32.ConvertBits(words, 5, 8, false)
	if err != nil {
		return Address{}, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	if len(raw) != addressLen {
		return Address{}, fmt.Errorf("%w: %d bytes", ErrAddress, len(raw))
	}
	if raw[0] != addressVersion {
		return Address{}, fmt.Errorf("%w: version %d", ErrAddress, raw[0])
	}
	a := Address{HRP: hrp}
	if a.Signer, err = bip340.ParseXOnly(raw[1:33]); err != nil {
		return Address{}, fmt.Errorf("%w: signer: %w", ErrAddress, err)
	}
	if a.Key, err = bip340.ParseXOnly(raw[33:]); err != nil {
		return Address{}, fmt.Errorf("%w: output key: %w", ErrAddress, err)
	}
	return a, nil
}

// String encodes the address. An Address that has no prefix has no text.
func (a Address) String() string {
	if a.HRP == "" {
		return ""
	}
	raw := make([]byte, 0, addressLen)
	raw = append(raw, addressVersion)
	raw = append(raw, a.Signer[:]...)
	raw = append(raw, a.Key[:]...)
	words, err := bech32.ConvertBits(raw, 8, 5, true)
	if err != nil {
		return ""
	}
	s, err := bech32.EncodeM(a.HRP, words)
	if err != nil {
		return ""
	}
	return s
}

// PkScript is the P2TR script of the VTXO.
func (a Address) PkScript() []byte { return PayToTaproot(a.Key) }

// PayToTaproot is the P2TR script of an output key: OP_1 and the key.
func PayToTaproot(key bip340.XOnly) []byte {
	return append([]byte{op1, push32}, key[:]...)
}

// TaprootKey returns the output key of a P2TR script; false for any other
// script. The key is not checked to be on the curve.
func TaprootKey(pkScript []byte) (bip340.XOnly, bool) {
	return programKey(op1, pkScript)
}

// SubDust is the script of an amount below dust in an off-chain transaction:
// OP_RETURN and the key.
func SubDust(key bip340.XOnly) []byte {
	return append([]byte{opReturn, push32}, key[:]...)
}

// SubDustKey returns the key of a sub-dust script; false for any other script.
func SubDustKey(pkScript []byte) (bip340.XOnly, bool) {
	return programKey(opReturn, pkScript)
}

func programKey(op byte, pkScript []byte) (bip340.XOnly, bool) {
	rest, ok := bytes.CutPrefix(pkScript, []byte{op, push32})
	if !ok || len(rest) != 32 {
		return bip340.XOnly{}, false
	}
	return bip340.XOnly(rest), true
}
