package wallet

import (
	"context"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/policy"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/vigilpb"
)

// state is a wallet in memory: what its one actor knows without asking. Nothing
// but that actor changes the row and the policy; coins and delegates are the
// engine's too, so that of coins only what never changes is used from here.
type state struct {
	row    *ledger.Wallet
	gens   descriptor.Generations // of its scripts
	desc   descriptor.Descriptor  // the current one
	policy policy.State
	infos  map[uint32]*frost.Info // by epoch
	coins  map[wire.OutPoint]ark.VTXO
	gone   bool // deleted: to be forgotten
}

// newState decodes what one read transaction gave.
func newState(snap *ledger.WalletSnapshot) (*state, error) {
	st := &state{coins: coins(snap.VTXOs)}
	if err := st.adopt(snap.Wallet); err != nil {
		return nil, err
	}
	st.policy = policy.State{Current: policy.Default()}
	if snap.Policy != nil {
		var err error
		if st.policy, err = policy.DecodeState(snap.Policy.Current); err != nil {
			return nil, unreadable("policy", err)
		}
	}
	return st, nil
}

// adopt takes a row as the one that the wallet has now.
func (st *state) adopt(row *ledger.Wallet) error {
	gens, err := generations(row)
	if err != nil {
		return err
	}
	infos := map[uint32]*frost.Info{}
	for _, e := range row.Epochs {
		if infos[e.Number], err = frost.ParseInfo(e.Info); err != nil {
			return unreadable(fmt.Sprintf("epoch %d", e.Number), err)
		}
	}
	st.row, st.gens, st.desc, st.infos = row, gens, gens.Current(), infos
	return nil
}

func unreadable(what string, err error) error {
	return &vigil.Error{Code: vigil.CodeInternal, Message: "this wallet's " + what + " cannot be read; its coins are not touched", Err: err}
}

// change writes the row as mutate makes it, with the audit's entry of the call,
// and takes it up.
func (s *Service) change(ctx context.Context, st *state, c auth.Call, mutate func(*ledger.Wallet), x ledger.Extras) error {
	x.Audit = append(x.Audit, s.allowed(st.row, c))
	row, err := s.ledger.UpdateWallet(ctx, st.row, mutate, x)
	if err != nil {
		return stored(err)
	}
	if err := st.adopt(row); err != nil {
		return fmt.Errorf("%w: %w", errStale, err)
	}
	return nil
}

// active refuses what a wallet may not do before its making is acknowledged.
func (st *state) active() error {
	if st.row.State != ledger.WalletActive {
		return vigil.Errorf(vigil.CodeWalletPending, "the wallet waits for the acknowledgments of all participants; send AcknowledgeKeygen")
	}
	return nil
}

// epoch returns an epoch that may sign, as the signer wants it.
func (st *state) epoch(number uint32) (signer.Key, error) {
	e := st.row.Epoch(number)
	may := number == st.row.Active || st.row.Retiring && number+1 == st.row.Active
	if e == nil || !may {
		return signer.Key{}, vigil.Errorf(vigil.CodeEpochUnknown, "epoch %d may not sign here; %d is active", number, st.row.Active)
	}
	return signer.Key{Info: st.infos[number], Hosts: e.Hosts, Record: e.Record}, nil
}

// identities are the wallet's devices as they are told.
func (st *state) identities(c auth.Call) []*vigilpb.Identity {
	list := make([]*vigilpb.Identity, len(st.row.Identities))
	for i, d := range st.row.Identities {
		list[i] = &vigilpb.Identity{
			Key: slices.Clone(d.Key[:]), Name: d.Name, AddedAt: d.AddedAt, FrozenAt: d.FrozenAt, RemoveAt: d.RemoveAt, Self: d.Key == c.Key,
		}
	}
	return list
}

// stateName is how a wallet's state is told.
func stateName(row *ledger.Wallet) string {
	switch {
	case row.State == ledger.WalletPending:
		return "pending"
	case row.State == ledger.WalletDeleting, row.DeleteAfter > 0:
		return "deleting"
	}
	return "active"
}

// seats puts a free place where Vigil's own message comes into a list of the
// others'.
func seats(list [][]byte, participants int, field string) ([][]byte, error) {
	if len(list) != participants-1 {
		return nil, malformed(field, "%d messages of %d other participants", len(list), participants-1)
	}
	return slices.Insert(slices.Clone(list), own, nil), nil
}

// session reads a ceremony's id.
func session(b []byte) (id frost.SessionID, err error) {
	if len(b) != len(id) {
		return id, malformed("session", "want %d bytes, got %d", len(id), len(b))
	}
	return frost.SessionID(b), nil
}
