package client_test

import (
	"errors"
	"testing"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

// TestRestoredVigil puts Vigil back to copies of before a refresh, with its secrets
// or without: the device brings it forward by itself, whatever is done first, and a
// new device from the seed goes on from there.
func TestRestoredVigil(t *testing.T) {
	t.Parallel()
	type step func(t *testing.T, d *client.Wallet, seed client.Seed) error
	send := func(t *testing.T, d *client.Wallet, _ client.Seed) error {
		_, err := d.Send(t.Context(), d.Descriptor().Address(), 1_000)
		return err
	}
	refresh := func(t *testing.T, d *client.Wallet, _ client.Seed) error { return d.Refresh(t.Context(), nil) }
	heal := func(t *testing.T, d *client.Wallet, seed client.Seed) error { return d.Refresh(t.Context(), &seed) }
	for i, c := range []struct {
		name    string
		last    step // what the copies do not have
		secrets bool
		first   step // after the restore
	}{
		{"records, send", heal, false, send},
		{"records, refresh", heal, false, heal},
		{"both, send", refresh, true, send},
		{"both, refresh", refresh, true, refresh},
		{"both, heal", refresh, true, heal},
	} {
		if testing.Short() && i%4 != 0 {
			continue // the detector makes a ceremony ten times as slow
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newReal(t, arktest.Config{})
			d, store, seed := r.create()
			w := &world{T: t, op: r.op, esplora: r.op.EsploraURL(), ctx: t.Context()}
			w.minted(d, 90_000)
			kv, secrets := r.kv.Copy(), r.secrets.Copy()
			if err := c.last(t, d, seed); err != nil {
				t.Fatal(err)
			}
			d.Close()
			if r.kv = kv; c.secrets {
				r.secrets = secrets
			}
			r.serve()
			d, err := client.Open(t.Context(), r.with(store))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			for i, s := range []step{c.first, send, refresh, send} {
				if err := s(t, d, seed); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
			}
			again, err := client.Recover(t.Context(), r.with(secrettest.NewMemory()), seed, client.RecoverOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if err := send(t, again, seed); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestRestoredVigilLostItsShare puts both of its stores back to before a healing
// refresh: the key that Vigil drew for it is nowhere, and the device says so.
func TestRestoredVigilLostItsShare(t *testing.T) {
	t.Parallel()
	r := newReal(t, arktest.Config{})
	d, store, seed := r.create()
	w := &world{T: t, op: r.op, esplora: r.op.EsploraURL(), ctx: t.Context()}
	w.minted(d, 90_000)
	kv, secrets := r.kv.Copy(), r.secrets.Copy()
	if err := d.Refresh(t.Context(), &seed); err != nil {
		t.Fatal(err)
	}
	d.Close()
	r.kv, r.secrets = kv, secrets
	r.serve()
	d, err := client.Open(t.Context(), r.with(store))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Send(t.Context(), d.Descriptor().Address(), 1_000); !errors.Is(err, client.ErrEpochLost) {
		t.Fatalf("send: %v", err)
	}
	if err := d.Refresh(t.Context(), &seed); !errors.Is(err, client.ErrEpochLost) {
		t.Fatalf("refresh: %v", err)
	}
}
