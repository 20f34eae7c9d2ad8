package ledger

import (
	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
)

// fill puts something in every tree.
func (f *fixture) fill() {
	f.t.Helper()
	ctx := f.t.Context()
	must := func(err error) {
		f.t.Helper()
		if err != nil {
			f.t.Fatal(err)
		}
	}
	key := bip340.PubKey{2, 0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b, 0x07, 0x02, 0x9b, 0xfc, 0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17, 0x98}
	must(f.SetOperator(ctx, Pinned{Signer: key, Network: ark.Regtest, URL: "http://operator"}))
	must(f.NoteServiceKeys(ctx, key))
	must(f.Retire(ctx, key))
	must(f.SetHold(ctx, "restored"))
	f.submit(record(1, 1, 2))                                         // armed
	f.drive(f.submit(record(2, 3)), delegate.Ripe)                    // due
	f.drive(f.submit(record(3, 4)), inFlight[delegate.Registered]...) // in flight
	f.drive(f.submit(record(4, 5)), inFlight[delegate.Submitted]...)
	f.submit(record(5, 5, 6)) // pending
	settled := f.drive(f.submit(record(6, 7)), inFlight[delegate.Unconfirmed]...)
	_, err := f.Settle(ctx, settled, []VTXO{{Outpoint: op(0xc0), Amount: 1000, Script: []byte("script")}}, "tree-secret.x")
	must(err)
	f.drive(f.submit(record(7, 8)), delegate.Cancel) // tombstone
	_, err = f.EndSpent(ctx, f.submit(record(8, 9)), []Gone{{Outpoint: op(9), By: "theft"}})
	must(err)
	lost := f.submit(record(9, 10))
	f.put(treeSessions, lost.ID[:], []byte{0xff})
	must(f.Quarantine(ctx, Due{ID: lost.ID, At: lost.NextAttempt}, "unreadable"))
}
