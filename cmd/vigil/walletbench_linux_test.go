package main

import (
	"context"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

// arithmetic is a 2-of-2 key with both halves at hand.
type arithmetic struct {
	b              *testing.B
	device, server *frost.Share
	context        *frost.Context
	key            *bip340.Key // of requests and answers
}

func newArithmetic(b *testing.B) *arithmetic {
	b.Helper()
	var secret0, slope btcec.ModNScalar
	for i, s := range []*btcec.ModNScalar{&secret0, &slope} {
		sum := bip340.TaggedHash("vigil/test arithmetic", []byte{byte(i)})
		s.SetBytes(&sum)
	}
	scalars := [2]btcec.ModNScalar{secret0, secret0}
	var pubs []bip340.PubKey
	for i := range scalars {
		for range i + 1 {
			scalars[i].Add(&slope)
		}
		pubs = append(pubs, bip340.MulBase(&scalars[i]).PubKey())
	}
	info, err := frost.NewInfo(0, 2, bip340.MulBase(&secret0).PubKey(), pubs)
	if err != nil {
		b.Fatal(err)
	}
	a := &arithmetic{b: b}
	for i, into := range []**frost.Share{&a.device, &a.server} {
		raw := scalars[i].Bytes()
		if *into, err = frost.NewShare(info, i, secret.New(raw[:])); err != nil {
			b.Fatal(err)
		}
	}
	set, err := info.Signers(0, 1)
	if err != nil {
		b.Fatal(err)
	}
	a.context = set.Untweaked()
	key, scalar, err := bip340.GenerateKey()
	if err != nil {
		b.Fatal(err)
	}
	scalar.Burn()
	a.key = key
	return a
}

// took is the processor time of n signatures: the device's commitments, the
// server's answers, the device's parts, sums and checks, and the check of each once
// more, by whoever takes in what they are on.
func (a *arithmetic) took(n int) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := processorTime(thisThread)
	msgs, own := make([][32]byte, n), make([]*frost.Pending, n)
	qs := make([]frost.Query, n)
	var err error
	for i := range n {
		msgs[i] = bip340.TaggedHash("vigil/test message", []byte{byte(i)})
		if own[i], err = a.device.Commit(a.context, frost.SessionID{1}, msgs[i]); err != nil {
			a.b.Fatal(err)
		}
		qs[i] = frost.Query{Context: a.context, Session: frost.SessionID{1}, Msg: msgs[i], Nonces: []frost.PubNonce{own[i].PubNonce(), {}}}
	}
	answers, err := a.server.AnswerAll(qs)
	if err != nil {
		a.b.Fatal(err)
	}
	for i, answer := range answers {
		nonces := []frost.PubNonce{own[i].PubNonce(), answer.Nonce}
		first, session, err := own[i].Sign(nonces)
		if err != nil {
			a.b.Fatal(err)
		}
		sig, err := session.Aggregate([]frost.PartialSig{first, answer.Sig}, nonces)
		if err != nil {
			a.b.Fatal(err)
		}
		if !bip340.Verify(a.context.OutputKey(), msgs[i][:], sig) {
			a.b.Fatal("does not verify")
		}
	}
	return processorTime(thisThread) - began
}

// plain is the processor time of n plain signatures, made and verified.
func (a *arithmetic) plain(n int) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := processorTime(thisThread)
	for i := range n {
		msg := bip340.TaggedHash("vigil/test plain", []byte{byte(i)})
		if sig, err := a.key.Sign(msg[:]); err != nil || !bip340.Verify(a.key.PubKey().XOnly(), msg[:], sig) {
			a.b.Fatal(err)
		}
	}
	return processorTime(thisThread) - began
}

// BenchmarkDelegate signs a renewal of 20 coins ahead, 43 signatures: a whole
// `vigil serve` with its stores on disk, and a device with its own, over loopback.
// The processor time is that of both, from when the device has its coins until the
// delegate is durable; the operator is another process. The floor is the bare
// arithmetic of both, measured in turns. Of each the fastest slice counts, four
// delegates, since others use the machine; x-floor-mean is of all, and
// x-floor-with-requests counts the signatures of requests and answers as arithmetic,
// too. An earlier answer
// brought the id and tree key, as it does in a device's life after the first
// delegate. A profile is of the subject alone with -tagignore=floor.
func BenchmarkDelegate(b *testing.B) {
	const wallets, count, signatures = 4, 20, 43
	const plain = 5 // two requests, two answers, and what is prepared with the second
	s, floor := newBenchSite(b), newArithmetic(b)
	s.serveHere()
	var devices [wallets]*client.Wallet
	var heard [wallets]*calls
	delegated := func(i int) []client.Delegated {
		d, err := devices[i].Delegate(b.Context(), client.DelegateOptions{})
		if err != nil || len(d) != 1 || len(d[0].Coins) != count {
			b.Fatalf("%d delegates: %v", len(d), err)
		}
		return d
	}
	cancel := func(i int, d []client.Delegated) {
		if state, err := devices[i].Cancel(b.Context(), d[0].ID); err != nil || state != "cancelled" {
			b.Fatal(state, err)
		}
		heard[i].forget()
	}
	for i := range devices {
		devices[i], heard[i] = s.device(s.sealedStore(i), count)
		cancel(i, delegated(i))
	}
	runtime.GC()
	var sum, best spent
	n := 0
	for b.Loop() {
		var slice spent
		for i := range devices {
			began, before := time.Now(), processorTime(thisProcess)
			d := delegated(i)
			after := processorTime(thisProcess)
			slice.wall += time.Since(began)
			var asked []string
			for _, c := range heard[i].forget() {
				asked = append(asked, c.method)
			}
			if !slices.Equal(asked, []string{"ListVtxos", "Sign", "SubmitDelegate"}) {
				b.Fatalf("the round trips were %v", asked)
			}
			slice.list += heard[i].listed - before
			slice.delegate += after - heard[i].listed
			pprof.Do(b.Context(), pprof.Labels("part", "floor"), func(context.Context) { slice.floor += floor.took(signatures) })
			pprof.Do(b.Context(), pprof.Labels("part", "floor"), func(context.Context) { slice.plain += floor.plain(plain) })
			cancel(i, d)
		}
		sum = spent{sum.list + slice.list, sum.delegate + slice.delegate, sum.floor + slice.floor, sum.plain + slice.plain, sum.wall + slice.wall}
		if n++; n == 1 {
			best = slice
		}
		best = spent{
			min(best.list, slice.list), min(best.delegate, slice.delegate), min(best.floor, slice.floor), min(best.plain, slice.plain), min(best.wall, slice.wall),
		}
	}
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 / wallets }
	b.ReportMetric(0, "ns/op") // of the floor and cancellations, too: it says nothing
	b.ReportMetric(2, "round-trips")
	b.ReportMetric(ms(best.delegate), "cpu-ms/delegate")
	b.ReportMetric(ms(best.list), "cpu-ms/list")
	b.ReportMetric(ms(best.floor), "floor-ms/delegate")
	b.ReportMetric(best.delegate.Seconds()/best.floor.Seconds(), "x-floor")
	b.ReportMetric(sum.delegate.Seconds()/sum.floor.Seconds(), "x-floor-mean")
	b.ReportMetric(best.delegate.Seconds()/(best.floor+best.plain).Seconds(), "x-floor-with-requests")
	b.ReportMetric(ms(best.wall), "ms/delegate")
}

// spent is what a slice of delegates took.
type spent struct{ list, delegate, floor, plain, wall time.Duration }

// setting is a number of a benchmark's from the environment.
func setting(name string, preset int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return preset
}

// BenchmarkMixed has VIGIL_CLIENTS devices (64) ask a `vigil serve` at once, each
// VIGIL_ROUNDS times (1): a payment to the next one, a delegate over whatever is not
// covered, and four reads. Vigil, on its own disk, the devices, without one, and the
// operator are three processes on one machine, and the share of each in its
// processors says what bounds them. Times are those of whole calls over loopback.
func BenchmarkMixed(b *testing.B) {
	clients, rounds := setting("VIGIL_CLIENTS", 64), setting("VIGIL_ROUNDS", 1)
	s := newBenchSite(b)
	if err := s.start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.kill)
	devices, heard := make([]*client.Wallet, clients), make([]*calls, clients)
	for i := range devices {
		devices[i], heard[i] = s.device(secrettest.NewMemory(), 3)
		heard[i].count = true
	}
	var took, vigil, own, operator time.Duration
	made := map[string][]call{}
	for b.Loop() {
		for _, h := range heard {
			h.forget()
		}
		runtime.GC()
		used := s.used()
		began := time.Now()
		var all sync.WaitGroup
		for i := range devices {
			all.Go(func() {
				for range rounds {
					mixed(b, devices[i], devices[(i+1)%clients])
				}
			})
		}
		all.Wait()
		took += time.Since(began)
		after := s.used()
		vigil, own, operator = vigil+after[0]-used[0], own+after[1]-used[1], operator+after[2]-used[2]
		for _, h := range heard {
			for _, c := range h.forget() {
				kind := "read"
				switch c.method {
				case "Sign":
					kind = "sign"
				case "SubmitDelegate":
					kind = "delegate"
				}
				made[kind] = append(made[kind], c)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	total, signatures := 0, 0
	for kind, list := range made {
		slices.SortFunc(list, func(a, b call) int { return int(a.took - b.took) })
		for _, c := range list {
			signatures += c.signatures
		}
		total += len(list)
		b.ReportMetric(float64(list[len(list)/2].took.Microseconds())/1000, kind+"-p50-ms")
		b.ReportMetric(float64(list[len(list)*99/100].took.Microseconds())/1000, kind+"-p99-ms")
		b.ReportMetric(float64(len(list))/took.Seconds(), kind+"/s")
	}
	b.ReportMetric(float64(total)/took.Seconds(), "calls/s")
	b.ReportMetric(float64(signatures)/took.Seconds(), "signatures/s")
	b.ReportMetric(float64(vigil.Microseconds())/float64(total), "vigil-cpu-µs/call")
	machine := took.Seconds() * float64(runtime.NumCPU()) / 100
	b.ReportMetric(vigil.Seconds()/machine, "%vigil")
	b.ReportMetric(own.Seconds()/machine, "%devices")
	b.ReportMetric(operator.Seconds()/machine, "%operator")
}

// used is the processor time of Vigil, of the devices and of the operator.
func (s *benchSite) used() (u [3]time.Duration) {
	s.b.Helper()
	var err error
	if u[0], err = processorTimeOf(s.pid()); err != nil {
		s.b.Fatal(err)
	}
	u[1] = processorTime(thisProcess)
	if u[2], err = processorTimeOf(s.op.pid); err != nil {
		s.b.Fatal(err)
	}
	return u
}

// mixed is one round of a device's.
func mixed(b *testing.B, d, next *client.Wallet) {
	ctx := b.Context()
	to, err := next.Address()
	if err != nil {
		b.Error(err)
		return
	}
	if _, err := d.Send(ctx, to, 1000); err != nil {
		b.Errorf("send: %v", err)
	}
	if _, err := d.Coverage(ctx); err != nil {
		b.Errorf("coverage: %v", err)
	}
	if _, err := d.Delegate(ctx, client.DelegateOptions{}); err != nil {
		b.Errorf("delegate: %v", err)
	}
	if _, err := d.VTXOs(ctx); err != nil {
		b.Errorf("coins: %v", err)
	}
	if _, _, err := d.History(ctx, nil, 50); err != nil {
		b.Errorf("history: %v", err)
	}
	if _, err := d.Delegates(ctx); err != nil {
		b.Errorf("delegates: %v", err)
	}
}
