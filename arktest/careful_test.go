package arktest_test

import (
	"context"
	"encoding/hex"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/lie"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/operator"
)

// careful is a wallet of Vigil's own, which stands on ark/batch.
func careful(t *testing.T, op *arktest.Operator) *wallet.Wallet {
	t.Helper()
	c, err := operator.Dial(operator.Config{URL: op.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	key, _, err := bip340.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return wallet.New(c, key, nil)
}

func boardWallet(t *testing.T, ctx context.Context, op *arktest.Operator, w *wallet.Wallet, sats int64) (ark.Address, ark.VTXO) {
	t.Helper()
	to, err := w.Address(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := w.BoardingAddress(ctx)
	if err != nil {
		t.Fatal(err)
	}
	at, err := op.Faucet(addr, sats)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Mine(1); err != nil {
		t.Fatal(err)
	}
	out, _ := op.Chain().Output(at)
	if _, err := w.Board(ctx, to, wallet.BoardingCoin{Outpoint: at, Out: &out}); err != nil {
		t.Fatal(err)
	}
	v, err := w.VTXOs(ctx)
	if err != nil || len(v) != 1 {
		t.Fatal(err, v)
	}
	return to, v[0]
}

// TestCarefulSeesLies: Vigil's own view of a batch sends nothing that a lie
// forbids.
func TestCarefulSeesLies(t *testing.T) {
	if testing.Short() {
		t.Skip("dozens of batches")
	}
	var mu sync.Mutex
	caught := 0
	t.Run("each", func(t *testing.T) {
		for _, spec := range lie.All() {
			if spec.Scope != lie.Batch || spec.Forbids == lie.Nothing {
				continue
			}
			switch spec.Name {
			case lie.LeafShared, lie.LeafOrder, lie.CommitmentOnward: // beyond what the wallet's renewal looks like
				continue
			case lie.ExpiryShort, lie.ExpiryBlocks: // on regtest the wallet takes any expiry; a delegate's record has a minimum
				continue
			}
			t.Run(string(spec.Name), func(t *testing.T) {
				t.Parallel()
				tryCareful(t, spec)
				mu.Lock()
				defer mu.Unlock()
				if !t.Failed() {
					caught++
				}
			})
		}
	})
	t.Logf("%d lies caught", caught)
	if caught < 30 {
		t.Errorf("%d lies caught, want 30 at least", caught)
	}
}

func tryCareful(t *testing.T, spec lie.Spec) {
	op := start(t, arktest.Config{Clock: newQuick(t, 8), NoEsplora: true})
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	w, b := careful(t, op), newParty(t, op)
	to, mine := boardWallet(t, ctx, op, w, 50_000)
	theirs := b.board(ctx, 60_000)
	minimum(t, ctx, op, 2)
	op.Lie(spec.Name, mine.Outpoint)
	seat := b.sit(ctx, []coin{theirs})
	seat.m.unchecked = true
	seat.ids = []string{b.mustRegister(b.proof(b.message(), []coin{theirs}, b.pay(60_000)))}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = seat.playBlindly(ctx) })
	renewed := make(chan error, 1)
	wg.Go(func() {
		_, err := w.Renew(ctx, to, mine)
		renewed <- err
	})
	over := func(st arktest.Stats) bool {
		lb, ok := lied(st, spec.Name)
		return ok && (lb.Phase == arktest.PhaseFinalized || lb.Phase == arktest.PhaseFailed || st.RoundID != lb.ID) || len(st.Vanished) > 0
	}
	if err := op.Await(ctx, over); err != nil {
		t.Errorf("the batch does not end: %v", err)
	}
	st := op.Stats()
	lb, _ := lied(st, spec.Name)
	cancel()
	wg.Wait()
	if step := walletSent(st, lb, b, mine.Outpoint); step >= spec.Forbids {
		t.Errorf("the wallet sent its %s, where %s is forbidden; it ended with %v", step, spec.Forbids, <-renewed)
	}
}

// walletSent is the last step that the wallet took in the batch.
func walletSent(st arktest.Stats, b arktest.Batch, other *party, at wire.OutPoint) lie.Step {
	foreign := func(m map[string]int) bool {
		for k := range m {
			if k != hex.EncodeToString(other.cosigner.PubKey().SerializeCompressed()) {
				return true
			}
		}
		return false
	}
	switch {
	case len(st.Forfeits[at]) > 0:
		return lie.Forfeits
	case foreign(b.Signatures):
		return lie.Signatures
	case foreign(b.Nonces):
		return lie.Nonces
	case len(b.Joined) > 1 || len(b.Joined) == 1 && slices.Contains(b.Inputs, at):
		return lie.Confirm
	}
	return 0
}
