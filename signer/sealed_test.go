package signer

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/secret"
)

// sealed is a wallet's delegate over a fresh two-leaf coin, taken in and sealed.
func (h *house) sealed(group *bip340.Key, desc descriptor.Descriptor, amount int64) (*delegate.Record, string) {
	h.t.Helper()
	rec, b64 := h.over(group, desc, amount, desc.TwoLeaf(), descriptor.LeafForfeit)
	must(h.t, h.signer.SealForfeits(h.t.Context(), rec, []string{b64}))
	return rec, b64
}

// connectors gives each of a record's coins one.
func (h *house) connectors(rec *delegate.Record, value int64) map[wire.OutPoint]batch.Connector {
	m := map[wire.OutPoint]batch.Connector{}
	for i, in := range rec.Inputs {
		m[in.Outpoint] = batch.Connector{
			Outpoint: wire.OutPoint{Hash: chainhash.Hash{77, byte(i)}}, Out: wire.NewTxOut(value, ark.PayToTaproot(h.operator.PubKey().XOnly())),
		}
	}
	return m
}

// TestSealedForfeit is completed by the connector alone, for a coin on whose leaf no
// key of ours is, beside delegates of other kinds.
func TestSealedForfeit(t *testing.T) {
	h := newHouse(t)
	group, desc := h.walletOf(true)
	rec, b64 := h.sealed(group, desc, 5000)
	recs := []*delegate.Record{rec, h.ofWallet(group, desc, 6000), h.record(0, 8000)}
	s := h.open(recs...)
	for _, other := range recs[1:] {
		txs, err := s.Forfeits(other.ID, h.connectors(other, dust))
		must(t, err)
		done, err := script.ParsePSBT(txs[0], script.StrangerLimits())
		must(t, err)
		checkForfeit(t, done, other)
	}
	txs, err := s.Forfeits(rec.ID, h.connectors(rec, dust))
	must(t, err)
	done, err := script.ParsePSBT(txs[0], script.StrangerLimits())
	must(t, err)
	if err := forfeit.VerifyBearer(done, group.PubKey().XOnly(), nil); err != nil {
		t.Error(err)
	}
	partial, err := script.ParsePSBT(b64, script.StrangerLimits())
	must(t, err)
	if !bytes.Equal(done.Inputs[0].TaprootScriptSpendSig[0].Signature, partial.Inputs[0].TaprootScriptSpendSig[0].Signature) {
		t.Error("it carries another signature than the owner's")
	}
	if _, err := s.Forfeits(rec.ID, h.connectors(rec, dust+1)); !errors.Is(err, forfeit.ErrTerms) {
		t.Errorf("with a connector of another value: %v", err)
	}
	s.Close()
	if txs, err := s.Forfeits(rec.ID, h.connectors(rec, dust)); err == nil {
		t.Errorf("a closed session gives %d", len(txs))
	}
}

// TestSealForfeitsTakesTheRecordsOwn and puts nothing else.
func TestSealForfeitsTakesTheRecordsOwn(t *testing.T) {
	h := newHouse(t)
	group, desc := h.walletOf(false)
	two := desc.TwoLeaf()
	rec, own := h.over(group, desc, 5000, two, descriptor.LeafForfeit)
	_, others := h.over(group, desc, 5000, two, descriptor.LeafForfeit)
	stranger, strangersDesc := h.walletOf(false)
	_, foreign := h.over(stranger, strangersDesc, 5000, strangersDesc.TwoLeaf(), descriptor.LeafForfeit)
	for name, list := range map[string][]string{"none": nil, "another coin's": {others}, "a stranger's": {foreign}, "no PSBT": {"cHNidP8="}} {
		if err := h.signer.SealForfeits(t.Context(), rec, list); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
	changed := *rec
	changed.Dust++
	if err := h.signer.SealForfeits(t.Context(), &changed, []string{own}); err == nil {
		t.Error("sealed for a record of other terms")
	}
	if _, err := h.store.Get(t.Context(), ForfeitName(rec.ID)); !errors.Is(err, secret.ErrNotFound) {
		t.Errorf("something was stored: %v", err)
	}
	must(t, h.signer.SealForfeits(t.Context(), rec, []string{others, own}))
	h.store.Fail(secret.ErrUnavailable)
	if err := h.signer.SealForfeits(t.Context(), rec, []string{own}); !errors.Is(err, secret.ErrUnavailable) {
		t.Errorf("a store that is down: %v", err)
	}
}

// TestFromPersistedOfSealedForfeits: what is sealed must be the record's, all of it
// and nothing more.
func TestFromPersistedOfSealedForfeits(t *testing.T) {
	h := newHouse(t)
	group, desc := h.walletOf(true)
	rec, _ := h.sealed(group, desc, 5000)
	other, _ := h.sealed(group, desc, 5000)
	get := func(name string) []byte {
		v, err := h.store.Get(t.Context(), name)
		must(t, err)
		var b []byte
		must(t, v.Use(func(held []byte) error { b = bytes.Clone(held); return nil }))
		return b
	}
	own := get(ForfeitName(rec.ID))
	with := func(change func(b []byte) []byte) secret.Bytes { return secret.New(change(bytes.Clone(own))) }
	burned := with(func(b []byte) []byte { return b })
	burned.Burn()
	for name, c := range map[string]struct {
		value secret.Bytes
		want  error
	}{
		"its own":              {with(func(b []byte) []byte { return b }), nil},
		"another delegate's":   {secret.New(get(ForfeitName(other.ID))), delegate.ErrSecretWrong},
		"a signature changed":  {with(func(b []byte) []byte { b[20] ^= 1; return b }), delegate.ErrSecretWrong},
		"another version":      {with(func(b []byte) []byte { b[0]++; return b }), delegate.ErrSecretWrong},
		"another input":        {with(func(b []byte) []byte { b[2]++; return b }), delegate.ErrSecretWrong},
		"cut":                  {with(func(b []byte) []byte { return b[:len(b)-1] }), delegate.ErrSecretWrong},
		"twice":                {with(func(b []byte) []byte { return append(b, b[1:]...) }), delegate.ErrSecretWrong},
		"its version alone":    {with(func(b []byte) []byte { return b[:1] }), delegate.ErrSecretWrong},
		"empty":                {secret.New(nil), delegate.ErrSecretWrong},
		"none":                 {secret.Bytes{}, secret.ErrBurned},
		"burned in the middle": {burned, secret.ErrBurned},
	} {
		secrets := Secrets{Delegate: secret.New(get(delegateName(rec.Wallet))), Tree: secret.New(get(treeName(rec.ID))), Forfeits: c.value}
		o, err := FromPersisted(rec, secrets)
		if !errors.Is(err, c.want) || (err == nil) != (o != nil) || errors.Is(c.want, secret.ErrBurned) && errors.Is(err, delegate.ErrSecretWrong) {
			t.Errorf("%s: opened %v, error %v, want %v", name, o != nil, err, c.want)
		}
		if o != nil {
			held := o.bearers[rec.Inputs[0].Outpoint]
			o.Burn()
			if err := held.Use(func([]byte) error { return nil }); !errors.Is(err, secret.ErrBurned) {
				t.Error("a burned session has its forfeits still")
			}
		}
	}
	// A record that says something else of the forfeit is not held to the signature.
	for name, bend := range map[string]func(*delegate.Record){
		"txid": func(r *delegate.Record) { r.Inputs[0].Sealed[3] ^= 1 },
		"type": func(r *delegate.Record) { r.Sighashes[len(r.Sighashes)-1].Type = 0 },
	} {
		bent := rec.Clone()
		bent.Sighashes = slices.Clone(rec.Sighashes)
		bend(bent)
		secrets := Secrets{Delegate: secret.New(get(delegateName(rec.Wallet))), Tree: secret.New(get(treeName(rec.ID))), Forfeits: secret.New(bytes.Clone(own))}
		if o, err := FromPersisted(bent, secrets); !errors.Is(err, delegate.ErrDamaged) || o != nil {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

// TestOpenOfSealedForfeitsTellsMissingFromDown.
func TestOpenOfSealedForfeitsTellsMissingFromDown(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(h *house, name string)
		want  error
	}{
		"missing": {func(h *house, name string) { must(h.t, h.store.Delete(h.t.Context(), name)) }, delegate.ErrSecretMissing},
		"wrong":   {func(h *house, name string) { h.put(name, bytes.Repeat([]byte{1}, 1+sealedLen)) }, delegate.ErrSecretWrong},
		"down":    {func(h *house, _ string) { h.store.Fail(secret.ErrUnavailable) }, secret.ErrUnavailable},
	} {
		h := newHouse(t)
		group, desc := h.walletOf(false)
		rec, _ := h.sealed(group, desc, 5000)
		sound := h.ofWallet(group, desc, 6000)
		c.spoil(h, ForfeitName(rec.ID))
		s, failed := h.signer.Open(t.Context(), []*delegate.Record{rec, sound})
		if !errors.Is(failed[rec.ID], c.want) {
			t.Errorf("%s: %v, want %v", name, failed[rec.ID], c.want)
		}
		if c.want != secret.ErrUnavailable && failed[sound.ID] != nil {
			t.Errorf("%s: held against another: %v", name, failed[sound.ID])
		}
		s.Close()
	}
}

// TestSecretsOfSealedForfeits: their name, when they are garbage, and what of them is
// to be searched for.
func TestSecretsOfSealedForfeits(t *testing.T) {
	h := newHouse(t)
	group, desc := h.walletOf(false)
	rec, b64 := h.sealed(group, desc, 5000)
	want := []string{treeName(rec.ID), "forfeit-secret." + rec.ID.String()}
	if got := Garbage(rec); !slices.Equal(got, want) {
		t.Errorf("garbage %v, want %v", got, want)
	}
	ended := rec.Clone()
	ended.Entomb()
	if got := Garbage(ended); !slices.Equal(got, want) {
		t.Errorf("of an ended one %v", got)
	}
	if got := Garbage(&delegate.Record{ID: rec.ID, Kind: delegate.Wallet}); !slices.Equal(got, want) {
		t.Errorf("of one that cannot be read %v", got)
	}
	packet, err := script.ParsePSBT(b64, script.StrangerLimits())
	must(t, err)
	sig := packet.Inputs[0].TaprootScriptSpendSig[0].Signature
	parts := map[string][]byte{}
	for _, name := range []string{ForfeitName(rec.ID), treeName(rec.ID), "host-key.1"} {
		value, err := h.store.Get(t.Context(), name)
		if name == "host-key.1" {
			value, err = secret.New([]byte("0123456789abcdef")), nil
		}
		must(t, err)
		must(t, Parts(name, value, func(part string, b secret.Bytes) error {
			return b.Use(func(b []byte) error { parts[part] = bytes.Clone(b); return nil })
		}))
	}
	if !bytes.Equal(parts[want[1]+" signature"], sig) || !bytes.Equal(parts[want[1]+" scalar"], sig[32:]) || len(parts[want[0]]) != 32 || len(parts) != 4 {
		t.Errorf("parts %v", len(parts))
	}
	epochs := append([]byte{holdingVersion, 1, 0, 0, 0, 0}, bytes.Repeat([]byte{5}, 64)...)
	n := 0
	must(t, Parts("dkg-secret.aa", secret.New(epochs), func(string, secret.Bytes) error { n++; return nil }))
	if n != 2 {
		t.Errorf("a share and its host key are %d parts", n)
	}
}

// FuzzSealed: what decodes is one signature for each coin that has one sealed.
func FuzzSealed(f *testing.F) {
	f.Add(append([]byte{sealedVersion, 0, 0}, make([]byte, sigLen)...))
	f.Add(append([]byte{sealedVersion}, make([]byte, 2*sealedLen)...))
	f.Add([]byte{sealedVersion})
	f.Add([]byte{})
	rec := &delegate.Record{ID: vigil.DelegateID{1}, Inputs: []delegate.Input{
		{Outpoint: wire.OutPoint{Index: 1}, Sealed: chainhash.Hash{1}}, {Outpoint: wire.OutPoint{Index: 2}}, {Outpoint: wire.OutPoint{Index: 3}, Sealed: chainhash.Hash{2}},
	}}
	f.Fuzz(func(t *testing.T, b []byte) {
		bs, err := decodeSealed(rec, secret.New(bytes.Clone(b)))
		if err != nil {
			return
		}
		if len(b) != 1+len(bs)*sealedLen || len(bs) == 0 || len(bs) > 2 {
			t.Fatalf("%d bytes are %d forfeits", len(b), len(bs))
		}
		for op := range bs {
			if !slices.ContainsFunc(rec.Inputs, func(in delegate.Input) bool { return in.Outpoint == op && in.Bearer() }) {
				t.Fatalf("a forfeit of %s", op)
			}
		}
	})
}
