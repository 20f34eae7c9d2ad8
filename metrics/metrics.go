// Package metrics owns what a running Vigil counts, under names that are an API
// (docs/metrics.md). It is told by hooks and asks the ledger at every scrape; it
// knows nothing of how anything is done.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/delegate"
)

// Metrics counts. All methods are safe for concurrent use and never block.
type Metrics struct {
	streamUp   prometheus.Gauge
	lastBatch  prometheus.Gauge
	batches    prometheus.Counter
	joined     prometheus.Counter
	renewals   *prometheus.CounterVec
	violations *prometheus.CounterVec
	refusals   *prometheus.CounterVec
	misfits    *prometheus.GaugeVec
	dropped    *prometheus.CounterVec
	commits    prometheus.Histogram
}

// New registers everything but what the ledger tells; see Watch.
func New(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		streamUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vigil_stream_up", Help: "1 while the operator's event stream is open, else 0.",
		}),
		lastBatch: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vigil_last_batch_timestamp_seconds", Help: "Unix time at which delegates last joined a batch; 0 before the first.",
		}),
		batches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigil_batches_total", Help: "Batches that delegates took part in.",
		}),
		joined: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigil_batch_delegates_total", Help: "Delegates that took part in batches, each counted once a batch.",
		}),
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigil_renewals_total", Help: "Attempts to renew that came to an end, by how.",
		}, []string{"result"}),
		violations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigil_violations_total", Help: "Answers of the operator that broke a rule of the batch protocol, by rule.",
		}, []string{"rule"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigil_refusals_total", Help: "Requests refused, by code (docs/errors.md).",
		}, []string{"code"}),
		misfits: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vigil_misfits", Help: "Delegates that the operator's parameters no longer fit, by what changed; only their owners can mend that.",
		}, []string{"code"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigil_webhook_drops_total", Help: "Events that did not reach the webhook and are forgotten, by why: queue_full or gave_up.",
		}, []string{"reason"}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "vigil_commit_seconds", Help: "Time that a durable commit of the key-value store took.",
			// From a fast NVMe flush to a disk about to be given up.
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 10},
		}),
	}
	// A counter that appears with its first event hides that event from rate().
	for _, e := range vigil.Table {
		m.refusals.WithLabelValues(string(e.Code))
	}
	m.Misfits(nil)
	for _, r := range results() {
		m.renewals.WithLabelValues(r)
	}
	for _, r := range []string{queueFull, gaveUp} {
		m.dropped.WithLabelValues(r)
	}
	return m, register(reg, m.streamUp, m.lastBatch, m.batches, m.joined, m.renewals, m.violations, m.refusals, m.misfits, m.dropped, m.commits)
}

func register(reg prometheus.Registerer, cs ...prometheus.Collector) error {
	var errs []error
	for _, c := range cs {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// Why the webhook lost an event.
const (
	queueFull = "queue_full"
	gaveUp    = "gave_up"
)

// watchFull is how an attempt ends whose delegate gives no forfeits any more, since
// too many commitments of earlier ones may still confirm.
const watchFull = "watch_full"

// results are those ends of an attempt that are known beforehand.
func results() []string {
	ended := []string{"failed", watchFull}
	for _, s := range delegate.States() {
		if s.Ended() && s != delegate.Replaced && s != delegate.Cancelled {
			ended = append(ended, s.String())
		}
	}
	return ended
}

// Renewal counts an attempt that ended: in a state of the delegate's, as "failed",
// to be tried again, or as "watch_full", when that waits for the chain.
func (m *Metrics) Renewal(result string) { m.renewals.WithLabelValues(result).Inc() }

// StreamUp notes whether the operator's event stream is open.
func (m *Metrics) StreamUp(up bool) {
	if up {
		m.streamUp.Set(1)
		return
	}
	m.streamUp.Set(0)
}

// Batch notes that so many delegates joined a batch.
func (m *Metrics) Batch(at time.Time, joined int) {
	m.lastBatch.Set(float64(at.Unix()))
	m.batches.Inc()
	m.joined.Add(float64(joined))
}

// Violation counts a rule that the operator broke.
func (m *Metrics) Violation(rule string) { m.violations.WithLabelValues(rule).Inc() }

// Refused counts a refusal. One that the table lacks is our fault, and counted
// as such.
func (m *Metrics) Refused(code vigil.Code) {
	if !slices.ContainsFunc(vigil.Table, func(e vigil.Entry) bool { return e.Code == code }) {
		code = vigil.CodeInternal
	}
	m.refusals.WithLabelValues(string(code)).Inc()
}

// Misfits tells how many delegates have each misfit; what is not in counts has
// none.
func (m *Metrics) Misfits(counts map[string]int) {
	for _, code := range delegate.Misfits() {
		m.misfits.WithLabelValues(code).Set(float64(counts[code]))
	}
}

// Dropped counts an event that the webhook lost: before it was tried, or after.
func (m *Metrics) Dropped(untried bool) {
	if untried {
		m.dropped.WithLabelValues(queueFull).Inc()
		return
	}
	m.dropped.WithLabelValues(gaveUp).Inc()
}

// Committed notes how long a durable commit took.
func (m *Metrics) Committed(d time.Duration) { m.commits.Observe(d.Seconds()) }

// Ledger is what is asked at a scrape; *ledger.Ledger implements it.
type Ledger interface {
	Counts(ctx context.Context) (map[delegate.State]uint64, error)
	NearestExpiry(ctx context.Context, from time.Time) (time.Time, bool, error)
	UnreadableRows(ctx context.Context) (int, error)
}

// Watch registers what the ledger tells. A nil now is time.Now.
func Watch(reg prometheus.Registerer, led Ledger, now func() time.Time) error {
	if now == nil {
		now = time.Now
	}
	return register(reg, &ledgerCollector{
		ledger: led, now: now,
		delegates: prometheus.NewDesc("vigil_delegates", "Delegates kept, by state (docs/states.md).", []string{"state"}, nil),
		nearest: prometheus.NewDesc("vigil_nearest_expiry_seconds",
			"Seconds until the first VTXO of a delegate that has not ended expires; absent when there is none.", nil, nil),
		unreadable: prometheus.NewDesc("vigil_unreadable_rows",
			"Stored rows that were met and are damaged or cannot be read; kept as they are, and told until a day after they are whole again.", nil, nil),
		up: prometheus.NewDesc("vigil_ledger_up", "1 when the ledger could be read for this scrape, else 0.", nil, nil),
	})
}

// WatchWallets registers how many wallets are in memory, and how many are barred since
// work on them panicked.
func WatchWallets(reg prometheus.Registerer, count func() (active, quarantined int)) error {
	gauge := func(name, help string, of func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(of()) })
	}
	return register(reg,
		gauge("vigil_wallets_active", "Wallets in memory.", func() int { active, _ := count(); return active }),
		gauge("vigil_wallets_quarantined", "Wallets that are barred until the next start, since work on them panicked.", func() int { _, barred := count(); return barred }),
	)
}

// scrapeWithin bounds the ledger's part of a scrape.
const scrapeWithin = 5 * time.Second

type ledgerCollector struct {
	ledger                             Ledger
	now                                func() time.Time
	delegates, nearest, unreadable, up *prometheus.Desc
}

func (c *ledgerCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.delegates, c.nearest, c.unreadable, c.up} {
		ch <- d
	}
}

// Collect reads the ledger. One that cannot be read is a metric, not an error:
// the others must go on being scraped, then above all.
func (c *ledgerCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWithin) // a Collector is given none: the bound is its own
	defer cancel()
	now := c.now()
	counts, err := c.ledger.Counts(ctx)
	at, some, failed := c.ledger.NearestExpiry(ctx, now)
	unreadable, unknown := c.ledger.UnreadableRows(ctx)
	if err != nil || failed != nil || unknown != nil {
		gauge(c.up, 0)
		return
	}
	gauge(c.up, 1)
	gauge(c.unreadable, float64(unreadable))
	for _, s := range delegate.States() {
		gauge(c.delegates, float64(counts[s]), s.String())
	}
	if some {
		gauge(c.nearest, at.Sub(now).Seconds())
	}
}

// Handler serves what was gathered, to a few scrapers at once.
func Handler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, Timeout: 2 * scrapeWithin,
	})
}
