package operator

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// codeTable is section 8, every row, with the class that a delegate's keeper must
// conclude from it.
var codeTable = []struct {
	n     int
	name  string
	grpc  codes.Code
	class Class
}{
	{0, "INTERNAL_ERROR", codes.Internal, Transient},
	{1, "INVALID_ARK_PSBT", codes.InvalidArgument, Rejected},
	{2, "INVALID_CHECKPOINT_PSBT", codes.InvalidArgument, Rejected},
	{3, "INVALID_PSBT_MISSING_INPUT", codes.InvalidArgument, Rejected},
	{4, "VTXO_ALREADY_REGISTERED", codes.AlreadyExists, Duplicate},
	{5, "INVALID_PSBT_INPUT", codes.InvalidArgument, Rejected},
	{6, "VTXO_ALREADY_SPENT", codes.InvalidArgument, Spent},
	{7, "VTXO_ALREADY_UNROLLED", codes.InvalidArgument, Unrolled},
	{8, "VTXO_RECOVERABLE", codes.InvalidArgument, Rejected},
	{9, "OFFCHAIN_TX_SPENDING_NOTE", codes.InvalidArgument, Rejected},
	{10, "INVALID_VTXO_SCRIPT", codes.InvalidArgument, Rejected},
	{11, "FORFEIT_CLOSURE_LOCKED", codes.FailedPrecondition, NotYet},
	{12, "ARK_TX_INPUT_NOT_SIGNED", codes.InvalidArgument, Rejected},
	{13, "MALFORMED_ARK_TX", codes.InvalidArgument, Rejected},
	{14, "AMOUNT_TOO_HIGH", codes.InvalidArgument, Rejected},
	{15, "AMOUNT_TOO_LOW", codes.InvalidArgument, Rejected},
	{16, "CHECKPOINT_MISMATCH", codes.InvalidArgument, Rejected},
	{17, "ARK_TX_MISMATCH", codes.InvalidArgument, Rejected},
	{18, "INVALID_SIGNATURE", codes.InvalidArgument, Rejected},
	{19, "TX_NOT_FOUND", codes.NotFound, NotFound},
	{20, "INVALID_INTENT_TIMERANGE", codes.InvalidArgument, NotYet},
	{21, "INVALID_INTENT_MESSAGE", codes.InvalidArgument, Rejected},
	{22, "INVALID_INTENT_PSBT", codes.InvalidArgument, Rejected},
	{23, "INVALID_INTENT_PROOF", codes.InvalidArgument, Rejected},
	{24, "INVALID_PKSCRIPT", codes.InvalidArgument, Rejected},
	{25, "CONFIRMATION_SESSION_NOT_STARTED", codes.InvalidArgument, NextBatch},
	{26, "INVALID_FORFEIT_TXS", codes.InvalidArgument, NextBatch},
	{27, "INVALID_BOARDING_INPUT_SIG", codes.InvalidArgument, NextBatch},
	{28, "SIGNING_SESSION_TIMED_OUT", codes.Internal, NextBatch},
	{29, "VTXO_BANNED", codes.InvalidArgument, Banned},
	{30, "VTXO_NOT_FOUND", codes.NotFound, NotFound},
	{31, "INTENT_INSUFFICIENT_FEE", codes.InvalidArgument, FeeTooLow},
	{32, "OFFCHAIN_TX_INSUFFICIENT_FEE", codes.InvalidArgument, FeeTooLow},
	{33, "ASSET_VALIDATION_FAILED", codes.InvalidArgument, Rejected},
	{34, "ASSET_NOT_FOUND", codes.NotFound, NotFound},
	{35, "ASSET_INPUT_INVALID", codes.InvalidArgument, Rejected},
	{36, "ASSET_OUTPUT_INVALID", codes.InvalidArgument, Rejected},
	{37, "CONTROL_ASSET_INVALID", codes.InvalidArgument, Rejected},
	{38, "CONTROL_ASSET_NOT_FOUND", codes.NotFound, NotFound},
	{39, "INTENT_ASSET_VALIDATION_FAILED", codes.InvalidArgument, Rejected},
	{40, "CHECKPOINT_TX_INVALID", codes.InvalidArgument, Rejected},
	{41, "CHECKPOINT_TX_NOT_FOUND", codes.NotFound, NotFound},
	{42, "OFFCHAIN_TX_INVALID", codes.InvalidArgument, Rejected},
	{43, "ASSET_PACKET_INVALID", codes.InvalidArgument, Rejected},
	{44, "INTENT_FEE_EVALUATION_FAILED", codes.Internal, Transient},
	{45, "INTENT_NOT_FOUND", codes.NotFound, NotFound},
	{46, "TX_TOO_LARGE", codes.InvalidArgument, Rejected},
	{47, "VTXO_WITH_TOO_MANY_ASSETS", codes.InvalidArgument, Rejected},
	{48, "BUILD_VERSION_TOO_OLD", codes.FailedPrecondition, Outdated},
	{49, "DIGEST_MISMATCH", codes.FailedPrecondition, Stale},
	{50, "SUBSCRIPTION_NOT_FOUND", codes.NotFound, NotFound},
	{51, "TX_FILTERS_LIMIT_EXCEEDED", codes.InvalidArgument, Rejected},
	{52, "INVALID_TX_FILTER", codes.InvalidArgument, Rejected},
}

// TestEveryCode sends every code over the wire.
func TestEveryCode(t *testing.T) {
	if len(codeTable) != 53 {
		t.Fatalf("%d rows, want all 53 of the operator's table", len(codeTable))
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		for i, row := range codeTable {
			if row.n != i {
				t.Fatalf("row %d is code %d", i, row.n)
			}
			text := fmt.Sprintf("%s (%d): some cause", row.name, row.n)
			f.on("ConfirmRegistration", func(context.Context, any) (any, error) {
				return nil, coded(row.grpc, int32(row.n), row.name, text, map[string]string{"amount": "1.9e+09"})
			})
			err := c.ConfirmRegistration(t.Context(), "id")
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%s: got %v", row.name, err)
			}
			if e.Code != row.n || e.Name != row.name || e.Message != text || e.GRPC != row.grpc || e.Op != "ConfirmRegistration" || e.Metadata["amount"] != "1.9e+09" {
				t.Errorf("%s: got %+v", row.name, e)
			}
			if got := ClassOf(fmt.Errorf("wrapped: %w", err)); got != row.class {
				t.Errorf("%s: class %v, want %v", row.name, got, row.class)
			}
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: says %q", row.name, err)
			}
		}
	})
}

// TestTextTellsApart covers the refusals that share a code with others; the texts
// are arkd's own.
func TestTextTellsApart(t *testing.T) {
	const op = "0101010101010101010101010101010101010101010101010101010101010101:1"
	for _, tc := range []struct {
		n     int32
		text  string
		class Class
	}{
		{0, "INTERNAL_ERROR (0): failed to push intent: duplicated input, " + op + " already registered by another intent", Duplicate},
		{0, "INTERNAL_ERROR (0): failed to confirm intent: intent hash not found", NextBatch},
		{0, `INTERNAL_ERROR (0): failed to add nonces: signing session not found for round "x"`, NextBatch},
		{0, `INTERNAL_ERROR (0): failed to add nonces: cosigner 02ab not found for round "x"`, NextBatch},
		{0, "INTERNAL_ERROR (0): failed to add signatures: signature channel not initialized for round x", NextBatch},
		{0, "INTERNAL_ERROR (0): something went wrong", Transient},
		{5, "INVALID_PSBT_INPUT (5): vtxo " + op + " expires after 2026-11-23 (minExpiryGap: 1h0m0s)", NotYet},
		{5, "INVALID_PSBT_INPUT (5): witness utxo value mismatch: got 1 expected 2", Rejected},
		{10, "INVALID_VTXO_SCRIPT (10): vtxo script can be used for intent registration in 512 seconds", NotYet},
		{10, "INVALID_VTXO_SCRIPT (10): ab is a deprecated key since 2026-01-01", Rejected},
		{20, "INVALID_INTENT_TIMERANGE (20): proof of ownership not yet valid", NotYet},
		{20, "INVALID_INTENT_TIMERANGE (20): proof of ownership expired", Expired},
		{23, "INVALID_INTENT_PROOF (23): no matching intents found for intent proof", NotFound},
		// The same words as a queued duplicate, but about one proof with an input twice.
		{23, "INVALID_INTENT_PROOF (23): duplicated input " + op, Rejected},
		{53, "SOMETHING_NEW (53): from a later operator", Unknown},
		{-1, "a negative code of a confused operator", Transient},
	} {
		got := ClassOf(newError("RegisterIntent", coded(codes.Internal, tc.n, "X", tc.text, nil)))
		if got != tc.class {
			t.Errorf("%q: %v, want %v", tc.text, got, tc.class)
		}
	}
}

func TestTransportErrors(t *testing.T) {
	for _, tc := range []struct {
		err   error
		class Class
	}{
		{status.Error(codes.Unavailable, "server not ready"), Transient},
		{status.Error(codes.FailedPrecondition, "ark service not ready: wallet is locked or syncing"), Transient},
		{status.Error(codes.InvalidArgument, "missing stream id"), Rejected},
		{status.Error(codes.NotFound, "subscription not found: x"), NotFound},
		{status.Error(codes.Internal, "batch not found"), Transient}, // means something in one call only
		{status.Error(codes.Internal, "panic"), Transient},
		{status.Error(codes.Unimplemented, "unknown method"), Outdated},
		{status.Error(codes.ResourceExhausted, "slow down"), Transient},
		{status.Error(codes.PermissionDenied, "a proxy's page"), Transient},
		{status.Error(codes.Unauthenticated, "a proxy's page"), Transient},
		{status.Error(codes.Unknown, ""), Transient},
		{status.Error(codes.DeadlineExceeded, ""), Transient},
		{context.DeadlineExceeded, Transient},
		{io.ErrUnexpectedEOF, Transient},
	} {
		if got := ClassOf(newError("X", tc.err)); got != tc.class {
			t.Errorf("%v: %v, want %v", tc.err, got, tc.class)
		}
	}
	for err, want := range map[error]Class{
		nil: None, io.EOF: Unknown, ErrAnswer: Unverified, ErrClosed: Canceled, context.Canceled: Canceled, context.DeadlineExceeded: Transient,
		ErrNotFound: NotFound, ErrSilent: Transient, ErrStreamEnded: Transient, ErrSlowConsumer: Transient, ErrConfig: Unknown,
	} {
		if got := ClassOf(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}

// TestOnlyFinalClassesEnd holds that nothing but a refusal of the request itself
// is final.
func TestOnlyFinalClassesEnd(t *testing.T) {
	final := map[Class]bool{None: true, Spent: true, Unrolled: true, Expired: true, Rejected: true}
	names := make(map[string]bool)
	for c := None; c <= Rejected; c++ {
		if c.Retry() == final[c] {
			t.Errorf("%v: retry %v", c, c.Retry())
		}
		names[c.String()] = true
	}
	if len(names) != int(Rejected)+1 {
		t.Errorf("%d names for %d classes", len(names), int(Rejected)+1)
	}
	if Class(-1).String() != "unknown" || Class(99).String() != "unknown" {
		t.Error("a class beyond the table has a name")
	}
}

func TestSentinels(t *testing.T) {
	for target, n := range map[error]int32{
		ErrDigestMismatch: 49, ErrDuplicate: 4, ErrBanned: 29, ErrSpent: 6, ErrUnrolled: 7, ErrNotFound: 30,
	} {
		for _, row := range codeTable {
			err := newError("X", coded(row.grpc, int32(row.n), row.name, row.name, nil))
			if errors.Is(err, target) && row.class != ClassOf(newError("X", coded(codes.Internal, n, "", "", nil))) {
				t.Errorf("%v matches %s", target, row.name)
			}
		}
		if !errors.Is(newError("X", coded(codes.Internal, n, "", "", nil)), target) {
			t.Errorf("%v does not match code %d", target, n)
		}
	}
}

func TestHostileErrorText(t *testing.T) {
	hostile := "evil\x1b[31m\n\u202e\u0085" + strings.Repeat("é", 5000) + "\xff"
	metadata := make(map[string]string)
	for i := range 1000 {
		metadata[fmt.Sprint(i)] = hostile
	}
	st := status.New(codes.Internal, "x")
	st, err := st.WithDetails(&arkv1.ErrorDetails{Code: 29, Name: strings.ToValidUTF8(hostile, ""), Message: strings.ToValidUTF8(hostile, "")})
	if err != nil {
		t.Fatal(err)
	}
	e := newError("X", st.Err())
	e.Metadata = boundMetadata(metadata)
	for _, s := range []string{e.Name, e.Message, e.Metadata["1"], e.Error(), clean(hostile, 10)} {
		if strings.ContainsAny(s, "\x1b\n\u202e\u0085") || !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxErrorText+40 {
			t.Errorf("%d runes: %.80q", utf8.RuneCountInString(s), s)
		}
	}
	if len(e.Metadata) > maxErrorMetadata {
		t.Errorf("%d entries", len(e.Metadata))
	}
}

func FuzzError(f *testing.F) {
	f.Add(uint32(13), int32(0), "INTERNAL_ERROR", "duplicated input", "k", "v")
	f.Add(uint32(3), int32(-5), "\xff", "\x00", "", "")
	f.Fuzz(func(t *testing.T, code uint32, n int32, name, text, k, v string) {
		e := newError("X", coded(codes.Code(code%17), n, name, text, map[string]string{k: v}))
		if ClassOf(e).String() == "" || !utf8.ValidString(e.Error()) {
			t.Errorf("%v: %q", ClassOf(e), e.Error())
		}
	})
}

// TestNoTransactionInAText: what the operator sends back of ours in a refusal ends in
// records and logs, where a signature may not.
func TestNoTransactionInAText(t *testing.T) {
	raw := bytes.Repeat([]byte{0xa7, 0x13, 0x5e}, 300)
	outpoint := strings.Repeat("ab", 32) + ":12"
	for _, echo := range []string{base64.StdEncoding.EncodeToString(raw), base64.URLEncoding.EncodeToString(raw[:64]), hex.EncodeToString(raw[:64])} {
		got := clean("INVALID_FORFEIT_TXS (26): of "+outpoint+": "+echo+", and "+echo, maxErrorText)
		if strings.Contains(got, echo[:maxWord]) || !strings.Contains(got, outpoint) || !strings.HasPrefix(got, "INVALID_FORFEIT_TXS (26): of") || !strings.Contains(got, "…, and ") {
			t.Errorf("%s", got)
		}
	}
	for _, plain := range []string{"", "a", "ä: not enough intent confirmations received …", strings.Repeat("x", maxWord), outpoint} {
		if got := clean(plain, maxErrorText); got != plain {
			t.Errorf("%q became %q", plain, got)
		}
	}
}
