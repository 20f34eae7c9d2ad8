package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/fsck"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/signer"
)

// Keys are the service keys; *signer.Signer implements it.
type Keys interface {
	ServiceKeys(ctx context.Context) ([]signer.ServiceKey, error)
	AddServiceKey(ctx context.Context) (signer.ServiceKey, error)
}

// Local answers from the stores. Its functions are what the wiring adds.
type Local struct {
	Ledger  *ledger.Ledger
	Keys    Keys
	Version string
	Settles string
	// Params asks the Ark operator for its parameters.
	Params func(ctx context.Context) (ark.Params, error)
	// Backup and Export write a copy of the store, or all secrets, to a new file.
	Backup func(ctx context.Context, path string) (Copied, error)
	Export func(ctx context.Context, path string, recipients []string) (Copied, error)
	// Check checks both stores and returns how many secrets there are.
	Check func(ctx context.Context) (*fsck.Report, int, error)
	// CheckWallet looks for what is left of a deleted wallet.
	CheckWallet func(ctx context.Context, id vigil.WalletID, marks [][]byte) (*fsck.Report, error)
	// Disk tells the free space, and whether it is too little to take anything new.
	Disk func() (free uint64, low bool)
	// Host returns the host key that devices pin, "" when there is none; nil: none.
	Host func(ctx context.Context) (string, error)
	// Running is nil when no Vigil serves.
	Running func(ctx context.Context) Running
	// Changed makes a serving Vigil take up other keys, another pinned operator or
	// the end of a hold; nil when none serves.
	Changed func(ctx context.Context) error
}

var _ Port = (*port)(nil)

// port makes the Port of a Local: the names of its functions are those of
// methods.
type port struct{ l Local }

// New returns the port over the stores.
func New(l Local) Port { return &port{l} }

func (p *port) Status(ctx context.Context) (Status, error) {
	s := Status{Version: p.l.Version, Settles: p.l.Settles, Delegates: map[string]uint64{}}
	var err error
	if s.Hold, err = p.l.Ledger.Hold(ctx); err != nil {
		return Status{}, err
	}
	if s.Operator, err = p.pinned(ctx); err != nil {
		return Status{}, err
	}
	counts, err := p.l.Ledger.Counts(ctx)
	if err != nil {
		return Status{}, err
	}
	for _, state := range delegate.States() {
		s.Delegates[state.String()] = counts[state]
		if state.Live() {
			s.Live += counts[state]
		}
	}
	unreadable, err := p.l.Ledger.Unreadable(ctx)
	if err != nil {
		return Status{}, err
	}
	s.Unreadable = len(unreadable)
	for _, u := range unreadable {
		if ledger.Rebuilt(u.Tree) {
			s.UnreadableIndex++
		}
	}
	due, some, err := p.l.Ledger.NextDue(ctx)
	if err != nil {
		return Status{}, err
	}
	s.NextDue = unix(due, some)
	expiry, some, err := p.l.Ledger.NearestExpiry(ctx, time.Unix(0, 0))
	if err != nil {
		return Status{}, err
	}
	s.NextExpiry = unix(expiry, some)
	keys, err := p.Keys(ctx)
	if err != nil {
		return Status{}, err
	}
	for _, k := range keys {
		if !k.Retired {
			s.Keys++
		}
	}
	if err := p.wallets(ctx, &s); err != nil {
		return Status{}, err
	}
	s.DiskFree, s.DiskLow = p.l.Disk()
	if p.l.Running != nil {
		r := p.l.Running(ctx)
		s.Running = &r
	}
	return s, nil
}

func (p *port) pinned(ctx context.Context) (Operator, error) {
	pinned, err := p.l.Ledger.Operator(ctx)
	if err != nil {
		return Operator{}, err
	}
	return Operator{URL: pinned.URL, Network: string(pinned.Network), Signer: pinned.Signer.String()}, nil
}

func (p *port) Delegates(ctx context.Context, q Query) (Page, error) {
	var f ledger.Filter
	if q.State != "" {
		state, err := delegate.ParseState(q.State)
		if err != nil {
			return Page{}, fmt.Errorf("%w: %q is no state; see docs/states.md", ErrRefused, q.State)
		}
		f.State = state
	}
	var err error
	if f.Script, err = hex.DecodeString(q.Script); err != nil {
		return Page{}, fmt.Errorf("%w: the script is not hex", ErrRefused)
	}
	if q.Script == "" {
		f.Script = nil
	}
	from, err := hex.DecodeString(q.After)
	if err != nil {
		return Page{}, fmt.Errorf("%w: the cursor is not one of a page before", ErrRefused)
	}
	limit := q.Limit
	if limit == 0 {
		limit = DefaultPage
	}
	if limit < 1 || limit > MaxPage {
		return Page{}, fmt.Errorf("%w: a page has 1 to %d delegates", ErrRefused, MaxPage)
	}
	page := Page{Delegates: []Delegate{}}
	cursor := ledger.Cursor(from)
	for {
		records, rest, err := p.l.Ledger.List(ctx, f, limit-len(page.Delegates), cursor)
		if err != nil {
			return Page{}, notFound(err)
		}
		for _, r := range records {
			page.Delegates = append(page.Delegates, show(r))
		}
		if rest == nil {
			return page, nil
		}
		if len(page.Delegates) == limit {
			page.Next = hex.EncodeToString(rest)
			return page, nil
		}
		cursor = rest
	}
}

// record finds a delegate by its id.
func (p *port) record(ctx context.Context, text string) (*delegate.Record, error) {
	id, err := vigil.ParseDelegateID(text)
	if err != nil {
		return nil, fmt.Errorf("%w: a delegate's id has 32 hex digits; `vigil delegates list` shows them", ErrRefused)
	}
	rec, err := p.l.Ledger.Delegate(ctx, id)
	return rec, notFound(err)
}

func (p *port) Delegate(ctx context.Context, id string) (Delegate, error) {
	rec, err := p.record(ctx, id)
	if err != nil {
		return Delegate{}, err
	}
	return show(rec), nil
}

// tries bounds how often a cancellation is begun again because the engine moved
// the delegate meanwhile.
const tries = 8

func (p *port) Cancel(ctx context.Context, id string) (Delegate, error) {
	var err error
	for range tries {
		var rec *delegate.Record
		if rec, err = p.record(ctx, id); err != nil {
			return Delegate{}, err
		}
		if rec.State.Ended() {
			return Delegate{}, fmt.Errorf("%w: the delegate has ended: it is %s", ErrRefused, rec.State)
		}
		if rec, err = p.l.Ledger.Cancel(ctx, rec, false); err == nil {
			return show(rec), nil
		}
		if !errors.Is(err, ledger.ErrConflict) {
			break
		}
	}
	return Delegate{}, err
}

func (p *port) Keys(ctx context.Context) ([]Key, error) {
	all, err := p.l.Keys.ServiceKeys(ctx)
	if err != nil {
		return nil, err
	}
	retired, err := p.l.Ledger.Retired(ctx)
	if err != nil {
		return nil, err
	}
	keys := make([]Key, len(all))
	shown := -1
	for i, k := range all {
		keys[i] = Key{Number: k.Number, Key: k.Key.String(), Retired: slices.Contains(retired, k.Key)}
		if !keys[i].Retired {
			shown = i
		}
	}
	if shown >= 0 {
		keys[shown].Shown = true
	}
	return keys, nil
}

func (p *port) AddKey(ctx context.Context) (Key, error) {
	k, err := p.l.Keys.AddServiceKey(ctx)
	if err != nil {
		return Key{}, err
	}
	if err := p.l.Ledger.NoteServiceKeys(ctx, k.Key); err != nil {
		return Key{}, err
	}
	return Key{Number: k.Number, Key: k.Key.String(), Shown: true}, p.changed(ctx)
}

func (p *port) RetireKey(ctx context.Context, text string) (Key, error) {
	keys, err := p.Keys(ctx)
	if err != nil {
		return Key{}, err
	}
	at, left := -1, 0
	for i, k := range keys {
		if k.Key == text || fmt.Sprint(k.Number) == text {
			at = i
		} else if !k.Retired {
			left++
		}
	}
	if at < 0 {
		return Key{}, fmt.Errorf("%w: no service key is %q; `vigil keys list` shows them", ErrNotFound, text)
	}
	if left == 0 {
		return Key{}, fmt.Errorf("%w: it is the only key in use; make another with `vigil keys add` first", ErrRefused)
	}
	key, err := bip340.ParsePubKeyHex(keys[at].Key)
	if err != nil {
		return Key{}, err
	}
	if err := p.l.Ledger.Retire(ctx, key); err != nil {
		return Key{}, err
	}
	k := keys[at]
	k.Retired, k.Shown = true, false
	return k, p.changed(ctx)
}

func (p *port) Backup(ctx context.Context, path string) (Copied, error) {
	return p.l.Backup(ctx, path)
}

func (p *port) Export(ctx context.Context, path string, recipients []string) (Copied, error) {
	return p.l.Export(ctx, path, recipients)
}

func (p *port) Check(ctx context.Context) (Report, error) {
	found, secrets, err := p.l.Check(ctx)
	if err != nil {
		return Report{}, err
	}
	return report(found, secrets), nil
}

// report is what a check found, as the port answers it.
func report(found *fsck.Report, secrets int) Report {
	r := Report{
		Clean: found.Clean(), Findings: []Finding{}, More: found.More, Records: found.Records, Live: found.Live,
		VTXOs: found.VTXOs, Branches: found.Branches, Secrets: secrets,
	}
	for _, f := range found.Findings {
		r.Findings = append(r.Findings, Finding{Fault: f.Severity == fsck.Fault, Code: f.Code, Subject: f.Subject, Text: f.Text, Fix: f.Fix})
	}
	return r
}

func (p *port) Release(ctx context.Context) (Status, error) {
	why, err := p.l.Ledger.Hold(ctx)
	if err != nil {
		return Status{}, err
	}
	if why == "" {
		return Status{}, fmt.Errorf("%w: nothing is held", ErrRefused)
	}
	if err := p.l.Ledger.SetHold(ctx, ""); err != nil {
		return Status{}, err
	}
	if err := p.changed(ctx); err != nil {
		return Status{}, err
	}
	return p.Status(ctx)
}

func (p *port) Accept(ctx context.Context, text string) (Operator, error) {
	pinned, err := p.l.Ledger.Operator(ctx)
	if err != nil {
		return Operator{}, err
	}
	params, err := p.l.Params(ctx)
	if err != nil {
		return Operator{}, err
	}
	out := Operator{
		URL: pinned.URL, Network: string(pinned.Network), Signer: pinned.Signer.String(),
		Announced: params.SignerKey.String(), Changed: params.SignerKey != pinned.Signer,
	}
	if params.Network != pinned.Network {
		return out, fmt.Errorf("%w: the operator is on %s now and this Vigil was set up on %s; coins do not move between networks: run `vigil init` in another data directory",
			ErrRefused, params.Network, pinned.Network)
	}
	if text == "" || !out.Changed {
		return out, nil
	}
	if text != out.Announced {
		return out, fmt.Errorf("%w: the operator announces the signer %s, not the one given", ErrRefused, out.Announced)
	}
	pinned.Signer = params.SignerKey
	if err := p.l.Ledger.SetOperator(ctx, pinned); err != nil {
		return out, err
	}
	out.Signer, out.Changed = out.Announced, false
	return out, p.changed(ctx)
}

func (p *port) changed(ctx context.Context) error {
	if p.l.Changed == nil {
		return nil
	}
	return p.l.Changed(ctx)
}

// notFound turns the ledger's word into the port's.
func notFound(err error) error {
	if errors.Is(err, ledger.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// show is a record as the port answers it.
func show(r *delegate.Record) Delegate {
	d := Delegate{
		ID: r.ID.String(), State: r.State.String(), Amount: r.InputAmount(), Fee: r.Fee, ServiceFee: r.Service, Key: r.DelegateKey.String(),
		CreatedAt: r.CreatedAt, ValidAt: r.ValidAt, ExpireAt: r.ExpireAt, ExpiresAt: r.Expiry(), StateSince: r.StateSince,
		Attempts: r.Attempts, Convictions: r.Convictions, Cancelling: r.CancelWanted && !r.State.Ended(),
		ErrorCode: r.LastError.Code, ErrorText: r.LastError.Text, ErrorAt: r.LastError.At, IntentID: r.IntentID, BatchID: r.BatchID,
	}
	if r.State.Live() {
		d.NextAttempt = r.NextAttempt
	}
	for _, in := range r.Inputs {
		d.Inputs = append(d.Inputs, Input{Outpoint: in.Outpoint.String(), Amount: in.Amount, Script: hex.EncodeToString(in.Script), ExpiresAt: in.ExpiresAt})
	}
	if r.Commitment != ([32]byte{}) {
		d.Commitment = r.Commitment.String()
	}
	for _, op := range r.Leaves {
		d.Leaves = append(d.Leaves, op.String())
	}
	for _, w := range r.Watch {
		d.Watched = append(d.Watched, w.Commitment.String())
	}
	if r.ReplacedBy != (vigil.DelegateID{}) {
		d.ReplacedBy = r.ReplacedBy.String()
	}
	return d
}
