package rpc

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/vigilpb"
)

// maxKept is the largest answer that is kept for a retry, in bytes.
const maxKept = 256 << 10

// walletEdge carries one request of a wallet through: whatever its transport,
// it is verified, permitted, taken once, decoded, carried out, answered and
// remembered here and nowhere else.
type walletEdge struct {
	WalletService
	edge    edge
	limits  Limits
	now     func() time.Time
	rates   *sources[vigil.WalletID]
	watches *sources[vigil.WalletID]
	stopped <-chan struct{}
}

// in is a request as its transport decoded it, or why it could not.
type in struct {
	request *vigilpb.SignedRequest
	err     error
}

// answer carries a unary request through.
func (w *walletEdge) answer(ctx context.Context, m *method, r in) (*vigilpb.SignedAnswer, error) {
	c, done, kept, err := w.take(ctx, m, r)
	if err != nil {
		return nil, err
	}
	defer done()
	if kept != nil {
		return recall(kept)
	}
	// The work is done to its end although its caller may leave: the answer is
	// there for the retry.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.limits.Timeout)
	defer cancel()
	q, a, failed := m.call(ctx, c)
	var answer *vigilpb.SignedAnswer
	if failed == nil {
		if answer, err = w.sign(ctx, c, a, 0); err != nil {
			return nil, err
		}
	}
	if !m.reads || prepares(q) {
		if err := w.keep(ctx, c, answer, failed); err != nil {
			return nil, err
		}
	}
	return answer, failed
}

// prepares says whether a request that only reads also issues something.
func prepares(q proto.Message) bool {
	p, ok := q.(interface{ GetPrepare() uint32 })
	return ok && p.GetPrepare() > 0
}

// take verifies a request, asks whether it is permitted, counts it, and takes
// it once. kept is the answer to the same request, if it came before. Nothing
// is stored of what is not permitted.
func (w *walletEdge) take(ctx context.Context, m *method, r in) (c auth.Call, done func(), kept []byte, err error) {
	if r.err != nil {
		return c, nil, nil, r.err
	}
	if m.scope == ofNobody {
		c, err = auth.Unsigned(w.Signer.HostKey(), w.Network, m.name, r.request)
		return c, func() {}, nil, err
	}
	c, err = auth.Verify(w.Signer.HostKey(), w.Network, m.name, r.request, w.now(), w.Window)
	if vigil.CodeOf(err) == vigil.CodeClockSkew {
		return c, nil, nil, w.clock(ctx, c, err)
	}
	if err != nil {
		return c, nil, nil, err
	}
	if from, ok := ctx.Value(sourceKey{}).(netip.Addr); ok && from.IsValid() {
		c.Source = from.String()
	}
	if host := c.Wallet == (vigil.WalletID{}); host != (m.scope == ofHost) {
		return c, nil, nil, vigil.Errorf(vigil.CodeMalformed, "field wallet: keygen and recovery take the device's host key, all other calls the wallet's id")
	}
	if err := w.Wallets.Permit(ctx, c); err != nil {
		return c, nil, nil, err
	}
	done = func() {}
	if m.scope == ofWallet {
		var wait time.Duration
		var code vigil.Code
		if done, wait, code = w.rates.enter(c.Wallet); code != "" {
			return c, nil, nil, &waitError{error: &vigil.Error{Code: code}, wait: wait}
		}
	}
	if kept, err = w.Replay.Begin(ctx, c); err != nil {
		done()
		return c, nil, nil, err
	}
	return c, done, kept, nil
}

// sign makes the signed answer of a message.
func (w *walletEdge) sign(ctx context.Context, c auth.Call, a proto.Message, seq uint64) (*vigilpb.SignedAnswer, error) {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(a)
	if err != nil {
		return nil, &vigil.Error{Code: vigil.CodeInternal, Err: err}
	}
	at := w.now().Unix()
	sig, err := w.Signer.SignAnswer(ctx, auth.AnswerHash(c.Hash, seq, at, payload))
	if err != nil {
		return nil, &vigil.Error{Code: vigil.CodeInternal, Err: err}
	}
	return &vigilpb.SignedAnswer{Payload: payload, Timestamp: at, Signature: sig[:], Seq: seq}, nil
}

// clock adds the server's signed time to the refusal of a request whose own is
// off.
func (w *walletEdge) clock(ctx context.Context, c auth.Call, refusal error) error {
	at := w.now().Unix()
	sig, err := w.Signer.SignAnswer(ctx, auth.ClockHash(c.Hash, at))
	if err != nil {
		return &vigil.Error{Code: vigil.CodeInternal, Err: err}
	}
	return &clockError{error: refusal, clock: &vigilpb.ServerClock{Timestamp: at, Signature: sig[:]}}
}

// clockError is a refusal with the server's signed time.
type clockError struct {
	error
	clock *vigilpb.ServerClock
}

// Unwrap returns the refusal.
func (e *clockError) Unwrap() error { return e.error }

// waitError is a refusal that knows how long to wait.
type waitError struct {
	error
	wait time.Duration
}

// Unwrap returns the refusal.
func (e *waitError) Unwrap() error { return e.error }

// What is kept of a request: one of these, then an encoded SignedAnswer or
// DelegateError.
const (
	keptAnswer  = 1
	keptRefusal = 2
)

// keep stores the outcome of a request before it leaves. What ended without one
// is left as begun, as is an answer that is too large to keep: then a retry is
// told to sign anew.
func (w *walletEdge) keep(ctx context.Context, c auth.Call, answer *vigilpb.SignedAnswer, failed error) error {
	var known *vigil.Error
	if !errors.As(failed, &known) && (errors.Is(failed, context.DeadlineExceeded) || errors.Is(failed, context.Canceled)) {
		return vigil.Errorf(vigil.CodeRetryNonce, "the request took too long; whether it was carried out is not known: look at the state, and sign a new one")
	}
	kept := []byte{keptAnswer}
	var m proto.Message = answer
	if failed != nil {
		kept[0], m = keptRefusal, refusalOf(failed)
	}
	kept, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(kept, m)
	if err != nil {
		return &vigil.Error{Code: vigil.CodeInternal, Err: err}
	}
	if len(kept) > maxKept {
		return nil
	}
	return w.Replay.Finish(ctx, c, kept)
}

// refusalOf is what a caller may see of an error.
func refusalOf(err error) *vigilpb.DelegateError {
	known := &vigil.Error{Code: vigil.CodeInternal}
	_ = errors.As(err, &known)
	return &vigilpb.DelegateError{Code: string(known.Code), Message: sentence(known)}
}

// recall reads what keep stored.
func recall(kept []byte) (*vigilpb.SignedAnswer, error) {
	if len(kept) > 0 && kept[0] == keptRefusal {
		r := &vigilpb.DelegateError{}
		if err := proto.Unmarshal(kept[1:], r); err == nil {
			return nil, &vigil.Error{Code: vigil.Code(r.GetCode()), Message: r.GetMessage()}
		}
	}
	a := &vigilpb.SignedAnswer{}
	if len(kept) == 0 || kept[0] != keptAnswer || proto.Unmarshal(kept[1:], a) != nil {
		return nil, vigil.Errorf(vigil.CodeInternal, "a stored answer cannot be read")
	}
	return a, nil
}
