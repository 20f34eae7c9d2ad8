package fsck_test

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/audit"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/ledger"
)

var (
	townID     = vigil.WalletID{0x77, 31: 0x77}
	townScript = []byte("the script of the wallet")
	treeID     = vigil.DelegateID{0xd0, 15: 1}
	plannedID  = vigil.DelegateID{0xd1, 15: 1}
)

func townSecrets() []string {
	return []string{"dkg-secret." + townID.String(), "delegate-secret." + townID.String(), "tree-secret." + treeID.String(), "tree-secret." + plannedID.String()}
}

// settle adds a wallet with something in every tree.
func (h *house) settle() {
	h.t.Helper()
	ctx := h.t.Context()
	must := func(err error) {
		h.t.Helper()
		if err != nil {
			h.t.Fatal(err)
		}
	}
	entry := func(number uint64, prev [32]byte) ([32]byte, []byte, error) {
		return audit.Append(prev, audit.Entry{Seq: number, At: start, Method: "test", Allow: true})
	}
	names := townSecrets()
	must(h.ledger.Plan(ctx, ledger.Plan{Wallet: townID, Secrets: names[:2], NotBefore: start + 600}))
	w, err := h.ledger.CreateWallet(ctx, &ledger.Wallet{
		ID: townID, State: ledger.WalletActive, Threshold: 2, Participants: 2, Active: 1, Retiring: true, Scripts: [][]byte{townScript}, Secrets: names[:2],
		Epochs: []ledger.Epoch{{Hosts: []bip340.PubKey{{2, 1}}}, {Number: 1, Hosts: []bip340.PubKey{{2, 2}}}},
	}, ledger.Extras{Audit: []ledger.Link{entry, entry, entry}, Policy: &ledger.Policy{}})
	must(err)
	coin := func(n byte) ark.VTXO {
		return ark.VTXO{Outpoint: outpoint(n), Amount: 1000, Script: townScript, CreatedAt: start, ExpiresAt: start + 1000, Preconfirmed: true}
	}
	gone := coin(101)
	gone.Spent, gone.ArkTxid = true, chainhash.Hash{0x99}.String()
	_, err = h.ledger.PutVTXOs(ctx, townID, []ark.VTXO{coin(100), gone})
	must(err)
	for i, id := range []vigil.DelegateID{treeID, plannedID} {
		must(h.ledger.Plan(ctx, ledger.Plan{Wallet: townID, Delegate: id, Secrets: names[2+i : 3+i], ExpiresAt: start + 3600, NotBefore: start + 7200}))
	}
	_, err = h.ledger.Submit(ctx, ledger.Submission{Record: &delegate.Record{
		ID: treeID, Kind: delegate.Wallet, Wallet: townID, Network: ark.Regtest, ProofTxid: chainhash.Hash{0x55}, Owners: []bip340.XOnly{bip340.XOnly(townID)},
		Message: "message", Proof: []byte("proof"), NextAttempt: start, CreatedAt: start,
		Inputs: []delegate.Input{{Outpoint: outpoint(100), Amount: 1000, Script: townScript, ExpiresAt: start + 1000}},
	}})
	must(err)
	must(h.ledger.SetToken(ctx, townID, ledger.Token{Text: "token"}))
	must(h.ledger.Decide(ctx, townID, 0, func(ledger.Spending) (ledger.Verdict, error) {
		return ledger.Verdict{Spends: []ledger.Spend{{Amount: 5}}}, nil
	}))
	q := ledger.Request{Owner: w.ID[:], Stamp: start}
	_, err = h.ledger.Begin(ctx, q, time.Minute)
	must(err)
	must(h.ledger.Finish(ctx, q, []byte("answer")))
}

func withWallet() *fsck.Secrets {
	s := goodSecrets()
	s.Names = append(s.Names, townSecrets()...)
	return s
}

// TestWalletDamageIsFound takes rows of a wallet away, and adds such as nobody
// needs.
func TestWalletDamageIsFound(t *testing.T) {
	strange := vigil.WalletID{0x66}
	under := func(rest ...byte) []byte { return append(strange[:], rest...) }
	for name, c := range map[string]struct {
		code   string
		damage func(*house)
	}{
		"wallet gone": {"wallet-stray", func(h *house) { h.drop("wallets", townID[:]) }},
		"alias gone":  {"wallet-index", func(h *house) { h.drop("wallet_aliases", []byte("dkg-secret")) }},
		"script's gone": {"holding", func(h *house) {
			sum := sha256.Sum256(townScript)
			h.drop("wallet_aliases", sum[:])
		}},
		"alias of another": {"wallet-stray", func(h *house) { h.put("wallet_aliases", []byte{1, 7}, townID[:]) }},
		"alias to nobody":  {"wallet-stray", func(h *house) { h.put("wallet_aliases", []byte{1, 7}, strange[:]) }},
		"alias to another": {"wallet-index", func(h *house) {
			key, _ := h.only("wallet_aliases", []byte("dkg-secret"))
			h.put("wallet_aliases", key, strange[:])
		}},
		"active epoch gone":   {"epoch", func(h *house) { h.drop("recovery", []byte{0, 0, 0, 1}) }},
		"retiring epoch gone": {"epoch", func(h *house) { h.drop("recovery", []byte{0, 0, 0, 0}) }},
		"third epoch": {"epoch", func(h *house) {
			_, v := h.only("recovery", []byte{0, 0, 0, 1})
			h.put("recovery", append(slices.Clone(townID[:]), 0, 0, 0, 2), v)
		}},
		"epoch of nobody": {"wallet-stray", func(h *house) {
			_, v := h.only("recovery", []byte{0, 0, 0, 1})
			h.put("recovery", under(0, 0, 0, 0), v)
		}},
		"count wrong":        {"wallet-count", func(h *house) { h.drop("counts", []byte("wallets/2")) }},
		"never synced again": {"wallet-index", func(h *house) { h.drop("wallet_syncs", townID[:]) }},
		"synced at another time": {"wallet-stray", func(h *house) {
			h.put("wallet_syncs", append(make([]byte, 8), townID[:]...), nil)
		}},
		"deleting": {"wallet-index", func(h *house) { h.put("deleting", townID[:], nil) }},
		"deleting nobody": {"wallet-stray", func(h *house) {
			h.put("deleting", strange[:], nil)
		}},
		"holding gone": {"holding", func(h *house) { op := outpoint(100); h.drop("wallet_vtxos", op.Hash[:]) }},
		"VTXO gone":    {"holding", func(h *house) { op := outpoint(101); h.drop("vtxos", op.Hash[:]) }},
		"holding of nobody": {"wallet-stray", func(h *house) {
			op := outpoint(101)
			key, v := h.only("wallet_vtxos", op.Hash[:])
			h.put("wallet_vtxos", append(slices.Clone(strange[:]), key[32:]...), v)
		}},
		"line gone":       {"line", func(h *house) { h.drop("ark_tx_history", townID[:]) }},
		"token of nobody": {"wallet-stray", func(h *house) { h.copy("device_tokens", strange) }},
		"policy":          {"wallet-stray", func(h *house) { h.copy("policies", strange) }},
		"policy gone":     {"policy", func(h *house) { h.drop("policies", townID[:]) }},
		"spend":           {"wallet-stray", func(h *house) { h.copy("spend_windows", strange) }},
		"plan of nobody":  {"plan", func(h *house) { h.copy("prepared", strange) }},
		"plan's time gone": {"plan", func(h *house) {
			h.drop("lapses", plannedID[:])
		}},
		"time of no plan": {"plan", func(h *house) { h.drop("prepared", plannedID[:]) }},
		"plan at another time": {"plan", func(h *house) {
			key, _ := h.only("lapses", plannedID[:])
			key = slices.Clone(key)
			key[7]++
			h.put("lapses", key, nil)
		}},
		"plan of the wallet": {"plan", func(h *house) {
			_, v := h.only("prepared", plannedID[:])
			h.put("prepared", append(slices.Clone(townID[:]), make([]byte, 16)...), v)
		}},
		"plan of a stored delegate": {"plan", func(h *house) {
			_, v := h.only("prepared", plannedID[:])
			h.put("prepared", append(slices.Clone(townID[:]), treeID[:]...), v)
		}},
		"delegate of no wallet": {"wallet", func(h *house) { h.drop("wallets", townID[:]) }},
		"request never forgotten": {"replay", func(h *house) {
			h.drop("replay_times", townID[:])
		}},
		"request gone": {"replay", func(h *house) { h.drop("replay", townID[:]) }},
		"answer gone":  {"replay", func(h *house) { h.drop("answers", townID[:]) }},
		"answer gone and not counted": {"replay", func(h *house) {
			h.drop("answers", townID[:])
			h.put("counts", []byte("answers"), []byte{1, 0})
		}},
		"requests miscounted": {"replay", func(h *house) {
			h.drop("counts", []byte("requests"))
		}},
		"answers miscounted": {"replay", func(h *house) { h.drop("counts", []byte("answers")) }},
		"audit: entry gone":  {"audit", func(h *house) { h.drop("audit", binary.BigEndian.AppendUint64(nil, 2)) }},
		"audit: last gone":   {"audit", func(h *house) { h.drop("audit", binary.BigEndian.AppendUint64(nil, 3)) }},
		"audit: first gone":  {"audit", func(h *house) { h.drop("audit", binary.BigEndian.AppendUint64(nil, 1)) }},
		"audit: swapped": {"audit", func(h *house) {
			one, two := binary.BigEndian.AppendUint64(nil, 1), binary.BigEndian.AppendUint64(nil, 2)
			_, a := h.only("audit", one)
			_, b := h.only("audit", two)
			h.put("audit", one, b)
			h.put("audit", two, a)
		}},
		"audit: last forged": {"audit", func(h *house) {
			_, second := h.only("audit", binary.BigEndian.AppendUint64(nil, 2))
			head, row, err := audit.Append([32]byte(second[1:33]), audit.Entry{Seq: 3, At: start, Method: "another", Allow: true})
			if err != nil {
				h.t.Fatal(err)
			}
			value := append([]byte{1}, head[:]...) // as the ledger writes it
			value = append(binary.AppendUvarint(value, uint64(len(row))), row...)
			h.put("audit", binary.BigEndian.AppendUint64(nil, 3), value)
		}},
		"audit: one too many": {"audit", func(h *house) {
			_, a := h.only("audit", binary.BigEndian.AppendUint64(nil, 3))
			h.put("audit", binary.BigEndian.AppendUint64(nil, 4), a)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.settle()
			if report := h.check(withWallet()); !report.Clean() || report.Wallets != 1 {
				t.Fatalf("before:\n%s", report)
			}
			c.damage(h)
			report := h.check(withWallet())
			if !slices.ContainsFunc(report.Findings, func(f fsck.Finding) bool { return f.Code == c.code && f.Severity == fsck.Fault }) {
				t.Errorf("want %s, found:\n%s", c.code, report)
			}
		})
	}
}

// copy puts a wallet's row of a tree under another wallet's id.
func (h *house) copy(tree string, to vigil.WalletID) {
	key, v := h.only(tree, townID[:])
	h.put(tree, append(slices.Clone(to[:]), key[32:]...), v)
}

// TestWalletSecrets holds the secrets to wallets, delegates and plans.
func TestWalletSecrets(t *testing.T) {
	all := append(goodSecrets().Names, townSecrets()...)
	without := func(name string) *fsck.Secrets {
		s := goodSecrets()
		s.Names = slices.DeleteFunc(slices.Clone(all), func(n string) bool { return n == name })
		return s
	}
	for n, code := range map[int]string{0: "secret-missing", 1: "secret-missing", 2: "secret-missing", 3: ""} {
		h := newHouse(t)
		h.settle()
		report := h.check(without(townSecrets()[n]))
		if report.Clean() != (code == "") || code != "" && report.Findings[0].Code != code {
			t.Errorf("without %s:\n%s", townSecrets()[n], report)
		}
	}
	for _, name := range []string{"dkg-secret.77", "delegate-secret.77", "tree-secret." + vigil.DelegateID{1}.String()} {
		h := newHouse(t)
		h.settle()
		s := withWallet()
		s.Names = append(s.Names, name)
		if report := h.check(s); report.Clean() || report.Findings[0].Code != "secret-orphan" {
			t.Errorf("with %s:\n%s", name, report)
		}
		// A wallet that cannot be read may be the one that needs it.
		h.put("wallets", townID[:], []byte{0xff})
		for _, f := range h.check(s).Findings {
			if f.Code == "secret-orphan" && f.Severity == fsck.Fault {
				t.Errorf("it says to delete what may be needed: %s", f)
			}
		}
	}
	h := newHouse(t)
	h.settle()
	name := townSecrets()[0]
	rec := h.byName["armed"]
	if _, err := h.ledger.Cancel(t.Context(), rec, false, name); err != nil { // garbage by mistake
		t.Fatal(err)
	}
	if report := h.check(withWallet()); report.Clean() {
		t.Errorf("a wallet's secret is garbage:\n%s", report)
	}
}

// TestSealedForfeitsBothWays: a delegate that has forfeits sealed needs that secret,
// and nobody else has one of the kind.
func TestSealedForfeitsBothWays(t *testing.T) {
	h := newHouse(t)
	h.settle()
	id := vigil.DelegateID{0xd2, 15: 1}
	name, tree := "forfeit-secret."+id.String(), "tree-secret."+id.String()
	plan := ledger.Plan{Wallet: townID, Delegate: id, Secrets: []string{tree}, ExpiresAt: start + 3600, NotBefore: start + 7200}
	if err := h.ledger.Plan(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	with := func(names ...string) *fsck.Secrets {
		s := withWallet()
		s.Names = append(s.Names, names...)
		return s
	}
	found := func(what, code string, s *fsck.Secrets) {
		t.Helper()
		var got []string
		for _, f := range h.check(s).Findings {
			if f.Severity == fsck.Fault {
				got = append(got, f.Code)
			}
		}
		if code == "" && len(got) > 0 || code != "" && !slices.Equal(got, []string{code}) {
			t.Errorf("%s: %v, want %q", what, got, code)
		}
	}
	found("put without a plan", "secret-orphan", with(tree, name))
	if err := h.ledger.PlanMore(t.Context(), townID, id, name); err != nil {
		t.Fatal(err)
	}
	found("planned", "", with(tree, name))
	found("planned, and not put yet", "", with(tree))
	_, err := h.ledger.PutVTXOs(t.Context(), townID, []ark.VTXO{{Outpoint: outpoint(102), Amount: 1000, Script: townScript, CreatedAt: start, ExpiresAt: start + 1000}})
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := h.ledger.Submit(t.Context(), ledger.Submission{Record: &delegate.Record{
		ID: id, Kind: delegate.Wallet, Wallet: townID, Network: ark.Regtest, ProofTxid: chainhash.Hash{0x56}, Owners: []bip340.XOnly{bip340.XOnly(townID)},
		Message: "message", Proof: []byte("proof"), NextAttempt: start, CreatedAt: start,
		Inputs: []delegate.Input{{Outpoint: outpoint(102), Amount: 1000, Script: townScript, ExpiresAt: start + 1000, Sealed: chainhash.Hash{1}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	found("stored", "", with(tree, name))
	found("gone", "secret-missing", with(tree))
	found("of one that has none", "secret-orphan", with(tree, name, "forfeit-secret."+treeID.String()))
	found("of nobody", "secret-orphan", with(tree, name, "forfeit-secret."+vigil.DelegateID{0xee}.String()))
	if _, err := h.ledger.Cancel(t.Context(), receipt.Record, false, name, tree); err != nil {
		t.Fatal(err)
	}
	found("ended, to be deleted", "", with(tree, name))
	if err := h.ledger.SecretDeleted(t.Context(), name, tree); err != nil {
		t.Fatal(err)
	}
	found("ended, deleted", "", with())
	found("ended, and not deleted", "secret-orphan", with(name))
}
