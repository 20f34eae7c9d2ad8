package renewal

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/ark/batch"
	"github.com/vigil-ark/vigil/delegate"
)

// willing chooses from the listed delegates those to be confirmed, and puts what
// is to be written of the others into out.
func (p *party) willing(ctx context.Context, mine []*delegate.Record, found coins, out *[]change) []*delegate.Record {
	e := p.e
	var sound, isolated []*delegate.Record
	newer := p.newer(ctx, mine)
	for _, rec := range mine {
		c, ended := e.verdict(ctx, rec, found)
		switch reason := p.unwilling(rec, mine, found); {
		case ended:
			*out = append(*out, c)
		case rec.CancelWanted: // noted while it was in a batch before
			*out = append(*out, change{Prev: rec, Event: delegate.Dropped})
		case p.givesWay(rec, newer[rec.ID], mine):
			*out = append(*out, change{Prev: rec, Event: delegate.Dropped})
		case reason != nil:
			*out = append(*out, decline(rec, reason))
		case rec.Isolate:
			isolated = append(isolated, rec)
		default:
			sound = append(sound, rec)
		}
	}
	if len(isolated) > 0 && (len(sound) == 0 || e.mixed.Add(1)%turns == 0) {
		// Who has waited longest goes alone.
		slices.SortStableFunc(isolated, func(a, b *delegate.Record) int { return cmp.Compare(a.StateSince, b.StateSince) })
		sound, isolated = isolated[:1], append(isolated[1:], sound...)
	}
	for _, rec := range isolated {
		*out = append(*out, decline(rec, &delegate.Failure{
			Code: "WAITING_FOR_ITS_TURN", Text: "a delegate that spoiled a batch is tried alone, and the others without it", At: e.cfg.Now().Unix(),
		}))
	}
	for _, c := range *out {
		delete(p.recs, c.Prev.ID)
	}
	return sound
}

// newer returns the delegates that wait to take the place of mine.
func (p *party) newer(ctx context.Context, mine []*delegate.Record) map[vigil.DelegateID]*delegate.Record {
	ids := make([]vigil.DelegateID, len(mine))
	for i, rec := range mine {
		ids[i] = rec.ID
	}
	newer, err := p.e.ledger.Waiting(ctx, ids...)
	if err != nil {
		p.e.cfg.Log.Warn("it is not known who waits to replace delegates: the older ones go on", "err", err)
	}
	return newer
}

// givesWay says whether a listed delegate leaves its coins to a newer one. Its
// intent cannot be deleted at the operator, as stock wallets sign no proof for
// that; but the operator has just taken it out of its queue, and until it puts it
// back the newer one can be registered in its place. So the newer must be due: else
// the older, which is no worse for the coins, is not to be given up for nothing.
// Nor is it when time is short, or when the newer would go on waiting for others.
func (p *party) givesWay(rec, newer *delegate.Record, mine []*delegate.Record) bool {
	now := p.e.cfg.Now()
	if newer == nil || time.Unix(newer.NextAttempt, 0).After(now) {
		return false
	}
	session := time.Duration(p.params.SessionSeconds) * time.Second
	if left := time.Unix(rec.Expiry(), 0).Sub(now); rec.Expiry() > 0 && left > 0 && left < 2*misses*session {
		return false
	}
	for _, older := range newer.Replaces {
		if !slices.ContainsFunc(mine, func(r *delegate.Record) bool { return r.ID == older }) {
			return false
		}
	}
	return true
}

// turns is how many batches that list sound and isolated delegates it takes for
// one of the isolated to have its turn: fewer than one in turns are lost to the
// sound, however many are isolated, and none of those waits for ever.
const turns = 4

// unwilling says why a listed delegate is not confirmed now. Not confirming
// costs nothing: the operator queues the intent again.
func (p *party) unwilling(rec *delegate.Record, mine []*delegate.Record, found coins) *delegate.Failure {
	e := p.e
	if err := batch.CheckExpiry(rec.Network, p.started.Expiry, int64(rec.LeastExpiry(e.cfg.Now().Unix()))); err != nil {
		e.observer.Violation("batch-expiry")
		return &delegate.Failure{Code: "BATCH_EXPIRY_REFUSED", Text: err.Error(), At: e.cfg.Now().Unix()}
	}
	if !e.cfg.Pace.mayConfirm(rec, e.cfg.Now(), sharing(rec, mine)) {
		return &delegate.Failure{Code: "WAITING_OUT_CONVICTIONS", Text: "a batch that failed now would ban its scripts", At: e.cfg.Now().Unix()}
	}
	if failure := unfit(rec, p.params, found, e.cfg.Now()); failure != nil {
		return failure
	}
	return e.watchFull(rec, found)
}

// decline notes why a delegate stays out of a batch, when that is news.
func decline(rec *delegate.Record, reason *delegate.Failure) change {
	return change{Prev: rec, Event: delegate.Note, Mutate: func(r *delegate.Record) { r.LastError = *reason }}
}

// stayOut writes what is to be written of delegates that were not confirmed.
// Those of which that was said before are only given back to the loop.
func (p *party) stayOut(ctx context.Context, out []change) {
	var write []change
	for _, c := range out {
		if c.Event == delegate.Note {
			again := c.Prev.Clone()
			c.Mutate(again)
			p.e.cfg.Log.Debug("not confirmed", "delegate", c.Prev.ID, "reason", again.LastError.Text)
			if again.LastError.Code == c.Prev.LastError.Code {
				p.drop(ctx, c.Prev)
				continue
			}
		}
		write = append(write, c)
	}
	outs := p.e.apply(ctx, write)
	p.e.post(ctx, func() {
		for i, o := range outs {
			p.e.written(ctx, write[i].Prev, o)
		}
	})
}

// sharing counts the delegates among others, rec included, that renew a coin of
// a script of rec's: the operator convicts a script once for each of them.
func sharing(rec *delegate.Record, others []*delegate.Record) uint32 {
	n := uint32(0)
	for _, other := range others {
		if slices.ContainsFunc(other.Inputs, func(a delegate.Input) bool {
			return slices.ContainsFunc(rec.Inputs, func(b delegate.Input) bool { return bytes.Equal(a.Script, b.Script) })
		}) {
			n++
		}
	}
	return n
}
