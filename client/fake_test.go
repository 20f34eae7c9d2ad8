package client_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/spend"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/vigilpb"
)

// fake is the least Vigil that a device can be held against: it stands on the
// key ceremonies and nothing of the server's rooms, keeps one wallet in memory,
// says of the policy what it is told to and signs whatever that is, and lies when
// told to.
type fake struct {
	t      *testing.T
	host   *bip340.Key
	params ark.Params
	now    func() time.Time
	http   *httptest.Server

	mu       sync.Mutex
	delegate bip340.PubKey
	dkg      *chilldkg.HostKey
	ceremony *chilldkg.Serving
	dkgSet   *chilldkg.Params
	begun    *vigilpb.BeginKeygenRequest
	recovery []byte
	out      *chilldkg.Output
	desc     descriptor.Descriptor
	older    []descriptor.Descriptor
	active   bool
	tree     map[string]bip340.PubKey // by delegate id
	stored   []*vigilpb.SubmitDelegateRequest
	calls    map[string]int
	nonces   map[string]int // public nonces seen in Sign requests
	bytes    map[string]int // Sign requests seen, by their bytes
	policy   vigilpb.GetPolicyAnswer
	kinds    []spend.Kind // of what was signed last

	// lie changes an answer before it is signed, forge the signed one; drop loses
	// the answer after the call was carried out.
	lie   func(method string, answer proto.Message)
	forge func(method string, a *vigilpb.SignedAnswer)
	drop  func(method string) bool
	// refuse says no to a call before it is looked at.
	refuse func(method string) bool
	down   bool
}

func newFake(t *testing.T, params ark.Params, now func() time.Time) *fake {
	t.Helper()
	f := &fake{t: t, params: params, now: now, calls: map[string]int{}, tree: map[string]bip340.PubKey{}, nonces: map[string]int{}, bytes: map[string]int{}}
	f.host, _ = newKey(t)
	key, _ := newKey(t)
	f.delegate = key.PubKey()
	_, scalar, err := bip340.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if f.dkg, err = chilldkg.NewHostKey(scalar); err != nil {
		t.Fatal(err)
	}
	f.http = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.http.Close)
	return f
}

func newKey(t *testing.T) (*bip340.Key, bip340.PubKey) {
	t.Helper()
	key, scalar, err := bip340.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	scalar.Burn()
	return key, key.PubKey()
}

const service = "/vigil.v1.WalletService/"

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	connect.NewUnaryHandler(r.URL.Path, func(_ context.Context, req *connect.Request[vigilpb.SignedRequest]) (*connect.Response[vigilpb.SignedAnswer], error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		method := strings.TrimPrefix(r.URL.Path, service)
		f.calls[method]++
		if f.down {
			return nil, connect.NewError(connect.CodeUnavailable, errors.New("down"))
		}
		if f.refuse != nil && f.refuse(method) {
			return nil, refusal(errors.New("no"))
		}
		a, err := f.answer(r.URL.Path, method, req.Msg)
		if err != nil {
			return nil, refusal(err)
		}
		if f.drop != nil && f.drop(method) {
			return nil, connect.NewError(connect.CodeUnavailable, errors.New("lost"))
		}
		return connect.NewResponse(a), nil
	}).ServeHTTP(w, r)
}

// refusal is the form in which Vigil's refusals travel.
func refusal(err error) error {
	var e *vigil.Error
	if !errors.As(err, &e) {
		e = &vigil.Error{Code: vigil.CodeInternal, Message: err.Error()}
	}
	out := connect.NewError(connect.CodeFailedPrecondition, errors.New(e.Message))
	if d, err := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: string(e.Code), Domain: "vigil"}); err == nil {
		out.AddDetail(d)
	}
	return out
}

func (f *fake) answer(path, method string, r *vigilpb.SignedRequest) (*vigilpb.SignedAnswer, error) {
	var call auth.Call
	var err error
	if method == "GetServer" {
		call, err = auth.Unsigned(f.host.PubKey(), string(f.params.Network), path, r)
	} else {
		call, err = auth.Verify(f.host.PubKey(), string(f.params.Network), path, r, f.now(), time.Minute)
	}
	if err != nil {
		return nil, err
	}
	payload, err := f.handle(method, call)
	if err != nil {
		return nil, err
	}
	if f.lie != nil {
		f.lie(method, payload)
	}
	raw, err := proto.Marshal(payload)
	if err != nil {
		return nil, err
	}
	a := &vigilpb.SignedAnswer{Payload: raw, Timestamp: f.now().Unix()}
	hash := auth.AnswerHash(call.Hash, 0, a.Timestamp, raw)
	sig, err := f.host.Sign(hash[:])
	a.Signature = sig[:]
	if f.forge != nil {
		f.forge(method, a)
	}
	return a, err
}

func (f *fake) handle(method string, c auth.Call) (proto.Message, error) {
	switch method {
	case "GetServer":
		host := f.host.PubKey()
		return &vigilpb.ServerInfo{HostKey: host[:], Network: string(f.params.Network), OperatorSigner: f.params.SignerKey[:], Now: f.now().Unix()}, nil
	case "BeginKeygen":
		return f.beginKeygen(c)
	case "Keygen":
		return f.keygen(c)
	case "CertifyKeygen":
		return f.certify(c)
	case "AcknowledgeKeygen":
		return f.acknowledge(c)
	case "Recover":
		return f.recover(c)
	case "AcceptOperator":
		return f.accept(c)
	case "Sign":
		return f.sign(c)
	case "ListVtxos":
		q, err := decoded[vigilpb.ListVtxosRequest](c)
		if err != nil {
			return nil, err
		}
		return &vigilpb.ListVtxosAnswer{Prepared: f.prepare(c, int(q.Prepare)), Descriptor_: f.desc.Encode()}, nil
	case "PrepareDelegates":
		q, err := decoded[vigilpb.PrepareDelegatesRequest](c)
		if err != nil {
			return nil, err
		}
		return &vigilpb.PrepareDelegatesAnswer{Prepared: f.prepare(c, int(q.Count))}, nil
	case "SubmitDelegate":
		q, err := decoded[vigilpb.SubmitDelegateRequest](c)
		if err != nil {
			return nil, err
		}
		f.stored = append(f.stored, q)
		return &vigilpb.SubmitDelegateAnswer{
			Stored: true, Delegate: &vigilpb.Delegate{Id: vigil.DelegateID(q.Id).String()}, Prepared: f.prepare(c, int(q.Prepare)),
		}, nil
	case "GetPolicy":
		return proto.CloneOf(&f.policy), nil
	case "SetPolicy":
		q, err := decoded[vigilpb.SetPolicyRequest](c)
		if err != nil {
			return nil, err
		}
		f.policy.Pending, f.policy.EffectiveAt = q.Policy, f.now().Unix()+60
		if !q.Policy.TwoLeaf {
			f.policy.Policy, f.policy.Pending, f.policy.EffectiveAt = q.Policy, nil, 0
		}
		return &vigilpb.SetPolicyAnswer{Policy: f.policy.Policy, Pending: f.policy.Pending, EffectiveAt: f.policy.EffectiveAt}, nil
	case "Branches":
		return &vigilpb.BranchesAnswer{}, nil
	case "AcknowledgeBranches":
		return &vigilpb.AcknowledgeBranchesAnswer{}, nil
	}
	return nil, vigil.Errorf(vigil.CodeNotFound, "no call %s here", method)
}

func decoded[M any, P interface {
	*M
	proto.Message
}](c auth.Call) (P, error) {
	m := P(new(M))
	return m, proto.Unmarshal(c.Payload, m)
}

func (f *fake) beginKeygen(c auth.Call) (proto.Message, error) {
	if f.out != nil {
		x := f.out.Key.XOnly()
		return &vigilpb.BeginKeygenAnswer{Wallet: x[:]}, nil
	}
	q, err := decoded[vigilpb.BeginKeygenRequest](c)
	if err != nil {
		return nil, err
	}
	hosts := []bip340.PubKey{c.Host, f.dkg.PubKey()}
	for _, h := range q.ColdHosts {
		key, err := bip340.ParsePubKey(h)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, key)
	}
	f.begun = q
	f.dkgSet, err = chilldkg.NewParams(int(q.Threshold), hosts)
	own := f.dkg.PubKey()
	return &vigilpb.BeginKeygenAnswer{Session: make([]byte, 32), ServerDkgHost: own[:]}, err
}

// others puts Vigil's empty place into a list of the others' messages.
func others(list [][]byte) [][]byte {
	if len(list) == 0 {
		return list
	}
	return append([][]byte{list[0], nil}, list[1:]...)
}

func (f *fake) keygen(c auth.Call) (proto.Message, error) {
	q, err := decoded[vigilpb.KeygenRequest](c)
	if err != nil {
		return nil, err
	}
	var cmsg1 []byte
	f.ceremony, cmsg1, err = chilldkg.Serve(f.dkg, f.dkgSet, others(q.Pmsgs1))
	return &vigilpb.KeygenAnswer{Cmsg1: cmsg1}, err
}

func (f *fake) certify(c auth.Call) (proto.Message, error) {
	q, err := decoded[vigilpb.CertifyKeygenRequest](c)
	if err != nil {
		return nil, err
	}
	cmsg2, out, recovery, err := f.ceremony.Certify(others(q.Pmsgs2))
	if err != nil {
		return nil, err
	}
	recoveryKey, err := bip340.ParseXOnly(f.begun.RecoveryKey)
	if err != nil {
		return nil, err
	}
	f.desc, err = descriptor.New(f.params, out.Key, f.delegate.XOnly(), recoveryKey, ark.Delay(f.begun.RecoveryDelay))
	if err != nil {
		return nil, err
	}
	f.out, f.recovery = out, recovery
	ack, err := chilldkg.Acknowledge(f.dkg, f.dkgSet, recovery)
	x := out.Key.XOnly()
	return &vigilpb.CertifyKeygenAnswer{Cmsg2: cmsg2, Wallet: x[:], Descriptor_: f.desc.Encode(), State: "pending", Ack: ack}, err
}

func (f *fake) acknowledge(c auth.Call) (proto.Message, error) {
	q, err := decoded[vigilpb.AcknowledgeKeygenRequest](c)
	if err != nil {
		return nil, err
	}
	for i, ack := range q.Acks {
		id := i
		if i > 0 {
			id++
		}
		if err := chilldkg.VerifyAcknowledgment(f.dkgSet, f.recovery, id, ack); err != nil {
			return nil, err
		}
	}
	f.active = true
	ack, err := chilldkg.Acknowledge(f.dkg, f.dkgSet, f.recovery)
	return &vigilpb.AcknowledgeKeygenAnswer{Descriptor_: f.desc.Encode(), State: "active", Ack: ack}, err
}

func (f *fake) recover(c auth.Call) (proto.Message, error) {
	if f.out == nil || !slices.Contains(f.dkgSet.HostPubKeys(), c.Host) {
		return nil, vigil.Errorf(vigil.CodeNotFound, "no wallet of this host key")
	}
	state := "pending"
	if f.active {
		state = "active"
	}
	x := f.out.Key.XOnly()
	current, older := append(descriptor.Generations(f.older), f.desc).Encode()
	var hosts [][]byte
	for _, h := range f.dkgSet.HostPubKeys() {
		hosts = append(hosts, h[:])
	}
	return &vigilpb.RecoverAnswer{
		Wallet: x[:], Descriptor_: current, Older: older, State: state,
		Epochs: []*vigilpb.WalletEpoch{{Record: f.recovery, Certified: true, Hosts: hosts}},
	}, nil
}

// accept takes up whatever the device asks for, once its own people accepted it.
func (f *fake) accept(c auth.Call) (proto.Message, error) {
	q, err := decoded[vigilpb.AcceptOperatorRequest](c)
	if err != nil {
		return nil, err
	}
	gens, err := descriptor.DecodeGenerations(q.GetDescriptor_(), q.Older)
	if err != nil {
		return nil, err
	}
	if gens.Current().Signer != f.params.SignerKey.XOnly() {
		return nil, vigil.Errorf(vigil.CodeOperatorKey, "not accepted here")
	}
	f.desc, f.older = gens.Current(), gens.Older()
	return &vigilpb.AcceptOperatorAnswer{Descriptor_: q.GetDescriptor_(), Older: q.Older}, nil
}

// signing loads Vigil's share with the set of signers of a request.
func (f *fake) signing(ids []uint32) (*frost.Share, *frost.Context, error) {
	info, err := f.out.Info()
	if err != nil {
		return nil, nil, err
	}
	share, err := frost.NewShare(info, f.out.ID, f.out.Share)
	if err != nil {
		return nil, nil, err
	}
	list := make([]int, len(ids))
	for i, id := range ids {
		list[i] = int(id)
	}
	signers, err := info.Signers(list...)
	if err != nil {
		return nil, nil, err
	}
	return share, signers.Untweaked(), nil
}

func (f *fake) sign(c auth.Call) (proto.Message, error) {
	q, err := decoded[vigilpb.SignRequest](c)
	if err != nil {
		return nil, err
	}
	f.bytes[string(c.Payload)]++
	spends, err := spend.Parse(q.Documents, f.desc, spend.Terms{Params: f.params, Older: f.older, Now: f.now().Unix()})
	if err != nil {
		return nil, err
	}
	f.kinds = nil
	for _, s := range spends {
		f.kinds = append(f.kinds, s.Kind)
	}
	share, signing, err := f.signing(q.Signers)
	if err != nil {
		return nil, err
	}
	var queries []frost.Query
	for i, m := range spend.Messages(spends) {
		f.nonces[string(q.Nonces[i])]++
		nonce, err := frost.ParsePubNonce(q.Nonces[i])
		if err != nil {
			return nil, err
		}
		nonces := []frost.PubNonce{nonce, {}}
		if q.Signers[0] == 1 {
			nonces = []frost.PubNonce{{}, nonce}
		}
		queries = append(queries, frost.Query{Context: signing, Session: frost.SessionID(q.Session), Msg: m, Nonces: nonces})
	}
	answers, err := share.AnswerAll(queries)
	if err != nil {
		return nil, err
	}
	out := &vigilpb.SignAnswer{}
	for _, a := range answers {
		out.Parts = append(out.Parts, &vigilpb.SignaturePart{Nonce: a.Nonce[:], Sig: a.Sig[:]})
	}
	return out, nil
}

func (f *fake) prepare(c auth.Call, n int) (list []*vigilpb.Prepared) {
	for range n {
		var id vigil.DelegateID
		_, _ = rand.Read(id[:])
		_, key := newKey(f.t)
		f.tree[string(id[:])] = key
		expires := f.now().Add(time.Hour).Unix()
		hash := auth.PreparedHash(c.Wallet, id, key, expires)
		sig, err := f.host.Sign(hash[:])
		if err != nil {
			f.t.Error(err)
		}
		list = append(list, &vigilpb.Prepared{Id: id[:], TreeKey: key[:], ExpiresAt: expires, Signature: sig[:]})
	}
	return list
}
