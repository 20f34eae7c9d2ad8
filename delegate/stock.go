package delegate

import (
	"errors"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

// StockBody is a delegate as a stock wallet posts it (protocol section 6.2).
type StockBody struct {
	Message  string   // canonical register message
	Proof    string   // base64 PSBT
	Forfeits []string // base64 PSBTs
}

// StockLimits bound a body before it is parsed.
type StockLimits struct {
	Inputs  int // VTXOs, at most MaxInputs
	Outputs int // of the proof, at most MaxOutputs
}

// StockRequest is a decoded body. Nothing of it is verified yet.
type StockRequest struct {
	id       vigil.DelegateID
	body     StockBody
	message  intent.Message
	proof    *psbt.Packet
	forfeits []*psbt.Packet
}

// ID is the id that the delegate will have.
func (r *StockRequest) ID() vigil.DelegateID { return r.id }

// ProofTxid is the txid of the proof.
func (r *StockRequest) ProofTxid() chainhash.Hash { return intent.Txid(r.proof) }

// Outpoints are the VTXOs to be renewed, in the proof's order.
func (r *StockRequest) Outpoints() []wire.OutPoint {
	ins := r.proof.UnsignedTx.TxIn[1:]
	ops := make([]wire.OutPoint, len(ins))
	for i, in := range ins {
		ops[i] = in.PreviousOutPoint
	}
	return ops
}

// ParseStock decodes a body within limits, without any curve work: enough to
// know whether it was here before and which VTXOs to ask the operator for. The
// error is a *vigil.Error.
func ParseStock(body StockBody, limits StockLimits) (*StockRequest, error) {
	limits.Inputs, limits.Outputs = min(limits.Inputs, MaxInputs), min(limits.Outputs, MaxOutputs)
	if len(body.Message) > maxMessage {
		return nil, vigil.Errorf(vigil.CodeInvalidMessage, "the message has %d bytes, at most %d are taken", len(body.Message), maxMessage)
	}
	message, err := intent.DecodeCanonical(body.Message, intent.Register)
	if err != nil {
		return nil, vigil.Errorf(vigil.CodeInvalidMessage, "the intent's message: %w", err)
	}
	if len(body.Forfeits) > limits.Inputs {
		return nil, vigil.Errorf(vigil.CodeTooManyInputs, "%d forfeits, at most %d inputs are taken", len(body.Forfeits), limits.Inputs)
	}
	proof, err := script.ParsePSBT(body.Proof, script.StrangerLimits())
	if err != nil {
		return nil, vigil.Errorf(vigil.CodeInvalidProof, "the intent's proof: %w", err)
	}
	switch ins, outs := len(proof.UnsignedTx.TxIn)-1, len(proof.UnsignedTx.TxOut); {
	case ins < 1:
		return nil, vigil.Errorf(vigil.CodeInvalidProof, "the proof spends no VTXO")
	case ins > limits.Inputs:
		return nil, vigil.Errorf(vigil.CodeTooManyInputs, "%d inputs, at most %d are taken", ins, limits.Inputs)
	case outs > limits.Outputs:
		return nil, vigil.Errorf(vigil.CodeTooManyOutputs, "%d outputs, at most %d are taken", outs, limits.Outputs)
	}
	r := &StockRequest{id: StockID(intent.Txid(proof)), body: body, message: message, proof: proof}
	one := script.StrangerLimits()
	one.Inputs, one.Outputs = 1, 2
	for i, b64 := range body.Forfeits {
		forfeit, err := script.ParsePSBT(b64, one)
		if err != nil {
			return nil, vigil.Errorf(vigil.CodeForfeitInvalid, "forfeit %d: %w", i, err)
		}
		if len(forfeit.UnsignedTx.TxIn) != 1 {
			return nil, vigil.Errorf(vigil.CodeForfeitInvalid, "forfeit %d has %d inputs", i, len(forfeit.UnsignedTx.TxIn))
		}
		r.forfeits = append(r.forfeits, forfeit)
	}
	return r, nil
}

// StockTerms are what a body is held to.
type StockTerms struct {
	Params ark.Params // as the operator announces them now
	// Estimator is Params.Fees compiled; nil compiles them at every check.
	Estimator *fee.Estimator
	// Keys are the service keys whose secrets are at hand: the one in the info
	// first, then those that older addresses still name.
	Keys           []bip340.PubKey
	Fee            int64      // satoshis that Vigil asks; 0: nothing
	FeeScript      []byte     // where its fee goes
	FeeSlack       int64      // satoshis that the operator may get beyond 1.25 times its fee
	VTXOs          []ark.VTXO // the inputs as the operator's indexer reports them; unknown ones left out
	Now            int64      // unix seconds
	AnyDestination bool       // outputs may pay other scripts than the inputs'
}

// CheckStock holds a request to every rule of intake (spec sections 6 and 11)
// and returns the record to store: armed, without version. Every error is a
// *vigil.Error with a code of its own; nothing has any effect.
func CheckStock(r *StockRequest, t StockTerms) (*Record, error) {
	c := &stockCheck{StockRequest: r, StockTerms: t, reader: script.NewReader()}
	for _, rule := range []func() error{
		c.checkMessage, c.checkVTXOs, c.checkTimes, c.checkProof, c.checkInputs, c.checkForfeits, c.checkOutputs, c.checkFee,
	} {
		if err := rule(); err != nil {
			return nil, asRefusal(err)
		}
	}
	return c.record(), nil
}

// asRefusal makes sure that a coded error leaves; an uncoded one is our fault.
func asRefusal(err error) error {
	var coded *vigil.Error
	if errors.As(err, &coded) {
		return err
	}
	return &vigil.Error{Code: vigil.CodeInternal, Message: "the delegate could not be checked", Err: err}
}

// stockCheck is one check under way: what its rules have found so far.
type stockCheck struct {
	*StockRequest
	StockTerms
	reader *script.Reader
	key    bip340.PubKey  // the service key that the message names
	vtxos  []ark.VTXO     // of the inputs, in order
	proven intent.Proof   // verified
	trees  []script.Tree  // of the inputs
	owners []bip340.XOnly // distinct
	signer bip340.PubKey  // the operator's key in the scripts
	signed []Sighash
	byOp   map[wire.OutPoint]int // input index
	given  []int                 // forfeit index + 1 of each input, 0: none
	leaf   []wire.TxOut          // the outputs of the leaf
	paid   int64                 // to the operator
	served int64                 // to Vigil
}

// signers are the operator's keys whose signatures come later: the current one
// and the deprecated ones.
func (c *stockCheck) signers() []bip340.XOnly {
	keys := []bip340.XOnly{c.Params.SignerKey.XOnly()}
	for _, d := range c.Params.DeprecatedSigners {
		keys = append(keys, d.Key.XOnly())
	}
	return keys
}

// record is what is to be stored once every rule has passed.
func (c *stockCheck) record() *Record {
	rec := &Record{
		ID: c.id, Kind: Stock, State: Armed,
		Owners: c.owners, SignerKey: c.signer, ForfeitKey: c.Params.ForfeitKey, DelegateKey: c.key, TreeKey: c.key,
		Network: c.Params.Network, ExitDelay: c.Params.ExitDelay, Dust: c.Params.Dust,
		ForfeitScript: c.Params.ForfeitScript, Digest: c.Params.Digest,
		Message: c.body.Message, Proof: rawPSBT(c.body.Proof), ProofTxid: c.proven.Txid,
		Outputs: c.leaf, Sighashes: c.signed, Fee: c.paid, Service: c.served,
		CreatedAt: c.Now, ValidAt: c.message.ValidAt, ExpireAt: c.message.ExpireAt, MinBatchExpiry: c.minBatchExpiry(),
	}
	for i, in := range c.proven.Inputs {
		v := c.vtxos[i]
		input := Input{
			Outpoint: in.Outpoint, Amount: v.Amount, Script: in.Out.PkScript, TapTree: c.trees[i].TapTreeField(),
			CreatedAt: v.CreatedAt, ExpiresAt: v.ExpiresAt, Recoverable: v.Recoverable(c.Now), Assets: v.Assets,
		}
		if n := c.given[i]; n > 0 {
			input.Forfeit = rawPSBT(c.body.Forfeits[n-1])
		}
		rec.Inputs = append(rec.Inputs, input)
	}
	rec.NextAttempt = FirstAttempt(rec.ID, rec.ValidAt, rec.Expiry())
	return rec
}
