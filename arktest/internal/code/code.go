// Package code owns the operator's error codes and the shape they travel in
// (protocol sections 1.1.2 and 8). It must not know what causes them.
package code

import (
	"encoding/json"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// Code is one of the operator's codes.
type Code struct {
	N    int32
	Name string
	GRPC codes.Code
}

// The codes (protocol section 8).
var (
	Internal            = Code{0, "INTERNAL_ERROR", codes.Internal}
	ArkPSBT             = Code{1, "INVALID_ARK_PSBT", codes.InvalidArgument}
	CheckpointPSBT      = Code{2, "INVALID_CHECKPOINT_PSBT", codes.InvalidArgument}
	MissingInput        = Code{3, "INVALID_PSBT_MISSING_INPUT", codes.InvalidArgument}
	AlreadyRegistered   = Code{4, "VTXO_ALREADY_REGISTERED", codes.AlreadyExists}
	PSBTInput           = Code{5, "INVALID_PSBT_INPUT", codes.InvalidArgument}
	AlreadySpent        = Code{6, "VTXO_ALREADY_SPENT", codes.InvalidArgument}
	AlreadyUnrolled     = Code{7, "VTXO_ALREADY_UNROLLED", codes.InvalidArgument}
	Recoverable         = Code{8, "VTXO_RECOVERABLE", codes.InvalidArgument}
	SpendingNote        = Code{9, "OFFCHAIN_TX_SPENDING_NOTE", codes.InvalidArgument}
	VTXOScript          = Code{10, "INVALID_VTXO_SCRIPT", codes.InvalidArgument}
	ClosureLocked       = Code{11, "FORFEIT_CLOSURE_LOCKED", codes.FailedPrecondition}
	ArkInputUnsigned    = Code{12, "ARK_TX_INPUT_NOT_SIGNED", codes.InvalidArgument}
	MalformedArkTx      = Code{13, "MALFORMED_ARK_TX", codes.InvalidArgument}
	AmountTooHigh       = Code{14, "AMOUNT_TOO_HIGH", codes.InvalidArgument}
	AmountTooLow        = Code{15, "AMOUNT_TOO_LOW", codes.InvalidArgument}
	CheckpointMismatch  = Code{16, "CHECKPOINT_MISMATCH", codes.InvalidArgument}
	ArkTxMismatch       = Code{17, "ARK_TX_MISMATCH", codes.InvalidArgument}
	Signature           = Code{18, "INVALID_SIGNATURE", codes.InvalidArgument}
	TxNotFound          = Code{19, "TX_NOT_FOUND", codes.NotFound}
	IntentTimeRange     = Code{20, "INVALID_INTENT_TIMERANGE", codes.InvalidArgument}
	IntentMessage       = Code{21, "INVALID_INTENT_MESSAGE", codes.InvalidArgument}
	IntentPSBT          = Code{22, "INVALID_INTENT_PSBT", codes.InvalidArgument}
	IntentProof         = Code{23, "INVALID_INTENT_PROOF", codes.InvalidArgument}
	PkScript            = Code{24, "INVALID_PKSCRIPT", codes.InvalidArgument}
	NoConfirmation      = Code{25, "CONFIRMATION_SESSION_NOT_STARTED", codes.InvalidArgument}
	ForfeitTxs          = Code{26, "INVALID_FORFEIT_TXS", codes.InvalidArgument}
	BoardingSig         = Code{27, "INVALID_BOARDING_INPUT_SIG", codes.InvalidArgument}
	SigningTimeout      = Code{28, "SIGNING_SESSION_TIMED_OUT", codes.Internal}
	Banned              = Code{29, "VTXO_BANNED", codes.InvalidArgument}
	VTXONotFound        = Code{30, "VTXO_NOT_FOUND", codes.NotFound}
	InsufficientFee     = Code{31, "INTENT_INSUFFICIENT_FEE", codes.InvalidArgument}
	AssetValidation     = Code{33, "ASSET_VALIDATION_FAILED", codes.InvalidArgument}
	AssetNotFound       = Code{34, "ASSET_NOT_FOUND", codes.NotFound}
	AssetInput          = Code{35, "ASSET_INPUT_INVALID", codes.InvalidArgument}
	AssetOutput         = Code{36, "ASSET_OUTPUT_INVALID", codes.InvalidArgument}
	ControlInvalid      = Code{37, "CONTROL_ASSET_INVALID", codes.InvalidArgument}
	ControlNotFound     = Code{38, "CONTROL_ASSET_NOT_FOUND", codes.NotFound}
	IntentNotFound      = Code{45, "INTENT_NOT_FOUND", codes.NotFound}
	TxTooLarge          = Code{46, "TX_TOO_LARGE", codes.InvalidArgument}
	TooManyAssets       = Code{47, "VTXO_WITH_TOO_MANY_ASSETS", codes.InvalidArgument}
	BuildVersion        = Code{48, "BUILD_VERSION_TOO_OLD", codes.FailedPrecondition}
	DigestMismatch      = Code{49, "DIGEST_MISMATCH", codes.FailedPrecondition}
	SubscriptionUnknown = Code{50, "SUBSCRIPTION_NOT_FOUND", codes.NotFound}
	TooManyFilters      = Code{51, "TX_FILTERS_LIMIT_EXCEEDED", codes.InvalidArgument}
	TxFilter            = Code{52, "INVALID_TX_FILTER", codes.InvalidArgument}
)

// Meta is an error's metadata before it is printed.
type Meta map[string]any

// Error is a coded refusal. It is also a gRPC status.
type Error struct {
	Code  Code
	Cause error
	Meta  Meta
}

// New makes an error of this code.
func (c Code) New(m Meta, format string, args ...any) *Error {
	return &Error{Code: c, Cause: fmt.Errorf(format, args...), Meta: m}
}

// Error is the message as it goes over the wire: "NAME (n): cause".
func (e *Error) Error() string { return fmt.Sprintf("%s (%d): %s", e.Code.Name, e.Code.N, e.Cause) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// GRPCStatus carries the code as an ErrorDetails.
func (e *Error) GRPCStatus() *status.Status {
	st := status.New(e.Code.GRPC, e.Error())
	with, err := st.WithDetails(&arkv1.ErrorDetails{
		Code: e.Code.N, Name: e.Code.Name, Message: e.Error(), Metadata: e.Meta.print(),
	})
	if err != nil {
		return st
	}
	return with
}

// print goes through generic JSON, as the operator does: integers become
// floats, so that 1900000000 prints as 1.9e+09, and lists print as [a b].
func (m Meta) print() map[string]string {
	out := map[string]string{}
	raw, err := json.Marshal(m)
	if err != nil {
		return out
	}
	var generic map[string]any
	if json.Unmarshal(raw, &generic) != nil {
		return out
	}
	for k, v := range generic {
		if v == nil {
			out[k] = ""
			continue
		}
		out[k] = fmt.Sprintf("%v", v)
	}
	return out
}

// Input is the metadata of an input error.
func Input(txid string, index int) Meta { return Meta{"txid": txid, "input_index": index} }

// Outpoint is the metadata that names one VTXO.
func Outpoint(op string) Meta { return Meta{"vtxo_outpoint": op} }
