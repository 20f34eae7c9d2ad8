package operator

import (
	"context"
	"log/slog"
	"time"
)

// delay is the wait before the next attempt, attempt counting from 0: doubled
// each time up to Max, half of it jitter, so that clients cut off together do not
// return together.
func (b Backoff) delay(attempt int, jitter func() float64) time.Duration {
	d := b.Max
	if attempt < 30 { // beyond, the shift would overflow; Max is long reached
		d = min(b.Min<<attempt, b.Max)
	}
	return d/2 + time.Duration(jitter()*float64(d/2))
}

// wait returns after d or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func errAttr(err error) slog.Attr       { return slog.Any("err", err) }
func attemptAttr(attempt int) slog.Attr { return slog.Int("attempt", attempt) }

// levelOf tells an end that the consumer hears of from one that only the log
// tells.
func levelOf(up bool) slog.Level {
	if up {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}
