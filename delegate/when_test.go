package delegate

import (
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/fee"
)

func TestFirstAttempt(t *testing.T) {
	for b := range 256 {
		id := vigil.DelegateID{0, 0, 0, byte(b)}
		if at := FirstAttempt(id, 1000, 0); at < 1000+skew || at > 1000+skew+maxJitter {
			t.Fatalf("at %d", at)
		}
		if at := FirstAttempt(id, 1000, 1004); at != 1001 {
			t.Fatalf("a coin that lives 4 s is due %d s after valid_at", at-1000)
		}
	}
}

func TestMinBatchExpiryOutsideRegtest(t *testing.T) {
	w := newWallet(t, 10_000)
	w.useSeconds()
	w.terms.Params.Network = ark.Mutinynet
	w.vtxos[0].CreatedAt = w.vtxos[0].ExpiresAt - 1000
	rec, err := w.check()
	if err != nil {
		t.Fatal(err)
	}
	if rec.MinBatchExpiry != day {
		t.Errorf("least batch expiry %d, want a day", rec.MinBatchExpiry)
	}
}

func TestParamsChanged(t *testing.T) {
	w := newWallet(t, 10_000, 20_000)
	w.outputs[0].Value -= 2
	w.terms.Params.Fees.OffchainInput = "1.0"
	rec, err := w.check()
	if err != nil {
		t.Fatal(err)
	}
	p := w.terms.Params
	for name, c := range map[string]struct {
		code string
		bend func(*ark.Params)
		at   int64
	}{
		"nothing":                 {"", func(*ark.Params) {}, now},
		"digest alone":            {"", func(p *ark.Params) { p.Digest = "d2" }, now},
		"network":                 {MisfitNetwork, func(p *ark.Params) { p.Network = ark.Signet }, now},
		"signer":                  {MisfitSigner, func(p *ark.Params) { p.SignerKey = w.owner.PubKey() }, now},
		"forfeit script":          {MisfitForfeit, func(p *ark.Params) { p.ForfeitScript = []byte{1} }, now},
		"forfeit script, later":   {"", func(p *ark.Params) { p.ForfeitScript = []byte{1} }, validAt + 200_000},
		"dust":                    {MisfitDust, func(p *ark.Params) { p.Dust++ }, now},
		"dust, later":             {"", func(p *ark.Params) { p.Dust++ }, validAt + 200_000},
		"dust above the output":   {MisfitAmount, func(p *ark.Params) { p.Dust = 40_000 }, validAt + 200_000},
		"largest VTXO":            {MisfitAmount, func(p *ark.Params) { p.VtxoMax = 20_000 }, now},
		"higher fee":              {MisfitFee, func(p *ark.Params) { p.Fees.OffchainInput = "2.0" }, now},
		"higher fee when late":    {MisfitFee, func(p *ark.Params) { p.Fees.OffchainInput = "inputType == 'recoverable' ? 2.0 : 1.0" }, validAt + 200_000},
		"the same, still in time": {"", func(p *ark.Params) { p.Fees.OffchainInput = "inputType == 'recoverable' ? 2.0 : 1.0" }, now},
		"lower fee":               {"", func(p *ark.Params) { p.Fees.OffchainInput = "" }, now},
		"signer deprecated": {"", func(p *ark.Params) {
			p.DeprecatedSigners = []ark.DeprecatedSigner{{Key: p.SignerKey, Cutoff: validAt}}
			p.SignerKey = w.owner.PubKey()
		}, now},
		"signer deprecated for good": {"", func(p *ark.Params) {
			p.DeprecatedSigners = []ark.DeprecatedSigner{{Key: p.SignerKey}}
			p.SignerKey = w.owner.PubKey()
		}, now},
		"signer's cutoff before it may run": {MisfitSigner, func(p *ark.Params) {
			p.DeprecatedSigners = []ark.DeprecatedSigner{{Key: p.SignerKey, Cutoff: validAt - 1}}
			p.SignerKey = w.owner.PubKey()
		}, now},
		"signer past its cutoff": {MisfitSigner, func(p *ark.Params) {
			p.DeprecatedSigners = []ark.DeprecatedSigner{{Key: p.SignerKey, Cutoff: now - 1}}
			p.SignerKey = w.owner.PubKey()
		}, now},
	} {
		changed := p
		c.bend(&changed)
		estimator, err := fee.Compile(changed.Fees)
		if err != nil {
			t.Fatal(err)
		}
		misfits, err := ParamsChanged(rec, changed, estimator, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if c.code == "" && len(misfits) > 0 || c.code != "" && (len(misfits) != 1 || misfits[0].Code != c.code) {
			t.Errorf("%s: %v, want %q", name, misfits, c.code)
		}
	}
}

func TestProgramsThatFailAreOurFault(t *testing.T) {
	w := newWallet(t, 10_000)
	w.terms.Params.Fees.OffchainInput = "no program"
	if _, err := w.check(); vigil.CodeOf(err) != vigil.CodeInternal {
		t.Errorf("%v", err)
	}
}

func FuzzCheckStock(f *testing.F) {
	limits := StockLimits{Inputs: 8, Outputs: 8}
	for _, v := range vectors(f) {
		f.Add(v.Message, v.Proof, v.Forfeits[0])
	}
	f.Fuzz(func(t *testing.T, message, proof, forfeit string) {
		request, err := ParseStock(StockBody{Message: message, Proof: proof, Forfeits: []string{forfeit}}, limits)
		if err != nil {
			if vigil.CodeOf(err) == vigil.CodeInternal {
				t.Fatalf("a bad body is blamed on us: %v", err)
			}
			return
		}
		terms := testTerms(t)
		for i, op := range request.Outpoints() {
			utxo := request.proof.Inputs[i+1].WitnessUtxo
			if utxo == nil {
				utxo = &wire.TxOut{}
			}
			terms.VTXOs = append(terms.VTXOs, ark.VTXO{
				Outpoint: op, Amount: utxo.Value, Script: utxo.PkScript, ExpiresAt: validAt + 100_000, CommitmentTxs: []chainhash.Hash{{9}},
			})
		}
		rec, err := CheckStock(request, terms)
		if err != nil {
			if vigil.CodeOf(err) == vigil.CodeInternal {
				t.Fatalf("a bad body is blamed on us: %v", err)
			}
			return
		}
		b, err := rec.Encode()
		if err != nil {
			t.Fatalf("accepted and not encodable: %v", err)
		}
		if _, err := DecodeRecord(b); err != nil {
			t.Fatal(err)
		}
	})
}

// BenchmarkIntakeVerify is what intake of one VTXO costs without a store: the
// floor that the durable intake is measured against.
func BenchmarkIntakeVerify(b *testing.B) {
	v := vectors(b)[0]
	body := StockBody{Message: v.Message, Proof: v.Proof, Forfeits: v.Forfeits}
	limits := StockLimits{Inputs: 128, Outputs: 8}
	request, err := ParseStock(body, limits)
	if err != nil {
		b.Fatal(err)
	}
	terms := vectorTerms(b, 0, request)
	if terms.Estimator, err = fee.Compile(terms.Params.Fees); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := checkBody(body, limits, terms); err != nil {
			b.Fatal(err)
		}
	}
}

// TestLeastExpiry: what a coin's owner may insist on ends with the coin's life.
func TestLeastExpiry(t *testing.T) {
	const min = 30 * day
	live, short, past := Input{ExpiresAt: 800 + 4*day}, Input{ExpiresAt: 800 + day}, Input{ExpiresAt: 500}
	for _, c := range []struct {
		name    string
		network ark.Network
		inputs  []Input
		min     uint32
		want    uint32
	}{
		{"live", ark.Bitcoin, []Input{live}, min, min},
		{"one is live", ark.Bitcoin, []Input{past, live}, min, min},
		{"a day is left", ark.Bitcoin, []Input{live, short}, min, 9 * day},
		{"a minute is left", ark.Bitcoin, []Input{live, {ExpiresAt: 860}}, min, day},
		{"expired", ark.Bitcoin, []Input{past, past}, min, day},
		{"recoverable at intake", ark.Bitcoin, []Input{{ExpiresAt: 1000, Recoverable: true}}, min, day},
		{"expired, never more than before", ark.Bitcoin, []Input{past}, day - 1, day - 1},
		{"live on regtest", ark.Regtest, []Input{live}, 900, 900},
		{"a minute is left on regtest", ark.Regtest, []Input{{ExpiresAt: 860}}, 900, 540},
		{"expired on regtest", ark.Regtest, []Input{past}, 900, 0},
	} {
		rec := &Record{Network: c.network, Inputs: c.inputs, MinBatchExpiry: c.min}
		if got := rec.LeastExpiry(800); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
