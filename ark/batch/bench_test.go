//go:build unix

package batch_test

import (
	"fmt"
	"math"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/bip340"
)

// cpu is the processor time of the process so far, on all cores.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// curve is the cost of the curve operations on this machine, in this run:
// base multiplication in variable time and masked, arbitrary multiplication,
// inversion to affine form, decompression, and mixed addition.
type curve struct{ base, masked, arbitrary, affine, decode, add time.Duration }

// measure takes the operations in turn, so that all see the same machine.
func measure(t testing.TB) (c curve) {
	t.Helper()
	var k btcec.ModNScalar
	h := bip340.TaggedHash("bench")
	k.SetBytes(&h)
	key := keyOf(t, 7).PubKey()
	p, err := btcec.ParsePubKey(key[:])
	if err != nil {
		t.Fatal(err)
	}
	var point, out, fast btcec.JacobianPoint
	p.AsJacobian(&point)
	const rounds, inner = 40, 10
	took := func(d *time.Duration, times int, f func()) {
		from := cpu(t)
		for range times {
			f()
		}
		*d += (cpu(t) - from) / time.Duration(times)
	}
	for range rounds {
		k.Add(&k) // other digits every time
		took(&c.base, inner, func() { btcec.ScalarBaseMultNonConst(&k, &fast) })
		took(&c.arbitrary, inner, func() { btcec.ScalarMultNonConst(&k, &point, &out) })
		took(&c.affine, inner, func() { q := out; q.ToAffine() })
		took(&c.masked, inner, func() { bip340.MulBase(&k) })
		took(&c.decode, inner, func() {
			if _, err := key.Point(); err != nil {
				t.Fatal(err)
			}
		})
		took(&c.add, 20*inner, func() { btcec.AddNonConst(&out, &point, &fast) })
	}
	for _, d := range []*time.Duration{&c.base, &c.masked, &c.arbitrary, &c.affine, &c.decode, &c.add} {
		*d /= rounds
	}
	c.masked -= c.affine // MulBase ends in affine form
	return c
}

// work is the least curve work for our part of a batch, counted from its tree:
//
//	keys: each distinct key decoded once, D; per distinct cosigner set of k keys
//	  (k-1) A, since the second key has coefficient 1, and A is B + I for its
//	  tweak and I for the sum
//	nonces: per signature of ours 2 masked B, and 1 I as two inversions batch
//	aggregation: per node and cosigner 2 D and 2 additions, 1 I per node
//	session: per node 2 D of the aggregate, 1 A for b*R2, 1 I
//	final signature: per node 1 A, 1 B, 1 I, with the key decoded
//
// Partial signatures are scalar arithmetic, and hashes are not counted.
func (c curve) work(op *operator, own map[bip340.PubKey]bool) (d time.Duration) {
	distinct := make(map[bip340.PubKey]bool)
	sets := make(map[string]bool)
	for _, n := range op.root.Nodes() {
		k := time.Duration(len(n.Cosigners))
		set := ""
		for _, key := range n.Cosigners {
			distinct[key] = true
			set += key.String()
			if own[key] {
				d += 2*c.masked + c.affine
			}
		}
		if !sets[set] {
			sets[set] = true
			d += (k-1)*c.arbitrary + c.base + 2*c.affine
		}
		d += k*(2*c.decode+2*c.add) + c.affine
		d += 2*c.decode + c.arbitrary + c.affine
		d += c.arbitrary + c.base + c.affine
	}
	return d + time.Duration(len(distinct))*c.decode
}

// BenchmarkBatch measures our part of one batch with 128 delegates: parsing and
// checking the tree, nonces, aggregation, partial signatures, final signatures,
// connectors. The operator's part is not counted. Reported: processor time as a
// ratio to the curve work of the same run, milliseconds of wall clock from the
// nonces of all to our partial signatures in the fastest run, and the memory
// that tree, key contexts and our nonces take.
func BenchmarkBatch(b *testing.B) {
	for _, c := range []struct {
		name string
		key  func(i uint32) uint32
	}{
		{"one-service-key", func(uint32) uint32 { return 1 }},
		{"128-keys", func(i uint32) uint32 { return 1 + i }},
	} {
		b.Run(c.name, func(b *testing.B) {
			var parts []part
			var keys []*bip340.Key
			own := make(map[bip340.PubKey]bool)
			for i := range uint32(128) {
				k := keyOf(b, c.key(i))
				keys = append(keys, k)
				own[k.PubKey()] = true
				parts = append(parts, ourTask(b, i, k, p2tr(b, 9000+int64(i), i)))
			}
			op := newOperator(b, parts...).build()
			if n := len(op.root.Nodes()); n != 255 {
				b.Fatalf("%d nodes", n)
			}
			b.ReportAllocs()
			var ours, floor time.Duration
			latency := time.Hour
			held := uint64(math.MaxUint64) // the least: tables of the curve core are built once
			for b.Loop() {
				floor += measure(b).work(op, own)
				p := play(b, op, newSigner(b, keys...))
				ours += p.cpu
				latency = min(latency, p.latency)
				held = min(held, p.held)
			}
			n := float64(b.N)
			b.ReportMetric(float64(ours)/float64(floor), "x-curve-work")
			b.ReportMetric(ours.Seconds()*1000/n, "cpu-ms/batch")
			b.ReportMetric(floor.Seconds()*1000/n, "curve-ms/batch")
			b.ReportMetric(latency.Seconds()*1000, "nonces-to-signatures-ms")
			b.ReportMetric(float64(held)/1024, "held-KiB")
		})
	}
}

type played struct {
	cpu, latency time.Duration
	held         uint64
}

// play runs one batch and counts our part.
func play(b *testing.B, op *operator, s *signer) (p played) {
	b.Helper()
	from := cpu(b)
	part := op.open()
	p.cpu += cpu(b) - from
	var pubs pubNonces
	var sigs partials
	feed := func(evs []batch.Event) {
		from, at := cpu(b), time.Now()
		for _, ev := range evs {
			step, err := part.Handle(ev)
			for err == nil && step != (batch.StepNone{}) {
				switch st := step.(type) {
				case batch.StepNonces:
					pubs = s.makeNonces(st)
					step, err = part.NoncesMade(pubs)
					continue
				case batch.StepSign:
					sigs = s.sign(st)
					p.latency = time.Since(at)
				}
				step, err = part.Next()
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		p.cpu += cpu(b) - from
	}
	evs := op.treeGroup()
	before := heap()
	feed(evs)
	if after := heap(); after > before {
		p.held = after - before
	}
	evs = op.nonceGroup(pubs)
	feed(evs)
	evs = op.finalGroup(sigs)
	feed(evs)
	feed(op.finalized())
	return p
}

// heap is what is live on the heap.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkNodes relates our part to the number of nodes: it grows with the
// tree, not with its square.
func BenchmarkNodes(b *testing.B) {
	for _, n := range []uint32{1, 16, 128} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k := keyOf(b, 1)
			var parts []part
			for i := range n {
				parts = append(parts, ourTask(b, i, k, p2tr(b, 9000+int64(i), i)))
			}
			op := newOperator(b, parts...).build()
			var ours time.Duration
			for b.Loop() {
				ours += play(b, op, newSigner(b, k)).cpu
			}
			b.ReportMetric(ours.Seconds()*1e6/float64(b.N)/float64(len(op.root.Nodes())), "cpu-us/node")
		})
	}
}
