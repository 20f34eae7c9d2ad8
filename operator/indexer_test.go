package operator

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil/ark"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

func outpoint(n int) wire.OutPoint {
	return wire.OutPoint{Hash: chainhash.Hash{byte(n), byte(n >> 8), 1}, Index: uint32(n % 3)}
}

func indexed(op wire.OutPoint) *arkv1.IndexerVtxo {
	return &arkv1.IndexerVtxo{
		Outpoint:        &arkv1.IndexerOutpoint{Txid: op.Hash.String(), Vout: op.Index},
		CreatedAt:       10,
		ExpiresAt:       20,
		Amount:          1000,
		Script:          "5120" + strings.Repeat("ab", 32),
		CommitmentTxids: []string{strings.Repeat("cd", 32)},
	}
}

// TestCapturedVTXOs reads what a real indexer answered.
func TestCapturedVTXOs(t *testing.T) {
	n := 0
	for _, line := range lines(t, "grpc.jsonl") {
		_, m, _ := decoded(t, line)
		resp, ok := m.(*arkv1.GetVtxosResponse)
		if !ok {
			continue
		}
		for _, v := range resp.GetVtxos() {
			got, err := decodeVTXO(v)
			if err != nil {
				t.Fatal(err)
			}
			if got.Amount != 400 || got.CreatedAt == 0 || got.ExpiresAt <= got.CreatedAt || len(got.CommitmentTxs) != 1 || len(got.Script) != 34 {
				t.Errorf("got %+v", got)
			}
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d VTXOs, want 1", n)
	}
}

func TestVTXOsChunked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		var asked []int
		f.on("GetVtxos", func(_ context.Context, req any) (any, error) {
			r := req.(*arkv1.GetVtxosRequest)
			asked = append(asked, len(r.GetOutpoints()))
			if r.GetPage() != nil || len(r.GetScripts()) != 0 {
				t.Errorf("got %v", r)
			}
			var out []*arkv1.IndexerVtxo
			for _, s := range slices.Backward(r.GetOutpoints()) { // any order
				op, err := ark.ParseOutpoint(s)
				if err != nil {
					return nil, err
				}
				if op != outpoint(7) { // unknown to the operator
					out = append(out, indexed(op))
				}
			}
			return &arkv1.GetVtxosResponse{Vtxos: out}, nil
		})
		var ops []wire.OutPoint
		for i := range 250 {
			ops = append(ops, outpoint(i))
		}
		got, err := c.VTXOs(t.Context(), ops)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(asked, []int{100, 100, 50}) {
			t.Errorf("asked for %v", asked)
		}
		wanted := slices.Delete(slices.Clone(ops), 7, 8)
		if !slices.EqualFunc(got, wanted, func(v ark.VTXO, op wire.OutPoint) bool { return v.Outpoint == op }) {
			t.Error("not in the order of the request without the unknown one")
		}
		if got, err := c.VTXOs(t.Context(), nil); err != nil || len(got) != 0 {
			t.Errorf("nothing asked: %v, %v", got, err)
		}
	})
}

func TestVTXOsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		ask := func(vtxos ...*arkv1.IndexerVtxo) error {
			f.on("GetVtxos", func(context.Context, any) (any, error) { return &arkv1.GetVtxosResponse{Vtxos: vtxos}, nil })
			_, err := c.VTXOs(t.Context(), []wire.OutPoint{outpoint(1)})
			return err
		}
		if err := ask(indexed(outpoint(1))); err != nil {
			t.Fatal(err)
		}
		if err := ask(indexed(outpoint(2))); !errors.Is(err, ErrAnswer) {
			t.Errorf("a foreign VTXO: %v", err)
		}
		if err := ask(indexed(outpoint(1)), indexed(outpoint(1))); !errors.Is(err, ErrAnswer) {
			t.Errorf("two for one: %v", err)
		}
		for name, change := range map[string]func(*arkv1.IndexerVtxo){
			"no outpoint":       func(v *arkv1.IndexerVtxo) { v.Outpoint = nil },
			"short txid":        func(v *arkv1.IndexerVtxo) { v.Outpoint.Txid = "ab" },
			"amount":            func(v *arkv1.IndexerVtxo) { v.Amount = 21e14 + 1 },
			"wrapped amount":    func(v *arkv1.IndexerVtxo) { v.Amount = 1 << 63 },
			"negative creation": func(v *arkv1.IndexerVtxo) { v.CreatedAt = -1 },
			"negative expiry":   func(v *arkv1.IndexerVtxo) { v.ExpiresAt = -1 },
			"script not hex":    func(v *arkv1.IndexerVtxo) { v.Script = "zz" },
			"no script":         func(v *arkv1.IndexerVtxo) { v.Script = "" },
			"long script":       func(v *arkv1.IndexerVtxo) { v.Script = strings.Repeat("00", 521) },
			"commitment":        func(v *arkv1.IndexerVtxo) { v.CommitmentTxids = []string{"x"} },
			"commitments":       func(v *arkv1.IndexerVtxo) { v.CommitmentTxids = slices.Repeat(v.CommitmentTxids, 4097) },
			"spender":           func(v *arkv1.IndexerVtxo) { v.SpentBy = "yes" },
			"settler":           func(v *arkv1.IndexerVtxo) { v.SettledBy = "yes" },
			"ark transaction":   func(v *arkv1.IndexerVtxo) { v.ArkTxid = "yes" },
			"asset id":          func(v *arkv1.IndexerVtxo) { v.Assets = []*arkv1.IndexerAsset{{AssetId: "a b"}} },
			"assets":            func(v *arkv1.IndexerVtxo) { v.Assets = make([]*arkv1.IndexerAsset, 1025) },
		} {
			v := proto.Clone(indexed(outpoint(1))).(*arkv1.IndexerVtxo)
			change(v)
			if err := ask(v); !errors.Is(err, ErrAnswer) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	})
}

func TestVTXOFlags(t *testing.T) {
	v := indexed(outpoint(1))
	v.IsPreconfirmed, v.IsSwept, v.IsUnrolled, v.IsSpent = true, true, true, true
	v.SpentBy, v.SettledBy, v.ArkTxid = strings.Repeat("AA", 32), strings.Repeat("bb", 32), strings.Repeat("cc", 32)
	v.Assets = []*arkv1.IndexerAsset{{AssetId: "asset", Amount: 1<<64 - 1}}
	got, err := decodeVTXO(v)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Preconfirmed || !got.Swept || !got.Unrolled || !got.Spent || got.SpentBy != strings.Repeat("aa", 32) ||
		got.SettledBy != strings.Repeat("bb", 32) || got.ArkTxid != strings.Repeat("cc", 32) || got.Assets[0].Amount != 1<<64-1 {
		t.Errorf("got %+v", got)
	}
	for i, flag := range []func(*arkv1.IndexerVtxo){
		func(v *arkv1.IndexerVtxo) { v.IsPreconfirmed = true },
		func(v *arkv1.IndexerVtxo) { v.IsSwept = true },
		func(v *arkv1.IndexerVtxo) { v.IsUnrolled = true },
		func(v *arkv1.IndexerVtxo) { v.IsSpent = true },
	} {
		v := indexed(outpoint(1))
		flag(v)
		got, err := decodeVTXO(v)
		if err != nil {
			t.Fatal(err)
		}
		for j, set := range []bool{got.Preconfirmed, got.Swept, got.Unrolled, got.Spent} {
			if set != (i == j) {
				t.Errorf("flag %d sets %d: %v", i, j, set)
			}
		}
	}
}

func TestVTXOsByScriptPaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		key, _ := hex.DecodeString("5120" + strings.Repeat("ab", 32))
		total := 250
		f.on("GetVtxos", func(_ context.Context, req any) (any, error) {
			r := req.(*arkv1.GetVtxosRequest)
			if !r.GetRenewableOnly() || r.GetSpendableOnly() || r.GetSpentOnly() || r.GetRecoverableOnly() || r.GetPendingOnly() {
				t.Errorf("got %v", r)
			}
			size, n := int(r.GetPage().GetSize()), int(r.GetPage().GetIndex())
			var out []*arkv1.IndexerVtxo
			for i := (n - 1) * size; i < min(n*size, total); i++ {
				out = append(out, indexed(outpoint(i)))
			}
			if n == 2 { // the list moved between pages
				out = append(out, indexed(outpoint(0)))
			}
			pages := int32((total + size - 1) / size)
			return &arkv1.GetVtxosResponse{Vtxos: out, Page: &arkv1.IndexerPageResponse{Current: int32(n), Next: min(int32(n)+1, pages), Total: pages}}, nil
		})
		got, err := c.VTXOsByScript(t.Context(), [][]byte{key}, OnlyRenewable)
		if err != nil || len(got) != 250 {
			t.Fatalf("%d VTXOs, %v", len(got), err)
		}
		if f.called("GetVtxos") != 3 {
			t.Errorf("%d pages", f.called("GetVtxos"))
		}
		if _, err := c.VTXOsByScript(t.Context(), [][]byte{make([]byte, 34)}, OnlyRenewable); !errors.Is(err, ErrAnswer) {
			t.Errorf("foreign scripts: %v", err)
		}
	})
}

func TestPages(t *testing.T) {
	page := func(n, total int32) *arkv1.IndexerPageResponse {
		return &arkv1.IndexerPageResponse{Current: n, Total: total}
	}
	for name, tc := range map[string]struct {
		fetch func(n int32) ([]int, *arkv1.IndexerPageResponse)
		calls int
		want  error
	}{
		"whole at once":     {func(int32) ([]int, *arkv1.IndexerPageResponse) { return make([]int, 5), nil }, 1, nil},
		"nothing":           {func(n int32) ([]int, *arkv1.IndexerPageResponse) { return nil, page(n, 0) }, 1, nil},
		"three":             {func(n int32) ([]int, *arkv1.IndexerPageResponse) { return []int{1}, page(n, 3) }, 3, nil},
		"never ending":      {func(n int32) ([]int, *arkv1.IndexerPageResponse) { return []int{1}, page(n, n+1) }, 11, ErrTooMany},
		"empty, never ends": {func(n int32) ([]int, *arkv1.IndexerPageResponse) { return nil, page(n, n+1) }, 1, ErrAnswer},
		"huge page":         {func(n int32) ([]int, *arkv1.IndexerPageResponse) { return make([]int, 11), page(n, 1) }, 1, ErrTooMany},
		"negative total":    {func(n int32) ([]int, *arkv1.IndexerPageResponse) { return []int{1}, page(n, -1) }, 1, nil},
	} {
		calls := 0
		_, err := pages(10, func(p *arkv1.IndexerPageRequest) ([]int, *arkv1.IndexerPageResponse, error) {
			calls++
			items, page := tc.fetch(p.GetIndex())
			return items, page, nil
		})
		if !errors.Is(err, tc.want) || calls != tc.calls {
			t.Errorf("%s: %v after %d calls", name, err, calls)
		}
	}
}

func TestVirtualTxs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		tx := wire.NewMsgTx(3)
		tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 1}, nil, nil))
		tx.AddTxOut(wire.NewTxOut(5, []byte{0x51}))
		p, err := psbt.NewFromUnsignedTx(tx)
		if err != nil {
			t.Fatal(err)
		}
		b64, err := p.B64Encode()
		if err != nil {
			t.Fatal(err)
		}
		answer := []string{b64}
		f.on("GetVirtualTxs", func(context.Context, any) (any, error) { return &arkv1.GetVirtualTxsResponse{Txs: answer}, nil })
		got, err := c.VirtualTxs(t.Context(), []chainhash.Hash{tx.TxHash(), {1}})
		if err != nil || len(got) != 1 || got[tx.TxHash()] != b64 {
			t.Fatalf("got %v, %v", got, err)
		}
		if _, err := c.VirtualTxs(t.Context(), []chainhash.Hash{{1}}); !errors.Is(err, ErrAnswer) {
			t.Errorf("a foreign transaction: %v", err)
		}
		answer = []string{"cHNidP8="}
		if _, err := c.VirtualTxs(t.Context(), []chainhash.Hash{{1}}); !errors.Is(err, ErrAnswer) {
			t.Errorf("a broken transaction: %v", err)
		}
		answer = []string{b64, b64}
		if _, err := c.VirtualTxs(t.Context(), []chainhash.Hash{tx.TxHash()}); !errors.Is(err, ErrAnswer) {
			t.Errorf("more than asked: %v", err)
		}
	})
}

func TestChainAndCommitment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		txid := strings.Repeat("ab", 32)
		step := &arkv1.IndexerChain{Txid: txid, ExpiresAt: 5, Type: arkv1.IndexerChainedTxType_INDEXER_CHAINED_TX_TYPE_TREE, Spends: []string{txid}}
		f.on("GetVtxoChain", func(_ context.Context, req any) (any, error) {
			if r := req.(*arkv1.GetVtxoChainRequest); r.GetOutpoint().GetTxid() != outpoint(1).Hash.String() || r.GetOutpoint().GetVout() != 1 {
				t.Errorf("got %v", r)
			}
			return &arkv1.GetVtxoChainResponse{Chain: []*arkv1.IndexerChain{step}}, nil
		})
		got, err := c.VtxoChain(t.Context(), outpoint(1))
		if err != nil || len(got) != 1 || got[0].Kind != KindTree || got[0].Txid.String() != txid || got[0].Spends[0] != txid {
			t.Errorf("got %+v, %v", got, err)
		}
		step.Txid = "x"
		if _, err := c.VtxoChain(t.Context(), outpoint(1)); !errors.Is(err, ErrAnswer) {
			t.Errorf("got %v", err)
		}
		step.Txid, step.Spends = txid, []string{"a b"}
		if _, err := c.VtxoChain(t.Context(), outpoint(1)); !errors.Is(err, ErrAnswer) {
			t.Errorf("got %v", err)
		}

		f.on("GetCommitmentTx", func(context.Context, any) (any, error) {
			return &arkv1.GetCommitmentTxResponse{StartedAt: 1, EndedAt: 2, Batches: map[uint32]*arkv1.IndexerBatch{0: {TotalOutputAmount: 3, TotalOutputVtxos: 4, ExpiresAt: 5, Swept: true}}}, nil
		})
		com, err := c.CommitmentTx(t.Context(), chainhash.Hash{1})
		if err != nil || com.StartedAt != 1 || com.EndedAt != 2 || com.Batches[0] != (CommitmentBatch{Amount: 3, VTXOs: 4, ExpiresAt: 5, Swept: true}) {
			t.Errorf("got %+v, %v", com, err)
		}
		f.on("GetCommitmentTx", func(context.Context, any) (any, error) { return nil, status.Error(codes.Internal, "batch not found") })
		if _, err := c.CommitmentTx(t.Context(), chainhash.Hash{1}); !errors.Is(err, ErrNotFound) || ClassOf(err) != NotFound {
			t.Errorf("got %v", err)
		}
		f.on("GetCommitmentTx", func(context.Context, any) (any, error) { return &arkv1.GetCommitmentTxResponse{}, nil })
		if _, err := c.CommitmentTx(t.Context(), chainhash.Hash{1}); !errors.Is(err, ErrNotFound) || ClassOf(err) != NotFound {
			t.Errorf("got %v", err)
		}
	})
}

// TestIndexerWithoutDigest holds that a digest, which the indexer's guard does not
// know, costs the indexer no GetInfo.
func TestIndexerWithoutDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.client(t, nil)
		f.on("GetVtxos", func(context.Context, any) (any, error) { return &arkv1.GetVtxosResponse{}, nil })
		if _, err := c.VTXOs(t.Context(), []wire.OutPoint{outpoint(1)}); err != nil {
			t.Fatal(err)
		}
		if n := f.called("GetInfo"); n != 0 {
			t.Errorf("%d GetInfo", n)
		}
	})
}

func FuzzVTXO(f *testing.F) {
	b, err := proto.Marshal(indexed(outpoint(1)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(arkv1.IndexerVtxo)
		if proto.Unmarshal(b, m) != nil {
			return
		}
		v, err := decodeVTXO(m)
		if err == nil && (v.Amount < 0 || v.Amount > maxSats || len(v.Script) == 0) || err != nil && !errors.Is(err, ErrAnswer) {
			t.Errorf("%+v, %v", v, err)
		}
		_ = fmt.Sprint(v)
	})
}
