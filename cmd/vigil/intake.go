package main

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/stock"
)

// intake is the port that the edge serves. What it serves can be exchanged while
// it runs, when the keys or the pinned operator change, and closed by a hold.
type intake struct {
	current atomic.Pointer[stock.Service]
	held    atomic.Bool
}

var _ vigil.Delegates = (*intake)(nil)

// onHold refuses whatever would change something.
func (i *intake) onHold() error {
	if !i.held.Load() {
		return nil
	}
	return vigil.Errorf(vigil.CodeOnHold, "this server was restored from a backup and waits for its operator; it takes and changes nothing until then")
}

// Terms implements vigil.Delegates. On hold nobody is told to sign anything.
func (i *intake) Terms(ctx context.Context) (vigil.Terms, error) {
	if err := i.onHold(); err != nil {
		return vigil.Terms{}, err
	}
	return i.current.Load().Terms(ctx)
}

// Submit implements vigil.Delegates.
func (i *intake) Submit(ctx context.Context, s vigil.Submission) (vigil.Summary, error) {
	if err := i.onHold(); err != nil {
		return vigil.Summary{}, err
	}
	return i.current.Load().Submit(ctx, s)
}

// List implements vigil.Delegates. Owners may look also while a hold lasts.
func (i *intake) List(ctx context.Context, in vigil.Intent) ([]vigil.Summary, error) {
	return i.current.Load().List(ctx, in)
}

// Cancel implements vigil.Delegates.
func (i *intake) Cancel(ctx context.Context, in vigil.Intent) (vigil.Summary, error) {
	if err := i.onHold(); err != nil {
		return vigil.Summary{}, err
	}
	return i.current.Load().Cancel(ctx, in)
}

// ready asks the service behind it.
func (i *intake) ready(ctx context.Context) error { return i.current.Load().Ready(ctx) }

// errHeld is the reason of the readiness check.
var errHeld = errors.New("restored and not confirmed: `vigil restore --confirm`")

func (i *intake) readyHold(context.Context) error {
	if i.held.Load() {
		return errHeld
	}
	return nil
}

// newService makes the service over the keys and the operator as they are
// stored now.
func (h *house) newService(ctx context.Context) (*stock.Service, error) {
	keys, err := serviceKeys(ctx, h.stores)
	if err != nil {
		return nil, err
	}
	// Noted before the first delegate can name them, so that a start without their
	// secrets is refused.
	if err := h.stores.ledger.NoteServiceKeys(ctx, keys...); err != nil {
		return nil, err
	}
	pinned, err := h.stores.ledger.Operator(ctx)
	if err != nil {
		return nil, err
	}
	c := h.c
	return stock.New(stock.Config{
		Keys: keys, Signer: pinned.Signer, Fee: c.FeeSats, FeeAddress: c.FeeAddress, FeeSlack: c.FeeSlackSats, AnyDestination: c.AnyDestination,
		Inputs: c.MaxInputs, Outputs: c.MaxOutputs, PerScript: c.MaxPerScript, DiskLow: h.disk.low, Wake: h.wake, Log: h.env.log,
	}, h.client, h.stores.ledger)
}

// serviceKeys returns the keys that wallets may name, the one for new ones
// first. Retired keys still carry out what was signed for them, and are offered
// to nobody. Nothing here ever makes a key.
func serviceKeys(ctx context.Context, s *stores) ([]bip340.PubKey, error) {
	all, err := signer.New(s.secrets).ServiceKeys(ctx)
	if err != nil {
		return nil, err
	}
	retired, err := s.ledger.Retired(ctx)
	if err != nil {
		return nil, err
	}
	return inUse(all, retired)
}
