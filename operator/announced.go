package operator

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/bip340"
)

// Announcer tells an operator's parameters; *Client implements it. Every call has a
// deadline of its own.
type Announcer interface {
	// Params are the parameters as last seen, asked for when none were.
	Params(ctx context.Context) (ark.Params, error)
	// Info asks for the parameters.
	Info(ctx context.Context) (ark.Params, error)
}

// Announced is what the operator that a server was set up with announces: not older
// than it may be, refused when it is of another signer than the one pinned, its fee
// programs compiled once. Its errors are *vigil.Error, or that of a caller who left.
// It is safe for concurrent use.
type Announced struct {
	from Announcer
	age  time.Duration
	now  func() time.Time

	mu       sync.Mutex
	signer   bip340.PubKey  // pinned
	asked    time.Time      // when the parameters were last asked for
	fees     *fee.Estimator // compiled from programs
	programs ark.FeePrograms
}

// NewAnnounced asks nothing yet. age is how long parameters serve before they are
// asked for again.
func NewAnnounced(from Announcer, signer bip340.PubKey, age time.Duration, now func() time.Time) *Announced {
	return &Announced{from: from, signer: signer, age: age, now: now}
}

// Pin takes another signer for the operator's, and has the parameters asked for.
func (a *Announced) Pin(signer bip340.PubKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.signer, a.asked = signer, time.Time{}
}

// Current returns parameters that are young enough, or a refusal:
// OPERATOR_KEY_CHANGED when their signer is not the one pinned.
func (a *Announced) Current(ctx context.Context) (ark.Params, error) {
	now := a.now()
	a.mu.Lock()
	age := now.Sub(a.asked)
	ask := age < 0 || age >= a.age
	if ask {
		a.asked = now // the others go on with what there is meanwhile
	}
	a.mu.Unlock()
	if !ask {
		return a.pinned(a.from.Params(ctx))
	}
	p, err := a.Fresh(ctx)
	if err != nil && vigil.CodeOf(err) != vigil.CodeOperatorKey {
		a.mu.Lock()
		a.asked = time.Time{}
		a.mu.Unlock()
	}
	return p, err
}

// Fresh asks the operator, however young its parameters are.
func (a *Announced) Fresh(ctx context.Context) (ark.Params, error) {
	return a.pinned(a.from.Info(ctx))
}

func (a *Announced) pinned(p ark.Params, err error) (ark.Params, error) {
	if err != nil {
		return ark.Params{}, Down(err)
	}
	a.mu.Lock()
	signer := a.signer
	a.mu.Unlock()
	if p.SignerKey != signer {
		return ark.Params{}, vigil.Errorf(vigil.CodeOperatorKey,
			"the Ark operator's signer key is %s now and this server was set up with %s; it takes nothing new until its operator has confirmed the change",
			p.SignerKey, signer)
	}
	return p, nil
}

// Estimator compiles fee programs once for as long as they stay the same:
// compiling costs more than all checks of an intake together.
func (a *Announced) Estimator(programs ark.FeePrograms) (*fee.Estimator, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fees != nil && a.programs == programs {
		return a.fees, nil
	}
	e, err := fee.Compile(programs)
	if err != nil {
		return nil, &vigil.Error{Code: vigil.CodeOperatorDown, Err: err, Message: "the Ark operator announces a fee that this server cannot reckon; nothing was stored, retry later"}
	}
	a.fees, a.programs = e, programs
	return e, nil
}

// Hold checks something under parameters p. A refusal under parameters that have
// changed meanwhile is not the caller's fault: they are read again, and check runs
// once more.
func (a *Announced) Hold(ctx context.Context, p ark.Params, check func(ark.Params, *fee.Estimator) error) error {
	under := func(p ark.Params) error {
		fees, err := a.Estimator(p.Fees)
		if err != nil {
			return err
		}
		return check(p, fees)
	}
	refused := under(p)
	if refused == nil || !mayBeStale(refused) {
		return refused
	}
	fresh, err := a.Fresh(ctx)
	if err != nil {
		return err
	}
	if fresh.Digest == p.Digest {
		return refused
	}
	return under(fresh)
}

// mayBeStale says whether a refusal depends on the operator's parameters.
func mayBeStale(err error) bool {
	switch vigil.CodeOf(err) {
	case vigil.CodeForfeitInvalid, vigil.CodeScriptInvalid, vigil.CodeDelegateKeyMissing, vigil.CodeOutputAmount,
		vigil.CodeFeeTooLow, vigil.CodeFeeTooHigh, vigil.CodeProofTooHeavy, vigil.CodeSignatureInvalid:
		return true
	}
	return false
}

// Down is the refusal of a request that could not be checked, as the operator did
// not answer as it should. What it said is for the log.
func Down(err error) error {
	if errors.Is(err, context.Canceled) {
		return err // the caller left
	}
	what := "could not be reached"
	switch ClassOf(err) {
	case Unverified:
		what = "gave an answer that does not verify"
	case Outdated:
		what = "refuses this server's version"
	}
	return &vigil.Error{
		Code: vigil.CodeOperatorDown, Err: err,
		Message: "the Ark operator " + what + ", so the request could not be checked; nothing was stored, retry later",
	}
}
