package batch_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/vigil-ark/vigil/ark/batch"
)

// FuzzEvents delivers a recorded batch's events as the input says: any order,
// any number of times, with a bit flipped anywhere. Nothing panics, no step
// comes out of turn, and whenever forfeits are asked for, what they pay for is
// all there and right.
func FuzzEvents(f *testing.F) {
	recs := recordings(f)
	for i, r := range recs {
		honest := []byte{byte(i)}
		n := 0
		for _, g := range r.groups {
			for range g {
				honest = append(honest, byte(n), 0, 0)
				n++
			}
		}
		f.Add(honest)
		for at := 1; at < len(honest); at += 3 {
			bad := slices.Clone(honest)
			bad[at+1], bad[at+2] = 1, byte(40*at)
			f.Add(bad)
		}
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) == 0 || len(script) > 600 {
			return
		}
		r := recs[int(script[0])%len(recs)]
		all := slices.Concat(r.groups...)
		b, err := batch.New(r.op.config(), r.op.started(), r.op.tasks())
		if err != nil {
			t.Fatal(err)
		}
		w := &watcher{t: t, r: r, b: b, spoiled: true}
		for s := script[1:]; len(s) >= 3; s = s[3:] {
			ev := all[int(s[0])%len(all)]
			if s[1] != 0 {
				ev = spoil(ev, s[1], s[2])
			}
			w.deliver(ev)
		}
		if w.forfeits != nil {
			checkForfeits(t, r.op, w.forfeits)
		}
	})
}

// spoil changes one thing in an event.
func spoil(ev batch.Event, what, where byte) batch.Event {
	flip := func(s string) string {
		if s == "" {
			return "A"
		}
		b := []byte(s)
		b[(int(what)<<8|int(where))%len(b)] ^= 1 << (where % 6)
		return string(b)
	}
	switch ev := ev.(type) {
	case batch.TreeTx:
		switch what % 4 {
		case 0:
			ev.BatchIndex ^= 1
		case 1:
			ev.PSBT = flip(ev.PSBT)
		case 2:
			ev.Children = maps.Clone(ev.Children)
			for i, c := range ev.Children {
				if byte(i) == where%4 {
					ev.Children[i] = flip(c)
				}
			}
		default:
			ev.Topics = slices.Clone(ev.Topics)
			for i := range ev.Topics {
				if i == int(where)%len(ev.Topics) {
					ev.Topics[i] = flip(ev.Topics[i])
				}
			}
		}
		return ev
	case batch.TreeSigningStarted:
		if what%2 == 0 {
			ev.Commitment = flip(ev.Commitment)
		} else {
			ev.Cosigners = append(slices.Clone(ev.Cosigners), fmt.Sprint(where))
		}
		return ev
	case batch.TreeNonces:
		ev.Nonces = maps.Clone(ev.Nonces)
		for k, n := range ev.Nonces {
			if k[0]%2 == where%2 {
				n[what%66] ^= 1 << (where % 8)
				ev.Nonces[k] = n
			}
		}
		return ev
	case batch.TreeSignature:
		ev.Signature[what%64] ^= 1 << (where % 8)
		return ev
	case batch.Finalization:
		ev.Commitment = flip(ev.Commitment)
		return ev
	case batch.Finalized:
		ev.Txid[what%32] ^= 1 << (where % 8)
		return ev
	}
	return batch.Failed{BatchID: batchID, Reason: "spoiled"}
}
