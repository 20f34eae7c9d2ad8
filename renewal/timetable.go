package renewal

import (
	"container/heap"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/delegate"
)

// flight is a delegate between registration and its end, with the time at
// which the loop looks at it again. Its durable twin is the record.
type flight struct {
	rec    *delegate.Record
	next   time.Time
	missed int       // batches that should have listed it and did not
	since  time.Time // it stands where it stands

	in *timetable // nil while a worker has it
	at int        // its place there
}

func (f *flight) busy() bool { return f.in == nil }

// timetable holds flights that wait, the soonest first, so that the loop looks
// only at those whose time has come, however many there are.
type timetable []*flight

func (t timetable) Len() int           { return len(t) }
func (t timetable) Less(i, j int) bool { return t[i].next.Before(t[j].next) }
func (t timetable) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].at, t[j].at = i, j
}

// Push is heap.Interface's.
func (t *timetable) Push(x any) {
	f := x.(*flight)
	f.in, f.at = t, len(*t)
	*t = append(*t, f)
}

// Pop is heap.Interface's.
func (t *timetable) Pop() any {
	last := len(*t) - 1
	f := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	f.in = nil
	return f
}

// ripe takes at most limit flights whose time has come, and returns when the
// next one's comes, which is in the past when the limit left some over.
func (t *timetable) ripe(now time.Time, limit int) (due []*flight, next time.Time) {
	for len(*t) > 0 && !(*t)[0].next.After(now) && len(due) < limit {
		due = append(due, heap.Pop(t).(*flight))
	}
	if len(*t) > 0 {
		next = (*t)[0].next
	}
	return due, next
}

// flights are all delegates in flight, by what they wait for.
type flights struct {
	byID map[vigil.DelegateID]*flight
	// hashes of the intent ids that we wait to see listed.
	hashes map[string]vigil.DelegateID

	registering timetable // to be tried again
	registered  timetable // to be listed by a batch
	watched     timetable // for an end: joined, submitted, unconfirmed

	unconfirmed int // how many wait for their commitment's depth only
}

func newFlights() *flights {
	return &flights{byID: map[vigil.DelegateID]*flight{}, hashes: map[string]vigil.DelegateID{}}
}

// table is where a flight of that state waits.
func (a *flights) table(s delegate.State) *timetable {
	switch s {
	case delegate.Due, delegate.Registering:
		return &a.registering
	case delegate.Registered:
		return &a.registered
	}
	return &a.watched
}

// hold takes a flight out of its table: a worker has it.
func (a *flights) hold(f *flight) {
	if f.in != nil {
		heap.Remove(f.in, f.at)
	}
}

// wait puts a flight where it waits until at.
func (a *flights) wait(f *flight, at time.Time) {
	f.next = at
	if t := a.table(f.rec.State); f.in == t {
		heap.Fix(t, f.at)
	} else {
		a.hold(f)
		heap.Push(t, f)
	}
}

// put sets a flight's record, and makes the flight if there is none. It says
// whether the record stands elsewhere than before.
func (a *flights) put(rec *delegate.Record) (f *flight, moved bool) {
	f = a.byID[rec.ID]
	if f == nil {
		f = &flight{}
		a.byID[rec.ID] = f
	} else {
		a.count(f, -1)
	}
	moved = f.rec == nil || f.rec.State != rec.State || f.rec.IntentID != rec.IntentID
	if f.rec != nil && f.rec.IntentID != rec.IntentID {
		a.unlist(f.rec)
	}
	f.rec = rec
	a.count(f, 1)
	if rec.State == delegate.Registered {
		a.hashes[batch.IntentHash(rec.IntentID)] = rec.ID
	}
	return f, moved
}

// drop forgets a flight.
func (a *flights) drop(id vigil.DelegateID) {
	f := a.byID[id]
	if f == nil {
		return
	}
	a.hold(f)
	a.count(f, -1)
	a.unlist(f.rec)
	delete(a.byID, id)
}

func (a *flights) unlist(rec *delegate.Record) {
	if rec.IntentID != "" {
		delete(a.hashes, batch.IntentHash(rec.IntentID))
	}
}

func (a *flights) count(f *flight, by int) {
	if f.rec.State == delegate.Unconfirmed {
		a.unconfirmed += by
	}
}

// claimed is how many take part in registrations and batches, of which there
// are only so many at once; those that wait for depth cost nothing.
func (a *flights) claimed() int { return len(a.byID) - a.unconfirmed }

// underway says whether a worker registers delegates just now, whose intent ids
// are not known yet.
func (a *flights) underway() bool {
	for _, f := range a.byID {
		if f.busy() && (f.rec.State == delegate.Due || f.rec.State == delegate.Registering) {
			return true
		}
	}
	return false
}
