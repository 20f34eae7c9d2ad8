package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vigil-ark/vigil"
	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/delegate"
	"github.com/vigil-ark/vigil/operator"
	"github.com/vigil-ark/vigil/renewal"
	"github.com/vigil-ark/vigil/rpc"
	"github.com/vigil-ark/vigil/signer"
	"github.com/vigil-ark/vigil/stock"
)

type serveCmd struct {
	places
	upstream
	Listen  string `help:"Where gRPC and REST are served." default:":7002"`
	service `embed:""`
	limits  `embed:""`
	engine  `embed:""`
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

// engine is how renewals are carried out.
type engine struct {
	BanThreshold uint32        `help:"Convictions at which the operator bans a script; 0: never." default:"3"`
	BanDuration  time.Duration `help:"How long the operator bans." default:"5m"`
	Window       int           `help:"Delegates between registration and the end of their batch at once." default:"512"`
	StopGrace    time.Duration `help:"How long a joined batch may go on when Vigil is stopped." default:"30s"`
}

// sessions adapts the signer's concrete session to the engine's port.
type sessions struct{ *signer.Signer }

func (s sessions) Open(ctx context.Context, recs []*delegate.Record) (renewal.Session, map[vigil.DelegateID]error) {
	return s.Signer.Open(ctx, recs)
}

// Run opens everything, serves until it is told to stop, and closes everything
// in the order in which it depends on each other.
func (c *serveCmd) Run(env *environment) (err error) {
	s, err := c.open(env.ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	keys, err := serviceKeys(env.ctx, s)
	if err != nil {
		return err
	}
	pinned, err := s.ledger.Operator(env.ctx)
	if err != nil {
		return err
	}
	client, err := c.dial(env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	work, cancel := context.WithCancel(context.WithoutCancel(env.ctx))
	defer cancel()
	stream, err := client.Events(work)
	if err != nil {
		return err
	}
	sign := signer.New(s.secrets)
	eng := renewal.New(c.engineConfig(env), client, stream, s.ledger, sessions{sign}, nil, nil)
	svc, err := stock.New(stock.Config{
		Keys: keys, Signer: pinned.Signer, Fee: c.FeeSats, FeeAddress: c.FeeAddress, FeeSlack: c.FeeSlackSats, AnyDestination: c.AnyDestination,
		Inputs: c.MaxInputs, Outputs: c.MaxOutputs, PerScript: c.MaxPerScript, Wake: eng.Wake, Log: env.log,
	}, client, s.ledger)
	if err != nil {
		return err
	}
	edge, err := rpc.New(rpc.Config{
		Limits: rpc.Limits{Body: c.MaxBody, Rate: c.RatePerSource, Burst: c.BurstPerSource, Streams: c.MaxStreams, Proxies: c.TrustedProxies},
		Ready:  []rpc.Check{{Name: "operator", Run: svc.Ready}}, Log: env.log,
	}, svc)
	if err != nil {
		return err
	}
	defer edge.Close()
	return c.serve(env, eng, edge)
}

func (c *serveCmd) engineConfig(env *environment) renewal.Config {
	pace := renewal.DefaultPace()
	pace.Bans, pace.Ban = c.BanThreshold, c.BanDuration
	return renewal.Config{Pace: pace, Window: c.Window, Grace: c.StopGrace, Log: env.log}
}

// serve runs the edge and the engine until the context ends or one of them
// fails.
func (c *serveCmd) serve(env *environment, eng *renewal.Engine, edge *rpc.Server) error {
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	env.log.Info("serving", "address", listener.Addr().String())
	server := edge.HTTP()
	group, ctx := errgroup.WithContext(env.ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	group.Go(func() error { return eng.Run(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		env.log.Info("stopping")
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(stop); err != nil {
			return errors.Join(err, server.Close())
		}
		return nil
	})
	return group.Wait()
}

// serviceKeys returns the keys that wallets may name, the one for new ones
// first. Retired keys still carry out what was signed for them, and are offered
// to nobody. Nothing here ever makes a key.
func serviceKeys(ctx context.Context, s *stores) ([]bip340.PubKey, error) {
	all, err := signer.New(s.secrets).ServiceKeys(ctx)
	if err != nil {
		return nil, err
	}
	retired, err := s.ledger.Retired(ctx)
	if err != nil {
		return nil, err
	}
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
