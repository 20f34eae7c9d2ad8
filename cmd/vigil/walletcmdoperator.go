package main

import (
	"errors"
	"fmt"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/client"
)

type walletAcceptCmd struct {
	walletPlace
	Signer        string `help:"The operator's signer key, as you have verified it elsewhere." placeholder:"HEX" env:"-"`
	ExitDelay     uint32 `help:"The exit delay that it announces, when that changed." placeholder:"N" env:"-"`
	BoardingDelay uint32 `help:"The delay for boarding that it announces, when that changed." placeholder:"N" env:"-"`
}

// operatorChanged is what an operator changed, and what came of it.
type operatorChanged struct {
	Changed       bool     `json:"changed"`
	Signer        string   `json:"signer,omitempty"`
	Was           string   `json:"signer_was,omitempty"` // x-only, as it stands in the scripts
	ExitDelay     uint32   `json:"exit_delay,omitempty"`
	ExitWas       uint32   `json:"exit_delay_was,omitempty"`
	BoardingDelay uint32   `json:"boarding_delay,omitempty"`
	BoardingWas   uint32   `json:"boarding_delay_was,omitempty"`
	Honoured      bool     `json:"honoured"`
	Cutoff        int64    `json:"cutoff,omitempty"`
	Vigil         bool     `json:"vigil_accepted"`
	Accepted      bool     `json:"accepted"`
	Address       string   `json:"address,omitempty"`
	Moved         []string `json:"moved,omitempty"`
	Stuck         []string `json:"stuck,omitempty"`
}

// Run shows or accepts what the operator changed.
func (c *walletAcceptCmd) Run(env *environment) error {
	return c.device(env, func(w *client.Wallet) error {
		change, err := w.OperatorChange(env.ctx)
		if err != nil && !(errors.Is(err, client.ErrUnreachable) && change != nil) {
			return err
		}
		if change == nil {
			return env.print(operatorChanged{}, "The wallet's scripts are as the operator would have them.\n")
		}
		out := operatorChanged{
			Changed: true, Signer: change.Signer.String(), Was: change.Was.Signer.String(),
			ExitDelay: uint32(change.Next.ExitDelay), ExitWas: uint32(change.Was.ExitDelay),
			BoardingDelay: uint32(change.Next.BoardingDelay), BoardingWas: uint32(change.Was.BoardingDelay),
			Honoured: change.Honoured, Cutoff: change.Cutoff, Vigil: change.Vigil,
		}
		if err := c.confirms(out); err != nil {
			if env.json {
				return errors.Join(env.print(out, ""), err)
			}
			return err
		}
		if err := w.AcceptOperator(env.ctx, *change); err != nil {
			if vigil.CodeOf(err) == vigil.CodeOperatorKey {
				return fmt.Errorf("your word is kept, and the wallet is moved once whoever runs Vigil has accepted the key too: %w", err)
			}
			return err
		}
		out.Accepted = true
		kept := covered(env, w)
		out.Moved, out.Stuck = outpoints(kept.Moved), outpoints(kept.Stuck)
		m, err := describe(w, c.WalletDir)
		if err != nil {
			return err
		}
		out.Address = m.Address
		text := fmt.Sprintf("Accepted. The wallet receives at new addresses (vigil wallet address); what is paid to earlier ones is found and moved.\nCoins moved: %d. Make a new backup: vigil wallet descriptor --backup FILE\n", len(out.Moved))
		if len(out.Stuck) > 0 {
			text += fmt.Sprintf("%d coins cannot be moved, as the operator does not sign for the key of before any more: bring them on chain before they expire (vigil wallet exit --unilateral).\n", len(out.Stuck))
		}
		return env.print(out, "%s", text)
	})
}

// confirms holds what the owner says to what the operator announces.
func (c *walletAcceptCmd) confirms(o operatorChanged) error {
	how := "vigil wallet accept-operator --signer " + o.Signer
	if o.ExitDelay != o.ExitWas {
		how += fmt.Sprintf(" --exit-delay %d", o.ExitDelay)
	}
	if o.BoardingDelay != o.BoardingWas {
		how += fmt.Sprintf(" --boarding-delay %d", o.BoardingDelay)
	}
	if c.Signer == o.Signer && (o.ExitDelay == o.ExitWas || c.ExitDelay == o.ExitDelay) && (o.BoardingDelay == o.BoardingWas || c.BoardingDelay == o.BoardingDelay) {
		return nil
	}
	old := "for the key in the wallet's scripts it signs no more"
	if o.Honoured {
		old = "for the key in the wallet's scripts it goes on signing"
		if o.Cutoff > 0 {
			old += " until " + stamp(o.Cutoff)
		}
	}
	people := "Whoever runs Vigil has accepted the signer."
	if !o.Vigil {
		people = "Whoever runs Vigil has not accepted the signer."
	}
	return fmt.Errorf("the operator announces the signer %s, an exit delay of %d and one of %d for boarding; the wallet's scripts have %s, %d and %d; %s. %s If the operator's people confirm it, by another way than this connection: %s",
		o.Signer, o.ExitDelay, o.BoardingDelay, o.Was, o.ExitWas, o.BoardingWas, old, people, how)
}
