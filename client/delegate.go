package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/ark/fee"
	"github.com/vigil-ark/vigil/ark/forfeit"
	"github.com/vigil-ark/vigil/ark/intent"
	"github.com/vigil-ark/vigil/ark/script"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/vigilpb"
)

// How delegates are cut and timed. Times are seconds.
const (
	// maxPrepared is how many ids a wallet may have prepared.
	maxPrepared = 8
	// inputWeight and proofWeight are what an input and the rest add to a proof's
	// weight, rounded up, so that a proof stays under half of the operator's limit
	// whatever that is.
	inputWeight, proofWeight = 500, 1000
	// maxInputs is what a delegate may have whatever the operator says: with proof and
	// delete proof it is what a server takes in one request for signatures.
	maxInputs = 60
	// operatorBan is how long an operator bans scripts by default: a renewal begins
	// early enough to outlive a ban.
	operatorBan = 300
	minLead     = 30 * 60
	maxLead     = 3 * 86_400
	// soon is when coins are renewed that cannot wait: recoverable ones.
	soon = 60
)

// DelegateOptions choose what is signed ahead; the zero value covers every coin
// that no delegate covers.
type DelegateOptions struct {
	// Coins are those to be covered; a delegate over one of them is replaced by one
	// that must have all of its coins.
	Coins []wire.OutPoint
	// Single makes one delegate for each coin: a coin that is spent ends no other's
	// cover.
	Single bool
	// At is when the delegates may run; zero is early enough before each one's
	// first coin expires.
	At time.Time
	// KeepOlder has Vigil refuse rather than replace an older delegate.
	KeepOlder bool
}

// Delegated is one delegate that Vigil stored.
type Delegated struct {
	ID    vigil.DelegateID
	Coins []wire.OutPoint
	At    int64 // unix seconds: valid_at
	Fee   int64 // satoshis
}

// Delegate signs renewals ahead, for Vigil to carry out with nobody home: for
// every group of coins that expire together an intent, its forfeits and the proof
// that takes it back. Each costs one round trip to sign and one to submit; ids
// and tree keys came with earlier answers. What is returned is stored durably.
// Coins that are too small to pay for their renewal wait for others. Coins at the
// two-leaf script are among them only if the owner opted in to that (Policy.TwoLeaf);
// they have delegates of their own, made last: what refuses one refuses no other.
func (w *Wallet) Delegate(ctx context.Context, opt DelegateOptions) ([]Delegated, error) {
	w.spending.Lock()
	defer w.spending.Unlock()
	coins, err := w.list(ctx, 0)
	if err != nil {
		return nil, err
	}
	p, err := w.params(ctx)
	if err != nil {
		return nil, err
	}
	now := w.now().Unix()
	var chosen, stray []coin
	for _, c := range coins {
		if len(opt.Coins) > 0 && !slices.Contains(opt.Coins, c.Outpoint) || len(opt.Coins) == 0 && (c.Covered || c.Stuck) {
			continue
		}
		own, err := w.owned(c.VTXO)
		if err != nil {
			return nil, err
		}
		if c.Covered || c.Why != "DELEGATE_ENDED" {
			own.under = c.Delegate
		}
		if c.WithoutVigil {
			chosen = append(chosen, own)
		} else if !own.SubDust(p.Dust) { // a stranger's dust is not worth such a forfeit
			stray = append(stray, own)
		}
	}
	stray, failed := w.optedIn(ctx, stray) // what is not known of the policy keeps no other coin from cover
	var groups, last [][]coin
	for _, d := range slices.Backward(w.own().gens) { // one forfeit names one signer
		others := func(c coin) bool { return c.desc != d }
		part := slices.DeleteFunc(slices.Clone(chosen), others)
		if len(opt.Coins) == 0 {
			if part, err = worthwhile(part, p, now); err != nil {
				return nil, err
			}
		}
		groups = append(groups, group(part, p, now, opt.Single)...)
		last = append(last, group(slices.DeleteFunc(slices.Clone(stray), others), p, now, opt.Single)...)
	}
	groups = append(groups, last...)
	var done []Delegated
	for i := 0; i < len(groups); i++ {
		g := groups[i]
		d, err := w.delegate(ctx, p, g, opt, len(groups)-i)
		if errors.Is(err, errHeavy) {
			groups = append(groups, g[:len(g)/2], g[len(g)/2:])
			continue
		}
		if errors.Is(err, ErrDust) || errors.Is(err, ErrFunds) {
			continue
		}
		if err != nil && aheadOn(g[0].tree) != descriptor.LeafDelegate && ctx.Err() == nil { // refused by the policy, as may be
			failed = errors.Join(failed, err)
			continue
		}
		if err != nil {
			return done, errors.Join(failed, err)
		}
		done = append(done, d)
	}
	return done, failed
}

// worthwhile leaves out the dust that costs as much as it is worth to renew: anybody
// may send some, and it must not be at the others' cost.
func worthwhile(coins []coin, p ark.Params, now int64) ([]coin, error) {
	if !slices.ContainsFunc(coins, func(c coin) bool { return c.SubDust(p.Dust) }) {
		return coins, nil
	}
	e, err := fee.Compile(p.Fees)
	if err != nil {
		return nil, err
	}
	var worth []coin
	for _, c := range coins {
		cost := int64(0)
		if c.SubDust(p.Dust) {
			if cost, err = charge(e, []coin{c}, nil, nil, now, true); err != nil {
				return nil, err
			}
		}
		if cost < c.Amount {
			worth = append(worth, c)
		}
	}
	return worth, nil
}

// group parts coins by expiry, so that no coin of a group loses much of its life
// to the first one's renewal, and by the weight of the proof. Recoverable ones
// form groups of their own, to be renewed soon; but dust cannot be renewed alone,
// and goes along with the first group that has room. What one delegate covers stays
// together however the time since has parted it: only a delegate over all of it takes
// its place.
func group(coins []coin, p ark.Params, now int64, single bool) (groups [][]coin) {
	most := min(max(int((p.MaxTxWeight/2-proofWeight)/inputWeight), 1), maxInputs)
	if single {
		most = 1
	}
	expiry := func(c coin) int64 {
		if c.Recoverable(now) {
			return 0
		}
		return c.ExpiresAt
	}
	var whole, dust []coin
	var kept [][]coin
	older := map[vigil.DelegateID][]coin{}
	for _, c := range coins {
		if c.under != (vigil.DelegateID{}) {
			older[c.under] = append(older[c.under], c)
		}
	}
	for _, c := range coins {
		if list, is := older[c.under]; is && !single {
			if len(list) > 1 {
				slices.SortStableFunc(list, func(a, b coin) int { return cmp.Compare(expiry(a), expiry(b)) })
				kept, older[c.under] = append(kept, list), nil
			}
			if len(list) != 1 {
				continue
			}
		}
		if c.SubDust(p.Dust) {
			dust = append(dust, c)
		} else {
			whole = append(whole, c)
		}
	}
	slices.SortStableFunc(whole, func(a, b coin) int { return cmp.Compare(expiry(a), expiry(b)) })
	var first coin
	for _, c := range whole {
		if n := len(groups) - 1; n >= 0 && len(groups[n]) < most && expiry(c)-expiry(first) <= lead(first, p, now)/4 && (expiry(c) == 0) == (expiry(first) == 0) {
			groups[n] = append(groups[n], c)
			continue
		}
		first, groups = c, append(groups, []coin{c})
	}
	for i := range groups {
		n := min(most-len(groups[i]), len(dust))
		groups[i], dust = append(groups[i], dust[:n]...), dust[n:]
	}
	if len(dust) > 0 && !single {
		groups = append(groups, dust)
	}
	return append(groups, kept...)
}

// lead is how long before its expiry a coin is renewed (spec section 6, When).
func lead(c coin, p ark.Params, now int64) int64 {
	least := max(12*p.SessionSeconds, operatorBan+4*p.SessionSeconds, minLead)
	want := min(max((c.ExpiresAt-c.CreatedAt)/10, least), maxLead)
	return max(min(want, (c.ExpiresAt-now)/2), 0)
}

// delegate signs and submits one delegate; more is how many are still to come.
func (w *Wallet) delegate(ctx context.Context, p ark.Params, coins []coin, opt DelegateOptions, more int) (Delegated, error) {
	now := w.now().Unix()
	at := opt.At.Unix()
	if opt.At.IsZero() {
		if at = now + soon; !coins[0].Recoverable(now) {
			at = max(coins[0].ExpiresAt-lead(coins[0], p, now), now+1)
		}
		if until := cutoff(p, coins[0].desc.Signer); until > 0 { // it must run while the operator signs for their key
			at = max(min(at, until-max(12*p.SessionSeconds, minLead)), now+1)
		}
	}
	outs, err := single(p, coins, w.own().home(), at, true)
	if err != nil {
		return Delegated{}, err
	}
	if len(coins) > 1 && weighs(coins, outs) > p.MaxTxWeight/2 {
		return Delegated{}, errHeavy
	}
	id, err := w.takePrepared(ctx, more)
	if err != nil {
		return Delegated{}, err
	}
	b, err := buildDelegate(p, coins[0].desc, coins, outs, id, at, now)
	if err != nil {
		return Delegated{}, err
	}
	if err := w.sign(ctx, b.docs...); err != nil {
		return Delegated{}, err
	}
	req, err := b.request()
	if err != nil {
		return Delegated{}, err
	}
	req.Id, req.RejectReplace, req.Prepare = id.ID, opt.KeepOlder, uint32(min(max(more-1, 1), maxPrepared))
	var a vigilpb.SubmitDelegateAnswer
	if err := w.ask(ctx, "SubmitDelegate", req, &a); err != nil {
		return Delegated{}, err
	}
	d := Delegated{ID: vigil.DelegateID(id.ID), At: at, Fee: b.fee}
	if !a.Stored || a.Delegate.GetId() != d.ID.String() {
		return d, fmt.Errorf("%w: delegate %s is not stored", ErrVigil, d.ID)
	}
	for _, c := range coins {
		d.Coins = append(d.Coins, c.Outpoint)
	}
	return d, w.keepPrepared(ctx, a.Prepared)
}

// errHeavy is of a group whose assets make its proof too heavy.
var errHeavy = errors.New("client: the proof would weigh more than half of what the operator takes")

// weighs is what a finished proof over coins weighs at most.
func weighs(coins []coin, outs []*wire.TxOut) int64 {
	weight := int64(proofWeight + inputWeight*len(coins))
	for _, o := range outs[1:] { // the first is counted
		weight += 4 * int64(o.SerializeSize())
	}
	return weight
}

// signedAhead is a delegate as the device builds it.
type signedAhead struct {
	register, remove proof
	forfeits         []*psbt.Packet
	docs             []*document
	fee              int64
}

// buildDelegate builds all that is signed for one delegate (spec section 6, What
// one is).
func buildDelegate(p ark.Params, d descriptor.Descriptor, coins []coin, outs []*wire.TxOut, id prepared, at, now int64) (b signedAhead, err error) {
	treeKey, err := bip340.ParsePubKey(id.TreeKey)
	if err != nil {
		return b, fmt.Errorf("%w: tree key: %w", ErrVigil, err)
	}
	for _, c := range coins {
		b.fee += c.Amount
	}
	b.fee -= outs[0].Value
	if b.register, err = newProof(intent.NewRegister(at, 0, treeKey), coins, outs); err != nil {
		return b, err
	}
	b.docs = append(b.docs, intentDocument(b.register))
	for _, c := range coins {
		if !c.NeedsForfeit(now) {
			continue
		}
		f, msg, err := forfeit.Build(forfeit.Terms{
			Outpoint: c.Outpoint, Amount: c.Amount, Tree: c.tree, Dust: p.Dust, Script: p.ForfeitScript,
			Delegate: d.Delegate, Signers: []bip340.XOnly{d.Signer},
		}, aheadOn(c.tree))
		if err != nil {
			return b, err
		}
		j := job{f, 0, c.tree.Leaves()[aheadOn(c.tree)], forfeit.OwnerSighash, msg}
		b.forfeits, b.docs = append(b.forfeits, f), append(b.docs, delegateForfeitDocument(f, j))
	}
	if b.remove, err = newProof(intent.Message{Kind: intent.Delete}, coins[:1], nil); err != nil {
		return b, err
	}
	b.docs = append(b.docs, intentDocument(b.remove))
	return b, nil
}

// aheadOn is the leaf on which a forfeit is signed ahead: the delegate leaf, or in the
// two-leaf script, which has none, that of group and operator.
func aheadOn(t script.Tree) int {
	if t.Len() <= descriptor.LeafDelegate {
		return descriptor.LeafForfeit
	}
	return descriptor.LeafDelegate
}

// request is the signed delegate as it is submitted.
func (b signedAhead) request() (*vigilpb.SubmitDelegateRequest, error) {
	register, err := b.register.document()
	if err != nil {
		return nil, err
	}
	remove, err := b.remove.document()
	if err != nil {
		return nil, err
	}
	forfeits, err := encodedAll(b.forfeits)
	return &vigilpb.SubmitDelegateRequest{
		Message: register.Message, Proof: register.Proof, Forfeits: forfeits,
		DeleteMessage: remove.Message, DeleteProof: remove.Proof,
	}, err
}

// Cancel takes a delegate back. One that is being carried out ends only if its
// batch fails.
func (w *Wallet) Cancel(ctx context.Context, id vigil.DelegateID) (state string, err error) {
	var a vigilpb.CancelWalletDelegateAnswer
	if err := w.ask(ctx, "CancelWalletDelegate", &vigilpb.CancelWalletDelegateRequest{Id: id[:]}, &a); err != nil {
		return "", err
	}
	return a.Delegate.GetState(), nil
}

// Stored is a delegate as Vigil has it.
type Stored struct {
	ID          vigil.DelegateID
	State       string
	Coins       []string // outpoints
	Amount      int64    // satoshis, the sum of the coins
	At          int64    // unix seconds, not before
	NextAttempt int64    // unix seconds; 0: none is planned
	ExpiresAt   int64    // unix seconds, when the first of the coins does
	Attempts    int
	Code, Error string // of the last attempt; empty when it had none
	Commitment  string // txid of the batch that took it
}

// Delegates lists the wallet's delegates at Vigil.
func (w *Wallet) Delegates(ctx context.Context) ([]Stored, error) {
	var a vigilpb.WalletDelegatesAnswer
	if err := w.ask(ctx, "WalletDelegates", &vigilpb.WalletDelegatesRequest{}, &a); err != nil {
		return nil, err
	}
	out := make([]Stored, len(a.Delegates))
	for i, d := range a.Delegates {
		id, err := vigil.ParseDelegateID(d.GetId())
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrVigil, err)
		}
		out[i] = Stored{
			ID: id, State: d.GetState(), Coins: d.GetInputs(), Amount: d.GetAmount(), At: d.GetValidAt(), NextAttempt: d.GetNextAttempt(),
			ExpiresAt: d.GetExpiresAt(), Attempts: int(d.GetAttempts()), Commitment: d.GetCommitmentTxid(),
			Code: d.GetLastError().GetCode(), Error: d.GetLastError().GetMessage(),
		}
	}
	return out, nil
}
