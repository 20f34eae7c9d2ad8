package intent

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

var (
	// ErrProof is returned for a proof that is not built as the protocol says.
	ErrProof = errors.New("intent: malformed proof")
	// ErrCommitment is returned for a proof over another message.
	ErrCommitment = errors.New("intent: proof is over another message")
	// ErrSignature is returned for a signature, condition or preimage that does
	// not verify.
	ErrSignature = errors.New("intent: invalid signature")
	// ErrUnsigned is returned when a key of a leaf has not signed.
	ErrUnsigned = errors.New("intent: missing signature")
	// ErrTooHeavy is returned for a proof above the weight limit.
	ErrTooHeavy = errors.New("intent: proof is too heavy")
)

// Options say what Verify leaves to others.
type Options struct {
	// Skip are keys that need not have signed: the operator's signer keys,
	// current and deprecated, and our own if we will add its signature. Their
	// signatures are verified all the same where there are some.
	Skip []bip340.XOnly
	// MaxWeight bounds the finished proof's weight; 0 does not. It is checked
	// before any signature is.
	MaxWeight int64
	// Reader may be nil; one for all that is verified at once saves work.
	Reader *script.Reader
}

// Proof is what Verify found. Its slices belong to the packet.
type Proof struct {
	Txid     chainhash.Hash
	Locktime uint32
	Weight   int64        // once every key of every leaf has signed
	Message  ProofInput   // input 0, the message's
	Inputs   []ProofInput // the coins, in order
	Outputs  []*wire.TxOut
}

// ProofInput is one input of a verified proof.
type ProofInput struct {
	Outpoint wire.OutPoint
	Sequence uint32
	script.Spend
	// Tree is the VTXO script that the input reveals, and leads to the script
	// that is spent; its Len is 0 when the input reveals none.
	Tree script.Tree
	// Condition is the witness for the leaf's condition or note.
	Condition wire.TxWitness
}

// HasOutputs says whether the proof asks for outputs: it has others than the
// lone OP_RETURN of messages without.
func (p Proof) HasOutputs() bool {
	return len(p.Outputs) != 1 || !bytes.Equal(p.Outputs[0].PkScript, []byte{txscript.OP_RETURN})
}

// Fee is the sum of the inputs minus the sum of the outputs, in satoshis.
func (p Proof) Fee() int64 {
	var fee int64
	for _, in := range p.Inputs {
		fee += in.Out.Value
	}
	for _, out := range p.Outputs {
		fee -= out.Value
	}
	return fee
}

// Txid is the proof's transaction id, which names an intent to the operator.
func Txid(p *psbt.Packet) chainhash.Hash { return p.UnsignedTx.TxHash() }

// Verify checks a proof over the text of a message as the operator does
// (protocol section 4.3). It is stricter where a real proof loses nothing:
// every input, the message's too, spends one known leaf of a taproot output,
// no outpoint stands twice, a revealed VTXO script leads to the script spent,
// and only the leaf's own keys sign. What types of signature, leaves and
// outputs are allowed is for the caller to judge by the result.
//
// The packet must come from script.ParsePSBT or BuildProof.
func Verify(p *psbt.Packet, message string, opt Options) (Proof, error) {
	tx := p.UnsignedTx
	if err := checkShape(p, message); err != nil {
		return Proof{}, err
	}
	r := opt.Reader
	if r == nil {
		r = script.NewReader()
	}
	proof := Proof{
		Txid: tx.TxHash(), Locktime: tx.LockTime, Outputs: tx.TxOut,
		Inputs: make([]ProofInput, 0, len(tx.TxIn)-1),
	}
	for i := range tx.TxIn {
		in, err := readInput(r, p, i)
		if err != nil {
			return Proof{}, err
		}
		if i == 0 {
			proof.Message = in
		} else {
			proof.Inputs = append(proof.Inputs, in)
		}
	}
	if proof.Fee() < 0 {
		return Proof{}, fmt.Errorf("%w: outputs exceed inputs by %d", ErrProof, -proof.Fee())
	}
	proof.Weight = proof.weight(tx)
	if opt.MaxWeight > 0 && proof.Weight > opt.MaxWeight {
		return Proof{}, fmt.Errorf("%w: %d of at most %d", ErrTooHeavy, proof.Weight, opt.MaxWeight)
	}
	return proof, proof.verify(r, p, opt.Skip)
}

// checkShape checks counts, amounts and the commitment to the message.
func checkShape(p *psbt.Packet, message string) error {
	tx := p.UnsignedTx
	switch {
	case tx.Version != proofVersion:
		return fmt.Errorf("%w: version %d", ErrProof, tx.Version)
	case len(tx.TxIn) < 2, len(p.Inputs) != len(tx.TxIn):
		return fmt.Errorf("%w: %d inputs", ErrProof, len(tx.TxIn))
	case len(tx.TxOut) == 0:
		return fmt.Errorf("%w: no outputs", ErrProof)
	}
	var in, out int64
	for i := range p.Inputs {
		if err := addAmount(&in, p.Inputs[i].WitnessUtxo); err != nil {
			return fmt.Errorf("%w: input %d: %w", ErrProof, i, err)
		}
	}
	for i, o := range tx.TxOut {
		if err := addAmount(&out, o); err != nil {
			return fmt.Errorf("%w: output %d: %w", ErrProof, i, err)
		}
	}
	spend := toSpend(message, p.Inputs[1].WitnessUtxo.PkScript)
	if tx.TxIn[0].PreviousOutPoint != (wire.OutPoint{Hash: spend.TxHash()}) {
		return ErrCommitment
	}
	utxo := p.Inputs[0].WitnessUtxo
	if utxo.Value != 0 || !bytes.Equal(utxo.PkScript, spend.TxOut[0].PkScript) {
		return fmt.Errorf("%w: message input spends something else", ErrProof)
	}
	return nil
}

// addAmount adds a valid amount to a sum, which stays one.
func addAmount(sum *int64, out *wire.TxOut) error {
	if out == nil {
		return errors.New("no witness UTXO")
	}
	if out.Value < 0 || out.Value > btcutil.MaxSatoshi {
		return fmt.Errorf("amount %d", out.Value)
	}
	if *sum += out.Value; *sum > btcutil.MaxSatoshi {
		return errors.New("sum of amounts exceeds all coins")
	}
	return nil
}

func readInput(r *script.Reader, p *psbt.Packet, i int) (ProofInput, error) {
	spend, err := r.Spend(&p.Inputs[i])
	if err != nil {
		return ProofInput{}, fmt.Errorf("%w: input %d: %w", ErrProof, i, err)
	}
	txIn := p.UnsignedTx.TxIn[i]
	in := ProofInput{Outpoint: txIn.PreviousOutPoint, Sequence: txIn.Sequence, Spend: spend}
	in.Tree, err = r.TapTree(&p.Inputs[i])
	switch {
	case errors.Is(err, script.ErrNoField):
	case err != nil:
		return ProofInput{}, fmt.Errorf("%w: input %d: %w", ErrProof, i, err)
	case !bytes.Equal(in.Tree.PkScript(), in.Out.PkScript), in.Tree.Index(in.Leaf) < 0:
		return ProofInput{}, fmt.Errorf("%w: input %d: taptree does not lead to its script", ErrProof, i)
	}
	in.Condition, err = script.Condition(&p.Inputs[i])
	if err != nil && !errors.Is(err, script.ErrNoField) {
		return ProofInput{}, fmt.Errorf("%w: input %d: %w", ErrProof, i, err)
	}
	return in, nil
}

// verify checks signatures, conditions and preimages.
func (p Proof) verify(r *script.Reader, packet *psbt.Packet, skip []bip340.XOnly) error {
	h, err := sighasher(packet)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	for i := range len(p.Inputs) + 1 {
		in := p.Message
		if i > 0 {
			in = p.Inputs[i-1]
			// The message's input has the condition of the first coin.
			if err := in.fulfils(); err != nil {
				return fmt.Errorf("%w: input %d: %w", ErrSignature, i, err)
			}
		}
		if err := r.Verify(h, i, in.Spend); err != nil {
			return fmt.Errorf("%w: input %d: %w", ErrSignature, i, err)
		}
		for _, key := range in.Closure.Keys() {
			if !in.Signed(key) && !slices.Contains(skip, key) {
				return fmt.Errorf("%w: input %d: of %s", ErrUnsigned, i, key)
			}
		}
	}
	return nil
}

// fulfils checks what the leaf wants beside signatures.
func (in ProofInput) fulfils() error {
	if note, ok := in.Closure.(script.Note); ok {
		if len(in.Condition) != 1 || sha256.Sum256(in.Condition[0]) != note.Hash {
			return errors.New("wrong preimage of a note")
		}
		return nil
	}
	if condition := script.ConditionOf(in.Closure); condition != nil {
		return script.Evaluate(condition, in.Condition)
	}
	return nil
}

// weight is the weight of the finished transaction, with 64-byte signatures of
// the keys that have not signed.
func (p Proof) weight(tx *wire.MsgTx) int64 {
	const marker = 2
	w := int64(tx.SerializeSizeStripped())*4 + marker
	for i := range len(p.Inputs) + 1 {
		in := p.Message
		if i > 0 {
			in = p.Inputs[i-1]
		}
		items := 2
		w += int64(sized(len(in.Leaf)) + sized(len(in.ControlBlock)))
		for _, key := range in.Closure.Keys() {
			n := 64
			for _, sig := range in.Signatures {
				if sig.Key == key && sig.Type != txscript.SigHashDefault {
					n++
				}
			}
			items++
			w += int64(sized(n))
		}
		condition := in.Condition
		if i == 0 {
			condition = p.Inputs[0].Condition
		}
		for _, item := range condition {
			items++
			w += int64(sized(len(item)))
		}
		w += int64(wire.VarIntSerializeSize(uint64(items)))
	}
	return w
}

// sized is a witness item's length with its own size.
func sized(n int) int { return n + wire.VarIntSerializeSize(uint64(n)) }
