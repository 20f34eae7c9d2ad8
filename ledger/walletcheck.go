package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/kv"
)

// Wallets calls f for every wallet that can be read.
func (s *Snapshot) Wallets(f func(*Wallet) error) error {
	keys, err := keysOf(s.r, treeWallets, nil, nil, -1)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if len(key) != walletSize {
			continue
		}
		w, err := loadWallet(s.r, vigil.WalletID(key))
		if errors.Is(err, ErrUnreadable) {
			continue
		}
		if err != nil {
			return err
		}
		if err := f(w); err != nil {
			return err
		}
	}
	return nil
}

// Wallet returns one wallet, ErrNotFound or ErrUnreadable.
func (s *Snapshot) Wallet(id vigil.WalletID) (*Wallet, error) { return loadWallet(s.r, id) }

// WalletByScript returns the id of the wallet that a script pays, and whether
// there is one.
func (s *Snapshot) WalletByScript(script []byte) (vigil.WalletID, bool, error) {
	return aliasOf(s.r, scriptAlias(script))
}

// MissingOfWallet describes the rows that a wallet must have and lacks, or that
// name another.
func (s *Snapshot) MissingOfWallet(w *Wallet) ([]string, error) {
	var missing []string
	for key := range walletRows(w) {
		stored, err := s.raw.Get(key.tree, []byte(key.key))
		absent := errors.Is(err, kv.ErrNotFound)
		if err != nil && !absent {
			return nil, err
		}
		value, err := unseal(key.tree, []byte(key.key), stored)
		switch {
		case absent, key.tree == treeAliases && err == nil && !bytes.Equal(value, w.ID[:]):
			missing = append(missing, key.tree+" "+hex.EncodeToString([]byte(key.key)))
		}
	}
	deleting, err := s.has(treeDeleting, w.ID[:])
	if err == nil && deleting != (w.State == WalletDeleting) {
		missing = append(missing, fmt.Sprintf("%s is %v", treeDeleting, deleting))
	}
	return missing, err
}

// HasPolicy says whether the row of a wallet's policy is there, readable or not.
func (s *Snapshot) HasPolicy(id vigil.WalletID) (bool, error) { return s.has(treePolicies, id[:]) }

// StrayOfWallets calls f for every row below a wallet that is not there, or that
// does not ask for it.
func (s *Snapshot) StrayOfWallets(f func(row string) error) error {
	for _, tree := range []string{treeRecovery, treeAliases, treeHoldings, treeDeleting, treeSynced, treeTokens, treePolicies, treeSpends} {
		err := s.r.Scan(tree, nil, nil, func(key, value []byte, damage error) error {
			id := key
			switch tree {
			case treeAliases:
				id = value
			case treeSynced:
				id = key[min(len(key), 8):]
			}
			if damage != nil || len(id) < walletSize {
				return nil // told of by Rows
			}
			w, err := loadWallet(s.r, vigil.WalletID(id[:walletSize]))
			switch {
			case errors.Is(err, ErrUnreadable):
				return nil
			case errors.Is(err, ErrNotFound):
				return f(tree + " " + hex.EncodeToString(key))
			case err != nil:
				return err
			}
			_, asked := walletRows(w)[treeKey{tree, string(key)}]
			if (tree == treeAliases || tree == treeSynced) && !asked {
				return f(tree + " " + hex.EncodeToString(key))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Holdings calls f for every VTXO of a wallet, with the error of one whose VTXO
// row is missing or cannot be read.
func (s *Snapshot) Holdings(f func(id vigil.WalletID, h *Holding, err error) error) error {
	return s.r.Scan(treeHoldings, nil, nil, func(key, value []byte, damage error) error {
		h := new(Holding)
		if damage != nil || len(key) != walletSize+outpointSize || decodeRow(value, h) != nil {
			return nil
		}
		op, _ := parseOutpointKey(key[walletSize:])
		v, err := loadVTXO(s.r, key[walletSize:])
		if err == nil && v == nil {
			err = fmt.Errorf("%w: no VTXO %s", ErrNotFound, op)
		}
		if v != nil {
			h.VTXO = *v
		}
		h.Outpoint = op
		return f(vigil.WalletID(key), h, err)
	})
}

// Holds says whether a VTXO is noted as a wallet's, readable or not.
func (s *Snapshot) Holds(id vigil.WalletID, v *VTXO) (bool, error) {
	return s.has(treeHoldings, holdingKey(id, v.Outpoint))
}

// Lines describes what is wrong between a VTXO and the lines of history that it
// says tell of it.
func (s *Snapshot) Lines(id vigil.WalletID, h *Holding) ([]string, error) {
	var wrong []string
	check := func(g group, ours bool, told int64, what string) error {
		if !ours || told == 0 {
			return nil
		}
		there, err := s.has(treeHistory, lineKey(id, told, g.id()))
		if err == nil && !there {
			wrong = append(wrong, fmt.Sprintf("no line of %d tells that it %s", told, what))
		}
		return err
	}
	came, ours := h.cameBy()
	if err := check(came, ours, h.came, "came"); err != nil {
		return nil, err
	}
	went, ours := h.wentBy()
	if err := check(went, ours, h.went, "went"); err != nil {
		return nil, err
	}
	if h.Fate == Unspent && h.went != 0 && h.Renewed == (vigil.DelegateID{}) {
		wrong = append(wrong, "a line tells that it went, and it is here")
	}
	return wrong, nil
}

// Prepared calls f for every plan, and whether its row in the index is there.
func (s *Snapshot) Prepared(f func(p *Plan, indexed bool) error) error {
	return s.r.Scan(treePrepared, nil, nil, func(key, value []byte, damage error) error {
		p, err := decodePlan(key, value)
		if damage != nil || err != nil {
			return nil
		}
		indexed, err := s.has(treeLapses, lapseKey(p.NotBefore, key))
		if err != nil {
			return err
		}
		return f(p, indexed)
	})
}

// StrayLapses calls f for every row of the index of plans that no plan asks for.
func (s *Snapshot) StrayLapses(f func(row string) error) error {
	return s.r.Scan(treeLapses, nil, nil, func(key, _ []byte, damage error) error {
		if damage != nil || len(key) != 8+walletSize+idSize {
			return nil
		}
		b, err := s.r.Get(treePrepared, key[8:])
		if errors.Is(err, ErrUnreadable) {
			return nil
		}
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return err
		}
		p, decoded := decodePlan(key[8:], b)
		if err == nil && (decoded != nil || bytes.Equal(lapseKey(p.NotBefore, key[8:]), key)) {
			return nil
		}
		return f(treeLapses + " " + hex.EncodeToString(key))
	})
}

// WalletCount returns the kept number of wallets in a state.
func (s *Snapshot) WalletCount(state WalletState) (uint64, error) {
	return readNumber(s.r, countOf(state))
}

// Requests describes what is wrong among the requests that are remembered.
func (s *Snapshot) Requests(f func(subject, text string) error) error {
	counts := make(map[string]uint64)
	err := s.r.Scan(treeReplay, nil, nil, func(key, value []byte, damage error) error {
		name, _ := counted(key)
		counts[name]++
		row := new(begun)
		if damage != nil || decodeRow(value, row) != nil {
			return nil
		}
		due, err := s.has(treeFresh, freshKey(row.Forget, key))
		if err != nil {
			return err
		}
		if !due {
			return f(hex.EncodeToString(key), "it is never forgotten")
		}
		kept, err := s.has(treeAnswers, key)
		if err == nil && kept != row.Kept {
			return f(hex.EncodeToString(key), fmt.Sprintf("its answer is kept is %v, and the row says %v", kept, row.Kept))
		}
		return err
	})
	if err != nil {
		return err
	}
	err = s.r.Scan(treeAnswers, nil, nil, func(key, value []byte, damage error) error {
		var a answer
		if damage == nil && decodeRow(value, &a) == nil {
			counts[countAnswers] += uint64(len(a.Bytes))
		}
		there, err := s.has(treeReplay, key)
		if err == nil && !there {
			return f(hex.EncodeToString(key), "an answer to no request")
		}
		return err
	})
	if err != nil {
		return err
	}
	err = s.r.Scan(treeFresh, nil, nil, func(key, _ []byte, damage error) error {
		if damage != nil || len(key) <= 8 {
			return nil
		}
		row, err := loadBegun(s.r, key[8:])
		switch {
		case errors.Is(err, ErrUnreadable):
			return nil
		case errors.Is(err, ErrNotFound), err == nil && int64(binary.BigEndian.Uint64(key)) != row.Forget:
			return f(hex.EncodeToString(key), "a time at which no request is forgotten")
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range []string{countRequests, countStrangers, countMembers, countAnswers} {
		n, err := readNumber(s.r, name)
		if err == nil && n != counts[name] {
			err = f(name, fmt.Sprintf("counted as %d, there are %d", n, counts[name]))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Chain says where the audit's chain begins and ends: the hashes before its first
// and of its last entry, and their numbers.
func (s *Snapshot) Chain() (base, head [32]byte, first, last uint64, err error) {
	c, err := loadChain(s.r)
	if err != nil {
		return base, head, 0, 0, err
	}
	return c.Base, c.Hash, c.Kept + 1, c.Number, nil
}

// Audit calls f for every entry of the audit that can be read.
func (s *Snapshot) Audit(f func(Audited) error) error {
	return s.r.Scan(treeAudit, auditKey(1), nil, func(key, value []byte, damage error) error {
		a, err := decodeAudited(value)
		if damage != nil || err != nil || len(key) != 8 {
			return nil
		}
		return f(Audited{Number: binary.BigEndian.Uint64(key), Hash: a.Hash, Entry: a.Entry})
	})
}

// Mentions calls f for every row in which one of the marks stands, in its key or
// in its value. It is how a deletion is proved.
func (s *Snapshot) Mentions(marks [][]byte, f func(row string, mark int) error) error {
	for _, t := range trees() {
		err := s.raw.Scan(t.name, nil, nil, func(key, stored []byte) error {
			for i, mark := range marks {
				if bytes.Contains(key, mark) || bytes.Contains(stored, mark) {
					if err := f(t.name+" "+hex.EncodeToString(key), i); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
