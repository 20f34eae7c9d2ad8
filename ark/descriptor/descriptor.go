// Package descriptor owns the public description of a wallet's scripts: the
// keys and delays from which every address of the wallet follows, the rules that
// they must keep, and the forms in which they are stored and backed up. It is
// pure, holds no secrets and knows nothing of transactions.
package descriptor

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/address/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

// The leaves of a wallet's VTXO script, by index (spec section 4).
const (
	LeafForfeit  = 0 // group and operator
	LeafExit     = 1 // group, after the exit delay
	LeafDelegate = 2 // group, delegate key and operator
	LeafRecovery = 3 // recovery key, after the recovery delay
)

// LeafBoardingRecovery is the index of the recovery key's leaf in a boarding
// script, whose first two leaves are LeafForfeit and LeafExit.
const LeafBoardingRecovery = 2

const (
	unit = 512 // seconds: what BIP-68 counts in
	day  = 86_400

	// DefaultRecovery is how long the recovery key has to wait: 90 days, up to the
	// next 512 s. Long enough that whoever steals it alone is seen, and the coins
	// moved, before it spends; short enough to wait for.
	DefaultRecovery ark.Delay = (90*day + unit - 1) / unit * unit
	// MinMargin is by how many seconds a recovery delay must exceed the delay of
	// the group's own exit: the group must always be first.
	MinMargin = 30 * day
)

// ErrDescriptor is returned for a description of scripts that no wallet may
// have, and for bytes or text that are none.
var ErrDescriptor = errors.New("descriptor: invalid")

// Descriptor is all public parts of a wallet's scripts. It is comparable; a
// value from New, Decode or Parse keeps the rules of Check.
type Descriptor struct {
	Network   ark.Network
	Group     bip340.PubKey // the FROST group's key, parity kept
	Signer    bip340.XOnly  // the operator's
	Delegate  bip340.XOnly  // Vigil's delegate key for this wallet
	Recovery  bip340.XOnly
	ExitDelay ark.Delay // of LeafExit
	// BoardingDelay is the exit delay of the boarding script.
	BoardingDelay ark.Delay
	// RecoveryDelay is that of LeafRecovery, BoardingRecoveryDelay its like in the
	// boarding script; both in seconds.
	RecoveryDelay, BoardingRecoveryDelay ark.Delay
}

// New describes a wallet under an operator's parameters of now. A recovery delay
// of 0 is DefaultRecovery; the boarding script's is that much longer than the
// boarding delay. The error is ErrDescriptor.
func New(p ark.Params, group bip340.PubKey, delegate, recovery bip340.XOnly, recoveryDelay ark.Delay) (Descriptor, error) {
	if recoveryDelay == 0 {
		recoveryDelay = DefaultRecovery
	}
	d := Descriptor{
		Network: p.Network, Group: group, Signer: p.SignerKey.XOnly(), Delegate: delegate, Recovery: recovery,
		ExitDelay: p.ExitDelay, BoardingDelay: p.BoardingDelay,
		RecoveryDelay: recoveryDelay, BoardingRecoveryDelay: above(p.BoardingDelay, recoveryDelay),
	}
	return d, d.Check()
}

// BoardingRecovery is the recovery delay of the boarding script of a wallet that
// has the given one.
func BoardingRecovery(p ark.Params, recoveryDelay ark.Delay) ark.Delay {
	return above(p.BoardingDelay, recoveryDelay)
}

// above is the sum of two delays in whole units, at most what BIP-68 can say.
func above(base, more ark.Delay) ark.Delay {
	sum := base.Seconds() + more.Seconds()
	sum = (sum + unit - 1) / unit * unit
	return ark.Delay(min(sum, int64(ark.MaxDelay)))
}

// Check holds the descriptor to the rules of spec section 4: keys on the curve,
// none of them doing two jobs; delays that the network knows; recovery in seconds
// and at least MinMargin after the group's own exit. The error is ErrDescriptor.
func (d Descriptor) Check() error {
	if _, err := ark.ParseNetwork(string(d.Network)); err != nil {
		return fmt.Errorf("%w: %w", ErrDescriptor, err)
	}
	if _, err := bip340.ParsePubKey(d.Group[:]); err != nil {
		return fmt.Errorf("%w: group key: %w", ErrDescriptor, err)
	}
	keys := []struct {
		name string
		key  bip340.XOnly
	}{{"group", d.Group.XOnly()}, {"operator", d.Signer}, {"delegate", d.Delegate}, {"recovery", d.Recovery}}
	for i, k := range keys {
		if _, err := bip340.ParseXOnly(k.key[:]); err != nil {
			return fmt.Errorf("%w: %s key: %w", ErrDescriptor, k.name, err)
		}
		for _, other := range keys[:i] {
			if k.key == other.key {
				return fmt.Errorf("%w: %s and %s have one key", ErrDescriptor, other.name, k.name)
			}
		}
	}
	return d.checkDelays()
}

func (d Descriptor) checkDelays() error {
	for _, c := range []struct {
		name     string
		delay    ark.Delay
		recovery bool
		exit     ark.Delay
	}{
		{"exit", d.ExitDelay, false, 0},
		{"boarding", d.BoardingDelay, false, 0},
		{"recovery", d.RecoveryDelay, true, d.ExitDelay},
		{"boarding recovery", d.BoardingRecoveryDelay, true, d.BoardingDelay},
	} {
		if _, err := ark.ParseDelay(int64(c.delay)); err != nil {
			return fmt.Errorf("%w: %s delay: %w", ErrDescriptor, c.name, err)
		}
		if c.delay.IsBlocks() && (c.recovery || !d.Network.AllowsBlocks()) {
			return fmt.Errorf("%w: %s delay of %v", ErrDescriptor, c.name, c.delay)
		}
		if c.recovery && c.delay.Seconds() < c.exit.Seconds()+MinMargin {
			return fmt.Errorf("%w: %s delay of %v, at least %d s after the exit's %v wanted", ErrDescriptor, c.name, c.delay, int64(MinMargin), c.exit)
		}
	}
	return nil
}

// Tree is the script of the wallet's VTXOs, by the Leaf constants. Like Boarding
// and TwoLeaf it computes a key: keep the result.
func (d Descriptor) Tree() script.Tree {
	group := d.Group.XOnly()
	return tree(
		multisig(group, d.Signer), after(d.ExitDelay, group),
		multisig(group, d.Delegate, d.Signer), after(d.RecoveryDelay, d.Recovery))
}

// Boarding is the script of the wallet's on-chain outputs that are to enter a
// batch: LeafForfeit, LeafExit after the boarding delay, LeafBoardingRecovery.
func (d Descriptor) Boarding() script.Tree {
	group := d.Group.XOnly()
	return tree(multisig(group, d.Signer), after(d.BoardingDelay, group), after(d.BoardingRecoveryDelay, d.Recovery))
}

// TwoLeaf is the plain wallet's script for the same group, LeafForfeit and
// LeafExit. It is never offered as an address; a coin that arrives there all the
// same is the wallet's, and is moved.
func (d Descriptor) TwoLeaf() script.Tree {
	group := d.Group.XOnly()
	return tree(multisig(group, d.Signer), after(d.ExitDelay, group))
}

// tree assembles few short leaves, which cannot fail.
func tree(leaves ...[]byte) script.Tree {
	t, err := script.NewTree(leaves)
	if err != nil {
		return script.Tree{}
	}
	return t
}

func multisig(keys ...bip340.XOnly) []byte { return script.Multisig{PubKeys: keys}.Script() }

func after(d ark.Delay, key bip340.XOnly) []byte {
	return script.CSVMultisig{Multisig: script.Multisig{PubKeys: []bip340.XOnly{key}}, Sequence: d.Sequence()}.Script()
}

// PkScript is the script of the wallet's VTXOs as outputs have it.
func (d Descriptor) PkScript() []byte { return d.Tree().PkScript() }

// BoardingPkScript is PkScript for boarding outputs.
func (d Descriptor) BoardingPkScript() []byte { return d.Boarding().PkScript() }

// Address is where the wallet receives.
func (d Descriptor) Address() ark.Address {
	return ark.Address{HRP: d.Network.HRP(), Signer: d.Signer, Key: d.Tree().OutputKey()}
}

// BoardingAddress is the on-chain address whose coins can enter a batch; "" for
// a descriptor that does not keep the rules.
func (d Descriptor) BoardingAddress() string {
	params := d.Network.ChainParams()
	if params == nil {
		return ""
	}
	key := d.Boarding().OutputKey()
	a, err := address.NewAddressTaproot(key[:], params)
	if err != nil {
		return ""
	}
	return a.EncodeAddress()
}
