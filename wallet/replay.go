package wallet

import (
	"context"
	"errors"
	"path"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/ledger"
)

// Begin writes down that a request is being carried out, durably, before
// anything is done for it. nil and nil: go on. An answer: the same request was
// answered so before. CodeRetryNonce: it was begun and never answered;
// CodeReplayed: its nonce was used for another request.
func (s *Service) Begin(ctx context.Context, c auth.Call) ([]byte, error) {
	answer, err := s.ledger.Begin(ctx, request(c), s.cfg.Window)
	switch {
	case errors.Is(err, ledger.ErrBegun), errors.Is(err, ledger.ErrStale):
		return nil, &vigil.Error{Code: vigil.CodeRetryNonce, Message: "this request was begun before and its answer is not kept; make it again with another nonce", Err: err}
	case errors.Is(err, ledger.ErrNotFound):
		return nil, notPermitted(c) // since it was permitted the wallet went
	case errors.Is(err, ledger.ErrReplayed):
		return nil, &vigil.Error{Code: vigil.CodeReplayed, Message: "the nonce of this request was used for another one", Err: err}
	case errors.Is(err, ledger.ErrTooMany):
		return nil, &vigil.Error{Code: vigil.CodeWalletRate, Message: "this wallet made more requests than are remembered; retry in a minute", Err: err}
	}
	return answer, stored(err)
}

// Finish keeps the answer, durably, before it leaves.
func (s *Service) Finish(ctx context.Context, c auth.Call, answer []byte) error {
	return stored(s.ledger.Finish(ctx, request(c), answer))
}

// request is a call as its nonce is remembered: for its wallet, or the host key
// in the place of one. Only a host key with a wallet is permitted to recover, so that
// no crowd of new ones takes the room of those.
func request(c auth.Call) ledger.Request {
	q := ledger.Request{Owner: c.Wallet[:], Nonce: c.Nonce, Hash: c.Hash, Stamp: c.At.Unix()}
	if c.Host != (bip340.PubKey{}) {
		q.Owner, q.Member = c.Host[:], path.Base(c.Method) == "Recover"
	}
	return q
}
