// Package frost owns threshold signatures under one key: FROST as BIP-445
// drafts it, with its share checks, nonces, blame and message envelope. It knows
// the curve core and the secret type, and nothing of Ark, policy, storage or
// transport.
package frost

import (
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil/bip340"
)

// Version names the drafts that a record or message follows. A later draft gets
// a new number.
type Version byte

// V1 is BIP-445 draft v0.12.1 with ChillDKG 0.3.0-dev.
const V1 Version = 1

// MaxParticipants bounds a key's participants, as BIP-445 does: its security
// proof is not known to hold for large groups.
const MaxParticipants = 128

// The tags of BIP-445.
var (
	tagAux       = bip340.NewTag("BIP0445/aux")
	tagNonce     = bip340.NewTag("BIP0445/nonce")
	tagNonceCoef = bip340.NewTag("BIP0445/noncecoef")
)

// Errors of this package, matched with errors.Is. A fault that can be laid at a
// signer's door is a *ContributionError instead.
var (
	// ErrInfo says that a threshold key's public record is not consistent.
	ErrInfo = errors.New("frost: threshold key and public shares do not belong together")
	// ErrEncoding says that bytes are not the encoding of what they should be.
	ErrEncoding = errors.New("frost: malformed")
	// ErrVersion says that a record or message follows a draft unknown here.
	ErrVersion = errors.New("frost: unknown version")
	// ErrShare says that a secret share is not the one behind its public share.
	ErrShare = errors.New("frost: secret share does not match its public share")
	// ErrSigners says that a set of signers cannot sign for the key.
	ErrSigners = errors.New("frost: not a signer set of this key")
	// ErrNonceRepeated says that one public nonce was offered for two messages.
	ErrNonceRepeated = errors.New("frost: one public nonce for two messages")
	// ErrPartialSig says that a partial signature does not verify.
	ErrPartialSig = errors.New("frost: partial signature does not verify")
	// ErrSignature says that a signature does not verify although every part does:
	// the parts were not made for one session.
	ErrSignature = errors.New("frost: signature does not verify")
)

// ContributionError blames one contribution to a session. It is advice: who
// relays contributions can frame an honest signer, unless they are signed.
type ContributionError struct {
	Index   int    // position in the list that was passed in; -1: nobody in particular
	Contrib string // "pubnonce", "aggnonce", "psig", in the words of BIP-445
	Err     error
}

func (e *ContributionError) Error() string {
	if e.Index < 0 {
		return fmt.Sprintf("frost: invalid %s: %v", e.Contrib, e.Err)
	}
	return fmt.Sprintf("frost: invalid %s at index %d: %v", e.Contrib, e.Index, e.Err)
}

func (e *ContributionError) Unwrap() error { return e.Err }
