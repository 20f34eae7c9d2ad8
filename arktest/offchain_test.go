package arktest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/internal/proof"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

func subDust(script []byte) []byte { return append([]byte{txscript.OP_RETURN, 32}, script[2:]...) }

func TestSendAndSpendOn(t *testing.T) {
	t.Parallel()
	op, p, coins := boarded(t, arktest.Settings{}, 50_000)
	ctx := deadline(t)
	root, _ := op.VTXO(coins[0].at)
	change := p.send(ctx, coins[0], 10_000, newParty(t, op).vtxoTree().PkScript())
	v, ok := op.VTXO(change.at)
	if !ok || !v.Preconfirm || v.Depth != 1 || v.ExpiresAt != root.ExpiresAt || !slices.Equal(v.Commitments, root.Commitments) {
		t.Errorf("the change is %+v", v)
	}
	old, _ := op.VTXO(coins[0].at)
	if !old.Spent || old.ArkTxid != change.at.Hash.String() || old.SpentBy == "" || old.SettledBy != "" {
		t.Errorf("the coin spent is %+v", old)
	}
	again := p.send(ctx, change, 10_000, newParty(t, op).vtxoTree().PkScript())
	if v, _ := op.VTXO(again.at); v.Depth != 2 {
		t.Errorf("depth %d, want 2", v.Depth)
	}
	// A coin below dust is kept as recoverable.
	small := p.payment([]coin{again}, &wire.TxOut{Value: 100, PkScript: subDust(p.vtxoTree().PkScript())}, p.pay(29_900))
	res, err := p.submit(ctx, small)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.finalize(ctx, res.ArkTxid, res.SignedCheckpointTxs); err != nil {
		t.Fatal(err)
	}
	if v, ok := op.VTXO(wire.OutPoint{Hash: small.change.at.Hash}); !ok || !v.Swept || v.Amount != 100 {
		t.Errorf("the coin below dust is %+v", v)
	}
}

func TestSubmitRefuses(t *testing.T) {
	t.Parallel()
	op, p, coins := boarded(t, arktest.Settings{VtxoMax: 1_000_000, MaxOpReturns: 2}, 50_000, 60_000)
	ctx := deadline(t)
	fresh := func(outs ...*wire.TxOut) payment { return p.payment(coins[:1], outs...) }
	resign := func(pay payment) payment {
		for i := range pay.ark.Inputs {
			pay.ark.Inputs[i].TaprootScriptSpendSig = nil
		}
		if err := tapscript.Sign(pay.ark, p.key, nil); err != nil {
			t.Fatal(err)
		}
		return pay
	}
	with := func(f func(*payment)) payment {
		pay := fresh(p.pay(50_000))
		f(&pay)
		return pay
	}
	stranger := newParty(t, op).vtxoTree()
	for _, c := range []struct {
		name string
		pay  payment
		code int32
		text string
	}{
		{"unknown coin", p.payment([]coin{{at: wire.OutPoint{Index: 9}, out: coins[0].out, tree: coins[0].tree, key: p.key}}, p.pay(50_000)), 30, "some vtxos not found"},
		{"checkpoint twice", with(func(x *payment) { x.points = append(x.points, x.points[0]) }), 5, "duplicated vtxo input"},
		{"another checkpoint", with(func(x *payment) { x.points = p.payment(coins[1:], p.pay(60_000)).points }), 16, "invalid checkpoint txs"},
		{"no witness utxo", with(func(x *payment) { x.points[0].Inputs[0].WitnessUtxo = nil }), 5, "missing witness utxo"},
		{"no leaf", with(func(x *payment) { x.points[0].Inputs[0].TaprootLeafScript = nil }), 5, "missing tapscript leaf"},
		{"no taptree", with(func(x *payment) { x.points[0].Inputs[0].Unknowns = nil }), 5, "missing taptree"},
		{"another taptree", with(func(x *payment) {
			x.points[0].Inputs[0].Unknowns = nil
			tapscript.AddTapTree(&x.points[0].Inputs[0], stranger.Leaves)
		}), 5, "expected"},
		{"wrong amount", with(func(x *payment) {
			x.points[0].Inputs[0].WitnessUtxo = &wire.TxOut{Value: 1, PkScript: coins[0].out.PkScript}
		}), 5, "value mismatch"},
		{"exit leaf", with(func(x *payment) { x.points[0].Inputs[0].TaprootLeafScript[0].Script = coins[0].tree.Leaves[1] }), 5, "invalid spending tapscript"},
		{"unsigned", with(func(x *payment) { x.ark.Inputs[0].TaprootScriptSpendSig = nil }), 5, "missing tapscript spend sig"},
		{"bad signature", with(func(x *payment) { x.ark.Inputs[0].TaprootScriptSpendSig[0].Signature[9] ^= 1 }), 18, "invalid signature in ark tx"},
		{"no leaf in ark", with(func(x *payment) { x.ark.Inputs[0].TaprootLeafScript = nil }), 5, "missing taproot leaf script in ark tx"},
		{"no anchor", with(func(x *payment) {
			x.ark.UnsignedTx.TxOut, x.ark.Outputs = x.ark.UnsignedTx.TxOut[:1], x.ark.Outputs[:1]
			resign(*x)
		}), 13, "missing anchor output"},
		{"two anchors", fresh(p.pay(50_000), anchor()), 13, "multiple anchor outputs"},
		{"too much", fresh(p.pay(1_000_001)), 14, "higher than max vtxo"},
		{"dust", fresh(p.pay(100)), 15, "lower than min vtxo"},
		{"no taproot", fresh(&wire.TxOut{Value: 50_000, PkScript: []byte{0x51}}), 13, "not a taproot"},
		{"sub-dust too much", fresh(&wire.TxOut{Value: 330, PkScript: subDust(coins[0].out.PkScript)}), 13, ">= dust limit"},
		{"paying a return", fresh(&wire.TxOut{Value: 5, PkScript: []byte{0x6a, 1, 7}}), 13, "not a subdust output"},
		{"returns", fresh(p.pay(50_000), &wire.TxOut{PkScript: []byte{0x6a, 1, 7}}, &wire.TxOut{PkScript: []byte{0x6a, 1, 8}}, &wire.TxOut{PkScript: []byte{0x6a, 1, 9}}), 13, "max 2 are allowed"},
		{"lock time", with(func(x *payment) { x.ark.UnsignedTx.LockTime = 5; resign(*x) }), 17, "expected tx"},
	} {
		_, err := p.submit(ctx, c.pay)
		if got := codeOf(err); err == nil || got != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: code %d, %v; want %d, %q", c.name, got, err, c.code, c.text)
		}
	}
	if _, err := p.ark.SubmitTx(ctx, &arkv1.SubmitTxRequest{SignedArkTx: "AAAA", CheckpointTxs: []string{"AAAA"}}); codeOf(err) != 1 {
		t.Errorf("no PSBT: %v", err)
	}
	if v, _ := op.VTXO(coins[0].at); v.Spent {
		t.Error("a refused transaction spent its coin")
	}
	// Registered coins are not spent off chain, and recoverable ones neither.
	p.mustRegister(p.proof(p.message(), coins[:1], p.pay(50_000)))
	if _, err := p.submit(ctx, fresh(p.pay(50_000))); codeOf(err) != 4 {
		t.Errorf("a registered coin: %v", err)
	}
	op.Expire(coins[1].at)
	if _, err := p.submit(ctx, p.payment(coins[1:], p.pay(60_000))); codeOf(err) != 8 {
		t.Errorf("an expired coin: %v", err)
	}
}

func TestPendingTx(t *testing.T) {
	t.Parallel()
	op, p, coins := boarded(t, arktest.Settings{}, 50_000, 60_000)
	ctx := deadline(t)
	m := proof.Message{Type: proof.PendingTx}
	pending := func() []*arkv1.PendingTx {
		res, err := p.ark.GetPendingTx(ctx, &arkv1.GetPendingTxRequest{Identifier: &arkv1.GetPendingTxRequest_Intent{Intent: p.proof(m, coins)}})
		if err != nil {
			t.Fatal(err)
		}
		return res.PendingTxs
	}
	if got := pending(); len(got) != 0 {
		t.Errorf("pending before: %v", got)
	}
	pay := p.payment(coins[:1], p.pay(50_000))
	res, err := p.submit(ctx, pay)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.submit(ctx, pay); codeOf(err) != 1 || !strings.Contains(err.Error(), "duplicated offchain tx") {
		t.Errorf("submitted twice: %v", err)
	}
	if _, err := p.submit(ctx, p.payment(coins[:1], p.pay(20_000), p.pay(30_000))); codeOf(err) != 6 {
		t.Errorf("spent twice: %v", err)
	}
	if _, ok := op.VTXO(pay.change.at); ok {
		t.Error("the output is there before it is final")
	}
	if err := op.Restart(); err != nil {
		t.Fatal(err)
	}
	p = reconnect(t, p)
	got := pending()
	if len(got) != 1 || got[0].ArkTxid != res.ArkTxid || len(got[0].SignedCheckpointTxs) != 1 {
		t.Fatalf("pending after a restart: %v", got)
	}
	if err := p.finalize(ctx, res.ArkTxid, nil); err == nil {
		t.Error("finalized without checkpoints")
	}
	unsigned := got[0].SignedCheckpointTxs
	if _, err := p.ark.FinalizeTx(ctx, &arkv1.FinalizeTxRequest{ArkTxid: res.ArkTxid, FinalCheckpointTxs: unsigned}); codeOf(err) != 18 {
		t.Errorf("finalized with the operator's signature alone: %v", err)
	}
	if err := p.finalize(ctx, strings.Repeat("00", 32), unsigned); codeOf(err) != 19 {
		t.Errorf("an unknown transaction: %v", err)
	}
	if err := p.finalize(ctx, res.ArkTxid, unsigned); err != nil {
		t.Fatal(err)
	}
	if got := pending(); len(got) != 0 {
		t.Errorf("pending after: %v", got)
	}
	if v, ok := op.VTXO(pay.change.at); !ok || v.Spent {
		t.Errorf("the output is %+v", v)
	}
}

// TestLockedLeaf: a CLTV leaf is spent once the chain has reached it, with the
// lock in both transactions.
func TestLockedLeaf(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{Settings: arktest.Settings{}})
	ctx := deadline(t)
	p := newParty(t, op)
	base := p.vtxoTree()
	locked := base.Closures[0]
	locked.Kind, locked.Locktime = tapscript.CLTVMultisig, uint32(op.Now().Add(time.Hour).Unix())
	tree := makeTree(t, locked, base.Closures[1])
	out, err := p.settle(ctx, manners{}, []coin{p.fund(50_000)}, &wire.TxOut{Value: 50_000, PkScript: tree.PkScript()})
	if err != nil || out.failed != "" {
		t.Fatal(err, out.failed)
	}
	b, _ := op.Stats().Batch(out.batch)
	c := coin{at: b.Outputs[0], out: &wire.TxOut{Value: 50_000, PkScript: tree.PkScript()}, tree: tree, key: p.key}
	if _, err := p.submit(ctx, p.payment([]coin{c}, p.pay(50_000))); codeOf(err) != 11 || meta(err)["type"] != "time" {
		t.Errorf("before its time: %v, %v", err, meta(err))
	}
}

// TestAssets: issued off chain, carried through a batch by the leaf's packet,
// and asked for when the intent leaves them out.
func TestAssets(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	c := p.board(ctx, 50_000)
	issue := p.payment([]coin{c}, ext(0), p.pay(50_000))
	// The packet gives its units to output 0, which is the extension itself.
	if _, err := p.submit(ctx, issue); codeOf(err) != 36 {
		t.Errorf("units given to an OP_RETURN: %v", err)
	}
	issue = p.payment([]coin{c}, p.pay(30_000), ext(0), p.pay(20_000))
	res, err := p.submit(ctx, issue)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.finalize(ctx, res.ArkTxid, res.SignedCheckpointTxs); err != nil {
		t.Fatal(err)
	}
	held := coin{at: wire.OutPoint{Hash: issue.change.at.Hash}, out: issue.ark.UnsignedTx.TxOut[0], tree: p.vtxoTree(), key: p.key}
	v, _ := op.VTXO(held.at)
	if len(v.Assets) != 1 || v.Assets[0].Amount != 5000 {
		t.Fatalf("the coin holds %v", v.Assets)
	}
	id := v.Assets[0].ID
	if a, err := p.index.GetAsset(ctx, &arkv1.GetAssetRequest{AssetId: id}); err != nil || a.Supply != "5000" {
		t.Errorf("the asset is %v (%v)", a, err)
	}
	if _, err := p.register(p.proof(p.message(), []coin{held}, p.pay(30_000))); codeOf(err) != 33 {
		t.Errorf("without a packet: %v", err)
	}
	packet := transfer(t, id, 1, 0, 5000)
	if _, err := p.register(p.proof(p.message(), []coin{held}, p.pay(30_000), transfer(t, id, 1, 0, 4999))); codeOf(err) != 35 {
		t.Errorf("with too few units: %v", err)
	}
	out, err := p.settle(ctx, manners{}, []coin{held}, p.pay(30_000), packet)
	if err != nil || out.failed != "" || len(out.made) != 1 {
		t.Fatal(err, out.failed)
	}
	if v, _ := op.VTXO(out.made[0].at); len(v.Assets) != 1 || v.Assets[0] != (arktest.Asset{ID: id, Amount: 5000}) {
		t.Errorf("after the batch the coin holds %v", v.Assets)
	}
}

// transfer is an extension output that moves units of an asset from an input to
// an output.
func transfer(t *testing.T, id string, vin, vout byte, amount uint16) *wire.TxOut {
	t.Helper()
	raw := unhex(t, id)
	varint := []byte{byte(amount&0x7f) | 0x80, byte(amount >> 7)}
	packet := append([]byte{1, 1}, raw...)
	packet = append(append(packet, 1, 1, vin, 0), varint...)
	packet = append(append(packet, 1, 1, vout, 0), 0x88, 0x27) // 5000
	data := append([]byte{'A', 'R', 'K', 0, byte(len(packet))}, packet...)
	return &wire.TxOut{PkScript: append([]byte{txscript.OP_RETURN, byte(len(data))}, data...)}
}
