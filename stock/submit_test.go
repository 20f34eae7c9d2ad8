package stock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/stock"
)

// withCoins puts the VTXOs of a body at the operator, as its proof describes
// them; those at the indexes given are swept.
func (f *fixture) withCoins(s vigil.Submission, swept ...int) {
	f.t.Helper()
	p, err := script.ParsePSBT(s.Proof, script.StrangerLimits())
	if err != nil {
		f.t.Fatal(err)
	}
	for i, in := range p.UnsignedTx.TxIn[1:] {
		utxo := p.Inputs[i+1].WitnessUtxo
		f.op.vtxos[in.PreviousOutPoint] = ark.VTXO{
			Outpoint: in.PreviousOutPoint, Amount: utxo.Value, Script: utxo.PkScript, CreatedAt: validAt - 500_000,
			ExpiresAt: validAt + 100_000, CommitmentTxs: []chainhash.Hash{{9}}, Swept: slices.Contains(swept, i),
		}
	}
}

func TestBodiesOfTheSDK(t *testing.T) {
	for n, v := range vectors(t).Delegates {
		t.Run(v.Name, func(t *testing.T) {
			f := newFixture(t, func(c *stock.Config) {
				if n == 1 {
					c.Fee, c.FeeAddress = 100, "tark1qprx6l72u437tjcf5rgcwza4sq6ysprp0pu6zj2feu3zshcm4clj03u5awjmd8t6j3hc7jgcs72c4rexh5pwjheddq7t6skhe64e6mgrhxcej9"
				}
			})
			body := vigil.Submission{Intent: vigil.Intent{Message: v.Message, Proof: v.Proof}, Forfeits: v.Forfeits}
			switch n {
			case 0:
				f.withCoins(body)
			case 1: // its fee is below the vectors' own dust; a Vigil like that does not start
				f.withCoins(body)
				if err := f.service.Ready(t.Context()); !errors.Is(err, stock.ErrConfig) {
					t.Errorf("a fee below dust: %v", err)
				}
				f.op.params.Dust = 100
				f.refuses(body, vigil.CodeForfeitInvalid) // signed for another dust
				return
			case 2:
				f.withCoins(body, 1)
				f.op.params.Fees.OffchainInput = "10.0"
			}
			sum := f.submit(body)
			want := delegate.StockID(parseHash(t, v.ProofTxid))
			if sum.ID != want || sum.State != "armed" || sum.ValidAt != validAt || sum.ExpiresAt != validAt+100_000 || sum.Amount == 0 ||
				len(sum.Inputs) == 0 || sum.NextAttempt < validAt || sum.ErrorCode != "" || sum.CommitmentTx != "" {
				t.Errorf("%+v", sum)
			}
			if f.woken != 1 {
				t.Errorf("the engine was woken %d times", f.woken)
			}
			f.open() // it is still there after a restart
			if rec := f.record(want); rec.Message != v.Message || rec.State != delegate.Armed {
				t.Errorf("stored: %s", rec.State)
			}
		})
	}
}

func parseHash(t testing.TB, s string) chainhash.Hash {
	t.Helper()
	h, err := ark.ParseTxid(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// A body seen before is answered with its task's state and changes nothing, in
// every state, without asking the operator, with a full disk, and also when its
// forfeits or its wish to replace are others.
func TestBodySeenBefore(t *testing.T) {
	for _, state := range delegate.States() {
		if state == delegate.Pending || state == delegate.Replaced {
			continue // tests of their own below
		}
		t.Run(state.String(), func(t *testing.T) {
			f := newFixture(t)
			w := newWallet(f, 0x11)
			body := w.body(1)
			id := f.submit(body).ID
			f.drive(id, way(state)...)
			before, asked, woken := f.record(id), f.op.asked, f.woken
			f.op.err, f.diskLow = errors.New("down"), true
			for _, reject := range []bool{false, true} {
				body.RejectReplace = reject
				sum := f.submit(body)
				if sum.ID != id || sum.State != state.String() {
					t.Errorf("%+v", sum)
				}
			}
			if after := f.record(id); after.Version != before.Version || f.op.asked != asked || f.woken != woken {
				t.Errorf("version %d became %d, asked %+v, woken %d", before.Version, after.Version, f.op.asked, f.woken)
			}
		})
	}
}

// An old body that somebody replays must not roll back a newer one, nor bring
// back what its owner cancelled.
func TestReplayOfOldBodies(t *testing.T) {
	f := newFixture(t)
	w := newWallet(f, 0x11)
	old := w.body(1)
	oldID := f.submit(old).ID
	w.validAt += 50
	newer := w.body(1, 2)
	newID := f.submit(newer).ID
	if f.record(oldID).State != delegate.Replaced || f.record(oldID).ReplacedBy != newID || f.record(newID).State != delegate.Armed {
		t.Fatalf("not replaced: %s, %s", f.record(oldID).State, f.record(newID).State)
	}
	if sum := f.submit(old); sum.ID != oldID || sum.State != "replaced" {
		t.Errorf("the old body: %+v", sum)
	}
	if f.record(newID).State != delegate.Armed {
		t.Error("an old body rolled a newer one back")
	}
	if _, err := f.service.Cancel(t.Context(), w.deletion(1)); err != nil {
		t.Fatal(err)
	}
	for _, body := range []vigil.Submission{old, newer} {
		if sum := f.submit(body); sum.State != "replaced" && sum.State != "cancelled" {
			t.Errorf("after the cancellation: %+v", sum)
		}
	}
	if n := f.counts(); strings.Contains(n, "armed:1") {
		t.Errorf("something is armed: %s", n)
	}
}

func TestReplacing(t *testing.T) {
	f := newFixture(t)
	w := newWallet(f, 0x11)
	first := f.submit(w.body(1, 2)).ID
	w.validAt++
	rejecting := w.body(1, 2)
	rejecting.RejectReplace = true
	f.refuses(rejecting, vigil.CodeReplaceRejected)
	w.validAt++
	f.refuses(w.body(1), vigil.CodeReplaceIncomplete)
	// A newer one whose proofs are not valid touches nothing.
	w.validAt++
	bad := w.body(1, 2)
	bad.Forfeits = bad.Forfeits[:1]
	f.refuses(bad, vigil.CodeForfeitMissing)
	stranger := newWallet(f, 0x55)
	stranger.tree, stranger.validAt = w.tree, w.validAt+1
	theft := stranger.body(1, 2) // signed by nobody who owns it
	f.refuses(theft, vigil.CodeSignatureInvalid)
	if f.record(first).State != delegate.Armed {
		t.Fatalf("the older one is %s", f.record(first).State)
	}
	w.validAt++
	second := f.submit(w.body(1, 2, 3)).ID
	if f.record(first).State != delegate.Replaced || f.record(second).State != delegate.Armed {
		t.Errorf("%s, %s", f.record(first).State, f.record(second).State)
	}
	// While it is in a batch, a newer one waits.
	f.drive(second, way(delegate.Joining)...)
	w.validAt++
	third := f.submit(w.body(1, 2, 3))
	if third.State != "pending" || f.record(second).State != delegate.Joining {
		t.Errorf("%s beside %s", third.State, f.record(second).State)
	}
	f.drive(second, delegate.BatchFailed)
	if f.record(second).State != delegate.Replaced || f.record(third.ID).State != delegate.Armed {
		t.Errorf("after the batch failed: %s, %s", f.record(second).State, f.record(third.ID).State)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		code  vigil.Code
		spoil func(*fixture, *vigil.Submission)
	}{
		"disk":             {vigil.CodeDiskLow, func(f *fixture, _ *vigil.Submission) { f.diskLow = true }},
		"operator down":    {vigil.CodeOperatorDown, func(f *fixture, _ *vigil.Submission) { f.op.err = errors.New("connection refused") }},
		"operator's key":   {vigil.CodeOperatorKey, func(f *fixture, _ *vigil.Submission) { f.op.params.SignerKey = key(f.t, 0x77).PubKey() }},
		"operator's fees":  {vigil.CodeOperatorDown, func(f *fixture, _ *vigil.Submission) { f.op.params.Fees.OffchainInput = "no program (" }},
		"unknown coin":     {vigil.CodeInputUnknown, func(f *fixture, _ *vigil.Submission) { clear(f.op.vtxos) }},
		"store":            {vigil.CodeStoreDown, func(f *fixture, _ *vigil.Submission) { f.store.Fail(errors.New("no space left on device")) }},
		"too many inputs":  {vigil.CodeTooManyInputs, func(f *fixture, s *vigil.Submission) { *s = newWallet(f, 0x11).body(1, 2, 3, 4) }},
		"no message":       {vigil.CodeInvalidMessage, func(_ *fixture, s *vigil.Submission) { s.Message = "" }},
		"a delete message": {vigil.CodeInvalidMessage, func(f *fixture, s *vigil.Submission) { s.Intent = newWallet(f, 0x11).deletion(1) }},
		"no proof":         {vigil.CodeInvalidProof, func(_ *fixture, s *vigil.Submission) { s.Proof = "" }},
		"no forfeit":       {vigil.CodeForfeitMissing, func(_ *fixture, s *vigil.Submission) { s.Forfeits = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *stock.Config) { c.Inputs = 3 })
			body := newWallet(f, 0x11).body(1)
			c.spoil(f, &body)
			f.refuses(body, c.code)
			f.store.Fail(nil)
			if n, err := f.ledger.Counts(t.Context()); err != nil || n[delegate.Armed] != 0 {
				t.Errorf("stored all the same: %v, %v", n, err)
			}
		})
	}
}

// What the operator or the store says is for the log: nobody else sees it.
func TestCausesStayInside(t *testing.T) {
	f := newFixture(t)
	body := newWallet(f, 0x11).body(1)
	f.op.err = errors.New("dial tcp 10.1.2.3:7070")
	_, err := f.service.Submit(t.Context(), body)
	var refused *vigil.Error
	if !errors.As(err, &refused) || strings.Contains(refused.Message, "10.1.2.3") || !errors.Is(err, f.op.err) {
		t.Errorf("%v", err)
	}
	f.op.err = nil
	cause := errors.New("/var/lib/vigil/kv.db: disk I/O error")
	f.store.Fail(cause)
	_, err = f.service.Submit(t.Context(), body)
	if !errors.As(err, &refused) || strings.Contains(refused.Message, "/var") || !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}

func TestACallerWhoLeft(t *testing.T) {
	f := newFixture(t)
	body := newWallet(f, 0x11).body(1)
	f.op.err = context.Canceled
	if _, err := f.service.Submit(t.Context(), body); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Parameters that changed since they were read are not the wallet's fault.
func TestParametersThatChanged(t *testing.T) {
	f := newFixture(t)
	w := newWallet(f, 0x11)
	f.submit(w.body(1)) // the parameters are known now
	stale := f.op.params
	f.op.cached = &stale
	f.op.params.Dust, f.op.params.Digest = 500, "d2"
	w.params.Dust = 500 // the wallet saw the new ones
	infos := f.op.asked.infos
	f.submit(w.body(2))
	if f.op.asked.infos != infos+1 {
		t.Errorf("asked %d times more", f.op.asked.infos-infos)
	}
	// A wallet that is behind is refused, once, without a second look at the same.
	w.params.Dust = 330
	f.refuses(w.body(3), vigil.CodeForfeitInvalid)
	// When the signer changed in between, that is what it is told.
	stale = f.op.params
	f.op.cached = &stale
	f.op.params.SignerKey, f.op.params.Digest = key(t, 0x77).PubKey(), "d3"
	f.refuses(w.body(4), vigil.CodeOperatorKey)
}

// Parameters are asked for again when they are old, once for everybody.
func TestParametersAge(t *testing.T) {
	f := newFixture(t, func(c *stock.Config) { c.ParamsAge = time.Hour })
	w := newWallet(f, 0x11)
	for n := range 5 {
		f.submit(w.body(n + 1))
	}
	if f.op.asked.infos != 1 {
		t.Errorf("asked %d times", f.op.asked.infos)
	}
	f.at += 3600
	f.submit(w.body(6))
	f.submit(w.body(7))
	if f.op.asked.infos != 2 {
		t.Errorf("asked %d times after an hour", f.op.asked.infos)
	}
	// An operator that did not answer is asked by the next one again.
	f.at += 3600
	f.op.err = errors.New("down")
	f.refuses(w.body(8), vigil.CodeOperatorDown)
	f.op.err = nil
	old := f.op.params
	f.op.cached = &old // asking alone tells of the change
	f.op.params.SignerKey = key(t, 0x77).PubKey()
	f.refuses(w.body(8), vigil.CodeOperatorKey)
}

func TestLimitPerScript(t *testing.T) {
	f := newFixture(t, func(c *stock.Config) { c.PerScript = 2 })
	w, other := newWallet(f, 0x11), newWallet(f, 0x55)
	f.submit(w.body(1))
	f.submit(w.body(2))
	f.refuses(w.body(3), vigil.CodeTooManyDelegates)
	f.submit(other.body(4))
	if _, err := f.service.Cancel(t.Context(), w.deletion(1)); err != nil {
		t.Fatal(err)
	}
	f.submit(w.body(3))
}

// The same body from many at once is one delegate.
func TestOneBodyFromManyAtOnce(t *testing.T) {
	f := newFixture(t)
	body := newWallet(f, 0x11).body(1)
	var mu sync.Mutex
	f.cfg.Wake = func() { mu.Lock(); f.woken++; mu.Unlock() }
	f.open()
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	for range 16 {
		wg.Go(func() {
			_, err := f.service.Submit(t.Context(), body)
			errs <- err
		})
	}
	wg.Wait()
	for range 16 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n, err := f.ledger.Counts(t.Context()); err != nil || n[delegate.Armed] != 1 || f.woken != 1 {
		t.Errorf("%v, %v; woken %d", n, err, f.woken)
	}
}

// blind does not see what another request has just stored.
type blind struct{ *ledger.Ledger }

func (blind) Delegate(context.Context, vigil.DelegateID) (*delegate.Record, error) {
	return nil, ledger.ErrNotFound
}

// Two requests with one body may both find it unknown: the ledger decides, and
// the second one has done nothing.
func TestStoredByAnotherRequestMeanwhile(t *testing.T) {
	f := newFixture(t)
	body := newWallet(f, 0x11).body(1)
	id := f.submit(body).ID
	service, err := stock.New(f.cfg, f.op, blind{f.ledger})
	if err != nil {
		t.Fatal(err)
	}
	sum, err := service.Submit(t.Context(), body)
	if err != nil || sum.ID != id || sum.State != "armed" || f.woken != 1 {
		t.Errorf("%+v, %v; woken %d", sum, err, f.woken)
	}
}

func TestTerms(t *testing.T) {
	f := newFixture(t)
	feeAddress := ark.Address{HRP: "tark", Signer: key(t, 0x22).PubKey().XOnly(), Key: newWallet(f, 0x55).tree.OutputKey()}.String()
	terms, err := f.service.Terms(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tree, err := script.Default(key(t, 0x33).PubKey().XOnly(), key(t, 0x22).PubKey().XOnly(), exit)
	if err != nil {
		t.Fatal(err)
	}
	own := ark.Address{HRP: "tark", Signer: key(t, 0x22).PubKey().XOnly(), Key: tree.OutputKey()}.String()
	if terms != (vigil.Terms{Key: key(t, 0x33).PubKey().String(), Address: own}) {
		t.Errorf("%+v", terms)
	}
	f.op.err = errors.New("down")
	f.at += 3600
	if _, err := f.service.Terms(t.Context()); vigil.CodeOf(err) != vigil.CodeOperatorDown {
		t.Errorf("without an operator: %v", err)
	}
	f.op.err = nil
	if err := f.service.Ready(t.Context()); err != nil {
		t.Error(err)
	}

	ready := func(name string, ok bool, change func(*stock.Config), spoil func(*ark.Params)) {
		t.Helper()
		f := newFixture(t, change)
		spoil(&f.op.params)
		if err := f.service.Ready(t.Context()); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	with := func(fee int64, address string) func(*stock.Config) {
		return func(c *stock.Config) { c.Fee, c.FeeAddress = fee, address }
	}
	same := func(*ark.Params) {}
	ready("a fee of dust", true, with(330, feeAddress), same)
	ready("a fee below dust", false, with(329, feeAddress), same)
	ready("an address and no fee", true, with(0, feeAddress), same)
	ready("another network", false, with(330, feeAddress), func(p *ark.Params) { p.Network = ark.Bitcoin })
	ready("another operator", false, with(330, ark.Address{HRP: "tark", Signer: key(t, 0x44).PubKey().XOnly(), Key: tree.OutputKey()}.String()), same)
	ready("our own key", false, with(330, own), same)
	ready("the operator's key changed", false, with(0, ""), func(p *ark.Params) { p.SignerKey = key(t, 0x77).PubKey() })

	f = newFixture(t, with(330, feeAddress))
	f.op.err = errors.New("down") // not asked
	if terms, err := f.service.Terms(t.Context()); err != nil || terms.Fee != 330 || terms.Address != feeAddress {
		t.Errorf("%+v, %v", terms, err)
	}
}

func TestConfig(t *testing.T) {
	keys := []bip340.PubKey{key(t, 0x33).PubKey()}
	for name, cfg := range map[string]stock.Config{
		"no key":            {},
		"a fee to nobody":   {Keys: keys, Fee: 400},
		"a negative fee":    {Keys: keys, Fee: -1},
		"no address at all": {Keys: keys, FeeAddress: "bc1qqq"},
	} {
		if _, err := stock.New(cfg, nil, nil); !errors.Is(err, stock.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A delegate of an older service key is taken for as long as that key is kept.
func TestOlderServiceKeys(t *testing.T) {
	f := newFixture(t, func(c *stock.Config) { c.Keys = append([]bip340.PubKey{key(t, 0x66).PubKey()}, c.Keys...) })
	w := newWallet(f, 0x11)
	f.submit(w.body(1))
	if terms, err := f.service.Terms(t.Context()); err != nil || terms.Key != key(t, 0x66).PubKey().String() {
		t.Errorf("%+v, %v", terms, err)
	}
	f = newFixture(t, func(c *stock.Config) { c.Keys = []bip340.PubKey{key(t, 0x66).PubKey()} })
	f.refuses(newWallet(f, 0x11).body(1), vigil.CodeCosignersMismatch)
}

// What a batch did since the body was checked is seen by the ledger.
func TestRenewedMeanwhile(t *testing.T) {
	f := newFixture(t)
	w := newWallet(f, 0x11)
	id := f.submit(w.body(1)).ID
	f.drive(id, way(delegate.Settled)...)
	w.validAt++
	f.refuses(w.body(1), vigil.CodeInputSpent)
}

func TestStateInSummary(t *testing.T) {
	f := newFixture(t)
	w := newWallet(f, 0x11)
	body := w.body(1, 2)
	id := f.submit(body).ID
	rec := f.drive(id, way(delegate.Submitted)...)
	if _, err := f.ledger.Transition(t.Context(), rec, delegate.Note, func(r *delegate.Record) {
		r.Attempts = 3
		r.Fail("BANNED", "wait", f.at)
	}); err != nil {
		t.Fatal(err)
	}
	sum := f.submit(body)
	if sum.State != "submitted" || sum.CommitmentTx != (chainhash.Hash{0xc0}).String() || sum.Attempts != 3 || sum.ErrorCode != "BANNED" ||
		sum.Amount != 20_000 || !slices.Equal(sum.Inputs, []string{outpointText(1), outpointText(2)}) {
		t.Errorf("%+v", sum)
	}
}

func outpointText(n int) string {
	op := outpoint(n)
	return fmt.Sprintf("%s:%d", op.Hash, op.Index)
}
