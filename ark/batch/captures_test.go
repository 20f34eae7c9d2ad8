package batch_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
)

// The form of testdata/captures.json.
type (
	captures struct {
		Info struct {
			ForfeitPubkey string
			Dust          string
			Network       string
		}
		Batches []capture
	}
	capture struct {
		Name       string
		IntentID   string `json:"intentId"`
		Message    string
		Proof      string
		Nonces     map[string]string
		Signatures map[string]string
		Forfeits   []string
		Commitment string
		Events     []map[string]json.RawMessage
	}
)

func loadCaptures(t testing.TB) captures {
	t.Helper()
	b, err := os.ReadFile("testdata/captures.json")
	if err != nil {
		t.Fatal(err)
	}
	var c captures
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func txid(t testing.TB, s string) chainhash.Hash {
	t.Helper()
	h, err := ark.ParseTxid(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// frame is the union of all event frames of the REST stream.
type frame struct {
	ID                   string
	IntentIDHashes       []string `json:"intentIdHashes"`
	BatchExpiry          string
	Topic                []string
	BatchIndex           int32
	Tx                   string
	Children             map[uint32]string
	CosignersPubkeys     []string
	UnsignedCommitmentTx string
	Txid                 string
	Nonces               map[string]string
	TreeNonces           map[string]string
	Signature            string
	CommitmentTx         string
	CommitmentTxid       string
	Reason               string
}

func decodeEvent(t testing.TB, m map[string]json.RawMessage) batch.Event {
	t.Helper()
	for name, raw := range m {
		var f frame
		if err := json.Unmarshal(raw, &f); err != nil {
			t.Fatal(err)
		}
		switch name {
		case "batchStarted":
			expiry, err := strconv.ParseUint(f.BatchExpiry, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			return batch.Started{BatchID: f.ID, IntentHashes: f.IntentIDHashes, Expiry: uint32(expiry)}
		case "treeTx":
			return batch.TreeTx{BatchID: f.ID, BatchIndex: f.BatchIndex, Topics: f.Topic, PSBT: f.Tx, Children: f.Children}
		case "treeSigningStarted":
			return batch.TreeSigningStarted{BatchID: f.ID, Cosigners: f.CosignersPubkeys, Commitment: f.UnsignedCommitmentTx}
		case "treeNonces":
			ev := batch.TreeNonces{BatchID: f.ID, Txid: txid(t, f.Txid), Nonces: make(map[bip340.XOnly][66]byte)}
			for k, n := range f.Nonces {
				ev.Nonces[bip340.XOnly(unhex(t, k))] = [66]byte(unhex(t, n))
			}
			return ev
		case "treeNoncesAggregated":
			ev := batch.TreeNoncesAggregated{BatchID: f.ID, Nonces: make(map[chainhash.Hash][66]byte)}
			for k, n := range f.TreeNonces {
				ev.Nonces[txid(t, k)] = [66]byte(unhex(t, n))
			}
			return ev
		case "treeSignature":
			return batch.TreeSignature{BatchID: f.ID, BatchIndex: f.BatchIndex, Txid: txid(t, f.Txid), Signature: [64]byte(unhex(t, f.Signature))}
		case "batchFinalization":
			return batch.Finalization{BatchID: f.ID, Commitment: f.CommitmentTx}
		case "batchFinalized":
			return batch.Finalized{BatchID: f.ID, Txid: txid(t, f.CommitmentTxid)}
		case "batchFailed":
			return batch.Failed{BatchID: f.ID, Reason: f.Reason}
		default:
			t.Fatalf("event %s", name)
		}
	}
	return nil
}

// task is the intent as the client registered it. Of the batches that failed
// only the events were captured: there it is taken from the leaf.
func (c capture) task(t testing.TB, evs []batch.Event) batch.Task {
	t.Helper()
	if c.Proof == "" {
		return taskOfLeaf(t, evs)
	}
	p, err := script.ParsePSBT(c.Proof, script.OperatorLimits())
	if err != nil {
		t.Fatal(err)
	}
	m, err := intent.Decode(c.Message, intent.Register)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := m.CosignerKeys()
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d cosigners, %v", len(keys), err)
	}
	task := batch.Task{ID: c.Name, IntentID: c.IntentID, Cosigner: keys[0], Outputs: p.UnsignedTx.TxOut}
	for i, in := range p.UnsignedTx.TxIn[1:] {
		task.Inputs = append(task.Inputs, batch.Input{
			Outpoint:   in.PreviousOutPoint,
			Amount:     p.Inputs[1+i].WitnessUtxo.Value,
			HasForfeit: len(c.Forfeits) > 0,
			Boarding:   c.Commitment != "",
		})
	}
	return task
}

func taskOfLeaf(t testing.TB, evs []batch.Event) batch.Task {
	t.Helper()
	task := batch.Task{ID: "failed", IntentID: "unknown"}
	for _, ev := range evs {
		switch ev := ev.(type) {
		case batch.TreeTx:
			p, err := script.ParsePSBT(ev.PSBT, script.OperatorLimits())
			if err != nil {
				t.Fatal(err)
			}
			task.Outputs = p.UnsignedTx.TxOut[:len(p.UnsignedTx.TxOut)-1]
		case batch.TreeSigningStarted:
			k, err := bip340.ParsePubKeyHex(ev.Cosigners[0])
			if err != nil {
				t.Fatal(err)
			}
			task.Cosigner = k
		}
	}
	return task
}

// TestCaptures replays every captured batch: trees validate, what the client
// submitted is what we would have been asked for and verifies, signatures
// verify, and connectors and forfeits are the captured ones.
func TestCaptures(t *testing.T) {
	c := loadCaptures(t)
	want := map[string]string{ // how it ended
		"board": "finalized", "renew-A": "finalized", "renew-B": "finalized", "board-delegate-vtxo": "finalized",
		"delegator-grpc-batch": "finalized", "delegated-multi": "finalized",
		"failed-no-signatures": "failed", "failed-no-forfeits": "failed",
	}
	if len(c.Batches) != len(want) {
		t.Errorf("%d captured batches, want %d", len(c.Batches), len(want))
	}
	key, err := bip340.ParsePubKeyHex(c.Info.ForfeitPubkey)
	if err != nil {
		t.Fatal(err)
	}
	if c.Info.Dust != strconv.Itoa(dust) {
		t.Fatalf("dust %s", c.Info.Dust)
	}
	for _, b := range c.Batches {
		t.Run(b.Name, func(t *testing.T) {
			r := replay{capture: b, forfeitKey: key}
			for _, m := range b.Events {
				r.events = append(r.events, decodeEvent(t, m))
			}
			if got := r.run(t); got != want[b.Name] {
				t.Errorf("ended %q, want %q", got, want[b.Name])
			}
		})
	}
}

type replay struct {
	capture
	forfeitKey bip340.PubKey
	events     []batch.Event
	task       batch.Task
	nonces     map[chainhash.Hash]musig2.PubNonce
}

func (r *replay) open(t *testing.T) *batch.Batch {
	t.Helper()
	r.task = r.capture.task(t, r.events)
	for i, ev := range r.events { // delegated-multi begins with other batches
		started, ok := ev.(batch.Started)
		if !ok {
			continue
		}
		if r.Proof == "" {
			started.IntentHashes = append(started.IntentHashes, batch.IntentHash(r.task.IntentID))
		}
		if !slices.Contains(started.IntentHashes, batch.IntentHash(r.task.IntentID)) {
			continue
		}
		if err := batch.CheckExpiry(ark.Regtest, started.Expiry, 0); err != nil {
			t.Fatal(err)
		}
		b, err := batch.New(batch.Config{ForfeitKey: r.forfeitKey.XOnly(), Dust: dust}, started, []batch.Task{r.task})
		if err != nil {
			t.Fatal(err)
		}
		r.events = r.events[i+1:]
		return b
	}
	t.Fatal("no batch lists the intent")
	return nil
}

func (r *replay) run(t *testing.T) (end string) {
	t.Helper()
	b := r.open(t)
	signed := false
	var forfeits *batch.StepForfeits
	for _, ev := range r.events {
		step, err := b.Handle(ev)
		for err == nil && step != (batch.StepNone{}) {
			switch s := step.(type) {
			case batch.StepNonces:
				step, err = b.NoncesMade(r.capturedNonces(t, s))
				continue
			case batch.StepSign:
				r.checkSign(t, s)
				signed = true
			case batch.StepForfeits:
				forfeits = &s
				r.checkForfeits(t, s)
			case batch.StepFinalized:
				end = "finalized"
			case batch.StepFailed:
				end = "failed"
			}
			step, err = b.Next()
		}
		if err != nil {
			t.Fatalf("%T: %v", ev, err)
		}
	}
	if !signed || end == "finalized" && forfeits == nil {
		t.Errorf("signed %v, forfeits %v", signed, forfeits != nil)
	}
	return end
}

// capturedNonces are the nonces that the client submitted; of the batches that
// failed, those that came back.
func (r *replay) capturedNonces(t *testing.T, s batch.StepNonces) pubNonces {
	t.Helper()
	r.nonces = make(map[chainhash.Hash]musig2.PubNonce)
	for id, n := range r.Nonces {
		r.nonces[txid(t, id)] = musig2.PubNonce(unhex(t, n))
	}
	if r.Proof == "" {
		for _, ev := range r.events {
			if n, ok := ev.(batch.TreeNonces); ok {
				r.nonces[n.Txid] = n.Nonces[r.task.Cosigner.XOnly()]
			}
		}
	}
	if len(s.Nodes) != len(r.nonces) {
		t.Errorf("nonces wanted for %d nodes, the client made %d", len(s.Nodes), len(r.nonces))
	}
	return pubNonces{r.task.Cosigner: r.nonces}
}

// checkSign holds our aggregate nonces against the operator's, and the client's
// partial signatures against what we would have signed.
func (r *replay) checkSign(t *testing.T, s batch.StepSign) {
	t.Helper()
	for _, ev := range r.events {
		agg, ok := ev.(batch.TreeNoncesAggregated)
		if !ok {
			continue
		}
		for _, n := range s.Nodes {
			if agg.Nonces[n.Txid] != n.Agg {
				t.Errorf("node %v: aggregate nonce differs", n.Txid)
			}
		}
	}
	if r.Proof != "" && len(r.Signatures) != len(s.Nodes) {
		t.Errorf("%d signatures wanted, the client made %d", len(s.Nodes), len(r.Signatures))
	}
	for _, n := range s.Nodes {
		sig, ok := r.Signatures[n.Txid.String()]
		if !ok {
			continue
		}
		if err := n.Session.VerifyPartial(musig2.PartialSig(unhex(t, sig)), n.Cosigner, r.nonces[n.Txid]); err != nil {
			t.Errorf("node %v: the client's partial signature: %v", n.Txid, err)
		}
	}
}

func (r *replay) checkForfeits(t *testing.T, s batch.StepForfeits) {
	t.Helper()
	if len(s.Tasks) != 1 || len(s.Withheld) != 0 {
		t.Fatalf("%d tasks, %d withheld", len(s.Tasks), len(s.Withheld))
	}
	res := s.Tasks[0]
	if len(res.Connectors) != len(r.Forfeits) {
		t.Fatalf("%d connectors, the client sent %d forfeits", len(res.Connectors), len(r.Forfeits))
	}
	for _, b64 := range r.Forfeits {
		sent, err := script.ParsePSBT(b64, script.OperatorLimits())
		if err != nil {
			t.Fatal(err)
		}
		in := sent.UnsignedTx.TxIn[0].PreviousOutPoint
		c, ok := res.Connectors[in]
		if !ok {
			t.Errorf("no connector for %v", in)
			continue
		}
		i := slices.IndexFunc(r.task.Inputs, func(i batch.Input) bool { return i.Outpoint == in })
		tx := wire.NewMsgTx(3)
		tx.AddTxIn(wire.NewTxIn(&in, nil, nil))
		tx.AddTxIn(wire.NewTxIn(&c.Outpoint, nil, nil))
		pay := append([]byte{0, 20}, address.Hash160(r.forfeitKey[:])...)
		tx.AddTxOut(wire.NewTxOut(r.task.Inputs[i].Amount+c.Out.Value, pay))
		tx.AddTxOut(ark.AnchorOut())
		if tx.TxHash() != sent.UnsignedTx.TxHash() {
			t.Errorf("forfeit %v, the client's is %v", tx.TxHash(), sent.UnsignedTx.TxHash())
		}
		if delegated := strings.HasPrefix(r.Name, "delegat"); delegated != (len(sent.Inputs[0].TaprootScriptSpendSig) == 2) {
			t.Errorf("%d signatures", len(sent.Inputs[0].TaprootScriptSpendSig))
		} else if delegated {
			r.checkDelegated(t, sent, c)
		}
	}
	if r.Commitment != "" {
		signed, err := script.ParsePSBT(r.Commitment, script.OperatorLimits())
		if err != nil || signed.UnsignedTx.TxHash() != s.Txid {
			t.Errorf("the client signed commitment transaction %v (%v)", signed.UnsignedTx.TxHash(), err)
		}
	}
}

// checkDelegated takes the delegate's forfeit apart into what the owner had
// signed ahead, completes that with our connector, and finds the delegate's
// captured signature valid on it.
func (r *replay) checkDelegated(t *testing.T, sent *psbt.Packet, c batch.Connector) {
	t.Helper()
	tx := sent.UnsignedTx.Copy()
	tx.TxIn = tx.TxIn[:1]
	partial, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		t.Fatal(err)
	}
	delegate := r.task.Cosigner.XOnly()
	partial.Inputs[0] = sent.Inputs[0]
	var owners []*psbt.TaprootScriptSpendSig
	var delegates [64]byte
	for _, sig := range sent.Inputs[0].TaprootScriptSpendSig {
		if bytes.Equal(sig.XOnlyPubKey, delegate[:]) {
			delegates = [64]byte(sig.Signature)
		} else {
			owners = append(owners, sig)
		}
	}
	partial.Inputs[0].TaprootScriptSpendSig = owners
	ours, _, err := forfeit.Complete(partial, c.Outpoint, c.Out, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := forfeit.Sign(ours, delegate, delegates, nil); err != nil {
		t.Errorf("the delegate's signature on our forfeit: %v", err)
	}
}
