package wallet_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/spend"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/vigilpb"
)

// device is the owner's side: the device and the cold shares, made of the same
// parts as a real one, with all that a real one keeps durable.
type device struct {
	w        *world
	t        testing.TB
	hosts    map[int][32]byte // host secrets, by participant; Vigil's is not among them
	next     map[int][32]byte // those of a healing refresh under way
	n, min   int
	token    string
	source   string
	halt     string                         // the method that is never sent
	spoil    func(round int, msgs [][]byte) // what a lying device does to its messages
	only     []int                          // nil: this side has the shares of all owners
	identity *bip340.Key
	recovery *bip340.Key

	id      vigil.WalletID
	desc    descriptor.Descriptor
	older   []descriptor.Descriptor // of earlier generations
	keys    []bip340.PubKey         // host public keys of the active epoch
	epochs  map[uint32]*held
	active  uint32
	pending *lost // of a refresh whose certificate did not come
}

// held is an epoch as the owner has it.
type held struct {
	info   *frost.Info
	record []byte
	shares map[int]secret.Bytes
	sealed []byte // Vigil's share, as Vigil sealed it
}

// lost is what participants keep of a refresh before its certificate.
type lost struct {
	transcript []byte
	keys       []bip340.PubKey
	healing    bool
}

func newDevice(w *world, n, least int) *device {
	w.t.Helper()
	d := &device{w: w, t: w.t, n: n, min: least, hosts: drawn(w.t, n), identity: fresh(w.t), recovery: fresh(w.t), epochs: map[uint32]*held{}}
	return d
}

func drawn(t testing.TB, n int) map[int][32]byte {
	m := map[int][32]byte{}
	for id := range n {
		if id == own {
			continue
		}
		var b [32]byte
		if _, err := rand.Read(b[:]); err != nil {
			t.Fatal(err)
		}
		m[id] = b
	}
	return m
}

const own = 1

func hostOf(t testing.TB, b [32]byte) *chilldkg.HostKey {
	t.Helper()
	h, err := chilldkg.NewHostKey(secret.New(bytes.Clone(b[:])))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (d *device) host(id int) *chilldkg.HostKey { return hostOf(d.t, d.hosts[id]) }

// owners are the participants but Vigil, ascending.
func (d *device) owners() []int {
	if d.only != nil {
		return d.only
	}
	var ids []int
	for id := range d.n {
		if id != own {
			ids = append(ids, id)
		}
	}
	return ids
}

// as makes a request in the name of a host key (id >= 0) or the identity (-1).
func (d *device) as(id int, method string) auth.Call {
	if id < 0 {
		return d.w.caller(method, d.identity.PubKey(), d.id, d.active)
	}
	if method == d.halt {
		return auth.Call{Method: "halt"}
	}
	wallet := d.id
	switch method {
	case "BeginKeygen", "Keygen", "CertifyKeygen", "Recover":
		wallet = vigil.WalletID{}
	}
	c := d.w.caller(method, d.host(id).PubKey(), wallet, d.active)
	c.Source = d.source
	return c
}

func (d *device) begin() (*vigilpb.BeginKeygenAnswer, error) {
	r := &vigilpb.BeginKeygenRequest{Threshold: uint32(d.min), Name: "phone", Token: d.token}
	host := d.host(0).PubKey()
	r.DeviceHost = host[:]
	for _, id := range d.owners()[1:] {
		cold := d.host(id).PubKey()
		r.ColdHosts = append(r.ColdHosts, cold[:])
	}
	identity, recovery := d.identity.PubKey(), d.recovery.PubKey().XOnly()
	r.IdentityKey, r.RecoveryKey = identity[:], recovery[:]
	call := d.as(0, "BeginKeygen")
	var err error
	if call.Payload, err = proto.Marshal(r); err != nil {
		return nil, err
	}
	return carry(d.w, call, func(ctx context.Context, c auth.Call) (*vigilpb.BeginKeygenAnswer, error) {
		return d.w.service.BeginKeygen(ctx, c, r)
	})
}

// create makes the wallet, whole; whatever was cut short before is taken up.
func (d *device) create() error {
	begun, err := d.begin()
	if err != nil {
		return err
	}
	if len(begun.GetWallet()) > 0 {
		return d.resume()
	}
	d.keys = make([]bip340.PubKey, d.n)
	d.keys[own] = bip340.PubKey(begun.GetServerDkgHost())
	for _, id := range d.owners() {
		d.keys[id] = d.host(id).PubKey()
	}
	p, err := chilldkg.NewParams(d.min, d.keys)
	if err != nil {
		return err
	}
	firsts, first := map[int]*chilldkg.Participant1{}, &vigilpb.KeygenRequest{Session: begun.GetSession()}
	for _, id := range d.owners() {
		p1, msg, err := chilldkg.Step1(d.host(id), p)
		if err != nil {
			return err
		}
		firsts[id], first.Pmsgs1 = p1, append(first.Pmsgs1, msg)
	}
	if d.spoil != nil {
		d.spoil(1, first.Pmsgs1)
	}
	a1, err := carry(d.w, d.as(0, "Keygen"), func(ctx context.Context, c auth.Call) (*vigilpb.KeygenAnswer, error) {
		return d.w.service.Keygen(ctx, c, first)
	})
	if err != nil {
		return err
	}
	seconds, second := map[int]*chilldkg.Participant2{}, &vigilpb.CertifyKeygenRequest{Session: begun.GetSession()}
	for _, id := range d.owners() {
		p2, msg, err := firsts[id].Step2(d.host(id), a1.GetCmsg1())
		if err != nil {
			return err
		}
		seconds[id], second.Pmsgs2 = p2, append(second.Pmsgs2, msg)
	}
	if d.spoil != nil {
		d.spoil(2, second.Pmsgs2)
	}
	a2, err := carry(d.w, d.as(0, "CertifyKeygen"), func(ctx context.Context, c auth.Call) (*vigilpb.CertifyKeygenAnswer, error) {
		return d.w.service.CertifyKeygen(ctx, c, second)
	})
	if err != nil {
		return err
	}
	h := &held{shares: map[int]secret.Bytes{}}
	for _, id := range d.owners() {
		out, record, err := seconds[id].Finalize(a2.GetCmsg2())
		if err != nil {
			return err
		}
		if h.info, err = out.Info(); err != nil {
			return err
		}
		h.record, h.shares[id] = record, out.Share
	}
	if err := chilldkg.VerifyAcknowledgment(p, h.record, own, a2.GetAck()); err != nil {
		return fmt.Errorf("vigil's acknowledgment: %w", err)
	}
	d.epochs[0] = h
	return d.acknowledge(h)
}

// acknowledge confirms the making of the key, and takes the scripts up: before it
// is answered the device shows no address.
func (d *device) acknowledge(h *held) error {
	d.id = vigil.WalletID(h.info.PubKey().XOnly())
	_, p, err := chilldkg.RecoverPublic(h.record)
	if err != nil {
		return err
	}
	r := &vigilpb.AcknowledgeKeygenRequest{}
	for _, id := range d.owners() {
		ack, err := chilldkg.Acknowledge(d.host(id), p, h.record)
		if err != nil {
			return err
		}
		r.Acks = append(r.Acks, ack)
	}
	a, err := carry(d.w, d.as(0, "AcknowledgeKeygen"), func(ctx context.Context, c auth.Call) (*vigilpb.AcknowledgeKeygenAnswer, error) {
		return d.w.service.AcknowledgeKeygen(ctx, c, r)
	})
	if err != nil {
		return err
	}
	if a.GetState() != "active" {
		return fmt.Errorf("the wallet is %s", a.GetState())
	}
	if err := chilldkg.VerifyAcknowledgment(p, h.record, own, a.GetAck()); err != nil {
		return fmt.Errorf("vigil's acknowledgment: %w", err)
	}
	return d.describe(a.GetDescriptor_())
}

// describe takes a descriptor only if it is the one that the device would make.
func (d *device) describe(b []byte) error {
	got, err := descriptor.Decode(b)
	if err != nil {
		return err
	}
	want, err := descriptor.New(d.w.op.params, d.epochs[d.active].info.PubKey(), got.Delegate, d.recovery.PubKey().XOnly(), 0)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("the descriptor is %v, want %v", got, want)
	}
	d.desc = got
	return nil
}

// recover asks for what Vigil keeps; with an identity it enrols that one.
func (d *device) recover(id int, identity *bip340.Key) (*vigilpb.RecoverAnswer, error) {
	r := &vigilpb.RecoverRequest{}
	if identity != nil {
		k := identity.PubKey()
		r.IdentityKey, r.Name = k[:], "new phone"
	}
	return carry(d.w, d.as(id, "Recover"), func(ctx context.Context, c auth.Call) (*vigilpb.RecoverAnswer, error) {
		return d.w.service.Recover(ctx, c, r)
	})
}

// resume takes up, from the seed's host keys alone, what is stored.
func (d *device) resume() error {
	a, err := d.recover(0, nil)
	if err != nil {
		return err
	}
	return d.takeUp(a)
}

// takeUp makes the owner's epochs out of what Recover gave.
func (d *device) takeUp(a *vigilpb.RecoverAnswer) error {
	d.active = a.GetActive()
	for _, e := range a.GetEpochs() {
		if err := d.takeEpoch(e); err != nil {
			return fmt.Errorf("epoch %d: %w", e.GetNumber(), err)
		}
	}
	h := d.epochs[d.active]
	if h == nil {
		return fmt.Errorf("nothing of epoch %d", d.active)
	}
	d.id = vigil.WalletID(h.info.PubKey().XOnly())
	if a.GetState() == "pending" {
		return d.acknowledge(h)
	}
	if len(a.GetEpochs()) == 2 {
		if err := d.acknowledgeRefresh(); err != nil {
			return err
		}
	}
	return d.describe(a.GetDescriptor_())
}

func (d *device) takeEpoch(e *vigilpb.WalletEpoch) error {
	h := d.epochs[e.GetNumber()]
	if h == nil {
		h = &held{record: e.GetRecord(), shares: map[int]secret.Bytes{}}
	}
	for _, id := range d.owners() {
		if _, have := h.shares[id]; have {
			continue
		}
		if e.GetNumber() == 0 {
			out, _, err := chilldkg.Recover(d.host(id), e.GetRecord())
			if err != nil {
				return err
			}
			if h.info, err = out.Info(); err != nil {
				return err
			}
			h.shares[id] = out.Share
			continue
		}
		host := d.host(id)
		if next, ok := d.next[id]; ok && bip340.PubKey(e.GetHosts()[id]) == hostOf(d.t, next).PubKey() {
			host = hostOf(d.t, next)
		}
		var out *refresh.Output
		var err error
		if old := d.epochs[e.GetNumber()-1]; old != nil {
			out, err = refresh.Apply(host, e.GetRecord(), old.shares[id])
		} else {
			out, err = refresh.Recover(host, e.GetRecord(), refresh.Sealed(e.GetSealed()))
		}
		if err != nil {
			return err
		}
		h.info, h.shares[id] = out.Info, out.Share
	}
	d.epochs[e.GetNumber()] = h
	if e.GetNumber() == d.active {
		for id, next := range d.next {
			if bip340.PubKey(e.GetHosts()[id]) == hostOf(d.t, next).PubKey() {
				d.hosts[id] = next
			}
		}
		d.next, d.pending = nil, nil
		d.keys = nil
		for _, k := range e.GetHosts() {
			d.keys = append(d.keys, bip340.PubKey(k))
		}
	}
	return nil
}

// made is a device with a wallet.
func made(w *world, n, least int) *device {
	w.t.Helper()
	d := newDevice(w, n, least)
	if err := d.create(); err != nil {
		w.t.Fatal(err)
	}
	return d
}

// coin gives the wallet a coin that the operator knows.
func (d *device) coin(amount int64) ark.VTXO { return d.coinAt(amount, d.desc.PkScript()) }

// coinAt is coin at one of the wallet's scripts.
func (d *device) coinAt(amount int64, pkScript []byte) ark.VTXO {
	d.t.Helper()
	v := ark.VTXO{Amount: amount, Script: pkScript, CreatedAt: d.w.clock.now().Unix() - 1000, ExpiresAt: d.w.clock.now().Unix() + 600_000, CommitmentTxs: make([]chainhash.Hash, 1)}
	if _, err := rand.Read(v.Outpoint.Hash[:]); err != nil {
		d.t.Fatal(err)
	}
	v.CommitmentTxs[0] = chainhash.HashH(v.Outpoint.Hash[:])
	d.w.op.set(func(o *fakeOperator) { o.coins[v.Outpoint] = v })
	return v
}

// coins are as many of them.
func (d *device) coins(n int) (list []ark.VTXO) {
	for range n {
		list = append(list, d.coin(10_000))
	}
	return list
}

func (d *device) input(v ark.VTXO) intent.Input {
	tree, _ := d.treeOf(v)
	return intent.Input{Outpoint: v.Outpoint, Out: wire.NewTxOut(v.Amount, v.Script), Sequence: wire.MaxTxInSequenceNum, Tree: tree, Leaf: descriptor.LeafForfeit}
}

// at is the generation at whose script a coin lies.
func (d *device) at(v ark.VTXO) descriptor.Descriptor {
	for _, o := range d.older {
		if bytes.Equal(o.PkScript(), v.Script) || bytes.Equal(o.TwoLeaf().PkScript(), v.Script) {
			return o
		}
	}
	return d.desc
}

// treeOf is the script at which a coin lies, and the leaf of what is signed ahead to
// give it up.
func (d *device) treeOf(v ark.VTXO) (script.Tree, int) {
	if two := d.at(v).TwoLeaf(); bytes.Equal(v.Script, two.PkScript()) {
		return two, descriptor.LeafForfeit
	}
	return d.at(v).Tree(), descriptor.LeafDelegate
}

func b64(t testing.TB, p *psbt.Packet) string {
	t.Helper()
	s, err := p.B64Encode()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// register is a register intent over coins that pays outs.
func (d *device) register(outs []*wire.TxOut, coins ...ark.VTXO) (*psbt.Packet, *vigilpb.Document) {
	d.t.Helper()
	message, err := intent.NewRegister(0, 0, fresh(d.t).PubKey()).Encode()
	if err != nil {
		d.t.Fatal(err)
	}
	return d.proof(message, outs, coins...)
}

func (d *device) proof(message string, outs []*wire.TxOut, coins ...ark.VTXO) (*psbt.Packet, *vigilpb.Document) {
	d.t.Helper()
	var ins []intent.Input
	for _, v := range coins {
		ins = append(ins, d.input(v))
	}
	p, err := intent.BuildProof(message, ins, outs)
	if err != nil {
		d.t.Fatal(err)
	}
	return p, &vigilpb.Document{Document: &vigilpb.Document_Intent{Intent: &vigilpb.IntentDocument{Message: message, Proof: b64(d.t, p)}}}
}

// renewal is an intent that pays the wallet itself.
func (d *device) renewal(coins ...ark.VTXO) *vigilpb.Document {
	d.t.Helper()
	var sum int64
	for _, v := range coins {
		sum += v.Amount
	}
	_, doc := d.register([]*wire.TxOut{wire.NewTxOut(sum, d.desc.PkScript())}, coins...)
	return doc
}

// payment is an intent that pays somebody else.
func (d *device) payment(v ark.VTXO, amount int64) *vigilpb.Document {
	d.t.Helper()
	outs := []*wire.TxOut{wire.NewTxOut(amount, ark.PayToTaproot(key(d.t, 9).PubKey().XOnly()))}
	if rest := v.Amount - amount; rest > 0 {
		outs = append(outs, wire.NewTxOut(rest, d.desc.PkScript()))
	}
	_, doc := d.register(outs, v)
	return doc
}

// asking is one Sign under way at the device.
type asking struct {
	d        *device
	context  *frost.Context
	signers  []int
	messages [][32]byte
	pendings []map[int]*frost.Pending
	request  *vigilpb.SignRequest
}

// ask reads documents as Vigil will, and commits a nonce for every signature and
// every signer of the owner's.
func (d *device) ask(signers []int, docs ...*vigilpb.Document) *asking {
	d.t.Helper()
	spends, err := spend.Parse(docs, d.desc, spend.Terms{Params: d.w.op.params, Older: d.older, Now: d.w.clock.now().Unix()})
	if err != nil {
		d.t.Fatal(err)
	}
	return d.askFor(signers, spend.Messages(spends), docs...)
}

func (d *device) askFor(signers []int, messages [][32]byte, docs ...*vigilpb.Document) *asking {
	d.t.Helper()
	h := d.epochs[d.active]
	set, err := h.info.Signers(signers...)
	if err != nil {
		d.t.Fatal(err)
	}
	q := &asking{d: d, context: set.Untweaked(), signers: signers, messages: messages, request: &vigilpb.SignRequest{Documents: docs}}
	for _, id := range signers {
		q.request.Signers = append(q.request.Signers, uint32(id))
	}
	var session frost.SessionID
	if _, err := rand.Read(session[:]); err != nil {
		d.t.Fatal(err)
	}
	q.request.Session = session[:]
	for _, msg := range messages {
		pendings, nonces := map[int]*frost.Pending{}, []byte{}
		for _, id := range signers {
			if id == own {
				continue
			}
			share, err := frost.NewShare(h.info, id, h.shares[id])
			if err != nil {
				d.t.Fatal(err)
			}
			p, err := share.Commit(q.context, session, msg)
			if err != nil {
				d.t.Fatal(err)
			}
			nonce := p.PubNonce()
			pendings[id], nonces = p, append(nonces, nonce[:]...)
		}
		q.pendings, q.request.Nonces = append(q.pendings, pendings), append(q.request.Nonces, nonces)
	}
	return q
}

func (q *asking) send() (*vigilpb.SignAnswer, error) {
	return carry(q.d.w, q.d.as(-1, "Sign"), func(ctx context.Context, c auth.Call) (*vigilpb.SignAnswer, error) {
		return q.d.w.service.Sign(ctx, c, q.request)
	})
}

// finish adds the owner's parts, and holds every signature to the group key.
func (q *asking) finish(a *vigilpb.SignAnswer) ([][64]byte, error) {
	if len(a.GetParts()) != len(q.messages) {
		return nil, fmt.Errorf("%d parts of %d signatures", len(a.GetParts()), len(q.messages))
	}
	var sigs [][64]byte
	for i, part := range a.GetParts() {
		var nonces []frost.PubNonce
		for _, id := range q.signers {
			if id == own {
				nonces = append(nonces, frost.PubNonce(part.GetNonce()))
			} else {
				nonces = append(nonces, q.pendings[i][id].PubNonce())
			}
		}
		var parts []frost.PartialSig
		var session *frost.Session
		for _, id := range q.signers {
			if id == own {
				parts = append(parts, frost.PartialSig(part.GetSig()))
				continue
			}
			p, s, err := q.pendings[i][id].Sign(nonces)
			if err != nil {
				return nil, err
			}
			parts, session = append(parts, p), s
		}
		sig, err := session.Aggregate(parts, nonces)
		if err != nil {
			return nil, err
		}
		if !bip340.Verify(bip340.XOnly(q.d.id), q.messages[i][:], sig) {
			return nil, fmt.Errorf("signature %d does not verify", i)
		}
		sigs = append(sigs, sig)
	}
	return sigs, nil
}

// sign is ask, send and finish.
func (d *device) sign(signers []int, docs ...*vigilpb.Document) ([][64]byte, error) {
	d.t.Helper()
	q := d.ask(signers, docs...)
	a, err := q.send()
	if err != nil {
		return nil, err
	}
	return q.finish(a)
}

// both are the signers of a two-party wallet.
func both() []int { return slices.Clone([]int{0, 1}) }
