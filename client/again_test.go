package client_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/wallet"
	"github.com/vigil-ark/vigil/client"
	"github.com/vigil-ark/vigil/operator"
)

// TestPaidOnce breaks a payment off at each of its two steps at the operator: an
// owner who was told of an error and pays again has paid once, and one who then
// pays the same once more has paid twice.
func TestPaidOnce(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]arktest.Fault{
		"the answer is lost":  {Method: "SubmitTx", LoseAnswer: true, Times: 1},
		"the last word fails": {Method: "FinalizeTx", Code: codes.Unavailable, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, arktest.Config{})
			d, _, _ := w.create(client.CreateOptions{})
			w.minted(d, 50_000)
			c, err := operator.Dial(operator.Config{URL: w.op.URL()})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			key, _ := newKey(t)
			payee := wallet.New(c, key, nil)
			to, err := payee.Address(w.ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			received := func() (coins []ark.VTXO) {
				coins, err := payee.VTXOs(w.ctx)
				if err != nil {
					t.Fatal(err)
				}
				return coins
			}
			w.op.Fault(fault)
			if _, err := d.Send(w.ctx, to, 20_000); err == nil {
				t.Fatal("paid in spite of the fault")
			}
			at, err := d.Send(w.ctx, to, 20_000)
			if err != nil {
				t.Fatal(err)
			}
			if got := received(); len(got) != 1 || got[0].Outpoint != at || got[0].Amount != 20_000 {
				t.Fatalf("the payee has %+v, not %s", got, at)
			}
			if _, err := d.Send(w.ctx, to, 20_000); err != nil {
				t.Fatal(err)
			}
			if got := received(); len(got) != 2 {
				t.Errorf("paid %+v", got)
			}
		})
	}
}
