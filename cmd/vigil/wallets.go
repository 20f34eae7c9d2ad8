package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/rpc"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/upkeep"
	"github.com/vigil-ark/vigil/wallet"
)

// tokens are the registration tokens, by their SHA-256 sums.
type tokens struct {
	sums atomic.Pointer[[][32]byte]
}

// leastToken is the fewest characters of a token: one that is shorter can be
// guessed by whoever may ask a few times a second.
const leastToken = 16

// load reads the file; "" is none.
func (t *tokens) load(path string) error {
	var sums [][32]byte
	if path != "" {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("registration tokens: %w", err)
		}
		defer func() { _ = f.Close() }() // it was only read
		lines := bufio.NewScanner(f)
		for n := 1; lines.Scan(); n++ {
			line := strings.TrimSpace(lines.Text())
			switch {
			case line == "" || strings.HasPrefix(line, "#"):
			case len(line) < leastToken:
				return fmt.Errorf("registration tokens: line %d has fewer than %d characters", n, leastToken)
			default:
				sums = append(sums, sha256.Sum256([]byte(line)))
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("registration tokens: %w", err)
		}
	}
	t.sums.Store(&sums)
	return nil
}

func (t *tokens) all() [][32]byte {
	if sums := t.sums.Load(); sums != nil {
		return *sums
	}
	return nil
}

// openWallets makes the service of wallets over the host key. A Vigil that was
// set up before there were wallets has none, and serves delegates alone.
func (h *house) openWallets(ctx context.Context) error {
	c := h.c
	if err := h.tokens.load(c.RegistrationTokenFile); err != nil {
		return err
	}
	host, err := h.signer.Host(ctx)
	if errors.Is(err, delegate.ErrSecretMissing) {
		counts, err := h.stores.ledger.WalletCounts(ctx)
		if err != nil {
			return err
		}
		if len(counts) > 0 {
			return errors.New("there are wallets whose devices pin a host key, and the secret store holds none; bring it back with `vigil restore`")
		}
		h.env.log.Warn("no host key: wallets are not served; `vigil keys add-host` makes one")
		return nil
	}
	if err != nil {
		return err
	}
	h.hub = notify.NewHub(notify.Limits{PerWallet: c.MaxWatches}, nil)
	ceremonies := h.signer.Ceremonies(signer.CeremonyLimits{Total: c.MaxCeremonies}, func() int64 { return time.Now().Unix() })
	h.wallets = wallet.New(wallet.Config{
		Pinned: h.pinned, Version: version, OperatorURL: h.pinned.URL, Body: c.MaxBody,
		Registration: wallet.Registration{Mode: c.Registration, Tokens: h.tokens.all},
		Limits: wallet.Limits{
			Wallets: c.MaxWallets, PerSource: c.MaxWalletsPerSource, Ceremonies: c.MaxCeremonies, Active: c.MaxActiveWallets,
			Delegates: c.MaxDelegates, Inputs: c.MaxInputs, Outputs: c.MaxOutputs, Watches: c.MaxWatches,
		},
		CoolDown: c.CoolDown, DiskLow: h.disk.low, Held: h.intake.held.Load, Wake: h.wake, Log: h.env.log,
	}, wallet.Ports{
		Ledger: h.stores.ledger, Keys: h.signer, Ceremonies: ceremonies, Host: host, Operator: h.client, Hub: h.hub,
	})
	h.env.log.Info("wallets are served", "host_key", host.PubKey(), "registration", c.Registration)
	return nil
}

// closeWallets ends watches, then lets what was begun end.
func (h *house) closeWallets() {
	if h.wallets != nil {
		h.hub.Close()
		h.wallets.Close()
	}
}

// walletService is what the edge serves; nil without a host key.
func (h *house) walletService() *rpc.WalletService {
	if h.wallets == nil {
		return nil
	}
	return &rpc.WalletService{Wallets: h.wallets, Replay: h.wallets, Signer: h.wallets, Network: string(h.pinned.Network)}
}

// pages repeats a step of upkeep until it has nothing more to do.
func pages(limit int, step func(ctx context.Context, limit int) (int, error)) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			n, err := step(ctx, limit)
			if err != nil || n < limit {
				return err
			}
		}
	}
}

// walletJobs are the background work for wallets.
func (h *house) walletJobs() []upkeep.Job {
	led := h.stores.ledger
	const page = 256
	jobs := []upkeep.Job{
		{Name: "requests", Every: 30 * time.Second, Run: pages(page, led.PruneReplay)},
		{Name: "prepared", Every: time.Minute, Run: pages(page, led.Lapse)},
		{Name: "deletions", Every: time.Minute, Run: func(ctx context.Context) error {
			_, err := led.Dismantle(ctx)
			return err
		}},
		{Name: "audit", Every: time.Hour, Run: pages(page, func(ctx context.Context, limit int) (int, error) {
			return led.PruneAudit(ctx, h.c.AuditEntries, limit)
		})},
	}
	if h.wallets == nil {
		return jobs
	}
	every := min(h.c.SyncEvery, time.Minute)
	return append(jobs,
		upkeep.Job{Name: "ceremonies", Every: time.Minute, Run: func(context.Context) error { h.wallets.Sweep(); return nil }},
		upkeep.Job{Name: "coins", Every: every, Run: func(ctx context.Context) error { return h.wallets.Round(ctx, h.c.SyncEvery) }},
	)
}
