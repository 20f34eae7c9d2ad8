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

// ErrCold is returned for a refresh of a wallet that has cold shares: all of them
// would have to take part, which this device cannot arrange.
var ErrCold = errors.New("client: the wallet has cold shares, which a refresh needs at hand")

// Refresh changes the shares of the wallet's key; key, address and coins stay.
// Without a seed it is hygiene: the host keys stay, and with an old one and the
// old record the old share could be made again. With the seed it heals: the host
// keys change too, so that what a thief took before is of no use, provided that
// it was not both shares. A refresh that breaks off at any point is taken up by
// the next call; meanwhile the wallet signs with an epoch that both sides have.
func (w *Wallet) Refresh(ctx context.Context, seed *Seed) error {
	w.spending.Lock()
	defer w.spending.Unlock()
	if err := w.confirmed(); err != nil {
		return err
	}
	if err := w.finishRefresh(ctx); err != nil {
		return err
	}
	e, err := w.st.active()
	if err != nil {
		return err
	}
	if len(e.Hosts) != 2 {
		return ErrCold
	}
	r, err := w.beginRefresh(ctx, *e, seed)
	if behind(err) {
		if err = w.catchUp(ctx, err); err == nil {
			err = w.finishRefresh(ctx) // it keeps the epoch before until then
		}
		if err == nil {
			r, err = w.beginRefresh(ctx, *e, seed)
		}
	}
	if err != nil {
		return err
	}
	defer r.burn()
	if err := w.certifyRefresh(ctx, r); err != nil {
		return err
	}
	return w.finishRefresh(ctx)
}

// refreshing is a refresh between its begin and its certificate.
type refreshing struct {
	old       epoch
	session   []byte
	number    uint32
	hosts     []bip340.PubKey
	params    *refresh.Params
	host, was *chilldkg.HostKey
}

func (r *refreshing) burn() {
	r.host.Burn()
	r.was.Burn()
}

// beginRefresh opens the ceremony; nothing is changed yet.
func (w *Wallet) beginRefresh(ctx context.Context, old epoch, seed *Seed) (r *refreshing, err error) {
	r = &refreshing{old: old, number: old.Number + 1}
	if r.was, err = w.ceremonyKey(ctx, old.Number); err != nil {
		return nil, err
	}
	req := &vigilpb.BeginRefreshRequest{Healing: seed != nil}
	var scalar secret.Bytes
	if seed != nil {
		scalar, err = seed.host(w.st.Network, r.number)
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
	own := r.host.PubKey()
	if seed != nil {
		req.Hosts = [][]byte{own[:]}
	}
	var begun vigilpb.BeginRefreshAnswer
	if err := w.askEpoch(ctx, old.Number, "BeginRefresh", req, &begun); err != nil {
		return nil, err
	}
	r.session = begun.Session
	info, err := old.info()
	if err != nil {
		return nil, err
	}
	before, err := old.hostKeys()
	if err != nil {
		return nil, err
	}
	if r.hosts, err = (&epoch{Hosts: begun.Hosts}).hostKeys(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrVigil, err)
	}
	if r.params, err = refresh.NewParams(info, old.Record, before, r.hosts); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrVigil, err)
	}
	if begun.Epoch != r.number || r.params.Epoch() != r.number || r.params.Healing() != (seed != nil) || r.hosts[w.st.ID] != own {
		return nil, fmt.Errorf("%w: another refresh than was asked for", ErrVigil)
	}
	return r, nil
}

// certifyRefresh runs the ceremony up to the certificate: the new epoch is the
// active one from then on, the old one retiring.
func (w *Wallet) certifyRefresh(ctx context.Context, r *refreshing) error {
	one, pmsg1, err := refresh.Step1(r.host, r.params)
	if err != nil {
		return err
	}
	var sums vigilpb.RefreshAnswer
	if err := w.askHost(ctx, "Refresh", &vigilpb.RefreshRequest{Session: r.session, Pmsgs1: [][]byte{pmsg1}}, &sums); err != nil {
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
	err = w.askHost(ctx, "CertifyRefresh", &vigilpb.CertifyRefreshRequest{Session: r.session, Pmsgs2: [][]byte{pmsg2}}, &cert)
	if err != nil {
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
// one is erased once both sides have said that they have the new one.
func (w *Wallet) finishRefresh(ctx context.Context) error {
	w.mu.Lock()
	cut := w.st.Cutover
	w.mu.Unlock()
	if cut.Pending {
		if err := w.settlePending(ctx, cut.Active+1); err != nil {
			return err
		}
	}
	w.mu.Lock()
	cut = w.st.Cutover
	w.mu.Unlock()
	if cut.Active == 0 || cut.Pending {
		return nil
	}
	e, err := w.st.active()
	if err != nil || e.Handed && !cut.Retiring {
		return err
	}
	return w.handIn(ctx, *e, cut)
}

// settlePending asks how a refresh ended whose certificate never came.
func (w *Wallet) settlePending(ctx context.Context, number uint32) error {
	e, err := w.st.epoch(number)
	if err != nil {
		return err
	}
	old, err := w.st.active()
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
	active := number - 1
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
	if e, err := w.st.epoch(number); err != nil || !bytes.HasPrefix(answer.Epochs[at].Record, e.Record) {
		return errors.Join(err, fmt.Errorf("%w: epoch %d is of another refresh", ErrVigil, number))
	}
	host, err := w.ceremonyKey(ctx, number)
	if err != nil {
		return err
	}
	defer host.Burn()
	share, err := w.store.Get(ctx, named(nameShare, active))
	if err != nil {
		return err
	}
	defer share.Burn()
	out, err := refresh.Apply(host, answer.Epochs[at].Record, share)
	if err != nil {
		return err
	}
	defer out.Share.Burn()
	return w.activate(ctx, out, answer.Epochs[at].Record)
}

// handIn tells Vigil that the device has the active epoch, hands in its sealed
// share, which the seed alone opens, and erases the epoch before.
func (w *Wallet) handIn(ctx context.Context, e epoch, cut refresh.Cutover) error {
	host, err := w.ceremonyKey(ctx, e.Number)
	if err != nil {
		return err
	}
	defer host.Burn()
	ack, err := refresh.Acknowledge(host, e.Record)
	if err != nil {
		return err
	}
	info, err := e.info()
	if err != nil {
		return err
	}
	share, err := w.store.Get(ctx, named(nameShare, e.Number))
	if err != nil {
		return err
	}
	defer share.Burn()
	sealed, err := refresh.Seal(host, &refresh.Output{ID: w.st.ID, Info: info, Share: share}, e.Record)
	if err != nil {
		return err
	}
	var answer vigilpb.AcknowledgeRefreshAnswer
	err = w.askHost(ctx, "AcknowledgeRefresh", &vigilpb.AcknowledgeRefreshRequest{
		Epoch: e.Number, Acks: [][]byte{ack}, Sealed: [][]byte{sealed[:]},
	}, &answer)
	if err != nil {
		return err
	}
	if err := refresh.VerifyAcknowledgment(e.Record, vigilID, answer.Ack); err != nil {
		return fmt.Errorf("%w: its acknowledgment: %w", ErrVigil, err)
	}
	old := e.Number - 1
	err = w.update(ctx, func(st *state) (err error) {
		if cut.Retiring {
			for _, id := range []int{st.ID, vigilID} {
				if st.Cutover, err = st.Cutover.Acknowledged(id); err != nil {
					return err
				}
			}
		}
		st.Epochs = slices.DeleteFunc(st.Epochs, func(e epoch) bool { return e.Number == old })
		for i := range st.Epochs {
			if st.Epochs[i].Handed = true; len(answer.Sealed) == len(refresh.Sealed{}) {
				st.Epochs[i].Sealed = answer.Sealed
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.eraseEpoch(ctx, old)
}

// eraseEpoch destroys share and host key of an epoch that is over.
func (w *Wallet) eraseEpoch(ctx context.Context, number uint32) error {
	return errors.Join(w.store.Delete(ctx, named(nameShare, number)), w.store.Delete(ctx, named(nameHost, number)))
}
