package fsck

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/descriptor"
	"github.com/vigil-ark/vigil/audit"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/kv"
	"github.com/vigil-ark/vigil/ledger"
)

// wallets holds every wallet to its rows, and the rows to their wallets.
func (c *check) wallets() error {
	counts := make(map[ledger.WalletState]uint64)
	err := c.snapshot.Wallets(func(w *ledger.Wallet) error {
		c.report.Wallets++
		counts[w.State]++
		missing, err := c.snapshot.MissingOfWallet(w)
		for _, row := range missing {
			c.find(Fault, "wallet-index", w.ID, fixIndex, "it lacks the row %s", row)
		}
		if err != nil {
			return err
		}
		c.epochs(w)
		c.generations(w)
		policy, err := c.snapshot.HasPolicy(w.ID)
		if policy != w.HasPolicy && w.State != ledger.WalletDeleting { // of which the policy goes first
			c.find(Fault, "policy", w.ID, fixRestore, "that its policy is there is %v, and the row says %v", policy, w.HasPolicy)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = c.snapshot.StrayOfWallets(func(row string) error {
		c.find(Fault, "wallet-stray", row, fixBug, "a row of a wallet that does not ask for it")
		return nil
	})
	if err != nil || c.report.Unreadable > 0 {
		return err
	}
	for s := ledger.WalletPending; s <= ledger.WalletDeleting; s++ {
		n, err := c.snapshot.WalletCount(s)
		if err != nil {
			return err
		}
		if n != counts[s] {
			c.find(Fault, "wallet-count", s, fixIndex, "counted as %d, there are %d", n, counts[s])
		}
	}
	return nil
}

// epochs checks that a wallet can sign with the epochs that it says it has.
func (c *check) epochs(w *ledger.Wallet) {
	if len(w.Epochs) == 0 {
		return // none has been made: a wallet of a test, or one being deleted
	}
	has := func(n uint32) bool { return w.Epoch(n) != nil }
	switch {
	case !has(w.Active):
		c.find(Fault, "epoch", w.ID, fixRestore, "its active epoch %d is not stored", w.Active)
	case w.Pending != has(w.Active+1):
		c.find(Fault, "epoch", w.ID, fixBug, "epoch %d waits for its certificate is %v, and stored is %v", w.Active+1, w.Pending, has(w.Active+1))
	case w.Retiring != (w.Active > 0 && has(w.Active-1)):
		c.find(Fault, "epoch", w.ID, fixBug, "the epoch before %d is retiring is %v, and the rows say otherwise", w.Active, w.Retiring)
	}
}

// generations checks that a wallet with older descriptors is found by the scripts
// of all of them, and by no other. With one alone they were made in one write.
func (c *check) generations(w *ledger.Wallet) {
	if len(w.Older) == 0 || len(w.Descriptor) != descriptor.Size { // that of a test
		return
	}
	g, err := descriptor.DecodeGenerations(w.Descriptor, w.Older)
	if err != nil {
		c.find(Fault, "generation", w.ID, fixRestore, "its descriptors: %v", err)
		return
	}
	if d := g.Current(); vigil.WalletID(d.Group.XOnly()) != w.ID || d.Delegate != w.DelegateKey.XOnly() {
		c.find(Fault, "generation", w.ID, fixRestore, "its descriptors are of another wallet")
		return
	}
	want, have := slices.SortedFunc(slices.Values(g.Scripts()), bytes.Compare), slices.SortedFunc(slices.Values(w.Scripts), bytes.Compare)
	if !slices.EqualFunc(want, have, bytes.Equal) {
		c.find(Fault, "generation", w.ID, fixRestore, "it is found by %d scripts, its descriptors have %d, not all of them the same", len(have), len(want))
	}
}

// holdings holds the VTXOs of wallets to their wallets and to the history.
func (c *check) holdings() error {
	return c.snapshot.Holdings(func(id vigil.WalletID, h *ledger.Holding, err error) error {
		switch {
		case missing(err):
			c.find(Fault, "holding", h.Outpoint, fixIndex, "wallet %s holds it, and there is no such VTXO", id)
			return nil
		case unreadable(err):
			return nil
		case err != nil:
			return err
		}
		owner, ours, err := c.snapshot.WalletByScript(h.Script)
		if err != nil {
			return err
		}
		if (!ours || owner != id) && c.report.Unreadable == 0 {
			c.find(Fault, "holding", h.Outpoint, fixIndex, "wallet %s holds it, and its script does not pay that", id)
		}
		wrong, err := c.snapshot.Lines(id, h)
		for _, text := range wrong {
			c.find(Fault, "line", h.Outpoint, fixBug, "%s", text)
		}
		return err
	})
}

// held checks that a VTXO which pays a wallet is noted as that wallet's.
func (c *check) held(v *ledger.VTXO) error {
	owner, ours, err := c.snapshot.WalletByScript(v.Script)
	if err != nil || !ours {
		return err
	}
	has, err := c.snapshot.Holds(owner, v)
	if err == nil && !has {
		c.find(Fault, "holding", v.Outpoint, fixIndex, "it pays wallet %s, which does not hold it", owner)
	}
	return err
}

// walletOf checks that a wallet's delegate has its wallet.
func (c *check) walletOf(rec *delegate.Record) error {
	if rec.Kind != delegate.Wallet {
		return nil
	}
	_, err := c.snapshot.Wallet(rec.Wallet)
	if missing(err) {
		c.find(Fault, "wallet", rec.ID, fixBug, "there is no wallet %s", rec.Wallet)
		return nil
	}
	if unreadable(err) {
		return nil
	}
	return err
}

// plans checks that what is planned has no row yet, and lapses.
func (c *check) plans() error {
	err := c.snapshot.Prepared(func(p *ledger.Plan, indexed bool) error {
		if !indexed {
			c.find(Fault, "plan", p.Wallet, fixIndex, "the plan of delegate %s never lapses", p.Delegate)
		}
		var err error
		what := "wallet " + p.Wallet.String()
		if p.Delegate == (vigil.DelegateID{}) {
			_, err = c.snapshot.Wallet(p.Wallet)
		} else {
			what = "delegate " + p.Delegate.String()
			_, err = c.snapshot.Record(p.Delegate)
			if _, lost := c.snapshot.Wallet(p.Wallet); missing(lost) {
				c.find(Fault, "plan", p.Wallet, fixBug, "delegate %s is planned for a wallet that is not there", p.Delegate)
			}
		}
		if err == nil {
			c.find(Fault, "plan", p.Wallet, fixBug, "%s is stored, and its secrets are still to be garbage", what)
		} else if !missing(err) && !unreadable(err) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.snapshot.StrayLapses(func(row string) error {
		c.find(Fault, "plan", row, fixIndex, "an index row without a plan that asks for it")
		return nil
	})
}

// requests checks the memory of requests.
func (c *check) requests() error {
	return c.snapshot.Requests(func(subject, text string) error {
		if c.report.Unreadable == 0 {
			c.find(Fault, "replay", subject, fixIndex, "%s", text)
		}
		return nil
	})
}

// chain verifies that the audit is one chain from its base to its head.
func (c *check) chain() error {
	base, head, first, last, err := c.snapshot.Chain()
	if err != nil {
		return err
	}
	next := first
	got, _, broken := audit.Verify(base, func(yield func([]byte, error) bool) {
		err = c.snapshot.Audit(func(a ledger.Audited) error {
			var gap error
			if a.Number != next {
				gap = fmt.Errorf("%w: entry %d follows %d", audit.ErrBroken, a.Number, next-1)
			}
			next = a.Number + 1
			if !yield(a.Entry, gap) {
				return kv.ErrStop
			}
			return nil
		})
	})
	switch {
	case err != nil:
		return err
	case broken != nil:
		c.find(Fault, "audit", "audit", fixRestore, "%v", broken)
	case next != last+1 || got != head:
		c.find(Fault, "audit", "audit", fixRestore, "it ends with entry %d, and %d was written last", next-1, last)
	}
	return nil
}

// walletSecrets holds the secrets of wallets to what needs them.
func (c *check) walletSecrets(present, garbage map[string]bool) (needed map[string]bool, err error) {
	needed = make(map[string]bool)
	err = c.snapshot.Wallets(func(w *ledger.Wallet) error {
		for _, name := range w.Secrets {
			needed[name] = true
			switch {
			case !present[name]:
				c.find(Fault, "secret-missing", w.ID, fixSecret, "its secret %s is not there", name)
			case garbage[name]:
				c.find(Fault, "secret-gc", w.ID, fixBug, "its secret %s is to be deleted", name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return needed, c.snapshot.Prepared(func(p *ledger.Plan, _ bool) error {
		for _, name := range p.Secrets {
			needed[name] = true
		}
		return nil
	})
}

// secretRows begins the name of a row of the secrets that are to be deleted.
const secretRows = "secret_gc "

const fixSecret = "Bring the secret back from the backup of the secret store."

// Wallet proves that nothing of a deleted wallet is left: no row of any tree has
// its id, in bytes or in hex, or one of the marks that the caller still knows of it
// (scripts, host keys, delegate ids), and no secret is called after it. What waits
// to be deleted is a note. secrets is nil when the secret store is not at hand.
func Wallet(ctx context.Context, store kv.Store, secrets *Secrets, id vigil.WalletID, marks ...[]byte) (*Report, error) {
	c := &check{report: new(Report)}
	all := [][]byte{id[:], []byte(id.String())}
	for _, mark := range marks {
		if len(mark) >= 16 { // less stands anywhere by chance
			all = append(all, mark, []byte(hex.EncodeToString(mark)))
		}
	}
	garbage := make(map[string]bool)
	err := ledger.Inspect(ctx, store, func(s *ledger.Snapshot) error {
		c.snapshot = s
		if err := s.Schema(); err != nil {
			return err
		}
		err := s.SecretGarbage(func(g *ledger.Garbage) error {
			garbage[hex.EncodeToString([]byte(g.Name))] = true
			return nil
		})
		if err != nil {
			return err
		}
		return s.Mentions(all, func(row string, mark int) error {
			if name, ok := strings.CutPrefix(row, secretRows); ok && garbage[name] {
				c.find(Note, "secret-gc", row, fixNothing, "the secret waits to be deleted")
				return nil
			}
			c.find(Fault, "wallet-left", row, fixBug, "it has mark %d of the wallet", mark)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	if secrets != nil {
		for _, name := range secrets.Names {
			if !garbage[hex.EncodeToString([]byte(name))] && slices.ContainsFunc(all, func(m []byte) bool { return strings.Contains(name, string(m)) }) {
				c.find(Fault, "secret-left", name, "Delete it with vigil secret.", "the secret is called after the wallet, and nothing will delete it")
			}
		}
	}
	return c.report, nil
}
