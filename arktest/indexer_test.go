package arktest_test

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/internal/proof"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestIndexer(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	first := p.board(ctx, 50_000)
	out, err := p.settle(ctx, manners{}, []coin{first}, p.pay(30_000), p.pay(20_000))
	if err != nil || out.failed != "" {
		t.Fatal(err, out.failed)
	}
	coins := out.made
	slices.SortFunc(coins, func(a, b coin) int { return int(a.at.Index) - int(b.at.Index) })
	change := p.send(ctx, coins[0], 10_000, p.vtxoTree().PkScript())
	op.MarkSwept(coins[1].at)

	script := hex.EncodeToString(p.vtxoTree().PkScript())
	count := func(f func(*arkv1.GetVtxosRequest)) int {
		req := &arkv1.GetVtxosRequest{Scripts: []string{script}}
		f(req)
		res, err := p.index.GetVtxos(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		return len(res.Vtxos)
	}
	for name, c := range map[string]struct {
		f    func(*arkv1.GetVtxosRequest)
		want int
	}{
		"all":         {func(*arkv1.GetVtxosRequest) {}, 5},
		"spendable":   {func(r *arkv1.GetVtxosRequest) { r.SpendableOnly = true }, 2},
		"spent":       {func(r *arkv1.GetVtxosRequest) { r.SpentOnly = true }, 3},
		"recoverable": {func(r *arkv1.GetVtxosRequest) { r.RecoverableOnly = true }, 1},
		"renewable":   {func(r *arkv1.GetVtxosRequest) { r.RenewableOnly = true }, 3},
		"pending":     {func(r *arkv1.GetVtxosRequest) { r.PendingOnly = true }, 0},
		"later":       {func(r *arkv1.GetVtxosRequest) { r.After = op.Now().UnixMilli() + 1_000_000 }, 0},
		"a page":      {func(r *arkv1.GetVtxosRequest) { r.Page = &arkv1.IndexerPageRequest{Size: 2, Index: 3} }, 1},
	} {
		if got := count(c.f); got != c.want {
			t.Errorf("%s: %d VTXOs, want %d", name, got, c.want)
		}
	}
	for name, req := range map[string]*arkv1.GetVtxosRequest{
		"nothing":   {},
		"both":      {Scripts: []string{script}, Outpoints: []string{first.at.String()}},
		"two flags": {Scripts: []string{script}, SpentOnly: true, SpendableOnly: true},
		"a key":     {Scripts: []string{script[4:]}},
		"no page":   {Scripts: []string{script}, Page: &arkv1.IndexerPageRequest{}},
		"times":     {Scripts: []string{script}, After: 5, Before: 4},
		"outpoint":  {Outpoints: []string{"zz:0"}},
	} {
		if _, err := p.index.GetVtxos(ctx, req); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
	checkBatch(t, p, ctx, out, 2)
	checkChain(t, p, ctx, change, out)
	checkIntentChain(t, p, ctx, change)
}

func checkBatch(t *testing.T, p *party, ctx context.Context, out outcome, leaves int) {
	t.Helper()
	c, err := p.index.GetCommitmentTx(ctx, &arkv1.GetCommitmentTxRequest{Txid: out.txid})
	if err != nil || c.TotalInputAmount != 50_000 || c.TotalOutputVtxos != int32(leaves) || len(c.Batches) != 1 || c.EndedAt < c.StartedAt {
		t.Errorf("the commitment is %v (%v)", c, err)
	}
	at := &arkv1.IndexerOutpoint{Txid: out.txid}
	tree, err := p.index.GetVtxoTree(ctx, &arkv1.GetVtxoTreeRequest{BatchOutpoint: at})
	if err != nil || len(tree.VtxoTree) != 1 || tree.Page != nil {
		t.Errorf("the tree is %v (%v)", tree, err)
	}
	if l, err := p.index.GetVtxoTreeLeaves(ctx, &arkv1.GetVtxoTreeLeavesRequest{BatchOutpoint: at}); err != nil || len(l.Leaves) != leaves {
		t.Errorf("the leaves are %v (%v)", l, err)
	}
	if f, err := p.index.GetForfeitTxs(ctx, &arkv1.GetForfeitTxsRequest{Txid: out.txid}); err != nil || len(f.Txids) != 1 {
		t.Errorf("the forfeits are %v (%v)", f, err)
	}
	if c, err := p.index.GetConnectors(ctx, &arkv1.GetConnectorsRequest{Txid: out.txid}); err != nil || len(c.Connectors) != 1 {
		t.Errorf("the connectors are %v (%v)", c, err)
	}
	if s, err := p.index.GetBatchSweepTransactions(ctx, &arkv1.GetBatchSweepTransactionsRequest{BatchOutpoint: at}); err != nil || len(s.SweptBy) != 0 {
		t.Errorf("swept by %v (%v)", s, err)
	}
	if _, err := p.index.GetCommitmentTx(ctx, &arkv1.GetCommitmentTxRequest{Txid: strings.Repeat("00", 32)}); err == nil {
		t.Error("an unknown commitment is known")
	}
}

// checkChain walks from an off-chain output to the commitment.
func checkChain(t *testing.T, p *party, ctx context.Context, c coin, out outcome) {
	t.Helper()
	res, err := p.index.GetVtxoChain(ctx, &arkv1.GetVtxoChainRequest{Outpoint: &arkv1.IndexerOutpoint{Txid: c.at.Hash.String(), Vout: c.at.Index}})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	var ids []string
	for _, e := range res.Chain {
		kinds = append(kinds, strings.TrimPrefix(e.Type.String(), "INDEXER_CHAINED_TX_TYPE_"))
		if kinds[len(kinds)-1] != "COMMITMENT" {
			ids = append(ids, e.Txid)
		}
	}
	if want := []string{"ARK", "CHECKPOINT", "TREE", "COMMITMENT"}; !slices.Equal(kinds, want) {
		t.Fatalf("chain %v, want %v", kinds, want)
	}
	if res.Chain[0].Spends[0] != res.Chain[1].Txid || res.Chain[2].Spends[0] != out.txid {
		t.Errorf("the chain is not linked: %v", res.Chain)
	}
	txs, err := p.index.GetVirtualTxs(ctx, &arkv1.GetVirtualTxsRequest{Txids: ids})
	if err != nil || len(txs.Txs) != 3 {
		t.Fatalf("%d transactions (%v)", len(txs.GetTxs()), err)
	}
	for i, raw := range txs.Txs {
		tx := decode(t, raw)
		if tx.UnsignedTx.TxID() != ids[i] {
			t.Errorf("transaction %d is %s, want %s", i, tx.UnsignedTx.TxID(), ids[i])
		}
		if i < 2 {
			if err := tapscript.VerifyTx(tx, nil); err != nil {
				t.Errorf("%s is not fully signed: %v", kinds[i], err)
			}
		} else if tx.Inputs[0].TaprootKeySpendSig == nil {
			t.Error("the tree transaction is not signed")
		}
	}
	if _, err := p.index.GetVtxoChain(ctx, &arkv1.GetVtxoChainRequest{
		Outpoint: &arkv1.IndexerOutpoint{Txid: c.at.Hash.String()}, PageToken: "bogus",
	}); err == nil {
		t.Error("a bogus page token is taken")
	}
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	op, p, coins := boarded(t, arktest.Settings{}, 50_000)
	ctx := deadline(t)
	friend := newParty(t, op)
	script := hex.EncodeToString(friend.vtxoTree().PkScript())
	made, err := p.index.SubscribeForScripts(ctx, &arkv1.SubscribeForScriptsRequest{Scripts: []string{script}})
	if err != nil {
		t.Fatal(err)
	}
	open := func(req *arkv1.GetSubscriptionRequest) func() (*arkv1.GetSubscriptionResponse, error) {
		s, err := p.index.GetSubscription(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		return s.Recv
	}
	byID := open(&arkv1.GetSubscriptionRequest{SubscriptionId: made.SubscriptionId})
	fresh := open(&arkv1.GetSubscriptionRequest{Filter: &arkv1.SubscriptionFilter{Expressions: []string{"hasPacket(tx.extension, 9)"}}})
	ev, err := fresh()
	if err != nil || ev.GetSubscriptionStarted().GetSubscriptionId() == "" {
		t.Fatalf("%v (%v)", ev, err)
	}
	freshID := ev.GetSubscriptionStarted().SubscriptionId
	txs, err := p.ark.GetTransactionsStream(ctx, &arkv1.GetTransactionsStreamRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := txs.Header(); err != nil {
		t.Fatal(err)
	}
	await(t, ctx, op, "the subscriptions to be open", func(s arktest.Stats) bool { return s.Calls[arkv1.IndexerService_GetSubscription_FullMethodName] > 1 })
	note := &wire.TxOut{PkScript: []byte{0x6a, 6, 'A', 'R', 'K', 9, 1, 7}}
	pay := p.payment(coins, &wire.TxOut{Value: 10_000, PkScript: friend.vtxoTree().PkScript()}, note, p.pay(40_000))
	res, err := p.submit(ctx, pay)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.finalize(ctx, res.ArkTxid, res.SignedCheckpointTxs); err != nil {
		t.Fatal(err)
	}
	ev, err = byID()
	e := ev.GetEvent()
	if err != nil || e.GetTxid() != res.ArkTxid || !slices.Equal(e.Scripts, []string{script}) || len(e.NewVtxos) != 1 || len(e.SpentVtxos) != 0 || len(e.CheckpointTxs) != 1 {
		t.Errorf("by script: %v (%v)", ev, err)
	}
	if _, ok := e.GetCheckpointTxs()[coins[0].at.String()]; !ok {
		t.Errorf("checkpoints are keyed %v", e.GetCheckpointTxs())
	}
	if ev, err := fresh(); err != nil || ev.GetEvent().GetTxid() != res.ArkTxid || len(ev.GetEvent().GetScripts()) != 0 {
		t.Errorf("by expression: %v (%v)", ev, err)
	}
	if n, err := txs.Recv(); err != nil || n.GetArkTx().GetTxid() != res.ArkTxid || len(n.GetArkTx().GetSpendableVtxos()) != 2 || len(n.GetArkTx().GetSpentVtxos()) != 1 {
		t.Errorf("in the transaction stream: %v (%v)", n, err)
	}

	// A second stream displaces the first; unknown ids and bad filters are named.
	second := open(&arkv1.GetSubscriptionRequest{SubscriptionId: made.SubscriptionId})
	if _, err := byID(); err == nil {
		t.Error("the displaced stream goes on")
	}
	if _, err := p.index.UnsubscribeForScripts(ctx, &arkv1.UnsubscribeForScriptsRequest{SubscriptionId: made.SubscriptionId}); err != nil {
		t.Error(err)
	}
	if _, err := second(); err == nil {
		t.Error("a subscription without scripts goes on")
	}
	if _, err := p.index.SubscribeForScripts(ctx, &arkv1.SubscribeForScriptsRequest{SubscriptionId: made.SubscriptionId, Scripts: []string{script}}); codeOf(err) != 50 {
		t.Errorf("an ended subscription: %v", err)
	}
	update := func(f *arkv1.SubscriptionFilter) error {
		_, err := p.index.UpdateSubscription(ctx, &arkv1.UpdateSubscriptionRequest{SubscriptionId: freshID, Filter: f})
		return err
	}
	if err := update(&arkv1.SubscriptionFilter{Expressions: []string{"1 +"}}); codeOf(err) != 52 {
		t.Errorf("a broken expression: %v", err)
	}
	if err := update(&arkv1.SubscriptionFilter{Expressions: slices.Repeat([]string{"true"}, 65)}); codeOf(err) != 51 {
		t.Errorf("too many expressions: %v", err)
	}
	if err := update(&arkv1.SubscriptionFilter{Scripts: &arkv1.ScriptFilter{Add: []string{"zz"}}}); err == nil {
		t.Error("a bad script is taken")
	}
	if err := update(&arkv1.SubscriptionFilter{Scripts: &arkv1.ScriptFilter{Add: []string{script}}}); err != nil {
		t.Error(err)
	}
}

// TestSubscriptionsLinger: one without a stream dies after a minute.
func TestSubscriptionsLinger(t *testing.T) {
	t.Parallel()
	clock := arktest.NewManualClock(time.Unix(1_800_000_000, 0))
	op := start(t, arktest.Config{Clock: clock, NoEsplora: true})
	p := newParty(t, op)
	ctx := deadline(t)
	script := hex.EncodeToString(p.vtxoTree().PkScript())
	made, err := p.index.SubscribeForScripts(ctx, &arkv1.SubscribeForScriptsRequest{Scripts: []string{script}})
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(59e9)
	again := &arkv1.SubscribeForScriptsRequest{SubscriptionId: made.SubscriptionId, Scripts: []string{script}}
	if _, err := p.index.SubscribeForScripts(ctx, again); err != nil {
		t.Fatalf("before a minute: %v", err)
	}
	clock.Advance(2e9)
	for { // the timer's function runs beside us
		if _, err := p.index.SubscribeForScripts(ctx, again); codeOf(err) == 50 {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// checkIntentChain asks by an intent, in which the coin proves itself.
func checkIntentChain(t *testing.T, p *party, ctx context.Context, c coin) {
	t.Helper()
	in := p.proof(proof.Message{Type: proof.GetData}, []coin{c})
	ask := &arkv1.IndexerIntent{Proof: in.Proof, Message: in.Message}
	by := func(in *arkv1.IndexerIntent) *arkv1.GetVtxoChainRequest {
		return &arkv1.GetVtxoChainRequest{Auth: &arkv1.GetVtxoChainRequest_Intent{Intent: in}}
	}
	plain, err := p.index.GetVtxoChain(ctx, &arkv1.GetVtxoChainRequest{Outpoint: &arkv1.IndexerOutpoint{Txid: c.at.Hash.String(), Vout: c.at.Index}})
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.index.GetVtxoChain(ctx, by(ask))
	if err != nil || len(res.Chain) != len(plain.Chain) || res.Page != nil || res.AuthToken != "" {
		t.Errorf("the chain by intent is %v (%v)", res, err)
	}
	txs, err := p.index.GetVirtualTxs(ctx, &arkv1.GetVirtualTxsRequest{Auth: &arkv1.GetVirtualTxsRequest_Intent{Intent: ask}})
	if err != nil || len(txs.Txs) != 1 || decode(t, txs.Txs[0]).UnsignedTx.TxHash() != c.at.Hash {
		t.Errorf("the transactions by intent are %v (%v)", txs, err)
	}
	two := p.proof(proof.Message{Type: proof.GetData}, []coin{c, c})
	for _, bad := range []struct {
		req  *arkv1.GetVtxoChainRequest
		want codes.Code
	}{
		{&arkv1.GetVtxoChainRequest{Auth: &arkv1.GetVtxoChainRequest_Intent{Intent: ask}, PageToken: "x"}, codes.InvalidArgument},
		{by(&arkv1.IndexerIntent{Message: in.Message}), codes.InvalidArgument},
		{by(&arkv1.IndexerIntent{Proof: "x", Message: in.Message}), codes.InvalidArgument},
		{by(&arkv1.IndexerIntent{Proof: in.Proof}), codes.InvalidArgument},
		{by(&arkv1.IndexerIntent{Proof: in.Proof, Message: `{"type":"delete"}`}), codes.InvalidArgument},
		{by(&arkv1.IndexerIntent{Proof: two.Proof, Message: two.Message}), codes.Internal},
	} {
		if _, err := p.index.GetVtxoChain(ctx, bad.req); status.Code(err) != bad.want {
			t.Errorf("%v: %v, want %v", bad.req, err, bad.want)
		}
	}
}
