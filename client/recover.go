package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/vigilpb"
)

// maxEpochs bounds the search for the host key of a wallet whose host keys were
// changed by healing refreshes.
const maxEpochs = 32

// RecoverOptions are what a new device may be told beside the seed.
type RecoverOptions struct {
	// Name of the device, for its owner.
	Name string
	// Backup of the wallet. It is needed when the seed is that of a cold share,
	// which does not know the wallet's recovery key.
	Backup *Backup
}

// Recover makes a new device of the seed, or of that of a cold share: Vigil hands
// over the recovery data, enrols the new device's identity key and freezes all
// others at once. Removing those takes ConfirmRecovery, after the cool-down that
// Vigil announces.
func Recover(ctx context.Context, cfg Config, seed Seed, opt RecoverOptions) (*Wallet, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if _, err := (store{cfg.Store}).load(ctx); !errors.Is(err, ErrNoWallet) {
		if err == nil {
			err = ErrExists
		}
		return nil, err
	}
	n, err := search(ctx, cfg, seed)
	if err != nil {
		return nil, err
	}
	w, err := begin(ctx, cfg, seed, n)
	if err != nil {
		return nil, err
	}
	key, err := w.hostKey(ctx, n)
	if err == nil {
		err = w.restore(ctx, key, CreateOptions{Name: opt.Name}, opt.Backup, &seed)
		key.Burn()
	}
	if err != nil {
		w.Close()
		// A device without a wallet is none: the next try begins anew.
		return nil, errors.Join(err, w.store.Delete(ctx, named(nameHost, n)), w.store.Delete(ctx, nameIdentity), w.store.Delete(ctx, nameState))
	}
	return w, nil
}

// search finds out which of the seed's host keys the wallet has now: Vigil tells
// what it keeps to any of them, and changes nothing by it.
func search(ctx context.Context, cfg Config, seed Seed) (uint32, error) {
	w := &Wallet{cfg: cfg, store: store{cfg.Store}}
	defer w.Close()
	if err := w.meet(ctx); err != nil {
		return 0, err
	}
	var last error
	for n := range uint32(maxEpochs) {
		scalar, err := seed.host(w.st.Network, n)
		if err != nil {
			return 0, err
		}
		key, err := bip340.NewKey(scalar)
		scalar.Burn()
		if err != nil {
			return 0, err
		}
		own := key.PubKey()
		var answer vigilpb.RecoverAnswer
		err = w.vigil.ask(ctx, "Recover", caller{own[:], key, n}, &vigilpb.RecoverRequest{}, &answer)
		key.Burn()
		if code := vigil.CodeOf(err); err != nil && code != vigil.CodeNotPermitted && code != vigil.CodeNotFound {
			return 0, err
		}
		if err != nil {
			last = cmp.Or(last, err)
			continue
		}
		for _, e := range answer.Epochs {
			if e.Number == answer.Active && slices.ContainsFunc(e.Hosts, func(h []byte) bool { return bytes.Equal(h, own[:]) }) {
				return n, nil
			}
		}
	}
	return 0, cmp.Or(last, fmt.Errorf("%w: its wallet is of another device", ErrVigil))
}

// restore takes over what Vigil keeps for the host key. A seed helps when the last
// healing refresh broke off.
func (w *Wallet) restore(ctx context.Context, key *bip340.Key, opt CreateOptions, backup *Backup, seed *Seed) error {
	own, identity := key.PubKey(), w.identity.PubKey()
	var answer vigilpb.RecoverAnswer
	err := w.vigil.ask(ctx, "Recover", caller{own[:], key, w.st.Cutover.Active}, &vigilpb.RecoverRequest{IdentityKey: identity[:], Name: opt.Name}, &answer)
	if err != nil {
		return err
	}
	last, err := w.restoreEpochs(ctx, &answer, seed)
	if err != nil {
		return err
	}
	if last.id != deviceID {
		// A cold share's seed has another recovery key: the owner's backup has the
		// wallet's.
		if backup == nil {
			return fmt.Errorf("%w: the seed is that of a cold share; the wallet's backup is needed", ErrSeed)
		}
		own, err := descriptor.Parse(backup.Descriptor)
		if err != nil {
			return err
		}
		if err := w.update(ctx, func(st *state) error { st.RecoveryKey = own.Recovery[:]; return nil }); err != nil {
			return err
		}
	}
	var d descriptor.Descriptor
	if backup == nil {
		d, err = w.checkDescriptor(ctx, last.key, answer.GetDescriptor_(), opt.RecoveryDelay)
	} else { // the operator's delays may be others today than when the wallet was made
		d, err = w.checkBackup(last.key, answer.GetDescriptor_(), *backup)
	}
	if err != nil {
		return err
	}
	x := last.key.XOnly()
	if string(answer.Wallet) != string(x[:]) {
		return fmt.Errorf("%w: wallet %x, its key is %s", ErrVigil, answer.Wallet, x)
	}
	err = w.update(ctx, func(st *state) error {
		st.ID, st.Threshold = last.id, last.threshold
		st.Epochs, st.Cutover = []epoch{last.epoch}, refresh.Cutover{Active: last.Number}
		st.Wallet, st.Descriptor = x[:], d.Encode()
		// Create acknowledges by itself, whatever Vigil says of it.
		st.Acknowledged = answer.State != statePending && (seed != nil || last.Number > 0)
		return nil
	})
	if err != nil {
		return err
	}
	if err := w.reload(ctx); err != nil {
		return err
	}
	if !w.st.Acknowledged {
		return w.acknowledge(ctx, opt.Cold)
	}
	return w.finishRefresh(ctx)
}

// checkBackup accepts the scripts of the owner's backup if they are of the key and
// the seed, and Vigil's word for them is the same.
func (w *Wallet) checkBackup(group bip340.PubKey, described []byte, backup Backup) (descriptor.Descriptor, error) {
	d, err := descriptor.Parse(backup.Descriptor)
	if err != nil {
		return d, err
	}
	if d.Group != group || d.Network != w.st.Network || !bytes.Equal(d.Recovery[:], w.st.RecoveryKey) || !bytes.Equal(d.Signer[:], w.st.Signer[1:]) {
		return d, fmt.Errorf("%w: the backup is of another wallet", ErrSeed)
	}
	if !bytes.Equal(d.Encode(), described) {
		return d, fmt.Errorf("%w: other scripts than those of the backup", ErrVigil)
	}
	return d, nil
}

// statePending is Vigil's word for a wallet that waits for acknowledgments.
const statePending = "pending"

// restored is an epoch made again.
type restored struct {
	epoch
	key           bip340.PubKey
	id, threshold int
}

// restoreEpochs makes the share of the latest certified epoch again, and keeps it
// with its host key.
func (w *Wallet) restoreEpochs(ctx context.Context, answer *vigilpb.RecoverAnswer, seed *Seed) (last restored, err error) {
	if len(answer.Epochs) == 0 || len(answer.Epochs) > 2 {
		return last, fmt.Errorf("%w: %d epochs", ErrVigil, len(answer.Epochs))
	}
	hosts, err := w.candidates(ctx, seed)
	if err != nil {
		return last, err
	}
	var share secret.Bytes
	var host uint32
	defer func() {
		share.Burn()
		for _, h := range hosts {
			h.Burn()
		}
		for _, h := range hosts {
			h.Burn()
		}
	}()
	for _, e := range answer.Epochs {
		if !e.Certified {
			continue // nobody may sign with it
		}
		for n, h := range hosts {
			got, s, err := restoreEpoch(h, e, share)
			if errors.Is(err, chilldkg.ErrHostKey) {
				continue
			}
			if err != nil {
				return last, fmt.Errorf("epoch %d: %w", e.Number, err)
			}
			if last.key != (bip340.PubKey{}) && last.key != got.key {
				return last, fmt.Errorf("%w: two epochs of two keys", ErrVigil)
			}
			share.Burn()
			last, share, host = got, s, n
		}
	}
	if last.key == (bip340.PubKey{}) {
		return last, fmt.Errorf("%w: no epoch of this device", ErrVigil)
	}
	scalar, err := w.hostScalar(ctx, seed, host)
	if err != nil {
		return last, err
	}
	defer scalar.Burn()
	return last, errors.Join(w.store.Put(ctx, named(nameShare, last.Number), share), w.store.Put(ctx, named(nameHost, last.Number), scalar))
}

// candidates are the host keys that the device may have had, by the index that
// the seed has them under: its own, and with a seed all before it.
func (w *Wallet) candidates(ctx context.Context, seed *Seed) (map[uint32]*chilldkg.HostKey, error) {
	active := w.st.Cutover.Active
	first := active
	if seed != nil {
		first = 0
	}
	out := map[uint32]*chilldkg.HostKey{}
	for n := first; n <= active; n++ {
		scalar, err := w.hostScalar(ctx, seed, n)
		if err != nil {
			return nil, err
		}
		if out[n], err = chilldkg.NewHostKey(scalar); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (w *Wallet) hostScalar(ctx context.Context, seed *Seed, n uint32) (secret.Bytes, error) {
	if seed != nil {
		return seed.host(w.st.Network, n)
	}
	return w.store.Get(ctx, named(nameHost, n))
}

// restoreEpoch makes an epoch's share of its record: sealed, or from the share of
// the epoch before when it was never handed in.
func restoreEpoch(host *chilldkg.HostKey, e *vigilpb.WalletEpoch, before secret.Bytes) (out restored, share secret.Bytes, err error) {
	out.epoch = epoch{Number: e.Number, Hosts: e.Hosts, Record: e.Record}
	if e.Number == 0 {
		got, params, err := chilldkg.Recover(host, e.Record)
		if err != nil {
			return out, share, err
		}
		info, err := got.Info()
		if err != nil {
			return out, share, err
		}
		out.Info, out.key, out.id, out.threshold = info.Encode(), got.Key, got.ID, got.Threshold
		out.Hosts = hostBytes(params.HostPubKeys())
		return out, got.Share, nil
	}
	var got *refresh.Output
	if len(e.Sealed) == len(refresh.Sealed{}) {
		got, err = refresh.Recover(host, e.Record, refresh.Sealed(e.Sealed))
	} else {
		got, err = refresh.Apply(host, e.Record, before)
	}
	if err != nil {
		return out, share, err
	}
	if got.Info.Epoch() != e.Number {
		return out, got.Share, fmt.Errorf("%w: the record of epoch %d for %d", ErrVigil, got.Info.Epoch(), e.Number)
	}
	out.Info, out.key, out.id, out.threshold = got.Info.Encode(), got.Info.PubKey(), got.ID, got.Info.Threshold()
	return out, got.Share, nil
}

// ConfirmRecovery removes the identity keys that Recover froze, once the
// cool-down has passed.
func (w *Wallet) ConfirmRecovery(ctx context.Context) error {
	return w.askHost(ctx, "ConfirmRecovery", &vigilpb.ConfirmRecoveryRequest{}, &vigilpb.ConfirmRecoveryAnswer{})
}
