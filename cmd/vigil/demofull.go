package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/sealed"
)

// fullOutcome is what `vigil demo --full --json` ends with.
type fullOutcome struct {
	Wallet        string   `json:"wallet"`
	Address       string   `json:"address"`
	Boarded       int64    `json:"boarded"`
	PaidIn        int64    `json:"paid_in"`
	PaidOut       int64    `json:"paid_out"`
	Delegates     []string `json:"delegates"`
	KilledAtState string   `json:"killed_at_state"`
	PidBefore     int      `json:"pid_before"`
	PidAfter      int      `json:"pid_after"`
	Dust          int64    `json:"dust"`
	Before        []string `json:"vtxos_before"`
	After         []string `json:"vtxos_after"`
	Renewed       bool     `json:"renewed"`
	Recovered     bool     `json:"recovered_from_seed"`
	OldShutOut    bool     `json:"old_device_shut_out"`
	Unrolled      int      `json:"transactions_unrolled"`
	ClockMoved    int64    `json:"clock_moved_seconds"`
	Swept         int64    `json:"swept"`
	SweptTxid     string   `json:"swept_txid"`
	KvDir         string   `json:"kv_dir"`
	Secrets       int      `json:"secrets_searched"`
	Bytes         int64    `json:"bytes_searched"`
	Canary        bool     `json:"canary_found"`
	Found         int      `json:"secret_bytes_found"`
	Seconds       float64  `json:"seconds"`
}

// movedClock is the wall clock until it is moved.
type movedClock struct {
	arktest.SystemClock
	ahead atomic.Int64
}

// Now implements arktest.Clock.
func (m *movedClock) Now() time.Time { return time.Now().Add(time.Duration(m.ahead.Load())) }

// whole is the demo of a whole life: the cast of the small one, with a device that
// holds half a key, and a friend with a plain wallet.
type whole struct {
	demonstration
	full   fullOutcome
	clock  *movedClock
	mined  chan error // what came of the miner
	halt   context.CancelFunc
	seed   client.Seed
	phone  *client.Wallet
	store  *sealed.Store
	friend *wallet.Wallet
	pin    bip340.PubKey
	backup client.Backup
}

// runFull plays it.
func (c *demoCmd) runFull(env *environment) (err error) {
	started := time.Now()
	ctx, cancel := context.WithTimeout(env.ctx, 3*time.Minute)
	defer cancel()
	d := &whole{demonstration: demonstration{env: env, ctx: ctx, dir: c.Dir}}
	if d.exe, err = os.Executable(); err != nil {
		return err
	}
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "vigil-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	} else if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	defer d.end()
	for _, act := range []func() error{d.open, d.create, d.fill, d.pay, d.ahead, d.crash, d.again, d.second, d.alone, d.look} {
		if err := act(); err != nil {
			return err
		}
	}
	d.full.Seconds = time.Since(started).Round(10 * time.Millisecond).Seconds()
	if env.json {
		if err := env.print(d.full, ""); err != nil {
			return err
		}
	}
	if !d.full.Renewed || !d.full.Recovered || !d.full.OldShutOut || d.full.Swept == 0 || !d.full.Canary || d.full.Found > 0 {
		return errors.New("the demo did not show what it is to show")
	}
	d.say("Done in %.1f s.", d.full.Seconds)
	return nil
}

// end closes whatever is open.
func (d *whole) end() {
	d.off()
	if d.halt != nil {
		d.halt()
		<-d.mined
	}
	d.seed.Burn()
	d.close()
}

// open starts operator, chain and Vigil.
func (d *whole) open() (err error) {
	d.clock = &movedClock{}
	d.op, err = arktest.Start(arktest.Config{Clock: d.clock, Settings: arktest.Settings{SessionDuration: 6 * time.Second}})
	if err != nil {
		return err
	}
	// With a clock of one's own blocks come only when asked for.
	ctx, halt := context.WithCancel(d.ctx)
	d.halt, d.mined = halt, make(chan error, 1)
	go func() { d.mined <- d.op.Chain().Run(ctx, 500*time.Millisecond, 5*time.Second); close(d.mined) }()
	if d.child, err = newChild(d.exe, d.dir, d.op.URL(), d.op.EsploraURL()); err != nil {
		return err
	}
	d.child.flags = []string{"--registration", "open"}
	var made initialised
	if err := d.child.ask(d.ctx, &made, "init", "--operator-url", d.op.URL()); err != nil {
		return err
	}
	if d.pin, err = bip340.ParsePubKeyHex(made.HostKey); err != nil {
		return err
	}
	if err := d.child.start(d.ctx); err != nil {
		return err
	}
	d.full.PidBefore, d.heard = d.child.pid(), &transcript{}
	d.say("1. An Ark operator runs in this process, with a Bitcoin chain of its own. Vigil was set up and runs as process %d.", d.full.PidBefore)
	return nil
}

// device gives a device its place and whom it speaks to.
func (d *whole) device(name string) (client.Config, error) {
	dir := filepath.Join(d.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return client.Config{}, err
	}
	kek := filepath.Join(dir, "kek")
	if err := sealed.GenerateKeyFile(kek); err != nil && !errors.Is(err, os.ErrExist) {
		return client.Config{}, err
	}
	store, err := sealed.Open(d.ctx, filepath.Join(dir, "keys"), sealed.KeyFile(kek), sealed.Options{})
	if errors.Is(err, sealed.ErrMissing) {
		store, err = sealed.Create(d.ctx, filepath.Join(dir, "keys"), sealed.KeyFile(kek), sealed.Options{})
	}
	if err != nil {
		return client.Config{}, err
	}
	d.store = store
	return client.Config{
		Server: d.child.url(), HostKey: d.pin, Operator: d.op.URL(), Esplora: d.op.EsploraURL(),
		Store: store, HTTP: d.heard.client(), Now: d.clock.Now,
	}, nil
}

// off switches the device off.
func (d *whole) off() {
	if d.phone != nil {
		d.phone.Close()
		d.phone = nil
	}
	if d.store != nil {
		_ = d.store.Close()
		d.store = nil
	}
}

// create makes the key: each side has half of it, and nobody the whole.
func (d *whole) create() (err error) {
	if d.seed, err = client.NewSeed(); err != nil {
		return err
	}
	err = d.seed.Words(func(b []byte) error { return d.searcher.Add("the seed words", secret.New(slices.Clone(b))) })
	if err != nil {
		return err
	}
	cfg, err := d.device("phone")
	if err != nil {
		return err
	}
	if d.phone, err = client.Create(d.ctx, cfg, d.seed, client.CreateOptions{Name: "phone"}); err != nil {
		return err
	}
	to, err := d.phone.Address()
	if err != nil {
		return err
	}
	d.full.Wallet, d.full.Address = d.phone.ID().String(), to.String()
	d.say("2. A phone and Vigil made a key together, of which each has a share and nobody the whole.\n   Only when both had it safe, the phone showed the address %s.", to)
	return nil
}

// fill boards the wallet's first coin, and gives the friend some to pay with.
func (d *whole) fill() error {
	at, err := d.phone.BoardingAddress()
	if err != nil {
		return err
	}
	const sats = 100_000
	if _, err := d.op.Faucet(at, sats); err != nil {
		return err
	}
	if err := d.op.Mine(1); err != nil {
		return err
	}
	settled, err := d.batch(func() (client.Settled, error) { return d.phone.Board(d.ctx) })
	if err != nil {
		return fmt.Errorf("board: %w", err)
	}
	d.full.Boarded = settled.Amount
	d.say("3. %d sats were boarded: they are a VTXO now, in the batch of %s.", settled.Amount, settled.Commitment)
	// From here on batches live longer: the wallet's coins will expire at two times.
	if err := d.op.Update(func(s *arktest.Settings) { s.TreeExpiry = 4 * 2048 }); err != nil {
		return err
	}
	c, err := operator.Dial(operator.Config{URL: d.op.URL()})
	if err != nil {
		return err
	}
	key, scalar, err := bip340.GenerateKey()
	if err != nil {
		return err
	}
	scalar.Burn()
	d.friend = wallet.New(c, key, d.clock.Now)
	theirs, err := d.friend.Address(d.ctx, nil)
	if err != nil {
		return err
	}
	_, err = d.op.Mint(wire.NewTxOut(50_000, theirs.PkScript()))
	return errors.Join(err, d.op.Mine(1))
}

// batch repeats what a busy machine missed a session for.
func (d *whole) batch(f func() (client.Settled, error)) (s client.Settled, err error) {
	const tries = 6
	for range tries {
		if s, err = f(); err == nil {
			return s, nil
		}
		select {
		case <-time.After(time.Second):
		case <-d.ctx.Done():
			return s, errors.Join(err, d.ctx.Err())
		}
	}
	return s, err
}

// pay moves money both ways, off chain.
func (d *whole) pay() error {
	mine, err := d.phone.Address()
	if err != nil {
		return err
	}
	theirs, err := d.friend.Address(d.ctx, nil)
	if err != nil {
		return err
	}
	const in, out = 20_000, 30_000
	ctx, stop := context.WithTimeout(d.ctx, 20*time.Second)
	defer stop()
	incoming, err := d.phone.Incoming(ctx)
	if err != nil {
		return err
	}
	defer incoming.Close()
	if _, err := d.friend.Send(d.ctx, mine, in); err != nil {
		return fmt.Errorf("the friend pays: %w", err)
	}
	coin, err := incoming.Next(ctx)
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	d.full.PaidIn = coin.Amount
	if _, err := d.phone.Send(d.ctx, theirs, out); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	d.full.PaidOut = out
	d.say("4. A friend paid %d sats and was paid %d, at once and off chain. Vigil read every transaction before it gave its half of a signature.", d.full.PaidIn, out)
	return nil
}

// ahead has the phone sign its renewals and go.
func (d *whole) ahead() error {
	// What keeps Vigil where it is to be killed: a batch wants more participants
	// than there are.
	if err := d.op.Update(func(s *arktest.Settings) { s.MinParticipants = 3 }); err != nil {
		return err
	}
	list, err := d.phone.Delegate(d.ctx, client.DelegateOptions{At: d.clock.Now().Add(4 * time.Second)})
	if err != nil {
		return fmt.Errorf("delegate: %w", err)
	}
	for _, one := range list {
		d.full.Delegates = append(d.full.Delegates, one.ID.String())
		for _, op := range one.Coins {
			d.full.Before = append(d.full.Before, op.String())
		}
	}
	if _, err := d.phone.Keep(d.ctx); err != nil {
		return err
	}
	d.off()
	d.say("5. The phone signed renewals ahead, %d delegates for coins that expire at different times, and is switched off from here on.", len(list))
	to, err := ark.ParseAddress(d.full.Address)
	if err != nil {
		return err
	}
	const dust = 100
	if _, err := d.friend.Send(d.ctx, to, dust); err != nil {
		return fmt.Errorf("dust: %w", err)
	}
	d.full.Dust = dust
	d.say("6. Somebody sent %d sats of dust to the wallet. It disarms nothing.", dust)
	return nil
}

// inStates waits until every delegate is in one of the states, as Vigil's own
// operator sees them.
func (d *whole) inStates(states ...string) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		page, err := d.delegates()
		if err == nil && len(page.Delegates) >= len(d.full.Delegates) && !slices.ContainsFunc(page.Delegates, func(one admin.Delegate) bool { return !slices.Contains(states, one.State) }) {
			return nil
		}
		select {
		case <-tick.C:
		case <-d.ctx.Done():
			return fmt.Errorf("the delegates did not become %v: %+v (%v)", states, page.Delegates, err)
		}
	}
}

func (d *whole) delegates() (page admin.Page, err error) {
	err = d.child.ask(d.ctx, &page, "delegates", "list")
	page.Delegates = slices.DeleteFunc(page.Delegates, func(one admin.Delegate) bool { return !slices.Contains(d.full.Delegates, one.ID) })
	return page, err
}

// crash ends Vigil as a power cut does.
func (d *whole) crash() error {
	const state = "registered"
	if err := d.inStates(state); err != nil {
		return err
	}
	d.child.kill()
	page, err := d.delegates()
	if err != nil {
		return err
	}
	for _, one := range page.Delegates {
		if one.State != state {
			return fmt.Errorf("delegate %s is %s", one.ID, one.State)
		}
	}
	d.full.KilledAtState = state
	var report admin.Report
	if err := d.child.ask(d.ctx, &report, "fsck"); err != nil {
		return err
	}
	d.say("7. The coins' time has come, and Vigil is killed with SIGKILL while the delegates are %s. What it stored is sound: %d faults.", state, faults(report))
	return nil
}

// again starts Vigil over what is left, and waits for the renewals.
func (d *whole) again() error {
	if err := d.child.start(d.ctx); err != nil {
		return err
	}
	d.full.PidAfter = d.child.pid()
	if err := d.op.Update(func(s *arktest.Settings) { s.MinParticipants = 1 }); err != nil {
		return err
	}
	if err := d.inStates("settled"); err != nil {
		return err
	}
	d.say("8. Vigil is started again, as process %d, and renews the coins, with nobody home.", d.full.PidAfter)
	return nil
}

// second makes a new device of the seed words.
func (d *whole) second() error {
	cfg, err := d.device("second")
	if err != nil {
		return err
	}
	if d.phone, err = client.Recover(d.ctx, cfg, d.seed, client.RecoverOptions{Name: "second"}); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	coins, err := d.phone.VTXOs(d.ctx)
	if err != nil {
		return err
	}
	var sum int64
	for _, c := range coins {
		d.full.After = append(d.full.After, c.Outpoint.String())
		sum += c.Amount
	}
	d.full.Renewed = sum == d.full.Boarded+d.full.PaidIn-d.full.PaidOut+d.full.Dust &&
		!slices.ContainsFunc(d.full.Before, func(op string) bool { return slices.Contains(d.full.After, op) })
	d.full.Recovered = d.phone.ID().String() == d.full.Wallet
	kept, err := d.phone.Keep(d.ctx)
	if err != nil {
		return fmt.Errorf("keep: %w", err)
	}
	if d.backup, err = d.phone.Export(d.ctx); err != nil {
		return err
	}
	d.off()
	d.say("9. The phone is lost. A new one has the wallet back from the seed words: %d sats, all there. It fetched the branches made meanwhile, and signed %d new delegates.", sum, len(kept.Delegated))
	return d.shutOut()
}

// shutOut tries the lost phone.
func (d *whole) shutOut() error {
	cfg, err := d.device("phone")
	if err != nil {
		return err
	}
	if d.phone, err = client.Open(d.ctx, cfg); err != nil {
		return err
	}
	_, err = d.phone.Coverage(d.ctx)
	d.full.OldShutOut = vigil.CodeOf(err) == vigil.CodeIdentityFrozen
	d.off()
	d.say("   Whoever finds the old one gets nothing of Vigil: %v.", err)
	return nil
}

// alone leaves with neither Vigil nor operator.
func (d *whole) alone() error {
	if err := d.gather(); err != nil {
		return err
	}
	d.child.kill()
	d.halt()
	if err := <-d.mined; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	d.op.Down()
	d.say("10. Vigil is killed for good, and the operator is gone too. What is left: the seed words, a backup without secrets, and the chain.")
	l, err := client.NewLeave(client.LeaveConfig{Backup: d.backup, Esplora: d.op.EsploraURL(), Now: d.clock.Now}, d.seed)
	if err != nil {
		return err
	}
	defer l.Burn()
	purse, err := l.FeeAddress()
	if err != nil {
		return err
	}
	if _, err := d.op.Faucet(purse, 100_000); err != nil {
		return err
	}
	if err := d.unroll(l); err != nil {
		return err
	}
	const wait = 91 * 24 * time.Hour
	d.clock.ahead.Add(int64(wait))
	if err := d.op.Chain().CatchUp(); err != nil {
		return err
	}
	d.full.ClockMoved = int64(wait.Seconds())
	swept, err := l.Sweep(d.ctx, "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080")
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	if err := d.op.Mine(1); err != nil {
		return err
	}
	if n, ok := d.op.Chain().Confirmations(swept.Txid); !ok || n == 0 {
		return errors.New("the sweep is not in the chain")
	}
	d.full.Swept, d.full.SweptTxid = swept.Amount, swept.Txid.String()
	d.say("    %d transactions brought the coins on chain. The recovery key waits 90 days: the chain's clock was moved by 91 days, and then\n    it swept %d sats, in %s. What real nodes' relay rules say to the packages is not tried here.", d.full.Unrolled, swept.Amount, swept.Txid)
	return nil
}

// unroll brings the coins on chain, a block at a time.
func (d *whole) unroll(l *client.Leave) error {
	const blocks = 60
	for range blocks {
		if err := d.op.Chain().Mine(1); err != nil {
			return err
		}
		list, err := l.Unroll(d.ctx)
		if err != nil && !errors.Is(err, client.ErrFeeCoin) {
			return err
		}
		done, n := true, 0
		for _, p := range list {
			if p.Err != nil {
				return fmt.Errorf("%s: %w", p.Outpoint, p.Err)
			}
			done, n = done && p.OnChain(), n+p.Steps
		}
		if done && len(list) > 0 {
			d.full.Unrolled = n
			return nil
		}
	}
	return errors.New("the coins do not come on chain")
}

// sealedSecrets teaches the searcher what a device has.
func (d *whole) sealedSecrets(name string) error {
	if _, err := d.device(name); err != nil {
		return err
	}
	defer d.off()
	names, err := d.store.List(d.ctx, "")
	if err != nil {
		return err
	}
	for _, n := range names {
		if !slices.Contains([]string{"identity", "host.0", "share.0"}, n) {
			continue // state and exit data are no secrets
		}
		value, err := d.store.Get(d.ctx, n)
		if err != nil {
			return err
		}
		if err := d.searcher.Add(name+" "+n, value); err != nil {
			return err
		}
		value.Burn()
	}
	return nil
}

// encodedBackup is the backup as a file has it.
func (d *whole) encodedBackup() ([]byte, error) { return json.Marshal(d.backup) }
