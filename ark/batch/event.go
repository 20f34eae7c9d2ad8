package batch

import (
	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/bip340"
)

// Event is one message of the operator's event stream (protocol section 5.3),
// decoded but not yet believed. The operator package makes them; tests and
// replays make them by hand.
type Event interface{ event() }

// Started announces a batch and the hashes of the intents selected for it.
type Started struct {
	BatchID      string
	IntentHashes []string // hex sha256 of the intent id's ASCII bytes
	Expiry       uint32   // below 512 blocks, else seconds
}

// TreeTx is one node of the VTXO tree (BatchIndex 0) or of the connector tree
// (BatchIndex 1).
type TreeTx struct {
	BatchID    string
	BatchIndex int32
	Topics     []string
	PSBT       string            // base64
	Children   map[uint32]string // output index to child txid
}

// TreeSigningStarted ends the VTXO tree and carries the unsigned commitment
// transaction.
type TreeSigningStarted struct {
	BatchID    string
	Cosigners  []string // compressed keys, hex, the operator's excluded
	Commitment string   // base64 PSBT
}

// TreeNonces carries every cosigner's public nonce for one node.
type TreeNonces struct {
	BatchID string
	Txid    chainhash.Hash
	Nonces  map[bip340.XOnly][66]byte
}

// TreeNoncesAggregated carries the operator's own aggregation for all nodes.
type TreeNoncesAggregated struct {
	BatchID string
	Nonces  map[chainhash.Hash][66]byte
}

// TreeSignature carries one node's final signature.
type TreeSignature struct {
	BatchID    string
	BatchIndex int32
	Txid       chainhash.Hash
	Signature  [64]byte
}

// Finalization asks for forfeits and boarding signatures.
type Finalization struct {
	BatchID    string
	Commitment string // base64 PSBT
}

// Finalized says that the commitment transaction was broadcast.
type Finalized struct {
	BatchID string
	Txid    chainhash.Hash
}

// Failed says that the batch failed.
type Failed struct {
	BatchID string
	Reason  string
}

func (Started) event()              {}
func (TreeTx) event()               {}
func (TreeSigningStarted) event()   {}
func (TreeNonces) event()           {}
func (TreeNoncesAggregated) event() {}
func (TreeSignature) event()        {}
func (Finalization) event()         {}
func (Finalized) event()            {}
func (Failed) event()               {}
