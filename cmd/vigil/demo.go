package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/secret/search"
)

// demoStates are the live states in which the demo can kill Vigil.
var demoStates = []string{"pending", "armed", "due", "registering", "registered", "joining", "submitted", "unconfirmed"}

type demoCmd struct {
	Dir    string `help:"Where the demo keeps what it makes; default a temporary folder that is removed." placeholder:"DIR" type:"path" env:"-"`
	Full   bool   `help:"Play a whole wallet's life: key, payments, delegates, crash, renewal, a new device, and the way out alone." env:"-"`
	KillAt string `help:"State in which Vigil is killed: ${demo_states}." enum:"${demo_states}" default:"registered" env:"-"`
}

// outcome is what `vigil demo --json` ends with.
type outcome struct {
	Renewed       bool    `json:"renewed"`
	KilledAtState string  `json:"killed_at_state"`
	PidBefore     int     `json:"pid_before"`
	PidAfter      int     `json:"pid_after"`
	VtxoBefore    string  `json:"vtxo_before"`
	VtxoAfter     string  `json:"vtxo_after"`
	Batch         string  `json:"batch"`
	KvDir         string  `json:"kv_dir"`
	Secrets       int     `json:"secrets_searched"`
	Bytes         int64   `json:"bytes_searched"`
	Canary        bool    `json:"canary_found"`
	Found         int     `json:"secret_bytes_found_in_kv"`
	Seconds       float64 `json:"seconds"`
}

// demonstration is one run: an operator and a device in this process, and Vigil
// as a child process of its own.
type demonstration struct {
	env      *environment
	ctx      context.Context
	exe      string // this executable
	kill     string
	dir      string
	op       *arktest.Operator
	child    *child
	device   *wallet.Wallet
	service  wallet.Service
	heard    *transcript   // every answer that Vigil gave
	key      bip340.PubKey // Vigil's
	before   ark.VTXO      // the coin to be renewed
	question wallet.Intent
	asked    time.Time
	out      outcome
	searcher search.Searcher
	leaks    []search.Finding
}

// Run shows the main job and proves it. Its error is non-nil unless the coins
// were renewed, the canary was found and no secret was.
func (c *demoCmd) Run(env *environment) (err error) {
	if c.Full {
		return c.runFull(env)
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(env.ctx, 2*time.Minute)
	defer cancel()
	d := &demonstration{env: env, ctx: ctx, kill: c.KillAt, dir: c.Dir}
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
	defer d.close()
	for _, act := range []func() error{d.begin, d.board, d.delegate, d.killVigil, d.restart, d.prove} {
		if err := act(); err != nil {
			return err
		}
	}
	d.out.Seconds = time.Since(started).Round(10 * time.Millisecond).Seconds()
	if env.json {
		if err := env.print(d.out, ""); err != nil {
			return err
		}
	}
	if !d.out.Renewed || !d.out.Canary || d.out.Found > 0 || len(d.leaks) > 0 {
		return errors.New("the demo did not show what it is to show")
	}
	d.say("Done in %.1f s. A delegate that was stored survived the crash, and fired without its owner.", d.out.Seconds)
	return nil
}

// say tells the story; with --json it goes to where it disturbs nobody.
func (d *demonstration) say(format string, args ...any) {
	w := d.env.stdout
	if d.env.json {
		w = d.env.stderr
	}
	fmt.Fprintf(w, format+"\n", args...)
}

func (d *demonstration) close() {
	if d.child != nil {
		d.child.kill()
	}
	if d.op != nil {
		d.op.Close()
	}
}

// begin starts the operator and sets Vigil up, as a process of its own.
func (d *demonstration) begin() (err error) {
	cfg := arktest.Config{Settings: arktest.Settings{SessionDuration: 3 * time.Second}}
	if d.kill == "unconfirmed" {
		cfg.BlockAfter, cfg.BlockEvery = -1, -1 // no block comes by itself
	}
	d.op, err = arktest.Start(cfg)
	if err != nil {
		return err
	}
	d.say("1. An Ark operator runs in this process, with a Bitcoin chain of its own. Its batch sessions take 3 s.")
	d.child, err = newChild(d.exe, d.dir, d.op.URL(), d.op.EsploraURL())
	if err != nil {
		return err
	}
	if err := d.child.init(d.ctx); err != nil {
		return err
	}
	if err := d.child.start(d.ctx); err != nil {
		return err
	}
	d.out.PidBefore = d.child.pid()
	d.heard = &transcript{}
	d.service = wallet.Service{URL: d.child.url(), Client: d.heard.client()}
	d.say("2. Vigil was set up and runs as process %d.", d.out.PidBefore)
	return nil
}

// board makes a device and gives it a coin whose script names Vigil.
func (d *demonstration) board() error {
	client, err := operator.Dial(operator.Config{URL: d.op.URL()})
	if err != nil {
		return err
	}
	key, scalar, err := bip340.GenerateKey()
	if err != nil {
		return err
	}
	if err := d.searcher.Add("the device's key", scalar); err != nil {
		return err
	}
	scalar.Burn()
	d.device = wallet.New(client, key, nil)
	info, err := d.service.Info(d.ctx)
	if err != nil {
		return err
	}
	to, err := d.device.Address(d.ctx, &info.Key)
	if err != nil {
		return err
	}
	onchain, err := d.device.BoardingAddress(d.ctx)
	if err != nil {
		return err
	}
	const sats = 100_000
	at, err := d.op.Faucet(onchain, sats)
	if err != nil {
		return err
	}
	if err := d.op.Mine(1); err != nil {
		return err
	}
	coin, ok := d.op.Chain().Output(at)
	if !ok {
		return errors.New("the faucet's coin is not on chain")
	}
	settled, err := d.boardOnce(to, wallet.BoardingCoin{Outpoint: at, Out: &coin})
	if err != nil {
		return fmt.Errorf("board: %w", err)
	}
	d.out.VtxoBefore = settled.Outputs[0].Outpoint.String()
	d.say("3. A device - somebody's phone - brought %d sats onto Ark. They are a VTXO now, %s.\n   It expires: unless somebody takes part in a new batch for it in time, the operator may take it.", sats, d.out.VtxoBefore)
	return nil
}

// boardOnce boards a coin, in the next batch when one fails: a session is short,
// and a busy machine misses one.
func (d *demonstration) boardOnce(to ark.Address, coin wallet.BoardingCoin) (wallet.Settled, error) {
	const tries = 6
	for try := 1; ; try++ {
		settled, err := d.device.Board(d.ctx, to, coin)
		if err == nil || try == tries {
			return settled, err
		}
		select {
		case <-time.After(time.Second):
		case <-d.ctx.Done():
			return wallet.Settled{}, err
		}
	}
}

// coin reads the device's one coin.
func (d *demonstration) coin() (ark.VTXO, error) {
	list, err := d.device.VTXOs(d.ctx)
	if err != nil {
		return ark.VTXO{}, err
	}
	if len(list) != 1 {
		return ark.VTXO{}, fmt.Errorf("the device has %d coins", len(list))
	}
	return list[0], nil
}

// delegate signs the renewal ahead and hands it to Vigil. What follows, the
// device has no part in.
func (d *demonstration) delegate() error {
	info, err := d.service.Info(d.ctx)
	if err != nil {
		return err
	}
	coin, err := d.coin()
	if err != nil {
		return err
	}
	d.key, d.before = info.Key, coin
	if err := d.ask(); err != nil {
		return err
	}
	wait := time.Second
	switch d.kill {
	case "armed":
		wait = 6 * time.Second
	case "due":
		wait = 3 * time.Second // the hold comes after the intake
	default:
		d.hold()
	}
	if err := d.hand(info, wait); err != nil {
		return err
	}
	switch d.kill {
	case "due":
		d.hold()
	case "pending":
		// A second one, while the first is being renewed, waits beside it.
		if err := errors.Join(d.await("joining"), d.hand(info, 2*wait)); err != nil {
			return err
		}
	}
	d.say("4. The device signed the renewal ahead, handed it to Vigil, and is switched off from here on.")
	return nil
}

// hand signs the renewal of the coin, to be carried out from then on, and hands
// it to Vigil.
func (d *demonstration) hand(info wallet.DelegateInfo, wait time.Duration) error {
	body, err := d.device.Delegate(d.ctx, []ark.VTXO{d.before}, info, wallet.DelegateOptions{ValidAt: time.Now().Add(wait)})
	if err != nil {
		return err
	}
	if err := d.service.Delegate(d.ctx, body); err != nil {
		return fmt.Errorf("delegate: %w", err)
	}
	return nil
}

// restart starts Vigil again over what the killed process left, and waits until
// the coin is renewed.
func (d *demonstration) restart() error {
	if err := d.child.start(d.ctx); err != nil {
		return err
	}
	d.out.PidAfter = d.child.pid()
	d.say("6. Vigil is started again, as process %d, with nothing but what it had stored.", d.out.PidAfter)
	if err := d.release(); err != nil {
		return err
	}
	if err := d.await("settled"); err != nil {
		return err
	}
	coin, err := d.coin()
	if err != nil {
		return err
	}
	d.out.VtxoAfter = coin.Outpoint.String()
	if len(coin.CommitmentTxs) == 1 {
		d.out.Batch = coin.CommitmentTxs[0].String()
	}
	d.out.Renewed = d.out.VtxoAfter != d.out.VtxoBefore && d.out.PidAfter != d.out.PidBefore && coin.Amount == d.before.Amount
	d.say("7. The coin is renewed: VTXO %s,\n   in the batch of commitment transaction %s. The device had no part in it.", d.out.VtxoAfter, d.out.Batch)
	return nil
}
