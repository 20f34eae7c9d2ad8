package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/search"
	"github.com/vigil-ark/vigil/stock"
)

// demoStates are the live states in which the demo can kill Vigil.
var demoStates = []string{"armed", "due", "registering", "registered", "joining", "submitted"}

type demoCmd struct {
	Dir    string `help:"Where the demo keeps what it makes; default a temporary folder that is removed." placeholder:"DIR" type:"path"`
	KillAt string `help:"State in which Vigil is killed: ${demo_states}." enum:"${demo_states}" default:"registered"`
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
	kill     string
	dir      string
	op       *arktest.Operator
	child    *child
	device   *wallet.Wallet
	service  wallet.Service
	key      bip340.PubKey // Vigil's
	before   ark.VTXO      // the coin to be renewed
	asked    time.Time
	question wallet.Intent
	out      outcome
}

// Run shows the main job and proves it. Its error is non-nil unless the coins
// were renewed, the canary was found and no secret was.
func (c *demoCmd) Run(env *environment) (err error) {
	started := time.Now()
	ctx, cancel := context.WithTimeout(env.ctx, 2*time.Minute)
	defer cancel()
	d := &demonstration{env: env, ctx: ctx, kill: c.KillAt, dir: c.Dir}
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "vigil-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
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
	if !d.out.Renewed || !d.out.Canary || d.out.Found > 0 {
		return errors.New("the demo did not show what it is to show")
	}
	d.say("Done in %.1f s.", d.out.Seconds)
	return nil
}

// say tells the story; with --json it goes to the log side.
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
	d.op, err = arktest.Start(arktest.Config{Settings: arktest.Settings{SessionDuration: 3 * time.Second}})
	if err != nil {
		return err
	}
	d.say("An Ark operator runs with a chain of its own (%s), sessions of 3 s.", d.op.URL())
	d.child, err = newChild(d.dir, d.op.URL())
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
	d.service = wallet.Service{URL: d.child.url()}
	d.say("Vigil runs as process %d at %s.", d.out.PidBefore, d.child.url())
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
	settled, err := d.device.Board(d.ctx, to, wallet.BoardingCoin{Outpoint: at, Out: &coin})
	if err != nil {
		return fmt.Errorf("board: %w", err)
	}
	d.out.VtxoBefore = settled.Outputs[0].Outpoint.String()
	d.say("The device boarded %d sats: VTXO %s. It expires, and somebody must renew it before.", sats, d.out.VtxoBefore)
	return nil
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
	d.hold()
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
	due := time.Now().Add(time.Second)
	if d.kill == "armed" {
		due = time.Now().Add(6 * time.Second)
	}
	body, err := d.device.Delegate(d.ctx, []ark.VTXO{coin}, info, wallet.DelegateOptions{ValidAt: due})
	if err != nil {
		return err
	}
	if err := d.service.Delegate(d.ctx, body); err != nil {
		return fmt.Errorf("delegate: %w", err)
	}
	d.say("The device signed the renewal ahead, handed it to Vigil, and is off from here on.")
	return nil
}

// hold makes the operator keep Vigil in the state in which it is to be killed.
func (d *demonstration) hold() {
	switch d.kill {
	case "due":
		d.op.Fault(arktest.Fault{Method: "GetVtxos", Code: codes.Unavailable})
	case "registering":
		d.op.Fault(arktest.Fault{Method: "RegisterIntent", LoseAnswer: true})
	case "registered":
		_ = d.op.Update(func(s *arktest.Settings) { s.MinParticipants = 2 }) // a round alone is abandoned
	case "joining":
		d.op.Fault(arktest.Fault{Method: "SubmitTreeNonces", Hang: true})
	case "submitted":
		d.op.Fault(arktest.Fault{Method: "SubmitSignedForfeitTxs", LoseAnswer: true})
	}
}

// release lets the operator work normally again.
func (d *demonstration) release() error {
	d.op.ClearFaults()
	return d.op.Update(func(s *arktest.Settings) { s.MinParticipants = 1 })
}

// killVigil waits for the state and ends the process as a power cut does.
func (d *demonstration) killVigil() error {
	if err := d.await(d.kill); err != nil {
		return err
	}
	d.out.KilledAtState = d.kill
	d.child.kill()
	d.say("Vigil is killed with SIGKILL while the delegate is %s.", d.kill)
	return d.release()
}

// await asks Vigil, as an owner may, until the delegate is in one of states.
func (d *demonstration) await(states ...string) error {
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for {
		state, err := d.state()
		if err == nil && slices.Contains(states, state) {
			return nil
		}
		if err == nil {
			last = state
		}
		select {
		case <-tick.C:
		case <-d.ctx.Done():
			return fmt.Errorf("the delegate did not become %v; it is %q (%v)", states, last, err)
		}
	}
}

// state asks Vigil for the delegate's state with the question that the device
// signed before it went off.
func (d *demonstration) state() (string, error) {
	var list struct {
		Delegates []struct {
			State string `json:"state"`
		} `json:"delegates"`
	}
	if time.Since(d.asked) > 20*time.Second {
		// A question is good for a minute; the demo asks in the owner's name.
		if err := d.ask(); err != nil {
			return "", err
		}
	}
	if err := d.service.Post(d.ctx, "/v1/delegates/list", d.question, &list); err != nil {
		return "", err
	}
	if len(list.Delegates) != 1 {
		return "", fmt.Errorf("Vigil knows %d delegates", len(list.Delegates))
	}
	return list.Delegates[0].State, nil
}

// ask signs the question for the owner's delegates.
func (d *demonstration) ask() (err error) {
	d.asked = time.Now()
	d.question, err = d.device.Prove(stock.ListMessage(d.key, d.asked), d.before)
	return err
}

// restart starts Vigil again over what the killed process left, and waits until
// the coin is renewed.
func (d *demonstration) restart() error {
	if err := d.child.start(d.ctx); err != nil {
		return err
	}
	d.out.PidAfter = d.child.pid()
	d.say("Vigil is started again as process %d, with nothing but what it had stored.", d.out.PidAfter)
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
	d.out.Renewed = d.out.VtxoAfter != d.out.VtxoBefore && d.out.PidAfter != d.out.PidBefore
	d.say("The coin is renewed: VTXO %s in batch %s. The device had no part in it.", d.out.VtxoAfter, d.out.Batch)
	return nil
}

// prove stops Vigil and searches everything that it stored and logged for every
// secret that it has.
func (d *demonstration) prove() error {
	if err := d.child.stop(d.ctx); err != nil {
		return err
	}
	searcher := new(search.Searcher)
	places := d.child.places()
	if err := addSecrets(d.env, searcher, places); err != nil {
		return err
	}
	d.out.KvDir = places.kvDir()
	found, err := searcher.FS(os.DirFS(d.out.KvDir))
	if err != nil {
		return err
	}
	d.out.Found = len(found)
	log, err := os.ReadFile(d.child.logPath)
	if err != nil {
		return err
	}
	if leaked := searcher.Text("the log", log); len(leaked) > 0 {
		return fmt.Errorf("the log leaks: %v", leaked)
	}
	d.out.Secrets, d.out.Bytes = searcher.Secrets(), searcher.Bytes()
	if d.out.Canary, err = search.Prove(d.out.KvDir, filepath.Join(d.dir, "canary")); err != nil {
		return err
	}
	d.say("%d secrets were looked for in %d bytes of store and log, in every encoding: %d found. A planted one was found: %t.",
		d.out.Secrets, d.out.Bytes, d.out.Found, d.out.Canary)
	return nil
}

// addSecrets teaches the searcher every secret of a Vigil, its key-encryption
// key included.
func addSecrets(env *environment, searcher *search.Searcher, p places) (err error) {
	ctx := env.ctx
	s, err := p.open(env, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	names, err := s.secrets.List(ctx, "")
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := s.secrets.Get(ctx, name)
		if err != nil {
			return err
		}
		if err := searcher.Add(name, value); err != nil {
			return err
		}
		value.Burn()
	}
	raw, err := os.ReadFile(p.keyFile())
	if err != nil {
		return err
	}
	return searcher.Add("key-encryption key", secret.New(raw))
}
