package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/internal/canon"
	"github.com/vigil-ark/vigil/kv"
)

// Pinned is the operator that this ledger was set up for. Another signer key is
// accepted only when Vigil's own operator says so.
type Pinned struct {
	Signer  bip340.PubKey
	Network ark.Network
	URL     string
}

func (p *Pinned) fields(c *canon.Coder) {
	network := string(p.Network)
	c.Fixed(p.Signer[:], "signer")
	c.Text(&network, maxName, "network")
	c.Text(&p.URL, maxText, "url")
	if c.Reading() {
		p.Network = ark.Network(network)
	}
}

// Operator returns the pinned operator, or ErrNotFound.
func (l *Ledger) Operator(ctx context.Context) (Pinned, error) {
	var p Pinned
	err := l.view(ctx, func(r reader) error {
		b, err := r.Get(treeMeta, []byte(metaPinned))
		if errors.Is(err, kv.ErrNotFound) {
			return fmt.Errorf("%w: no operator is pinned", ErrNotFound)
		}
		if err != nil {
			return err
		}
		if err := decodeRow(b, &p); err != nil {
			return r.damaged(treeMeta, []byte(metaPinned), err)
		}
		return nil
	})
	return p, err
}

// SetOperator pins an operator in the place of any other.
func (l *Ledger) SetOperator(ctx context.Context, p Pinned) error {
	return l.update(ctx, func(w writer) error { return putRow(w, treeMeta, []byte(metaPinned), &p) })
}

// Retired returns the service keys that new delegates may no longer name.
func (l *Ledger) Retired(ctx context.Context) ([]bip340.PubKey, error) {
	return l.keys(ctx, metaRetired)
}

// ServiceKeys returns every service key that intake was ever opened with: what
// records may name, known without reading them.
func (l *Ledger) ServiceKeys(ctx context.Context) ([]bip340.PubKey, error) {
	return l.keys(ctx, metaService)
}

// NoteServiceKeys adds to ServiceKeys. It is called before the first delegate
// that names one of them can be taken. Keys that are noted already cost no write.
func (l *Ledger) NoteServiceKeys(ctx context.Context, keys ...bip340.PubKey) error {
	noted, err := l.ServiceKeys(ctx)
	if err != nil {
		return err
	}
	keys = slices.DeleteFunc(slices.Clone(keys), func(k bip340.PubKey) bool { return slices.Contains(noted, k) })
	if len(keys) == 0 {
		return nil
	}
	return l.update(ctx, func(w writer) error {
		for _, key := range keys {
			if err := w.Put(treeMeta, []byte(metaService+key.String()), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// keys reads the public keys that stand under a prefix.
func (l *Ledger) keys(ctx context.Context, prefix string) ([]bip340.PubKey, error) {
	var keys []bip340.PubKey
	err := l.view(ctx, func(r reader) error {
		keys = nil
		return r.Scan(treeMeta, []byte(prefix), after([]byte(prefix)), func(key, _ []byte, damage error) error {
			text, _ := strings.CutPrefix(string(key), prefix)
			k, err := bip340.ParsePubKeyHex(text)
			if damage != nil || err != nil {
				return r.damaged(treeMeta, key, cmp.Or(damage, err))
			}
			keys = append(keys, k)
			return nil
		})
	})
	return keys, err
}

// Retire marks a service key as one that new delegates may no longer name. The
// delegates that name it are renewed as before.
func (l *Ledger) Retire(ctx context.Context, key bip340.PubKey) error {
	return l.update(ctx, func(w writer) error { return w.Put(treeMeta, []byte(metaRetired+key.String()), nil) })
}

// Hold returns why this ledger must not be acted upon until its operator has
// confirmed it, or "": a restored backup starts held.
func (l *Ledger) Hold(ctx context.Context) (string, error) {
	var why string
	err := l.view(ctx, func(r reader) error {
		b, err := r.Get(treeMeta, []byte(metaHold))
		if errors.Is(err, kv.ErrNotFound) {
			return nil
		}
		why = string(b)
		return err
	})
	return why, err
}

// SetHold holds the ledger for the reason given; "" releases it.
func (l *Ledger) SetHold(ctx context.Context, why string) error {
	return l.update(ctx, func(w writer) error {
		if why == "" {
			return w.Delete(treeMeta, []byte(metaHold))
		}
		return w.Put(treeMeta, []byte(metaHold), []byte(why))
	})
}
