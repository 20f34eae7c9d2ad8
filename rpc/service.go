package rpc

import (
	"context"
	"strconv"

	"github.com/vigil-ark/vigil"
	fulminev1 "github.com/vigil-ark/vigil/internal/pb/fulmine/v1"
	"github.com/vigil-ark/vigil/vigilpb"
)

// stockService is what stock Arkade wallets call.
type stockService struct {
	fulminev1.UnimplementedDelegateServiceServer
	delegates vigil.Delegates
}

func (s *stockService) GetDelegateInfo(ctx context.Context, _ *fulminev1.GetDelegateInfoRequest) (*fulminev1.GetDelegateInfoResponse, error) {
	t, err := s.delegates.Terms(ctx)
	if err != nil {
		return nil, err
	}
	return &fulminev1.GetDelegateInfoResponse{
		Pubkey: t.Key, Fee: strconv.FormatInt(t.Fee, 10), DelegatorAddress: t.Address, DelegateAddress: t.Address,
	}, nil
}

func (s *stockService) Delegate(ctx context.Context, r *fulminev1.DelegateRequest) (*fulminev1.DelegateResponse, error) {
	if r.GetIntent() == nil {
		return nil, vigil.Errorf(vigil.CodeMalformed, "the field intent is missing: send the register intent's message and proof")
	}
	_, err := s.delegates.Submit(ctx, vigil.Submission{
		Intent:   vigil.Intent{Message: r.GetIntent().GetMessage(), Proof: r.GetIntent().GetProof()},
		Forfeits: r.GetForfeitTxs(), RejectReplace: r.GetRejectReplace(),
	})
	if err != nil {
		return nil, err
	}
	return &fulminev1.DelegateResponse{}, nil
}

// ownerService is ours: it answers whoever proves ownership of an input.
type ownerService struct {
	vigilpb.UnimplementedOwnerServiceServer
	delegates vigil.Delegates
}

func (s *ownerService) ListDelegates(ctx context.Context, r *vigilpb.ListDelegatesRequest) (*vigilpb.ListDelegatesResponse, error) {
	list, err := s.delegates.List(ctx, vigil.Intent{Message: r.GetMessage(), Proof: r.GetProof()})
	if err != nil {
		return nil, err
	}
	resp := &vigilpb.ListDelegatesResponse{}
	for _, d := range list {
		resp.Delegates = append(resp.Delegates, toProto(d))
	}
	return resp, nil
}

func (s *ownerService) CancelDelegate(ctx context.Context, r *vigilpb.CancelDelegateRequest) (*vigilpb.CancelDelegateResponse, error) {
	d, err := s.delegates.Cancel(ctx, vigil.Intent{Message: r.GetMessage(), Proof: r.GetProof()})
	if err != nil {
		return nil, err
	}
	return &vigilpb.CancelDelegateResponse{Id: d.ID.String(), State: d.State}, nil
}

func toProto(d vigil.Summary) *vigilpb.Delegate {
	p := &vigilpb.Delegate{
		Id: d.ID.String(), State: d.State, ValidAt: d.ValidAt, NextAttempt: d.NextAttempt, Inputs: d.Inputs,
		Amount: d.Amount, ExpiresAt: d.ExpiresAt, Attempts: d.Attempts, CommitmentTxid: d.CommitmentTx,
	}
	if d.ErrorCode != "" {
		p.LastError = &vigilpb.DelegateError{Code: d.ErrorCode, Message: d.ErrorText}
	}
	return p
}
