package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/vigilpb"
)

// maxEpochs bounds the search for the host key of a wallet whose host keys were
// changed by healing refreshes.
const maxEpochs = 32

// Recover makes a new device of the seed: Vigil hands over the recovery data,
// enrols the new device's identity key and freezes all others at once. Removing
// those takes ConfirmRecovery, after the cool-down that Vigil announces.
func Recover(ctx context.Context, cfg Config, seed Seed, name string) (*Wallet, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if _, err := (store{cfg.Store}).load(ctx); !errors.Is(err, ErrNoWallet) {
		if err == nil {
			err = ErrExists
		}
		return nil, err
	}
	for n := uint32(0); ; n++ {
		w, err := begin(ctx, cfg, seed, n)
		if err != nil {
			return nil, err
		}
		key, err := w.hostKey(ctx, n)
		if err == nil {
			err = w.restore(ctx, key, CreateOptions{Name: name})
			key.Burn()
		}
		if err == nil {
			return w, nil
		}
		w.Close()
		// A device without a wallet is none: the next try begins anew.
		err = errors.Join(err, w.store.Delete(ctx, named(nameHost, n)), w.store.Delete(ctx, nameState))
		if vigil.CodeOf(err) != vigil.CodeNotFound || n == maxEpochs {
			return nil, err
		}
	}
}

// restore takes over what Vigil keeps for the host key.
func (w *Wallet) restore(ctx context.Context, key *bip340.Key, opt CreateOptions) error {
	own, identity := key.PubKey(), w.identity.PubKey()
	var answer vigilpb.RecoverAnswer
	err := w.vigil.ask(ctx, "Recover", caller{own[:], key, w.st.Cutover.Active}, &vigilpb.RecoverRequest{IdentityKey: identity[:], Name: opt.Name}, &answer)
	if err != nil {
		return err
	}
	if len(answer.Epochs) == 0 || len(answer.Epochs) > 2 {
		return fmt.Errorf("%w: %d epochs", ErrVigil, len(answer.Epochs))
	}
	var group bip340.PubKey
	next := *w.st
	next.Epochs = nil
	for _, e := range answer.Epochs {
		if !e.Certified {
			continue // nobody may sign with it, and Vigil keeps it for whoever began it
		}
		got, err := w.restoreEpoch(ctx, key, e)
		if errors.Is(err, chilldkg.ErrHostKey) && e.Number != answer.Active {
			continue // made for another host key: the other epoch is this device's
		}
		if err != nil {
			return fmt.Errorf("epoch %d: %w", e.Number, err)
		}
		if group != (bip340.PubKey{}) && group != got.key {
			return fmt.Errorf("%w: two epochs of two keys", ErrVigil)
		}
		group, next.ID, next.Threshold = got.key, got.id, got.threshold
		next.Epochs = append(next.Epochs, got.epoch)
	}
	if len(next.Epochs) == 0 {
		return fmt.Errorf("%w: no epoch of this device", ErrVigil)
	}
	next.Cutover = refresh.Cutover{Active: next.Epochs[len(next.Epochs)-1].Number}
	next.Epochs = next.Epochs[len(next.Epochs)-1:]
	d, err := w.checkDescriptor(ctx, group, answer.GetDescriptor_(), 0)
	if err != nil {
		return err
	}
	x := group.XOnly()
	if string(answer.Wallet) != string(x[:]) {
		return fmt.Errorf("%w: wallet %x, its key is %s", ErrVigil, answer.Wallet, x)
	}
	err = w.update(ctx, func(st *state) error {
		*st = next
		st.Wallet, st.Descriptor = x[:], d.Encode()
		st.Acknowledged = answer.State != "pending"
		return nil
	})
	if err != nil {
		return err
	}
	if err := w.reload(ctx); err != nil || w.st.Acknowledged {
		return err
	}
	return w.acknowledge(ctx, opt.Cold)
}

// restored is an epoch made again.
type restored struct {
	epoch
	key           bip340.PubKey
	id, threshold int
}

// restoreEpoch makes an epoch's share again and keeps it.
func (w *Wallet) restoreEpoch(ctx context.Context, key *bip340.Key, e *vigilpb.WalletEpoch) (restored, error) {
	scalar, err := w.store.Get(ctx, named(nameHost, w.st.Cutover.Active))
	if err != nil {
		return restored{}, err
	}
	host, err := chilldkg.NewHostKey(scalar)
	if err != nil {
		return restored{}, err
	}
	defer host.Burn()
	out := restored{epoch: epoch{Number: e.Number, Record: e.Record}}
	var share secret.Bytes
	if e.Number == 0 {
		got, params, err := chilldkg.Recover(host, e.Record)
		if err != nil {
			return out, err
		}
		info, err := got.Info()
		if err != nil {
			return out, err
		}
		out.Info, out.key, out.id, out.threshold, share = info.Encode(), got.Key, got.ID, got.Threshold, got.Share
		out.Hosts = hostBytes(params.HostPubKeys())
	} else {
		if len(e.Sealed) != len(refresh.Sealed{}) {
			return out, fmt.Errorf("%w: the share of epoch %d was never handed in", ErrVigil, e.Number)
		}
		got, err := refresh.Recover(host, e.Record, refresh.Sealed(e.Sealed))
		if err != nil {
			return out, err
		}
		out.Info, out.key, out.id, out.threshold, share = got.Info.Encode(), got.Info.PubKey(), got.ID, got.Info.Threshold(), got.Share
		out.Hosts = e.Hosts
	}
	defer share.Burn()
	if err := w.store.Put(ctx, named(nameShare, e.Number), share); err != nil {
		return out, err
	}
	hostScalar, err := w.store.Get(ctx, named(nameHost, w.st.Cutover.Active))
	if err != nil {
		return out, err
	}
	defer hostScalar.Burn()
	return out, w.store.Put(ctx, named(nameHost, e.Number), hostScalar)
}

// ConfirmRecovery removes the identity keys that Recover froze, once the
// cool-down has passed.
func (w *Wallet) ConfirmRecovery(ctx context.Context) error {
	return w.askHost(ctx, "ConfirmRecovery", &vigilpb.ConfirmRecoveryRequest{}, &vigilpb.ConfirmRecoveryAnswer{})
}
