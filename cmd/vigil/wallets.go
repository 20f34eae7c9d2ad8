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
	"text/tabwriter"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/metrics"
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
	var sink func(vigil.WalletID, notify.Event)
	if c.WebhookURL != "" {
		h.webhook, err = notify.NewWebhook(notify.WebhookConfig{URL: c.WebhookURL, Signer: hostSigner{host}, OnDrop: func(d notify.Drop) {
			h.metrics.Dropped(errors.Is(d.Err, notify.ErrQueueFull))
			h.env.log.Warn("an event did not reach the webhook", "kind", d.Kind, "err", d.Err)
		}})
		if err != nil {
			return err
		}
		sink = h.webhook.Offer
	}
	h.hub = notify.NewHub(notify.Limits{PerWallet: c.MaxWatches}, sink)
	ceremonies := h.signer.Ceremonies(signer.CeremonyLimits{Total: c.MaxCeremonies}, func() int64 { return time.Now().Unix() })
	h.wallets = wallet.New(wallet.Config{
		Pinned: h.pinned, Version: version, OperatorURL: h.pinned.URL, Body: c.MaxBody,
		Registration: wallet.Registration{Mode: c.Registration, Tokens: h.tokens.all},
		Limits: wallet.Limits{
			Wallets: c.MaxWallets, PerSource: c.MaxWalletsPerSource, Ceremonies: c.MaxCeremonies, Active: c.MaxActiveWallets,
			Delegates: c.MaxDelegates, Inputs: c.MaxInputs, Outputs: c.MaxOutputs, Watches: c.MaxWatches,
		},
		CoolDown: c.CoolDown, DiskLow: h.disk.low, DiskFull: h.disk.full, Held: h.intake.held.Load, Wake: h.wake, Withdraw: h.withdraw, Log: h.env.log,
	}, wallet.Ports{
		Ledger: h.stores.ledger, Keys: h.signer, Ceremonies: ceremonies, Host: host, Operator: h.client, Chain: h.coins, Hub: h.hub,
	})
	if err := metrics.WatchWallets(h.registry, h.wallets.Active); err != nil {
		return err
	}
	h.env.log.Info("wallets are served", "registration", c.Registration)
	return nil
}

// withdraw has the engine take queued intents back; before there is an engine,
// none of them is of this process.
func (h *house) withdraw(ids ...vigil.DelegateID) {
	if e := h.engine.Load(); e != nil {
		e.Withdraw(ids...)
	}
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

// walletJobs are the background work for wallets.
func (h *house) walletJobs() []upkeep.Job {
	led := h.stores.ledger
	jobs := []upkeep.Job{
		{Name: "requests", Every: 30 * time.Second, Run: upkeep.Replay(led)},
		{Name: "prepared", Every: time.Minute, Run: upkeep.Lapse(led)},
		{Name: "deletions", Every: time.Minute, Run: upkeep.Deletions(led)},
		{Name: "audit", Every: time.Hour, Run: upkeep.Audit(led, h.c.AuditEntries)},
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

type walletsCmd struct {
	places
	Limit int    `help:"At most so many, up to 1000." default:"100"`
	After string `help:"Go on after a page: its \"next\"." placeholder:"CURSOR"`
}

// Run lists a page of wallets: how they stand, and nothing of what they have.
func (c *walletsCmd) Run(env *environment) error {
	page, err := with(env, c.places, func(p admin.Port) (admin.WalletPage, error) { return p.Wallets(env.ctx, c.After, c.Limit) })
	if err != nil {
		return err
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tMADE\tKEY\tEPOCH\tDEVICES\tFROZEN\tASKED\tDELETION")
	for _, v := range page.Wallets {
		state := v.State
		if v.Unreadable {
			state = "UNREADABLE"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d-of-%d\t%d\t%d\t%d\t%s\t%s\n",
			v.ID, state, stamp(v.CreatedAt), v.Threshold, v.Participants, v.Epoch, v.Devices, v.Frozen, stamp(v.SyncedAt), stamp(v.DeleteAfter))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if page.Next != "" {
		fmt.Fprintf(&b, "There are more: --after %s\n", page.Next)
	}
	return env.print(page, "%s", b.String())
}

// hostSigner signs webhooks with the host key.
type hostSigner struct{ *signer.Host }

// HostKey implements notify.Signer.
func (h hostSigner) HostKey() bip340.PubKey { return h.PubKey() }

// SignWebhook implements notify.Signer.
func (h hostSigner) SignWebhook(_ context.Context, at int64, body []byte) ([64]byte, error) {
	return h.Sign(auth.WebhookHash(at, body))
}

// tellingRecords tells wallets' people what upkeep notes in their delegates.
type tellingRecords struct {
	*ledger.Ledger
	tell func(prev, next *delegate.Record)
}

// Apply implements upkeep.Records.
func (l tellingRecords) Apply(ctx context.Context, changes ...ledger.Change) ([]ledger.Outcome, error) {
	outs, err := l.Ledger.Apply(ctx, changes...)
	for i, out := range outs {
		if out.Err == nil {
			l.tell(changes[i].Prev, out.Record)
		}
	}
	return outs, err
}

// moved tells wallets' people of a delegate that was moved.
func (h *house) moved(prev, next *delegate.Record) {
	if h.wallets != nil {
		h.wallets.Moved(prev, next)
	}
}
