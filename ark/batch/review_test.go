package batch_test

import (
	"strings"
	"testing"

	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/bip340"
)

// TestStrangersCannotSpoilABatch has a stranger fill in his own intent whatever
// the operator takes: it looks at none of the cosigner keys of an intent but to
// compare their text with its own key's. None of it may make us refuse: who does
// not answer is convicted, with all our users.
func TestStrangersCannotSpoilABatch(t *testing.T) {
	service, foreign := keyOf(t, 1), keyOf(t, 500)
	ours := func() []part {
		return []part{ourTask(t, 2, service, p2tr(t, 9000, 1)), ourTask(t, 3, service, p2tr(t, 9000, 2))}
	}
	for _, c := range []struct {
		name     string
		stranger func() part
		announce func(op *operator, ev *batch.TreeSigningStarted)
	}{
		{name: "our outputs under our key and one of his", stranger: func() part {
			p := stranger(t, 1, service, p2tr(t, 9000, 1))
			p.more = []bip340.PubKey{foreign.PubKey()}
			return p
		}},
		{name: "our outputs, under our key alone", stranger: func() part { return stranger(t, 1, service, p2tr(t, 9000, 1)) }},
		{name: "a key of 65 bytes", announce: func(_ *operator, ev *batch.TreeSigningStarted) {
			ev.Cosigners = append(ev.Cosigners, "04"+strings.Repeat("ab", 64))
		}},
		{name: "no key at all", announce: func(_ *operator, ev *batch.TreeSigningStarted) { ev.Cosigners = append(ev.Cosigners, "") }},
		{name: "the operator's key in capitals", announce: func(op *operator, ev *batch.TreeSigningStarted) {
			ev.Cosigners = append(ev.Cosigners, strings.ToUpper(op.key.String()))
		}},
		{name: "the operator's key negated", announce: func(op *operator, ev *batch.TreeSigningStarted) {
			k := op.key
			k[0] ^= 1
			ev.Cosigners = append(ev.Cosigners, k.String())
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			his := stranger(t, 1, foreign, p2tr(t, 400, 9))
			if c.stranger != nil {
				his = c.stranger()
			}
			for _, parts := range [][]part{append([]part{his}, ours()...), append(ours(), his)} {
				op := newOperator(t, parts...).knows(foreign).build()
				o := run(op, newSigner(t, service), op.open(), func(_ int, evs []batch.Event) []batch.Event {
					for i, ev := range evs {
						if started, ok := ev.(batch.TreeSigningStarted); ok && c.announce != nil {
							c.announce(op, &started)
							evs[i] = started
						}
					}
					return evs
				})
				checkRenewed(t, op, o)
			}
		})
	}
}
