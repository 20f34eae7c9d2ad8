package delegate

import (
	"bytes"
	"slices"

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

// WalletBody is a delegate as a device submits it: signed by its wallet's group
// under an id and a tree key that were issued when it was prepared.
type WalletBody struct {
	ID            vigil.DelegateID
	Message       string   // canonical register message
	Proof         string   // base64 PSBT
	Forfeits      []string // base64 PSBTs
	DeleteMessage string   // canonical delete message
	DeleteProof   string   // base64 PSBT over one of the inputs
}

// WalletRequest is a decoded body. Nothing of it is verified yet.
type WalletRequest struct {
	request
	deletion   *psbt.Packet
	deleteText string
	delete64   string
}

// ParseWallet decodes a body within limits, without any curve work. The error is
// a *vigil.Error.
func ParseWallet(body WalletBody, limits StockLimits) (*WalletRequest, error) {
	reader := script.NewReader()
	r, err := parse(reader, body.Message, body.Proof, body.Forfeits, limits)
	if err != nil {
		return nil, err
	}
	r.id = body.ID
	if len(body.DeleteMessage) > maxMessage {
		return nil, vigil.Errorf(vigil.CodeInvalidMessage, "the delete message has %d bytes, at most %d are taken", len(body.DeleteMessage), maxMessage)
	}
	message, err := intent.DecodeCanonical(body.DeleteMessage, intent.Delete)
	if err != nil {
		return nil, vigil.Errorf(vigil.CodeInvalidMessage, "the delete message: %w", err)
	}
	if message.ExpireAt != 0 {
		return nil, vigil.Errorf(vigil.CodeExpireAtInvalid, "the delete message expires; nobody knows when it is needed, so its expire_at must be 0")
	}
	one := script.StrangerLimits()
	one.Inputs, one.Outputs = 2, 1
	deletion, err := reader.ParsePSBT(body.DeleteProof, one)
	if err != nil {
		return nil, vigil.Errorf(vigil.CodeInvalidProof, "the delete proof: %w", err)
	}
	return &WalletRequest{request: *r, deletion: deletion, deleteText: body.DeleteMessage, delete64: body.DeleteProof}, nil
}

// WalletTerms are what a body is held to.
type WalletTerms struct {
	Params ark.Params // as the operator announces them now
	// Estimator is Params.Fees compiled; nil compiles them at every check.
	Estimator  *fee.Estimator
	Descriptor descriptor.Descriptor // of the wallet's current script
	// Older are its descriptors of before: the inputs may lie at the script of one of
	// them, all of one delegate at that of the same.
	Older    []descriptor.Descriptor
	TreeKey  bip340.PubKey // as it was issued with the id
	VTXOs    []ark.VTXO    // the inputs as the operator's indexer reports them; unknown ones left out
	FeeSlack int64         // satoshis that the operator may get beyond 1.25 times its fee, by policy
	// TwoLeaf says that the wallet opted in to delegates of coins at its two-leaf
	// script, whose forfeits nothing pins to a batch (spec section 4).
	TwoLeaf bool
	Now     int64 // unix seconds
}

// CheckWallet holds a request to every rule of intake (spec section 6) and returns
// the record to store: armed, without version. Of a forfeit that is a bearer
// instrument the record has what it signs and not the signature: that is to be
// sealed before the record is stored. Every error is a *vigil.Error with a code of
// its own; nothing has any effect.
func CheckWallet(r *WalletRequest, t WalletTerms) (*Record, error) {
	from := origin(r, t)
	c := &walletCheck{body: r, terms: t, from: from, tree: from.Tree(), intake: intake{
		request: &r.request, params: t.Params, estimator: t.Estimator, slack: t.FeeSlack, known: t.VTXOs, now: t.Now, reader: script.NewReader(),
	}}
	for _, rule := range []func() error{
		c.checkScript, c.checkMessage, c.checkVTXOs, c.checkOwned, c.checkTimes, c.checkProof, c.checkForfeits, c.checkOutputs, c.checkFee,
		c.checkDeletion,
	} {
		if err := rule(); err != nil {
			return nil, asRefusal(err)
		}
	}
	return c.record(), nil
}

// walletCheck is the check of a wallet's delegate.
type walletCheck struct {
	intake
	body     *WalletRequest
	terms    WalletTerms
	from     descriptor.Descriptor // of the script at which the inputs lie
	tree     script.Tree           // that script
	pkScript []byte
	home     []byte // the wallet's current script
}

// origin is the descriptor of the script at which the first input lies: the one of
// before that has it, or else the current one, to which the rules then hold it.
func origin(r *WalletRequest, t WalletTerms) descriptor.Descriptor {
	first := r.Outpoints()[0]
	i := slices.IndexFunc(t.VTXOs, func(v ark.VTXO) bool { return v.Outpoint == first })
	if len(t.Older) == 0 || i < 0 || bytes.Equal(t.VTXOs[i].Script, t.Descriptor.PkScript()) {
		return t.Descriptor
	}
	for _, d := range slices.Backward(append(slices.Clone(t.Older), t.Descriptor)) {
		if bytes.Equal(t.VTXOs[i].Script, d.PkScript()) || bytes.Equal(t.VTXOs[i].Script, d.TwoLeaf().PkScript()) {
			return d
		}
	}
	return t.Descriptor
}

// checkScript: the operator takes the script of the inputs now, and will still when
// the delegate may run.
func (c *walletCheck) checkScript() error {
	if err := script.Validate(c.tree, script.RulesOf(c.params, max(c.now, c.message.ValidAt))); err != nil {
		return vigil.Errorf(vigil.CodeScriptInvalid, "the wallet's script: %w", err)
	}
	c.pkScript = c.tree.PkScript()
	if c.home = c.pkScript; c.from != c.terms.Descriptor {
		c.home = c.terms.Descriptor.PkScript()
	}
	c.reader.Know(c.tree)
	c.owners = []bip340.XOnly{c.terms.Descriptor.Group.XOnly()}
	keys := append([]ark.DeprecatedSigner{{Key: c.params.SignerKey}}, c.params.DeprecatedSigners...)
	i := slices.IndexFunc(keys, func(k ark.DeprecatedSigner) bool { return k.Key.XOnly() == c.from.Signer })
	if i < 0 {
		return vigil.Errorf(vigil.CodeScriptInvalid, "the wallet's script names another operator's key")
	}
	c.signer = keys[i].Key
	// In the leaf the key has no parity; the record keeps the even one.
	c.key = bip340.PubKey(append([]byte{2}, c.terms.Descriptor.Delegate[:]...))
	return nil
}

// checkMessage: no on-chain output, no end, exactly the one cosigner that was
// issued with the id.
func (c *walletCheck) checkMessage() error {
	message := c.message
	if len(message.OnchainOutputs) > 0 {
		return vigil.Errorf(vigil.CodeOnchainOutput, "the message sends %d outputs on chain", len(message.OnchainOutputs))
	}
	if message.ExpireAt != 0 {
		return vigil.Errorf(vigil.CodeExpireAtInvalid, "expire_at is %d; a delegate of a wallet has none, so that it can always be tried again", message.ExpireAt)
	}
	cosigners, err := message.CosignerKeys()
	if err != nil {
		return vigil.Errorf(vigil.CodeCosignersMismatch, "the message's cosigners: %w", err)
	}
	if len(cosigners) != 1 || cosigners[0] != c.terms.TreeKey {
		return vigil.Errorf(vigil.CodeCosignersMismatch, "the message must name exactly one cosigner, the tree key that was issued with this id")
	}
	return nil
}

// checkOwned: every input lies on one script of the wallet's, the current or an
// earlier one, of which only the delegate leaf has our key, so that its forfeit is on
// that one; or on the two-leaf script beside it, if the wallet opted in, where the
// forfeit is a bearer instrument.
func (c *walletCheck) checkOwned() error {
	var two script.Tree
	for _, v := range c.vtxos {
		if bytes.Equal(v.Script, c.pkScript) {
			c.trees, c.bearer = append(c.trees, c.tree), append(c.bearer, false)
			continue
		}
		if two.Len() == 0 {
			two = c.from.TwoLeaf() // it takes a multiplication
			c.reader.Know(two)
		}
		if !bytes.Equal(v.Script, two.PkScript()) {
			return vigil.Errorf(vigil.CodeInputNotDelegable, "%s is not on the wallet's current script, nor on the same earlier one as the first input", v.Outpoint)
		}
		if !c.terms.TwoLeaf {
			return vigil.Errorf(vigil.CodePolicyBearer, "%s is at the script of group and operator alone, where nothing pins a forfeit to a batch; the policy does not opt in to that", v.Outpoint)
		}
		if err := script.Validate(two, script.RulesOf(c.params, c.now)); err != nil {
			return vigil.Errorf(vigil.CodeScriptInvalid, "the wallet's two-leaf script: %w", err)
		}
		c.trees, c.bearer = append(c.trees, two), append(c.bearer, true)
	}
	return nil
}

// checkProof: every input, the message's too, is signed by the group alone, on the
// forfeit leaf of its script and with SIGHASH_DEFAULT, and reveals that script. The
// message's input has that of the first coin.
func (c *walletCheck) checkProof() error {
	if err := c.verifyProof(c.signers(), c.heaviest()); err != nil {
		return err
	}
	for i, in := range append([]intent.ProofInput{c.proven.Message}, c.proven.Inputs...) {
		tree := c.trees[max(i-1, 0)]
		if err := c.checkSpend(i, in, tree); err != nil {
			return err
		}
		if i > 0 && !slices.EqualFunc(in.Tree.Leaves(), tree.Leaves(), bytes.Equal) {
			return vigil.Errorf(vigil.CodeScriptInvalid, "input %d does not reveal the wallet's leaves in their order", i)
		}
		c.signed = append(c.signed, Sighash{Input: uint16(i), LeafHash: in.LeafHash})
	}
	return nil
}

// heaviest is what the proof may weigh: half of the operator's limit, so that an
// operator that lowers it disarms few delegates, and one coin that fails takes few
// others along (spec section 6, Many per wallet). What is over one coin cannot be
// parted.
func (c *walletCheck) heaviest() int64 {
	if len(c.vtxos) == 1 {
		return c.params.MaxTxWeight
	}
	return max(c.params.MaxTxWeight/2, 1)
}

// checkSpend is checkProof for one input of the proof or the delete proof, at tree.
func (c *walletCheck) checkSpend(i int, in intent.ProofInput, tree script.Tree) error {
	leaf, _ := tree.LeafProof(descriptor.LeafForfeit)
	if in.LeafHash != script.LeafHash(leaf) {
		return vigil.Errorf(vigil.CodeLeafUnsupported, "input %d is not signed on the leaf of group and operator", i)
	}
	if in.Sequence != wire.MaxTxInSequenceNum {
		return vigil.Errorf(vigil.CodeInvalidProof, "input %d has the sequence %#x", i, in.Sequence)
	}
	owned := false
	for _, sig := range in.Signatures {
		if sig.Type != txscript.SigHashDefault {
			return vigil.Errorf(vigil.CodeSighashUnsupported, "input %d is signed with the sighash type %#x", i, uint32(sig.Type))
		}
		owned = owned || sig.Key == c.owners[0]
	}
	if !owned {
		return vigil.Errorf(vigil.CodeSignatureInvalid, "input %d carries no signature of the wallet", i)
	}
	return nil
}

// checkOutputs: everything goes to the wallet's current script, assets too.
func (c *walletCheck) checkOutputs() error {
	ours := func(out *wire.TxOut) bool { return bytes.Equal(out.PkScript, c.home) }
	var extension []byte
	for i, out := range c.proven.Outputs {
		if asset.IsExtension(out.PkScript) {
			extension = out.PkScript
			continue
		}
		if err := c.checkAmount(i, out); err != nil {
			return err
		}
		if !ours(out) {
			return vigil.Errorf(vigil.CodeDestinationNotOwner, "output %d does not pay the wallet's current script", i)
		}
		c.leaf = append(c.leaf, wire.TxOut{Value: out.Value, PkScript: out.PkScript})
	}
	if len(c.leaf) == 0 {
		return vigil.Errorf(vigil.CodeInputNotDelegable, "no output returns anything to the wallet")
	}
	if err := c.checkAssets(ours); err != nil {
		return err
	}
	return c.extend(extension)
}

// checkDeletion: the proof that takes the registration back is over one of the
// inputs, signed like the other, and asks for nothing. It weighs less than the
// other.
func (c *walletCheck) checkDeletion() error {
	proof, err := intent.Verify(c.body.deletion, c.body.deleteText, intent.Options{Skip: c.signers(), Reader: c.reader})
	if err != nil {
		return proofRefusal(err)
	}
	if len(proof.Inputs) != 1 || proof.HasOutputs() {
		return vigil.Errorf(vigil.CodeInvalidProof, "the delete proof must be over one input and ask for no output")
	}
	in := proof.Inputs[0]
	at, ok := c.byOp[in.Outpoint]
	if !ok {
		return vigil.Errorf(vigil.CodeInvalidProof, "the delete proof is over %s, which the delegate does not renew", in.Outpoint)
	}
	if v := c.vtxos[at]; in.Out.Value != v.Amount || !bytes.Equal(in.Out.PkScript, v.Script) {
		return vigil.Errorf(vigil.CodeInputMismatch, "the delete proof says that %s holds %d; the operator says %d, or another script", in.Outpoint, in.Out.Value, v.Amount)
	}
	for i, in := range []intent.ProofInput{proof.Message, in} {
		if err := c.checkSpend(i, in, c.trees[at]); err != nil {
			return err
		}
	}
	return nil
}

// record is what is to be stored once every rule has passed.
func (c *walletCheck) record() *Record {
	rec := c.intake.record()
	rec.ID, rec.Kind, rec.Wallet = c.id, Wallet, vigil.WalletID(c.owners[0])
	rec.DelegateKey, rec.TreeKey = c.key, c.terms.TreeKey
	rec.DeleteMessage, rec.DeleteProof = c.body.deleteText, rawPSBT(c.body.delete64)
	rec.NextAttempt = FirstAttempt(rec.ID, rec.ValidAt, rec.Expiry())
	return rec
}
