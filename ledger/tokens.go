package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/kv"
)

func tokenKey(id vigil.WalletID, text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return under(id, sum[:])
}

// SetToken stores a device token of a wallet; the same text again replaces it. The
// time is the ledger's. The audit's entries are written with it. Beyond MaxTokens it is ErrTooMany.
func (l *Ledger) SetToken(ctx context.Context, id vigil.WalletID, t Token, links ...Link) error {
	return l.update(ctx, func(w writer) error {
		owner, err := loadWallet(w, id)
		if err != nil {
			return err
		}
		if owner.State == WalletDeleting {
			return fmt.Errorf("%w: %s", ErrDeleting, id)
		}
		t.At = l.now().Unix()
		key := tokenKey(id, t.Text)
		if _, err := w.Get(treeTokens, key); errors.Is(err, kv.ErrNotFound) {
			all, err := tokensOf(w, id)
			if err != nil {
				return err
			}
			if len(all) >= MaxTokens {
				return fmt.Errorf("%w: %d device tokens", ErrTooMany, len(all))
			}
		}
		if err := putRow(w, treeTokens, key, &t); err != nil {
			return err
		}
		return appendAudit(w, links...)
	})
}

// DropToken forgets a device token, with the audit's entries. One that is not there
// is no error.
func (l *Ledger) DropToken(ctx context.Context, id vigil.WalletID, text string, links ...Link) error {
	return l.update(ctx, func(w writer) error {
		if err := w.Delete(treeTokens, tokenKey(id, text)); err != nil {
			return err
		}
		return appendAudit(w, links...)
	})
}

// tokensOf returns the tokens of a wallet that can be read.
func tokensOf(r reader, id vigil.WalletID) ([]Token, error) {
	var all []Token
	err := r.Scan(treeTokens, id[:], after(id[:]), func(key, value []byte, damage error) error {
		var t Token
		if damage != nil {
			return nil
		}
		if err := decodeRow(value, &t); err != nil {
			_ = r.damaged(treeTokens, key, err)
			return nil
		}
		all = append(all, t)
		return nil
	})
	return all, err
}

// Policy returns a wallet's policy, or ErrNotFound when none was ever set. One
// that cannot be read, or is gone, is ErrUnreadable: it allows nothing.
func (l *Ledger) Policy(ctx context.Context, id vigil.WalletID) (*Policy, error) {
	var p *Policy
	err := l.view(ctx, func(r reader) (err error) {
		owner, err := loadWallet(r, id)
		if err != nil {
			return err
		}
		if p, err = policyOf(r, owner); err == nil && p == nil {
			err = fmt.Errorf("%w: no policy of %s", ErrNotFound, id)
		}
		return err
	})
	return p, err
}

var errNoPolicy = errors.New("the wallet has a policy and its row is gone")

// policyOf returns nil when none was ever set.
func policyOf(r reader, owner *Wallet) (*Policy, error) {
	id := owner.ID
	b, err := r.Get(treePolicies, id[:])
	if errors.Is(err, kv.ErrNotFound) {
		if owner.HasPolicy {
			return nil, &Damage{Tree: treePolicies, Key: id[:], Cause: errNoPolicy}
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := new(Policy)
	if err := decodeRow(b, p); err != nil {
		return nil, r.damaged(treePolicies, id[:], err)
	}
	return p, nil
}

// dropRange deletes at most limit rows of a tree from one key to another.
func dropRange(w writer, tree string, from, to []byte, limit int) error {
	keys, err := keysOf(w, tree, from, to, limit)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := w.Delete(tree, key); err != nil {
			return err
		}
	}
	return nil
}

// keysOf lists at most limit keys of a tree, damaged rows' too.
func keysOf(r reader, tree string, from, to []byte, limit int) ([][]byte, error) {
	var keys [][]byte
	err := r.Scan(tree, from, to, func(key, _ []byte, _ error) error {
		if len(keys) == limit {
			return kv.ErrStop
		}
		keys = append(keys, append([]byte(nil), key...))
		return nil
	})
	return keys, err
}
