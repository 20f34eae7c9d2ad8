package delegate

import (
	"fmt"
	"slices"
	"strings"
)

// Diagram draws the state table as Markdown: two Mermaid drawings, what a
// restart does in each live state, and every edge. docs/states.md is its
// output; a test holds the two together.
func Diagram() string {
	var b strings.Builder
	b.WriteString("# The states of a delegate\n\n")
	b.WriteString("Generated from `delegate/table.go` by `go test ./delegate -run TestDiagram -update`. Do not edit.\n\n")
	b.WriteString("Every edge is a compare-and-swap on the record's version, written durably. A state that calls the operator is\nwritten before the call, and the outcome after it.\n\n")
	b.WriteString("## The way of a renewal\n\n```mermaid\nstateDiagram-v2\n    [*] --> armed: stored\n    [*] --> pending: stored while an older one is in flight\n")
	for _, arrow := range arrows(func(e Edge) bool { return e.To.Live() || e.To == Settled }) {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", arrow.from, arrow.to, strings.Join(arrow.events, ", "))
	}
	b.WriteString("    settled --> [*]\n```\n\n## How one ends without renewal\n\n```mermaid\nflowchart LR\n")
	for _, end := range []State{Spent, Broken, Replaced, Cancelled, Expired, Quarantined} {
		var from []string
		var event Event
		for _, e := range table {
			if e.To == end && e.From != end {
				from, event = append(from, e.From.String()), e.Event
			}
		}
		fmt.Fprintf(&b, "    from_%s[\"%s\"] -- %s --> %s\n", end, strings.Join(from, "<br/>"), event, end)
	}
	b.WriteString("```\n\n## After a restart\n\n| state | what is done |\n|---|---|\n")
	for _, e := range table {
		if e.Event == Recover {
			fmt.Fprintf(&b, "| %s | %s |\n", e.From, e.Why)
		}
	}
	b.WriteString("\n## Every edge\n\n| from | event | to | when, or what follows |\n|---|---|---|---|\n")
	for _, e := range table {
		if e.Event != Recover {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", e.From, e.Event, e.To, e.Why)
		}
	}
	return b.String()
}

type arrow struct {
	from, to State
	events   []string
}

// arrows merges the chosen edges that share both ends, leaving out loops.
func arrows(choose func(Edge) bool) []arrow {
	var all []arrow
	for _, e := range table {
		if e.From == e.To || !choose(e) {
			continue
		}
		i := slices.IndexFunc(all, func(a arrow) bool { return a.from == e.From && a.to == e.To })
		if i < 0 {
			i = len(all)
			all = append(all, arrow{from: e.From, to: e.To})
		}
		all[i].events = append(all[i].events, e.Event.String())
	}
	return all
}
