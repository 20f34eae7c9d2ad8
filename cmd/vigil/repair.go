package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/ledger"
)

// repaired is what `vigil fsck --repair --json` prints.
type repaired struct {
	Changed    bool         `json:"changed"`
	Copy       string       `json:"copy,omitempty"` // of the store as it was; "": nothing was changed
	Rows       []mended     `json:"rows"`
	More       int          `json:"more"`       // rows beyond those
	Unreadable int          `json:"unreadable"` // rows that no other tells: they stay, marked
	Check      admin.Report `json:"check"`      // after it
}

// mended is one row that was changed.
type mended struct {
	Tree string `json:"tree"`
	Key  string `json:"key"` // hex
	Did  string `json:"did"` // written, rewritten or deleted
}

// repair builds the indexes anew, offline.
func (c *fsckCmd) repair(env *environment) error {
	switch _, err := admin.Dial(env.ctx, c.socket()); {
	case err == nil:
		return fmt.Errorf("a Vigil runs over %s: stop it first, a repair wants the stores for itself", c.DataDir)
	case !errors.Is(err, admin.ErrNoServer):
		return err
	}
	var out repaired
	err := env.working("repairing "+c.DataDir, func() (err error) {
		s, err := c.open(env, nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		if out, err = s.repair(env.ctx, c.DataDir, time.Now()); err != nil {
			return err
		}
		out.Check, err = admin.New(s.local(c.places, nil)).Check(env.ctx)
		return err
	})
	if err != nil {
		return err
	}
	if err := env.print(out, "%s", repairText(out)); err != nil {
		return err
	}
	if !out.Check.Clean {
		return errors.New("what is left is not for a repair to mend")
	}
	return nil
}

// repair copies the key-value store and repairs it. A copy of what was not changed
// is taken away again.
func (s *stores) repair(ctx context.Context, dir string, now time.Time) (repaired, error) {
	if err := s.kv.Check(ctx); err != nil {
		return repaired{}, fmt.Errorf("the file of the key-value store is damaged itself, and a repair could make it worse; restore it (docs/operations.md): %w", err)
	}
	path := filepath.Join(dir, "kv-before-repair-"+now.UTC().Format("20060102T150405.000Z")+".db")
	if err := s.kv.Backup(ctx, path); err != nil {
		return repaired{}, fmt.Errorf("copy before the repair: %w", err)
	}
	done, err := s.ledger.Repair(ctx)
	if err != nil {
		return repaired{}, fmt.Errorf("the repair failed; the store as it was is in %s: %w", path, err)
	}
	out := repaired{Changed: done.Changed(), Copy: path, Rows: []mended{}, More: done.More, Unreadable: done.Unreadable}
	for _, m := range done.Mended {
		out.Rows = append(out.Rows, mended{m.Tree, hex.EncodeToString(m.Key), string(m.Did)})
	}
	if !out.Changed {
		out.Copy = ""
		return out, os.Remove(path)
	}
	return out, nil
}

// repairText is what a repair did, for people.
func repairText(r repaired) string {
	var b strings.Builder
	for _, m := range r.Rows {
		fmt.Fprintf(&b, "%s %s %s\n", m.Did, m.Tree, m.Key)
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", r.More)
	}
	switch {
	case !r.Changed:
		b.WriteString("Nothing was to be repaired, and nothing was changed.\n")
	default:
		fmt.Fprintf(&b, "Repaired %d rows. The store as it was is in %s; it is yours to delete.\n", len(r.Rows)+r.More, r.Copy)
	}
	if r.Unreadable > 0 {
		fmt.Fprintf(&b, "%d rows cannot be read and stand nowhere else: they are marked, and as they were.\n", r.Unreadable)
	}
	return b.String() + reportText(r.Check)
}

// lookAtIndexes reads what the engine will read first, and tells when damage to an
// index may leave delegates unarmed: nothing but a repair finds those.
func (s *stores) lookAtIndexes(env *environment) error {
	l, ctx := s.ledger, env.ctx
	_, _, due := l.NextDue(ctx)
	_, _, expiry := l.NearestExpiry(ctx, time.Unix(0, 0))
	_, flights := l.InFlight(ctx)
	_, _, watching := l.Watching(ctx, 1, nil)
	marks, err := l.Unreadable(ctx)
	if err := errors.Join(due, expiry, flights, watching, err); err != nil {
		return err
	}
	n := 0
	for _, m := range marks {
		if ledger.Rebuilt(m.Tree) {
			n++
		}
	}
	if n > 0 {
		env.log.Error("an index is damaged: delegates may be stored and not armed; stop Vigil and run `vigil fsck --repair`", "rows", n)
	}
	return nil
}
