package vigil

import (
	"errors"
	"fmt"
)

// Code is a documented refusal: a stable name that a program may match on. The
// table in this file is the only list; docs/errors.md is generated from it.
type Code string

// Error is what leaves Vigil at its edge: one code and a sentence that a person
// can act on. The sentence never carries a secret.
type Error struct {
	Code    Code
	Message string
	Err     error // the cause, for logs and errors.Is; never shown to a peer
}

// Error returns the code and the sentence.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error with a formatted sentence. A %w verb sets the cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// CodeOf returns the code of the first Error in err's chain, or CodeInternal.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// Kind groups codes by what a caller should do; it decides the transport's
// status.
type Kind int

// The kinds of refusal, with their gRPC and HTTP status.
const (
	KindInvalid     Kind = iota // InvalidArgument, 400: mend the request
	KindState                   // FailedPrecondition, 400: not in this state
	KindConflict                // AlreadyExists, 409: something else is in the way
	KindNotFound                // NotFound, 404
	KindLimit                   // ResourceExhausted, 429: later, or less
	KindUnavailable             // Unavailable, 503: retry as it is
	KindInternal                // Internal, 500: our fault
)

// Entry documents one code.
type Entry struct {
	Code    Code
	Kind    Kind
	Retry   bool   // whether the same request may pass later
	Meaning string // what it means and what to do
}

// The codes that do not belong to intake.
const (
	CodeInternal       Code = "INTERNAL"
	CodeBodyTooLarge   Code = "BODY_TOO_LARGE"
	CodeRateLimited    Code = "RATE_LIMITED"
	CodeTooManyStreams Code = "TOO_MANY_STREAMS"
	CodeStopping       Code = "STOPPING"
	CodeStoreDown      Code = "STORE_UNAVAILABLE"
	CodeDiskLow        Code = "DISK_LOW"
	CodeOperatorDown   Code = "OPERATOR_UNAVAILABLE"
	CodeOperatorKey    Code = "OPERATOR_KEY_CHANGED"
	CodeNotFound       Code = "NOT_FOUND"
	CodeMalformed      Code = "MALFORMED_REQUEST"
)

// Table lists every code, sorted by name; a test holds that.
var Table = []Entry{
	{CodeBodyTooLarge, KindLimit, false, "The request is larger than the server accepts. Send fewer inputs in one request."},
	{CodeDiskLow, KindUnavailable, true, "The server is short of disk and takes nothing new; what it has is kept alive. Retry later, or use another server."},
	{CodeInternal, KindInternal, true, "The server failed in a way it did not foresee. Nothing was stored. Retry; if it stays, tell its operator the time of the request."},
	{CodeMalformed, KindInvalid, false, "The request could not be decoded. The sentence says which field."},
	{CodeNotFound, KindNotFound, false, "There is no such delegate here, or the proof is not over one of its inputs."},
	{CodeOperatorDown, KindUnavailable, true, "The Ark operator cannot be reached, so the request could not be checked. Nothing was stored. Retry later."},
	{CodeOperatorKey, KindUnavailable, true, "The Ark operator's signer key differs from the one that this server was set up with. Intake stops until its operator confirms the change."},
	{CodeRateLimited, KindLimit, true, "Too many requests from this address. Retry after the time given."},
	{CodeStopping, KindUnavailable, true, "The server is stopping. Retry in a moment."},
	{CodeStoreDown, KindUnavailable, true, "The server's store cannot commit now. Nothing was stored. Retry later."},
	{CodeTooManyStreams, KindLimit, true, "Too many open streams from this address. Close one and retry."},
}

// Lookup returns the entry of code; an unknown code is documented as internal.
func Lookup(code Code) Entry {
	for _, e := range Table {
		if e.Code == code {
			return e
		}
	}
	return Entry{Code: code, Kind: KindInternal, Meaning: "Undocumented."}
}
