package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// ErrNotAnnounced is returned when the operator announces something else than what
// was accepted: look at OperatorChange again.
var ErrNotAnnounced = errors.New("client: the operator announces something else")

// scripts are the wallet's scripts, of all generations. They do not change: another
// generation makes others. Each costs a multiplication, and every coin is held
// against them.
type scripts struct {
	descriptor.Descriptor // the current one
	gens                  descriptor.Generations
	vtxo                  []ownScript // whose coins the wallet spends, the one that it offers first
}

// ownScript is a script at which coins lie in Ark.
type ownScript struct {
	desc     descriptor.Descriptor
	tree     script.Tree
	pkScript []byte
	recovery bool // it has the recovery leaf
}

func newScripts(g descriptor.Generations) *scripts {
	s := &scripts{Descriptor: g.Current(), gens: g}
	for _, d := range slices.Backward(g) {
		for n, t := range []script.Tree{d.Tree(), d.TwoLeaf()} {
			s.vtxo = append(s.vtxo, ownScript{d, t, t.PkScript(), n == 0})
		}
	}
	return s
}

// home is the script of the wallet's that is paid.
func (s *scripts) home() []byte { return s.vtxo[0].pkScript }

// pkScripts are those of the coins in Ark.
func (s *scripts) pkScripts() [][]byte {
	var list [][]byte
	for _, o := range s.vtxo {
		if !slices.ContainsFunc(list, func(b []byte) bool { return string(b) == string(o.pkScript) }) {
			list = append(list, o.pkScript)
		}
	}
	return list
}

// signers are the operator's keys in the scripts.
func (s *scripts) signers() (keys []bip340.XOnly) {
	for _, d := range s.gens {
		keys = append(keys, d.Signer)
	}
	return keys
}

// find is the script of the wallet's that a coin has, or nil.
func (s *scripts) find(pkScript []byte) *ownScript {
	i := slices.IndexFunc(s.vtxo, func(o ownScript) bool { return string(o.pkScript) == string(pkScript) })
	if i < 0 {
		return nil
	}
	return &s.vtxo[i]
}

// exits are the leaves by which the wallet's coins on chain are left, with leaf for
// those that were in Ark and boarding for those that never were.
func exits(g descriptor.Generations, leaf, boarding int, twoLeaf bool) (list []exitLeaf) {
	add := func(t script.Tree, leaf int, delay ark.Delay) {
		if !slices.ContainsFunc(list, func(e exitLeaf) bool { return e.tree.OutputKey() == t.OutputKey() }) {
			list = append(list, exitLeaf{t, leaf, delay})
		}
	}
	for _, d := range slices.Backward(g) {
		if twoLeaf {
			add(d.Tree(), leaf, d.ExitDelay)
			add(d.TwoLeaf(), leaf, d.ExitDelay)
			add(d.Boarding(), boarding, d.BoardingDelay)
			continue
		}
		add(d.Tree(), leaf, d.RecoveryDelay)
		add(d.Boarding(), boarding, d.BoardingRecoveryDelay)
	}
	return list
}

// own are the wallet's scripts as they are now.
func (w *Wallet) own() *scripts {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.scripts == nil {
		return &scripts{} // its key is not made yet
	}
	return w.scripts
}

// honoured says whether the operator signs at a time for a key that stands in
// scripts.
func honoured(p ark.Params, signer bip340.XOnly, now int64) bool {
	if p.SignerKey.XOnly() == signer {
		return true
	}
	i := slices.IndexFunc(p.DeprecatedSigners, func(d ark.DeprecatedSigner) bool { return d.Key.XOnly() == signer })
	return i >= 0 && (p.DeprecatedSigners[i].Cutoff == 0 || now <= p.DeprecatedSigners[i].Cutoff)
}

// cutoff is until when the operator signs for a key of before; 0: without a known
// end, or for good.
func cutoff(p ark.Params, signer bip340.XOnly) int64 {
	for _, d := range p.DeprecatedSigners {
		if d.Key.XOnly() == signer {
			return d.Cutoff
		}
	}
	return 0
}

// OperatorChange is what the operator announces and the wallet's scripts do not
// have: another signer key, or other exit delays.
type OperatorChange struct {
	// Was describes the wallet's scripts as they are, Next as they would be.
	Was, Next descriptor.Descriptor
	// Signer is the key that the operator announces. Its people say by another way
	// than this connection whether it is theirs.
	Signer bip340.PubKey
	// Honoured says that the operator signs for the key in the scripts as they are,
	// until Cutoff in unix seconds, or without a known end (0): until then the coins can
	// be moved.
	Honoured bool
	Cutoff   int64
	// Vigil says that whoever runs Vigil has accepted the signer.
	Vigil bool
}

// OperatorChange asks the operator whether the wallet's scripts are still those that
// it would have a wallet use, and Vigil what its people accepted; nil says that
// nothing changed. Nothing is done about it before AcceptOperator.
func (w *Wallet) OperatorChange(ctx context.Context) (*OperatorChange, error) {
	if err := w.confirmed(); err != nil {
		return nil, err
	}
	p, err := w.announced(ctx)
	if err != nil {
		return nil, err
	}
	was := w.own().Descriptor
	next, err := was.Next(p)
	if err != nil {
		return nil, fmt.Errorf("%w: its parameters make no scripts: %w", ErrOperator, err)
	}
	if next == was {
		return nil, nil
	}
	c := &OperatorChange{
		Was: was, Next: next, Signer: p.SignerKey,
		Honoured: honoured(p, was.Signer, w.now().Unix()), Cutoff: cutoff(p, was.Signer),
	}
	var info vigilpb.ServerInfo
	if err := w.vigil.ask(ctx, "GetServer", caller{}, &vigilpb.GetServerRequest{}, &info); err != nil {
		return c, err
	}
	c.Vigil = string(info.OperatorSigner) == string(p.SignerKey[:])
	return c, nil
}

// AcceptOperator is the owner's word that the change is the operator's own: the
// wallet gets new scripts, at whose addresses it receives from then on. Coins at
// those of before stay the wallet's, and Keep moves them. The word is kept: where
// Vigil cannot be asked, or its people have not accepted the signer yet
// (OPERATOR_KEY_CHANGED), Keep asks again. ErrNotAnnounced says that the operator
// announces something else by now.
func (w *Wallet) AcceptOperator(ctx context.Context, c OperatorChange) error {
	w.spending.Lock()
	defer w.spending.Unlock()
	if err := w.confirmed(); err != nil {
		return err
	}
	p, err := w.announced(ctx)
	if err != nil {
		return err
	}
	own := w.own()
	next, err := own.Next(p)
	if err != nil {
		return fmt.Errorf("%w: its parameters make no scripts: %w", ErrOperator, err)
	}
	if next == own.Descriptor && next == c.Next {
		return nil // it was done
	}
	if next != c.Next || p.SignerKey != c.Signer {
		return fmt.Errorf("%w: the signer %s and delays of %v and %v, accepted were %s, %v and %v",
			ErrNotAnnounced, p.SignerKey, next.ExitDelay, next.BoardingDelay, c.Signer, c.Next.ExitDelay, c.Next.BoardingDelay)
	}
	if _, err := own.gens.With(next); err != nil {
		return err
	}
	err = w.update(ctx, func(st *state) error {
		st.Accepted = &accepted{Descriptor: next.Encode(), Signer: slices.Clone(p.SignerKey[:])}
		return nil
	})
	if err != nil {
		return err
	}
	return w.finishAccept(ctx)
}

// finishAccept brings Vigil what the owner accepted, and takes it up once Vigil has:
// the coins that come to the new scripts are then looked after by both.
func (w *Wallet) finishAccept(ctx context.Context) error {
	st := w.current()
	if st.Accepted == nil {
		return nil
	}
	next, err := descriptor.Decode(st.Accepted.Descriptor)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	gens, err := w.own().gens.With(next)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	err = w.tellVigil(ctx, gens)
	switch {
	case vigil.CodeOf(err) == vigil.CodeGeneration:
		// The operator announces others meanwhile: the owner's word was not for them.
		return errors.Join(fmt.Errorf("%w: %w", ErrNotAnnounced, err), w.update(ctx, func(st *state) error { st.Accepted = nil; return nil }))
	case errors.Is(err, ErrUnreachable) && w.withCold() != nil: // Vigil is gone, and needed for nothing
	case err != nil:
		return err
	}
	err = w.update(ctx, func(st *state) error {
		st.Signer = st.Accepted.Signer
		st.describe(gens)
		st.Accepted, st.Unsure = nil, false
		return nil
	})
	if err != nil {
		return err
	}
	w.describe(gens)
	return nil
}

// tellVigil has Vigil take up the wallet's generations. It may know none that the
// device does not: nothing that a server adds is taken up.
func (w *Wallet) tellVigil(ctx context.Context, gens descriptor.Generations) error {
	current, older := gens.Encode()
	var a vigilpb.AcceptOperatorAnswer
	if err := w.askHost(ctx, "AcceptOperator", &vigilpb.AcceptOperatorRequest{Descriptor_: current, Older: older}, &a); err != nil {
		return err
	}
	told, err := descriptor.DecodeGenerations(a.GetDescriptor_(), a.GetOlder())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrVigil, err)
	}
	if told.Current() != gens.Current() || slices.ContainsFunc(gens, func(d descriptor.Descriptor) bool { return !slices.Contains(told, d) }) {
		return fmt.Errorf("%w: other scripts than those that were accepted", ErrVigil)
	}
	return nil
}

// heard takes what Vigil says is the current descriptor: nothing is taken up of it,
// but a Vigil that was restored from a copy of the past is to be told.
func (w *Wallet) heard(described []byte) {
	if len(described) == 0 {
		return // a Vigil of before there were generations
	}
	own := w.own()
	d, err := descriptor.Decode(described)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behind = err == nil && slices.Contains(own.gens.Older(), d)
	if !w.behind && d != own.Descriptor {
		w.cfg.Log.Warn("Vigil has other scripts for the wallet than this device, which keeps its own: another device of the wallet may have accepted what the operator changed")
	}
}

// catchUpScripts tells a Vigil that is behind.
func (w *Wallet) catchUpScripts(ctx context.Context) error {
	w.mu.Lock()
	behind := w.behind
	w.mu.Unlock()
	if !behind {
		return nil
	}
	err := w.tellVigil(ctx, w.own().gens)
	if err == nil {
		w.mu.Lock()
		w.behind = false
		w.mu.Unlock()
	}
	return err
}

// announced are the operator's parameters of now, whatever its signer is.
func (w *Wallet) announced(ctx context.Context) (ark.Params, error) {
	p, err := w.op.Info(ctx)
	if err == nil && p.Network != w.current().Network {
		err = fmt.Errorf("%w: the operator is on %s", ErrPinned, p.Network)
	}
	return p, err
}
