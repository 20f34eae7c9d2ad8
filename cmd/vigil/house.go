package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/admin"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/docs"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/metrics"
	"github.com/vigil-ark/vigil/notify"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/renewal"
	"github.com/vigil-ark/vigil/rpc"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/stock"
	"github.com/vigil-ark/vigil/upkeep"
	"github.com/vigil-ark/vigil/wallet"
)

// house is a Vigil that serves: everything wired together.
type house struct {
	c        *serveCmd
	env      *environment
	stores   *stores
	pinned   ledger.Pinned
	metrics  *metrics.Metrics
	registry *prometheus.Registry
	disk     *disk
	chain    renewal.Chain // nil: the operator's word
	coins    wallet.Chain  // the same, for wallets
	settles  string
	since    time.Time

	client   *operator.Client
	intake   intake
	fit      *upkeep.Fit // records held to the operator's parameters, and to the clock
	checks   []rpc.Check
	address  string
	engine   atomic.Pointer[renewal.Engine]
	released chan struct{} // closed when nothing is held
	release  sync.Once
	stream   streamState

	signer  *signer.Signer
	wallets *wallet.Service // nil without a host key
	hub     *notify.Hub
	webhook *notify.Webhook // nil without a URL
	tokens  tokens
}

// sessions adapts the signer's concrete session to the engine's port.
type sessions struct{ *signer.Signer }

func (s sessions) Open(ctx context.Context, recs []*delegate.Record) (renewal.Session, map[vigil.DelegateID]error) {
	return s.Signer.Open(ctx, recs)
}

// streamState remembers how the event stream is, for status; the rest goes to
// the metrics.
type streamState struct {
	*metrics.Metrics
	mu    sync.Mutex
	up    bool
	since time.Time
}

// StreamUp implements renewal.Observer.
func (s *streamState) StreamUp(up bool) {
	s.Metrics.StreamUp(up)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up, s.since = up, time.Now()
}

// armedLedger tells when the engine has looked at the due index for the first
// time: from then on everything stored is carried out at its time.
type armedLedger struct {
	*ledger.Ledger
	once  sync.Once
	armed func()
}

// NextDue implements renewal.Ledger.
func (l *armedLedger) NextDue(ctx context.Context) (time.Time, bool, error) {
	at, some, err := l.Ledger.NextDue(ctx)
	if err == nil {
		l.once.Do(l.armed)
	}
	return at, some, err
}

// run wires the rest and serves until the environment's context ends.
func (h *house) run() (err error) {
	env, ctx := h.env, h.env.ctx
	h.stream.Metrics, h.stream.since = h.metrics, h.since
	h.released = make(chan struct{})
	if h.client, err = (upstream{OperatorURL: h.c.OperatorURL}).dial(env); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.client.Close()) }()
	h.signer = signer.New(h.stores.secrets)
	if err := h.openWallets(ctx); err != nil {
		return err
	}
	defer h.closeWallets()
	h.fit = &upkeep.Fit{
		Records: tellingRecords{h.stores.ledger, h.moved}, Operator: h.client, Observe: h.metrics.Misfits, Hurry: h.wake, Log: h.env.log, Now: time.Now,
	}
	service, err := h.newService(ctx)
	if err != nil {
		return err
	}
	h.intake.current.Store(service)
	if err := h.settle(ctx); err != nil {
		return err
	}
	// An operator that is down is no reason not to start; settings with which
	// nobody could be served are.
	if err := service.Ready(ctx); errors.Is(err, stock.ErrConfig) {
		return err
	} else if err != nil {
		env.log.Warn("the operator is not ready; nothing new is taken until it is", "err", err)
	}
	edge, err := h.edge()
	if err != nil {
		return err
	}
	defer edge.Close()
	return h.serve(edge)
}

// settle takes up what the ledger says of holds, and opens or closes accordingly.
func (h *house) settle(ctx context.Context) error {
	why, err := h.stores.ledger.Hold(ctx)
	if err != nil {
		return err
	}
	h.intake.held.Store(why != "")
	if why == "" {
		h.release.Do(func() { close(h.released) })
		return nil
	}
	h.env.log.Warn("on hold: nothing is taken and nothing renewed", "why", why)
	return nil
}

// changed takes up other keys, another pinned operator, or the end of a hold.
func (h *house) changed(ctx context.Context) error {
	service, err := h.newService(ctx)
	if err != nil {
		return err
	}
	h.intake.current.Store(service)
	if h.wallets != nil {
		pinned, err := h.stores.ledger.Operator(ctx)
		if err != nil {
			return err
		}
		h.wallets.Repin(pinned)
	}
	return h.settle(ctx)
}

// wake tells the engine of a new delegate; before there is one, it will look by
// itself.
func (h *house) wake() {
	if e := h.engine.Load(); e != nil {
		e.Wake()
	}
}

// edge makes the public server.
func (h *house) edge() (*rpc.Server, error) {
	openapi, err := docs.OpenAPI()
	if err != nil {
		return nil, err
	}
	h.checks = []rpc.Check{
		{Name: "stores", Run: h.storesReady},
		{Name: "operator", Run: h.intake.ready},
		{Name: "disk", Run: h.disk.ready},
		{Name: "confirmed", Run: h.intake.readyHold},
	}
	c := h.c
	return rpc.New(rpc.Config{
		Limits: rpc.Limits{
			Body: c.MaxBody, Rate: c.RatePerSource, Burst: c.BurstPerSource, Streams: c.MaxStreams, Proxies: c.TrustedProxies,
			WalletRate: c.RatePerWallet, WalletBurst: c.BurstPerWallet, Watches: c.MaxWatches,
		},
		Wallets: h.walletService(),
		Ready:   h.checks, Metrics: metrics.Handler(h.registry), OpenAPI: openapi, Refused: h.metrics.Refused, Log: h.env.log,
	}, &h.intake)
}

// storesReady reads a little of both stores.
func (h *house) storesReady(ctx context.Context) error {
	if _, err := h.stores.ledger.Counts(ctx); err != nil {
		return err
	}
	names, err := h.stores.secrets.List(ctx, signer.ServiceName(1))
	if err == nil && len(names) == 0 {
		return errors.New("the first service key is gone from the secret store")
	}
	return err
}

// serve runs everything until the context ends or a part fails.
func (h *house) serve(edge *rpc.Server) error {
	public, err := net.Listen("tcp", h.c.listen())
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	h.address = public.Addr().String()
	private, err := admin.Listen(h.c.socket())
	if err != nil {
		return errors.Join(err, public.Close())
	}
	var cert *certificate
	server, admins := edge.HTTP(), admin.Server(admin.New(h.admin()))
	if h.c.TLSCert != "" {
		cert = &certificate{cert: h.c.TLSCert, key: h.c.TLSKey}
		if err := cert.load(); err != nil {
			return errors.Join(err, public.Close(), private.Close())
		}
		server.TLSConfig = cert.config()
	}
	h.env.log.Info("serving", "address", h.address, "tls", cert != nil, "version", version)
	group, ctx := errgroup.WithContext(h.env.ctx)
	group.Go(func() error { return served(serveHTTP(server, public)) })
	group.Go(func() error { return served(admins.Serve(private)) })
	group.Go(func() error { return h.renew(ctx) })
	group.Go(func() error { upkeep.Run(ctx, h.env.log, h.jobs()...); return nil })
	group.Go(func() error { return h.reload(ctx, cert) })
	if h.webhook != nil {
		group.Go(func() error { h.webhook.Run(ctx); return nil })
	}
	group.Go(func() error {
		<-ctx.Done()
		h.env.log.Info("stopping")
		edge.Stop()
		return errors.Join(shut(ctx, server), shut(ctx, admins))
	})
	return group.Wait()
}

func serveHTTP(s *http.Server, l net.Listener) error {
	if s.TLSConfig != nil {
		return s.ServeTLS(l, "", "")
	}
	return s.Serve(l)
}

// served is the error of a server that ended by itself.
func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// shut lets running requests end for a while.
func shut(ctx context.Context, s *http.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// renew runs the engine once nothing is held. The stream outlives the context,
// since a joined batch may go on for the grace period.
func (h *house) renew(ctx context.Context) error {
	select {
	case <-h.released:
	case <-ctx.Done():
		return nil
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stream, err := h.client.Events(work)
	if err != nil {
		return err
	}
	led := &armedLedger{Ledger: h.stores.ledger, armed: func() {
		h.env.log.Info("armed", "seconds", time.Since(h.since).Seconds())
	}}
	cfg := h.c.engineConfig(h.env, h.pinned, func(rec *delegate.Record) { h.moved(nil, rec) })
	cfg.SetBack = h.fit.Again
	engine := renewal.New(cfg, h.client, stream, led, sessions{h.signer}, h.chain, &h.stream)
	h.engine.Store(engine)
	return engine.Run(ctx)
}

// jobs are the background work. Nothing of it runs while a hold lasts: a record
// that may be of yesterday is not to be acted upon.
func (h *house) jobs() []upkeep.Job {
	jobs := []upkeep.Job{
		{Name: "secrets", Every: time.Minute, Run: upkeep.Secrets(h.stores.ledger, h.stores.secrets)},
		{Name: "parameters", Every: 20 * time.Second, Run: h.fit.Run},
		{Name: "tombstones", Every: time.Hour, Run: upkeep.Tombstones(h.stores.ledger, h.client)},
		{Name: "ended", Every: time.Hour, Run: upkeep.Prune(h.stores.ledger, h.c.KeepEnded, time.Now)},
	}
	jobs = append(jobs, h.walletJobs()...)
	for i, job := range jobs {
		jobs[i].Run = func(ctx context.Context) error {
			if h.intake.held.Load() {
				return nil
			}
			return job.Run(ctx)
		}
	}
	return jobs
}

// admin is what the local operator may ask of the running Vigil.
func (h *house) admin() admin.Local {
	l := h.stores.local(h.c.places, h.client.Info)
	l.Settles, l.Changed, l.Disk = h.settles, h.changed, h.disk.state
	l.Running = func(ctx context.Context) admin.Running {
		h.stream.mu.Lock()
		r := admin.Running{PID: os.Getpid(), Since: h.since.Unix(), Address: h.address, StreamUp: h.stream.up, StreamFrom: h.stream.since.Unix()}
		h.stream.mu.Unlock()
		if h.wallets != nil {
			r.ActiveWallets, r.Quarantined = h.wallets.Active()
			r.Watching = h.hub.Watchers()
		}
		for _, check := range h.checks {
			if err := check.Run(ctx); err != nil {
				r.NotReady = append(r.NotReady, check.Name+": "+err.Error())
			}
		}
		return r
	}
	return l
}

// inUse are the keys that are not retired, the newest first.
func inUse(all []signer.ServiceKey, retired []bip340.PubKey) ([]bip340.PubKey, error) {
	var keys []bip340.PubKey
	for _, k := range slices.Backward(all) {
		if !slices.Contains(retired, k.Key) {
			keys = append(keys, k.Key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the secret store holds no service key that is in use; `vigil keys add` makes one, and `vigil restore` brings back a lost one")
	}
	return keys, nil
}

var _ renewal.Operator = (*operator.Client)(nil)
