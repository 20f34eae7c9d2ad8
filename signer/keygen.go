package signer

import (
	"context"
	"fmt"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/secret"
)

// keygen is the making of a wallet's key, with Vigil as participant and
// coordinator.
type keygen struct {
	host     *chilldkg.HostKey
	params   *chilldkg.Params
	serving  *chilldkg.Serving
	made     *Made
	share    secret.Bytes // from made on; the serving's
	delegate secret.Bytes // likewise, drawn for the wallet
}

func (k *keygen) burn() {
	k.host.Burn()
	k.delegate.Burn()
	if k.serving != nil {
		k.serving.Burn()
	}
}

// Made is a wallet whose secrets are in memory alone.
type Made struct {
	Wallet      vigil.WalletID
	Info        *frost.Info // epoch 0
	Hosts       []bip340.PubKey
	Recovery    []byte
	Cmsg2       []byte // leaves only when the wallet's row is durable
	DelegateKey bip340.PubKey
	Names       []string // of the secrets that Keep will store
}

// BeginKeygen begins a wallet of t among the holders of hosts: the device first,
// then a zero where Vigil's own key comes, then the owner's cold shares. Vigil's
// is drawn for this wallet and returned. Errors are ErrRequest, ErrCeremonies and
// those of chilldkg.NewParams.
func (cs *Ceremonies) BeginKeygen(owner bip340.PubKey, hosts []bip340.PubKey, t int) (frost.SessionID, bip340.PubKey, error) {
	if err := cs.seats(hosts); err != nil {
		return frost.SessionID{}, bip340.PubKey{}, err
	}
	if t < 2 {
		return frost.SessionID{}, bip340.PubKey{}, fmt.Errorf("%w: threshold %d; no one share may sign alone", ErrRequest, t)
	}
	host, err := drawHost()
	if err != nil {
		return frost.SessionID{}, bip340.PubKey{}, err
	}
	all := append([]bip340.PubKey(nil), hosts...)
	all[Own] = host.PubKey()
	params, err := chilldkg.NewParams(t, all)
	if err != nil {
		host.Burn()
		return frost.SessionID{}, bip340.PubKey{}, err
	}
	id, err := cs.begin(owner, &keygen{host: host, params: params})
	return id, all[Own], err
}

// seats checks who takes part: at least the device and Vigil, whose place is free.
func (cs *Ceremonies) seats(hosts []bip340.PubKey) error {
	if len(hosts) <= Own || len(hosts) > cs.limits.Participants || hosts[Own] != (bip340.PubKey{}) {
		return fmt.Errorf("%w: %d participants, 2 to %d are taken, and place %d is this server's", ErrRequest, len(hosts), cs.limits.Participants, Own)
	}
	return nil
}

// Keygen takes the others' first messages, by their number, and returns the
// coordinator's. Errors are ErrCeremony and those of chilldkg.Serve.
func (cs *Ceremonies) Keygen(session frost.SessionID, owner bip340.PubKey, pmsgs1 [][]byte) (cmsg1 []byte, err error) {
	err = step(cs, session, owner, func(k *keygen) error {
		if k.serving != nil {
			return fmt.Errorf("%w: it has its first messages", ErrCeremony)
		}
		k.serving, cmsg1, err = chilldkg.Serve(k.host, k.params, pmsgs1)
		return err
	})
	return cmsg1, err
}

// Ready takes the others' second messages and returns the finished wallet. Nothing
// is stored yet, and Cmsg2 must not leave: the caller first makes Names garbage
// from some later time on, then calls Keep, then stores the wallet's row, which
// takes that garbage back. It may be called again. Errors are ErrCeremony and those
// of chilldkg's Serving.Certify.
func (cs *Ceremonies) Ready(session frost.SessionID, owner bip340.PubKey, pmsgs2 [][]byte) (made Made, err error) {
	err = step(cs, session, owner, func(k *keygen) error {
		if k.serving == nil {
			return fmt.Errorf("%w: its first messages are missing", ErrCeremony)
		}
		cmsg2, out, recovery, err := k.serving.Certify(pmsgs2)
		if err != nil {
			return err
		}
		if k.made == nil {
			info, err := out.Info()
			if err != nil {
				return err
			}
			key, scalar, err := bip340.GenerateKey()
			if err != nil {
				return fmt.Errorf("draw a delegate key: %w", err)
			}
			key.Burn()
			w := vigil.WalletID(info.PubKey().XOnly())
			k.share, k.delegate = out.Share, scalar
			k.made = &Made{
				Wallet: w, Info: info, Hosts: k.params.HostPubKeys(), Recovery: recovery, Cmsg2: cmsg2,
				DelegateKey: key.PubKey(), Names: walletSecrets(w),
			}
		}
		made = *k.made
		return nil
	})
	return made, err
}

// Keep stores the secrets of a wallet that is Ready. It may be repeated; the
// ceremony stays until Forget or its deadline, so that what was made can be made
// durable at a second attempt. Errors are ErrCeremony and those of the store.
func (cs *Ceremonies) Keep(ctx context.Context, session frost.SessionID, owner bip340.PubKey) error {
	return step(cs, session, owner, func(k *keygen) error {
		if k.made == nil {
			return fmt.Errorf("%w: the wallet is not made", ErrCeremony)
		}
		return k.host.Use(func(d []byte) error {
			host := secret.New(append([]byte(nil), d...))
			defer host.Burn()
			if err := cs.signer.keep(ctx, k.made.Wallet, holding{{epoch: 0, host: host, share: k.share}}); err != nil {
				return &storeError{err}
			}
			if err := cs.signer.store.Put(ctx, delegateName(k.made.Wallet), k.delegate); err != nil {
				return &storeError{fmt.Errorf("store %s: %w", delegateName(k.made.Wallet), err)}
			}
			return nil
		})
	})
}

// NewTreeKey draws the tree key of a delegate that is being prepared, stores it and
// returns its public half. The caller has made TreeNames(id) garbage from some
// later time on.
func (s *Signer) NewTreeKey(ctx context.Context, id vigil.DelegateID) (bip340.PubKey, error) {
	return s.draw(ctx, treeName(id))
}
