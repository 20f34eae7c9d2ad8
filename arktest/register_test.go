package arktest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/internal/proof"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// meta returns an error's metadata.
func meta(err error) map[string]string {
	for _, d := range status.Convert(err).Details() {
		if e, ok := d.(*arkv1.ErrorDetails); ok {
			return e.Metadata
		}
	}
	return nil
}

// boarded gives coins to p, then makes the operator idle.
func boarded(t *testing.T, set arktest.Settings, amounts ...int64) (*arktest.Operator, *party, []coin) {
	t.Helper()
	set.MinParticipants = 1
	op := start(t, arktest.Config{NoEsplora: true, Settings: set})
	p := newParty(t, op)
	var coins []coin
	for _, a := range amounts {
		coins = append(coins, p.board(deadline(t), a))
	}
	minimum(t, deadline(t), op, 100)
	return op, p, coins
}

// edit changes a finished proof and signs it again unless keep is set.
func (p *party) edit(in *arkv1.Intent, coins []coin, keep bool, f func(*psbt.Packet)) *arkv1.Intent {
	p.t.Helper()
	packet := decode(p.t, in.Proof)
	f(packet)
	if !keep {
		for i := range packet.Inputs {
			packet.Inputs[i].TaprootScriptSpendSig = nil
		}
		sign(p.t, packet, coins)
	}
	return &arkv1.Intent{Proof: encode(p.t, packet), Message: in.Message}
}

func TestRegisterRefuses(t *testing.T) {
	t.Parallel()
	op, p, coins := boarded(t, arktest.Settings{VtxoMax: 1_000_000, UtxoMax: 500_000, SettlementGap: 0}, 50_000, 60_000)
	c := coins[0]
	one := coins[:1]
	ok := p.proof(p.message(), one, p.pay(50_000))
	onchain := &wire.TxOut{Value: 20_000, PkScript: append([]byte{txscript.OP_0, 20}, make([]byte, 20)...)}
	withOnchain := p.message()
	withOnchain.Onchain = []int{1}
	now := op.Now().Unix()
	at := func(f func(*proof.Message)) proof.Message {
		m := p.message()
		f(&m)
		return m
	}
	spoilSig := func(i int) *arkv1.Intent {
		return p.edit(ok, one, true, func(x *psbt.Packet) { x.Inputs[i].TaprootScriptSpendSig[0].Signature[10] ^= 1 })
	}
	foreign := newParty(t, op)
	stranger := foreign.fund(40_000)
	board := p.fund(45_000)
	early := p.tree(1024) // a boarding script whose exit comes too soon
	soon, err := op.Chain().Faucet(early.PkScript(), 40_000)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Mine(1); err != nil {
		t.Fatal(err)
	}
	tooSoon := coin{at: soon, out: &wire.TxOut{Value: 40_000, PkScript: early.PkScript()}, tree: early, key: p.key}
	big := p.fund(600_000)
	unconfirmed := func() coin {
		tree := p.tree(4096)
		o, err := op.Chain().Faucet(tree.PkScript(), 40_000)
		if err != nil {
			t.Fatal(err)
		}
		return coin{at: o, out: &wire.TxOut{Value: 40_000, PkScript: tree.PkScript()}, tree: tree, key: p.key}
	}()

	for _, tc := range []struct {
		name string
		in   *arkv1.Intent
		code int32 // -1: a plain InvalidArgument
		text string
	}{
		{"nothing", nil, -1, "missing intent"},
		{"no proof", &arkv1.Intent{Message: ok.Message}, -1, "missing intent proof"},
		{"no message", &arkv1.Intent{Proof: ok.Proof}, -1, "missing message"},
		{"no PSBT", &arkv1.Intent{Proof: "AAAA", Message: ok.Message}, -1, "failed to parse intent proof tx"},
		{"wrong type", &arkv1.Intent{Proof: ok.Proof, Message: `{"type":"delete","expire_at":0}`}, -1, "invalid intent message"},
		{"no JSON", &arkv1.Intent{Proof: ok.Proof, Message: "{"}, -1, "invalid intent message"},
		{"one input", p.edit(ok, one, true, func(x *psbt.Packet) { x.UnsignedTx.TxIn, x.Inputs = x.UnsignedTx.TxIn[:1], x.Inputs[:1] }), 22, "proof misses inputs"},
		{"too early", p.proof(at(func(m *proof.Message) { m.ValidAt = now + 1000 }), one, p.pay(50_000)), 20, "not yet valid"},
		{"too late", p.proof(at(func(m *proof.Message) { m.ExpireAt = now - 10 }), one, p.pay(50_000)), 20, "expired"},
		{"twice the same", p.proof(p.message(), []coin{c, c}, p.pay(100_000)), 23, "duplicated input"},
		{"no leaf", p.edit(ok, one, true, func(x *psbt.Packet) { x.Inputs[1].TaprootLeafScript = nil }), 5, "missing taproot leaf script"},
		{"no witness utxo", p.edit(ok, one, true, func(x *psbt.Packet) { x.Inputs[1].WitnessUtxo = nil }), 5, "missing witness utxo"},
		{"wrong value", p.edit(ok, one, true, func(x *psbt.Packet) { x.Inputs[1].WitnessUtxo.Value++ }), 5, "value mismatch: got 50001 expected 50000"},
		{"wrong script", p.edit(ok, one, true, func(x *psbt.Packet) { x.Inputs[1].WitnessUtxo.PkScript = stranger.out.PkScript }), 5, "invalid witness utxo script"},
		{"no taptree", p.edit(ok, one, true, func(x *psbt.Packet) { x.Inputs[1].Unknowns = nil }), 5, "missing taptree"},
		{"another taptree", p.edit(ok, one, true, func(x *psbt.Packet) {
			x.Inputs[1].Unknowns = nil
			tapscript.AddTapTree(&x.Inputs[1], foreign.vtxoTree().Leaves)
		}), 5, "taproot key mismatch"},
		{"unknown leaf", p.edit(ok, one, true, func(x *psbt.Packet) {
			x.Inputs[1].Unknowns = nil
			tapscript.AddTapTree(&x.Inputs[1], [][]byte{{0x51}})
		}), 10, "failed to parse vtxo taproot tree"},
		{"sequence too far", p.edit(ok, one, false, func(x *psbt.Packet) { x.UnsignedTx.TxIn[1].Sequence = 0x400000 | 40 }), 10, "can be used for intent registration in"},
		{"unsigned", p.edit(ok, one, true, func(x *psbt.Packet) { x.Inputs[1].TaprootScriptSpendSig = nil }), 23, "no tapscript signatures"},
		{"unsigned first", p.edit(ok, one, true, func(x *psbt.Packet) { x.Inputs[0].TaprootScriptSpendSig = nil }), 23, "no tapscript signatures"},
		{"bad signature", spoilSig(1), 23, "invalid sig 0 for input 1"},
		{"bad first signature", spoilSig(0), 23, "invalid sig 0 for input 0"},
		{"another message", &arkv1.Intent{Proof: ok.Proof, Message: at(func(m *proof.Message) { m.ValidAt = 1 }).Encode()}, 23, "wrong tx hash"},
		{"first without leaf", p.edit(ok, one, true, func(x *psbt.Packet) { x.Inputs[0].TaprootLeafScript, x.Inputs[0].TaprootScriptSpendSig = nil, nil }), 0, "failed to finalize proof"},
		{"no outputs", p.proof(p.message(), one), 23, "does not contain outputs"},
		{"two extensions", p.proof(p.message(), one, p.pay(50_000), ext(0), ext(0)), 22, "several extension outputs"},
		{"extension with value", p.proof(p.message(), one, p.pay(49_000), ext(1000)), 22, "non-zero value"},
		{"broken extension", p.proof(p.message(), one, p.pay(50_000), &wire.TxOut{PkScript: []byte{0x6a, 4, 'A', 'R', 'K', 0}}), 23, "invalid extension"},
		{"on-chain too much", p.proof(at(func(m *proof.Message) { m.Onchain = []int{0} }), one, &wire.TxOut{Value: 600_000, PkScript: onchain.PkScript}), 14, "higher than max utxo"},
		{"on-chain too little", p.proof(at(func(m *proof.Message) { m.Onchain = []int{0} }), one, &wire.TxOut{Value: 100, PkScript: onchain.PkScript}), 15, "lower than min utxo"},
		{"on-chain script", p.proof(at(func(m *proof.Message) { m.Onchain = []int{0} }), one, &wire.TxOut{Value: 20_000, PkScript: []byte{0x51}}), 24, "invalid script type"},
		{"off-chain too much", p.proof(p.message(), one, p.pay(1_000_001)), 14, "higher than max vtxo"},
		{"off-chain dust", p.proof(p.message(), one, p.pay(329)), 15, "lower than min vtxo amount: 330"},
		{"no cosigners", p.proof(at(func(m *proof.Message) { m.Cosigners = []string{} }), one, p.pay(50_000)), 21, "CosignersPublicKeys is required"},
		{"more out than in", p.proof(p.message(), one, p.pay(50_001)), 23, "smaller than sum of outputs"},
		{"asset packet without assets", p.proof(p.message(), one, p.pay(50_000), ext(0)), 23, "asset issuance"},
		{"boarding and on-chain output", p.proof(withOnchain, []coin{board}, p.pay(25_000), onchain), 23, "cannot include onchain inputs and outputs"},
		{"unconfirmed", p.proof(p.message(), []coin{unconfirmed}, p.pay(40_000)), 5, "not confirmed"},
		{"boarding exit too soon", p.proof(p.message(), []coin{tooSoon}, p.pay(40_000)), 5, "exit delay is too short"},
		{"boarding too much", p.proof(p.message(), []coin{big}, p.pay(600_000)), 5, "higher than max utxo amount"},
		{"unknown transaction", p.proof(p.message(), []coin{{at: wire.OutPoint{Hash: sha256.Sum256(nil)}, out: board.out, tree: board.tree, key: p.key}}, p.pay(40_000)), 5, "failed to get tx"},
		{"boarding without taptree", p.edit(p.proof(p.message(), []coin{board}, p.pay(45_000)), []coin{board}, true, func(x *psbt.Packet) { x.Inputs[1].Unknowns = nil }), 5, "missing taptree"},
	} {
		_, err := p.register(tc.in)
		if got := codeOf(err); err == nil || got != tc.code || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: code %d, %v; want %d, %q", tc.name, got, err, tc.code, tc.text)
		}
		if tc.code == -1 && status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: status %s", tc.name, status.Code(err))
		}
	}
	if n := len(op.Stats().Queue); n != 0 {
		t.Errorf("%d intents were queued", n)
	}
	p.mustRegister(ok)
	_, err = p.register(p.proof(at(func(m *proof.Message) { m.ValidAt = 1_900_000_000 }), coins[1:], p.pay(60_000)))
	if m := meta(err); m["valid_at"] != "1.9e+09" || m["expire_at"] != "0" {
		t.Errorf("metadata %v", m)
	}
}

// ext is an extension output that issues an asset to output 0.
func ext(value int64) *wire.TxOut {
	packet, _ := hex.DecodeString("010000010100008827")
	data := append([]byte{'A', 'R', 'K', 0, byte(len(packet))}, packet...)
	raw := append([]byte{txscript.OP_RETURN, byte(len(data))}, data...)
	return &wire.TxOut{Value: value, PkScript: raw}
}

func TestRegisterStates(t *testing.T) {
	t.Parallel()
	op, p, coins := boarded(t, arktest.Settings{}, 50_000, 60_000, 70_000)
	c := coins[0]
	p.send(deadline(t), c, 10_000, p.vtxoTree().PkScript())
	if _, err := p.register(p.proof(p.message(), coins[:1], p.pay(50_000))); codeOf(err) != 6 || meta(err)["vtxo_outpoint"] != c.at.String() {
		t.Errorf("a spent coin: %v, %v", err, meta(err))
	}
	// Accepted and not finalized counts as being spent.
	pay := p.payment(coins[1:2], p.pay(60_000))
	if _, err := p.submit(deadline(t), pay); err != nil {
		t.Fatal(err)
	}
	if _, err := p.register(p.proof(p.message(), coins[1:2], p.pay(60_000))); codeOf(err) != 6 || !strings.Contains(err.Error(), "is currently being spent") {
		t.Errorf("a coin in an accepted transaction: %v", err)
	}
	// A recoverable one needs no taptree and no particular script.
	op.Expire(coins[2].at)
	in := p.edit(p.proof(p.message(), coins[2:], p.pay(70_000)), coins[2:], false, func(x *psbt.Packet) { x.Inputs[1].Unknowns = nil })
	if _, err := p.register(in); err != nil {
		t.Errorf("an expired coin: %v", err)
	}
}

func TestSettlementGap(t *testing.T) {
	t.Parallel()
	_, p, coins := boarded(t, arktest.Settings{}, 50_000)
	if err := p.op.Update(func(s *arktest.Settings) { s.SettlementGap = 100 * time.Second }); err != nil {
		t.Fatal(err)
	}
	in := p.proof(p.message(), coins, p.pay(50_000))
	if _, err := p.register(in); codeOf(err) != 5 || !strings.Contains(err.Error(), "expires after") {
		t.Errorf("a coin far from expiry: %v", err)
	}
	p.op.MarkSwept(coins[0].at)
	if _, err := p.register(in); err != nil {
		t.Errorf("a swept one: %v", err)
	}
}

func TestFees(t *testing.T) {
	t.Parallel()
	op, p, coins := boarded(t, arktest.Settings{}, 50_000)
	if err := op.Update(func(s *arktest.Settings) {
		s.Fees = arktest.Fees{OffchainInput: `inputType == "recoverable" ? 1.0 : 100.5`, OffchainOutput: "10.0", OnchainOutput: "200.0"}
	}); err != nil {
		t.Fatal(err)
	}
	estimate := func(m proof.Message, outs ...*wire.TxOut) int64 {
		m.Type = proof.EstimateFee
		res, err := p.ark.EstimateIntentFee(t.Context(), &arkv1.EstimateIntentFeeRequest{Intent: p.proof(m, coins, outs...)})
		if err != nil {
			t.Fatal(err)
		}
		return res.Fee
	}
	onchain := &wire.TxOut{Value: 20_000, PkScript: append([]byte{txscript.OP_0, 20}, make([]byte, 20)...)}
	m := p.message()
	if got := estimate(m, p.pay(50_000)); got != 111 {
		t.Errorf("one input and output cost %d, want 111", got)
	}
	mixed := p.message()
	mixed.Onchain = []int{1}
	if got := estimate(mixed, p.pay(20_000), onchain); got != 311 {
		t.Errorf("an on-chain output costs %d, want 311", got)
	}
	_, err := p.register(p.proof(m, coins, p.pay(50_000-110)))
	if codeOf(err) != 31 || meta(err)["min_fee"] != "111" || meta(err)["actual_fee"] != "110" {
		t.Errorf("a short fee: %v, %v", err, meta(err))
	}
	// At registration the on-chain output is charged as off-chain one as well.
	if _, err := p.register(p.proof(mixed, coins, p.pay(50_000-20_000-320), onchain)); codeOf(err) != 31 || meta(err)["min_fee"] != "321" {
		t.Errorf("an on-chain output: %v, %v", err, meta(err))
	}
	p.mustRegister(p.proof(m, coins, p.pay(50_000-111)))
	if err := op.Update(func(s *arktest.Settings) { s.Fees.OffchainInput = "nonsense(" }); err == nil {
		t.Error("a broken program is taken")
	}
}

func TestWeight(t *testing.T) {
	t.Parallel()
	op, p, coins := boarded(t, arktest.Settings{}, 50_000)
	if err := op.Update(func(s *arktest.Settings) { s.MaxTxWeight = 500 }); err != nil {
		t.Fatal(err)
	}
	_, err := p.register(p.proof(p.message(), coins, p.pay(50_000)))
	if codeOf(err) != 46 || meta(err)["max_weight"] != "500" {
		t.Errorf("a heavy proof: %v, %v", err, meta(err))
	}
}

func TestDeleteAndGetIntent(t *testing.T) {
	t.Parallel()
	op, p, coins := boarded(t, arktest.Settings{}, 50_000, 60_000)
	del := proof.Message{Type: proof.Delete}
	remove := func(q *party, m proof.Message, list ...coin) error {
		_, err := p.ark.DeleteIntent(t.Context(), &arkv1.DeleteIntentRequest{Intent: q.proof(m, list)})
		return err
	}
	if err := remove(p, del, coins[0]); codeOf(err) != 23 || !strings.Contains(err.Error(), "no matching intents found for intent proof") {
		t.Errorf("nothing to delete: %v", err)
	}
	in := p.proof(p.message(), coins, p.pay(110_000))
	p.mustRegister(in)
	get := func(q *arkv1.GetIntentRequest) (*arkv1.GetIntentResponse, error) {
		return p.ark.GetIntent(t.Context(), q)
	}
	res, err := get(&arkv1.GetIntentRequest{Filter: &arkv1.GetIntentRequest_Intent{Intent: p.proof(proof.Message{Type: proof.GetIntent}, coins[1:])}})
	if err != nil || len(res.Intents) != 1 || res.Intents[0].Proof != in.Proof || res.Intent != nil {
		t.Errorf("found %v (%v)", res, err)
	}
	if _, err := get(&arkv1.GetIntentRequest{Filter: &arkv1.GetIntentRequest_Txid{Txid: decode(t, in.Proof).UnsignedTx.TxID()}}); codeOf(err) != 45 {
		t.Errorf("a queued intent is found by txid: %v", err)
	}
	thief := newParty(t, op)
	stolen := coins[0]
	stolen.key = thief.key
	if err := remove(thief, del, stolen); codeOf(err) != 23 {
		t.Errorf("deleted by a stranger: %v", err)
	}
	past := del
	past.ExpireAt = 1
	if err := remove(p, past, coins[0]); codeOf(err) != 20 {
		t.Errorf("an expired proof: %v", err)
	}
	unknown := coin{at: wire.OutPoint{Hash: sha256.Sum256(nil)}, out: coins[0].out, tree: coins[0].tree, key: p.key}
	if err := remove(p, del, unknown); codeOf(err) != 19 {
		t.Errorf("an unknown input: %v", err)
	}
	if err := remove(p, del, coins[1]); err != nil { // any one input is enough
		t.Errorf("deleting: %v", err)
	}
	if n := len(op.Stats().Queue); n != 0 {
		t.Errorf("%d intents left", n)
	}
	p.mustRegister(in)
}

func TestGuards(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{NoEsplora: true, Settings: arktest.Settings{MinBuildVersion: "0.9.9"}})
	for _, c := range []struct {
		version string
		status  int
	}{{"0.9.9", 404}, {"v0.10.0", 404}, {"0.9.10-rc1", 404}, {"1", 404}, {"0.9.8", 400}, {"0.9", 400}, {"", 404}, {"junk", 404}} {
		res, body := get(t, op.URL()+"/v1/intent?txid=00", "X-Build-Version", c.version)
		if res.StatusCode != c.status || c.status == 400 && !strings.Contains(body, "BUILD_VERSION_TOO_OLD (48): server requires build version header >= 0.9.9") {
			t.Errorf("version %q: %d %s", c.version, res.StatusCode, body)
		}
	}
	if err := op.Update(func(s *arktest.Settings) { s.RequireBuildVersion, s.RequireDigest = true, true }); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"", "junk"} {
		if res, _ := get(t, op.URL()+"/v1/info", "X-Build-Version", version); res.StatusCode != 400 {
			t.Errorf("version %q where one is required: %d", version, res.StatusCode)
		}
	}
	if res, body := get(t, op.URL()+"/v1/intent?txid=00", "X-Build-Version", "0.9.9"); res.StatusCode != 400 || !strings.Contains(body, "DIGEST_MISMATCH") {
		t.Errorf("no digest where one is required: %d %s", res.StatusCode, body)
	}
	if res, _ := get(t, op.URL()+"/v1/indexer/vtxos"); res.StatusCode != 400 {
		t.Errorf("the indexer is guarded: %d", res.StatusCode)
	}
}

func TestDigestFollowsSettings(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{NoEsplora: true})
	p := newParty(t, op)
	seen := map[string]bool{p.info().Digest: true}
	for name, change := range map[string]func() error{
		"dust": func() error { return op.Update(func(s *arktest.Settings) { s.Dust = 400 }) },
		"fees": func() error {
			return op.Update(func(s *arktest.Settings) { s.Fees.OffchainInput = "amount < 1.0 ? 1.0 : 0.0" })
		},
		"signer":  func() error { return op.RotateSigner(time.Time{}) },
		"forfeit": op.RotateForfeit,
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		d := p.info().Digest
		if len(d) != 64 || seen[d] {
			t.Errorf("after a change of %s the digest is %s again", name, d)
		}
		seen[d] = true
	}
}

// TestDeprecatedSigner: coins of an earlier signer are renewed before its
// cutoff and refused after it.
func TestDeprecatedSigner(t *testing.T) {
	t.Parallel()
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p := newParty(t, op)
	c := p.board(ctx, 50_000)
	if err := op.RotateSigner(op.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if d := p.info().DeprecatedSigners; len(d) != 1 || d[0].CutoffDate == 0 {
		t.Fatalf("deprecated signers %v", d)
	}
	out, err := p.settle(ctx, manners{}, []coin{c}, &wire.TxOut{Value: 50_000, PkScript: c.tree.PkScript()})
	if err != nil || out.failed != "" {
		t.Fatal(err, out.failed)
	}
	b, _ := op.Stats().Batch(out.batch)
	c.at = b.Outputs[0]
	if err := op.Update(func(s *arktest.Settings) { s.Deprecated[0].Cutoff = op.Now().Add(-time.Hour) }); err != nil {
		t.Fatal(err)
	}
	if _, err := p.register(p.proof(p.message(), []coin{c}, p.pay(50_000))); codeOf(err) != 10 || !strings.Contains(err.Error(), "is a deprecated key since") {
		t.Errorf("past its cutoff: %v", err)
	}
}
