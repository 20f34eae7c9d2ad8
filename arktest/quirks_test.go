package arktest_test

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/internal/proof"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/lie"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// await fails the test when cond does not come to hold.
func await(t *testing.T, ctx context.Context, op *arktest.Operator, what string, cond func(arktest.Stats) bool) {
	t.Helper()
	if err := op.Await(ctx, cond); err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}

// TestDuplicateWindow: the duplicate check sees queued intents only. While one
// is selected the same inputs can be registered again; the old one, not
// confirmed, is then dropped when it should go back.
func TestDuplicateWindow(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{Settings: arktest.Settings{SessionDuration: 40 * time.Second}}) // a window that a busy machine does not miss
	ctx := deadline(t)
	p := newParty(t, op)
	c := p.board(ctx, 50_000)
	in := p.proof(p.message(), []coin{c}, p.pay(50_000))
	minimum(t, ctx, op, 2) // it stays in the queue
	before := len(op.Stats().Batches)
	first := p.mustRegister(in)
	_, err := p.register(in)
	if codeOf(err) != 0 || !strings.Contains(err.Error(), "failed to push intent: duplicated input, "+c.at.String()+" already registered by another intent") {
		t.Fatalf("registered twice: %v", err)
	}
	minimum(t, ctx, op, 1)
	await(t, ctx, op, "the first to be selected", func(s arktest.Stats) bool { return len(s.Batches) > before })
	second := p.mustRegister(in)
	s := p.sit(ctx, []coin{c})
	s.ids = []string{second}
	out, err := s.play(ctx)
	if err != nil || out.failed != "" {
		t.Fatalf("%v, %q", err, out.failed)
	}
	for _, q := range op.Stats().Queue {
		if q.ID == first {
			t.Error("the dropped registration is still queued")
		}
	}
}

// TestUnconfirmedGoesBack: who does not confirm is queued again, unpunished.
func TestUnconfirmedGoesBack(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	id := p.mustRegister(p.proof(p.message(), []coin{p.fund(50_000)}, p.pay(50_000)))
	await(t, ctx, op, "two batches that list it", func(s arktest.Stats) bool {
		n := 0
		for _, b := range s.Batches {
			if slices.Contains(b.Intents, id) && b.Phase == arktest.PhaseFailed {
				n++
			}
		}
		return n >= 2
	})
	if got := op.Stats().Convictions; len(got) > 0 {
		t.Errorf("convicted for not confirming: %v", got)
	}
}

// TestNoSpentCheckAtSelection: an intent registered while its inputs were
// being settled is selected although they are spent by then.
func TestNoSpentCheckAtSelection(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	c := p.board(ctx, 50_000)
	in := p.proof(p.message(), []coin{c}, p.pay(50_000))
	s := p.sit(ctx, []coin{c})
	s.ids, s.m.stopAt = []string{p.mustRegister(in)}, "treeSigningStarted"
	if _, err := s.play(ctx); err != nil {
		t.Fatal(err)
	}
	again := p.mustRegister(in) // accepted: the first one left the queue
	s.m.stopAt = ""
	if out, err := s.play(ctx); err != nil || out.txid == "" {
		t.Fatalf("%v, %q", err, out.failed)
	}
	if v, _ := op.VTXO(c.at); !v.Spent {
		t.Fatal("the coin is not spent")
	}
	s = p.sit(ctx, []coin{c})
	s.ids, s.m.stopAt = []string{again}, "batchFinalization"
	out, err := s.play(ctx)
	if err != nil || out.batch == "" {
		t.Fatalf("the copy was not selected: %v", err)
	}
	if b, _ := op.Stats().Batch(out.batch); !slices.Contains(b.NeedForfeit, c.at) {
		t.Error("no second forfeit was asked for")
	}
}

// TestLastNonceWins: nobody asks who submits nonces.
func TestLastNonceWins(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{Settings: arktest.Settings{MinParticipants: 2}})
	ctx := deadline(t)
	a, b := newParty(t, op), newParty(t, op)
	coins := []coin{a.fund(50_000), b.fund(50_000)}
	seats := []*seat{a.sit(ctx, coins[:1]), b.sit(ctx, coins[1:])}
	seats[1].m.noNonces = true
	for i, p := range []*party{a, b} {
		seats[i].ids = []string{p.mustRegister(p.proof(p.message(), coins[i:i+1], p.pay(50_000)))}
		seats[i].m.stopAt = "treeSigningStarted"
	}
	var wg sync.WaitGroup
	for _, s := range seats {
		wg.Go(func() {
			if _, err := s.play(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// b, who is nobody to a, overwrites a's nonces, then sends its own.
	forged := map[string]string{}
	for id := range seats[0].nodes {
		forged[id] = strings.Repeat("02", 1) + hex.EncodeToString(b.key.PubKey().SerializeCompressed()[1:]) + hex.EncodeToString(b.key.PubKey().SerializeCompressed())
	}
	if _, err := b.ark.SubmitTreeNonces(ctx, &arkv1.SubmitTreeNoncesRequest{BatchId: seats[0].out.batch, Pubkey: hexKey(a.cosigner), TreeNonces: forged}); err != nil {
		t.Fatal(err)
	}
	seats[1].m = manners{noSigs: true}
	if err := seats[1].sendNonces(ctx); err != nil {
		t.Fatal(err)
	}
	for {
		ev, err := seats[0].stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if n := ev.GetTreeNonces(); n != nil {
			if got := n.Nonces[hexKey(a.cosigner)[2:]]; got != forged[n.Txid] {
				t.Errorf("the echo is %s, want the forged %s", got, forged[n.Txid])
			}
			return
		}
	}
}

// TestConvictions: every crime, whose scripts it convicts, and the reason that
// is told.
func TestConvictions(t *testing.T) {
	for _, c := range []struct {
		name, crime, reason string
		m                   manners
		boarding            bool
	}{
		{"nonces", "Musig2NonceSubmission", "SIGNING_SESSION_TIMED_OUT (28): musig2 signing session timed out (nonce collection), collected 0/1 nonces", manners{noNonces: true}, false},
		{"signatures", "Musig2SignatureSubmission", "SIGNING_SESSION_TIMED_OUT (28): musig2 signing session timed out (signatures collection), collected 0/1 signatures", manners{noSigs: true}, false},
		{"bad signature", "Musig2InvalidSignature", "INTERNAL_ERROR (0): some musig2 signatures are invalid", manners{badSig: true}, true},
		{"forfeit", "ForfeitSubmission", "INTERNAL_ERROR (0): missing forfeit transactions", manners{noForfeits: true}, false},
		{"forgiven forfeit", "", "INTERNAL_ERROR (0): failed to finalize round: missing forfeit tx for vtxo ", manners{noForfeits: true}, false},
		{"bad forfeit", "ForfeitInvalidSignature", "INTERNAL_ERROR (0): invalid forfeit txs signature", manners{badForfeit: true}, false},
		{"few nonces", "", "INTERNAL_ERROR (0): failed to aggregate nonces: missing nonce for cosigner key", manners{fewNonces: true}, false},
		{"bad nonces", "", "INTERNAL_ERROR (0): failed to aggregate nonces", manners{badNonce: true}, false},
		{"boarding", "", "INTERNAL_ERROR (0): failed to sign commitment tx", manners{noBoarding: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			op := start(t, arktest.Config{Settings: arktest.Settings{BanThreshold: 2, ForgiveForfeits: c.name == "forgiven forfeit"}})
			ctx := deadline(t)
			p := newParty(t, op)
			mine := p.fund(50_000)
			if !c.boarding {
				mine = p.board(ctx, 50_000)
			}
			in := p.proof(p.message(), []coin{mine}, p.pay(50_000))
			for round := 1; round <= 2; round++ {
				s := p.sit(ctx, []coin{mine})
				s.ids, s.m = []string{p.mustRegister(in)}, c.m
				out, err := s.play(ctx)
				if err != nil || !strings.HasPrefix(out.failed, c.reason) {
					t.Fatalf("round %d: %v, failed with %q, want %q", round, err, out.failed, c.reason)
				}
				if c.crime == "" {
					continue
				}
				await(t, ctx, op, "the conviction", func(s arktest.Stats) bool { return len(s.Convictions) == round })
				got := op.Stats().Convictions[round-1]
				if got.Crime != c.crime || got.Script != hex.EncodeToString(mine.out.PkScript) || got.Batch != out.batch {
					t.Errorf("conviction %+v", got)
				}
			}
			_, err := p.register(in)
			if banned := codeOf(err) == 29; banned != (c.crime != "") {
				t.Errorf("after two failures registration gives %v", err)
			}
		})
	}
}

// TestBansEnd: a ban lasts as long as its convictions, and a pardon ends it.
func TestBansEnd(t *testing.T) {
	t.Parallel()
	clock := newQuick(t, 8)
	op := start(t, arktest.Config{Clock: clock, Settings: arktest.Settings{BanThreshold: 1, BanDuration: time.Second}})
	ctx := deadline(t)
	p := newParty(t, op)
	c := p.fund(50_000)
	in := p.proof(p.message(), []coin{c}, p.pay(50_000))
	spoil := func() {
		s := p.sit(ctx, []coin{c})
		s.ids, s.m.badSig = []string{p.mustRegister(in)}, true
		if out, err := s.play(ctx); err != nil || out.failed == "" {
			t.Fatal(err, out.failed)
		}
		await(t, ctx, op, "a conviction", func(s arktest.Stats) bool { return len(s.Convictions) > 0 })
	}
	spoil()
	if _, err := p.register(in); codeOf(err) != 29 || !strings.Contains(err.Error(), "is banned by 1 convictions") {
		t.Fatalf("a banned script registers: %v", err)
	}
	passed := make(chan struct{})
	clock.AfterFunc(1100*time.Millisecond, func() { close(passed) })
	<-passed
	spoil()
	if err := op.Pardon(hex.EncodeToString(c.out.PkScript)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.register(in); err != nil {
		t.Errorf("a pardoned script does not register: %v", err)
	}
}

// TestConvictionByCosigner: a cosigner's crime falls on every intent that lists
// its key, the stranger's who merely names it included.
func TestConvictionByCosigner(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{Settings: arktest.Settings{MinParticipants: 2}})
	ctx := deadline(t)
	a, b := newParty(t, op), newParty(t, op)
	b.cosigner = a.cosigner
	coins := []coin{a.fund(50_000), b.fund(60_000)}
	s := a.sit(ctx, coins)
	s.ids = []string{
		a.mustRegister(a.proof(a.message(), coins[:1], a.pay(50_000))),
		b.mustRegister(b.proof(b.message(), coins[1:], b.pay(60_000))),
	}
	s.m.noNonces = true
	if out, err := s.play(ctx); err != nil || out.failed == "" {
		t.Fatal(err, out.failed)
	}
	await(t, ctx, op, "two convictions", func(s arktest.Stats) bool { return len(s.Convictions) == 2 })
	for _, c := range coins {
		if !slices.ContainsFunc(op.Stats().Convictions, func(x arktest.Conviction) bool { return x.Script == hex.EncodeToString(c.out.PkScript) }) {
			t.Errorf("the script of %s is not convicted", c.at)
		}
	}
}

// TestExitLeafProofs: a proof over an exit leaf is taken, recoverable or not,
// whatever its delay; on a live coin only a relative lock in the input is
// looked at.
func TestExitLeafProofs(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	recovery := newKey(t)
	base := p.vtxoTree()
	long := tapscript.Closure{Kind: tapscript.CSVMultisig, Keys: [][32]byte{tapscript.XOnly(recovery.PubKey())}, Delay: tapscript.NewDelay(7_776_256)}
	tree := makeTree(t, base.Closures[0], base.Closures[1], long)
	out, err := p.settle(ctx, manners{}, []coin{p.fund(50_000)}, &wire.TxOut{Value: 50_000, PkScript: tree.PkScript()})
	if err != nil || out.failed != "" {
		t.Fatal(err, out.failed)
	}
	minimum(t, ctx, op, 100) // what is registered stays queued
	b, _ := op.Stats().Batch(out.batch)
	c := coin{at: b.Outputs[0], out: &wire.TxOut{Value: 50_000, PkScript: tree.PkScript()}, tree: tree, leaf: 2, key: recovery}
	thief := &wire.TxOut{Value: 50_000, PkScript: newParty(t, op).vtxoTree().PkScript()}
	del := proof.Message{Type: proof.Delete}
	for _, state := range []string{"live", "recoverable"} {
		if state == "recoverable" {
			op.MarkSwept(c.at)
		}
		if _, err := p.register(p.proof(p.message(), []coin{c}, thief)); err != nil {
			t.Errorf("%s: the recovery key alone cannot register: %v", state, err)
		}
		if _, err := p.ark.DeleteIntent(ctx, &arkv1.DeleteIntentRequest{Intent: p.proof(del, []coin{c})}); err != nil {
			t.Errorf("%s: the recovery key alone cannot delete: %v", state, err)
		}
	}
}

// TestLiquidityAbort: when the operator cannot pay, what it selected is gone
// without a word.
func TestLiquidityAbort(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{Liquidity: 100_000})
	ctx := deadline(t)
	p := newParty(t, op)
	in := p.proof(p.message(), []coin{p.fund(200_000)}, p.pay(200_000))
	id := p.mustRegister(in)
	await(t, ctx, op, "it to vanish", func(s arktest.Stats) bool { return slices.Contains(s.Vanished, id) })
	if got := op.Stats(); len(got.Queue) > 0 || len(got.Batches) > 0 {
		t.Errorf("queue %v, batches %v", got.Queue, got.Batches)
	}
	if err := op.Fund(1e8); err != nil {
		t.Fatal(err)
	}
	if _, err := p.register(in); err != nil {
		t.Errorf("it cannot be registered again: %v", err)
	}
}

// TestRestart: the queue is lost, unless it is kept; the store stays; the
// cosigner key is another one.
func TestRestart(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{Settings: arktest.Settings{MinParticipants: 1}})
	ctx := deadline(t)
	p := newParty(t, op)
	c := p.board(ctx, 50_000)
	minimum(t, ctx, op, 9)
	in := p.proof(p.message(), []coin{c}, p.pay(50_000))
	p.mustRegister(in)
	addr := op.Addr()
	if err := op.Restart(arktest.KeepQueue); err != nil {
		t.Fatal(err)
	}
	if got := len(op.Stats().Queue); got != 1 || op.Addr() != addr {
		t.Fatalf("%d intents after a restart that keeps the queue, at %s", got, op.Addr())
	}
	if err := op.Restart(); err != nil {
		t.Fatal(err)
	}
	if got := len(op.Stats().Queue); got != 0 {
		t.Fatalf("%d intents after a restart", got)
	}
	if v, ok := op.VTXO(c.at); !ok || v.Spent {
		t.Errorf("after a restart the coin is %+v", v)
	}
	if err := op.Update(func(s *arktest.Settings) { s.MinParticipants = 1 }); err != nil {
		t.Fatal(err)
	}
	p = reconnect(t, p)
	if out, err := p.settle(ctx, manners{}, []coin{c}, p.pay(50_000)); err != nil || out.failed != "" {
		t.Fatalf("renewal after a restart: %v, %q", err, out.failed)
	}
}

// reconnect is the same party on a new connection.
func reconnect(t *testing.T, old *party) *party {
	t.Helper()
	p := newParty(t, old.op)
	p.key, p.cosigner = old.key, old.cosigner
	return p
}

// TestBroadcastBeforeStore: a crash in between leaves the commitment on the
// chain and the inputs unspent in the store.
func TestBroadcastBeforeStore(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	c := p.board(ctx, 50_000)
	op.Lie(lie.CrashAfterBroadcast)
	_, err := p.settle(ctx, manners{}, []coin{c}, p.pay(50_000))
	if err == nil {
		t.Fatal("the stream outlived the crash")
	}
	await(t, ctx, op, "the operator to be back", func(s arktest.Stats) bool { return s.Phase == arktest.PhaseRegistration })
	batches := op.Stats().Batches
	b := batches[len(batches)-1]
	if v, _ := op.VTXO(c.at); !b.Broadcast || v.Spent {
		t.Errorf("broadcast %v, coin %+v", b.Broadcast, v)
	}
	if err := op.Mine(1); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, tx := range op.Chain().Mempool() {
		found = found || tx.Txid.String() == b.Commitment
	}
	if found {
		t.Error("the commitment did not confirm")
	}
}

// TestOperatorKeyIsRefused: its batch key may not be listed by a client.
func TestOperatorKeyIsRefused(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	c := p.fund(50_000)
	s := p.sit(ctx, []coin{c})
	s.ids, s.m.stopAt = []string{p.mustRegister(p.proof(p.message(), []coin{c}, p.pay(50_000)))}, "treeSigningStarted"
	if _, err := s.play(ctx); err != nil {
		t.Fatal(err)
	}
	var operator *btcec.PublicKey
	for _, n := range s.nodes {
		keys, err := tapscript.Cosigners(&n.Inputs[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if !k.IsEqual(p.cosigner.PubKey()) {
				operator = k
			}
		}
	}
	m := p.message()
	m.Cosigners = []string{hex.EncodeToString(operator.SerializeCompressed())}
	if _, err := p.register(p.proof(m, []coin{p.fund(60_000)}, p.pay(60_000))); codeOf(err) != 21 {
		t.Errorf("the operator's own key is taken: %v", err)
	}
}

// TestHeartbeat: a silent stream gets one, and the timer starts anew.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{Heartbeat: 2 * time.Second, Settings: arktest.Settings{SessionDuration: time.Minute}})
	p := newParty(t, op)
	s := p.listen(deadline(t), nil, nil)
	for range 2 {
		ev, err := s.stream.Recv()
		if err != nil || ev.GetHeartbeat() == nil {
			t.Fatalf("%v (%v)", ev, err)
		}
	}
}

// TestTopics: events go by topic, in whatever case; topics change while the
// stream runs.
func TestTopics(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	c := p.board(ctx, 50_000)
	stream, err := p.ark.GetEventStream(ctx, &arkv1.GetEventStreamRequest{Topics: []string{"other", " " + strings.ToUpper(hexKey(p.cosigner)) + " "}})
	if err != nil {
		t.Fatal(err)
	}
	ev, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	id := ev.GetStreamStarted().GetId()
	mod := func(m *arkv1.ModifyTopics) (*arkv1.UpdateStreamTopicsResponse, error) {
		return p.ark.UpdateStreamTopics(ctx, &arkv1.UpdateStreamTopicsRequest{StreamId: id, TopicsChange: &arkv1.UpdateStreamTopicsRequest_Modify{Modify: m}})
	}
	res, err := mod(&arkv1.ModifyTopics{AddTopics: []string{c.at.String(), "gone"}, RemoveTopics: []string{"OTHER", "gone"}})
	if err != nil || len(res.AllTopics) != 2 || !slices.Contains(res.AllTopics, c.at.String()) || !slices.Contains(res.AllTopics, hexKey(p.cosigner)) {
		t.Fatalf("topics %v (%v)", res, err)
	}
	if _, err := mod(&arkv1.ModifyTopics{}); err == nil {
		t.Error("an empty change is taken")
	}
	s := &seat{p: p, stream: stream, coins: []coin{c}}
	s.ids = []string{p.mustRegister(p.proof(p.message(), []coin{c}, p.pay(50_000)))}
	if out, err := s.play(ctx); err != nil || out.failed != "" {
		t.Fatal(err, out.failed)
	}
	if _, err := p.ark.UpdateStreamTopics(ctx, &arkv1.UpdateStreamTopicsRequest{StreamId: "none", TopicsChange: &arkv1.UpdateStreamTopicsRequest_Overwrite{
		Overwrite: &arkv1.OverwriteTopics{},
	}}); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("an unknown stream: %v", err)
	}
}

// TestWithoutTopics: a stream without topics gets the broadcasts alone.
func TestWithoutTopics(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx, cancel := context.WithCancel(deadline(t))
	p := newParty(t, op)
	public := p.listen(ctx, nil, nil)
	p.board(ctx, 50_000)
	for {
		ev, err := public.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case ev.GetTreeTx() != nil, ev.GetTreeNonces() != nil, ev.GetTreeSignature() != nil, ev.GetBatchFailed() != nil:
			t.Errorf("without topics: %v", ev)
		case ev.GetBatchFinalized() != nil:
			cancel()
			if _, err := public.stream.Recv(); err == nil {
				t.Error("the stream outlives its caller")
			}
			return
		}
	}
}

// TestScheduledSession: while a window is open, its settings hold.
func TestScheduledSession(t *testing.T) {
	t.Parallel()
	clock := newQuick(t, 8)
	op := start(t, arktest.Config{Clock: clock, Settings: arktest.Settings{MinParticipants: 5, Scheduled: &arktest.ScheduledSession{
		Start: clock.Now().Add(-time.Hour), End: clock.Now().Add(time.Hour), Period: 24 * time.Hour, Duration: 6 * time.Second,
		MinParticipants: 1, MaxParticipants: 2,
	}}})
	p := newParty(t, op)
	p.board(deadline(t), 50_000) // one is enough in the window
	if s := p.info().ScheduledSession; s.GetPeriod() != 1440 || s.GetDuration() != 6 || s.GetNextEndTime() <= s.GetNextStartTime() {
		t.Errorf("the window is told as %v", s)
	}
}
