package client

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/asset"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
)

var (
	// ErrFunds is returned when the coins do not cover what is asked.
	ErrFunds = errors.New("client: the coins do not cover this")
	// ErrDust is returned for an amount below the operator's dust.
	ErrDust = errors.New("client: the amount is below dust")
	// ErrUnknownScript is returned for a coin whose script is not the wallet's.
	ErrUnknownScript = errors.New("client: a coin of an unknown script")
	// ErrAddress is returned for an address of another network or operator.
	ErrAddress = errors.New("client: not an address to pay to")
)

// arkVersion is that of checkpoints, forfeits and ark transactions, and of the
// child that pays for a unilateral exit (TRUC).
const arkVersion = 3

// coin is a VTXO or an on-chain coin with its script and the leaf to spend.
type coin struct {
	ark.VTXO
	desc     descriptor.Descriptor // of the generation of its script; zero where nobody asks
	tree     script.Tree
	leaf     int
	boarding bool
	under    vigil.DelegateID // the delegate over it that still counts; zero: none, or not asked
	// confirmed is for a coin on chain.
	confirmed bool
}

// sequence is what an input of the coin's leaf carries: none, or for an exit
// leaf its delay.
func (c coin) sequence(r *script.Reader) (uint32, error) {
	closure, err := r.Decode(c.tree.Leaves()[c.leaf])
	if err != nil {
		return 0, err
	}
	if csv, ok := closure.(script.CSVMultisig); ok {
		return csv.Sequence, nil
	}
	return wire.MaxTxInSequenceNum, nil
}

// job is one signature over what the device built.
type job struct {
	packet *psbt.Packet
	input  int
	leaf   []byte
	typ    txscript.SigHashType
	msg    [32]byte
}

// jobsOf are the signatures of a packet's inputs, each of which spends its one
// leaf: of these inputs, or of all when none is named.
func jobsOf(p *psbt.Packet, typ txscript.SigHashType, inputs ...int) ([]job, error) {
	outs := make([]*wire.TxOut, len(p.Inputs))
	for i := range p.Inputs {
		outs[i] = p.Inputs[i].WitnessUtxo
	}
	h, err := script.NewSighasher(p.UnsignedTx, outs)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if len(inputs) == 0 {
		inputs = make([]int, len(p.Inputs))
		for i := range inputs {
			inputs[i] = i
		}
	}
	jobs := make([]job, len(inputs))
	for at, i := range inputs {
		if n := len(p.Inputs[i].TaprootLeafScript); n != 1 {
			return nil, fmt.Errorf("client: input %d has %d leaves", i, n)
		}
		leaf := p.Inputs[i].TaprootLeafScript[0].Script
		msg, err := h.Tapscript(i, leaf, typ)
		if err != nil {
			return nil, fmt.Errorf("client: input %d: %w", i, err)
		}
		jobs[at] = job{p, i, leaf, typ, msg}
	}
	return jobs, nil
}

// put places a signature in the packet, verified.
func (j job) put(key bip340.XOnly, sig [64]byte) error {
	if !bip340.Verify(key, j.msg[:], sig) {
		return fmt.Errorf("client: input %d: the signature does not verify", j.input)
	}
	j.place(key, sig)
	return nil
}

// place is put for a signature that was verified over the job's message and under
// this key: one of Aggregate's.
func (j job) place(key bip340.XOnly, sig [64]byte) {
	script.AddSignature(&j.packet.Inputs[j.input], j.leaf, script.Signature{Key: key, Type: j.typ, Sig: sig})
}

// proof is an intent that is built and not signed yet.
type proof struct {
	message string
	packet  *psbt.Packet
	jobs    []job
}

// newProof builds a proof of ownership over coins, each on its leaf.
func newProof(message intent.Message, coins []coin, outs []*wire.TxOut) (proof, error) {
	text, err := message.Encode()
	if err != nil {
		return proof{}, err
	}
	inputs := make([]intent.Input, len(coins))
	r := script.NewReader()
	for i, c := range coins {
		seq, err := c.sequence(r)
		if err != nil {
			return proof{}, err
		}
		inputs[i] = intent.Input{
			Outpoint: c.Outpoint, Out: wire.NewTxOut(c.Amount, c.tree.PkScript()),
			Sequence: seq, Tree: c.tree, Leaf: c.leaf,
		}
	}
	p, err := intent.BuildProof(text, inputs, outs)
	if err != nil {
		return proof{}, err
	}
	jobs, err := jobsOf(p, txscript.SigHashDefault)
	return proof{text, p, jobs}, err
}

func (p proof) txid() chainhash.Hash { return intent.Txid(p.packet) }

// charge is what the operator asks for an intent over coins with these outputs.
func charge(e *fee.Estimator, coins []coin, outs, onchain []*wire.TxOut, now int64, worst bool) (int64, error) {
	var ins []fee.InputArg
	for _, c := range coins {
		if c.boarding || c.Unrolled {
			ins = append(ins, fee.InputArg{Amount: c.Amount, Onchain: true})
			continue
		}
		ins = append(ins, fee.InputArg{Amount: c.Amount, Expiry: c.ExpiresAt, Birth: c.CreatedAt, Type: fee.TypeOf(c.VTXO, now)})
	}
	var args []fee.OutputArg
	for _, o := range outs {
		if !asset.IsExtension(o.PkScript) {
			args = append(args, fee.OutputArg{Amount: o.Value, Script: o.PkScript})
		}
	}
	for _, o := range onchain {
		args = append(args, fee.OutputArg{Amount: o.Value, Script: o.PkScript, Onchain: true})
	}
	f, err := e.Fee(ins, args, now)
	if err != nil || !worst {
		return f, err
	}
	// A delegate runs later: the coin may be recoverable by then, at another price.
	for i := range ins {
		if ins[i].Type == fee.VTXO {
			ins[i].Type = fee.Recoverable
		}
	}
	r, err := e.Fee(ins, args, now)
	return max(f, r), err
}

// balance sets rest to all that the coins have beyond the other outputs and the
// operator's fee, which may depend on it.
func balance(e *fee.Estimator, coins []coin, outs, onchain []*wire.TxOut, rest *wire.TxOut, now int64, worst bool) error {
	var have int64
	for _, c := range coins {
		have += c.Amount
	}
	for _, o := range slices.Concat(outs, onchain) {
		if o != rest {
			have -= o.Value
		}
	}
	rest.Value = have
	for range 8 {
		f, err := charge(e, coins, outs, onchain, now, worst)
		if err != nil {
			return err
		}
		if rest.Value+f <= have {
			return nil
		}
		if rest.Value = have - f; rest.Value < 0 {
			break
		}
	}
	return fmt.Errorf("%w: fees leave nothing of %d", ErrFunds, have)
}

// carry appends the extension output that passes every unit of the coins' assets
// on to output number to. In a proof input 0 is the message: first is 1 there.
func carry(coins []coin, outs []*wire.TxOut, to, first int) ([]*wire.TxOut, error) {
	var packet asset.Packet
	for i, c := range coins {
		held, err := asset.HoldingsOf(c.VTXO)
		if err != nil {
			return nil, err
		}
		for _, h := range held {
			at := slices.IndexFunc(packet, func(g asset.Group) bool { return *g.ID == h.ID })
			if at < 0 {
				at = len(packet)
				packet = append(packet, asset.Group{ID: &h.ID, Outputs: []asset.Output{{Vout: uint16(to)}}})
			}
			g := &packet[at]
			g.Inputs = append(g.Inputs, asset.Input{Vin: uint16(i + first), Amount: h.Amount})
			g.Outputs[0].Amount += h.Amount
		}
	}
	if len(packet) == 0 {
		return outs, nil
	}
	if err := packet.Validate(); err != nil {
		return nil, err
	}
	s, err := asset.Extension{{Type: asset.TypeAsset, Data: packet.Encode()}}.Script()
	if err != nil {
		return nil, err
	}
	return append(outs, wire.NewTxOut(0, s)), nil
}

// inLeaf are a proof's off-chain outputs as they stand in the batch's leaf.
func inLeaf(outs []*wire.TxOut, proof chainhash.Hash) ([]*wire.TxOut, error) {
	outs = slices.Clone(outs)
	for i, o := range outs {
		if !asset.IsExtension(o.PkScript) {
			continue
		}
		s, err := asset.LeafScript(o.PkScript, proof)
		if err != nil {
			return nil, err
		}
		outs[i] = wire.NewTxOut(o.Value, s)
	}
	return outs, nil
}

// payment is an ark transaction with the checkpoints that it spends (protocol
// section 7.1).
type payment struct {
	id          chainhash.Hash
	tx          *psbt.Packet
	checkpoints []*psbt.Packet // in the order of the inputs
}

// newPayment builds one checkpoint for every coin and the transaction that
// spends them all.
func newPayment(coins []coin, outs []*wire.TxOut, checkpointLeaf []byte) (payment, error) {
	var p payment
	var between []coin
	for _, c := range coins {
		leaf, _ := c.tree.LeafProof(c.leaf)
		tree, err := script.NewTree([][]byte{checkpointLeaf, leaf})
		if err != nil {
			return payment{}, fmt.Errorf("client: checkpoint: %w", err)
		}
		cp, err := virtual([]coin{c}, []*wire.TxOut{wire.NewTxOut(c.Amount, tree.PkScript())})
		if err != nil {
			return payment{}, err
		}
		p.checkpoints = append(p.checkpoints, cp)
		between = append(between, coin{
			VTXO: ark.VTXO{Outpoint: wire.OutPoint{Hash: cp.UnsignedTx.TxHash()}, Amount: c.Amount, Script: tree.PkScript()},
			tree: tree, leaf: 1, // after the operator's
		})
	}
	var err error
	if p.tx, err = virtual(between, outs); err != nil {
		return payment{}, err
	}
	p.id = p.tx.UnsignedTx.TxHash()
	return p, nil
}

// virtual is an off-chain transaction over coins, the anchor its last output.
func virtual(coins []coin, outs []*wire.TxOut) (*psbt.Packet, error) {
	tx := wire.NewMsgTx(arkVersion)
	for _, c := range coins {
		tx.AddTxIn(wire.NewTxIn(&c.Outpoint, nil, nil))
	}
	for _, out := range outs {
		tx.AddTxOut(out)
	}
	tx.AddTxOut(ark.AnchorOut())
	p, err := psbt.NewFromUnsignedTx(tx)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	for i, c := range coins {
		in := &p.Inputs[i]
		in.WitnessUtxo = wire.NewTxOut(c.Amount, c.tree.PkScript())
		if err := script.SetLeaf(in, c.tree, c.leaf); err != nil {
			return nil, err
		}
		script.SetTapTree(in, c.tree)
	}
	return p, nil
}

// payTo is an off-chain output; below dust it has the form that cannot be
// unrolled by itself (protocol section 3.5).
func payTo(key bip340.XOnly, sats, dust int64) *wire.TxOut {
	if sats < dust {
		return wire.NewTxOut(sats, ark.SubDust(key))
	}
	return wire.NewTxOut(sats, ark.PayToTaproot(key))
}

// finalTx makes the transaction of a packet whose every input is fully signed:
// key-path spends, and tapscript spends of plain signatures.
func finalTx(p *psbt.Packet) (*wire.MsgTx, error) {
	tx := p.UnsignedTx.Copy()
	r := script.NewReader()
	for i := range p.Inputs {
		in := &p.Inputs[i]
		if in.TaprootKeySpendSig != nil {
			tx.TxIn[i].Witness = wire.TxWitness{in.TaprootKeySpendSig}
			continue
		}
		s, err := r.Spend(in)
		if err != nil {
			return nil, fmt.Errorf("client: input %d: %w", i, err)
		}
		var witness wire.TxWitness
		for _, key := range slices.Backward(s.Closure.Keys()) {
			at := slices.IndexFunc(s.Signatures, func(sig script.Signature) bool { return sig.Key == key })
			if at < 0 {
				return nil, fmt.Errorf("client: input %d: %s has not signed", i, key)
			}
			sig := s.Signatures[at]
			raw := slices.Clone(sig.Sig[:])
			if sig.Type != txscript.SigHashDefault {
				raw = append(raw, byte(sig.Type))
			}
			witness = append(witness, raw)
		}
		tx.TxIn[i].Witness = append(witness, s.Leaf, s.ControlBlock)
	}
	return tx, nil
}

// inputSize is what an input of the wallet's script adds to a packet, signed and with
// its leaves revealed, in bytes and rounded up.
const inputSize = 1 << 10

// encoded is a packet in base64, and raw bytes of a transaction for the store.
func encoded(p *psbt.Packet) (string, error) {
	var buf bytes.Buffer
	buf.Grow((1 + len(p.Inputs)) * inputSize)
	if err := p.Serialize(&buf); err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	return base64.StdEncoding.EncodeToString(buf.Bytes()), nil
}

func rawTx(tx *wire.MsgTx) []byte {
	var buf bytes.Buffer
	_ = tx.Serialize(&buf) // a buffer takes everything
	return buf.Bytes()
}
