package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/secret"
)

// Key is one epoch of a wallet's key as the caller's record has it.
type Key struct {
	Info   *frost.Info
	Hosts  []bip340.PubKey // the participants' host keys
	Record []byte          // recovery data of the key ceremony, or the record of the refresh that made the epoch
}

func (k Key) wallet() vigil.WalletID { return vigil.WalletID(k.Info.PubKey().XOnly()) }

// acknowledge signs that Vigil has the epoch.
func (k Key) acknowledge(h held) ([]byte, error) {
	host, err := hostKey(h.host)
	if err != nil {
		return nil, err
	}
	defer host.Burn()
	if k.Info.Epoch() > 0 {
		return refresh.Acknowledge(host, k.Record)
	}
	_, params, err := chilldkg.RecoverPublic(k.Record)
	if err != nil {
		return nil, err
	}
	return chilldkg.Acknowledge(host, params, k.Record)
}

// reshare is a refresh under way, with Vigil as participant and coordinator: its
// own second message leaves inside the certificate, so that there is no time at
// which it has signed and does not know how the refresh ended.
type reshare struct {
	old     Key
	hosts   []bip340.PubKey
	fresh   *chilldkg.HostKey // Vigil's new host key; nil for hygiene, which keeps the old one
	params  *refresh.Params
	session *refresh.Session
	own     *refresh.Participant2
	pmsg2   []byte
	done    *Refreshed
}

func (r *reshare) burn() {
	if r.fresh != nil {
		r.fresh.Burn()
	}
	if r.own != nil {
		r.own.Pending().Share.Burn()
	}
}

// Refreshed is a new epoch whose secrets are in memory alone.
type Refreshed struct {
	Info   *frost.Info
	Hosts  []bip340.PubKey
	Record []byte
	Cmsg2  []byte         // leaves only when the wallet's row is durable
	Sealed refresh.Sealed // Vigil's share, sealed to its new host key
}

// BeginRefresh begins the refresh of a wallet's active epoch. hosts are the others'
// new host keys, with a zero in Vigil's place, to heal; nil keeps all, which is
// hygiene. It returns Vigil's host key of the new epoch, and ends the wallet's other
// refreshes. Errors are ErrRequest,
// ErrCeremonies, ErrEpoch, refresh.ErrParams, delegate.ErrSecretMissing and
// ErrSecretWrong; any other is a store that is down.
func (cs *Ceremonies) BeginRefresh(ctx context.Context, owner bip340.PubKey, old Key, hosts []bip340.PubKey) (frost.SessionID, bip340.PubKey, error) {
	fail := func(err error) (frost.SessionID, bip340.PubKey, error) {
		return frost.SessionID{}, bip340.PubKey{}, err
	}
	if err := cs.signer.holds(ctx, old); err != nil {
		return fail(err)
	}
	r := &reshare{old: old, hosts: slices.Clone(old.Hosts)}
	if hosts != nil {
		if err := cs.seats(hosts); err != nil {
			return fail(err)
		}
		host, err := drawHost()
		if err != nil {
			return fail(err)
		}
		r.fresh, r.hosts = host, slices.Clone(hosts)
		r.hosts[Own] = host.PubKey()
	}
	var err error
	if r.params, err = refresh.NewParams(old.Info, old.Record, old.Hosts, r.hosts); err != nil {
		r.burn()
		return fail(err)
	}
	id, err := cs.begin(owner, r)
	if err == nil {
		cs.alone(r) // of two that begin at once both may end, and never none
	}
	return id, r.hosts[Own], err
}

// alone ends every other refresh of r's wallet: two that were certified one after
// the other would both make the same epoch, of different shares.
func (cs *Ceremonies) alone(r *reshare) {
	cs.take(func(c *ceremony) bool {
		other, ok := c.act.(*reshare)
		return ok && other != r && other.old.wallet() == r.old.wallet()
	})
}

// holds says whether Vigil has its share and host key of an epoch.
func (s *Signer) holds(ctx context.Context, k Key) error {
	return s.withEpoch(ctx, k, func(host *chilldkg.HostKey, _ held) error {
		if len(k.Hosts) <= Own || host.PubKey() != k.Hosts[Own] {
			return fmt.Errorf("%w: %s: its host key is not the record's", delegate.ErrSecretWrong, dkgName(k.wallet()))
		}
		return nil
	})
}

// withEpoch opens an epoch for as long as f runs, its share checked against the
// record.
func (s *Signer) withEpoch(ctx context.Context, k Key, f func(host *chilldkg.HostKey, h held) error) error {
	hs, err := s.holding(ctx, k.wallet())
	if err != nil {
		return &storeError{err}
	}
	defer hs.burn()
	h, err := hs.of(k.Info.Epoch())
	if err != nil {
		return err
	}
	share, err := frost.NewShare(k.Info, Own, h.share)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", delegate.ErrSecretWrong, dkgName(k.wallet()), err)
	}
	share.Burn()
	host, err := hostKey(h.host)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", delegate.ErrSecretWrong, dkgName(k.wallet()), err)
	}
	defer host.Burn()
	return f(host, h)
}

// Refresh takes the others' first messages, by their number, and returns the
// coordinator's. Errors are ErrCeremony, those of refresh.Coordinate and Step2,
// and a store's.
func (cs *Ceremonies) Refresh(ctx context.Context, session frost.SessionID, owner bip340.PubKey, pmsgs1 [][]byte) (cmsg1 []byte, err error) {
	err = step(cs, session, owner, func(r *reshare) error {
		if r.own != nil {
			return fmt.Errorf("%w: it has its first messages", ErrCeremony)
		}
		return cs.signer.withEpoch(ctx, r.old, func(old *chilldkg.HostKey, h held) error {
			cmsg1, err = r.contribute(old, h.share, pmsgs1)
			return err
		})
	})
	return cmsg1, err
}

// contribute makes both of Vigil's messages.
func (r *reshare) contribute(old *chilldkg.HostKey, share secret.Bytes, pmsgs1 [][]byte) ([]byte, error) {
	host := old
	if r.fresh != nil {
		host = r.fresh
	}
	if len(pmsgs1) != len(r.hosts) {
		return nil, fmt.Errorf("%w: %d first messages of %d participants", chilldkg.ErrLength, len(pmsgs1), len(r.hosts))
	}
	p1, own, err := refresh.Step1(host, r.params)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(pmsgs1)
	all[Own] = own
	coordinator, cmsg1, err := refresh.Coordinate(r.params, all)
	if err != nil {
		return nil, err
	}
	p2, pmsg2, err := p1.Step2(host, old, share, cmsg1)
	if err != nil {
		return nil, err
	}
	r.session, r.own, r.pmsg2 = coordinator, p2, pmsg2
	return cmsg1, nil
}

// ReadyRefresh takes the others' second messages and returns the new epoch. Nothing
// is stored yet, and Cmsg2 must not leave: the caller calls KeepRefresh, then
// stores the wallet's row with both epochs. It may be called again. Errors are
// ErrCeremony, those of refresh's Session.Finalize, and a store's.
func (cs *Ceremonies) ReadyRefresh(ctx context.Context, session frost.SessionID, owner bip340.PubKey, pmsgs2 [][]byte) (done Refreshed, err error) {
	err = step(cs, session, owner, func(r *reshare) error {
		if r.own == nil {
			return fmt.Errorf("%w: its first messages are missing", ErrCeremony)
		}
		if len(pmsgs2) != len(r.hosts) {
			return fmt.Errorf("%w: %d second messages of %d participants", chilldkg.ErrLength, len(pmsgs2), len(r.hosts))
		}
		all := slices.Clone(pmsgs2)
		all[Own] = r.pmsg2
		cmsg2, record, err := r.session.Finalize(all)
		if err != nil {
			return err
		}
		return cs.signer.withEpoch(ctx, r.old, func(old *chilldkg.HostKey, _ held) error {
			host := old
			if r.fresh != nil {
				host = r.fresh
			}
			sealed, err := refresh.Seal(host, r.own.Pending(), record)
			if err != nil {
				return err
			}
			done = Refreshed{Info: r.own.Pending().Info, Hosts: slices.Clone(r.hosts), Record: record, Cmsg2: cmsg2, Sealed: sealed}
			r.done = &done
			return nil
		})
	})
	return done, err
}

// KeepRefresh stores the new epoch beside the old one, in one write. It may be
// repeated. Until the caller's row names the new epoch Vigil signs with the old
// one, and from then on with either, until Erase. Errors are ErrCeremony, ErrEpoch
// when the old epoch is not there, and a store's.
func (cs *Ceremonies) KeepRefresh(ctx context.Context, session frost.SessionID, owner bip340.PubKey) error {
	return step(cs, session, owner, func(r *reshare) error {
		if r.done == nil {
			return fmt.Errorf("%w: the refresh is not certified", ErrCeremony)
		}
		return cs.signer.addEpoch(ctx, r)
	})
}

func (s *Signer) addEpoch(ctx context.Context, r *reshare) error {
	s.epochs.Lock()
	defer s.epochs.Unlock()
	w := r.old.wallet()
	hs, err := s.holding(ctx, w)
	if err != nil {
		return &storeError{err}
	}
	defer hs.burn()
	old, err := hs.of(r.old.Info.Epoch())
	if err != nil {
		return err
	}
	fresh := held{epoch: r.done.Info.Epoch(), host: old.host, share: r.own.Pending().Share}
	if r.fresh != nil {
		err := r.fresh.Use(func(d []byte) error {
			fresh.host = secret.New(slices.Clone(d))
			return nil
		})
		if err != nil {
			return err
		}
		defer fresh.host.Burn()
	}
	// What else is there is an epoch that no row ever named, or one that all have
	// left behind.
	if err := s.keep(ctx, w, holding{old, fresh}); err != nil {
		return &storeError{err}
	}
	return nil
}

// Void gives Vigil's word that the refresh of k's epoch with this transcript was
// never certified and never will be, so that a device which signed it, and heard
// nothing more, may abandon its pending epoch. k is the epoch that the caller's row
// has as its newest; no other step of the wallet may run meanwhile. It first ends the wallet's refreshes in memory and destroys a
// share that no row names. The signature is by Vigil's host key of the new epoch;
// when that was drawn for the lost ceremony it is gone, and the result is nil:
// without it nobody can ever make the certificate, and the caller's signed answer
// says so. Errors are refresh.ErrRecord, ErrEpoch, delegate.ErrSecretMissing and
// ErrSecretWrong; any other is a store that is down.
func (cs *Ceremonies) Void(ctx context.Context, k Key, transcript []byte) ([]byte, error) {
	w := k.wallet()
	cs.alone(&reshare{old: k})
	if err := cs.signer.retain(ctx, w, k.Info.Epoch(), true); err != nil {
		return nil, err
	}
	var void []byte
	err := cs.signer.withEpoch(ctx, k, func(host *chilldkg.HostKey, _ held) (err error) {
		void, err = refresh.Void(host, transcript)
		if errors.Is(err, chilldkg.ErrHostKey) {
			void, err = nil, nil
		}
		return err
	})
	return void, err
}
