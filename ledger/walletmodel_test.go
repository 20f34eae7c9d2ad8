package ledger_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
)

// walletModel is what the ledger must remember of wallets, as plainly as it can be
// said. VTXO v belongs to wallet v%3; delegate d is over VTXOs of its wallet.
type walletModel struct {
	wallets   map[int]bool
	gone      map[int]bool  // VTXOs
	saidAt    map[int]int64 // when the operator said so; not of those that were renewed
	seen      map[int]bool
	cover     map[int]int // VTXO to delegate
	delegates map[int]delegate.State
	planned   map[int]int64 // delegates to their expiry
	secrets   map[string]bool
	spent     map[int]map[byte]int64 // by wallet, sighash
	done      map[int]string         // requests to their answers
	tokens    map[int]map[string]bool
	entries   int
}

// walletMachine runs the ledger beside the model.
type walletMachine struct {
	*town
	m    walletModel
	made int // delegates so far
	asks int // requests so far
}

func (x *walletMachine) some(t *rapid.T) int {
	if len(x.m.wallets) == 0 {
		t.Skip("no wallet")
	}
	return rapid.SampledFrom(slices.Sorted(maps.Keys(x.m.wallets))).Draw(t, "wallet")
}

func (x *walletMachine) row(t *rapid.T, w int) *ledger.Wallet {
	row, err := x.l.Wallet(t.Context(), walletID(w))
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func (x *walletMachine) create(t *rapid.T) {
	w := rapid.IntRange(0, 2).Draw(t, "wallet")
	plan := ledger.Plan{Wallet: walletID(w), Secrets: secretsOf(w), NotBefore: x.at + 600}
	err := x.l.Plan(t.Context(), plan)
	if x.m.wallets[w] {
		if !errors.Is(err, ledger.ErrTaken) {
			t.Fatal(err)
		}
		return
	}
	if errors.Is(err, ledger.ErrTaken) { // abandoned a moment ago, and not garbage yet
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range secretsOf(w) {
		x.m.secrets[name] = true
	}
	switch rapid.IntRange(0, 3).Draw(t, "then") {
	case 0:
		return // the ceremony is abandoned, or Vigil is killed
	case 1:
		x.at += 700
		if _, err := x.l.Lapse(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
		if _, err := x.l.CreateWallet(t.Context(), wallet(w), ledger.Extras{}); !errors.Is(err, ledger.ErrLapsed) {
			t.Fatal(err)
		}
		return
	}
	if _, err := x.l.CreateWallet(t.Context(), wallet(w), ledger.Extras{Audit: []ledger.Link{entry(x.at, "create")}}); err != nil {
		t.Fatal(err)
	}
	x.m.wallets[w] = true
	x.m.entries++
}

func (x *walletMachine) update(t *rapid.T) {
	w := x.some(t)
	row := x.row(t, w)
	stale := row.Clone()
	stale.Version--
	if _, err := x.l.UpdateWallet(t.Context(), stale, nil, ledger.Extras{Audit: []ledger.Link{entry(x.at, "stale")}}); !errors.Is(err, ledger.ErrConflict) {
		t.Fatal(err)
	}
	if _, err := x.l.UpdateWallet(t.Context(), row, func(w *ledger.Wallet) { w.Identities[0].FrozenAt++ }, ledger.Extras{Audit: []ledger.Link{entry(x.at, "update")}}); err != nil {
		t.Fatal(err)
	}
	x.m.entries++
}

func (x *walletMachine) prepare(t *rapid.T) {
	w := x.some(t)
	open := 0
	for d, until := range x.m.planned {
		if d%3 == w && until > x.at {
			open++
		}
	}
	d := x.made*3 + w
	x.made++
	id := delegateID(d)
	secret := "tree-secret." + id.String()
	err := x.l.Plan(t.Context(), ledger.Plan{Wallet: walletID(w), Delegate: id, Secrets: []string{secret}, ExpiresAt: x.at + 3600, NotBefore: x.at + 7200})
	switch {
	case errors.Is(err, ledger.ErrTooMany) && open >= ledger.MaxPrepared:
		return
	case errors.Is(err, ledger.ErrTooMany) && len(x.m.planned) > ledger.MaxPrepared:
		return // with those that have expired
	case err != nil || open >= ledger.MaxPrepared:
		t.Fatalf("%d open: %v", open, err)
	}
	x.m.planned[d], x.m.secrets[secret] = x.at+3600, true
	x.draw(d)
}

func (x *walletMachine) draw(d int) {
	x.must(x.l.Drawn(x.t.Context(), walletID(d%3), map[vigil.DelegateID]bip340.PubKey{delegateID(d): pubkey('t', d)}))
}

func (x *walletMachine) submit(t *rapid.T) {
	if len(x.m.planned) == 0 {
		t.Skip("nothing is prepared")
	}
	d := rapid.SampledFrom(slices.Sorted(maps.Keys(x.m.planned))).Draw(t, "delegate")
	w := d % 3
	var vtxos []int
	for i := range 4 {
		if rapid.Bool().Draw(t, "vtxo") {
			vtxos = append(vtxos, 3*i+w)
		}
	}
	if len(vtxos) == 0 {
		vtxos = []int{w}
	}
	_, err := x.l.Submit(t.Context(), ledger.Submission{Record: x.signed(w, d, vtxos...), Audit: []ledger.Link{entry(x.at, "submit")}})
	if x.m.planned[d] <= x.at {
		if !errors.Is(err, ledger.ErrLapsed) {
			t.Fatal(err)
		}
		return
	}
	for _, v := range vtxos {
		if at, said := x.m.saidAt[v]; x.m.gone[v] && (!said || at >= x.at) {
			if vigil.CodeOf(err) != vigil.CodeInputSpent {
				t.Fatalf("over %d, which is gone: %v", v, err)
			}
			return
		}
	}
	olders := map[int]bool{}
	for _, v := range vtxos {
		if older, ok := x.m.cover[v]; ok {
			olders[older] = true
		}
	}
	for v, older := range x.m.cover {
		if olders[older] && !slices.Contains(vtxos, v) {
			if vigil.CodeOf(err) != vigil.CodeReplaceIncomplete {
				t.Fatalf("it leaves %d of an older one out: %v", v, err)
			}
			return
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range vtxos { // what was only said is taken back
		delete(x.m.gone, v)
		delete(x.m.saidAt, v)
	}
	for older := range olders {
		x.m.delegates[older] = delegate.Replaced
	}
	delete(x.m.planned, d)
	x.m.delegates[d] = delegate.Armed
	for _, v := range vtxos {
		x.m.cover[v], x.m.seen[v] = d, true
	}
	x.m.entries++
}

// end uncovers what a delegate covered.
func (x *walletMachine) end(d int, to delegate.State) {
	x.m.delegates[d] = to
	for v, by := range x.m.cover {
		if by == d {
			delete(x.m.cover, v)
		}
	}
}

func (x *walletMachine) armed(t *rapid.T) (int, *delegate.Record) {
	var open []int
	for d, s := range x.m.delegates {
		if s == delegate.Armed {
			open = append(open, d)
		}
	}
	if len(open) == 0 {
		t.Skip("none is armed")
	}
	slices.Sort(open)
	d := rapid.SampledFrom(open).Draw(t, "delegate")
	r, err := x.l.Delegate(t.Context(), delegateID(d))
	if err != nil {
		t.Fatal(err)
	}
	return d, r
}

func (x *walletMachine) cancel(t *rapid.T) {
	d, r := x.armed(t)
	if _, err := x.l.Cancel(t.Context(), r, false); err != nil {
		t.Fatal(err)
	}
	x.end(d, delegate.Cancelled)
}

// renew settles a delegate at once; the leaf is unknown to the model.
func (x *walletMachine) renew(t *rapid.T) {
	d, r := x.armed(t)
	for v, by := range x.m.cover {
		if by == d {
			x.m.gone[v] = true
		}
	}
	x.drive(r, append(slices.Clone(toCommitment), delegate.Confirmed)...)
	x.end(d, delegate.Settled)
}

// observe lets the indexer tell of some of a wallet's VTXOs.
func (x *walletMachine) observe(t *rapid.T) {
	w := x.some(t)
	var told []ark.VTXO
	ended := map[int]delegate.State{}
	for i := range 4 {
		v := 3*i + w
		c := coin(w, v)
		switch rapid.IntRange(0, 6).Draw(t, "vtxo") {
		case 0:
			continue
		case 1:
			c = spentIn(c, byte(rapid.IntRange(1, 3).Draw(t, "by")))
		case 2:
			c.Unrolled = true
		case 3:
			c = settledBy(c, byte(rapid.IntRange(1, 3).Draw(t, "by")))
		default:
			if _, said := x.m.saidAt[v]; said { // the operator takes its word back
				delete(x.m.gone, v)
				delete(x.m.saidAt, v)
			}
		}
		told = append(told, c)
		x.m.seen[v] = true
		if !c.Spent && !c.Unrolled || x.m.gone[v] {
			continue
		}
		x.m.gone[v], x.m.saidAt[v] = true, x.at
		if d, ok := x.m.cover[v]; ok && ended[d] == 0 {
			ended[d] = delegate.Spent
			if c.Unrolled {
				ended[d] = delegate.Broken
			}
		}
	}
	s, err := x.l.PutVTXOs(t.Context(), walletID(w), told)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Ended) != len(ended) {
		t.Fatalf("%d ended, want %v", len(s.Ended), ended)
	}
	for d, to := range ended {
		x.end(d, to)
	}
}

func (x *walletMachine) spend(t *rapid.T) {
	w, n := x.some(t), rapid.ByteRange(0, 5).Draw(t, "sighash")
	if x.m.spent[w] == nil {
		x.m.spent[w] = map[byte]int64{}
	}
	err := x.l.Decide(t.Context(), walletID(w), 0, func(s ledger.Spending) (ledger.Verdict, error) {
		var want int64
		for _, amount := range x.m.spent[w] {
			want += amount
		}
		if s.Amount != want || len(s.Each) != len(x.m.spent[w]) {
			t.Fatalf("spent %+v, want %d", s, want)
		}
		return ledger.Verdict{Audit: []ledger.Link{entry(x.at, "sign")}, Spends: []ledger.Spend{{Sighash: [32]byte{n}, Amount: int64(n)}}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	x.m.spent[w][n] = int64(n)
	x.m.entries++
}

// ask makes a request, new or again.
func (x *walletMachine) ask(t *rapid.T) {
	n := x.asks
	if x.asks > 0 && rapid.Bool().Draw(t, "again") {
		n = rapid.IntRange(0, x.asks-1).Draw(t, "request")
	}
	id := walletID(n % 3)
	q := ledger.Request{Owner: id[:], Nonce: [16]byte{byte(n), byte(n >> 8)}, Hash: [32]byte{byte(n)}, Stamp: x.at}
	got, err := x.l.Begin(t.Context(), q, window)
	want, known := x.m.done[n]
	switch {
	case !x.m.wallets[n%3]:
		if !known && !errors.Is(err, ledger.ErrNotFound) {
			t.Fatal(err)
		}
	case known && want == "":
		if !errors.Is(err, ledger.ErrBegun) {
			t.Fatal(string(got), err)
		}
	case known:
		if err != nil || string(got) != want {
			t.Fatal(string(got), err)
		}
	case err != nil || got != nil:
		t.Fatal(string(got), err)
	default:
		x.asks, x.m.done[n] = max(x.asks, n+1), ""
		if rapid.Bool().Draw(t, "finish") {
			x.m.done[n] = fmt.Sprint("answer ", n)
			x.must(x.l.Finish(t.Context(), q, []byte(x.m.done[n])))
		}
	}
}

func (x *walletMachine) token(t *rapid.T) {
	w := x.some(t)
	text := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "token")
	if x.m.tokens[w] == nil {
		x.m.tokens[w] = map[string]bool{}
	}
	if rapid.Bool().Draw(t, "drop") {
		x.must(x.l.DropToken(t.Context(), walletID(w), text))
		delete(x.m.tokens[w], text)
		return
	}
	x.must(x.l.SetToken(t.Context(), walletID(w), ledger.Token{Text: text}))
	x.m.tokens[w][text] = true
}

// clear is what upkeep does: deletes the secrets that are garbage.
func (x *walletMachine) clear(t *rapid.T) {
	x.at += rapid.SampledFrom([]int64{0, 700, 4000}).Draw(t, "later")
	if _, err := x.l.Lapse(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range x.garbage() {
		if !x.m.secrets[name] {
			t.Logf("garbage of what was deleted before: %s", name)
		}
		delete(x.m.secrets, name)
		names = append(names, name)
	}
	if err := x.l.SecretDeleted(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
	for d, until := range x.m.planned {
		if until+2*3600 < x.at && !x.m.secrets["tree-secret."+delegateID(d).String()] {
			delete(x.m.planned, d)
		}
	}
}

func (x *walletMachine) delete(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
		t.Skip("not now")
	}
	w := x.some(t)
	if err := x.l.DeleteWallet(t.Context(), x.row(t, w), ledger.Extras{Audit: []ledger.Link{entry(x.at, "delete")}}); err != nil {
		t.Fatal(err)
	}
	x.m.entries++
	delete(x.m.wallets, w)
	delete(x.m.spent, w)
	delete(x.m.tokens, w)
	for _, m := range []map[int]bool{x.m.gone, x.m.seen} {
		maps.DeleteFunc(m, func(v int, _ bool) bool { return v%3 == w })
	}
	maps.DeleteFunc(x.m.saidAt, func(v int, _ int64) bool { return v%3 == w })
	maps.DeleteFunc(x.m.cover, func(v, _ int) bool { return v%3 == w })
	maps.DeleteFunc(x.m.delegates, func(d int, _ delegate.State) bool { return d%3 == w })
	maps.DeleteFunc(x.m.planned, func(d int, _ int64) bool { return d%3 == w })
	maps.DeleteFunc(x.m.done, func(n int, _ string) bool { return n%3 == w })
}

func (x *walletMachine) restart(*rapid.T) { x.reopen() }

// check compares the two, and asks fsck with the secrets that there are.
func (x *walletMachine) check(t *rapid.T) {
	for w := range 3 {
		s, err := x.l.WalletSnapshot(t.Context(), walletID(w), 1000)
		if !x.m.wallets[w] {
			if !errors.Is(err, ledger.ErrNotFound) {
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		open := 0
		for d, state := range x.m.delegates {
			if d%3 == w && state == delegate.Armed {
				open++
			}
		}
		if len(s.Delegates) != open || len(s.Tokens) != len(x.m.tokens[w]) {
			t.Fatalf("wallet %d has %d delegates and %d tokens, want %d and %d", w, len(s.Delegates), len(s.Tokens), open, len(x.m.tokens[w]))
		}
		x.checkVTXOs(t, s)
		x.checkHistory(t, w)
	}
	if n := x.entries(); n != x.m.entries {
		t.Fatalf("%d entries, want %d", n, x.m.entries)
	}
	x.clean(append(slices.Sorted(maps.Keys(x.m.secrets)), "delegate-service.1")...)
}

// checkHistory holds the lines of a wallet to its VTXOs: what came and did not go is
// there.
func (x *walletMachine) checkHistory(t *rapid.T, w int) {
	x.sync(w) // tells of what only a delegate had told of
	var want, got int64
	for _, e := range x.lines(w) {
		switch e.Type {
		case ledger.LineReceive:
			want += e.Amount
		case ledger.LineSend, ledger.LineUnroll:
			want -= e.Amount
		case ledger.LineExit:
			want -= e.Amount + e.Fee
		case ledger.LineSettle:
			want -= e.Fee
		}
	}
	all, err := x.l.VTXOsOf(t.Context(), walletID(w))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		if h.Fate == ledger.Unspent {
			got += h.Amount
		}
	}
	if got != want {
		t.Fatalf("wallet %d has %d, and its history says %d: %+v", w, got, want, x.lines(w))
	}
}

func (x *walletMachine) checkVTXOs(t *rapid.T, s *ledger.WalletSnapshot) {
	there := map[int]*ledger.Holding{}
	for i := range s.VTXOs {
		h := &s.VTXOs[i]
		for v := range 12 {
			if outpoint(v) == h.Outpoint {
				there[v] = h
			}
		}
	}
	for v := range 12 {
		if walletID(v%3) != s.Wallet.ID {
			continue
		}
		h := there[v]
		if (h != nil) != x.m.seen[v] {
			t.Fatalf("VTXO %d is there %v, seen %v", v, h != nil, x.m.seen[v])
		}
		if h == nil {
			continue
		}
		d, covered := x.m.cover[v]
		if (h.Fate != ledger.Unspent) != x.m.gone[v] || (h.Cover != vigil.DelegateID{}) != covered || covered && h.Cover != delegateID(d) {
			t.Fatalf("VTXO %d: %+v; gone %v, under %d (%v)", v, h, x.m.gone[v], d, covered)
		}
	}
}

// newWalletMachine is a machine over an empty ledger.
func newWalletMachine(t *testing.T) *walletMachine {
	return &walletMachine{town: newTown(t, kvtest.NewMemory()), m: walletModel{
		wallets: map[int]bool{}, gone: map[int]bool{}, saidAt: map[int]int64{}, seen: map[int]bool{}, cover: map[int]int{}, delegates: map[int]delegate.State{},
		planned: map[int]int64{}, secrets: map[string]bool{}, spent: map[int]map[byte]int64{}, done: map[int]string{}, tokens: map[int]map[string]bool{},
	}}
}

// actions are all that may happen, and the check after each.
func (x *walletMachine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"create": x.create, "update": x.update, "prepare": x.prepare, "submit": x.submit, "submit again": x.submit, "cancel": x.cancel,
		"renew": x.renew, "observe": x.observe, "spend": x.spend, "ask": x.ask, "token": x.token, "clear": x.clear,
		"delete": x.delete, "restart": x.restart, "": x.check,
	}
}

func TestWalletModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) { r.Repeat(newWalletMachine(t).actions()) })
}
