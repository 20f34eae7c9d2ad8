package spend

import (
	"bytes"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/asset"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

const (
	// virtual is the version of every transaction that hangs off chain: 3, TRUC.
	virtual = 3
	// checkpointLeaf is the index of the wallet's leaf in a checkpoint's output,
	// after the operator's own.
	checkpointLeaf = 1
)

// payment is an ark transaction with the checkpoints that it spends, verified to
// be built as protocol section 7.1 says from the wallet's coins.
type payment struct {
	tx          *psbt.Packet
	checkpoints []*psbt.Packet
	coins       []owned // whose leaf each checkpoint spends
}

// arkTx reads an off-chain payment: its sighashes are of the ark transaction's
// inputs.
func (p *parser) arkTx(doc *vigilpb.ArkTxDocument) (*Spend, error) {
	_, s, err := p.readPayment(doc.GetTx(), doc.GetCheckpoints())
	return s, err
}

// checkpoints reads the second half of a payment: the operator has signed both
// halves, and the group the first, so that this half gives away no more.
func (p *parser) checkpoints(doc *vigilpb.CheckpointDocument) (*Spend, error) {
	pay, s, err := p.readPayment(doc.GetArkTx(), doc.GetCheckpoints())
	if err != nil {
		return nil, err
	}
	signers := make([][]bip340.XOnly, len(pay.coins))
	for i, own := range pay.coins {
		signers[i] = []bip340.XOnly{p.Group.XOnly(), own.desc.Signer}
	}
	if err := p.signedBy(pay.tx, "the ark transaction", signers...); err != nil {
		return nil, err
	}
	s.Kind, s.Sighashes = Checkpoints, nil
	for i, c := range pay.checkpoints {
		if err := p.signedBy(c, "a checkpoint", signers[i][1:]); err != nil {
			return nil, err
		}
		if err := p.sighashes(s, c, i); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// readPayment reads both halves. Key and sighashes are those of the ark
// transaction.
func (p *parser) readPayment(tx string, checkpoints []string) (payment, *Spend, error) {
	packet, err := p.reader.ParsePSBT(tx, script.StrangerLimits())
	if err != nil {
		return payment{}, nil, invalid("the ark transaction: %w", err)
	}
	if n := len(packet.UnsignedTx.TxIn); n != len(checkpoints) || n == 0 {
		return payment{}, nil, invalid("%d checkpoints for %d inputs", len(checkpoints), n)
	}
	pay := payment{tx: packet}
	s := &Spend{Kind: ArkTx, Txid: packet.UnsignedTx.TxHash()}
	seen := map[wire.OutPoint]bool{}
	for i, b64 := range checkpoints {
		in, err := p.checkpoint(&pay, i, b64)
		if err != nil {
			return payment{}, nil, err
		}
		if seen[in.Outpoint] {
			return payment{}, nil, vigil.Errorf(vigil.CodeDuplicateInput, "%s is spent twice", in.Outpoint)
		}
		seen[in.Outpoint] = true
		s.Inputs = append(s.Inputs, in)
	}
	if err := checkVirtual(packet.UnsignedTx, "the ark transaction"); err != nil {
		return payment{}, nil, err
	}
	if err := p.payments(s, packet.UnsignedTx); err != nil {
		return payment{}, nil, err
	}
	if err := p.sighashes(s, packet, 0); err != nil {
		return payment{}, nil, err
	}
	for i := range s.Sighashes {
		s.Sighashes[i].Leaf = checkpointLeaf
	}
	s.Key = s.Sighashes[0].Message
	return pay, s, nil
}

// checkVirtual checks what all transactions of Ark have: version, locktime,
// sequences, and the anchor as the last output and no other.
func checkVirtual(tx *wire.MsgTx, what string) error {
	last := len(tx.TxOut) - 1
	switch {
	case tx.Version != virtual:
		return invalid("%s has version %d", what, tx.Version)
	case tx.LockTime != 0:
		return invalid("%s has locktime %d", what, tx.LockTime)
	case last < 1 || !ark.IsAnchor(tx.TxOut[last]):
		return invalid("%s pays nothing, or its last output is no anchor", what)
	}
	for i, out := range tx.TxOut[:last] {
		if string(out.PkScript) == ark.Anchor {
			return invalid("output %d of %s is an anchor", i, what)
		}
	}
	for i, in := range tx.TxIn {
		if in.Sequence != wire.MaxTxInSequenceNum {
			return invalid("input %d of %s has the sequence %#x", i, what, in.Sequence)
		}
	}
	return nil
}

// checkpoint checks the checkpoint that input i of the ark transaction spends:
// one coin of the wallet, on the leaf of group and operator, into the checkpoint
// script of that leaf, whole.
func (p *parser) checkpoint(pay *payment, i int, b64 string) (Input, error) {
	c, err := p.reader.ParsePSBT(b64, script.StrangerLimits())
	if err != nil {
		return Input{}, invalid("checkpoint %d: %w", i, err)
	}
	tx := c.UnsignedTx
	if len(tx.TxIn) != 1 || len(tx.TxOut) != 2 {
		return Input{}, invalid("checkpoint %d has %d inputs and %d outputs", i, len(tx.TxIn), len(tx.TxOut))
	}
	if err := checkVirtual(tx, "a checkpoint"); err != nil {
		return Input{}, err
	}
	own, in, err := p.forfeitable(&c.Inputs[0], tx.TxIn[0].PreviousOutPoint)
	if err != nil {
		return Input{}, err
	}
	if in.Script == BoardingScript {
		return Input{}, vigil.Errorf(vigil.CodeInputNotOurs, "%s is an on-chain coin: it cannot be spent off chain", in.Outpoint)
	}
	leaf, _ := own.tree.LeafProof(descriptor.LeafForfeit)
	between, err := p.between(own)
	if err != nil {
		return Input{}, err
	}
	if out := tx.TxOut[0]; out.Value != in.Amount || !bytes.Equal(out.PkScript, between.PkScript()) {
		return Input{}, invalid("checkpoint %d does not pay its coin whole to the operator's checkpoint script", i)
	}
	// The ark transaction's input: exactly this output, on exactly that leaf.
	at := wire.OutPoint{Hash: tx.TxHash()}
	if got := pay.tx.UnsignedTx.TxIn[i].PreviousOutPoint; got != at {
		return Input{}, invalid("input %d spends %s, not its checkpoint %s", i, got, at)
	}
	s, err := p.reader.Spend(&pay.tx.Inputs[i])
	switch {
	case err != nil:
		return Input{}, invalid("input %d: %w", i, err)
	case s.Out.Value != in.Amount || !bytes.Equal(s.Out.PkScript, between.PkScript()):
		return Input{}, invalid("input %d shows another output than its checkpoint's", i)
	case !bytes.Equal(s.Leaf, leaf):
		return Input{}, vigil.Errorf(vigil.CodeInputNotOurs, "input %d is not on the leaf of group and operator", i)
	}
	if err := onlyDefault(i, s.Signatures); err != nil {
		return Input{}, err
	}
	pay.checkpoints, pay.coins = append(pay.checkpoints, c), append(pay.coins, own)
	return in, nil
}

// between is the script of a checkpoint's output, kept per script of ours.
func (p *parser) between(own owned) (script.Tree, error) {
	if t, ok := p.middles[string(own.pkScript)]; ok {
		return t, nil
	}
	t, err := CheckpointTree(p.Params, own.tree)
	if err != nil {
		return script.Tree{}, err
	}
	p.middles[string(own.pkScript)] = t
	return t, nil
}

// CheckpointTree is the script of the output of a checkpoint that spends a coin
// of the given script on its leaf of group and operator (protocol section 7.1):
// the operator's checkpoint leaf, and that leaf. The operator's must be one of its
// forfeit key alone, after a delay.
func CheckpointTree(params ark.Params, tree script.Tree) (script.Tree, error) {
	c, err := script.Decode(params.CheckpointScript)
	if err != nil {
		return script.Tree{}, invalid("the operator's checkpoint script: %w", err)
	}
	csv, ok := c.(script.CSVMultisig)
	if !ok || len(csv.PubKeys) != 1 || csv.PubKeys[0] != params.ForfeitKey.XOnly() {
		return script.Tree{}, invalid("the operator's checkpoint script is not its forfeit key after a delay")
	}
	leaf, _ := tree.LeafProof(descriptor.LeafForfeit)
	return script.NewTree([][]byte{params.CheckpointScript, leaf})
}

// forfeitable reads an input that spends a coin of the wallet on the leaf of
// group and operator.
func (p *parser) forfeitable(in *psbt.PInput, op wire.OutPoint) (owned, Input, error) {
	own, input, err := p.coin(op, in.WitnessUtxo)
	if err != nil {
		return owned{}, Input{}, err
	}
	s, err := p.reader.Spend(in)
	switch {
	case err != nil:
		return owned{}, Input{}, invalid("%s: %w", op, err)
	case own.tree.Index(s.Leaf) != descriptor.LeafForfeit:
		return owned{}, Input{}, vigil.Errorf(vigil.CodeInputNotOurs, "%s is not spent on the leaf of group and operator", op)
	}
	return own, input, onlyDefault(0, s.Signatures)
}

// payments reads the outputs of an ark transaction, which leaves no fee.
func (p *parser) payments(s *Spend, tx *wire.MsgTx) error {
	var in, out int64
	for _, i := range s.Inputs {
		if i.Amount < 0 || i.Amount > btcutil.MaxSatoshi-in {
			return invalid("%s holds %d", i.Outpoint, i.Amount)
		}
		in += i.Amount
	}
	for i, o := range tx.TxOut[:len(tx.TxOut)-1] {
		if o.Value < 0 || o.Value > btcutil.MaxSatoshi-out {
			return invalid("output %d pays %d", i, o.Value)
		}
		out += o.Value
		switch {
		case asset.IsExtension(o.PkScript):
			if o.Value != 0 {
				return invalid("output %d, an extension, has a value", i)
			}
		case p.own(o.PkScript):
			s.Own = append(s.Own, Output{o.Value, payee(o.PkScript)})
		default:
			s.Foreign = append(s.Foreign, Output{o.Value, payee(o.PkScript)})
		}
	}
	if in != out {
		return invalid("inputs hold %d, outputs pay %d: an ark transaction leaves no fee", in, out)
	}
	coins := map[int]Input{}
	for i, c := range s.Inputs {
		coins[i] = c
	}
	var err error
	if s.Assets, err = p.conserved(tx, coins); err != nil {
		return coded(err, vigil.CodeAssetsNotConserved)
	}
	return nil
}

// payee is the script of whoever an off-chain output pays: an amount below dust
// stands under another form of it.
func payee(pkScript []byte) []byte {
	if key, ok := ark.SubDustKey(pkScript); ok {
		return ark.PayToTaproot(key)
	}
	return bytes.Clone(pkScript)
}

// signedBy verifies that every input of a packet carries a valid signature of
// each of its keys, with SIGHASH_DEFAULT.
func (p *parser) signedBy(packet *psbt.Packet, what string, keys ...[]bip340.XOnly) error {
	outs := make([]*wire.TxOut, len(packet.Inputs))
	for i := range packet.Inputs {
		outs[i] = packet.Inputs[i].WitnessUtxo
	}
	h, err := script.NewSighasher(packet.UnsignedTx, outs)
	if err != nil {
		return invalid("%s: %w", what, err)
	}
	for i := range packet.Inputs {
		s, err := p.reader.Spend(&packet.Inputs[i])
		if err == nil {
			err = p.reader.Verify(h, i, s)
		}
		if err != nil {
			return vigil.Errorf(vigil.CodeSignatureInvalid, "%s: input %d: %w", what, i, err)
		}
		for _, key := range keys[i] {
			if !s.Signed(key) {
				return vigil.Errorf(vigil.CodeSignatureInvalid, "%s: input %d lacks the signature of %s", what, i, key)
			}
		}
	}
	return nil
}
