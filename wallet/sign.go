package wallet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/spend"
	"github.com/vigil-ark/vigil/audit"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/policy"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/vigilpb"
)

// Sign makes Vigil's part of signatures over documents that it reads and judges
// itself. The decision, its audit entry and what counts against the limits are
// one durable write, before anything is signed: a crash in between costs the
// device a request and Vigil nothing.
func (s *Service) Sign(ctx context.Context, c auth.Call, r *vigilpb.SignRequest) (a *vigilpb.SignAnswer, err error) {
	err = s.do(ctx, c, func(ctx context.Context, st *state) error {
		if err := st.active(); err != nil {
			return err
		}
		if err := s.held(); err != nil {
			return err
		}
		k, err := st.epoch(c.Epoch)
		if err != nil {
			return err
		}
		q := signer.SignRequest{Wallet: st.row.ID, Info: k.Info, Epoch: c.Epoch}
		if err := s.readSign(&q, r); err != nil {
			return err
		}
		terms, err := s.terms(ctx)
		if err != nil {
			return err
		}
		done, err := s.turns.take(ctx)
		if err != nil {
			return err
		}
		defer done()
		spends, err := s.read(ctx, st, terms, r.GetDocuments())
		if err != nil {
			return err
		}
		if q.Messages = spend.Messages(spends); len(q.Messages) != len(q.Nonces) {
			return malformed("nonces", "nonces for %d signatures; the documents take %d", len(q.Nonces), len(q.Messages))
		}
		if err := s.nonces.use(q.Nonces); err != nil {
			return err
		}
		if err := s.decide(ctx, st, c, spends, q.Messages); err != nil {
			return err
		}
		parts, err := s.keys.Sign(ctx, q)
		if err != nil {
			return signed(err)
		}
		a = &vigilpb.SignAnswer{Parts: make([]*vigilpb.SignaturePart, len(parts))}
		for i, p := range parts {
			a.Parts[i] = &vigilpb.SignaturePart{Nonce: p.Nonce[:], Sig: p.Sig[:]}
		}
		return nil
	})
	return a, err
}

// readSign reads who signs, in which session, and with which nonces.
func (s *Service) readSign(q *signer.SignRequest, r *vigilpb.SignRequest) error {
	l := s.cfg.Limits
	if n := len(r.GetDocuments()); n == 0 || n > l.Documents {
		return malformed("documents", "%d documents, 1 to %d are taken", n, l.Documents)
	}
	if n := len(r.GetNonces()); n == 0 || n > l.Signatures {
		return malformed("nonces", "%d signatures, 1 to %d are taken", n, l.Signatures)
	}
	for i, id := range r.GetSigners() {
		if int(id) >= q.Info.Participants() || i > 0 && id <= r.GetSigners()[i-1] {
			return malformed("signers", "want ascending numbers below %d", q.Info.Participants())
		}
		q.Signers = append(q.Signers, int(id))
	}
	if !slices.Contains(q.Signers, own) || len(q.Signers) < q.Info.Threshold() {
		return malformed("signers", "want at least %d with %d, this server, among them", q.Info.Threshold(), own)
	}
	if len(r.GetSession()) != len(q.Session) {
		return malformed("session", "want %d bytes, got %d", len(q.Session), len(r.GetSession()))
	}
	q.Session = frost.SessionID(r.GetSession())
	const size = len(frost.PubNonce{})
	others := len(q.Signers) - 1
	for i, b := range r.GetNonces() {
		if len(b) != size*others {
			return malformed("nonces", "signature %d: want %d bytes, got %d", i, size*others, len(b))
		}
		list := make([]frost.PubNonce, others)
		for j := range list {
			list[j] = frost.PubNonce(b[size*j:])
		}
		q.Nonces = append(q.Nonces, list)
	}
	return nil
}

// terms are what documents are read against, but for the wallet's coins. They may
// take a question to the operator.
func (s *Service) terms(ctx context.Context) (spend.Terms, error) {
	params, err := s.announced.Current(ctx)
	if err != nil {
		return spend.Terms{}, err
	}
	fees, err := s.announced.Estimator(params.Fees)
	return spend.Terms{Params: params, Estimator: fees, Contexts: s.contexts}, err
}

// read finds in documents what is to be signed.
func (s *Service) read(ctx context.Context, st *state, terms spend.Terms, docs []*vigilpb.Document) ([]*spend.Spend, error) {
	parse := func() ([]*spend.Spend, error) {
		terms.VTXOs, terms.Now, terms.Older = slices.Collect(maps.Values(st.coins)), s.now(), st.gens.Older()
		return spend.Parse(docs, st.desc, terms)
	}
	spends, err := parse()
	if err != nil || !slices.ContainsFunc(moved(spends), func(op wire.OutPoint) bool { _, known := st.coins[op]; return !known }) {
		return spends, err
	}
	// A coin that came since the wallet was read: its assets are to be known.
	held, err := s.ledger.VTXOsOf(ctx, st.row.ID)
	if err != nil {
		return nil, stored(err)
	}
	st.coins = coins(held)
	return parse()
}

// coins are holdings as the operator would tell them.
func coins(held []ledger.Holding) map[wire.OutPoint]ark.VTXO {
	list := make(map[wire.OutPoint]ark.VTXO, len(held))
	for _, h := range held {
		list[h.Outpoint] = ark.VTXO{
			Outpoint: h.Outpoint, Amount: h.Amount, Script: h.Script, CreatedAt: h.CreatedAt, ExpiresAt: h.ExpiresAt,
			Preconfirmed: h.Preconfirmed, Swept: h.Swept, Unrolled: h.Fate == ledger.Unrolled, Spent: h.Fate == ledger.Spent,
			SpentBy: h.SpentBy, Assets: h.Assets,
		}
	}
	return list
}

// decide asks the policy and writes down what it said.
func (s *Service) decide(ctx context.Context, st *state, c auth.Call, spends []*spend.Spend, messages [][32]byte) error {
	now := s.now()
	p := st.policy.Effective(now)
	e := audit.Entry{
		At: now, Method: path.Base(c.Method), Allow: true, Epoch: c.Epoch, Kinds: kinds(spends),
		Signatures: uint32(len(messages)), Signed: audit.Digest(st.row.AuditSalt, messages),
	}
	err := s.ledger.Decide(ctx, st.row.ID, p.Since(now), func(counted ledger.Spending) (ledger.Verdict, error) {
		spent, older := policy.Spent{}, policy.Spent{}
		for k, amount := range counted.Each {
			if p.Recent(counted.At[k], now) {
				spent[k] = amount
			} else {
				older[k] = amount
			}
		}
		d := policy.Decide(p, spends, spent, older)
		if err := d.Err(); err != nil {
			return ledger.Verdict{}, err
		}
		e := e
		e.Amount = d.Amount
		v := ledger.Verdict{Audit: []ledger.Link{link(st.row, e)}, Signed: moved(spends), Leaves: st.leaving(spends)}
		for _, n := range d.Counts {
			v.Spends = append(v.Spends, ledger.Spend{Sighash: n.Key, Amount: n.Amount})
		}
		return v, nil
	})
	if errors.Is(err, ledger.ErrTooMany) {
		return &vigil.Error{Code: vigil.CodePolicyWindow, Message: fmt.Sprintf("%d payments were signed within the time in which they are counted, which is as many as are; renewals go on, retry the payment later", ledger.MaxSpends), Err: err}
	}
	return stored(err)
}

// moved are the coins of the wallet that something signed now will spend.
func moved(spends []*spend.Spend) []wire.OutPoint {
	var ops []wire.OutPoint
	for _, sp := range spends {
		if sp.Kind == spend.Intent {
			continue
		}
		for _, in := range sp.Inputs {
			if !slices.Contains(ops, in.Outpoint) {
				ops = append(ops, in.Outpoint)
			}
		}
	}
	return ops
}

// leaving are the intents that take something of what is in Ark out of it.
func (st *state) leaving(spends []*spend.Spend) (list []ledger.Leaving) {
	for _, sp := range spends {
		if sp.Kind != spend.Register || len(sp.Onchain) == 0 {
			continue
		}
		var l ledger.Leaving
		for _, in := range sp.Inputs {
			if in.Script == spend.BoardingScript || st.coins[in.Outpoint].Unrolled {
				l.Paid -= in.Amount
				continue
			}
			l.Inputs = append(l.Inputs, in.Outpoint)
		}
		for _, out := range slices.Concat(sp.Onchain, sp.Foreign) {
			l.Paid += out.Amount
		}
		for _, out := range sp.Own {
			l.Staying += out.Amount
		}
		if l.Paid > 0 {
			list = append(list, l)
		}
	}
	return list
}

func kinds(spends []*spend.Spend) []string {
	var list []string
	for _, sp := range spends {
		if k := string(sp.Kind); !slices.Contains(list, k) {
			list = append(list, k)
		}
	}
	return list
}
