package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/sqlite"
	"github.com/vigil-ark/vigil/ledger"
)

// bulk lets many ledger changes share one transaction: a synthetic writer need
// not wait for the disk a million times.
type bulk struct{ w kv.Writer }

func (b bulk) View(_ context.Context, f func(kv.Reader) error) error   { return f(b.w) }
func (b bulk) Update(_ context.Context, f func(kv.Writer) error) error { return f(b.w) }
func (b bulk) Close() error                                            { return nil }

// fillWith stores n armed delegates, of the size that one VTXO of a stock wallet
// makes and due from tomorrow on, as intake would.
func fillWith(ctx context.Context, dir string, n int) (err error) {
	store, err := sqlite.Open(ctx, dir, sqlite.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	l, err := ledger.Open(ctx, store, ledger.Options{})
	if err != nil {
		return err
	}
	keys, err := l.ServiceKeys(ctx)
	if err != nil {
		return err
	}
	pinned, err := l.Operator(ctx)
	if err != nil {
		return err
	}
	now := time.Now().Unix()
	const chunk = 5000
	for from := 0; from < n; from += chunk {
		err := store.Update(ctx, func(w kv.Writer) error {
			l, err := ledger.Open(ctx, bulk{w}, ledger.Options{})
			if err != nil {
				return err
			}
			for i := from; i < min(from+chunk, n); i++ {
				r := synthetic(uint64(i), now)
				r.SignerKey, r.DelegateKey, r.TreeKey = pinned.Signer, keys[0], keys[0]
				if _, err := l.Submit(ctx, ledger.Submission{Record: r, PerScript: 64}); err != nil {
					return err
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

func synthetic(n uint64, now int64) *delegate.Record {
	r := &delegate.Record{
		Kind: delegate.Stock, Network: ark.Regtest, Message: strings.Repeat("m", 190), Proof: make([]byte, 1300), Dust: 330,
		NextAttempt: now + 86_400 + int64(n%604_800), CreatedAt: now,
	}
	binary.BigEndian.PutUint64(r.ProofTxid[:], n)
	r.ID = delegate.StockID(r.ProofTxid)
	var hash chainhash.Hash
	copy(hash[:], r.ID[:])
	script := make([]byte, 34)
	copy(script[2:], r.ID[:])
	r.Inputs = []delegate.Input{{
		Outpoint: wire.OutPoint{Hash: hash}, Amount: 1000, Script: script, TapTree: make([]byte, 190), ExpiresAt: now + 1_000_000, Forfeit: make([]byte, 560),
	}}
	return r
}

// memory reads a line of a process's status, in megabytes.
func memory(pid int, name string) (float64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("no %s", name)
}

// BenchmarkStart is the time from the start of the process until everything
// stored is armed, and what the process then holds, with 1,000,000 stored
// delegates (20,000 with -short). Its floor is the same start with none.
func BenchmarkStart(b *testing.B) {
	many := 1_000_000
	if testing.Short() {
		many = 20_000
	}
	op, err := arktest.Start(arktest.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer op.Close()
	floor := 0.0
	for _, n := range []int{0, many} {
		b.Run(fmt.Sprintf("delegates=%d", n), func(b *testing.B) {
			c, err := newChild(executable(b), b.TempDir(), op.URL(), op.EsploraURL())
			if err != nil {
				b.Fatal(err)
			}
			if err := errors.Join(c.init(b.Context()), fillWith(b.Context(), c.places().kvDir(), n)); err != nil {
				b.Fatal(err)
			}
			if about, err := os.Stat(c.places().kvDir() + "/kv.db"); err == nil {
				b.ReportMetric(float64(about.Size())/1e6, "MB-stored")
			}
			var took time.Duration
			var resident, peak float64
			runs := 0
			for b.Loop() {
				t, r, p, err := startOnce(b, c)
				if err != nil {
					b.Fatal(err)
				}
				took, resident, peak, runs = took+t, max(resident, r), max(peak, p), runs+1
			}
			ms := float64(took.Microseconds()) / 1000 / float64(runs)
			b.ReportMetric(ms, "ms-to-armed")
			b.ReportMetric(resident, "MB-resident")
			b.ReportMetric(peak, "MB-peak")
			if n == 0 {
				floor = ms
			} else if floor > 0 {
				b.ReportMetric(ms/floor, "x-floor")
			}
		})
	}
}

// startOnce starts serve, waits until it says that it is armed, reads its memory
// and kills it.
func startOnce(b *testing.B, c *child) (took time.Duration, resident, peak float64, err error) {
	cmd := c.command(b.Context(), "serve", "--listen", c.listen)
	out, err := cmd.StderrPipe()
	if err != nil {
		return 0, 0, 0, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, 0, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if !strings.Contains(lines.Text(), "msg=armed") {
			continue
		}
		took = time.Since(began)
		resident, err = memory(cmd.Process.Pid, "VmRSS")
		if err == nil {
			peak, err = memory(cmd.Process.Pid, "VmHWM")
		}
		return took, resident, peak, err
	}
	return 0, 0, 0, errors.New("serve ended before it was armed")
}
