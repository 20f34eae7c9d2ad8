package arktest

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/arktest/internal/asset"
	"github.com/vigil-ark/vigil/arktest/internal/code"
	"github.com/vigil-ark/vigil/arktest/internal/proof"
	"github.com/vigil-ark/vigil/arktest/internal/tapscript"
	"github.com/vigil-ark/vigil/arktest/internal/txtree"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// offchainTx is an accepted off-chain transaction.
type offchainTx struct {
	txid        string
	ark         *psbt.Packet
	encoded     string                  // fully signed, base64
	checkpoints map[string]*psbt.Packet // by txid; the operator's signature only, until finalized
	inputs      []VTXO
	finalized   bool
}

// submission is one SubmitTx call being checked, in arkd's order (protocol
// section 7.3).
type submission struct {
	p       *process
	set     Settings
	raw     string
	ark     *psbt.Packet
	txid    string
	points  map[string]*psbt.Packet
	order   []wire.OutPoint // VTXOs in the order of the checkpoints given
	vtxos   map[wire.OutPoint]VTXO
	assets  map[int][]asset.Amount
	ins     []spend // in the order of the ark transaction's inputs
	outputs []*wire.TxOut
}

// spend is one VTXO as the rebuilt transactions spend it.
type spend struct {
	vtxo   VTXO
	leaf   *psbt.TaprootTapLeafScript
	tree   tapscript.Tree
	locked uint32 // CLTV value
}

// submitTx checks an off-chain transaction, signs it and marks its inputs.
func (p *process) submitTx(ark string, checkpoints []string) (*offchainTx, error) {
	s := &submission{
		p: p, set: p.op.Settings(), raw: ark, points: map[string]*psbt.Packet{},
		vtxos: map[wire.OutPoint]VTXO{}, assets: map[int][]asset.Amount{},
	}
	if err := s.parse(checkpoints); err != nil {
		return nil, err
	}
	for _, step := range []func() error{s.known, s.inputs, s.signed, s.checkOutputs, s.checkAssets} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	tx, err := s.rebuild()
	if err != nil {
		return nil, err
	}
	return tx, s.accept(tx)
}

func (s *submission) parse(checkpoints []string) error {
	var err error
	if s.ark, err = psbt.NewFromRawBytes(strings.NewReader(s.raw), true); err != nil {
		return code.ArkPSBT.New(code.Meta{"tx": s.raw}, "failed to parse tx: %w", err)
	}
	s.txid = s.ark.UnsignedTx.TxID()
	seen := map[wire.OutPoint]bool{}
	for _, raw := range checkpoints {
		c, err := psbt.NewFromRawBytes(strings.NewReader(raw), true)
		if err != nil {
			return code.CheckpointPSBT.New(code.Meta{"tx": raw}, "failed to parse tx: %w", err)
		}
		id := c.UnsignedTx.TxID()
		if len(c.UnsignedTx.TxIn) < 1 {
			return code.MissingInput.New(code.Meta{"txid": id}, "invalid checkpoint tx %s", id)
		}
		op := c.UnsignedTx.TxIn[0].PreviousOutPoint
		if seen[op] {
			return code.PSBTInput.New(code.Input(id, 0), "duplicated vtxo input %s", op)
		}
		seen[op] = true
		s.points[id] = c
		s.order = append(s.order, op)
	}
	if s.p.op.store.hasOffchain(s.txid) {
		return code.ArkPSBT.New(code.Meta{"tx": s.raw}, "duplicated offchain tx %s", s.txid)
	}
	return nil
}

func (s *submission) known() error {
	var want, got []string
	for _, op := range s.order {
		want = append(want, op.String())
		if v, ok := s.p.op.store.vtxo(op); ok {
			s.vtxos[op] = v
			got = append(got, op.String())
		}
	}
	if len(got) != len(want) {
		return code.VTXONotFound.New(code.Meta{"vtxo_outpoints": want, "got_vtxos": got}, "some vtxos not found")
	}
	for _, op := range s.order {
		if err := s.p.op.checkBan(s.set, s.vtxos[op].PkScript(), op.String()); err != nil {
			return err
		}
		if s.p.op.store.pendingSpend(op) {
			return code.AlreadySpent.New(code.Outpoint(op.String()), "%s already spent", op)
		}
	}
	if op, ok := s.p.queue.includes(s.order); ok {
		return code.AlreadyRegistered.New(code.Outpoint(op.String()), "%s already registered", op)
	}
	return nil
}

func (s *submission) inputs() error {
	used := map[wire.OutPoint]bool{}
	for i, in := range s.ark.UnsignedTx.TxIn {
		c, ok := s.points[in.PreviousOutPoint.Hash.String()]
		if !ok {
			return code.CheckpointMismatch.New(code.Meta{"expected_txid": in.PreviousOutPoint.Hash.String()},
				"invalid checkpoint txs: %s not found", in.PreviousOutPoint.Hash)
		}
		op := c.UnsignedTx.TxIn[0].PreviousOutPoint
		if used[op] {
			return code.Internal.New(nil, "can't find vtxo associated with checkpoint input %s", op)
		}
		used[op] = true
		sp, err := s.input(i, c, s.vtxos[op])
		if err != nil {
			return err
		}
		if len(sp.vtxo.Assets) > 0 {
			s.assets[i] = fromAssets(sp.vtxo.Assets)
		}
		s.ins = append(s.ins, sp)
	}
	return nil
}

// input checks one checkpoint's input against its VTXO.
func (s *submission) input(i int, c *psbt.Packet, v VTXO) (spend, error) {
	in := &c.Inputs[0]
	meta := code.Input(c.UnsignedTx.TxID(), i)
	fail := func(format string, args ...any) (spend, error) {
		return spend{}, code.PSBTInput.New(meta, format, args...)
	}
	if in.WitnessUtxo == nil {
		return fail("missing witness utxo on input %d", i)
	}
	if len(in.TaprootLeafScript) == 0 {
		return fail("missing tapscript leaf on input %d", i)
	}
	if n := len(in.TaprootLeafScript); n != 1 {
		return fail("expected exactly one taproot leaf script on input %d, got %d", i, n)
	}
	leaves, err := tapscript.TapTreeField(in)
	if err != nil || len(leaves) == 0 {
		return fail("missing taptree on input %d", i)
	}
	tree, err := tapscript.NewTree(leaves)
	if err != nil {
		return fail("failed to parse taptree field in tx %s: %s", c.UnsignedTx.TxID(), err)
	}
	if err := s.state(v); err != nil {
		return spend{}, err
	}
	if err := tree.ValidateFor(s.p.op.signerPub(), s.set.Deprecated, s.p.now(), s.set.exitDelay(), s.set.blocksAllowed()); err != nil {
		return spend{}, code.VTXOScript.New(code.Meta{"tapscripts": tree.Hex()}, "%w", err)
	}
	if key := tapscript.XOnly(tree.OutputKey()); key != v.Key {
		return fail("expected %x, got %x", v.Key, key)
	}
	if !bytes.Equal(in.WitnessUtxo.PkScript, v.PkScript()) {
		return fail("witness utxo script mismatch: expected %x, got %x", v.PkScript(), in.WitnessUtxo.PkScript)
	}
	if in.WitnessUtxo.Value != v.Amount {
		return fail("witness utxo value mismatch: expected %d, got %d", v.Amount, in.WitnessUtxo.Value)
	}
	locked, err := s.leaf(i, in.TaprootLeafScript[0].Script, meta)
	if err != nil {
		return spend{}, err
	}
	if _, err := txscript.ParseControlBlock(in.TaprootLeafScript[0].ControlBlock); err != nil {
		return fail("failed to parse control block %x", in.TaprootLeafScript[0].ControlBlock)
	}
	if len(s.ark.Inputs[i].TaprootLeafScript) == 0 {
		return spend{}, code.PSBTInput.New(code.Input(s.txid, i), "missing taproot leaf script in ark tx input %d", i)
	}
	return spend{vtxo: v, leaf: in.TaprootLeafScript[0], tree: tree, locked: locked}, nil
}

func (s *submission) state(v VTXO) error {
	meta := code.Outpoint(v.Outpoint.String())
	switch {
	case v.Spent:
		return code.AlreadySpent.New(meta, "%s already spent", v.Outpoint)
	case v.Unrolled:
		return code.AlreadyUnrolled.New(meta, "%s already unrolled", v.Outpoint)
	case v.Swept || v.Expired(s.p.now()):
		return code.Recoverable.New(meta, "%s is recoverable", v.Outpoint)
	case v.Note():
		return code.SpendingNote.New(meta, "%s is a note", v.Outpoint)
	}
	return nil
}

// leaf checks the kind of leaf spent and that its lock is reached.
func (s *submission) leaf(i int, script []byte, meta code.Meta) (uint32, error) {
	c, err := tapscript.Decode(script)
	if err != nil {
		return 0, code.PSBTInput.New(meta, "%w", err)
	}
	if c.Exit() {
		return 0, code.PSBTInput.New(meta, "invalid spending tapscript on input %d: %x", i, script)
	}
	if c.Kind != tapscript.CLTVMultisig {
		return 0, nil
	}
	if kind, now := s.p.op.lockReached(c.Locktime); now >= 0 {
		return 0, code.ClosureLocked.New(code.Meta{"locktime": c.Locktime, "current_locktime": now, "type": kind},
			"%d > %d (block%s)", c.Locktime, now, kind)
	}
	return c.Locktime, nil
}

// signed wants somebody's signature, not the operator's, on every input.
func (s *submission) signed() error {
	signer := tapscript.XOnly(s.p.op.signerPub())
	for i, in := range s.ark.Inputs {
		if len(in.TaprootScriptSpendSig) == 0 {
			return code.PSBTInput.New(code.Input(s.txid, i), "missing tapscript spend sig in ark tx input %d", i)
		}
		has := false
		for _, sig := range in.TaprootScriptSpendSig {
			has = has || !bytes.Equal(sig.XOnlyPubKey, signer[:])
		}
		if !has {
			return code.ArkInputUnsigned.New(code.Input(s.txid, i), "tx %s is not signed", s.txid)
		}
	}
	return nil
}

func (s *submission) checkAssets() error {
	var groups []asset.Group
	for _, o := range s.ark.UnsignedTx.TxOut {
		if asset.IsExtension(o.PkScript) {
			if e, err := asset.Parse(o.PkScript); err == nil {
				groups = e.Groups
			}
		}
	}
	return asset.Validate(s.ark.UnsignedTx, groups, s.assets, s.p.op.store, s.set.MaxAssets)
}

// rebuild makes both kinds of transactions anew and compares, then signs.
func (s *submission) rebuild() (*offchainTx, error) {
	ark, points, err := buildOffchain(s.ins, s.outputs, s.p.op.checkpointScript())
	if err != nil {
		return nil, code.Internal.New(nil, "failed to rebuild ark transaction: %w", err)
	}
	if len(points) != len(s.points) {
		return nil, code.CheckpointMismatch.New(code.Meta{"expected_txid": ""}, "invalid number of checkpoint txs, expected %d got %d", len(points), len(s.points))
	}
	for id := range points {
		if s.points[id] == nil {
			return nil, code.CheckpointMismatch.New(code.Meta{"expected_txid": s.txid}, "invalid checkpoint txs: %s not found", id)
		}
	}
	if got := ark.TxID(); got != s.txid {
		return nil, code.ArkTxMismatch.New(code.Meta{"expected_txid": got, "got_txid": s.txid}, "expected tx %s, got %s", got, s.txid)
	}
	if err := tapscript.VerifyTx(s.ark, s.p.op.signerKeys()); err != nil {
		return nil, code.Signature.New(code.Meta{"tx": s.raw}, "invalid signature in ark tx %s", s.txid)
	}
	return s.sign(points)
}

func (s *submission) sign(points map[string]*psbt.Packet) (*offchainTx, error) {
	for _, key := range s.p.op.signerPrivs() {
		if err := tapscript.Sign(s.ark, key, nil); err != nil {
			return nil, code.Internal.New(nil, "failed to sign ark tx: %w", err)
		}
		for _, c := range points {
			if err := tapscript.Sign(c, key, nil); err != nil {
				return nil, code.Internal.New(nil, "failed to sign checkpoint tx: %w", err)
			}
		}
	}
	final := s.ark.UnsignedTx.Copy()
	for i := range s.ark.Inputs {
		w, err := tapscript.Witness(&s.ark.Inputs[i], nil)
		if err != nil {
			return nil, code.Internal.New(nil, "failed to finalize ark tx: %w", err)
		}
		final.TxIn[i].Witness = w
	}
	if weight := proof.Weigh(final); weight > s.set.MaxTxWeight {
		return nil, code.TxTooLarge.New(code.Meta{"weight": weight, "max_weight": s.set.MaxTxWeight}, "ark tx weight is too high: %d", weight)
	}
	encoded, err := s.ark.B64Encode()
	if err != nil {
		return nil, code.Internal.New(nil, "failed to encode ark tx: %w", err)
	}
	tx := &offchainTx{txid: s.txid, ark: s.ark, encoded: encoded, checkpoints: points}
	for _, in := range s.ins {
		tx.inputs = append(tx.inputs, in.vtxo)
	}
	return tx, nil
}

// accept marks the inputs, unless somebody was faster.
func (s *submission) accept(tx *offchainTx) error {
	st := s.p.op.store
	now := s.p.now()
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, v := range tx.inputs {
		if _, taken := st.pending[v.Outpoint]; taken || st.vtxos[v.Outpoint].Spent {
			return code.AlreadySpent.New(code.Outpoint(v.Outpoint.String()), "%s already spent", v.Outpoint)
		}
	}
	st.offchain[tx.txid] = tx
	for id, c := range tx.checkpoints {
		op := c.UnsignedTx.TxIn[0].PreviousOutPoint
		st.pending[op] = tx.txid
		v := st.vtxos[op]
		v.Spent, v.SpentBy, v.ArkTxid, v.updated = true, id, tx.txid, now.UnixMilli()
	}
	return nil
}

func (s *store) hasOffchain(txid string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.offchain[txid]
	return ok
}

// buildOffchain makes the checkpoints and the ark transaction of protocol
// section 7.1.
func buildOffchain(ins []spend, outs []*wire.TxOut, checkpointLeaf []byte) (*wire.MsgTx, map[string]*psbt.Packet, error) {
	ark := wire.NewMsgTx(3)
	points := map[string]*psbt.Packet{}
	for _, in := range ins {
		ark.LockTime = max(ark.LockTime, in.locked)
		c := wire.NewMsgTx(3)
		c.LockTime = in.locked
		seq := uint32(math.MaxUint32)
		if in.locked != 0 {
			seq--
		}
		c.AddTxIn(&wire.TxIn{PreviousOutPoint: in.vtxo.Outpoint, Sequence: seq})
		tree := tapscript.Tree{Leaves: [][]byte{checkpointLeaf, in.leaf.Script}}
		c.AddTxOut(&wire.TxOut{Value: in.vtxo.Amount, PkScript: tree.PkScript()})
		c.AddTxOut(txtree.Anchor())
		packet, err := psbt.NewFromUnsignedTx(c)
		if err != nil {
			return nil, nil, err
		}
		packet.Inputs[0].WitnessUtxo = &wire.TxOut{Value: in.vtxo.Amount, PkScript: in.vtxo.PkScript()}
		packet.Inputs[0].TaprootLeafScript = []*psbt.TaprootTapLeafScript{in.leaf}
		tapscript.AddTapTree(&packet.Inputs[0], in.tree.Leaves)
		points[c.TxID()] = packet
		ark.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: c.TxHash()}, Sequence: seq})
	}
	for _, o := range outs {
		ark.AddTxOut(o)
	}
	ark.AddTxOut(txtree.Anchor())
	return ark, points, nil
}
