package script

import (
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
)

// Default is the VTXO script of a plain wallet, in the ts SDK's order: owner
// and signer; owner after the exit delay.
func Default(owner, signer bip340.XOnly, exit ark.Delay) (Tree, error) {
	return NewTree([][]byte{
		Multisig{PubKeys: []bip340.XOnly{owner, signer}}.Script(),
		exitLeaf(owner, exit),
	})
}

// Boarding is the script of an on-chain output that is to enter a batch: as
// Default, with the boarding delay.
func Boarding(owner, signer bip340.XOnly, delay ark.Delay) (Tree, error) {
	return Default(owner, signer, delay)
}

// Delegate is the VTXO script of a wallet that uses a delegate, in the ts
// SDK's order: Default's leaves; owner, delegate and signer.
func Delegate(owner, delegate, signer bip340.XOnly, exit ark.Delay) (Tree, error) {
	return NewTree([][]byte{
		Multisig{PubKeys: []bip340.XOnly{owner, signer}}.Script(),
		exitLeaf(owner, exit),
		Multisig{PubKeys: []bip340.XOnly{owner, delegate, signer}}.Script(),
	})
}

func exitLeaf(owner bip340.XOnly, exit ark.Delay) []byte {
	return CSVMultisig{
		Multisig: Multisig{PubKeys: []bip340.XOnly{owner}},
		Sequence: exit.Sequence(),
	}.Script()
}

var (
	// ErrVTXOScript is returned for a script that the operator would not take.
	ErrVTXOScript = errors.New("script: VTXO script not acceptable")
	// ErrNoExit is returned for a script without an exit leaf.
	ErrNoExit = errors.New("script: no exit leaf")
)

// Rules are an operator's rules for VTXO scripts (protocol section 3.4).
type Rules struct {
	Signer     bip340.XOnly
	Deprecated []ark.DeprecatedSigner
	Now        int64     // unix seconds, for the cutoff of deprecated signers
	MinExit    ark.Delay // shortest exit delay; 0 when it is not known
	Blocks     bool      // delays and locktimes may count blocks
}

// RulesOf are the rules that an operator's parameters imply at now. The
// operator's own minimum of the exit delay is private; MinExit stays 0.
func RulesOf(p ark.Params, now int64) Rules {
	return Rules{
		Signer: bip340.XOnly(p.SignerKey[1:]), Deprecated: p.DeprecatedSigners,
		Now: now, Blocks: p.Network.AllowsBlocks(),
	}
}

// Validate checks a VTXO script as the operator does. Every collaborative leaf
// must contain one and the same signer key that is accepted now. A script
// without an exit leaf passes; SmallestExit tells.
func Validate(t Tree, r Rules) error {
	cs, err := t.Closures()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrVTXOScript, err)
	}
	if err := r.signer(cs); err != nil {
		return err
	}
	for i, c := range cs {
		if !r.Blocks && countsBlocks(c) {
			return fmt.Errorf("%w: leaf %d counts blocks", ErrVTXOScript, i)
		}
		if _, note := c.(Note); note {
			return fmt.Errorf("%w: leaf %d is a note", ErrVTXOScript, i)
		}
	}
	exit, err := SmallestExit(cs)
	if errors.Is(err, ErrNoExit) {
		return nil
	}
	if exit < r.MinExit.Seconds() {
		return fmt.Errorf("%w: exit delay %d below %d", ErrVTXOScript, exit, r.MinExit.Seconds())
	}
	return nil
}

// signer looks for one accepted signer key that all collaborative leaves have.
func (r Rules) signer(cs []Closure) error {
	if allHave(cs, r.Signer) {
		return nil
	}
	for _, d := range r.Deprecated {
		if !allHave(cs, bip340.XOnly(d.Key[1:])) {
			continue
		}
		if d.Cutoff != 0 && r.Now > d.Cutoff {
			return fmt.Errorf("%w: signer key %s is deprecated since %d", ErrVTXOScript, d.Key, d.Cutoff)
		}
		return nil
	}
	return fmt.Errorf("%w: a collaborative leaf lacks the signer key", ErrVTXOScript)
}

func allHave(cs []Closure, key bip340.XOnly) bool {
	for _, c := range cs {
		if Collaborative(c) && !HasKey(c, key) {
			return false
		}
	}
	return true
}

func countsBlocks(c Closure) bool {
	switch c := c.(type) {
	case CSVMultisig:
		return c.IsBlocks()
	case ConditionCSVMultisig:
		return c.IsBlocks()
	case CLTVMultisig:
		return c.IsHeight()
	}
	return false
}

// SmallestExit is the shortest exit delay among the closures, in seconds with
// a block counted as one, or ErrNoExit.
func SmallestExit(cs []Closure) (int64, error) {
	smallest := int64(-1)
	for _, c := range cs {
		var s int64
		switch c := c.(type) {
		case CSVMultisig:
			s = c.Seconds()
		case ConditionCSVMultisig:
			s = c.Seconds()
		default:
			continue
		}
		if smallest < 0 || s < smallest {
			smallest = s
		}
	}
	if smallest < 0 {
		return 0, ErrNoExit
	}
	return smallest, nil
}
