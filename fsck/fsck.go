// Package fsck owns the proof that what Vigil stores is sane: every row decodes,
// every index agrees with its record both ways, and no coin is under two
// delegates. It reads only, and is the oracle of every crash test. It knows
// nothing of the operator.
package fsck

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/ledger"
)

// Severity says how bad a finding is.
type Severity int

// The severities.
const (
	// Note is worth knowing and mends itself.
	Note Severity = iota
	// Fault is a contradiction: Vigil runs, and something of it is wrong.
	Fault
)

// Finding is one thing that is not as it must be.
type Finding struct {
	Severity Severity
	Code     string // stable name
	Subject  string // which delegate, VTXO, secret or row
	Text     string // what is wrong
	Fix      string // what to do
}

// String is the finding in one line.
func (f Finding) String() string {
	word := "note"
	if f.Severity == Fault {
		word = "fault"
	}
	return fmt.Sprintf("%s %s %s: %s. %s", word, f.Code, f.Subject, f.Text, f.Fix)
}

// Secrets are the names in the secret store, and which of them hold service
// keys.
type Secrets struct {
	Names   []string                 // all of them, listed before the check
	Service map[bip340.PubKey]string // public key to the secret's name
	// Again lists the names once more, while the check runs: the two stores have no
	// common snapshot, and a Vigil that runs puts and deletes meanwhile. Nil says
	// that none does.
	Again func(ctx context.Context) ([]string, error)
}

// Report is the outcome of a check.
type Report struct {
	Findings   []Finding // at most maxFindings
	More       int       // findings beyond those
	Records    int
	Live       int
	VTXOs      int
	Branches   int
	Unreadable int
	Wallets    int
}

// Clean says whether no fault was found.
func (r *Report) Clean() bool {
	for _, f := range r.Findings {
		if f.Severity == Fault {
			return false
		}
	}
	return r.More == 0
}

// String lists the findings, one a line.
func (r *Report) String() string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintln(&b, f)
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", r.More)
	}
	return b.String()
}

// maxFindings bounds a report: a broken store must not fill the memory.
const maxFindings = 1000

// The prefixes of the secrets that belong to one delegate, and to one wallet (spec
// section 3).
const (
	treeSecret     = "tree-secret."
	forfeitSecret  = "forfeit-secret."
	shareSecret    = "dkg-secret."
	delegateSecret = "delegate-secret."
)

// Check reads everything once, on one snapshot. secrets is nil when the secret
// store is not at hand; then nothing is said about it. The error is the store's.
func Check(ctx context.Context, store kv.Store, secrets *Secrets) (*Report, error) {
	c := &check{report: new(Report), counts: make(map[delegate.State]uint64)}
	err := ledger.Inspect(ctx, store, func(s *ledger.Snapshot) error {
		c.snapshot = s
		if err := s.Schema(); errors.Is(err, ledger.ErrUnreadable) || errors.Is(err, ledger.ErrNoLedger) || errors.Is(err, kv.ErrNewer) {
			c.find(Fault, "meta", "ledger", fixRestore, "%v", err)
			return nil // no row can be read without it
		} else if err != nil {
			return err
		}
		for _, part := range []func() error{
			c.meta, c.rows, c.records, c.strayRows, c.vtxos, c.pending, c.tombstones, c.branches, c.history, c.countRows,
			c.wallets, c.holdings, c.plans, c.requests, c.chain,
			func() error { return c.secrets(ctx, secrets) },
		} {
			if err := part(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c.report, nil
}

type check struct {
	snapshot *ledger.Snapshot
	report   *Report
	counts   map[delegate.State]uint64
}

func (c *check) find(severity Severity, code string, subject any, fix, format string, args ...any) {
	if len(c.report.Findings) == maxFindings {
		c.report.More++
		return
	}
	c.report.Findings = append(c.report.Findings, Finding{
		Severity: severity, Code: code, Subject: fmt.Sprint(subject), Text: fmt.Sprintf(format, args...), Fix: fix,
	})
}

// What to do, in words that several findings share.
const (
	fixRestore = "Restore the store from a backup; if there is none, ask its owner to delegate again."
	fixBug     = "This is a fault of Vigil's: keep a copy of the store and report it."
	fixIndex   = "Stop Vigil and run vigil fsck --repair. If the disk is sound, this is a fault of Vigil's: report it, with the copy that the repair makes."
	fixOrphan  = "Delete it with vigil secret, or restore the record."
	fixNothing = "Nothing is to be done: the next start mends it."
)

func (c *check) meta() error {
	err := c.snapshot.Meta()
	if errors.Is(err, kv.ErrNotFound) {
		c.find(Fault, "meta", "ledger", fixRestore, "%v", err)
		return nil
	}
	return err
}

// rows finds every row that means nothing by itself. The parts that follow hold
// the others to each other.
func (c *check) rows() error {
	return c.snapshot.Rows(func(d *ledger.Damage, marked bool) error {
		where := "not yet met by Vigil"
		if marked {
			where = "marked"
		}
		c.report.Unreadable++
		fix := fixRestore
		if ledger.Rebuilt(d.Tree) {
			fix = "Stop Vigil and run vigil fsck --repair; look at the disk."
		}
		c.find(Fault, "unreadable", fmt.Sprintf("%s/%x", d.Tree, d.Key), fix, "%v, %s", d.Cause, where)
		return nil
	})
}

func (c *check) strayRows() error {
	return c.snapshot.StrayRows(func(row string) error {
		c.find(Fault, "stray-row", row, fixIndex, "an index row without a record that asks for it")
		return nil
	})
}

func (c *check) countRows() error {
	for _, s := range delegate.States() {
		n, err := c.snapshot.Count(s)
		if unreadable(err) {
			continue
		}
		if err != nil {
			return err
		}
		if n != c.counts[s] && c.report.Unreadable == 0 {
			c.find(Fault, "count", s, fixIndex, "counted as %d, there are %d", n, c.counts[s])
		}
	}
	return nil
}

func (c *check) secrets(ctx context.Context, secrets *Secrets) error {
	garbage := make(map[string]bool)
	err := c.snapshot.SecretGarbage(func(g *ledger.Garbage) error {
		garbage[g.Name] = true
		c.find(Note, "secret-gc", g.Name, fixNothing, "to be deleted since %d", g.Since)
		return nil
	})
	if err != nil || secrets == nil {
		return err
	}
	// What was there before or is there now is not missing; what was not there at
	// both times is no orphan.
	present, stayed := make(map[string]bool, len(secrets.Names)), secrets.Names
	for _, name := range secrets.Names {
		present[name] = true
	}
	if secrets.Again != nil {
		again, err := secrets.Again(ctx)
		if err != nil {
			return err
		}
		stayed = slices.DeleteFunc(slices.Clone(again), func(name string) bool { return !present[name] })
		for _, name := range again {
			present[name] = true
		}
	}
	needed, err := c.walletSecrets(present, garbage)
	if err != nil {
		return err
	}
	for _, name := range stayed {
		if garbage[name] || needed[name] {
			continue
		}
		if err := c.orphan(name); err != nil {
			return err
		}
	}
	return c.snapshot.Records(func(rec *delegate.Record) error {
		if rec.State.Ended() {
			return nil
		}
		if rec.Kind == delegate.Wallet {
			if name := treeSecret + rec.ID.String(); !present[name] || garbage[name] {
				c.find(Fault, "secret-missing", rec.ID, fixSecret, "in %s its tree secret is gone", rec.State)
			}
			if name := forfeitSecret + rec.ID.String(); rec.HasSealed() && (!present[name] || garbage[name]) {
				c.find(Fault, "secret-missing", rec.ID, fixSecret, "in %s its sealed forfeits are gone", rec.State)
			}
			return nil
		}
		name, known := secrets.Service[rec.DelegateKey]
		if !known || !present[name] {
			c.find(Fault, "secret-missing", rec.ID, "Bring the service key back from the backup of the secret store.", "no secret for its delegate key %s", rec.DelegateKey)
		}
		return nil
	})
}

// orphan tells of a secret of a delegate or a wallet that nothing needs. While there
// are rows that cannot be read, one of them may need it.
func (c *check) orphan(name string) error {
	severity, fix := Fault, fixOrphan
	if c.report.Unreadable > 0 {
		severity, fix = Note, "Keep it: a row that cannot be read may need it."
	}
	for _, prefix := range []string{shareSecret, delegateSecret} {
		if strings.HasPrefix(name, prefix) {
			c.find(severity, "secret-orphan", name, fix, "no wallet needs it and nothing will delete it")
		}
	}
	id, needs := strings.TrimPrefix(name, treeSecret), func(*delegate.Record) bool { return true }
	switch {
	case strings.HasPrefix(name, treeSecret):
	case strings.HasPrefix(name, forfeitSecret):
		id, needs = strings.TrimPrefix(name, forfeitSecret), (*delegate.Record).HasSealed
	default:
		return nil
	}
	open, err := c.open(id, needs)
	if err == nil && !open {
		c.find(severity, "secret-orphan", name, fix, "no delegate needs it and nothing will delete it")
	}
	return err
}

// open says whether the delegate of that id, in hex, is still there to need a secret
// and is one that needs it.
func (c *check) open(id string, needs func(*delegate.Record) bool) (bool, error) {
	parsed, err := vigil.ParseDelegateID(id)
	if err != nil {
		return false, nil
	}
	rec, err := c.snapshot.Record(parsed)
	if missing(err) {
		return false, nil
	}
	if unreadable(err) {
		return true, nil // somebody may still mend it
	}
	return err == nil && !rec.State.Ended() && needs(rec), err
}
