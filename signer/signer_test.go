package signer

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

const (
	now  int64 = 1_890_000_000
	dust int64 = 330
)

// house is a signer with one service key, and what belongs to its operator.
type house struct {
	t        *testing.T
	store    *secrettest.Memory
	signer   *Signer
	service  bip340.PubKey
	operator *bip340.Key
	made     byte
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, store: secrettest.NewMemory(), operator: newKey(t)}
	h.signer = New(h.store)
	h.service = h.addKey().Key
	return h
}

func (h *house) addKey() ServiceKey {
	h.t.Helper()
	k, err := h.signer.AddServiceKey(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return k
}

func newKey(t *testing.T) *bip340.Key {
	t.Helper()
	key, scalar, err := bip340.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	scalar.Burn()
	return key
}

// record signs a delegate over fresh coins as a stock wallet does, its proof on
// leaf 0 (owner and operator) or 2 (ours too), and takes it in.
func (h *house) record(leaf int, amounts ...int64) *delegate.Record {
	h.t.Helper()
	owner := newKey(h.t)
	tree, err := script.Delegate(owner.PubKey().XOnly(), h.service.XOnly(), h.operator.PubKey().XOnly(), 20)
	if err != nil {
		h.t.Fatal(err)
	}
	terms := delegate.StockTerms{
		Params: ark.Params{
			Network: ark.Regtest, SignerKey: h.operator.PubKey(), ForfeitKey: h.operator.PubKey(), ForfeitScript: ark.PayToTaproot(h.operator.PubKey().XOnly()),
			SessionSeconds: 30, ExitDelay: 20, VtxoMax: -1, Dust: dust, MaxTxWeight: 40_000, Digest: "d",
		},
		Keys: []bip340.PubKey{h.service}, Now: now,
	}
	text, err := intent.NewRegister(now+1000, 0, h.service).Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	var inputs []intent.Input
	var sum int64
	for _, amount := range amounts {
		h.made++
		op := wire.OutPoint{Hash: chainhash.Hash{h.made, 1}, Index: 1}
		sum += amount
		inputs = append(inputs, intent.Input{Outpoint: op, Out: wire.NewTxOut(amount, tree.PkScript()), Sequence: wire.MaxTxInSequenceNum, Tree: tree, Leaf: leaf})
		terms.VTXOs = append(terms.VTXOs, ark.VTXO{
			Outpoint: op, Amount: amount, Script: tree.PkScript(), CreatedAt: now - 1000, ExpiresAt: now + 100_000, CommitmentTxs: []chainhash.Hash{{9}},
		})
	}
	proof, err := intent.BuildProof(text, inputs, []*wire.TxOut{wire.NewTxOut(sum, tree.PkScript())})
	if err != nil {
		h.t.Fatal(err)
	}
	signing, err := intent.ToSign(proof, owner.PubKey().XOnly(), txscript.SigHashAll)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, s := range signing {
		script.AddSignature(&proof.Inputs[s.Index], s.Leaf, script.Signature{Key: owner.PubKey().XOnly(), Type: txscript.SigHashAll, Sig: h.sign(owner, s.Sighash)})
	}
	body := delegate.StockBody{Message: text}
	if body.Proof, err = encode(proof); err != nil {
		h.t.Fatal(err)
	}
	for _, v := range terms.VTXOs {
		p, sighash, err := forfeit.Build(forfeit.Terms{Outpoint: v.Outpoint, Amount: v.Amount, Tree: tree, Dust: dust, Script: terms.Params.ForfeitScript}, 2)
		if err != nil {
			h.t.Fatal(err)
		}
		leafScript, _ := tree.LeafProof(2)
		script.AddSignature(&p.Inputs[0], leafScript, script.Signature{Key: owner.PubKey().XOnly(), Type: forfeit.OwnerSighash, Sig: h.sign(owner, sighash)})
		b64, err := encode(p)
		if err != nil {
			h.t.Fatal(err)
		}
		body.Forfeits = append(body.Forfeits, b64)
	}
	req, err := delegate.ParseStock(body, delegate.StockLimits{Inputs: 128, Outputs: 8})
	if err != nil {
		h.t.Fatal(err)
	}
	rec, err := delegate.CheckStock(req, terms)
	if err != nil {
		h.t.Fatal(err)
	}
	return rec
}

func (h *house) sign(key *bip340.Key, msg [32]byte) [64]byte {
	h.t.Helper()
	sig, err := key.Sign(msg[:])
	if err != nil {
		h.t.Fatal(err)
	}
	return sig
}

// open opens a session and wants every record in it.
func (h *house) open(recs ...*delegate.Record) *Session {
	h.t.Helper()
	s, failed := h.signer.Open(h.t.Context(), recs)
	if len(failed) > 0 {
		h.t.Fatal(failed)
	}
	h.t.Cleanup(s.Close)
	return s
}

// nodes are n nodes of a tree that the service key signs together with the
// operator.
func (h *house) nodes(n int) []batch.SigningNode {
	h.t.Helper()
	ctx, err := musig2.NewTaprootContext([]bip340.PubKey{h.service, h.operator.PubKey()}, bytes.Repeat([]byte{1}, 32))
	if err != nil {
		h.t.Fatal(err)
	}
	list := make([]batch.SigningNode, n)
	for i := range list {
		list[i] = batch.SigningNode{Txid: chainhash.Hash{byte(i), byte(i >> 8), 7}, Cosigner: h.service, Sighash: [32]byte{byte(i), 3}, Context: ctx}
	}
	return list
}

// requests adds the operator's nonces, and its own partial signatures beside.
func (h *house) requests(nodes []batch.SigningNode, ours map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce) ([]batch.SignRequest, []musig2.PartialSig) {
	h.t.Helper()
	var requests []batch.SignRequest
	var theirs []musig2.PartialSig
	for _, n := range nodes {
		sec, pub, err := musig2.NewNonce(h.operator, n.Context, &n.Sighash, nil)
		if err != nil {
			h.t.Fatal(err)
		}
		agg, err := musig2.AggregateNonces([]musig2.PubNonce{ours[n.Cosigner][n.Txid], pub})
		if err != nil {
			h.t.Fatal(err)
		}
		session, err := n.Context.Session(agg, n.Sighash)
		if err != nil {
			h.t.Fatal(err)
		}
		sig, err := session.Sign(h.operator, sec)
		if err != nil {
			h.t.Fatal(err)
		}
		requests, theirs = append(requests, batch.SignRequest{SigningNode: n, Agg: agg, Session: session}), append(theirs, sig)
	}
	return requests, theirs
}

// TestFromPersisted takes the record's own secret and no other.
func TestFromPersisted(t *testing.T) {
	h := newHouse(t)
	rec := h.record(0, 5000)
	right, err := h.store.Get(t.Context(), ServiceName(1))
	if err != nil {
		t.Fatal(err)
	}
	burned := secret.New(bytes.Repeat([]byte{1}, 32))
	burned.Burn()
	another := *rec
	another.TreeKey = newKey(t).PubKey() // its tree key is not its delegate key
	foreign := *rec
	foreign.Kind = 7
	for _, c := range []struct {
		name  string
		rec   *delegate.Record
		value secret.Bytes
		want  error
	}{
		{"its own", rec, right, nil},
		{"another's", rec, secret.New(bytes.Repeat([]byte{7}, 32)), delegate.ErrSecretWrong},
		{"zero", rec, secret.New(make([]byte, 32)), delegate.ErrSecretWrong},
		{"the curve's order and more", rec, secret.New(bytes.Repeat([]byte{0xff}, 32)), delegate.ErrSecretWrong},
		{"short", rec, secret.New([]byte{1}), delegate.ErrSecretWrong},
		{"empty", rec, secret.New(nil), delegate.ErrSecretWrong},
		{"burned", rec, burned, secret.ErrBurned},
		{"a tree key of another", &another, right, delegate.ErrSecretWrong},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := FromPersisted(c.rec, Secrets{Delegate: c.value, Tree: c.value})
			if !errors.Is(err, c.want) || (err == nil) != (o != nil) {
				t.Fatalf("opened %v, error %v, want %v", o != nil, err, c.want)
			}
			if errors.Is(c.want, secret.ErrBurned) && errors.Is(err, delegate.ErrSecretWrong) {
				t.Error("a secret that we burned ourselves would quarantine the delegate")
			}
			if o != nil {
				o.Burn()
				if _, err := o.delegate.Sign(make([]byte, 32)); err == nil {
					t.Error("a burned session signs")
				}
			}
		})
	}
	if _, err := FromPersisted(&foreign, Secrets{Delegate: right, Tree: right}); err == nil || errors.Is(err, delegate.ErrSecretWrong) || errors.Is(err, delegate.ErrSecretMissing) {
		t.Errorf("a kind of a later version: %v", err)
	}
	if err := right.Use(func([]byte) error { return nil }); err != nil {
		t.Errorf("the secret is the caller's to burn: %v", err)
	}
}

// TestOpenTellsMissingFromDown: missing and wrong secrets and damaged records
// quarantine, a store that is down does not.
func TestOpenTellsMissingFromDown(t *testing.T) {
	for _, c := range []struct {
		name    string
		spoil   func(h *house, rec *delegate.Record)
		want    error
		passing bool
	}{
		{name: "missing", want: delegate.ErrSecretMissing, spoil: func(h *house, _ *delegate.Record) {
			if err := h.store.Delete(h.t.Context(), ServiceName(1)); err != nil {
				h.t.Fatal(err)
			}
		}},
		{name: "another key's", want: delegate.ErrSecretWrong, spoil: func(h *house, _ *delegate.Record) {
			h.put(ServiceName(1), bytes.Repeat([]byte{7}, 32))
		}},
		{name: "no key's", want: delegate.ErrSecretWrong, spoil: func(h *house, _ *delegate.Record) { h.put(ServiceName(1), []byte("x")) }},
		{name: "tampered", want: delegate.ErrSecretWrong, spoil: func(h *house, _ *delegate.Record) { h.store.Fail(secret.ErrTampered) }},
		{name: "down", want: secret.ErrUnavailable, passing: true, spoil: func(h *house, _ *delegate.Record) { h.store.Fail(secret.ErrUnavailable) }},
		{name: "closed", want: secret.ErrClosed, passing: true, spoil: func(h *house, _ *delegate.Record) { h.store.Fail(secret.ErrClosed) }},
		{name: "a damaged record", want: delegate.ErrDamaged, spoil: func(_ *house, rec *delegate.Record) { rec.Outputs[0].Value-- }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			rec := h.record(0, 5000)
			c.spoil(h, rec)
			s, failed := h.signer.Open(t.Context(), []*delegate.Record{rec})
			defer s.Close()
			err := failed[rec.ID]
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			final := errors.Is(err, delegate.ErrSecretMissing) || errors.Is(err, delegate.ErrSecretWrong) || errors.Is(err, delegate.ErrDamaged)
			if final == c.passing {
				t.Fatalf("%v would quarantine: %v", err, final)
			}
			if _, err := s.Proof(rec.ID); err == nil {
				t.Error("a delegate that was not opened is registered")
			}
			if _, err := s.Forfeits(rec.ID, nil); err == nil {
				t.Error("a delegate that was not opened forfeits")
			}
		})
	}
}

func (h *house) put(name string, value []byte) {
	h.t.Helper()
	v := secret.New(value)
	defer v.Burn()
	if err := h.store.Put(h.t.Context(), name, v); err != nil {
		h.t.Fatal(err)
	}
}

// TestABrokenKeyIsNotHeldAgainstOthers: a signer that begins afresh finds the
// sound keys' names beside one that cannot be read, and one that is not ours.
func TestABrokenKeyIsNotHeldAgainstOthers(t *testing.T) {
	h := newHouse(t)
	rec := h.record(0, 5000)
	h.addKey()
	h.put(ServiceName(2), []byte("damaged"))
	h.put("delegate-service.old", bytes.Repeat([]byte{5}, 32))
	s, failed := New(h.store).Open(t.Context(), []*delegate.Record{rec})
	defer s.Close()
	if len(failed) > 0 {
		t.Fatalf("the second key's damage is held against the first's delegate: %v", failed)
	}
	gone := *rec
	gone.DelegateKey, gone.TreeKey = newKey(t).PubKey(), bip340.PubKey{}
	if _, err := New(h.store).open(t.Context(), &gone); !errors.Is(err, delegate.ErrSecretMissing) || !errors.Is(err, delegate.ErrSecretWrong) {
		t.Fatalf("a key that may be the damaged one: %v", err)
	}
}

// TestServiceKeys numbers keys as they are added, keeps old ones, and refuses a
// store that holds something else under their names.
func TestServiceKeys(t *testing.T) {
	h := newHouse(t)
	var added []ServiceKey
	for range 10 {
		added = append(added, h.addKey()) // to 11: names do not sort as numbers do
	}
	keys, err := New(h.store).ServiceKeys(t.Context())
	if err != nil || len(keys) != 11 || keys[0].Key != h.service {
		t.Fatalf("%v, %v", keys, err)
	}
	seen := map[bip340.PubKey]bool{}
	for i, k := range keys {
		if k.Number != i+1 || seen[k.Key] || i > 0 && k != added[i-1] {
			t.Errorf("key %d is %+v", i, k)
		}
		seen[k.Key] = true
	}
	if err := h.store.Delete(t.Context(), ServiceName(11)); err != nil {
		t.Fatal(err)
	}
	if err := h.store.Delete(t.Context(), ServiceName(3)); err != nil {
		t.Fatal(err)
	}
	if k := h.addKey(); k.Number != 11 {
		t.Errorf("the next is %d", k.Number)
	}
	for _, name := range []string{"delegate-service.", "delegate-service.01", "delegate-service.+1", "delegate-service.0", "delegate-service.-2", "delegate-service.1x"} {
		h.put(name, bytes.Repeat([]byte{5}, 32))
		if _, err := h.signer.ServiceKeys(t.Context()); err == nil {
			t.Errorf("%q passes for a service key", name)
		}
		if _, err := h.signer.AddServiceKey(t.Context()); err == nil {
			t.Errorf("a key is added beside %q", name)
		}
		if err := h.store.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	h.store.Fail(secret.ErrUnavailable)
	if _, err := h.signer.AddServiceKey(t.Context()); !errors.Is(err, secret.ErrUnavailable) {
		t.Errorf("with the store down: %v", err)
	}
}

// TestKeysAddedAtOnce get a number each.
func TestKeysAddedAtOnce(t *testing.T) {
	h := newHouse(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := h.signer.AddServiceKey(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	keys, err := h.signer.ServiceKeys(t.Context())
	if err != nil || len(keys) != 9 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
}

// TestProofIsSignedWhereOurKeyStands and left alone elsewhere; the operator
// takes both.
func TestProofIsSignedWhereOurKeyStands(t *testing.T) {
	h := newHouse(t)
	for leaf, ours := range map[int]int{0: 0, 2: 3} { // input 0 and two coins
		rec := h.record(leaf, 5000, 6000)
		b64, err := h.open(rec).Proof(rec.ID)
		if err != nil {
			t.Fatal(err)
		}
		packet, err := script.ParsePSBT(b64, script.StrangerLimits())
		if err != nil {
			t.Fatal(err)
		}
		proof, err := intent.Verify(packet, rec.Message, intent.Options{Skip: []bip340.XOnly{h.operator.PubKey().XOnly()}})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, in := range append(proof.Inputs, proof.Message) {
			for _, sig := range in.Signatures {
				if sig.Key == h.service.XOnly() {
					n++
				}
			}
		}
		if n != ours {
			t.Errorf("leaf %d: %d signatures of ours, want %d", leaf, n, ours)
		}
		if base64.StdEncoding.EncodeToString(rec.Proof) == b64 && ours > 0 {
			t.Error("the record's own proof was signed")
		}
	}
}

// TestSign makes signatures that combine with the operator's, on all cores.
func TestSign(t *testing.T) {
	h := newHouse(t)
	s := h.open(h.record(0, 5000), h.record(0, 6000))
	nodes := h.nodes(40)
	pub, err := s.Nonces(nodes)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[musig2.PubNonce]bool{}
	for _, n := range pub[h.service] {
		seen[n] = true
	}
	if len(seen) != len(nodes) {
		t.Fatalf("%d nonces for %d nodes", len(seen), len(nodes))
	}
	requests, theirs := h.requests(nodes, pub)
	sigs, err := s.Sign(requests)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range requests {
		final, err := r.Session.Combine([]musig2.PartialSig{sigs[h.service][r.Txid], theirs[i]})
		if err != nil {
			t.Fatal(err)
		}
		if !bip340.Verify(r.Context.OutputKey(), r.Sighash[:], final) {
			t.Fatalf("node %d does not verify", i)
		}
	}
}

// TestNoNonceServesTwice: not for a second signature, not after a failure, not
// after Close, and no node gets a second one.
func TestNoNonceServesTwice(t *testing.T) {
	h := newHouse(t)
	rec := h.record(0, 5000)
	nodes := h.nodes(3)
	t.Run("second nonces", func(t *testing.T) {
		s := h.open(rec)
		if _, err := s.Nonces(nodes); err != nil {
			t.Fatal(err)
		}
		if pub, err := s.Nonces(nodes[:1]); !errors.Is(err, ErrNonce) || pub != nil {
			t.Fatalf("%v, %v", pub, err)
		}
	})
	t.Run("one node twice", func(t *testing.T) {
		if pub, err := h.open(rec).Nonces([]batch.SigningNode{nodes[0], nodes[0]}); !errors.Is(err, ErrNonce) || pub != nil {
			t.Fatalf("%v, %v", pub, err)
		}
	})
	t.Run("second signature", func(t *testing.T) {
		s := h.open(rec)
		pub, err := s.Nonces(nodes)
		if err != nil {
			t.Fatal(err)
		}
		requests, _ := h.requests(nodes, pub)
		if _, err := s.Sign(requests); err != nil {
			t.Fatal(err)
		}
		again, _ := h.requests(nodes, pub) // under other nonces of the operator
		for _, r := range again {
			if sigs, err := s.Sign([]batch.SignRequest{r}); !errors.Is(err, ErrNonce) || sigs != nil {
				t.Fatalf("%v, %v", sigs, err)
			}
		}
		if pub, err := s.Nonces(nodes[:1]); !errors.Is(err, ErrNonce) || pub != nil {
			t.Fatalf("nonces for a node that was signed: %v, %v", pub, err)
		}
	})
	t.Run("one request twice", func(t *testing.T) {
		s := h.open(rec)
		pub, err := s.Nonces(nodes[:1])
		if err != nil {
			t.Fatal(err)
		}
		requests, _ := h.requests(nodes[:1], pub)
		if sigs, err := s.Sign([]batch.SignRequest{requests[0], requests[0]}); !errors.Is(err, ErrNonce) || sigs != nil {
			t.Fatalf("%v, %v", sigs, err)
		}
		if sigs, err := s.Sign(requests); !errors.Is(err, ErrNonce) || sigs != nil {
			t.Fatalf("a failed attempt left a nonce: %v, %v", sigs, err)
		}
	})
	t.Run("without nonces", func(t *testing.T) {
		other := h.open(rec)
		pub, err := other.Nonces(nodes)
		if err != nil {
			t.Fatal(err)
		}
		requests, _ := h.requests(nodes, pub)
		if sigs, err := h.open(rec).Sign(requests); !errors.Is(err, ErrNonce) || sigs != nil {
			t.Fatalf("%v, %v", sigs, err)
		}
	})
	t.Run("a stranger among them", func(t *testing.T) {
		s := h.open(rec)
		pub, err := s.Nonces(nodes[:2])
		if err != nil {
			t.Fatal(err)
		}
		requests, _ := h.requests(nodes[:2], pub)
		requests[1].Cosigner = h.operator.PubKey()
		if sigs, err := s.Sign(requests); err == nil || sigs != nil {
			t.Fatalf("%v, %v", sigs, err)
		}
		requests, _ = h.requests(nodes[:1], pub)
		if sigs, err := s.Sign(requests); !errors.Is(err, ErrNonce) || sigs != nil {
			t.Fatalf("the failed attempt left a nonce: %v, %v", sigs, err)
		}
	})
}

// TestForeignCosigner: the session has its records' keys and no others, and no
// key stands for its negation.
func TestForeignCosigner(t *testing.T) {
	h := newHouse(t)
	s := h.open(h.record(0, 5000))
	negated := h.service
	negated[0] ^= 1
	for _, key := range []bip340.PubKey{h.operator.PubKey(), negated, h.addKey().Key} {
		nodes := h.nodes(2)
		nodes[1].Cosigner = key
		if pub, err := s.Nonces(nodes); err == nil || pub != nil {
			t.Errorf("nonces for %s: %v, %v", key, pub, err)
		}
	}
}

// TestCloseWipes keys and nonces, once and again.
func TestCloseWipes(t *testing.T) {
	h := newHouse(t)
	rec := h.record(0, 5000)
	s := h.open(rec)
	nodes := h.nodes(2)
	pub, err := s.Nonces(nodes)
	if err != nil {
		t.Fatal(err)
	}
	requests, _ := h.requests(nodes, pub)
	held := s.ring.keys[h.service]
	var nonces []*musig2.SecNonce
	for _, n := range s.nonces {
		nonces = append(nonces, n)
	}
	s.Close()
	s.Close()
	if sigs, err := s.Sign(requests); err == nil || sigs != nil {
		t.Fatalf("signed after the end: %v, %v", sigs, err)
	}
	if pub, err := s.Nonces(nodes); err == nil || pub != nil {
		t.Fatalf("nonces after the end: %v, %v", pub, err)
	}
	if txs, err := s.Forfeits(rec.ID, map[wire.OutPoint]batch.Connector{rec.Inputs[0].Outpoint: h.connector(1, dust)}); err == nil || txs != nil {
		t.Fatalf("forfeits after the end: %v, %v", txs, err)
	}
	if _, err := held.Sign(make([]byte, 32)); !errors.Is(err, secret.ErrBurned) {
		t.Errorf("the key lives: %v", err)
	}
	for i, n := range nonces {
		if _, err := requests[i].Session.Sign(newKey(t), n); !errors.Is(err, bip340.ErrNonceUsed) {
			t.Errorf("nonce %d lives: %v", i, err)
		}
	}
}

// connector is one of the operator's.
func (h *house) connector(n byte, sats int64) batch.Connector {
	return batch.Connector{
		Outpoint: wire.OutPoint{Hash: chainhash.Hash{n, 0xc0}}, Out: wire.NewTxOut(sats, ark.PayToTaproot(h.operator.PubKey().XOnly())),
	}
}

// TestForfeits completes each coin's with its own connector, in the record's
// order, pinned by our signature.
func TestForfeits(t *testing.T) {
	h := newHouse(t)
	rec := h.record(0, 5000, 6000, 7000)
	s := h.open(rec)
	connectors := map[wire.OutPoint]batch.Connector{
		rec.Inputs[2].Outpoint: h.connector(3, dust), rec.Inputs[0].Outpoint: h.connector(1, dust),
	}
	before := fmt.Sprint(rec)
	txs, err := s.Forfeits(rec.ID, connectors)
	if err != nil || len(txs) != 2 {
		t.Fatalf("%d forfeits, %v", len(txs), err)
	}
	for i, in := range []delegate.Input{rec.Inputs[0], rec.Inputs[2]} {
		p, err := script.ParsePSBT(txs[i], script.StrangerLimits())
		if err != nil {
			t.Fatal(err)
		}
		if p.UnsignedTx.TxIn[0].PreviousOutPoint != in.Outpoint || p.UnsignedTx.TxIn[1].PreviousOutPoint != connectors[in.Outpoint].Outpoint {
			t.Errorf("forfeit %d spends %v", i, p.UnsignedTx.TxIn)
		}
		if err := forfeit.VerifyComplete(p, h.service.XOnly(), nil); err != nil {
			t.Errorf("forfeit %d: %v", i, err)
		}
		// Under another connector our signature is worth nothing.
		p.UnsignedTx.TxIn[1].PreviousOutPoint.Hash[5] ^= 1
		if forfeit.VerifyComplete(p, h.service.XOnly(), nil) == nil {
			t.Errorf("forfeit %d is good for another batch", i)
		}
	}
	if fmt.Sprint(rec) != before {
		t.Error("the record was changed")
	}
	if txs, err := s.Forfeits(rec.ID, nil); err != nil || len(txs) != 0 {
		t.Errorf("none wanted: %v, %v", txs, err)
	}
}

// TestForfeitsRefuse everything but the record's own coins, its stored terms,
// and a connector of the value that was signed for.
func TestForfeitsRefuse(t *testing.T) {
	for _, c := range []struct {
		name string
		bend func(h *house, rec *delegate.Record, id *vigil.DelegateID, connectors map[wire.OutPoint]batch.Connector)
	}{
		{"a delegate that was not opened", func(_ *house, _ *delegate.Record, id *vigil.DelegateID, _ map[wire.OutPoint]batch.Connector) {
			id[0] ^= 1
		}},
		{"a coin that is not its", func(h *house, _ *delegate.Record, _ *vigil.DelegateID, m map[wire.OutPoint]batch.Connector) {
			m[wire.OutPoint{Hash: chainhash.Hash{0xee}}] = h.connector(9, dust)
		}},
		{"a connector of another value", func(h *house, rec *delegate.Record, _ *vigil.DelegateID, m map[wire.OutPoint]batch.Connector) {
			m[rec.Inputs[0].Outpoint] = h.connector(1, dust+1)
		}},
		{"no connector's output", func(_ *house, rec *delegate.Record, _ *vigil.DelegateID, m map[wire.OutPoint]batch.Connector) {
			m[rec.Inputs[0].Outpoint] = batch.Connector{}
		}},
		{"the coin as its own connector", func(h *house, rec *delegate.Record, _ *vigil.DelegateID, m map[wire.OutPoint]batch.Connector) {
			k := h.connector(1, dust)
			k.Outpoint = rec.Inputs[0].Outpoint
			m[rec.Inputs[0].Outpoint] = k
		}},
		{"another forfeit script", func(_ *house, rec *delegate.Record, _ *vigil.DelegateID, _ map[wire.OutPoint]batch.Connector) {
			rec.ForfeitScript = ark.PayToTaproot(bip340.XOnly{1})
		}},
		{"another coin's forfeit", func(_ *house, rec *delegate.Record, _ *vigil.DelegateID, _ map[wire.OutPoint]batch.Connector) {
			rec.Inputs[0].Forfeit = rec.Inputs[1].Forfeit
		}},
		{"no forfeit", func(_ *house, rec *delegate.Record, _ *vigil.DelegateID, _ map[wire.OutPoint]batch.Connector) {
			rec.Inputs[0].Forfeit = nil
		}},
		{"a flipped bit in the owner's signature", func(h *house, rec *delegate.Record, _ *vigil.DelegateID, _ map[wire.OutPoint]batch.Connector) {
			p, err := script.DecodePSBT(rec.Inputs[0].Forfeit, script.StrangerLimits())
			if err != nil {
				h.t.Fatal(err)
			}
			p.Inputs[0].TaprootScriptSpendSig[0].Signature[9] ^= 1
			var raw bytes.Buffer
			if err := p.Serialize(&raw); err != nil {
				h.t.Fatal(err)
			}
			rec.Inputs[0].Forfeit = raw.Bytes()
		}},
		{"an amount that was changed", func(_ *house, rec *delegate.Record, _ *vigil.DelegateID, _ map[wire.OutPoint]batch.Connector) {
			rec.Inputs[0].Amount++
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			rec := h.record(0, 5000, 6000)
			s := h.open(rec)
			id, connectors := rec.ID, map[wire.OutPoint]batch.Connector{rec.Inputs[0].Outpoint: h.connector(1, dust)}
			c.bend(h, rec, &id, connectors) // after it was opened: nothing is taken on trust here
			if txs, err := s.Forfeits(id, connectors); err == nil || txs != nil {
				t.Fatalf("%d left, %v", len(txs), err)
			}
		})
	}
}

// TestSessionsShareNothing: many batches at once, each with keys and nonces of
// its own over one store.
func TestSessionsShareNothing(t *testing.T) {
	h := newHouse(t)
	recs := []*delegate.Record{h.record(0, 5000), h.record(2, 6000)}
	nodes := h.nodes(33)
	var group sync.WaitGroup
	pubs := make([]map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce, 6)
	for i := range pubs {
		group.Go(func() {
			s, failed := h.signer.Open(context.WithoutCancel(t.Context()), recs)
			defer s.Close()
			pub, err := s.Nonces(nodes)
			if err != nil || len(failed) > 0 {
				t.Error(failed, err)
				return
			}
			pubs[i] = pub
			requests, _ := h.requests(nodes, pub)
			if _, err := s.Sign(requests); err != nil {
				t.Error(err)
			}
			if _, err := s.Proof(recs[1].ID); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	seen := map[musig2.PubNonce]bool{}
	for _, pub := range pubs {
		for _, n := range pub[h.service] {
			if seen[n] {
				t.Fatal("two batches share a nonce")
			}
			seen[n] = true
		}
	}
}
