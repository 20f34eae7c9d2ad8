//go:build crashpoints

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
	"golang.org/x/sync/errgroup"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/search"
)

// What TestCrash does by default is what CI has time for. VIGIL_CRASH_PAIRS is
// the number of random pairs of crashes (default 24), VIGIL_CRASH_SEED repeats a
// run's choice of them, VIGIL_CRASH_WIDTH is how many stories are played at once
// (default 12: nearly all of each is waiting for the operator's sessions).

// TestCrash counts the durable writes of one whole renewal - start, intake over
// REST, renewal to settled, graceful stop - and then plays it again for every
// point before and after a write, with Vigil killed by SIGKILL there and started
// again over the same stores: with one delegate, with two of two owners in one
// batch, and for random pairs with a second crash in the recovery. A write that
// is added to the code is covered unasked, since the points are counted anew.
func TestCrash(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	c := &crashes{t: t, ctx: ctx, exe: executable(t), dir: t.TempDir(), states: map[delegate.State]int{}, names: map[string]int{}}
	c.limit(12)
	seed := uint64(number(t, "VIGIL_CRASH_SEED", int(rand.Uint32())))
	pairs := number(t, "VIGIL_CRASH_PAIRS", 24)

	one, two := plot{owners: 1}, plot{owners: 2}
	// Intake, ripe, registering, registered, joining, submitted, unconfirmed and
	// settled are the least that there can be.
	counts := [2]int{len(c.count(one, 2*8).points), len(c.count(two, 2*8).points)}
	if t.Failed() {
		return
	}
	for i, p := range []plot{one, two} {
		for at := 1; at <= counts[i]; at++ {
			c.play(p, at)
		}
	}
	random := rand.New(rand.NewPCG(seed, 0))
	for range pairs {
		i := random.IntN(2)
		// What comes after a crash passes fewer points than a whole renewal.
		c.play([]plot{one, two}[i], 1+random.IntN(counts[i]), 1+random.IntN(10))
	}
	if err := c.group.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("points: %d with one delegate, %d with two; %d pairs with seed %d; kills by point %v, by state found %v; %d secrets searched for in %d bytes",
		counts[0], counts[1], pairs, seed, c.names, c.states, c.secrets, c.bytes)
	for s := delegate.Armed; s <= delegate.Settled; s++ {
		if c.states[s] == 0 {
			t.Errorf("no crash left a delegate %s", s)
		}
	}
	if !c.canary {
		t.Error("the search for secrets does not find a planted one")
	}
}

// TestCrashInit kills `vigil init` at every write, and wants the next one to set
// up one whole Vigil, and the one after that to be refused.
func TestCrashInit(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	op, err := arktest.Start(arktest.Config{NoEsplora: true})
	if err != nil {
		t.Fatal(err)
	}
	defer op.Close()
	set := func(name string, env ...string) (*child, error) {
		c := &child{exe: executable(t), dir: filepath.Join(t.TempDir(), name), operator: op.URL()}
		cmd := c.command(ctx, "init", "--operator-url", op.URL())
		cmd.Env = append(cmd.Env, env...)
		return c, cmd.Run()
	}
	log := filepath.Join(t.TempDir(), "points")
	if _, err := set("whole", "VIGIL_CRASH_LOG="+log); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	points := bytes.Count(text, []byte("\n"))
	// Two stores, the ledger, the key, its note and the operator.
	if points < 2*6 {
		t.Fatalf("only %q", text)
	}
	for at := 1; at <= points; at++ {
		t.Run(strconv.Itoa(at), func(t *testing.T) {
			c, err := set("cut", "VIGIL_CRASH_AT="+strconv.Itoa(at))
			if !killed(err) {
				t.Fatalf("not killed: %v", err)
			}
			err = c.init(ctx)
			// After the last write there is nothing left to be done.
			if whole := at == points; whole != (err != nil) {
				t.Fatalf("the next init: %v", err)
			}
			if err := c.init(ctx); err == nil || !strings.Contains(err.Error(), "exists") {
				t.Fatalf("a Vigil was set up twice: %v", err)
			}
			s, err := c.places().open(testEnvironment(t, ctx), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			report, secrets, err := s.check(ctx)
			if err != nil || !report.Clean() || secrets != 2 {
				t.Fatalf("%d secrets, %v, fsck: %s", secrets, err, report)
			}
			noted, err := s.ledger.ServiceKeys(ctx)
			if err != nil || len(noted) != 1 {
				t.Fatalf("noted keys %v, %v", noted, err)
			}
			if err := s.missingKeys(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := s.ledger.Operator(ctx); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Logf("%d points", points)
}

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

// crashes are all the stories of a test.
type crashes struct {
	t        *testing.T
	ctx      context.Context
	exe, dir string
	group    errgroup.Group

	mu      sync.Mutex
	stories int
	ports   map[string]bool        // that stories have
	states  map[delegate.State]int // in which a crash left a delegate
	names   map[string]int         // of the points that killed
	secrets int
	bytes   int64
	canary  bool
}

func (c *crashes) limit(width int) { c.group.SetLimit(number(c.t, "VIGIL_CRASH_WIDTH", width)) }

// plot is what a story is about.
type plot struct {
	owners int                // who have a stock wallet
	acts   func(*phone) []act // of a wallet with a share of Vigil's; nil: there is none
	still  bool               // no block comes by itself
}

// participants are how many a batch wants at the beginning: two delegates must meet
// in one, and a wallet's is to wait until it is let go.
func (p plot) participants() int {
	if p.acts != nil {
		return 2
	}
	return p.owners
}

func (p plot) String() string {
	if p.acts != nil {
		return "a wallet"
	}
	return fmt.Sprintf("%d delegates", p.owners)
}

// counted is what a story without a crash went through.
type counted struct {
	points []string // that were passed
	acts   []passage
}

// count plays a story without a crash.
func (c *crashes) count(p plot, least int) (n counted) {
	c.t.Helper()
	s, err := c.story(p)
	if err == nil {
		defer s.op.Close()
		err = s.tell(c.ctx)
	}
	if err != nil {
		c.t.Errorf("%s without a crash: %v", p, err)
		return n
	}
	n.points = s.passed()
	if len(n.points) < least {
		c.t.Errorf("%s passed only %q", p, n.points)
	}
	if s.phone != nil {
		n.acts = s.phone.passages
	}
	return n
}

// play plays a story with crashes at the points given, one for each life.
func (c *crashes) play(p plot, at ...int) {
	c.group.Go(func() error {
		s, err := c.story(p, at...)
		if err == nil {
			defer s.op.Close()
			err = s.tell(c.ctx)
		}
		if err != nil {
			text := []byte("no log")
			if s != nil {
				text, _ = os.ReadFile(s.child.logPath) // there is none before the first start
			}
			c.t.Errorf("%s, crash at %v: %v\n%s", p, at, err, text)
			return nil
		}
		return os.RemoveAll(s.dir) // dozens of stores would wait for the test's end
	})
}

// story is one renewal: an operator, owners, and a Vigil that dies on the way.
type story struct {
	c      *crashes
	dir    string
	at     []int
	env    *environment
	op     *arktest.Operator
	child  *child
	ended  error // of the last process, once child.ended is closed
	owners []*owned
	phone  *phone          // nil without a wallet
	felled bool            // the test itself killed the process
	kept   map[string]bool // forfeits that were seen stored beside their branch
}

// owned is one owner's coin and delegate.
type owned struct {
	id       vigil.DelegateID
	key      secret.Bytes
	coin     wire.OutPoint
	script   []byte
	body     wallet.DelegateRequest
	answered bool // a POST was answered with 2xx
}

func (c *crashes) story(p plot, at ...int) (_ *story, err error) {
	c.mu.Lock()
	c.stories++
	dir := filepath.Join(c.dir, strconv.Itoa(c.stories))
	c.mu.Unlock()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	s := &story{c: c, dir: dir, at: at, kept: map[string]bool{}}
	s.env = &environment{ctx: c.ctx, stdin: os.Stdin, stdout: io.Discard, stderr: io.Discard, log: slog.New(slog.DiscardHandler), level: new(slog.LevelVar)}
	set := arktest.Config{Settings: arktest.Settings{SessionDuration: 3 * time.Second, MinParticipants: p.participants(), BanDuration: ban}}
	if p.still {
		set.BlockAfter, set.BlockEvery = -1, -1
	}
	s.op, err = arktest.Start(set)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.op.Close()
		}
	}()
	if s.child, err = newChild(c.exe, dir, s.op.URL(), s.op.EsploraURL()); err != nil {
		return nil, err
	}
	if err := c.own(s.child); err != nil {
		return nil, err
	}
	var made initialised
	if err := s.child.ask(c.ctx, &made, "init", "--operator-url", s.op.URL()); err != nil {
		return nil, err
	}
	key, err := bip340.ParsePubKeyHex(made.ServiceKey)
	if err != nil {
		return nil, err
	}
	if p.acts != nil {
		s.child.flags = []string{"--registration", "open"}
		if s.phone, err = s.newPhone(made.HostKey); err != nil {
			return nil, err
		}
		s.phone.acts = p.acts(s.phone)
	}
	for range p.owners {
		o, err := s.owner(key)
		if err != nil {
			return nil, err
		}
		s.owners = append(s.owners, o)
	}
	return s, nil
}

// own gives a story's Vigil a port that no other story has: its own is free again
// whenever it has died.
func (c *crashes) own(v *child) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ports == nil {
		c.ports = map[string]bool{}
	}
	for c.ports[v.listen] && err == nil {
		var port string
		port, err = freePort()
		v.listen = net.JoinHostPort("127.0.0.1", port)
	}
	c.ports[v.listen] = true
	return err
}

// ban is short, so that one who crashed twice while joining need not wait long.
const ban = 8 * time.Second

// owner makes an owner with a coin and a delegate that is due at once.
func (s *story) owner(service bip340.PubKey) (_ *owned, err error) {
	client, err := operator.Dial(operator.Config{URL: s.op.URL()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	key, scalar, err := bip340.GenerateKey()
	if err != nil {
		return nil, err
	}
	w := wallet.New(client, key, nil)
	to, err := w.Address(s.c.ctx, &service)
	if err != nil {
		return nil, err
	}
	if _, err := s.op.Mint(wire.NewTxOut(100_000, to.PkScript())); err != nil {
		return nil, err
	}
	coins, err := w.VTXOs(s.c.ctx)
	if err != nil || len(coins) != 1 {
		return nil, fmt.Errorf("minted %v: %w", coins, err)
	}
	o := &owned{key: scalar, coin: coins[0].Outpoint, script: to.PkScript()}
	o.body, err = w.Delegate(s.c.ctx, coins, wallet.DelegateInfo{Key: service}, wallet.DelegateOptions{ValidAt: time.Now().Add(-10 * time.Second)})
	if err != nil {
		return nil, err
	}
	req, err := delegate.ParseStock(delegate.StockBody{Message: o.body.Intent.Message, Proof: o.body.Intent.Proof, Forfeits: o.body.ForfeitTxs}, delegate.StockLimits{Inputs: 128, Outputs: 8})
	if err != nil {
		return nil, err
	}
	o.id = req.ID()
	return o, nil
}

// tell plays the story to its end, life after life, and holds what must hold
// after each.
func (s *story) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for lives := 0; ; lives++ {
		at := 0
		if lives < len(s.at) {
			at = s.at[lives]
		}
		died, err := s.live(ctx, at)
		s.child.kill()
		if err == nil {
			err = s.inspect(ctx, died)
		}
		if err != nil {
			return fmt.Errorf("life %d: %w", lives+1, err)
		}
		if !died {
			return s.judge(ctx)
		}
	}
}

// live is one process of Vigil, from its start to its death at the point given,
// or else to a graceful stop once everything is settled.
func (s *story) live(ctx context.Context, at int) (died bool, err error) {
	if err := s.start(at); err != nil {
		return false, err
	}
	defer func() {
		select {
		case <-s.child.ended:
			died = (at > 0 || s.felled) && killed(s.ended)
			s.felled = false
		case <-time.After(5 * time.Second):
		}
		switch {
		case died:
			err = nil // what was asked of it meanwhile failed by its death
		case err == nil && s.ended != nil:
			err = fmt.Errorf("vigil serve ended: %w", s.ended)
		}
	}()
	if err := s.await(ctx, func() (bool, error) {
		resp, err := http.Get(s.child.url() + "/readyz")
		if err != nil {
			return false, nil
		}
		return resp.StatusCode == http.StatusOK, resp.Body.Close()
	}); err != nil {
		return false, fmt.Errorf("readyz: %w", err)
	}
	if s.phone != nil {
		err = s.phone.live(ctx)
	} else {
		err = s.delegate(ctx)
	}
	if err != nil {
		return false, fmt.Errorf("%w; %s", err, s.standing())
	}
	if err := s.child.cmd.Process.Signal(os.Interrupt); err != nil {
		return false, err
	}
	return false, s.await(ctx, func() (bool, error) { return false, nil })
}

// delegate has every owner delegate, and waits until all is renewed.
func (s *story) delegate(ctx context.Context) error {
	service := wallet.Service{URL: s.child.url()}
	for _, o := range s.owners {
		if o.answered {
			continue // an owner who was told "stored" is gone for good
		}
		if err := service.Delegate(ctx, o.body); err != nil {
			return fmt.Errorf("post: %w", err)
		}
		o.answered = true
	}
	if err := s.await(ctx, s.settled(ctx, len(s.owners))); err != nil {
		return fmt.Errorf("settled: %w", err)
	}
	return nil
}

// start starts serve, to be killed at the point given, if any.
func (s *story) start(at int) error {
	log, err := os.OpenFile(s.child.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	c := s.child
	args := []string{"--log", "debug", "serve", "--listen", c.listen, "--esplora-url", c.esplora, "--ban-duration", ban.String()}
	c.cmd = c.command(context.WithoutCancel(s.c.ctx), append(args, c.flags...)...)
	c.cmd.Env = append(c.cmd.Env, "VIGIL_CRASH_LOG="+s.points())
	if at > 0 {
		c.cmd.Env = append(c.cmd.Env, "VIGIL_CRASH_AT="+strconv.Itoa(at))
	}
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := errors.Join(c.cmd.Start(), log.Close()); err != nil {
		return err
	}
	c.ended = make(chan struct{})
	go func() {
		s.ended = c.cmd.Wait()
		close(c.ended)
	}()
	return nil
}

func (s *story) points() string { return filepath.Join(s.dir, "points") }

// passed lists the points that were passed, as "N name".
func (s *story) passed() (lines []string) {
	text, err := os.ReadFile(s.points())
	if err != nil {
		return nil
	}
	for in := bufio.NewScanner(bytes.NewReader(text)); in.Scan(); {
		lines = append(lines, in.Text())
	}
	return lines
}

func killed(err error) bool {
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// await looks until cond holds or the process has ended.
func (s *story) await(ctx context.Context, cond func() (bool, error)) error {
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-s.child.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settled asks the running Vigil whether so many delegates are settled.
func (s *story) settled(ctx context.Context, n int) func() (bool, error) {
	return s.stand(ctx, delegate.Settled, n)
}

// stand asks the running Vigil whether so many delegates are in a state.
func (s *story) stand(ctx context.Context, state delegate.State, n int) func() (bool, error) {
	var client *admin.Client
	return func() (bool, error) {
		if client == nil {
			var err error
			if client, err = admin.Dial(ctx, s.child.places().socket()); err != nil {
				client = nil
				return false, nil //nolint:nilerr // not there yet, or any more
			}
		}
		page, err := client.Delegates(ctx, admin.Query{State: state.String()})
		return err == nil && len(page.Delegates) == n, nil
	}
}

// standing tells how the delegates stand, for who has to find out why.
func (s *story) standing() string {
	client, err := admin.Dial(s.c.ctx, s.child.places().socket())
	if err != nil {
		return err.Error()
	}
	page, err := client.Delegates(s.c.ctx, admin.Query{})
	return fmt.Sprintf("%+v, %v; the operator's queue: %+v", page.Delegates, err, s.op.Stats().Queue)
}

// inspect looks at what a process left: the stores are sane, nothing that was
// answered is missing, and no secret lies where it must not.
func (s *story) inspect(ctx context.Context, died bool) (err error) {
	// A process that is forked meanwhile would hold the stores' locks with us.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := s.leaks(); err != nil {
		return err
	}
	stores, err := s.child.places().open(s.env, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stores.Close()) }()
	report, _, err := stores.check(ctx)
	if err != nil {
		return err
	}
	if !report.Clean() {
		return fmt.Errorf("fsck: %s", report)
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for _, o := range s.owners {
		rec, err := stores.ledger.Delegate(ctx, o.id)
		switch {
		case errors.Is(err, ledger.ErrNotFound) && !o.answered:
			continue
		case err != nil:
			return fmt.Errorf("a delegate whose POST was answered: %w", err)
		}
		if died {
			s.c.states[rec.State]++
		}
	}
	if s.phone != nil {
		if err := s.phone.inspect(ctx, stores, died); err != nil {
			return err
		}
	}
	if lines := s.passed(); died && len(s.at) > 0 && len(lines) > 0 {
		_, name, _ := strings.Cut(lines[len(lines)-1], " ")
		s.c.names[name]++
	}
	return s.keep(ctx, stores)
}

// leaks searches store and log for every secret that there is.
func (s *story) leaks() error {
	var searcher search.Searcher
	p := s.child.places()
	if err := addSecrets(s.env, &searcher, p); err != nil {
		return err
	}
	for _, o := range s.owners {
		if err := searcher.Add("an owner's key", o.key); err != nil {
			return err
		}
	}
	if s.phone != nil {
		if err := s.phone.secrets(&searcher); err != nil {
			return err
		}
	}
	found, err := searcher.FS(os.DirFS(p.kvDir()))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(s.child.logPath)
	if err != nil {
		return err
	}
	if found = append(found, searcher.Text("the log", text)...); len(found) > 0 {
		return fmt.Errorf("secrets leaked: %v", found)
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.secrets += searcher.Secrets()
	s.c.bytes += searcher.Bytes()
	if !s.c.canary {
		s.c.canary, err = search.Prove(p.kvDir(), filepath.Join(s.dir, "canary"))
	}
	return err
}

// keep remembers every forfeit that is stored with the branch of its commitment.
func (s *story) keep(ctx context.Context, stores *stores) error {
	return ledger.Inspect(ctx, stores.kv, func(snap *ledger.Snapshot) error {
		return snap.Branches(func(b *delegate.Branch) error {
			for _, f := range b.Forfeits {
				s.kept[base64.StdEncoding.EncodeToString(f.PSBT)] = true
			}
			return nil
		})
	})
}

// judge holds the end of the story: each coin renewed exactly once, in the
// operator's books, on the chain and in Vigil's.
func (s *story) judge(ctx context.Context) (err error) {
	syscall.ForkLock.RLock() // as in inspect
	defer syscall.ForkLock.RUnlock()
	stores, err := s.child.places().open(s.env, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stores.Close()) }()
	stats := s.op.Stats()
	if len(stats.Queue) > 0 {
		return fmt.Errorf("the operator's queue still holds %v", stats.Queue)
	}
	if s.phone != nil {
		if err := s.phone.judge(ctx, stores); err != nil {
			return err
		}
	}
	rows := map[vigil.DelegateID]int{}
	if err := ledger.Inspect(ctx, stores.kv, func(snap *ledger.Snapshot) error {
		return snap.History(func(e *ledger.Entry) error {
			if e.Type == "settle" {
				rows[e.Delegate]++
			}
			return nil
		})
	}); err != nil {
		return err
	}
	if len(rows) != len(s.owners) {
		return fmt.Errorf("history of %d delegates", len(rows))
	}
	for _, o := range s.owners {
		rec, err := stores.ledger.Delegate(ctx, o.id)
		if err != nil {
			return err
		}
		if rec.State != delegate.Settled || rows[o.id] != 1 {
			return fmt.Errorf("%s is %s with %d rows of history", o.id, rec.State, rows[o.id])
		}
		if err := s.once(o, rec, stats); err != nil {
			return fmt.Errorf("%s: %w", o.id, err)
		}
	}
	return nil
}

// once holds that exactly one confirmed commitment spends the coin, that it was
// forfeited once for it, and that no forfeit left whose branch was not stored.
func (s *story) once(o *owned, rec *delegate.Record, stats arktest.Stats) error {
	var spends []arktest.Batch
	for _, b := range stats.Batches {
		if b.Broadcast && slices.Contains(b.NeedForfeit, o.coin) {
			spends = append(spends, b)
		}
	}
	if len(spends) != 1 || spends[0].Commitment != rec.Commitment.String() || spends[0].Forfeits[o.coin] != 1 {
		return fmt.Errorf("renewed by %+v; want once, by %s", spends, rec.Commitment)
	}
	if n, known := s.op.Chain().Confirmations(rec.Commitment); !known || n < 1 {
		return fmt.Errorf("%s has %d confirmations", rec.Commitment, n)
	}
	if v, ok := s.op.VTXO(o.coin); !ok || !v.Spent || v.SettledBy != rec.Commitment.String() {
		return fmt.Errorf("the operator's book says %+v; want settled by %s", v, rec.Commitment)
	}
	if len(rec.Leaves) != 1 || !slices.Contains(spends[0].Outputs, rec.Leaves[0]) {
		return fmt.Errorf("leaves %v are not among %v", rec.Leaves, spends[0].Outputs)
	}
	if v, ok := s.op.VTXO(rec.Leaves[0]); !ok || v.Spent || v.Amount != 100_000 || !bytes.Equal(v.PkScript(), o.script) {
		return fmt.Errorf("the new coin is %+v", v)
	}
	// A branch whose attempt failed within the life that settled is gone with it:
	// its commitment is on the watch list.
	sent := map[string]bool{}
	for _, f := range stats.Forfeits[o.coin] {
		sent[f] = true
	}
	maps.DeleteFunc(sent, func(f string, _ bool) bool { return s.kept[f] })
	if len(sent) > len(rec.Watch) {
		return fmt.Errorf("%d forfeits left without a stored branch", len(sent))
	}
	return nil
}
