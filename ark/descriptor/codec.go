package descriptor

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/btcsuite/btcd/address/v2/bech32"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
)

const (
	format = 1
	sumLen = 8 // bytes of checksum: 2^-64 that damage goes unseen
	// Size is the length in bytes of an encoded descriptor: format, network, the
	// four keys, the four delays, checksum.
	Size = 1 + 1 + 33 + 3*32 + 4*4 + sumLen

	tag = "vigil/descriptor/v1"

	// The prefixes of the text form. They are ours, so that nobody takes a backup
	// for an address.
	hrpBitcoin = "vigil"
	hrpTest    = "tvigil"
	// maxText bounds what Parse decodes: the longer prefix, the separator, eight
	// fifths of Size and bech32m's six characters are less.
	maxText = 300
)

// networks are numbered by their place; the order is never changed.
func networks() []ark.Network {
	return []ark.Network{ark.Bitcoin, ark.Testnet, ark.Testnet4, ark.Signet, ark.Mutinynet, ark.Regtest}
}

// Encode is the descriptor's binary form, Size bytes:
//
//	format 1 || network (its place in: bitcoin, testnet, testnet4, signet,
//	mutinynet, regtest) || group key (33) || operator's key (32) || delegate key
//	(32) || recovery key (32) || exit, boarding, recovery and boarding recovery
//	delay (4 each, big-endian, as the operator writes delays) || checksum: the
//	first 8 bytes of the BIP-340 tagged hash "vigil/descriptor/v1" of all before
//
// A descriptor of an unknown network has no encoding.
func (d Descriptor) Encode() []byte {
	for i, n := range networks() {
		if n != d.Network {
			continue
		}
		b := make([]byte, 0, Size)
		b = append(b, format, byte(i))
		b = append(b, d.Group[:]...)
		for _, k := range []bip340.XOnly{d.Signer, d.Delegate, d.Recovery} {
			b = append(b, k[:]...)
		}
		for _, delay := range []ark.Delay{d.ExitDelay, d.BoardingDelay, d.RecoveryDelay, d.BoardingRecoveryDelay} {
			b = binary.BigEndian.AppendUint32(b, uint32(delay))
		}
		return append(b, checksum(b)...)
	}
	return nil
}

func checksum(b []byte) []byte {
	h := bip340.TaggedHash(tag, b)
	return h[:sumLen]
}

// Decode reads what Encode writes, and holds it to the rules of Check. The error
// is ErrDescriptor.
func Decode(b []byte) (Descriptor, error) {
	switch {
	case len(b) == 0:
		return Descriptor{}, fmt.Errorf("%w: empty", ErrDescriptor)
	case b[0] != format:
		return Descriptor{}, fmt.Errorf("%w: format %d, this version reads %d", ErrDescriptor, b[0], format)
	case len(b) != Size:
		return Descriptor{}, fmt.Errorf("%w: %d bytes, want %d", ErrDescriptor, len(b), Size)
	case !bytes.Equal(b[Size-sumLen:], checksum(b[:Size-sumLen])):
		return Descriptor{}, fmt.Errorf("%w: checksum", ErrDescriptor)
	case int(b[1]) >= len(networks()):
		return Descriptor{}, fmt.Errorf("%w: network %d", ErrDescriptor, b[1])
	}
	d := Descriptor{Network: networks()[b[1]]}
	rest := b[2:]
	next := func(n int) []byte {
		part := rest[:n]
		rest = rest[n:]
		return part
	}
	copy(d.Group[:], next(33))
	for _, k := range []*bip340.XOnly{&d.Signer, &d.Delegate, &d.Recovery} {
		copy(k[:], next(32))
	}
	for _, delay := range []*ark.Delay{&d.ExitDelay, &d.BoardingDelay, &d.RecoveryDelay, &d.BoardingRecoveryDelay} {
		*delay = ark.Delay(binary.BigEndian.Uint32(next(4)))
	}
	return d, d.Check()
}

// String is the form for backups on paper: bech32m of the binary form, prefix
// "vigil" on bitcoin and "tvigil" elsewhere.
func (d Descriptor) String() string {
	b := d.Encode()
	if b == nil {
		return ""
	}
	words, err := bech32.ConvertBits(b, 8, 5, true)
	if err != nil {
		return ""
	}
	s, err := bech32.EncodeM(d.hrp(), words)
	if err != nil {
		return ""
	}
	return s
}

func (d Descriptor) hrp() string {
	if d.Network == ark.Bitcoin {
		return hrpBitcoin
	}
	return hrpTest
}

// Parse reads what String writes, in either case. The error is ErrDescriptor.
func Parse(s string) (Descriptor, error) {
	if len(s) > maxText {
		return Descriptor{}, fmt.Errorf("%w: %d characters", ErrDescriptor, len(s))
	}
	hrp, words, version, err := bech32.DecodeNoLimitWithVersion(s)
	if err != nil {
		return Descriptor{}, fmt.Errorf("%w: %w", ErrDescriptor, err)
	}
	if version != bech32.VersionM {
		return Descriptor{}, fmt.Errorf("%w: not bech32m", ErrDescriptor)
	}
	b, err := bech32.ConvertBits(words, 5, 8, false)
	if err != nil {
		return Descriptor{}, fmt.Errorf("%w: %w", ErrDescriptor, err)
	}
	d, err := Decode(b)
	if err != nil {
		return Descriptor{}, err
	}
	if hrp != d.hrp() {
		return Descriptor{}, fmt.Errorf("%w: prefix %.16q on %s", ErrDescriptor, hrp, d.Network)
	}
	return d, nil
}
