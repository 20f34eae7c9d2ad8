package wallet

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/audit"
	"github.com/vigil-ark/vigil/auth"
	"github.com/vigil-ark/vigil/ledger"
)

// link makes the audit's next entry out of e.
func link(row *ledger.Wallet, e audit.Entry) ledger.Link {
	e.Wallet = audit.Name(row.AuditSalt, row.ID)
	return func(number uint64, prev [32]byte) ([32]byte, []byte, error) {
		e := e
		e.Seq = number
		return audit.Append(prev, e)
	}
}

// allowed is the entry of a call that is carried out.
func (s *Service) allowed(row *ledger.Wallet, c auth.Call) ledger.Link {
	return link(row, audit.Entry{At: s.now(), Method: path.Base(c.Method), Allow: true, Epoch: c.Epoch})
}

// decided says whether a refusal is a decision of Vigil's about a wallet. The
// others say that something is down or busy: nothing was decided.
func decided(code vigil.Code) bool {
	switch vigil.Lookup(code).Kind {
	case vigil.KindUnavailable, vigil.KindInternal:
		return false
	}
	return code != vigil.CodeWalletBusy
}

// refused writes a refusal down and returns it. So that a device cannot fill the
// disk with them, there is a bound for each wallet and hour; the next entry says
// how many were left out.
func (s *Service) refused(ctx context.Context, row *ledger.Wallet, c auth.Call, err error) error {
	var known *vigil.Error
	if !errors.As(err, &known) || !decided(known.Code) {
		return err
	}
	budget := &s.refusals
	if known.Code == vigil.CodeNotPermitted {
		budget = &s.strangers // who must not use up what the wallet's own keys are noted by
	}
	left, ok := budget.take(row.ID, s.cfg.Now())
	if !ok {
		return err
	}
	e := audit.Entry{At: s.now(), Method: path.Base(c.Method), Code: known.Code, Reason: known.Message, Epoch: c.Epoch}
	if left > 0 {
		e.Reason = fmt.Sprintf("(%d more before) %s", left, e.Reason)
	}
	if lost := s.ledger.Audit(ctx, link(row, e)); lost != nil {
		// The refusal stands; that it could not be written is the answer all the same.
		return errors.Join(stored(lost), err)
	}
	return err
}

// auditPanic writes down that a wallet is barred.
func (s *Service) auditPanic(ctx context.Context, id vigil.WalletID) error {
	row, err := s.ledger.Wallet(ctx, id)
	if err != nil {
		return err
	}
	return s.ledger.Audit(ctx, link(row, audit.Entry{
		At: s.now(), Method: "quarantine", Code: vigil.CodeWalletQuarantined, Reason: "work on the wallet panicked", Epoch: row.Active,
	}))
}

// refusals bounds what is written down of refusals: for one wallet, and for all
// of them a hundred times as much.
type refusals struct {
	most  int
	mu    sync.Mutex
	since time.Time
	all   int
	seen  map[vigil.WalletID]*refusal
}

const refusingWallets = 100

type refusal struct{ written, left int }

// take says whether one more refusal of a wallet is to be written down, and how
// many were left out before.
func (r *refusals) take(id vigil.WalletID, now time.Time) (left int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := now.Sub(r.since); r.seen == nil || age < 0 || age >= time.Hour {
		fresh := map[vigil.WalletID]*refusal{}
		for id, old := range r.seen {
			if old.left > 0 {
				fresh[id] = &refusal{left: old.left}
			}
		}
		r.since, r.seen, r.all = now, fresh, 0
	}
	if r.all >= refusingWallets*r.most {
		return 0, false
	}
	n := r.seen[id]
	if n == nil {
		n = &refusal{}
		r.seen[id] = n
	}
	if n.written >= r.most {
		n.left++
		return 0, false
	}
	n.written++
	r.all++
	left, n.left = n.left, 0
	return left, true
}
