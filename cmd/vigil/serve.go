package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/esplora"
	"github.com/vigil-ark/vigil/ledger"
	"github.com/vigil-ark/vigil/metrics"
	"github.com/vigil-ark/vigil/renewal"
)

type serveCmd struct{ settings }

// settings are all that serve can be told.
type settings struct {
	places
	OperatorURL string `help:"The Ark operator: host:port, http:// or https://; default the one given to init." placeholder:"URL"`
	Listen      string `help:"Where gRPC and REST are served; default :7002, and without --tls-cert and --plain 127.0.0.1:7002." placeholder:"ADDRESS"`
	TLSCert     string `name:"tls-cert" help:"Certificate chain, PEM; read again at SIGHUP. Without one the port is plain, and of this machine only but for --plain." placeholder:"FILE" type:"path"`
	TLSKey      string `name:"tls-key" help:"The certificate's key, PEM." placeholder:"FILE" type:"path"`
	Plain       bool   `help:"Serve other machines without TLS: a proxy before this port speaks it."`
	service     `embed:""`
	limits      `embed:""`
	engine      `embed:""`
	keeping     `embed:""`
	wallets     `embed:""`
}

// listen is where the port is. Plain, it is of this machine alone unless somebody said
// otherwise.
func (s *settings) listen() string {
	switch {
	case s.Listen != "":
		return s.Listen
	case s.TLSCert == "" && !s.Plain:
		return "127.0.0.1:7002"
	}
	return ":7002"
}

// ofThisMachine says whether an address is reached from this machine only.
func ofThisMachine(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// service is what a delegation costs and may do.
type service struct {
	FeeSats        int64  `help:"Satoshis that a delegation costs." default:"0"`
	FeeAddress     string `help:"Ark address that the fee goes to; its key is never Vigil's." placeholder:"ADDRESS"`
	FeeSlackSats   int64  `help:"Satoshis that a delegate may pay the operator beyond 1.25 times its price." default:"0"`
	AnyDestination bool   `help:"Take delegates that pay other scripts than the inputs'."`
	MaxInputs      int    `help:"Inputs of one delegate." default:"128"`
	MaxOutputs     int    `help:"Outputs of one delegate." default:"8"`
	MaxPerScript   int    `help:"Live delegates of one script." default:"64"`
}

// limits bound what one source may ask.
type limits struct {
	MaxBody        int64          `help:"Bytes of a request." default:"1048576"`
	RatePerSource  float64        `help:"Requests a second from one source." default:"20"`
	BurstPerSource int            `help:"Requests at once from one source." default:"40"`
	MaxStreams     int            `help:"Concurrent requests of one source." default:"64"`
	TrustedProxies []netip.Prefix `help:"Networks whose X-Forwarded-For is believed." placeholder:"CIDR"`
}

// wallets is who may have a wallet here, and what wallets may ask.
type wallets struct {
	Registration          string        `help:"Who may make a wallet: open, token or closed." enum:"open,token,closed" default:"closed"`
	RegistrationTokenFile string        `help:"File with the registration tokens, one a line; read again at SIGHUP." placeholder:"FILE" type:"path"`
	MaxWallets            int           `help:"Wallets in all." default:"1000000"`
	MaxWalletsPerSource   int           `help:"Wallets that one source may make in a day." default:"20"`
	MaxCeremonies         int           `help:"Key ceremonies that are open at once." default:"1024"`
	MaxActiveWallets      int           `help:"Wallets that are held in memory at once." default:"10000"`
	MaxDelegates          int           `help:"Live delegates of one wallet." default:"64"`
	RatePerWallet         float64       `help:"Requests a second of one wallet." default:"20"`
	BurstPerWallet        int           `help:"Requests at once of one wallet." default:"60"`
	MaxWatches            int           `help:"Open event streams of one wallet." default:"8"`
	CoolDown              time.Duration `help:"How long a removal of devices or a deletion is announced before it may be carried out." default:"24h"`
	WebhookURL            string        `help:"Where every event of a wallet is posted, signed with the host key." placeholder:"URL"`
	SyncEvery             time.Duration `help:"How often the operator is asked for the coins of a wallet whose device is away." default:"6h"`
	AuditEntries          uint64        `help:"Entries of the audit that are kept; the chain goes on." default:"10000000"`
}

// engine is how renewals are carried out.
type engine struct {
	EsploraURL    string        `help:"Esplora API that tells how deep a commitment transaction is; without one the operator's word has to do." placeholder:"URL"`
	Confirmations int64         `help:"Confirmations that settle a renewal, with --esplora-url; default 6, and 1 on regtest." default:"0"`
	BanThreshold  uint32        `help:"Convictions at which the operator bans a script; 0: never." default:"3"`
	BanDuration   time.Duration `help:"How long the operator bans." default:"5m"`
	Window        int           `help:"Delegates between registration and the end of their batch at once." default:"512"`
	StopGrace     time.Duration `help:"How long a joined batch may go on when Vigil is stopped." default:"30s"`
}

// keeping is how Vigil looks after its disk.
type keeping struct {
	MinFree   uint64        `help:"Bytes free under which nothing new is taken; default the smaller of 10 % of the disk and 1 GiB." default:"0"`
	Ballast   int64         `name:"ballast-bytes" help:"Size of a file whose deletion makes room when the disk is full; 0: none." default:"0"`
	KeepEnded time.Duration `help:"How long delegates that ended are remembered." default:"720h"`
}

// Run opens everything, serves until it is told to stop, and closes everything
// in the order in which it depends on each other.
func (c *serveCmd) Run(env *environment) (err error) {
	if err := errors.Join(c.problems()...); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := harden(); err != nil {
		return err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector())
	counted, err := metrics.New(reg)
	if err != nil {
		return err
	}
	s, err := c.open(env, counted.Committed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := metrics.Watch(reg, s.ledger, nil); err != nil {
		return err
	}
	if err := s.missingKeys(env.ctx); err != nil {
		return err
	}
	if err := s.lookAtIndexes(env); err != nil {
		return err
	}
	pinned, err := s.ledger.Operator(env.ctx)
	if err != nil {
		return fmt.Errorf("%w; run `vigil init`", err)
	}
	if c.OperatorURL == "" {
		c.OperatorURL = pinned.URL
	}
	if c.Ballast > 0 {
		if err := ballast(filepath.Join(c.DataDir, "ballast"), c.Ballast); err != nil {
			return err
		}
	}
	h := &house{c: c, env: env, stores: s, pinned: pinned, metrics: counted, registry: reg, since: time.Now()}
	h.disk = c.places.disk()
	h.disk.min, h.disk.log = c.MinFree, env.log
	h.settles = "the operator's word, since no --esplora-url is given"
	if c.EsploraURL != "" {
		chain, err := esplora.New(c.EsploraURL, nil)
		if err != nil {
			return err
		}
		h.chain, h.coins = chain, chain
		h.settles = fmt.Sprintf("%d confirmations, asked of %s", c.confirmations(pinned), c.EsploraURL)
	}
	return h.run()
}

// confirmations is how deep a commitment must be.
func (c *serveCmd) confirmations(pinned ledger.Pinned) int64 {
	switch {
	case c.Confirmations > 0:
		return c.Confirmations
	case pinned.Network == ark.Regtest:
		return 1
	}
	return 6
}

func (c *serveCmd) engineConfig(env *environment, pinned ledger.Pinned, tell func(*delegate.Record)) renewal.Config {
	pace := renewal.DefaultPace()
	pace.Bans, pace.Ban = c.BanThreshold, c.BanDuration
	if pinned.Network == ark.Regtest {
		pace.Confirm = time.Second // blocks come at once there
	}
	return renewal.Config{Pace: pace, Tell: tell, Window: c.Window, Grace: c.StopGrace, Confirmations: c.confirmations(pinned), Log: env.log}
}

// reload reads the log level and the certificate again at every SIGHUP. What
// cannot be read is told and changes nothing.
func (h *house) reload(ctx context.Context, certificate *certificate) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
		}
		if level, err := h.env.readLevel(); err != nil {
			h.env.log.Error("the configuration cannot be read again", "err", err)
		} else {
			h.env.level.Set(level)
		}
		if err := h.tokens.load(h.c.RegistrationTokenFile); err != nil {
			h.env.log.Error("the registration tokens cannot be read again; the old ones stay", "err", err)
		}
		if certificate != nil {
			if err := certificate.load(); err != nil {
				h.env.log.Error("the certificate cannot be read again; the old one stays", "err", err)
			}
		}
		h.env.log.Info("read again", "log", h.env.level.Level().String(), "tls", certificate != nil)
	}
}
