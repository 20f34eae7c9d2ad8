package ledger

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/internal/canon"
	"github.com/vigil-ark/vigil/kv"
)

// All delegates of one batch have branches under one commitment transaction, which
// is the larger part of a small branch. It is stored once, and goes with the last
// branch that refers to it. Rows of before hold it themselves, and stay as they are.

// maxCommitment bounds a commitment's PSBT, in bytes; delegate.Branch has the same
// bound.
const maxCommitment = 8 << 20

func encodeCommitment(tx []byte) ([]byte, error) {
	return canon.Encode(rowFormat, maxCommitment, func(c *canon.Coder) { c.Bytes(&tx, maxCommitment, "commitment") })
}

func decodeCommitment(b []byte) (tx []byte, err error) {
	err = canon.Decode(b, rowFormat, maxCommitment, func(c *canon.Coder) { c.Bytes(&tx, maxCommitment, "commitment") })
	return tx, err
}

func readCommitment(key, value []byte) error {
	if len(key) != chainhash.HashSize {
		return errKey
	}
	_, err := decodeCommitment(value)
	return err
}

// refKey is that of a branch with its parts changed round.
func refKey(branch []byte) []byte {
	return append(bytes.Clone(branch[idSize:]), branch[:idSize]...)
}

// branchOf is the key of the branch whose reference lies under key.
func branchOf(key []byte) []byte {
	return append(bytes.Clone(key[chainhash.HashSize:]), key[:chainhash.HashSize]...)
}

// refers says whether the branch under key leaves its commitment to the tree of
// those, and it is there. One that cannot be read may.
func refers(r reader, key []byte) (bool, error) {
	if _, err := commitmentOf(r, chainhash.Hash(key[idSize:])); errors.Is(err, ErrNotFound) {
		return false, nil
	} else if err != nil && !errors.Is(err, ErrUnreadable) {
		return false, err
	}
	value, err := r.Get(treeBranches, key)
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return false, nil
	case errors.Is(err, ErrUnreadable):
		return true, nil
	case err != nil:
		return false, err
	}
	b, err := decodeBranch(key, value)
	return err != nil || len(b.Tx) == 0, nil
}

// keepBranch stores a branch, and its commitment unless that is there.
func keepBranch(w writer, b *delegate.Branch) error {
	key := branchKey(b.Delegate, b.Commitment)
	row := *b
	if len(b.Tx) > 0 {
		if _, err := commitmentOf(w, b.Commitment); errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnreadable) {
			value, err := encodeCommitment(b.Tx)
			if err != nil {
				return fmt.Errorf("%w: commitment %s: %w", errUnencodable, b.Commitment, err)
			}
			if err := w.Put(treeCommitments, b.Commitment[:], value); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		if err := w.Put(treeCommitmentRefs, refKey(key), nil); err != nil {
			return err
		}
		row.Tx = nil
	}
	value, err := row.Encode()
	if err != nil {
		return fmt.Errorf("%w: branch of %s: %w", errUnencodable, b.Delegate, err)
	}
	return w.Put(treeBranches, key, value)
}

// commitmentOf returns a stored commitment's PSBT, ErrNotFound or ErrUnreadable.
func commitmentOf(r reader, txid chainhash.Hash) ([]byte, error) {
	b, err := r.Get(treeCommitments, txid[:])
	if errors.Is(err, kv.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	tx, err := decodeCommitment(b)
	if err != nil {
		return nil, r.damaged(treeCommitments, txid[:], err)
	}
	return tx, nil
}

// complete puts its commitment into a branch. One that is missing or damaged is
// left out: the branch is worth as much to its owner, whose tree is under it.
func complete(r reader, b *delegate.Branch) error {
	if len(b.Tx) > 0 {
		return nil
	}
	tx, err := commitmentOf(r, b.Commitment)
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnreadable) {
		return err
	}
	b.Tx = tx
	return nil
}

// dropBranch deletes a branch, and its commitment if no other refers to it.
func dropBranch(w writer, key []byte) error {
	if err := w.Delete(treeBranches, key); err != nil {
		return err
	}
	if err := w.Delete(treeCommitmentRefs, refKey(key)); err != nil {
		return err
	}
	commitment := key[idSize:]
	others, err := referred(w, commitment)
	if err != nil || others {
		return err
	}
	return w.Delete(treeCommitments, commitment)
}

// referred says whether a branch refers to a commitment, as far as can be read.
func referred(r reader, commitment []byte) (others bool, err error) {
	err = r.Scan(treeCommitmentRefs, commitment, after(commitment), func([]byte, []byte, error) error {
		others = true
		return kv.ErrStop
	})
	return others, err
}

// strayCommitments calls f for every commitment that no branch refers to, and every
// reference without its branch or commitment. While a branch cannot be read, no
// commitment is called stray: it may be that one's.
func (s *Snapshot) strayCommitments(f func(tree string, key []byte) error) error {
	lost := false
	err := s.r.Scan(treeBranches, nil, nil, func(_, _ []byte, damage error) error {
		if lost = damage != nil; lost {
			return kv.ErrStop
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = s.r.Scan(treeCommitments, nil, nil, func(key, _ []byte, damage error) error {
		if damage != nil || lost {
			return nil
		}
		if used, err := referred(s.r, key); err != nil || used {
			return err
		}
		return f(treeCommitments, key)
	})
	if err != nil {
		return err
	}
	return s.r.Scan(treeCommitmentRefs, nil, nil, func(key, _ []byte, damage error) error {
		if damage != nil || len(key) != chainhash.HashSize+idSize {
			return nil
		}
		if asked, err := refers(s.r, branchOf(key)); err != nil || asked {
			return err
		}
		return f(treeCommitmentRefs, key)
	})
}
