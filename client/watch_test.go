package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/vigilpb"
)

// TestWatch hears of a payment from Vigil itself.
func TestWatch(t *testing.T) {
	t.Parallel()
	r := newReal(t, arktest.Config{})
	d, _, _ := r.create()
	w := &world{T: t, op: r.op, esplora: r.op.EsploraURL(), ctx: t.Context()}
	w.minted(d, 50_000)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	enough := errors.New("enough")
	open, heard := make(chan struct{}), make(chan error, 1)
	go func() {
		heard <- d.Watch(ctx, func(e client.Event) error {
			switch {
			case e.Kind == client.EventOpen:
				close(open)
			case len(e.Outpoints) > 0:
				return enough
			}
			return nil
		})
	}()
	<-open
	if _, err := d.Send(ctx, d.Descriptor().Address(), 1_000); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if _, err := d.VTXOs(ctx); err != nil { // has Vigil look, which it does every other second
			t.Fatal(err)
		}
		select {
		case err := <-heard:
			if !errors.Is(err, enough) {
				t.Fatal(err)
			}
			return
		case <-tick.C:
		}
	}
}

// TestHostileWatch refuses events that are unsigned, forged, repeated, missing or
// of another request.
func TestHostileWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, store, _ := w.create(client.CreateOptions{})
	d.Close()
	f := w.vigil
	for _, c := range []struct {
		name string
		seqs []uint64
		edit func(hash *[32]byte, a *vigilpb.SignedAnswer)
		good int // events that are believed first
	}{
		{name: "honest", seqs: []uint64{1, 2, 3}, good: 3},
		{name: "begins at two", seqs: []uint64{2}},
		{name: "not numbered", seqs: []uint64{0}},
		{name: "one is missing", seqs: []uint64{1, 3}, good: 1},
		{name: "one twice", seqs: []uint64{1, 1}, good: 1},
		{name: "unsigned", seqs: []uint64{1}, edit: func(_ *[32]byte, a *vigilpb.SignedAnswer) { a.Signature = nil }},
		{name: "changed", seqs: []uint64{1}, edit: func(_ *[32]byte, a *vigilpb.SignedAnswer) { a.Payload = append(a.Payload, 0x2a, 1, 'x') }},
		{name: "of another time", seqs: []uint64{1}, edit: func(_ *[32]byte, a *vigilpb.SignedAnswer) { a.Timestamp++ }},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream := httptest.NewServer(connect.NewServerStreamHandler(service+"Watch", func(_ context.Context, req *connect.Request[vigilpb.SignedRequest], out *connect.ServerStream[vigilpb.SignedAnswer]) error {
				call, err := auth.Verify(f.host.PubKey(), string(f.params.Network), service+"Watch", req.Msg, f.now(), time.Minute)
				if err != nil {
					return err
				}
				for _, seq := range c.seqs {
					raw, err := proto.Marshal(&vigilpb.Event{Kind: "receive", Text: "a coin"})
					if err != nil {
						return err
					}
					a := &vigilpb.SignedAnswer{Payload: raw, Timestamp: f.now().Unix(), Seq: seq}
					hash := auth.AnswerHash(call.Hash, seq, a.Timestamp, raw)
					sig, err := f.host.Sign(hash[:])
					if err != nil {
						return err
					}
					a.Signature = sig[:]
					if c.edit != nil {
						c.edit(&hash, a)
					}
					if err := out.Send(a); err != nil {
						return err
					}
				}
				return nil
			}))
			defer stream.Close()
			cfg := w.config(store)
			cfg.Server = stream.URL
			d, err := client.Open(w.ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			n := 0
			err = d.Watch(w.ctx, func(e client.Event) error { n++; return nil })
			if n != c.good {
				t.Errorf("%d events were believed, %d are honest", n, c.good)
			}
			if want := c.good < len(c.seqs); errors.Is(err, client.ErrVigil) != want {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// TestNobodyIsLeft holds that no goroutine of a device outlives it.
func TestNobodyIsLeft(t *testing.T) {
	w := newWorld(t, arktest.Config{})
	before := goleak.IgnoreCurrent()
	transport := &http.Transport{}
	d, store, _ := w.create(client.CreateOptions{})
	d.Close()
	cfg := w.config(store)
	cfg.HTTP = &http.Client{Transport: transport}
	d, err := client.Open(w.ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	in, err := d.Incoming(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	ran := make(chan error, 1)
	kept := make(chan error, 16)
	go func() { ran <- d.Run(ctx, func(_ client.Kept, err error) { kept <- err }) }()
	if err := <-kept; err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ran; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	in.Close()
	d.Close()
	transport.CloseIdleConnections()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	w.vigil.http.CloseClientConnections()
	goleak.VerifyNone(t, before)
}
