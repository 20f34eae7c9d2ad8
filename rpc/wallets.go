package rpc

import (
	"context"
	"time"

	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// Wallets is what the edge asks of the wallets: one method for each of
// vigilpb.WalletService, called once for a request, with its verified sender.
// Their errors are *vigil.Error, or count as internal. But for Watch, whose
// context ends with its caller, a call is to be carried to its end although the
// caller left: the answer is kept for its retry.
type Wallets interface {
	// Permit says whether the call's key may call its method on its wallet, or,
	// for keygen and recovery, whether a stranger may. Nothing is stored yet.
	Permit(ctx context.Context, c auth.Call) error

	Server(ctx context.Context) (*vigilpb.ServerInfo, error)

	BeginKeygen(ctx context.Context, c auth.Call, r *vigilpb.BeginKeygenRequest) (*vigilpb.BeginKeygenAnswer, error)
	Keygen(ctx context.Context, c auth.Call, r *vigilpb.KeygenRequest) (*vigilpb.KeygenAnswer, error)
	CertifyKeygen(ctx context.Context, c auth.Call, r *vigilpb.CertifyKeygenRequest) (*vigilpb.CertifyKeygenAnswer, error)
	AcknowledgeKeygen(ctx context.Context, c auth.Call, r *vigilpb.AcknowledgeKeygenRequest) (*vigilpb.AcknowledgeKeygenAnswer, error)
	Recover(ctx context.Context, c auth.Call, r *vigilpb.RecoverRequest) (*vigilpb.RecoverAnswer, error)
	ConfirmRecovery(ctx context.Context, c auth.Call, r *vigilpb.ConfirmRecoveryRequest) (*vigilpb.ConfirmRecoveryAnswer, error)
	BeginRefresh(ctx context.Context, c auth.Call, r *vigilpb.BeginRefreshRequest) (*vigilpb.BeginRefreshAnswer, error)
	Refresh(ctx context.Context, c auth.Call, r *vigilpb.RefreshRequest) (*vigilpb.RefreshAnswer, error)
	CertifyRefresh(ctx context.Context, c auth.Call, r *vigilpb.CertifyRefreshRequest) (*vigilpb.CertifyRefreshAnswer, error)
	AcknowledgeRefresh(ctx context.Context, c auth.Call, r *vigilpb.AcknowledgeRefreshRequest) (*vigilpb.AcknowledgeRefreshAnswer, error)
	VoidRefresh(ctx context.Context, c auth.Call, r *vigilpb.VoidRefreshRequest) (*vigilpb.VoidRefreshAnswer, error)
	AdoptEpoch(ctx context.Context, c auth.Call, r *vigilpb.AdoptEpochRequest) (*vigilpb.AdoptEpochAnswer, error)
	AcceptOperator(ctx context.Context, c auth.Call, r *vigilpb.AcceptOperatorRequest) (*vigilpb.AcceptOperatorAnswer, error)

	Sign(ctx context.Context, c auth.Call, r *vigilpb.SignRequest) (*vigilpb.SignAnswer, error)

	PrepareDelegates(ctx context.Context, c auth.Call, r *vigilpb.PrepareDelegatesRequest) (*vigilpb.PrepareDelegatesAnswer, error)
	SubmitDelegate(ctx context.Context, c auth.Call, r *vigilpb.SubmitDelegateRequest) (*vigilpb.SubmitDelegateAnswer, error)
	WalletDelegates(ctx context.Context, c auth.Call, r *vigilpb.WalletDelegatesRequest) (*vigilpb.WalletDelegatesAnswer, error)
	CancelWalletDelegate(ctx context.Context, c auth.Call, r *vigilpb.CancelWalletDelegateRequest) (*vigilpb.CancelWalletDelegateAnswer, error)

	ListVtxos(ctx context.Context, c auth.Call, r *vigilpb.ListVtxosRequest) (*vigilpb.ListVtxosAnswer, error)
	Coverage(ctx context.Context, c auth.Call, r *vigilpb.CoverageRequest) (*vigilpb.CoverageAnswer, error)
	History(ctx context.Context, c auth.Call, r *vigilpb.HistoryRequest) (*vigilpb.HistoryAnswer, error)
	Branches(ctx context.Context, c auth.Call, r *vigilpb.BranchesRequest) (*vigilpb.BranchesAnswer, error)
	AcknowledgeBranches(ctx context.Context, c auth.Call, r *vigilpb.AcknowledgeBranchesRequest) (*vigilpb.AcknowledgeBranchesAnswer, error)

	// Watch sends the wallet's events until its context ends, send fails, or the
	// key that opened it may watch no longer. send does not keep its argument.
	Watch(ctx context.Context, c auth.Call, r *vigilpb.WatchRequest, send func(*vigilpb.Event) error) error

	Devices(ctx context.Context, c auth.Call, r *vigilpb.DevicesRequest) (*vigilpb.DevicesAnswer, error)
	AddDevice(ctx context.Context, c auth.Call, r *vigilpb.AddDeviceRequest) (*vigilpb.AddDeviceAnswer, error)
	RevokeDevice(ctx context.Context, c auth.Call, r *vigilpb.RevokeDeviceRequest) (*vigilpb.RevokeDeviceAnswer, error)
	SetToken(ctx context.Context, c auth.Call, r *vigilpb.SetTokenRequest) (*vigilpb.SetTokenAnswer, error)
	DropToken(ctx context.Context, c auth.Call, r *vigilpb.DropTokenRequest) (*vigilpb.DropTokenAnswer, error)
	GetPolicy(ctx context.Context, c auth.Call, r *vigilpb.GetPolicyRequest) (*vigilpb.GetPolicyAnswer, error)
	SetPolicy(ctx context.Context, c auth.Call, r *vigilpb.SetPolicyRequest) (*vigilpb.SetPolicyAnswer, error)
	DeleteWallet(ctx context.Context, c auth.Call, r *vigilpb.DeleteWalletRequest) (*vigilpb.DeleteWalletAnswer, error)
}

// Replay remembers, durably, which requests were taken, for as long as their
// time is within the window. A request is one nonce of one key.
type Replay interface {
	// Begin takes a request. It returns the answer that Finish stored, when this
	// very request came before. Errors are *vigil.Error: CodeRetryNonce when it
	// came before and has no answer, CodeReplayed when its nonce was another
	// request's.
	Begin(ctx context.Context, c auth.Call) (answer []byte, err error)
	// Finish stores a request's answer.
	Finish(ctx context.Context, c auth.Call, answer []byte) error
}

// AnswerSigner signs answers with Vigil's host key.
type AnswerSigner interface {
	HostKey() bip340.PubKey
	SignAnswer(ctx context.Context, hash [32]byte) ([64]byte, error)
}

// WalletService is what a Server needs to serve wallets.
type WalletService struct {
	Wallets Wallets
	Replay  Replay
	Signer  AnswerSigner
	Network string        // which requests must name
	Window  time.Duration // how far a request's time may be off; 0: 60 s
}
