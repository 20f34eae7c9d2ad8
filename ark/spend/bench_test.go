package spend_test

import (
	"testing"
	"time"

	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/spend"
	"github.com/vigil-ark/vigil/vigilpb"
)

// BenchmarkDelegate reads a delegate over 20 VTXOs: a register proof, 20 forfeits
// and the delete proof, 43 sighashes. The floor is one plain signature for each of
// them, measured in the same run: what the two sides compute anyway is several
// times that.
func BenchmarkDelegate(b *testing.B) {
	w := newWorld(b)
	var coins []coin
	for i := range 20 {
		coins = append(coins, w.coin(byte(10+i), 10_000))
	}
	message, del := w.register(), w.message(intent.Message{Kind: intent.Delete})
	docs := []*vigilpb.Document{w.intent(message, w.proof(message, coins, w.own(200_000)))}
	for _, c := range coins {
		docs = append(docs, w.delegated(w.delegateForfeit(c, descriptor.LeafDelegate)))
	}
	docs = append(docs, w.intent(del, w.proof(del, coins[:1])))
	terms := w.terms()
	var messages [][32]byte
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		list, err := spend.Parse(docs, w.desc, terms)
		if err != nil {
			b.Fatal(err)
		}
		messages = spend.Messages(list)
	}
	each := b.Elapsed() / time.Duration(b.N)
	b.StopTimer()
	if len(messages) != 43 {
		b.Fatalf("%d sighashes", len(messages))
	}
	start := time.Now()
	const rounds = 20
	for range rounds {
		for _, m := range messages {
			if _, err := w.group.Sign(m[:]); err != nil {
				b.Fatal(err)
			}
		}
	}
	floor := time.Since(start) / rounds
	b.ReportMetric(float64(each)/float64(floor), "x-of-43-signatures")
}
