package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/client"
)

type walletDevicesCmd struct {
	List    walletDevicesListCmd    `cmd:"" default:"withargs" help:"List the devices that may act for the wallet."`
	Add     walletDevicesAddCmd     `cmd:"" help:"Enrol a device's identity key, or free one that was frozen."`
	Revoke  walletDevicesRevokeCmd  `cmd:"" help:"Shut a device out, at once."`
	Confirm walletDevicesConfirmCmd `cmd:"" help:"Remove the devices that a recovery froze, once its cool-down is over."`
	Token   walletDevicesTokenCmd   `cmd:"" help:"Keep a push token of this device at Vigil, or have it forgotten."`
}

// deviceOut is one device.
type deviceOut struct {
	Key      string `json:"identity_key"`
	Name     string `json:"name"`
	AddedAt  int64  `json:"added_at"`
	FrozenAt int64  `json:"frozen_at,omitempty"`
	RemoveAt int64  `json:"remove_at,omitempty"`
	Self     bool   `json:"self"`
}

func printDevices(env *environment, list []client.Device) error {
	out := struct {
		Devices []deviceOut `json:"devices"`
	}{[]deviceOut{}}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "IDENTITY KEY\tNAME\tADDED\tSTATE")
	for _, d := range list {
		out.Devices = append(out.Devices, deviceOut{d.Key.String(), d.Name, d.AddedAt, d.FrozenAt, d.RemoveAt, d.Self})
		state := "active"
		switch {
		case d.FrozenAt != 0:
			state = "frozen; may be removed from " + stamp(d.RemoveAt) + " on"
		case d.Self:
			state = "this device"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", d.Key, cell(d.Name), stamp(d.AddedAt), state)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return env.print(out, "%s", b.String())
}

// devices does one act that tells which devices there are then.
func (p walletPlace) devices(env *environment, act func(*client.Wallet) ([]client.Device, error)) error {
	return p.device(env, func(w *client.Wallet) error {
		list, err := act(w)
		if err != nil {
			return err
		}
		return printDevices(env, list)
	})
}

type walletDevicesListCmd struct{ walletPlace }

// Run lists the devices.
func (c *walletDevicesListCmd) Run(env *environment) error {
	return c.devices(env, func(w *client.Wallet) ([]client.Device, error) { return w.Devices(env.ctx) })
}

type walletDevicesAddCmd struct {
	walletPlace
	Key  string `arg:"" help:"The device's identity key, 66 hex digits."`
	Name string `help:"The device's name." env:"-"`
}

// Run enrols a device.
func (c *walletDevicesAddCmd) Run(env *environment) error {
	key, err := bip340.ParsePubKeyHex(c.Key)
	if err != nil {
		return fmt.Errorf("the identity key %q: %w", c.Key, err)
	}
	return c.devices(env, func(w *client.Wallet) ([]client.Device, error) { return w.AddDevice(env.ctx, key, c.Name) })
}

type walletDevicesRevokeCmd struct {
	walletPlace
	Key string `arg:"" help:"The device's identity key, as \"vigil wallet devices\" shows it."`
}

// Run shuts a device out.
func (c *walletDevicesRevokeCmd) Run(env *environment) error {
	key, err := bip340.ParsePubKeyHex(c.Key)
	if err != nil {
		return fmt.Errorf("the identity key %q: %w", c.Key, err)
	}
	return c.device(env, func(w *client.Wallet) error {
		list, err := w.Devices(env.ctx)
		if err != nil {
			return err
		}
		known := false
		for _, d := range list {
			if known = known || d.Key == key; d.Self && d.Key == key {
				return errors.New("that is this device; revoke it from another one, or recover the wallet there, which freezes this one")
			}
		}
		if !known {
			return fmt.Errorf("the wallet has no device %s; `vigil wallet devices` lists them", c.Key)
		}
		if list, err = w.RevokeDevice(env.ctx, key); err != nil {
			return err
		}
		return printDevices(env, list)
	})
}

type walletDevicesConfirmCmd struct{ walletPlace }

// Run removes what a recovery froze.
func (c *walletDevicesConfirmCmd) Run(env *environment) error {
	return c.devices(env, func(w *client.Wallet) ([]client.Device, error) { return w.ConfirmRecovery(env.ctx) })
}

type walletDevicesTokenCmd struct {
	walletPlace
	Kind string `arg:"" help:"The push service, such as apns or fcm."`
	File string `arg:"" help:"File with the token." type:"path"`
	Drop bool   `help:"Have Vigil forget it." env:"-"`
}

// Run keeps or drops a push token.
func (c *walletDevicesTokenCmd) Run(env *environment) error {
	raw, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	token := strings.TrimSpace(string(raw))
	return c.device(env, func(w *client.Wallet) error {
		kept := "kept"
		err := error(nil)
		if c.Drop {
			kept, err = "forgotten", w.DropToken(env.ctx, token)
		} else {
			err = w.SetToken(env.ctx, c.Kind, token)
		}
		if err != nil {
			return err
		}
		return env.print(struct {
			Kind string `json:"kind"`
			Kept bool   `json:"kept"`
		}{c.Kind, !c.Drop}, "The %s token is %s.\n", cell(c.Kind), kept)
	})
}

type walletDelegatesCmd struct {
	List   walletDelegatesListCmd   `cmd:"" default:"withargs" help:"List the renewals that were signed ahead."`
	Cancel walletDelegatesCancelCmd `cmd:"" help:"Take one back. In a batch it cannot be stopped: it is noted, and done if that batch fails."`
}

// storedOut is one delegate as Vigil has it.
type storedOut struct {
	ID          string   `json:"id"`
	State       string   `json:"state"`
	Coins       []string `json:"coins"`
	Amount      int64    `json:"amount"`
	ValidAt     int64    `json:"valid_at"`
	NextAttempt int64    `json:"next_attempt,omitempty"`
	ExpiresAt   int64    `json:"expires_at"`
	Attempts    int      `json:"attempts"`
	Code        string   `json:"error_code,omitempty"`
	Error       string   `json:"error,omitempty"`
	Commitment  string   `json:"commitment_txid,omitempty"`
}

type walletDelegatesListCmd struct{ walletPlace }

// Run lists the delegates.
func (c *walletDelegatesListCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		list, err := w.Delegates(env.ctx)
		if err != nil {
			return err
		}
		out := struct {
			Delegates []storedOut `json:"delegates"`
		}{[]storedOut{}}
		var b strings.Builder
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "ID\tSTATE\tCOINS\tSATS\tNOT BEFORE\tCOINS EXPIRE\tTRIED\tLAST ERROR")
		for _, d := range list {
			out.Delegates = append(out.Delegates, storedOut{
				d.ID.String(), d.State, append([]string{}, d.Coins...), d.Amount, d.At, d.NextAttempt, d.ExpiresAt, d.Attempts, d.Code, d.Error, d.Commitment,
			})
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%d\t%s\n", d.ID, cell(d.State), len(d.Coins), d.Amount, stamp(d.At), stamp(d.ExpiresAt), d.Attempts, cell(d.Code))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		return env.print(out, "%s", b.String())
	})
}

type walletDelegatesCancelCmd struct {
	walletPlace
	ID string `arg:"" help:"The delegate's id, 32 hex digits."`
}

// Run takes a delegate back.
func (c *walletDelegatesCancelCmd) Run(env *environment) error {
	id, err := vigil.ParseDelegateID(c.ID)
	if err != nil {
		return fmt.Errorf("the delegate %q: %w", c.ID, err)
	}
	return c.device(env, func(w *client.Wallet) error {
		state, err := w.Cancel(env.ctx, id)
		if err != nil {
			return err
		}
		return env.print(struct {
			ID    string `json:"id"`
			State string `json:"state"`
		}{c.ID, state}, "Delegate %s is %s. What it covered is bare until `vigil wallet delegate`.\n", c.ID, cell(state))
	})
}

type walletWatchCmd struct {
	walletPlace
	Count int `help:"End after so many events; 0 goes on." default:"0" env:"-"`
}

// eventOut is one event.
type eventOut struct {
	Kind      string   `json:"kind"`
	At        int64    `json:"at"`
	Outpoints []string `json:"outpoints,omitempty"`
	Delegate  string   `json:"delegate_id,omitempty"`
	Text      string   `json:"text,omitempty"`
	Code      string   `json:"code,omitempty"`
	TimeLeft  int64    `json:"time_left,omitempty"`
}

// Run tells what happens, one line each. Vigil ends a stream after a while: another
// is opened.
func (c *walletWatchCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		n := 0
		tell := func(e client.Event) error {
			if e.Kind == client.EventOpen {
				fmt.Fprintln(env.stderr, "Watching.")
				return nil
			}
			if err := c.print(env, e); err != nil {
				return err
			}
			if n++; n == c.Count {
				return errEnough
			}
			return nil
		}
		for {
			err := w.Watch(env.ctx, tell)
			switch {
			case errors.Is(err, errEnough) || env.ctx.Err() != nil:
				return nil
			case err != nil && vigil.CodeOf(err) != vigil.CodeWatchExpired:
				return err
			}
		}
	})
}

func (c *walletWatchCmd) print(env *environment, e client.Event) error {
	out := eventOut{Kind: e.Kind, At: e.At, Outpoints: e.Outpoints, Text: e.Text, Code: e.Code, TimeLeft: e.TimeLeft}
	if e.Delegate != (vigil.DelegateID{}) {
		out.Delegate = e.Delegate.String()
	}
	if env.json {
		line, err := json.Marshal(out)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(env.stdout, "%s\n", line)
		return err
	}
	left := ""
	if e.TimeLeft > 0 {
		left = fmt.Sprintf(" (%d s left to act)", e.TimeLeft)
	}
	_, err := fmt.Fprintf(env.stdout, "%s %s %s %s%s\n", stamp(e.At), cell(e.Kind), cell(e.Text), cell(strings.Join(e.Outpoints, " ")), left)
	return err
}
