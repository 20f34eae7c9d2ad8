package fsck_test

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
)

const start int64 = 1_900_000_000

var serviceKey = bip340.PubKey{2, 9}

// house is a store with a delegate in every kind of state.
type house struct {
	t      *testing.T
	store  *kvtest.Memory
	ledger *ledger.Ledger
	byName map[string]*delegate.Record
}

func outpoint(n byte) wire.OutPoint {
	return wire.OutPoint{Hash: chainhash.Hash{n, 0xaa}, Index: uint32(n)}
}

func (h *house) submit(name string, n byte, vtxos ...byte) *delegate.Record {
	h.t.Helper()
	r := &delegate.Record{
		Kind: delegate.Stock, Network: ark.Regtest, ProofTxid: chainhash.Hash{n}, Owners: []bip340.XOnly{{7}}, DelegateKey: serviceKey,
		Message: "message", Proof: []byte("proof"), NextAttempt: start + int64(n), CreatedAt: start,
	}
	r.ID = delegate.StockID(r.ProofTxid)
	for _, v := range vtxos {
		r.Inputs = append(r.Inputs, delegate.Input{Outpoint: outpoint(v), Amount: 1000, Script: []byte("script"), ExpiresAt: start + 100})
	}
	receipt, err := h.ledger.Submit(h.t.Context(), ledger.Submission{Record: r})
	if err != nil {
		h.t.Fatal(err)
	}
	h.byName[name] = receipt.Record
	return receipt.Record
}

func (h *house) drive(name string, events ...delegate.Event) {
	h.t.Helper()
	rec := h.byName[name]
	for _, e := range events {
		c := ledger.Change{Prev: rec, Event: e}
		switch e {
		case delegate.Submit:
			c.Branch = &delegate.Branch{
				Delegate: rec.ID, Commitment: chainhash.Hash{rec.ID[0], 0xcc}, Tx: []byte("tx"), Leaves: []wire.OutPoint{outpoint(200)},
			}
		case delegate.Confirmed:
			c.Leaves = []ledger.VTXO{{Outpoint: outpoint(200), Amount: 1000, Script: []byte("script")}}
		}
		out, err := h.ledger.Apply(h.t.Context(), c)
		if err != nil || out[0].Err != nil {
			h.t.Fatal(err, out)
		}
		rec = out[0].Record
	}
	h.byName[name] = rec
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, store: kvtest.NewMemory(), byName: make(map[string]*delegate.Record)}
	if err := ledger.Create(t.Context(), h.store, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	var err error
	h.ledger, err = ledger.Open(t.Context(), h.store, ledger.Options{Now: func() time.Time { return time.Unix(start, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	h.submit("armed", 1, 1, 2)
	h.submit("submitted", 2, 3)
	h.drive("submitted", delegate.Ripe, delegate.Register, delegate.Accepted, delegate.Join, delegate.Submit)
	h.submit("pending", 3, 3, 4)
	h.submit("settled", 4, 5)
	h.drive("settled", delegate.Ripe, delegate.Register, delegate.Accepted, delegate.Join, delegate.Submit, delegate.Finalized, delegate.Confirmed)
	h.submit("cancelled", 5, 6)
	h.drive("cancelled", delegate.Cancel)
	h.submit("registered", 6, 7)
	h.drive("registered", delegate.Ripe, delegate.Register, delegate.Accepted)
	return h
}

// change edits the store behind the ledger's back.
func (h *house) change(f func(kv.Writer) error) {
	h.t.Helper()
	if err := h.store.Update(h.t.Context(), f); err != nil {
		h.t.Fatal(err)
	}
}

// only returns the one row of a tree that holds sub, and its value without its
// checksum.
func (h *house) only(tree string, sub []byte) (key, value []byte) {
	h.t.Helper()
	err := h.store.View(h.t.Context(), func(r kv.Reader) error {
		return r.Scan(tree, nil, nil, func(k, v []byte) error {
			if strings.Contains(string(k), string(sub)) && key == nil {
				key, value = k, v
			}
			return nil
		})
	})
	if err != nil || key == nil {
		h.t.Fatal("no row of", tree, err)
	}
	return key, value[:len(value)-4]
}

func (h *house) drop(tree string, sub []byte) {
	key, _ := h.only(tree, sub)
	h.change(func(w kv.Writer) error { return w.Delete(tree, key) })
}

// put writes a row as the ledger does, with its checksum: CRC-32C over the lengths
// and bytes of tree and key, and the value.
func (h *house) put(tree string, key, value []byte) {
	if tree != "meta" || string(key) != "schema" {
		head := append([]byte{byte(len(tree))}, tree...)
		head = append(binary.BigEndian.AppendUint16(head, uint16(len(key))), key...)
		sum := crc32.Checksum(slices.Concat(head, value), crc32.MakeTable(crc32.Castagnoli))
		value = binary.BigEndian.AppendUint32(slices.Clone(value), sum)
	}
	h.change(func(w kv.Writer) error { return w.Put(tree, key, value) })
}

// rewrite changes a stored record without its indexes.
func (h *house) rewrite(name string, f func(*delegate.Record)) {
	h.t.Helper()
	rec := h.byName[name]
	f(rec)
	b, err := rec.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	h.put("delegate_sessions", rec.ID[:], b)
}

func (h *house) check(secrets *fsck.Secrets) *fsck.Report {
	h.t.Helper()
	report, err := fsck.Check(h.t.Context(), h.store, secrets)
	if err != nil {
		h.t.Fatal(err)
	}
	return report
}

func goodSecrets() *fsck.Secrets {
	return &fsck.Secrets{Names: []string{"delegate-service.1"}, Service: map[bip340.PubKey]string{serviceKey: "delegate-service.1"}}
}

func TestSaneHouse(t *testing.T) {
	report := newHouse(t).check(goodSecrets())
	if !report.Clean() || len(report.Findings) > 0 {
		t.Fatal(report)
	}
	if report.Records != 6 || report.Live != 4 || report.Branches != 2 || report.VTXOs != 8 {
		t.Fatalf("%+v", report)
	}
}

// TestEveryDamage breaks one thing at a time and wants it found by its name.
func TestEveryDamage(t *testing.T) {
	id := func(h *house, name string) []byte { i := h.byName[name].ID; return i[:] }
	stranger := vigil.DelegateID{0xee}
	for name, c := range map[string]struct {
		code   string
		damage func(*house)
	}{
		"schema flipped":        {"meta", func(h *house) { h.put("meta", []byte("schema"), []byte{0, 0, 0, 1}) }},
		"schema's witness gone": {"meta", func(h *house) { h.drop("meta", []byte("layout")) }},
		"generation gone":       {"meta", func(h *house) { h.drop("meta", []byte("generation")) }},
		"schema gone":           {"meta", func(h *house) { h.drop("meta", []byte("schema")) }},
		"generation malformed":  {"unreadable", func(h *house) { h.put("meta", []byte("generation"), []byte{1}) }},
		"record unreadable":     {"unreadable", func(h *house) { h.put("delegate_sessions", id(h, "armed"), []byte{0xff}) }},
		"record cut short": {"unreadable", func(h *house) {
			k, v := h.only("delegate_sessions", id(h, "armed"))
			h.put("delegate_sessions", k, v[:9])
		}},
		"record under another key": {"unreadable", func(h *house) {
			_, v := h.only("delegate_sessions", id(h, "armed"))
			h.put("delegate_sessions", stranger[:], v)
		}},
		"record with an odd key":  {"unreadable", func(h *house) { h.put("delegate_sessions", []byte{1}, nil) }},
		"record gone":             {"cover", func(h *house) { h.drop("delegate_sessions", id(h, "armed")) }},
		"due row gone":            {"index", func(h *house) { h.drop("renewal_due", id(h, "armed")) }},
		"due row at another time": {"stray-row", func(h *house) { h.put("renewal_due", append(make([]byte, 8), id(h, "armed")...), nil) }},
		"due row of a stranger":   {"stray-row", func(h *house) { h.put("renewal_due", append(make([]byte, 8), stranger[:]...), nil) }},
		"flight row gone":         {"index", func(h *house) { h.drop("in_flight", id(h, "registered")) }},
		"flight row of an armed":  {"stray-row", func(h *house) { h.put("in_flight", id(h, "armed"), nil) }},
		"expiry row gone":         {"index", func(h *house) { h.drop("expiries", id(h, "armed")) }},
		"script row gone":         {"index", func(h *house) { h.drop("scripts", id(h, "settled")) }},
		"state changed alone":     {"count", func(h *house) { h.rewrite("registered", func(r *delegate.Record) { r.State = delegate.Joining }) }},
		"count wrong":             {"count", func(h *house) { h.drop("counts", []byte{byte(delegate.Armed)}) }},
		"VTXO row gone":           {"cover", func(h *house) { h.drop("vtxos", []byte{1, 0xaa}) }},
		"VTXO row unreadable":     {"unreadable", func(h *house) { k, _ := h.only("vtxos", []byte{1, 0xaa}); h.put("vtxos", k, []byte{9}) }},
		"two delegates over a VTXO": {"cover", func(h *house) {
			h.rewrite("registered", func(r *delegate.Record) { r.Inputs[0].Outpoint = outpoint(1) })
		}},
		"spent VTXO still renewed": {"fate", func(h *house) {
			k, v := h.only("vtxos", []byte{1, 0xaa})
			v[len(v)-3] = 1 // fate, then the empty "spent by" and the time
			h.put("vtxos", k, v)
		}},
		"pending row gone":           {"pending", func(h *house) { h.drop("pending", id(h, "submitted")) }},
		"pending row of a stranger":  {"pending", func(h *house) { h.put("pending", stranger[:], id(h, "pending")) }},
		"pending row malformed":      {"unreadable", func(h *house) { h.put("pending", []byte{1}, nil) }},
		"pending waits for the dead": {"pending", func(h *house) { h.put("pending", id(h, "cancelled"), id(h, "pending")) }},
		"pending not on its coin":    {"next", func(h *house) { h.drop("vtxos", []byte{4, 0xaa}) }},
		"tombstone gone":             {"tombstone", func(h *house) { h.drop("tombstones", id(h, "cancelled")) }},
		"tombstone of a living": {"tombstone", func(h *house) {
			k, _ := h.only("vtxos", []byte{1, 0xaa})
			h.put("tombstones", append(k, id(h, "armed")...), nil)
		}},
		"tombstone malformed":          {"unreadable", func(h *house) { h.put("tombstones", []byte{1}, nil) }},
		"branch gone":                  {"branch", func(h *house) { h.drop("branches", id(h, "submitted")) }},
		"branch unreadable":            {"unreadable", func(h *house) { k, _ := h.only("branches", id(h, "settled")); h.put("branches", k, []byte{7}) }},
		"branch under another key":     {"unreadable", func(h *house) { _, v := h.only("branches", id(h, "settled")); h.put("branches", []byte{7}, v) }},
		"submitted without commitment": {"commitment", func(h *house) { h.rewrite("submitted", func(r *delegate.Record) { r.Commitment = chainhash.Hash{} }) }},
		"history gone":                 {"history", func(h *house) { h.drop("ark_tx_history", id(h, "settled")) }},
		"history twice": {"unreadable", func(h *house) {
			k, v := h.only("ark_tx_history", id(h, "settled"))
			h.put("ark_tx_history", append(k, 1), v)
		}},
		"history unreadable":        {"unreadable", func(h *house) { h.put("ark_tx_history", []byte{1}, nil) }},
		"proof gone":                {"proof", func(h *house) { h.rewrite("armed", func(r *delegate.Record) { r.Proof = nil }) }},
		"another proof's id":        {"id", func(h *house) { h.rewrite("armed", func(r *delegate.Record) { r.ProofTxid[0]++ }) }},
		"no inputs":                 {"inputs", func(h *house) { h.rewrite("armed", func(r *delegate.Record) { r.Inputs = nil }) }},
		"watching nothing":          {"watch", func(h *house) { h.rewrite("armed", func(r *delegate.Record) { r.Watch = make([]delegate.Watched, 1) }) }},
		"secret garbage unreadable": {"unreadable", func(h *house) { h.put("secret_gc", []byte("x"), []byte{1, 2, 3}) }},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			c.damage(h)
			report := h.check(nil)
			found := false
			for _, f := range report.Findings {
				found = found || f.Code == c.code && f.Severity == fsck.Fault
				if f.Fix == "" || f.Text == "" || f.Subject == "" {
					t.Errorf("a finding that helps nobody: %+v", f)
				}
			}
			if !found || report.Clean() {
				t.Fatalf("want %q, found:\n%s", c.code, report)
			}
		})
	}
}

func TestSecrets(t *testing.T) {
	h := newHouse(t)
	for name, c := range map[string]struct {
		code   string
		secret *fsck.Secrets
	}{
		"service key gone":       {"secret-missing", &fsck.Secrets{Service: map[bip340.PubKey]string{serviceKey: "delegate-service.1"}}},
		"service key of another": {"secret-missing", &fsck.Secrets{Names: []string{"delegate-service.1"}, Service: map[bip340.PubKey]string{{3}: "delegate-service.1"}}},
		"tree key of nobody":     {"secret-orphan", withName("tree-secret." + vigil.DelegateID{0xee}.String())},
		"tree key of a settled":  {"secret-orphan", withName("tree-secret." + h.byName["settled"].ID.String())},
	} {
		report := h.check(c.secret)
		if report.Clean() || report.Findings[0].Code != c.code {
			t.Errorf("%s: want %q, found:\n%s", name, c.code, report)
		}
	}
	if report := h.check(withName("tree-secret." + h.byName["armed"].ID.String())); !report.Clean() {
		t.Errorf("the tree key of a live delegate:\n%s", report)
	}
	// Of a Vigil that runs: put after the first list, or deleted before the second.
	armed, gone := "tree-secret."+h.byName["armed"].ID.String(), "tree-secret."+vigil.DelegateID{0xee}.String()
	for now, fault := range map[string]bool{"delegate-service.1": false, armed: false, gone: true} {
		running := withName(gone)
		running.Again = func(context.Context) ([]string, error) { return []string{"delegate-service.1", now}, nil }
		if report := h.check(running); report.Clean() == fault {
			t.Errorf("with %s there again:\n%s", now, report)
		}
	}
	late := withName(gone)
	late.Names = nil
	late.Again = func(context.Context) ([]string, error) { return []string{"delegate-service.1", gone}, nil }
	if report := h.check(late); !report.Clean() {
		t.Errorf("all of them put after the first list:\n%s", report)
	}
	// On its way out a secret is no orphan.
	rec := h.byName["armed"]
	name := "tree-secret." + rec.ID.String()
	if _, err := h.ledger.Cancel(t.Context(), rec, false, name); err != nil {
		t.Fatal(err)
	}
	if report := h.check(withName(name)); !report.Clean() || len(report.Findings) != 1 {
		t.Errorf("garbage:\n%s", report)
	}
}

func withName(name string) *fsck.Secrets {
	s := goodSecrets()
	s.Names = append(s.Names, name)
	return s
}

func TestFindingsAreBounded(t *testing.T) {
	h := newHouse(t)
	for i := range 1500 {
		h.put("in_flight", append(make([]byte, 14), byte(i), byte(i>>8)), nil)
	}
	report := h.check(nil)
	if len(report.Findings) != 1000 || report.More != 500 || report.Clean() || !strings.Contains(report.String(), "and 500 more") {
		t.Fatalf("%d findings and %d more", len(report.Findings), report.More)
	}
}

func TestStoreErrorsAreNotFindings(t *testing.T) {
	h := newHouse(t)
	h.store.Fail(kv.ErrUnavailable)
	if _, err := fsck.Check(context.Background(), h.store, nil); err == nil {
		t.Fatal("a store that is down was found sane")
	}
}
