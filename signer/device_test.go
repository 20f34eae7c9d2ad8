package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
	"github.com/vigil-ark/vigil/frost/refresh"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// crasher is a store that dies at its n-th write, before or after it is carried
// out, and stays dead until it is opened again. The rows of a test's wallets count
// as writes too.
type crasher struct {
	secret.Store
	at    int // writes until the death; below 0: never
	after bool
	dead  bool
	wrote int
}

var errCrash = errors.New("the process died")

func (c *crasher) write(f func() error) error {
	if c.dead {
		return errCrash
	}
	c.wrote++
	if c.at == 0 {
		c.dead = true
		if c.after {
			_ = f() // it arrives, and nobody hears of it
		}
		return errCrash
	}
	c.at--
	return f()
}

func (c *crasher) Get(ctx context.Context, name string) (secret.Bytes, error) {
	if c.dead {
		return secret.Bytes{}, errCrash
	}
	return c.Store.Get(ctx, name)
}

func (c *crasher) Put(ctx context.Context, name string, v secret.Bytes) error {
	return c.write(func() error { return c.Store.Put(ctx, name, v) })
}

func (c *crasher) Delete(ctx context.Context, name string) error {
	return c.write(func() error { return c.Store.Delete(ctx, name) })
}

// row is the wallet as the caller's ledger has it, and garbage the names that it
// would delete.
type row struct {
	cut    refresh.Cutover
	epochs []Key // ascending
}

func (r *row) of(epoch uint32) (Key, bool) {
	i := slices.IndexFunc(r.epochs, func(k Key) bool { return k.Info.Epoch() == epoch })
	if i < 0 {
		return Key{}, false
	}
	return r.epochs[i], true
}

// server is Vigil as far as its keys go: a signer over a store that may die, and
// the one row of its one wallet.
type server struct {
	store   *crasher
	signer  *Signer
	cs      *Ceremonies
	now     int64
	row     *row // nil: none
	garbage []string
}

func newServer() *server {
	s := &server{store: &crasher{Store: secrettest.NewMemory(), at: -1}, now: now}
	s.restart()
	return s
}

// restart forgets what was in memory, mends the store and works off garbage, as if
// its time had come.
func (s *server) restart() {
	s.store.at, s.store.dead = -1, false
	s.signer = New(s.store)
	s.cs = s.signer.Ceremonies(CeremonyLimits{}, func() int64 { return s.now })
	for _, name := range s.garbage {
		_ = s.store.Delete(context.Background(), name)
	}
	s.garbage = nil
}

// device is one other participant, or all of them in one place.
type device struct {
	hosts   []*chilldkg.HostKey // by participant; nil for Vigil
	key     Key                 // of the active epoch
	shares  []secret.Bytes      // by participant
	old     *device             // of the retiring epoch
	pending *waiting
}

// waiting is a refresh that the device has signed.
type waiting struct {
	hosts      []*chilldkg.HostKey
	transcript []byte
}

func newDevice(t testing.TB, n int) *device {
	return &device{hosts: others(t, n)}
}

// others draws the host keys of all participants but Vigil.
func others(t testing.TB, n int) []*chilldkg.HostKey {
	hosts := make([]*chilldkg.HostKey, n)
	for i := range hosts {
		if i == Own {
			continue
		}
		_, s, err := bip340.GenerateKey()
		must(t, err)
		hosts[i], err = chilldkg.NewHostKey(s)
		must(t, err)
	}
	return hosts
}

// pubs are their public halves, zero for Vigil's.
func pubs(hosts []*chilldkg.HostKey) []bip340.PubKey {
	out := make([]bip340.PubKey, len(hosts))
	for i, h := range hosts {
		if h != nil {
			out[i] = h.PubKey()
		}
	}
	return out
}

func (d *device) owner() bip340.PubKey { return d.hosts[0].PubKey() }

// keygen makes a wallet, and returns an error when the server died.
func (d *device) keygen(t testing.TB, s *server, threshold int) error {
	ctx := t.Context()
	if s.row != nil { // the same device again: what is stored, never a second wallet
		return d.adopt(t, s.row.epochs[0])
	}
	session, dkgHost, err := s.cs.BeginKeygen(d.owner(), pubs(d.hosts), threshold)
	if err != nil {
		return err
	}
	all := pubs(d.hosts)
	all[Own] = dkgHost
	params, err := chilldkg.NewParams(threshold, all)
	must(t, err)
	p1 := make([]*chilldkg.Participant1, len(d.hosts))
	msgs := make([][]byte, len(d.hosts))
	for i, h := range d.hosts {
		if h != nil {
			p1[i], msgs[i], err = chilldkg.Step1(h, params)
			must(t, err)
		}
	}
	cmsg1, err := s.cs.Keygen(session, d.owner(), msgs)
	if err != nil {
		return err
	}
	for i, p := range p1 {
		if p != nil {
			_, msgs[i], err = p.Step2(d.hosts[i], cmsg1)
			must(t, err)
		}
	}
	made, err := s.cs.Ready(session, d.owner(), msgs)
	if err != nil {
		return err
	}
	if err := s.store.write(func() error { s.garbage = made.Names; return nil }); err != nil {
		return err
	}
	if err := s.cs.Keep(ctx, session, d.owner()); err != nil {
		return err
	}
	err = s.store.write(func() error {
		s.row = &row{epochs: []Key{{Info: made.Info, Hosts: made.Hosts, Record: made.Recovery}}}
		s.garbage = nil
		return nil
	})
	if err != nil {
		return err
	}
	s.cs.Forget(session)
	return d.adopt(t, s.row.epochs[0])
}

// adopt takes the outcome of a key ceremony from its recovery data.
func (d *device) adopt(t testing.TB, k Key) error {
	d.key, d.shares = k, make([]secret.Bytes, len(d.hosts))
	for i, h := range d.hosts {
		if h == nil {
			continue
		}
		out, _, err := chilldkg.Recover(h, k.Record)
		must(t, err)
		d.shares[i] = out.Share
	}
	return nil
}

// refresh makes a new epoch, and returns an error when the server died.
func (d *device) refresh(t testing.TB, s *server, healing bool) error {
	ctx := t.Context()
	hosts := d.hosts
	var offered []bip340.PubKey
	if healing {
		hosts = others(t, len(d.hosts))
		offered = pubs(hosts)
	}
	active, _ := s.row.of(s.row.cut.Active)
	session, dkgHost, err := s.cs.BeginRefresh(ctx, d.owner(), active, offered)
	if err != nil {
		return err
	}
	all := pubs(hosts)
	all[Own] = dkgHost
	params, err := refresh.NewParams(d.key.Info, d.key.Record, d.key.Hosts, all)
	must(t, err)
	p1 := make([]*refresh.Participant1, len(hosts))
	msgs := make([][]byte, len(hosts))
	for i, h := range hosts {
		if h != nil {
			p1[i], msgs[i], err = refresh.Step1(h, params)
			must(t, err)
		}
	}
	cmsg1, err := s.cs.Refresh(ctx, session, d.owner(), msgs)
	if err != nil {
		return err
	}
	for i, p := range p1 {
		if p == nil {
			continue
		}
		p2, m, err := p.Step2(hosts[i], d.hosts[i], d.shares[i], cmsg1)
		must(t, err)
		msgs[i] = m
		d.pending = &waiting{hosts: hosts, transcript: p2.Transcript()} // durable before the message leaves
	}
	done, err := s.cs.ReadyRefresh(ctx, session, d.owner(), msgs)
	if err != nil {
		return err
	}
	if err := s.cs.KeepRefresh(ctx, session, d.owner()); err != nil {
		return err
	}
	err = s.store.write(func() error {
		cut, err := s.row.cut.Prepare()
		must(t, err)
		cut, err = cut.Certified(len(hosts))
		must(t, err)
		s.row = &row{cut: cut, epochs: []Key{active, {Info: done.Info, Hosts: done.Hosts, Record: done.Record}}}
		return nil
	})
	if err != nil {
		return err
	}
	s.cs.Forget(session)
	d.finish(t, done.Record)
	return d.acknowledge(t, s)
}

// finish takes the certified record of the pending refresh.
func (d *device) finish(t testing.TB, record []byte) {
	t.Helper()
	old := *d
	old.pending = nil
	next := &device{hosts: d.pending.hosts, shares: make([]secret.Bytes, len(d.hosts)), old: &old}
	for i, h := range next.hosts {
		if h == nil {
			continue
		}
		out, err := refresh.Apply(h, record, d.shares[i])
		must(t, err)
		next.shares[i], next.key.Info = out.Share, out.Info
	}
	next.key.Record, next.key.Hosts = record, pubs(next.hosts)
	*d = *next
}

// acknowledge lets the server end the old epoch.
func (d *device) acknowledge(t testing.TB, s *server) error {
	active, _ := s.row.of(s.row.cut.Active)
	cut := s.row.cut
	for i, h := range d.hosts {
		var ack []byte
		var err error
		if h == nil {
			if ack, err = s.signer.Acknowledge(t.Context(), active); err != nil {
				return err
			}
		} else {
			ack, err = refresh.Acknowledge(h, active.Record)
			must(t, err)
		}
		must(t, refresh.VerifyAcknowledgment(active.Record, i, ack))
		cut, err = cut.Acknowledged(i)
		must(t, err)
	}
	d.key.Hosts = active.Hosts
	// The device has its acknowledgments, and keeps only the new epoch.
	d.old = nil
	if err := s.store.write(func() error { s.row = &row{cut: cut, epochs: []Key{active}}; return nil }); err != nil {
		return err
	}
	return s.signer.Erase(t.Context(), active.wallet(), cut.Active)
}

// settle resolves what a crash left open.
func (d *device) settle(t testing.TB, s *server) error {
	newest := s.row.epochs[len(s.row.epochs)-1]
	if d.pending != nil {
		if newest.Info.Epoch() > d.key.Info.Epoch() {
			d.finish(t, newest.Record)
		} else {
			void, err := s.cs.Void(t.Context(), newest, d.pending.transcript)
			if err != nil {
				return err
			}
			if void != nil {
				must(t, refresh.VerifyVoid(d.pending.transcript, Own, void))
			}
			d.pending = nil
		}
	}
	if s.row.cut.Retiring {
		return d.acknowledge(t, s)
	}
	if d.key.Info.Epoch() == 0 && s.row.cut.Active == 0 {
		return nil
	}
	return s.signer.Erase(t.Context(), newest.wallet(), newest.Info.Epoch())
}

// sign makes one signature for each message by the given participants, with Vigil
// last, in the device's active epoch, and verifies it.
func (d *device) sign(t testing.TB, s *server, ids []int, count int) error {
	info := d.key.Info
	k, ok := s.row.of(info.Epoch())
	if !ok || !s.row.cut.MaySign(info.Epoch()) {
		return fmt.Errorf("the server has no epoch %d", info.Epoch())
	}
	set, err := info.Signers(ids...)
	must(t, err)
	context := set.Untweaked()
	at := slices.Index(ids, Own)
	req := SignRequest{Wallet: vigil.WalletID(info.PubKey().XOnly()), Info: k.Info, Epoch: info.Epoch(), Signers: ids, Session: frost.SessionID{9}}
	pending := make([][]*frost.Pending, count)
	for m := range count {
		msg := bip340.TaggedHash("vigil/test", []byte{byte(m)})
		req.Messages = append(req.Messages, msg)
		var nonces []frost.PubNonce
		for _, id := range ids {
			if id == Own {
				continue
			}
			share, err := frost.NewShare(info, id, d.shares[id])
			must(t, err)
			p, err := share.Commit(context, req.Session, msg)
			must(t, err)
			pending[m], nonces = append(pending[m], p), append(nonces, p.PubNonce())
		}
		req.Nonces = append(req.Nonces, nonces)
	}
	parts, err := s.signer.Sign(t.Context(), req)
	if err != nil {
		return err
	}
	for m := range count {
		nonces := slices.Insert(slices.Clone(req.Nonces[m]), at, parts[m].Nonce)
		var sigs []frost.PartialSig
		var session *frost.Session
		for _, p := range pending[m] {
			sig, s, err := p.Sign(nonces)
			must(t, err)
			sigs, session = append(sigs, sig), s
		}
		sig, err := session.Aggregate(slices.Insert(sigs, at, parts[m].Sig), nonces)
		must(t, err)
		if !bip340.Verify(info.PubKey().XOnly(), req.Messages[m][:], sig) {
			t.Fatal("the signature does not verify")
		}
	}
	return nil
}
