package ledger_test

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/sqlite"
	"github.com/vigil-ark/vigil/ledger"
)

// bulk lets many changes of a ledger be one write of the store below.
type bulk struct{ w kv.Writer }

func (b bulk) View(_ context.Context, f func(kv.Reader) error) error   { return f(b.w) }
func (b bulk) Update(_ context.Context, f func(kv.Writer) error) error { return f(b.w) }
func (b bulk) Close() error                                            { return nil }

// crowd is wallet n of very many, as large as a 2-of-2 one is.
func crowd(n int) *ledger.Wallet {
	w := wallet(0)
	binary.BigEndian.PutUint64(w.ID[1:], uint64(n))
	host, id := bip340.PubKey{0: 2}, bip340.PubKey{0: 3}
	binary.BigEndian.PutUint64(host[1:], uint64(n))
	binary.BigEndian.PutUint64(id[1:], uint64(n))
	w.Epochs[0].Hosts = []bip340.PubKey{host, {0: 2}}
	w.Epochs[0].Info, w.Epochs[0].Record = make([]byte, 106), make([]byte, 394)
	w.Descriptor = make([]byte, 220)
	w.Identities[0].Key = id
	script := make([]byte, 34)
	binary.BigEndian.PutUint64(script[2:], uint64(n))
	boarding := append([]byte{1}, script[1:]...)
	w.Scripts = [][]byte{script, boarding}
	w.Secrets = []string{"dkg-secret." + w.ID.String(), "delegate-secret." + w.ID.String()}
	return w
}

// populate makes wallets with a VTXO each.
func populate(b *testing.B, store kv.Store, wallets int) {
	b.Helper()
	const page = 2000
	for from := 0; from < wallets; from += page {
		err := store.Update(b.Context(), func(kw kv.Writer) error {
			l, err := ledger.Open(b.Context(), bulk{kw}, ledger.Options{Now: func() time.Time { return time.Unix(start, 0) }})
			if err != nil {
				return err
			}
			for n := from; n < min(from+page, wallets); n++ {
				w := crowd(n)
				if err := l.Plan(b.Context(), ledger.Plan{Wallet: w.ID, Secrets: w.Secrets, NotBefore: start + 600}); err != nil {
					return err
				}
				if _, err := l.CreateWallet(b.Context(), w, ledger.Extras{}); err != nil {
					return err
				}
				v := ark.VTXO{Amount: 1000, Script: w.Scripts[0], CreatedAt: start, ExpiresAt: start + 1e6, Preconfirmed: true}
				binary.BigEndian.PutUint64(v.Outpoint.Hash[:], uint64(n))
				if _, err := l.PutVTXOs(b.Context(), w.ID, []ark.VTXO{v}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// resident is the memory of this process, in bytes.
func resident(b *testing.B) float64 {
	runtime.GC()
	status, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("no /proc")
	}
	var total, pages int64
	for i, f := range []*int64{&total, &pages} {
		field := string(status)
		for range i {
			field = field[len(strconv.FormatInt(total, 10))+1:]
		}
		for _, c := range field {
			if c < '0' || c > '9' {
				break
			}
			*f = *f*10 + int64(c-'0')
		}
	}
	return float64(pages * int64(os.Getpagesize()))
}

// BenchmarkKnownWallets opens a ledger in which many wallets are known, and spawns
// some: what a start costs, and what an idle wallet does. VIGIL_WALLETS says how
// many; the numbers that matter are those of a million.
func BenchmarkKnownWallets(b *testing.B) {
	wallets := 2000
	if n, err := strconv.Atoi(os.Getenv("VIGIL_WALLETS")); err == nil {
		wallets = n
	}
	dir := filepath.Join(b.TempDir(), "kv")
	store, err := sqlite.Create(b.Context(), dir, sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := ledger.Create(b.Context(), store, ledger.Generation{1}); err != nil {
		b.Fatal(err)
	}
	populate(b, store, wallets)
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
	before := resident(b)
	opened := time.Now()
	if store, err = sqlite.Open(b.Context(), dir, sqlite.Options{}); err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	l, err := boot(b.Context(), store)
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(opened)
	idle := resident(b) - before
	if n, err := l.WalletCounts(b.Context()); err != nil || n[ledger.WalletActive] != uint64(wallets) {
		b.Fatal(n, err)
	}
	kept := make(map[vigil.WalletID]*ledger.WalletSnapshot)
	n := 0
	for b.Loop() {
		n = (n + 7919) % wallets
		id := crowd(n).ID
		s, err := l.WalletSnapshot(b.Context(), id, 50)
		if err != nil || len(s.VTXOs) != 1 {
			b.Fatal(s, err)
		}
		if len(kept) < 1000 {
			kept[id] = s
		}
	}
	b.StopTimer()
	var size float64
	files, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			size += float64(info.Size())
		}
	}
	b.ReportMetric(float64(took.Microseconds())/1000, "open-ms")
	b.ReportMetric(max(idle, 0)/float64(wallets), "resident-B/idle-wallet")
	b.ReportMetric(size/float64(wallets), "disk-B/wallet")
	runtime.KeepAlive(kept)
}

// BenchmarkSignedRequest is what one signature writes: its request is begun, decided
// on with audit and spend, and finished, with 64 devices of as many wallets. Its
// floor is three writes of one row each, measured in the same run.
func BenchmarkSignedRequest(b *testing.B) {
	store, err := sqlite.Create(b.Context(), filepath.Join(b.TempDir(), "kv"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	if err := ledger.Create(b.Context(), store, ledger.Generation{1}); err != nil {
		b.Fatal(err)
	}
	const wallets = 64
	populate(b, store, wallets)
	var at atomic.Int64 // moves on, so that the windows stay short
	at.Store(start)
	l, err := ledger.Open(b.Context(), store, ledger.Options{Now: func() time.Time { return time.Unix(at.Load(), 0) }})
	if err != nil {
		b.Fatal(err)
	}
	var n atomic.Uint64
	parallel := func(f func(n uint64) error) time.Duration {
		began := cpu()
		b.SetParallelism(wallets / 2) // times two processors
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := f(n.Add(1)); err != nil {
					b.Error(err)
				}
			}
		})
		return cpu() - began
	}
	answer := make([]byte, 300)
	signed := parallel(func(n uint64) error {
		if n%(wallets*64) == 0 {
			at.Add(600)
			if _, err := l.PruneReplay(b.Context(), 1<<20); err != nil {
				return err
			}
		}
		id, now := crowd(int(n%wallets)).ID, at.Load()
		q := ledger.Request{Owner: id[:], Stamp: now}
		binary.BigEndian.PutUint64(q.Nonce[:], n)
		if _, err := l.Begin(b.Context(), q, window); err != nil {
			return err
		}
		err := l.Decide(b.Context(), id, now-3600, func(ledger.Spending) (ledger.Verdict, error) {
			s := ledger.Spend{Amount: 1}
			binary.BigEndian.PutUint64(s.Sighash[:], n)
			return ledger.Verdict{Audit: []ledger.Link{entry(now, "sign")}, Spends: []ledger.Spend{s}}, nil
		})
		if err != nil {
			return err
		}
		return l.Finish(b.Context(), q, answer)
	})
	b.StopTimer()
	floor := parallel(func(n uint64) error {
		for i := range 3 {
			key := binary.BigEndian.AppendUint64([]byte{byte(i)}, n)
			if err := store.Update(b.Context(), func(w kv.Writer) error { return w.Put("floor", key, answer) }); err != nil {
				return err
			}
		}
		return nil
	})
	b.ReportMetric(float64(signed.Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(floor.Microseconds())/float64(b.N), "floor-µs/op")
	b.ReportMetric(float64(signed)/float64(floor), "x-floor")
}
