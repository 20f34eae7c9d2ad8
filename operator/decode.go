package operator

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/bip340"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// Bounds of one event. The operator's default is 128 participants a batch, whose
// tree has 255 nodes; these leave sixteen times that.
const (
	maxParticipants = 2048
	// maxCosigners is how many keys a batch may have. The operator bounds neither
	// an intent's nor all of them, and a batch that we cannot follow convicts our
	// users: more than it can aggregate in a session must fit.
	maxCosigners = 16384
	maxNodes     = 4096
	maxChildren  = 256
	maxTopicLen  = 200
	maxReason    = 1024 // runes
)

// Malformed is an event that breaks the protocol's form. A batch whose event is
// malformed cannot be trusted to the end.
type Malformed struct {
	BatchID string // empty when not even that could be read
	Err     error  // ErrAnswer
}

// decodeEvent checks the form of a batch event and nothing else: whether it is
// true is for ark/batch to find out. It returns a batch.Event, Malformed, or nil
// for an event that carries nothing for us.
func decodeEvent(m *arkv1.GetEventStreamResponse) Event {
	var id string
	var ev batch.Event
	var err error
	switch e := m.GetEvent().(type) {
	case *arkv1.GetEventStreamResponse_BatchStarted:
		id = e.BatchStarted.GetId()
		ev, err = decodeStarted(e.BatchStarted)
	case *arkv1.GetEventStreamResponse_TreeTx:
		id = e.TreeTx.GetId()
		ev, err = decodeTreeTx(e.TreeTx)
	case *arkv1.GetEventStreamResponse_TreeSigningStarted:
		id = e.TreeSigningStarted.GetId()
		ev, err = decodeSigningStarted(e.TreeSigningStarted)
	case *arkv1.GetEventStreamResponse_TreeNonces:
		id = e.TreeNonces.GetId()
		ev, err = decodeNonces(e.TreeNonces)
	case *arkv1.GetEventStreamResponse_TreeNoncesAggregated:
		id = e.TreeNoncesAggregated.GetId()
		ev, err = decodeAggregated(e.TreeNoncesAggregated)
	case *arkv1.GetEventStreamResponse_TreeSignature:
		id = e.TreeSignature.GetId()
		ev, err = decodeSignature(e.TreeSignature)
	case *arkv1.GetEventStreamResponse_BatchFinalization:
		id = e.BatchFinalization.GetId()
		ev, err = batch.Finalization{BatchID: id, Commitment: e.BatchFinalization.GetCommitmentTx()},
			checkPSBT(e.BatchFinalization.GetCommitmentTx())
	case *arkv1.GetEventStreamResponse_BatchFinalized:
		id = e.BatchFinalized.GetId()
		var txid chainhash.Hash
		txid, err = ark.ParseTxid(e.BatchFinalized.GetCommitmentTxid())
		ev = batch.Finalized{BatchID: id, Txid: txid}
	case *arkv1.GetEventStreamResponse_BatchFailed:
		id = e.BatchFailed.GetId()
		ev = batch.Failed{BatchID: id, Reason: clean(e.BatchFailed.GetReason(), maxReason)}
	default:
		return nil
	}
	if !isLabel(id) {
		return Malformed{Err: fmt.Errorf("%w: batch id %.40q", ErrAnswer, id)}
	}
	if err != nil {
		return Malformed{BatchID: id, Err: fmt.Errorf("%w: %w", ErrAnswer, err)}
	}
	return ev
}

func decodeStarted(m *arkv1.BatchStartedEvent) (batch.Event, error) {
	hashes := m.GetIntentIdHashes()
	if len(hashes) > maxParticipants {
		return nil, fmt.Errorf("batch started: %d intents", len(hashes))
	}
	out := make([]string, len(hashes))
	for i, h := range hashes {
		b, err := fixedHex[[32]byte](h)
		if err != nil {
			return nil, fmt.Errorf("batch started: intent hash: %w", err)
		}
		out[i] = hex.EncodeToString(b[:])
	}
	if m.GetBatchExpiry() <= 0 || m.GetBatchExpiry() > math.MaxUint32 {
		return nil, fmt.Errorf("batch started: expiry %d", m.GetBatchExpiry())
	}
	return batch.Started{BatchID: m.GetId(), IntentHashes: out, Expiry: uint32(m.GetBatchExpiry())}, nil
}

func decodeTreeTx(m *arkv1.TreeTxEvent) (batch.Event, error) {
	if m.GetBatchIndex() != 0 && m.GetBatchIndex() != 1 {
		return nil, fmt.Errorf("tree transaction: batch index %d", m.GetBatchIndex())
	}
	if err := checkTopics(m.GetTopic()); err != nil {
		return nil, fmt.Errorf("tree transaction: %w", err)
	}
	if err := checkPSBT(m.GetTx()); err != nil {
		return nil, fmt.Errorf("tree transaction: %w", err)
	}
	if len(m.GetChildren()) > maxChildren {
		return nil, fmt.Errorf("tree transaction: %d children", len(m.GetChildren()))
	}
	children := make(map[uint32]string, len(m.GetChildren()))
	for vout, txid := range m.GetChildren() {
		h, err := ark.ParseTxid(txid)
		if err != nil {
			return nil, fmt.Errorf("tree transaction: child: %w", err)
		}
		children[vout] = h.String()
	}
	// The txid field is empty in practice, and worth nothing when it is not: the
	// transaction has its own.
	return batch.TreeTx{BatchID: m.GetId(), BatchIndex: m.GetBatchIndex(), Topics: m.GetTopic(), PSBT: m.GetTx(), Children: children}, nil
}

func decodeSigningStarted(m *arkv1.TreeSigningStartedEvent) (batch.Event, error) {
	if len(m.GetCosignersPubkeys()) > maxCosigners {
		return nil, fmt.Errorf("tree signing: %d cosigners", len(m.GetCosignersPubkeys()))
	}
	// Strangers may list as a cosigner whatever they like, and the operator passes
	// it on: what is no compressed key is left out, as it is nobody's of ours.
	keys := make([]string, 0, len(m.GetCosignersPubkeys()))
	for _, k := range m.GetCosignersPubkeys() {
		if b, err := fixedHex[bip340.PubKey](k); err == nil {
			keys = append(keys, b.String())
		}
	}
	if err := checkPSBT(m.GetUnsignedCommitmentTx()); err != nil {
		return nil, fmt.Errorf("tree signing: %w", err)
	}
	return batch.TreeSigningStarted{BatchID: m.GetId(), Cosigners: keys, Commitment: m.GetUnsignedCommitmentTx()}, nil
}

func decodeNonces(m *arkv1.TreeNoncesEvent) (batch.Event, error) {
	txid, err := ark.ParseTxid(m.GetTxid())
	if err != nil {
		return nil, fmt.Errorf("tree nonces: %w", err)
	}
	if err := checkTopics(m.GetTopic()); err != nil {
		return nil, fmt.Errorf("tree nonces: %w", err)
	}
	if len(m.GetNonces()) > maxCosigners {
		return nil, fmt.Errorf("tree nonces: %d of them", len(m.GetNonces()))
	}
	nonces := make(map[bip340.XOnly][66]byte, len(m.GetNonces()))
	for k, n := range m.GetNonces() {
		key, err := fixedHex[bip340.XOnly](k)
		if err != nil {
			return nil, fmt.Errorf("tree nonces: key: %w", err)
		}
		nonce, err := fixedHex[[66]byte](n)
		if err != nil {
			return nil, fmt.Errorf("tree nonces: %w", err)
		}
		nonces[key] = nonce
	}
	// Two spellings of one key would leave it to chance which nonce counts.
	if len(nonces) != len(m.GetNonces()) {
		return nil, errors.New("tree nonces: a key twice")
	}
	return batch.TreeNonces{BatchID: m.GetId(), Txid: txid, Nonces: nonces}, nil
}

func decodeAggregated(m *arkv1.TreeNoncesAggregatedEvent) (batch.Event, error) {
	if len(m.GetTreeNonces()) > maxNodes {
		return nil, fmt.Errorf("aggregate nonces: %d of them", len(m.GetTreeNonces()))
	}
	nonces := make(map[chainhash.Hash][66]byte, len(m.GetTreeNonces()))
	for t, n := range m.GetTreeNonces() {
		txid, err := ark.ParseTxid(t)
		if err != nil {
			return nil, fmt.Errorf("aggregate nonces: %w", err)
		}
		nonce, err := fixedHex[[66]byte](n)
		if err != nil {
			return nil, fmt.Errorf("aggregate nonces: %w", err)
		}
		nonces[txid] = nonce
	}
	if len(nonces) != len(m.GetTreeNonces()) {
		return nil, errors.New("aggregate nonces: a txid twice")
	}
	return batch.TreeNoncesAggregated{BatchID: m.GetId(), Nonces: nonces}, nil
}

func decodeSignature(m *arkv1.TreeSignatureEvent) (batch.Event, error) {
	txid, err := ark.ParseTxid(m.GetTxid())
	if err != nil {
		return nil, fmt.Errorf("tree signature: %w", err)
	}
	if err := checkTopics(m.GetTopic()); err != nil {
		return nil, fmt.Errorf("tree signature: %w", err)
	}
	sig, err := fixedHex[[64]byte](m.GetSignature())
	if err != nil {
		return nil, fmt.Errorf("tree signature: %w", err)
	}
	return batch.TreeSignature{BatchID: m.GetId(), BatchIndex: m.GetBatchIndex(), Txid: txid, Signature: sig}, nil
}

func checkPSBT(s string) error {
	if s == "" || len(s) > maxPSBT {
		return fmt.Errorf("PSBT of %d characters", len(s))
	}
	return nil
}

func checkTopics(topics []string) error {
	if len(topics) > maxCosigners {
		return fmt.Errorf("%d topics", len(topics))
	}
	for _, t := range topics {
		if len(t) > maxTopicLen {
			return fmt.Errorf("topic of %d characters", len(t))
		}
	}
	return nil
}

// fixedHex decodes exactly as many bytes as the array type has.
func fixedHex[A [32]byte | [64]byte | [66]byte | bip340.PubKey | bip340.XOnly](s string) (A, error) {
	var a A
	var buf [66]byte
	if len(s) != 2*len(a) {
		return a, fmt.Errorf("%d hex digits, want %d", len(s), 2*len(a))
	}
	n, err := hex.Decode(buf[:], []byte(s))
	if err != nil {
		return a, fmt.Errorf("hex: %w", err)
	}
	for i := range n {
		a[i] = buf[i]
	}
	return a, nil
}
