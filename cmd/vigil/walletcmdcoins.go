package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/client"
)

// settledOut is what an act in a batch prints.
type settledOut struct {
	Commitment string        `json:"commitment"`
	Coins      []string      `json:"coins"`
	Amount     int64         `json:"amount"`
	Fee        int64         `json:"fee"`
	Delegates  []delegateOut `json:"delegates"`
}

// delegateOut is one delegate that was stored.
type delegateOut struct {
	ID    string   `json:"id"`
	Coins []string `json:"coins"`
	At    int64    `json:"valid_at"`
	Fee   int64    `json:"fee"`
}

func delegatesOut(list []client.Delegated) []delegateOut {
	out := make([]delegateOut, len(list))
	for i, d := range list {
		out[i] = delegateOut{d.ID.String(), outpoints(d.Coins), d.At, d.Fee}
	}
	return out
}

func outpoints(list []wire.OutPoint) []string {
	out := make([]string, len(list))
	for i, op := range list {
		out[i] = op.String()
	}
	return out
}

func parseOutpoints(list []string) ([]wire.OutPoint, error) {
	var out []wire.OutPoint
	for _, text := range list {
		op, err := ark.ParseOutpoint(text)
		if err != nil {
			return nil, err
		}
		out = append(out, op)
	}
	return out, nil
}

// batched prints what a batch gave, and has the new coins covered.
func batched(env *environment, w *client.Wallet, s client.Settled, by coldSigning) error {
	out := settledOut{s.Commitment.String(), outpoints(s.Coins), s.Amount, s.Fee, delegatesOut(by.covered(env, w).Delegated)}
	return env.print(out, "%d sats in batch %s, for a fee of %d sats; new delegates: %d.\n", out.Amount, out.Commitment, out.Fee, len(out.Delegates))
}

type walletBoardCmd struct {
	walletPlace
	coldSigning
}

// Run takes on-chain coins in.
func (c *walletBoardCmd) Run(env *environment) error {
	return c.coldSigning.device(env, c.walletPlace, func(w *client.Wallet) error {
		var s client.Settled
		err := env.working("Waiting for a batch", func() (err error) { s, err = w.Board(env.ctx); return err })
		if err != nil {
			return err
		}
		return batched(env, w, s, c.coldSigning)
	})
}

type walletRenewCmd struct {
	walletPlace
	coldSigning
	Coins []string `arg:"" optional:"" help:"Outpoints; all coins when none is given."`
}

// Run renews now.
func (c *walletRenewCmd) Run(env *environment) error {
	ops, err := parseOutpoints(c.Coins)
	if err != nil {
		return err
	}
	return c.coldSigning.device(env, c.walletPlace, func(w *client.Wallet) error {
		var s client.Settled
		err := env.working("Waiting for a batch", func() (err error) { s, err = w.Renew(env.ctx, ops...); return err })
		if err != nil {
			return err
		}
		return batched(env, w, s, c.coldSigning)
	})
}

type walletBalanceCmd struct{ walletPlace }

// Run adds the coins up.
func (c *walletBalanceCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		b, err := w.Balance(env.ctx)
		if err != nil {
			return err
		}
		out := struct {
			Settled      int64 `json:"settled"`
			Preconfirmed int64 `json:"preconfirmed"`
			Recoverable  int64 `json:"recoverable"`
			Boarding     int64 `json:"boarding"`
			Total        int64 `json:"total"`
		}{b.Settled, b.Preconfirmed, b.Recoverable, b.Boarding, b.Total()}
		return env.print(out, "Settled:      %d sats\nPreconfirmed: %d sats\nRecoverable:  %d sats\nBoarding:     %d sats\n", b.Settled, b.Preconfirmed, b.Recoverable, b.Boarding)
	})
}

type walletVtxosCmd struct{ walletPlace }

// vtxoOut is one coin.
type vtxoOut struct {
	Outpoint     string `json:"outpoint"`
	Amount       int64  `json:"amount"`
	ExpiresAt    int64  `json:"expires_at"`
	Preconfirmed bool   `json:"preconfirmed"`
	Recoverable  bool   `json:"recoverable"`
	Covered      bool   `json:"covered"`
	Delegate     string `json:"delegate_id,omitempty"`
	Why          string `json:"uncovered_why,omitempty"`
	WithoutVigil bool   `json:"recoverable_without_vigil"`
	Older        bool   `json:"older_script,omitempty"`
	Stuck        bool   `json:"operator_signs_no_more,omitempty"`
	ExitData     bool   `json:"exit_data_on_device"`
}

// Run lists the coins.
func (c *walletVtxosCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		coins, err := w.VTXOs(env.ctx)
		if err != nil && !errors.Is(err, client.ErrUnreachable) {
			return err
		}
		if err != nil {
			fmt.Fprintf(env.stderr, "nothing is known of the coins' cover: %s\n", reason(err))
		}
		out := struct {
			Vtxos []vtxoOut `json:"vtxos"`
		}{[]vtxoOut{}}
		var b strings.Builder
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "OUTPOINT\tSATS\tEXPIRES\tCOVERED\tEXIT DATA")
		now := time.Now()
		for _, v := range coins {
			one := vtxoOut{
				Outpoint: v.Outpoint.String(), Amount: v.Amount, ExpiresAt: v.ExpiresAt, Preconfirmed: v.Preconfirmed,
				Recoverable: v.Recoverable(now.Unix()), Covered: v.Covered, Why: v.Why, WithoutVigil: v.WithoutVigil, ExitData: v.ExitData,
				Older: v.Older, Stuck: v.Stuck,
			}
			cover := "no"
			if v.Covered {
				one.Delegate = v.Delegate.String()
				cover = one.Delegate
			} else if v.Why != "" {
				cover += ": " + cell(v.Why)
			}
			switch {
			case v.Stuck:
				cover += " (the operator signs for its key no more)"
			case v.Older:
				cover += " (at an earlier script)"
			}
			out.Vtxos = append(out.Vtxos, one)
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%t\n", one.Outpoint, v.Amount, until(v.ExpiresAt, now), cover, v.ExitData)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		return env.print(out, "%s", b.String())
	})
}

type walletSendCmd struct {
	walletPlace
	coldSigning
	To   string `arg:"" help:"Ark address."`
	Sats int64  `arg:"" help:"Amount."`
}

// Run pays.
func (c *walletSendCmd) Run(env *environment) error {
	to, err := ark.ParseAddress(c.To)
	if err != nil {
		return err
	}
	return c.coldSigning.device(env, c.walletPlace, func(w *client.Wallet) error {
		op, err := w.Send(env.ctx, to, c.Sats)
		if err != nil {
			return err
		}
		out := struct {
			Outpoint  string        `json:"outpoint"`
			Amount    int64         `json:"amount"`
			Delegates []delegateOut `json:"delegates"`
		}{op.String(), c.Sats, delegatesOut(c.covered(env, w).Delegated)}
		return env.print(out, "%d sats are sent; the payee's coin is %s.\n", c.Sats, out.Outpoint)
	})
}

type walletReceiveCmd struct {
	walletPlace
	Count int `help:"End after so many coins; 0 goes on." default:"0" env:"-"`
}

// errEnough ends a stream that has told all it was asked for.
var errEnough = errors.New("enough")

// Run tells of every coin, one line each.
func (c *walletReceiveCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		to, err := w.Address()
		if err != nil {
			return err
		}
		fmt.Fprintf(env.stderr, "Waiting for coins at %s\n", to)
		n := 0
		err = w.Receive(env.ctx, func(v ark.VTXO) error {
			covered(env, w)
			if env.json {
				line, err := json.Marshal(vtxoOut{Outpoint: v.Outpoint.String(), Amount: v.Amount, ExpiresAt: v.ExpiresAt, Preconfirmed: v.Preconfirmed})
				if err != nil {
					return err
				}
				fmt.Fprintf(env.stdout, "%s\n", line)
			} else {
				fmt.Fprintf(env.stdout, "%d sats came: %s\n", v.Amount, v.Outpoint)
			}
			if n++; n == c.Count {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) || errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	})
}

type walletDelegateCmd struct {
	walletPlace
	Coins  []string `arg:"" optional:"" help:"Outpoints; all uncovered coins when none is given."`
	Single bool     `help:"One delegate for each coin." env:"-"`
}

// Run signs renewals ahead.
func (c *walletDelegateCmd) Run(env *environment) error {
	ops, err := parseOutpoints(c.Coins)
	if err != nil {
		return err
	}
	return c.device(env, func(w *client.Wallet) error {
		list, err := w.Delegate(env.ctx, client.DelegateOptions{Coins: ops, Single: c.Single})
		if err != nil {
			return err
		}
		out := struct {
			Delegates []delegateOut `json:"delegates"`
		}{delegatesOut(list)}
		var b strings.Builder
		for _, d := range out.Delegates {
			fmt.Fprintf(&b, "Delegate %s renews %d coins from %s on.\n", d.ID, len(d.Coins), stamp(d.At))
		}
		if len(list) == 0 {
			coins, err := w.VTXOs(env.ctx)
			if err != nil {
				return err
			}
			b.WriteString(stayed(coins))
		}
		return env.print(out, "%s", b.String())
	})
}

// stayed tells how coins are covered when there was nothing to sign for them.
func stayed(coins []client.Coin) string {
	bare := 0
	for _, c := range coins {
		if !c.Covered {
			bare++
		}
	}
	if bare == 0 {
		return "Every coin is covered.\n"
	}
	return fmt.Sprintf("%d coins stay uncovered: too small to pay for a renewal, they go along with the next one of others.\n", bare)
}

type walletCoverageCmd struct{ walletPlace }

// Run asks until when the wallet is safe.
func (c *walletCoverageCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		s, err := w.Coverage(env.ctx)
		if err != nil {
			return err
		}
		out := struct {
			CoveredUntil int64    `json:"covered_until"`
			KnownAt      int64    `json:"known_at"`
			LastSafeExit int64    `json:"last_safe_exit"`
			Uncovered    []string `json:"uncovered"`
			Dust         []string `json:"dust"`
			Active       bool     `json:"has_active_delegate"`
		}{s.Until, s.KnownAt, s.LastSafeExit, append([]string{}, s.Uncovered...), append([]string{}, s.Dust...), s.Active}
		now := time.Now()
		return env.print(out, "Covered until:              %s\nUncovered coins:            %d\nToo small to be renewed:    %d\nLeave without Vigil before: %s\nAs known at:                %s\n",
			until(s.Until, now), len(s.Uncovered), len(s.Dust), until(s.LastSafeExit, now), stamp(s.KnownAt))
	})
}

type walletHistoryCmd struct{ walletPlace }

// entryOut is one line of the history.
type entryOut struct {
	At        int64    `json:"at"`
	Kind      string   `json:"kind"`
	Txid      string   `json:"txid"`
	Amount    int64    `json:"amount"`
	Fee       int64    `json:"fee"`
	Outpoints []string `json:"outpoints"`
}

// Run lists all that happened.
func (c *walletHistoryCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		out := struct {
			Entries []entryOut `json:"entries"`
		}{[]entryOut{}}
		var b strings.Builder
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "AT\tKIND\tSATS\tTXID")
		for next := []byte(nil); ; {
			list, more, err := w.History(env.ctx, next, 0)
			if err != nil {
				return err
			}
			for _, e := range list {
				out.Entries = append(out.Entries, entryOut{e.At, e.Kind, e.Txid, e.Amount, e.Fee, append([]string{}, e.Outpoints...)})
				fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", stamp(e.At), cell(e.Kind), e.Amount, cell(e.Txid))
			}
			if len(more) == 0 {
				break
			}
			next = more
		}
		if err := t.Flush(); err != nil {
			return err
		}
		return env.print(out, "%s", b.String())
	})
}

type walletDeleteCmd struct {
	walletPlace
	Force    bool `help:"Although coins remain: after the cool-down that the first call announces." env:"-"`
	Withdraw bool `help:"Take an announced end back." env:"-"`
}

// Run ends the wallet at Vigil.
func (c *walletDeleteCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		out := struct {
			Deleted     bool  `json:"deleted"`
			DeleteAfter int64 `json:"delete_after,omitempty"`
		}{}
		if c.Withdraw {
			if err := w.KeepWallet(env.ctx); err != nil {
				return err
			}
			return env.print(out, "No end is announced.\n")
		}
		d, err := w.Delete(env.ctx, c.Force)
		if err != nil {
			return err
		}
		out.Deleted, out.DeleteAfter = d.Deleted, d.After
		if !d.Deleted {
			return env.print(out, "The end is announced; call again from %s on.\n", stamp(d.After))
		}
		return env.print(out, "Vigil has destroyed its share and every record of the wallet. What is in %s is of no more use, but for the seed's way out.\n", c.WalletDir)
	})
}
