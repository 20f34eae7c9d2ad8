package delegate

import (
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

// request is what a body of either kind is decoded into.
type request struct {
	id       vigil.DelegateID
	message  intent.Message
	proof    *psbt.Packet
	forfeits []*psbt.Packet
	text     string   // the message
	proof64  string   // base64
	given64  []string // the forfeits, base64
}

// ID is the id that the delegate will have.
func (r *request) ID() vigil.DelegateID { return r.id }

// ProofTxid is the txid of the proof.
func (r *request) ProofTxid() chainhash.Hash { return intent.Txid(r.proof) }

// Outpoints are the VTXOs to be renewed, in the proof's order.
func (r *request) Outpoints() []wire.OutPoint {
	ins := r.proof.UnsignedTx.TxIn[1:]
	ops := make([]wire.OutPoint, len(ins))
	for i, in := range ins {
		ops[i] = in.PreviousOutPoint
	}
	return ops
}

// parse decodes what both kinds have.
func parse(reader *script.Reader, text, proof64 string, forfeits []string, limits StockLimits) (*request, error) {
	limits.Inputs, limits.Outputs = min(limits.Inputs, MaxInputs), min(limits.Outputs, MaxOutputs)
	if len(text) > maxMessage {
		return nil, vigil.Errorf(vigil.CodeInvalidMessage, "the message has %d bytes, at most %d are taken", len(text), maxMessage)
	}
	message, err := intent.DecodeCanonical(text, intent.Register)
	if err != nil {
		return nil, vigil.Errorf(vigil.CodeInvalidMessage, "the intent's message: %w", err)
	}
	if len(forfeits) > limits.Inputs {
		return nil, vigil.Errorf(vigil.CodeTooManyInputs, "%d forfeits, at most %d inputs are taken", len(forfeits), limits.Inputs)
	}
	proof, err := reader.ParsePSBT(proof64, script.StrangerLimits())
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
	r := &request{message: message, proof: proof, text: text, proof64: proof64, given64: forfeits}
	one := script.StrangerLimits()
	one.Inputs, one.Outputs = 1, 2
	for i, b64 := range forfeits {
		forfeit, err := reader.ParsePSBT(b64, one)
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

// intake is one check under way: what it is held to, and what its rules have
// found so far.
type intake struct {
	*request
	params    ark.Params
	estimator *fee.Estimator // nil: compiled when needed
	slack     int64          // satoshis that the operator may get beyond 1.25 times its fee
	known     []ark.VTXO     // as the operator's indexer reports them
	now       int64

	reader *script.Reader
	key    bip340.PubKey  // the delegate key
	vtxos  []ark.VTXO     // of the inputs, in order
	proven intent.Proof   // verified
	trees  []script.Tree  // of the inputs
	bearer []bool         // whether an input's forfeit is a bearer instrument; nil: none
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
func (c *intake) signers() []bip340.XOnly {
	keys := []bip340.XOnly{c.params.SignerKey.XOnly()}
	for _, d := range c.params.DeprecatedSigners {
		keys = append(keys, d.Key.XOnly())
	}
	return keys
}

// bears says whether a forfeit of input i is a bearer instrument.
func (c *intake) bears(i int) bool { return i < len(c.bearer) && c.bearer[i] }

// record is what both kinds store once every rule has passed.
func (c *intake) record() *Record {
	rec := &Record{
		State:  Armed,
		Owners: c.owners, SignerKey: c.signer, ForfeitKey: c.params.ForfeitKey,
		Network: c.params.Network, ExitDelay: c.params.ExitDelay, Dust: c.params.Dust,
		ForfeitScript: c.params.ForfeitScript, Digest: c.params.Digest,
		Message: c.text, Proof: rawPSBT(c.proof64), ProofTxid: c.proven.Txid,
		Outputs: c.leaf, Sighashes: c.signed, Fee: c.paid,
		CreatedAt: c.now, ValidAt: c.message.ValidAt, ExpireAt: c.message.ExpireAt, MinBatchExpiry: c.minBatchExpiry(),
	}
	for i, in := range c.proven.Inputs {
		v := c.vtxos[i]
		input := Input{
			Outpoint: in.Outpoint, Amount: v.Amount, Script: in.Out.PkScript, TapTree: c.trees[i].TapTreeField(),
			CreatedAt: v.CreatedAt, ExpiresAt: v.ExpiresAt, Recoverable: v.Recoverable(c.now), Assets: v.Assets,
		}
		switch n := c.given[i]; {
		case n > 0 && c.bears(i):
			input.Sealed = c.forfeits[n-1].UnsignedTx.TxHash()
		case n > 0:
			input.Forfeit = rawPSBT(c.given64[n-1])
		}
		rec.Inputs = append(rec.Inputs, input)
	}
	return rec
}
