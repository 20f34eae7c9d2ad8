package arktest

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vigil-ark/vigil/arktest/internal/code"
	"github.com/vigil-ark/vigil/arktest/internal/proof"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// arkService answers ark.v1.ArkService: it decodes, and leaves the rest to the
// process.
type arkService struct {
	arkv1.UnimplementedArkServiceServer
	op *Operator
	p  *process
}

func invalid(format string, args ...any) error {
	return status.Error(codes.InvalidArgument, fmt.Sprintf(format, args...))
}

// GetInfo tells the operator's parameters.
func (s *arkService) GetInfo(context.Context, *arkv1.GetInfoRequest) (*arkv1.GetInfoResponse, error) {
	i := s.op.info()
	i.Digest = s.op.digest()
	return i, nil
}

// parseIntent decodes an intent whose message must be of the wanted type.
func parseIntent(in *arkv1.Intent, want, complaint string) (*psbt.Packet, proof.Message, error) {
	if in == nil {
		return nil, proof.Message{}, invalid("missing intent")
	}
	return parseProof(in.GetProof(), in.GetMessage(), want, complaint)
}

func parseProof(raw, message, want, complaint string) (*psbt.Packet, proof.Message, error) {
	if raw == "" {
		return nil, proof.Message{}, invalid("missing intent proof")
	}
	packet, err := psbt.NewFromRawBytes(strings.NewReader(raw), true)
	if err != nil {
		return nil, proof.Message{}, invalid("failed to parse intent proof tx: %s", err)
	}
	if message == "" {
		return nil, proof.Message{}, invalid("missing message")
	}
	m, err := proof.Decode(message, want)
	if err != nil {
		return nil, proof.Message{}, invalid("%s", complaint)
	}
	return packet, m, nil
}

// RegisterIntent checks an intent and queues it.
func (s *arkService) RegisterIntent(_ context.Context, req *arkv1.RegisterIntentRequest) (*arkv1.RegisterIntentResponse, error) {
	packet, m, err := parseIntent(req.GetIntent(), proof.Register, "invalid intent message")
	if err != nil {
		return nil, err
	}
	id, err := s.p.register(packet, m)
	if err != nil {
		return nil, err
	}
	return &arkv1.RegisterIntentResponse{IntentId: id}, nil
}

// EstimateIntentFee computes what an intent would cost.
func (s *arkService) EstimateIntentFee(_ context.Context, req *arkv1.EstimateIntentFeeRequest) (*arkv1.EstimateIntentFeeResponse, error) {
	packet, m, err := parseIntent(req.GetIntent(), proof.EstimateFee, "invalid intent message")
	if err != nil {
		return nil, err
	}
	fee, err := s.p.estimate(packet, m)
	if err != nil {
		return nil, err
	}
	return &arkv1.EstimateIntentFeeResponse{Fee: fee}, nil
}

// DeleteIntent drops every queued intent that shares an input with the proof.
func (s *arkService) DeleteIntent(_ context.Context, req *arkv1.DeleteIntentRequest) (*arkv1.DeleteIntentResponse, error) {
	packet, m, err := parseIntent(req.GetIntent(), proof.Delete, "invalid delete intent message")
	if err != nil {
		return nil, err
	}
	if err := s.p.deleteIntents(packet, m); err != nil {
		return nil, err
	}
	return &arkv1.DeleteIntentResponse{}, nil
}

// GetIntent finds intents by proof txid or by proof.
func (s *arkService) GetIntent(_ context.Context, req *arkv1.GetIntentRequest) (*arkv1.GetIntentResponse, error) {
	switch f := req.GetFilter().(type) {
	case *arkv1.GetIntentRequest_Txid:
		raw, ok := s.op.store.intent(f.Txid)
		if !ok {
			return nil, code.IntentNotFound.New(nil, "intent with txid %s not found", f.Txid)
		}
		in := &arkv1.Intent{Proof: raw.proof, Message: raw.message}
		return &arkv1.GetIntentResponse{Intent: in, Intents: []*arkv1.Intent{in}}, nil
	case *arkv1.GetIntentRequest_Intent:
		packet, m, err := parseIntent(f.Intent, proof.GetIntent, "invalid get-intent message")
		if err != nil {
			return nil, err
		}
		list, err := s.p.matching(packet, m)
		if err != nil {
			return nil, err
		}
		res := &arkv1.GetIntentResponse{}
		for _, in := range list {
			res.Intents = append(res.Intents, &arkv1.Intent{Proof: in.raw.proof, Message: in.raw.message})
		}
		return res, nil
	}
	return nil, invalid("unknown intent filter provided")
}

// ConfirmRegistration says that an intent takes part in the running batch.
func (s *arkService) ConfirmRegistration(_ context.Context, req *arkv1.ConfirmRegistrationRequest) (*arkv1.ConfirmRegistrationResponse, error) {
	if req.GetIntentId() == "" {
		return nil, invalid("missing intent id")
	}
	if err := s.p.confirm(req.GetIntentId()); err != nil {
		return nil, err
	}
	return &arkv1.ConfirmRegistrationResponse{}, nil
}

func parseKey(s string) (string, error) {
	if s == "" {
		return "", invalid("missing EC public key")
	}
	raw, err := hex.DecodeString(s)
	if err != nil {
		return "", invalid("invalid format, expected hex")
	}
	if len(raw) != 33 {
		return "", invalid("invalid length, expected 33 bytes")
	}
	if _, err := btcec.ParsePubKey(raw); err != nil {
		return "", invalid("invalid cosigner public key %s", err)
	}
	return s, nil
}

// SubmitTreeNonces takes a cosigner's nonces.
func (s *arkService) SubmitTreeNonces(_ context.Context, req *arkv1.SubmitTreeNoncesRequest) (*arkv1.SubmitTreeNoncesResponse, error) {
	if req.GetBatchId() == "" {
		return nil, invalid("missing batch id")
	}
	if len(req.GetTreeNonces()) == 0 {
		return nil, invalid("missing tree nonces")
	}
	n := make(txtree.Nonces, len(req.GetTreeNonces()))
	for txid, v := range req.GetTreeNonces() {
		raw, err := hex.DecodeString(v)
		if err != nil {
			return nil, invalid("invalid tree nonces: %s", err)
		}
		if len(raw) != musig2.PubNonceSize {
			return nil, invalid("invalid tree nonces: expected nonce to be 66 bytes, got %d", len(raw))
		}
		n[txid] = [musig2.PubNonceSize]byte(raw)
	}
	key, err := parseKey(req.GetPubkey())
	if err != nil {
		return nil, err
	}
	if err := s.p.addNonces(req.GetBatchId(), key, n); err != nil {
		return nil, err
	}
	return &arkv1.SubmitTreeNoncesResponse{}, nil
}

// SubmitTreeSignatures takes a cosigner's partial signatures.
func (s *arkService) SubmitTreeSignatures(_ context.Context, req *arkv1.SubmitTreeSignaturesRequest) (*arkv1.SubmitTreeSignaturesResponse, error) {
	if req.GetBatchId() == "" {
		return nil, invalid("missing batch id")
	}
	key, err := parseKey(req.GetPubkey())
	if err != nil {
		return nil, err
	}
	if len(req.GetTreeSignatures()) == 0 {
		return nil, invalid("missing tree signatures")
	}
	sigs := make(txtree.Sigs, len(req.GetTreeSignatures()))
	for txid, v := range req.GetTreeSignatures() {
		raw, err := hex.DecodeString(v)
		if err != nil {
			return nil, invalid("invalid tree signatures %s", err)
		}
		var sc btcec.ModNScalar
		if len(raw) != 32 || sc.SetByteSlice(raw) {
			return nil, invalid("invalid tree signatures: not a scalar of 32 bytes")
		}
		sigs[txid] = &musig2.PartialSignature{S: &sc}
	}
	if err := s.p.addSignatures(req.GetBatchId(), key, sigs); err != nil {
		return nil, err
	}
	return &arkv1.SubmitTreeSignaturesResponse{}, nil
}

// SubmitSignedForfeitTxs takes forfeits and boarding signatures.
func (s *arkService) SubmitSignedForfeitTxs(_ context.Context, req *arkv1.SubmitSignedForfeitTxsRequest) (*arkv1.SubmitSignedForfeitTxsResponse, error) {
	if len(req.GetSignedForfeitTxs()) == 0 && req.GetSignedCommitmentTx() == "" {
		return nil, invalid("either forfeit txs or commitment tx must be set")
	}
	if len(req.GetSignedForfeitTxs()) > 0 {
		if err := s.p.submitForfeits(req.GetSignedForfeitTxs()); err != nil {
			return nil, err
		}
	}
	if req.GetSignedCommitmentTx() != "" {
		if err := s.p.submitCommitment(req.GetSignedCommitmentTx()); err != nil {
			return nil, err
		}
	}
	return &arkv1.SubmitSignedForfeitTxsResponse{}, nil
}

// GetEventStream streams batch events.
func (s *arkService) GetEventStream(req *arkv1.GetEventStreamRequest, stream grpc.ServerStreamingServer[arkv1.GetEventStreamResponse]) error {
	l := newListener[*arkv1.GetEventStreamResponse](uuid.NewString(), req.GetTopics())
	s.p.events.push(l)
	defer s.p.events.drop(l.id)
	if err := stream.Send(&arkv1.GetEventStreamResponse{Event: &arkv1.GetEventStreamResponse_StreamStarted{
		StreamStarted: &arkv1.StreamStartedEvent{Id: l.id},
	}}); err != nil {
		return err
	}
	return pump(s.p, l, stream, nil, &arkv1.GetEventStreamResponse{
		Event: &arkv1.GetEventStreamResponse_Heartbeat{Heartbeat: &arkv1.Heartbeat{}},
	})
}

// GetTransactionsStream streams every transaction of the operator.
func (s *arkService) GetTransactionsStream(_ *arkv1.GetTransactionsStreamRequest, stream grpc.ServerStreamingServer[arkv1.GetTransactionsStreamResponse]) error {
	l := newListener[*arkv1.GetTransactionsStreamResponse](uuid.NewString(), nil)
	s.p.txs.push(l)
	defer s.p.txs.drop(l.id)
	// Who has read the header misses nothing from here on.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	return pump(s.p, l, stream, nil, &arkv1.GetTransactionsStreamResponse{
		Data: &arkv1.GetTransactionsStreamResponse_Heartbeat{Heartbeat: &arkv1.Heartbeat{}},
	})
}

// pump sends a listener's events until either side ends, and a heartbeat after
// every silence.
func pump[T any](p *process, l *listener[*T], stream grpc.ServerStreamingServer[T], displaced <-chan struct{}, heartbeat *T) error {
	for {
		silent := make(chan struct{})
		stop := p.op.clock.AfterFunc(p.op.cfg.Heartbeat, func() { close(silent) })
		ev := heartbeat
		select {
		case <-stream.Context().Done():
			stop()
			return nil
		case <-l.done:
			stop()
			return nil
		case <-displaced:
			stop()
			return nil
		case ev = <-l.ch:
		case <-silent:
		}
		stop()
		if err := stream.Send(ev); err != nil {
			return err
		}
	}
}

// UpdateStreamTopics changes the topics of an open stream.
func (s *arkService) UpdateStreamTopics(_ context.Context, req *arkv1.UpdateStreamTopicsRequest) (*arkv1.UpdateStreamTopicsResponse, error) {
	if req.GetStreamId() == "" {
		return nil, invalid("missing stream id")
	}
	if req.GetTopicsChange() == nil {
		return nil, invalid("missing topics")
	}
	l, ok := s.p.events.get(req.GetStreamId())
	missing := status.Errorf(codes.NotFound, "subscription not found: %s", req.GetStreamId())
	if o := req.GetOverwrite(); o != nil {
		if !ok {
			return nil, missing
		}
		l.overwrite(o.GetTopics())
		return &arkv1.UpdateStreamTopicsResponse{AllTopics: l.all()}, nil
	}
	m := req.GetModify()
	if len(m.GetAddTopics()) == 0 && len(m.GetRemoveTopics()) == 0 {
		return nil, invalid("missing topics to add or remove")
	}
	if !ok {
		return nil, missing
	}
	l.add(m.GetAddTopics())
	l.remove(m.GetRemoveTopics())
	return &arkv1.UpdateStreamTopicsResponse{
		TopicsAdded: m.GetAddTopics(), TopicsRemoved: m.GetRemoveTopics(), AllTopics: l.all(),
	}, nil
}

// now is the process's time.
func (p *process) now() time.Time { return p.op.clock.Now() }
