package wallet_test

import (
	"testing"

	"github.com/vigil-ark/vigil/audit"
	"github.com/vigil-ark/vigil/ledger"
)

// rowSize is what one decision may cost on the disk, however much is signed by it:
// rows of the audit are kept by number.
const rowSize = 512

func TestADecisionOverManyCoinsIsAShortRow(t *testing.T) {
	w := newWorld(t)
	d := made(w, 2, 2)
	if _, err := d.sign(both(), d.renewal(d.coins(20)...)); err != nil {
		t.Fatal(err)
	}
	signed := uint32(0)
	err := w.ledger.AuditEntries(t.Context(), 1, 1<<20, func(a ledger.Audited) error {
		_, e, err := audit.Decode(a.Entry)
		if len(a.Entry) > rowSize {
			t.Errorf("%s over %d signatures takes %d bytes", e.Method, e.Signatures, len(a.Entry))
		}
		signed = max(signed, e.Signatures)
		return err
	})
	if err != nil || signed != 21 {
		t.Fatalf("a decision over %d signatures, %v", signed, err)
	}
}
