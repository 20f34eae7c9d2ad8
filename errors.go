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
	KindUnsigned                // Unauthenticated, 401: sign it with the right key
	KindDenied                  // PermissionDenied, 403: not with this key, or not by policy
	KindAborted                 // Aborted, 409: sign a new request
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
	CodeOnHold         Code = "ON_HOLD"
	CodeOperatorDown   Code = "OPERATOR_UNAVAILABLE"
	CodeChainDown      Code = "CHAIN_UNAVAILABLE"
	CodeOperatorKey    Code = "OPERATOR_KEY_CHANGED"
	CodeNotFound       Code = "NOT_FOUND"
	CodeMalformed      Code = "MALFORMED_REQUEST"
	CodeClockSkew      Code = "CLOCK_SKEW"
)

// The codes of intake: what is wrong with a delegate that was submitted.
const (
	CodeAssetsNotConserved  Code = "ASSETS_NOT_CONSERVED"
	CodeCosignersMismatch   Code = "COSIGNERS_MISMATCH"
	CodeDelegateKeyMissing  Code = "DELEGATE_KEY_MISSING"
	CodeDestinationNotOwner Code = "DESTINATION_NOT_OWNER"
	CodeDuplicateInput      Code = "DUPLICATE_INPUT"
	CodeExitLeafSequence    Code = "EXIT_LEAF_SEQUENCE"
	CodeExpireAtInvalid     Code = "EXPIRE_AT_INVALID"
	CodeFeeTooHigh          Code = "FEE_TOO_HIGH"
	CodeFeeTooLow           Code = "FEE_TOO_LOW"
	CodeForfeitDuplicate    Code = "FORFEIT_DUPLICATE"
	CodeForfeitInvalid      Code = "FORFEIT_INVALID"
	CodeForfeitMissing      Code = "FORFEIT_MISSING"
	CodeForfeitUnexpected   Code = "FORFEIT_UNEXPECTED"
	CodeInputMismatch       Code = "INPUT_MISMATCH"
	CodeInputNotDelegable   Code = "INPUT_NOT_DELEGABLE"
	CodeInputSpent          Code = "INPUT_SPENT"
	CodeInputUnknown        Code = "INPUT_UNKNOWN"
	CodeInputUnrolled       Code = "INPUT_UNROLLED"
	CodeInvalidMessage      Code = "INVALID_MESSAGE"
	CodeInvalidProof        Code = "INVALID_PROOF"
	CodeLeafUnsupported     Code = "LEAF_UNSUPPORTED"
	CodeOnchainOutput       Code = "ONCHAIN_OUTPUT_UNSUPPORTED"
	CodeOutputAmount        Code = "OUTPUT_AMOUNT"
	CodeProofTooHeavy       Code = "PROOF_TOO_HEAVY"
	CodeReplaceIncomplete   Code = "REPLACE_INCOMPLETE"
	CodeReplaceRejected     Code = "REPLACE_REJECTED"
	CodeScriptInvalid       Code = "SCRIPT_INVALID"
	CodeServiceFee          Code = "SERVICE_FEE"
	CodeSighashUnsupported  Code = "SIGHASH_UNSUPPORTED"
	CodeSignatureInvalid    Code = "SIGNATURE_INVALID"
	CodeTooManyDelegates    Code = "TOO_MANY_DELEGATES"
	CodeTooManyInputs       Code = "TOO_MANY_INPUTS"
	CodeTooManyOutputs      Code = "TOO_MANY_OUTPUTS"
	CodeValidAtInvalid      Code = "VALID_AT_INVALID"
)

// The codes of wallets.
const (
	CodeCeremonyFailed     Code = "CEREMONY_FAILED"
	CodeCeremonyUnknown    Code = "CEREMONY_UNKNOWN"
	CodeCoinsRemain        Code = "COINS_REMAIN"
	CodeCoolDown           Code = "COOL_DOWN"
	CodeEpochLost          Code = "EPOCH_LOST"
	CodeGeneration         Code = "GENERATION_REFUSED"
	CodeEpochUnknown       Code = "EPOCH_UNKNOWN"
	CodeHostKeyNeeded      Code = "HOST_KEY_NEEDED"
	CodeIdentityFrozen     Code = "IDENTITY_FROZEN"
	CodeNonceReused        Code = "NONCE_REUSED"
	CodeNotPermitted       Code = "NOT_PERMITTED"
	CodeRegistrationClosed Code = "REGISTRATION_CLOSED"
	CodeRegistrationToken  Code = "REGISTRATION_TOKEN"
	CodeTooManyCeremonies  Code = "TOO_MANY_CEREMONIES"
	CodeTooManyDevices     Code = "TOO_MANY_DEVICES"
	CodeTooManyPrepared    Code = "TOO_MANY_PREPARED"
	CodeTooManyTokens      Code = "TOO_MANY_TOKENS"
	CodeTooManyWallets     Code = "TOO_MANY_WALLETS"
	CodeWalletBusy         Code = "WALLET_BUSY"
	CodeWalletPending      Code = "WALLET_PENDING"
	CodeWalletQuarantined  Code = "WALLET_QUARANTINED"
)

// The codes of requests and streams of wallets.
const (
	CodeReplayed         Code = "REPLAYED"
	CodeRequestSignature Code = "REQUEST_SIGNATURE"
	CodeRetryNonce       Code = "RETRY_WITH_NEW_NONCE"
	CodeTooManyWatches   Code = "TOO_MANY_WATCHES"
	CodeWalletRate       Code = "WALLET_RATE"
	CodeWatchExpired     Code = "WATCH_EXPIRED"
)

// The codes of what a wallet is asked to sign, and of its policy.
const (
	CodeDocumentInvalid   Code = "DOCUMENT_INVALID"
	CodeInputNotOurs      Code = "INPUT_NOT_OURS"
	CodePolicyAssets      Code = "POLICY_ASSETS"
	CodePolicyBearer      Code = "POLICY_BEARER"
	CodePolicyDestination Code = "POLICY_DESTINATION"
	CodePolicyInvalid     Code = "POLICY_INVALID"
	CodePolicyPerTx       Code = "POLICY_PER_TX"
	CodePolicyWindow      Code = "POLICY_WINDOW"
)

// Table lists every code, sorted by name; a test holds that.
var Table = []Entry{
	{CodeAssetsNotConserved, KindInvalid, false, "An input holds assets and the outputs do not return every unit to the owner in one extension output. Delegates never burn or issue assets."},
	{CodeBodyTooLarge, KindLimit, false, "The request is larger than the server accepts. Send fewer inputs in one request."},
	{CodeCeremonyFailed, KindInvalid, false, "A message of a key ceremony is wrong. The sentence says whose; begin a new ceremony."},
	{CodeCeremonyUnknown, KindState, false, "There is no such key ceremony: it ended, it expired, or the server restarted. Begin a new one; what was already stored is given by BeginKeygen and Recover."},
	{CodeChainDown, KindUnavailable, true, "The server could not ask its Esplora what the wallet has on chain, and does nothing on a guess. Retry later."},
	{CodeClockSkew, KindInvalid, false, "The request's time, or the time at which its message expires, is too far from the server's. Set the clock and sign anew; the sentence says the server's time, and for a wallet's request the details hold it signed (vigil.v1.ServerClock)."},
	{CodeCoinsRemain, KindState, false, "The wallet still has coins. Move them first, or force the deletion and repeat it after the cool-down."},
	{CodeCoolDown, KindState, true, "The change was announced and its cool-down is not over. The sentence says when it may be confirmed."},
	{CodeCosignersMismatch, KindInvalid, false, "The message must name exactly one cosigner: the public key that the server's info shows. Fetch the info again and sign anew."},
	{CodeDelegateKeyMissing, KindInvalid, false, "An input's script has no collaborative leaf with this server's key and the operator's. Move the VTXO to an address that names this server as delegate."},
	{CodeDestinationNotOwner, KindInvalid, false, "An output pays a script that is neither one of the inputs' nor the server's fee address. A delegate returns coins to where they were."},
	{CodeDiskLow, KindUnavailable, true, "The server is short of disk and takes nothing new; what it has is kept alive. Retry later, or use another server."},
	{CodeDocumentInvalid, KindInvalid, false, "A document to be signed is not well formed, or is not what its kind says, or the batch that it names does not verify. The sentence says which part; nothing was signed."},
	{CodeDuplicateInput, KindInvalid, false, "The proof names an input twice."},
	{CodeEpochLost, KindState, false, "The server was restored from copies older than the refresh that made the device's shares, and cannot make its own again. Its operator may have a newer export of the secrets. Without one the key signs no more: leave with the seed, by the recovery leaf."},
	{CodeEpochUnknown, KindState, false, "The request names an epoch of the key's shares that may not sign here, or not any more. If the server has a later one, Recover and use that; if the device has, the server was restored from a copy of the past: AdoptEpoch."},
	{CodeExitLeafSequence, KindInvalid, false, "An input is signed on an exit leaf with a sequence other than that leaf's delay."},
	{CodeExpireAtInvalid, KindInvalid, false, "The message's expire_at leaves too little time after valid_at. Use 0, so that the renewal may be retried."},
	{CodeFeeTooHigh, KindInvalid, false, "The outputs leave the operator more than its fee programs ask for and the server's policy allows. Compute the fee again."},
	{CodeFeeTooLow, KindInvalid, false, "Inputs minus outputs are less than the operator's fee, reckoned for live and for recoverable inputs. Compute the fee again."},
	{CodeForfeitDuplicate, KindInvalid, false, "Two forfeits are for the same input."},
	{CodeForfeitInvalid, KindInvalid, false, "A forfeit is not what the operator's parameters of today ask for. The sentence says which part; refresh the operator's info and sign anew."},
	{CodeForfeitMissing, KindInvalid, false, "An input that is not recoverable has no forfeit."},
	{CodeForfeitUnexpected, KindInvalid, false, "A forfeit is for a VTXO that the proof does not spend."},
	{CodeGeneration, KindState, false, "The scripts that the device asks for are not those that follow from what the operator announces now, or the wallet has as many earlier ones as are kept. Read the operator's parameters again, and accept them again."},
	{CodeHostKeyNeeded, KindDenied, false, "This change needs the host key, which comes from the wallet's seed; an identity key may only tighten."},
	{CodeIdentityFrozen, KindDenied, false, "This device was frozen when the wallet was recovered on another one. Use that device, or recover here with the seed."},
	{CodeInputMismatch, KindInvalid, false, "The amount or script in the proof differs from what the operator knows of the VTXO."},
	{CodeInputNotDelegable, KindInvalid, false, "An input cannot be renewed by a delegate: it is a note or a boarding output, or all inputs together are below dust."},
	{CodeInputNotOurs, KindInvalid, false, "A document spends a coin whose script is none of this wallet's, or on a leaf that the group does not sign."},
	{CodeInputSpent, KindState, false, "An input is already spent or renewed. Refresh the wallet's VTXOs."},
	{CodeInputUnknown, KindState, true, "The operator does not know an input. A new VTXO may take a moment to appear; boarding outputs cannot be delegated."},
	{CodeInputUnrolled, KindState, false, "An input is on chain, or on its way there, and cannot be renewed."},
	{CodeInternal, KindInternal, true, "The server failed in a way it did not foresee. Nothing was stored. Retry; if it stays, tell its operator the time of the request."},
	{CodeInvalidMessage, KindInvalid, false, "The intent's message is not of the kind that this call takes, in its canonical form."},
	{CodeInvalidProof, KindInvalid, false, "The intent's proof is not a well-formed proof over the message. The sentence says which part."},
	{CodeLeafUnsupported, KindInvalid, false, "An input is signed on a leaf that a delegate cannot use. Use the leaf of owner and operator."},
	{CodeMalformed, KindInvalid, false, "The request could not be decoded. The sentence says which field."},
	{CodeNonceReused, KindInvalid, false, "A public nonce was used before. A nonce is good for one message, once: make fresh ones. If your program did not mean it, stop using it."},
	{CodeNotFound, KindNotFound, false, "There is no such delegate here, or the proof is not over one of its inputs."},
	{CodeNotPermitted, KindDenied, false, "The key that signed the request may not do this for this wallet: there is no such wallet, or the key is not one of its devices."},
	{CodeOnchainOutput, KindInvalid, false, "The message asks for an on-chain output. A delegate renews inside Ark only."},
	{CodeOnHold, KindUnavailable, true, "The server was restored from a backup, and its operator has not confirmed it yet. Nothing was stored. Retry later."},
	{CodeOperatorKey, KindUnavailable, true, "The Ark operator's signer key differs from the one that this server was set up with. Intake stops until its operator confirms the change."},
	{CodeOperatorDown, KindUnavailable, true, "The Ark operator cannot be reached, so the request could not be checked. Nothing was stored. Retry later."},
	{CodeOutputAmount, KindInvalid, false, "An output is below the operator's dust or above its largest VTXO, or has no Taproot script."},
	{CodePolicyAssets, KindState, false, "Units of assets would leave the wallet or be burned, or an exit spends a coin of which nothing is known, and the wallet's policy does not allow assets to leave."},
	{CodePolicyBearer, KindState, false, "A forfeit signed ahead on the leaf of group and operator is bound to no batch: whoever holds it may have the coin. It is signed only for a coin at the two-leaf script of a wallet whose policy has opted in to that; else move the coin to the wallet's address."},
	{CodePolicyDestination, KindState, false, "An output pays a script that is not on the allow-list of the wallet's policy. The host key may change the list."},
	{CodePolicyInvalid, KindInvalid, false, "The policy contradicts itself, exceeds a bound, or was made for another version than the one in force. Read the policy again."},
	{CodePolicyPerTx, KindState, false, "More would leave the wallet in one transaction than its policy allows. The host key may change the policy."},
	{CodePolicyWindow, KindState, true, "More would leave the wallet in the policy's window of time than it allows. Retry later with what is free again, or change the policy with the host key."},
	{CodeProofTooHeavy, KindInvalid, false, "The finished proof would weigh more than the operator takes. Use fewer inputs."},
	{CodeRateLimited, KindLimit, true, "Too many requests from this address. Retry after the time given."},
	{CodeRegistrationClosed, KindDenied, false, "This server takes no new wallets."},
	{CodeRegistrationToken, KindDenied, false, "This server takes new wallets with a registration token only, and none or a wrong one was given. Ask whoever runs it."},
	{CodeReplaceIncomplete, KindConflict, false, "An older delegate over one of the inputs renews others too. Cover all of its inputs, or cancel it first."},
	{CodeReplaceRejected, KindConflict, false, "An older delegate renews one of the inputs and the request says reject_replace."},
	{CodeReplayed, KindConflict, false, "The request's nonce was used before, for another request. Draw a new one for every request."},
	{CodeRequestSignature, KindUnsigned, false, "The request's signature does not verify for this server, network, method, wallet and payload. Sign what is sent, for where it is sent."},
	{CodeRetryNonce, KindAborted, false, "This request came before, and its answer is not kept or not known. It is not carried out again: look at the state, and sign a new request with a new nonce."},
	{CodeScriptInvalid, KindInvalid, false, "An input's script is one that the operator no longer accepts, or its leaf list does not give the script."},
	{CodeServiceFee, KindInvalid, false, "The proof must pay the server's fee exactly once, to the address in its info, and nothing there when the fee is 0."},
	{CodeSighashUnsupported, KindInvalid, false, "A signature of the proof has a sighash type other than DEFAULT or ALL."},
	{CodeSignatureInvalid, KindInvalid, false, "A signature is missing or does not verify over what it must sign."},
	{CodeStopping, KindUnavailable, true, "The server is stopping. Retry in a moment."},
	{CodeStoreDown, KindUnavailable, true, "The server's store cannot commit now. Nothing was stored. Retry later."},
	{CodeTooManyCeremonies, KindLimit, true, "Too many key ceremonies are open here. Finish one, or retry when older ones have expired."},
	{CodeTooManyDelegates, KindLimit, true, "The script has as many live delegates as the server keeps for one. Put more VTXOs into one delegate, or cancel some."},
	{CodeTooManyDevices, KindLimit, false, "The wallet has as many devices as the server keeps for one. Revoke one first."},
	{CodeTooManyInputs, KindInvalid, false, "The proof has more inputs than the server takes in one delegate. Split it."},
	{CodeTooManyOutputs, KindInvalid, false, "The proof has more outputs than the server takes in one delegate."},
	{CodeTooManyPrepared, KindLimit, true, "As many delegates are prepared and not submitted as the server keeps for one wallet. Submit them, or wait until they expire."},
	{CodeTooManyStreams, KindLimit, true, "Too many open streams from this address. Close one and retry."},
	{CodeTooManyTokens, KindLimit, false, "The wallet has as many push tokens as the server keeps for one. Drop one first."},
	{CodeTooManyWallets, KindLimit, true, "As many wallets were made as the server takes, in all or from this address. Retry later, or ask whoever runs it."},
	{CodeTooManyWatches, KindLimit, true, "The wallet has as many open watches as the server keeps for one. Close one and retry."},
	{CodeValidAtInvalid, KindInvalid, false, "The message's valid_at is missing, or leaves too little time before the first input expires. Choose an earlier time."},
	{CodeWalletBusy, KindUnavailable, true, "Other requests of this wallet are in work, or as many wallets are active as the server holds at once. Nothing was begun; retry in a moment."},
	{CodeWalletPending, KindState, false, "The wallet waits for the acknowledgments of its key's making; until then it has no address, signs nothing and keeps no delegates. Send AcknowledgeKeygen."},
	{CodeWalletQuarantined, KindInternal, false, "The server met something in this wallet that it did not foresee, and does nothing more with it until its operator has looked. Delegates that are stored are still carried out."},
	{CodeWalletRate, KindLimit, true, "Too many requests for this wallet, whoever sends them. Retry after the time given."},
	{CodeWatchExpired, KindUnavailable, false, "The watch has reached its age. Open a new one."},
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
