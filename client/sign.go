package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/ark/spend"
	"github.com/vigil-ark/vigil/ark/tree"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/vigilpb"
)

var (
	// ErrDocument is returned when a document does not ask for exactly the
	// signatures that the device built: a fault of its own, found before anything
	// is signed.
	ErrDocument = errors.New("client: a document asks for other signatures than were built")
	// ErrFee is returned when the operator asks more for a settlement than a device
	// pays by itself: see Config.MaxFee.
	ErrFee = errors.New("client: the operator's fee is out of proportion")
	// ErrVigil is returned when Vigil's part of something is not what was asked for.
	// Nothing of it is used.
	ErrVigil = errors.New("client: Vigil answered something else than was asked")
)

// document is a whole transaction, with what it stands on, that the group key is
// to sign: the signatures that the device built, and the form in which Vigil
// reads and judges it.
type document struct {
	jobs []job
	pb   func() (*vigilpb.Document, error)
}

func intentDocument(p proof) *document {
	return &document{p.jobs, func() (*vigilpb.Document, error) {
		d, err := p.document()
		return &vigilpb.Document{Document: &vigilpb.Document_Intent{Intent: d}}, err
	}}
}

func (p proof) document() (*vigilpb.IntentDocument, error) {
	text, err := encoded(p.packet)
	return &vigilpb.IntentDocument{Message: p.message, Proof: text}, err
}

func paymentDocument(p payment) (*document, error) {
	jobs, err := jobsOf(p.tx, 0)
	return &document{jobs, func() (*vigilpb.Document, error) {
		text, err := encoded(p.tx)
		if err != nil {
			return nil, err
		}
		cps, err := encodedAll(p.checkpoints)
		return &vigilpb.Document{Document: &vigilpb.Document_ArkTx{ArkTx: &vigilpb.ArkTxDocument{Tx: text, Checkpoints: cps}}}, err
	}}, err
}

// checkpointDocument is the checkpoints of an ark transaction that the group
// signed before, as the operator signed them, in the order of its inputs.
func checkpointDocument(cps []*psbt.Packet, arkTx string) (*document, error) {
	var jobs []job
	for _, cp := range cps {
		more, err := jobsOf(cp, 0)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, more...)
	}
	return &document{jobs, func() (*vigilpb.Document, error) {
		list, err := encodedAll(cps)
		return &vigilpb.Document{Document: &vigilpb.Document_Checkpoint{
			Checkpoint: &vigilpb.CheckpointDocument{Checkpoints: list, ArkTx: arkTx},
		}}, err
	}}, nil
}

func delegateForfeitDocument(f *psbt.Packet, j job) *document {
	return &document{[]job{j}, func() (*vigilpb.Document, error) {
		text, err := encoded(f)
		return &vigilpb.Document{Document: &vigilpb.Document_DelegateForfeit{
			DelegateForfeit: &vigilpb.DelegateForfeitDocument{Psbt: text},
		}}, err
	}}
}

func forfeitDocument(forfeits []*psbt.Packet, evidence *vigilpb.BatchProof, jobs []job) (*document, error) {
	list, err := encodedAll(forfeits)
	return &document{jobs, func() (*vigilpb.Document, error) {
		return &vigilpb.Document{Document: &vigilpb.Document_Forfeit{
			Forfeit: &vigilpb.ForfeitDocument{Forfeits: list, Batch: evidence},
		}}, nil
	}}, err
}

func boardingDocument(evidence *vigilpb.BatchProof, inputs []int, jobs []job) *document {
	at := make([]uint32, len(inputs))
	for i, n := range inputs {
		at[i] = uint32(n)
	}
	return &document{jobs, func() (*vigilpb.Document, error) {
		return &vigilpb.Document{Document: &vigilpb.Document_Boarding{
			Boarding: &vigilpb.BoardingDocument{Batch: evidence, Inputs: at},
		}}, nil
	}}
}

func exitDocument(p *psbt.Packet) (*document, error) {
	jobs, err := jobsOf(p, 0)
	return &document{jobs, func() (*vigilpb.Document, error) {
		text, err := encoded(p)
		return &vigilpb.Document{Document: &vigilpb.Document_Exit{Exit: &vigilpb.ExitDocument{Psbt: text}}}, err
	}}, err
}

func encodedAll(list []*psbt.Packet) ([]string, error) {
	out := make([]string, len(list))
	for i, p := range list {
		var err error
		if out[i], err = encoded(p); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// evidence shows what the batch gives for what it takes.
func (s *settlement) evidence(commitment string, r batch.TaskResult) (*vigilpb.BatchProof, error) {
	own, err := s.intent.document()
	if err != nil {
		return nil, err
	}
	b := &vigilpb.BatchProof{Commitment: commitment, Intent: own, BatchExpiry: s.expiry}
	if b.Nodes, err = treeNodes(r.Branch); err != nil {
		return nil, err
	}
	seen := map[chainhash.Hash]bool{}
	var connectors []tree.Node
	for _, c := range s.coins {
		for _, n := range r.Connectors[c.Outpoint].Branch {
			if !seen[n.Txid] {
				seen[n.Txid] = true
				connectors = append(connectors, n)
			}
		}
	}
	b.Connectors, err = treeNodes(connectors)
	return b, err
}

func treeNodes(nodes []tree.Node) ([]*vigilpb.TreeNode, error) {
	out := make([]*vigilpb.TreeNode, len(nodes))
	for i := range nodes {
		text, err := nodes[i].Encode()
		if err != nil {
			return nil, err
		}
		out[i] = &vigilpb.TreeNode{Tx: text}
		for at, id := range nodes[i].Children {
			out[i].Children = append(out[i].Children, &vigilpb.TreeChild{Output: at, Txid: id.String()})
		}
		slices.SortFunc(out[i].Children, func(a, b *vigilpb.TreeChild) int { return int(a.Output) - int(b.Output) })
	}
	return out, nil
}

// sign has the group key sign documents, in one round trip: it implements
// cosigner. A nonce serves one request, and is gone with the first answer to it,
// whatever that is: when Vigil was busy, or may have signed and the answer is
// lost, everything is asked anew with fresh nonces.
func (w *Wallet) sign(ctx context.Context, docs ...*document) error {
	if cold := w.withCold(); cold != nil {
		if _, _, err := w.checked(ctx, docs); err != nil {
			return err
		}
		return cold.sign(ctx, docs...)
	}
	for try := 1; ; try++ {
		err := w.signOnce(ctx, docs)
		if try == 1 && vigil.CodeOf(err) == vigil.CodeEpochUnknown {
			if err := w.catchUp(ctx, err); err != nil {
				return err
			}
			continue
		}
		if err == nil || try == anewTries || !w.vigil.anew(ctx, err, try) {
			return err
		}
	}
}

// signOnce asks once.
func (w *Wallet) signOnce(ctx context.Context, docs []*document) error {
	share, signing, err := w.signing()
	if err != nil {
		return err
	}
	req, jobs, err := w.signRequest(ctx, docs)
	if err != nil {
		return err
	}
	session := frost.SessionID(req.Session)
	pending := make([]*frost.Pending, len(jobs))
	defer func() {
		for _, p := range pending {
			if p != nil {
				p.Burn()
			}
		}
	}()
	for i, j := range jobs {
		if pending[i], err = share.Commit(signing, session, j.msg); err != nil {
			return err
		}
		nonce := pending[i].PubNonce()
		req.Nonces = append(req.Nonces, nonce[:])
	}
	var answer vigilpb.SignAnswer
	if err := w.ask(ctx, "Sign", req, &answer); err != nil {
		return err
	}
	if len(answer.Parts) != len(jobs) {
		return fmt.Errorf("%w: %d signatures for %d", ErrVigil, len(answer.Parts), len(jobs))
	}
	for i, part := range answer.Parts {
		sig, err := complete(pending[i], share.ID(), part)
		if err != nil {
			return fmt.Errorf("signature %d: %w", i, err)
		}
		jobs[i].place(signing.OutputKey(), sig)
	}
	return nil
}

// complete uses a nonce of participant own up against Vigil's part. What it returns
// verifies, under the group key, over the message that the nonce was drawn for.
func complete(p *frost.Pending, own int, part *vigilpb.SignaturePart) (sig [64]byte, err error) {
	var theirs frost.PubNonce
	if len(part.GetNonce()) != len(theirs) {
		return sig, fmt.Errorf("%w: a nonce of %d bytes", ErrVigil, len(part.GetNonce()))
	}
	copy(theirs[:], part.GetNonce()) // Sign decodes it
	second, err := frost.ParsePartialSig(part.GetSig())
	if err != nil {
		return sig, fmt.Errorf("%w: %w", ErrVigil, err)
	}
	nonces := []frost.PubNonce{p.PubNonce(), theirs}
	if own > vigilID {
		slices.Reverse(nonces)
	}
	first, session, err := p.Sign(nonces)
	if contribution := (*frost.ContributionError)(nil); errors.As(err, &contribution) {
		return sig, fmt.Errorf("%w: %w", ErrVigil, err)
	}
	if err != nil {
		return sig, err
	}
	parts := []frost.PartialSig{first, second}
	if own > vigilID {
		slices.Reverse(parts)
	}
	sig, err = session.Aggregate(parts, nonces)
	if err != nil {
		return sig, fmt.Errorf("%w: %w", ErrVigil, err)
	}
	return sig, nil
}

// signRequest asks for the signatures of documents, once they are checked.
func (w *Wallet) signRequest(ctx context.Context, docs []*document) (*vigilpb.SignRequest, []job, error) {
	req := &vigilpb.SignRequest{Signers: w.signers(), Session: make([]byte, 32)}
	if _, err := rand.Read(req.Session); err != nil {
		return nil, nil, err
	}
	list, jobs, err := w.checked(ctx, docs)
	req.Documents = list
	return req, jobs, err
}

// checked puts the documents together, holds what whoever reads them will find
// against what was built, and what the operator takes against a bound: nothing is
// signed that did not pass here, with Vigil or with a cold share.
func (w *Wallet) checked(ctx context.Context, docs []*document) (list []*vigilpb.Document, jobs []job, err error) {
	for _, d := range docs {
		pb, err := d.pb()
		if err != nil {
			return nil, nil, err
		}
		list, jobs = append(list, pb), append(jobs, d.jobs...)
	}
	params := ark.Params{Network: w.current().Network}
	// What leaves by the exit leaf takes nothing of the operator, who may be gone.
	if slices.ContainsFunc(list, func(d *vigilpb.Document) bool { return d.GetExit() == nil }) {
		if params, err = w.params(ctx); err != nil {
			return nil, nil, err
		}
	}
	own := w.own()
	spends, err := spend.Parse(list, own.Descriptor, spend.Terms{Params: params, Older: own.gens.Older(), VTXOs: w.seen(), Now: w.now().Unix()})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	for _, s := range spends {
		if err := w.cfg.affordable(s); err != nil {
			return nil, nil, err
		}
	}
	messages := spend.Messages(spends)
	if !slices.EqualFunc(jobs, messages, func(j job, m [32]byte) bool { return j.msg == m }) {
		return nil, nil, fmt.Errorf("%w: %d of %d", ErrDocument, len(messages), len(jobs))
	}
	return list, jobs, nil
}

// feePerCoin is what an operator may take for each coin however small, in satoshis,
// and feeShare the part of a settlement's coins that it may take of larger ones.
const (
	feePerCoin = 5000
	feeShare   = 10
)

// affordable holds what the operator takes for a settlement against a bound of the
// device's own: the operator names its fees, and a device that renews by itself
// would sign anything away.
func (c *Config) affordable(s *spend.Spend) error {
	if s.Kind != spend.Register {
		return nil
	}
	var sum int64
	for _, in := range s.Inputs {
		sum += in.Amount
	}
	most := max(sum/feeShare, feePerCoin*int64(len(s.Inputs)), c.MaxFee)
	if s.Fee > most {
		return fmt.Errorf("%w: %d sats of %d, at most %d", ErrFee, s.Fee, sum, most)
	}
	return nil
}

// keySigner signs with one key that the device has whole: the recovery key.
type keySigner struct{ key *bip340.Key }

func (s keySigner) sign(_ context.Context, docs ...*document) error {
	for _, d := range docs {
		for _, j := range d.jobs {
			sig, err := s.key.Sign(j.msg[:])
			if err != nil {
				return err
			}
			if err := j.put(s.key.PubKey().XOnly(), sig); err != nil {
				return err
			}
		}
	}
	return nil
}
