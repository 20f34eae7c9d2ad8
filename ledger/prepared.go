package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/internal/canon"
	"github.com/vigil-ark/vigil/kv"
)

// Plan names secrets that are about to be put for something that has no row yet:
// a wallet, or a delegate that its device will sign for. It is durable before the
// first of them is put, so that none is ever an orphan. The write that stores the
// wallet or the delegate takes it up. One that nobody took up in time lapses, and
// then its secrets are garbage; from that moment it cannot be taken up any more,
// so that no secret is deleted that a record needs.
type Plan struct {
	Wallet    vigil.WalletID
	Delegate  vigil.DelegateID // zero: the wallet itself
	Secrets   []string
	TreeKey   bip340.PubKey // of a delegate; zero until it was drawn
	At        int64         // when it was planned; the ledger's
	ExpiresAt int64         // until when a delegate may be submitted
	NotBefore int64         // when the secrets are garbage
	Lapsed    bool          // the ledger's
}

const (
	// MaxPrepared bounds the delegates that a wallet has prepared and not
	// submitted.
	MaxPrepared = 8
	// maxPlans bounds a wallet's plans with those that have expired.
	maxPlans = 4 * MaxPrepared
	// grace is between a plan's lapse and the deletion of its secrets, in seconds:
	// whoever was putting them when the clock jumped has long put them.
	grace = 600
	// maxAhead is how far ahead a plan may lie, in seconds. One that lies farther
	// was made by a clock that was wrong.
	maxAhead = 24 * 60 * 60
)

// ErrTooMany says that a wallet has as much of something as it may have.
var ErrTooMany = errors.New("ledger: too many")

func (p *Plan) fields(c *canon.Coder) {
	canon.List(c, &p.Secrets, maxSecrets, "secrets", func(c *canon.Coder, s *string) { c.Text(s, maxName, "secret name") })
	c.Fixed(p.TreeKey[:], "tree key")
	c.Time(&p.At, "planned at")
	c.Time(&p.ExpiresAt, "expires at")
	c.Time(&p.NotBefore, "not before")
	c.Bool(&p.Lapsed, "lapsed")
}

func planKey(id vigil.WalletID, of vigil.DelegateID) []byte { return under(id, of[:]) }

func parsePlanKey(key []byte) (vigil.WalletID, vigil.DelegateID, bool) {
	if len(key) != walletSize+idSize {
		return vigil.WalletID{}, vigil.DelegateID{}, false
	}
	return vigil.WalletID(key), vigil.DelegateID(key[walletSize:]), true
}

func lapseKey(at int64, plan []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(max(at, 0))), plan...)
}

// Plan stores plans in one durable write. Errors are ErrTooMany, ErrTaken where
// one of that name is there or a secret of that name is to be deleted, and
// ErrNotFound for a delegate of no active wallet.
func (l *Ledger) Plan(ctx context.Context, plans ...Plan) error {
	return l.update(ctx, func(w writer) error {
		at := l.now().Unix()
		for _, p := range plans {
			p.At, p.Lapsed = at, false
			p.NotBefore = min(max(p.NotBefore, p.ExpiresAt, at), at+maxAhead)
			if err := addPlan(w, &p, at); err != nil {
				return err
			}
		}
		return nil
	})
}

func addPlan(w writer, p *Plan, at int64) error {
	key := planKey(p.Wallet, p.Delegate)
	if _, err := w.Get(treePrepared, key); !errors.Is(err, kv.ErrNotFound) {
		if err == nil {
			err = fmt.Errorf("%w: there is such a plan", ErrTaken)
		}
		return err
	}
	for _, name := range p.Secrets {
		if _, err := w.Get(treeSecretGC, []byte(name)); !errors.Is(err, kv.ErrNotFound) {
			if err == nil {
				err = fmt.Errorf("%w: an earlier %s is to be deleted", ErrTaken, name)
			}
			return err
		}
	}
	owner, err := loadWallet(w, p.Wallet)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	case p.Delegate == vigil.DelegateID{} && err == nil:
		return fmt.Errorf("%w: there is such a wallet", ErrTaken)
	case p.Delegate != vigil.DelegateID{} && err != nil:
		return err
	case p.Delegate != vigil.DelegateID{}:
		if owner.State != WalletActive {
			return fmt.Errorf("%w: wallet %s is not active", ErrNotFound, p.Wallet)
		}
		if _, err := load(w, p.Delegate); !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%w: there is such a delegate: %w", ErrTaken, err)
		}
		if err := roomForPlan(w, p.Wallet, at); err != nil {
			return err
		}
	}
	return putPlan(w, p)
}

// roomForPlan holds the number of a wallet's plans under their bounds.
func roomForPlan(w writer, id vigil.WalletID, at int64) error {
	open, all := 0, 0
	err := eachPlan(w, id, func(p *Plan) error {
		all++
		if p.ExpiresAt > at && !p.Lapsed {
			open++
		}
		return nil
	})
	if err == nil && (open >= MaxPrepared || all >= maxPlans) {
		err = fmt.Errorf("%w: %d delegates are prepared and not submitted", ErrTooMany, open)
	}
	return err
}

func putPlan(w writer, p *Plan) error {
	key := planKey(p.Wallet, p.Delegate)
	if err := w.Put(treeLapses, lapseKey(p.NotBefore, key), nil); err != nil {
		return err
	}
	return putRow(w, treePrepared, key, p)
}

// Drawn adds to plans of a wallet's delegates the tree keys that were drawn and
// stored for them, with the audit's entries. ErrLapsed says that one is not planned any more.
func (l *Ledger) Drawn(ctx context.Context, id vigil.WalletID, keys map[vigil.DelegateID]bip340.PubKey, links ...Link) error {
	return l.update(ctx, func(w writer) error {
		for of, key := range keys {
			p, err := loadPlan(w, id, of)
			if err != nil {
				return err
			}
			p.TreeKey = key
			if err := putRow(w, treePrepared, planKey(id, of), p); err != nil {
				return err
			}
		}
		return appendAudit(w, links...)
	})
}

// PlanMore adds to the plan of a wallet's delegate the names of secrets that its
// intake is about to put beside those that were planned. It is durable before they
// are put. ErrLapsed says that nothing of that name can be submitted any more.
func (l *Ledger) PlanMore(ctx context.Context, id vigil.WalletID, of vigil.DelegateID, secrets ...string) error {
	return l.update(ctx, func(w writer) error {
		p, err := loadPlan(w, id, of)
		if err != nil {
			return err
		}
		if at := l.now().Unix(); p.ExpiresAt <= at {
			return fmt.Errorf("%w: it was prepared until %d", ErrLapsed, p.ExpiresAt)
		}
		for _, name := range secrets {
			if !slices.Contains(p.Secrets, name) {
				p.Secrets = append(p.Secrets, name)
			}
		}
		return putRow(w, treePrepared, planKey(id, of), p)
	})
}

// Prepared returns the plan of a wallet's delegate, or ErrLapsed when there is
// none that can be submitted any more.
func (l *Ledger) Prepared(ctx context.Context, id vigil.WalletID, of vigil.DelegateID) (*Plan, error) {
	var p *Plan
	err := l.view(ctx, func(r reader) (err error) {
		if p, err = loadPlan(r, id, of); err == nil && p.ExpiresAt <= l.now().Unix() {
			err = fmt.Errorf("%w: delegate %s was prepared until %d", ErrLapsed, of, p.ExpiresAt)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Plans returns the plans of a wallet that have not expired.
func (l *Ledger) Plans(ctx context.Context, id vigil.WalletID) ([]Plan, error) {
	var plans []Plan
	err := l.view(ctx, func(r reader) (err error) {
		plans, err = openPlans(r, id, l.now().Unix())
		return err
	})
	return plans, err
}

func openPlans(r reader, id vigil.WalletID, at int64) ([]Plan, error) {
	var plans []Plan
	err := eachPlan(r, id, func(p *Plan) error {
		if p.Delegate != (vigil.DelegateID{}) && p.ExpiresAt > at && !p.Lapsed {
			plans = append(plans, *p)
		}
		return nil
	})
	return plans, err
}

// eachPlan calls f for every plan of a wallet that can be read.
func eachPlan(r reader, id vigil.WalletID, f func(*Plan) error) error {
	return r.Scan(treePrepared, id[:], after(id[:]), func(key, value []byte, damage error) error {
		if damage != nil {
			return nil
		}
		p, err := decodePlan(key, value)
		if err != nil {
			_ = r.damaged(treePrepared, key, err)
			return nil
		}
		return f(p)
	})
}

func decodePlan(key, value []byte) (*Plan, error) {
	id, of, ok := parsePlanKey(key)
	if !ok {
		return nil, errKey
	}
	p := &Plan{Wallet: id, Delegate: of}
	return p, decodeRow(value, p)
}

// loadPlan returns a plan that may be taken up, or ErrLapsed.
func loadPlan(r reader, id vigil.WalletID, of vigil.DelegateID) (*Plan, error) {
	key := planKey(id, of)
	b, err := r.Get(treePrepared, key)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, fmt.Errorf("%w: nothing of that name is planned", ErrLapsed)
	}
	if err != nil {
		return nil, err
	}
	p, err := decodePlan(key, b)
	if err != nil {
		return nil, r.damaged(treePrepared, key, err)
	}
	if p.Lapsed {
		return nil, fmt.Errorf("%w: since %d", ErrLapsed, p.NotBefore)
	}
	return p, nil
}

// takePlan takes a plan up in the write that stores what it was for.
func takePlan(w writer, id vigil.WalletID, of vigil.DelegateID, at int64) error {
	p, err := loadPlan(w, id, of)
	if err != nil {
		return err
	}
	if of != (vigil.DelegateID{}) && p.ExpiresAt <= at {
		return fmt.Errorf("%w: it was prepared until %d", ErrLapsed, p.ExpiresAt)
	}
	return dropPlan(w, id, of)
}

// dropPlan removes a plan and its row in the index, whatever it says.
func dropPlan(w writer, id vigil.WalletID, of vigil.DelegateID) error {
	key := planKey(id, of)
	b, err := w.Get(treePrepared, key)
	if errors.Is(err, kv.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	p, err := decodePlan(key, b)
	if err != nil {
		return w.damaged(treePrepared, key, err)
	}
	if err := w.Delete(treeLapses, lapseKey(p.NotBefore, key)); err != nil {
		return err
	}
	return w.Delete(treePrepared, key)
}

// Lapse looks at no more than limit plans whose time has passed, or that were made
// by a clock that was far ahead. One that is met first lapses; when it has been so
// for the grace, its secrets are garbage and it is gone. It returns how many it
// changed.
func (l *Ledger) Lapse(ctx context.Context, limit int) (int, error) {
	n := 0
	err := l.update(ctx, func(w writer) error {
		n = 0
		at := l.now().Unix()
		due, err := lapses(w, nil, lapseKey(at+1, nil), limit)
		if err != nil {
			return err
		}
		wrong, err := lapses(w, lapseKey(at+maxAhead+1, nil), nil, limit)
		if err != nil {
			return err
		}
		for _, key := range append(due, wrong...) {
			if err := lapse(w, key, at); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// lapses lists keys of the index of plans.
func lapses(r reader, from, to []byte, limit int) ([][]byte, error) {
	var keys [][]byte
	err := r.Scan(treeLapses, from, to, func(key, _ []byte, damage error) error {
		if damage != nil || len(key) != 8+walletSize+idSize {
			_ = r.damaged(treeLapses, key, errKey)
			return nil
		}
		if len(keys) == limit {
			return kv.ErrStop
		}
		keys = append(keys, append([]byte(nil), key...))
		return nil
	})
	return keys, err
}

// lapse takes one plan a step towards its end. key is its row in the index.
func lapse(w writer, key []byte, at int64) error {
	noted := int64(binary.BigEndian.Uint64(key) & math.MaxInt64)
	id, of, _ := parsePlanKey(key[8:])
	b, err := w.Get(treePrepared, key[8:])
	if errors.Is(err, kv.ErrNotFound) {
		return w.Delete(treeLapses, key)
	}
	if errors.Is(err, ErrUnreadable) {
		return nil // its secrets are not known; fsck tells of them
	}
	if err != nil {
		return err
	}
	p, err := decodePlan(key[8:], b)
	if err != nil {
		_ = w.damaged(treePrepared, key[8:], err)
		return nil
	}
	if p.NotBefore != noted {
		return w.Delete(treeLapses, key)
	}
	if err := w.Delete(treeLapses, key); err != nil {
		return err
	}
	if !p.Lapsed {
		p.Lapsed, p.NotBefore = true, at+grace
		return putPlan(w, p)
	}
	for _, name := range p.Secrets {
		if err := putRow(w, treeSecretGC, []byte(name), &Garbage{Delegate: of, Since: at}); err != nil {
			return err
		}
	}
	return w.Delete(treePrepared, planKey(id, of))
}
