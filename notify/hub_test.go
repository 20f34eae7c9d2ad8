package notify

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	alice, bob = vigil.WalletID{1}, vigil.WalletID{2}
	phone, pad = bip340.PubKey{2, 1}, bip340.PubKey{2, 2}
)

func watch(t *testing.T, h *Hub, wallet vigil.WalletID, key bip340.PubKey) *Watch {
	t.Helper()
	w, err := h.Watch(t.Context(), wallet, key)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// drain reads what is queued until the watch is closed.
func drain(w *Watch) (kinds []Kind) {
	for e := range w.C() {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func TestPublish(t *testing.T) {
	var seen []Kind
	h := NewHub(Limits{}, func(w vigil.WalletID, e Event) { seen = append(seen, e.Kind) })
	a, b, other := watch(t, h, alice, phone), watch(t, h, alice, pad), watch(t, h, bob, phone)
	for _, k := range Kinds() {
		h.Publish(alice, Event{Kind: k})
	}
	h.Publish(bob, Event{Kind: Banned})
	h.Publish(vigil.WalletID{9}, Event{Kind: Failed}) // nobody watches
	h.Close()
	if got := drain(a); !slices.Equal(got, Kinds()) {
		t.Errorf("%v", got)
	}
	if got := drain(b); !slices.Equal(got, Kinds()) {
		t.Errorf("%v", got)
	}
	if got := drain(other); !slices.Equal(got, []Kind{Banned}) {
		t.Errorf("%v", got)
	}
	if len(seen) != len(Kinds())+2 {
		t.Errorf("the sink got %v", seen)
	}
	for _, w := range []*Watch{a, b, other} {
		if w.Err() != ErrStopped {
			t.Error(w.Err())
		}
	}
	h.Publish(alice, Event{Kind: Sent})
	if _, err := h.Watch(t.Context(), alice, phone); !errors.Is(err, ErrStopped) || len(seen) != len(Kinds())+2 {
		t.Errorf("after the end: %v", err)
	}
}

// TestSlowWatcher is cut off, told why, and holds nobody up.
func TestSlowWatcher(t *testing.T) {
	h := NewHub(Limits{Queue: 3}, nil)
	defer h.Close()
	slow, quick := watch(t, h, alice, phone), watch(t, h, alice, pad)
	for range 4 {
		h.Publish(alice, Event{Kind: Received})
		<-quick.C()
	}
	if got := drain(slow); len(got) != 3 || slow.Err() != ErrSlow {
		t.Errorf("%v, %v", got, slow.Err())
	}
	if quick.Err() != nil || h.Watchers() != 1 {
		t.Errorf("%v, %d", quick.Err(), h.Watchers())
	}
}

func TestCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Limits{}, nil)
		a, b, c := watch(t, h, alice, phone), watch(t, h, alice, pad), watch(t, h, bob, phone)
		h.Revoke(alice, phone)
		if drain(a); a.Err() != ErrRevoked || b.Err() != nil || c.Err() != nil {
			t.Error(a.Err(), b.Err(), c.Err())
		}
		h.Forget(alice)
		if drain(b); b.Err() != ErrRevoked || c.Err() != nil {
			t.Error(b.Err(), c.Err())
		}
		c.Close()
		c.Close()
		if drain(c); c.Err() != nil || h.Watchers() != 0 {
			t.Error(c.Err(), h.Watchers())
		}
		why := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		d, err := h.Watch(ctx, alice, phone)
		if err != nil {
			t.Fatal(err)
		}
		cancel(why)
		synctest.Wait()
		if drain(d); !errors.Is(d.Err(), why) || h.Watchers() != 0 {
			t.Error(d.Err(), h.Watchers())
		}
		h.Publish(alice, Event{})
		h.Close()
	})
}

func TestLimits(t *testing.T) {
	h := NewHub(Limits{PerWallet: 2, Watchers: 3}, nil)
	defer h.Close()
	watch(t, h, alice, phone)
	second := watch(t, h, alice, phone)
	if _, err := h.Watch(t.Context(), alice, pad); !errors.Is(err, ErrTooMany) {
		t.Errorf("a third: %v", err)
	}
	watch(t, h, bob, phone)
	if _, err := h.Watch(t.Context(), vigil.WalletID{3}, phone); !errors.Is(err, ErrTooMany) {
		t.Errorf("a fourth in all: %v", err)
	}
	second.Close()
	watch(t, h, alice, pad)
}

// TestStorm publishes, watches, revokes and closes at once: for the race
// detector, and for whoever sends on a closed channel.
func TestStorm(t *testing.T) {
	h := NewHub(Limits{Queue: 2}, nil)
	done := make(chan struct{})
	for i := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 300 {
				switch i {
				case 0:
					h.Publish(alice, Event{Kind: Received})
				case 1:
					h.Revoke(alice, phone)
				default:
					if w, err := h.Watch(t.Context(), alice, phone); err == nil {
						select {
						case <-w.C():
						default:
						}
						w.Close()
					}
				}
			}
		}()
	}
	for range 4 {
		<-done
	}
	h.Close()
	if h.Watchers() != 0 || len(h.wallets) != 0 {
		t.Errorf("%d watchers are left, of %d wallets", h.Watchers(), len(h.wallets))
	}
}

// TestTheEndHasItsReason: whoever reads that no more events come finds out why, at
// whatever moment he looks.
func TestTheEndHasItsReason(t *testing.T) {
	for range 2000 {
		h := NewHub(Limits{}, nil)
		w, err := h.Watch(t.Context(), vigil.WalletID{1}, bip340.PubKey{2})
		if err != nil {
			t.Fatal(err)
		}
		go h.Revoke(vigil.WalletID{1}, bip340.PubKey{2})
		for range w.C() {
			t.Fatal("an event")
		}
		if err := w.Err(); !errors.Is(err, ErrRevoked) {
			t.Fatalf("it ended with %v", err)
		}
		h.Close()
	}
}
