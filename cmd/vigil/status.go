package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/delegate"
)

type statusCmd struct{ places }

// Run asks the running Vigil, else the stores.
func (c *statusCmd) Run(env *environment) error {
	s, err := with(env, c.places, func(p admin.Port) (admin.Status, error) { return p.Status(env.ctx) })
	if err != nil {
		return err
	}
	return env.print(s, "%s", statusText(s, time.Now()))
}

// statusText is a status for people.
func statusText(s admin.Status, now time.Time) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name+":", fmt.Sprintf(format, args...))
	}
	switch r := s.Running; {
	case r == nil:
		line("vigil", "not running; this is what is stored (version %s)", s.Version)
	default:
		line("vigil", "running as process %d since %s at %s, version %s", r.PID, stamp(r.Since), r.Address, s.Version)
		stream := "DOWN"
		if r.StreamUp {
			stream = "open"
		}
		line("stream", "%s since %s", stream, stamp(r.StreamFrom))
		if len(r.NotReady) > 0 {
			line("NOT READY", "%s", strings.Join(r.NotReady, "; "))
		}
	}
	if s.Hold != "" {
		line("ON HOLD", "%s", s.Hold)
	}
	line("operator", "%s on %s, signer %s", s.Operator.URL, s.Operator.Network, s.Operator.Signer)
	line("settled by", "%s", s.Settles)
	var states []string
	for _, state := range delegate.States() {
		if n := s.Delegates[state.String()]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, state))
		}
	}
	if len(states) == 0 {
		states = []string{"none yet"}
	}
	line("delegates", "%d live (%s)", s.Live, strings.Join(states, ", "))
	if s.Unreadable > 0 {
		line("UNREADABLE", "%d stored rows; see `vigil fsck`", s.Unreadable)
	}
	if s.UnreadableIndex > 0 {
		line("REPAIR", "%d of them are of an index, and delegates may be unarmed: stop Vigil and run `vigil fsck --repair`", s.UnreadableIndex)
	}
	line("next due", "%s", until(s.NextDue, now))
	line("next expiry", "%s", until(s.NextExpiry, now))
	line("keys", "%d in use", s.Keys)
	switch {
	case s.HostKey == "":
		line("wallets", "not served: there is no host key; `vigil keys add-host` makes one")
	default:
		line("wallets", "%d active, %d pending", s.Wallets["active"], s.Wallets["pending"])
		line("host key", "%s", s.HostKey)
	}
	if r := s.Running; r != nil && r.Quarantined > 0 {
		line("QUARANTINED", "%d wallets; see the log, then start again", r.Quarantined)
	}
	low := ""
	if s.DiskLow {
		low = ": TOO LITTLE, nothing new is taken"
	}
	line("disk", "%d MiB free%s", s.DiskFree>>20, low)
	return b.String()
}

// stamp is a time for people; 0 is none.
func stamp(at int64) string {
	if at == 0 {
		return "-"
	}
	return time.Unix(at, 0).UTC().Format("2006-01-02 15:04:05 UTC")
}

// until is a time with its distance.
func until(at int64, now time.Time) string {
	if at == 0 {
		return "-"
	}
	d := time.Unix(at, 0).Sub(now).Round(time.Second)
	if d < 0 {
		return fmt.Sprintf("%s (%s ago)", stamp(at), -d)
	}
	return fmt.Sprintf("%s (in %s)", stamp(at), d)
}
