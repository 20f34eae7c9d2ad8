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
	case "joining", "pending":
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
	for _, one := range list.Delegates {
		if one.State == d.kill {
			d.out.KilledAtState = one.State
		}
	}
	if d.out.KilledAtState == "" {
		return fmt.Errorf("no delegate was %s when Vigil died: %+v", d.kill, list.Delegates)
	}
	var report admin.Report
	if err := d.child.ask(d.ctx, &report, "fsck"); err != nil {
		return err
	}
	d.say("5. Vigil is killed with SIGKILL, as by a power cut, while the delegate is %s.\n   What it stored is sound: %d faults in %d records.",
		d.out.KilledAtState, faults(report), report.Records)
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

// await asks Vigil, as an owner may, until a delegate over the coin is in one of
// the states.
func (d *demonstration) await(states ...string) error {
	tick := time.NewTicker(60 * time.Millisecond) // the limits allow 20 requests a second
	defer tick.Stop()
	var last []string
	for {
		now, err := d.states()
		if err == nil {
			last = now
			if slices.ContainsFunc(now, func(s string) bool { return slices.Contains(states, s) }) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-d.ctx.Done():
			return fmt.Errorf("the delegate did not become %v; it is %v (%v)", states, last, err)
		}
	}
}

// states asks Vigil for the states of the delegates over the coin, with the
// question that the device signed before it went off.
func (d *demonstration) states() ([]string, error) {
	var list struct {
		Delegates []struct {
			State string `json:"state"`
		} `json:"delegates"`
	}
	if time.Since(d.asked) > 20*time.Second {
		// A question is good for a minute; the demo asks in the owner's name.
		if err := d.ask(); err != nil {
			return nil, err
		}
	}
	if err := d.service.Post(d.ctx, "/v1/delegates/list", d.question, &list); err != nil {
		return nil, err
	}
	var states []string
	for _, one := range list.Delegates {
		states = append(states, one.State)
	}
	return states, nil
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
