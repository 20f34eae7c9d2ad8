package arktest_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/lie"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

func TestLiesAreDocumented(t *testing.T) {
	all := lie.All()
	if len(all) < 30 {
		t.Errorf("%d lies, want 30 at least", len(all))
	}
	for i, s := range all {
		if s.Told == "" || s.Rule == "" || s.Forbids < lie.Confirm || s.Forbids > lie.Nothing {
			t.Errorf("%s is not documented: %+v", s.Name, s)
		}
		if i > 0 && all[i-1].Name == s.Name {
			t.Errorf("%s is listed twice", s.Name)
		}
	}
	if _, ok := lie.Of("no such lie"); ok {
		t.Error("an unknown lie is documented")
	}
}

// stage is one batch of two: a victim that believes everything, and another.
type stage struct {
	t      *testing.T
	op     *arktest.Operator
	ctx    context.Context
	cancel context.CancelFunc
	victim *seat
	other  *seat
	out    outcome
	err    error
}

// play tells a lie to the victim. Its intent has two outputs, one of them on
// chain when the lie needs that.
func play(t *testing.T, name lie.Name) *stage {
	t.Helper()
	op := start(t, arktest.Config{Clock: newQuick(t, 8), NoEsplora: true})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	s := &stage{t: t, op: op, ctx: ctx, cancel: cancel}
	a, b := newParty(t, op), newParty(t, op)
	mine, theirs, spare := a.board(ctx, 50_000), b.board(ctx, 60_000), a.board(ctx, 40_000)
	minimum(t, ctx, op, 2)
	targets := []wire.OutPoint{mine.at}
	switch name {
	case lie.LeafShared, lie.ConnectorShared: // two intents of one cosigner with equal outputs
		b.cosigner = a.cosigner
		theirs = a.board2(ctx, op, 50_000)
		targets = append(targets, theirs.at)
	case lie.ConnectorStranger:
		targets = append(targets, spare.at)
	}
	op.Lie(name, targets...)
	s.victim = a.sit(ctx, []coin{mine})
	outs := []*wire.TxOut{a.pay(20_000), a.pay(30_000)}
	m := a.message()
	if name == lie.CommitmentOnward {
		outs[1] = &wire.TxOut{Value: 30_000, PkScript: append([]byte{txscript.OP_0, 20}, make([]byte, 20)...)}
		m.Onchain = []int{1}
	}
	if name == lie.LeafShared {
		outs = []*wire.TxOut{a.pay(50_000)}
	}
	s.victim.ids = []string{a.mustRegister(a.proof(m, []coin{mine}, outs...))}
	if b.cosigner == a.cosigner {
		s.victim.coins = append(s.victim.coins, theirs)
		s.victim.ids = append(s.victim.ids, a.mustRegister(a.proof(a.message(), []coin{theirs}, a.pay(50_000))))
	} else {
		s.other = b.sit(ctx, []coin{theirs})
		s.other.ids = []string{b.mustRegister(b.proof(b.message(), []coin{theirs}, b.pay(60_000)))}
	}
	s.run(name)
	return s
}

// board2 gives a party another coin while batches want two participants.
func (p *party) board2(ctx context.Context, op *arktest.Operator, sats int64) coin {
	p.t.Helper()
	minimum(p.t, ctx, op, 1)
	c := p.board(ctx, sats)
	minimum(p.t, ctx, op, 2)
	return c
}

// run plays both seats until the batch that lies is over.
func (s *stage) run(name lie.Name) {
	var wg sync.WaitGroup
	if s.other != nil {
		s.other.m.unchecked = true
		wg.Go(func() { _, _ = s.other.playBlindly(s.ctx) })
	}
	s.victim.m.unchecked = true
	played := make(chan struct{})
	wg.Go(func() {
		defer close(played)
		s.out, s.err = s.victim.playBlindly(s.ctx)
	})
	over := func(st arktest.Stats) bool {
		b, ok := lied(st, name)
		return ok && (b.Phase == arktest.PhaseFinalized || b.Phase == arktest.PhaseFailed || st.RoundID != b.ID && st.RoundID != "") || slices.Contains(st.Vanished, s.victim.ids[0])
	}
	if err := s.op.Await(s.ctx, over); err != nil {
		s.t.Errorf("the batch does not end: %v", err)
	}
	if b, ok := lied(s.op.Stats(), name); ok && b.Phase == arktest.PhaseFinalized {
		select { // its end is told
		case <-played:
		case <-time.After(time.Second):
		}
	}
	s.cancel()
	wg.Wait()
}

// playBlindly is play that goes on whatever does not decode.
func (s *seat) playBlindly(ctx context.Context) (outcome, error) {
	for {
		ev, err := s.stream.Recv()
		if err != nil {
			return s.out, err
		}
		s.out.events = append(s.out.events, ev)
		if n := ev.GetTreeTx(); n != nil && !strings.HasPrefix(n.Tx, "cHNidP8B") {
			continue
		}
		if st := ev.GetTreeSigningStarted(); st != nil && !strings.HasPrefix(st.UnsignedCommitmentTx, "cHNidP8B") {
			_ = s.sendNonces(ctx)
			continue
		}
		if done, _ := s.handle(ctx, ev); done {
			return s.out, nil
		}
	}
}

func lied(st arktest.Stats, name lie.Name) (arktest.Batch, bool) {
	i := slices.IndexFunc(st.Batches, func(b arktest.Batch) bool { return slices.Contains(b.Lies, name) })
	if i < 0 {
		return arktest.Batch{}, false
	}
	return st.Batches[i], true
}

// sent is the last step that the victim took in the batch.
func (s *stage) sent(b arktest.Batch) lie.Step {
	st := s.op.Stats()
	key := hexKey(s.victim.p.cosigner)
	switch {
	case len(st.Forfeits[s.victim.coins[0].at]) > 0:
		return lie.Forfeits
	case b.Signatures[key] > 0:
		return lie.Signatures
	case b.Nonces[key] > 0:
		return lie.Nonces
	case slices.Contains(b.Joined, s.victim.ids[0]):
		return lie.Confirm
	}
	return 0
}

// TestGullibleFallForLies: every lie reaches its victim, and one that checks
// nothing sends what it must not. So it is the lie that has to be seen, not
// something that stops it by chance.
func TestGullibleFallForLies(t *testing.T) {
	if testing.Short() {
		t.Skip("dozens of batches")
	}
	// These take away what is needed for the forbidden step, or make one that
	// believes everything spoil the batch before it.
	starve := []lie.Name{
		lie.Unlisted, lie.ConfirmRefused, lie.CrashAfterConfirm, lie.CrashAfterNonces, lie.ConnectorMissing, lie.StrangerStalls,
		lie.StreamCutTree, lie.StreamCutNonces, lie.StreamCutFinal, lie.EventsDropped, lie.NonceBad, lie.NodeGarbage, lie.NonceMissing, lie.CommitmentJunk,
		lie.LeafMissing, lie.SigningTwice, lie.NodeFlood, lie.EventsDuplicated,
	}
	for _, spec := range lie.All() {
		if spec.Scope != lie.Batch {
			continue
		}
		t.Run(string(spec.Name), func(t *testing.T) {
			t.Parallel()
			s := play(t, spec.Name)
			if spec.Name == lie.Unlisted {
				if !slices.Contains(s.op.Stats().Vanished, s.victim.ids[0]) {
					t.Error("the intent did not vanish")
				}
				return
			}
			b, ok := lied(s.op.Stats(), spec.Name)
			if !ok {
				t.Fatal("not told")
			}
			if got := s.sent(b); spec.Forbids != lie.Nothing && !slices.Contains(starve, spec.Name) && got < spec.Forbids {
				t.Errorf("the victim went to %s only (%s, %q, %v), where %s is forbidden", got, b.Phase, b.Reason, s.err, spec.Forbids)
			}
			if spec.Forbids == lie.Nothing && strings.Contains(spec.Rule, "ends well") && !slices.Contains(starve, spec.Name) && b.Phase != arktest.PhaseFinalized {
				t.Errorf("the batch is %s (%q)", b.Phase, b.Reason)
			}
		})
	}
}

// TestLiesStandAndEnd: standing lies are in every answer until honesty comes.
func TestLiesStandAndEnd(t *testing.T) {
	t.Parallel()
	op, p, coins := boarded(t, arktest.Settings{}, 50_000, 60_000)
	ctx := deadline(t)
	honest := p.info()
	vtxo := func() []*arkv1.IndexerVtxo {
		res, err := p.index.GetVtxos(ctx, &arkv1.GetVtxosRequest{Outpoints: []string{coins[0].at.String()}})
		if err != nil {
			t.Fatal(err)
		}
		return res.Vtxos
	}
	in := p.proof(p.message(), coins[:1], p.pay(50_000))
	for name, seen := range map[lie.Name]func() bool{
		lie.InfoDust:    func() bool { return p.info().Dust == 2*honest.Dust && p.info().Digest != honest.Digest },
		lie.InfoForfeit: func() bool { return p.info().ForfeitAddress != honest.ForfeitAddress },
		lie.InfoSigner:  func() bool { return p.info().SignerPubkey != honest.SignerPubkey },
		lie.InfoDigest:  func() bool { d := p.info().Digest; return d != p.info().Digest },
		lie.InfoFee: func() bool {
			_, err := p.register(in)
			return codeOf(err) == 31 && p.info().Fees.IntentFee.OffchainInput == ""
		},
		lie.IndexSpent:    func() bool { v := vtxo(); return v[0].IsSpent && v[0].SettledBy != "" },
		lie.IndexGone:     func() bool { return len(vtxo()) == 0 },
		lie.IndexAmount:   func() bool { return vtxo()[0].Amount == 50_001 },
		lie.IndexUnrolled: func() bool { return vtxo()[0].IsUnrolled },
	} {
		op.Lie(name, coins[0].at)
		for range 2 {
			if !seen() {
				t.Errorf("%s is not told", name)
			}
		}
		op.Honest()
		if seen() {
			t.Errorf("%s is told after honesty", name)
		}
	}
	p.send(ctx, coins[1], 10_000, p.vtxoTree().PkScript())
	coins[0] = coins[1]
	op.Lie(lie.IndexUnspent)
	if v := vtxo(); v[0].IsSpent || v[0].ArkTxid != "" {
		t.Errorf("%s is not told: %v", lie.IndexUnspent, v)
	}
}

// TestLiesAreForTheirTargets: a lie waits for a batch with a target in it.
func TestLiesAreForTheirTargets(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	mine := p.fund(50_000)
	op.Lie(lie.SignatureBad, mine.at)
	newParty(t, op).board(ctx, 40_000)
	s := p.sit(ctx, []coin{mine})
	s.ids, s.m.unchecked = []string{p.mustRegister(p.proof(p.message(), []coin{mine}, p.pay(50_000)))}, true
	if out, err := s.play(ctx); err != nil || out.failed != "" {
		t.Fatal(err, out.failed)
	}
	batches := op.Stats().Batches
	if len(batches[0].Lies) != 0 || !slices.Equal(batches[1].Lies, []lie.Name{lie.SignatureBad}) {
		t.Errorf("lies %v and %v", batches[0].Lies, batches[1].Lies)
	}
}
