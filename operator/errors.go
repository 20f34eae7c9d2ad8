package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// Sentinels that an *Error matches with errors.Is, beside its class.
var (
	// ErrDigestMismatch says that the operator's parameters are not those that the
	// call was made under. Calls repeat themselves once before they return it.
	ErrDigestMismatch = errors.New("operator: parameters changed")
	// ErrDuplicate says that a queued intent already holds one of the inputs.
	ErrDuplicate = errors.New("operator: an input is already registered")
	// ErrBanned says that a script of ours is convicted for some minutes.
	ErrBanned = errors.New("operator: banned")
	// ErrSpent says that an input is spent.
	ErrSpent = errors.New("operator: input spent")
	// ErrUnrolled says that an input was brought on chain.
	ErrUnrolled = errors.New("operator: input unrolled")
	// ErrNotFound says that the operator does not know what was asked for.
	ErrNotFound = errors.New("operator: not found")
)

// ErrAnswer says that an answer came and is not what the protocol allows: the
// operator, or somebody between, is broken or lying. Nothing of it is used.
var ErrAnswer = errors.New("operator: answer does not verify")

// CodeNone is Error.Code when the operator sent no code of its own.
const CodeNone = -1

const (
	maxErrorText     = 1024 // runes of an operator's message that are kept
	maxErrorMetadata = 16   // entries
	maxMetadataText  = 128  // runes of a key or value
	maxWord          = 80   // runes of letters, digits and what base64 has beside: an outpoint has 66
	keptWord         = 24   // of a longer word
)

// Error is a call that the operator refused, or that never reached it.
type Error struct {
	Op string // the RPC
	// Code is the operator's own number (section 8), or CodeNone.
	Code int
	Name string
	// Message is the operator's text, cut and without control characters.
	Message string
	// Metadata are the operator's details, cut. Numbers from 1,000,000 on come in
	// exponent form and lists in brackets: show them, never parse them.
	Metadata map[string]string
	GRPC     codes.Code

	text  string // lower case, for the few refusals that only their text tells apart
	cause error
}

// Error tells call, code and text.
func (e *Error) Error() string {
	// A coded message begins with its name and number already.
	if e.Code == CodeNone {
		return fmt.Sprintf("operator: %s: %s: %s", e.Op, e.GRPC, e.Message)
	}
	return fmt.Sprintf("operator: %s: %s", e.Op, e.Message)
}

// Unwrap returns context.Canceled, context.DeadlineExceeded or ErrClosed when
// the call ended for that reason on our side.
func (e *Error) Unwrap() error { return e.cause }

// Is matches the sentinels of this package.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrDigestMismatch:
		return e.Code == 49
	case ErrDuplicate:
		return e.class() == Duplicate
	case ErrBanned:
		return e.class() == Banned
	case ErrSpent:
		return e.class() == Spent
	case ErrUnrolled:
		return e.class() == Unrolled
	case ErrNotFound:
		return e.class() == NotFound
	}
	return false
}

// failure turns what a call returned into an *Error. ctx is the caller's, which
// tells an end on our side from one on the operator's.
func (c *Client) failure(ctx context.Context, op string, err error) *Error {
	e := newError(op, err)
	switch {
	case ctx.Err() != nil:
		e.cause = context.Cause(ctx)
	case c.isClosed():
		e.cause = ErrClosed
	case e.GRPC == codes.DeadlineExceeded:
		e.cause = context.DeadlineExceeded
	}
	return e
}

func newError(op string, err error) *Error {
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	e := &Error{Op: op, Code: CodeNone, GRPC: st.Code(), Message: clean(st.Message(), maxErrorText)}
	for i, d := range st.Details() {
		if i == maxErrorMetadata {
			break
		}
		detail, ok := d.(*arkv1.ErrorDetails)
		if !ok {
			continue
		}
		e.Code = int(detail.GetCode())
		e.Name = clean(detail.GetName(), maxMetadataText)
		if m := detail.GetMessage(); m != "" {
			e.Message = clean(m, maxErrorText)
		}
		e.Metadata = boundMetadata(detail.GetMetadata())
		break
	}
	e.text = strings.ToLower(e.Message)
	return e
}

func boundMetadata(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, min(len(m), maxErrorMetadata))
	for k, v := range m {
		if len(out) == maxErrorMetadata {
			break
		}
		out[clean(k, maxMetadataText)] = clean(v, maxMetadataText)
	}
	return out
}

// clean makes a peer's text fit for logs, terminals and records: at most n runes,
// without control characters or invalid UTF-8, and without whole transactions. One
// that is sent back in a refusal may carry a forfeit of ours whose signature is a
// secret, which no log and no record may have.
func clean(s string, n int) string {
	if len(s) > 4*n {
		s = s[:4*n]
	}
	s = cutWords(s)
	var b strings.Builder
	for _, r := range s {
		if n == 0 {
			b.WriteString("…")
			break
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffd || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			r = '?'
		}
		b.WriteRune(r)
		n--
	}
	return b.String()
}

// cutWords cuts what is too long for an outpoint.
func cutWords(s string) string {
	inner := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '+' || r == '/' || r == '=' || r == '_' || r == '-'
	}
	var b strings.Builder
	for len(s) > 0 {
		n := strings.IndexFunc(s, func(r rune) bool { return !inner(r) })
		if n < 0 {
			n = len(s)
		}
		if n > maxWord {
			b.WriteString(s[:keptWord] + "…")
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
		if n = strings.IndexFunc(s, inner); n < 0 {
			n = len(s)
		}
		b.WriteString(s[:n])
		s = s[n:]
	}
	return b.String()
}
