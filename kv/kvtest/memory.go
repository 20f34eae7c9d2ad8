package kvtest

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vigil-ark/vigil/kv"
)

// Memory is a kv.Store in memory that obeys the port as the real ones do,
// for the tests of everything above the port. It outlives Close: Reopen gives
// a store over the same data, which is how a test restarts its process.
//
// A Memory is safe for concurrent use.
type Memory struct {
	data *shared
	open atomic.Bool
	runs sync.WaitGroup
}

// shared is what a restart keeps.
type shared struct {
	write sync.Mutex // held by the one running Update
	state atomic.Pointer[state]
	fault atomic.Pointer[error]
}

// state is one immutable version of everything; a View keeps the one it began
// with.
type state map[string][]entry

// entry is one key and its value in a tree, which is sorted by key.
type entry struct {
	key, value []byte
}

var _ kv.Store = (*Memory)(nil)

// NewMemory returns an empty, open store.
func NewMemory() *Memory {
	m := &Memory{data: new(shared)}
	m.data.state.Store(&state{})
	m.open.Store(true)
	return m
}

// Reopen returns an open store over the same data, as after a restart. The
// caller has closed m, or treats it as a process that was killed.
func (m *Memory) Reopen() *Memory {
	again := &Memory{data: m.data}
	again.open.Store(true)
	return again
}

// Copy returns an open store over what m holds now, which goes its own way from
// here on: a backup.
func (m *Memory) Copy() *Memory {
	again := NewMemory()
	again.data.state.Store(m.data.state.Load())
	return again
}

// Fail makes every following View and Update return err without running, as a
// store that is down does (err is then kv.ErrUnavailable); nil mends it.
func (m *Memory) Fail(err error) {
	if err == nil {
		m.data.fault.Store(nil)
		return
	}
	m.data.fault.Store(&err)
}

// View implements kv.Store.
func (m *Memory) View(ctx context.Context, f func(kv.Reader) error) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.runs.Done()
	t := &txn{ctx: ctx, now: *m.data.state.Load()}
	defer t.end()
	return f(t)
}

// Update implements kv.Store.
func (m *Memory) Update(ctx context.Context, f func(kv.Writer) error) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.runs.Done()
	m.data.write.Lock()
	defer m.data.write.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	t := &txn{ctx: ctx, now: maps.Clone(*m.data.state.Load()), own: map[string]bool{}}
	defer t.end()
	if err := f(t); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.data.state.Store(&t.now)
	return nil
}

// Close implements kv.Store.
func (m *Memory) Close() error {
	m.open.Store(false)
	m.runs.Wait()
	return nil
}

func (m *Memory) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.runs.Add(1)
	err := kv.ErrClosed
	if m.open.Load() {
		fault := m.data.fault.Load()
		if fault == nil {
			return nil
		}
		err = *fault
	}
	m.runs.Done()
	return err
}

// txn is one running View or Update.
type txn struct {
	ctx   context.Context
	now   state
	own   map[string]bool // trees this Update has copied; nil in a View
	scans int
	ended bool
}

func (t *txn) end() { t.ended = true }

func (t *txn) check(tree string, key []byte) error {
	if t.ended {
		return kv.ErrClosed
	}
	return kv.CheckKey(tree, key)
}

// Get implements kv.Reader.
func (t *txn) Get(tree string, key []byte) ([]byte, error) {
	if err := t.check(tree, key); err != nil {
		return nil, err
	}
	i, found := find(t.now[tree], key)
	if !found {
		return nil, kv.ErrNotFound
	}
	return clone(t.now[tree][i].value), nil
}

// Scan implements kv.Reader.
func (t *txn) Scan(tree string, from, to []byte, f func(key, value []byte) error) error {
	if err := t.check(tree, from); err != nil {
		return err
	}
	t.scans++
	defer func() { t.scans-- }()
	entries := t.now[tree]
	i, _ := find(entries, from)
	for _, e := range entries[i:] {
		if to != nil && bytes.Compare(e.key, to) >= 0 {
			return nil
		}
		if err := t.ctx.Err(); err != nil {
			return err
		}
		if err := f(clone(e.key), clone(e.value)); err != nil {
			if err == kv.ErrStop {
				return nil
			}
			return err
		}
	}
	return nil
}

// Put implements kv.Writer.
func (t *txn) Put(tree string, key, value []byte) error {
	if err := t.check(tree, key); err != nil {
		return err
	}
	if err := kv.CheckValue(value); err != nil {
		return err
	}
	if t.scans > 0 {
		return kv.ErrScanning
	}
	entries := t.writable(tree)
	i, found := find(entries, key)
	if found {
		entries[i].value = clone(value)
		return nil
	}
	t.now[tree] = slices.Insert(entries, i, entry{clone(key), clone(value)})
	return nil
}

// Delete implements kv.Writer.
func (t *txn) Delete(tree string, key []byte) error {
	if err := t.check(tree, key); err != nil {
		return err
	}
	if t.scans > 0 {
		return kv.ErrScanning
	}
	entries := t.writable(tree)
	if i, found := find(entries, key); found {
		t.now[tree] = slices.Delete(entries, i, i+1)
	}
	return nil
}

// writable returns the tree after copying it once, so that running Views and
// a failed Update keep the version before.
func (t *txn) writable(tree string) []entry {
	if !t.own[tree] {
		t.own[tree] = true
		t.now[tree] = slices.Clone(t.now[tree])
	}
	return t.now[tree]
}

func find(entries []entry, key []byte) (int, bool) {
	return slices.BinarySearchFunc(entries, key, func(e entry, k []byte) int {
		return bytes.Compare(e.key, k)
	})
}

// clone copies b and makes a nil one empty, as a value that went through a
// disk comes back.
func clone(b []byte) []byte {
	return append([]byte{}, b...)
}
