package renewal_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/lie"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/signer"
)

// strayVault is a vault that opted in to delegates of two-leaf coins, and has them.
func (r *rig) strayVault() *vault {
	v := r.vault()
	v.stray = true
	return v
}

// sealed reads what the secret store has of a delegate's bearer forfeits, one
// signature after the other.
func (r *rig) sealed(rec *delegate.Record) (sigs [][]byte) {
	r.t.Helper()
	value, err := r.secrets.Get(r.ctx, signer.ForfeitName(rec.ID))
	r.must(err)
	r.must(signer.Parts(signer.ForfeitName(rec.ID), value, func(part string, b secret.Bytes) error {
		if !strings.HasSuffix(part, "signature") {
			return nil
		}
		return b.Use(func(b []byte) error { sigs = append(sigs, bytes.Clone(b)); return nil })
	}))
	return sigs
}

// nowhere holds that no row has any of the signatures, in the half that nobody else
// can know.
func (r *rig) nowhere(sigs [][]byte) {
	r.t.Helper()
	if len(sigs) == 0 {
		r.t.Fatal("nothing to look for")
	}
	marks := [][]byte{[]byte("register")} // stands in every record that has not ended
	for _, sig := range sigs {
		marks = append(marks, sig[32:])
	}
	r.must(ledger.Inspect(r.ctx, r.kv, func(s *ledger.Snapshot) error {
		return s.Mentions(marks, func(row string, mark int) error {
			if mark > 0 {
				r.t.Errorf("a sealed signature stands in %s", row)
			}
			return nil
		})
	}))
}

// spotless is clean with the secret store held against the records too.
func (r *rig) spotless() {
	r.t.Helper()
	names, err := r.secrets.List(r.ctx, "")
	r.must(err)
	report, err := fsck.Check(r.ctx, r.kv, &fsck.Secrets{Names: names, Service: map[bip340.PubKey]string{r.service: signer.ServiceName(1)}})
	r.must(err)
	if !report.Clean() {
		r.t.Errorf("fsck: %s", report)
	}
	r.clean()
}

// TestTwoLeafAcrossRestarts kills the process in every live state of a delegate over
// a coin of either script: it goes on from its record and from what is sealed, both
// coins come to the wallet's own script in one batch, each is forfeited to no more
// commitments than have a stored branch, and no row ever has a signature that is
// sealed, the stored forfeits of the branch least of all.
func TestTwoLeafAcrossRestarts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state delegate.State
		hold  func(*rig) // makes the state last
	}{
		{delegate.Armed, func(r *rig) {}},
		{delegate.Registered, func(r *rig) { r.alone(2) }},
		{delegate.Joining, func(r *rig) { r.op.Fault(arktest.Fault{Method: "SubmitTreeSignatures", Hang: true}) }},
		{delegate.Submitted, func(r *rig) { r.op.Fault(arktest.Fault{Method: "SubmitSignedForfeitTxs", Hang: true}) }},
		{delegate.Unconfirmed, func(r *rig) { r.chain = shallow{onChain{r.op.Chain()}} }},
	} {
		t.Run(c.state.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, arktest.Settings{})
				v := r.vault()
				own := v.coin(50_000)
				v.stray = true
				coin := v.coin(100_000)
				at := time.Time{}
				if c.state == delegate.Armed {
					at = time.Now().Add(3 * time.Second)
				}
				rec := v.delegate(at, own, coin)
				sigs := r.sealed(rec)
				r.nowhere(sigs)
				c.hold(r)
				r.start()
				r.awaitState(rec.ID, c.state)
				r.crash()
				r.nowhere(sigs)
				if names := r.garbage(); len(names) > 0 {
					t.Errorf("%v are garbage in %s", names, c.state)
				}
				r.op.ClearFaults()
				r.alone(1)
				r.chain = nil
				r.start()
				done := r.awaitState(rec.ID, delegate.Settled)
				r.halt()
				r.renewed(done, own, coin)
				r.nowhere(sigs)
				renewed, err := r.vtxos(done.Leaves...)
				if err != nil || len(renewed) != 1 || !bytes.Equal(renewed[0].Script, v.desc.PkScript()) || renewed[0].Amount != 150_000 {
					t.Errorf("renewed to %+v, %v", renewed, err)
				}
				if got := r.garbage(); !slices.Equal(sortedNames(got), sortedNames(signer.Garbage(done))) || len(got) != 2 {
					t.Errorf("garbage %v, want %v", got, signer.Garbage(done))
				}
				r.branches(done, coin, sigs)
				r.spotless()
			})
		})
	}
}

func sortedNames(names []string) []string { return slices.Sorted(slices.Values(names)) }

// branches holds that the stored branch tells of the forfeit that left, without the
// signature that made it one.
func (r *rig) branches(done *delegate.Record, coin ark.VTXO, sigs [][]byte) {
	r.t.Helper()
	b, err := r.ledger.Branch(r.ctx, done.ID, done.Commitment)
	r.must(err)
	at := slices.IndexFunc(b.Forfeits, func(s delegate.Sent) bool { return s.Outpoint == coin.Outpoint })
	if at < 0 {
		r.t.Fatalf("no forfeit of %s in the branch", coin.Outpoint)
	}
	packet, err := script.DecodePSBT(b.Forfeits[at].PSBT, script.StrangerLimits())
	r.must(err)
	if len(packet.Inputs) != 2 || packet.UnsignedTx.TxIn[0].PreviousOutPoint != coin.Outpoint || len(packet.Inputs[0].TaprootScriptSpendSig) > 0 {
		r.t.Errorf("the branch keeps %d inputs and %d signatures", len(packet.Inputs), len(packet.Inputs[0].TaprootScriptSpendSig))
	}
	for _, sent := range b.Forfeits {
		if bytes.Contains(sent.PSBT, sigs[0][32:]) {
			r.t.Error("the branch has the signature")
		}
	}
}

// TestTwoLeafSecretGone: without what is sealed, or with another's in its place, the
// delegate is quarantined before anything is registered, and kept.
func TestTwoLeafSecretGone(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(r *rig, mine, other *delegate.Record){
		"missing": func(r *rig, mine, _ *delegate.Record) { r.must(r.secrets.Delete(r.ctx, signer.ForfeitName(mine.ID))) },
		"another's": func(r *rig, mine, other *delegate.Record) {
			value, err := r.secrets.Get(r.ctx, signer.ForfeitName(other.ID))
			r.must(err)
			r.must(r.secrets.Put(r.ctx, signer.ForfeitName(mine.ID), value))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, arktest.Settings{})
				v := r.strayVault()
				coins := []ark.VTXO{v.coin(40_000), v.coin(50_000)}
				mine, other := v.delegate(time.Time{}, coins[0]), v.delegate(time.Time{}, coins[1])
				spoil(r, mine, other)
				r.start()
				held := r.awaitState(mine.ID, delegate.Quarantined)
				r.renewed(r.awaitState(other.ID, delegate.Settled), coins[1])
				r.halt()
				if len(held.Proof) == 0 || held.IntentID != "" || len(r.op.Stats().Forfeits[coins[0].Outpoint]) > 0 {
					t.Errorf("quarantined with a proof of %d bytes, registered as %q", len(held.Proof), held.IntentID)
				}
			})
		})
	}
}

// TestTwoLeafAfterExpiry: once the coin has expired it is renewed as a recoverable
// one, and no forfeit of it ever leaves.
func TestTwoLeafAfterExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, arktest.Settings{})
		v := r.strayVault()
		coin := v.coin(60_000)
		rec := v.delegate(time.Time{}, coin)
		sigs := r.sealed(rec)
		r.op.Expire(coin.Outpoint)
		r.start()
		r.renewed(r.awaitState(rec.ID, delegate.Settled), coin)
		r.halt()
		r.forfeited(0, coin)
		r.nowhere(sigs)
		r.spotless()
	})
}

// TestLiesAboutTwoLeafCoins: that nothing pins their forfeits binds Vigil to no less
// care. Told of foreign connectors and other commitments it gives none; and both coins
// are renewed once the operator is honest. What is said before connectors are is the
// same for every coin (TestLiesToWallets).
func TestLiesAboutTwoLeafCoins(t *testing.T) {
	t.Parallel()
	var told int
	t.Run("all", func(t *testing.T) {
		for _, spec := range lie.All() {
			if name := string(spec.Name); !strings.HasPrefix(name, "connector") && !strings.HasPrefix(name, "finalization") {
				continue
			}
			if told++; testing.Short() && told%4 != 1 {
				continue
			}
			t.Run(string(spec.Name), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					l := lyingRig(t, spec)
					for range 3 {
						v := l.strayVault()
						l.coins = append(l.coins, v.coin(50_000))
						if len(l.coins) < 3 {
							l.recs = append(l.recs, v.delegate(time.Time{}, l.coins[len(l.coins)-1]))
							l.keys = append(l.keys, l.recs[len(l.recs)-1].TreeKey)
						}
					}
					l.aim()
					var sigs [][]byte
					for _, rec := range l.recs {
						sigs = append(sigs, l.sealed(rec)...)
					}
					l.run()
					l.nowhere(sigs)
				})
			})
		}
	})
	if told < 9 {
		t.Errorf("%d lies told", told)
	}
}
