// Package upkeep owns the slow work of a running Vigil that nobody waits for:
// deleting secrets that no record needs, forgetting tombstones and old ends, and
// holding every record to parameters that the Ark operator changed. It is a room
// of its own because renewal only ever looks at what is due, and this at what is
// stored. Each job is bounded, paced and begins again where it failed. It knows
// nothing of the edge, and of secrets only their names.
package upkeep

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Job is work that is done now and then.
type Job struct {
	Name  string
	Every time.Duration // between the end of one run and the next
	Run   func(ctx context.Context) error
}

// Run does every job until ctx ends, each in a goroutine of its own, and returns
// when they have stopped. A job that fails is logged and tried again at its next
// time. The first runs are spread over a tenth of Every.
func Run(ctx context.Context, log *slog.Logger, jobs ...Job) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var group sync.WaitGroup
	for _, job := range jobs {
		group.Go(func() { job.loop(ctx, log) })
	}
	group.Wait()
}

func (j Job) loop(ctx context.Context, log *slog.Logger) {
	timer := time.NewTimer(spread(j.Every))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := j.Run(ctx); err != nil && ctx.Err() == nil {
			log.Warn("upkeep failed and is tried again", "job", j.Name, "err", err)
		}
		timer.Reset(j.Every + spread(j.Every))
	}
}

// spread keeps many Vigils from asking one operator at the same moment.
func spread(d time.Duration) time.Duration { return rand.N(d/10 + 1) }

// rest waits for d, or returns the context's error.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
