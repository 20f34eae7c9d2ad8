package delegate

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write docs/states.md from the state table")

// wanted is the table once more, as the specification tells it: from each
// state, what each event leads to. Everything that is not here is refused.
var wanted = map[State]map[Event]State{
	Pending: {
		Note: Pending, Recover: Pending, Promote: Armed, InputSpent: Spent, InputUnrolled: Broken,
		Replace: Replaced, Cancel: Cancelled, Expire: Expired,
	},
	Armed: {
		Note: Armed, Recover: Armed, Ripe: Due, Late: Unconfirmed, InputSpent: Spent, InputUnrolled: Broken,
		Replace: Replaced, Cancel: Cancelled, Expire: Expired, Quarantine: Quarantined,
	},
	Due: {
		Note: Due, Recover: Due, Register: Registering, Late: Unconfirmed, InputSpent: Spent, InputUnrolled: Broken,
		Replace: Replaced, Cancel: Cancelled, Expire: Expired, Quarantine: Quarantined,
	},
	Registering: {
		Note: Registering, Recover: Registering, Accepted: Registered, Refused: Due, Late: Unconfirmed, InputSpent: Spent,
		InputUnrolled: Broken, Replace: Replaced, Cancel: Cancelled, Expire: Expired, Quarantine: Quarantined,
	},
	Registered: {
		Note: Registered, Recover: Registered, Join: Joining, Dropped: Due, Late: Unconfirmed, InputSpent: Spent,
		InputUnrolled: Broken, Replace: Replaced, Cancel: Cancelled, Expire: Expired, Quarantine: Quarantined,
	},
	Joining: {
		Note: Joining, Recover: Joining, Requeued: Registered, BatchFailed: Due, Submit: Submitted, Finalized: Unconfirmed,
		Late: Unconfirmed, InputSpent: Spent, InputUnrolled: Broken, Quarantine: Quarantined,
	},
	Submitted: {
		Note: Submitted, Recover: Submitted, Finalized: Unconfirmed, NotFinalized: Due, Late: Unconfirmed,
		InputSpent: Spent, InputUnrolled: Broken,
	},
	Unconfirmed: {
		Note: Unconfirmed, Recover: Unconfirmed, Confirmed: Settled, Conflict: Due, Late: Unconfirmed,
	},
	Quarantined: {
		Note: Quarantined, Release: Due, Late: Unconfirmed, InputSpent: Spent, InputUnrolled: Broken, Replace: Replaced, Cancel: Cancelled, Expire: Expired,
	},
	Settled: {}, Spent: {}, Broken: {}, Replaced: {}, Cancelled: {}, Expired: {},
}

func TestEveryPairOfTheTable(t *testing.T) {
	pairs := 0
	for _, s := range States() {
		for _, e := range Events() {
			got, err := Next(s, e)
			want, ok := wanted[s][e]
			switch {
			case ok && (err != nil || got != want):
				t.Errorf("%s in %s leads to %s (%v), want %s", e, s, got, err, want)
			case !ok && !errors.Is(err, ErrTransition):
				t.Errorf("%s in %s leads to %s, want a refusal", e, s, got)
			}
			if ok {
				pairs++
			}
		}
	}
	if pairs != len(Table()) {
		t.Errorf("the table has %d rows, %d of them are reachable: one is there twice", len(Table()), pairs)
	}
}

func TestTableHoldsItsPromises(t *testing.T) {
	for _, s := range States() {
		if _, err := Next(s, Recover); (err == nil) != s.Live() {
			t.Errorf("%s: a Recover edge must stand in every live state and in no other", s)
		}
		if s.Ended() && s.Live() || s.Ended() && len(wanted[s]) > 0 {
			t.Errorf("%s is an end with a way on", s)
		}
	}
	// No second forfeit: from submitted only the three answers to "was it
	// broadcast" and the loss of an input lead on.
	for _, e := range []Event{Register, Join, Submit, Replace, Cancel, Expire, Quarantine, BatchFailed} {
		if _, err := Next(Submitted, e); err == nil {
			t.Errorf("%s must not be possible in submitted", e)
		}
	}
}

func TestNamesRoundTrip(t *testing.T) {
	for _, s := range States() {
		if got, err := ParseState(s.String()); err != nil || got != s {
			t.Errorf("%s reads back as %s, %v", s, got, err)
		}
	}
	if _, err := ParseState("asleep"); err == nil {
		t.Error("an unknown state has a number")
	}
	if State(0).Known() || State(99).String() != "state(99)" || Event(0).String() != "event(0)" {
		t.Error("an unknown number has a name")
	}
}

func TestDiagram(t *testing.T) {
	path := filepath.Join("..", "docs", "states.md")
	want := Diagram()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the table says: run go test ./delegate -run TestDiagram -update", path)
	}
}
