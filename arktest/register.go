package arktest

import (
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/google/uuid"

	"github.com/vigil-ark/vigil/arktest/internal/asset"
	"github.com/vigil-ark/vigil/arktest/internal/code"
	"github.com/vigil-ark/vigil/arktest/internal/fees"
	"github.com/vigil-ark/vigil/arktest/internal/proof"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/lie"
)

// registration is one RegisterIntent call being checked, in arkd's order
// (protocol section 4.4).
type registration struct {
	p       *process
	set     Settings
	now     time.Time
	packet  *psbt.Packet
	raw     rawIntent
	msg     proof.Message
	txid    string
	inputs  []VTXO
	assets  map[int][]asset.Amount // by proof input
	onchain []candidate            // boarding inputs, not yet checked
	offOuts []fees.Output
	onOuts  []fees.Output
	out     intent
}

// candidate is an input that the store does not know, or an unrolled VTXO.
type candidate struct {
	boardingInput
	witness  *wire.TxOut
	sequence uint32
	unrolled bool
}

func (p *process) register(packet *psbt.Packet, msg proof.Message) (string, error) {
	encoded, err := packet.B64Encode()
	if err != nil {
		return "", code.IntentPSBT.New(nil, "failed to encode proof: %w", err)
	}
	r := &registration{
		p: p, set: p.op.Settings(), now: p.op.clock.Now(), packet: packet, msg: msg,
		raw: rawIntent{encoded, msg.Encode()}, txid: packet.UnsignedTx.TxID(), assets: map[int][]asset.Amount{},
	}
	steps := []func() error{r.timeRange, r.checkInputs, r.verify, r.outputs, r.cosigners, r.checkAssets, r.fee, r.boarding}
	if len(packet.UnsignedTx.TxIn) < 2 {
		return "", code.IntentPSBT.New(code.Meta{"tx": r.txid}, "proof misses inputs")
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return "", err
		}
	}
	r.out.id = uuid.NewString()
	r.out.proofTxid, r.out.raw, r.out.inputs, r.out.cosigners = r.txid, r.raw, r.inputs, msg.Cosigners
	if err := p.queue.push(&r.out, r.now); err != nil {
		return "", code.Internal.New(code.Meta{"cosigners_public_keys": msg.Cosigners}, "failed to push intent: %w", err)
	}
	p.op.rec.registered()
	return r.out.id, nil
}

func (r *registration) bad(m string, args ...any) error {
	return code.IntentProof.New(code.Meta{"proof": r.raw.proof, "message": r.raw.message}, m, args...)
}

func (r *registration) timeRange() error { return timeRange(r.msg, r.now) }

func timeRange(m proof.Message, now time.Time) error {
	meta := code.Meta{"valid_at": m.ValidAt, "expire_at": m.ExpireAt, "now": now.Unix()}
	if m.ValidAt > 0 && now.Before(time.Unix(m.ValidAt, 0)) {
		return code.IntentTimeRange.New(meta, "proof of ownership not yet valid")
	}
	if m.ExpireAt > 0 && now.After(time.Unix(m.ExpireAt, 0)) {
		return code.IntentTimeRange.New(meta, "proof of ownership expired")
	}
	return nil
}

func (r *registration) checkInputs() error {
	seen := map[wire.OutPoint]bool{}
	for i, in := range r.packet.UnsignedTx.TxIn[1:] {
		op := in.PreviousOutPoint
		if seen[op] {
			return r.bad("duplicated input %s", op)
		}
		seen[op] = true
		if err := r.checkInput(i+1, op); err != nil {
			return err
		}
	}
	return nil
}

func (r *registration) checkInput(i int, op wire.OutPoint) error {
	in := &r.packet.Inputs[i]
	st := r.p.op.store
	if len(in.TaprootLeafScript) == 0 {
		return code.PSBTInput.New(code.Input(r.txid, i), "missing taproot leaf script on input %d", i)
	}
	if in.WitnessUtxo == nil {
		return code.PSBTInput.New(code.Input(r.txid, int(op.Index)), "missing witness utxo for input %s", op)
	}
	if st.pendingSpend(op) {
		return code.AlreadySpent.New(code.Outpoint(op.String()), "vtxo %s is currently being spent", op)
	}
	leaves, _ := tapscript.TapTreeField(in) // not always required
	c := candidate{
		boardingInput: boardingInput{outpoint: op, leaves: leaves},
		witness:       in.WitnessUtxo, sequence: r.packet.UnsignedTx.TxIn[i].Sequence,
	}
	v, known := st.vtxo(op)
	if !known {
		if len(r.msg.Onchain) > 0 {
			return r.bad("cannot include onchain inputs and outputs")
		}
		if tree, err := tapscript.NewTree(leaves); err == nil {
			if err := r.p.op.checkBan(r.set, tree.PkScript(), op.String()); err != nil {
				return err
			}
		}
		r.onchain = append(r.onchain, c)
		return nil
	}
	if err := r.p.op.checkBan(r.set, v.PkScript(), op.String()); err != nil {
		return err
	}
	if v.Spent {
		return code.AlreadySpent.New(code.Outpoint(op.String()), "input %s already spent", op)
	}
	if !v.Unrolled {
		if err := r.checkVTXO(i, v, leaves, c); err != nil {
			return err
		}
	} else {
		c.unrolled = true
		r.onchain = append(r.onchain, c)
	}
	r.inputs = append(r.inputs, v)
	if len(v.Assets) > 0 {
		r.assets[i] = fromAssets(v.Assets)
	}
	return nil
}

func (r *registration) checkVTXO(i int, v VTXO, leaves [][]byte, c candidate) error {
	meta := code.Input(r.txid, int(v.Outpoint.Index))
	if gap := r.set.SettlementGap; gap > 0 && !v.Swept {
		if limit := r.now.Add(gap); time.Unix(v.ExpiresAt, 0).After(limit) {
			return code.PSBTInput.New(meta, "vtxo %s expires after %s (minExpiryGap: %s)", v.Outpoint, limit, gap)
		}
	}
	if c.witness.Value != v.Amount {
		return code.PSBTInput.New(meta, "witness utxo value mismatch: got %d expected %d", c.witness.Value, v.Amount)
	}
	if string(c.witness.PkScript) != string(v.PkScript()) {
		return code.PSBTInput.New(meta, "invalid witness utxo script: got %x expected %x", c.witness.PkScript, v.PkScript())
	}
	if !v.NeedsForfeit(r.now) {
		return nil
	}
	if len(leaves) == 0 {
		return code.PSBTInput.New(meta, "missing taptree for input %s", v.Outpoint)
	}
	return r.checkScript(i, v, leaves, c.sequence)
}

// checkScript validates the leaf list of a VTXO that needs a forfeit.
func (r *registration) checkScript(i int, v VTXO, leaves [][]byte, sequence uint32) error {
	tree, err := tapscript.NewTree(leaves)
	meta := code.Meta{"tapscripts": tapscript.Tree{Leaves: leaves}.Hex()}
	if err != nil {
		return code.VTXOScript.New(meta, "failed to parse vtxo taproot tree: %w", err)
	}
	smallest, err := tree.SmallestExit()
	if err != nil {
		return code.VTXOScript.New(meta, "failed to get smallest exit delay: %w", err)
	}
	op := r.p.op
	if err := tree.ValidateFor(op.signerPub(), r.set.Deprecated, r.now, r.set.exitDelay(), r.set.blocksAllowed()); err != nil {
		return code.VTXOScript.New(meta, "invalid vtxo script: %w", err)
	}
	if lock, ok := tapscript.InputLock(sequence); ok {
		delta := r.now.Unix() + smallest.InSeconds() - v.CreatedAt
		if diff := lock - delta; diff > 0 {
			return code.VTXOScript.New(meta, "vtxo script can be used for intent registration in %d seconds", diff)
		}
	}
	if got := tapscript.XOnly(tree.OutputKey()); got != v.Key {
		return code.PSBTInput.New(code.Input(r.txid, i), "taproot key mismatch: got %x expected %x", got, v.Key)
	}
	return nil
}

func (r *registration) verify() error {
	keys := r.p.op.signerKeys()
	if err := proof.Verify(r.packet, r.raw.message, keys); err != nil {
		return r.bad("invalid intent proof: %w", err)
	}
	weight, err := proof.Weight(r.packet, keys)
	if err != nil {
		return code.Internal.New(code.Meta{"proof": r.txid}, "failed to finalize proof: %w", err)
	}
	if weight > r.set.MaxTxWeight {
		return code.TxTooLarge.New(code.Meta{"weight": weight, "max_weight": r.set.MaxTxWeight}, "proof weight is too high: %d", weight)
	}
	return nil
}

func (r *registration) cosigners() error {
	if !slices.ContainsFunc(r.out.receivers, func(x receiver) bool { return !x.onchain }) {
		return nil
	}
	meta := code.Meta{"message": map[string]any{"type": r.msg.Type}}
	if len(r.msg.Cosigners) == 0 {
		return code.IntentMessage.New(meta, "CosignersPublicKeys is required in intent message")
	}
	if slices.Contains(r.msg.Cosigners, r.p.key.hex) {
		return code.IntentMessage.New(meta, "invalid cosigner pubkeys: %x is used by us", r.p.key.hex)
	}
	return nil
}

func (r *registration) checkAssets() error {
	var groups []asset.Group
	var ext *asset.Extension
	for _, o := range r.packet.UnsignedTx.TxOut {
		if asset.IsExtension(o.PkScript) {
			ext, _ = asset.Parse(o.PkScript) // parsed in outputs already
			groups = ext.Groups
		}
	}
	if err := asset.Validate(r.packet.UnsignedTx, groups, r.assets, r.p.op.store, r.set.MaxAssets); err != nil {
		return err
	}
	if slices.ContainsFunc(groups, asset.Group.Issuance) {
		return r.bad("intent contains asset issuance")
	}
	if ext != nil {
		r.out.extension = ext.ForLeaf(r.packet.UnsignedTx.TxHash()).Script()
	}
	return nil
}

func (r *registration) fee() error {
	if len(r.out.receivers) == 0 {
		return code.Internal.New(nil, "failed to add receivers to intent: missing outputs")
	}
	got, ok := proof.Fee(r.packet)
	if !ok {
		return r.bad("failed to compute intent fees: sum of inputs is smaller than sum of outputs (diff: %d)", got)
	}
	var offIn []fees.OffchainInput
	for _, v := range r.inputs {
		if !v.Unrolled {
			offIn = append(offIn, feeInput(v, r.now))
		}
	}
	var onIn []int64
	for _, c := range r.onchain {
		onIn = append(onIn, c.witness.Value)
	}
	want, err := r.p.op.estimator().Fee(offIn, onIn, r.offOuts, r.onOuts)
	if err != nil {
		return code.Internal.New(nil, "failed to get intent fees: %w", err)
	}
	if r.p.op.standing(lie.InfoFee) {
		want += 1000
	}
	if got < want {
		return code.InsufficientFee.New(code.Meta{"min_fee": want, "actual_fee": got}, "got %d min expected %d", got, want)
	}
	return nil
}

func feeInput(v VTXO, now time.Time) fees.OffchainInput {
	typ := fees.TypeVTXO
	switch {
	case v.Note():
		typ = fees.TypeNote
	case v.Swept || v.Expired(now) && !v.Spent:
		typ = fees.TypeRecoverable
	}
	return fees.OffchainInput{Amount: v.Amount, Expiry: v.ExpiresAt, Birth: v.CreatedAt, Type: typ}
}

// outputs reads what the intent asks for. As in arkd every output but the
// extension counts as an off-chain one for fees, on-chain ones too.
func (r *registration) outputs() error {
	if !proof.HasOutputs(r.packet) {
		return r.bad("proof does not contain outputs")
	}
	extension := false
	for i, o := range r.packet.UnsignedTx.TxOut {
		if asset.IsExtension(o.PkScript) {
			if extension {
				return code.IntentPSBT.New(nil, "intent proof has several extension outputs")
			}
			extension = true
			if o.Value != 0 {
				return code.IntentPSBT.New(nil, "extension output #%d has non-zero value (%d)", i, o.Value)
			}
			if _, err := asset.Parse(o.PkScript); err != nil {
				return r.bad("invalid extension output %x", o.PkScript)
			}
			continue
		}
		onchain := slices.Contains(r.msg.Onchain, i)
		var err error
		if onchain {
			err = checkOnchain(r.set, i, o)
		} else {
			err = checkRange(i, o.Value, r.set.VtxoMax, r.set.Dust, "vtxo")
		}
		if err != nil {
			return err
		}
		feeOut := fees.Output{Amount: o.Value, Script: hex.EncodeToString(o.PkScript)}
		if onchain {
			r.onOuts = append(r.onOuts, feeOut)
		}
		r.offOuts = append(r.offOuts, feeOut)
		r.out.receivers = append(r.out.receivers, receiver{o.Value, o.PkScript, onchain})
	}
	return nil
}

func checkRange(i int, amount, most, least int64, what string) error {
	if most >= 0 && amount > most {
		return code.AmountTooHigh.New(code.Meta{"output_index": i, "amount": amount, "max_amount": most},
			"output %d amount is higher than max %s amount: %d", i, what, most)
	}
	if amount < least {
		return code.AmountTooLow.New(code.Meta{"output_index": i, "amount": amount, "min_amount": least},
			"output %d amount is lower than min %s amount: %d", i, what, least)
	}
	return nil
}

var errNotStandard = errors.New("invalid script type")
