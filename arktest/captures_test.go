package arktest_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

type captures struct {
	Info  json.RawMessage
	Calls map[string]struct {
		Path     string
		Status   int
		Response json.RawMessage
	}
	Batches map[string]struct {
		Kinds  []string
		Events []json.RawMessage
	}
}

func loadCaptures(t *testing.T) (c captures) {
	t.Helper()
	raw, err := os.ReadFile("testdata/captures.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// form describes a JSON value by its shape: keys, types, and what strings look
// like. Values themselves differ between any two runs.
func form(t *testing.T, raw []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return formOf(v, "")
}

func formOf(v any, key string) string {
	switch v := v.(type) {
	case map[string]any:
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, keyForm(k)+":"+formOf(v[k], k))
		}
		slices.Sort(parts)
		return "{" + strings.Join(slices.Compact(parts), ",") + "}"
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, formOf(e, key))
		}
		return "[" + strings.Join(slices.Compact(parts), ",") + "]"
	case string:
		return stringForm(v)
	case float64:
		return "number"
	}
	return fmt.Sprint(v)
}

// keyForm keeps field names and describes txids, keys and indexes.
func keyForm(k string) string {
	if _, err := hex.DecodeString(k); err == nil && len(k) >= 64 {
		return fmt.Sprintf("hex%d", len(k))
	}
	return k
}

func stringForm(s string) string {
	switch {
	case s == "":
		return `""`
	case regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(s):
		return "uuid"
	case regexp.MustCompile(`^-?[0-9]{1,12}$`).MatchString(s):
		return "decimal"
	case regexp.MustCompile(`^[0-9a-f]{64}:[0-9]+$`).MatchString(s):
		return "outpoint"
	}
	if raw, err := hex.DecodeString(s); err == nil {
		return fmt.Sprintf("hex%d", len(raw))
	}
	if _, err := base64.StdEncoding.DecodeString(s); err == nil && strings.HasPrefix(s, "cHNidP8") {
		p, err := psbt.NewFromRawBytes(strings.NewReader(s), true)
		if err != nil {
			return "broken psbt"
		}
		return psbtForm(p)
	}
	return "text"
}

// psbtForm describes a PSBT: version, locks, scripts' kinds and what each input
// carries.
func psbtForm(p *psbt.Packet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "psbt(v%d,lock %d", p.UnsignedTx.Version, p.UnsignedTx.LockTime)
	for i, in := range p.Inputs {
		fmt.Fprintf(&b, ",in %x", p.UnsignedTx.TxIn[i].Sequence)
		if in.WitnessUtxo != nil {
			fmt.Fprintf(&b, " utxo%s", scriptForm(in.WitnessUtxo))
		}
		for _, l := range in.TaprootLeafScript {
			c, err := tapscript.Decode(l.Script)
			fmt.Fprintf(&b, " leaf%d/%d/%d(%v)", c.Kind, len(c.Keys), len(l.ControlBlock), err)
		}
		for _, s := range in.TaprootScriptSpendSig {
			fmt.Fprintf(&b, " sig%d/%d", len(s.Signature), s.SigHash)
		}
		if in.TaprootKeySpendSig != nil {
			b.WriteString(" keysig")
		}
		for _, u := range in.Unknowns {
			value := fmt.Sprint(len(u.Value))
			if strings.Contains(string(u.Key), "expiry") {
				value = hex.EncodeToString(u.Value)
			}
			fmt.Fprintf(&b, " %q=%s", u.Key, value)
		}
	}
	for _, o := range p.UnsignedTx.TxOut {
		fmt.Fprintf(&b, ",out%s", scriptForm(o))
	}
	fmt.Fprintf(&b, ",global %d)", len(p.Unknowns))
	return b.String()
}

func scriptForm(o *wire.TxOut) string {
	if o.Value == 0 {
		return fmt.Sprintf(" 0 %x", o.PkScript)
	}
	return fmt.Sprintf(" %x+%d", o.PkScript[:2], len(o.PkScript))
}

func kind(t *testing.T, frame []byte) string {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(frame, &m); err != nil || len(m) != 1 {
		t.Fatalf("frame %s", frame)
	}
	for k := range m {
		return k
	}
	return ""
}

// indexed tells the events of the two trees apart.
func indexed(t *testing.T, frame []byte) string {
	t.Helper()
	var m struct{ TreeTx struct{ BatchIndex int } }
	if err := json.Unmarshal(frame, &m); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(kind(t, frame), m.TreeTx.BatchIndex)
}

// compare holds frames against a captured batch: the same kinds in the same
// order, and every first event of a kind of the same form.
func compare(t *testing.T, c captures, name string, frames [][]byte) {
	t.Helper()
	want := c.Batches[name]
	var kinds []string
	first := map[string][]byte{}
	for _, f := range frames {
		kinds = append(kinds, kind(t, f))
		if k := indexed(t, f); first[k] == nil {
			first[k] = f
		}
	}
	if !slices.Equal(kinds, want.Kinds) {
		t.Errorf("%s: events %v, want %v", name, kinds, want.Kinds)
	}
	for _, w := range want.Events {
		k := indexed(t, w)
		if first[k] == nil {
			t.Errorf("%s: no %s", name, k)
			continue
		}
		if got, want := form(t, first[k]), form(t, w); got != want {
			t.Errorf("%s: %s has form\n %s\nwant\n %s", name, k, got, want)
		}
	}
}

func compareCall(t *testing.T, c captures, r *rest, name string) {
	t.Helper()
	want, ok := c.Calls[name]
	if !ok || want.Status != 200 {
		t.Fatalf("no capture of %s", name)
	}
	r.mu.Lock()
	got := r.answers[want.Path]
	r.mu.Unlock()
	if got == nil {
		t.Errorf("%s was not called", want.Path)
		return
	}
	if g, w := form(t, got), form(t, want.Response); g != w {
		t.Errorf("%s answers with form\n %s\nwant\n %s", name, g, w)
	}
}

// TestAnswersAgreeWithCaptures lives the captured story over REST and holds
// every answer and event against arkd's.
func TestAnswersAgreeWithCaptures(t *testing.T) {
	t.Parallel()
	c := loadCaptures(t)
	if len(c.Calls) != 22 || len(c.Batches) != 7 {
		t.Fatalf("%d calls and %d batches captured, want 22 and 7", len(c.Calls), len(c.Batches))
	}
	op := start(t, arktest.Config{})
	ctx := deadline(t)
	p, r := newRestParty(t, op)
	frames := func() [][]byte {
		r.mu.Lock()
		defer r.mu.Unlock()
		f := r.frames
		r.frames = nil
		return f
	}

	coin := p.board(ctx, 200_000)
	compare(t, c, "board", frames())
	for _, name := range []string{"register-intent", "ack", "tree-nonces", "tree-signatures", "forfeits"} {
		compareCall(t, c, r, "board-"+name)
		compareCall(t, c, r, "board-delegate-vtxo-"+name)
	}
	if got, want := form(t, r.answers["/v1/info"]), form(t, c.Info); got != want {
		t.Errorf("info has form\n %s\nwant\n %s", got, want)
	}

	change := p.send(ctx, coin, 50_000, newParty(t, op).vtxoTree().PkScript())
	compareCall(t, c, r, "send-tx-submit")
	compareCall(t, c, r, "send-tx-finalize")

	out, err := p.settle(ctx, manners{}, []coinT{change}, p.pay(change.out.Value))
	if err != nil || out.failed != "" {
		t.Fatal(err, out.failed)
	}
	compare(t, c, "renew-A", frames())
	for _, name := range []string{"register-intent", "ack", "tree-nonces", "tree-signatures", "forfeits"} {
		compareCall(t, c, r, "renew-A-"+name)
		compareCall(t, c, r, "renew-B-"+name)
	}
}

// coinT is coin where a variable hides the name.
type coinT = coin

func TestFailuresAgreeWithCaptures(t *testing.T) {
	c := loadCaptures(t)
	for name, m := range map[string]manners{
		"failed-no-signatures": {noSigs: true},
		"failed-no-forfeits":   {noBoarding: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			op := start(t, arktest.Config{Settings: arktest.Settings{TreeExpiry: 512}})
			p, r := newRestParty(t, op)
			out, err := p.settle(deadline(t), m, []coin{p.fund(200_000)}, p.pay(200_000))
			if err != nil || out.failed == "" {
				t.Fatalf("%v, failed with %q", err, out.failed)
			}
			compare(t, c, name, r.frames)
			want := c.Batches[name].Events
			var last struct{ BatchFailed arkv1.BatchFailedEvent }
			if err := json.Unmarshal(want[len(want)-1], &last); err != nil {
				t.Fatal(err)
			}
			if got, want := strip(out.failed), strip(last.BatchFailed.Reason); got != want {
				t.Errorf("failed with %q, want %q", got, want)
			}
		})
	}
}

// strip takes scripts, which differ, out of a reason.
func strip(s string) string { return regexp.MustCompile(`[0-9a-f]{40,}`).ReplaceAllString(s, "…") }
