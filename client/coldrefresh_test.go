package client_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

// drawer is where an owner keeps a cold share: whatever was saved last.
type drawer struct {
	t     *testing.T
	file  []byte
	saves int
	fail  int // the save that fails; 0: none
	after bool
}

var errDrawer = errors.New("the drawer is locked")

func (d *drawer) save(raw secret.Bytes) error {
	d.saves++
	if d.saves == d.fail && !d.after {
		return errDrawer
	}
	if err := raw.Use(func(b []byte) error { d.file = bytes.Clone(b); return nil }); err != nil {
		return err
	}
	if d.saves == d.fail {
		return errDrawer
	}
	return nil
}

// open takes the share out of the drawer.
func (d *drawer) open() *client.ColdShare {
	d.t.Helper()
	return d.read(d.file)
}

func (d *drawer) read(file []byte) *client.ColdShare {
	d.t.Helper()
	c, err := client.ParseColdShare(secret.New(bytes.Clone(file)))
	if err != nil {
		d.t.Fatal(err)
	}
	c.Save = d.save
	d.t.Cleanup(c.Burn)
	return c
}

// trio is a 2-of-3 wallet at the real service.
type trio struct {
	*real
	d      *client.Wallet
	store  *secrettest.Memory
	seed   client.Seed
	drawer *drawer
	backup client.Backup
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	r := newReal(t, arktest.Config{})
	x := &trio{real: r, store: secrettest.NewMemory(), drawer: &drawer{t: t}}
	seeds := make([]client.Seed, 2)
	for i := range seeds {
		var err error
		if seeds[i], err = client.NewSeed(); err != nil {
			t.Fatal(err)
		}
	}
	x.seed = seeds[0]
	cold, err := client.NewColdShare(seeds[1], ark.Regtest)
	if err != nil {
		t.Fatal(err)
	}
	cold.Save = x.drawer.save
	defer cold.Burn()
	if x.d, err = client.Create(t.Context(), r.with(x.store), x.seed, client.CreateOptions{Cold: []*client.ColdShare{cold}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.d.Close() })
	w := &world{T: t, op: r.op, ctx: t.Context()}
	w.minted(x.d, 90_000)
	if x.backup, err = x.d.Export(t.Context()); err != nil {
		t.Fatal(err)
	}
	return x
}

func pay(t *testing.T, d *client.Wallet) {
	t.Helper()
	if _, err := d.Send(t.Context(), d.Descriptor().Address(), 1_000); err != nil {
		t.Fatal(err)
	}
}

// pairs holds that any two of the three sign now, each with the third gone. The
// device was off meanwhile.
func (x *trio) pairs() {
	x.t.Helper()
	x.d.Close()
	var err error
	if x.d, err = client.Open(x.t.Context(), x.with(x.store)); err != nil {
		x.t.Fatal(err)
	}
	pay(x.t, x.d) // phone and Vigil
	x.withoutVigil()
	// Cold share and Vigil, on copies too: the recovery freezes the phone.
	kept := *x.real
	x.kv, x.secrets = x.kv.Copy(), x.secrets.Copy()
	x.serve()
	cold := x.drawer.open()
	cold.Save = nil
	third, err := client.RecoverCold(x.t.Context(), x.with(secrettest.NewMemory()), cold, client.RecoverOptions{Backup: &x.backup})
	if err != nil {
		x.t.Fatalf("cold share and Vigil: %v", err)
	}
	pay(x.t, third)
	third.Close()
	*x.real = kept
}

// withoutVigil has phone and cold share sign, on copies: what is learnt here is not
// known after.
func (x *trio) withoutVigil() {
	x.t.Helper()
	phone, err := client.Open(x.t.Context(), x.with(x.store.Copy()))
	if err != nil {
		x.t.Fatal(err)
	}
	defer phone.Close()
	x.line.lose = func(string, bool) bool { return true }
	defer func() { x.line.lose = nil }()
	cold := x.drawer.open()
	cold.Save = nil
	if err := phone.UseCold(x.t.Context(), cold); err != nil {
		x.t.Fatalf("phone and cold share: %v", err)
	}
	pay(x.t, phone)
}

// whole holds that the refresh is over: one share on the device, and no more kept by
// Vigil.
func (x *trio) whole() {
	x.t.Helper()
	for _, prefix := range []string{"share.", "host."} {
		if names, err := x.store.List(x.t.Context(), prefix); err != nil || len(names) != 1 {
			x.t.Fatalf("%s: %v, %v", prefix, names, err)
		}
	}
	if err := x.d.Refresh(x.t.Context(), nil); !errors.Is(err, client.ErrCold) {
		x.t.Fatalf("without the cold share: %v", err)
	}
}

func kindOf(x *trio, heal bool) *client.Seed {
	if heal {
		return &x.seed
	}
	return nil
}

// apart holds that nothing of the cold share is on the device.
func (x *trio) apart() {
	x.t.Helper()
	var form struct{ Words, Share []byte }
	if err := json.Unmarshal(x.drawer.file, &form); err != nil || len(form.Words) == 0 || len(form.Share) != 32 {
		x.t.Fatalf("%d and %d bytes, %v", len(form.Words), len(form.Share), err)
	}
	names, err := x.store.List(x.t.Context(), "")
	if err != nil {
		x.t.Fatal(err)
	}
	for _, name := range names {
		v, err := x.store.Get(x.t.Context(), name)
		if err != nil {
			x.t.Fatal(err)
		}
		err = v.Use(func(b []byte) error {
			for _, part := range [][]byte{form.Words, form.Share, []byte(base64.StdEncoding.EncodeToString(form.Words)), []byte(base64.StdEncoding.EncodeToString(form.Share))} {
				if bytes.Contains(b, part) {
					return fmt.Errorf("%s has a part of the cold share", name)
				}
			}
			return nil
		})
		if err != nil {
			x.t.Fatal(err)
		}
	}
}

// TestColdRefresh refreshes a 2-of-3 wallet both ways: any two sign before and after,
// a copy of the cold share from before serves after hygiene and is worthless after
// healing.
func TestColdRefresh(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	x.pairs()
	old := bytes.Clone(x.drawer.file)
	for i, heal := range []bool{false, false, true} {
		if testing.Short() && i < 2 {
			continue
		}
		if err := x.d.Refresh(t.Context(), kindOf(x, heal), x.drawer.open()); err != nil {
			t.Fatalf("heal %t: %v", heal, err)
		}
		x.whole()
		x.apart()
		x.pairs()
		stale := x.drawer.read(old)
		stale.Save = nil
		if err := x.d.UseCold(t.Context(), stale); heal != errors.Is(err, client.ErrColdOld) || !heal && err != nil {
			t.Fatalf("heal %t, an old copy: %v", heal, err)
		}
		_ = x.d.UseCold(t.Context(), nil)
	}
	if err := x.d.Refresh(t.Context(), nil, x.drawer.open(), x.drawer.open()); !errors.Is(err, client.ErrSeed) {
		t.Fatalf("one share twice: %v", err)
	}
	nobody := x.drawer.open()
	nobody.Save = nil
	if err := x.d.Refresh(t.Context(), &x.seed, nobody); !errors.Is(err, client.ErrConfig) {
		t.Fatalf("healing with nothing that keeps the new seed: %v", err)
	}
	x.pairs()
}

// TestColdRefreshCutShort loses every call of a refresh, or its answer, and fails
// every save of the cold share, before or after: any two of the three sign at once,
// also when the device has found out how it ended and the cold share was not there,
// and the next refresh gets through.
func TestColdRefreshCutShort(t *testing.T) {
	if testing.Short() {
		t.Skip("more of the same arithmetic")
	}
	t.Parallel()
	type cut struct {
		call string
		save int
	}
	cuts := []cut{{"BeginRefresh", 0}, {"Refresh", 0}, {"CertifyRefresh", 0}, {"AcknowledgeRefresh", 0}, {"", 1}, {"", 2}}
	for _, heal := range []bool{false, true} {
		t.Run(fmt.Sprintf("heal %t", heal), func(t *testing.T) {
			t.Parallel()
			x := newTrio(t)
			for _, c := range cuts {
				for _, late := range []bool{false, true} {
					if c.call != "CertifyRefresh" && !heal && c.save != 1 {
						continue // healing has all that hygiene has, and one save more
					}
					x.line.lose = func(m string, a bool) bool { return m == c.call && a == late }
					x.drawer.saves, x.drawer.fail, x.drawer.after = 0, c.save, late
					err := x.d.Refresh(t.Context(), kindOf(x, heal), x.drawer.open())
					if !errors.Is(err, client.ErrUnreachable) && !errors.Is(err, errDrawer) {
						t.Fatalf("%+v late %t: %v", c, late, err)
					}
					x.line.lose, x.drawer.fail = nil, 0
					x.pairs()
					if _, err := x.d.Keep(t.Context()); err != nil { // finds out
						t.Fatalf("%+v late %t: %v", c, late, err)
					}
					x.pairs()
					if err := x.d.Refresh(t.Context(), kindOf(x, heal), x.drawer.open()); err != nil {
						t.Fatalf("again after %+v late %t: %v", c, late, err)
					}
					x.whole()
				}
			}
			x.pairs()
		})
	}
}

// TestColdHasTheCertificate has a cold share learn by Vigil that a refresh was
// certified of which the device never heard, and Vigil go for good: the cold share's
// record is the device's certificate.
func TestColdHasTheCertificate(t *testing.T) {
	if testing.Short() {
		t.Skip("more of the same arithmetic")
	}
	t.Parallel()
	x := newTrio(t)
	x.line.lose = func(m string, a bool) bool { return m == "CertifyRefresh" && a }
	if err := x.d.Refresh(t.Context(), &x.seed, x.drawer.open()); !errors.Is(err, client.ErrUnreachable) {
		t.Fatal(err)
	}
	x.line.lose = nil
	third, err := client.RecoverCold(t.Context(), x.with(secrettest.NewMemory()), x.drawer.open(), client.RecoverOptions{Backup: &x.backup})
	if err != nil {
		t.Fatal(err)
	}
	third.Close()
	x.line.lose = func(string, bool) bool { return true }
	if c := x.drawer.open(); c.Epoch() != 1 {
		t.Fatalf("the cold share is of epoch %d", c.Epoch())
	} else if err := x.d.UseCold(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	pay(t, x.d)
}

// TestColdRecords holds a cold share against records that are not its wallet's next
// one: it takes none of them, and what is kept of it stays as it was.
func TestColdRecords(t *testing.T) {
	if testing.Short() {
		t.Skip("more of the same arithmetic")
	}
	t.Parallel()
	x := newTrio(t)
	if err := x.d.Refresh(t.Context(), nil, x.drawer.open()); err != nil {
		t.Fatal(err)
	}
	record, err := x.d.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := x.drawer.open()
	kept := bytes.Clone(x.drawer.file)
	if err := c.Restore(record.Record); err != nil {
		t.Fatalf("its own record: %v", err)
	}
	for name, bad := range map[string][]byte{
		"of the epoch before": x.backup.Record,
		"none":                nil,
		"cut":                 record.Record[:len(record.Record)-1],
		"spoiled":             append(bytes.Clone(record.Record[:len(record.Record)-1]), record.Record[len(record.Record)-1]^1),
	} {
		if err := c.Restore(bad); err == nil {
			t.Errorf("a record %s was taken", name)
		}
	}
	if !bytes.Equal(kept, x.drawer.file) || c.Epoch() != 1 {
		t.Errorf("what is kept was changed; epoch %d", c.Epoch())
	}
}

// TestColdAfterRecovery loses the phone when a refresh lacks but the acknowledgments:
// the new one, of the seed words, goes on, and the cold share acknowledges through it.
func TestColdAfterRecovery(t *testing.T) {
	if testing.Short() {
		t.Skip("more of the same arithmetic")
	}
	t.Parallel()
	x := newTrio(t)
	x.line.lose = func(m string, a bool) bool { return m == "AcknowledgeRefresh" && !a }
	if err := x.d.Refresh(t.Context(), &x.seed, x.drawer.open()); !errors.Is(err, client.ErrUnreachable) {
		t.Fatal(err)
	}
	x.line.lose = nil
	x.d.Close()
	x.store = secrettest.NewMemory()
	var err error
	if x.d, err = client.Recover(t.Context(), x.with(x.store), x.seed, client.RecoverOptions{}); err != nil {
		t.Fatal(err)
	}
	x.pairs()
	if err := x.d.Refresh(t.Context(), nil, x.drawer.open()); err != nil {
		t.Fatal(err)
	}
	x.whole()
	x.pairs()
}

// TestStateReadWhileItChanges refreshes while the state is written: what is read of
// it is read whole. The race detector judges.
func TestStateReadWhileItChanges(t *testing.T) {
	t.Parallel()
	r := newReal(t, arktest.Config{})
	d, _, _ := r.create()
	done := make(chan error, 1)
	go func() {
		for range 2 {
			if err := d.Refresh(t.Context(), nil); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
			if err := d.Touch(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestThreshold refuses what a device could not sign with, before anything is made.
func TestThreshold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	for _, n := range []int{1, 3} {
		if _, err := client.Create(w.ctx, w.config(secrettest.NewMemory()), w.seed(), client.CreateOptions{Threshold: n}); !errors.Is(err, client.ErrConfig) {
			t.Errorf("threshold %d: %v", n, err)
		}
	}
}

// TestColdShareEncoding holds what is kept of a cold share to what it was, and every
// damage to it to an error.
func TestColdShareEncoding(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	c := x.drawer.open()
	raw, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Burn()
	if err := raw.Use(func(b []byte) error {
		if !bytes.Equal(b, x.drawer.file) {
			t.Errorf("%d bytes, were %d", len(b), len(x.drawer.file))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{
		nil, []byte("{}"), x.drawer.file[:len(x.drawer.file)-1],
		bytes.Replace(x.drawer.file, []byte(`"version":1`), []byte(`"version":2`), 1),
		bytes.Replace(x.drawer.file, []byte(`"id":2`), []byte(`"id":0`), 1),
		bytes.Replace(x.drawer.file, []byte(`"epoch":0`), []byte(`"epoch":1`), 1),
		bytes.Repeat([]byte(" "), 300<<10),
	} {
		if _, err := client.ParseColdShare(secret.New(bytes.Clone(bad))); !errors.Is(err, client.ErrColdFile) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

func FuzzParseColdShare(f *testing.F) {
	seed, err := client.NewSeed()
	if err != nil {
		f.Fatal(err)
	}
	defer seed.Burn()
	c, err := client.NewColdShare(seed, ark.Regtest)
	if err != nil {
		f.Fatal(err)
	}
	defer c.Burn()
	raw, err := c.Encode()
	if err != nil {
		f.Fatal(err)
	}
	if err := raw.Use(func(b []byte) error { f.Add(bytes.Clone(b)); return nil }); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"version":1,"network":"regtest","words":"","index":0,"epoch":0}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := client.ParseColdShare(secret.New(b))
		if err == nil {
			c.Burn()
		}
	})
}

// TestColdRefreshCrash kills the device at every durable write of a healing refresh,
// before it or after: phone and Vigil, and phone and cold share, sign at once, and the
// next refresh gets through.
func TestColdRefreshCrash(t *testing.T) {
	if testing.Short() {
		t.Skip("more of the same arithmetic")
	}
	t.Parallel()
	x := newTrio(t)
	for n := 1; ; n++ {
		f := &fuse{}
		f.arm(n, n%2 == 0) // just after one write is as just before the next
		x.d.Close()
		cfg := x.with(x.store)
		cfg.Store = &fusedSecrets{x.store, f, &known{list: map[string][]secret.Bytes{}}}
		phone, err := client.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := phone.Refresh(t.Context(), &x.seed, x.drawer.open()); (err != nil) != f.blown() {
			t.Fatalf("write %d: %v", n, err)
		}
		phone.Close()
		if x.d, err = client.Open(t.Context(), x.with(x.store)); err != nil {
			t.Fatal(err)
		}
		if !f.blown() {
			if n < 6 {
				t.Fatalf("a refresh of %d writes", n-1)
			}
			break
		}
		x.withoutVigil()
		pay(t, x.d)
		if err := x.d.Refresh(t.Context(), &x.seed, x.drawer.open()); err != nil {
			t.Fatalf("again after a crash at write %d: %v", n, err)
		}
		x.whole()
	}
	x.pairs()
}
