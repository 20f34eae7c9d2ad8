package secrettest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/vigil-ark/vigil/secret"
)

// Load is a workload of concurrent puts and deletes that remembers what was
// acknowledged, for tests that cut the power or let the disk fail. Step n of a
// writer puts one name, replaces another and deletes a third.
type Load struct {
	writers []writer
}

// writer is what one writer knows: by name, the values that may be found.
// "-" stands for absent; one entry is a certainty.
type writer struct {
	step  int
	may   map[string][]string
	acked int
}

// Tally counts what Verify found.
type Tally struct {
	Acked   int // puts and deletes acknowledged
	Lost    int // names whose acknowledged state is not there
	Corrupt int // values that do not authenticate, and names that nobody put
}

// Mark is in every value of a Load, for a search of what must be sealed.
const Mark = "load value in the clear"

// NewLoad returns a workload of n concurrent writers.
func NewLoad(n int) *Load {
	l := &Load{writers: make([]writer, n)}
	for i := range l.writers {
		l.writers[i].may = map[string][]string{}
	}
	return l
}

// Run makes rounds steps per writer, concurrently, until alive says that the
// store is gone for good. Errors other than secret.ErrUnavailable are returned.
func (l *Load) Run(ctx context.Context, s secret.Store, rounds int, alive func() bool) error {
	errs := make([]error, len(l.writers))
	var wg sync.WaitGroup
	for i := range l.writers {
		wg.Go(func() {
			for range rounds {
				if errs[i] = l.writers[i].one(ctx, s, i, alive); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (w *writer) one(ctx context.Context, s secret.Store, i int, alive func() bool) error {
	w.step++
	value := fmt.Sprintf("%s %d/%d", Mark, i, w.step)
	for _, op := range []struct{ name, value string }{
		{fmt.Sprintf("new.%d.%d", i, w.step), value},
		{fmt.Sprintf("same.%d.%d", i, w.step%3), value},
		{fmt.Sprintf("new.%d.%d", i, w.step-5), "-"},
	} {
		if !alive() {
			return nil
		}
		before := w.may[op.name]
		if before == nil {
			before = []string{"-"}
		}
		w.may[op.name] = append(append([]string{}, before...), op.value)
		var err error
		if op.value == "-" {
			err = s.Delete(ctx, op.name)
		} else {
			v := secret.New([]byte(op.value))
			err = s.Put(ctx, op.name, v)
			v.Burn()
		}
		switch {
		case err == nil:
			w.acked++
			w.may[op.name] = []string{op.value}
		case !errors.Is(err, secret.ErrUnavailable):
			return fmt.Errorf("writer %d, %s: %w", i, op.name, err)
		}
	}
	return nil
}

// Acked returns how many puts and deletes were acknowledged that no Verify has
// counted.
func (l *Load) Acked() (n int) {
	for _, w := range l.writers {
		n += w.acked
	}
	return n
}

// Verify compares a store that was opened after the crash with what the
// writers remember. A further Run goes on from what was found.
func (l *Load) Verify(ctx context.Context, s secret.Store) (Tally, error) {
	var t Tally
	names, err := s.List(ctx, "")
	if err != nil {
		return t, err
	}
	listed := map[string]bool{}
	for _, n := range names {
		listed[n] = true
	}
	for i := range l.writers {
		w := &l.writers[i]
		t.Acked += w.acked
		w.acked = 0
		for name, may := range w.may {
			found, err := text(ctx, s, name)
			if errors.Is(err, secret.ErrTampered) {
				t.Corrupt++
				continue
			}
			if err != nil {
				return t, err
			}
			if listed[name] != (found != "-") {
				t.Corrupt++
			}
			delete(listed, name)
			if !slices.Contains(may, found) {
				t.Lost++
			}
			w.may[name] = []string{found}
		}
	}
	t.Corrupt += len(listed)
	return t, nil
}

// text returns the value of name, or "-".
func text(ctx context.Context, s secret.Store, name string) (string, error) {
	v, err := s.Get(ctx, name)
	if errors.Is(err, secret.ErrNotFound) {
		return "-", nil
	}
	if err != nil {
		return "", err
	}
	defer v.Burn()
	found := ""
	err = v.Use(func(b []byte) error {
		found = string(b)
		return nil
	})
	return found, err
}
