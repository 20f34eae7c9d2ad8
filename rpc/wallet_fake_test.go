package rpc_test

import (
	"context"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/rpc"
	"github.com/vigil-ark/vigil/vigilpb"
)

// asked is one call that reached the port.
type asked struct {
	method  string
	call    auth.Call
	request proto.Message
}

// wallets is rpc.Wallets: it remembers what it was asked and answers nothing,
// successfully, unless its fields say otherwise.
type wallets struct {
	large  int // bytes of a recovery's descriptor
	permit func(auth.Call) error
	fail   func(auth.Call) error
	hold   chan struct{} // when set, every call says so on enter and waits for it
	enter  chan struct{}
	watch  func(ctx context.Context, send func(*vigilpb.Event) error) error

	mu    sync.Mutex
	calls []asked
}

func (w *wallets) Permit(_ context.Context, c auth.Call) error {
	if w.permit == nil {
		return nil
	}
	return w.permit(c)
}

func (w *wallets) note(method string, c auth.Call, q proto.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, asked{method, c, q})
}

func (w *wallets) all() []asked {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]asked(nil), w.calls...)
}

func reply[A any](ctx context.Context, w *wallets, method string, c auth.Call, q proto.Message, a *A) (*A, error) {
	w.note(method, c, q)
	if w.hold != nil {
		w.enter <- struct{}{}
		select {
		case <-w.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if w.fail != nil {
		if err := w.fail(c); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (w *wallets) Server(context.Context) (*vigilpb.ServerInfo, error) {
	w.note("GetServer", auth.Call{}, &vigilpb.GetServerRequest{})
	return &vigilpb.ServerInfo{Network: "regtest", Registration: "open"}, nil
}

func (w *wallets) Watch(ctx context.Context, c auth.Call, q *vigilpb.WatchRequest, send func(*vigilpb.Event) error) error {
	w.note("Watch", c, q)
	if w.watch == nil {
		return send(&vigilpb.Event{Kind: "test", Text: "one"})
	}
	return w.watch(ctx, send)
}

func (w *wallets) BeginKeygen(ctx context.Context, c auth.Call, q *vigilpb.BeginKeygenRequest) (*vigilpb.BeginKeygenAnswer, error) {
	return reply(ctx, w, "BeginKeygen", c, q, &vigilpb.BeginKeygenAnswer{Session: make([]byte, 32)})
}

func (w *wallets) Keygen(ctx context.Context, c auth.Call, q *vigilpb.KeygenRequest) (*vigilpb.KeygenAnswer, error) {
	return reply(ctx, w, "Keygen", c, q, &vigilpb.KeygenAnswer{})
}

func (w *wallets) CertifyKeygen(ctx context.Context, c auth.Call, q *vigilpb.CertifyKeygenRequest) (*vigilpb.CertifyKeygenAnswer, error) {
	return reply(ctx, w, "CertifyKeygen", c, q, &vigilpb.CertifyKeygenAnswer{})
}

func (w *wallets) AcknowledgeKeygen(ctx context.Context, c auth.Call, q *vigilpb.AcknowledgeKeygenRequest) (*vigilpb.AcknowledgeKeygenAnswer, error) {
	return reply(ctx, w, "AcknowledgeKeygen", c, q, &vigilpb.AcknowledgeKeygenAnswer{})
}

func (w *wallets) Recover(ctx context.Context, c auth.Call, q *vigilpb.RecoverRequest) (*vigilpb.RecoverAnswer, error) {
	return reply(ctx, w, "Recover", c, q, &vigilpb.RecoverAnswer{Descriptor_: make([]byte, w.large)})
}

func (w *wallets) ConfirmRecovery(ctx context.Context, c auth.Call, q *vigilpb.ConfirmRecoveryRequest) (*vigilpb.ConfirmRecoveryAnswer, error) {
	return reply(ctx, w, "ConfirmRecovery", c, q, &vigilpb.ConfirmRecoveryAnswer{})
}

func (w *wallets) BeginRefresh(ctx context.Context, c auth.Call, q *vigilpb.BeginRefreshRequest) (*vigilpb.BeginRefreshAnswer, error) {
	return reply(ctx, w, "BeginRefresh", c, q, &vigilpb.BeginRefreshAnswer{})
}

func (w *wallets) Refresh(ctx context.Context, c auth.Call, q *vigilpb.RefreshRequest) (*vigilpb.RefreshAnswer, error) {
	return reply(ctx, w, "Refresh", c, q, &vigilpb.RefreshAnswer{})
}

func (w *wallets) CertifyRefresh(ctx context.Context, c auth.Call, q *vigilpb.CertifyRefreshRequest) (*vigilpb.CertifyRefreshAnswer, error) {
	return reply(ctx, w, "CertifyRefresh", c, q, &vigilpb.CertifyRefreshAnswer{})
}

func (w *wallets) AcknowledgeRefresh(ctx context.Context, c auth.Call, q *vigilpb.AcknowledgeRefreshRequest) (*vigilpb.AcknowledgeRefreshAnswer, error) {
	return reply(ctx, w, "AcknowledgeRefresh", c, q, &vigilpb.AcknowledgeRefreshAnswer{})
}

func (w *wallets) VoidRefresh(ctx context.Context, c auth.Call, q *vigilpb.VoidRefreshRequest) (*vigilpb.VoidRefreshAnswer, error) {
	return reply(ctx, w, "VoidRefresh", c, q, &vigilpb.VoidRefreshAnswer{})
}

func (w *wallets) AdoptEpoch(ctx context.Context, c auth.Call, q *vigilpb.AdoptEpochRequest) (*vigilpb.AdoptEpochAnswer, error) {
	return reply(ctx, w, "AdoptEpoch", c, q, &vigilpb.AdoptEpochAnswer{})
}

func (w *wallets) AcceptOperator(ctx context.Context, c auth.Call, q *vigilpb.AcceptOperatorRequest) (*vigilpb.AcceptOperatorAnswer, error) {
	return reply(ctx, w, "AcceptOperator", c, q, &vigilpb.AcceptOperatorAnswer{})
}

func (w *wallets) Sign(ctx context.Context, c auth.Call, q *vigilpb.SignRequest) (*vigilpb.SignAnswer, error) {
	return reply(ctx, w, "Sign", c, q, &vigilpb.SignAnswer{Parts: []*vigilpb.SignaturePart{{Nonce: make([]byte, 66), Sig: make([]byte, 32)}}})
}

func (w *wallets) PrepareDelegates(ctx context.Context, c auth.Call, q *vigilpb.PrepareDelegatesRequest) (*vigilpb.PrepareDelegatesAnswer, error) {
	return reply(ctx, w, "PrepareDelegates", c, q, &vigilpb.PrepareDelegatesAnswer{})
}

func (w *wallets) SubmitDelegate(ctx context.Context, c auth.Call, q *vigilpb.SubmitDelegateRequest) (*vigilpb.SubmitDelegateAnswer, error) {
	return reply(ctx, w, "SubmitDelegate", c, q, &vigilpb.SubmitDelegateAnswer{})
}

func (w *wallets) WalletDelegates(ctx context.Context, c auth.Call, q *vigilpb.WalletDelegatesRequest) (*vigilpb.WalletDelegatesAnswer, error) {
	return reply(ctx, w, "WalletDelegates", c, q, &vigilpb.WalletDelegatesAnswer{})
}

func (w *wallets) CancelWalletDelegate(ctx context.Context, c auth.Call, q *vigilpb.CancelWalletDelegateRequest) (*vigilpb.CancelWalletDelegateAnswer, error) {
	return reply(ctx, w, "CancelWalletDelegate", c, q, &vigilpb.CancelWalletDelegateAnswer{})
}

func (w *wallets) ListVtxos(ctx context.Context, c auth.Call, q *vigilpb.ListVtxosRequest) (*vigilpb.ListVtxosAnswer, error) {
	return reply(ctx, w, "ListVtxos", c, q, &vigilpb.ListVtxosAnswer{})
}

func (w *wallets) Coverage(ctx context.Context, c auth.Call, q *vigilpb.CoverageRequest) (*vigilpb.CoverageAnswer, error) {
	return reply(ctx, w, "Coverage", c, q, &vigilpb.CoverageAnswer{})
}

func (w *wallets) History(ctx context.Context, c auth.Call, q *vigilpb.HistoryRequest) (*vigilpb.HistoryAnswer, error) {
	return reply(ctx, w, "History", c, q, &vigilpb.HistoryAnswer{})
}

func (w *wallets) Branches(ctx context.Context, c auth.Call, q *vigilpb.BranchesRequest) (*vigilpb.BranchesAnswer, error) {
	return reply(ctx, w, "Branches", c, q, &vigilpb.BranchesAnswer{})
}

func (w *wallets) AcknowledgeBranches(ctx context.Context, c auth.Call, q *vigilpb.AcknowledgeBranchesRequest) (*vigilpb.AcknowledgeBranchesAnswer, error) {
	return reply(ctx, w, "AcknowledgeBranches", c, q, &vigilpb.AcknowledgeBranchesAnswer{})
}

func (w *wallets) Devices(ctx context.Context, c auth.Call, q *vigilpb.DevicesRequest) (*vigilpb.DevicesAnswer, error) {
	return reply(ctx, w, "Devices", c, q, &vigilpb.DevicesAnswer{})
}

func (w *wallets) AddDevice(ctx context.Context, c auth.Call, q *vigilpb.AddDeviceRequest) (*vigilpb.AddDeviceAnswer, error) {
	return reply(ctx, w, "AddDevice", c, q, &vigilpb.AddDeviceAnswer{})
}

func (w *wallets) RevokeDevice(ctx context.Context, c auth.Call, q *vigilpb.RevokeDeviceRequest) (*vigilpb.RevokeDeviceAnswer, error) {
	return reply(ctx, w, "RevokeDevice", c, q, &vigilpb.RevokeDeviceAnswer{})
}

func (w *wallets) SetToken(ctx context.Context, c auth.Call, q *vigilpb.SetTokenRequest) (*vigilpb.SetTokenAnswer, error) {
	return reply(ctx, w, "SetToken", c, q, &vigilpb.SetTokenAnswer{})
}

func (w *wallets) DropToken(ctx context.Context, c auth.Call, q *vigilpb.DropTokenRequest) (*vigilpb.DropTokenAnswer, error) {
	return reply(ctx, w, "DropToken", c, q, &vigilpb.DropTokenAnswer{})
}

func (w *wallets) GetPolicy(ctx context.Context, c auth.Call, q *vigilpb.GetPolicyRequest) (*vigilpb.GetPolicyAnswer, error) {
	return reply(ctx, w, "GetPolicy", c, q, &vigilpb.GetPolicyAnswer{})
}

func (w *wallets) SetPolicy(ctx context.Context, c auth.Call, q *vigilpb.SetPolicyRequest) (*vigilpb.SetPolicyAnswer, error) {
	return reply(ctx, w, "SetPolicy", c, q, &vigilpb.SetPolicyAnswer{})
}

func (w *wallets) DeleteWallet(ctx context.Context, c auth.Call, q *vigilpb.DeleteWalletRequest) (*vigilpb.DeleteWalletAnswer, error) {
	return reply(ctx, w, "DeleteWallet", c, q, &vigilpb.DeleteWalletAnswer{})
}

// memory is rpc.Replay for one life of a process.
type memory struct {
	down error

	mu   sync.Mutex
	seen map[string]*remembered
}

type remembered struct {
	hash   [32]byte
	answer []byte
}

func (m *memory) Begin(_ context.Context, c auth.Call) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return nil, m.down
	}
	if m.seen == nil {
		m.seen = map[string]*remembered{}
	}
	key := string(c.Key[:]) + string(c.Nonce[:])
	r := m.seen[key]
	switch {
	case r == nil:
		m.seen[key] = &remembered{hash: c.Hash}
		return nil, nil
	case r.hash != c.Hash:
		return nil, &vigil.Error{Code: vigil.CodeReplayed}
	case r.answer == nil:
		return nil, &vigil.Error{Code: vigil.CodeRetryNonce}
	}
	return r.answer, nil
}

func (m *memory) Finish(_ context.Context, c auth.Call, answer []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return m.down
	}
	m.seen[string(c.Key[:])+string(c.Nonce[:])].answer = answer
	return nil
}

func (m *memory) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.seen)
}

// host is rpc.AnswerSigner.
type host struct{ key *bip340.Key }

func (h host) HostKey() bip340.PubKey { return h.key.PubKey() }

func (h host) SignAnswer(_ context.Context, hash [32]byte) ([64]byte, error) {
	return h.key.Sign(hash[:])
}

func newKey(t testing.TB) *bip340.Key {
	t.Helper()
	k, s, err := bip340.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	s.Burn()
	t.Cleanup(k.Burn)
	return k
}

// rig is a server with wallets, and a device.
type rig struct {
	port   *wallets
	replay *memory
	server bip340.PubKey
	device *bip340.Key
	clock  *clock
	count  *counter
	rpc    *rpc.Server
	addr   string
}

const network = "regtest"

func newRig(t testing.TB, port *wallets, limits rpc.Limits) *rig {
	t.Helper()
	r := unserved(t, port, limits)
	r.addr = listen(t, r.rpc)
	return r
}

// unserved is a rig that listens nowhere.
func unserved(t testing.TB, port *wallets, limits rpc.Limits) *rig {
	t.Helper()
	h := host{newKey(t)}
	r := &rig{port: port, replay: &memory{}, server: h.HostKey(), device: newKey(t), clock: newClock(), count: &counter{}}
	r.rpc = server(t, rpc.Config{
		Limits: limits, Now: r.clock.now, Refused: r.count.refused,
		Wallets: &rpc.WalletService{Wallets: port, Replay: r.replay, Signer: h, Network: network},
	}, &fake{})
	return r
}

// request makes a good request of a method, and its hash.
func (r *rig) request(t testing.TB, method string, payload proto.Message, edit ...func(*auth.Request)) (*vigilpb.SignedRequest, [32]byte) {
	t.Helper()
	b, err := proto.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	q := auth.Request{Wallet: make([]byte, 32), Epoch: 3, Timestamp: r.clock.now().Unix(), Nonce: nonce(), Payload: b}
	q.Wallet[0] = 7
	if ofHost[method] {
		key := r.device.PubKey()
		q.Wallet = key[:]
	}
	for _, f := range edit {
		f(&q)
	}
	if method == vigilpb.WalletService_GetServer_FullMethodName {
		q = auth.Request{Nonce: q.Nonce, Payload: q.Payload}
		return &vigilpb.SignedRequest{Nonce: q.Nonce[:], Payload: q.Payload}, auth.RequestHash(r.server, network, method, q)
	}
	s, hash, err := auth.Sign(r.device, r.server, network, method, q)
	if err != nil {
		t.Fatal(err)
	}
	return s, hash
}

// ofHost are the calls whose wallet is the device's host key.
var ofHost = map[string]bool{
	vigilpb.WalletService_BeginKeygen_FullMethodName:   true,
	vigilpb.WalletService_Keygen_FullMethodName:        true,
	vigilpb.WalletService_CertifyKeygen_FullMethodName: true,
	vigilpb.WalletService_Recover_FullMethodName:       true,
}
