package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/kv"
)

// Errors of the wallets, matched with errors.Is.
var (
	// ErrTaken says that another wallet has the same id, host key, script or
	// secret.
	ErrTaken = errors.New("ledger: it belongs to another wallet")
	// ErrLapsed says that what was planned is not planned any more: its time has
	// passed, its secrets are garbage, and it must be made anew.
	ErrLapsed = errors.New("ledger: the plan has lapsed")
	// ErrDeleting refuses a change of a wallet that is being taken apart.
	ErrDeleting = errors.New("ledger: the wallet is being deleted")
)

// Extras are written together with a change of a wallet, or not at all.
type Extras struct {
	Audit   []Link
	Policy  *Policy
	Garbage []string // names of secrets that nothing needs after this change
}

func (x *Extras) write(w writer, id vigil.WalletID, at int64) error {
	if err := appendAudit(w, x.Audit...); err != nil {
		return err
	}
	if x.Policy != nil {
		if err := putRow(w, treePolicies, id[:], x.Policy); err != nil {
			return err
		}
	}
	for _, name := range x.Garbage {
		if err := putRow(w, treeSecretGC, []byte(name), &Garbage{Since: at}); err != nil {
			return err
		}
	}
	return nil
}

// CreateWallet stores a new wallet, durably when it returns, and takes up the
// plan of its secrets. Where its device's host key has a wallet already, that one
// is returned with ErrTaken. With ErrLapsed the secrets named in made are garbage.
// Version and time of creation are the ledger's.
func (l *Ledger) CreateWallet(ctx context.Context, made *Wallet, x Extras) (*Wallet, error) {
	var stored *Wallet
	var refused error
	err := l.update(ctx, func(w writer) error {
		at := l.now().Unix()
		stored, refused = made.Clone(), nil
		stored.Version, stored.CreatedAt, stored.HasPolicy = 1, at, x.Policy != nil
		if other, err := takenBy(w, stored); err != nil || other != nil {
			stored, refused = other, ErrTaken
			return errors.Join(err, discard(w, made, at))
		}
		if len(made.Secrets) > 0 {
			refused = takePlan(w, made.ID, vigil.DelegateID{}, at)
			if errors.Is(refused, ErrLapsed) {
				return discard(w, made, at)
			}
			if refused != nil {
				return refused
			}
		}
		if err := writeWallet(w, nil, stored); err != nil {
			return err
		}
		return x.write(w, made.ID, at)
	})
	switch {
	case err != nil:
		return nil, err
	case refused != nil:
		return stored, fmt.Errorf("%w: wallet %s", refused, made.ID)
	}
	return stored, nil
}

// discard makes garbage of the secrets of a wallet that is not to be.
func discard(w writer, made *Wallet, at int64) error {
	if _, err := loadWallet(w, made.ID); !errors.Is(err, ErrNotFound) {
		return err // it is, and needs them
	}
	if err := dropPlan(w, made.ID, vigil.DelegateID{}); err != nil {
		return err
	}
	for _, name := range made.Secrets {
		if err := putRow(w, treeSecretGC, []byte(name), &Garbage{Since: at}); err != nil {
			return err
		}
	}
	return nil
}

// takenBy returns the wallet that has the id or an alias of a new one, or nil.
func takenBy(w writer, made *Wallet) (*Wallet, error) {
	if other, err := loadWallet(w, made.ID); !errors.Is(err, ErrNotFound) {
		return other, err
	}
	for key := range aliases(made) {
		other, err := aliased(w, []byte(key))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		return other, err
	}
	return nil, nil
}

// UpdateWallet changes a wallet that is as prev says; if it changed since, the
// error is ErrConflict. mutate works on a copy, may run more than once and must
// have no other effect. Id, version and time of creation are the ledger's.
func (l *Ledger) UpdateWallet(ctx context.Context, prev *Wallet, mutate func(*Wallet), x Extras) (*Wallet, error) {
	var next *Wallet
	err := l.update(ctx, func(w writer) error {
		cur, err := unchanged(w, prev)
		if err != nil {
			return err
		}
		if cur.State == WalletDeleting {
			return fmt.Errorf("%w: %s", ErrDeleting, cur.ID)
		}
		next = cur.Clone()
		if mutate != nil {
			mutate(next)
		}
		next.ID, next.Version, next.CreatedAt = cur.ID, cur.Version+1, cur.CreatedAt
		next.HasPolicy = cur.HasPolicy || x.Policy != nil
		if err := writeWallet(w, cur, next); err != nil {
			return err
		}
		return x.write(w, cur.ID, l.now().Unix())
	})
	if err != nil {
		return nil, err
	}
	return next, nil
}

// unchanged loads a wallet and holds it to the version that the caller read.
func unchanged(w writer, prev *Wallet) (*Wallet, error) {
	cur, err := loadWallet(w, prev.ID)
	if err == nil && cur.Version != prev.Version {
		err = fmt.Errorf("%w: wallet %s is at version %d, not %d", ErrConflict, cur.ID, cur.Version, prev.Version)
	}
	return cur, err
}

// Wallet returns a wallet, ErrNotFound or ErrUnreadable.
func (l *Ledger) Wallet(ctx context.Context, id vigil.WalletID) (*Wallet, error) {
	var found *Wallet
	err := l.view(ctx, func(r reader) (err error) {
		found, err = loadWallet(r, id)
		return err
	})
	return found, err
}

// WalletByHost returns the wallet of which this is a host key of its owner's, the
// device's or a cold share's, in one of its epochs, or ErrNotFound.
func (l *Ledger) WalletByHost(ctx context.Context, host bip340.PubKey) (*Wallet, error) {
	return l.byAlias(ctx, hostAlias(host))
}

// WalletByScript returns the wallet that this pkScript pays, or ErrNotFound.
func (l *Ledger) WalletByScript(ctx context.Context, pkScript []byte) (*Wallet, error) {
	return l.byAlias(ctx, scriptAlias(pkScript))
}

func (l *Ledger) byAlias(ctx context.Context, alias []byte) (*Wallet, error) {
	var found *Wallet
	err := l.view(ctx, func(r reader) (err error) {
		found, err = aliased(r, alias)
		return err
	})
	return found, err
}

// Wallets returns the ids of at most limit wallets and the cursor to go on with,
// nil when there are no more.
func (l *Ledger) Wallets(ctx context.Context, limit int, from Cursor) ([]vigil.WalletID, Cursor, error) {
	var ids []vigil.WalletID
	var rest Cursor
	err := l.view(ctx, func(r reader) error {
		ids, rest = nil, nil
		return r.Scan(treeWallets, from, nil, func(key, _ []byte, damage error) error {
			if len(ids) == max(limit, 1) {
				rest = bytes.Clone(key)
				return kv.ErrStop
			}
			if damage == nil && len(key) == walletSize {
				ids = append(ids, vigil.WalletID(key))
			}
			return nil
		})
	})
	return ids, rest, err
}

// Unsynced returns the ids of at most limit active wallets of whose VTXOs the
// operator told last before since, the longest ago first, and the cursor to go on
// with: nil when there are no more. Last come those that were asked about by a clock
// which ran ahead and was set back: nobody knows when that was. It reads no other
// rows.
func (l *Ledger) Unsynced(ctx context.Context, since time.Time, limit int, from Cursor) ([]vigil.WalletID, Cursor, error) {
	var ids []vigil.WalletID
	var rest Cursor
	before := syncedKey(since.Unix(), vigil.WalletID{})
	ahead := syncedKey(max(since.Unix(), l.now().Unix()+60), vigil.WalletID{})
	err := l.view(ctx, func(r reader) error {
		ids, rest = nil, nil
		take := func(key, _ []byte, damage error) error {
			if len(ids) == max(limit, 1) {
				rest = bytes.Clone(key)
				return kv.ErrStop
			}
			if damage == nil && len(key) == 8+walletSize {
				ids = append(ids, vigil.WalletID(key[8:]))
			}
			return nil
		}
		if bytes.Compare(from, before) < 0 {
			if err := r.Scan(treeSynced, from, before, take); err != nil || rest != nil {
				return err
			}
		}
		if bytes.Compare(from, ahead) > 0 {
			ahead = from
		}
		return r.Scan(treeSynced, ahead, nil, take)
	})
	return ids, rest, err
}

// loadWallet reads a wallet with its epochs. An epoch that cannot be read makes
// the wallet unreadable: without it, it could be taken for one that never was.
func loadWallet(r reader, id vigil.WalletID) (*Wallet, error) {
	b, err := r.Get(treeWallets, id[:])
	if errors.Is(err, kv.ErrNotFound) {
		return nil, fmt.Errorf("%w: no wallet %s", ErrNotFound, id)
	}
	if err != nil {
		return nil, err
	}
	found := &Wallet{ID: id}
	if err := decodeRow(b, found); err != nil {
		return nil, r.damaged(treeWallets, id[:], err)
	}
	err = r.Scan(treeRecovery, id[:], after(id[:]), func(key, value []byte, damage error) error {
		if damage != nil {
			return damage
		}
		e, err := decodeEpoch(key, value)
		if err != nil {
			return r.damaged(treeRecovery, key, err)
		}
		found.Epochs = append(found.Epochs, *e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

func decodeEpoch(key, value []byte) (*Epoch, error) {
	if len(key) != walletSize+4 {
		return nil, errKey
	}
	e := &Epoch{Number: binary.BigEndian.Uint32(key[walletSize:])}
	return e, decodeRow(value, e)
}

// writeWallet stores a wallet and brings its epochs and aliases in step; before
// is nil for a new one, after for one that is gone. It is the only place that
// writes these trees.
func writeWallet(w writer, before, after *Wallet) error {
	old, fresh := walletRows(before), walletRows(after)
	if after != nil {
		if err := fits(after); err != nil {
			return err
		}
	}
	if err := countWallet(w, before, after); err != nil {
		return err
	}
	for key := range old {
		if _, stays := fresh[key]; !stays {
			if err := w.Delete(key.tree, []byte(key.key)); err != nil {
				return err
			}
		}
	}
	for key, r := range fresh {
		if _, stays := old[key]; stays && r == nil {
			continue
		}
		if r == nil {
			if err := putName(w, key, after.ID); err != nil {
				return err
			}
			continue
		}
		b, err := encodeRow(r)
		if err != nil {
			return fmt.Errorf("wallet %s: %w", after.ID, err)
		}
		if prev, ok := old[key]; ok {
			if known, err := encodeRow(prev); err == nil && bytes.Equal(known, b) {
				continue
			}
		}
		if err := w.Put(key.tree, []byte(key.key), b); err != nil {
			return err
		}
	}
	return nil
}

// countWallet keeps the numbers of wallets by state.
func countWallet(w writer, before, after *Wallet) error {
	if before != nil && after != nil && before.State == after.State {
		return nil
	}
	if before != nil {
		n, err := readNumber(w, countOf(before.State))
		if err == nil {
			err = putNumber(w, countOf(before.State), n-min(n, 1))
		}
		if err != nil {
			return err
		}
	}
	if after == nil {
		return nil
	}
	n, err := readNumber(w, countOf(after.State))
	if err != nil {
		return err
	}
	return putNumber(w, countOf(after.State), n+1)
}

func countOf(s WalletState) string { return countWallets + string('0'+rune(s)) }

// WalletCounts returns how many wallets stand in each state. It reads one row a
// state.
func (l *Ledger) WalletCounts(ctx context.Context) (map[WalletState]uint64, error) {
	counts := make(map[WalletState]uint64)
	err := l.view(ctx, func(r reader) error {
		for s := WalletPending; s <= WalletDeleting; s++ {
			n, err := readNumber(r, countOf(s))
			if err != nil {
				return err
			}
			counts[s] = n
		}
		return nil
	})
	return counts, err
}

// fits holds a wallet to what its rows can say.
func fits(w *Wallet) error {
	if len(w.Epochs) > maxEpochs {
		return fmt.Errorf("%w: wallet %s with %d epochs", errUnencodable, w.ID, len(w.Epochs))
	}
	for i := range w.Epochs {
		if i > 0 && w.Epochs[i].Number <= w.Epochs[i-1].Number {
			return fmt.Errorf("%w: epochs of wallet %s out of order", errUnencodable, w.ID)
		}
	}
	return nil
}

// putName writes one of the rows by which a wallet is found.
func putName(w writer, key treeKey, id vigil.WalletID) error {
	if key.tree == treeAliases {
		return putAlias(w, []byte(key.key), id)
	}
	return w.Put(key.tree, []byte(key.key), nil)
}

// walletRows lists the rows that a wallet must have, and only those; those by which
// it is found have no row type.
func walletRows(w *Wallet) map[treeKey]row {
	rows := make(map[treeKey]row)
	if w == nil {
		return rows
	}
	rows[treeKey{treeWallets, string(w.ID[:])}] = w
	for i := range w.Epochs {
		rows[treeKey{treeRecovery, string(epochKey(w.ID, w.Epochs[i].Number))}] = &w.Epochs[i]
	}
	for key := range aliases(w) {
		rows[treeKey{treeAliases, key}] = nil
	}
	if w.State == WalletActive {
		rows[treeKey{treeSynced, string(syncedKey(w.SyncedAt, w.ID))}] = nil
	}
	return rows
}

// aliases lists the keys in the aliases tree by which a wallet is found.
func aliases(w *Wallet) map[string]bool {
	keys := make(map[string]bool)
	for _, e := range w.Epochs {
		for id, host := range e.Hosts {
			if id != vigilsOwn {
				keys[string(hostAlias(host))] = true
			}
		}
	}
	for _, script := range w.Scripts {
		keys[string(scriptAlias(script))] = true
	}
	for _, name := range w.Secrets {
		keys[string(secretAlias(name))] = true
	}
	return keys
}

// vigilsOwn is Vigil's number among the participants of a key: its host keys are
// nobody's name for the wallet.
const vigilsOwn = 1

func hostAlias(host bip340.PubKey) []byte { return append([]byte{aliasHost}, host[:]...) }

func scriptAlias(pkScript []byte) []byte {
	sum := sha256.Sum256(pkScript)
	return append([]byte{aliasScript}, sum[:]...)
}

func secretAlias(name string) []byte { return append([]byte{aliasSecret}, name...) }

// putAlias names a wallet by a key that no other has.
func putAlias(w writer, key []byte, id vigil.WalletID) error {
	b, err := w.Get(treeAliases, key)
	switch {
	case err == nil && bytes.Equal(b, id[:]):
		return nil
	case err == nil:
		return fmt.Errorf("%w: alias %x", ErrTaken, key)
	case !errors.Is(err, kv.ErrNotFound) && !errors.Is(err, ErrUnreadable):
		return err
	}
	return w.Put(treeAliases, key, id[:])
}

// aliasOf returns the id of the wallet that has an alias, and whether there is
// one that can be read.
func aliasOf(r reader, key []byte) (vigil.WalletID, bool, error) {
	b, err := r.Get(treeAliases, key)
	switch {
	case errors.Is(err, kv.ErrNotFound), errors.Is(err, ErrUnreadable):
		return vigil.WalletID{}, false, nil
	case err != nil:
		return vigil.WalletID{}, false, err
	case len(b) != walletSize:
		_ = r.damaged(treeAliases, key, errValue)
		return vigil.WalletID{}, false, nil
	}
	return vigil.WalletID(b), true, nil
}

// aliased returns the wallet that has an alias, or ErrNotFound. An alias that
// cannot be read is the error, so that nobody makes a second wallet beside it.
func aliased(r reader, key []byte) (*Wallet, error) {
	b, err := r.Get(treeAliases, key)
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return nil, fmt.Errorf("%w: no wallet by that name", ErrNotFound)
	case err != nil:
		return nil, err
	case len(b) != walletSize:
		return nil, r.damaged(treeAliases, key, errValue)
	}
	return loadWallet(r, vigil.WalletID(b))
}
