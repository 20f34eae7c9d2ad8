package spend_test

import (
	"encoding/base64"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"google.golang.org/protobuf/proto"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/spend"
	"github.com/vigil-ark/vigil/vigilpb"
)

// seeds are one document of each kind, over coins that the world knows.
func seeds(w *world) []*vigilpb.Document {
	a, b, board := w.coin(10, 10_000), w.coin(11, 20_000), w.boarding(12, 5000)
	message, del := w.register(), w.message(intent.Message{Kind: intent.Delete})
	pay := w.payment([]coin{a, b}, w.foreign(25_000), w.own(5000))
	w.sign(w.signer, pay.tx, txscript.SigHashDefault)
	w.sign(w.group, pay.tx, txscript.SigHashDefault)
	for _, c := range pay.checkpoints {
		w.sign(w.signer, c, txscript.SigHashDefault)
	}
	set := w.settle(message, []coin{a, b}, []coin{board}, []*wire.TxOut{w.own(34_000)})
	return []*vigilpb.Document{
		w.intent(message, w.proof(message, []coin{a, board}, w.own(14_000))),
		w.intent(w.register(1), w.proof(w.register(1), []coin{a}, w.own(4000), w.foreign(5000))),
		w.intent(del, w.proof(del, []coin{b})),
		w.arkTx(pay), w.checkpoints(pay),
		w.delegated(w.delegateForfeit(a, descriptor.LeafDelegate)), w.delegated(w.delegateForfeit(b, descriptor.LeafForfeit)),
		w.forfeits(set), w.boarded(set),
		w.exited(w.exit([]coin{a, b}, 512, w.foreign(29_000))), w.exited(w.exit([]coin{board}, 4096, w.own(4000))),
	}
}

// sound holds what must be true of whatever passes.
func sound(t testing.TB, s *spend.Spend) {
	t.Helper()
	if len(s.Sighashes) == 0 || len(s.Inputs) == 0 {
		t.Fatalf("%s signs nothing, or spends nothing", s.Kind)
	}
	for _, h := range s.Sighashes {
		ahead := s.Kind == spend.DelegateForfeit || s.Kind == spend.BearerForfeit
		if ahead != (h.Type == 0x81) || !ahead && h.Type != 0 {
			t.Fatalf("%s with the type %#x", s.Kind, h.Type)
		}
		if (h.Leaf == descriptor.LeafDelegate) != (s.Kind == spend.DelegateForfeit) || h.Leaf == descriptor.LeafRecovery {
			t.Fatalf("%s on leaf %d", s.Kind, h.Leaf)
		}
	}
	var in int64
	for _, i := range s.Inputs {
		in += i.Amount
	}
	out := sum(s.Own) + sum(s.Foreign) + sum(s.Onchain) + s.Fee
	switch s.Kind {
	case spend.Intent, spend.DelegateForfeit, spend.BearerForfeit:
		if out != 0 {
			t.Fatalf("%s pays %d", s.Kind, out)
		}
	default:
		if in != out || s.Fee < 0 || in > btcutil.MaxSatoshi {
			t.Fatalf("%s of %d accounts for %d, fee %d", s.Kind, in, out, s.Fee)
		}
	}
	if s.Leaves() < 0 || s.Leaves() > in {
		t.Fatalf("%d of %d leave", s.Leaves(), in)
	}
}

func FuzzParse(f *testing.F) {
	w := newWorld(f)
	for _, doc := range seeds(w) {
		raw, err := proto.Marshal(doc)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		sound(f, w.one(doc))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var doc vigilpb.Document
		if proto.Unmarshal(raw, &doc) != nil {
			return
		}
		list, err := spend.Parse([]*vigilpb.Document{&doc}, w.desc, w.terms())
		if err != nil {
			var coded *vigil.Error
			if !errors.As(err, &coded) || coded.Code == vigil.CodeInternal {
				t.Fatal(err)
			}
			return
		}
		sound(t, list[0])
	})
}

// FuzzTransaction changes the raw transactions inside the documents, which base64
// hides from the fuzzer of whole ones.
func FuzzTransaction(f *testing.F) {
	w := newWorld(f)
	docs := seeds(w)
	for i, doc := range docs {
		for j, text := range texts(doc) {
			f.Add(byte(i), byte(j), decode(f, *text))
		}
	}
	f.Fuzz(func(t *testing.T, which, part byte, raw []byte) {
		doc := proto.CloneOf(docs[int(which)%len(docs)])
		list := texts(doc)
		*list[int(part)%len(list)] = encode(raw)
		spends, err := spend.Parse([]*vigilpb.Document{doc}, w.desc, w.terms())
		if err != nil {
			var coded *vigil.Error
			if !errors.As(err, &coded) || coded.Code == vigil.CodeInternal {
				t.Fatal(err)
			}
			return
		}
		sound(t, spends[0])
	})
}

// texts are the transactions in a document.
func texts(doc *vigilpb.Document) []*string {
	each := func(list []string) (all []*string) {
		for i := range list {
			all = append(all, &list[i])
		}
		return all
	}
	proof := func(b *vigilpb.BatchProof) []*string {
		all := []*string{&b.Commitment, &b.Intent.Proof}
		for _, n := range append(append([]*vigilpb.TreeNode{}, b.Nodes...), b.Connectors...) {
			all = append(all, &n.Tx)
		}
		return all
	}
	switch d := doc.GetDocument().(type) {
	case *vigilpb.Document_Intent:
		return []*string{&d.Intent.Proof}
	case *vigilpb.Document_ArkTx:
		return append(each(d.ArkTx.Checkpoints), &d.ArkTx.Tx)
	case *vigilpb.Document_Checkpoint:
		return append(each(d.Checkpoint.Checkpoints), &d.Checkpoint.ArkTx)
	case *vigilpb.Document_DelegateForfeit:
		return []*string{&d.DelegateForfeit.Psbt}
	case *vigilpb.Document_Forfeit:
		return append(each(d.Forfeit.Forfeits), proof(d.Forfeit.Batch)...)
	case *vigilpb.Document_Boarding:
		return proof(d.Boarding.Batch)
	case *vigilpb.Document_Exit:
		return []*string{&d.Exit.Psbt}
	}
	return nil
}

func encode(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }

func decode(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
