package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/frost"
)

// ErrRequest says that a request to sign does not fit together: the caller's
// fault, or its device's.
var ErrRequest = errors.New("signer: not a request that can be signed")

// SignRequest asks for Vigil's part of many signatures at once. The caller has
// computed every message itself, from transactions that policy allows.
type SignRequest struct {
	Wallet vigil.WalletID
	// Info is the epoch's public record, from the caller's own storage.
	Info    *frost.Info
	Epoch   uint32
	Signers []int // ascending, Vigil's number 1 among them
	Session frost.SessionID
	// Messages are the sighashes; Nonces stand beside them, for each those of the
	// other signers in ascending order.
	Messages [][32]byte
	Nonces   [][]frost.PubNonce
}

// Part is Vigil's part of one signature: it is always the last signer, so both
// halves leave together and no nonce of Vigil's waits anywhere.
type Part struct {
	Nonce frost.PubNonce
	Sig   frost.PartialSig
}

// Sign makes Vigil's part of every message, each with a nonce of its own, or of
// none. The messages are signed under the group key itself, as tapleaves name it.
// Errors are ErrRequest, ErrEpoch, frost.ErrSigners, frost.ErrNonceRepeated,
// *frost.ContributionError, delegate.ErrSecretMissing and ErrSecretWrong; any
// other is a store that is down.
func (s *Signer) Sign(ctx context.Context, r SignRequest) ([]Part, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	set, err := r.Info.Signers(r.Signers...)
	if err != nil {
		return nil, err
	}
	context := set.Untweaked()
	at := slices.Index(r.Signers, Own)
	queries := make([]frost.Query, len(r.Messages))
	for i, msg := range r.Messages {
		nonces := slices.Insert(slices.Clone(r.Nonces[i]), at, frost.PubNonce{})
		queries[i] = frost.Query{Context: context, Session: r.Session, Msg: msg, Nonces: nonces}
	}
	share, err := s.share(ctx, r.Wallet, r.Info)
	if err != nil {
		return nil, err
	}
	defer share.Burn()
	answers, err := share.AnswerAll(queries)
	if err != nil {
		return nil, err
	}
	parts := make([]Part, len(answers))
	for i, a := range answers {
		parts[i] = Part{Nonce: a.Nonce, Sig: a.Sig}
	}
	return parts, nil
}

// check holds the parts of a request against each other, before any secret is
// touched.
func (r SignRequest) check() error {
	switch {
	case r.Info == nil || r.Info.Epoch() != r.Epoch:
		return fmt.Errorf("%w: the record is of another epoch than %d", ErrRequest, r.Epoch)
	case vigil.WalletID(r.Info.PubKey().XOnly()) != r.Wallet:
		return fmt.Errorf("%w: the record is another wallet's", ErrRequest)
	case len(r.Messages) == 0 || len(r.Messages) > frost.MaxMessages:
		return fmt.Errorf("%w: %d messages, 1 to %d are taken", ErrRequest, len(r.Messages), frost.MaxMessages)
	case len(r.Nonces) != len(r.Messages):
		return fmt.Errorf("%w: nonces for %d messages of %d", ErrRequest, len(r.Nonces), len(r.Messages))
	case !slices.IsSorted(r.Signers) || !slices.Contains(r.Signers, Own):
		return fmt.Errorf("%w: the signers are to be named in ascending order, with %d among them", ErrRequest, Own)
	}
	for i, nonces := range r.Nonces {
		if len(nonces) != len(r.Signers)-1 {
			return fmt.Errorf("%w: message %d has %d nonces of %d other signers", ErrRequest, i, len(nonces), len(r.Signers)-1)
		}
	}
	return nil
}
