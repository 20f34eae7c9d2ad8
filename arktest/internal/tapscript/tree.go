package tapscript

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
)

// Errors of script validation, worded as arkd words them.
var (
	ErrNoExit      = errors.New("no exit leaf")
	ErrShortExit   = errors.New("exit delay is too short")
	ErrNoSigner    = errors.New("invalid forfeit closure, signer pubkey not found")
	ErrBlockCSV    = errors.New("invalid exit closure, CSV block type not allowed")
	ErrBlockCLTV   = errors.New("invalid forfeit closure, CLTV block type not allowed")
	ErrEmptyLeaves = errors.New("empty scripts array")
)

// maxLeaves bounds a leaf list.
const maxLeaves = 128

// numsX is the x coordinate of the internal key without a known logarithm
// (protocol section 3.2, BIP-341's H).
const numsX = "50929b74c1a04954b78b4b6035e97a5e078a5a0f28ec96d547bfee9ace803ac0"

// NUMS returns the internal key of every Ark script.
func NUMS() *btcec.PublicKey {
	b, _ := hex.DecodeString(numsX)
	k, _ := schnorr.ParsePubKey(b)
	return k
}

// Tree is the leaf list of a taproot output under the NUMS key.
type Tree struct {
	Leaves   [][]byte
	Closures []Closure
}

// NewTree decodes every leaf; one that is no known template is an error.
func NewTree(leaves [][]byte) (Tree, error) {
	if len(leaves) == 0 {
		return Tree{}, ErrEmptyLeaves
	}
	if len(leaves) > maxLeaves {
		return Tree{}, fmt.Errorf("%d leaves are too many", len(leaves))
	}
	t := Tree{Leaves: leaves}
	for _, l := range leaves {
		c, err := Decode(l)
		if err != nil {
			return Tree{}, err
		}
		t.Closures = append(t.Closures, c)
	}
	return t, nil
}

// Build assembles the tree of leaves in order.
func Build(leaves ...[]byte) *txscript.IndexedTapScriptTree {
	tl := make([]txscript.TapLeaf, len(leaves))
	for i, l := range leaves {
		tl[i] = txscript.NewBaseTapLeaf(l)
	}
	return txscript.AssembleTaprootScriptTree(tl...)
}

// OutputKey is the taproot output key of the leaves.
func (t Tree) OutputKey() *btcec.PublicKey {
	root := Build(t.Leaves...).RootNode.TapHash()
	return txscript.ComputeTaprootOutputKey(NUMS(), root[:])
}

// PkScript is the P2TR script of the leaves.
func (t Tree) PkScript() []byte { return P2TR(t.OutputKey()) }

// Proof returns leaf i's control block.
func (t Tree) Proof(i int) ([]byte, error) {
	cb := Build(t.Leaves...).LeafMerkleProofs[i].ToControlBlock(NUMS())
	return cb.ToBytes()
}

// Hex gives the leaves as hex strings, as error metadata carries them.
func (t Tree) Hex() []string {
	out := make([]string, len(t.Leaves))
	for i, l := range t.Leaves {
		out[i] = hex.EncodeToString(l)
	}
	return out
}

// P2TR is the output script of a taproot key.
func P2TR(key *btcec.PublicKey) []byte {
	return append([]byte{txscript.OP_1, txscript.OP_DATA_32}, schnorr.SerializePubKey(key)...)
}

// LeafHash is the tapleaf hash of script at version 0xc0.
func LeafHash(script []byte) chainhash.Hash { return txscript.NewBaseTapLeaf(script).TapHash() }

// SmallestExit is the shortest relative lock of the tree's exit leaves.
func (t Tree) SmallestExit() (Delay, error) {
	var best *Delay
	for _, c := range t.Closures {
		if c.Exit() && (best == nil || c.Delay.InSeconds() < best.InSeconds()) {
			best = &c.Delay
		}
	}
	if best == nil {
		return Delay{}, ErrNoExit
	}
	return *best, nil
}

// Validate checks the tree against one signer key (protocol section 3.4).
func (t Tree) Validate(signer [32]byte, min Delay, blocksAllowed bool) error {
	for _, c := range t.Closures {
		switch {
		case c.Exit():
			if !blocksAllowed && !c.Delay.Seconds {
				return ErrBlockCSV
			}
		case c.Kind == CLTVMultisig && !blocksAllowed && c.Locktime < txscript.LockTimeThreshold:
			return ErrBlockCLTV
		case !c.Has(signer):
			return ErrNoSigner
		}
	}
	smallest, err := t.SmallestExit()
	if errors.Is(err, ErrNoExit) {
		return nil
	}
	if err != nil {
		return err
	}
	if smallest.InSeconds() < min.InSeconds() {
		return ErrShortExit
	}
	return nil
}

// Deprecated is an earlier signer key; a zero Cutoff never passes.
type Deprecated struct {
	Key    *btcec.PublicKey
	Cutoff time.Time
}

func (d Deprecated) past(now time.Time) bool { return !d.Cutoff.IsZero() && now.After(d.Cutoff) }

// ValidateFor checks the tree against the current signer or any earlier one
// that is still accepted.
func (t Tree) ValidateFor(signer *btcec.PublicKey, old []Deprecated, now time.Time, min Delay, blocksAllowed bool) error {
	err := t.Validate(XOnly(signer), min, blocksAllowed)
	if err == nil {
		return nil
	}
	for _, d := range old {
		if d.past(now) {
			continue
		}
		if err = t.Validate(XOnly(d.Key), min, blocksAllowed); err == nil {
			return nil
		}
	}
	for _, d := range old {
		if d.past(now) && t.Validate(XOnly(d.Key), min, blocksAllowed) == nil {
			return fmt.Errorf("%x is a deprecated key since %s",
				d.Key.SerializeCompressed(), d.Cutoff.Format(time.RFC3339))
		}
	}
	return err
}

// XOnly is the 32-byte form of key.
func XOnly(key *btcec.PublicKey) [32]byte { return [32]byte(schnorr.SerializePubKey(key)) }
