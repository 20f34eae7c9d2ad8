package rpc

import (
	"context"
	"fmt"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/vigilpb"
)

// scope says what stands in the wallet field of a method's requests.
type scope int

const (
	ofWallet scope = iota // the wallet's id
	ofHost                // the device's host key: there is no wallet yet, or its id is not known
	ofNobody              // nothing, and nobody signs
)

// method is one call of vigilpb.WalletService.
type method struct {
	name  string // in full
	path  string // of REST
	scope scope
	reads bool // changes nothing, so its answer is not kept for a retry
	// call decodes the payload and asks the port. request is what it decoded, if
	// it got so far. Nil for Watch.
	call func(ctx context.Context, c auth.Call) (request, answer proto.Message, err error)
}

// ask makes a method's call of the port's function.
func ask[Q, A proto.Message](f func(context.Context, auth.Call, Q) (A, error)) func(context.Context, auth.Call) (proto.Message, proto.Message, error) {
	return func(ctx context.Context, c auth.Call) (proto.Message, proto.Message, error) {
		var none Q
		q := none.ProtoReflect().New().Interface().(Q) // a message of its own type
		if err := decodeStrict(c.Payload, q); err != nil {
			return nil, nil, err
		}
		a, err := f(ctx, c, q)
		if err != nil {
			return q, nil, err
		}
		return q, a, nil
	}
}

// methods is every method of the service over its port.
func methods(w Wallets) ([]*method, error) {
	list := []*method{
		{name: vigilpb.WalletService_GetServer_FullMethodName, scope: ofNobody, reads: true, call: ask(
			func(ctx context.Context, _ auth.Call, _ *vigilpb.GetServerRequest) (*vigilpb.ServerInfo, error) {
				return w.Server(ctx)
			})},

		{name: vigilpb.WalletService_BeginKeygen_FullMethodName, scope: ofHost, call: ask(w.BeginKeygen)},
		{name: vigilpb.WalletService_Keygen_FullMethodName, scope: ofHost, call: ask(w.Keygen)},
		{name: vigilpb.WalletService_CertifyKeygen_FullMethodName, scope: ofHost, call: ask(w.CertifyKeygen)},
		{name: vigilpb.WalletService_AcknowledgeKeygen_FullMethodName, call: ask(w.AcknowledgeKeygen)},
		{name: vigilpb.WalletService_Recover_FullMethodName, scope: ofHost, call: ask(w.Recover)},
		{name: vigilpb.WalletService_ConfirmRecovery_FullMethodName, call: ask(w.ConfirmRecovery)},
		{name: vigilpb.WalletService_BeginRefresh_FullMethodName, call: ask(w.BeginRefresh)},
		{name: vigilpb.WalletService_Refresh_FullMethodName, call: ask(w.Refresh)},
		{name: vigilpb.WalletService_CertifyRefresh_FullMethodName, call: ask(w.CertifyRefresh)},
		{name: vigilpb.WalletService_AcknowledgeRefresh_FullMethodName, call: ask(w.AcknowledgeRefresh)},
		{name: vigilpb.WalletService_VoidRefresh_FullMethodName, call: ask(w.VoidRefresh)},
		{name: vigilpb.WalletService_AdoptEpoch_FullMethodName, call: ask(w.AdoptEpoch)},
		{name: vigilpb.WalletService_AcceptOperator_FullMethodName, call: ask(w.AcceptOperator)},

		{name: vigilpb.WalletService_Sign_FullMethodName, call: ask(w.Sign)},

		{name: vigilpb.WalletService_PrepareDelegates_FullMethodName, call: ask(w.PrepareDelegates)},
		{name: vigilpb.WalletService_SubmitDelegate_FullMethodName, call: ask(w.SubmitDelegate)},
		{name: vigilpb.WalletService_WalletDelegates_FullMethodName, reads: true, call: ask(w.WalletDelegates)},
		{name: vigilpb.WalletService_CancelWalletDelegate_FullMethodName, call: ask(w.CancelWalletDelegate)},

		{name: vigilpb.WalletService_ListVtxos_FullMethodName, reads: true, call: ask(w.ListVtxos)},
		{name: vigilpb.WalletService_Coverage_FullMethodName, reads: true, call: ask(w.Coverage)},
		{name: vigilpb.WalletService_History_FullMethodName, reads: true, call: ask(w.History)},
		{name: vigilpb.WalletService_Branches_FullMethodName, reads: true, call: ask(w.Branches)},
		{name: vigilpb.WalletService_AcknowledgeBranches_FullMethodName, call: ask(w.AcknowledgeBranches)},
		{name: vigilpb.WalletService_Watch_FullMethodName, reads: true},

		{name: vigilpb.WalletService_Devices_FullMethodName, reads: true, call: ask(w.Devices)},
		{name: vigilpb.WalletService_AddDevice_FullMethodName, call: ask(w.AddDevice)},
		{name: vigilpb.WalletService_RevokeDevice_FullMethodName, call: ask(w.RevokeDevice)},
		{name: vigilpb.WalletService_SetToken_FullMethodName, call: ask(w.SetToken)},
		{name: vigilpb.WalletService_DropToken_FullMethodName, call: ask(w.DropToken)},
		{name: vigilpb.WalletService_GetPolicy_FullMethodName, reads: true, call: ask(w.GetPolicy)},
		{name: vigilpb.WalletService_SetPolicy_FullMethodName, call: ask(w.SetPolicy)},
		{name: vigilpb.WalletService_DeleteWallet_FullMethodName, call: ask(w.DeleteWallet)},
	}
	return list, asDescribed(list)
}

// asDescribed holds the list to the service's description, which is what is
// promised: a method that is missing is found at the start. REST's paths are
// there.
func asDescribed(list []*method) error {
	byName := map[string]*method{}
	for _, m := range list {
		byName[m.name] = m
	}
	service := vigilpb.File_vigil_v1_wallet_proto.Services().ByName("WalletService")
	for i := range service.Methods().Len() {
		d := service.Methods().Get(i)
		m := byName[fmt.Sprintf("/%s/%s", service.FullName(), d.Name())]
		rule, ok := proto.GetExtension(d.Options(), annotations.E_Http).(*annotations.HttpRule)
		if m == nil || !ok || rule.GetPost() == "" || d.IsStreamingServer() != (m.call == nil) {
			return fmt.Errorf("rpc: method %s is not served as the service describes it", d.FullName())
		}
		m.path = rule.GetPost()
	}
	return nil
}
