//go:build crashpoints

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/grpc/codes"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/secret/search"
	"github.com/vigil-ark/vigil/secret/secrettest"
)

// TestCrashWallet is TestCrash for a wallet half of whose key is Vigil's. Two
// stories: one from the delegate on, which is replaced while it is queued, to
// settled, with the device off; and one of all that device and server do with each
// other: making the key, a payment, delegates, a refresh, a healing one, a new
// device of the seed. At every durable write of either Vigil is killed by SIGKILL
// and started again; the device does again what it was about, as its owner would.
// Besides, it is killed in every live state of a renewal, in which the operator
// keeps it.
//
// CI has time for all points of the renewal and every seventh of the second story,
// from another one at every run; VIGIL_CRASH_ALL hits all of them, VIGIL_CRASH_SEED
// those of a run before.
func TestCrashWallet(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	c := &crashes{t: t, ctx: ctx, exe: executable(t), dir: t.TempDir(), states: map[delegate.State]int{}, names: map[string]int{}}
	c.limit(12)
	seed := number(t, "VIGIL_CRASH_SEED", int(time.Now().Unix()%1000))
	away, home := plot{acts: (*phone).away}, plot{acts: (*phone).home}
	// Of a delegate: two proofs and a forfeit signed, the id, the delegate; twice; and
	// a renewal. Of the rest: a key made, signatures, two refreshes and a recovery.
	renewal, ceremonies := c.count(away, 2*16), c.count(home, 2*16)
	if t.Failed() {
		return
	}
	hit, of := map[string]int{}, map[string]int{}
	all := os.Getenv("VIGIL_CRASH_ALL") != ""
	play := func(p plot, acts []passage, every map[string]int) {
		for _, a := range acts {
			for at := a.from + 1; at <= a.to; at++ {
				of[a.name]++
				if n := cmp.Or(every[a.name], every[""]); all || (at+seed)%n == 0 {
					hit[a.name]++
					c.play(p, at)
				}
			}
		}
	}
	if len(renewal.acts) == 0 || len(ceremonies.acts) == 0 {
		return
	}
	first := slices.IndexFunc(renewal.acts, func(a passage) bool { return a.name == "delegate" })
	for _, h := range pauses() { // which wait longest
		c.play(plot{acts: h.story, still: h.state == delegate.Unconfirmed})
	}
	// What comes before the first is in the other story, and so is most of it. Odd
	// steps: points before and after a write take turns.
	play(away, renewal.acts[first:], map[string]int{"delegate": 5, "replace": 3, "": 1})
	play(home, ceremonies.acts, map[string]int{"": 7})
	if err := c.group.Wait(); err != nil {
		t.Error(err)
	}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		t.Logf("%-12s %2d of %2d points", name, hit[name], of[name])
		if hit[name] == 0 {
			t.Errorf("no crash in %q", name)
		}
	}
	t.Logf("killed by point %v, state found %v; seed %d; %d secrets searched for in %d bytes", c.names, c.states, seed, c.secrets, c.bytes)
	for s := delegate.Pending; s <= delegate.Unconfirmed; s++ {
		if c.states[s] == 0 {
			t.Errorf("no crash left a delegate %s", s)
		}
	}
	if !c.canary {
		t.Error("the search for secrets does not find a planted one")
	}
}

// act is one thing that an owner does with a wallet. It can be done again until
// it has succeeded.
type act struct {
	name string
	do   func(ctx context.Context) error
}

// passage says which points a story without a crash passed during an act.
type passage struct {
	name     string
	from, to int
}

// phone is a device and its owner, who outlive every crash of Vigil.
type phone struct {
	s      *story
	host   bip340.PubKey
	seed   client.Seed
	stores []*secrettest.Memory // of this device, and of those before
	wallet *client.Wallet
	friend *wallet.Wallet
	coin   wire.OutPoint // renewed by Vigil
	script []byte

	acts     []act
	done     int // acts that have succeeded
	passages []passage
	told     map[vigil.DelegateID]bool // delegates that Vigil said it has stored
	last     []vigil.DelegateID        // those of them that nothing has replaced
}

const (
	funds   = 100_000 // satoshis that a wallet begins with
	payment = 10_000
)

func (s *story) newPhone(host string) (*phone, error) {
	key, err := bip340.ParsePubKeyHex(host)
	if err != nil {
		return nil, err
	}
	p := &phone{s: s, host: key, stores: []*secrettest.Memory{secrettest.NewMemory()}, told: map[vigil.DelegateID]bool{}}
	if p.seed, err = client.NewSeed(); err != nil {
		return nil, err
	}
	c, err := operator.Dial(operator.Config{URL: s.op.URL()})
	if err != nil {
		return nil, err
	}
	theirs, scalar, err := bip340.GenerateKey()
	if err != nil {
		return nil, err
	}
	scalar.Burn()
	p.friend = wallet.New(c, theirs, nil)
	return p, nil
}

// away is the story with the device off.
func (p *phone) away() []act {
	return []act{
		{"create", p.create},
		{"fund", p.fund},
		{"delegate", func(ctx context.Context) error { return p.ahead(ctx, time.Now().Add(-10*time.Second)) }},
		{"queue", func(ctx context.Context) error { return p.await(ctx, p.s.stand(ctx, delegate.Registered, 1)) }},
		// It is pending until the older one is taken back.
		{"replace", func(ctx context.Context) error {
			return p.ahead(ctx, time.Now().Add(-5*time.Second), p.coin)
		}},
		{"take back", func(ctx context.Context) error {
			p.off()
			registered, pending := p.s.stand(ctx, delegate.Registered, 1), p.s.stand(ctx, delegate.Pending, 0)
			return p.await(ctx, func() (bool, error) {
				if ok, err := pending(); !ok {
					return false, err
				}
				return registered()
			})
		}},
		{"renew", func(ctx context.Context) error {
			if err := p.s.op.Update(func(set *arktest.Settings) { set.MinParticipants = 1 }); err != nil {
				return err
			}
			return p.await(ctx, p.s.settled(ctx, 1))
		}},
	}
}

// pause is a state in which the operator keeps a renewal.
type pause struct {
	state delegate.State
	by    arktest.Fault // nothing: its settings do
}

// pauses are all live states. How a delegate comes to be pending: one that has
// joined a batch is replaced.
func pauses() []pause {
	hung := arktest.Fault{Method: "SubmitTreeNonces", Hang: true}
	return []pause{
		{state: delegate.Armed},
		{state: delegate.Due, by: arktest.Fault{Method: "GetVtxos", Code: codes.Unavailable}},
		{state: delegate.Registering, by: arktest.Fault{Method: "RegisterIntent", LoseAnswer: true}},
		{state: delegate.Registered},
		{state: delegate.Joining, by: hung},
		{state: delegate.Pending, by: hung},
		{state: delegate.Submitted, by: arktest.Fault{Method: "SubmitSignedForfeitTxs", LoseAnswer: true}},
		{state: delegate.Unconfirmed},
	}
}

// story is that of a renewal in whose state Vigil is killed.
func (h pause) story(p *phone) []act {
	open := func() error { return p.s.op.Update(func(set *arktest.Settings) { set.MinParticipants = 1 }) }
	in := func(ctx context.Context, s delegate.State) error { return p.await(ctx, p.s.stand(ctx, s, 1)) }
	return []act{
		{"create", p.create},
		{"fund", p.fund},
		{"delegate", func(ctx context.Context) error {
			soon := 2 * time.Second // the operator's answers are needed until it is stored
			if h.state == delegate.Armed {
				soon = 4 * time.Second
			}
			return p.ahead(ctx, time.Now().Add(soon))
		}},
		{"hold", func(ctx context.Context) error {
			if h.by.Method != "" {
				p.s.op.Fault(h.by)
			}
			if h.state == delegate.Pending || h.state >= delegate.Joining {
				if err := open(); err != nil {
					return err
				}
			}
			if h.state != delegate.Pending {
				return in(ctx, h.state)
			}
			if err := in(ctx, delegate.Joining); err != nil {
				return err
			}
			return p.ahead(ctx, time.Now().Add(-time.Second), p.coin)
		}},
		{"kill", func(ctx context.Context) error {
			if err := in(ctx, h.state); err != nil {
				return err
			}
			p.done++
			p.s.felled = true
			p.s.child.kill()
			return errDied
		}},
		{"renew", func(ctx context.Context) error {
			p.off()
			p.s.op.ClearFaults()
			err := open()
			if h.state == delegate.Unconfirmed {
				err = errors.Join(err, p.s.op.Mine(1))
			}
			if err != nil {
				return err
			}
			return p.await(ctx, p.s.settled(ctx, 1))
		}},
	}
}

// home is the story of what device and server do with each other.
func (p *phone) home() []act {
	cover := func(ctx context.Context) error { return p.ahead(ctx, later()) }
	return []act{
		{"create", p.create},
		{"fund", p.fund},
		{"pay", p.pay},
		{"delegate", cover},
		{"refresh", p.refresh(nil)},
		{"heal", p.refresh(&p.seed)},
		{"recover", p.recover},
		{"sign", func(ctx context.Context) error { return p.ahead(ctx, later(), p.coins(ctx)...) }},
	}
}

// later is when a delegate may run that is not to run in this test.
func later() time.Time { return time.Now().Add(15 * time.Minute) }

// live has the owner go on where a Vigil that died left off.
func (p *phone) live(ctx context.Context) error {
	for p.done < len(p.acts) {
		a, from := p.acts[p.done], len(p.s.passed())
		if err := a.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		p.passages = append(p.passages, passage{a.name, from, len(p.s.passed())})
		p.done++
	}
	return nil
}

// errDied is what an act ends with that waited for a Vigil that is gone.
var errDied = errors.New("vigil died")

func (p *phone) await(ctx context.Context, cond func() (bool, error)) error {
	if err := p.s.await(ctx, cond); err != nil {
		return err
	}
	if ok, err := cond(); !ok {
		return cmp.Or(err, errDied)
	}
	return nil
}

func (p *phone) config() client.Config {
	return client.Config{
		Server: p.s.child.url(), HostKey: p.host, Operator: p.s.op.URL(), Esplora: p.s.op.EsploraURL(),
		Store: p.stores[len(p.stores)-1], RetryWait: time.Millisecond,
	}
}

func (p *phone) off() {
	if p.wallet != nil {
		p.wallet.Close()
		p.wallet = nil
	}
}

// on takes the device up again.
func (p *phone) on(ctx context.Context) (err error) {
	if p.wallet == nil {
		p.wallet, err = client.Open(ctx, p.config())
	}
	return err
}

func (p *phone) create(ctx context.Context) (err error) {
	p.wallet, err = client.Create(ctx, p.config(), p.seed, client.CreateOptions{})
	if errors.Is(err, client.ErrExists) { // only the word that it was done was lost
		return p.on(ctx)
	}
	return err
}

// fund gives the wallet its coin.
func (p *phone) fund(context.Context) error {
	if p.coin != (wire.OutPoint{}) {
		return nil
	}
	to, err := p.wallet.Address()
	if err != nil {
		return err
	}
	p.script = to.PkScript()
	made, err := p.s.op.Mint(wire.NewTxOut(funds, p.script))
	if err != nil {
		return err
	}
	p.coin = made[0]
	return nil
}

// ahead signs a renewal of the coins ahead, or of those that none covers. What the
// owner cannot know to be stored is signed again.
func (p *phone) ahead(ctx context.Context, at time.Time, coins ...wire.OutPoint) error {
	if err := p.on(ctx); err != nil {
		return err
	}
	if len(coins) > 0 {
		p.last = nil
	}
	made, err := p.wallet.Delegate(ctx, client.DelegateOptions{At: at, Coins: coins})
	for _, d := range made {
		p.told[d.ID], p.last = true, append(p.last, d.ID)
	}
	if err != nil {
		return err
	}
	// A Vigil that died may have stored one of which it told nobody.
	known, err := p.wallet.Delegates(ctx)
	if err != nil {
		return err
	}
	for _, d := range known {
		p.told[d.ID] = true
	}
	found, err := p.wallet.VTXOs(ctx)
	if err != nil {
		return err
	}
	for _, c := range found {
		if !c.Covered {
			return fmt.Errorf("coin %s is not covered: %s", c.Outpoint, c.Why)
		}
	}
	return nil
}

func (p *phone) coins(ctx context.Context) (list []wire.OutPoint) {
	found, err := p.wallet.VTXOs(ctx)
	if err != nil {
		return nil
	}
	for _, c := range found {
		list = append(list, c.Outpoint)
	}
	return list
}

// pay pays the friend, once: an owner who was told of an error looks first.
func (p *phone) pay(ctx context.Context) error {
	if err := p.on(ctx); err != nil {
		return err
	}
	to, err := p.friend.Address(ctx, nil)
	if err != nil {
		return err
	}
	if got, err := p.received(ctx); err != nil || got > 0 {
		return err
	}
	_, err = p.wallet.Send(ctx, to, payment)
	return err
}

func (p *phone) received(ctx context.Context) (sats int64, err error) {
	coins, err := p.friend.VTXOs(ctx)
	for _, c := range coins {
		sats += c.Amount
	}
	return sats, err
}

// refresh changes the shares. Before one that broke off is taken up, both sides
// sign: there is an epoch that both have.
func (p *phone) refresh(seed *client.Seed) func(context.Context) error {
	began := false
	return func(ctx context.Context) error {
		if err := p.on(ctx); err != nil {
			return err
		}
		if began {
			if err := p.ahead(ctx, later(), p.coins(ctx)...); err != nil {
				return fmt.Errorf("in the middle of a refresh: %w", err)
			}
		}
		began = true
		return p.wallet.Refresh(ctx, seed)
	}
}

// recover makes a new device of the seed.
func (p *phone) recover(ctx context.Context) (err error) {
	p.off()
	p.stores = append(p.stores, secrettest.NewMemory())
	p.wallet, err = client.Recover(ctx, p.config(), p.seed, client.RecoverOptions{})
	return err
}

// secrets adds what the devices hold.
func (p *phone) secrets(searcher *search.Searcher) error {
	for i, store := range p.stores {
		names, err := store.List(p.s.c.ctx, "")
		if err != nil {
			return err
		}
		for _, name := range names {
			if name == "state" || strings.HasPrefix(name, "exit.") {
				continue // public, and at Vigil too
			}
			value, err := store.Get(p.s.c.ctx, name)
			if err != nil {
				return err
			}
			if err := searcher.Add(fmt.Sprintf("%s of device %d", name, i), value); err != nil {
				return err
			}
		}
	}
	return nil
}

// inspect looks at what a process left of the wallet. The caller holds the lock.
func (p *phone) inspect(ctx context.Context, stores *stores, died bool) error {
	for _, id := range p.last {
		if _, err := stores.ledger.Delegate(ctx, id); err != nil {
			return fmt.Errorf("a delegate that was told to be stored: %w", err)
		}
	}
	if !died {
		return nil
	}
	return ledger.Inspect(ctx, stores.kv, func(snap *ledger.Snapshot) error {
		return snap.Records(func(rec *delegate.Record) error {
			p.s.c.states[rec.State]++
			return nil
		})
	})
}

// judge holds the end of the story: one wallet, its coin there, under one live
// delegate or renewed once; and nothing left of what broke off.
func (p *phone) judge(ctx context.Context, stores *stores) error {
	defer p.off()
	if counts, err := stores.ledger.WalletCounts(ctx); err != nil || counts[ledger.WalletActive] != 1 || counts[ledger.WalletPending] != 0 {
		return fmt.Errorf("%v wallets, %w", counts, err)
	}
	live, settled := map[wire.OutPoint][]vigil.DelegateID{}, []*delegate.Record(nil)
	if err := ledger.Inspect(ctx, stores.kv, func(snap *ledger.Snapshot) error {
		return snap.Records(func(rec *delegate.Record) error {
			if rec.State == delegate.Settled {
				settled = append(settled, rec)
			}
			for _, in := range rec.Inputs {
				if rec.State.Live() {
					live[in.Outpoint] = append(live[in.Outpoint], rec.ID)
				}
			}
			return nil
		})
	}); err != nil {
		return err
	}
	for op, ids := range live {
		if len(ids) > 1 {
			return fmt.Errorf("coin %s is under %v", op, ids)
		}
	}
	if p.acts[len(p.acts)-1].name == "renew" {
		if len(settled) != 1 || len(live) > 0 || !p.told[settled[0].ID] {
			return fmt.Errorf("%d delegates settled, %v are live", len(settled), live)
		}
		p.s.owners = []*owned{{id: settled[0].ID, coin: p.coin, script: p.script, answered: true}}
		return nil // the rest is judged as of any owner's
	}
	got, err := p.received(ctx)
	if err != nil || got != payment {
		return fmt.Errorf("the friend was paid %d sats, %w", got, err)
	}
	w, err := stores.ledger.Wallet(ctx, p.id())
	if err != nil {
		return err
	}
	held, err := stores.ledger.VTXOsOf(ctx, w.ID)
	if err != nil {
		return err
	}
	have := int64(0)
	for _, h := range held {
		if h.Fate == ledger.Unspent {
			have += h.Amount
			if len(live[h.Outpoint]) != 1 {
				return fmt.Errorf("coin %s is under no delegate", h.Outpoint)
			}
		}
	}
	if have != funds-payment || len(w.Epochs) != 1 || w.Active < 2 {
		return fmt.Errorf("the wallet has %d sats, epoch %d of %d", have, w.Active, len(w.Epochs))
	}
	free := slices.DeleteFunc(slices.Clone(w.Identities), func(i ledger.Identity) bool { return i.FrozenAt > 0 })
	if len(free) != 1 {
		return fmt.Errorf("%d devices are not frozen", len(free))
	}
	return nil
}

func (p *phone) id() vigil.WalletID { return p.wallet.ID() }
