package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vigil-ark/vigil/admin"
)

type delegatesCmd struct {
	List   delegatesListCmd   `cmd:"" help:"List delegates."`
	Show   delegatesShowCmd   `cmd:"" help:"Show one delegate."`
	Cancel delegatesCancelCmd `cmd:"" help:"Take a delegate back, as its owner may. In a batch it cannot be stopped: it is noted, and done if that batch fails."`
}

type delegatesListCmd struct {
	places
	State  string `help:"Only those in this state." placeholder:"STATE"`
	Script string `help:"Only those over coins of this script." placeholder:"HEX"`
	Limit  int    `help:"At most so many, up to 1000." default:"100"`
	After  string `help:"Go on after a page: its \"next\"." placeholder:"CURSOR"`
}

// Run lists a page of delegates.
func (c *delegatesListCmd) Run(env *environment) error {
	page, err := with(env, c.places, func(p admin.Port) (admin.Page, error) {
		return p.Delegates(env.ctx, admin.Query{State: c.State, Script: c.Script, Limit: c.Limit, After: c.After})
	})
	if err != nil {
		return err
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tINPUTS\tSATS\tNEXT\tEXPIRES\tTRIED\tLAST ERROR")
	for _, d := range page.Delegates {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%d\t%s\n", d.ID, d.State, len(d.Inputs), d.Amount, stamp(d.NextAttempt), stamp(d.ExpiresAt), d.Attempts, d.ErrorCode)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if page.Next != "" {
		fmt.Fprintf(&b, "There are more: --after %s\n", page.Next)
	}
	return env.print(page, "%s", b.String())
}

type delegatesShowCmd struct {
	places
	ID string `arg:"" help:"The delegate's id."`
}

// Run shows one delegate.
func (c *delegatesShowCmd) Run(env *environment) error {
	d, err := with(env, c.places, func(p admin.Port) (admin.Delegate, error) { return p.Delegate(env.ctx, c.ID) })
	if err != nil {
		return err
	}
	return env.print(d, "%s", delegateText(d, time.Now()))
}

// delegateText is a delegate for people.
func delegateText(d admin.Delegate, now time.Time) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-13s %s\n", name+":", cell(fmt.Sprintf(format, args...)))
	}
	some := func(name, value string) {
		if value != "" {
			line(name, "%s", value)
		}
	}
	line("delegate", "%s", d.ID)
	cancelling := ""
	if d.Cancelling {
		cancelling = " (cancelled by its owner; done if this attempt fails)"
	}
	line("state", "%s since %s%s", d.State, stamp(d.StateSince), cancelling)
	for _, in := range d.Inputs {
		line("input", "%s of %d sats, expires %s", in.Outpoint, in.Amount, until(in.ExpiresAt, now))
	}
	line("pays", "%d sats to the operator, %d to this service", d.Fee, d.ServiceFee)
	line("valid from", "%s", until(d.ValidAt, now))
	if d.ExpireAt != 0 {
		line("valid until", "%s", until(d.ExpireAt, now))
	}
	line("next attempt", "%s", until(d.NextAttempt, now))
	line("tried", "%d times, %d convictions", d.Attempts, d.Convictions)
	if d.ErrorCode != "" {
		line("last error", "%s at %s: %s", d.ErrorCode, stamp(d.ErrorAt), d.ErrorText)
	}
	some("key", d.Key)
	some("intent", d.IntentID)
	some("batch", d.BatchID)
	some("commitment", d.Commitment)
	some("renewed as", strings.Join(d.Leaves, ", "))
	some("watched", strings.Join(d.Watched, ", "))
	some("replaced by", d.ReplacedBy)
	return b.String()
}

type delegatesCancelCmd struct {
	places
	ID string `arg:"" help:"The delegate's id."`
}

// Run takes one delegate back.
func (c *delegatesCancelCmd) Run(env *environment) error {
	d, err := with(env, c.places, func(p admin.Port) (admin.Delegate, error) { return p.Cancel(env.ctx, c.ID) })
	if err != nil {
		return err
	}
	if d.Cancelling {
		return env.print(d, "The delegate is %s and cannot be stopped now. It is cancelled if this attempt fails.\n", d.State)
	}
	return env.print(d, "The delegate is %s. Nobody renews its coins unless their owner does.\n", d.State)
}
