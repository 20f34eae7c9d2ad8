package stock

import (
	"context"
	"errors"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
)

// operatorDown is the refusal when the operator did not answer as it should.
// What it said is for the log.
func operatorDown(err error) error {
	if errors.Is(err, context.Canceled) {
		return err // the caller left
	}
	return &vigil.Error{
		Code: vigil.CodeOperatorDown, Err: err,
		Message: "the Ark operator " + complaint(err) + ", so the request could not be checked; nothing was stored, retry later",
	}
}

func complaint(err error) string {
	switch operator.ClassOf(err) {
	case operator.Unverified:
		return "gave an answer that does not verify"
	case operator.Outdated:
		return "refuses this server's version"
	}
	return "could not be reached"
}

// stored turns what the ledger returned into a refusal: its own are *vigil.Error
// already, the rest means that nothing was committed.
func stored(err error) error {
	var known *vigil.Error
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, ledger.ErrUnreadable):
		return &vigil.Error{Code: vigil.CodeInternal, Message: "a stored delegate cannot be read", Err: err}
	}
	return &vigil.Error{
		Code: vigil.CodeStoreDown, Err: err,
		Message: "this server's store cannot commit now; nothing was stored, retry later",
	}
}
