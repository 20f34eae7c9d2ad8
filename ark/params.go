// Package ark owns the words of the Ark protocol that every other part speaks:
// networks, addresses, the operator's parameters and VTXOs as the operator
// reports them. It is pure and knows nothing of transport or storage.
package ark

import (
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/bip340"
)

// Params are an operator's parameters as it announced them (GetInfo), decoded
// and checked. Amounts are satoshis, delays as Delay says.
type Params struct {
	Version           string
	Network           Network
	SignerKey         bip340.PubKey
	DeprecatedSigners []DeprecatedSigner
	ForfeitKey        bip340.PubKey
	ForfeitScript     []byte // pkScript of the forfeit address
	ForfeitAddress    string
	CheckpointScript  []byte // tapscript of the operator's checkpoint leaf
	SessionSeconds    int64
	ExitDelay         Delay // public unilateral exit delay
	BoardingDelay     Delay
	UtxoMin, UtxoMax  int64 // max -1: no bound; 0: boarding disabled
	VtxoMin, VtxoMax  int64
	Dust              int64
	Fees              FeePrograms
	MaxTxWeight       int64
	MaxOpReturns      int64
	Digest            string
}

// DeprecatedSigner is an earlier signer key of the operator. Cutoff is in unix
// seconds; 0 means that the key is accepted without limit.
type DeprecatedSigner struct {
	Key    bip340.PubKey
	Cutoff int64
}

// FeePrograms are the operator's CEL fee programs (protocol section 2.5); an
// empty program costs nothing.
type FeePrograms struct {
	OffchainInput, OffchainOutput, OnchainInput, OnchainOutput string
}

// Delay is a relative delay in the operator's encoding: below 512 it counts
// blocks, from 512 on seconds, then a multiple of 512.
type Delay uint32

// VTXO is a virtual coin as the operator's indexer reports it.
type VTXO struct {
	Outpoint      wire.OutPoint
	Amount        int64 // satoshis
	Script        []byte
	CreatedAt     int64 // unix seconds
	ExpiresAt     int64 // unix seconds
	CommitmentTxs []chainhash.Hash
	Preconfirmed  bool
	Swept         bool
	Unrolled      bool
	Spent         bool
	SpentBy       string
	SettledBy     string
	ArkTxid       string
	Assets        []AssetAmount
}

// AssetAmount is a quantity of one asset; AssetID is the operator's string form.
type AssetAmount struct {
	AssetID string
	Amount  uint64
}
