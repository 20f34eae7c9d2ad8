package arktest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
)

// receiver is one output that an intent asks for.
type receiver struct {
	amount   int64
	pkScript []byte
	onchain  bool
}

// boardingInput is an on-chain output that an intent spends.
type boardingInput struct {
	outpoint wire.OutPoint
	amount   int64
	pkScript []byte
	leaves   [][]byte
}

// intent is a registered intent. Its inputs are the VTXOs as they were at
// registration: arkd does not look at them again when it selects.
type intent struct {
	id        string
	proofTxid string
	raw       rawIntent
	inputs    []VTXO
	boarding  []boardingInput
	cosigners []string // compressed hex, as registered
	receivers []receiver
	extension []byte // script of the leaf's extension output
	at        time.Time
	order     uint64
}

func (in *intent) hash() string {
	h := sha256.Sum256([]byte(in.id))
	return hex.EncodeToString(h[:])
}

func (in *intent) outAmount() (sum int64) {
	for _, r := range in.receivers {
		sum += r.amount
	}
	return sum
}

func (in *intent) inAmount() (sum int64) {
	for _, v := range in.inputs {
		sum += v.Amount
	}
	return sum
}

// outpoints lists the intent's VTXO inputs and boarding inputs.
func (in *intent) outpoints() []wire.OutPoint {
	var out []wire.OutPoint
	for _, v := range in.inputs {
		out = append(out, v.Outpoint)
	}
	for _, b := range in.boarding {
		out = append(out, b.outpoint)
	}
	return out
}

func (in *intent) onlyOnchain() bool {
	return !slices.ContainsFunc(in.receivers, func(r receiver) bool { return !r.onchain })
}

// slot names an input in the queue's index; a VTXO and a boarding input of the
// same outpoint do not collide, as in arkd.
type slot struct {
	op       wire.OutPoint
	boarding bool
}

func (in *intent) slots() []slot {
	var out []slot
	for _, v := range in.inputs {
		out = append(out, slot{v.Outpoint, false})
	}
	for _, b := range in.boarding {
		out = append(out, slot{b.outpoint, true})
	}
	return out
}

// queue holds registered intents in memory. It keeps two of arkd's quirks: the
// duplicate check sees queued intents only, not selected ones, and the inputs
// of selected intents stay marked until the next round begins.
type queue struct {
	mu       sync.Mutex
	intents  map[string]*intent
	inputs   map[slot]string // to intent id
	marked   map[wire.OutPoint]int
	unmark   []wire.OutPoint
	selected []*intent
	order    uint64
}

func newQueue() *queue {
	return &queue{intents: map[string]*intent{}, inputs: map[slot]string{}, marked: map[wire.OutPoint]int{}}
}

// push queues an intent, or says which input is taken.
func (q *queue) push(in *intent, now time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.intents[in.id]; ok {
		return fmt.Errorf("duplicated intent %s", in.id)
	}
	for _, s := range in.slots() {
		if _, taken := q.inputs[s]; taken {
			return fmt.Errorf("duplicated input, %s already registered by another intent", s.op)
		}
	}
	q.order++
	in.at, in.order = now, q.order
	q.intents[in.id] = in
	for _, s := range in.slots() {
		q.inputs[s] = in.id
	}
	for _, v := range in.inputs {
		if !v.Note() {
			q.marked[v.Outpoint]++
		}
	}
	return nil
}

func (q *queue) drop(in *intent) {
	delete(q.intents, in.id)
	for _, s := range in.slots() {
		delete(q.inputs, s)
	}
}

// pop takes the n oldest intents.
func (q *queue) pop(n int) []*intent {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]*intent, 0, len(q.intents))
	for _, in := range q.intents {
		all = append(all, in)
	}
	slices.SortFunc(all, func(a, b *intent) int { return int(int64(a.order) - int64(b.order)) })
	all = all[:min(n, len(all))]
	for _, in := range all {
		q.drop(in)
		for _, v := range in.inputs {
			q.unmark = append(q.unmark, v.Outpoint)
		}
	}
	q.selected = slices.Clone(all)
	return all
}

// settle unmarks the inputs of what earlier rounds selected.
func (q *queue) settle() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, op := range q.unmark {
		if q.marked[op]--; q.marked[op] <= 0 {
			delete(q.marked, op)
		}
	}
	q.unmark = nil
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.intents)
}

// includes says whether one of ops is queued or selected.
func (q *queue) includes(ops []wire.OutPoint) (wire.OutPoint, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, op := range ops {
		if q.marked[op] > 0 {
			return op, true
		}
	}
	return wire.OutPoint{}, false
}

// matching lists queued intents that have one of ops as a VTXO input.
func (q *queue) matching(ops []wire.OutPoint) []*intent {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*intent
	for _, op := range ops {
		if id, ok := q.inputs[slot{op, false}]; ok && !slices.Contains(out, q.intents[id]) {
			out = append(out, q.intents[id])
		}
	}
	return out
}

func (q *queue) remove(list []*intent) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, in := range list {
		if q.intents[in.id] != in {
			continue
		}
		q.drop(in)
		for _, v := range in.inputs {
			if q.marked[v.Outpoint]--; q.marked[v.Outpoint] <= 0 {
				delete(q.marked, v.Outpoint)
			}
		}
	}
}

// view returns the queued and the last selected intents.
func (q *queue) view() (queued, selected []*intent) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, in := range q.intents {
		queued = append(queued, in)
	}
	slices.SortFunc(queued, func(a, b *intent) int { return int(int64(a.order) - int64(b.order)) })
	return queued, slices.Clone(q.selected)
}
