package signer

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/secret"
)

// walletOf draws the group key of a wallet, which here nobody shares, and stores its
// delegate key, whose point has the wanted parity.
func (h *house) walletOf(odd bool) (group *bip340.Key, desc descriptor.Descriptor) {
	h.t.Helper()
	group = newKey(h.t)
	w := vigil.WalletID(group.PubKey().XOnly())
	var key bip340.PubKey
	for key[0] != 2 && !odd || key[0] != 3 && odd {
		var err error
		key, err = h.signer.draw(h.t.Context(), delegateName(w))
		must(h.t, err)
	}
	p := h.params()
	desc, err := descriptor.New(p, group.PubKey(), key.XOnly(), newKey(h.t).PubKey().XOnly(), 0)
	must(h.t, err)
	return group, desc
}

func (h *house) params() ark.Params {
	return ark.Params{
		Network: ark.Regtest, SignerKey: h.operator.PubKey(), ForfeitKey: h.operator.PubKey(), ForfeitScript: ark.PayToTaproot(h.operator.PubKey().XOnly()),
		SessionSeconds: 30, ExitDelay: 20, BoardingDelay: 20, VtxoMax: -1, Dust: dust, MaxTxWeight: 40_000, Digest: "d",
	}
}

// ofWallet is a wallet's delegate over one fresh coin, taken in.
func (h *house) ofWallet(group *bip340.Key, desc descriptor.Descriptor, amount int64) *delegate.Record {
	h.t.Helper()
	rec, _ := h.over(group, desc, amount, desc.Tree(), descriptor.LeafDelegate)
	return rec
}

// over is ofWallet with a coin at tree whose forfeit is on leaf at, and the forfeit.
func (h *house) over(group *bip340.Key, desc descriptor.Descriptor, amount int64, tree script.Tree, at int) (*delegate.Record, string) {
	h.t.Helper()
	h.made++
	id := vigil.DelegateID{h.made, 9}
	treeKey, err := h.signer.NewTreeKey(h.t.Context(), id)
	must(h.t, err)
	vtxo := ark.VTXO{
		Outpoint: wire.OutPoint{Hash: chainhash.Hash{h.made, 1}, Index: 1}, Amount: amount, Script: tree.PkScript(), CreatedAt: now - 1000,
		ExpiresAt: now + 100_000, CommitmentTxs: []chainhash.Hash{{9}},
	}
	in := intent.Input{Outpoint: vtxo.Outpoint, Out: wire.NewTxOut(amount, tree.PkScript()), Sequence: wire.MaxTxInSequenceNum, Tree: tree}
	prove := func(m intent.Message, outs []*wire.TxOut) (text, b64 string) {
		text, err := m.Encode()
		must(h.t, err)
		p, err := intent.BuildProof(text, []intent.Input{in}, outs)
		must(h.t, err)
		signing, err := intent.ToSign(p, group.PubKey().XOnly(), txscript.SigHashDefault)
		must(h.t, err)
		for _, s := range signing {
			script.AddSignature(&p.Inputs[s.Index], s.Leaf, script.Signature{Key: group.PubKey().XOnly(), Sig: h.sign(group, s.Sighash)})
		}
		b64, err = encode(p)
		must(h.t, err)
		return text, b64
	}
	body := delegate.WalletBody{ID: id}
	body.Message, body.Proof = prove(intent.NewRegister(now+1000, 0, treeKey), []*wire.TxOut{wire.NewTxOut(amount, desc.PkScript())})
	body.DeleteMessage, body.DeleteProof = prove(intent.Message{Kind: intent.Delete}, nil)
	p, sighash, err := forfeit.Build(forfeit.Terms{Outpoint: vtxo.Outpoint, Amount: amount, Tree: tree, Dust: dust, Script: h.params().ForfeitScript}, at)
	must(h.t, err)
	leaf, _ := tree.LeafProof(at)
	script.AddSignature(&p.Inputs[0], leaf, script.Signature{Key: group.PubKey().XOnly(), Type: forfeit.OwnerSighash, Sig: h.sign(group, sighash)})
	b64, err := encode(p)
	must(h.t, err)
	body.Forfeits = []string{b64}
	req, err := delegate.ParseWallet(body, delegate.StockLimits{Inputs: 8, Outputs: 8})
	must(h.t, err)
	rec, err := delegate.CheckWallet(req, delegate.WalletTerms{Params: h.params(), Descriptor: desc, TreeKey: treeKey, VTXOs: []ark.VTXO{vtxo}, TwoLeaf: true, Now: now})
	must(h.t, err)
	return rec, b64
}

// TestSessionOfWallets: wallets' delegates and stock ones in one session, each
// with its own keys; a wallet's key whose point is odd completes forfeits all the
// same.
func TestSessionOfWallets(t *testing.T) {
	h := newHouse(t)
	even, evenDesc := h.walletOf(false)
	odd, oddDesc := h.walletOf(true)
	recs := []*delegate.Record{h.ofWallet(even, evenDesc, 5000), h.ofWallet(even, evenDesc, 6000), h.ofWallet(odd, oddDesc, 7000), h.record(0, 8000)}
	s := h.open(recs...)
	if len(s.ring.keys) != 6 { // two delegate keys, three tree keys, the service key
		t.Errorf("%d keys in the session", len(s.ring.keys))
	}
	for _, rec := range recs {
		if _, err := s.ring.key(rec.TreeKey); err != nil {
			t.Errorf("the tree key of %s: %v", rec.ID, err)
		}
		b64, err := s.Proof(rec.ID)
		must(t, err)
		packet, err := script.ParsePSBT(b64, script.StrangerLimits())
		must(t, err)
		if rec.Kind == delegate.Wallet && len(packet.Inputs[1].TaprootScriptSpendSig) != 1 {
			t.Error("a wallet's proof has another signature than the group's")
		}
		in := rec.Inputs[0]
		connector := batch.Connector{Outpoint: wire.OutPoint{Hash: chainhash.Hash{77}}, Out: wire.NewTxOut(dust, ark.PayToTaproot(h.operator.PubKey().XOnly()))}
		txs, err := s.Forfeits(rec.ID, map[wire.OutPoint]batch.Connector{in.Outpoint: connector})
		must(t, err)
		done, err := script.ParsePSBT(txs[0], script.StrangerLimits())
		must(t, err)
		checkForfeit(t, done, rec)
	}
	s.Close()
	if _, err := s.Forfeits(recs[0].ID, nil); err == nil {
		t.Error("a closed session forfeits")
	}
}

func checkForfeit(t *testing.T, done *psbt.Packet, rec *delegate.Record) {
	t.Helper()
	if err := forfeit.VerifyComplete(done, rec.DelegateKey.XOnly(), nil); err != nil {
		t.Errorf("the forfeit of %s: %v", rec.ID, err)
	}
}

// TestFromPersistedOfAWallet takes both of the record's own secrets and no other.
func TestFromPersistedOfAWallet(t *testing.T) {
	h := newHouse(t)
	group, desc := h.walletOf(true)
	rec := h.ofWallet(group, desc, 5000)
	get := func(name string) secret.Bytes {
		v, err := h.store.Get(t.Context(), name)
		must(t, err)
		return v
	}
	key, tree := get(delegateName(rec.Wallet)), get(treeName(rec.ID))
	other := secret.New(bytes.Repeat([]byte{7}, 32))
	burned := secret.New(bytes.Repeat([]byte{7}, 32))
	burned.Burn()
	negated := *rec
	negated.TreeKey[0] ^= 1
	for name, c := range map[string]struct {
		rec     *delegate.Record
		secrets Secrets
		want    error
	}{
		"its own":                    {rec, Secrets{Delegate: key, Tree: tree}, nil},
		"another delegate key":       {rec, Secrets{Delegate: other, Tree: tree}, delegate.ErrSecretWrong},
		"another tree key":           {rec, Secrets{Delegate: key, Tree: other}, delegate.ErrSecretWrong},
		"the two in each other's":    {rec, Secrets{Delegate: tree, Tree: key}, delegate.ErrSecretWrong},
		"one for both":               {rec, Secrets{Delegate: key, Tree: key}, delegate.ErrSecretWrong},
		"a tree key of other parity": {&negated, Secrets{Delegate: key, Tree: tree}, delegate.ErrSecretWrong},
		"no delegate key":            {rec, Secrets{Delegate: secret.New(nil), Tree: tree}, delegate.ErrSecretWrong},
		"no tree key":                {rec, Secrets{Delegate: key, Tree: secret.New(nil)}, delegate.ErrSecretWrong},
		"a burned delegate key":      {rec, Secrets{Delegate: burned, Tree: tree}, secret.ErrBurned},
		"a burned tree key":          {rec, Secrets{Delegate: key, Tree: burned}, secret.ErrBurned},
	} {
		o, err := FromPersisted(c.rec, c.secrets)
		if !errors.Is(err, c.want) || (err == nil) != (o != nil) || errors.Is(c.want, secret.ErrBurned) && errors.Is(err, delegate.ErrSecretWrong) {
			t.Errorf("%s: opened %v, error %v, want %v", name, o != nil, err, c.want)
		}
		if o != nil {
			o.Burn()
			_, err1 := o.delegate.Sign(make([]byte, 32))
			if _, err2 := o.tree.Sign(make([]byte, 32)); err1 == nil || err2 == nil {
				t.Error("a burned session signs")
			}
		}
	}
	if err := errors.Join(key.Use(func([]byte) error { return nil }), tree.Use(func([]byte) error { return nil })); err != nil {
		t.Errorf("the secrets are the caller's to burn: %v", err)
	}
}

// TestOpenOfAWalletTellsMissingFromDown for each of its two secrets.
func TestOpenOfAWalletTellsMissingFromDown(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(h *house, rec *delegate.Record)
		want  error
	}{
		"no delegate key": {func(h *house, rec *delegate.Record) {
			must(h.t, h.store.Delete(h.t.Context(), delegateName(rec.Wallet)))
		}, delegate.ErrSecretMissing},
		"no tree key":          {func(h *house, rec *delegate.Record) { must(h.t, h.store.Delete(h.t.Context(), treeName(rec.ID))) }, delegate.ErrSecretMissing},
		"another delegate key": {func(h *house, rec *delegate.Record) { h.put(delegateName(rec.Wallet), bytes.Repeat([]byte{7}, 32)) }, delegate.ErrSecretWrong},
		"another tree key":     {func(h *house, rec *delegate.Record) { h.put(treeName(rec.ID), bytes.Repeat([]byte{7}, 32)) }, delegate.ErrSecretWrong},
		"down":                 {func(h *house, _ *delegate.Record) { h.store.Fail(secret.ErrUnavailable) }, secret.ErrUnavailable},
		"a damaged record":     {func(_ *house, rec *delegate.Record) { rec.DeleteProof[40] ^= 1 }, delegate.ErrDamaged},
	} {
		h := newHouse(t)
		group, desc := h.walletOf(false)
		rec, sound := h.ofWallet(group, desc, 5000), h.record(0, 4000)
		c.spoil(h, rec)
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

// TestGarbage: a wallet's delegate leaves its tree key behind, a stock one nothing,
// and a wallet that is deleted everything of its own.
func TestGarbage(t *testing.T) {
	h := newHouse(t)
	group, desc := h.walletOf(false)
	rec := h.ofWallet(group, desc, 5000)
	if got := Garbage(rec); !slices.Equal(got, []string{treeName(rec.ID)}) {
		t.Errorf("a wallet's: %v", got)
	}
	if got := Garbage(h.record(0, 5000)); len(got) > 0 {
		t.Errorf("a stock one's: %v", got)
	}
	for _, name := range WalletNames(rec.Wallet, rec.ID) {
		must(t, h.store.Delete(t.Context(), name))
	}
	names, err := h.store.List(t.Context(), "")
	if err != nil || !slices.Equal(names, []string{ServiceName(1)}) {
		t.Errorf("%v stay: %v", names, err)
	}
}

// FuzzHolding: what decodes is what is written for it again.
func FuzzHolding(f *testing.F) {
	f.Add(append([]byte{1, 1}, make([]byte, heldLen)...))
	f.Add(append([]byte{1, 2}, append(make([]byte, heldLen), append([]byte{0, 0, 0, 1}, make([]byte, 64)...)...)...))
	f.Add([]byte{1, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		hs, err := decodeHolding(secret.New(bytes.Clone(b)))
		if err != nil {
			return
		}
		again, err := hs.encode()
		must(t, err)
		must(t, again.Use(func(out []byte) error {
			if !bytes.Equal(out, b) {
				t.Errorf("%d bytes are written as %d", len(b), len(out))
			}
			return nil
		}))
	})
}
