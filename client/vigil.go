package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// ErrUnreachable is returned when Vigil does not answer at all: the wallet can
// neither sign nor learn anything until it does, or Leave does without it.
var ErrUnreachable = errors.New("client: Vigil does not answer")

const (
	// prefix is that of a method's full name, which requests sign.
	prefix = "/vigil.v1.WalletService/"
	// callTries bounds how often the same bytes are sent when no answer comes;
	// retryWait is the wait before the second time, which doubles. Together they stay
	// inside the window in which Vigil answers a repeated request with the same
	// bytes.
	callTries = 3
	retryWait = 300 * time.Millisecond
	// callTimeout bounds one try.
	callTimeout = 30 * time.Second
	// maxAnswer bounds an answer: a wallet's branches come in pages.
	maxAnswer = 32 << 20
)

// vigilConn is the way to one Vigil, whose host key is pinned.
type vigilConn struct {
	http    connect.HTTPClient
	url     string
	server  bip340.PubKey
	network ark.Network
	now     func() time.Time
	wait    time.Duration
	skew    atomic.Int64 // seconds that the server's clock is ahead, as it signed
}

func dialVigil(cfg Config, network ark.Network) *vigilConn {
	h := cfg.HTTP
	if h == nil {
		h = &http.Client{}
	}
	return &vigilConn{
		http: h, url: strings.TrimRight(cfg.Server, "/"),
		server: cfg.HostKey, network: network, now: cfg.Now, wait: cfg.RetryWait,
	}
}

// caller is in whose name a request is made.
type caller struct {
	wallet []byte // 32, or the host key
	key    *bip340.Key
	epoch  uint32
}

// request is one signed request with the hash that its answer must be signed for.
type request struct {
	*vigilpb.SignedRequest
	hash [32]byte
}

func (v *vigilConn) request(method string, who caller, payload proto.Message) (request, error) {
	raw, err := proto.Marshal(payload)
	if err != nil {
		return request{}, fmt.Errorf("client: %s: %w", method, err)
	}
	r := auth.Request{Wallet: who.wallet, Epoch: who.epoch, Timestamp: v.now().Unix() + v.skew.Load(), Payload: raw}
	if _, err := rand.Read(r.Nonce[:]); err != nil {
		return request{}, err
	}
	if who.key == nil { // GetServer: nobody signs
		r.Wallet, r.Epoch, r.Timestamp = nil, 0, 0
		hash := auth.RequestHash(v.server, string(v.network), prefix+method, r)
		return request{&vigilpb.SignedRequest{Nonce: r.Nonce[:], Payload: raw}, hash}, nil
	}
	signed, hash, err := auth.Sign(who.key, v.server, string(v.network), prefix+method, r)
	return request{signed, hash}, err
}

// ask makes one call whose repetition is harmless: a clock that is off is set
// right, as the pinned server signs it, and the call made anew; so it is when its
// answer was lost for good, and, after a wait, when Vigil was busy.
func (v *vigilConn) ask(ctx context.Context, method string, who caller, payload, answer proto.Message) error {
	for try := 1; ; try++ {
		err := v.once(ctx, method, who, payload, answer)
		if err == nil || try == anewTries || !v.anew(ctx, err, try) {
			return err
		}
	}
}

// anewTries bounds how often a call is made anew that was refused without having
// been carried out; the first wait doubles, too.
const anewTries = 4

// anew waits as long as a refusal calls for, and says whether it may pass now.
func (v *vigilConn) anew(ctx context.Context, err error, try int) bool {
	switch vigil.CodeOf(err) {
	case vigil.CodeClockSkew:
		return try == 1
	case vigil.CodeRetryNonce: // its answer was lost, and is not kept
		return true
	case vigil.CodeWalletBusy, vigil.CodeWalletRate, vigil.CodeRateLimited:
	default:
		return false
	}
	select {
	case <-time.After(v.wait << (try - 1)):
		return true
	case <-ctx.Done():
		return false
	}
}

// once makes one call, with one nonce. The same bytes are sent again when no
// answer comes: Vigil answers them with the same bytes, or not at all.
func (v *vigilConn) once(ctx context.Context, method string, who caller, payload, answer proto.Message) error {
	req, err := v.request(method, who, payload)
	if err != nil {
		return err
	}
	signed, err := v.send(ctx, method, req)
	if err != nil {
		return err
	}
	return v.accept(method, req.hash, 0, signed, answer)
}

// accept believes an answer that the pinned key signed for this request.
func (v *vigilConn) accept(method string, hash [32]byte, seq uint64, signed *vigilpb.SignedAnswer, answer proto.Message) error {
	if err := auth.VerifyAnswer(v.server, hash, seq, signed); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrVigil, method, err)
	}
	if err := proto.Unmarshal(signed.Payload, answer); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrVigil, method, err)
	}
	return nil
}

func (v *vigilConn) send(ctx context.Context, method string, req request) (*vigilpb.SignedAnswer, error) {
	wait := v.wait
	for try := 1; ; try++ {
		signed, err := v.call(ctx, method, req.SignedRequest)
		if err == nil {
			return signed, nil
		}
		err = v.refusal(method, req.hash, err)
		if !errors.Is(err, ErrUnreachable) || try == callTries {
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, errors.Join(err, context.Cause(ctx))
		}
		wait *= 2
	}
}

func (v *vigilConn) call(ctx context.Context, method string, req *vigilpb.SignedRequest) (*vigilpb.SignedAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := v.rpc(method).CallUnary(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

// rpc is the client of one method: all have one form.
func (v *vigilConn) rpc(method string) *connect.Client[vigilpb.SignedRequest, vigilpb.SignedAnswer] {
	return connect.NewClient[vigilpb.SignedRequest, vigilpb.SignedAnswer](v.http, v.url+prefix+method, connect.WithReadMaxBytes(maxAnswer))
}

// refusal makes of a transport's error a *vigil.Error with Vigil's code and
// sentence, or ErrUnreachable. Refusals are not signed, and prove nothing but
// that the call did not work.
func (v *vigilConn) refusal(method string, hash [32]byte, err error) error {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return fmt.Errorf("%w: %s: %w", ErrUnreachable, method, err)
	}
	known := &vigil.Error{Code: vigil.CodeInternal, Message: ce.Message()}
	coded := false
	for _, d := range ce.Details() {
		value, err := d.Value()
		if err != nil {
			continue
		}
		switch value := value.(type) {
		case *errdetails.ErrorInfo:
			known.Code, coded = vigil.Code(value.GetReason()), true
		case *vigilpb.ServerClock:
			if auth.VerifyClock(v.server, hash, value) == nil {
				v.skew.Store(value.GetTimestamp() - v.now().Unix())
			}
		}
	}
	if !coded {
		switch ce.Code() {
		case connect.CodeUnavailable, connect.CodeUnknown, connect.CodeDeadlineExceeded, connect.CodeInternal:
			return fmt.Errorf("%w: %s: %w", ErrUnreachable, method, err)
		case connect.CodeUnimplemented:
			return fmt.Errorf("%w: %s: %w", ErrVigil, method, err)
		}
	}
	known.Message = strings.TrimPrefix(known.Message, string(known.Code)+": ")
	return known
}
