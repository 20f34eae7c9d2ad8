// Package batch owns one participant's view of a batch: events of the operator
// go in, every check of the protocol is made, and what may be sent next comes
// out. It must not know I/O, clocks, keys' secrets or storage.
//
// The caller feeds every event to Handle, carries out the step that comes back
// and asks Next for the one after, until it is StepNone:
//
//	step, err := b.Handle(ev)
//	for err == nil && step != (batch.StepNone{}) {
//		switch s := step.(type) {
//		case batch.StepNonces:
//			step, err = b.NoncesMade(makeAndSubmit(s.Nodes))
//		default:
//			carryOut(s)
//			step, err = b.Next()
//		}
//	}
package batch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
)

// Errors of the caller, as opposed to a *Violation, which is the operator's.
var (
	// ErrNotSelected says that the batch does not list a task's intent.
	ErrNotSelected = errors.New("batch: intent is not in this batch")
	// ErrTask says that a task is malformed or contradicts another one.
	ErrTask = errors.New("batch: invalid task")
	// ErrNonces says that NoncesMade was called out of turn, or with nonces for
	// other nodes than those of StepNonces.
	ErrNonces = errors.New("batch: nonces do not match the signing nodes")
)

// Task is one intent of ours that the batch selected.
type Task struct {
	ID       string        // the caller's name for it, unique in the batch
	IntentID string        // as the operator gave it
	Cosigner bip340.PubKey // zero when there are no off-chain outputs and it has none
	Outputs  []*wire.TxOut // off-chain outputs in order, an extension included
	Onchain  []*wire.TxOut // outputs that leave Ark
	Inputs   []Input
}

// Input is a coin that a task spends. Amount is in satoshis.
type Input struct {
	Outpoint   wire.OutPoint
	Amount     int64
	HasForfeit bool // a signed forfeit is at hand
	Boarding   bool // an on-chain input of the commitment transaction
}

// Config is what the participant knows of the operator beforehand.
type Config struct {
	ForfeitKey bip340.XOnly // owner of the sweep leaf of every node
	Dust       int64        // satoshis: the connector value that stored forfeits expect
	// Cache of key contexts, shared between batches; nil for one of its own.
	Cache *musig2.Cache
}

// stage is how far a batch has come. It only grows.
type stage uint8

const (
	stageTree     stage = iota // collecting nodes of the VTXO tree
	stageMaking                // StepNonces is out, NoncesMade awaited
	stageNonces                // our nonces are out, everybody's awaited
	stageSigned                // StepSign is out, final signatures awaited
	stageForfeits              // StepForfeits is out, the end awaited
	stageEnded                 // finalized or failed
)

// Batch is the view of one batch by one participant, with all its tasks in it.
// It is not safe for concurrent use.
type Batch struct {
	cfg    Config
	id     string
	expiry ark.Delay
	tasks  []Task
	own    map[bip340.XOnly]bip340.PubKey // our cosigner keys
	inputs map[wire.OutPoint]bool         // of our tasks

	stage     stage
	violation *Violation
	budget    budget

	// What came in, each thing once.
	nodes      map[chainhash.Hash]received
	connectors map[chainhash.Hash]received
	signing    *TreeSigningStarted
	nonces     map[chainhash.Hash]map[bip340.XOnly]musig2.PubNonce
	aggregated bool
	signatures map[chainhash.Hash][64]byte
	final      *Finalization
	finalized  *Finalized

	// What was concluded from it.
	commitment *psbt.Packet
	txid       chainhash.Hash
	tree       *tree.Tree // nil when no node carries a key of ours
	leaves     []*tree.Placed
	toSign     []SigningNode
	negated    *tree.Placed // a node that lists a key of ours negated
	made       map[bip340.PubKey]map[chainhash.Hash]musig2.PubNonce
}

// New opens the view of the batch that started announces. Every task must be
// in it: ErrNotSelected otherwise. Tasks may share one cosigner key or have
// one each; two different keys with one x coordinate are ErrTask, and so are
// duplicate ids, intents or inputs. Call CheckExpiry before confirming.
func New(cfg Config, started Started, tasks []Task) (*Batch, error) {
	expiry, err := ark.ParseDelay(int64(started.Expiry))
	if err != nil {
		return nil, fmt.Errorf("batch expiry: %w", err)
	}
	if len(tasks) == 0 {
		return nil, fmt.Errorf("%w: none", ErrTask)
	}
	if cfg.Cache == nil {
		cfg.Cache = musig2.NewCache(cacheSize)
	}
	b := &Batch{
		cfg:        cfg,
		id:         started.BatchID,
		expiry:     expiry,
		tasks:      slices.Clone(tasks),
		own:        make(map[bip340.XOnly]bip340.PubKey),
		inputs:     make(map[wire.OutPoint]bool),
		nodes:      make(map[chainhash.Hash]received),
		connectors: make(map[chainhash.Hash]received),
		nonces:     make(map[chainhash.Hash]map[bip340.XOnly]musig2.PubNonce),
		signatures: make(map[chainhash.Hash][64]byte),
	}
	selected := make(map[string]bool, len(started.IntentHashes))
	for _, h := range started.IntentHashes {
		selected[h] = true
	}
	if err := b.checkTasks(selected); err != nil {
		return nil, err
	}
	return b, nil
}

// checkTasks holds the tasks against each other and the announced intents, and
// fills the indexes over them.
func (b *Batch) checkTasks(selected map[string]bool) error {
	ids, intents := make(map[string]bool), make(map[string]bool)
	for _, t := range b.tasks {
		if ids[t.ID] || intents[t.IntentID] {
			return fmt.Errorf("%w: %q or its intent is there twice", ErrTask, t.ID)
		}
		ids[t.ID], intents[t.IntentID] = true, true
		if !selected[IntentHash(t.IntentID)] {
			return fmt.Errorf("%w: task %q", ErrNotSelected, t.ID)
		}
		if len(t.Outputs)+len(t.Onchain) == 0 || len(t.Outputs) > 0 && t.Cosigner == (bip340.PubKey{}) {
			return fmt.Errorf("%w: %q has no outputs, or no cosigner for them", ErrTask, t.ID)
		}
		if k, ok := b.own[t.Cosigner.XOnly()]; ok && k != t.Cosigner {
			return fmt.Errorf("%w: %q has the negated cosigner key of another", ErrTask, t.ID)
		}
		for _, in := range t.Inputs {
			if b.inputs[in.Outpoint] {
				return fmt.Errorf("%w: %q spends %v, which is there twice", ErrTask, t.ID, in.Outpoint)
			}
			b.inputs[in.Outpoint] = true
		}
		if t.Cosigner != (bip340.PubKey{}) {
			b.own[t.Cosigner.XOnly()] = t.Cosigner
		}
	}
	return nil
}

// ID is the operator's name for the batch.
func (b *Batch) ID() string { return b.id }

// IntentHash is the form in which BatchStarted lists an intent: the SHA-256 of
// the id's ASCII bytes, in hex (protocol section 5.3).
func IntentHash(id string) string {
	h := sha256.Sum256([]byte(id))
	return hex.EncodeToString(h[:])
}

// Topics are what the event stream must carry before the tasks are confirmed:
// every cosigner key in both parities, since a stranger who lists ours negated
// may decide which one upper nodes carry, and every input's outpoint.
func Topics(tasks []Task) []string {
	var topics []string
	seen := make(map[bip340.XOnly]bool)
	for _, t := range tasks {
		x := t.Cosigner.XOnly()
		if !seen[x] && t.Cosigner != (bip340.PubKey{}) {
			seen[x] = true
			h := x.String()
			topics = append(topics, "02"+h, "03"+h)
		}
		for _, in := range t.Inputs {
			topics = append(topics, in.Outpoint.String())
		}
	}
	return topics
}
