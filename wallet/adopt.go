package wallet

import (
	"bytes"
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/vigilpb"
)

// AdoptEpoch brings a wallet whose row, or whose share, is a copy of the past
// forward to the epoch that the device has. Nothing is believed but the record,
// whose certificate all have signed, this server with a key that is in its own
// secret store. The order is a refresh's: the share is durable before the row, and
// the epoch before stays beside it, where it is there, until all have acknowledged.
func (s *Service) AdoptEpoch(ctx context.Context, c auth.Call, r *vigilpb.AdoptEpochRequest) (a *vigilpb.AdoptEpochAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		if err := st.active(); err != nil {
			return err
		}
		if err := s.held(); err != nil {
			return err
		}
		k, err := st.later(r)
		if err != nil {
			return err
		}
		before, err := s.keys.Adopt(ctx, k, r.GetSealed())
		if err != nil {
			return signed(err)
		}
		sealed, err := s.keys.Seal(ctx, k)
		if err != nil {
			return signed(err)
		}
		number := k.Info.Epoch()
		err = s.change(ctx, st, c, func(w *ledger.Wallet) {
			if w.Active == number {
				return
			}
			w.Retiring = before && w.Active+1 == number
			w.Epochs = slices.DeleteFunc(w.Epochs, func(e ledger.Epoch) bool { return !w.Retiring || e.Number != w.Active })
			w.Epochs, w.Active = append(w.Epochs, made(k, sealed)), number
		}, ledger.Extras{})
		if err != nil {
			return err
		}
		if !st.row.Retiring {
			if err := s.keys.Erase(ctx, st.row.ID, number); err != nil {
				return signed(err)
			}
		}
		ack, err := s.keys.Acknowledge(ctx, k)
		a = &vigilpb.AdoptEpochAnswer{Epoch: number, Retiring: st.row.Retiring, Ack: ack}
		return signed(err)
	})
	return a, err
}

// later reads a record of the wallet's key that is of the active epoch or of one
// that came after it.
func (st *state) later(r *vigilpb.AdoptEpochRequest) (signer.Key, error) {
	info, p, err := refresh.RecoverPublic(r.GetRecord())
	if err != nil {
		return signer.Key{}, malformed("record", "%w", err)
	}
	row := st.row.Epoch(st.row.Active)
	switch number := info.Epoch(); {
	case number != r.GetEpoch() || info.PubKey() != st.infos[st.row.Active].PubKey() || len(p.Hosts()) != int(st.row.Participants):
		return signer.Key{}, malformed("record", "it is not of epoch %d of this wallet's key", r.GetEpoch())
	case number < row.Number, number == row.Number && !bytes.Equal(r.GetRecord(), row.Record):
		return signer.Key{}, vigil.Errorf(vigil.CodeEpochUnknown, "epoch %d is active here, and the record is of one before it, or of another refresh; Recover gives the records", row.Number)
	}
	return signer.Key{Info: info, Hosts: p.Hosts(), Record: r.GetRecord()}, nil
}

// inherits says whether a call brings the certified record of a healing refresh of
// the active epoch, in which the owner's host keys of that epoch hand their place
// over to the key that signed the call. What is of another epoch is told apart
// before any signature is verified.
func inherits(row *ledger.Wallet, c auth.Call) bool {
	e := row.Epoch(row.Active)
	var r vigilpb.AdoptEpochRequest
	if e == nil || proto.Unmarshal(c.Payload, &r) != nil || !bytes.HasPrefix(r.GetRecord(), e.Info) {
		return false
	}
	_, p, err := refresh.RecoverPublic(r.GetRecord())
	if err != nil || !p.Follows(e.Info, e.Record, e.Hosts) {
		return false
	}
	return ofOwner(&ledger.Epoch{Hosts: p.Hosts()}, c.Key)
}
