package client_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/grpc/codes"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/secret/search"
	"github.com/vigil-ark/vigil/secret/secrettest"
	"github.com/vigil-ark/vigil/signer"
)

// historyStep is one kind of thing that happens, and how often.
type historyStep struct {
	name   string
	weight int
	play   func(*history, context.Context, *rand.Rand) error
}

// calls are what a device does, alone or while something dies.
func calls() []historyStep {
	return []historyStep{
		{"receive", 4, (*history).receive},
		{"board", 2, (*history).board},
		{"send", 4, (*history).send},
		{"dust", 2, (*history).sendDust},
		{"delegate", 5, (*history).delegate},
		{"replace", 3, (*history).replace},
		{"cancel", 2, (*history).cancel},
		{"renew", 3, (*history).renew},
		{"refresh", 2, (*history).refresh},
		{"recover", 1, (*history).recover},
		{"keep", 2, (*history).keep},
		{"exit", 1, (*history).exit},
	}
}

func drawStep(r *rand.Rand) historyStep {
	return drawOf(r, append(calls(),
		historyStep{"unroll", 1, (*history).unroll},
		historyStep{"away", 5, (*history).leave},
		historyStep{"restart", 2, (*history).reboot},
		historyStep{"crash", 6, (*history).crash},
		historyStep{"rush", 4, (*history).rush},
		historyStep{"blind", 2, (*history).blind},
		historyStep{"lost answer", 2, (*history).loseAnswer},
		historyStep{"operator restarts", 1, (*history).operatorRestarts},
	))
}

func drawOf(r *rand.Rand, list []historyStep) historyStep {
	sum := 0
	for _, s := range list {
		sum += s.weight
	}
	n := r.IntN(sum)
	for _, s := range list {
		if n -= s.weight; n < 0 {
			return s
		}
	}
	return list[0]
}

// excused says whether a call may fail like this: for want of coins, or because
// something dies at the time or is in the middle of something.
func (h *history) excused(what string, err error) error {
	if err == nil {
		return nil
	}
	h.say("   %v", err)
	if h.rough {
		h.errs[what]++
		return nil
	}
	if errors.Is(err, client.ErrFunds) || errors.Is(err, client.ErrDust) {
		return nil
	}
	return err
}

func (h *history) any(r *rand.Rand) *phone {
	if p := h.phone[r.IntN(len(h.phone))]; h.only == nil {
		return p
	}
	return h.only
}

// sorted are the account's coins in an order that depends on amounts alone.
func (p *phone) sorted() []wire.OutPoint {
	var ops []wire.OutPoint
	for op := range p.coins {
		ops = append(ops, op)
	}
	slices.SortFunc(ops, func(a, b wire.OutPoint) int {
		return compare(p.coins[a], p.coins[b], bytes.Compare(a.Hash[:], b.Hash[:]))
	})
	return ops
}

func compare(a, b int64, otherwise int) int {
	if a != b {
		return int(max(min(a-b, 1), -1))
	}
	return otherwise
}

func (h *history) receive(_ context.Context, r *rand.Rand) error { return h.gift(h.any(r), r) }

// gift mints a coin.
func (h *history) gift(p *phone, r *rand.Rand) error {
	sats := 1_000 + r.Int64N(99_000)
	ops, err := h.op.Mint(wire.NewTxOut(sats, p.script))
	if err != nil {
		return err
	}
	h.say("   %s receives %d", p.name, sats)
	p.coins[ops[0]], p.seen[ops[0]] = sats, true
	p.total += sats
	return h.op.Mine(1)
}

// rich is somebody who has a coin, if need be by a gift.
func (h *history) rich(r *rand.Rand) (*phone, error) {
	p := h.any(r)
	if len(p.coins) > 0 {
		return p, nil
	}
	return p, h.gift(p, r)
}

// covered is somebody with a delegate that should be live, if need be a new one.
func (h *history) covered(ctx context.Context, r *rand.Rand) (*phone, vigil.DelegateID, bool, error) {
	p, err := h.rich(r)
	if err != nil {
		return p, vigil.DelegateID{}, false, err
	}
	id, ok := p.chosen(r)
	if !ok {
		err = h.delegates(ctx, p, client.DelegateOptions{Single: r.IntN(2) == 0})
		id, ok = p.chosen(r)
	}
	return p, id, ok, err
}

func (h *history) board(ctx context.Context, r *rand.Rand) error {
	p, sats := h.any(r), 1_000+r.Int64N(99_000)
	to, err := p.w.BoardingAddress()
	if err != nil {
		return err
	}
	at, err := h.op.Faucet(to, sats)
	if err != nil {
		return err
	}
	p.boarding[at] = sats
	p.total += sats
	if err := h.op.Mine(1); err != nil {
		return err
	}
	h.say("   %s boards %d", p.name, sats)
	_, err = p.w.Board(ctx)
	return h.excused("board", err)
}

// pay sends, and notes what may come of it.
func (h *history) pay(ctx context.Context, from, to *phone, sats int64) error {
	addr, err := to.w.Address()
	if err != nil {
		return h.excused("send", err)
	}
	h.say("   %s sends %d to %s", from.name, sats, to.name)
	p := &payment{from: from.account, to: to.account, sats: sats, may: true}
	h.book.payments = append(h.book.payments, p)
	_, err = from.w.Send(ctx, addr, sats)
	p.must = err == nil
	p.may = err == nil || h.rough
	return h.excused("send", err)
}

func (h *history) send(ctx context.Context, r *rand.Rand) error {
	from, err := h.rich(r)
	if err != nil {
		return err
	}
	var sum int64
	for _, sats := range from.coins {
		sum += sats
	}
	return h.pay(ctx, from, h.any(r), 1+r.Int64N(max(sum, 1)))
}

func (h *history) sendDust(ctx context.Context, r *rand.Rand) error {
	from, err := h.rich(r)
	if err != nil {
		return err
	}
	to := h.phone[0]
	if from == to {
		to = h.phone[1]
	}
	return h.pay(ctx, from, to, 1+r.Int64N(h.book.dust-1))
}

func (h *history) delegate(ctx context.Context, r *rand.Rand) error {
	p, err := h.rich(r)
	if err != nil {
		return err
	}
	opt := client.DelegateOptions{Single: r.IntN(2) == 0}
	if r.IntN(2) == 0 {
		opt.At = h.clock.Now().Add(time.Duration(5+r.IntN(900)) * time.Second)
	}
	return h.delegates(ctx, p, opt)
}

func (h *history) delegates(ctx context.Context, p *phone, opt client.DelegateOptions) error {
	list, err := p.w.Delegate(ctx, opt)
	h.promise(p, list...)
	if vigil.CodeOf(err) == vigil.CodeValidAtInvalid && !opt.At.IsZero() {
		return nil // later than a coin that expires soon
	}
	return h.excused("delegate", err)
}

// chosen is a delegate of the account's that should be live.
func (p *phone) chosen(r *rand.Rand) (id vigil.DelegateID, ok bool) {
	var ids []vigil.DelegateID
	for id, q := range p.promises {
		gone := slices.ContainsFunc(q.inputs, func(op wire.OutPoint) bool { _, is := p.coins[op]; return !is })
		if !q.replaced && !q.cancel && !q.unsure && !gone {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return id, false
	}
	slices.SortFunc(ids, func(a, b vigil.DelegateID) int {
		return compare(p.promises[a].at, p.promises[b].at, bytes.Compare(a[:], b[:]))
	})
	return ids[r.IntN(len(ids))], true
}

func (h *history) replace(ctx context.Context, r *rand.Rand) error {
	p, id, ok, err := h.covered(ctx, r)
	if err != nil || !ok {
		return err
	}
	opt := client.DelegateOptions{Coins: p.promises[id].inputs}
	if r.IntN(2) == 0 {
		opt.At = h.clock.Now().Add(time.Duration(5+r.IntN(900)) * time.Second)
	}
	return h.delegates(ctx, p, opt)
}

func (h *history) cancel(ctx context.Context, r *rand.Rand) error {
	p, id, ok, err := h.covered(ctx, r)
	if err != nil || !ok {
		return err
	}
	state, err := p.w.Cancel(ctx, id)
	h.say("   %s cancels a delegate, which is %q", p.name, state)
	p.promises[id].cancel, p.promises[id].unsure = err == nil, err != nil
	return h.excused("cancel", err)
}

func (h *history) renew(ctx context.Context, r *rand.Rand) error {
	p, err := h.rich(r)
	if err != nil {
		return err
	}
	ops := p.sorted()
	r.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
	if len(ops) > 0 {
		ops = ops[:1+r.IntN(len(ops))]
	}
	h.say("   %s renews %d coins", p.name, len(ops))
	_, err = h.renewing(ctx, p, ops...)
	return h.excused("renew", err)
}

// renewing renews, again when a batch failed: a busy machine is late now and then.
func (h *history) renewing(ctx context.Context, p *phone, ops ...wire.OutPoint) (s client.Settled, err error) {
	for range 4 {
		s, err = p.w.Renew(ctx, ops...)
		var failed *client.BatchError
		if !errors.As(err, &failed) {
			break
		}
	}
	return s, err
}

func (h *history) refresh(ctx context.Context, r *rand.Rand) error {
	p := h.any(r)
	var seed *client.Seed
	if r.IntN(2) == 0 {
		seed = &p.seed
	}
	h.say("   %s refreshes, healing %v", p.name, seed != nil)
	return h.excused("refresh", p.w.Refresh(ctx, seed))
}

// recover loses a device and makes another of its seed.
func (h *history) recover(ctx context.Context, r *rand.Rand) error {
	p := h.any(r)
	h.say("   %s loses the device", p.name)
	p.w.Close()
	h.rough, h.book.rough = true, "a device was lost"
	for {
		// What dies with the process of the new device is begun anew.
		p.store, p.fuse = secrettest.NewMemory(), &fuse{}
		w, err := client.Recover(ctx, h.config(p), p.seed, client.RecoverOptions{Name: "another"})
		if err == nil {
			p.w = w
			return nil
		}
		if errors.Is(err, client.ErrUnreachable) && !h.site.run.fuse.blown() {
			continue
		}
		if !h.site.run.fuse.blown() {
			return fmt.Errorf("%s does not recover: %w", p.name, err)
		}
		h.say("   Vigil died, and is started: %v", err)
		if err := h.restart(ctx, true); err != nil {
			return err
		}
	}
}

func (h *history) keep(ctx context.Context, r *rand.Rand) error {
	p := h.any(r)
	k, err := p.w.Keep(ctx)
	h.promise(p, k.Delegated...)
	h.say("   %s keeps: %d coins uncovered", p.name, k.Uncovered)
	return h.excused("keep", err)
}

// exit leaves Ark with some sats, or with all.
func (h *history) exit(ctx context.Context, r *rand.Rand) error {
	p, sats := h.any(r), int64(0)
	if r.IntN(2) == 0 {
		sats = h.book.dust + r.Int64N(20_000)
	}
	h.say("   %s leaves with %d", p.name, sats)
	p.leaving = true
	inArk := int64(0)
	for _, has := range p.coins {
		inArk += has
	}
	s, err := p.w.Exit(ctx, somewhere, sats)
	if err != nil || h.rough {
		return h.excused("exit", err)
	}
	return h.exited(ctx, p, s, inArk)
}

// exited holds the history to an exit: it is told as one, with what left and what
// the operator took.
func (h *history) exited(ctx context.Context, p *phone, s client.Settled, before int64) error {
	if err := h.check(ctx); err != nil {
		return err
	}
	after := int64(0)
	for _, has := range p.coins {
		after += has
	}
	var from []byte
	for {
		lines, next, err := p.w.History(ctx, from, 0)
		if err != nil {
			return err
		}
		for _, l := range lines {
			if l.Txid != s.Commitment.String() {
				continue
			}
			if l.Kind == "exit" && -l.Amount+l.Fee == before-after && l.Fee == s.Fee {
				return nil
			}
			return fmt.Errorf("%s left with %d of %d sats for a fee of %d, and its history says %+v", p.name, before-after, before, s.Fee, l)
		}
		if from = next; len(next) == 0 {
			return fmt.Errorf("%s's history does not tell of its exit in %s", p.name, s.Commitment)
		}
	}
}

// rush makes a delegate due and calls while it is carried out.
func (h *history) rush(ctx context.Context, r *rand.Rand) error {
	h.rough, h.book.rough = true, "a rush"
	call := drawOf(r, calls())
	p, id, ok, err := h.covered(ctx, r)
	if err != nil {
		return err
	}
	if ok {
		if wait := p.promises[id].at - h.clock.Now().Unix(); wait > 0 {
			if err := h.advance(ctx, time.Duration(wait+1)*time.Second); err != nil {
				return err
			}
		}
	}
	phase := []arktest.Phase{arktest.PhaseRegistration, arktest.PhaseConfirmation, arktest.PhaseNonces, arktest.PhaseSignatures, arktest.PhaseForfeits}[r.IntN(5)]
	h.say("   %s while a delegate of %s's is at %s", call.name, p.name, phase)
	brief, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = h.op.AwaitPhase(brief, phase) // it may not come: there is no delegate
	return call.play(h, ctx, r)
}

// blind has Vigil answer while the operator does not, and things change that it
// cannot know: the age that it states is true.
func (h *history) blind(ctx context.Context, r *rand.Rand) error {
	if h.rough {
		if err := h.check(ctx); err != nil {
			return err
		}
	}
	if err := h.receive(ctx, r); err != nil {
		return err
	}
	since := h.clock.Now().Unix()
	h.op.Fault(arktest.Fault{Method: "GetVtxos", Code: codes.Unavailable})
	defer h.op.ClearFaults()
	h.clock.Advance(time.Duration(3+r.IntN(60)) * time.Second)
	for _, p := range h.phone {
		c, err := p.w.Coverage(ctx)
		if err != nil {
			return err
		}
		if c.KnownAt > since {
			return fmt.Errorf("%s's coverage is known at %d, and since %d nobody could ask", p.name, c.KnownAt, since)
		}
		if until, some := h.book.safe(h, p.account, c.KnownAt); some && c.Until > until {
			return fmt.Errorf("%s is told to be safe until %d; by what was known at %d it is until %d", p.name, c.Until, c.KnownAt, until)
		}
	}
	return nil
}

// unroll brings a coin on chain, as anybody might.
func (h *history) unroll(ctx context.Context, r *rand.Rand) error {
	p, err := h.rich(r)
	if err != nil {
		return err
	}
	k, err := p.w.Keep(ctx)
	h.promise(p, k.Delegated...)
	if err := h.excused("keep", err); err != nil {
		return err
	}
	backup, err := p.w.Export(ctx)
	if err != nil || len(backup.Coins) == 0 {
		return h.excused("export", err)
	}
	l, err := client.NewLeave(client.LeaveConfig{Backup: backup, Esplora: h.op.EsploraURL(), Now: h.clock.Now}, p.seed)
	if err != nil {
		return err
	}
	defer l.Burn()
	at, err := l.FeeAddress()
	if err != nil {
		return err
	}
	if _, err := h.op.Faucet(at, 100_000); err != nil {
		return err
	}
	op, err := parseOutpoint(backup.Coins[r.IntN(len(backup.Coins))].Outpoint)
	if err != nil {
		return err
	}
	if p.coins[op] < h.book.dust {
		return nil // it would be burned
	}
	h.say("   %s unrolls %d", p.name, p.coins[op])
	h.rough, h.book.rough = true, "a coin was unrolled" // what was in flight fails
	for range 60 {
		if err := h.op.Mine(1); err != nil {
			return err
		}
		list, err := l.Unroll(ctx, op)
		if err != nil && !errors.Is(err, client.ErrFeeCoin) {
			return err
		}
		if len(list) == 0 || list[0].OnChain() {
			return nil
		}
		if list[0].Err != nil { // such as a batch that was swept
			h.say("   %v", list[0].Err)
			return nil
		}
	}
	return errors.New("the coin does not come on chain")
}

// leave lets time pass with all devices off.
func (h *history) leave(ctx context.Context, r *rand.Rand) error {
	if h.rough {
		if err := h.check(ctx); err != nil {
			return err
		}
	}
	d := time.Duration(60+r.IntN(1500)) * time.Second
	h.say("   %v pass", d)
	return h.away(ctx, d)
}

// away moves the clock in strides that give Vigil time to act, and holds what was
// said about coverage: until then no coin that was there is in danger.
func (h *history) away(ctx context.Context, d time.Duration) error {
	h.watch = nil
	for _, p := range h.phone {
		if err := h.coverage(ctx, p); err != nil {
			return err
		}
	}
	for end := h.clock.Now().Add(d); h.clock.Now().Before(end); {
		if err := h.advance(ctx, min(100*time.Second, end.Sub(h.clock.Now())+time.Second)); err != nil {
			return err
		}
		if err := h.quiet(ctx); err != nil {
			return err
		}
		if err := h.site.upkeep(ctx); err != nil {
			return err
		}
		if err := h.book.reconcile(ctx, h); err != nil {
			return err
		}
		now := h.clock.Now().Unix()
		for _, w := range h.watch {
			for op, sats := range w.a.coins {
				v, _ := h.op.VTXO(op)
				if now < w.until && sats >= h.book.dust && (v.Swept || v.ExpiresAt <= now) {
					rec, err := h.site.run.ledger.ByOutpoint(ctx, op)
					return fmt.Errorf("%s was told to be safe until %d, and its coin of %d sats expired at %d (swept %v), by now %d; its delegate is %+v, %v",
						w.a.name, w.until, sats, v.ExpiresAt, v.Swept, now, rec, err)
				}
			}
		}
	}
	h.watch = nil
	return nil
}

func (h *history) reboot(ctx context.Context, r *rand.Rand) error {
	if p := r.IntN(3); p < 2 {
		h.say("   %s's device", h.phone[p].name)
		return h.reopen(ctx, h.phone[p])
	}
	h.say("   Vigil")
	return h.restart(ctx, false)
}

// crash kills Vigil or a device at a write of a call, or while delegates are
// carried out.
func (h *history) crash(ctx context.Context, r *rand.Rand) error {
	h.rough, h.book.rough = true, "a crash"
	call, n, after := drawOf(r, calls()), 1+r.IntN(9), r.IntN(2) == 0
	switch r.IntN(3) {
	case 0:
		p := h.any(r)
		h.only = p
		defer func() { h.only = nil }()
		h.say("   %s's device at write %d, after %v, in %s", p.name, n, after, call.name)
		p.fuse.arm(n, after)
	case 1:
		h.say("   Vigil at write %d, after %v, in %s", n, after, call.name)
		h.site.run.fuse.arm(n, after)
	default:
		h.say("   Vigil at write %d, after %v, while what is due runs", n, after)
		h.site.run.fuse.arm(n, after)
		return h.advance(ctx, time.Duration(r.IntN(1200))*time.Second)
	}
	return call.play(h, ctx, r)
}

// loseAnswer has a call's first answers not arrive.
func (h *history) loseAnswer(ctx context.Context, r *rand.Rand) error {
	h.rough, h.book.rough = true, "a lost answer"
	call, n := drawOf(r, calls()), 1+r.Int64N(4)
	h.say("   %d of %s", n, call.name)
	h.site.run.answers.Store(n)
	defer h.site.run.answers.Store(0)
	return call.play(h, ctx, r)
}

// operatorRestarts loses the operator's queue and streams, while what is due runs.
func (h *history) operatorRestarts(ctx context.Context, r *rand.Rand) error {
	if err := h.advance(ctx, time.Duration(r.IntN(600))*time.Second); err != nil {
		return err
	}
	h.rough, h.book.rough = true, "the operator restarted"
	return h.op.Restart()
}

func parseOutpoint(text string) (op wire.OutPoint, err error) {
	parsed, err := wire.NewOutPointFromString(text)
	if err != nil {
		return op, err
	}
	return *parsed, nil
}

func secretOf(n uint64) secret.Bytes {
	return secret.New(binary.BigEndian.AppendUint64(bytes.Repeat([]byte{0x5a, 0xc3, 0x17}, 8), n))
}

func secretOfBytes(b []byte) secret.Bytes { return secret.New(bytes.Clone(b)) }

// teach makes the searcher look for a secret; for one that is put together, for
// its parts.
func (h *history) teach(s *search.Searcher, name string, v secret.Bytes) error {
	return signer.Parts(name, v, s.Add)
}
