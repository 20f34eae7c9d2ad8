package spend_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/spend"
	"github.com/vigil-ark/vigil/policy"
	"github.com/vigil-ark/vigil/vigilpb"
)

// TestNothingLeavesUncounted reads random transactions, lets the policy decide,
// and compares what it counts with the outputs themselves: every satoshi that goes
// to another script than the wallet's own in Ark, and none that comes back.
func TestNothingLeavesUncounted(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(3, 4))
	own, sub := w.desc.PkScript(), ark.SubDust(w.desc.Tree().OutputKey())
	scripts := [][]byte{
		own, own, w.foreign(0).PkScript, w.desc.BoardingPkScript(), w.desc.TwoLeaf().PkScript(),
	}
	offchain := append(scripts, sub, ark.SubDust(w.stranger.PubKey().XOnly()), []byte{0x6a, 0x01, 0x07})
	const each = 10_000
	coins := []coin{w.coin(10, each), w.coin(11, each), w.coin(12, each)}
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	for range rounds {
		some := coins[:rng.IntN(3)+1]
		left := int64(len(some)) * each
		var outs []*wire.TxOut
		pay := func(from [][]byte, amount int64) {
			outs = append(outs, wire.NewTxOut(amount, from[rng.IntN(len(from))]))
		}
		var doc *vigilpb.Document
		var onchain []int
		switch rng.IntN(3) {
		case 0: // an off-chain payment leaves nothing over
			for range rng.IntN(3) {
				part := rng.Int64N(left)
				pay(offchain, part)
				left -= part
			}
			pay(offchain, left)
			doc = w.arkTx(w.payment(some, outs...))
		case 1:
			for i := range rng.IntN(4) + 1 {
				part := rng.Int64N(left)
				pay(scripts, part)
				if left -= part; rng.IntN(3) == 0 {
					onchain = append(onchain, i)
				}
			}
			pay([][]byte{own}, left)
			m := intent.NewRegister(0, 0, w.treeKey.PubKey())
			m.OnchainOutputs = append(m.OnchainOutputs, onchain...)
			doc = w.intent(w.message(m), w.proof(w.message(m), some, outs...))
		default: // an exit leaves the rest to miners
			pay(scripts, rng.Int64N(left))
			doc = w.exited(w.exit(some, 512, outs...))
		}
		var want int64
		for i, out := range outs {
			stays := bytes.Equal(out.PkScript, own) || bytes.Equal(out.PkScript, sub)
			for _, n := range onchain {
				stays = stays && n != i
			}
			if !stays {
				want += out.Value
			}
		}
		s := w.one(doc)
		if s.Kind == spend.Exit {
			want = int64(len(some)) * each // whoever gets it, and the fee
		}
		d := policy.Decide(policy.Default(), []*spend.Spend{s}, nil, nil)
		var counted int64
		for _, c := range d.Counts {
			counted += c.Amount
		}
		if !d.Allow || counted != want || d.Amount != want {
			t.Fatalf("%s: %d counted, %d leave: %+v", s.Kind, counted, want, d)
		}
		if again := policy.Decide(policy.Default(), []*spend.Spend{w.one(doc)}, policy.Spent{s.Key: want}, nil); len(again.Counts) != 0 {
			t.Fatalf("a retry counts %+v", again)
		}
	}
}
