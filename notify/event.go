// Package notify owns telling a wallet's people what happened: events to whoever
// watches now, and to the one webhook that this Vigil's operator configured. It
// keeps nothing: what must not be missed is in the wallet's state, and is read
// again after any gap. It knows no storage, no keys and no API.
package notify

import (
	"github.com/vigil-ark/vigil"
)

// Kind is what happened. Its text is part of the API and never renamed.
type Kind string

// The kinds of events.
const (
	Received  Kind = "received"  // a coin arrived
	Sent      Kind = "sent"      // a coin was spent by the group
	Renewed   Kind = "renewed"   // a delegate swapped coins for new ones
	Uncovered Kind = "uncovered" // a coin has no delegate; TimeLeft to sign one
	// OperatorChanged says that the operator's keys or terms no longer fit what is
	// stored; TimeLeft until the first coin that only its user can save.
	OperatorChanged Kind = "operator_changed"
	ForeignIntent   Kind = "foreign_intent" // somebody else put a coin into an intent
	Banned          Kind = "banned"         // the operator refuses the wallet's script for a time
	Unrolled        Kind = "unrolled"       // a coin is on chain, by whomever
	Failed          Kind = "failed"         // a renewal failed; it is tried again while TimeLeft
	Policy          Kind = "policy"         // a loosening of the policy was announced or holds
	Devices         Kind = "devices"        // devices of the wallet changed
	Deleting        Kind = "deleting"       // a forced deletion was announced
)

// Kinds lists all kinds.
func Kinds() []Kind {
	return []Kind{
		Received, Sent, Renewed, Uncovered, OperatorChanged, ForeignIntent, Banned, Unrolled, Failed, Policy, Devices, Deleting,
	}
}

// Event is what happened to one wallet.
type Event struct {
	Kind      Kind
	At        int64    // unix seconds
	Outpoints []string // txid:vout
	Delegate  vigil.DelegateID
	Text      string // a sentence for people
	Code      string // of a failure, stable
	TimeLeft  int64  // seconds in which acting still helps; 0: no hurry, or none left
}
