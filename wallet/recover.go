package wallet

import (
	"context"
	"errors"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/vigilpb"
)

// Recover gives whoever has an owner's host key what a device needs to be this
// wallet's: the recovery data of every epoch not superseded. With an identity key
// it enrols that one and freezes all others at once; without, it only reads. The
// host key of an epoch that is retiring only reads.
func (s *Service) Recover(ctx context.Context, c auth.Call, r *vigilpb.RecoverRequest) (a *vigilpb.RecoverAnswer, err error) {
	row, err := s.ledger.WalletByHost(ctx, c.Key)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, vigil.Errorf(vigil.CodeNotPermitted, "no wallet of the host key %s is here", c.Key)
	}
	if err != nil {
		return nil, stored(err)
	}
	c.Wallet = row.ID
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		if len(r.GetIdentityKey()) > 0 {
			if err := s.enrolAlone(ctx, st, c, r); err != nil {
				return err
			}
		}
		a, err = s.recovered(ctx, st, c)
		return err
	})
	return a, err
}

// enrolAlone enrols the request's identity key and freezes the others.
func (s *Service) enrolAlone(ctx context.Context, st *state, c auth.Call, r *vigilpb.RecoverRequest) error {
	if !isHost(st.row, c.Key) {
		return vigil.Errorf(vigil.CodeEpochUnknown, "this is the host key of an epoch that is retiring; the one that is active enrols devices")
	}
	key, err := identityKey(st.row, r.GetIdentityKey(), r.GetName())
	if err != nil {
		return err
	}
	if err := s.held(); err != nil {
		return err
	}
	now := s.now()
	frozen := map[bip340.PubKey]bool{}
	err = s.change(ctx, st, c, func(w *ledger.Wallet) {
		w.Identities = enrol(w.Identities, key, r.GetName(), now, s.cfg.Limits.Devices)
		clear(frozen)
		for i := range w.Identities {
			if d := &w.Identities[i]; d.Key != key && d.FrozenAt == 0 {
				d.FrozenAt, d.RemoveAt = now, now+s.coolDown()
				frozen[d.Key] = true
			}
		}
	}, ledger.Extras{})
	if err != nil {
		return err
	}
	for k := range frozen {
		s.hub.Revoke(st.row.ID, k)
	}
	s.publish(st, notify.Event{Kind: notify.Devices, Text: "the wallet was recovered on another device; all others are frozen"})
	return nil
}

func (s *Service) coolDown() int64 { return int64(s.cfg.CoolDown.Seconds()) }

// enrol adds a key, or takes its freeze away. At the bound the one that was added
// first makes room: a thief must not be able to keep the owner out by enrolling
// many.
func enrol(list []ledger.Identity, key bip340.PubKey, name string, now int64, most int) []ledger.Identity {
	i := slices.IndexFunc(list, func(d ledger.Identity) bool { return d.Key == key })
	if i >= 0 {
		list[i].FrozenAt, list[i].RemoveAt = 0, 0
		if name != "" {
			list[i].Name = name
		}
		return list
	}
	if len(list) >= most {
		first := 0
		for j, d := range list {
			if d.AddedAt < list[first].AddedAt {
				first = j
			}
		}
		list = slices.Delete(list, first, first+1)
	}
	return append(list, ledger.Identity{Key: key, Name: name, AddedAt: now})
}

// identityKey reads a key that is to be a device's.
func identityKey(row *ledger.Wallet, b []byte, name string) (bip340.PubKey, error) {
	key, err := bip340.ParsePubKey(b)
	if err != nil {
		return key, malformed("identity_key", "%w", err)
	}
	if len(name) > maxName {
		return key, malformed("name", "%d bytes, at most %d are taken", len(name), maxName)
	}
	for _, e := range row.Epochs {
		if slices.ContainsFunc(e.Hosts, func(h bip340.PubKey) bool { return h.XOnly() == key.XOnly() }) {
			return key, malformed("identity_key", "a host key does no other job")
		}
	}
	return key, nil
}

// recovered is what Recover tells.
func (s *Service) recovered(ctx context.Context, st *state, c auth.Call) (*vigilpb.RecoverAnswer, error) {
	a := &vigilpb.RecoverAnswer{
		Wallet: slices.Clone(st.row.ID[:]), Descriptor_: st.row.Descriptor, Older: st.row.Older, Active: st.row.Active, State: stateName(st.row), Identities: st.identities(c),
	}
	for _, d := range st.row.Identities {
		a.ConfirmAfter = max(a.ConfirmAfter, d.RemoveAt)
	}
	for _, e := range st.row.Epochs {
		k := signer.Key{Info: st.infos[e.Number], Hosts: e.Hosts, Record: e.Record}
		ack, err := s.keys.Acknowledge(ctx, k)
		if errors.Is(err, signer.ErrEpoch) && e.Number == st.row.Active && e.Number > 0 {
			// The secrets are a copy of before the refresh that made it.
			if _, err = s.keys.Adopt(ctx, k, sealedOf(&e, own)); err == nil {
				ack, err = s.keys.Acknowledge(ctx, k)
			}
		}
		if err != nil {
			return nil, signed(err)
		}
		told := &vigilpb.WalletEpoch{Number: e.Number, Record: e.Record, Sealed: sealedOf(&e, slices.Index(e.Hosts, c.Key)), Certified: e.Confirmed, Acked: e.Acked, Info: e.Info, Ack: ack}
		for _, h := range e.Hosts {
			told.Hosts = append(told.Hosts, slices.Clone(h[:]))
		}
		a.Epochs = append(a.Epochs, told)
	}
	return a, nil
}

// ConfirmRecovery removes the devices that were frozen, once each one's cool-down
// is over.
func (s *Service) ConfirmRecovery(ctx context.Context, c auth.Call, _ *vigilpb.ConfirmRecoveryRequest) (a *vigilpb.ConfirmRecoveryAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		now := s.now()
		for _, d := range st.row.Identities {
			if d.FrozenAt != 0 && d.RemoveAt > now {
				return vigil.Errorf(vigil.CodeCoolDown, "the frozen devices may be removed from %s on", clock(d.RemoveAt))
			}
		}
		err := s.change(ctx, st, c, func(w *ledger.Wallet) {
			w.Identities = slices.DeleteFunc(w.Identities, func(d ledger.Identity) bool { return d.FrozenAt != 0 })
		}, ledger.Extras{})
		if err != nil {
			return err
		}
		s.publish(st, notify.Event{Kind: notify.Devices, Text: "the frozen devices were removed"})
		a = &vigilpb.ConfirmRecoveryAnswer{Identities: st.identities(c)}
		return nil
	})
	return a, err
}

// Devices lists the wallet's identity keys.
func (s *Service) Devices(ctx context.Context, c auth.Call, _ *vigilpb.DevicesRequest) (a *vigilpb.DevicesAnswer, err error) {
	err = s.do(ctx, c, func(_ context.Context, st *state) error {
		a = &vigilpb.DevicesAnswer{Identities: st.identities(c)}
		return nil
	})
	return a, err
}

// AddDevice enrols an identity key; one that was frozen is free again.
func (s *Service) AddDevice(ctx context.Context, c auth.Call, r *vigilpb.AddDeviceRequest) (a *vigilpb.AddDeviceAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		key, err := identityKey(st.row, r.GetIdentityKey(), r.GetName())
		if err != nil {
			return err
		}
		most := s.cfg.Limits.Devices
		if known := slices.ContainsFunc(st.row.Identities, func(d ledger.Identity) bool { return d.Key == key }); !known && len(st.row.Identities) >= most {
			return vigil.Errorf(vigil.CodeTooManyDevices, "the wallet has %d devices; revoke one first", most)
		}
		err = s.change(ctx, st, c, func(w *ledger.Wallet) {
			w.Identities = enrol(w.Identities, key, r.GetName(), s.now(), most)
		}, ledger.Extras{})
		if err != nil {
			return err
		}
		s.publish(st, notify.Event{Kind: notify.Devices, Text: "a device was added"})
		a = &vigilpb.AddDeviceAnswer{Identities: st.identities(c)}
		return nil
	})
	return a, err
}

// RevokeDevice removes an identity key at once and cuts its streams.
func (s *Service) RevokeDevice(ctx context.Context, c auth.Call, r *vigilpb.RevokeDeviceRequest) (a *vigilpb.RevokeDeviceAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		key, err := bip340.ParsePubKey(r.GetIdentityKey())
		if err != nil {
			return malformed("identity_key", "%w", err)
		}
		is := func(d ledger.Identity) bool { return d.Key == key }
		if slices.ContainsFunc(st.row.Identities, is) {
			err = s.change(ctx, st, c, func(w *ledger.Wallet) { w.Identities = slices.DeleteFunc(w.Identities, is) }, ledger.Extras{})
			if err != nil {
				return err
			}
		}
		s.hub.Revoke(st.row.ID, key)
		s.publish(st, notify.Event{Kind: notify.Devices, Text: "a device was revoked"})
		a = &vigilpb.RevokeDeviceAnswer{Identities: st.identities(c)}
		return nil
	})
	return a, err
}

// publish tells whoever watches the wallet.
func (s *Service) publish(st *state, e notify.Event) {
	e.At = s.now()
	s.hub.Publish(st.row.ID, e)
}
