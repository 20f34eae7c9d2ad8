package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"math"

	"github.com/vigil-ark/vigil/internal/canon"
	"github.com/vigil-ark/vigil/kv"
)

// Link makes the entry of that number, from 1, of the audit's chain after the one
// whose hash is prev. It is called inside the write and may be called again, so it
// must have no other effect. What an entry says and how it is hashed is the
// audit's.
type Link func(number uint64, prev [32]byte) (next [32]byte, entry []byte, err error)

// chain is where the audit's chain stands.
type chain struct {
	Number uint64   // of its last entry
	Hash   [32]byte // of its last entry; what the next one is linked to
	Kept   uint64   // number of the last entry that was forgotten
	Base   [32]byte // its hash: what the first one that is kept is linked to
}

func (a *chain) fields(c *canon.Coder) {
	canon.Num(c, &a.Number, math.MaxUint64, "number")
	c.Fixed(a.Hash[:], "hash")
	canon.Num(c, &a.Kept, math.MaxUint64, "forgotten")
	c.Fixed(a.Base[:], "base")
}

// audited is one entry.
type audited struct {
	Hash  [32]byte
	Entry []byte
}

const (
	maxEntry   = 4 << 10 // the audit's own bound
	maxAudited = maxEntry + 64
)

func (a *audited) fields(c *canon.Coder) {
	c.Fixed(a.Hash[:], "hash")
	c.Bytes(&a.Entry, maxEntry, "entry")
}

func (a *audited) encode() ([]byte, error) { return canon.Encode(rowFormat, maxAudited, a.fields) }

func decodeAudited(b []byte) (*audited, error) {
	a := new(audited)
	return a, canon.Decode(b, rowFormat, maxAudited, a.fields)
}

func auditKey(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// Audit appends entries by themselves: of what was refused, and of what Vigil did
// on its own.
func (l *Ledger) Audit(ctx context.Context, links ...Link) error {
	return l.update(ctx, func(w writer) error { return appendAudit(w, links...) })
}

func appendAudit(w writer, links ...Link) error {
	if len(links) == 0 {
		return nil
	}
	head, err := loadChain(w)
	if err != nil {
		return err
	}
	for _, link := range links {
		a := new(audited)
		if a.Hash, a.Entry, err = link(head.Number+1, head.Hash); err != nil {
			return err
		}
		b, err := a.encode()
		if err != nil {
			return err
		}
		head.Number, head.Hash = head.Number+1, a.Hash
		if err := w.Put(treeAudit, auditKey(head.Number), b); err != nil {
			return err
		}
	}
	return putRow(w, treeAudit, auditKey(0), head)
}

// loadChain reads where the chain stands. If that row cannot be read, it is what
// the entries say: one bit must not keep Vigil from deciding.
func loadChain(r reader) (*chain, error) {
	head := new(chain)
	b, err := r.Get(treeAudit, auditKey(0))
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return head, nil
	case err == nil:
		if err := decodeRow(b, head); err == nil {
			return head, nil
		} else if !errors.Is(r.damaged(treeAudit, auditKey(0), err), ErrUnreadable) {
			return nil, err
		}
	case !errors.Is(err, ErrUnreadable):
		return nil, err
	}
	head = new(chain)
	err = r.Scan(treeAudit, auditKey(1), nil, func(key, value []byte, damage error) error {
		a, err := decodeAudited(value)
		if damage != nil || len(key) != 8 || err != nil {
			return nil
		}
		if head.Number == 0 {
			head.Kept = binary.BigEndian.Uint64(key) - 1
		}
		head.Number, head.Hash = binary.BigEndian.Uint64(key), a.Hash
		return nil
	})
	return head, err
}

// Audited is one entry of the audit as it is stored.
type Audited struct {
	Number uint64
	Hash   [32]byte
	Entry  []byte
}

// AuditBase returns the hash that the first entry kept is linked to, and its
// number.
func (l *Ledger) AuditBase(ctx context.Context) (base [32]byte, first uint64, err error) {
	err = l.view(ctx, func(r reader) error {
		head, err := loadChain(r)
		if err == nil {
			base, first = head.Base, head.Kept+1
		}
		return err
	})
	return base, first, err
}

// AuditEntries calls f for at most limit entries from a number on, oldest first.
// One that cannot be read ends it with its error: the chain is broken there.
func (l *Ledger) AuditEntries(ctx context.Context, from uint64, limit int, f func(Audited) error) error {
	return l.view(ctx, func(r reader) error {
		return eachAudited(r, max(from, 1), limit, f)
	})
}

func eachAudited(r reader, from uint64, limit int, f func(Audited) error) error {
	n := 0
	return r.Scan(treeAudit, auditKey(from), nil, func(key, value []byte, damage error) error {
		if n++; n > limit {
			return kv.ErrStop
		}
		if damage != nil {
			return damage
		}
		a, err := decodeAudited(value)
		if err != nil {
			return r.damaged(treeAudit, key, err)
		}
		return f(Audited{Number: binary.BigEndian.Uint64(key), Hash: a.Hash, Entry: a.Entry})
	})
}

// PruneAudit forgets at most limit of the oldest entries beyond the newest keep,
// and returns how many. What is left is still one chain: its base says what it
// begins after.
func (l *Ledger) PruneAudit(ctx context.Context, keep uint64, limit int) (int, error) {
	n := 0
	err := l.update(ctx, func(w writer) error {
		n = 0
		head, err := loadChain(w)
		if err != nil || head.Number-head.Kept <= keep {
			return err
		}
		last := min(head.Number-keep, head.Kept+uint64(limit))
		var keys [][]byte // to be deleted once what follows them has a base
		for number := head.Kept + 1; number <= last; number++ {
			key := auditKey(number)
			keys = append(keys, key)
			b, err := w.Get(treeAudit, key)
			if err != nil && !errors.Is(err, kv.ErrNotFound) && !errors.Is(err, ErrUnreadable) {
				return err
			}
			a, err := decodeAudited(b)
			if err != nil {
				continue // of no use as a base
			}
			for _, key := range keys {
				if err := w.Delete(treeAudit, key); err != nil {
					return err
				}
			}
			n += len(keys)
			keys, head.Kept, head.Base = nil, number, a.Hash
		}
		return putRow(w, treeAudit, auditKey(0), head)
	})
	return n, err
}
