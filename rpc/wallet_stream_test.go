package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// quiet is a port of which only watches are asked, and they have nothing to
// say.
type quiet struct {
	Wallets
	watch func(ctx context.Context, send func(*vigilpb.Event) error) error
}

func (quiet) Permit(context.Context, auth.Call) error { return nil }

func (q quiet) Watch(ctx context.Context, _ auth.Call, _ *vigilpb.WatchRequest, send func(*vigilpb.Event) error) error {
	if q.watch != nil {
		return q.watch(ctx, send)
	}
	<-ctx.Done()
	return ctx.Err()
}

type forgetful struct{}

func (forgetful) Begin(context.Context, auth.Call) ([]byte, error) { return nil, nil }
func (forgetful) Finish(context.Context, auth.Call, []byte) error  { return nil }

type hostKey struct{ *bip340.Key }

func (h hostKey) HostKey() bip340.PubKey { return h.PubKey() }

func (h hostKey) SignAnswer(_ context.Context, hash [32]byte) ([64]byte, error) {
	return h.Sign(hash[:])
}

// watching makes an edge over q, and a request to watch.
func watching(t *testing.T, q Wallets, limits Limits) (*walletEdge, *method, in) {
	t.Helper()
	key, s, err := bip340.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	s.Burn()
	l := limits.withDefaults()
	w := &walletEdge{
		WalletService: WalletService{Wallets: q, Replay: forgetful{}, Signer: hostKey{key}, Network: "regtest", Window: time.Minute},
		edge:          edge{refused: func(vigil.Code) {}, log: slog.New(slog.DiscardHandler)}, limits: l, now: time.Now,
		rates:   newSources[vigil.WalletID](l.ofWallet(), time.Now),
		watches: newSources[vigil.WalletID](l.ofWatches(), time.Now),
		stopped: make(chan struct{}),
	}
	m := &method{name: vigilpb.WalletService_Watch_FullMethodName}
	signed, _, err := auth.Sign(key, key.PubKey(), "regtest", m.name, auth.Request{
		Wallet: append(make([]byte, 31), 1), Timestamp: time.Now().Unix(), Nonce: [16]byte{1},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w, m, in{request: signed}
}

// A watch with nothing to say shows every half minute that it lives, and ends
// at its age.
func TestWatchBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, m, r := watching(t, quiet{}, Limits{WatchAge: 10*time.Minute + time.Second})
		begun := time.Now()
		var kinds []string
		err := w.watch(t.Context(), m, r, func(a *vigilpb.SignedAnswer) error {
			e := &vigilpb.Event{}
			if err := proto.Unmarshal(a.GetPayload(), e); err != nil {
				return err
			}
			if kinds = append(kinds, e.GetKind()); a.GetSeq() != uint64(len(kinds)) || e.GetAt() != time.Now().Unix() {
				t.Errorf("event %d is %v", len(kinds), e)
			}
			return nil
		})
		if vigil.CodeOf(err) != vigil.CodeWatchExpired || time.Since(begun) != w.limits.WatchAge {
			t.Errorf("it ended after %v: %v", time.Since(begun), err)
		}
		if len(kinds) != 21 || kinds[0] != eventOpen || kinds[1] != eventBeat || kinds[20] != eventBeat {
			t.Errorf("events: %v", kinds)
		}
	})
}

// A reader that is gone ends its watch, at the latest with the next beat.
func TestWatchEndsWithItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, m, r := watching(t, quiet{}, Limits{})
		gone, sent := errors.New("gone"), 0
		begun := time.Now()
		_ = w.watch(t.Context(), m, r, func(*vigilpb.SignedAnswer) error {
			if sent++; sent > 1 {
				return gone
			}
			return nil
		})
		if sent != 2 || time.Since(begun) != beat {
			t.Errorf("%d events in %v", sent, time.Since(begun))
		}
	})
}

// deadlines is a writer that notes its deadlines.
type deadlines struct {
	*httptest.ResponseRecorder
	write []time.Time
	read  int
}

func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = append(d.write, t); return nil }
func (d *deadlines) SetReadDeadline(time.Time) error    { d.read++; return nil }

// Each event has its own time to be read, and a stream that waits has none.
func TestEventsHaveDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, m, r := watching(t, quiet{watch: func(_ context.Context, send func(*vigilpb.Event) error) error {
			return send(&vigilpb.Event{Kind: "test"})
		}}, Limits{})
		d := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		ctx, cancel := lasting(d, httptest.NewRequestWithContext(t.Context(), http.MethodPost, walletREST+"watch", nil))
		defer cancel()
		if err := w.watch(ctx, m, r, func(*vigilpb.SignedAnswer) error {
			if last := d.write[len(d.write)-1]; !last.Equal(time.Now().Add(sendWithin)) {
				t.Errorf("an event may take until %v", last)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(d.write) != 4 || !d.write[1].IsZero() || !d.write[3].IsZero() || d.read == 0 {
			t.Errorf("deadlines: %v", d.write)
		}
	})
}

// mute is a signer whose key is gone.
type mute struct{ hostKey }

func (mute) SignAnswer(context.Context, [32]byte) ([64]byte, error) {
	return [64]byte{}, errors.New("the key is gone")
}

// taken is a replay's memory that notes whether anything was finished.
type taken struct {
	forgetful
	finished int
}

func (m *taken) Finish(context.Context, auth.Call, []byte) error { m.finished++; return nil }

// Without its key Vigil answers nothing, and keeps no answer: a retry is told to
// sign anew.
func TestNothingLeavesUnsigned(t *testing.T) {
	w, watch, r := watching(t, prompt{}, Limits{})
	m := &method{name: watch.name, call: ask(prompt{}.Sign)}
	replay := &taken{}
	w.Signer, w.Replay = mute{w.Signer.(hostKey)}, replay
	if a, err := w.answer(t.Context(), m, r); vigil.CodeOf(err) != vigil.CodeInternal || a != nil {
		t.Errorf("%v, %v", a, err)
	}
	r.request.Timestamp -= 1000
	if a, err := w.answer(t.Context(), m, r); vigil.CodeOf(err) == vigil.CodeClockSkew || a != nil {
		t.Errorf("the time, unsigned: %v, %v", a, err)
	}
	if err := w.watch(t.Context(), watch, in{request: r.request}, func(a *vigilpb.SignedAnswer) error {
		t.Errorf("left: %v", a)
		return nil
	}); err == nil {
		t.Error("it watches")
	}
	if replay.finished != 0 {
		t.Error("an answer is kept")
	}
}

// A service that describes a method which is not served does not start.
func TestEveryMethodIsServed(t *testing.T) {
	list, err := methods(quiet{})
	if err != nil || len(list) != vigilpb.File_vigil_v1_wallet_proto.Services().ByName("WalletService").Methods().Len() {
		t.Fatalf("%d methods, %v", len(list), err)
	}
	paths := map[string]bool{}
	for _, m := range list {
		paths[m.path] = true
	}
	if len(paths) != len(list) || paths[""] {
		t.Errorf("paths: %v", paths)
	}
	if err := asDescribed(list[:len(list)-1]); err == nil {
		t.Error("a method may be missing")
	}
}
