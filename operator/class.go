package operator

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
)

// Class says what a failure means for the request that met it.
type Class int

// The classes. Only Spent, Unrolled, Expired and Rejected are about the request
// itself; everything else may pass later as it is.
const (
	// None is the class of no error.
	None Class = iota
	// Unknown is an error of neither the operator nor its transport, or a code that
	// this client does not know. Nothing may be concluded from it.
	Unknown
	// Transient: unreachable, slow, not ready, or failed inside. Retry with backoff.
	Transient
	// Canceled: our own context ended, or the client was closed.
	Canceled
	// Duplicate: a queued intent holds an input. It may be our own whose id was
	// lost; retry at short intervals until a batch takes it from the queue.
	Duplicate
	// Banned: a script is convicted. Retry after the ban.
	Banned
	// NotYet: too early, for valid_at, a lock, or the operator's renewal window.
	NotYet
	// NextBatch: the running batch has no place for it, or has moved on. Wait for
	// the next one.
	NextBatch
	// FeeTooLow: the operator's price is above what was signed for; it may fall.
	FeeTooLow
	// Stale: the operator's parameters changed, again, during the call.
	Stale
	// Outdated: the operator refuses clients as old as this one, or lacks the call.
	// It passes after an upgrade of one side.
	Outdated
	// NotFound: the operator does not know the transaction, VTXO or intent.
	NotFound
	// Unverified: the answer broke the protocol; see ErrAnswer.
	Unverified
	// Spent: an input is spent.
	Spent
	// Unrolled: an input was brought on chain.
	Unrolled
	// Expired: the intent's own expire_at has passed.
	Expired
	// Rejected: refused for what it is; only its user can mend it.
	Rejected
)

var classNames = [...]string{
	"none", "unknown", "transient", "canceled", "duplicate", "banned", "not yet", "next batch", "fee too low",
	"stale", "outdated", "not found", "unverified", "spent", "unrolled", "expired", "rejected",
}

// String is the class in words.
func (c Class) String() string {
	if c < 0 || int(c) >= len(classNames) {
		return "unknown"
	}
	return classNames[c]
}

// Retry says whether the same request may pass later.
func (c Class) Retry() bool {
	switch c {
	case None, Spent, Unrolled, Expired, Rejected:
		return false
	}
	return true
}

// ClassOf classifies an error of this package, however it is wrapped.
func ClassOf(err error) Class {
	var e *Error
	switch {
	case err == nil:
		return None
	case errors.As(err, &e):
		return e.class()
	case errors.Is(err, ErrAnswer):
		return Unverified
	case errors.Is(err, ErrNotFound):
		return NotFound
	case errors.Is(err, ErrClosed), errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrSilent), errors.Is(err, ErrStreamEnded), errors.Is(err, ErrSlowConsumer):
		return Transient
	}
	return Unknown
}

// byCode is the table of section 8 without the codes whose text must be looked
// at, which class treats.
var byCode = map[int]Class{
	1: Rejected, 2: Rejected, 3: Rejected,
	4: Duplicate,
	6: Spent, 7: Unrolled,
	8: Rejected, 9: Rejected,
	11: NotYet,
	12: Rejected, 13: Rejected, 14: Rejected, 15: Rejected, 16: Rejected, 17: Rejected, 18: Rejected,
	19: NotFound,
	21: Rejected, 22: Rejected, 24: Rejected,
	25: NextBatch, 26: NextBatch, 27: NextBatch, 28: NextBatch,
	29: Banned,
	30: NotFound,
	31: FeeTooLow, 32: FeeTooLow,
	33: Rejected, 34: NotFound, 35: Rejected, 36: Rejected, 37: Rejected, 38: NotFound, 39: Rejected,
	40: Rejected, 41: NotFound, 42: Rejected, 43: Rejected,
	44: Transient,
	45: NotFound,
	46: Rejected, 47: Rejected,
	48: Outdated, 49: Stale,
	50: NotFound, 51: Rejected, 52: Rejected,
}

func (e *Error) class() Class {
	if errors.Is(e.cause, ErrClosed) || errors.Is(e.cause, context.Canceled) {
		return Canceled
	}
	text := cmp.Or(e.text, strings.ToLower(e.Message))
	has := func(s string) bool { return strings.Contains(text, s) }
	// One code covers several refusals here, and only the text tells them apart
	// (section 11, trap 16).
	switch e.Code {
	case CodeNone:
		return e.transportClass()
	case 0:
		switch {
		case has("duplicated input"):
			return Duplicate
		case has("intent hash not found"), has("signing session not found"), has("not found for round"), has("not initialized for round"):
			return NextBatch
		}
		return Transient
	case 5:
		if has("expires after") {
			return NotYet
		}
		return Rejected
	case 10:
		if has("can be used for intent registration in") {
			return NotYet
		}
		return Rejected
	case 20:
		if has("expired") {
			return Expired
		}
		return NotYet
	case 23:
		if has("no matching intents") {
			return NotFound
		}
		return Rejected
	}
	if c, ok := byCode[e.Code]; ok {
		return c
	}
	return Unknown
}

// transportClass judges a status without details: the transport's own, or a
// handler's complaint about the form of a request. A status that may come from a
// proxy between never condemns a request.
func (e *Error) transportClass() Class {
	switch e.GRPC {
	case codes.InvalidArgument, codes.OutOfRange:
		return Rejected
	case codes.NotFound:
		return NotFound
	case codes.Unimplemented:
		return Outdated
	case codes.Internal:
		if e.Op == opCommitmentTx && strings.Contains(e.text, "not found") {
			return NotFound
		}
	}
	return Transient
}
