// Package spend owns what a wallet's group key is asked to sign: it takes the
// documents that a device sends, whole transactions with what they stand on, and
// finds in them every sighash and every fact that a decision needs. Device and
// server both compute it, so that neither signs a bare hash. It is pure, holds no
// keys, decides nothing and knows nothing of transport or storage.
package spend

import (
	"math"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/musig2"
)

// Kind is what a document asks to sign. Its text ends in audit and metrics and
// is never renamed.
type Kind string

// The kinds of documents.
const (
	// Intent is a proof without outputs: it deletes, reads or authorises, and moves
	// nothing.
	Intent Kind = "intent"
	// Register is the proof that asks for a batch.
	Register Kind = "register"
	// ArkTx is an off-chain payment, Checkpoints its second half.
	ArkTx       Kind = "ark_tx"
	Checkpoints Kind = "checkpoints"
	// DelegateForfeit gives a coin up for a batch not known yet, with Vigil's
	// delegate key as the second lock.
	DelegateForfeit Kind = "delegate_forfeit"
	// BearerForfeit is the same on the leaf of group and operator, where nothing
	// pins it to a batch: whoever holds it may have the coin.
	BearerForfeit Kind = "bearer_forfeit"
	// Forfeits give coins up for one batch that was verified, Boarding lets it
	// spend on-chain coins.
	Forfeits Kind = "forfeits"
	Boarding Kind = "boarding"
	// Exit spends on chain, without the operator.
	Exit Kind = "exit"
)

// Kinds lists all kinds.
func Kinds() []Kind {
	return []Kind{Intent, Register, ArkTx, Checkpoints, DelegateForfeit, BearerForfeit, Forfeits, Boarding, Exit}
}

// Script says which of the wallet's scripts locks a coin.
type Script uint8

// The wallet's scripts.
const (
	VTXOScript Script = iota
	BoardingScript
	TwoLeafScript // of group and operator alone: never offered, but spent when a coin arrives there
)

// Terms are what documents are read against.
type Terms struct {
	Params ark.Params // as the operator announces them now
	// Estimator is Params.Fees compiled; nil compiles them.
	Estimator *fee.Estimator
	// VTXOs are what is known of the wallet's coins: assets, expiry and birth. A
	// coin that is not here is read by what its document says of it, which its
	// sighash commits to, and its assets by the document's packet.
	VTXOs []ark.VTXO
	Now   int64 // unix seconds
	// Older are the wallet's descriptors of before: coins at their scripts are its
	// own, and what is paid to them is not. The newest of them comes last.
	Older []descriptor.Descriptor
	// Contexts keeps the keys of tree nodes between calls; nil for none.
	Contexts *musig2.Cache
}

// Spend is one document, read. All amounts are satoshis.
type Spend struct {
	Kind Kind
	// Key is what limits count it by: the first sighash of what moves the coins in
	// the first place. A retry has the same, the settlement of an intent has that of
	// the intent, and checkpoints have that of their ark transaction.
	Key       [32]byte
	Sighashes []Sighash // in the order of signing
	Txid      chainhash.Hash
	Inputs    []Input
	// Own are outputs to the wallet's current script in Ark, Foreign those to any
	// other there, Onchain those that leave Ark, whoever gets them.
	Own, Foreign, Onchain []Output
	// Fee is inputs minus outputs. FeeDue is the most that the operator's programs
	// ask for a register intent at its time, for live or for recoverable inputs.
	Fee, FeeDue int64
	// Assets says that every unit of every asset goes to the wallet itself. It is
	// false also for the exit of a coin, and for a bearer forfeit of one, of which
	// nothing is known.
	Assets bool
	// Message is that of the intent: for Intent, Register, Forfeits and Boarding.
	Message *intent.Message
	// Commitment is the transaction that Forfeits and Boarding are for.
	Commitment chainhash.Hash
}

// Sighash is one signature of the group key.
type Sighash struct {
	Doc      int // index of the document
	Tx       int // index of the transaction among those that the document has signed
	Input    int // of that transaction
	Leaf     int // index of the leaf in the script that is spent
	LeafHash chainhash.Hash
	Type     byte     // BIP-341: 0 DEFAULT, 0x81 ALL|ANYONECANPAY
	Message  [32]byte // what is signed
}

// Input is a coin of the wallet.
type Input struct {
	Outpoint wire.OutPoint
	Amount   int64
	Script   Script
}

// Output is a payment.
type Output struct {
	Amount int64
	Script []byte
}

// Renewal says whether the document only renews: a register intent, or what
// settles one, that pays nothing but the wallet's own script inside Ark and keeps
// its assets. Whether its fee is right is for the policy to say.
func (s *Spend) Renewal() bool {
	switch s.Kind {
	case Register, Forfeits, Boarding:
		return len(s.Foreign) == 0 && len(s.Onchain) == 0 && len(s.Own) > 0 && s.Assets
	}
	return false
}

// Leaves is what leaves the wallet: the sum of outputs to others and on chain,
// with what an exit pays to miners, and of a bearer forfeit all that it gives up.
// What would overflow, and amounts below nothing, make it as large as can be.
func (s *Spend) Leaves() int64 {
	var sum int64
	add := func(amount int64) {
		if amount < 0 || amount > math.MaxInt64-sum {
			amount = math.MaxInt64 - sum
		}
		sum += amount
	}
	for _, o := range s.Foreign {
		add(o.Amount)
	}
	for _, o := range s.Onchain {
		add(o.Amount)
	}
	switch s.Kind {
	case Exit:
		add(s.Fee)
	case BearerForfeit:
		for _, in := range s.Inputs {
			add(in.Amount)
		}
	}
	return sum
}

// Messages are what is signed, over all documents, in order.
func Messages(spends []*Spend) [][32]byte {
	var list [][32]byte
	for _, s := range spends {
		for _, h := range s.Sighashes {
			list = append(list, h.Message)
		}
	}
	return list
}
