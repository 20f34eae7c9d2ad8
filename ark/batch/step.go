package batch

import (
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
)

// Step is what may be done next: one of StepNone, StepNonces, StepSign,
// StepForfeits, StepFinalized and StepFailed.
type Step interface{ step() }

// StepNone says that the operator's next event is awaited.
type StepNone struct{}

// StepNonces asks for one fresh nonce for each node and key. Submit them, one
// call per distinct SigningNode.Cosigner, and report them to NoncesMade.
type StepNonces struct {
	Nodes []SigningNode
	// Foreign counts leaves that carry a key of ours but belong to no task: a
	// stranger named it. They are signed like every other node, since the
	// operator waits for that and the signature gives nothing away.
	Foreign int
}

// SigningNode is one signature of ours over one node of the VTXO tree.
type SigningNode struct {
	Txid chainhash.Hash
	// Cosigner is our key that signs, as its tasks name it.
	Cosigner bip340.PubKey
	Sighash  [32]byte
	Context  *musig2.Context // shared by every node with the same cosigners
}

// StepSign asks for the partial signatures. It comes once, after every node of
// ours had everybody's nonces with ours unchanged among them.
type StepSign struct{ Nodes []SignRequest }

// SignRequest is a SigningNode with its aggregate nonce, aggregated here and
// not by the operator.
type SignRequest struct {
	SigningNode
	Agg musig2.AggNonce
	// Session holds what all our signatures over this node share.
	Session *musig2.Session
}

// StepForfeits says that every signature over our branches verified. Branches
// and commitment transaction must be durable before the first forfeit leaves.
type StepForfeits struct {
	Commitment     *psbt.Packet
	CommitmentPSBT string // base64, as the operator sent it
	Txid           chainhash.Hash
	Tasks          []TaskResult
	Withheld       []Withheld
}

// TaskResult is what one task gets, and what it has to give for it.
type TaskResult struct {
	ID      string
	Leaf    chainhash.Hash // zero for a task without off-chain outputs
	Outputs []NewVTXO      // one for each off-chain output, in order
	Branch  []tree.Node    // signed, root first, leaf last
	// Connectors by the input that is to be forfeited with it. Inputs that are
	// not here need no forfeit, and none may be sent for them.
	Connectors map[wire.OutPoint]Connector
}

// NewVTXO is an output of a leaf.
type NewVTXO struct {
	Outpoint wire.OutPoint
	Out      *wire.TxOut
}

// Connector is the output that a forfeit has to spend as its second input.
type Connector struct {
	Outpoint wire.OutPoint
	Out      *wire.TxOut
	Branch   []tree.Node // unsigned, root first, the connector's node last
}

// Withheld is a task for which the operator wants forfeits that do not exist,
// over the inputs Lacking. Nothing is sent for it, so Connectors is empty; the
// batch will most likely fail, and only that task's scripts should pay for it,
// so the others' forfeits are sent. The leaf is its own nevertheless, should the
// operator go on.
type Withheld struct {
	TaskResult
	Lacking []wire.OutPoint
}

// StepFinalized says that the operator broadcast the commitment transaction of
// StepForfeits.
type StepFinalized struct{ Txid chainhash.Hash }

// StepFailed says that the batch is over without result. Reason is the
// operator's text, or our own when it finalized a batch that we had left.
type StepFailed struct{ Reason string }

func (StepNone) step()      {}
func (StepNonces) step()    {}
func (StepSign) step()      {}
func (StepForfeits) step()  {}
func (StepFinalized) step() {}
func (StepFailed) step()    {}
