package ledger_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
)

const start int64 = 1_900_000_000

func outpoint(n int) wire.OutPoint {
	return wire.OutPoint{Hash: chainhash.Hash{byte(n), byte(n >> 8), 0xaa}, Index: uint32(n)}
}

func newRecord(n int, vtxos []int) *delegate.Record {
	r := &delegate.Record{
		Kind: delegate.Stock, Network: ark.Regtest, ProofTxid: chainhash.Hash{byte(n), byte(n >> 8), 1}, Owners: []bip340.XOnly{{7}},
		Message: "message", Proof: []byte("proof"), NextAttempt: start + int64(n), CreatedAt: start,
	}
	r.ID = delegate.StockID(r.ProofTxid)
	for _, v := range vtxos {
		r.Inputs = append(r.Inputs, delegate.Input{
			Outpoint: outpoint(v), Amount: 1000, Script: []byte{byte(v % 2)}, ExpiresAt: start + int64(v), Forfeit: []byte("f"),
		})
	}
	return r
}

// model is what the ledger must remember, as plainly as it can be said: which
// delegate stands in which state, and who waits for whom.
type model struct {
	records map[vigil.DelegateID]*modelled
	spent   map[int]fate
}

// fate is what became of a coin: it was renewed, or only said to be gone.
type fate int

const (
	said fate = 1 + iota
	renewed
)

type modelled struct {
	number int
	state  delegate.State
	inputs []int
	cancel bool
	waits  []vigil.DelegateID
}

func (m *model) overlapping(inputs []int, states func(delegate.State) bool) []vigil.DelegateID {
	var ids []vigil.DelegateID
	for id, r := range m.records {
		if states(r.state) && slices.ContainsFunc(r.inputs, func(v int) bool { return slices.Contains(inputs, v) }) {
			ids = append(ids, id)
		}
	}
	return ids
}

func open(s delegate.State) bool { return !s.Ended() }

// submit says what must come of a submission: a code, or "" and the record.
// later says that the operator reported the inputs as unspent after all that was
// said of them.
func (m *model) submit(number int, inputs []int, reject, later bool) vigil.Code {
	id := newRecord(number, nil).ID
	if m.records[id] != nil {
		return ""
	}
	if slices.ContainsFunc(inputs, func(v int) bool { return m.spent[v] == renewed || m.spent[v] == said && !later }) {
		return vigil.CodeInputSpent
	}
	olders := m.overlapping(inputs, open)
	if len(olders) > 0 && reject {
		return vigil.CodeReplaceRejected
	}
	wait := false
	for _, older := range olders {
		r := m.records[older]
		if slices.ContainsFunc(r.inputs, func(v int) bool { return !slices.Contains(inputs, v) }) {
			return vigil.CodeReplaceIncomplete
		}
		wait = wait || r.state.InFlight()
	}
	for _, v := range inputs {
		if m.spent[v] != said {
			continue
		}
		delete(m.spent, v)
		for _, over := range m.overlapping([]int{v}, func(s delegate.State) bool { return s == delegate.Spent || s == delegate.Broken }) {
			m.records[over].state = delegate.Replaced
		}
	}
	made := &modelled{number: number, state: delegate.Armed, inputs: inputs}
	for _, older := range olders {
		switch r := m.records[older]; {
		case !wait || r.state == delegate.Pending:
			r.state = delegate.Replaced
		default:
			made.waits = append(made.waits, older)
		}
	}
	if wait {
		made.state = delegate.Pending
	}
	m.records[id] = made
	return ""
}

// move takes a record along an edge and does what must follow.
func (m *model) move(id vigil.DelegateID, to delegate.State) {
	r := m.records[id]
	r.state = to
	for other, waiting := range m.records {
		if waiting.state != delegate.Pending || !slices.Contains(waiting.waits, id) || to.InFlight() {
			continue
		}
		switch to {
		case delegate.Settled, delegate.Spent:
			waiting.state = delegate.Spent
		case delegate.Broken:
			waiting.state = delegate.Broken
		default:
			m.promote(other)
		}
	}
	if r.state == delegate.Due && r.cancel {
		r.state = delegate.Cancelled
	}
}

func (m *model) promote(id vigil.DelegateID) {
	r := m.records[id]
	for _, older := range r.waits {
		if o := m.records[older]; o != nil && o.state.InFlight() {
			return
		}
	}
	for _, older := range r.waits {
		if o := m.records[older]; o != nil {
			if !o.state.Ended() {
				o.state = delegate.Replaced
			}
		}
	}
	r.state, r.waits = delegate.Armed, nil
}

// lose marks an input as gone to an end: what is buried over one that was renewed
// is forgotten, and ends so too when it is only said.
func (m *model) lose(v int, to delegate.State) {
	m.spent[v] = said
	if to == delegate.Settled {
		m.spent[v] = renewed
	}
	for id, r := range m.records {
		buried := r.state == delegate.Replaced || r.state == delegate.Cancelled || r.state == delegate.Expired
		switch {
		case !buried || !slices.Contains(r.inputs, v):
		case to != delegate.Settled:
			r.state = to
		default:
			delete(m.records, id)
		}
	}
}

// machine runs the ledger beside the model.
type machine struct {
	t      *rapid.T
	store  *kvtest.Memory
	ledger *ledger.Ledger
	model  model
	at     int64
	made   int
	pruned map[vigil.DelegateID]bool
}

func (x *machine) ctx() context.Context { return x.t.Context() }

func (x *machine) reopen() {
	l, err := ledger.Open(x.ctx(), x.store, ledger.Options{Now: func() time.Time { x.at++; return time.Unix(x.at, 0) }})
	if err != nil {
		x.t.Fatal(err)
	}
	x.ledger = l
}

func (x *machine) restart(*rapid.T) {
	x.store = x.store.Reopen()
	x.reopen()
}

func (x *machine) submit(t *rapid.T) {
	number := x.made
	if x.made > 0 && rapid.IntRange(0, 4).Draw(t, "again") == 0 {
		number = rapid.IntRange(0, x.made-1).Draw(t, "number")
	}
	inputs := rapid.SliceOfNDistinct(rapid.IntRange(0, 5), 1, 3, rapid.ID).Draw(t, "inputs")
	reject := rapid.IntRange(0, 9).Draw(t, "reject") == 0
	id := newRecord(number, nil).ID
	if x.pruned[id] {
		return // the operator's indexer would refuse it before it comes here
	}
	if known := x.model.records[id]; known != nil {
		inputs = known.inputs
	}
	x.made = max(x.made, number+1)
	rec, later := newRecord(number, inputs), rapid.Bool().Draw(t, "later")
	if later {
		rec.CreatedAt = x.at + 1
	}
	want := x.model.submit(number, inputs, reject, later)
	_, err := x.ledger.Submit(x.ctx(), ledger.Submission{Record: rec, RejectReplace: reject})
	if want == "" && err != nil || want != "" && vigil.CodeOf(err) != want {
		t.Fatalf("submit %d over %v: %v, want %q", number, inputs, err, want)
	}
}

// pick draws one of the records.
func (x *machine) pick(t *rapid.T) (vigil.DelegateID, *delegate.Record) {
	if len(x.model.records) == 0 {
		t.Skip("no record")
	}
	numbers := make([]int, 0, len(x.model.records))
	for _, r := range x.model.records {
		numbers = append(numbers, r.number)
	}
	slices.Sort(numbers)
	id := newRecord(rapid.SampledFrom(numbers).Draw(t, "record"), nil).ID
	rec, err := x.ledger.Delegate(x.ctx(), id)
	if err != nil {
		t.Fatal(err)
	}
	return id, rec
}

// any tries any event on any record.
func (x *machine) any(t *rapid.T) {
	id, rec := x.pick(t)
	x.transition(t, id, rec, rapid.SampledFrom(delegate.Events()).Draw(t, "event"))
}

// further takes a record some steps on, so that the far states are reached.
func (x *machine) further(t *rapid.T) {
	id, _ := x.pick(t)
	for range rapid.IntRange(1, 6).Draw(t, "steps") {
		rec, err := x.ledger.Delegate(x.ctx(), id)
		if err != nil {
			return // settled by the step before, and forgotten
		}
		event, ok := map[delegate.State]delegate.Event{
			delegate.Armed: delegate.Ripe, delegate.Due: delegate.Register, delegate.Registering: delegate.Accepted,
			delegate.Registered: delegate.Join, delegate.Joining: delegate.Submit, delegate.Submitted: delegate.Finalized,
			delegate.Unconfirmed: delegate.Confirmed, delegate.Quarantined: delegate.Release,
		}[rec.State]
		if !ok {
			return
		}
		x.transition(t, id, rec, event)
	}
}

func (x *machine) transition(t *rapid.T, id vigil.DelegateID, rec *delegate.Record, event delegate.Event) {
	if event == delegate.Promote || rec.State == delegate.Pending && event == delegate.Replace {
		return // the ledger's own
	}
	change := ledger.Change{Prev: rec, Event: event}
	switch event {
	case delegate.Submit:
		change.Branch = &delegate.Branch{
			Delegate: id, Commitment: chainhash.Hash{byte(rec.Version), 0xcc, id[0]}, Tx: []byte("tx"), Leaves: []wire.OutPoint{outpoint(1000)},
		}
	case delegate.Finalized:
		change.Mutate = func(r *delegate.Record) {
			if r.Commitment == (chainhash.Hash{}) {
				r.Commitment = chainhash.Hash{0xdd}
			}
		}
	case delegate.Late:
		if len(rec.Watch) == 0 {
			return
		}
		change.Mutate = func(r *delegate.Record) { r.Commitment = rec.Watch[0].Commitment }
	case delegate.InputSpent, delegate.InputUnrolled:
		change.Gone = []ledger.Gone{{Outpoint: rec.Inputs[0].Outpoint, Unrolled: event == delegate.InputUnrolled}}
	}
	to, wantErr := delegate.Next(rec.State, event)
	got, err := x.ledger.Apply(x.ctx(), change)
	if err != nil {
		t.Fatal(err)
	}
	if (wantErr == nil) != (got[0].Err == nil) {
		t.Fatalf("%s in %s: %v, want %v", event, rec.State, got[0].Err, wantErr)
	}
	if wantErr != nil {
		return
	}
	x.model.move(id, to)
	switch {
	case to == delegate.Settled:
		for _, v := range x.model.records[id].inputs {
			x.model.lose(v, to)
		}
	case len(change.Gone) > 0:
		// Of an input that another one renews, that one's own end tells.
		lost := x.model.records[id].inputs[0]
		if len(x.model.overlapping([]int{lost}, func(s delegate.State) bool { return open(s) && s != delegate.Pending })) == 0 {
			x.model.lose(lost, to)
		}
	}
}

// prune forgets what ended for good before some moment.
func (x *machine) prune(t *rapid.T) {
	before := start + rapid.Int64Range(0, x.at-start).Draw(t, "before")
	if _, err := x.ledger.Prune(x.ctx(), time.Unix(before, 0), 100); err != nil {
		t.Fatal(err)
	}
	for id, r := range x.model.records {
		if r.state != delegate.Settled && r.state != delegate.Spent && r.state != delegate.Broken {
			continue
		}
		if _, err := x.ledger.Delegate(x.ctx(), id); errors.Is(err, ledger.ErrNotFound) {
			delete(x.model.records, id)
			x.pruned[id] = true
		}
	}
	for v := range x.model.spent {
		if _, err := x.ledger.VTXO(x.ctx(), outpoint(v)); errors.Is(err, ledger.ErrNotFound) {
			delete(x.model.spent, v) // only the operator's indexer knows it now
		}
	}
}

func (x *machine) stale(t *rapid.T) {
	_, rec := x.pick(t)
	if rec.State.Ended() {
		t.Skip("ended")
	}
	old := *rec
	old.Version--
	if _, err := x.ledger.Transition(x.ctx(), &old, delegate.Note, nil); !errors.Is(err, ledger.ErrConflict) {
		t.Fatalf("a stale record was written: %v", err)
	}
}

func (x *machine) cancel(t *rapid.T) {
	id, rec := x.pick(t)
	deleted := rapid.Bool().Draw(t, "deleted")
	if _, err := x.ledger.Cancel(x.ctx(), rec, deleted); err != nil {
		t.Fatal(err)
	}
	queued := rec.State == delegate.Registering || rec.State == delegate.Registered
	switch {
	case rec.State.Ended():
	case !rec.State.InFlight(), queued && deleted:
		x.model.move(id, delegate.Cancelled)
	default:
		x.model.records[id].cancel = true
	}
}

// check compares the two, and asks fsck whether the rows agree.
func (x *machine) check(t *rapid.T) {
	found := 0
	err := x.ledger.Each(x.ctx(), func(r *delegate.Record) error {
		found++
		want := x.model.records[r.ID]
		if want == nil {
			t.Fatalf("%s in %s should be forgotten", r.ID, r.State)
		}
		if r.State != want.state || r.CancelWanted != want.cancel && !r.State.Ended() {
			t.Fatalf("delegate %d is %s, want %s", want.number, r.State, want.state)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found != len(x.model.records) {
		t.Fatalf("%d records, want %d", found, len(x.model.records))
	}
	report, err := fsck.Check(x.ctx(), x.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Clean() {
		t.Fatal(report)
	}
}

// newMachine is a machine over an empty ledger.
func newMachine(t *rapid.T) *machine {
	x := &machine{
		t: t, store: kvtest.NewMemory(), at: start, pruned: make(map[vigil.DelegateID]bool),
		model: model{records: make(map[vigil.DelegateID]*modelled), spent: make(map[int]fate)},
	}
	if err := ledger.Create(t.Context(), x.store, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	x.reopen()
	return x
}

// actions are all that may happen, and the check after each.
func (x *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"submit": x.submit, "any": x.any, "any again": x.any, "further": x.further,
		"stale": x.stale, "cancel": x.cancel, "restart": x.restart, "prune": x.prune, "": x.check,
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { t.Repeat(newMachine(t).actions()) })
}

// TestConcurrentCompareAndSwap lets many writers change few records at once:
// every write that was acknowledged is there, and none twice.
func TestConcurrentCompareAndSwap(t *testing.T) {
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) { testConcurrent(t, store) })
	}
}

func testConcurrent(t *testing.T, store kv.Store) {
	ctx := t.Context()
	if err := ledger.Create(ctx, store, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(ctx, store, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const writers, rounds, records = 8, 25, 3
	for n := range records {
		if _, err := l.Submit(ctx, ledger.Submission{Record: newRecord(n, []int{n})}); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				if err := bump(ctx, l, newRecord((w+i)%records, nil).ID); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	attempts, versions := uint32(0), uint64(0)
	if err := l.Each(ctx, func(r *delegate.Record) error {
		attempts += r.Attempts
		versions += r.Version - 1
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if attempts != writers*rounds || versions != writers*rounds {
		t.Fatalf("%d attempts and %d versions of %d writes", attempts, versions, writers*rounds)
	}
	report, err := fsck.Check(ctx, store, nil)
	if err != nil || !report.Clean() {
		t.Fatal(report, err)
	}
}

// bump counts one attempt, reading again after every conflict.
func bump(ctx context.Context, l *ledger.Ledger, id vigil.DelegateID) error {
	for {
		rec, err := l.Delegate(ctx, id)
		if err != nil {
			return err
		}
		_, err = l.Transition(ctx, rec, delegate.Note, func(r *delegate.Record) { r.Attempts++ })
		if !errors.Is(err, ledger.ErrConflict) {
			return err
		}
	}
}
