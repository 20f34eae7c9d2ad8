package client

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcutil/v2/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/cosmos/go-bip39"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/secret"
)

// ErrSeed is returned for words that are no BIP-39 phrase.
var ErrSeed = errors.New("client: not a valid seed phrase")

// The hardened branches of a seed: m/purpose'/coin'/account'/role'/index', where
// coin is 0 on bitcoin and 1 elsewhere. Purposes are "VGL" and "VGR" as numbers,
// far from those that others use. Siblings of a hardened branch tell nothing of
// each other: the device keeps keys of the first alone.
const (
	purposeDevice   = 0x56474c
	purposeRecovery = 0x564752
)

// The roles below the two branches.
const (
	roleHost     = 0 // of the device: index is the epoch
	roleIdentity = 1 // of the device: index is drawn for every device
	roleRecovery = 0 // of the way out: leaf 4
	roleFees     = 1 // of the way out: the on-chain coin that pays for it
)

// entropyBits make twelve words.
const entropyBits = 128

// Seed is the phrase from which a wallet's owner gets everything back: with what
// Vigil keeps, a new device; with an exported Backup, the way out. It is not kept
// on the device: Burn it when its words are written down.
type Seed struct{ words secret.Bytes }

// NewSeed draws a phrase of twelve words.
func NewSeed() (Seed, error) {
	entropy, err := bip39.NewEntropy(entropyBits)
	if err != nil {
		return Seed{}, fmt.Errorf("client: %w", err)
	}
	defer clear(entropy)
	words, err := bip39.NewMnemonic(entropy)
	if err != nil {
		return Seed{}, fmt.Errorf("client: %w", err)
	}
	return Seed{secret.New([]byte(words))}, nil
}

// ParseSeed reads a phrase, in lower case with any white space, and checks its
// words and checksum. It takes a copy of words, which stay the caller's to burn.
func ParseSeed(words secret.Bytes) (s Seed, err error) {
	err = words.Use(func(b []byte) error {
		phrase := bytes.Join(bytes.Fields(b), []byte(" "))
		// The library's own IsMnemonicValid does not look at the checksum.
		entropy, err := bip39.MnemonicToByteArray(string(phrase))
		clear(entropy)
		if err != nil {
			clear(phrase)
			return ErrSeed
		}
		s = Seed{secret.New(phrase)}
		return nil
	})
	return s, err
}

// Words calls f with the phrase, to be shown to its owner once. f must not keep
// the slice.
func (s Seed) Words(f func([]byte) error) error { return s.words.Use(f) }

// Burn wipes the phrase.
func (s Seed) Burn() { s.words.Burn() }

// clone is a copy that is burned apart.
func (s Seed) clone() (out Seed, err error) {
	err = s.words.Use(func(b []byte) error {
		out = Seed{secret.New(bytes.Clone(b))}
		return nil
	})
	return out, err
}

// scalar derives the secret key at a path of hardened steps.
func (s Seed) scalar(network ark.Network, purpose uint32, path ...uint32) (out secret.Bytes, err error) {
	coin := uint32(1)
	if network == ark.Bitcoin {
		coin = 0
	}
	err = s.words.Use(func(words []byte) error {
		master, err := bip39.NewSeedWithErrorChecking(string(words), "")
		if err != nil {
			return ErrSeed
		}
		defer clear(master)
		key, err := hdkeychain.NewMaster(master, &chaincfg.MainNetParams) // its serialisation is never used
		if err != nil {
			return fmt.Errorf("client: seed: %w", err)
		}
		for _, step := range append([]uint32{purpose, coin, 0}, path...) {
			child, err := key.Derive(hdkeychain.HardenedKeyStart + step)
			key.Zero()
			if err != nil {
				return fmt.Errorf("client: seed: %w", err)
			}
			key = child
		}
		defer key.Zero()
		priv, err := key.ECPrivKey()
		if err != nil {
			return fmt.Errorf("client: seed: %w", err)
		}
		defer priv.Zero()
		out = secret.New(priv.Serialize())
		return nil
	})
	return out, err
}

// host is the scalar of the device's host key of an epoch.
func (s Seed) host(network ark.Network, epoch uint32) (secret.Bytes, error) {
	return s.scalar(network, purposeDevice, roleHost, epoch)
}

// identity is the scalar of the identity key with an index.
func (s Seed) identity(network ark.Network, index uint32) (secret.Bytes, error) {
	return s.scalar(network, purposeDevice, roleIdentity, index)
}

// recovery is the key of leaf 4.
func (s Seed) recovery(network ark.Network) (*bip340.Key, error) {
	return s.key(network, roleRecovery)
}

// fees is the key of the on-chain coin that pays for a unilateral exit.
func (s Seed) fees(network ark.Network) (*bip340.Key, error) { return s.key(network, roleFees) }

func (s Seed) key(network ark.Network, role uint32) (*bip340.Key, error) {
	scalar, err := s.scalar(network, purposeRecovery, role, 0)
	if err != nil {
		return nil, err
	}
	defer scalar.Burn()
	return bip340.NewKey(scalar)
}
