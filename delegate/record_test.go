package delegate

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/internal/canon"
)

// full is a record with every field set.
func full() *Record {
	r := fullStock()
	r.Kind, r.Wallet, r.DeleteMessage, r.DeleteProof = Wallet, vigil.WalletID{36}, `{"type":"delete"}`, []byte("delete")
	return r
}

// fullStock is a stock wallet's record with every field set that those have.
func fullStock() *Record {
	script, tree := []byte{0x51, 0x20, 1}, []byte("leaves")
	return &Record{
		ID: vigil.DelegateID{1, 2}, Kind: Stock, State: Submitted, Version: 77,
		Owners: []bip340.XOnly{{3}, {4}}, SignerKey: bip340.PubKey{2, 5}, ForfeitKey: bip340.PubKey{3, 6},
		DelegateKey: bip340.PubKey{2, 7}, TreeKey: bip340.PubKey{2, 8},
		Network: ark.Signet, ExitDelay: 86016, Dust: 330, ForfeitScript: []byte{0, 20, 9}, Digest: "ab12",
		Message: `{"type":"register"}`, Proof: []byte("psbt"), ProofTxid: chainhash.Hash{10},
		Inputs: []Input{
			{Outpoint: wire.OutPoint{Hash: chainhash.Hash{11}, Index: 1}, Amount: 1000, Script: script, TapTree: tree, CreatedAt: 12, ExpiresAt: 13, Forfeit: []byte("f1")},
			{Outpoint: wire.OutPoint{Hash: chainhash.Hash{12}, Index: 2}, Amount: 2000, Script: script, TapTree: tree, CreatedAt: 14, ExpiresAt: 9, Recoverable: true,
				Assets: []ark.AssetAmount{{AssetID: "asset", Amount: 1 << 63}}},
		},
		Outputs:   []wire.TxOut{{Value: 2900, PkScript: script}},
		Sighashes: []Sighash{{Input: 1, LeafHash: [32]byte{15}, Type: 1}, {Forfeit: true, Of: 1, LeafHash: [32]byte{16}, Type: 0x81, Ours: true}},
		Fee:       100, Service: 5, CreatedAt: 17, ValidAt: 18, ExpireAt: 19, MinBatchExpiry: 604672,
		StateSince: 20, NextAttempt: 21, Attempts: 22, Convictions: 23, LastConviction: 24, Isolate: true, CancelWanted: true,
		LastError: Failure{Code: "E", Text: "text", At: 25}, IntentID: "id", RegisteredAt: 26, BatchID: "batch", BatchEnd: 27,
		Commitment: chainhash.Hash{28}, Watch: []Watched{{Commitment: chainhash.Hash{29}, Since: 30, Branch: vigil.DelegateID{31}}},
		Leaves: []wire.OutPoint{{Hash: chainhash.Hash{32}, Index: 33}}, Replaces: []vigil.DelegateID{{34}}, ReplacedBy: vigil.DelegateID{35},
	}
}

func fullBranch() *Branch {
	return &Branch{
		Delegate: vigil.DelegateID{1}, Commitment: chainhash.Hash{2}, Tx: []byte("tx"), BatchID: "b", Expiry: 3,
		Nodes: [][]byte{[]byte("root"), []byte("leaf")}, Leaves: []wire.OutPoint{{Hash: chainhash.Hash{4}}},
		Forfeits: []Sent{{Outpoint: wire.OutPoint{Index: 5}, PSBT: []byte("f")}}, StoredAt: 6,
	}
}

func TestRecordKeepsEveryField(t *testing.T) {
	want := full()
	v := reflect.ValueOf(*want)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not set here, so that losing it would not be seen", v.Type().Field(i).Name)
		}
	}
	b, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	stock := fullStock()
	if b, err = stock.Encode(); err != nil || b[0] != stockFormat {
		t.Fatalf("a stock record is written in format %d, which older versions do not read: %v", b[0], err)
	}
	if got, err = DecodeRecord(b); err != nil || !cmp.Equal(stock, got) {
		t.Errorf("%s %v", cmp.Diff(stock, got), err)
	}
	b[17] = byte(Wallet)
	if _, err := DecodeRecord(b); !errors.Is(err, canon.ErrMalformed) {
		t.Errorf("a wallet's record in the format of stock wallets': %v", err)
	}
	branch := fullBranch()
	if b, err = branch.Encode(); err != nil {
		t.Fatal(err)
	}
	gotBranch, err := DecodeBranch(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(branch, gotBranch); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeRefusesEveryChangeOfLength(t *testing.T) {
	b, err := full().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if _, err := DecodeRecord(b[:n]); !errors.Is(err, canon.ErrMalformed) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(b), err)
		}
	}
	if _, err := DecodeRecord(append(bytes.Clone(b), 0)); !errors.Is(err, canon.ErrMalformed) {
		t.Errorf("a byte too many: %v", err)
	}
	b[0] = sealedFormat + 1
	if _, err := DecodeRecord(b); !errors.Is(err, canon.ErrNewer) {
		t.Errorf("a newer format: %v", err)
	}
}

func TestEncodeRefusesWhatItCouldNotRead(t *testing.T) {
	for name, spoil := range map[string]func(*Record){
		"no kind":                            func(r *Record) { r.Kind = 0 },
		"unknown kind":                       func(r *Record) { r.Kind = 9 },
		"no state":                           func(r *Record) { r.State = 0 },
		"unknown network":                    func(r *Record) { r.Network = "moon" },
		"a stock record with a wallet":       func(r *Record) { r.Kind, r.DeleteMessage, r.DeleteProof = Stock, "", nil },
		"a stock record with a delete proof": func(r *Record) { r.Kind, r.Wallet, r.DeleteMessage = Stock, vigil.WalletID{}, "" },
		"negative time":                      func(r *Record) { r.NextAttempt = -1 },
		"negative amount":                    func(r *Record) { r.Inputs[0].Amount = -1 },
		"too much money":                     func(r *Record) { r.Fee = 21_000_000*100_000_000 + 1 },
		"too many inputs":                    func(r *Record) { r.Inputs = make([]Input, MaxInputs+1) },
		"long id":                            func(r *Record) { r.IntentID = strings.Repeat("x", maxName+1) },
		"not text":                           func(r *Record) { r.BatchID = "\xff" },
		"too large": func(r *Record) {
			r.Proof, r.Inputs[0].Forfeit = make([]byte, maxPSBT), make([]byte, maxPSBT)
		},
	} {
		r := full()
		spoil(r)
		if _, err := r.Encode(); !errors.Is(err, canon.ErrBounds) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNoSecretInTheTypeGraph walks every type that a record or a branch can
// hold. A secret needs a function (secret.Bytes), a pointer to a key or a type
// of a package that has some: none of them may be there.
func TestNoSecretInTheTypeGraph(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type, string)
	walk = func(typ reflect.Type, path string) {
		if seen[typ] {
			return
		}
		seen[typ] = true
		switch typ.Kind() {
		case reflect.Bool, reflect.String, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		case reflect.Slice, reflect.Array:
			walk(typ.Elem(), path+"[]")
		case reflect.Struct:
			for i := range typ.NumField() {
				walk(typ.Field(i).Type, path+"."+typ.Field(i).Name)
			}
		default:
			t.Errorf("%s is a %s (%s): only plain data may be in a record", path, typ.Kind(), typ)
		}
		pkg := typ.PkgPath()
		for _, bad := range []string{"/secret", "/musig2", "/signer", "/frost"} {
			if strings.Contains(pkg, bad) {
				t.Errorf("%s is a %s", path, typ)
			}
		}
		if strings.HasSuffix(pkg, "/bip340") && typ != reflect.TypeFor[bip340.PubKey]() && typ != reflect.TypeFor[bip340.XOnly]() {
			t.Errorf("%s is a %s: of bip340 only public keys may be in a record", path, typ)
		}
	}
	walk(reflect.TypeFor[Record](), "Record")
	walk(reflect.TypeFor[Branch](), "Branch")
	if len(seen) < 20 {
		t.Errorf("only %d types were walked", len(seen))
	}
}

// TestWatchListForgetsNothing: an entry is the way to the owner's claim.
func TestWatchListForgetsNothing(t *testing.T) {
	r := full()
	before := len(r.Watch)
	const n = 3 * MaxWatched
	for i := range n {
		r.Commitment = chainhash.Hash{200, byte(i)}
		r.WatchCommitment(int64(i))
	}
	first, last := chainhash.Hash{200, 0}, chainhash.Hash{200, n - 1}
	if len(r.Watch) != before+n || !r.Watches(first) || !r.Watches(last) || r.Commitment != (chainhash.Hash{}) {
		t.Fatalf("%d entries, the first one watched: %v", len(r.Watch), r.Watches(first))
	}
	r.Commitment = last
	r.WatchCommitment(1)
	r.AddWatched(r.Watch...)
	if len(r.Watch) != before+n {
		t.Error("the same commitment was watched twice")
	}
	// Of another delegate's branch it is another claim.
	r.AddWatched(Watched{Commitment: last, Branch: vigil.DelegateID{7}})
	if len(r.Watch) != before+n+1 {
		t.Error("another's claim is not watched")
	}
	if _, err := r.Encode(); err != nil {
		t.Error(err)
	}
}

func TestFailFitsARecord(t *testing.T) {
	r := full()
	r.Fail(strings.Repeat("c", 1000), strings.Repeat("é", 1000)+"\xff", 5)
	if _, err := r.Encode(); err != nil {
		t.Error(err)
	}
}

func TestExpiryIsTheEarliestOfTheLive(t *testing.T) {
	r := full()
	if r.Expiry() != 13 {
		t.Errorf("expiry %d: the recoverable input's must not count", r.Expiry())
	}
	r.Inputs[0].Recoverable = true
	if r.Expiry() != 0 {
		t.Error("nothing expires when all is recoverable")
	}
}

func FuzzDecodeRecord(f *testing.F) {
	whole, err := full().Encode()
	if err != nil {
		f.Fatal(err)
	}
	buried := full()
	buried.State = Cancelled
	buried.Entomb()
	slim, err := buried.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(slim)
	f.Add([]byte{})
	f.Add([]byte{sealedFormat})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRecord(b)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		if !bytes.Equal(b, again) {
			t.Fatal("two encodings of one record")
		}
	})
}

func FuzzDecodeBranch(f *testing.F) {
	b, err := fullBranch().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		branch, err := DecodeBranch(b)
		if err != nil {
			return
		}
		again, err := branch.Encode()
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("two encodings of one branch: %v", err)
		}
	})
}
