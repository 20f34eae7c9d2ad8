package sqlite

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/vigil-ark/vigil/internal/sqlitedb"
	"github.com/vigil-ark/vigil/internal/sqlitedb/powercut"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
)

// rig runs a workload on one simulated disk after the other.
type rig struct {
	synchronous string
	cut         bool
	faults      powercut.Faults
	tally       kvtest.Tally
	forgotten   int // survivors without even the store that had been created
	injected    powercut.Faults
}

// run makes a store on a new disk, loads it until the power goes (or to the
// end), verifies what the next start finds, and once more with that disk.
func (g *rig) run(t *testing.T, seed uint64) {
	t.Helper()
	ctx := t.Context()
	rnd := rand.New(rand.NewPCG(seed, 1))
	disk := powercut.New(t.TempDir(), seed)
	s := g.open(t, ctx, disk, sqlitedb.Create)
	load := kvtest.NewLoad(3)
	for life := range uint64(2) {
		if g.cut {
			// Anywhere in the load, now and then after its last commit.
			disk.CutAt(1 + rnd.IntN(500))
		}
		disk.Inject(g.faults)
		if err := load.Run(ctx, s, 20, func() bool { return !disk.Dead() }); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		disk.Inject(powercut.Faults{})
		g.injected.Full += disk.Injected().Full
		g.injected.Sync += disk.Injected().Sync
		if !g.cut && rnd.IntN(2) == 0 {
			// The same process goes on once the disk is mended.
			g.verify(t, ctx, seed, load, s)
			if err := s.Update(ctx, func(w kv.Writer) error { return w.Put("mended", nil, nil) }); err != nil {
				t.Errorf("seed %d: update on the mended disk: %v", seed, err)
			}
		}
		survivor := disk.Survivor(t.TempDir(), seed+life<<32)
		_ = s.Close() // only frees memory: the disk is dead
		if s = g.open(t, ctx, survivor, sqlitedb.Open); s == nil {
			g.forgotten++
			g.tally.Acked += load.Acked()
			g.tally.Lost += load.Acked()
			return
		}
		g.verify(t, ctx, seed, load, s)
		disk = survivor
	}
	if err := s.Close(); err != nil {
		t.Errorf("seed %d: Close: %v", seed, err)
	}
}

func (g *rig) verify(t *testing.T, ctx context.Context, seed uint64, load *kvtest.Load, s *Store) {
	t.Helper()
	corrupt := false
	if err := s.Check(ctx); err != nil {
		t.Logf("seed %d: %v", seed, err)
		corrupt = true
	}
	tally, err := load.Verify(ctx, s)
	if err != nil {
		t.Logf("seed %d: %v", seed, err)
		corrupt = true
	}
	if corrupt {
		tally.Corrupt++
	}
	if tally.Lost+tally.Corrupt > 0 && g.synchronous == "" {
		t.Errorf("seed %d: %+v", seed, tally)
	}
	g.tally.Acked += tally.Acked
	g.tally.Lost += tally.Lost
	g.tally.Corrupt += tally.Corrupt
}

// open returns nil when a weakened store's disk does not even hold a store.
func (g *rig) open(t *testing.T, ctx context.Context, disk *powercut.Disk,
	how func(context.Context, string, sqlitedb.Options) (*sqlitedb.DB, error),
) *Store {
	t.Helper()
	o := options(Options{})
	var done func()
	o.VFS, done = disk.Use()
	t.Cleanup(done)
	o.Synchronous = g.synchronous
	o.LogPages = 50 // many checkpoints, so that cuts fall into them too
	s, err := opened(how(ctx, "/", o))
	if err != nil {
		if g.synchronous != "" {
			return nil
		}
		t.Fatal(err)
	}
	return s
}

func (g *rig) report(t *testing.T, n uint64) {
	t.Helper()
	t.Logf("%d seeds: %d acknowledged, %d lost, %d corrupt, %d stores gone; %.0f times full, %.0f failed fsyncs",
		n, g.tally.Acked, g.tally.Lost, g.tally.Corrupt, g.forgotten, g.injected.Full, g.injected.Sync)
	if g.tally.Acked == 0 {
		t.Error("nothing was acknowledged: the test shows nothing")
	}
}

// TestPowerCut cuts the power at any write, sync, truncation or deletion.
func TestPowerCut(t *testing.T) {
	g := rig{cut: true}
	n := powercut.Seeds(t, 60)
	for seed := range n {
		g.run(t, seed)
	}
	g.report(t, n)
}

// TestPowerCutCreate cuts the power while a store is made: there is either
// none or a whole one.
func TestPowerCutCreate(t *testing.T) {
	none, whole := 0, 0
	n := powercut.Seeds(t, 40)
	for seed := range n {
		disk := powercut.New(t.TempDir(), seed)
		o := options(Options{Generation: [16]byte{1}})
		var done func()
		o.VFS, done = disk.Use()
		disk.CutAt(1 + int(40*seed/n)) // it takes about 30 operations
		s, err := opened(sqlitedb.Create(t.Context(), "/", o))
		created := err == nil
		if created {
			_ = s.Close()
		} else if !errors.Is(err, kv.ErrUnavailable) {
			t.Errorf("seed %d: Create: %v", seed, err)
		}
		done()
		o.VFS, done = disk.Survivor(t.TempDir(), seed).Use()
		s, err = opened(sqlitedb.Open(t.Context(), "/", o))
		switch {
		case err == nil:
			whole++
		case errors.Is(err, ErrMissing) && !created:
			none++
			s, err = opened(sqlitedb.Create(t.Context(), "/", o))
		}
		if err != nil {
			t.Errorf("seed %d (created: %v): %v", seed, created, err)
			continue
		}
		if g := s.Generation(); g != o.Generation {
			t.Errorf("seed %d: generation %x", seed, g)
		}
		if err := s.Close(); err != nil {
			t.Errorf("seed %d: Close: %v", seed, err)
		}
		done()
	}
	t.Logf("%d times none, %d times a whole store", none, whole)
	if none == 0 || whole == 0 {
		t.Error("both must occur")
	}
}

// TestDiskFull lets every 50th write find the disk full.
func TestDiskFull(t *testing.T) {
	g := rig{faults: powercut.Faults{Full: 0.02}}
	n := powercut.Seeds(t, 20)
	for seed := range n {
		g.run(t, seed)
	}
	g.report(t, n)
	if g.injected.Full == 0 {
		t.Error("the disk was never full")
	}
}

// TestFailedSync lets every 20th fsync fail and forget what it should have
// written.
func TestFailedSync(t *testing.T) {
	g := rig{faults: powercut.Faults{Sync: 0.05}}
	n := powercut.Seeds(t, 20)
	for seed := range n {
		g.run(t, seed)
	}
	g.report(t, n)
	if g.injected.Sync == 0 {
		t.Error("no fsync failed")
	}
}

// TestPowerCutControl weakens the store: unless that loses acknowledged
// updates, the tests above show nothing.
func TestPowerCutControl(t *testing.T) {
	for _, synchronous := range []string{"NORMAL", "OFF"} {
		g := rig{cut: true, synchronous: synchronous}
		const n = 15
		for seed := range uint64(n) {
			g.run(t, seed)
		}
		g.report(t, n)
		if g.tally.Lost == 0 {
			t.Errorf("synchronous=%s lost nothing: the disk is too kind", synchronous)
		}
	}
}
