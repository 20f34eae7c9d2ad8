package stock_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/stock"
)

// asking is a list message of now, proven over a coin of the wallet's script.
func (w *wallet) asking() vigil.Intent {
	w.t.Helper()
	return w.prove(w.listMessage(0), []ark.VTXO{w.anyCoin()})
}

func (w *wallet) listMessage(off time.Duration) string {
	return stock.ListMessage(w.delegate.PubKey(), w.f.now().Add(off))
}

// anyCoin need not exist: it is the script that is proven.
func (w *wallet) anyCoin() ark.VTXO {
	return ark.VTXO{Outpoint: outpoint(77_777), Amount: 1, Script: w.tree.PkScript()}
}

func (f *fixture) list(in vigil.Intent) []vigil.Summary {
	f.t.Helper()
	list, err := f.service.List(f.t.Context(), in)
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

func TestListMessage(t *testing.T) {
	const want = `{"type":"vigil-list-delegates","server":"023c72addb4fdf09af94f0c94d7fe92a386a7e70cf8a1d85916386bb2535c7b1b1","at":1890000000}`
	if got := stock.ListMessage(key(t, 0x33).PubKey(), time.Unix(start, 0)); got != want {
		t.Errorf("%s", got)
	}
}

func TestList(t *testing.T) {
	f := newFixture(t)
	w, other := newWallet(f, 0x11), newWallet(f, 0x55)
	if list := f.list(w.asking()); list == nil || len(list) != 0 {
		t.Errorf("before there is any: %v", list)
	}
	var ids []vigil.DelegateID
	for n := 1; n <= 5; n++ {
		ids = append(ids, f.submit(w.body(n)).ID)
	}
	theirs := f.submit(other.body(9)).ID
	f.drive(ids[0], way(delegate.Settled)...)
	f.drive(ids[1], way(delegate.Joining)...)
	list := f.list(w.asking())
	if len(list) != 5 || list[4].ID != ids[0] || list[4].State != "settled" {
		t.Errorf("the ended one is not last of five: %+v", list)
	}
	for _, sum := range list {
		if sum.ID == theirs {
			t.Error("somebody else's delegate is shown")
		}
		if want := f.submit(bodyOf(f, sum.ID)); !reflect.DeepEqual(sum, want) {
			t.Errorf("%+v, want %+v", sum, want)
		}
	}
	if list := f.list(other.asking()); len(list) != 1 || list[0].ID != theirs {
		t.Errorf("the other wallet sees %+v", list)
	}
	// Both scripts in one proof, by both owners.
	both := newWallet(f, 0x11)
	if list := f.list(both.prove(w.listMessage(0), w.coins(1, 2))); len(list) != 5 {
		t.Errorf("over two coins: %d", len(list))
	}
}

// bodyOf posts what is stored again, to see how it is answered.
func bodyOf(f *fixture, id vigil.DelegateID) vigil.Submission {
	f.t.Helper()
	rec := f.record(id)
	w := newWallet(f, 0x11)
	w.validAt = rec.ValidAt
	for n := range 20 {
		if rec.Spends(outpoint(n)) {
			return w.body(n)
		}
	}
	f.t.Fatal("no such coin")
	return vigil.Submission{}
}

// Many delegates are listed whole, page by page.
func TestListOfMany(t *testing.T) {
	f := newFixture(t, func(c *stock.Config) { c.PerScript = 1000 })
	w := newWallet(f, 0x11)
	for n := range 150 {
		f.submit(w.body(n + 1))
	}
	seen := map[vigil.DelegateID]bool{}
	for _, sum := range f.list(w.asking()) {
		seen[sum.ID] = true
	}
	if len(seen) != 150 {
		t.Errorf("%d of 150", len(seen))
	}
}

func TestListRefuses(t *testing.T) {
	f := newFixture(t)
	w := newWallet(f, 0x11)
	f.submit(w.body(1))
	over := func(text string) vigil.Intent { return w.prove(text, []ark.VTXO{w.anyCoin()}) }
	changed := func(old, new string) vigil.Intent { return over(strings.Replace(w.listMessage(0), old, new, 1)) }
	spoilt := func(spoil func(*wallet)) vigil.Intent {
		s := newWallet(f, 0x11)
		spoil(s)
		return s.asking()
	}
	exchange := w.asking()
	exchange.Message = w.listMessage(time.Second)
	for name, c := range map[string]struct {
		in   vigil.Intent
		code vigil.Code
	}{
		"nothing":                 {vigil.Intent{}, vigil.CodeInvalidMessage},
		"a register message":      {w.body(1).Intent, vigil.CodeInvalidMessage},
		"a delete message":        {w.deletion(1), vigil.CodeInvalidMessage},
		"another type":            {changed("vigil-list", "other-list"), vigil.CodeInvalidMessage},
		"another server":          {over(stock.ListMessage(key(t, 0x66).PubKey(), f.now())), vigil.CodeInvalidMessage},
		"no server":               {changed(w.delegate.PubKey().String(), ""), vigil.CodeInvalidMessage},
		"spaces":                  {changed(":", ": "), vigil.CodeInvalidMessage},
		"upper case":              {changed("3c72addb", "3C72ADDB"), vigil.CodeInvalidMessage},
		"another field":           {changed("}", `,"x":1}`), vigil.CodeInvalidMessage},
		"a huge message":          {over(w.listMessage(0) + strings.Repeat(" ", 20_000)), vigil.CodeInvalidMessage},
		"time too early":          {over(w.listMessage(-61 * time.Second)), vigil.CodeClockSkew},
		"time too late":           {over(w.listMessage(61 * time.Second)), vigil.CodeClockSkew},
		"another time's proof":    {exchange, vigil.CodeInvalidProof},
		"no proof":                {vigil.Intent{Message: w.listMessage(0)}, vigil.CodeInvalidProof},
		"a huge proof":            {vigil.Intent{Message: w.listMessage(0), Proof: strings.Repeat("A", 2<<20)}, vigil.CodeInvalidProof},
		"unsigned":                {spoilt(func(s *wallet) { s.signers = nil }), vigil.CodeSignatureInvalid},
		"signed by another":       {spoilt(func(s *wallet) { s.signers = []*bip340.Key{s.delegate} }), vigil.CodeSignatureInvalid},
		"by owner, not by us":     {spoilt(func(s *wallet) { s.leaf = 2 }), vigil.CodeSignatureInvalid},
		"ANYONECANPAY":            {spoilt(func(s *wallet) { s.sighash = allAnyone }), vigil.CodeSighashUnsupported},
		"NONE":                    {spoilt(func(s *wallet) { s.sighash = txscript.SigHashNone }), vigil.CodeSighashUnsupported},
		"over too many coins":     {w.prove(w.listMessage(0), w.coins(many(129)...)), vigil.CodeInvalidProof},
		"over more than we count": {w.prove(w.listMessage(0), w.coins(many(128)...)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := f.service.List(t.Context(), c.in)
			if c.code == "" {
				if err != nil || len(list) != 1 {
					t.Errorf("%v, %v", list, err)
				}
				return
			}
			wantError(t, err, c.code)
			if len(list) > 0 {
				t.Errorf("refused, and answered %v", list)
			}
		})
	}
	few := newFixture(t, func(c *stock.Config) { c.Inputs = 2 })
	_, err := few.service.List(t.Context(), w.prove(w.listMessage(0), w.coins(1, 2, 3)))
	wantError(t, err, vigil.CodeTooManyInputs)
	for code, fail := range map[vigil.Code]func(*fixture){
		vigil.CodeStoreDown:    func(f *fixture) { f.store.Fail(errors.New("disk")) },
		vigil.CodeOperatorDown: func(f *fixture) { f.op.err = errors.New("down") },
		vigil.CodeOperatorKey:  func(f *fixture) { f.op.params.SignerKey = key(f.t, 0x77).PubKey() },
	} {
		f := newFixture(t)
		in := newWallet(f, 0x11).asking()
		fail(f)
		_, err := f.service.List(t.Context(), in)
		wantError(t, err, code)
	}
}

func many(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i + 1
	}
	return list
}

// Times within the window pass, on every leaf that an owner can sign alone.
func TestListAccepts(t *testing.T) {
	f := newFixture(t)
	w := newWallet(f, 0x11)
	f.submit(w.body(1))
	for name, in := range map[string]func(*wallet) vigil.Intent{
		"a minute behind": func(s *wallet) vigil.Intent { return s.prove(s.listMessage(-60*time.Second), []ark.VTXO{s.anyCoin()}) },
		"a minute ahead":  func(s *wallet) vigil.Intent { return s.prove(s.listMessage(60*time.Second), []ark.VTXO{s.anyCoin()}) },
		"DEFAULT":         func(s *wallet) vigil.Intent { s.sighash = txscript.SigHashDefault; return s.asking() },
		"the exit leaf":   func(s *wallet) vigil.Intent { s.leaf, s.sequence = 1, exit; return s.asking() },
		"the delegate leaf, signed by both": func(s *wallet) vigil.Intent {
			s.leaf, s.signers = 2, append(s.signers, s.delegate)
			return s.asking()
		},
	} {
		if list := f.list(in(newWallet(f, 0x11))); len(list) != 1 {
			t.Errorf("%s: %v", name, list)
		}
	}
}

// Who signs without the owner's key owns nothing: our own key and the
// operator's, a key of another leaf, or the owner's key on another script.
func TestWhatProvesNothing(t *testing.T) {
	f := newFixture(t)
	owner, intruder := key(t, 0x11).PubKey().XOnly(), key(t, 0x55).PubKey().XOnly()
	service, signer := key(t, 0x33).PubKey().XOnly(), key(t, 0x22).PubKey().XOnly()
	base, err := script.Delegate(owner, service, signer, exit)
	if err != nil {
		t.Fatal(err)
	}
	// A wallet whose script has further leaves: of us and the operator alone, and
	// of a co-owner with the operator.
	leaves := append(base.Leaves(),
		script.Multisig{PubKeys: []bip340.XOnly{service, signer}}.Script(),
		script.Multisig{PubKeys: []bip340.XOnly{intruder, signer}}.Script())
	tree, err := script.NewTree(leaves)
	if err != nil {
		t.Fatal(err)
	}
	w := newWallet(f, 0x11)
	w.tree = tree
	id := f.submit(w.body(1)).ID
	try := func(name string, change func(*wallet)) {
		t.Helper()
		s := newWallet(f, 0x11)
		s.tree = tree
		change(s)
		if list, err := f.service.List(t.Context(), s.asking()); err != nil || len(list) != 0 {
			t.Errorf("%s: %v, %v", name, list, err)
		}
		_, err := f.service.Cancel(t.Context(), s.deletion(1))
		wantError(t, err, vigil.CodeNotFound)
		if f.record(id).State != delegate.Armed {
			t.Fatalf("%s: it is %s", name, f.record(id).State)
		}
	}
	try("the service's own key", func(s *wallet) { s.leaf, s.signers = 3, []*bip340.Key{s.delegate} })
	try("a key of another leaf", func(s *wallet) { s.leaf, s.signers = 4, []*bip340.Key{key(t, 0x55)} })
	try("the owner, on another script", func(s *wallet) { s.tree = newWallet(f, 0x11).tree })
	w2 := newWallet(f, 0x11)
	w2.tree = tree
	if list := f.list(w2.asking()); len(list) != 1 {
		t.Errorf("the owner sees %v", list)
	}
	// In one proof: the intruder on the owner's script, the owner on another one.
	text := w.listMessage(0)
	outs := []*wire.TxOut{wire.NewTxOut(1, tree.PkScript()), wire.NewTxOut(1, base.PkScript())}
	p, err := intent.BuildProof(text, []intent.Input{
		{Outpoint: outpoint(1), Out: outs[0], Sequence: wire.MaxTxInSequenceNum, Tree: tree, Leaf: 4},
		{Outpoint: outpoint(2), Out: outs[1], Sequence: wire.MaxTxInSequenceNum, Tree: base},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.signAll(p, key(t, 0x55))
	w.signAll(p, w.owner)
	if list := f.list(vigil.Intent{Message: text, Proof: w.encode(p)}); len(list) != 0 {
		t.Errorf("two halves prove a whole: %v", list)
	}
}

func TestCancel(t *testing.T) {
	for state, want := range map[delegate.State]struct {
		state   string
		deleted int
		noted   bool
	}{
		delegate.Armed:       {"cancelled", 0, false},
		delegate.Due:         {"cancelled", 0, false},
		delegate.Registering: {"cancelled", 2, false}, // again, once it can no longer come
		delegate.Registered:  {"cancelled", 1, false},
		delegate.Joining:     {"joining", 0, true},
		delegate.Submitted:   {"submitted", 0, true},
		delegate.Unconfirmed: {"unconfirmed", 0, true},
		delegate.Quarantined: {"cancelled", 0, false},
	} {
		// The operator client says "not found" of a delete that matched nothing.
		for name, operatorSays := range map[string]error{"": nil, " and unknown at the operator": refusal(19, "NOT_FOUND")} {
			t.Run(state.String()+name, func(t *testing.T) {
				f := newFixture(t)
				w := newWallet(f, 0x11)
				id := f.submit(w.body(1, 2)).ID
				f.drive(id, way(state)...)
				f.op.delErr = operatorSays
				in := w.deletion(2)
				for range 2 { // asked again, it is answered the same
					sum, err := f.service.Cancel(t.Context(), in)
					if err != nil || sum.ID != id || sum.State != want.state {
						t.Fatalf("%+v, %v", sum, err)
					}
				}
				if rec := f.record(id); rec.State.String() != want.state || rec.CancelWanted != want.noted {
					t.Errorf("%s, noted %v", rec.State, rec.CancelWanted)
				}
				if len(f.op.deleted) != want.deleted {
					t.Errorf("%d deletes at the operator", len(f.op.deleted))
				}
				for _, d := range f.op.deleted {
					if d != in {
						t.Error("another intent was handed on")
					}
				}
			})
		}
	}
}

// A wish to cancel is carried out when the batch fails.
func TestCancelInABatch(t *testing.T) {
	f := newFixture(t)
	w := newWallet(f, 0x11)
	id := f.submit(w.body(1)).ID
	f.drive(id, way(delegate.Joining)...)
	if _, err := f.service.Cancel(t.Context(), w.deletion(1)); err != nil {
		t.Fatal(err)
	}
	f.drive(id, delegate.BatchFailed)
	if rec := f.record(id); rec.State != delegate.Cancelled {
		t.Errorf("%s", rec.State)
	}
}

// The replacement that waits beside is taken back too: it would be promoted.
func TestCancelWithAPendingOne(t *testing.T) {
	f := newFixture(t)
	w := newWallet(f, 0x11)
	older := f.submit(w.body(1)).ID
	f.drive(older, way(delegate.Joining)...)
	w.validAt++
	newer := f.submit(w.body(1))
	if newer.State != "pending" {
		t.Fatal(newer.State)
	}
	sum, err := f.service.Cancel(t.Context(), w.deletion(1))
	if err != nil || sum.ID != older || sum.State != "joining" {
		t.Errorf("%+v, %v", sum, err)
	}
	f.drive(older, delegate.BatchFailed)
	for _, id := range []vigil.DelegateID{older, newer.ID} {
		if rec := f.record(id); rec.State != delegate.Cancelled {
			t.Errorf("%s is %s", id, rec.State)
		}
	}
}

func TestCancelRefuses(t *testing.T) {
	f := newFixture(t)
	w, other := newWallet(f, 0x11), newWallet(f, 0x55)
	id := f.submit(w.body(1)).ID
	f.drive(id, way(delegate.Registered)...)
	foreign := vectors(t).Delete // of another time
	for name, c := range map[string]struct {
		in   vigil.Intent
		code vigil.Code
	}{
		"nothing":               {vigil.Intent{}, vigil.CodeInvalidMessage},
		"a list message":        {w.asking(), vigil.CodeInvalidMessage},
		"a register message":    {w.body(1).Intent, vigil.CodeInvalidMessage},
		"not canonical":         {w.prove(fmt.Sprintf(`{"expire_at":%d,"type":"delete"}`, f.at+60), w.coins(1)), vigil.CodeInvalidMessage},
		"a huge message":        {vigil.Intent{Message: strings.Repeat("x", 20_000)}, vigil.CodeInvalidMessage},
		"never expires":         {w.deletionUntil(0, 1), vigil.CodeClockSkew},
		"expired":               {w.deletionUntil(f.at-1, 1), vigil.CodeClockSkew},
		"expires next week":     {w.deletionUntil(f.at+7*86_400, 1), vigil.CodeClockSkew},
		"the SDK's, years off":  {vigil.Intent{Message: foreign.Message, Proof: foreign.Proof}, vigil.CodeClockSkew},
		"a stranger's coin":     {other.deletion(5), vigil.CodeNotFound},
		"a coin not delegated":  {w.deletion(8), vigil.CodeNotFound},
		"the stranger's script": {other.deletion(1), vigil.CodeNotFound},
		"ANYONECANPAY": {func() vigil.Intent {
			s := newWallet(f, 0x11)
			s.sighash = allAnyone
			return s.deletion(1)
		}(), vigil.CodeSighashUnsupported},
	} {
		_, err := f.service.Cancel(t.Context(), c.in)
		if err == nil || vigil.CodeOf(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	for name, c := range map[string]struct {
		says error
		code vigil.Code
	}{
		"unreachable":   {errors.New("connection refused"), vigil.CodeOperatorDown},
		"banned":        {refusal(29, "VTXO_BANNED"), vigil.CodeOperatorDown},
		"not its proof": {refusal(22, "INVALID_INTENT_PSBT"), vigil.CodeInvalidProof},
	} {
		f.op.delErr = c.says
		_, err := f.service.Cancel(t.Context(), w.deletion(1))
		if vigil.CodeOf(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	if rec := f.record(id); rec.State != delegate.Registered || rec.CancelWanted {
		t.Errorf("it is %s, noted %v", rec.State, rec.CancelWanted)
	}
}

// A delete intent as the stock SDK makes it, at its time.
func TestCancelByTheSDK(t *testing.T) {
	f := newFixture(t)
	v := vectors(t)
	body := vigil.Submission{Intent: vigil.Intent{Message: v.Delegates[0].Message, Proof: v.Delegates[0].Proof}, Forfeits: v.Delegates[0].Forfeits}
	f.withCoins(body)
	id := f.submit(body).ID
	m, err := intent.Decode(v.Delete.Message, intent.Delete)
	if err != nil {
		t.Fatal(err)
	}
	f.at = m.ExpireAt - 120
	sum, err := f.service.Cancel(t.Context(), vigil.Intent{Message: v.Delete.Message, Proof: v.Delete.Proof})
	if err != nil || sum.ID != id || sum.State != "cancelled" {
		t.Errorf("%+v, %v", sum, err)
	}
}

// The engine may move the delegate while it is being cancelled: the new state
// decides, and what a batch has already is not cancelled behind its back.
func TestCancelAgainstTheEngine(t *testing.T) {
	f := newFixture(t)
	w := newWallet(f, 0x11)
	id := f.submit(w.body(1)).ID
	f.drive(id, way(delegate.Registered)...)
	moved := false
	f.op.onDel = func() {
		if !moved {
			moved = true
			f.drive(id, delegate.Join)
		}
	}
	sum, err := f.service.Cancel(t.Context(), w.deletion(1))
	if err != nil || sum.State != "joining" || !f.record(id).CancelWanted {
		t.Errorf("%+v, %v, noted %v", sum, err, f.record(id).CancelWanted)
	}
	// One that never stands still is given up on, and unchanged.
	f = newFixture(t)
	w = newWallet(f, 0x11)
	id = f.submit(w.body(1)).ID
	f.drive(id, way(delegate.Registered)...)
	f.op.onDel = func() { f.drive(id, delegate.Note) }
	_, err = f.service.Cancel(t.Context(), w.deletion(1))
	wantError(t, err, vigil.CodeStoreDown)
	if f.record(id).State != delegate.Registered {
		t.Errorf("%s", f.record(id).State)
	}
}

// Whatever strangers send to list and cancel is refused as theirs: no panic, and
// no refusal that blames this server.
func FuzzOwnerIntents(f *testing.F) {
	x := newFixture(f)
	w := newWallet(x, 0x11)
	x.submit(w.body(1))
	asking, deletion := w.asking(), w.deletion(1)
	f.Add(asking.Message, asking.Proof)
	f.Add(deletion.Message, deletion.Proof)
	f.Add(strings.Replace(asking.Message, "at", "AT", 1), deletion.Proof)
	f.Fuzz(func(t *testing.T, message, proof string) {
		in := vigil.Intent{Message: message, Proof: proof}
		_, listed := x.service.List(t.Context(), in)
		_, cancelled := x.service.Cancel(t.Context(), in)
		for _, err := range []error{listed, cancelled} {
			if err == nil {
				continue
			}
			switch kind := vigil.Lookup(vigil.CodeOf(err)).Kind; kind {
			case vigil.KindInvalid, vigil.KindNotFound:
			default:
				t.Errorf("%v", err)
			}
		}
	})
}
