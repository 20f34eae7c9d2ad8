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
	return recovered(ctx, cfg, nil, opt, func(w *Wallet) (Seed, uint32, error) {
		n, err := w.search(ctx, seed)
		return seed, n, err
	})
}

// RecoverCold is Recover with a cold share, which becomes the new device's: what is
// kept of it elsewhere should be destroyed, and the coins moved to a new wallet when
// the old device is gone for good. The options' Backup is needed.
func RecoverCold(ctx context.Context, cfg Config, cold *ColdShare, opt RecoverOptions) (*Wallet, error) {
	return recovered(ctx, cfg, cold, opt, func(w *Wallet) (Seed, uint32, error) {
		if cold.network != w.st.Network {
			return Seed{}, 0, fmt.Errorf("%w: the cold share is of %s", ErrSeed, cold.network)
		}
		var last error
		for _, k := range []coldKey{cold.own, cold.next} {
			if k.host == nil {
				continue
			}
			found, err := w.holds(ctx, k.seed, k.index)
			if found || err != nil && !strange(err) {
				return k.seed, k.index, err
			}
			last = cmp.Or(last, err)
		}
		return Seed{}, 0, cmp.Or(last, ErrColdOld)
	})
}

// recovered makes a device of the seed that find finds the wallet by.
func recovered(ctx context.Context, cfg Config, cold *ColdShare, opt RecoverOptions, find func(*Wallet) (Seed, uint32, error)) (*Wallet, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if _, err := (store{cfg.Store}).load(ctx); !errors.Is(err, ErrNoWallet) {
		if err == nil {
			err = ErrExists
		}
		return nil, err
	}
	seed, n, err := searched(ctx, cfg, find)
	if err != nil {
		return nil, err
	}
	w, err := begin(ctx, cfg, seed, n, false)
	if err != nil {
		return nil, err
	}
	key, err := w.hostKey(ctx, n)
	if err == nil {
		err = w.restore(ctx, key, CreateOptions{Name: opt.Name}, restoring{backup: opt.Backup, seed: &seed, cold: cold})
		key.Burn()
	}
	if err != nil {
		w.Close()
		// A device without a wallet is none: the next try begins anew.
		return nil, errors.Join(err, w.store.Delete(ctx, named(nameHost, n)), w.store.Delete(ctx, nameIdentity), w.store.Delete(ctx, nameState))
	}
	return w, nil
}

func searched(ctx context.Context, cfg Config, find func(*Wallet) (Seed, uint32, error)) (Seed, uint32, error) {
	w := &Wallet{cfg: cfg, store: store{cfg.Store}}
	defer w.Close()
	if err := w.meet(ctx, false); err != nil {
		return Seed{}, 0, err
	}
	return find(w)
}

// search finds out which of the seed's host keys the wallet has now.
func (w *Wallet) search(ctx context.Context, seed Seed) (uint32, error) {
	var last error
	for n := range uint32(maxEpochs) {
		found, err := w.holds(ctx, seed, n)
		if found || err != nil && !strange(err) {
			return n, err
		}
		last = cmp.Or(last, err)
	}
	return 0, cmp.Or(last, fmt.Errorf("%w: its wallet is of another device", ErrVigil))
}

// strange says whether Vigil refuses a host key because it knows no wallet of it.
func strange(err error) bool {
	code := vigil.CodeOf(err)
	return code == vigil.CodeNotPermitted || code == vigil.CodeNotFound
}

// holds says whether a host key of the seed is one of a wallet's that Vigil has: it
// tells what it keeps to any of them, and changes nothing by it.
func (w *Wallet) holds(ctx context.Context, seed Seed, n uint32) (bool, error) {
	scalar, err := seed.host(w.st.Network, n)
	if err != nil {
		return false, err
	}
	defer scalar.Burn()
	key, err := bip340.NewKey(scalar)
	if err != nil {
		return false, err
	}
	defer key.Burn()
	own := key.PubKey()
	var answer vigilpb.RecoverAnswer
	if err := w.vigil.ask(ctx, "Recover", caller{own[:], key, n}, &vigilpb.RecoverRequest{}, &answer); err != nil {
		return false, err
	}
	return slices.ContainsFunc(answer.Epochs, func(e *vigilpb.WalletEpoch) bool {
		return e.Number == answer.Active && slices.ContainsFunc(e.Hosts, func(h []byte) bool { return bytes.Equal(h, own[:]) })
	}), nil
}

// restoring is what helps to make a device's epoch again: the owner's backup, the
// seed when the last healing refresh broke off, a cold share that the device becomes.
type restoring struct {
	backup *Backup
	seed   *Seed
	cold   *ColdShare
}

// restore takes over what Vigil keeps for the host key.
func (w *Wallet) restore(ctx context.Context, key *bip340.Key, opt CreateOptions, by restoring) error {
	backup := by.backup
	own, identity := key.PubKey(), w.identity.PubKey()
	var answer vigilpb.RecoverAnswer
	err := w.vigil.ask(ctx, "Recover", caller{own[:], key, w.st.Cutover.Active}, &vigilpb.RecoverRequest{IdentityKey: identity[:], Name: opt.Name}, &answer)
	if err != nil {
		return err
	}
	var last restored
	if by.cold != nil {
		last, err = w.restoreCold(ctx, &answer, by)
	} else {
		last, err = w.restoreEpochs(ctx, &answer, by.seed)
	}
	if err != nil {
		return err
	}
	if last.id != deviceID {
		// A cold share's seed has another recovery key: the owner's backup has the
		// wallet's.
		if backup == nil {
			return fmt.Errorf("%w: the seed is that of a cold share; the wallet's backup is needed", ErrSeed)
		}
		own, err := backup.Generations()
		if err != nil {
			return err
		}
		recovery := own.Current().Recovery
		if err := w.update(ctx, func(st *state) error { st.RecoveryKey = recovery[:]; return nil }); err != nil {
			return err
		}
	}
	gens, unsure, err := w.checkGenerations(ctx, last.key, &answer, backup)
	if err != nil {
		return err
	}
	if d := gens.Current(); opt.RecoveryDelay != 0 && (len(gens) > 1 || d.RecoveryDelay != opt.RecoveryDelay) {
		return fmt.Errorf("%w: scripts of another wallet", ErrVigil)
	}
	x := last.key.XOnly()
	if string(answer.Wallet) != string(x[:]) {
		return fmt.Errorf("%w: wallet %x, its key is %s", ErrVigil, answer.Wallet, x)
	}
	err = w.update(ctx, func(st *state) error {
		st.ID, st.Threshold = last.id, last.threshold
		st.Epochs, st.Cutover = []epoch{last.epoch}, refresh.Cutover{Active: last.Number}
		st.Wallet, st.Unsure = x[:], unsure
		st.describe(gens)
		if signer := gens.Current().Signer; unsure && string(st.Signer[1:]) != string(signer[:]) {
			st.Signer = append([]byte{2}, signer[:]...)
		}
		// Create acknowledges by itself, whatever Vigil says of it.
		st.Acknowledged = answer.State != statePending && (by.seed != nil || last.Number > 0)
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

// checkGenerations accepts the scripts that Vigil tells of if they are of the key and
// the seed: whichever they are, their coins are the wallet's. Only where one receives
// is more to ask: it is as the operator announces, or as the owner's backup says, or
// else nothing is to be paid there, and unsure is set.
func (w *Wallet) checkGenerations(ctx context.Context, group bip340.PubKey, answer *vigilpb.RecoverAnswer, backup *Backup) (gens descriptor.Generations, unsure bool, err error) {
	gens, err = descriptor.DecodeGenerations(answer.GetDescriptor_(), answer.GetOlder())
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrVigil, err)
	}
	d := gens.Current()
	if d.Group != group || d.Network != w.st.Network || !bytes.Equal(d.Recovery[:], w.st.RecoveryKey) {
		return nil, false, fmt.Errorf("%w: scripts of another wallet", ErrVigil)
	}
	p, err := w.announced(ctx)
	if err != nil {
		return nil, false, err
	}
	next, err := d.Next(p)
	unsure = err != nil || next != d
	if backup == nil {
		return gens, unsure, nil
	}
	own, err := backup.Generations()
	if err != nil {
		return nil, false, err
	}
	if !own.Current().Kin(d) {
		return nil, false, fmt.Errorf("%w: the backup is of another wallet", ErrSeed)
	}
	if slices.ContainsFunc(own, func(d descriptor.Descriptor) bool { return !slices.Contains(gens, d) }) {
		return nil, false, fmt.Errorf("%w: other scripts than those of the backup", ErrVigil)
	}
	return gens, unsure && own.Current() != d, nil
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

// restoreCold makes the active epoch's share of a cold share, and keeps it with its
// host key.
func (w *Wallet) restoreCold(ctx context.Context, answer *vigilpb.RecoverAnswer, by restoring) (last restored, err error) {
	at := slices.IndexFunc(answer.Epochs, func(e *vigilpb.WalletEpoch) bool { return e.Number == answer.Active && e.Certified })
	if at < 0 {
		return last, fmt.Errorf("%w: no epoch is certified", ErrVigil)
	}
	e, c := answer.Epochs[at], by.cold
	if err := c.forward(e.Number, e.Record, e.Sealed); err != nil {
		return last, err
	}
	hosts, err := recordHosts(e.Number, e.Record)
	if err != nil {
		return last, err
	}
	last = restored{
		epoch: epoch{Number: e.Number, Hosts: hostBytes(hosts), Record: e.Record, Info: c.out.Info.Encode()},
		key:   c.out.Info.PubKey(), id: c.out.ID, threshold: c.out.Info.Threshold(),
	}
	scalar, err := c.own.seed.host(c.network, c.own.index)
	if err != nil {
		return last, err
	}
	defer scalar.Burn()
	return last, errors.Join(w.store.Put(ctx, named(nameShare, last.Number), c.out.Share), w.store.Put(ctx, named(nameHost, last.Number), scalar))
}

// recordHosts are the host keys that the record of an epoch names.
func recordHosts(number uint32, record []byte) ([]bip340.PubKey, error) {
	if number == 0 {
		_, p, err := chilldkg.RecoverPublic(record)
		if err != nil {
			return nil, err
		}
		return p.HostPubKeys(), nil
	}
	_, p, err := refresh.RecoverPublic(record)
	if err != nil {
		return nil, err
	}
	return p.Hosts(), nil
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
// cool-down has passed, and returns the devices that are left.
func (w *Wallet) ConfirmRecovery(ctx context.Context) ([]Device, error) {
	var a vigilpb.ConfirmRecoveryAnswer
	if err := w.askHost(ctx, "ConfirmRecovery", &vigilpb.ConfirmRecoveryRequest{}, &a); err != nil {
		return nil, err
	}
	return w.devices(a.Identities)
}
