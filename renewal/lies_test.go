package renewal_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/lie"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
)

// TestLies has the operator tell every lie that it knows to an engine with two
// delegates, holds that nothing left that should not have, and that both coins
// are renewed once the operator is honest again. With -short, as under the race
// detector, where a dozen batches at once starve each other: every fourth lie.
func TestLies(t *testing.T) { lies(t, 4, newLiar) }

// TestLiesToWallets is the same list for two wallets with a share of Vigil's.
func TestLiesToWallets(t *testing.T) { lies(t, 8, newVaultLiar) }

func lies(t *testing.T, every int, liar func(*testing.T, lie.Spec) *liar) {
	var told, caught, seen atomic.Int64
	t.Run("all", func(t *testing.T) {
		for i, spec := range lie.All() {
			if testing.Short() && i%every != 0 {
				continue
			}
			if spec.Name == lie.CommitmentOnward {
				// Delegates have no on-chain outputs (ONCHAIN_OUTPUT_UNSUPPORTED); the
				// batch's own tests tell this lie.
				continue
			}
			t.Run(string(spec.Name), func(t *testing.T) {
				t.Parallel()
				told.Add(1)
				synctest.Test(t, func(t *testing.T) {
					l := liar(t, spec)
					l.run()
					seen.Add(int64(l.seen))
				})
				if !t.Failed() {
					caught.Add(1)
				}
			})
		}
	})
	t.Logf("%d of %d lies caught", caught.Load(), told.Load())
	if seen.Load() == 0 {
		t.Error("no nonce of ours was ever seen: their absence proves nothing")
	}
}

// liar is one lie being told.
type liar struct {
	*rig
	spec   lie.Spec
	coins  []ark.VTXO
	recs   []*delegate.Record
	ids    []string // intent ids when the lie is told
	target []ark.VTXO
	keys   []bip340.PubKey // ours in the tree
	seen   int             // nonces of ours
	before map[string]bool // batches that were there when the lie was told: one may have failed while boarding
}

// lyingRig is one with nothing of ours in it.
func lyingRig(t *testing.T, spec lie.Spec) *liar {
	r := newRig(t, arktest.Settings{BanThreshold: -1}, func(c *arktest.Config) {
		if spec.Name == lie.DoubleSpent {
			// A block that came by itself could confirm the commitment first.
			c.BlockAfter, c.BlockEvery = -1, -1
		}
	})
	r.chain = onChain{r.op.Chain()}
	return &liar{rig: r, spec: spec}
}

// newVaultLiar lies to wallets.
func newVaultLiar(t *testing.T, spec lie.Spec) *liar {
	l := lyingRig(t, spec)
	vaults := []*vault{l.vault(), l.vault(), l.vault()}
	for _, v := range vaults {
		v.split = spec.Name == lie.LeafOrder // its order shows only where two outputs differ
		l.coins = append(l.coins, v.coin(50_000))
	}
	for i, v := range vaults[:2] {
		l.recs = append(l.recs, v.delegate(time.Time{}, l.coins[i]))
		l.keys = append(l.keys, l.recs[i].TreeKey)
	}
	l.aim()
	return l
}

// newLiar lies to stock wallets.
func newLiar(t *testing.T, spec lie.Spec) *liar {
	l := lyingRig(t, spec)
	r := l.rig
	l.keys = []bip340.PubKey{r.service}
	devices := []*wallet.Wallet{r.device(), r.device(), r.device()}
	l.coins = r.boardAll(devices, 50_000)
	for i, d := range devices[:2] {
		opt := wallet.DelegateOptions{}
		if spec.Name == lie.LeafOrder {
			// Its order shows only where two outputs differ.
			opt.Fee, opt.FeeScript = 1_000, l.coins[i].Script
		}
		l.recs = append(l.recs, r.submit(d, opt, l.coins[i]))
	}
	l.aim()
	return l
}

// aim chooses whose coins the lie is about.
func (l *liar) aim() {
	l.target = l.coins[:1]
	switch l.spec.Name {
	case lie.LeafShared, lie.ConnectorShared:
		l.target = l.coins[:2]
	case lie.ConnectorStranger:
		l.target = []ark.VTXO{l.coins[0], l.coins[2]}
	}
}

// tell arms the lie for the targets.
func (l *liar) tell() {
	l.before = map[string]bool{}
	for _, b := range l.op.Stats().Batches {
		l.before[b.ID] = true
	}
	ops := l.target[:1:1]
	if len(l.target) > 1 {
		ops = l.target
	}
	switch len(ops) {
	case 1:
		l.op.Lie(l.spec.Name, ops[0].Outpoint)
	default:
		l.op.Lie(l.spec.Name, ops[0].Outpoint, ops[1].Outpoint)
	}
}

func (l *liar) run() {
	l.alone(3) // no batch begins before both are registered and the lie is armed
	if l.spec.Scope == lie.Standing && l.spec.Name != lie.IndexUnspent {
		l.tell()
		l.alone(1)
		l.start()
		l.standing()
	} else {
		l.start()
		for _, rec := range l.recs {
			rec = l.awaitState(rec.ID, delegate.Registered)
			l.ids = append(l.ids, rec.IntentID)
		}
		l.tell()
		l.alone(1)
		l.batch()
	}
	l.op.Honest()
	if l.spec.Name == lie.FinalizedUnbroadcast {
		l.mineOn() // the double spend brings a block of its own
	}
	l.end()
}

// mineOn lets blocks come, so that conflicts confirm.
func (l *liar) mineOn() {
	if err := l.op.Mine(1); err != nil {
		l.t.Fatal(err)
	}
}

// standing waits until the engine has met the lie, and holds what it forbids.
func (l *liar) standing() {
	l.await(l.recs[0].ID, "an attempt", func(rec *delegate.Record) bool {
		return rec.LastError.Code != "" || rec.State.Ended() || rec.State == delegate.Settled
	})
	for _, b := range l.op.Stats().Batches {
		if l.spec.Forbids == lie.Confirm && !l.before[b.ID] && b.Phase != arktest.PhaseFinalized && len(b.Joined) > 0 {
			l.t.Errorf("told %q, the engine joined a batch", l.spec.Told)
		}
	}
}

// batch waits for the end of the batch in which the lie was told, and holds that
// no message left that it forbids.
func (l *liar) batch() {
	over := func(s arktest.Stats) bool {
		return slices.ContainsFunc(s.Batches, func(b arktest.Batch) bool {
			return slices.Contains(b.Lies, l.spec.Name) && (b.Phase == arktest.PhaseFinalized || b.Phase == arktest.PhaseFailed)
		})
	}
	gone := func(s arktest.Stats) bool {
		return over(s) || len(s.Vanished) > 0 || strings.HasPrefix(string(l.spec.Name), "crash") || l.spec.Name == lie.IndexUnspent
	}
	if err := l.op.Await(l.ctx, gone); err != nil {
		l.t.Fatalf("the lie was not told to its end: %v: %+v", err, l.op.Stats().Batches)
	}
	for _, b := range l.op.Stats().Batches {
		if slices.Contains(b.Lies, l.spec.Name) {
			l.held(b)
		}
	}
}

// held checks one batch in which the lie was told.
func (l *liar) held(b arktest.Batch) {
	l.t.Helper()
	nonces, signatures := 0, 0
	for _, ours := range l.keys {
		for key, n := range b.Nonces {
			if strings.HasSuffix(key, ours.XOnly().String()) {
				nonces += n
			}
		}
		for key, n := range b.Signatures {
			if strings.HasSuffix(key, ours.XOnly().String()) {
				signatures += n
			}
		}
	}
	l.seen += nonces
	forfeits := 0
	for _, c := range l.target {
		forfeits += b.Forfeits[c.Outpoint]
	}
	joined := slices.Contains(b.Joined, l.ids[0])
	bad := func(step lie.Step) bool { return l.spec.Forbids <= step }
	if bad(lie.Confirm) && joined {
		l.t.Errorf("told %q, it confirmed", l.spec.Told)
	}
	// Where only confirming was forbidden for the target, the other may go on.
	alone := l.spec.Forbids == lie.Confirm && len(b.Joined) > 0
	if bad(lie.Nonces) && nonces > 0 && !alone && l.spec.Name != lie.ConfirmRefused {
		l.t.Errorf("told %q, %d nonces left", l.spec.Told, nonces)
	}
	if bad(lie.Signatures) && signatures > 0 && !alone && l.spec.Name != lie.ConfirmRefused {
		l.t.Errorf("told %q, %d partial signatures left", l.spec.Told, signatures)
	}
	if bad(lie.Forfeits) && forfeits > 0 {
		l.t.Errorf("told %q, %d forfeits left", l.spec.Told, forfeits)
	}
	if len(b.Signatures) > 0 && signatures > len(l.keys) {
		l.t.Errorf("%d keys of ours signed %d times in one batch", len(l.keys), signatures)
	}
}

// end holds that both delegates end as they must once the operator is honest.
func (l *liar) end() {
	for i, rec := range l.recs {
		switch {
		case i == 0 && l.spec.Name == lie.IndexSpent:
			l.awaitState(rec.ID, delegate.Spent) // the operator's word
		case i == 0 && l.spec.Name == lie.IndexUnrolled:
			l.awaitState(rec.ID, delegate.Broken)
		case i == 0 && (l.spec.Name == lie.DoubleSpent || l.spec.Name == lie.FinalizedUnbroadcast):
			// The operator goes on saying that the coin is settled by a commitment
			// that is not on the chain: never believed, never ended.
			l.await(rec.ID, "disbelief", func(rec *delegate.Record) bool {
				return rec.State == delegate.Due && rec.LastError.Code == "COMMITMENT_LOST" && rec.Attempts > 1
			})
		case l.spec.Name == lie.FailedButBroadcast:
			// The operator never learns of it; the chain and the branch say so.
			l.awaitState(rec.ID, delegate.Settled)
		case l.spec.Name == lie.DoubleSpent || l.spec.Name == lie.FinalizedUnbroadcast:
			// It was in the same batch.
		default:
			done := l.await(rec.ID, "settled", func(rec *delegate.Record) bool { return rec.State == delegate.Settled })
			l.renewed(done, l.coins[i])
		}
	}
	l.halt()
	// A second forfeit may leave only for another commitment whose branch is
	// stored; where the lie came before the forfeits, there is no first.
	most := 2
	if l.spec.Forbids <= lie.Forfeits {
		most = 1
	}
	for _, c := range l.target[:1] {
		if n := len(l.op.Stats().Forfeits[c.Outpoint]); n > most {
			l.t.Errorf("the target was forfeited %d times, at most %d may be", n, most)
		}
	}
	if n := len(l.op.Stats().Forfeits[l.coins[2].Outpoint]); n > 0 {
		l.t.Errorf("a coin that nobody delegated was forfeited %d times", n)
	}
	l.clean()
}
