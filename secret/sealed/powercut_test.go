package sealed

import (
	"bytes"
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/vigil-ark/vigil/internal/sqlitedb"
	"github.com/vigil-ark/vigil/internal/sqlitedb/powercut"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

// rig runs a workload on one simulated disk after the other.
type rig struct {
	key         Key
	synchronous string
	cut         bool
	faults      powercut.Faults
	tally       secrettest.Tally
	forgotten   int // survivors without even the store that had been created
	injected    powercut.Faults
}

func newRig(t *testing.T, g rig) *rig {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := GenerateKeyFile(file); err != nil {
		t.Fatal(err)
	}
	g.key = KeyFile(file)
	return &g
}

func (g *rig) runs(t *testing.T, count uint64) {
	t.Helper()
	for seed := range count {
		g.run(t, seed)
	}
	t.Logf("%d seeds: %d acknowledged, %d lost, %d corrupt, %d stores gone; %.0f times full, %.0f failed fsyncs",
		count, g.tally.Acked, g.tally.Lost, g.tally.Corrupt, g.forgotten, g.injected.Full, g.injected.Sync)
	if g.tally.Acked == 0 {
		t.Error("nothing was acknowledged: the test shows nothing")
	}
}

// run makes a store on a new disk, loads it until the power goes (or to the
// end), verifies what the next start finds, and once more with that disk.
func (g *rig) run(t *testing.T, seed uint64) {
	t.Helper()
	ctx := t.Context()
	rnd := rand.New(rand.NewPCG(seed, 1))
	disk := powercut.New(t.TempDir(), seed)
	s := g.open(t, ctx, disk, create)
	load := secrettest.NewLoad(3)
	for life := range uint64(2) {
		if g.cut {
			disk.CutAt(1 + rnd.IntN(400))
		}
		disk.Inject(g.faults)
		if err := load.Run(ctx, s, 8, func() bool { return !disk.Dead() }); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		disk.Inject(powercut.Faults{})
		g.injected.Full += disk.Injected().Full
		g.injected.Sync += disk.Injected().Sync
		if !g.cut && rnd.IntN(2) == 0 {
			// The same process goes on once the disk is mended.
			g.verify(t, ctx, seed, load, s)
			if err := s.Delete(ctx, "mended"); err != nil {
				t.Errorf("seed %d: delete on the mended disk: %v", seed, err)
			}
		}
		for name, content := range disk.Contents() {
			if bytes.Contains(content, []byte(secrettest.Mark)) {
				t.Fatalf("seed %d: %s holds a secret in the clear", seed, name)
			}
		}
		survivor := disk.Survivor(t.TempDir(), seed+life<<32)
		_ = s.Close() // only frees memory: the disk is dead
		if s = g.open(t, ctx, survivor, open); s == nil {
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

func (g *rig) verify(t *testing.T, ctx context.Context, seed uint64, load *secrettest.Load, s *Store) {
	t.Helper()
	checkErr := s.Check(ctx)
	tally, err := load.Verify(ctx, s)
	for _, err := range []error{checkErr, err} {
		if err != nil {
			t.Logf("seed %d: %v", seed, err)
			tally.Corrupt++
		}
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
	how func(context.Context, string, Key, sqlitedb.Options) (*Store, error),
) *Store {
	t.Helper()
	o := options(Options{})
	var done func()
	o.VFS, done = disk.Use()
	t.Cleanup(done)
	o.Synchronous = g.synchronous
	o.LogPages = 20
	s, err := how(ctx, "/", g.key, o)
	if err != nil {
		if g.synchronous != "" {
			return nil
		}
		t.Fatal(err)
	}
	return s
}

// TestPowerCut cuts the power at any write, sync, truncation or deletion.
func TestPowerCut(t *testing.T) { newRig(t, rig{cut: true}).runs(t, powercut.Seeds(t, 40)) }

// TestDiskFull lets every 50th write find the disk full.
func TestDiskFull(t *testing.T) {
	g := newRig(t, rig{faults: powercut.Faults{Full: 0.02}})
	if g.runs(t, powercut.Seeds(t, 15)); g.injected.Full == 0 {
		t.Error("the disk was never full")
	}
}

// TestFailedSync lets every 20th fsync fail and forget what it should have
// written.
func TestFailedSync(t *testing.T) {
	g := newRig(t, rig{faults: powercut.Faults{Sync: 0.05}})
	if g.runs(t, powercut.Seeds(t, 15)); g.injected.Sync == 0 {
		t.Error("no fsync failed")
	}
}

// TestPowerCutControl weakens the store: unless that loses acknowledged
// secrets, the tests above show nothing. NORMAL is no control here, because
// deleting empties the log, which syncs.
func TestPowerCutControl(t *testing.T) {
	g := newRig(t, rig{cut: true, synchronous: "OFF"})
	if g.runs(t, 20); g.tally.Lost == 0 {
		t.Error("synchronous=OFF lost nothing: the disk is too kind")
	}
}
