// Package chilldkg owns the making of a threshold key that nobody ever holds:
// ChillDKG as its draft 0.3.0-dev has it, byte for byte, from the first message
// to recovery and blame. It knows the curve core, the secret type and what the
// key is for, and nothing of storage, transport or accounts.
//
// The order matters more than the arithmetic. A participant makes its share
// durable before its second message leaves, keeps its host key whatever error
// follows, and pays nothing to the key before every acknowledgment is in.
package chilldkg

import (
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/internal/pedpop"
	"github.com/vigil-ark/vigil/secret"
)

// Draft is the version of ChillDKG that this package follows.
const Draft = "0.3.0-dev"

// The tags of ChillDKG; all begin with "BIP DKG/".
var (
	tagParams   = bip340.NewTag("BIP DKG/params_hash")
	tagSeed     = bip340.NewTag("BIP DKG/encpedpop seed")
	tagSecNonce = bip340.NewTag("BIP DKG/encpedpop secnonce")
	tagAux      = bip340.NewTag("BIP DKG/simplpedpop aux")
	tagCoeffs   = bip340.NewTag("BIP DKG/vss coeffs")
	tagECDH     = bip340.NewTag("BIP DKG/encpedpop ecdh")
	tagSelfPad  = bip340.NewTag("BIP DKG/encaps_multi self_pad")
	tagTapTweak = bip340.NewTag("TapTweak")
	schemePop   = bip340.NewScheme("BIP DKG/pop message")
)

const (
	certTag = "BIP DKG/certeq message"
	ackTag  = "BIP DKG/recovery acknowledgment"
)

// HostKey is a participant's long-lived key: see NewHostKey.
type HostKey = pedpop.HostKey

// NewHostKey takes 32 big-endian bytes over: burning the HostKey burns s. Derive
// a device's from its seed, hardened; draw a server's fresh for each wallet.
// Errors are ErrHostKey and secret.ErrBurned.
func NewHostKey(s secret.Bytes) (*HostKey, error) { return pedpop.NewHostKey(s) }

// Errors of this package, matched with errors.Is. A fault that can be laid at a
// party's door is a *FaultError, one that needs an investigation an
// *UnknownFaultError.
var (
	// ErrHostKey says that bytes are no host key, or not that of a participant.
	ErrHostKey = pedpop.ErrHostKey
	// ErrThreshold says that 1 <= t <= n <= 128 does not hold.
	ErrThreshold = errors.New("chilldkg: threshold or number of participants out of range")
	// ErrLength says that a message has another length than the session gives it,
	// or that there are more or fewer messages than participants.
	ErrLength = pedpop.ErrLength
	// ErrMalformed says that a message of the right length does not decode.
	ErrMalformed = pedpop.ErrMalformed
	// ErrRandomness says that randomness is all zeros.
	ErrRandomness = errors.New("chilldkg: randomness is all zeros")
	// ErrRecoveryData says that recovery data do not decode or are not certified.
	ErrRecoveryData = errors.New("chilldkg: invalid recovery data")
	// ErrSignature says that a signature of a host key does not verify.
	ErrSignature = errors.New("chilldkg: signature does not verify")
)

// HostPubKeyError says that a host public key is no point.
type HostPubKeyError struct{ ID int }

func (e *HostPubKeyError) Error() string {
	return fmt.Sprintf("chilldkg: invalid host public key of participant %d", e.ID)
}

// DuplicateError says that two participants have one host public key.
type DuplicateError struct{ ID1, ID2 int }

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("chilldkg: participants %d and %d have one host public key", e.ID1, e.ID2)
}

// Party is who may be at fault.
type Party int

// The parties, in the words of the draft. What a coordinator says of a
// participant may be a lie of the coordinator's, and the other way round only
// when the participant's messages came unchanged.
const (
	Participant Party = iota
	ParticipantOrCoordinator
	Coordinator
)

// FaultError blames a party for the end of a session. It is advice.
type FaultError struct {
	By     Party
	ID     int // the participant; -1 when By is Coordinator
	Reason string
}

func (e *FaultError) Error() string {
	switch e.By {
	case Participant:
		return fmt.Sprintf("chilldkg: participant %d is at fault: %s", e.ID, e.Reason)
	case ParticipantOrCoordinator:
		return fmt.Sprintf("chilldkg: participant %d or the coordinator is at fault: %s", e.ID, e.Reason)
	default:
		return "chilldkg: the coordinator is at fault: " + e.Reason
	}
}

func coordinatorFault(reason string) error {
	return &FaultError{By: Coordinator, ID: -1, Reason: reason}
}
