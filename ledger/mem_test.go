package ledger

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/vigil-ark/vigil/kv"
)

// mem is the smallest kv.Store: a map, copied on write.
type mem struct {
	mu    sync.Mutex
	trees map[string]map[string][]byte
	fails error // what the next Update's commit returns
}

type memTx struct{ trees map[string]map[string][]byte }

func (m *mem) View(_ context.Context, f func(kv.Reader) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return f(&memTx{m.trees})
}

func (m *mem) Update(ctx context.Context, f func(kv.Writer) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	tx := &memTx{make(map[string]map[string][]byte)}
	for name, tree := range m.trees {
		tx.trees[name] = maps.Clone(tree)
	}
	if err := f(tx); err != nil {
		return err
	}
	if m.fails != nil {
		return m.fails
	}
	m.trees = tx.trees
	return nil
}

func (m *mem) Close() error { return nil }

func (t *memTx) Get(tree string, key []byte) ([]byte, error) {
	v, ok := t.trees[tree][string(key)]
	if !ok {
		return nil, kv.ErrNotFound
	}
	return bytes.Clone(v), nil
}

func (t *memTx) Scan(tree string, from, to []byte, f func(key, value []byte) error) error {
	for _, k := range slices.Sorted(maps.Keys(t.trees[tree])) {
		if k < string(from) || (to != nil && k >= string(to)) {
			continue
		}
		if err := f([]byte(k), bytes.Clone(t.trees[tree][k])); err == kv.ErrStop {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (t *memTx) Put(tree string, key, value []byte) error {
	if t.trees[tree] == nil {
		t.trees[tree] = make(map[string][]byte)
	}
	t.trees[tree][string(key)] = bytes.Clone(value)
	return nil
}

func (t *memTx) Delete(tree string, key []byte) error {
	delete(t.trees[tree], string(key))
	return nil
}
