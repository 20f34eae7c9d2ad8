package client

import (
	"context"
	"fmt"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// Device is one identity key that may act for the wallet.
type Device struct {
	Key      bip340.PubKey
	Name     string
	AddedAt  int64 // unix seconds
	FrozenAt int64 // 0: it is not frozen
	RemoveAt int64 // when a frozen one may be removed
	Self     bool  // this device
}

// Devices lists the wallet's devices as Vigil knows them.
func (w *Wallet) Devices(ctx context.Context) ([]Device, error) {
	var a vigilpb.DevicesAnswer
	if err := w.ask(ctx, "Devices", &vigilpb.DevicesRequest{}, &a); err != nil {
		return nil, err
	}
	return w.devices(a.Identities)
}

// AddDevice enrols an identity key beside this device's, or frees one that was
// frozen. It may read all and act within the policy as far as that takes no share.
func (w *Wallet) AddDevice(ctx context.Context, key bip340.PubKey, name string) ([]Device, error) {
	var a vigilpb.AddDeviceAnswer
	if err := w.askHost(ctx, "AddDevice", &vigilpb.AddDeviceRequest{IdentityKey: key[:], Name: name}, &a); err != nil {
		return nil, err
	}
	return w.devices(a.Identities)
}

// RevokeDevice shuts a device out at once, and cuts its streams.
func (w *Wallet) RevokeDevice(ctx context.Context, key bip340.PubKey) ([]Device, error) {
	var a vigilpb.RevokeDeviceAnswer
	if err := w.askHost(ctx, "RevokeDevice", &vigilpb.RevokeDeviceRequest{IdentityKey: key[:]}, &a); err != nil {
		return nil, err
	}
	return w.devices(a.Identities)
}

// devices reads Vigil's list. Which of them is this device it knows by itself: the
// answer to a call by the host key marks none.
func (w *Wallet) devices(list []*vigilpb.Identity) ([]Device, error) {
	own := w.identity.PubKey()
	out := make([]Device, len(list))
	for i, d := range list {
		key, err := bip340.ParsePubKey(d.GetKey())
		if err != nil {
			return nil, fmt.Errorf("%w: a device's key: %w", ErrVigil, err)
		}
		out[i] = Device{key, d.GetName(), d.GetAddedAt(), d.GetFrozenAt(), d.GetRemoveAt(), key == own}
	}
	return out, nil
}

// SetToken keeps a token of a push service at Vigil, for this device.
func (w *Wallet) SetToken(ctx context.Context, kind, token string) error {
	return w.ask(ctx, "SetToken", &vigilpb.SetTokenRequest{Token: token, Kind: kind}, &vigilpb.SetTokenAnswer{})
}

// DropToken has Vigil forget a token.
func (w *Wallet) DropToken(ctx context.Context, token string) error {
	return w.ask(ctx, "DropToken", &vigilpb.DropTokenRequest{Token: token}, &vigilpb.DropTokenAnswer{})
}
