package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vigil-ark/vigil/client"
)

type walletExitCmd struct {
	walletPlace
	wordsFile
	coldSigning
	To         string `arg:"" help:"On-chain address."`
	Sats       int64  `help:"Amount; everything when 0. Not with --unilateral." default:"0" env:"-"`
	Unilateral bool   `help:"Without Vigil: from the seed words and a backup alone. Each call does what can be done now and tells what it waits for." env:"-"`
	Sweep      bool   `help:"Spend coins that are on chain already, with Vigil, or a cold share, and without the operator, after the exit delay." env:"-"`
	Claim      bool   `help:"With --unilateral: take coins that have expired out by the operator, which asks no delay of the recovery key." env:"-"`
	Backup     string `help:"The backup that \"vigil wallet descriptor --backup\" wrote; default <wallet-dir>/backup.json." placeholder:"FILE" type:"path" env:"-"`
	EsploraURL string `help:"Esplora API of the chain, for --unilateral." placeholder:"URL"`
	OperatorOf string `name:"operator" help:"The Ark operator's URL, for --claim." placeholder:"URL" env:"-"`
}

// Run leaves Ark.
func (c *walletExitCmd) Run(env *environment) error {
	if c.Unilateral {
		return c.alone(env)
	}
	return c.coldSigning.device(env, c.walletPlace, func(w *client.Wallet) error {
		if c.Sweep {
			s, err := w.Sweep(env.ctx, c.To)
			if err != nil {
				return err
			}
			return env.print(struct {
				Txid   string `json:"swept_txid"`
				Amount int64  `json:"swept_amount"`
				Fee    int64  `json:"fee"`
			}{s.Txid.String(), s.Amount, s.Fee}, "%d sats are swept in %s.\n", s.Amount, s.Txid)
		}
		var s client.Settled
		err := env.working("Waiting for a batch", func() (err error) { s, err = w.Exit(env.ctx, c.To, c.Sats); return err })
		if err != nil {
			return err
		}
		return batched(env, w, s, c.coldSigning)
	})
}

// leaving is what a step of the way out prints.
type leaving struct {
	FeeAddress string       `json:"fee_address"`
	Coins      []leavingOut `json:"coins"`
	Maturing   []maturing   `json:"maturing"`
	Swept      string       `json:"swept_txid,omitempty"`
	Amount     int64        `json:"swept_amount,omitempty"`
	Next       string       `json:"next"`
}

type leavingOut struct {
	Outpoint  string `json:"outpoint"`
	Confirmed int    `json:"confirmed"`
	Steps     int    `json:"steps"`
	Error     string `json:"error,omitempty"`
}

type maturing struct {
	Outpoint string `json:"outpoint"`
	Amount   int64  `json:"amount"`
	At       int64  `json:"at"`
}

// alone takes one step without Vigil.
func (c *walletExitCmd) alone(env *environment) error {
	if c.Sats != 0 {
		return errors.New("--unilateral takes everything; leave --sats away")
	}
	seed, err := c.read(env)
	if err != nil {
		return err
	}
	defer seed.Burn()
	path := c.Backup
	if path == "" {
		path = filepath.Join(c.WalletDir, "backup.json")
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the backup: %w", err)
	}
	var backup client.Backup
	if err := json.Unmarshal(raw, &backup); err != nil {
		return fmt.Errorf("the backup %s: %w", path, err)
	}
	l, err := client.NewLeave(client.LeaveConfig{Backup: backup, Esplora: c.EsploraURL, Operator: c.OperatorOf, Log: env.log}, seed)
	if err != nil {
		return err
	}
	defer l.Burn()
	if c.Claim {
		var s client.Settled
		if err := env.working("Waiting for a batch", func() (err error) { s, err = l.Claim(env.ctx, c.To); return err }); err != nil {
			return err
		}
		return env.print(settledOut{Commitment: s.Commitment.String(), Coins: []string{}, Fee: s.Fee, Delegates: []delegateOut{}},
			"The coins are claimed: paid on chain by %s, for a fee of %d sats.\n", s.Commitment, s.Fee)
	}
	out, err := c.step(env, l)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, p := range out.Coins {
		fmt.Fprintf(&b, "%s: %d of %d transactions confirmed %s\n", cell(p.Outpoint), p.Confirmed, p.Steps, cell(p.Error))
	}
	for _, m := range out.Maturing {
		fmt.Fprintf(&b, "%s: %d sats, to be swept from %s on\n", m.Outpoint, m.Amount, stamp(m.At))
	}
	return env.print(out, "%s%s\n", b.String(), out.Next)
}

// step unrolls as far as it goes now, and sweeps what is ripe.
func (c *walletExitCmd) step(env *environment, l *client.Leave) (out leaving, err error) {
	if out.FeeAddress, err = l.FeeAddress(); err != nil {
		return out, err
	}
	list, err := l.Unroll(env.ctx)
	short := errors.Is(err, client.ErrFeeCoin)
	if err != nil && !short {
		return out, err
	}
	out.Coins, out.Maturing = []leavingOut{}, []maturing{}
	done := true
	for _, p := range list {
		one := leavingOut{Outpoint: p.Outpoint, Confirmed: p.Confirmed, Steps: p.Steps}
		if p.Err != nil {
			one.Error = p.Err.Error()
		} else {
			done = done && p.OnChain()
		}
		out.Coins = append(out.Coins, one)
	}
	swept, err := l.Sweep(env.ctx, c.To)
	switch {
	case err == nil:
		out.Swept, out.Amount = swept.Txid.String(), swept.Amount
	case !errors.Is(err, client.ErrTooEarly) && !errors.Is(err, client.ErrFunds): // dust is not worth its way
		return out, err
	}
	ripening, err := l.Maturing(env.ctx)
	if err != nil {
		return out, err
	}
	first := int64(0)
	for _, m := range ripening {
		out.Maturing = append(out.Maturing, maturing{m.Outpoint.String(), m.Amount, m.At})
		if first == 0 || m.At < first {
			first = m.At
		}
	}
	switch {
	case short:
		out.Next = "Send some coins to " + out.FeeAddress + ", which pay for the next steps, and call again when they are confirmed."
	case !done:
		out.Next = "Call again after the next block."
	case out.Swept != "":
		out.Next = fmt.Sprintf("Swept: %d sats in %s.", out.Amount, out.Swept)
	case len(out.Maturing) > 0:
		out.Next = "Everything is on chain. Call again from " + until(first, time.Now()) + " on."
	default:
		out.Next = "There is nothing left to bring out."
	}
	return out, nil
}
