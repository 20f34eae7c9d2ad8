package wallet

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/vigilpb"
)

// BeginRefresh opens the ceremony that changes the shares of the key: with new
// host keys for everybody it heals, without it is hygiene. None begins while the
// epoch before the active one is still kept.
func (s *Service) BeginRefresh(ctx context.Context, c auth.Call, r *vigilpb.BeginRefreshRequest) (a *vigilpb.BeginRefreshAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		if err := s.mayRefresh(st); err != nil {
			return err
		}
		if c.Epoch != st.row.Active {
			return vigil.Errorf(vigil.CodeEpochUnknown, "epoch %d is not the one that is refreshed from; %d is active", c.Epoch, st.row.Active)
		}
		k, err := st.epoch(st.row.Active)
		if err != nil {
			return err
		}
		hosts, err := st.newHosts(r)
		if err != nil {
			return err
		}
		id, fresh, err := s.ceremonies.BeginRefresh(ctx, c.Key, k, hosts)
		if err != nil {
			return signed(err)
		}
		if hosts == nil {
			hosts = slices.Clone(k.Hosts)
		}
		hosts[own] = fresh
		a = &vigilpb.BeginRefreshAnswer{Session: id[:], Epoch: st.row.Active + 1}
		for _, h := range hosts {
			a.Hosts = append(a.Hosts, slices.Clone(h[:]))
		}
		return nil
	})
	return a, err
}

// mayRefresh: one refresh after the other.
func (s *Service) mayRefresh(st *state) error {
	if err := st.active(); err != nil {
		return err
	}
	if st.row.Retiring {
		return vigil.Errorf(vigil.CodeCeremonyFailed, "epoch %d waits for acknowledgments; send AcknowledgeRefresh of all participants first", st.row.Active)
	}
	return s.roomy()
}

// newHosts reads the host keys of a healing refresh; nil for hygiene.
func (st *state) newHosts(r *vigilpb.BeginRefreshRequest) ([]bip340.PubKey, error) {
	if !r.GetHealing() {
		if len(r.GetHosts()) > 0 {
			return nil, malformed("hosts", "new host keys come with a healing refresh")
		}
		return nil, nil
	}
	list, err := seats(r.GetHosts(), int(st.row.Participants), "hosts")
	if err != nil {
		return nil, err
	}
	hosts := make([]bip340.PubKey, len(list))
	for id, b := range list {
		if id == own {
			continue
		}
		if hosts[id], err = bip340.ParsePubKey(b); err != nil {
			return nil, malformed(fmt.Sprintf("hosts of participant %d", id), "%w", err)
		}
		if slices.ContainsFunc(st.row.Identities, func(d ledger.Identity) bool { return d.Key.XOnly() == hosts[id].XOnly() }) || hosts[id].XOnly() == st.desc.Recovery {
			return nil, malformed(fmt.Sprintf("hosts of participant %d", id), "a host key does no other job")
		}
	}
	return hosts, nil
}

// Refresh is the ceremony's first round.
func (s *Service) Refresh(ctx context.Context, c auth.Call, r *vigilpb.RefreshRequest) (a *vigilpb.RefreshAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		id, err := session(r.GetSession())
		if err != nil {
			return err
		}
		pmsgs, err := seats(r.GetPmsgs1(), int(st.row.Participants), "pmsgs1")
		if err != nil {
			return err
		}
		cmsg, err := s.ceremonies.Refresh(ctx, id, c.Key, pmsgs)
		a = &vigilpb.RefreshAnswer{Cmsg1: cmsg}
		return signed(err)
	})
	return a, err
}

// CertifyRefresh is its second round. Vigil's own second message is inside the
// certificate, so that it never has an epoch of which it does not know how it
// ended: shares and row are durable, the new epoch active and the old one
// retiring, before the certificate leaves. Either may sign until all have the new
// one.
func (s *Service) CertifyRefresh(ctx context.Context, c auth.Call, r *vigilpb.CertifyRefreshRequest) (a *vigilpb.CertifyRefreshAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		if err := s.mayRefresh(st); err != nil {
			return err
		}
		id, err := session(r.GetSession())
		if err != nil {
			return err
		}
		pmsgs, err := seats(r.GetPmsgs2(), int(st.row.Participants), "pmsgs2")
		if err != nil {
			return err
		}
		done, err := s.ceremonies.ReadyRefresh(ctx, id, c.Key, pmsgs)
		if err != nil {
			return signed(err)
		}
		if done.Info.Epoch() != st.row.Active+1 {
			s.ceremonies.Forget(id)
			return vigil.Errorf(vigil.CodeCeremonyUnknown, "the ceremony is of an epoch that is over; begin a new one")
		}
		if err := s.ceremonies.KeepRefresh(ctx, id, c.Key); err != nil {
			return signed(err)
		}
		err = s.change(ctx, st, c, func(w *ledger.Wallet) {
			// Only the active epoch stays beside it.
			w.Epochs = append(slices.DeleteFunc(w.Epochs, func(e ledger.Epoch) bool { return e.Number != w.Active }),
				made(signer.Key{Info: done.Info, Hosts: done.Hosts, Record: done.Record}, done.Sealed[:]))
			w.Active, w.Retiring = done.Info.Epoch(), true
		}, ledger.Extras{})
		if err != nil {
			return err
		}
		s.ceremonies.Forget(id)
		k, err := st.epoch(st.row.Active)
		if err != nil {
			return err
		}
		ack, err := s.keys.Acknowledge(ctx, k)
		a = &vigilpb.CertifyRefreshAnswer{Cmsg2: done.Cmsg2, Epoch: st.row.Active, Ack: ack}
		return signed(err)
	})
	return a, err
}

// made is the row of an epoch that a refresh made and that Vigil alone has
// acknowledged. Vigil's share stands in it, sealed to the host key that is in the
// secret store, from which it is made again when the secrets are a copy of before a
// refresh that kept that key.
func made(k signer.Key, sealed []byte) ledger.Epoch {
	e := ledger.Epoch{
		Number: k.Info.Epoch(), Hosts: k.Hosts, Info: k.Info.Encode(), Record: k.Record, Confirmed: true,
		Acked: make([]bool, len(k.Hosts)), Sealed: make([]byte, len(refresh.Sealed{})*len(k.Hosts)),
	}
	e.Acked[own] = true
	copy(e.Sealed[len(refresh.Sealed{})*own:], sealed)
	return e
}

// AcknowledgeRefresh takes the others' word that they have the active epoch, and
// their shares sealed to their host keys. With the last of them the epoch before
// is gone: first the row forgets it, then its share is destroyed; a crash between
// the two leaves a share that no row names, which the next round erases.
func (s *Service) AcknowledgeRefresh(ctx context.Context, c auth.Call, r *vigilpb.AcknowledgeRefreshRequest) (a *vigilpb.AcknowledgeRefreshAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		if r.GetEpoch() != st.row.Active || r.GetEpoch() == 0 {
			return vigil.Errorf(vigil.CodeEpochUnknown, "epoch %d is not the one that was refreshed to; %d is active", r.GetEpoch(), st.row.Active)
		}
		e := st.row.Epoch(st.row.Active)
		acked, err := acknowledged(e, r.GetAcks(), func(id int, ack []byte) error {
			return refresh.VerifyAcknowledgment(e.Record, id, ack)
		})
		if err != nil {
			return err
		}
		sealed, err := sealedShares(e, r.GetSealed())
		if err != nil {
			return err
		}
		k, err := st.epoch(st.row.Active)
		if err != nil {
			return err
		}
		// Vigil's own word comes first: the epoch before does not go until it is sure
		// that Vigil has this one.
		ack, err := s.keys.Acknowledge(ctx, k)
		if err != nil {
			return signed(err)
		}
		whole := !slices.Contains(acked, false)
		if !slices.Equal(acked, e.Acked) || !bytes.Equal(sealed, e.Sealed) || whole && st.row.Retiring {
			err = s.change(ctx, st, c, func(w *ledger.Wallet) {
				e := w.Epoch(w.Active)
				e.Acked, e.Sealed = acked, sealed
				if whole {
					w.Retiring = false
					w.Epochs = []ledger.Epoch{*e}
				}
			}, ledger.Extras{})
			if err != nil {
				return err
			}
		}
		if whole {
			if err := s.keys.Erase(ctx, st.row.ID, st.row.Active); err != nil {
				return signed(err)
			}
		}
		a = &vigilpb.AcknowledgeRefreshAnswer{Epoch: st.row.Active, Retiring: st.row.Retiring, Ack: ack}
		a.Sealed = sealedOf(st.row.Epoch(st.row.Active), own)
		return nil
	})
	return a, err
}

// sealedShares adds shares sealed to their holders' host keys to those that are
// kept: for each participant 32 bytes, zeros for none.
func sealedShares(e *ledger.Epoch, list [][]byte) ([]byte, error) {
	if len(list) == 0 {
		return e.Sealed, nil
	}
	all, err := seats(list, len(e.Hosts), "sealed")
	if err != nil {
		return nil, err
	}
	const size = len(refresh.Sealed{})
	kept := make([]byte, size*len(e.Hosts))
	copy(kept, e.Sealed)
	for id, b := range all {
		switch {
		case id == own || len(b) == 0:
		case len(b) != size:
			return nil, malformed("sealed", "want %d bytes for participant %d, got %d", size, id, len(b))
		default:
			copy(kept[size*id:], b)
		}
	}
	return kept, nil
}

// sealedOf is a participant's part of what sealedShares keeps; nil for none.
func sealedOf(e *ledger.Epoch, id int) []byte {
	const size = len(refresh.Sealed{})
	if id < 0 || len(e.Sealed) < size*(id+1) {
		return nil
	}
	if part := e.Sealed[size*id : size*(id+1)]; !bytes.Equal(part, make([]byte, size)) {
		return part
	}
	return nil
}

// VoidRefresh gives Vigil's word that a refresh was never certified and never
// will be, so that a device which signed it may go on without. Vigil itself never
// waits for anybody's.
func (s *Service) VoidRefresh(ctx context.Context, c auth.Call, r *vigilpb.VoidRefreshRequest) (a *vigilpb.VoidRefreshAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		k, err := st.epoch(st.row.Active)
		if err != nil {
			return err
		}
		if r.GetEpoch() != st.row.Active+1 || !bytes.HasPrefix(r.GetTranscript(), k.Info.Encode()) {
			return vigil.Errorf(vigil.CodeEpochUnknown, "the transcript is not of a refresh of epoch %d, which is active; Recover gives the records", st.row.Active)
		}
		if st.row.Retiring {
			return vigil.Errorf(vigil.CodeEpochUnknown, "no refresh of epoch %d was begun", st.row.Active)
		}
		void, err := s.ceremonies.Void(ctx, k, r.GetTranscript())
		if err != nil {
			return signed(err)
		}
		if err := s.change(ctx, st, c, nil, ledger.Extras{}); err != nil {
			return err
		}
		a = &vigilpb.VoidRefreshAnswer{Void: void, Epoch: st.row.Active}
		return nil
	})
	return a, err
}
