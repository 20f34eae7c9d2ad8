package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/vigilpb"
)

// ErrCold is returned for a refresh of a wallet that has cold shares when not all of
// them are at hand: the epoch before is destroyed only when everybody has the new one,
// so that a refresh without them would change nothing but leave two epochs open.
var ErrCold = errors.New("client: a refresh needs every cold share of the wallet at hand")

// Refresh changes the shares of the wallet's key; key, address and coins stay.
// Without a seed it is hygiene: the host keys stay, and with an old one and the
// old record the old share could be made again. With the seed it heals: the host
// keys change too, so that what a thief took before is of no use, provided that
// it was not two shares of one epoch; a cold share gets a new seed then. Every cold
// share of the wallet takes part, through the device. A refresh that breaks off at
// any point is taken up by the next call; meanwhile any two of the shares sign with an
// epoch that both have or can be brought to.
func (w *Wallet) Refresh(ctx context.Context, seed *Seed, cold ...*ColdShare) error {
	w.spending.Lock()
	defer w.spending.Unlock()
	if err := w.confirmed(); err != nil {
		return err
	}
	if err := w.finishRefresh(ctx, cold...); err != nil {
		return err
	}
	e, err := w.current().active()
	if err != nil {
		return err
	}
	r, err := w.beginRefresh(ctx, *e, seed, cold)
	if behind(err) {
		if err = w.catchUp(ctx, err); err == nil {
			err = w.finishRefresh(ctx, cold...) // it keeps the epoch before until then
		}
		if err == nil {
			r, err = w.beginRefresh(ctx, *e, seed, cold)
		}
	}
	if err != nil {
		return err
	}
	defer r.burn()
	if err := w.certifyRefresh(ctx, r); err != nil {
		return err
	}
	return w.finishRefresh(ctx, cold...)
}

// refreshing is a refresh between its begin and its certificate.
type refreshing struct {
	old       epoch
	session   []byte
	number    uint32
	hosts     []bip340.PubKey
	params    *refresh.Params
	host, was *chilldkg.HostKey
	cold      []*ColdShare // by seat; nil in the device's and Vigil's
}

func (r *refreshing) burn() {
	for _, k := range []*chilldkg.HostKey{r.host, r.was} {
		if k != nil {
			k.Burn()
		}
	}
}

// seated puts cold shares of the wallet's epoch in their places: all that there are.
func (w *Wallet) seated(ctx context.Context, e epoch, cold []*ColdShare) ([]*ColdShare, error) {
	id := w.current().ID
	seats := make([]*ColdShare, len(e.Hosts))
	for _, c := range cold {
		if err := w.level(ctx, c); err != nil {
			return nil, err
		}
		if c.out.ID == id || c.out.ID == vigilID || seats[c.out.ID] != nil {
			return nil, fmt.Errorf("%w: the cold share of participant %d is there twice, or is the device's own", ErrSeed, c.out.ID)
		}
		seats[c.out.ID] = c
	}
	return seats, nil
}

// beginRefresh opens the ceremony; nothing is changed yet.
func (w *Wallet) beginRefresh(ctx context.Context, old epoch, seed *Seed, cold []*ColdShare) (_ *refreshing, err error) {
	st := w.current()
	r := &refreshing{old: old, number: old.Number + 1}
	defer func() {
		if err != nil {
			r.burn()
		}
	}()
	if r.cold, err = w.seated(ctx, old, cold); err != nil {
		return nil, err
	}
	for id, c := range r.cold {
		if c == nil && id != st.ID && id != vigilID {
			return nil, fmt.Errorf("%w: that of participant %d is missing", ErrCold, id)
		}
	}
	if r.was, err = w.ceremonyKey(ctx, old.Number); err != nil {
		return nil, err
	}
	req := &vigilpb.BeginRefreshRequest{Healing: seed != nil}
	var scalar secret.Bytes
	if seed != nil {
		scalar, err = seed.host(st.Network, r.number)
	} else {
		scalar, err = w.store.Get(ctx, named(nameHost, old.Number))
	}
	if err != nil {
		return nil, err
	}
	// Harmless if nothing comes of it: a key that nobody knows of.
	if err := w.store.Put(ctx, named(nameHost, r.number), scalar); err != nil {
		return nil, err
	}
	if r.host, err = chilldkg.NewHostKey(scalar); err != nil {
		return nil, err
	}
	want := make([]bip340.PubKey, len(old.Hosts))
	for id := range want {
		switch c := r.cold[id]; {
		case id == st.ID:
			want[id] = r.host.PubKey()
		case id == vigilID:
			continue
		default:
			if want[id], err = c.heal(r.number, seed != nil); err != nil {
				return nil, err
			}
		}
		if seed != nil {
			req.Hosts = append(req.Hosts, slices.Clone(want[id][:]))
		}
	}
	var begun vigilpb.BeginRefreshAnswer
	if err := w.askEpoch(ctx, old.Number, "BeginRefresh", req, &begun); err != nil {
		return nil, err
	}
	r.session = begun.Session
	return r, w.begunRefresh(r, &begun, want, seed != nil)
}

// begunRefresh holds what Vigil has begun against what was asked for.
func (w *Wallet) begunRefresh(r *refreshing, begun *vigilpb.BeginRefreshAnswer, want []bip340.PubKey, healing bool) error {
	info, err := r.old.info()
	if err != nil {
		return err
	}
	before, err := r.old.hostKeys()
	if err != nil {
		return err
	}
	if r.hosts, err = (&epoch{Hosts: begun.Hosts}).hostKeys(); err != nil {
		return fmt.Errorf("%w: %w", ErrVigil, err)
	}
	if r.params, err = refresh.NewParams(info, r.old.Record, before, r.hosts); err != nil {
		return fmt.Errorf("%w: %w", ErrVigil, err)
	}
	want[vigilID] = r.hosts[vigilID] // its own affair
	if begun.Epoch != r.number || r.params.Epoch() != r.number || r.params.Healing() != healing || !slices.Equal(r.hosts, want) {
		return fmt.Errorf("%w: another refresh than was asked for", ErrVigil)
	}
	return nil
}

// certifyRefresh runs the ceremony up to the certificate: the new epoch is the
// active one from then on, the old one retiring.
func (w *Wallet) certifyRefresh(ctx context.Context, r *refreshing) error {
	one, pmsg1, err := refresh.Step1(r.host, r.params)
	if err != nil {
		return err
	}
	first := &vigilpb.RefreshRequest{Session: r.session}
	if first.Pmsgs1, err = w.messages(r, pmsg1, func(c *ColdShare) ([]byte, error) { return c.refresh1(r.params) }); err != nil {
		return err
	}
	var sums vigilpb.RefreshAnswer
	if err := w.askHost(ctx, "Refresh", first, &sums); err != nil {
		return err
	}
	share, err := w.store.Get(ctx, named(nameShare, r.old.Number))
	if err != nil {
		return err
	}
	defer share.Burn()
	two, pmsg2, err := one.Step2(r.host, r.was, share, sums.Cmsg1)
	if err != nil {
		return err
	}
	second := &vigilpb.CertifyRefreshRequest{Session: r.session}
	if second.Pmsgs2, err = w.messages(r, pmsg2, func(c *ColdShare) ([]byte, error) { return c.refresh2(sums.Cmsg1) }); err != nil {
		return err
	}
	// Vigil may have a certificate as soon as it hears from here.
	if err := w.store.Put(ctx, named(nameShare, r.number), two.Pending().Share); err != nil {
		return err
	}
	err = w.update(ctx, func(st *state) (err error) {
		if st.Cutover, err = st.Cutover.Prepare(); err != nil {
			return err
		}
		st.Epochs = []epoch{r.old, {Number: r.number, Hosts: hostBytes(r.hosts), Record: two.Transcript()}}
		return nil
	})
	if err != nil {
		return err
	}
	var cert vigilpb.CertifyRefreshAnswer
	if err := w.askHost(ctx, "CertifyRefresh", second, &cert); err != nil {
		return err
	}
	out, record, err := two.Finalize(cert.Cmsg2)
	if err != nil {
		return err
	}
	defer out.Share.Burn()
	if err := refresh.VerifyAcknowledgment(record, vigilID, cert.Ack); err != nil {
		return fmt.Errorf("%w: its acknowledgment: %w", ErrVigil, err)
	}
	return w.activate(ctx, out, record)
}

// messages are those of all participants but Vigil, by their numbers.
func (w *Wallet) messages(r *refreshing, own []byte, of func(*ColdShare) ([]byte, error)) (list [][]byte, err error) {
	id := w.current().ID
	for seat, c := range r.cold {
		switch {
		case seat == id:
			list = append(list, own)
		case c != nil:
			msg, err := of(c)
			if err != nil {
				return nil, fmt.Errorf("the cold share of participant %d: %w", seat, err)
			}
			list = append(list, msg)
		}
	}
	return list, nil
}

// activate makes a certified epoch the one that is signed with.
func (w *Wallet) activate(ctx context.Context, out *refresh.Output, record []byte) error {
	number := out.Info.Epoch()
	if err := w.store.Put(ctx, named(nameShare, number), out.Share); err != nil {
		return err
	}
	err := w.update(ctx, func(st *state) (err error) {
		e, err := st.epoch(number)
		if err != nil {
			return err
		}
		e.Info, e.Record = out.Info.Encode(), record
		st.Cutover, err = st.Cutover.Certified(out.Info.Participants())
		return err
	})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.loadShare(ctx)
}

// finishRefresh takes up a refresh that broke off, wherever that was: the pending
// epoch becomes the active one or is abandoned by Vigil's word, and the retiring
// one is erased once everybody has said that he has the new one. For that cold shares
// must be at hand; until they are both epochs stay.
func (w *Wallet) finishRefresh(ctx context.Context, cold ...*ColdShare) error {
	if cut := w.current().Cutover; cut.Pending {
		if err := w.settlePending(ctx, cut.Active+1); err != nil {
			return err
		}
	}
	st := w.current()
	e, err := st.active()
	if err != nil || e.Number == 0 || st.Cutover.Pending {
		return err
	}
	seats, err := w.seated(ctx, *e, cold)
	if err != nil {
		return err
	}
	waiting := st.Cutover.Retiring && !(st.Cutover.Acked[st.ID] && st.Cutover.Acked[vigilID])
	if e.Handed && !waiting && len(cold) == 0 {
		return nil
	}
	return w.handIn(ctx, *e, seats)
}

// settlePending asks how a refresh ended whose certificate never came.
func (w *Wallet) settlePending(ctx context.Context, number uint32) error {
	e, err := w.current().epoch(number)
	if err != nil {
		return err
	}
	old, err := w.current().active()
	if err != nil {
		return err
	}
	var void vigilpb.VoidRefreshAnswer
	err = w.askHost(ctx, "VoidRefresh", &vigilpb.VoidRefreshRequest{Epoch: number, Transcript: e.Record}, &void)
	switch vigil.CodeOf(err) {
	case vigil.CodeEpochUnknown, vigil.CodeNotPermitted: // it has the next one, perhaps with other host keys
		return w.lateCertificate(ctx, number)
	}
	if err != nil {
		return err
	}
	if void.Epoch != number-1 {
		return fmt.Errorf("%w: it is at epoch %d", ErrVigil, void.Epoch)
	}
	// Of a healing refresh Vigil's own host key may be gone with the ceremony: then
	// the signed answer is its word, and nobody can make the certificate any more.
	if healing := !slices.EqualFunc(e.Hosts, old.Hosts, bytes.Equal); len(void.Void) > 0 || !healing {
		if err := refresh.VerifyVoid(e.Record, vigilID, void.Void); err != nil {
			return fmt.Errorf("%w: its word that it has not signed: %w", ErrVigil, err)
		}
	}
	err = w.update(ctx, func(st *state) (err error) {
		st.Cutover, err = st.Cutover.Abandon()
		st.Epochs = slices.DeleteFunc(st.Epochs, func(e epoch) bool { return e.Number == number })
		return err
	})
	return errors.Join(err, w.eraseEpoch(ctx, number))
}

// lateCertificate fetches the record of a refresh that Vigil certified.
func (w *Wallet) lateCertificate(ctx context.Context, number uint32) error {
	key, err := w.hostKey(ctx, number)
	if err != nil {
		return err
	}
	defer key.Burn()
	own := key.PubKey()
	var answer vigilpb.RecoverAnswer // without an identity key it only reads
	if err := w.vigil.ask(ctx, "Recover", caller{own[:], key, number}, &vigilpb.RecoverRequest{}, &answer); err != nil {
		return err
	}
	at := slices.IndexFunc(answer.Epochs, func(e *vigilpb.WalletEpoch) bool { return e.Number == number && e.Certified })
	if at < 0 {
		return fmt.Errorf("%w: it neither has epoch %d nor says so", ErrVigil, number)
	}
	// A certificate of what this device signed last, and of no refresh before that
	// Vigil called void.
	if e, err := w.current().epoch(number); err != nil || !bytes.HasPrefix(answer.Epochs[at].Record, e.Record) {
		return errors.Join(err, fmt.Errorf("%w: epoch %d is of another refresh", ErrVigil, number))
	}
	return w.certifiedBy(ctx, number, answer.Epochs[at].Record)
}

// certifiedBy takes up the pending epoch by its record, from wherever that came: all
// have signed it.
func (w *Wallet) certifiedBy(ctx context.Context, number uint32, record []byte) error {
	host, err := w.ceremonyKey(ctx, number)
	if err != nil {
		return err
	}
	defer host.Burn()
	share, err := w.store.Get(ctx, named(nameShare, number-1))
	if err != nil {
		return err
	}
	defer share.Burn()
	out, err := refresh.Apply(host, record, share)
	if err != nil {
		return err
	}
	defer out.Share.Burn()
	return w.activate(ctx, out, record)
}

// handIn tells Vigil who has the active epoch: the device, and the cold shares that
// are seated. It hands in their sealed shares, which their seeds alone open, and
// erases the epoch before when all have spoken.
func (w *Wallet) handIn(ctx context.Context, e epoch, seats []*ColdShare) error {
	id := w.current().ID
	host, err := w.ceremonyKey(ctx, e.Number)
	if err != nil {
		return err
	}
	defer host.Burn()
	info, err := e.info()
	if err != nil {
		return err
	}
	share, err := w.store.Get(ctx, named(nameShare, e.Number))
	if err != nil {
		return err
	}
	defer share.Burn()
	req := &vigilpb.AcknowledgeRefreshRequest{Epoch: e.Number}
	spoken := []int{vigilID}
	for seat, c := range seats {
		var ack, sealed []byte
		switch {
		case seat == vigilID:
			continue
		case seat == id:
			ack, sealed, err = acknowledgment(host, &refresh.Output{ID: id, Info: info, Share: share}, e.Record)
		case c != nil:
			ack, sealed, err = acknowledgment(c.own.host, c.out, e.Record)
		}
		if err != nil {
			return err
		}
		if ack != nil {
			spoken = append(spoken, seat)
		}
		req.Acks, req.Sealed = append(req.Acks, ack), append(req.Sealed, sealed)
	}
	var answer vigilpb.AcknowledgeRefreshAnswer
	if err := w.askHost(ctx, "AcknowledgeRefresh", req, &answer); err != nil {
		return err
	}
	if err := refresh.VerifyAcknowledgment(e.Record, vigilID, answer.Ack); err != nil {
		return fmt.Errorf("%w: its acknowledgment: %w", ErrVigil, err)
	}
	return w.handedIn(ctx, e.Number, spoken, answer.Sealed)
}

// acknowledgment is a participant's word that it has the epoch of a record, and its
// share, sealed to its host key.
func acknowledgment(host *chilldkg.HostKey, out *refresh.Output, record []byte) (ack, sealed []byte, err error) {
	if ack, err = refresh.Acknowledge(host, record); err != nil {
		return nil, nil, err
	}
	s, err := refresh.Seal(host, out, record)
	return ack, s[:], err
}

// handedIn records who has spoken for the active epoch, and lets the one before go
// when that is everybody.
func (w *Wallet) handedIn(ctx context.Context, number uint32, spoken []int, sealed []byte) error {
	over := false
	err := w.update(ctx, func(st *state) (err error) {
		for _, id := range spoken {
			if !st.Cutover.Retiring {
				break
			}
			if st.Cutover, err = st.Cutover.Acknowledged(id); err != nil {
				return err
			}
		}
		if over = !st.Cutover.Retiring; over {
			st.Epochs = slices.DeleteFunc(st.Epochs, func(e epoch) bool { return e.Number == number-1 })
		}
		e, err := st.epoch(number)
		if err != nil {
			return err
		}
		if e.Handed = true; len(sealed) == len(refresh.Sealed{}) {
			e.Sealed = sealed
		}
		return nil
	})
	if err != nil || !over {
		return err
	}
	return w.eraseEpoch(ctx, number-1)
}

// eraseEpoch destroys share and host key of an epoch that is over.
func (w *Wallet) eraseEpoch(ctx context.Context, number uint32) error {
	return errors.Join(w.store.Delete(ctx, named(nameShare, number)), w.store.Delete(ctx, named(nameHost, number)))
}
