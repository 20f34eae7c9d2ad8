package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/audit"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/kv/kvtest"
	"github.com/vigil-ark/vigil/ledger"
)

// town is a ledger with wallets in it, and a clock that the test moves.
type town struct {
	t     testing.TB
	store kv.Store
	l     *ledger.Ledger
	at    int64
}

func newTown(t testing.TB, store kv.Store) *town {
	t.Helper()
	if store == nil {
		store = kvtest.NewMemory()
	}
	x := &town{t: t, store: store, at: start}
	x.must(ledger.Create(t.Context(), store, ledger.Generation{1}))
	x.reopen()
	return x
}

func (x *town) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *town) reopen() {
	x.t.Helper()
	if m, ok := x.store.(*kvtest.Memory); ok {
		x.store = m.Reopen()
	}
	l, err := ledger.Open(x.t.Context(), x.store, ledger.Options{
		Now: func() time.Time { return time.Unix(x.at, 0) }, Garbage: treeSecrets,
	})
	x.must(err)
	x.l = l
}

// treeSecrets names what a wallet's delegate needs, as the signer does.
func treeSecrets(r *delegate.Record) []string {
	if r.Kind != delegate.Wallet {
		return nil
	}
	return []string{"tree-secret." + r.ID.String()}
}

// clean asks fsck. Names of secrets, if given, are all there are.
func (x *town) clean(secrets ...string) {
	x.t.Helper()
	var s *fsck.Secrets
	if secrets != nil {
		s = &fsck.Secrets{Names: secrets}
	}
	report, err := fsck.Check(x.t.Context(), x.store, s)
	x.must(err)
	if !report.Clean() {
		x.t.Fatal(report)
	}
}

func walletID(n int) vigil.WalletID { return vigil.WalletID{0xee, byte(n), byte(n >> 8), 31: 0xee} }

func pubkey(kind byte, n int) bip340.PubKey {
	return bip340.PubKey{0: 2, 1: kind, 2: byte(n), 3: byte(n >> 8), 32: 1}
}

func secretsOf(n int) []string {
	return []string{"dkg-secret." + walletID(n).String(), "delegate-secret." + walletID(n).String()}
}

func scriptOf(n int) []byte { return fmt.Appendf(nil, "the VTXO script of %d", n) }

// wallet is a new one by a number.
func wallet(n int) *ledger.Wallet {
	return &ledger.Wallet{
		ID: walletID(n), State: ledger.WalletActive, Threshold: 2, Participants: 2, DelegateKey: pubkey('d', n), AuditSalt: [32]byte{byte(n)},
		Epochs:     []ledger.Epoch{{Hosts: []bip340.PubKey{pubkey('h', n), pubkey('v', n)}, Info: []byte("info"), Record: []byte("recovery data"), Acked: []bool{true, true}}},
		Descriptor: []byte("descriptor"), Scripts: [][]byte{scriptOf(n), fmt.Appendf(nil, "the boarding script of %d", n)},
		Identities: []ledger.Identity{{Key: pubkey('i', n), Name: "phone", AddedAt: start}}, Secrets: secretsOf(n),
	}
}

// create makes wallet n as the house does: plan, secrets, row.
func (x *town) create(n int) *ledger.Wallet {
	x.t.Helper()
	x.must(x.l.Plan(x.t.Context(), ledger.Plan{Wallet: walletID(n), Secrets: secretsOf(n), NotBefore: x.at + 600}))
	w, err := x.l.CreateWallet(x.t.Context(), wallet(n), ledger.Extras{Audit: []ledger.Link{entry(x.at, "create")}})
	x.must(err)
	return w
}

// entry is a link of the audit's chain.
func entry(at int64, method string) ledger.Link {
	return func(number uint64, prev [32]byte) ([32]byte, []byte, error) {
		return audit.Append(prev, audit.Entry{Seq: number, At: at, Method: method, Allow: true})
	}
}

func delegateID(n int) vigil.DelegateID { return vigil.DelegateID{0xdd, byte(n), byte(n >> 8), 15: 1} }

// prepare plans a delegate of wallet w.
func (x *town) prepare(w, n int) {
	x.t.Helper()
	id := delegateID(n)
	x.must(x.l.Plan(x.t.Context(), ledger.Plan{
		Wallet: walletID(w), Delegate: id, Secrets: []string{"tree-secret." + id.String()}, ExpiresAt: x.at + 3600, NotBefore: x.at + 7200,
	}))
	x.must(x.l.Drawn(x.t.Context(), walletID(w), map[vigil.DelegateID]bip340.PubKey{id: pubkey('t', n)}))
}

// signed is delegate n of wallet w over VTXOs.
func (x *town) signed(w, n int, vtxos ...int) *delegate.Record {
	r := &delegate.Record{
		ID: delegateID(n), Kind: delegate.Wallet, Wallet: walletID(w), Network: ark.Regtest, ProofTxid: chainhash.Hash{byte(n), byte(n >> 8), 0x77},
		Owners: []bip340.XOnly{bip340.XOnly(walletID(w))}, TreeKey: pubkey('t', n), DelegateKey: pubkey('d', w), Message: "message", Proof: []byte("proof"),
		DeleteMessage: "delete", DeleteProof: []byte("delete proof"), NextAttempt: x.at + 100, CreatedAt: x.at, Fee: 10,
	}
	for _, v := range vtxos {
		r.Inputs = append(r.Inputs, delegate.Input{
			Outpoint: outpoint(v), Amount: 1000, Script: scriptOf(w), ExpiresAt: start + 1_000_000 + int64(v), Forfeit: []byte("f"),
		})
	}
	return r
}

// submit prepares and stores a delegate.
func (x *town) submit(w, n int, vtxos ...int) *delegate.Record {
	x.t.Helper()
	x.prepare(w, n)
	receipt, err := x.l.Submit(x.t.Context(), ledger.Submission{Record: x.signed(w, n, vtxos...), Audit: []ledger.Link{entry(x.at, "submit")}})
	x.must(err)
	return receipt.Record
}

var toCommitment = []delegate.Event{delegate.Ripe, delegate.Register, delegate.Accepted, delegate.Join, delegate.Submit, delegate.Finalized}

// leafOf is the VTXO that delegate n's renewal makes.
func leafOf(r *delegate.Record) wire.OutPoint {
	return wire.OutPoint{Hash: chainhash.Hash{0xc1, r.ID[1], r.ID[2]}, Index: 1}
}

func commitmentOf(r *delegate.Record) chainhash.Hash {
	return chainhash.Hash{0xcc, r.ID[1], r.ID[2], byte(r.Version)}
}

func (x *town) drive(r *delegate.Record, events ...delegate.Event) *delegate.Record {
	x.t.Helper()
	for _, e := range events {
		c := ledger.Change{Prev: r, Event: e}
		switch e {
		case delegate.Submit:
			c.Branch = &delegate.Branch{Delegate: r.ID, Commitment: commitmentOf(r), Tx: []byte("tx"), Leaves: []wire.OutPoint{leafOf(r)}}
		case delegate.Confirmed:
			c.Leaves = []ledger.VTXO{{Outpoint: leafOf(r), Amount: r.InputAmount() - r.Fee, Script: r.Inputs[0].Script, CreatedAt: x.at, ExpiresAt: x.at + 1_000_000}}
		}
		out, err := x.l.Apply(x.t.Context(), c)
		x.must(err)
		if out[0].Err != nil {
			x.t.Fatalf("%s in %s: %v", e, r.State, out[0].Err)
		}
		r = out[0].Record
	}
	return r
}

// coin is what the indexer says of VTXO v of wallet w.
func coin(w, v int) ark.VTXO {
	return ark.VTXO{
		Outpoint: outpoint(v), Amount: 1000, Script: scriptOf(w), CreatedAt: start - 10, ExpiresAt: start + 1_000_000 + int64(v), Preconfirmed: true,
	}
}

func (x *town) sync(w int, seen ...ark.VTXO) *ledger.Synced {
	x.t.Helper()
	s, err := x.l.PutVTXOs(x.t.Context(), walletID(w), seen)
	x.must(err)
	return s
}

func (x *town) lines(w int) []ledger.Entry {
	x.t.Helper()
	lines, rest, err := x.l.HistoryOf(x.t.Context(), walletID(w), 1000, nil)
	x.must(err)
	if rest != nil {
		x.t.Fatal("more than a page of history")
	}
	return lines
}

func (x *town) garbage() map[string]bool {
	x.t.Helper()
	rows, err := x.l.SecretGarbage(x.t.Context(), 1000)
	x.must(err)
	names := make(map[string]bool)
	for _, g := range rows {
		names[g.Name] = true
	}
	return names
}

// count counts the rows of a tree.
func (x *town) count(tree string) int {
	x.t.Helper()
	n := 0
	x.must(x.store.View(x.t.Context(), func(r kv.Reader) error {
		n = 0
		return r.Scan(tree, nil, nil, func(_, _ []byte) error { n++; return nil })
	}))
	return n
}

// entries counts the audit.
func (x *town) entries() int {
	x.t.Helper()
	n := 0
	x.must(x.l.AuditEntries(x.t.Context(), 0, 1_000_000, func(ledger.Audited) error { n++; return nil }))
	return n
}

func unix(at int64) time.Time { return time.Unix(at, 0) }

// row is a wallet's row as it stands.
func (x *town) row(n int) *ledger.Wallet {
	x.t.Helper()
	w, err := x.l.Wallet(x.t.Context(), walletID(n))
	x.must(err)
	return w
}
