package wallet

import (
	"context"

	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/vigilpb"
)

// dialect is how threshold signatures are spoken here: the draft that frost
// follows.
const dialect = "bip445/0.12.1"

// Server tells what this Vigil is. The operator may be down: then its delays are
// left out.
func (s *Service) Server(ctx context.Context) (*vigilpb.ServerInfo, error) {
	l, pin := s.cfg.Limits, s.pinnedTo()
	key := s.host.PubKey()
	info := &vigilpb.ServerInfo{
		HostKey: key[:], Network: string(pin.Network), OperatorSigner: pin.Signer[:], OperatorUrl: s.cfg.OperatorURL,
		Now: s.now(), Registration: s.cfg.Registration.mode(), Version: s.cfg.Version, Dialects: []string{dialect},
		RecoveryDelay: uint32(descriptor.DefaultRecovery),
		Limits: &vigilpb.ServerLimits{
			Body: uint64(s.cfg.Body), Window: uint32(s.cfg.Window.Seconds()), Signatures: uint32(l.Signatures), Documents: uint32(l.Documents),
			Prepared: uint32(l.Prepared), PreparedSeconds: uint32(l.PreparedFor.Seconds()), Delegates: uint32(l.Delegates), Inputs: uint32(l.Inputs),
			Devices: uint32(l.Devices), Tokens: uint32(l.Tokens), Watches: uint32(l.Watches), WatchSeconds: uint32(l.WatchFor.Seconds()),
			Participants: uint32(l.Participants), CoolDownSeconds: uint32(s.coolDown()),
		},
	}
	p, err := s.announced.Current(ctx)
	if err != nil {
		s.cfg.Log.Info("the operator's delays could not be told", "err", err)
		return info, nil
	}
	info.ExitDelay, info.BoardingExitDelay = uint32(p.ExitDelay), uint32(p.BoardingDelay)
	info.BoardingRecoveryDelay = uint32(descriptor.BoardingRecovery(p, descriptor.DefaultRecovery))
	return info, nil
}

// ceiling is the most of what the ledger bounds by itself.
func (l Limits) ceiling() Limits {
	l.Devices = min(l.Devices, ledger.MaxIdentities)
	l.Tokens = min(l.Tokens, ledger.MaxTokens)
	l.Prepared = min(l.Prepared, ledger.MaxPrepared)
	return l
}
