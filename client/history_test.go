package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/secret/search"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

// What TestHistories plays by default is what CI has time for: some seeds that
// once found something, and a new one, which it prints. VIGIL_HISTORIES is the
// number of new ones to play instead, VIGIL_HISTORY_SEED the first of them,
// VIGIL_HISTORY_WIDTH how many at once, and VIGIL_HISTORY_STEPS how long each is.
// VIGIL_HISTORY plays one again, as a failure prints it: its seed, and which steps
// of it are to be left out; if it fails again, more steps are left out, as long as
// it does.

// TestHistories plays random lives of two wallets, whose devices and whose Vigil
// crash, restart, are lost and recovered, against an operator, beside a model. It
// holds after every step that no coin is lost and none is made, that everything
// that moved was asked for, that Vigil's word on coverage is never later than the
// truth that was known at its stated age, that no VTXO is under two live
// delegates, and that the stores are sane; and at the end that every coin can be
// renewed and no secret ever was in the key-value store or the log.
func TestHistories(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Hour)
	defer cancel()
	if text := os.Getenv("VIGIL_HISTORY"); text != "" {
		seed, skip := parseHistory(t, text)
		n := number(t, "VIGIL_HISTORY_STEPS", historySteps)
		h := playHistory(ctx, seed, n, skip)
		if h.err != nil {
			h = shrunk(ctx, h, n)
			t.Errorf("%v", h.err)
		}
		t.Logf("%s", h.told())
		return
	}
	seeds := []uint64{5, 6, 28}
	first := uint64(number(t, "VIGIL_HISTORY_SEED", int(rand.Uint32())))
	n := number(t, "VIGIL_HISTORIES", 0)
	if n > 0 {
		seeds = nil
	}
	if testing.Short() {
		seeds = seeds[:min(len(seeds), 1)]
	}
	for i := range max(n, 1) {
		seeds = append(seeds, first+uint64(i))
	}
	tally := &tally{done: map[string]int{}, errs: map[string]int{}}
	var group sync.WaitGroup
	slots := make(chan struct{}, number(t, "VIGIL_HISTORY_WIDTH", 2*runtime.GOMAXPROCS(0)))
	for _, seed := range seeds {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			h := playHistory(ctx, seed, number(t, "VIGIL_HISTORY_STEPS", historySteps), nil)
			tally.add(h)
			if h.err != nil {
				t.Errorf("%v\n%s", h.err, h.told())
			}
		})
	}
	group.Wait()
	t.Logf("seeds %v: %s", seeds, tally)
	if tally.cover == 0 || tally.renewed == 0 {
		t.Errorf("no coverage was ever told, or nothing was renewed: %s", tally)
	}
}

// shrunk leaves out of a history that failed every step without which it fails
// too.
func shrunk(ctx context.Context, h *history, n int) *history {
	for at := n - 1; at >= 0; at-- {
		if slices.Contains(h.skip, at) {
			continue
		}
		if less := playHistory(ctx, h.seed, n, append(slices.Clone(h.skip), at)); less.err != nil {
			h = less
		}
	}
	return h
}

// historySteps is how many steps a history has.
const historySteps = 14

func number(t *testing.T, env string, otherwise int) int {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}

// parseHistory reads "seed" or "seed-3,7", which is seed without steps 3 and 7.
func parseHistory(t *testing.T, text string) (seed uint64, skip []int) {
	t.Helper()
	head, tail, _ := strings.Cut(text, "-")
	seed, err := strconv.ParseUint(head, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.FieldsFunc(tail, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(part)
		if err != nil {
			t.Fatal(err)
		}
		skip = append(skip, n)
	}
	return seed, skip
}

// tally is what all histories came to.
type tally struct {
	mu       sync.Mutex
	n        int
	done     map[string]int
	errs     map[string]int
	starts   int
	cover    int
	renewed  int
	secrets  int
	searched int64
}

func (s *tally) add(h *history) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	for k, n := range h.done {
		s.done[k] += n
	}
	for k, n := range h.errs {
		s.errs[k] += n
	}
	s.cover, s.renewed, s.secrets, s.searched = s.cover+h.covers, s.renewed+h.renewed, s.secrets+h.secrets, s.searched+h.searched
	if h.site != nil {
		s.starts += h.site.starts
	}
}

func (s *tally) String() string {
	return fmt.Sprintf("%d histories; steps %v; refused %v; %d starts of Vigil; %d delegates carried out; coverage told %d times; %d secrets searched for in %d bytes",
		s.n, s.done, s.errs, s.starts, s.renewed, s.cover, s.secrets, s.searched)
}

// history is one random life.
type history struct {
	seed  uint64
	skip  []int
	clock *hurried
	op    *arktest.Operator
	ask   *operator.Client
	site  *site
	phone []*phone
	book  *book

	rough bool   // something was killed or runs: calls may fail
	only  *phone // the one that calls are made with; nil: any
	lines []string
	err   error

	done, errs      map[string]int
	covers, renewed int
	secrets         int
	searched        int64
	settled         map[vigil.DelegateID]bool
	watch           []pledge
}

// pledge is an answer about coverage that is still to come true.
type pledge struct {
	a     *account
	until int64
}

// phone is a device with its seed.
type phone struct {
	*account
	seed  client.Seed
	store *secrettest.Memory
	fuse  *fuse
	w     *client.Wallet
}

func (h *history) say(format string, args ...any) {
	h.lines = append(h.lines, fmt.Sprintf(format, args...))
}

// told is the history for people, with how to play it again.
func (h *history) told() string {
	again := strconv.FormatUint(h.seed, 10)
	for i, n := range h.skip {
		again += map[bool]string{true: "-", false: ","}[i == 0] + strconv.Itoa(n)
	}
	return fmt.Sprintf("VIGIL_HISTORY=%s:\n  %s", again, strings.Join(h.lines, "\n  "))
}

// playHistory plays a history of n steps but those to be left out.
func playHistory(ctx context.Context, seed uint64, n int, skip []int) *history {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	h := &history{seed: seed, skip: skip, clock: &hurried{short: map[*time.Timer]func(){}}, done: map[string]int{}, errs: map[string]int{}, settled: map[vigil.DelegateID]bool{}}
	random := rand.New(rand.NewPCG(seed, 0))
	defer h.close()
	if h.err = h.open(ctx, random); h.err != nil {
		return h
	}
	for i := range n {
		kind, r := drawStep(random), rand.New(rand.NewPCG(random.Uint64(), 0))
		if slices.Contains(skip, i) {
			continue
		}
		h.say("%d: %s", i, kind.name)
		h.done[kind.name]++
		err := kind.play(h, ctx, r)
		if err == nil && (!h.rough || r.IntN(3) > 0) {
			err = h.check(ctx)
		}
		if err != nil {
			h.err = fmt.Errorf("history %d, step %d, %s: %w", seed, i, kind.name, err)
			return h
		}
	}
	if err := h.finish(ctx); err != nil {
		h.err = fmt.Errorf("history %d, at the end: %w", seed, err)
	}
	return h
}

// open starts operator, Vigil and two devices.
func (h *history) open(ctx context.Context, random *rand.Rand) (err error) {
	set := arktest.Settings{SessionDuration: 6 * time.Second, BanThreshold: -1}
	h.book = &book{dust: 330, lasts: 2048}
	if random.IntN(2) == 0 {
		h.book.fee = 11
		set.Fees = arktest.Fees{OffchainInput: "11.0"}
	}
	if h.op, err = arktest.Start(arktest.Config{Settings: set, Clock: h.clock}); err != nil {
		return err
	}
	if h.ask, err = operator.Dial(operator.Config{URL: h.op.URL()}); err != nil {
		return err
	}
	if h.site, err = newSite(ctx, h.clock, h.op.URL()); err != nil {
		return err
	}
	if err := h.site.start(ctx); err != nil {
		return err
	}
	for _, name := range []string{"alice", "bob"} {
		p := &phone{store: secrettest.NewMemory(), fuse: &fuse{}}
		if p.seed, err = client.NewSeed(); err != nil {
			return err
		}
		if p.w, err = client.Create(ctx, h.config(p), p.seed, client.CreateOptions{Name: name}); err != nil {
			return err
		}
		p.account = newAccount(name, p.w)
		h.phone, h.book.accounts = append(h.phone, p), append(h.book.accounts, p.account)
	}
	return nil
}

func (h *history) close() {
	for _, p := range h.phone {
		p.w.Close()
		p.seed.Burn()
	}
	if h.site != nil {
		_ = h.site.halt(true)
		h.site.http.Close()
	}
	if h.ask != nil {
		_ = h.ask.Close()
	}
	if h.op != nil {
		h.op.Close()
	}
}

func (h *history) config(p *phone) client.Config {
	return client.Config{
		Server: h.site.http.URL, HostKey: h.site.run.host, Operator: h.op.URL(), Esplora: h.op.EsploraURL(),
		Store: &fusedSecrets{p.store, p.fuse, h.site.known}, Now: h.clock.Now,
	}
}

// reopen ends a device's process and starts another over its store.
func (h *history) reopen(ctx context.Context, p *phone) (err error) {
	p.w.Close()
	p.store, p.fuse = p.store.Reopen(), &fuse{}
	p.w, err = client.Open(ctx, h.config(p))
	return err
}

// restart ends Vigil's process, if there is one, and starts another.
func (h *history) restart(ctx context.Context, killed bool) error {
	if err := h.site.halt(killed); err != nil {
		return fmt.Errorf("the engine ended: %w", err)
	}
	return h.site.start(ctx)
}

// advance moves the clock, and lets everybody look at it.
func (h *history) advance(ctx context.Context, d time.Duration) error {
	before := h.op.Stats()
	h.clock.Advance(d)
	if before.Phase == arktest.PhaseRegistration {
		// A round that began before would have no time left.
		if err := h.op.Await(ctx, func(s arktest.Stats) bool { return s.RoundID != before.RoundID }); err != nil {
			return err
		}
	}
	if err := h.op.Chain().CatchUp(); err != nil {
		return err
	}
	if h.site.run != nil {
		h.site.run.engine.Wake()
	}
	return nil
}

// quiet waits until no delegate is in flight or due. What waits for a time is
// helped on by the clock, between batches.
func (h *history) quiet(ctx context.Context) error {
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		if h.site.run == nil || h.site.run.fuse.blown() {
			h.say("   Vigil died, and is started")
			if err := h.restart(ctx, true); err != nil {
				return err
			}
		}
		busy, err := h.busy(ctx)
		if err != nil && !errors.Is(err, errBlown) {
			return err
		}
		if err == nil && busy == "" {
			return nil
		}
		if len(h.op.Chain().Mempool()) > 0 {
			if err := h.op.Mine(1); err != nil {
				return err
			}
		}
		if s := h.op.Stats(); n%20 == 0 && (s.Phase == arktest.PhaseRegistration || n%100 == 0) {
			if err := h.advance(ctx, time.Second); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("it does not come to rest: %s", busy)
		}
	}
}

// busy says what is in flight or due, if anything.
func (h *history) busy(ctx context.Context) (string, error) {
	led := h.site.run.ledger
	flights, err := led.InFlight(ctx)
	if err != nil {
		return "", err
	}
	due, _, err := led.Due(ctx, h.clock.Now(), 10, nil)
	if err != nil {
		return "", err
	}
	var list []string
	for _, f := range flights {
		if f.Err != nil {
			return "", f.Err
		}
		if f.Record.State == delegate.Registered && int64(f.Record.LeastExpiry(h.clock.Now().Unix())) > h.book.lasts {
			continue // it waits for a longer batch, until less is left of its coins
		}
		list = append(list, fmt.Sprintf("%s is %s, %d attempts, %+v", f.ID, f.Record.State, f.Record.Attempts, f.Record.LastError))
	}
	for _, d := range due {
		if d.Err != nil {
			return "", d.Err
		}
		list = append(list, fmt.Sprintf("%s is due, %d attempts, %+v", d.ID, d.Record.Attempts, d.Record.LastError))
	}
	return strings.Join(list, "; "), nil
}

// check holds everything to the model, once all is quiet. What begins meanwhile
// may spoil a comparison: then it is made again.
func (h *history) check(ctx context.Context) error {
	for try := 1; ; try++ {
		if err := h.calm(ctx); err != nil {
			return err
		}
		err := h.compare(ctx)
		if err == nil {
			h.rough, h.book.rough = false, ""
			return nil
		}
		if busy, _ := h.busy(ctx); try == 4 || busy == "" && try > 1 {
			return err
		}
		h.say("   looked at again: %v", err)
	}
}

// calm brings everything to rest: processes run, devices have finished what broke
// off, and Vigil has heard of all coins.
func (h *history) calm(ctx context.Context) error {
	if run := h.site.run; run != nil {
		run.fuse.arm(0, false)
	}
	for _, p := range h.phone {
		p.fuse.arm(0, false)
	}
	if err := h.advance(ctx, 3*time.Second); err != nil {
		return err
	}
	if err := h.quiet(ctx); err != nil {
		return err
	}
	for _, p := range h.phone {
		if p.fuse.blown() {
			h.say("   %s's device died, and is started", p.name)
			if err := h.reopen(ctx, p); err != nil {
				return err
			}
		}
		if !h.rough {
			continue
		}
		if err := h.recovers(ctx, p); err != nil {
			return fmt.Errorf("%s's device does not recover: %w", p.name, err)
		}
	}
	return h.quiet(ctx)
}

// recovers lets a device finish what broke off. Its connection to an operator
// that restarted may have to be made anew.
func (h *history) recovers(ctx context.Context, p *phone) (err error) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for range 40 {
		var k client.Kept
		k, err = p.w.Keep(ctx)
		h.promise(p, k.Delegated...)
		if err == nil {
			return nil
		}
		h.say("   %s keeps: %v", p.name, err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
	return err
}

// compare makes every comparison once.
func (h *history) compare(ctx context.Context) error {
	if err := errors.Join(h.book.reconcile(ctx, h), h.book.finalized()); err != nil {
		return err
	}
	for _, p := range h.phone { // which asks the operator for its coins
		if _, err := p.w.VTXOs(ctx); err != nil {
			return fmt.Errorf("%s lists coins: %w", p.name, err)
		}
	}
	if err := h.book.promised(ctx, h.site.run.ledger); err != nil {
		return err
	}
	for _, p := range h.phone {
		if err := h.coverage(ctx, p); err != nil {
			return err
		}
	}
	return h.book.stores(ctx, h)
}

// coverage holds Vigil's word to the truth at its stated age.
func (h *history) coverage(ctx context.Context, p *phone) error {
	c, err := p.w.Coverage(ctx)
	if err != nil {
		return fmt.Errorf("%s asks for coverage: %w", p.name, err)
	}
	if now := h.clock.Now().Unix(); c.KnownAt > now || c.KnownAt < now-3600 {
		return fmt.Errorf("%s's coverage is known at %d, %d s ago", p.name, c.KnownAt, now-c.KnownAt)
	}
	until, some := h.book.safe(h, p.account, c.KnownAt)
	if some && c.Until > until {
		return fmt.Errorf("%s is told to be safe until %d; by what was known at %d it is until %d", p.name, c.Until, c.KnownAt, until)
	}
	if some && c.Until == 0 && !h.book.bare(h, p.account, h.clock.Now().Unix()) {
		return fmt.Errorf("%s is told that a coin is in danger, and dust is all that could be", p.name)
	}
	if c.Until > 0 {
		h.covers++
		h.watch = append(h.watch, pledge{p.account, c.Until})
	}
	return nil
}

// promise notes delegates that the device was told are stored.
func (h *history) promise(p *phone, list ...client.Delegated) {
	for _, d := range list {
		h.say("   %s delegates %d coins, to run in %d s", p.name, len(d.Coins), d.At-h.clock.Now().Unix())
		for _, old := range p.promises {
			if slices.ContainsFunc(old.inputs, func(op wire.OutPoint) bool { return slices.Contains(d.Coins, op) }) {
				old.replaced = true
			}
		}
		p.promises[d.ID] = &promise{inputs: d.Coins, at: d.At}
	}
}

// finish lets every delegate be carried out, renews what is left by hand, and
// searches for what must be nowhere.
func (h *history) finish(ctx context.Context) error {
	h.say("the end")
	if err := h.restart(ctx, false); err != nil {
		return err
	}
	h.rough, h.book.rough = true, "the end"
	if err := h.check(ctx); err != nil {
		return err
	}
	if err := h.away(ctx, 2048*time.Second); err != nil {
		return err
	}
	for _, p := range h.phone {
		if err := h.sweep(ctx, p); err != nil {
			return err
		}
		var sum int64
		for _, sats := range p.coins {
			sum += sats
		}
		if sum-h.book.fee*int64(len(p.coins)) < h.book.dust {
			continue // no operator renews so little
		}
		s, err := h.renewing(ctx, p)
		if err != nil {
			return fmt.Errorf("%s renews all: %w", p.name, err)
		}
		if want := sum - h.book.fee*int64(len(p.coins)); s.Amount != want {
			return fmt.Errorf("%s renewed %d sats to %d, not %d", p.name, sum, s.Amount, want)
		}
	}
	if err := h.check(ctx); err != nil {
		return err
	}
	for _, p := range h.phone {
		for id := range p.promises {
			if rec, err := h.site.run.ledger.Delegate(ctx, id); err == nil && len(rec.Leaves) > 0 {
				h.renewed++
			}
		}
	}
	if err := h.site.upkeep(ctx); err != nil {
		return err
	}
	return h.leaks()
}

// sweep spends what was unrolled, or was at the boarding address for too long, and
// boards what is left there.
func (h *history) sweep(ctx context.Context, p *phone) error {
	if len(p.onchain)+len(p.boarding) == 0 {
		return nil
	}
	s, err := p.w.Sweep(ctx, somewhere)
	if err != nil && (!errors.Is(err, client.ErrTooEarly) || len(p.onchain) > 0) {
		return fmt.Errorf("%s sweeps what is on chain: %w", p.name, err)
	}
	var sum int64
	for _, coins := range []map[wire.OutPoint]int64{p.onchain, p.boarding} {
		for op, sats := range coins {
			if tx, is := h.op.Chain().Spender(op); is && tx.Txid == s.Txid {
				sum += sats
				delete(coins, op)
			}
		}
	}
	if s.Amount+s.Fee != sum || len(p.onchain) > 0 {
		return fmt.Errorf("%s swept %d sats of %d, and %d coins stay on chain", p.name, s.Amount+s.Fee, sum, len(p.onchain))
	}
	p.total -= sum
	if err := h.op.Mine(1); err != nil || len(p.boarding) == 0 {
		return err
	}
	if _, err := p.w.Board(ctx); err != nil {
		return fmt.Errorf("%s boards what is left: %w", p.name, err)
	}
	return h.book.reconcile(ctx, h)
}

// leaks searches everything that was ever written to the key-value store and to
// Vigil's log for every secret that was ever stored, Vigil's and the devices'.
func (h *history) leaks() error {
	var s search.Searcher
	canary := secretOf(rand.Uint64())
	h.site.known.add("canary", canary)
	for name, values := range h.site.known.list {
		for i, v := range values {
			if strings.HasPrefix(name, "state") || strings.HasPrefix(name, "exit.") {
				continue // a device's, which holds nothing that is not public
			}
			if err := h.teach(&s, fmt.Sprintf("%s #%d", name, i), v); err != nil {
				return err
			}
		}
	}
	for _, p := range h.phone {
		if err := p.seed.Words(func(b []byte) error { return s.Add(p.name+"'s seed", secretOfBytes(b)) }); err != nil {
			return err
		}
	}
	for where, tape := range map[string]*tape{"key-value store": h.site.tape, "log": h.site.log} {
		if found := s.Text(where, tape.text.Bytes()); len(found) > 0 {
			return fmt.Errorf("secrets are in the %s: %v", where, found)
		}
	}
	h.secrets, h.searched = s.Secrets(), s.Bytes()
	_ = canary.Use(func(b []byte) error { // it is not burned
		return (&fusedKV{h.site.kv, &fuse{}, h.site.tape}).Update(context.Background(), func(w kv.Writer) error {
			return w.Put("canary", []byte("canary"), fmt.Appendf(nil, "%x", b))
		})
	})
	if found := s.Text("key-value store", h.site.tape.text.Bytes()); len(found) == 0 {
		return errors.New("a planted secret was not found")
	}
	return nil
}
