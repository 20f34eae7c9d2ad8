package signer

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

func TestHostKey(t *testing.T) {
	store := secrettest.NewMemory()
	s := New(store)
	if _, err := s.Host(t.Context()); !errors.Is(err, delegate.ErrSecretMissing) {
		t.Fatalf("a Vigil of before wallets: %v", err)
	}
	pub, err := s.AddHostKey(t.Context())
	must(t, err)
	if again, err := s.AddHostKey(t.Context()); err != nil || again != pub {
		t.Fatalf("a second init makes another key: %v", err)
	}
	host, err := New(store).Host(t.Context())
	must(t, err)
	hash := bip340.TaggedHash("vigil/test", nil)
	sig, err := host.Sign(hash)
	if err != nil || host.PubKey() != pub || !bip340.Verify(pub.XOnly(), hash[:], sig) {
		t.Errorf("%s signs as %s: %v", pub, host.PubKey(), err)
	}
	store.Fail(secret.ErrUnavailable)
	if _, err := s.AddHostKey(t.Context()); !errors.Is(err, secret.ErrUnavailable) {
		t.Errorf("a store that is down: %v", err)
	}
	// One that cannot be read is never drawn anew: every device has pinned it.
	store.Fail(nil)
	damaged := secret.New(make([]byte, 32))
	must(t, store.Put(t.Context(), hostName, damaged))
	if _, err := s.AddHostKey(t.Context()); !errors.Is(err, delegate.ErrSecretWrong) {
		t.Errorf("a host key that is none: %v", err)
	}
	kept, err := store.Get(t.Context(), hostName)
	must(t, err)
	must(t, kept.Use(func(b []byte) error {
		if !bytes.Equal(b, make([]byte, 32)) {
			t.Error("another was put in its place")
		}
		return nil
	}))
}

// TestCeremoniesMakeRoom: the oldest of an owner's, and it is wiped, as one is that
// somebody forgets.
func TestCeremoniesMakeRoom(t *testing.T) {
	s, d := newServer(), newDevice(t, 2)
	var ids []frost.SessionID
	var acts []*keygen
	begin := func() {
		id, _, err := s.cs.BeginKeygen(d.owner(), pubs(d.hosts), 2)
		must(t, err)
		ids, acts = append(ids, id), append(acts, s.cs.open[id].act.(*keygen))
	}
	lives := func(i int) bool {
		err := acts[i].host.Use(func([]byte) error { return nil })
		if _, open := s.cs.open[ids[i]]; open != (err == nil) {
			t.Errorf("ceremony %d: open %v, and its host key: %v", i, open, err)
		}
		return err == nil
	}
	for range 9 { // the map's order must not matter
		begin()
		for i := range ids {
			if want := i > len(ids)-3; lives(i) != want {
				t.Fatalf("of %d ceremonies number %d lives: %v", len(ids), i, !want)
			}
		}
	}
	s.cs.Forget(ids[8])
	if s.cs.Forget(ids[8]); lives(8) || !lives(7) { // an unknown one is no error
		t.Error("the one that was forgotten lives, or the other does not")
	}
}

// TestKeygenStepsOnce: no step is taken before its time or again with other
// messages, and each attempt ends the ceremony.
func TestKeygenStepsOnce(t *testing.T) {
	s, d := newServer(), newDevice(t, 2)
	early, _, err := s.cs.BeginKeygen(d.owner(), pubs(d.hosts), 2)
	must(t, err)
	if err := s.cs.Keep(t.Context(), early, d.owner()); !errors.Is(err, ErrCeremony) || s.cs.Len() != 0 {
		t.Errorf("kept before it is made: %v, %d open", err, s.cs.Len())
	}
	session, dkgHost, err := s.cs.BeginKeygen(d.owner(), pubs(d.hosts), 2)
	must(t, err)
	all := pubs(d.hosts)
	all[Own] = dkgHost
	params, err := chilldkg.NewParams(2, all)
	must(t, err)
	first := func() [][]byte {
		_, msg, err := chilldkg.Step1(d.hosts[0], params)
		must(t, err)
		return [][]byte{msg, nil}
	}
	if _, err := s.cs.Keygen(session, d.owner(), first()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.cs.Keygen(session, d.owner(), first()); !errors.Is(err, ErrCeremony) || s.cs.Len() != 0 {
		t.Errorf("first messages twice: %v, %d open", err, s.cs.Len())
	}
}

// TestHoldingsAreBounded: nothing is stored that could not be read again.
func TestHoldingsAreBounded(t *testing.T) {
	h := held{0, secret.New(make([]byte, 32)), secret.New(make([]byte, 32))}
	for _, hs := range []holding{nil, {h, h, h}} {
		if _, err := hs.encode(); err == nil {
			t.Errorf("%d epochs are written", len(hs))
		}
	}
}

// TestRefreshStepsOnce is TestKeygenStepsOnce for a refresh.
func TestRefreshStepsOnce(t *testing.T) {
	s, d := newServer(), newDevice(t, 2)
	must(t, d.keygen(t, s, 2))
	old := s.row.epochs[0]
	begin := func() (frost.SessionID, *refresh.Params) {
		id, _, err := s.cs.BeginRefresh(t.Context(), d.owner(), old, nil)
		must(t, err)
		params, err := refresh.NewParams(old.Info, old.Record, old.Hosts, old.Hosts)
		must(t, err)
		return id, params
	}
	none := make([][]byte, 2)
	for name, early := range map[string]func(frost.SessionID) error{
		"kept before it is certified": func(id frost.SessionID) error { return s.cs.KeepRefresh(t.Context(), id, d.owner()) },
		"certified without its first messages": func(id frost.SessionID) error {
			_, err := s.cs.ReadyRefresh(t.Context(), id, d.owner(), none)
			return err
		},
		"taken for a keygen": func(id frost.SessionID) error {
			_, err := s.cs.Keygen(id, d.owner(), none)
			return err
		},
	} {
		id, _ := begin()
		if err := early(id); !errors.Is(err, ErrCeremony) || s.cs.Len() != 0 {
			t.Errorf("%s: %v, %d open", name, err, s.cs.Len())
		}
	}
	foreign := old
	foreign.Hosts = []bip340.PubKey{old.Hosts[0], old.Hosts[0]}
	if _, _, err := s.cs.BeginRefresh(t.Context(), d.owner(), foreign, nil); !errors.Is(err, delegate.ErrSecretWrong) {
		t.Errorf("a record in which this server's host key is another: %v", err)
	}
	foreign.Hosts = old.Hosts[:1]
	if _, _, err := s.cs.BeginRefresh(t.Context(), d.owner(), foreign, nil); !errors.Is(err, delegate.ErrSecretWrong) {
		t.Errorf("a record without this server: %v", err)
	}
	id, params := begin()
	first := func() [][]byte {
		_, msg, err := refresh.Step1(d.hosts[0], params)
		must(t, err)
		return [][]byte{msg, nil}
	}
	_, err := s.cs.Refresh(t.Context(), id, d.owner(), first())
	must(t, err)
	if _, err := s.cs.ReadyRefresh(t.Context(), id, d.owner(), make([][]byte, 3)); !errors.Is(err, chilldkg.ErrLength) {
		t.Errorf("a second message too many: %v", err)
	}
	id, params = begin()
	_, err = s.cs.Refresh(t.Context(), id, d.owner(), first())
	must(t, err)
	if _, err := s.cs.Refresh(t.Context(), id, d.owner(), first()); !errors.Is(err, ErrCeremony) || s.cs.Len() != 0 {
		t.Errorf("first messages twice: %v, %d open", err, s.cs.Len())
	}
}

// TestWallets of several shapes are made, sign with any one gone, and are refreshed
// in both ways.
func TestWallets(t *testing.T) {
	for _, shape := range []struct {
		t, n    int
		signers [][]int
	}{
		{2, 2, [][]int{{0, 1}}},
		{2, 3, [][]int{{0, 1}, {1, 2}, {0, 1, 2}}},
		{3, 5, [][]int{{0, 1, 2}, {1, 3, 4}}},
	} {
		t.Run(fmt.Sprintf("%d of %d", shape.t, shape.n), func(t *testing.T) {
			t.Parallel()
			s, d := newServer(), newDevice(t, shape.n)
			must(t, d.keygen(t, s, shape.t))
			key := d.key.Info.PubKey()
			for _, healing := range []bool{false, true} {
				for _, ids := range shape.signers {
					must(t, d.sign(t, s, ids, 3))
				}
				must(t, d.refresh(t, s, healing))
				if d.key.Info.PubKey() != key {
					t.Fatal("the key changed")
				}
			}
			for _, ids := range shape.signers {
				must(t, d.sign(t, s, ids, 1))
			}
			names, err := s.store.List(t.Context(), "")
			must(t, err)
			if want := WalletNames(vigil.WalletID(key.XOnly())); !slices.Equal(names, slices.Sorted(slices.Values(want))) {
				t.Errorf("%v are stored, want %v", names, want)
			}
			epochs, err := s.signer.Epochs(t.Context(), vigil.WalletID(key.XOnly()))
			if err != nil || !slices.Equal(epochs, []uint32{2}) {
				t.Errorf("epochs %v are kept: %v", epochs, err)
			}
		})
	}
}

// TestKeygenCrashes kills the server before and after every write of a wallet's
// making: then there is a wallet, or the device makes one at its next attempt; both
// sides sign with it, and nothing else stays in the store.
func TestKeygenCrashes(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 0; ; at++ {
			s, d := newServer(), newDevice(t, 2)
			s.store.at, s.store.after = at, after
			err := d.keygen(t, s, 2)
			if err == nil {
				if at < 4 {
					t.Fatalf("only %d writes were found", at)
				}
				break
			}
			if !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			s.restart()
			must(t, d.keygen(t, s, 2))
			must(t, d.sign(t, s, []int{0, 1}, 1))
			names, err := s.store.List(t.Context(), "")
			must(t, err)
			if len(names) != 2 {
				t.Errorf("crash %d, after %v: %v stay", at, after, names)
			}
		}
	}
}

// TestRefreshCrashes kills the server before and after every write of a refresh and
// of the end of its cut-over: at once, and again when both have talked about it, one
// same epoch signs, and the next refresh succeeds.
func TestRefreshCrashes(t *testing.T) {
	both := []int{0, 1}
	for _, healing := range []bool{false, true} {
		for _, after := range []bool{false, true} {
			if testing.Short() && healing != after {
				continue // under the race detector: each value once
			}
			for at := 0; ; at++ {
				s, d := newServer(), newDevice(t, 2)
				must(t, d.keygen(t, s, 2))
				s.store.at, s.store.after = at, after
				err := d.refresh(t, s, healing)
				if err == nil {
					if at < 4 {
						t.Fatalf("only %d writes were found", at)
					}
					break
				}
				if !errors.Is(err, errCrash) {
					t.Fatal(err)
				}
				s.restart()
				name := fmt.Sprintf("healing %v, crash %d, after %v", healing, at, after)
				if err := d.sign(t, s, both, 1); err != nil {
					t.Errorf("%s: no common epoch: %v", name, err)
				}
				must(t, d.settle(t, s))
				if err := d.sign(t, s, both, 1); err != nil {
					t.Errorf("%s: no common epoch afterwards: %v", name, err)
				}
				must(t, d.refresh(t, s, healing))
				must(t, d.sign(t, s, both, 1))
				w := vigil.WalletID(d.key.Info.PubKey().XOnly())
				if epochs, err := s.signer.Epochs(t.Context(), w); err != nil || len(epochs) != 1 {
					t.Errorf("%s: epochs %v are kept: %v", name, epochs, err)
				}
			}
		}
	}
}

// TestRefreshStoreDown lets the store fail for a while at every write: the step is
// repeated, and no ceremony is lost.
func TestRefreshStoreDown(t *testing.T) {
	s, d := newServer(), newDevice(t, 2)
	must(t, d.keygen(t, s, 2))
	session, _, err := s.cs.BeginRefresh(t.Context(), d.owner(), s.row.epochs[0], nil)
	must(t, err)
	s.store.dead = true
	if _, err := s.cs.Refresh(t.Context(), session, d.owner(), [][]byte{nil, nil}); !errors.Is(err, errCrash) {
		t.Fatalf("a store that is down: %v", err)
	}
	s.store.dead = false
	if s.cs.Len() != 1 {
		t.Fatal("a store that was down cost the ceremony")
	}
	fault := (*chilldkg.FaultError)(nil)
	if _, err := s.cs.Refresh(t.Context(), session, d.owner(), [][]byte{make([]byte, 194), nil}); !errors.As(err, &fault) || fault.ID != 0 {
		t.Fatalf("a message of zeros: %v", err)
	}
	if s.cs.Len() != 0 {
		t.Error("a message at fault did not end the ceremony")
	}
}

// TestOneRefreshAtATime: a second one of the same wallet ends the first, so that no
// share is replaced which a row may name already.
func TestOneRefreshAtATime(t *testing.T) {
	s, d := newServer(), newDevice(t, 3)
	must(t, d.keygen(t, s, 2))
	other, e := newServer(), newDevice(t, 2)
	other.store, other.signer, other.cs = s.store, s.signer, s.cs
	must(t, e.keygen(t, other, 2))
	first, _, err := s.cs.BeginRefresh(t.Context(), d.owner(), s.row.epochs[0], nil)
	must(t, err)
	foreign, _, err := s.cs.BeginRefresh(t.Context(), e.owner(), other.row.epochs[0], nil)
	must(t, err)
	second, _, err := s.cs.BeginRefresh(t.Context(), d.hosts[2].PubKey(), s.row.epochs[0], nil)
	must(t, err)
	if _, err := s.cs.Refresh(t.Context(), first, d.owner(), make([][]byte, 3)); !errors.Is(err, ErrCeremony) {
		t.Errorf("the first goes on: %v", err)
	}
	for _, id := range []frost.SessionID{foreign, second} {
		if s.cs.open[id] == nil {
			t.Error("one that was in nobody's way has ended")
		}
	}
}

// TestEndWaitsForNoStep: a ceremony that ends while its store is slow holds up
// nobody, and is wiped when the step is over.
func TestEndWaitsForNoStep(t *testing.T) {
	s, d := newServer(), newDevice(t, 2)
	session, _, err := s.cs.BeginKeygen(d.owner(), pubs(d.hosts), 2)
	must(t, err)
	act := s.cs.open[session].act.(*keygen)
	nothing := func([]byte) error { return nil }
	err = step(s.cs, session, d.owner(), func(*keygen) error {
		s.cs.Close() // as Sweep does, from another request
		return act.host.Use(nothing)
	})
	if err != nil || s.cs.Len() != 0 {
		t.Fatalf("%v, %d open", err, s.cs.Len())
	}
	if err := act.host.Use(nothing); !errors.Is(err, secret.ErrBurned) {
		t.Errorf("not wiped: %v", err)
	}
}

// TestCeremoniesAreBounded: per owner and in all, in time, and in whose they are.
func TestCeremoniesAreBounded(t *testing.T) {
	clock := now
	s := New(secrettest.NewMemory())
	cs := s.Ceremonies(CeremonyLimits{PerOwner: 2, Total: 3, Participants: 4, Seconds: 60}, func() int64 { return clock })
	begin := func() (frost.SessionID, *device, error) {
		d := newDevice(t, 2)
		id, _, err := cs.BeginKeygen(d.owner(), pubs(d.hosts), 2)
		return id, d, err
	}
	first, d, err := begin()
	must(t, err)
	for range 3 { // the same owner again: its oldest makes room
		_, _, err = cs.BeginKeygen(d.owner(), pubs(d.hosts), 2)
		must(t, err)
	}
	if _, err := cs.Keygen(first, d.owner(), make([][]byte, 2)); !errors.Is(err, ErrCeremony) || cs.Len() != 2 {
		t.Errorf("%d open, the first: %v", cs.Len(), err)
	}
	other, e, err := begin()
	must(t, err)
	if _, _, err := begin(); !errors.Is(err, ErrCeremonies) {
		t.Errorf("one over all: %v", err)
	}
	if _, err := cs.Keygen(other, d.owner(), make([][]byte, 2)); !errors.Is(err, ErrCeremony) || cs.Len() != 3 {
		t.Errorf("somebody else's ceremony: %v, %d open", err, cs.Len())
	}
	if _, err := cs.Ready(other, e.owner(), make([][]byte, 2)); !errors.Is(err, ErrCeremony) || cs.Len() != 2 {
		t.Errorf("a step too early: %v, %d open", err, cs.Len())
	}
	late, l, err := begin()
	must(t, err)
	clock += 61
	if _, err := cs.Keygen(late, l.owner(), make([][]byte, 2)); !errors.Is(err, ErrCeremony) {
		t.Errorf("one whose time is over: %v", err)
	}
	cs.Sweep()
	if cs.Len() != 0 {
		t.Errorf("%d outlive their time", cs.Len())
	}
	for name, c := range map[string]struct{ n, t int }{"alone": {1, 1}, "a threshold of one": {2, 1}, "too many": {5, 2}, "more than there are": {3, 4}} {
		hosts := pubs(others(t, c.n))
		if _, _, err := cs.BeginKeygen(hosts[0], hosts, c.t); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	hosts := pubs(others(t, 3))
	hosts[2] = hosts[0]
	if _, _, err := cs.BeginKeygen(hosts[0], hosts, 2); err == nil {
		t.Error("two shares of one holder: taken")
	}
	hosts[Own] = hosts[0]
	if _, _, err := cs.BeginKeygen(hosts[0], hosts, 2); !errors.Is(err, ErrRequest) {
		t.Errorf("somebody in this server's place: %v", err)
	}
	if cs.Len() != 0 {
		t.Errorf("%d refused ones stay", cs.Len())
	}
}

// TestCeremoniesAreWiped: what a ceremony held is gone with it, and what it stored
// is not.
func TestCeremoniesAreWiped(t *testing.T) {
	s, d := newServer(), newDevice(t, 2)
	var act *keygen
	s.store.at = 0 // the caller's plan is not written
	err := d.keygen(t, s, 2)
	if !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	for _, c := range s.cs.open {
		act = c.act.(*keygen)
	}
	opened := func() map[string]error {
		nothing := func([]byte) error { return nil }
		return map[string]error{"host key": act.host.Use(nothing), "share": act.share.Use(nothing), "delegate key": act.delegate.Use(nothing)}
	}
	for _, err := range opened() {
		must(t, err)
	}
	s.cs.Close()
	for name, err := range opened() {
		if !errors.Is(err, secret.ErrBurned) {
			t.Errorf("the %s is not wiped: %v", name, err)
		}
	}
}

// TestRandomLives refreshes wallets in both ways, kills the server at random writes
// and lets device and server settle at once or later: after every step one same
// epoch signs.
func TestRandomLives(t *testing.T) {
	if testing.Short() {
		t.Skip("one goroutine and much arithmetic: nothing for the race detector")
	}
	rapid.Check(t, func(rt *rapid.T) {
		s, d := newServer(), newDevice(t, 2)
		must(t, d.keygen(t, s, 2))
		for range rapid.IntRange(1, 3).Draw(rt, "steps") {
			healing := rapid.Bool().Draw(rt, "healing")
			s.store.at, s.store.after = rapid.IntRange(-1, 4).Draw(rt, "dies at"), rapid.Bool().Draw(rt, "after it")
			switch err := d.refresh(t, s, healing); {
			case errors.Is(err, errCrash):
				s.restart()
			case err != nil:
				rt.Fatal(err)
			}
			if err := d.sign(t, s, []int{0, Own}, 1); err != nil {
				rt.Fatalf("no common epoch: %v", err)
			}
			s.store.at, s.store.after = rapid.IntRange(-1, 2).Draw(rt, "dies settling at"), rapid.Bool().Draw(rt, "after it too")
			for d.settle(t, s) != nil { // before the next refresh, however often it takes
				s.restart()
			}
			if err := d.sign(t, s, []int{0, Own}, 1); err != nil {
				rt.Fatalf("no common epoch once settled: %v", err)
			}
			s.store.at = -1
		}
	})
}
