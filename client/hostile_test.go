package client_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/vigilpb"
)

// TestHostileCreate has Vigil lie while the key is made: no wallet comes of it,
// and no address is ever shown.
func TestHostileCreate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	stranger, _ := newKey(t)
	change := func(d descriptor.Descriptor, f func(*descriptor.Descriptor)) []byte { f(&d); return d.Encode() }
	for _, c := range []struct {
		name  string
		lie   func(f *fake, method string, answer proto.Message)
		forge func(method string, a *vigilpb.SignedAnswer)
	}{
		{name: "unsigned", forge: func(_ string, a *vigilpb.SignedAnswer) { a.Signature = nil }},
		{name: "signed by another key", forge: func(_ string, a *vigilpb.SignedAnswer) { a.Signature[5] ^= 1 }},
		{name: "another answer under the signature", forge: func(m string, a *vigilpb.SignedAnswer) {
			if m == "CertifyKeygen" {
				a.Payload = append(a.Payload, 0x22, 1, 'x')
			}
		}},
		{name: "another recovery key in the scripts", lie: func(f *fake, m string, a proto.Message) {
			if c, ok := a.(*vigilpb.CertifyKeygenAnswer); ok {
				c.Descriptor_ = change(f.desc, func(d *descriptor.Descriptor) { d.Recovery = stranger.PubKey().XOnly() })
			}
		}},
		{name: "another operator in the scripts", lie: func(f *fake, m string, a proto.Message) {
			if c, ok := a.(*vigilpb.CertifyKeygenAnswer); ok {
				c.Descriptor_ = change(f.desc, func(d *descriptor.Descriptor) { d.Signer = stranger.PubKey().XOnly() })
			}
		}},
		{name: "another group in the scripts", lie: func(f *fake, m string, a proto.Message) {
			if c, ok := a.(*vigilpb.CertifyKeygenAnswer); ok {
				c.Descriptor_ = change(f.desc, func(d *descriptor.Descriptor) { d.Group = stranger.PubKey() })
			}
		}},
		{name: "another wallet's id", lie: func(_ *fake, _ string, a proto.Message) {
			if c, ok := a.(*vigilpb.CertifyKeygenAnswer); ok {
				c.Wallet[3] ^= 1
			}
		}},
		{name: "a certificate that does not verify", lie: func(_ *fake, _ string, a proto.Message) {
			if c, ok := a.(*vigilpb.CertifyKeygenAnswer); ok {
				c.Cmsg2[100] ^= 1
			}
		}},
		{name: "no acknowledgment", lie: func(_ *fake, _ string, a proto.Message) {
			if c, ok := a.(*vigilpb.CertifyKeygenAnswer); ok {
				c.Ack = nil
			}
		}},
		{name: "a wrong share", lie: func(_ *fake, _ string, a proto.Message) {
			if c, ok := a.(*vigilpb.KeygenAnswer); ok {
				c.Cmsg1[len(c.Cmsg1)-64] ^= 1
			}
		}},
		{name: "another host key than the pinned one", lie: func(_ *fake, _ string, a proto.Message) {
			if c, ok := a.(*vigilpb.ServerInfo); ok {
				k := stranger.PubKey()
				c.HostKey = k[:]
			}
		}},
		{name: "another operator", lie: func(_ *fake, _ string, a proto.Message) {
			if c, ok := a.(*vigilpb.ServerInfo); ok {
				k := stranger.PubKey()
				c.OperatorSigner = k[:]
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, w.vigil.params, w.vigil.now)
			f.forge = c.forge
			if c.lie != nil {
				f.lie = func(m string, a proto.Message) { c.lie(f, m, a) }
			}
			cfg := w.config(secrettest.NewMemory())
			cfg.Server, cfg.HostKey = f.http.URL, f.host.PubKey()
			d, err := client.Create(w.ctx, cfg, w.seed(), client.CreateOptions{})
			if err == nil {
				d.Close()
				t.Fatal("a wallet was made")
			}
			if f.calls["AcknowledgeKeygen"] > 0 {
				t.Error("acknowledged")
			}
			if d, err := client.Open(w.ctx, cfg); err == nil {
				if a, err := d.Address(); !errors.Is(err, client.ErrPending) {
					t.Errorf("shows the address %v", a)
				}
				d.Close()
			}
		})
	}
}

// TestHostileSigner has Vigil answer a signing request with anything but the
// answer: nothing is used of it, and no nonce serves twice.
func TestHostileSigner(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, _, _ := w.create(client.CreateOptions{})
	w.minted(d, 50_000)
	to, err := d.Address()
	if err != nil {
		t.Fatal(err)
	}
	f := w.vigil
	var first *vigilpb.SignaturePart // an answer given before
	for _, c := range []struct {
		name  string
		lie   func(a *vigilpb.SignAnswer)
		forge func(a *vigilpb.SignedAnswer)
	}{
		{name: "unsigned", forge: func(a *vigilpb.SignedAnswer) { a.Signature = nil }},
		{name: "forged", forge: func(a *vigilpb.SignedAnswer) { a.Signature[1] ^= 1 }},
		{name: "numbered", forge: func(a *vigilpb.SignedAnswer) { a.Seq = 1 }},
		{name: "no part", lie: func(a *vigilpb.SignAnswer) { a.Parts = nil }},
		{name: "a part more", lie: func(a *vigilpb.SignAnswer) { first = a.Parts[0]; a.Parts = append(a.Parts, a.Parts[0]) }},
		{name: "a part of another request", lie: func(a *vigilpb.SignAnswer) { a.Parts[0] = first }},
		{name: "a wrong part", lie: func(a *vigilpb.SignAnswer) { a.Parts[0].Sig[7] ^= 1 }},
		{name: "a nonce that is no point", lie: func(a *vigilpb.SignAnswer) { a.Parts[0].Nonce[0] = 9 }},
		{name: "a short nonce", lie: func(a *vigilpb.SignAnswer) { a.Parts[0].Nonce = a.Parts[0].Nonce[:65] }},
		{name: "a scalar out of range", lie: func(a *vigilpb.SignAnswer) {
			for i := range a.Parts[0].Sig {
				a.Parts[0].Sig[i] = 0xff
			}
		}},
	} {
		f.mu.Lock()
		f.lie = func(m string, a proto.Message) {
			if m == "Sign" && c.lie != nil {
				c.lie(a.(*vigilpb.SignAnswer))
			}
		}
		f.forge = func(m string, a *vigilpb.SignedAnswer) {
			if m == "Sign" && c.forge != nil {
				c.forge(a)
			}
		}
		f.mu.Unlock()
		if _, err := d.Send(w.ctx, to, 1_000); !errors.Is(err, client.ErrVigil) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	f.mu.Lock()
	f.lie, f.forge = nil, nil
	f.mu.Unlock()
	if _, err := d.Send(w.ctx, to, 1_000); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for nonce, n := range f.nonces {
		if n > 1 {
			t.Errorf("the nonce %x… was offered %d times", nonce[:4], n)
		}
	}
	if len(f.nonces) < 10 {
		t.Errorf("only %d nonces were seen", len(f.nonces))
	}
}

// TestLostAnswer has the answer to a signing request get lost: the device sends
// the same bytes again, which Vigil answers with the same bytes, and never the
// same nonce under other bytes.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, _, _ := w.create(client.CreateOptions{})
	w.minted(d, 50_000)
	to, err := d.Address()
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	w.vigil.mu.Lock()
	clear(w.vigil.bytes)
	w.vigil.drop = func(m string) bool {
		if m == "Sign" && lost < 2 {
			lost++
			return true
		}
		return false
	}
	w.vigil.mu.Unlock()
	if _, err := d.Send(w.ctx, to, 1_000); err != nil {
		t.Fatal(err)
	}
	w.vigil.mu.Lock()
	defer w.vigil.mu.Unlock()
	most := 0
	for _, n := range w.vigil.bytes {
		most = max(most, n)
	}
	if most != 3 || len(w.vigil.bytes) != 2 { // the ark transaction thrice, the checkpoints once
		t.Errorf("%d requests, one of them %d times", len(w.vigil.bytes), most)
	}
}

// TestForgedPrepared refuses ids and tree keys that Vigil's host key did not sign
// for this wallet: a tree key of a stranger would let him stall every renewal.
func TestForgedPrepared(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, _, _ := w.create(client.CreateOptions{})
	_, stranger := newKey(t)
	for name, forge := range map[string]func(*vigilpb.Prepared){
		"key":       func(p *vigilpb.Prepared) { p.TreeKey = stranger[:] },
		"id":        func(p *vigilpb.Prepared) { p.Id[0] ^= 1 },
		"time":      func(p *vigilpb.Prepared) { p.ExpiresAt++ },
		"signature": func(p *vigilpb.Prepared) { p.Signature = nil },
		"length":    func(p *vigilpb.Prepared) { p.Id = p.Id[1:] },
	} {
		w.vigil.mu.Lock()
		w.vigil.lie = func(_ string, a proto.Message) {
			if p, ok := a.(*vigilpb.PrepareDelegatesAnswer); ok {
				forge(p.Prepared[0])
			}
		}
		w.vigil.mu.Unlock()
		if _, err := w.op.Mint(w.output(d, 10_000)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Delegate(w.ctx, client.DelegateOptions{}); !errors.Is(err, client.ErrVigil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(w.vigil.stored) > 0 {
		t.Error("a delegate was submitted")
	}
}
