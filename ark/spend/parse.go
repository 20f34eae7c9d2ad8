package spend

import (
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/asset"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/musig2"
	"github.com/vigil-ark/vigil/vigilpb"
)

// Bounds of one call.
const (
	// MaxDocuments is enough for a delegate over 128 VTXOs: proof, forfeits, delete
	// proof.
	MaxDocuments = 160
	// MaxSighashes bounds the signatures of all documents: that delegate has 259.
	MaxSighashes = 512
	// contexts is how many tree nodes' keys are kept when the caller keeps none: a
	// branch of a batch of 100,000 has 17.
	contexts = 64
)

// Parse reads all documents of one request against the wallet's current descriptor
// and the operator's terms: what is to be signed, and every fact that a decision
// needs. The order of its sighashes is that of the documents, and in each that
// which its kind says; both sides compute the same. Nothing is believed that the
// sighashes do not commit to, but what Terms.VTXOs say of assets and fees. The
// error is a *vigil.Error; one wrong document spoils all.
func Parse(docs []*vigilpb.Document, d descriptor.Descriptor, t Terms) ([]*Spend, error) {
	if len(docs) == 0 || len(docs) > MaxDocuments {
		return nil, vigil.Errorf(vigil.CodeDocumentInvalid, "%d documents, 1 to %d are taken", len(docs), MaxDocuments)
	}
	p, err := newParser(d, t)
	if err != nil {
		return nil, coded(err, vigil.CodeInternal)
	}
	spends := make([]*Spend, 0, len(docs))
	seen := map[[32]byte]bool{}
	for i, doc := range docs {
		s, err := p.document(doc)
		if err != nil {
			return nil, within(i, coded(err, vigil.CodeDocumentInvalid))
		}
		for j := range s.Sighashes {
			s.Sighashes[j].Doc = i
			if seen[s.Sighashes[j].Message] {
				return nil, vigil.Errorf(vigil.CodeDocumentInvalid, "document %d: a signature is asked for twice", i)
			}
			seen[s.Sighashes[j].Message] = true
		}
		if len(seen) > MaxSighashes {
			return nil, vigil.Errorf(vigil.CodeTooManyInputs, "more than %d signatures are asked for", MaxSighashes)
		}
		spends = append(spends, s)
	}
	return spends, nil
}

// coded gives an error a code, unless it has one.
func coded(err error, code vigil.Code) *vigil.Error {
	var e *vigil.Error
	if errors.As(err, &e) {
		return e
	}
	return &vigil.Error{Code: code, Message: err.Error(), Err: err}
}

// within says which document an error is about.
func within(i int, e *vigil.Error) *vigil.Error {
	return &vigil.Error{Code: e.Code, Message: fmt.Sprintf("document %d: %s", i, e.Message), Err: e}
}

func invalid(format string, args ...any) *vigil.Error {
	return vigil.Errorf(vigil.CodeDocumentInvalid, format, args...)
}

// owned is one of the wallet's scripts.
type owned struct {
	desc     descriptor.Descriptor // of the generation that it is of
	kind     Script
	tree     script.Tree
	pkScript []byte
}

// parser reads the documents of one request.
type parser struct {
	Terms
	descriptor.Descriptor
	reader  *script.Reader
	scripts []owned // of every generation by Script, the current one's first, as far as they were looked for
	sub     []byte  // the wallet's own script for amounts below dust
	known   map[wire.OutPoint]ark.VTXO
	middles map[string]script.Tree // of checkpoints, by the script that they spend

	cosigners int                        // in the branches so far
	claimed   map[wire.OutPoint][32]byte // leaves and on-chain outputs of batches, by the Key of the intent that they are for
}

func newParser(d descriptor.Descriptor, t Terms) (*parser, error) {
	if t.Params.Network != d.Network {
		return nil, fmt.Errorf("the operator is on %s, the wallet on %s", t.Params.Network, d.Network)
	}
	if t.Estimator == nil {
		var err error
		if t.Estimator, err = fee.Compile(t.Params.Fees); err != nil {
			return nil, err
		}
	}
	if t.Contexts == nil {
		t.Contexts = musig2.NewCache(contexts)
	}
	p := &parser{
		Terms: t, Descriptor: d, reader: script.NewReader(),
		known: make(map[wire.OutPoint]ark.VTXO, len(t.VTXOs)), middles: map[string]script.Tree{},
		claimed: map[wire.OutPoint][32]byte{},
	}
	tree := d.Tree()
	p.scripts = []owned{{d, VTXOScript, tree, tree.PkScript()}}
	p.sub = ark.SubDust(tree.OutputKey())
	p.reader.Know(tree)
	for _, v := range t.VTXOs {
		p.known[v.Outpoint] = v
	}
	return p, nil
}

// document reads one document by its kind.
func (p *parser) document(doc *vigilpb.Document) (*Spend, error) {
	switch doc := doc.GetDocument().(type) {
	case *vigilpb.Document_Intent:
		return p.intent(doc.Intent)
	case *vigilpb.Document_ArkTx:
		return p.arkTx(doc.ArkTx)
	case *vigilpb.Document_Checkpoint:
		return p.checkpoints(doc.Checkpoint)
	case *vigilpb.Document_DelegateForfeit:
		return p.delegateForfeit(doc.DelegateForfeit)
	case *vigilpb.Document_Forfeit:
		return p.forfeits(doc.Forfeit)
	case *vigilpb.Document_Boarding:
		return p.boarding(doc.Boarding)
	case *vigilpb.Document_Exit:
		return p.exit(doc.Exit)
	}
	return nil, invalid("it is empty, or of a kind that this version does not know")
}

// coin finds the script of the wallet's that a spent output has, and holds the
// output against what is known of the coin.
func (p *parser) coin(op wire.OutPoint, out *wire.TxOut) (owned, Input, error) {
	if out == nil {
		return owned{}, Input{}, invalid("%s has no witness UTXO", op)
	}
	own, ok := p.owner(out.PkScript)
	if !ok {
		return owned{}, Input{}, vigil.Errorf(vigil.CodeInputNotOurs, "%s has the script %.80x, which is none of this wallet's", op, out.PkScript)
	}
	if v, ok := p.known[op]; ok && (v.Amount != out.Value || string(v.Script) != string(out.PkScript)) {
		return owned{}, Input{}, vigil.Errorf(vigil.CodeInputMismatch, "%s holds %d; the document says %d, or another script", op, v.Amount, out.Value)
	}
	return own, Input{Outpoint: op, Amount: out.Value, Script: own.kind}, nil
}

// owner finds the script of the wallet's that an output has. Those that are seldom
// spent are made when they are looked for: each costs a multiplication.
func (p *parser) owner(pkScript []byte) (owned, bool) {
	for g := range 1 + len(p.Older) {
		d := p.Descriptor
		if g > 0 {
			d = p.Older[len(p.Older)-g]
		}
		for k, tree := range []func() script.Tree{d.Tree, d.Boarding, d.TwoLeaf} {
			at := 3*g + k
			if at == len(p.scripts) {
				t := tree()
				p.scripts = append(p.scripts, owned{d, Script(k), t, t.PkScript()})
				p.reader.Know(t)
			}
			if own := p.scripts[at]; string(own.pkScript) == string(pkScript) {
				return own, true
			}
		}
	}
	return owned{}, false
}

// operators are the keys of the operator in the scripts of all generations.
func (p *parser) operators() []bip340.XOnly {
	keys := []bip340.XOnly{p.Signer}
	for _, d := range p.Older {
		if !slices.Contains(keys, d.Signer) {
			keys = append(keys, d.Signer)
		}
	}
	return keys
}

// conserved says whether the outputs of a transaction pass on to the wallet every
// unit that its coins hold: inputs are the transaction's indexes of its coins. A
// coin that is not known holds what the transaction's packet says that it takes
// from it: the operator refuses a packet that does not take all (protocol section
// 8, codes 33 to 39), and whatever it takes must come to the wallet.
func (p *parser) conserved(tx *wire.MsgTx, inputs map[int]Input) (bool, error) {
	held, unknown := map[int][]asset.Holding{}, map[int]bool{}
	for i, in := range inputs {
		v, ok := p.known[in.Outpoint]
		if !ok {
			unknown[i] = in.Script != BoardingScript // an on-chain coin holds none
			continue
		}
		hs, err := asset.HoldingsOf(v)
		if err != nil {
			return false, err
		}
		held[i] = hs
	}
	if err := claimed(tx, held, unknown); err != nil {
		return false, err
	}
	err := asset.ConservesAssets(tx, held, func(out *wire.TxOut) bool { return p.own(out.PkScript) })
	if errors.Is(err, asset.ErrNotConserved) || errors.Is(err, asset.ErrIssuance) {
		return false, nil
	}
	return err == nil, err
}

// claimed adds to held what the transaction's packet takes from unknown coins.
func claimed(tx *wire.MsgTx, held map[int][]asset.Holding, unknown map[int]bool) error {
	_, ext, err := asset.Find(tx.TxOut)
	if errors.Is(err, asset.ErrNoExtension) {
		return nil
	}
	if err != nil {
		return err
	}
	packet, err := ext.Assets()
	if err != nil {
		return err
	}
	for _, g := range packet {
		for _, in := range g.Inputs {
			if vin := int(in.Vin); g.ID != nil && unknown[vin] {
				held[vin] = append(held[vin], asset.Holding{ID: *g.ID, Amount: in.Amount})
			}
		}
	}
	return nil
}

// others says whether an output of a batch was found for another intent: one gives
// to one alone, however alike they are.
func (p *parser) others(op wire.OutPoint, s *Spend) bool {
	key, ok := p.claimed[op]
	return ok && key != s.Key
}

// own says whether a script is the one at which the wallet receives in Ark.
func (p *parser) own(pkScript []byte) bool {
	return string(pkScript) == string(p.scripts[VTXOScript].pkScript) || string(pkScript) == string(p.sub)
}
