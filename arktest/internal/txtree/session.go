package txtree

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"

	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
)

// Nonces are one cosigner's public nonces by txid.
type Nonces map[string][musig2.PubNonceSize]byte

// Sigs are one cosigner's partial signatures by txid.
type Sigs map[string]*musig2.PartialSignature

// ErrMissingNonce is returned when a cosigner gave no nonce for a node.
var ErrMissingNonce = errors.New("missing nonce")

// signing is one node's part of a session.
type signing struct {
	node  *Node
	id    string
	msg   [32]byte
	nonce *musig2.Nonces
	agg   [musig2.PubNonceSize]byte
	own   *musig2.PartialSignature
}

// Session is the operator's side of signing one tree: it coordinates, and it
// is a cosigner of every node itself.
type Session struct {
	key    *btcec.PrivateKey
	root   []byte // sweep tapscript root
	items  []*signing
	nonces map[[32]byte]Nonces
}

// NewSession computes every node's message and makes the operator's nonces.
func NewSession(tree *Node, sweepRoot []byte, key *btcec.PrivateKey) (*Session, error) {
	s := &Session{key: key, root: sweepRoot, nonces: map[[32]byte]Nonces{}}
	for _, n := range tree.Nodes() {
		s.items = append(s.items, &signing{node: n, id: n.Txid.String()})
	}
	own := make([]*musig2.Nonces, len(s.items))
	err := each(s.items, func(i int, it *signing) error {
		var err error
		if it.msg, err = nodeSighash(it.node); err != nil {
			return err
		}
		own[i], err = musig2.GenNonces(musig2.WithPublicKey(key.PubKey()))
		it.nonce = own[i]
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening signing session: %w", err)
	}
	mine := Nonces{}
	for _, it := range s.items {
		mine[it.id] = it.nonce.PubNonce
	}
	s.nonces[tapscript.XOnly(key.PubKey())] = mine
	return s, nil
}

func nodeSighash(n *Node) ([32]byte, error) {
	fetch := txscript.NewCannedPrevOutputFetcher(n.Prevout.PkScript, n.Prevout.Value)
	h, err := txscript.CalcTaprootSignatureHash(txscript.NewTxSigHashes(n.Tx, fetch), txscript.SigHashDefault, n.Tx, 0, fetch)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(h), nil
}

// AddNonces takes one cosigner's nonces; a later call replaces an earlier one.
func (s *Session) AddNonces(key *btcec.PublicKey, n Nonces) { s.nonces[tapscript.XOnly(key)] = n }

// NodeNonces returns the nonces of every cosigner of the node by x-only key.
func (s *Session) NodeNonces(n *Node) map[[32]byte][musig2.PubNonceSize]byte {
	out := make(map[[32]byte][musig2.PubNonceSize]byte, len(n.Set.Keys))
	for _, k := range n.Set.Keys {
		x := tapscript.XOnly(k)
		if v, ok := s.nonces[x][n.Txid.String()]; ok {
			out[x] = v
		}
	}
	return out
}

// Aggregate sums the nonces of every node.
func (s *Session) Aggregate() (Nonces, error) {
	out := make(Nonces, len(s.items))
	err := each(s.items, func(_ int, it *signing) error {
		var list [][musig2.PubNonceSize]byte
		for _, k := range it.node.Set.Keys {
			v, ok := s.nonces[tapscript.XOnly(k)][it.id]
			if !ok {
				return fmt.Errorf("%w for cosigner key %x", ErrMissingNonce, k.SerializeCompressed())
			}
			list = append(list, v)
		}
		var err error
		it.agg, err = musig2.AggregateNonces(list)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("failed to aggregate nonces: %w", err)
	}
	for _, it := range s.items {
		out[it.id] = it.agg
	}
	return out, nil
}

// Sign makes the operator's partial signatures.
func (s *Session) Sign() error {
	return each(s.items, func(_ int, it *signing) error {
		if len(it.node.Set.Keys) == 1 {
			return nil // signed plainly in Combine
		}
		var err error
		it.own, err = musig2.Sign(it.nonce.SecNonce, s.key, it.agg, slices.Clone(it.node.Set.Keys), it.msg,
			musig2.WithSortedKeys(), musig2.WithTaprootSignTweak(s.root), musig2.WithFastSign())
		it.nonce.SecNonce = [musig2.SecNonceSize]byte{}
		if err != nil {
			return fmt.Errorf("failed to sign tree: %w", err)
		}
		return nil
	})
}

// Combine sums the partial signatures of every node, verifies each result and
// puts it in the tree. When one does not verify it finds the cosigners whose
// partial signature is missing or wrong and returns them as culprits.
func (s *Session) Combine(sigs map[[32]byte]Sigs) (culprits map[[32]byte]string, err error) {
	var mu sync.Mutex
	culprits = map[[32]byte]string{}
	err = each(s.items, func(_ int, it *signing) error {
		if len(it.node.Set.Keys) == 1 {
			return s.signPlain(it)
		}
		parts := []*musig2.PartialSignature{it.own}
		whole := true
		for _, k := range it.node.Set.Keys {
			x := tapscript.XOnly(k)
			if x == tapscript.XOnly(s.key.PubKey()) {
				continue
			}
			p, ok := sigs[x][it.id]
			if !ok {
				mu.Lock()
				culprits[x] = "missing musig2 signature for tx " + it.id
				mu.Unlock()
				whole = false
				continue
			}
			parts = append(parts, p)
		}
		if whole {
			sig := combine(it, parts)
			if sig.Verify(it.msg[:], it.node.Set.Final) {
				it.node.Sig = sig.Serialize()
				return nil
			}
		}
		for x := range s.wrong(it, sigs) {
			mu.Lock()
			culprits[x] = "invalid signature for txid " + it.id
			mu.Unlock()
		}
		return nil
	})
	return culprits, err
}

// combine adds the parts and the tweak's share: s + e*g*t.
func combine(it *signing, parts []*musig2.PartialSignature) *schnorr.Signature {
	sig := musig2.CombineSigs(it.own.R, parts)
	set := it.node.Set
	r := schnorr.SerializePubKey(it.own.R)
	h := chainhash.TaggedHash(chainhash.TagBIP0340Challenge, r, schnorr.SerializePubKey(set.Final), it.msg[:])
	var e, sum btcec.ModNScalar
	e.SetByteSlice(h[:])
	e.Mul(set.tweak)
	if set.Final.SerializeCompressed()[0] == 0x03 {
		e.Negate()
	}
	raw := sig.Serialize()
	sum.SetByteSlice(raw[32:])
	sum.Add(&e)
	var x btcec.FieldVal
	x.SetByteSlice(r)
	return schnorr.NewSignature(&x, &sum)
}

// wrong lists the cosigners of the node whose partial signature is bad.
func (s *Session) wrong(it *signing, sigs map[[32]byte]Sigs) map[[32]byte]bool {
	bad := map[[32]byte]bool{}
	for _, k := range it.node.Set.Keys {
		x := tapscript.XOnly(k)
		p, ok := sigs[x][it.id]
		if !ok {
			continue
		}
		if !p.Verify(s.nonces[x][it.id], it.agg, slices.Clone(it.node.Set.Keys), k, it.msg,
			musig2.WithSortedKeys(), musig2.WithTaprootSignTweak(s.root)) {
			bad[x] = true
		}
	}
	return bad
}

// signPlain signs a node that only the operator cosigns: an ordinary taproot
// key path, no aggregation.
func (s *Session) signPlain(it *signing) error {
	key := txscript.TweakTaprootPrivKey(*s.key, s.root)
	sig, err := schnorr.Sign(key, it.msg[:])
	if err != nil {
		return fmt.Errorf("signing a node of our own: %w", err)
	}
	it.node.Sig = sig.Serialize()
	return nil
}

// Puppet is a cosigner that the operator plays itself, besides its own key.
type Puppet struct {
	s      *Session
	key    *btcec.PrivateKey
	nonces map[string]*musig2.Nonces
}

// NewPuppet makes nonces for every node that lists key and adds them.
func (s *Session) NewPuppet(key *btcec.PrivateKey) (*Puppet, error) {
	p := &Puppet{s: s, key: key, nonces: map[string]*musig2.Nonces{}}
	public := Nonces{}
	for _, it := range s.items {
		if !it.node.Set.Has(key.PubKey()) {
			continue
		}
		n, err := musig2.GenNonces(musig2.WithPublicKey(key.PubKey()))
		if err != nil {
			return nil, fmt.Errorf("puppet nonces: %w", err)
		}
		p.nonces[it.id], public[it.id] = n, n.PubNonce
	}
	s.AddNonces(key.PubKey(), public)
	return p, nil
}

// Sign makes the puppet's partial signatures, after Aggregate.
func (p *Puppet) Sign() (Sigs, error) {
	out := Sigs{}
	for _, it := range p.s.items {
		n, ok := p.nonces[it.id]
		if !ok {
			continue
		}
		sig, err := musig2.Sign(n.SecNonce, p.key, it.agg, slices.Clone(it.node.Set.Keys), it.msg,
			musig2.WithSortedKeys(), musig2.WithTaprootSignTweak(p.s.root), musig2.WithFastSign())
		if err != nil {
			return nil, fmt.Errorf("puppet signature: %w", err)
		}
		out[it.id] = sig
	}
	return out, nil
}

// Has says whether key is in the set.
func (s *KeySet) Has(key *btcec.PublicKey) bool {
	return slices.ContainsFunc(s.Keys, func(k *btcec.PublicKey) bool { return k.IsEqual(key) })
}

// each runs f over items on all cores and returns the first error.
func each(items []*signing, f func(int, *signing) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, 1)
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				if err := f(i, items[i]); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for i := range items {
		next <- i
	}
	close(next)
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}
