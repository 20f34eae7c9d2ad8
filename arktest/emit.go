package arktest

import (
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// eventMsg is one event of the batch stream with its topics.
type eventMsg = message[*arkv1.GetEventStreamResponse]

// group names an emission group (protocol section 5.2).
type group int

const (
	groupStarted group = iota // BatchStarted
	groupTree                 // TreeTx(0)…, TreeSigningStarted
	groupNonces               // TreeNonces…, TreeNoncesAggregated
	groupFinal                // TreeSignature…, TreeTx(1)…, BatchFinalization
	groupEnd                  // BatchFinalized or BatchFailed
)

// emit sends a group to whom it concerns, as the batch's lies change it.
func (p *process) emit(r *round, g group, events []eventMsg) {
	if len(r.lies) == 0 {
		p.events.emit(events)
		return
	}
	if r.lies.cuts(g) {
		for _, l := range p.events.listeners() {
			p.events.drop(l.id)
		}
		return
	}
	for _, group := range r.lies.events(p, r, g, events) {
		p.events.emit(group)
	}
}
