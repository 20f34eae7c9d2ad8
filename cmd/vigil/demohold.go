package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/stock"
)

// hold makes the operator keep Vigil in the state in which it is to be killed.
func (d *demonstration) hold() {
	switch d.kill {
	case "due":
		d.op.Fault(arktest.Fault{Method: "GetVtxos", Code: codes.Unavailable})
	case "registering":
		d.op.Fault(arktest.Fault{Method: "RegisterIntent", LoseAnswer: true})
	case "registered":
		_ = d.op.Update(func(s *arktest.Settings) { s.MinParticipants = 2 }) // a round alone is abandoned
	case "joining":
		d.op.Fault(arktest.Fault{Method: "SubmitTreeNonces", Hang: true})
	case "submitted":
		d.op.Fault(arktest.Fault{Method: "SubmitSignedForfeitTxs", LoseAnswer: true})
	}
}

// release lets the operator work normally again.
func (d *demonstration) release() error {
	d.op.ClearFaults()
	if d.kill == "unconfirmed" {
		return d.op.Mine(1)
	}
	return d.op.Update(func(s *arktest.Settings) { s.MinParticipants = 1 })
}

// killVigil waits for the state, ends the process as a power cut does, and looks
// at what is left.
func (d *demonstration) killVigil() error {
	if err := d.await(d.kill); err != nil {
		return err
	}
	d.child.kill()
	var list admin.Page
	if err := d.child.ask(d.ctx, &list, "delegates", "list"); err != nil {
		return err
	}
	if len(list.Delegates) != 1 {
		return fmt.Errorf("%d delegates are stored", len(list.Delegates))
	}
	d.out.KilledAtState = list.Delegates[0].State
	if d.out.KilledAtState != d.kill {
		return fmt.Errorf("the delegate was %q and not %q when Vigil died", d.out.KilledAtState, d.kill)
	}
	var report admin.Report
	if err := d.child.ask(d.ctx, &report, "fsck"); err != nil {
		return err
	}
	d.say("5. Vigil is killed with SIGKILL, as by a power cut, while the delegate is %s. What it stored is sound: %d record, %d faults.",
		d.out.KilledAtState, report.Records, faults(report))
	return nil
}

func faults(r admin.Report) (n int) {
	for _, f := range r.Findings {
		if f.Fault {
			n++
		}
	}
	return n
}

// await asks Vigil, as an owner may, until the delegate is in the state.
func (d *demonstration) await(states ...string) error {
	tick := time.NewTicker(60 * time.Millisecond) // the limits allow 20 requests a second
	defer tick.Stop()
	last := ""
	for {
		state, err := d.state()
		if err == nil && slices.Contains(states, state) {
			return nil
		}
		if err == nil {
			last = state
		}
		select {
		case <-tick.C:
		case <-d.ctx.Done():
			return fmt.Errorf("the delegate did not become %v; it is %q (%v)", states, last, err)
		}
	}
}

// state asks Vigil for the delegate's state with the question that the device
// signed before it went off.
func (d *demonstration) state() (string, error) {
	var list struct {
		Delegates []struct {
			State string `json:"state"`
		} `json:"delegates"`
	}
	if time.Since(d.asked) > 20*time.Second {
		// A question is good for a minute; the demo asks in the owner's name.
		if err := d.ask(); err != nil {
			return "", err
		}
	}
	if err := d.service.Post(d.ctx, "/v1/delegates/list", d.question, &list); err != nil {
		return "", err
	}
	if len(list.Delegates) != 1 {
		return "", fmt.Errorf("Vigil knows %d delegates", len(list.Delegates))
	}
	return list.Delegates[0].State, nil
}

// ask signs the question for the owner's delegates.
func (d *demonstration) ask() (err error) {
	d.asked = time.Now()
	d.question, err = d.device.Prove(stock.ListMessage(d.key, d.asked), d.before)
	return err
}

// decode reads the answer of a command.
func decode(raw []byte, into any) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%w in %q", err, raw)
	}
	return nil
}
