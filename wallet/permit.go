package wallet

import (
	"context"
	"errors"
	"path"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/vigilpb"
)

// role is what a key must be to call a method.
type role uint8

const (
	nobody   role = iota
	anybody       // the request is not signed
	founder       // the host key that the request itself names: keygen and recovery
	host          // a host key of the owner's in an epoch of the wallet
	identity      // a device's key that is neither frozen nor removed
	either        // host or identity
	heir          // either, or a host key of the epoch that a record brings
)

// roleOf is the one table of who may call what.
func roleOf(method string) role {
	switch path.Base(method) {
	case "GetServer":
		return anybody
	case "BeginKeygen", "Keygen", "CertifyKeygen", "Recover":
		return founder
	case "AcknowledgeKeygen", "ConfirmRecovery", "BeginRefresh", "Refresh", "CertifyRefresh", "AcknowledgeRefresh",
		"VoidRefresh", "AcceptOperator", "AddDevice", "RevokeDevice", "DeleteWallet":
		return host
	case "Sign", "PrepareDelegates", "SubmitDelegate", "WalletDelegates", "CancelWalletDelegate", "ListVtxos",
		"Coverage", "History", "Branches", "AcknowledgeBranches", "Watch", "SetToken", "DropToken":
		return identity
	case "AdoptEpoch":
		return heir
	case "Devices", "GetPolicy", "SetPolicy":
		return either
	}
	return nobody
}

// Permit says whether the key that signed a request may make it, before the
// request costs anything that lasts. What it refuses is audited where there is
// such a wallet, within the wallet's and the house's bounds: a stranger must not
// be able to fill the disk.
func (s *Service) Permit(ctx context.Context, c auth.Call) error {
	if err := s.spare(c.Method); err != nil {
		return err
	}
	r := roleOf(c.Method)
	switch {
	case r == anybody:
		return nil
	case r == founder && c.Host == c.Key && c.Host != (bip340.PubKey{}):
		return s.permitFounder(ctx, c)
	case r == founder:
		return vigil.Errorf(vigil.CodeNotPermitted, "this call names the device's host key in the place of the wallet, and is signed with it")
	case r == nobody || c.Host != (bip340.PubKey{}):
		return vigil.Errorf(vigil.CodeNotPermitted, "this call names a wallet by its 32-byte id")
	}
	row, err := s.ledger.Wallet(ctx, c.Wallet)
	if errors.Is(err, ledger.ErrNotFound) {
		return notPermitted(c)
	}
	if err != nil {
		return stored(err)
	}
	return s.refused(ctx, row, c, permit(row, c, r))
}

// permitFounder says whether a host key may do what a host key without a wallet
// does. Anybody can make one, so that nothing is stored for one that has neither
// a wallet nor a ceremony, but for who may begin: with the token, where it takes one.
func (s *Service) permitFounder(ctx context.Context, c auth.Call) error {
	method := path.Base(c.Method)
	if method != "BeginKeygen" && method != "Recover" {
		if !s.founding.has(c.Key) {
			return vigil.Errorf(vigil.CodeCeremonyUnknown, "there is no such ceremony of this key, or it expired; begin a new one")
		}
		return nil
	}
	_, err := s.ledger.WalletByHost(ctx, c.Key)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, ledger.ErrNotFound):
		return stored(err)
	case method == "Recover":
		return vigil.Errorf(vigil.CodeNotPermitted, "no wallet of the host key %s is here", c.Key)
	}
	r := &vigilpb.BeginKeygenRequest{}
	if err := proto.Unmarshal(c.Payload, r); err != nil {
		return malformed("payload", "it cannot be read")
	}
	return s.admitted(ctx, c, r.GetToken())
}

// permit holds a key to a wallet's row. The actor asks again, since the row may
// have changed while the request waited.
func permit(row *ledger.Wallet, c auth.Call, r role) error {
	switch {
	case (r == host || r == either || r == heir) && isHost(row, c.Key):
		return nil
	case r == heir && inherits(row, c):
		return nil
	case r == founder && wasHost(row, c.Key):
		return nil
	case r == founder:
		return notPermitted(c)
	}
	i := slices.IndexFunc(row.Identities, func(d ledger.Identity) bool { return d.Key == c.Key })
	switch {
	case i < 0 && r == identity && isHost(row, c.Key):
		return vigil.Errorf(vigil.CodeNotPermitted, "this call is for an identity key; the host key can enrol one")
	case i < 0:
		return notPermitted(c)
	case row.Identities[i].FrozenAt != 0:
		return vigil.Errorf(vigil.CodeIdentityFrozen, "the identity key %s was frozen when the wallet was recovered on another device", c.Key)
	case r == host:
		return vigil.Errorf(vigil.CodeHostKeyNeeded, "%s is for the host key", path.Base(c.Method))
	}
	return nil
}

// isHost says whether key is a host key of the owner's in the active epoch: the
// device's or a cold share's; never Vigil's own.
func isHost(row *ledger.Wallet, key bip340.PubKey) bool {
	e := row.Epoch(row.Active)
	return e != nil && ofOwner(e, key)
}

// wasHost is isHost for the epoch beside the active one too.
func wasHost(row *ledger.Wallet, key bip340.PubKey) bool {
	return slices.ContainsFunc(row.Epochs, func(e ledger.Epoch) bool { return ofOwner(&e, key) })
}

func ofOwner(e *ledger.Epoch, key bip340.PubKey) bool {
	i := slices.Index(e.Hosts, key)
	return i >= 0 && i != own
}

// notPermitted tells a stranger as much of a wallet that is not his as of one
// that is not there.
func notPermitted(c auth.Call) error {
	return vigil.Errorf(vigil.CodeNotPermitted, "the key %s may not call %s for wallet %s", c.Key, path.Base(c.Method), c.Wallet)
}
