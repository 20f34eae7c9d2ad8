package wallet

import (
	"context"
	"errors"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/signer"
)

// stored turns what the ledger returned into a refusal: its own are *vigil.Error
// already, the rest means that nothing was committed.
func stored(err error) error {
	var known *vigil.Error
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, ledger.ErrUnreadable):
		return &vigil.Error{Code: vigil.CodeInternal, Message: "a row of this wallet cannot be read; its coins are not touched", Err: err}
	case errors.Is(err, ledger.ErrConflict):
		return &vigil.Error{Code: vigil.CodeWalletBusy, Message: "the wallet changed meanwhile; nothing was stored, retry", Err: errors.Join(err, errStale)}
	}
	return &vigil.Error{
		Code: vigil.CodeStoreDown, Err: err,
		Message: "this server's store cannot commit now; nothing was stored, retry later",
	}
}

// acted turns what the registry returned into a refusal.
func acted(err error) error {
	var known *vigil.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, ErrBusy):
		return &vigil.Error{Code: vigil.CodeWalletBusy, Message: "other requests of this wallet are in work, or too many wallets are active; nothing was begun, retry in a moment", Err: err}
	case errors.Is(err, ErrStopped):
		return &vigil.Error{Code: vigil.CodeStopping, Message: "this server is stopping; nothing was begun", Err: err}
	case errors.Is(err, ErrQuarantined):
		return &vigil.Error{Code: vigil.CodeWalletQuarantined, Message: "this server met something unforeseen in this wallet and waits for its operator; stored delegates are carried out all the same", Err: err}
	}
	return err
}

// chainDown is the refusal when the chain's API did not answer.
func chainDown(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &vigil.Error{Code: vigil.CodeChainDown, Err: err, Message: "the chain could not be asked for the wallet's coins; nothing was done, retry later"}
}

// signed turns what the signer returned into a refusal.
func signed(err error) error {
	var (
		known  *vigil.Error
		fault  *chilldkg.FaultError
		unsure *chilldkg.UnknownFaultError
		contr  *frost.ContributionError
	)
	ceremony := func() error {
		return &vigil.Error{Code: vigil.CodeCeremonyFailed, Message: err.Error() + "; begin a new ceremony", Err: err}
	}
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, signer.ErrCeremony):
		return &vigil.Error{Code: vigil.CodeCeremonyUnknown, Message: "there is no such ceremony of this key, it expired, or this is not its next step; begin a new one", Err: err}
	case errors.Is(err, signer.ErrCeremonies):
		return &vigil.Error{Code: vigil.CodeTooManyCeremonies, Message: "too many ceremonies are open on this server; retry later", Err: err}
	case errors.As(err, &fault), errors.As(err, &unsure):
		return ceremony()
	case errors.Is(err, chilldkg.ErrLength), errors.Is(err, chilldkg.ErrMalformed), errors.Is(err, chilldkg.ErrHostKey),
		errors.Is(err, chilldkg.ErrThreshold), errors.Is(err, chilldkg.ErrSignature), errors.Is(err, refresh.ErrParams),
		errors.Is(err, refresh.ErrShare), errors.Is(err, refresh.ErrRecord), errors.Is(err, refresh.ErrSignature):
		return ceremony()
	case errors.Is(err, frost.ErrNonceRepeated):
		return &vigil.Error{Code: vigil.CodeNonceReused, Message: "a public nonce stands for two signatures of the request; make a fresh one for each", Err: err}
	case errors.As(err, &contr), errors.Is(err, signer.ErrRequest), errors.Is(err, frost.ErrSigners):
		return &vigil.Error{Code: vigil.CodeMalformed, Message: err.Error(), Err: err}
	case errors.Is(err, signer.ErrEpoch):
		return &vigil.Error{Code: vigil.CodeEpochUnknown, Message: "this server has no share of that epoch", Err: err}
	case errors.Is(err, signer.ErrForeign):
		return &vigil.Error{Code: vigil.CodeEpochUnknown, Message: "the record is of another refresh than that of which this server has the share", Err: err}
	case errors.Is(err, signer.ErrLost):
		return &vigil.Error{Code: vigil.CodeEpochLost, Err: err, Message: "this server was restored from copies older than that refresh, and the key that its share is made with is in neither of them: " +
			"its operator may have a newer export of the secrets; without, nobody can sign with that epoch any more, and the owner's seed takes the coins out by the recovery leaf"}
	case errors.Is(err, delegate.ErrSecretMissing), errors.Is(err, delegate.ErrSecretWrong):
		return &vigil.Error{Code: vigil.CodeInternal, Message: "the secret store does not hold this wallet's share as it should; its operator has to look", Err: err}
	}
	return &vigil.Error{Code: vigil.CodeStoreDown, Message: "this server's secret store cannot be used now; nothing was stored, retry later", Err: err}
}

// malformed refuses one field of a request.
func malformed(field, format string, args ...any) error {
	return vigil.Errorf(vigil.CodeMalformed, "field "+field+": "+format, args...)
}

// clock is how times stand in sentences.
func clock(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }
