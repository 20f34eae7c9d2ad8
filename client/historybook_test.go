package client_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
)

// account is one wallet as the model has it: what came, what went, what it must
// have now, and which delegates were signed. The model is told what was asked
// for, looks at the operator's coins and their causes alone, and knows nothing of
// what Vigil stores.
type account struct {
	name   string
	script []byte // its address'
	stray  []byte // the two-leaf script, at which nothing must ever lie

	total    int64                   // what it must have, in satoshis
	coins    map[wire.OutPoint]int64 // off-chain and unspent
	seen     map[wire.OutPoint]bool  // every VTXO that it ever had
	boarding map[wire.OutPoint]int64 // on chain, at its boarding address
	onchain  map[wire.OutPoint]int64 // unrolled
	limbo    map[string]int64        // what payments took that are not finalized, by txid
	promises map[vigil.DelegateID]*promise
	leaving  bool // it asked to leave Ark with something
}

// promise is a delegate that was signed and answered as stored.
type promise struct {
	inputs   []wire.OutPoint
	at       int64 // valid_at; 0: not known, its answer was lost
	cancel   bool  // taken back
	unsure   bool  // perhaps taken back: the answer was lost
	replaced bool
	last     delegate.State // as it was found
}

// payment is one call of Send.
type payment struct {
	from, to  *account
	sats      int64
	must, may bool // it succeeded; it has not come yet, and may
}

// book is all accounts with what is between them.
type book struct {
	accounts []*account
	payments []*payment
	fee      int64  // that the operator takes for each input of a batch
	dust     int64  // of the operator
	lasts    int64  // seconds that a new batch lasts
	rough    string // why delegates and payments may be there whose answer nobody has; "": nothing
}

func newAccount(name string, d *client.Wallet) *account {
	desc := d.Descriptor()
	return &account{
		name: name, script: desc.PkScript(), stray: desc.TwoLeaf().PkScript(),
		coins: map[wire.OutPoint]int64{}, seen: map[wire.OutPoint]bool{}, boarding: map[wire.OutPoint]int64{},
		onchain: map[wire.OutPoint]int64{}, limbo: map[string]int64{}, promises: map[vigil.DelegateID]*promise{},
	}
}

func (a *account) has() (sum int64) {
	for _, m := range []map[wire.OutPoint]int64{a.coins, a.boarding, a.onchain} {
		for _, sats := range m {
			sum += sats
		}
	}
	for _, sats := range a.limbo {
		sum += sats
	}
	return sum
}

// flow is what one transaction moved for one account.
type flow struct {
	in, out int64
	inputs  int64 // that a batch takes a fee for
	outs    []int64
}

// reconcile takes in what the operator says of all coins, and finds a cause that
// was asked for in everything that moved: nothing is lost, and nothing is made.
func (b *book) reconcile(ctx context.Context, h *history) (err error) {
	undo := b.remembered()
	defer func() {
		if err != nil {
			undo() // it may be looked at again
		}
	}()
	batches, txs := map[string]map[*account]*flow{}, map[string]map[*account]*flow{}
	at := func(m map[string]map[*account]*flow, cause string, a *account) *flow {
		if m[cause] == nil {
			m[cause] = map[*account]*flow{}
		}
		if m[cause][a] == nil {
			m[cause][a] = &flow{}
		}
		return m[cause][a]
	}
	for _, a := range b.accounts {
		list, err := h.ask.VTXOsByScript(ctx, [][]byte{a.script, a.stray}, operator.AnyState)
		if err != nil {
			return err
		}
		told := map[wire.OutPoint]bool{}
		for _, v := range list {
			told[v.Outpoint] = true
			if sats, is := a.coins[v.Outpoint]; is && sats != v.Amount {
				return fmt.Errorf("%s's coin %s has %d sats of %d", a.name, v.Outpoint, v.Amount, sats)
			}
			if !bytes.Equal(v.Script, a.script) {
				return fmt.Errorf("%s has a coin at %x", a.name, v.Script)
			}
			if !a.seen[v.Outpoint] {
				a.seen[v.Outpoint], a.coins[v.Outpoint] = true, v.Amount
				if err := b.born(a, v, func(m string) *flow {
					if m == "" {
						return at(batches, v.CommitmentTxs[0].String(), a)
					}
					return at(txs, m, a)
				}); err != nil {
					return err
				}
			}
			if _, is := a.coins[v.Outpoint]; !is {
				continue
			}
			switch {
			case v.Spent && v.SettledBy != "":
				f := at(batches, v.SettledBy, a)
				f.in, f.inputs = f.in+v.Amount, f.inputs+1
				delete(a.coins, v.Outpoint)
			case v.Spent && v.ArkTxid != "":
				at(txs, v.ArkTxid, a).in += v.Amount
				delete(a.coins, v.Outpoint)
			case v.Spent:
				return fmt.Errorf("%s's coin %s of %d sats is spent by %q, without a cause", a.name, v.Outpoint, v.Amount, v.SpentBy)
			case v.Unrolled:
				if err := b.unrolled(h, a, v); err != nil {
					return err
				}
			}
		}
		for op, sats := range a.coins {
			if !told[op] {
				return fmt.Errorf("%s's coin %s of %d sats is lost: the operator does not know it any more", a.name, op, sats)
			}
		}
		for op, sats := range a.boarding {
			if tx, is := h.op.Chain().Spender(op); is {
				at(batches, tx.Txid.String(), a).in += sats
				delete(a.boarding, op)
			}
		}
		for op, sats := range a.onchain {
			if _, is := h.op.Chain().Spender(op); is {
				return fmt.Errorf("%s's coin %s of %d sats, which is on chain, was spent", a.name, op, sats)
			}
		}
	}
	for cause, flows := range batches {
		for a, f := range flows {
			if left := f.in - f.out - b.fee*f.inputs; left != 0 && !b.left(h, cause, a, left) {
				return fmt.Errorf("batch %s took %d sats in %d VTXOs of %s and gave %d; the fee is %d for each", cause, f.in, f.inputs, a.name, f.out, b.fee)
			}
			a.total -= f.in - f.out
		}
	}
	for cause, flows := range txs {
		if err := b.paid(cause, flows); err != nil {
			return err
		}
	}
	return b.balanced()
}

// remembered returns what makes the book again as it is now.
func (b *book) remembered() (undo func()) {
	accounts, payments := make([]account, len(b.accounts)), make([]payment, len(b.payments))
	for i, a := range b.accounts {
		accounts[i] = *a
		a.coins, a.seen, a.boarding = maps.Clone(a.coins), maps.Clone(a.seen), maps.Clone(a.boarding)
		a.onchain, a.limbo = maps.Clone(a.onchain), maps.Clone(a.limbo)
	}
	for i, p := range b.payments {
		payments[i] = *p
	}
	return func() {
		for i, a := range b.accounts {
			*a = accounts[i]
		}
		for i, p := range b.payments {
			*p = payments[i]
		}
	}
}

// left says whether a batch paid sats on chain that the account wanted to leave
// with.
func (b *book) left(h *history, cause string, a *account, sats int64) bool {
	id, err := chainhash.NewHashFromStr(cause)
	if err != nil || !a.leaving {
		return false
	}
	tx, known := h.op.Chain().Tx(*id)
	return known && slicesIndex(tx.Msg.TxOut, sats) >= 0
}

// born notes where a new coin came from.
func (b *book) born(a *account, v ark.VTXO, cause func(string) *flow) error {
	if !v.Preconfirmed && len(v.CommitmentTxs) != 1 {
		return fmt.Errorf("%s's coin %s comes from %d batches", a.name, v.Outpoint, len(v.CommitmentTxs))
	}
	id := ""
	if v.Preconfirmed {
		id = v.Outpoint.Hash.String()
	}
	f := cause(id)
	f.out, f.outs = f.out+v.Amount, append(f.outs, v.Amount)
	return nil
}

// unrolled moves a coin to the chain, where it must be: but dust is an OP_RETURN
// there, which is what it is to whoever unrolls a transaction that pays some.
func (b *book) unrolled(h *history, a *account, v ark.VTXO) error {
	delete(a.coins, v.Outpoint)
	if v.Amount < b.dust {
		a.total -= v.Amount
		return nil
	}
	out, is := h.op.Chain().Output(v.Outpoint)
	if !is || out.Value != v.Amount || !bytes.Equal(out.PkScript, a.script) {
		return fmt.Errorf("%s's coin %s of %d sats is called unrolled, and is not on chain", a.name, v.Outpoint, v.Amount)
	}
	a.onchain[v.Outpoint] = v.Amount
	return nil
}

// paid finds the payment that a transaction is: exactly one that was asked for.
func (b *book) paid(cause string, flows map[*account]*flow) error {
	var in, out int64
	for a, f := range flows {
		if took, is := a.limbo[cause]; is { // what it took was seen before
			f.in += took
			delete(a.limbo, cause)
		}
		in, out = in+f.in, out+f.out
	}
	for _, a := range b.accounts { // an account that only paid may have been seen before
		if took, is := a.limbo[cause]; is {
			flows[a] = &flow{in: took}
			in += took
			delete(a.limbo, cause)
		}
	}
	if out == 0 {
		for a, f := range flows { // accepted and not finalized: whoever sent it finishes it
			a.limbo[cause] = f.in
		}
		return nil
	}
	if in != out {
		return fmt.Errorf("transaction %s took %d sats and gave %d", cause, in, out)
	}
	fits := func(p *payment) bool {
		from, to := flows[p.from], flows[p.to]
		if !p.may || from == nil || to == nil || from.in == 0 {
			return false
		}
		if p.from == p.to {
			return len(flows) == 1 && slices.Contains(from.outs, p.sats)
		}
		return from.in-from.out == p.sats && to.in == 0 && to.out == p.sats
	}
	at := slices.IndexFunc(b.payments, func(p *payment) bool { return p.must && fits(p) })
	if at < 0 {
		at = slices.IndexFunc(b.payments, fits)
	}
	if at < 0 {
		return fmt.Errorf("transaction %s is a payment that nobody asked for: %d sats", cause, in)
	}
	p := b.payments[at]
	p.must, p.may = false, false
	p.from.total -= p.sats
	p.to.total += p.sats
	return nil
}

// balanced holds that every account has what it must have.
func (b *book) balanced() error {
	for _, p := range b.payments {
		if p.must {
			return fmt.Errorf("%s was told that %d sats went to %s, and they did not come", p.from.name, p.sats, p.to.name)
		}
	}
	for _, a := range b.accounts {
		if has := a.has(); has != a.total {
			return fmt.Errorf("%s has %d sats of %d", a.name, has, a.total)
		}
	}
	return nil
}

// finalized holds that no payment hangs between its two halves.
func (b *book) finalized() error {
	for _, a := range b.accounts {
		if len(a.limbo) > 0 {
			return fmt.Errorf("%s's payments %v were accepted and are not finalized", a.name, a.limbo)
		}
	}
	return nil
}

// promised holds the delegates that Vigil stores to those that were signed, and to
// the coins: none is lost, none lives over a coin that is gone, and no coin is
// under two.
func (b *book) promised(ctx context.Context, led *ledger.Ledger) error {
	recs, _, err := led.List(ctx, ledger.Filter{}, 1000, nil)
	if err != nil {
		return err
	}
	stored := map[vigil.DelegateID]*delegate.Record{}
	covered := map[wire.OutPoint]vigil.DelegateID{}
	for _, rec := range recs {
		stored[rec.ID] = rec
		if !rec.State.Live() || rec.State == delegate.Pending {
			continue
		}
		for _, op := range rec.Outpoints() {
			if other, twice := covered[op]; twice {
				return fmt.Errorf("VTXO %s is under two live delegates, %s and %s", op, other, rec.ID)
			}
			covered[op] = rec.ID
		}
	}
	for _, a := range b.accounts {
		for _, rec := range recs {
			if !bytes.Equal(rec.Inputs[0].Script, a.script) {
				continue
			}
			p := a.promises[rec.ID]
			if p == nil {
				if b.rough == "" {
					return fmt.Errorf("%s has a delegate %s that it was not told of", a.name, rec.ID)
				}
				p = &promise{inputs: rec.Outpoints()}
				a.promises[rec.ID] = p
			}
			if p.at == 0 {
				p.at = rec.ValidAt
			}
		}
		for id, p := range a.promises {
			if err := a.kept(p, stored[id], stored); err != nil {
				return fmt.Errorf("%s's delegate %s: %w", a.name, id, err)
			}
		}
	}
	return nil
}

// kept holds one delegate to its promise, once all is quiet.
func (a *account) kept(p *promise, rec *delegate.Record, stored map[vigil.DelegateID]*delegate.Record) error {
	gone := slices.ContainsFunc(p.inputs, func(op wire.OutPoint) bool { _, is := a.coins[op]; return !is })
	if rec == nil {
		if gone && (p.replaced || p.cancel || p.unsure || p.last == delegate.Replaced || p.last == delegate.Cancelled) {
			return nil // nobody can replay it any more, so it is forgotten
		}
		return fmt.Errorf("it was stored, found as %s, and is lost", p.last)
	}
	p.last = rec.State
	switch {
	case rec.State.Live() && gone:
		return fmt.Errorf("it is %s, and a coin of it is gone", rec.State)
	case rec.State.Live() && p.cancel && rec.State != delegate.Pending:
		return fmt.Errorf("it was cancelled and is %s", rec.State)
	case rec.State.Live():
	case rec.State == delegate.Cancelled && (p.cancel || p.unsure):
	case rec.State == delegate.Replaced && (p.replaced || stored[rec.ReplacedBy] != nil):
	case rec.State == delegate.Settled || rec.State == delegate.Spent || rec.State == delegate.Broken:
		if !gone {
			return fmt.Errorf("it is %s, and all its coins are there", rec.State)
		}
	default:
		return fmt.Errorf("it is %s: %+v", rec.State, rec.LastError)
	}
	return nil
}

// stores holds what Vigil stores of coins to what the operator says, and both
// stores to each other.
func (b *book) stores(ctx context.Context, h *history) error {
	for _, a := range b.accounts {
		row, err := h.site.run.ledger.WalletByScript(ctx, a.script)
		if err != nil {
			return err
		}
		held, err := h.site.run.ledger.VTXOsOf(ctx, row.ID)
		if err != nil {
			return err
		}
		n := 0
		for _, v := range held {
			if v.Fate != ledger.Unspent {
				continue
			}
			n++
			if sats, is := a.coins[v.Outpoint]; !is || sats != v.Amount {
				return fmt.Errorf("the ledger has a coin %s of %d sats of %s's; it has %d", v.Outpoint, v.Amount, a.name, sats)
			}
			if o, is := h.op.VTXO(v.Outpoint); !is || o.ExpiresAt != v.ExpiresAt {
				return fmt.Errorf("%s's coin %s expires at %d; the ledger says %d", a.name, v.Outpoint, o.ExpiresAt, v.ExpiresAt)
			}
		}
		if n != len(a.coins) {
			return fmt.Errorf("the ledger has %d of %s's %d coins", n, a.name, len(a.coins))
		}
	}
	names, err := h.site.sec.List(ctx, "")
	if err != nil {
		return err
	}
	report, err := fsck.Check(ctx, h.site.kv, &fsck.Secrets{Names: names})
	if err != nil {
		return err
	}
	if !report.Clean() {
		return fmt.Errorf("fsck: %s", report)
	}
	return nil
}

// bare says whether something that matters is in danger at a time: a coin that has
// expired or was swept, or dust of which a batch would make a coin.
func (b *book) bare(h *history, a *account, now int64) bool {
	dust := int64(0)
	for op, sats := range a.coins {
		v, is := h.op.VTXO(op)
		if sats < b.dust {
			dust += sats
		} else if !is || v.Swept || v.ExpiresAt <= now {
			return true
		}
	}
	return dust >= b.dust
}

// safe is until when nothing can happen to the account's coins that were there at
// a time, if nobody does anything: those below dust apart, which nobody counts on.
// known says of a coin when it was made.
func (b *book) safe(h *history, a *account, at int64) (until int64, some bool) {
	for op, sats := range a.coins {
		v, is := h.op.VTXO(op)
		if !is || sats < b.dust || v.CreatedAt >= at {
			continue
		}
		safe := v.ExpiresAt
		for _, p := range a.promises {
			// What was cancelled or replaced while in flight may still be carried out.
			if slices.Contains(p.inputs, op) && p.at > 0 {
				safe = max(safe, p.at+b.lasts)
			}
		}
		if v.Swept || v.ExpiresAt <= at {
			safe = 0
		}
		if !some || safe < until {
			until, some = safe, true
		}
	}
	return until, some
}
