// Package curve stands in for the curve core until it lands.
package curve

import (
	"errors"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"

	"github.com/vigil-ark/vigil/bip340"
)

// ParseXOnly checks length and curve.
func ParseXOnly(b []byte) (bip340.XOnly, error) {
	if len(b) != 32 {
		return bip340.XOnly{}, errors.New("length")
	}
	if _, err := schnorr.ParsePubKey(b); err != nil {
		return bip340.XOnly{}, err
	}
	return bip340.XOnly(b), nil
}

// ParsePubKey checks length and curve.
func ParsePubKey(b []byte) (bip340.PubKey, error) {
	if len(b) != 33 {
		return bip340.PubKey{}, errors.New("length")
	}
	if _, err := btcec.ParsePubKey(b); err != nil {
		return bip340.PubKey{}, err
	}
	return bip340.PubKey(b), nil
}

// OutputKey is BIP-341's output key and its parity.
func OutputKey(internal bip340.XOnly, root []byte) (bip340.XOnly, byte, error) {
	k, err := schnorr.ParsePubKey(internal[:])
	if err != nil {
		return bip340.XOnly{}, 0, err
	}
	out := txscript.ComputeTaprootOutputKey(k, root).SerializeCompressed()
	return bip340.XOnly(out[1:]), out[0] & 1, nil
}

// Verify verifies a BIP-340 signature.
func Verify(pk bip340.XOnly, msg []byte, sig [64]byte) bool {
	k, err := schnorr.ParsePubKey(pk[:])
	if err != nil {
		return false
	}
	s, err := schnorr.ParseSignature(sig[:])
	return err == nil && s.Verify(msg, k)
}
