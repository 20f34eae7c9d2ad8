package stock_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"go.uber.org/goleak"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/secret"
	"github.com/vigil-ark/vigil/stock"
)

var (
	_ stock.Operator = (*operator.Client)(nil)
	_ stock.Ledger   = (*ledger.Ledger)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is the time at which every test begins, validAt what bodies name.
const (
	start   int64 = 1_890_000_000
	validAt int64 = 1_900_000_000
	exit          = 20 // blocks
)

// key is the key that is b repeated 32 times, as in the vectors: owner 11,
// operator 22, service 33, forfeit 44.
func key(t testing.TB, b byte) *bip340.Key {
	t.Helper()
	k, err := bip340.NewKey(secret.New(bytes.Repeat([]byte{b}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// numbered is one of as many keys as are wanted.
func numbered(t testing.TB, n int) *bip340.Key {
	t.Helper()
	k, err := bip340.NewKey(secret.New(binary.BigEndian.AppendUint64(bytes.Repeat([]byte{1}, 24), uint64(n))))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func params(t testing.TB) ark.Params {
	t.Helper()
	script, err := hex.DecodeString("0014cc1b07838e387deacd0e5232e1e8b49f4c29e484")
	if err != nil {
		t.Fatal(err)
	}
	return ark.Params{
		Network: ark.Regtest, SignerKey: key(t, 0x22).PubKey(), ForfeitKey: key(t, 0x44).PubKey(), ForfeitScript: script,
		SessionSeconds: 30, ExitDelay: exit, VtxoMax: -1, Dust: 330, MaxTxWeight: 40_000, Digest: "d1",
	}
}

// fakeOperator knows some VTXOs and takes delete intents.
type fakeOperator struct {
	mu      sync.Mutex
	params  ark.Params
	cached  *ark.Params // what Params answers; nil: params
	vtxos   map[wire.OutPoint]ark.VTXO
	err     error // of everything but deletes
	delErr  error
	deleted []vigil.Intent
	asked   struct{ infos, vtxos int }
	onVTXOs func() // called inside VTXOs
	onDel   func() // called inside DeleteIntent
}

func (o *fakeOperator) Params(context.Context) (ark.Params, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cached != nil {
		return *o.cached, o.err
	}
	return o.params, o.err
}

func (o *fakeOperator) Info(context.Context) (ark.Params, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked.infos++
	o.cached = nil
	return o.params, o.err
}

func (o *fakeOperator) VTXOs(_ context.Context, ops []wire.OutPoint) (list []ark.VTXO, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked.vtxos++
	if o.onVTXOs != nil {
		o.onVTXOs()
	}
	for _, op := range ops {
		if v, ok := o.vtxos[op]; ok {
			list = append(list, v)
		}
	}
	return list, o.err
}

func (o *fakeOperator) DeleteIntent(_ context.Context, proof, message string) error {
	if o.onDel != nil {
		o.onDel()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.deleted = append(o.deleted, vigil.Intent{Message: message, Proof: proof})
	return o.delErr
}

// refusal is an operator's error of one of its codes.
func refusal(code int, name string) error {
	return &operator.Error{Op: "DeleteIntent", Code: code, Name: name, Message: name}
}

// fixture is a service over an in-memory store and a fake operator.
type fixture struct {
	t       testing.TB
	cfg     stock.Config
	op      *fakeOperator
	store   *kvtest.Memory
	ledger  *ledger.Ledger
	service *stock.Service
	at      int64
	woken   int
	diskLow bool
}

func newFixture(t testing.TB, change ...func(*stock.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, op: &fakeOperator{params: params(t), vtxos: map[wire.OutPoint]ark.VTXO{}}, store: kvtest.NewMemory(), at: start}
	if err := ledger.Create(t.Context(), f.store, ledger.Generation{1}); err != nil {
		t.Fatal(err)
	}
	f.cfg = stock.Config{
		Keys: []bip340.PubKey{key(t, 0x33).PubKey()}, Signer: f.op.params.SignerKey,
		Wake: func() { f.woken++ }, DiskLow: func() bool { return f.diskLow }, Now: f.now,
	}
	for _, c := range change {
		c(&f.cfg)
	}
	f.open()
	return f
}

func (f *fixture) now() time.Time { return time.Unix(f.at, 0) }

// open opens the ledger and makes the service, as a start does.
func (f *fixture) open() {
	f.t.Helper()
	var err error
	if f.ledger, err = ledger.Open(f.t.Context(), f.store, ledger.Options{Now: f.now}); err != nil {
		f.t.Fatal(err)
	}
	if f.service, err = stock.New(f.cfg, f.op, f.ledger); err != nil {
		f.t.Fatal(err)
	}
}

// submit posts a body that must be taken.
func (f *fixture) submit(s vigil.Submission) vigil.Summary {
	f.t.Helper()
	sum, err := f.service.Submit(f.t.Context(), s)
	if err != nil {
		f.t.Fatal(err)
	}
	return sum
}

// refuses posts a body that must be refused with code and change nothing.
func (f *fixture) refuses(s vigil.Submission, code vigil.Code) {
	f.t.Helper()
	before, woken := f.counts(), f.woken
	sum, err := f.service.Submit(f.t.Context(), s)
	wantError(f.t, err, code)
	if after := f.counts(); after != before || f.woken != woken || sum.State != "" {
		f.t.Errorf("refused, and there is %s where there was %s; summary %+v", after, before, sum)
	}
}

func wantError(t testing.TB, err error, code vigil.Code) {
	t.Helper()
	if err == nil || vigil.CodeOf(err) != code {
		t.Errorf("%v, want %s", err, code)
	}
}

func (f *fixture) counts() string {
	f.t.Helper()
	counts, err := f.ledger.Counts(f.t.Context())
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(counts)
}

func (f *fixture) record(id vigil.DelegateID) *delegate.Record {
	f.t.Helper()
	rec, err := f.ledger.Delegate(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return rec
}

// drive takes a delegate through events, as the engine does.
func (f *fixture) drive(id vigil.DelegateID, events ...delegate.Event) *delegate.Record {
	f.t.Helper()
	rec := f.record(id)
	for _, e := range events {
		var err error
		if e == delegate.Submit {
			rec, err = f.ledger.Submitted(f.t.Context(), rec, &delegate.Branch{
				Delegate: rec.ID, Commitment: chainhash.Hash{0xc0}, Tx: []byte("tx"), Nodes: [][]byte{[]byte("node")},
				Leaves: []wire.OutPoint{outpoint(999)}, StoredAt: f.at,
			}, nil)
		} else {
			rec, err = f.ledger.Transition(f.t.Context(), rec, e, nil)
		}
		if err != nil {
			f.t.Fatalf("%s: %v", e, err)
		}
	}
	return rec
}

// way lists the events that lead a new delegate to a state.
func way(to delegate.State) []delegate.Event {
	all := []delegate.Event{
		delegate.Ripe, delegate.Register, delegate.Accepted, delegate.Join, delegate.Submit, delegate.Finalized, delegate.Confirmed,
	}
	states := []delegate.State{
		delegate.Armed, delegate.Due, delegate.Registering, delegate.Registered, delegate.Joining, delegate.Submitted,
		delegate.Unconfirmed, delegate.Settled,
	}
	if i := slices.Index(states, to); i >= 0 {
		return all[:i]
	}
	return []delegate.Event{map[delegate.State]delegate.Event{
		delegate.Spent: delegate.InputSpent, delegate.Broken: delegate.InputUnrolled, delegate.Cancelled: delegate.Cancel,
		delegate.Expired: delegate.Expire, delegate.Quarantined: delegate.Quarantine, delegate.Replaced: delegate.Replace,
	}[to]}
}

func outpoint(n int) wire.OutPoint {
	return wire.OutPoint{Hash: chainhash.Hash{byte(n), byte(n >> 8), byte(n >> 16), 1}, Index: uint32(n % 7)}
}

// sdk are the bodies that the stock SDK made.
type sdk struct {
	Delegates []struct {
		Name, Message, Proof, ProofTxid string
		Forfeits                        []string
	}
	Delete struct{ Message, Proof string }
}

func vectors(t testing.TB) sdk {
	t.Helper()
	raw, err := os.ReadFile("testdata/sdk.json")
	if err != nil {
		t.Fatal(err)
	}
	var v sdk
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Delegates) != 3 || v.Delete.Proof == "" {
		t.Fatalf("%d bodies in the file, want 3 and a delete intent", len(v.Delegates))
	}
	return v
}
