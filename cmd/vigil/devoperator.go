package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/vigil-ark/vigil/arktest"
	"github.com/vigil-ark/vigil/arktest/admin"
)

type operatorCmd struct {
	Dev devCmd `cmd:"" help:"Run a development operator with its own chain, Esplora and faucet. Its coins are worth nothing."`
}

type devCmd struct {
	Listen  string        `help:"Where gRPC and REST are served." default:"127.0.0.1:7070"`
	Esplora string        `help:"Where Esplora, the faucet and the miner are served." default:"127.0.0.1:3000"`
	Admin   string        `help:"Where the operator's settings can be changed, as on arkd's admin port; default nowhere." placeholder:"HOST:PORT"`
	Session time.Duration `help:"Length of a batch session." default:"10s"`
	Expiry  uint32        `help:"Expiry of a batch, in seconds." default:"2048"`
}

func (c *devCmd) Run(env *environment) (err error) {
	op, err := arktest.Start(arktest.Config{Addr: c.Listen, EsploraAddr: c.Esplora, Settings: arktest.Settings{SessionDuration: c.Session, TreeExpiry: c.Expiry}})
	if err != nil {
		return err
	}
	defer op.Close()
	if c.Admin != "" {
		listener, err := net.Listen("tcp", c.Admin)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		server := &http.Server{Handler: admin.New(op), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
		defer func() { err = errors.Join(err, server.Close()) }()
		go func() { _ = server.Serve(listener) }() // ends with Close
	}
	if err := env.print(map[string]string{"operator": op.URL(), "esplora": op.EsploraURL()},
		"Operator: %s\nEsplora:  %s  (POST /faucet {\"address\":…,\"sats\":…}, POST /mine?n=1)\nStop with Ctrl-C.\n", op.URL(), op.EsploraURL()); err != nil {
		return err
	}
	<-env.ctx.Done()
	fmt.Fprintln(env.stderr, "stopping")
	return nil
}
