package wallet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/vigilpb"
)

// errUnsure says that the certificate of a refresh did not come: the owner keeps
// a pending epoch, and goes on with the old one.
var errUnsure = errors.New("no certificate")

// refresh runs a whole refresh. When the certificate does not come, the owner has
// a pending epoch.
func (d *device) refresh(healing bool) error {
	begin := &vigilpb.BeginRefreshRequest{Healing: healing}
	if healing {
		d.next = drawn(d.t, d.n)
		for _, id := range d.owners() {
			k := hostOf(d.t, d.next[id]).PubKey()
			begin.Hosts = append(begin.Hosts, k[:])
		}
	}
	begun, err := carry(d.w, d.as(0, "BeginRefresh"), func(ctx context.Context, c auth.Call) (*vigilpb.BeginRefreshAnswer, error) {
		return d.w.service.BeginRefresh(ctx, c, begin)
	})
	if err != nil {
		return err
	}
	var keys []bip340.PubKey
	for _, b := range begun.GetHosts() {
		keys = append(keys, bip340.PubKey(b))
	}
	old := d.epochs[d.active]
	p, err := refresh.NewParams(old.info, old.record, d.keys, keys)
	if err != nil {
		return err
	}
	return d.refreshRounds(begun, p, keys, healing)
}

// newHost is a participant's host key of the epoch that is being made.
func (d *device) newHost(id int, healing bool) *chilldkg.HostKey {
	if healing {
		return hostOf(d.t, d.next[id])
	}
	return d.host(id)
}

func (d *device) refreshRounds(begun *vigilpb.BeginRefreshAnswer, p *refresh.Params, keys []bip340.PubKey, healing bool) error {
	old := d.epochs[d.active]
	firsts, first := map[int]*refresh.Participant1{}, &vigilpb.RefreshRequest{Session: begun.GetSession()}
	for _, id := range d.owners() {
		p1, msg, err := refresh.Step1(d.newHost(id, healing), p)
		if err != nil {
			return err
		}
		firsts[id], first.Pmsgs1 = p1, append(first.Pmsgs1, msg)
	}
	a1, err := carry(d.w, d.as(0, "Refresh"), func(ctx context.Context, c auth.Call) (*vigilpb.RefreshAnswer, error) {
		return d.w.service.Refresh(ctx, c, first)
	})
	if err != nil {
		return err
	}
	seconds, second := map[int]*refresh.Participant2{}, &vigilpb.CertifyRefreshRequest{Session: begun.GetSession()}
	for _, id := range d.owners() {
		p2, msg, err := firsts[id].Step2(d.newHost(id, healing), d.host(id), old.shares[id], a1.GetCmsg1())
		if err != nil {
			return err
		}
		seconds[id], second.Pmsgs2 = p2, append(second.Pmsgs2, msg)
	}
	// Durable before the second messages leave.
	d.pending = &lost{transcript: seconds[0].Transcript(), keys: keys, healing: healing}
	a2, err := carry(d.w, d.as(0, "CertifyRefresh"), func(ctx context.Context, c auth.Call) (*vigilpb.CertifyRefreshAnswer, error) {
		return d.w.service.CertifyRefresh(ctx, c, second)
	})
	if err != nil {
		return errors.Join(errUnsure, err)
	}
	h := &held{shares: map[int]secret.Bytes{}}
	for _, id := range d.owners() {
		out, record, err := seconds[id].Finalize(a2.GetCmsg2())
		if err != nil {
			return err
		}
		h.info, h.record, h.shares[id] = out.Info, record, out.Share
	}
	if err := refresh.VerifyAcknowledgment(h.record, own, a2.GetAck()); err != nil {
		return fmt.Errorf("vigil's acknowledgment: %w", err)
	}
	d.epochs[a2.GetEpoch()], d.active, d.keys = h, a2.GetEpoch(), keys
	if healing {
		d.hosts = d.next
	}
	d.next, d.pending = nil, nil
	return d.acknowledgeRefresh()
}

// acknowledgeRefresh tells that the owner has the active epoch, and hands its
// sealed shares in; then the old shares are destroyed here too.
func (d *device) acknowledgeRefresh() error {
	h := d.epochs[d.active]
	r := &vigilpb.AcknowledgeRefreshRequest{Epoch: d.active}
	for _, id := range d.owners() {
		ack, err := refresh.Acknowledge(d.host(id), h.record)
		if err != nil {
			return err
		}
		sealed, err := refresh.Seal(d.host(id), &refresh.Output{ID: id, Info: h.info, Share: h.shares[id]}, h.record)
		if err != nil {
			return err
		}
		r.Acks, r.Sealed = append(r.Acks, ack), append(r.Sealed, slices.Clone(sealed[:]))
	}
	a, err := carry(d.w, d.as(0, "AcknowledgeRefresh"), func(ctx context.Context, c auth.Call) (*vigilpb.AcknowledgeRefreshAnswer, error) {
		return d.w.service.AcknowledgeRefresh(ctx, c, r)
	})
	if err != nil {
		return err
	}
	if a.GetRetiring() || a.GetEpoch() != d.active {
		return fmt.Errorf("epoch %d, retiring %v", a.GetEpoch(), a.GetRetiring())
	}
	delete(d.epochs, d.active-1)
	h.sealed = a.GetSealed()
	return nil
}

// settle finds out how a refresh ended whose certificate did not come: by the
// record, when Vigil certified it, else by Vigil's word that it never will.
func (d *device) settle() error {
	if d.pending == nil {
		return nil
	}
	a, err := d.recover(0, nil)
	if err != nil && d.pending.healing {
		saved := d.hosts // the old host key may be gone there: ask with the new one
		d.hosts = d.next
		a, err = d.recover(0, nil)
		d.hosts = saved
	}
	if err != nil {
		return err
	}
	if a.GetActive() > d.active {
		return d.takeUp(a)
	}
	v, err := carry(d.w, d.as(0, "VoidRefresh"), func(ctx context.Context, c auth.Call) (*vigilpb.VoidRefreshAnswer, error) {
		return d.w.service.VoidRefresh(ctx, c, &vigilpb.VoidRefreshRequest{Epoch: d.active + 1, Transcript: d.pending.transcript})
	})
	if err != nil {
		return err
	}
	if len(v.GetVoid()) > 0 {
		if err := refresh.VerifyVoid(d.pending.transcript, own, v.GetVoid()); err != nil {
			return err
		}
	}
	if v.GetEpoch() != d.active {
		return fmt.Errorf("vigil is at epoch %d", v.GetEpoch())
	}
	d.pending, d.next = nil, nil
	return nil
}
