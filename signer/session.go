package signer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/btcsuite/btcd/chainhash/v2"
	"golang.org/x/sync/errgroup"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/secret"
)

// Opened is one stored delegate with its keys: what a record becomes when its
// secrets are put beside it, and never before.
type Opened struct {
	record   *delegate.Record
	delegate *bip340.Key
	tree     *bip340.Key // for stock wallets the same
	bearers  bearers     // nil unless it has sealed forfeits
}

// Secrets are those of one delegate: for a stock wallet the same key twice, and
// for a wallet's delegate over two-leaf coins its sealed forfeits too.
type Secrets struct{ Delegate, Tree, Forfeits secret.Bytes }

// Burn wipes all.
func (s Secrets) Burn() {
	s.Delegate.Burn()
	s.Tree.Burn()
	s.Forfeits.Burn()
}

// FromPersisted rebuilds a delegate's session from its record and the secrets that
// were looked up for it. Each key's public half must be the record's, as the
// delegate leaf's key and as the tree's, and every sealed forfeit verify as what the
// record says of it; otherwise the error is delegate.ErrSecretWrong. The secrets stay
// the caller's to burn.
func FromPersisted(rec *delegate.Record, secrets Secrets) (*Opened, error) {
	if rec.Kind != delegate.Stock && rec.Kind != delegate.Wallet {
		return nil, fmt.Errorf("signer: delegate %s is of a kind that this version cannot sign for", rec.ID)
	}
	key, err := keyOf(rec, "delegate key", rec.DelegateKey, secrets.Delegate)
	if err != nil {
		return nil, err
	}
	tree, err := keyOf(rec, "tree key", rec.TreeKey, secrets.Tree)
	if err != nil {
		key.Burn()
		return nil, err
	}
	sealed, err := unseal(rec, secrets.Forfeits)
	if err != nil {
		key.Burn()
		tree.Burn()
		return nil, err
	}
	return &Opened{record: rec, delegate: key, tree: tree, bearers: sealed}, nil
}

// keyOf makes the key that the record calls want. A leaf names a key without its
// parity, so that is not looked at there.
func keyOf(rec *delegate.Record, what string, want bip340.PubKey, value secret.Bytes) (*bip340.Key, error) {
	key, err := bip340.NewKey(value)
	if errors.Is(err, secret.ErrBurned) {
		return nil, fmt.Errorf("open delegate %s: %w", rec.ID, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: delegate %s: %s: %w", delegate.ErrSecretWrong, rec.ID, what, err)
	}
	same := key.PubKey() == want
	if rec.Kind == delegate.Wallet && want == rec.DelegateKey {
		same = key.PubKey().XOnly() == want.XOnly()
	}
	if !same {
		key.Burn()
		return nil, fmt.Errorf("%w: delegate %s names the %s %s", delegate.ErrSecretWrong, rec.ID, what, want)
	}
	return key, nil
}

// Burn wipes the session's keys and forfeits.
func (o *Opened) Burn() {
	o.delegate.Burn()
	o.tree.Burn()
	o.bearers.burn()
}

// open looks a record's secrets up and rebuilds its session.
func (s *Signer) open(ctx context.Context, rec *delegate.Record) (*Opened, error) {
	secrets, err := s.secrets(ctx, rec)
	if err != nil {
		return nil, err
	}
	defer secrets.Burn()
	return FromPersisted(rec, secrets)
}

// secrets looks up what a record's session needs. Every secret is at least asked
// for: that the store is down is told before that one is missing.
func (s *Signer) secrets(ctx context.Context, rec *delegate.Record) (Secrets, error) {
	if rec.Kind != delegate.Wallet {
		name, err := s.name(ctx, rec.DelegateKey)
		if err != nil {
			return Secrets{}, err
		}
		value, err := s.fetch(ctx, name)
		return Secrets{Delegate: value, Tree: value}, err
	}
	key, err := s.fetch(ctx, delegateName(rec.Wallet))
	if err != nil {
		return Secrets{}, err
	}
	all := Secrets{Delegate: key}
	if all.Tree, err = s.fetch(ctx, treeName(rec.ID)); err == nil && rec.HasSealed() {
		all.Forfeits, err = s.fetch(ctx, ForfeitName(rec.ID))
	}
	if err != nil {
		all.Burn()
		return Secrets{}, err
	}
	return all, nil
}

// Session holds the keys and the secret nonces of our delegates in one batch.
// Everything in it lives in memory only and dies with Close; a batch that
// fails takes its nonces with it. Proof and Forfeits may be called for several
// delegates at once; otherwise a Session is not safe for concurrent use, but
// works on all cores within one call.
type Session struct {
	ring    keyring
	records map[vigil.DelegateID]*delegate.Record
	bearers map[vigil.DelegateID]bearers
	readers sync.Pool // of *script.Reader: what the delegates share is computed once a core

	mu     sync.Mutex
	nonces map[nonceID]*musig2.SecNonce // nil once it was taken
}

type nonceID struct {
	txid     chainhash.Hash
	cosigner bip340.PubKey
}

// ErrNonce says that a signature was asked for without a nonce of ours, or for
// the second time.
var ErrNonce = errors.New("signer: no unused nonce for this node")

// Open rebuilds the sessions of delegates that are about to be registered, or to
// join one batch. Each record is held against its owner's signatures first: one
// that the disk has changed would cost all others of the batch theirs. Those
// that cannot be opened are named in the map with their errors, and the others
// go on without them; with none opened the Session is still to be closed.
func (s *Signer) Open(ctx context.Context, recs []*delegate.Record) (*Session, map[vigil.DelegateID]error) {
	session := &Session{
		ring:    keyring{keys: map[bip340.PubKey]*bip340.Key{}},
		records: map[vigil.DelegateID]*delegate.Record{},
		bearers: map[vigil.DelegateID]bearers{},
		readers: sync.Pool{New: func() any { return script.NewReader() }},
		nonces:  map[nonceID]*musig2.SecNonce{},
	}
	failed := map[vigil.DelegateID]error{}
	errs := make([]error, len(recs))
	_ = spread(len(recs), 1, func(i int) error { // errs has every error
		errs[i] = s.sound.verify(recs[i])
		return nil
	})
	for i, rec := range recs {
		if errs[i] != nil {
			failed[rec.ID] = errs[i]
			continue
		}
		if _, ok := session.ring.keys[rec.DelegateKey]; ok && rec.Kind == delegate.Stock && rec.TreeKey == rec.DelegateKey {
			session.records[rec.ID] = rec
			continue
		}
		opened, err := s.open(ctx, rec)
		if err != nil {
			failed[rec.ID] = err
			continue
		}
		session.ring.add(rec.DelegateKey, opened.delegate)
		session.ring.add(rec.TreeKey, opened.tree)
		session.records[rec.ID] = rec
		if opened.bearers != nil {
			session.bearers[rec.ID] = opened.bearers
		}
	}
	return session, failed
}

// sound remembers the marks of records that were found sound, so that one that
// is read again as it was, between its registration and its batch, is not
// verified twice.
type sound struct {
	mu    sync.Mutex
	marks map[[32]byte]bool
}

// maxSound bounds what is remembered, to a few hundred kilobytes: several times
// what an engine has registered at once.
const maxSound = 4096

func (s *sound) verify(rec *delegate.Record) error {
	mark, err := rec.Mark()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", delegate.ErrDamaged, rec.ID, err)
	}
	s.mu.Lock()
	known := s.marks[mark]
	s.mu.Unlock()
	if known {
		return nil
	}
	if err := rec.Verify(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marks == nil || len(s.marks) >= maxSound {
		s.marks = make(map[[32]byte]bool)
	}
	s.marks[mark] = true
	return nil
}

// Close wipes every nonce, key and sealed forfeit of the session. It may be called
// twice.
func (s *Session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, n := range s.nonces {
		n.Burn()
		s.nonces[id] = nil
	}
	s.ring.burn()
	for _, b := range s.bearers {
		b.burn()
	}
}

// Nonces makes a fresh nonce for every node. It is called once in a batch: a
// node that has or had a nonce is an error, since a second nonce for it would
// mean that a second message was to be signed.
func (s *Session) Nonces(nodes []batch.SigningNode) (map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce, error) {
	pub := make([]musig2.PubNonce, len(nodes))
	err := s.parallel(len(nodes), func(i int) bip340.PubKey { return nodes[i].Cosigner }, func(i int, key *bip340.Key) error {
		n := nodes[i]
		sec, p, err := musig2.NewNonce(key, n.Context, &n.Sighash, n.Txid[:])
		if err != nil {
			return fmt.Errorf("nonce for node %s: %w", n.Txid, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		id := nonceID{n.Txid, n.Cosigner}
		if _, ok := s.nonces[id]; ok {
			sec.Burn()
			return fmt.Errorf("%w: node %s has one already", ErrNonce, n.Txid)
		}
		s.nonces[id] = sec
		pub[i] = p
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce{}
	for i, n := range nodes {
		if out[n.Cosigner] == nil {
			out[n.Cosigner] = map[chainhash.Hash]musig2.PubNonce{}
		}
		out[n.Cosigner][n.Txid] = pub[i]
	}
	return out, nil
}

// Sign makes our partial signatures. Each takes its nonce out of the session
// before anything else, so that no node can be signed twice, whatever happens.
func (s *Session) Sign(nodes []batch.SignRequest) (map[bip340.PubKey]map[chainhash.Hash]musig2.PartialSig, error) {
	taken := make([]*musig2.SecNonce, len(nodes))
	s.mu.Lock()
	for i, n := range nodes {
		id := nonceID{n.Txid, n.Cosigner}
		if taken[i] = s.nonces[id]; taken[i] != nil {
			s.nonces[id] = nil // the node has had its one
		}
	}
	s.mu.Unlock()
	defer func() {
		for _, n := range taken {
			if n != nil {
				n.Burn()
			}
		}
	}()
	sigs := make([]musig2.PartialSig, len(nodes))
	err := s.parallel(len(nodes), func(i int) bip340.PubKey { return nodes[i].Cosigner }, func(i int, key *bip340.Key) error {
		if taken[i] == nil {
			return fmt.Errorf("%w: node %s", ErrNonce, nodes[i].Txid)
		}
		sig, err := nodes[i].Session.Sign(key, taken[i])
		if err != nil {
			return fmt.Errorf("sign node %s: %w", nodes[i].Txid, err)
		}
		sigs[i] = sig
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := map[bip340.PubKey]map[chainhash.Hash]musig2.PartialSig{}
	for i, n := range nodes {
		if out[n.Cosigner] == nil {
			out[n.Cosigner] = map[chainhash.Hash]musig2.PartialSig{}
		}
		out[n.Cosigner][n.Txid] = sigs[i]
	}
	return out, nil
}

// parallel resolves the key of every one of n nodes, then runs work for each on
// all cores.
func (s *Session) parallel(n int, cosigner func(i int) bip340.PubKey, work func(i int, key *bip340.Key) error) error {
	keys := make([]*bip340.Key, n)
	for i := range keys {
		key, err := s.ring.key(cosigner(i))
		if err != nil {
			return err
		}
		keys[i] = key
	}
	const chunk = 16 // enough work for one goroutine to be worth starting
	return spread(n, chunk, func(i int) error { return work(i, keys[i]) })
}

// spread calls f for 0 to n-1 on all cores, chunk of them at a time.
func spread(n, chunk int, f func(i int) error) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for from := 0; from < n; from += chunk {
		group.Go(func() error {
			for i := from; i < min(from+chunk, n); i++ {
				if err := f(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
