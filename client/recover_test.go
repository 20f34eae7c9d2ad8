package client_test

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/vigilpb"
)

// TestRecover makes a new device of the seed, which spends the old one's coins.
func TestRecover(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	old, _, seed := w.create(client.CreateOptions{})
	w.minted(old, 50_000)
	id, to := old.ID(), old.Descriptor().Address()
	old.Close()
	d, err := client.Recover(w.ctx, w.config(secrettest.NewMemory()), seed, client.RecoverOptions{Name: "second"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.ID() != id {
		t.Fatalf("wallet %s, it was %s", d.ID(), id)
	}
	if _, err := d.Send(w.ctx, to, 20_000); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Recover(w.ctx, w.config(secrettest.NewMemory()), w.seed(), client.RecoverOptions{}); err == nil {
		t.Fatal("another seed got the wallet")
	}
}

// TestCreateAgain cuts the making of a wallet short at every call and makes it
// again: there is one wallet, and it signs.
func TestCreateAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	for _, at := range []string{"GetServer", "BeginKeygen", "Keygen", "CertifyKeygen", "AcknowledgeKeygen"} {
		t.Run(at, func(t *testing.T) {
			f := newFake(t, w.vigil.params, w.vigil.now)
			store, seed := secrettest.NewMemory(), w.seed()
			cfg := w.config(store)
			cfg.Server, cfg.HostKey = f.http.URL, f.host.PubKey()
			f.drop = func(m string) bool { return m == at } // carried out, and never told
			if d, err := client.Create(w.ctx, cfg, seed, client.CreateOptions{}); !errors.Is(err, client.ErrUnreachable) {
				t.Fatalf("%v %v", d, err)
			}
			if d, err := client.Open(w.ctx, cfg); err == nil {
				if _, err := d.Address(); !errors.Is(err, client.ErrPending) {
					t.Errorf("an address before its time: %v", err)
				}
				d.Close()
			}
			f.mu.Lock()
			f.drop = nil
			f.mu.Unlock()
			d, err := client.Create(w.ctx, cfg, seed, client.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if x := f.out.Key.XOnly(); string(x[:]) != string(idBytes(d)) {
				t.Fatalf("wallet %s, Vigil's is %s", d.ID(), x)
			}
			if _, err := d.Address(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func idBytes(d *client.Wallet) []byte { id := d.ID(); return id[:] }

// TestColdShare makes a 2-of-3 wallet of phone, Vigil and the owner's cold share,
// and signs on with any one of them gone.
func TestColdShare(t *testing.T) {
	if testing.Short() {
		t.Skip("more of the same arithmetic")
	}
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	coldSeed := w.seed()
	cold, err := client.NewColdShare(coldSeed, w.vigil.params.Network)
	if err != nil {
		t.Fatal(err)
	}
	d, _, _ := w.create(client.CreateOptions{Cold: []*client.ColdShare{cold}})
	cold.Burn()
	w.minted(d, 50_000)
	to := d.Descriptor().Address()
	if _, err := d.Send(w.ctx, to, 20_000); err != nil {
		t.Fatalf("phone and Vigil: %v", err)
	}
	if err := d.Refresh(w.ctx, nil); !errors.Is(err, client.ErrCold) {
		t.Fatalf("refreshed without the cold share: %v", err)
	}
	b, err := d.Export(w.ctx)
	if err != nil {
		t.Fatal(err)
	}

	again, err := client.NewColdShare(coldSeed, w.vigil.params.Network)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Burn()
	if err := d.UseCold(w.ctx, again); err != nil {
		t.Fatalf("made again of the device's record: %v", err)
	}
	if err := again.Restore(b.Record); err != nil {
		t.Fatal(err)
	}
	w.vigil.mu.Lock()
	asked := w.vigil.calls["Sign"]
	w.vigil.down = true
	w.vigil.mu.Unlock()
	if _, err := d.Send(w.ctx, to, 10_000); err != nil {
		t.Fatalf("phone and cold share: %v", err)
	}
	// The bounds are those of the device, whoever signs with it.
	if err := w.op.Update(func(s *arktest.Settings) { s.Fees.OffchainInput = "amount * 0.5" }); err != nil {
		t.Fatal(err)
	}
	_, err = d.Renew(w.ctx) // meets the new parameters
	if !errors.Is(err, client.ErrFee) {
		_, err = d.Renew(w.ctx)
	}
	if !errors.Is(err, client.ErrFee) {
		t.Fatalf("half of the coins, with the cold share: %v", err)
	}
	d.Close()

	w.vigil.mu.Lock()
	if w.vigil.calls["Sign"] != asked {
		t.Error("Vigil was asked")
	}
	w.vigil.down = false
	w.vigil.mu.Unlock()
	if _, err := client.Recover(w.ctx, w.config(secrettest.NewMemory()), coldSeed, client.RecoverOptions{}); !errors.Is(err, client.ErrSeed) {
		t.Fatalf("a cold share believed Vigil's word for the recovery key: %v", err)
	}
	third, err := client.Recover(w.ctx, w.config(secrettest.NewMemory()), coldSeed, client.RecoverOptions{Backup: &b})
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	if _, err := third.Send(w.ctx, to, 5_000); err != nil {
		t.Fatalf("Vigil and cold share: %v", err)
	}
}

// TestHostileRecover has Vigil hand over another wallet or other scripts.
func TestHostileRecover(t *testing.T) {
	if testing.Short() {
		t.Skip("more of the same arithmetic")
	}
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	_, _, seed := w.create(client.CreateOptions{})
	stranger, _ := newKey(t)
	for name, lie := range map[string]func(*vigilpb.RecoverAnswer){
		"id": func(a *vigilpb.RecoverAnswer) { a.Wallet[0] ^= 1 },
		"record": func(a *vigilpb.RecoverAnswer) {
			r := bytes.Clone(a.Epochs[0].Record)
			r[40] ^= 1
			a.Epochs[0].Record = r
		},
		"no epoch":  func(a *vigilpb.RecoverAnswer) { a.Epochs = nil },
		"three":     func(a *vigilpb.RecoverAnswer) { a.Epochs = append(a.Epochs, a.Epochs[0], a.Epochs[0]) },
		"uncertain": func(a *vigilpb.RecoverAnswer) { a.Epochs[0].Certified = false },
		"scripts": func(a *vigilpb.RecoverAnswer) {
			d := w.vigil.desc
			d.Recovery = stranger.PubKey().XOnly()
			a.Descriptor_ = d.Encode()
		},
		"no scripts": func(a *vigilpb.RecoverAnswer) { a.Descriptor_ = nil },
	} {
		w.vigil.mu.Lock()
		w.vigil.lie = func(_ string, a proto.Message) {
			if r, ok := a.(*vigilpb.RecoverAnswer); ok {
				lie(r)
			}
		}
		w.vigil.mu.Unlock()
		store := secrettest.NewMemory()
		if d, err := client.Recover(w.ctx, w.config(store), seed, client.RecoverOptions{}); err == nil {
			d.Close()
			t.Errorf("%s: recovered", name)
		}
		if d, err := client.Open(w.ctx, w.config(store)); err == nil {
			d.Close()
			t.Errorf("%s: a wallet was left", name)
		}
	}
}
