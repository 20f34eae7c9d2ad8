package stock

import (
	"context"
	"errors"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ledger"
)

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
