package ark

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chaincfg/v2"
)

// Network is a Bitcoin network by the name that the operator's GetInfo gives
// it. The zero value is no network.
type Network string

// The networks that an operator can run on (protocol section 2.3).
const (
	Bitcoin   Network = "bitcoin"
	Testnet   Network = "testnet"
	Testnet4  Network = "testnet4"
	Signet    Network = "signet"
	Mutinynet Network = "mutinynet"
	Regtest   Network = "regtest"
)

// The two human-readable parts of Ark addresses.
const (
	hrpBitcoin = "ark"
	hrpTest    = "tark"
)

// ErrNetwork is returned for a network name that is not one of the six.
var ErrNetwork = errors.New("ark: unknown network")

// ParseNetwork returns the network of that name, or ErrNetwork.
func ParseNetwork(name string) (Network, error) {
	switch n := Network(name); n {
	case Bitcoin, Testnet, Testnet4, Signet, Mutinynet, Regtest:
		return n, nil
	}
	return "", fmt.Errorf("%w: %.32q", ErrNetwork, name)
}

// HRP is the human-readable part of the network's Ark addresses: "ark" for
// bitcoin, "tark" for every other network.
func (n Network) HRP() string {
	if n == Bitcoin {
		return hrpBitcoin
	}
	return hrpTest
}

// ChainParams are the parameters by which btcd encodes the network's on-chain
// addresses; nil for the zero value. Mutinynet is a signet and shares its
// prefixes.
func (n Network) ChainParams() *chaincfg.Params {
	switch n {
	case Bitcoin:
		return &chaincfg.MainNetParams
	case Testnet:
		return &chaincfg.TestNet3Params
	case Testnet4:
		return &chaincfg.TestNet4Params
	case Signet, Mutinynet:
		return &chaincfg.SigNetParams
	case Regtest:
		return &chaincfg.RegressionNetParams
	}
	return nil
}

// AllowsBlocks says whether delays of this network may count blocks: only
// regtest's may (protocol section 2.1).
func (n Network) AllowsBlocks() bool { return n == Regtest }
