package client_test

import (
	"slices"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/ark/spend"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/vigilpb"
)

// TestTwoLeavesOptedIn: the device signs a forfeit that nothing pins only when its
// owner opted in, on this device, and the policy does by now; whatever Vigil says.
func TestTwoLeavesOptedIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, arktest.Config{})
	d, store, _ := w.create(client.CreateOptions{})
	own, err := w.op.Mint(w.output(d, 40_000))
	if err != nil {
		t.Fatal(err)
	}
	stray, err := w.op.Mint(wire.NewTxOut(25_000, d.Descriptor().TwoLeaf().PkScript()), wire.NewTxOut(100, d.Descriptor().TwoLeaf().PkScript()))
	if err != nil {
		t.Fatal(err)
	}
	on := &vigilpb.Policy{TwoLeaf: true, Assets: true}
	says := func(p *vigilpb.Policy) { w.vigil.set(func() { w.vigil.policy = vigilpb.GetPolicyAnswer{Policy: p} }) }
	// delegates holds which coins are delegated, together or apart.
	delegates := func(what string, d *client.Wallet, want ...wire.OutPoint) {
		t.Helper()
		done, err := d.Delegate(w.ctx, client.DelegateOptions{})
		var got []wire.OutPoint
		for _, one := range done {
			if len(one.Coins) != 1 {
				t.Errorf("%s: one delegate over %v", what, one.Coins)
			}
			got = append(got, one.Coins...)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v are delegated, want %v: %v", what, got, want, err)
		}
	}
	delegates("by default", d, own[0])
	says(on)
	delegates("Vigil says that the owner opted in", d, own[0])
	says(&vigilpb.Policy{Assets: true})
	optIn := func(d *client.Wallet) {
		t.Helper()
		got, err := d.SetPolicy(w.ctx, client.Policy{TwoLeaf: true, Assets: true}, true)
		if err != nil || got.Pending == nil {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	optIn(d)
	says(on)
	delegates("the policy holds, and the owner's word is not on this device", d, own[0])
	says(&vigilpb.Policy{Assets: true})
	if err := d.TrustTwoLeaf(w.ctx, true); err != nil {
		t.Fatal(err)
	}
	delegates("during the cool-down", d, own[0])
	says(on)
	d.Close()
	again, err := client.Open(w.ctx, w.config(store))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	delegates("opted in, and opened again", again, own[0], stray[0])
	w.vigil.set(func() {
		two := again.Descriptor().TwoLeaf()
		r := w.vigil.stored[len(w.vigil.stored)-1]
		if want := []spend.Kind{spend.Register, spend.BearerForfeit, spend.Intent}; !slices.Equal(w.vigil.kinds, want) {
			t.Errorf("signed were %v, want %v", w.vigil.kinds, want)
		}
		packet, err := script.ParsePSBT(r.Forfeits[0], script.StrangerLimits())
		if err != nil {
			t.Fatal(err)
		}
		in := packet.Inputs[0]
		if len(r.Forfeits) != 1 || two.Index(in.TaprootLeafScript[0].Script) != descriptor.LeafForfeit || in.TaprootScriptSpendSig[0].SigHash != txscript.SigHashAll|txscript.SigHashAnyOneCanPay {
			t.Errorf("%d forfeits, on leaf %d with type %#x", len(r.Forfeits), two.Index(in.TaprootLeafScript[0].Script), in.TaprootScriptSpendSig[0].SigHash)
		}
		proof, err := script.ParsePSBT(r.Proof, script.StrangerLimits())
		if err != nil || string(proof.UnsignedTx.TxOut[0].PkScript) != string(again.Descriptor().PkScript()) {
			t.Errorf("it pays %x: %v", proof.UnsignedTx.TxOut[0].PkScript, err)
		}
		w.vigil.refuse = func(method string) bool { return method == "GetPolicy" }
	})
	// That the policy cannot be read keeps no other coin from its cover.
	if done, err := again.Delegate(w.ctx, client.DelegateOptions{}); vigil.CodeOf(err) != vigil.CodeInternal || len(done) != 1 || done[0].Coins[0] != own[0] {
		t.Errorf("%v, %v", done, err)
	}
	w.vigil.set(func() { w.vigil.refuse = nil })
	if _, err := again.SetPolicy(w.ctx, client.Policy{Assets: true}, false); err != nil {
		t.Fatal(err)
	}
	says(on)
	delegates("taken back", again, own[0])
	// Where it holds, Keep moves the coin all the same.
	optIn(again)
	if err := again.TrustTwoLeaf(w.ctx, true); err != nil {
		t.Fatal(err)
	}
	says(on)
	if k, err := again.Keep(w.ctx); err != nil || len(k.Moved) == 0 {
		t.Errorf("%+v, %v", k, err)
	}
}
