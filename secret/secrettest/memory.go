package secrettest

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/vigil-ark/vigil/secret"
)

// Memory is a secret.Store in memory that obeys the port as the real ones do,
// for the tests of everything above the port. It outlives Close: Reopen gives
// a store over the same secrets, which is how a test restarts its process.
//
// A Memory is safe for concurrent use.
type Memory struct {
	data *shared
	mu   sync.Mutex
	shut bool
}

// shared is what a restart keeps.
type shared struct {
	mu     sync.Mutex
	values map[string][]byte
	fault  error
}

var _ secret.Store = (*Memory)(nil)

// NewMemory returns an empty, open store.
func NewMemory() *Memory {
	return &Memory{data: &shared{values: map[string][]byte{}}}
}

// Reopen returns an open store over the same secrets, as after a restart. The
// caller has closed m, or treats it as a process that was killed.
func (m *Memory) Reopen() *Memory { return &Memory{data: m.data} }

// Copy returns an open store over the secrets that m holds now, which goes its own
// way from here on: a backup.
func (m *Memory) Copy() *Memory {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	again := NewMemory()
	for name, value := range m.data.values {
		again.data.values[name] = append([]byte{}, value...)
	}
	return again
}

// Fail makes every following call return err, as a store that is down does
// (err is then secret.ErrUnavailable); nil mends it.
func (m *Memory) Fail(err error) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	m.data.fault = err
}

// Get implements secret.Store.
func (m *Memory) Get(ctx context.Context, name string) (secret.Bytes, error) {
	if err := secret.CheckName(name); err != nil {
		return secret.Bytes{}, err
	}
	var value []byte
	err := m.do(ctx, func() error {
		held, ok := m.data.values[name]
		if !ok {
			return secret.ErrNotFound
		}
		value = slices.Clone(held)
		return nil
	})
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.New(value), nil
}

// Put implements secret.Store.
func (m *Memory) Put(ctx context.Context, name string, value secret.Bytes) error {
	if err := secret.CheckName(name); err != nil {
		return err
	}
	return value.Use(func(b []byte) error {
		if len(b) > secret.MaxValue {
			return secret.ErrTooBig
		}
		return m.do(ctx, func() error {
			clear(m.data.values[name])
			m.data.values[name] = append([]byte{}, b...)
			return nil
		})
	})
}

// Delete implements secret.Store.
func (m *Memory) Delete(ctx context.Context, name string) error {
	if err := secret.CheckName(name); err != nil {
		return err
	}
	return m.do(ctx, func() error {
		clear(m.data.values[name])
		delete(m.data.values, name)
		return nil
	})
}

// List implements secret.Store.
func (m *Memory) List(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	err := m.do(ctx, func() error {
		for name := range m.data.values {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return nil
	})
	return names, err
}

// Close implements secret.Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shut = true
	return nil
}

func (m *Memory) do(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shut {
		return secret.ErrClosed
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if m.data.fault != nil {
		return m.data.fault
	}
	return f()
}
